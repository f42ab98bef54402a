/* SPDX-License-Identifier: PostgreSQL */
/*
 * The instance's socket folder: made if it is missing, held by a lock for as long as the broker lives, and removed
 * with what is in it at the end. The lock is on an open file description: the kernel drops it when the broker dies,
 * so holding it proves that no other broker of this folder is alive.
 */
#ifndef PGLEASE_BROKER_SOCKDIR_H
#define PGLEASE_BROKER_SOCKDIR_H

#include <stdbool.h>

struct handover;
struct sockdir;

/*
 * Makes, checks and locks the folder, and removes a dead broker's sockets, but for the control socket if it was `passed` by a service
 * manager. 0, or -1 with log_refuse().
 */
int sockdir_take(const char *path, bool passed, struct sockdir **ret);
/* To the broker that takes this one's place, and from the one before it: 0, or -1 with log_refuse(). */
void sockdir_hand_over(struct sockdir *sockdir, struct handover *to);
int sockdir_take_over(const char *path, struct handover *from, struct sockdir **ret);
/* What the last broker left there by sockdir_leave, if it was killed: "" if nothing. The folder's. */
const char *sockdir_left(const struct sockdir *sockdir);
/* Leaves this text for the next one, should this broker be killed, or not come to serve. 0, or -errno: nothing is changed, or it is cut. */
int sockdir_leave(struct sockdir *sockdir, const char *text);
/* The same, after what is there. 0, or -errno: it is not there, or cut. */
int sockdir_leave_more(struct sockdir *sockdir, const char *text);
/*
 * Removes the lock, and the folders that were made for it; but one that has not come to serve leaves to the next what was left to it.
 * Accepts NULL.
 */
void sockdir_release(struct sockdir *sockdir, bool has_served);

#endif

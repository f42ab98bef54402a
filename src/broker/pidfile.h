/* SPDX-License-Identifier: PostgreSQL */
/* The pid file, for service managers: written under a lock that lasts as long as the broker. */
#ifndef PGLEASE_BROKER_PIDFILE_H
#define PGLEASE_BROKER_PIDFILE_H

struct handover;
struct pidfile;

/*
 * Writes this process's pid to `path`. A file that a killed broker left is taken over; one whose process
 * runs, and one that is no pid file, are refused. 0, or -1 with log_refuse().
 */
int pidfile_take(const char *path, struct pidfile **ret);
/* To the broker that takes this one's place, and from the one before it: 0, or -1 with log_refuse(). */
void pidfile_hand_over(struct pidfile *pidfile, struct handover *to);
int pidfile_take_over(const char *path, struct handover *from, struct pidfile **ret);
/* Removes the file, if it is still ours. Accepts NULL. */
void pidfile_release(struct pidfile *pidfile);

#endif

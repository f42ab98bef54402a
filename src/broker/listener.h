/* SPDX-License-Identifier: PostgreSQL */
/*
 * A listening Unix socket in the loop: accepts a bounded number at a time and survives running out of descriptors.
 * What is said on the connections is not its matter.
 */
#ifndef PGLEASE_BROKER_LISTENER_H
#define PGLEASE_BROKER_LISTENER_H

struct event_base;
struct handover;
struct listener;

/* Owns the descriptor (non-blocking, close-on-exec) from now on. */
typedef void (*listener_accepted)(void *context, int fd);
/* No descriptor left: the owner may close an idle connection. */
typedef void (*listener_starved)(void *context);

/*
 * Binds and listens at `path`, mode 0666; or listens at the socket that was `passed` (-1: none), which is the listener's from then
 * on, and whose file is whoever's has made it; or goes on with the socket of the broker before (`from`). 0 or -errno.
 */
int listener_new(struct event_base *base, const char *path, int socket_type, listener_accepted accepted,
    listener_starved starved, void *context, int passed, struct handover *from, struct listener **ret);
void listener_hand_over(struct listener *listener, struct handover *to);
/* Goes on accepting after a pause; called at each tick. */
void listener_tick(struct listener *listener);
/* Closes it and removes the socket. Accepts NULL. */
void listener_free(struct listener *listener);

#endif

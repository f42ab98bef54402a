/* SPDX-License-Identifier: PostgreSQL */
/*
 * Descriptors that a service manager passes to the process that it starts (systemd's protocol, sd_listen_fds(3): $LISTEN_PID,
 * $LISTEN_FDS, $LISTEN_FDNAMES), found by their names. Owns those that nobody has taken. What they are for is said by whoever
 * takes them. The loop's thread.
 */
#ifndef PGLEASE_BROKER_ACTIVATION_H
#define PGLEASE_BROKER_ACTIVATION_H

/*
 * Takes all of them out of the environment: no child gets them or hears of them. To be called first, in the process that was
 * started. 0, or -1 with log_refuse().
 */
int activation_begin(void);
/* The next one of this name, which is the caller's from now on; -1: none. */
int activation_take(const char *name);
/*
 * The one of this name, which must be a Unix socket of this type that listens at this path; *ret_fd is -1 when there is none. It is
 * non-blocking. 0, or -1 with log_refuse().
 */
int activation_take_listener(const char *name, int type, const char *path, int *ret_fd);
/*
 * Names that begin so are of what a broker before has had the manager store: the next one of them, and its name. -1: none.
 */
#define ACTIVATION_STORED "segment."
#define ACTIVATION_NAME 256
int activation_take_stored(char ret_name[ACTIVATION_NAME]);
/* Nobody knows what the others are for, but for what was stored. 0 when there are none, or -1 with log_refuse(). */
int activation_end(void);

#endif

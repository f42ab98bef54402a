/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's own PostgreSQL, for pools with `embedded = yes`: a cluster in <data_dir>/postgres, made once, reachable
 * only through <socket_dir>/postgres (mode 0700), started, watched, restarted and stopped by the broker; as user
 * `postgres` where the broker is root. No other cluster of the machine is ever touched.
 */
#ifndef PGLEASE_BROKER_EMBEDDED_H
#define PGLEASE_BROKER_EMBEDDED_H

struct event_base;
struct handover;
struct embedded;

struct embedded_params {
	struct event_base *base;
	const char *instance, *socket_dir;
	const char *data_dir; /* empty: the default one */
	unsigned max_connections;
	struct handover *from; /* NULL: the server is started */
};

/* Blocks until the server takes connections, unless the broker before has started it. 0, or -1 with log_refuse(). */
int embedded_start(const struct embedded_params *params, struct embedded **ret);
/* To the broker that takes this one's place, in the same process. */
void embedded_hand_over(struct embedded *embedded, struct handover *to);
/* How many connections of pools it has room for; NULL: 0. */
unsigned embedded_connections(const struct embedded *embedded);
/* For libpq; as long as the object lives. */
const char *embedded_conninfo(const struct embedded *embedded);
/* Blocks until the server has stopped. Accepts NULL. */
void embedded_stop(struct embedded *embedded);

#endif

/* SPDX-License-Identifier: PostgreSQL */
/* What a worker asks of PostgreSQL: three kinds of transactions on pgbench's tables, sent in three ways. */
#ifndef PGLEASE_BENCH_WORK_H
#define PGLEASE_BENCH_WORK_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

enum work_query { WORK_SELECT_1, WORK_LOOKUP, WORK_TPCB, WORK_QUERIES };
enum work_protocol { WORK_SIMPLE, WORK_EXTENDED, WORK_PREPARED, WORK_PROTOCOLS };

struct work {
	enum work_query query;
	enum work_protocol protocol;
	unsigned scale; /* of pgbench -i; not for SELECT 1 */
	bool shared;    /* prepared: by pglease_exec_cached, on leased connections; else by work_prepare, on one's own */
	bool timed;     /* simple: by pglease_exec */
};

const char *work_query_name(enum work_query query);
const char *work_protocol_name(enum work_protocol protocol);

/* A start for the random numbers of one process. */
uint64_t work_seed(void);
/* Prepares what `work` needs on a connection of one's own. 0, or -1 with a message on stderr. */
int work_prepare(PGconn *conn, const struct work *work);
/* One transaction, with random numbers from *seed. 0, or -1 with a message on stderr. */
int work_run(PGconn *conn, const struct work *work, uint64_t *seed);

#endif

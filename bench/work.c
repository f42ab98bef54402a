/* SPDX-License-Identifier: PostgreSQL */
/* What a worker asks of PostgreSQL: SELECT 1, pgbench's select-only transaction and its TPC-B-like one. */
#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <pglease.h>

#define ACCOUNTS 100000 /* per unit of scale, like pgbench */
#define TELLERS 10
#define PARAMS 4

/* What a transaction's statements have in common. */
enum value { NONE, ACCOUNT, TELLER, BRANCH, DELTA, VALUES };

static const struct statement {
	enum work_query query;
	const char *sql;
	ExecStatusType expected;
	enum value params[PARAMS + 1]; /* ends with NONE */
} statements[] = {
    {WORK_SELECT_1, "SELECT 1", PGRES_TUPLES_OK, {NONE}},
    {WORK_LOOKUP, "SELECT abalance FROM pgbench_accounts WHERE aid = $1", PGRES_TUPLES_OK, {ACCOUNT}},
    {WORK_TPCB, "BEGIN", PGRES_COMMAND_OK, {NONE}},
    {WORK_TPCB, "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2", PGRES_COMMAND_OK, {DELTA, ACCOUNT}},
    {WORK_TPCB, "SELECT abalance FROM pgbench_accounts WHERE aid = $1", PGRES_TUPLES_OK, {ACCOUNT}},
    {WORK_TPCB, "UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2", PGRES_COMMAND_OK, {DELTA, TELLER}},
    {WORK_TPCB, "UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2", PGRES_COMMAND_OK, {DELTA, BRANCH}},
    {WORK_TPCB,
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)",
        PGRES_COMMAND_OK, {TELLER, BRANCH, ACCOUNT, DELTA}},
    {WORK_TPCB, "END", PGRES_COMMAND_OK, {NONE}},
};
#define STATEMENTS (sizeof(statements) / sizeof(statements[0]))

const char *
work_query_name(enum work_query query)
{
	static const char *const names[WORK_QUERIES] = {"SELECT 1", "select-only", "TPC-B"};

	return names[query];
}

const char *
work_protocol_name(enum work_protocol protocol)
{
	static const char *const names[WORK_PROTOCOLS] = {"simple", "extended", "prepared"};

	return names[protocol];
}

uint64_t
work_seed(void)
{
	uint64_t seed = 0;

	while (seed == 0)
		if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
			seed = 0;
	return seed;
}

/* xorshift64*: George Marsaglia, "Xorshift RNGs" (2003), with Vigna's multiplier. */
static uint64_t
random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static int
random_between(uint64_t *state, int low, int high)
{
	return low + (int)((random_next(state) >> 33) % (uint64_t)(high - low + 1));
}

static int
checked(PGconn *conn, PGresult *result, const struct statement *statement)
{
	int r = PQresultStatus(result) == statement->expected ? 0 : -1;

	if (r != 0)
		fprintf(stderr, "%s: %s: %s", program_invocation_short_name, statement->sql, PQerrorMessage(conn));
	PQclear(result);
	return r;
}

/* The statement with its parameters written into it, as pgbench's simple protocol sends it. */
static void
write_out(const char *sql, const char *const params[], char *buf, size_t size)
{
	size_t n = 0;

	for (; *sql != '\0' && n + 16 < size; sql++) {
		if (*sql == '$')
			n += (size_t)snprintf(buf + n, size - n, "%s", params[*++sql - '1']);
		else
			buf[n++] = *sql;
	}
	buf[n] = '\0';
}

static PGresult *
execute(PGconn *conn, const struct work *work, const struct statement *statement, int n, const char *const params[])
{
	char text[256];

	switch (work->protocol) {
	case WORK_EXTENDED:
		return PQexecParams(conn, statement->sql, n, NULL, params, NULL, NULL, 0);
	case WORK_PREPARED:
		if (work->shared)
			return pglease_exec_cached(conn, statement->sql, n, NULL, params, NULL, NULL, 0);
		snprintf(text, sizeof(text), "work%u", (unsigned)(statement - statements));
		return PQexecPrepared(conn, text, n, params, NULL, NULL, 0);
	default:
		write_out(statement->sql, params, text, sizeof(text));
		return work->timed ? pglease_exec(conn, text) : PQexec(conn, text);
	}
}

int
work_prepare(PGconn *conn, const struct work *work)
{
	char name[16];

	for (unsigned i = 0; i < STATEMENTS; i++) {
		if (statements[i].query != work->query)
			continue;
		snprintf(name, sizeof(name), "work%u", i);
		if (checked(conn, PQprepare(conn, name, statements[i].sql, 0, NULL),
		        &(struct statement){.sql = statements[i].sql, .expected = PGRES_COMMAND_OK}) != 0)
			return -1;
	}
	return 0;
}

int
work_run(PGconn *conn, const struct work *work, uint64_t *seed)
{
	char text[VALUES][16];

	if (work->query != WORK_SELECT_1) {
		snprintf(text[ACCOUNT], sizeof(text[0]), "%d", random_between(seed, 1, (int)work->scale * ACCOUNTS));
		snprintf(text[TELLER], sizeof(text[0]), "%d", random_between(seed, 1, (int)work->scale * TELLERS));
		snprintf(text[BRANCH], sizeof(text[0]), "%d", random_between(seed, 1, (int)work->scale));
		snprintf(text[DELTA], sizeof(text[0]), "%d", random_between(seed, -5000, 5000));
	}
	for (unsigned i = 0; i < STATEMENTS; i++) {
		const struct statement *statement = &statements[i];
		const char *params[PARAMS];
		int n = 0;

		if (statement->query != work->query)
			continue;
		for (; statement->params[n] != NONE; n++)
			params[n] = text[statement->params[n]];
		if (checked(conn, execute(conn, work, statement, n, params), statement) != 0)
			return -1;
	}
	return 0;
}

/* SPDX-License-Identifier: PostgreSQL */
/*
 * What one lessee leaves must not be there for the next one: one table of things to leave behind
 * (hygiene_*.c), one runner that plays each of them in each way a lease can end and be followed
 * (hygiene.c), and for each of them a test without pglease that shows that its check does find the leak.
 */
#ifndef PGLEASE_TESTS_HYGIENE_H
#define PGLEASE_TESTS_HYGIENE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

enum hygiene_flag {
	/* What cannot be brought back: it costs the connection, also at an ordinary release. */
	HYGIENE_REPLACED = 1,
	/* Not even the same process's next lease may find it. */
	HYGIENE_OWN_TOO = 2,
	/* It is in the PGconn and not in the session: nobody but the same process could find it. */
	HYGIENE_PGCONN = 4,
	/* A light reset keeps it, and says so. */
	HYGIENE_LIGHT_KEEPS = 8,
	/* What the PGconn believes of its session: a stale PGconn on a clean session is a leak, too. */
	HYGIENE_BELIEF = 16,
	/*
	 * At a release it may cost the connection or not: where in the stream it is then, is a matter of
	 * time.
	 */
	HYGIENE_EITHER = 32,
	/* A transaction: it is rolled back at the release, and counted. */
	HYGIENE_ROLLBACK = 64,
};

/* Something to leave, and how to find it. A check says what it has found, or NULL. */
struct hygiene_case {
	const char *name;
	unsigned flags;
	const char *sql; /* left by these commands, */
	void (*leave)(PGconn *conn); /* and by this */
	const char *asks, *answer; /* found when this query's answer is another one, */
	const char *(*find)(PGconn *conn); /* or when this says so */
	/*
	 * Words of what is found without pglease: by a PGconn that knows nothing of what was left, and by
	 * the one that left it, on a session that was reset behind its back (HYGIENE_BELIEF).
	 */
	const char *shows, *shows_stale;
};

/* Ended by one without a name. */
extern const struct hygiene_case hygiene_session[]; /* in the server's session */
extern const struct hygiene_case
    hygiene_belief[]; /* in what the PGconn believes of it, and what follows from that */
extern const struct hygiene_case hygiene_stream[]; /* between the two */
extern const struct hygiene_case hygiene_pgconn[]; /* in the PGconn */

/* How a pool brings its sessions back: a pool of one connection for each. */
struct hygiene_policy {
	const char *pool;
	const char *settings;
	bool light;
};

/* For the cases. NULL when the query's answer is this one; else what it is instead (static). */
const char *hygiene_differs(PGconn *conn, const char *sql, const char *answer);
/* printf to the static buffer of the findings. */
const char *hygiene_found(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* NULL when the PGconn and its session agree about every reported parameter. */
const char *hygiene_disagrees(PGconn *conn);
/*
 * NULL when a text that is escaped for this PGconn is the same text to its session, and only a text. Needs
 * the table `injected`.
 */
const char *hygiene_escapes_badly(PGconn *conn);
/* A notice processor that says nothing. */
void hygiene_quiet(void *arg, const char *message);
/*
 * From now on an answer that does not come is found sooner: for tests in which that is what is to be
 * found.
 */
void hygiene_expect_silence(void);
/* Waits until this many bytes can be read from the PGconn's socket. */
void hygiene_await_bytes(PGconn *conn, int n);

/*
 * Adds the tests of all cases: without pglease; with each policy and each way. Then runs them. main()'s
 * status.
 */
int hygiene_main(const struct hygiene_policy *policies, size_t npolicies);

#endif

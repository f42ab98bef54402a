/* SPDX-License-Identifier: PostgreSQL */
/*
 * What an integration test stands on: a private PostgreSQL, a configuration, a broker of its own name, and
 * the certainty that all of it goes away, also when the test crashes.
 *
 *	static const struct fixture_pool pools[] = {{.name = "app", .max = 4}};
 *	struct fixture_options options = {.pools = pools, .npools = 1};
 *	struct fixture *fixture;
 *
 *	if (fixture_start(&options, &fixture))
 *		ck_abort_msg("%s", fixture_error());
 *	... pglease_attach(fixture_instance(fixture), ...): fixture_start has set the environment too
 *	if (fixture_stop(fixture))
 *		ck_abort_msg("%s", fixture_error());
 *
 * All functions that return int return 0, or a negative errno with the reason in fixture_error(). Fixtures of
 * several processes never meet: each has its own folder, name and server.
 */
#ifndef PGLEASE_TESTKIT_FIXTURE_H
#define PGLEASE_TESTKIT_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <libpq-fe.h>

struct fixture;

struct fixture_pool {
	const char *name;
	unsigned max, min; /* 0: the default, 5 and 1 */
	bool embedded; /* on a PostgreSQL that the broker runs, instead of the fixture's */
	const char *conninfo; /* NULL: the fixture's PostgreSQL, as postgres */
	const char *extra; /* more lines of the pool's section; NULL: none */
};

struct fixture_options {
	const struct fixture_pool *pools; /* none: one pool `app` */
	unsigned npools;
	const char *
	    extra; /* more lines of the section [pglease], log_level of less than info excepted; NULL: none */
	bool
	    no_broker; /* the PostgreSQL and the configuration only; fixture_broker_start() starts it later */
	const char *listen; /* the PostgreSQL's listen_addresses; NULL: Unix sockets only */
	bool replication; /* the PostgreSQL can have a standby */
	bool no_server; /* no PostgreSQL: for pools that are embedded or point elsewhere */
};

int fixture_start(const struct fixture_options *options, struct fixture **ret_fixture);
/*
 * Stops the broker and checks that it ended with status 0 and left neither socket folder nor segment; stops
 * the PostgreSQL; removes the folder. Frees the fixture in any case. Accepts NULL.
 */
int fixture_stop(struct fixture *fixture);

/* The broker alone. Start waits until it serves; stop checks as fixture_stop does; kill is SIGKILL, and
 * waits. */
int fixture_broker_start(struct fixture *fixture);
int fixture_broker_stop(struct fixture *fixture);
int fixture_broker_kill(struct fixture *fixture);
pid_t fixture_broker_pid(const struct fixture *fixture); /* 0: not running */

/* The fixture's PostgreSQL alone: for tests of an upstream that goes away. */
int fixture_server_start(struct fixture *fixture);
int fixture_server_stop(struct fixture *fixture);
pid_t fixture_server_pid(const struct fixture *fixture); /* the postmaster's; 0: not running */

/* A standby of the fixture's PostgreSQL (option `replication`), which takes connections when this returns. fixture_stop()
 * stops it. */
int fixture_standby_start(struct fixture *fixture);
/* For a direct connection to it. */
const char *fixture_standby_conninfo(const struct fixture *fixture);

const char *fixture_instance(const struct fixture *fixture);
const char *fixture_socket_dir(const struct fixture *fixture);
const char *fixture_folder(const struct fixture *fixture);
const char *fixture_config(const struct fixture *fixture);
const char *fixture_log(const struct fixture *fixture);
/* For a direct connection to the fixture's PostgreSQL. */
const char *fixture_conninfo(const struct fixture *fixture);

/* A direct connection, or NULL. Close it with PQfinish. */
PGconn *fixture_connect(struct fixture *fixture);
/* SQL over a direct connection of its own; the first field of the last result ("" when there is none) goes to
 * buf. */
int fixture_sql(struct fixture *fixture, const char *sql, char *buf, size_t size);
/* Runs a program of PostgreSQL (pgbench ...) against the fixture's server: PGHOST and PGUSER are set.
 * NULL-terminated. */
int fixture_run(struct fixture *fixture, const char *program, const char *const args[]);

/* Waits until the broker's log has a line with this text beyond the last one so found; no line is missed or
 * sleep needed, for the log is watched. */
int fixture_await_log(struct fixture *fixture, const char *text, int timeout_ms);

/* The test has started a process of its own: it gets this signal if the test crashes. */
int fixture_watch(const struct fixture *fixture, pid_t pid, int sig);

const char *fixture_error(void);

#endif

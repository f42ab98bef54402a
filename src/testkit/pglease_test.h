/* SPDX-License-Identifier: PostgreSQL */
/*
 * libpglease-test: what tests of programs that lease from pglease stand on. A private PostgreSQL, a broker of its own
 * name, an attached client; a report of what a test leaked; faults on demand; benchmarks.
 *
 *	static const pglease_test_pool pools[] = {{.name = "app", .max = 4}};
 *	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 1);
 *	pglease_test_env *env;
 *	pglease_pool *pool;
 *
 *	if (pglease_test_env_new(&options, &env) || pglease_test_pool_open(env, "app", &pool))
 *		fail(pglease_test_error_message());
 *	... pglease_acquire(pool, ...), or your own code: PGLEASE_INSTANCE and PGLEASE_SOCKET_DIR are set
 *	if (pglease_test_env_free(env))			... also when something was leaked
 *		fail(pglease_test_error_message());
 *
 * Return values: 0, or a negative errno; pglease_test_error_message() tells more. Results come through ret_ parameters,
 * which are left untouched on failure.
 *
 * Environments never meet: each has its own folder below $TMPDIR (or /tmp), its own random instance name and its own
 * server, which listens on a Unix socket in that folder and, unless told to, nowhere else. So any number of them run
 * side by side, in one process or many. All of it goes away: by pglease_test_env_free, or, if the process that made the
 * environment ends without it (a failed assertion, a crash, SIGKILL), by a guardian process that outlives it.
 * Run by root, the server runs as the user postgres, because PostgreSQL refuses to run as root.
 *
 * An environment belongs to the process that made it. A forked child may use it to look and to connect; there,
 * pglease_test_env_free only frees memory. Use an environment from one thread at a time; the functions here are no more
 * thread-safe than setenv is.
 *
 * Nothing here knows a test framework: Check (also with its fork mode), cmocka and plain assert will do.
 */
#ifndef PGLEASE_TEST_H
#define PGLEASE_TEST_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <pglease.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pglease_test_env pglease_test_env;

typedef struct pglease_test_pool {
	const char *name;
	unsigned max, min;    /* connections; 0: pgleased's defaults, 5 and 1 */
	int embedded;         /* on a PostgreSQL that the broker runs, instead of the environment's */
	const char *conninfo; /* NULL: the environment's PostgreSQL, as postgres */
	const char *extra;    /* more lines of the pool's section (pgleased.ini(5)); NULL: none */
} pglease_test_pool;

/* Begin with PGLEASE_TEST_OPTIONS_INIT, or PGLEASE_TEST_OPTIONS(.member = value, ...): `size` is the structure's. */
typedef struct pglease_test_options {
	size_t size;
	const pglease_test_pool *pools; /* none: one pool `app` */
	unsigned npools;
	const char *extra;  /* more lines of the section [pglease], but for log_level; NULL: none */
	int no_broker;      /* pglease_test_broker_start() starts it later */
	int no_server;      /* no PostgreSQL: for pools that are embedded or point elsewhere */
	const char *listen; /* the PostgreSQL's listen_addresses; NULL: Unix socket only */
	int replication;    /* the PostgreSQL can have a standby */
	const char *setup;  /* SQL that every environment with this text begins with: executed once, then cloned; NULL: none */
	int relay;          /* pools without a conninfo reach the server through a relay: pglease_test_relay_... */
	int no_leak_check;  /* pglease_test_env_free does not report what was leaked, and there is no mark */
	/* Growth of the memory in use that is no leak; bytes; 0: 64 KiB. 64 KiB more for each PGconn that the library keeps. */
	size_t memory_slack;
} pglease_test_options;
#define PGLEASE_TEST_OPTIONS_INIT { sizeof(pglease_test_options), NULL, 0, NULL, 0, 0, NULL, 0, NULL, 0, 0, 0 }
#define PGLEASE_TEST_OPTIONS(...) ((pglease_test_options){.size = sizeof(pglease_test_options), __VA_ARGS__})

/*
 * A running environment. NULL: the defaults. Sets PGLEASE_INSTANCE and PGLEASE_SOCKET_DIR in this process's
 * environment, so that pglease_attach(NULL, ...) finds the broker. What libpq reads from the environment (PGHOSTADDR,
 * PGSERVICE ...) and is there already was meant for other servers: what starts here and the library's own connections
 * are without it. But the broker has it where one of the options' pools has a conninfo of its own, which may lean on it.
 *
 * The server's data folder is a clone of a template that is made once for each user, server and `setup`, in
 * $TMPDIR/pglease-template-*, by initdb. What an environment leaves of its clone is kept there too, for the next: only
 * what differs from the template is copied again. The template's folder may be removed whenever no test runs.
 *
 * The broker is $PGLEASE_TEST_PGLEASED, else pgleased in $PGLEASE_BUILDDIR, else the one that was installed. Looks for PostgreSQL in
 * $PGLEASE_PG_BINDIR, else the newest one below /usr/lib/postgresql. With $PGLEASE_TEST_INITDB set to 1, each
 * environment is made by an initdb of its own.
 */
PGLEASE_API int pglease_test_env_new(const pglease_test_options *options, pglease_test_env **ret_env)
    PGLEASE_MUST_CHECK;
/*
 * Takes all of it away and frees the handle, in any case; 0 if nothing was leaked (pglease_test_report), the broker ended
 * with status 0 and left neither processes nor sockets nor shared memory, and so did the server. -ENOTEMPTY: leaks.
 * Accepts NULL.
 */
PGLEASE_API int pglease_test_env_free(pglease_test_env *env);

/* The last failure in words; never NULL. */
PGLEASE_API const char *pglease_test_error_message(void);

/* The environment's own attached client: the first call attaches; pglease_test_env_free detaches. */
PGLEASE_API int pglease_test_client(pglease_test_env *env, pglease **ret_client) PGLEASE_MUST_CHECK;
/* A pool of that client. */
PGLEASE_API int pglease_test_pool_open(pglease_test_env *env, const char *name, pglease_pool **ret_pool)
    PGLEASE_MUST_CHECK;
/* Ends that attachment; the next call makes another one. */
PGLEASE_API void pglease_test_client_end(pglease_test_env *env);

/*
 * Sets the environment of libpq too, for code that connects by it and for commands: PGHOST, PGPORT, PGUSER and PGDATABASE name
 * the environment's server, what else libpq reads is unset; and TMPDIR names a folder of the environment's. What it
 * was is put back by pglease_test_env_free.
 */
PGLEASE_API int pglease_test_environment(pglease_test_env *env);

/* --- Names. They live as long as the environment. --- */

PGLEASE_API const char *pglease_test_instance(const pglease_test_env *env);
PGLEASE_API const char *pglease_test_socket_dir(const pglease_test_env *env);
PGLEASE_API const char *pglease_test_folder(const pglease_test_env *env); /* for files of the test's, too: they go with it */
PGLEASE_API const char *pglease_test_config(const pglease_test_env *env); /* the broker's configuration */
PGLEASE_API const char *pglease_test_log(const pglease_test_env *env);    /* the broker's */
/* For a direct connection to the server: "host=... port=5432 user=postgres dbname=postgres". Where you connect by it
 * yourself, what else libpq reads from the environment applies, unless pglease_test_environment was called. */
PGLEASE_API const char *pglease_test_conninfo(const pglease_test_env *env);

/* --- The server. --- */

/* A direct connection, or NULL. Close it with PQfinish. */
PGLEASE_API PGconn *pglease_test_connect(pglease_test_env *env);
/* SQL over a direct connection of its own; the first field of the last result ("" when there is none) goes to buf. */
PGLEASE_API int pglease_test_sql(pglease_test_env *env, const char *sql, char *buf, size_t size);
/* Runs a program of PostgreSQL's (pgbench, psql ...) against the server; its output goes to a log in the folder. */
PGLEASE_API int pglease_test_program(pglease_test_env *env, const char *program, const char *const args[]);

/*
 * A database of its own name, a copy of `from` (NULL: template1), to which nobody may be connected. Its name goes to
 * buf, as "test_12". All go with the environment.
 */
PGLEASE_API int pglease_test_database_new(pglease_test_env *env, const char *from, char *buf, size_t size)
    PGLEASE_MUST_CHECK;
/* Ends who is connected to it, and drops it. */
PGLEASE_API int pglease_test_database_drop(pglease_test_env *env, const char *name);

PGLEASE_API int pglease_test_server_start(pglease_test_env *env); /* waits until it takes connections */
PGLEASE_API int pglease_test_server_stop(pglease_test_env *env);  /* a fast shutdown; waits for its end */
PGLEASE_API pid_t pglease_test_server_pid(const pglease_test_env *env); /* the postmaster's; 0: not running */

/* A standby of the server (option `replication`), which takes connections when this returns. */
PGLEASE_API int pglease_test_standby_start(pglease_test_env *env);
PGLEASE_API const char *pglease_test_standby_conninfo(const pglease_test_env *env);

/* --- The broker. --- */

/* Start waits until it serves; stop is SIGTERM, and checks as pglease_test_env_free does; kill is SIGKILL, and waits. */
PGLEASE_API int pglease_test_broker_start(pglease_test_env *env);
PGLEASE_API int pglease_test_broker_stop(pglease_test_env *env);
PGLEASE_API int pglease_test_broker_kill(pglease_test_env *env);
PGLEASE_API pid_t pglease_test_broker_pid(const pglease_test_env *env); /* 0: not running */

/*
 * Waits until the broker's log has a line with this text beyond the last one so found: no line is missed and no sleep needed,
 * for the log is watched. -ETIMEDOUT; -ECHILD when the broker has ended without having written it.
 */
PGLEASE_API int pglease_test_await_log(pglease_test_env *env, const char *text, int timeout_ms);

/* --- Leaks. --- */

#define PGLEASE_TEST_LEAK_KINDS(X) \
	X(LEASE, "lease")           /* held by anyone; with the file and line of its acquire */ \
	X(SHELL, "shell")           /* a pool's server connection, held beyond its lease or attachment */ \
	X(DESCRIPTOR, "descriptor") /* with what it refers to; attachments */ \
	X(THREAD, "thread") \
	X(MEMORY, "memory")         /* in use by malloc, above options.memory_slack */ \
	X(SEGMENT, "segment")       /* shared memory: mapped, open, of System V, or in /dev/shm with the instance's name in its own */ \
	X(SEMAPHORE, "semaphore")   /* likewise */ \
	X(SESSION, "session")       /* of the server, that is no pool's */ \
	X(FILE, "file")             /* in the environment's TMPDIR; the server's temporary files */ \
	X(PROCESS, "process")       /* a child, also one that has ended and was not waited for */
enum pglease_test_leak_kind {
#define PGLEASE_TEST_LEAK_ENUM(id, name) PGLEASE_TEST_LEAK_##id,
	PGLEASE_TEST_LEAK_KINDS(PGLEASE_TEST_LEAK_ENUM)
#undef PGLEASE_TEST_LEAK_ENUM
	PGLEASE_TEST_LEAK_NKINDS
};

typedef struct pglease_test_leak {
	enum pglease_test_leak_kind kind;
	const char *what; /* in words: which one, and where it came from, as far as that is known */
	uint64_t bytes;   /* of memory; else 0 */
} pglease_test_leak;

/*
 * What is there now is no leak: the state to compare with. pglease_test_env_new does it last; call it again after what
 * a test needs and keeps (a server it starts, a cache it fills), and in a forked child that wants a report of its own.
 */
PGLEASE_API int pglease_test_mark(pglease_test_env *env);
/*
 * What is there and was not at the mark, in this process, on the environment's server and in its pools. *ret_leaks is
 * valid until the next report, and may be NULL. What an attached client keeps for later (its control connection, a
 * server connection for each slot) is no leak as long as it is the environment's own client's; another attachment that
 * is still there is one. pglease_test_env_free reports too, after it has ended its own client.
 *
 * Sessions of the server that are just ending are waited for. An object in shared memory that no process has open tells nobody
 * who made it, so that tests could run side by side; name yours after the instance, and they are found. Of memory, only
 * this process's own growth is seen, and only with glibc's allocator or AddressSanitizer's.
 */
PGLEASE_API int pglease_test_report(pglease_test_env *env, const pglease_test_leak **ret_leaks, unsigned *ret_n)
    PGLEASE_MUST_CHECK;
/* The last report, a line for each leak, or JSON. */
PGLEASE_API int pglease_test_report_write(const pglease_test_env *env, FILE *to, int as_json);
/* What the last report could not look at, and why (a broker that has gone, for example); "" when it has seen all. */
PGLEASE_API const char *pglease_test_report_unseen(const pglease_test_env *env);
/* "lease" and so on; "?" for none; static. */
PGLEASE_API const char *pglease_test_leak_name(enum pglease_test_leak_kind kind);

/* --- Faults. pglease_test_env_free ends them all. --- */

enum pglease_test_target {
	PGLEASE_TEST_BROKER,
	PGLEASE_TEST_SERVER,  /* the postmaster and all that it has started */
	PGLEASE_TEST_SESSION, /* one backend of the server, by its pid (PQbackendPID) */
	PGLEASE_TEST_CLIENT,  /* a process of the test's, by its pid */
};

/*
 * pid: of a session or client; else ignored. Killing a server is a crash (SIGKILL for all its processes; it has ended when
 * this returns; it runs with synchronous_commit = off, so commits of the last moments are lost), killing a session ends it as pg_terminate_backend does, brokers and clients get SIGKILL. A
 * broker or server that was killed is started again by pglease_test_broker_start and pglease_test_server_start.
 */
PGLEASE_API int pglease_test_kill(pglease_test_env *env, enum pglease_test_target target, pid_t pid);
/* Stops it as SIGSTOP does, and lets it go on; both return when that is so. */
PGLEASE_API int pglease_test_pause(pglease_test_env *env, enum pglease_test_target target, pid_t pid);
PGLEASE_API int pglease_test_continue(pglease_test_env *env, enum pglease_test_target target, pid_t pid);
/* Lets it run for `percent` of the time only, in turns of 20 ms; 100: always, again. Up to 8 targets at a time. */
PGLEASE_API int pglease_test_slow(pglease_test_env *env, enum pglease_test_target target, pid_t pid, unsigned percent);

/*
 * Leases all connections of a pool but for `leave`, and but for those that others hold and keep (for a second), by a client of its own;
 * until unfill, or the next fill. -ETIMEDOUT when they cannot be had within twenty seconds.
 */
PGLEASE_API int pglease_test_fill(pglease_test_env *env, const char *pool, unsigned leave);
PGLEASE_API void pglease_test_unfill(pglease_test_env *env);

/*
 * The relay (option `relay`) between broker and server: what it does applies to all of its connections, and also
 * to leases, which are on these. pass ends whatever the others have begun.
 */
PGLEASE_API const char *pglease_test_relay_conninfo(const pglease_test_env *env); /* for a connection through it */
PGLEASE_API int pglease_test_relay_pass(pglease_test_env *env);
PGLEASE_API int pglease_test_relay_stall(pglease_test_env *env); /* nothing passes, no connection is accepted; nothing is lost */
PGLEASE_API int pglease_test_relay_drop(pglease_test_env *env);  /* what is sent, either way, is lost; connections stay */
PGLEASE_API int pglease_test_relay_delay(pglease_test_env *env, unsigned ms); /* what is sent takes this long, either way */
PGLEASE_API int pglease_test_relay_cut(pglease_test_env *env);   /* all connections end, now */
/*
 * The next n connections fail: with this SQLSTATE (FATAL), or, when it is NULL, by ending without an answer. How many
 * have failed so since the start is told by pglease_test_relay_refused.
 */
PGLEASE_API int pglease_test_relay_refuse(pglease_test_env *env, unsigned n, const char *sqlstate);
PGLEASE_API uint64_t pglease_test_relay_refused(const pglease_test_env *env);
/*
 * Of what the server says from now on, on whichever connection it speaks first, `bytes` pass and the rest is held back: until the
 * client sends its next byte there (until_asked), or for ever; what was not passed when the connection ends is lost. So
 * a message is where a network leaves it for a while: in part here, in part there. Once.
 */
PGLEASE_API int pglease_test_relay_hold(pglease_test_env *env, unsigned bytes, int until_asked);
/* Waits until bytes are held, since the last such call. */
PGLEASE_API int pglease_test_relay_await_held(pglease_test_env *env, int timeout_ms);
/* How often the server has said that it is ready for the next query, on all connections of the relay: round trips. */
PGLEASE_API uint64_t pglease_test_relay_round_trips(const pglease_test_env *env);

/*
 * Time cannot be moved: what pglease waits for is measured by CLOCK_MONOTONIC, which no process can set for another. Set
 * short times in the configuration instead (options.extra, pglease_test_pool.extra), and pause what is to be late.
 */

/* --- Benchmarks. --- */

/* What is measured: `run` is one operation; other than 0, it has failed, and the benchmark ends. */
typedef struct pglease_test_variant {
	const char *name;
	int (*run)(void *context);
	void *context;
} pglease_test_variant;

typedef struct pglease_test_benchmark_options {
	size_t size;
	unsigned rounds;     /* 0: 30; at least 2 */
	unsigned round_ms;   /* of one variant in one round; 0: 20 */
	unsigned warm_up_ms; /* of each variant, before the first round; 0: 200 */
} pglease_test_benchmark_options;
#define PGLEASE_TEST_BENCHMARK_OPTIONS_INIT { sizeof(pglease_test_benchmark_options), 0, 0, 0 }

/* A value and its 95 % confidence interval. */
typedef struct pglease_test_interval {
	double value, low, high;
} pglease_test_interval;

/* Of one variant; per operation where nothing else is said. Negative: unknown. */
typedef struct pglease_test_measurement {
	const char *name;
	uint64_t operations;
	unsigned batch; /* operations that were timed together, because one takes no longer than looking at the clock */
	pglease_test_interval per_second;
	pglease_test_interval ratio; /* of its operations per second to those of the first variant, round by round */
	uint64_t mean_ns, p50_ns, p95_ns, p99_ns, max_ns; /* quantiles within 1.6 % */
	double cpu_ns;         /* this process's */
	double server_cpu_ns;  /* of the environment's server, all processes that live at the end */
	double memory_bytes;   /* growth of the memory in use */
	double round_trips;    /* with the server, the broker's in that time too: the least of five counts; needs the option `relay` */
	double leaks;          /* of this variant, in all: what pglease_test_report finds after some operations */
} pglease_test_measurement;

typedef struct pglease_test_results pglease_test_results;

/*
 * Measures up to 16 variants in turn, in rounds: each round runs every variant for round_ms, beginning with another one
 * each time, so that what slows the machine for a while slows all of them. The interval of a rate is Student's t on the
 * logarithms of the rounds' rates; of a ratio, the same on the paired differences.
 *
 * env: may be NULL, then only this process is looked at. Leaks and round trips are counted before, in operations that are not
 * timed: with the option `relay` these go through the relay, and the timed ones do not (the pools' connections are
 * replaced in between). Marks anew in the end: what a variant leaks is no leak of the environment's any more.
 */
PGLEASE_API int pglease_test_benchmark(pglease_test_env *env, const pglease_test_variant *variants, unsigned n,
    const pglease_test_benchmark_options *options, pglease_test_results **ret_results) PGLEASE_MUST_CHECK;
PGLEASE_API void pglease_test_results_free(pglease_test_results *results); /* accepts NULL */
/* NULL beyond the last; lives as long as the results. */
PGLEASE_API const pglease_test_measurement *pglease_test_results_get(const pglease_test_results *results, unsigned index);
/* A table, or JSON that pglease_test_compare reads. */
PGLEASE_API int pglease_test_results_write(const pglease_test_results *results, FILE *to, int as_json);

/* A variant now against the same name in a saved file. */
typedef struct pglease_test_change {
	const char *name;
	pglease_test_interval rate;  /* operations per second: now by then */
	pglease_test_interval ratio; /* the variant's ratio to the first one: now by then; 1 for the first */
} pglease_test_change;

/*
 * Compares with what pglease_test_results_write wrote to a file, by Welch's t on the logarithms of the rounds. The rate depends
 * on the machine and what else it did; the ratio, measured within each run, much less. A variant has become slower when the
 * whole interval is below 1. -ENOENT: no such file, or none of these variants in it. The changes (n of them, in the order
 * of the results) live as long as the results, or until the next comparison.
 */
PGLEASE_API int pglease_test_compare(pglease_test_results *results, const char *path,
    const pglease_test_change **ret_changes, unsigned *ret_n) PGLEASE_MUST_CHECK;

/* --- What a test needs besides. --- */

/* The test has started a process of its own: it gets this signal if the test crashes. -ENOSPC: 64 that live, server and
 * broker among them, are watched already. */
PGLEASE_API int pglease_test_watch(const pglease_test_env *env, pid_t pid, int sig);

/*
 * Looks until `condition` returns other than 0: for what shows in memory or in answers, and that nothing can be waited on for.
 * The time only ends a failure: -ETIMEDOUT.
 */
PGLEASE_API int pglease_test_await(int (*condition)(void *context), void *context, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: PostgreSQL */
/*
 * pglease: lease PostgreSQL connections from a broker that all processes of this host share.
 *
 *	pglease *client;
 *	pglease_pool *pool;
 *	pglease_lease lease;
 *	PGconn *conn;
 *
 *	if (pglease_attach(NULL, NULL, &client) || pglease_pool_open(client, "app", &pool))
 *		die(pglease_error_message());
 *	if (pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn))
 *		die(pglease_error_message());
 *	res = PQexec(conn, "select 1");		... all of libpq but PQfinish
 *	pglease_release(&lease);
 *	pglease_detach(client);
 *
 * How it works, in short: the broker (pgleased) owns the server connections. A lease is taken in shared memory, by
 * one compare-and-swap when a connection is idle; the PGconn speaks to PostgreSQL directly, over the server
 * connection's own socket. What a lease leaves behind in its session (open transaction, settings, temporary tables,
 * prepared statements) is gone before another process gets the connection; the same process may find it again.
 *
 * Return values: 0, or a negative code of enum pglease_error. Results come through ret_ parameters, which are left
 * untouched on failure. pglease_error_message() tells more about the calling thread's last failure.
 *
 * Threads: every function may be called from any thread at any time, except that a handle must not be used during or
 * after its pglease_detach(). A lease, like the PGconn it gives, is for one thread at a time; it ends when the thread
 * that acquired it ends (when destructors of thread-specific data run, it may have ended already). No function here may
 * be interrupted by pthread_cancel.
 *
 * What belongs to the lease and must not outlive it: the PGconn; a PGcancel made from it (let PQcancel return
 * before you release: a cancel that arrives after the release may hit the next lease of the same process on that
 * connection, though never another process's); an
 * epoll registration of PQsocket (the open file stays with the broker, so epoll would go on reporting it). Notice
 * hooks, verbosity and tracing set on the PGconn are put back at release. Event procedures cannot be taken away: the
 * PGconn is freed at the release (PGEVT_CONNDESTROY), and the connection's next lease makes a new one. One that was registered
 * in a lease without a single result is found at the release of that process's next lease that had one.
 *
 * PQreset (also PQresetStart and PQresetPoll) on a leased PGconn does what it does on any: the server session ends, with its
 * transaction and whatever else was in it, and the PGconn has another one, in the same lease; or the status is
 * CONNECTION_BAD, and PQerrorMessage says why in the server's words (it is down, it refuses) or the broker's (the lease
 * was revoked). Then it may be tried again, or the lease released. PQreset takes at most the pool's connect_timeout and a few
 * seconds. The last PQresetPoll talks to the broker, for up to two seconds if that does not answer; one that gives
 * PGRES_POLLING_OK may leave the status CONNECTION_BAD when the broker has gone in that moment: look at PQstatus.
 *
 * What a reset (DISCARD ALL) cannot undo stays in the server session until it is replaced: libraries that were LOADed,
 * global variables of procedural languages, dblink connections, setseed.
 *
 * The broker's death: handles, pools and leases outlive it. Connections that this process has a PGconn for are leased, queried and waited
 * for as ever, without a broker. A call that needs one attaches again by itself, to whatever broker serves the instance next; until there
 * is one, the pool's `broker_down` decides: an acquire waits for it up to its deadline, or fails at once (PGLEASE_ENOBROKER, either way). A lease that is out goes on, and its release
 * returns 0: but its session, which the next broker does not know, ends there, and an open transaction is rolled back by the
 * server. PQreset on it fails, and a cancel has no effect: release it and acquire another. Numbers and history are the new broker's from then on.
 * The same holds for a broker that was stopped, which has ended its sessions, and leases with them; and for a process that has closed the library's descriptors.
 * Each broker that dies costs some kilobytes until pglease_detach. Calls that make no system call make a few while the broker is gone.
 *
 * A reload of the broker: a pool that it makes anew is found by the next acquire, or the one that waits; leases that are out go on. One that it
 * takes out gives no more (PGLEASE_ENOPOOL), until its name comes back: the handle stays good.
 *
 * Fork: handles may be used in the child, which attaches itself anew at its first call; leases stay with the parent
 * (PGLEASE_EFORKED in the child; what is asked of their PGconns there fails from then on). Until that call has succeeded, every
 * function that looks into a pool (statistics, times, health, alerts, thresholds, history) may block in it, and fail, as
 * pglease_pool_open does, whatever is said of it below.
 *
 * Signals: the library installs no handlers, and no function here may be called from one.
 */
#ifndef PGLEASE_H
#define PGLEASE_H

#include <stdint.h>
#include <time.h>

#include <libpq-fe.h>
#include <pglease_errors.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PGLEASE_API __attribute__((visibility("default")))
#define PGLEASE_MUST_CHECK __attribute__((warn_unused_result))
#else
#define PGLEASE_API
#define PGLEASE_MUST_CHECK
#endif

typedef struct pglease pglease;           /* this process's attachment to an instance */
typedef struct pglease_pool pglease_pool; /* an opened pool; belongs to its attachment */

/* A token, not an object: copy it freely; only the first release of the lease it names has an effect. */
typedef struct pglease_lease {
	pglease_pool *pool;
	uint64_t incarnation; /* of the client that leased, and of what it had open then */
	uint64_t sequence;    /* lease sequence of the slot */
	uint32_t slot;
	uint32_t row;
} pglease_lease;

/*
 * Settings of an attachment; set every member (PGLEASE_OPTIONS_INIT gives the defaults). Strings are copied.
 */
typedef struct pglease_options {
	const char *socket_dir; /* NULL: found by the instance's name (pglease(3), FILES) */
	const char *program;    /* NULL: the program's name; shown by pgleasestat */
	unsigned max_shells;    /* idle PGconns kept per pool; 0: 64 */
	unsigned timeout_ms;    /* for the broker's answers; 0: 5000 */
} pglease_options;
#define PGLEASE_OPTIONS_INIT { NULL, NULL, 0, 0 }

/*
 * Attaches this process to the broker's instance; NULL: $PGLEASE_INSTANCE or "main". The handle is freed by
 * pglease_detach. Blocks for at most options->timeout_ms.
 * Errors: EINVAL, ENOBROKER, EPERM, EVERSION, ENOCLIENTS, ENOMEM, ESYSTEM, EPROTOCOL.
 */
PGLEASE_API int pglease_attach(const char *instance, const pglease_options *options, pglease **ret_client)
    PGLEASE_MUST_CHECK;

/*
 * Ends the attachment: closes its pools, disposes of its PGconns (without ending the server's sessions) and frees the
 * handle. Leases still held are lost and their connections replaced. Accepts NULL.
 */
PGLEASE_API void pglease_detach(pglease *client);

/*
 * Opens a pool; a second call for the same name gives the same handle. It lives as long as the attachment.
 * Errors: EINVAL, ENOPOOL, ENOBROKER, EPERM, EGONE (the broker dies in that moment), EVERSION, ENOCLIENTS, ENOMEM, ESYSTEM, EPROTOCOL.
 */
PGLEASE_API int pglease_pool_open(pglease *client, const char *name, pglease_pool **ret_pool) PGLEASE_MUST_CHECK;

#define PGLEASE_TIMEOUT_POOL (-1) /* the pool's acquire_timeout */
#define PGLEASE_TIMEOUT_TRY 0     /* do not wait for a connection */

/*
 * Leases a connection, waiting up to timeout_ms milliseconds for one to be free. On success *ret_conn is an ordinary
 * PGconn with an idle session at its baseline (or as this process last left it); it is the library's: never PQfinish it,
 * and do not touch it after the release. Making the PGconn, when this process has none for the connection
 * yet, and resetting another process's session take short exchanges, also with PGLEASE_TIMEOUT_TRY: up to a second when
 * broker or server are slow.
 *
 * The macro notes the caller's file and line with the lease (leak reports, pgleasestat); the function, for those who cannot use
 * macros, the caller's address: as "function+0x1f".
 * Errors: EINVAL, ETIMEOUT, EDRAINING, ELIMIT, ENOROWS, ENOBROKER, EUPSTREAM, ENOMEM, ESYSTEM, EPROTOCOL; after a broker's death also
 * ENOPOOL, EPERM, EVERSION and ENOCLIENTS, when that is what the next one says; ENOPOOL also when a reload has taken the pool out.
 */
PGLEASE_API int pglease_acquire(pglease_pool *pool, int timeout_ms, pglease_lease *ret_lease, PGconn **ret_conn)
    PGLEASE_MUST_CHECK;
#define pglease_acquire(pool, timeout_ms, ret_lease, ret_conn) \
	pglease_acquire_at((pool), (timeout_ms), (ret_lease), (ret_conn), __FILE__, __LINE__)
PGLEASE_API int pglease_acquire_at(pglease_pool *pool, int timeout_ms, pglease_lease *ret_lease, PGconn **ret_conn,
    const char *file, int line) PGLEASE_MUST_CHECK;

/* The same with a deadline of CLOCK_MONOTONIC; one that has passed means PGLEASE_TIMEOUT_TRY. */
PGLEASE_API int pglease_acquire_until(pglease_pool *pool, const struct timespec *deadline, pglease_lease *ret_lease,
    PGconn **ret_conn) PGLEASE_MUST_CHECK;
#define pglease_acquire_until(pool, deadline, ret_lease, ret_conn) \
	pglease_acquire_until_at((pool), (deadline), (ret_lease), (ret_conn), __FILE__, __LINE__)
PGLEASE_API int pglease_acquire_until_at(pglease_pool *pool, const struct timespec *deadline,
    pglease_lease *ret_lease, PGconn **ret_conn, const char *file, int line) PGLEASE_MUST_CHECK;

/*
 * Gives the connection back. A transaction that is still open is rolled back (one round trip to the server); a
 * session that cannot be shared any more (COPY or a pipeline in progress, results not read, connection lost) is
 * replaced by the broker, which is no error here.
 * Errors: EINVAL; ESTALE when the token's lease has ended already, by release or revocation: nothing was done;
 * EFORKED in a child of the process that leased.
 */
PGLEASE_API int pglease_release(const pglease_lease *lease);

/* What the lessee knows of the session that it gives back. */
enum pglease_session {
	PGLEASE_SESSION_USED = 0,   /* nothing in particular: the pool's policy decides */
	PGLEASE_SESSION_CLEAN = 1,  /* this lease has left nothing in it: no reset, whoever comes next */
	PGLEASE_SESSION_DIRTY = 2,  /* to be reset now, also before this process's own next lease */
	PGLEASE_SESSION_BROKEN = 3, /* not to be used again: the connection is replaced */
};
/*
 * As pglease_release, which passes PGLEASE_SESSION_USED. CLEAN is believed, but for the settings that the server reports
 * (PQparameterStatus): where one is changed the session is dirty. It does not speak for earlier leases of this process: what
 * they have left is reset as ever. With DIRTY under the policy `never` the reset is DISCARD ALL.
 */
PGLEASE_API int pglease_release_as(const pglease_lease *lease, enum pglease_session session);

/*
 * Acquiring without blocking, for event loops:
 *
 *	pglease_acquire_start(pool, PGLEASE_TIMEOUT_POOL, &request);
 *	while ((r = pglease_acquire_finish(request, &lease, &conn)) == PGLEASE_EAGAIN)
 *		... wait until the descriptor of pglease_acquire_fd(request, &fd) is readable, and do other things ...
 *
 * A connection that is idle, and for which this process has a PGconn, is got by the start itself: without a system call, but for
 * the look at a connection that has been idle for long; look with pglease_acquire_finish before you ask for a descriptor.
 * For everything else (waiting, making a PGconn, resetting another process's session) the library starts a thread, which gets no signals and ends
 * with the request. It also attaches a child that has not called the library since it was forked. A request lives until it is finished or
 * cancelled, and is for one thread at a time.
 *
 * The lease is like any other, but for this: it is no thread's, so it does not end with the thread that started or finished the request.
 *
 * Fork: requests stay with the parent; in the child they have no descriptor, finish frees the child's copy with EFORKED, and cancel
 * frees it. A detach
 * ends the requests that are pending; pglease_acquire_finish then frees the handle, with EINVAL.
 */
typedef struct pglease_request pglease_request;
/* Errors: as pglease_acquire, of what is known at once. */
PGLEASE_API int pglease_acquire_start(pglease_pool *pool, int timeout_ms, pglease_request **ret_request)
    PGLEASE_MUST_CHECK;
#define pglease_acquire_start(pool, timeout_ms, ret_request) \
	pglease_acquire_start_at((pool), (timeout_ms), (ret_request), __FILE__, __LINE__)
PGLEASE_API int pglease_acquire_start_at(pglease_pool *pool, int timeout_ms, pglease_request **ret_request,
    const char *file, int line) PGLEASE_MUST_CHECK;
/*
 * A descriptor that is readable once pglease_acquire_finish gives anything but EAGAIN. It is the request's: wait for it, never read
 * or close it; it is gone when the request is. Errors: EINVAL, EFORKED (a parent's request: finish or cancel frees it), ESYSTEM (no
 * descriptors left).
 */
PGLEASE_API int pglease_acquire_fd(pglease_request *request, int *ret_fd) PGLEASE_MUST_CHECK;
/*
 * EAGAIN: not yet. Otherwise the request is over, and its handle freed (but for an EINVAL about a NULL): 0, or the errors of
 * pglease_acquire, EFORKED, EINVAL.
 */
PGLEASE_API int pglease_acquire_finish(pglease_request *request, pglease_lease *ret_lease, PGconn **ret_conn)
    PGLEASE_MUST_CHECK;
/*
 * Gives up; what was granted meanwhile goes back. Waits for the library's thread: at once, as a rule, and for at most a second
 * when broker or server are slow with an exchange that has begun. Accepts NULL.
 */
PGLEASE_API void pglease_acquire_cancel(pglease_request *request);

/*
 * PQexecParams, with a statement that stays prepared: the first execution in a server session prepares it,
 * and all later ones, of this or another process that leases the connection, only bind and execute.
 * Arguments and result are those of PQexecParams, and so is the behaviour, but for this:
 *
 * - What is prepared goes by the command's text, the parameter types given, and the session's
 *   client_encoding, standard_conforming_strings, DateStyle, IntervalStyle and TimeZone. Everything else
 *   that a statement takes from its session when it is read it keeps as it was when first prepared:
 *   literals such as 'now', and what array_nulls, lc_monetary, transform_null_equals and xmloption mean for
 *   literals. The search path is followed, as PostgreSQL does for prepared statements, and so is a change
 *   of the tables used.
 * - A parameter type that was not given stays the one that the server inferred first. When a column has
 *   changed its type since, a value that the old one does not take is an error, once in each session: give
 *   paramTypes.
 * - A pool keeps up to `prepared_statements` of them in a session (pgleased.ini(5)) and deallocates the
 *   least recently used for a new one. A statement that is used once is better executed by PQexecParams.
 * - They stay as long as the session is not reset by DISCARD ALL: with reset_kind = light, or when leases
 *   end by pglease_release_as(PGLEASE_SESSION_CLEAN), as they may when nothing else was left in the
 *   session.
 * - They are named pglease_ and 32 hex digits. An application that deallocates them (DISCARD ALL,
 *   DEALLOCATE ALL) is served all the same; but if its next call is in a transaction block, that one fails
 *   with invalid_sql_statement_name (26000), once. Likewise, in a transaction block, a statement that a
 *   change of its tables has made useless fails once: with feature_not_supported (0A000) when its result
 *   has got other columns, with undefined_function (42883) or the like when a type inferred does not do.
 *
 * A plain PQexecParams is done for any other PGconn, when prepared_statements is 0, in a failed
 * transaction, in pipeline mode, and while the results of another command have not been read.
 */
PGLEASE_API PGresult *pglease_exec_cached(PGconn *conn, const char *command, int nParams,
    const Oid *paramTypes, const char *const *paramValues, const int *paramLengths, const int *paramFormats,
    int resultFormat);

/*
 * libpq's functions of these names, timed: the same arguments, results and errors, for any PGconn; for a leased one,
 * pglease_stats_get and pglease_times_get count the query, its time (from the call to its last result), its rows, whether it
 * failed, and the transaction that it ends. What the application does by libpq's own functions is not seen, but for being part
 * of a transaction's time; the data of a COPY is not part of a query's. Several statements in one call are one query. Results
 * of pglease_send_... are to be taken by pglease_get_result.
 */
PGLEASE_API PGresult *pglease_exec(PGconn *conn, const char *command);
PGLEASE_API PGresult *pglease_exec_params(PGconn *conn, const char *command, int nParams, const Oid *paramTypes,
    const char *const *paramValues, const int *paramLengths, const int *paramFormats, int resultFormat);
PGLEASE_API PGresult *pglease_prepare(
    PGconn *conn, const char *stmtName, const char *query, int nParams, const Oid *paramTypes);
PGLEASE_API PGresult *pglease_exec_prepared(PGconn *conn, const char *stmtName, int nParams,
    const char *const *paramValues, const int *paramLengths, const int *paramFormats, int resultFormat);
PGLEASE_API int pglease_send_query(PGconn *conn, const char *command);
PGLEASE_API int pglease_send_query_params(PGconn *conn, const char *command, int nParams, const Oid *paramTypes,
    const char *const *paramValues, const int *paramLengths, const int *paramFormats, int resultFormat);
PGLEASE_API int pglease_send_prepare(
    PGconn *conn, const char *stmtName, const char *query, int nParams, const Oid *paramTypes);
PGLEASE_API int pglease_send_query_prepared(PGconn *conn, const char *stmtName, int nParams,
    const char *const *paramValues, const int *paramLengths, const int *paramFormats, int resultFormat);
PGLEASE_API PGresult *pglease_get_result(PGconn *conn);

/*
 * A pool's state, added up from shared memory at the moment of the call: no system call, no lock, nothing is waited for, whoever
 * is dead; a few microseconds for a hundred connections. Each number is right at some moment of the call. Those that belong
 * together agree: total = idle + leased + granted + busy, active = leased + granted, acquired = acquired_immediate +
 * acquired_waited >= released + returned. With monitoring = no, what workers count is 0.
 */
typedef struct pglease_stats {
	uint32_t max_connections;
	uint32_t total, idle, leased, granted, busy; /* slots; busy: in the broker's hands */
	uint32_t active;          /* leased or set aside for a waiter that has not taken it yet */
	uint32_t peak;            /* the most that were active at one time since the broker's start, as seen ten times a second, and by who waits */
	uint32_t pending;         /* threads that wait for a lease */
	uint32_t clients;         /* processes attached to the instance */
	uint64_t max_wait_ns;     /* age of the oldest waiter */
	uint64_t acquired;        /* leases granted: immediate + waited */
	uint64_t acquired_immediate, acquired_waited;
	uint64_t released, returned; /* clean; to the broker */
	uint64_t failed;          /* acquires that gave no lease: timeouts and failures */
	uint64_t timeouts, failures;
	double efficiency;        /* share of the leases that did not wait; 1 when there was none */
	uint64_t opened, open_failed, closed, revoked, leaks;
	uint64_t connect_mean_ns; /* of the opened */
	uint64_t adoptions, rollbacks, handovers;
	/* Resets that a lessee waited for; that were sent ahead; whose answer was left to the broker; that were not needed. */
	uint64_t resets, resets_pipelined, resets_late, resets_spared;
	uint64_t broker_resets;
	/* Of the library's own calls (pglease_exec and so on); rows returned or changed; transactions: single queries too. */
	uint64_t queries, query_errors, query_rows, transactions;
	/* Over about the last ten seconds. */
	double connections_per_second, leases_per_second, queries_per_second, transactions_per_second;
} pglease_stats;

/* Errors: EINVAL. */
PGLEASE_API int pglease_stats_get(pglease_pool *pool, pglease_stats *ret_stats);

enum pglease_time {
	PGLEASE_TIME_WAIT,        /* for a lease; a lease that did not wait counts as 0 */
	PGLEASE_TIME_HOLD,        /* until a clean release */
	PGLEASE_TIME_CONNECT,     /* of the server connections opened */
	PGLEASE_TIME_QUERY,       /* of the library's own calls */
	PGLEASE_TIME_TRANSACTION, /* ended by those calls, single queries included */
};

/* Nanoseconds. Quantiles and maximum are within 1.6 %, up to 2^40 ns (18 minutes), and count what is longer as that. */
typedef struct pglease_times {
	uint64_t count, mean_ns, p50_ns, p95_ns, p99_ns, max_ns;
} pglease_times;

/*
 * One time's distribution since the broker's start. As pglease_stats_get, but up to two milliseconds for a hundred
 * connections. Errors: EINVAL.
 */
PGLEASE_API int pglease_times_get(pglease_pool *pool, enum pglease_time time, pglease_times *ret_times);

/*
 * All numbers of the pool as one line of JSON, or as Prometheus text (0.0.4): what pgleasestat -J and the broker's /metrics show
 * of it, but for what only the broker knows (its settings, processes' CPU time and memory), which is null or left out. No
 * system call but for memory; as long as five pglease_times_get. *ret is the caller's, to be freed by pglease_free.
 * Errors: EINVAL, ENOMEM.
 */
PGLEASE_API int pglease_stats_json(pglease_pool *pool, char **ret_json) PGLEASE_MUST_CHECK;
PGLEASE_API int pglease_stats_prometheus(pglease_pool *pool, char **ret_text) PGLEASE_MUST_CHECK;
/* Frees what a call here has allocated for the caller. Accepts NULL. */
PGLEASE_API void pglease_free(void *ptr);

enum pglease_health_level { PGLEASE_HEALTH_OK = 0, PGLEASE_HEALTH_DEGRADED, PGLEASE_HEALTH_DOWN };

/*
 * How the pool is, and why, by the rules of pgleased(8), "HEALTH": as the broker has found at its last look, at most a tenth of a
 * second ago, or down when it has not looked for two seconds.
 */
typedef struct pglease_health {
	enum pglease_health_level level;
	char reasons[96]; /* names separated by commas, the worst first: "upstream,waiting"; "" when all is well */
} pglease_health;

/* No system call. Errors: EINVAL. */
PGLEASE_API int pglease_health_get(pglease_pool *pool, pglease_health *ret_health);

/*
 * Alerts. The broker judges each pool once a second, by rules and thresholds that the pool's settings give (pgleased.ini(5), alert_*);
 * the rules are in pgleased(8), "ALERTS". The names are the settings', the units base units.
 */
enum pglease_threshold {
	PGLEASE_THRESHOLD_CONNECTION_TIME, /* half of the connects to the server took that long; seconds */
	PGLEASE_THRESHOLD_FAILURE_RATE,    /* share of the acquires that gave no lease */
	PGLEASE_THRESHOLD_MEMORY_USAGE,    /* the broker's resident memory; bytes */
	PGLEASE_THRESHOLD_WAIT_TIME,       /* one in twenty leases was waited for that long; seconds */
	PGLEASE_THRESHOLD_MAXWAIT,         /* age of the oldest waiter; seconds */
	PGLEASE_THRESHOLD_POOL_USAGE,      /* leased connections, of max_connections; a share */
	PGLEASE_THRESHOLD_QUERY_TIME_P99,  /* one in a hundred queries took that long; seconds */
	PGLEASE_THRESHOLD_LEAKS,           /* leases held for longer than leak_threshold; a number */
	PGLEASE_THRESHOLD_UPSTREAM_DOWN,   /* for so long every connect has failed; seconds */
	PGLEASE_THRESHOLD_HEALTH,          /* enum pglease_health_level */
};

typedef struct pglease_alert {
	const char *name;    /* "connection_time" and so on; static */
	int raised;          /* 1: it is */
	double value;        /* what it is judged by; NAN: too little has happened, or it is not known */
	double threshold;    /* of the pool's settings; PGLEASE_THRESHOLD_OFF when it is off */
	uint64_t lasting_ns; /* for how long it has been raised, or not; 0: not known */
	uint64_t count;      /* how often it was raised, while the instance lives */
} pglease_alert;

/* As the broker has judged last, without a system call. Errors: EINVAL. */
PGLEASE_API int pglease_alert_get(pglease_pool *pool, enum pglease_threshold threshold, pglease_alert *ret_alert);

#define PGLEASE_THRESHOLD_OFF HUGE_VAL /* of <math.h>: nothing reaches it */
#define PGLEASE_THRESHOLD_POOL (-1.0)  /* what the pool's settings say: so all of them are to begin with */

/*
 * This process's own thresholds, for pglease_on_threshold: what the broker has measured last is compared with them, whatever it makes
 * of it itself, and without waiting: reached is above, below four fifths is not. Health is judged here too: so a process can
 * hear that the broker is gone. Errors: EINVAL (negative, not a number, or no threshold of that name).
 */
PGLEASE_API int pglease_threshold_set(pglease_pool *pool, enum pglease_threshold threshold, double value);
PGLEASE_API int pglease_threshold_get(pglease_pool *pool, enum pglease_threshold threshold, double *ret_value);

/*
 * value may be NAN, and limit PGLEASE_THRESHOLD_OFF: it was switched off. Of a process's own threshold it is that; else the pool's.
 */
typedef void (*pglease_threshold_callback)(
    pglease_pool *pool, enum pglease_threshold threshold, double value, double limit, int is_above, void *context);

/*
 * Who is told when an alert is raised and when it is over; one for each pool, another takes its place; NULL: nobody, and nothing is
 * looked at. That is done, at most once a second, by a thread of this process that has just released a lease, after that release: no
 * thread of the library's own, no system call. A process that releases nothing looks at nothing, unless it calls
 * pglease_threshold_check. What was raised and is over between two looks is not heard of. The callback is called by one thread at a
 * time, holds up that thread's release, and may use the library, but for pglease_detach. One that is being replaced may still be
 * called for a moment: its context must live until the attachment ends. Errors: EINVAL, ENOMEM.
 */
PGLEASE_API int pglease_on_threshold(pglease_pool *pool, pglease_threshold_callback callback, void *context);
/* "connection_time" and so on; "?" for none; static. */
PGLEASE_API const char *pglease_threshold_name(enum pglease_threshold threshold);
/* Looks at once, if nobody else does. Errors: EINVAL. */
PGLEASE_API int pglease_threshold_check(pglease_pool *pool);

/*
 * What a pool did in a stretch of time. Times of quantiles and maximum are within 12.5 %, from 128 ns (what is shorter counts as 0)
 * to 2^37 ns (137 s; what is longer counts as that); counts and means are exact.
 */
typedef struct pglease_history_row {
	uint64_t from_ns, to_ns; /* CLOCK_REALTIME: the step */
	uint64_t covered_ns;     /* of it, what was recorded: less while no broker ran */
	uint32_t starts;         /* of a broker */
	uint32_t health;         /* 0 ok, 1 degraded, 2 down: the worst there was */
	/* At the end of the step; the averages are over the time covered. */
	uint32_t max_connections, total, idle, active, pending, clients;
	uint32_t active_max, pending_max; /* the most at one time, as seen ten times a second */
	double total_mean, active_mean, pending_mean;
	uint64_t max_wait_ns; /* the greatest age of a waiter */
	/* How many in the step. */
	uint64_t acquired, acquired_immediate, acquired_waited, released, returned, timeouts, failures;
	uint64_t opened, open_failed, closed, revoked, leaks, adoptions, rollbacks, handovers;
	uint64_t resets, resets_pipelined, resets_late, resets_spared, broker_resets;
	uint64_t queries, query_errors, query_rows, transactions;
	double efficiency; /* share of the leases that did not wait; 1 when there was none */
	double connections_per_second, leases_per_second, queries_per_second, transactions_per_second;
	uint64_t broker_cpu_ns, broker_memory; /* UINT64_MAX: unknown; bytes at the end of the step */
	pglease_times time[5];                 /* by enum pglease_time: of what ended in the step */
} pglease_history_row;

/* Return 0 to go on; anything else ends the walk. */
typedef int (*pglease_history_handler)(void *context, const pglease_history_row *row);

/*
 * The pool's history from from_ns to before to_ns (CLOCK_REALTIME), in steps of step_ns (0: all in one), oldest first; calls
 * `handler` for each step of which anything was recorded. For the last hour (metrics_retention) there is a row a second, for a day a
 * row a minute: finer steps than these give the rows that there are. A row counts for the step in which the middle of
 * its second or minute lies, and no two questions count it twice.
 *
 * No system call, no lock, no memory is taken; about a microsecond for each row of a second or minute. The row that is given is valid
 * during the call only. Returns 0, what the handler returned, or an error: EINVAL; ENOHISTORY when the broker keeps none
 * (history = no or monitoring = no), or it could not be mapped when the pool was opened.
 */
PGLEASE_API int pglease_history(pglease_pool *pool, uint64_t from_ns, uint64_t to_ns, uint64_t step_ns,
    pglease_history_handler handler, void *context);

/*
 * Control, for those who may (pgleased.ini(5), admin_users): by default root and the broker's user. Each call talks to the
 * broker over a connection of its own and blocks until it has answered; leases and attachment are not touched.
 *
 * Drains one pool, or all (pool NULL): no new leases (PGLEASE_EDRAINING, for those who wait already too), connections are
 * closed as they come back. Returns when the last one is, or with ETIMEOUT after timeout_ms milliseconds
 * (PGLEASE_TIMEOUT_POOL: the instance's drain_timeout; 0: does not wait); then the drain goes on. A lease that the caller
 * itself holds is one to wait for.
 * Errors: EINVAL, ENOBROKER, EPERM, ENOPOOL, ETIMEOUT, EREFUSED (undone meanwhile), EGONE, ENOMEM, ESYSTEM, EPROTOCOL.
 */
PGLEASE_API int pglease_drain(pglease *client, const char *pool, int timeout_ms) PGLEASE_MUST_CHECK;
/*
 * Undoes a drain; no error when nothing drains. Connections that were leased all the time are replaced once they are back.
 * Errors: EINVAL, ENOBROKER, EPERM, ENOPOOL, EREFUSED (the broker is stopping), EGONE, ESYSTEM, EPROTOCOL.
 */
PGLEASE_API int pglease_resume(pglease *client, const char *pool) PGLEASE_MUST_CHECK;

/* The calling thread's last failure in words; never NULL; valid until the thread's next call here. */
PGLEASE_API const char *pglease_error_message(void);
/* A code in words; never NULL; static. */
PGLEASE_API const char *pglease_strerror(int code);
/* "0.1.0" */
PGLEASE_API const char *pglease_version(void);

#ifdef __cplusplus
}
#endif

#endif

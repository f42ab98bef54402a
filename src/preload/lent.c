/* SPDX-License-Identifier: PostgreSQL */
/* The life of a leased PGconn in a program that takes it for its own: connect, settings, reset, finish. */
#include "lent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client_priv.h"
#include "fallback.h"
#include "lock.h"
#include "loose.h"
#include "options.h"
#include "refusal.h"
#include "reset.h"

#define BUCKETS 256

static struct lent *buckets[BUCKETS], *unused; /* under the lock */
static _Thread_local struct lent *last;

static struct lent **
bucket_of(const PGconn *conn)
{
	uintptr_t n = (uintptr_t)conn;

	return &buckets[(n >> 4 ^ n >> 12) % BUCKETS];
}

struct lent *
lent_find(const PGconn *conn)
{
	struct lent *l;

	if (conn == NULL)
		return NULL;
	/* A PGconn is used by one thread at a time, so what this one is looking for does not change meanwhile. */
	if (last != NULL && last->conn == conn)
		return last;
	if (!lock_take())
		return NULL;
	for (l = *bucket_of(conn); l != NULL; l = l->next)
		if (l->conn == conn)
			break;
	lock_release();
	if (l != NULL)
		last = l;
	return l;
}

/* The table gets one like this. False: no memory. */
static bool
table_add(const struct lent *made)
{
	struct lent **b = bucket_of(made->conn), *l;

	if (!lock_take())
		return false;
	l = unused;
	if (l != NULL)
		unused = l->next;
	else
		l = malloc(sizeof(*l));
	if (l != NULL) {
		*l = *made;
		l->next = *b;
		*b = l;
		last = l;
	}
	lock_release();
	return l != NULL;
}

/* Out of the table, into *ret. */
static void
table_remove(struct lent *l, struct lent *ret)
{
	*ret = *l;
	if (!lock_take())
		return;
	for (struct lent **p = bucket_of(l->conn); *p != NULL; p = &(*p)->next) {
		if (*p == l) {
			*p = l->next;
			l->conn = NULL;
			l->next = unused;
			unused = l;
			break;
		}
	}
	lock_release();
}

static enum reset_policy
policy_of(const pglease_pool *pool)
{
	const struct pool_state *state = atomic_load(&pool->state);

	return (enum reset_policy)atomic_load_explicit(&state->seg.header->reset_policy, memory_order_relaxed);
}

/*
 * To its next lessee the session is to be a fresh one, also when that is this very process; a pool that resets nothing says
 * otherwise, but what the program's parameters have set does not outlive it.
 */
static enum pglease_session
session_of(const struct lent *l)
{
	return policy_of(l->lease.pool) == RESET_NEVER && !l->wanted->has_unreported ? PGLEASE_SESSION_USED
										     : PGLEASE_SESSION_DIRTY;
}

/* Gives the lease back and forgets it. */
static void
give_back(struct lent *l)
{
	/* A revoked lease, or a parent's (PGLEASE_EFORKED), is none of ours to mourn. */
	(void)!pglease_release_as(&l->lease, session_of(l));
	pools_done(&l->use);
}

/* The settings of a start-up packet go with the reset before them. */
struct settings {
	struct startup startup;
	const struct lent *lent;
};

static size_t
settings_write(struct startup *startup, const char *baseline)
{
	const struct lent *l = ((struct settings *)startup)->lent;

	return options_write(l->wanted, baseline, policy_of(l->use.pool) != RESET_NEVER, startup->sql, sizeof(startup->sql));
}

/*
 * The statements for the program's settings; NULL: none. fallback_application_name is not worth a reset of a pool that has
 * none.
 */
static char *
settings_sql(const struct lent *l, bool *ret_failed)
{
	return options_sql(l->lib, l->wanted, l->conn, policy_of(l->lease.pool) != RESET_NEVER, ret_failed);
}

static bool
is_good(struct library *lib, const PGresult *result)
{
	ExecStatusType status = lib->PQresultStatus(result);

	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* False: the session does not take them. */
static bool
settings_apply(struct lent *l)
{
	bool failed;
	char *sql = settings_sql(l, &failed);
	PGresult *result;

	if (sql == NULL)
		return !failed;
	result = l->lib->PQexec(l->conn, sql);
	failed = !is_good(l->lib, result);
	l->lib->PQclear(result);
	free(sql);
	return !failed;
}

/* The same, not waited for: lent_poll goes on with it. */
static bool
settings_send(struct lent *l)
{
	bool failed, sent;
	char *sql = settings_sql(l, &failed);

	if (sql == NULL)
		return !failed;
	sent = l->lib->PQsendQuery(l->conn, sql) == 1;
	free(sql);
	l->state = LENT_SETTING;
	return sent;
}

/* Those that were not said at the acquire are said now. False: the session does not take them. */
static bool
settings_done(struct lent *l, enum startup_said said, bool started)
{
	switch (said) {
	case STARTUP_SAID:
		return true;
	case STARTUP_REFUSED:
		return false;
	case STARTUP_UNSAID:
		break;
	}
	return started ? settings_send(l) : settings_apply(l);
}

static PGconn *
refuse(struct lent *l, const char *why)
{
	l->state = LENT_REFUSED;
	l->conn = refusal(l->lib, why);
	if (l->conn != NULL && table_add(l))
		return l->conn;
	l->lib->PQfinish(l->conn);
	wanted_done(l->lib, l->wanted);
	return NULL;
}

/* What a wait for a connection can come to in a pool that is sound: no reason to go past it. */
static bool
is_final(int code)
{
	return code == PGLEASE_ETIMEOUT || code == PGLEASE_EDRAINING || code == PGLEASE_ELIMIT || code == PGLEASE_ENOROWS ||
	       code == PGLEASE_EUPSTREAM;
}

/*
 * Asynchronously: a connection that is idle is taken at once, which may take a short exchange with broker or server; so the
 * program's socket never changes. Only when there is none to be had it gets a placeholder.
 */
static int
acquire(struct lent *l, bool started, struct startup *startup)
{
	struct wish wish = {.site = {.file = program_invocation_short_name}}, now;
	PGconn *conn = NULL;
	int r = lease_wish(l->use.pool, l->wanted->timeout_ms, &wish);

	if (r != 0)
		return r;
	wish.has_other_way = fallback_is_allowed();
	now = wish;
	now.startup = startup;
	if (started) {
		now.deadline = now.start;
		now.pool_timeout = false;
		now.is_look = true;
	}
	r = loose_acquire(l->use.pool, &now, &l->lease, &conn);
	l->conn = conn;
	if (!started || r != PGLEASE_ETIMEOUT)
		return r;
	r = placeholder_start(l->lib, &l->use, &wish, &l->placeholder, &conn);
	l->conn = conn;
	if (r == 0)
		l->state = LENT_PENDING;
	return r;
}

/* A lease, in l. 0, or a code; PGLEASE_ENOPOOL: no pool stands for it. */
static int
lease(struct lent *l, bool started, struct startup *startup)
{
	int r = PGLEASE_ENOPOOL;

	/* The library attaches again by itself; but the next broker may have other pools for the same. */
	for (unsigned i = 0; i < 2 && (r == PGLEASE_ENOPOOL || r == PGLEASE_EGONE); i++) {
		switch (pools_find(l->lib, l->wanted, &l->use)) {
		case POOLS_NONE:
			return PGLEASE_ENOPOOL;
		case POOLS_FAILED:
			return PGLEASE_ENOBROKER;
		case POOLS_FOUND:
			break;
		}
		r = acquire(l, started, startup);
		if (r == 0 && l->state != LENT_PENDING && !pools_is_meant(&l->use, &l->lease)) {
			/* Nobody has touched the session but for the settings that go with a reset. */
			(void)!pglease_release_as(&l->lease, PGLEASE_SESSION_DIRTY);
			pools_changed();
			r = error_set(PGLEASE_EGONE, "the pool has been changed by a reload meanwhile");
		} else if (r == PGLEASE_ENOPOOL || r == PGLEASE_EGONE)
			pools_gone(l->lib, &l->use);
		if (r != 0)
			pools_done(&l->use);
	}
	return r;
}

/* Its end, whatever has become of it. */
static void
give_up(struct lent *l)
{
	if (l->state == LENT_PENDING) {
		placeholder_free(l->placeholder);
		pools_done(&l->use);
		l->state = LENT_REFUSED;
	}
	if (l->state == LENT_REFUSED)
		l->lib->PQfinish(l->conn);
	else
		give_back(l);
	wanted_done(l->lib, l->wanted);
}

PGconn *
lent_connect(struct library *lib, struct wanted *wanted, bool started)
{
	struct lent made = {.lib = lib, .wanted = wanted}, *l = &made;
	struct settings settings;
	char why[1024];
	int r;

	if (wanted == NULL)
		return NULL;
	if (wanted->direct != NULL) {
		wanted_done(lib, wanted);
		return NULL;
	}
	settings.lent = l;
	settings.startup.write = settings_write;
	settings.startup.said = STARTUP_UNSAID;
	r = lease(l, started, &settings.startup);
	if (r == PGLEASE_ENOPOOL) {
		wanted_done(lib, wanted);
		return NULL;
	}
	if (r != 0) {
		snprintf(why, sizeof(why), "pglease: %s", pglease_error_message());
		if (!is_final(r) && fallback_is_direct(pglease_error_message())) {
			wanted_done(lib, wanted);
			return NULL;
		}
		return refuse(l, why);
	}
	/* Who cannot be served so is served by the server, which says what is wrong with the settings. */
	if ((l->state != LENT_PENDING && !settings_done(l, settings.startup.said, started)) || !table_add(l)) {
		give_up(l);
		return NULL;
	}
	return l->conn;
}

PostgresPollingStatusType
lent_poll(struct lent *l)
{
	PostgresPollingStatusType polling;
	PGresult *result;
	bool good = true;

	if (l->state == LENT_PENDING) {
		polling = placeholder_poll(l->placeholder, &l->lease);
		if (polling != PGRES_POLLING_OK && polling != PGRES_POLLING_FAILED)
			return polling;
		l->placeholder = NULL;
		l->state = polling == PGRES_POLLING_OK ? LENT_READY : LENT_REFUSED;
		if (polling == PGRES_POLLING_FAILED) {
			pools_done(&l->use);
			return polling;
		}
		if (!settings_send(l))
			return PGRES_POLLING_FAILED;
		return l->state == LENT_SETTING ? PGRES_POLLING_READING : PGRES_POLLING_OK;
	}
	if (l->state == LENT_REFUSED)
		return PGRES_POLLING_FAILED;
	if (l->state != LENT_SETTING)
		return PGRES_POLLING_OK;
	if (!l->lib->PQconsumeInput(l->conn))
		return PGRES_POLLING_FAILED;
	for (;;) {
		if (l->lib->PQisBusy(l->conn))
			return PGRES_POLLING_READING;
		result = l->lib->PQgetResult(l->conn);
		if (result == NULL)
			break;
		good = good && is_good(l->lib, result);
		l->lib->PQclear(result);
	}
	l->state = LENT_READY;
	return good ? PGRES_POLLING_OK : PGRES_POLLING_FAILED;
}

void
lent_finish(struct lent *l)
{
	struct lent gone;

	table_remove(l, &gone);
	give_up(&gone);
}

/* The new session has the program's settings, or what went wrong is the PGconn's to tell. */
static bool
renewed(struct lent *l)
{
	l->state = LENT_READY;
	return l->lib->PQstatus(l->conn) == CONNECTION_OK && settings_apply(l);
}

static bool
is_leased(const struct lent *l)
{
	return l->state != LENT_REFUSED && l->state != LENT_PENDING;
}

void
lent_reset(struct lent *l)
{
	l->lib->PQreset(l->conn);
	if (is_leased(l))
		renewed(l);
}

int
lent_reset_start(struct lent *l)
{
	if (is_leased(l))
		l->state = LENT_RESETTING;
	return l->lib->PQresetStart(l->conn);
}

PostgresPollingStatusType
lent_reset_poll(struct lent *l)
{
	PostgresPollingStatusType polling = l->lib->PQresetPoll(l->conn);

	if (polling == PGRES_POLLING_OK && l->state == LENT_RESETTING && !renewed(l))
		return PGRES_POLLING_FAILED;
	return polling;
}

PGPing
lent_ping(struct library *lib, struct wanted *wanted)
{
	struct pool_use use;
	struct pool_state *state;
	PGPing ping = PQPING_NO_ATTEMPT;

	if (wanted == NULL)
		return ping;
	if (wanted->direct == NULL && pools_find(lib, wanted, &use) == POOLS_FOUND) {
		if (client_pool_state(use.pool, &state) == 0 && !process_is_gone(state->process) &&
		    atomic_load(&state->seg.header->state) == SEGMENT_OPEN &&
		    atomic_load_explicit(&state->seg.header->upstream_down, memory_order_relaxed) == 0)
			ping = PQPING_OK;
		pools_done(&use);
	}
	wanted_done(lib, wanted);
	return ping;
}

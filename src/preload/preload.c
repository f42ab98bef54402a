/* SPDX-License-Identifier: PostgreSQL */
/*
 * libpglease-preload.so: what a program calls instead of libpq's functions of these names (timed.c has the queries). Each
 * finds the libpq that its caller would have got, and either does the thing with a lease or passes the call on, unchanged.
 * Nothing happens when it is loaded.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "adopt.h"
#include "call.h"
#include "fallback.h"
#include "lent.h"

static bool
may_lease(const struct library *lib, bool inner)
{
	return !inner && lib->is_complete && fallback_takes_part();
}

EXPORT PGconn *
PQconnectdb(const char *conninfo)
{
	ENTER;
	PGconn *conn = may_lease(lib, inner) ? lent_connect(lib, wanted_of_conninfo(lib, conninfo), false) : NULL;

	if (conn == NULL)
		conn = lib->PQconnectdb(conninfo);
	leave(lib, inner);
	return conn;
}

EXPORT PGconn *
PQconnectdbParams(const char *const *keywords, const char *const *values, int expand)
{
	ENTER;
	PGconn *conn =
	    may_lease(lib, inner) ? lent_connect(lib, wanted_of_params(lib, keywords, values, expand), false) : NULL;

	if (conn == NULL)
		conn = lib->PQconnectdbParams(keywords, values, expand);
	leave(lib, inner);
	return conn;
}

EXPORT PGconn *
PQsetdbLogin(const char *host, const char *port, const char *options, const char *tty, const char *dbname,
    const char *user, const char *password)
{
	ENTER;
	/* dbname may be a whole connection string, which the others overrule. */
	static const char *const keywords[] = {"dbname", "host", "port", "options", "user", "password", NULL};
	const char *const values[] = {dbname, host, port, options, user, password, NULL};
	PGconn *conn = may_lease(lib, inner) ? lent_connect(lib, wanted_of_params(lib, keywords, values, 1), false) : NULL;

	if (conn == NULL)
		conn = lib->PQsetdbLogin(host, port, options, tty, dbname, user, password);
	leave(lib, inner);
	return conn;
}

EXPORT PGconn *
PQconnectStart(const char *conninfo)
{
	ENTER;
	PGconn *conn = may_lease(lib, inner) ? lent_connect(lib, wanted_of_conninfo(lib, conninfo), true) : NULL;

	if (conn == NULL)
		conn = lib->PQconnectStart(conninfo);
	leave(lib, inner);
	return conn;
}

EXPORT PGconn *
PQconnectStartParams(const char *const *keywords, const char *const *values, int expand)
{
	ENTER;
	PGconn *conn =
	    may_lease(lib, inner) ? lent_connect(lib, wanted_of_params(lib, keywords, values, expand), true) : NULL;

	if (conn == NULL)
		conn = lib->PQconnectStartParams(keywords, values, expand);
	leave(lib, inner);
	return conn;
}

EXPORT PostgresPollingStatusType
PQconnectPoll(PGconn *conn)
{
	ENTER;
	struct lent *lent = inner ? NULL : lent_find(conn);
	PostgresPollingStatusType polling = lent != NULL ? lent_poll(lent) : lib->PQconnectPoll(conn);

	leave(lib, inner);
	return polling;
}

EXPORT PGPing
PQping(const char *conninfo)
{
	ENTER;
	PGPing ping = may_lease(lib, inner) ? lent_ping(lib, wanted_of_conninfo(lib, conninfo)) : PQPING_NO_ATTEMPT;

	if (ping == PQPING_NO_ATTEMPT)
		ping = lib->PQping(conninfo);
	leave(lib, inner);
	return ping;
}

EXPORT PGPing
PQpingParams(const char *const *keywords, const char *const *values, int expand)
{
	ENTER;
	PGPing ping = may_lease(lib, inner) ? lent_ping(lib, wanted_of_params(lib, keywords, values, expand))
					    : PQPING_NO_ATTEMPT;

	if (ping == PQPING_NO_ATTEMPT)
		ping = lib->PQpingParams(keywords, values, expand);
	leave(lib, inner);
	return ping;
}

/*
 * What ends, renews or watches a connection is the program's call also from within libpq: in a notice receiver or an event procedure,
 * where languages run their finalisers. libpq calls these itself only for PGconns that no program has seen. From there it may be one of
 * another libpq than the one that the thread is in.
 */
static struct lent *
enter_lent(const PGconn *conn)
{
	struct lent *lent = lent_find(conn);

	if (lent != NULL)
		library_now = lent->lib;
	return lent;
}

EXPORT void
PQreset(PGconn *conn)
{
	ENTER;
	struct lent *lent = enter_lent(conn);

	if (lent != NULL)
		lent_reset(lent);
	else
		lib->PQreset(conn);
	leave(lib, inner);
}

EXPORT int
PQresetStart(PGconn *conn)
{
	ENTER;
	struct lent *lent = enter_lent(conn);
	int r = lent != NULL ? lent_reset_start(lent) : lib->PQresetStart(conn);

	leave(lib, inner);
	return r;
}

EXPORT PostgresPollingStatusType
PQresetPoll(PGconn *conn)
{
	ENTER;
	struct lent *lent = enter_lent(conn);
	PostgresPollingStatusType polling = lent != NULL ? lent_reset_poll(lent) : lib->PQresetPoll(conn);

	leave(lib, inner);
	return polling;
}

EXPORT void
PQfinish(PGconn *conn)
{
	ENTER;
	struct lent *lent = enter_lent(conn);

	if (lent != NULL)
		lent_finish(lent);
	else
		lib->PQfinish(conn);
	leave(lib, inner);
}

/* A PGconn with an event procedure of the program's ends with its lease. */
EXPORT int
PQregisterEventProc(PGconn *conn, PGEventProc proc, const char *name, void *passThrough)
{
	ENTER;
	const struct lent *lent = enter_lent(conn);
	struct library *own = lent != NULL ? lent->lib : lib;
	struct shell *shell = own->is_complete ? adopt_leased_shell(conn) : NULL;
	int r = own->PQregisterEventProc(conn, proc, name, passThrough);

	if (shell != NULL && r != 0)
		shell->registered = true;
	leave(lib, inner);
	return r;
}

/* What the program asked for, not where the lease has led: psql's \c begins with it. */
EXPORT PQconninfoOption *
PQconninfo(PGconn *conn)
{
	ENTER;
	const struct lent *lent = inner ? NULL : lent_find(conn);
	PQconninfoOption *options = lent != NULL ? lib->PQconndefaults() : lib->PQconninfo(conn);

	for (PQconninfoOption *o = options; lent != NULL && o != NULL && o->keyword != NULL; o++) {
		const char *value = wanted_value(lent->wanted, o->keyword);

		if (value == NULL && strcmp(o->keyword, "dbname") == 0)
			value = lent->wanted->dbname;
		free(o->val);
		o->val = value != NULL ? strdup(value) : NULL;
	}
	leave(lib, inner);
	return options;
}

/* As libpq: "" or NULL for what was not given is its own answer to a PGconn of this kind. */
#define DEFINE_VALUE(function, keyword, otherwise)                                                                  \
	EXPORT char *function(const PGconn *conn)                                                                   \
	{                                                                                                           \
		ENTER;                                                                                              \
		const struct lent *lent = inner ? NULL : lent_find(conn);                                           \
		const char *value = lent != NULL ? wanted_value(lent->wanted, keyword) : lib->function(conn);       \
                                                                                                                    \
		if (lent != NULL && value == NULL)                                                                  \
			value = otherwise;                                                                          \
		leave(lib, inner);                                                                                       \
		return (char *)value;                                                                               \
	}

DEFINE_VALUE(PQdb, "dbname", lent->wanted->dbname)
DEFINE_VALUE(PQuser, "user", NULL)
DEFINE_VALUE(PQpass, "password", "")
DEFINE_VALUE(PQhost, "host", lent->wanted->host != NULL ? lent->wanted->host : "/var/run/postgresql")
DEFINE_VALUE(PQhostaddr, "hostaddr", "")
DEFINE_VALUE(PQport, "port", "5432")
DEFINE_VALUE(PQoptions, "options", "")

/*
 * PHP loads its extensions with RTLD_DEEPBIND, which lets them see their own libpq first, and us never. The call is passed on as
 * a jump, not from here, because dlopen looks at its caller for where to search.
 */
EXPORT __attribute__((optimize("O2"))) void *
dlopen(const char *file, int flags)
{
	static void *(*_Atomic next)(const char *, int);
	void *(*real)(const char *, int) = next;

	if (real == NULL) {
		*(void **)&real = dlsym(RTLD_NEXT, "dlopen");
		next = real;
	}
	if ((flags & RTLD_DEEPBIND) != 0 && file != NULL && fallback_takes_part())
		flags &= ~RTLD_DEEPBIND;
	return real(file, flags);
}

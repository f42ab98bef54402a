/* SPDX-License-Identifier: PostgreSQL */
/*
 * The real libpq of whoever calls: there may be several in one process (a program's own, another in a language's
 * extension), and a PGconn belongs to the one that made it. This library is linked to none of them.
 */
#ifndef PGLEASE_PRELOAD_LIBRARY_H
#define PGLEASE_PRELOAD_LIBRARY_H

#include <libpq-events.h>
#include <libpq-fe.h>
#include <stdbool.h>

/* clang-format off */
/* Those that programs call here instead of there. */
#define LIBRARY_WRAPPED(X) \
	X(PQconnectdb) X(PQconnectdbParams) X(PQsetdbLogin) X(PQconnectStart) X(PQconnectStartParams) \
	X(PQconnectPoll) X(PQping) X(PQpingParams) X(PQreset) X(PQresetStart) X(PQresetPoll) X(PQfinish) \
	X(PQconninfo) X(PQdb) X(PQuser) X(PQpass) X(PQhost) X(PQhostaddr) X(PQport) X(PQoptions) \
	X(PQexec) X(PQexecParams) X(PQprepare) X(PQexecPrepared) X(PQsendQuery) X(PQsendQueryParams) X(PQsendPrepare) \
	X(PQsendQueryPrepared) X(PQgetResult) X(PQregisterEventProc)
/* Those that the lease needs besides. */
#define LIBRARY_USED(X) \
	X(PQclear) X(PQclientEncoding) X(PQcmdStatus) X(PQcmdTuples) X(PQconndefaults) X(PQconninfoFree) X(PQconninfoParse) \
	X(PQconsumeInput) X(PQerrorMessage) X(PQfreemem) X(PQinstanceData) X(PQisBusy) X(PQisnonblocking) \
	X(PQlibVersion) X(PQmakeEmptyPGresult) X(PQnotifies) X(PQntuples) X(PQparameterStatus) \
	X(PQpipelineStatus) X(PQresultMemorySize) X(PQresultStatus) \
	X(PQsetErrorContextVisibility) X(PQsetErrorVerbosity) X(PQsetInstanceData) X(PQsetNoticeProcessor) \
	X(PQsetNoticeReceiver) X(PQsetnonblocking) X(PQsocket) X(PQstatus) X(PQtransactionStatus) X(PQuntrace)
/* clang-format on */
#define LIBRARY_FUNCTIONS(X) LIBRARY_WRAPPED(X) LIBRARY_USED(X)

struct attachment;

struct library {
	struct library *next;
	void *handle;      /* keeps it loaded */
	bool is_complete;  /* has all functions that a lease needs; else its connections are its own matter */
	struct attachment *attachment; /* pools.c */
#define LIBRARY_MEMBER(name) __typeof__(name) *name;
	LIBRARY_FUNCTIONS(LIBRARY_MEMBER)
#undef LIBRARY_MEMBER
};

/*
 * The library that the calling thread is in, on behalf of this one: its own calls of what we wrap (PQconnectdb calls
 * PQconnectStart) are not the program's. NULL: the thread is in the program.
 */
extern _Thread_local struct library *library_now;

/* Of the code that this return address lies in; NULL when there is none. */
struct library *library_of(const void *caller);

#endif

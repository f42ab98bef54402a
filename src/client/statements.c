/* SPDX-License-Identifier: PostgreSQL */
/*
 * pglease_exec_cached: PQexecParams by statements that stay prepared in the server's sessions. What a session
 * has is known in the slot's table (src/shm/statements.h), which the lessee may write; the statements' names
 * are made here.
 *
 * Every way for table and session to part ends in an error of the server's that is recognised here, before
 * the statement's execution has begun. Outside a transaction block it is put right unseen. Inside one the
 * transaction has failed, which nothing can hide: the error is the caller's, and the table is put right, so
 * that the next transaction works.
 */
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "adopt.h"
#include "client_priv.h"
#include "lease.h"
#include "timing.h"
#include "statements.h"

#define MAX_PARAMS 65535 /* PQ_QUERY_PARAM_MAX_LIMIT, which older headers of libpq do not give */
#define NAME "pglease_"
#define NAME_SIZE sizeof(NAME "0123456789abcdef0123456789abcdef")
#define NUMBER_PIECES 7

struct call {
	PGconn *conn;
	const char *command;
	int n;
	const Oid *types;
	const char *const *values;
	const int *lengths, *formats;
	int result_format;

	const struct shell *shell;
	struct segment *seg;
	uint32_t slot;
	bool in_block; /* in a transaction block, which a failure ends */
	struct statement_ref ref;
	char name[NAME_SIZE];
};

static PGresult *
execute_plain(const struct call *c)
{
	return PQexecParams(
	    c->conn, c->command, c->n, c->types, c->values, c->lengths, c->formats, c->result_format);
}

static PGresult *
execute_prepared(const struct call *c)
{
	return PQexecPrepared(c->conn, c->name, c->n, c->values, c->lengths, c->formats, c->result_format);
}

/* Fills in what belongs to the lease. False if the call is one for PQexecParams. */
static bool
is_cacheable(struct call *c)
{
	struct shell *shell = adopt_leased_shell(c->conn);
	PGTransactionStatusType status;

	if (shell == NULL || shell->owner->seg.nstatements == 0)
		return false;
	c->shell = shell;
	c->seg = &shell->owner->seg;
	c->slot = shell->slot;
	/* ACTIVE: an earlier command's results come first, and nobody knows what state they leave. */
	status = PQtransactionStatus(c->conn);
	c->in_block = status == PQTRANS_INTRANS;
	return (status == PQTRANS_IDLE || status == PQTRANS_INTRANS) &&
	       PQpipelineStatus(c->conn) == PQ_PIPELINE_OFF && c->command != NULL && c->n >= 0 && c->n <= MAX_PARAMS;
}

/* Types at the end that are left to the server are as good as none. */
static int
count_types(const struct call *c)
{
	int n = c->types != NULL ? c->n : 0;

	while (n > 0 && c->types[n - 1] == 0)
		n--;
	return n;
}

struct piece {
	const void *at;
	size_t size;
};

/* The same number either way: in one go, what most statements are short enough for, there is no state to be set up. */
static XXH128_hash_t
hash_pieces(const struct piece piece[NUMBER_PIECES], uint64_t seed)
{
	char all[XXH3_MIDSIZE_MAX];
	XXH3_state_t state;
	size_t size = 0;

	for (unsigned i = 0; i < NUMBER_PIECES; i++)
		size += piece[i].size;
	if (size > sizeof(all)) {
		XXH3_INITSTATE(&state); /* the secret of a seed is made only if the state has another one yet */
		XXH3_128bits_reset_withSeed(&state, seed);
		for (unsigned i = 0; i < NUMBER_PIECES; i++)
			XXH3_128bits_update(&state, piece[i].at, piece[i].size);
		return XXH3_128bits_digest(&state);
	}
	size = 0;
	for (unsigned i = 0; i < NUMBER_PIECES; i++) {
		if (piece[i].size != 0)
			memcpy(all + size, piece[i].at, piece[i].size);
		size += piece[i].size;
	}
	return XXH3_128bits_withSeed(all, size, seed);
}

/*
 * The statement's number: a hash of all that the server makes of it when it reads it, as far as libpq knows
 * it. Literals depend on the last four parameters: not to name a statement by them would hand one lessee
 * another's time zone.
 *
 * 128 bits are enough not to compare texts: among a million statements two are alike with a chance of 10^-27.
 * XXH3 does not withstand who looks for a collision on purpose and knows the seed, the instance's random
 * number; but whoever chooses a statement's text can have the session execute anything, and need not trick it
 * into that.
 */
static void
number(const struct call *c, uint64_t *ret_hi, uint64_t *ret_lo)
{
	static const char *const parameters[] = {
	    "standard_conforming_strings", "DateStyle", "IntervalStyle", "TimeZone"};
	int32_t facts[2] = {PQclientEncoding(c->conn), count_types(c)};
	struct piece piece[NUMBER_PIECES] = {
	    {c->command, strlen(c->command) + 1},
	    {c->types, (size_t)facts[1] * sizeof(*c->types)},
	    {facts, sizeof(facts)},
	};
	XXH128_hash_t hash;

	for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++) {
		const char *value = PQparameterStatus(c->conn, parameters[i]);

		if (value == NULL) /* not a server that reports it */
			value = "";
		piece[3 + i] = (struct piece){value, strlen(value) + 1};
	}
	hash = hash_pieces(piece, c->seg->header->instance_id);
	*ret_hi = hash.high64;
	*ret_lo = hash.low64;
}

static char *
write_hex(uint64_t number, char *to)
{
	for (unsigned i = 0; i < 16; i++, number <<= 4)
		*to++ = "0123456789abcdef"[number >> 60];
	return to;
}

/* By hand: snprintf took a sixth of all that the execution of a known statement takes in a process, libpq's part included. */
static void
name(const struct statement_ref *ref, char buf[NAME_SIZE])
{
	memcpy(buf, NAME, sizeof(NAME) - 1);
	*write_hex(ref->lo, write_hex(ref->hi, buf + sizeof(NAME) - 1)) = '\0';
}

static bool
has_sqlstate(const PGresult *result, const char *sqlstate)
{
	const char *found = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return found != NULL && strcmp(found, sqlstate) == 0;
}

/* The session has none of this name. Others, executed by SQL, may be missing with the same code. */
static bool
is_missing(const PGresult *result, const char *statement)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	return has_sqlstate(result, "26000") && message != NULL && strstr(message, statement) != NULL;
}

/* Whether the server was left to say what type a parameter has: it said so once, when it was prepared. */
static bool
are_inferred(const struct call *c)
{
	int n = 0;

	while (n < c->n && c->types != NULL && c->types[n] != 0)
		n++;
	return n < c->n;
}

static bool
has_one_of(const PGresult *result, const char *const sqlstates[])
{
	for (size_t i = 0; sqlstates[i] != NULL; i++)
		if (has_sqlstate(result, sqlstates[i]))
			return true;
	return false;
}

/*
 * A change of the tables has made the statement useless, and its execution has not begun: "cached plan must
 * not change result type", or, with inferred types, operators and conversions that are not there. The same
 * from within a function or procedure, which may have committed something, has a context. (The messages are
 * in the server's language.)
 */
static bool
is_outdated(const struct call *c, const PGresult *result)
{
	static const char *const analysis[] = {"42725", "42804", "42846", "42883", "42P08", "42P18", NULL};
	const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);

	if (PQresultErrorField(result, PG_DIAG_CONTEXT) != NULL)
		return false;
	return (has_sqlstate(result, "0A000") && function != NULL &&
		   strcmp(function, "RevalidateCachedQuery") == 0) ||
	       (are_inferred(c) && has_one_of(result, analysis));
}

/* A value that the inferred type does not take, though another might; or, more often, one that is wrong. */
static bool
may_be_outdated(const struct call *c, const PGresult *result)
{
	static const char *const values[] = {"08P01", "22003", "22007", "22008", "22P02", "22P03", NULL};

	return are_inferred(c) && has_one_of(result, values);
}

/* It was not there. If there was no reason to expect that, so may be others. */
static void
lose(const struct call *c, const struct statement_ref *ref)
{
	statements_remove(c->seg, c->slot, ref);
	if (ref->state != STATEMENT_DOUBTED)
		statements_doubt(c->seg, c->slot);
}

/* What the caller gets when a statement has to go: NULL once it is gone, else the server's refusal. */
static PGresult *
deallocate(const struct call *c, const struct statement_ref *ref)
{
	char command[sizeof("DEALLOCATE ") + NAME_SIZE] = "DEALLOCATE ";
	PGresult *result;
	bool missing;

	name(ref, command + strlen(command));
	result = PQexec(c->conn, command);
	missing = is_missing(result, command + strlen("DEALLOCATE "));
	if (PQresultStatus(result) != PGRES_COMMAND_OK && !missing)
		return result;
	if (missing)
		lose(c, ref);
	else
		statements_remove(c->seg, c->slot, ref);
	if (missing && c->in_block)
		return result;
	PQclear(result);
	return NULL;
}

static PGresult *
prepare_and_execute(const struct call *c)
{
	struct statement_ref victim;
	PGresult *result;

	if (statements_victim(c->seg, c->slot, &victim)) {
		/* Never at the risk of the caller's transaction. */
		if (c->in_block && victim.state == STATEMENT_DOUBTED)
			return execute_plain(c);
		result = deallocate(c, &victim);
		if (result != NULL)
			return result;
		lease_count(c->shell->owner, c->shell, COUNTER_STATEMENTS_EVICTED, 1);
	}
	result = PQprepare(c->conn, c->name, c->command, count_types(c), c->types);
	if (PQresultStatus(result) == PGRES_COMMAND_OK) {
		statements_add(c->seg, c->slot, &c->ref);
		lease_count(c->shell->owner, c->shell, COUNTER_STATEMENTS_PREPARED, 1);
	} else if (has_sqlstate(result, "42P05")) { /* it is there: the table had lost it */
		statements_add(c->seg, c->slot, &c->ref);
		if (c->in_block)
			return result;
	} else {
		return result;
	}
	PQclear(result);
	return execute_prepared(c);
}

static PGresult *
reuse(const struct call *c)
{
	PGresult *result = execute_prepared(c), *refusal;
	bool failed = PQresultStatus(result) == PGRES_FATAL_ERROR; /* else there is nothing to be recognised */

	if (failed && is_missing(result, c->name)) {
		lose(c, &c->ref);
		if (c->in_block)
			return result;
		PQclear(result);
		return prepare_and_execute(c);
	}
	lease_count(c->shell->owner, c->shell, COUNTER_STATEMENTS_REUSED, 1);
	if (failed && is_outdated(c, result)) {
		if (c->in_block) {
			statements_set_stale(c->seg, c->slot, &c->ref);
			return result;
		}
		PQclear(result);
		refusal = deallocate(c, &c->ref);
		return refusal != NULL ? refusal : prepare_and_execute(c);
	}
	if (failed && may_be_outdated(c, result)) /* not executed again: nobody knows what it has done */
		statements_set_stale(c->seg, c->slot, &c->ref);
	else
		statements_used(c->seg, c->slot, &c->ref);
	return result;
}

static PGresult *
exec_cached(struct call *c)
{
	uint64_t hi, lo;
	PGresult *result;

	if (!is_cacheable(c))
		return execute_plain(c);
	number(c, &hi, &lo);
	statements_find(c->seg, c->slot, hi, lo, &c->ref);
	name(&c->ref, c->name);
	switch (c->ref.state) {
	case STATEMENT_KNOWN:
		return reuse(c);
	case STATEMENT_DOUBTED:
		return c->in_block ? execute_plain(c) : reuse(c);
	case STATEMENT_STALE:
		result = deallocate(c, &c->ref);
		if (result != NULL)
			return result;
		break;
	case STATEMENT_UNKNOWN:
		break;
	}
	return prepare_and_execute(c);
}

PGresult *
pglease_exec_cached(PGconn *conn, const char *command, int nParams, const Oid *paramTypes,
    const char *const *paramValues, const int *paramLengths, const int *paramFormats, int resultFormat)
{
	struct call c = {
	    .conn = conn,
	    .command = command,
	    .n = nParams,
	    .types = paramTypes,
	    .values = paramValues,
	    .lengths = paramLengths,
	    .formats = paramFormats,
	    .result_format = resultFormat,
	};
	struct timing t = timing_begin(conn);
	PGresult *result = exec_cached(&c);

	timing_end(&t, result);
	return result;
}

/* SPDX-License-Identifier: PostgreSQL */
/*
 * A session at its baseline: looking at what a lessee finds, resetting what another left, and settling what this one
 * leaves. Any doubt costs the connection, never the next lessee: these functions only say so (PGLEASE_EBROKEN); the
 * caller returns the slot to the broker.
 */
#ifndef PGLEASE_CLIENT_RESET_H
#define PGLEASE_CLIENT_RESET_H

#include "client_priv.h"
#include "resets.h"

/*
 * How long a parameter that the server has changed may go unnoticed on a session in use (doc/design.md): what a PGconn
 * believes is compared with the baseline, and the server asked for it when somebody may not have told what it heard, at
 * most this often. What escaping depends on is compared at each release.
 */
#define RESET_CHECK_NS UINT64_C(100000000)

/*
 * The validation peek: whether the stream is empty and alive. For a session that is this client's own (`own`), bytes may
 * be its notifications, and libpq reads them; anybody else's bytes are doubt.
 */
int reset_peek(PGconn *conn, bool own);
/*
 * What a lessee wants a session at its baseline to be told before its application has it: SET and SELECT, in one Query. They go with
 * the reset that it sends or behind the one that it finds sent, and cost no round trip of their own (doc/protocol.md, D1).
 */
#define STARTUP_SQL 2048
enum startup_said {
	STARTUP_UNSAID,
	STARTUP_SAID,
	STARTUP_REFUSED, /* the server does not take them */
};
struct startup {
	/* Writes them to `sql`. The length; 0: none are needed; STARTUP_SQL or more: no room, they are left to the caller. */
	size_t (*write)(struct startup *startup, const char *baseline);
	char sql[STARTUP_SQL]; /* without a zero at the end */
	size_t size;
	struct resets_told told; /* what the server said to them */
	enum startup_said said;
};

/*
 * D1: the reset, and a question after the parameters of the baseline if `ask`, raw, on the shell's socket; its PGconn knows
 * nothing of it. The session must be idle outside a transaction, its stream empty but for what the server says of itself.
 * PGLEASE_EBROKEN when it was not taken whole.
 */
int reset_send(
    struct pool_state *state, uint32_t slot, const struct shell *shell, enum reset_kind kind, bool ask);
/* The same with these statements behind. `owed`: the reset has been sent before. */
int reset_send_with(struct pool_state *state, uint32_t slot, const struct shell *shell, bool owed, enum reset_kind kind,
    bool ask, const struct startup *startup);
/* Whether it is time to ask the server for its parameters, too. */
bool reset_is_unverified(const struct pool_state *state, uint32_t slot, uint64_t now);
/*
 * D3 and D4: the answer to what was sent last to this session, before any PGconn sees the socket. PGLEASE_ETIMEOUT: nothing
 * of it has come by the deadline; PGLEASE_EBROKEN: anything unexpected. After reset_send_with: that to
 * `startup`, too; else NULL. `cancelled`: true ends the wait within a tenth of a second, as the deadline would; NULL: nothing does.
 */
int reset_read(struct pool_state *state, uint32_t slot, const struct shell *shell, uint64_t deadline,
    const _Atomic bool *cancelled, struct startup *startup);
/* Statements without results, through libpq, within the pool's reset_timeout. PGLEASE_EBROKEN when one fails. */
int reset_run(const struct pool_state *state, PGconn *conn, const char *sql);
/* What PQescape* depends on; compared at each release. */
static inline bool
reset_is_conforming(const PGconn *conn)
{
	const char *value = PQparameterStatus(conn, "standard_conforming_strings");

	return value != NULL && value[0] == 'o' && value[1] == 'n' && value[2] == '\0';
}
static inline bool
reset_is_escaping_off(const struct shell *shell)
{
	return PQclientEncoding(shell->conn) != shell->encoding || reset_is_conforming(shell->conn) != shell->conforming;
}
/* After an adoption: what reset_off_baseline compares with. */
void reset_remember(const struct pool_state *state, uint32_t slot, struct shell *shell);
/*
 * For struct slot.off_baseline: the parameters that the shell's PGconn believes to be off the slot's baseline. `whole`: all
 * that are reported; else only those that escaping depends on.
 */
uint64_t reset_off_baseline(const struct pool_state *state, uint32_t slot, const struct shell *shell, bool whole);
/*
 * Makes the PGconn believe what the server would have told it, had it read the answers: the baseline, but for what was told since
 * (NULL: nothing). 0, or PGLEASE_EBROKEN: it does not.
 */
int reset_tell(const struct pool_state *state, uint32_t slot, const struct shell *shell, const struct resets_told *told);
/* At release: what the user set on the PGconn is libpq's default again, so that nothing of his is called later. */
static inline void
reset_conn(const struct shell *shell)
{
	PGnotify *notify;

	PQsetNoticeReceiver(shell->conn, shell->notice_receiver, NULL);
	PQsetNoticeProcessor(shell->conn, shell->notice_processor, NULL);
	PQsetErrorVerbosity(shell->conn, PQERRORS_DEFAULT);
	PQsetErrorContextVisibility(shell->conn, PQSHOW_CONTEXT_ERRORS);
	PQuntrace(shell->conn);
	while ((notify = PQnotifies(shell->conn)) != NULL)
		PQfreemem(notify);
}

/*
 * At release: 0 when the session is idle and outside a transaction, after a rollback if need be (*ret_rolled_back), with the
 * PGconn back in blocking mode. PGLEASE_EBROKEN otherwise.
 */
int reset_settle(struct pool_state *state, PGconn *conn, bool *ret_rolled_back);

#endif

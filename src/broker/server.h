/* SPDX-License-Identifier: PostgreSQL */
/*
 * One slot's connection through its states (pool.h). Everything that changes a server's state is here; connect.c and
 * reset.c do the talking in between and come back through server_connected, server_connect_failed and server_was_reset.
 */
#ifndef PGLEASE_BROKER_SERVER_H
#define PGLEASE_BROKER_SERVER_H

#include "handover.h"
#include "pool.h"

const char *server_state_name(enum server_state state);
/* Whether the slot's word is not the broker's own: LENT, RENEWING, VOID. */
bool server_is_out(const struct server *server);
/* Whether it has a connection that its present generation names. */
bool server_has_connection(const struct server *server);

/* NONE -> CONNECTING (S1). False when the slot cannot be had. */
bool server_open(struct server *server);
void server_connected(struct server *server);
/* Of the server's error, or SQLSTATE_NONE (sqlstate.h). */
void server_connect_failed(struct server *server, const char *sqlstate, const char *error);

/* Out: takes the word, from exactly *w (S5, S12, S13, S14); then the caller must lend, reset, close or end it. */
bool server_take(struct server *server, uint64_t *w);
/* Out: takes the word whatever it is: for what clients may have scribbled. */
bool server_seize(struct server *server);

/* Taken: gives it to the oldest waiter or makes it idle (S3, S4). */
void server_lend(struct server *server);
/*
 * Taken -> RESETTING: of a session that was returned in doubt, or (`owed`) with a reset whose answer nobody has read. Then it
 * is lent clean, or closed.
 */
void server_reset(struct server *server, bool owed);
/*
 * Taken -> RESETTING: of a session that has been idle since then and holds what `session` says (0, SLOT_DIRTY, SLOT_OWED); a
 * clean one is asked an empty query. Then it is lent clean, or closed.
 */
void server_refresh(struct server *server, unsigned session, uint64_t since, bool keepalive);
/* LENT and IDLE: since when nobody has used it; keepalives and the broker's resets are no use. */
uint64_t server_idle_since(const struct server *server);
void server_was_reset(struct server *server, const char *error);
/* Taken -> NONE (S2). */
void server_close(struct server *server, enum broker_counter cause);
/*
 * Taken -> ENDING: the connection is fenced off (shutdown) and what runs on it is cancelled; closed when the cancel
 * has returned. For connections that others may still use.
 */
void server_end(struct server *server, enum broker_counter cause);
/*
 * The same for a lessee that is dead, which needs no fence: the backend is told the end of its input, and closed as soon as it has
 * ended; one that is idle does so long before a cancel returns.
 */
void server_end_of_dead(struct server *server, enum broker_counter cause);

/* Out and RETURNED: S14, unless a cancel of it is in flight. */
void server_settle(struct server *server, uint64_t w);
/* The server has hung up. */
void server_hung_up(struct server *server);
/* F2, of the lease that `w` is: its lessee returns the slot to the broker. */
void server_wants_back(struct server *server, uint64_t w);
/* The same, for a lease that is over age. */
void server_retire(struct server *server, uint64_t w);

/* The pool drains: closes the connection, or asks its lessee for it (F2). */
void server_drain(struct server *server);

/* Its connection, if it has one, serves the present lease at most (F2); one that is being opened is given up. */
void server_outdate(struct server *server);

/* Nothing is under way on it that a handover would have to wait for. */
bool server_is_quiet(const struct server *server);
/* What is under way on it ends as at its time-out; a connection that cannot be handed over goes (H3). */
void server_give_up(struct server *server);
/* Of one that is given up or quiet. */
void server_hand_over(struct server *server, struct handover *to);
/* Of one that is NONE. 0, or -1 with log_refuse(). */
int server_take_over(struct server *server, struct handover *from);

/* A cancel of this generation starts or has returned. */
void server_cancel_begin(struct server *server);
void server_cancel_done(struct server *server);
/* ns: a cancel that has not returned by then is not waited for; its session is given up. */
#define SERVER_CANCEL_LIMIT UINT64_C(10000000000)
bool server_cancel_is_late(const struct server *server, uint64_t now);

#endif

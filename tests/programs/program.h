/* SPDX-License-Identifier: PostgreSQL */
/* What the scenarios of client.c are made of. Whatever is not as it should be ends the program with 1, and says what. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdbool.h>

#include <libpq-fe.h>

#define WAIT_MS 20000

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...);

/* The same, if it is connected. */
PGconn *good(PGconn *conn);
/* The first field, in one of a few buffers of the thread's. */
const char *ask(PGconn *conn, const char *sql);
void expect(PGconn *conn, const char *sql, const char *expected);
void expect_text(const char *what, const char *got, const char *expected);
/* As the manual says it is done: first writing, and the socket asked for anew each time. */
PostgresPollingStatusType poll_through(PGconn *conn, PostgresPollingStatusType (*step)(PGconn *));
/* Of PQconnectStart(): connected. */
PGconn *polled(PGconn *conn);
/* A query is cancelled, and the connection is as good as before. */
void cancels(PGconn *conn);
/* Whether it is one of the broker's: its sessions have a default of their own for lock_timeout. */
bool is_leased(PGconn *conn);

/* client_many.c: scenarios of several connections at a time, or with others. */
void loop(void);
void waiting(void);
void threads(void);
void forks(void);

/* client_ends.c: scenarios in which something ends: the process, the session, the broker. */
void vanishes(void);
void late(void);
void registers(void);
void nested(void);
void survives(void);

#endif

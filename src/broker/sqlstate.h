/* SPDX-License-Identifier: PostgreSQL */
/*
 * The SQLSTATE of a connection that failed. libpq gives it in no other way than in the text of an error, when its
 * verbosity is PQERRORS_VERBOSE.
 */
#ifndef PGLEASE_BROKER_SQLSTATE_H
#define PGLEASE_BROKER_SQLSTATE_H

#define SQLSTATE_SIZE 6
#define SQLSTATE_NONE "08001" /* sqlclient_unable_to_establish_sqlconnection: no server has said anything */

/*
 * Takes what PQERRORS_VERBOSE adds (SQLSTATEs, lines with a source file's place) out of a text. The last SQLSTATE goes
 * to ret_sqlstate, SQLSTATE_NONE if there is none.
 */
void sqlstate_take(char *text, char ret_sqlstate[SQLSTATE_SIZE]);

#endif

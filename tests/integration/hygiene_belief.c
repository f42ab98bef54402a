/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a PGconn believes of its session, and what follows from a wrong belief: a text that PQescape* made
 * harmless by the rules that the PGconn believes in is not harmless to a session that has other ones.
 */
#include <stdio.h>
#include <string.h>

#include "hygiene.h"
#include "it.h"

#define INJECTION "; insert into injected values (1); --"

/*
 * Dangerous if the PGconn believes standard_conforming_strings to be on, and they are off: the doubled
 * quote is one after a backslash, and one that ends the string.
 */
#define BACKSLASH_QUOTE "\\'" INJECTION
/*
 * Dangerous if either of PGconn and session is in GBK, and the other in UTF8. In UTF8 it is a character of
 * three bytes and a backslash; in GBK two characters, of which the second one has the backslash in it. So
 * one of the two sees a backslash where the other one does not. The backslash at the end makes
 * PQescapeLiteral use the syntax in which a backslash has a meaning. (PostgreSQL refuses what comes of it
 * when the session is in GBK: backslash_quote. In UTF8 it sees nothing wrong.)
 */
#define SWALLOWED_BACKSLASH "\xe4\xb8\xad\\'" INJECTION "\\"

enum way { STRING, LITERAL, BYTEA, WAYS };

static const char *const way_name[WAYS] = {"PQescapeStringConn", "PQescapeLiteral", "PQescapeByteaConn"};

/* The query that gives the text back, as an application would build it. */
static void
build(PGconn *conn, enum way way, const char *text, char *sql, size_t size)
{
	size_t n = strlen(text), length;
	char escaped[256];
	unsigned char *bytes;
	char *literal;

	switch (way) {
	case STRING:
		PQescapeStringConn(conn, escaped, text, n, NULL);
		snprintf(sql, size, "select '%s'", escaped);
		break;
	case LITERAL:
		literal = PQescapeLiteral(conn, text, n);
		snprintf(sql, size, "select %s", literal != NULL ? literal : "''");
		PQfreemem(literal);
		break;
	default:
		bytes = PQescapeByteaConn(conn, (const unsigned char *)text, n, &length);
		snprintf(sql, size, "select '%s'::bytea", (char *)bytes);
		PQfreemem(bytes);
		break;
	}
}

static bool
same_text(const char *got, enum way way, const char *text)
{
	unsigned char *bytes;
	size_t n;
	bool same;

	if (way != BYTEA)
		return strcmp(got, text) == 0;
	bytes = PQunescapeBytea((const unsigned char *)got, &n);
	same = bytes != NULL && n == strlen(text) && memcmp(bytes, text, n) == 0;
	PQfreemem(bytes);
	return same;
}

/* NULL, or what is wrong with a text that is escaped in this way. */
static const char *
try(PGconn *conn, enum way way, const char *text)
{
	const char *found = NULL;
	char sql[1024];
	PGresult *result;

	build(conn, way, text, sql, sizeof(sql));
	result = PQexec(conn, sql);
	if (hygiene_differs(conn, "select count(*) from injected", "0") != NULL)
		found = hygiene_found("INJECTED: a text escaped by %s was executed", way_name[way]);
	else if (PQresultStatus(result) != PGRES_TUPLES_OK)
		found =
		    hygiene_found("a text escaped by %s: %s", way_name[way], PQresultErrorMessage(result));
	else if (!same_text(PQgetvalue(result, 0, 0), way, text))
		found = hygiene_found("a text escaped by %s is another one to the session", way_name[way]);
	PQclear(result);
	return found;
}

const char *
hygiene_escapes_badly(PGconn *conn)
{
	static const char *const texts[] = {BACKSLASH_QUOTE, SWALLOWED_BACKSLASH};
	/* The server warns of backslashes in plain strings. */
	PQnoticeProcessor processor = PQsetNoticeProcessor(conn, hygiene_quiet, NULL);
	const char *found = NULL;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		for (enum way way = 0; way < WAYS && found == NULL; way++)
			found = try(conn, way, texts[i]);
	PQsetNoticeProcessor(conn, processor, NULL);
	if (found != NULL)
		PQclear(PQexec(conn, "truncate injected"));
	return found;
}

#define OF_SESSION "select coalesce(string_agg(name, ' '), '') from pg_settings where source = 'session'"

/* clang-format off */
const struct hygiene_case hygiene_belief[] = {
    {"client_encoding", HYGIENE_BELIEF,
        .sql = "set client_encoding = 'LATIN1'",
        .asks = OF_SESSION, .answer = "", .find = hygiene_disagrees},
    {"standard_conforming_strings", HYGIENE_BELIEF,
        .sql = "set standard_conforming_strings = off",
        .asks = OF_SESSION, .answer = "", .find = hygiene_disagrees},
    {"time zone", HYGIENE_BELIEF,
        .sql = "set timezone = 'Asia/Tokyo'",
        .asks = OF_SESSION, .answer = "", .find = hygiene_disagrees},
    {"DateStyle and IntervalStyle", HYGIENE_BELIEF,
        .sql = "set datestyle = 'German'; set intervalstyle = 'sql_standard'",
        .asks = OF_SESSION, .answer = "", .find = hygiene_disagrees},
    {"application_name", HYGIENE_BELIEF,
        .sql = "set application_name = 'mine'",
        .asks = OF_SESSION, .answer = "", .find = hygiene_disagrees},
    {"read only by default", HYGIENE_BELIEF,
        .sql = "set default_transaction_read_only = on",
        .asks = OF_SESSION, .answer = "", .find = hygiene_disagrees},
    {"session authorization, as reported", HYGIENE_BELIEF,
        .sql = "set session authorization other",
        .asks = "select session_user", .answer = "postgres", .find = hygiene_disagrees},
    {"escaping without standard_conforming_strings", HYGIENE_BELIEF,
        .sql = "set standard_conforming_strings = off",
        .find = hygiene_escapes_badly, .shows = "INJECTED", .shows_stale = "another one"},
    {"escaping in another encoding", HYGIENE_BELIEF,
        .sql = "set client_encoding = 'GBK'",
        .find = hygiene_escapes_badly, .shows = "unsafe use of \\'", .shows_stale = "INJECTED"},
    {NULL},
};
/* clang-format on */

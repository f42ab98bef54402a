/* SPDX-License-Identifier: PostgreSQL */
/* What libpq's verbose errors say, taken apart. */
#include <stdio.h>
#include <string.h>

#include "sqlstate.h"
#include "unit.h"

static void
assert_taken(const char *given, const char *text, const char *sqlstate)
{
	char state[SQLSTATE_SIZE], buf[512];

	snprintf(buf, sizeof(buf), "%s", given);
	sqlstate_take(buf, state);
	ck_assert_str_eq(buf, text);
	ck_assert_str_eq(state, sqlstate);
}

START_TEST(servers_errors)
{
	assert_taken("connection to server on socket \"/tmp/.s.PGSQL.5432\" failed: FATAL:  28000: role \"x\" does not exist\n"
		     "LOCATION:  InitializeSessionUserId, miscinit.c:738\n",
	    "connection to server on socket \"/tmp/.s.PGSQL.5432\" failed: FATAL:  role \"x\" does not exist\n", "28000");
	assert_taken("FATAL:  57P03: the database system is starting up\nLOCATION:  ProcessStartupPacket, postmaster.c:2358",
	    "FATAL:  the database system is starting up\n", "57P03");
	/* Another language; a detail and a hint. */
	assert_taken("ВАЖНО:  3D000: нет базы\nDETAIL:  d\nLOCATION:  f, p.c:1\nHINT:  h\n", "ВАЖНО:  нет базы\nDETAIL:  d\nHINT:  h\n",
	    "3D000");
	/* Two hosts: the last one's word counts. */
	assert_taken("a: FATAL:  28P01: no\nLOCATION:  f, p.c:1\nb: FATAL:  53300: too many\nLOCATION:  f, p.c:2\n",
	    "a: FATAL:  no\nb: FATAL:  too many\n", "53300");
}
END_TEST

START_TEST(other_texts)
{
	static const char *const texts[] = {"", "L", ":  ", "FATAL:  ", "FATAL:  28000", "FATAL:  28000:", "FATAL: 28000: one blank",
	    "FATAL:  28a00: small", "FATAL:  2800: four", "FATAL:  280000: six", "28000: at the start",
	    "connection refused\n\tIs the server running?\n", "in a line LOCATION:  x"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_taken(texts[i], texts[i], SQLSTATE_NONE);
}
END_TEST

UNIT_MAIN("sqlstate", servers_errors, other_texts)

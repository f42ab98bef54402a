/* SPDX-License-Identifier: PostgreSQL */
/* A reload gives a pool another user: a program that knows only libpq, and runs all the time, gets no lease for what the pool does not stand for any more. */
#include <stdio.h>

#include "program.h"
#include "restart.h"

#define MARK "lock_timeout = 77s\n" /* by which a session of the pool is known */
#define WHO "select current_user || ' ' || current_setting('lock_timeout');\n"

static pglease_pool *pool;

/* In the environment's folder. */
static const char *
in_folder(const char *name)
{
	static char paths[4][512];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", pglease_test_folder(it_env), name);
	return path;
}

START_TEST(what_matches_follows_the_reload)
{
	char role[16], app[1024];
	pglease_stats stats;
	FILE *script;

	restart_prepare();
	it_start(1, 2, MARK);
	program_environment();
	ck_assert_int_eq(pglease_test_sql(it_env, "create role someone login; select 'someone'", role, sizeof(role)), 0);
	pool = it_attach();
	snprintf(app, sizeof(app), "[pool app]\nconninfo = %s user=someone\n" MARK, pglease_test_conninfo(it_env));
	restart_configure(NULL, app);
	script = fopen(in_folder("script"), "we");
	ck_assert_ptr_nonnull(script);
	/* The program has asked the broker just now what its pools stand for, and would not ask again for ten seconds. */
	fprintf(script, WHO "\\c\n" WHO "\\! %s reload >%s\n" "\\c\n" WHO "\\c - someone\n" WHO, program_built("pgleasectl"),
	    in_folder("said"));
	ck_assert_int_eq(fclose(script), 0);
	program_ok(true, PROGRAM("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", in_folder("script")));
	ck_assert_str_eq(program_output(), "postgres 77s\npostgres 77s\npostgres 0\nsomeone 77s\n");
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_ge(stats.acquired, 1);
}
END_TEST

IT_MAIN("reload and programs", what_matches_follows_the_reload)

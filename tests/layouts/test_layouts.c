/* SPDX-License-Identifier: PostgreSQL */
/*
 * Layouts apart: programs that were built with another layout (tests/layouts/) meet those of this one. Each is refused by
 * name and number, nothing crashes, and who is at home there notices nothing. What describes itself (statistics), and what
 * has no layout (commands), works across.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "it.h"
#include "layout.h"

#define OTHER "tests/layouts"

static const char *
build_folder(void)
{
	static char folder[256];

	if (folder[0] == '\0')
		snprintf(folder, sizeof(folder), "%s", getenv("PGLEASE_BUILDDIR"));
	return folder;
}

/* What a program of the build folder prints. Its exit status. */
static int
output_of(const char *program, const char *arguments, char *ret, size_t size)
{
	char command[512];
	size_t n;
	FILE *f;
	int status;

	snprintf(command, sizeof(command), "%s/%s %s 2>&1", build_folder(), program, arguments);
	f = popen(command, "re");
	ck_assert_ptr_nonnull(f);
	n = fread(ret, 1, size - 1, f);
	ret[n] = '\0';
	status = pclose(f);
	ck_assert_msg(WIFEXITED(status), "%s ended with status %x: %s", command, status, ret);
	return WEXITSTATUS(status);
}

static void
assert_says(const char *text, const char *words)
{
	ck_assert_msg(strstr(text, words) != NULL, "no \"%s\" in: %s", words, text);
}

/* Both versions, and what to do. */
static void
assert_tells_apart(const char *text, unsigned library, unsigned broker)
{
	char words[64];

	snprintf(words, sizeof(words), "the library has layout %u (", library);
	assert_says(text, words);
	snprintf(words, sizeof(words), " has layout %u (", broker);
	assert_says(text, words);
	assert_says(text, "use the library that was installed with this broker");
}

/* The tools of this and the other layout, with whatever broker runs: the pool's row, and its state. */
static void
assert_tools_work(void)
{
	static const char *const folders[] = {".", OTHER};
	char program[64], text[4096];

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(program, sizeof(program), "%s/pgleasestat", folders[i]);
		ck_assert_msg(output_of(program, "--noheadings -o name,max", text, sizeof(text)) == 0, "%s", text);
		assert_says(text, "app");
		snprintf(program, sizeof(program), "%s/pgleasectl", folders[i]);
		ck_assert_msg(output_of(program, "status", text, sizeof(text)) == 0, "%s", text);
		assert_says(text, "app");
	}
}

START_TEST(an_older_library)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	pglease_stats stats;
	char text[1024], code[16];

	it_start(1, 2, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQsendQuery(conn, "select 'mine' from pg_sleep(0.2)"), 1);
	snprintf(code, sizeof(code), "%d: ", PGLEASE_EVERSION);
	for (unsigned i = 0; i < 20; i++) {
		output_of(OTHER "/worker", "", text, sizeof(text));
		ck_assert_msg(strncmp(text, code, strlen(code)) == 0, "%s", text);
		assert_tells_apart(text, 0, LAYOUT_VERSION);
	}
	assert_tools_work();
	/* Those at home. */
	PQclear(PQgetResult(conn));
	PQclear(PQgetResult(conn));
	ck_assert_str_eq(it_query(conn, "select 'still mine'"), "still mine");
	it_release(&lease);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.clients, 1);
	ck_assert_uint_eq(stats.revoked, 0);
	ck_assert_uint_eq(stats.acquired, 1);
}
END_TEST

START_TEST(an_older_broker)
{
	pglease *client = NULL;
	char folder[300], text[1024];

	snprintf(folder, sizeof(folder), "%s/" OTHER, build_folder());
	ck_assert_int_eq(setenv("PGLEASE_BUILDDIR", folder, 1), 0);
	it_start(1, 2, NULL);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert_int_eq(pglease_attach(NULL, NULL, &client), PGLEASE_EVERSION);
		ck_assert_ptr_null(client);
		assert_tells_apart(pglease_error_message(), LAYOUT_VERSION, 0);
	}
	output_of(OTHER "/worker", "", text, sizeof(text));
	ck_assert_str_eq(text, "0: 7\n");
	assert_tools_work();
}
END_TEST

IT_MAIN("layouts", an_older_library, an_older_broker)

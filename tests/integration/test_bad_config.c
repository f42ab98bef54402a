/* SPDX-License-Identifier: PostgreSQL */
/*
 * The program and a configuration that it cannot serve: status 1, and one line that says what is wrong, where, and what
 * would be right. (What the parser takes and refuses in detail: tests/unit/test_config.c.)
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "it.h"
#include "run.h"

/* The file is refused: in one line, which names it. */
static void
refused(const char *text, const char *a, const char *b, const char *c)
{
	const char *path = run_file("pgleased.ini", text, strlen(text));
	const char *const args[] = {"-c", path, NULL};
	struct run r;

	run_refused(args, NULL, a, b, c);
	run_broker(args, NULL, &r);
	ck_assert_msg(r.lines == 1 && strstr(r.last, path) != NULL, "%u lines: %s", r.lines, r.text);
}

START_TEST(a_file_that_is_wrong)
{
	refused("[pool a]\nembedded=yes\n[server]\nx=1\n", ":3:", "[server]", "[pool NAME]");
	refused("[pglease]\nmax_client=1\n[pool a]\nembedded=yes\n", ":2:", "max_client", "max_clients");
	refused("[pool a]\nembedded=yes\nidle_timeout=5 days\n", ":3:", "idle_timeout", "us, ms, s, min, h");
	refused("[pool a]\nembedded=yes\nmax_connections=1025\n", ":3:", "max_connections", "1 to 1024");
	refused(
	    "[pool a]\nembedded=yes\nmin_connections=6\n", "pool a", "min_connections", "max_connections");
	refused(
	    "[pool a]\nembedded=yes\n[pool a]\nembedded=yes\n", ":3:", "two pools of the name a", "rename");
	refused("[pool a]\nembedded=yes\nnonsense\n", ":3:", "key = value", "comment");
	refused("[pool a]\nconninfo=host=x passwort=geheim\n", "pool a", "conninfo", "libpq");
	refused("", "no pool", "[pool NAME]", NULL);
}
END_TEST

START_TEST(a_bad_conninfo_is_not_shown)
{
	static const char *const texts[] = {
	    "[pool a]\nconninfo=host=x password='geheim\n",
	    "[pool a]\nconninfo=postgres://u:geheim@[::1/db\n",
	    "[pool a]\nconninfo=geheim\n",
	    "[pool a]\nconninfo=host=x password=geheim geheim=1\n",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const char *const args[] = {"-c", run_file("pgleased.ini", texts[i], strlen(texts[i])), NULL};
		struct run r;

		run_refused(args, NULL, "pool a", "conninfo", NULL);
		run_broker(args, NULL, &r);
		ck_assert_msg(strstr(r.text, "geheim") == NULL, "%s", r.text);
	}
}
END_TEST

/* Whatever length a line may have: up to there it is taken whole, beyond it is an error; it is never cut. */
START_TEST(a_long_line_is_never_cut)
{
	char text[6000], path[5000];
	struct run r;
	bool was_error = false;

	for (size_t length = 150; length <= 4200; length += length < 250 ? 1 : 500) {
		const char *args[] = {"-c", NULL, NULL};

		/* Taken whole, the path is too long for a socket, and the broker says so with its end. */
		memset(path, 'x', length);
		memcpy(path, run_folder(), strlen(run_folder()));
		path[strlen(run_folder())] = '/';
		strcpy(path + length - 8, "/the-end");
		snprintf(text, sizeof(text), "[pglease]\nsocket_dir = %s\n[pool a]\nembedded=yes\n", path);
		args[1] = run_file("pgleased.ini", text, strlen(text));
		run_broker(args, NULL, &r);
		ck_assert_msg(r.status == 1 && r.lines == 1, "%s", r.text);
		if (strstr(r.last, ":2:") != NULL) {
			ck_assert_msg(strstr(r.last, length < 1000 ? "up to 255 characters" : "the line has") != NULL, "%s", r.text);
			was_error = true;
		} else {
			ck_assert_msg(!was_error && strstr(r.last, "/the-end") != NULL && strstr(r.last, "too long") != NULL, "%s",
			    r.text);
		}
	}
	ck_assert(was_error);
}
END_TEST

START_TEST(a_file_that_cannot_be_read)
{
	static const char text[] = "[pool a]\nembedded=yes\n";
	static const struct run_how unprivileged = {.unprivileged = true};
	char missing[256];
	const char *args[] = {"-c", missing, NULL};

	snprintf(missing, sizeof(missing), "%s/missing.ini", run_folder());
	run_refused(args, NULL, missing, "No such file", NULL);
	args[1] = run_folder();
	run_refused(args, NULL, run_folder(), "not a regular file", NULL);
	args[1] = run_file("secret.ini", text, sizeof(text) - 1);
	ck_assert_int_eq(chmod(args[1], 0), 0);
	run_refused(args, &unprivileged, "secret.ini", "Permission denied", NULL);
	args[1] = run_file("binary.ini",
	    "\x7f"
	    "ELF\0\0\0\n\0\0\n",
	    11);
	run_refused(args, NULL, "binary.ini:1:", "zero byte", NULL);
}
END_TEST

START_TEST(arguments_that_are_none)
{
	static const char *const unknown[] = {"-Q", NULL}, *const extra[] = {"now", NULL},
	                         *const name[] = {"-n", "a/b", NULL}, *const empty[] = {"-n", "", NULL};
	struct run r;

	run_broker(unknown, NULL, &r);
	ck_assert_msg(r.status == 1 && strstr(r.text, "Q'") != NULL, "%s", r.text);
	run_refused(extra, NULL, "now", NULL, NULL);
	run_refused(name, NULL, "a/b", "letters", NULL);
	run_refused(empty, NULL, "\"\"", "letters", NULL);
}
END_TEST

/* The socket folder of this configuration is refused, and what was made on the way is gone. */
static void
folder_refused(const char *dir, bool unprivileged, const char *word, const char *remedy)
{
	const struct run_how how = {.unprivileged = unprivileged};
	char text[600];
	const char *args[] = {"-c", NULL, NULL};

	snprintf(text, sizeof(text),
	    "[pglease]\ninstance = never-%d\nsocket_dir = %s\n[pool a]\nconninfo = host=/nonexistent\n",
	    (int)getpid(), dir);
	args[1] = run_file("pgleased.ini", text, strlen(text));
	run_refused(args, &how, dir, word, remedy);
}

START_TEST(socket_folders_that_cannot_be)
{
	char path[400], made[256];

	/* Nobody but this user, and root, can make anything in there; a broker of this very user could after all. */
	snprintf(path, sizeof(path), "%s/closed", run_folder());
	ck_assert_int_eq(mkdir(path, geteuid() == 0 ? 0755 : 0555), 0);
	folder_refused(path, true, "Permission denied", NULL);
	strcat(path, "/a/b");
	folder_refused(path, true, "Permission denied", NULL);
	/* The environment's folder is the server user's: root's broker does not trust him with its sockets. */
	if (geteuid() == 0)
		folder_refused(run_folder(), false, "belongs to uid", "root's or the broker's own");
	/* A file where a folder should be. */
	snprintf(path, sizeof(path), "%s", run_file("file", "", 0));
	folder_refused(path, false, "not a folder", NULL);
	strcat(path, "/run");
	folder_refused(path, false, "Not a directory", NULL);
	/* Something else where a socket should be. */
	snprintf(path, sizeof(path), "%s/busy", run_folder());
	ck_assert_int_eq(mkdir(path, 0755), 0);
	run_file("busy/control", "precious", 8);
	folder_refused(path, false, "no socket", "remove it");
	ck_assert_int_eq(access(run_file("busy/other", "", 0), F_OK), 0);
	/* Everybody may replace what is in it. */
	ck_assert_int_eq(chmod(path, 0777), 0);
	folder_refused(path, false, "written by everybody", "chmod o-w");
	/* Too long for a socket's address, by one; and with the folders above it not left behind. */
	memset(path, 'x', sizeof(path));
	snprintf(made, sizeof(made), "%s/deep", run_folder());
	memcpy(path, made, strlen(made));
	path[strlen(made)] = '/';
	path[sizeof(((struct sockaddr_un *)0)->sun_path) - strlen("/.s.PGSQL.5432")] = '\0';
	folder_refused(path, false, "too long", NULL);
	ck_assert_int_ne(access(made, F_OK), 0);
}
END_TEST

IT_MAIN("bad_config", a_file_that_is_wrong, a_bad_conninfo_is_not_shown, a_long_line_is_never_cut,
    a_file_that_cannot_be_read, arguments_that_are_none, socket_folders_that_cannot_be)

/* SPDX-License-Identifier: PostgreSQL */
/* pgleasectl restart: what is refused, and what goes wrong, and that the broker goes on then, or another can be started. */
#include "restart.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

static void
start(const char *extra)
{
	restart_prepare();
	it_start(1, 2, extra);
}

static void
add_to_config(const char *line)
{
	FILE *config = fopen(pglease_test_config(it_env), "ae");

	ck_assert_ptr_nonnull(config);
	fprintf(config, "%s\n", line);
	ck_assert_int_eq(fclose(config), 0);
}

/* The broker ends by itself. It is not reaped before the environment stops, so the number is still its own. */
static void
await_end(void)
{
	struct pollfd p = {.fd = pidfd_open(pglease_test_broker_pid(it_env), 0), .events = POLLIN};

	ck_assert_int_ge(p.fd, 0);
	ck_assert_int_eq(poll(&p, 1, IT_PATIENCE_MS), 1);
	close(p.fd);
}

START_TEST(another_layout_state_or_protocol)
{
	static const struct {
		const char *script, *why;
	} others[] = {
	    {"\"$real\" \"$@\" | sed 's/^\\(layout of the lease segments\\t\\).*/\\199 (0)/'",
	        "layout of the lease segments is "},
	    {"\"$real\" \"$@\" | sed 's/^\\(version of the handed-over state\\t\\).*/\\199 (0)/'",
	        "version of the handed-over state is "},
	    {"\"$real\" \"$@\" | sed 's/^\\(version of the control protocol\\t\\).*/\\199/'",
	        "version of the control protocol is "},
	    {"\"$real\" \"$@\" | grep -v '^max_clients'", "the program on disk knows nothing of the max_clients of the instance"},
	    {"\"$real\" \"$@\"; echo 'something new\tyes'", "this program knows nothing of the something new yes"},
	    {"echo \"$0: unknown option '--agreement'\" >&2; exit 1", "the program on disk does not know how to take its place"},
	    {"exit 0", "the program on disk does not know how"},
	    {"\"$real\" \"$@\"; exit 3", ""},
	    {"head -c 100000 /dev/zero", "the program on disk does not know how"},
	};

	start(NULL);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		restart_script(others[i].script, NULL);
		restart_refused(others[i].why);
	}
	restart_real();
	restart_now();
}
END_TEST

START_TEST(a_program_that_is_not_there)
{
	start(NULL);
	restart_nothing();
	restart_refused("");
	restart_real();
	restart_now();
}
END_TEST

START_TEST(a_bad_configuration)
{
	start(NULL);
	add_to_config("nonsense = 1");
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 3);
	restart_await_log("nonsense");
}
END_TEST

/* The program that takes the broker's place would read another file than the one that was found to be good. */
START_TEST(a_configuration_that_changes_meanwhile)
{
	char script[700];

	start(NULL);
	restart_set(NULL);
	snprintf(script, sizeof(script), "\"$real\" \"$@\"; echo 'nonsense = 1' >>'%s'", pglease_test_config(it_env));
	restart_script(script, NULL);
	restart_refused("the configuration has changed since it was looked at");
	restart_set(NULL);
	restart_real();
	restart_now();
}
END_TEST

START_TEST(settings_that_it_cannot_change)
{
	static const char *const lines[][2] = {
	    {"max_clients = 30", "max_clients of the instance is 256, and would be 30; stop and start it instead"},
	    {"monitoring = no", "monitoring of the instance is yes, and would be no"},
	    {"metrics_retention = 1min", "metrics_retention of the instance is 1h, and would be 1min"},
	};

	start(NULL);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		restart_configure(lines[i][0], NULL);
		restart_refused(lines[i][1]);
	}
	restart_set("[pool other]\nembedded = yes");
	restart_refused("embedded PostgreSQL of the instance is no, and would be yes");
	restart_set(NULL);
	restart_now();
}
END_TEST

START_TEST(a_program_that_goes_away_before_it_is_run)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	start("reset_after = 20ms");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	restart_script("\"$real\" \"$@\"; rm \"$0\"", NULL);
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 3);
	restart_await_log("cannot be run: No such file or directory");
	/* All that it had put off is done. */
	it_query(conn, "set search_path to nowhere");
	it_release(&lease);
	it_await_published("app", "broker_resets", 1);
	conn = it_acquire(pool, &lease);
	PQreset(conn);
	ck_assert_str_eq(it_query(conn, "select 1"), "1");
	it_release(&lease);
	restart_real();
	restart_now();
	ck_assert_int_eq(it_ctl("stop", NULL, "0"), 0);
}
END_TEST

START_TEST(a_program_that_hangs_is_given_up_and_a_second_restart_refused)
{
	struct child first;

	start(NULL);
	restart_script("while [ ! -e \"$go\" ]; do sleep 0.01; done\nexec -a \"$0\" \"$real\" \"$@\"", NULL);
	it_ctl_start("restart", NULL, NULL, &first);
	restart_await_log("command restart");
	restart_refused("");
	restart_go();
	ck_assert_int_eq(it_ctl_end(&first), 0);
	restart_script("sleep 1000", NULL);
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 3);
	restart_await_log("has not said within 10 s");
}
END_TEST

START_TEST(a_stop_comes_first)
{
	struct child first;

	start(NULL);
	restart_script("sleep 1000", NULL);
	it_ctl_start("restart", NULL, NULL, &first);
	restart_await_log("command restart");
	ck_assert_int_eq(kill(pglease_test_broker_pid(it_env), SIGTERM), 0);
	ck_assert_int_eq(it_ctl_end(&first), 3);
	restart_await_log("is not restarted: it is stopping");
	await_end();
}
END_TEST

START_TEST(a_program_that_ends_instead)
{
	static const char *const ends[] = {
	    "exit 1",
	    "exec -a \"$0\" \"$real\" --take-over=0 < /dev/null",
	    "for o; do case $o in --take-over=*) printf 'xxxx' | dd of=/proc/self/fd/${o#*=} bs=1 seek=24 conv=notrunc "
	    "status=none;; esac; done; exec -a \"$0\" \"$real\" \"$@\"",
	};

	start(NULL);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		pglease_lease lease;
		pglease_pool *pool;
		pglease *client;
		PGconn *conn;

		it_ok(pglease_attach(NULL, NULL, &client));
		it_ok(pglease_pool_open(client, "app", &pool));
		conn = it_acquire(pool, &lease);

		restart_script(NULL, ends[i]);
		ck_assert_int_eq(it_ctl("restart", NULL, NULL), 3);
		if (i != 0)
			restart_await_log("cannot take the place of the broker before it");
		await_end();
		/* As when a broker is killed: the lease goes on. */
		ck_assert_str_eq(it_query(conn, "select 1"), "1");
		(void)!pglease_release(&lease);
		pglease_detach(client);
		pglease_test_broker_kill(it_env);
		restart_real();
		ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	}
}
END_TEST

IT_MAIN("restart refused", another_layout_state_or_protocol, a_program_that_is_not_there, a_bad_configuration,
    a_configuration_that_changes_meanwhile, settings_that_it_cannot_change, a_program_that_goes_away_before_it_is_run,
    a_program_that_hangs_is_given_up_and_a_second_restart_refused, a_stop_comes_first, a_program_that_ends_instead)

/* SPDX-License-Identifier: PostgreSQL */
/* HTTP in the broker: what its pages say, to whom, and that no client of it can hold up those who lease. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "http_guard.h"
#include "it.h"
#include "run.h"
#include "web.h"

#define ON_A_PORT "http_listen = 127.0.0.1:0\n"
#define LEASES 25

static char unix_where[96];

/* A socket of this test's own. */
static const char *
on_a_path(const char *more)
{
	static char extra[256];

	snprintf(unix_where, sizeof(unix_where), "unix:/tmp/pglease-http-%d", (int)getpid());
	snprintf(extra, sizeof(extra), "http_listen = %s\n%s", unix_where, more);
	return extra;
}

static void
lease_some(pglease_pool *pool, unsigned n)
{
	pglease_lease lease;

	for (unsigned i = 0; i < n; i++) {
		it_acquire(pool, &lease);
		it_release(&lease);
	}
}

/* Asks again until a sample has this value: the broker publishes ten times a second. */
static void
await_sample(const char *where, const char *start, double value)
{
	struct web_answer answer;
	double seen = NAN;

	for (unsigned i = 0; i < 400; i++) {
		web_get(where, "/metrics", "", &answer);
		seen = web_sample(answer.body, start);
		web_free(&answer);
		if (seen == value)
			return;
		poll(NULL, 0, 50);
	}
	ck_abort_msg("%s is %g, not %g", start, seen, value);
}

static void
says(const char *where, const char *path, int status, const char *body)
{
	struct web_answer answer;

	web_get(where, path, "", &answer);
	ck_assert_msg(answer.status == status && strstr(answer.body, body) != NULL, "%s: %s", path, answer.text);
	web_free(&answer);
}

START_TEST(pages_say_what_is)
{
	pglease_pool *pool;
	struct web_answer answer;
	char start[160];
	const char *where;

	it_start_as(ON_A_PORT, NULL, 4);
	where = web_of_broker();
	pool = it_attach();
	lease_some(pool, LEASES);
	snprintf(start, sizeof(start), "pglease_leases_total{pglease_instance=\"%s\",pool=\"app\",how=\"immediate\"}",
	    pglease_test_instance(it_env));
	await_sample(where, start, LEASES);

	web_get(where, "/metrics", "", &answer);
	ck_assert_int_eq(answer.status, 200);
	ck_assert_str_eq(web_header(&answer, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
	ck_assert_str_eq(web_header(&answer, "Cache-Control"), "no-store");
	ck_assert_str_eq(web_header(&answer, "X-Content-Type-Options"), "nosniff");
	ck_assert_str_eq(web_header(&answer, "Content-Security-Policy"), "default-src 'none'");
	ck_assert_uint_eq(strtoul(web_header(&answer, "Content-Length"), NULL, 10), answer.body_length);
	snprintf(start, sizeof(start), "pglease_up{pglease_instance=\"%s\"}", pglease_test_instance(it_env));
	ck_assert_double_eq(web_sample(answer.body, start), 1);
	ck_assert_ptr_null(strstr(answer.body, "# EOF"));
	web_free(&answer);

	web_get(where, "/metrics?x=1", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n", &answer);
	ck_assert_str_eq(
	    web_header(&answer, "Content-Type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
	ck_assert_str_eq(answer.body + answer.body_length - 6, "# EOF\n");
	web_free(&answer);

	web_get(where, "/stats.json", "", &answer);
	ck_assert_str_eq(web_header(&answer, "Content-Type"), "application/json");
	ck_assert_int_eq(answer.body[0], '{');
	ck_assert_ptr_nonnull(strstr(answer.body, "\"slots\":["));
	ck_assert_ptr_nonnull(strstr(answer.body, "\"leases_immediate\":25,"));
	web_free(&answer);

	says(where, "/healthz", 200, "ok\n");
	says(where, "/readyz", 200, "ready\n");
	says(where, "/", 200, "<!DOCTYPE html>");
	says(where, "/web/words.json", 200, "\"draining\":\"no leases are granted");
	says(where, "/web/index.html", 404, "there are: / /metrics");
	says(where, "/metrics/", 404, "/metrics");
	says(where, "/history", 404, "/metrics");
}
END_TEST

START_TEST(the_history_is_served_in_steps)
{
	struct web_answer answer;
	const char *where;
	bool seen = false;

	it_start_as(on_a_path(""), NULL, 1);
	where = unix_where;
	lease_some(it_attach(), LEASES);
	/* The second in which they were made has its row when it is over. */
	for (unsigned i = 0; i < 400 && !seen; i++) {
		web_get(where, "/history.json?pool=app&since=1h&step=1h", "", &answer);
		ck_assert_msg(answer.status == 200, "%s", answer.text);
		ck_assert_ptr_nonnull(strstr(answer.body, "\"history\""));
		seen = strstr(answer.body, "\"leases\":25,") != NULL;
		web_free(&answer);
		poll(NULL, 0, 50);
	}
	ck_assert(seen);
	says(where, "/history.json?pool=nope", 404, "no 'nope' among the 1 pools");
	says(where, "/history.json?since=once", 400, "since=once: give a time back from now");
	says(where, "/history.json?since=1h&step=1s", 400, "too much at a time");
	says(where, "/history.json?color=red", 400, "pool, since, until and step only");
}
END_TEST

/* The most memory that the broker has had, in bytes. */
static uint64_t
peak_memory(void)
{
	char path[64], line[256];
	unsigned long kb = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)pglease_test_broker_pid(it_env));
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	while (kb == 0 && fgets(line, sizeof(line), file) != NULL)
		(void)sscanf(line, "VmHWM: %lu kB", &kb);
	fclose(file);
	ck_assert_uint_gt(kb, 0);
	return UINT64_C(1024) * kb;
}

/* A history is 16 MB, and as many times that as metrics_retention has hours: the loop has no time to copy it. */
START_TEST(a_history_is_read_where_it_is)
{
	uint64_t before;

	it_start_as(on_a_path(""), NULL, 1);
	says(unix_where, "/stats.json", 200, "");
	before = peak_memory();
	says(unix_where, "/history.json?since=10s", 200, "\"history\"");
	ck_assert_uint_lt(peak_memory(), before + 8000000);
}
END_TEST

START_TEST(no_history_is_served_when_none_is_kept)
{
	it_start_as(on_a_path("history = no\n"), NULL, 1);
	says(unix_where, "/history.json", 404, "no history of pool app: its broker keeps none");
}
END_TEST

/* The page's files: under fixed names, with a policy, and not sent to who has them. */
START_TEST(the_page_is_served_by_a_table_of_names)
{
	static const char *const others[] = {"/index.html", "/web", "/web/", "/web/index.html", "/web/../web/page.js",
	    "/web/%70age.js", "/web//page.js", "/web/page.js/", "/web/dygraph.css", "/../etc/passwd"};
	struct web_answer answer;
	char known[128], tag[64];

	it_start_as(on_a_path("http_charts = /nowhere\n"), NULL, 1);
	web_get(unix_where, "/", "", &answer);
	ck_assert_int_eq(answer.status, 200);
	ck_assert_str_eq(web_header(&answer, "Content-Type"), "text/html; charset=utf-8");
	ck_assert_str_eq(web_header(&answer, "Cache-Control"), "no-cache");
	ck_assert_str_eq(web_header(&answer, "X-Content-Type-Options"), "nosniff");
	ck_assert_str_eq(web_header(&answer, "Referrer-Policy"), "no-referrer");
	ck_assert_str_eq(web_header(&answer, "Content-Security-Policy"),
	    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
	    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'");
	snprintf(tag, sizeof(tag), "%s", web_header(&answer, "ETag"));
	web_free(&answer);
	snprintf(known, sizeof(known), "If-None-Match: \"x\", %s\r\n", tag);
	web_get(unix_where, "/", known, &answer);
	ck_assert_int_eq(answer.status, 304);
	ck_assert_uint_eq(answer.body_length, 0);
	ck_assert_str_eq(web_header(&answer, "ETag"), tag);
	web_free(&answer);
	/* Another file has another tag. */
	web_get(unix_where, "/web/page.js", known, &answer);
	ck_assert_int_eq(answer.status, 200);
	ck_assert_str_eq(web_header(&answer, "Content-Type"), "text/javascript; charset=utf-8");
	web_free(&answer);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		says(unix_where, others[i], 404, "no such page; there are: / /metrics");
	says(unix_where, "/web/dygraph.min.js", 404, "no such page");
}
END_TEST

/* What draws the charts comes from a folder; whatever lies there, the broker starts. */
START_TEST(charts_are_read_at_the_start)
{
	char folder[] = "/tmp/pglease-charts-XXXXXX", path[64], extra[96];
	struct web_answer answer;
	FILE *file;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chmod(folder, 0755), 0);
	snprintf(path, sizeof(path), "%s/dygraph.min.js", folder);
	file = fopen(path, "we");
	ck_assert_ptr_nonnull(file);
	fputs("var Dygraph;", file);
	fclose(file);
	snprintf(extra, sizeof(extra), "http_charts = %s\n", folder);
	it_start_as(on_a_path(extra), NULL, 1);
	web_get(unix_where, "/web/dygraph.min.js", "", &answer);
	ck_assert_int_eq(answer.status, 200);
	ck_assert_str_eq(answer.body, "var Dygraph;");
	ck_assert_str_eq(web_header(&answer, "Content-Type"), "text/javascript; charset=utf-8");
	web_free(&answer);
	/* A pipe: who opened it for reading and waited would wait for ever. */
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	says(unix_where, "/web/dygraph.min.js", 404, "no such page");
	says(unix_where, "/", 200, "<!DOCTYPE html>");
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

START_TEST(no_page_is_served_where_none_is_wanted)
{
	it_start_as(on_a_path("http_page = no\n"), NULL, 1);
	says(unix_where, "/", 404, "no such page; there are: /metrics");
	says(unix_where, "/web/page.js", 404, "no such page");
	says(unix_where, "/web/words.json", 404, "no such page");
	says(unix_where, "/stats.json", 200, "\"instance\"");
}
END_TEST

START_TEST(only_who_asks_us_gets_an_answer)
{
	static const struct {
		const char *request;
		int status;
	} cases[] = {
	    {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200},
	    {"GET /healthz HTTP/1.1\r\nHost: LOCALHOST:9187\r\n\r\n", 200},
	    {"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", 200},
	    {"GET /healthz HTTP/1.1\r\nHost: [::1]:1\r\n\r\n", 200},
	    {"GET /healthz HTTP/1.0\r\n\r\n", 200},
	    {"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403},
	    {"GET /healthz HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 403},
	    {"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1.evil.example:80\r\n\r\n", 403},
	    {"GET /healthz HTTP/1.1\r\nHost: 192.168.0.1\r\n\r\n", 403},
	    {"GET /healthz HTTP/1.1\r\nHost: [::1\r\n\r\n", 403},
	    {"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405},
	    {"PUT /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", 405},
	    {"DELETE /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
	    {"OPTIONS /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
	    {"nonsense\r\n\r\n", 400},
	};
	struct web_answer answer;
	char request[20000];
	const char *where;

	it_start_as(ON_A_PORT, NULL, 1);
	where = web_of_broker();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		web_ask(where, cases[i].request, &answer);
		ck_assert_msg(answer.status == cases[i].status, "%s: %s", cases[i].request, answer.text);
		if (answer.status == 405)
			ck_assert_str_eq(web_header(&answer, "Allow"), "GET, HEAD");
		web_free(&answer);
	}
	/* A HEAD gets the headers of a GET, and no more. */
	web_ask(where, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", &answer);
	ck_assert_int_eq(answer.status, 200);
	ck_assert_uint_eq(answer.body_length, 0);
	ck_assert_uint_gt(strtoul(web_header(&answer, "Content-Length"), NULL, 10), 10000);
	web_free(&answer);
	/* Too long a header. */
	snprintf(request, sizeof(request), "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: %0*d\r\n\r\n", 16000, 0);
	web_ask(where, request, &answer);
	ck_assert_msg(answer.status == 400 || answer.status == 413, "%s", answer.text);
	web_free(&answer);
	says(where, "/healthz", 200, "ok\n");
}
END_TEST

START_TEST(a_unix_socket_has_its_mode_and_goes_away)
{
	const char *where;
	struct stat st;

	it_start_as(on_a_path("http_mode = 0600\n"), NULL, 1);
	where = unix_where;
	ck_assert_int_eq(lstat(where + 5, &st), 0);
	ck_assert(S_ISSOCK(st.st_mode));
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	says(where, "/healthz", 200, "ok\n");
	/* What a killed broker left is taken over. */
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	ck_assert_int_eq(lstat(where + 5, &st), 0);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	says(where, "/readyz", 200, "ready\n");
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_int_eq(lstat(where + 5, &st), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
}
END_TEST

START_TEST(what_cannot_be_listened_on_is_refused)
{
	static const struct {
		const char *listen, *word;
	} cases[] = {
	    {"0.0.0.0:9187", "only this host"},
	    {"[::]:9187", "only this host"},
	    {"192.168.1.1:80", "only this host"},
	    {"example.com:80", "only this host"},
	    {"9187", "127.0.0.1:PORT"},
	    {"127.0.0.1", "127.0.0.1:PORT"},
	    {"127.0.0.1:70000", "127.0.0.1:PORT"},
	    {"127.0.0.1:-1", "127.0.0.1:PORT"},
	    {"unix:relative", "absolute path"},
	};
	char text[256], where[64];
	const char *const *args;
	const char *list[] = {"-c", NULL, NULL};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text), "[pglease]\nhttp_listen = %s\n[pool a]\nembedded=yes\n", cases[i].listen);
		list[1] = run_file("pgleased.ini", text, strlen(text));
		args = list;
		run_refused(args, NULL, ":2: http_listen:", cases[i].listen, cases[i].word);
	}
	/* One that somebody listens on already. */
	ck_assert_int_eq(pglease_test_env_free(it_env), 0);
	it_start_as(ON_A_PORT, NULL, 1);
	snprintf(where, sizeof(where), "%s", web_of_broker());
	snprintf(text, sizeof(text), "[pglease]\ninstance = other-%d\nsocket_dir = %s/other\nhttp_listen = %s\n[pool a]\nconninfo=host=/nowhere\n",
	    (int)getpid(), pglease_test_folder(it_env), where);
	list[1] = run_file("other.ini", text, strlen(text));
	run_refused(list, NULL, "http_listen", where, "in use");
}
END_TEST

START_TEST(not_ready_while_it_drains_and_down_without_a_server)
{
	pglease_pool *pool;
	pglease_lease lease;
	struct child stop;
	const char *where;

	it_start_as(ON_A_PORT "drain_timeout = 60s\n", "max_lifetime = 0\nretry_max = 200ms\n", 2);
	where = web_of_broker();
	pool = it_attach();
	it_acquire(pool, &lease);
	ck_assert_int_eq(it_ctl("drain", "app", "0"), 4); /* it goes on draining */
	says(where, "/readyz", 503, "not ready\npool app: draining: ");
	ck_assert_int_eq(it_ctl("resume", "app", NULL), 0);
	it_release(&lease);
	it_await_all_idle(pool);

	ck_assert_msg(pglease_test_server_stop(it_env) == 0, "%s", pglease_test_error_message());
	for (unsigned i = 0;; i++) {
		struct web_answer answer;
		bool down;

		web_get(where, "/healthz", "", &answer);
		down = answer.status == 503;
		if (down)
			ck_assert_msg(strncmp(answer.body, "down\npool app: upstream: ", 24) == 0, "%s", answer.body);
		web_free(&answer);
		if (down)
			break;
		ck_assert_uint_lt(i, 400);
		poll(NULL, 0, 50);
	}
	says(where, "/readyz", 503, "pool app: upstream: ");
	ck_assert_msg(pglease_test_server_start(it_env) == 0, "%s", pglease_test_error_message());
	for (unsigned i = 0;; i++) {
		struct web_answer answer;
		bool ready;

		web_get(where, "/readyz", "", &answer);
		ready = answer.status == 200;
		web_free(&answer);
		if (ready)
			break;
		ck_assert_uint_lt(i, 400);
		poll(NULL, 0, 50);
	}

	/* The whole instance: served to the end, and not ready. */
	it_acquire(pool, &lease);
	it_ctl_start("stop", NULL, "60", &stop);
	ck_assert_int_eq(pglease_test_await_log(it_env, "stops", 20000), 0);
	says(where, "/readyz", 503, "the broker stops");
	says(where, "/healthz", 200, "degraded\n");
	it_release(&lease);
	ck_assert_int_eq(it_ctl_end(&stop), 0);
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
}
END_TEST

/* Many that say a byte now and then, for ever: the broker keeps a bounded number, ends them, and serves the others. */
START_TEST(dribblers_hold_up_nobody)
{
	enum { DRIBBLERS = 3 * HTTP_GUARD_CONNECTIONS };
	int fd[DRIBBLERS];
	pglease_pool *pool;
	unsigned before;
	const char *where;

	it_start_as(ON_A_PORT, NULL, 2);
	where = web_of_broker();
	pool = it_attach();
	lease_some(pool, 10);
	before = it_open_files(pglease_test_broker_pid(it_env));
	for (unsigned i = 0; i < DRIBBLERS; i++) {
		fd[i] = web_connect(where);
		ck_assert_int_eq(send(fd[i], "GET /metrics HTTP/1.1\r\nX: ", 26, MSG_NOSIGNAL), 26);
	}
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < DRIBBLERS; i++)
			(void)!send(fd[i], "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		says(where, "/healthz", 200, "ok\n");
		lease_some(pool, 10);
		ck_assert_uint_le(
		    it_open_files(pglease_test_broker_pid(it_env)), before + 2 * HTTP_GUARD_CONNECTIONS);
	}
	/* All of them are ended, the last ones when their time is over. */
	for (unsigned i = 0; i < DRIBBLERS; i++) {
		struct pollfd end = {.fd = fd[i], .events = POLLRDHUP};

		ck_assert_int_eq(poll(&end, 1, 20000), 1);
		close(fd[i]);
	}
	says(where, "/healthz", 200, "ok\n");
}
END_TEST

/* Who asks for a page and does not read it costs its memory for a while, and no more. */
START_TEST(who_does_not_read_is_cut_off)
{
	static const char request[] = "GET /stats.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
	int fd[8], small = 1;
	const char *where;
	unsigned before;

	it_start_as(ON_A_PORT, NULL, 1024);
	where = web_of_broker();
	before = it_open_files(pglease_test_broker_pid(it_env));
	for (unsigned i = 0; i < 8; i++) {
		fd[i] = web_connect(where);
		ck_assert_int_eq(setsockopt(fd[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
		ck_assert_int_eq(send(fd[i], request, sizeof(request) - 1, MSG_NOSIGNAL), (ssize_t)sizeof(request) - 1);
	}
	says(where, "/healthz", 200, "ok\n");
	/* What is left of a page may wait in the kernel; the broker has let go of the connection. */
	for (unsigned i = 0; it_open_files(pglease_test_broker_pid(it_env)) > before; i++) {
		ck_assert_uint_lt(i, 400);
		poll(NULL, 0, 50);
	}
	for (unsigned i = 0; i < 8; i++)
		close(fd[i]);
}
END_TEST

/* The library shows the same numbers without the broker's help. */
START_TEST(the_library_has_them_too)
{
	pglease_pool *pool;
	char *json = NULL, *text = NULL, start[160];

	it_start(1, 2, NULL);
	pool = it_attach();
	lease_some(pool, LEASES);
	it_ok(pglease_stats_json(pool, &json));
	ck_assert_ptr_nonnull(strstr(json, "\"leases_immediate\":25,"));
	ck_assert_ptr_nonnull(strstr(json, "\"histograms\":["));
	it_ok(pglease_stats_prometheus(pool, &text));
	snprintf(start, sizeof(start), "pglease_leases_total{pglease_instance=\"%s\",pool=\"app\",how=\"immediate\"}",
	    pglease_test_instance(it_env));
	ck_assert_double_eq(web_sample(text, start), LEASES);
	snprintf(start, sizeof(start), "pglease_up{pglease_instance=\"%s\"}", pglease_test_instance(it_env));
	ck_assert_double_eq(web_sample(text, start), 1);
	pglease_free(json);
	pglease_free(text);
	pglease_free(NULL);
	ck_assert_int_eq(pglease_stats_json(pool, NULL), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_stats_prometheus(NULL, &text), PGLEASE_EINVAL);
	/* Without a broker: the numbers of now, and that it is gone. */
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	for (unsigned i = 0;; i++) {
		double up;

		it_ok(pglease_stats_prometheus(pool, &text));
		up = web_sample(text, start);
		pglease_free(text);
		if (up == 0)
			break;
		ck_assert_uint_lt(i, 400);
		poll(NULL, 0, 50);
	}
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
}
END_TEST

IT_MAIN("HTTP", pages_say_what_is, the_history_is_served_in_steps, a_history_is_read_where_it_is, no_history_is_served_when_none_is_kept,
    the_page_is_served_by_a_table_of_names, charts_are_read_at_the_start, no_page_is_served_where_none_is_wanted,
    only_who_asks_us_gets_an_answer, a_unix_socket_has_its_mode_and_goes_away,
    what_cannot_be_listened_on_is_refused, not_ready_while_it_drains_and_down_without_a_server,
    dribblers_hold_up_nobody, who_does_not_read_is_cut_off, the_library_has_them_too)

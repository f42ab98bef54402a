/* SPDX-License-Identifier: PostgreSQL */
/* HTTP's small parts: addresses, hosts, and what a client accepts. The whole: tests/integration/test_http.c. */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "http_address.h"
#include "http_history.h"
#include "http_pages.h"

START_TEST(addresses_are_this_hosts)
{
	static const char *const good[] = {"127.0.0.1:80", "127.1.2.3:0", "localhost:65535", "[::1]:9187", "unix:/run/x"};
	static const char *const bad[] = {"", ":", ":80", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:+1",
	    "127.0.0.1:080000", "128.0.0.1:80", "0.0.0.0:80", "::1:80", "[::]:80", "[::2]:80", "[::ffff:127.0.0.1]:80", "*:80",
	    "localhost.localdomain:80", "unix:", "unix:x", "UNIX:/x", "http://127.0.0.1:80", "127.0.0.1 :80"};
	struct http_address address;
	char why[192], path[160] = "unix:/";

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ck_assert_msg(http_address_parse(good[i], &address, why, sizeof(why)) == 0, "%s: %s", good[i], why);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why[0] = '\0';
		ck_assert_msg(http_address_parse(bad[i], &address, why, sizeof(why)) == -1, "%s", bad[i]);
		ck_assert_msg(strstr(why, "allowed") != NULL, "%s: %s", bad[i], why);
	}
	memset(path + 6, 'x', 106); /* a socket's path has 107 */
	ck_assert_int_eq(http_address_parse(path, &address, why, sizeof(why)), 0);
	path[112] = 'x';
	ck_assert_int_eq(http_address_parse(path, &address, why, sizeof(why)), -1);
	ck_assert_int_eq(http_address_parse("localhost:258", &address, why, sizeof(why)), 0);
	ck_assert_uint_eq(ntohs(((struct sockaddr_in *)&address.socket)->sin_port), 258);
	ck_assert_uint_eq(ntohl(((struct sockaddr_in *)&address.socket)->sin_addr.s_addr), INADDR_LOOPBACK);
}
END_TEST

START_TEST(hosts_are_this_one)
{
	static const char *const ours[] = {"localhost", "Localhost:1", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:80"};
	static const char *const not_ours[] = {"", ":", "example.com", "localhost.", "localhost.example.com", "127.0.0.1x",
	    "127.0.0.1.nip.io:80", "10.0.0.1", "[::1", "[::1]x", "[::2]", "::1", " localhost", "localhost evil"};
	struct http_address address;
	char why[192];

	ck_assert_int_eq(http_address_parse("127.0.0.1:80", &address, why, sizeof(why)), 0);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		ck_assert_msg(http_address_host_is_ours(&address, ours[i]), "%s", ours[i]);
	for (size_t i = 0; i < sizeof(not_ours) / sizeof(not_ours[0]); i++)
		ck_assert_msg(!http_address_host_is_ours(&address, not_ours[i]), "%s", not_ours[i]);
	ck_assert(http_address_host_is_ours(&address, NULL));
	ck_assert_int_eq(http_address_parse("unix:/x", &address, why, sizeof(why)), 0);
	ck_assert(http_address_host_is_ours(&address, "anything"));
}
END_TEST

START_TEST(openmetrics_only_when_asked)
{
	static const char *const yes[] = {
	    "application/openmetrics-text",
	    "application/openmetrics-text; version=1.0.0",
	    "Application/OpenMetrics-Text ;version=1.0.0 ; charset=utf-8",
	    /* Prometheus 2.42 */
	    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
	    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
	    "text/plain;q=0.5, application/openmetrics-text;q=0.5",
	    "application/openmetrics-text;q=0.001",
	};
	static const char *const no[] = {
	    "",
	    "*/*",
	    "text/plain",
	    "text/html,application/xhtml+xml,*/*;q=0.8",
	    "application/openmetrics-text;version=0.0.1",
	    "application/openmetrics-text;version=2.0.0",
	    "application/openmetrics-text;q=0",
	    "application/openmetrics-text;q=0.4,text/plain;q=0.5",
	    "application/openmetrics-textual",
	    ",,;;,;q=",
	};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		ck_assert_msg(http_pages_wants_openmetrics(yes[i]), "%s", yes[i]);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		ck_assert_msg(!http_pages_wants_openmetrics(no[i]), "%s", no[i]);
	ck_assert(!http_pages_wants_openmetrics(NULL));
}
END_TEST

#define NOW (UINT64_C(1790000000) * 1000000000)
#define MINUTE (UINT64_C(60) * 1000000000)

/* "" when the query is taken, else why not; static. */
static const char *
refusal(const char *query, unsigned npools, struct http_history *ret)
{
	static char buf[512];
	struct http_history_limits limits = {.npools = npools, .retention = 60 * MINUTE};
	struct text why = {0};
	bool good = http_history_parse(query, NOW, &limits, ret, &why);

	ck_assert_uint_lt(why.length, sizeof(buf));
	memcpy(buf, why.at != NULL ? why.at : "", why.length);
	buf[why.length] = '\0';
	text_fini(&why);
	ck_assert_int_eq(good, buf[0] == '\0');
	return buf;
}

START_TEST(a_history_is_asked_for_within_bounds)
{
	static const char *const good[] = {"pool=app&since=1d&step=10min", "since=1h&step=1min", "step=2s&since=5min",
	    "since=1h", "since=1d&pool=app", "since=2h&until=1h&pool=a%62c"};
	static const struct {
		const char *query;
		const char *why;
	} bad[] = {
	    {"since=yesterday", "since=yesterday: give a time back from now"},
	    {"until=x", "until=x: give"},
	    {"step=0s", "step=0s: give"},
	    {"step=100ms", "step=100ms: give"},
	    {"pools=app", "pools=app: give pool, since, until and step only"},
	    {"since=1min&until=2min", "since is not before until"},
	    {"since=1h&step=1s", "too much at a time: at most 240 steps"},
	    {"since=8d&pool=app", "too much at a time"},
	    {"since=%0a%1b[0m", "since=??[0m"},
	    {"si\n\033[0m\303\251=1", "si?" "?[0m?" "?=1: give pool, since"},
	};
	struct http_history h;

	ck_assert_str_eq(refusal(NULL, 1, &h), "");
	ck_assert_uint_eq(h.range.to, NOW);
	ck_assert_uint_eq(h.range.from, NOW - 10 * MINUTE);
	ck_assert_str_eq(h.pool, "");
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ck_assert_msg(refusal(good[i], 1, &h)[0] == '\0', "%s: %s", good[i], refusal(good[i], 1, &h));
	ck_assert_str_eq(h.pool, "abc");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(strncmp(refusal(bad[i].query, 1, &h), bad[i].why, strlen(bad[i].why)) == 0, "%s: %s",
		    bad[i].query, refusal(bad[i].query, 1, &h));
	/* What is allowed for one pool is too much for many. */
	ck_assert_str_eq(refusal("since=1h&step=1min", 1, &h), "");
	ck_assert_str_ne(refusal("since=1h&step=1min", 5, &h), "");
	ck_assert_str_eq(refusal("since=1h&step=1min&pool=app", 5, &h), "");
}
END_TEST

UNIT_MAIN("HTTP parts", addresses_are_this_hosts, hosts_are_this_one, openmetrics_only_when_asked,
    a_history_is_asked_for_within_bounds)

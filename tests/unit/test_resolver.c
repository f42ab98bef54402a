/* SPDX-License-Identifier: PostgreSQL */
/* Host names of a conninfo: which are looked up, what becomes of the lists, and look-ups that hang. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "resolver.h"
#include "unit.h"

static int hang[2]; /* a look-up of "slow" reads a byte from here */

/* "one": one address; "two": two; "slow": one, when it is let; all others: none. */
static int
look_up(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	struct addrinfo *first, *second;
	char byte;

	ck_assert_int_eq(hints->ai_socktype, SOCK_STREAM);
	if (strcmp(host, "slow") == 0 && read(hang[0], &byte, 1) != 1)
		return EAI_FAIL;
	if (strcmp(host, "one") != 0 && strcmp(host, "two") != 0 && strcmp(host, "slow") != 0)
		return EAI_NONAME;
	ck_assert_int_eq(getaddrinfo("192.0.2.1", NULL, &numeric, &first), 0);
	if (strcmp(host, "two") == 0) {
		ck_assert_int_eq(getaddrinfo("2001:db8::2", NULL, &numeric, &second), 0);
		first->ai_next = second; /* glibc frees them one by one */
	}
	*ret = first;
	return 0;
}

static bool
has_names(const char *host, const char *hostaddr, const char *port)
{
	struct hosts hosts;
	bool has;

	ck_assert_int_eq(hosts_init(&hosts, host, hostaddr, port), 0);
	has = hosts_have_names(&hosts);
	hosts_fini(&hosts);
	return has;
}

START_TEST(only_names_are_looked_up)
{
	ck_assert(has_names("db", NULL, NULL));
	ck_assert(has_names("192.0.2.1,db", NULL, "1,2"));
	ck_assert(has_names("a,b", ",192.0.2.1", NULL));
	ck_assert(!has_names(NULL, NULL, "5432"));
	ck_assert(!has_names("/run/postgresql", NULL, NULL));
	ck_assert(!has_names("@abstract", NULL, NULL));
	ck_assert(!has_names("192.0.2.1", NULL, NULL));
	ck_assert(!has_names("::1", NULL, NULL));
	ck_assert(!has_names("db", "192.0.2.1", NULL));
	ck_assert(!has_names("/a,,192.0.2.1", NULL, NULL));
	/* Lists that do not fit together are libpq's to refuse. */
	ck_assert(!has_names("a,b", "192.0.2.1", NULL));
	ck_assert(!has_names("a,b", NULL, "1,2,3"));
}
END_TEST

static void
resolves(const char *host, const char *hostaddr, const char *port, const char *to_host,
    const char *to_hostaddr, const char *to_port)
{
	struct hosts hosts, found;
	char why[256];

	ck_assert_int_eq(hosts_init(&hosts, host, hostaddr, port), 0);
	ck_assert_msg(hosts_resolve(&hosts, look_up, &found, why, sizeof(why)) == 0, "%s: %s", host, why);
	ck_assert_str_eq(found.host, to_host);
	ck_assert_str_eq(found.hostaddr, to_hostaddr);
	ck_assert_str_eq(found.port, to_port);
	hosts_fini(&hosts);
	hosts_fini(&found);
}

START_TEST(lists_stay_together)
{
	resolves("one", NULL, NULL, "one", "192.0.2.1", "");
	resolves("two", NULL, "5433", "two,two", "192.0.2.1,2001:db8::2", "5433,5433");
	resolves("/run,two,none,one,198.51.100.7", NULL, "1,2,3,4,5", "/run,two,two,one,198.51.100.7",
	    ",192.0.2.1,2001:db8::2,192.0.2.1,", "1,2,2,4,5");
	resolves("one,db", ",203.0.113.9", "7", "one,db", "192.0.2.1,203.0.113.9", "7,7");
}
END_TEST

START_TEST(a_name_without_address_is_told)
{
	struct hosts hosts, found;
	char why[256];

	ck_assert_int_eq(hosts_init(&hosts, "none,nothing", NULL, NULL), 0);
	ck_assert_int_eq(hosts_resolve(&hosts, look_up, &found, why, sizeof(why)), -1);
	ck_assert_ptr_nonnull(strstr(why, "cannot look up host \"nothing\""));
	hosts_fini(&hosts);
}
END_TEST

static unsigned reports, failures;
static char last[64];

static void
on_done(void *context, const struct hosts *hosts, const char *error)
{
	reports++;
	failures += hosts == NULL;
	if (hosts != NULL)
		snprintf(last, sizeof(last), "%s=%s", hosts->host, hosts->hostaddr);
	*(bool *)context = true;
}

static void
loop_until(struct event_base *base, const bool *done)
{
	while (!*done)
		ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
}

START_TEST(one_that_hangs_holds_nobody_up)
{
	struct event_base *base = event_base_new();
	struct hosts slow, one, none;
	struct resolver *resolver;
	struct resolver_job *job[16], *other;
	bool done[16] = {false}, other_done = false, none_done = false;

	ck_assert_int_eq(pipe(hang), 0);
	ck_assert_int_eq(resolver_new(base, look_up, &resolver), 0);
	ck_assert_int_eq(hosts_init(&slow, "slow", NULL, NULL), 0);
	ck_assert_int_eq(hosts_init(&one, "one", NULL, NULL), 0);
	ck_assert_int_eq(hosts_init(&none, "none", NULL, NULL), 0);
	for (unsigned i = 0; i < 16; i++)
		ck_assert_int_eq(resolver_start(resolver, 0, &slow, on_done, &done[i], &job[i]), 0);
	/* This pool's threads all hang; another pool's do not. */
	ck_assert_int_eq(resolver_start(resolver, 0, &one, on_done, &other_done, &other), -EAGAIN);
	ck_assert_int_eq(resolver_start(resolver, 1, &one, on_done, &other_done, &other), 0);
	ck_assert_int_eq(resolver_start(resolver, 1, &none, on_done, &none_done, &other), 0);
	loop_until(base, &other_done);
	loop_until(base, &none_done);
	ck_assert_uint_eq(reports, 2);
	ck_assert_uint_eq(failures, 1);
	ck_assert_str_eq(last, "one=192.0.2.1");
	/* Nobody waits for the first 15 any more; the end of the last one is reported, theirs is not. */
	for (unsigned i = 0; i < 15; i++)
		resolver_abandon(job[i]);
	ck_assert_int_eq(write(hang[1], "0123456789abcdef", 16), 16);
	loop_until(base, &done[15]);
	ck_assert_uint_eq(reports, 3);
	ck_assert_str_eq(last, "slow=192.0.2.1");
	resolver_free(resolver);
	for (unsigned i = 0; i < 15; i++)
		ck_assert(!done[i]);
	hosts_fini(&slow);
	hosts_fini(&one);
	hosts_fini(&none);
	event_base_free(base);
}
END_TEST

START_TEST(threads_that_hang_outlive_the_resolver)
{
	struct event_base *base = event_base_new();
	struct resolver *resolver;
	struct resolver_job *job;
	struct pollfd idle;
	struct hosts slow;
	bool done = false;

	ck_assert_int_eq(pipe(hang), 0);
	ck_assert_int_eq(resolver_new(base, look_up, &resolver), 0);
	ck_assert_int_eq(hosts_init(&slow, "slow", NULL, NULL), 0);
	ck_assert_int_eq(resolver_start(resolver, 3, &slow, on_done, &done, &job), 0);
	hosts_fini(&slow);
	resolver_free(resolver);
	event_base_free(base);
	/* Now it goes on, and touches nothing that is gone (valgrind and the sanitizers look). */
	ck_assert_int_eq(write(hang[1], "x", 1), 1);
	idle = (struct pollfd){.fd = hang[0], .events = POLLIN};
	while (poll(&idle, 1, 0) == 1)
		;
	ck_assert(!done);
}
END_TEST

UNIT_MAIN("resolver", only_names_are_looked_up, lists_stay_together, a_name_without_address_is_told,
    one_that_hangs_holds_nobody_up, threads_that_hang_outlive_the_resolver)

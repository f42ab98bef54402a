/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker killed at its steps (steps.h). Its clients go on with what they have or are told so, its server
 * sessions end with their last holder, and a new broker of the same name starts.
 */
#include "broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crew.h"
#include "pglease_test.h"
#include "report.h"
#include "scenarios.h"
#include "steps.h"
#include "view.h"

/* A service that is asked for. */
struct request {
	const struct service *service;
	struct tracee client;
	pid_t pid; /* the client's; 0: it has ended */
	int status;
	bool next_begun;
	uint64_t since;
};

/* Some ticks. */
#define REST_NS UINT64_C(500000000)

static unsigned limit;
static struct request now;

/* The client is where it begins to ask. */
static void
prepare(const struct service *s)
{
	now = (struct request){.service = s};
	trace_fork(&now.client, service_live, s);
	if (trace_to_mark(&now.client) != TRACE_MARK)
		report_fail("the client does not come to ask");
	if (s->next_waits) {
		crew_acquire(NEXT, s->pool);
		now.next_begun = true;
		view_await_waiting(s->pool);
	}
}

static void
ask(void)
{
	now.since = clock_ns();
	if (now.service == NULL)
		return;
	now.pid = now.client.pid;
	if (now.service->operate != NULL) {
		trace_release(&now.client);
		return;
	}
	trace_kill(&now.client, true);
	now.pid = 0;
}

static bool
client_has_ended(void)
{
	if (now.pid != 0 && waitpid(now.pid, &now.status, WNOHANG) == now.pid)
		now.pid = 0;
	return now.pid == 0;
}

/* The client has ended, and whoever comes after it has had what it wants; at rest: some ticks are over. */
static bool
is_served(void *context)
{
	if (now.service == NULL)
		return clock_ns() - now.since > REST_NS;
	if (!client_has_ended())
		return false;
	/* Then the broker has done what is due after that. */
	if (!now.next_begun && !view_is_settled(now.service->pool, now.service->pool == POOL_WATCH))
		return false;
	if (!now.next_begun) {
		crew_acquire(NEXT, now.service->pool);
		now.next_begun = true;
	}
	return crew_has_answered(NEXT);
}

static void
check_client(bool may_be_refused)
{
	int status;

	/*
	 * It is its own library that ends its waits, after seconds; the harness ends at the limit of all
	 * tests.
	 */
	if (now.pid != 0 && waitpid(now.pid, &now.status, 0) == now.pid)
		now.pid = 0;
	status = WIFEXITED(now.status) ? WEXITSTATUS(now.status) : -1;
	if (status != 0 && !(may_be_refused && status == SERVICE_REFUSED))
		report_fail("the client ends with status %d", status);
}

/* The broker lives: all is as it was. */
static void
serve_on(void)
{
	trace_release(&steps_broker);
	check_client(false);
	crew_expect(NEXT, NULL);
	crew_release(NEXT);
	crew_done(NEXT);
	crew_lease(HOLDER, now.service->pool, NULL);
	view_settle(now.service->pool);
}

static void
find_steps(const struct service *s, struct steps *ret)
{
	if (s == NULL) {
		steps_at_rest(ret);
		return;
	}
	prepare(s);
	steps_seize();
	ask();
	steps_find(is_served, NULL, ret);
	serve_on();
}

/* The broker is dead. Who has a shell goes on; who waits is told; a new broker comes. */
static void
check_death(void)
{
	bool has = false;

	crew_verify(HOLDER);
	crew_release(HOLDER);
	crew_done(HOLDER);
	crew_lease(HOLDER, POOL_ALWAYS, NULL);
	if (now.service != NULL)
		check_client(true);
	if (now.next_begun)
		has = crew_expect_or_gone(NEXT);
	if (has) {
		crew_release(NEXT);
		crew_done(NEXT);
	}
	stage_renew();
	for (unsigned pool = 0; pool < NPOOLS; pool++) {
		crew_lease(NEXT, pool, NULL);
		crew_lease(HOLDER, pool, NULL);
		view_settle(pool);
	}
}

/* False if this time the broker did not come to this step. */
static bool
kill_at(const struct service *s, uintptr_t step)
{
	bool there;

	crew_acquire(HOLDER, POOL_ALWAYS);
	crew_expect(HOLDER, NULL);
	if (s != NULL)
		prepare(s);
	else
		now = (struct request){.service = NULL};
	steps_seize();
	ask();
	there = steps_to(step, is_served, NULL);
	trace_kill(&steps_broker, false);
	check_death();
	return there;
}

static void
play(const void *arg)
{
	const struct service *s = arg;
	struct steps steps = {.n = 0};
	size_t step, played = 0, missed = 0;

	stage_start();
	report_at("the broker's steps");
	steps_prepare();
	find_steps(s, &steps);
	if (steps.n == 0)
		report_fail("it does nothing");
	step = limit == 0 || steps.n <= limit ? 1 : (steps.n + limit - 1) / limit;
	for (size_t i = (size_t)clock_ns() % step; i < steps.n; i += step) {
		report_at("the broker killed at pgleased+0x%zx", steps.address[i]);
		if (kill_at(s, steps.address[i]))
			played++;
		else
			missed++;
	}
	report_counts("killed at %zu of %zu steps, and %zu times after it, having come by another way",
	    played, steps.n, missed);
	free(steps.address);
}

static void
clean_up(void)
{
	trace_release(&steps_broker);
	trace_kill(&now.client, true);
	stage_abandon();
}

void
broker_run(const char *only, unsigned points)
{
	char name[128];

	limit = points;
	for (unsigned i = 0; i <= nservices; i++) {
		const struct service *s = i < nservices ? &services[i] : NULL;

		snprintf(name, sizeof(name), "broker: %s", s != NULL ? s->name : "a tick");
		if (strncmp(name, only, strlen(only)) == 0 && !report_run(name, play, s))
			clean_up();
	}
}

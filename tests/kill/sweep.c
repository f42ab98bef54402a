/* SPDX-License-Identifier: PostgreSQL */
/*
 * The sweep: the scenario's operation is recorded once, then played again for each instruction of the
 * recording, with the victim killed there. Then the broker recovers, and NEXT and the holder lease: what must
 * hold is in view.c and crew.c.
 */
#include "sweep.h"

#include <dlfcn.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crew.h"
#include "report.h"
#include "scenarios.h"
#include "trace.h"
#include "view.h"

struct play {
	const struct scenario *scenario;
	struct tracee victim;
	bool holder_holds, next_begun;
	bool patient; /* NEXT comes when the broker has put all right, and not at once */
	uint64_t late; /* leases of the pool revoked before, of lessees that live */
};

#define MOST_FAILED 5 /* recordings of one scenario */
#define RECORDINGS 5
#define SAMPLE_RECORDINGS 2
#define ROUNDS 16
#define ROUNDS_STRIDE 16

static unsigned limit;
/* The one that is played: a failed check leaves it as it is. */
static struct play now;

static void
next_waits(unsigned pool)
{
	crew_acquire(NEXT, pool);
	now.next_begun = true;
	view_await_waiting(pool);
}

/*
 * The victim is about to sleep: NEXT comes behind it, then the holder lets go. If it sleeps again, NEXT has been faster,
 * as a waiter that looks by itself may be who is not stopped at every instruction: it gives the slot back, and comes again when the victim
 * is dead. Before that it would find the slot idle, and wait for nothing.
 */
static void
on_sleep(void *context)
{
	unsigned pool = now.scenario->pool;

	if (now.holder_holds) {
		next_waits(pool);
		crew_release(HOLDER);
		crew_done(HOLDER);
		now.holder_holds = false;
	} else if (now.next_begun) {
		crew_expect(NEXT, NULL);
		crew_release(NEXT);
		crew_done(NEXT);
		now.next_begun = false;
	}
}

/* Up to where the victim's operation begins. */
static void
begin(const struct scenario *s)
{
	struct play *p = &now;

	*p = (struct play){
	    .scenario = s,
	    .patient = !now.patient,
	    .late = view_broker_counter(s->pool, COUNTER_REVOKED_DETACH),
	};
	if (s->sleeps) {
		p->victim.sleeper = (uintptr_t)dlsym(RTLD_DEFAULT, "sem_clockwait");
		p->victim.on_sleep = on_sleep;
	}
	if (!trace_find_text("libpglease.so", &p->victim.watched) || !trace_find_text("", &p->victim.caller))
		report_fail("libpglease.so is not among this program's objects");
	trace_fork(&p->victim, scenario_live, s);
	if (trace_to_mark(&p->victim) != TRACE_MARK)
		report_fail("the victim does not come to its operation");
	if (s->holder_holds) {
		crew_acquire(HOLDER, s->pool);
		crew_expect(HOLDER, NULL);
		p->holder_holds = true;
	}
	if (s->next_waits)
		next_waits(s->pool);
}

/* The victim is dead. */
static void
check(const struct view_held *held)
{
	unsigned pool = now.scenario->pool;

	/* The next lease would hide what an idle slot's word says. */
	if (now.patient && !now.next_begun && !now.holder_holds)
		view_settle(pool);
	if (!now.next_begun)
		crew_acquire(NEXT, pool);
	if (now.holder_holds) {
		crew_release(HOLDER);
		crew_done(HOLDER);
	}
	crew_expect(NEXT, held);
	crew_release(NEXT);
	crew_done(NEXT);
	crew_lease(HOLDER, pool, held);
	view_settle(pool);
	if (view_broker_counter(pool, COUNTER_REVOKED_DETACH) != now.late)
		report_fail("a dead lessee's lease was revoked as that of one that lives");
}

static void
kill_victim(void)
{
	struct view_held held;

	view_held(now.scenario->pool, &held);
	trace_kill(&now.victim, true);
	check(&held);
}

/* False if it does not come to its end: at single steps a busy machine lets an exchange run out of its second. */
static bool
record_once(const struct scenario *s, struct recording *ret)
{
	enum trace_end end;

	report_at("the recording");
	begin(s);
	end = trace_record(&now.victim, NULL, NULL, ret);
	kill_victim();
	return end == TRACE_MARK;
}

static int
by_value(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return x < y ? -1 : x > y;
}

static unsigned
distinct(const struct recording *r)
{
	uintptr_t *address = calloc(r->n + 1, sizeof(*address));
	unsigned n = 0;

	if (address == NULL)
		report_fail("out of memory");
	for (size_t i = 0; i < r->n; i++)
		address[i] = r->moment[i].address;
	qsort(address, r->n, sizeof(*address), by_value);
	for (size_t i = 0; i < r->n; i++)
		n += i == 0 || address[i] != address[i - 1];
	free(address);
	return n;
}

/* Killed before this instruction. False if this time the victim did not come to it. */
static bool
kill_at(const struct scenario *s, const struct moment *moment)
{
	enum trace_end end;

	begin(s);
	end = trace_to(&now.victim, moment);
	if (end == TRACE_ENDED || end == TRACE_STUCK)
		report_fail("the victim %s by itself", end == TRACE_ENDED ? "ends" : "stays");
	kill_victim();
	return end == TRACE_THERE;
}

/*
 * Single steps are slow: a limit of time may pass that passes at no other time, and what is done then is something
 * else, and more. So of several recordings it is the shortest.
 */
static void
record(const struct scenario *s, struct recording *ret)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < (limit == 0 ? RECORDINGS : SAMPLE_RECORDINGS);) {
		struct recording r = {.n = 0};

		if (record_once(s, &r)) {
			recording_keep_shorter(ret, &r);
			i++;
			continue;
		}
		free(r.moment);
		if (++failed == MOST_FAILED)
			report_fail("the operation does not come to its end");
	}
}

/* Each of the few system calls, at its entry and at its return. */
static void
sweep_system_calls(const struct scenario *s)
{
	enum trace_end end = TRACE_THERE;
	size_t n = 0, stops;

	while (end == TRACE_THERE) {
		report_at("killed at stop %zu of its system calls", ++n);
		begin(s);
		end = trace_to_system_call(&now.victim, n, &stops);
		if (end == TRACE_ENDED || end == TRACE_STUCK)
			report_fail("the victim %s by itself", end == TRACE_ENDED ? "ends" : "stays");
		kill_victim();
	}
	if (n <= 2)
		report_fail("it makes no system calls");
	report_counts("killed at %zu of %zu entries and returns of system calls, and after it", n - 1, n - 1);
}

/*
 * A loop that runs for long (over all bytes of something, over all rows) is the same in each round: of the rounds beyond
 * the first, and but for the last, only some are played.
 */
static bool
is_another_round(const struct moment *m)
{
	return m->visit > ROUNDS && m->visit != m->visits;
}

static void
sweep(const void *arg)
{
	const struct scenario *s = arg;
	struct recording r = {.n = 0};
	size_t stride, first, rounds = 0, played = 0, missed = 0, left = 0;

	stage_start();
	if (s->system_calls) {
		sweep_system_calls(s);
		return;
	}
	record(s, &r);
	stride = limit == 0 || r.n <= limit ? 1 : (r.n + limit - 1) / limit;
	first = (size_t)clock_ns() % stride;
	for (size_t i = first; i < r.n; i += stride) {
		if (limit == 0 && is_another_round(&r.moment[i]) && rounds++ % ROUNDS_STRIDE != 0) {
			left++;
			continue;
		}
		report_at("killed at instruction %zu of %zu, libpglease.so+0x%zx, visit %u", i + 1, r.n,
		    r.moment[i].address - now.victim.watched.base, r.moment[i].visit);
		if (kill_at(s, &r.moment[i]))
			played++;
		else
			missed++;
	}
	report_at("after the last one");
	view_published(true);
	report_counts("killed at %zu of %zu instructions (%u addresses)", played, r.n, distinct(&r));
	if (left != 0 || missed != 0)
		report_counts(
		    "killed at %zu of %zu instructions (%u addresses); %zu left out, further rounds of "
		    "loops; %zu not come to again, and killed after the operation",
		    played, r.n, distinct(&r), left, missed);
	recording_free(&r);
}

void
sweep_run(const char *only, unsigned points)
{
	limit = points;
	for (unsigned i = 0; i < nscenarios; i++) {
		if (strncmp(scenarios[i].name, only, strlen(only)) != 0 ||
		    report_run(scenarios[i].name, sweep, &scenarios[i]))
			continue;
		trace_kill(&now.victim, true);
		stage_abandon();
	}
}

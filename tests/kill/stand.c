/* SPDX-License-Identifier: PostgreSQL */
/*
 * Pairs with the broker: it stands before each of its steps of a revocation or a cancel while the lessee
 * releases; then it goes on. The other order, the lessee standing still, is in pairs.c.
 */
#include "stand.h"

#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crew.h"
#include "report.h"
#include "scenarios.h"
#include "steps.h"
#include "view.h"

static unsigned limit;
static struct {
	const struct pair *pair;
	struct tracee lessee;
	bool next_begun;
} now;

void
stand_revoke(const struct pair_place *place)
{
	view_cut_off(place->pid);
}

void
stand_cancel(const struct pair_place *place)
{
	send(place->socket, "c", 1, MSG_NOSIGNAL);
}

/* The broker has done what it was asked for. */
static bool
is_done(void *context)
{
	char byte;

	/* Another connection is there, and whoever waited has it. */
	if (now.pair->action == stand_revoke)
		return view_none_else() &&
		       (now.next_begun ? crew_has_answered(NEXT) : view_state(now.pair->a.pool) == SLOT_IDLE);
	return recv(scenario_socket[0], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* The lessee is where its release begins, the broker traced, and asked. */
static void
begin(const struct pair *pair)
{
	struct pair_place place = {.pool = pair->a.pool};

	memset(&now, 0, sizeof(now));
	now.pair = pair;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, scenario_socket) != 0)
		report_fail("socketpair: %m");
	trace_fork(&now.lessee, scenario_live, &pair->a);
	if (trace_to_mark(&now.lessee) != TRACE_MARK)
		report_fail("the lessee does not come to its operation");
	if (pair->next_waits) {
		crew_acquire(NEXT, pair->a.pool);
		now.next_begun = true;
		view_await_waiting(pair->a.pool);
	}
	place.pid = now.lessee.pid;
	place.socket = scenario_socket[0];
	steps_seize();
	pair->action(&place);
}

static void
end(void)
{
	unsigned pool = now.pair->a.pool;
	int status;

	if (trace_to_mark(&now.lessee) != TRACE_MARK)
		report_fail("the lessee does not come to the end of its operation");
	trace_release(&steps_broker);
	if (now.pair->action == stand_cancel)
		pair_hear_cancel(scenario_socket[0]);
	status = trace_join(&now.lessee);
	if (status != 0)
		report_fail("the lessee ends with status %d", status);
	close(scenario_socket[0]);
	close(scenario_socket[1]);
	if (!now.next_begun)
		crew_acquire(NEXT, pool);
	crew_expect(NEXT, NULL);
	crew_verify(NEXT);
	crew_release(NEXT);
	crew_done(NEXT);
	crew_lease(HOLDER, pool, NULL);
	view_settle(pool);
}

static void
play(const void *arg)
{
	const struct pair *pair = arg;
	struct steps steps = {.n = 0};
	size_t step, stood = 0, missed = 0;

	stage_start();
	report_at("the broker's steps");
	steps_prepare();
	begin(pair);
	steps_find(is_done, NULL, &steps);
	end();
	if (steps.n == 0)
		report_fail("it does nothing");
	step = limit == 0 || steps.n <= limit ? 1 : (steps.n + limit - 1) / limit;
	for (size_t i = (size_t)clock_ns() % step; i < steps.n; i += step) {
		report_at("the broker stands at pgleased+0x%zx", steps.address[i]);
		begin(pair);
		if (steps_to(steps.address[i], is_done, NULL))
			stood++;
		else
			missed++;
		end();
	}
	report_counts("met at %zu of %zu steps, and %zu times after it, having come by another way", stood,
	    steps.n, missed);
	free(steps.address);
}

void
stand_run(const char *only, unsigned points)
{
	limit = points;
	for (unsigned i = 0; i < nstands; i++) {
		if (strncmp(stands[i].name, only, strlen(only)) != 0 ||
		    report_run(stands[i].name, play, &stands[i]))
			continue;
		trace_release(&steps_broker);
		trace_kill(&now.lessee, true);
		stage_abandon();
	}
}

/* SPDX-License-Identifier: PostgreSQL */
/*
 * Pairs: one process stands still before one of its instructions while the other does its whole operation,
 * for every instruction of either; then both stand still, each before one of its atomic accesses, for every
 * two of them, and go on one after the other. Whatever happens, the slot is had by one, and by the next in
 * the end.
 */
#include "pairs.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crew.h"
#include "pglease_test.h"
#include "report.h"
#include "scenarios.h"
#include "trace.h"
#include "view.h"

struct meeting {
	const struct pair *pair;
	struct tracee a, b;
	bool next_begun, next_has;
	bool server_stopped, cancel_sent, cancelling;
};

#define RECORDINGS 3

static unsigned limit;
/* The one that is played: a failed check leaves it as it is. */
static struct meeting now;

static void
start(struct tracee *t, const struct scenario *s, const char *who)
{
	t->sleeper = 0;
	if (!trace_find_text("libpglease.so", &t->watched) || !trace_find_text("", &t->caller))
		report_fail("libpglease.so is not among this program's objects");
	trace_fork(t, scenario_live, s);
	if (trace_to_mark(t) != TRACE_MARK)
		report_fail("%s does not come to its operation", who);
	if (s->sleeps)
		t->sleeper = (uintptr_t)dlsym(RTLD_DEFAULT, "sem_clockwait");
}

static void
begin(const struct pair *pair)
{
	static struct scenario b;
	struct meeting *m = &now;

	*m = (struct meeting){.pair = pair};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, scenario_socket) != 0)
		report_fail("socketpair: %m");
	if (pair->action == NULL) {
		b = pair->b;
		b.name = pair->name;
		b.pool = pair->a.pool;
		start(&m->b, &b, "the second");
	}
	start(&m->a, &pair->a, "the first");
	if (pair->next_waits) {
		crew_acquire(NEXT, pair->a.pool);
		m->next_begun = true;
		view_await_waiting(pair->a.pool);
	}
}

void
pair_hear_cancel(int socket)
{
	struct timeval patience = {.tv_sec = 20};
	char byte;

	setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (recv(socket, &byte, 1, 0) != 1)
		report_fail("PQcancel does not return");
}

void
pair_cancel(const struct pair_place *place)
{
	send(place->socket, "c", 1, MSG_NOSIGNAL);
	pair_hear_cancel(place->socket);
}

void
pair_cancel_and_wait(const struct pair_place *place)
{
	uint64_t refused = view_broker_counter(place->pool, COUNTER_CANCELS_REFUSED);

	kill(pglease_test_server_pid(stage_env()), SIGSTOP);
	now.server_stopped = true;
	send(place->socket, "c", 1, MSG_NOSIGNAL);
	now.cancel_sent = true;
	now.cancelling = view_await_cancelling(place->pool, refused);
}

void
pair_revoke(const struct pair_place *place)
{
	view_cut_off(place->pid);
	view_await_none_else();
	if (!now.next_begun)
		crew_acquire(NEXT, place->pool);
	now.next_begun = true;
	crew_expect(NEXT, NULL);
	now.next_has = true;
}

static void
go_on(struct tracee *t, const char *who)
{
	t->sleeper = 0;
	if (trace_to_mark(t) != TRACE_MARK)
		report_fail("%s does not come to the end of its operation", who);
}

static void
join(struct tracee *t, const char *who)
{
	int status = trace_join(t);

	if (status != 0)
		report_fail("%s ends with status %d", who, status);
}

static void
let_server_go(void)
{
	if (now.server_stopped)
		kill(pglease_test_server_pid(stage_env()), SIGCONT);
	now.server_stopped = false;
}

/* Everyone ends its operation and its life; then the slot is NEXT's, and the holder's. */
static void
end(enum trace_end a, enum trace_end b, bool b_first)
{
	struct meeting *m = &now;
	unsigned pool = m->pair->a.pool;
	bool both = m->pair->action == NULL;

	if (b_first) {
		struct tracee other = m->a;
		enum trace_end end_other = a;

		m->a = m->b;
		m->b = other;
		a = b;
		b = end_other;
	}
	/* The first goes on; if it sleeps, it needs the other. */
	if (a == TRACE_THERE)
		a = trace_to_mark(&m->a);
	if (both && b != TRACE_MARK)
		go_on(&m->b, "one of the two");
	if (a != TRACE_MARK)
		go_on(&m->a, "one of the two");
	/* The lease was released; its cancel is still on its way, and must not meet the next one's query. */
	if (m->cancelling && view_state(pool) != SLOT_RETURNED && view_state(pool) != SLOT_BROKER)
		report_fail("the slot is passed on while a cancel is in flight: it is %s",
		    slot_state_name(view_state(pool)));
	let_server_go();
	if (m->cancel_sent)
		pair_hear_cancel(scenario_socket[0]);
	if (m->next_has)
		crew_verify(NEXT);
	if (both)
		join(&m->b, "one of the two");
	join(&m->a, "one of the two");
	close(scenario_socket[0]);
	close(scenario_socket[1]);
	if (!m->next_begun)
		crew_acquire(NEXT, pool);
	if (!m->next_has)
		crew_expect(NEXT, NULL);
	crew_verify(NEXT);
	crew_release(NEXT);
	crew_done(NEXT);
	crew_lease(HOLDER, pool, NULL);
	view_settle(pool);
}

/* A failed scenario leaves them behind. */
static void
clean_up(void)
{
	let_server_go();
	trace_kill(&now.a, true);
	trace_kill(&now.b, true);
}

struct wait {
	const struct recording *recording;
	size_t before; /* instructions until it slept; 0: it has not */
};

/* What comes after the sleep comes after the other's operation: they do not meet there. */
static void
let_other_go(void *context)
{
	struct wait *wait = context;

	if (wait->before != 0)
		return;
	go_on(&now.a, "the first");
	wait->before = wait->recording->n;
}

static void
record_once(const struct pair *pair, bool of_b, struct recording *ret)
{
	struct tracee *t = of_b ? &now.b : &now.a;
	struct wait wait = {.recording = ret};

	begin(pair);
	t->on_sleep = let_other_go;
	t->context = &wait;
	if (trace_record(t, NULL, NULL, ret) != TRACE_MARK)
		report_fail("a recording does not come to its end");
	/* The mark is not executed yet. */
	go_on(t, "the recorded one");
	end(of_b && wait.before == 0 ? TRACE_THERE : TRACE_MARK, of_b ? TRACE_MARK : TRACE_THERE, false);
	if (wait.before != 0)
		ret->n = wait.before;
}

/* The shortest of some: see sweep.c. */
static void
record(const struct pair *pair, bool of_b, struct recording *ret)
{
	for (unsigned i = 0; i < (limit == 0 ? RECORDINGS : 1); i++) {
		struct recording r = {.n = 0};

		record_once(pair, of_b, &r);
		recording_keep_shorter(ret, &r);
	}
}

/*
 * One stands before `moment` (of the one that `of_b` says); the other does all of its operation, or sleeps.
 */
static bool
meet_whole(const struct pair *pair, bool of_b, const struct moment *moment)
{
	enum trace_end one, other = TRACE_MARK;

	begin(pair);
	one = trace_to(of_b ? &now.b : &now.a, moment);
	if (pair->action == NULL) {
		other = trace_to_mark(of_b ? &now.a : &now.b);
	} else if (one == TRACE_THERE) {
		struct pair_place place = {
		    .pid = now.a.pid, .socket = scenario_socket[0], .pool = pair->a.pool};

		pair->action(&place);
	}
	end(of_b ? other : one, of_b ? one : other, of_b);
	return one == TRACE_THERE;
}

/* Each stands before one of its moments, a goes on to its end first, or b does. */
static bool
meet_halfway(const struct pair *pair, const struct moment *of_a, const struct moment *of_b, bool b_first)
{
	enum trace_end a, b;

	begin(pair);
	a = trace_to(&now.a, of_a);
	b = trace_to(&now.b, of_b);
	end(a, b, b_first);
	return a == TRACE_THERE && b == TRACE_THERE;
}

static size_t
stride(size_t n)
{
	return limit == 0 || n <= limit ? 1 : (n + limit - 1) / limit;
}

static void
whole(const struct pair *pair, bool of_b, const struct recording *r, size_t *met)
{
	size_t step = stride(r->n);

	for (size_t i = (size_t)clock_ns() % step; i < r->n; i += step) {
		report_at("the %s stands at instruction %zu of %zu, libpglease.so+0x%zx",
		    of_b ? "second" : "first", i + 1, r->n, r->moment[i].address - now.a.watched.base);
		*met += meet_whole(pair, of_b, &r->moment[i]);
	}
}

static void
halfway(
    const struct pair *pair, const struct recording *a, const struct recording *b, size_t *met, size_t *all)
{
	size_t number = 0, step = 1;

	for (unsigned pass = 0; pass < 2; pass++) {
		*all = 0;
		for (size_t i = 0; i < a->n; i++) {
			for (size_t j = 0; a->moment[i].atomic && j < b->n; j++) {
				if (!b->moment[j].atomic)
					continue;
				*all += 2;
				if (pass == 0 || number++ % step != 0)
					continue;
				report_at("the first stands at its instruction %zu, the second at its %zu",
				    i + 1, j + 1);
				*met += meet_halfway(pair, &a->moment[i], &b->moment[j], false);
				*met += meet_halfway(pair, &a->moment[i], &b->moment[j], true);
			}
		}
		step = stride(*all / 2);
	}
}

static void
play(const void *arg)
{
	const struct pair *pair = arg;
	struct recording a = {.n = 0}, b = {.n = 0};
	size_t met_a = 0, met_b = 0, met = 0, all = 0;

	stage_start();
	report_at("the recording of the first");
	record(pair, false, &a);
	if (pair->action == NULL) {
		report_at("the recording of the second");
		record(pair, true, &b);
	}
	whole(pair, false, &a, &met_a);
	if (pair->action != NULL) {
		report_counts("met at %zu of %zu instructions", met_a, a.n);
	} else {
		whole(pair, true, &b, &met_b);
		halfway(pair, &a, &b, &met, &all);
		report_counts("met at %zu of %zu instructions of the first, %zu of %zu of the second, %zu of "
		              "%zu pairs of "
		              "atomic accesses in both orders",
		    met_a, a.n, met_b, b.n, met, all);
	}
	view_published(true);
	recording_free(&a);
	recording_free(&b);
}

void
pairs_run(const char *only, unsigned points)
{
	limit = points;
	for (unsigned i = 0; i < npairs; i++) {
		if (strncmp(pairs[i].name, only, strlen(only)) != 0)
			continue;
		if (report_run(pairs[i].name, play, &pairs[i]))
			continue;
		clean_up();
		stage_abandon();
	}
}

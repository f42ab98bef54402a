/* SPDX-License-Identifier: PostgreSQL */
/* The programs of alert_command.h: places for those that run, and for each alert at most one piece of news that waits. */
#include "alert_command.h"

#include <event2/event_struct.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handover.h"
#include "log.h"
#include "process.h"

#define SECOND UINT64_C(1000000000)
#define END_MS 1000 /* a process that was killed ends within that */

struct running {
	struct alert_command *command;
	struct process process; /* pid 0: the place is free */
	char pool_name[LAYOUT_NAME];
	enum alert_id id;
	uint64_t end_at; /* CLOCK_MONOTONIC: killed then; 0: it was */
	struct event ended, late;
};

struct waiting {
	uint64_t order; /* the smallest is run first */
	struct alert_news news;
};

struct alert_command {
	struct alert_command_params params;
	struct running running[ALERT_COMMANDS];
	uint64_t order;
	bool told; /* the log has said that it cannot be run */
	struct waiting *waiting; /* one at most of each alert of each pool, also of pools that have gone */
	unsigned nwaiting, waiting_size;
};

static void start_some(struct alert_command *c);

/* --- Ends. --- */

static void
forget(struct running *r)
{
	event_del(&r->ended);
	event_del(&r->late);
	r->process.pid = 0;
}

static void
on_ended(evutil_socket_t fd, short what, void *arg)
{
	struct running *r = arg;
	char how[32];
	int status = 0;

	if (!process_wait(&r->process, 0, &status))
		return;
	forget(r);
	process_describe(status, how, sizeof(how));
	if (status != 0 && r->end_at != 0)
		log_warning("alert_command %s failed for alert %s: %s", r->command->params.program, alert_name(r->id), how);
	start_some(r->command);
}

/* It and what it has started: it was made the leader of a session, and so of a group. */
static void
kill_all(const struct running *r)
{
	if (kill(-r->process.pid, SIGKILL) != 0)
		kill(r->process.pid, SIGKILL);
}

static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	struct running *r = arg;

	log_warning("alert_command %s has not ended within %.3g s and is killed (alert %s)", r->command->params.program,
	    (double)r->command->params.limit / 1e9, alert_name(r->id));
	r->end_at = 0;
	kill_all(r);
}

/* 0, or -1: it cannot be watched, and is killed. */
static int
watch(struct running *r)
{
	uint64_t now = clock_ns(), left = r->end_at > now ? r->end_at - now : 0;
	struct timeval late = {.tv_sec = (time_t)(left / SECOND), .tv_usec = (suseconds_t)(left % SECOND / 1000)};
	int status;

	if (event_assign(&r->ended, r->command->params.base, r->process.pidfd, EV_READ | EV_PERSIST, on_ended, r) == 0 &&
	    evtimer_assign(&r->late, r->command->params.base, on_late, r) == 0 && event_add(&r->ended, NULL) == 0 &&
	    (r->end_at == 0 || event_add(&r->late, &late) == 0))
		return 0;
	kill_all(r);
	(void)process_wait(&r->process, END_MS, &status);
	forget(r);
	return -1;
}

/* --- Starts. --- */

#define VARIABLES 11
#define VARIABLE 192

struct environment {
	char text[VARIABLES][VARIABLE];
	const char *list[VARIABLES + 4]; /* with those of the system, and NULL */
	unsigned n;
};

static void __attribute__((format(printf, 3, 4)))
add(struct environment *e, const char *name, const char *format, ...)
{
	int n = snprintf(e->text[e->n], VARIABLE, "PGLEASE_%s=", name);
	va_list args;

	assert(e->n < VARIABLES);
	va_start(args, format);
	vsnprintf(e->text[e->n] + n, VARIABLE - (size_t)n, format, args);
	va_end(args);
	e->list[e->n] = e->text[e->n];
	e->n++;
}

/* A number in base units, exactly; "" for none. */
static void
add_number(struct environment *e, const char *name, enum alert_id id, uint64_t value)
{
	uint64_t millionths = alert_millionths(id, value);

	if (millionths == ALERT_NONE)
		add(e, name, "%s", "");
	else
		add(e, name, "%" PRIu64 ".%06" PRIu64, millionths / 1000000, millionths % 1000000);
}

/* pgleased(8) has the same list. */
static void
describe(const struct alert_command *c, const struct alert_news *news, struct environment *e)
{
	e->n = 0;
	add(e, "ALERT", "%s", alert_name(news->id));
	add(e, "ALERT_STATE", "%s", news->alert.state == ALERT_RAISED ? "raised" : "cleared");
	add(e, "ALERT_TEXT", "%s", alert_text(news->id));
	add_number(e, "ALERT_VALUE", news->id, news->alert.value);
	add_number(e, "ALERT_THRESHOLD", news->id, news->alert.limit);
	add(e, "ALERT_UNIT", "%s", alert_unit_name(news->id));
	add(e, "ALERT_TIME", "%" PRIu64 ".%03" PRIu64, news->at / SECOND, news->at % SECOND / 1000000);
	add(e, "ALERT_COUNT", "%" PRIu64, news->alert.count);
	add(e, "POOL", "%s", news->pool_name);
	add(e, "INSTANCE", "%s", c->params.instance);
	for (const char *const *v = process_environment; *v != NULL; v++)
		e->list[e->n++] = *v;
	e->list[e->n] = NULL;
}

static struct running *
free_place(struct alert_command *c)
{
	for (unsigned i = 0; i < ALERT_COMMANDS; i++)
		if (c->running[i].process.pid == 0)
			return &c->running[i];
	return NULL;
}

static bool
is_running(const struct alert_command *c, const struct alert_news *news)
{
	for (unsigned i = 0; i < ALERT_COMMANDS; i++)
		if (c->running[i].process.pid != 0 && c->running[i].id == news->id &&
		    strcmp(c->running[i].pool_name, news->pool_name) == 0)
			return true;
	return false;
}

/* What has waited longest, and need not wait any more. */
static struct waiting *
next(struct alert_command *c)
{
	struct waiting *first = NULL;

	for (unsigned i = 0; i < c->nwaiting; i++) {
		struct waiting *w = &c->waiting[i];

		if ((first == NULL || w->order < first->order) && !is_running(c, &w->news))
			first = w;
	}
	return first;
}

static int
run_program(const struct alert_command *c, const struct alert_news *news, struct process *ret)
{
	const char *argv[] = {c->params.program, NULL};
	struct environment environment;
	struct process_params params = {
	    .argv = argv,
	    .environment = environment.list,
	    .folder = "/",
	    .death_signal = SIGKILL, /* who would end it after its time? */
	};
	int r;

	describe(c, news, &environment);
	params.output = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (params.output < 0)
		return -errno;
	r = process_start(&params, ret);
	close(params.output);
	return r;
}

static void
start_one(struct alert_command *c, struct running *place, const struct alert_news *news)
{
	int r = run_program(c, news, &place->process);

	if (r == 0) {
		snprintf(place->pool_name, sizeof(place->pool_name), "%s", news->pool_name);
		place->id = news->id;
		place->end_at = clock_ns() + c->params.limit;
		r = watch(place);
	} else if (!c->told) {
		log_warning("alert_command %s cannot be run: %s", c->params.program, strerror(-r));
	}
	c->told = r != 0;
}

static void
start_some(struct alert_command *c)
{
	struct running *place;
	struct waiting *w;

	/* After a restart there may be none any more, and news that has waited for it. */
	while (c->params.program[0] != '\0' && (place = free_place(c)) != NULL && (w = next(c)) != NULL) {
		struct alert_news news = w->news;

		*w = c->waiting[--c->nwaiting];
		start_one(c, place, &news);
	}
}

/* The one place of these news; NULL: there is no memory for it. */
static struct waiting *
place_of(struct alert_command *c, const struct alert_news *news)
{
	struct waiting *w;

	for (unsigned i = 0; i < c->nwaiting; i++)
		if (c->waiting[i].news.id == news->id && strcmp(c->waiting[i].news.pool_name, news->pool_name) == 0)
			return &c->waiting[i];
	if (c->nwaiting == c->waiting_size) {
		unsigned size = c->waiting_size + ALERT_N;

		w = reallocarray(c->waiting, size, sizeof(*w));
		if (w == NULL)
			return NULL;
		c->waiting = w;
		c->waiting_size = size;
	}
	w = &c->waiting[c->nwaiting++];
	w->order = ++c->order;
	return w;
}

void
alert_command_tell(struct alert_command *c, const struct alert_news *news)
{
	struct waiting *w;

	if (c->params.program[0] == '\0')
		return;
	w = place_of(c, news);
	if (w == NULL) {
		log_warning("alert_command is not told of alert %s of pool %s: out of memory", alert_name(news->id), news->pool_name);
		return;
	}
	w->news = *news;
	start_some(c);
}

/* --- From broker to broker. --- */

static void
running_fields(struct running *r, struct handover *h)
{
	HANDOVER(h, r->process.pid);
	handover_fd(h, &r->process.pidfd);
	if (handover_reads(h))
		process_know(&r->process);
	HANDOVER(h, r->pool_name);
	HANDOVER(h, r->id);
	HANDOVER(h, r->end_at);
}

static void
fields(struct alert_command *c, struct handover *h)
{
	uint32_t n = c->nwaiting;

	handover_section(h, "alert_command");
	HANDOVER(h, c->order);
	for (unsigned i = 0; i < ALERT_COMMANDS; i++)
		running_fields(&c->running[i], h);
	HANDOVER(h, n);
	for (uint32_t i = 0; i < n && (!handover_reads(h) || handover_check(h, false) == 0); i++) {
		struct waiting read, *w = handover_reads(h) ? &read : &c->waiting[i];

		HANDOVER(h, *w);
		read.news.pool_name[LAYOUT_NAME - 1] = '\0';
		if (handover_reads(h) && (w = place_of(c, &read.news)) != NULL)
			*w = read;
	}
}

void
alert_command_hand_over(struct alert_command *c, struct handover *to)
{
	fields(c, to);
}

int
alert_command_new(const struct alert_command_params *params, struct alert_command **ret)
{
	struct alert_command *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return log_refuse("out of memory");
	c->params = *params;
	/* No reason not to serve, but who waits for its news should not have to wait for an alert to learn of it. */
	if (params->program[0] != '\0' && access(params->program, X_OK) != 0)
		log_warning("alert_command %s is no program that can be run now: %m", params->program);
	for (unsigned i = 0; i < ALERT_COMMANDS; i++) {
		c->running[i].command = c;
		c->running[i].process.pidfd = -1;
	}
	if (params->from != NULL) {
		fields(c, params->from);
		if (handover_check(params->from, false) != 0) {
			free(c->waiting);
			free(c);
			return -1;
		}
		for (unsigned i = 0; i < ALERT_COMMANDS; i++)
			if (c->running[i].process.pid != 0 && watch(&c->running[i]) != 0)
				log_warning("alert_command cannot be watched any more, and is killed");
	}
	*ret = c;
	start_some(c);
	return 0;
}

void
alert_command_free(struct alert_command *c)
{
	if (c == NULL)
		return;
	for (unsigned i = 0; i < ALERT_COMMANDS; i++) {
		struct running *r = &c->running[i];
		int status;

		if (r->process.pid == 0)
			continue;
		kill_all(r);
		if (!process_wait(&r->process, END_MS, &status))
			close(r->process.pidfd);
		event_del(&r->ended);
		event_del(&r->late);
	}
	free(c->waiting);
	free(c);
}

/* SPDX-License-Identifier: PostgreSQL */
/*
 * A restart's course: the other program is asked for its agreement, the broker becomes quiet, what it knows is written, and the
 * program is run in its place. Until that has happened, every failure leads back to where it was (fail()).
 */
#include "restart.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adopt.h"
#include "agreement.h"
#include "alerts.h"
#include "cancels.h"
#include "clients.h"
#include "commands.h"
#include "control.h"
#include "embedded.h"
#include "handover.h"
#include "http.h"
#include "instance_priv.h"
#include "log.h"
#include "pidfile.h"
#include "pools.h"
#include "process.h"
#include "publish.h"
#include "recorder.h"
#include "server.h"
#include "service.h"
#include "sockdir.h"
#include "takeover.h"
#include "text_stream.h"

#define CHECK_SECONDS 10 /* what the other program may take to say what it is */
#define END_MS 1000      /* and, when it has said it, to end */
#define ANSWER_MAX 65536
#define LIMIT UINT64_C(1000000000) /* of becoming quiet */
#define LOOK_US 1000
#define ARGUMENTS (10 + 2 * INSTANCE_MAX_SET)
#define OWN_PROGRAM "/proc/self/exe" /* of a child that has not run another yet, too */
/* Signals are held from the first look on: one that came just before has been dealt with by then. */
#define LOOKS 3

struct restart {
	struct instance *instance;
	char who[64];
	uint64_t limit;
	bool reload; /* the program is the one that runs, wherever its file is now */
	unsigned reasons; /* against it */
	/* What the other program is given besides the file: lives until that runs. */
	const char *set[INSTANCE_MAX_SET];
	unsigned nset;
	char *assignment; /* one of them */
	struct stat file; /* the configuration, before the other program reads it; all 0: none */
	/* H1 */
	char *mine; /* this program's agreement */
	struct process other;
	int output; /* what it says; -1: closed */
	char answer[ANSWER_MAX];
	size_t used;
	struct event *readable, *late;
	/* H2 */
	struct event *look;
	unsigned looks;
	uint64_t since;
	char why[AGREEMENT_WHY + 64];
};

void
restart_hold_signals(int hold)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static void
free_event(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

static void
end_other(struct restart *r)
{
	int status;

	free_event(r->readable);
	free_event(r->late);
	r->readable = r->late = NULL;
	if (r->output >= 0)
		close(r->output);
	r->output = -1;
	if (r->other.pid == 0)
		return;
	kill(r->other.pid, SIGKILL);
	process_wait(&r->other, -1, &status);
}

static void
restart_free(struct restart *r)
{
	end_other(r);
	free_event(r->look);
	free(r->mine);
	free(r->assignment);
	free(r);
}

/* Undoes H2: the broker goes on as if nothing had been. */
static void
go_on(struct instance *i)
{
	i->shared.quiet = false;
	service_ready();
	restart_hold_signals(false);
	http_go_on(i->http);
	for (unsigned n = 0; n < i->nall; n++)
		pool_want_attention(i->pools[n]);
	adopt_go_on(i->adopt);
}

void
restart_abandon(struct instance *i, const char *why)
{
	struct restart *r = i->restart;
	bool was_quiet = i->shared.quiet;

	if (r == NULL)
		return;
	i->restart = NULL;
	log_warning("instance %s is not %s: %s", i->config->instance.instance, r->reload ? "reloaded" : "restarted", why);
	if (was_quiet)
		go_on(i);
	commands_restarted(i->commands, why, NULL);
	restart_free(r);
}

static void LOG_PRINTF(2, 3) fail(struct restart *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->why, sizeof(r->why), format, args);
	va_end(args);
	log_flatten(r->why);
	restart_abandon(r->instance, r->why);
}

/* --- H4, H5 --- */

void
restart_instance_fields(struct instance *i, uint64_t *since, struct handover *h)
{
	handover_section(h, "instance");
	HANDOVER(h, i->id);
	HANDOVER(h, i->started_at);
	HANDOVER(h, i->restarts);
	handover_bytes(h, since, sizeof(*since));
}

/* In the order in which instance.c starts them. */
static void
hand_over(struct instance *i, uint64_t since, struct handover *to)
{
	restart_instance_fields(i, &since, to);
	sockdir_hand_over(i->sockdir, to);
	if (i->pidfile != NULL)
		pidfile_hand_over(i->pidfile, to);
	if (i->embedded != NULL)
		embedded_hand_over(i->embedded, to);
	pools_hand_over(i, to);
	takeover_hand_over(i->shared.takeover, to);
	publisher_hand_over(i->publisher, to);
	if (i->recorder != NULL)
		recorder_hand_over(i->recorder, to);
	alerts_hand_over(i->alerts, to);
	clients_hand_over(i->clients, to);
	adopt_hand_over(i->adopt, to);
	control_hand_over(i->control, to);
	if (i->http != NULL)
		http_hand_over(i->http, to);
	cancels_hand_over(i->shared.cancels, to);
}

/* The command line of the other program. `more`: after what tells it the configuration. */
static void
command_line(const struct restart *r, const char *more, const char *argv[static ARGUMENTS])
{
	const struct instance_origin *o = &r->instance->origin;
	unsigned n = 0;

	argv[n++] = o->program;
	if (o->file != NULL) {
		argv[n++] = "-c";
		argv[n++] = o->file;
	}
	if (o->name != NULL) {
		argv[n++] = "-n";
		argv[n++] = o->name;
	}
	if (o->background)
		argv[n++] = "-d";
	for (unsigned s = 0; s < r->nset; s++) {
		argv[n++] = "--set";
		argv[n++] = r->set[s];
	}
	argv[n++] = more;
	argv[n] = NULL;
}

static void
run_in_place(struct restart *r)
{
	struct instance *i = r->instance;
	struct handover *to = handover_new();
	const char *argv[ARGUMENTS];
	char option[32];
	int fd = -1, error;

	if (to == NULL) {
		fail(r, "the broker is out of memory");
		return;
	}
	hand_over(i, r->since, to);
	error = -handover_write(to, &fd);
	if (error == 0) {
		snprintf(option, sizeof(option), "--take-over=%d", fd);
		command_line(r, option, argv);
		log_info("instance %s: %s takes the place of this program: %s", i->config->instance.instance, i->origin.program,
		    r->who);
		execv(r->reload ? OWN_PROGRAM : argv[0], (char *const *)argv);
		error = errno;
		handover_undo(to, fd);
		handover_free(to);
		fail(r, "%s cannot be run: %s", i->origin.program, strerror(error));
		return;
	}
	handover_free(to);
	fail(r, "what the broker knows cannot be written down: %s", strerror(error));
}

/* --- H2, H3 --- */

static void
look_at_file(const struct restart *r, struct stat *ret)
{
	const char *file = r->instance->origin.file;

	if (file == NULL || stat(file, ret) != 0)
		*ret = (struct stat){0};
}

/* The program that takes over reads it once more, and cannot refuse any more what is there then. */
static bool
file_has_changed(const struct restart *r)
{
	struct stat now;

	look_at_file(r, &now);
	return now.st_dev != r->file.st_dev || now.st_ino != r->file.st_ino || now.st_size != r->file.st_size ||
	       now.st_mtim.tv_sec != r->file.st_mtim.tv_sec || now.st_mtim.tv_nsec != r->file.st_mtim.tv_nsec;
}

static bool
is_quiet(const struct instance *i)
{
	if (cancels_under_way(i->shared.cancels) != 0 || !http_is_quiet(i->http) || !takeover_is_quiet(i->shared.takeover))
		return false;
	for (unsigned n = 0; n < i->nall; n++)
		for (uint32_t slot = 0; slot < i->pools[n]->seg.nslots; slot++)
			if (!server_is_quiet(&i->pools[n]->server[slot]))
				return false;
	return true;
}

static void
on_look(evutil_socket_t fd, short what, void *arg)
{
	struct restart *r = arg;
	struct instance *i = r->instance;

	if (++r->looks < LOOKS || (!is_quiet(i) && clock_ns() - r->since < r->limit))
		return;
	if (file_has_changed(r)) {
		fail(r, "the configuration has changed since it was looked at, do it again: %s", i->origin.file);
		return;
	}
	adopt_hold(i->adopt);
	for (unsigned n = 0; n < i->nall; n++)
		for (uint32_t slot = 0; slot < i->pools[n]->seg.nslots; slot++)
			server_give_up(&i->pools[n]->server[slot]);
	run_in_place(r);
}

static void
become_quiet(struct restart *r)
{
	struct instance *i = r->instance;
	struct timeval often = {.tv_usec = LOOK_US};

	r->since = clock_ns();
	log_info("instance %s: what is under way has %.3g s to come to its end before another program takes this one's place",
	    i->config->instance.instance, (double)r->limit / 1e9);
	service_reloading();
	i->shared.quiet = true;
	http_pause(i->http);
	restart_hold_signals(true);
	r->look = event_new(i->shared.base, -1, EV_PERSIST, on_look, r);
	if (r->look == NULL || event_add(r->look, &often) != 0)
		fail(r, "the broker is out of memory");
}

/* --- H1 --- */

/* One of the reasons why it cannot be: the first is told at the end, the others now. */
static void
take_reason(void *context, const char *why)
{
	struct restart *r = context;
	struct instance *i = r->instance;

	if (r->reasons++ == 0) {
		snprintf(r->why, sizeof(r->why), "%s", why);
		return;
	}
	log_warning("instance %s is not %s, besides: %s", i->config->instance.instance, r->reload ? "reloaded" : "restarted", why);
	commands_say(i->commands, why);
}

/* Those that go take up room until their last lease has ended. */
static bool
pools_fit(const struct restart *r, const char *theirs, char *why, size_t size)
{
	const struct instance *i = r->instance;
	struct agreement_pool pools[LAYOUT_MAX_POOLS];
	unsigned n = agreement_pools(theirs, pools), going = i->nall - i->npools;

	for (unsigned k = 0; k < i->npools; k++) {
		const struct pool *p = i->pools[k];
		bool stays = false;

		for (unsigned t = 0; t < n; t++)
			stays |= strcmp(pools[t].name, p->settings->name) == 0 && pools[t].made_by == p->remade_by &&
				 pools[t].connections <= p->seg.nslots;
		going += !stays;
	}
	if (n + going <= LAYOUT_MAX_POOLS)
		return true;
	snprintf(why, size, "with %u pools that would go, there would be more than %u: take some out, and add others when they have gone",
	    going, LAYOUT_MAX_POOLS);
	return false;
}

/* It has said all that it has to say. */
static void
judge(struct restart *r)
{
	char first[AGREEMENT_WHY + 64], how[32];
	int status = 0;

	r->answer[r->used] = '\0';
	if (!process_wait(&r->other, END_MS, &status)) {
		fail(r, "%s does not end", r->instance->origin.program);
		return;
	}
	end_other(r);
	if (!agreement_holds(r->mine, r->answer, take_reason, r)) {
		memcpy(first, r->why, sizeof(first));
		fail(r, "%s", first);
		return;
	}
	if (status != 0) {
		process_describe(status, how, sizeof(how));
		fail(r, "%s ended with %s", r->instance->origin.program, how);
		return;
	}
	if (!pools_fit(r, r->answer, first, sizeof(first))) {
		fail(r, "%s", first);
		return;
	}
	become_quiet(r);
}

static void
on_output(evutil_socket_t fd, short what, void *arg)
{
	struct restart *r = arg;
	ssize_t n = read(r->output, r->answer + r->used, sizeof(r->answer) - 1 - r->used);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		r->used += (size_t)n;
		if (r->used < sizeof(r->answer) - 1)
			return;
	}
	judge(r);
}

static void
on_late(evutil_socket_t fd, short what, void *arg)
{
	struct restart *r = arg;

	fail(r, "%s has not said within %d s whether it can take the broker's place", r->instance->origin.program,
	    CHECK_SECONDS);
}

static bool
say_mine(struct restart *r)
{
	struct text_stream to;
	FILE *f = text_stream_open(&to);
	const struct agreement_has has = {.embedded_connections = embedded_connections(r->instance->embedded)};

	if (f == NULL)
		return false;
	agreement_print(r->instance->config, &has, f);
	r->mine = text_stream_close(&to, f);
	return r->mine != NULL;
}

/* The other program's agreement comes through a pipe. 0 or -errno. */
static int
ask_other(struct restart *r)
{
	struct instance *i = r->instance;
	struct timeval late = {.tv_sec = CHECK_SECONDS};
	const char *argv[ARGUMENTS];
	struct process_params params = {
	    .path = r->reload ? OWN_PROGRAM : NULL, .argv = argv, .keep_environment = true, .folder = "/"};
	int ends[2], error;

	command_line(r, "--agreement", argv);
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -errno;
	r->output = ends[0];
	params.output = ends[1];
	error = fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 ? -errno : process_start(&params, &r->other);
	close(ends[1]);
	if (error != 0)
		return error;
	r->readable = event_new(i->shared.base, r->output, EV_READ | EV_PERSIST, on_output, r);
	r->late = event_new(i->shared.base, -1, 0, on_late, r);
	return r->readable == NULL || r->late == NULL || event_add(r->readable, NULL) != 0 || event_add(r->late, &late) != 0
	           ? -ENOMEM
	           : 0;
}

/* Why none can be begun; NULL: it can. */
static const char *
why_not(const struct instance *i)
{
	if (i->restart != NULL)
		return "a restart or reload is under way already";
	if (i->ready != NULL)
		return "it has not finished starting";
	if (i->origin.program == NULL)
		return "it does not know by which path it was started";
	return NULL;
}

static struct restart *
restart_new(struct instance *i, int64_t limit, bool reload, const char *who)
{
	struct restart *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->instance = i;
	r->output = -1;
	r->reload = reload;
	r->limit = limit < 0 ? LIMIT : (uint64_t)limit;
	snprintf(r->who, sizeof(r->who), "%s", who);
	return r;
}

static const char *
begin(struct restart *r)
{
	static char why[512];
	struct instance *i;
	int error;

	if (r == NULL)
		return "the broker is out of memory";
	i = r->instance;
	look_at_file(r, &r->file);
	error = say_mine(r) ? ask_other(r) : -ENOMEM;
	if (error != 0) {
		snprintf(why, sizeof(why), "%s cannot be run: %s", i->origin.program, strerror(-error));
		restart_free(r);
		return why;
	}
	i->restart = r;
	return NULL;
}

static void
keep_set(struct restart *r, const char *but)
{
	const struct instance_origin *o = &r->instance->origin;

	for (unsigned n = 0; n < o->nset; n++)
		if (but == NULL || !configuration_same_key(o->set[n], but))
			r->set[r->nset++] = o->set[n];
}

const char *
restart_begin(void *instance, int64_t limit, const char *who)
{
	struct restart *r;
	const char *why = why_not(instance);

	if (why != NULL)
		return why;
	r = restart_new(instance, limit, false, who);
	if (r != NULL)
		keep_set(r, NULL);
	return begin(r);
}

const char *
restart_reload(void *instance, const char *who)
{
	const char *why = why_not(instance);

	return why != NULL ? why : begin(restart_new(instance, -1, true, who));
}

const char *
restart_set(void *instance, const char *assignment, const char *who)
{
	struct restart *r;
	const char *why = why_not(instance);

	if (why != NULL)
		return why;
	r = restart_new(instance, -1, true, who);
	if (r == NULL)
		return begin(r);
	keep_set(r, assignment);
	r->assignment = strdup(assignment);
	if (r->assignment == NULL || r->nset == INSTANCE_MAX_SET) {
		restart_free(r);
		return "too much is set already: put it into the configuration file";
	}
	r->set[r->nset++] = r->assignment;
	return begin(r);
}

/* SPDX-License-Identifier: PostgreSQL */
/* Control commands. The verbs are the list of src/shm/command.h; each has a function do_VERB here. */
#include "commands.h"

#include <config.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "command.h"
#include "handover.h"
#include "log.h"
#include "pglease_errors.h"
#include "queue.h"
#include "revoke.h"

#define NS_PER_MS UINT64_C(1000000)
/* What an answer may be late by, beyond the limit of the drain itself. */
#define LATE_MS 1000
/* What a restart may take besides its limit: the check of the other program (restart.c), and the start of that. */
#define RESTART_MS UINT64_C(30000)

/* A drain that somebody waits for. */
struct waited {
	TAILQ_ENTRY(waited) all;
	void *asker;
	const struct pool *pool; /* NULL: all */
	uint64_t began, deadline;
};

struct commands {
	struct commands_params params;
	TAILQ_HEAD(, waited) waited;
	bool stopping;
	void *restarter; /* who waits for a restart; NULL: nobody */
	bool restarter_json;
};

struct request {
	void *asker;
	struct pool *pool; /* NULL: all */
	const char *argument;
	uint64_t timeout;
	int64_t given; /* timeout as given; negative: it was not */
	bool json;
	char who[64];
};

static bool LOG_PRINTF(5, 6)
    answer(struct commands *c, void *asker, int code, uint64_t more_within, const char *format, ...)
{
	struct wire_result result = {
	    .code = code,
	    .more = more_within != 0,
	    .within_ms = (uint32_t)(more_within / NS_PER_MS),
	};
	va_list args;

	wire_header_init(&result.header, WIRE_RESULT);
	va_start(args, format);
	vsnprintf(result.text, sizeof(result.text), format, args);
	va_end(args);
	return c->params.answer(asker, &result);
}

/* The pools that a drain or resume is about, one at a time; `at` starts at 0. */
static struct pool *
next_pool(const struct commands *c, const struct pool *only, unsigned *at)
{
	while (*at < c->params.npools) {
		struct pool *p = c->params.pools[(*at)++];

		if (only == NULL || only == p)
			return p;
	}
	return NULL;
}

static bool
no_pool(struct commands *c, const struct request *r)
{
	return answer(c, r->asker, PGLEASE_ENOPOOL, 0, "the instance %s has no pool \"%.*s\"",
	    c->params.settings->instance, (int)strcspn(r->argument, "/"), r->argument);
}

static const char *
state_name(const struct pool *p)
{
	return p->draining ? p->open == 0 ? "drained" : "draining" : p->failures != 0 ? "down" : "open";
}

/* The upstream's last error lies in shared memory: quoted for JSON, with nothing but printable ASCII. */
static void
quote(char *to, size_t size, const char *from, size_t from_size)
{
	size_t used = 0;

	to[used++] = '"';
	for (size_t i = 0; i < from_size && from[i] != '\0' && used + 4 < size; i++) {
		if (from[i] == '"' || from[i] == '\\')
			to[used++] = '\\';
		to[used++] = from[i] >= ' ' && from[i] < 0x7f ? from[i] : '?';
	}
	to[used++] = '"';
	to[used] = '\0';
}

static bool
status_of(struct commands *c, const struct request *r, const struct pool *p)
{
	unsigned idle = 0, leased = pool_count_leases(p), waiting = queue_count(&p->seg, NULL);
	unsigned long max = (unsigned long)p->settings->max_connections;
	const struct segment_header *h = p->seg.header;
	char error[2 * sizeof(h->upstream_error) + 3] = "null";

	for (uint32_t i = 0; i < p->seg.nslots; i++)
		idle += word_state(atomic_load(&p->seg.slot[i].word)) == SLOT_IDLE;
	if (p->failures != 0)
		quote(error, sizeof(error), h->upstream_error, sizeof(h->upstream_error));
	if (r->json)
		return answer(c, r->asker, 0, LATE_MS * NS_PER_MS,
		    "{\"pool\": \"%s\", \"state\": \"%s\", \"max_connections\": %lu, \"connections\": %u, "
		    "\"idle\": %u, \"leased\": %u, \"waiting\": %u, \"upstream_error\": %s}",
		    p->settings->name, state_name(p), max, p->open, idle, leased, waiting, error);
	return answer(c, r->asker, 0, LATE_MS * NS_PER_MS,
	    "pool %s: %s, %u of %lu connections open, %u idle, %u leased, %u waiting%s%s", p->settings->name,
	    state_name(p), p->open, max, idle, leased, waiting,
	    p->failures != 0 ? "; the server refuses: " : "", p->failures != 0 ? error : "");
}

static bool
do_status(struct commands *c, const struct request *r)
{
	unsigned open = 0, leased = 0;

	for (unsigned i = 0; i < c->params.npools; i++) {
		open += c->params.pools[i]->open;
		leased += pool_count_leases(c->params.pools[i]);
		if (!status_of(c, r, c->params.pools[i]))
			return false;
	}
	return answer(c, r->asker, 0, 0,
	    r->json ? "{\"instance\": \"%s\", \"state\": \"%s\", \"pid\": %ld, \"connections\": %u, "
	              "\"leased\": %u}"
	            : "instance %s: %s, pid %ld, %u connections open, %u leased",
	    c->params.settings->instance, c->stopping ? "stopping" : "open", (long)getpid(), open, leased);
}

/* "pool app", or "all pools" */
static void
name_pools(const struct pool *pool, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s", pool != NULL ? "pool " : "all pools",
	    pool != NULL ? pool->settings->name : "");
}

/* Answers a drain that is over, undone or late. False when it is none of these. */
static bool
look_at(struct commands *c, const struct waited *w, uint64_t now)
{
	unsigned at = 0, open = 0, leases = 0;
	const struct pool *p;
	char name[LAYOUT_NAME + 16];
	bool undone = false;

	name_pools(w->pool, name, sizeof(name));
	while ((p = next_pool(c, w->pool, &at)) != NULL) {
		open += p->open;
		leases += pool_count_leases(p);
		undone |= !p->draining;
	}
	if (undone)
		answer(c, w->asker, PGLEASE_EREFUSED, 0, "%s: the drain was undone by a resume", name);
	else if (open == 0)
		answer(c, w->asker, 0, 0, "%s: drained", name);
	else if (now >= w->deadline)
		answer(c, w->asker, PGLEASE_ETIMEOUT, 0,
		    "%s: not drained within %.3g s: %u leases are out (pgleasestat -S shows whose), %u "
		    "connections open; "
		    "the drain goes on until it is resumed",
		    name, (double)(w->deadline - w->began) / 1e9, leases, open);
	else
		return false;
	return true;
}

static bool
do_drain(struct commands *c, const struct request *r)
{
	uint64_t now = clock_ns();
	struct waited *w,
	    here = {.asker = r->asker, .pool = r->pool, .began = now, .deadline = now + r->timeout};
	unsigned at = 0, leases = 0;
	struct pool *p;
	char name[LAYOUT_NAME + 16];

	while ((p = next_pool(c, r->pool, &at)) != NULL) {
		pool_drain(p);
		leases += pool_count_leases(p);
	}
	if (look_at(c, &here, now))
		return false;
	w = malloc(sizeof(*w));
	if (w == NULL)
		return answer(
		    c, r->asker, PGLEASE_ENOMEM, 0, "the drain has begun, but the broker is out of memory");
	*w = here;
	TAILQ_INSERT_TAIL(&c->waited, w, all);
	name_pools(r->pool, name, sizeof(name));
	return answer(c, r->asker, 0, r->timeout + LATE_MS * NS_PER_MS, "%s: draining, %u leases are out",
	    name, leases);
}

static bool
do_resume(struct commands *c, const struct request *r)
{
	unsigned at = 0, resumed = 0;
	struct pool *p;
	char name[LAYOUT_NAME + 16];

	if (c->stopping)
		return answer(c, r->asker, PGLEASE_EREFUSED, 0,
		    "instance %s is stopping: start it again when it has gone", c->params.settings->instance);
	while ((p = next_pool(c, r->pool, &at)) != NULL) {
		resumed += p->draining;
		pool_resume(p);
	}
	name_pools(r->pool, name, sizeof(name));
	return answer(c, r->asker, 0, 0, resumed != 0 ? "%s: resumed" : "%s: nothing was draining", name);
}

static bool
do_revoke(struct commands *c, const struct request *r)
{
	unsigned long n = 0;
	unsigned revoked = 0, at = 0;
	const char *slash = strchr(r->argument, '/'), *digits = slash != NULL ? slash + 1 : r->argument;
	char *end = NULL;
	struct pool *p;

	if (*digits >= '0' && *digits <= '9')
		n = strtoul(digits, &end, 10);
	if (end == NULL || *end != '\0' || (slash == NULL && (n == 0 || n > INT_MAX)))
		return answer(c, r->asker, PGLEASE_EINVAL, 0,
		    "revoke takes POOL/SLOT, as pgleasestat -S numbers them, or a process ID, not \"%s\"", r->argument);
	if (slash != NULL) {
		if (r->pool == NULL)
			return no_pool(c, r);
		if (n >= r->pool->seg.nslots)
			return answer(c, r->asker, PGLEASE_EINVAL, 0, "pool %s has no slot %lu: its slots are 0 to %u",
			    r->pool->settings->name, n, r->pool->seg.nslots - 1);
		revoked = revoke_slot(&r->pool->server[n], c->params.clients, 0, COUNTER_REVOKED_ADMIN);
	} else {
		while ((p = next_pool(c, NULL, &at)) != NULL)
			for (uint32_t i = 0; i < p->seg.nslots; i++)
				revoked += revoke_slot(&p->server[i], c->params.clients, (pid_t)n, COUNTER_REVOKED_ADMIN);
	}
	if (revoked == 0)
		return answer(c, r->asker, PGLEASE_EREFUSED, 0, "%s holds no lease", r->argument);
	return answer(c, r->asker, 0, 0, "%u lease%s revoked", revoked, revoked == 1 ? "" : "s");
}

static bool
do_stop(struct commands *c, const struct request *r)
{
	/* Before the stop begins: its end may be now. The end of the connection is the last answer. */
	if (!answer(c, r->asker, 0, r->timeout + LATE_MS * NS_PER_MS, "instance %s: stopping",
	        c->params.settings->instance))
		return false;
	c->params.stop(c->params.context, r->timeout, r->who);
	return true;
}

static bool
do_restart(struct commands *c, const struct request *r)
{
	const char *why = c->stopping ? "it is stopping" : c->params.restart(c->params.context, r->given, r->who);
	uint64_t within = RESTART_MS * NS_PER_MS + (r->given > 0 ? (uint64_t)r->given : 0);

	if (why != NULL) {
		log_warning("instance %s is not restarted: %s", c->params.settings->instance, why);
		return answer(c, r->asker, PGLEASE_EREFUSED, 0, "instance %s is not restarted: %s", c->params.settings->instance,
		    why);
	}
	c->restarter = r->asker;
	c->restarter_json = r->json;
	return answer(c, r->asker, 0, within, "instance %s: restarting", c->params.settings->instance);
}

void
commands_restarted(struct commands *c, const char *why, const struct command_restarted *how)
{
	void *asker = c->restarter;

	if (asker == NULL)
		return;
	c->restarter = NULL;
	if (why != NULL)
		answer(c, asker, PGLEASE_EREFUSED, 0, "instance %s is not restarted: %s", c->params.settings->instance, why);
	else if (c->restarter_json)
		answer(c, asker, 0, 0,
		    "{\"instance\": \"%s\", \"state\": \"open\", \"pid\": %ld, \"version\": \"" PACKAGE_VERSION
		    "\", \"restarts\": %u, \"clients\": %u, \"connections\": %u, \"gap_ms\": %.3f}",
		    c->params.settings->instance, (long)getpid(), how->restarts, how->clients, how->connections,
		    (double)how->gap / 1e6);
	else
		answer(c, asker, 0, 0,
		    "instance %s: restarted as pgleased " PACKAGE_VERSION
		    ", pid %ld, with %u connections and %u clients, after %.1f ms",
		    c->params.settings->instance, (long)getpid(), how->connections, how->clients, (double)how->gap / 1e6);
}

/* Of one drain. */
static void
waited_fields(struct commands *c, struct handover *h, struct waited *w)
{
	uint32_t pool = w->pool != NULL ? w->pool->index + 1 : 0;

	handover_count(h, &pool, c->params.npools);
	w->pool = pool != 0 ? c->params.pools[pool - 1] : NULL;
	HANDOVER(h, w->began);
	HANDOVER(h, w->deadline);
}

void
commands_hand_over(struct commands *c, void *asker, struct handover *to)
{
	bool restarts = c->restarter == asker;
	struct waited *w;
	uint32_t n = 0;

	HANDOVER(to, restarts);
	HANDOVER(to, c->restarter_json);
	TAILQ_FOREACH(w, &c->waited, all)
		n += w->asker == asker;
	HANDOVER(to, n);
	TAILQ_FOREACH(w, &c->waited, all)
		if (w->asker == asker)
			waited_fields(c, to, w);
}

int
commands_take_over(struct commands *c, void *asker, struct handover *from)
{
	bool restarts = false, json = false;
	uint32_t n = 0;

	HANDOVER(from, restarts);
	HANDOVER(from, json);
	HANDOVER(from, n);
	if (restarts) {
		c->restarter = asker;
		c->restarter_json = json;
	}
	for (uint32_t i = 0; i < n && handover_check(from, false) == 0; i++) {
		struct waited *w = calloc(1, sizeof(*w));

		if (w == NULL)
			return log_refuse("out of memory");
		w->asker = asker;
		waited_fields(c, from, w);
		TAILQ_INSERT_TAIL(&c->waited, w, all);
	}
	return handover_check(from, false);
}

/* clang-format off */
static const struct {
	const char *name, *argument;
	bool (*run)(struct commands *commands, const struct request *request);
} verbs[] = {
#define VERB(name, argument, help) {#name, argument, do_##name},
	COMMAND_VERBS(VERB)
#undef VERB
};
/* clang-format on */

struct commands *
commands_new(const struct commands_params *params)
{
	struct commands *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->params = *params;
	TAILQ_INIT(&c->waited);
	return c;
}

static void
forget(struct commands *c, struct waited *w)
{
	TAILQ_REMOVE(&c->waited, w, all);
	free(w);
}

void
commands_free(struct commands *c)
{
	if (c == NULL)
		return;
	while (!TAILQ_EMPTY(&c->waited))
		forget(c, TAILQ_FIRST(&c->waited));
	free(c);
}

/* What came over the socket, as text of one line. */
static void
copy_text(char *to, size_t size, const char *from, size_t from_size)
{
	snprintf(to, size, "%.*s", (int)strnlen(from, from_size), from);
	log_flatten(to);
}

bool
commands_run(
    struct commands *c, void *asker, const struct command_peer *peer, const struct wire_command *command)
{
	char verb[sizeof(command->verb) + 1], argument[sizeof(command->argument) + 1];
	struct request r = {.asker = asker, .json = (command->flags & WIRE_COMMAND_JSON) != 0};
	size_t i, pool_length;

	copy_text(verb, sizeof(verb), command->verb, sizeof(command->verb));
	copy_text(argument, sizeof(argument), command->argument, sizeof(command->argument));
	snprintf(
	    r.who, sizeof(r.who), "%s by uid %lu, pid %ld", verb, (unsigned long)peer->uid, (long)peer->pid);
	if (!peer->allowed) {
		log_warning("command refused: %s", r.who);
		return answer(c, asker, PGLEASE_EPERM, 0,
		    "uid %lu may not command the instance %s: ask for admin_users or admin_groups in its "
		    "configuration",
		    (unsigned long)peer->uid, c->params.settings->instance);
	}
	log_info("command %s%s%s", r.who, argument[0] != '\0' ? ": " : "", argument);
	for (i = 0; i < command_nverbs && strcmp(verbs[i].name, verb) != 0; i++)
		;
	if (i == command_nverbs)
		return answer(c, asker, PGLEASE_EINVAL, 0,
		    "the broker knows no command \"%s\" (another version?)", verb);
	if (argument[0] != '\0' && verbs[i].argument[0] == '\0')
		return answer(
		    c, asker, PGLEASE_EINVAL, 0, "%s takes no argument, but \"%s\" came", verb, argument);
	if (argument[0] == '\0' && verbs[i].argument[0] != '\0' && verbs[i].argument[0] != '[')
		return answer(c, asker, PGLEASE_EINVAL, 0, "%s needs an argument: %s", verb, verbs[i].argument);
	r.argument = argument;
	/* "app"; for revoke "app/3", too */
	pool_length = verbs[i].run == do_revoke ? strcspn(argument, "/") : strlen(argument);
	for (unsigned n = 0; n < c->params.npools; n++) {
		const char *name = c->params.pools[n]->settings->name;

		if (strlen(name) == pool_length && memcmp(name, argument, pool_length) == 0)
			r.pool = c->params.pools[n];
	}
	if (strcmp(verbs[i].argument, "[POOL]") == 0 && argument[0] != '\0' && r.pool == NULL)
		return no_pool(c, &r);
	r.given = command->timeout_ms < 0 ? -1 : (int64_t)command->timeout_ms * (int64_t)NS_PER_MS;
	r.timeout = command->timeout_ms < 0 ? c->params.settings->drain_timeout
	                                    : (uint64_t)command->timeout_ms * NS_PER_MS;
	return verbs[i].run(c, &r);
}

void
commands_stopping(struct commands *c)
{
	c->stopping = true;
}

void
commands_forget(struct commands *c, void *asker)
{
	struct waited *w, *next;

	if (c->restarter == asker)
		c->restarter = NULL;
	for (w = TAILQ_FIRST(&c->waited); w != NULL; w = next) {
		next = TAILQ_NEXT(w, all);
		if (w->asker == asker)
			forget(c, w);
	}
}

void
commands_look(struct commands *c, uint64_t now)
{
	struct waited *w, *next;

	for (w = TAILQ_FIRST(&c->waited); w != NULL; w = next) {
		struct waited here = *w;

		next = TAILQ_NEXT(w, all);
		/*
		 * An answer is a last one and ends the asker, who is forgotten with what it waits for
		 * (commands_forget).
		 */
		look_at(c, &here, now);
	}
}

/* SPDX-License-Identifier: PostgreSQL */
/* Control commands. The verbs are the list of src/shm/command.h; each has a function verb_VERB. */
#include "commands_priv.h"

#include <config.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handover.h"
#include "revoke.h"

/* What a restart may take besides its limit: the check of the other program (restart.c), and the start of that. */
#define RESTART_MS UINT64_C(30000)

bool
commands_answer(struct commands *c, void *asker, int code, uint64_t more_within, const char *format, ...)
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

struct pool *
commands_next_pool(const struct commands *c, const struct pool *only, unsigned *at)
{
	while (*at < c->params.npools) {
		struct pool *p = c->params.pools[(*at)++];

		if (only == NULL || only == p)
			return p;
	}
	return NULL;
}

bool
commands_no_pool(struct commands *c, const struct request *r)
{
	return commands_answer(
	    c, r->asker, PGLEASE_ENOPOOL, 0, "the instance %s has no pool \"%s\"", c->params.settings->instance, r->argument);
}

void
commands_name_pools(const struct pool *pool, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s", pool != NULL ? "pool " : "all pools",
	    pool != NULL ? pool->settings->name : "");
}

bool
verb_revoke(struct commands *c, const struct request *r)
{
	unsigned long n = 0;
	unsigned revoked = 0, at = 0;
	const char *slash = strchr(r->argument, '/'), *digits = slash != NULL ? slash + 1 : r->argument;
	char *end = NULL;
	struct pool *p;

	if (*digits >= '0' && *digits <= '9')
		n = strtoul(digits, &end, 10);
	if (end == NULL || *end != '\0' || (slash == NULL && (n == 0 || n > INT_MAX)))
		return commands_answer(c, r->asker, PGLEASE_EINVAL, 0,
		    "revoke takes POOL/SLOT, as pgleasestat -S numbers them, or a process ID, not \"%s\"", r->argument);
	if (slash != NULL) {
		if (r->pool == NULL)
			return commands_no_pool(c, r);
		if (n >= r->pool->seg.nslots)
			return commands_answer(c, r->asker, PGLEASE_EINVAL, 0, "pool %s has no slot %lu: its slots are 0 to %u",
			    r->pool->settings->name, n, r->pool->seg.nslots - 1);
		revoked = revoke_slot(&r->pool->server[n], c->params.clients, 0, COUNTER_REVOKED_ADMIN);
	} else {
		/* Of those that are going, too. */
		while (at < c->params.nall && (p = c->params.pools[at++]) != NULL)
			for (uint32_t i = 0; i < p->seg.nslots; i++)
				revoked += revoke_slot(&p->server[i], c->params.clients, (pid_t)n, COUNTER_REVOKED_ADMIN);
	}
	if (revoked == 0)
		return commands_answer(c, r->asker, PGLEASE_EREFUSED, 0, "%s holds no lease", r->argument);
	return commands_answer(c, r->asker, 0, 0, "%u lease%s revoked", revoked, revoked == 1 ? "" : "s");
}

bool
verb_stop(struct commands *c, const struct request *r)
{
	/* Before the stop begins: its end may be now. The end of the connection is the last answer. */
	if (!commands_answer(c, r->asker, 0, r->timeout + LATE_MS * NS_PER_MS, "instance %s: stopping",
	        c->params.settings->instance))
		return false;
	c->params.stop(c->params.context, r->timeout, r->who);
	return true;
}

/* It has begun, unless there is a reason why not. */
static bool
restarting(struct commands *c, const struct request *r, bool reload, const char *why)
{
	uint64_t within = RESTART_MS * NS_PER_MS + (r->given > 0 ? (uint64_t)r->given : 0);

	if (why != NULL) {
		log_warning("instance %s is not %s: %s", c->params.settings->instance, reload ? "reloaded" : "restarted", why);
		return commands_answer(c, r->asker, PGLEASE_EREFUSED, 0, "instance %s is not %s: %s", c->params.settings->instance,
		    reload ? "reloaded" : "restarted", why);
	}
	c->restarter = r->asker;
	c->restarter_json = r->json;
	c->restarter_reloads = reload;
	return commands_answer(
	    c, r->asker, 0, within, "instance %s: %s", c->params.settings->instance, reload ? "reloading" : "restarting");
}

bool
verb_restart(struct commands *c, const struct request *r)
{
	return restarting(
	    c, r, false, c->stopping ? "it is stopping" : c->params.restart(c->params.context, r->given, r->who));
}

bool
verb_reload(struct commands *c, const struct request *r)
{
	return restarting(c, r, true, c->stopping ? "it is stopping" : c->params.reload(c->params.context, r->who));
}

bool
verb_set(struct commands *c, const struct request *r)
{
	return restarting(
	    c, r, true, c->stopping ? "it is stopping" : c->params.set(c->params.context, r->argument, r->who));
}

void
commands_forget_pool(struct commands *c, unsigned nall)
{
	c->params.nall = nall;
}

void
commands_tell_change(struct commands *c, const struct pool *p, enum command_change change)
{
	static const char *const names[] = {"new", "going", "made anew"};
	unsigned leases = pool_count_leases(p);

	if (c->restarter == NULL)
		return;
	if (c->restarter_json)
		commands_answer(c, c->restarter, 0, LATE_MS * NS_PER_MS, "{\"pool\": \"%s\", \"change\": \"%s\", \"leases\": %u}",
		    p->settings->name, names[change], leases);
	else if (change == POOL_COMES)
		commands_answer(c, c->restarter, 0, LATE_MS * NS_PER_MS, "pool %s: new", p->settings->name);
	else
		commands_answer(c, c->restarter, 0, LATE_MS * NS_PER_MS, "pool %s: %s, %u leases of the old one are out",
		    p->settings->name, names[change], leases);
}

void
commands_say(struct commands *c, const char *why)
{
	if (c->restarter != NULL)
		commands_answer(c, c->restarter, PGLEASE_EREFUSED, LATE_MS * NS_PER_MS, "%s", why);
}

void
commands_restarted(struct commands *c, const char *why, const struct command_restarted *how)
{
	void *asker = c->restarter;

	if (asker == NULL)
		return;
	c->restarter = NULL;
	if (why != NULL)
		commands_answer(c, asker, PGLEASE_EREFUSED, 0, "instance %s is not %s: %s", c->params.settings->instance,
		    c->restarter_reloads ? "reloaded" : "restarted", why);
	else if (c->restarter_json)
		commands_answer(c, asker, 0, 0,
		    "{\"instance\": \"%s\", \"state\": \"open\", \"pid\": %ld, \"version\": \"" PACKAGE_VERSION
		    "\", \"restarts\": %u, \"clients\": %u, \"connections\": %u, \"gap_ms\": %.3f}",
		    c->params.settings->instance, (long)getpid(), how->restarts, how->clients, how->connections,
		    (double)how->gap / 1e6);
	else if (c->restarter_reloads)
		commands_answer(c, asker, 0, 0, "instance %s: reloaded, with %u connections and %u clients, after %.1f ms",
		    c->params.settings->instance, how->connections, how->clients, (double)how->gap / 1e6);
	else
		commands_answer(c, asker, 0, 0,
		    "instance %s: restarted as pgleased " PACKAGE_VERSION
		    ", pid %ld, with %u connections and %u clients, after %.1f ms",
		    c->params.settings->instance, (long)getpid(), how->connections, how->clients, (double)how->gap / 1e6);
}

void
commands_hand_over(struct commands *c, void *asker, struct handover *to)
{
	bool restarts = c->restarter == asker;
	struct waited *w;
	uint32_t n = 0;

	HANDOVER(to, restarts);
	HANDOVER(to, c->restarter_json);
	HANDOVER(to, c->restarter_reloads);
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
	bool restarts = false, json = false, reloads = false;
	uint32_t n = 0;

	HANDOVER(from, restarts);
	HANDOVER(from, json);
	HANDOVER(from, reloads);
	HANDOVER(from, n);
	if (restarts) {
		c->restarter = asker;
		c->restarter_json = json;
		c->restarter_reloads = reloads;
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

typedef bool (*verb_function)(struct commands *commands, const struct request *request);

/* clang-format off */
static const struct {
	const char *name, *argument;
	verb_function run;
} verbs[] = {
#define VERB(id, name, argument, help) {name, argument, verb_##id},
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

/* Whose name is the argument, or of revoke's (app/3) and show's (config/app) the part that it is. */
static struct pool *
find_pool(const struct commands *c, verb_function verb, const char *argument)
{
	const char *slash = strchr(argument, '/');
	size_t length;

	if (verb == verb_show)
		argument = slash != NULL ? slash + 1 : "";
	length = verb == verb_revoke && slash != NULL ? (size_t)(slash - argument) : strlen(argument);
	for (unsigned n = 0; n < c->params.npools; n++) {
		const char *name = c->params.pools[n]->settings->name;

		if (strlen(name) == length && memcmp(name, argument, length) == 0)
			return c->params.pools[n];
	}
	return NULL;
}

bool
commands_run(
    struct commands *c, void *asker, const struct command_peer *peer, const struct wire_command *command)
{
	char verb[sizeof(command->verb) + 1], argument[sizeof(command->argument) + 1];
	struct request r = {.asker = asker, .json = (command->flags & WIRE_COMMAND_JSON) != 0};
	size_t i;

	copy_text(verb, sizeof(verb), command->verb, sizeof(command->verb));
	copy_text(argument, sizeof(argument), command->argument, sizeof(command->argument));
	snprintf(
	    r.who, sizeof(r.who), "%s by uid %lu, pid %ld", verb, (unsigned long)peer->uid, (long)peer->pid);
	if (!peer->allowed) {
		log_warning("command refused: %s", r.who);
		return commands_answer(c, asker, PGLEASE_EPERM, 0,
		    "uid %lu may not command the instance %s: ask for admin_users or admin_groups in its "
		    "configuration",
		    (unsigned long)peer->uid, c->params.settings->instance);
	}
	/* A value that is set may be a secret, by mistake. */
	log_info("command %s%s%.*s", r.who, argument[0] != '\0' ? ": " : "", (int)strcspn(argument, "="), argument);
	for (i = 0; i < command_nverbs && strcmp(verbs[i].name, verb) != 0; i++)
		;
	if (i == command_nverbs)
		return commands_answer(c, asker, PGLEASE_EINVAL, 0,
		    "the broker knows no command \"%s\" (another version?)", verb);
	if (argument[0] != '\0' && verbs[i].argument[0] == '\0')
		return commands_answer(
		    c, asker, PGLEASE_EINVAL, 0, "%s takes no argument, but \"%s\" came", verb, argument);
	if (argument[0] == '\0' && verbs[i].argument[0] != '\0' && verbs[i].argument[0] != '[')
		return commands_answer(c, asker, PGLEASE_EINVAL, 0, "%s needs an argument: %s", verb, verbs[i].argument);
	r.argument = argument;
	r.pool = find_pool(c, verbs[i].run, argument);
	if (verbs[i].run != verb_revoke && verbs[i].run != verb_show && verbs[i].run != verb_set && argument[0] != '\0' && r.pool == NULL)
		return commands_no_pool(c, &r);
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
		waited_look(c, &here, now);
	}
}

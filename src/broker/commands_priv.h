/* SPDX-License-Identifier: PostgreSQL */
/* commands.c: who is answered, and the table of verbs. commands_pools.c and commands_show.c: what they do. */
#ifndef PGLEASE_BROKER_COMMANDS_PRIV_H
#define PGLEASE_BROKER_COMMANDS_PRIV_H

#include <sys/queue.h>

#include "command.h"
#include "commands.h"
#include "log.h"
#include "pglease_errors.h"

#define NS_PER_MS UINT64_C(1000000)
/* What an answer may be late by, beyond the limit of what is waited for. */
#define LATE_MS 1000

/* What somebody waits for the end of. */
enum waited_for { WAITED_DRAIN, WAITED_PAUSE, WAITED_RECONNECT };
struct waited {
	TAILQ_ENTRY(waited) all;
	enum waited_for what;
	void *asker;
	const struct pool *pool; /* NULL: all */
	bool is_gone; /* a reload has taken the pool out, or made it anew */
	uint64_t began, deadline;
};

struct commands {
	struct commands_params params;
	TAILQ_HEAD(, waited) waited;
	bool stopping;
	void *restarter; /* who waits for a restart; NULL: nobody */
	bool restarter_json, restarter_reloads;
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

/*
 * More answers follow within `more_within` ns; 0: it is the last. False: the asker is gone, as he always is after the last.
 */
bool LOG_PRINTF(5, 6)
    commands_answer(struct commands *c, void *asker, int code, uint64_t more_within, const char *format, ...);
/* Says that there is no such pool as the argument names. */
bool commands_no_pool(struct commands *c, const struct request *r);
/* The pools that a request is about, one at a time; `at` starts at 0. */
struct pool *commands_next_pool(const struct commands *c, const struct pool *only, unsigned *at);
/* "pool app", or "all pools" */
void commands_name_pools(const struct pool *pool, char *buf, size_t size);

/* Answers one that is over, undone or late. False when it is none of these. */
bool waited_look(struct commands *c, const struct waited *w, uint64_t now);
/* Its words, to and from another broker's. */
void waited_fields(struct commands *c, struct handover *h, struct waited *w);

/* Of each verb: does it, and answers. False: the asker is gone. */
#define VERB_FUNCTION(id, name, argument, help) bool verb_##id(struct commands *c, const struct request *r);
COMMAND_VERBS(VERB_FUNCTION)
#undef VERB_FUNCTION

#endif

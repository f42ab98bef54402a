/* SPDX-License-Identifier: PostgreSQL */
/* Lines of "what<tab>value". Texts, which may have passwords in them, are told by a number that follows from them. */
#include "agreement.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "alert_command.h"
#include "alert_watch.h"
#include "cancel_send.h"
#include "cancels.h"
#include "handover.h"
#include "history.h"
#include "log.h"
#include "pool.h"
#include "startup.h"
#include "target.h"
#include "wire.h"

#define FIRST "pglease agreement"
#define REFUSED "refused"
/* Wanted by the one program, and had by the other: there must be as many. */
#define ROOM "room for connections of"
#define VALUE 512
#define LINE (VALUE + 128)

static uint64_t
hash(uint64_t h, const void *bytes, size_t size)
{
	const unsigned char *at = bytes;

	/* FNV-1a */
	for (size_t i = 0; i < size; i++)
		h = (h ^ at[i]) * UINT64_C(0x100000001b3);
	return h;
}

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* A structure that grows in a new version is not forgotten when HANDOVER_VERSION is. */
static uint64_t
hash_of_state(void)
{
	const size_t sizes[] = {sizeof(struct server), sizeof(struct server_key), sizeof(struct backend), sizeof(struct pulse), sizeof(struct alert_watch),
	    sizeof(struct alert_news), ALERT_N,
	    sizeof(struct startup_claim), sizeof(struct cancels_ticket), sizeof(struct cancel_target),
	    sizeof(struct history_row), sizeof(struct stats_process), STATS_NTIMES, HISTORY_BUCKETS, LAYOUT_BASELINE};
	struct stats_column columns[HISTORY_MAX_COLUMNS];

	memset(columns, 0, sizeof(columns));
	history_describe(columns);
	return hash(hash(HASH_START, sizes, sizeof(sizes)), columns, sizeof(columns));
}

static void
print_settings(enum setting_section section, const void *values, const char *whose, FILE *out)
{
	char value[VALUE];

	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *s = &settings[i];

		if (s->section != section || s->change != SETTING_FIXED)
			continue;
		settings_show(s, values, value, sizeof(value));
		if (s->type == SETTING_TEXT)
			fprintf(out, "%s of %s\t#%016" PRIx64 "\n", s->name, whose, hash(HASH_START, value, strlen(value)));
		else
			fprintf(out, "%s of %s\t%s\n", s->name, whose, value);
	}
}

/* What clients and the embedded server have been told once. */
static void
print_pool(const struct pool_settings *pool, const uint32_t *capacity, FILE *out)
{
	uint64_t connections = pool->max_connections + pool->reserve_connections;
	char whose[LAYOUT_NAME + 8];
	struct target target;

	snprintf(whose, sizeof(whose), "pool %s", pool->name);
	print_settings(SETTING_POOL, pool, whose, out);
	if (pool->embedded) {
		fprintf(out, "connections of %s\t%" PRIu64 "\n", whose, connections);
		return;
	}
	fprintf(out, ROOM " %s\t%" PRIu64 "\n", whose, capacity != NULL ? *capacity : connections);
	if (target_init(pool->conninfo, pool, &target) != 0)
		return;
	fprintf(out, "user of %s\t%s\n", whose, target.user);
	fprintf(out, "database of %s\t%s\n", whose, target.dbname);
	target_fini(&target);
}

void
agreement_print(const struct configuration *c, const uint32_t *capacity, FILE *out)
{
	fprintf(out, FIRST "\t1\n");
	fprintf(out, "version of the handed-over state\t%u (%016" PRIx64 ")\n", HANDOVER_VERSION, hash_of_state());
	fprintf(out, "layout of the lease segments\t%u (%08x)\n", LAYOUT_VERSION, layout_hash());
	fprintf(out, "version of the control protocol\t%u\n", WIRE_VERSION);
	print_settings(SETTING_INSTANCE, &c->instance, "the instance", out);
	fprintf(out, "number of pools\t%u\n", c->npools);
	for (unsigned i = 0; i < c->npools; i++) {
		fprintf(out, "name of pool %u\t%s\n", i + 1, c->pool[i].name);
		print_pool(&c->pool[i], capacity != NULL ? &capacity[i] : NULL, out);
	}
}

void
agreement_refuse(FILE *out)
{
	fprintf(out, FIRST "\t1\n");
}

void
agreement_reason(const char *why, FILE *out)
{
	fprintf(out, REFUSED "\t%s\n", why);
}

/* The next line, without its end; false when there is none. A longer one than any of ours is cut. */
static bool
take_line(const char **at, char line[static LINE])
{
	size_t n = strcspn(*at, "\n");

	if (**at == '\0')
		return false;
	snprintf(line, LINE, "%.*s", (int)(n < LINE ? n : LINE), *at);
	*at += n + ((*at)[n] == '\n');
	return true;
}

/* Two lines that differ; NULL: there is none. False when they fit all the same. */
static bool
differ(char *a, char *b, char why[static AGREEMENT_WHY])
{
	char *value_a, *value_b;

	log_flatten(b != NULL ? b : a); /* the tab becomes a blank */
	value_a = a != NULL ? strchr(a, '\t') : NULL;
	if (value_a != NULL)
		*value_a++ = '\0';
	value_b = value_a != NULL && b != NULL && strncmp(a, b, strlen(a)) == 0 ? b + strlen(a) + 1 : NULL;
	if (value_b == NULL)
		snprintf(why, AGREEMENT_WHY, "%s knows nothing of the %.200s", a != NULL ? "the program on disk" : "this program",
		    a != NULL ? a : b);
	else if (strncmp(a, ROOM, sizeof(ROOM) - 1) == 0 && strtoul(value_b, NULL, 10) <= strtoul(value_a, NULL, 10))
		return false;
	else if (*value_a == '#')
		snprintf(why, AGREEMENT_WHY, "%.200s has changed", a);
	else
		snprintf(why, AGREEMENT_WHY, "%.150s is %.150s, and would be %.150s", a, value_a, value_b);
	strncat(why, "; stop and start it instead", AGREEMENT_WHY - strlen(why) - 1);
	return true;
}

bool
agreement_holds(const char *mine, const char *theirs, agreement_tell tell, void *context)
{
	char a[LINE], b[LINE], why[AGREEMENT_WHY];
	bool more_a, more_b, holds = true;

	if (strncmp(theirs, FIRST "\t", sizeof(FIRST)) != 0) {
		if (!take_line(&theirs, b))
			strcpy(b, "nothing");
		log_flatten(b);
		snprintf(why, AGREEMENT_WHY, "the program on disk does not know how to take its place; it says: %.300s", b);
		tell(context, why);
		return false;
	}
	take_line(&theirs, b);
	take_line(&mine, a);
	for (; strncmp(theirs, REFUSED "\t", sizeof(REFUSED)) == 0; holds = false) {
		take_line(&theirs, b);
		log_flatten(b + sizeof(REFUSED));
		tell(context, b + sizeof(REFUSED));
	}
	/* Line by line; one that the other does not have ends the comparison: what follows is not of the same things. */
	while (holds || *theirs != '\0') {
		const char *key;

		more_a = take_line(&mine, a);
		more_b = take_line(&theirs, b);
		if (!more_a && !more_b)
			break;
		if (more_a && more_b && strcmp(a, b) == 0)
			continue;
		key = more_a ? strchr(a, '\t') : NULL;
		if (!differ(more_a ? a : NULL, more_b ? b : NULL, why))
			continue;
		tell(context, why);
		holds = false;
		/* differ() has cut a's value off. */
		if (key == NULL || !more_b || strncmp(a, b, strlen(a)) != 0)
			break;
	}
	return holds;
}

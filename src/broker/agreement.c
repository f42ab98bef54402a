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
#include "pools.h"
#include "startup.h"
#include "wire.h"

#define FIRST "pglease agreement"
#define REFUSED "refused"
/* Wanted by the one program, and had by the other: there must be as many. */
#define ROOM "room for connections of"
/* Of the program that would take the place: each of its pools. Which come and go is no matter of agreement. */
#define POOL "pool"
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

/* The embedded server was started for so many connections, and is neither started nor stopped now. */
static unsigned
embedded_wanted(const struct configuration *c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < c->npools; i++)
		if (c->pool[i].embedded)
			n += c->pool[i].max_connections + c->pool[i].reserve_connections;
	return (unsigned)n;
}

void
agreement_print(const struct configuration *c, const struct agreement_has *has, FILE *out)
{
	unsigned embedded = has != NULL ? has->embedded_connections : embedded_wanted(c);

	fprintf(out, FIRST "\t1\n");
	fprintf(out, "version of the handed-over state\t%u (%016" PRIx64 ")\n", HANDOVER_VERSION, hash_of_state());
	fprintf(out, "layout of the lease segments\t%u (%08x)\n", LAYOUT_VERSION, layout_hash());
	fprintf(out, "version of the control protocol\t%u\n", WIRE_VERSION);
	print_settings(SETTING_INSTANCE, &c->instance, "the instance", out);
	fprintf(out, "embedded PostgreSQL of the instance\t%s\n", embedded != 0 ? "yes" : "no");
	fprintf(out, ROOM " the embedded PostgreSQL\t%u\n", embedded);
	for (unsigned i = 0; has == NULL && i < c->npools; i++)
		fprintf(out, POOL "\t%s %016" PRIx64 " %" PRIu64 "\n", c->pool[i].name, pools_made_by(&c->pool[i]),
		    c->pool[i].max_connections + c->pool[i].reserve_connections);
}

unsigned
agreement_pools(const char *theirs, struct agreement_pool ret[static LAYOUT_MAX_POOLS])
{
	char line[LINE];
	unsigned n = 0;

	while (n < LAYOUT_MAX_POOLS && take_line(&theirs, line)) {
		struct agreement_pool *p = &ret[n];

		n += sscanf(line, POOL "\t%63s %" SCNx64 " %" SCNu64, p->name, &p->made_by, &p->connections) == 3;
	}
	return n;
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

/* The same, but of what there must be agreement on. */
static bool
take_agreed(const char **at, char line[static LINE])
{
	do
		if (!take_line(at, line))
			return false;
	while (strncmp(line, POOL "\t", sizeof(POOL)) == 0);
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
		more_b = take_agreed(&theirs, b);
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

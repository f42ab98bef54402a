/* SPDX-License-Identifier: PostgreSQL */
/* Lines of "what<tab>value". Texts, which may have passwords in them, are told by a number that follows from them. */
#include "agreement.h"

#include <inttypes.h>
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
#include "wire.h"

#define FIRST "pglease agreement"
#define REFUSED "refused"
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

		if (s->section != section || !s->fixed)
			continue;
		settings_show(s, values, value, sizeof(value));
		if (s->type == SETTING_TEXT)
			fprintf(out, "%s of %s\t#%016" PRIx64 "\n", s->name, whose, hash(HASH_START, value, strlen(value)));
		else
			fprintf(out, "%s of %s\t%s\n", s->name, whose, value);
	}
}

void
agreement_print(const struct configuration *c, FILE *out)
{
	char whose[LAYOUT_NAME + 8];

	fprintf(out, FIRST "\t1\n");
	fprintf(out, "version of the handed-over state\t%u (%016" PRIx64 ")\n", HANDOVER_VERSION, hash_of_state());
	fprintf(out, "layout of the lease segments\t%u (%08x)\n", LAYOUT_VERSION, layout_hash());
	fprintf(out, "version of the control protocol\t%u\n", WIRE_VERSION);
	print_settings(SETTING_INSTANCE, &c->instance, "the instance", out);
	fprintf(out, "number of pools\t%u\n", c->npools);
	for (unsigned i = 0; i < c->npools; i++) {
		fprintf(out, "name of pool %u\t%s\n", i + 1, c->pool[i].name);
		snprintf(whose, sizeof(whose), "pool %s", c->pool[i].name);
		print_settings(SETTING_POOL, &c->pool[i], whose, out);
	}
}

void
agreement_refuse(const char *why, FILE *out)
{
	fprintf(out, FIRST "\t1\n" REFUSED "\t%s\n", why);
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

bool
agreement_holds(const char *mine, const char *theirs, char why[static AGREEMENT_WHY])
{
	char a[LINE], b[LINE], *value_a, *value_b;

	if (strncmp(theirs, FIRST "\t", sizeof(FIRST)) != 0) {
		if (!take_line(&theirs, b))
			strcpy(b, "nothing");
		log_flatten(b);
		snprintf(why, AGREEMENT_WHY, "the program on disk does not know how to take its place; it says: %.300s", b);
		return false;
	}
	take_line(&theirs, b);
	take_line(&mine, a);
	if (strncmp(theirs, REFUSED "\t", sizeof(REFUSED)) == 0) {
		snprintf(why, AGREEMENT_WHY, "%.400s", theirs + sizeof(REFUSED));
		return false;
	}
	for (;;) {
		bool more_a = take_line(&mine, a), more_b = take_line(&theirs, b);

		if (!more_a && !more_b)
			return true;
		if (more_a && more_b && strcmp(a, b) == 0)
			continue;
		log_flatten(b); /* the tab becomes a blank */
		value_a = more_a ? strchr(a, '\t') : NULL;
		if (value_a != NULL)
			*value_a++ = '\0';
		value_b = value_a != NULL && more_b && strncmp(a, b, strlen(a)) == 0 ? b + strlen(a) + 1 : NULL;
		if (value_b == NULL)
			snprintf(why, AGREEMENT_WHY, "%s knows nothing of the %.200s",
			    more_a ? "the program on disk" : "this program", more_a ? a : b);
		else if (*value_a == '#')
			snprintf(why, AGREEMENT_WHY, "%.200s has changed", a);
		else
			snprintf(why, AGREEMENT_WHY, "%.150s is %.150s, and would be %.150s", a, value_a, value_b);
		strncat(why, "; stop and start it instead", AGREEMENT_WHY - strlen(why) - 1);
		return false;
	}
}

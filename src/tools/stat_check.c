/* SPDX-License-Identifier: PostgreSQL */
/* One line of health; see stat_check.h. */
#include "stat_check.h"

#include <inttypes.h>
#include <string.h>

#include "health.h"
#include "stat_output.h"

static const char *const status_names[] = {
    [CHECK_OK] = "OK", [CHECK_WARNING] = "WARNING", [CHECK_CRITICAL] = "CRITICAL", [CHECK_UNKNOWN] = "UNKNOWN"};

enum check_status
stat_check_unknown(const char *why, FILE *out)
{
	fprintf(out, "PGLEASE UNKNOWN - %s\n", why);
	return CHECK_UNKNOWN;
}

static const char *
text_of(const struct stats_view *view, uint32_t row, const char *name)
{
	const struct stats_column *column = stats_column_find(view, name);

	return column != NULL && column->type == STATS_TEXT ? stats_value_text(view, row, column) : "";
}

static uint64_t
number_of(const struct stats_view *view, uint32_t row, const char *name)
{
	const struct stats_column *column = stats_column_find(view, name);
	uint64_t value;

	return column != NULL && column->type != STATS_TEXT && stats_value_u64(view, row, column, &value) ? value : 0;
}

static enum check_status
status_of(const struct stats_view *pools, uint32_t row)
{
	const char *health = text_of(pools, row, "health");

	if (strcmp(health, health_level_name(HEALTH_OK)) == 0)
		return CHECK_OK;
	if (strcmp(health, health_level_name(HEALTH_DEGRADED)) == 0)
		return CHECK_WARNING;
	return strcmp(health, health_level_name(HEALTH_DOWN)) == 0 ? CHECK_CRITICAL : CHECK_UNKNOWN;
}

/* Down is worse than not knowing. */
static enum check_status
worse(enum check_status a, enum check_status b)
{
	static const unsigned badness[] = {
	    [CHECK_OK] = 0, [CHECK_WARNING] = 1, [CHECK_UNKNOWN] = 2, [CHECK_CRITICAL] = 3};

	return badness[a] >= badness[b] ? a : b;
}

/* "waiting,failing" in words. */
static void
print_reasons(const char *names, FILE *out)
{
	char name[HEALTH_TEXT];
	const char *separator = "";

	for (unsigned bit = 0; bit < HEALTH_NREASONS; bit++) {
		const char *at;

		health_names(1u << bit, name);
		at = strstr(names, name);
		if (at == NULL || (at != names && at[-1] != ',') || (at[strlen(name)] != ',' && at[strlen(name)] != '\0'))
			continue;
		fprintf(out, "%s%s", separator, health_reason_text(bit));
		separator = "; ";
	}
	if (*separator == '\0') /* a newer broker's */
		fputs(*names != '\0' ? names : "no reason given", out);
}

struct sums {
	unsigned npools;
	uint64_t max, leased, waiting, maxwait;
};

static void
print_good(const struct sums *sums, FILE *out)
{
	char age[32];

	fprintf(out, "%u pool%s, %" PRIu64 " of %" PRIu64 " connections leased, ", sums->npools,
	    sums->npools == 1 ? "" : "s", sums->leased, sums->max);
	if (sums->waiting == 0) {
		fputs("nobody waits", out);
		return;
	}
	stat_output_duration(sums->maxwait, age, sizeof(age));
	fprintf(out, "%" PRIu64 " wait, the oldest for %s", sums->waiting, age);
}

/* 'label'=value[unit];warning;critical;minimum;maximum */
static void
print_performance(const struct stats_view *pools, uint32_t row, FILE *out)
{
	const char *name = text_of(pools, row, "name");
	uint64_t max = number_of(pools, row, "max");
	char seconds[48];

	stat_output_seconds(number_of(pools, row, "maxwait"), seconds, sizeof(seconds));
	fprintf(out, " '%s_total'=%" PRIu64 ";;;0;%" PRIu64 " '%s_leased'=%" PRIu64 ";;;0;%" PRIu64, name,
	    number_of(pools, row, "total"), max, name, number_of(pools, row, "leased") + number_of(pools, row, "granted"),
	    max);
	fprintf(out, " '%s_waiting'=%" PRIu64 ";;;0 '%s_maxwait'=%ss;;;0", name, number_of(pools, row, "waiting"), name,
	    seconds);
	fprintf(out, " '%s_leases'=%" PRIu64 "c '%s_timeouts'=%" PRIu64 "c", name,
	    number_of(pools, row, "leases_immediate") + number_of(pools, row, "leases_waited"), name,
	    number_of(pools, row, "timeouts"));
}

/* What makes all pools' numbers worthless; "": nothing does. */
static enum check_status
whole_problem(const struct stats_snapshot *snapshot, char *buf, size_t size)
{
	char age[32];

	stat_output_duration(snapshot->age_ns, age, sizeof(age));
	buf[0] = '\0';
	if (snapshot->gone)
		snprintf(buf, size, "the broker is gone; its last numbers are %s old", age);
	else if (snapshot->age_ns > HEALTH_TICK_LIMIT)
		snprintf(buf, size, "the broker has published nothing for %s", age);
	else if (snapshot->header.state == SEGMENT_CLOSED)
		snprintf(buf, size, "the broker has stopped");
	if (buf[0] != '\0')
		return CHECK_CRITICAL;
	if (snapshot->torn)
		snprintf(buf, size, "the numbers are torn: not all of one moment");
	else if (snapshot->header.off)
		snprintf(buf, size, "monitoring is off (monitoring = no)");
	return buf[0] != '\0' ? CHECK_UNKNOWN : CHECK_OK;
}

static bool
is_wanted(const struct stats_view *pools, uint32_t row, const char *pool)
{
	return pool == NULL || strcmp(text_of(pools, row, "name"), pool) == 0;
}

static enum check_status
judge(const struct stats_view *pools, const char *pool, struct sums *ret)
{
	enum check_status status = CHECK_OK;

	for (uint32_t row = 0; row < pools->nrows; row++) {
		uint64_t maxwait = number_of(pools, row, "maxwait");

		if (!is_wanted(pools, row, pool))
			continue;
		status = worse(status, status_of(pools, row));
		ret->npools++;
		ret->max += number_of(pools, row, "max");
		ret->leased += number_of(pools, row, "leased") + number_of(pools, row, "granted");
		ret->waiting += number_of(pools, row, "waiting");
		if (maxwait > ret->maxwait)
			ret->maxwait = maxwait;
	}
	return ret->npools != 0 ? status : CHECK_UNKNOWN;
}

enum check_status
stat_check(const struct stats_snapshot *snapshot, const char *pool, FILE *out)
{
	const struct stats_view *pools = stats_view_find(snapshot, stats_table_name(STATS_POOLS));
	const char *instance = snapshot->header.instance, *separator = "";
	struct sums sums = {0};
	char problem[128];
	enum check_status status = whole_problem(snapshot, problem, sizeof(problem));

	if (status != CHECK_OK) {
		fprintf(out, "PGLEASE %s - %s (pid %u): %s\n", status_names[status], instance, snapshot->header.broker_pid,
		    problem);
		return status;
	}
	if (pools == NULL)
		return stat_check_unknown("this broker publishes no pools", out);
	status = judge(pools, pool, &sums);
	fprintf(out, "PGLEASE %s - %s: ", status_names[status], instance);
	if (sums.npools == 0)
		fprintf(out, "there is no pool%s%s", pool != NULL ? " " : "", pool != NULL ? pool : "");
	else if (status == CHECK_OK)
		print_good(&sums, out);
	for (uint32_t row = 0; row < pools->nrows; row++) {
		if (!is_wanted(pools, row, pool) || status_of(pools, row) == CHECK_OK)
			continue;
		fprintf(out, "%spool %s %s: ", separator, text_of(pools, row, "name"), text_of(pools, row, "health"));
		print_reasons(text_of(pools, row, "reasons"), out);
		separator = ", ";
	}
	if (sums.npools != 0)
		fputs(" |", out);
	for (uint32_t row = 0; row < pools->nrows; row++)
		if (is_wanted(pools, row, pool))
			print_performance(pools, row, out);
	fputc('\n', out);
	return status;
}

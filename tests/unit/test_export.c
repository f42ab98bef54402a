/* SPDX-License-Identifier: PostgreSQL */
/* The writers of src/export: every column is exported or left out on purpose, and what is written is sound. */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "families.h"
#include "health.h"
#include "json.h"

static struct stats_snapshot snapshot;
static char *text;
static size_t length;

/* Two pools, one histogram each of every time, and the instance; numbers that can be told from each other. */
static void
setup(void)
{
	static struct stats_pool_row pool[2];
	static struct stats_slot_row slot;
	static struct stats_client_row client;
	static struct stats_histogram_row histogram[2 * STATS_NTIMES];
	static struct stats_instance_row instance;
	static struct stats_alert_row alert[3];
	struct stats_rows rows[STATS_NTABLES] = {0};
	struct stats_header header = {.state = SEGMENT_OPEN, .broker_pid = 77, .started_at = UINT64_C(1700000000123456789)};

	strcpy(header.instance, "unit-export");
	strcpy(header.program, "pgleased 0");
	for (unsigned i = 0; i < 2; i++) {
		strcpy(pool[i].name, i == 0 ? "app" : "a\"\\b");
		strcpy(pool[i].database, "d\n");
		strcpy(pool[i].state, i == 0 ? "open" : "draining");
		strcpy(pool[i].health, i == 0 ? "ok" : "degraded");
		strcpy(pool[i].reasons, i == 0 ? "" : "draining,waiting");
		pool[i].idle = 1 + i;
		pool[i].leased = 10 + i;
		pool[i].granted = 100 + i;
		pool[i].maxwait = 1500000000;
		pool[i].efficiency = 987654;
		pool[i].min_connections = 3;
		pool[i].acquire_timeout = UINT64_C(10000000000);
		pool[i].server_cpu = pool[i].server_memory = pool[i].server_disk_read = pool[i].server_disk_written = STATS_NO_U64;
		for (unsigned c = 0; c < SLOT_NCOUNTERS; c++)
			pool[i].slot_counter[c] = 1000 * (i + 1) + c;
		for (unsigned t = 0; t < STATS_NTIMES; t++) {
			struct stats_histogram_row *h = &histogram[i * STATS_NTIMES + t];

			strcpy(h->pool, pool[i].name);
			strcpy(h->database, "db");
			strcpy(h->time, stats_time_info[t].name);
			for (unsigned b = 0; b < STATS_NBOUNDS; b++)
				h->below[b] = b;
			h->count = 50;
			h->sum = UINT64_C(2000000001);
		}
	}
	pool[0].leak_threshold = STATS_NO_U64;
	strcpy(slot.pool, "app");
	slot.held_for = STATS_NO_U64;
	slot.generation = UINT64_MAX; /* no 64-bit integer with a sign */
	client.pid = 812;
	strcpy(client.program, "tab\there");
	strcpy(instance.health, "degraded");
	strcpy(instance.reasons, "draining,waiting");
	instance.pools = 2;
	instance.memory = 123456789;
	rows[STATS_POOLS] = (struct stats_rows){pool, 2, 2};
	rows[STATS_SLOTS] = (struct stats_rows){&slot, 1, 3};
	rows[STATS_CLIENTS] = (struct stats_rows){&client, 1, 1};
	rows[STATS_INSTANCE] = (struct stats_rows){&instance, 1, 1};
	rows[STATS_HISTOGRAMS] = (struct stats_rows){histogram, 2 * STATS_NTIMES, 2 * STATS_NTIMES};
	for (unsigned i = 0; i < 3; i++) {
		strcpy(alert[i].pool, i < 2 ? "app" : pool[1].name);
		strcpy(alert[i].alert, i == 1 ? "failure_rate" : "maxwait");
		strcpy(alert[i].state, i == 0 ? "raised" : i == 1 ? "ok" : "off");
		strcpy(alert[i].unit, i == 1 ? "ratio" : "seconds");
		alert[i].value = i == 1 ? STATS_NO_U64 : 2500000;
		alert[i].threshold = i == 0 ? 1000000 : i == 1 ? 50000 : STATS_NO_U64;
		alert[i].since = alert[i].state_for = i < 2 ? UINT64_C(4000000000) : STATS_NO_U64;
		alert[i].count = 7 * i;
		alert[i].raised = i == 0;
	}
	rows[STATS_ALERTS] = (struct stats_rows){alert, 3, 3};
	ck_assert_int_eq(stats_snapshot_of_rows(&header, rows, &snapshot), 0);
	snapshot.age_ns = 50000000;
}

static void
teardown(void)
{
	free(text);
	stats_snapshot_fini(&snapshot);
}

static void
write_metrics(enum export_format format)
{
	struct text to = {0};

	free(text);
	export_metrics(&snapshot, format, &to);
	text = text_take(&to, &length);
	ck_assert_ptr_nonnull(text);
	ck_assert_uint_eq(strlen(text), length);
}

/* The whole line is there. */
static void
has(const char *line)
{
	const char *at = strstr(text, line);

	ck_assert_msg(at != NULL && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n', "no line %s", line);
}

static bool
names_column(const char *list, const char *column)
{
	size_t n = strlen(column);

	for (const char *at = strstr(list, column); at != NULL; at = strstr(at + 1, column))
		if ((at == list || strchr("+,", at[-1]) != NULL) && (at[n] == '\0' || strchr("+,", at[n]) != NULL))
			return true;
	return false;
}

/* A pattern of families_left_out. */
static bool
matches(const char *pattern, const char *column)
{
	size_t n = strlen(pattern), m = strlen(column);

	if (pattern[0] == '*')
		return m >= n - 1 && strcmp(column + m - (n - 1), pattern + 1) == 0;
	if (pattern[n - 1] == '*')
		return strncmp(column, pattern, n - 1) == 0;
	return strcmp(column, pattern) == 0;
}

START_TEST(every_column_is_exported_or_left_out)
{
	static struct stats_column column[STATS_MAX_COLUMNS];
	bool *used = calloc(families_left_out_count, sizeof(*used));

	for (enum stats_table_id id = 0; id < STATS_NTABLES; id++) {
		unsigned n = stats_describe(id, column);

		for (unsigned i = 0; i < n; i++) {
			unsigned exported = 0, left_out = 0;

			for (size_t f = 0; f < families_count; f++)
				if (families[f].table == id && families[f].columns != NULL && id != STATS_HISTOGRAMS)
					exported += names_column(families[f].columns, column[i].name);
			for (size_t f = 0; f < families_left_out_count; f++) {
				if (families_left_out[f].table == id && matches(families_left_out[f].column, column[i].name)) {
					left_out++;
					used[f] = true;
				}
			}
			ck_assert_msg(exported > 0 || left_out > 0, "column %s of %s is not exported: add it to families.c",
			    column[i].name, stats_table_name(id));
			ck_assert_msg(exported == 0 || left_out == 0, "column %s of %s is exported and left out",
			    column[i].name, stats_table_name(id));
		}
	}
	for (size_t f = 0; f < families_left_out_count; f++)
		ck_assert_msg(used[f], "there is no column %s to leave out", families_left_out[f].column);
	free(used);
}
END_TEST

/* And every family has a column of the right kind, a help, and its own name. */
START_TEST(every_family_is_sound)
{
	static struct stats_column column[STATS_MAX_COLUMNS];

	ck_assert_int_ne(families[0].type, FAMILY_SAME);
	for (size_t f = 0; f < families_count; f++) {
		const struct family *family = &families[f];
		unsigned n = stats_describe(family->table, column);
		char list[128], *save = NULL;

		if (family->type == FAMILY_SAME) {
			ck_assert_ptr_null(family->name);
			ck_assert_ptr_nonnull(family->extra);
		} else {
			ck_assert_ptr_nonnull(family->help);
			ck_assert_ptr_null(strchr(family->help, '\\'));
			for (size_t other = 0; other < f; other++)
				ck_assert(families[other].name == NULL || strcmp(families[other].name, family->name) != 0);
		}
		if (family->type == FAMILY_HISTOGRAM)
			continue;
		snprintf(list, sizeof(list), "%s", family->columns);
		for (char *word = strtok_r(list, "+,", &save); word != NULL; word = strtok_r(NULL, "+,", &save)) {
			const struct stats_column *found = NULL;
			bool words = family->type == FAMILY_STATES || family->type == FAMILY_INFO;

			for (unsigned i = 0; i < n; i++)
				if (strcmp(column[i].name, word) == 0)
					found = &column[i];
			ck_assert_msg(found != NULL, "no column %s", word);
			ck_assert_msg((found->type == STATS_TEXT) == words, "%s", word);
			if (family->type == FAMILY_COUNTER)
				ck_assert_msg(found->flags & STATS_MONOTONIC, "%s goes back", word);
			if (family->type == FAMILY_GAUGE || family->type == FAMILY_UNKNOWN)
				ck_assert_msg(!(found->flags & STATS_MONOTONIC), "%s is a counter", word);
		}
	}
	for (unsigned t = 0; t < STATS_NTIMES; t++) {
		unsigned found = 0;

		for (size_t f = 0; f < families_count; f++)
			found += families[f].type == FAMILY_HISTOGRAM && strcmp(families[f].columns, stats_time_info[t].name) == 0;
		ck_assert_msg(found == 1, "%s has %u histograms", stats_time_info[t].name, found);
	}
}
END_TEST

START_TEST(samples_are_in_base_units)
{
	char line[256];

	write_metrics(EXPORT_PROMETHEUS);
	has("# TYPE pglease_leases_total counter");
	snprintf(line, sizeof(line), "pglease_leases_total{pglease_instance=\"unit-export\",pool=\"app\",how=\"immediate\"} %d",
	    1000 + COUNTER_LEASES_IMMEDIATE);
	has(line);
	has("pglease_maxwait_seconds{pglease_instance=\"unit-export\",pool=\"app\"} 1.5");
	has("pglease_efficiency_ratio{pglease_instance=\"unit-export\",pool=\"app\"} 0.987654");
	has("pglease_limit_seconds{pglease_instance=\"unit-export\",pool=\"app\",setting=\"acquire_timeout\"} 10");
	has("pglease_broker_memory_bytes{pglease_instance=\"unit-export\"} 123456789");
	has("pglease_start_time_seconds{pglease_instance=\"unit-export\"} 1700000000.123456789");
	has("db_client_connection_count{pglease_instance=\"unit-export\",db_client_connection_pool_name=\"app\","
	    "db_client_connection_state=\"used\"} 110");
	has("pglease_pool_state{pglease_instance=\"unit-export\",pool=\"app\",state=\"open\"} 1");
	has("pglease_pool_state{pglease_instance=\"unit-export\",pool=\"app\",state=\"draining\"} 0");
	has("pglease_health{pglease_instance=\"unit-export\",health=\"degraded\"} 1");
	has("pglease_health{pglease_instance=\"unit-export\",health=\"ok\"} 0");
	has("pglease_health_reason{pglease_instance=\"unit-export\",reason=\"waiting\"} 1");
	has("pglease_health_reason{pglease_instance=\"unit-export\",reason=\"failing\"} 0");
	has("pglease_alert_raised{pglease_instance=\"unit-export\",pool=\"app\",alert=\"maxwait\"} 1");
	has("pglease_alert_raised{pglease_instance=\"unit-export\",pool=\"app\",alert=\"failure_rate\"} 0");
	has("pglease_alert_value{pglease_instance=\"unit-export\",pool=\"app\",alert=\"maxwait\"} 2.5");
	has("pglease_alert_threshold{pglease_instance=\"unit-export\",pool=\"app\",alert=\"failure_rate\"} 0.05");
	has("pglease_alerts_total{pglease_instance=\"unit-export\",pool=\"app\",alert=\"failure_rate\"} 7");
	ck_assert_ptr_null(strstr(text, "pglease_alert_value{pglease_instance=\"unit-export\",pool=\"app\",alert=\"failure_rate\"}"));
	/* What there is not has no sample: not even its help. */
	ck_assert_ptr_null(strstr(text, "pglease_server_cpu"));
	ck_assert_ptr_null(strstr(text, "pool=\"app\",setting=\"leak_threshold\""));
	/* Values of labels are escaped. */
	has("pglease_maxwait_seconds{pglease_instance=\"unit-export\",pool=\"a\\\"\\\\b\"} 1.5");
	has("pglease_pool_info{pglease_instance=\"unit-export\",pool=\"app\",database=\"d\\n\",user=\"\"} 1");
}
END_TEST

START_TEST(histograms_are_cumulative_and_canonical)
{
#define OPERATION "{pglease_instance=\"unit-export\",pool=\"app\",db_system_name=\"postgresql\",db_namespace=\"db\""
	static const char *const bounds[] = {"1e-07", "2.5e-07", "5e-07", "1e-06", "2.5e-06", "5e-06", "1e-05", "2.5e-05",
	    "5e-05", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
	    "0.5", "1.0", "2.5", "5.0", "10.0"};
	char line[256];

	ck_assert_uint_eq(sizeof(bounds) / sizeof(bounds[0]), STATS_NBOUNDS);
	write_metrics(EXPORT_PROMETHEUS);
	for (unsigned i = 0; i < STATS_NBOUNDS; i++) {
		snprintf(line, sizeof(line), "db_client_operation_duration_seconds_bucket" OPERATION ",le=\"%s\"} %u", bounds[i], i);
		has(line);
	}
	has("db_client_operation_duration_seconds_bucket" OPERATION ",le=\"+Inf\"} 50");
	has("db_client_operation_duration_seconds_count" OPERATION "} 50");
	has("db_client_operation_duration_seconds_sum" OPERATION "} 2.000000001");
	has("# TYPE db_client_connection_wait_time_seconds histogram");
	has("pglease_transaction_duration_seconds_count{pglease_instance=\"unit-export\",pool=\"app\"} 50");
}
END_TEST

/* All samples of a family in one place, each name with its help and type before it, nothing after # EOF. */
static void
check_order(enum export_format format)
{
	char seen[256][96], family[96] = "", *save = NULL, *copy;
	unsigned nseen = 0;
	bool ended = false;

	write_metrics(format);
	copy = strdup(text);
	for (char *line = strtok_r(copy, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		size_t n;

		ck_assert(!ended);
		if (strcmp(line, "# EOF") == 0) {
			ended = true;
			continue;
		}
		if (strncmp(line, "# HELP ", 7) == 0) {
			snprintf(family, sizeof(family), "%.*s", (int)strcspn(line + 7, " "), line + 7);
			for (unsigned i = 0; i < nseen; i++)
				ck_assert_msg(strcmp(seen[i], family) != 0, "%s twice", family);
			strcpy(seen[nseen++], family);
			continue;
		}
		n = strlen(family);
		if (strncmp(line, "# TYPE ", 7) == 0) {
			ck_assert_msg(strncmp(line + 7, family, n) == 0 && line[7 + n] == ' ', "%s", line);
			if (format == EXPORT_OPENMETRICS)
				ck_assert_msg(strcmp(line + strlen(line) - 8, " counter") != 0 || strcmp(family + n - 6, "_total") != 0,
				    "%s", line);
			continue;
		}
		ck_assert_msg(strncmp(line, family, n) == 0, "%s is no sample of %s", line, family);
	}
	ck_assert(ended == (format == EXPORT_OPENMETRICS));
	ck_assert_uint_gt(nseen, 60);
	free(copy);
}

START_TEST(families_hold_together)
{
	check_order(EXPORT_PROMETHEUS);
	ck_assert_str_eq(export_content_type(EXPORT_PROMETHEUS), "text/plain; version=0.0.4; charset=utf-8");
	has("# TYPE db_client_connection_count untyped");
	check_order(EXPORT_OPENMETRICS);
	ck_assert_str_eq(export_content_type(EXPORT_OPENMETRICS), "application/openmetrics-text; version=1.0.0; charset=utf-8");
	has("# TYPE pglease_leases counter");
	has("# TYPE db_client_connection_count unknown");
	ck_assert_ptr_nonnull(strstr(text, "\npglease_leases_total{"));
}
END_TEST

START_TEST(a_broker_that_is_not_there_is_not_up)
{
	write_metrics(EXPORT_PROMETHEUS);
	has("pglease_up{pglease_instance=\"unit-export\"} 1");
	snapshot.gone = true;
	write_metrics(EXPORT_PROMETHEUS);
	has("pglease_up{pglease_instance=\"unit-export\"} 0");
	snapshot.gone = false;
	snapshot.age_ns = HEALTH_TICK_LIMIT + 1;
	write_metrics(EXPORT_PROMETHEUS);
	has("pglease_up{pglease_instance=\"unit-export\"} 0");
	snapshot.age_ns = 0;
	snapshot.header.state = SEGMENT_CLOSED;
	write_metrics(EXPORT_PROMETHEUS);
	has("pglease_up{pglease_instance=\"unit-export\"} 0");
}
END_TEST

static void
check_json(bool indent)
{
	struct text to = {0};
	json_error_t error;
	json_t *document, *pool, *slot, *instance, *alerts;

	free(text);
	export_json(&snapshot, indent, &to);
	text = text_take(&to, &length);
	ck_assert_ptr_nonnull(text);
	ck_assert_int_eq(text[length - 1], '\n');
	ck_assert(indent == (strchr(text, '\n') != text + length - 1));
	document = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	ck_assert_msg(document != NULL, "%s in line %d", error.text, error.line);
	instance = json_object_get(document, "instance");
	ck_assert_str_eq(json_string_value(json_object_get(instance, "name")), "unit-export");
	ck_assert_double_eq(json_real_value(json_object_get(instance, "age")), 0.05);
	ck_assert(json_is_false(json_object_get(instance, "gone")));
	ck_assert_int_eq(json_integer_value(json_object_get(instance, "pools")), 2);
	pool = json_array_get(json_object_get(document, "pools"), 1);
	ck_assert_str_eq(json_string_value(json_object_get(pool, "name")), "a\"\\b");
	ck_assert_str_eq(json_string_value(json_object_get(pool, "database")), "d\n");
	ck_assert_double_eq(json_real_value(json_object_get(pool, "maxwait")), 1.5);
	ck_assert_double_eq(json_real_value(json_object_get(pool, "efficiency")), 0.987654);
	ck_assert(json_is_real(json_object_get(pool, "acquire_timeout"))); /* also a whole number of seconds */
	ck_assert(json_is_null(json_object_get(pool, "server_memory")));
	ck_assert_int_eq(json_integer_value(json_object_get(pool, "idle")), 2);
	slot = json_array_get(json_object_get(document, "slots"), 0);
	ck_assert(json_is_null(json_object_get(slot, "held_for")));
	ck_assert(json_is_real(json_object_get(slot, "generation")));
	ck_assert_str_eq(
	    json_string_value(json_object_get(json_array_get(json_object_get(document, "clients"), 0), "program")), "tab\there");
	ck_assert_uint_eq(json_array_size(json_object_get(document, "histograms")), 2 * STATS_NTIMES);
	ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(document, "omitted"), "slots")), 2);
	ck_assert_uint_eq(json_object_size(json_object_get(document, "omitted")), 1);
	/* The alerts, all columns; and short, in the pool's object, those that are not off. */
	ck_assert_uint_eq(json_array_size(json_object_get(document, "alerts")), 3);
	ck_assert_uint_eq(json_array_size(json_object_get(pool, "alerts")), 0);
	alerts = json_object_get(json_array_get(json_object_get(document, "pools"), 0), "alerts");
	ck_assert_uint_eq(json_array_size(alerts), 2);
	ck_assert_uint_eq(json_object_size(json_array_get(alerts, 0)), 5);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(alerts, 0), "name")), "maxwait");
	ck_assert(json_is_true(json_object_get(json_array_get(alerts, 0), "raised")));
	ck_assert_double_eq(json_number_value(json_object_get(json_array_get(alerts, 0), "since_seconds")), 4);
	ck_assert_double_eq(json_number_value(json_object_get(json_array_get(alerts, 0), "value")), 2.5);
	ck_assert_double_eq(json_number_value(json_object_get(json_array_get(alerts, 0), "threshold")), 1);
	ck_assert(json_is_false(json_object_get(json_array_get(alerts, 1), "raised")));
	ck_assert(json_is_null(json_object_get(json_array_get(alerts, 1), "value")));
	ck_assert_double_eq(json_number_value(json_object_get(json_array_get(alerts, 1), "threshold")), 0.05);
	json_decref(document);
}

START_TEST(json_is_read_back)
{
	check_json(false);
	check_json(true);
}
END_TEST

/* A text that was cut, a file's name: the document can be read all the same. */
START_TEST(what_is_not_utf8_is_replaced)
{
	static const struct {
		const char *given, *read;
	} cases[] = {{"gr\u00fc\u00df \u20ac \U0001f600", "gr\u00fc\u00df \u20ac \U0001f600"}, {"cut \xc3", "cut \ufffd"},
	    {"\xe2\x82", "\ufffd\ufffd"}, {"\xff\"\n", "\ufffd\"\n"}, {"\xc0\xaf", "\ufffd\ufffd"},
	    {"\xe0\x9f\xbf", "\ufffd\ufffd\ufffd"}, {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
	    {"\xf4\x90\x80\x80.", "\ufffd\ufffd\ufffd\ufffd."}, {"\xf4\x8f\xbf\xbf\xed\x9f\xbf", "\U0010ffff\ud7ff"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct text to = {0};
		struct json_writer json = {.to = &to};
		json_error_t error;
		json_t *value;

		json_write_text(&json, NULL, cases[i].given);
		free(text);
		text = text_take(&to, &length);
		value = json_loads(text, JSON_DECODE_ANY, &error);
		ck_assert_msg(value != NULL, "%s: %s", text, error.text);
		ck_assert_str_eq(json_string_value(value), cases[i].read);
		json_decref(value);
	}
}
END_TEST

START_TEST(decimals_are_exact)
{
	static const struct {
		uint64_t n;
		unsigned digits;
		const char *text;
	} cases[] = {{0, 0, "0"}, {0, 9, "0"}, {1, 9, "0.000000001"}, {1500, 3, "1.5"}, {1000, 3, "1"}, {10, 0, "10"},
	    {100, 3, "0.1"}, {UINT64_MAX, 0, "18446744073709551615"}, {UINT64_MAX, 9, "18446744073.709551615"}};
	char buf[TEXT_NUMBER];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		text_decimal(cases[i].n, cases[i].digits, buf);
		ck_assert_str_eq(buf, cases[i].text);
	}
}
END_TEST

START_TEST(texts_grow_and_fail_once)
{
	struct text to = {0};
	char *made;

	for (unsigned i = 0; i < 100000; i++)
		text_add_char(&to, (char)('a' + i % 26));
	made = text_take(&to, &length);
	ck_assert_uint_eq(length, 100000);
	ck_assert_int_eq(made[99999], 'a' + 99999 % 26);
	ck_assert_uint_eq(strlen(made), length);
	free(made);
	made = text_take(&to, &length); /* empty again */
	ck_assert_str_eq(made, "");
	free(made);
	text_add(&to, "x");
	to.failed = true;
	text_add(&to, "y");
	ck_assert_ptr_null(text_take(&to, &length));
	ck_assert(!to.failed);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("export");
	TCase *tcase = tcase_create("export");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, every_column_is_exported_or_left_out);
	tcase_add_test(tcase, every_family_is_sound);
	tcase_add_test(tcase, samples_are_in_base_units);
	tcase_add_test(tcase, histograms_are_cumulative_and_canonical);
	tcase_add_test(tcase, families_hold_together);
	tcase_add_test(tcase, a_broker_that_is_not_there_is_not_up);
	tcase_add_test(tcase, json_is_read_back);
	tcase_add_test(tcase, what_is_not_utf8_is_replaced);
	tcase_add_test(tcase, decimals_are_exact);
	tcase_add_test(tcase, texts_grow_and_fail_once);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

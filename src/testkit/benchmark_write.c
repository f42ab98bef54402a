/* SPDX-License-Identifier: PostgreSQL */
/* Results of a benchmark as a table and as JSON. Owns nothing. */
#include "benchmark_priv.h"

#include <errno.h>
#include <jansson.h>

#include "child.h"

/* A number of about four digits. */
static void
print_number(FILE *to, double x, int width)
{
	if (x < 0)
		fprintf(to, "%*s", width, "-");
	else
		fprintf(to, "%*.*f", width, x >= 1000 || x == 0 ? 0 : x >= 10 ? 1 : 3, x);
}

static int
write_table(const pglease_test_results *results, FILE *to)
{
	fprintf(to, "%-24s %12s %-21s %-25s %9s %9s %9s %9s %9s %9s %7s %6s\n", "variant", "per second", "  (95 %)",
	    "  ratio (95 %)", "p50 us", "p95 us", "p99 us", "cpu us", "server us", "bytes", "trips", "leaks");
	for (unsigned i = 0; i < results->n; i++) {
		const pglease_test_measurement *m = &results->measured[i].result;

		fprintf(to, "%-24s %12.0f [%9.0f,%9.0f] %6.3f [%6.3f, %6.3f]   ", m->name, m->per_second.value,
		    m->per_second.low, m->per_second.high, m->ratio.value, m->ratio.low, m->ratio.high);
		print_number(to, (double)m->p50_ns / 1000, 9);
		print_number(to, (double)m->p95_ns / 1000, 10);
		print_number(to, (double)m->p99_ns / 1000, 10);
		print_number(to, m->cpu_ns / 1000, 10);
		print_number(to, m->server_cpu_ns < 0 ? -1 : m->server_cpu_ns / 1000, 10);
		print_number(to, m->memory_bytes, 10);
		print_number(to, m->round_trips, 8);
		print_number(to, m->leaks, 7);
		fputc('\n', to);
	}
	return ferror(to) ? child_fail(EIO, "the results cannot be written") : 0;
}

static json_t *
known(double x)
{
	return x < 0 ? json_null() : json_real(x);
}

static json_t *
interval(const pglease_test_interval *i)
{
	return json_pack("{s:f, s:f, s:f}", "value", i->value, "low", i->low, "high", i->high);
}

static json_t *
variant(const pglease_test_results *results, const struct measured *measured)
{
	const pglease_test_measurement *m = &measured->result;
	json_t *rounds = json_array();

	for (unsigned i = 0; i < results->rounds; i++)
		json_array_append_new(rounds, json_real(measured->rate[i]));
	return json_pack("{s:s, s:I, s:i, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:f, s:o, s:o, s:o}", "name", m->name,
	    "operations", (json_int_t)m->operations, "batch", (int)m->batch, "per_second", interval(&m->per_second), "ratio",
	    interval(&m->ratio), "mean_ns", (json_int_t)m->mean_ns, "p50_ns", (json_int_t)m->p50_ns, "p95_ns",
	    (json_int_t)m->p95_ns, "p99_ns", (json_int_t)m->p99_ns, "max_ns", (json_int_t)m->max_ns, "cpu_ns", m->cpu_ns,
	    "server_cpu_ns", known(m->server_cpu_ns), "memory_bytes", m->memory_bytes, "round_trips", known(m->round_trips),
	    "leaks", known(m->leaks), "rounds", rounds);
}

int
pglease_test_results_write(const pglease_test_results *results, FILE *to, int as_json)
{
	json_t *document, *list;
	int r = 0;

	if (!as_json)
		return write_table(results, to);
	list = json_array();
	for (unsigned i = 0; i < results->n; i++)
		if (json_array_append_new(list, variant(results, &results->measured[i])))
			r = -1;
	document = json_pack("{s:i, s:o}", "version", 1, "variants", list);
	if (r || document == NULL || json_dumpf(document, to, JSON_INDENT(1) | JSON_REAL_PRECISION(9)))
		r = child_fail(EIO, "the results cannot be written");
	else
		fputc('\n', to);
	json_decref(document);
	return r;
}

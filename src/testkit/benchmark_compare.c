/* SPDX-License-Identifier: PostgreSQL */
/* Results of a benchmark against saved ones. */
#include "benchmark_priv.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "interval.h"

/* The rounds of the variant of this name, to be freed; NULL: not there, or not sound. */
static double *
rounds_of(const json_t *document, const char *name, unsigned *ret_n)
{
	const json_t *list = json_object_get(document, "variants"), *rounds = NULL;
	double *rate;
	size_t i, n;

	for (i = 0; rounds == NULL && i < json_array_size(list); i++) {
		const json_t *variant = json_array_get(list, i);
		const char *its = json_string_value(json_object_get(variant, "name"));

		if (name == NULL || (its != NULL && strcmp(its, name) == 0))
			rounds = json_object_get(variant, "rounds");
	}
	n = json_array_size(rounds);
	if (n < 2 || n > BENCHMARK_MAX_ROUNDS)
		return NULL;
	rate = calloc(n, sizeof(*rate));
	for (i = 0; rate != NULL && i < n; i++) {
		rate[i] = json_number_value(json_array_get(rounds, i));
		if (!(rate[i] > 0)) {
			free(rate);
			return NULL;
		}
	}
	*ret_n = (unsigned)n;
	return rate;
}

static void
divide(double *x, const double *by, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		x[i] /= by[i];
}

/* The variant's ratio to the first of its own run, round by round: then, and now. */
static int
compare_ratios(const pglease_test_results *results, const struct measured *m, const json_t *document, double *then,
    unsigned n, pglease_test_change *change)
{
	unsigned n_first;
	double *first = rounds_of(document, NULL, &n_first);
	double *now = calloc(results->rounds, sizeof(*now));
	bool good = first != NULL && now != NULL && n_first == n;

	if (good) {
		memcpy(now, m->rate, results->rounds * sizeof(*now));
		divide(now, results->measured[0].rate, results->rounds);
		divide(then, first, n);
		change->ratio = interval_of_two(now, results->rounds, then, n);
	}
	free(first);
	free(now);
	return good ? 0 : child_fail(EINVAL, "the saved rounds of variant %s are not sound", m->name);
}

int
pglease_test_compare(
    pglease_test_results *results, const char *path, const pglease_test_change **ret_changes, unsigned *ret_n)
{
	json_error_t error;
	json_t *document = json_load_file(path, 0, &error);
	unsigned found = 0;
	int r = 0;

	if (document == NULL)
		return child_fail(ENOENT, "%s: %s", path, error.text);
	for (unsigned i = 0; r == 0 && i < results->n; i++) {
		const struct measured *m = &results->measured[i];
		pglease_test_change *change = &results->change[found];
		unsigned n;
		double *then = rounds_of(document, m->name, &n);

		if (then == NULL)
			continue;
		change->name = m->name;
		change->rate = interval_of_two(m->rate, results->rounds, then, n);
		r = compare_ratios(results, m, document, then, n, change);
		free(then);
		found++;
	}
	json_decref(document);
	if (r == 0 && found == 0)
		r = child_fail(ENOENT, "%s has none of these variants", path);
	if (r)
		return r;
	*ret_changes = results->change;
	*ret_n = found;
	return 0;
}

/* SPDX-License-Identifier: PostgreSQL */
/*
 * The report of what was leaked between a mark and now: two looks, and what the later one has more of. Owns the look of
 * the mark and the last report, in memory that the looks do not count.
 */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "look.h"
#include "segment.h"

#define MAX_LEAKS 4096
#define SHELL_BYTES 65536 /* more than a PGconn takes with its buffers (some 37 KB) */
#define STEP_NS 10000000
#define QUIET_LOOKS 10     /* in which a session does nothing: it stays */
#define PATIENCE_MS 10000  /* with one that is busy with its end */

struct report {
	struct look look;
	bool valid;
	pglease_test_leak leak[MAX_LEAKS];
	unsigned n;
};

static const char *const names[] = {
#define NAME(id, name) [PGLEASE_TEST_LEAK_##id] = name,
    PGLEASE_TEST_LEAK_KINDS(NAME)
#undef NAME
};

const char *
pglease_test_leak_name(enum pglease_test_leak_kind kind)
{
	return (unsigned)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "?";
}

/* Not for malloc: its use is looked at. */
static void *
pages(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int
report_init(struct pglease_test_env *env)
{
	env->marked = pages(sizeof(*env->marked));
	env->report = pages(sizeof(*env->report));
	if (env->marked == NULL || env->report == NULL)
		return child_fail(ENOMEM, "out of memory");
	return 0;
}

void
report_fini(struct pglease_test_env *env)
{
	if (env->marked != NULL) {
		look_fini(env->marked);
		munmap(env->marked, sizeof(*env->marked));
	}
	if (env->report != NULL) {
		look_fini(&env->report->look);
		munmap(env->report, sizeof(*env->report));
	}
	env->marked = NULL;
	env->report = NULL;
}

static int
look_at_all(struct pglease_test_env *env, struct look *ret)
{
	struct look look;
	int r = look_init(&look);

	if (r)
		return r;
	look_pools(env, &look);
	look_server(env, &look);
	look_files(env, &look);
	look_process(env, &look);
	look_fini(ret);
	*ret = look;
	return 0;
}

static bool
is_there(const struct look *look, const struct thing *thing)
{
	for (const struct thing *t = look->things; t != NULL; t = t->next)
		if (t->kind == thing->kind && strcmp(t->key, thing->key) == 0)
			return true;
	return false;
}

static const struct thing *
find(const struct look *look, const struct thing *like)
{
	for (const struct thing *t = look->things; t != NULL; t = t->next)
		if (t->kind == like->kind && strcmp(t->key, like->key) == 0)
			return t;
	return NULL;
}

/* Whether a session that was not there at the mark has moved since the look before: it may be ending. */
static bool
something_moves(const struct look *marked, const struct look *before, const struct look *now, bool *ret_any)
{
	bool moves = false;

	*ret_any = false;
	for (const struct thing *t = now->things; t != NULL; t = t->next) {
		const struct thing *earlier;

		if (!t->passing || is_there(marked, t))
			continue;
		*ret_any = true;
		earlier = find(before, t);
		if (earlier == NULL || t->bytes == 0 || earlier->bytes != t->bytes)
			moves = true;
	}
	return moves;
}

/* Sessions take a moment to end after their client has closed them. */
static int
let_pass(struct pglease_test_env *env, struct look *look)
{
	static const struct timespec step = {.tv_nsec = STEP_NS};
	uint64_t start = clock_ns();
	unsigned quiet = 0;
	bool any = false;
	int r = 0;

	for (const struct thing *t = look->things; t != NULL; t = t->next)
		any |= t->passing && !is_there(env->marked, t);
	while (r == 0 && any && quiet < QUIET_LOOKS && clock_ns() - start < PATIENCE_MS * UINT64_C(1000000)) {
		struct look next = {0};

		nanosleep(&step, NULL);
		r = look_init(&next);
		if (r == 0) {
			look_pools(env, &next);
			look_server(env, &next);
			quiet = something_moves(env->marked, look, &next, &any) ? 0 : quiet + 1;
			look_fini(look);
			*look = next;
		}
	}
	return r;
}

int
pglease_test_mark(pglease_test_env *env)
{
	struct look first = {0};
	int r;

	if (env->marked == NULL)
		return child_fail(EINVAL, "the environment was made with no_leak_check");
	/* What is allocated by the first use of libc and libpq is no leak: the second look counts. */
	r = look_at_all(env, &first);
	look_fini(&first);
	if (r == 0)
		r = look_at_all(env, env->marked);
	env->marked_by = getpid();
	return r;
}

static void
add(struct report *report, const struct thing *t)
{
	if (report->n < MAX_LEAKS)
		report->leak[report->n++] =
		    (pglease_test_leak){.kind = t->kind, .what = t->what, .bytes = t->passing ? 0 : t->bytes};
}

static int
by_kind(const void *a, const void *b)
{
	const pglease_test_leak *x = a, *y = b;

	return x->kind != y->kind ? (x->kind > y->kind) - (x->kind < y->kind) : strcmp(x->what, y->what);
}

int
report_take(struct pglease_test_env *env, unsigned parts)
{
	struct report *report = env->report;
	uint64_t slack = env->memory_slack;
	struct look look = {0};
	int r;

	if (env->marked == NULL)
		return child_fail(EINVAL, "the environment was made with no_leak_check");
	if (env->marked_by != getpid())
		return child_fail(EINVAL, "process %d has marked nothing to compare with: pglease_test_mark", (int)getpid());
	if (parts & REPORT_BEGIN) {
		look_fini(&report->look);
		report->n = 0;
		report->valid = false;
		r = look_init(&report->look);
		if (r)
			return r;
	}
	r = look_init(&look);
	if (r)
		return r;
	if (parts & REPORT_POOLS) {
		look_pools(env, &look);
		look_server(env, &look);
		r = let_pass(env, &look);
	}
	if (r == 0 && (parts & REPORT_PROCESS)) {
		look_files(env, &look);
		look_process(env, &look);
	}
	for (const struct thing *t = look.things; r == 0 && t != NULL; t = t->next) {
		/* Copied: this look goes, the report stays. */
		if (!is_there(env->marked, t)) {
			const struct thing *copy = look_note(&report->look, t->kind, t->key, "%s", t->what);

			if (copy != NULL)
				add(report, copy);
		}
	}
	if (look.shells > env->marked->shells)
		slack += (uint64_t)(look.shells - env->marked->shells) * SHELL_BYTES;
	if (r == 0 && (parts & REPORT_PROCESS) && look.memory != UINT64_MAX && env->marked->memory != UINT64_MAX &&
	    look.memory > env->marked->memory + slack) {
		uint64_t more = look.memory - env->marked->memory;
		struct thing *t = look_note(&report->look, PGLEASE_TEST_LEAK_MEMORY, "memory",
		    "%llu bytes more in use than at the mark (%llu; up to %llu more are no leak)", (unsigned long long)more,
		    (unsigned long long)env->marked->memory, (unsigned long long)slack);

		if (t != NULL) {
			t->bytes = more;
			add(report, t);
		}
	}
	if (*look.unseen != '\0')
		look_unseen(&report->look, "%s", look.unseen);
	look_fini(&look);
	if (r == 0) {
		qsort(report->leak, report->n, sizeof(report->leak[0]), by_kind);
		report->valid = true;
	}
	return r;
}

int
report_add(struct pglease_test_env *env, enum pglease_test_leak_kind kind, const char *what)
{
	struct report *report = env->report;
	const struct thing *thing = look_note(&report->look, kind, what, "%s", what);

	if (thing == NULL)
		return child_fail(ENOMEM, "there is too much to report");
	add(report, thing);
	qsort(report->leak, report->n, sizeof(report->leak[0]), by_kind);
	return 0;
}

int
pglease_test_report(pglease_test_env *env, const pglease_test_leak **ret_leaks, unsigned *ret_n)
{
	int r = report_take(env, REPORT_BEGIN | REPORT_POOLS | REPORT_PROCESS);

	if (r)
		return r;
	if (ret_leaks != NULL)
		*ret_leaks = env->report->leak;
	*ret_n = env->report->n;
	return 0;
}

unsigned
report_count(const struct pglease_test_env *env)
{
	return env->report != NULL && env->report->valid ? env->report->n : 0;
}

const char *
pglease_test_report_unseen(const pglease_test_env *env)
{
	return env->report != NULL && env->report->valid ? env->report->look.unseen : "nothing has been reported";
}

void
report_text(const struct pglease_test_env *env, char *buf, size_t size)
{
	size_t at = 0;

	*buf = '\0';
	for (unsigned i = 0; i < env->report->n && at < size; i++)
		at += (size_t)snprintf(buf + at, size - at, "%s%s: %s", i > 0 ? "; " : "",
		    pglease_test_leak_name(env->report->leak[i].kind), env->report->leak[i].what);
}

int
pglease_test_report_write(const pglease_test_env *env, FILE *to, int as_json)
{
	const struct report *report = env->report;
	struct text text = {0};
	struct json_writer json = {.to = &text, .indent = true};
	char *taken;

	if (report == NULL || !report->valid)
		return child_fail(EINVAL, "nothing has been reported");
	if (!as_json) {
		for (unsigned i = 0; i < report->n; i++)
			fprintf(to, "leak: %s: %s\n", pglease_test_leak_name(report->leak[i].kind), report->leak[i].what);
		if (*report->look.unseen != '\0')
			fprintf(to, "not looked at: %s\n", report->look.unseen);
		return ferror(to) ? child_fail(EIO, "the report cannot be written") : 0;
	}
	json_write_open(&json, NULL, '{');
	json_write_text(&json, "unseen", report->look.unseen);
	json_write_open(&json, "leaks", '[');
	for (unsigned i = 0; i < report->n; i++) {
		json_write_open(&json, NULL, '{');
		json_write_text(&json, "kind", pglease_test_leak_name(report->leak[i].kind));
		json_write_text(&json, "what", report->leak[i].what);
		if (report->leak[i].bytes != 0)
			json_write_u64(&json, "bytes", report->leak[i].bytes);
		json_write_close(&json, '}');
	}
	json_write_close(&json, ']');
	json_write_close(&json, '}');
	taken = text_take(&text, NULL);
	if (taken == NULL)
		return child_fail(ENOMEM, "out of memory");
	fprintf(to, "%s\n", taken);
	free(taken);
	return ferror(to) ? child_fail(EIO, "the report cannot be written") : 0;
}

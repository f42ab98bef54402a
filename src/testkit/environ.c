/* SPDX-License-Identifier: PostgreSQL */
/* The process's environment variables, as code that knows only libpq and pglease finds a test's environment by them; and back. */
#include "env_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

extern char **environ;

struct variable {
	struct variable *next;
	char *name, *value; /* NULL: it was not set */
	char *set;          /* what this environment has made of it; NULL: unset */
};

static void
free_variable(struct variable *v)
{
	if (v != NULL) {
		free(v->name);
		free(v->value);
		free(v->set);
		free(v);
	}
}

/* What it is now, for later. */
static struct variable *
keep(struct pglease_test_env *env, const char *name)
{
	const char *value = getenv(name);
	struct variable *v;

	for (v = env->before; v != NULL; v = v->next)
		if (strcmp(v->name, name) == 0)
			return v;
	v = calloc(1, sizeof(*v));
	if (v != NULL) {
		v->name = strdup(name);
		v->value = value != NULL ? strdup(value) : NULL;
	}
	if (v == NULL || v->name == NULL || (value != NULL && v->value == NULL)) {
		free_variable(v);
		return NULL;
	}
	v->next = env->before;
	env->before = v;
	return v;
}

int
environ_set(struct pglease_test_env *env, const char *name, const char *value)
{
	struct variable *v = keep(env, name);
	char *copy = value != NULL ? strdup(value) : NULL;

	if (v == NULL || (value != NULL && copy == NULL)) {
		free(copy);
		return child_fail(ENOMEM, "out of memory");
	}
	free(v->set);
	v->set = copy;
	return value == NULL ? unsetenv(name) : setenv(name, value, 1) == 0 ? 0 : child_fail(errno, "setenv: %s", strerror(errno));
}

static bool
is_same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

void
environ_restore(struct pglease_test_env *env)
{
	while (env->before != NULL) {
		struct variable *v = env->before;

		env->before = v->next;
		/* Somebody else has set it since, another environment perhaps: it is theirs. */
		if (!is_same(getenv(v->name), v->set))
			;
		else if (v->value != NULL)
			setenv(v->name, v->value, 1);
		else
			unsetenv(v->name);
		free_variable(v);
	}
}

/* What is there already when an environment is made was meant for another server: PGHOSTADDR, PGSERVICE, PGSSLMODE ... */
int
environ_note_foreign(struct pglease_test_env *env)
{
	size_t n = 0;

	for (char **at = environ; *at != NULL; at++)
		n += child_is_libpqs(*at);
	env->foreign = calloc(n + 1, sizeof(env->foreign[0]));
	if (env->foreign == NULL)
		return child_fail(ENOMEM, "out of memory");
	n = 0;
	for (char **at = environ; *at != NULL; at++) {
		if (!child_is_libpqs(*at))
			continue;
		env->foreign[n] = strdup(*at);
		if (env->foreign[n++] == NULL)
			return child_fail(ENOMEM, "out of memory");
	}
	return 0;
}

void
environ_free_foreign(struct pglease_test_env *env)
{
	for (char **at = env->foreign; at != NULL && *at != NULL; at++)
		free(*at);
	free(env->foreign);
	env->foreign = NULL;
}

static bool
is_foreign(const char *variable, char *const *foreign)
{
	if (foreign == NULL)
		return child_is_libpqs(variable);
	while (*foreign != NULL && strcmp(*foreign, variable) != 0)
		foreign++;
	return *foreign != NULL;
}

char **
environ_without(char *const *foreign)
{
	size_t n = 0, dropped = 0;
	char **without;

	for (n = 0; environ[n] != NULL; n++)
		dropped += is_foreign(environ[n], foreign);
	if (dropped == 0)
		return environ;
	without = calloc(n - dropped + 1, sizeof(without[0]));
	n = 0;
	for (char **at = environ; without != NULL && *at != NULL; at++)
		if (!is_foreign(*at, foreign))
			without[n++] = *at;
	return without;
}

PGconn *
environ_connect(const char *conninfo, char *const *foreign)
{
	char **kept = environ, **without = environ_without(foreign);
	PGconn *conn;

	if (without == NULL)
		return NULL; /* libpq's functions take that for a connection that failed */
	environ = without;
	conn = PQconnectdb(conninfo);
	environ = kept;
	if (without != kept)
		free(without);
	return conn;
}

/* All of it, for whoever connects by the environment. */
static int
unset_libpq(struct pglease_test_env *env)
{
	char name[64];
	int r = 0;

	for (size_t i = 0; r == 0 && environ[i] != NULL;) {
		size_t n = strcspn(environ[i], "=");

		if (!child_is_libpqs(environ[i]) || n >= sizeof(name)) {
			i++;
			continue;
		}
		snprintf(name, sizeof(name), "%.*s", (int)n, environ[i]);
		r = environ_set(env, name, NULL); /* the next one is here now */
	}
	return r;
}

int
pglease_test_environment(pglease_test_env *env)
{
	struct {
		const char *name, *value;
	} set[] = {
	    {"PGHOST", env->upstream.socket_dir},
	    {"PGPORT", "5432"},
	    {"PGUSER", "postgres"},
	    {"PGDATABASE", "postgres"},
	    {"PGLEASE_TEST_TMPDIR", upstream_tmpdir()}, /* where the next environment will be */
	    {"TMPDIR", env->tmpdir},
	};
	char tmpdir[UPSTREAM_PATH];
	int r = unset_libpq(env);

	snprintf(tmpdir, sizeof(tmpdir), "%s", set[4].value);
	set[4].value = tmpdir;
	if (r == 0 && mkdir(env->tmpdir, 0700) && errno != EEXIST)
		r = child_fail(errno, "cannot make %s: %s", env->tmpdir, strerror(errno));
	/* Code under test may run as the server's user. */
	if (r == 0 && chmod(env->tmpdir, 01777))
		r = child_fail(errno, "chmod %s: %s", env->tmpdir, strerror(errno));
	for (size_t i = env->has_upstream ? 0 : 4; r == 0 && i < sizeof(set) / sizeof(set[0]); i++)
		r = environ_set(env, set[i].name, set[i].value);
	return r;
}

/* SPDX-License-Identifier: PostgreSQL */
/* What libpq will use to connect, and what the pool adds to it. */
#include "target.h"

#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "text_stream.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

/* In whole units, rounded up: 0 stays 0, and nothing else becomes it. */
static uint64_t
units_of(uint64_t ns, uint64_t unit)
{
	return ns / unit + (ns % unit != 0);
}

static const char *
value_of(const PQconninfoOption *options, const char *keyword)
{
	for (const PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
		if (strcmp(o->keyword, keyword) == 0 && o->val != NULL && *o->val != '\0')
			return o->val;
	return NULL;
}

/*
 * The defaults behind a conninfo: libpq reads a service file for PGSERVICE only. Caller frees; NULL: out of memory.
 */
static PQconninfoOption *
defaults_behind(const PQconninfoOption *given)
{
	const char *service = value_of(given, "service"), *env = getenv("PGSERVICE");
	char *kept = env != NULL ? strdup(env) : NULL;
	PQconninfoOption *defaults = NULL;

	if (env != NULL && kept == NULL)
		return NULL;
	/* The environment is this process's own, and there are no threads yet. */
	if (service == NULL || setenv("PGSERVICE", service, 1) == 0)
		defaults = PQconndefaults();
	if (service != NULL) {
		if (kept != NULL)
			setenv("PGSERVICE", kept, 1);
		else
			unsetenv("PGSERVICE");
	}
	free(kept);
	return defaults;
}

/* Limits as start-up options are the session's own defaults: RESET and DISCARD ALL come back to them. */
static char *
make_options(const char *given, const struct pool_settings *s)
{
	const struct {
		const char *name;
		uint64_t ns;
	} limits[] = {
	    {"statement_timeout", s->statement_timeout},
	    {"idle_in_transaction_session_timeout", s->idle_in_transaction_session_timeout},
	    {"lock_timeout", s->lock_timeout},
	};
	struct text_stream to;
	FILE *f = text_stream_open(&to);

	if (f == NULL)
		return NULL;
	fputs(given != NULL ? given : "", f);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (limits[i].ns != 0)
			fprintf(f, " -c %s=%" PRIu64, limits[i].name, units_of(limits[i].ns, MS));
	return text_stream_close(&to, f);
}

static void
add(struct target *t, const char *keyword, const char *value)
{
	t->keywords[t->count] = keyword;
	t->values[t->count++] = value;
}

static void
add_number(struct target *t, unsigned index, const char *keyword, uint64_t n)
{
	if (n == 0)
		return;
	snprintf(t->numbers[index], sizeof(t->numbers[index]), "%" PRIu64, n);
	add(t, keyword, t->numbers[index]);
}

static void
make_keywords(struct target *t, const char *conninfo, bool has_service, const struct pool_settings *s)
{
	/* An encrypted connection cannot be leased: so unencrypted is the default, but no more than that. */
	if (getenv("PGSSLMODE") == NULL)
		add(t, "sslmode", "disable");
	if (getenv("PGGSSENCMODE") == NULL)
		add(t, "gssencmode", "disable");
	snprintf(t->application, sizeof(t->application), "pglease %s", s->name);
	add(t, "fallback_application_name", t->application);
	/*
	 * Known, or libpq would look the operating system's up at each connect, which may block. One in conninfo comes later, and counts;
	 * a service's would not, and its file may change.
	 */
	if (t->user[0] != '\0' && !has_service)
		add(t, "user", t->user);
	add(t, "dbname", conninfo);
	if (t->options[0] != '\0')
		add(t, "options", t->options);
	add_number(t, 0, "keepalives_idle", units_of(s->tcp_keepalives_idle, SECOND));
	add_number(t, 1, "keepalives_interval", units_of(s->tcp_keepalives_interval, SECOND));
	add_number(t, 2, "keepalives_count", s->tcp_keepalives_count);
	add_number(t, 3, "tcp_user_timeout", units_of(s->tcp_user_timeout, MS));
}

static const char *
either(const PQconninfoOption *given, const PQconninfoOption *defaults, const char *keyword)
{
	const char *value = value_of(given, keyword);

	return value != NULL ? value : value_of(defaults, keyword);
}

/* A quoted value, or what stands for it. */
static size_t
show_option(const PQconninfoOption *o, char *buf, size_t size)
{
	size_t used = (size_t)snprintf(buf, size, "%s='", o->keyword);

	for (const char *c = o->dispchar[0] == '*' ? "***" : o->val; *c != '\0' && used + 4 < size; c++) {
		if (*c == '\'' || *c == '\\')
			buf[used++] = '\\';
		buf[used++] = *c;
	}
	if (used + 2 < size) {
		buf[used++] = '\'';
		buf[used] = '\0';
	}
	return used;
}

void
target_show(const char *conninfo, char *buf, size_t size)
{
	PQconninfoOption *given = PQconninfoParse(conninfo, NULL);
	size_t used = 0;

	buf[0] = '\0';
	for (const PQconninfoOption *o = given; o != NULL && o->keyword != NULL && used + 64 < size; o++) {
		if (o->val == NULL)
			continue;
		if (used != 0)
			buf[used++] = ' ';
		used += show_option(o, buf + used, size - used);
	}
	PQconninfoFree(given);
}

int
target_init(const char *conninfo, const struct pool_settings *settings_of, struct target *ret)
{
	PQconninfoOption *given = PQconninfoParse(conninfo, NULL), *defaults = NULL;
	const char *user, *dbname;
	struct target *t = ret;
	int r = -ENOMEM;

	memset(t, 0, sizeof(*t));
	if (given == NULL || (defaults = defaults_behind(given)) == NULL)
		goto out;
	user = either(given, defaults, "user");
	dbname = either(given, defaults, "dbname");
	if (dbname == NULL)
		dbname = user;
	snprintf(t->user, sizeof(t->user), "%s", user != NULL ? user : "");
	snprintf(t->dbname, sizeof(t->dbname), "%s", dbname != NULL ? dbname : "");
	t->options = make_options(either(given, defaults, "options"), settings_of);
	if (t->options == NULL ||
	    hosts_init(&t->hosts, either(given, defaults, "host"), either(given, defaults, "hostaddr"),
	        either(given, defaults, "port")) != 0)
		goto out;
	t->has_names = hosts_have_names(&t->hosts);
	t->is_local = hosts_are_local(&t->hosts);
	make_keywords(t, conninfo, either(given, defaults, "service") != NULL, settings_of);
	r = 0;
out:
	if (given != NULL)
		PQconninfoFree(given);
	if (defaults != NULL)
		PQconninfoFree(defaults);
	if (r != 0)
		target_fini(t);
	return r;
}

void
target_fini(struct target *t)
{
	hosts_fini(&t->hosts);
	free(t->options);
	memset(t, 0, sizeof(*t));
}

/* SPDX-License-Identifier: PostgreSQL */
/* What a program wants: parameters as libpq puts them together. How options become settings is in options.c. */
#include "wanted.h"

#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lock.h"
#include "options.h"

#define KEY_MAX 8192
#define KEPT_MAX 128

extern char **environ;

/* Those kept; under the lock. */
static struct wanted *kept;
static unsigned nkept;

/* All that libpq's answer depends on, besides files. Being written, or compared with one that there is. */
struct key {
	const struct wanted *like; /* NULL: written */
	bool is_bad;               /* too long, and not kept; or not like that */
	size_t used;
	unsigned npieces;
	uint16_t piece[WANTED_PIECES];
	char bytes[KEY_MAX];
};

/* What this thread has wanted last: it is likely to want it again. */
static _Thread_local struct wanted *last;

static inline void
key_add(struct key *key, const char *text)
{
	size_t size;

	if (text == NULL)
		text = "\1";
	if (key->like != NULL) {
		if (key->is_bad || key->npieces == key->like->npieces || strcmp(key->like->key + key->used, text) != 0)
			key->is_bad = true;
		else
			key->used += key->like->piece[key->npieces++];
		return;
	}
	size = strlen(text) + 1;
	if (key->npieces == WANTED_PIECES || size > KEY_MAX - key->used) {
		key->is_bad = true;
		return;
	}
	memcpy(key->bytes + key->used, text, size);
	key->used += size;
	key->piece[key->npieces++] = (uint16_t)size;
}

static void
key_begin(struct key *key, const char *kind, const struct wanted *like)
{
	key->like = like;
	key->is_bad = false;
	key->used = 0;
	key->npieces = 0;
	key_add(key, kind);
	for (char **e = environ; e != NULL && *e != NULL; e++)
		if ((*e)[0] == 'P' && (*e)[1] == 'G')
			key_add(key, *e);
}

static bool
is_of_user(const struct wanted *w)
{
	return !w->by_uid || w->uid == geteuid();
}

static struct wanted *
find_kept(const struct library *lib, const struct key *key)
{
	struct wanted *w;

	if (key->is_bad || !lock_take())
		return NULL;
	for (w = kept; w != NULL; w = w->next)
		if (w->lib == lib && w->key_size == key->used && memcmp(w->key, key->bytes, key->used) == 0 && is_of_user(w))
			break;
	lock_release();
	if (w != NULL)
		last = w;
	return w;
}

/* Whether the key, which was compared with this thread's last one, is that one's. */
static bool
is_last(const struct key *key)
{
	return !key->is_bad && key->npieces == last->npieces && is_of_user(last);
}

static void
keep(struct library *lib, struct wanted *w, const struct key *key)
{
	if (key->is_bad || (w->key = malloc(key->used)) == NULL)
		return;
	memcpy(w->key, key->bytes, key->used);
	w->key_size = key->used;
	memcpy(w->piece, key->piece, key->npieces * sizeof(key->piece[0]));
	w->npieces = key->npieces;
	w->lib = lib;
	if (!lock_take())
		return;
	if (nkept < KEPT_MAX) {
		w->is_kept = true;
		w->next = kept;
		kept = w;
		nkept++;
		last = w;
	}
	lock_release();
}

static PQconninfoOption *
option_find(PQconninfoOption *options, const char *keyword)
{
	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o;
	return NULL;
}

const char *
wanted_value(const struct wanted *w, const char *keyword)
{
	const PQconninfoOption *o = option_find(w->options, keyword);

	return o != NULL && o->val != NULL && o->val[0] != '\0' ? o->val : NULL;
}

/* Libpq frees what is there with free(). */
static bool
option_set(PQconninfoOption *options, const char *keyword, const char *value)
{
	PQconninfoOption *o = option_find(options, keyword);
	char *copy;

	if (o == NULL || (copy = strdup(value)) == NULL)
		return false;
	free(o->val);
	o->val = copy;
	return true;
}

static bool
options_overlay(PQconninfoOption *options, const PQconninfoOption *given)
{
	for (; given->keyword != NULL; given++)
		if (given->val != NULL && !option_set(options, given->keyword, given->val))
			return false;
	return true;
}

/* As libpq tells a connection string from a database's name. */
static bool
is_conninfo(const char *dbname)
{
	return strncmp(dbname, "postgresql://", 13) == 0 || strncmp(dbname, "postgres://", 11) == 0 ||
	       strchr(dbname, '=') != NULL;
}

static bool
overlay_conninfo(struct library *lib, PQconninfoOption *options, const char *conninfo)
{
	char *error = NULL;
	PQconninfoOption *given = lib->PQconninfoParse(conninfo, &error);
	bool done;

	if (given == NULL) {
		if (error != NULL)
			lib->PQfreemem(error);
		return false;
	}
	done = options_overlay(options, given);
	lib->PQconninfoFree(given);
	return done;
}

static bool
overlay_params(struct library *lib, PQconninfoOption *options, const char *const *keywords, const char *const *values,
    int expand)
{
	bool expanded = !expand;

	for (; *keywords != NULL; keywords++, values++) {
		if (*values == NULL || **values == '\0')
			continue;
		if (strcmp(*keywords, "dbname") == 0 && !expanded) {
			expanded = true; /* the first only */
			if (is_conninfo(*values)) {
				if (!overlay_conninfo(lib, options, *values))
					return false;
				continue;
			}
		}
		if (!option_set(options, *keywords, *values))
			return false;
	}
	return true;
}

static bool
is_one_of(const char *value, const char *const *words)
{
	for (; *words != NULL; words++)
		if (value != NULL && strcasecmp(value, *words) == 0)
			return true;
	return false;
}

/* What only a connection of one's own can give. */
static const char *
why_direct(const struct wanted *w)
{
	static const char *const off[] = {"false", "off", "no", "0", NULL},
				 *const encrypted[] = {"require", "verify-ca", "verify-full", NULL}, *const any[] = {"any", NULL};
	const char *value, *service = getenv("PGSERVICE");

	if ((value = wanted_value(w, "replication")) != NULL && !is_one_of(value, off))
		return "replication";
	if (is_one_of(wanted_value(w, "sslmode"), encrypted))
		return "sslmode";
	if (is_one_of(wanted_value(w, "gssencmode"), encrypted))
		return "gssencmode";
	if (is_one_of(wanted_value(w, "channel_binding"), encrypted))
		return "channel_binding";
	if (wanted_value(w, "requirepeer") != NULL)
		return "requirepeer";
	if (wanted_value(w, "require_auth") != NULL)
		return "require_auth";
	if ((value = wanted_value(w, "target_session_attrs")) != NULL && !is_one_of(value, any))
		return "target_session_attrs";
	/* PQconndefaults has looked into the environment's only: of another one nobody here knows what it says. */
	if ((value = wanted_value(w, "service")) != NULL && (service == NULL || strcmp(value, service) != 0))
		return "service";
	return NULL;
}

static void
add_setting(struct wanted *w, const char *name, const char *value)
{
	if (!options_add(w, name, value))
		w->direct = "too many settings";
}

/* client_encoding=auto: by the locale, whose names the server knows too, but for one. */
static const char *
encoding_of(const char *value)
{
	if (strcasecmp(value, "auto") != 0)
		return value;
	value = nl_langinfo(CODESET);
	return value[0] == '\0' || strcmp(value, "ANSI_X3.4-1968") == 0 ? "SQL_ASCII" : value;
}

/* In the order in which a server takes them from a start-up packet: options first. */
static void
add_settings(struct wanted *w)
{
	static const struct {
		const char *variable, *setting;
	} environment[] = {{"PGDATESTYLE", "DateStyle"}, {"PGTZ", "TimeZone"}, {"PGGEQO", "geqo"}};
	const char *value;

	if ((value = wanted_value(w, "options")) != NULL && !options_parse(w, value))
		w->direct = "options";
	if ((value = wanted_value(w, "client_encoding")) != NULL)
		add_setting(w, "client_encoding", encoding_of(value));
	if ((value = wanted_value(w, "application_name")) != NULL) {
		add_setting(w, "application_name", value);
	} else if ((value = wanted_value(w, "fallback_application_name")) != NULL) {
		add_setting(w, "application_name", value);
		if (w->nsettings > 0)
			w->setting[w->nsettings - 1].is_fallback = true;
	}
	for (size_t i = 0; i < sizeof(environment) / sizeof(environment[0]); i++)
		if ((value = getenv(environment[i].variable)) != NULL && strcasecmp(value, "default") != 0)
			add_setting(w, environment[i].setting, value);
}

static void
wanted_free(struct library *lib, struct wanted *w)
{
	if (w->options != NULL)
		lib->PQconninfoFree(w->options);
	for (unsigned i = 0; i < w->nsettings; i++) {
		free(w->setting[i].name);
		free(w->setting[i].value);
	}
	free((char *)w->pool);
	free(w->key);
	free(w);
}

static void
work_out(struct wanted *w)
{
	const char *timeout = wanted_value(w, "connect_timeout");
	long seconds = timeout != NULL ? strtol(timeout, NULL, 10) : 0;

	w->dbname = wanted_value(w, "dbname");
	w->user = wanted_value(w, "user");
	if (w->dbname == NULL)
		w->dbname = w->user;
	w->host = wanted_value(w, "hostaddr");
	if (w->host == NULL)
		w->host = wanted_value(w, "host");
	w->port = wanted_value(w, "port");
	/* libpq takes one second for two. */
	w->pool = getenv("PGLEASE_POOL");
	if (w->pool != NULL)
		w->pool = *w->pool != '\0' ? strdup(w->pool) : NULL;
	w->timeout_ms = seconds <= 0 ? -1 : seconds > 1000000 ? 1000000000 : (int)(seconds < 2 ? 2000 : seconds * 1000);
	w->direct = why_direct(w);
	add_settings(w);
}

/* libpq's own answer without what the program gives; a name that it takes from the user of the process is put aside. */
static bool
begin(struct library *lib, struct wanted *w, char **ret_name)
{
	const char *user = getenv("PGUSER");
	PQconninfoOption *o;

	w->options = lib->PQconndefaults();
	if (w->options == NULL || (o = option_find(w->options, "user")) == NULL)
		return false;
	w->uid = geteuid();
	if (user == NULL || *user == '\0') {
		*ret_name = o->val;
		o->val = NULL;
	}
	return true;
}

/* And with that. */
static void
end(struct wanted *w, char *name)
{
	PQconninfoOption *o = option_find(w->options, "user");
	const char *service = getenv("PGSERVICE");

	w->by_uid = name != NULL && o->val == NULL;
	if (w->by_uid)
		o->val = name;
	else
		free(name);
	/* Services are in a file at home, among others. */
	if ((service != NULL && *service != '\0') || wanted_value(w, "service") != NULL)
		w->by_uid = true;
	work_out(w);
}

static void
conninfo_key(struct key *key, const char *conninfo, const struct wanted *like)
{
	key_begin(key, "s", like);
	key_add(key, conninfo);
}

struct wanted *
wanted_of_conninfo(struct library *lib, const char *conninfo)
{
	struct wanted *w;
	struct key key;
	char *name = NULL;

	if (last != NULL && last->lib == lib) {
		conninfo_key(&key, conninfo, last);
		if (is_last(&key))
			return last;
	}
	conninfo_key(&key, conninfo, NULL);
	w = find_kept(lib, &key);
	if (w != NULL)
		return w;
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		return NULL;
	if (!begin(lib, w, &name) || !overlay_conninfo(lib, w->options, conninfo)) {
		free(name);
		wanted_free(lib, w);
		return NULL;
	}
	end(w, name);
	keep(lib, w, &key);
	return w;
}

static void
params_key(struct key *key, const char *const *keywords, const char *const *values, int expand, const struct wanted *like)
{
	key_begin(key, expand ? "e" : "p", like);
	for (unsigned i = 0; keywords[i] != NULL; i++) {
		key_add(key, keywords[i]);
		key_add(key, values[i]);
	}
}

struct wanted *
wanted_of_params(struct library *lib, const char *const *keywords, const char *const *values, int expand)
{
	struct wanted *w;
	struct key key;
	char *name = NULL;

	if (last != NULL && last->lib == lib) {
		params_key(&key, keywords, values, expand, last);
		if (is_last(&key))
			return last;
	}
	params_key(&key, keywords, values, expand, NULL);
	w = find_kept(lib, &key);
	if (w != NULL)
		return w;
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		return NULL;
	if (!begin(lib, w, &name) || !overlay_params(lib, w->options, keywords, values, expand)) {
		free(name);
		wanted_free(lib, w);
		return NULL;
	}
	end(w, name);
	keep(lib, w, &key);
	return w;
}

void
wanted_done(struct library *lib, struct wanted *w)
{
	if (w != NULL && !w->is_kept)
		wanted_free(lib, w);
}

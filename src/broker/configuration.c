/* SPDX-License-Identifier: PostgreSQL */
/*
 * Reading the configuration file with inih. inih splits lines; what it would silently get wrong is caught here: of a line
 * longer than its buffer it gets the key, and the value is kept aside, section headers are read by our own line reader (inih
 * cuts names at 50 characters and is silent about empty sections), and a key that comes twice is an error (an
 * indented line would otherwise be a second value).
 */
#include "configuration.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define LINE_LONGEST 1023 /* with the line end */

struct parse {
	const char *path;
	FILE *file;
	struct configuration *config;
	configuration_complain complain;
	void *context;
	char *line; /* getline's */
	size_t line_size;
	const char *long_value; /* in it, of the key that inih is working on; NULL: inih has the value */
	unsigned number; /* of the line that inih is working on */
	unsigned complaints;
	unsigned last_bad_line;
	bool bad_pool[LAYOUT_MAX_POOLS]; /* complained about: what follows from that is not said too */
	enum setting_section section;
	struct setting_scope {
		void *values; /* NULL: outside any section, or in a bad one */
		char title[96];
		unsigned *line; /* of each key, by its place in the table; 0: not set */
	} scope;
	unsigned instance_line[SETTINGS_MAX], pool_line[LAYOUT_MAX_POOLS][SETTINGS_MAX];
	unsigned header_line[LAYOUT_MAX_POOLS]; /* of the pool's section header */
	bool had_instance;
};

static void LOG_PRINTF(3, 4) complain(struct parse *p, bool at_line, const char *format, ...)
{
	char text[1200], message[1500];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (at_line && p->number != 0)
		snprintf(message, sizeof(message), "%s:%u: %s", p->path, p->number, text);
	else
		snprintf(
		    message, sizeof(message), "%s: %s", p->path != NULL ? p->path : "configuration", text);
	log_flatten(message);
	if (at_line) {
		p->last_bad_line = p->number;
		if (p->section == SETTING_POOL && p->scope.values != NULL)
			p->bad_pool[p->config->npools - 1] = true;
	}
	p->complaints++;
	p->complain(p->context, message);
}

static void
begin_section(struct parse *p, const char *title)
{
	struct configuration *c = p->config;

	memset(&p->scope, 0, sizeof(p->scope));
	snprintf(p->scope.title, sizeof(p->scope.title), "%s", title);
	if (strcmp(title, "pglease") == 0) {
		if (p->had_instance)
			complain(p, true, "section [pglease] comes twice: merge them");
		p->had_instance = true;
		p->section = SETTING_INSTANCE;
		p->scope.values = &c->instance;
		p->scope.line = p->instance_line;
	} else if (strncmp(title, "pool ", 5) == 0) {
		const char *name = title + 5 + strspn(title + 5, " ");
		struct pool_settings *pool = &c->pool[c->npools];

		if (paths_check_name(name) != 0) {
			complain(p, true,
			    "bad pool name \"%s\": allowed: 1 to 47 letters, digits, '_' and '-'", name);
			return;
		}
		for (unsigned i = 0; i < c->npools; i++) {
			if (strcmp(c->pool[i].name, name) == 0) {
				complain(p, true, "two pools of the name %s: rename one of them", name);
				return;
			}
		}
		if (c->npools == LAYOUT_MAX_POOLS) {
			complain(p, true, "more than %u pools", LAYOUT_MAX_POOLS);
			return;
		}
		settings_init(SETTING_POOL, pool);
		strcpy(pool->name, name);
		p->header_line[c->npools] = p->number;
		p->scope.line = p->pool_line[c->npools];
		c->npools++;
		p->section = SETTING_POOL;
		p->scope.values = pool;
	} else {
		complain(p, true, "unknown section [%s]: allowed: [pglease], [pool NAME]", title);
	}
}

/* A section header is taken from the whole line, before inih sees it. */
static void
look_for_section(struct parse *p)
{
	const char *start = p->line, *end;
	char title[96];

	if (strncmp(start, "\xef\xbb\xbf", 3) == 0)
		start += 3;
	start += strspn(start, " \t");
	if (*start != '[')
		return;
	end = strchr(++start, ']');
	if (end == NULL || (size_t)(end - start) >= sizeof(title)) {
		complain(p, true, "bad section header: allowed: [pglease], [pool NAME]");
		p->scope = (struct setting_scope){.title = "?"}; /* its keys are swallowed */
		return;
	}
	memcpy(title, start, (size_t)(end - start));
	title[end - start] = '\0';
	begin_section(p, title);
}

/* inih reports the first line that makes no sense, and no other; so they are sought here. Indented ones are its own. */
static bool
makes_sense(const char *line)
{
	if (strchr("[;# \t\r\n\xef", line[0]) != NULL) /* "" too; the last is a byte order mark's */
		return true;
	for (const char *c = line; *c != '\0'; c++) {
		if (*c == '=' || *c == ':')
			return true;
		if ((*c == ' ' || *c == '\t') && c[1] == ';')
			return false;
	}
	return false;
}

/*
 * A line that inih has no room for. Into `buf` goes its key, with something for a value, and the value is kept aside, cut out as inih does: without the blanks around
 * it, nor what follows a blank and a semicolon. False: there is no room for the key either.
 */
static bool
keep_value(struct parse *p, char *buf, size_t size)
{
	char *value = strpbrk(p->line, "=:") + 1, *end = value; /* makes_sense() */

	if ((size_t)snprintf(buf, size, "%.*s x\n", (int)(value - p->line), p->line) >= size)
		return false;
	while (*end != '\0' && !(strchr(" \t", *end) != NULL && end[1] == ';'))
		end++;
	while (end > value && strchr(" \t\r\n", end[-1]) != NULL)
		end--;
	*end = '\0';
	p->long_value = value + strspn(value, " \t");
	return true;
}

/* inih's line reader, with the contract of fgets. */
static char *
read_line(char *buf, int size, void *arg)
{
	struct parse *p = arg;
	ssize_t n = getline(&p->line, &p->line_size, p->file);

	if (n < 0)
		return NULL;
	p->number++;
	p->long_value = NULL;
	if (strlen(p->line) != (size_t)n) {
		complain(p, true, "the line has a zero byte: this is no configuration file");
		p->line[0] = '\0';
	} else if (n > LINE_LONGEST) {
		complain(p, true, "the line has %zd characters: at most %d are allowed", n, LINE_LONGEST);
		p->line[0] = '\0';
	} else if (!makes_sense(p->line)) {
		complain(p, true, "neither a section, nor key = value, nor a comment");
		p->line[0] = '\0';
	}
	look_for_section(p);
	if (n >= size && strchr("[;#", p->line[0]) == NULL) { /* nor "" */
		if (strchr(" \t\xef", p->line[0]) == NULL && keep_value(p, buf, (size_t)size))
			return buf;
		complain(p, true, "the line has %zd characters: at most %d are allowed before its key's end", n, size - 1);
	}
	/* An empty line must still be a line. Of a header or a comment inih need not know. */
	snprintf(buf, (size_t)size, "%s", n < size && p->line[0] != '\0' ? p->line : "\n");
	return buf;
}

/* Keys that check_pool() compares: after a bad value of one, what it would say is no news. */
static bool
is_checked_with_others(const char *name)
{
	static const char *const names[] = {
	    "min_connections", "max_connections", "retry_min", "retry_max", "embedded", "conninfo",
	    "reset_kind", "reset_sql", "reserve_connections"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* inih's handler: 1 is success, also for what has been complained about already. */
static int
set_key(void *arg, const char *section, const char *name, const char *value)
{
	struct parse *p = arg;
	const struct setting *s;
	char why[400];

	if (p->long_value != NULL)
		value = p->long_value;
	if (p->scope.title[0] == '\0') {
		complain(
		    p, true, "\"%s\" stands before any section: begin with [pglease] or [pool NAME]", name);
		return 1;
	}
	if (p->scope.values == NULL)
		return 1;
	s = settings_find(p->section, name);
	if (s == NULL) {
		char allowed[900] = "";
		size_t at = 0;

		for (size_t i = 0; i < settings_count && at < sizeof(allowed); i++)
			if (settings[i].section == p->section)
				at += (size_t)snprintf(allowed + at, sizeof(allowed) - at, "%s%s",
				    at == 0 ? "" : ", ", settings[i].name);
		complain(p, true, "%s: unknown key \"%s\" in [%s]: allowed: %s", name, name, p->scope.title,
		    allowed);
		return 1;
	}
	if (p->scope.line[s - settings] != 0) {
		complain(p, true,
		    "%s: set twice in [%s], first in line %u (a line that begins with a space continues the one "
		    "before)",
		    name, p->scope.title, p->scope.line[s - settings]);
		return 1;
	}
	p->scope.line[s - settings] = p->number;
	if (*value == '\0' && *s->initial == '\0')
		return 1; /* "key =" leaves a text at its default */
	if (settings_set(s, p->scope.values, value, why, sizeof(why)) != 0) {
		bool was_bad = p->section == SETTING_POOL && p->bad_pool[p->config->npools - 1];

		/* The value of a conninfo may hold a password: it is never shown. */
		if (s->type == SETTING_TEXT)
			complain(p, true, "%s: bad value in [%s]: %s", name, p->scope.title, why);
		else
			complain(p, true, "%s: bad value \"%s\" in [%s]: %s", name, value, p->scope.title, why);
		if (p->section == SETTING_POOL && !is_checked_with_others(name))
			p->bad_pool[p->config->npools - 1] = was_bad;
	}
	return 1;
}

/* What is wrong with several keys together is said at the line of one of them, or at the section's header. */
static void
at_key(struct parse *p, unsigned pool, const char *key)
{
	const struct setting *s = settings_find(SETTING_POOL, key);

	p->number = p->pool_line[pool][s - settings];
	if (p->number == 0)
		p->number = p->header_line[pool];
}

/* A conninfo that can only give connections that cannot be leased. */
static void
check_encryption(struct parse *p, const struct pool_settings *pool, const PQconninfoOption *options)
{
	for (const PQconninfoOption *o = options; o->keyword != NULL; o++) {
		if (o->val == NULL)
			continue;
		if ((strcmp(o->keyword, "sslmode") == 0 &&
		        (strcmp(o->val, "require") == 0 || strncmp(o->val, "verify-", 7) == 0)) ||
		    (strcmp(o->keyword, "gssencmode") == 0 && strcmp(o->val, "require") == 0))
			complain(p, true,
			    "conninfo: pool %s: %s=%s: an encrypted server connection cannot be leased: allowed: "
			    "%s=disable (use a Unix socket, or a network that is protected otherwise)",
			    pool->name, o->keyword, o->val, o->keyword);
	}
}

static void
check_pool(struct parse *p, unsigned index)
{
	const struct pool_settings *pool = &p->config->pool[index];
	char *error = NULL;
	PQconninfoOption *options;

	if (pool->min_connections > pool->max_connections) {
		at_key(p, index, "min_connections");
		complain(p, true,
		    "min_connections: pool %s: min_connections (%" PRIu64 ") is above max_connections (%" PRIu64
		    "): lower it, or raise max_connections",
		    pool->name, pool->min_connections, pool->max_connections);
	}
	if (pool->max_connections + pool->reserve_connections > LAYOUT_MAX_SLOTS) {
		at_key(p, index, "reserve_connections");
		complain(p, true,
		    "reserve_connections: pool %s: with max_connections it is above %d: lower one of them", pool->name,
		    LAYOUT_MAX_SLOTS);
	}
	if (pool->retry_min > pool->retry_max) {
		at_key(p, index, "retry_min");
		complain(p, true, "retry_min: pool %s: it is above retry_max: lower it, or raise retry_max", pool->name);
	}
	if ((pool->reset_kind == RESET_SQL) != (pool->reset_sql[0] != '\0')) {
		at_key(p, index, "reset_sql");
		complain(p, true, "reset_sql: pool %s: reset_kind = sql and reset_sql go together: give both or neither",
		    pool->name);
	}
	if (pool->embedded && pool->conninfo[0] != '\0') {
		at_key(p, index, "conninfo");
		complain(p, true,
		    "conninfo: pool %s: embedded = yes and conninfo exclude each other: remove one", pool->name);
	}
	if (!pool->embedded && pool->conninfo[0] == '\0') {
		at_key(p, index, "conninfo");
		complain(
		    p, true, "conninfo: pool %s has no upstream: set embedded = yes or conninfo", pool->name);
	}
	if (pool->conninfo[0] == '\0')
		return;
	at_key(p, index, "conninfo");
	options = PQconninfoParse(pool->conninfo, &error);
	if (options == NULL) {
		/* libpq's text may quote a part of the string, and so of a password. */
		complain(p, true,
		    "conninfo: pool %s: it is no libpq connection string: allowed: keyword=value ..., or a URI",
		    pool->name);
		PQfreemem(error);
		return;
	}
	check_encryption(p, pool, options);
	PQconninfoFree(options);
}

static int
open_file(struct parse *p)
{
	struct stat st;
	int fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		complain(p, false, "cannot be read: %s", strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		complain(p, false, "is not a regular file");
		close(fd);
		return -1;
	}
	p->file = fdopen(fd, "r");
	if (p->file == NULL) {
		complain(p, false, "cannot be read: %s", strerror(errno));
		close(fd);
		return -1;
	}
	return 0;
}

static void
parse_file(struct parse *p)
{
	int bad;

	if (open_file(p) != 0)
		return;
	bad = ini_parse_stream(read_line, p, set_key, p);
	if (bad > 0 && (unsigned)bad != p->last_bad_line) {
		p->number = (unsigned)bad;
		complain(p, true, "neither a section, nor key = value, nor a comment");
	}
	if (ferror(p->file))
		complain(p, false, "cannot be read: %s", strerror(errno));
	fclose(p->file);
	p->section = SETTING_INSTANCE; /* what follows marks no pool as bad */
	if (p->complaints == 0 && p->config->npools == 0)
		complain(p, false, "has no pool: add a section [pool NAME] with embedded = yes or conninfo");
}

int
configuration_read(
    const char *path, configuration_complain complain_to, void *context, struct configuration **ret)
{
	struct parse p = {.path = path, .complain = complain_to, .context = context};

	p.config = calloc(1, sizeof(*p.config));
	if (p.config == NULL) {
		complain(&p, false, "out of memory");
		return -1;
	}
	settings_init(SETTING_INSTANCE, &p.config->instance);
	if (path != NULL) {
		parse_file(&p);
	} else {
		settings_init(SETTING_POOL, &p.config->pool[0]);
		strcpy(p.config->pool[0].name, "main");
		p.config->pool[0].embedded = 1;
		p.config->npools = 1;
	}
	free(p.line);
	for (unsigned i = 0; i < p.config->npools; i++)
		if (!p.bad_pool[i])
			check_pool(&p, i);
	if (p.complaints != 0) {
		configuration_free(p.config);
		return -1;
	}
	*ret = p.config;
	return 0;
}

static struct pool_settings *
find_pool(struct configuration *c, const char *name, size_t length)
{
	for (unsigned i = 0; i < c->npools; i++)
		if (strlen(c->pool[i].name) == length && memcmp(c->pool[i].name, name, length) == 0)
			return &c->pool[i];
	return NULL;
}

int
configuration_set(struct configuration *c, const char *assignment, configuration_complain complain_to, void *context)
{
	struct parse p = {.path = "set", .config = c, .complain = complain_to, .context = context};
	size_t key_size = strcspn(assignment, "="), pool_size = strcspn(assignment, "/");
	struct pool_settings *pool = NULL;
	char key[64], why[400];
	const struct setting *s;

	if (pool_size < key_size && (pool = find_pool(c, assignment, pool_size)) == NULL) {
		complain(&p, false, "there is no pool \"%.*s\"", (int)pool_size, assignment);
		return -1;
	}
	pool_size = pool != NULL ? pool_size + 1 : 0;
	snprintf(key, sizeof(key), "%.*s", (int)(key_size - pool_size), assignment + pool_size);
	s = settings_find(pool != NULL ? SETTING_POOL : SETTING_INSTANCE, key);
	if (s == NULL)
		complain(&p, false, "%s: unknown key of %s (a pool's are POOL/KEY)", key, pool != NULL ? "a pool" : "the instance");
	else if (s->type == SETTING_TEXT)
		complain(&p, false, "%s: it may have a password in it, and would be in the list of processes: put it into the file", key);
	else if (assignment[key_size] != '=')
		complain(&p, false, "%s: no value is given", key);
	else if (settings_set(s, pool != NULL ? (void *)pool : &c->instance, assignment + key_size + 1, why, sizeof(why)) != 0)
		complain(&p, false, "%s: bad value: %s", key, why);
	else if (pool != NULL)
		check_pool(&p, (unsigned)(pool - c->pool));
	return p.complaints == 0 ? 0 : -1;
}

bool
configuration_same_key(const char *assignment, const char *other)
{
	size_t n = strcspn(assignment, "=");

	return n == strcspn(other, "=") && memcmp(assignment, other, n) == 0;
}

void
configuration_free(struct configuration *configuration)
{
	if (configuration == NULL)
		return;
	/* Connection strings may hold passwords. */
	explicit_bzero(configuration, sizeof(*configuration));
	free(configuration);
}

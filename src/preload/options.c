/* SPDX-License-Identifier: PostgreSQL */
/*
 * Start-up settings. A list (search_path) is one text in a start-up packet; SET would take it for one name, so everything but
 * the commonest goes through set_config.
 */
#include "options.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "segment.h"

#define WORD_MAX 1024

static bool
is_reported(const char *name)
{
	static const char *const names[] = {"application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone",
	    "standard_conforming_strings"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcasecmp(name, names[i]) == 0)
			return true;
	return false;
}

bool
options_add(struct wanted *w, const char *name, const char *value)
{
	struct wanted_setting *s = NULL;
	char *copy = strdup(value);

	for (unsigned i = 0; i < w->nsettings; i++)
		if (strcasecmp(w->setting[i].name, name) == 0)
			s = &w->setting[i];
	if (copy != NULL && s != NULL) {
		free(s->value);
		s->value = copy;
		return true;
	}
	if (copy == NULL || w->nsettings == WANTED_SETTINGS) {
		free(copy);
		return false;
	}
	s = &w->setting[w->nsettings];
	s->name = strdup(name);
	s->value = copy;
	if (s->name == NULL) {
		free(copy);
		return false;
	}
	s->is_reported = is_reported(name);
	w->has_unreported = w->has_unreported || !s->is_reported;
	w->nsettings++;
	return true;
}

/* The next word, without the backslashes that keep blanks in it. NULL: the end, or too long (*ret_bad). */
static const char *
next_word(const char *text, char word[WORD_MAX], bool *ret_bad)
{
	size_t n = 0;

	text += strspn(text, " \t\r\n\f\v");
	if (*text == '\0')
		return NULL;
	for (; *text != '\0' && strchr(" \t\r\n\f\v", *text) == NULL; text++) {
		if (*text == '\\' && text[1] != '\0')
			text++;
		if (n == WORD_MAX - 1) {
			*ret_bad = true;
			return NULL;
		}
		word[n++] = *text;
	}
	word[n] = '\0';
	return text;
}

/* name=value, with dashes for underscores in the name. */
static bool
add_assignment(struct wanted *w, char *word)
{
	char *value = strchr(word, '=');

	if (value == NULL || value == word)
		return false;
	*value++ = '\0';
	for (char *c = word; *c != '\0'; c++)
		if (*c == '-')
			*c = '_';
	return options_add(w, word, value);
}

bool
options_parse(struct wanted *w, const char *text)
{
	char word[WORD_MAX];
	bool bad = false;

	while ((text = next_word(text, word, &bad)) != NULL) {
		char *assignment = word + 2;

		if (strncmp(word, "--", 2) != 0 && strncmp(word, "-c", 2) != 0)
			return false;
		if (strcmp(word, "-c") == 0) {
			if ((text = next_word(text, word, &bad)) == NULL)
				return false;
			assignment = word;
		}
		if (!add_assignment(w, assignment))
			return false;
	}
	return !bad;
}

/* Statements that are being written; beyond the room only their length is right. */
struct sql {
	char *text;
	size_t size, used;
};

static void
put(struct sql *sql, const char *text, size_t size)
{
	if (sql->used < sql->size && size < sql->size - sql->used)
		memcpy(sql->text + sql->used, text, size);
	sql->used += size;
}

static void
put_text(struct sql *sql, const char *text)
{
	put(sql, text, strlen(text));
}

/* E'...': right whatever standard_conforming_strings is. */
static void
put_literal(struct sql *sql, const char *text)
{
	put_text(sql, "E'");
	for (size_t n; *text != '\0'; text += n) {
		n = strcspn(text, "'\\");
		put(sql, text, n);
		if (text[n] != '\0') {
			put(sql, text + n, 1);
			put(sql, text + n, 1);
			n++;
		}
	}
	put_text(sql, "'");
}

static bool
is_plain(const char *name)
{
	return strcmp(name, "application_name") == 0 || strcmp(name, "client_encoding") == 0;
}

/* What the session reports of itself: as its PGconn heard, or, when it has been reset and nobody has asked, its baseline. */
struct session {
	struct library *lib;
	const PGconn *conn;
	const char *baseline;
};

static const char *
value_now(const struct session *session, const char *name)
{
	unsigned bit;

	return session->conn != NULL ? session->lib->PQparameterStatus(session->conn, name)
				     : baseline_find(session->baseline, name, &bit);
}

static bool
is_needed(const struct session *session, const struct wanted_setting *s, bool fallback)
{
	const char *now;

	if (s->is_fallback && !fallback)
		return false;
	now = s->is_reported ? value_now(session, s->name) : NULL;
	return now == NULL || strcmp(now, s->value) != 0;
}

static void
write_sql(const struct wanted *w, const struct session *session, bool fallback, struct sql *sql)
{
	const char *before = "SELECT ";

	for (unsigned i = 0; i < w->nsettings; i++) {
		const struct wanted_setting *s = &w->setting[i];

		if (!is_plain(s->name) || !is_needed(session, s, fallback))
			continue;
		put_text(sql, "SET ");
		put_text(sql, s->name);
		put_text(sql, " TO ");
		put_literal(sql, s->value);
		put_text(sql, ";");
	}
	for (unsigned i = 0; i < w->nsettings; i++) {
		const struct wanted_setting *s = &w->setting[i];

		if (is_plain(s->name) || !is_needed(session, s, fallback))
			continue;
		put_text(sql, before);
		put_text(sql, "pg_catalog.set_config(");
		put_literal(sql, s->name);
		put_text(sql, ",");
		put_literal(sql, s->value);
		put_text(sql, ",false)");
		before = ",";
	}
}

size_t
options_write(const struct wanted *w, const char *baseline, bool fallback, char *buf, size_t size)
{
	struct session session = {.baseline = baseline};
	struct sql sql = {.text = buf, .size = size};

	write_sql(w, &session, fallback, &sql);
	return sql.used;
}

char *
options_sql(struct library *lib, const struct wanted *w, const PGconn *conn, bool fallback, bool *ret_failed)
{
	struct session session = {.lib = lib, .conn = conn};
	struct sql sql = {.text = NULL};

	*ret_failed = false;
	write_sql(w, &session, fallback, &sql);
	if (sql.used == 0)
		return NULL;
	sql.size = sql.used + 1;
	sql.used = 0;
	sql.text = malloc(sql.size);
	if (sql.text == NULL) {
		*ret_failed = true;
		return NULL;
	}
	write_sql(w, &session, fallback, &sql);
	sql.text[sql.used] = '\0';
	return sql.text;
}

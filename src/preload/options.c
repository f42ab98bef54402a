/* SPDX-License-Identifier: PostgreSQL */
/*
 * Start-up settings. A list (search_path) is one text in a start-up packet; SET would take it for one name, so everything but
 * the commonest goes through set_config.
 */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

/* E'...': right whatever standard_conforming_strings is. */
static void
print_literal(FILE *f, const char *text)
{
	fputs("E'", f);
	for (; *text != '\0'; text++) {
		if (*text == '\'' || *text == '\\')
			fputc(*text, f);
		fputc(*text, f);
	}
	fputc('\'', f);
}

static bool
is_plain(const char *name)
{
	return strcmp(name, "application_name") == 0 || strcmp(name, "client_encoding") == 0;
}

static bool
is_needed(struct library *lib, const struct wanted_setting *s, const PGconn *conn, bool fallback)
{
	const char *now = s->is_reported ? lib->PQparameterStatus(conn, s->name) : NULL;

	return (fallback || !s->is_fallback) && (now == NULL || strcmp(now, s->value) != 0);
}

char *
options_sql(struct library *lib, const struct wanted *w, const PGconn *conn, bool fallback, bool *ret_failed)
{
	char *sql = NULL;
	size_t size = 0;
	const char *before = "SELECT ";
	unsigned needed = 0;
	FILE *f;

	*ret_failed = false;
	for (unsigned i = 0; i < w->nsettings; i++)
		needed += is_needed(lib, &w->setting[i], conn, fallback);
	if (needed == 0)
		return NULL;
	f = open_memstream(&sql, &size);
	if (f == NULL) {
		*ret_failed = true;
		return NULL;
	}
	for (unsigned i = 0; i < w->nsettings; i++) {
		const struct wanted_setting *s = &w->setting[i];

		if (!is_plain(s->name) || !is_needed(lib, s, conn, fallback))
			continue;
		fprintf(f, "SET %s TO ", s->name);
		print_literal(f, s->value);
		fputc(';', f);
	}
	for (unsigned i = 0; i < w->nsettings; i++) {
		const struct wanted_setting *s = &w->setting[i];

		if (is_plain(s->name) || !is_needed(lib, s, conn, fallback))
			continue;
		fprintf(f, "%spg_catalog.set_config(", before);
		print_literal(f, s->name);
		fputc(',', f);
		print_literal(f, s->value);
		fputs(",false)", f);
		before = ",";
	}
	if (fclose(f) != 0) {
		free(sql);
		*ret_failed = true;
		return NULL;
	}
	return sql;
}

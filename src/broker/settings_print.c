/* SPDX-License-Identifier: PostgreSQL */
/* The table of settings in print: the sample file, the help, and the manual's table. */
#include <string.h>

#include "settings.h"

#define MANUAL_WIDTH 78

static void
print_comment(FILE *out, const char *text)
{
	fputs("; ", out);
	for (; *text != '\0'; text++) {
		fputc(*text, out);
		if (*text == '\n')
			fputs("; ", out);
	}
	fputc('\n', out);
}

void
settings_print_sample(FILE *out)
{
	enum setting_section section = SETTING_INSTANCE;

	fputs("; Configuration of pgleased. Values shown are the defaults. Durations: a number with a unit "
	      "(us, ms, s,\n"
	      "; min, h); 0 switches off what can be switched off. A line has at most 1023 characters.\n"
	      "; A comment starts with ';' or '#', at the start of a line, or with \" ;\" after a value.\n"
	      "\n[pglease]\n",
	    out);
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *s = &settings[i];

		if (s->section != section) {
			section = s->section;
			fputs("\n; One section for each pool: [pool NAME]. Set either embedded or conninfo.\n"
			      "[pool main]\n"
			      "embedded = yes\n",
			    out);
		}
		fputc('\n', out);
		print_comment(out, s->help);
		if (*s->initial != '\0')
			fprintf(out, ";%s = %s\n", s->name, s->initial);
		else
			fprintf(out, ";%s =\n", s->name);
	}
}

void
settings_print_help(FILE *out)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *s = &settings[i];
		char allowed[128];

		if (i == 0 || s->section != settings[i - 1].section)
			fprintf(out, "%s[%s]\n", i == 0 ? "" : "\n",
			    s->section == SETTING_INSTANCE ? "pglease" : "pool NAME");
		settings_describe(s, allowed, sizeof(allowed));
		fprintf(out, "  %s = %s\n      allowed: %s\n      ", s->name,
		    *s->initial != '\0' ? s->initial : "(none)", allowed);
		for (const char *c = s->help; *c != '\0'; c++) {
			fputc(*c, out);
			if (*c == '\n')
				fputs("      ", out);
		}
		fputc('\n', out);
	}
}

/*
 * Words as mdoc wants them: lines of bounded length, a new one for each sentence, and nothing that it would take for a
 * macro or an escape.
 */
static void
print_roff(FILE *out, const char *text)
{
	size_t column = 0;
	bool sentence = false;

	while (*text != '\0') {
		size_t n = strcspn(text, " \n");

		if (column != 0 && (column + 1 + n > MANUAL_WIDTH || sentence)) {
			fputc('\n', out);
			column = 0;
		}
		column += (size_t)fprintf(out, "%s%s%.*s", column != 0 ? " " : "",
		    column == 0 && (*text == '.' || *text == '\'') ? "\\&" : "", (int)n, text);
		sentence = n > 1 && text[n - 1] == '.' && text[n - 2] != '.';
		text += n + (text[n] != '\0');
	}
	fputc('\n', out);
}

void
settings_print_manual(FILE *out)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *s = &settings[i];
		char allowed[128];

		if (i == 0 || s->section != settings[i - 1].section)
			fprintf(out, "%s.Ss %s\n.Bl -tag -width Ds\n", i == 0 ? "" : ".El\n",
			    s->section == SETTING_INSTANCE ? "[pglease]: the instance"
			                                   : "[pool NAME]: one for each pool");
		settings_describe(s, allowed, sizeof(allowed));
		fprintf(out, ".It Cm %s\n", s->name);
		print_roff(out, s->help);
		fputs("Allowed:\n", out);
		print_roff(out, allowed);
		if (s->change == SETTING_FIXED)
			fputs("A reload or restart (pgleasectl) does not change it: stop and start.\n", out);
		else if (s->change == SETTING_RECONNECTS)
			fputs("A reload that changes it replaces the pool's connections.\n", out);
		else if (s->change == SETTING_REMAKES)
			fputs("A reload that changes it makes the pool anew.\n", out);
		if (*s->initial != '\0')
			fprintf(out, ".br\nDefault:\n.Li %s\n", s->initial);
	}
	fputs(".El\n", out);
}

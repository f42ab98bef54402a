/* SPDX-License-Identifier: PostgreSQL */
/* The table of settings, and what its types take. */
#include "settings.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define US UINT64_C(1000)
#define MS (1000 * US)
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)

#define IN_INSTANCE(member) \
	offsetof(struct instance_settings, member), sizeof(((struct instance_settings *)0)->member)
#define IN_POOL(member) offsetof(struct pool_settings, member), sizeof(((struct pool_settings *)0)->member)

/* clang-format off */
const struct setting settings[] = {
	{SETTING_INSTANCE, "instance", SETTING_NAME, IN_INSTANCE(instance), 0, 0, "main",
	    "Name of the instance: clients and tools find it by this name."},
	{SETTING_INSTANCE, "socket_dir", SETTING_PATH, IN_INSTANCE(socket_dir), 0, 0, "",
	    "Folder of the broker's sockets, made if it is missing. Default: /run/pglease/INSTANCE for root, else\n"
	    "$XDG_RUNTIME_DIR/pglease/INSTANCE, else /tmp/pglease-UID/INSTANCE."},
	{SETTING_INSTANCE, "data_dir", SETTING_PATH, IN_INSTANCE(data_dir), 0, 0, "",
	    "Folder of the embedded PostgreSQL. Default: /var/lib/pglease/INSTANCE for root, else\n"
	    "$XDG_STATE_HOME/pglease/INSTANCE, else ~/.local/state/pglease/INSTANCE."},
	{SETTING_INSTANCE, "max_clients", SETTING_COUNT, IN_INSTANCE(max_clients), 1, LAYOUT_MAX_CLIENTS, "256",
	    "How many processes can be attached at a time."},
	{SETTING_INSTANCE, "log_level", SETTING_LEVEL, IN_INSTANCE(log_level), 0, 0, "info",
	    "How much is logged: error, warning, info or debug."},
	{SETTING_INSTANCE, "stats_mode", SETTING_MODE, IN_INSTANCE(stats_mode), 0, 0777, "0644",
	    "Mode of the statistics segment (octal): who may read it with pgleasestat."},

	{SETTING_POOL, "embedded", SETTING_BOOL, IN_POOL(embedded), 0, 1, "no",
	    "yes: the upstream is the broker's own PostgreSQL, made, started and stopped by it; its socket is in\n"
	    "SOCKET_DIR/postgres. All embedded pools of an instance share it."},
	{SETTING_POOL, "conninfo", SETTING_TEXT, IN_POOL(conninfo), 0, 0, "",
	    "The upstream, as a libpq connection string, when it is not embedded. sslmode and gssencmode are\n"
	    "\"disable\" unless given: an encrypted server connection cannot be leased."},
	{SETTING_POOL, "min_connections", SETTING_COUNT, IN_POOL(min_connections), 0, LAYOUT_MAX_SLOTS, "1",
	    "Server connections that are kept open."},
	{SETTING_POOL, "max_connections", SETTING_COUNT, IN_POOL(max_connections), 1, LAYOUT_MAX_SLOTS, "5",
	    "Server connections at most: more are opened, up to this number, while workers wait."},
	{SETTING_POOL, "acquire_timeout", SETTING_DURATION, IN_POOL(acquire_timeout), 1, 24 * HOUR, "10s",
	    "How long a worker waits for a connection unless it says otherwise."},
	{SETTING_POOL, "idle_timeout", SETTING_DURATION, IN_POOL(idle_timeout), 0, 365 * 24 * HOUR, "5min",
	    "Idle connections above min_connections are closed after this time."},
	{SETTING_POOL, "max_lifetime", SETTING_DURATION, IN_POOL(max_lifetime), 0, 365 * 24 * HOUR, "1h",
	    "Connections are replaced at this age, some up to a tenth earlier, so that they do not all go at once."},
	{SETTING_POOL, "connect_timeout", SETTING_DURATION, IN_POOL(connect_timeout), MS, HOUR, "5s",
	    "How long opening a server connection may take."},
	{SETTING_POOL, "validation_bypass", SETTING_DURATION, IN_POOL(validation_bypass), 0, HOUR, "500ms",
	    "A connection used within this time is leased again without a look at its socket."},
	{SETTING_POOL, "grant_after", SETTING_DURATION, IN_POOL(grant_after), 0, HOUR, "1ms",
	    "A worker that has waited for this long gets the next connection; before, whoever comes may take it."},
	{SETTING_POOL, "reset_timeout", SETTING_DURATION, IN_POOL(reset_timeout), MS, HOUR, "2s",
	    "How long resetting a session may take before its connection is replaced."},
};
/* clang-format on */
const size_t settings_count = sizeof(settings) / sizeof(settings[0]);

static const struct {
	const char *name;
	uint64_t ns;
} units[] = {{"us", US}, {"ms", MS}, {"s", SECOND}, {"min", MINUTE}, {"h", HOUR}};

static const char *const levels[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

const struct setting *
settings_find(enum setting_section section, const char *name)
{
	for (size_t i = 0; i < settings_count; i++)
		if (settings[i].section == section && strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

void
settings_init(enum setting_section section, void *values)
{
	char why[128];

	for (size_t i = 0; i < settings_count; i++) {
		if (settings[i].section != section)
			continue;
		if (*settings[i].initial == '\0')
			memset((char *)values + settings[i].offset, 0, settings[i].size);
		else if (settings_set(&settings[i], values, settings[i].initial, why, sizeof(why)) != 0)
			assert(!"a setting's own default is allowed");
	}
}

/* Digits only, in the base: no sign, no space. Returns the end, NULL when there is no number or it is too big. */
static const char *
parse_number(const char *text, int base, uint64_t *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return NULL;
	errno = 0;
	*ret = strtoull(text, &end, base);
	return errno != 0 ? NULL : end;
}

static void
format_duration(uint64_t ns, char *buf, size_t size)
{
	size_t i = sizeof(units) / sizeof(units[0]);

	while (--i > 0 && (ns < units[i].ns || ns % units[i].ns != 0))
		;
	snprintf(buf, size, "%" PRIu64 "%s", ns / units[i].ns, units[i].name);
}

static int
parse_duration(const struct setting *setting, const char *value, uint64_t *ret, char *why, size_t why_size)
{
	char low[32], high[32];
	uint64_t n = 0, ns = 0;
	const char *unit = parse_number(value, 10, &n);
	bool known = false;

	if (unit != NULL && *unit == '\0' && n == 0) {
		known = true;
	} else if (unit != NULL) {
		while (*unit == ' ')
			unit++;
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && !known; i++) {
			if (strcmp(unit, units[i].name) != 0)
				continue;
			known = true;
			if (__builtin_mul_overflow(n, units[i].ns, &ns))
				ns = UINT64_MAX;
		}
	}
	if (known && ns >= setting->min && ns <= setting->max) {
		*ret = ns;
		return 0;
	}
	format_duration(setting->max, high, sizeof(high));
	if (setting->min == 0) {
		snprintf(why, why_size,
		    "allowed: a number with a unit (us, ms, s, min, h) up to %s, or 0 for off", high);
	} else {
		format_duration(setting->min < US ? US : setting->min, low, sizeof(low));
		snprintf(why, why_size, "allowed: a number with a unit (us, ms, s, min, h) from %s to %s",
		    low, high);
	}
	return -1;
}

static int
parse_text(const struct setting *setting, char *to, const char *value, char *why, size_t why_size)
{
	if (setting->type == SETTING_NAME && paths_check_name(value) != 0) {
		snprintf(why, why_size, "allowed: 1 to 47 letters, digits, '_' and '-'");
		return -1;
	}
	if (setting->type == SETTING_PATH && value[0] != '/') {
		snprintf(why, why_size, "allowed: an absolute path");
		return -1;
	}
	if (strlen(value) >= setting->size) {
		snprintf(why, why_size, "allowed: up to %zu characters", setting->size - 1);
		return -1;
	}
	strcpy(to, value);
	return 0;
}

int
settings_set(const struct setting *setting, void *values, const char *value, char *why, size_t why_size)
{
	void *to = (char *)values + setting->offset;
	uint64_t n;
	const char *end;

	switch (setting->type) {
	case SETTING_NAME:
	case SETTING_PATH:
	case SETTING_TEXT:
		return parse_text(setting, to, value, why, why_size);
	case SETTING_DURATION:
		return parse_duration(setting, value, to, why, why_size);
	case SETTING_BOOL:
		if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0) {
			snprintf(why, why_size, "allowed: yes, no");
			return -1;
		}
		*(uint64_t *)to = value[0] == 'y';
		return 0;
	case SETTING_LEVEL:
		for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
			if (strcmp(value, levels[i]) == 0) {
				*(uint64_t *)to = i;
				return 0;
			}
		}
		snprintf(why, why_size, "allowed: error, warning, info, debug");
		return -1;
	case SETTING_COUNT:
		end = parse_number(value, 10, &n);
		if (end == NULL || *end != '\0' || n < setting->min || n > setting->max) {
			snprintf(why, why_size, "allowed: a number from %" PRIu64 " to %" PRIu64,
			    setting->min, setting->max);
			return -1;
		}
		*(uint64_t *)to = n;
		return 0;
	case SETTING_MODE:
		end = parse_number(value, 8, &n);
		if (end == NULL || *end != '\0' || n > setting->max) {
			snprintf(why, why_size, "allowed: an octal mode up to 0777");
			return -1;
		}
		*(uint64_t *)to = n;
		return 0;
	}
	return -1;
}

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
	      "; min, h); 0 switches off what can be switched off. A line has at most 199 characters.\n"
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

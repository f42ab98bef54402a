/* SPDX-License-Identifier: PostgreSQL */
/* What a pool stands for, in the form that clients compare with: defaults from the conninfo, and a port for each host. */
#include "match.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

#define DEFAULT_PORT "5432"

/* The item of a list with this index; the last one beyond it, as libpq takes a single port for all hosts. */
static const char *
item(const char *list, unsigned index, int *ret_size)
{
	size_t n;

	for (; index > 0; index--) {
		const char *comma = strchr(list, ',');

		if (comma == NULL)
			break;
		list = comma + 1;
	}
	n = strcspn(list, ",");
	*ret_size = (int)n;
	return list;
}

static unsigned
count(const char *list)
{
	unsigned n = 1;

	for (; *list != '\0'; list++)
		n += *list == ',';
	return n;
}

static void LOG_PRINTF(2, 3) append(struct wire_match *match, const char *format, ...)
{
	size_t used = strlen(match->host);
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(match->host + used, sizeof(match->host) - used, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(match->host) - used)
		match->host[used] = '\0'; /* what does not fit does not match */
}

static void
add_host(struct wire_match *match, const char *host, int host_size, const char *port, int port_size)
{
	if (port_size == 0) {
		port = DEFAULT_PORT;
		port_size = (int)strlen(port);
	}
	append(match, "%s%.*s %.*s", match->host[0] != '\0' ? "," : "", host_size, host, port_size, port);
}

/* Names and addresses of the conninfo, each with its port. */
static void
hosts_of_conninfo(const struct hosts *hosts, struct wire_match *match)
{
	const char *lists[] = {hosts->host, hosts->hostaddr};
	bool any = false;

	for (unsigned l = 0; l < 2; l++) {
		for (unsigned i = 0; lists[l][0] != '\0' && i < count(lists[l]); i++) {
			int host_size, port_size;
			const char *host = item(lists[l], i, &host_size), *port = item(hosts->port, i, &port_size);

			add_host(match, host, host_size, port, port_size);
			any = true;
		}
	}
	if (!any) {
		int port_size;
		const char *port = item(hosts->port, 0, &port_size);

		add_host(match, "", 0, port, port_size);
	}
}

/* HOST or HOST:PORT; without a port, the first of the conninfo. A Unix socket's folder may have a colon in its name. */
static void
hosts_of_setting(const char *list, const struct hosts *hosts, struct wire_match *match)
{
	int port_size, host_size;
	const char *port = item(hosts->port, 0, &port_size);

	for (unsigned i = 0; i < count(list); i++) {
		const char *host = item(list, i, &host_size), *colon;

		for (; host_size > 0 && *host == ' '; host_size--)
			host++;
		for (; host_size > 0 && host[host_size - 1] == ' '; host_size--)
			;
		colon = memrchr(host, ':', (size_t)host_size);
		if (colon == NULL || (host[0] == '/' && strcspn(colon + 1, "/,") < (size_t)(host + host_size - colon - 1)))
			add_host(match, host, host_size, port, port_size);
		else
			add_host(match, host, (int)(colon - host), colon + 1, (int)(host + host_size - colon - 1));
	}
}

void
match_describe(const struct pool *pool, struct wire_match *ret)
{
	const struct pool_settings *s = pool->settings;
	const struct target *t = &pool->target;

	ret->number = pool->index + 1;
	snprintf(ret->pool, sizeof(ret->pool), "%s", s->name);
	snprintf(ret->dbname, sizeof(ret->dbname), "%s", s->match_dbname[0] != '\0' ? s->match_dbname : t->dbname);
	snprintf(ret->user, sizeof(ret->user), "%s", s->match_user[0] != '\0' ? s->match_user : t->user);
	if (s->match_host[0] == '\0')
		hosts_of_conninfo(&t->hosts, ret);
	else if (strcmp(s->match_host, "*") == 0)
		strcpy(ret->host, "*");
	else
		hosts_of_setting(s->match_host, &t->hosts, ret);
}

/* SPDX-License-Identifier: PostgreSQL */
/* Lists of hosts. */
#include "hosts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "text_stream.h"

#define ITEM_BYTES 256

struct entry {
	char host[ITEM_BYTES], hostaddr[ITEM_BYTES], port[ITEM_BYTES];
};

int
hosts_init(struct hosts *h, const char *host, const char *hostaddr, const char *port)
{
	h->host = strdup(host != NULL ? host : "");
	h->hostaddr = strdup(hostaddr != NULL ? hostaddr : "");
	h->port = strdup(port != NULL ? port : "");
	if (h->host != NULL && h->hostaddr != NULL && h->port != NULL)
		return 0;
	hosts_fini(h);
	return -ENOMEM;
}

void
hosts_fini(struct hosts *h)
{
	free(h->host);
	free(h->hostaddr);
	free(h->port);
	memset(h, 0, sizeof(*h));
}

static unsigned
count(const char *list)
{
	unsigned n = 1;

	if (*list == '\0')
		return 0;
	for (; *list != '\0'; list++)
		n += *list == ',';
	return n;
}

/* The item of a list with this index; false when it is too long for one. */
static bool
item(const char *list, unsigned index, char buf[ITEM_BYTES])
{
	size_t n;

	for (; index > 0; index--)
		list = strchr(list, ',') + 1;
	n = strcspn(list, ",");
	if (n >= ITEM_BYTES)
		return false;
	memcpy(buf, list, n);
	buf[n] = '\0';
	return true;
}

/* How many entries there are; 0 when there are none, or libpq would refuse them. */
static unsigned
count_entries(const struct hosts *h)
{
	unsigned names = count(h->host), addresses = count(h->hostaddr), ports = count(h->port);
	unsigned n = addresses != 0 ? addresses : names;

	if (n > HOSTS_MAX || (addresses != 0 && names != 0 && names != addresses) ||
	    (ports > 1 && ports != n))
		return 0;
	return n;
}

static bool
get_entry(const struct hosts *h, unsigned index, struct entry *ret)
{
	unsigned ports = count(h->port);

	memset(ret, 0, sizeof(*ret));
	return (*h->host == '\0' || item(h->host, index, ret->host)) &&
	       (*h->hostaddr == '\0' || item(h->hostaddr, index, ret->hostaddr)) &&
	       (ports == 0 || item(h->port, ports == 1 ? 0 : index, ret->port));
}

/* Neither an address, nor a Unix socket, nor the default. */
static bool
is_name(const struct entry *e)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;

	if (e->hostaddr[0] != '\0' || e->host[0] == '\0' || e->host[0] == '/' || e->host[0] == '@')
		return false;
	if (getaddrinfo(e->host, NULL, &hints, &found) != 0)
		return true;
	freeaddrinfo(found);
	return false;
}

bool
hosts_have_names(const struct hosts *h)
{
	struct entry e;

	for (unsigned i = 0, n = count_entries(h); i < n; i++)
		if (get_entry(h, i, &e) && is_name(&e))
			return true;
	return false;
}

static bool
is_local(const struct entry *e)
{
	const char *host = e->hostaddr[0] != '\0' ? e->hostaddr : e->host;

	return host[0] == '\0' || host[0] == '/' || host[0] == '@' || strcmp(host, "localhost") == 0 ||
	       strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

bool
hosts_are_local(const struct hosts *h)
{
	struct entry e;

	for (unsigned i = 0, n = count_entries(h); i < n; i++)
		if (!get_entry(h, i, &e) || !is_local(&e))
			return false;
	return true;
}

/* Lists being written. */
struct lists {
	FILE *host, *hostaddr, *port;
	unsigned n;
};

static void
append(struct lists *to, const struct entry *e, const char *hostaddr)
{
	const char *comma = to->n++ != 0 ? "," : "";

	fprintf(to->host, "%s%s", comma, e->host);
	fprintf(to->hostaddr, "%s%s", comma, hostaddr);
	fprintf(to->port, "%s%s", comma, e->port);
}

/* One entry for each address of the name. Returns getaddrinfo's code. */
static int
append_addresses(struct lists *to, const struct entry *e, hosts_lookup lookup)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	char address[ITEM_BYTES];
	int r = lookup(e->host, NULL, &hints, &found);

	if (r != 0)
		return r;
	for (const struct addrinfo *a = found; a != NULL && to->n < HOSTS_MAX; a = a->ai_next)
		if (getnameinfo(
		        a->ai_addr, a->ai_addrlen, address, sizeof(address), NULL, 0, NI_NUMERICHOST) == 0)
			append(to, e, address);
	freeaddrinfo(found);
	return 0;
}

int
hosts_resolve(const struct hosts *h, hosts_lookup lookup, struct hosts *ret, char *why, size_t why_size)
{
	struct text_stream host, hostaddr, port;
	struct lists to = {.host = text_stream_open(&host),
	    .hostaddr = text_stream_open(&hostaddr),
	    .port = text_stream_open(&port)};
	struct hosts made;
	bool room = to.host != NULL && to.hostaddr != NULL && to.port != NULL;
	struct entry e;

	snprintf(why, why_size, "out of memory");
	for (unsigned i = 0, n = count_entries(h); room && i < n; i++) {
		int r = 0;

		if (!get_entry(h, i, &e))
			snprintf(why, why_size, "a host is longer than %d characters", ITEM_BYTES - 1);
		else if (!is_name(&e))
			append(&to, &e, e.hostaddr);
		else if ((r = append_addresses(&to, &e, lookup)) != 0)
			snprintf(why, why_size, "cannot look up host \"%s\": %s", e.host, gai_strerror(r));
	}
	made.host = text_stream_close(&host, to.host);
	made.hostaddr = text_stream_close(&hostaddr, to.hostaddr);
	made.port = text_stream_close(&port, to.port);
	if (made.host == NULL || made.hostaddr == NULL || made.port == NULL || to.n == 0) {
		hosts_fini(&made);
		return -1;
	}
	*ret = made;
	return 0;
}

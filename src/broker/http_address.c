/* SPDX-License-Identifier: PostgreSQL */
/* Addresses that HTTP may listen on; see http_address.h. */
#include "http_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int
parse_unix(const char *path, struct http_address *ret, char *why, size_t why_size)
{
	struct sockaddr_un *address = (struct sockaddr_un *)&ret->socket;

	if (path[0] != '/' || strlen(path) >= sizeof(address->sun_path)) {
		snprintf(why, why_size, "allowed after unix: is an absolute path of up to %zu characters",
		    sizeof(address->sun_path) - 1);
		return -1;
	}
	address->sun_family = AF_UNIX;
	strcpy(address->sun_path, path);
	strcpy(ret->path, path);
	ret->is_unix = true;
	ret->size = sizeof(*address);
	return 0;
}

/* Digits only, up to 65535. */
static bool
parse_port(const char *text, in_port_t *ret)
{
	unsigned long port;
	char *end;

	if (*text < '0' || *text > '9' || strlen(text) > 5)
		return false;
	port = strtoul(text, &end, 10);
	if (*end != '\0' || port > 65535)
		return false;
	*ret = htons((in_port_t)port);
	return true;
}

/* A loopback address, into ret->socket. */
static bool
parse_host(const char *host, in_port_t port, struct http_address *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&ret->socket;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret->socket;

	if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	if (strcmp(host, "[::1]") == 0) {
		*v6 = (struct sockaddr_in6){
		    .sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		ret->size = sizeof(*v6);
		return true;
	}
	*v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
	ret->size = sizeof(*v4);
	return inet_pton(AF_INET, host, &v4->sin_addr) == 1 && ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

int
http_address_parse(const char *text, struct http_address *ret, char *why, size_t why_size)
{
	struct http_address address = {0};
	const char *colon = strrchr(text, ':');
	char host[64];
	in_port_t port;

	if (strncmp(text, "unix:", 5) == 0) {
		if (parse_unix(text + 5, &address, why, why_size) != 0)
			return -1;
		*ret = address;
		return 0;
	}
	if (colon == NULL || (size_t)(colon - text) >= sizeof(host) || !parse_port(colon + 1, &port)) {
		snprintf(why, why_size, "allowed: " HTTP_ADDRESS_ALLOWED);
		return -1;
	}
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	if (!parse_host(host, port, &address)) {
		snprintf(why, why_size,
		    "only this host may ask: allowed: " HTTP_ADDRESS_ALLOWED "; for others, put a proxy before it");
		return -1;
	}
	*ret = address;
	return 0;
}

/* A socket of a process that has died. */
static bool
is_stale(const struct http_address *address)
{
	struct stat st;
	bool refused;
	int fd;

	if (lstat(address->path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)&address->socket, address->size) != 0 && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

int
http_address_bind(const struct http_address *address, mode_t mode)
{
	const struct sockaddr *to = (const struct sockaddr *)&address->socket;
	int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, r;

	if (fd < 0)
		return -errno;
	/* What closed a moment ago may linger there; a socket that listens is in the way all the same. */
	if (!address->is_unix && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
		goto fail;
	r = bind(fd, to, address->size);
	if (r != 0 && errno == EADDRINUSE && address->is_unix && is_stale(address) && unlink(address->path) == 0)
		r = bind(fd, to, address->size);
	/* Nobody can connect before listen(). */
	if (r != 0 || (address->is_unix && chmod(address->path, mode) != 0))
		goto fail;
	return fd;

fail:
	r = -errno;
	close(fd);
	return r;
}

void
http_address_describe(const struct http_address *address, int fd, char *buf, size_t size)
{
	struct sockaddr_storage bound;
	socklen_t bound_size = sizeof(bound);
	char host[INET6_ADDRSTRLEN] = "";

	if (address->is_unix) {
		snprintf(buf, size, "unix:%s", address->path);
		return;
	}
	if (getsockname(fd, (struct sockaddr *)&bound, &bound_size) != 0)
		bound = address->socket;
	if (bound.ss_family == AF_INET6) {
		snprintf(buf, size, "http://[::1]:%u/", ntohs(((struct sockaddr_in6 *)&bound)->sin6_port));
		return;
	}
	inet_ntop(AF_INET, &((struct sockaddr_in *)&bound)->sin_addr, host, sizeof(host));
	snprintf(buf, size, "http://%s:%u/", host, ntohs(((struct sockaddr_in *)&bound)->sin_port));
}

bool
http_address_host_is_ours(const struct http_address *address, const char *host)
{
	char name[64];
	size_t length;
	struct in_addr v4;

	/* No browser reaches a Unix socket, and each browser sends a Host. */
	if (address->is_unix || host == NULL)
		return true;
	length = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	if (length >= sizeof(name) || length > strlen(host) || (host[length] != '\0' && host[length] != ':'))
		return false;
	memcpy(name, host, length);
	name[length] = '\0';
	if (strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
}

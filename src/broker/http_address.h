/* SPDX-License-Identifier: PostgreSQL */
/*
 * Where HTTP listens: a Unix socket or a port of a loopback address, and nothing else. Parses the setting http_listen,
 * makes the listening socket, and tells which hosts a request may have meant (a web page of elsewhere may make its own
 * name resolve to 127.0.0.1, and have the browser ask us: the Host that it then sends is not one of ours).
 */
#ifndef PGLEASE_BROKER_HTTP_ADDRESS_H
#define PGLEASE_BROKER_HTTP_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "paths.h"

#define HTTP_ADDRESS_ALLOWED "unix:/PATH, 127.0.0.1:PORT, [::1]:PORT or localhost:PORT"

struct http_address {
	struct sockaddr_storage socket;
	socklen_t size;
	bool is_unix;
	char path[PATHS_MAX]; /* of a Unix socket */
};

/* "unix:/path", "127.0.0.1:80", "[::1]:80", "localhost:80" (which is 127.0.0.1). 0, or -1 with what is allowed in `why`. */
int http_address_parse(const char *text, struct http_address *ret, char *why, size_t why_size);
/*
 * Binds it; a socket that nobody listens on any more is replaced. The descriptor (non-blocking, close-on-exec, not yet
 * listening), or -errno. `mode`: of a Unix socket.
 */
int http_address_bind(const struct http_address *address, mode_t mode);
/* For people, with the port that a descriptor really has: "http://127.0.0.1:9187/", "unix:/path". */
void http_address_describe(const struct http_address *address, int fd, char *buf, size_t size);
/* Whether a request's Host header (NULL: none) names this host. */
bool http_address_host_is_ours(const struct http_address *address, const char *host);

#endif

/* SPDX-License-Identifier: PostgreSQL */
/* See web.h. */
#include "web.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "it.h"

int
web_connect(const char *where)
{
	struct sockaddr_un path = {.sun_family = AF_UNIX};
	struct sockaddr_in port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {.tv_sec = 30};
	bool is_unix = strncmp(where, "unix:", 5) == 0;
	int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	ck_assert_int_ge(fd, 0);
	if (is_unix) {
		snprintf(path.sun_path, sizeof(path.sun_path), "%s", where + 5);
		r = connect(fd, (struct sockaddr *)&path, sizeof(path));
	} else {
		port.sin_port = htons((in_port_t)atoi(strrchr(where, ':') + 1));
		r = connect(fd, (struct sockaddr *)&port, sizeof(port));
	}
	ck_assert_msg(r == 0, "cannot connect to %s: %s", where, strerror(errno));
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	return fd;
}

void
web_ask(const char *where, const char *request, struct web_answer *ret)
{
	int fd = web_connect(where);
	size_t size = 65536, used = 0;
	char *text = malloc(size);
	ssize_t n;

	ck_assert_ptr_nonnull(text);
	ck_assert_int_eq(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
	for (;;) {
		n = recv(fd, text + used, size - used - 1, 0);
		if (n < 0 && errno == ECONNRESET)
			n = 0; /* it closed without having read all of a bad request */
		ck_assert_msg(n >= 0, "no answer from %s: %s", where, strerror(errno));
		if (n == 0)
			break;
		used += (size_t)n;
		if (used + 1 == size) {
			size *= 2;
			text = realloc(text, size);
			ck_assert_ptr_nonnull(text);
		}
	}
	close(fd);
	text[used] = '\0';
	*ret = (struct web_answer){.text = text};
	ck_assert_msg(sscanf(text, "HTTP/1.%*d %d", &ret->status) == 1, "no HTTP from %s: %s", where, text);
	ret->body = strstr(text, "\r\n\r\n");
	ck_assert_ptr_nonnull(ret->body);
	ret->body += 4;
	ret->body_length = used - (size_t)(ret->body - text);
}

void
web_get(const char *where, const char *path, const char *headers, struct web_answer *ret)
{
	char request[1024];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, headers);
	web_ask(where, request, ret);
}

const char *
web_header(const struct web_answer *answer, const char *name)
{
	static char value[256];
	size_t n = strlen(name);

	for (const char *line = strstr(answer->text, "\r\n"); line != NULL && line + 2 < answer->body - 2;
	     line = strstr(line + 2, "\r\n")) {
		const char *at = line + 2;

		if (strncasecmp(at, name, n) == 0 && at[n] == ':') {
			snprintf(value, sizeof(value), "%.*s", (int)strcspn(at + n + 2, "\r"), at + n + 2);
			return value;
		}
	}
	return NULL;
}

void
web_free(struct web_answer *answer)
{
	free(answer->text);
	*answer = (struct web_answer){0};
}

const char *
web_of_broker(void)
{
	static const char mark[] = "HTTP is served on http://";
	static char where[64];
	char line[1024];
	FILE *log = fopen(pglease_test_log(it_env), "r");

	ck_assert_ptr_nonnull(log);
	where[0] = '\0';
	while (fgets(line, sizeof(line), log) != NULL) { /* the last one counts: the broker may have been started again */
		const char *at = strstr(line, mark);

		if (at != NULL)
			snprintf(where, sizeof(where), "%.*s", (int)strcspn(at + sizeof(mark) - 1, "/"), at + sizeof(mark) - 1);
	}
	fclose(log);
	ck_assert_str_ne(where, "");
	return where;
}

double
web_sample(const char *metrics, const char *start)
{
	size_t n = strlen(start);
	const char *line = metrics;

	while (*line != '\0') {
		if (strncmp(line, start, n) == 0)
			return strtod(strchr(line, ' '), NULL);
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	return NAN;
}

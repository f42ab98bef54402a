/* SPDX-License-Identifier: PostgreSQL */
/*
 * libpq has no call that makes a PGconn fail with given words. So this process is, for a moment, a server that refuses it: a
 * socket in the abstract name space, which leaves nothing behind; what is sent fits into its buffers, so that nobody waits.
 */
#include "refusal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ROUNDS 16 /* of PQconnectPoll; it takes three */
#define PORT "5432"

char *
refusal_message(const char *text, size_t *ret_size)
{
	static const char head[] = "SFATAL\0VFATAL\0C08001\0M";
	size_t size = 1 + 4 + sizeof(head) - 1 + strlen(text) + 2;
	uint32_t length = htonl((uint32_t)size - 1);
	char *message = malloc(size), *at = message;

	if (message == NULL)
		return NULL;
	*at++ = 'E';
	memcpy(at, &length, sizeof(length));
	at += sizeof(length);
	memcpy(at, head, sizeof(head) - 1);
	at += sizeof(head) - 1;
	strcpy(at, text);
	at[strlen(text) + 1] = '\0';
	*ret_size = size;
	return message;
}

/* Listens under a name of its own; `host` is how libpq wants it. */
static int
listener(char host[64])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint64_t number;
	int fd, n;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -1;
	snprintf(host, 64, "@pglease-%d-%016llx", (int)getpid(), (unsigned long long)number);
	n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL." PORT, host);
	address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)) != 0 ||
	    listen(fd, 1) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Says no to whoever has connected. */
static void
refuse(int listening, const char *text)
{
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	size_t size;
	char *message;

	if (fd < 0)
		return;
	message = refusal_message(text, &size);
	if (message != NULL)
		(void)!send(fd, message, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(message);
	/* Not closed with the start-up packet unread: that would be a reset, and the message lost. */
	shutdown(fd, SHUT_WR);
	for (char buf[512]; recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0;)
		;
	close(fd);
}

PGconn *
refusal(struct library *lib, const char *text)
{
	char host[64] = "@pglease", conninfo[512];
	int listening = listener(host);
	PGconn *conn;

	/* Nothing of the environment shall lead it elsewhere. */
	snprintf(conninfo, sizeof(conninfo),
	    "host='%s' hostaddr='' port=" PORT " user=pglease dbname=pglease password=unused sslmode=disable gssencmode=disable "
	    "channel_binding=disable target_session_attrs=any replication='' options='' requirepeer='' "
	    "client_encoding=SQL_ASCII%s",
	    host, lib->PQlibVersion() >= 160000 ? " require_auth=''" : "");
	conn = lib->PQconnectStart(conninfo);
	for (unsigned i = 0; conn != NULL && i < ROUNDS && lib->PQstatus(conn) != CONNECTION_BAD; i++) {
		PostgresPollingStatusType polling = lib->PQconnectPoll(conn);

		if (polling == PGRES_POLLING_READING && listening >= 0) {
			refuse(listening, text);
			close(listening);
			listening = -1;
		}
	}
	if (listening >= 0)
		close(listening);
	return conn;
}

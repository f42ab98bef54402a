/* SPDX-License-Identifier: PostgreSQL */
/*
 * Adoption (doc/design.md): only public libpq calls. The handshake is with the broker, on its socket; the descriptor is
 * asked for after it is complete (libpq's own greedy read would swallow one that came earlier), then moved over the
 * PGconn's socket with dup3.
 */
#include "adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-events.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int
wait_fd(int fd, short events, uint64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = clock_ns();
		struct timespec ts;
		int n;

		if (now >= deadline)
			now = deadline; /* one look all the same */
		ts.tv_sec = (time_t)((deadline - now) / 1000000000);
		ts.tv_nsec = (long)((deadline - now) % 1000000000);
		n = ppoll(&p, 1, &ts, NULL);
		if (n >= 0)
			return n;
		if (errno != EINTR)
			return -errno;
	}
}

struct conninfo {
	char text[2048];
	size_t used;
	bool truncated;
};

/* " keyword='value'", quoted as libpq wants it. */
static void
conninfo_add(struct conninfo *c, const char *keyword, const char *value)
{
	size_t room = sizeof(c->text);
	int n;

	if (c->truncated)
		return;
	n = snprintf(c->text + c->used, room - c->used, " %s='", keyword);
	c->used += (size_t)n;
	for (; *value != '\0' && c->used + 4 < room; value++) {
		if (*value == '\'' || *value == '\\')
			c->text[c->used++] = '\\';
		c->text[c->used++] = *value;
	}
	if (*value != '\0' || c->used + 2 >= room) {
		c->truncated = true;
		return;
	}
	c->text[c->used++] = '\'';
	c->text[c->used] = '\0';
}

/*
 * Every keyword whose default the environment could bend is given, in the string form, which keeps empty values (the
 * array form ignores them). A password is given so that no password file is read; the broker never asks for it.
 */
static void
conninfo_make(struct conninfo *c, const struct pool_state *state, uint32_t slot, const char *options)
{
	const struct segment_header *h = state->seg.header;
	unsigned bit;
	const char *encoding = segment_baseline_find(&state->seg, slot, "client_encoding", &bit);
	char port[16];

	snprintf(port, sizeof(port), "%d", WIRE_PORT);
	conninfo_add(c, "host", state->socket_dir);
	conninfo_add(c, "hostaddr", "");
	conninfo_add(c, "port", port);
	conninfo_add(c, "user", h->user);
	conninfo_add(c, "dbname", h->dbname);
	conninfo_add(c, "options", options);
	conninfo_add(c, "password", "unused");
	conninfo_add(c, "sslmode", "disable");
	conninfo_add(c, "gssencmode", "disable");
	conninfo_add(c, "channel_binding", "disable");
	conninfo_add(c, "target_session_attrs", "any");
	conninfo_add(c, "replication", "");
	conninfo_add(c, "application_name", "pglease");
	conninfo_add(c, "client_encoding", encoding != NULL ? encoding : "");
	/* Authenticates the broker: the socket's peer must be who answered when we attached. */
	conninfo_add(c, "requirepeer", state->process->broker_user);
	if (PQlibVersion() >= 160000)
		conninfo_add(c, "require_auth", "");
}

/* The user's PQfinish or PQreset on a leased connection: the session is ended or not ours; the shell is of no use. */
static int
shell_event(PGEventId id, void *info, void *pass_through)
{
	struct shell *shell = pass_through;

	if (id == PGEVT_CONNDESTROY) {
		/* Our own disposal has taken the pointer away before. */
		if (((PGEventConnDestroy *)info)->conn == shell->conn)
			shell->conn = NULL;
		shell->lost = true;
	} else if (id == PGEVT_CONNRESET) {
		shell->lost = true;
	}
	return 1;
}

struct shell *
adopt_shell(const PGconn *conn)
{
	return PQinstanceData(conn, shell_event);
}

#define FILES_NEEDED 3 /* by an adoption: libpq's socket, what looks up a user's name, the server's socket */

/* Whether an adoption may have failed for want of descriptors. */
static bool
files_are_short(const struct pool_state *state)
{
	int fd[FILES_NEEDED], n = 0;
	bool is_short;

	while (n < FILES_NEEDED && (fd[n] = fcntl(state->dead_fd, F_DUPFD_CLOEXEC, 0)) >= 0)
		n++;
	is_short = n < FILES_NEEDED && (errno == EMFILE || errno == ENFILE);
	while (n > 0)
		close(fd[--n]);
	return is_short;
}

/*
 * Why an adoption failed: the broker has gone, this process or the broker has no descriptors left, or the broker refuses
 * this one. libpq's error has no SQLSTATE here, but the control connection tells whether the broker lives, and FATAL that
 * it has said something. Only what it said of the slot is a reason to give the slot up as broken.
 */
static int
refused(const struct pool_state *state, const char *reason)
{
	struct pollfd p = {.fd = state->process->control, .events = POLLIN};

	if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL | POLLIN)) != 0)
		return error_set(PGLEASE_EGONE, "the broker of %s has gone or has detached this process (adoption: %s)",
		    state->seg.header->instance_name, reason);
	if (files_are_short(state))
		return error_set(PGLEASE_ESYSTEM,
		    "this process is at its limit of open files, and an adoption needs %d more: %s", FILES_NEEDED, reason);
	if (strstr(reason, "FATAL") == NULL)
		return error_set(PGLEASE_ESYSTEM,
		    "the broker of %s ended an adoption without a word: is it at its limit of open files? (%s)",
		    state->seg.header->instance_name, reason);
	return error_set(PGLEASE_EBROKEN, "the broker of %s refused an adoption: %s",
	    state->seg.header->instance_name, reason);
}

/* Drives the handshake. 0 or a code; the message is set. */
static int
handshake(PGconn *conn, uint64_t deadline, const struct pool_state *state)
{
	PostgresPollingStatusType poll_status = PGRES_POLLING_WRITING;

	while (poll_status == PGRES_POLLING_READING || poll_status == PGRES_POLLING_WRITING) {
		int n = wait_fd(PQsocket(conn), poll_status == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline);

		if (n == 0)
			return error_set(PGLEASE_ETIMEOUT,
			    "the broker of %s did not complete an adoption in time: is it stopped or overloaded?",
			    state->seg.header->instance_name);
		if (n < 0)
			return error_set_errno(PGLEASE_ESYSTEM, -n, "poll");
		poll_status = PQconnectPoll(conn);
	}
	if (poll_status == PGRES_POLLING_OK)
		return 0;
	return refused(state, PQerrorMessage(conn));
}

/* Asks for the descriptor and moves it under the PGconn. */
static int
take_descriptor(const struct pool_state *state, PGconn *conn, uint64_t deadline)
{
	static const char request[] = WIRE_FD_REQUEST;
	char answer = 0;
	ssize_t got;
	int fd = -1, n;

	if (send(PQsocket(conn), request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1)
		return refused(state, "connection closed");
	do {
		n = wait_fd(PQsocket(conn), POLLIN, deadline);
		if (n == 0)
			return error_set(PGLEASE_ETIMEOUT, "the broker did not hand out a descriptor in time");
		if (n < 0)
			return error_set_errno(PGLEASE_ESYSTEM, -n, "poll");
		got = wire_recv(PQsocket(conn), &answer, 1, &fd);
	} while (got == -EAGAIN);
	if (got <= 0)
		return refused(state, "connection closed");
	if (answer != WIRE_FD_OK) {
		if (fd >= 0)
			close(fd);
		return error_set(PGLEASE_EBROKEN, "adoption refused: the lease is not held any more");
	}
	if (fd < 0)
		return error_set(PGLEASE_ESYSTEM,
		    "no descriptor came with the adoption: is this process at its limit of open files?");
	n = dup3(fd, PQsocket(conn), O_CLOEXEC) < 0 ? errno : 0;
	close(fd);
	return n == 0 ? 0 : error_set_errno(PGLEASE_ESYSTEM, n, "dup3");
}

int
adopt(struct pool_state *state, uint32_t slot, uint64_t generation, uint64_t w, uint64_t deadline,
    struct shell *shell, PGconn **ret_conn)
{
	struct conninfo info = {.used = 0};
	char options[256];
	PGconn *conn;
	int r;

	snprintf(options, sizeof(options), WIRE_ADOPT_FORMAT, state->pool, slot, generation, word_seq(w),
	    state->process->client, state->process->nonce);
	conninfo_make(&info, state, slot, options);
	if (info.truncated)
		return error_set(PGLEASE_EINVAL, "socket folder, user or database name too long");
	conn = PQconnectStart(info.text);
	if (conn == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	if (PQstatus(conn) == CONNECTION_BAD) {
		r = refused(state, PQerrorMessage(conn));
		goto fail;
	}
	r = handshake(conn, deadline, state);
	if (r == 0)
		r = take_descriptor(state, conn, deadline);
	if (r == 0 && (!PQregisterEventProc(conn, shell_event, "pglease", shell) ||
			  !PQsetInstanceData(conn, shell_event, shell)))
		r = error_set(PGLEASE_ENOMEM, "out of memory");
	if (r != 0)
		goto fail;
	shell->socket_id = fd_identify(PQsocket(conn));
	shell->owner = state;
	shell->slot = slot;
	*ret_conn = conn;
	return 0;

fail:
	/* Before the move its socket is the broker's, after it the session's: never say Terminate to either. */
	if (PQsocket(conn) >= 0)
		dup3(state->dead_fd, PQsocket(conn), O_CLOEXEC);
	PQfinish(conn);
	return r;
}

/* SPDX-License-Identifier: PostgreSQL */
/*
 * Adoption (doc/design.md): only public libpq calls. The handshake is with the broker, on its socket; the descriptor is
 * asked for after it is complete (libpq's own greedy read would swallow one that came earlier), then moved over the
 * PGconn's socket with dup3.
 */
#include "adopt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-events.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "reset.h"

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

#define RENEW_MARGIN 2 /* seconds that the broker's own part of a PQreset may take */

/*
 * Every keyword whose default the environment could bend is given, in the string form, which keeps empty values (the
 * array form ignores them). A password is given so that no password file is read; the broker never asks for it.
 */
static void
conninfo_make(struct conninfo *c, const struct pool_state *state, uint32_t slot, const char *options)
{
	const struct segment_header *h = state->seg.header;
	unsigned bit;
	const char *encoding =
	    slot < state->seg.nslots ? baseline_find(segment_baseline(&state->seg, slot), "client_encoding", &bit) : NULL;
	char port[16], limit[24];

	snprintf(limit, sizeof(limit), "%" PRIu64,
	    atomic_load_explicit(&h->connect_timeout_ns, memory_order_relaxed) / 1000000000 + 1 + RENEW_MARGIN);
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
	/* For PQreset, which blocks while the broker opens a connection; an adoption has a deadline of its own. */
	conninfo_add(c, "connect_timeout", limit);
	conninfo_add(c, "replication", "");
	conninfo_add(c, "application_name", "pglease");
	conninfo_add(c, "client_encoding", encoding != NULL ? encoding : "");
	/* Authenticates the broker: the socket's peer must be who answered when we attached. */
	conninfo_add(c, "requirepeer", state->process->broker_user);
	if (PQlibVersion() >= 160000)
		conninfo_add(c, "require_auth", "");
}

/* How much later than its other connections a dying broker's control connection may end. */
#define DYING_NS UINT64_C(500000000)
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
 * it has said something. Only what it said of the slot is a reason to give the slot up as broken. One that ends without a
 * word may be dying: its descriptors are closed one after the other.
 */
static int
refused(const struct pool_state *state, const char *reason)
{
	bool said = strstr(reason, "FATAL") != NULL, no_files = files_are_short(state);

	/* First whether it is cut off: then the number may be another attachment's. */
	if (client_is_cut_off(state->process) ||
	    wait_fd(state->process->control, 0, said || no_files ? 0 : clock_ns() + DYING_NS) > 0)
		return error_set(PGLEASE_EGONE, "the broker of %s has gone or has detached this process (adoption: %s)",
		    state->seg.header->instance_name, reason);
	if (no_files)
		return error_set(PGLEASE_ESYSTEM,
		    "this process is at its limit of open files, and an adoption needs %d more: %s", FILES_NEEDED, reason);
	if (!said)
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

int
adopt_take(const struct pool_state *state, int sock, PGconn *conn, uint64_t deadline)
{
	static const char request[] = WIRE_FD_REQUEST;
	char answer = 0;
	ssize_t got;
	int fd = -1, n;

	if (send(sock, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1)
		return refused(state, "connection closed");
	do {
		n = wait_fd(sock, POLLIN, deadline);
		if (n == 0)
			return error_set(PGLEASE_ETIMEOUT, "the broker did not hand out a descriptor in time");
		if (n < 0)
			return error_set_errno(PGLEASE_ESYSTEM, -n, "poll");
		got = wire_recv(sock, &answer, 1, &fd);
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

/* The shell's PGconn is on this connection of the slot's, and believes of its session what the server has said. */
static void
note_connection(struct shell *shell, PGconn *conn)
{
	const struct slot *s = &shell->owner->seg.slot[shell->slot];

	/* Stable: the broker changes it while it owns the word, or while a PQreset waits for it to do so. */
	shell->generation = atomic_load_explicit(&s->generation, memory_order_relaxed);
	shell->session = atomic_load_explicit(&s->session, memory_order_relaxed);
	shell->socket_id = fd_identify(PQsocket(conn));
	shell->conn = conn;
	reset_remember(shell->owner, shell->slot, shell);
}

/* ErrorResponse, and then the end. */
static void
say_goodbye(int sock, const char *message)
{
	static const char head[] = "SFATAL\0VFATAL\0C08006\0M";
	uint32_t length = htonl((uint32_t)(4 + sizeof(head) - 1 + strlen(message) + 2));
	struct iovec part[] = {
	    {.iov_base = (void *)"E", .iov_len = 1},
	    {.iov_base = &length, .iov_len = sizeof(length)},
	    {.iov_base = (void *)head, .iov_len = sizeof(head) - 1},
	    {.iov_base = (void *)message, .iov_len = strlen(message) + 1},
	    {.iov_base = (void *)"", .iov_len = 1},
	};

	/* It is short, and the socket empty; what does not arrive is one message less. */
	(void)!writev(sock, part, sizeof(part) / sizeof(part[0]));
	shutdown(sock, SHUT_WR);
}

/*
 * libpq 15 and later take no notice when an event procedure fails a reset. So the PGconn, which takes itself for connected,
 * is told by the other side: that is a server that says why, and has gone; libpq reads it here and now.
 */
static void
conn_refuse(PGconn *conn, const char *message)
{
	PGresult *result;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0) {
		say_goodbye(pair[1], message);
		dup3(pair[0], PQsocket(conn), O_CLOEXEC);
		close(pair[0]);
	} else {
		pair[1] = -1;
		shutdown(PQsocket(conn), SHUT_RDWR);
	}
	if (PQsendQuery(conn, ""))
		while ((result = PQgetResult(conn)) != NULL)
			PQclear(result);
	if (pair[1] >= 0)
		close(pair[1]);
}

/* A PQreset has come to an answer from the broker, which has opened another connection in the slot: N7. */
static void
shell_renewed(struct shell *shell, PGconn *conn)
{
	char message[512];

	shell->lost = adopt_take(shell->owner, PQsocket(conn), conn, clock_ns() + RENEW_MARGIN * UINT64_C(1000000000)) != 0;
	if (!shell->lost) {
		note_connection(shell, conn);
		shell->dirty_before = false;
		return;
	}
	snprintf(message, sizeof(message), "PQreset of a leased connection: %s", pglease_error_message());
	conn_refuse(conn, message);
}

/* The user's PQfinish or PQreset on a leased connection, or a result that libpq hands out. */
static int
shell_event(PGEventId id, void *info, void *pass_through)
{
	struct shell *shell = pass_through;

	if (id == PGEVT_CONNDESTROY) {
		/* The session is ended. Our own disposal has taken the pointer away before. */
		if (((PGEventConnDestroy *)info)->conn == shell->conn)
			shell->conn = NULL;
		shell->lost = true;
	} else if (id == PGEVT_CONNRESET) {
		shell_renewed(shell, ((PGEventConnReset *)info)->conn);
	} else if (id == PGEVT_RESULTCREATE) {
		const char *tag = PQcmdStatus(((PGEventResultCreate *)info)->result);

		shell->touched = true;
		shell->marked = shell->marked || strcmp(tag, "LISTEN") == 0 || strcmp(tag, "SET") == 0;
	}
	return 1;
}

struct shell *
adopt_leased_shell(const PGconn *conn)
{
	struct shell *shell = PQinstanceData(conn, shell_event);

	/* Relaxed: IN_USE was stored by this lease's own thread, and nobody else changes it from that. */
	return shell != NULL && shell->conn == conn && !shell->lost &&
		       atomic_load_explicit(&shell->state, memory_order_relaxed) == SHELL_IN_USE
		   ? shell
		   : NULL;
}

uint64_t
adopt_attempt(struct pool_state *state)
{
	return atomic_fetch_add_explicit(&state->attempts, 1, memory_order_relaxed) + 1;
}

void
adopt_claim(const struct pool_state *state, uint32_t slot, uint64_t generation, uint64_t sequence, uint64_t attempt,
    char ret[ADOPT_CLAIM])
{
	snprintf(ret, ADOPT_CLAIM, WIRE_ADOPT_FORMAT, state->pool, slot, generation, sequence, state->process->client, attempt,
	    state->process->nonce);
}

int
adopt_dial(const struct pool_state *state, uint32_t slot, const char *claim, PGconn **ret_conn)
{
	struct conninfo info = {.used = 0};
	PGconn *conn;

	conninfo_make(&info, state, slot, claim);
	if (info.truncated)
		return error_set(PGLEASE_EINVAL, "socket folder, user or database name too long");
	conn = PQconnectStart(info.text);
	if (conn == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	*ret_conn = conn;
	return 0;
}

int
adopt_own(struct pool_state *state, uint32_t slot, struct shell *shell, PGconn *conn)
{
	if (!PQregisterEventProc(conn, shell_event, "pglease", shell) || !PQsetInstanceData(conn, shell_event, shell))
		return error_set(PGLEASE_ENOMEM, "out of memory");
	shell->owner = state;
	shell->slot = slot;
	note_connection(shell, conn);
	return 0;
}

int
adopt(struct pool_state *state, uint32_t slot, uint64_t generation, uint64_t w, uint64_t deadline,
    struct shell *shell)
{
	char claim[ADOPT_CLAIM];
	PGconn *conn;
	int r;

	adopt_claim(state, slot, generation, word_seq(w), adopt_attempt(state), claim);
	r = adopt_dial(state, slot, claim, &conn);
	if (r != 0)
		return r;
	if (PQstatus(conn) == CONNECTION_BAD) {
		r = refused(state, PQerrorMessage(conn));
		goto fail;
	}
	r = handshake(conn, deadline, state);
	if (r == 0)
		r = adopt_take(state, PQsocket(conn), conn, deadline);
	if (r == 0)
		r = adopt_own(state, slot, shell, conn);
	if (r == 0)
		return 0;

fail:
	/* Before the move its socket is the broker's, after it the session's: never say Terminate to either. */
	if (PQsocket(conn) >= 0)
		dup3(state->dead_fd, PQsocket(conn), O_CLOEXEC);
	PQfinish(conn);
	return r;
}

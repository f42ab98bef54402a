/* SPDX-License-Identifier: PostgreSQL */
/* Talking to the broker on the control connection: attaching, opening pools, ringing. */
#include "attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adopt.h"
#include "dial.h"
#include "loose.h"
#include "rows.h"
#include "shell.h"
#include "threads.h"

/* The broker's next message: its size. */
static int
hear(const struct pglease *client, int sock, uint64_t deadline, void *buf, size_t size, int *ret_fd, struct ucred *ret_sender)
{
	ssize_t n;

	do {
		int ready = wait_fd(sock, POLLIN, deadline);

		if (ready == 0)
			return error_set(PGLEASE_ENOBROKER,
			    "the broker of %s in %s did not answer within %u ms: is it stopped or overloaded?",
			    client->instance, client->socket_dir, client->patience_ms);
		if (ready < 0)
			return error_set_errno(PGLEASE_ESYSTEM, -ready, "poll");
		n = wire_recv_from(sock, buf, size, ret_fd, ret_sender);
	} while (n == -EAGAIN);
	if (n <= 0)
		return error_set(PGLEASE_EGONE, "the broker of %s closed the connection", client->instance);
	return (int)n;
}

/*
 * One message to the broker and its answer, and who has sent that (wire_recv_from), under the client's mutex. Each question has exactly one
 * answer, in order, also when nobody waited for it in time: *unanswered is how many of those are still to come on this connection. They are
 * let go first, so that none is taken for another's, and none is asked for while a broker is stopped.
 */
static int
exchange(const struct pglease *client, int sock, unsigned *unanswered, const void *question, size_t size,
    enum wire_type type, void *answer, size_t answer_size, int *ret_fd, struct ucred *ret_sender)
{
	union {
		struct wire_error error;
		char bytes[WIRE_MAX];
	} buf;
	uint64_t deadline = clock_ns() + (uint64_t)client->patience_ms * UINT64_C(1000000);
	unsigned version;
	ssize_t n;
	int fd = -1;

	for (; *unanswered != 0; --*unanswered) {
		n = hear(client, sock, deadline, buf.bytes, sizeof(buf), &fd, NULL);
		if (n < 0)
			return (int)n;
		if (fd >= 0)
			close(fd);
	}
	n = wire_send(sock, question, size, -1);
	if (n != (ssize_t)size)
		return error_set_errno(PGLEASE_EGONE, n < 0 ? (int)-n : EMSGSIZE,
		    "the broker of %s does not take a message", client->instance);
	++*unanswered;
	n = hear(client, sock, deadline, buf.bytes, sizeof(buf), &fd, ret_sender);
	if (n < 0)
		return (int)n;
	--*unanswered;
	if (wire_is(&buf, (size_t)n, type) && (size_t)n == answer_size) {
		memcpy(answer, &buf, answer_size);
		if (ret_fd != NULL)
			*ret_fd = fd;
		else if (fd >= 0)
			close(fd);
		return 0;
	}
	if (fd >= 0)
		close(fd);
	if (wire_is(&buf, (size_t)n, WIRE_ERROR) && buf.error.code < 0)
		return error_set(buf.error.code, "%.*s", (int)sizeof(buf.error.text) - 1, buf.error.text);
	version = wire_other_version(&buf, (size_t)n);
	if (version != 0)
		return error_set(PGLEASE_EVERSION,
		    "the broker of %s speaks version %u of the control protocol, this library version %u: use the library "
		    "that was installed with this broker",
		    client->instance, version, WIRE_VERSION);
	return error_set(PGLEASE_EPROTOCOL, "the broker of %s answered with something unexpected", client->instance);
}

/* Finds the broker; its folder goes to client->socket_dir. */
static int
find_broker(struct pglease *client, int *ret_sock)
{
	char tried[DIAL_TRIED];
	int r = dial_broker(client->instance, client->given_dir, client->socket_dir, ret_sock, tried);

	return r == 0 ? 0 : client_no_broker(client, r, tried);
}

int
client_no_broker(const struct pglease *client, int r, const char *tried)
{
	if (r == -EMFILE || r == -ENFILE)
		return error_set_errno(PGLEASE_ESYSTEM, -r, "no socket to the broker of instance %s: %s",
		    client->instance, r == -EMFILE ? "this process is at its limit of open files" : "open files ran out");
	return error_set(r == -EPERM ? PGLEASE_EPERM : PGLEASE_ENOBROKER,
	    "no broker of instance %s: tried %s; start pgleased, or set PGLEASE_INSTANCE or PGLEASE_SOCKET_DIR",
	    client->instance, tried);
}

/*
 * HELLO and WELCOME; and as which user the broker runs: the kernel's word about who has sent WELCOME. (SO_PEERCRED would tell who
 * has made the socket: a service manager, perhaps.)
 */
static int
greet(const struct pglease *client, int sock, struct wire_welcome *ret_welcome, uid_t *ret_broker)
{
	struct wire_hello hello = {.layout_version = LAYOUT_VERSION, .layout_hash = layout_hash()};
	struct ucred sender = {.uid = (uid_t)-1};
	unsigned unanswered = 0; /* of a connection that ends, if it is not 0 then */
	int r, on = 1, off = 0;

	wire_header_init(&hello.header, WIRE_HELLO);
	memcpy(hello.program, client->program, sizeof(hello.program));
	if (setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0)
		return error_set_errno(PGLEASE_ESYSTEM, errno, "who is the broker?");
	r = exchange(
	    client, sock, &unanswered, &hello, sizeof(hello), WIRE_WELCOME, ret_welcome, sizeof(*ret_welcome), NULL, &sender);
	if (r != 0)
		return r;
	if (sender.uid == (uid_t)-1 || setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off)) != 0)
		return error_set(PGLEASE_EPROTOCOL, "the system does not tell who the broker is");
	*ret_broker = sender.uid;
	return 0;
}

/*
 * The name of the broker's user: adoptions require that the same answers there. One without a name is no error, but one that
 * could not be looked up would leave the broker unauthenticated.
 */
static int
broker_user(uid_t uid, char *buf, size_t size)
{
	struct passwd pw, *found = NULL;
	char strings[4096];
	int r;

	*buf = '\0';
	r = getpwuid_r(uid, &pw, strings, sizeof(strings), &found);
	if (r == EMFILE || r == ENFILE || r == ENOMEM)
		return error_set_errno(PGLEASE_ESYSTEM, r, "cannot look up the user of the broker (%s)",
		    r == ENOMEM ? "memory" : "this process is at its limit of open files");
	if (found != NULL && strlen(found->pw_name) < size)
		strcpy(buf, found->pw_name);
	return 0;
}

int
attach_dead_fd(struct pglease *client)
{
	if (client->dead_fd >= 0 && fd_is(client->dead_fd, &client->dead_id))
		return 0;
	client->dead_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (client->dead_fd < 0)
		return error_set_errno(PGLEASE_ESYSTEM, errno, "cannot open /dev/null");
	client->dead_id = fd_identify(client->dead_fd);
	return 0;
}

int
attach_process(struct pglease *client, struct process **ret_process)
{
	struct wire_welcome welcome;
	struct process *process = calloc(1, sizeof(*process));
	uid_t broker = 0;
	int r, sock = -1;

	if (process == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	r = find_broker(client, &sock);
	if (r != 0)
		goto fail;
	r = greet(client, sock, &welcome, &broker);
	if (r == PGLEASE_EGONE)
		r = PGLEASE_ENOBROKER; /* it ended between the two: there was none yet to be cut off from */
	if (r != 0)
		goto fail;
	r = broker_user(broker, process->broker_user, sizeof(process->broker_user));
	if (r != 0)
		goto fail;
	process->serial = guard_serial();
	process->incarnation = welcome.incarnation;
	process->instance_id = welcome.instance_id;
	process->client = welcome.client;
	process->control = sock;
	process->control_id = fd_identify(sock);
	snprintf(process->socket_dir, sizeof(process->socket_dir), "%s", client->socket_dir);
	for (unsigned i = 0; i < WIRE_NONCE; i++)
		snprintf(process->nonce + 2 * i, 3, "%02x", welcome.nonce[i]);
	*ret_process = process;
	return 0;

fail:
	if (sock >= 0)
		close(sock);
	free(process);
	return r;
}

/*
 * Maps the pool's history, where there is one and it can be had: without it the pool is as good, but for pglease_history. Only a
 * control connection that has failed is an error.
 */
static int
history_get(const struct pglease *client, const char *name, struct pool_state *state)
{
	struct wire_open question = {0};
	struct wire_pool answer;
	struct history_view *view = malloc(sizeof(*view));
	int fd = -1, r = 0;

	if (view == NULL)
		return 0;
	wire_header_init(&question.header, WIRE_HISTORY);
	snprintf(question.pool, sizeof(question.pool), "%s", name);
	r = exchange(client, state->process->control, &state->process->unanswered, &question, sizeof(question), WIRE_PAST, &answer,
	    sizeof(answer), &fd, NULL);
	if (r == 0 && fd >= 0 && history_map(fd, &state->past, view) == 0) {
		if (strcmp(view->pool, name) == 0)
			state->history = view;
		else
			history_bytes_fini(&state->past);
	}
	if (state->history == NULL)
		free(view);
	if (fd >= 0)
		close(fd);
	return r == PGLEASE_ENOHISTORY ? 0 : r;
}

static void
history_drop(struct pool_state *state)
{
	history_bytes_fini(&state->past);
	free(state->history);
	state->history = NULL;
}

int
attach_pool(struct pglease *client, const char *name, struct process *process, struct pool_state **ret_state)
{
	struct wire_open open_message = {0};
	struct wire_pool answer;
	struct pool_state *state = calloc(1, sizeof(*state));
	int fd = -1, r;

	if (state == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	wire_header_init(&open_message.header, WIRE_OPEN);
	snprintf(open_message.pool, sizeof(open_message.pool), "%s", name);
	r = exchange(client, process->control, &process->unanswered, &open_message, sizeof(open_message), WIRE_POOL, &answer,
	    sizeof(answer), &fd, NULL);
	if (r != 0)
		goto fail;
	if (fd < 0) {
		r = error_set(PGLEASE_ESYSTEM,
		    "no descriptor came with pool %s: is this process at its limit of open files?", name);
		goto fail;
	}
	r = segment_map(fd, &state->seg);
	close(fd);
	if (r != 0) {
		r = error_set_errno(r == -EPROTO ? PGLEASE_EVERSION : PGLEASE_EPROTOCOL, -r,
		    "the lease segment of pool %s cannot be used", name);
		goto fail;
	}
	if (strcmp(state->seg.header->pool_name, name) != 0) {
		r = error_set(PGLEASE_EPROTOCOL, "the broker answered for another pool than %s", name);
		goto fail;
	}
	if (process->client >= state->seg.nclients) {
		r = error_set(PGLEASE_EPROTOCOL, "the broker gave this client an index beyond the segment's");
		goto fail;
	}
	state->process = process;
	if (answer.history != 0) {
		r = history_get(client, name, state);
		if (r != 0)
			goto fail;
	}
	r = shell_make_all(state);
	if (r != 0)
		goto fail;
	state->serial = process->serial;
	state->pool = answer.pool;
	state->max_shells = client->max_shells;
	state->socket_dir = process->socket_dir;
	atomic_store(&state->dead_fd, client->dead_fd);
	state->sweep_row = -1;
	threads_register(state);
	/* Of one attachment a pool may have several, one after the other. Incarnations of one broker are neighbours. */
	state->lease_of = process->incarnation ^ (state->id << 40);
	*ret_state = state;
	return 0;

fail:
	history_drop(state);
	segment_unmap(&state->seg);
	free(state);
	return r;
}

void
attach_abandon(struct pool_state *state)
{
	threads_unregister(state);
	shell_discard_all(state, state->serial != guard_serial());
	history_drop(state);
	segment_unmap(&state->seg);
}

void
attach_close(struct pool_state *state)
{
	attach_abandon(state);
	shell_free_all(state);
	loose_free_all(state);
	free(state);
}

struct fd_id
fd_identify(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? (struct fd_id){.dev = st.st_dev, .ino = st.st_ino} : (struct fd_id){.dev = 0};
}

bool
fd_is(int fd, const struct fd_id *id)
{
	struct fd_id now = fd_identify(fd);

	return now.ino != 0 && now.dev == id->dev && now.ino == id->ino;
}

bool
client_is_cut_off(const struct process *process)
{
	struct pollfd p = {.fd = process->control, .events = 0};

	return poll(&p, 1, 0) > 0 || !fd_is(process->control, &process->control_id);
}

void
client_ring(const struct pool_state *state)
{
	struct wire_ring ring = {.pool = state->pool};

	wire_header_init(&ring.header, WIRE_RING);
	if (!fd_is(state->process->control, &state->process->control_id))
		return;
	/* The socket is non-blocking: when it is full, the broker has rings enough to wake up. */
	wire_send(state->process->control, &ring, sizeof(ring), -1);
}


/* SPDX-License-Identifier: PostgreSQL */
/*
 * Control connections. A session is silent until it has said HELLO; then it is a client's, until either ends. What
 * sessions can cost is bounded: the number of silent ones and their time, the messages taken from one between two
 * ticks, and what waits to be read by it (a client that does not read its answers is let go).
 */
#include "control_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "access.h"
#include "descriptors.h"
#include "listener.h"
#include "log.h"
#include "peer.h"
#include "match.h"
#include "pglease_errors.h"

static_assert(LAYOUT_MAX_POOLS <= 64, "a bit for each pool");

#define SILENT_MAX 256
#define SILENT_LIMIT UINT64_C(5000000000)
#define STARVED_AGE UINT64_C(50000000) /* silent for so long, one is let go when descriptors run out */
#define MESSAGES_AT_ONCE 16
#define MESSAGES_PER_TICK 256

/* False: the session is gone. */
typedef bool (*message_handler)(struct session *session, const void *message);

static void
session_free(struct session *s)
{
	struct control *c = s->control;

	if (s->commanding)
		commands_forget(c->params.commands, s);
	if (s->client != NULL || s->commanding) {
		TAILQ_REMOVE(&c->attached, s, all);
	} else {
		TAILQ_REMOVE(&c->silent, s, all);
		c->nsilent--;
	}
	event_del(&s->readable);
	close(s->fd);
	free(s);
}

/* Ends a session and its client. */
static void
end(struct session *s, enum client_end how)
{
	struct control *c = s->control;
	struct client *client = s->client;

	session_free(s);
	if (client != NULL)
		clients_end(c->params.clients, client, how);
}

/* The client's process is dead, and clients.c knows: only the session is left. */
void
session_client_died(void *context)
{
	session_free(context);
}

static bool
say(struct session *s, const void *message, size_t size, int fd)
{
	ssize_t n = wire_send(s->fd, message, size, fd);

	if (n == (ssize_t)size)
		return true;
	if (s->client != NULL)
		log_event(LOG_LEVEL_WARNING, LOG_ABOUT(.client_pid = client_pid(s->client)),
		    "client %u (pid %ld) does not read its answers or has gone: detached", client_index(s->client),
		    (long)client_pid(s->client));
	end(s, CLIENT_LOST);
	return false;
}

static bool LOG_PRINTF(3, 4) say_error(struct session *s, int code, const char *format, ...)
{
	struct wire_error error = {.code = code};
	va_list args;

	wire_header_init(&error.header, WIRE_ERROR);
	error.header.version = (uint16_t)s->version;
	va_start(args, format);
	vsnprintf(error.text, sizeof(error.text), format, args);
	va_end(args);
	log_info("a client was refused: %s", error.text);
	return say(s, &error, sizeof(error), -1);
}

/* After an error that ends the session. */
static bool LOG_PRINTF(3, 4) refuse(struct session *s, int code, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (say_error(s, code, "%s", text))
		end(s, CLIENT_LOST);
	return false;
}

/* What a client says its program is, as text. */
static void
copy_program(char *to, size_t size, const char *from, size_t from_size)
{
	snprintf(to, size, "%.*s", (int)strnlen(from, from_size), from);
	log_flatten(to);
}

/* A process that may use no pool takes nobody's place. */
static bool
may_attach(const struct control *c, const struct access_peer *peer)
{
	for (unsigned i = 0; i < c->params.npools; i++)
		if (access_allows(c->params.pools[i]->access, peer))
			return true;
	return false;
}

static bool
has_hung_up(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP)) != 0;
}

static bool
on_hello(struct session *s, const void *message)
{
	const struct wire_hello *hello = message;
	struct control *c = s->control;
	struct access_peer peer;
	bool allowed;
	char program[sizeof(hello->program)];
	struct client_params params;
	struct wire_welcome welcome = {0};
	struct client *client;
	int r;

	if (s->client != NULL || s->commanding)
		return refuse(s, PGLEASE_EPROTOCOL, "HELLO was said twice, or after COMMAND");
	if (hello->layout_version != LAYOUT_VERSION || hello->layout_hash != layout_hash())
		return refuse(s, PGLEASE_EVERSION,
		    "the library has layout %u (%08x), the broker %s has layout %u (%08x): use the library "
		    "that was "
		    "installed with this broker",
		    hello->layout_version, hello->layout_hash, c->params.instance, LAYOUT_VERSION,
		    layout_hash());
	r = access_peer_init(s->fd, &peer);
	if (r != 0)
		return refuse(s, PGLEASE_ESYSTEM, "the broker cannot tell who this process is: %s", strerror(-r));
	allowed = may_attach(c, &peer);
	access_peer_fini(&peer);
	if (!allowed)
		return refuse(s, PGLEASE_EPERM,
		    "uid %lu may use no pool of the instance %s: ask for `users` or `groups` in its configuration",
		    (unsigned long)peer.uid, c->params.instance);
	if (c->params.max_clients_per_user != 0 &&
	    clients_of_user(c->params.clients, peer.uid) >= c->params.max_clients_per_user)
		return refuse(s, PGLEASE_ENOCLIENTS,
		    "%u processes of uid %lu are attached to the instance %s already: raise max_clients_per_user",
		    c->params.max_clients_per_user, (unsigned long)peer.uid, c->params.instance);
	copy_program(program, sizeof(program), hello->program, sizeof(hello->program));
	params = (struct client_params){
	    .pid = peer.pid,
	    .uid = peer.uid,
	    .pidfd = peer_pidfd(s->fd, peer.pid),
	    .program = program,
	    .died = session_client_died,
	    .context = s,
	};
	if (params.pidfd == -ENOSYS)
		return refuse(s, PGLEASE_EPERM,
		    "the broker cannot see this process, which is in another PID namespace: that needs Linux 6.5, or a broker "
		    "in the host's namespace");
	if (params.pidfd < 0)
		return refuse(s, PGLEASE_ESYSTEM, "the broker cannot watch process %ld: %s", (long)peer.pid,
		    strerror(-params.pidfd));
	/* One that has waited in a service manager's queue may have given up: it is to cost nobody a place. */
	if (has_hung_up(s->fd)) {
		close(params.pidfd);
		end(s, CLIENT_LOST);
		return false;
	}
	r = clients_attach(c->params.clients, &params, &client);
	if (r != 0) {
		close(params.pidfd);
		if (r == -ENOSPC)
			return refuse(s, PGLEASE_ENOCLIENTS,
			    "%u processes are attached to the instance %s already: raise max_clients",
			    c->params.max_clients, c->params.instance);
		return refuse(s, PGLEASE_ENOMEM, "the broker is out of memory");
	}
	TAILQ_REMOVE(&c->silent, s, all);
	c->nsilent--;
	s->client = client;
	TAILQ_INSERT_TAIL(&c->attached, s, all);
	log_event(LOG_LEVEL_DEBUG, LOG_ABOUT(.client_pid = peer.pid),
	    "client %u: pid %ld, uid %lu, %s", client_index(client), (long)peer.pid, (unsigned long)peer.uid, program);
	wire_header_init(&welcome.header, WIRE_WELCOME);
	welcome.client = client_index(client);
	welcome.broker_pid = (uint32_t)getpid();
	welcome.incarnation = client_incarnation(client);
	welcome.instance_id = c->params.instance_id;
	memcpy(welcome.nonce, client_nonce(client), WIRE_NONCE);
	return say(s, &welcome, sizeof(welcome), -1);
}

static bool
may_use(const struct session *s, const struct pool *pool)
{
	struct access_peer peer;
	bool allowed;

	if (access_peer_init(s->fd, &peer) != 0)
		return false;
	allowed = access_allows(pool->access, &peer);
	access_peer_fini(&peer);
	return allowed;
}

/* The pool that a client asks for; NULL after an answer, of which *ret_alive says whether the session outlived it. */
static struct pool *
pool_asked_for(struct session *s, const struct wire_open *question, unsigned *ret_place, bool *ret_alive)
{
	struct control *c = s->control;
	char name[LAYOUT_NAME];

	if (s->client == NULL) {
		*ret_alive = refuse(s, PGLEASE_EPROTOCOL, "OPEN or HISTORY came before HELLO");
		return NULL;
	}
	copy_program(name, sizeof(name), question->pool, sizeof(question->pool));
	for (unsigned i = 0; i < c->params.npools; i++) {
		if (strcmp(c->params.pools[i]->settings->name, name) != 0)
			continue;
		if (!may_use(s, c->params.pools[i])) {
			*ret_alive = say_error(s, PGLEASE_EPERM,
			    "uid %lu may not use the pool %s: ask for `users` or `groups` in its configuration",
			    (unsigned long)client_uid(s->client), name);
			return NULL;
		}
		*ret_place = i;
		return c->params.pools[i];
	}
	*ret_alive = say_error(s, PGLEASE_ENOPOOL, "the instance %s has no pool \"%s\"", c->params.instance, name);
	return NULL;
}

static bool
on_open(struct session *s, const void *message)
{
	struct wire_pool answer = {0};
	bool alive = false;
	unsigned place = 0;
	const struct pool *pool = pool_asked_for(s, message, &place, &alive);

	if (pool == NULL)
		return alive;
	wire_header_init(&answer.header, WIRE_POOL);
	answer.pool = pool->index;
	answer.history = recorder_reader(s->control->params.recorder, place) >= 0;
	s->opened |= UINT64_C(1) << answer.pool;
	return say(s, &answer, sizeof(answer), pool->fd);
}

static bool
on_history(struct session *s, const void *message)
{
	struct wire_pool answer = {0};
	bool alive = false;
	unsigned place = 0;
	const struct pool *pool = pool_asked_for(s, message, &place, &alive);
	int fd;

	if (pool == NULL)
		return alive;
	answer.pool = pool->index;
	fd = recorder_reader(s->control->params.recorder, place);
	if (fd < 0)
		return say_error(s, PGLEASE_ENOHISTORY, "the instance %s keeps no history", s->control->params.instance);
	wire_header_init(&answer.header, WIRE_PAST);
	answer.history = 1;
	return say(s, &answer, sizeof(answer), fd);
}

/* Anybody who may use the pool is told what it stands for: what matches is no secret from him. */
static bool
on_ask(struct session *s, const void *message)
{
	const struct wire_ask *ask = message;
	struct control *c = s->control;
	struct wire_match answer = {.npools = c->params.npools};

	if (s->commanding)
		return refuse(s, PGLEASE_EPROTOCOL, "ASK came after COMMAND");
	wire_header_init(&answer.header, WIRE_MATCH);
	if (ask->pool < c->params.npools && may_use(s, c->params.pools[ask->pool]))
		match_describe(c->params.pools[ask->pool], &answer);
	return say(s, &answer, sizeof(answer), -1);
}

static bool
on_ring(struct session *s, const void *message)
{
	const struct wire_ring *ring = message;
	struct control *c = s->control;
	struct pool *pool;

	if (s->client == NULL || ring->pool >= LAYOUT_MAX_POOLS)
		return refuse(s, PGLEASE_EPROTOCOL, "RING came before HELLO, or for a pool that cannot be");
	/*
	 * Others' pools are none of its business: each ring is a look at all slots. It is no error: a thread may have meant the broker
	 * before, on the connection that had this one's number; or a pool that has ended since.
	 */
	pool = (s->opened >> ring->pool & 1) != 0 ? pool_find(c->params.pools, c->params.nall, ring->pool) : NULL;
	if (pool != NULL)
		pool_want_attention(pool);
	return true;
}

static bool
on_detach(struct session *s, const void *message)
{
	end(s, CLIENT_DETACHED);
	return false;
}

bool
control_answer(void *session, const struct wire_result *result)
{
	struct session *s = session;

	if (!say(s, result, sizeof(*result), -1))
		return false;
	if (result->more == 0)
		end(s, CLIENT_DETACHED);
	return result->more != 0;
}

static bool
on_command(struct session *s, const void *message)
{
	struct control *c = s->control;
	struct command_peer who;
	struct access_peer peer;

	if (s->client != NULL || s->commanding)
		return refuse(s, PGLEASE_EPROTOCOL, "COMMAND comes first on its connection, and once");
	if (access_peer_init(s->fd, &peer) != 0)
		return refuse(s, PGLEASE_EPERM, "the broker cannot see this process");
	who = (struct command_peer){
	    .pid = peer.pid,
	    .uid = peer.uid,
	    .allowed = access_allows(c->admin, &peer),
	};
	access_peer_fini(&peer);
	TAILQ_REMOVE(&c->silent, s, all);
	c->nsilent--;
	s->commanding = true;
	TAILQ_INSERT_TAIL(&c->attached, s, all);
	return commands_run(c->params.commands, s, &who, message);
}

static const struct {
	enum wire_type type;
	message_handler handler;
} messages[] = {
    {WIRE_HELLO, on_hello},
    {WIRE_OPEN, on_open},
    {WIRE_HISTORY, on_history},
    {WIRE_RING, on_ring},
    {WIRE_DETACH, on_detach},
    {WIRE_ASK, on_ask},
    {WIRE_COMMAND, on_command},
};

enum taken { TAKEN_ONE, TAKEN_NONE, TAKEN_SESSION_GONE };

static enum taken
take_message(struct session *s)
{
	union {
		struct wire_header header;
		char bytes[WIRE_MAX +
		           1]; /* one more than allowed, so that a longer one is no message of ours */
	} message;
	ssize_t n =
	    recv(s->fd, &message, sizeof(message), MSG_DONTWAIT); /* descriptors sent to us are dropped */
	unsigned version;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return TAKEN_NONE;
	if (n <= 0) {
		end(s, CLIENT_LOST);
		return TAKEN_SESSION_GONE;
	}
	s->messages++;
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
		if (wire_is(&message, (size_t)n, messages[i].type))
			return messages[i].handler(s, &message) ? TAKEN_ONE : TAKEN_SESSION_GONE;
	version = wire_other_version(&message, (size_t)n);
	if (version != 0) {
		s->version = version;
		refuse(s, PGLEASE_EVERSION,
		    "this program speaks version %u of the control protocol, the broker %s version %u: use the library "
		    "and the tools that were installed with this broker",
		    version, s->control->params.instance, WIRE_VERSION);
		return TAKEN_SESSION_GONE;
	}
	refuse(s, PGLEASE_EPROTOCOL, "the broker does not understand this message");
	return TAKEN_SESSION_GONE;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	for (unsigned i = 0; i < MESSAGES_AT_ONCE; i++) {
		if (s->messages >= MESSAGES_PER_TICK) {
			s->held = true;
			event_del(&s->readable);
			return;
		}
		if (take_message(s) != TAKEN_ONE)
			return;
	}
}

bool
session_watch(struct session *s)
{
	return event_assign(&s->readable, s->control->params.base, s->fd, EV_READ | EV_PERSIST, on_readable, s) == 0 &&
	       event_add(&s->readable, NULL) == 0;
}

static void
accepted(void *context, int fd)
{
	struct control *c = context;
	struct session *s;

	/* Whoever connects and says nothing must not keep others out. */
	while (c->nsilent != 0 && c->nsilent >= descriptors_share(SILENT_MAX))
		session_free(TAILQ_FIRST(&c->silent));
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		close(fd);
		return;
	}
	s->control = c;
	s->fd = fd;
	s->version = WIRE_VERSION;
	s->since = clock_ns();
	TAILQ_INSERT_TAIL(&c->silent, s, all);
	c->nsilent++;
	if (!session_watch(s))
		session_free(s);
}

static void
starved(void *context)
{
	struct control *c = context;

	/* One that has just come may be about to speak. */
	if (!TAILQ_EMPTY(&c->silent) && clock_ns() - TAILQ_FIRST(&c->silent)->since > STARVED_AGE)
		session_free(TAILQ_FIRST(&c->silent));
}

int
control_new(const struct control_params *params, struct control **ret)
{
	struct control *c = calloc(1, sizeof(*c));
	char path[PATHS_MAX];
	int r;

	if (c == NULL)
		return log_refuse("out of memory");
	c->params = *params;
	TAILQ_INIT(&c->silent);
	TAILQ_INIT(&c->attached);
	r = access_new(params->admin_users, params->admin_groups, &c->admin);
	if (r != 0) {
		free(c);
		return log_refuse("admin_users and admin_groups cannot be looked up any more");
	}
	r = paths_control_socket(params->socket_dir, path, sizeof(path));
	if (r == 0)
		r = listener_new(params->base, path, SOCK_SEQPACKET, accepted, starved, c, params->passed, params->from, &c->listener);
	if (r != 0) {
		access_free(c->admin);
		free(c);
		return log_refuse("cannot listen in %s: %s", params->socket_dir, strerror(-r));
	}
	if (params->from != NULL && control_take_over(c, params->from) != 0)
		return -1;
	*ret = c;
	return 0;
}

void
control_forget_pool(struct control *c, uint32_t index, unsigned nall)
{
	struct session *s;

	c->params.nall = nall;
	TAILQ_FOREACH(s, &c->attached, all)
		s->opened &= ~(UINT64_C(1) << index);
}

void
control_tick(struct control *c, uint64_t now)
{
	struct session *s;

	listener_tick(c->listener);
	while ((s = TAILQ_FIRST(&c->silent)) != NULL && now > s->since && now - s->since > SILENT_LIMIT)
		session_free(s);
	TAILQ_FOREACH(s, &c->attached, all)
	{
		s->messages = 0;
		if (s->held && event_add(&s->readable, NULL) == 0)
			s->held = false;
	}
}

void
control_free(struct control *c)
{
	if (c == NULL)
		return;
	listener_free(c->listener);
	while (!TAILQ_EMPTY(&c->silent))
		session_free(TAILQ_FIRST(&c->silent));
	while (!TAILQ_EMPTY(&c->attached))
		session_free(TAILQ_FIRST(&c->attached));
	access_free(c->admin);
	free(c);
}

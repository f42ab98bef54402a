/* SPDX-License-Identifier: PostgreSQL */
/*
 * The library between a program that gets it wrong (foreign and used tokens, handles of a broker that has gone) and a
 * broker that is none: answers that are late, cut, of another version, or come with a segment that is not sound.
 */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "it.h"
#include "paths.h"
#include "segment.h"
#include "wire.h"

static const pglease_test_options without_server = PGLEASE_TEST_OPTIONS(.no_server = true, .no_broker = true);

/* A listening control socket where the library looks for a broker. */
static int
fake_broker(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock;

	ck_assert_msg(pglease_test_env_new(&without_server, &it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_int_eq(mkdir(pglease_test_socket_dir(it_env), 0755), 0);
	ck_assert_int_eq(
	    paths_control_socket(pglease_test_socket_dir(it_env), address.sun_path, sizeof(address.sun_path)),
	    0);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(sock, 8), 0);
	return sock;
}

/* What it answers with to one message. */
struct answer {
	const void *bytes;
	size_t size;
	int fd;
};

/* Accepts one client and gives it these answers, one for each message; then closes. */
struct play {
	pthread_t thread;
	int listening;
	unsigned n;
	struct answer answer[4];
};

static void *
play(void *arg)
{
	const struct play *p = arg;
	int sock = accept(p->listening, NULL, NULL);
	char message[WIRE_MAX];

	for (unsigned i = 0; i < p->n; i++) {
		if (recv(sock, message, sizeof(message), 0) <= 0)
			break;
		if (p->answer[i].size != 0 &&
		    wire_send(sock, p->answer[i].bytes, p->answer[i].size, p->answer[i].fd) < 0)
			break;
	}
	/* A message without an answer: until the client gives up. */
	if (p->n > 0 && p->answer[p->n - 1].size == 0)
		recv(sock, message, sizeof(message), 0);
	close(sock);
	return NULL;
}

static void
begin_play(struct play *p)
{
	ck_assert_int_eq(pthread_create(&p->thread, NULL, play, p), 0);
}

static void
end_play(struct play *p)
{
	pthread_join(p->thread, NULL);
}

static struct wire_welcome
sound_welcome(void)
{
	struct wire_welcome welcome = {.broker_pid = 1, .incarnation = 7, .instance_id = 9};

	wire_header_init(&welcome.header, WIRE_WELCOME);
	return welcome;
}

/* Attaching fails with this code and a word; the handle is untouched. */
static void
attach_fails(int listening, const struct answer *answer, unsigned n, int code, const char *word)
{
	struct play p = {.listening = listening, .n = n};
	pglease_options options = PGLEASE_OPTIONS_INIT;
	pglease *client = (pglease *)&p;
	int r;

	if (n > 0)
		p.answer[0] = *answer;
	options.timeout_ms = n > 0 && answer->size == 0 ? 50 : 20000;
	begin_play(&p);
	r = pglease_attach(NULL, &options, &client);
	ck_assert_msg(
	    r == code && strstr(pglease_error_message(), word) != NULL, "%d: %s", r, pglease_error_message());
	ck_assert_ptr_eq(client, (pglease *)&p);
	end_play(&p);
}

START_TEST(brokers_that_answer_hello_with_something_else)
{
	union {
		struct wire_welcome welcome;
		struct wire_error error;
		char bytes[WIRE_MAX];
	} m;
	struct answer answer = {.bytes = &m, .fd = -1};
	int listening = fake_broker();
	char versions[128];

	/* Closed at once: the client notices when it sends, or when it reads. */
	attach_fails(listening, NULL, 0, PGLEASE_ENOBROKER, "the broker of");
	answer.size = 0;
	attach_fails(listening, &answer, 1, PGLEASE_ENOBROKER, "did not answer within 50 ms");
	memset(&m, 0xff, sizeof(m));
	for (answer.size = 1; answer.size <= sizeof(m); answer.size = answer.size * 2 + 1)
		attach_fails(listening, &answer, 1, PGLEASE_EPROTOCOL, "unexpected");
	memset(&m, 0, sizeof(m));
	m.welcome = sound_welcome();
	for (answer.size = sizeof(struct wire_header); answer.size < sizeof(m.welcome); answer.size += 8)
		attach_fails(listening, &answer, 1, PGLEASE_EPROTOCOL, "unexpected");
	answer.size = sizeof(m.welcome);
	snprintf(versions, sizeof(versions), "speaks version %u of the control protocol, this library version %u: use",
	    WIRE_VERSION + 1, WIRE_VERSION);
	m.welcome.header.version++;
	attach_fails(listening, &answer, 1, PGLEASE_EVERSION, versions);
	/* An older one does not understand the question; what it says to that is in its own version. */
	snprintf(versions, sizeof(versions), "speaks version %u of the control protocol, this library version %u: use",
	    WIRE_VERSION - 1, WIRE_VERSION);
	memset(&m, 0, sizeof(m));
	wire_header_init(&m.error.header, WIRE_ERROR);
	m.error.header.version--;
	m.error.code = PGLEASE_EPROTOCOL;
	answer.size = sizeof(m.error);
	attach_fails(listening, &answer, 1, PGLEASE_EVERSION, versions);
	/* An error without an end, and one that says that nothing is wrong. */
	memset(&m, 'e', sizeof(m));
	wire_header_init(&m.error.header, WIRE_ERROR);
	m.error.code = PGLEASE_EVERSION;
	answer.size = sizeof(m.error);
	attach_fails(listening, &answer, 1, PGLEASE_EVERSION, "eeee");
	m.error.code = 0;
	attach_fails(listening, &answer, 1, PGLEASE_EPROTOCOL, "unexpected");
	m.error.code = 4711;
	attach_fails(listening, &answer, 1, PGLEASE_EPROTOCOL, "unexpected");
	close(listening);
}
END_TEST

/* A sound lease segment of a pool, in a descriptor of the test's own; its instance has the same name. */
static int
segment_fd(const char *pool, struct segment *seg)
{
	struct segment_params params = {.instance_name = pool,
	    .pool_name = pool,
	    .user = "u",
	    .dbname = "d",
	    .nslots = 4,
	    .nrows = 8,
	    .nclients = 4};
	int fd;

	ck_assert_int_eq(segment_create(&params, seg, &fd), 0);
	return fd;
}

/* Opening the pool `app` fails when the broker answers like this. */
static void
open_fails(int listening, uint32_t client_index, const struct answer *answer, int code, const char *word)
{
	struct wire_welcome welcome = sound_welcome();
	struct play p = {
	    .listening = listening, .n = 2, .answer = {{&welcome, sizeof(welcome), -1}, *answer}};
	pglease_pool *pool = (pglease_pool *)&p;
	pglease *client;
	int r;

	welcome.client = client_index;
	begin_play(&p);
	it_ok(pglease_attach(NULL, NULL, &client));
	r = pglease_pool_open(client, "app", &pool);
	ck_assert_msg(
	    r == code && strstr(pglease_error_message(), word) != NULL, "%d: %s", r, pglease_error_message());
	ck_assert_ptr_eq(pool, (pglease_pool *)&p);
	pglease_detach(client);
	end_play(&p);
}

START_TEST(brokers_that_give_out_something_else_than_the_segment)
{
	int listening = fake_broker(), fd, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct wire_pool message = {.pool = 0};
	struct answer answer = {.bytes = &message, .size = sizeof(message), .fd = -1};
	struct segment seg;

	wire_header_init(&message.header, WIRE_POOL);
	open_fails(listening, 0, &answer, PGLEASE_ESYSTEM, "no descriptor came");
	answer.fd = null;
	open_fails(listening, 0, &answer, PGLEASE_EPROTOCOL, "segment of pool app cannot be used");
	/* It could be cut under our feet: not sealed. */
	answer.fd = memfd_create("unsealed", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(answer.fd, 1 << 20), 0);
	open_fails(listening, 0, &answer, PGLEASE_EPROTOCOL, "segment of pool app cannot be used");
	close(answer.fd);
	/* Empty; another layout, older and newer; another build of this one; another program's. */
	fd = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	answer.fd = fd;
	open_fails(listening, 0, &answer, PGLEASE_EPROTOCOL, "segment of pool app cannot be used");
	close(fd);
	answer.fd = fd = segment_fd("app", &seg);
	for (unsigned i = 0; i < 3; i++) {
		seg.header->version = LAYOUT_VERSION + i - 1;
		seg.header->hash = layout_hash() + (i == 1);
		open_fails(listening, 0, &answer, PGLEASE_EVERSION, "segment of pool app cannot be used");
	}
	seg.header->version = LAYOUT_VERSION;
	seg.header->hash = layout_hash();
	seg.header->magic++;
	open_fails(listening, 0, &answer, PGLEASE_EPROTOCOL, "segment of pool app cannot be used");
	seg.header->magic--;
	/* Arrays beyond its end. */
	seg.header->nslots *= 100;
	open_fails(listening, 0, &answer, PGLEASE_EPROTOCOL, "segment of pool app cannot be used");
	seg.header->nslots /= 100;
	seg.header->rows = seg.header->size;
	open_fails(listening, 0, &answer, PGLEASE_EPROTOCOL, "segment of pool app cannot be used");
	seg.header->rows = seg.header->slots;
	/* A client index that the segment does not have. */
	open_fails(listening, 4, &answer, PGLEASE_EPROTOCOL, "index beyond");
	segment_unmap(&seg);
	close(fd);
	/* The segment of another pool: the answer to a question that was given up, perhaps. */
	answer.fd = fd = segment_fd("other", &seg);
	open_fails(listening, 0, &answer, PGLEASE_EPROTOCOL, "another pool");
	segment_unmap(&seg);
	close(fd);
	close(null);
	close(listening);
}
END_TEST

static sem_t given_up; /* by the test: it has waited for the first answer in vain */

/* Answers the first OPEN when nobody waits for that any more: as a broker that was stopped for a while does. */
static void *
answer_late(void *arg)
{
	int listening = *(int *)arg, sock = accept(listening, NULL, NULL), fd[2];
	struct wire_welcome welcome = sound_welcome();
	struct wire_pool answer = {.pool = 0};
	char message[WIRE_MAX];
	struct segment seg[2];

	fd[0] = segment_fd("first", &seg[0]);
	fd[1] = segment_fd("second", &seg[1]);
	recv(sock, message, sizeof(message), 0);
	wire_send(sock, &welcome, sizeof(welcome), -1);
	wire_header_init(&answer.header, WIRE_POOL);
	for (unsigned i = 0; i < 2; i++) {
		recv(sock, message, sizeof(message), 0); /* OPEN first, second */
		while (i == 0 && sem_wait(&given_up) != 0)
			;
		answer.pool = i;
		wire_send(sock, &answer, sizeof(answer), fd[i]);
	}
	recv(sock, message, sizeof(message), 0); /* DETACH */
	close(sock);
	for (unsigned i = 0; i < 2; i++) {
		segment_unmap(&seg[i]);
		close(fd[i]);
	}
	return NULL;
}

START_TEST(a_late_answer_is_not_taken_for_another)
{
	int listening = fake_broker();
	pglease_options options = PGLEASE_OPTIONS_INIT;
	pglease_pool *pool;
	pglease_lease lease;
	pglease *client;
	pthread_t thread;
	PGconn *conn;

	options.timeout_ms = 1000;
	ck_assert_int_eq(sem_init(&given_up, 0, 0), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, answer_late, &listening), 0);
	it_ok(pglease_attach(NULL, &options, &client));
	ck_assert_int_eq(pglease_pool_open(client, "first", &pool), PGLEASE_ENOBROKER);
	ck_assert_int_eq(sem_post(&given_up), 0);
	it_ok(pglease_pool_open(client, "second", &pool));
	/* The segments were never opened, and say whose they are. */
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ENOBROKER);
	ck_assert_msg(strstr(pglease_error_message(), "pool second ") != NULL, "%s", pglease_error_message());
	pglease_detach(client);
	pthread_join(thread, NULL);
	close(listening);
}
END_TEST

START_TEST(tokens_of_others)
{
	static const pglease_test_pool pools[] = {{.name = "app", .max = 1}, {.name = "other", .max = 1}};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2);
	pglease_pool *pool, *other;
	pglease_lease lease, bent, far;
	pglease *second;
	PGconn *conn;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	pool = it_attach();
	it_ok(pglease_pool_open(it_client(), "other", &other));
	conn = it_acquire(pool, &lease);
	/* Whatever is not the lease's own is no token for it. */
	bent = lease;
	bent.sequence++;
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_ESTALE);
	bent.sequence = lease.sequence + (UINT64_C(1) << 40);
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_ESTALE);
	bent = lease;
	bent.row ^= 1;
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_ESTALE);
	bent.row = UINT32_MAX;
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_EINVAL);
	bent = lease;
	bent.slot++;
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_ESTALE);
	bent.slot = UINT32_MAX;
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_EINVAL);
	bent = lease;
	bent.incarnation++;
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_EFORKED);
	bent = lease;
	bent.pool = other;
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_EFORKED);
	bent.pool = NULL;
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_EINVAL);
	/* Another attachment of this very process. */
	it_ok(pglease_attach(NULL, NULL, &second));
	bent = lease;
	it_ok(pglease_pool_open(second, "app", &bent.pool));
	ck_assert_int_eq(pglease_release(&bent), PGLEASE_EFORKED);
	ck_assert_int_eq(pglease_acquire(bent.pool, PGLEASE_TIMEOUT_TRY, &far, &conn), PGLEASE_ETIMEOUT);
	pglease_detach(second);
	/* None of them has touched it. */
	ck_assert_str_eq(it_query(conn, "select 7"), "7");
	it_release(&lease);
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	it_await_all_idle(pool);
}
END_TEST

START_TEST(names_that_are_none)
{
	char longest[200];
	pglease_pool *pool;
	pglease *client = NULL;

	it_start(1, 1, NULL);
	it_attach();
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	ck_assert_int_eq(pglease_pool_open(it_client(), longest, &pool), PGLEASE_EINVAL);
	longest[63] = '\0';
	ck_assert_int_eq(pglease_pool_open(it_client(), longest, &pool), PGLEASE_ENOPOOL);
	ck_assert_int_eq(pglease_pool_open(it_client(), "", &pool), PGLEASE_EINVAL);
	ck_assert_int_eq(pglease_pool_open(it_client(), "app\nx", &pool), PGLEASE_ENOPOOL);
	ck_assert_msg(strchr(pglease_error_message(), '\n') == NULL, "%s", pglease_error_message());
	ck_assert_int_eq(pglease_pool_open(it_client(), "App", &pool), PGLEASE_ENOPOOL);
	ck_assert_msg(
	    strstr(pglease_error_message(), "has no pool \"App\"") != NULL, "%s", pglease_error_message());
	ck_assert_int_eq(pglease_attach("../../etc", NULL, &client), PGLEASE_EINVAL);
	/* An empty name is the default one's. */
	it_ok(pglease_attach("", NULL, &client));
	pglease_detach(client);
}
END_TEST

/* Has a lease when the broker stops, and learns it. */
static void
hold_beyond_the_stop(int socket, const void *arg)
{
	pglease_pool *pool = it_attach(), *other;
	pglease_lease lease, another;
	PGconn *conn;

	(void)arg;
	it_acquire(pool, &lease);
	it_say(socket, 'l');
	it_hear(socket, 's');
	ck_assert_int_eq(pglease_acquire(pool, PGLEASE_TIMEOUT_TRY, &another, &conn), PGLEASE_ENOBROKER);
	ck_assert_msg(strstr(pglease_error_message(), "no broker of instance") != NULL, "%s", pglease_error_message());
	ck_assert_int_eq(pglease_release(&lease), PGLEASE_ESTALE);
	ck_assert_int_eq(pglease_pool_open(it_client(), "nope", &other), PGLEASE_ENOBROKER);
	pglease_detach(it_client());
}

/* A child of an attached process attaches itself at its first call, and cannot. */
static void
acquire_in_a_child(int socket, const void *arg)
{
	pglease_pool *const *pool = arg;
	pglease_lease lease;
	PGconn *conn;

	(void)socket;
	ck_assert_int_eq(pglease_acquire(*pool, PGLEASE_TIMEOUT_TRY, &lease, &conn), PGLEASE_ENOBROKER);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "no broker of instance"));
}

START_TEST(after_the_broker_was_killed)
{
	pglease_pool *pool;
	pglease_lease lease;

	it_start(2, 2, NULL);
	pool = it_attach();
	it_await_all_idle(pool);
	it_acquire(pool, &lease);
	ck_assert_int_eq(pglease_test_broker_kill(it_env), 0);
	/* Whoever has a connection goes on with it, again and again. */
	for (unsigned i = 0; i < 3; i++) {
		it_release(&lease);
		ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	}
	it_release(&lease);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	/* By the same handles, and by new ones. */
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	it_release(&lease);
	pglease_detach(it_client());
	pool = it_attach();
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	it_release(&lease);
}
END_TEST

START_TEST(after_the_broker_has_stopped)
{
	/* It does not wait for those out. */
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.extra = "drain_timeout = 0");
	struct it_worker holder, child;
	pglease_pool *pool;
	pglease_lease lease;
	pglease *client = NULL;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	holder = it_worker(hold_beyond_the_stop, NULL);
	it_hear(holder.socket, 'l');
	pool = it_attach();
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	it_say(holder.socket, 's');
	it_join(&holder);
	ck_assert_int_eq(pglease_attach(NULL, NULL, &client), PGLEASE_ENOBROKER);
	ck_assert_msg(strstr(pglease_error_message(), pglease_test_socket_dir(it_env)) != NULL &&
	                  strstr(pglease_error_message(), "start pgleased") != NULL,
	    "%s", pglease_error_message());
	child = it_worker(acquire_in_a_child, &pool);
	it_join(&child);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	it_release(&lease);
}
END_TEST

IT_MAIN("bad_client", brokers_that_answer_hello_with_something_else,
    brokers_that_give_out_something_else_than_the_segment, a_late_answer_is_not_taken_for_another,
    tokens_of_others, names_that_are_none, after_the_broker_was_killed, after_the_broker_has_stopped)

/* SPDX-License-Identifier: PostgreSQL */
/*
 * Renewals (doc/protocol.md) by a scripted client: byte for byte, those that nobody may have, and every way in which one
 * can end before it is done. A server that is stopped (SIGSTOP) takes connections and says nothing, so that what is
 * under way stays under way.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "handoff.h"
#include "it.h"
#include "rows.h"
#include "script.h"
#include "slots.h"

#define TRIES 6000
#define STEP_NS 5000000
#define ATTEMPT 77

static struct script_client client;
static struct script_claim claim;
static int descriptor; /* of the adopted connection */
static pid_t stopped;  /* the server's */

/* Attached, with a lease and its connection's descriptor. */
static void
adopt(struct script_client *c, struct script_claim *of)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	of->attempt = ATTEMPT;
	script_claim_packet(&p, SCRIPT_3_0, of);
	script_send_packet(sock, &p);
	script_expect_welcome(sock, c, of, NULL);
	descriptor = script_take_descriptor(sock);
}

static void
begin(const char *extra)
{
	it_start(1, 1, extra);
	script_attach(&client);
	script_lease(&client, &claim);
	adopt(&client, &claim);
}

/* What PQreset sends to the broker. */
static int
ask(const struct script_claim *of)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	script_claim_packet(&p, SCRIPT_3_0, of);
	script_send_packet(sock, &p);
	return sock;
}

static uint64_t
generation(void)
{
	return atomic_load(&client.seg.slot[claim.slot].generation);
}

static unsigned
flags(void)
{
	return word_flags(slot_load(&client.seg, claim.slot));
}

/* Memory cannot be waited on: it is looked at, and the number of looks only ends a failure. */
static void
await_word(bool (*is)(uint64_t w), const char *what)
{
	static const struct timespec step = {.tv_nsec = STEP_NS};

	for (unsigned i = 0; i < TRIES && !is(slot_load(&client.seg, claim.slot)); i++)
		nanosleep(&step, NULL);
	ck_assert_msg(is(slot_load(&client.seg, claim.slot)), "the word never was %s", what);
}

static bool
is_not_leased(uint64_t w)
{
	return word_state(w) != SLOT_LEASED;
}

static bool
is_cancelling(uint64_t w)
{
	return word_state(w) == SLOT_LEASED && (word_flags(w) & SLOT_CANCELLING) != 0;
}

static bool
is_retired(uint64_t w)
{
	return word_state(w) == SLOT_LEASED && (word_flags(w) & SLOT_RETIRE) != 0;
}

/* PostgreSQL answers on it. */
static void
assert_serves(int fd)
{
	static const char query[] = "Q\0\0\0\x0dselect 7\0";
	static const uint8_t end[] = {'Z', 0, 0, 0, 5, 'I'};
	uint8_t answer[512];
	size_t at = 0;

	script_send(fd, query, sizeof(query) - 1);
	while (at < sizeof(end) || memcmp(answer + at - sizeof(end), end, sizeof(end)) != 0) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		ck_assert_int_eq(poll(&p, 1, 30000), 1);
		n = recv(fd, answer + at, sizeof(answer) - at, MSG_DONTWAIT);
		ck_assert_int_gt(n, 0);
		at += (size_t)n;
	}
	ck_assert_int_eq(answer[0], 'T');
}

/* The connection behind it has ended, for whoever holds it. */
static void
assert_fenced(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte;

	ck_assert_int_eq(poll(&p, 1, 30000), 1);
	ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	ck_assert_int_eq(send(fd, "X", 1, MSG_NOSIGNAL), -1);
	ck_assert_int_eq(errno, EPIPE);
	close(fd);
}

/* What the segment says of the slot is another connection's when the answer has come. */
static void
expect_welcome(int sock, uint32_t *ret_key)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};

	ck_assert_int_eq(poll(&p, 1, 30000), 1);
	script_expect_welcome(sock, &client, &claim, ret_key);
}

/* The other connection, in the claim that names it from now on. */
static void
expect_renewed(int sock)
{
	uint64_t before = claim.generation;

	expect_welcome(sock, NULL);
	claim.generation = generation();
	ck_assert_uint_eq(claim.generation, before + 1);
	ck_assert_uint_eq(slot_load(&client.seg, claim.slot), word_with_flags(claim.word, 0));
	descriptor = script_take_descriptor(sock);
	assert_serves(descriptor);
}

static void
stop_server(void)
{
	stopped = fixture_server_pid(it_fixture);
	ck_assert_int_eq(kill(stopped, SIGSTOP), 0);
}

static void
continue_server(void)
{
	ck_assert_int_eq(kill(stopped, SIGCONT), 0);
}

/* Under way: the old connection is closed, the other one not made. */
static int
ask_and_await(const struct script_claim *of)
{
	int sock = ask(of);

	ck_assert_msg(fixture_await_log(it_fixture, "asked for another", 30000) == 0, "%s", fixture_error());
	ck_assert_uint_eq(flags() & SLOT_RETIRE, SLOT_RETIRE);
	return sock;
}

static void
give_back(void)
{
	uint64_t w = slot_load(&client.seg, claim.slot);

	ck_assert(slot_return(&client.seg, claim.slot, &w, 0)); /* S10 */
}

/* Somebody else's lease is as if nothing had been. */
static void
assert_recovered(void)
{
	pglease_pool *pool = it_attach();
	pglease_stats stats;
	pglease_lease lease;

	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 1"), "1");
	it_release(&lease);
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.total, 1);
	ck_assert_uint_eq(stats.idle, 1);
}

START_TEST(byte_for_byte)
{
	uint32_t pid;
	int old;

	begin(NULL);
	for (unsigned i = 0; i < 3; i++) {
		old = descriptor;
		pid = atomic_load(&client.seg.slot[claim.slot].server_pid);
		expect_renewed(ask(&claim));
		ck_assert_uint_ne(atomic_load(&client.seg.slot[claim.slot].server_pid), pid);
		assert_fenced(old);
	}
	ck_assert_uint_eq(script_counter(&client, COUNTER_CLOSED_RENEWED), 3);
	ck_assert_uint_eq(script_counter(&client, COUNTER_OPENED), 4);
	ck_assert_uint_eq(script_counter(&client, COUNTER_ADOPTIONS_REFUSED), 0);
	/* Generation and sequence are those of its adoption, or whatever. */
	claim.word = slot_load(&client.seg, claim.slot);
	{
		struct script_claim old_claim = claim;

		old_claim.sequence = 1;
		old_claim.generation = 0;
		expect_renewed(ask(&old_claim));
	}
	script_release(&client, &claim);
	close(descriptor);
	script_detach(&client);
	assert_recovered();
}
END_TEST

/* Single bytes; and the request for the descriptor before there is one. */
START_TEST(in_other_pieces)
{
	struct script_packet p;
	int sock;

	begin(NULL);
	script_claim_packet(&p, SCRIPT_3_0, &claim);
	sock = script_connect_adopt();
	for (size_t i = 0; i < p.size; i++)
		script_send(sock, p.bytes + i, 1);
	close(descriptor);
	expect_renewed(sock);
	stop_server();
	close(descriptor);
	sock = ask_and_await(&claim);
	script_send(sock, WIRE_FD_REQUEST, strlen(WIRE_FD_REQUEST));
	continue_server();
	expect_welcome(sock, NULL);
	ck_assert_int_eq(script_answer(sock, &descriptor), WIRE_FD_OK);
	assert_serves(descriptor);
	close(descriptor);
	script_expect_end(sock);
	script_release(&client, &claim);
	script_detach(&client);
	assert_recovered();
}
END_TEST

static void
assert_refused(const struct script_claim *wrong, const char *sqlstate, const char *word)
{
	script_expect_error(ask(wrong), sqlstate, word);
	/* Nothing has happened to the holder. */
	ck_assert_uint_eq(slot_load(&client.seg, claim.slot), claim.word);
	ck_assert_uint_eq(generation(), claim.generation);
	assert_serves(descriptor);
}

START_TEST(nobody_else_may)
{
	struct script_client other;
	struct script_claim wrong, others;

	it_start(2, 2, NULL);
	script_attach(&client);
	script_attach(&other);
	script_lease(&other, &others);
	adopt(&other, &others);
	close(descriptor);
	script_lease(&client, &claim);
	adopt(&client, &claim);
	/* Who does not hold the slot, as itself and as the holder. */
	wrong = others;
	wrong.slot = claim.slot;
	assert_refused(&wrong, "55000", "acquire again");
	wrong = claim;
	wrong.client = others.client;
	assert_refused(&wrong, "28000", "attach");
	wrong = claim;
	memcpy(wrong.nonce, others.nonce, sizeof(wrong.nonce));
	assert_refused(&wrong, "28000", "attach");
	wrong = claim;
	wrong.nonce[WIRE_NONCE - 1] ^= 1;
	assert_refused(&wrong, "28000", "attach");
	/* The holder, for another slot, or none. */
	wrong = claim;
	wrong.slot = others.slot;
	assert_refused(&wrong, "55000", "acquire again");
	wrong.slot = claim.slot + others.slot + 1;
	assert_refused(&wrong, "55000", "acquire again");
	/* An attempt that was not the one that was served: it is an adoption, of a lease that is over. */
	wrong = claim;
	wrong.sequence--;
	for (unsigned i = 0; i < 3; i++) {
		wrong.attempt = (const uint64_t[]){ATTEMPT - 1, ATTEMPT + 1, UINT64_MAX}[i];
		assert_refused(&wrong, "55000", "acquire again");
	}
	ck_assert_uint_eq(script_counter(&client, COUNTER_CLOSED_RENEWED), 0);
	ck_assert_uint_eq(script_counter(&client, COUNTER_OPENED), 2);
	/* One who has gone. */
	script_release(&other, &others);
	script_detach(&other);
	script_attach(&other);
	script_lease(&other, &wrong);
	ck_assert_uint_eq(wrong.slot, others.slot);
	script_expect_error(ask(&others), "28000", "attach");
	/* The next one, which has adopted nothing. */
	wrong.attempt = ATTEMPT;
	wrong.sequence--;
	assert_refused(&wrong, "55000", "acquire again");
	ck_assert_uint_eq(script_counter(&client, COUNTER_CLOSED_RENEWED), 0);
	close(descriptor);
	script_release(&client, &claim);
	script_detach(&client);
	script_detach(&other);
}
END_TEST

START_TEST(nobody_may_whose_lease_is_over)
{
	begin(NULL);
	script_release(&client, &claim);
	script_expect_error(ask(&claim), "55000", "acquire again");
	ck_assert_uint_eq(script_counter(&client, COUNTER_CLOSED_RENEWED), 0);
	close(descriptor);
	/* In the next lease the connection was not adopted again: the attempt is still good. */
	script_lease(&client, &claim);
	claim.attempt = ATTEMPT;
	expect_renewed(ask(&claim));
	close(descriptor);
	give_back();
	script_expect_error(ask(&claim), "55000", "acquire again");
	script_detach(&client);
	assert_recovered();
}
END_TEST

/* A forked child, which has the nonce. */
static void
child(int socket, const void *arg)
{
	script_expect_error(ask(&claim), "28000", "another process");
	it_say(socket, 'd');
}

START_TEST(no_other_process_may)
{
	struct it_worker worker;

	begin(NULL);
	worker = it_worker(child, NULL);
	it_hear(worker.socket, 'd');
	it_join(&worker);
	ck_assert_uint_eq(slot_load(&client.seg, claim.slot), claim.word);
	assert_serves(descriptor);
	close(descriptor);
	script_release(&client, &claim);
	script_detach(&client);
}
END_TEST

/* In its own words, and with its SQLSTATE, though libpq tells its users none. */
START_TEST(the_server_refuses)
{
	static const char *const reasons[][4] = {
	    {"create role helper superuser login; alter role postgres nologin", "28000",
	        "role \"postgres\" is not permitted to log in", "alter role postgres login"},
	    {"alter role postgres login nosuperuser connection limit 0", "53300",
	        "too many connections for role \"postgres\"", "alter role postgres superuser connection limit -1"},
	};
	char conninfo[512];

	begin(NULL);
	snprintf(conninfo, sizeof(conninfo), "%s user=helper", fixture_conninfo(it_fixture));
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		PGconn *helper;

		if (i == 0)
			ck_assert_int_eq(fixture_sql(it_fixture, reasons[i][0], NULL, 0), 0);
		helper = PQconnectdb(conninfo);
		if (i != 0)
			it_query(helper, reasons[i][0]);
		for (unsigned n = 0; n < 2; n++) {
			script_expect_error(ask(&claim), reasons[i][1], reasons[i][2]);
			ck_assert_uint_eq(
			    slot_load(&client.seg, claim.slot), word_with_flags(claim.word, SLOT_RETIRE));
			ck_assert_uint_eq(generation(), claim.generation);
		}
		assert_fenced(descriptor);
		it_query(helper, reasons[i][3]);
		PQfinish(helper);
		expect_renewed(ask(&claim));
	}
	close(descriptor);
	script_release(&client, &claim);
	script_detach(&client);
	assert_recovered();
}
END_TEST

START_TEST(the_server_does_not_answer)
{
	begin("connect_timeout = 1s");
	stop_server();
	script_expect_error(ask(&claim), "08001", "no answer within connect_timeout");
	continue_server();
	assert_fenced(descriptor);
	expect_renewed(ask(&claim));
	close(descriptor);
	script_release(&client, &claim);
	script_detach(&client);
	assert_recovered();
}
END_TEST

/* Attaches, adopts, asks, and is killed. */
static void
lessee(int socket, const void *arg)
{
	script_attach(&client);
	script_lease(&client, &claim);
	adopt(&client, &claim);
	it_say(socket, 'a');
	it_hear(socket, 'r');
	ask(&claim);
	it_hear(socket, 'q');
}

START_TEST(the_lessee_is_killed)
{
	struct it_worker worker;

	it_start(1, 1, NULL);
	worker = it_worker(lessee, NULL);
	it_hear(worker.socket, 'a');
	script_attach(&client);
	while (word_state(slot_load(&client.seg, claim.slot)) != SLOT_LEASED)
		ck_assert_uint_lt(++claim.slot, client.seg.nslots);
	stop_server();
	it_say(worker.socket, 'r');
	ck_assert_int_eq(fixture_await_log(it_fixture, "asked for another", 30000), 0);
	it_kill(&worker);
	await_word(is_not_leased, "taken back");
	continue_server();
	script_detach(&client);
	it_await_published("app", "revoked_death", 1);
	assert_recovered();
}
END_TEST

START_TEST(the_lessee_is_detached)
{
	int sock;

	begin(NULL);
	stop_server();
	sock = ask_and_await(&claim);
	close(client.control);
	script_expect_error(sock, "55000", "the lease has ended");
	await_word(is_not_leased, "taken back");
	script_expect_error(ask(&claim), "28000", "attach");
	continue_server();
	assert_fenced(descriptor);
	assert_recovered();
	it_await_published("app", "revoked_detach", 1);
}
END_TEST

START_TEST(abandoned_and_asked_again)
{
	begin(NULL);
	stop_server();
	for (unsigned i = 0; i < 2; i++) {
		close(i == 0 ? ask_and_await(&claim) : ask(&claim));
		ck_assert_int_eq(fixture_await_log(it_fixture, "does not wait", 30000), 0);
		ck_assert_uint_eq(slot_load(&client.seg, claim.slot), word_with_flags(claim.word, SLOT_RETIRE));
	}
	assert_fenced(descriptor);
	continue_server();
	expect_renewed(ask(&claim));
	/* When it is made already, it is an ordinary lease that has not fetched its descriptor. */
	close(descriptor);
	close(ask(&claim));
	expect_renewed(ask(&claim));
	close(descriptor);
	script_release(&client, &claim);
	script_detach(&client);
	assert_recovered();
}
END_TEST

START_TEST(abandoned_and_released)
{
	begin(NULL);
	stop_server();
	close(ask_and_await(&claim));
	ck_assert_int_eq(fixture_await_log(it_fixture, "does not wait", 30000), 0);
	give_back();
	continue_server();
	close(descriptor);
	script_detach(&client);
	assert_recovered();
}
END_TEST

START_TEST(released_meanwhile)
{
	int sock;

	begin(NULL);
	stop_server();
	sock = ask_and_await(&claim);
	give_back();
	script_expect_error(sock, "55000", "the lease has ended");
	continue_server();
	close(descriptor);
	script_detach(&client);
	assert_recovered();
}
END_TEST

START_TEST(asked_again_meanwhile)
{
	int first, second;

	begin(NULL);
	stop_server();
	first = ask_and_await(&claim);
	second = ask(&claim);
	script_expect_error(first, "55000", "another PQreset");
	close(descriptor);
	continue_server();
	expect_renewed(second);
	ck_assert_uint_eq(script_counter(&client, COUNTER_OPENED), 2);
	close(descriptor);
	script_release(&client, &claim);
	script_detach(&client);
	assert_recovered();
}
END_TEST

START_TEST(drained_meanwhile)
{
	pglease_stats stats;
	pglease_pool *pool;
	int sock;

	begin(NULL);
	pool = it_attach();
	stop_server();
	sock = ask_and_await(&claim);
	ck_assert_int_eq(pglease_drain(it_client(), "app", 0), PGLEASE_ETIMEOUT);
	close(descriptor);
	continue_server();
	expect_welcome(sock, NULL);
	descriptor = script_take_descriptor(sock);
	assert_serves(descriptor);
	ck_assert_uint_eq(flags(), SLOT_RETIRE);
	give_back();
	it_ok(pglease_drain(it_client(), "app", 20000));
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.total, 0);
	assert_fenced(descriptor);
	it_ok(pglease_resume(it_client(), "app"));
	script_detach(&client);
	pglease_detach(it_client());
	assert_recovered();
}
END_TEST

START_TEST(the_broker_is_stopped_meanwhile)
{
	struct fixture_pool pool = {.name = "app", .min = 1, .max = 1};
	struct fixture_options options = {.pools = &pool, .npools = 1, .extra = "drain_timeout = 0"};
	int sock;

	ck_assert_msg(fixture_start(&options, &it_fixture) == 0, "%s", fixture_error());
	script_attach(&client);
	script_lease(&client, &claim);
	adopt(&client, &claim);
	stop_server();
	sock = ask_and_await(&claim);
	ck_assert_msg(fixture_broker_stop(it_fixture) == 0, "%s", fixture_error());
	script_expect_error(sock, "57P01", "the broker is stopping");
	continue_server();
	assert_fenced(descriptor);
}
END_TEST

/* What the old connection was wanted back for means nothing to the other one. */
START_TEST(over_age)
{
	begin("max_lifetime = 3s");
	await_word(is_retired, "wanted back");
	expect_renewed(ask(&claim));
	close(descriptor);
	script_release(&client, &claim);
	script_detach(&client);
}
END_TEST

START_TEST(a_cancel_is_in_flight)
{
	struct script_packet p;
	int sock, cancel;
	uint32_t key, pid;

	begin(NULL);
	sock = ask(&claim);
	expect_welcome(sock, &key);
	claim.generation = generation();
	close(descriptor);
	descriptor = script_take_descriptor(sock);
	pid = atomic_load(&client.seg.slot[claim.slot].server_pid);
	stop_server();
	script_cancel(&p, pid, &key, sizeof(key));
	cancel = script_connect_adopt();
	script_send_packet(cancel, &p);
	await_word(is_cancelling, "being cancelled");
	sock = ask_and_await(&claim);
	ck_assert_uint_eq(flags(), SLOT_RETIRE);
	close(descriptor);
	continue_server();
	expect_renewed(sock);
	script_expect_end(cancel);
	ck_assert_uint_eq(script_counter(&client, COUNTER_CANCELS), 1);
	close(descriptor);
	script_release(&client, &claim);
	script_detach(&client);
	assert_recovered();
}
END_TEST

/* The word is not what the lessee may make of it: the slot is taken back, whatever it says. */
START_TEST(the_word_is_scribbled_over)
{
	static const unsigned states[][2] = {{SLOT_EMPTY, 0}, {SLOT_BROKER, 0}, {SLOT_IDLE, 0}, {SLOT_GRANTED, 0},
	    {SLOT_RETURNED, SLOT_CANCELLING}, {SLOT_NSTATES, 0xf}, {15, 0xf}};

	begin(NULL);
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		int sock;

		stop_server();
		sock = ask_and_await(&claim);
		atomic_store(&client.seg.slot[claim.slot].word,
		    word_pack(states[i][0], states[i][1], client.row, claim.sequence));
		script_expect_error(sock, "55000", "the lease has ended");
		assert_fenced(descriptor);
		continue_server();
		script_lease(&client, &claim);
		adopt(&client, &claim);
	}
	close(descriptor);
	script_release(&client, &claim);
	script_detach(&client);
	assert_recovered();
}
END_TEST

IT_MAIN("renewal", byte_for_byte, in_other_pieces, nobody_else_may, nobody_may_whose_lease_is_over,
    no_other_process_may, the_server_refuses, the_server_does_not_answer, the_lessee_is_killed, the_lessee_is_detached,
    abandoned_and_asked_again, abandoned_and_released, released_meanwhile, asked_again_meanwhile, drained_meanwhile,
    the_broker_is_stopped_meanwhile, over_age, a_cancel_is_in_flight, the_word_is_scribbled_over)

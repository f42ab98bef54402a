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
#include "renewal.h"
#include "rows.h"
#include "slots.h"

START_TEST(byte_for_byte)
{
	uint32_t pid;
	uint64_t late;
	int old;

	renewal_begin(NULL);
	for (unsigned i = 0; i < 3; i++) {
		_Atomic uint64_t *session = &renewal.client.seg.slot[renewal.claim.slot].session;

		old = renewal.descriptor;
		/* What a lessee may store too late, that has read an answer of the old connection's. */
		late = atomic_load(session) + 1;
		pid = atomic_load(&renewal.client.seg.slot[renewal.claim.slot].server_pid);
		renewal_expect_renewed(renewal_ask(&renewal.claim));
		ck_assert_uint_ne(atomic_load(&renewal.client.seg.slot[renewal.claim.slot].server_pid), pid);
		renewal_assert_fenced(old);
		ck_assert_uint_gt(atomic_load(session), late);
	}
	ck_assert_uint_eq(script_counter(&renewal.client, COUNTER_CLOSED_RENEWED), 3);
	ck_assert_uint_eq(script_counter(&renewal.client, COUNTER_OPENED), 4);
	ck_assert_uint_eq(script_counter(&renewal.client, COUNTER_ADOPTIONS_REFUSED), 0);
	/* Generation and sequence are those of its adoption, or whatever. */
	renewal.claim.word = slot_load(&renewal.client.seg, renewal.claim.slot);
	{
		struct script_claim old_claim = renewal.claim;

		old_claim.sequence = 1;
		old_claim.generation = 0;
		renewal_expect_renewed(renewal_ask(&old_claim));
	}
	script_release(&renewal.client, &renewal.claim);
	close(renewal.descriptor);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

/* Single bytes; and the request for the descriptor before there is one. */
START_TEST(in_other_pieces)
{
	struct script_packet p;
	int sock;

	renewal_begin(NULL);
	script_claim_packet(&p, SCRIPT_3_0, &renewal.claim);
	sock = script_connect_adopt();
	for (size_t i = 0; i < p.size; i++)
		script_send(sock, p.bytes + i, 1);
	close(renewal.descriptor);
	renewal_expect_renewed(sock);
	renewal_stop_server();
	close(renewal.descriptor);
	sock = renewal_ask_and_await(&renewal.claim);
	script_send(sock, WIRE_FD_REQUEST, strlen(WIRE_FD_REQUEST));
	renewal_continue_server();
	renewal_expect_welcome(sock, NULL);
	ck_assert_int_eq(script_answer(sock, &renewal.descriptor), WIRE_FD_OK);
	renewal_assert_serves(renewal.descriptor);
	close(renewal.descriptor);
	script_expect_end(sock);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

static void
assert_refused(const struct script_claim *wrong, const char *sqlstate, const char *word)
{
	script_expect_error(renewal_ask(wrong), sqlstate, word);
	/* Nothing has happened to the holder. */
	ck_assert_uint_eq(slot_load(&renewal.client.seg, renewal.claim.slot), renewal.claim.word);
	ck_assert_uint_eq(renewal_generation(), renewal.claim.generation);
	renewal_assert_serves(renewal.descriptor);
}

START_TEST(nobody_else_may)
{
	struct script_client other;
	struct script_claim wrong, others;

	it_start(2, 2, NULL);
	script_attach(&renewal.client);
	script_attach(&other);
	script_lease(&other, &others);
	renewal_adopt(&other, &others);
	close(renewal.descriptor);
	script_lease(&renewal.client, &renewal.claim);
	renewal_adopt(&renewal.client, &renewal.claim);
	/* Who does not hold the slot, as itself and as the holder. */
	wrong = others;
	wrong.slot = renewal.claim.slot;
	assert_refused(&wrong, "55000", "acquire again");
	wrong = renewal.claim;
	wrong.client = others.client;
	assert_refused(&wrong, "28000", "attach");
	wrong = renewal.claim;
	memcpy(wrong.nonce, others.nonce, sizeof(wrong.nonce));
	assert_refused(&wrong, "28000", "attach");
	wrong = renewal.claim;
	wrong.nonce[WIRE_NONCE - 1] ^= 1;
	assert_refused(&wrong, "28000", "attach");
	/* The holder, for another slot, or none. */
	wrong = renewal.claim;
	wrong.slot = others.slot;
	assert_refused(&wrong, "55000", "acquire again");
	wrong.slot = renewal.claim.slot + others.slot + 1;
	assert_refused(&wrong, "55000", "acquire again");
	/* An attempt that was not the one that was served: it is an adoption, of a lease that is over. */
	wrong = renewal.claim;
	wrong.sequence--;
	for (unsigned i = 0; i < 3; i++) {
		wrong.attempt = (const uint64_t[]){ATTEMPT - 1, ATTEMPT + 1, UINT64_MAX}[i];
		assert_refused(&wrong, "55000", "acquire again");
	}
	ck_assert_uint_eq(script_counter(&renewal.client, COUNTER_CLOSED_RENEWED), 0);
	ck_assert_uint_eq(script_counter(&renewal.client, COUNTER_OPENED), 2);
	/* One who has gone. */
	script_release(&other, &others);
	script_detach(&other);
	script_attach(&other);
	script_lease(&other, &wrong);
	ck_assert_uint_eq(wrong.slot, others.slot);
	script_expect_error(renewal_ask(&others), "28000", "attach");
	/* The next one, which has adopted nothing. */
	wrong.attempt = ATTEMPT;
	wrong.sequence--;
	assert_refused(&wrong, "55000", "acquire again");
	ck_assert_uint_eq(script_counter(&renewal.client, COUNTER_CLOSED_RENEWED), 0);
	close(renewal.descriptor);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
	script_detach(&other);
}
END_TEST

START_TEST(nobody_may_whose_lease_is_over)
{
	renewal_begin(NULL);
	script_release(&renewal.client, &renewal.claim);
	script_expect_error(renewal_ask(&renewal.claim), "55000", "acquire again");
	ck_assert_uint_eq(script_counter(&renewal.client, COUNTER_CLOSED_RENEWED), 0);
	close(renewal.descriptor);
	/* In the next lease the connection was not adopted again: the attempt is still good. */
	script_lease(&renewal.client, &renewal.claim);
	renewal.claim.attempt = ATTEMPT;
	renewal_expect_renewed(renewal_ask(&renewal.claim));
	close(renewal.descriptor);
	renewal_give_back();
	script_expect_error(renewal_ask(&renewal.claim), "55000", "acquire again");
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

/* A forked child, which has the nonce. */
static void
child(int socket, const void *arg)
{
	script_expect_error(renewal_ask(&renewal.claim), "28000", "another process");
	it_say(socket, 'd');
}

START_TEST(no_other_process_may)
{
	struct it_worker worker;

	renewal_begin(NULL);
	worker = it_worker(child, NULL);
	it_hear(worker.socket, 'd');
	it_join(&worker);
	ck_assert_uint_eq(slot_load(&renewal.client.seg, renewal.claim.slot), renewal.claim.word);
	renewal_assert_serves(renewal.descriptor);
	close(renewal.descriptor);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
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

	renewal_begin(NULL);
	snprintf(conninfo, sizeof(conninfo), "%s user=helper", pglease_test_conninfo(it_env));
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		PGconn *helper;

		if (i == 0)
			ck_assert_int_eq(pglease_test_sql(it_env, reasons[i][0], NULL, 0), 0);
		helper = PQconnectdb(conninfo);
		if (i != 0)
			it_query(helper, reasons[i][0]);
		for (unsigned n = 0; n < 2; n++) {
			script_expect_error(renewal_ask(&renewal.claim), reasons[i][1], reasons[i][2]);
			ck_assert_uint_eq(
			    slot_load(&renewal.client.seg, renewal.claim.slot), word_with_flags(renewal.claim.word, SLOT_RETIRE));
			ck_assert_uint_eq(renewal_generation(), renewal.claim.generation);
		}
		renewal_assert_fenced(renewal.descriptor);
		it_query(helper, reasons[i][3]);
		PQfinish(helper);
		renewal_expect_renewed(renewal_ask(&renewal.claim));
	}
	close(renewal.descriptor);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

START_TEST(the_server_does_not_answer)
{
	renewal_begin("connect_timeout = 1s");
	renewal_stop_server();
	script_expect_error(renewal_ask(&renewal.claim), "08001", "no answer within connect_timeout");
	renewal_continue_server();
	renewal_assert_fenced(renewal.descriptor);
	renewal_expect_renewed(renewal_ask(&renewal.claim));
	close(renewal.descriptor);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

/* Attaches, adopts, asks, and is killed. */
static void
lessee(int socket, const void *arg)
{
	script_attach(&renewal.client);
	script_lease(&renewal.client, &renewal.claim);
	renewal_adopt(&renewal.client, &renewal.claim);
	it_say(socket, 'a');
	it_hear(socket, 'r');
	renewal_ask(&renewal.claim);
	it_hear(socket, 'q');
}

START_TEST(the_lessee_is_killed)
{
	struct it_worker worker;

	it_start(1, 1, NULL);
	worker = it_worker(lessee, NULL);
	it_hear(worker.socket, 'a');
	script_attach(&renewal.client);
	while (word_state(slot_load(&renewal.client.seg, renewal.claim.slot)) != SLOT_LEASED)
		ck_assert_uint_lt(++renewal.claim.slot, renewal.client.seg.nslots);
	renewal_stop_server();
	it_say(worker.socket, 'r');
	ck_assert_int_eq(pglease_test_await_log(it_env, "asked for another", 30000), 0);
	it_kill(&worker);
	renewal_await_word(renewal_is_not_leased, "taken back");
	renewal_continue_server();
	script_detach(&renewal.client);
	it_await_published("app", "revoked_death", 1);
	renewal_assert_recovered();
}
END_TEST

START_TEST(the_lessee_is_detached)
{
	int sock;

	renewal_begin(NULL);
	renewal_stop_server();
	sock = renewal_ask_and_await(&renewal.claim);
	close(renewal.client.control);
	script_expect_error(sock, "55000", "the lease has ended");
	renewal_await_word(renewal_is_not_leased, "taken back");
	script_expect_error(renewal_ask(&renewal.claim), "28000", "attach");
	renewal_continue_server();
	renewal_assert_fenced(renewal.descriptor);
	renewal_assert_recovered();
	it_await_published("app", "revoked_detach", 1);
}
END_TEST

START_TEST(the_lease_is_revoked)
{
	int sock;

	renewal_begin(NULL);
	renewal_stop_server();
	sock = renewal_ask_and_await(&renewal.claim);
	ck_assert_int_eq(it_ctl("revoke", "app/0", NULL), 0);
	script_expect_error(sock, "55000", "the lease has ended");
	script_expect_error(renewal_ask(&renewal.claim), "55000", "acquire again");
	renewal_continue_server();
	renewal_assert_fenced(renewal.descriptor);
	script_detach(&renewal.client);
	it_await_published("app", "revoked_admin", 1);
	renewal_assert_recovered();
}
END_TEST

/* When there is no connection. */
START_TEST(the_lease_is_revoked_after_a_failure)
{
	renewal_begin("connect_timeout = 1s");
	renewal_stop_server();
	script_expect_error(renewal_ask(&renewal.claim), "08001", "no answer within connect_timeout");
	ck_assert_uint_eq(renewal_flags(), SLOT_RETIRE);
	ck_assert_int_eq(it_ctl("revoke", "app/0", NULL), 0);
	script_expect_error(renewal_ask(&renewal.claim), "55000", "acquire again");
	renewal_continue_server();
	close(renewal.descriptor);
	script_detach(&renewal.client);
	it_await_published("app", "revoked_admin", 1);
	renewal_assert_recovered();
}
END_TEST

START_TEST(abandoned_and_asked_again)
{
	renewal_begin(NULL);
	renewal_stop_server();
	for (unsigned i = 0; i < 2; i++) {
		close(i == 0 ? renewal_ask_and_await(&renewal.claim) : renewal_ask(&renewal.claim));
		ck_assert_int_eq(pglease_test_await_log(it_env, "does not wait", 30000), 0);
		ck_assert_uint_eq(slot_load(&renewal.client.seg, renewal.claim.slot), word_with_flags(renewal.claim.word, SLOT_RETIRE));
	}
	renewal_assert_fenced(renewal.descriptor);
	renewal_continue_server();
	renewal_expect_renewed(renewal_ask(&renewal.claim));
	/* When it is made already, it is an ordinary lease that has not fetched its descriptor. */
	close(renewal.descriptor);
	close(renewal_ask(&renewal.claim));
	renewal_expect_renewed_after_abandoned(renewal_ask(&renewal.claim));
	close(renewal.descriptor);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

START_TEST(abandoned_and_released)
{
	renewal_begin(NULL);
	renewal_stop_server();
	close(renewal_ask_and_await(&renewal.claim));
	ck_assert_int_eq(pglease_test_await_log(it_env, "does not wait", 30000), 0);
	renewal_give_back();
	renewal_continue_server();
	close(renewal.descriptor);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

START_TEST(released_meanwhile)
{
	int sock;

	renewal_begin(NULL);
	renewal_stop_server();
	sock = renewal_ask_and_await(&renewal.claim);
	renewal_give_back();
	script_expect_error(sock, "55000", "the lease has ended");
	renewal_continue_server();
	close(renewal.descriptor);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

START_TEST(asked_again_meanwhile)
{
	int first, second;

	renewal_begin(NULL);
	renewal_stop_server();
	first = renewal_ask_and_await(&renewal.claim);
	second = renewal_ask(&renewal.claim);
	script_expect_error(first, "55000", "another PQreset");
	close(renewal.descriptor);
	renewal_continue_server();
	renewal_expect_renewed(second);
	ck_assert_uint_eq(script_counter(&renewal.client, COUNTER_OPENED), 2);
	close(renewal.descriptor);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

START_TEST(drained_meanwhile)
{
	pglease_stats stats;
	pglease_pool *pool;
	int sock;

	renewal_begin(NULL);
	pool = it_attach();
	renewal_stop_server();
	sock = renewal_ask_and_await(&renewal.claim);
	ck_assert_int_eq(pglease_drain(it_client(), "app", 0), PGLEASE_ETIMEOUT);
	close(renewal.descriptor);
	renewal_continue_server();
	renewal_expect_welcome(sock, NULL);
	renewal.descriptor = script_take_descriptor(sock);
	renewal_assert_serves(renewal.descriptor);
	ck_assert_uint_eq(renewal_flags(), SLOT_RETIRE);
	renewal_give_back();
	it_ok(pglease_drain(it_client(), "app", 20000));
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.total, 0);
	renewal_assert_fenced(renewal.descriptor);
	it_ok(pglease_resume(it_client(), "app"));
	script_detach(&renewal.client);
	pglease_detach(it_client());
	renewal_assert_recovered();
}
END_TEST

START_TEST(the_broker_is_stopped_meanwhile)
{
	pglease_test_pool pool = {.name = "app", .min = 1, .max = 1};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(
	    .pools = &pool, .npools = 1, .extra = "drain_timeout = 0", .no_leak_check = true);
	int sock;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	script_attach(&renewal.client);
	script_lease(&renewal.client, &renewal.claim);
	renewal_adopt(&renewal.client, &renewal.claim);
	renewal_stop_server();
	sock = renewal_ask_and_await(&renewal.claim);
	ck_assert_msg(pglease_test_broker_stop(it_env) == 0, "%s", pglease_test_error_message());
	script_expect_error(sock, "57P01", "the broker is stopping");
	renewal_continue_server();
	renewal_assert_fenced(renewal.descriptor);
}
END_TEST

/* What the old connection was wanted back for means nothing to the other one. */
START_TEST(over_age)
{
	renewal_begin("max_lifetime = 3s");
	renewal_await_word(renewal_is_retired, "wanted back");
	renewal_expect_renewed(renewal_ask(&renewal.claim));
	close(renewal.descriptor);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
}
END_TEST

START_TEST(a_cancel_is_in_flight)
{
	struct script_packet p;
	int sock, cancel;
	uint32_t key, pid;

	renewal_begin(NULL);
	sock = renewal_ask(&renewal.claim);
	renewal_expect_welcome(sock, &key);
	renewal.claim.generation = renewal_generation();
	close(renewal.descriptor);
	renewal.descriptor = script_take_descriptor(sock);
	pid = atomic_load(&renewal.client.seg.slot[renewal.claim.slot].server_pid);
	renewal_stop_server();
	script_cancel(&p, pid, &key, sizeof(key));
	cancel = script_connect_adopt();
	script_send_packet(cancel, &p);
	renewal_await_word(renewal_is_cancelling, "being cancelled");
	sock = renewal_ask_and_await(&renewal.claim);
	ck_assert_uint_eq(renewal_flags(), SLOT_RETIRE);
	close(renewal.descriptor);
	renewal_continue_server();
	renewal_expect_renewed(sock);
	script_expect_end(cancel);
	ck_assert_uint_eq(script_counter(&renewal.client, COUNTER_CANCELS), 1);
	close(renewal.descriptor);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

/* The word is not what the lessee may make of it: the slot is taken back, whatever it says. */
START_TEST(the_word_is_scribbled_over)
{
	static const unsigned states[][2] = {{SLOT_EMPTY, 0}, {SLOT_BROKER, 0}, {SLOT_IDLE, 0}, {SLOT_GRANTED, 0},
	    {SLOT_RETURNED, SLOT_CANCELLING}, {SLOT_NSTATES, 0xf}, {15, 0xf}};

	renewal_begin(NULL);
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		int sock;

		renewal_stop_server();
		sock = renewal_ask_and_await(&renewal.claim);
		atomic_store(&renewal.client.seg.slot[renewal.claim.slot].word,
		    word_pack(states[i][0], states[i][1], renewal.client.row, renewal.claim.sequence));
		script_expect_error(sock, "55000", "the lease has ended");
		renewal_assert_fenced(renewal.descriptor);
		renewal_continue_server();
		script_lease(&renewal.client, &renewal.claim);
		renewal_adopt(&renewal.client, &renewal.claim);
	}
	close(renewal.descriptor);
	script_release(&renewal.client, &renewal.claim);
	script_detach(&renewal.client);
	renewal_assert_recovered();
}
END_TEST

IT_MAIN("renewal", byte_for_byte, in_other_pieces, nobody_else_may, nobody_may_whose_lease_is_over,
    no_other_process_may, the_server_refuses, the_server_does_not_answer, the_lessee_is_killed,
    the_lessee_is_detached, the_lease_is_revoked, the_lease_is_revoked_after_a_failure,
    abandoned_and_asked_again, abandoned_and_released, released_meanwhile, asked_again_meanwhile,
    drained_meanwhile, the_broker_is_stopped_meanwhile, over_age, a_cancel_is_in_flight,
    the_word_is_scribbled_over)

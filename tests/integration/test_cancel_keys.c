/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a cancel key is good for, asked by a scripted client: the lease that its connection was made in, and nothing else.
 * Whatever is refused looks the same from outside, is counted, and costs the broker next to nothing.
 */
#include <arpa/inet.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "it.h"
#include "raw.h"
#include "slots.h"

#define OTHER_USER 54321
#define GUESSES 20000

static struct script_client client;

/* A sleep that only a cancel ends; one that comes before the server has begun it is lost. */
static void
cancel_until_answered(int fd, const struct raw_key *key)
{
	for (unsigned i = 0; i < 3000 && !raw_is_answered(fd, i == 0 ? 0 : 10); i++)
		raw_cancel(key);
	ck_assert(raw_read_answer(fd));
}

static void
begin(struct script_claim *claim)
{
	it_start(1, 1, NULL);
	script_attach(&client);
	script_lease(&client, claim);
}

static void
finish(struct script_claim *claim)
{
	script_release(&client, claim);
	script_detach(&client);
}

#define assert_counted(forwarded, refused)                                              \
	do {                                                                            \
		ck_assert_uint_eq(script_counter(&client, COUNTER_CANCELS), forwarded); \
		ck_assert_uint_eq(script_counter(&client, COUNTER_CANCELS_REFUSED), refused); \
	} while (0)

START_TEST(accepted_in_one_lease_and_sent_in_the_next)
{
	struct script_claim claim;
	struct raw_key key;
	int fd, late, early, sock;

	begin(&claim);
	fd = raw_adopt(&client, &claim, &key);
	late = raw_connect_accepted();
	early = raw_connect_accepted();
	raw_send_cancel(early, &key);
	script_expect_end(early);
	assert_counted(1, 0);
	script_release(&client, &claim);
	/* The first one's flag has cost the slot a reset by the broker: the connection is the same. */
	script_lease(&client, &claim);
	ck_assert_uint_eq(claim.generation, atomic_load(&client.seg.slot[claim.slot].generation));
	sock = raw_connect_accepted();
	raw_start_query(fd, "select pg_sleep(600)");
	raw_send_cancel(late, &key);
	script_expect_end(late);
	assert_counted(1, 1);
	ck_assert(!raw_is_answered(fd, 0));
	/* One of this lease does, and so does one whose first packet asked for encryption. */
	raw_send_cancel(sock, &key);
	script_expect_end(sock);
	assert_counted(2, 1);
	cancel_until_answered(fd, &key);
	close(fd);
	finish(&claim);
}
END_TEST

/* Between the swap that makes a lease and its beginning the application has none to cancel. */
START_TEST(before_the_lease_has_begun)
{
	struct script_claim claim;
	struct raw_key key;
	uint64_t begun;
	int fd;

	begin(&claim);
	fd = raw_adopt(&client, &claim, &key);
	begun = atomic_load(&client.seg.slot[claim.slot].leased_at);
	script_release(&client, &claim);
	script_lease(&client, &claim);
	atomic_store(&client.seg.slot[claim.slot].leased_at, begun);
	raw_cancel(&key);
	assert_counted(0, 1);
	atomic_store(&client.seg.slot[claim.slot].leased_at, clock_ns());
	raw_cancel(&key);
	assert_counted(1, 1);
	close(fd);
	finish(&claim);
}
END_TEST

START_TEST(the_next_lessee_is_another_client)
{
	struct script_client other;
	struct script_claim claim, theirs;
	struct raw_key key, their_key;
	int fd, their_fd, late;

	begin(&claim);
	script_attach(&other);
	fd = raw_adopt(&client, &claim, &key);
	late = raw_connect_accepted();
	script_release(&client, &claim);
	script_lease(&other, &theirs);
	their_fd = raw_adopt(&other, &theirs, &their_key);
	ck_assert_uint_eq(their_key.pid, key.pid);
	ck_assert_uint_ne(their_key.key, key.key);
	raw_start_query(their_fd, "select pg_sleep(600)");
	raw_send_cancel(late, &key);
	script_expect_end(late);
	raw_cancel(&key);
	assert_counted(0, 2);
	ck_assert(!raw_is_answered(their_fd, 0));
	cancel_until_answered(their_fd, &their_key);
	close(fd);
	close(their_fd);
	script_release(&other, &theirs);
	script_detach(&other);
	script_detach(&client);
}
END_TEST

START_TEST(of_an_earlier_generation)
{
	struct script_claim claim;
	struct raw_key old, key;
	int fd;

	begin(&claim);
	close(raw_adopt(&client, &claim, &old));
	/* What is returned without a reason is in doubt: the slot gets another connection. */
	ck_assert(slot_return(&client.seg, claim.slot, &claim.word, 0)); /* S10 */
	script_lease(&client, &claim);
	fd = raw_adopt(&client, &claim, &key);
	ck_assert_uint_ne(key.pid, old.pid);
	ck_assert_uint_ne(key.key, old.key);
	raw_start_query(fd, "select pg_sleep(600)");
	raw_cancel(&old);
	/* Nor is the key any good with the new backend's pid. */
	old.pid = key.pid;
	raw_cancel(&old);
	assert_counted(0, 2);
	ck_assert(!raw_is_answered(fd, 0));
	cancel_until_answered(fd, &key);
	close(fd);
	finish(&claim);
}
END_TEST

static void
cancel_as_other_user(int socket, const void *key)
{
	ck_assert_int_eq(setgroups(0, NULL), 0);
	ck_assert_int_eq(setgid(OTHER_USER), 0);
	ck_assert_int_eq(setuid(OTHER_USER), 0);
	raw_cancel(key);
}

static void
cancel_as_same_user(int socket, const void *key)
{
	raw_cancel(key);
}

static void
become_another_and_cancel(int socket, const void *arg)
{
	struct script_claim claim;
	struct raw_key key;
	uint64_t forwarded;

	script_attach(&client);
	script_lease(&client, &claim);
	close(raw_adopt(&client, &claim, &key));
	forwarded = script_counter(&client, COUNTER_CANCELS);
	cancel_as_other_user(socket, &key);
	assert_counted(forwarded + 1, 1);
	finish(&claim);
}

START_TEST(another_users_request)
{
	struct script_claim claim;
	struct raw_key key;
	struct it_worker worker;
	int fd;

	ck_assert_msg(geteuid() == 0, "this test plays two users: run it as root");
	begin(&claim);
	ck_assert_int_eq(chmod(pglease_test_folder(it_env), 0711), 0);
	fd = raw_adopt(&client, &claim, &key);
	raw_start_query(fd, "select pg_sleep(600)");
	worker = it_worker(cancel_as_other_user, &key);
	it_join(&worker);
	assert_counted(0, 1);
	ck_assert(!raw_is_answered(fd, 0));
	/* A child of the lessee, which has the PGcancel; and a lessee that is another user than when it attached. */
	worker = it_worker(cancel_as_same_user, &key);
	it_join(&worker);
	assert_counted(1, 1);
	cancel_until_answered(fd, &key);
	close(fd);
	finish(&claim);
	worker = it_worker(become_another_and_cancel, NULL);
	it_join(&worker);
}
END_TEST

/* Whoever guesses learns nothing from a key that is right at another time, and keeps nobody waiting. */
START_TEST(guesses)
{
	struct script_claim claim;
	struct raw_key key, guess;
	uint64_t before, after;
	int fd;

	begin(&claim);
	fd = raw_adopt(&client, &claim, &key);
	raw_start_query(fd, "select pg_sleep(600)");
	guess = key;
	before = clock_ns();
	for (unsigned i = 1; i <= GUESSES; i++) {
		guess.key = key.key ^ htonl(i);
		raw_cancel(&guess);
	}
	after = clock_ns();
	printf("# %d guesses, %.1f us each\n", GUESSES, (double)(after - before) / 1e3 / GUESSES);
	assert_counted(0, GUESSES);
	ck_assert(!raw_is_answered(fd, 0));
	cancel_until_answered(fd, &key);
	close(fd);
	finish(&claim);
}
END_TEST

IT_MAIN("cancel_keys", accepted_in_one_lease_and_sent_in_the_next, before_the_lease_has_begun,
    the_next_lessee_is_another_client, of_an_earlier_generation, another_users_request, guesses)

/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a cancel key is good for, asked by a scripted client: the lease that its connection was made in, and nothing else.
 * Whatever is refused looks the same from outside, is counted, and costs the broker next to nothing.
 */
#include <arpa/inet.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "it.h"
#include "script.h"
#include "slots.h"

#define OTHER_USER 54321
#define GUESSES 20000

static struct script_client client;

/* What names a session in a cancel request. */
struct shell_key {
	uint32_t pid, key; /* key: as sent */
};

static int
adopt(const struct script_client *c, const struct script_claim *claim, struct shell_key *ret)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	script_claim_packet(&p, SCRIPT_3_0, claim);
	script_send_packet(sock, &p);
	script_expect_welcome(sock, c, claim, &ret->key);
	ret->pid = atomic_load(&c->seg.slot[claim->slot].server_pid);
	return script_take_descriptor(sock);
}

static void
send_cancel(int sock, const struct shell_key *key)
{
	struct script_packet p;

	script_cancel(&p, key->pid, &key->key, sizeof(key->key));
	script_send_packet(sock, &p);
}

/* The answer is the connection's end: when the server has been told, or at once. */
static void
cancel(const struct shell_key *key)
{
	int sock = script_connect_adopt();

	send_cancel(sock, key);
	script_expect_end(sock);
}

/* A connection that the broker has accepted, for it has answered. libpq 17 and later cancel so, when they want encryption. */
static int
connect_accepted(void)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	script_code(&p, SCRIPT_SSL);
	script_send_packet(sock, &p);
	script_expect(sock, "N", 1);
	return sock;
}

static void
start_query(int fd, const char *sql)
{
	struct script_packet p = {.size = 0};

	script_put(&p, "Q", 1);
	script_put32(&p, (uint32_t)(4 + strlen(sql) + 1));
	script_put_text(&p, sql);
	script_send_packet(fd, &p);
}

static bool
is_answered(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

/* Up to ReadyForQuery. Whether it was cancelled. */
static bool
read_answer(int fd)
{
	static const uint8_t end[] = {'Z', 0, 0, 0, 5, 'I'};
	char answer[2048];
	size_t at = 0;

	while (at < sizeof(end) || memcmp(answer + at - sizeof(end), end, sizeof(end)) != 0) {
		ssize_t n;

		/* Not blocking: that belongs to the connection, and so to all who hold it. */
		ck_assert(is_answered(fd, 30000));
		n = recv(fd, answer + at, sizeof(answer) - at, MSG_DONTWAIT);
		ck_assert_int_gt(n, 0);
		at += (size_t)n;
	}
	return memmem(answer, at, "C57014", 7) != NULL;
}

/* A sleep that only a cancel ends; one that comes before the server has begun it is lost. */
static void
cancel_until_answered(int fd, const struct shell_key *key)
{
	for (unsigned i = 0; i < 3000 && !is_answered(fd, i == 0 ? 0 : 10); i++)
		cancel(key);
	ck_assert(read_answer(fd));
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
	struct shell_key key;
	int fd, late, early, sock;

	begin(&claim);
	fd = adopt(&client, &claim, &key);
	late = connect_accepted();
	early = connect_accepted();
	send_cancel(early, &key);
	script_expect_end(early);
	assert_counted(1, 0);
	script_release(&client, &claim);
	/* The first one's flag has cost the slot a reset by the broker: the connection is the same. */
	script_lease(&client, &claim);
	ck_assert_uint_eq(claim.generation, atomic_load(&client.seg.slot[claim.slot].generation));
	sock = connect_accepted();
	start_query(fd, "select pg_sleep(600)");
	send_cancel(late, &key);
	script_expect_end(late);
	assert_counted(1, 1);
	ck_assert(!is_answered(fd, 0));
	/* One of this lease does, and so does one whose first packet asked for encryption. */
	send_cancel(sock, &key);
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
	struct shell_key key;
	uint64_t begun;
	int fd;

	begin(&claim);
	fd = adopt(&client, &claim, &key);
	begun = atomic_load(&client.seg.slot[claim.slot].leased_at);
	script_release(&client, &claim);
	script_lease(&client, &claim);
	atomic_store(&client.seg.slot[claim.slot].leased_at, begun);
	cancel(&key);
	assert_counted(0, 1);
	atomic_store(&client.seg.slot[claim.slot].leased_at, clock_ns());
	cancel(&key);
	assert_counted(1, 1);
	close(fd);
	finish(&claim);
}
END_TEST

START_TEST(the_next_lessee_is_another_client)
{
	struct script_client other;
	struct script_claim claim, theirs;
	struct shell_key key, their_key;
	int fd, their_fd, late;

	begin(&claim);
	script_attach(&other);
	fd = adopt(&client, &claim, &key);
	late = connect_accepted();
	script_release(&client, &claim);
	script_lease(&other, &theirs);
	their_fd = adopt(&other, &theirs, &their_key);
	ck_assert_uint_eq(their_key.pid, key.pid);
	ck_assert_uint_ne(their_key.key, key.key);
	start_query(their_fd, "select pg_sleep(600)");
	send_cancel(late, &key);
	script_expect_end(late);
	cancel(&key);
	assert_counted(0, 2);
	ck_assert(!is_answered(their_fd, 0));
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
	struct shell_key old, key;
	int fd;

	begin(&claim);
	close(adopt(&client, &claim, &old));
	/* What is returned without a reason is in doubt: the slot gets another connection. */
	ck_assert(slot_return(&client.seg, claim.slot, &claim.word, 0)); /* S10 */
	script_lease(&client, &claim);
	fd = adopt(&client, &claim, &key);
	ck_assert_uint_ne(key.pid, old.pid);
	ck_assert_uint_ne(key.key, old.key);
	start_query(fd, "select pg_sleep(600)");
	cancel(&old);
	/* Nor is the key any good with the new backend's pid. */
	old.pid = key.pid;
	cancel(&old);
	assert_counted(0, 2);
	ck_assert(!is_answered(fd, 0));
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
	cancel(key);
}

static void
cancel_as_same_user(int socket, const void *key)
{
	cancel(key);
}

static void
become_another_and_cancel(int socket, const void *arg)
{
	struct script_claim claim;
	struct shell_key key;
	uint64_t forwarded;

	script_attach(&client);
	script_lease(&client, &claim);
	close(adopt(&client, &claim, &key));
	forwarded = script_counter(&client, COUNTER_CANCELS);
	cancel_as_other_user(socket, &key);
	assert_counted(forwarded + 1, 1);
	finish(&claim);
}

START_TEST(another_users_request)
{
	struct script_claim claim;
	struct shell_key key;
	struct it_worker worker;
	int fd;

	ck_assert_msg(geteuid() == 0, "this test plays two users: run it as root");
	begin(&claim);
	ck_assert_int_eq(chmod(fixture_folder(it_fixture), 0711), 0);
	fd = adopt(&client, &claim, &key);
	start_query(fd, "select pg_sleep(600)");
	worker = it_worker(cancel_as_other_user, &key);
	it_join(&worker);
	assert_counted(0, 1);
	ck_assert(!is_answered(fd, 0));
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
	struct shell_key key, guess;
	uint64_t before, after;
	int fd;

	begin(&claim);
	fd = adopt(&client, &claim, &key);
	start_query(fd, "select pg_sleep(600)");
	guess = key;
	before = clock_ns();
	for (unsigned i = 1; i <= GUESSES; i++) {
		guess.key = key.key ^ htonl(i);
		cancel(&guess);
	}
	after = clock_ns();
	printf("# %d guesses, %.1f us each\n", GUESSES, (double)(after - before) / 1e3 / GUESSES);
	assert_counted(0, GUESSES);
	ck_assert(!is_answered(fd, 0));
	cancel_until_answered(fd, &key);
	close(fd);
	finish(&claim);
}
END_TEST

IT_MAIN("cancel_keys", accepted_in_one_lease_and_sent_in_the_next, before_the_lease_has_begun,
    the_next_lessee_is_another_client, of_an_earlier_generation, another_users_request, guesses)

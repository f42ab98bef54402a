/* SPDX-License-Identifier: PostgreSQL */
/*
 * Pools and clients of the broker without a server: how many connections are asked for and when, an upstream that is
 * down, slot words that clients have written over, and what is left of a process that died.
 */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "alerts.h"
#include "cancels.h"
#include "clients.h"
#include "hangups.h"
#include "maintain.h"
#include "queue.h"
#include "rows.h"
#include "server.h"
#include "slots.h"
#include "unit.h"

static struct pool_context shared;
static struct pool_settings settings_of;
static struct pool *pool;
static struct clients *clients;
static char conninfo[128] = "host=/nonexistent user=u dbname=d";

static void
on_attention(evutil_socket_t fd, short what, void *arg)
{
}

static void
on_hang_up(void *context, uint32_t pool_index, uint32_t slot, uint32_t generation)
{
}

static void
on_cancel(void *context, const struct cancels_ticket *ticket, int sent)
{
}

static void
setup(unsigned min, unsigned max)
{
	struct pool_params params = {
	    .context = &shared,
	    .settings = &settings_of,
	    .conninfo = settings_of.conninfo,
	    .instance = "unit",
	    .instance_id = 1,
	    .max_clients = 3,
	};

	settings_init(SETTING_POOL, &settings_of);
	strcpy(settings_of.name, "app");
	strcpy(settings_of.conninfo, conninfo);
	settings_of.min_connections = min;
	settings_of.max_connections = max;
	shared.base = event_base_new();
	shared.attention = event_new(shared.base, -1, 0, on_attention, NULL);
	ck_assert_int_eq(hangups_new(shared.base, on_hang_up, NULL, &shared.hangups), 0);
	ck_assert_int_eq(cancels_new(shared.base, on_cancel, NULL, &shared.cancels), 0);
	ck_assert_int_eq(pool_new(&params, &pool), 0);
	ck_assert_int_eq(clients_new(shared.base, &pool, 1, 3, &clients), 0);
}

static void
finish(void)
{
	pool_stop(pool);
	clients_free(clients);
	cancels_free(shared.cancels, 1000);
	pool_free(pool);
	hangups_free(shared.hangups);
	event_free(shared.attention);
	event_base_free(shared.base);
}

static uint64_t
count(enum broker_counter counter)
{
	return counter_get(&pool->seg.header->broker_counter[counter]);
}

START_TEST(a_new_pool)
{
	setup(1, 5);
	ck_assert_uint_eq(pool->seg.nslots, 16);
	ck_assert_uint_eq(pool->seg.nrows, 64);
	ck_assert_uint_eq(pool->seg.nclients, 3);
	ck_assert_str_eq(pool->seg.header->user, "u");
	ck_assert_str_eq(pool->seg.header->dbname, "d");
	ck_assert_uint_eq(atomic_load(&pool->seg.header->max_connections), 5);
	ck_assert_uint_eq(atomic_load(&pool->seg.header->grant_after_ns), 1000000);
	ck_assert_uint_eq(pool->nspares, pool->seg.nblocks - pool->seg.nslots);
	finish();
}
END_TEST

START_TEST(an_upstream_that_is_down_is_tried_now_and_then)
{
	uint64_t now;

	setup(2, 5);
	now = clock_ns();
	maintain_pool(pool, clients, now);
	/* One attempt, not two: it failed at once and moved the time of the next. */
	ck_assert_uint_eq(count(COUNTER_OPEN_FAILED), 1);
	ck_assert_uint_eq(pool->open, 0);
	ck_assert_uint_gt(pool->retry_at, now);
	ck_assert_uint_le(pool->retry_at, clock_ns() + 125000000);
	ck_assert_uint_eq(atomic_load(&pool->seg.header->upstream_down), 1);
	ck_assert_ptr_nonnull(strstr(pool->seg.header->upstream_error, "/nonexistent"));
	ck_assert_ptr_null(strchr(pool->seg.header->upstream_error, '\n'));
	maintain_pool(pool, clients, pool->retry_at - 1);
	ck_assert_uint_eq(count(COUNTER_OPEN_FAILED), 1);
	for (unsigned i = 2; i < 20; i++) {
		maintain_pool(pool, clients, pool->retry_at);
		ck_assert_uint_eq(count(COUNTER_OPEN_FAILED), i);
	}
	ck_assert_uint_gt(pool->retry_at, clock_ns() + UINT64_C(7000000000));
	ck_assert_uint_le(pool->retry_at, clock_ns() + UINT64_C(12500000000));
	for (uint32_t i = 0; i < pool->seg.nslots; i++)
		ck_assert_uint_eq(word_state(slot_load(&pool->seg, i)), SLOT_EMPTY);
	finish();
}
END_TEST

/* A connect that fails in a tick does so after the tick's beginning, which is what alerts are judged at. */
START_TEST(an_upstream_that_fails_in_the_tick_is_failing)
{
	static struct instance_settings instance;
	struct alerts_params params = {.settings = &instance, .pools = &pool, .npools = 1};
	struct alerts *alerts;
	struct alert alert;

	setup(2, 5);
	settings_init(SETTING_INSTANCE, &instance);
	settings_of.alert[ALERT_UPSTREAM_DOWN] = UINT64_C(1000000000);
	params.base = shared.base;
	ck_assert_int_eq(alerts_new(&params, &alerts), 0);
	maintain_pool(pool, clients, clock_ns());
	maintain_pool(pool, clients, pool->retry_at);
	ck_assert_uint_eq(count(COUNTER_OPEN_FAILED), 2);
	ck_assert_uint_gt(pool->failed_at, pool->failing_since);
	alerts_tick(alerts, pool->failed_at - 1, 0);
	ck_assert(alert_read(&pool->seg, ALERT_UPSTREAM_DOWN, &alert));
	ck_assert_uint_eq(alert.value, pool->failed_at - pool->failing_since);
	/* So long after the last attempt, somebody would have tried again if it was wanted. */
	alerts_tick(alerts, pool->failed_at + UINT64_C(3600000000000), 0);
	ck_assert(alert_read(&pool->seg, ALERT_UPSTREAM_DOWN, &alert));
	ck_assert_uint_eq(alert.value, 0);
	alerts_free(alerts);
	finish();
}
END_TEST

START_TEST(the_rests_between_attempts_are_the_pools_own)
{
	setup(1, 5);
	settings_of.retry_min = UINT64_C(3000000000);
	settings_of.retry_max = UINT64_C(20000000000);
	maintain_pool(pool, clients, clock_ns());
	ck_assert_uint_gt(pool->retry_at, clock_ns() + UINT64_C(2000000000));
	ck_assert_uint_le(pool->retry_at, clock_ns() + UINT64_C(3750000000));
	for (unsigned i = 0; i < 70; i++)
		maintain_pool(pool, clients, pool->retry_at);
	ck_assert_uint_gt(pool->retry_at, clock_ns() + UINT64_C(14000000000));
	ck_assert_uint_le(pool->retry_at, clock_ns() + UINT64_C(25000000000));
	finish();
}
END_TEST

START_TEST(connects_at_once_bounds_what_is_being_opened)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char top[] = "/tmp/test_pool_XXXXXX";
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);

	/* A server that takes connections and says nothing. */
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.5432", top);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 64), 0);
	snprintf(conninfo, sizeof(conninfo), "host=%s port=5432 user=u dbname=d", top);
	setup(6, 9);
	settings_of.connects_at_once = 3;
	for (unsigned i = 0; i < 4; i++) {
		maintain_pool(pool, clients, clock_ns());
		ck_assert_uint_eq(pool->connecting, 3);
	}
	settings_of.connects_at_once = 100;
	maintain_pool(pool, clients, clock_ns());
	ck_assert_uint_eq(pool->connecting, 6);
	finish();
	close(listener);
	unlink(address.sun_path);
	ck_assert_int_eq(rmdir(top), 0);
}
END_TEST

START_TEST(growth_is_asked_for_by_waiting_only)
{
	uint64_t w;
	int row;

	setup(0, 5);
	maintain_pool(pool, clients, clock_ns());
	ck_assert_uint_eq(count(COUNTER_OPEN_FAILED), 0);
	row = row_claim(&pool->seg, 0, 0, &w);
	ck_assert(row_wait(&pool->seg, (uint32_t)row, &w, clock_ns()));
	ck_assert(queue_enter(&pool->seg, (uint32_t)row, word_seq(w), clock_ns()));
	maintain_pool(pool, clients, clock_ns());
	ck_assert_uint_eq(count(COUNTER_OPEN_FAILED), 1);
	/* While the upstream is down somebody must try it, waiters or not. */
	queue_leave(&pool->seg, (uint32_t)row, word_seq(w));
	ck_assert(row_own(&pool->seg, (uint32_t)row, &w));
	maintain_pool(pool, clients, pool->retry_at);
	ck_assert_uint_eq(count(COUNTER_OPEN_FAILED), 2);
	finish();
}
END_TEST

START_TEST(words_of_empty_slots_that_were_written_over_are_put_right)
{
	setup(0, 5);
	for (unsigned state = 0; state < 16; state++) {
		atomic_store(&pool->seg.slot[3].word, word_pack(state, state, 0xffff - state, 77));
		maintain_pool(pool, clients, clock_ns());
		ck_assert_uint_eq(word_state(slot_load(&pool->seg, 3)), SLOT_EMPTY);
	}
	/* In the middle of opening: the swap fails, the slot is taken back. */
	settings_of.min_connections = 1;
	memset(pool->seg.slot, 0xa5, sizeof(struct slot));
	maintain_pool(pool, clients, clock_ns());
	ck_assert_uint_eq(word_state(slot_load(&pool->seg, 0)), SLOT_EMPTY);
	finish();
}
END_TEST

START_TEST(a_word_names_a_client_or_nobody)
{
	uint64_t w;
	int row;

	setup(0, 5);
	row = row_claim(&pool->seg, 2, 0, &w);
	ck_assert_uint_eq(pool_word_client(pool, word_pack(SLOT_LEASED, 0, (unsigned)row, 1)), 2);
	ck_assert_uint_eq(pool_word_client(pool, word_pack(SLOT_LEASED, 0, (unsigned)row + 1, 1)), WORD_NONE);
	ck_assert_uint_eq(pool_word_client(pool, word_pack(SLOT_LEASED, 0, 0xfffe, 1)), WORD_NONE);
	atomic_store(&pool->seg.row[row].word, word_pack(ROW_OWNED, 0, 3, 1)); /* no such client */
	ck_assert_uint_eq(pool_word_client(pool, word_pack(SLOT_LEASED, 0, (unsigned)row, 1)), WORD_NONE);
	finish();
}
END_TEST

START_TEST(statistics_blocks_run_out_and_come_back)
{
	uint32_t block, last = 0;
	unsigned n = 0;

	setup(0, 5);
	while (pool_block_get(pool, &block)) {
		ck_assert_uint_ge(block, pool->seg.nslots);
		ck_assert_uint_lt(block, pool->seg.nblocks);
		last = block;
		n++;
	}
	ck_assert_uint_eq(n, pool->seg.nblocks - pool->seg.nslots);
	pool_block_put(pool, last);
	ck_assert(pool_block_get(pool, &block));
	ck_assert_uint_eq(block, last);
	finish();
}
END_TEST

static unsigned died;

static void
on_died(void *context)
{
	died++;
}

/*
 * A process, and a descriptor that is readable when it is dead: the end of a pipe that only it holds open. (What a
 * pidfd is to the broker; valgrind does not know pidfds.)
 */
static struct client_params
child(void)
{
	struct client_params params = {.program = "child", .died = on_died};
	int alive[2];

	ck_assert_int_eq(pipe(alive), 0);
	params.pid = fork();
	ck_assert_int_ge(params.pid, 0);
	if (params.pid == 0)
		for (;;)
			pause();
	close(alive[1]);
	params.pidfd = alive[0];
	return params;
}

static void
reap(pid_t pid)
{
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(clients_get_indexes_late_and_incarnations_once)
{
	struct client_params params[4];
	struct client *client[4];
	uint64_t incarnation;

	setup(0, 5);
	for (unsigned i = 0; i < 3; i++) {
		params[i] = child();
		ck_assert_int_eq(clients_attach(clients, &params[i], &client[i]), 0);
		ck_assert_uint_eq(client_index(client[i]), i);
		ck_assert_uint_eq(atomic_load(&pool->seg.client[i].pid), (uint32_t)params[i].pid);
		ck_assert_uint_eq(
		    atomic_load(&pool->seg.client[i].incarnation), client_incarnation(client[i]));
	}
	ck_assert_mem_ne(client_nonce(client[0]), client_nonce(client[1]), WIRE_NONCE);
	params[3] = child();
	ck_assert_int_eq(clients_attach(clients, &params[3], &client[3]), -ENOSPC);
	ck_assert_ptr_null(clients_get(clients, 3));
	ck_assert_ptr_null(clients_get(clients, UINT32_MAX));
	incarnation = client_incarnation(client[1]);
	clients_end(clients, client[1], CLIENT_DETACHED);
	ck_assert_ptr_null(clients_get(clients, 1));
	ck_assert_ptr_null(clients_by_incarnation(clients, incarnation));
	ck_assert_uint_eq(atomic_load(&pool->seg.client[1].incarnation), 0);
	ck_assert_int_eq(clients_attach(clients, &params[3], &client[3]), 0);
	ck_assert_uint_eq(client_index(client[3]), 1);
	ck_assert_uint_ne(client_incarnation(client[3]), incarnation);
	for (unsigned i = 0; i < 4; i++)
		reap(params[i].pid);
	finish();
}
END_TEST

START_TEST(a_death_frees_rows_and_wakes_who_waits)
{
	struct client_params params;
	struct client *client;
	uint64_t mine, other, w;
	int my_row, other_row;

	setup(0, 5);
	params = child();
	ck_assert_int_eq(clients_attach(clients, &params, &client), 0);
	my_row = row_claim(&pool->seg, client_index(client), 0, &mine);
	ck_assert(row_wait(&pool->seg, (uint32_t)my_row, &mine, clock_ns()));
	ck_assert(queue_enter(&pool->seg, (uint32_t)my_row, word_seq(mine), clock_ns()));
	other_row = row_claim(&pool->seg, 2, 0, &other);
	ck_assert(row_wait(&pool->seg, (uint32_t)other_row, &other, clock_ns()));
	ck_assert(queue_enter(&pool->seg, (uint32_t)other_row, word_seq(other), clock_ns()));
	/* A slot granted to the dead, and one that it used last. */
	w = slot_load(&pool->seg, 0);
	ck_assert(slot_take(&pool->seg, 0, &w));
	ck_assert(slot_grant(&pool->seg, 0, &w, (unsigned)my_row, word_seq(mine), 0));
	w = slot_load(&pool->seg, 1);
	ck_assert(slot_take(&pool->seg, 1, &w));
	ck_assert(slot_idle(&pool->seg, 1, &w, client_index(client), SLOT_DIRTY));

	reap(params.pid);
	ck_assert_int_ge(event_base_loop(shared.base, EVLOOP_ONCE), 0); /* the pidfd */
	ck_assert_uint_eq(died, 1);
	ck_assert_ptr_null(clients_get(clients, 0));
	ck_assert_uint_eq(word_state(row_load(&pool->seg, (uint32_t)my_row)), ROW_FREE);
	ck_assert_uint_eq(word_state(row_load(&pool->seg, (uint32_t)other_row)), ROW_WAITING);
	ck_assert_uint_eq(word_state(slot_load(&pool->seg, 0)), SLOT_IDLE);
	w = slot_load(&pool->seg, 1);
	ck_assert_uint_eq(word_who(w), WORD_NONE);
	ck_assert_uint_eq(word_flags(w), SLOT_DIRTY);
	ck_assert_uint_eq(atomic_load(&pool->seg.row[other_row].posted), 1);
	ck_assert_int_eq(sem_trywait(&pool->seg.row[other_row].sem), 0);
	ck_assert_uint_eq(count(COUNTER_GRANTS_REPAIRED), 1);
	finish();
}
END_TEST

START_TEST(a_detached_process_keeps_its_index_until_it_is_dead)
{
	struct client_params params;
	struct client *client, *next;
	uint64_t w, idle;
	int row;

	setup(0, 5);
	params = child();
	ck_assert_int_eq(clients_attach(clients, &params, &client), 0);
	row = row_claim(&pool->seg, 0, 0, &w);
	idle = slot_load(&pool->seg, 1);
	ck_assert(slot_take(&pool->seg, 1, &idle));
	ck_assert(slot_idle(&pool->seg, 1, &idle, 0, SLOT_DIRTY));
	clients_end(clients, client, CLIENT_LOST);
	ck_assert_ptr_null(clients_get(clients, 0));
	ck_assert_ptr_eq(clients_get_detached(clients, 0), client);
	ck_assert_uint_eq(word_state(row_load(&pool->seg, (uint32_t)row)), ROW_OWNED);
	ck_assert_uint_eq(word_who(slot_load(&pool->seg, 1)), 0);
	/* Nobody else gets the index. */
	for (unsigned i = 1; i < 3; i++) {
		struct client_params other = child();

		ck_assert_int_eq(clients_attach(clients, &other, &next), 0);
		ck_assert_uint_eq(client_index(next), i);
		clients_end(clients, next, CLIENT_DETACHED);
		reap(other.pid);
	}
	reap(params.pid);
	ck_assert_int_ge(event_base_loop(shared.base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(died, 0); /* its session had ended before */
	ck_assert_ptr_null(clients_get_detached(clients, 0));
	ck_assert_uint_eq(word_state(row_load(&pool->seg, (uint32_t)row)), ROW_FREE);
	ck_assert_uint_eq(word_who(slot_load(&pool->seg, 1)), WORD_NONE);
	finish();
}
END_TEST

START_TEST(a_closed_pool_wakes_all)
{
	uint64_t w[3];
	int row[3];

	setup(0, 5);
	for (unsigned i = 0; i < 3; i++) {
		row[i] = row_claim(&pool->seg, 0, 0, &w[i]);
		ck_assert(row_wait(&pool->seg, (uint32_t)row[i], &w[i], clock_ns()));
	}
	pool_stop(pool);
	ck_assert_uint_eq(atomic_load(&pool->seg.header->state), SEGMENT_CLOSED);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(sem_trywait(&pool->seg.row[row[i]].sem), 0);
	finish();
}
END_TEST

UNIT_MAIN("pool", a_new_pool, an_upstream_that_is_down_is_tried_now_and_then,
    an_upstream_that_fails_in_the_tick_is_failing, the_rests_between_attempts_are_the_pools_own, connects_at_once_bounds_what_is_being_opened,
    growth_is_asked_for_by_waiting_only, words_of_empty_slots_that_were_written_over_are_put_right,
    a_word_names_a_client_or_nobody, statistics_blocks_run_out_and_come_back,
    clients_get_indexes_late_and_incarnations_once, a_death_frees_rows_and_wakes_who_waits,
    a_detached_process_keeps_its_index_until_it_is_dead, a_closed_pool_wakes_all)

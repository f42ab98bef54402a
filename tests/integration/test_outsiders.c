/* SPDX-License-Identifier: PostgreSQL */
/*
 * What those can do who may do little: outsiders, monitors, the workers of another pool; and what anybody can cost the broker who
 * talks to it without end. With real users, so this must run as root. (Who is let in: test_access.c.)
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "dial.h"
#include "it.h"
#include "paths.h"
#include "pglease_errors.h"
#include "raw.h"
#include "stats.h"
#include "users.h"

static const struct who alice = {ALICE, OTHERS, 0}, bob = {BOB, OTHERS, 0}, monitor = {BOB, CREW, 0};

/* Pool app is Alice's, pool other is Bob's; statistics are the crew's. */
static void
start(const char *more)
{
	static const pglease_test_pool pools[] = {{.name = "app", .min = 2, .max = 2, .extra = "users = 54321"},
	    {.name = "other", .min = 1, .max = 1, .extra = "users = 54322"}};
	char extra[256];
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2, .extra = extra);

	users_need_root();
	snprintf(extra, sizeof(extra), "stats_mode = 0640\nmonitor_group = 54331\n%s", more);
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_int_eq(chmod(pglease_test_folder(it_env), 0711), 0);
}

/* --- Cancels. --- */

static int
send_a_cancel(const void *key)
{
	raw_cancel(key);
	return 0;
}

START_TEST(an_outsider_cancels_nothing)
{
	struct script_client c;
	struct script_claim claim;
	struct raw_key key;
	int fd;

	start("");
	script_attach(&c);
	script_lease(&c, &claim);
	fd = raw_adopt(&c, &claim, &key);
	raw_start_query(fd, "select pg_sleep(120)");
	/* Even with the key, which nobody but its client has. His connection just ends. */
	ck_assert_int_eq(users_as(alice, send_a_cancel, &key), 0);
	ck_assert_int_eq(users_as(bob, send_a_cancel, &key), 0);
	ck_assert_uint_eq(script_counter(&c, COUNTER_CANCELS_REFUSED), 2);
	ck_assert_uint_eq(script_counter(&c, COUNTER_CANCELS), 0);
	ck_assert(!raw_is_answered(fd, 0));
	/* Its own does. */
	raw_cancel(&key);
	ck_assert(raw_read_answer(fd));
	close(fd);
	script_release(&c, &claim);
	script_detach(&c);
}
END_TEST

/* --- A monitor. --- */

/* The code with which attaching is refused. */
static int
attach(const void *argument)
{
	pglease *client;
	int r = pglease_attach(NULL, NULL, &client);

	if (r == 0)
		pglease_detach(client);
	return r;
}

static int
command(const void *verb)
{
	char dir[PATHS_MAX], tried[DIAL_TRIED];
	struct wire_result result;
	int sock;

	ck_assert_int_eq(
	    dial_broker(pglease_test_instance(it_env), pglease_test_socket_dir(it_env), dir, &sock, tried), 0);
	ck_assert_int_eq(command_ask(sock, verb, strcmp(verb, "revoke") == 0 ? "app/0" : "", -1, 0, NULL, NULL, &result), 0);
	close(sock);
	return result.code;
}

static int
read_statistics(const void *argument)
{
	struct stats_snapshot snapshot;
	struct stats_reader *reader;

	if (stats_reader_open(pglease_test_instance(it_env), &reader) != 0)
		return PGLEASE_EPERM;
	ck_assert_int_eq(stats_reader_snapshot(reader, &snapshot), 0);
	ck_assert_uint_eq(stats_view_find(&snapshot, "pools")->nrows, 2);
	stats_snapshot_fini(&snapshot);
	stats_reader_close(reader);
	return 0;
}

/* How many of the instance's objects in /dev/shm he can open so. */
static int
open_objects(const void *flags)
{
	char path[300], start[64];
	struct dirent *entry;
	int n = 0, fd;
	DIR *dir = opendir("/dev/shm");

	ck_assert_ptr_nonnull(dir);
	snprintf(start, sizeof(start), "pglease.%s", pglease_test_instance(it_env));
	while ((entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, start, strlen(start)) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/shm/%s", entry->d_name);
		fd = open(path, *(const int *)flags | O_CLOEXEC);
		if (fd >= 0) {
			close(fd);
			n++;
		} else {
			ck_assert_int_eq(errno, EACCES);
		}
	}
	closedir(dir);
	return -n;
}

/* Whether he gets at what a process has open, or at its memory. */
static int
look_into(const void *pid)
{
	static const char *const names[] = {"fd", "map_files", "mem", "environ", "maps"};
	char path[64];
	int n = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/%s", (int)*(const pid_t *)pid, names[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n += fd >= 0;
		if (fd >= 0)
			close(fd);
	}
	return -n;
}

/* Whether he can put something in the place of the broker's sockets. */
static int
meddle(const void *argument)
{
	char path[PATHS_MAX];
	int n = 0;

	ck_assert_int_eq(paths_control_socket(pglease_test_socket_dir(it_env), path, sizeof(path)), 0);
	n += unlink(path) == 0;
	n += chmod(path, 0777) == 0;
	n += rename(path, "/tmp/pglease-stolen") == 0;
	strcat(path, "x");
	n += open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
	return -n;
}

START_TEST(a_monitor_reads_statistics_and_nothing_else)
{
	static const int reading = O_RDONLY, writing = O_RDWR;
	pid_t broker;

	start("");
	broker = pglease_test_broker_pid(it_env);
	ck_assert_int_eq(users_as(monitor, read_statistics, NULL), 0);
	ck_assert_int_eq(users_as(monitor, open_objects, &reading), -3); /* statistics, and a history for each pool */
	ck_assert_int_eq(users_as(monitor, open_objects, &writing), 0);
	ck_assert_int_eq(users_as(monitor, meddle, NULL), 0);
	ck_assert_int_eq(users_as(monitor, look_into, &broker), 0);
	for (unsigned i = 0; i < command_nverbs; i++)
		ck_assert_int_eq(users_as(monitor, command, command_verbs[i].name), PGLEASE_EPERM);
	/* An outsider not even that. Alice, who is none, is no monitor. */
	ck_assert_int_eq(users_as((struct who){65534, 65534, 0}, attach, NULL), PGLEASE_EPERM);
	ck_assert_int_eq(users_as((struct who){65534, 65534, 0}, read_statistics, NULL), PGLEASE_EPERM);
	ck_assert_int_eq(users_as(alice, read_statistics, NULL), PGLEASE_EPERM);
	ck_assert_int_eq(users_as(alice, open_objects, &reading), 0);
	ck_assert_int_eq(users_as(alice, look_into, &broker), 0);
	ck_assert_int_eq(users_as(alice, meddle, NULL), 0);
}
END_TEST

/* --- Pools of others. --- */

/* Bob's worker: holds the other pool's lease, and says its process's number by being there. */
static void
hold_the_other(int socket, const void *arg)
{
	pglease_lease lease;
	pglease_pool *pool;
	pglease *own;
	PGconn *conn;

	users_become(&bob);
	it_ok(pglease_attach(NULL, NULL, &own));
	it_ok(pglease_pool_open(own, "other", &pool));
	conn = it_acquire(pool, &lease);
	it_say(socket, 'l');
	it_hear(socket, 's');
	ck_assert_str_eq(it_query(conn, "select 7"), "7");
	it_release(&lease);
	pglease_detach(own);
}

static void
refused_by_name(struct script_client *c, enum wire_type type, const char *pool)
{
	struct wire_open question = {.header = {0}};
	struct wire_error answer;
	int fd;

	wire_header_init(&question.header, type);
	snprintf(question.pool, sizeof(question.pool), "%s", pool);
	script_send(c->control, &question, sizeof(question));
	ck_assert_int_eq(wire_recv(c->control, &answer, sizeof(answer), &fd), sizeof(answer));
	ck_assert(wire_is(&answer, sizeof(answer), WIRE_ERROR));
	ck_assert_int_eq(answer.code, PGLEASE_EPERM);
	ck_assert_int_eq(fd, -1);
}

/* A claim that is made up: refused in the start-up. */
static void
claim_refused(const struct script_claim *claim, const char *sqlstate)
{
	struct script_packet p;
	int sock = script_connect_adopt();

	script_claim_packet(&p, SCRIPT_3_0, claim);
	script_send_packet(sock, &p);
	script_expect_error(sock, sqlstate, "");
}

/* What Alice's worker has open and mapped, apart from its own pool's segment: nothing of the other's. */
static unsigned
traces_of_the_other(void)
{
	char line[512];
	unsigned n = 0;
	FILE *maps = fopen("/proc/self/maps", "re");

	ck_assert_ptr_nonnull(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		n += strstr(line, "pglease.") != NULL && strstr(line, "other") != NULL;
	fclose(maps);
	return n;
}

/* Opens by number what it was given, with other rights than it was given it: 0 if it cannot. */
static int
reopen(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_CLOEXEC) >= 0;
}

static int
try_everything(const void *holder)
{
	struct script_client c;
	struct script_claim claim, own;
	struct wire_open question = {.pool = "app"};
	struct wire_pool given;
	struct wire_ask ask = {.pool = 1};
	struct wire_match match;
	struct raw_key key;
	int fd;

	script_attach(&c);
	refused_by_name(&c, WIRE_OPEN, "other");
	refused_by_name(&c, WIRE_HISTORY, "other");
	wire_header_init(&ask.header, WIRE_ASK);
	script_send(c.control, &ask, sizeof(ask));
	ck_assert_int_eq(wire_recv(c.control, &match, sizeof(match), NULL), sizeof(match));
	ck_assert_str_eq(match.pool, "");
	ck_assert_str_eq(match.user, "");
	ck_assert_str_eq(match.host, "");
	/* Its own segment by its own name only, as it was given. */
	wire_header_init(&question.header, WIRE_OPEN);
	script_send(c.control, &question, sizeof(question));
	ck_assert_int_eq(wire_recv(c.control, &given, sizeof(given), &fd), sizeof(given));
	ck_assert_int_eq(reopen(fd), 0);
	close(fd);
	ck_assert_uint_eq(traces_of_the_other(), 0);
	/* A slot of the other pool, by every number that might be right; and by another's name. */
	script_lease(&c, &own);
	claim = own;
	claim.pool = 1;
	for (claim.slot = 0; claim.slot < 3; claim.slot++)
		for (claim.generation = 1; claim.generation < 3; claim.generation++)
			for (claim.sequence = 0; claim.sequence < 12; claim.sequence++)
				claim_refused(&claim, "55000");
	for (claim.client = 0; claim.client < 4; claim.client++)
		if (claim.client != c.welcome.client)
			claim_refused(&claim, "28000");
	claim.slot = WIRE_SLOT_OF_ATTEMPT;
	claim.client = c.welcome.client;
	claim_refused(&claim, "55000");
	/* Bob's process. */
	ck_assert_int_eq(look_into(holder), 0);
	/* All the time its own lease was good. */
	close(raw_adopt(&c, &own, &key));
	script_release(&c, &own);
	script_detach(&c);
	return 0;
}

START_TEST(a_worker_of_one_pool_and_another_pool)
{
	struct it_worker holder;
	pglease_pool *pool;
	pglease_stats stats;

	start("");
	holder = it_worker(hold_the_other, NULL);
	it_hear(holder.socket, 'l');
	ck_assert_int_eq(users_as(alice, try_everything, &holder.pid), 0);
	it_say(holder.socket, 's');
	it_join(&holder);
	it_attach();
	it_ok(pglease_pool_open(it_client(), "other", &pool));
	it_await_all_idle(pool);
	it_ok(pglease_stats_get(pool, &stats));
	ck_assert_uint_eq(stats.opened, 1);
	ck_assert_uint_eq(stats.adoptions, 1);
	ck_assert_uint_eq(stats.revoked, 0);
}
END_TEST

START_TEST(a_ring_for_another_pool_is_nothing)
{
	struct wire_ring ring = {.pool = 1};
	struct wire_open question = {.pool = "nowhere"};
	struct wire_error answer;
	struct script_client c;
	int fd;

	start("");
	script_attach(&c); /* with app open */
	wire_header_init(&ring.header, WIRE_RING);
	script_send(c.control, &ring, sizeof(ring));
	/* The connection goes on: the next question is answered. */
	wire_header_init(&question.header, WIRE_OPEN);
	script_send(c.control, &question, sizeof(question));
	ck_assert_int_eq(wire_recv(c.control, &answer, sizeof(answer), &fd), sizeof(answer));
	ck_assert(wire_is(&answer, sizeof(answer), WIRE_ERROR));
	ck_assert_int_eq(answer.code, PGLEASE_ENOPOOL);
	close(c.control);
	segment_unmap(&c.seg);
}
END_TEST

/* --- What talking without end costs. --- */

#define FLOOD 3000
/* What the broker may have grown by. AddressSanitizer keeps what was freed for a while, up to 256 MB. */
#ifdef __SANITIZE_ADDRESS__
#define MAY_GROW_KB (256 * 1024)
#else
#define MAY_GROW_KB 16384
#endif

static unsigned long
resident_kb(pid_t pid)
{
	char path[64], line[128];
	unsigned long kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "VmRSS: %lu kB", &kb) == 1)
			break;
	fclose(f);
	ck_assert_uint_gt(kb, 0);
	return kb;
}

static int
flood_handshakes(const void *argument)
{
	static const char half[] = {0, 0, 0, 100, 0, 3};

	for (unsigned i = 0; i < FLOOD; i++) {
		int sock = script_connect_adopt();

		(void)send(sock, half, i % sizeof(half), MSG_NOSIGNAL);
		close(sock);
	}
	return 0;
}

static int
flood_cancels(const void *argument)
{
	for (unsigned i = 0; i < FLOOD; i++)
		raw_cancel(&(struct raw_key){.pid = i + 1, .key = i + 1});
	return 0;
}

static int
flood_commands(const void *argument)
{
	for (unsigned i = 0; i < FLOOD / 10; i++)
		ck_assert_int_eq(command("status"), PGLEASE_EPERM);
	return 0;
}

static int
flood_attaching(const void *argument)
{
	for (unsigned i = 0; i < FLOOD / 10; i++)
		ck_assert_int_eq(attach(NULL), PGLEASE_EPERM);
	return 0;
}

/* Of those who may attach: rings, questions, and being there and gone. */
static int
flood_rings(const void *argument)
{
	struct wire_ring ring = {.pool = 0};
	struct wire_ask ask = {.pool = 0};
	struct script_client c;

	script_attach(&c);
	wire_header_init(&ring.header, WIRE_RING);
	for (unsigned i = 0; i < 10 * FLOOD; i++)
		(void)send(c.control, &ring, sizeof(ring), MSG_NOSIGNAL | MSG_DONTWAIT);
	/* Answers that it does not read: it is let go, or told all the same. */
	wire_header_init(&ask.header, WIRE_ASK);
	for (unsigned i = 0; i < FLOOD; i++)
		if (send(c.control, &ask, sizeof(ask), MSG_NOSIGNAL) < 0)
			break;
	close(c.control);
	segment_unmap(&c.seg);
	return 0;
}

static int
flood_attachments(const void *argument)
{
	for (unsigned i = 0; i < FLOOD / 10; i++) {
		struct script_client c;

		script_attach(&c);
		if (i % 2 == 0) {
			script_detach(&c);
			continue;
		}
		close(c.control); /* without a word, with its row */
		segment_unmap(&c.seg);
		if (i % 64 == 63) /* its places are free when the process is dead */
			break;
	}
	return 0;
}

/* All that he may; the other user's place is free all the time. */
static int
take_all_places(const void *argument)
{
	pglease *client, *own[3];

	for (unsigned i = 0; i < 3; i++)
		it_ok(pglease_attach(NULL, NULL, &own[i]));
	ck_assert_int_eq(pglease_attach(NULL, NULL, &client), PGLEASE_ENOCLIENTS);
	ck_assert_msg(strstr(pglease_error_message(), "3 processes of uid 54321") != NULL &&
			  strstr(pglease_error_message(), "max_clients_per_user") != NULL,
	    "%s", pglease_error_message());
	it_say(*(const int *)argument, 'b'); /* Bob's turn */
	it_hear(*(const int *)argument, 'a');
	pglease_detach(own[1]);
	it_ok(pglease_attach(NULL, NULL, &own[1]));
	for (unsigned i = 0; i < 3; i++)
		pglease_detach(own[i]);
	return 0;
}

static void
attach_when_told(int socket, const void *arg)
{
	pglease *own;

	users_become(&bob);
	it_hear(socket, 'b');
	it_ok(pglease_attach(NULL, NULL, &own));
	it_say(socket, 'a');
	pglease_detach(own);
}

START_TEST(a_user_leaves_places_for_others)
{
	struct it_worker other;

	start("max_clients = 4\nmax_clients_per_user = 3\n");
	other = it_worker(attach_when_told, NULL);
	ck_assert_int_eq(users_as(alice, take_all_places, &other.socket), 0);
	it_join(&other);
}
END_TEST

struct expected_files {
	pid_t broker;
	unsigned n;
};

static int
files_are_back(void *context)
{
	const struct expected_files *e = context;

	return it_open_files(e->broker) <= e->n;
}

/* A flood by one user; then the broker has no more open than before, has not grown, and serves. */
static void
after(const char *what, struct who who, users_deed flood)
{
	struct expected_files expected = {.broker = pglease_test_broker_pid(it_env)};
	struct script_client c;
	unsigned long before = resident_kb(expected.broker), now;

	expected.n = it_open_files(expected.broker);
	ck_assert_msg(users_as(who, flood, NULL) == 0, "%s", what);
	script_attach(&c);
	script_detach(&c);
	ck_assert_msg(pglease_test_await(files_are_back, &expected, IT_PATIENCE_MS) == 0, "%s: %u open files, before %u", what,
	    it_open_files(expected.broker), expected.n);
	now = resident_kb(expected.broker);
	ck_assert_msg(now < before + MAY_GROW_KB, "%s: %lu kB, before %lu kB", what, now, before);
}

START_TEST(floods)
{
	static const struct who outsider = {65534, 65534, 0};
	struct it_worker holder;
	pid_t broker;

	start("");
	broker = pglease_test_broker_pid(it_env);
	holder = it_worker(hold_the_other, NULL);
	it_hear(holder.socket, 'l');
	after("half handshakes", outsider, flood_handshakes);
	after("cancels", outsider, flood_cancels);
	after("commands", outsider, flood_commands);
	after("attaching", outsider, flood_attaching);
	after("rings", alice, flood_rings);
	after("attachments", alice, flood_attachments);
	it_say(holder.socket, 's');
	it_join(&holder);
	ck_assert_int_eq(pglease_test_broker_pid(it_env), broker);
}
END_TEST

IT_MAIN("outsiders", an_outsider_cancels_nothing, a_monitor_reads_statistics_and_nothing_else,
    a_worker_of_one_pool_and_another_pool, a_ring_for_another_pool_is_nothing, a_user_leaves_places_for_others, floods)

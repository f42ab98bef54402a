/* SPDX-License-Identifier: PostgreSQL */
/*
 * A broker and workers in containers of their own: each the first process of a PID namespace, all with the number 1, none visible to
 * another; they share the socket folder only. (The statistics in /dev/shm are for the test, which looks from outside.)
 */
#include "it.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spaces.h"
#include "stats.h"

/* Its number is that of the test's own namespace; the keeper made the namespace, and ends as it does. */
struct boxed {
	struct it_worker keeper;
	pid_t pid;
};

static it_body inside;

/* The keeper. */
static void
keep(int socket, const void *arg)
{
	int status;
	pid_t pid;

	spaces_enter(CLONE_NEWPID | CLONE_NEWNS);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ck_assert_int_eq(getpid(), 1);
		ck_assert_msg(mount("proc", "/proc", "proc", 0, NULL) == 0, "a /proc of its own: %s", strerror(errno));
		inside(socket, arg);
		_exit(0);
	}
	ck_assert_int_eq(write(socket, &pid, sizeof(pid)), sizeof(pid));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 255);
}

static struct boxed
box(it_body body, const void *arg)
{
	struct boxed b;

	inside = body;
	b.keeper = it_worker(keep, arg);
	ck_assert_int_eq(recv(b.keeper.socket, &b.pid, sizeof(b.pid), MSG_WAITALL), sizeof(b.pid));
	return b;
}

/* Its exit status; 255: it was killed. */
static int
unbox(struct boxed *b)
{
	int status;

	ck_assert_int_eq(waitpid(b->keeper.pid, &status, 0), b->keeper.pid);
	close(b->keeper.socket);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
be_broker(int socket, const void *arg)
{
	char program[512];
	int out = open(pglease_test_log(it_env), O_WRONLY | O_CREAT | O_APPEND, 0644);

	snprintf(program, sizeof(program), "%s/pgleased", getenv("PGLEASE_BUILDDIR"));
	dup2(out, 1);
	dup2(out, 2);
	close_range(3, ~0u, 0);
	execl(program, program, "-c", pglease_test_config(it_env), (char *)NULL);
	_exit(127);
}

static void
make_environment(const char *instance_extra, const char *pool_extra)
{
	const pglease_test_pool pool = {.name = "app", .min = 1, .max = 2, .extra = pool_extra};
	const pglease_test_options options =
	    PGLEASE_TEST_OPTIONS(.pools = &pool, .npools = 1, .no_broker = true, .extra = instance_extra);

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
}

static struct boxed
start_broker(void)
{
	struct boxed broker = box(be_broker, NULL);

	ck_assert_msg(pglease_test_await_log(it_env, "is ready", IT_PATIENCE_MS) == 0, "%s", pglease_test_error_message());
	return broker;
}

static void
stop_broker(struct boxed *broker)
{
	ck_assert_int_eq(kill(broker->pid, SIGTERM), 0);
	ck_assert_int_eq(unbox(broker), 0);
	ck_assert_int_ne(access(pglease_test_socket_dir(it_env), F_OK), 0);
}

static int
has_attached(void *context)
{
	pglease *client;
	int r = pglease_attach(NULL, NULL, &client);

	if (r == 0)
		*(pglease **)context = client;
	ck_assert_msg(r == 0 || r == PGLEASE_ENOCLIENTS, "%s", pglease_error_message());
	return r == 0;
}

/* Leases, and does as it is told. It attaches as soon as the instance has room for it. */
static void
work(int socket, const void *arg)
{
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	char backend[32], told;

	ck_assert_int_eq(pglease_test_await(has_attached, &client, IT_PATIENCE_MS), 0);
	it_ok(pglease_pool_open(client, "app", &pool));
	it_ok(pglease_acquire(pool, IT_PATIENCE_MS, &lease, &conn));
	snprintf(backend, sizeof(backend), "%s", it_query(conn, "select pg_backend_pid()"));
	it_say(socket, 'L');
	while (recv(socket, &told, 1, 0) == 1) {
		switch (told) {
		case 'q':
			ck_assert_str_eq(it_query(conn, "select pg_backend_pid()"), backend);
			break;
		case 'c':
			ck_assert_int_eq(PQsendQuery(conn, "select pg_sleep(600)"), 1);
			it_cancel(conn);
			break;
		case 'r':
			PQreset(conn);
			ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
			snprintf(backend, sizeof(backend), "%s", it_query(conn, "select pg_backend_pid()"));
			break;
		default:
			it_release(&lease);
			pglease_detach(client);
			return;
		}
		it_say(socket, told);
	}
}

static void
tell(struct boxed *b, char what)
{
	it_say(b->keeper.socket, what);
	it_hear(b->keeper.socket, what);
}

/* What monitors see of the attached processes: how many, and how many of these have no number. */
static void
look(unsigned *ret_clients, unsigned *ret_without)
{
	struct stats_snapshot snapshot;
	struct stats_reader *reader;
	const struct stats_view *view;
	uint64_t pid;

	ck_assert_int_eq(stats_reader_open(pglease_test_instance(it_env), &reader), 0);
	ck_assert_int_eq(stats_reader_snapshot(reader, &snapshot), 0);
	view = stats_view_find(&snapshot, "clients");
	ck_assert_ptr_nonnull(view);
	*ret_clients = view->nrows;
	*ret_without = 0;
	for (uint32_t row = 0; row < view->nrows; row++)
		*ret_without += !stats_value_u64(view, row, stats_column_find(view, "pid"), &pid);
	stats_snapshot_fini(&snapshot);
	stats_reader_close(reader);
}

static int
two_without_numbers(void *context)
{
	unsigned clients, without;

	look(&clients, &without);
	return clients == 2 && without == 2;
}

START_TEST(workers_that_the_broker_cannot_see)
{
	struct boxed broker, first, second, third;

	make_environment("max_clients = 2", NULL);
	broker = start_broker();
	first = box(work, NULL);
	it_hear(first.keeper.socket, 'L');
	second = box(work, NULL);
	it_hear(second.keeper.socket, 'L');
	ck_assert_int_eq(pglease_test_await(two_without_numbers, NULL, IT_PATIENCE_MS), 0);
	/* All that asks who somebody is. */
	tell(&second, 'q');
	tell(&second, 'c');
	tell(&first, 'r');
	/* One dies. What it held comes back, connection and place, and nothing of the other one's. */
	ck_assert_int_eq(kill(first.pid, SIGKILL), 0);
	ck_assert_int_eq(unbox(&first), 255);
	third = box(work, NULL);
	it_hear(third.keeper.socket, 'L');
	tell(&second, 'q');
	tell(&third, 'q');
	/* Nor does another program in the broker's place confuse them. */
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
	tell(&second, 'q');
	tell(&third, 'r');
	ck_assert_int_eq(kill(second.pid, SIGKILL), 0);
	ck_assert_int_eq(unbox(&second), 255);
	second = box(work, NULL);
	it_hear(second.keeper.socket, 'L');
	tell(&third, 'q');
	it_say(second.keeper.socket, '.');
	ck_assert_int_eq(unbox(&second), 0);
	it_say(third.keeper.socket, '.');
	ck_assert_int_eq(unbox(&third), 0);
	stop_broker(&broker);
}
END_TEST

struct orphan {
	pid_t parent, pid;
};

/* A child of this process by the name of `orphan`. */
static int
is_there(void *context)
{
	struct orphan *o = context;
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	o->pid = 0;
	ck_assert_ptr_nonnull(dir);
	while (o->pid == 0 && (entry = readdir(dir)) != NULL) {
		char path[300], text[512] = "";
		int pid, parent, fd;

		if (sscanf(entry->d_name, "%d", &pid) != 1)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read(fd, text, sizeof(text) - 1) > 0 && sscanf(text, "%*d (orphan) %*c %d", &parent) == 1 && parent == o->parent)
			o->pid = pid;
		close(fd);
	}
	closedir(dir);
	return o->pid != 0;
}

static int
is_gone(void *context)
{
	const struct orphan *o = context;

	return kill(o->pid, 0) != 0 && errno == ESRCH;
}

static const char *
write_file(const char *name, const char *text)
{
	static char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", pglease_test_folder(it_env), name);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(path, 0755), 0);
	return path;
}

/* The first process of a namespace gets the children of all who end there: they do not stay as zombies. */
START_TEST(orphans_are_reaped)
{
	struct boxed broker, worker;
	struct orphan orphan;
	char text[512], fifo[256], extra[512];
	int fd;

	make_environment(NULL, "alert_leaks = 1\nleak_threshold = 50ms\nalert_window = 1s\nalert_raise_after = 0");
	snprintf(fifo, sizeof(fifo), "%s/fifo", pglease_test_folder(it_env));
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	snprintf(text, sizeof(text), "#!/bin/sh\nread x <%s\n", fifo);
	write_file("orphan", text);
	snprintf(text, sizeof(text), "#!/bin/sh\n[ $PGLEASE_ALERT_STATE = cleared ] || %s/orphan &\n", pglease_test_folder(it_env));
	snprintf(extra, sizeof(extra), "alert_command=%s", write_file("command", text));
	broker = start_broker();
	ck_assert_int_eq(it_ctl("set", extra, NULL), 0);
	worker = box(work, NULL);
	it_hear(worker.keeper.socket, 'L');
	orphan.parent = broker.pid;
	ck_assert_msg(pglease_test_await(is_there, &orphan, IT_PATIENCE_MS) == 0, "no orphan");
	/* It ends. */
	fd = open(fifo, O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "\n", 1), 1);
	close(fd);
	ck_assert_msg(pglease_test_await(is_gone, &orphan, IT_PATIENCE_MS) == 0, "a zombie");
	it_say(worker.keeper.socket, '.');
	ck_assert_int_eq(unbox(&worker), 0);
	stop_broker(&broker);
}
END_TEST

IT_MAIN("container", workers_that_the_broker_cannot_see, orphans_are_reaped)

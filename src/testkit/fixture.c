/* SPDX-License-Identifier: PostgreSQL */
/* What an integration test stands on. Owns the test's folder, name, configuration and broker. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "upstream.h"
#include "guardian.h"
#include "paths.h"
#include "child.h"

#define READY_LINE "instance %s is ready" /* what pgleased logs, at level info, when it serves */
#define READY_MS 120000 /* an embedded PostgreSQL is created in that time too */
#define STOP_MS 60000
#define RUN_MS 120000

struct fixture {
	char folder[UPSTREAM_PATH], config[UPSTREAM_PATH + 16], log[UPSTREAM_PATH + 16],
	    socket_dir[UPSTREAM_PATH + 16];
	char conninfo[UPSTREAM_PATH + 64], standby_conninfo[UPSTREAM_PATH + 64], instance[48];
	bool has_upstream;
	struct upstream upstream, standby;
	struct child broker;
	struct guardian guardian;
	off_t log_offset;
};

const char *
fixture_error(void)
{
	return child_error();
}

const char *
fixture_instance(const struct fixture *fixture)
{
	return fixture->instance;
}

const char *
fixture_socket_dir(const struct fixture *fixture)
{
	return fixture->socket_dir;
}

const char *
fixture_folder(const struct fixture *fixture)
{
	return fixture->folder;
}

const char *
fixture_config(const struct fixture *fixture)
{
	return fixture->config;
}

const char *
fixture_log(const struct fixture *fixture)
{
	return fixture->log;
}

const char *
fixture_standby_conninfo(const struct fixture *fixture)
{
	return fixture->standby_conninfo;
}

const char *
fixture_conninfo(const struct fixture *fixture)
{
	return fixture->conninfo;
}

pid_t
fixture_broker_pid(const struct fixture *fixture)
{
	return fixture->broker.pid;
}

pid_t
fixture_server_pid(const struct fixture *fixture)
{
	return fixture->upstream.server.pid;
}

static int
make_folder(struct fixture *fixture)
{
	static _Atomic unsigned counter;
	struct child_user user;
	unsigned number;
	int r;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return child_fail(errno, "getrandom: %s", strerror(errno));
	snprintf(fixture->instance, sizeof(fixture->instance), "test-%d-%u-%08x", (int)getpid(),
	    atomic_fetch_add(&counter, 1), number);
	r = child_server_user(&user);
	if (r)
		return r;
	snprintf(fixture->folder, sizeof(fixture->folder), "%s/pglease-XXXXXX", upstream_tmpdir());
	if (mkdtemp(fixture->folder) == NULL)
		return child_fail(
		    errno, "cannot make a folder in %s: %s", upstream_tmpdir(), strerror(errno));
	if (user.switch_user && chown(fixture->folder, user.uid, user.gid))
		return child_fail(errno, "chown %s: %s", fixture->folder, strerror(errno));
	snprintf(fixture->config, sizeof(fixture->config), "%s/pgleased.ini", fixture->folder);
	snprintf(fixture->log, sizeof(fixture->log), "%s/pgleased.log", fixture->folder);
	snprintf(fixture->socket_dir, sizeof(fixture->socket_dir), "%s/run", fixture->folder);
	snprintf(fixture->conninfo, sizeof(fixture->conninfo), "host=%s/pg user=postgres dbname=postgres",
	    fixture->folder);
	return 0;
}

static void
write_pool(FILE *file, const struct fixture *fixture, const struct fixture_pool *pool)
{
	fprintf(file, "\n[pool %s]\n", pool->name);
	if (pool->embedded)
		fputs("embedded = yes\n", file);
	else
		fprintf(file, "conninfo = %s\n", pool->conninfo != NULL ? pool->conninfo : fixture->conninfo);
	if (pool->max != 0)
		fprintf(file, "max_connections = %u\n", pool->max);
	if (pool->min != 0)
		fprintf(file, "min_connections = %u\n", pool->min);
	if (pool->extra != NULL)
		fprintf(file, "%s\n", pool->extra);
}

static int
write_config(const struct fixture *fixture, const struct fixture_options *options)
{
	static const struct fixture_pool app = {.name = "app"};
	FILE *file = fopen(fixture->config, "we");

	if (file == NULL)
		return child_fail(errno, "%s: %s", fixture->config, strerror(errno));
	fprintf(file, "[pglease]\ninstance = %s\nsocket_dir = %s\ndata_dir = %s/embedded\n",
	    fixture->instance, fixture->socket_dir, fixture->folder);
	if (options->extra != NULL)
		fprintf(file, "%s\n", options->extra);
	if (options->npools == 0)
		write_pool(file, fixture, &app);
	for (unsigned i = 0; i < options->npools; i++)
		write_pool(file, fixture, &options->pools[i]);
	if (fclose(file))
		return child_fail(errno, "%s: %s", fixture->config, strerror(errno));
	return 0;
}

int
fixture_start(const struct fixture_options *options, struct fixture **ret_fixture)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	int r;

	if (fixture == NULL)
		return child_fail(ENOMEM, "out of memory");
	fixture->broker.pidfd = fixture->upstream.server.pidfd = fixture->standby.server.pidfd = -1;
	r = make_folder(fixture);
	if (r == 0)
		r = guardian_start(fixture->folder, fixture->instance, &fixture->guardian);
	if (r == 0)
		r = write_config(fixture, options);
	if (r == 0 && !options->no_server)
		r = upstream_create(fixture->folder, &fixture->upstream);
	if (r == 0 && !options->no_server) {
		fixture->has_upstream = true;
		fixture->upstream.replication = options->replication;
		snprintf(fixture->upstream.listen, sizeof(fixture->upstream.listen), "%s",
		    options->listen != NULL ? options->listen : "");
		r = upstream_start(&fixture->upstream, &fixture->guardian);
	}
	if (r == 0 && (setenv("PGLEASE_INSTANCE", fixture->instance, 1) ||
	                  setenv("PGLEASE_SOCKET_DIR", fixture->socket_dir, 1)))
		r = child_fail(errno, "setenv: %s", strerror(errno));
	if (r == 0 && !options->no_broker)
		r = fixture_broker_start(fixture);
	if (r) {
		char reason[1024];

		snprintf(reason, sizeof(reason), "%s", child_error());
		fixture_stop(fixture);
		return child_fail(-r, "%s", reason);
	}
	*ret_fixture = fixture;
	return 0;
}

int
fixture_broker_start(struct fixture *fixture)
{
	const char *builddir = getenv("PGLEASE_BUILDDIR");
	char program[512], line[512] = "", ready[96];
	const char *argv[] = {program, "-c", fixture->config, NULL};
	int r;

	snprintf(program, sizeof(program), "%s/pgleased", builddir != NULL ? builddir : ".");
	r = child_start(argv, fixture->log, NULL, &fixture->broker);
	if (r)
		return r;
	r = guardian_watch(&fixture->guardian, fixture->broker.pid, SIGTERM);
	if (r)
		return r;
	snprintf(ready, sizeof(ready), READY_LINE, fixture->instance);
	r = child_await_line(fixture->log, &fixture->log_offset, ready, &fixture->broker, READY_MS);
	if (r) {
		/* The folder goes with the fixture: tell the end of the log, where the reason is. */
		FILE *log = fopen(fixture->log, "re");

		while (log != NULL && fgets(line, sizeof(line), log) != NULL)
			;
		if (log != NULL)
			fclose(log);
		line[strcspn(line, "\n")] = '\0';
		return child_fail(
		    -r, "pgleased did not get ready (%s); its last line: %s", strerror(-r), line);
	}
	return 0;
}

/* What a broker that stopped cleanly must not have left. */
static int
check_nothing_left(const struct fixture *fixture)
{
	char name[PATHS_MAX], pattern[PATHS_MAX + 16], embedded[UPSTREAM_PATH + 16];
	glob_t found;
	pid_t stray;
	int fd;

	snprintf(embedded, sizeof(embedded), "%s/embedded", fixture->folder);
	stray = child_working_in(embedded);
	if (stray != 0)
		return child_fail(
		    EEXIST, "pgleased left a process of its embedded PostgreSQL: %d", (int)stray);
	if (access(fixture->socket_dir, F_OK) == 0)
		return child_fail(EEXIST, "pgleased left its socket folder %s", fixture->socket_dir);
	if (paths_stats_name(fixture->instance, name, sizeof(name)))
		return child_fail(ENAMETOOLONG, "instance name too long");
	fd = shm_open(name, O_RDONLY, 0);
	if (fd >= 0) {
		close(fd);
		return child_fail(EEXIST, "pgleased left its stats segment %s", name);
	}
	snprintf(pattern, sizeof(pattern), "/dev/shm%s.*", name);
	if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
		child_fail(EEXIST, "pgleased left %s", found.gl_pathv[0]);
		globfree(&found);
		return -EEXIST;
	}
	return 0;
}

int
fixture_broker_stop(struct fixture *fixture)
{
	int r, status;

	r = child_signal(&fixture->broker, SIGTERM);
	if (r == 0)
		r = child_wait(&fixture->broker, STOP_MS, &status);
	if (r == -ETIMEDOUT)
		child_fail(ETIMEDOUT, "pgleased did not stop within %d ms of SIGTERM", STOP_MS);
	if (r)
		return r;
	if (status != 0)
		return child_fail(ECHILD, "pgleased ended with %s %d",
		    WIFSIGNALED(status) ? "signal" : "exit status",
		    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return check_nothing_left(fixture);
}

int
fixture_broker_kill(struct fixture *fixture)
{
	int r, status;

	r = child_signal(&fixture->broker, SIGKILL);
	return r ? r : child_wait(&fixture->broker, STOP_MS, &status);
}

int
fixture_server_start(struct fixture *fixture)
{
	return upstream_start(&fixture->upstream, &fixture->guardian);
}

int
fixture_standby_start(struct fixture *fixture)
{
	int r = upstream_standby(&fixture->upstream, fixture->folder, &fixture->standby);

	if (r)
		return r;
	snprintf(fixture->standby_conninfo, sizeof(fixture->standby_conninfo),
	    "host=%s user=postgres dbname=postgres", fixture->standby.socket_dir);
	return upstream_start(&fixture->standby, &fixture->guardian);
}

int
fixture_server_stop(struct fixture *fixture)
{
	return upstream_stop(&fixture->upstream);
}

int
fixture_stop(struct fixture *fixture)
{
	char reason[1024] = "";
	int r = 0, also;

	if (fixture == NULL)
		return 0;
	if (fixture->broker.pid != 0) {
		r = fixture_broker_stop(fixture);
		if (fixture->broker.pid != 0)
			fixture_broker_kill(fixture);
		if (r)
			snprintf(reason, sizeof(reason), "%s",
			    r == -ETIMEDOUT ? "pgleased did not stop" : child_error());
	}
	also = upstream_stop(&fixture->standby);
	if (also == 0 && fixture->has_upstream)
		also = upstream_stop(&fixture->upstream);
	if (also && r == 0) {
		r = also;
		snprintf(reason, sizeof(reason), "%s", child_error());
	}
	if (fixture->guardian.pid != 0)
		guardian_clean_up(&fixture->guardian);
	free(fixture);
	return r ? child_fail(-r, "%s", reason) : 0;
}

PGconn *
fixture_connect(struct fixture *fixture)
{
	PGconn *conn = PQconnectdb(fixture->conninfo);

	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	child_fail(ECONNREFUSED, "%s", PQerrorMessage(conn));
	PQfinish(conn);
	return NULL;
}

int
fixture_sql(struct fixture *fixture, const char *sql, char *buf, size_t size)
{
	PGconn *conn = fixture_connect(fixture);
	PGresult *result;
	int r = 0;

	if (conn == NULL)
		return -ECONNREFUSED;
	result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		r = child_fail(EINVAL, "%s: %s", sql, PQerrorMessage(conn));
	else if (buf != NULL)
		snprintf(buf, size, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	PQfinish(conn);
	return r;
}

int
fixture_run(struct fixture *fixture, const char *program, const char *const args[])
{
	char path[UPSTREAM_PATH + 64], log[UPSTREAM_PATH + 64], host[UPSTREAM_PATH + 16];
	const char *argv[32] = {"/usr/bin/env", host, "PGUSER=postgres", "PGDATABASE=postgres", path, NULL};
	size_t n = 5;

	snprintf(host, sizeof(host), "PGHOST=%s", fixture->upstream.socket_dir);
	snprintf(path, sizeof(path), "%s/%s", fixture->upstream.bindir, program);
	snprintf(log, sizeof(log), "%s/%s.log", fixture->folder, program);
	for (; *args != NULL; args++) {
		if (n == sizeof(argv) / sizeof(argv[0]) - 1)
			return child_fail(E2BIG, "too many arguments for %s", program);
		argv[n++] = *args;
	}
	return child_run(argv, log, &fixture->upstream.user, RUN_MS);
}

int
fixture_await_log(struct fixture *fixture, const char *text, int timeout_ms)
{
	return child_await_line(fixture->log, &fixture->log_offset, text,
	    fixture->broker.pid != 0 ? &fixture->broker : NULL, timeout_ms);
}

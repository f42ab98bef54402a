/* SPDX-License-Identifier: PostgreSQL */
/*
 * See template.h. A template's folder has: `lock`, held by who makes it; `data`, complete and never changed once it has
 * that name; `spare-N`, used clones, each taken and given back by a rename, which only one can win.
 */
#include "template.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "clone.h"
#include "env_priv.h"

#define FORMAT 1 /* of what initdb is told and the folder holds: another one, another folder */
#define MAX_SPARES 16
#define INITDB_MS 120000

/* FNV-1a, 64 bits */
static uint64_t
hash(uint64_t h, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* The name holds what the template depends on: the user, and (hashed) the server's program and the set-up. */
static int
template_path(const char *bindir, const char *setup, char *buf, size_t size)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	char program[UPSTREAM_PATH + 16];
	int64_t facts[4] = {FORMAT};
	struct stat st;

	snprintf(program, sizeof(program), "%s/postgres", bindir);
	if (stat(program, &st))
		return child_fail(errno, "%s: %s", program, strerror(errno));
	facts[1] = st.st_size;
	facts[2] = st.st_mtim.tv_sec;
	facts[3] = st.st_mtim.tv_nsec;
	h = hash(h, facts, sizeof(facts));
	h = hash(h, program, strlen(program) + 1);
	if (setup != NULL)
		h = hash(h, setup, strlen(setup));
	if (snprintf(buf, size, "%s/pglease-template-%u-%016llx", upstream_tmpdir(), (unsigned)geteuid(),
	        (unsigned long long)h) >= (int)size)
		return child_fail(ENAMETOOLONG, "TMPDIR is too long");
	return 0;
}

static int
run_initdb(const struct upstream *upstream, const char *data, const char *log)
{
	char initdb[UPSTREAM_PATH + 16];
	const char *argv[] = {initdb, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C",
	    "--no-sync", "--no-instructions", "--wal-segsize=1", "-D", data, NULL};

	snprintf(initdb, sizeof(initdb), "%s/initdb", upstream->bindir);
	return child_run_with(argv, log, &upstream->user, NULL, INITDB_MS);
}

/* In a server that runs for this only. */
static int
run_setup(struct upstream *server, const char *setup, const struct guardian *guardian)
{
	char conninfo[UPSTREAM_PATH + 64];
	PGresult *result;
	PGconn *conn;
	int r, stopped;

	r = upstream_start(server, guardian);
	if (r)
		return r;
	snprintf(conninfo, sizeof(conninfo), "host=%s port=5432 user=postgres dbname=postgres", server->socket_dir);
	conn = environ_connect(conninfo, NULL);
	result = PQexec(conn, setup);
	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		r = child_fail(EINVAL, "setup: %s", PQerrorMessage(conn));
	PQclear(result);
	PQfinish(conn);
	stopped = r ? upstream_quit(server) : upstream_stop(server);
	return r ? r : stopped;
}

static int make_template(const struct upstream *upstream, const char *setup, const struct guardian *guardian,
    const char *template);

/* The template, made if it is not there; its data folder goes to `data`. */
static int
have_template(const struct upstream *upstream, const char *setup, const struct guardian *guardian, char *template,
    size_t template_size, char *data, size_t size)
{
	char lock[UPSTREAM_PATH + 16];
	int r, fd;

	r = template_path(upstream->bindir, setup, template, template_size);
	if (r == 0)
		r = upstream_own_folder(template, &upstream->user);
	if (r)
		return r;
	snprintf(data, size, "%s/data", template);
	if (access(data, F_OK) == 0)
		return 0;
	snprintf(lock, sizeof(lock), "%s/lock", template);
	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX))
		r = child_fail(errno, "cannot lock %s: %s", lock, strerror(errno));
	else if (access(data, F_OK) != 0)
		r = make_template(upstream, setup, guardian, template);
	if (fd >= 0)
		close(fd);
	return r;
}

/* With the template locked. One that was not finished has its other name. */
static int
make_template(
    const struct upstream *upstream, const char *setup, const struct guardian *guardian, const char *template)
{
	char data[UPSTREAM_PATH + 16], log[UPSTREAM_PATH + 16], base[UPSTREAM_PATH], base_data[UPSTREAM_PATH + 16];
	struct upstream server = *upstream;
	int r;

	snprintf(data, sizeof(data), "%s/data", template);
	snprintf(log, sizeof(log), "%s/log", template);
	if (snprintf(server.data, sizeof(server.data), "%s/unfinished", template) >= (int)sizeof(server.data))
		return child_fail(ENAMETOOLONG, "TMPDIR is too long");
	server.server = (struct child){.pidfd = -1};
	r = child_remove_tree(server.data);
	if (r == 0 && setup == NULL) {
		r = run_initdb(upstream, server.data, log);
	} else if (r == 0) {
		r = have_template(upstream, NULL, guardian, base, sizeof(base), base_data, sizeof(base_data));
		if (r == 0)
			r = clone_tree_as(&upstream->user, base_data, server.data);
		if (r == 0)
			r = run_setup(&server, setup, guardian);
	}
	if (r == 0 && rename(server.data, data))
		r = child_fail(errno, "cannot rename %s: %s", server.data, strerror(errno));
	return r;
}

int
template_take(struct upstream *upstream, const char *setup, const struct guardian *guardian)
{
	const char *initdb = getenv("PGLEASE_TEST_INITDB");
	char data[UPSTREAM_PATH + 16], spare[UPSTREAM_PATH + 32];
	bool used = false;
	int r;

	if (initdb != NULL && strcmp(initdb, "1") == 0) {
		r = run_initdb(upstream, upstream->data, upstream->log);
		return r == 0 && setup != NULL ? run_setup(upstream, setup, guardian) : r;
	}
	r = have_template(upstream, setup, guardian, upstream->template, sizeof(upstream->template), data, sizeof(data));
	if (r)
		return r;
	for (unsigned i = 0; i < MAX_SPARES && !used; i++) {
		snprintf(spare, sizeof(spare), "%s/spare-%u", upstream->template, i);
		used = rename(spare, upstream->data) == 0;
	}
	r = clone_tree_as(&upstream->user, data, upstream->data);
	if (r && used) {
		/* What an environment left in it is beyond repair. */
		r = child_remove_tree(upstream->data);
		if (r == 0)
			r = clone_tree_as(&upstream->user, data, upstream->data);
	}
	return r;
}

void
template_give_back(const struct upstream *upstream)
{
	char spare[UPSTREAM_PATH + 32];

	if (upstream->template[0] == '\0')
		return;
	for (unsigned i = 0; i < MAX_SPARES; i++) {
		snprintf(spare, sizeof(spare), "%s/spare-%u", upstream->template, i);
		if (rename(upstream->data, spare) == 0 || (errno != ENOTEMPTY && errno != EEXIST))
			return;
	}
}

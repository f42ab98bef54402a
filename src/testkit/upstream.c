/* SPDX-License-Identifier: PostgreSQL */
/* A private PostgreSQL for tests. Owns one server process; its data folder comes from template.c. */
#include "upstream.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "template.h"

#define LONGEST_TMPDIR 40 /* leaves room for our names and the socket's in 107 bytes */
#define COPY_MS 120000
#define START_MS 60000
#define STOP_MS 60000

const char *
upstream_tmpdir(void)
{
	const char *dir = getenv("PGLEASE_TEST_TMPDIR"); /* what TMPDIR was: pglease_test_environment() */

	if (dir == NULL)
		dir = getenv("TMPDIR");
	return dir != NULL && *dir == '/' && strlen(dir) <= LONGEST_TMPDIR ? dir : "/tmp";
}

static int
version_of(const char *bindir)
{
	const char *slash = strstr(bindir, "/postgresql/");

	return slash != NULL ? atoi(slash + strlen("/postgresql/")) : 0;
}

int
upstream_bindir(char *buf, size_t size)
{
	const char *given = getenv("PGLEASE_PG_BINDIR"), *best = NULL;
	glob_t found;
	char path[UPSTREAM_PATH];
	int r = 0;

	if (given != NULL) {
		snprintf(path, sizeof(path), "%s/initdb", given);
		if (access(path, X_OK))
			return child_fail(
			    ENOENT, "PGLEASE_PG_BINDIR is %s, but there is no initdb in it", given);
		snprintf(buf, size, "%s", given);
		return 0;
	}
	if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found))
		return child_fail(ENOENT,
		    "no PostgreSQL server below /usr/lib/postgresql: install postgresql, or set "
		    "PGLEASE_PG_BINDIR");
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (best == NULL || version_of(found.gl_pathv[i]) > version_of(best))
			best = found.gl_pathv[i];
	if (best == NULL ||
	    snprintf(buf, size, "%.*s", (int)(strlen(best) - strlen("/initdb")), best) >= (int)size)
		r = child_fail(ENAMETOOLONG, "the path of PostgreSQL's programs is too long");
	globfree(&found);
	return r;
}

int
upstream_own_folder(const char *path, const struct child_user *user)
{
	char made[UPSTREAM_PATH + 16];
	struct stat st;
	int error = 0;

	/* Under its name only when it is all that it should be: others may look at the same time. */
	snprintf(made, sizeof(made), "%s.XXXXXX", path);
	if (lstat(path, &st) != 0) {
		if (mkdtemp(made) == NULL)
			return child_fail(errno, "cannot make %s: %s", path, strerror(errno));
		if (user->switch_user && chown(made, user->uid, user->gid))
			error = errno;
		else if (rename(made, path) == 0)
			return 0;
		else if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
			error = errno;
		rmdir(made);
		if (error != 0)
			return child_fail(error, "cannot make %s: %s", path, strerror(error));
	}
	if (lstat(path, &st))
		return child_fail(errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != user->uid || (st.st_mode & 077) != 0)
		return child_fail(
		    EPERM, "%s exists, but is not a private folder of this user: remove it", path);
	return 0;
}

int
upstream_create(const char *folder, const char *setup, const struct guardian *guardian, struct upstream *ret)
{
	struct upstream upstream = {.server = {.pidfd = -1}};
	int r;

	r = child_server_user(&upstream.user);
	if (r == 0)
		r = upstream_bindir(upstream.bindir, sizeof(upstream.bindir));
	if (r)
		return r;
	snprintf(upstream.data, sizeof(upstream.data), "%s/data", folder);
	snprintf(upstream.socket_dir, sizeof(upstream.socket_dir), "%s/pg", folder);
	snprintf(upstream.log, sizeof(upstream.log), "%s/postgresql.log", folder);
	r = upstream_own_folder(upstream.socket_dir, &upstream.user);
	if (r == 0)
		r = template_take(&upstream, setup, guardian);
	if (r == 0)
		*ret = upstream;
	return r;
}

int
upstream_standby(const struct upstream *primary, const char *folder, struct upstream *ret)
{
	struct upstream upstream = *primary;
	char program[UPSTREAM_PATH + 16];
	const char *argv[] = {program, "-h", primary->socket_dir, "-U", "postgres", "-D", upstream.data, "-R", "-X",
	    "stream", "-c", "fast", "--no-sync", NULL};
	int r;

	upstream.server = (struct child){.pidfd = -1};
	upstream.template[0] = '\0';
	upstream.listen[0] = '\0';
	snprintf(program, sizeof(program), "%s/pg_basebackup", upstream.bindir);
	snprintf(upstream.data, sizeof(upstream.data), "%s/standby", folder);
	snprintf(upstream.socket_dir, sizeof(upstream.socket_dir), "%s/pgs", folder);
	snprintf(upstream.log, sizeof(upstream.log), "%s/standby.log", folder);
	r = child_run_with(argv, upstream.log, &upstream.user, NULL, COPY_MS);
	if (r == 0)
		r = upstream_own_folder(upstream.socket_dir, &upstream.user);
	if (r == 0)
		*ret = upstream;
	return r;
}

int
upstream_start(struct upstream *upstream, const struct guardian *guardian)
{
	char postgres[UPSTREAM_PATH + 16], listen[sizeof(upstream->listen) + 32];
	/* clang-format off */
	const char *argv[] = {postgres, "-D", upstream->data, "-k", upstream->socket_dir,
	    "-p", "5432",
	    "-c", listen,
	    "-c", "max_connections=200",
	    "-c", upstream->replication ? "max_wal_senders=4" : "max_wal_senders=0",
	    "-c", upstream->replication ? "wal_level=replica" : "wal_level=minimal",
	    "-c", upstream->replication ? "max_logical_replication_workers=4" : "max_logical_replication_workers=0",
	    "-c", "shared_buffers=32MB",
	    "-c", "dynamic_shared_memory_type=mmap", /* a killed server leaves nothing in /dev/shm */
	    "-c", "fsync=off",
	    "-c", "synchronous_commit=off",
	    "-c", "full_page_writes=off",
	    "-c", "autovacuum=off",
	    "-c", "logging_collector=off",
	    "-c", "lc_messages=C", /* its log is read */
	    NULL};
	/* clang-format on */
	off_t offset = 0;
	struct stat st;
	int r;

	if (stat(upstream->log, &st) == 0)
		offset = st.st_size;
	snprintf(postgres, sizeof(postgres), "%s/postgres", upstream->bindir);
	snprintf(listen, sizeof(listen), "listen_addresses=%s", upstream->listen);
	r = child_start_with(argv, upstream->log, &upstream->user, NULL, &upstream->server);
	if (r)
		return r;
	r = guardian_watch(guardian, upstream->server.pid, SIGQUIT);
	if (r == 0)
		r = child_await_line(
		    upstream->log, &offset, "database system is ready to accept", &upstream->server, START_MS);
	return r;
}

static int
end(struct upstream *upstream, int sig)
{
	int r, status;

	if (upstream->server.pid == 0)
		return 0;
	r = child_signal(&upstream->server, sig);
	if (r == 0)
		r = child_wait(&upstream->server, STOP_MS, &status);
	if (r == 0 && status != 0)
		return child_fail(
		    ECHILD, "PostgreSQL ended with wait status %d; see %s", status, upstream->log);
	return r;
}

int
upstream_stop(struct upstream *upstream)
{
	return end(upstream, SIGINT);
}

int
upstream_quit(struct upstream *upstream)
{
	return end(upstream, SIGQUIT);
}

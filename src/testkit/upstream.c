/* SPDX-License-Identifier: PostgreSQL */
/* A private PostgreSQL for tests. Owns the cached template and one server process. */
#include "upstream.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONGEST_TMPDIR 40 /* leaves room for our names and the socket's in 107 bytes */
#define INITDB_MS 120000
#define START_MS 60000
#define STOP_MS 60000

const char *
upstream_tmpdir(void)
{
	const char *dir = getenv("TMPDIR");

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

/* The template's name holds what it depends on: the user and the server's exact version. */
static int
template_path(const char *bindir, char *buf, size_t size)
{
	char command[UPSTREAM_PATH + 16], line[128] = "", version[32] = "";
	FILE *pipe;

	snprintf(command, sizeof(command), "'%s/postgres' -V", bindir);
	pipe = popen(command, "re");
	if (pipe == NULL)
		return child_fail(errno, "%s: %s", command, strerror(errno));
	if (fgets(line, sizeof(line), pipe) == NULL)
		line[0] = '\0';
	pclose(pipe);
	if (sscanf(line, "postgres (PostgreSQL) %31[0-9a-zA-Z.]", version) != 1)
		return child_fail(EINVAL, "%s does not say its version", command);
	if (snprintf(buf, size, "%s/pglease-template-%u-%s", upstream_tmpdir(), (unsigned)geteuid(),
	        version) >= (int)size)
		return child_fail(ENAMETOOLONG, "TMPDIR is too long");
	return 0;
}

/* A folder of that user's alone; one that somebody else put there is refused. */
static int
own_folder(const char *path, const struct child_user *user)
{
	struct stat st;

	if (mkdir(path, 0700) == 0) {
		if (user->switch_user && chown(path, user->uid, user->gid))
			return child_fail(errno, "chown %s: %s", path, strerror(errno));
		return 0;
	}
	if (errno != EEXIST)
		return child_fail(errno, "cannot make %s: %s", path, strerror(errno));
	if (lstat(path, &st))
		return child_fail(errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != user->uid || (st.st_mode & 077) != 0)
		return child_fail(
		    EPERM, "%s exists, but is not a private folder of this user: remove it", path);
	return 0;
}

/* With the template locked. A template that was not finished has its other name. */
static int
make_template(struct upstream *upstream, const char *template, const char *data)
{
	char initdb[UPSTREAM_PATH + 16], unfinished[UPSTREAM_PATH + 32], log[UPSTREAM_PATH + 32];
	const char *argv[] = {initdb, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C",
	    "--no-sync", "--no-instructions", "--wal-segsize=1", "-D", unfinished, NULL};
	int r;

	if (access(data, F_OK) == 0)
		return 0;
	snprintf(initdb, sizeof(initdb), "%s/initdb", upstream->bindir);
	snprintf(unfinished, sizeof(unfinished), "%s/unfinished", template);
	snprintf(log, sizeof(log), "%s/initdb.log", template);
	r = child_remove_tree(unfinished);
	if (r == 0)
		r = child_run(argv, log, &upstream->user, INITDB_MS);
	if (r == 0 && rename(unfinished, data))
		r = child_fail(errno, "cannot rename %s: %s", unfinished, strerror(errno));
	return r;
}

int
upstream_create(const char *folder, struct upstream *ret)
{
	struct upstream upstream = {.server = {.pidfd = -1}};
	char template[UPSTREAM_PATH], data[UPSTREAM_PATH + 16], lock[UPSTREAM_PATH + 16];
	const char *copy[] = {"/bin/cp", "-a", "--reflink=auto", data, upstream.data, NULL};
	int r, fd = -1;

	r = child_server_user(&upstream.user);
	if (r == 0)
		r = upstream_bindir(upstream.bindir, sizeof(upstream.bindir));
	if (r == 0)
		r = template_path(upstream.bindir, template, sizeof(template));
	if (r == 0)
		r = own_folder(template, &upstream.user);
	if (r)
		return r;
	snprintf(data, sizeof(data), "%s/data", template);
	snprintf(lock, sizeof(lock), "%s/lock", template);
	snprintf(upstream.data, sizeof(upstream.data), "%s/data", folder);
	snprintf(upstream.socket_dir, sizeof(upstream.socket_dir), "%s/pg", folder);
	snprintf(upstream.log, sizeof(upstream.log), "%s/postgresql.log", folder);

	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX)) {
		r = child_fail(errno, "cannot lock %s: %s", lock, strerror(errno));
		goto out;
	}
	r = make_template(&upstream, template, data);
	if (r)
		goto out;
	/* Read by many at once; nobody changes it any more. */
	flock(fd, LOCK_UN);
	r = child_run(copy, upstream.log, &upstream.user, INITDB_MS);
	if (r == 0)
		r = own_folder(upstream.socket_dir, &upstream.user);
	if (r == 0)
		*ret = upstream;
out:
	if (fd >= 0)
		close(fd);
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
	upstream.listen[0] = '\0';
	snprintf(program, sizeof(program), "%s/pg_basebackup", upstream.bindir);
	snprintf(upstream.data, sizeof(upstream.data), "%s/standby", folder);
	snprintf(upstream.socket_dir, sizeof(upstream.socket_dir), "%s/pgs", folder);
	snprintf(upstream.log, sizeof(upstream.log), "%s/standby.log", folder);
	r = child_run(argv, upstream.log, &upstream.user, INITDB_MS);
	if (r == 0)
		r = own_folder(upstream.socket_dir, &upstream.user);
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
	    "-c", listen,
	    "-c", "max_connections=200",
	    "-c", upstream->replication ? "max_wal_senders=4" : "max_wal_senders=0",
	    "-c", upstream->replication ? "wal_level=replica" : "wal_level=minimal",
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
	r = child_start(argv, upstream->log, &upstream->user, &upstream->server);
	if (r)
		return r;
	r = guardian_watch(guardian, upstream->server.pid, SIGQUIT);
	if (r == 0)
		r = child_await_line(
		    upstream->log, &offset, "database system is ready to accept", &upstream->server, START_MS);
	return r;
}

int
upstream_stop(struct upstream *upstream)
{
	int r, status;

	if (upstream->server.pid == 0)
		return 0;
	r = child_signal(&upstream->server, SIGINT);
	if (r == 0)
		r = child_wait(&upstream->server, STOP_MS, &status);
	if (r == 0 && status != 0)
		return child_fail(
		    ECHILD, "PostgreSQL ended with wait status %d; see %s", status, upstream->log);
	return r;
}

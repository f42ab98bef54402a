/* SPDX-License-Identifier: PostgreSQL */
/* The embedded PostgreSQL's files. */
#include "cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datadir.h"
#include "log.h"

#define PROGRAMS "/usr/lib/postgresql"
#define INITDB_MS 120000
#define FAST_MS 30000
#define IMMEDIATE_MS 10000
#define PG_SOCKET ".s.PGSQL.5432"

static int
find_user(struct cluster *c)
{
	struct passwd *pw;

	c->uid = geteuid();
	c->gid = getegid();
	if (c->uid != 0)
		return 0;
	pw = getpwnam("postgres"); /* PostgreSQL refuses to run as root */
	if (pw == NULL)
		return log_refuse(
		    "embedded PostgreSQL: there is no user \"postgres\" to run it as: install the "
		    "PostgreSQL server package, or run the broker as an ordinary user");
	c->user = "postgres";
	c->uid = pw->pw_uid;
	c->gid = pw->pw_gid;
	return 0;
}

static int
find_folder(struct cluster *c, const char *instance, const char *data_dir)
{
	int r = datadir_path(instance, data_dir, c->folder, sizeof(c->folder));

	if (r == -ENOENT)
		return log_refuse("embedded PostgreSQL: no place for its data: set data_dir");
	return r == 0 ? 0 : log_refuse("embedded PostgreSQL: the path of data_dir is too long");
}

static bool
has_programs(const char *bin)
{
	char initdb[PATHS_MAX + 16], postgres[PATHS_MAX + 16];

	snprintf(initdb, sizeof(initdb), "%s/initdb", bin);
	snprintf(postgres, sizeof(postgres), "%s/postgres", bin);
	return access(initdb, X_OK) == 0 && access(postgres, X_OK) == 0;
}

/* The major version that the cluster was made by, or 0. */
static int
cluster_version(const struct cluster *c)
{
	char path[PATHS_MAX + 32];
	int version = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/PG_VERSION", c->data);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%d", &version) != 1)
		version = 0;
	fclose(f);
	return version;
}

/* The programs of the cluster's own version; for a new cluster the newest there are. */
static int
find_programs(struct cluster *c)
{
	int version = cluster_version(c), newest = 0;
	glob_t found;
	FILE *f;

	if (version != 0) {
		snprintf(c->bin, sizeof(c->bin), PROGRAMS "/%d/bin", version);
		if (has_programs(c->bin))
			return 0;
	} else if (glob(PROGRAMS "/*/bin", 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			int n = atoi(found.gl_pathv[i] + sizeof(PROGRAMS));

			if (n > newest && has_programs(found.gl_pathv[i])) {
				newest = n;
				snprintf(c->bin, sizeof(c->bin), "%s", found.gl_pathv[i]);
			}
		}
		globfree(&found);
		if (newest != 0)
			return 0;
	}
	f = popen("pg_config --bindir 2>/dev/null", "re");
	if (f != NULL) {
		if (fgets(c->bin, sizeof(c->bin), f) == NULL)
			c->bin[0] = '\0';
		log_flatten(c->bin);
		pclose(f);
		if (c->bin[0] == '/' && has_programs(c->bin))
			return 0;
	}
	if (version != 0)
		return log_refuse(
		    "embedded PostgreSQL: %s was made by version %d, whose programs are not installed "
		    "(package postgresql-%d)",
		    c->data, version, version);
	return log_refuse("embedded PostgreSQL: initdb and postgres are not installed (package postgresql)");
}

static int
make_folder(const char *path, mode_t mode)
{
	int r = datadir_make(path, mode);

	return r == 0 ? 0 : log_refuse("embedded PostgreSQL: cannot make %s: %s", path, strerror(-r));
}

/* A folder of the server's own. */
static int
make_own_folder(const struct cluster *c, const char *path)
{
	struct stat st;

	if (make_folder(path, 0700) != 0)
		return -1;
	if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != c->uid))
		return log_refuse("embedded PostgreSQL: %s is not a folder of its own: remove it", path);
	if (chmod(path, 0700) != 0 || (c->user != NULL && chown(path, c->uid, c->gid) != 0))
		return log_refuse("embedded PostgreSQL: %s: %m", path);
	return 0;
}

void
cluster_last_line(const char *path, char *buf, size_t size)
{
	char line[512];
	FILE *f = fopen(path, "re");

	*buf = '\0';
	if (f == NULL)
		return;
	/* The log of years may be long. */
	if (fseek(f, -4096, SEEK_END) != 0)
		rewind(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		log_flatten(line);
		if (line[0] != '\0')
			snprintf(buf, size, "%s", line);
	}
	fclose(f);
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void
remove_tree(const char *path)
{
	if (access(path, F_OK) == 0 && nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
		log_warning("embedded PostgreSQL: cannot remove %s: %m", path);
}

/* Made beside its place and renamed: a cluster is there whole or not at all. */
static int
make_cluster(const struct cluster *c)
{
	char making[PATHS_MAX + 32], log[PATHS_MAX + 32], program[PATHS_MAX + 16], last[300], how[32];
	const char *argv[] = {program, "-D", making, "-U", "postgres", "-A", "trust", "-E", "UTF8",
	    "--locale=C", "--no-instructions", NULL};
	struct process_params params = {
	    .argv = argv,
	    .user = c->user,
	    .uid = c->uid,
	    .gid = c->gid,
	    .folder = "/",
	    .death_signal = SIGTERM,
	};
	struct process process;
	int status = 0, r;

	snprintf(making, sizeof(making), "%s.new", c->data);
	snprintf(log, sizeof(log), "%s/initdb.log", c->folder);
	snprintf(program, sizeof(program), "%s/initdb", c->bin);
	remove_tree(making); /* of a broker that was killed meanwhile */
	if (make_own_folder(c, making) != 0)
		return -1;
	params.output = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (params.output < 0) {
		remove_tree(making);
		return log_refuse("embedded PostgreSQL: %s: %m", log);
	}
	log_info("embedded PostgreSQL: making a cluster in %s", c->data);
	r = process_start(&params, &process);
	close(params.output);
	if (r != 0) {
		log_refuse("embedded PostgreSQL: cannot run %s: %s", program, strerror(-r));
	} else if (!process_wait(&process, INITDB_MS, &status)) {
		kill(process.pid, SIGKILL);
		process_wait(&process, -1, &status);
		log_refuse("embedded PostgreSQL: initdb did not end within %d s", INITDB_MS / 1000);
	} else if (status != 0) {
		cluster_last_line(log, last, sizeof(last));
		process_describe(status, how, sizeof(how));
		log_refuse("embedded PostgreSQL: initdb failed in %s (%s): %s", c->folder, how, last);
	} else if (rename(making, c->data) != 0) {
		log_refuse("embedded PostgreSQL: cannot rename %s: %m", making);
	} else {
		unlink(log);
		return 0;
	}
	remove_tree(making);
	return -1;
}

int
cluster_prepare(struct cluster *c, const char *instance, const char *data_dir, const char *socket_dir)
{
	char path[PATHS_MAX + 64];

	*c = (struct cluster){0};
	if (find_user(c) != 0 || find_folder(c, instance, data_dir) != 0)
		return -1;
	snprintf(c->data, sizeof(c->data), "%s/postgres", c->folder);
	snprintf(c->log, sizeof(c->log), "%s/postgres.log", c->folder);
	snprintf(c->sockets, sizeof(c->sockets), "%s/postgres", socket_dir);
	/* The limit of a socket address. */
	if (snprintf(path, sizeof(path), "%s/" PG_SOCKET, c->sockets) > 107)
		return log_refuse("embedded PostgreSQL: the path of its socket, %s, is longer than 107 "
		                  "bytes: set a shorter "
		                  "socket_dir",
		    path);
	if (strpbrk(c->sockets, "'\\,") != NULL)
		return log_refuse(
		    "embedded PostgreSQL: socket_dir must not have quotes, backslashes or commas");
	if (make_folder(c->folder, 0755) != 0 || find_programs(c) != 0)
		return -1;
	if (cluster_version(c) == 0 && make_cluster(c) != 0)
		return -1;
	return make_own_folder(c, c->sockets);
}

void
cluster_remove_sockets(const struct cluster *c)
{
	char path[PATHS_MAX + 64];

	/* The server removes them itself unless it was killed. */
	snprintf(path, sizeof(path), "%s/" PG_SOCKET, c->sockets);
	unlink(path);
	snprintf(path, sizeof(path), "%s/" PG_SOCKET ".lock", c->sockets);
	unlink(path);
	rmdir(c->sockets);
}

/* Whether a process is a PostgreSQL server that runs in our data folder: it works in it. */
static bool
is_server_of(const struct cluster *c, pid_t pid)
{
	char link[64], cwd[PATHS_MAX + 16];
	struct stat there, ours;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%ld/cwd", (long)pid);
	if (stat(link, &there) != 0 || stat(c->data, &ours) != 0 || there.st_ino != ours.st_ino ||
	    there.st_dev != ours.st_dev)
		return false;
	snprintf(link, sizeof(link), "/proc/%ld/exe", (long)pid);
	n = readlink(link, cwd, sizeof(cwd) - 1);
	if (n <= 0)
		return false;
	cwd[n] = '\0';
	return strstr(cwd, "/postgres") != NULL;
}

static bool
wait_dead(int pidfd, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};

	return poll(&poll_fd, 1, timeout_ms) == 1;
}

int
cluster_stop_leftover(const struct cluster *c)
{
	char path[PATHS_MAX + 32];
	long pid = 0;
	int pidfd, r = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/postmaster.pid", c->data);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%ld", &pid) != 1)
		pid = 0;
	fclose(f);
	/* The pidfd first, then the look: what is looked at is what is signalled. */
	if (pid <= 1 || (pidfd = pidfd_open((pid_t)pid, 0)) < 0)
		return 0;
	if (is_server_of(c, (pid_t)pid)) {
		log_warning(
		    "embedded PostgreSQL: stopping a server (pid %ld) that a killed broker left behind", pid);
		pidfd_send_signal(pidfd, SIGINT, NULL, 0);
		if (!wait_dead(pidfd, FAST_MS)) {
			pidfd_send_signal(pidfd, SIGQUIT, NULL, 0);
			if (!wait_dead(pidfd, IMMEDIATE_MS))
				r = log_refuse("embedded PostgreSQL: a server (pid %ld) still runs in %s and "
				               "does not stop",
				    pid, c->data);
		}
	}
	close(pidfd);
	return r;
}

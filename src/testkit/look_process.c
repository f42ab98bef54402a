/* SPDX-License-Identifier: PostgreSQL */
/*
 * What this process has: threads, memory, children, mapped segments and semaphores; descriptors are look_descriptors.c's.
 * Another process's are never taken for this one's, so that tests can run side by side: an object in shared memory that
 * nobody has open or mapped tells nobody who made it, and is found by its name only (look_files.c).
 */
#include "look.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <unistd.h>

#include "look_priv.h"

#define PF_EXITING 0x4u /* <linux/sched.h> of the kernel, in /proc: on its way out, whoever joined it */
#define MAX_CHILDREN 1024

/* Where the allocator is a sanitizer's, mallinfo2 knows nothing. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

struct stat_line {
	pid_t pid, parent;
	char name[32], state;
	unsigned flags;
	unsigned long long start;
};

/* Of /proc/<pid>/stat or /proc/self/task/<tid>/stat. The name may have anything in it, parentheses too. */
static bool
read_stat(const char *path, struct stat_line *ret)
{
	char text[1024], *open_, *close_;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	open_ = strchr(text, '(');
	close_ = strrchr(text, ')');
	if (open_ == NULL || close_ == NULL || close_ < open_)
		return false;
	ret->pid = (pid_t)atoi(text);
	snprintf(ret->name, sizeof(ret->name), "%.*s", (int)(close_ - open_ - 1), open_ + 1);
	return sscanf(close_ + 1, " %c %d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &ret->state,
	           &ret->parent, &ret->flags, &ret->start) == 4;
}

static void
look_threads(struct look *look)
{
	DIR *list = opendir("/proc/self/task");
	struct dirent *entry;

	while (list != NULL && (entry = readdir(list)) != NULL) {
		char path[320], key[64];
		struct stat_line line;

		snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
		if (!isdigit((unsigned char)*entry->d_name) || !read_stat(path, &line) || (line.flags & PF_EXITING) != 0)
			continue;
		snprintf(key, sizeof(key), "%d/%llu", (int)line.pid, line.start);
		look_note(look, PGLEASE_TEST_LEAK_THREAD, key, "thread %d (%s)", (int)line.pid, line.name);
	}
	if (list == NULL)
		look_unseen(look, "threads (%s)", strerror(errno));
	else
		closedir(list);
}

bool
look_is_own_process(pid_t pid)
{
	for (const struct pglease_test_env *env = env_next(NULL); env != NULL; env = env_next(env)) {
		for (unsigned i = 0; i < ENV_MAX_PACERS; i++)
			if (env->pacer[i].pid == pid)
				return true;
		if (pid == env->relay.pid || pid == env->broker.pid || pid == env->upstream.server.pid ||
		    pid == env->standby.server.pid || pid == env->guardian.pid)
			return true;
	}
	return false;
}

/* The library's, for as long as it is attached. */
static bool
is_of_an_attachment(const char *name)
{
	for (const struct pglease_test_env *env = env_next(NULL); env != NULL; env = env_next(env)) {
		char memfd[128], history[128];

		snprintf(memfd, sizeof(memfd), "/memfd:pglease.%s.", env->instance);
		snprintf(history, sizeof(history), "/dev/shm/pglease.%s.history.", env->instance);
		if (strncmp(name, memfd, strlen(memfd)) == 0 || strncmp(name, history, strlen(history)) == 0)
			return true;
	}
	return false;
}

/* Notes them, but for the environments' own; their pids go to `pid`. */
static unsigned
look_children(struct look *look, pid_t *pid)
{
	DIR *list = opendir("/proc");
	struct dirent *entry;
	unsigned n = 0;

	while (list != NULL && (entry = readdir(list)) != NULL) {
		char path[320], key[64];
		struct stat_line line;

		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		if (!isdigit((unsigned char)*entry->d_name) || !read_stat(path, &line) || line.parent != getpid() ||
		    look_is_own_process(line.pid))
			continue;
		if (n < MAX_CHILDREN)
			pid[n++] = line.pid;
		snprintf(key, sizeof(key), "%d/%llu", (int)line.pid, line.start);
		look_note(look, PGLEASE_TEST_LEAK_PROCESS, key, "child process %d (%s)%s", (int)line.pid, line.name,
		    line.state == 'Z' ? ": it has ended, and nobody has waited for it" : "");
	}
	if (list == NULL)
		look_unseen(look, "child processes (%s)", strerror(errno));
	else
		closedir(list);
	return n;
}

/* Of this process's mappings, those that are shared memory with a name. */
static void
look_mappings(struct look *look, bool attached)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[1024], last[1024] = "";

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		unsigned long inode = 0;
		char key[1200];
		int at = 0;
		char *name;

		if (sscanf(line, "%*s %*s %*s %*s %lu %n", &inode, &at) < 1 || at == 0)
			continue;
		name = line + at;
		name[strcspn(name, "\n")] = '\0';
		if (strncmp(name, "/dev/shm/", 9) != 0 && strncmp(name, "/memfd:", 7) != 0)
			continue;
		if (attached && is_of_an_attachment(name))
			continue;
		snprintf(key, sizeof(key), "map/%lu/%s", inode, name);
		if (strcmp(key, last) == 0)
			continue; /* one in several pieces */
		snprintf(last, sizeof(last), "%.1000s", key);
		if (strncmp(name, "/dev/shm/sem.", 13) == 0)
			look_note(look, PGLEASE_TEST_LEAK_SEMAPHORE, key, "semaphore, opened (%s)", name);
		else
			look_note(look, PGLEASE_TEST_LEAK_SEGMENT, key, "shared memory %s, mapped", name);
	}
	if (file == NULL)
		look_unseen(look, "segments (%s)", strerror(errno));
	else
		fclose(file);
}

static bool
is_among(pid_t pid, const pid_t *among, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (among[i] == pid)
			return true;
	return pid == getpid();
}

/* System V's shared memory tells who made it, its semaphores who used them last. */
static void
look_sysv(struct look *look, const pid_t *child, unsigned nchildren)
{
	FILE *file = fopen("/proc/sysvipc/shm", "re");
	char line[512], key[64];
	int id, maker, nsems;
	unsigned long bytes;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "%*d %d %*o %lu %d", &id, &bytes, &maker) != 3 || !is_among(maker, child, nchildren))
			continue;
		snprintf(key, sizeof(key), "sysv/%d", id);
		look_note(look, PGLEASE_TEST_LEAK_SEGMENT, key, "System V shared memory %d of %lu bytes, made by process %d", id,
		    bytes, maker);
	}
	if (file != NULL)
		fclose(file);
	file = fopen("/proc/sysvipc/sem", "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "%*d %d %*o %d", &id, &nsems) != 2)
			continue;
		for (int i = 0; i < nsems; i++) {
			int user = semctl(id, i, GETPID);

			if (user <= 0 || !is_among((pid_t)user, child, nchildren))
				continue;
			snprintf(key, sizeof(key), "sysv/%d", id);
			look_note(look, PGLEASE_TEST_LEAK_SEMAPHORE, key, "System V semaphores %d, last used by process %d", id, user);
			break;
		}
	}
	if (file != NULL)
		fclose(file);
}

uint64_t
look_memory(void)
{
	struct mallinfo2 info;

	if (__sanitizer_get_current_allocated_bytes != NULL)
		return __sanitizer_get_current_allocated_bytes();
	info = mallinfo2();
	/* Another allocator has taken glibc's place, or a tool. */
	return info.arena == 0 && info.uordblks == 0 ? UINT64_MAX : info.uordblks + info.hblkhd;
}

void
look_process(struct pglease_test_env *env, struct look *look)
{
	static pid_t child[MAX_CHILDREN];
	unsigned nchildren, attachments;

	attachments = look_descriptors(env, look);
	look_threads(look);
	nchildren = look_children(look, child);
	look_mappings(look, attachments > 0);
	look_sysv(look, child, nchildren);
	look->memory = look_memory();
	if (look->memory == UINT64_MAX)
		look_unseen(look, "memory: the allocator is not glibc's");
}

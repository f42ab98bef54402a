/* SPDX-License-Identifier: PostgreSQL */
/* Reading /proc/PID/stat and /proc/PID/io; see resources.h and proc(5). */
#include "resources.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "handover.h"

#define SECOND UINT64_C(1000000000)
#define COMM 16 /* the kernel's TASK_COMM_LEN */
/* Processes looked at in one tick, at some 50 us each: 160 in a second, so a thousand clients are each seen every six or seven. */
#define PER_TICK 16

static const struct stats_process unknown = {STATS_NO_U64, STATS_NO_U64, STATS_NO_U64, STATS_NO_U64};

struct place {
	uint32_t pid;
	uint32_t group;
	bool born_here;
	char comm[COMM];
	uint64_t seen_at;
	struct stats_process process;
};

struct resources {
	uint32_t nplaces, next, ngroups;
	struct stats_process *group;
	struct place place[];
};

struct resources *
resources_new(uint32_t nplaces, uint32_t ngroups)
{
	struct resources *r = calloc(1, sizeof(*r) + nplaces * sizeof(r->place[0]));

	assert(ngroups > 0);
	if (r == NULL)
		return NULL;
	r->group = calloc(ngroups, sizeof(*r->group));
	if (r->group == NULL) {
		free(r);
		return NULL;
	}
	r->nplaces = nplaces;
	r->ngroups = ngroups;
	for (uint32_t i = 0; i < ngroups; i++)
		r->group[i] = unknown;
	for (uint32_t i = 0; i < nplaces; i++)
		r->place[i].process = unknown;
	return r;
}

void
resources_free(struct resources *resources)
{
	if (resources == NULL)
		return;
	free(resources->group);
	free(resources);
}

void
resources_hand_over(struct resources *r, struct handover *h, resources_where where, const void *context)
{
	uint32_t n = 0, ngroups = r->ngroups, at = 0, to;

	handover_section(h, "resources");
	HANDOVER(h, ngroups);
	for (uint32_t i = 0; i < ngroups && (!handover_reads(h) || handover_check(h, false) == 0); i++) {
		struct stats_process group = handover_reads(h) ? unknown : r->group[i];

		HANDOVER(h, group);
		if (handover_reads(h) && (to = where(context, true, i)) < r->ngroups)
			r->group[to] = group;
	}
	HANDOVER(h, r->next);
	if (r->next >= r->nplaces)
		r->next = 0;
	for (uint32_t i = 0; i < r->nplaces; i++)
		n += r->place[i].pid != 0;
	HANDOVER(h, n);
	for (uint32_t i = 0; i < n && (!handover_reads(h) || handover_check(h, false) == 0); i++, at++) {
		struct place place = {0};
		uint32_t group;

		while (!handover_reads(h) && r->place[at].pid == 0)
			at++;
		if (!handover_reads(h))
			place = r->place[at];
		HANDOVER(h, at);
		HANDOVER(h, place);
		if (!handover_reads(h) || (to = where(context, false, at)) >= r->nplaces)
			continue;
		group = r->place[to].group;
		r->place[to] = place;
		r->place[to].group = group;
	}
}

void
resources_group(struct resources *r, uint32_t first, uint32_t n, uint32_t group, bool born_here)
{
	assert(group < r->ngroups && first <= r->nplaces && n <= r->nplaces - first);
	for (uint32_t i = first; i < first + n; i++) {
		r->place[i].group = group;
		r->place[i].born_here = born_here;
	}
}

const struct stats_process *
resources_of_group(const struct resources *r, uint32_t group)
{
	assert(group < r->ngroups);
	return &r->group[group];
}

/* A counter of the group grows by what a process's has grown since it was `before`. */
static void
grow(uint64_t *sum, uint64_t before, uint64_t after, bool born_here)
{
	uint64_t from = before != STATS_NO_U64 ? before : born_here ? 0 : after;

	if (after == STATS_NO_U64)
		return;
	if (*sum == STATS_NO_U64)
		*sum = 0;
	if (after > from)
		*sum += after - from;
}

/* A gauge of the group, without what a process had before, with what it has now. */
static void
exchange(uint64_t *sum, uint64_t before, uint64_t after)
{
	if (before != STATS_NO_U64)
		*sum -= before;
	if (after != STATS_NO_U64)
		*sum = (*sum != STATS_NO_U64 ? *sum : 0) + after;
}

static void
set(struct resources *r, struct place *p, const struct stats_process *now)
{
	struct stats_process *group = &r->group[p->group];

	grow(&group->cpu, p->process.cpu, now->cpu, p->born_here);
	grow(&group->disk_read, p->process.disk_read, now->disk_read, p->born_here);
	grow(&group->disk_written, p->process.disk_written, now->disk_written, p->born_here);
	exchange(&group->memory, p->process.memory, now->memory);
	p->process = *now;
}

const struct stats_process *
resources_of(struct resources *r, uint32_t place, uint32_t pid, const char *comm)
{
	struct place *p = &r->place[place];

	assert(place < r->nplaces);
	if (p->pid != pid) {
		p->pid = pid;
		p->seen_at = 0;
		set(r, p, &unknown);
		snprintf(p->comm, sizeof(p->comm), "%s", comm != NULL ? comm : "");
	}
	return &p->process;
}

/* A file of /proc, which gives all of it to one read that has room; its text, cut at the buffer's end. False when it cannot be read. */
static bool
read_proc(const char *pid, const char *file, char *buf, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* pid (comm) state ppid ...: comm may hold anything, but ends at the last ')'. Fields 14, 15, 20 and 24 of proc(5). */
static bool
parse_stat(char *text, const char *comm, struct stats_process *ret, uint32_t *ret_threads)
{
	char *open = strchr(text, '('), *close = strrchr(text, ')');
	uint64_t user, system, threads, pages;

	if (open == NULL || close == NULL || close < open)
		return false;
	*close = '\0';
	if (comm[0] != '\0' && strcmp(open + 1, comm) != 0)
		return false;
	if (sscanf(close + 1,
		" %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %*d %*d %*d %*d %" SCNu64
		" %*d %*u %*u %" SCNu64,
		&user, &system, &threads, &pages) != 4)
		return false;
	ret->cpu = (user + system) * (SECOND / (uint64_t)sysconf(_SC_CLK_TCK));
	ret->memory = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	*ret_threads = (uint32_t)threads;
	return true;
}

static uint64_t
parse_io(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	uint64_t value;

	return at != NULL && sscanf(at + strlen(key), " %" SCNu64, &value) == 1 ? value : STATS_NO_U64;
}

/* False when there is no such process, or it has another name. */
static bool
look(const char *pid, const char *comm, struct stats_process *ret, uint32_t *ret_threads)
{
	char text[1024];

	*ret = unknown;
	if (!read_proc(pid, "stat", text, sizeof(text)) || !parse_stat(text, comm, ret, ret_threads))
		return false;
	if (read_proc(pid, "io", text, sizeof(text))) {
		ret->disk_read = parse_io(text, "\nread_bytes:");
		ret->disk_written = parse_io(text, "\nwrite_bytes:");
	}
	return true;
}

void
resources_tick(struct resources *r, uint64_t now)
{
	unsigned looked = 0;

	for (uint32_t i = 0; i < r->nplaces && looked < PER_TICK; i++) {
		struct place *p = &r->place[r->next];
		struct stats_process process;
		char pid[16];
		uint32_t threads;

		if (p->pid != 0 && p->seen_at != 0 && now - p->seen_at < SECOND)
			return; /* all after it are younger, or wait for the next round */
		r->next = (r->next + 1) % r->nplaces;
		if (p->pid == 0)
			continue;
		snprintf(pid, sizeof(pid), "%" PRIu32, p->pid);
		look(pid, p->comm, &process, &threads);
		set(r, p, &process);
		p->seen_at = now;
		looked++;
	}
}

/* Entries of /proc/self/fd, without ".", ".." and the one that this opens. */
static uint32_t
count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t n = 0;

	if (dir == NULL)
		return STATS_NO_U32;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n - 3;
}

void
resources_of_self(struct resources_own *ret)
{
	struct rlimit limit;

	ret->threads = STATS_NO_U32;
	look("self", "", &ret->process, &ret->threads);
	ret->descriptors = count_descriptors();
	ret->descriptors_max = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < STATS_NO_U32
				   ? (uint32_t)limit.rlim_cur
				   : STATS_NO_U32;
}

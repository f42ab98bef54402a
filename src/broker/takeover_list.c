/* SPDX-License-Identifier: PostgreSQL */
/*
 * The list of sessions that a broker leaves to the next one, in the lock file of the socket folder, should it be killed. A line with the
 * machine's boot, for neither pids nor the clock mean anything after the next one; then a line for each session:
 *
 *     session TIME PID POOL    opened by the broker that wrote it, at that time (CLOCK_MONOTONIC, ns)
 *     old TIME PID POOL        of a broker before it, not ended yet; the time is that until which it must have begun
 *
 * A session's line is written before anybody can have a lease of it. None is taken away when a session ends: nobody else's can have
 * begun by then. Now and then, and whenever old ones have been ended, the list is written anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "takeover_priv.h"
#include "text_stream.h"

#define BOOT_ID 64
#define OLD "old "
#define SESSION "session "
/* Lines of sessions that are gone, beside two for each that is there, before the list is written anew. */
#define GONE_MAX 256
/*
 * The time says that a pid has not become another session's, and whether it has is judged by the server's clock, which may run otherwise
 * than this host's: for so long after a session had been opened nobody else is taken to have its pid.
 */
#define DRIFT_NS UINT64_C(10000000000)

static bool
add_old(struct job *job, uint64_t pid, uint64_t until)
{
	struct old *olds;

	if (pid <= 1 || pid > INT32_MAX)
		return true;
	olds = reallocarray(job->olds, job->nolds + 1, sizeof(*olds));
	if (olds == NULL)
		return false;
	job->olds = olds;
	olds[job->nolds++] = (struct old){.pid = (uint32_t)pid, .until = until};
	return true;
}

/* "": it cannot be told. */
static void
boot_id(char buf[static BOOT_ID])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, buf, BOOT_ID - 1) : -1;

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

/* What brokers before have left, if it is of this boot. A folder outlives the machine's: by now, others have the pids. */
static const char *
left_of_this_boot(const struct sockdir *sockdir)
{
	const char *left = sockdir_left(sockdir);
	char id[BOOT_ID], first[BOOT_ID + 8];

	boot_id(id);
	snprintf(first, sizeof(first), "boot %s\n", id);
	return id[0] != '\0' && strncmp(left, first, strlen(first)) == 0 ? left + strlen(first) : "";
}

bool
takeover_list_is_older(const struct takeover *t)
{
	const char *left = left_of_this_boot(t->sockdir);

	return strncmp(left, OLD, strlen(OLD)) == 0 || strstr(left, "\n" OLD) != NULL;
}

/* One that is cut or of another time of the clock is none. */
bool
takeover_list_take(struct takeover *t, struct job *job)
{
	const char *pool = job->pool->settings->name, *end;

	for (const char *line = left_of_this_boot(t->sockdir); (end = strchr(line, '\n')) != NULL; line = end + 1) {
		bool is_old = strncmp(line, OLD, strlen(OLD)) == 0;
		uint64_t time, pid;
		char *at;

		if (!is_old && strncmp(line, SESSION, strlen(SESSION)) != 0)
			continue;
		/* Not by sscanf, which looks for the whole text's end each time. */
		time = strtoull(line + strlen(is_old ? OLD : SESSION), &at, 10);
		pid = *at == ' ' ? strtoull(at, &at, 10) : 0;
		if (*at != ' ' || time > t->began)
			continue;
		at++;
		if ((size_t)(end - at) != strlen(pool) || memcmp(at, pool, strlen(pool)) != 0)
			continue;
		if (!is_old)
			time = t->began - time > DRIFT_NS ? time + DRIFT_NS : t->began;
		if (!add_old(job, pid, time))
			return false;
	}
	return true;
}

static void
say_failure(struct takeover *t, int r)
{
	if (r != 0 && !t->fails)
		log_warning("sessions cannot be noted for the next broker, should this one be killed: %s", strerror(-r));
	t->fails = r != 0;
}

static unsigned
write_lines(const struct takeover *t, FILE *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->njobs; i++) {
		const struct job *job = &t->job[i];

		for (unsigned k = 0; job->pool != NULL && k < job->nolds; k++, n++)
			fprintf(f, OLD "%" PRIu64 " %" PRIu32 " %s\n", job->olds[k].until, job->olds[k].pid,
			    job->pool->settings->name);
	}
	for (unsigned i = 0; i < t->npools; i++) {
		const struct pool *p = t->pools[i];

		for (uint32_t k = 0; k < p->seg.nslots; k++) {
			if (p->server[k].pid == 0)
				continue;
			fprintf(f, SESSION "%" PRIu64 " %" PRIu32 " %s\n", p->server[k].connected_at,
			    (uint32_t)p->server[k].pid, p->settings->name);
			n++;
		}
	}
	return n;
}

void
takeover_list_write(struct takeover *t)
{
	char *text, id[BOOT_ID];
	struct text_stream to;
	FILE *f = text_stream_open(&to);

	if (f == NULL) {
		say_failure(t, -ENOMEM);
		return;
	}
	boot_id(id);
	fprintf(f, "boot %s\n", id);
	t->nlines = write_lines(t, f);
	text = text_stream_close(&to, f);
	if (text == NULL)
		say_failure(t, -ENOMEM);
	else
		say_failure(t, sockdir_leave(t->sockdir, t->nlines != 0 ? text : ""));
	free(text);
}

void
takeover_note(struct takeover *t, const struct server *s)
{
	char line[64 + LAYOUT_NAME];
	unsigned limit = GONE_MAX;

	if (t == NULL)
		return;
	for (unsigned i = 0; i < t->npools; i++)
		limit += 2 * t->pools[i]->open;
	for (unsigned i = 0; i < t->njobs; i++)
		limit += t->job[i].pool != NULL ? t->job[i].nolds : 0;
	if (t->nlines == 0 || t->nlines >= limit || t->fails) {
		takeover_list_write(t);
		return;
	}
	snprintf(line, sizeof(line), SESSION "%" PRIu64 " %" PRIu32 " %s\n", s->connected_at, (uint32_t)s->pid,
	    s->pool->settings->name);
	t->nlines++;
	say_failure(t, sockdir_leave_more(t->sockdir, line));
}

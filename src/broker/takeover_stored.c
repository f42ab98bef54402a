/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the service manager has kept of the last broker (its descriptor store): the pools' lease segments, by the names
 * "segment.POOL". The words in them say which of the old sessions nobody holds a lease of. The broker takes these words, as it
 * would any (S5), and whoever still has the segment mapped cannot lease them any more; so they can be ended at once. Only sessions
 * that are in the list are: what clients may have written into a segment adds none.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "activation.h"
#include "service.h"
#include "slots.h"
#include "takeover_priv.h"

#define TRIES 64 /* of a swap, while clients change the word */

/* Whether nobody has a lease of it, nor can get one. */
static bool
is_nobodys(struct segment *seg, uint32_t slot)
{
	uint64_t w = slot_load(seg, slot);

	for (unsigned i = 0; i < TRIES && word_state(w) == SLOT_IDLE; i++)
		if (slot_take(seg, slot, &w)) /* S5 */
			return true;
	return word_state(w) == SLOT_BROKER || word_state(w) == SLOT_RETURNED;
}

/* To the front of the list, behind those that are there already. */
static void
note(struct job *job, uint32_t pid)
{
	for (unsigned i = job->nfree; i < job->nolds; i++) {
		struct old old = job->olds[i];

		if (old.pid != pid)
			continue;
		job->olds[i] = job->olds[job->nfree];
		job->olds[job->nfree++] = old;
	}
}

static void
look(struct job *job, int fd)
{
	struct segment seg;

	/* Another version's is of no use: its sessions are ended in their time. */
	if (segment_map(fd, &seg) != 0)
		return;
	if (strcmp(seg.header->pool_name, job->pool->settings->name) == 0)
		for (uint32_t i = 0; i < seg.nslots; i++) {
			uint32_t pid = atomic_load_explicit(&seg.slot[i].server_pid, memory_order_relaxed);

			if (pid != 0 && is_nobodys(&seg, i))
				note(job, pid);
		}
	segment_unmap(&seg);
}

void
takeover_stored_take(struct job *job)
{
	char name[SERVICE_STORED_NAME];
	int fd;

	service_stored_name(job->pool, name);
	while ((fd = activation_take(name)) >= 0) {
		look(job, fd);
		close(fd);
	}
}

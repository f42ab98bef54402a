/* SPDX-License-Identifier: PostgreSQL */
/*
 * What processes use: CPU time, memory, disk, of the broker itself, of its clients and of the server's backends on this
 * host, as /proc says. Each is looked at about once a second, where there are many less often: a bounded number at each
 * tick. What cannot be seen (another pid namespace, no permission: disk I/O of other users' processes needs CAP_SYS_PTRACE) is
 * STATS_NO_U64.
 */
#ifndef PGLEASE_BROKER_RESOURCES_H
#define PGLEASE_BROKER_RESOURCES_H

#include "stats.h"

struct handover;
struct resources;

struct resources_own {
	struct stats_process process;
	uint32_t threads, descriptors; /* STATS_NO_U32: unknown */
	uint32_t descriptors_max;
};

/* Room for `nplaces` processes, each at a place of the caller's, in group 0 of `ngroups`. NULL without memory. */
struct resources *resources_new(uint32_t nplaces, uint32_t ngroups);
/* Places into a group. `born_here`: what its processes used before they were first looked at counts as well. */
void resources_group(struct resources *resources, uint32_t first, uint32_t n, uint32_t group, bool born_here);
/*
 * What a group's processes use together: memory of those that there are; CPU time and disk also of those that there were, so
 * that it never goes back. STATS_NO_U64 for what was never seen.
 */
const struct stats_process *resources_of_group(const struct resources *resources, uint32_t group);
/*
 * What is remembered, to and from another broker's, whose places and groups may be others: `where` says where one of its is here,
 * UINT32_MAX: nowhere.
 */
typedef uint32_t (*resources_where)(const void *context, bool is_group, uint32_t there);
void resources_hand_over(struct resources *resources, struct handover *handover, resources_where where, const void *context);
void resources_free(struct resources *resources); /* accepts NULL */
/*
 * The numbers of the process at a place, as far as they are known: of process `pid`, 0: nobody. At the first call for a
 * process none are. `comm`: only if the process has that name ("postgres": pids may be another host's); NULL: any.
 */
const struct stats_process *resources_of(
    struct resources *resources, uint32_t place, uint32_t pid, const char *comm);
/* Looks at those whose turn it is. */
void resources_tick(struct resources *resources, uint64_t now);
/* The calling process. */
void resources_of_self(struct resources_own *ret);

#endif

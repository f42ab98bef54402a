/* SPDX-License-Identifier: PostgreSQL */
/*
 * The pools from outside: a client that attaches by the wire, holds nothing, and looks at the lease segments.
 * What must hold whoever died is said here, and nowhere else.
 */
#ifndef PGLEASE_TESTS_KILL_VIEW_H
#define PGLEASE_TESTS_KILL_VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "segment.h"

#define VIEW_MAX_POOLS 8
#define VIEW_MAX_CLIENTS 64
#define VIEW_MAX_HELD 8

/* Opens every one of these pools of the instance in the environment. */
void view_open(const char *const pools[], unsigned npools);
void view_close(void);
struct segment *view_segment(unsigned pool);

/* Those attached now, this view among them, are the ones that live; all others are to die. */
void view_know_clients(void);

/* Backend pids of slots that are leased by others than those known. */
struct view_held {
	unsigned n;
	uint32_t pid[VIEW_MAX_HELD];
};
void view_held(unsigned pool, struct view_held *ret);

/* Looks until it holds, for 20 s; then the scenario fails. */
typedef bool (*view_condition)(const struct segment *seg, const void *arg);
void view_await(unsigned pool, view_condition condition, const void *arg, const char *what);
/* Ends the control connection of process `pid`, as if it were cut. */
void view_cut_off(pid_t pid);
/* Whether the broker has fenced all but the known: none is attached, none of them holds anything. */
bool view_none_else(void);
void view_await_none_else(void);
/*
 * Waits until the only slot's word has the flag CANCELLING (true), or a cancel was refused (there were `refused` before),
 * as one is of a lease that is being given up, or the slot is no lease of another's any more.
 */
bool view_await_cancelling(unsigned pool, uint64_t refused);
/* The only slot's state, enum slot_state. */
unsigned view_state(unsigned pool);
/* A row of a known client waits, and sleeps. */
void view_await_waiting(unsigned pool);

/*
 * Nobody known holds or waits for anything: so every slot must be idle or in the broker's hands, no word name
 * anybody but the known, and all rows but theirs be free; and no counter be less than when it was looked at
 * last. Waits for the broker to come to it.
 */
void view_settle(unsigned pool);
/* Whether it is so now; `clean`: and the only slot is idle and nothing is in its session. */
bool view_is_settled(unsigned pool, bool clean);
/* The same for what is published; at most once in a while, unless `now`. */
void view_published(bool now);
uint64_t view_broker_counter(unsigned pool, enum broker_counter counter);

#endif

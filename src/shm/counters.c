/* SPDX-License-Identifier: PostgreSQL */
/* The names of the counters, made from the table in counters.h, and those of the states. */
#include "counters.h"

#include "word.h"

#define COUNTER_INFO(id, name, help) {name, help},

const struct counter_info slot_counter_info[SLOT_NCOUNTERS] = {SLOT_COUNTERS(COUNTER_INFO)};
const struct counter_info client_counter_info[CLIENT_NCOUNTERS] = {CLIENT_COUNTERS(COUNTER_INFO)};
const struct counter_info broker_counter_info[BROKER_NCOUNTERS] = {BROKER_COUNTERS(COUNTER_INFO)};

const char *
slot_state_name(unsigned state)
{
	static const char *const names[SLOT_NSTATES] = {"empty", "broker", "idle", "granted", "leased", "returned"};

	return state < SLOT_NSTATES ? names[state] : "invalid";
}

const char *
row_state_name(unsigned state)
{
	static const char *const names[ROW_NSTATES] = {"free", "owned", "waiting", "granted"};

	return state < ROW_NSTATES ? names[state] : "invalid";
}

/* SPDX-License-Identifier: PostgreSQL */
/* The rules of health.h. */
#include "health.h"

#include <assert.h>
#include <string.h>

#include "layout.h"

#define HEALTH_INFO(id, level, name, text) {level, name, text},
static const struct {
	enum health_level level;
	const char *name, *text;
} info[HEALTH_NREASONS] = {HEALTH_REASONS(HEALTH_INFO)};
#undef HEALTH_INFO

uint32_t
health_of_state(uint32_t state)
{
	switch (state) {
	case SEGMENT_CLOSED:
		return HEALTH_CLOSED;
	case SEGMENT_DRAINING:
		return HEALTH_DRAINING;
	case SEGMENT_PAUSED:
		return HEALTH_PAUSED;
	case SEGMENT_DISABLED:
		return HEALTH_DISABLED;
	default:
		return 0;
	}
}

uint32_t
health_judge(const struct health_facts *facts)
{
	uint32_t reasons = health_of_state(facts->state);

	if (facts->state == SEGMENT_CLOSED)
		return reasons;
	if (facts->connects_fail)
		reasons |= facts->connections == 0 ? HEALTH_UPSTREAM : HEALTH_CONNECTS;
	if (facts->maxwait > HEALTH_WAIT_LIMIT)
		reasons |= HEALTH_WAITING;
	if (facts->acquires >= HEALTH_FAILURE_SAMPLES && facts->failures > facts->acquires / HEALTH_FAILURE_SHARE)
		reasons |= HEALTH_FAILING;
	return reasons;
}

enum health_level
health_level(uint32_t reasons)
{
	enum health_level worst = HEALTH_OK;

	for (unsigned i = 0; i < HEALTH_NREASONS; i++)
		if ((reasons & 1u << i) != 0 && info[i].level > worst)
			worst = info[i].level;
	return worst;
}

const char *
health_level_name(enum health_level level)
{
	static const char *const name[] = {
	    [HEALTH_OK] = "ok", [HEALTH_DEGRADED] = "degraded", [HEALTH_DOWN] = "down"};

	return name[level];
}

void
health_names(uint32_t reasons, char buf[static HEALTH_TEXT])
{
	size_t used = 0;

	for (unsigned i = 0; i < HEALTH_NREASONS; i++) {
		size_t n = strlen(info[i].name);

		if ((reasons & 1u << i) == 0)
			continue;
		assert(used + n + 2 <= HEALTH_TEXT);
		if (used != 0)
			buf[used++] = ',';
		memcpy(buf + used, info[i].name, n);
		used += n;
	}
	buf[used] = '\0';
}

const char *
health_reason_text(unsigned bit)
{
	assert(bit < HEALTH_NREASONS);
	return info[bit].text;
}

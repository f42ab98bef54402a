/* SPDX-License-Identifier: PostgreSQL */
/* What all scenarios play on: one PostgreSQL, one broker with a pool of each kind, the view and the crew. */
#include "scenarios.h"

#include <stdio.h>

#include "crew.h"
#include "fixture.h"
#include "report.h"
#include "view.h"

/* One slot, so that one that is lost is missed at once; no maintenance by the clock. */
#define SLOT(n, e) {.name = n, .min = 1, .max = 1, .extra = "keepalive = 0\nidle_timeout = 0\nmax_lifetime = 0\n" e}
static const struct fixture_pool pools[NPOOLS] = {
    SLOT("grant", "grant_after = 0\nreset_after = 0\n"),
    SLOT("wake", "grant_after = 1h\nreset_after = 0\n"),
    SLOT("always", "grant_after = 1h\nreset_after = 0\nreset = always\n"),
    SLOT("watch", "grant_after = 1h\nreset_after = 1ms\n"),
};

static struct fixture *fixture;

struct fixture *
stage_fixture(void)
{
	return fixture;
}

void
stage_start(void)
{
	/* Few clients, so that the dead ones' places are used again soon. */
	static const struct fixture_options options = {.pools = pools, .npools = NPOOLS, .extra = "max_clients = 6\n"};

	if (fixture != NULL)
		return;
	if (fixture_start(&options, &fixture) != 0)
		report_fail("%s", fixture_error());
	view_open(pool_name, NPOOLS);
	crew_start(pool_name, NPOOLS);
	view_know_clients();
}

bool
stage_stop(void)
{
	bool good;

	crew_stop();
	view_close();
	good = fixture_stop(fixture) == 0;
	fixture = NULL;
	if (!good)
		printf("# %s\n", fixture_error());
	return good;
}

void
stage_abandon(void)
{
	stage_stop();
}

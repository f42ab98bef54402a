/* SPDX-License-Identifier: PostgreSQL */
#include "service.h"

#include <config.h>
#include <stdio.h>
#include <unistd.h>

#include "activation.h"

#ifdef HAVE_SYSTEMD
#include <inttypes.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "queue.h"

#define SECOND UINT64_C(1000000000)

static void
forget(const char *name)
{
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

void
service_ready(void)
{
	sd_notify(0, "READY=1");
}

void
service_reloading(void)
{
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_ns() / 1000);
}

void
service_stopping(struct pool *const *pools, unsigned npools)
{
	sd_notify(0, "STOPPING=1\nSTATUS=Waiting for leases that are out");
	for (unsigned i = 0; i < npools; i++)
		service_unstore(pools[i]);
}

void
service_store(struct pool *const *pools, unsigned npools)
{
	char text[SERVICE_STORED_NAME + 32], name[SERVICE_STORED_NAME];

	for (unsigned i = 0; i < npools; i++) {
		service_stored_name(pools[i], name);
		forget(name);
		snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
		sd_pid_notify_with_fds(0, 0, text, &pools[i]->fd, 1);
	}
}

static void
tell_status(struct pool *const *pools, unsigned npools)
{
	static char said[128];
	char text[sizeof(said)];
	unsigned connections = 0, leased = 0, waiting = 0, down = 0;

	for (unsigned i = 0; i < npools; i++) {
		connections += pools[i]->open;
		leased += pool_count_leases(pools[i]);
		waiting += queue_count(&pools[i]->seg, NULL);
		down += pools[i]->failures != 0;
	}
	snprintf(text, sizeof(text), "%u pools, %u connections, %u leased, %u waiting%s", npools, connections, leased, waiting,
	    down != 0 ? "; a server refuses connections" : "");
	if (strcmp(text, said) == 0)
		return;
	strcpy(said, text);
	sd_notifyf(0, "STATUS=%s", text);
}

void
service_tick(struct pool *const *pools, unsigned npools, uint64_t now)
{
	static bool is_known;
	static uint64_t every, fed_at, told_at;
	uint64_t us;

	if (!is_known && sd_watchdog_enabled(0, &us) > 0)
		every = us * 1000 / 2;
	is_known = true;
	if (every != 0 && now - fed_at >= every) {
		fed_at = now;
		sd_notify(0, "WATCHDOG=1");
	}
	if (now - told_at < SECOND)
		return;
	told_at = now;
	tell_status(pools, npools);
}
#else
static void
forget(const char *name)
{
}

void
service_store(struct pool *const *pools, unsigned npools)
{
}

void
service_ready(void)
{
}

void
service_reloading(void)
{
}

void
service_stopping(struct pool *const *pools, unsigned npools)
{
}

void
service_tick(struct pool *const *pools, unsigned npools, uint64_t now)
{
}
#endif

void
service_stored_name(const struct pool *pool, char buf[SERVICE_STORED_NAME])
{
	snprintf(buf, SERVICE_STORED_NAME, ACTIVATION_STORED "%s", pool->settings->name);
}

void
service_unstore(const struct pool *pool)
{
	char name[SERVICE_STORED_NAME];

	service_stored_name(pool, name);
	forget(name);
}

void
service_drop_stored(void)
{
	char name[ACTIVATION_NAME];
	int fd;

	while ((fd = activation_take_stored(name)) >= 0) {
		forget(name);
		close(fd);
	}
}

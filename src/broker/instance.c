/* SPDX-License-Identifier: PostgreSQL */
/* The instance: order of start and stop, the tick, the signals. */
#include "config.h"

#include "instance_priv.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "adopt.h"
#include "alerts.h"
#include "cancel.h"
#include "cancels.h"
#include "clients.h"
#include "control.h"
#include "embedded.h"
#include "handover.h"
#include "hangups.h"
#include "http.h"
#include "log.h"
#include "maintain.h"
#include "pidfile.h"
#include "pools.h"
#include "process.h"
#include "publish.h"
#include "queue.h"
#include "recorder.h"
#include "resolver.h"
#include "restart.h"
#include "server.h"
#include "service.h"
#include "sockdir.h"
#include "takeover.h"

#define TICK_MS 100
#define CANCELS_WAIT_MS 2000
#define TAKEOVER_WAIT_MS 2000
/* How long "ready" waits for the pools' first connections: with an upstream that is down it serves all the same. */
#define READY_LIMIT UINT64_C(2000000000)

static void
publish(struct instance *i, enum segment_state state)
{
	int r = publisher_publish(i->publisher, state, i->segments, i->npools);

	if (r != 0 && r != i->publish_error)
		log_warning("the statistics cannot be published: %s", strerror(-r));
	i->publish_error = r;
}

/* Every pool has its first connection, has failed to get one, or does not want any. */
static bool
pools_have_tried(const struct instance *i)
{
	for (unsigned n = 0; n < i->npools; n++) {
		const struct pool *p = i->pools[n];

		if (p->settings->min_connections != 0 && p->failures == 0 && p->open == p->connecting)
			return false;
	}
	return true;
}

static void
look_ready(struct instance *i)
{
	const struct instance_settings *s = &i->config->instance;

	if (i->ready == NULL || (!pools_have_tried(i) && clock_ns() - i->started_at < READY_LIMIT))
		return;
	recorder_remove_others(s->instance, i->segments, i->recorder != NULL ? i->npools : 0);
	publish(i, SEGMENT_OPEN);
	log_info("instance %s is ready: %u pools, sockets in %s", s->instance, i->npools, i->socket_dir);
	service_store(i->pools, i->npools);
	service_ready();
	i->ready(i->ready_context);
	i->ready = NULL;
}

/* Nothing to look at: nothing open, wanted or waited for. */
static bool
is_at_rest(const struct pool *p)
{
	return p->open == 0 && !p->attention && p->failures == 0 && p->settings->min_connections == 0 &&
	       !queue_maybe_waiting(&p->seg);
}

static enum segment_state
state_of(const struct instance *i)
{
	return i->stopping ? SEGMENT_DRAINING : SEGMENT_OPEN;
}

/* The end of a drain that was asked for with a stop. */
static void
look_stopped(struct instance *i, uint64_t now)
{
	unsigned leases = 0, open = 0;

	if (!i->stopping)
		return;
	for (unsigned n = 0; n < i->nall; n++) {
		leases += pool_count_leases(i->pools[n]);
		open += i->pools[n]->open;
	}
	if (open != 0 && now < i->stop_at)
		return;
	if (leases != 0)
		log_warning("instance %s does not wait any longer: %u leases are revoked", i->config->instance.instance,
		    leases);
	event_base_loopbreak(i->shared.base);
}

void
instance_begin_stop(void *context, uint64_t timeout, const char *why)
{
	struct instance *i = context;
	uint64_t now = clock_ns();

	if (!i->stopping)
		log_info("instance %s stops: %s; leases may stay out for %.3g s", i->config->instance.instance, why,
		    (double)timeout / 1e9);
	if (!i->stopping || now + timeout < i->stop_at)
		i->stop_at = now + timeout;
	i->stopping = true;
	service_stopping(i->pools, i->nall);
	restart_abandon(i, "it is stopping");
	commands_stopping(i->commands);
	for (unsigned n = 0; n < i->nall; n++)
		pool_drain(i->pools[n]);
	look_stopped(i, now);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct instance *i = arg;
	uint64_t now = clock_ns();

	for (unsigned n = 0; n < i->nall; n++)
		if (!is_at_rest(i->pools[n]) && !i->shared.quiet)
			maintain_pool(i->pools[n], i->clients, now);
	for (unsigned n = 0; n < i->nall; n++) {
		struct pulse_params beat = {
		    .now = now,
		    .broker_memory = publisher_own_memory(i->publisher),
		    .connects_fail = i->pools[n]->failures != 0,
		};

		pulse_beat(&i->pools[n]->pulse, &i->pools[n]->seg, &beat);
	}
	if (getpid() == 1)
		process_reap_others();
	alerts_tick(i->alerts, now, publisher_own_memory(i->publisher));
	clients_tick(i->clients);
	control_tick(i->control, now);
	adopt_tick(i->adopt, now);
	http_tick(i->http, now);
	recorder_tick(i->recorder);
	takeover_tick(i->shared.takeover, now, !i->shared.quiet);
	publish(i, state_of(i));
	service_tick(i->pools, i->npools, now);
	look_ready(i);
	commands_look(i->commands, now);
	pools_tick(i, now);
	look_stopped(i, now);
}

static void
on_attention(evutil_socket_t fd, short what, void *arg)
{
	struct instance *i = arg;
	uint64_t now = clock_ns();

	for (unsigned n = 0; n < i->nall; n++)
		if (i->pools[n]->attention && !i->shared.quiet)
			maintain_pool(i->pools[n], i->clients, now);
	look_ready(i);
	commands_look(i->commands, now);
	pools_tick(i, now);
	look_stopped(i, now);
}

static void
on_signal(evutil_socket_t signal, short what, void *arg)
{
	struct instance *i = arg;
	bool at_once = signal == SIGINT || i->stopping;

	if (i->stopping)
		log_info("instance %s stops at once: %s while it drains", i->config->instance.instance,
		    signal == SIGTERM ? "SIGTERM" : "SIGINT");
	instance_begin_stop(i, at_once ? 0 : i->config->instance.drain_timeout, signal == SIGTERM ? "SIGTERM" : "SIGINT");
}

static void
on_sighup(evutil_socket_t signal, short what, void *arg)
{
	struct instance *i = arg;
	const char *why = i->stopping ? "it is stopping" : restart_reload(i, "SIGHUP");

	if (why != NULL)
		log_warning("instance %s is not reloaded: %s", i->config->instance.instance, why);
}

static void
on_hang_up(void *context, uint32_t pool, uint32_t slot, uint32_t generation)
{
	struct instance *i = context;
	struct pool *p = pool_find(i->pools, i->nall, pool);
	struct server *s = p != NULL ? &p->server[slot] : NULL;

	if (s != NULL && server_has_connection(s) && (uint32_t)s->generation == generation)
		server_hung_up(s);
}

static void
on_cancel_returned(void *context, const struct cancels_ticket *ticket, int sent)
{
	struct instance *i = context;

	cancel_returned(i->pools, i->nall, ticket);
}

static int
start_loop(struct instance *i)
{
	struct event_base *base = event_base_new();

	i->shared.base = base;
	if (base == NULL)
		return log_refuse("cannot make an event loop");
	signal(SIGPIPE, SIG_IGN);
	/* Before anything that blocks: a signal that comes meanwhile stops the instance when it has started. */
	i->sigterm = evsignal_new(base, SIGTERM, on_signal, i);
	i->sigint = evsignal_new(base, SIGINT, on_signal, i);
	i->sighup = evsignal_new(base, SIGHUP, on_sighup, i);
	i->tick = event_new(base, -1, EV_PERSIST, on_tick, i);
	i->shared.attention = event_new(base, -1, 0, on_attention, i);
	if (i->sigterm == NULL || i->sigint == NULL || i->sighup == NULL || i->tick == NULL || i->shared.attention == NULL ||
	    event_add(i->sigterm, NULL) != 0 || event_add(i->sigint, NULL) != 0 ||
	    event_add(i->sighup, NULL) != 0 ||
	    hangups_new(base, on_hang_up, i, &i->shared.hangups) != 0 ||
	    resolver_new(base, getaddrinfo, &i->shared.resolver) != 0 ||
	    cancels_new(base, on_cancel_returned, i, &i->shared.cancels) != 0)
		return log_refuse("cannot make the event loop: %m");
	return 0;
}

/* H6: all is there. */
static int
go_on(struct instance *i, uint64_t since, struct handover *from)
{
	struct command_restarted how = {.clients = clients_attached(i->clients), .restarts = ++i->restarts};

	if (cancels_take_over(i->shared.cancels, from) != 0 || handover_check(from, true) != 0)
		return -1;
	restart_hold_signals(false);
	i->ready = NULL;
	pools_serve(i);
	adopt_go_on(i->adopt);
	publish(i, SEGMENT_OPEN);
	for (unsigned n = 0; n < i->nall; n++)
		how.connections += i->pools[n]->open;
	how.gap = clock_ns() - since;
	log_info("instance %s goes on as pgleased " PACKAGE_VERSION ", with %u connections and %u clients, after %.1f ms",
	    i->config->instance.instance, how.connections, how.clients, (double)how.gap / 1e6);
	service_store(i->pools, i->npools);
	service_ready();
	commands_restarted(i->commands, NULL, &how);
	return 0;
}

static int
start(struct instance *i, struct handover *from)
{
	const struct instance_settings *s = &i->config->instance;
	struct timeval tick = {.tv_usec = TICK_MS * 1000};
	uint64_t since = 0;

	if (s->socket_dir[0] != '\0')
		snprintf(i->socket_dir, sizeof(i->socket_dir), "%s", s->socket_dir);
	else if (paths_default_socket_dir(s->instance, i->socket_dir, sizeof(i->socket_dir)) != 0)
		return log_refuse("the default path of the socket folder is too long: set socket_dir");
	if (from != NULL)
		restart_instance_fields(i, &since, from);
	else if (getrandom(&i->id, sizeof(i->id), 0) != sizeof(i->id))
		return log_refuse("no random numbers: %m");
	if (instance_take_descriptors(i) != 0 || start_loop(i) != 0 || instance_make_parts(i, from) != 0)
		return -1;
	if (from != NULL)
		return event_add(i->tick, &tick) != 0 ? log_refuse("cannot make the event loop: %m") : go_on(i, since, from);
	i->started_at = clock_ns();
	pools_serve(i);
	for (unsigned n = 0; n < i->npools; n++)
		pool_grow(i->pools[n], i->started_at);
	if (event_add(i->tick, &tick) != 0)
		return log_refuse("cannot make the event loop: %m");
	return 0;
}

int
instance_start(const struct instance_params *params, struct instance **ret)
{
	struct instance *i = calloc(1, sizeof(*i));

	if (i == NULL)
		return log_refuse("out of memory");
	i->config = params->configuration;
	i->origin = params->origin;
	i->ready = params->ready;
	i->ready_context = params->context;
	if (start(i, params->from) != 0) {
		if (params->from == NULL)
			instance_stop(i);
		return -1;
	}
	*ret = i;
	return 0;
}

void
instance_run(struct instance *i)
{
	event_base_dispatch(i->shared.base);
}

static void
free_event(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

void
instance_stop(struct instance *i)
{
	if (i == NULL)
		return;
	restart_abandon(i, "it is stopping");
	/* Clients find the segments closed before their control connections end. */
	for (unsigned n = 0; n < i->nall; n++)
		pool_stop(i->pools[n]);
	if (i->publisher != NULL)
		publish(i, SEGMENT_CLOSED);
	http_free(i->http);
	control_free(i->control);
	commands_free(i->commands);
	adopt_free(i->adopt);
	clients_free(i->clients);
	cancels_free(i->shared.cancels, CANCELS_WAIT_MS);
	takeover_free(i->shared.takeover, TAKEOVER_WAIT_MS);
	recorder_free(i->recorder, i->started_at != 0);
	alerts_free(i->alerts);
	for (unsigned n = 0; n < i->nall; n++)
		pool_free(i->pools[n]);
	embedded_stop(i->embedded);
	publisher_free(i->publisher);
	hangups_free(i->shared.hangups);
	resolver_free(i->shared.resolver);
	free_event(i->tick);
	free_event(i->shared.attention);
	free_event(i->sigterm);
	free_event(i->sigint);
	free_event(i->sighup);
	pidfile_release(i->pidfile);
	sockdir_release(i->sockdir, i->started_at != 0);
	if (i->shared.base != NULL)
		event_base_free(i->shared.base);
	free(i);
}

/* SPDX-License-Identifier: PostgreSQL */
/* The parts of an instance, in the order in which they need each other: each made anew, or of what another program has handed over. */
#include "instance_priv.h"

#include <string.h>
#include <sys/socket.h>

#include "access.h"
#include "activation.h"
#include "adopt.h"
#include "alert_command.h"
#include "alerts.h"
#include "clients.h"
#include "control.h"
#include "descriptors.h"
#include "embedded.h"
#include "handover.h"
#include "http.h"
#include "log.h"
#include "pidfile.h"
#include "pools.h"
#include "publish.h"
#include "recorder.h"
#include "restart.h"
#include "sockdir.h"
#include "takeover.h"

#define SECOND_NS UINT64_C(1000000000)

/*
 * Two descriptors for each server connection (a cancel), each client (its pidfd) and each history (one that can only read), and
 * some for all the rest.
 */
static unsigned
descriptors_wanted(const struct configuration *config)
{
	uint64_t n = 64 + ALERT_COMMANDS + (config->instance.http_listen[0] != '\0' ? HTTP_DESCRIPTORS : 0) + 2 * config->instance.max_clients;

	for (unsigned i = 0; i < config->npools; i++)
		n += 2 + 2 * config->pool[i].max_connections;
	return (unsigned)n;
}

static int
start_embedded(struct instance *i, struct handover *from)
{
	const struct instance_settings *s = &i->config->instance;
	struct embedded_params params = {
	    .base = i->shared.base,
	    .instance = s->instance,
	    .socket_dir = i->socket_dir,
	    .data_dir = s->data_dir,
	    .from = from,
	};
	bool wanted = false;

	for (unsigned n = 0; n < i->config->npools; n++) {
		if (!i->config->pool[n].embedded)
			continue;
		wanted = true;
		params.max_connections += (unsigned)(i->config->pool[n].max_connections + i->config->pool[n].reserve_connections);
	}
	return wanted ? embedded_start(&params, &i->embedded) : 0;
}

static int
start_sockets(struct instance *i, struct handover *from)
{
	const struct instance_settings *s = &i->config->instance;
	struct adopt_params adopt = {
	    .context = &i->shared,
	    .pools = i->pools,
	    .npools = i->nall,
	    .socket_dir = i->socket_dir,
	    .from = from,
	};
	struct commands_params commands = {
	    .pools = i->pools,
	    .npools = i->npools,
	    .nall = i->nall,
	    .settings = s,
	    .answer = control_answer,
	    .stop = instance_begin_stop,
	    .restart = restart_begin,
	    .reload = restart_reload,
	    .set = restart_set,
	    .context = i,
	};
	struct control_params control = {
	    .base = i->shared.base,
	    .pools = i->pools,
	    .npools = i->npools,
	    .nall = i->nall,
	    .max_clients = (unsigned)s->max_clients,
	    .max_clients_per_user = (unsigned)s->max_clients_per_user,
	    .instance_id = i->id,
	    .instance = s->instance,
	    .socket_dir = i->socket_dir,
	    .admin_users = s->admin_users,
	    .admin_groups = s->admin_groups,
	    .recorder = i->recorder,
	    .passed = i->passed,
	    .from = from,
	};

	if (clients_new(i->shared.base, i->pools, i->nall, (unsigned)s->max_clients, &i->clients) != 0)
		return log_refuse("out of memory");
	if (from != NULL && clients_take_over(i->clients, from) != 0)
		return -1;
	commands.clients = i->clients;
	i->commands = commands_new(&commands);
	if (i->commands == NULL)
		return log_refuse("out of memory");
	control.commands = i->commands;
	adopt.clients = control.clients = i->clients;
	return adopt_new(&adopt, &i->adopt) != 0 || control_new(&control, &i->control) != 0 ? -1 : 0;
}

/* The settings of these names. */
static struct stats_limits
limits_of(const struct pool_settings *s)
{
#define TAKE_U32(name, unit, flags, help) .name = (uint32_t)s->name,
#define TAKE_U64(name, unit, flags, help) .name = s->name,
	struct stats_limits limits = {STATS_LIMIT_COLUMNS(TAKE_U32, TAKE_U64)};
#undef TAKE_U32
#undef TAKE_U64

	if (!s->leak_detection)
		limits.leak_threshold = 0;
	return limits;
}

static int
start_publisher(struct instance *i, struct handover *from)
{
	gid_t group = 0;
	bool local[LAYOUT_MAX_POOLS];
	uint32_t numbers[LAYOUT_MAX_POOLS];
	struct publisher_params params = {
	    .instance = i->config->instance.instance,
	    .socket_dir = i->socket_dir,
	    .instance_id = i->id,
	    .mode = (mode_t)i->config->instance.stats_mode,
	    .off = !i->config->instance.monitoring,
	    .group = i->config->instance.monitor_group[0] != '\0' ? &group : NULL,
	    .pools = i->segments,
	    .pool_is_local = local,
	    .numbers = numbers,
	    .limits = i->limits,
	    .clients_max = (uint32_t)i->config->instance.max_clients,
	    .npools = i->npools,
	    .from = from,
	};
	const char *error;

	for (unsigned n = 0; n < i->npools; n++) {
		local[n] = i->pools[n]->target.is_local;
		numbers[n] = i->pools[n]->index;
		i->limits[n] = limits_of(i->pools[n]->settings);
	}
	if (params.group != NULL && access_group(i->config->instance.monitor_group, &group) != 0)
		return log_refuse("monitor_group cannot be looked up any more");
	/* The last moment at which it is there. */
	if (from == NULL) {
		i->shared.takeover = takeover_new(params.instance, i->sockdir, i->pools, i->npools);
		if (i->shared.takeover == NULL)
			return log_refuse("out of memory");
	} else if (takeover_take_over(from, i->sockdir, i->pools, i->npools, i->nall, &i->shared.takeover) != 0) {
		return -1;
	}
	return publisher_new(&params, &i->publisher, &error) == 0 ? 0 : log_refuse("%s", error);
}

static const char *
why_not_ready(void *context)
{
	const struct instance *i = context;

	return i->stopping ? "the broker stops" : i->ready != NULL ? "the broker has not finished starting" : NULL;
}

static int
start_http(struct instance *i, struct handover *from)
{
	const struct instance_settings *s = &i->config->instance;
	struct http_params params = {
	    .base = i->shared.base,
	    .listen = s->http_listen,
	    .mode = (mode_t)s->http_mode,
	    .charts = !s->http_page ? NULL : s->http_charts[0] != '\0' ? s->http_charts : HTTP_CHARTS_FOLDER,
	    .pages = {.publisher = i->publisher,
		.recorder = i->recorder,
		.pools = i->segments,
		.npools = i->npools,
		.retention = s->metrics_retention,
		.why_not_ready = why_not_ready,
		.context = i},
	    .from = from,
	};

	return params.listen[0] != '\0' ? http_new(&params, &i->http) : 0;
}

static int
start_recorder(struct instance *i, struct handover *from)
{
	const struct instance_settings *s = &i->config->instance;
	gid_t group = 0;
	struct recorder_params params = {
	    .instance = s->instance,
	    .instance_id = i->id,
	    .data_dir = s->data_dir,
	    .save = s->history_save != 0,
	    .seconds = (uint32_t)(s->metrics_retention / SECOND_NS),
	    .mode = (mode_t)s->stats_mode,
	    .group = s->monitor_group[0] != '\0' ? &group : NULL,
	    .pools = i->segments,
	    .of = i->pools,
	    .npools = i->npools,
	    .publisher = i->publisher,
	    .from = from,
	};

	if (!s->monitoring || !s->history)
		return 0;
	if (params.group != NULL && access_group(s->monitor_group, &group) != 0)
		return log_refuse("monitor_group cannot be looked up any more");
	if (recorder_new(&params, &i->recorder) != 0)
		return -1;
	publisher_history_size(i->publisher, recorder_size(i->recorder));
	return 0;
}

static int
start_alerts(struct instance *i, struct handover *from)
{
	struct alerts_params params = {
	    .base = i->shared.base,
	    .settings = &i->config->instance,
	    .pools = i->pools,
	    .npools = i->npools,
	    .from = from,
	};

	return alerts_new(&params, &i->alerts);
}

/* Folder and files that say that this instance is served. */
static int
start_claims(struct instance *i, struct handover *from)
{
	const char *pid_file = i->config->instance.pid_file;
	char control[PATHS_MAX];

	i->passed = -1;
	if (from == NULL && (paths_control_socket(i->socket_dir, control, sizeof(control)) == 0 &&
	                        activation_take_listener("control", SOCK_SEQPACKET, control, &i->passed) != 0))
		return -1;
	if (from == NULL)
		return activation_end() != 0 || sockdir_take(i->socket_dir, i->passed >= 0, &i->sockdir) != 0 ||
		               (pid_file[0] != '\0' && pidfile_take(pid_file, &i->pidfile) != 0)
		           ? -1
		           : 0;
	return sockdir_take_over(i->socket_dir, from, &i->sockdir) != 0 ||
	               (pid_file[0] != '\0' && pidfile_take_over(pid_file, from, &i->pidfile) != 0)
	           ? -1
	           : 0;
}

int
instance_take_descriptors(struct instance *i)
{
	return descriptors_init(descriptors_wanted(i->config));
}

int
instance_make_parts(struct instance *i, struct handover *from)
{
	if (start_claims(i, from) != 0 || start_embedded(i, from) != 0 ||
	    pools_start(i, from) != 0 || start_publisher(i, from) != 0 || start_recorder(i, from) != 0 ||
	    start_alerts(i, from) != 0 || start_sockets(i, from) != 0 || start_http(i, from) != 0)
		return -1;
	return 0;
}

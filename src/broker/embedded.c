/* SPDX-License-Identifier: PostgreSQL */
/* Running the embedded PostgreSQL. Starting blocks, later restarts do not: pools try until it is there again. */
#include "embedded.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster.h"
#include "handover.h"
#include "log.h"
#include "segment.h"

#define START_MS 60000
#define POLL_MS 20
#define FAST_MS 60000
#define IMMEDIATE_MS 10000
#define RESTART_SECONDS 30 /* longest pause before a restart */
#define SOUND_NS UINT64_C(60000000000) /* ran for this long: its start was no failure */
#define WHY (PATHS_MAX + 128)

struct embedded {
	struct embedded_params params;
	struct cluster cluster;
	struct process server;
	struct event ended, restart;
	unsigned failures;
	uint64_t started_at;
	char conninfo[PATHS_MAX + 80];
};

static void on_ended(evutil_socket_t fd, short what, void *arg);

/* 0, or -1 with the reason. */
static int
run_server(struct embedded *e, char why[WHY])
{
	char program[PATHS_MAX + 16], connections[48], name[LAYOUT_NAME + 32];
	const char *argv[] = {program, "-D", e->cluster.data, "-k", e->cluster.sockets, "-p", "5432", "-c",
	    "listen_addresses=", "-c", "unix_socket_permissions=0700", "-c", "logging_collector=off", "-c",
	    "log_destination=stderr", "-c", connections, "-c", name, NULL};
	struct process_params params = {
	    .argv = argv,
	    .user = e->cluster.user,
	    .uid = e->cluster.uid,
	    .gid = e->cluster.gid,
	    .folder = "/",
	    .death_signal = SIGINT, /* fast shutdown: it does not outlive a killed broker */
	};
	int r;

	snprintf(program, sizeof(program), "%s/postgres", e->cluster.bin);
	snprintf(connections, sizeof(connections), "max_connections=%u", e->params.max_connections + 20);
	snprintf(name, sizeof(name), "cluster_name=pglease %s", e->params.instance);
	params.output = open(e->cluster.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (params.output < 0) {
		snprintf(why, WHY, "%s: %s", e->cluster.log, strerror(errno));
		return -1;
	}
	r = process_start(&params, &e->server);
	close(params.output);
	if (r != 0) {
		snprintf(why, WHY, "cannot run %s: %s", program, strerror(-r));
		return -1;
	}
	e->started_at = clock_ns();
	event_assign(&e->ended, e->params.base, e->server.pidfd, EV_READ, on_ended, e);
	event_add(&e->ended, NULL);
	return 0;
}

static void
restart_later(struct embedded *e)
{
	struct timeval pause;

	if (clock_ns() - e->started_at > SOUND_NS)
		e->failures = 0;
	pause = (struct timeval){.tv_sec = e->failures < RESTART_SECONDS ? e->failures : RESTART_SECONDS};
	e->failures++;
	evtimer_add(&e->restart, &pause);
}

static void
on_restart(evutil_socket_t fd, short what, void *arg)
{
	struct embedded *e = arg;
	char why[WHY];

	log_info("embedded PostgreSQL: restarting");
	if (run_server(e, why) == 0)
		return;
	log_warning("embedded PostgreSQL: %s; it is tried again after at most %d s", why, RESTART_SECONDS);
	restart_later(e);
}

static void
on_ended(evutil_socket_t fd, short what, void *arg)
{
	struct embedded *e = arg;
	char how[32], last[300];
	int status = 0;

	event_del(&e->ended);
	if (!process_wait(&e->server, 0, &status))
		return;
	process_describe(status, how, sizeof(how));
	cluster_last_line(e->cluster.log, last, sizeof(last));
	log_error("embedded PostgreSQL ended (%s): %s", how, last);
	restart_later(e);
}

/* Until it takes connections; it says so to a ping, without a session. */
static int
await_server(struct embedded *e)
{
	uint64_t end = clock_ns() + (uint64_t)START_MS * 1000000;
	char how[32], last[300];
	int status = 0;

	while (PQping(e->conninfo) != PQPING_OK) {
		/* The wait for its end is the pause between two pings. */
		if (process_wait(&e->server, POLL_MS, &status)) {
			event_del(&e->ended);
			process_describe(status, how, sizeof(how));
			cluster_last_line(e->cluster.log, last, sizeof(last));
			return log_refuse("embedded PostgreSQL does not start (%s): %s (see %s)", how, last,
			    e->cluster.log);
		}
		if (clock_ns() > end)
			return log_refuse("embedded PostgreSQL takes no connections after %d s (see %s)",
			    START_MS / 1000, e->cluster.log);
	}
	return 0;
}

void
embedded_hand_over(struct embedded *e, struct handover *h)
{
	handover_section(h, "embedded");
	HANDOVER(h, e->server.pid);
	handover_fd(h, &e->server.pidfd);
	HANDOVER(h, e->failures);
	HANDOVER(h, e->started_at);
	HANDOVER(h, e->params.max_connections); /* that the server was started with */
}

unsigned
embedded_connections(const struct embedded *e)
{
	return e != NULL ? e->params.max_connections : 0;
}

/* It runs, or is to be started again after its pause. */
static int
take_over(struct embedded *e, struct handover *from)
{
	embedded_hand_over(e, from); /* the same fields, read */
	if (handover_check(from, false) != 0)
		return -1;
	if (e->server.pid == 0) {
		restart_later(e);
		return 0;
	}
	process_know(&e->server);
	if (event_assign(&e->ended, e->params.base, e->server.pidfd, EV_READ, on_ended, e) != 0 ||
	    event_add(&e->ended, NULL) != 0)
		return log_refuse("embedded PostgreSQL cannot be watched");
	return 0;
}

int
embedded_start(const struct embedded_params *params, struct embedded **ret)
{
	struct embedded *e = calloc(1, sizeof(*e));
	char why[WHY];

	if (e == NULL)
		return log_refuse("out of memory");
	e->params = *params;
	e->server.pidfd = -1;
	event_assign(&e->ended, params->base, -1, 0, on_ended, e);
	evtimer_assign(&e->restart, params->base, on_restart, e);
	if (cluster_prepare(&e->cluster, params->instance, params->data_dir, params->socket_dir) != 0) {
		free(e);
		return -1;
	}
	snprintf(e->conninfo, sizeof(e->conninfo), "host='%s' port=5432 user=postgres dbname=postgres",
	    e->cluster.sockets);
	*ret = e;
	if (params->from != NULL)
		return take_over(e, params->from);
	*ret = NULL;
	if (cluster_stop_leftover(&e->cluster) != 0)
		goto fail;
	if (run_server(e, why) != 0) {
		log_refuse("embedded PostgreSQL: %s", why);
		goto fail;
	}
	if (await_server(e) != 0)
		goto fail;
	log_info("embedded PostgreSQL runs (pid %ld), data in %s, socket in %s", (long)e->server.pid,
	    e->cluster.data, e->cluster.sockets);
	*ret = e;
	return 0;

fail:
	embedded_stop(e);
	return -1;
}

const char *
embedded_conninfo(const struct embedded *e)
{
	return e->conninfo;
}

void
embedded_stop(struct embedded *e)
{
	int status = 0;

	if (e == NULL)
		return;
	event_del(&e->restart);
	event_del(&e->ended);
	if (e->server.pid != 0) {
		kill(e->server.pid, SIGINT);
		if (!process_wait(&e->server, FAST_MS, &status)) {
			log_warning("embedded PostgreSQL does not stop: immediate shutdown");
			kill(e->server.pid, SIGQUIT);
			if (!process_wait(&e->server, IMMEDIATE_MS, &status)) {
				kill(e->server.pid, SIGKILL);
				process_wait(&e->server, -1, &status);
			}
		}
		log_info("embedded PostgreSQL stopped");
	}
	cluster_remove_sockets(&e->cluster);
	free(e);
}

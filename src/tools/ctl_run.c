/* SPDX-License-Identifier: PostgreSQL */
/* pgleasectl as a whole: finds the broker, asks, shows the answers, and for stop waits until it has gone. */
#include "config.h"

#include "ctl_run.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl_options.h"
#include "dial.h"
#include "pglease_errors.h"

/* The end of a broker that has drained: its embedded PostgreSQL shuts down meanwhile. */
#define GONE_MS 120000

enum { EXIT_DONE = 0, EXIT_USAGE = 1, EXIT_NO_INSTANCE = 2, EXIT_REFUSED = 3, EXIT_TIMEOUT = 4 };

struct ctl {
	const struct ctl_options *options;
	FILE *out, *err;
	bool restart, show;
	json_t *items; /* of status or show, as JSON; else NULL */
	bool bad_json;
	unsigned answers; /* that were not the last */
};

/* A line of an answer that goes on: a pool's status; otherwise news for whoever waits. */
static void
show_progress(void *context, const struct wire_result *result)
{
	struct ctl *ctl = context;
	json_t *item;

	ctl->answers++;
	if (result->code != 0) { /* one of several reasons; the first comes last */
		fprintf(ctl->err, "pgleasectl: %s\n", result->text);
		return;
	}
	if (ctl->restart && ctl->options->json)
		return; /* the last one is all */
	if (ctl->items == NULL) {
		fprintf(ctl->out, "%s\n", result->text);
		fflush(ctl->out);
		return;
	}
	item = json_loads(result->text, 0, NULL);
	if (item == NULL || json_array_append_new(ctl->items, item) != 0)
		ctl->bad_json = true;
}

static int
show_json(struct ctl *ctl, const char *text)
{
	json_t *document = json_loads(text, 0, NULL);

	if (ctl->bad_json || !json_is_object(document) ||
	    (ctl->items != NULL && json_object_set(document, ctl->show ? "settings" : "pools", ctl->items) != 0)) {
		json_decref(document);
		fprintf(ctl->err,
		    "pgleasectl: the broker of instance %s answered with something unexpected\n",
		    ctl->options->instance);
		return EXIT_REFUSED;
	}
	json_dumpf(document, ctl->out, JSON_INDENT(2));
	fputc('\n', ctl->out);
	json_decref(document);
	return EXIT_DONE;
}

static int
show_last(struct ctl *ctl, const struct wire_result *result)
{
	if (result->code != 0) {
		fprintf(ctl->err, "pgleasectl: %s\n", result->text);
		return result->code == PGLEASE_ETIMEOUT ? EXIT_TIMEOUT : EXIT_REFUSED;
	}
	if (ctl->options->json)
		return show_json(ctl, result->text);
	fprintf(ctl->out, "%s\n", result->text);
	return EXIT_DONE;
}

/* The process that listens, or -1 where it cannot be seen (another pid namespace). */
static int
watch_broker(int sock)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0)
		return -1;
	return pidfd_open(peer.pid, 0);
}

/*
 * After its connection has ended: waits for the broker's process, which removes what it made as the last
 * thing.
 */
static int
await_gone(struct ctl *ctl, int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int r;

	if (pidfd >= 0) {
		do
			r = poll(&p, 1, GONE_MS);
		while (r < 0 && errno == EINTR);
		if (r != 1) {
			fprintf(ctl->err,
			    "pgleasectl: the broker of instance %s is stopping, but has not gone after %d "
			    "s\n",
			    ctl->options->instance, GONE_MS / 1000);
			return EXIT_TIMEOUT;
		}
	}
	fprintf(ctl->out, "instance %s: stopped\n", ctl->options->instance);
	return EXIT_DONE;
}

static int
ask(struct ctl *ctl, int sock)
{
	const struct ctl_options *o = ctl->options;
	bool stop = strcmp(o->verb->name, "stop") == 0;
	int pidfd = stop ? watch_broker(sock) : -1, status;
	struct wire_result result;
	int r = command_ask(sock, o->verb->name, o->argument, o->timeout_ms, o->json ? WIRE_COMMAND_JSON : 0,
	    show_progress, ctl, &result);

	if (r == 0) {
		status = show_last(ctl, &result);
	} else if (r == -EPIPE && stop && ctl->answers != 0) {
		status = await_gone(ctl, pidfd);
	} else if (r == -EPIPE && ctl->restart && ctl->answers != 0) {
		fprintf(ctl->err,
		    "pgleasectl: the program that was to take the place of the broker of instance %s has ended instead: its log "
		    "says why; start it, and workers attach again\n",
		    o->instance);
		status = EXIT_REFUSED;
	} else if (r == -ETIMEDOUT) {
		fprintf(ctl->err,
		    "pgleasectl: the broker of instance %s does not answer: is it stopped or overloaded?\n",
		    o->instance);
		status = EXIT_TIMEOUT;
	} else {
		fprintf(ctl->err, "pgleasectl: no answer from the broker of instance %s: %s\n", o->instance,
		    r == -EPIPE    ? "it has gone, or closed the connection"
		    : r == -EPROTO ? "it sent something unexpected"
		                   : strerror(-r));
		status = EXIT_REFUSED;
	}
	if (pidfd >= 0)
		close(pidfd);
	return status;
}

int
ctl_run(int argc, char **argv, FILE *out, FILE *err)
{
	struct ctl_options options;
	struct ctl ctl = {.options = &options, .out = out, .err = err};
	char dir[PATHS_MAX], tried[DIAL_TRIED];
	int sock, r, status;

	if (ctl_options_parse(argc, argv, err, &options) != 0)
		return EXIT_USAGE;
	switch (options.action) {
	case CTL_HELP:
		ctl_options_usage(out);
		return EXIT_DONE;
	case CTL_VERSION:
		fputs("pgleasectl (pglease) " PACKAGE_VERSION "\n", out);
		return EXIT_DONE;
	case CTL_COMMAND:
		break;
	}
	r = dial_broker(options.instance, options.socket_dir, dir, &sock, tried);
	if (r != 0) {
		fprintf(err, "pgleasectl: no broker of instance %s: tried %s\n", options.instance, tried);
		return EXIT_NO_INSTANCE;
	}
	ctl.restart = strcmp(options.verb->name, "restart") == 0;
	ctl.show = strcmp(options.verb->name, "show") == 0;
	if (options.json && !ctl.restart && (ctl.items = json_array()) == NULL) {
		fprintf(err, "pgleasectl: out of memory\n");
		close(sock);
		return EXIT_REFUSED;
	}
	status = ask(&ctl, sock);
	json_decref(ctl.items);
	close(sock);
	return status;
}

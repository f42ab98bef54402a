/* SPDX-License-Identifier: PostgreSQL */
/* The relay, as its environment knows it: started, told, ended. Owns the process and its counts. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "guardian.h"
#include "relay_priv.h"

static int
answer_of(const struct relay *relay)
{
	int32_t answer;
	ssize_t n;

	do
		n = recv(relay->control, &answer, sizeof(answer), 0);
	while (n < 0 && errno == EINTR);
	return n == sizeof(answer) ? answer : -EPIPE;
}

int
relay_start(const char *folder, const char *server, const struct guardian *guardian, struct relay *ret)
{
	struct relay relay = {.control = -1};
	int pair[2], r;
	void *page;

	if (mkdir(folder, 0755))
		return child_fail(errno, "cannot make %s: %s", folder, strerror(errno));
	page = mmap(NULL, sizeof(*relay.counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return child_fail(errno, "mmap: %s", strerror(errno));
	relay.counts = page;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		r = child_fail(errno, "socketpair: %s", strerror(errno));
		munmap(page, sizeof(*relay.counts));
		return r;
	}
	relay.pid = fork();
	if (relay.pid == 0) {
		setsid();
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_IGN);
		child_close_others(pair[1], -1);
		relay_run(pair[1], folder, server, relay.counts);
	}
	close(pair[1]);
	relay.control = pair[0];
	if (relay.pid < 0) {
		r = child_fail(errno, "fork: %s", strerror(errno));
		relay.pid = 0;
	} else {
		r = guardian_watch(guardian, relay.pid, SIGTERM);
	}
	if (r == 0) {
		r = answer_of(&relay);
		if (r)
			child_fail(-r, "the relay cannot listen in %s: %s", folder, strerror(-r));
	}
	if (r)
		relay_stop(&relay);
	else
		*ret = relay;
	return r;
}

int
relay_tell(const struct relay *relay, enum relay_order order, int64_t a, int64_t b, const char *text)
{
	struct relay_message m = {.order = (int32_t)order, .a = a, .b = b};
	int r;

	if (relay->pid == 0)
		return child_fail(EINVAL, "the environment was made without the option `relay`");
	snprintf(m.text, sizeof(m.text), "%s", text);
	if (send(relay->control, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m))
		return child_fail(EPIPE, "the relay has gone");
	r = answer_of(relay);
	return r ? child_fail(-r, "the relay cannot do this: %s", strerror(-r)) : 0;
}

void
relay_stop(struct relay *relay)
{
	if (relay->control >= 0)
		close(relay->control);
	if (relay->pid > 0) {
		kill(relay->pid, SIGTERM);
		kill(relay->pid, SIGCONT);
		while (waitpid(relay->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (relay->counts != NULL)
		munmap(relay->counts, sizeof(*relay->counts));
	*relay = (struct relay){.control = -1};
}

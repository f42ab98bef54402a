/* SPDX-License-Identifier: PostgreSQL */
/* Matching and attaching. */
#include "pools.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "adopt.h"
#include "client_priv.h"
#include "dial.h"
#include "former.h"
#include "lock.h"

#define LIST_NS UINT64_C(10000000000) /* how long the broker's list is believed */
#define ANSWER_NS UINT64_C(2000000000)
/* Where there is an old list that is as good: of a broker that says nothing, one question a second. */
#define SHORT_ANSWER_NS UINT64_C(100000000)
#define ASK_AGAIN_NS UINT64_C(1000000000)
#define MAX_OPEN LAYOUT_MAX_POOLS

/* Never freed, for a thread may look at the one that it used last when that has come to its end: it has no uses then. */
struct attachment {
	pglease *client;
	_Atomic unsigned uses; /* with one while it is the library's present one; the last to go does so under the lock */
};

/* What the broker said last; under the lock. */
static struct wire_match list[LAYOUT_MAX_POOLS], fresh[LAYOUT_MAX_POOLS];
static unsigned nlist;
static uint64_t listed_at; /* 0: never */
static uint64_t silent_at; /* it said nothing then, and the old list goes on; 0: it has not been silent */

/* What this thread was told last, for the same again without the lock. */
static _Thread_local struct {
	struct library *lib;
	const struct wanted *wanted; /* one that is kept: its address is not another's later; NULL: nothing */
	struct pool_use use;
	uint64_t until; /* the end of the list's life; never, if the program named the pool */
} last;

/* One question and its answer. */
static bool
ask(int sock, uint32_t index, uint64_t deadline, struct wire_match *ret)
{
	struct wire_ask question = {.pool = index};
	struct wire_match answer;
	ssize_t n;
	int fd = -1;

	wire_header_init(&question.header, WIRE_ASK);
	if (wire_send(sock, &question, sizeof(question), -1) != (ssize_t)sizeof(question))
		return false;
	do {
		if (wait_fd(sock, POLLIN, deadline) <= 0)
			return false;
		n = wire_recv(sock, &answer, sizeof(answer), &fd);
	} while (n == -EAGAIN);
	if (fd >= 0)
		close(fd);
	if (n <= 0 || !wire_is(&answer, (size_t)n, WIRE_MATCH))
		return false;
	answer.pool[sizeof(answer.pool) - 1] = answer.dbname[sizeof(answer.dbname) - 1] =
	    answer.user[sizeof(answer.user) - 1] = answer.host[sizeof(answer.host) - 1] = '\0';
	*ret = answer;
	return true;
}

/* Under the lock. False: no broker, or not one that answers; the message is set. */
static bool
list_read(void)
{
	char dir[PATHS_MAX], tried[DIAL_TRIED];
	const char *instance = paths_instance(NULL);
	uint32_t n = 1, i;
	bool good = true;
	int sock;

	if (listed_at != 0 && clock_ns() - listed_at < LIST_NS)
		return true;
	if (silent_at != 0 && nlist != 0 && clock_ns() - silent_at < ASK_AGAIN_NS)
		return true;
	listed_at = silent_at = 0;
	if (paths_check_name(instance) != 0 || dial_broker(instance, NULL, dir, &sock, tried) != 0) {
		/* What the last one said is as good as can be for those who have its connections. */
		if (nlist != 0)
			return true;
		error_set(PGLEASE_ENOBROKER, "no broker of instance %.64s can be reached", instance);
		return false;
	}
	for (i = 0; good && i < n && i < LAYOUT_MAX_POOLS; i++) {
		good = ask(sock, i, clock_ns() + (nlist != 0 ? SHORT_ANSWER_NS : ANSWER_NS), &fresh[i]);
		if (good)
			n = fresh[i].npools;
	}
	close(sock);
	/* The same for one that is stopped, or whose socket a service manager holds. */
	if (!good && nlist != 0) {
		silent_at = clock_ns();
		return true;
	}
	if (!good) {
		error_set(PGLEASE_ENOBROKER, "the broker of instance %s does not say what its pools stand for", instance);
		return false;
	}
	nlist = i;
	memcpy(list, fresh, i * sizeof(list[0]));
	listed_at = clock_ns();
	return true;
}

/* Whether `value` is in a list separated by commas; blanks around an item do not count. */
static bool
is_listed(const char *value, const char *items)
{
	size_t size = strlen(value);

	if (strcmp(items, "*") == 0)
		return true;
	while (*items != '\0') {
		size_t n;

		items += strspn(items, " ");
		n = strcspn(items, ",");
		while (n > 0 && items[n - 1] == ' ')
			n--;
		if (n == size && strncmp(items, value, n) == 0)
			return true;
		items += strcspn(items, ",");
		items += *items == ',';
	}
	return false;
}

/* libpq without a host takes the folder that it was built with: one of these, as a rule. "" stands for that. */
static bool
is_default_host(const char *host)
{
	return host == NULL || *host == '\0' || strcmp(host, "/var/run/postgresql") == 0 || strcmp(host, "/run/postgresql") == 0 ||
	       strcmp(host, "/tmp") == 0;
}

static bool
host_is_listed(const struct wanted *w, const char *items)
{
	const char *port = w->port != NULL ? w->port : "5432";
	char item[300];

	if (strcmp(items, "*") == 0)
		return true;
	snprintf(item, sizeof(item), "%s %s", w->host != NULL ? w->host : "", port);
	if (is_listed(item, items))
		return true;
	if (w->host != NULL && !is_default_host(w->host))
		return false;
	if (w->host == NULL) {
		snprintf(item, sizeof(item), "/var/run/postgresql %s", port);
		return is_listed(item, items);
	}
	snprintf(item, sizeof(item), " %s", port);
	for (const char *c = items; c != NULL; c = strchr(c, ',')) {
		c += *c == ',';
		if (strncmp(c, item, strlen(item)) == 0 && (c[strlen(item)] == ',' || c[strlen(item)] == '\0'))
			return true;
	}
	return false;
}

static const struct wire_match *
find_pool(const struct wanted *w)
{
	for (unsigned i = 0; i < nlist; i++)
		if (list[i].pool[0] != '\0' && w->dbname != NULL && w->user != NULL && is_listed(w->dbname, list[i].dbname) &&
		    is_listed(w->user, list[i].user) && host_is_listed(w, list[i].host))
			return &list[i];
	return NULL;
}

/* Under the lock. */
static void
attachment_done(struct attachment *a)
{
	if (atomic_fetch_sub(&a->uses, 1) == 1)
		pglease_detach(a->client);
}

/* Under the lock. */
static int
attach(struct library *lib)
{
	struct attachment *a;
	int r;

	if (lib->attachment != NULL)
		return 0;
	a = calloc(1, sizeof(*a));
	if (a == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	r = pglease_attach(NULL, NULL, &a->client);
	if (r != 0) {
		free(a);
		return r;
	}
	a->uses = 1;
	lib->attachment = a;
	return 0;
}

static void
leave(struct library *lib)
{
	struct attachment *a = lib->attachment;

	lib->attachment = NULL;
	listed_at = silent_at = 0;
	attachment_done(a);
}

/* One more use of one that has others: no lock is needed to keep it. */
static bool
attachment_use(struct attachment *a)
{
	unsigned uses = atomic_load(&a->uses);

	while (uses != 0)
		if (atomic_compare_exchange_weak(&a->uses, &uses, uses + 1))
			return true;
	return false;
}

static bool
is_over(uint64_t until)
{
	struct timespec now;

	if (until == UINT64_MAX)
		return false;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* some ms old: it is about seconds */
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec >= until;
}

enum pools_answer
pools_find(struct library *lib, const struct wanted *wanted, struct pool_use *ret)
{
	const char *name = wanted->pool;
	const struct wire_match *match = NULL;
	enum pools_answer answer = POOLS_FAILED;
	int r = PGLEASE_EGONE;

	if (last.wanted == wanted && last.lib == lib && !is_over(last.until) && attachment_use(last.use.attachment)) {
		*ret = last.use;
		return POOLS_FOUND;
	}
	last.wanted = NULL;
	if (!lock_take()) {
		error_set(PGLEASE_ENOMEM, "out of memory");
		return POOLS_FAILED;
	}
	if (name == NULL) {
		if (!list_read())
			goto out;
		match = find_pool(wanted);
		if (match == NULL) {
			answer = POOLS_NONE;
			goto out;
		}
		name = match->pool;
	}
	/* It may end while it is asked. */
	for (unsigned i = 0; i < 2 && r == PGLEASE_EGONE; i++) {
		r = attach(lib);
		if (r == 0)
			r = pglease_pool_open(lib->attachment->client, name, &ret->pool);
		if (r == PGLEASE_EGONE && lib->attachment != NULL)
			leave(lib);
	}
	if (r != 0)
		goto out;
	ret->attachment = lib->attachment;
	ret->number = match != NULL ? match->number : 0;
	atomic_fetch_add(&ret->attachment->uses, 1);
	answer = POOLS_FOUND;
	if (wanted->is_kept) {
		last.lib = lib;
		last.wanted = wanted;
		last.use = *ret;
		last.until = wanted->pool != NULL ? UINT64_MAX : listed_at != 0 ? listed_at + LIST_NS : 0;
	}
out:
	lock_release();
	return answer;
}

void
pools_done(const struct pool_use *use)
{
	unsigned uses = atomic_load(&use->attachment->uses);

	while (uses > 1)
		if (atomic_compare_exchange_weak(&use->attachment->uses, &uses, uses - 1))
			return;
	if (!lock_take())
		return;
	attachment_done(use->attachment);
	lock_release();
}

void
pools_gone(struct library *lib, const struct pool_use *use)
{
	last.wanted = NULL;
	if (!lock_take())
		return;
	if (lib->attachment == use->attachment)
		leave(lib);
	lock_release();
}

bool
pools_is_meant(const struct pool_use *use, const pglease_lease *lease)
{
	const struct pool_state *state = use->number != 0 ? former_find(lease->pool, lease->incarnation) : NULL;

	return state == NULL || state->pool + 1 == use->number;
}

void
pools_changed(void)
{
	last.wanted = NULL;
	if (!lock_take())
		return;
	listed_at = silent_at = 0;
	lock_release();
}

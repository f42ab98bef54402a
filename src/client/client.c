/* SPDX-License-Identifier: PostgreSQL */
/* Handles: made, found, ended. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "former.h"
#include "reattach.h"
#include "request.h"
#include "rows.h"
#include "shell.h"
#include "slots.h"
#include "threshold.h"

#define DEFAULT_MAX_SHELLS 64
#define DEFAULT_TIMEOUT_MS 5000
#define ENDED_KEPT 256

int
pglease_attach(const char *instance, const pglease_options *options, pglease **ret_client)
{
	static const pglease_options defaults = PGLEASE_OPTIONS_INIT;
	struct pglease *client;
	struct process *process;
	int r;

	if (ret_client == NULL)
		return error_set(PGLEASE_EINVAL, "ret_client is NULL");
	instance = paths_instance(instance);
	if (paths_check_name(instance) != 0)
		return error_set(PGLEASE_EINVAL,
		    "instance '%.64s': a name is 1 to 47 letters, digits, '_' or '-'", instance);
	if (options == NULL)
		options = &defaults;
	if (options->socket_dir != NULL && strlen(options->socket_dir) >= PATHS_MAX)
		return error_set(PGLEASE_EINVAL, "socket_dir is longer than %d bytes", PATHS_MAX - 1);
	clock_init();
	if ((r = guard_init()) != 0)
		return error_set_errno(PGLEASE_ENOMEM, -r, "out of memory");
	client = calloc(1, sizeof(*client));
	if (client == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	client->dead_fd = -1;
	client->max_shells = options->max_shells != 0 ? options->max_shells : DEFAULT_MAX_SHELLS;
	client->timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : DEFAULT_TIMEOUT_MS;
	snprintf(client->instance, sizeof(client->instance), "%s", instance);
	snprintf(client->program, sizeof(client->program), "%s",
	    options->program != NULL ? options->program : program_invocation_short_name);
	if (options->socket_dir != NULL)
		snprintf(client->given_dir, sizeof(client->given_dir), "%s", options->socket_dir);
	client->mutex = guard_mutex_new();
	if (client->mutex == NULL) {
		r = error_set(PGLEASE_ENOMEM, "out of memory");
		goto fail;
	}
	client->patience_ms = client->timeout_ms;
	if ((r = attach_dead_fd(client)) != 0 || (r = attach_process(client, &process)) != 0)
		goto fail;
	atomic_store(&client->process, process);
	*ret_client = client;
	return 0;

fail:
	if (client->dead_fd >= 0)
		close(client->dead_fd);
	guard_mutex_free(client->mutex);
	free(client);
	return r;
}

/*
 * Gives up all that this client has in a pool, so that the broker can use its index again at once: S10 for leases still
 * held, R6 for its rows. No thread of the process is between two steps of the protocol: it is detaching.
 */
static void
give_up_all(struct pool_state *state)
{
	for (uint32_t slot = 0; slot < state->seg.nslots; slot++) {
		uint64_t w = slot_load(&state->seg, slot);

		while (word_state(w) == SLOT_LEASED && word_who(w) < state->seg.nrows &&
		       word_who(row_load(&state->seg, word_who(w))) == state->process->client) {
			if (slot_return(&state->seg, slot, &w, SLOT_RETIRE)) { /* S10 */
				client_ring(state);
				break;
			}
		}
	}
	rows_free_all(&state->seg, state->process->client);
}

/*
 * Handles of pools whose attachment has ended are kept for a while, so that their use is an error and not a crash. The
 * oldest give way. Under the registry lock.
 */
static struct pglease_pool *ended[ENDED_KEPT];
static unsigned next_ended;

static void
pool_end(struct pglease_pool *pool)
{
	pool->client = NULL;
	pool->next = NULL;
	atomic_store(&pool->state, NULL);
	guard_lock();
	free(ended[next_ended]);
	ended[next_ended] = pool;
	next_ended = (next_ended + 1) % ENDED_KEPT;
	guard_unlock();
}

/* The pool's states go. The process's own leases end with their sessions, where no broker does that. */
static void
pool_leave(struct pglease_pool *pool)
{
	struct pool_state *state = atomic_load(&pool->state);

	if (state->serial == guard_serial()) {
		former_close(pool);
		if (process_is_gone(state->process) || client_is_cut_off(state->process))
			shell_end_all(state);
		give_up_all(state);
	} else {
		former_forget(pool);
	}
	threshold_fini(&pool->watch);
	pool_end(pool);
	attach_close(state);
}

void
pglease_detach(pglease *client)
{
	struct process *process;
	bool own;

	if (client == NULL)
		return;
	process = atomic_load(&client->process);
	own = process->serial == guard_serial();
	/* First all of them: a helper thread may be attaching again. */
	for (struct pglease_pool *pool = client->pools; pool != NULL; pool = pool->next)
		request_end_all(pool);
	process = atomic_load(&client->process);
	while (client->pools != NULL) {
		struct pglease_pool *pool = client->pools;

		client->pools = pool->next;
		pool_leave(pool);
	}
	if (fd_is(process->control, &process->control_id)) {
		struct wire_header bye;

		wire_header_init(&bye, WIRE_DETACH);
		if (own)
			wire_send(process->control, &bye, sizeof(bye), -1);
		close(process->control);
	}
	while (process != NULL) {
		struct process *before = process == atomic_load(&client->process) ? client->former : process->next;

		free(process);
		process = before;
	}
	if (fd_is(client->dead_fd, &client->dead_id))
		close(client->dead_fd);
	guard_mutex_free(client->mutex);
	free(client);
}

/* Under the mutex: the client's process is this one, and not cut off. What other pools came to is their matter. */
static int
attached(pglease *client)
{
	const struct process *process = atomic_load(&client->process);
	int r;

	if (process->serial == guard_serial() && !process_is_gone(process) && !client_is_cut_off(process))
		return 0;
	r = reattach(client, client->timeout_ms);
	return atomic_load(&client->process) != process ? 0 : r;
}

int
pglease_pool_open(pglease *client, const char *name, pglease_pool **ret_pool)
{
	struct pglease_pool *pool;
	struct pool_state *state;
	int r = 0;

	if (client == NULL || name == NULL || ret_pool == NULL)
		return error_set(PGLEASE_EINVAL, "%s is NULL",
		    client == NULL ? "client" : name == NULL ? "name" : "ret_pool");
	if (*name == '\0' || strlen(name) >= LAYOUT_NAME)
		return error_set(PGLEASE_EINVAL, "pool '%.80s': a name is 1 to %d bytes long", name, LAYOUT_NAME - 1);
	pthread_mutex_lock(client->mutex);
	for (pool = client->pools; pool != NULL; pool = pool->next) {
		if (strcmp(pool->name, name) == 0) {
			*ret_pool = pool;
			goto out;
		}
	}
	r = attached(client);
	if (r != 0)
		goto out;
	pool = calloc(1, sizeof(*pool));
	if (pool == NULL) {
		r = error_set(PGLEASE_ENOMEM, "out of memory");
		goto out;
	}
	r = attach_pool(client, name, atomic_load(&client->process), &state);
	if (r != 0) {
		free(pool);
		goto out;
	}
	pool->client = client;
	snprintf(pool->name, sizeof(pool->name), "%s", name);
	threshold_init(&pool->watch);
	former_note(pool, state);
	atomic_store(&pool->state, state);
	pool->next = client->pools;
	client->pools = pool;
	*ret_pool = pool;
out:
	pthread_mutex_unlock(client->mutex);
	return r;
}

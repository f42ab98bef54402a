/* SPDX-License-Identifier: PostgreSQL */
/*
 * Shells and their bound. How one is made is in adopt.c.
 *
 * PQfinish would send Terminate and so end a session that is not ours to end: a dead descriptor is moved over the
 * shell's socket first. dup3 replaces atomically, so no other thread can get the number in between.
 */
#include "shell.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "adopt.h"

/* False when the application has closed the socket: its number may be another file by now, which libpq must not touch. */
static bool
conn_die(PGconn *conn, const struct fd_id *id, int dead_fd)
{
	/* libpq has closed it after an error; what it has opened since, in a PQreset that came to no end, leads to the broker. */
	if (PQsocket(conn) < 0 || PQstatus(conn) != CONNECTION_OK)
		return true;
	if (!fd_is(PQsocket(conn), id))
		return false;
	dup3(dead_fd, PQsocket(conn), O_CLOEXEC);
	return true;
}

/*
 * libpq does not tell which event procedures a PGconn has, but every result has a copy of their list, and tells its size (0: out
 * of memory). None of them is called by this.
 */
static size_t
events_size(const struct shell *shell)
{
	PGresult *result = PQmakeEmptyPGresult(shell->conn, PGRES_EMPTY_QUERY);
	size_t size = result != NULL ? PQresultMemorySize(result) : 0;

	PQclear(result);
	return size;
}

/* In state IN_USE or EVICTING: to NONE. */
static void
shell_dispose(struct pool_state *state, struct shell *shell)
{
	PGconn *conn = shell->conn;

	shell->conn = NULL; /* first: the library's own event procedure must not take this for the user's doing */
	if (conn != NULL && (shell->lost || conn_die(conn, &shell->socket_id, state->dead_fd)))
		PQfinish(conn);
	if (shell->counted)
		atomic_fetch_sub(&state->nshells, 1);
	shell->counted = false;
	shell->lost = false;
	shell->site_known = false;
	/* Release: the next thread that takes the shell sees it empty. */
	atomic_store(&shell->state, SHELL_NONE);
}

/* Disposes of the shell that has been idle for longest. False if all are in use. */
static bool
shell_evict(struct pool_state *state)
{
	struct shell *oldest = NULL;
	uint64_t used = UINT64_MAX;

	for (uint32_t slot = 0; slot < state->seg.nslots; slot++) {
		struct shell *shell = &state->shell[slot];
		uint64_t u = atomic_load_explicit(&shell->used, memory_order_relaxed);

		if (atomic_load(&shell->state) == SHELL_FREE && u < used) {
			oldest = shell;
			used = u;
		}
	}
	if (oldest != NULL) {
		uint32_t expected = SHELL_FREE;

		if (atomic_compare_exchange_strong(&oldest->state, &expected, SHELL_EVICTING)) {
			shell_dispose(state, oldest);
			return true;
		}
	}
	return false;
}

/*
 * Takes the slot's shell for this thread, which holds the slot's lease. Only an evictor can be in the way, for the
 * moment that a PQfinish on a dead descriptor takes.
 */
static uint32_t
shell_take(struct shell *shell)
{
	for (;;) {
		uint32_t seen = atomic_load(&shell->state);

		if (seen == SHELL_EVICTING)
			sched_yield();
		else if (atomic_compare_exchange_strong(&shell->state, &seen, SHELL_IN_USE))
			return seen;
	}
}

int
shell_checkout(struct pool_state *state, uint32_t slot, uint64_t w, uint64_t deadline, struct shell **ret_shell,
    bool *ret_fresh)
{
	struct shell *shell = &state->shell[slot];
	/* Stable: the broker changes it only while it owns the word. */
	uint64_t generation = atomic_load_explicit(&state->seg.slot[slot].generation, memory_order_relaxed);
	uint32_t seen = shell_take(shell);
	int r;

	if (seen != SHELL_NONE && shell->generation == generation && !shell->lost && shell->conn != NULL &&
	    PQsocket(shell->conn) >= 0) {
		*ret_shell = shell;
		*ret_fresh = false;
		return 0;
	}
	if (seen != SHELL_NONE) {
		shell_dispose(state, shell);
		atomic_store(&shell->state, SHELL_IN_USE); /* nobody else may: the slot is leased to this thread */
	}
	if (atomic_load(&state->nshells) >= state->max_shells)
		shell_evict(state);
	r = adopt(state, slot, generation, w, deadline, shell);
	if (r != 0) {
		atomic_store(&shell->state, SHELL_NONE);
		return r;
	}
	shell->notice_receiver = PQsetNoticeReceiver(shell->conn, NULL, NULL);
	shell->notice_processor = PQsetNoticeProcessor(shell->conn, NULL, NULL);
	shell->events_size = events_size(shell);
	atomic_fetch_add(&state->nshells, 1);
	shell->counted = true;
	shell->site_known = false;
	*ret_shell = shell;
	*ret_fresh = true;
	return 0;
}

void
shell_checkin(struct pool_state *state, struct shell *shell, uint64_t now)
{
	/* An event procedure of the application's cannot be taken away: the PGconn goes, and tells it so (PGEVT_CONNDESTROY). */
	if (events_size(shell) != shell->events_size) {
		shell_dispose(state, shell);
		return;
	}
	/* Several may have been in use at once: the bound is for those kept. */
	if (atomic_load_explicit(&state->nshells, memory_order_relaxed) > state->max_shells && !shell_evict(state)) {
		shell_dispose(state, shell);
		return;
	}
	atomic_store_explicit(&shell->used, now, memory_order_relaxed);
	atomic_store(&shell->state, SHELL_FREE);
}

void
shell_discard(struct pool_state *state, struct shell *shell)
{
	shell_dispose(state, shell);
}

void
shell_discard_all(struct pool_state *state, bool inherited)
{
	for (uint32_t slot = 0; slot < state->seg.nslots; slot++) {
		struct shell *shell = &state->shell[slot];
		uint32_t seen = atomic_load(&shell->state);

		/* One in use may have been half changed by a thread that is not there in the child: only its socket is
		 * taken away, and its memory stays. At a detach no thread is in it. */
		if (seen == SHELL_IN_USE && inherited) {
			if (shell->conn != NULL)
				conn_die(shell->conn, &shell->socket_id, state->dead_fd);
		} else if (seen != SHELL_NONE) {
			shell_dispose(state, shell);
		}
	}
}

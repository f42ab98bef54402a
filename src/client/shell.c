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
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "adopt.h"
#include "lease.h"
#include "slots.h"

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

/* Ends the server's session, for all who have the connection. */
static void
conn_shut(PGconn *conn, const struct fd_id *id)
{
	if (conn != NULL && PQsocket(conn) >= 0 && PQstatus(conn) == CONNECTION_OK && fd_is(PQsocket(conn), id))
		shutdown(PQsocket(conn), SHUT_RDWR);
}

#ifdef PGLEASE_PRELOAD
/* There the application's PQregisterEventProc is ours. */
static void
events_note(struct shell *shell)
{
	shell->registered = false;
}

static bool
events_changed(const struct shell *shell)
{
	return shell->registered;
}
#else
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

static void
events_note(struct shell *shell)
{
	shell->events_size = events_size(shell);
}

static bool
events_changed(const struct shell *shell)
{
	/* A procedure that was registered in a lease without a result is found in the next one with a result. */
	return shell->touched && events_size(shell) != shell->events_size;
}
#endif

/* In state IN_USE or EVICTING, which it stays in: without a PGconn. */
static void
shell_empty(struct pool_state *state, struct shell *shell)
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
}

/* From IN_USE or EVICTING to NONE. */
static void
shell_dispose(struct pool_state *state, struct shell *shell)
{
	shell_empty(state, shell);
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
		struct shell *shell = atomic_load(&state->shell[slot]);
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

/* A new one, or an orphan that has been disposed of. NULL: out of memory. */
static struct shell *
shell_new(struct pool_state *state)
{
	struct shell *shell;

	guard_lock();
	for (struct shell **p = &state->orphans; *p != NULL;) {
		shell = *p;
		if (atomic_load(&shell->state) == SHELL_NONE) {
			*p = shell->next;
			shell->next = state->spares;
			state->spares = shell;
		} else {
			p = &shell->next;
		}
	}
	shell = state->spares;
	if (shell != NULL)
		state->spares = shell->next;
	guard_unlock();
	return shell != NULL ? shell : calloc(1, sizeof(*shell));
}

/*
 * The slot's shell is a revoked lease's, whose thread has not noticed: it keeps it, and the slot gets another. 0, ENOMEM, or
 * EBROKEN: it is the caller's own lease `w` that was revoked.
 */
static int
shell_orphan(struct pool_state *state, uint32_t slot, uint64_t w, struct shell *shell)
{
	bool revoked;
	struct shell *other = shell_new(state);

	if (other == NULL)
		return error_set(PGLEASE_ENOMEM, "out of memory");
	guard_lock();
	/*
	 * Under the lock, as in shell_lost. While the caller's lease goes on, nobody else's can be the slot's present one: a shell
	 * that is in use is of an earlier lease. Without that it may be the next lessee's.
	 */
	revoked = !lease_is_held(state, slot, w);
	if (!revoked && atomic_load(&state->shell[slot]) == shell && atomic_load(&shell->state) == SHELL_IN_USE) {
		atomic_store(&state->shell[slot], other);
		shell->next = state->orphans;
		state->orphans = shell;
	} else {
		other->next = state->spares;
		state->spares = other;
	}
	guard_unlock();
	return revoked ? error_set(PGLEASE_EBROKEN, "the lease was revoked") : 0;
}

/*
 * Takes the slot's shell for this thread, which holds the slot's lease. Only an evictor can be in the way, for the
 * moment that a PQfinish on a dead descriptor takes, or the thread of a revoked lease. 0, ENOMEM or EBROKEN.
 */
static int
shell_take(struct pool_state *state, uint32_t slot, uint64_t w, struct shell **ret_shell, uint32_t *ret_seen)
{
	for (;;) {
		struct shell *shell = atomic_load(&state->shell[slot]);
		uint32_t seen = atomic_load(&shell->state);
		int r;

		if (seen == SHELL_EVICTING) {
			sched_yield();
		} else if (seen == SHELL_IN_USE) {
			if ((r = shell_orphan(state, slot, w, shell)) != 0)
				return r;
		} else if (atomic_compare_exchange_strong(&shell->state, &seen, SHELL_EVICTING)) {
			/* Its lease's number first: a thread whose own was revoked must not take an IN_USE one for its (shell_lost). */
			atomic_store_explicit(&shell->sequence, word_seq(w), memory_order_relaxed);
			atomic_store(&shell->state, SHELL_IN_USE);
			*ret_shell = shell;
			*ret_seen = seen;
			return 0;
		}
	}
}

void
shell_lost(struct pool_state *state, uint32_t slot, uint64_t sequence)
{
	struct shell *shell;
	uint32_t seen = SHELL_FREE;
	bool mine = false;

	guard_lock();
	shell = shell_of_lease(state, slot, sequence);
	if (shell != NULL) {
		/* IN_USE for this lease: nobody else's. Otherwise it was given back before the revocation, and is anybody's. */
		mine = atomic_load(&shell->state) == SHELL_IN_USE;
	} else {
		for (shell = state->orphans; shell != NULL; shell = shell->next)
			if (shell->slot == slot && atomic_load_explicit(&shell->sequence, memory_order_relaxed) == sequence)
				break;
		mine = shell != NULL && (atomic_load(&shell->state) == SHELL_IN_USE ||
					    atomic_compare_exchange_strong(&shell->state, &seen, SHELL_EVICTING));
	}
	if (mine)
		atomic_store(&shell->state, SHELL_EVICTING);
	guard_unlock();
	/* Not under the lock: PQfinish calls event procedures of the application's. */
	if (mine)
		shell_discard(state, shell);
}

int
shell_checkout(struct pool_state *state, uint32_t slot, uint64_t w, uint64_t deadline, struct shell **ret_shell,
    bool *ret_fresh)
{
	struct shell *shell;
	/* Stable: the broker changes it only while it owns the word. */
	uint64_t generation = atomic_load_explicit(&state->seg.slot[slot].generation, memory_order_relaxed);
	uint32_t seen;
	int r = shell_take(state, slot, w, &shell, &seen);

	if (r != 0)
		return r;
	shell->slot = slot;
	if (seen != SHELL_NONE && shell->generation == generation && !shell->lost && shell->conn != NULL &&
	    PQsocket(shell->conn) >= 0) {
		*ret_shell = shell;
		*ret_fresh = false;
		return 0;
	}
	if (seen != SHELL_NONE)
		shell_empty(state, shell);
	if (process_is_gone(state->process)) {
		atomic_store(&shell->state, SHELL_NONE);
		return error_set(PGLEASE_EGONE, "the broker of %s has gone or has detached this process",
		    state->seg.header->instance_name);
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
	events_note(shell);
	shell->off = UINT64_MAX;
	atomic_fetch_add(&state->nshells, 1);
	shell->counted = true;
	shell->site_known = false;
	*ret_shell = shell;
	*ret_fresh = true;
	return 0;
}

int
shell_replace(struct pool_state *state, uint32_t slot, struct shell *shell, PGconn *conn)
{
	PGconn *before = shell->conn;
	struct fd_id socket_id = shell->socket_id;
	int r;

	shell->conn = NULL; /* as in shell_empty */
	r = adopt_own(state, slot, shell, conn);
	if (r != 0) {
		shell->conn = before;
		return r;
	}
	if (conn_die(before, &socket_id, state->dead_fd))
		PQfinish(before);
	shell->lost = false; /* said by that PGconn's end */
	shell->notice_receiver = PQsetNoticeReceiver(conn, NULL, NULL);
	shell->notice_processor = PQsetNoticeProcessor(conn, NULL, NULL);
	shell->registered = true;
	shell->events_size = 0; /* of no PGconn: the application may have had it before us */
	return 0;
}

bool
shell_is_kept(const struct pool_state *state, const struct shell *shell)
{
	/* An event procedure of the application's cannot be taken away: the PGconn goes, and tells it so (PGEVT_CONNDESTROY). */
	if (events_changed(shell))
		return false;
	/* Several may have been in use at once: the bound is for those kept. */
	return atomic_load_explicit(&state->nshells, memory_order_relaxed) <= state->max_shells;
}

void
shell_checkin(struct pool_state *state, struct shell *shell, uint64_t now)
{
	if (shell_is_kept(state, shell) || (!events_changed(shell) && shell_evict(state)))
		shell_keep(shell, now);
	else
		shell_dispose(state, shell);
}

void
shell_discard(struct pool_state *state, struct shell *shell)
{
	/* The lessee's session: if the broker is not there to end it, others may have it open. */
	if (process_is_gone(state->process) && !shell->lost)
		conn_shut(shell->conn, &shell->socket_id);
	shell_dispose(state, shell);
}

bool
shell_hold(struct pool_state *state, uint32_t slot)
{
	struct shell *shell = atomic_load(&state->shell[slot]);
	uint32_t seen = SHELL_FREE;

	if (!atomic_compare_exchange_strong(&shell->state, &seen, SHELL_EVICTING))
		return false;
	/* Not the slot's any more, or of an earlier connection. */
	if (shell == atomic_load(&state->shell[slot]) && shell->conn != NULL && !shell->lost &&
	    shell->generation == atomic_load_explicit(&state->seg.slot[slot].generation, memory_order_relaxed))
		return true;
	atomic_store(&shell->state, SHELL_FREE);
	return false;
}

void
shell_unhold(struct pool_state *state, uint32_t slot)
{
	/* Nobody puts another in its place while it is EVICTING. */
	atomic_store(&atomic_load(&state->shell[slot])->state, SHELL_FREE);
}

bool
shell_is_any(const struct pool_state *state)
{
	for (uint32_t slot = 0; slot < state->nslots; slot++) {
		unsigned s = word_state(slot_load(&state->seg, slot));

		if ((s == SLOT_IDLE || s == SLOT_GRANTED || s == SLOT_LEASED) &&
		    atomic_load(&atomic_load(&state->shell[slot])->state) != SHELL_NONE)
			return true;
	}
	return false;
}

bool
shell_expire(struct pool_state *state, uint32_t slot, int row)
{
	struct shell *shell = atomic_load(&state->shell[slot]);
	uint32_t seen = SHELL_FREE;
	uint64_t w = slot_load(&state->seg, slot);

	if (!atomic_compare_exchange_strong(&shell->state, &seen, SHELL_EVICTING))
		return seen == SHELL_NONE;
	while (row >= 0 && word_state(w) == SLOT_IDLE && (word_flags(w) & SLOT_RETIRE) == 0 &&
	       shell->generation == atomic_load_explicit(&state->seg.slot[slot].generation, memory_order_relaxed)) {
		if (slot_lease(&state->seg, slot, &w, (unsigned)row, state->process->client)) { /* S6 */
			conn_shut(shell->conn, &shell->socket_id);
			break;
		}
	}
	shell_dispose(state, shell);
	return true;
}

bool
shell_has_orphans(const struct pool_state *state)
{
	bool has = false;

	guard_lock();
	for (struct shell *shell = state->orphans; shell != NULL && !has; shell = shell->next)
		has = atomic_load(&shell->state) != SHELL_NONE;
	guard_unlock();
	return has;
}

void
shell_end_all(struct pool_state *state)
{
	for (uint32_t slot = 0; slot < state->nslots; slot++) {
		struct shell *shell = atomic_load(&state->shell[slot]);

		if (atomic_load(&shell->state) == SHELL_IN_USE && !shell->lost)
			conn_shut(shell->conn, &shell->socket_id);
	}
}

static void
discard(struct pool_state *state, struct shell *shell, bool inherited)
{
	uint32_t seen = atomic_load(&shell->state);

	/*
	 * One in use may have been half changed by a thread that is not there in the child: only its socket is taken away, and its memory
	 * stays, for the child may go on using the PGconn, whose queries fail. It is nobody's lease then (adopt_leased_shell): the segment
	 * goes. At a detach no thread is in it.
	 */
	if (seen == SHELL_IN_USE && inherited) {
		PGconn *conn = shell->conn;

		shell->conn = NULL;
		if (conn != NULL)
			conn_die(conn, &shell->socket_id, state->dead_fd);
	} else if (seen != SHELL_NONE) {
		shell_dispose(state, shell);
	}
}

void
shell_discard_all(struct pool_state *state, bool inherited)
{
	for (uint32_t slot = 0; slot < state->seg.nslots; slot++)
		discard(state, atomic_load(&state->shell[slot]), inherited);
	for (struct shell *shell = state->orphans; shell != NULL; shell = shell->next)
		discard(state, shell, inherited);
}

int
shell_make_all(struct pool_state *state)
{
	state->nslots = state->seg.nslots;
	state->shell = calloc(state->nslots, sizeof(*state->shell));
	for (uint32_t slot = 0; state->shell != NULL && slot < state->nslots; slot++) {
		struct shell *shell = calloc(1, sizeof(*shell));

		atomic_store(&state->shell[slot], shell);
		if (shell == NULL) {
			shell_free_all(state);
			state->shell = NULL;
		}
	}
	return state->shell != NULL ? 0 : error_set(PGLEASE_ENOMEM, "out of memory");
}

/* Not one that a child has inherited in use: its PGconn is still there, and the PGconn's event procedure looks at the shell. */
static void
shell_free(struct shell *shell)
{
	if (shell != NULL && atomic_load(&shell->state) != SHELL_IN_USE)
		free(shell);
}

static void
free_list(struct shell *shell)
{
	for (struct shell *next; shell != NULL; shell = next) {
		next = shell->next;
		shell_free(shell);
	}
}

void
shell_free_all(struct pool_state *state)
{
	for (uint32_t slot = 0; state->shell != NULL && slot < state->nslots; slot++)
		shell_free(atomic_load(&state->shell[slot]));
	free_list(state->orphans);
	free_list(state->spares);
	free(state->shell);
}

/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the modules of src/client share.
 *
 * A handle (struct pglease, struct pglease_pool) outlives a fork; what belongs to one process is in struct process
 * and struct pool_state, which the child abandons and makes anew (client.c). `serial` (guard.h) tells whose it is.
 */
#ifndef PGLEASE_CLIENT_PRIV_H
#define PGLEASE_CLIENT_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "error.h"
#include "guard.h"
#include "history.h"
#include "paths.h"
#include "pglease.h"
#include "segment.h"
#include "totals.h"
#include "wire.h"

struct pool_state;
struct thread_row;

#define CLIENT_WHY 256 /* of a message that is kept */

/* Which file a descriptor is, so that a number that the application closed and got again is not taken for ours. */
struct fd_id {
	dev_t dev;
	ino_t ino;
};

/* One process's attachment. Immutable once published, but for what it has found out about its end, and `unanswered`. */
struct process {
	_Atomic bool gone;        /* cut off: set once, by who has seen that the control connection has ended */
	unsigned unanswered;      /* under the client's mutex: answers that are still to come on the control connection (attach.c) */
	_Atomic uint64_t look_at; /* CLOCK_MONOTONIC ns: not before this time is there another look */
	struct process *next;     /* of those before the client's present one */
	uint64_t serial; /* guard_serial() of the process that attached */
	uint64_t incarnation;
	uint64_t instance_id;
	uint32_t client;
	int control;
	struct fd_id control_id;
	char nonce[2 * WIRE_NONCE + 1]; /* hex */
	char broker_user[64];           /* name of the broker's user, for requirepeer; "" if it has none */
	char socket_dir[PATHS_MAX];     /* where it was found */
};

enum shell_state { SHELL_NONE = 0, SHELL_FREE, SHELL_IN_USE, SHELL_EVICTING };

/*
 * This process's PGconn for one slot. `state` is the lock: only the thread that swapped it to IN_USE (it holds the
 * slot's lease) or EVICTING touches the rest; FREE is stored before the slot word is given up.
 *
 * A lease may be revoked while its thread is anywhere, in libpq with this very PGconn too. Whoever leases the slot next in this
 * process finds the shell IN_USE, and leaves it to that thread: it puts another one in its place (pool_state.shell), and this
 * one becomes an orphan, which the thread disposes of at its release (shell_lost). Shells are freed at the detach only:
 * an evictor may still look at an orphan.
 */
struct shell {
	_Atomic uint32_t state;
	bool lost;             /* PQfinish was called on it, or a PQreset failed late: it no longer is the slot's */
	bool counted;          /* in the pool state's nshells */
	bool site_known;       /* `site` is what the slot says */
	bool touched;          /* libpq has handed out a result in this lease; or nobody has looked since (event of libpq's) */
	bool marked;           /* a LISTEN or SET of this lease's was seen to succeed; not one that a function made */
	uint32_t block;        /* statistics block of this lease */
	uint64_t generation;   /* of the slot, that it was adopted for */
	uint64_t session;      /* the slot's reset count that its parameters agree with */
	bool dirty_before;     /* the session held traces of this process when the lease began */
	uint64_t compared_at;  /* when all its parameters were last compared with the baseline */
	_Atomic uint64_t sequence; /* of the lease that it was last IN_USE for; whoever took it; relaxed: only compared */
	struct shell *next;        /* orphan or spare; guard_lock() */
	struct pool_state *owner; /* of what it was adopted for: the pool and the slot */
	uint32_t slot;
	_Atomic uint64_t used; /* when it was last released: CLOCK_MONOTONIC ns; for eviction */
	uint64_t leased_at;
	bool returned; /* the thread leased again sooner after its last release than a waiter would have been awake */
	/* timing.c, of this lease: when its open transaction began; queries sent, and the first one's time; 0: none. */
	uint64_t transaction_at, query_at;
	uint32_t queries_out;
	PGconn *conn;
	struct fd_id socket_id; /* of the server connection */
	/* client_encoding and standard_conforming_strings at adoption: the baseline's; and their bits of off_baseline. */
	int encoding;
	bool conforming;
	uint64_t encoding_bit, conforming_bit;
	bool registered;     /* the application has registered an event procedure: where that is known (the preloaded library) */
	/* Which parameters may be other than the baseline's to the PGconn: as found at the last release; all, if it did not look. */
	uint64_t off;
	size_t events_size;  /* of an empty result at adoption: more when the application has registered an event procedure */
	PQnoticeReceiver notice_receiver;   /* libpq's own, put back at release */
	PQnoticeProcessor notice_processor;
	struct site {
		const char *file; /* NULL: by the caller's address */
		int line;
		const void *caller;
	} site;
};

/* One process's view of a pool. */
struct pool_state {
	uint64_t serial; /* of the process */
	struct process *process;
	struct segment seg;
	struct history_bytes past; /* the pool's history, mapped; nothing when there is none */
	struct history_view *history; /* NULL: there is none */
	uint32_t pool; /* index in the instance */
	struct shell *_Atomic *shell; /* nslots of them; the segment is unmapped before they are freed */
	uint32_t nslots;
	struct shell *orphans, *spares; /* guard_lock() */
	_Atomic uint32_t leaving; /* threads that end, and still dispose of a shell; in a child it says nothing */
	_Atomic uint32_t nshells;
	_Atomic uint32_t nleases; /* of this process; counted when there is a limit */
	_Atomic uint64_t attempts; /* adoptions begun: each has a number of its own */
	uint32_t max_shells;
	const char *socket_dir; /* the process's */
	_Atomic int dead_fd;    /* /dev/null: moved under a shell before it is disposed of */
	uint64_t id;            /* names it in the threads' lists of rows; never used again */
	uint64_t lease_of;      /* names it in leases: the attachment's incarnation and `id`; never used again */
	struct pool_state *next_registered; /* threads.c */
	struct thread_row *_Atomic loose;   /* loose.c: only added to */
	/* former.c. */
	_Atomic bool former;            /* the pool has another one */
	_Atomic bool swept;             /* nothing is left in it */
	struct pool_state *next_former;
	int sweep_row; /* a row of our own that claims idle slots; -1: none yet; who sweeps */
};

/* Thresholds (threshold.c). `above` belongs to whoever looks. */
#define THRESHOLD_N (PGLEASE_THRESHOLD_HEALTH + 1)
struct threshold_watch {
	struct threshold_watcher *_Atomic watcher; /* NULL: nobody has ever been told */
	_Atomic uint64_t next_look;                /* CLOCK_MONOTONIC ns */
	_Atomic uint64_t looking;                  /* serial of the process whose thread looks; 0: none does */
	_Atomic double limit[THRESHOLD_N]; /* this process's own; PGLEASE_THRESHOLD_POOL: none */
	uint32_t above; /* bits */
};

struct pglease_pool {
	struct pglease *client;
	struct pglease_pool *next;
	struct pool_state *_Atomic state;
	/* former.c: those before it, newest first; only added to until the detach. */
	struct pool_state *_Atomic former;
	_Atomic bool is_unswept;         /* there is something left in one of them */
	_Atomic uint64_t sweeping;       /* serial of the process whose thread does; 0: none */
	_Atomic uint64_t sweep_at;       /* CLOCK_MONOTONIC ns: not again before */
	_Atomic uint64_t reopen_at;      /* of one that has gone, likewise: asked for again, by others than acquires */
	int reopened; /* what came of it; under the client's mutex */
	struct pglease_request *requests; /* request.c; guard_lock() */
	/* Of the last broker's settings, for when it is not there. Relaxed: stale ones are those of the broker before. */
	_Atomic uint64_t acquire_timeout_ns;
	_Atomic uint32_t broker_down; /* enum broker_down */
	/* Why it was not opened again, at the last try: under the client's mutex. */
	int refusal;
	uint64_t refused_at; /* CLOCK_MONOTONIC ns */
	uint64_t refused_by; /* serial of the process */
	char why[CLIENT_WHY];
	struct threshold_watch watch;
	char name[LAYOUT_NAME];
};

struct pglease {
	pthread_mutex_t *mutex; /* guards process, pools and the control socket's exchanges */
	struct process *_Atomic process;
	struct process *former; /* those before it */
	struct pglease_pool *pools;
	_Atomic uint64_t try_at; /* CLOCK_MONOTONIC ns: not before this time does a process that is cut off attach again */
	uint32_t max_shells;
	uint32_t timeout_ms;
	uint32_t patience_ms; /* how long an exchange may take: timeout_ms, or less while others wait for it */
	int dead_fd;
	struct fd_id dead_id;
	char instance[LAYOUT_NAME];
	char program[40];
	char socket_dir[PATHS_MAX]; /* where the broker was found last; "" before */
	char given_dir[PATHS_MAX];  /* by the options; "" if not */
};

/* attach.c: remembers, and recognises, a descriptor: the application may close ours (closefrom) and get the number again. */
struct fd_id fd_identify(int fd);
bool fd_is(int fd, const struct fd_id *id);
/* Whether the control connection has ended: the broker has gone, or has let go of this process. One system call. */
bool client_is_cut_off(const struct process *process);
/* Asks the broker to look at the pool. Never blocks; a lost ring costs at most one of its ticks. */
void client_ring(const struct pool_state *state);
/* After a failed dial_broker: sets the message. Returns EPERM or ENOBROKER. */
int client_no_broker(const struct pglease *client, int r, const char *tried);

/*
 * reattach.c: the caller's own pool state, attaching anew after a fork, or when the broker has gone and another is there. When
 * there is none, in a child: ENOBROKER; else the old state, whose process is gone.
 */
int client_pool_state(pglease_pool *pool, struct pool_state **ret_state);

/* Whether it is known to be cut off. Relaxed: who does not know yet finds out as the first one did. */
static inline bool
process_is_gone(const struct process *process)
{
	return atomic_load_explicit(&process->gone, memory_order_relaxed);
}

#endif

/* SPDX-License-Identifier: PostgreSQL */
/*
 * The layout of a pool's lease segment: a file format. Fixed-width types, offsets instead of pointers, static
 * asserts on every offset that two programs must agree on. Nothing but the format is here: segment.c makes and maps
 * it, slots.c, rows.c and queue.c change it, as doc/protocol.md says.
 *
 * Trust: every process that maps the segment can write all of it. The broker therefore takes from it no index, size
 * or offset without checking it against its own copy (struct segment, private memory).
 */
#ifndef PGLEASE_SHM_LAYOUT_H
#define PGLEASE_SHM_LAYOUT_H

#include <assert.h>
#include <semaphore.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "counters.h"
#include "histogram.h"
#include "word.h"

#define LAYOUT_MAGIC UINT64_C(0x31455341454c4750) /* "PGLEASE1" in memory, little endian */
/* A test builds another layout, by giving both. */
#ifndef LAYOUT_VERSION
#define LAYOUT_VERSION 2u
#define LAYOUT_BASELINE 2048 /* bytes of a slot's baseline parameters */
#endif
#define LAYOUT_LINE 64

/* Limits of an instance. */
#define LAYOUT_MAX_POOLS 64
#define LAYOUT_MAX_SLOTS 1024
#define LAYOUT_MAX_CLIENTS 4096
#define LAYOUT_MAX_ROWS 16384
#define LAYOUT_NAME 64
#define LAYOUT_SITE 56
#define LAYOUT_RESET_SQL 256 /* bytes of a pool's reset_sql, with its zero */
#define LAYOUT_MAX_STATEMENTS 1000 /* of a slot */
#define LAYOUT_MAX_ALERTS 16

enum segment_state {
	SEGMENT_NEW = 0,      /* being made */
	SEGMENT_OPEN = 1,     /* leases are granted */
	SEGMENT_DRAINING = 2, /* no new leases */
	SEGMENT_CLOSED = 3,   /* the broker has stopped or given the segment up */
	SEGMENT_PAUSED = 4,   /* no new leases: who wants one waits */
	SEGMENT_DISABLED = 5, /* no new leases; the connections stay */
	SEGMENT_GOING = 6,    /* no new leases, ever: a reload has taken the pool out, or made it anew in another segment */
};

/* When a session is reset between two lessees. */
enum reset_policy {
	RESET_HANDOVER, /* when the next lessee is another process, or nobody for a moment */
	RESET_ALWAYS,   /* at each release */
	RESET_NEVER,    /* as HANDOVER, but of all there is only LISTEN is undone */
	RESET_NPOLICIES,
};

/* What an acquire does that needs the broker, when that has gone. */
enum broker_down {
	BROKER_DOWN_WAIT, /* waits for the next one, up to its deadline */
	BROKER_DOWN_FAIL, /* fails at once */
};

/* What is reset. */
enum reset_kind {
	RESET_FULL,     /* DISCARD ALL */
	RESET_LIGHT,    /* all of that but plans, prepared statements and sequence caches */
	RESET_SQL,      /* the operator's own statements */
	RESET_UNLISTEN, /* UNLISTEN only: what the policy `never` does */
	RESET_NONE,     /* nothing: only the question after the parameters */
	RESET_NKINDS,
};
/* Each kind but NONE has its counters, in this order. */
static_assert(COUNTER_RESETS_UNLISTEN - COUNTER_RESETS_FULL == RESET_UNLISTEN, "resets by kind");
static_assert(COUNTER_BROKER_RESETS_UNLISTEN - COUNTER_BROKER_RESETS_FULL == RESET_UNLISTEN, "resets by kind");
/* In struct slot.owed: what follows the reset. */
#define RESET_ASKED 0x100u /* the question */
#define RESET_SETS 0x200u  /* a lessee's start-up statements: what they leave is not the baseline */

/*
 * One place for a server connection.
 *
 * word: the truth (doc/protocol.md). The other fields of the first line are written by the word's owner only and
 * published by the swap with which it gives the slot up; whoever reads them without owning the slot (a monitor, an
 * error message) may see a mixture of two leases, which costs a wrong line on a screen and nothing else. They are
 * atomics, accessed relaxed, so that such a read is defined.
 */
struct slot {
	alignas(LAYOUT_LINE) _Atomic uint64_t word;
	_Atomic uint64_t generation; /* broker: counts connections; 0 before the first */
	_Atomic uint64_t grant_wait; /* granter, before S4/S9: the wait that the grant is for */
	_Atomic uint64_t idle_since; /* who made it IDLE; CLOCK_MONOTONIC ns */
	/*
	 * Who reset it: counts resets, from generation << 32 on (broker, with S1). So a lessee that was revoked while it counted, and
	 * stores late, does not give it a number at which another process's shell saw this session.
	 */
	_Atomic uint64_t session;
	_Atomic uint64_t leases_before; /* broker: leases of this slot that its block does not count; slot_leases() */
	_Atomic uint32_t block;      /* broker: index of the statistics block its lessees write */
	_Atomic uint32_t server_pid; /* broker: backend pid, 0 when EMPTY */
	_Atomic uint32_t expired;    /* broker: 1 when over max_lifetime: released to RETURNED */
	_Atomic uint32_t clean;      /* lessee, before S10 because pooling is off: 1: nothing runs; broker: 0, with S1 */

	/* Second and third line: the holder, written by the lessee after S6/S7. */
	alignas(LAYOUT_LINE) _Atomic uint64_t leased_at; /* CLOCK_MONOTONIC ns; at least idle_since once it is the lease's */
	_Atomic uint32_t holder_tid;                     /* thread id in the holder's pid namespace */
	_Atomic uint32_t site_line;                      /* where it was acquired; 0: unknown */
	_Atomic uint64_t connected_at;                   /* broker; CLOCK_MONOTONIC ns */
	_Atomic uint64_t turn_at; /* who gives it up: when a grant of it was made last, or it was given up with nobody waiting */
	char site_file[LAYOUT_SITE]; /* lessee; file name, zero-terminated; racy text */
	/*
	 * Who sends a reset: the slot's generation, as it knows it (32 bits), RESET_ASKED and RESET_SETS or not, and enum
	 * reset_kind. Checked before use: a revoked lessee may store late, over that of the slot's next connection.
	 */
	_Atomic uint64_t owed;
	/*
	 * Whether the server may have changed parameters and told nobody who has compared them: lessee, 1 at a release without
	 * the whole comparison; 0 when the server was asked. And when it was asked last; CLOCK_MONOTONIC ns.
	 */
	_Atomic uint32_t unverified;
	_Atomic uint32_t turn_leases; /* who gives it up: of this turn, so far, while others waited */
	_Atomic uint64_t asked_at;
	/*
	 * Lessee, before it gives the slot up: which of the baseline's parameters (bit: place in the baseline) its PGconn
	 * believes to be other than that. It SET them, and a reset makes the server say that they are back; or the
	 * server changed them by itself and told only this lessee. Who reset the session: 0.
	 */
	_Atomic uint64_t off_baseline;
	uint64_t reserved2;
};
static_assert(sizeof(struct slot) == 192, "slot size");
static_assert(offsetof(struct slot, leased_at) == 64, "holder starts a line");

/*
 * One thread's row. word: who may change it is in doc/protocol.md. sem wakes and means nothing. The rest is written
 * by the row's owner only, but for posted and hint_slot (granters), which are hints.
 */
struct row {
	alignas(LAYOUT_LINE) _Atomic uint64_t word;
	_Atomic uint64_t ticket;     /* owner: its last queue ticket; 0: none */
	_Atomic uint64_t wait_since; /* owner, before R2; CLOCK_MONOTONIC ns */
	_Atomic uint32_t posted;     /* exchanged to 1 before a post, to 0 by the owner before its rescan */
	_Atomic uint32_t hint_slot;  /* granter: where the grant is; checked, never believed */
	sem_t sem;
	alignas(LAYOUT_LINE) _Atomic uint32_t tid;
	uint32_t reserved;
	/*
	 * row_token() of the lease that it holds, 0 for none: owner at acquire, releaser when it will not count into the slot's
	 * block any more and before it gives the slot up; after a revocation, whoever releases the lost lease.
	 */
	_Atomic uint64_t held;
	_Atomic uint64_t place_since; /* owner, at Q1; CLOCK_MONOTONIC ns: from then on a grant gets due */
	/* Releaser, before it gives the slot up, and again when it has woken or looked for a waiter: a guess (threads.h); CLOCK_MONOTONIC ns */
	_Atomic uint64_t released_at;
	char reserved2[32];
};
/* Which lease of which slot. */
static inline uint64_t
row_token(uint32_t slot, uint64_t seq)
{
	return (uint64_t)(slot + 1) << WORD_SEQ_BITS | seq;
}
static_assert(sizeof(sem_t) == 32, "64-bit glibc");
static_assert(sizeof(struct row) == 128, "row size");

/* An attached process. Written by the broker only (clients can scribble; the broker has its own copy). */
struct client_row {
	alignas(LAYOUT_LINE) _Atomic uint64_t incarnation; /* 0: not in use */
	_Atomic uint32_t pid;
	_Atomic uint32_t uid;
	_Atomic uint64_t attached_at; /* CLOCK_MONOTONIC ns */
	char program[40];
};
static_assert(sizeof(struct client_row) == 64, "client row size");

/*
 * What the lessees of a slot count. A block is written under the lease of the slot that names it; when a lease is
 * revoked the slot gets another block, and the old one waits, with what it holds, until its writer is dead. So a
 * pool's totals are the sum over all blocks, and never go back.
 */
struct stats_block {
	alignas(LAYOUT_LINE) _Atomic uint64_t counter[SLOT_NCOUNTERS];
	alignas(LAYOUT_LINE) struct histogram wait; /* of leases that waited; ns */
	struct histogram hold;                      /* of released leases; ns */
	struct histogram query;                     /* of the library's own calls; ns */
	struct histogram transaction;               /* that those calls ended; ns */
};

/*
 * Rates that the broker keeps up to date, over about the last ten seconds, in events per 1,000 seconds.
 */
enum stats_rate { RATE_CONNECTIONS, RATE_LEASES, RATE_QUERIES, RATE_TRANSACTIONS, STATS_NRATES };

/*
 * The statements that are prepared in a slot's session under names of the library's (src/client/statements.c). Written by
 * the slot's owner only, relaxed, and published by the swap with which it gives the slot up. statements.c is the one
 * place that reads and writes it, and says there what a scribbled or late store costs.
 */
struct statement {
	_Atomic uint64_t hi, lo; /* the name's number, masked by the table's epoch; both 0: free */
	_Atomic uint64_t used;   /* the table's clock at its last use, times 2; +1: to be prepared anew */
};
static_assert(sizeof(struct statement) == 24, "statement size");

struct statement_table {
	alignas(LAYOUT_LINE) _Atomic uint64_t epoch; /* +1 whenever the session has lost them all */
	_Atomic uint64_t clock;                      /* counts uses */
	_Atomic uint64_t doubted; /* what was last used up to then may be gone: the application's doing */
	_Atomic uint32_t count;   /* entries that are not free */
};
static_assert(sizeof(struct statement_table) == 64, "statement table size");

/* Entries of a table for up to `limit` statements: two thirds full at most, and never full. */
static inline uint32_t
layout_statements_capacity(uint32_t limit)
{
	return limit + limit / 2 + 1;
}

/* Bytes of a slot's table, with its entries behind it, in whole lines; none at all without statements. */
static inline size_t
layout_statements_size(uint32_t limit)
{
	size_t size =
	    sizeof(struct statement_table) + layout_statements_capacity(limit) * sizeof(struct statement);

	return limit == 0 ? 0 : (size + LAYOUT_LINE - 1) / LAYOUT_LINE * LAYOUT_LINE;
}

/*
 * An alert of the pool's, as the broker has judged it last: its own; alert.c is the one place that writes and reads it. `sequence` is odd
 * while it is written; a row that stays odd, because the broker died there, counts as one that is not there.
 */
struct alert_row {
	_Atomic uint64_t sequence;
	_Atomic uint64_t state;        /* enum alert_state */
	_Atomic uint64_t value, limit; /* UINT64_MAX: none */
	_Atomic uint64_t since;        /* CLOCK_MONOTONIC ns */
	_Atomic uint64_t count;
};

/* Every array starts on a page, at an offset kept here and in each process's own struct segment. */
struct segment_header {
	uint64_t magic;
	uint32_t version;
	uint32_t hash; /* layout_hash(): sizes and offsets of every structure */
	uint64_t size;
	uint64_t instance_id; /* random; another after each start of the broker */
	_Atomic uint32_t state; /* enum segment_state; SEGMENT_OPEN is published last, with release */
	uint32_t pool; /* index in the instance */
	uint32_t broker_pid;
	uint32_t nslots;   /* capacity; slots past max_connections stay EMPTY */
	uint32_t nrows;
	uint32_t nclients;
	uint32_t nblocks;
	uint32_t queue_size; /* power of two */
	uint32_t nstatements; /* that a slot's session may have prepared; 0: none are kept */
	uint64_t slots, rows, clients, blocks, baselines, queue, statements, connects; /* byte offsets from the start */
	char instance_name[LAYOUT_NAME];
	char pool_name[LAYOUT_NAME];
	char user[LAYOUT_NAME];   /* database user, for the shells */
	char dbname[LAYOUT_NAME]; /* database, for the shells */

	/* Settings that clients obey; broker, relaxed: a stale value is the setting of a moment ago. */
	alignas(LAYOUT_LINE) _Atomic uint64_t acquire_timeout_ns;
	_Atomic uint64_t grant_after_ns;
	_Atomic uint64_t turn_ns; /* how long, and for how many leases, a worker that leases again at once keeps a slot while others wait */
	_Atomic uint64_t bypass_ns; /* validation by-pass: a slot idle for less is not peeked at */
	_Atomic uint64_t reset_timeout_ns;
	_Atomic uint64_t connect_timeout_ns; /* how long a PQreset may take */
	_Atomic uint32_t max_connections;
	_Atomic uint32_t upstream_down; /* 1 while connects fail and nothing is connected; and then nobody waits whose pool fails fast */
	/* Written before SEGMENT_OPEN, and, down to max_leases, never again: no client sees another value. */
	_Atomic uint32_t pooling_off;    /* 1: a lease ends with S10 */
	_Atomic uint32_t monitoring_off; /* 1: lessees count nothing */
	_Atomic uint32_t reset_policy;   /* enum reset_policy */
	_Atomic uint32_t reset_kind;     /* enum reset_kind; RESET_UNLISTEN when the policy is `never` */
	_Atomic uint32_t max_leases;     /* of one client; 0: no limit */
	_Atomic uint32_t turn_leases;    /* see turn_ns */
	_Atomic uint32_t fail_fast;      /* 1: nobody waits while upstream_down */
	_Atomic uint32_t broker_down;    /* enum broker_down */

	/*
	 * 1 while the broker does not look for dirty idle sessions: broker, before it looks once more; who makes a slot
	 * IDLE and DIRTY reads it after that swap, and rings if it was the one to exchange it for 0.
	 */
	alignas(LAYOUT_LINE) _Atomic uint32_t reset_watch;
	/* When a lessee last had to reset another's session itself; lessees, relaxed: for a while after that the broker is in a hurry */
	_Atomic uint64_t reset_wanted_at;

	/* row_token() of the waiter that looks again every millisecond, so that no kept slot stays idle; waiters; 0: none yet */
	alignas(LAYOUT_LINE) _Atomic uint64_t watcher;
	/* When a slot was last kept, within a few milliseconds; lessees, relaxed: waiters take the watch only if that is not long ago */
	_Atomic uint64_t kept_at;

	/* The queue's counters: waiters write tail, granters head; together because both read both. */
	alignas(LAYOUT_LINE) _Atomic uint64_t head;
	_Atomic uint64_t tail;

	/* Hints: bit set: the slot may be IDLE. A clear bit with an IDLE word is repaired by scans. */
	alignas(LAYOUT_LINE) _Atomic uint64_t idle_bitmap[LAYOUT_MAX_SLOTS / 64];

	alignas(LAYOUT_LINE) _Atomic uint64_t client_counter[CLIENT_NCOUNTERS];
	alignas(LAYOUT_LINE) _Atomic uint64_t broker_counter[BROKER_NCOUNTERS];
	/*
	 * What readers of the statistics want to know, written by the broker alone (peak: by who waits, too), relaxed; each is of
	 * use without the others. How far slots, and blocks past those of the slots, were ever in use: none further holds a count
	 * (a reader that sees an old value misses what was counted a moment ago). Attached processes. The most slots leased or
	 * granted at one time, as seen at the broker's ticks and by who finds none idle. Health: health.h. ticked_at
	 * (CLOCK_MONOTONIC ns) is old when the broker is not there.
	 */
	alignas(LAYOUT_LINE) _Atomic uint32_t slots_used;
	_Atomic uint32_t spares_used;
	_Atomic uint32_t attached;
	_Atomic uint32_t peak;
	_Atomic uint32_t health;
	_Atomic uint64_t ticked_at;
	_Atomic uint64_t broker_memory; /* resident; bytes; 0: unknown */
	_Atomic uint64_t rate[STATS_NRATES];
	/* Written by the broker: the upstream's last error, racy text for messages. */
	alignas(LAYOUT_LINE) char upstream_error[256];
	/* For RESET_SQL; written before SEGMENT_OPEN. Scribbled on, it costs what the sessions of this pool cost anyway. */
	char reset_sql[LAYOUT_RESET_SQL];
	alignas(LAYOUT_LINE) struct alert_row alert[LAYOUT_MAX_ALERTS]; /* by enum alert_id */
};
static_assert(offsetof(struct segment_header, magic) == 0, "magic first");
static_assert(offsetof(struct segment_header, hash) == 12, "hash at 12");
static_assert(sizeof(struct segment_header) <= 4096, "header fits a page");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics without locks");

/* FNV-1a over the sizes and offsets that make up the format. */
uint32_t layout_hash(void);

#endif

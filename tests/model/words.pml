/* SPDX-License-Identifier: PostgreSQL */
/*
 * What lessees and broker of lease.pml share: the words, the segment, the ghosts, the queue as far as it is needed here,
 * the wake path and the granter's steps. Which switches exist and what each is for is in README.md.
 */

#define NS 2
#define NR 3
#ifndef SOLO
#define SOLO 0		/* 1: row 1 stays out: one thread a process */
#endif
#ifndef LAPS0
#define LAPS0 1		/* acquires of row 0, and of row 2 */
#endif
#ifndef LAPS2
#define LAPS2 1
#endif
#ifndef HELD
#define HELD 0		/* row + 1: it starts with slot 0 leased by that row */
#endif
#ifndef OPENING
#define OPENING 0	/* 1: slot 1 starts EMPTY and is opened at any time, or never; 2: it stays EMPTY */
#endif
#ifndef RING
#define RING 4
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 0	/* waits, in total, that may end at a deadline */
#endif
#ifndef HOLDERS
#define HOLDERS 0	/* leases that may never end */
#endif
#ifndef MAINT
#define MAINT 0		/* S5, F2 and S12-for-RETIRE, in total */
#endif
#ifndef BROKEN
#define BROKEN 0	/* leases that end in doubt: S10 */
#endif
#ifndef CLEAN
#define CLEAN 0		/* leases that leave no traces */
#endif
#ifndef AHEAD
#define AHEAD 0		/* releases that send a reset ahead: D1, then D2 */
#endif
#ifndef LATE
#define LATE 0		/* answers that are late or come in part; then D1 and D3 after S6/S7 are steps of their own */
#endif
#ifndef UNUSED
#define UNUSED 0	/* leases that are given up before the session was touched */
#endif
#ifndef CRASH
#define CRASH 0		/* one process may die at any step: 1 process 0, 2 process 1, 3 either */
#endif
#ifndef BCRASH
#define BCRASH 0	/* 1: the broker may die at any step */
#endif
#ifndef DETACH
#define DETACH 0	/* process (bits, as CRASH) whose control connection may end while it lives */
#endif
#ifndef DRAIN
#define DRAIN 0		/* 1: the pool may be drained at any moment */
#endif
#ifndef PAUSE
#define PAUSE 0		/* with DRAIN, 1: it is a pause: who wants a lease waits; and it may be resumed at any moment, or never */
#endif
#ifndef UNPOOLED
#define UNPOOLED 0	/* 1: the header says pooling_off */
#endif
#ifndef RENEW
#define RENEW 0		/* leases that ask for another connection: N1-N5 */
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#ifndef KEEPS
#define KEEPS 0		/* releases that leave the slot idle for the releaser though somebody waits */
#endif
#ifndef ORDER
#define ORDER 0		/* grant_after is 0, and nobody who waits is overtaken more than so often */
#endif
#ifndef GOODBYE
#define GOODBYE 0	/* 1: process 1 detaches when its lease is over: R6 */
#endif
#define MAY_REVOKE (CRASH || DETACH || GOODBYE)	/* the broker's part in a death is needed */
#define STEPWISE (LATE || UNUSED)

#define NONE 3
/* The slot word: state 3 bits, flags 4, who 2, sequence 6 (exact: asserted not to wrap). */
#define WORD(st, fl, wh, sq) ((st) | (fl) << 3 | (wh) << 7 | (sq) << 9)
#define ST(w) ((w) & 7)
#define FL(w) ((w) >> 3 & 15)
#define WHO(w) ((w) >> 7 & 3)
#define SEQ(w) ((w) >> 9)
#define NEXT(w, st, fl, wh) WORD(st, fl, wh, SEQ(w) + 1)
#define EMPTY 0
#define BROKER 1
#define IDLE 2
#define GRANTED 3
#define LEASED 4
#define RETURNED 5
#define D 1	/* DIRTY */
#define C 2	/* CANCELLING */
#define R 4	/* RETIRE */
#define O 8	/* OWED */
#define OWN (D | O)
#define SES(w) (FL(w) & OWN)
#define session_of(w) (SES(w) == OWN -> D : SES(w))

/* The row word: state 2 bits, client 2, sequence 6. */
#define ROW(st, cl, sq) ((st) | (cl) << 2 | (sq) << 4)
#define RST(w) ((w) & 3)
#define RCL(w) ((w) >> 2 & 3)
#define RSEQ(w) ((w) >> 4)
#define FREE 0
#define OWNED 1
#define WAITING 2
#define RGRANTED 3

/* A queue entry: kind 2 bits, ticket 5, row 2, wait 6. */
#define ENTRY(kd, tk, rw_, wt) ((kd) | (tk) << 2 | (rw_) << 7 | (wt) << 9)
#define EK(e) ((e) & 3)
#define ET(e) ((e) >> 2 & 31)
#define ER(e) ((e) >> 7 & 3)
#define EW(e) ((e) >> 9)
#define HOLE 0
#define LIVE 1
#define DEAD 2
#define PASSED 3

/* Rows 0 and 1 start in process 0, row 2 in process 1. */
#define PROC(r) ((r) / 2)

/* The segment. */
short sw[NS];		/* slot words */
byte gwait[NS];		/* grant_wait */
short rw[NR];		/* row words */
bit posted[NR];
byte sem[NR];
short q[RING];
byte head = RING, tail = RING;	/* a fresh ring's entries bear ticket 0: older than any asked for */
#if KEEPS
byte keeps = KEEPS;
short watcher;		/* row + 1 and wait of who has the watch; 0: nobody has had it */
#endif
#define WATCH(rw_, wt) ((rw_) + 1 | (wt) << 2)
#define is_watch(x) ((x) != 0 && rw[((x) & 3) - 1] == ROW(WAITING, RCL(rw[((x) & 3) - 1]), (x) >> 2))
bit drain;		/* the segment's state is DRAINING */

/* The world. */
bit dead[2];		/* process p has crashed, or has said goodbye */
bit handled[2];		/* the broker is through with its death */
bit detached[2];	/* its control connection has ended */
bit bdead;		/* the broker has crashed */
byte timeouts = TIMEOUTS, holders = HOLDERS, broken = BROKEN, clean = CLEAN, ahead = AHEAD, late = LATE, unused = UNUSED;

/* The sessions: what the words must tell the truth about. No transition but a reader's depends on them. */
byte last[NS];		/* incarnation whose traces it bears, once all that was sent to it is done; 0: clean */
byte ans[NS];		/* in its stream: 0 nothing, 1 the whole answer to a reset, 2 the rest of one */

/* Ghosts: what the properties are about; no transition depends on them. */
byte st[NR];		/* what a row's thread is at */
#define RUNS 0
#define ASLEEP 1
#define HOLDS 2
#define DONE 3
#define GONE 4
byte brk;		/* 1: the broker has nothing in hand */
byte holder[NS];	/* row + 1 that believes it has the lease, and is right */
bit taken[NR];		/* a grant to this row was taken back, or misnamed, since its last wait began */
#if RENEW
byte renew = RENEW;
byte ren[NS];		/* of a lease that is renewed: 1 it has asked, 2 the old connection is gone; 0: no such lease */
bit hollow[NS];		/* a lease without a connection */
#define gone_over(i) ; ren[i] = 0; hollow[i] = 0
#define renewing(i) (ren[i] == 2)
#define is_void(i) (hollow[i])
#else
#define gone_over(i)
#define renewing(i) false
#define is_void(i) false
#endif
byte cancel[NS];	/* row + 1 whose cancel is on its way to this slot's server session */
#if ORDER
byte over[NR];		/* leases that began since the row's place was taken, of rows without an older place */
byte place[NR];		/* its ticket */
#endif

#define is_idle(w) (ST(w) == IDLE && !(FL(w) & R))
/* What the word of an IDLE or GRANTED slot says is in the session is in it. */
#define truth(i, w) (SES(w) == 0 -> last[i] == 0 && ans[i] == 0 : (SES(w) == O -> last[i] == 0 && ans[i] == 1 : ans[i] == 0))

#ifdef BUG_A	/* the grant names the process */
#define granted_to_me(w, i) (ST(w) == GRANTED && WHO(w) == me)
#define GRANTEE(row) RCL(rw[row])
#else
#define granted_to_me(w, i) (ST(w) == GRANTED && WHO(w) == r && gwait[i] == mywait)
#define GRANTEE(row) (row)
#endif

#define TOP q[head % RING]
#define live(e, tk) (ET(e) == tk && EK(e) == LIVE && rw[ER(e)] == ROW(WAITING, RCL(rw[ER(e)]), EW(e)))
#define drop_oldest	k = 0; e = 0; r2 = NONE; w2 = 0; c2 = 0

/*
 * Q5 and Q6 for what does not wait at head, and the oldest waiter: k its ticket, e its entry, r2 the row (NONE: there
 * is none), w2 the wait, c2 its client. Within an atomic.
 */
#define OLDEST \
	do \
	:: head < tail && !live(TOP, head) -> TOP = ENTRY(PASSED, head, 0, 0); head++ \
	:: else -> break \
	od; \
	if \
	:: head < tail -> k = head; e = TOP; r2 = ER(e); w2 = EW(e); c2 = RCL(rw[r2]) \
	:: else \
	fi

/* The next waiter from ticket k on, below t: r2. Within an atomic, within a do of the wake path. */
#define NEXT_WAITER \
	do \
	:: k < t && !live(q[k % RING], k) -> k++ \
	:: else -> break \
	od; \
	if \
	:: k < t -> r2 = ER(q[k % RING]) \
	:: else -> k = 0; t = 0; r2 = NONE; break \
	fi

/* The wake path: posts the oldest waiter that has no post pending. */
inline wake()
{
	do
	:: atomic { t == 0 -> k = head; t = tail; NEXT_WAITER }
	:: atomic { t > 0 && posted[r2] == 0 -> posted[r2] = 1;
#if CRASH || BCRASH
		} atomic {
#endif
		sem[r2]++; k = 0; t = 0; r2 = NONE; break }
	:: atomic { t > 0 && posted[r2] == 1 -> k++; NEXT_WAITER }
	od
}

/* S11: the session is what it was, but nobody's own. */
#ifdef BUG_S11
#define S11_SESSION(w) D
#else
#ifdef OLD_DIRTY
#define S11_SESSION(w) (SES(w) == OWN -> 0 : SES(w))
#else
#define S11_SESSION(w) session_of(w)
#endif
#endif
#define S11(slot, w) \
	sw[slot] = NEXT(w, IDLE, S11_SESSION(w), NONE); gwait[slot] = 0; taken[r2 % NR] = 1

/* After S4/S9, gw the GRANTED word: R4; then passes the entry and posts, or takes the stale grant back and wakes. */
inline complete(slot, gw)
{
	if
	:: atomic { rw[r2] == ROW(WAITING, c2, w2) -> rw[r2] = ROW(RGRANTED, c2, w2) }
		atomic {
			if
			:: q[k % RING] == e -> q[k % RING] = ENTRY(PASSED, k, 0, 0)
			:: else
			fi;
			if
			:: head == k && ET(TOP) == k && EK(TOP) == PASSED -> head++
			:: else
			fi;
			posted[r2] = 1;
#if CRASH || BCRASH
			} atomic {
#endif
			sem[r2]++; gw = 0; drop_oldest }
	:: atomic { rw[r2] != ROW(WAITING, c2, w2) -> k = 0; e = 0; w2 = 0; c2 = 0 }
		if
		:: atomic { sw[slot] == gw -> S11(slot, gw); r2 = NONE; gw = 0 }
			wake()
		:: atomic { sw[slot] != gw -> r2 = NONE; gw = 0 }
		fi
	fi
}

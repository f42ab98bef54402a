/* SPDX-License-Identifier: PostgreSQL */
/*
 * The lease protocol (doc/protocol.md): two slots, three lessee rows in two processes, the broker, and one crash.
 *
 * Owns: slot words, row words, grants, the wake path, death, cancel, and the queue as far as these need it. Does not
 * own: the queue's behaviour when the ring wraps under stalled helpers (queue.pml), time, and the bytes of a session
 * (a ghost says whose traces it bears).
 *
 * One atomic step is one shared access; README.md says where two are joined and why nothing is lost by it, which
 * switches exist and what each configuration of run.sh explores.
 */

#define NS 2
#define NR 3
#ifndef SOLO
#define SOLO 0		/* 1: row 1 stays out: one thread a process */
#endif
#ifndef AGAIN
#define AGAIN 0		/* second acquires: of row 0 (1), of row 2 (2), of both (3) */
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
#ifndef CRASH
#define CRASH 0		/* one process may die at any step: 1 process 0, 2 process 1, 3 either */
#endif
#ifndef CANCELS
#define CANCELS 0
#endif

#define NONE 7
/* The slot word: state 3 bits, flags 3, who 3, sequence 6 (exact: asserted not to wrap). */
#define WORD(st, fl, wh, sq) ((st) | (fl) << 3 | (wh) << 6 | (sq) << 9)
#define ST(w) ((w) & 7)
#define FL(w) ((w) >> 3 & 7)
#define WHO(w) ((w) >> 6 & 7)
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

/* The world. */
bit dead[2];		/* process p has crashed */
bit handled[2];		/* the broker is through with its death */
byte timeouts = TIMEOUTS, holders = HOLDERS, broken = BROKEN;

/* Ghosts: what the properties are about; no transition depends on them. */
byte st[NR];		/* what a row's thread is at */
#define RUNS 0
#define ASLEEP 1
#define HOLDS 2
#define DONE 3
#define GONE 4
byte brk;		/* 1: the broker has nothing in hand */
byte holder[NS];	/* row + 1 that believes it has the lease */
byte last[NS];		/* incarnation whose traces the session bears; 0: clean */
bit taken[NR];		/* a grant to this row was taken back since its last wait began */
byte cancel[NS];	/* row + 1 whose cancel is on its way to this slot's server session */

#define is_idle(w) (ST(w) == IDLE && !(FL(w) & R))

#ifdef BUG_A	/* the grant names the process */
#define granted_to_me(w, i) (ST(w) == GRANTED && WHO(w) == me)
#define GRANTEE(row) RCL(rw[row])
#else
#define granted_to_me(w, i) (ST(w) == GRANTED && WHO(w) == r && gwait[i] == mywait)
#define GRANTEE(row) (row)
#endif

/* S6 and S7 as they are checked: exclusive, never another's session without DIRTY, no cancel on its way. */
#define lease_checks(i, fl) \
	assert(holder[i] == 0); \
	assert(last[i] == 0 || last[i] == inc || (fl & D)); \
	assert(cancel[i] == 0); \
	holder[i] = r + 1; last[i] = inc

/* The lessee's lease is what its word says. */
#define use_checks(i) \
	assert(ST(sw[i]) == LEASED && WHO(sw[i]) == r && SEQ(sw[i]) == tok); \
	assert(holder[i] == r + 1 && last[i] == inc)

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
#if CRASH
		} atomic {
#endif
		sem[r2]++; k = 0; t = 0; r2 = NONE; break }
	:: atomic { t > 0 && posted[r2] == 1 -> k++; NEXT_WAITER }
	od
}

/* After S4/S9: R4; then passes the entry and posts, or takes the stale grant back (S11) and wakes. lw: the grant. */
inline complete(slot)
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
#if CRASH
			} atomic {
#endif
			sem[r2]++; lw = 0; drop_oldest }
	:: atomic { rw[r2] != ROW(WAITING, c2, w2) -> k = 0; e = 0; w2 = 0; c2 = 0 }
		if
		:: atomic { sw[slot] == lw ->
			sw[slot] = NEXT(lw, IDLE, D, NONE); gwait[slot] = 0; taken[r2] = 1; r2 = NONE; lw = 0 }
			wake()
		:: atomic { sw[slot] != lw -> r2 = NONE; lw = 0 }
		fi
	fi
}

#define SW sw[(i + r) % NS]
#define candidate(claims) ((claims && is_idle(SW)) || granted_to_me(SW, (i + r) % NS))

/*
 * Looks at all slot words, from the row's own first one on, and takes what it finds: S6 (if `claims`) or S7. Then
 * s is the slot, tok the lease sequence, lw the word, and it goes on at `got`; else at `none`.
 */
#define rescan(claims, got, none) \
	do \
	:: atomic { i < NS - 1 && !candidate(claims) -> i++ } \
	:: atomic { i == NS - 1 && !candidate(claims) -> i = 0; goto none } \
	:: atomic { candidate(claims) -> lw = SW } \
		if \
		:: atomic { SW == lw -> \
			s = (i + r) % NS; \
			if \
			:: ST(lw) == IDLE && WHO(lw) == me -> lw = NEXT(lw, LEASED, 0, r) \
			:: else -> lw = NEXT(lw, LEASED, FL(lw), r) \
			fi; \
			sw[s] = lw; gwait[s] = 0; tok = SEQ(lw); i = 0; \
			lease_checks(s, FL(lw)); \
			goto got } \
		:: atomic { SW != lw && i < NS - 1 -> lw = 0; i++ } \
		:: atomic { SW != lw && i == NS - 1 -> lw = 0; i = 0; goto none } \
		fi \
	od

/* R2, then Q4 or Q1; the R2 is not to be seen before the entry is LIVE. */
#define enlist \
	assert(RST(rw[r]) == OWNED); \
	mywait = RSEQ(rw[r]) + 1; assert(mywait < 64); \
	rw[r] = ROW(WAITING, me, mywait); taken[r] = 0; \
	if \
	:: timeouts > 0 && !hasty -> timeouts--; hasty = 1 \
	:: true \
	fi

/* Q1 and Q2 */
#define ENTER \
	assert(tail - head < RING); assert(tail < 31); \
	myt = tail; q[myt % RING] = ENTRY(LIVE, myt, r, mywait); tail++

/* A thread; its row is r, its client index me, its incarnation inc. */
inline lessee_life()
{
#if HELD
	if
	:: r == HELD - 1 && inc == PROC(r) + 1 -> left--; s = 0; lw = sw[0]; tok = SEQ(lw); goto hold
	:: else
	fi;
#else
	skip;
#endif
next:
	if
	:: atomic { left > 0 -> left-- }
	:: atomic { left = 0; st[r] = DONE; goto done }
	fi;
	rescan(1, hold, again);
again:
#ifdef BUG_E
	atomic { enlist; posted[r] = 0 }
	rescan(1, claimed, late);
late:
	atomic { ENTER; st[r] = ASLEEP; goto sleep }
claimed:
	atomic { ENTER; goto leave }
#else
	atomic {
		enlist;
		if
		:: myt != 0 && q[myt % RING] == ENTRY(DEAD, myt, r, 0) -> q[myt % RING] = ENTRY(LIVE, myt, r, mywait)
		:: else -> ENTER
		fi }
#endif
look:
	atomic {
		posted[r] = 0;
		if
		:: RST(rw[r]) == RGRANTED -> goto look_grant
		:: else
		fi }
	rescan(1, leave, doze);
look_grant:
	rescan(0, leave, lost);
lost:
	atomic { assert(taken[r]); goto leave }	/* R5, and waits anew */
doze:
	atomic { st[r] = ASLEEP }
sleep:
	if
	:: atomic { sem[r] > 0 -> sem[r]--; st[r] = RUNS; goto look }
	:: atomic { hasty ->	/* the deadline: R3; if that fails there is a grant: S7, then R5 */
		st[r] = RUNS;
		if
		:: RST(rw[r]) == WAITING -> rw[r] = ROW(OWNED, me, RSEQ(rw[r]) + 1)
		:: else
		fi }
	fi;
	rescan(0, leave, late_none);
late_none:
	atomic { assert(RST(rw[r]) == OWNED || taken[r]); expired = 1 }
leave:
	/* R3, or R5 where that fails (neither, if the deadline's R3 has been); then Q3, or Q5 of the served. */
	atomic {
		g = (RST(rw[r]) == RGRANTED);
		if
		:: RST(rw[r]) >= WAITING -> rw[r] = ROW(OWNED, me, RSEQ(rw[r]) + 1)
		:: else
		fi;
		if
		:: q[myt % RING] == ENTRY(LIVE, myt, r, mywait) && !g -> q[myt % RING] = ENTRY(DEAD, myt, r, 0)
		:: q[myt % RING] == ENTRY(LIVE, myt, r, mywait) && g -> q[myt % RING] = ENTRY(PASSED, myt, 0, 0); myt = 0
		:: else -> myt = 0
		fi }
#ifndef OLD_SECOND_GRANT
	/* A second grant to the same wait is taken too (S7) and given on, unused: S8 to nobody's, or S10. */
	if
	:: atomic { g -> g = 0 }
		do
		:: atomic { i < NS - 1 && !candidate(0) -> i++ }
		:: atomic { i == NS - 1 && !candidate(0) -> i = 0; break }
		:: atomic { candidate(0) -> l2 = SW }
			if
			:: atomic { SW == l2 ->
				assert(holder[(i + r) % NS] == 0);
				l2 = NEXT(l2, LEASED, FL(l2), r); SW = l2;
				gwait[(i + r) % NS] = 0; holder[(i + r) % NS] = r + 1 }
				do
				:: atomic { SW == l2 && !(FL(l2) & (C | R)) ->
					SW = NEXT(l2, IDLE, D, NONE); holder[(i + r) % NS] = 0; l2 = 0; i = 0 }
					wake();
					break
				:: atomic { SW == l2 && (FL(l2) & (C | R)) ->
					SW = NEXT(l2, RETURNED, FL(l2) & C, NONE); holder[(i + r) % NS] = 0; l2 = 0; i = 0;
					break }
				:: atomic { SW != l2 -> l2 = SW }
				od;
				break
			:: atomic { SW != l2 -> l2 = 0; i = 0; break }
			fi
		od
	:: atomic { !g -> skip }
	fi;
#endif
#ifndef OLD_LEAVE
	/* Stop waiting, then look: if a slot is idle and somebody waits, the wake path. */
	if
	:: atomic { head == tail -> skip }
	:: atomic { head != tail -> skip }
		do
		:: atomic { is_idle(sw[i]) -> i = 0 } wake(); break
		:: atomic { i < NS - 1 && !is_idle(sw[i]) -> i++ }
		:: atomic { i == NS - 1 && !is_idle(sw[i]) -> i = 0; break }
		od
	fi;
#endif
	if
	:: atomic { s == NONE && !expired -> mywait = 0; g = 0; goto again }
	:: atomic { s == NONE && expired -> mywait = 0; g = 0; expired = 0; hasty = 0; goto next }
	:: atomic { s != NONE -> mywait = 0; g = 0; hasty = 0 }
	fi;
hold:
	atomic {
		if
		:: FL(lw) & (C | R) -> goto give_back
		:: !(FL(lw) & (C | R)) && broken > 0 -> broken--; goto give_back
#if HOLDERS > 0
		:: holders > 0 -> holders--; st[r] = HOLDS; goto done
#endif
		:: !(FL(lw) & (C | R)) -> OLDEST
		fi }
	if
	:: atomic { r2 != NONE && sw[s] == lw ->	/* it is due: S9 */
		use_checks(s);
		gwait[s] = w2;
		if
		:: c2 == me -> lw = NEXT(lw, GRANTED, 0, GRANTEE(r2))
		:: else -> lw = NEXT(lw, GRANTED, D, GRANTEE(r2))
		fi;
		sw[s] = lw; holder[s] = 0 }
		complete(s)
	:: atomic { sw[s] == lw ->	/* nobody is, or nobody waits: S8 */
		use_checks(s);
		sw[s] = NEXT(lw, IDLE, D, me); lw = 0; holder[s] = 0; drop_oldest }
		wake()
	:: atomic { sw[s] != lw -> use_checks(s); drop_oldest; lw = sw[s]; goto hold }
	fi;
	goto released;
give_back:
	if
	:: atomic { sw[s] == lw -> use_checks(s); sw[s] = NEXT(lw, RETURNED, FL(lw) & C, NONE); lw = 0; holder[s] = 0 }
	:: atomic { sw[s] != lw -> use_checks(s); lw = sw[s]; goto give_back }
	fi;
released:
#ifdef DOUBLE
	/* The same token once more: nothing may happen. */
	if
#ifdef BUG_B
	:: atomic { ST(sw[s]) == LEASED -> sw[s] = NEXT(sw[s], IDLE, D, me) }
#else
	:: atomic { ST(sw[s]) == LEASED && WHO(sw[s]) == r && SEQ(sw[s]) == tok -> sw[s] = NEXT(sw[s], IDLE, D, me) }
#endif
		wake()
	:: atomic { skip }
	fi;
#endif
	atomic { s = NONE; tok = 0; goto next }
done:
	skip
}

proctype Lessee(byte r)
{
	byte me = PROC(r), inc = PROC(r) + 1, left = 1 + ((r == 0 && (AGAIN & 1)) || (r == 2 && (AGAIN & 2)));
	byte mywait, myt, i, k, t, w2, c2, s = NONE, tok, r2 = NONE;
	short lw, l2, e;
	bit g, hasty, expired;
#if CRASH
	bit heir;

born:
	{
		lessee_life();
		false
	} unless { dead[PROC(r)] && !heir };
	d_step {
		st[r] = GONE; left = 0; mywait = 0; i = 0; k = 0; t = 0; w2 = 0; c2 = 0; s = NONE;
		tok = 0; r2 = NONE; lw = 0; l2 = 0; e = 0; g = 0; hasty = 0; expired = 0; myt = 0; heir = 1
	}
#ifdef REBIRTH
	/* The row's next owner: a thread of the living process, or of a new one with the dead one's client index. */
	atomic {
		handled[me] ->
		left = 1; st[r] = RUNS;
		assert(RST(rw[r]) == FREE);
		if
		:: inc = 3
		:: me = 1 - me; inc = me + 1
		fi;
		rw[r] = ROW(OWNED, me, RSEQ(rw[r]) + 1);	/* R1 */
		goto born }
#endif
#else
	lessee_life()
#endif
}

#include "broker.pml"

#if CRASH
proctype Crash()
{
	if
#if CRASH & 1
	:: dead[0] = 1
#endif
#if CRASH & 2
	:: dead[1] = 1
#endif
	:: true
	fi
}
#endif

/* What must hold when nothing can move any more. */
proctype Quiet()
{
	byte i, x;

	atomic {
		timeout ->
		assert(brk);
		do
		:: i < NS ->
			x = WHO(sw[i]);
			assert(is_idle(sw[i]) || ST(sw[i]) == EMPTY || (ST(sw[i]) == LEASED && st[x % NR] == HOLDS && !(FL(sw[i]) & C) && holder[i] == x + 1));
			i++
		:: i == NS -> break
		od;
		i = 0;
		do
		:: i < NR ->
			assert(st[i] != RUNS);
			assert(st[i] != ASLEEP || (RST(rw[i]) == WAITING && !is_idle(sw[0]) && !is_idle(sw[1])));
			assert(st[i] != DONE || RST(rw[i]) == OWNED);
			assert(st[i] != GONE || RST(rw[i]) == FREE);
			i++
		:: i == NR -> break
		od
	}
}

init {
	atomic {
		#if HELD
		sw[0] = WORD(LEASED, 0, HELD - 1, 1); holder[0] = HELD; last[0] = PROC(HELD - 1) + 1;
#else
		sw[0] = WORD(IDLE, 0, NONE, 1);
#endif
#if OPENING
		sw[1] = WORD(EMPTY, 0, NONE, 0);
#else
		sw[1] = WORD(IDLE, 0, NONE, 1);
#endif
		rw[0] = ROW(OWNED, 0, 1); rw[1] = ROW(OWNED, 0, 1); rw[2] = ROW(OWNED, 1, 1);
		brk = 1;
		run Lessee(0); run Lessee(2);
#if SOLO
		rw[1] = ROW(FREE, 0, 1); st[1] = GONE;
#else
		run Lessee(1);
#endif
		run Broker();
#if CRASH
		run Crash();
#endif
		run Quiet()
	}
}

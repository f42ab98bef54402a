/* SPDX-License-Identifier: PostgreSQL */
/*
 * The ring of waiters (doc/protocol.md, Q1-Q6) by itself, in single loads and swaps, over several laps: waiters that
 * enter, give up, come back or stop for ever at any step (a death), and a granter that looks for the oldest and
 * serves it.
 *
 * Owns: what lease.pml takes for granted, that enter, leave and oldest act as one step each. Does not own: slots,
 * posts and sleep.
 *
 * Properties: a waiter that is in (Q2 or Q4 done, R3 and R4 not) has its entry between head and tail, whoever else is
 * stalled where; no entry of another row is overwritten; the oldest that is found was in, and nobody that has
 * been in with a smaller ticket all along is passed over; the ring never overflows; tickets are not used up by chase.
 */

#ifndef NW
#define NW 2	/* waiters: 1 or 2 */
#endif
#ifndef NG
#define NG 1	/* granters: 1 or 2 */
#endif
#define RING (2 * NW)	/* at least twice the rows */
#ifndef ROUNDS
#define ROUNDS 2	/* waits of each waiter */
#endif
#ifndef TURNS
#define TURNS 3		/* looks of each granter */
#endif

#define ENTRY(kd, tk, rw_, wt) ((kd) | (tk) << 2 | (rw_) << 7 | (wt) << 9)
#define EK(e) ((e) & 3)
#define ET(e) ((e) >> 2 & 31)
#define ER(e) ((e) >> 7 & 3)
#define EW(e) ((e) >> 9)
#define HOLE 0
#define LIVE 1
#define DEAD 2
#define PASSED 3

short q[RING];
byte head = RING, tail = RING;
byte wait[2];		/* the row's wait while it is WAITING, else 0 */
byte in[2];		/* ghost: ticket under which the row is in; 0: it is not */
byte deaths = 1;

#define at(t) q[(t) % RING]
#define in_place(r) (in[r] == 0 || (head <= in[r] && in[r] < tail && at(in[r]) == ENTRY(LIVE, in[r], r, wait[r])))
#define all_in_place assert(in_place(0) && in_place(1))

proctype Waiter(byte r)
{
	byte round = 0, w = 0, t = 0, h;
	short old;

again:
	if
	:: atomic { round == ROUNDS -> goto end }
	:: atomic { round < ROUNDS -> round++; w++; wait[r] = w }	/* R2 */
	fi;
	/* Q4 */
	if
	:: atomic { t != 0 && at(t) == ENTRY(DEAD, t, r, w - 1) -> at(t) = ENTRY(LIVE, t, r, w); in[r] = t; all_in_place; goto waits }
	:: atomic { !(t != 0 && at(t) == ENTRY(DEAD, t, r, w - 1)) -> skip }
	fi;
enter:
	if
	:: atomic { deaths > 0 -> deaths--; wait[r] = 0; goto end }
	:: atomic { t = tail }
	fi;
	atomic { h = head; assert(t - h < RING) }
#ifndef OLD_HOLE
	old = at(t);	/* before Q1: the entry of the lap before */
#endif
	if
	:: atomic { tail == t -> tail = t + 1; assert(tail < 32) }	/* Q1 */
	:: atomic { tail != t -> goto enter }
	fi;
	if
	:: atomic { deaths > 0 -> deaths--; wait[r] = 0; goto end }	/* leaves a hole */
	:: skip
	fi;
#ifdef OLD_HOLE
	old = at(t);
	if
	:: atomic { ET(old) == t -> goto enter }
	:: atomic { ET(old) != t -> skip }
	fi;
#endif
	if
	:: atomic { at(t) == old -> at(t) = ENTRY(LIVE, t, r, w); in[r] = t; all_in_place }	/* Q2 */
	:: atomic { at(t) != old -> goto enter }
	fi;
waits:
	/* It is served (the granter's R4), or gives up: R3, Q3. */
	if
	:: atomic { wait[r] == w -> wait[r] = 0; in[r] = 0 }
		if
		:: atomic { at(t) == ENTRY(LIVE, t, r, w) -> at(t) = ENTRY(DEAD, t, r, w); all_in_place }
		:: atomic { at(t) != ENTRY(LIVE, t, r, w) -> skip }
		fi
	:: atomic { wait[r] == 0 -> skip }
	fi;
	goto again;
end:
	skip
}

proctype Granter()
{
	byte h, t, r, w, turns = TURNS;
	short e;
	byte first[2];

again:
	if
	:: atomic { turns == 0 -> goto end }
	:: atomic { turns > 0 -> turns--; t = tail; first[0] = in[0]; first[1] = in[1] }
	fi;
look:
	atomic {
		h = head;
		if
#ifdef OLD_TAIL
		:: h >= tail -> goto none
#else
		:: h >= t -> goto none
#endif
		:: else
		fi }
	e = at(h);
	if
	:: atomic { ET(e) == h && EK(e) == LIVE && wait[ER(e)] == EW(e) -> r = ER(e); w = EW(e); goto found }
#ifndef OLD_HOLE
	:: atomic { ET(e) > h -> goto look }	/* an old head */
#endif
	:: atomic { ET(e) == h && EK(e) == PASSED -> skip }
		if
		:: atomic { head == h -> head = h + 1; all_in_place }	/* Q6 */
		:: atomic { head != h -> skip }
		fi;
		goto look
	:: else
	fi;
	if
	:: atomic { at(h) == e -> at(h) = ENTRY(PASSED, h, 0, 0); all_in_place }	/* Q5 */
	:: atomic { at(h) != e -> skip }
	fi;
	goto look;
found:
	/* Who was in before this look began, under an older ticket, and still is, is not passed over. */
	if
	:: atomic { wait[r] == w ->	/* R4 */
		assert(!(first[1 - r] != 0 && first[1 - r] == in[1 - r] && first[1 - r] < h));
		wait[r] = 0; in[r] = 0 }
		if
		:: atomic { at(h) == e -> at(h) = ENTRY(PASSED, h, 0, 0); all_in_place }	/* Q5 */
		:: atomic { at(h) != e -> skip }
		fi
	:: atomic { wait[r] != w -> skip }
	fi;
	atomic { h = 0; t = 0; r = 0; w = 0; e = 0; goto again }
none:
	/* Whoever was in when the look began, and still is, would have been found. */
	atomic {
		assert(!(first[0] != 0 && first[0] == in[0] && first[0] < t));
		assert(!(first[1] != 0 && first[1] == in[1] && first[1] < t));
		h = 0; t = 0; goto again }
end:
	skip
}

init {
	atomic {
		run Waiter(0);
#if NW > 1
		run Waiter(1);
#endif
#if NG > 1
		run Granter();
#endif
		run Granter()
	}
}

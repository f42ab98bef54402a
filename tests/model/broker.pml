/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker of lease.pml, which includes this file: opening, settling, maintenance, cancel, and what it does about a
 * death. Does not own the words, the wake path and the grant (lease.pml).
 */

/* S3 or S4: slot n, which is the broker's, to the oldest waiter or to whoever comes. */
inline give(dirty)
{
	atomic { OLDEST }
	if
	:: atomic { r2 != NONE ->
		gwait[n] = w2;
		lw = NEXT(sw[n], GRANTED, dirty, GRANTEE(r2)); sw[n] = lw }
		complete(n)
	:: atomic { drop_oldest; sw[n] = NEXT(sw[n], IDLE, dirty, NONE) }
#ifndef BUG_C
		wake()
#endif
	fi
}

/* S2 and S1: the connection ends, another takes its place. */
#define replace(i) \
	sw[i] = WORD(BROKER, 0, NONE, SEQ(sw[i]) + 2); last[i] = 0; cancel[i] = 0

#if CRASH
/* S13 for what process p leased. */
inline revoke()
{
	n = 0;
	do
	:: atomic { n < NS && ST(sw[n]) == LEASED && RST(rw[WHO(sw[n])]) != FREE && RCL(rw[WHO(sw[n])]) == p ->
		sw[n] = NEXT(sw[n], BROKER, 0, NONE); holder[n] = 0;
		replace(n) }
		give(0);
		n++
	:: atomic { n < NS && !(ST(sw[n]) == LEASED && RST(rw[WHO(sw[n])]) != FREE && RCL(rw[WHO(sw[n])]) == p) -> n++ }
	:: atomic { n == NS -> n = 0; break }
	od
}

/* R7 for the rows of process p. */
inline free_rows()
{
	n = 0;
	do
	:: atomic { n < NR ->
		if
		:: RST(rw[n]) != FREE && RCL(rw[n]) == p ->
#ifndef BUG_D
			assert(!(ST(sw[0]) == LEASED && WHO(sw[0]) == n) && !(ST(sw[1]) == LEASED && WHO(sw[1]) == n));
#endif
			rw[n] = ROW(FREE, 0, RSEQ(rw[n]) + 1)
		:: else
		fi;
		n++ }
	:: atomic { n == NR -> n = 0; break }
	od
}

/* The order of the first draft took grants to the dead back before R7, not by R7. */
#ifdef OLD_DEATH_ORDER
#define may_stand(w) (RCL(rw[WHO(w)]) != p)
#else
#define may_stand(w) true
#endif

/* Every GRANTED word: completed (R4 and post), posted again, or taken back (S12) when stale. */
inline repair()
{
	n = 0;
	do
	:: atomic { n < NS ->
		lw = sw[n];
		if
		:: ST(lw) != GRANTED -> act = 0
		:: ST(lw) == GRANTED && rw[WHO(lw)] == ROW(WAITING, RCL(rw[WHO(lw)]), gwait[n]) && may_stand(lw) -> act = 1
		:: ST(lw) == GRANTED && rw[WHO(lw)] == ROW(RGRANTED, RCL(rw[WHO(lw)]), gwait[n]) && may_stand(lw) -> act = 2
		:: else -> act = 3
		fi;
		w2 = gwait[n]; r2 = WHO(lw); c2 = RCL(rw[r2 % NR]) }
		if
		:: atomic { act == 1 && rw[r2] == ROW(WAITING, c2, w2) -> rw[r2] = ROW(RGRANTED, c2, w2) }
			atomic { posted[r2] = 1; sem[r2]++ }
		:: atomic { act == 1 && rw[r2] != ROW(WAITING, c2, w2) -> act = 3 }
		:: atomic { act == 2 ->
#ifndef OLD_REPOST
			posted[r2] = 1; sem[r2]++
#endif
			}
		:: atomic { act == 0 || act == 3 -> skip }
		fi;
		if
		:: atomic { act == 3 && sw[n] == lw -> sw[n] = NEXT(lw, BROKER, 0, NONE); gwait[n] = 0; taken[r2] = 1; act = FL(lw) & D; w2 = 0; c2 = 0; lw = 0; r2 = NONE }
#ifdef OLD_DIRTY
			give(act)
#else
			give(D)
#endif
		:: atomic { !(act == 3 && sw[n] == lw) -> w2 = 0; c2 = 0; lw = 0; r2 = NONE }
		fi;
		atomic { act = 0; n++ }
	:: atomic { n == NS -> n = 0; break }
	od
}

/* F3 */
inline forget()
{
	n = 0;
	do
	:: atomic { n < NS ->
		if
		:: ST(sw[n]) == IDLE && WHO(sw[n]) == p -> sw[n] = WORD(IDLE, FL(sw[n]) | D, NONE, SEQ(sw[n]))
		:: else
		fi;
		n++ }
	:: atomic { n == NS -> n = 0; break }
	od
}

/* A death re-wakes: who may have been chosen and not posted, then for every idle slot. */
inline rewake()
{
#ifndef OLD_REPOST
	n = 0;
	do
	:: atomic { n < NR ->
		if
		:: RST(rw[n]) >= WAITING && posted[n] -> sem[n]++
		:: else
		fi;
		n++ }
	:: atomic { n == NR -> break }
	od;
#endif
	n = 0;
	do
	:: atomic { n < NS && is_idle(sw[n]) -> skip } wake(); n++
	:: atomic { n < NS && !is_idle(sw[n]) -> n++ }
	:: atomic { n == NS -> n = 0; break }
	od
}
#endif

proctype Broker()
{
	byte n, k, t, w2, c2, r2 = NONE, act, maint = MAINT, opens = OPENING & 1;
#if CANCELS > 0
	byte c, cancels = CANCELS;
#endif
	short lw, e;
#if CRASH
	byte p;
#endif

	do
	:: atomic { ST(sw[0]) == RETURNED && cancel[0] == 0 -> brk = 0; n = 0; goto settle }
	:: atomic { ST(sw[1]) == RETURNED && cancel[1] == 0 -> brk = 0; n = 1; goto settle }
	:: false ->
settle:
		/* S14, then a reset, or S2 and S1. */
		atomic {
			sw[n] = NEXT(sw[n], BROKER, 0, NONE);
			if
			:: last[n] = 0
			:: replace(n)
			fi }
		give(0);
		atomic { n = 0; brk = 1 }
#if OPENING & 1
	:: atomic { opens > 0 -> opens = 0 }
	:: atomic { opens > 0 -> opens = 0; brk = 0; n = 1; sw[n] = NEXT(sw[n], BROKER, 0, NONE) }	/* S1 */
		give(0);
		atomic { n = 0; brk = 1 }
#endif
#if CANCELS > 0
	/* A request of client c's shell for slot n: F1 if it is c's lease now; then it is on its way. */
	:: atomic { cancels > 0 -> cancels = 0 }
	:: atomic { cancels > 0 ->
		if
		:: n = 0
		:: n = 1
		fi;
		if
		:: c = 0
		:: c = 1
		fi;
#ifdef BUG_F
		if
		:: ST(sw[n]) == LEASED && RCL(rw[WHO(sw[n])]) == c && cancel[n] == 0 -> cancels--; brk = 0
		:: else -> goto no_cancel
		fi }
		atomic {
#endif
		if
#ifdef BUG_F
		:: ST(sw[n]) == LEASED && cancel[n] == 0 -> assert(RCL(rw[WHO(sw[n])]) == c);
#else
		:: ST(sw[n]) == LEASED && cancel[n] == 0 && RCL(rw[WHO(sw[n])]) == c -> cancels--;
#endif
			sw[n] = WORD(LEASED, FL(sw[n]) | C, WHO(sw[n]), SEQ(sw[n]));
			cancel[n] = c + 1
		:: else
		fi;
no_cancel:
		n = 0; c = 0; brk = 1 }
	/* The server has closed the cancel's connection; then the flag goes, if it is the same lease. */
	:: atomic { cancel[0] != 0 -> cancel[0] = 0; n = 0; goto cancelled }
	:: atomic { cancel[1] != 0 -> cancel[1] = 0; n = 1; goto cancelled }
	:: false ->
cancelled:
		atomic {
			if
			:: ST(sw[n]) == LEASED && (FL(sw[n]) & C) ->
				sw[n] = WORD(LEASED, FL(sw[n]) & (D | R), WHO(sw[n]), SEQ(sw[n]))
			:: else
			fi;
			n = 0 }
#endif
#if MAINT > 0
	:: atomic { maint > 0 -> maint = 0 }
	:: atomic { maint > 0 -> maint--; brk = 0;
		if
		:: n = 0
		:: n = 1
		fi;
		if
		:: ST(sw[n]) == IDLE ->	/* S5 */
			act = 1 + (FL(sw[n]) & D); sw[n] = NEXT(sw[n], BROKER, 0, NONE)
		:: ST(sw[n]) == GRANTED ->	/* S12: wanted back */
			taken[WHO(sw[n])] = 1;
			sw[n] = NEXT(sw[n], BROKER, 0, NONE); gwait[n] = 0; replace(n); act = 1
		:: ST(sw[n]) == LEASED ->	/* F2 */
			sw[n] = WORD(LEASED, FL(sw[n]) | R, WHO(sw[n]), SEQ(sw[n])); act = 0
		:: else -> act = 0
		fi }
		if
		:: atomic { act == 1 -> act = 0 } give(0)
		:: atomic { act == 2 -> act = 0 } give(D)
		:: atomic { act == 2 -> act = 0; last[n] = 0 } give(0)
		:: atomic { act == 0 -> skip }
		fi;
		atomic { n = 0; brk = 1 }
#endif
#if CRASH
	:: atomic { dead[0] && !handled[0] -> p = 0; brk = 0; goto death }
	:: atomic { dead[1] && !handled[1] -> p = 1; brk = 0; goto death }
	:: false ->
death:
#ifdef BUG_D
		free_rows();
		revoke();
		repair();
#else
#ifdef OLD_DEATH_ORDER
		revoke();
		repair();
		free_rows();
#else
		revoke();
		free_rows();
		repair();
#endif
#endif
#ifndef OLD_FORGET
		forget();
#endif
		rewake();
		atomic { handled[p] = 1; p = 0; brk = 1 }
#endif
	od
}


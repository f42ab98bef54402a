/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker of lease.pml: opening, settling, maintenance, cancel, drain, and what it does about a death and about a
 * process that is detached. Does not own the words, the wake path and the granter's steps (words.pml).
 */

/* S3 or S4: slot n, which is the broker's and clean, to the oldest waiter or to whoever comes; S2 in a drain. */
inline give()
{
	atomic {
		assert(last[n] == 0 && ans[n] == 0);
		if
		:: drain -> skip
		:: else -> OLDEST
		fi }
	if
#if DRAIN
	:: atomic { drain -> drop_oldest; sw[n] = NEXT(sw[n], EMPTY, 0, NONE) }
#endif
	:: atomic { !drain && r2 != NONE ->
		gwait[n] = w2;
#if DETACH
		} atomic {
		if
		:: gwait[n] != w2 -> taken[r2] = 1
		:: else
		fi;
#endif
		lw = NEXT(sw[n], GRANTED, 0, GRANTEE(r2)); sw[n] = lw }
		complete(n, lw)
	:: atomic { !drain && r2 == NONE -> drop_oldest; sw[n] = NEXT(sw[n], IDLE, 0, NONE) }
#ifndef BUG_C
		wake()
#endif
	fi
}

/* S2 and S1: the connection ends for all who have its descriptor, another takes its place. */
#define replace(i) \
	sw[i] = WORD(BROKER, 0, NONE, SEQ(sw[i]) + 2); last[i] = 0; ans[i] = 0; cancel[i] = 0; holder[i] = 0; gwait[i] = 0 gone_over(i)

/* What the word w said is in the session, the broker reads or resets: D3; or D1 and D3. */
#define refresh(i, w) \
	assert(truth(i, w)); \
	last[i] = 0; ans[i] = 0

#if MAY_REVOKE
#define leased_by(i, x) (ST(sw[i]) == LEASED && RST(rw[WHO(sw[i])]) != FREE && RCL(rw[WHO(sw[i])]) == x)

/* S13 for what process p leased. */
inline revoke()
{
	n = 0;
	do
	:: atomic { n < NS && leased_by(n, p) -> sw[n] = NEXT(sw[n], BROKER, 0, NONE); replace(n) }
		give();
		n++
	:: atomic { n < NS && !leased_by(n, p) -> n++ }
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

#define stands_for(row, state, wt) (RST(rw[row]) == state && RSEQ(rw[row]) == wt)
#define is_stale(i) (ST(sw[i]) == GRANTED && !stands_for(WHO(sw[i]), WAITING, gwait[i]) && !stands_for(WHO(sw[i]), RGRANTED, gwait[i]))

/* Every GRANTED word: completed (R4, unless somebody was faster, and post), or taken back (S11) when stale. */
inline repair()
{
	n = 0;
	do
	:: atomic { n < NS && ST(sw[n]) == GRANTED -> lw = sw[n]; w2 = gwait[n]; r2 = WHO(lw) }
		atomic {
			if
#ifdef OLD_DEATH_ORDER	/* the first draft took grants to the dead back before R7, not by R7 */
			:: RCL(rw[r2]) == p -> act = 1
#endif
			:: stands_for(r2, WAITING, w2) -> rw[r2] = ROW(RGRANTED, RCL(rw[r2]), w2)
			:: else
			fi }
		if
		:: atomic { act == 0 && stands_for(r2, RGRANTED, w2) ->
#ifndef OLD_REPOST
			posted[r2] = 1; sem[r2]++;
#endif
			w2 = 0; lw = 0; r2 = NONE }
		:: atomic { (act == 1 || !stands_for(r2, RGRANTED, w2)) && sw[n] == lw -> S11(n, lw); act = 0; w2 = 0; lw = 0; r2 = NONE }
			wake()
		:: atomic { (act == 1 || !stands_for(r2, RGRANTED, w2)) && sw[n] != lw -> act = 0; w2 = 0; lw = 0; r2 = NONE }
		fi;
		n++
	:: atomic { n < NS && ST(sw[n]) != GRANTED -> n++ }
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
		:: ST(sw[n]) == IDLE && WHO(sw[n]) == p -> sw[n] = WORD(IDLE, FL(sw[n]), NONE, SEQ(sw[n]))
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
#ifdef OLD_REPOST_GRANTED
		:: RST(rw[n]) >= WAITING && posted[n] -> sem[n]++
#else
		:: RST(rw[n]) == RGRANTED || (RST(rw[n]) == WAITING && posted[n]) -> posted[n] = 1; sem[n]++
#endif
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

#define is_wanted(i) (ST(sw[i]) == EMPTY && (RST(rw[0]) == WAITING || RST(rw[1]) == WAITING || RST(rw[2]) == WAITING))
#if DRAIN
#define drains(i) (ST(sw[i]) == IDLE || ST(sw[i]) == GRANTED || (ST(sw[i]) == LEASED && !(FL(sw[i]) & R)))

/* S5 or S12, then S2; F2. */
inline take_all()
{
	n = 0;
	do
	:: atomic { n < NS ->
		if
		:: ST(sw[n]) == IDLE || ST(sw[n]) == GRANTED ->
			if
			:: ST(sw[n]) == GRANTED -> taken[WHO(sw[n])] = 1
			:: else
			fi;
			replace(n); sw[n] = NEXT(sw[n], EMPTY, 0, NONE)
		:: ST(sw[n]) == LEASED -> sw[n] = WORD(LEASED, FL(sw[n]) | R, WHO(sw[n]), SEQ(sw[n]))
		:: else
		fi;
		n++ }
	:: atomic { n == NS -> n = 0; break }
	od
}
#endif

#ifdef BUG_FENCE	/* once */
#define to_fence(x) (detached[x] && !dead[x] && !fenced[x])
#else
#define to_fence(x) (detached[x] && !dead[x] && (!fenced[x] || leased_by(0, x) || leased_by(1, x)))
#endif

inline broker_life()
{
	do
	:: atomic { ST(sw[0]) == RETURNED && cancel[0] == 0 -> brk = 0; n = 0; goto settle }
	:: atomic { ST(sw[1]) == RETURNED && cancel[1] == 0 -> brk = 0; n = 1; goto settle }
	:: false ->
settle:
		/* S14; then D3 or a reset, if the session may be sound; or S2 and S1. No answer is forgotten. */
		atomic {
			assert(UNPOOLED || (FL(sw[n]) & (O | R)) || ans[n] != 1);
			if
			:: !UNPOOLED && !(FL(sw[n]) & R) && (FL(sw[n]) & O) ->
				assert(ans[n] == 1 && last[n] == 0); ans[n] = 0; sw[n] = NEXT(sw[n], BROKER, 0, NONE)
			:: !UNPOOLED && !is_void(n) && (FL(sw[n]) & (O | C | R)) == C ->
				assert(ans[n] == 0); last[n] = 0; sw[n] = NEXT(sw[n], BROKER, 0, NONE)
			:: true -> sw[n] = NEXT(sw[n], BROKER, 0, NONE); replace(n)
			fi }
		give();
		atomic { n = 0; brk = 1 }
#if OPENING & 1
	:: atomic { opens > 0 -> opens = 0 }
	:: atomic { opens > 0 -> opens = 0; brk = 0; n = 1; sw[n] = NEXT(sw[n], BROKER, 0, NONE) }	/* S1 */
		give();
		atomic { n = 0; brk = 1 }
#endif
#if CANCELS > 0
	/*
	 * A request of client c's shell for slot n, made whenever: the word is seen to be c's lease; F1; looked at again; then
	 * it is on its way.
	 */
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
		lw = sw[n];
		if
		:: ST(lw) == LEASED && RCL(rw[WHO(lw)]) == c && cancel[n] == 0 && !renewing(n) -> cancels--; brk = 0
		:: else -> goto no_cancel
		fi }
		atomic {
			if
#ifdef BUG_F
			:: ST(sw[n]) == LEASED -> lw = sw[n]
#else
			:: sw[n] == lw
#endif
			:: else -> goto no_cancel
			fi;
			lw = WORD(LEASED, FL(lw) | C, WHO(lw), SEQ(lw)); sw[n] = lw }
		atomic {
			if
#ifdef BUG_F
			:: ST(sw[n]) == LEASED
#else
			:: ST(sw[n]) == LEASED && RCL(rw[WHO(sw[n])]) == c
#endif
				-> assert(RCL(rw[WHO(sw[n])]) == c && holder[n] == WHO(sw[n]) + 1); cancel[n] = c + 1
			:: ST(sw[n]) == LEASED && RCL(rw[WHO(sw[n])]) != c -> sw[n] = WORD(LEASED, FL(sw[n]) & ~C, WHO(sw[n]), SEQ(sw[n]))
			:: else
			fi;
no_cancel:
			n = 0; c = 0; lw = 0; brk = 1 }
	/* The server has closed the cancel's connection; then the flag goes, if it is the same lease. */
	:: atomic { cancel[0] != 0 -> cancel[0] = 0; n = 0; goto cancelled }
	:: atomic { cancel[1] != 0 -> cancel[1] = 0; n = 1; goto cancelled }
	:: false ->
cancelled:
		atomic {
			if
			:: ST(sw[n]) == LEASED && (FL(sw[n]) & C) -> sw[n] = WORD(LEASED, FL(sw[n]) & ~C, WHO(sw[n]), SEQ(sw[n]))
			:: else
			fi;
			n = 0 }
#endif
#if RENEW
	/* N1, N2: the lessee can only keep the slot or return it; the old connection goes, its cancels name nobody. */
	:: atomic { ren[0] == 1 || ren[1] == 1 ->
		if
		:: ren[0] == 1 -> n = 0
		:: ren[1] == 1 -> n = 1
		fi;
		assert(ST(sw[n]) == LEASED);
		sw[n] = WORD(LEASED, (FL(sw[n]) & ~C) | R, WHO(sw[n]), SEQ(sw[n]));
		last[n] = 0; ans[n] = 0; cancel[n] = 0; ren[n] = 2; n = 0 }
	/* N3, N4, N5: F4; or the slot is void. (N6 and N7 are the lessee's next step.) */
	:: atomic { ren[0] == 2 || ren[1] == 2 ->
		if
		:: ren[0] == 2 -> n = 0
		:: ren[1] == 2 -> n = 1
		fi;
		assert(ST(sw[n]) == LEASED);
		if
		:: sw[n] = WORD(LEASED, (drain -> R : 0), WHO(sw[n]), SEQ(sw[n]))
		:: hollow[n] = 1
		fi;
		ren[n] = 0; n = 0 }
#endif
#if MAINT > 0
	:: atomic { maint > 0 -> maint = 0 }
	:: atomic { maint > 0 -> maint--; brk = 0;
		if
		:: n = 0
		:: n = 1
		fi;
		if
		:: ST(sw[n]) == IDLE ->	/* S5: a reset, an answer, a keepalive; or the connection's end */
			refresh(n, sw[n]); act = 1;
			if
			:: sw[n] = NEXT(sw[n], BROKER, 0, NONE)
			:: replace(n)
			fi
		:: ST(sw[n]) == GRANTED ->	/* S12: wanted back */
			taken[WHO(sw[n])] = 1; replace(n); act = 1
		:: ST(sw[n]) == LEASED ->	/* F2 */
			sw[n] = WORD(LEASED, FL(sw[n]) | R, WHO(sw[n]), SEQ(sw[n]))
		:: else
		fi }
		if
		:: atomic { act == 1 -> act = 0 } give()
		:: atomic { act == 0 -> skip }
		fi;
		atomic { n = 0; brk = 1 }
#endif
#if DRAIN
	:: atomic { drainings > 0 -> drainings = 0 }
	:: atomic { drainings > 0 -> drainings = 0; drain = 1; brk = 0 }
		take_all();
		do	/* posts every waiter */
		:: atomic { n < NR ->
			if
#ifndef BUG_DRAIN
			:: RST(rw[n]) == WAITING -> posted[n] = 1; sem[n]++
#endif
			:: else
			fi;
			n++ }
		:: atomic { n == NR -> n = 0; brk = 1; break }
		od
	:: atomic { drain && (drains(0) || drains(1)) -> brk = 0 }	/* the tick */
		take_all();
		atomic { brk = 1 }
#if PAUSE
	:: atomic { drain && resumes > 0 -> resumes = 0 }
	:: atomic { drain && resumes > 0 -> resumes = 0; drain = 0 }
#ifndef BUG_RESUME
	/* What the pause has closed is opened for who waits. */
	:: atomic { !drain && is_wanted(0) -> brk = 0; n = 0; sw[n] = NEXT(sw[n], BROKER, 0, NONE) }	/* S1 */
		give();
		atomic { n = 0; brk = 1 }
	:: atomic { !drain && is_wanted(1) -> brk = 0; n = 1; sw[n] = NEXT(sw[n], BROKER, 0, NONE) }
		give();
		atomic { n = 0; brk = 1 }
#endif
#endif
#endif
#if DETACH
	:: atomic { to_fence(0) -> p = 0; brk = 0; goto fence }
	:: atomic { to_fence(1) -> p = 1; brk = 0; goto fence }
#ifndef BUG_TICK
	:: atomic { is_stale(0) || is_stale(1) -> brk = 0; goto fenced_before }
#endif
	:: false ->
fence:
		revoke();	/* at the end of the connection and at each tick */
fenced_before:
		repair();
		rewake();
		atomic { fenced[p] = 1; p = 0; brk = 1 }
#endif
#if MAY_REVOKE && (CRASH || GOODBYE)
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

proctype Broker()
{
	byte n, k, t, w2, c2, r2 = NONE, act, maint = MAINT, opens = OPENING & 1;
#if CANCELS > 0
	byte c, cancels = CANCELS;
#endif
#if DRAIN
	byte drainings = 1;
#if PAUSE
	byte resumes = 1;
#endif
#endif
	short lw, e;
#if MAY_REVOKE
	byte p;
#endif
#if DETACH
	bit fenced[2];
#endif

#if BCRASH
	{
		broker_life()
	} unless { bdead };
	d_step { n = 0; k = 0; t = 0; w2 = 0; c2 = 0; r2 = NONE; act = 0; lw = 0; e = 0 }
#else
	broker_life()
#endif
}

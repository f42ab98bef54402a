/* SPDX-License-Identifier: PostgreSQL */
/*
 * The lease protocol (doc/protocol.md): two slots, three lessee rows in two processes, and the broker; a crash of a
 * process and one of the broker, at any step.
 *
 * Owns: a lessee's life. words.pml has what it shares with the broker (broker.pml); world.pml the crashes and what must
 * hold in the end. Do not own: the queue's behaviour when the ring wraps under stalled helpers (queue.pml), the broker's
 * sleep (watch.pml), time, and the bytes of a session.
 *
 * One atomic step is one shared access; README.md says where two are joined and why nothing is lost by it.
 */

#include "words.pml"

#define SW sw[(i + r) % NS]
#define candidate(claims) ((claims && is_idle(SW)) || granted_to_me(SW, (i + r) % NS))

/* Nobody answers any more: neither the broker nor, for one that is detached, the control connection. */
#ifdef BUG_CUTOFF
#define cut_off false
#else
#define cut_off (bdead || detached[PROC(r)])
#endif

/* Whose the traces are, as the word tells: this client's own. */
#define mine(w) ((ST(w) == IDLE && WHO(w) == me) || SES(w) == OWN)

/* At S6 and S7, w the word before: exclusive, the session as the word says, no cancel on its way. */
#define take_checks(i, w) \
	assert(holder[i] == 0 && cancel[i] == 0 && SEQ(w) < 62); \
	assert(truth(i, w)); \
	assert(!mine(w) || last[i] == 0 || last[i] == inc); \
	holder[i] = r + 1

/* At S8, S9, S10: the lessee's lease is what its word says. */
#define own_checks(i) assert(holder[i] == r + 1 && ST(sw[i]) == LEASED && WHO(sw[i]) == r && SEQ(sw[i]) == tok)

/* The lease has not been revoked: what is sent arrives, what is read was sent. */
#define stands (holder[s] == r + 1 && SEQ(sw[s]) == tok)
/* The session is used. */
#define USE \
	assert(!stands || ((last[s] == 0 || last[s] == inc) && ans[s] == 0)); \
	if \
	:: stands -> last[s] = inc \
	:: else \
	fi
/* D1, D3 (with D4). D2 is S8 to S10 with what `ses` says. What was sent before D1's answer has been read would be answered by it. */
#define D1 \
	if \
	:: stands -> assert(ans[s] == 0); ans[s] = 1; last[s] = 0 \
	:: else \
	fi
#define D3 \
	if \
	:: stands -> assert(ans[s] == 1 && last[s] == 0); ans[s] = 0 \
	:: else \
	fi

/* The word moved: only flags came, so it looks again; or the lease was revoked. */
#define moved(again) \
	if \
	:: stands -> lw = sw[s]; goto again \
	:: else -> assert(detached[PROC(r)]); lw = 0; goto released \
	fi

#if ORDER
#define overtakes(w) \
	d_step { \
		x = 0; \
		do \
		:: x < NR -> \
			if \
			:: x != r && place[x] != 0 && RST(rw[x]) == WAITING && (ST(w) == IDLE || place[x] < place[r]) -> \
				over[x]++; assert(over[x] <= ORDER) \
			:: else \
			fi; \
			x++ \
		:: x == NR -> break \
		od; \
		x = 0 }
#else
#define overtakes(w) skip
#endif

/*
 * Looks at all slot words, from the row's own first one on, and takes what it finds: S6 (if `claims`) or S7. Then
 * s is the slot, tok the lease sequence, lw the word, had and own what is in the session, and it goes on at `got`; else
 * at `none`. Without STEPWISE the session is made usable (D1, D3) in the same step: nobody else sees the socket.
 */
#define rescan(claims, got, none) \
	do \
	:: atomic { i < NS - 1 && !candidate(claims) -> i++ } \
	:: atomic { i == NS - 1 && !candidate(claims) -> i = 0; goto none } \
	:: atomic { candidate(claims) -> lw = SW } \
		if \
		:: atomic { SW == lw -> \
			s = (i + r) % NS; i = 0; \
			take_checks(s, lw); \
			overtakes(lw); \
			had = session_of(lw); own = mine(lw); \
			if \
			:: ST(lw) == IDLE && WHO(lw) == me -> lw = NEXT(lw, LEASED, FL(lw) & ~D, r) \
			:: else -> lw = NEXT(lw, LEASED, FL(lw), r) \
			fi; \
			sw[s] = lw; gwait[s] = 0; tok = SEQ(lw); \
			if \
			:: !STEPWISE && had != 0 && !own -> last[s] = 0; ans[s] = 0 \
			:: else \
			fi; \
			if \
			:: !STEPWISE -> had = 0; own = 0 \
			:: else \
			fi; \
			goto got } \
		:: atomic { SW != lw && i < NS - 1 -> lw = 0; i++ } \
		:: atomic { SW != lw && i == NS - 1 -> lw = 0; i = 0; goto none } \
		fi \
	od

/* Whether the oldest waiter is due a grant is a free choice; under ORDER it always is. */
#ifdef BUG_ORDER
#define may_idle true
#else
#define may_idle (r2 == NONE || !ORDER)
#endif

/* R2, then Q4 or Q1; the R2 is not to be seen before the entry is LIVE. */
#define enlist \
	assert(RST(rw[r]) == OWNED); \
	mywait = RSEQ(rw[r]) + 1; assert(mywait < 62); \
	rw[r] = ROW(WAITING, me, mywait); taken[r] = 0; \
	if \
	:: timeouts > 0 && !hasty -> timeouts--; hasty = 1 \
	:: true \
	fi

/* Q1 and Q2 */
#define ENTER \
	assert(tail - head < RING); assert(tail < 31); \
	myt = tail; q[myt % RING] = ENTRY(LIVE, myt, r, mywait); tail++; \
	PLACE
#if ORDER
#define PLACE place[r] = myt; over[r] = 0
#else
#define PLACE skip
#endif

/* S9 of slot n, gw its LEASED word, to the oldest waiter, to hold what ses says. */
/* D1 in its wrong place, after S9. */
#define SENT_LATER if :: ses == O -> ans[s] = 1; last[s] = 0 :: else fi
#define hand_over(n, gw) \
	gw = NEXT(gw, GRANTED, (ses == D && c2 == me && !anon -> OWN : ses), GRANTEE(r2)); \
	sw[n] = gw; holder[n] = 0; \
	if \
	:: gwait[n] != w2 -> taken[r2] = 1 \
	:: else \
	fi

/* A thread; its row is r, its client index me, its incarnation inc. */
inline lessee_life()
{
#if HELD
	if
	:: r == HELD - 1 && inc == PROC(r) + 1 -> left--; s = 0; lw = WORD(LEASED, 0, HELD - 1, 1); tok = 1; goto usable
	:: else
	fi;
#else
	skip;
#endif
next:
	if
	:: atomic { left > 0 && (!drain || PAUSE) -> left-- }
	:: atomic { left = 0; goto leaves }
	fi;
	rescan(1, usable, again);
again:
#ifdef BUG_E
	atomic { enlist; posted[r] = 0 }
	rescan(1, claimed, tardy);
tardy:
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
#if KEEPS
	/*
	 * Takes the watch, if nobody has it, and slots are being kept (or does not); two may at the same time. Gives it up when none
	 * is any more.
	 */
	atomic { posted[r] = 0; ww = watcher }
	if
	:: ww = 0
	:: atomic { !is_watch(ww) -> ww = 0 }
		atomic { watcher = WATCH(r, mywait) }
	:: atomic { watcher == WATCH(r, mywait) -> watcher = 0; ww = 0 }
	fi;
#endif
	atomic {
#if !KEEPS
		posted[r] = 0;
#endif
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
	if
	:: atomic { (drain && !PAUSE) || gone -> goto expire }
	:: atomic { (!drain || PAUSE) && !gone -> st[r] = ASLEEP }
	fi;
sleep:
	if
	:: atomic { sem[r] > 0 -> sem[r]--; st[r] = RUNS; goto look }
	:: atomic { hasty -> st[r] = RUNS; goto expire }
#if KEEPS
	/* By the clock; where no slot is idle it would change nothing. */
	:: atomic { watcher == WATCH(r, mywait) && (is_idle(sw[0]) || is_idle(sw[1])) -> st[r] = RUNS; goto look }
#endif
#if BCRASH || DETACH
	:: atomic { cut_off && !gone -> st[r] = RUNS; gone = 1; goto look }	/* seen at the end of a slice */
#endif
	fi;
expire:
	/* R3; if that fails there is a grant: S7, then R5. */
	atomic {
		if
		:: RST(rw[r]) == WAITING -> rw[r] = ROW(OWNED, me, RSEQ(rw[r]) + 1)
		:: else
		fi }
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
	/* A second grant to the same wait is taken too (S7) and given on, unused: S9, S8 to nobody's, or S10. */
	if
	:: atomic { g -> g = 0 }
		do
		:: atomic { i < NS - 1 && !candidate(0) -> i++ }
		:: atomic { i == NS - 1 && !candidate(0) -> i = 0; break }
		:: atomic { candidate(0) -> l2 = SW }
			if
			:: atomic { SW == l2 ->
				i = (i + r) % NS;
				take_checks(i, l2);
				l2 = NEXT(l2, LEASED, FL(l2), r); sw[i] = l2; gwait[i] = 0;
				ses = session_of(l2); anon = 1 }
give_on:
				if
				:: atomic { FL(l2) & (C | R) -> skip }
					if
					:: atomic { sw[i] == l2 -> sw[i] = NEXT(l2, RETURNED, (FL(l2) & C) | (ses & O), NONE); holder[i] = 0; l2 = 0 }
					:: atomic { sw[i] != l2 && holder[i] == r + 1 -> l2 = sw[i]; goto give_on }
					:: atomic { sw[i] != l2 && holder[i] != r + 1 -> l2 = 0 }
					fi
				:: atomic { !(FL(l2) & (C | R)) -> OLDEST }
					if
					:: atomic { r2 != NONE && sw[i] == l2 -> gwait[i] = w2; hand_over(i, l2) }
						complete(i, l2)
					:: atomic { may_idle && sw[i] == l2 ->
						sw[i] = NEXT(l2, IDLE, ses, NONE); holder[i] = 0; l2 = 0; drop_oldest }
						wake()
					:: atomic { sw[i] != l2 && holder[i] == r + 1 -> drop_oldest; l2 = sw[i]; goto give_on }
					:: atomic { sw[i] != l2 && holder[i] != r + 1 -> drop_oldest; l2 = 0 }
					fi
				fi;
				atomic { i = 0; ses = 0; anon = 0; break }
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
	:: atomic { s == NONE && expired -> mywait = 0; g = 0; expired = 0; hasty = 0; gone = 0; goto next }
	:: atomic { s != NONE -> mywait = 0; g = 0; hasty = 0; gone = 0; expired = 0 }
	fi;
usable:
#if STEPWISE
	if
	:: atomic { unused > 0 -> unused--; ses = had; anon = 1; had = 0; own = 0; goto give }
	:: atomic { had == 0 || own -> had = 0; own = 0; goto hold }
	:: atomic { had == D && !own -> D1 }
	:: atomic { had == O && !own -> skip }
	fi;
	if
	:: atomic { D3; had = 0; goto hold }
	:: atomic { late > 0 && stands -> late--; left++; ses = O; had = 0; goto give_back }	/* nothing came */
	:: atomic { late > 0 && stands -> late--; left++; had = 0;	/* half of it: in doubt */
		assert(ans[s] == 1); ans[s] = 2;
#ifdef BUG_PART
		ses = O;
#else
		doubt = 1;
#endif
		goto give_back }
	fi;
#endif
hold:
	/* What is left in the session: the lease's traces, nothing, or a reset that was sent ahead; or it is in doubt. */
	atomic {
		if
		:: broken > 0 -> broken--; USE; doubt = 1; goto give_back
#if HOLDERS > 0
		:: holders > 0 -> holders--; USE; st[r] = HOLDS; goto done
#endif
#if RENEW
		:: renew > 0 && stands -> renew--; USE; ren[s] = 1; goto renews
#endif
		:: clean > 0 && last[s] == 0 -> clean--
		:: ahead > 0 -> ahead--; USE; ses = O;
#ifndef BUG_AHEAD
			D1
#endif
		:: true -> USE; ses = D
		fi;
		if
		:: UNPOOLED -> goto give_back
		:: !UNPOOLED && !(FL(lw) & (C | R)) -> OLDEST; goto swap
		:: else
		fi }
#if RENEW
	if
	:: false ->
renews:
		if
		:: atomic { stands && ren[s] == 0 && !hollow[s] -> lw = sw[s]; goto hold }	/* N7 */
		:: atomic { stands && ren[s] == 0 && hollow[s] -> lw = sw[s]; goto give_back }
		:: atomic { !stands -> lw = 0; assert(detached[PROC(r)]); goto released }
		fi
	:: else
	fi;
#endif
give:
	if
	:: atomic { (FL(lw) & (C | R)) -> goto give_back }
	:: atomic { !(FL(lw) & (C | R)) -> OLDEST }
	fi;
swap:
	if
#if DETACH
	:: atomic { r2 != NONE ->	/* it may be late, and misname another's grant */
		if
		:: !stands && ST(sw[s]) == GRANTED && gwait[s] != w2 -> taken[WHO(sw[s])] = 1
		:: else
		fi;
		gwait[s] = w2 }
		if
		:: atomic { sw[s] == lw -> own_checks(s); hand_over(s, lw); ses = 0; anon = 0 }
			complete(s, lw)
		:: atomic { sw[s] != lw -> drop_oldest; moved(give) }
		fi
#else
	:: atomic { r2 != NONE && sw[s] == lw ->	/* it is due: S9 */
		own_checks(s);
		gwait[s] = w2;
		hand_over(s, lw);
#ifdef BUG_AHEAD
		} atomic { SENT_LATER;
#endif
		ses = 0; anon = 0 }
		complete(s, lw)
#endif
	:: atomic { may_idle && sw[s] == lw ->	/* nobody is, or nobody waits: S8 */
		own_checks(s);
#ifdef BUG_AHEAD
		SENT_LATER;
#endif
		sw[s] = NEXT(lw, IDLE, ses, (ses == D && !anon -> me : NONE)); gwait[s] = 0;
		lw = 0; ses = 0; anon = 0; holder[s] = 0; drop_oldest }
		wake()
#if KEEPS
	:: atomic { keeps > 0 && r2 != NONE && sw[s] == lw ->	/* its turn is not over: S8, and nobody is woken who watches */
		keeps--;
		own_checks(s);
#ifdef BUG_WATCH
		} atomic { ww = watcher } atomic { ww = (is_watch(ww) -> ww : 0) } atomic { sw[s] == lw ->
#endif
		sw[s] = NEXT(lw, IDLE, ses, (ses == D && !anon -> me : NONE)); gwait[s] = 0;
		lw = 0; ses = 0; anon = 0; holder[s] = 0; drop_oldest }
#ifndef BUG_WATCH
		atomic { ww = watcher }
#endif
		if
#if defined(BUG_KEEP)
		:: atomic { ww = 0 }
#elif defined(BUG_WATCH)
		:: atomic { ww != 0 -> ww = 0 }
		:: atomic { ww == 0 -> skip }
			wake()
#else
		:: atomic { is_watch(ww) -> ww = 0 }
		:: atomic { !is_watch(ww) -> ww = 0 }
			wake()
#endif
		fi
#endif
	:: atomic { sw[s] != lw -> drop_oldest; moved(give) }
	fi;
	goto released;
give_back:
	if
	:: atomic { sw[s] == lw -> own_checks(s);
#ifdef BUG_S10
		ses = 0;
#endif
#ifdef OLD_DOUBT
		doubt = 0;
#endif
		sw[s] = NEXT(lw, RETURNED, (FL(lw) & C) | (ses & O) | (doubt -> R : 0), NONE);
		lw = 0; ses = 0; anon = 0; doubt = 0; holder[s] = 0; gwait[s] = 0 }
	:: atomic { sw[s] != lw -> moved(give_back) }
	fi;
released:
#ifdef DOUBLE
	/* The same token once more: nothing may happen. */
	if
#ifdef BUG_B
	:: atomic { ST(sw[s]) == LEASED -> sw[s] = NEXT(sw[s], IDLE, D, me) }
#else
	:: atomic { ST(sw[s]) == LEASED && WHO(sw[s]) == r && SEQ(sw[s]) == tok -> assert(false) }
#endif
		wake()
	:: atomic { skip }
	fi;
#endif
	atomic { s = NONE; tok = 0; ses = 0; anon = 0; doubt = 0; goto next }
leaves:
	atomic {
		st[r] = DONE;
#if GOODBYE
		/* R6 of a process that detaches: its row is free, its index soon. */
		if
		:: r == 2 && inc == 2 -> rw[r] = ROW(FREE, 0, RSEQ(rw[r]) + 1); dead[1] = 1
		:: else
		fi
#endif
		}
done:
	skip
}

proctype Lessee(byte r)
{
	byte me = PROC(r), inc = PROC(r) + 1, left = (r == 0 -> LAPS0 : (r == 2 -> LAPS2 : 1));
	byte mywait, myt, i, k, t, w2, c2, s = NONE, tok, r2 = NONE, had, ses;
#if ORDER
	byte x;
#endif
	short lw, l2, e;
	bit g, hasty, expired, gone, own, anon, doubt;
#if KEEPS
	short ww;
#define forget_watch ; ww = 0
#else
#define forget_watch
#endif
#if CRASH || GOODBYE
	bit heir;

born:
	{
		lessee_life();
		false
	} unless { dead[PROC(r)] && !heir };
	d_step {
		st[r] = GONE; left = 0; mywait = 0; i = 0; k = 0; t = 0; w2 = 0; c2 = 0; s = NONE; tok = 0; r2 = NONE; lw = 0;
		l2 = 0; e = 0; g = 0; hasty = 0; expired = 0; gone = 0; myt = 0; had = 0; ses = 0; own = 0; anon = 0; doubt = 0 forget_watch; heir = 1
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
#include "world.pml"

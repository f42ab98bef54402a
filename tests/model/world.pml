/* SPDX-License-Identifier: PostgreSQL */
/*
 * The world around lease.pml: how it begins, what may go wrong, and what must hold when nothing can move any more.
 */

#if CRASH
/* SIGKILL at any step; everything a process has is gone at once. */
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

#if BCRASH
proctype BrokerCrash()
{
	if
	:: bdead = 1
	:: true
	fi
}
#endif

#if DETACH
/* A control connection ends; its process does not know. */
proctype Detach()
{
	if
#if DETACH & 1
	:: detached[0] = 1
#endif
#if DETACH & 2
	:: detached[1] = 1
#endif
	:: true
	fi
}
#endif

/* A slot that nobody will touch again: idle and telling the truth, held, or without a connection as it must be. */
#define settled(i, x) \
	((is_idle(sw[i]) && truth(i, sw[i]) && !drain) || \
	(ST(sw[i]) == EMPTY && (OPENING || drain || PAUSE)) || \
	(ST(sw[i]) == LEASED && st[x % NR] == HOLDS && !(FL(sw[i]) & C) && holder[i] == x + 1 && !detached[PROC(x)] && \
		(!drain || (FL(sw[i]) & R))))

proctype Quiet()
{
	byte i, x;

	atomic {
		timeout ->
		assert(brk || bdead);
		do
		:: i < NS ->
			x = WHO(sw[i]);
			assert(bdead || settled(i, x));
			i++
		:: i == NS -> break
		od;
		i = 0;
		do
		:: i < NR ->
			assert(st[i] != RUNS);
			assert(st[i] != ASLEEP || (RST(rw[i]) == WAITING && !is_idle(sw[0]) && !is_idle(sw[1]) &&
				!bdead && !detached[PROC(i)] && (!drain || PAUSE)));
			assert(st[i] != ASLEEP || !PAUSE || drain || (ST(sw[0]) != EMPTY && ST(sw[1]) != EMPTY));
			assert(st[i] != DONE || RST(rw[i]) == OWNED);
			assert(st[i] != GONE || RST(rw[i]) == FREE || bdead);
			i++
		:: i == NR -> break
		od
	}
}

init {
	atomic {
#if HELD
		sw[0] = WORD(LEASED, 0, HELD - 1, 1); holder[0] = HELD;
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
#if BCRASH
		run BrokerCrash();
#endif
#if DETACH
		run Detach();
#endif
		run Quiet()
	}
}

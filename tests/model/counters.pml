/* SPDX-License-Identifier: PostgreSQL */
/*
 * A slot's counters (src/shm/stats.h): plain loads and stores by its lessee, for the lease is the lock; and what keeps a
 * revoked lessee that goes on, late, from setting its successor's totals back: another block.
 *
 * Owns: one slot, its block, two lessees that may be revoked while they live and may die, and the broker's spare blocks. Does
 * not own: the words (lease.pml).
 *
 * Property: no store sets a counter back, and none is lost but a dead process's last one: between the load and the store
 * of a count nobody else has written there.
 */

#ifndef ROUNDS
#define ROUNDS 2	/* leases of each process */
#endif
#ifndef COUNTS
#define COUNTS 2	/* counts in a lease */
#endif
#define NBLOCKS 2	/* twice the slots (segment.c) */
#define NOBODY 2

byte owner = NOBODY;	/* of the lease, if seq is odd; then the word is LEASED, else IDLE, or BROKER while broker */
byte seq;
bit broker;
byte block;		/* the slot's field: written by the broker as the word's owner */
byte count[NBLOCKS];
bit dead[2];

inline lessee_life()
{
	skip;
again:
	if
	:: atomic { rounds == 0 -> goto end }
	:: atomic { rounds > 0 && !broker && !(seq & 1) -> rounds--; seq++; owner = p; mine = seq }	/* S6 */
	fi;
	b = block;
#ifndef OLD_BLOCK
	/* If the lease still stands, the block was its own. */
	if
	:: atomic { seq == mine -> skip }
	:: atomic { seq != mine -> b = 0; mine = 0; goto again }
	fi;
#endif
	n = COUNTS;
	do
	:: atomic { n > 0 -> n--; v = count[b] }
		atomic { assert(v == count[b]); count[b] = v + 1; v = 0 }
	:: atomic { n == 0 -> break }
	od;
	atomic {	/* S8; fails if it was revoked */
		if
		:: seq == mine -> seq++; owner = NOBODY
		:: else
		fi;
		b = 0; mine = 0; goto again }
end:
	false
}

proctype Lessee(byte p)
{
	byte rounds = ROUNDS, n, b, v, mine;

	{
		lessee_life()
	} unless { dead[p] }
}

proctype Broker()
{
	byte spare = 2, owed[2], p;	/* sets of blocks: unused; those that a process may still write to */
	bit handled[2], has = 1;

	do
	/* A lease is revoked: its limit, a detach, a command; or its process's death. */
	:: atomic { (seq & 1) -> p = owner; seq++; owner = NOBODY; broker = 1 }	/* S13 */
		if
		:: atomic { dead[p] -> skip }
#ifdef BUG_BLOCK
		:: atomic { !dead[p] -> skip }
#else
		:: atomic { !dead[p] -> owed[p] = owed[p] | (1 << block); has = 0 }
#endif
		fi;
		goto reopen
	:: atomic { dead[0] && !handled[0] && !((seq & 1) && owner == 0) -> handled[0] = 1; p = 0 }
		atomic { spare = spare | owed[p]; owed[p] = 0; goto reopen }
	:: atomic { dead[1] && !handled[1] && !((seq & 1) && owner == 1) -> handled[1] = 1; p = 1 }
		atomic { spare = spare | owed[p]; owed[p] = 0; goto reopen }
	:: false ->
reopen:		/* The slot stays closed while there is no block for it. */
		atomic {
			if
			:: !has && (spare & 1) -> block = 0; spare = spare & ~1; has = 1
			:: !has && (spare & 2) -> block = 1; spare = spare & ~2; has = 1
			:: else
			fi;
			if
			:: has && broker -> broker = 0; p = 0	/* S3 */
			:: else
			fi }
	od
}

proctype Crash()
{
	if
	:: dead[0] = 1
	:: true
	fi;
	if
	:: dead[1] = 1
	:: true
	fi
}

init {
	atomic { run Lessee(0); run Lessee(1); run Broker(); run Crash() }
}

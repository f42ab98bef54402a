/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's sleep while nothing is dirty (doc/protocol.md, "The session between two leases", its end): two slots whose
 * lessees come and go and may die between any two steps, and the broker, which looks, says that it sleeps, and looks again.
 *
 * Owns: reset_watch and the ring. Does not own: the words (lease.pml), time: whether a dirty session has been idle for long
 * enough is a free choice at each look, and there is no tick.
 *
 * Property: the broker never sleeps without a timer, a ring or a death to come while an idle session is dirty.
 */

#define NS 2
#ifndef ROUNDS
#define ROUNDS 3	/* leases of each slot */
#endif
#ifndef QUIET
#define QUIET 1		/* looks that find nothing before the broker says that it sleeps */
#endif

#define LEASED 0
#define CLEAN 1
#define DIRTY 2
#define TAKEN 3		/* the broker's */

byte slot[NS] = CLEAN;
bit watch;		/* reset_watch */
bit ring;		/* rung and not heard yet */
byte deaths = 1;
bit death;		/* not seen yet: what the broker does about it ends with a look */
bit asleep;		/* ghost: the broker waits for a ring or a death and has no timer */

proctype Lessee(byte i)
{
	byte rounds = ROUNDS;
	bit seen;

again:
	if
	:: atomic { rounds == 0 -> goto end }
	:: atomic { rounds > 0 && (slot[i] == CLEAN || slot[i] == DIRTY) -> rounds--; slot[i] = LEASED }	/* S6 */
	fi;
#ifdef BUG_EARLY
	seen = watch;
#endif
	if
	:: atomic { slot[i] = CLEAN; goto again }
	:: atomic { slot[i] = DIRTY }	/* S8, S11 */
#ifdef OLD_UNTOLD	/* one that is given on, or taken back */
	:: atomic { slot[i] = DIRTY; goto again }
#endif
	fi;
	if
	:: atomic { deaths > 0 -> deaths--; death = 1; goto end }
	:: skip
	fi;
#ifndef BUG_EARLY
	seen = watch;
#endif
	if
	:: atomic { seen -> seen = watch; watch = 0 }
		if
		:: atomic { deaths > 0 -> deaths--; death = 1; goto end }
		:: skip
		fi;
		if
		:: atomic { seen -> ring = 1; seen = 0 }
		:: atomic { !seen -> skip }
		fi
	:: atomic { !seen -> skip }
	fi;
	goto again;
end:
	skip
}

/* One look at all words: left if a dirty session stays because it is not due; one that is due is reset. */
inline sweep()
{
	left = 0;
	i = 0;
	do
	:: atomic { i < NS && slot[i] == DIRTY -> left = 1; i++ }
	:: atomic { i < NS && slot[i] == DIRTY -> slot[i] = TAKEN }	/* S5 */
		atomic { slot[i] = CLEAN; i++ }				/* S3 */
	:: atomic { i < NS && slot[i] != DIRTY -> i++ }
	:: atomic { i == NS -> i = 0; break }
	od
}

proctype Broker()
{
	byte i, quiet;
	bit left;

look:
	sweep();
	if
	:: atomic { left -> quiet = 0 }
	:: atomic { !left && quiet < QUIET -> quiet++ }
	:: atomic { !left && quiet == QUIET -> skip }
	fi;
	if
	:: atomic { quiet == QUIET -> skip }
#ifdef BUG_LOOK
		sweep();
		watch = 1;
#else
		watch = 1;
		sweep();
#endif
		if
		:: atomic { left -> quiet = 0 }
		:: atomic { !left -> asleep = 1; goto sleep }
		fi
	:: atomic { quiet < QUIET -> skip }
	fi;
	watch = 0;
	/* The timer; a ring or a death may come first. */
	if
	:: atomic { ring -> ring = 0 }
	:: atomic { death -> death = 0 }
	:: true
	fi;
	goto look;
sleep:
	if
	:: atomic { ring -> ring = 0; asleep = 0 }
	:: atomic { death -> death = 0; asleep = 0 }
	fi;
	goto look
}

proctype Quiet()
{
	atomic { timeout -> assert(asleep && slot[0] == CLEAN && slot[1] == CLEAN) }
}

init {
	atomic { run Lessee(0); run Lessee(1); run Broker(); run Quiet() }
}

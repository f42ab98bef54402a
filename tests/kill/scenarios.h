/* SPDX-License-Identifier: PostgreSQL */
/* What a victim does, and what the others have done before. */
#ifndef PGLEASE_TESTS_KILL_SCENARIOS_H
#define PGLEASE_TESTS_KILL_SCENARIOS_H

#include <stdbool.h>

#include "pairs.h"

/* Pools of one slot each. */
enum pool {
	POOL_GRANT, /* whoever waits is granted the slot */
	POOL_WAKE, /* whoever waits is woken, and claims it */
	POOL_ALWAYS, /* as POOL_WAKE; a session is reset at each release */
	POOL_WATCH, /* as POOL_WAKE; the broker resets what is dirty and idle at once */
	NPOOLS,
};
extern const char *const pool_name[NPOOLS];

struct scenario {
	const char *name;
	enum pool pool;
	void (*prepare)(void); /* the victim, at full speed */
	bool (*operate)(void); /* the victim, counted; false if it did not go as it should */
	bool (*finish)(void); /* after it, at full speed; then the victim ends */
	bool holder_holds; /* the holder has the slot when the operation begins */
	bool sleeps; /* the victim sleeps in between; then NEXT waits behind it, and the holder releases */
	bool next_waits; /* NEXT waits when the victim's operation begins */
	bool system_calls; /* its operation is libpq's: it is killed at its system calls */
};
extern const struct scenario scenarios[];
extern const unsigned nscenarios;

/* Two that meet, on a pool's only slot. */
struct pair {
	const char *name;
	struct scenario a, b; /* b is prepared first, and then a; a begins with the lease */
	void (*action)(const struct pair_place *place); /* instead of b: what happens while a stands still */
	bool next_waits;
};
extern const struct pair pairs[];
extern const unsigned npairs;
extern const struct pair stands[];
extern const unsigned nstands;

/* What a broker is asked for. */
struct service {
	const char *name;
	enum pool pool;
	void (*prepare)(void); /* the client */
	int (*operate)(void); /* the client; an error of the library's. NULL: it is killed instead */
	bool next_waits; /* NEXT waits all the time */
};
extern const struct service services[];
extern const unsigned nservices;

/*
 * A client's whole life: `arg` is a struct service. Ends with 0, or SERVICE_REFUSED if it was told that the
 * broker is not there.
 */
#define SERVICE_REFUSED 4
void service_live(const void *arg);

/* The victim's whole life: for trace_fork. `arg` is a struct scenario. */
void scenario_live(const void *arg);

/* Before a victim is forked: a socket of its own, to its canceller if it makes one. */
extern int scenario_socket[2];

/*
 * Starts PostgreSQL, the broker, the view and the crew, unless they are there; after a failure: starts them
 * anew.
 */
void stage_start(void);
/* Ends all. False if something was left behind. */
bool stage_stop(void);
/* Ends all without a look: after a failure. */
void stage_abandon(void);
/*
 * After the broker's death: the crew ends, and with the last of the old broker's clients its server sessions;
 * a new broker.
 */
void stage_renew(void);
struct pglease_test_env *stage_env(void);

#endif

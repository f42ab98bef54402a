/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's loop, whole but for its process: two pools, its two sockets, and a server that answers (upstream.h). One at a time;
 * whatever is not as it should be aborts.
 */
#ifndef BED_H
#define BED_H

#define BED_CLIENTS 4 /* control connections that the input may have; there is room for one more */
#define BED_POOLS 2u

/* With all connections made. */
void bed_start(void);
void bed_stop(void);
/* So many turns of the loop, without waiting. */
void bed_turn(unsigned n);
/* What the broker does at each of its ticks. */
void bed_tick(void);
/* A connection to the broker, non-blocking: SOCK_SEQPACKET for control, SOCK_STREAM for adoptions. */
int bed_connect(int type);
/* Somebody new asks how it is, and is told. */
void bed_check_status(void);
/* Pool 1, which nobody could open, is as it was. */
void bed_check_other_pool(void);

#endif

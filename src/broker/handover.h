/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a broker hands over to the program that takes its place (doc/protocol.md, "Restart"): a stream of sections of
 * values and descriptors in a memfd. Writing and reading are the same calls in the same order, so each part of the broker
 * has one function for both, and what is written and not read, or the other way round, is an error.
 */
#ifndef PGLEASE_BROKER_HANDOVER_H
#define PGLEASE_BROKER_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Another one for every change of what is handed over, or of what it means. */
#define HANDOVER_VERSION 4u

struct handover;

/* To be written. NULL: no memory. */
struct handover *handover_new(void);
/* A memfd that was written by handover_write(), which it closes: to be read. 0, or -1 with log_refuse(). */
int handover_open(int fd, struct handover **ret);
void handover_free(struct handover *handover); /* accepts NULL */

bool handover_reads(const struct handover *handover);
/* Begins a section: one of up to 15 characters. */
void handover_section(struct handover *handover, const char *name);
/* A value: from there when it writes, to there when it reads (zeros after an error). */
void handover_bytes(struct handover *handover, void *value, size_t size);
#define HANDOVER(handover, lvalue) handover_bytes(handover, &(lvalue), sizeof(lvalue))
/* A descriptor, or -1 for none. What is read is close-on-exec again. */
void handover_fd(struct handover *handover, int *fd);
/* What was read, or is to be written, cannot be: as if it had not been there. */
void handover_fail(struct handover *handover);
/* The number of things of which at most `max` can be there, then their loop. */
void handover_count(struct handover *handover, uint32_t *count, uint32_t max);

/* Reading: what was read is what is there, and all of it when `whole`. 0, or -1 with log_refuse(). */
int handover_check(const struct handover *handover, bool whole);

/*
 * Writing: into a new memfd; from now on it, and all descriptors in it, survive an exec. 0, or -errno (-ENOMEM too if anything did
 * before).
 */
int handover_write(struct handover *handover, int *ret_fd);
/* There was no exec: undoes that, and closes the memfd. */
void handover_undo(struct handover *handover, int fd);

#endif

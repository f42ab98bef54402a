/* SPDX-License-Identifier: PostgreSQL */
/*
 * The journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram of NAME=VALUE lines for each event. Spoken here
 * rather than by libsystemd, whose calls block: a journal that hangs must not stop the broker. Any thread.
 */
#ifndef PGLEASE_BROKER_JOURNAL_H
#define PGLEASE_BROKER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define JOURNAL_ENTRY 4096 /* bytes of a datagram; fields that have no room are left out, from the end */

/* Tests listen elsewhere. A string that stays. */
void journal_set_path(const char *path);
/* 0 when a journal listens there, else -errno. */
int journal_look(void);
/* Whether this descriptor is the stream that the service manager has connected to the journal ($JOURNAL_STREAM). */
bool journal_has_stream(int fd);

struct journal_entry {
	char bytes[JOURNAL_ENTRY];
	size_t used;
};

/* A field with this value, which may have no line end in it; NULL or "": none. */
void journal_field(struct journal_entry *entry, const char *name, const char *value);
void journal_number(struct journal_entry *entry, const char *name, long value);
/* 0, or -errno: it is lost. Never waits. */
int journal_send(const struct journal_entry *entry);

#endif

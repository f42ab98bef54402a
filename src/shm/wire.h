/* SPDX-License-Identifier: PostgreSQL */
/*
 * What clients and the broker say to each other on sockets: formats only.
 *
 * Control socket: <socket_dir>/control, SOCK_SEQPACKET, one message a packet, host byte order. A client says HELLO,
 * gets WELCOME (or ERROR), then OPENs pools, and asks for the HISTORY of those that have one; it RINGs when it needs the
 * broker (it waits and there is room to grow, or it returned a slot). The connection stays open for the life of the
 * attachment: its end is how the broker learns that the client is gone. Before HELLO, or without one, it may ASK which
 * connections the pools stand for, one at a time. A control tool says COMMAND instead of HELLO, once, and gets RESULTs; the
 * last ends the connection.
 *
 * Adoption socket: <socket_dir>/.s.PGSQL.<WIRE_PORT>, SOCK_STREAM, PostgreSQL's own protocol, spoken by libpq. The
 * start-up packet's `options` name what is adopted (WIRE_ADOPT_FORMAT). After ReadyForQuery the client sends
 * WIRE_FD_REQUEST and receives one byte: WIRE_FD_OK with the descriptor (SCM_RIGHTS), or WIRE_FD_REFUSED.
 */
#ifndef PGLEASE_SHM_WIRE_H
#define PGLEASE_SHM_WIRE_H

#include <inttypes.h>
#include <stdint.h>
#include <sys/types.h>

#include "layout.h"

#define WIRE_MAGIC 0x534c4750u /* "PGLS" */
/*
 * Another one for every change of a message, its size or its meaning. Versions refuse each other, and say so: struct
 * wire_header and struct wire_error never change, and an error is sent in the version of whoever asked.
 */
#define WIRE_VERSION 4u
#define WIRE_PORT 5432 /* a file name, not a TCP port */
#define WIRE_NONCE 16
#define WIRE_MAX 1024 /* longest control message */

enum wire_type {
	WIRE_HELLO = 1,   /* client -> broker: struct wire_hello */
	WIRE_WELCOME = 2, /* broker -> client: struct wire_welcome */
	WIRE_OPEN = 3,    /* client -> broker: struct wire_open */
	WIRE_POOL = 4,    /* broker -> client: struct wire_pool, with the lease segment's descriptor */
	WIRE_RING = 5,    /* client -> broker: struct wire_ring; no answer */
	WIRE_ERROR = 6,   /* broker -> client: struct wire_error */
	WIRE_COMMAND = 7, /* tool -> broker: struct wire_command */
	WIRE_RESULT = 8,  /* broker -> tool: struct wire_result; the last one has more = 0 */
	WIRE_DETACH = 9,  /* client -> broker: no answer; a detach that holds nothing and wants no trace */
	WIRE_ASK = 10,    /* anyone -> broker: struct wire_ask */
	WIRE_MATCH = 11,  /* broker -> anyone: struct wire_match */
	WIRE_HISTORY = 12, /* client -> broker: struct wire_open, after WIRE_POOL said that there is one */
	WIRE_PAST = 13,   /* broker -> client: struct wire_pool, with the history's descriptor, which can only read */
};

struct wire_header {
	uint32_t magic;
	uint16_t version; /* of the wire; the layout has its own */
	uint16_t type;
};

struct wire_hello {
	struct wire_header header;
	uint32_t layout_version;
	uint32_t layout_hash;
	char program[40];
};

struct wire_welcome {
	struct wire_header header;
	uint32_t client; /* index of the client row, the same in every pool */
	uint32_t broker_pid;
	uint64_t incarnation;
	uint64_t instance_id;
	uint8_t nonce[WIRE_NONCE]; /* proves, in an adoption, that the requester is this client */
};

struct wire_open {
	struct wire_header header;
	char pool[LAYOUT_NAME];
};

struct wire_pool {
	struct wire_header header;
	uint32_t pool; /* its number: for RING and adoption; not a place in a list, and another when a reload has made it anew */
	uint32_t history; /* 1: the pool has one (WIRE_HISTORY) */
};

struct wire_ring {
	struct wire_header header;
	uint32_t pool;
	uint32_t reserved;
};

struct wire_ask {
	struct wire_header header;
	uint32_t pool; /* place in the instance's list */
	uint32_t reserved;
};

#define WIRE_MATCH_NAMES 192
#define WIRE_MATCH_HOSTS 448

/* Which connections of programs that do not know pglease the pool stands for: lists separated by commas, or "*". */
struct wire_match {
	struct wire_header header;
	uint32_t npools; /* of the instance */
	uint32_t number; /* wire_pool's `pool` of it, and 1; 0: not told */
	char pool[LAYOUT_NAME]; /* "": there is none of this index for whoever asks */
	char dbname[WIRE_MATCH_NAMES], user[WIRE_MATCH_NAMES];
	char host[WIRE_MATCH_HOSTS]; /* each as HOST PORT, in place of libpq's default ports and hosts what that means; "*": any */
};

struct wire_error {
	struct wire_header header;
	int32_t code; /* enum pglease_error */
	char text[400];
};

enum { WIRE_COMMAND_JSON = 1 }; /* texts are JSON objects */

#define WIRE_ARGUMENT 320

struct wire_command {
	struct wire_header header;
	char verb[16];
	char argument[WIRE_ARGUMENT];
	int32_t timeout_ms; /* how long leases may stay out; negative: the instance's drain_timeout */
	uint32_t flags;
};

struct wire_result {
	struct wire_header header;
	int32_t code; /* enum pglease_error; 0: done */
	uint32_t more;
	uint32_t within_ms; /* more: how long the next one may take */
	char text[800];
};

static_assert(sizeof(struct wire_header) == 8, "of every version");
static_assert(sizeof(struct wire_error) == 412, "of every version");
static_assert(sizeof(struct wire_hello) == 56, "of WIRE_VERSION");
static_assert(sizeof(struct wire_welcome) == 48, "of WIRE_VERSION");
static_assert(sizeof(struct wire_open) == 72, "of WIRE_VERSION");
static_assert(sizeof(struct wire_pool) == 16, "of WIRE_VERSION");
static_assert(sizeof(struct wire_ring) == 16, "of WIRE_VERSION");
static_assert(sizeof(struct wire_ask) == 16, "of WIRE_VERSION");
static_assert(sizeof(struct wire_match) == 912, "of WIRE_VERSION");
static_assert(sizeof(struct wire_command) == 352, "of WIRE_VERSION");
static_assert(sizeof(struct wire_result) == 820, "of WIRE_VERSION");

/*
 * pool, slot, generation, lease sequence, client, attempt (one adoption's only, not 0: doc/protocol.md, "Renewal"), nonce
 * (32 hex digits)
 */
#define WIRE_ADOPT_FORMAT \
	"pglease.adopt=%" PRIu32 ":%" PRIu32 ":%" PRIu64 ":%" PRIu64 ":%" PRIu32 ":%" PRIu64 ":%s"
#define WIRE_ADOPT_SCAN \
	"pglease.adopt=%" SCNu32 ":%" SCNu32 ":%" SCNu64 ":%" SCNu64 ":%" SCNu32 ":%" SCNu64 ":%32[0-9a-f]"

/* In the place of the slot, from a PGconn that was made before its lease: the one last adopted by this attempt. A renewal only. */
#define WIRE_SLOT_OF_ATTEMPT UINT32_MAX

#define WIRE_FD_REQUEST "PGLSFD1\n" /* 8 bytes */
#define WIRE_FD_OK 'D'
#define WIRE_FD_REFUSED 'N'

void wire_header_init(struct wire_header *header, enum wire_type type);
/* 1 when `buf` of `size` bytes is a sound message of this type: magic, version, exact size. */
int wire_is(const void *buf, size_t size, enum wire_type type);
/* The version of a message, of any kind, of another version than this one; 0: it is of this version, or none of ours. */
unsigned wire_other_version(const void *buf, size_t size);

/* One message with at most one descriptor. Close-on-exec is set. Retry EINTR. Return bytes or -errno; recv gives
 * 0 at end of file; *ret_fd is -1 when none came. A second descriptor in one message is closed. */
ssize_t wire_send(int sock, const void *buf, size_t size, int fd);
ssize_t wire_recv(int sock, void *buf, size_t size, int *ret_fd);
/* And who has sent it, on a socket that asks for that (SO_PASSCRED); else *ret_sender is left as it is. */
struct ucred;
ssize_t wire_recv_from(int sock, void *buf, size_t size, int *ret_fd, struct ucred *ret_sender);

#endif

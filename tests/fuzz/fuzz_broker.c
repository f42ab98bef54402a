/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's loop, whole but for its process: two pools, its two sockets, and clients that do what the input says. They
 * attach, lease, adopt, cancel, command, send nonsense, go away, and write over pool 0's lease segment; the server answers
 * as it should or says nonsense too. Whatever they did, pool 1, which none of them could open, is as it was, and whoever asks for
 * the status has an answer.
 */
#include "bed.h"
#include "fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include "handoff.h"
#include "queue.h"
#include "rows.h"
#include "slots.h"
#include "startup.h"
#include "upstream.h"

#define HANDSHAKES 3
#define STEPS 96

/* The clients' side. */
static struct {
	int sock; /* -1: none */
	struct wire_welcome welcome;
} client[BED_CLIENTS];
static struct {
	int sock;
} handshake[HANDSHAKES];
static struct segment seg; /* pool 0's as a client maps it; header NULL: not yet */
static struct {
	bool leased;
	uint32_t row, slot, owner;
	uint64_t word;
} lease;
static uint32_t key, key_pid;

/* A control message, sound or bent in a few places. */
static size_t
make_message(struct fuzz *f, unsigned char buf[WIRE_MAX + 8])
{
	static const char *const verbs[] = {"status", "drain", "resume", "revoke"};
	union {
		struct wire_hello hello;
		struct wire_open open;
		struct wire_ring ring;
		struct wire_ask ask;
		struct wire_command command;
	} m;
	unsigned how = fuzz_byte(f);
	size_t size = 0;

	memset(&m, 0, sizeof(m));
	switch (how & 7) {
	case 0:
		wire_header_init(&m.hello.header, WIRE_HELLO);
		m.hello.layout_version = LAYOUT_VERSION;
		m.hello.layout_hash = layout_hash();
		size = sizeof(m.hello);
		break;
	case 1:
	case 2: /* pool 1 is nobody's here: it is asked for by a name that is wrong */
		wire_header_init(&m.open.header, (how & 7) == 1 ? WIRE_OPEN : WIRE_HISTORY);
		strcpy(m.open.pool, "app");
		size = sizeof(m.open);
		break;
	case 3:
		wire_header_init(&m.ring.header, WIRE_RING);
		m.ring.pool = how >> 7;
		size = sizeof(m.ring);
		break;
	case 4:
		wire_header_init(&m.ask.header, WIRE_ASK);
		m.ask.pool = how >> 6;
		size = sizeof(m.ask);
		break;
	case 5:
		wire_header_init(&m.command.header, WIRE_COMMAND);
		strcpy(m.command.verb, verbs[how >> 6]);
		strcpy(m.command.argument, how >> 6 == 0 ? "" : how >> 6 == 3 ? "app/0" : "app");
		m.command.flags = how >> 5 & 1;
		m.command.timeout_ms = 5;
		size = sizeof(m.command);
		break;
	case 6:
		wire_header_init((struct wire_header *)&m, WIRE_DETACH);
		size = sizeof(struct wire_header);
		break;
	default: {
		const uint8_t *bytes = fuzz_bytes(f, WIRE_MAX + 8, &size);

		memcpy(buf, bytes, size);
		return size;
	}
	}
	memcpy(buf, &m, size);
	if ((how & 8) != 0) {
		size_t at = fuzz_byte(f) % size;

		buf[at] = (unsigned char)(buf[at] ^ fuzz_byte(f));
	}
	if ((how & 16) != 0)
		size = (size_t)fuzz_number(f, 2) % (WIRE_MAX + 8);
	return size;
}

/* What has come for a client. */
static void
hear(unsigned i)
{
	union {
		struct wire_header header;
		struct wire_welcome welcome;
		char bytes[WIRE_MAX];
	} m;
	struct segment mapped;
	ssize_t n;
	int fd;

	while ((n = wire_recv(client[i].sock, &m, sizeof(m), &fd)) > 0) {
		fuzz_must(n >= (ssize_t)sizeof(m.header) && m.header.magic == WIRE_MAGIC);
		if (wire_is(&m, (size_t)n, WIRE_WELCOME))
			client[i].welcome = m.welcome;
		if (fd >= 0) {
			fuzz_must(wire_is(&m, (size_t)n, WIRE_POOL));
			if (seg.header == NULL && segment_map(fd, &mapped) == 0 && mapped.header->pool == 0)
				seg = mapped;
			close(fd);
		}
	}
	if (n == 0 || (n < 0 && n != -EAGAIN)) {
		close(client[i].sock);
		client[i].sock = -1;
	}
}

static void
step_control(struct fuzz *f, unsigned i)
{
	unsigned char buf[WIRE_MAX + 8];
	size_t n;

	memset(buf, 0, sizeof(buf));
	if (client[i].sock < 0) {
		client[i].sock = bed_connect(SOCK_SEQPACKET);
		memset(&client[i].welcome, 0, sizeof(client[i].welcome));
	}
	n = make_message(f, buf);
	if (n > 0)
		(void)send(client[i].sock, buf, n, MSG_NOSIGNAL);
	bed_turn(2);
	hear(i);
}

/* A start-up packet that claims a slot, true or not. */
static size_t
make_claim(struct fuzz *f, uint8_t buf[512])
{
	unsigned how = fuzz_byte(f), owner = lease.leased ? lease.owner : 0;
	char nonce[2 * WIRE_NONCE + 1], options[256];
	uint64_t n[6] = {0, lease.slot, 1, word_seq(lease.word), client[owner].welcome.client, 1 + (how & 1)};
	uint32_t length, version = htonl(3u << 16 | (how & 2));
	size_t size = 8;

	if (seg.header != NULL && lease.slot < seg.nslots)
		n[2] = atomic_load(&seg.slot[lease.slot].generation);
	if ((how & 4) != 0)
		n[fuzz_byte(f) % 6] = fuzz_number(f, 4);
	for (unsigned i = 0; i < WIRE_NONCE; i++)
		snprintf(nonce + 2 * i, 3, "%02x", client[owner].welcome.nonce[i]);
	snprintf(options, sizeof(options), WIRE_ADOPT_FORMAT, (uint32_t)n[0], (uint32_t)n[1], n[2], n[3], (uint32_t)n[4], n[5],
	    nonce);
	memcpy(buf + 4, &version, 4);
	size += (size_t)snprintf((char *)buf + size, 512 - size, "user%cu%coptions%c%s", 0, 0, 0, options) + 1;
	buf[size++] = '\0';
	length = htonl((uint32_t)size);
	memcpy(buf, &length, 4);
	return size;
}

static void
step_adopt(struct fuzz *f, unsigned i)
{
	uint8_t buf[4096];
	unsigned how = fuzz_byte(f);
	size_t n = 0;
	ssize_t got;
	int fd;

	if (handshake[i].sock < 0)
		handshake[i].sock = bed_connect(SOCK_STREAM);
	switch (how & 7) {
	case 0:
	case 1:
		n = make_claim(f, buf);
		break;
	case 2:
		n = strlen(WIRE_FD_REQUEST);
		memcpy(buf, WIRE_FD_REQUEST, n);
		break;
	case 3: {
		uint32_t words[4] = {htonl(16), htonl(80877102), htonl(key_pid), htonl(key ^ (how >> 7))};

		n = sizeof(words);
		memcpy(buf, words, n);
		break;
	}
	case 4: {
		uint32_t words[2] = {htonl(8), htonl(80877103 + (how >> 7))};

		n = sizeof(words);
		memcpy(buf, words, n);
		break;
	}
	case 5:
		close(handshake[i].sock);
		handshake[i].sock = -1;
		bed_turn(2);
		return;
	default: {
		const uint8_t *bytes = fuzz_bytes(f, sizeof(buf), &n);

		memcpy(buf, bytes, n);
		break;
	}
	}
	if (n > 0)
		(void)send(handshake[i].sock, buf, n, MSG_NOSIGNAL);
	bed_turn(2);
	while ((got = wire_recv(handshake[i].sock, buf, sizeof(buf), &fd)) > 0) {
		const uint8_t *k = memmem(buf, (size_t)got, "K\0\0\0\x0c", 5);

		if (k != NULL && k + 13 <= buf + got) {
			memcpy(&key_pid, k + 5, 4);
			memcpy(&key, k + 9, 4);
			key_pid = ntohl(key_pid);
			key = ntohl(key);
		}
		if (fd >= 0)
			close(fd);
	}
	if (got == 0 || (got < 0 && got != -EAGAIN)) {
		close(handshake[i].sock);
		handshake[i].sock = -1;
	}
}

/* Leases and releases by the rules. */
static void
step_lease(struct fuzz *f)
{
	unsigned owner = fuzz_byte(f) % BED_CLIENTS;
	uint64_t w;
	int row, slot;

	if (seg.header == NULL)
		return;
	if (lease.leased) {
		uint64_t row_word = row_load(&seg, lease.row);

		if ((owner & 1) != 0)
			(void)slot_return(&seg, lease.slot, &lease.word, owner & 2 ? SLOT_OWED : 0);
		else
			(void)handoff_give(&seg, lease.slot, &lease.word, client[lease.owner].welcome.client, SLOT_DIRTY, clock_ns());
		(void)row_free(&seg, lease.row, &row_word);
		lease.leased = false;
		return;
	}
	if (client[owner].sock < 0 || client[owner].welcome.incarnation == 0)
		return;
	row = row_claim(&seg, client[owner].welcome.client, 0, &w);
	if (row < 0)
		return;
	slot = slot_find_idle(&seg, -1, 0, true, &w);
	if (slot < 0 || !slot_lease(&seg, (uint32_t)slot, &w, (unsigned)row, client[owner].welcome.client)) {
		w = row_load(&seg, (uint32_t)row);
		if (row_wait(&seg, (uint32_t)row, &w, clock_ns()))
			(void)queue_enter(&seg, (uint32_t)row, word_seq(w), clock_ns());
		return;
	}
	atomic_store(&seg.slot[slot].leased_at, clock_ns());
	lease.leased = true;
	lease.row = (uint32_t)row;
	lease.slot = (uint32_t)slot;
	lease.owner = owner;
	lease.word = w;
}

/* Writes over the segment: words that might be, in places that matter, or anything anywhere. */
static void
step_scribble(struct fuzz *f)
{
	unsigned how = fuzz_byte(f);
	uint64_t n, value;
	uint32_t at;

	if (seg.header == NULL)
		return;
	at = fuzz_byte(f);
	value = fuzz_number(f, 3);
	n = word_pack((unsigned)value & 7, (unsigned)value >> 4 & 15, (how & 0x80) != 0 ? WORD_NONE : (unsigned)value >> 8 & 63,
	    (how & 0x40) != 0 ? lease.word + (value >> 16) : value >> 16);
	switch (how & 7) {
	case 0:
		atomic_store(&seg.slot[at % seg.nslots].word, n);
		break;
	case 1:
		atomic_store(&seg.row[at % seg.nrows].word, n);
		break;
	case 2:
		atomic_store(&seg.queue[at & seg.queue_mask], value << 18 | (value & 0x3f) << 2 | (value & 3));
		break;
	case 3:
		atomic_store((how & 8) != 0 ? &seg.header->head : &seg.header->tail, value + at);
		break;
	case 4: {
		/* The plain fields of a slot: block, generation, owed, times ... */
		_Atomic uint64_t *fields = (_Atomic uint64_t *)&seg.slot[at % seg.nslots];

		fields[1 + (how >> 3) % (sizeof(struct slot) / 8 - 1)] = value | (value << 40);
		break;
	}
	case 5: {
		_Atomic uint64_t *fields = (_Atomic uint64_t *)&seg.row[at % seg.nrows];

		fields[1 + (how >> 3) % (sizeof(struct row) / 8 - 1)] = value | (value << 40);
		break;
	}
	case 6: {
		unsigned char *header = (unsigned char *)seg.header;

		/* Whatever the broker reads there again and again, its settings too. */
		for (unsigned i = 0; i < 8; i++)
			header[(at * 8 + i + (how >> 3) * 256) % 4096] = (unsigned char)(value >> 3 * i);
		break;
	}
	default: {
		unsigned char *base = (unsigned char *)seg.header;

		fuzz_bend(f, base, seg.size);
		break;
	}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};

	bed_start();
	lease.leased = false;
	key = key_pid = 0;
	for (unsigned i = 0; i < BED_CLIENTS; i++)
		client[i].sock = -1;
	for (unsigned i = 0; i < HANDSHAKES; i++)
		handshake[i].sock = -1;
	for (unsigned i = 0; i < STEPS && f.left > 0; i++) {
		unsigned what = fuzz_byte(&f);

		switch (what & 7) {
		case 0:
		case 1:
			step_control(&f, (what >> 3) % BED_CLIENTS);
			break;
		case 2:
			step_adopt(&f, (what >> 3) % HANDSHAKES);
			break;
		case 3:
			step_lease(&f);
			break;
		case 4:
			step_scribble(&f);
			break;
		case 5:
			if ((what & 0x80) != 0 && client[(what >> 3) % BED_CLIENTS].sock >= 0) {
				close(client[(what >> 3) % BED_CLIENTS].sock);
				client[(what >> 3) % BED_CLIENTS].sock = -1;
			}
			bed_turn(1 + (what >> 5 & 3));
			break;
		case 6:
			if ((what & 0x80) != 0) {
				size_t n;
				const uint8_t *bytes = fuzz_bytes(&f, 512, &n);

				upstream_say((what & 0x40) != 0 ? NULL : bytes, n);
			} else if ((what & 0x40) != 0) {
				upstream_hang_up(what >> 3 & 7);
			}
			bed_turn(2);
			break;
		default:
			bed_tick();
			bed_turn(2);
			break;
		}
	}
	bed_tick();
	bed_turn(4);
	bed_check_status();
	bed_check_other_pool();
	for (unsigned i = 0; i < BED_CLIENTS; i++)
		if (client[i].sock >= 0)
			close(client[i].sock);
	for (unsigned i = 0; i < HANDSHAKES; i++)
		if (handshake[i].sock >= 0)
			close(handshake[i].sock);
	bed_turn(4);
	bed_tick();
	segment_unmap(&seg);
	bed_stop();
	return 0;
}

/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's loop, whole but for its process: two pools, its two sockets, and clients that do what the input says. They
 * attach, lease, adopt, cancel, command, send nonsense, go away, and write over pool 0's lease segment; the server answers
 * as it should or says nonsense too. Whatever they did, pool 1, which none of them could open, is as it was, and whoever asks for
 * the status has an answer.
 */
#include "fuzz.h"

#include <event2/event.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "adopt.h"
#include "alerts.h"
#include "cancel.h"
#include "control.h"
#include "handoff.h"
#include "hangups.h"
#include "log.h"
#include "maintain.h"
#include "publish.h"
#include "queue.h"
#include "resolver.h"
#include "rows.h"
#include "server.h"
#include "slots.h"
#include "startup.h"
#include "upstream.h"

#define CLIENTS 4 /* control connections that the input has */
#define HANDSHAKES 3
#define STEPS 96
#define NPOOLS 2u

static char folder[64], upstream_dir[96], conninfo[160];
static struct pool_context shared;
static struct instance_settings instance_of;
static struct pool_settings settings_of[NPOOLS];
static struct pool *pools[NPOOLS];
static struct clients *clients;
static struct commands *commands;
static struct control *control;
static struct adopt *adopt;
static struct publisher *publisher;
static struct alerts *alerts;
static unsigned ticks;

/* The clients' side. */
static struct {
	int sock; /* -1: none */
	struct wire_welcome welcome;
} client[CLIENTS];
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

static void
on_attention(evutil_socket_t fd, short what, void *arg)
{
	for (unsigned i = 0; i < NPOOLS; i++)
		if (pools[i]->attention)
			maintain_pool(pools[i], clients, clock_ns());
	commands_look(commands, clock_ns());
}

static void
on_hang_up(void *context, uint32_t pool, uint32_t slot, uint32_t generation)
{
	struct server *s = &pools[pool]->server[slot];

	if (server_has_connection(s) && (uint32_t)s->generation == generation)
		server_hung_up(s);
}

static void
on_cancel(void *context, const struct cancels_ticket *ticket, int sent)
{
	cancel_returned(pools, NPOOLS, ticket);
}

static void
on_stop(void *context, uint64_t timeout, const char *why)
{
	/* The instance's matter: here nobody may stop it. */
}

static int
no_lookup(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	return EAI_FAIL;
}

static void
turn(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		event_base_loop(shared.base, EVLOOP_NONBLOCK);
}

static void
tick(void)
{
	const struct segment *segments[NPOOLS];
	uint64_t now = clock_ns();

	for (unsigned i = 0; i < NPOOLS; i++) {
		struct pulse_params beat = {.now = now, .connects_fail = pools[i]->failures != 0};

		pools[i]->retry_at = 0; /* a failed connect need not be waited for */
		maintain_pool(pools[i], clients, now);
		pulse_beat(&pools[i]->pulse, &pools[i]->seg, &beat);
		segments[i] = &pools[i]->seg;
	}
	/* A second each. */
	alerts_tick(alerts, now + ++ticks * UINT64_C(1000000000), 5000000);
	clients_tick(clients);
	control_tick(control, now);
	adopt_tick(adopt, now);
	fuzz_must(publisher_publish(publisher, SEGMENT_OPEN, segments, NPOOLS) == 0);
	commands_look(commands, now);
}

static void
clean(void)
{
	rmdir(upstream_dir);
	rmdir(folder);
}

/* Once. */
static void
make_folder(void)
{
	const char *tmp = getenv("TMPDIR");

	signal(SIGPIPE, SIG_IGN);
	log_setup(LOG_LEVEL_ERROR, false);
	snprintf(folder, sizeof(folder), "%.40s/pglease-fuzz-XXXXXX", tmp != NULL ? tmp : "/tmp");
	fuzz_must(mkdtemp(folder) != NULL);
	snprintf(upstream_dir, sizeof(upstream_dir), "%s/pg", folder);
	fuzz_must(mkdir(upstream_dir, 0700) == 0);
	snprintf(conninfo, sizeof(conninfo), "host=%s user=u dbname=d sslmode=disable gssencmode=disable", upstream_dir);
	atexit(clean);
	settings_init(SETTING_INSTANCE, &instance_of);
	for (unsigned i = 0; i < NPOOLS; i++) {
		settings_init(SETTING_POOL, &settings_of[i]);
		snprintf(settings_of[i].name, sizeof(settings_of[i].name), "%s", i == 0 ? "app" : "other");
		strcpy(settings_of[i].conninfo, conninfo);
		settings_of[i].min_connections = i == 0 ? 2 : 1;
		settings_of[i].max_connections = i == 0 ? 3 : 1;
		settings_of[i].prepared_statements = 4;
	}
}

static void
start(void)
{
	const struct segment *segments[NPOOLS];
	char instance[48], name[PATHS_MAX];
	struct adopt_params adopt_params = {.context = &shared, .pools = pools, .npools = NPOOLS, .socket_dir = folder};
	struct commands_params commands_params = {.pools = pools,
	    .npools = NPOOLS,
	    .settings = &instance_of,
	    .answer = control_answer,
	    .stop = on_stop};
	struct control_params control_params = {.pools = pools,
	    .npools = NPOOLS,
	    .max_clients = CLIENTS + 1,
	    .instance_id = 1,
	    .instance = "fuzz",
	    .socket_dir = folder,
	    .admin_users = "",
	    .admin_groups = ""};
	struct publisher_params publisher_params = {
	    .instance = instance, .socket_dir = folder, .mode = 0600, .pools = segments, .npools = NPOOLS};
	struct alerts_params alerts_params = {.settings = &instance_of, .pools = pools, .npools = NPOOLS};
	const char *error;

	shared.base = event_base_new();
	shared.attention = event_new(shared.base, -1, 0, on_attention, NULL);
	fuzz_must(shared.base != NULL && shared.attention != NULL);
	upstream_start(shared.base, upstream_dir);
	fuzz_must(hangups_new(shared.base, on_hang_up, NULL, &shared.hangups) == 0);
	fuzz_must(resolver_new(shared.base, no_lookup, &shared.resolver) == 0);
	fuzz_must(cancels_new(shared.base, on_cancel, NULL, &shared.cancels) == 0);
	for (unsigned i = 0; i < NPOOLS; i++) {
		struct pool_params params = {.context = &shared,
		    .settings = &settings_of[i],
		    .conninfo = conninfo,
		    .instance = "fuzz",
		    .instance_id = 1,
		    .index = i,
		    .max_clients = CLIENTS + 1};

		fuzz_must(pool_new(&params, &pools[i]) == 0);
		segments[i] = &pools[i]->seg;
	}
	snprintf(instance, sizeof(instance), "fuzz-broker-%ld", (long)getpid());
	fuzz_must(publisher_new(&publisher_params, &publisher, &error) == 0);
	/* Nobody looks for it by its name. */
	fuzz_must(paths_stats_name(instance, name, sizeof(name)) == 0 && shm_unlink(name) == 0);
	alerts_params.base = shared.base;
	ticks = 0;
	fuzz_must(alerts_new(&alerts_params, &alerts) == 0);
	fuzz_must(clients_new(shared.base, pools, NPOOLS, CLIENTS + 1, &clients) == 0);
	commands_params.clients = clients;
	commands = commands_new(&commands_params);
	fuzz_must(commands != NULL);
	control_params.base = shared.base;
	control_params.commands = commands;
	adopt_params.clients = control_params.clients = clients;
	fuzz_must(adopt_new(&adopt_params, &adopt) == 0 && control_new(&control_params, &control) == 0);
	for (unsigned i = 0; i < NPOOLS; i++) {
		atomic_store(&pools[i]->seg.header->state, SEGMENT_OPEN);
		pool_grow(pools[i], clock_ns());
	}
	for (unsigned i = 0; i < 64 && (pools[0]->connecting != 0 || pools[1]->connecting != 0); i++)
		turn(1);
	fuzz_must(pools[0]->open == 2 && pools[1]->open == 1);
}

static void
stop(void)
{
	for (unsigned i = 0; i < NPOOLS; i++)
		pool_stop(pools[i]);
	control_free(control);
	commands_free(commands);
	adopt_free(adopt);
	clients_free(clients);
	alerts_free(alerts);
	upstream_stop(); /* lets its cancels go */
	cancels_free(shared.cancels, 2000);
	for (unsigned i = 0; i < NPOOLS; i++)
		pool_free(pools[i]);
	publisher_free(publisher);
	hangups_free(shared.hangups);
	resolver_free(shared.resolver);
	event_free(shared.attention);
	event_base_free(shared.base);
}

static int
connect_to(int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	fuzz_must((type == SOCK_STREAM ? paths_adopt_socket : paths_control_socket)(
		      folder, address.sun_path, sizeof(address.sun_path)) == 0);
	fuzz_must(connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0);
	return sock;
}

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
		client[i].sock = connect_to(SOCK_SEQPACKET);
		memset(&client[i].welcome, 0, sizeof(client[i].welcome));
	}
	n = make_message(f, buf);
	if (n > 0)
		(void)send(client[i].sock, buf, n, MSG_NOSIGNAL);
	turn(2);
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
		handshake[i].sock = connect_to(SOCK_STREAM);
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
		turn(2);
		return;
	default: {
		const uint8_t *bytes = fuzz_bytes(f, sizeof(buf), &n);

		memcpy(buf, bytes, n);
		break;
	}
	}
	if (n > 0)
		(void)send(handshake[i].sock, buf, n, MSG_NOSIGNAL);
	turn(2);
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
	unsigned owner = fuzz_byte(f) % CLIENTS;
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

/* Somebody new asks how it is, and is told. */
static void
check_status(void)
{
	struct wire_command command = {.verb = "status", .timeout_ms = -1};
	union {
		struct wire_result result;
		char bytes[WIRE_MAX];
	} m;
	int sock = connect_to(SOCK_SEQPACKET);
	unsigned answers = 0;
	bool last = false;

	wire_header_init(&command.header, WIRE_COMMAND);
	fuzz_must(send(sock, &command, sizeof(command), MSG_NOSIGNAL) == sizeof(command));
	for (unsigned i = 0; i < 200 && !last; i++) {
		turn(1);
		while (recv(sock, &m, sizeof(m), MSG_DONTWAIT) > 0) {
			fuzz_must(wire_is(&m, sizeof(m.result), WIRE_RESULT) && m.result.code == 0);
			answers++;
			last = m.result.more == 0;
		}
	}
	fuzz_must(last && answers == NPOOLS + 1);
	close(sock);
	turn(2);
}

/* Nobody could open it. */
static void
check_other_pool(void)
{
	const struct pool *p = pools[1];
	unsigned other = 0;

	for (uint32_t i = 0; i < p->seg.nslots; i++) {
		uint64_t w = slot_load(&p->seg, i);

		other += word_state(w) != SLOT_EMPTY && word_state(w) != SLOT_IDLE && word_state(w) != SLOT_BROKER;
	}
	fuzz_must(other == 0 && p->open <= 1);
	for (uint32_t i = 0; i < p->seg.nrows; i++)
		fuzz_must(word_state(row_load(&p->seg, i)) == ROW_FREE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};

	if (folder[0] == '\0')
		make_folder();
	start();
	lease.leased = false;
	key = key_pid = 0;
	for (unsigned i = 0; i < CLIENTS; i++)
		client[i].sock = -1;
	for (unsigned i = 0; i < HANDSHAKES; i++)
		handshake[i].sock = -1;
	for (unsigned i = 0; i < STEPS && f.left > 0; i++) {
		unsigned what = fuzz_byte(&f);

		switch (what & 7) {
		case 0:
		case 1:
			step_control(&f, (what >> 3) % CLIENTS);
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
			if ((what & 0x80) != 0 && client[(what >> 3) % CLIENTS].sock >= 0) {
				close(client[(what >> 3) % CLIENTS].sock);
				client[(what >> 3) % CLIENTS].sock = -1;
			}
			turn(1 + (what >> 5 & 3));
			break;
		case 6:
			if ((what & 0x80) != 0) {
				size_t n;
				const uint8_t *bytes = fuzz_bytes(&f, 512, &n);

				upstream_say((what & 0x40) != 0 ? NULL : bytes, n);
			} else if ((what & 0x40) != 0) {
				upstream_hang_up(what >> 3 & 7);
			}
			turn(2);
			break;
		default:
			tick();
			turn(2);
			break;
		}
	}
	tick();
	turn(4);
	check_status();
	check_other_pool();
	for (unsigned i = 0; i < CLIENTS; i++)
		if (client[i].sock >= 0)
			close(client[i].sock);
	for (unsigned i = 0; i < HANDSHAKES; i++)
		if (handshake[i].sock >= 0)
			close(handshake[i].sock);
	turn(4);
	tick();
	segment_unmap(&seg);
	stop();
	return 0;
}

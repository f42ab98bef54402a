/* SPDX-License-Identifier: PostgreSQL */
#include "bed.h"

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
#include "fuzz.h"
#include "hangups.h"
#include "log.h"
#include "maintain.h"
#include "publish.h"
#include "resolver.h"
#include "rows.h"
#include "server.h"
#include "slots.h"
#include "upstream.h"

static char folder[64], upstream_dir[96], conninfo[160];
static struct pool_context shared;
static struct instance_settings instance_of;
static struct pool_settings settings_of[BED_POOLS];
static struct pool *pools[BED_POOLS];
static struct clients *clients;
static struct commands *commands;
static struct control *control;
static struct adopt *adopt;
static struct publisher *publisher;
static struct alerts *alerts;
static unsigned ticks;

static void
on_attention(evutil_socket_t fd, short what, void *arg)
{
	for (unsigned i = 0; i < BED_POOLS; i++)
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
	cancel_returned(pools, BED_POOLS, ticket);
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

void
bed_turn(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		event_base_loop(shared.base, EVLOOP_NONBLOCK);
}

void
bed_tick(void)
{
	const struct segment *segments[BED_POOLS];
	uint64_t now = clock_ns();

	for (unsigned i = 0; i < BED_POOLS; i++) {
		struct pulse_params beat = {.now = now, .connects_fail = pools[i]->failures != 0};

		pools[i]->retry_at = 0; /* a failed connect need not be waited for */
		maintain_pool(pools[i], clients, now);
		pulse_beat(&pools[i]->pulse, &pools[i]->seg, &beat);
		segments[i] = &pools[i]->seg;
	}
	alerts_tick(alerts, now + ++ticks * UINT64_C(1000000000), 5000000); /* a second each */
	clients_tick(clients);
	control_tick(control, now);
	adopt_tick(adopt, now);
	fuzz_must(publisher_publish(publisher, SEGMENT_OPEN, segments, BED_POOLS) == 0);
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
	log_setup(LOG_LEVEL_ERROR, LOG_TO_STDERR, false, NULL);
	snprintf(folder, sizeof(folder), "%.40s/pglease-fuzz-XXXXXX", tmp != NULL ? tmp : "/tmp");
	fuzz_must(mkdtemp(folder) != NULL);
	snprintf(upstream_dir, sizeof(upstream_dir), "%s/pg", folder);
	fuzz_must(mkdir(upstream_dir, 0700) == 0);
	snprintf(conninfo, sizeof(conninfo), "host=%s user=u dbname=d sslmode=disable gssencmode=disable", upstream_dir);
	atexit(clean);
	settings_init(SETTING_INSTANCE, &instance_of);
	for (unsigned i = 0; i < BED_POOLS; i++) {
		settings_init(SETTING_POOL, &settings_of[i]);
		snprintf(settings_of[i].name, sizeof(settings_of[i].name), "%s", i == 0 ? "app" : "other");
		strcpy(settings_of[i].conninfo, conninfo);
		settings_of[i].min_connections = i == 0 ? 2 : 1;
		settings_of[i].max_connections = i == 0 ? 3 : 1;
		settings_of[i].prepared_statements = 4;
	}
}

void
bed_start(void)
{
	const struct segment *segments[BED_POOLS];
	char instance[48], name[PATHS_MAX];
	struct adopt_params adopt_params = {.context = &shared, .pools = pools, .npools = BED_POOLS, .socket_dir = folder};
	struct commands_params commands_params = {.pools = pools,
	    .npools = BED_POOLS,
	    .nall = BED_POOLS,
	    .settings = &instance_of,
	    .answer = control_answer,
	    .stop = on_stop};
	struct control_params control_params = {.pools = pools,
	    .npools = BED_POOLS,
	    .nall = BED_POOLS,
	    .passed = -1,
	    .max_clients = BED_CLIENTS + 1,
	    .instance_id = 1,
	    .instance = "fuzz",
	    .socket_dir = folder,
	    .admin_users = "",
	    .admin_groups = ""};
	struct publisher_params publisher_params = {
	    .instance = instance, .socket_dir = folder, .mode = 0600, .pools = segments, .npools = BED_POOLS};
	struct alerts_params alerts_params = {.settings = &instance_of, .pools = pools, .npools = BED_POOLS};
	const char *error;

	if (folder[0] == '\0')
		make_folder();
	shared.base = event_base_new();
	shared.attention = event_new(shared.base, -1, 0, on_attention, NULL);
	fuzz_must(shared.base != NULL && shared.attention != NULL);
	upstream_start(shared.base, upstream_dir);
	fuzz_must(hangups_new(shared.base, on_hang_up, NULL, &shared.hangups) == 0);
	fuzz_must(resolver_new(shared.base, no_lookup, &shared.resolver) == 0);
	fuzz_must(cancels_new(shared.base, on_cancel, NULL, &shared.cancels) == 0);
	for (unsigned i = 0; i < BED_POOLS; i++) {
		struct pool_params params = {.context = &shared,
		    .settings = &settings_of[i],
		    .conninfo = conninfo,
		    .instance = "fuzz",
		    .instance_id = 1,
		    .index = i,
		    .max_clients = BED_CLIENTS + 1};

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
	fuzz_must(clients_new(shared.base, pools, BED_POOLS, BED_CLIENTS + 1, &clients) == 0);
	commands_params.clients = clients;
	commands = commands_new(&commands_params);
	fuzz_must(commands != NULL);
	control_params.base = shared.base;
	control_params.commands = commands;
	adopt_params.clients = control_params.clients = clients;
	fuzz_must(adopt_new(&adopt_params, &adopt) == 0 && control_new(&control_params, &control) == 0);
	for (unsigned i = 0; i < BED_POOLS; i++) {
		atomic_store(&pools[i]->seg.header->state, SEGMENT_OPEN);
		pool_grow(pools[i], clock_ns());
	}
	for (unsigned i = 0; i < 64 && (pools[0]->connecting != 0 || pools[1]->connecting != 0); i++)
		bed_turn(1);
	fuzz_must(pools[0]->open == 2 && pools[1]->open == 1);
}

void
bed_stop(void)
{
	for (unsigned i = 0; i < BED_POOLS; i++)
		pool_stop(pools[i]);
	control_free(control);
	commands_free(commands);
	adopt_free(adopt);
	clients_free(clients);
	alerts_free(alerts);
	upstream_stop(); /* lets its cancels go */
	cancels_free(shared.cancels, 2000);
	for (unsigned i = 0; i < BED_POOLS; i++)
		pool_free(pools[i]);
	publisher_free(publisher);
	hangups_free(shared.hangups);
	resolver_free(shared.resolver);
	event_free(shared.attention);
	event_base_free(shared.base);
}

int
bed_connect(int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	fuzz_must((type == SOCK_STREAM ? paths_adopt_socket : paths_control_socket)(
		      folder, address.sun_path, sizeof(address.sun_path)) == 0);
	fuzz_must(connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0);
	return sock;
}

void
bed_check_status(void)
{
	struct wire_command command = {.verb = "status", .timeout_ms = -1};
	union {
		struct wire_result result;
		char bytes[WIRE_MAX];
	} m;
	int sock = bed_connect(SOCK_SEQPACKET);
	unsigned answers = 0;
	bool last = false;

	wire_header_init(&command.header, WIRE_COMMAND);
	fuzz_must(send(sock, &command, sizeof(command), MSG_NOSIGNAL) == sizeof(command));
	for (unsigned i = 0; i < 200 && !last; i++) {
		bed_turn(1);
		while (recv(sock, &m, sizeof(m), MSG_DONTWAIT) > 0) {
			fuzz_must(wire_is(&m, sizeof(m.result), WIRE_RESULT) && m.result.code == 0);
			answers++;
			last = m.result.more == 0;
		}
	}
	fuzz_must(last && answers == BED_POOLS + 1);
	close(sock);
	bed_turn(2);
}

void
bed_check_other_pool(void)
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

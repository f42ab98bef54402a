/* SPDX-License-Identifier: PostgreSQL */
/* The poolers that pglease is compared with. Owns their processes, folders and configurations. */
#include "peers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "measure.h"

#define START_MS 30000
#define STOP_MS 30000
#define PORT "6432"

struct peer {
	enum peer_kind kind;
	const char *program;
	struct child child;
	char folder[200], config[220], log[220], second[220], conninfo[280];
};

/* What a configuration is made of. */
struct setup {
	const char *upstream; /* folder of the PostgreSQL's socket */
	const char *folder;   /* for the peer's socket and files */
	unsigned slots, clients;
};

static void
write_pgbouncer(FILE *config, FILE *second, const struct setup *s)
{
	/* Nothing is logged or reset that costs a transaction anything. */
	fprintf(config,
	    "[databases]\n* = host=%s user=postgres\n"
	    "[pgbouncer]\nlisten_addr =\nlisten_port = " PORT "\nunix_socket_dir = %s\n"
	    "auth_type = trust\nauth_file = %s/second\n"
	    "pool_mode = transaction\ndefault_pool_size = %u\nmin_pool_size = %u\nmax_client_conn = %u\n"
	    "server_reset_query =\nserver_idle_timeout = 0\n"
	    "log_connections = 0\nlog_disconnections = 0\nlog_stats = 0\n"
	    "ignore_startup_parameters = extra_float_digits,options\n",
	    s->upstream, s->folder, s->folder, s->slots, s->slots, s->clients + 10);
	fputs("\"postgres\" \"\"\n", second);
}

static void
write_pgpool(FILE *config, FILE *second, const struct setup *s)
{
	/* One server, nothing balanced, watched or looked up; a process for each client, which keeps one connection. */
	fprintf(config,
	    "backend_clustering_mode = 'raw'\nlisten_addresses = ''\nport = " PORT "\nsocket_dir = '%s'\n"
	    "pcp_listen_addresses = ''\npcp_socket_dir = '%s'\npid_file_name = '%s/pid'\nlogdir = '%s'\n"
	    "backend_hostname0 = '%s'\nbackend_port0 = 5432\nbackend_weight0 = 1\n"
	    "num_init_children = %u\nmax_pool = 1\nchild_life_time = 0\nconnection_life_time = 0\n"
	    "connection_cache = on\nreset_query_list = ''\nenable_pool_hba = off\nload_balance_mode = off\n"
	    "check_temp_table = none\ncheck_unlogged_table = off\nhealth_check_period = 0\nsr_check_period = 0\n",
	    s->folder, s->folder, s->folder, s->folder, s->upstream, s->clients);
	fputs("", second);
}

static const struct about {
	const char *name, *program; /* a path */
	const char *variable;       /* of the environment, that names another */
	const char *only_sessions;
	const char *ready; /* the line of its log that says that it takes connections */
	int stop_signal;
	const char *args[3]; /* before the configuration's path */
	void (*write)(FILE *config, FILE *second, const struct setup *setup);
} abouts[PEERS] = {
    {"pgbouncer", "/usr/sbin/pgbouncer", "PGBOUNCER", NULL, "process up", SIGINT, {NULL}, write_pgbouncer},
    {"pgpool", "/usr/sbin/pgpool", "PGPOOL", "pools sessions: each client that stays connected has a server connection",
        "successfully started", SIGINT, {"-n", "-f", NULL}, write_pgpool},
};

const char *
peer_name(enum peer_kind kind)
{
	return abouts[kind].name;
}

static const char *
program_of(enum peer_kind kind)
{
	const char *named = getenv(abouts[kind].variable);

	return named != NULL ? named : abouts[kind].program;
}

const char *
peer_missing(enum peer_kind kind)
{
	return access(program_of(kind), X_OK) == 0 ? NULL : "not installed";
}

const char *
peer_only_sessions(enum peer_kind kind)
{
	return abouts[kind].only_sessions;
}

static void
write_files(const struct peer *peer, const struct setup *setup)
{
	FILE *config = fopen(peer->config, "we"), *second = fopen(peer->second, "we");

	if (config == NULL || second == NULL)
		measure_die(peer->config, strerror(errno));
	abouts[peer->kind].write(config, second, setup);
	if (fclose(config) != 0 || fclose(second) != 0)
		measure_die(peer->config, strerror(errno));
}

/* Of each kind, one at a time in one env. */
struct peer *
peer_start(enum peer_kind kind, pglease_test_env *env, unsigned slots, unsigned clients)
{
	const struct about *about = &abouts[kind];
	struct peer *peer = calloc(1, sizeof(*peer));
	const char *argv[8];
	struct child_user user;
	char upstream[200];
	unsigned n = 0;
	off_t offset = 0;

	if (peer == NULL || child_server_user(&user) != 0)
		measure_die(about->name, child_error());
	peer->kind = kind;
	peer->program = program_of(kind);
	snprintf(peer->folder, sizeof(peer->folder), "%s/%s", pglease_test_folder(env), about->name);
	snprintf(peer->config, sizeof(peer->config), "%s/config", peer->folder);
	snprintf(peer->second, sizeof(peer->second), "%s/second", peer->folder);
	snprintf(peer->log, sizeof(peer->log), "%s/log", peer->folder);
	snprintf(peer->conninfo, sizeof(peer->conninfo), "host=%s port=" PORT " user=postgres dbname=postgres", peer->folder);
	snprintf(upstream, sizeof(upstream), "%s/pg", pglease_test_folder(env));
	child_remove_tree(peer->folder);
	if (mkdir(peer->folder, 0700) != 0 || (user.switch_user && chown(peer->folder, user.uid, user.gid) != 0))
		measure_die(peer->folder, strerror(errno));
	write_files(peer, &(struct setup){upstream, peer->folder, slots, clients});
	argv[n++] = peer->program;
	for (unsigned i = 0; about->args[i] != NULL; i++)
		argv[n++] = about->args[i];
	argv[n++] = peer->config;
	argv[n] = NULL;
	if (child_start(argv, peer->log, &user, &peer->child) != 0 ||
	    pglease_test_watch(env, peer->child.pid, about->stop_signal) != 0 ||
	    child_await_line(peer->log, &offset, about->ready, &peer->child, START_MS) != 0)
		measure_die(about->name, child_error());
	return peer;
}

const char *
peer_conninfo(const struct peer *peer)
{
	return peer->conninfo;
}

const char *
peer_host(const struct peer *peer)
{
	return peer->folder;
}

const char *
peer_port(const struct peer *peer)
{
	(void)peer;
	return PORT;
}

pid_t
peer_pid(const struct peer *peer)
{
	return peer->child.pid;
}

void
peer_stop(struct peer *peer)
{
	int status;

	if (peer == NULL)
		return;
	if (child_signal(&peer->child, abouts[peer->kind].stop_signal) != 0 ||
	    child_wait(&peer->child, STOP_MS, &status) != 0) {
		child_signal(&peer->child, SIGKILL);
		child_wait(&peer->child, STOP_MS, &status);
	}
	child_remove_tree(peer->folder);
	free(peer);
}

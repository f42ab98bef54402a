/* SPDX-License-Identifier: PostgreSQL */
/* Environments: made, known by their names, taken away. Owns folder, name and configuration. */
#include "env_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "report.h"
#include "segment.h"
#include "template.h"

#define MEMORY_SLACK ((size_t)64 << 10) /* above what glibc keeps in its caches and counts as in use */


static struct pglease_test_env *environments;

struct pglease_test_env *
env_next(const struct pglease_test_env *env)
{
	return env == NULL ? environments : env->next;
}

const char *
pglease_test_error_message(void)
{
	return child_error();
}

const char *
pglease_test_instance(const pglease_test_env *env)
{
	return env->instance;
}

const char *
pglease_test_socket_dir(const pglease_test_env *env)
{
	return env->socket_dir;
}

const char *
pglease_test_folder(const pglease_test_env *env)
{
	return env->folder;
}

const char *
pglease_test_config(const pglease_test_env *env)
{
	return env->config;
}

const char *
pglease_test_log(const pglease_test_env *env)
{
	return env->log;
}

const char *
pglease_test_standby_conninfo(const pglease_test_env *env)
{
	return env->standby_conninfo;
}

const char *
pglease_test_conninfo(const pglease_test_env *env)
{
	return env->conninfo;
}

pid_t
pglease_test_server_pid(const pglease_test_env *env)
{
	return env->upstream.server.pid;
}

static int
make_folder(pglease_test_env *env)
{
	static _Atomic unsigned counter;
	struct child_user user;
	unsigned number;
	int r;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return child_fail(errno, "getrandom: %s", strerror(errno));
	snprintf(env->instance, sizeof(env->instance), "test-%d-%u-%08x", (int)getpid(),
	    atomic_fetch_add(&counter, 1), number);
	r = child_server_user(&user);
	if (r)
		return r;
	snprintf(env->folder, sizeof(env->folder), "%s/pglease-XXXXXX", upstream_tmpdir());
	if (mkdtemp(env->folder) == NULL)
		return child_fail(
		    errno, "cannot make a folder in %s: %s", upstream_tmpdir(), strerror(errno));
	if (user.switch_user && chown(env->folder, user.uid, user.gid))
		return child_fail(errno, "chown %s: %s", env->folder, strerror(errno));
	snprintf(env->config, sizeof(env->config), "%s/pgleased.ini", env->folder);
	snprintf(env->log, sizeof(env->log), "%s/pgleased.log", env->folder);
	snprintf(env->socket_dir, sizeof(env->socket_dir), "%s/run", env->folder);
	snprintf(env->relay_conninfo, sizeof(env->relay_conninfo), "host=%s/relay port=5432 user=postgres dbname=postgres",
	    env->folder);
	snprintf(env->tmpdir, sizeof(env->tmpdir), "%s/tmp", env->folder);
	snprintf(env->conninfo, sizeof(env->conninfo), "host=%s/pg port=5432 user=postgres dbname=postgres",
	    env->folder);
	return 0;
}

static void
write_pool(FILE *file, const char *conninfo, const pglease_test_pool *pool)
{
	fprintf(file, "\n[pool %s]\n", pool->name);
	if (pool->embedded)
		fputs("embedded = yes\n", file);
	else
		fprintf(file, "conninfo = %s\n", pool->conninfo != NULL ? pool->conninfo : conninfo);
	if (pool->max != 0)
		fprintf(file, "max_connections = %u\n", pool->max);
	if (pool->min != 0)
		fprintf(file, "min_connections = %u\n", pool->min);
	if (pool->extra != NULL)
		fprintf(file, "%s\n", pool->extra);
}

static int
write_config(const pglease_test_env *env, const pglease_test_options *options)
{
	static const pglease_test_pool app = {.name = "app"};
	FILE *file = fopen(env->config, "we");

	if (file == NULL)
		return child_fail(errno, "%s: %s", env->config, strerror(errno));
	fprintf(file, "[pglease]\ninstance = %s\nsocket_dir = %s\ndata_dir = %s/embedded\n",
	    env->instance, env->socket_dir, env->folder);
	if (options->extra != NULL)
		fprintf(file, "%s\n", options->extra);
	if (options->npools == 0)
		write_pool(file, options->relay ? env->relay_conninfo : env->conninfo, &app);
	for (unsigned i = 0; i < options->npools; i++)
		write_pool(file, options->relay ? env->relay_conninfo : env->conninfo, &options->pools[i]);
	if (fclose(file))
		return child_fail(errno, "%s: %s", env->config, strerror(errno));
	return 0;
}

/* An older program's options are shorter, a newer one's may ask for what is not known here. */
static int
take_options(const pglease_test_options *given, pglease_test_options *ret)
{
	static const pglease_test_options defaults = PGLEASE_TEST_OPTIONS_INIT;

	*ret = defaults;
	if (given == NULL)
		return 0;
	if (given->size < offsetof(pglease_test_options, setup) || given->size > sizeof(*ret))
		return child_fail(EINVAL,
		    "options.size is %zu, which no version had up to this one: begin with PGLEASE_TEST_OPTIONS_INIT, or "
		    "use the library that came with the header",
		    given->size);
	memcpy(ret, given, given->size);
	ret->size = sizeof(*ret);
	if (ret->npools > ENV_MAX_POOLS || (ret->npools > 0 && ret->pools == NULL))
		return child_fail(EINVAL, "options.npools is %u: up to %d, with pools", ret->npools, ENV_MAX_POOLS);
	for (unsigned i = 0; i < ret->npools; i++)
		if (ret->pools[i].name == NULL)
			return child_fail(EINVAL, "pool %u has no name", i);
	return 0;
}

static int
note_pools(pglease_test_env *env, const pglease_test_options *options)
{
	env->npools = options->npools > 0 ? options->npools : 1;
	for (unsigned i = 0; i < env->npools; i++) {
		env->pool_name[i] = strdup(options->npools > 0 ? options->pools[i].name : "app");
		if (env->pool_name[i] == NULL)
			return child_fail(ENOMEM, "out of memory");
		env->own_conninfo |= options->npools > 0 && options->pools[i].conninfo != NULL;
	}
	return 0;
}

static int
start_server(pglease_test_env *env, const pglease_test_options *options)
{
	int r = upstream_create(env->folder, options->setup, &env->guardian, &env->upstream);

	if (r)
		return r;
	env->has_upstream = true;
	env->upstream.replication = options->replication;
	snprintf(env->upstream.listen, sizeof(env->upstream.listen), "%s", options->listen != NULL ? options->listen : "");
	return upstream_start(&env->upstream, &env->guardian);
}

static int
start_relay(pglease_test_env *env)
{
	char folder[UPSTREAM_PATH + 16];

	snprintf(folder, sizeof(folder), "%s/relay", env->folder);
	return relay_start(folder, env->upstream.socket_dir, &env->guardian, &env->relay);
}

int
pglease_test_env_new(const pglease_test_options *given, pglease_test_env **ret_env)
{
	pglease_test_env *env = calloc(1, sizeof(*env));
	pglease_test_options options;
	int r;

	if (env == NULL)
		return child_fail(ENOMEM, "out of memory");
	env->next = environments;
	environments = env;
	env->owner = getpid();
	env->memory_slack = MEMORY_SLACK;
	env->relay.control = -1;
	env->broker.pidfd = env->upstream.server.pidfd = env->standby.server.pidfd = -1;
	r = take_options(given, &options);
	if (r == 0)
		r = environ_note_foreign(env);
	if (r == 0)
		r = note_pools(env, &options);
	if (r == 0 && !options.no_leak_check)
		r = report_init(env);
	if (r == 0)
		r = make_folder(env);
	if (r == 0)
		r = guardian_start(env->folder, env->instance, &env->guardian);
	if (r == 0)
		r = write_config(env, &options);
	if (r == 0 && !options.no_server)
		r = start_server(env, &options);
	if (r == 0 && options.relay && !options.no_server)
		r = start_relay(env);
	if (r == 0)
		r = environ_set(env, "PGLEASE_INSTANCE", env->instance);
	if (r == 0)
		r = environ_set(env, "PGLEASE_SOCKET_DIR", env->socket_dir);
	if (r == 0 && options.memory_slack != 0)
		env->memory_slack = options.memory_slack;
	if (r == 0 && !options.no_broker)
		r = pglease_test_broker_start(env);
	if (r == 0 && !options.no_leak_check)
		r = pglease_test_mark(env);
	if (r) {
		char reason[4096];

		snprintf(reason, sizeof(reason), "%s", child_error());
		pglease_test_env_free(env);
		return child_fail(-r, "%s", reason);
	}
	*ret_env = env;
	return 0;
}

int
pglease_test_client(pglease_test_env *env, pglease **ret_client)
{
	pglease_options options = PGLEASE_OPTIONS_INIT;
	int r;

	if (env->client == NULL) {
		options.socket_dir = env->socket_dir;
		r = pglease_attach(env->instance, &options, &env->client);
		if (r)
			return child_fail(ECONNREFUSED, "%s", pglease_error_message());
	}
	*ret_client = env->client;
	return 0;
}

int
pglease_test_pool_open(pglease_test_env *env, const char *name, pglease_pool **ret_pool)
{
	pglease *client;
	int r = pglease_test_client(env, &client);

	if (r == 0 && pglease_pool_open(client, name, ret_pool) != 0)
		r = child_fail(ENOENT, "%s", pglease_error_message());
	return r;
}

void
pglease_test_client_end(pglease_test_env *env)
{
	pglease_detach(env->client);
	env->client = NULL;
}

static void
free_env(pglease_test_env *env)
{
	for (pglease_test_env **at = &environments; *at != NULL; at = &(*at)->next) {
		if (*at == env) {
			*at = env->next;
			break;
		}
	}
	for (unsigned i = 0; i < env->npools; i++)
		free(env->pool_name[i]);
	report_fini(env);
	environ_free_foreign(env);
	free(env);
}

/* The server's data is nobody's any more, but the next environment's. */
static int
end_servers(pglease_test_env *env)
{
	int r = upstream_quit(&env->standby);

	if (r == 0 && env->has_upstream)
		r = upstream_quit(&env->upstream);
	if (r == 0 && env->has_upstream && child_working_in(env->folder) == 0)
		template_give_back(&env->upstream);
	return r;
}

/* Ends the environment's own client between the two parts: what it keeps is no leak, what it cannot let go of is. */
static int
report_and_detach(pglease_test_env *env, char *reason, size_t size)
{
	bool wanted = env->marked != NULL && env->marked_by == env->owner;
	int r = wanted ? report_take(env, REPORT_BEGIN | REPORT_POOLS) : 0;

	pglease_test_client_end(env);
	if (r == 0 && wanted)
		r = report_take(env, REPORT_PROCESS);
	if (r) {
		snprintf(reason, size, "%s", child_error());
	} else if (report_count(env) > 0) {
		r = -ENOTEMPTY;
		snprintf(reason, size, "leaked: ");
		report_text(env, reason + strlen(reason), size - strlen(reason));
	}
	return r;
}

int
pglease_test_env_free(pglease_test_env *env)
{
	char reason[4096] = "";
	int r, also;

	if (env == NULL)
		return 0;
	if (env->owner != getpid()) {
		if (env->guardian.pid != 0)
			close(env->guardian.sock);
		if (env->relay.control >= 0)
			close(env->relay.control);
		free_env(env);
		return 0;
	}
	faults_end(env);
	r = report_and_detach(env, reason, sizeof(reason));
	if (env->broker.pid != 0) {
		also = pglease_test_broker_stop(env);
		if (env->broker.pid != 0)
			pglease_test_broker_kill(env);
		if (also && r == 0)
			snprintf(reason, sizeof(reason), "%s",
			    also == -ETIMEDOUT ? "pgleased did not stop" : child_error());
		r = r ? r : also;
	}
	relay_stop(&env->relay);
	also = end_servers(env);
	if (also && r == 0) {
		r = also;
		snprintf(reason, sizeof(reason), "%s", child_error());
	}
	if (env->guardian.pid != 0)
		guardian_clean_up(&env->guardian);
	environ_restore(env);
	free_env(env);
	return r ? child_fail(-r, "%s", reason) : 0;
}

int
pglease_test_server_start(pglease_test_env *env)
{
	return upstream_start(&env->upstream, &env->guardian);
}

int
pglease_test_standby_start(pglease_test_env *env)
{
	int r = upstream_standby(&env->upstream, env->folder, &env->standby);

	if (r)
		return r;
	snprintf(env->standby_conninfo, sizeof(env->standby_conninfo),
	    "host=%s port=5432 user=postgres dbname=postgres", env->standby.socket_dir);
	return upstream_start(&env->standby, &env->guardian);
}

int
pglease_test_server_stop(pglease_test_env *env)
{
	return upstream_stop(&env->upstream);
}

int
pglease_test_watch(const pglease_test_env *env, pid_t pid, int sig)
{
	return guardian_watch(&env->guardian, pid, sig);
}

int
pglease_test_await(int (*condition)(void *context), void *context, int timeout_ms)
{
	static const struct timespec step = {.tv_nsec = 5000000};
	uint64_t start = clock_ns();

	while (!condition(context)) {
		if (clock_ns() - start >= (uint64_t)timeout_ms * UINT64_C(1000000))
			return child_fail(ETIMEDOUT, "what was awaited did not come within %d ms", timeout_ms);
		nanosleep(&step, NULL);
	}
	return 0;
}

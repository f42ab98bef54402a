/* SPDX-License-Identifier: PostgreSQL */
/* A real Prometheus scrapes the broker: it finds the target up, and stores what was counted. And promtool has no complaint. */
#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "it.h"
#include "web.h"

#define LEASES 37
#define PATIENCE_TRIES 600
#define PATIENCE_STEP_MS 50

/* One that was free a moment ago. */
static in_port_t
free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void
write_config(const char *path, const char *target, const char *protocols)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fprintf(f, "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: pglease\n%s"
		   "    static_configs:\n      - targets: ['%s']\n",
	    protocols, target);
	ck_assert_int_eq(fclose(f), 0);
}

/* The value of an instant query that gives one series; false when it gives none. */
static bool
query(const char *where, const char *promql, double *ret)
{
	char path[512];
	struct web_answer answer;
	json_error_t error;
	json_t *document, *result;
	bool found;

	snprintf(path, sizeof(path), "/api/v1/query?query=%s", promql);
	web_get(where, path, "Connection: close\r\n", &answer);
	if (answer.status != 200) { /* it starts */
		web_free(&answer);
		return false;
	}
	document = json_loadb(answer.body, answer.body_length, 0, &error);
	ck_assert_msg(document != NULL, "%s: %s", error.text, answer.text);
	result = json_object_get(json_object_get(document, "data"), "result");
	found = json_array_size(result) == 1;
	if (found)
		*ret = atof(json_string_value(
		    json_array_get(json_object_get(json_array_get(result, 0), "value"), 1)));
	json_decref(document);
	web_free(&answer);
	return found;
}

static void
await_value(const char *where, const char *promql, double wanted)
{
	double value = -1;

	for (unsigned i = 0; i < PATIENCE_TRIES; i++) {
		if (query(where, promql, &value) && value == wanted)
			return;
		poll(NULL, 0, PATIENCE_STEP_MS);
	}
	ck_abort_msg("%s is %g, not %g", promql, value, wanted);
}

static void
await_line(const char *log, const struct child *process)
{
	off_t offset = 0;

	ck_assert_msg(
	    child_await_line(log, &offset, "Server is ready", process, 30000) == 0, "%s: %s", log, child_error());
}

START_TEST(prometheus_scrapes)
{
	char config[256], data[256], log[256], listen[96], where[64], promql[256], config_arg[300], data_arg[300];
	const char *const args[] = {PROMETHEUS, config_arg, data_arg, listen, "--log.level=info", NULL};
	struct child prometheus;
	pglease_pool *pool;
	pglease_lease lease;
	unsigned port = free_port();
	int status;

	it_start_as("http_listen = 127.0.0.1:0\n", NULL, 2);
	pool = it_attach();
	for (unsigned i = 0; i < LEASES; i++) {
		it_acquire(pool, &lease);
		it_release(&lease);
	}
	snprintf(config, sizeof(config), "%s/prometheus.yml", pglease_test_folder(it_env));
	snprintf(config_arg, sizeof(config_arg), "--config.file=%s", config);
	snprintf(data, sizeof(data), "%s/prometheus", pglease_test_folder(it_env));
	snprintf(data_arg, sizeof(data_arg), "--storage.tsdb.path=%s", data);
	snprintf(log, sizeof(log), "%s/prometheus.log", pglease_test_folder(it_env));
	snprintf(where, sizeof(where), "127.0.0.1:%u", port);
	snprintf(listen, sizeof(listen), "--web.listen-address=%s", where);
	write_config(config, web_of_broker(), "");
	ck_assert_msg(child_start(args, log, NULL, &prometheus) == 0, "%s", child_error());
	ck_assert_int_eq(pglease_test_watch(it_env, prometheus.pid, SIGKILL), 0);
	await_line(log, &prometheus);

	await_value(where, "up%7Bjob=%22pglease%22%7D", 1);
	snprintf(promql, sizeof(promql), "pglease_leases_total%%7Bpool=%%22app%%22,how=%%22immediate%%22%%7D");
	await_value(where, promql, LEASES);
	snprintf(promql, sizeof(promql), "pglease_up%%7Bpglease_instance=%%22%s%%22%%7D", pglease_test_instance(it_env));
	await_value(where, promql, 1);
	await_value(where, "db_client_connection_count%7Bdb_client_connection_state=%22idle%22%7D", 1);
	await_value(where, "db_client_connection_wait_time_seconds_count%7Bdb_client_connection_pool_name=%22app%22%7D", LEASES);
	await_value(where, "db_client_connection_wait_time_seconds_bucket%7Ble=%221.0%22%7D", LEASES);
	/* A scrape that Prometheus cannot read is one that is not up. */
	await_value(where, "min_over_time(up%5B1m%5D)", 1);

	ck_assert_int_eq(child_signal(&prometheus, SIGTERM), 0);
	ck_assert_int_eq(child_wait(&prometheus, 30000, &status), 0);
}
END_TEST

/* promtool lints what is served, and what pgleasestat writes for the node exporter. */
START_TEST(promtool_has_no_complaint)
{
	char command[1024];
	pglease_pool *pool;
	pglease_lease lease;
	struct web_answer answer;
	FILE *promtool;

	it_start_as("http_listen = 127.0.0.1:0\n", NULL, 2);
	pool = it_attach();
	it_acquire(pool, &lease);
	it_release(&lease);
	it_await_published("app", "leases_immediate", 1);

	web_get(web_of_broker(), "/metrics", "", &answer);
	promtool = popen(PROMTOOL " check metrics 2>&1", "w");
	ck_assert_ptr_nonnull(promtool);
	ck_assert_uint_eq(fwrite(answer.body, 1, answer.body_length, promtool), answer.body_length);
	ck_assert_int_eq(pclose(promtool), 0);
	web_free(&answer);
	snprintf(command, sizeof(command), "'%s/pgleasestat' -n %s --prometheus | " PROMTOOL " check metrics", getenv("PGLEASE_BUILDDIR"),
	    pglease_test_instance(it_env));
	ck_assert_int_eq(system(command), 0);
	/* And it would have one. */
	promtool = popen(PROMTOOL " check metrics >/dev/null 2>&1", "w");
	ck_assert_ptr_nonnull(promtool);
	fputs("# TYPE a_total gauge\na_total 1\n", promtool);
	ck_assert_int_ne(pclose(promtool), 0);
}
END_TEST

IT_MAIN("Prometheus", prometheus_scrapes, promtool_has_no_complaint)

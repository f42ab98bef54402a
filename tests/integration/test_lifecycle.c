/* SPDX-License-Identifier: PostgreSQL */
/* The life of server connections, by each setting that has a say in it, on a real server. */
#include "it.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A loopback address of this test's own, so that PostgreSQL's usual port is free on it. */
static const char *
own_address(void)
{
	static char text[32];

	snprintf(text, sizeof(text), "127.%d.%d.%d", 64 + (getpid() >> 14) % 64, (getpid() >> 7) % 128 + 1,
	    getpid() % 128 + 1);
	return text;
}

/* A pool `app` of which the test writes all lines; the server runs before. */
static void
start_app(const char *listen, const char *pool)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.no_broker = true, .listen = listen);
	FILE *f;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	f = fopen(pglease_test_config(it_env), "w");
	ck_assert_ptr_nonnull(f);
	fprintf(f, "[pglease]\ninstance = %s\nsocket_dir = %s\ndata_dir = %s/embedded\nlog_level = debug\n[pool app]\n%s\n",
	    pglease_test_instance(it_env), pglease_test_socket_dir(it_env), pglease_test_folder(it_env), pool);
	ck_assert_int_eq(fclose(f), 0);
}

/* The conninfo of the environment's server, for a configuration that is written before the environment is there. */
#define CONNINFO "@"

static void
start_broker(void)
{
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
}

/* Puts the environment's conninfo in the place of CONNINFO. */
static void
fill_conninfo(void)
{
	char text[4096], *at;
	FILE *f = fopen(pglease_test_config(it_env), "r");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	at = strstr(text, CONNINFO);
	ck_assert_ptr_nonnull(at);
	f = fopen(pglease_test_config(it_env), "w");
	fprintf(f, "%.*s%s%s", (int)(at - text), text, pglease_test_conninfo(it_env), at + strlen(CONNINFO));
	ck_assert_int_eq(fclose(f), 0);
}

static const char *
setting(PGconn *conn, const char *what, const char *name)
{
	char sql[128];

	snprintf(sql, sizeof(sql), "select %s from pg_settings where name = '%s'", what, name);
	return it_query(conn, sql);
}

static void
check_limits(PGconn *conn)
{
	ck_assert_str_eq(setting(conn, "setting", "statement_timeout"), "90000");
	ck_assert_str_eq(setting(conn, "setting", "idle_in_transaction_session_timeout"), "300000");
	ck_assert_str_eq(setting(conn, "setting", "lock_timeout"), "2"); /* a part of a unit is a unit */
	ck_assert_str_eq(setting(conn, "source", "statement_timeout"), "client");
	ck_assert_str_eq(setting(conn, "setting", "work_mem"), "3072");
}

static void
lease_and_check_limits(int socket, const void *arg)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;

	check_limits(it_acquire(pool, &lease));
	it_release(&lease);
}

START_TEST(limits_are_the_sessions_own_defaults)
{
	struct it_worker worker;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	int pid;

	start_app(NULL,
	    "max_connections = 1\nconninfo = " CONNINFO " options='-c work_mem=3MB'\n"
	    "statement_timeout = 90s\nidle_in_transaction_session_timeout = 5 min\nlock_timeout = 1500us\n");
	fill_conninfo();
	start_broker();
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	check_limits(conn);
	it_query(conn, "set statement_timeout = 0");
	it_query(conn, "set work_mem = '1MB'");
	pid = PQbackendPID(conn);
	it_release(&lease);
	worker = it_worker(lease_and_check_limits, NULL);
	it_join(&worker);
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQbackendPID(conn), pid);
	it_release(&lease);
}
END_TEST

START_TEST(limits_that_are_not_set_are_the_servers)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	it_start(1, 1, NULL);
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(setting(conn, "source", "statement_timeout"), "default");
	ck_assert_str_eq(setting(conn, "source", "idle_in_transaction_session_timeout"), "default");
	ck_assert_str_eq(setting(conn, "source", "lock_timeout"), "default");
	it_release(&lease);
}
END_TEST

START_TEST(a_service_file_says_where_and_with_what)
{
	pglease_pool *pool;
	pglease_lease lease;
	char path[300];
	PGconn *conn;
	FILE *f;

	start_app(NULL, "max_connections = 1\nconninfo = service=here\nstatement_timeout = 90s\n"
	                "idle_in_transaction_session_timeout = 5min\nlock_timeout = 2ms\n");
	snprintf(path, sizeof(path), "%s/service", pglease_test_folder(it_env));
	f = fopen(path, "w");
	fprintf(f, "[here]\nhost=%s/pg\nuser=postgres\ndbname=template1\noptions=-c work_mem=3MB\n",
	    pglease_test_folder(it_env));
	ck_assert_int_eq(fclose(f), 0);
	setenv("PGSERVICEFILE", path, 1);
	start_broker();
	unsetenv("PGSERVICEFILE");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	check_limits(conn);
	ck_assert_str_eq(it_query(conn, "select current_database()"), "template1");
	ck_assert_str_eq(PQdb(conn), "template1");
	it_release(&lease);
}
END_TEST

START_TEST(tcp_settings_are_the_sockets)
{
	static const struct {
		int option, value;
	} expected[] = {{TCP_KEEPIDLE, 77}, {TCP_KEEPINTVL, 11}, {TCP_KEEPCNT, 5}, {TCP_USER_TIMEOUT, 4321}};
	char text[400];
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	snprintf(text, sizeof(text),
	    "conninfo = host=%s user=postgres dbname=postgres\ntcp_keepalives_idle = 76001ms\n"
	    "tcp_keepalives_interval = 11s\ntcp_keepalives_count = 5\n"
	    "tcp_user_timeout = 4321ms\n",
	    own_address());
	start_app(own_address(), text);
	start_broker();
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		int value = 0;
		socklen_t size = sizeof(value);

		ck_assert_int_eq(
		    getsockopt(PQsocket(conn), IPPROTO_TCP, expected[i].option, &value, &size), 0);
		ck_assert_int_eq(value, expected[i].value);
	}
	it_release(&lease);
}
END_TEST

START_TEST(names_of_hosts_are_looked_up_and_the_next_one_tried)
{
	char text[400];
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	/* Nobody listens at the first; the second is a Unix socket without a server; the third is the server's. */
	snprintf(text, sizeof(text),
	    "conninfo = host=localhost,/nonexistent,%s port=1,2,5432 user=postgres dbname=postgres",
	    own_address());
	start_app(own_address(), text);
	start_broker();
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	ck_assert_str_eq(it_query(conn, "select host(inet_server_addr())"), own_address());
	it_release(&lease);
	ck_assert_uint_eq(it_published("app", "open_failed"), 0);
}
END_TEST

START_TEST(a_name_that_nobody_knows_is_told)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	start_app(NULL, "connect_timeout = 1min\nconninfo = host=no-such-host.invalid user=u dbname=d");
	start_broker();
	it_await_published("app", "open_failed", 1);
	pool = it_attach();
	ck_assert_int_eq(pglease_acquire(pool, 0, &lease, &conn), PGLEASE_EUPSTREAM);
	ck_assert_msg(
	    strstr(pglease_error_message(), "cannot look up host \"no-such-host.invalid\": ") != NULL, "%s",
	    pglease_error_message());
}
END_TEST

START_TEST(an_encrypted_connection_is_refused_with_the_remedy)
{
	char text[400], command[700], *data = text;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	/* sslmode=prefer: what is not refused before the server has been asked (sslmode=require: test_config). */
	snprintf(text, sizeof(text), "conninfo = host=%s user=postgres dbname=postgres sslmode=prefer\n",
	    own_address());
	start_app(own_address(), text);
	snprintf(command, sizeof(command),
	    "cd %s/data && openssl req -new -x509 -days 2 -nodes -subj /CN=test -keyout server.key -out "
	    "server.crt"
	    " 2>openssl.log && chmod 600 server.key && chown --reference=. server.key server.crt",
	    pglease_test_folder(it_env));
	ck_assert_int_eq(system(command), 0);
	ck_assert_int_eq(pglease_test_sql(it_env, "alter system set ssl = on", NULL, 0), 0);
	ck_assert_int_eq(pglease_test_server_stop(it_env), 0);
	ck_assert_int_eq(pglease_test_server_start(it_env), 0);
	ck_assert_int_eq(pglease_test_sql(it_env, "show ssl", data, sizeof(text)), 0);
	ck_assert_str_eq(data, "on");
	start_broker();
	pool = it_attach();
	ck_assert_int_eq(pglease_acquire(pool, 0, &lease, &conn), PGLEASE_EUPSTREAM);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "encrypted (TLS or GSS)"));
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "sslmode=disable"));
}
END_TEST

START_TEST(idle_connections_are_kept_alive)
{
	static const pglease_test_pool pools[] = {
	    {.name = "app", .min = 1, .max = 1, .extra = "keepalive = 20ms"},
	    {.name = "off", .min = 1, .max = 1, .extra = "keepalive = 0"},
	};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2);
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	uint64_t n;
	int pid;

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	it_await_published("app", "keepalives", 3);
	ck_assert_uint_eq(it_published("app", "broker_resets"), 0);
	/* A session that was used is reset on this occasion. */
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	pid = PQbackendPID(conn);
	it_query(conn, "set work_mem = '1MB'");
	it_release(&lease);
	it_await_published("app", "broker_resets", 1);
	n = it_published("app", "keepalives");
	it_await_published("app", "keepalives", n + 2);
	ck_assert_uint_eq(it_published("app", "broker_resets"), 1);
	conn = it_acquire(pool, &lease);
	ck_assert_int_eq(PQbackendPID(conn), pid);
	ck_assert_str_ne(it_query(conn, "show work_mem"), "1MB");
	it_release(&lease);
	ck_assert_uint_eq(it_published("off", "keepalives"), 0);
	ck_assert_uint_eq(it_published("app", "opened"), 1);
}
END_TEST

START_TEST(a_server_that_does_not_answer_its_keepalive_is_replaced)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	int pid;

	it_start(1, 1, "keepalive = 50ms\nreset_timeout = 1s\nreset_after = 0\n");
	pool = it_attach();
	conn = it_acquire(pool, &lease);
	pid = PQbackendPID(conn);
	it_release(&lease);
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	ck_assert_msg(
	    pglease_test_await_log(it_env, "its keepalive failed", 30000) == 0, "%s", pglease_test_error_message());
	conn = it_acquire(pool, &lease);
	ck_assert_int_ne(PQbackendPID(conn), pid);
	it_release(&lease);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
}
END_TEST

START_TEST(a_keepalive_is_no_use)
{
	pglease_pool *pool;
	pglease_lease lease[3];

	it_start(1, 3, "keepalive = 20ms\nidle_timeout = 700ms\n");
	pool = it_attach();
	for (unsigned i = 0; i < 3; i++)
		it_acquire(pool, &lease[i]);
	for (unsigned i = 0; i < 3; i++)
		it_release(&lease[i]);
	it_await_published("app", "closed_idle", 2);
	ck_assert_uint_gt(it_published("app", "keepalives"), 0);
	ck_assert_uint_eq(it_published("app", "total"), 1);
}
END_TEST

static atomic_bool enough;
static atomic_uint wrong;

static void *
stay_busy(void *arg)
{
	while (!atomic_load(&enough)) {
		pglease_lease lease;
		PGresult *result;
		PGconn *conn;

		if (pglease_acquire(arg, 20000, &lease, &conn) != 0) {
			atomic_fetch_add(&wrong, 1);
			break;
		}
		result = PQexec(conn, "select 1");
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			atomic_fetch_add(&wrong, 1);
		PQclear(result);
		if (pglease_release(&lease) != 0)
			atomic_fetch_add(&wrong, 1);
	}
	return NULL;
}

START_TEST(a_busy_pool_ages_too)
{
	pthread_t thread[3];
	pglease_pool *pool;

	it_start(1, 1, "max_lifetime = 200ms\n");
	pool = it_attach();
	/* Never idle: whoever releases has two who wait. */
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, stay_busy, pool), 0);
	it_await_published("app", "closed_lifetime", 3);
	atomic_store(&enough, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(atomic_load(&wrong), 0);
}
END_TEST

START_TEST(idle_connections_age)
{
	it_start(2, 2, "max_lifetime = 200ms\nkeepalive = 0\nconnects_at_once = 1\n");
	it_await_published("app", "closed_lifetime", 4);
	it_await_published("app", "opened", 6);
}
END_TEST

START_TEST(a_server_that_is_down_is_asked_as_often_as_the_pool_says)
{
	pglease_pool *pool;
	pglease_lease lease;

	it_start(1, 1, "retry_min = 1ms\nretry_max = 5ms\n");
	pool = it_attach();
	ck_assert_int_eq(pglease_test_server_stop(it_env), 0);
	/* With the default back-off this many would take minutes: the tries of it_await_published would not last. */
	it_await_published("app", "open_failed", 20);
	ck_assert_int_eq(pglease_test_server_start(it_env), 0);
	it_acquire(pool, &lease);
	it_release(&lease);
}
END_TEST

IT_MAIN("lifecycle", limits_are_the_sessions_own_defaults, limits_that_are_not_set_are_the_servers,
    a_service_file_says_where_and_with_what, tcp_settings_are_the_sockets,
    names_of_hosts_are_looked_up_and_the_next_one_tried, a_name_that_nobody_knows_is_told,
    an_encrypted_connection_is_refused_with_the_remedy, idle_connections_are_kept_alive,
    a_server_that_does_not_answer_its_keepalive_is_replaced, a_keepalive_is_no_use, a_busy_pool_ages_too,
    idle_connections_age, a_server_that_is_down_is_asked_as_often_as_the_pool_says)

/* SPDX-License-Identifier: PostgreSQL */
/*
 * Who may use a pool, command the broker and read its statistics: with real users and groups, so this must run as root.
 * And where a server's password goes: nowhere.
 */
#include "it.h"

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "dial.h"
#include "users.h"

/* Two pools on the environment's server, reachable for all users. */
static void
start(const char *instance_extra, const char *app_extra, const char *other_extra)
{
	pglease_test_pool pools[] = {
	    {.name = "app", .min = 1, .max = 1, .extra = app_extra},
	    {.name = "other", .min = 1, .max = 1, .extra = other_extra},
	};
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2, .extra = instance_extra);

	users_need_root();
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_int_eq(chmod(pglease_test_folder(it_env), 0711), 0);
}

/* 0, or the code with which pool `argument` was refused. */
static int
use_pool(const void *argument)
{
	pglease_pool *pool;
	pglease *client;
	pglease_lease lease;
	PGconn *conn;
	int r;

	if ((r = pglease_attach(NULL, NULL, &client)) != 0)
		return r;
	if ((r = pglease_pool_open(client, argument, &pool)) == 0 &&
	    (r = pglease_acquire(pool, 20000, &lease, &conn)) == 0) {
		ck_assert_str_eq(it_query(conn, "select 7"), "7");
		r = pglease_release(&lease);
	}
	if (r == PGLEASE_EPERM) {
		ck_assert_ptr_nonnull(strstr(pglease_error_message(), argument));
		ck_assert_ptr_nonnull(strstr(pglease_error_message(), "`users` or `groups`"));
	}
	pglease_detach(client);
	return r;
}

/* May he attach at all, were it only to be told? */
static int
attach(const void *argument)
{
	pglease *client;
	int r = pglease_attach(NULL, NULL, &client);

	if (r == 0)
		pglease_detach(client);
	return r;
}

static const struct who alice = {ALICE, OTHERS, 0}, bob = {BOB, OTHERS, 0};
static const struct who alice_of_crew = {ALICE, OTHERS, CREW}, bob_of_crew = {BOB, CREW, 0};
static const struct who root = {0, 0, 0};

START_TEST(a_pool_is_the_brokers_own_by_default)
{
	start(NULL, NULL, NULL);
	ck_assert_int_eq(users_as(root, use_pool, "app"), 0);
	ck_assert_int_eq(users_as(alice, attach, NULL), PGLEASE_EPERM);
	ck_assert_int_eq(users_as(bob_of_crew, attach, NULL), PGLEASE_EPERM);
}
END_TEST

START_TEST(users_are_let_in_pool_by_pool)
{
	start(NULL, "users = 54321, daemon", NULL);
	ck_assert_int_eq(users_as(alice, use_pool, "app"), 0);
	ck_assert_int_eq(users_as((struct who){1, OTHERS, 0}, use_pool, "app"), 0);
	ck_assert_int_eq(users_as(alice, use_pool, "other"), PGLEASE_EPERM);
	ck_assert_int_eq(users_as(bob, attach, NULL), PGLEASE_EPERM);
	ck_assert_int_eq(users_as(root, use_pool, "other"), 0);
}
END_TEST

START_TEST(groups_are_let_in_first_and_supplementary)
{
	start(NULL, "groups = 54331", "users = *");
	ck_assert_int_eq(users_as(alice_of_crew, use_pool, "app"), 0);
	ck_assert_int_eq(users_as(bob_of_crew, use_pool, "app"), 0);
	ck_assert_int_eq(users_as(alice, use_pool, "app"), PGLEASE_EPERM);
	/* Everybody. */
	ck_assert_int_eq(users_as(alice, use_pool, "other"), 0);
	ck_assert_int_eq(users_as((struct who){65534, 65534, 0}, use_pool, "other"), 0);
}
END_TEST

static int
read_stats(const void *argument)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/pglease.%s", pglease_test_instance(it_env));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return PGLEASE_EPERM;
	close(fd);
	return 0;
}

START_TEST(statistics_are_read_by_whom_the_mode_and_the_group_let)
{
	struct stat st;
	char path[128];

	start("stats_mode = 0640\nmonitor_group = 54331", NULL, NULL);
	snprintf(path, sizeof(path), "/dev/shm/pglease.%s", pglease_test_instance(it_env));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_gid, CREW);
	ck_assert_uint_eq(st.st_mode & 07777, 0640);
	ck_assert_int_eq(users_as(bob_of_crew, read_stats, NULL), 0);
	ck_assert_int_eq(users_as(alice_of_crew, read_stats, NULL), 0);
	ck_assert_int_eq(users_as(alice, read_stats, NULL), PGLEASE_EPERM);
}
END_TEST

START_TEST(by_default_everybody_reads_statistics)
{
	start(NULL, NULL, NULL);
	ck_assert_int_eq(users_as(alice, read_stats, NULL), 0);
}
END_TEST

/* The code of the broker's answer to a command. */
static int
command(const void *argument)
{
	char dir[PATHS_MAX], tried[DIAL_TRIED];
	struct wire_result result;
	int sock;

	ck_assert_msg(
	    dial_broker(pglease_test_instance(it_env), pglease_test_socket_dir(it_env), dir, &sock, tried) == 0,
	    "%s", tried);
	ck_assert_int_eq(command_ask(sock, argument, "", -1, 0, NULL, NULL, &result), 0);
	close(sock);
	return result.code;
}

START_TEST(commands_are_for_administrators)
{
	start("admin_users = 54321\nadmin_groups = 54331", "users = *", NULL);
	ck_assert_int_eq(users_as(root, command, "status"), 0);
	ck_assert_int_eq(users_as(alice, command, "status"), 0);
	ck_assert_int_eq(users_as(bob_of_crew, command, "status"), 0);
	ck_assert_int_eq(users_as(bob, command, "status"), PGLEASE_EPERM);
}
END_TEST

START_TEST(commands_are_not_for_users_of_pools)
{
	start(NULL, "users = *", NULL);
	ck_assert_int_eq(users_as(root, command, "status"), 0);
	ck_assert_int_eq(users_as(alice, command, "status"), PGLEASE_EPERM);
}
END_TEST

#define PASSWORD "hunter2-Tr0ub4dor"

/* What others can get hold of: the password is nowhere in it. That something else is shows that this looks. */
static void
search(const char *path, const char *what, const char *there)
{
	char *text;
	size_t used = 0, size = 1 << 26;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0, "%s", path);
	text = malloc(size);
	ck_assert_ptr_nonnull(text);
	while (used < size && (n = read(fd, text + used, size - used)) > 0)
		used += (size_t)n;
	close(fd);
	ck_assert_msg(used > 0 && used < size, "%s: %zu bytes read", what, used);
	ck_assert_msg(memmem(text, used, PASSWORD, strlen(PASSWORD)) == NULL, "the password is in %s", what);
	ck_assert_msg(memmem(text, used, there, strlen(there)) != NULL, "no \"%s\" in %s", there, what);
	free(text);
}

static void
search_everything(void)
{
	pid_t broker = pglease_test_broker_pid(it_env);
	char path[320], link[64];
	unsigned segments = 0;
	struct dirent *entry;
	DIR *fds;

	search(pglease_test_log(it_env), "the log", "pool app");
	snprintf(path, sizeof(path), "/dev/shm/pglease.%s", pglease_test_instance(it_env));
	search(path, "the statistics", "app");
	snprintf(path, sizeof(path), "/proc/%d/cmdline", broker);
	search(path, "the argument list", "pgleased");
	snprintf(path, sizeof(path), "/proc/%d/fd", broker);
	fds = opendir(path);
	ck_assert_ptr_nonnull(fds);
	while ((entry = readdir(fds)) != NULL) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", broker, entry->d_name);
		n = readlink(path, link, sizeof(link) - 1);
		if (n <= 0)
			continue;
		link[n] = '\0';
		if (strncmp(link, "/memfd:", 7) != 0)
			continue;
		segments++;
		search(path, "a lease segment", "app");
	}
	closedir(fds);
	ck_assert_uint_ge(segments, 1);
}

static void
write_file(const char *name, const char *text, mode_t mode)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", pglease_test_folder(it_env), name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

/* A server that lets user `app` in with a method, and a broker whose pool has this conninfo beside host and user. */
/* For the broker; NULL: none. What is set before the environment is made is not for it. */
static const char *service_file;

static void
start_with_method(const char *hba, const char *conninfo)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.no_broker = true);
	char text[1200];

	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_int_eq(
	    pglease_test_sql(it_env,
	        "set password_encryption = 'scram-sha-256'; create role app login password '" PASSWORD "'; "
	        "create role md5app login",
	        NULL, 0),
	    0);
	ck_assert_int_eq(
	    pglease_test_sql(it_env,
	        "set password_encryption = 'md5'; alter role md5app password '" PASSWORD "'", NULL, 0),
	    0);
	snprintf(text, sizeof(text), "local all postgres trust\n%s\n", hba);
	write_file("data/pg_hba.conf", text, 0644);
	snprintf(text, sizeof(text), "m %s app\n", getpwuid(geteuid())->pw_name);
	write_file("data/pg_ident.conf", text, 0644);
	/* Not by a reload, of which nobody can tell when it is over. */
	ck_assert_msg(pglease_test_server_stop(it_env) == 0, "%s", pglease_test_error_message());
	ck_assert_msg(pglease_test_server_start(it_env) == 0, "%s", pglease_test_error_message());
	snprintf(text, sizeof(text),
	    "[pglease]\ninstance = %s\nsocket_dir = %s\ndata_dir = %s/embedded\nlog_level = debug\n[pool app]\n"
	    "max_connections = 1\nconninfo = host=%s/pg dbname=postgres %s\n",
	    pglease_test_instance(it_env), pglease_test_socket_dir(it_env), pglease_test_folder(it_env),
	    pglease_test_folder(it_env), conninfo);
	write_file("pgleased.ini", text, 0600);
	if (service_file != NULL)
		setenv("PGSERVICEFILE", service_file, 1);
	ck_assert_msg(pglease_test_broker_start(it_env) == 0, "%s", pglease_test_error_message());
}

static void
lease_as(const char *user)
{
	pglease_pool *pool = it_attach();
	pglease_lease lease;
	PGconn *conn = it_acquire(pool, &lease);

	ck_assert_str_eq(it_query(conn, "select current_user"), user);
	ck_assert_str_eq(PQuser(conn), user);
	ck_assert_str_ne(PQpass(conn), PASSWORD);
	it_release(&lease);
}

START_TEST(scram_with_a_password_in_conninfo)
{
	start_with_method("local all app scram-sha-256", "user=app password=" PASSWORD);
	lease_as("app");
	search_everything();
}
END_TEST

START_TEST(md5_with_a_password_in_conninfo)
{
	start_with_method("local all md5app md5", "user=md5app password=" PASSWORD);
	lease_as("md5app");
	search_everything();
}
END_TEST

START_TEST(plain_with_a_password_file)
{
	char conninfo[400], file[300];
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.no_broker = true, .no_server = true, .no_leak_check = true);
	pglease_test_env *place;

	/* The file has its own folder: the environment's is not known yet. */
	ck_assert_msg(pglease_test_env_new(&options, &place) == 0, "%s", pglease_test_error_message());
	it_env = place;
	write_file("pass", "*:*:*:app:" PASSWORD "\n", 0600);
	snprintf(file, sizeof(file), "%s/pass", pglease_test_folder(place));
	snprintf(conninfo, sizeof(conninfo), "user=app passfile=%s", file);
	start_with_method("local all app password", conninfo);
	lease_as("app");
	search_everything();
	ck_assert_int_eq(pglease_test_env_free(place), 0);
}
END_TEST

START_TEST(scram_with_a_service_file)
{
	pglease_test_options options = PGLEASE_TEST_OPTIONS(.no_broker = true, .no_server = true, .no_leak_check = true);
	pglease_test_env *place;
	char file[300];

	ck_assert_msg(pglease_test_env_new(&options, &place) == 0, "%s", pglease_test_error_message());
	it_env = place;
	write_file("service", "[there]\nuser=app\npassword=" PASSWORD "\n", 0600);
	snprintf(file, sizeof(file), "%s/service", pglease_test_folder(place));
	service_file = file;
	start_with_method("local all app scram-sha-256", "service=there");
	unsetenv("PGSERVICEFILE");
	service_file = NULL;
	lease_as("app");
	search_everything();
	ck_assert_int_eq(pglease_test_env_free(place), 0);
}
END_TEST

START_TEST(peer_with_a_map)
{
	start_with_method("local all app peer map=m", "user=app");
	lease_as("app");
}
END_TEST

START_TEST(a_wrong_password_is_told_without_it)
{
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;

	start_with_method("local all app scram-sha-256", "user=app password=x" PASSWORD);
	pool = it_attach();
	ck_assert_int_eq(pglease_acquire(pool, 0, &lease, &conn), PGLEASE_EUPSTREAM);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "password authentication failed"));
	ck_assert_ptr_null(strstr(pglease_error_message(), PASSWORD));
	search_everything();
}
END_TEST

IT_MAIN("access", a_pool_is_the_brokers_own_by_default, users_are_let_in_pool_by_pool,
    groups_are_let_in_first_and_supplementary, statistics_are_read_by_whom_the_mode_and_the_group_let,
    by_default_everybody_reads_statistics, commands_are_for_administrators,
    commands_are_not_for_users_of_pools, scram_with_a_password_in_conninfo, md5_with_a_password_in_conninfo,
    plain_with_a_password_file, scram_with_a_service_file, peer_with_a_map,
    a_wrong_password_is_told_without_it)

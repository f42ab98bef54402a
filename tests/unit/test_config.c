/* SPDX-License-Identifier: PostgreSQL */
/* The broker's configuration: the table of settings, the sample that follows from it, and every way to get it wrong. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "configuration.h"
#include "log.h"
#include "unit.h"

#define MS UINT64_C(1000000)
#define S (1000 * MS)

struct said {
	unsigned count;
	char text[8192];
};

static void
take(void *context, const char *message)
{
	struct said *said = context;

	said->count++;
	ck_assert_ptr_null(strchr(message, '\n'));
	snprintf(said->text + strlen(said->text), sizeof(said->text) - strlen(said->text), "%s\n", message);
}

static int
read_bytes(const char *bytes, size_t size, struct configuration **ret, struct said *said)
{
	char path[] = "/tmp/test_config_XXXXXX";
	int fd = mkstemp(path), r;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
	close(fd);
	*said = (struct said){0};
	r = configuration_read(path, take, said, ret);
	unlink(path);
	ck_assert_int_eq(r == 0, said->count == 0);
	return r;
}

static int
read_text(const char *text, struct configuration **ret, struct said *said)
{
	return read_bytes(text, strlen(text), ret, said);
}

/* The file is refused, once, with a message that has all these words. */
static void
refused(const char *text, const char *a, const char *b, const char *c)
{
	struct configuration *config;
	struct said said;

	ck_assert_int_eq(read_text(text, &config, &said), -1);
	ck_assert_msg(said.count == 1, "%u complaints: %s", said.count, said.text);
	ck_assert_msg(strstr(said.text, a) != NULL, "no \"%s\" in: %s", a, said.text);
	ck_assert_msg(strstr(said.text, b) != NULL, "no \"%s\" in: %s", b, said.text);
	ck_assert_msg(strstr(said.text, c) != NULL, "no \"%s\" in: %s", c, said.text);
}

START_TEST(without_a_file)
{
	struct configuration *config;
	struct said said = {0};

	ck_assert_int_eq(configuration_read(NULL, take, &said, &config), 0);
	ck_assert_str_eq(config->instance.instance, "main");
	ck_assert_uint_eq(config->instance.max_clients, 256);
	ck_assert_uint_eq(config->instance.stats_mode, 0644);
	ck_assert_uint_eq(config->instance.log_level, LOG_LEVEL_INFO);
	ck_assert_uint_eq(config->npools, 1);
	ck_assert_str_eq(config->pool[0].name, "main");
	ck_assert_uint_eq(config->pool[0].embedded, 1);
	ck_assert_uint_eq(config->pool[0].min_connections, 1);
	ck_assert_uint_eq(config->pool[0].max_connections, 5);
	ck_assert_uint_eq(config->pool[0].acquire_timeout, 10 * S);
	ck_assert_uint_eq(config->pool[0].idle_timeout, 300 * S);
	ck_assert_uint_eq(config->pool[0].max_lifetime, 3600 * S);
	ck_assert_uint_eq(config->pool[0].validation_bypass, 500 * MS);
	ck_assert_uint_eq(config->pool[0].grant_after, MS);
	configuration_free(config);
}
END_TEST

START_TEST(a_whole_file)
{
	struct configuration *config;
	struct said said;

	ck_assert_int_eq(
	    read_text(
	        "; comment\n[pglease]\ninstance=i-1\nsocket_dir = /s\nmax_clients = 4096\n"
	        "stats_mode=600\nlog_level=debug\n\n[pool a]\nconninfo = host=/x dbname=d ; comment\n"
	        "max_connections = 1024\nidle_timeout=0\nmax_lifetime = 90 min\n[pool b]\nembedded=yes\n"
	        "grant_after=250us\nacquire_timeout=24h\n",
	        &config, &said),
	    0);
	ck_assert_str_eq(config->instance.instance, "i-1");
	ck_assert_str_eq(config->instance.socket_dir, "/s");
	ck_assert_uint_eq(config->instance.max_clients, 4096);
	ck_assert_uint_eq(config->instance.stats_mode, 0600);
	ck_assert_uint_eq(config->npools, 2);
	ck_assert_str_eq(config->pool[0].conninfo, "host=/x dbname=d");
	ck_assert_uint_eq(config->pool[0].max_connections, 1024);
	ck_assert_uint_eq(config->pool[0].idle_timeout, 0);
	ck_assert_uint_eq(config->pool[0].max_lifetime, 5400 * S);
	ck_assert_str_eq(config->pool[1].name, "b");
	ck_assert_uint_eq(config->pool[1].embedded, 1);
	ck_assert_uint_eq(config->pool[1].grant_after, 250000);
	configuration_free(config);
}
END_TEST

START_TEST(bad_values_name_line_key_and_what_is_allowed)
{
	refused("[pool a]\nembedded=maybe\n", ":2: ", "embedded", "yes, no");
	refused("[pool a]\nembedded=yes\nmax_connections=0\n", ":3: ", "max_connections", "from 1 to 1024");
	refused("[pool a]\nembedded=yes\nmax_connections=-1\n", ":3: ", "max_connections", "from 1 to 1024");
	refused("[pool a]\nembedded=yes\nmax_connections=1025\n", ":3: ", "\"1025\"", "from 1 to 1024");
	refused("[pool a]\nembedded=yes\nmax_connections=5x\n", ":3: ", "\"5x\"", "from 1 to 1024");
	refused("[pool a]\nembedded=yes\nidle_timeout=5\n", ":3: ", "idle_timeout", "us, ms, s, min, h");
	refused("[pool a]\nembedded=yes\nidle_timeout=5 days\n", ":3: ", "\"5 days\"", "us, ms, s, min, h");
	refused("[pool a]\nembedded=yes\nacquire_timeout=0\n", ":3: ", "acquire_timeout", "to 24h");
	refused("[pool a]\nembedded=yes\nacquire_timeout=99999999999999999999h\n", ":3: ", "acquire_timeout",
	    "to 24h");
	refused("[pool a]\nembedded=yes\nacquire_timeout=9999999999999999999h\n", ":3: ", "acquire_timeout",
	    "to 24h");
	refused("[pglease]\nstats_mode=888\n[pool a]\nembedded=yes\n", ":2: ", "stats_mode", "octal");
	refused("[pglease]\nlog_level=loud\n[pool a]\nembedded=yes\n", ":2: ", "log_level", "debug");
	refused("[pglease]\ninstance=a/b\n[pool a]\nembedded=yes\n", ":2: ", "instance", "letters");
	refused("[pglease]\nsocket_dir=x\n[pool a]\nembedded=yes\n", ":2: ", "socket_dir", "absolute");
}
END_TEST

START_TEST(alerts_have_thresholds_of_each_kind)
{
	struct configuration *config;
	struct said said;

	ck_assert_int_eq(read_text("[pool a]\nembedded=yes\n[pool b]\nembedded=yes\nalert_connection_time=1500ms\n"
				   "alert_failure_rate=0.125\nalert_memory_usage = 3 GB\nalert_maxwait=0\nalert_pool_usage=1\n"
				   "alert_leaks=4\nalert_wait_time=0s\nalert_upstream_down=0\n",
			     &config, &said),
	    0);
	ck_assert_uint_eq(config->pool[0].alert[ALERT_CONNECTION_TIME], 5 * S);
	ck_assert_uint_eq(config->pool[0].alert[ALERT_FAILURE_RATE], 50000);
	ck_assert_uint_eq(config->pool[0].alert[ALERT_MEMORY_USAGE], 104857600);
	ck_assert_uint_eq(config->pool[0].alert[ALERT_POOL_USAGE], 0);
	ck_assert_uint_eq(config->pool[0].alert_window, 30 * S);
	ck_assert_uint_eq(config->pool[1].alert[ALERT_CONNECTION_TIME], 1500 * MS);
	ck_assert_uint_eq(config->pool[1].alert[ALERT_FAILURE_RATE], 125000);
	ck_assert_uint_eq(config->pool[1].alert[ALERT_MEMORY_USAGE], UINT64_C(3) << 30);
	ck_assert_uint_eq(config->pool[1].alert[ALERT_MAXWAIT], 0);
	ck_assert_uint_eq(config->pool[1].alert[ALERT_POOL_USAGE], 1000000);
	ck_assert_uint_eq(config->pool[1].alert[ALERT_LEAKS], 4);
	ck_assert_uint_eq(config->pool[1].alert[ALERT_WAIT_TIME], 0);
	configuration_free(config);
	refused("[pool a]\nembedded=yes\nalert_failure_rate=1.1\n", ":3: ", "\"1.1\"", "a share from 0.000001 to 1");
	refused("[pool a]\nembedded=yes\nalert_failure_rate=0.0123456\n", ":3: ", "alert_failure_rate", "a share");
	refused("[pool a]\nembedded=yes\nalert_failure_rate=5%\n", ":3: ", "\"5%\"", "a share");
	refused("[pool a]\nembedded=yes\nalert_failure_rate=.5\n", ":3: ", "\".5\"", "a share");
	refused("[pool a]\nembedded=yes\nalert_failure_rate=1.\n", ":3: ", "\"1.\"", "a share");
	refused("[pool a]\nembedded=yes\nalert_failure_rate=99999999999999999999\n", ":3: ", "alert_failure_rate", "a share");
	refused("[pool a]\nembedded=yes\nalert_memory_usage=100\n", ":3: ", "\"100\"", "kB, MB, GB, TB");
	refused("[pool a]\nembedded=yes\nalert_memory_usage=17TB\n", ":3: ", "\"17TB\"", "up to 16TB");
	refused("[pool a]\nembedded=yes\nalert_memory_usage=99999999999TB\n", ":3: ", "alert_memory_usage", "up to 16TB");
	refused("[pool a]\nembedded=yes\nalert_connection_time=20min\n", ":3: ", "alert_connection_time", "up to 15min");
	refused("[pool a]\nembedded=yes\nalert_window=0\n", ":3: ", "alert_window", "from 1s to 10min");
	refused("[pglease]\nalert_command=true\n[pool a]\nembedded=yes\n", ":2: ", "alert_command", "absolute");
	/* Words of a shell's are no name. */
	refused("[pool a;touch x]\nembedded=yes\n", ":1: ", "pool", "");
}
END_TEST

START_TEST(settings_that_do_not_go_together)
{
	refused("[pool a]\nretry_max=50ms\nembedded=yes\n", ":1: retry_min: ", "pool a", "above retry_max");
	refused("[pool a]\nembedded=yes\nmin_connections=6\n", ":3: min_connections: ", "pool a", "(5)");
	refused("[pool a]\nconninfo=host=x sslmode=require\n", ":2: conninfo: ", "sslmode=require",
	    "allowed: sslmode=disable");
	refused("[pool a]\nconninfo=host=x sslmode=verify-full\n", ":2: conninfo: ", "sslmode=verify-full",
	    "cannot be leased");
	refused("[pool a]\nconninfo=host=x gssencmode=require\n", ":2: conninfo: ", "gssencmode=require",
	    "allowed: gssencmode=disable");
}
END_TEST

START_TEST(users_and_groups)
{
	struct configuration *config;
	struct said said;

	refused("[pool a]\nembedded=yes\nusers=root,no-such-user\n", ":3: users: ",
	    "there is no user \"no-such-user\"", "allowed: names of users, or numbers");
	refused("[pool a]\nembedded=yes\ngroups=no-such-group\n", ":3: groups: ", "no group \"no-such-group\"",
	    "allowed");
	refused("[pool a]\nembedded=yes\nusers=root,\n", ":3: users: ", "no user \"\"", "allowed");
	refused("[pool a]\nembedded=yes\nusers=4294967295\n", ":3: users: ", "4294967295", "allowed");
	refused("[pool a]\nembedded=yes\nusers=-1\n", ":3: users: ", "-1", "allowed");
	refused("[pglease]\nmonitor_group=root,daemon\n[pool a]\nembedded=yes\n", ":2: monitor_group: ",
	    "allowed: one group", "root,daemon");
	refused("[pglease]\nmonitor_group=*\n[pool a]\nembedded=yes\n", ":2: monitor_group: ", "allowed: one group",
	    "*");
	refused("[pglease]\nadmin_users=*,nobody-at-all\n[pool a]\nembedded=yes\n", ":2: admin_users: ",
	    "nobody-at-all", "allowed");
	ck_assert_int_eq(
	    read_text("[pglease]\nadmin_groups = 0, daemon\n[pool a]\nembedded=yes\nusers = root , 12345,daemon\n"
	              "groups=*\n",
	        &config, &said),
	    0);
	ck_assert_str_eq(config->pool[0].users, "root , 12345,daemon");
	ck_assert_str_eq(config->instance.admin_groups, "0, daemon");
	configuration_free(config);
}
END_TEST

START_TEST(bad_structure)
{
	refused("[pglease]\nmax_client=1\n[pool a]\nembedded=yes\n", ":2: ", "unknown key \"max_client\"",
	    "max_clients");
	refused("[pool a]\nembedded=yes\nlog_level=info\n", ":3: ", "unknown key", "[pool a]");
	refused("[pool a]\nembedded=yes\n[server]\nx=1\n", ":3: ", "unknown section [server]", "[pool NAME]");
	refused("embedded=yes\n[pool a]\nembedded=yes\n", ":1: ", "before any section", "[pool NAME]");
	refused("[pool a]\nembedded=yes\n[pool a]\n", ":3: ", "two pools", "a");
	refused("[pool a]\nembedded=yes\n[pool b c]\n", ":3: ", "bad pool name \"b c\"", "letters");
	refused("[pool a]\nembedded=yes\nembedded=yes\n", ":3: ", "set twice", "embedded");
	refused("[pool a]\nembedded=yes\n  no\n", ":3: ", "set twice", "continues");
	refused("[pool a\nembedded=yes\n", ":1: ", "bad section header", "[pglease]");
	refused("[pool a]\nembedded=yes\nnonsense\n", ":3: ", "key = value", "comment");
	refused("[pglease]\n", "", "no pool", "[pool NAME]");
	refused("", "", "no pool", "[pool NAME]");
	/* A section without a key, which inih does not report. */
	refused("[pool a]\n", "", "pool a has no upstream", "conninfo");
	refused("[pool a]\nembedded=yes\nconninfo=dbname=x\n", "", "exclude each other", "pool a");
	refused(
	    "[pool a]\nembedded=yes\nmin_connections=6\n", "", "min_connections (6)", "max_connections (5)");
}
END_TEST

START_TEST(a_bad_conninfo_is_not_shown)
{
	struct configuration *config;
	struct said said;

	ck_assert_int_eq(read_text("[pool a]\nconninfo=host=x password='secret\n", &config, &said), -1);
	ck_assert_uint_eq(said.count, 1);
	ck_assert_ptr_nonnull(strstr(said.text, "conninfo"));
	ck_assert_ptr_null(strstr(said.text, "secret"));
}
END_TEST

START_TEST(a_long_line_is_read_or_an_error_and_not_cut)
{
	/* Around inih's room, around the most that a text takes, and around the most that a line may have. */
	static const size_t lengths[] = {197, 198, 199, 200, 201, 202, 265, 266, 267, 1022, 1023, 1024, 3000};
	static char text[4100], value[4000];
	struct configuration *config;
	struct said said;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t n = lengths[i] - strlen("conninfo = dbname=\n"); /* with the line end */

		memset(value, 'x', n);
		value[n] = '\0';
		snprintf(text, sizeof(text), "[pool a]\nconninfo = dbname=%s\nusers = *\n", value);
		if (n <= 255 - strlen("dbname=")) {
			ck_assert_int_eq(read_text(text, &config, &said), 0);
			ck_assert_str_eq(config->pool[0].conninfo + strlen("dbname="), value);
			ck_assert_str_eq(config->pool[0].users, "*");
			configuration_free(config);
		} else {
			ck_assert_int_eq(read_text(text, &config, &said), -1);
			ck_assert_uint_eq(said.count, 1);
			ck_assert_ptr_nonnull(strstr(said.text, lengths[i] <= 1023 ? ":2: conninfo: bad value" : ":2: the line has"));
		}
	}
}
END_TEST

/* What is said of a configuration with a pool and this line, in which "@" stands for 300 blanks. NULL: nothing. */
static const char *
said_of_long(const char *line, struct configuration **ret_config, struct said *said)
{
	static char text[2000];
	const char *gap = strchr(line, '@');

	*ret_config = NULL;
	snprintf(text, sizeof(text), "[pool a]\nembedded = yes\n%.*s%300s%s\nmax_connections = 7\n", (int)(gap - line), line, "",
	    gap + 1);
	return read_text(text, ret_config, said) == 0 ? NULL : said->text;
}

START_TEST(long_lines_of_every_kind)
{
	static const char *const good[] = {"min_connections =@3", "min_connections = 3@", "min_connections: 3 ;@no more", "min_connections = 3@; nor this ; or this", "min_connections = 3\t;@no more"};
	static const char *const without[] = {"#@min_connections = 3", "; @", "[pool b] ;@\nembedded = yes"};
	static const char *const bad[] = {" min_connections =@3", "min_connections = 3 @x", "min_connections @", "min_connections@= 3", "\tx@", "no_such =@3",
	    "min_connections = @;", "[pool b@]", "min_connections = 3;@x"};
	struct configuration *config;
	struct said said;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_assert_msg(said_of_long(good[i], &config, &said) == NULL, "%s: %s", good[i], said.text);
		ck_assert_uint_eq(config->pool[0].min_connections, 3);
		ck_assert_uint_eq(config->pool[0].max_connections, 7);
		configuration_free(config);
	}
	for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
		ck_assert_msg(said_of_long(without[i], &config, &said) == NULL, "%s: %s", without[i], said.text);
		ck_assert_uint_eq(config->pool[i == 2].max_connections, 7);
		configuration_free(config);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(said_of_long(bad[i], &config, &said) != NULL, "%s", bad[i]);
		ck_assert_ptr_nonnull(strstr(said.text, ":3: "));
	}
}
END_TEST

START_TEST(no_text_at_all)
{
	struct configuration *config;
	struct said said = {0};

	ck_assert_int_eq(read_bytes("[pool a]\nembedded=yes\n\0x=1\n", 27, &config, &said), -1);
	ck_assert_ptr_nonnull(strstr(said.text, ":3: the line has a zero byte"));
	said = (struct said){0};
	ck_assert_int_eq(configuration_read("/nonexistent/file", take, &said, &config), -1);
	ck_assert_str_eq(said.text, "/nonexistent/file: cannot be read: No such file or directory\n");
	said = (struct said){0};
	ck_assert_int_eq(configuration_read("/tmp", take, &said, &config), -1);
	ck_assert_str_eq(said.text, "/tmp: is not a regular file\n");
}
END_TEST

START_TEST(all_that_is_wrong_is_said)
{
	struct configuration *config;
	struct said said;

	ck_assert_int_eq(
	    read_text("[pglease]\na=1\nb=2\n[pool x]\nembedded=yes\nmax_connections=no\n", &config, &said),
	    -1);
	ck_assert_uint_eq(said.count, 3);
	/* Each at its line, also those that make no sense, and those that show only when the file has been read. */
	ck_assert_int_eq(read_text("nonsense\n[pool x]\nmore\nkeepalive=soon\nretry_max=1ms\nand more ; a=b\n"
	                           "[pool y]\nmin_connections=9\n",
	                     &config, &said),
	    -1);
	ck_assert_msg(said.count == 6, "%s", said.text);
	for (const char *at = ":1: |:3: |:4: keepalive: |:6: |:7: conninfo: |:8: min_connections: "; at != NULL;) {
		char where[40];

		snprintf(where, sizeof(where), "%.*s", (int)strcspn(at, "|"), at);
		ck_assert_msg(strstr(said.text, where) != NULL, "no \"%s\" in: %s", where, said.text);
		at = strchr(at, '|');
		at += at != NULL;
	}
	/* A bad value hides nothing that does not follow from it, and what does follow is not said. */
	ck_assert_int_eq(read_text("[pool x]\nembedded=yes\nkeepalive=soon\nmin_connections=9\nretry_max=never\n"
	                           "[pool y]\nembedded=yes\nkeepalive=soon\nmin_connections=9\n",
	                     &config, &said),
	    -1);
	ck_assert_msg(said.count == 4, "%s", said.text);
	ck_assert_ptr_nonnull(strstr(said.text, ":9: min_connections: "));
}
END_TEST

START_TEST(as_many_pools_as_fit)
{
	struct configuration *config;
	struct said said;
	char text[8192] = "";

	for (unsigned i = 0; i < LAYOUT_MAX_POOLS; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "[pool p%u]\nembedded=yes\n", i);
	ck_assert_int_eq(read_text(text, &config, &said), 0);
	ck_assert_uint_eq(config->npools, LAYOUT_MAX_POOLS);
	configuration_free(config);
	strcat(text, "[pool one-more]\nembedded=yes\n");
	refused(text, ":129: ", "more than", "pools");
}
END_TEST

/* A file of the source tree. Caller frees. */
static char *
read_source(const char *name)
{
	const char *srcdir = getenv("PGLEASE_SRCDIR");
	char path[4096], *text;
	struct stat st;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", srcdir != NULL ? srcdir : ".", name);
	f = fopen(path, "r");
	ck_assert_msg(f != NULL, "%s", path);
	ck_assert_int_eq(fstat(fileno(f), &st), 0);
	text = calloc(1, (size_t)st.st_size + 1);
	ck_assert_uint_eq(fread(text, 1, (size_t)st.st_size, f), (size_t)st.st_size);
	fclose(f);
	return text;
}

static char *
printed(void (*print)(FILE *))
{
	char *text = NULL, *copy;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	print(f);
	fclose(f);
	copy = strdup(text); /* gcc 12 at -O2 takes what comes from `text` for a pointer to it */
	free(text);
	return copy;
}

/* The sample in the tree is the one that the table gives (pgleased --help-config=sample), and a configuration. */
START_TEST(the_sample_follows_from_the_table)
{
	char *made = printed(settings_print_sample), *there = read_source("etc/pgleased.ini");
	struct configuration *config;
	struct said said = {0};

	ck_assert_str_eq(there, made);
	ck_assert_msg(read_text(there, &config, &said) == 0, "%s", said.text);
	ck_assert_uint_eq(config->pool[0].embedded, 1);
	configuration_free(config);
	/* What is commented out is what would be without it. */
	for (char *at = made; (at = strstr(at, "\n;")) != NULL; at++)
		if (at[2] != ' ' && strncmp(at + 2, "embedded", 8) != 0)
			at[1] = ' ', memmove(at + 1, at + 2, strlen(at + 1));
	ck_assert_msg(read_text(made, &config, &said) == 0, "%s", said.text);
	ck_assert_uint_eq(config->pool[0].reset_timeout, 2 * S);
	configuration_free(config);
	free(there);
	free(made);
}
END_TEST

/* Likewise the table in pgleased.ini(5) (pgleased --help-config=mdoc). */
START_TEST(the_manual_follows_from_the_table)
{
	char *made = printed(settings_print_manual), *page = read_source("doc/pgleased.ini.5");
	char *begin = strstr(page, "--help-config=mdoc.\n"), *end = strstr(page, ".\\\" The table of settings ends here.");

	ck_assert_ptr_nonnull(begin);
	ck_assert_ptr_nonnull(end);
	*end = '\0';
	ck_assert_str_eq(strchr(begin, '\n') + 1, made);
	free(page);
	free(made);
}
END_TEST

START_TEST(the_help_has_each_setting)
{
	char *help = printed(settings_print_help);

	for (size_t i = 0; i < settings_count; i++) {
		char line[80];
		const char *at;

		snprintf(line, sizeof(line), "\n  %s = %s\n      allowed: ", settings[i].name,
		    settings[i].initial[0] != '\0' ? settings[i].initial : "(none)");
		at = strstr(help, line);
		ck_assert_msg(at != NULL, "%s", line);
		ck_assert_msg(at[strlen(line)] != '\n', "%s", line);
	}
	free(help);
}
END_TEST

UNIT_MAIN("config", without_a_file, a_whole_file, bad_values_name_line_key_and_what_is_allowed,
    alerts_have_thresholds_of_each_kind, settings_that_do_not_go_together, users_and_groups, bad_structure, a_bad_conninfo_is_not_shown,
    a_long_line_is_read_or_an_error_and_not_cut, long_lines_of_every_kind, no_text_at_all, all_that_is_wrong_is_said, as_many_pools_as_fit,
    the_sample_follows_from_the_table, the_manual_follows_from_the_table, the_help_has_each_setting)

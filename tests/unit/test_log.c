/* SPDX-License-Identifier: PostgreSQL */
/* The log: one line per event, not more of a kind than a disk can bear, and fields for the journal, which is a socket of the test's own. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "journal.h"
#include "log.h"

static char path[64];
static int before;

/* What is logged goes to a file. */
static void
setup(void)
{
	int fd;

	strcpy(path, "/tmp/test_log_XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	before = dup(STDERR_FILENO);
	dup2(fd, STDERR_FILENO);
	close(fd);
	log_setup(LOG_LEVEL_INFO, LOG_TO_STDERR, false, NULL);
}

static void
teardown(void)
{
	dup2(before, STDERR_FILENO);
	close(before);
	unlink(path);
}

/* Lines that have this; *ret_left_out: how many were left out before them. */
static unsigned
count(const char *text, unsigned *ret_left_out)
{
	FILE *f = fopen(path, "re");
	char line[2048];
	unsigned n = 0, left_out = 0, last = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		const char *message = strstr(line, ": ");

		ck_assert_ptr_nonnull(message);
		if (strstr(message, text) != NULL) {
			n++;
			left_out += last;
		}
		last = 0;
		(void)sscanf(message, ": %u lines like the next one were left out", &last);
	}
	fclose(f);
	if (ret_left_out != NULL)
		*ret_left_out = left_out;
	return n;
}

START_TEST(an_event_is_a_line)
{
	log_warning("a server's words: %s", "one\ntwo\r\n\tthree\n");
	ck_assert_uint_eq(count("a server's words: one two", NULL), 1);
	ck_assert_uint_eq(count("three", NULL), 1);
	log_debug("not wanted");
	ck_assert_uint_eq(count("not wanted", NULL), 0);
}
END_TEST

static void
often(const char *what)
{
	log_info("often: %s", what);
}

START_TEST(many_of_a_kind)
{
	unsigned said = 0, left_out, written;

	for (; said < 20 * LOG_MOST; said++)
		often("again");
	written = count("often: ", &left_out);
	ck_assert_uint_ge(written, LOG_MOST);
	ck_assert_uint_lt(written, said / 2);
	/* Another kind has its own count. */
	log_info("seldom: %s", "this");
	ck_assert_uint_eq(count("seldom: ", NULL), 1);
	/* A second later it may go on, and says what was left out: together it is all. */
	for (;; said++) {
		often("again");
		if (count("often: ", &left_out) > written)
			break;
	}
	ck_assert_uint_gt(left_out, 0);
	ck_assert_uint_eq(count("often: ", &left_out) + left_out, said + 1);
}
END_TEST

static char socket_path[80];
static int journal = -1;

/* Listens as the journal does. */
static void
be_the_journal(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(socket_path, sizeof(socket_path), "%s.journal", path);
	strcpy(address.sun_path, socket_path);
	journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(journal, (struct sockaddr *)&address, sizeof(address)), 0);
	journal_set_path(socket_path);
}

static void
no_journal(void)
{
	close(journal);
	unlink(socket_path);
}

/* The next entry, with a line end before each field; it is there already. */
static const char *
next_entry(void)
{
	static char entry[JOURNAL_ENTRY + 2] = "\n";
	ssize_t n = recv(journal, entry + 1, JOURNAL_ENTRY, MSG_DONTWAIT);

	ck_assert_int_gt(n, 0);
	entry[n + 1] = '\0';
	ck_assert_int_eq(entry[n], '\n');
	return entry;
}

#define HAS(entry, line) ck_assert_msg(strstr(entry, "\n" line "\n") != NULL, "no %s in:%s", line, entry)
#define HAS_NOT(entry, text) ck_assert_msg(strstr(entry, text) == NULL, "%s in:%s", text, entry)

START_TEST(fields)
{
	const char *entry;
	char byte;

	be_the_journal();
	log_setup(LOG_LEVEL_INFO, LOG_TO_JOURNAL, false, "shop");
	log_event(LOG_LEVEL_WARNING,
	    LOG_ABOUT(.pool = "app", .has_slot = true, .slot = 0, .client_pid = 12, .server_pid = 34, .cause = "why",
	        .sqlstate = "57P01"),
	    "its words:\nPRIORITY=0\n%d", 1);
	entry = next_entry();
	HAS(entry, "MESSAGE=pool app: slot 0: its words: PRIORITY=0 1 (SQLSTATE 57P01)");
	HAS(entry, "PRIORITY=4");
	HAS(entry, "SYSLOG_IDENTIFIER=pgleased");
	HAS(entry, "SYSLOG_FACILITY=3");
	HAS(entry, "PGLEASE_INSTANCE=shop");
	HAS(entry, "PGLEASE_POOL=app");
	HAS(entry, "PGLEASE_SLOT=0");
	HAS(entry, "PGLEASE_CLIENT_PID=12");
	HAS(entry, "PGLEASE_SERVER_PID=34");
	HAS(entry, "PGLEASE_CAUSE=why");
	HAS(entry, "PGLEASE_SQLSTATE=57P01");
	/* What there is nothing to say of is no field. */
	log_error("plain");
	entry = next_entry();
	HAS(entry, "MESSAGE=plain");
	HAS(entry, "PRIORITY=3");
	HAS(entry, "PGLEASE_INSTANCE=shop");
	HAS_NOT(entry, "PGLEASE_POOL");
	HAS_NOT(entry, "PGLEASE_SLOT");
	HAS_NOT(entry, "_PID=0");
	HAS_NOT(entry, "PGLEASE_CAUSE");
	HAS_NOT(entry, "PGLEASE_SQLSTATE");
	ck_assert_int_lt(recv(journal, &byte, 1, MSG_DONTWAIT), 0);
	/* The same words in a line of text. */
	log_setup(LOG_LEVEL_INFO, LOG_TO_STDERR, false, "shop");
	log_event(LOG_LEVEL_INFO, LOG_ABOUT(.pool = "app", .sqlstate = "57P01"), "in a line");
	ck_assert_uint_eq(count("pool app: in a line (SQLSTATE 57P01)", NULL), 1);
	no_journal();
}
END_TEST

/* It has room for some entries, and nobody reads: the log does not wait, and says later what is missing. */
START_TEST(a_journal_that_hangs)
{
	unsigned said = 0, lost = 0, read = 0;
	const char *entry, *at;
	char byte;

	be_the_journal();
	log_setup(LOG_LEVEL_DEBUG, LOG_TO_JOURNAL, false, NULL);
	for (; said < 4000; said++)
		log_debug("line %u", said);
	for (; recv(journal, &byte, 1, MSG_DONTWAIT) == 1; read++)
		;
	ck_assert_uint_lt(read, said);
	log_debug("after");
	entry = next_entry();
	at = strstr(entry, "\nMESSAGE=");
	ck_assert_ptr_nonnull(at);
	ck_assert_int_eq(sscanf(at, "\nMESSAGE=%u lines before this one were lost", &lost), 1);
	ck_assert_uint_eq(read + lost, said);
	HAS(next_entry(), "MESSAGE=after");
	no_journal();
}
END_TEST

/* A pipe that nobody reads is stderr, or gets it back. */
static void
stderr_is(int fd)
{
	ck_assert_int_ge(dup2(fd, STDERR_FILENO), 0);
	log_setup(LOG_LEVEL_DEBUG, LOG_TO_STDERR, false, NULL);
}

/* Lines that are there to read; *ret_lost: those of them that say how many were lost, added up. */
static unsigned
read_lines(int fd, unsigned *ret_lost)
{
	static char bytes[1 << 20];
	ssize_t n;
	size_t used = 0;
	unsigned lines = 0, lost;

	*ret_lost = 0;
	while (used < sizeof(bytes) - 1 && (n = read(fd, bytes + used, sizeof(bytes) - 1 - used)) > 0)
		used += (size_t)n;
	bytes[used] = '\0';
	for (char *line = bytes, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		*end = '\0';
		lines++;
		if (sscanf(line,
		        "%*s %*s %*s warning: %u lines before this one were lost: the standard error output",
		        &lost) == 1)
			*ret_lost += lost;
		else
			ck_assert_ptr_nonnull(strstr(line, "debug: line "));
	}
	return lines;
}

/* The broker's other end stands still: an alarm ends this test where the log waits. 0: a pipe, 1: one that cannot be opened again, 2: a socket. */
START_TEST(a_stderr_that_stands_still)
{
	unsigned said = 0, lost, read;
	int end[2];

	if (_i == 2)
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, end), 0);
	else
		ck_assert_int_eq(pipe(end), 0);
	ck_assert_int_eq(fcntl(end[0], F_SETFL, O_NONBLOCK), 0);
	if (_i == 1) /* root may open all */
		ck_assert_int_eq(fchmod(end[1], 0) == 0 && (geteuid() != 0 || seteuid(65534) == 0), 1);
	stderr_is(end[1]);
	for (; said < 20000; said++)
		log_debug("line %u", said);
	ck_assert_int_eq(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0); /* others have it too */
	read = read_lines(end[0], &lost);
	ck_assert_uint_eq(lost, 0);
	ck_assert_uint_lt(read, said);
	log_debug("line %u", said);
	ck_assert_uint_eq(read_lines(end[0], &lost), 2);
	ck_assert_uint_eq(read + lost, said);
	ck_assert_int_eq(seteuid(getuid()), 0);
	close(end[0]);
	close(end[1]);
}
END_TEST

/* A datagram as syslogd gets it, and none is waited for. */
START_TEST(a_syslog_that_hangs)
{
	unsigned said = 0, lost = 0, read = 0;
	char line[512], month[4];
	int priority, day, hour, minute, second;
	long pid;
	ssize_t n;

	be_the_journal();
	log_set_syslog_path(socket_path);
	log_setup(LOG_LEVEL_DEBUG, LOG_TO_SYSLOG, true, "shop");
	log_event(LOG_LEVEL_ERROR, LOG_ABOUT(.pool = "app"), "one\ntwo");
	n = recv(journal, line, sizeof(line) - 1, MSG_DONTWAIT);
	ck_assert_int_gt(n, 0);
	line[n] = '\0';
	ck_assert_int_eq(sscanf(line, "<%d>%3s %2d %2d:%2d:%2d pgleased[%ld]: ", &priority, month, &day,
	                     &hour, &minute, &second, &pid),
	    7);
	ck_assert_int_eq(priority, 3 << 3 | 3); /* daemon, error */
	ck_assert_int_eq(pid, getpid());
	ck_assert_str_eq(strstr(line, "]: "), "]: shop: pool app: one two");
	for (; said < 4000; said++)
		log_debug("line %u", said);
	for (; recv(journal, line, sizeof(line), MSG_DONTWAIT) > 0; read++)
		;
	ck_assert_uint_lt(read, said);
	log_debug("after");
	n = recv(journal, line, sizeof(line) - 1, MSG_DONTWAIT);
	ck_assert_int_gt(n, 0);
	line[n] = '\0';
	ck_assert_int_eq(
	    sscanf(strstr(line, "shop: "), "shop: %u lines before this one were lost: the syslog", &lost), 1);
	ck_assert_uint_eq(read + lost, said);
	no_journal();
}
END_TEST

START_TEST(without_a_journal)
{
	journal_set_path("/nowhere/at/all");
	ck_assert_int_eq(log_check(LOG_TO_JOURNAL), -1);
	ck_assert_ptr_nonnull(strstr(log_reason(), "no journal listens"));
	/* All is as it was. */
	log_info("still here");
	log_debug("not wanted");
	ck_assert_uint_eq(count("still here", NULL), 1);
	ck_assert_uint_eq(count("not wanted", NULL), 0);
}
END_TEST

/* What a service manager says of the stream that it has connected to stderr. */
START_TEST(a_stream_to_the_journal)
{
	char stream[64];
	struct stat st;

	be_the_journal();
	ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + 1);
	ck_assert_int_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
	log_setup(LOG_LEVEL_INFO, LOG_TO_AUTO, false, NULL);
	log_info("another stream");
	ck_assert_uint_eq(count("another stream", NULL), 1);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	ck_assert_int_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
	log_setup(LOG_LEVEL_INFO, LOG_TO_AUTO, false, NULL);
	log_info("this stream");
	HAS(next_entry(), "MESSAGE=this stream");
	ck_assert_uint_eq(count("this stream", NULL), 0);
	no_journal();
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("log");
	TCase *tcase = tcase_create("log");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, an_event_is_a_line);
	tcase_add_test(tcase, many_of_a_kind);
	tcase_add_test(tcase, fields);
	tcase_add_test(tcase, a_journal_that_hangs);
	tcase_add_loop_test(tcase, a_stderr_that_stands_still, 0, 3);
	tcase_add_test(tcase, a_syslog_that_hangs);
	tcase_add_test(tcase, without_a_journal);
	tcase_add_test(tcase, a_stream_to_the_journal);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

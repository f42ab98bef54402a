/* SPDX-License-Identifier: PostgreSQL */
/* The stream that a broker hands over, what must be agreed upon before, and the raw answers that it reads. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agreement.h"
#include "handover.h"
#include "log.h"
#include "plain_answer.h"
#include "unit.h"

struct thing {
	uint32_t n;
	char text[20];
	int fd;
	uint32_t count;
	uint64_t list[4];
};

static void
fields(struct handover *h, struct thing *t)
{
	handover_section(h, "thing");
	HANDOVER(h, t->n);
	HANDOVER(h, t->text);
	handover_fd(h, &t->fd);
	handover_count(h, &t->count, 4);
	for (uint32_t i = 0; i < t->count; i++)
		HANDOVER(h, t->list[i]);
}

/* Written, with its descriptor; *ret_size of the memfd. */
static int
write_thing(struct thing *t, struct handover **ret)
{
	struct handover *h = handover_new();
	int fd = -1;

	fields(h, t);
	ck_assert_int_eq(handover_write(h, &fd), 0);
	*ret = h;
	return fd;
}

static bool
is_cloexec(int fd)
{
	return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

START_TEST(what_is_written_is_read)
{
	struct thing t = {.n = 7, .text = "seven", .count = 3, .list = {1, 2, 3}}, back = {.fd = -1};
	struct handover *h, *from;
	int fd;

	t.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fd = write_thing(&t, &h);
	ck_assert(!is_cloexec(t.fd));
	ck_assert(!is_cloexec(fd));
	handover_free(h);
	ck_assert_int_eq(handover_open(fd, &from), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1); /* closed */
	fields(from, &back);
	ck_assert_int_eq(handover_check(from, true), 0);
	ck_assert_uint_eq(back.n, 7);
	ck_assert_str_eq(back.text, "seven");
	ck_assert_int_eq(back.fd, t.fd);
	ck_assert(is_cloexec(back.fd));
	ck_assert_uint_eq(back.count, 3);
	ck_assert_uint_eq(back.list[2], 3);
	handover_free(from);
	close(t.fd);
}
END_TEST

START_TEST(without_an_exec_all_is_as_before)
{
	struct thing t = {.fd = open("/dev/null", O_RDONLY | O_CLOEXEC)};
	struct handover *h;
	int fd = write_thing(&t, &h);

	handover_undo(h, fd);
	ck_assert(is_cloexec(t.fd));
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	handover_free(h);
	close(t.fd);
}
END_TEST

/* Of which nothing else may be read: a value there may mean something else. */
START_TEST(one_of_another_version)
{
	const uint32_t versions[] = {0, HANDOVER_VERSION - 1, HANDOVER_VERSION + 1, UINT32_MAX};
	char said[64];

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		struct thing t = {.fd = -1};
		struct handover *h, *from;
		int fd = write_thing(&t, &h);

		/* After magic and size. */
		ck_assert_int_eq(pwrite(fd, &versions[i], sizeof(versions[i]), 16), sizeof(versions[i]));
		ck_assert_int_eq(handover_open(fd, &from), -1);
		handover_free(h);
	}
	/* The first refusal is the one that is told. */
	snprintf(said, sizeof(said), "is of version 0, and %u is known here", HANDOVER_VERSION);
	ck_assert_msg(strstr(log_reason(), said) != NULL, "%s", log_reason());
}
END_TEST

/* Any byte may be wrong: it is told, or it is another value; nothing is read outside. */
START_TEST(damaged_ones)
{
	struct thing t = {.n = 7, .fd = -1, .count = 2};
	struct handover *h;
	unsigned refused = 0, tried = 0;
	int fd = write_thing(&t, &h);
	off_t size = lseek(fd, 0, SEEK_END);

	for (off_t at = 0; at < size; at++) {
		struct thing back = {.fd = -1};
		struct handover *from;
		uint8_t byte;

		ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
		byte ^= 0x80;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
		tried++;
		if (handover_open(dup(fd), &from) == 0) {
			fields(from, &back);
			refused += handover_check(from, true) != 0;
			ck_assert_uint_le(back.count, 4);
			handover_free(from);
		} else {
			refused++;
		}
		byte ^= 0x80;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	}
	ck_assert_uint_gt(refused, 50);
	ck_assert_uint_lt(refused, tried);
	for (off_t shorter = 0; shorter < size; shorter++) {
		struct handover *from;

		ck_assert_int_eq(ftruncate(fd, shorter), 0);
		ck_assert_int_eq(handover_open(dup(fd), &from), -1);
	}
	close(fd);
	handover_free(h);
}
END_TEST

START_TEST(what_is_not_read_or_not_there_is_told)
{
	struct thing t = {.fd = -1}, back = {.fd = -1};
	struct handover *h, *from;

	ck_assert_int_eq(handover_open(write_thing(&t, &h), &from), 0);
	ck_assert_int_eq(handover_check(from, false), 0);
	ck_assert_int_eq(handover_check(from, true), -1);
	fields(from, &back);
	ck_assert_int_eq(handover_check(from, true), 0);
	fields(from, &back);
	ck_assert_int_eq(handover_check(from, false), -1);
	handover_free(from);
	handover_free(h);
}
END_TEST

/* Of a broker that has this; NULL: of a program that would take its place. */
static char *
agreement_of(const struct configuration *c, const struct agreement_has *has)
{
	size_t size = 0;
	char *text = NULL;
	FILE *f = open_memstream(&text, &size);

	agreement_print(c, has, f);
	fclose(f);
	return text;
}

/* What was said against it. */
static char first[AGREEMENT_WHY], last[AGREEMENT_WHY];
static unsigned reasons;

static void
take_reason(void *context, const char *why)
{
	if (reasons++ == 0)
		snprintf(first, sizeof(first), "%s", why);
	snprintf(last, sizeof(last), "%s", why);
}

static bool
holds(const char *mine, const char *theirs)
{
	bool r;

	reasons = 0;
	r = agreement_holds(mine, theirs, take_reason, NULL);
	ck_assert_int_eq(r, reasons == 0);
	return r;
}

static bool
holds_with(const char *mine, const struct configuration *c)
{
	char *theirs = agreement_of(c, NULL);
	bool r = holds(mine, theirs);

	free(theirs);
	return r;
}

START_TEST(agreements)
{
	const struct agreement_has none = {0}, five = {.embedded_connections = 5};
	struct agreement_pool said[LAYOUT_MAX_POOLS], before;
	struct configuration *c;
	struct pool_settings *pool;
	char *mine, *theirs;

	ck_assert_int_eq(configuration_read(NULL, NULL, NULL, &c), 0);
	pool = &c->pool[0];
	/* The embedded server was started for so many connections, and is not started now. */
	mine = agreement_of(c, &five);
	ck_assert(holds_with(mine, c));
	pool->reserve_connections = 1;
	ck_assert(!holds_with(mine, c));
	ck_assert_str_eq(first, "room for connections of the embedded PostgreSQL is 5, and would be 6; stop and start it instead");
	pool->embedded = 0;
	strcpy(pool->conninfo, "host=h user=u dbname=d password=secret");
	ck_assert(!holds_with(mine, c));
	ck_assert_str_eq(first, "embedded PostgreSQL of the instance is yes, and would be no; stop and start it instead");
	free(mine);
	mine = agreement_of(c, &none);
	ck_assert_ptr_null(strstr(mine, "secret"));
	ck_assert(holds_with(mine, c));
	/* Each pool is told with what it takes, and by what its segment is made. */
	theirs = agreement_of(c, NULL);
	ck_assert_ptr_null(strstr(theirs, "secret"));
	ck_assert_uint_eq(agreement_pools(theirs, said), 1);
	ck_assert_str_eq(said[0].name, "main");
	ck_assert_uint_eq(said[0].connections, 6);
	before = said[0];
	free(theirs);
	/* What may change, all of it a pool's. */
	pool->acquire_timeout *= 2;
	strcpy(pool->conninfo, "host=elsewhere user=u dbname=d password=other");
	theirs = agreement_of(c, NULL);
	ck_assert(holds(mine, theirs));
	agreement_pools(theirs, said);
	ck_assert_uint_eq(said[0].made_by, before.made_by);
	free(theirs);
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t last_made_by = said[0].made_by;

		if (i == 0)
			strcpy(pool->conninfo, "host=h user=v dbname=d");
		else if (i == 1)
			strcpy(pool->conninfo, "host=h user=v dbname=e");
		else
			pool->pooling = 0;
		theirs = agreement_of(c, NULL);
		ck_assert(holds(mine, theirs));
		agreement_pools(theirs, said);
		ck_assert_uint_ne(said[0].made_by, last_made_by);
		free(theirs);
	}
	/* Each difference is told. */
	c->instance.max_clients = 7;
	strcpy(c->instance.pid_file, "/none");
	ck_assert(!holds_with(mine, c));
	ck_assert_uint_eq(reasons, 2);
	ck_assert_str_eq(first, "max_clients of the instance is 256, and would be 7; stop and start it instead");
	ck_assert_str_eq(last, "pid_file of the instance is , and would be /none; stop and start it instead");
	theirs = agreement_of(c, NULL);
	theirs[strlen(theirs) / 2] = '\0';
	ck_assert(!holds(mine, theirs));
	ck_assert(!holds(theirs, mine));
	ck_assert(!holds(mine, ""));
	ck_assert(!holds(mine, "pglease agreement\t1\nrefused\tbad weather\nrefused\tand rain\n"));
	ck_assert_uint_eq(reasons, 2);
	ck_assert_str_eq(first, "bad weather");
	ck_assert_str_eq(last, "and rain");
	free(theirs);
	free(mine);
	configuration_free(c);
}
END_TEST

static size_t
message(uint8_t *to, char type, const char *body, size_t size)
{
	uint32_t length = htonl((uint32_t)(4 + size));

	to[0] = (uint8_t)type;
	memcpy(to + 1, &length, 4);
	memcpy(to + 5, body, size);
	return 5 + size;
}

/* Fed in single bytes: the last verdict, or the first that is not MORE. */
static enum answer_verdict
feed(struct plain_answer *a, const uint8_t *bytes, size_t size)
{
	enum answer_verdict v = ANSWER_MORE;

	for (size_t i = 0; i < size && v == ANSWER_MORE; i++)
		v = plain_answer_feed(a, bytes + i, 1);
	return v;
}

START_TEST(plain_answers)
{
	static const char baseline[LAYOUT_BASELINE] = "client_encoding\0UTF8\0";
	struct plain_answer a;
	uint8_t buf[256];
	size_t n;

	plain_answer_init(&a, "ROLLBACK", NULL);
	n = message(buf, 'N', "SWARNING\0C25P01\0", 17);
	n += message(buf + n, 'S', "client_encoding\0LATIN1", 23);
	n += message(buf + n, 'C', "ROLLBACK", 9);
	n += message(buf + n, 'Z', "I", 1);
	ck_assert_int_eq(feed(&a, buf, n), ANSWER_DONE);
	plain_answer_init(&a, "ROLLBACK", NULL);
	ck_assert_int_eq(plain_answer_feed(&a, buf, n), ANSWER_DONE);
	buf[n] = 'N'; /* one more byte */
	plain_answer_init(&a, "ROLLBACK", NULL);
	ck_assert_int_eq(plain_answer_feed(&a, buf, n + 1), ANSWER_BAD);
	buf[n - 1] = 'T';
	plain_answer_init(&a, "ROLLBACK", NULL);
	ck_assert_int_eq(feed(&a, buf, n), ANSWER_BAD);
	plain_answer_init(&a, "ROLLBACK", NULL);
	ck_assert_int_eq(feed(&a, buf, message(buf, 'C', "COMMIT", 7)), ANSWER_BAD);
	plain_answer_init(&a, "ROLLBACK", NULL);
	ck_assert_int_eq(feed(&a, buf, message(buf, 'Z', "I", 1)), ANSWER_BAD);
	plain_answer_init(&a, "ROLLBACK", NULL);
	ck_assert_int_eq(feed(&a, buf, message(buf, 'E', "SERROR\0", 8)), ANSWER_BAD);
	plain_answer_init(&a, "ROLLBACK", NULL);
	memset(buf, 0xff, sizeof(buf));
	ck_assert_int_eq(feed(&a, buf, sizeof(buf)), ANSWER_BAD);

	for (unsigned off = 0; off < 2; off++) {
		plain_answer_init(&a, "", baseline);
		n = message(buf, 'S', off ? "client_encoding\0SJIS" : "client_encoding\0UTF8", 21);
		n += message(buf + n, 'I', "", 0);
		n += message(buf + n, 'Z', "I", 1);
		ck_assert_int_eq(feed(&a, buf, n), ANSWER_DONE);
		ck_assert_int_eq(a.off_baseline, off);
	}
	plain_answer_init(&a, "", baseline);
	ck_assert_int_eq(feed(&a, buf, message(buf, 'C', "", 1)), ANSWER_BAD);
}
END_TEST

UNIT_MAIN("handover", what_is_written_is_read, without_an_exec_all_is_as_before, one_of_another_version, damaged_ones,
    what_is_not_read_or_not_there_is_told, agreements, plain_answers)

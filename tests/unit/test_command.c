/* SPDX-License-Identifier: PostgreSQL */
/* Asking for a command: every kind of answer that a broker, or something else on its socket, can give. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "command.h"
#include "pglease_errors.h"

/* The other side: takes one command, checks it, and says these packets. */
struct broker {
	int sock;
	const char *verb, *argument;
	struct {
		const void *bytes;
		size_t size;
	} says[4];
	bool stays; /* does not close */
};

static void *
serve(void *arg)
{
	struct broker *b = arg;
	struct wire_command command;

	ck_assert_int_eq(wire_recv(b->sock, &command, sizeof(command), NULL), (int)sizeof(command));
	ck_assert(wire_is(&command, sizeof(command), WIRE_COMMAND));
	ck_assert_str_eq(command.verb, b->verb);
	ck_assert_str_eq(command.argument, b->argument);
	for (unsigned i = 0; i < 4 && b->says[i].bytes != NULL; i++)
		ck_assert_int_eq(wire_send(b->sock, b->says[i].bytes, b->says[i].size, -1), (int)b->says[i].size);
	if (!b->stays)
		close(b->sock);
	return NULL;
}

static unsigned progressed;

static void
progress(void *context, const struct wire_result *result)
{
	progressed++;
	ck_assert_ptr_eq(context, &progressed);
	ck_assert_str_eq(result->text, "first");
}

static int
ask(struct broker *b, struct wire_result *ret)
{
	pthread_t thread;
	int pair[2], r;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	b->sock = pair[1];
	ck_assert_int_eq(fcntl(pair[1], F_SETFL, 0), 0); /* the broker's side may wait */
	ck_assert_int_eq(pthread_create(&thread, NULL, serve, b), 0);
	r = command_ask(pair[0], b->verb, b->argument, 1500, 0, progress, &progressed, ret);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	close(pair[0]);
	if (b->stays)
		close(b->sock);
	return r;
}

static struct wire_result
result_of(int code, bool more, const char *text)
{
	struct wire_result result = {.code = code, .more = more, .within_ms = 0};

	wire_header_init(&result.header, WIRE_RESULT);
	snprintf(result.text, sizeof(result.text), "%s", text);
	return result;
}

START_TEST(the_last_result_is_the_answer)
{
	struct wire_result first = result_of(0, true, "first"), last = result_of(PGLEASE_ETIMEOUT, false, "last"), got;
	struct broker b = {
	    .verb = "drain",
	    .argument = "app",
	    .says = {{&first, sizeof(first)}, {&first, sizeof(first)}, {&last, sizeof(last)}},
	};

	ck_assert_int_eq(ask(&b, &got), 0);
	ck_assert_uint_eq(progressed, 2);
	ck_assert_int_eq(got.code, PGLEASE_ETIMEOUT);
	ck_assert_str_eq(got.text, "last");
}
END_TEST

START_TEST(a_text_without_an_end_gets_one)
{
	struct wire_result last = result_of(0, false, ""), got;
	struct broker b = {.verb = "status", .argument = "", .says = {{&last, sizeof(last)}}};

	memset(last.text, 'x', sizeof(last.text));
	ck_assert_int_eq(ask(&b, &got), 0);
	ck_assert_uint_eq(strlen(got.text), sizeof(got.text) - 1);
}
END_TEST

START_TEST(an_error_is_an_answer_too)
{
	struct wire_error error = {.code = PGLEASE_EPROTOCOL};
	struct wire_result got;
	struct broker b = {.verb = "stop", .argument = "", .says = {{&error, sizeof(error)}}};

	wire_header_init(&error.header, WIRE_ERROR);
	memset(error.text, 'y', sizeof(error.text));
	ck_assert_int_eq(ask(&b, &got), 0);
	ck_assert_int_eq(got.code, PGLEASE_EPROTOCOL);
	ck_assert_uint_eq(strlen(got.text), sizeof(error.text) - 1);
	error.code = 0; /* no error: no answer that there is */
	ck_assert_int_eq(ask(&b, &got), -EPROTO);
}
END_TEST

/* Whatever it says. */
START_TEST(a_broker_of_another_version)
{
	struct wire_result last = result_of(0, false, "done"), got;
	struct broker b = {.verb = "stop", .argument = "", .says = {{&last, sizeof(last)}}};
	char words[64];

	last.header.version--;
	for (unsigned i = 0; i < 2; i++) {
		b.says[0].size = i == 0 ? sizeof(last) : sizeof(last) - 100;
		ck_assert_int_eq(ask(&b, &got), 0);
		ck_assert_int_eq(got.code, PGLEASE_EVERSION);
		snprintf(words, sizeof(words), "speaks version %u of", WIRE_VERSION - 1);
		ck_assert_ptr_nonnull(strstr(got.text, words));
		snprintf(words, sizeof(words), "this program version %u: use", WIRE_VERSION);
		ck_assert_ptr_nonnull(strstr(got.text, words));
	}
}
END_TEST

START_TEST(what_is_no_answer_is_not_taken_for_one)
{
	struct wire_result first = result_of(0, true, "first"), got = {.code = 77};
	struct broker b = {.verb = "stop", .argument = ""};

	ck_assert_int_eq(ask(&b, &got), -EPIPE);
	b.says[0].bytes = &first;
	b.says[0].size = sizeof(first);
	ck_assert_int_eq(ask(&b, &got), -EPIPE); /* it ended before the last one */
	ck_assert_uint_eq(progressed, 1);
	b.says[0].size = sizeof(first) - 1;
	ck_assert_int_eq(ask(&b, &got), -EPROTO);
	b.says[0].bytes = "HTTP/1.1 200 OK";
	b.says[0].size = 15;
	ck_assert_int_eq(ask(&b, &got), -EPROTO);
	ck_assert_int_eq(got.code, 77);
}
END_TEST

/* It waits for as long as the broker may take: the test's only reason to be slow. */
START_TEST(a_silent_broker_is_not_waited_for_without_end)
{
	struct wire_result got;
	struct broker b = {.verb = "status", .argument = "", .stays = true};

	ck_assert_int_eq(ask(&b, &got), -ETIMEDOUT);
}
END_TEST

START_TEST(what_does_not_fit_is_not_sent)
{
	struct wire_result got;
	char name[WIRE_ARGUMENT + 1] = "";
	int pair[2];

	memset(name, 'n', WIRE_ARGUMENT);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	ck_assert_int_eq(command_ask(pair[0], "drain", name, 0, 0, NULL, NULL, &got), -EINVAL);
	ck_assert_int_eq(command_ask(pair[0], "abcdefghijklmnop", "", 0, 0, NULL, NULL, &got), -EINVAL);
	ck_assert_int_eq(wire_recv(pair[1], &got, sizeof(got), NULL), -EAGAIN);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

START_TEST(verbs_fit_the_message_and_are_found)
{
	struct wire_command command;

	ck_assert_uint_ge(command_nverbs, 4);
	for (unsigned i = 0; i < command_nverbs; i++) {
		ck_assert_uint_lt(strlen(command_verbs[i].name), sizeof(command.verb));
		ck_assert_ptr_eq(command_find(command_verbs[i].name), &command_verbs[i]);
	}
	ck_assert_ptr_null(command_find("nonsense"));
	ck_assert_ptr_null(command_find(""));
}
END_TEST

UNIT_MAIN("command", the_last_result_is_the_answer, a_text_without_an_end_gets_one, an_error_is_an_answer_too,
    a_broker_of_another_version, what_is_no_answer_is_not_taken_for_one, a_silent_broker_is_not_waited_for_without_end, what_does_not_fit_is_not_sent,
    verbs_fit_the_message_and_are_found)

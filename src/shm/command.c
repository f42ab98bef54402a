/* SPDX-License-Identifier: PostgreSQL */
/* Asking a broker for something, and reading what it answers. */
#include "command.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "pglease_errors.h"
#include "segment.h"

#define NS_PER_MS UINT64_C(1000000)
/* For the first answer, and on top of what the broker says that the next one may take. */
#define ANSWER_MS 5000

/* clang-format off */
const struct command_verb command_verbs[] = {
#define VERB_INFO(id, name, argument, help) {name, argument, help},
	COMMAND_VERBS(VERB_INFO)
#undef VERB_INFO
};
/* clang-format on */
const unsigned command_nverbs = sizeof(command_verbs) / sizeof(command_verbs[0]);

const struct command_verb *
command_find(const char *name)
{
	for (unsigned i = 0; i < command_nverbs; i++)
		if (strcmp(command_verbs[i].name, name) == 0)
			return &command_verbs[i];
	return NULL;
}

/* 0 when there is something to read. */
static int
await(int sock, uint64_t wait_ms)
{
	uint64_t deadline = clock_ns() + wait_ms * NS_PER_MS;

	for (;;) {
		struct pollfd p = {.fd = sock, .events = POLLIN};
		uint64_t now = clock_ns(), left = now < deadline ? (deadline - now) / NS_PER_MS + 1 : 0;
		int r = poll(&p, 1, left < 60000 ? (int)left : 60000);

		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (left == 0)
			return -ETIMEDOUT;
	}
}

/* One message. A broker that cannot take the command at all says ERROR: a last result too. */
static int
receive(int sock, struct wire_result *ret)
{
	union {
		struct wire_result result;
		struct wire_error error;
		char bytes[WIRE_MAX];
	} buf;
	ssize_t n = wire_recv(sock, buf.bytes, sizeof(buf), NULL);
	unsigned version;

	if (n <= 0)
		return n == 0 || n == -ECONNRESET ? -EPIPE : (int)n;
	if (wire_is(&buf, (size_t)n, WIRE_RESULT)) {
		*ret = buf.result;
		ret->text[sizeof(ret->text) - 1] = '\0';
		return 0;
	}
	version = wire_other_version(&buf, (size_t)n);
	if (version != 0) {
		*ret = (struct wire_result){.code = PGLEASE_EVERSION};
		snprintf(ret->text, sizeof(ret->text),
		    "the broker speaks version %u of the control protocol, this program version %u: use the one that "
		    "was installed with this broker",
		    version, WIRE_VERSION);
		return 0;
	}
	if (!wire_is(&buf, (size_t)n, WIRE_ERROR) || buf.error.code >= 0)
		return -EPROTO;
	*ret = (struct wire_result){.code = buf.error.code};
	snprintf(ret->text, sizeof(ret->text), "%.*s", (int)sizeof(buf.error.text) - 1, buf.error.text);
	return 0;
}

int
command_ask(int sock, const char *verb, const char *argument, int timeout_ms, uint32_t flags,
    command_progress progress, void *context, struct wire_result *ret_last)
{
	struct wire_command command = {.timeout_ms = timeout_ms, .flags = flags};
	struct wire_result result;
	uint64_t wait_ms = ANSWER_MS;
	ssize_t n;

	if (strlen(verb) >= sizeof(command.verb) || strlen(argument) >= sizeof(command.argument))
		return -EINVAL;
	wire_header_init(&command.header, WIRE_COMMAND);
	strcpy(command.verb, verb);
	strcpy(command.argument, argument);
	n = wire_send(sock, &command, sizeof(command), -1);
	if (n != (ssize_t)sizeof(command))
		return n < 0 ? (int)n : -EPIPE;
	for (;;) {
		int r = await(sock, wait_ms);

		if (r == 0)
			r = receive(sock, &result);
		if (r == -EAGAIN)
			continue;
		if (r != 0)
			return r;
		if (result.more == 0) {
			*ret_last = result;
			return 0;
		}
		if (progress != NULL)
			progress(context, &result);
		wait_ms = (uint64_t)result.within_ms + ANSWER_MS;
	}
}

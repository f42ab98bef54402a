/* SPDX-License-Identifier: PostgreSQL */
/*
 * pgleasectl, whole, with a broker that answers whatever the input says: a list of messages, each with a byte that says what is
 * sound about it. The connection ends behind the last.
 */
#include "fuzz.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl_run.h"
#include "paths.h"
#include "wire.h"

static char folder[64], path[PATHS_MAX];
static int listening = -1;
static struct fuzz answers;

static void
clean(void)
{
	unlink(path);
	rmdir(folder);
}

static void
start(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *tmp = getenv("TMPDIR");

	snprintf(folder, sizeof(folder), "%.40s/pglease-fuzz-XXXXXX", tmp != NULL ? tmp : "/tmp");
	fuzz_must(mkdtemp(folder) != NULL);
	fuzz_must(paths_control_socket(folder, path, sizeof(path)) == 0);
	strcpy(address.sun_path, path);
	listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	fuzz_must(bind(listening, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listening, 4) == 0);
	atexit(clean);
}

/* A message, sound as far as `how` says. */
static size_t
make(struct fuzz *f, unsigned char buf[WIRE_MAX + 8])
{
	union {
		struct wire_result result;
		struct wire_error error;
	} m;
	unsigned how = fuzz_byte(f);
	size_t n, size;
	const uint8_t *bytes;

	memset(&m, 0, sizeof(m));
	if ((how & 3) == 0) {
		bytes = fuzz_bytes(f, WIRE_MAX + 8, &n);
		memcpy(buf, bytes, n);
		return n;
	}
	if ((how & 1) != 0) {
		wire_header_init(&m.result.header, WIRE_RESULT);
		m.result.more = (how & 4) != 0;
		m.result.code = (how & 8) != 0 ? (int32_t)fuzz_number(f, 4) : 0;
		m.result.within_ms = (uint32_t)fuzz_number(f, 4);
		bytes = fuzz_bytes(f, sizeof(m.result.text), &n);
		memcpy(m.result.text, bytes, n);
		if ((how & 16) != 0) /* without an end */
			memset(m.result.text + n, 'x', sizeof(m.result.text) - n);
		size = sizeof(m.result);
	} else {
		wire_header_init(&m.error.header, WIRE_ERROR);
		m.error.header.version = (uint16_t)(m.error.header.version + ((how & 4) != 0));
		m.error.code = (int32_t)fuzz_number(f, 4);
		bytes = fuzz_bytes(f, sizeof(m.error.text), &n);
		memcpy(m.error.text, bytes, n);
		size = sizeof(m.error);
	}
	memcpy(buf, &m, size);
	return (how & 32) != 0 ? (size_t)fuzz_number(f, 2) % (size + 1) : size;
}

static void *
play(void *arg)
{
	unsigned char buf[WIRE_MAX + 8];
	int sock = accept(listening, NULL, NULL);

	(void)recv(sock, buf, sizeof(buf), 0);
	for (unsigned i = 0; i < 16 && answers.left > 0; i++) {
		size_t n = make(&answers, buf);

		/* An empty message would be the end. */
		if (n > 0 && send(sock, buf, n, MSG_NOSIGNAL) < 0)
			break;
	}
	close(sock);
	return NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const verbs[] = {"status", "drain", "resume", "revoke"};
	struct fuzz f = {data, size};
	unsigned how = fuzz_byte(&f);
	char name[] = "pgleasectl", verb[16], json[] = "-J", dir_option[] = "-s", argument[] = "app";
	char *argv[8] = {name}, *out, *err;
	size_t out_size, err_size;
	FILE *to, *to_err;
	pthread_t thread;
	int argc = 1, status;

	if (listening < 0)
		start();
	answers = f;
	snprintf(verb, sizeof(verb), "%s", verbs[how & 3]);
	argv[argc++] = dir_option;
	argv[argc++] = folder;
	if ((how & 4) != 0 && (how & 3) == 0)
		argv[argc++] = json;
	argv[argc++] = verb;
	if ((how & 3) != 0)
		argv[argc++] = argument;
	to = open_memstream(&out, &out_size);
	to_err = open_memstream(&err, &err_size);
	fuzz_must(to != NULL && to_err != NULL && pthread_create(&thread, NULL, play, NULL) == 0);
	status = ctl_run(argc, argv, to, to_err);
	pthread_join(thread, NULL);
	fclose(to);
	fclose(to_err);
	/* It says something, and why when it fails; a wrong command line would test nothing. */
	fuzz_must(status == 0 ? out_size > 0 : err_size > 0);
	fuzz_must(status == 0 || status == 3 || status == 4);
	free(out);
	free(err);
	return 0;
}

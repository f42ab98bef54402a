/* SPDX-License-Identifier: PostgreSQL */
/* See activation.h. */
#include "activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define FIRST 3
#define MOST 256
#define NAME ACTIVATION_NAME /* systemd's limit, with the zero */
#define NO_NAME "unknown"

static struct passed {
	int fd; /* -1: taken */
	char name[NAME];
} passed[MOST];
static unsigned npassed;

static bool
read_number(const char *text, long most, long *ret)
{
	char *end;

	if (text == NULL || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*ret = strtol(text, &end, 10);
	return errno == 0 && *end == '\0' && *ret <= most;
}

/* The next one of the names, which are separated by colons. */
static const char *
take_name(const char *names, char to[static NAME])
{
	size_t n = strcspn(names, ":");

	snprintf(to, NAME, "%.*s", n < NAME ? (int)n : NAME - 1, n != 0 ? names : NO_NAME);
	if (n == 0)
		strcpy(to, NO_NAME);
	return names + n + (names[n] == ':');
}

int
activation_begin(void)
{
	const char *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
	long pid, n = 0;

	/* Another process's: of the one that has started this one, perhaps. */
	if (!read_number(getenv("LISTEN_PID"), INT32_MAX, &pid) || pid != getpid())
		return 0;
	if (!read_number(count, MOST, &n))
		return log_refuse("LISTEN_FDS is \"%s\": allowed: a number up to %u", count != NULL ? count : "", MOST);
	for (int i = 0; i < n; i++) {
		passed[i].fd = FIRST + i;
		names = take_name(names != NULL ? names : "", passed[i].name);
		if (fcntl(passed[i].fd, F_SETFD, FD_CLOEXEC) != 0)
			return log_refuse("LISTEN_FDS says that there are %ld descriptors, and %d is not open", n, passed[i].fd);
	}
	npassed = (unsigned)n;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return 0;
}

int
activation_take(const char *name)
{
	for (unsigned i = 0; i < npassed; i++) {
		int fd = passed[i].fd;

		if (fd < 0 || strcmp(passed[i].name, name) != 0)
			continue;
		passed[i].fd = -1;
		return fd;
	}
	return -1;
}

static bool
is_stored(const struct passed *p)
{
	return strncmp(p->name, ACTIVATION_STORED, sizeof(ACTIVATION_STORED) - 1) == 0;
}

int
activation_take_stored(char ret_name[ACTIVATION_NAME])
{
	for (unsigned i = 0; i < npassed; i++) {
		if (passed[i].fd < 0 || !is_stored(&passed[i]))
			continue;
		strcpy(ret_name, passed[i].name);
		return activation_take(passed[i].name);
	}
	return -1;
}

static bool
get_number(int fd, int option, int *ret)
{
	socklen_t length = sizeof(*ret);

	return getsockopt(fd, SOL_SOCKET, option, ret, &length) == 0;
}

static const char *
what_is_wrong(int fd, int type, const char *path)
{
	struct sockaddr_un address = {0};
	socklen_t length = sizeof(address) - 1;
	int is, listens;

	if (!get_number(fd, SO_TYPE, &is))
		return "it is no socket";
	if (getsockname(fd, (struct sockaddr *)&address, &length) != 0 || address.sun_family != AF_UNIX)
		return "it is no Unix socket";
	if (is != type)
		return type == SOCK_SEQPACKET ? "it is not of sequential packets (ListenSequentialPacket=)"
		                              : "it is no stream (ListenStream=)";
	if (strcmp(address.sun_path, path) != 0)
		return "it is elsewhere";
	if (!get_number(fd, SO_ACCEPTCONN, &listens) || !listens)
		return "it does not listen (Accept=no)";
	return NULL;
}

int
activation_take_listener(const char *name, int type, const char *path, int *ret_fd)
{
	int fd = activation_take(name);
	const char *wrong = fd < 0 ? NULL : what_is_wrong(fd, type, path);

	if (wrong != NULL)
		return log_refuse("the service manager has passed descriptor %d as \"%s\", which is to listen at %s: %s", fd,
		    name, path, wrong);
	if (fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		return log_refuse("the socket \"%s\" that the service manager has passed: %m", name);
	*ret_fd = fd;
	return 0;
}

int
activation_end(void)
{
	for (unsigned i = 0; i < npassed; i++)
		if (passed[i].fd >= 0 && !is_stored(&passed[i]))
			return log_refuse("the service manager has passed descriptor %d as \"%s\": this instance has no use for it "
					  "(FileDescriptorName=control names the control socket)",
			    passed[i].fd, passed[i].name);
	return 0;
}

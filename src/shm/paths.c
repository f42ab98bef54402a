/* SPDX-License-Identifier: PostgreSQL */
/* Where an instance is found. */
#include "paths.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define NAME_MAX_LENGTH 47

static int __attribute__((format(printf, 3, 4)))
print_path(char *buf, size_t size, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(buf, size, format, args);
	va_end(args);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int
paths_check_name(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	return n == 0 || n > NAME_MAX_LENGTH || name[n] != '\0' ? -EINVAL : 0;
}

const char *
paths_instance(const char *name)
{
	if (name == NULL)
		name = getenv("PGLEASE_INSTANCE");
	return name != NULL && *name != '\0' ? name : PATHS_DEFAULT_INSTANCE;
}

static const char *
runtime_dir(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	return dir != NULL && *dir == '/' ? dir : NULL;
}

bool
paths_is_own_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

int
paths_default_socket_dir(const char *instance, char *buf, size_t size)
{
	int r = print_path(buf, size, "/run/pglease/%s", instance);

	/* Made for it by a service manager. */
	if (r != 0 || geteuid() == 0 || paths_is_own_dir(buf))
		return r;
	if (runtime_dir() != NULL)
		return print_path(buf, size, "%s/pglease/%s", runtime_dir(), instance);
	return print_path(buf, size, "/tmp/pglease-%u/%s", (unsigned)geteuid(), instance);
}

int
paths_candidate_socket_dir(const char *instance, unsigned index, char *buf, size_t size)
{
	const char *set = getenv("PGLEASE_SOCKET_DIR");

	if (set != NULL && *set != '\0')
		return index == 0 ? print_path(buf, size, "%s", set) : -ENOENT;
	if (runtime_dir() == NULL && index > 0)
		index++;
	switch (index) {
	case 0:
		return print_path(buf, size, "/run/pglease/%s", instance);
	case 1:
		return print_path(buf, size, "%s/pglease/%s", runtime_dir(), instance);
	case 2:
		return print_path(buf, size, "/tmp/pglease-%u/%s", (unsigned)geteuid(), instance);
	default:
		return -ENOENT;
	}
}

static int
socket_path(const char *dir, const char *name, char *buf, size_t size)
{
	size_t limit = sizeof(((struct sockaddr_un *)0)->sun_path);

	return print_path(buf, size < limit ? size : limit, "%s/%s", dir, name);
}

int
paths_control_socket(const char *dir, char *buf, size_t size)
{
	return socket_path(dir, "control", buf, size);
}

int
paths_adopt_socket(const char *dir, char *buf, size_t size)
{
	char name[32];

	snprintf(name, sizeof(name), ".s.PGSQL.%d", WIRE_PORT);
	return socket_path(dir, name, buf, size);
}

int
paths_stats_name(const char *instance, char *buf, size_t size)
{
	return print_path(buf, size, "/pglease.%s", instance);
}

int
paths_history_name(const char *instance, const char *pool, char *buf, size_t size)
{
	return print_path(buf, size, "/pglease.%s.history.%s", instance, pool);
}

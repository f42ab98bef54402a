/* SPDX-License-Identifier: PostgreSQL */
/* The instance's data folder; see datadir.h. */
#include "datadir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "paths.h"

int
datadir_path(const char *instance, const char *setting, char *buf, size_t size)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n = snprintf(buf, size, "/var/lib/pglease/%s", instance);

	if (*setting != '\0')
		n = snprintf(buf, size, "%s", setting);
	else if (geteuid() == 0 || paths_is_own_dir(buf))
		; /* root's, or made for it by a service manager */
	else if (state != NULL && *state == '/')
		n = snprintf(buf, size, "%s/pglease/%s", state, instance);
	else if (home != NULL && *home == '/')
		n = snprintf(buf, size, "%s/.local/state/pglease/%s", home, instance);
	else
		return -ENOENT;
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int
datadir_make(const char *path, mode_t mode)
{
	char part[PATHS_MAX + 16];

	if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
		return -ENAMETOOLONG;
	for (char *at = part + 1; *at != '\0'; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(part, 0755) != 0 && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return mkdir(path, mode) != 0 && errno != EEXIST ? -errno : 0;
}

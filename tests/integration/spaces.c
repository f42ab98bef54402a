/* SPDX-License-Identifier: PostgreSQL */
/* See spaces.h. */
#include "spaces.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static void
put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: %s", path, strerror(errno));
	close(fd);
}

void
spaces_enter(int flags)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[64];

	if (uid != 0)
		flags |= CLONE_NEWUSER;
	ck_assert_msg(unshare(flags) == 0, "a namespace of its own: %s", strerror(errno));
	if (uid != 0) {
		put("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "%u %u 1", uid, uid);
		put("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "%u %u 1", gid, gid);
		put("/proc/self/gid_map", map);
	}
	if ((flags & CLONE_NEWNS) != 0)
		ck_assert_msg(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mounts of its own: %s", strerror(errno));
}

void
spaces_mount_run(void)
{
	ck_assert_msg(mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") == 0, "a /run of its own: %s", strerror(errno));
}

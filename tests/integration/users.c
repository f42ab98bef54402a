/* SPDX-License-Identifier: PostgreSQL */
/* See users.h. */
#include "users.h"

#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

#include "it.h"

void
users_need_root(void)
{
	ck_assert_msg(geteuid() == 0, "this test plays several users: run it as root");
}

void
users_become(const struct who *who)
{
	ck_assert_int_eq(setgroups(who->extra != 0, &who->extra), 0);
	ck_assert_int_eq(setgid(who->gid), 0);
	ck_assert_int_eq(setuid(who->uid), 0);
}

int
users_as(struct who who, users_deed deed, const void *argument)
{
	int status;
	pid_t pid = check_fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		users_become(&who);
		_exit(-deed(argument) & 0xff);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status), "status %x", status);
	return -WEXITSTATUS(status);
}

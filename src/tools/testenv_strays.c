/* SPDX-License-Identifier: PostgreSQL */
/*
 * What the command's processes have left: children of this process now, which is their subreaper, beside the environment's
 * own, which are its library's to wait for. Those may have ended, too, and then stand in waitid's way.
 */
#include "testenv.h"

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "look_priv.h"

#define MAX_STRAYS 256 /* at a time */

/* Of /proc/<pid>/stat. A process that has gone meanwhile is nobody's. */
static bool
is_child(const char *pid)
{
	char path[320], line[512] = "", *after;
	int parent = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	if (fgets(line, sizeof(line), file) == NULL)
		line[0] = '\0';
	fclose(file);
	after = strrchr(line, ')'); /* the name before it may have anything in it */
	return after != NULL && sscanf(after, ") %*c %d", &parent) == 1 && parent == getpid();
}

static unsigned
find(pid_t strays[static MAX_STRAYS])
{
	DIR *list = opendir("/proc");
	struct dirent *entry;
	unsigned n = 0;

	while (list != NULL && n < MAX_STRAYS && (entry = readdir(list)) != NULL) {
		pid_t pid = isdigit((unsigned char)*entry->d_name) ? (pid_t)atoi(entry->d_name) : 0;

		if (pid != 0 && is_child(entry->d_name) && !look_is_own_process(pid))
			strays[n++] = pid;
	}
	if (list != NULL)
		closedir(list);
	return n;
}

void
testenv_strays_reap(pid_t command)
{
	pid_t strays[MAX_STRAYS];
	siginfo_t info;
	unsigned n;

	/* One by one as long as nobody stands in the way; then it takes a look at all. */
	for (;;) {
		memset(&info, 0, sizeof(info));
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == 0)
			return;
		if (info.si_pid == command || look_is_own_process(info.si_pid))
			break;
		waitpid(info.si_pid, NULL, 0);
	}
	n = find(strays);
	for (unsigned i = 0; i < n; i++)
		if (strays[i] != command)
			waitpid(strays[i], NULL, WNOHANG);
}

void
testenv_strays_end(void)
{
	pid_t strays[MAX_STRAYS];
	bool any = true;

	/* Whose parent ends becomes this one's child. One that may not be killed is left. */
	while (any) {
		unsigned n = find(strays);

		any = false;
		/* All, before any is awaited: one that is traced has not ended for its parent before who traces it has. */
		for (unsigned i = 0; i < n; i++)
			if (kill(strays[i], SIGKILL) != 0)
				strays[i] = 0;
		for (unsigned i = 0; i < n; i++)
			if (strays[i] != 0)
				any |= waitpid(strays[i], NULL, 0) == strays[i];
	}
}

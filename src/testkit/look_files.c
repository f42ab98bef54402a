/* SPDX-License-Identifier: PostgreSQL */
/* Files: in the environment's TMPDIR, the server's temporary ones, and objects in /dev/shm with the instance's name. */
#include "look.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEEPEST 32

static void
look_folder(struct look *look, const char *path, unsigned depth)
{
	DIR *list = opendir(path);
	struct dirent *entry;

	while (list != NULL && (entry = readdir(list)) != NULL) {
		char name[1024];
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(name, sizeof(name), "%.700s/%.255s", path, entry->d_name);
		if (lstat(name, &st))
			continue;
		look_note(look, PGLEASE_TEST_LEAK_FILE, name, "%s, %lld bytes%s", name, (long long)st.st_size,
		    S_ISDIR(st.st_mode) ? ", a folder" : "");
		if (S_ISDIR(st.st_mode) && depth > 0)
			look_folder(look, name, depth - 1);
	}
	if (list != NULL)
		closedir(list);
}

/* All of /dev/shm that has the instance's name in it and is not the broker's: its stats segment, its pools' histories. */
static void
look_objects(const struct pglease_test_env *env, struct look *look)
{
	DIR *list = opendir("/dev/shm");
	char own[64], histories[80];
	struct dirent *entry;

	snprintf(own, sizeof(own), "pglease.%s", env->instance);
	snprintf(histories, sizeof(histories), "%s.history.", own);
	while (list != NULL && (entry = readdir(list)) != NULL) {
		const char *name = entry->d_name;
		char key[300];

		if (strstr(name, env->instance) == NULL || strcmp(name, own) == 0 ||
		    strncmp(name, histories, strlen(histories)) == 0)
			continue;
		snprintf(key, sizeof(key), "name/%s", name);
		look_note(look,
		    strncmp(name, "sem.", 4) == 0 ? PGLEASE_TEST_LEAK_SEMAPHORE : PGLEASE_TEST_LEAK_SEGMENT, key,
		    "shared memory /dev/shm/%s", name);
	}
	if (list == NULL)
		look_unseen(look, "segments (%s)", strerror(errno));
	else
		closedir(list);
}

void
look_files(struct pglease_test_env *env, struct look *look)
{
	char spill[UPSTREAM_PATH + 32];

	look_folder(look, env->tmpdir, DEEPEST);
	if (env->has_upstream) {
		snprintf(spill, sizeof(spill), "%s/base/pgsql_tmp", env->upstream.data);
		look_folder(look, spill, 0);
	}
	look_objects(env, look);
}

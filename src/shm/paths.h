/* SPDX-License-Identifier: PostgreSQL */
/*
 * Where an instance is found: names and folders, the same rules for broker, library and tools.
 */
#ifndef PGLEASE_SHM_PATHS_H
#define PGLEASE_SHM_PATHS_H

#include <stdbool.h>
#include <stddef.h>

#define PATHS_DEFAULT_INSTANCE "main"
#define PATHS_MAX 256

/* 0, or -EINVAL when it is empty, longer than 47 bytes or has other characters than letters, digits, '_' and '-'. */
int paths_check_name(const char *name);
/* `name` if not NULL, else $PGLEASE_INSTANCE, else "main". */
const char *paths_instance(const char *name);

/*
 * Where a broker puts its sockets when its configuration does not say: /run/pglease/<instance> for root, and for
 * the user whose own folder that is; else $XDG_RUNTIME_DIR/pglease/<instance>, else /tmp/pglease-<uid>/<instance>. Returns 0 or -ENAMETOOLONG.
 */
int paths_default_socket_dir(const char *instance, char *buf, size_t size);
/* Whether it is a folder of the process's own user. */
bool paths_is_own_dir(const char *path);

/*
 * Where a client looks, in order; index from 0; returns 0, or -ENOENT past the last. $PGLEASE_SOCKET_DIR (the folder
 * itself) alone when it is set; else /run/pglease/<instance>, $XDG_RUNTIME_DIR/pglease/<instance>,
 * /tmp/pglease-<uid>/<instance>.
 */
int paths_candidate_socket_dir(const char *instance, unsigned index, char *buf, size_t size);

/* <dir>/control and <dir>/.s.PGSQL.<WIRE_PORT>. -ENAMETOOLONG when it does not fit a socket address (107 bytes). */
int paths_control_socket(const char *dir, char *buf, size_t size);
int paths_adopt_socket(const char *dir, char *buf, size_t size);

/* "/pglease.<instance>": the POSIX name of the instance's stats segment. */
int paths_stats_name(const char *instance, char *buf, size_t size);
/* "/pglease.<instance>.history.<pool>": that of a pool's history. A name has no dot: it is no instance's stats segment. */
int paths_history_name(const char *instance, const char *pool, char *buf, size_t size);

#endif

/* SPDX-License-Identifier: PostgreSQL */
/* The instance's data folder (data_dir): for the embedded PostgreSQL and for saved histories. */
#ifndef PGLEASE_BROKER_DATADIR_H
#define PGLEASE_BROKER_DATADIR_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Its path: the setting, or, when that is empty, /var/lib/pglease/<instance> for root, else $XDG_STATE_HOME/pglease/<instance>, else
 * ~/.local/state/pglease/<instance>. 0, -ENOENT when there is no place for it, or -ENAMETOOLONG.
 */
int datadir_path(const char *instance, const char *setting, char *buf, size_t size);
/* Makes it, and what is missing above (mode 0755). 0 or -errno. */
int datadir_make(const char *path, mode_t mode);

#endif

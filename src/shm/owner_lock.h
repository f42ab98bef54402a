/* SPDX-License-Identifier: PostgreSQL */
/*
 * The lock by which a process owns a file or an object: for writing, on all of it, of the open file description, so that the kernel
 * drops it when its holder dies.
 */
#ifndef PGLEASE_SHM_OWNER_LOCK_H
#define PGLEASE_SHM_OWNER_LOCK_H

/*
 * Takes it, without waiting. Returns 0; -EBUSY: it has an owner; -EUSERS: it has none, and cannot be had either, for somebody who may
 * only read it holds a lock for reading: whoever needs it makes another one in its place; or another -errno.
 */
int owner_lock(int fd);

#endif

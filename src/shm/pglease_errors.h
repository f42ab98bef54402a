/* SPDX-License-Identifier: PostgreSQL */
/*
 * The one list of pglease's error codes: number, name, text. Public (installed beside pglease.h) because callers
 * switch on the codes; shared with the broker because it answers with them. Numbers are part of the ABI: never
 * renumber, only append.
 */
#ifndef PGLEASE_ERRORS_H
#define PGLEASE_ERRORS_H

/* clang-format off */
#define PGLEASE_ERROR_LIST(X) \
	X(EINVAL,     1, "invalid argument") \
	X(ETIMEOUT,   2, "no connection free within the time allowed") \
	X(ESTALE,     3, "the lease is not held: released, revoked or never granted") \
	X(EBROKEN,    4, "the connection was lost or left unusable; the broker replaces it") \
	X(ENOBROKER,  5, "no broker of that name can be reached") \
	X(EGONE,      6, "the broker has gone or has detached this process") \
	X(ENOPOOL,    7, "no pool of that name") \
	X(EPERM,      8, "not permitted") \
	X(EVERSION,   9, "library and broker are of different versions") \
	X(ENOROWS,   10, "all lessee rows of the pool are in use") \
	X(ENOCLIENTS,11, "the instance has no room for another client") \
	X(ENOMEM,    12, "out of memory") \
	X(ESYSTEM,   13, "a system call failed") \
	X(EDRAINING, 14, "the pool grants no new leases") \
	X(EFORKED,   15, "the lease or handle belongs to the parent process") \
	X(EPROTOCOL, 16, "the peer sent something that the protocol does not allow") \
	X(EUPSTREAM, 17, "the server refuses connections") \
	X(EREFUSED,  18, "the broker does not do that now") \
	X(ELIMIT,    19, "the process holds as many leases of the pool as it may") \
	X(EAGAIN,    20, "not yet: the request has not come to its end") \
	X(ENOHISTORY,21, "no history is kept")
/* clang-format on */

enum pglease_error {
	PGLEASE_OK = 0,
#define PGLEASE_ERROR_ENUM(name, number, text) PGLEASE_##name = -(number),
	PGLEASE_ERROR_LIST(PGLEASE_ERROR_ENUM)
#undef PGLEASE_ERROR_ENUM
};

#endif

/* SPDX-License-Identifier: PostgreSQL */
/* What the environment says about this process: whether it takes part, and what happens without a broker. */
#ifndef PGLEASE_PRELOAD_FALLBACK_H
#define PGLEASE_PRELOAD_FALLBACK_H

#include <stdbool.h>

/* False: the program is one that never leases, or was told not to. */
bool fallback_takes_part(void);
/* Whether a connect may go past the broker when there is none. */
bool fallback_is_allowed(void);
/* Without a broker: true: connect directly, after one warning with this reason; false: the connect fails. */
bool fallback_is_direct(const char *why);

#endif

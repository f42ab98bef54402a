/* SPDX-License-Identifier: PostgreSQL */
/* What the broker does with a pool at each tick, and sooner when the pool asks for attention. */
#ifndef PGLEASE_BROKER_MAINTAIN_H
#define PGLEASE_BROKER_MAINTAIN_H

#include "clients.h"

void maintain_pool(struct pool *pool, const struct clients *clients, uint64_t now);

#endif

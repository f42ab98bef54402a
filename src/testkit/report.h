/* SPDX-License-Identifier: PostgreSQL */
/* What was leaked since the last mark (pglease_test.h), taken at once or, when the environment goes, in two steps. */
#ifndef PGLEASE_TESTKIT_REPORT_H
#define PGLEASE_TESTKIT_REPORT_H

#include "env_priv.h"

enum {
	REPORT_BEGIN = 1,   /* forgets the last one */
	REPORT_POOLS = 2,   /* leases, sessions */
	REPORT_PROCESS = 4, /* the rest */
};

int report_init(struct pglease_test_env *env);
void report_fini(struct pglease_test_env *env);
int report_take(struct pglease_test_env *env, unsigned parts);
unsigned report_count(const struct pglease_test_env *env);
/* One more, in the last report, of which the caller knows from elsewhere. */
int report_add(struct pglease_test_env *env, enum pglease_test_leak_kind kind, const char *what);
/* The leaks in one line. */
void report_text(const struct pglease_test_env *env, char *buf, size_t size);

#endif

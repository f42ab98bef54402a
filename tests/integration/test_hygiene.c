/* SPDX-License-Identifier: PostgreSQL */
/* What one lessee leaves is not there for the next one, with each policy of a pool. See hygiene.h. */
#include "hygiene.h"

static const struct hygiene_policy policies[] = {
    {.pool = "handover", .settings = ""},
    {.pool = "always", .settings = "reset = always\n"},
    {.pool = "light", .settings = "reset_kind = light\n", .light = true},
};

int
main(void)
{
	return hygiene_main(policies, sizeof(policies) / sizeof(policies[0]));
}

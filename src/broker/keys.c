/* SPDX-License-Identifier: PostgreSQL */
/* The keys of a connection's shells: few, so a plain array. */
#include "keys.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static struct server_key *
find(const struct server *s, uint64_t incarnation)
{
	for (unsigned i = 0; i < s->nkeys; i++)
		if (s->keys[i].incarnation == incarnation)
			return &s->keys[i];
	return NULL;
}

int
keys_mint(struct server *s, uint64_t incarnation, uint32_t *ret_key)
{
	struct server_key *known = find(s, incarnation);
	uint32_t key = 0;

	/* That of the connection before, whose attempt is remembered, has no key any more. */
	if (known != NULL && known->key != 0) {
		*ret_key = known->key;
		return 0;
	}
	if (known == NULL && s->nkeys == s->keys_size) {
		unsigned size = s->keys_size == 0 ? 4 : 2 * s->keys_size;
		struct server_key *keys = reallocarray(s->keys, size, sizeof(*keys));

		if (keys == NULL)
			return -ENOMEM;
		s->keys = keys;
		s->keys_size = size;
	}
	while (key == 0 || keys_owner(s, key) != 0)
		if (getrandom(&key, sizeof(key), 0) != sizeof(key))
			return -errno;
	if (known == NULL) {
		known = &s->keys[s->nkeys++];
		*known = (struct server_key){.incarnation = incarnation};
	}
	known->key = key;
	*ret_key = key;
	return 0;
}

uint64_t
keys_owner(const struct server *s, uint32_t key)
{
	for (unsigned i = 0; i < s->nkeys; i++)
		if (s->keys[i].key == key)
			return s->keys[i].incarnation;
	return 0;
}

void
keys_adopted(struct server *s, uint64_t incarnation, uint64_t attempt)
{
	struct server_key *known = find(s, incarnation);

	if (known != NULL)
		known->attempt = attempt;
}

bool
keys_was_adopted(const struct server *s, uint64_t incarnation, uint64_t attempt)
{
	const struct server_key *known = find(s, incarnation);

	return known != NULL && attempt != 0 && known->attempt == attempt;
}

void
keys_forget(struct server *s, uint64_t incarnation)
{
	struct server_key *known = find(s, incarnation);

	if (known != NULL)
		*known = s->keys[--s->nkeys];
}

void
keys_keep_attempt(struct server *s, uint64_t incarnation)
{
	struct server_key *known = find(s, incarnation);

	if (known != NULL) {
		s->keys[0] = *known;
		s->keys[0].key = 0;
	}
	s->nkeys = known != NULL;
}

void
keys_free(struct server *s)
{
	free(s->keys);
	s->keys = NULL;
	s->nkeys = s->keys_size = 0;
}

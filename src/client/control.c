/* SPDX-License-Identifier: PostgreSQL */
/*
 * Control commands for clients that may give them. Each goes over a connection of its own: the attachment's
 * is never held up by a drain that takes its time.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "client_priv.h"
#include "command.h"
#include "dial.h"

static int
command(pglease *client, const char *verb, const char *pool, int timeout_ms)
{
	char dir[PATHS_MAX], tried[DIAL_TRIED];
	struct wire_result result;
	int sock, r;

	if (client == NULL)
		return error_set(PGLEASE_EINVAL, "client is NULL");
	if (pool != NULL && (*pool == '\0' || strlen(pool) >= LAYOUT_NAME))
		return error_set(
		    PGLEASE_EINVAL, "pool '%.80s': a name is 1 to %d bytes long", pool, LAYOUT_NAME - 1);
	if (timeout_ms < PGLEASE_TIMEOUT_POOL)
		return error_set(PGLEASE_EINVAL,
		    "timeout_ms is %d: give milliseconds, or PGLEASE_TIMEOUT_POOL (-1)", timeout_ms);
	/* Instance and given_dir never change: no lock, and no part of the attachment, is needed. */
	r = dial_broker(client->instance, client->given_dir, dir, &sock, tried);
	if (r != 0)
		return client_no_broker(client, r, tried);
	r = command_ask(sock, verb, pool != NULL ? pool : "", timeout_ms, 0, NULL, NULL, &result);
	close(sock);
	switch (r) {
	case 0:
		break;
	case -ETIMEDOUT:
		return error_set(PGLEASE_ENOBROKER,
		    "the broker of %s in %s does not answer: is it stopped or overloaded?", client->instance,
		    dir);
	case -EPIPE:
		return error_set(
		    PGLEASE_EGONE, "the broker of %s has gone before it answered", client->instance);
	case -EPROTO:
		return error_set(PGLEASE_EPROTOCOL, "the broker of %s answered with something unexpected",
		    client->instance);
	default:
		return error_set_errno(PGLEASE_ESYSTEM, -r, "cannot ask the broker of %s", client->instance);
	}
	return result.code == 0 ? 0 : error_set(result.code, "%s", result.text);
}

int
pglease_drain(pglease *client, const char *pool, int timeout_ms)
{
	return command(client, "drain", pool, timeout_ms);
}

int
pglease_resume(pglease *client, const char *pool)
{
	return command(client, "resume", pool, PGLEASE_TIMEOUT_POOL);
}

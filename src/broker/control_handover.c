/* SPDX-License-Identifier: PostgreSQL */
/* Handing over the control connections. What a client has sent meanwhile waits in its socket. */
#include "control_priv.h"

#include <stdlib.h>

#include "handover.h"
#include "listener.h"
#include "log.h"

#define NO_CLIENT UINT32_MAX

/* The words of struct session. */
static void
session_fields(struct handover *h, struct session *s, uint32_t *client)
{
	handover_fd(h, &s->fd);
	HANDOVER(h, s->since);
	HANDOVER(h, s->version);
	HANDOVER(h, s->commanding);
	HANDOVER(h, s->opened);
	handover_bytes(h, client, sizeof(*client));
}

static int
take_session(struct control *c, struct handover *from)
{
	struct session *s = calloc(1, sizeof(*s));
	uint32_t client = 0;

	if (s == NULL)
		return log_refuse("out of memory");
	s->control = c;
	session_fields(from, s, &client);
	if (handover_check(from, false) != 0)
		return -1;
	if (client != NO_CLIENT) {
		s->client = clients_get(c->params.clients, client);
		if (s->client == NULL)
			return log_refuse("a control connection that was handed over belongs to no client");
		client_set_owner(s->client, session_client_died, s);
	}
	if (s->client != NULL || s->commanding) {
		TAILQ_INSERT_TAIL(&c->attached, s, all);
	} else {
		TAILQ_INSERT_TAIL(&c->silent, s, all);
		c->nsilent++;
	}
	if (!session_watch(s))
		return log_refuse("the event loop takes no more descriptors");
	return s->commanding ? commands_take_over(c->params.commands, s, from) : 0;
}

int
control_take_over(struct control *c, struct handover *from)
{
	uint32_t n = 0;

	handover_section(from, "sessions");
	HANDOVER(from, n);
	for (uint32_t i = 0; i < n; i++)
		if (take_session(c, from) != 0)
			return -1;
	return handover_check(from, false);
}

static void
hand_over_list(struct control *c, struct session_list *list, struct handover *to)
{
	struct session *s;

	TAILQ_FOREACH(s, list, all)
	{
		uint32_t client = s->client != NULL ? client_index(s->client) : NO_CLIENT;

		session_fields(to, s, &client);
		if (s->commanding)
			commands_hand_over(c->params.commands, s, to);
	}
}

void
control_hand_over(struct control *c, struct handover *to)
{
	struct session *s;
	uint32_t n = c->nsilent;

	listener_hand_over(c->listener, to);
	TAILQ_FOREACH(s, &c->attached, all)
		n++;
	handover_section(to, "sessions");
	HANDOVER(to, n);
	hand_over_list(c, &c->attached, to);
	hand_over_list(c, &c->silent, to);
}

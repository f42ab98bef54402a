/* SPDX-License-Identifier: PostgreSQL */
/* A small HTTP client for tests: one request for each connection, as the broker's HTTP wants it. Failures fail the test. */
#ifndef PGLEASE_TESTS_WEB_H
#define PGLEASE_TESTS_WEB_H

#include <stddef.h>

struct web_answer {
	int status;
	char *text; /* all of it, terminated; web_free() */
	const char *body;
	size_t body_length;
};

/* A connection to "unix:/path" or "127.0.0.1:port". */
int web_connect(const char *where);
/* Sends a request as it is and reads until the other side closes. */
void web_ask(const char *where, const char *request, struct web_answer *ret);
/* GET of a path, and further header lines, each with \r\n ("" for none). */
void web_get(const char *where, const char *path, const char *headers, struct web_answer *ret);
/* The value of a header, in a static buffer; NULL when there is none. */
const char *web_header(const struct web_answer *answer, const char *name);
void web_free(struct web_answer *answer);
/* Where the environment's broker serves HTTP, from its log: "127.0.0.1:port". Static. */
const char *web_of_broker(void);
/* The value of the first sample whose line begins with this text; NaN when there is none. */
double web_sample(const char *metrics, const char *start);

#endif

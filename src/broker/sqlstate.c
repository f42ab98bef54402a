/* SPDX-License-Identifier: PostgreSQL */
/* "FATAL:  28000: role ... does not exist\nLOCATION:  InitializeSessionUserId, miscinit.c:738\n" */
#include "sqlstate.h"

#include <string.h>

#define LENGTH (SQLSTATE_SIZE - 1)

static const char place[] = "LOCATION:  ";

/* After the severity's colon and two blanks: five capitals or digits, colon, blank. */
static int
is_sqlstate(const char *at)
{
	static const char allowed[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

	return strspn(at, allowed) == LENGTH && at[LENGTH] == ':' && at[LENGTH + 1] == ' ';
}

void
sqlstate_take(char *text, char ret_sqlstate[SQLSTATE_SIZE])
{
	char *to = text;

	memcpy(ret_sqlstate, SQLSTATE_NONE, SQLSTATE_SIZE);
	for (const char *at = text; *at != '\0';) {
		if ((at == text || at[-1] == '\n') && strncmp(at, place, sizeof(place) - 1) == 0) {
			at += strcspn(at, "\n");
			at += *at == '\n';
		} else if (at - text >= 3 && memcmp(at - 3, ":  ", 3) == 0 && is_sqlstate(at)) {
			memcpy(ret_sqlstate, at, LENGTH);
			at += LENGTH + 2;
		} else {
			*to++ = *at++;
		}
	}
	*to = '\0';
}

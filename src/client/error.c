/* SPDX-License-Identifier: PostgreSQL */
/* Error codes in words, and the calling thread's last message. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "pglease.h"

static _Thread_local char last_message[1024];

/* One line, whatever libpq's texts in it look like. */
static void
message_format(const char *format, va_list args)
{
	size_t n;

	vsnprintf(last_message, sizeof(last_message), format, args);
	n = strlen(last_message);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)last_message[i] < ' ')
			last_message[i] = ' ';
	while (n > 0 && last_message[n - 1] == ' ')
		last_message[--n] = '\0';
}

int
error_set(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	message_format(format, args);
	va_end(args);
	return code;
}

int
error_set_errno(int code, int errnum, const char *format, ...)
{
	char text[128];
	size_t used;
	va_list args;

	va_start(args, format);
	message_format(format, args);
	va_end(args);
	used = strlen(last_message);
	snprintf(last_message + used, sizeof(last_message) - used, ": %s",
	    strerror_r(errnum, text, sizeof(text)));
	return code;
}

const char *
pglease_error_message(void)
{
	return last_message;
}

const char *
pglease_strerror(int code)
{
	switch (code) {
	case PGLEASE_OK:
		return "success";
#define ERROR_TEXT(name, number, text)                                                                              \
	case PGLEASE_##name:                                                                                        \
		return text;
		PGLEASE_ERROR_LIST(ERROR_TEXT)
#undef ERROR_TEXT
	default:
		return "unknown error code";
	}
}

const char *
pglease_version(void)
{
	return PACKAGE_VERSION;
}

/* SPDX-License-Identifier: PostgreSQL */
/* The broker's log and its reason for not starting. Owns nothing but the level, the target and that reason. */
#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define LOG_LINE 1024
#define KINDS 256 /* more than there are places; two that meet share a count */
#define SECOND UINT64_C(1000000000)

static enum log_level level = LOG_LEVEL_WARNING;
static bool to_syslog;
static char reason[LOG_LINE];

static const struct {
	const char *name;
	int priority;
} level_info[] = {
    [LOG_LEVEL_ERROR] = {"error", LOG_ERR},
    [LOG_LEVEL_WARNING] = {"warning", LOG_WARNING},
    [LOG_LEVEL_INFO] = {"info", LOG_INFO},
    [LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
};

void
log_setup(enum log_level new_level, bool new_to_syslog)
{
	level = new_level;
	to_syslog = new_to_syslog;
	if (to_syslog)
		openlog("pgleased", LOG_PID, LOG_DAEMON);
}

void
log_flatten(char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = ' ';
	while (n > 0 && text[n - 1] == ' ')
		text[--n] = '\0';
}

/* Whether one more of this kind may be written; and how many may not have been since the last. */
static bool
may_write(const char *format, unsigned *ret_left_out)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static struct kind {
		uint64_t since;
		unsigned written, left_out;
	} kinds[KINDS];
	struct kind *kind = &kinds[((uintptr_t)format * UINT64_C(0x9e3779b97f4a7c15)) >> 56];
	uint64_t now = clock_ns();
	bool may;

	pthread_mutex_lock(&mutex);
	if (now - kind->since >= SECOND) {
		kind->since = now;
		kind->written = 0;
	}
	may = kind->written < LOG_MOST;
	*ret_left_out = may ? kind->left_out : 0;
	kind->written += may;
	kind->left_out = may ? 0 : kind->left_out + 1;
	pthread_mutex_unlock(&mutex);
	return may;
}

static void
put_line(enum log_level of, const char *text)
{
	char line[LOG_LINE + 128], stamp[32];
	struct timespec now;
	struct tm tm;
	int n;

	if (to_syslog) {
		syslog(level_info[of].priority, "%s", text);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
	n = snprintf(line, sizeof(line), "%s.%03ld pgleased[%ld] %s: %s\n", stamp, now.tv_nsec / 1000000,
	    (long)getpid(), level_info[of].name, text);
	/* One write a line. A log that cannot be written must not stop the broker. */
	if (n > 0 && write(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1) < 0)
		return;
}

static void LOG_PRINTF(2, 0) write_line(enum log_level of, const char *format, va_list args)
{
	char text[LOG_LINE];
	unsigned left_out = 0;

	if (of > level || (of != LOG_LEVEL_DEBUG && !may_write(format, &left_out)))
		return;
	vsnprintf(text, sizeof(text), format, args);
	log_flatten(text);
	if (left_out != 0) {
		char before[64];

		snprintf(before, sizeof(before), "%u lines like the next one were left out", left_out);
		put_line(of, before);
	}
	put_line(of, text);
}

#define LOG_FUNCTION(name, of)                \
	void name(const char *format, ...)    \
	{                                     \
		va_list args;                 \
                                              \
		va_start(args, format);       \
		write_line(of, format, args); \
		va_end(args);                 \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

int
log_refuse(const char *format, ...)
{
	va_list args;

	if (reason[0] == '\0') {
		va_start(args, format);
		vsnprintf(reason, sizeof(reason), format, args);
		va_end(args);
		log_flatten(reason);
	}
	return -1;
}

const char *
log_reason(void)
{
	return reason[0] != '\0' ? reason : "unknown reason";
}

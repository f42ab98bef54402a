/* SPDX-License-Identifier: PostgreSQL */
/*
 * The broker's log and its reason for not starting. Owns nothing but the level, the target and that reason; how the journal is
 * spoken to is journal.c's matter.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "datagram.h"
#include "journal.h"

#define LOG_LINE 1024
#define KINDS 256 /* more than there are places; two that meet share a count */
#define SECOND UINT64_C(1000000000)

static enum log_level level = LOG_LEVEL_WARNING;
static enum log_target target = LOG_TO_STDERR;
static const char *instance;
static const char *syslog_path = "/dev/log";
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

int
log_check(enum log_target wanted)
{
	int r = wanted == LOG_TO_JOURNAL ? journal_look() : 0;

	return r == 0 ? 0 : log_refuse("log = journal, and no journal listens at " JOURNAL_SOCKET ": %s", strerror(-r));
}

void
log_setup(enum log_level new_level, enum log_target wanted, bool background, const char *new_instance)
{
	/* The stream to the journal would take the text only. */
	if (wanted == LOG_TO_AUTO && journal_has_stream(STDERR_FILENO) && journal_look() == 0)
		wanted = LOG_TO_JOURNAL;
	else if (wanted == LOG_TO_AUTO)
		wanted = background ? LOG_TO_SYSLOG : LOG_TO_STDERR;
	level = new_level;
	target = wanted;
	instance = new_instance;
	if (target == LOG_TO_SYSLOG)
		openlog("pgleased", LOG_PID, LOG_DAEMON);
}

void
log_set_syslog_path(const char *path)
{
	syslog_path = path;
}

bool
log_is_on_stderr(void)
{
	return target == LOG_TO_STDERR;
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

/* False: it is lost. */
static bool
put_journal(enum log_level of, const struct log_about *about, const char *text)
{
	struct journal_entry e = {.used = 0};

	journal_field(&e, "MESSAGE", text);
	journal_number(&e, "PRIORITY", level_info[of].priority);
	journal_field(&e, "SYSLOG_IDENTIFIER", "pgleased");
	journal_number(&e, "SYSLOG_FACILITY", LOG_DAEMON >> 3);
	journal_number(&e, "SYSLOG_PID", getpid());
	journal_field(&e, "PGLEASE_INSTANCE", instance);
	journal_field(&e, "PGLEASE_POOL", about->pool);
	if (about->has_slot)
		journal_number(&e, "PGLEASE_SLOT", about->slot);
	if (about->client_pid > 0)
		journal_number(&e, "PGLEASE_CLIENT_PID", about->client_pid);
	if (about->server_pid > 0)
		journal_number(&e, "PGLEASE_SERVER_PID", about->server_pid);
	journal_field(&e, "PGLEASE_CAUSE", about->cause);
	journal_field(&e, "PGLEASE_SQLSTATE", about->sqlstate);
	return journal_send(&e) == 0;
}

/*
 * A line of syslog, as the C library writes it (RFC 3164); its own call waits for a daemon that does not read. One that listens on a
 * stream is left to that call.
 */
static bool
put_syslog(enum log_level of, const char *text)
{
	/* Not strftime's: the process that the broker is part of may have chosen a language. */
	static const char months[12][4] = {
	    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	const char *name = instance != NULL ? instance : "", *colon = instance != NULL ? ": " : "";
	char line[LOG_LINE + 256];
	time_t now = time(NULL);
	struct tm tm;
	int n, r;

	localtime_r(&now, &tm);
	n = snprintf(line, sizeof(line), "<%d>%s %2d %02d:%02d:%02d pgleased[%ld]: %s%s%s",
	    LOG_DAEMON | level_info[of].priority, months[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min,
	    tm.tm_sec, (long)getpid(), name, colon, text);
	r = datagram_send(syslog_path, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
	if (r == -EPROTOTYPE)
		syslog(level_info[of].priority, "%s%s%s", name, colon, text);
	return r == 0 || r == -EPROTOTYPE;
}

/*
 * One write, that does not wait. The descriptor itself cannot be told so: who else has it would be, too. A pipe and a terminal
 * can be opened once more; where that is not possible (another user's), a look before must do, and the mutex sees to it that no other
 * thread takes the room. True: all of it is written.
 */
static bool
write_stderr(const char *line, size_t size)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
	ssize_t n = -1;
	struct stat st;
	int fd = -1;

	if (fstat(STDERR_FILENO, &st) != 0)
		return false;
	if (S_ISSOCK(st.st_mode))
		return send(STDERR_FILENO, line, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
		fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0) {
		n = write(fd, line, size);
		close(fd);
		return n == (ssize_t)size;
	}
	pthread_mutex_lock(&mutex);
	if (poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) != 0)
		n = write(STDERR_FILENO, line, size);
	pthread_mutex_unlock(&mutex);
	return n == (ssize_t)size;
}

static bool
put_stderr(enum log_level of, const char *text)
{
	char line[LOG_LINE + 256], stamp[32];
	struct timespec now;
	struct tm tm;
	int n;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
	n = snprintf(line, sizeof(line), "%s.%03ld pgleased[%ld]%s%s %s: %s\n", stamp, now.tv_nsec / 1000000,
	    (long)getpid(), instance != NULL ? " " : "", instance != NULL ? instance : "", level_info[of].name, text);
	return write_stderr(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* False: it is lost. */
static bool
put(enum log_level of, const struct log_about *about, const char *text)
{
	switch (target) {
	case LOG_TO_SYSLOG:
		return put_syslog(of, text);
	case LOG_TO_JOURNAL:
		return put_journal(of, about, text);
	case LOG_TO_AUTO:
	case LOG_TO_STDERR:
		break;
	}
	return put_stderr(of, text);
}

static void
put_line(enum log_level of, const struct log_about *about, const char *text)
{
	/* Relaxed: a number for a message, and no other memory goes with it. */
	static _Atomic unsigned lost;
	unsigned n = atomic_exchange_explicit(&lost, 0, memory_order_relaxed);

	if (n != 0) {
		char before[96];

		snprintf(before, sizeof(before), "%u lines before this one were lost: the %s took none", n,
		    target == LOG_TO_SYSLOG    ? "syslog"
		    : target == LOG_TO_JOURNAL ? "journal"
		                               : "standard error output");
		if (!put(LOG_LEVEL_WARNING, LOG_ABOUT(.pool = NULL), before))
			atomic_fetch_add_explicit(&lost, n, memory_order_relaxed);
	}
	if (!put(of, about, text))
		atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
}

/* What the event is about, and then the text. */
static void LOG_PRINTF(3, 0)
compose(char text[static LOG_LINE], const struct log_about *about, const char *format, va_list args)
{
	size_t used = 0;

	text[0] = '\0';
	if (about->pool != NULL)
		used += (size_t)snprintf(text, LOG_LINE, "pool %s: ", about->pool);
	if (about->has_slot && used < LOG_LINE)
		used += (size_t)snprintf(text + used, LOG_LINE - used, "slot %u: ", about->slot);
	if (used < LOG_LINE)
		vsnprintf(text + used, LOG_LINE - used, format, args);
	log_flatten(text);
	used = strlen(text);
	if (about->sqlstate != NULL && *about->sqlstate != '\0')
		snprintf(text + used, LOG_LINE - used, " (SQLSTATE %s)", about->sqlstate);
}

static void LOG_PRINTF(3, 0)
write_line(enum log_level of, const struct log_about *about, const char *format, va_list args)
{
	char text[LOG_LINE];
	unsigned left_out = 0;

	if (of > level || (of != LOG_LEVEL_DEBUG && !may_write(format, &left_out)))
		return;
	compose(text, about, format, args);
	if (left_out != 0) {
		char before[96];

		snprintf(before, sizeof(before), "%u lines like the next one were left out", left_out);
		put_line(of, about, before);
	}
	put_line(of, about, text);
}

#define LOG_FUNCTION(name, of)                                         \
	void name(const char *format, ...)                             \
	{                                                              \
		va_list args;                                          \
                                                                       \
		va_start(args, format);                                \
		write_line(of, LOG_ABOUT(.pool = NULL), format, args); \
		va_end(args);                                          \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

void
log_event(enum log_level of, const struct log_about *about, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_line(of, about, format, args);
	va_end(args);
}

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

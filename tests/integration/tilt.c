/* SPDX-License-Identifier: PostgreSQL */
/* Preloaded into a broker: its wall clock, and no other, is off by the nanoseconds that stand in the file PGLEASE_TILT. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *ret);
int gettimeofday(struct timeval *restrict ret, void *restrict zone);
time_t time(time_t *ret);

static int64_t
tilt(void)
{
	static int fd = -1;
	int64_t ns = 0;

	if (fd < 0 && getenv("PGLEASE_TILT") != NULL)
		fd = open(getenv("PGLEASE_TILT"), O_RDONLY | O_CLOEXEC);
	return fd >= 0 && pread(fd, &ns, sizeof(ns), 0) == sizeof(ns) ? ns : 0;
}

__attribute__((visibility("default"))) int
clock_gettime(clockid_t clock, struct timespec *ret)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ret);
	int64_t ns;

	if (r != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
		return r;
	ns = (int64_t)ret->tv_sec * 1000000000 + ret->tv_nsec + tilt();
	ret->tv_sec = ns / 1000000000;
	ret->tv_nsec = ns % 1000000000;
	return 0;
}

__attribute__((visibility("default"))) int
gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	ret->tv_sec = now.tv_sec;
	ret->tv_usec = now.tv_nsec / 1000;
	return 0;
}

__attribute__((visibility("default"))) time_t
time(time_t *ret)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (ret != NULL)
		*ret = now.tv_sec;
	return now.tv_sec;
}

/* SPDX-License-Identifier: PostgreSQL */
/* The broker's limit of open files. Owns nothing but the rules: the limit is the kernel's, and may be changed meanwhile. */
#include "descriptors.h"

#include <sys/resource.h>

#include "log.h"

/* For the event loop, the sockets and segments, a connection, a client and a cancel. */
#define DESCRIPTORS_MIN 64
/* One eighth for each of the two sockets leaves most of them to those who are known. */
#define DESCRIPTORS_SHARE 8

int
descriptors_init(unsigned wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return log_refuse("cannot read the limit of open files: %m");
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};

		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
		else
			log_warning("cannot raise the limit of open files: %m");
	}
	if (limit.rlim_cur < DESCRIPTORS_MIN)
		return log_refuse("at most %lu open files are allowed, and at least %d are needed: raise the "
		                  "limit (ulimit -n, "
		                  "LimitNOFILE=)",
		    (unsigned long)limit.rlim_cur, DESCRIPTORS_MIN);
	if (limit.rlim_cur < wanted)
		log_warning("at most %lu open files are allowed, and max_clients and max_connections may "
		            "need %u: raise the "
		            "limit (ulimit -n, LimitNOFILE=)",
		    (unsigned long)limit.rlim_cur, wanted);
	return 0;
}

unsigned
descriptors_share(unsigned most)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / DESCRIPTORS_SHARE < most)
		return limit.rlim_cur < DESCRIPTORS_SHARE ? 1
		                                          : (unsigned)(limit.rlim_cur / DESCRIPTORS_SHARE);
	return most;
}

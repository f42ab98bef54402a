/* SPDX-License-Identifier: PostgreSQL */
/*
 * The hosts of a conninfo, as libpq takes them: three lists that belong together, of names, addresses and ports. Names
 * that must be looked up are looked up here, which blocks: resolver.c calls it in a thread.
 */
#ifndef PGLEASE_BROKER_HOSTS_H
#define PGLEASE_BROKER_HOSTS_H

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>

#define HOSTS_MAX 64

/* getaddrinfo, or what stands for it in a test. */
typedef int (*hosts_lookup)(
    const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **ret);

struct hosts {
	char *host, *hostaddr, *port; /* the lists; never NULL */
};

/* 0 or -ENOMEM. NULL counts as "". */
int hosts_init(struct hosts *hosts, const char *host, const char *hostaddr, const char *port);
void hosts_fini(struct hosts *hosts); /* accepts a zeroed one */

/* Whether libpq would look a name up for these, and so block. False also for lists that it will refuse. */
bool hosts_have_names(const struct hosts *hosts);
/* Whether all of them are this host, by what they are called: Unix sockets, localhost, loopback addresses. */
bool hosts_are_local(const struct hosts *hosts);
/*
 * The same hosts with an address for each name, and one entry for each of its addresses. Names without one are left out.
 * 0; or -1 when none is left, with a text that says why. Blocks.
 */
int hosts_resolve(
    const struct hosts *hosts, hosts_lookup lookup, struct hosts *ret, char *why, size_t why_size);

#endif

/* SPDX-License-Identifier: PostgreSQL */
/* A whole configuration file. */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "configuration.h"

static unsigned complaints;

static void
on_complaint(void *context, const char *message)
{
	complaints++;
	fuzz_must(strchr(message, '\n') == NULL && strncmp(message, context, strlen(context)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct configuration *c = NULL;
	char path[64];
	int fd = memfd_create("pgleased.ini", MFD_CLOEXEC);

	fuzz_must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	complaints = 0;
	if (configuration_read(path, on_complaint, path, &c) != 0) {
		fuzz_must(complaints > 0 && c == NULL);
		close(fd);
		return 0;
	}
	fuzz_must(complaints == 0 && c->npools > 0 && c->npools <= LAYOUT_MAX_POOLS);
	fuzz_must(c->instance.max_clients >= 1 && c->instance.max_clients <= LAYOUT_MAX_CLIENTS);
	for (unsigned i = 0; i < c->npools; i++) {
		const struct pool_settings *p = &c->pool[i];

		fuzz_must(paths_check_name(p->name) == 0);
		fuzz_must(p->min_connections <= p->max_connections && p->max_connections >= 1);
		fuzz_must(p->max_connections + p->reserve_connections <= LAYOUT_MAX_SLOTS);
		fuzz_must(p->embedded ? p->conninfo[0] == '\0' : p->conninfo[0] != '\0');
		fuzz_must(memchr(p->conninfo, 0, sizeof(p->conninfo)) != NULL);
		for (unsigned j = 0; j < i; j++)
			fuzz_must(strcmp(p->name, c->pool[j].name) != 0);
	}
	configuration_free(c);
	close(fd);
	return 0;
}

/* SPDX-License-Identifier: PostgreSQL */
/* See steps.h. */
#include "steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pglease_test.h"
#include "report.h"
#include "scenarios.h"
#include "segment.h"

/* Some ticks. */
#define REST_NS UINT64_C(500000000)
#define RESTS 20

struct tracee steps_broker;

/* Offsets of all instructions in the program's text, and which of them are steps of a tick. */
static struct steps all;
static bool *at_rest;

void
steps_add(struct steps *s, uintptr_t address)
{
	if (s->n % 1024 == 0) {
		s->address = reallocarray(s->address, s->n + 1024, sizeof(*s->address));
		if (s->address == NULL)
			report_fail("out of memory");
	}
	s->address[s->n++] = address;
}

/*
 * "<address> <name>:" begins a function. These run in threads of the broker's, which are not traced
 * (cancels.c with cancel_send.c, resolver.c, takeover.c with text_stream.c).
 */
static bool
begins_untraced(const char *line)
{
	static const char *const names[] = {
	    "run", "deliver", "job_free", "shared_drop", "cancel_send", "send_all", "await_end", "ask", "array_of",
	    "text_stream_open", "append", "text_stream_close"};
	const char *name = strchr(line, '<');
	size_t length = name != NULL ? strcspn(name + 1, ".>") : 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == length && strncmp(name + 1, names[i], length) == 0)
			return true;
	return false;
}

/* Where instructions begin only a disassembler knows. */
static void
read_instructions(void)
{
	char command[600], line[512];
	const char *dir = getenv("PGLEASE_BUILDDIR");
	bool untraced = false;
	FILE *f;

	if (all.n != 0)
		return;
	snprintf(command, sizeof(command), "objdump -d -j .text --no-show-raw-insn '%s/pgleased'",
	    dir != NULL ? dir : ".");
	f = popen(command, "r");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		char *end;
		unsigned long address = strtoul(line, &end, 16);

		if (line[0] == '0')
			untraced = begins_untraced(line);
		else if (line[0] == ' ' && end != line && *end == ':' && !untraced)
			steps_add(&all, address);
	}
	if (f == NULL || pclose(f) != 0 || all.n == 0)
		report_fail("objdump (binutils) does not read pgleased");
}

/* What is to be added to offsets in the program for addresses in this broker. */
static uintptr_t
load_address(pid_t pid)
{
	char path[64], line[512];
	unsigned long start = 0, offset = 1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/maps", (long)pid);
	f = fopen(path, "re");
	while (f != NULL && offset != 0 && fgets(line, sizeof(line), f) != NULL)
		if (strstr(line, "/pgleased") == NULL ||
		    sscanf(line, "%lx-%*x %*s %lx", &start, &offset) != 2)
			offset = 1;
	if (f != NULL)
		fclose(f);
	if (offset != 0)
		report_fail("pgleased is not in %s", path);
	return start;
}

void
steps_seize(void)
{
	if (!trace_seize(&steps_broker, pglease_test_broker_pid(stage_env())))
		report_fail("the broker cannot be traced");
}

static enum trace_end
until(const struct steps *s, bool *ret_seen, bool whole, bool (*done)(void *context), void *context)
{
	uintptr_t base = load_address(steps_broker.pid), *address = calloc(s->n, sizeof(*address));
	enum trace_end end;

	if (address == NULL)
		report_fail("out of memory");
	for (size_t i = 0; i < s->n; i++)
		address[i] = base + s->address[i];
	end = trace_until(&steps_broker, address, s->n, ret_seen, whole, done, context);
	free(address);
	if (end == TRACE_ENDED)
		report_fail("the broker has ended by itself");
	return end;
}

bool
steps_to(uintptr_t step, bool (*done)(void *context), void *context)
{
	struct steps one = {.address = &step, .n = 1};
	bool seen = false;

	return until(&one, &seen, false, done, context) == TRACE_THERE;
}

static bool
has_rested(void *context)
{
	return clock_ns() - *(const uint64_t *)context > REST_NS;
}

/* What the seized broker comes to, as seen. */
static bool *
look(bool (*done)(void *context), void *context)
{
	bool *seen = calloc(all.n, sizeof(*seen));

	if (seen == NULL)
		report_fail("out of memory");
	until(&all, seen, true, done, context);
	return seen;
}

static bool
is_any(const bool *seen)
{
	for (size_t i = 0; i < all.n; i++)
		if (seen[i])
			return true;
	return false;
}

void
steps_prepare(void)
{
	uint64_t since;

	read_instructions();
	/* On a busy machine there may be no tick in that time. */
	for (unsigned tries = 0; at_rest == NULL || !is_any(at_rest); tries++) {
		if (tries == RESTS)
			report_fail("the broker does not tick");
		free(at_rest);
		steps_seize();
		since = clock_ns();
		at_rest = look(has_rested, &since);
		trace_release(&steps_broker);
	}
}

void
steps_at_rest(struct steps *ret)
{
	for (size_t i = 0; i < all.n; i++)
		if (at_rest[i])
			steps_add(ret, all.address[i]);
}

void
steps_find(bool (*done)(void *context), void *context, struct steps *ret)
{
	bool *seen = look(done, context);

	for (size_t i = 0; i < all.n; i++)
		if (seen[i] && !at_rest[i])
			steps_add(ret, all.address[i]);
	free(seen);
}

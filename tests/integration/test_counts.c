/* SPDX-License-Identifier: PostgreSQL */
/*
 * What a lease costs in things that can be counted, whatever the machine is doing: instructions (callgrind), system calls (strace),
 * sleeps, bytes. It fails when one grows beyond what the table says; doc/performance.md has the same numbers. None of it
 * is a time.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "layout.h"
#include "program.h"

/*
 * One place to edit: `recorded` is what was counted when it was last looked into (gcc 12, -O2, x86-64, glibc 2.36, libpq 15), `limit`
 * is where the test fails.
 *
 * Why there is a margin. Instructions: other compilers, C libraries and libpqs differ by some tens of percent, and a build without
 * optimisation by several times (valgrind sees no vDSO: the clock is not in it). System calls: an answer that is not there yet costs a poll
 * and a second read, and how often is the machine's doing; so where there is no answer to wait for, there is no margin but for what
 * starting up differs by between two runs. Bytes are malloc's, libpq's buffers among them.
 */
#ifdef __OPTIMIZE__
#define UNOPTIMISED 1
#else
#define UNOPTIMISED 4
#endif
enum count {
	LEASE_INSTRUCTIONS,
	QUERY_INSTRUCTIONS,
	CACHED_INSTRUCTIONS,
	LEASE_CALLS,
	PEEK_CALLS,
	RESET_CALLS,
	HANDOVER_CALLS,
	HANDOVER_SLEEPS,
	CONNECT_CALLS,
	CONNECT_RESET_CALLS,
	CLIENT_HEAP,
	SHELL_HEAP,
	CLIENT_ROW,
	SLOT,
	WAITER,
};
static const struct {
	const char *what;
	double recorded, limit;
} counts[] = {
    [LEASE_INSTRUCTIONS] = {"instructions of acquire + release, idle slot, cached shell", 1023, 1023 * 1.3 * UNOPTIMISED},
    [QUERY_INSTRUCTIONS] = {"what a lease adds to a prepared statement's, libpq's own for its event procedure among them", 1693,
        1693 * 1.3 * UNOPTIMISED},
    [CACHED_INSTRUCTIONS] = {"what pglease_exec_cached adds to PQexecPrepared's", 2297, 2297 * 1.3 * UNOPTIMISED},
    [LEASE_CALLS] = {"system calls of acquire + release, idle slot, cached shell", 0, 0.05},
    [PEEK_CALLS] = {"the same of a slot that has been idle for longer than validation_bypass", 1, 1.05},
    [RESET_CALLS] = {"the same with a reset", 4, 6.5},
    /* Who is woken before the other sleeps again is the scheduler's choice: what polls would be in the hundreds. */
    [HANDOVER_CALLS] = {"system calls of a lease that is waited for and handed on", 2, 6},
    [HANDOVER_SLEEPS] = {"voluntary context switches of it", 1, 3},
    [CONNECT_CALLS] = {"system calls of a preloaded PQconnectdb + PQfinish, reset = never", 0, 0.05},
    [CONNECT_RESET_CALLS] = {"the same with a reset and application_name", 6, 9},
    [CLIENT_HEAP] = {"bytes of heap of a client with one pool of 1, besides its shells", 12144, 20480},
    [SHELL_HEAP] = {"bytes of heap of an adopted shell, libpq's own among them", 38304, 65536},
    [CLIENT_ROW] = {"bytes of a client in a pool's segment", 64, 64},
    [SLOT] = {"bytes of a slot in it, without prepared statements", 39360, 39360},
    [WAITER] = {"bytes of a lessee row in it, with its places in the queue", 144, 144},
};

static void
check(enum count count, double measured)
{
	printf("# %s: %.2f (recorded %.2f, at most %.2f)\n", counts[count].what, measured, counts[count].recorded,
	    counts[count].limit);
	fflush(stdout);
	ck_assert_msg(measured <= counts[count].limit, "%s: %.2f, and at most %.2f is allowed (recorded: %.2f)",
	    counts[count].what, measured, counts[count].limit, counts[count].recorded);
}

static const char *
file_of(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", pglease_test_folder(it_env), name);
	return path;
}

/* All the calls in a table of strace -c: the fourth number of each line. */
static double
calls_in(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[512], name[64];
	double sum = 0, calls;
	unsigned lines = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		const char *last = strrchr(line, ' ');

		if (last == NULL || sscanf(last, "%63s", name) != 1 || strcmp(name, "total") == 0 ||
		    sscanf(line, "%*f %*f %*f %lf", &calls) != 1)
			continue;
		sum += calls;
		lines++;
	}
	fclose(f);
	ck_assert_uint_gt(lines, 5); /* a program makes some */
	return sum;
}

static const char *
number(unsigned n)
{
	static char text[4][16];
	static unsigned next;
	char *to = text[next++ % 4];

	snprintf(to, sizeof(text[0]), "%u", n);
	return to;
}

static double
calls_of(const char *mode, unsigned n)
{
	const char *path = file_of("calls");

	unlink(path);
	program_ok(false, PROGRAM(program_built("libtool"), "--mode=execute", STRACE, "-f", "-c", "-o", path,
	    program_built("counted"), mode, number(n)));
	return calls_in(path);
}

static double
connect_calls_of(unsigned n)
{
	const char *path = file_of("calls");

	unlink(path);
	program_ok(true, PROGRAM(STRACE, "-f", "-c", "-o", path, program_built("connects"), number(n)));
	return calls_in(path);
}

static double
instructions_of(const char *mode, unsigned n)
{
	char log[600];
	const char *path = file_of("callgrind");
	char line[512];
	double collected = 0;
	FILE *f;

	snprintf(log, sizeof(log), "--log-file=%s", path);
	unlink(path);
	program_ok(false, PROGRAM(program_built("libtool"), "--mode=execute", VALGRIND, "--tool=callgrind",
	    "--callgrind-out-file=/dev/null", log, program_built("counted"), mode, number(n)));
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "==%*d== Collected : %lf", &collected);
	fclose(f);
	ck_assert(collected > 0);
	return collected;
}

static double
of_one(double (*count)(const char *mode, unsigned n), const char *mode, unsigned n)
{
	double once = count(mode, n);

	return (count(mode, 2 * n) - once) / n;
}

/* One connection, so that a lease goes to the slot whose shell is there; and a broker that does not take it away in between. */
#define UNDISTURBED "reset_after = 0\n"

static void
start(const char *extra)
{
	it_start(1, 1, extra);
	program_environment();
}

START_TEST(instructions)
{
	start(UNDISTURBED);
	check(LEASE_INSTRUCTIONS, of_one(instructions_of, "lease", 10000));
}
END_TEST

START_TEST(instructions_with_a_query)
{
	double kept;

	start(UNDISTURBED);
	kept = of_one(instructions_of, "kept", 2000);
	check(QUERY_INSTRUCTIONS, of_one(instructions_of, "leased", 2000) - kept);
	check(CACHED_INSTRUCTIONS, of_one(instructions_of, "cached", 2000) - kept);
}
END_TEST

START_TEST(a_lease_makes_no_system_call)
{
	start(UNDISTURBED);
	check(LEASE_CALLS, of_one(calls_of, "lease", 5000));
}
END_TEST

START_TEST(a_slot_that_was_idle_is_peeked_at)
{
	start(UNDISTURBED "validation_bypass = 0\n");
	check(PEEK_CALLS, of_one(calls_of, "lease", 2000));
}
END_TEST

START_TEST(a_reset)
{
	start(UNDISTURBED);
	check(RESET_CALLS, of_one(calls_of, "dirty", 500));
}
END_TEST

static double
sleeps_of(const char *mode, unsigned n)
{
	double slept;

	program_ok(false, PROGRAM(program_built("counted"), mode, number(n)));
	ck_assert_int_eq(sscanf(program_output(), "sleeps %lf", &slept), 1);
	return slept;
}

START_TEST(a_hand_over)
{
	start("grant_after = 0\nreset = never\n");
	check(HANDOVER_CALLS, of_one(calls_of, "handover", 2000));
	check(HANDOVER_SLEEPS, of_one(sleeps_of, "handover", 2000));
}
END_TEST

static double
of_one_connect(unsigned n)
{
	double once = connect_calls_of(n);

	return (connect_calls_of(2 * n) - once) / n;
}

START_TEST(a_connect_of_a_pool_that_resets_nothing)
{
	start("reset = never\n");
	unsetenv("PGCLIENTENCODING");
	check(CONNECT_CALLS, of_one_connect(1000));
}
END_TEST

START_TEST(a_connect)
{
	start("");
	check(CONNECT_RESET_CALLS, of_one_connect(500));
}
END_TEST

START_TEST(bytes)
{
	unsigned client, shell;

	start("");
	program_ok(false, PROGRAM(program_built("counted"), "memory"));
	ck_assert_int_eq(sscanf(program_output(), "client %u shell %u", &client, &shell), 2);
	check(CLIENT_HEAP, client);
	check(SHELL_HEAP, shell);
	check(CLIENT_ROW, sizeof(struct client_row));
	check(SLOT, sizeof(struct slot) + LAYOUT_BASELINE + sizeof(struct stats_block));
	check(WAITER, sizeof(struct row) + 2 * sizeof(uint64_t));
}
END_TEST

IT_MAIN("counts", instructions, instructions_with_a_query, a_lease_makes_no_system_call, a_slot_that_was_idle_is_peeked_at, a_reset, a_hand_over,
    a_connect_of_a_pool_that_resets_nothing, a_connect, bytes)

/* SPDX-License-Identifier: PostgreSQL */
/* See restart.h. */
#include "restart.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[96], go[96], real[512];

const char *
restart_path(void)
{
	return path;
}

/* At the end of the test's process. */
static void
finish(void)
{
	unlink(path);
	unlink(go);
	rmdir(folder);
}

void
restart_prepare(void)
{
	strcpy(folder, "/tmp/test_restart_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chmod(folder, 0755), 0);
	snprintf(path, sizeof(path), "%s/pgleased", folder);
	snprintf(go, sizeof(go), "%s/go", folder);
	snprintf(real, sizeof(real), "%s/pgleased", getenv("PGLEASE_BUILDDIR"));
	ck_assert_int_eq(symlink(real, path), 0);
	ck_assert_int_eq(setenv("PGLEASE_TEST_PGLEASED", path, 1), 0);
	ck_assert_int_eq(atexit(finish), 0);
}

void
restart_nothing(void)
{
	ck_assert_int_eq(unlink(path), 0);
}

void
restart_real(void)
{
	unlink(path);
	ck_assert_int_eq(symlink(real, path), 0);
}

void
restart_script(const char *agreement, const char *take_over)
{
	static const char as_it_is[] = "exec -a \"$0\" \"$real\" \"$@\"";
	char beside[112];
	FILE *f;

	snprintf(beside, sizeof(beside), "%s.new", path);
	f = fopen(beside, "we");
	ck_assert_ptr_nonnull(f);
	fprintf(f,
	    "#!/bin/bash\nreal='%s' go='%s'\ncase \"$*\" in\n*--agreement*)\n%s\n;;\n*--take-over*)\n%s\n;;\nesac\n", real, go,
	    agreement != NULL ? agreement : as_it_is, take_over != NULL ? take_over : as_it_is);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(beside, 0755), 0);
	ck_assert_int_eq(rename(beside, path), 0);
}

void
restart_go(void)
{
	FILE *f = fopen(go, "we");

	ck_assert_ptr_nonnull(f);
	fclose(f);
}

void
restart_await_log(const char *text)
{
	ck_assert_msg(
	    pglease_test_await_log(it_env, text, IT_PATIENCE_MS) == 0, "%s: %s", text, pglease_test_error_message());
}

void
restart_said(const char *text)
{
	char file[512], said[8192];
	FILE *f;
	size_t n;

	snprintf(file, sizeof(file), "%s/pgleasectl.log", pglease_test_folder(it_env));
	f = fopen(file, "re");
	ck_assert_ptr_nonnull(f);
	n = fread(said, 1, sizeof(said) - 1, f);
	said[n] = '\0';
	fclose(f);
	ck_assert_msg(strstr(said, text) != NULL, "no \"%s\" in: %s", text, said);
}

void
restart_now(void)
{
	pid_t before = pglease_test_broker_pid(it_env);

	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 0);
	ck_assert_int_eq(kill(before, 0), 0);
}

void
restart_refused(const char *why)
{
	pglease_pool *pool;
	pglease_lease lease;
	pglease *client;
	char text[256];

	snprintf(text, sizeof(text), "is not restarted: %s", why);
	ck_assert_int_eq(it_ctl("restart", NULL, NULL), 3);
	restart_await_log(text);
	it_ok(pglease_attach(NULL, NULL, &client));
	it_ok(pglease_pool_open(client, "app", &pool));
	ck_assert_str_eq(it_query(it_acquire(pool, &lease), "select 'served'"), "served");
	it_release(&lease);
	pglease_detach(client);
}

/* As the kit has made it. */
static const char *
first_configuration(void)
{
	static char first[4096];
	FILE *config;

	if (first[0] != '\0')
		return first;
	config = fopen(pglease_test_config(it_env), "re");
	ck_assert_ptr_nonnull(config);
	ck_assert_uint_lt(fread(first, 1, sizeof(first), config), sizeof(first));
	fclose(config);
	return first;
}

void
restart_configure(const char *instance, const char *own_pools)
{
	const char *first = first_configuration(), *pools = strstr(first, "[pool ");
	FILE *config = fopen(pglease_test_config(it_env), "we");

	ck_assert_ptr_nonnull(config);
	ck_assert_ptr_nonnull(pools);
	fwrite(first, 1, (size_t)(pools - first), config);
	fprintf(config, "%s\n%s\n", instance != NULL ? instance : "", own_pools != NULL ? own_pools : pools);
	ck_assert_int_eq(fclose(config), 0);
}

void
restart_set(const char *line)
{
	const char *at = first_configuration();
	size_t key = line != NULL ? strcspn(line, " =") : 0;
	FILE *config = fopen(pglease_test_config(it_env), "we");

	ck_assert_ptr_nonnull(config);
	while (*at != '\0') {
		size_t length = strcspn(at, "\n") + 1;

		/* A key is given once. */
		if (line == NULL || line[0] == '[' || strncmp(at, line, key) != 0)
			fwrite(at, 1, length, config);
		at += length;
	}
	if (line != NULL)
		fprintf(config, "%s\n", line);
	ck_assert_int_eq(fclose(config), 0);
}

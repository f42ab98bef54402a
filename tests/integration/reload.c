/* SPDX-License-Identifier: PostgreSQL */
/* See reload.h. */
#include "reload.h"

#include <stdio.h>
#include <string.h>

pglease_pool *pool, *two;
pglease_lease lease, other;
PGconn *conn;

/* A section, on the environment's server. */
const char *
reload_section(const char *name, const char *lines)
{
	static char text[4][1024];
	static unsigned next;
	char *at = text[next++ % 4];

	snprintf(at, sizeof(text[0]), "[pool %s]\nconninfo = %s application_name=%s\n%s\n", name, pglease_test_conninfo(it_env), name, lines);
	return at;
}

void
reload_configure(const char *instance, const char *app, const char *second)
{
	char pools[2100];

	snprintf(pools, sizeof(pools), "%s\n%s", app, second != NULL ? second : "");
	restart_configure(instance, pools);
}

void
reload_now(void)
{
	ck_assert_int_eq(it_ctl("reload", NULL, NULL), 0);
}

/* Pools app and two of these lines; NULL: there is no second one. This process is attached, and has them open. */
void
reload_start(const char *instance, const char *app, const char *second)
{
	const pglease_test_pool pools[] = {{.name = "app"}, {.name = "two"}};
	const pglease_test_options options = PGLEASE_TEST_OPTIONS(.pools = pools, .npools = 2, .no_broker = 1);

	restart_prepare();
	ck_assert_msg(pglease_test_env_new(&options, &it_env) == 0, "%s", pglease_test_error_message());
	reload_configure(instance, reload_section("app", app), second != NULL ? reload_section("two", second) : NULL);
	survive_start();
	pool = it_attach();
	if (second != NULL)
		it_ok(pglease_pool_open(it_client(), "two", &two));
}

uint64_t
reload_acquired(pglease_pool *p)
{
	pglease_stats stats;

	it_ok(pglease_stats_get(p, &stats));
	return stats.acquired;
}

/* Sessions of that name which the server has. */
unsigned
reload_sessions(const char *name)
{
	char sql[160], n[16];

	snprintf(sql, sizeof(sql), "select count(*) from pg_stat_activity where application_name = '%s'", name);
	ck_assert_int_eq(pglease_test_sql(it_env, sql, n, sizeof(n)), 0);
	return (unsigned)atoi(n);
}

struct wanted {
	const char *name;
	unsigned n;
};

static int
has_sessions(void *context)
{
	const struct wanted *w = context;

	return reload_sessions(w->name) == w->n;
}

void
reload_await_sessions(const char *name, unsigned n)
{
	struct wanted w = {name, n};

	ck_assert_msg(pglease_test_await(has_sessions, &w, IT_PATIENCE_MS) == 0, "%u sessions of %s, not %u", reload_sessions(name), name, n);
}

void
reload_assert_no_pool(pglease_pool *p)
{
	pglease_lease none;
	PGconn *c;

	ck_assert_int_eq(pglease_acquire(p, 20000, &none, &c), PGLEASE_ENOPOOL);
	ck_assert_ptr_nonnull(strstr(pglease_error_message(), "has no pool \"two\""));
}

void
reload_assert_serves(pglease_pool *p)
{
	ck_assert_str_eq(it_query(it_acquire(p, &other), "select 'served'"), "served");
	it_release(&other);
}

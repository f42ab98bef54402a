/* SPDX-License-Identifier: PostgreSQL */
/*
 * Our parts of HTTP: an address to listen on, Host, path, query and Accept, each a line of the input; and the page that is
 * rendered. What splits a request into these is libevent's.
 */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "http_address.h"
#include "http_history.h"
#include "http_pages.h"

static struct segment seg;
static const struct segment *pools[1] = {&seg};
static struct publisher *publisher;

static const char *
why_not_ready(void *context)
{
	return NULL;
}

/* One pool, published once. */
static void
start(void)
{
	struct segment_params params = {.instance_name = "fuzz",
	    .pool_name = "app",
	    .user = "u",
	    .dbname = "d",
	    .nslots = 2,
	    .nrows = 4,
	    .nclients = 2};
	char instance[48], name[PATHS_MAX];
	struct publisher_params publisher_params = {
	    .instance = instance, .socket_dir = "/nowhere", .mode = 0600, .pools = pools, .npools = 1};
	const char *error;
	int fd;

	snprintf(instance, sizeof(instance), "fuzz-http-%ld", (long)getpid());
	fuzz_must(segment_create(&params, &seg, &fd) == 0);
	fuzz_must(publisher_new(&publisher_params, &publisher, &error) == 0);
	fuzz_must(publisher_publish(publisher, SEGMENT_OPEN, pools, 1) == 0);
	/* Nobody looks for it by its name. */
	fuzz_must(paths_stats_name(instance, name, sizeof(name)) == 0 && shm_unlink(name) == 0);
}

static void
check_history(const char *query, const struct http_history_limits *limits)
{
	const uint64_t now = UINT64_C(1790000000) * 1000000000;
	struct http_history asked;
	struct text why = {0};
	uint64_t length;

	if (!http_history_parse(query, now, limits, &asked, &why)) {
		fuzz_must(why.length > 0 && why.at[why.length - 1] == '\n');
		for (size_t i = 0; i < why.length - 1; i++)
			fuzz_must(why.at[i] >= ' ' && why.at[i] <= '~');
		text_fini(&why);
		return;
	}
	fuzz_must(why.length == 0);
	text_fini(&why);
	length = asked.range.to - asked.range.from;
	fuzz_must(asked.range.from < asked.range.to && asked.range.step >= 1000000000);
	fuzz_must(length / asked.range.step <= HTTP_HISTORY_STEPS);
	fuzz_must(memchr(asked.pool, 0, sizeof(asked.pool)) != NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *line[5], *next = text, why[192];
	struct http_pages pages = {.pools = pools, .npools = 1, .why_not_ready = why_not_ready};
	struct http_history_limits limits = {.npools = 1 + size % 3};
	struct http_request request;
	struct http_address address;
	struct text body = {0};
	const char *type = NULL;
	int status;

	if (publisher == NULL)
		start();
	for (unsigned i = 0; i < 5; i++)
		line[i] = (line[i] = strsep(&next, "\n")) != NULL ? line[i] : text + strlen(text);
	if (http_address_parse(line[0], &address, why, sizeof(why)) != 0)
		fuzz_must(strstr(why, "allowed") != NULL &&
			  http_address_parse("127.0.0.1:80", &address, why, sizeof(why)) == 0);
	(void)http_address_host_is_ours(&address, line[1]);
	limits.retention = UINT64_C(3600) * 1000000000;
	check_history(line[3], &limits);
	pages.publisher = publisher;
	pages.retention = limits.retention;
	request = (struct http_request){.path = line[2], .query = line[3], .accept = line[4]};
	status = http_pages_render(&pages, &request, &body, &type);
	fuzz_must((status == 200 || status == 400 || status == 404 || status == 503) && type != NULL && body.length > 0);
	text_fini(&body);
	free(text);
	return 0;
}

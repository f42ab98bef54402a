/* SPDX-License-Identifier: PostgreSQL */
/* The files of http_page.h. WEB_SOURCE is the folder that they are in when this is compiled. */
#include "http_page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "paths.h"

#define CHARTS_FILE "dygraph.min.js"
#define CHARTS_MAX (4u << 20) /* bytes; it has about 130,000 */

#define HTML "text/html; charset=utf-8"
#define CSS "text/css; charset=utf-8"
#define SCRIPT "text/javascript; charset=utf-8"

/* X(symbol, path, file, type). Makemodule.am names the files too: they are what the object file is made of. */
/* clang-format off */
#define WEB_FILES(X) \
	X(index,  "/",              "index.html", HTML) \
	X(css,    "/web/page.css",  "page.css",   CSS) \
	X(icon,   "/web/icon.svg",  "icon.svg",   "image/svg+xml") \
	X(page,   "/web/page.js",   "page.js",    SCRIPT) \
	X(charts, "/web/charts.js", "charts.js",  SCRIPT) \
	X(events, "/web/events.js", "events.js",  SCRIPT) \
	X(format, "/web/format.js", "format.js",  SCRIPT) \
	X(poll,   "/web/poll.js",   "poll.js",    SCRIPT) \
	X(series, "/web/series.js", "series.js",  SCRIPT) \
	X(tables, "/web/tables.js", "tables.js",  SCRIPT)

/* The assembler copies a file between two symbols of this object. */
#define EMBED(symbol, path, file, type) \
	__asm__(".pushsection .rodata,\"a\"\n" \
		".globl pglease_web_" #symbol ", pglease_web_" #symbol "_end\n" \
		".hidden pglease_web_" #symbol ", pglease_web_" #symbol "_end\n" \
		"pglease_web_" #symbol ":\n" \
		".incbin \"" WEB_SOURCE "/" file "\"\n" \
		"pglease_web_" #symbol "_end:\n" \
		".byte 0\n" \
		".popsection\n"); \
	extern const unsigned char pglease_web_##symbol[], pglease_web_##symbol##_end[];
/* clang-format on */
WEB_FILES(EMBED)

#define COUNT_ONE(symbol, path, file, type) + 1
#define NFILES (WEB_FILES(COUNT_ONE) + 1u) /* and the charts' */

struct http_page {
	struct http_page_file file[NFILES];
	unsigned nfiles;
	unsigned char *charts; /* read; NULL: none */
};

/* FNV-1a: what differs has another one, nothing more is asked of it. */
static void
sign(struct http_page_file *file)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < file->size; i++)
		hash = (hash ^ file->bytes[i]) * UINT64_C(0x100000001b3);
	snprintf(file->etag, sizeof(file->etag), "\"%016llx\"", (unsigned long long)hash);
}

static void
add_file(struct http_page *page, const char *path, const char *type, const unsigned char *bytes, size_t size)
{
	struct http_page_file *file = &page->file[page->nfiles++];

	*file = (struct http_page_file){.path = path, .type = type, .bytes = bytes, .size = size};
	sign(file);
}

/* A regular file of a bounded size, or -errno. */
static int
read_file(const char *path, unsigned char **ret, size_t *ret_size)
{
	/* A pipe that somebody put there holds nobody up. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = 0;
	unsigned char *bytes = NULL;
	struct stat st;
	size_t got = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		r = -EINVAL;
	else if (st.st_size > (off_t)CHARTS_MAX)
		r = -EFBIG;
	else if ((bytes = malloc((size_t)st.st_size)) == NULL)
		r = -ENOMEM;
	while (r == 0 && n > 0 && got < (size_t)st.st_size) {
		n = read(fd, bytes + got, (size_t)st.st_size - got);
		if (n < 0)
			r = -errno;
		else
			got += (size_t)n;
	}
	close(fd);
	if (r != 0) {
		free(bytes);
		return r;
	}
	*ret = bytes;
	*ret_size = got;
	return 0;
}

static void
read_charts(struct http_page *page, const char *folder)
{
	char path[PATHS_MAX + sizeof(CHARTS_FILE)];
	size_t size = 0;
	int r;

	snprintf(path, sizeof(path), "%s/%s", folder, CHARTS_FILE);
	r = read_file(path, &page->charts, &size);
	if (r == 0)
		add_file(page, "/web/" CHARTS_FILE, SCRIPT, page->charts, size);
	else
		log_info("the page at / has numbers and no charts: %s: %s (Debian: libjs-dygraphs; http_charts names another folder)",
		    path, strerror(-r));
}

struct http_page *
http_page_new(const char *charts)
{
	struct http_page *page = calloc(1, sizeof(*page));

	if (page == NULL)
		return NULL;
#define ADD(symbol, path, file, type) \
	add_file(page, path, type, pglease_web_##symbol, (size_t)(pglease_web_##symbol##_end - pglease_web_##symbol));
	WEB_FILES(ADD)
#undef ADD
	read_charts(page, charts);
	return page;
}

const struct http_page_file *
http_page_find(const struct http_page *page, const char *path)
{
	for (unsigned i = 0; page != NULL && i < page->nfiles; i++)
		if (strcmp(page->file[i].path, path) == 0)
			return &page->file[i];
	return NULL;
}

bool
http_page_is_known(const struct http_page_file *file, const char *if_none_match)
{
	return if_none_match != NULL && strstr(if_none_match, file->etag) != NULL;
}

void
http_page_free(struct http_page *page)
{
	if (page == NULL)
		return;
	free(page->charts);
	free(page);
}

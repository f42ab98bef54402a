/* SPDX-License-Identifier: PostgreSQL */
/* HTTP; see http.h. */
#include "http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "handover.h"
#include "http_address.h"
#include "http_page.h"
#include "log.h"

#define MAX_HEADERS 8192
#define MAX_BODY 1024 /* a GET has none */
#define TIMEOUT_S 5   /* without a byte */
#define BACKLOG 32

struct http {
	struct http_address address;
	struct http_pages pages;
	struct http_page *page; /* NULL: none is served */
	struct evhttp *evhttp;
	struct http_guard *guard;
	int fd; /* the listener's */
	struct { /* of the Unix socket, so that only our own is removed */
		dev_t device;
		ino_t inode;
	} made;
};

static const struct {
	int status;
	const char *text;
} reasons[] = {{200, "OK"}, {304, "Not Modified"}, {400, "Bad Request"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
    {500, "Internal Server Error"}, {503, "Service Unavailable"}};

static const char *
reason_of(int status)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "";
}

static void
free_body(const void *data, size_t size, void *body)
{
	free(body);
}

struct answer {
	int status;
	const char *type;
	const struct http_page_file *file; /* that it is; NULL: a page of the moment */
};

static void
add_headers(struct evkeyvalq *headers, const struct answer *a, size_t length)
{
	static const struct {
		const char *name, *value;
	} fixed[] = {
	    {"Connection", "close"},
	    {"X-Content-Type-Options", "nosniff"},
	    {"Referrer-Policy", "no-referrer"},
	    {"Cross-Origin-Resource-Policy", "same-origin"},
	};
	char number[TEXT_NUMBER];

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		evhttp_add_header(headers, fixed[i].name, fixed[i].value);
	/* A file is kept, and asked for again each time: the next broker may have another. */
	evhttp_add_header(headers, "Cache-Control", a->file != NULL ? "no-cache" : "no-store");
	evhttp_add_header(headers, "Content-Security-Policy", a->file != NULL ? HTTP_PAGE_POLICY : "default-src 'none'");
	if (a->file != NULL)
		evhttp_add_header(headers, "ETag", a->file->etag);
	if (a->status == 405)
		evhttp_add_header(headers, "Allow", "GET, HEAD");
	if (a->status == 304)
		return;
	text_decimal(length, 0, number);
	evhttp_add_header(headers, "Content-Type", a->type);
	evhttp_add_header(headers, "Content-Length", number);
}

/* Takes the text. A HEAD gets the headers of a GET. */
static void
reply(struct evhttp_request *req, struct answer *a, struct text *text)
{
	struct evbuffer *out = evhttp_request_get_output_buffer(req);
	bool head = evhttp_request_get_command(req) == EVHTTP_REQ_HEAD || a->status == 304;
	size_t length;
	char *body = text_take(text, &length);

	if (body == NULL) {
		*a = (struct answer){.status = 500, .type = "text/plain; charset=utf-8"};
		length = 0;
	}
	add_headers(evhttp_request_get_output_headers(req), a, length);
	/* By reference: it is not copied. */
	if (body != NULL && (head || evbuffer_add_reference(out, body, length, free_body, body) != 0))
		free(body);
	evhttp_send_reply(req, a->status, reason_of(a->status), NULL);
}

static void
on_request(struct evhttp_request *req, void *arg)
{
	struct http *h = arg;
	struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	enum evhttp_cmd_type command = evhttp_request_get_command(req);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	struct http_request request = {
	    .path = path != NULL ? path : "",
	    .query = uri != NULL ? evhttp_uri_get_query(uri) : NULL,
	    .accept = evhttp_find_header(headers, "Accept"),
	};
	struct answer a = {.type = "text/plain; charset=utf-8"};
	struct text body = {0};

	if (!http_address_host_is_ours(&h->address, evhttp_find_header(headers, "Host"))) {
		text_add(&body, "this Host is not served here; ask for localhost\n");
		a.status = 403;
	} else if (command != EVHTTP_REQ_GET && command != EVHTTP_REQ_HEAD) {
		text_add(&body, "only GET and HEAD: this page changes nothing\n");
		a.status = 405;
	} else if ((a.file = http_page_find(h->page, request.path)) != NULL) {
		a.type = a.file->type;
		a.status = http_page_is_known(a.file, evhttp_find_header(headers, "If-None-Match")) ? 304 : 200;
		if (a.status == 200)
			text_add_n(&body, (const char *)a.file->bytes, a.file->size);
	} else {
		a.status = http_pages_render(&h->pages, &request, &body, &a.type);
	}
	reply(req, &a, &body);
}

static int
refuse_bind(const struct http_params *params, int error)
{
	if (error == -EADDRINUSE)
		return log_refuse("http_listen: %s is in use by another process; choose another, or stop it", params->listen);
	if (error == -EACCES || error == -EPERM)
		return log_refuse("http_listen: %s: not permitted (ports below 1024 are root's; the socket's folder must be "
				  "the broker's to write)",
		    params->listen);
	return log_refuse("http_listen: cannot listen on %s: %s", params->listen, strerror(-error));
}

static int
start_listening(struct http *h, const struct http_params *params)
{
	struct evconnlistener *listener;
	struct stat st;
	char where[PATHS_MAX + 16];
	int fd;

	if (params->from != NULL) {
		http_hand_over(h, params->from); /* the same fields, read */
		fd = h->fd >= 0 ? h->fd : -EBADF;
	} else {
		fd = http_address_bind(&h->address, params->mode);
	}
	if (fd < 0)
		return refuse_bind(params, fd);
	h->fd = fd;
	if (params->from == NULL && h->address.is_unix && lstat(h->address.path, &st) == 0) {
		h->made.device = st.st_dev;
		h->made.inode = st.st_ino;
	}
	listener = evconnlistener_new(params->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, BACKLOG, fd);
	if (listener == NULL) {
		int error = -errno;

		close(fd);
		return refuse_bind(params, error);
	}
	if (evhttp_bind_listener(h->evhttp, listener) == NULL) {
		evconnlistener_free(listener);
		return log_refuse("out of memory");
	}
	h->guard = http_guard_new(params->base, h->evhttp, listener);
	if (h->guard == NULL)
		return log_refuse("out of memory");
	http_address_describe(&h->address, fd, where, sizeof(where));
	if (params->from == NULL)
		log_info("HTTP is served on %s", where);
	return 0;
}

int
http_new(const struct http_params *params, struct http **ret)
{
	struct http *h = calloc(1, sizeof(*h));
	char why[192];

	if (h == NULL)
		return log_refuse("out of memory");
	h->pages = params->pages;
	h->pages.has_page = params->charts != NULL;
	if (params->charts != NULL) {
		h->page = http_page_new(params->charts);
		if (h->page == NULL) {
			log_refuse("out of memory");
			goto fail;
		}
	}
	if (http_address_parse(params->listen, &h->address, why, sizeof(why)) != 0) {
		log_refuse("http_listen: %s", why);
		goto fail;
	}
	h->evhttp = evhttp_new(params->base);
	if (h->evhttp == NULL) {
		log_refuse("out of memory");
		goto fail;
	}
	evhttp_set_max_headers_size(h->evhttp, MAX_HEADERS);
	evhttp_set_max_body_size(h->evhttp, MAX_BODY);
	evhttp_set_timeout(h->evhttp, TIMEOUT_S);
	/* All that it knows: what is not GET or HEAD is refused with what is allowed. */
	evhttp_set_allowed_methods(h->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
						  EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
						  EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
	evhttp_set_gencb(h->evhttp, on_request, h);
	if (start_listening(h, params) != 0)
		goto fail;
	*ret = h;
	return 0;

fail:
	http_free(h);
	return -1;
}

void
http_hand_over(struct http *h, struct handover *to)
{
	handover_section(to, "http");
	handover_fd(to, &h->fd);
	HANDOVER(to, h->made);
}

void
http_pause(struct http *http)
{
	if (http != NULL)
		http_guard_pause(http->guard, true);
}

void
http_go_on(struct http *http)
{
	if (http != NULL)
		http_guard_pause(http->guard, false);
}

bool
http_is_quiet(const struct http *http)
{
	return http == NULL || http_guard_is_quiet(http->guard);
}

void
http_tick(struct http *http, uint64_t now)
{
	if (http != NULL)
		http_guard_tick(http->guard, now);
}

void
http_free(struct http *h)
{
	struct stat st;

	if (h == NULL)
		return;
	if (h->evhttp != NULL)
		evhttp_free(h->evhttp);
	http_guard_free(h->guard);
	http_page_free(h->page);
	if (h->made.inode != 0 && lstat(h->address.path, &st) == 0 && st.st_dev == h->made.device &&
	    st.st_ino == h->made.inode)
		unlink(h->address.path);
	free(h);
}

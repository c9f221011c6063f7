/* The head of a request: its target, taken apart before MHD does it, its beginning, and what is refused by its head
 * alone. Thread: loop. Owns nothing but what the request owns. */
#include "daemon/http_private.h"

#include <strings.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

enum { ARENA_BYTES_MAX = 1 << 20 };

static bool is_id_good(const char *id)
{
    size_t length = id == NULL ? 0 : strlen(id);
    return length > 0 && length < REQUEST_ID_BYTES_MAX &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == length;
}

/* Takes the query apart in a copy: '+' is a space, '&' becomes a NUL. */
static bool copy_target(struct request *request, const char *target)
{
    size_t path_length = strcspn(target, "?");
    char *path = arena_copy_string(&request->arena, target);
    if (path == NULL) {
        return false;
    }
    request->path = path;
    request->target_end = (uintptr_t)(target + strlen(target));
    if (path[path_length] == '?') {
        path[path_length] = '\0';
        request->query = path + path_length + 1;
        request->query_bytes = strlen(request->query);
    }
    for (size_t i = 0; i < request->query_bytes; i++) {
        char *at = &request->query[i];
        *at = *at == '+' ? ' ' : *at == '&' ? '\0' : *at;
    }
    return true;
}

struct request *http_request_create(struct listener *listener, struct MHD_Connection *connection, const char *target)
{
    struct request *request = mem_allocate(1, sizeof *request);
    if (request == NULL) {
        return NULL;
    }
    struct http *http = listener->http;
    request->magic = HTTP_REQUEST_MAGIC;
    request->references = 1;
    request->http = http;
    request->listener = listener;
    request->connection = connection;
    request->arena.bytes_max = ARENA_BYTES_MAX + 4 * (size_t)http->settings->connection_bytes_max;
    request->body_bytes_max = http->settings->body_bytes_max;
    http->open_parts++;
    if (!copy_target(request, target)) {
        http_request_unref(request);
        return NULL;
    }
    return request;
}

bool http_request_begin(struct request *request, const char *method)
{
    struct http *http = request->http;
    request->method = arena_copy_string(&request->arena, method);
    if (request->method == NULL) {
        return false;
    }
    request->is_begun = true;
    request->started_ns = clock_now_ns();
    const char *id = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "X-Request-Id");
    if (is_id_good(id)) {
        snprintf(request->id, sizeof request->id, "%s", id);
    } else {
        snprintf(request->id, sizeof request->id, "%016llx", (unsigned long long)rng_system());
    }
    request->next = http->requests;
    request->link = &http->requests;
    if (request->next != NULL) {
        request->next->link = &request->next;
    }
    http->requests = request;
    http->request_count++;
    return true;
}

/* ---- What is refused */

void http_reply_too_large(struct request *request)
{
    struct error error;
    error_set(&error, STATUS_TOO_LARGE, "the body has more than %zu bytes", request->body_bytes_max);
    error_code(&error, "body_too_large");
    request_reply_error(request, &error);
}

struct framing {
    const char *length;
    size_t host_count, coding_count;
    bool is_ambiguous;
};

static enum MHD_Result on_framing_header(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    struct framing *framing = context;
    if (strcasecmp(name, "Content-Length") == 0) {
        framing->is_ambiguous |= framing->length != NULL && strcmp(framing->length, value) != 0;
        framing->length = value;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        framing->is_ambiguous |= strcasecmp(value, "chunked") != 0 || framing->coding_count++ > 0;
    } else if (strcasecmp(name, "Host") == 0) {
        framing->is_ambiguous |= framing->host_count++ > 0;
    }
    return MHD_YES;
}

/* A request that a proxy in front may cut, or send, elsewhere than MHD does (RFC 9112, 3.2 and 6.3). */
static bool is_framing_bad(struct request *request)
{
    struct framing framing = {.length = NULL};
    MHD_get_connection_values(request->connection, MHD_HEADER_KIND, on_framing_header, &framing);
    if (!framing.is_ambiguous && (framing.length == NULL || framing.coding_count == 0)) {
        return false;
    }
    struct error error;
    error_set(&error, STATUS_INVALID, "one Host, and one Content-Length or Transfer-Encoding: chunked, is allowed");
    error_code(&error, "bad_framing");
    request_add_header(request, "Connection", "close");
    request_reply_error(request, &error);
    return true;
}

/* Without a NUL in it, the target ends where the version begins. MHD would look no further than the NUL. */
static bool is_target_cut(struct request *request, const char *version)
{
    uintptr_t behind = (uintptr_t)version - (request->target_end + 1); /* huge when it is not behind it */
    if (behind == 0 || behind >= request->http->settings->connection_bytes_max) {
        return false;
    }
    struct error error;
    error_set(&error, STATUS_INVALID, "the URL has a NUL");
    error_code(&error, "bad_url");
    request_add_header(request, "Connection", "close");
    request_reply_error(request, &error);
    return true;
}

bool http_refuse_head(struct request *request, const char *version)
{
    return is_target_cut(request, version) || is_framing_bad(request);
}

bool http_refuse_expected(struct request *request)
{
    const char *expect = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Expect");
    const char *length = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Content-Length");
    if (expect == NULL) {
        return false;
    }
    if (!request->has_reply && length != NULL && strtoull(length, NULL, 10) > request->body_bytes_max) {
        http_reply_too_large(request);
    }
    return request->has_reply;
}

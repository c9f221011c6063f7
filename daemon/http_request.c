/* What handlers call: what a request is, and the one reply it gets, whole or as a stream. Thread: loop. Owns nothing
 * but what the request owns. */
#include "daemon/http_private.h"

#include <netdb.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>

#include "engine/base/mem.h"

enum { STREAM_BLOCK_BYTES = 2048 };

static ssize_t on_read(void *context, uint64_t position, char *bytes, size_t bytes_max)
{
    (void)position;
    struct request *request = http_request_from(context);
    request->is_suspended = false;
    enum stream_state state = STREAM_WAITS;
    size_t length = request->source->read(request->source_context, bytes, bytes_max, &state);
    CHECK(length <= bytes_max);
    if (length > 0) {
        return (ssize_t)length;
    }
    if (state == STREAM_ENDS) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    if (state == STREAM_FAILS || request->is_gone) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    http_suspend(request);
    return 0;
}

static void on_stream_free(void *context)
{
    struct request *request = http_request_from(context);
    request->source->release(request->source_context);
    http_request_unref(request);
}

const char *request_id(const struct request *request)
{
    return request->id;
}

const char *request_method(const struct request *request)
{
    return request->method;
}

const char *request_path(const struct request *request)
{
    return request->path;
}

const char *request_header(const struct request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

struct joined {
    const char *name;
    size_t length;
    char *text; /* NULL: only its length is wanted */
};

static enum MHD_Result join_line(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    struct joined *joined = context;
    if (strcasecmp(name, joined->name) == 0 && value != NULL) {
        const char *between = joined->length == 0 ? "" : ", ";
        if (joined->text != NULL) {
            stpcpy(stpcpy(joined->text + joined->length, between), value);
        }
        joined->length += strlen(between) + strlen(value);
    }
    return MHD_YES;
}

const char *request_header_joined(struct request *request, const char *name)
{
    struct joined joined = {.name = name};
    (void)MHD_get_connection_values(request->connection, MHD_HEADER_KIND, join_line, &joined);
    joined.text = arena_allocate(&request->arena, joined.length + 1, 1);
    if (joined.text != NULL) {
        joined.length = 0;
        (void)MHD_get_connection_values(request->connection, MHD_HEADER_KIND, join_line, &joined);
    }
    return joined.text;
}

bool request_is_unix(const struct request *request)
{
    return request->listener->is_unix;
}

bool request_unix_user(const struct request *request, uint32_t *ret_user)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (!request->listener->is_unix ||
        getsockopt(http_client_fd(request), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
        return false;
    }
    *ret_user = peer.uid;
    return true;
}

const char *request_address(struct request *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char text[NI_MAXHOST] = "";
    if (!request->listener->is_unix && info != NULL) {
        const struct sockaddr *address = info->client_addr;
        socklen_t length = address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
        if (getnameinfo(address, length, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0) {
            text[0] = '\0';
        }
    }
    return arena_copy_string(&request->arena, text);
}

const char *request_body(const struct request *request, size_t *ret_length)
{
    *ret_length = request->body_length;
    return request->body == NULL ? "" : request->body;
}

struct arena *request_arena(struct request *request)
{
    return &request->arena;
}

void request_set_data(struct request *request, void *data)
{
    request->data = data;
}

void *request_data(const struct request *request)
{
    return request->data;
}

void request_set_plain_errors(struct request *request)
{
    request->has_plain_errors = true;
}

bool request_has_plain_errors(const struct request *request)
{
    return request->has_plain_errors;
}

void request_set_body_max(struct request *request, size_t bytes_max)
{
    request->body_bytes_max = bytes_max;
}

void request_take_body(struct request *request,
                       enum body_part (*take)(void *context, struct request *request, char *bytes, size_t length),
                       void *context)
{
    request->take_body = take;
    request->take_context = context;
}

uint64_t request_started_ns(const struct request *request)
{
    return request->started_ns;
}

unsigned request_status(const struct request *request)
{
    return request->status;
}

void request_each_query(const struct request *request, bool (*each)(void *context, const char *name, const char *value),
                        void *context)
{
    bool goes_on = true;
    for (size_t at = 0; goes_on && at < request->query_bytes; at += strlen(request->query + at) + 1) {
        char *name = request->query + at;
        char *equals = strchr(name, '=');
        if (equals != NULL) {
            *equals = '\0';
        }
        goes_on = *name == '\0' && equals == NULL ? true : each(context, name, equals == NULL ? NULL : equals + 1);
        if (equals != NULL) {
            *equals = '='; /* as it was, for the next look */
        }
    }
}

void request_hold(struct request *request, void (*on_gone)(void *context, struct request *request), void *context)
{
    CHECK(request->on_gone == NULL);
    request->references++;
    request->on_gone = on_gone;
    request->gone_context = context;
}

void request_release(struct request *request)
{
    CHECK(request->has_reply || request->is_gone);
    request->on_gone = NULL;
    http_request_unref(request);
}

bool request_is_half_closed(const struct request *request)
{
    return request->is_half_closed && !request->is_gone;
}

void request_add_header(struct request *request, const char *name, const char *value)
{
    CHECK(request->header_count < HTTP_HEADERS_MAX && !request->has_reply);
    const char *copy = arena_copy_string(&request->arena, value);
    if (copy != NULL) {
        request->headers[request->header_count].name = name;
        request->headers[request->header_count++].value = copy;
    }
}

bool request_is_replied(const struct request *request)
{
    return request->has_reply;
}

/* Stores the reply and wakes the connection for it. */
static void store_reply(struct request *request, unsigned status, const char *content_type,
                        struct MHD_Response *response)
{
    CHECK(!request->has_reply);
    request->has_reply = true;
    request->status = status;
    request->response = response;
    if (response != NULL) {
        if (content_type != NULL) {
            MHD_add_response_header(response, "Content-Type", content_type);
        }
        MHD_add_response_header(response, "X-Request-Id", request->id);
        for (size_t i = 0; i < request->header_count; i++) {
            MHD_add_response_header(response, request->headers[i].name, request->headers[i].value);
        }
    }
    if (request->is_gone && response != NULL) {
        request->response = NULL;
        MHD_destroy_response(response);
    }
    http_wake(request);
}

void request_reply(struct request *request, unsigned status, const char *content_type, char *bytes, size_t length)
{
    struct MHD_Response *response = bytes == NULL
                                        ? MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT)
                                        : MHD_create_response_from_buffer_with_free_callback(length, bytes, mem_free);
    if (response == NULL) {
        mem_free(bytes);
    }
    store_reply(request, status, content_type, response);
}

void request_reply_stream(struct request *request, unsigned status, const char *content_type,
                          const struct stream_source *source, void *context)
{
    request->source = source;
    request->source_context = context;
    request->references++; /* the response's, until on_stream_free */
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, on_read, request, on_stream_free);
    if (response == NULL) {
        on_stream_free(request);
    } else if (strcmp(request->method, "HEAD") == 0) { /* else MHD ends it with a last chunk, as if there were a body */
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    }
    store_reply(request, status, content_type, response);
}

void request_wake(struct request *request)
{
    request->must_wait = false; /* it need not begin to, either */
    http_wake(request);
}

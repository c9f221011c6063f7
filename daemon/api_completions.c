/* Routes that make text, and those that list and cancel what is being made. Thread: loop. Owns nothing. */
#include "daemon/api.h"
#include "daemon/completion.h"
#include "daemon/routes.h"

void api_completions(struct server *server, struct request *request)
{
    struct completion_order order = {.door = DOOR_COMPLETIONS, .form = FORM_JSON};
    completion_start(server->completions, request, &order);
}

void api_chat_completions(struct server *server, struct request *request)
{
    struct completion_order order = {.door = DOOR_CHAT, .form = FORM_JSON};
    completion_start(server->completions, request, &order);
}

void api_score(struct server *server, struct request *request)
{
    struct completion_order order = {.door = DOOR_SCORE, .form = FORM_JSON, .model = route_parameter(request, 0)};
    completion_start(server->completions, request, &order);
}

struct query_reading {
    struct request *request;
    json_t *object;
    enum status status;
    struct error error;
};

static bool on_query(void *context, const char *name, const char *value)
{
    struct query_reading *reading = context;
    struct arena *arena = request_arena(reading->request);
    const char *decoded_name, *decoded_value;
    reading->status = percent_decode(name, strlen(name), arena, &decoded_name, &reading->error);
    if (reading->status == STATUS_OK) {
        value = value == NULL ? "" : value;
        reading->status = percent_decode(value, strlen(value), arena, &decoded_value, &reading->error);
    }
    if (reading->status == STATUS_OK) {
        reading->status = generate_request_add_query(reading->object, decoded_name, decoded_value, &reading->error);
    }
    return reading->status == STATUS_OK;
}

/* What the client wants to read: the form whose media type Accept names, else `otherwise`. */
static enum completion_form accepted_form(const struct request *request, enum completion_form otherwise)
{
    const char *accept = request_header(request, "Accept");
    if (accept == NULL) {
        return otherwise;
    }
    return strstr(accept, "text/event-stream") != NULL  ? FORM_EVENTS
           : strstr(accept, "application/json") != NULL ? FORM_JSON
           : strstr(accept, "text/plain") != NULL       ? FORM_TEXT
                                                        : otherwise;
}

void api_generate(struct server *server, struct request *request)
{
    bool is_get = strcmp(request_method(request), "POST") != 0;
    struct completion_order order = {
        .door = DOOR_GENERATE,
        .form = accepted_form(request, is_get ? FORM_TEXT : FORM_JSON),
        .model = route_parameter(request, 0),
    };
    if (is_get) {
        struct query_reading reading = {.request = request, .object = json_object(), .status = STATUS_OK};
        request_each_query(request, on_query, &reading);
        if (reading.status != STATUS_OK) {
            json_decref(reading.object);
            request_reply_error(request, &reading.error);
            return;
        }
        order.query = reading.object;
    }
    completion_start(server->completions, request, &order);
}

void api_requests(struct server *server, struct request *request)
{
    json_t *list = completions_describe(server->completions);
    request_reply_json(request, 200, list == NULL ? NULL : json_pack("{s:s, s:o}", "object", "list", "data", list));
}

void api_request_delete(struct server *server, struct request *request)
{
    const char *id = route_parameter(request, 0);
    const struct caller *caller = request_caller(request);
    bool is_admin = caller->scope == SCOPE_ADMIN;
    size_t count = completions_cancel(server->completions, id, is_admin ? NULL : caller->key);
    if (count == 0) {
        struct error error;
        error_set(&error, STATUS_NOT_FOUND, "no request '%.100s' is running", id);
        error_code(&error, "request_not_found");
        request_reply_error(request, &error);
        return;
    }
    request_reply_json(request, 200, json_pack("{s:s, s:s, s:b}", "id", id, "object", "request", "cancelled", 1));
}

/* /v1/models/{m}/graph and /variables: a model's live graph, looked at, built, reset and run. Thread: loop; the work is
 * done on run threads. Owns nothing. */
#include "daemon/api.h"
#include "daemon/fields.h"
#include "daemon/live_call.h"
#include "daemon/pictures.h"
#include "daemon/request_fields.h"
#include "daemon/routes.h"
#include "daemon/trainings.h"

static enum status describe(struct live_call *call, struct model *model, struct error *error)
{
    return model_describe_graph(model, &call->reply, error);
}

static enum status draw(struct live_call *call, struct model *model, struct error *error)
{
    return model_draw_graph(model, &call->bytes, &call->byte_count, error);
}

static void reply_with_dot(struct live_call *call)
{
    request_reply(call->request, 200, "text/vnd.graphviz; charset=utf-8", call->bytes, call->byte_count);
    call->bytes = NULL;
    live_call_end(call);
}

static void fail_picture(struct live_call *call, const struct error *error)
{
    request_reply_error_as(call->request, error->status == STATUS_UNSUPPORTED ? 501 : error_http_status(error), error);
    live_call_end(call);
}

static void on_picture(void *context, char *svg, size_t length, const struct error *error)
{
    struct live_call *call = context;
    if (error != NULL) {
        fail_picture(call, error);
        return;
    }
    request_reply(call->request, 200, "image/svg+xml", svg, length);
    live_call_end(call);
}

static void reply_with_svg(struct live_call *call)
{
    struct error error;
    enum status status = pictures_draw(call->server->pictures, call->bytes, call->byte_count, on_picture, call, &error);
    if (status == STATUS_OK) {
        call->bytes = NULL;
    } else {
        fail_picture(call, &error);
    }
}

void api_graph_get(struct server *server, struct request *request)
{
    struct error error;
    const char *format = request_query(request, "format");
    bool is_dot = format != NULL && strcmp(format, "dot") == 0;
    bool is_svg = format != NULL && strcmp(format, "svg") == 0;
    enum status status = request_only_query(request, "format", &error);
    if (status == STATUS_OK && format != NULL && !is_dot && !is_svg && strcmp(format, "json") != 0) {
        status = error_set(&error, STATUS_INVALID, "?format must be json, dot or svg, not '%.32s'", format);
    }
    if (status != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    struct live_call *call = live_call_begin(server, request);
    if (call != NULL) {
        call->finish = is_dot ? reply_with_dot : is_svg ? reply_with_svg : NULL;
        live_call_submit(call, is_dot || is_svg ? draw : describe);
    }
}

static enum status build(struct live_call *call, struct model *model, struct error *error)
{
    TRY(live_call_parse(call, error));
    return model_build(model, call->body, request_id(call->request), &call->reply, error);
}

void api_graph_build(struct server *server, struct request *request)
{
    struct live_call *call = live_call_begin(server, request);
    if (call != NULL) {
        live_call_submit(call, build);
    }
}

static enum status run(struct live_call *call, struct model *model, struct error *error)
{
    TRY(live_call_parse(call, error));
    return model_run_within(model, call->body, call->maximum_ms, &call->reply, error);
}

void api_graph_run(struct server *server, struct request *request)
{
    struct live_call *call = live_call_begin(server, request);
    if (call != NULL) {
        call->maximum_ms = (uint32_t)(server->settings.run_seconds_max * 1000);
        live_call_submit(call, run);
    }
}

/* ---- Reset */

static enum status reset(struct live_call *call, struct model *model, struct error *error)
{
    const char *path = call->version == 0 ? NULL : call->version_path;
    return model_reset(model, call->is_forced, path, call->version, &call->reply, error);
}

static void on_training_over(void *context)
{
    live_call_submit(context, reset);
}

static enum status read_reset(struct live_call *call, struct error *error)
{
    int64_t version = 0;
    TRY(request_read_fields(call->request, "version force", &call->body, error));
    TRY(fields_integer(call->body, "version", 1, VERSION_NUMBER_MAX, &version, error));
    TRY(fields_flag(call->body, "force", &call->is_forced, error));
    call->version = (uint64_t)version;
    return version == 0
               ? STATUS_OK
               : registry_version_path(call->server->registry, call->name, call->version, call->version_path, error);
}

void api_graph_reset(struct server *server, struct request *request)
{
    struct error error;
    struct live_call *call = live_call_begin(server, request);
    if (call == NULL) {
        return;
    }
    if (read_reset(call, &error) != STATUS_OK) {
        live_call_fail(call, &error);
        return;
    }
    if (call->is_forced) {
        trainings_stop(server->trainings, call->name, on_training_over, call);
    } else {
        live_call_submit(call, reset);
    }
}

/* ---- Variables */

static enum status list_variables(struct live_call *call, struct model *model, struct error *error)
{
    return model_list_variables(model, &call->reply, error);
}

void api_variables_list(struct server *server, struct request *request)
{
    struct live_call *call = live_call_begin(server, request);
    if (call != NULL) {
        live_call_submit(call, list_variables);
    }
}

/* Finds the variable by its name, with or without ":0", and fetches its value as any run would. */
static enum status fetch_variable(struct live_call *call, struct model *model, struct error *error)
{
    const char *name = route_parameter(call->request, 1);
    size_t length = strlen(name);
    size_t bare = length > 2 && strcmp(name + length - 2, ":0") == 0 ? length - 2 : length;
    json_t *graph = NULL;
    const json_t *variable;
    size_t index;
    bool is_there = false;
    TRY(model_describe_graph(model, &graph, error));
    json_array_foreach(json_object_get(graph, "variables"), index, variable)
    {
        const char *text = json_string_value(json_object_get(variable, "name"));
        is_there = is_there || (text != NULL && strcspn(text, ":") == bare && strncmp(text, name, bare) == 0);
    }
    json_decref(graph);
    if (!is_there) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no variable '%.200s'", call->name, name);
        error_code(error, "variable_not_found");
        return STATUS_NOT_FOUND;
    }
    char fetch[ERROR_PLACE_BYTES_MAX * 2];
    snprintf(fetch, sizeof fetch, "%.*s:0", (int)bare, name);
    const char *encoding = call->text == NULL ? "flat" : call->text;
    call->body = json_pack("{s:[s], s:s}", "fetches", fetch, "encoding", encoding);
    if (call->body == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a run");
    }
    json_t *reply = NULL;
    TRY(model_run(model, call->body, &reply, error));
    call->reply = json_incref(json_object_get(json_object_get(reply, "results"), fetch));
    json_decref(reply);
    return STATUS_OK;
}

void api_variables_get(struct server *server, struct request *request)
{
    struct error error;
    if (request_only_query(request, "encoding", &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    struct live_call *call = live_call_begin(server, request);
    if (call != NULL) {
        call->text = request_query(request, "encoding");
        live_call_submit(call, fetch_variable);
    }
}

/* Any JSON: a number is a scalar's value. */
static enum status set_variable(struct live_call *call, struct model *model, struct error *error)
{
    size_t length;
    json_error_t where;
    const char *body = request_body(call->request, &length);
    call->body = json_loadb(length == 0 ? "" : body, length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &where);
    if (call->body == NULL) {
        return fields_refuse_json(&where, error);
    }
    return model_set_variable(model, route_parameter(call->request, 1), call->body, &call->reply, error);
}

void api_variables_put(struct server *server, struct request *request)
{
    struct live_call *call = live_call_begin(server, request);
    if (call != NULL) {
        live_call_submit(call, set_variable);
    }
}

/* The Open Inference Protocol v2, but for inference: what the server and its models are, whether they are ready, what
 * they have done, text, and the model repository. Thread: loop; graphs are described on run threads. Owns nothing. */
#include "daemon/api_oip.h"

#include "daemon/api.h"
#include "daemon/completion.h"
#include "daemon/fields.h"
#include "daemon/oip_request.h"
#include "daemon/predict_call.h"
#include "daemon/request_fields.h"
#include "daemon/routes.h"

enum status oip_reference(struct request *request, const char **ret_reference, struct error *error)
{
    const char *model = request_path(request) + strlen("/v2/models/");
    const char *within = model + strcspn(model, "/");
    if (strncmp(within, "/versions/", 10) != 0) {
        *ret_reference = route_parameter(request, 0);
        return STATUS_OK;
    }
    return predict_call_reference(request, route_parameter(request, 0), route_parameter(request, 1), ret_reference,
                                  error);
}

static void reply_status(struct request *request, enum status status, json_t *reply, const struct error *error)
{
    if (status != STATUS_OK) {
        request_reply_error(request, error);
    } else {
        request_reply_json(request, 200, reply);
    }
}

/* Whether the caller's key is for a model. */
static bool caller_sees(const void *context, const char *model)
{
    return caller_check_model(context, model, NULL) == STATUS_OK;
}

/* ---- the server ---- */

void api_oip_server(struct server *server, struct request *request)
{
    (void)server;
    request_reply_json(request, 200,
                       json_pack("{s:s, s:s, s:[s,s,s,s,s,s,s]}", "name", "lstmd", "version", engine_info().version,
                                 "extensions", "model_repository", "binary_tensor_data", "sequence", "statistics",
                                 "logging", "generate", "parameters"));
}

void api_oip_live(struct server *server, struct request *request)
{
    (void)server;
    request_reply_json(request, 200, json_pack("{s:b}", "live", true));
}

void api_oip_ready(struct server *server, struct request *request)
{
    bool is_ready = !server->is_draining && registry_is_ready(server->registry) && server_is_computing(server) &&
                    registry_serves_all(server->registry);
    request_reply_json(request, is_ready ? 200 : 400, json_pack("{s:b}", "ready", is_ready));
}

/* ---- a model ---- */

static json_t *describe_ends(const struct served_end *ends, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, oip_describe_end(&ends[i]));
    }
    return list;
}

struct metadata_call {
    struct predict_call call; /* first */
    json_t *versions;         /* owned */
};

/* The ends are those of the default signature; none where there is no such. */
static enum status describe(struct predict_call *call, struct served_graph *graph, struct error *error)
{
    const struct served_signature none = {.name = ""};
    const struct served_signature *signature = &none;
    struct error ignored;
    struct metadata_call *metadata = (struct metadata_call *)call;
    if (served_graph_find(graph, NULL, &signature, &ignored) != STATUS_OK) {
        signature = &none;
    }
    call->reply =
        json_pack("{s:s, s:o, s:s, s:o, s:o}", "name", call->model, "versions", metadata->versions, "platform",
                  "lstmd_native", "inputs", describe_ends(signature->inputs, signature->input_count), "outputs",
                  describe_ends(signature->outputs, signature->output_count));
    metadata->versions = NULL; /* json_pack took it, also where it failed */
    return call->reply == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory for a model's metadata") : STATUS_OK;
}

static void release_metadata(struct predict_call *call)
{
    json_decref(((struct metadata_call *)call)->versions);
}

void api_oip_model(struct server *server, struct request *request)
{
    struct error error;
    const char *reference = NULL;
    if (oip_reference(request, &reference, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    struct predict_call *call = predict_call_create(server, request, sizeof(struct metadata_call));
    if (call != NULL) {
        call->release = release_metadata;
        call->is_look = true;
        ((struct metadata_call *)call)->versions =
            registry_version_names(server->registry, route_parameter(request, 0));
        predict_call_submit(call, reference, NULL, describe);
    }
}

void api_oip_model_ready(struct server *server, struct request *request)
{
    struct error error;
    const char *reference = NULL;
    enum status status = oip_reference(request, &reference, &error);
    if (status == STATUS_OK) {
        status = registry_check_served(server->registry, reference, &error);
    }
    if (status != STATUS_OK && status != STATUS_UNAVAILABLE && status != STATUS_UNPROCESSABLE) {
        request_reply_error(request, &error);
        return;
    }
    request_reply_json(request, status == STATUS_OK ? 200 : 400,
                       json_pack("{s:s, s:b}", "name", route_parameter(request, 0), "ready", status == STATUS_OK));
}

void api_oip_stats(struct server *server, struct request *request)
{
    struct error error;
    const char *reference = NULL;
    json_t *reply = NULL;
    enum status status = oip_reference(request, &reference, &error);
    if (status == STATUS_OK) {
        status = registry_statistics(server->registry, reference, NULL, NULL, &reply, &error);
    }
    reply_status(request, status, reply, &error);
}

void api_oip_all_stats(struct server *server, struct request *request)
{
    struct error error;
    json_t *reply = NULL;
    enum status status =
        registry_statistics(server->registry, NULL, caller_sees, request_caller(request), &reply, &error);
    reply_status(request, status, reply, &error);
}

/* ---- text ---- */

static void generate(struct server *server, struct request *request, enum completion_form form)
{
    struct error error;
    struct completion_order order = {.door = DOOR_OIP, .form = form};
    if (oip_reference(request, &order.model, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    completion_start(server->completions, request, &order);
}

void api_oip_generate(struct server *server, struct request *request)
{
    generate(server, request, FORM_JSON);
}

void api_oip_generate_stream(struct server *server, struct request *request)
{
    generate(server, request, FORM_EVENTS);
}

/* ---- the repository ---- */

void api_oip_index(struct server *server, struct request *request)
{
    struct error error;
    json_t *body = NULL;
    bool only_ready = false;
    enum status status = request_read_fields(request, NULL, &body, &error);
    if (status == STATUS_OK) {
        status = fields_flag(body, "ready", &only_ready, &error);
    }
    json_decref(body);
    json_t *reply =
        status == STATUS_OK ? registry_index(server->registry, only_ready, caller_sees, request_caller(request)) : NULL;
    reply_status(request, status, reply, &error);
}

/* A model is loaded from its directory: what a request brings of one is refused by name. */
static enum status check_load(const struct request *request, struct error *error)
{
    json_t *body = NULL;
    const char *name;
    json_t *value;
    enum status status = STATUS_OK;
    TRY(request_read_fields(request, NULL, &body, error));
    json_object_foreach(json_object_get(body, "parameters"), name, value)
    {
        if (strcmp(name, "config") == 0 || strncmp(name, "file:", 5) == 0) {
            status = error_set(error, STATUS_UNSUPPORTED,
                               "parameters: '%.60s' is not supported; a model comes by PUT /v1/models/%.64s", name,
                               route_parameter(request, 0));
        }
    }
    json_decref(body);
    return status;
}

static void on_done(void *context, const struct registry_reply *reply)
{
    struct request *request = context;
    json_decref(reply->reply);
    if (reply->status != STATUS_OK) {
        request_reply_error(request, &reply->error);
    } else {
        request_reply(request, 200, NULL, NULL, 0);
    }
    request_release(request);
}

void api_oip_load(struct server *server, struct request *request)
{
    struct error error;
    if (check_load(request, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    request_hold(request, NULL, NULL);
    registry_load(server->registry, route_parameter(request, 0), 0, RNN_PRECISION_COUNT,
                  (struct registry_callback){.done = on_done, .context = request});
}

void api_oip_unload(struct server *server, struct request *request)
{
    struct error error;
    json_t *body = NULL;
    if (request_read_fields(request, NULL, &body, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    json_decref(body);
    request_hold(request, NULL, NULL);
    registry_unload(server->registry, route_parameter(request, 0),
                    (struct registry_callback){.done = on_done, .context = request});
}

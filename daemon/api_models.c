/* /v1/models: looking at, saving, restoring, loading, labelling and deleting models. Thread: loop; models are saved on
 * run threads, files written by the registry. Owns its calls. */
#include "daemon/api.h"
#include "daemon/completion.h"
#include "daemon/fields.h"
#include "daemon/live_call.h"
#include "daemon/request_fields.h"
#include "daemon/routes.h"
#include "daemon/trainings.h"
#include "engine/base/mem.h"

static void answer(struct request *request, const struct registry_reply *reply)
{
    if (reply->status != STATUS_OK) {
        request_reply_error(request, &reply->error);
        json_decref(reply->reply);
    } else {
        request_reply_json(request, reply->is_new ? 201 : 200, reply->reply);
    }
}

static void on_answer(void *context, const struct registry_reply *reply)
{
    struct request *request = context;
    answer(request, reply);
    request_release(request);
}

struct registry_callback api_answer_held(struct request *request)
{
    return (struct registry_callback){.done = on_answer, .context = request};
}

/* Holds the request until the registry answers it. */
static struct registry_callback answer_to(struct request *request)
{
    request_hold(request, NULL, NULL);
    return api_answer_held(request);
}

static void reply_now(struct request *request, enum status status, json_t *reply, const struct error *error)
{
    if (status != STATUS_OK) {
        request_reply_error(request, error);
    } else {
        request_reply_json(request, 200, reply);
    }
}

/* ---- Looking */

void api_models_list(struct server *server, struct request *request)
{
    struct error error;
    json_t *reply = NULL;
    enum status status = registry_describe_all(server->registry, &reply, &error);
    json_t *models = json_object_get(reply, "data");
    for (size_t i = json_array_size(models); i-- > 0;) {
        const char *name = json_string_value(json_object_get(json_array_get(models, i), "id"));
        if (name != NULL && caller_check_model(request_caller(request), name, NULL) != STATUS_OK) {
            json_array_remove(models, i);
        }
    }
    reply_now(request, status, reply, &error);
}

void api_models_get(struct server *server, struct request *request)
{
    struct error error;
    json_t *reply = NULL;
    enum status status = registry_describe(server->registry, route_parameter(request, 0), &reply, &error);
    reply_now(request, status, reply, &error);
}

/* ---- Deleting */

struct delete_call {
    struct server *server;
    struct request *request;
};

static void on_deleted(void *context, const struct registry_reply *reply)
{
    struct delete_call *call = context;
    if (reply->status == STATUS_OK) {
        trainings_forget(call->server->trainings, route_parameter(call->request, 0));
    }
    on_answer(call->request, reply);
}

static void delete_model(struct delete_call *call, bool is_forced)
{
    registry_delete(call->server->registry, route_parameter(call->request, 0), is_forced,
                    (struct registry_callback){.done = on_deleted, .context = call});
}

static void on_training_over(void *context)
{
    delete_model(context, true);
}

void api_models_delete(struct server *server, struct request *request)
{
    struct error error;
    bool is_forced = false;
    enum status status = request_only_query(request, "force", &error);
    if (status == STATUS_OK) {
        status = request_query_flag(request, "force", &is_forced, &error);
    }
    struct delete_call *call = arena_allocate(request_arena(request), 1, sizeof *call);
    if (status == STATUS_OK && call == NULL) {
        status = error_set(&error, STATUS_NO_MEMORY, "no memory for a request");
    }
    if (status != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    *call = (struct delete_call){.server = server, .request = request};
    request_hold(request, NULL, NULL);
    if (!is_forced) {
        delete_model(call, false);
        return;
    }
    completions_cancel_model(server->completions, route_parameter(request, 0));
    trainings_stop(server->trainings, route_parameter(request, 0), on_training_over, call);
}

/* ---- Saving and restoring */

static enum status save(struct live_call *call, struct model *model, struct error *error)
{
    json_t *origin = json_pack("{s:s, s:s}", "kind", "save", "request_id", request_id(call->request));
    const char *path = call->ticket.model_path;
    enum status status = call->text == NULL
                             ? model_save(model, path, origin, NULL, &call->version, error)
                             : model_save_checkpoint(model, path, call->text, origin, &call->version, error);
    json_decref(origin);
    call->is_ordinary = call->text != NULL || !model_makes_text(model);
    if (status == STATUS_OK) {
        live_note_saved(&call->ticket, call->version);
    }
    return status;
}

static void on_saved_loaded(void *context, const struct registry_reply *reply)
{
    struct live_call *call = context;
    bool is_loaded = reply->status == STATUS_OK;
    bool serves = is_loaded && !json_is_false(json_object_get(reply->reply, "serves"));
    json_decref(reply->reply);
    if (!is_loaded && !call->is_ordinary) {
        live_call_fail(call, &reply->error);
        return;
    }
    char name[MODEL_NAME_BYTES_MAX + 24];
    snprintf(name, sizeof name, "%s@%llu", call->name, (unsigned long long)call->version);
    request_reply_json(call->request, 200,
                       json_pack("{s:I, s:s, s:o*}", "version", (json_int_t)call->version, "model", name, "serves",
                                 serves ? NULL : json_false()));
    live_call_end(call);
}

static void load_saved(struct live_call *call)
{
    registry_load(call->server->registry, call->name, 0, RNN_PRECISION_COUNT,
                  (struct registry_callback){.done = on_saved_loaded, .context = call});
}

void api_models_save(struct server *server, struct request *request)
{
    struct error error;
    struct live_call *call = live_call_begin(server, request);
    if (call == NULL) {
        return;
    }
    enum status status = live_ticket_check_writable(&call->ticket, call->name, &error);
    if (status == STATUS_OK) {
        status = request_read_fields(request, "saver", &call->body, &error);
    }
    if (status == STATUS_OK) {
        status = fields_text(call->body, "saver", &call->text, &error);
    }
    if (status != STATUS_OK) {
        live_call_fail(call, &error);
        return;
    }
    call->finish = load_saved;
    live_call_submit(call, save);
}

static enum status restore(struct live_call *call, struct model *model, struct error *error)
{
    if (call->text == NULL) {
        return model_restore(model, call->version_path, json_object_get(call->body, "names"), &call->reply, error);
    }
    const json_t *version = json_object_get(call->body, "version");
    const char *path = call->version_path[0] == '\0' ? NULL : call->version_path;
    char what[64];
    if (json_is_string(version)) {
        snprintf(what, sizeof what, "%.60s", json_string_value(version));
    } else {
        snprintf(what, sizeof what, "%llu", (unsigned long long)call->version);
    }
    return model_restore_checkpoint(model, path, json_is_null(version) ? NULL : what, call->text, &call->reply, error);
}

/* "names" maps "old/scope" to "new/scope". */
static enum status check_names(const json_t *names, struct error *error)
{
    const char *name;
    json_t *value;
    bool is_good = names == NULL || json_is_object(names);
    json_object_foreach((json_t *)(uintptr_t)names, name, value)
    {
        is_good = is_good && json_is_string(value);
    }
    return is_good ? STATUS_OK : error_set(error, STATUS_INVALID, "names must be {\"old/scope\":\"new/scope\"}");
}

/* A saver's version may be one that is not there, as TensorFlow's path may. */
static enum status read_saver_version(struct live_call *call, struct error *error)
{
    struct error ignored;
    const json_t *version = json_object_get(call->body, "version");
    int64_t number = (int64_t)call->ticket.version;
    if (version != NULL && !json_is_null(version) && !json_is_string(version)) {
        TRY(fields_integer(call->body, "version", 1, VERSION_NUMBER_MAX, &number, error));
    }
    call->version = (uint64_t)number;
    bool is_number = version == NULL || json_is_integer(version);
    if (!is_number || registry_version_path(call->server->registry, call->name, call->version, call->version_path,
                                            &ignored) != STATUS_OK) {
        call->version_path[0] = '\0';
    }
    return STATUS_OK;
}

static enum status read_restore(struct live_call *call, struct error *error)
{
    int64_t version = (int64_t)call->ticket.version;
    TRY(live_ticket_check_writable(&call->ticket, call->name, error));
    TRY(request_read_fields(call->request, "version names saver", &call->body, error));
    TRY(fields_text(call->body, "saver", &call->text, error));
    if (call->text != NULL) {
        return read_saver_version(call, error);
    }
    TRY(fields_integer(call->body, "version", 1, VERSION_NUMBER_MAX, &version, error));
    TRY(check_names(json_object_get(call->body, "names"), error));
    if (version == 0) {
        error_set(error, STATUS_UNPROCESSABLE, "model %s has no version to restore", call->name);
        return error_code(error, "no_version");
    }
    return registry_version_path(call->server->registry, call->name, (uint64_t)version, call->version_path, error);
}

void api_models_restore(struct server *server, struct request *request)
{
    struct error error;
    struct live_call *call = live_call_begin(server, request);
    if (call == NULL) {
        return;
    }
    if (read_restore(call, &error) != STATUS_OK) {
        live_call_fail(call, &error);
        return;
    }
    live_call_submit(call, restore);
}

/* ---- Loading */

static enum status read_load(const json_t *body, int64_t *version, enum rnn_precision *precision, struct error *error)
{
    const char *name = NULL;
    TRY(fields_integer(body, "version", 1, VERSION_NUMBER_MAX, version, error));
    TRY(fields_text(body, "precision", &name, error));
    if (name != NULL && !rnn_precision_find(name, precision)) {
        error_set(error, STATUS_INVALID, "precision is '%.40s', not fp32, bf16 or int8", name);
        snprintf(error->param, sizeof error->param, "/precision");
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

void api_models_load(struct server *server, struct request *request)
{
    struct error error;
    json_t *body = NULL;
    int64_t version = 0;
    enum rnn_precision precision = RNN_PRECISION_COUNT;
    enum status status = request_read_fields(request, "version precision", &body, &error);
    if (status == STATUS_OK) {
        status = read_load(body, &version, &precision, &error);
    }
    json_decref(body);
    if (status != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    registry_load(server->registry, route_parameter(request, 0), (uint64_t)version, precision, answer_to(request));
}

void api_models_unload(struct server *server, struct request *request)
{
    struct error error;
    json_t *body = NULL;
    if (request_read_fields(request, "", &body, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    json_decref(body);
    registry_unload(server->registry, route_parameter(request, 0), answer_to(request));
}

/* ---- Labels and settings */

void api_labels_get(struct server *server, struct request *request)
{
    struct error error;
    json_t *reply = NULL;
    enum status status = registry_labels(server->registry, route_parameter(request, 0), &reply, &error);
    reply_now(request, status, reply, &error);
}

void api_labels_put(struct server *server, struct request *request)
{
    struct error error;
    json_t *body = NULL;
    if (request_read_fields(request, "version split", &body, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    registry_put_label(server->registry, route_parameter(request, 0), route_parameter(request, 1), body,
                       answer_to(request));
    json_decref(body);
}

void api_labels_delete(struct server *server, struct request *request)
{
    registry_put_label(server->registry, route_parameter(request, 0), route_parameter(request, 1), NULL,
                       answer_to(request));
}

void api_settings_get(struct server *server, struct request *request)
{
    struct error error;
    json_t *reply = NULL;
    enum status status = registry_settings(server->registry, route_parameter(request, 0), &reply, &error);
    reply_now(request, status, reply, &error);
}

void api_settings_patch(struct server *server, struct request *request)
{
    struct error error;
    json_t *body = NULL;
    if (request_read_fields(request, NULL, &body, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    registry_patch_settings(server->registry, route_parameter(request, 0), body, answer_to(request));
    json_decref(body);
}

/* PUT /v1/models/{m}: making models, of a description, a foreign model's path, or an upload. Thread: loop; models are
 * tried on run threads, imports have their own. Owns its calls. */
#include "daemon/api.h"
#include "daemon/fields.h"
#include "daemon/imports.h"
#include "daemon/registry.h"
#include "daemon/routes.h"
#include "daemon/upload.h"
#include "engine/base/mem.h"

/* ---- an upload on its way ---- */

static void on_part_written(void *context, const struct error *error)
{
    struct request *request = context;
    if (error != NULL) {
        request_reply_error(request, error);
    }
    request_wake(request);
}

/* `length` is that of its first part. */
static enum status begin_upload(struct server *server, struct request *request, size_t length, struct error *error)
{
    if (length == 0) {
        return error_set(error, STATUS_INVALID, "the upload is empty");
    }
    TRY(name_check(route_parameter(request, 0), error));
    request_set_body_max(request, server->settings.import_bytes_max);
    return upload_create(server, route_upload(request), error);
}

enum body_part api_models_put_part(void *context, struct request *request, char *bytes, size_t length)
{
    struct server *server = context;
    struct upload **upload = route_upload(request);
    struct error error;
    if (*upload == NULL && !upload_is_meant(request_header(request, "Content-Type"), bytes, length)) {
        request_set_body_max(request, server->settings.body_bytes_max);
        return BODY_PART_STAYS;
    }
    enum status status = *upload == NULL ? begin_upload(server, request, length, &error) : STATUS_OK;
    if (status != STATUS_OK || length == 0) {
        mem_free(bytes);
    } else {
        status = upload_write(*upload, bytes, length, on_part_written, request, &error);
    }
    if (status != STATUS_OK) {
        request_reply_error(request, &error);
    }
    return status != STATUS_OK || length == 0 ? BODY_PART_TAKEN : BODY_PART_WAITS;
}

/* ---- an upload that is here ---- */

struct query {
    struct arena *arena;
    json_t *set;
    enum status status;
    struct error *error;
};

/* A parameter of the query is one of --set. */
static bool add_setting(void *context, const char *name, const char *value)
{
    struct query *query = context;
    const char *text = value == NULL ? "" : value;
    query->status = percent_decode(text, strlen(text), query->arena, &text, query->error);
    if (query->status == STATUS_OK && json_object_get(query->set, name) != NULL) {
        query->status = error_set(query->error, STATUS_INVALID, "'%.64s' is given twice", name);
    }
    if (query->status == STATUS_OK && json_object_set_new(query->set, name, json_string(text)) != 0) {
        query->status = error_set(query->error, STATUS_NO_MEMORY, "no memory for a request");
    }
    return query->status == STATUS_OK;
}

/* {"import":{"upload":SHA-256,"set":{…}}}: what the same upload with the same query will say again. */
static enum status define_upload(struct request *request, struct upload *upload, json_t **ret_definition,
                                 struct error *error)
{
    char sha256[SHA256_TEXT_BYTES];
    struct query query = {.arena = request_arena(request), .set = json_object(), .error = error};
    request_each_query(request, add_setting, &query);
    if (query.status == STATUS_OK) {
        query.status = import_set_check(query.set, error);
    }
    if (query.status != STATUS_OK) {
        json_decref(query.set);
        return query.status;
    }
    upload_sum(upload, sha256);
    *ret_definition = json_pack("{s:{s:s, s:o}}", "import", "upload", sha256, "set", query.set);
    return *ret_definition == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory for a request") : STATUS_OK;
}

static void import_upload(struct server *server, struct request *request)
{
    struct error error;
    json_t *definition = NULL;
    struct upload **upload = route_upload(request);
    if (define_upload(request, *upload, &definition, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    request_hold(request, NULL, NULL);
    imports_start(server->imports, request, route_parameter(request, 0), definition, *upload);
    *upload = NULL;
}

/* ---- a description ---- */

struct put_call {
    struct job job; /* first */
    struct server *server;
    struct request *request; /* held */
    const char *name;
    json_t *definition;
    enum status status;
    struct error error;
};

static enum status refuse_unbuilt(const char *what, const char *param, struct error *error)
{
    error_set(error, STATUS_UNSUPPORTED, "%s is documented, but not in this build", what);
    error_code(error, "unsupported");
    snprintf(error->param, sizeof error->param, "%s", param);
    return STATUS_UNSUPPORTED;
}

/* Makes the model once and throws it away: what PUT accepts can be built. */
static enum status try_language_model(const char *name, const json_t *specification, struct error *error)
{
    struct model *model = NULL;
    const json_t *vocabulary = json_object_get(specification, "vocabulary");
    if (!json_is_object(specification)) {
        error_set(error, STATUS_INVALID, "language_model must be an object");
        snprintf(error->param, sizeof error->param, "/language_model");
        return STATUS_INVALID;
    }
    if (json_object_get(vocabulary, "corpus") != NULL) {
        return refuse_unbuilt("a vocabulary from a corpus in PUT (training takes it from its own corpus)",
                              "/language_model/vocabulary/corpus", error);
    }
    TRY(model_create(name, &model, error));
    enum status status = model_make_language_model(model, specification, 1, error);
    if (status != STATUS_OK) {
        error_move(error, "", "/language_model");
    }
    model_unref(model);
    return status;
}

static enum status check_definition(struct put_call *call, struct error *error)
{
    size_t length;
    const char *body = request_body(call->request, &length);
    TRY(fields_parse(body, length, &call->definition, error));
    TRY(fields_only(call->definition, "language_model import", error));
    const json_t *import = json_object_get(call->definition, "import");
    const json_t *specification = json_object_get(call->definition, "language_model");
    if (import != NULL && specification != NULL) {
        return error_set(error, STATUS_INVALID, "a model is made by language_model or by import, not by both");
    }
    if (import != NULL) {
        return import_definition_check(import, error);
    }
    return specification == NULL ? STATUS_OK : try_language_model(call->name, specification, error);
}

static void run_put(struct job *job)
{
    struct put_call *call = (struct put_call *)job;
    call->status = check_definition(call, &call->error);
}

static void on_put_done(struct job *job)
{
    struct put_call *call = (struct put_call *)job;
    if (call->status != STATUS_OK) {
        request_reply_error(call->request, &call->error);
        request_release(call->request);
    } else if (json_object_get(call->definition, "import") != NULL) {
        imports_start(call->server->imports, call->request, call->name, json_incref(call->definition), NULL);
    } else {
        registry_put(call->server->registry, call->name, call->definition, api_answer_held(call->request));
    }
    json_decref(call->definition);
    mem_free(call);
}

void api_models_put(struct server *server, struct request *request)
{
    struct error error;
    const char *name = route_parameter(request, 0);
    if (*route_upload(request) != NULL) {
        import_upload(server, request);
        return;
    }
    struct put_call *call = mem_allocate(1, sizeof *call);
    enum status status =
        call == NULL ? error_set(&error, STATUS_NO_MEMORY, "no memory for a request") : name_check(name, &error);
    if (status == STATUS_OK) {
        *call = (struct put_call){.server = server, .request = request, .name = name};
        call->job.run = run_put;
        call->job.done = on_put_done;
    }
    api_submit(request, server->run, call == NULL ? NULL : &call->job, status, &error);
}

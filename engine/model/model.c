/* A model's live graph and values: making, building, running, resetting, looking at. Thread: run threads (see
 * model.h). */
#include "engine/model/model.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/plan.h"
#include "engine/model/model_private.h"
#include "engine/nn/language_model.h"
#include "engine/store/graph_json.h"
#include "engine/store/program.h"
#include "engine/store/tensor_json.h"

static enum status no_memory(const struct model *model, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for model %s", model->name);
}

/* ---- life ---- */

enum status model_create(const char *name, struct model **ret_model, struct error *error)
{
    struct model *model = mem_allocate(1, sizeof *model);
    char *copy = mem_copy_string(name);
    if (model == NULL || copy == NULL) {
        mem_free(model);
        mem_free(copy);
        return error_set(error, STATUS_NO_MEMORY, "no memory for model %s", name);
    }
    atomic_init(&model->references, 1);
    pthread_rwlockattr_t writers_first; /* steady runs must not keep a build or a hand-back waiting for ever */
    CHECK(pthread_rwlockattr_init(&writers_first) == 0);
    CHECK(pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
    CHECK(pthread_rwlock_init(&model->lock, &writers_first) == 0);
    CHECK(pthread_rwlockattr_destroy(&writers_first) == 0);
    model->name = copy;
    model->generation = 1;
    model->programs = json_array();
    struct graph *graph = NULL;
    enum status status = graph_create(&graph, error);
    if (status == STATUS_OK) {
        status = session_create(graph, &model->session, error);
    }
    graph_unref(graph);
    if (status == STATUS_OK && model->programs == NULL) {
        status = no_memory(model, error);
    }
    if (status != STATUS_OK) {
        model_unref(model);
        return status;
    }
    *ret_model = model;
    return STATUS_OK;
}

enum status model_create_from_version(const char *name, const char *version_path, uint64_t version,
                                      struct model **ret_model, struct error *error)
{
    struct version_content content;
    struct model *model = NULL;
    TRY(version_content_read(version_path, &content, error));
    enum status status = model_create(name, &model, error);
    if (status == STATUS_OK) {
        model_fill(model, &content, version);
        model->generation = 1;
        *ret_model = model;
    }
    version_content_release(&content);
    return status;
}

struct model *model_ref(struct model *model)
{
    atomic_fetch_add(&model->references, 1);
    return model;
}

struct model *model_unref(struct model *model)
{
    if (model != NULL && atomic_fetch_sub(&model->references, 1) == 1) {
        session_destroy(model->session);
        json_decref(model->programs);
        json_decref(model->waiting_specification);
        vocabulary_unref(model->vocabulary);
        pthread_rwlock_destroy(&model->lock);
        mem_free(model->name);
        mem_free(model);
    }
    return NULL;
}

static void lock_shared(struct model *model)
{
    CHECK(pthread_rwlock_rdlock(&model->lock) == 0);
}

static void lock_alone(struct model *model)
{
    CHECK(pthread_rwlock_wrlock(&model->lock) == 0);
}

static void unlock(struct model *model)
{
    CHECK(pthread_rwlock_unlock(&model->lock) == 0);
}

bool model_is_unsaved(struct model *model)
{
    lock_shared(model);
    bool is_unsaved = model->is_unsaved;
    unlock(model);
    return is_unsaved;
}

bool model_makes_text(struct model *model)
{
    struct language_model_options ignored;
    lock_shared(model);
    bool makes_text = language_model_find(session_graph(model->session), &ignored);
    unlock(model);
    return makes_text;
}

uint64_t model_generation(struct model *model)
{
    lock_shared(model);
    uint64_t generation = model->generation;
    unlock(model);
    return generation;
}

void model_fill(struct model *model, struct version_content *content, uint64_t version)
{
    session_reset(model->session, content->graph, content->values);
    json_decref(model->programs);
    json_decref(model->waiting_specification);
    vocabulary_unref(model->vocabulary);
    model->programs = content->programs;
    model->vocabulary = content->vocabulary;
    model->waiting_specification = NULL;
    content->graph = NULL;
    content->values = NULL;
    content->programs = NULL;
    content->vocabulary = NULL;
    model->generation++;
    model->base_version = version;
    model->is_unsaved = false;
}

/* ---- training's hold ---- */

enum status model_check_not_training(const struct model *model, struct error *error)
{
    if (!model->is_training) {
        return STATUS_OK;
    }
    error_set(error, STATUS_CONFLICT, "model %s is held by training job %s", model->name, model->training_job);
    return error_code(error, "training"), STATUS_CONFLICT;
}

enum status model_begin_training(struct model *model, const char *job, struct error *error)
{
    lock_alone(model);
    enum status status = model_check_not_training(model, error);
    if (status == STATUS_OK) {
        model->is_training = true;
        snprintf(model->training_job, sizeof model->training_job, "%s", job);
    }
    unlock(model);
    return status;
}

void model_end_training(struct model *model)
{
    lock_alone(model);
    model->is_training = false;
    unlock(model);
}

/* ---- building ---- */

static enum status reply_to_build(const struct model *model, const struct program_result *result, json_t **ret_reply,
                                  struct error *error)
{
    json_t *reply = json_pack("{s:I, s:O, s:O, s:O, s:I, s:O}", "generation", (json_int_t)model->generation, "handles",
                              result->handles, "results", result->results, "variables", result->variables,
                              "nodes_added", (json_int_t)result->nodes_added, "warnings", result->warnings);
    if (reply == NULL) {
        return no_memory(model, error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

/* The program as graph.json keeps it. */
static json_t *program_record(const json_t *request, const char *request_id)
{
    json_t *program = json_deep_copy(json_object_get(request, "program"));
    json_t *record = json_pack("{s:o, s:I}", "program", program, "at", (json_int_t)time(NULL));
    const json_t *reuse = json_object_get(request, "reuse");
    if (record != NULL && reuse != NULL && json_object_set_new(record, "reuse", json_deep_copy(reuse)) != 0) {
        json_decref(record);
        return NULL;
    }
    if (record != NULL && request_id != NULL &&
        json_object_set_new(record, "request_id", json_string(request_id)) != 0) {
        json_decref(record);
        return NULL;
    }
    return record;
}

/* Makes `graph` the model's. Only steps that cannot fail come after the first that changes something one can see. */
static enum status publish(struct model *model, struct graph *graph, const struct program_result *result,
                           const json_t *request, const char *request_id, struct error *error)
{
    bool has_changed = graph_differs(graph, session_graph(model->session));
    if (!has_changed) {
        return STATUS_OK;
    }
    if (json_array_append_new(model->programs, program_record(request, request_id)) != 0) {
        return no_memory(model, error);
    }
    enum status status = session_adopt(model->session, graph, error);
    if (status != STATUS_OK) {
        json_array_remove(model->programs, json_array_size(model->programs) - 1);
        return status;
    }
    model->is_unsaved = true;
    if (model->vocabulary == NULL && result->vocabulary != NULL) {
        model->vocabulary = vocabulary_ref(result->vocabulary);
    }
    return STATUS_OK;
}

enum status model_apply(struct model *model, const json_t *request, const char *request_id, json_t **ret_reply,
                        struct error *error)
{
    struct graph *graph = NULL;
    struct program_result result = {.handles = NULL};
    json_t *reply = NULL;
    TRY(graph_clone(session_graph(model->session), &graph, error));
    enum status status = program_apply(graph, request, (uint32_t)json_array_size(model->programs) + 1, request_id,
                                       model->vocabulary, &result, error);
    if (status == STATUS_OK && ret_reply != NULL) {
        status = reply_to_build(model, &result, &reply, error);
    }
    if (status == STATUS_OK) {
        status = publish(model, graph, &result, request, request_id, error);
    }
    if (status == STATUS_OK && ret_reply != NULL) {
        *ret_reply = reply;
    } else {
        json_decref(reply);
    }
    program_result_release(&result);
    graph_unref(graph);
    return status;
}

enum status model_build(struct model *model, const json_t *request, const char *request_id, json_t **ret_reply,
                        struct error *error)
{
    lock_alone(model);
    enum status status = model_check_not_training(model, error);
    if (status == STATUS_OK) {
        status = model_apply(model, request, request_id, ret_reply, error);
    }
    unlock(model);
    return status;
}

static enum status make_language_model(struct model *model, const json_t *specification, uint64_t seed,
                                       struct error *error)
{
    struct language_model_options options;
    TRY(model_check_not_training(model, error));
    TRY(language_model_options_from_json(specification, &options, error));
    json_t *step = json_deep_copy(specification);
    if (step == NULL) {
        return no_memory(model, error);
    }
    const json_t *vocabulary = json_object_get(step, "vocabulary");
    if (vocabulary == NULL ||
        (json_is_object(vocabulary) && json_object_get(vocabulary, "symbols") == NULL &&
         json_object_get(vocabulary, "kind") != NULL && json_object_get(vocabulary, "corpus") == NULL &&
         strcmp(json_string_value(json_object_get(vocabulary, "kind")) == NULL
                    ? ""
                    : json_string_value(json_object_get(vocabulary, "kind")),
                "characters") == 0)) {
        json_decref(model->waiting_specification);
        model->waiting_specification = step;
        model->waiting_seed = seed;
        return STATUS_OK;
    }
    json_object_set_new(step, "op", json_string("language_model"));
    json_t *request = json_pack("{s:[o]}", "program", step);
    if (request == NULL) {
        return no_memory(model, error);
    }
    enum status status = model_apply(model, request, NULL, NULL, error);
    json_decref(request);
    TRY(status);
    return values_initialize(session_values(model->session), session_graph(model->session), seed, error);
}

enum status model_make_language_model(struct model *model, const json_t *specification, uint64_t seed,
                                      struct error *error)
{
    lock_alone(model);
    enum status status = make_language_model(model, specification, seed, error);
    unlock(model);
    return status;
}

/* ---- resetting ---- */

static enum status reset(struct model *model, const char *version_path, uint64_t version, struct error *error)
{
    TRY(model_check_not_training(model, error));
    struct version_content content = {.graph = NULL};
    if (version_path != NULL) {
        TRY(version_content_read(version_path, &content, error));
    } else {
        content.programs = json_array();
        enum status status = graph_create(&content.graph, error);
        if (status == STATUS_OK) {
            status = values_create(content.graph, &content.values, error);
        }
        if (status == STATUS_OK && content.programs == NULL) {
            status = no_memory(model, error);
        }
        if (status != STATUS_OK) {
            version_content_release(&content);
            return status;
        }
    }
    model_fill(model, &content, version_path == NULL ? 0 : version);
    version_content_release(&content);
    model->is_unsaved = version_path == NULL;
    return STATUS_OK;
}

enum status model_reset(struct model *model, bool force, const char *version_path, uint64_t version, json_t **ret_reply,
                        struct error *error)
{
    if (force) {
        atomic_store(&model->cancel_runs, true);
        lock_alone(model);
        atomic_store(&model->cancel_runs, false);
    } else if (pthread_rwlock_trywrlock(&model->lock) != 0) {
        error_set(error, STATUS_CONFLICT, "the graph of model %s is in use by a run; {\"force\":true} cancels it first",
                  model->name);
        return error_code(error, "graph_in_use"), STATUS_CONFLICT;
    }
    enum status status = reset(model, version_path, version, error);
    json_t *reply = status == STATUS_OK ? json_pack("{s:I}", "generation", (json_int_t)model->generation) : NULL;
    unlock(model);
    if (status == STATUS_OK && reply == NULL) {
        return no_memory(model, error);
    }
    if (status == STATUS_OK) {
        *ret_reply = reply;
    }
    return status;
}

/* ---- looking ---- */

/* A reply made under the lock. */
static enum status reply_with(const struct model *model, json_t *reply, json_t **ret_reply, struct error *error)
{
    if (reply == NULL) {
        return no_memory(model, error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

enum status model_describe_graph(struct model *model, json_t **ret_reply, struct error *error)
{
    lock_shared(model);
    const struct graph *graph = session_graph(model->session);
    const struct values *values = session_values(model->session);
    json_t *base = model->base_version == 0 ? json_null() : json_integer((json_int_t)model->base_version);
    json_t *reply = json_pack(
        "{s:I, s:b, s:o, s:b, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "generation", (json_int_t)model->generation,
        "finalized", graph_is_finalized(graph), "base_version", base, "unsaved", model->is_unsaved, "node_count",
        (json_int_t)graph_node_count(graph), "nodes", graph_nodes_to_json(graph), "variables",
        graph_variables_to_json(graph, values, true), "scopes", graph_scopes_to_json(graph), "collections",
        graph_collections_to_json(graph), "signatures", graph_signatures_to_json(graph), "handles",
        graph_handles_to_json(graph), "results", graph_results_to_json(graph));
    unlock(model);
    return reply_with(model, reply, ret_reply, error);
}

enum status model_list_variables(struct model *model, json_t **ret_reply, struct error *error)
{
    lock_shared(model);
    json_t *variables = graph_variables_to_json(session_graph(model->session), session_values(model->session), false);
    json_t *reply = json_pack("{s:o}", "variables", variables);
    unlock(model);
    return reply_with(model, reply, ret_reply, error);
}

enum status model_draw_graph(struct model *model, char **ret_dot, size_t *ret_length, struct error *error)
{
    lock_shared(model);
    enum status status = graph_to_dot(session_graph(model->session), ret_dot, ret_length, error);
    unlock(model);
    return status;
}

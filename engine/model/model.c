/* A model's live graph and values: making, resetting, looking at. Thread: run threads (see
 * model.h). */
#include "engine/model/model.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/nn/generate_signature.h"
#include "engine/nn/language_model.h"
#include "engine/store/graph_json.h"
#include "engine/store/tensor_json.h"

enum status model_no_memory(const struct model *model, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for model %s", model->name);
}

enum status model_no_language_model(const struct model *model, struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE, "model %s: there is no language_model to train", model->name);
    return error_code(error, "no_language_model"), STATUS_UNPROCESSABLE;
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
    CHECK(pthread_mutex_init(&model->saving, NULL) == 0);
    CHECK(pthread_mutex_init(&model->building, NULL) == 0);
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
        status = model_no_memory(model, error);
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
    TRY(version_content_read(version_path, VERSION_USE_LIVE, &content, error));
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
        CHECK(pthread_rwlock_destroy(&model->lock) == 0);
        CHECK(pthread_mutex_destroy(&model->building) == 0);
        CHECK(pthread_mutex_destroy(&model->saving) == 0);
        mem_free(model->name);
        mem_free(model);
    }
    return NULL;
}

void model_lock_shared(struct model *model)
{
    CHECK(pthread_rwlock_rdlock(&model->lock) == 0);
}

void model_lock_alone(struct model *model)
{
    CHECK(pthread_rwlock_wrlock(&model->lock) == 0);
}

void model_unlock(struct model *model)
{
    CHECK(pthread_rwlock_unlock(&model->lock) == 0);
}

void model_note_change(struct model *model)
{
    model->is_unsaved = true;
    model->change_count++;
}

bool model_is_unsaved(struct model *model)
{
    model_lock_shared(model);
    bool is_unsaved = model->is_unsaved;
    model_unlock(model);
    return is_unsaved;
}

bool model_makes_text(struct model *model)
{
    struct language_model_options ignored;
    model_lock_shared(model);
    bool makes_text = generate_signature_exists(session_graph(model->session)) ||
                      language_model_find(session_graph(model->session), &ignored);
    model_unlock(model);
    return makes_text;
}

uint64_t model_generation(struct model *model)
{
    model_lock_shared(model);
    uint64_t generation = model->generation;
    model_unlock(model);
    return generation;
}

uint64_t model_base_version(struct model *model)
{
    model_lock_shared(model);
    uint64_t version = model->base_version;
    model_unlock(model);
    return version;
}

void model_fill(struct model *model, struct version_content *content, uint64_t version)
{
    json_t *programs = model->programs;
    struct vocabulary *vocabulary = model->vocabulary;
    session_reset(model->session, &content->graph, &content->values);
    json_decref(model->waiting_specification);
    model->programs = content->programs;
    model->vocabulary = content->vocabulary;
    model->waiting_specification = NULL;
    content->programs = programs;
    content->vocabulary = vocabulary;
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
    model_lock_alone(model);
    enum status status = model_check_not_training(model, error);
    if (status == STATUS_OK) {
        model->is_training = true;
        snprintf(model->training_job, sizeof model->training_job, "%s", job);
    }
    model_unlock(model);
    return status;
}

void model_end_training(struct model *model)
{
    model_lock_alone(model);
    model->is_training = false;
    model_unlock(model);
}

/* ---- resetting ---- */

/* An empty graph as content. */
static enum status make_empty(const struct model *model, struct version_content *ret_content, struct error *error)
{
    struct version_content content = {.programs = json_array()};
    enum status status = content.programs == NULL ? model_no_memory(model, error) : STATUS_OK;
    if (status == STATUS_OK) {
        status = graph_create(&content.graph, error);
    }
    if (status == STATUS_OK) {
        status = values_create(content.graph, &content.values, error);
    }
    if (status != STATUS_OK) {
        version_content_release(&content);
        return status;
    }
    *ret_content = content;
    return STATUS_OK;
}

/* The lock alone, which a forced reset takes from runs. */
static enum status lock_for_reset(struct model *model, bool force, struct error *error)
{
    if (force) {
        atomic_store(&model->cancel_runs, true);
        model_lock_alone(model);
        atomic_store(&model->cancel_runs, false);
        return STATUS_OK;
    }
    if (pthread_rwlock_trywrlock(&model->lock) == 0) {
        return STATUS_OK;
    }
    if (atomic_load(&model->run_count) > 0) {
        error_set(error, STATUS_CONFLICT, "the graph of model %s is in use by a run; {\"force\":true} cancels it first",
                  model->name);
        return error_code(error, "graph_in_use"), STATUS_CONFLICT;
    }
    model_lock_alone(model); /* somebody only looks at it, or puts a build in place */
    return STATUS_OK;
}

/* Puts `content` in the place of the graph there is, whose parts it has afterwards. `is_following`: not when anything
 * was built, assigned or trained. */
static enum status replace_content(struct model *model, bool force, bool is_following, struct version_content *content,
                                   uint64_t version, uint64_t *ret_generation, struct error *error)
{
    TRY(lock_for_reset(model, force, error));
    enum status status = model_check_not_training(model, error);
    if (status == STATUS_OK && is_following && model->is_unsaved) {
        status = error_set(error, STATUS_CONFLICT, "the graph of model %s has changes that are not saved", model->name);
    }
    if (status == STATUS_OK) {
        model_fill(model, content, version);
        if (version == 0) {
            model_note_change(model);
        }
        *ret_generation = model->generation;
    }
    model_unlock(model);
    return status;
}

enum status model_reset(struct model *model, bool force, const char *version_path, uint64_t version, json_t **ret_reply,
                        struct error *error)
{
    struct version_content content;
    uint64_t generation = 0;
    TRY(version_path == NULL ? make_empty(model, &content, error)
                             : version_content_read(version_path, VERSION_USE_LIVE, &content, error));
    enum status status =
        replace_content(model, force, false, &content, version_path == NULL ? 0 : version, &generation, error);
    version_content_release(&content);
    TRY(status);
    json_t *reply = json_pack("{s:I}", "generation", (json_int_t)generation);
    if (reply == NULL) {
        return model_no_memory(model, error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

enum status model_follow(struct model *model, const char *version_path, uint64_t version, struct error *error)
{
    struct version_content content;
    uint64_t generation = 0;
    TRY(version_content_read(version_path, VERSION_USE_LIVE, &content, error));
    enum status status = replace_content(model, false, true, &content, version, &generation, error);
    version_content_release(&content);
    return status;
}

/* ---- looking ---- */

static enum status reply_with(const struct model *model, json_t *reply, json_t **ret_reply, struct error *error)
{
    if (reply == NULL) {
        return model_no_memory(model, error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

enum status model_describe_graph(struct model *model, json_t **ret_reply, struct error *error)
{
    model_lock_shared(model);
    struct graph *graph = graph_ref(session_graph(model->session));
    json_t *base = model->base_version == 0 ? json_null() : json_integer((json_int_t)model->base_version);
    json_t *reply =
        json_pack("{s:I, s:o, s:b, s:o}", "generation", (json_int_t)model->generation, "base_version", base, "unsaved",
                  model->is_unsaved, "variables", graph_variables_to_json(graph, session_values(model->session), true));
    model_unlock(model);
    json_t *rest = json_pack("{s:b, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "finalized", graph_is_finalized(graph),
                             "node_count", (json_int_t)graph_node_count(graph), "nodes", graph_nodes_to_json(graph),
                             "scopes", graph_scopes_to_json(graph), "collections", graph_collections_to_json(graph),
                             "signatures", graph_signatures_to_json(graph), "handles", graph_handles_to_json(graph),
                             "results", graph_results_to_json(graph));
    graph_unref(graph);
    if (json_object_update(reply, rest) != 0) {
        json_decref(reply);
        reply = NULL;
    }
    json_decref(rest);
    return reply_with(model, reply, ret_reply, error);
}

enum status model_list_variables(struct model *model, json_t **ret_reply, struct error *error)
{
    model_lock_shared(model);
    json_t *variables = graph_variables_to_json(session_graph(model->session), session_values(model->session), false);
    json_t *reply = json_pack("{s:o}", "variables", variables);
    model_unlock(model);
    return reply_with(model, reply, ret_reply, error);
}

enum status model_draw_graph(struct model *model, char **ret_dot, size_t *ret_length, struct error *error)
{
    model_lock_shared(model);
    struct graph *graph = graph_ref(session_graph(model->session));
    model_unlock(model);
    enum status status = graph_to_dot(graph, ret_dot, ret_length, error);
    graph_unref(graph);
    return status;
}

enum status model_adapt(struct model *model, const struct adaptation_options *options,
                        struct adaptation **ret_adaptation, struct error *error)
{
    model_lock_shared(model);
    enum status status = adaptation_create(session_graph(model->session), session_values(model->session), options,
                                           ret_adaptation, error);
    model_unlock(model);
    return status;
}

/* Building on a model's live graph. A program is applied to a clone while the model serves others as before; only
 * publishing the clone takes the model's lock. Thread: run threads, and a training job's in a model of its own. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/nn/language_model.h"
#include "engine/nn/presets.h"
#include "engine/store/graph_file.h"
#include "engine/store/program.h"

/* ---- what a build begins from ---- */

struct base {
    struct graph *graph; /* one reference */
    struct vocabulary *vocabulary;
    uint64_t generation;
    uint64_t change_count;
    uint32_t program; /* the number of the next one */
};

struct change {
    const json_t *request; /* {"program","reuse"} */
    const char *request_id;
};

/* `ret_values` gets a copy of the values too; NULL: none. */
static enum status take_base(struct model *model, struct base *ret_base, struct values **ret_values,
                             struct error *error)
{
    model_lock_shared(model);
    enum status status = model_check_not_training(model, error);
    if (status == STATUS_OK && ret_values != NULL) {
        status = values_copy(session_values(model->session), ret_values, error);
    }
    if (status == STATUS_OK) {
        *ret_base = (struct base){.graph = graph_ref(session_graph(model->session)),
                                  .vocabulary = model->vocabulary == NULL ? NULL : vocabulary_ref(model->vocabulary),
                                  .generation = model->generation,
                                  .change_count = model->change_count,
                                  .program = (uint32_t)json_array_size(model->programs) + 1};
    }
    model_unlock(model);
    return status;
}

static void release_base(struct base *base)
{
    graph_unref(base->graph);
    vocabulary_unref(base->vocabulary);
}

/* ---- publishing ---- */

static enum status reply_to_build(const struct model *model, uint64_t generation, const struct program_result *result,
                                  json_t **ret_reply, struct error *error)
{
    json_t *reply = json_pack("{s:I, s:O, s:O, s:O, s:I, s:O}", "generation", (json_int_t)generation, "handles",
                              result->handles, "results", result->results, "variables", result->variables,
                              "nodes_added", (json_int_t)result->nodes_added, "warnings", result->warnings);
    if (reply == NULL) {
        return model_no_memory(model, error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

/* The program as graph.json keeps it. */
static enum status make_record(const struct model *model, const struct change *change, json_t **ret_record,
                               struct error *error)
{
    json_t *program = json_deep_copy(json_object_get(change->request, "program"));
    json_t *reuse = json_deep_copy(json_object_get(change->request, "reuse"));
    json_t *record = json_pack("{s:o, s:I, s:o*, s:s*}", "program", program, "at", (json_int_t)time(NULL), "reuse",
                               reuse, "request_id", change->request_id);
    if (record == NULL) {
        return model_no_memory(model, error);
    }
    *ret_record = record;
    return STATUS_OK;
}

static enum status check_base(const struct model *model, const struct base *base, struct error *error)
{
    if (model->generation != base->generation) {
        error_raise(error, STATUS_CONFLICT, EXCEPTION_VALUE,
                    "the graph of model %s was reset while this program was applied to it (generation %llu was reset)",
                    model->name, (unsigned long long)base->generation);
        return error_code(error, "generation"), STATUS_CONFLICT;
    }
    return model_check_not_training(model, error);
}

/* Makes `graph` the model's. Only steps that cannot fail come after the first that changes something one can see. The
 * lock is held alone. */
static enum status publish(struct model *model, struct graph *graph, struct vocabulary *vocabulary, json_t *record,
                           struct error *error)
{
    if (json_array_append(model->programs, record) != 0) {
        return model_no_memory(model, error);
    }
    enum status status = session_adopt(model->session, graph, error);
    if (status != STATUS_OK) {
        json_array_remove(model->programs, json_array_size(model->programs) - 1);
        return status;
    }
    model_note_change(model);
    if (model->vocabulary == NULL && vocabulary != NULL) {
        model->vocabulary = vocabulary_ref(vocabulary);
    }
    return STATUS_OK;
}

/* TOO_LARGE for a program more than a saved graph is read back with. */
static enum status check_program_count(const struct base *base, struct error *error)
{
    if (base->program > GRAPH_FILE_PROGRAMS_MAX) {
        return error_raise(error, STATUS_TOO_LARGE, EXCEPTION_RESOURCE_EXHAUSTED,
                           "the graph was built by %d programs, the maximum: build more at once, or reset it",
                           GRAPH_FILE_PROGRAMS_MAX);
    }
    return STATUS_OK;
}

/* Publishes a grown clone, unless it is no different from what it was made of. */
static enum status offer(struct model *model, const struct base *base, struct graph *graph, const struct change *change,
                         struct vocabulary *vocabulary, struct error *error)
{
    bool is_different = graph_differs(graph, base->graph);
    json_t *record = NULL;
    if (is_different) {
        TRY(check_program_count(base, error));
        TRY(make_record(model, change, &record, error));
    }
    model_lock_alone(model);
    enum status status = check_base(model, base, error);
    if (status == STATUS_OK && is_different) {
        status = publish(model, graph, vocabulary, record, error);
    }
    json_decref(record); /* under the lock: who saves reads the same object */
    model_unlock(model);
    return status;
}

/* ---- building ---- */

static enum status apply_to_clone(struct model *model, const struct base *base, struct graph *graph,
                                  const struct change *change, json_t **ret_reply, struct error *error)
{
    struct program_result result;
    json_t *reply = NULL;
    TRY(program_apply(graph, change->request, base->program, change->request_id, base->vocabulary, &result, error));
    enum status status =
        ret_reply == NULL ? STATUS_OK : reply_to_build(model, base->generation, &result, &reply, error);
    if (status == STATUS_OK) {
        status = offer(model, base, graph, change, result.vocabulary, error);
    }
    program_result_release(&result);
    if (status != STATUS_OK) {
        json_decref(reply);
        return status;
    }
    if (ret_reply != NULL) {
        *ret_reply = reply;
    }
    return STATUS_OK;
}

/* Applies a program to a clone and publishes it with its values grown; nothing changes on failure, which is CONFLICT
 * too when the model was reset meanwhile or is held by a training. `building` is held, the lock is not. */
static enum status apply(struct model *model, const struct change *change, json_t **ret_reply, struct error *error)
{
    struct base base;
    struct graph *graph = NULL;
    TRY(take_base(model, &base, NULL, error));
    enum status status = graph_clone(base.graph, &graph, error);
    if (status == STATUS_OK) {
        status = apply_to_clone(model, &base, graph, change, ret_reply, error);
    }
    graph_unref(graph);
    release_base(&base);
    return status;
}

enum status model_build(struct model *model, const json_t *request, const char *request_id, json_t **ret_reply,
                        struct error *error)
{
    const struct change change = {.request = request, .request_id = request_id};
    CHECK(pthread_mutex_lock(&model->building) == 0);
    enum status status = apply(model, &change, ret_reply, error);
    CHECK(pthread_mutex_unlock(&model->building) == 0);
    return status;
}

/* ---- initialising ---- */

/* Puts values made aside in the place of those of `base`. */
static enum status offer_values(struct model *model, const struct base *base, struct values **values,
                                struct error *error)
{
    model_lock_alone(model);
    enum status status = check_base(model, base, error);
    if (status == STATUS_OK && model->change_count != base->change_count) {
        status = error_raise(error, STATUS_CONFLICT, EXCEPTION_VALUE,
                             "values of model %s were changed while its initialisers ran", model->name);
    }
    if (status == STATUS_OK) {
        *values = session_swap_values(model->session, *values);
    }
    model_unlock(model);
    return status;
}

static enum status initialize(struct model *model, uint64_t seed, struct error *error)
{
    struct base base;
    struct values *values = NULL;
    TRY(take_base(model, &base, &values, error));
    enum status status = values_grow(values, base.graph, error);
    if (status == STATUS_OK) {
        status = values_initialize(values, base.graph, seed, error);
    }
    if (status == STATUS_OK) {
        status = offer_values(model, &base, &values, error);
    }
    values_destroy(values);
    release_base(&base);
    return status;
}

enum status model_initialize(struct model *model, uint64_t seed, struct error *error)
{
    CHECK(pthread_mutex_lock(&model->building) == 0);
    enum status status = initialize(model, seed, error);
    CHECK(pthread_mutex_unlock(&model->building) == 0);
    return status;
}

/* ---- a new language model ---- */

/* The vocabulary is to come from the text that the model is first trained with. */
static enum status wait_for_vocabulary(struct model *model, json_t *specification, struct error *error)
{
    enum vocabulary_kind kind;
    struct vocabulary_limits limits;
    enum status status =
        vocabulary_to_come_from_json(json_object_get(specification, "vocabulary"), &kind, &limits, error);
    if (status != STATUS_OK) {
        error_move(error, "", "/vocabulary");
        json_decref(specification);
        return status;
    }
    model_lock_alone(model);
    status = model_check_not_training(model, error);
    json_t *replaced = specification;
    if (status == STATUS_OK) {
        replaced = model->waiting_specification;
        model->waiting_specification = specification;
    }
    model_unlock(model);
    json_decref(replaced);
    return status;
}

enum status model_make_language_model(struct model *model, const json_t *specification, uint64_t seed,
                                      struct error *error)
{
    struct language_model_options options;
    json_t *reply = NULL;
    json_t *step = NULL;
    TRY(preset_expand(specification, PRESET_MODEL, &step, error));
    enum status status = language_model_options_from_json(step, &options, error);
    if (status != STATUS_OK) {
        json_decref(step);
        return status;
    }
    if (vocabulary_is_to_come(json_object_get(step, "vocabulary"))) {
        return wait_for_vocabulary(model, step, error);
    }
    json_object_set_new(step, "op", json_string("language_model"));
    json_t *request = json_pack("{s:[o]}", "program", step);
    if (request == NULL) {
        return model_no_memory(model, error);
    }
    status = model_build(model, request, NULL, &reply, error);
    json_decref(request);
    json_decref(reply);
    if (status != STATUS_OK) {
        error_move(error, "/program/0", "");
        return status;
    }
    return model_initialize(model, seed, error);
}

/* Runs over a model's live graph: feeds and fetches by name, from and to JSON. Thread: run threads. Runs that only
 * read share the model's lock; one that writes variables holds it alone. */
#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/graph/plan.h"
#include "engine/model/model_private.h"
#include "engine/store/tensor_json.h"

/* One run while it lasts: what it owns is released in run_release. */
struct model_run {
    size_t feed_count;
    size_t fetch_count;
    size_t target_count;
    struct output *feeds;
    struct shape *feed_shapes;
    struct tensor *feed_tensors;
    struct output *fetches;
    struct node **targets;
    struct tensor *results;
    struct plan *plan;
    struct workspace *workspace;
    enum tensor_encoding encoding;
};

static void run_release(struct model_run *run)
{
    for (size_t i = 0; i < run->feed_count; i++) {
        if (run->feed_tensors[i].data != NULL) {
            tensor_release(&run->feed_tensors[i]);
        }
    }
    workspace_destroy(run->workspace);
    plan_unref(run->plan);
    mem_free(run->feeds);
    mem_free(run->feed_shapes);
    mem_free(run->feed_tensors);
    mem_free(run->fetches);
    mem_free(run->targets);
    mem_free(run->results);
}

static enum status refuse_field(struct error *error, const char *field, const char *expected)
{
    enum status status = error_set(error, STATUS_INVALID, "/%s: %s", field, expected);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "/%.200s", field);
    }
    return status;
}

static enum status check_request(const json_t *request, struct model_run *run, struct error *error)
{
    static const char *const fields[] = {"feeds", "fetches", "targets", "generation", "encoding"};
    const char *key;
    json_t *value;
    if (!json_is_object(request)) {
        return refuse_field(error, "", "a run is an object");
    }
    json_object_foreach((json_t *)(uintptr_t)request, key, value)
    {
        bool is_known = false;
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
            is_known = is_known || strcmp(fields[i], key) == 0;
        }
        if (!is_known) {
            return refuse_field(error, key, "unknown field");
        }
    }
    const json_t *feeds = json_object_get(request, "feeds");
    const json_t *encoding = json_object_get(request, "encoding");
    if (feeds != NULL && !json_is_object(feeds)) {
        return refuse_field(error, "feeds", "must be an object of tensors by name");
    }
    if (encoding != NULL &&
        (!json_is_string(encoding) || !tensor_encoding_from_name(json_string_value(encoding), &run->encoding))) {
        return refuse_field(error, "encoding", "must be \"nested\", \"flat\" or \"base64\"");
    }
    run->feed_count = json_object_size(feeds);
    run->fetch_count = json_array_size(json_object_get(request, "fetches"));
    run->target_count = json_array_size(json_object_get(request, "targets"));
    if (run->fetch_count + run->target_count == 0) {
        run->feed_count = 0;
        return refuse_field(error, "fetches", "a run needs \"fetches\" or \"targets\"");
    }
    return STATUS_OK;
}

static enum status check_generation(const struct model *model, const json_t *request, struct error *error)
{
    const json_t *generation = json_object_get(request, "generation");
    if (generation == NULL) {
        return STATUS_OK;
    }
    if (!json_is_integer(generation)) {
        return refuse_field(error, "generation", "must be a whole number");
    }
    json_int_t wanted = json_integer_value(generation);
    if (wanted == (json_int_t)model->generation) {
        return STATUS_OK;
    }
    const char *first = json_string_value(json_array_get(json_object_get(request, "fetches"), 0));
    error_set(error, STATUS_CONFLICT, "Tensor %s is not an element of this graph (generation %lld %s)",
              first == NULL ? "" : first, (long long)wanted,
              wanted < (json_int_t)model->generation ? "was reset" : "does not exist yet");
    error_type(error, "ValueError");
    return error_code(error, "generation"), STATUS_CONFLICT;
}

static enum status read_feeds(const struct model *model, const json_t *feeds, struct model_run *run,
                              struct error *error)
{
    const char *name;
    json_t *value;
    size_t at = 0;
    json_object_foreach((json_t *)(uintptr_t)feeds, name, value)
    {
        enum status status = graph_find_output(session_graph(model->session), name, &run->feeds[at], error);
        if (status == STATUS_OK) {
            status = tensor_from_json(value, output_type(run->feeds[at])->dtype, &run->feed_tensors[at], error);
        }
        if (status != STATUS_OK) {
            error_prefix(error, "/feeds/%.60s", name);
            return status;
        }
        for (size_t before = 0; before < at; before++) {
            if (output_equal(run->feeds[before], run->feeds[at])) {
                return error_set(error, STATUS_INVALID, "/feeds: %.60s is fed twice", name);
            }
        }
        run->feed_shapes[at] = run->feed_tensors[at].shape;
        at++;
    }
    return STATUS_OK;
}

static enum status read_names(const struct model *model, const json_t *request, struct model_run *run,
                              struct error *error)
{
    const json_t *fetches = json_object_get(request, "fetches");
    const json_t *targets = json_object_get(request, "targets");
    for (size_t i = 0; i < run->fetch_count; i++) {
        const char *name = json_string_value(json_array_get(fetches, i));
        if (name == NULL) {
            return refuse_field(error, "fetches", "must be a list of tensor names");
        }
        TRY(graph_find_output(session_graph(model->session), name, &run->fetches[i], error));
    }
    for (size_t i = 0; i < run->target_count; i++) {
        const char *name = json_string_value(json_array_get(targets, i));
        run->targets[i] = name == NULL ? NULL : graph_find_node(session_graph(model->session), name);
        if (run->targets[i] == NULL) {
            error_set(error, STATUS_NOT_FOUND, "The name '%.100s' refers to an Operation not in the graph.",
                      name == NULL ? "" : name);
            error_type(error, "KeyError");
            return error_code(error, "not_in_graph"), STATUS_NOT_FOUND;
        }
    }
    return STATUS_OK;
}

static enum status prepare(const struct model *model, const json_t *request, struct model_run *run, struct error *error)
{
    size_t feed_count = run->feed_count;
    run->feeds = mem_allocate(feed_count + 1, sizeof *run->feeds);
    run->feed_shapes = mem_allocate(feed_count + 1, sizeof *run->feed_shapes);
    run->feed_tensors = mem_allocate(feed_count + 1, sizeof *run->feed_tensors);
    run->fetches = mem_allocate(run->fetch_count + 1, sizeof *run->fetches);
    run->targets = mem_allocate(run->target_count + 1, sizeof(struct node *));
    run->results = mem_allocate(run->fetch_count + 1, sizeof *run->results);
    if (run->feeds == NULL || run->feed_shapes == NULL || run->feed_tensors == NULL || run->fetches == NULL ||
        run->targets == NULL || run->results == NULL) {
        run->feed_count = run->feed_tensors == NULL ? 0 : feed_count;
        return error_set(error, STATUS_NO_MEMORY, "no memory for a run of model %s", model->name);
    }
    TRY(check_generation(model, request, error));
    TRY(read_feeds(model, json_object_get(request, "feeds"), run, error));
    TRY(read_names(model, request, run, error));
    struct plan_options options = {.feeds = run->feeds,
                                   .feed_shapes = run->feed_shapes,
                                   .feed_count = feed_count,
                                   .fetches = run->fetches,
                                   .fetch_count = run->fetch_count,
                                   .targets = run->targets,
                                   .target_count = run->target_count};
    return plan_create(session_graph(model->session), &options, &run->plan, error);
}

static enum status reply_to_run(const struct model *model, const json_t *request, const struct model_run *run,
                                json_t **ret_reply, struct error *error)
{
    json_t *results = json_object();
    for (size_t i = 0; i < run->fetch_count; i++) {
        json_t *tensor = NULL;
        enum status status = tensor_to_json(&run->results[i], run->encoding, &tensor, error);
        if (status != STATUS_OK) {
            json_decref(results);
            return status;
        }
        json_object_set_new(results, json_string_value(json_array_get(json_object_get(request, "fetches"), i)), tensor);
    }
    json_t *reply = json_pack("{s:o, s:I}", "results", results, "generation", (json_int_t)model->generation);
    if (reply == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the reply of a run");
    }
    *ret_reply = reply;
    return STATUS_OK;
}

/* Everything under the lock, which is held alone when the run may write. */
static enum status run_locked(struct model *model, const json_t *request, bool may_write, bool *ret_must_write,
                              json_t **ret_reply, struct error *error)
{
    struct model_run run = {.encoding = TENSOR_NESTED};
    struct run_options options = {.random_key = rng_system(), .cancel = &model->cancel_runs};
    enum status status = check_request(request, &run, error);
    if (status == STATUS_OK) {
        status = prepare(model, request, &run, error);
    }
    *ret_must_write = status == STATUS_OK && plan_writes(run.plan);
    if (status == STATUS_OK && *ret_must_write && !may_write) {
        run_release(&run);
        return STATUS_OK; /* the caller comes again, alone */
    }
    if (status == STATUS_OK && *ret_must_write) {
        status = model_check_not_training(model, error);
    }
    if (status == STATUS_OK) {
        status = workspace_create(run.plan, &run.workspace, error);
    }
    if (status == STATUS_OK) {
        options.feeds = run.feed_tensors;
        status = plan_run(run.plan, run.workspace, session_values(model->session), &options, run.results, error);
        if (*ret_must_write) {
            model->is_unsaved = true;
        }
    }
    if (status == STATUS_OK) {
        status = reply_to_run(model, request, &run, ret_reply, error);
    }
    run_release(&run);
    return status;
}

enum status model_run(struct model *model, const json_t *request, json_t **ret_reply, struct error *error)
{
    bool must_write = false;
    CHECK(pthread_rwlock_rdlock(&model->lock) == 0);
    enum status status = run_locked(model, request, false, &must_write, ret_reply, error);
    CHECK(pthread_rwlock_unlock(&model->lock) == 0);
    if (status != STATUS_OK || !must_write) {
        return status;
    }
    CHECK(pthread_rwlock_wrlock(&model->lock) == 0);
    status = run_locked(model, request, true, &must_write, ret_reply, error);
    CHECK(pthread_rwlock_unlock(&model->lock) == 0);
    return status;
}

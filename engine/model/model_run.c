/* Runs over a model's live graph: feeds and fetches by name, from and to JSON. Thread: run threads. Runs that only
 * read share the model's lock; one that writes variables holds it alone. */
#include <stdatomic.h>

#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "engine/model/model_private.h"
#include "engine/model/run_request.h"

/* One run, from its first look at the graph to its reply. */
struct model_run {
    struct model *model;
    const json_t *json;
    uint32_t maximum_ms;
    bool may_write; /* the lock is held alone */
    struct run_request request;
    struct session_run *prepared;
    bool is_read; /* request was read, against request.graph */
};

static enum status check_generation(const struct model *model, const json_t *json, struct error *error)
{
    const json_t *generation = json_object_get(json, "generation");
    if (generation == NULL) {
        return STATUS_OK;
    }
    if (!json_is_integer(generation)) {
        return run_request_refuse(error, "generation", "must be a whole number");
    }
    json_int_t wanted = json_integer_value(generation);
    if (wanted == (json_int_t)model->generation) {
        return STATUS_OK;
    }
    const char *first = json_string_value(json_array_get(json_object_get(json, "fetches"), 0));
    error_raise(error, STATUS_CONFLICT, EXCEPTION_VALUE,
                "Tensor %s is not an element of this graph (generation %lld %s)", first == NULL ? "" : first,
                (long long)wanted, wanted < (json_int_t)model->generation ? "was reset" : "does not exist yet");
    return error_code(error, "generation"), STATUS_CONFLICT;
}

/* Reads the request, unless that was done on the graph there still is. */
static enum status read_request(struct model_run *run, struct error *error)
{
    struct graph *graph = session_graph(run->model->session);
    if (run->is_read && run->request.graph == graph) {
        return STATUS_OK;
    }
    run_request_release(&run->request);
    run->is_read = true;
    TRY(session_check(run->model->session, error));
    return run_request_read(graph, run->json, &run->request, error);
}

static enum status explain_end(const struct model_run *run, struct error *error)
{
    const struct model *model = run->model;
    if (atomic_load(&model->cancel_runs)) {
        return error_raise(error, STATUS_CANCELLED, EXCEPTION_CANCELLED,
                           "the run was cancelled: the graph of model %s is reset", model->name);
    }
    error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_DEADLINE_EXCEEDED,
                "the run took longer than %g seconds, the maximum", run->maximum_ms / 1e3);
    return error_code(error, "run_too_long"), STATUS_UNPROCESSABLE;
}

static enum status go(struct model_run *run, struct error *error)
{
    struct session_run_options options = {.random_key = rng_system(),
                                          .cancel = &run->model->cancel_runs,
                                          .deadline_ms = clock_now_ms() + run->maximum_ms};
    TRY(run_request_check_size(&run->request, session_run_fetch_elements(run->prepared), error));
    bool writes = session_run_writes(run->prepared);
    if (writes) {
        TRY(model_check_not_training(run->model, error));
    }
    enum status status = session_run_go(run->prepared, &options, run->request.results, error);
    if (writes) {
        model_note_change(run->model);
    }
    return status == STATUS_CANCELLED ? explain_end(run, error) : status;
}

static enum status reply_to_run(const struct model_run *run, json_t **ret_reply, struct error *error)
{
    json_t *results = NULL;
    TRY(run_request_results(&run->request, &results, error));
    json_t *reply = json_object();
    json_t *generation = json_integer((json_int_t)run->model->generation);
    bool has_results = json_object_set_new(reply, "results", results) == 0;
    if (json_object_set_new(reply, "generation", generation) != 0 || !has_results) {
        json_decref(reply);
        return error_set(error, STATUS_NO_MEMORY, "no memory for the reply of a run");
    }
    *ret_reply = reply;
    return STATUS_OK;
}

/* Under the lock. `ret_must_write`: nothing was run, the caller comes again with the lock alone. */
static enum status run_locked(struct model_run *run, bool *ret_must_write, json_t **ret_reply, struct error *error)
{
    TRY(check_generation(run->model, run->json, error));
    TRY(read_request(run, error));
    TRY(session_prepare(run->model->session, &run->request.session, &run->prepared, error));
    enum status status = STATUS_OK;
    *ret_must_write = session_run_writes(run->prepared) && !run->may_write;
    if (!*ret_must_write) {
        status = go(run, error);
    }
    if (status == STATUS_OK && !*ret_must_write) {
        status = reply_to_run(run, ret_reply, error);
    }
    session_run_end(run->prepared);
    return status;
}

enum status model_run_within(struct model *model, const json_t *request, uint32_t maximum_ms, json_t **ret_reply,
                             struct error *error)
{
    struct model_run run = {.model = model, .json = request, .maximum_ms = maximum_ms};
    bool must_write = false;
    atomic_fetch_add(&model->run_count, 1);
    model_lock_shared(model);
    enum status status = run_locked(&run, &must_write, ret_reply, error);
    if (status == STATUS_OK && must_write) {
        model_unlock(model);
        run.may_write = true;
        model_lock_alone(model);
        status = run_locked(&run, &must_write, ret_reply, error);
    }
    model_unlock(model);
    atomic_fetch_sub(&model->run_count, 1);
    run_request_release(&run.request);
    return status;
}

enum status model_run(struct model *model, const json_t *request, json_t **ret_reply, struct error *error)
{
    return model_run_within(model, request, MODEL_RUN_MS_MAX, ret_reply, error);
}

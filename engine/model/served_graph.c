/* Versions' graphs, served by their signatures. Thread: see the header. A served graph owns a session, whose values no
 * run may change, and its signatures' ends in an arena. */
#include "engine/model/served_graph.h"

#include <stdatomic.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/graph/handles.h"
#include "engine/graph/op.h"
#include "engine/model/model_private.h"
#include "engine/nn/generate_signature.h"
#include "engine/nn/language_model.h"

enum { ITEM_INPUTS = 1, ITEM_OUTPUTS = 2, LANGUAGE_MODEL_ENDS_MAX = 2 + 2 * LANGUAGE_MODEL_LAYERS_MAX };

struct served_graph {
    _Atomic size_t references;
    struct session *session;
    struct arena arena;
    struct served_signature *signatures;
    size_t signature_count;
};

struct served_run {
    struct session_run *run;
    struct feed *feeds;
    struct output *fetches;
    struct tensor results[];
};

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory to serve a graph");
}

/* ---- ends ---- */

size_t served_end_find(const struct served_end *ends, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(ends[i].name, name) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* Describes one end; `name` is copied. */
static bool make_end(struct served_graph *graph, const char *name, struct output output, struct served_end *end)
{
    char text[OUTPUT_NAME_BYTES_MAX];
    const struct output_type *type = output_type(output);
    *end = (struct served_end){.name = arena_copy_string(&graph->arena, name),
                               .tensor = arena_copy_string(&graph->arena, output_name(output, text)),
                               .dtype = type->dtype,
                               .shape = type->shape,
                               .is_optional = (output.node->op->flags & OP_FEED_ONLY) == 0,
                               .output = output};
    return end->name != NULL && end->tensor != NULL;
}

static bool is_state(const char *name)
{
    return strcmp(name, "state") == 0 || strncmp(name, "state.", 6) == 0;
}

/* Finds what a run carries over to the next one. */
static void pair_states(struct served_end *inputs, size_t input_count, const struct served_end *outputs,
                        size_t output_count)
{
    for (size_t i = 0; i < input_count; i++) {
        size_t next = is_state(inputs[i].name) ? served_end_find(outputs, output_count, inputs[i].name) : SIZE_MAX;
        inputs[i].is_carried = next != SIZE_MAX && outputs[next].dtype == inputs[i].dtype;
        inputs[i].next = inputs[i].is_carried ? next : 0;
    }
}

/* ---- signatures that were built ---- */

/* The tensors of one side, lists by number. NULL without memory. */
static struct served_end *read_ends(struct served_graph *graph, const struct handle *side, size_t *ret_count)
{
    struct served_end *ends = arena_allocate(&graph->arena, handle_leaf_count(side) + 1, sizeof *ends);
    size_t count = 0;
    for (size_t i = 0; ends != NULL && i < side->count; i++) {
        const struct handle *item = &side->items[i];
        bool is_list = item->kind == HANDLE_LIST;
        for (size_t j = 0; j < (is_list ? item->count : 1); j++) {
            const char *name = is_list ? arena_format(&graph->arena, "%s.%zu", side->names[i], j) : side->names[i];
            if (name == NULL || !make_end(graph, name, is_list ? item->items[j].output : item->output, &ends[count])) {
                return NULL;
            }
            count++;
        }
    }
    *ret_count = count;
    return ends;
}

/* Puts a signature with these ends among the others; a later one of its name replaces. */
static void add_signature(struct served_graph *graph, struct served_signature *signature, struct served_end *inputs,
                          const struct served_end *outputs)
{
    size_t at = 0;
    pair_states(inputs, signature->input_count, outputs, signature->output_count);
    signature->inputs = inputs;
    signature->outputs = outputs;
    while (at < graph->signature_count && strcmp(graph->signatures[at].name, signature->name) != 0) {
        at++;
    }
    graph->signatures[at] = *signature;
    graph->signature_count += at == graph->signature_count ? 1 : 0;
}

static enum status read_signature(struct served_graph *graph, const struct handle *built, struct error *error)
{
    struct served_signature signature = {.name = built->items[0].text};
    struct served_end *inputs = read_ends(graph, &built->items[ITEM_INPUTS], &signature.input_count);
    struct served_end *outputs = read_ends(graph, &built->items[ITEM_OUTPUTS], &signature.output_count);
    if (inputs == NULL || outputs == NULL) {
        return no_memory(error);
    }
    add_signature(graph, &signature, inputs, outputs);
    return STATUS_OK;
}

/* ---- a language_model's ---- */

/* Appends the tensor "<node>:0" as `name`; false without memory. A node that is not there is left out. */
static bool add_node_end(struct served_graph *graph, const char *node_name, const char *name, struct served_end *ends,
                         size_t *count)
{
    struct node *node = graph_find_node(session_graph(graph->session), node_name);
    return node == NULL || make_end(graph, name, (struct output){node, 0}, &ends[(*count)++]);
}

static enum status add_language_model(struct served_graph *graph, const struct language_model_options *options,
                                      struct error *error)
{
    struct served_signature signature = {.name = SERVED_DEFAULT_NAME};
    struct served_end *inputs = arena_allocate(&graph->arena, LANGUAGE_MODEL_ENDS_MAX, sizeof *inputs);
    struct served_end *outputs = arena_allocate(&graph->arena, LANGUAGE_MODEL_ENDS_MAX, sizeof *outputs);
    bool is_good = inputs != NULL && outputs != NULL &&
                   add_node_end(graph, "predict/inputs", "tokens", inputs, &signature.input_count) &&
                   add_node_end(graph, "predict/logits", "logits", outputs, &signature.output_count) &&
                   add_node_end(graph, "predict/probabilities", "probabilities", outputs, &signature.output_count);
    for (size_t i = 0; is_good && i < 2 * (size_t)LANGUAGE_MODEL_LAYERS_MAX; i++) {
        char place[RECURRENT_STATE_NAME_BYTES_MAX];
        char initial[64];
        char final[64];
        char name[32];
        recurrent_state_name(options->cell, i, place);
        snprintf(initial, sizeof initial, "predict/initial_state/%s", place);
        snprintf(final, sizeof final, "predict/final_state/%s", place);
        snprintf(name, sizeof name, "state.%zu", i);
        is_good = add_node_end(graph, initial, name, inputs, &signature.input_count) &&
                  add_node_end(graph, final, name, outputs, &signature.output_count);
    }
    if (!is_good) {
        return no_memory(error);
    }
    add_signature(graph, &signature, inputs, outputs);
    return STATUS_OK;
}

static enum status read_signatures(struct served_graph *graph, struct error *error)
{
    struct graph *nodes = session_graph(graph->session);
    struct language_model_options options;
    size_t count = graph_collection_count(nodes, COLLECTION_SIGNATURES);
    graph->signatures = arena_allocate(&graph->arena, count + 1, sizeof *graph->signatures);
    if (graph->signatures == NULL) {
        return no_memory(error);
    }
    if (language_model_find(nodes, &options) && options.has_predict_head) {
        TRY(add_language_model(graph, &options, error));
    }
    for (size_t i = 0; i < count; i++) {
        TRY(read_signature(graph, graph_collection_at(nodes, COLLECTION_SIGNATURES, i), error));
    }
    return STATUS_OK;
}

/* ---- life ---- */

static enum status fill(struct served_graph *graph, struct version_content *content, struct error *error)
{
    TRY(session_create(content->graph, &graph->session, error));
    session_reset(graph->session, &content->graph, &content->values);
    return read_signatures(graph, error);
}

enum status served_graph_open(const char *path, struct served_graph **ret_graph, struct error *error)
{
    struct version_content content;
    TRY(version_content_read(path, VERSION_USE_LIVE, &content, error));
    struct served_graph *graph = mem_allocate(1, sizeof *graph);
    enum status status = STATUS_NO_MEMORY;
    if (graph == NULL) {
        no_memory(error);
    } else {
        atomic_init(&graph->references, 1);
        status = fill(graph, &content, error);
    }
    version_content_release(&content);
    if (status != STATUS_OK) {
        served_graph_unref(graph);
        return status;
    }
    *ret_graph = graph;
    return STATUS_OK;
}

struct served_graph *served_graph_ref(struct served_graph *graph)
{
    atomic_fetch_add(&graph->references, 1);
    return graph;
}

struct served_graph *served_graph_unref(struct served_graph *graph)
{
    if (graph != NULL && atomic_fetch_sub(&graph->references, 1) == 1) {
        if (graph->session != NULL) {
            session_destroy(graph->session);
        }
        arena_release(&graph->arena);
        mem_free(graph);
    }
    return NULL;
}

const struct session *served_graph_session(const struct served_graph *graph)
{
    return graph->session;
}

size_t served_graph_signature_count(const struct served_graph *graph)
{
    return graph->signature_count;
}

const struct served_signature *served_graph_signature(const struct served_graph *graph, size_t index)
{
    return &graph->signatures[index];
}

/* NULL when there is none. */
static const struct served_signature *find(const struct served_graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->signature_count; i++) {
        if (strcmp(graph->signatures[i].name, name) == 0) {
            return &graph->signatures[i];
        }
    }
    return NULL;
}

static enum status refuse_name(const struct served_graph *graph, const char *name, struct error *error)
{
    char names[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < graph->signature_count && used < sizeof names; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.60s", i == 0 ? "" : ", ",
                                 graph->signatures[i].name);
    }
    error_set(error, STATUS_INVALID, "Serving signature name: \"%.100s\" not found in signature def; there are: %s",
              name == NULL ? SERVED_DEFAULT_NAME : name, graph->signature_count == 0 ? "none" : names);
    return error_code(error, "signature_not_found");
}

enum status served_graph_find(const struct served_graph *graph, const char *name,
                              const struct served_signature **ret_signature, struct error *error)
{
    const struct served_signature *found = find(graph, name == NULL ? SERVED_DEFAULT_NAME : name);
    if (found == NULL && name == NULL) {
        found = graph->signature_count == 1 ? &graph->signatures[0] : find(graph, GENERATE_SIGNATURE_NAME);
    }
    if (found == NULL) {
        return refuse_name(graph, name, error);
    }
    *ret_signature = found;
    return STATUS_OK;
}

/* ---- runs ---- */

static enum status check_input(const struct served_end *end, const struct tensor *value, struct error *error)
{
    char wanted[SHAPE_TEXT_BYTES_MAX];
    char given[SHAPE_TEXT_BYTES_MAX];
    if (value == NULL) {
        return end->is_optional ? STATUS_OK
                                : error_set(error, STATUS_INVALID, "the input '%.100s' (%s, shape %s) is missing",
                                            end->name, dtype_name(end->dtype), shape_text(&end->shape, wanted));
    }
    if (value->dtype != end->dtype) {
        return error_set(error, STATUS_INVALID, "the input '%.100s' is %s, but was given as %s", end->name,
                         dtype_name(end->dtype), dtype_name(value->dtype));
    }
    if (!shape_is_compatible(&end->shape, &value->shape)) {
        return error_set(error, STATUS_INVALID, "the input '%.100s' has shape %s, but was given shape %s", end->name,
                         shape_text(&end->shape, wanted), shape_text(&value->shape, given));
    }
    return STATUS_OK;
}

static enum status take_request(struct served_run *run, const struct served_request *request,
                                struct session_request *ret_session, struct error *error)
{
    const struct served_signature *signature = request->signature;
    run->feeds = mem_allocate(signature->input_count + 1, sizeof *run->feeds);
    run->fetches = mem_allocate(request->output_count + 1, sizeof *run->fetches);
    if (run->feeds == NULL || run->fetches == NULL) {
        return no_memory(error);
    }
    struct session_request session = {.feeds = run->feeds, .fetches = run->fetches};
    for (size_t i = 0; i < signature->input_count; i++) {
        TRY(check_input(&signature->inputs[i], request->inputs[i], error));
        if (request->inputs[i] != NULL) {
            run->feeds[session.feed_count++] = (struct feed){signature->inputs[i].output, request->inputs[i]};
        }
    }
    for (size_t i = 0; i < request->output_count; i++) {
        run->fetches[session.fetch_count++] = signature->outputs[request->outputs[i]].output;
    }
    *ret_session = session;
    return STATUS_OK;
}

static enum status check_run(const struct served_run *run, const struct served_request *request, struct error *error)
{
    size_t elements = session_run_fetch_elements(run->run);
    if (session_run_writes(run->run)) {
        error_set(error, STATUS_UNPROCESSABLE,
                  "the signature '%.100s' changes variables, and a version that serves cannot be changed",
                  request->signature->name);
        return error_code(error, "read_only");
    }
    if (elements > request->elements_max) {
        return error_set(error, STATUS_TOO_LARGE, "the outputs have %zu elements, a reply at most %zu", elements,
                         request->elements_max);
    }
    return STATUS_OK;
}

static enum status go(struct served_graph *graph, struct served_run *run, const struct served_request *request,
                      struct error *error)
{
    struct session_request session;
    struct session_run_options options = {.random_key = rng_system(),
                                          .deadline_ms = clock_now_ms() + request->maximum_ms};
    TRY(take_request(run, request, &session, error));
    TRY(session_prepare(graph->session, &session, &run->run, error));
    TRY(check_run(run, request, error));
    enum status status = session_run_go(run->run, &options, run->results, error);
    if (status == STATUS_CANCELLED) {
        error_set(error, STATUS_UNPROCESSABLE, "the run took longer than %g seconds, the maximum",
                  request->maximum_ms / 1e3);
        return error_code(error, "run_too_long");
    }
    return status;
}

enum status served_graph_run(struct served_graph *graph, const struct served_request *request,
                             struct served_run **ret_run, struct error *error)
{
    struct served_run *run = mem_allocate(1, sizeof *run + (request->output_count + 1) * sizeof *run->results);
    if (run == NULL) {
        return no_memory(error);
    }
    enum status status = go(graph, run, request, error);
    if (status != STATUS_OK) {
        served_run_end(run);
        return status;
    }
    *ret_run = run;
    return STATUS_OK;
}

const struct tensor *served_run_output(const struct served_run *run, size_t index)
{
    return &run->results[index];
}

void served_run_end(struct served_run *run)
{
    if (run != NULL) {
        session_run_end(run->run);
        mem_free(run->feeds);
        mem_free(run->fetches);
        mem_free(run);
    }
}

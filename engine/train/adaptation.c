/* Dynamic evaluation by the trainer's own parts: a batch of one row, whose shard's gradients go into an update. */
#include "engine/train/adaptation.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/gradients.h"
#include "engine/train/update.h"

/* Segments of one length. */
struct stride {
    size_t time; /* 0: not made */
    struct shards *shards;
    struct update *update;
};

struct adaptation {
    struct adaptation_options options;
    struct graph *graph;
    struct values *values; /* over those that were given */
    struct train_step step;
    struct trainer_threads *threads; /* the caller alone */
    struct carried_state state;
    struct stride whole;
    struct stride rest; /* the last one that was shorter */
    int32_t *symbols;   /* what comes before the segment, and its own */
    bool has_context;
    struct language_model_options model;
    size_t given_count; /* variables of the graph as it was given; those behind are slots */
};

static const char *const names[] = {"output", "all"};
static_assert(sizeof names / sizeof names[0] == ADAPTATION_WEIGHTS_COUNT, "one name each");

const char *adaptation_weights_name(enum adaptation_weights weights)
{
    return names[weights];
}

bool adaptation_weights_find(const char *name, enum adaptation_weights *ret_weights)
{
    for (int weights = 0; weights < ADAPTATION_WEIGHTS_COUNT; weights++) {
        if (strcmp(names[weights], name) == 0) {
            *ret_weights = (enum adaptation_weights)weights;
            return true;
        }
    }
    return false;
}

struct adaptation_options adaptation_defaults(enum adaptation_weights weights, enum vocabulary_kind kind)
{
    return (struct adaptation_options){.weights = weights,
                                       .learning_rate = weights == ADAPTATION_ALL ? 0.0003 : 0.003,
                                       .segment_symbols = kind == VOCABULARY_WORDS ? 5 : 20};
}

/* ---- the step ---- */

static bool learns(const struct adaptation *adaptation, const struct language_model_options *model,
                   const struct variable *variable)
{
    const char *name = variable->node->name;
    return variable->is_trainable && (adaptation->options.weights == ADAPTATION_ALL || strcmp(name, "softmax/b") == 0 ||
                                      strcmp(name, model->is_tied ? "embedding" : "softmax/w") == 0);
}

/* Chooses the variables, of which it makes copies. */
static enum status choose(struct adaptation *adaptation, const struct language_model_options *model,
                          const struct values *values, struct error *error)
{
    struct train_step *step = &adaptation->step;
    for (size_t i = 0; i < graph_variable_count(adaptation->graph); i++) {
        const struct variable *variable = graph_variable(adaptation->graph, i);
        if (!learns(adaptation, model, variable)) {
            continue;
        }
        if (step->variable_count == TRAIN_STEP_VARIABLES_MAX) {
            return error_set(error, STATUS_LIMIT, "more than %d variables to adapt", TRAIN_STEP_VARIABLES_MAX);
        }
        step->variables[step->variable_count++] = variable;
    }
    TRY(values_create_over(values, adaptation->graph, &adaptation->values, error));
    for (size_t i = 0; i < step->variable_count; i++) {
        const struct tensor *tensor = values_tensor(values, step->variables[i]);
        if (!tensor) {
            return error_set(error, STATUS_UNPROCESSABLE, "%s has no value", step->variables[i]->node->name);
        }
        TRY(values_set(adaptation->values, step->variables[i], tensor, error));
    }
    return STATUS_OK;
}

static enum status add_step(struct adaptation *adaptation, struct error *error)
{
    struct graph *graph = adaptation->graph;
    struct train_step *step = &adaptation->step;
    struct output loss;
    struct output xs[TRAIN_STEP_VARIABLES_MAX];
    struct optimizer_options with = optimizer_defaults(OPTIMIZER_ADAM);
    uint32_t optimizer = 0;
    struct attribute attributes[] = {{.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_FLOAT32},
                                     {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape_scalar()}};
    struct node_options rate = {.name = "learning_rate", .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    for (size_t i = 0; i < step->variable_count; i++) {
        xs[i] = (struct output){step->variables[i]->node, 0};
    }
    TRY(graph_find_output(graph, "train/loss:0", &loss, error));
    TRY(graph_add_node(graph, "Placeholder", &rate, &node, error));
    step->feeds[TRAIN_STEP_LEARNING_RATE] = with.rate = (struct output){node, 0};
    with.has_own_slots = true;
    TRY(graph_gradients(graph, &loss, 1, xs, step->variable_count, step->gradients, error));
    TRY(graph_add(graph, "GlobalNorm", "global_norm", step->gradients, step->variable_count, &step->global_norm,
                  error));
    TRY(optimizer_create(graph, &with, &optimizer, error));
    struct apply_options apply = {
        .gradients = step->gradients, .variables = step->variables, .count = step->variable_count, .name = "step"};
    return optimizer_apply_gradients(graph, optimizer, &apply, &step->apply, error);
}

/* ---- making ---- */

static enum status stride_make(struct stride *stride, struct adaptation *adaptation, size_t time, struct error *error)
{
    struct shards_options shards = {.graph = adaptation->graph,
                                    .values = adaptation->values,
                                    .step = &adaptation->step,
                                    .state = &adaptation->state,
                                    .rows = 1,
                                    .time = time,
                                    .count = 1,
                                    .threads = adaptation->threads};
    TRY(shards_create(&shards, &stride->shards, error));
    TRY(update_create(adaptation->graph, adaptation->values, &adaptation->step, stride->shards, adaptation->threads,
                      &stride->update, error));
    stride->time = time;
    return STATUS_OK;
}

static void stride_release(struct stride *stride)
{
    update_destroy(stride->update);
    shards_destroy(stride->shards);
    *stride = (struct stride){0};
}

static enum status make(struct adaptation *adaptation, const struct graph *graph, const struct values *values,
                        struct error *error)
{
    struct language_model_options model;
    const char *previous = NULL;
    if (!language_model_find(graph, &model)) {
        error_set(error, STATUS_UNPROCESSABLE, "the graph holds no language model to adapt");
        return error_code(error, "no_language_model"), STATUS_UNPROCESSABLE;
    }
    TRY(graph_clone(graph, &adaptation->graph, error));
    adaptation->given_count = graph_variable_count(graph);
    model.has_train_head = true;
    model.has_predict_head = true;
    adaptation->model = model;
    TRY(language_model_build(adaptation->graph, &model, error));
    TRY(graph_enter_name_scope(adaptation->graph, "adaptation", &previous, error));
    enum status status = choose(adaptation, &model, values, error);
    if (status == STATUS_OK) {
        status = add_step(adaptation, error);
    }
    graph_leave_name_scope(adaptation->graph, previous);
    TRY(status);
    TRY(values_grow(adaptation->values, adaptation->graph, error));
    TRY(values_initialize(adaptation->values, adaptation->graph, 0, error));
    TRY(carried_state_init(&adaptation->state, &model, 1, error));
    TRY(trainer_threads_create(1, false, &adaptation->threads, error));
    adaptation->symbols = mem_allocate(adaptation->options.segment_symbols + 1, sizeof *adaptation->symbols);
    if (!adaptation->symbols) {
        return error_set(error, STATUS_NO_MEMORY, "adaptation: no memory");
    }
    return stride_make(&adaptation->whole, adaptation, adaptation->options.segment_symbols, error);
}

enum status adaptation_create(const struct graph *graph, const struct values *values,
                              const struct adaptation_options *options, struct adaptation **ret_adaptation,
                              struct error *error)
{
    CHECK(options->segment_symbols > 0);
    struct adaptation *adaptation = mem_allocate(1, sizeof *adaptation);
    if (!adaptation) {
        return error_set(error, STATUS_NO_MEMORY, "adaptation: no memory");
    }
    adaptation->options = *options;
    enum status status = make(adaptation, graph, values, error);
    if (status != STATUS_OK) {
        adaptation_destroy(adaptation);
        return status;
    }
    *ret_adaptation = adaptation;
    return STATUS_OK;
}

void adaptation_destroy(struct adaptation *adaptation)
{
    if (!adaptation) {
        return;
    }
    stride_release(&adaptation->whole);
    stride_release(&adaptation->rest);
    mem_free(adaptation->symbols);
    trainer_threads_destroy(adaptation->threads);
    carried_state_release(&adaptation->state);
    values_destroy(adaptation->values);
    graph_unref(adaptation->graph);
    mem_free(adaptation);
}

/* ---- reading ---- */

/* Predicts and learns one segment, which lies behind its context. */
static enum status read_segment(struct adaptation *adaptation, size_t time, double *nats, struct error *error)
{
    struct stride *stride = &adaptation->whole;
    if (time < stride->time) {
        stride = &adaptation->rest;
        if (stride->time != time) {
            stride_release(stride);
            TRY(stride_make(stride, adaptation, time, error));
        }
    }
    const struct batches batches = {.symbols = adaptation->symbols, .rows = 1, .row_symbols = time};
    const struct shards_window window = {.batches = &batches, .keep_probability = 1};
    const double numbers[TRAIN_STEP_FEED_COUNT] = {
        [TRAIN_STEP_LEARNING_RATE] = adaptation->options.learning_rate,
    };
    double loss = 0;
    double norm = 0;
    TRY(shards_run(stride->shards, &window, &loss, error));
    if (isfinite(loss)) {
        TRY(update_run(stride->update, numbers, 0, &norm, error));
    }
    if (!isfinite(loss) || !isfinite(norm)) {
        error_set(error, STATUS_UNPROCESSABLE,
                  "adapting: the loss is %g, its gradients' norm %g: a lower learning rate than %g may help", loss,
                  norm, adaptation->options.learning_rate);
        return error_code(error, "not_finite"), STATUS_UNPROCESSABLE;
    }
    *nats += loss * (double)time;
    adaptation->symbols[0] = adaptation->symbols[time];
    return STATUS_OK;
}

enum status adaptation_read(struct adaptation *adaptation, const uint32_t *symbols, size_t count, double *nats,
                            struct error *error)
{
    size_t done = 0;
    if (!adaptation->has_context && count > 0) {
        adaptation->symbols[0] = (int32_t)symbols[done++];
        adaptation->has_context = true;
    }
    while (done < count) {
        size_t left = count - done;
        size_t time = left < adaptation->options.segment_symbols ? left : adaptation->options.segment_symbols;
        memcpy(adaptation->symbols + 1, symbols + done, time * sizeof *symbols); /* ids are below 2^20 */
        TRY(read_segment(adaptation, time, nats, error));
        done += time;
    }
    return STATUS_OK;
}

/* ---- what others see ---- */

void adaptation_go_to(struct adaptation *adaptation, const void *state, uint32_t symbol)
{
    const char *at = state;
    for (size_t i = 0; i < adaptation->state.count; i++) {
        struct tensor *tensor = &adaptation->state.tensors[i];
        size_t bytes = tensor_bytes(tensor);
        memcpy(tensor->data, at, bytes);
        at += (bytes + MEM_ALIGNMENT_BYTES - 1) / MEM_ALIGNMENT_BYTES * MEM_ALIGNMENT_BYTES;
    }
    adaptation->symbols[0] = (int32_t)symbol;
    adaptation->has_context = true;
}

static enum status find_state(const struct adaptation *adaptation, const char *which, size_t index,
                              struct output *ret_output, struct error *error)
{
    char place[RECURRENT_STATE_NAME_BYTES_MAX];
    char name[64];
    snprintf(name, sizeof name, "predict/%s_state/%s:0", which,
             recurrent_state_name(adaptation->model.cell, index, place));
    return graph_find_output(adaptation->graph, name, ret_output, error);
}

enum status adaptation_signature(const struct adaptation *adaptation, struct generate_signature *ret_signature,
                                 struct graph **ret_graph, struct values **ret_values, struct error *error)
{
    struct graph *graph = adaptation->graph;
    if (generate_signature_exists(graph)) {
        error_set(error, STATUS_UNPROCESSABLE,
                  "the graph makes its text by the signature " GENERATE_SIGNATURE_NAME
                  ", only a language_model's own text adapts");
        return error_code(error, "cannot_adapt"), STATUS_UNPROCESSABLE;
    }
    *ret_signature = (struct generate_signature){.symbol_shape = shape_matrix(1, 1),
                                                 .symbol_count = adaptation->model.vocabulary_size,
                                                 .state_count = adaptation->state.count};
    TRY(graph_find_output(graph, "predict/inputs:0", &ret_signature->symbol, error));
    TRY(graph_find_output(graph, "predict/logits:0", &ret_signature->scores, error));
    for (size_t i = 0; i < adaptation->state.count; i++) {
        ret_signature->state_shapes[i] = adaptation->state.tensors[i].shape;
        TRY(find_state(adaptation, "initial", i, &ret_signature->states[i], error));
        TRY(find_state(adaptation, "final", i, &ret_signature->next_states[i], error));
    }
    *ret_graph = graph;
    return values_create_over(adaptation->values, graph, ret_values, error);
}

enum adaptation_weights adaptation_kind(const struct adaptation *adaptation)
{
    return adaptation->options.weights;
}

size_t adaptation_segment_symbols(const struct adaptation *adaptation)
{
    return adaptation->options.segment_symbols;
}

void adaptation_visit(const struct adaptation *adaptation, void (*each)(void *context, struct tensor *tensor),
                      void *context)
{
    for (size_t i = 0; i < adaptation->step.variable_count; i++) {
        each(context, values_tensor(adaptation->values, adaptation->step.variables[i]));
    }
    for (size_t i = adaptation->given_count; i < graph_variable_count(adaptation->graph); i++) {
        each(context, values_tensor(adaptation->values, graph_variable(adaptation->graph, i)));
    }
}

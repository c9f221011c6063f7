/* Optimisers as objects of graphs. Thread: the building one; everything made belongs to the graph.
 * Source: TensorFlow 1.15, training/optimizer.py, adam.py, momentum.py, rmsprop.py, adagrad.py. */
#include "engine/nn/optimizer.h"

#include "engine/base/check.h"
#include "engine/graph/gradients.h"
#include "engine/nn/optimizer_private.h"

/* In requests, in TensorFlow. */
static const struct {
    const char *name;
    const char *op_name;
} kinds[] = {[OPTIMIZER_SGD] = {"sgd", "GradientDescent"},    [OPTIMIZER_ADAM] = {"adam", "Adam"},
             [OPTIMIZER_MOMENTUM] = {"momentum", "Momentum"}, [OPTIMIZER_RMSPROP] = {"rmsprop", "RMSProp"},
             [OPTIMIZER_ADAGRAD] = {"adagrad", "Adagrad"},    [OPTIMIZER_ADAMW] = {"adamw", "AdamW"}};
static_assert(sizeof kinds / sizeof *kinds == OPTIMIZER_KIND_COUNT, "names for each optimiser");

const char *optimizer_name(enum optimizer_kind kind)
{
    CHECK(kind < OPTIMIZER_KIND_COUNT);
    return kinds[kind].name;
}

const char *optimizer_op_name(enum optimizer_kind kind)
{
    CHECK(kind < OPTIMIZER_KIND_COUNT);
    return kinds[kind].op_name;
}

bool optimizer_kind_from_name(const char *name, enum optimizer_kind *ret_kind)
{
    for (int kind = 0; kind < OPTIMIZER_KIND_COUNT; kind++) {
        if (strcmp(kinds[kind].name, name) == 0) {
            *ret_kind = (enum optimizer_kind)kind;
            return true;
        }
    }
    return false;
}

struct optimizer_options optimizer_defaults(enum optimizer_kind kind)
{
    return (struct optimizer_options){.kind = kind,
                                      .learning_rate = 0.001,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .epsilon = kind == OPTIMIZER_RMSPROP ? 1e-10 : 1e-8,
                                      .decay = 0.9,
                                      .initial_accumulator = kind == OPTIMIZER_RMSPROP ? 1 : 0.1};
}

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for an optimiser");
}

enum status optimizer_create(struct graph *graph, const struct optimizer_options *options, uint32_t *ret_optimizer,
                             struct error *error)
{
    const char *name = options->name == NULL ? kinds[options->kind].op_name : options->name;
    struct optimizer optimizer = {.options = *options};
    if (name[0] == '\0') {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Must specify the optimizer name");
    }
    if (options->kind == OPTIMIZER_ADAGRAD && !(options->initial_accumulator > 0)) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "initial_accumulator_value must be positive: %g",
                           options->initial_accumulator);
    }
    optimizer.options.name = arena_copy_string(graph_arena(graph), name);
    if (optimizer.options.name == NULL) {
        return no_memory(error);
    }
    return graph_add_object(graph, OBJECT_OPTIMIZER, &optimizer, sizeof optimizer, ret_optimizer, error);
}

/* ---- compute_gradients ---- */

static enum status check_dtype(struct output output, struct error *error)
{
    if (dtype_is_float(output_type(output)->dtype)) {
        return STATUS_OK;
    }
    char name[OUTPUT_NAME_BYTES_MAX];
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                       "Invalid type tf.%s for %s, expected: [tf.float16, tf.bfloat16, tf.float32, tf.float64].",
                       dtype_name(output_type(output)->dtype), output_name(output, name));
}

/* All of TRAINABLE_VARIABLES, in the arena. */
static enum status list_trainable(struct graph *graph, const struct variable *const **ret_variables, size_t *ret_count,
                                  struct error *error)
{
    size_t item_count = graph_collection_count(graph, COLLECTION_TRAINABLE_VARIABLES);
    const struct variable **variables = arena_allocate(graph_arena(graph), item_count + 1, sizeof *variables);
    size_t count = 0;
    if (variables == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < item_count; i++) {
        const struct handle *handle = graph_collection_at(graph, COLLECTION_TRAINABLE_VARIABLES, i);
        if (handle->kind == HANDLE_VARIABLE) {
            variables[count++] = handle->variable;
        }
    }
    *ret_variables = variables;
    *ret_count = count;
    return STATUS_OK;
}

enum status optimizer_compute_gradients(struct graph *graph, uint32_t optimizer, struct output loss,
                                        const struct variable *const *variables, size_t variable_count,
                                        const struct output **ret_gradients,
                                        const struct variable *const **ret_variables, size_t *ret_count,
                                        struct error *error)
{
    (void)optimizer; /* all compute them alike */
    TRY(check_dtype(loss, error));
    if (variables == NULL) {
        TRY(list_trainable(graph, &variables, &variable_count, error));
    }
    if (variable_count == 0) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "No variables to optimize.");
    }
    const struct variable **kept = arena_allocate(graph_arena(graph), variable_count, sizeof *kept);
    struct output *xs = arena_allocate(graph_arena(graph), variable_count, sizeof *xs);
    struct output *gradients = arena_allocate(graph_arena(graph), variable_count, sizeof *gradients);
    if (kept == NULL || xs == NULL || gradients == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < variable_count; i++) {
        kept[i] = variables[i];
        xs[i] = (struct output){variables[i]->node, 0};
    }
    TRY(graph_gradients(graph, &loss, 1, xs, variable_count, gradients, error));
    for (size_t i = 0; i < variable_count; i++) {
        TRY(gradients[i].node == NULL ? STATUS_OK : check_dtype(xs[i], error));
    }
    *ret_gradients = gradients;
    *ret_variables = kept;
    *ret_count = variable_count;
    return STATUS_OK;
}

/* ---- minimize ---- */

static bool has_gradient(const struct output *gradients, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (gradients[i].node != NULL) {
            return true;
        }
    }
    return false;
}

enum status optimizer_refuse_gradients(const struct variable *const *variables, size_t count, struct output loss,
                                       struct error *error)
{
    char list[ERROR_MESSAGE_BYTES_MAX / 2] = "";
    char loss_text[OUTPUT_TEXT_BYTES_MAX] = "";
    size_t length = 0;
    for (size_t i = 0; i < count && length < sizeof list; i++) {
        char text[REPR_BYTES_MAX];
        length += (size_t)snprintf(list + length, sizeof list - length, "%s\"%s\"", i == 0 ? "" : ", ",
                                   variable_repr(variables[i], text));
    }
    if (loss.node != NULL) {
        return error_raise(
            error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
            "No gradients provided for any variable, check your graph for ops that do not support gradients, "
            "between variables [%s] and loss %s.",
            list, output_text(loss, loss_text));
    }
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "No gradients provided for any variable: [%s].",
                       list);
}

enum status optimizer_minimize(struct graph *graph, uint32_t optimizer, const struct minimize_options *options,
                               struct node **ret_operation, struct error *error)
{
    struct apply_options apply = {.global_step = options->global_step, .name = options->name};
    TRY(optimizer_compute_gradients(graph, optimizer, options->loss, options->variables, options->variable_count,
                                    &apply.gradients, &apply.variables, &apply.count, error));
    if (!has_gradient(apply.gradients, apply.count)) {
        return optimizer_refuse_gradients(apply.variables, apply.count, options->loss, error);
    }
    return optimizer_apply_gradients(graph, optimizer, &apply, ret_operation, error);
}

const struct variable *optimizer_slot(const struct graph *graph, uint32_t optimizer, const struct variable *variable,
                                      const char *slot)
{
    const struct optimizer *object = graph_object(graph, OBJECT_OPTIMIZER, optimizer);
    for (size_t i = 0; i < object->slot_count; i++) {
        if (object->slots[i].variable == variable && strcmp(object->slots[i].name, slot) == 0) {
            return object->slots[i].slot;
        }
    }
    return NULL;
}

/* The training step over a loss. Thread: the building one. Each gradient passes through a node of a fixed name,
 * train/gradients/<variable>: there shards fetch theirs, and there the sum is fed. */
#include "engine/nn/train_step.h"

#include "engine/base/check.h"
#include "engine/graph/gradients.h"

static enum status collect_trainable(const struct graph *graph, struct train_step *step, struct error *error)
{
    step->variable_count = 0;
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        if (!variable->is_trainable) {
            continue;
        }
        if (step->variable_count == TRAIN_STEP_VARIABLES_MAX) {
            return error_set(error, STATUS_LIMIT, "more than %d trainable variables", TRAIN_STEP_VARIABLES_MAX);
        }
        step->variables[step->variable_count++] = variable;
    }
    if (step->variable_count == 0) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "No variables to optimize.");
    }
    return STATUS_OK;
}

static enum status named_output(const struct graph *graph, const char *name, struct output *ret_output,
                                struct error *error)
{
    return graph_find_output(graph, name, ret_output, error);
}

static void gradient_name(const struct variable *variable, char *name)
{
    snprintf(name, GRAPH_NAME_BYTES_MAX * 2, "train/gradients/%s", variable->node->name);
}

/* Fills `step` from the nodes of an earlier build. */
static enum status find_parts(const struct graph *graph, struct train_step *step, struct error *error)
{
    for (size_t i = 0; i < step->variable_count; i++) {
        char name[GRAPH_NAME_BYTES_MAX * 2];
        gradient_name(step->variables[i], name);
        struct node *node = graph_find_node(graph, name);
        if (node == NULL) {
            return error_set(error, STATUS_CONFLICT,
                             "variable %s was added after the optimiser was built: reset the graph",
                             step->variables[i]->node->name);
        }
        step->gradients[i] = (struct output){node, 0};
    }
    TRY(named_output(graph, "train/learning_rate:0", &step->learning_rate, error));
    TRY(named_output(graph, "train/clip_norm:0", &step->clip_norm, error));
    return named_output(graph, "train/global_norm:0", &step->global_norm, error);
}

static enum status add_scalar_placeholder(struct graph *graph, const char *name, struct error *error)
{
    struct attribute attributes[] = {{.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_FLOAT32},
                                     {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape_scalar()}};
    struct node_options add = {.name = name, .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    return graph_add_node(graph, "Placeholder", &add, &node, error);
}

/* Gradients, their norm, and the placeholders: what every optimiser stands on. Built once a graph. */
static enum status add_gradients(struct graph *graph, struct output loss, struct train_step *step, struct error *error)
{
    struct output xs[TRAIN_STEP_VARIABLES_MAX];
    struct output gradients[TRAIN_STEP_VARIABLES_MAX];
    for (size_t i = 0; i < step->variable_count; i++) {
        xs[i] = (struct output){step->variables[i]->node, 0};
    }
    TRY(graph_gradients(graph, &loss, 1, xs, step->variable_count, gradients, error));
    for (size_t i = 0; i < step->variable_count; i++) {
        char name[GRAPH_NAME_BYTES_MAX * 2 + 1];
        if (gradients[i].node == NULL) {
            struct output zeros;
            TRY(graph_add(graph, "FillLike", "zeros_like", &xs[i], 1, &zeros, error));
            gradients[i] = zeros;
        }
        gradient_name(step->variables[i], name);
        memcpy(name + strlen(name), "/", 2);
        TRY(graph_add(graph, "Identity", name, &gradients[i], 1, &step->gradients[i], error));
    }
    TRY(add_scalar_placeholder(graph, "train/learning_rate/", error));
    TRY(add_scalar_placeholder(graph, "train/clip_norm/", error));
    struct output ignored;
    return graph_add(graph, "GlobalNorm", "train/global_norm/", step->gradients, step->variable_count, &ignored, error);
}

/* min(1, clip_norm / global_norm) */
static enum status add_clip_scale(struct graph *graph, const struct train_step *step, struct output *ret_scale,
                                  struct error *error)
{
    struct output one;
    struct output ratio;
    TRY(graph_add_scalar(graph, "one", 1, &one, error));
    struct output division[] = {step->clip_norm, step->global_norm};
    TRY(graph_add(graph, "RealDiv", "clip_ratio", division, 2, &ratio, error));
    struct output pair[] = {one, ratio};
    return graph_add(graph, "Minimum", "clip_scale", pair, 2, ret_scale, error);
}

/* The optimiser on the clipped gradients, with slots of its own. In the root name scope; its operation is
 * train/Adam. */
static enum status add_optimizer(struct graph *graph, const struct train_step *step, enum optimizer_kind kind,
                                 const char *name, struct node **ret_apply, struct error *error)
{
    struct optimizer_options options = optimizer_defaults(kind);
    struct output gradients[TRAIN_STEP_VARIABLES_MAX];
    struct output scale;
    const char *previous = NULL;
    uint32_t optimizer = 0;
    options.rate = step->learning_rate;
    options.momentum = kind == OPTIMIZER_MOMENTUM ? 0.9 : options.momentum;
    options.has_own_slots = true;
    TRY(graph_enter_name_scope(graph, "train/", &previous, error));
    TRY(add_clip_scale(graph, step, &scale, error));
    for (size_t i = 0; i < step->variable_count; i++) {
        struct output scaling[] = {step->gradients[i], scale};
        TRY(graph_add(graph, "Mul", "clipped", scaling, 2, &gradients[i], error));
    }
    graph_leave_name_scope(graph, previous);
    TRY(optimizer_create(graph, &options, &optimizer, error));
    struct apply_options apply = {
        .gradients = gradients, .variables = step->variables, .count = step->variable_count, .name = name};
    return optimizer_apply_gradients(graph, optimizer, &apply, ret_apply, error);
}

static enum status add_step(struct graph *graph, struct output loss, enum optimizer_kind kind, const char *name,
                            struct train_step *step, struct error *error)
{
    if (graph_find_node(graph, "train/global_norm") == NULL) {
        TRY(add_gradients(graph, loss, step, error));
    }
    TRY(find_parts(graph, step, error));
    return add_optimizer(graph, step, kind, name, &step->apply, error);
}

enum status train_step_build(struct graph *graph, struct output loss, enum optimizer_kind kind,
                             struct train_step *ret_step, struct error *error)
{
    struct train_step step = {0};
    TRY(collect_trainable(graph, &step, error));
    char name[64];
    char scope[64];
    snprintf(name, sizeof name, "train/%s", optimizer_op_name(kind));
    snprintf(scope, sizeof scope, "train/%s/", optimizer_op_name(kind));
    step.apply = graph_find_node(graph, name);
    if (step.apply != NULL) {
        TRY(find_parts(graph, &step, error));
    } else {
        const char *previous = NULL;
        TRY(graph_enter_name_scope(graph, NULL, &previous, error));
        enum status status = add_step(graph, loss, kind, scope, &step, error);
        graph_leave_name_scope(graph, previous);
        TRY(status);
    }
    *ret_step = step;
    return STATUS_OK;
}

/* The training step over a loss. Thread: the building one. Each gradient passes through a node of a fixed name,
 * train/gradients/<variable>: there shards fetch theirs, and there the sum is fed. */
#include "engine/nn/optimizer.h"

#include "engine/base/check.h"
#include "engine/graph/gradients.h"
#include "engine/graph/variable.h"

static const char *const names[] = {[OPTIMIZER_SGD] = "sgd", [OPTIMIZER_ADAM] = "adam"};
static_assert(sizeof names / sizeof *names == OPTIMIZER_KIND_COUNT, "one name for each optimiser");
static const char *const apply_names[] = {[OPTIMIZER_SGD] = "GradientDescent", [OPTIMIZER_ADAM] = "Adam"};

static const double adam_beta1 = 0.9;
static const double adam_beta2 = 0.999;
static const double adam_epsilon = 1e-8;

const char *optimizer_name(enum optimizer_kind kind)
{
    CHECK(kind < OPTIMIZER_KIND_COUNT);
    return names[kind];
}

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
        error_set(error, STATUS_UNPROCESSABLE, "No variables to optimize.");
        if (error != NULL) {
            snprintf(error->type, sizeof error->type, "ValueError");
        }
        return STATUS_UNPROCESSABLE;
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

static enum status get_slot(struct graph *graph, const char *base, const char *suffix, struct shape shape,
                            double initial, const struct variable **ret_variable, struct error *error)
{
    char name[GRAPH_NAME_BYTES_MAX * 2];
    snprintf(name, sizeof name, "%s%s", base, suffix);
    struct variable_options options = {.name = name,
                                       .has_shape = true,
                                       .shape = shape,
                                       .dtype = DTYPE_FLOAT32,
                                       .trainable = TRAINABLE_NO,
                                       .is_slot = true,
                                       .initializer = {.kind = INITIALIZER_CONSTANT, .low = initial}};
    return get_variable(graph, &options, ret_variable, NULL, error);
}

static enum status add_update(struct graph *graph, const char *op, const struct output *inputs, size_t input_count,
                              struct node **ret_node, struct error *error)
{
    struct attribute attributes[] = {{.name = "beta1", .kind = ATTRIBUTE_NUMBER, .number = adam_beta1},
                                     {.name = "beta2", .kind = ATTRIBUTE_NUMBER, .number = adam_beta2},
                                     {.name = "epsilon", .kind = ATTRIBUTE_NUMBER, .number = adam_epsilon}};
    bool is_adam = strcmp(op, "ApplyAdam") == 0;
    struct node_options add = {
        .inputs = inputs, .input_count = input_count, .attributes = attributes, .attribute_count = is_adam ? 3 : 0};
    return graph_add_node(graph, op, &add, ret_node, error);
}

/* beta_power *= beta, after every update has read it. */
static enum status add_power_update(struct graph *graph, const struct variable *power, double beta,
                                    struct node *const *updates, size_t update_count, struct node **ret_node,
                                    struct error *error)
{
    struct output factor;
    struct output product;
    TRY(graph_add_scalar(graph, "beta", (float)beta, &factor, error));
    struct output factors[] = {power->read, factor};
    TRY(graph_add(graph, "Mul", NULL, factors, 2, &product, error));
    struct output inputs[] = {{power->node, 0}, product};
    struct node_options add = {.inputs = inputs, .input_count = 2, .controls = updates, .control_count = update_count};
    return graph_add_node(graph, "Assign", &add, ret_node, error);
}

/* Adds one update for each variable, and what must follow them all; returns those nodes. */
static enum status add_updates(struct graph *graph, const struct train_step *step, enum optimizer_kind kind,
                               struct output scale, struct node **nodes, size_t *ret_count, struct error *error)
{
    const struct variable *powers[2] = {NULL, NULL};
    if (kind == OPTIMIZER_ADAM) {
        TRY(get_slot(graph, "beta1_power", "", shape_scalar(), adam_beta1, &powers[0], error));
        TRY(get_slot(graph, "beta2_power", "", shape_scalar(), adam_beta2, &powers[1], error));
    }
    for (size_t i = 0; i < step->variable_count; i++) {
        const struct variable *variable = step->variables[i];
        struct output scaling[] = {step->gradients[i], scale};
        struct output gradient;
        TRY(graph_add(graph, "Mul", "clipped", scaling, 2, &gradient, error));
        if (kind == OPTIMIZER_SGD) {
            struct output inputs[] = {{variable->node, 0}, step->learning_rate, gradient};
            TRY(add_update(graph, "ApplyGradientDescent", inputs, 3, &nodes[i], error));
            continue;
        }
        CHECK(powers[0] != NULL && powers[1] != NULL);
        const struct variable *m = NULL;
        const struct variable *v = NULL;
        TRY(get_slot(graph, variable->node->name, "/Adam", variable->node->outputs[0].shape, 0, &m, error));
        TRY(get_slot(graph, variable->node->name, "/Adam_1", variable->node->outputs[0].shape, 0, &v, error));
        struct output inputs[] = {{variable->node, 0}, {m->node, 0},        {v->node, 0}, powers[0]->read,
                                  powers[1]->read,     step->learning_rate, gradient};
        TRY(add_update(graph, "ApplyAdam", inputs, 7, &nodes[i], error));
    }
    size_t count = step->variable_count;
    if (kind == OPTIMIZER_ADAM) {
        TRY(add_power_update(graph, powers[0], adam_beta1, nodes, step->variable_count, &nodes[count], error));
        TRY(add_power_update(graph, powers[1], adam_beta2, nodes, step->variable_count, &nodes[count + 1], error));
        count += 2;
    }
    *ret_count = count;
    return STATUS_OK;
}

static enum status add_optimizer(struct graph *graph, struct output loss, enum optimizer_kind kind,
                                 const char *apply_name, struct train_step *step, struct error *error)
{
    if (graph_find_node(graph, "train/global_norm") == NULL) {
        TRY(add_gradients(graph, loss, step, error));
    }
    TRY(find_parts(graph, step, error));
    const char *previous = NULL;
    TRY(graph_enter_name_scope(graph, "train/", &previous, error));
    struct node *nodes[TRAIN_STEP_VARIABLES_MAX + 2];
    size_t count = 0;
    struct output scale;
    enum status status = add_clip_scale(graph, step, &scale, error);
    if (status == STATUS_OK) {
        status = add_updates(graph, step, kind, scale, nodes, &count, error);
    }
    graph_leave_name_scope(graph, previous);
    TRY(status);
    char name[80];
    snprintf(name, sizeof name, "%.64s/", apply_name);
    struct node_options add = {.name = name, .controls = nodes, .control_count = count};
    return graph_add_node(graph, "NoOp", &add, &step->apply, error);
}

enum status train_step_build(struct graph *graph, struct output loss, enum optimizer_kind kind,
                             struct train_step *ret_step, struct error *error)
{
    struct train_step step = {0};
    TRY(collect_trainable(graph, &step, error));
    char name[64];
    snprintf(name, sizeof name, "train/%s", apply_names[kind]);
    step.apply = graph_find_node(graph, name);
    if (step.apply != NULL) {
        TRY(find_parts(graph, &step, error));
    } else {
        struct variable_scope_frame frame;
        TRY(variable_scope_reopen(graph, REUSE_AUTO, &frame, error));
        enum status status = add_optimizer(graph, loss, kind, name, &step, error);
        variable_scope_leave(graph, &frame);
        TRY(status);
    }
    *ret_step = step;
    return STATUS_OK;
}

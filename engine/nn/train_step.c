/* The training step over a loss. Thread: the building one. Each gradient passes through a node of a fixed name,
 * train/gradients/<variable>: there shards fetch theirs, and there the sum is fed. What a step is of is recorded on a
 * node of its own, train/step, train/step_1, …, after which the step's operation stands as control. */
#include "engine/nn/train_step.h"

#include "engine/base/check.h"
#include "engine/graph/function.h"
#include "engine/graph/gradients.h"

/* ---- the options as fields ---- */

#define AT(member) offsetof(struct train_step_options, member)

static const struct {
    const char *name;
    size_t offset;
    bool is_flag;
} FIELDS[] = {
    {"beta1", AT(optimizer.beta1), false},
    {"beta2", AT(optimizer.beta2), false},
    {"epsilon", AT(optimizer.epsilon), false},
    {"momentum", AT(optimizer.momentum), false},
    {"decay", AT(optimizer.decay), false},
    {"initial_accumulator_value", AT(optimizer.initial_accumulator), false},
    {"use_nesterov", AT(optimizer.uses_nesterov), true},
    {"centered", AT(optimizer.is_centered), true},
    {"clips_values", AT(clips_values), true},
    {"decays_weights", AT(decays_weights), true},
    {"adds_noise", AT(adds_noise), true},
};
enum { FIELD_COUNT = sizeof FIELDS / sizeof *FIELDS };

static const char *const FEED_NAMES[] = {"learning_rate", "clip_norm", "clip_value", "weight_decay", "noise"};
static_assert(sizeof FEED_NAMES / sizeof *FEED_NAMES == TRAIN_STEP_FEED_COUNT, "a name for each feed");

const char *train_step_field(size_t index, bool *ret_is_flag)
{
    if (index >= FIELD_COUNT) {
        return NULL;
    }
    *ret_is_flag = FIELDS[index].is_flag;
    return FIELDS[index].name;
}

double train_step_get(const struct train_step_options *options, size_t field)
{
    const char *place = (const char *)options + FIELDS[field].offset;
    bool flag;
    double number;
    if (FIELDS[field].is_flag) {
        memcpy(&flag, place, sizeof flag);
        return flag ? 1 : 0;
    }
    memcpy(&number, place, sizeof number);
    return number;
}

void train_step_set(struct train_step_options *options, size_t field, double value)
{
    char *place = (char *)options + FIELDS[field].offset;
    bool flag = value > 0;
    if (FIELDS[field].is_flag) {
        memcpy(place, &flag, sizeof flag);
    } else {
        memcpy(place, &value, sizeof value);
    }
}

struct train_step_options train_step_defaults(enum optimizer_kind kind)
{
    struct train_step_options options = {.optimizer = optimizer_defaults(kind),
                                         .decays_weights = kind == OPTIMIZER_ADAMW};
    options.optimizer.momentum = kind == OPTIMIZER_MOMENTUM ? 0.9 : options.optimizer.momentum;
    return options;
}

static bool uses(const struct train_step_options *options, enum train_step_feed feed)
{
    return (feed != TRAIN_STEP_CLIP_VALUE || options->clips_values) &&
           (feed != TRAIN_STEP_WEIGHT_DECAY || options->decays_weights) &&
           (feed != TRAIN_STEP_NOISE || options->adds_noise);
}

/* ---- the record ---- */

static void record_name(size_t index, char name[64])
{
    snprintf(name, 64, index == 0 ? "train/step" : "train/step_%zu", index);
}

static enum status add_record(struct graph *graph, struct output loss, const struct train_step_options *options,
                              struct node *apply, struct error *error)
{
    enum { EXTRA = 2 };
    struct attribute attributes[FIELD_COUNT + EXTRA] = {
        {.name = "optimizer", .kind = ATTRIBUTE_INTEGER, .integer = options->optimizer.kind},
        {.name = "loss", .kind = ATTRIBUTE_TEXT, .text = loss.node->name}};
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        attributes[EXTRA + i] =
            (struct attribute){.name = FIELDS[i].name, .kind = ATTRIBUTE_NUMBER, .number = train_step_get(options, i)};
    }
    char name[64];
    size_t index = 0;
    do {
        record_name(index++, name);
    } while (graph_find_node(graph, name) != NULL);
    memcpy(name + strlen(name), "/", 2);
    struct node_options add = {.name = name,
                               .controls = &apply,
                               .control_count = 1,
                               .attributes = attributes,
                               .attribute_count = sizeof attributes / sizeof *attributes};
    struct node *node = NULL;
    return graph_add_node(graph, "NoOp", &add, &node, error);
}

static bool is_record_of(const struct node *record, struct output loss, const struct train_step_options *options)
{
    bool is_same = node_attribute_integer(record, "optimizer", -1) == options->optimizer.kind &&
                   strcmp(node_attribute(record, "loss")->text, loss.node->name) == 0;
    for (size_t i = 0; i < FIELD_COUNT && is_same; i++) {
        double recorded = node_attribute_number(record, FIELDS[i].name, 0);
        is_same = !(recorded < train_step_get(options, i) || recorded > train_step_get(options, i));
    }
    return is_same;
}

/* The operation of a step that was built before, or NULL. */
static struct node *find_step(const struct graph *graph, struct output loss, const struct train_step_options *options)
{
    char name[64];
    const struct node *record = NULL;
    size_t index = 0;
    record_name(index++, name);
    while ((record = graph_find_node(graph, name)) != NULL) {
        if (is_record_of(record, loss, options)) {
            return record->controls[0];
        }
        record_name(index++, name);
    }
    return NULL;
}

/* ---- what every step over a loss stands on ---- */

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

/* Where a loss's gradients and their norm stand. */
static const char *stem_of(struct output loss)
{
    return strcmp(loss.node->name, "train/loss") == 0 ? "train" : loss.node->name;
}

enum { NAME_BYTES = GRAPH_NAME_BYTES_MAX * 2 + 32 };

static void gradient_name(struct output loss, const struct variable *variable, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%s/gradients/%s", stem_of(loss), variable->node->name);
}

static void norm_name(struct output loss, const char *end, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%s/global_norm%s", stem_of(loss), end);
}

/* Fills `step` from the nodes of this or an earlier build. */
static enum status find_parts(const struct graph *graph, struct output loss, const struct train_step_options *options,
                              struct train_step *step, struct error *error)
{
    char name[NAME_BYTES];
    for (size_t i = 0; i < step->variable_count; i++) {
        gradient_name(loss, step->variables[i], name);
        struct node *node = graph_find_node(graph, name);
        if (node == NULL) {
            return error_set(error, STATUS_CONFLICT,
                             "variable %s was added after the optimiser was built: reset the graph",
                             step->variables[i]->node->name);
        }
        step->gradients[i] = (struct output){node, 0};
    }
    for (int feed = 0; feed < TRAIN_STEP_FEED_COUNT; feed++) {
        if (uses(options, (enum train_step_feed)feed)) {
            snprintf(name, sizeof name, "train/%s:0", FEED_NAMES[feed]);
            TRY(graph_find_output(graph, name, &step->feeds[feed], error));
        }
    }
    norm_name(loss, ":0", name);
    return graph_find_output(graph, name, &step->global_norm, error);
}

/* The scalars that the step uses, where they are missing. */
static enum status add_feeds(struct graph *graph, const struct train_step_options *options, struct error *error)
{
    for (int feed = 0; feed < TRAIN_STEP_FEED_COUNT; feed++) {
        char name[64];
        snprintf(name, sizeof name, "train/%s", FEED_NAMES[feed]);
        if (!uses(options, (enum train_step_feed)feed) || graph_find_node(graph, name) != NULL) {
            continue;
        }
        struct attribute attributes[] = {{.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_FLOAT32},
                                         {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape_scalar()}};
        memcpy(name + strlen(name), "/", 2);
        struct node_options add = {.name = name, .attributes = attributes, .attribute_count = 2};
        struct node *node = NULL;
        TRY(graph_add_node(graph, "Placeholder", &add, &node, error));
    }
    return STATUS_OK;
}

/* Gradients and their norm: built once a loss. */
static enum status add_gradients(struct graph *graph, struct output loss, const struct train_step *step,
                                 struct error *error)
{
    struct output xs[TRAIN_STEP_VARIABLES_MAX];
    struct output gradients[TRAIN_STEP_VARIABLES_MAX];
    struct output named[TRAIN_STEP_VARIABLES_MAX];
    char name[NAME_BYTES];
    for (size_t i = 0; i < step->variable_count; i++) {
        xs[i] = (struct output){step->variables[i]->node, 0};
    }
    TRY(graph_gradients(graph, &loss, 1, xs, step->variable_count, gradients, error));
    for (size_t i = 0; i < step->variable_count; i++) {
        if (gradients[i].node == NULL) {
            struct output zeros;
            TRY(graph_add(graph, "FillLike", "zeros_like", &xs[i], 1, &zeros, error));
            gradients[i] = zeros;
        }
        gradient_name(loss, step->variables[i], name);
        memcpy(name + strlen(name), "/", 2);
        TRY(graph_add(graph, "Identity", name, &gradients[i], 1, &named[i], error));
    }
    norm_name(loss, "/", name);
    struct output ignored;
    return graph_add(graph, "GlobalNorm", name, named, step->variable_count, &ignored, error);
}

/* ---- what a step does to its gradients ---- */

/* min(1, clip_norm / global_norm) */
static enum status add_clip_scale(struct graph *graph, const struct train_step *step, struct output *ret_scale,
                                  struct error *error)
{
    struct output one;
    struct output ratio;
    TRY(graph_add_scalar(graph, "one", 1, &one, error));
    struct output division[] = {step->feeds[TRAIN_STEP_CLIP_NORM], step->global_norm};
    TRY(graph_add(graph, "RealDiv", "clip_ratio", division, 2, &ratio, error));
    struct output pair[] = {one, ratio};
    return graph_add(graph, "Minimum", "clip_scale", pair, 2, ret_scale, error);
}

/* To at most clip_value and at least −clip_value. */
static enum status add_value_clipping(struct graph *graph, const struct train_step *step, struct output *gradient,
                                      struct error *error)
{
    struct output most = step->feeds[TRAIN_STEP_CLIP_VALUE];
    struct output least;
    struct output low;
    TRY(graph_add(graph, "Neg", "clip_least", &most, 1, &least, error));
    struct output upper[] = {*gradient, most};
    TRY(graph_add(graph, "Minimum", "clipped_above", upper, 2, &low, error));
    struct output lower[] = {low, least};
    return graph_add(graph, "Maximum", "clipped_below", lower, 2, gradient, error);
}

/* gradient += factor · x */
static enum status add_scaled(struct graph *graph, const char *name, struct output factor, struct output x,
                              struct output *gradient, struct error *error)
{
    struct output product;
    struct output factors[] = {x, factor};
    TRY(graph_add(graph, "Mul", name, factors, 2, &product, error));
    struct output terms[] = {*gradient, product};
    return graph_add(graph, "Add", name, terms, 2, gradient, error);
}

/* Random numbers by the variable's name and the run's key. */
static enum status add_noise(struct graph *graph, const struct train_step *step, size_t index, struct output *gradient,
                             struct error *error)
{
    const struct output_type *type = &step->variables[index]->node->outputs[0];
    struct output shape;
    struct attribute dtype = {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = type->dtype};
    TRY(graph_add_integers(graph, "noise_shape", type->shape.dimensions, (size_t)type->shape.rank, &shape, error));
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "noise/%s", step->variables[index]->node->name);
    struct node_options random = {
        .name = name, .inputs = &shape, .input_count = 1, .attributes = &dtype, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "RandomStandardNormal", &random, &node, error));
    return add_scaled(graph, "noisy", step->feeds[TRAIN_STEP_NOISE], (struct output){node, 0}, gradient, error);
}

static enum status add_changes(struct graph *graph, const struct train_step_options *options,
                               const struct train_step *step, struct output *ret_gradients, struct error *error)
{
    bool adds_decay = options->decays_weights && options->optimizer.kind != OPTIMIZER_ADAMW;
    struct output scale;
    TRY(add_clip_scale(graph, step, &scale, error));
    for (size_t i = 0; i < step->variable_count; i++) {
        struct output scaling[] = {step->gradients[i], scale};
        struct output *gradient = &ret_gradients[i];
        TRY(graph_add(graph, "Mul", "clipped", scaling, 2, gradient, error));
        TRY(options->clips_values ? add_value_clipping(graph, step, gradient, error) : STATUS_OK);
        TRY(options->adds_noise ? add_noise(graph, step, i, gradient, error) : STATUS_OK);
        TRY(adds_decay ? add_scaled(graph, "decayed", step->feeds[TRAIN_STEP_WEIGHT_DECAY], step->variables[i]->read,
                                    gradient, error)
                       : STATUS_OK);
    }
    return STATUS_OK;
}

/* var −= rate · weight_decay · var, before the optimiser. */
static enum status add_decoupled_decay(struct graph *graph, const struct train_step *step, struct node **ret_nodes,
                                       struct error *error)
{
    struct output rate[] = {step->feeds[TRAIN_STEP_LEARNING_RATE], step->feeds[TRAIN_STEP_WEIGHT_DECAY]};
    struct output share;
    TRY(graph_add(graph, "Mul", "decay_share", rate, 2, &share, error));
    for (size_t i = 0; i < step->variable_count; i++) {
        struct output factors[] = {step->variables[i]->read, share};
        struct output inputs[] = {{step->variables[i]->node, 0}, {NULL, 0}};
        struct node_options assign = {.name = "decay", .inputs = inputs, .input_count = 2};
        TRY(graph_add(graph, "Mul", "decay_of", factors, 2, &inputs[1], error));
        TRY(graph_add_node(graph, "AssignSub", &assign, &ret_nodes[i], error));
    }
    return STATUS_OK;
}

/* ---- building ---- */

/* The optimiser, with slots of its own. In the root name scope; its operation is train/Adam. */
static enum status add_optimizer(struct graph *graph, const struct train_step_options *options,
                                 const struct train_step *step, struct node **ret_apply, struct error *error)
{
    struct optimizer_options with = options->optimizer;
    struct output gradients[TRAIN_STEP_VARIABLES_MAX];
    struct node *decays[TRAIN_STEP_VARIABLES_MAX];
    bool decays_first = with.kind == OPTIMIZER_ADAMW;
    const char *previous = NULL;
    const struct control_list *controls = NULL;
    uint32_t optimizer = 0;
    char name[64];
    with.rate = step->feeds[TRAIN_STEP_LEARNING_RATE];
    with.has_own_slots = true;
    TRY(graph_enter_name_scope(graph, "train/", &previous, error));
    enum status status = add_changes(graph, options, step, gradients, error);
    if (status == STATUS_OK && decays_first) {
        status = add_decoupled_decay(graph, step, decays, error);
    }
    graph_leave_name_scope(graph, previous);
    TRY(status);
    TRY(optimizer_create(graph, &with, &optimizer, error));
    snprintf(name, sizeof name, "train/%s", optimizer_op_name(with.kind));
    struct apply_options apply = {
        .gradients = gradients, .variables = step->variables, .count = step->variable_count, .name = name};
    if (!decays_first) {
        return optimizer_apply_gradients(graph, optimizer, &apply, ret_apply, error);
    }
    TRY(graph_enter_controls(graph, decays, step->variable_count, &controls, error));
    status = optimizer_apply_gradients(graph, optimizer, &apply, ret_apply, error);
    graph_leave_controls(graph, controls);
    return status;
}

static enum status add_step(struct graph *graph, struct output loss, const struct train_step_options *options,
                            struct train_step *step, struct error *error)
{
    char name[NAME_BYTES];
    norm_name(loss, "", name);
    TRY(add_feeds(graph, options, error));
    if (graph_find_node(graph, name) == NULL) {
        TRY(add_gradients(graph, loss, step, error));
    }
    TRY(find_parts(graph, loss, options, step, error));
    TRY(add_optimizer(graph, options, step, &step->apply, error));
    return add_record(graph, loss, options, step->apply, error);
}

enum status train_step_build(struct graph *graph, struct output loss, const struct train_step_options *options,
                             struct train_step *ret_step, struct error *error)
{
    CHECK(options->decays_weights || options->optimizer.kind != OPTIMIZER_ADAMW);
    struct train_step step = {0};
    TRY(collect_trainable(graph, &step, error));
    step.apply = find_step(graph, loss, options);
    if (step.apply != NULL) {
        TRY(find_parts(graph, loss, options, &step, error));
    } else {
        const char *previous = NULL;
        TRY(graph_enter_name_scope(graph, NULL, &previous, error));
        enum status status = add_step(graph, loss, options, &step, error);
        graph_leave_name_scope(graph, previous);
        TRY(status);
    }
    *ret_step = step;
    return STATUS_OK;
}

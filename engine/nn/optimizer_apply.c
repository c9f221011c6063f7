/* apply_gradients: slots, one update for each variable, and what ends the step. Thread: the building one.
 * Source: TensorFlow 1.15, training/optimizer.py (apply_gradients), slot_creator.py. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/function.h"
#include "engine/nn/optimizer_private.h"

enum { SLOTS_MAX = 3, HYPERS_MAX = 4, UPDATE_INPUTS_MAX = 10 };

/* A slot's name and how it begins. */
struct slot_rule {
    const char *name;
    enum initializer_kind initializer;
};

/* What an optimiser's update takes: the slots in the order they are made and are inputs, and the numbers. */
struct update_rule {
    const char *op;
    struct slot_rule slots[SLOTS_MAX]; /* as they are made */
    const char *hypers[HYPERS_MAX];    /* as they are made, after learning_rate */
    const char
        *inputs; /* one letter each: v variable; 0 … 2 slot; 1st and 2nd power p q; r rate; a … hyper; g gradient */
};

static const struct update_rule sgd = {.op = "ApplyGradientDescent", .inputs = "vrg"};
static const struct update_rule momentum = {
    .op = "ApplyMomentum", .slots = {{"momentum", INITIALIZER_ZEROS}}, .hypers = {"momentum"}, .inputs = "v0rga"};
static const struct update_rule adam = {.op = "ApplyAdam",
                                        .slots = {{"m", INITIALIZER_ZEROS}, {"v", INITIALIZER_ZEROS}},
                                        .hypers = {"beta1", "beta2", "epsilon"},
                                        .inputs = "v01pqrabcg"};
static const struct update_rule rmsprop = {.op = "ApplyRMSProp",
                                           .slots = {{"rms", INITIALIZER_ONES}, {"momentum", INITIALIZER_ZEROS}},
                                           .hypers = {"decay", "momentum", "epsilon"},
                                           .inputs = "v01rabcg"};
static const struct update_rule centered_rmsprop = {
    .op = "ApplyCenteredRMSProp",
    .slots = {{"rms", INITIALIZER_ONES}, {"mg", INITIALIZER_ZEROS}, {"momentum", INITIALIZER_ZEROS}},
    .hypers = {"decay", "momentum", "epsilon"},
    .inputs = "v102rabcg"};
static const struct update_rule adagrad = {
    .op = "ApplyAdagrad", .slots = {{"accumulator", INITIALIZER_CONSTANT}}, .inputs = "v0rg"};

static const struct update_rule *rule_of(const struct optimizer_options *options)
{
    switch (options->kind) {
    case OPTIMIZER_SGD: return &sgd;
    case OPTIMIZER_ADAM:
    case OPTIMIZER_ADAMW: return &adam;
    case OPTIMIZER_MOMENTUM: return &momentum;
    case OPTIMIZER_RMSPROP: return options->is_centered ? &centered_rmsprop : &rmsprop;
    case OPTIMIZER_ADAGRAD: return &adagrad;
    case OPTIMIZER_KIND_COUNT: break;
    }
    CHECK(false);
    return NULL;
}

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for an optimiser's nodes");
}

/* What is at work. */
struct apply {
    struct graph *graph;
    uint32_t id;
    const struct update_rule *rule;
    const struct apply_options *options;
    struct optimizer_options with; /* the optimiser's */
    struct output rate;
    struct output hypers[HYPERS_MAX];
    struct node **updates;
    size_t update_count;
};

/* ---- slots ---- */

/* Mean squares begin with ones unless something else is asked for. */
static struct initializer initializer_of(const struct slot_rule *rule, double initial_accumulator)
{
    bool is_usual = rule->initializer != INITIALIZER_ONES || !(initial_accumulator < 1 || initial_accumulator > 1);
    return (struct initializer){.kind = is_usual ? rule->initializer : INITIALIZER_CONSTANT,
                                .low = initial_accumulator};
}

/* get_variable("") in a scope of the variable's name: the store's key ends in a slash, as TensorFlow's does. */
static enum status create_slot(const struct apply *apply, const struct variable *variable, const struct slot_rule *rule,
                               const struct variable **ret_slot, struct error *error)
{
    char name[GRAPH_NAME_BYTES_MAX * 2];
    struct variable_options options = {.name = "",
                                       .has_shape = true,
                                       .shape = variable->node->outputs[0].shape,
                                       .has_dtype = true,
                                       .dtype = variable->node->outputs[0].dtype,
                                       .initializer = initializer_of(rule, apply->with.initial_accumulator),
                                       .trainable = TRAINABLE_NO,
                                       .is_slot = true};
    snprintf(name, sizeof name, "%s/%s", variable->node->name, apply->with.name);
    if (apply->with.has_own_slots) {
        options.name = name;
        return make_variable(apply->graph, &options, ret_slot, error);
    }
    struct variable_scope_frame frame;
    TRY(variable_scope_enter_default(apply->graph, name, &frame, error));
    enum status status = get_variable(apply->graph, &options, ret_slot, NULL, error);
    variable_scope_leave(apply->graph, &frame);
    return status;
}

/* Adds what the variable has not yet to the optimiser's list. */
static enum status add_slots(const struct apply *apply, const struct variable *variable, struct error *error)
{
    struct optimizer_slot fresh[SLOTS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < SLOTS_MAX && apply->rule->slots[i].name != NULL; i++) {
        const struct slot_rule *rule = &apply->rule->slots[i];
        if (optimizer_slot(apply->graph, apply->id, variable, rule->name) == NULL) {
            fresh[count] = (struct optimizer_slot){.variable = variable, .name = rule->name};
            TRY(create_slot(apply, variable, rule, &fresh[count].slot, error));
            count++;
        }
    }
    if (count == 0) {
        return STATUS_OK;
    }
    const struct optimizer *before = graph_object(apply->graph, OBJECT_OPTIMIZER, apply->id);
    struct optimizer_slot *slots = arena_allocate(graph_arena(apply->graph), before->slot_count + count, sizeof *slots);
    void *edited = NULL;
    if (slots == NULL) {
        return no_memory(error);
    }
    if (before->slot_count > 0) {
        memcpy(slots, before->slots, before->slot_count * sizeof *slots);
    }
    memcpy(slots + before->slot_count, fresh, count * sizeof *slots);
    TRY(graph_edit_object(apply->graph, OBJECT_OPTIMIZER, apply->id, &edited, error));
    struct optimizer *optimizer = edited;
    optimizer->slots = slots;
    optimizer->slot_count += count;
    return STATUS_OK;
}

/* beta1_power and beta2_power: tf.Variables, named through the name scope. */
static enum status add_powers(const struct apply *apply, struct error *error)
{
    const struct optimizer *optimizer = graph_object(apply->graph, OBJECT_OPTIMIZER, apply->id);
    const struct variable *powers[2] = {NULL, NULL};
    void *edited = NULL;
    if (apply->rule != &adam || optimizer->powers[0] != NULL) {
        return STATUS_OK;
    }
    for (int i = 0; i < 2; i++) {
        float initial = (float)(i == 0 ? apply->with.beta1 : apply->with.beta2);
        struct variable_options options = {
            .name = i == 0 ? "beta1_power" : "beta2_power",
            .initializer = {.kind = INITIALIZER_VALUE, .values = {DTYPE_FLOAT32, shape_scalar(), &initial}},
            .trainable = TRAINABLE_NO,
            .is_slot = true};
        TRY(make_variable(apply->graph, &options, &powers[i], error));
    }
    TRY(graph_edit_object(apply->graph, OBJECT_OPTIMIZER, apply->id, &edited, error));
    ((struct optimizer *)edited)->powers[0] = powers[0];
    ((struct optimizer *)edited)->powers[1] = powers[1];
    return STATUS_OK;
}

static enum status prepare_slots(const struct apply *apply, struct error *error)
{
    const struct apply_options *options = apply->options;
    TRY(add_powers(apply, error));
    for (size_t i = 0; i < options->count; i++) {
        TRY(options->gradients[i].node == NULL ? STATUS_OK : add_slots(apply, options->variables[i], error));
    }
    return STATUS_OK;
}

/* ---- updates ---- */

static double hyper_value(const struct optimizer_options *options, const char *name)
{
    static const struct {
        const char *name;
        size_t offset;
    } fields[] = {{"beta1", offsetof(struct optimizer_options, beta1)},
                  {"beta2", offsetof(struct optimizer_options, beta2)},
                  {"epsilon", offsetof(struct optimizer_options, epsilon)},
                  {"momentum", offsetof(struct optimizer_options, momentum)},
                  {"decay", offsetof(struct optimizer_options, decay)}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            double value;
            memcpy(&value, (const char *)options + fields[i].offset, sizeof value);
            return value;
        }
    }
    CHECK(false);
    return 0;
}

/* The numbers as float32 constants, as Python's become. */
static enum status add_hypers(struct apply *apply, struct error *error)
{
    struct graph *graph = apply->graph;
    apply->rate = apply->with.rate;
    if (apply->rate.node == NULL) {
        TRY(graph_add_number(graph, "learning_rate", DTYPE_FLOAT32, apply->with.learning_rate, &apply->rate, error));
    }
    for (size_t i = 0; i < HYPERS_MAX && apply->rule->hypers[i] != NULL; i++) {
        const char *name = apply->rule->hypers[i];
        TRY(graph_add_number(graph, name, DTYPE_FLOAT32, hyper_value(&apply->with, name), &apply->hypers[i], error));
    }
    return STATUS_OK;
}

static enum status cast_to(struct graph *graph, struct output value, enum dtype dtype, struct output *ret_value,
                           struct error *error)
{
    if (output_type(value)->dtype == dtype) {
        *ret_value = value;
        return STATUS_OK;
    }
    struct attribute attribute = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = dtype};
    struct node_options add = {.inputs = &value, .input_count = 1, .attributes = &attribute, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Cast", &add, &node, error));
    *ret_value = (struct output){node, 0};
    return STATUS_OK;
}

/* The tensor that a letter of the rule's inputs means. */
static enum status input_of(const struct apply *apply, char letter, size_t index, struct output *ret_input,
                            struct error *error)
{
    const struct variable *variable = apply->options->variables[index];
    const struct optimizer *optimizer = graph_object(apply->graph, OBJECT_OPTIMIZER, apply->id);
    enum dtype dtype = variable->node->outputs[0].dtype;
    struct output value = {NULL, 0};
    switch (letter) {
    case 'v': *ret_input = (struct output){variable->node, 0}; return STATUS_OK;
    case 'g': *ret_input = apply->options->gradients[index]; return STATUS_OK;
    case '0':
    case '1':
    case '2': {
        const char *name = apply->rule->slots[letter - '0'].name;
        *ret_input = (struct output){optimizer_slot(apply->graph, apply->id, variable, name)->node, 0};
        return STATUS_OK;
    }
    case 'p': value = optimizer->powers[0]->read; break;
    case 'q': value = optimizer->powers[1]->read; break;
    case 'r': value = apply->rate; break;
    default: value = apply->hypers[letter - 'a']; break;
    }
    return cast_to(apply->graph, value, dtype, ret_input, error);
}

static enum status add_update(struct apply *apply, size_t index, struct error *error)
{
    struct output inputs[UPDATE_INPUTS_MAX];
    size_t count = strlen(apply->rule->inputs);
    CHECK(count <= UPDATE_INPUTS_MAX);
    for (size_t i = 0; i < count; i++) {
        TRY(input_of(apply, apply->rule->inputs[i], index, &inputs[i], error));
    }
    struct attribute nesterov = {
        .name = "use_nesterov", .kind = ATTRIBUTE_BOOLEAN, .boolean = apply->with.uses_nesterov};
    struct node_options add = {.inputs = inputs,
                               .input_count = count,
                               .attributes = &nesterov,
                               .attribute_count = apply->with.kind == OPTIMIZER_MOMENTUM ? 1 : 0};
    return graph_add_node(apply->graph, apply->rule->op, &add, &apply->updates[apply->update_count++], error);
}

static enum status add_updates(struct apply *apply, struct error *error)
{
    for (size_t i = 0; i < apply->options->count; i++) {
        char name[GRAPH_NAME_BYTES_MAX + 16];
        const char *previous = NULL;
        if (apply->options->gradients[i].node == NULL) {
            continue;
        }
        snprintf(name, sizeof name, "update_%s", apply->options->variables[i]->node->name);
        TRY(graph_enter_name_scope(apply->graph, name, &previous, error));
        TRY(add_update(apply, i, error));
        graph_leave_name_scope(apply->graph, previous);
    }
    return STATUS_OK;
}

/* ---- the end of a step ---- */

/* power *= beta, once every update has read it. */
static enum status add_power_update(struct apply *apply, int which, struct node **ret_node, struct error *error)
{
    const struct optimizer *optimizer = graph_object(apply->graph, OBJECT_OPTIMIZER, apply->id);
    const struct variable *power = optimizer->powers[which];
    struct output factors[] = {power->read, apply->hypers[which]};
    struct node_options mul = {.name = "mul",
                               .inputs = factors,
                               .input_count = 2,
                               .controls = apply->updates,
                               .control_count = apply->update_count};
    struct node *product = NULL;
    TRY(graph_add_node(apply->graph, "Mul", &mul, &product, error));
    struct output inputs[] = {{power->node, 0}, {product, 0}};
    struct node_options assign = {
        .inputs = inputs, .input_count = 2, .controls = apply->updates, .control_count = apply->update_count};
    return graph_add_node(apply->graph, "Assign", &assign, ret_node, error);
}

static enum status finish(struct apply *apply, const char *name, struct node **ret_node, struct error *error)
{
    struct node *powers[2] = {NULL, NULL};
    if (apply->rule == &adam) {
        TRY(add_power_update(apply, 0, &powers[0], error));
        TRY(add_power_update(apply, 1, &powers[1], error));
        apply->updates[apply->update_count++] = powers[0];
        apply->updates[apply->update_count++] = powers[1];
    }
    struct node_options add = {.name = name, .controls = apply->updates, .control_count = apply->update_count};
    return graph_add_node(apply->graph, "NoOp", &add, ret_node, error);
}

/* Counts up after the rest; the operation people get is this one then. */
static enum status add_step(struct apply *apply, const char *name, struct node **ret_node, struct error *error)
{
    const struct variable *step = apply->options->global_step;
    struct node *after = NULL;
    struct output one;
    TRY(finish(apply, "update", &after, error));
    TRY(graph_add_number(apply->graph, "value", step->node->outputs[0].dtype, 1, &one, error));
    struct output inputs[] = {{step->node, 0}, one};
    struct node_options add = {
        .name = name, .inputs = inputs, .input_count = 2, .controls = &after, .control_count = 1};
    return graph_add_node(apply->graph, "AssignAdd", &add, ret_node, error);
}

/* Inside the operation's name scope, which gives it its name. */
static enum status add_nodes(struct apply *apply, struct node **ret_operation, struct error *error)
{
    char name[GRAPH_NAME_BYTES_MAX + 2];
    snprintf(name, sizeof name, "%s/", graph_name_scope(apply->graph));
    TRY(add_hypers(apply, error));
    TRY(add_updates(apply, error));
    return apply->options->global_step == NULL ? finish(apply, name, ret_operation, error)
                                               : add_step(apply, name, ret_operation, error);
}

static enum status check(const struct apply_options *options, struct error *error)
{
    bool has_any = false;
    for (size_t i = 0; i < options->count; i++) {
        has_any = has_any || options->gradients[i].node != NULL;
    }
    if (options->count == 0) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "No variables provided.");
    }
    struct output none = {NULL, 0};
    return has_any ? STATUS_OK : optimizer_refuse_gradients(options->variables, options->count, none, error);
}

enum status optimizer_apply_gradients(struct graph *graph, uint32_t optimizer, const struct apply_options *options,
                                      struct node **ret_operation, struct error *error)
{
    const struct optimizer *object = graph_object(graph, OBJECT_OPTIMIZER, optimizer);
    struct apply apply = {.graph = graph, .id = optimizer, .options = options, .with = object->options};
    const char *previous = NULL;
    struct node *operation = NULL;
    apply.rule = rule_of(&apply.with);
    TRY(check(options, error));
    TRY(prepare_slots(&apply, error));
    apply.updates = mem_allocate(options->count + 2, sizeof *apply.updates);
    if (apply.updates == NULL) {
        return no_memory(error);
    }
    enum status status =
        graph_enter_name_scope(graph, options->name == NULL ? apply.with.name : options->name, &previous, error);
    if (status == STATUS_OK) {
        status = add_nodes(&apply, &operation, error);
        graph_leave_name_scope(graph, previous);
    }
    mem_free(apply.updates);
    TRY(status);
    struct handle handle = handle_operation(operation);
    TRY(graph_add_to_collection(graph, COLLECTION_TRAIN_OP, &handle, error));
    *ret_operation = operation;
    return STATUS_OK;
}

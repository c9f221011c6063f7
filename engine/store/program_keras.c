/* Steps on Keras layers and models. Thread: the building one. Owns nothing. */
#include "engine/graph/function.h"
#include "engine/nn/keras.h"
#include "engine/store/program_private.h"

#define LAYER_FIELDS                                                                                                   \
    "type name dtype units input_dim output_dim activation recurrent_activation use_bias unit_forget_bias "            \
    "return_sequences return_state go_backwards stateful reset_after rate merge_mode target_shape input_shape "        \
    "kernel_initializer recurrent_initializer bias_initializer embeddings_initializer layer layers"

static enum status make_layer(struct builder *builder, const struct step *step, const char *type, int depth,
                              uint32_t *ret_layer);

static enum status give_layer(struct builder *builder, uint32_t layer)
{
    struct handle handle = handle_object(OBJECT_LAYER, layer);
    builder_give(builder, &handle);
    return STATUS_OK;
}

/* ---- reading a layer ---- */

static enum status read_size(struct builder *builder, const struct step *step, const char *field, size_t *ret_size)
{
    int64_t number = (int64_t)*ret_size;
    TRY(read_whole(builder, step, field, 1, KERAS_UNITS_MAX, &number));
    *ret_size = (size_t)number;
    return STATUS_OK;
}

static enum status read_flags(struct builder *builder, const struct step *step, struct keras_options *options)
{
    bool uses_bias = true;
    bool has_forget_bias = true;
    TRY(read_flag(builder, step, "use_bias", &uses_bias));
    TRY(read_flag(builder, step, "unit_forget_bias", &has_forget_bias));
    options->has_no_bias = !uses_bias;
    options->has_no_forget_bias = !has_forget_bias;
    TRY(read_flag(builder, step, "return_sequences", &options->returns_sequences));
    TRY(read_flag(builder, step, "return_state", &options->returns_state));
    TRY(read_flag(builder, step, "go_backwards", &options->goes_backwards));
    TRY(read_flag(builder, step, "stateful", &options->is_stateful));
    return read_flag(builder, step, "reset_after", &options->resets_after);
}

static enum status read_sizes(struct builder *builder, const struct step *step, struct keras_options *options)
{
    bool has_target = false;
    TRY(read_size(builder, step, "units", &options->units));
    TRY(read_size(builder, step, "input_dim", &options->input_dim));
    TRY(read_size(builder, step, "output_dim", &options->output_dim));
    TRY(read_number(builder, step, "rate", &options->rate));
    TRY(read_shape(builder, step, "input_shape", &options->has_input_shape, &options->input_shape));
    return read_shape(builder, step, "target_shape", &has_target, &options->target);
}

static enum status read_layer(struct builder *builder, const struct step *step, struct keras_options *options)
{
    TRY(read_text(builder, step, "name", &options->name));
    TRY(read_dtype(builder, step, "dtype", &options->has_dtype, &options->dtype));
    TRY(read_sizes(builder, step, options));
    TRY(read_flags(builder, step, options));
    TRY(read_text(builder, step, "activation", &options->activation));
    TRY(read_text(builder, step, "recurrent_activation", &options->recurrent_activation));
    TRY(read_text(builder, step, "merge_mode", &options->merge_mode));
    TRY(read_initializer(builder, step, "kernel_initializer", &options->kernel_initializer));
    TRY(read_initializer(builder, step, "embeddings_initializer", &options->kernel_initializer));
    TRY(read_initializer(builder, step, "recurrent_initializer", &options->recurrent_initializer));
    return read_initializer(builder, step, "bias_initializer", &options->bias_initializer);
}

/* A layer by a result's name, or described in place. */
static enum status read_child(struct builder *builder, const json_t *json, const char *path, int depth,
                              uint32_t *ret_layer)
{
    struct place place = {.field = path};
    struct step child = {.json = json, .op = "layer", .path = path};
    const struct handle *handle = NULL;
    if (json_is_object(json) && json_object_get(json, "tensor") == NULL) {
        const char *type = json_string_value(json_object_get(json, "type"));
        type = type == NULL ? json_string_value(json_object_get(json, "op")) : type;
        TRY(check_fields(builder, &child, LAYER_FIELDS));
        return make_layer(builder, &child, type, depth + 1, ret_layer);
    }
    TRY(read_handle(builder, json, &place, &handle));
    if (handle->kind != HANDLE_OBJECT || handle->object_kind != OBJECT_LAYER) {
        return refuse_place(builder, &place, "must be a layer");
    }
    *ret_layer = handle->object_id;
    return STATUS_OK;
}

/* "layers": a list; "layer": one. */
static enum status read_children(struct builder *builder, const struct step *step, int depth,
                                 struct keras_options *options)
{
    const json_t *list = json_object_get(step->json, "layers");
    const json_t *one = json_object_get(step->json, "layer");
    char path[STEP_PATH_BYTES_MAX];
    uint32_t *children = NULL;
    size_t count = list != NULL ? json_array_size(list) : one != NULL;
    if ((list != NULL && !json_is_array(list)) || count > KERAS_LAYERS_MAX) {
        return refuse_field(builder, step, "layers", "must be a list of at most 128 layers");
    }
    TRY(builder_scratch(builder, count, sizeof *children, &children));
    for (size_t i = 0; i < count; i++) {
        if (list != NULL) {
            snprintf(path, sizeof path, "%.220s/layers/%zu", step->path, i);
        } else {
            snprintf(path, sizeof path, "%.220s/layer", step->path);
        }
        TRY(read_child(builder, list != NULL ? json_array_get(list, i) : one, path, depth, &children[i]));
    }
    options->children = children;
    options->child_count = count;
    return STATUS_OK;
}

static enum status make_layer(struct builder *builder, const struct step *step, const char *type, int depth,
                              uint32_t *ret_layer)
{
    struct keras_options options = {.name = NULL};
    struct place place = {.field = step->path};
    if (type == NULL || !keras_kind_find(type, &options.kind)) {
        return refuse_field(builder, step, "type", "must be the kind of a layer: \"lstm\", \"dense\" …");
    }
    if (depth > KERAS_NESTING_MAX) {
        return refuse_place(builder, &place, "layers nest deeper than %d", KERAS_NESTING_MAX);
    }
    TRY(read_layer(builder, step, &options));
    TRY(read_children(builder, step, depth, &options));
    return at_place(builder, &place, keras_create(builder->graph, &options, ret_layer, builder->error));
}

/* {"op":"lstm",…}, {"op":"sequential","layers":[…]}, {"op":"layer","type":"dropout",…} */
static enum status apply_layer(struct builder *builder, const struct step *step)
{
    const char *type = json_string_value(json_object_get(step->json, "type"));
    uint32_t layer = 0;
    TRY(make_layer(builder, step, strcmp(step->op, "layer") == 0 ? type : step->op, 1, &layer));
    return give_layer(builder, layer);
}

/* ---- using layers ---- */

/* "layer" or "model". */
static enum status need_layer(struct builder *builder, const struct step *step, uint32_t *ret_layer)
{
    const char *field = json_object_get(step->json, "model") != NULL ? "model" : "layer";
    return need_object(builder, step, field, OBJECT_LAYER, ret_layer);
}

static enum status apply_build_model(struct builder *builder, const struct step *step)
{
    struct shape shape = shape_unknown();
    bool has_shape = false;
    uint32_t layer = 0;
    TRY(need_layer(builder, step, &layer));
    TRY(read_shape(builder, step, "input_shape", &has_shape, &shape));
    if (!has_shape) {
        return refuse_field(builder, step, "input_shape", "must be given, with the batch: [null,5,8]");
    }
    return keras_build(builder->graph, layer, &shape, builder->error);
}

/* By index where there is one, as TensorFlow, else by name. */
static enum status apply_get_layer(struct builder *builder, const struct step *step)
{
    const char *name = NULL;
    int64_t index = 0;
    uint32_t model = 0;
    uint32_t layer = 0;
    TRY(need_layer(builder, step, &model));
    TRY(read_text(builder, step, "name", &name));
    TRY(read_whole(builder, step, "index", INT32_MIN, INT32_MAX, &index));
    const json_t *given_index = json_object_get(step->json, "index");
    bool has_index = given_index != NULL && !json_is_null(given_index);
    if (!has_index && (name == NULL || *name == '\0')) {
        return error_raise(builder->error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Provide either a layer name or layer index.");
    }
    TRY(keras_get_layer(builder->graph, model, has_index ? NULL : name, index, &layer, builder->error));
    return give_layer(builder, layer);
}

static enum status read_weights(struct builder *builder, const struct step *step, uint32_t *ret_layer,
                                const struct variable ***ret_variables, size_t *ret_count)
{
    TRY(need_layer(builder, step, ret_layer));
    TRY(builder_scratch(builder, KERAS_WEIGHTS_MAX, sizeof(const struct variable *), ret_variables));
    return keras_weights(builder->graph, *ret_layer, *ret_variables, ret_count, builder->error);
}

/* The variables; their values are what a run fetches by the result's name. */
static enum status apply_get_weights(struct builder *builder, const struct step *step)
{
    const struct variable **variables = NULL;
    struct handle *items = NULL;
    uint32_t layer = 0;
    size_t count = 0;
    TRY(read_weights(builder, step, &layer, &variables, &count));
    TRY(builder_scratch(builder, count, sizeof *items, &items));
    for (size_t i = 0; i < count; i++) {
        items[i] = handle_variable(variables[i]);
    }
    return builder_give_list(builder, items, NULL, count);
}

static enum status assign_weights(struct builder *builder, const struct variable *const *variables,
                                  const struct tensor *weights, size_t count, struct node **ret_node)
{
    struct node **nodes = NULL;
    TRY(builder_scratch(builder, count, sizeof(struct node *), &nodes));
    for (size_t i = 0; i < count; i++) {
        struct output value;
        struct output assigned;
        TRY(graph_add_constant(builder->graph, "set_weights/value", &weights[i], &value, builder->error));
        TRY(assign_variable(builder->graph, variables[i], value, ASSIGN_SET, &assigned, builder->error));
        nodes[i] = assigned.node;
    }
    struct node_options options = {.name = "set_weights", .controls = nodes, .control_count = count};
    return graph_add_node(builder->graph, "NoOp", &options, ret_node, builder->error);
}

/* Builds never run anything: the result is an operation that sets the weights when it is run. */
static enum status apply_set_weights(struct builder *builder, const struct step *step)
{
    const json_t *list = json_object_get(step->json, "weights");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "weights"};
    const struct variable **variables = NULL;
    struct tensor *weights = NULL;
    struct node *node = NULL;
    uint32_t layer = 0;
    size_t count = 0;
    TRY(read_weights(builder, step, &layer, &variables, &count));
    if (!json_is_array(list)) {
        return refuse_place(builder, &place, "must be a list of values, one for each weight");
    }
    TRY(builder_scratch(builder, json_array_size(list), sizeof *weights, &weights));
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct place item = {.above = &place, .index = i};
        enum dtype dtype = i < count ? variables[i]->node->outputs[0].dtype : DTYPE_FLOAT32;
        TRY(read_value(builder, json_array_get(list, i), &item, true, dtype, &weights[i]));
    }
    TRY(keras_check_weights(builder->graph, layer, weights, json_array_size(list), builder->error));
    TRY(assign_weights(builder, variables, weights, count, &node));
    struct handle handle = handle_operation(node);
    builder_give(builder, &handle);
    return STATUS_OK;
}

static enum status apply_call_layer(struct builder *builder, const struct step *step)
{
    struct keras_call call = {.is_training = false};
    struct keras_result result;
    struct output *states = NULL;
    struct handle items[KERAS_OUTPUTS_MAX];
    const json_t *initial = json_object_get(step->json, "initial_state");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "initial_state"};
    uint32_t layer = 0;
    TRY(need_layer(builder, step, &layer));
    TRY(need_tensor_field(builder, step, "input", &call.input));
    TRY(read_flag(builder, step, "training", &call.is_training));
    if (initial != NULL && !json_is_null(initial)) {
        TRY(read_tensors(builder, initial, &place, &states, &call.initial_state_count));
    }
    call.initial_states = states;
    if (!json_is_null(json_object_get(step->json, "mask")) && json_object_get(step->json, "mask") != NULL) {
        TRY(read_tensor_field(builder, step, "mask", &call.mask));
    }
    TRY(keras_call(builder->graph, layer, &call, &result, builder->error));
    for (size_t i = 0; i < result.output_count; i++) {
        items[i] = handle_tensor(result.outputs[i]);
    }
    if (result.output_count == 1) {
        builder_give(builder, &items[0]);
        return STATUS_OK;
    }
    return builder_give_list(builder, items, NULL, result.output_count);
}

const struct step_kind program_keras_steps[] = {
    {"sequential", "name layers", apply_layer, NULL},
    {"layer", LAYER_FIELDS, apply_layer, NULL},
    {"embedding", LAYER_FIELDS, apply_layer, NULL},
    {"lstm", LAYER_FIELDS, apply_layer, NULL},
    {"gru", LAYER_FIELDS, apply_layer, NULL},
    {"simple_rnn", LAYER_FIELDS, apply_layer, NULL},
    {"dense", LAYER_FIELDS, apply_layer, NULL},
    {"bidirectional", LAYER_FIELDS, apply_layer, NULL},
    {"time_distributed", LAYER_FIELDS, apply_layer, NULL},
    {"build_model", "model layer input_shape", apply_build_model, NULL},
    {"get_layer", "model layer name index", apply_get_layer, NULL},
    {"get_weights", "model layer", apply_get_weights, NULL},
    {"set_weights", "model layer weights", apply_set_weights, NULL},
    {"call_model", "model layer input initial_state mask training", apply_call_layer, NULL},
    {"call_layer", "model layer input initial_state mask training", apply_call_layer, NULL},
    {NULL, NULL, NULL, NULL},
};

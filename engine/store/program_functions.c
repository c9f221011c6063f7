/* Steps that call TensorFlow's functions by name: every op and function of the table, and constant. Thread: the
 * building one. Owns nothing. */
#include "engine/graph/function.h"
#include "engine/store/program_private.h"

/* ---- arguments ---- */

/* One item of a list of tensors: a name, or a value made a constant. */
static enum status read_item(struct builder *builder, const json_t *json, const struct place *place,
                             struct output *ret_output)
{
    bool is_name = json_is_string(json) || json_object_get(json, "tensor") != NULL;
    struct tensor value;
    if (is_name) {
        return read_tensor(builder, json, place, ret_output);
    }
    TRY(read_python_value(builder, json, place, &value));
    return at_place(builder, place, graph_add_constant(builder->graph, NULL, &value, ret_output, builder->error));
}

static enum status read_list(struct builder *builder, const json_t *json, const struct place *place,
                             struct call_argument *argument)
{
    struct output *items = NULL;
    size_t count = json_array_size(json);
    if (count > NODE_INPUTS_MAX) {
        return refuse_place(builder, place, "has %zu items, at most %d", count, NODE_INPUTS_MAX);
    }
    TRY(builder_scratch(builder, count, sizeof *items, &items));
    for (size_t i = 0; i < count; i++) {
        struct place item = {.above = place, .index = i};
        TRY(read_item(builder, json_array_get(json, i), &item, &items[i]));
    }
    argument->is_list = true;
    argument->items = items;
    argument->item_count = count;
    return STATUS_OK;
}

static enum status read_list_handle(struct builder *builder, const struct handle *list, const struct place *place,
                                    struct call_argument *argument)
{
    struct output *items = NULL;
    TRY(builder_scratch(builder, list->count, sizeof *items, &items));
    for (size_t i = 0; i < list->count; i++) {
        TRY(handle_as_tensor(builder, &list->items[i], place, &items[i]));
    }
    argument->is_list = true;
    argument->items = items;
    argument->item_count = list->count;
    return STATUS_OK;
}

static bool has_names(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (json_is_string(item) || json_is_object(item)) {
            return true;
        }
    }
    return false;
}

/* A tensor by name, a list of them, or a value. */
static enum status read_argument(struct builder *builder, const json_t *json, const struct place *place,
                                 struct call_argument *argument)
{
    if (json_is_null(json)) {
        return STATUS_OK;
    }
    if (json_is_array(json) && has_names(json)) {
        return read_list(builder, json, place, argument);
    }
    if (json_is_object(json) && json_object_get(json, "tensor") == NULL) {
        return read_item(builder, json, place, &argument->output);
    }
    if (!json_is_string(json) && !json_is_object(json)) {
        return read_value(builder, json, place, false, DTYPE_FLOAT32, &argument->value);
    }
    const struct handle *handle = NULL;
    TRY(read_handle(builder, json, place, &handle));
    if (handle->kind == HANDLE_LIST) {
        return read_list_handle(builder, handle, place, argument);
    }
    return handle_as_tensor(builder, handle, place, &argument->output);
}

/* ---- attributes ---- */

static bool has_null(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_is_null(json_array_get(list, i))) {
            return true;
        }
    }
    return false;
}

/* As it was written; what it has to be is the function's affair. */
static enum status read_attribute(struct builder *builder, const json_t *json, const struct place *place,
                                  enum attribute_kind wanted, struct attribute *attribute)
{
    if (json_is_boolean(json)) {
        attribute->kind = ATTRIBUTE_BOOLEAN;
        attribute->boolean = json_is_true(json);
    } else if (json_is_integer(json)) {
        attribute->kind = ATTRIBUTE_INTEGER;
        attribute->integer = json_integer_value(json);
    } else if (json_is_real(json)) {
        attribute->kind = ATTRIBUTE_NUMBER;
        attribute->number = json_real_value(json);
    } else if (json_is_string(json)) {
        attribute->kind = ATTRIBUTE_TEXT;
        attribute->text = json_string_value(json);
    } else if (json_is_array(json) && wanted == ATTRIBUTE_SHAPE && has_null(json)) {
        attribute->kind = ATTRIBUTE_SHAPE;
        return at_place(builder, place, shape_from_json(json, &attribute->shape, builder->error));
    } else {
        attribute->kind = ATTRIBUTE_TENSOR;
        return read_value(builder, json, place, false, DTYPE_FLOAT32, &attribute->tensor);
    }
    return STATUS_OK;
}

/* ---- the call ---- */

struct function_step {
    struct call call;
    struct call_argument *arguments; /* as many as the step could have */
    struct attribute attributes[FUNCTION_ATTRIBUTES_MAX];
    char names[FUNCTION_ATTRIBUTES_MAX][FUNCTION_NAME_BYTES_MAX];
};

static enum status add_attribute(struct builder *builder, struct function_step *function, const char *name,
                                 enum attribute_kind kind, const json_t *json, const struct place *place)
{
    if (json_is_null(json)) {
        return STATUS_OK;
    }
    if (function->call.attribute_count == FUNCTION_ATTRIBUTES_MAX) {
        return refuse_place(builder, place, "more than %d attributes", FUNCTION_ATTRIBUTES_MAX);
    }
    struct attribute *attribute = &function->attributes[function->call.attribute_count];
    char *kept = function->names[function->call.attribute_count];
    snprintf(kept, FUNCTION_NAME_BYTES_MAX, "%s", name);
    *attribute = (struct attribute){.name = kept};
    TRY(read_attribute(builder, json, place, kind, attribute));
    function->call.attribute_count++;
    return STATUS_OK;
}

static enum status read_positional(struct builder *builder, const struct step *step, struct function_step *function)
{
    const json_t *args = json_object_get(step->json, "args");
    struct place at_step = {.field = step->path};
    struct place at_args = {.above = &at_step, .field = "args"};
    if (args != NULL && !json_is_array(args)) {
        return refuse_place(builder, &at_args, "must be a list of arguments");
    }
    for (size_t i = 0; i < json_array_size(args); i++) {
        const json_t *json = json_array_get(args, i);
        struct place place = {.above = &at_args, .index = i};
        char text[FUNCTION_NAME_BYTES_MAX];
        enum attribute_kind kind = ATTRIBUTE_INTEGER;
        const char *name = function_parameter_at(step->op, i, text);
        if (i == FUNCTION_ARGUMENTS_MAX) {
            return refuse_place(builder, &place, "more than %d arguments", FUNCTION_ARGUMENTS_MAX);
        }
        if (name != NULL && function_parameter(step->op, name, &kind) == PARAMETER_ATTRIBUTE) {
            TRY(add_attribute(builder, function, name, kind, json, &place));
            continue;
        }
        TRY(read_argument(builder, json, &place, &function->arguments[i]));
        function->call.argument_count = i + 1;
    }
    return STATUS_OK;
}

static enum status read_named(struct builder *builder, const struct step *step, struct function_step *function)
{
    struct place at_step = {.field = step->path};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)step->json, key, value)
    {
        struct place place = {.above = &at_step, .field = key};
        enum attribute_kind kind = ATTRIBUTE_INTEGER;
        if (word_is_in(key, "op as args name")) {
            continue;
        }
        enum parameter_kind parameter = function_parameter(step->op, key, &kind);
        if (parameter == PARAMETER_NONE) {
            return raise_place(builder, &place, EXCEPTION_TYPE, "%.60s() got an unexpected keyword argument '%.60s'",
                               step->op, key);
        }
        if (parameter == PARAMETER_ATTRIBUTE) {
            TRY(add_attribute(builder, function, key, kind, value, &place));
        } else if (!json_is_null(value)) {
            if (function->call.argument_count == FUNCTION_ARGUMENTS_MAX) {
                return refuse_place(builder, &place, "more than %d arguments", FUNCTION_ARGUMENTS_MAX);
            }
            struct call_argument *argument = &function->arguments[function->call.argument_count++];
            argument->name = key;
            TRY(read_argument(builder, value, &place, argument));
        }
    }
    return STATUS_OK;
}

static enum status give_result(struct builder *builder, const struct call_result *result)
{
    struct handle *items = NULL;
    if (result->output_count == 0 && !result->is_list) {
        struct handle operation = handle_operation(result->operation);
        builder_give(builder, &operation);
        return STATUS_OK;
    }
    if (result->output_count == 1 && !result->is_list) {
        builder_give_tensor(builder, result->outputs[0]);
        return STATUS_OK;
    }
    TRY(builder_scratch(builder, result->output_count, sizeof *items, &items));
    for (size_t i = 0; i < result->output_count; i++) {
        items[i] = handle_tensor(result->outputs[i]);
    }
    return builder_give_list(builder, items, NULL, result->output_count);
}

enum status apply_function(struct builder *builder, const struct step *step)
{
    struct function_step *function = NULL;
    struct call_result *result = NULL;
    size_t count = json_array_size(json_object_get(step->json, "args")) + json_object_size(step->json);
    TRY(builder_scratch(builder, 1, sizeof *function, &function));
    TRY(builder_scratch(builder, 1, sizeof *result, &result));
    TRY(builder_scratch(builder, count > FUNCTION_ARGUMENTS_MAX ? FUNCTION_ARGUMENTS_MAX : count,
                        sizeof *function->arguments, &function->arguments));
    function->call =
        (struct call){.function = step->op, .arguments = function->arguments, .attributes = function->attributes};
    TRY(read_text(builder, step, "name", &function->call.name));
    TRY(read_positional(builder, step, function));
    TRY(read_named(builder, step, function));
    TRY(graph_call(builder->graph, &function->call, result, builder->error));
    return give_result(builder, result);
}

/* ---- constant ---- */

/* Repeats the last element until the shape is full, as tf.constant does. */
static enum status fill_shape(struct builder *builder, const struct shape *shape, const struct place *place,
                              struct tensor *value)
{
    size_t wanted = 0;
    size_t have = tensor_element_count(value);
    size_t bytes = dtype_bytes(value->dtype);
    if (!shape_is_fully_known(shape)) {
        return refuse_place(builder, place, "a constant's shape has no null in it");
    }
    if (!shape_element_count(shape, &wanted) || wanted > GRAPH_ARENA_BYTES_MAX / bytes) {
        char text[SHAPE_TEXT_BYTES_MAX];
        error_set(builder->error, STATUS_TOO_LARGE, "a constant of shape %s is larger than %d bytes",
                  shape_text(shape, text), GRAPH_ARENA_BYTES_MAX);
        return at_place(builder, place, STATUS_TOO_LARGE);
    }
    if (have > wanted || (have == 0 && wanted > 0)) {
        return raise_place(builder, place, EXCEPTION_VALUE,
                           "Too many elements provided. Needed at most %zu, but received %zu", wanted, have);
    }
    char *data = NULL;
    TRY(builder_scratch(builder, wanted + 1, bytes, &data));
    memcpy(data, value->data, have * bytes);
    for (size_t i = have; i < wanted; i++) {
        memcpy(data + i * bytes, data + (have - 1) * bytes, bytes);
    }
    value->data = data;
    value->shape = *shape;
    return STATUS_OK;
}

static enum status apply_constant(struct builder *builder, const struct step *step)
{
    const json_t *json = json_object_get(step->json, "value");
    struct place at_step = {.field = step->path};
    struct place at_value = {.above = &at_step, .field = "value"};
    struct place at_shape = {.above = &at_step, .field = "shape"};
    const char *name = NULL;
    bool has_dtype = false;
    bool has_shape = false;
    enum dtype dtype = DTYPE_FLOAT32;
    struct shape shape;
    struct tensor value;
    struct output output;
    TRY(read_text(builder, step, "name", &name));
    TRY(read_dtype(builder, step, "dtype", &has_dtype, &dtype));
    TRY(read_shape(builder, step, "shape", &has_shape, &shape));
    TRY(read_constant_value(builder, json, &at_value, has_dtype, dtype, &value));
    if (has_shape) {
        TRY(fill_shape(builder, &shape, &at_shape, &value));
    }
    TRY(graph_add_constant(builder->graph, name, &value, &output, builder->error));
    builder_give_tensor(builder, output);
    return STATUS_OK;
}

/* ---- control dependencies ---- */

static enum status enter_controls(struct builder *builder, const struct step *step, struct context *context)
{
    const json_t *json = json_object_get(step->json, "inputs");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "inputs"};
    struct node **nodes = NULL;
    size_t count = 0;
    if (json == NULL || (!json_is_null(json) && !json_is_array(json) && !json_is_string(json))) {
        return refuse_place(builder, &place, "must be a list of operations or tensors, or null");
    }
    if (!json_is_null(json)) {
        TRY(read_nodes(builder, json, &place, &nodes, &count));
    }
    context->kind = CONTEXT_CONTROLS;
    context->previous_controls = NULL;
    if (count == 0 && !json_is_null(json)) {
        context->keeps_controls = true; /* [] adds none and clears none */
        return STATUS_OK;
    }
    return graph_enter_controls(builder->graph, nodes, count, &context->previous_controls, builder->error);
}

const struct step_kind program_function_steps[] = {
    {"constant", "value dtype shape name", apply_constant, NULL},
    {"control_dependencies", "inputs body", NULL, enter_controls},
    {NULL, NULL, NULL, NULL},
};

/* Python functions about arrays that are more than one op, or choose among several: concat, split, pad, range, one_hot,
 * sequence_mask. Thread: the building one. Source: TensorFlow 1.15, ops/array_ops.py, ops/math_ops.py. */
#include <strings.h>

#include "engine/base/check.h"
#include "engine/graph/function_private.h"

/* As function_finish, for nodes all of whose outputs are returned. */
static enum status finish_all(struct graph *graph, const struct function_call *call, const char *op,
                              const struct output *inputs, size_t input_count, const struct attribute *attribute,
                              struct call_result *result, struct error *error)
{
    TRY(function_finish(graph, call, op, inputs, input_count, attribute, attribute != NULL, result, error));
    struct node *node = result->outputs[0].node;
    CHECK(node->output_count <= FUNCTION_ARGUMENTS_MAX);
    result->output_count = node->output_count;
    for (uint32_t i = 0; i < node->output_count; i++) {
        result->outputs[i] = (struct output){node, i};
    }
    return STATUS_OK;
}

/* Argument `at` of type n as a tensor: itself, or a constant of the number, of that dtype (DTYPE_COUNT: its own). */
static enum status add_argument(struct graph *graph, const struct function_call *call, size_t at, const char *name,
                                enum dtype dtype, struct output *ret_output, struct error *error)
{
    const struct tensor *value = &call->arguments[at].value;
    if (call->inputs[at].node != NULL) {
        *ret_output = call->inputs[at];
        return STATUS_OK;
    }
    enum dtype natural = function_natural_dtype(value);
    bool is_long = dtype == DTYPE_INT32 && natural == DTYPE_INT64;
    return function_add_value(graph, name, value, dtype == DTYPE_COUNT || is_long ? natural : dtype, ret_output, error);
}

static enum status add_cast(struct graph *graph, struct output x, enum dtype dtype, struct output *ret_output,
                            struct error *error)
{
    if (output_type(x)->dtype == dtype) {
        *ret_output = x;
        return STATUS_OK;
    }
    struct attribute to = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = dtype};
    struct node_options options = {.inputs = &x, .input_count = 1, .attributes = &to, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Cast", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

/* The dtype that was asked for, or `otherwise`: rules give DTYPE_COUNT where it was left out. */
static enum dtype asked_dtype(const struct function_call *call, enum dtype otherwise)
{
    const struct attribute *given = function_attribute(call, "dtype");
    return given == NULL || given->dtype == DTYPE_COUNT ? otherwise : given->dtype;
}

/* ---- concat(values, axis) ---- */

static enum status build_concat(struct graph *graph, const struct function_call *call, struct call_result *result,
                                struct error *error)
{
    bool is_one = call->input_count == 2;
    return function_finish(graph, call, is_one ? "Identity" : "ConcatV2", call->inputs, is_one ? 1 : call->input_count,
                           NULL, 0, result, error);
}

const struct function function_concat = {.name = "concat",
                                         .default_name = "concat",
                                         .arguments = "values* axis",
                                         .argument_types = "Ti",
                                         .build = build_concat};

/* ---- split(value, num_or_size_splits, axis=0, num=None) ---- */

/* TensorFlow makes a tensor of num_or_size_splits before it opens the scope of split, used or not. */
static enum status add_sizes(struct graph *graph, const struct function_call *call, struct output *ret_output,
                             struct error *error)
{
    const char *previous = NULL;
    const char *slash = strrchr(call->scope, '/');
    char parent[GRAPH_NAME_BYTES_MAX + 2] = "";
    if (slash != NULL) {
        snprintf(parent, sizeof parent, "%.*s/", (int)(slash - call->scope), call->scope);
    }
    TRY(graph_enter_name_scope(graph, parent, &previous, error));
    enum status status = add_argument(graph, call, 1, "Const", DTYPE_INT32, ret_output, error);
    graph_leave_name_scope(graph, previous);
    return status;
}

static enum status build_split_v(struct graph *graph, const struct function_call *call, struct output sizes,
                                 struct output axis, struct call_result *result, struct error *error)
{
    const struct attribute *num = function_attribute(call, "num");
    const struct shape *shape = &output_type(sizes)->shape;
    struct attribute count = {.name = "num_split", .kind = ATTRIBUTE_INTEGER};
    count.integer = num != NULL && num->integer >= 0 ? num->integer : shape->rank == 1 ? shape->dimensions[0] : -1;
    if (count.integer < 0) {
        char text[SHAPE_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Cannot infer num from shape %s",
                           shape_text(shape, text));
    }
    struct output inputs[] = {call->inputs[0], sizes, axis};
    return finish_all(graph, call, "SplitV", inputs, 3, &count, result, error);
}

static enum status build_split(struct graph *graph, const struct function_call *call, struct call_result *result,
                               struct error *error)
{
    struct output sizes;
    struct output axis = call->inputs[2];
    TRY(add_sizes(graph, call, &sizes, error));
    result->is_list = true;
    if (axis.node == NULL) {
        TRY(graph_add_integer(graph, "split_dim", 0, &axis, error));
    }
    if (output_type(sizes)->shape.rank != 0) {
        return build_split_v(graph, call, sizes, axis, result, error);
    }
    if (call->inputs[1].node != NULL) {
        char text[OUTPUT_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Rank-0 tensors are not supported as the num_or_size_splits argument to split. "
                           "Argument provided: %s",
                           output_text(sizes, text));
    }
    struct attribute count = {
        .name = "num_split", .kind = ATTRIBUTE_INTEGER, .integer = tensor_integer(&call->arguments[1].value, 0)};
    struct output inputs[] = {axis, call->inputs[0]};
    return finish_all(graph, call, "Split", inputs, 2, &count, result, error);
}

static const struct attribute_rule split_attributes[] = {
    {.name = "num", .kind = ATTRIBUTE_INTEGER, .otherwise = -1},
    {.name = NULL},
};

const struct function function_split = {.name = "split",
                                        .default_name = "split",
                                        .arguments = "value num_or_size_splits axis=split_dim?",
                                        .argument_types = "Tni",
                                        .attributes = split_attributes,
                                        .build = build_split};

/* ---- pad(tensor, paddings, mode="CONSTANT", constant_values=0) ---- */

static bool is_zero(const struct call_argument *argument)
{
    return argument->output.node == NULL && !argument->is_list &&
           (argument->value.data == NULL ||
            (tensor_element_count(&argument->value) == 1 && tensor_number(&argument->value, 0) == 0));
}

/* The op of a mode, in any case, and the mode as the op has it; NULL: no such mode. */
static const char *pad_op(const struct function_call *call, struct attribute *ret_mode)
{
    static const char *const mirrors[] = {"REFLECT", "SYMMETRIC"};
    const struct attribute *given = function_attribute(call, "mode");
    if (given == NULL || strcasecmp(given->text, "CONSTANT") == 0) {
        return is_zero(&call->arguments[2]) ? "Pad" : "PadV2";
    }
    for (size_t i = 0; i < sizeof mirrors / sizeof *mirrors; i++) {
        if (strcasecmp(given->text, mirrors[i]) == 0) {
            *ret_mode = (struct attribute){.name = "mode", .kind = ATTRIBUTE_TEXT, .text = mirrors[i]};
            return "MirrorPad";
        }
    }
    return NULL;
}

/* Inside the scope of the op. */
static enum status add_pad(struct graph *graph, const struct function_call *call, const char *op,
                           const struct attribute *mode, struct call_result *result, struct error *error)
{
    struct output inputs[3] = {call->inputs[0], {NULL, 0}, {NULL, 0}};
    bool has_value = strcmp(op, "PadV2") == 0;
    TRY(add_argument(graph, call, 1, "paddings", DTYPE_INT32, &inputs[1], error));
    if (has_value) {
        TRY(add_argument(graph, call, 2, "constant_values", output_type(inputs[0])->dtype, &inputs[2], error));
    }
    struct function_call inner = *call;
    inner.scope = graph_name_scope(graph);
    return function_finish(graph, &inner, op, inputs, has_value ? 3 : 2, mode, mode->name != NULL, result, error);
}

/* The scope bears the name of the op that the mode asks for. */
static enum status build_pad(struct graph *graph, const struct function_call *call, struct call_result *result,
                             struct error *error)
{
    struct attribute mode = {.name = NULL};
    const char *op = pad_op(call, &mode);
    if (op == NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Unknown padding mode: %.32s",
                           function_attribute(call, "mode")->text);
    }
    if (call->name != NULL) {
        return add_pad(graph, call, op, &mode, result, error);
    }
    const char *previous = NULL;
    TRY(graph_enter_name_scope(graph, op, &previous, error));
    enum status status = add_pad(graph, call, op, &mode, result, error);
    graph_leave_name_scope(graph, previous);
    return status;
}

static const struct attribute_rule pad_attributes[] = {
    {.name = "mode", .kind = ATTRIBUTE_TEXT},
    {.name = NULL},
};

const struct function function_pad = {.name = "pad",
                                      .arguments = "tensor paddings constant_values?",
                                      .argument_types = "Tnn",
                                      .attributes = pad_attributes,
                                      .build = build_pad};

/* ---- range(start, limit=None, delta=1, dtype=None) ---- */

/* TensorFlow's order of widening. */
static enum dtype wider(enum dtype a, enum dtype b)
{
    static const enum dtype order[] = {DTYPE_INT32, DTYPE_INT64, DTYPE_FLOAT32, DTYPE_FLOAT64};
    for (size_t i = sizeof order / sizeof *order; i-- > 0;) {
        if (a == order[i] || b == order[i]) {
            return order[i];
        }
    }
    return a;
}

static enum status build_range(struct graph *graph, const struct function_call *call, struct call_result *result,
                               struct error *error)
{
    struct output ends[3];
    bool has_limit = function_is_given(&call->arguments[1]);
    if (has_limit) {
        TRY(add_argument(graph, call, 0, "start", DTYPE_COUNT, &ends[0], error));
        TRY(add_argument(graph, call, 1, "limit", DTYPE_COUNT, &ends[1], error));
    } else { /* range(limit) */
        TRY(graph_add_integer(graph, "start", 0, &ends[0], error));
        TRY(add_argument(graph, call, 0, "limit", DTYPE_COUNT, &ends[1], error));
    }
    if (function_is_given(&call->arguments[2])) {
        TRY(add_argument(graph, call, 2, "delta", DTYPE_COUNT, &ends[2], error));
    } else {
        TRY(graph_add_integer(graph, "delta", 1, &ends[2], error));
    }
    enum dtype dtype = output_type(ends[0])->dtype;
    for (size_t i = 1; i < 3; i++) {
        dtype = wider(dtype, output_type(ends[i])->dtype);
    }
    dtype = asked_dtype(call, dtype);
    for (size_t i = 0; i < 3; i++) {
        TRY(add_cast(graph, ends[i], dtype, &ends[i], error));
    }
    return function_finish(graph, call, "Range", ends, 3, NULL, 0, result, error);
}

static const struct attribute_rule range_attributes[] = {
    {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_COUNT},
    {.name = NULL},
};

const struct function function_range = {.name = "range",
                                        .default_name = "range",
                                        .arguments = "start limit? delta?",
                                        .argument_types = "nnn",
                                        .attributes = range_attributes,
                                        .build = build_range};

/* ---- one_hot(indices, depth, on_value=None, off_value=None, axis=None, dtype=None) ---- */

/* The dtype of what was given; TypeError when it is not the other one. */
static enum status one_hot_dtype(const struct function_call *call, enum dtype *ret_dtype, struct error *error)
{
    struct output on = call->inputs[2];
    struct output off = call->inputs[3];
    if (on.node == NULL && off.node == NULL) {
        *ret_dtype = DTYPE_FLOAT32;
        return STATUS_OK;
    }
    enum dtype dtype = output_type(on.node == NULL ? off : on)->dtype;
    enum dtype other = output_type(off.node == NULL ? on : off)->dtype;
    if (dtype != other) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "dtype <dtype: '%s'> of on_value does not match dtype <dtype: '%s'> of off_value",
                           dtype_name(dtype), dtype_name(other));
    }
    *ret_dtype = dtype;
    return STATUS_OK;
}

static enum status build_one_hot(struct graph *graph, const struct function_call *call, struct call_result *result,
                                 struct error *error)
{
    struct output inputs[4] = {call->inputs[0], call->inputs[1], call->inputs[2], call->inputs[3]};
    const struct attribute *axis = function_attribute(call, "axis");
    enum dtype dtype = DTYPE_FLOAT32;
    TRY(one_hot_dtype(call, &dtype, error));
    enum dtype asked = asked_dtype(call, dtype);
    bool has_values = inputs[2].node != NULL || inputs[3].node != NULL;
    if (has_values && asked != dtype) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "dtype <dtype: '%s'> of %s does not match dtype parameter <dtype: '%s'>", dtype_name(dtype),
                           inputs[2].node != NULL ? "on_value" : "off_value", dtype_name(asked));
    }
    if (inputs[2].node == NULL) {
        TRY(graph_add_number(graph, "on_value", asked, 1, &inputs[2], error));
    }
    if (inputs[3].node == NULL) {
        TRY(graph_add_number(graph, "off_value", asked, 0, &inputs[3], error));
    }
    return function_finish(graph, call, "OneHot", inputs, 4, axis, axis != NULL, result, error);
}

static const struct attribute_rule one_hot_attributes[] = {
    {.name = "axis", .kind = ATTRIBUTE_INTEGER, .otherwise = -1},
    {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_COUNT},
    {.name = NULL},
};

const struct function function_one_hot = {.name = "one_hot",
                                          .default_name = "one_hot",
                                          .arguments = "indices depth on_value? off_value?",
                                          .argument_types = "iiAA",
                                          .attributes = one_hot_attributes,
                                          .build = build_one_hot};

/* ---- sequence_mask(lengths, maxlen=None, dtype=bool) ---- */

/* max(0, the greatest length) */
static enum status add_greatest_length(struct graph *graph, struct output lengths, struct output *ret_output,
                                       struct error *error)
{
    struct output greatest[] = {lengths, {NULL, 0}};
    struct output floor[2];
    int64_t axes[SHAPE_RANK_MAX];
    int rank = output_type(lengths)->shape.rank;
    if (rank == SHAPE_RANK_UNKNOWN) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "sequence_mask() of lengths of unknown rank needs maxlen");
    }
    for (int i = 0; i < rank; i++) {
        axes[i] = i;
    }
    TRY(graph_add_integers(graph, NULL, axes, (size_t)rank, &greatest[1], error));
    TRY(graph_add(graph, "Max", NULL, greatest, 2, &floor[1], error));
    TRY(graph_add_number(graph, NULL, output_type(lengths)->dtype, 0, &floor[0], error));
    return graph_add(graph, "Maximum", NULL, floor, 2, ret_output, error);
}

static enum status build_sequence_mask(struct graph *graph, const struct function_call *call,
                                       struct call_result *result, struct error *error)
{
    struct output lengths = call->inputs[0];
    struct output range[] = {{NULL, 0}, call->inputs[1], {NULL, 0}};
    struct output sides[2];
    struct output column[] = {lengths, {NULL, 0}};
    struct output mask;
    const struct attribute *dtype = function_attribute(call, "dtype");
    if (range[1].node == NULL) {
        TRY(add_greatest_length(graph, lengths, &range[1], error));
    }
    if (output_type(range[1])->shape.rank > 0) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "maxlen must be scalar for sequence_mask");
    }
    enum dtype whole = output_type(range[1])->dtype;
    TRY(graph_add_number(graph, NULL, whole, 0, &range[0], error));
    TRY(graph_add_number(graph, NULL, whole, 1, &range[2], error));
    TRY(graph_add(graph, "Range", NULL, range, 3, &sides[0], error));
    TRY(graph_add_integer(graph, "ExpandDims/dim", -1, &column[1], error));
    TRY(graph_add(graph, "ExpandDims", NULL, column, 2, &sides[1], error));
    TRY(add_cast(graph, sides[1], whole, &sides[1], error));
    TRY(graph_add(graph, "Less", NULL, sides, 2, &mask, error));
    result->output_count = 1;
    return add_cast(graph, mask, dtype == NULL ? DTYPE_BOOL : dtype->dtype, &result->outputs[0], error);
}

static const struct attribute_rule mask_attributes[] = {
    {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_BOOL},
    {.name = NULL},
};

const struct function function_sequence_mask = {.name = "sequence_mask",
                                                .default_name = "SequenceMask",
                                                .arguments = "lengths maxlen?",
                                                .argument_types = "ii",
                                                .attributes = mask_attributes,
                                                .build = build_sequence_mask};

/* Python functions about arrays that are more than one op, or choose among several: concat, split, pad, range, one_hot,
 * sequence_mask. Thread: the building one. Source: TensorFlow 1.15, ops/array_ops.py, ops/math_ops.py. */
#include "engine/base/check.h"
#include "engine/graph/constants.h"
#include "engine/graph/function_private.h"

enum { SCOPE_NAME_BYTES_MAX = GRAPH_NAME_BYTES_MAX + 2 };

/* Adds a node that is named as the call's scope: it is what the function returns. */
static enum status add_result(struct graph *graph, const struct function_call *call, const char *op,
                              const struct output *inputs, size_t input_count, const struct attribute *attributes,
                              size_t attribute_count, struct call_result *result, struct error *error)
{
    char name[SCOPE_NAME_BYTES_MAX];
    snprintf(name, sizeof name, "%s/", call->scope);
    struct node_options options = {.name = name,
                                   .inputs = inputs,
                                   .input_count = input_count,
                                   .controls = call->controls,
                                   .control_count = call->control_count,
                                   .attributes = attributes,
                                   .attribute_count = attribute_count};
    struct node *node = NULL;
    TRY(graph_add_node(graph, op, &options, &node, error));
    CHECK(node->output_count <= FUNCTION_ARGUMENTS_MAX);
    result->operation = node;
    result->output_count = node->output_count;
    for (uint32_t i = 0; i < node->output_count; i++) {
        result->outputs[i] = (struct output){node, i};
    }
    return STATUS_OK;
}

static enum status refuse(struct error *error, const char *type, const char *message)
{
    error_set(error, STATUS_INVALID, "%s", message);
    error_type(error, type);
    return STATUS_INVALID;
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
    if (call->input_count == 2) { /* one value: itself */
        return add_result(graph, call, "Identity", call->inputs, 1, NULL, 0, result, error);
    }
    return add_result(graph, call, "ConcatV2", call->inputs, call->input_count, NULL, 0, result, error);
}

const struct function function_concat = {.name = "concat",
                                         .default_name = "concat",
                                         .arguments = "values* axis",
                                         .argument_types = "Ti",
                                         .build = build_concat};

/* ---- split(value, num_or_size_splits, axis=0, num=None) ---- */

static enum status build_split_v(struct graph *graph, const struct function_call *call, struct output axis,
                                 struct call_result *result, struct error *error)
{
    const struct attribute *num = function_attribute(call, "num");
    const struct shape *sizes = &output_type(call->inputs[1])->shape;
    struct attribute count = {.name = "num_split", .kind = ATTRIBUTE_INTEGER};
    count.integer = num != NULL && num->integer >= 0 ? num->integer : sizes->rank == 1 ? sizes->dimensions[0] : -1;
    if (count.integer < 0) {
        char text[SHAPE_TEXT_BYTES_MAX];
        error_set(error, STATUS_INVALID, "Cannot infer num from shape %s", shape_text(sizes, text));
        return error_type(error, "ValueError"), STATUS_INVALID;
    }
    struct output inputs[] = {call->inputs[0], call->inputs[1], axis};
    return add_result(graph, call, "SplitV", inputs, 3, &count, 1, result, error);
}

static enum status build_split(struct graph *graph, const struct function_call *call, struct call_result *result,
                               struct error *error)
{
    struct output axis = call->inputs[2];
    const struct tensor *parts = graph_constant_value(graph, call->inputs[1]);
    result->is_list = true;
    if (axis.node == NULL) {
        TRY(graph_add_integer(graph, "split_dim", 0, &axis, error));
    }
    if (output_type(call->inputs[1])->shape.rank != 0) {
        return build_split_v(graph, call, axis, result, error);
    }
    if (parts == NULL) {
        return refuse(error, "ValueError",
                      "Rank-0 tensors are not supported as the num_or_size_splits argument to split.");
    }
    struct attribute count = {
        .name = "num_split", .kind = ATTRIBUTE_INTEGER, .integer = tensor_integer(parts, 0)};
    struct output inputs[] = {axis, call->inputs[0]};
    return add_result(graph, call, "Split", inputs, 2, &count, 1, result, error);
}

static const struct attribute_rule split_attributes[] = {
    {.name = "num", .kind = ATTRIBUTE_INTEGER, .otherwise = -1},
    {.name = NULL},
};

const struct function function_split = {.name = "split",
                                        .default_name = "split",
                                        .arguments = "value num_or_size_splits=Const axis=split_dim?",
                                        .argument_types = "Tii",
                                        .attributes = split_attributes,
                                        .build = build_split};

/* ---- pad(tensor, paddings, mode="CONSTANT", constant_values=0) ---- */

static bool is_zero(const struct graph *graph, struct output value)
{
    const struct tensor *known = graph_constant_value(graph, value);
    return known != NULL && tensor_element_count(known) == 1 && tensor_number(known, 0) == 0;
}

static enum status build_pad(struct graph *graph, const struct function_call *call, struct call_result *result,
                             struct error *error)
{
    const struct attribute *given = function_attribute(call, "mode");
    char text[16] = "CONSTANT";
    if (given != NULL) {
        size_t length = strlen(given->text);
        for (size_t i = 0; i <= length && i < sizeof text - 1; i++) { /* any case */
            char letter = given->text[i];
            text[i] = letter >= 'a' && letter <= 'z' ? (char)(letter - 'a' + 'A') : letter;
        }
    }
    if (strcmp(text, "CONSTANT") == 0) {
        bool has_value = call->inputs[2].node != NULL && !is_zero(graph, call->inputs[2]);
        return add_result(graph, call, has_value ? "PadV2" : "Pad", call->inputs, has_value ? 3 : 2, NULL, 0, result,
                          error);
    }
    if (strcmp(text, "REFLECT") != 0 && strcmp(text, "SYMMETRIC") != 0) {
        error_set(error, STATUS_INVALID, "Unknown padding mode: %.32s", given->text);
        return error_type(error, "ValueError"), STATUS_INVALID;
    }
    struct attribute mode = {.name = "mode", .kind = ATTRIBUTE_TEXT, .text = text};
    return add_result(graph, call, "MirrorPad", call->inputs, 2, &mode, 1, result, error);
}

static const struct attribute_rule pad_attributes[] = {
    {.name = "mode", .kind = ATTRIBUTE_TEXT},
    {.name = NULL},
};

const struct function function_pad = {.name = "pad",
                                      .default_name = "Pad",
                                      .arguments = "tensor paddings constant_values?",
                                      .argument_types = "TiT",
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
    struct output ends[3] = {call->inputs[0], call->inputs[1], call->inputs[2]};
    enum dtype dtype = output_type(ends[0])->dtype;
    if (ends[1].node == NULL) { /* range(limit) */
        ends[1] = ends[0];
        TRY(graph_add_integer(graph, "start", 0, &ends[0], error));
    }
    if (ends[2].node == NULL) {
        TRY(graph_add_integer(graph, "delta", 1, &ends[2], error));
    }
    for (size_t i = 0; i < 3; i++) {
        dtype = wider(dtype, output_type(ends[i])->dtype);
    }
    dtype = asked_dtype(call, dtype);
    for (size_t i = 0; i < 3; i++) {
        TRY(add_cast(graph, ends[i], dtype, &ends[i], error));
    }
    return add_result(graph, call, "Range", ends, 3, NULL, 0, result, error);
}

static const struct attribute_rule range_attributes[] = {
    {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_COUNT},
    {.name = NULL},
};

const struct function function_range = {.name = "range",
                                        .default_name = "range",
                                        .arguments = "start limit? delta?",
                                        .argument_types = "AAA",
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
        error_set(error, STATUS_INVALID, "dtype <dtype: '%s'> of on_value does not match dtype <dtype: '%s'> of off_value",
                  dtype_name(dtype), dtype_name(other));
        return error_type(error, "TypeError"), STATUS_INVALID;
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
        error_set(error, STATUS_INVALID, "dtype <dtype: '%s'> of %s does not match dtype parameter <dtype: '%s'>",
                  dtype_name(dtype), inputs[2].node != NULL ? "on_value" : "off_value", dtype_name(asked));
        return error_type(error, "TypeError"), STATUS_INVALID;
    }
    if (inputs[2].node == NULL) {
        TRY(graph_add_number(graph, "on_value", asked, 1, &inputs[2], error));
    }
    if (inputs[3].node == NULL) {
        TRY(graph_add_number(graph, "off_value", asked, 0, &inputs[3], error));
    }
    return add_result(graph, call, "OneHot", inputs, 4, axis, axis != NULL, result, error);
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
        return refuse(error, "ValueError", "sequence_mask() of lengths of unknown rank needs maxlen");
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
        return refuse(error, "ValueError", "maxlen must be scalar for sequence_mask");
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

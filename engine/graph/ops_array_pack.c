/* Pack and Unpack: tensors side by side along a new axis, and back. Thread: see op.h. */
#include "engine/base/mem.h"
#include "engine/graph/array_rules.h"

/* The bytes of a tensor before and behind the axis: it is `outer` rows of `count` runs of `bytes`. */
struct layout {
    size_t outer;
    size_t count;
    size_t bytes;
};

static struct layout layout_of(const struct tensor *packed, int axis)
{
    struct layout layout = {1, (size_t)packed->shape.dimensions[axis], dtype_bytes(packed->dtype)};
    for (int i = 0; i < packed->shape.rank; i++) {
        if (i < axis) {
            layout.outer *= (size_t)packed->shape.dimensions[i];
        } else if (i > axis) {
            layout.bytes *= (size_t)packed->shape.dimensions[i];
        }
    }
    return layout;
}

static int packed_axis(const struct node *node, int packed_rank)
{
    int64_t axis = node_attribute_integer(node, "axis", 0);
    return (int)(axis < 0 ? axis + packed_rank : axis);
}

static enum status refuse_axis(const struct inference *inference, int64_t axis, int rank, struct error *error)
{
    return error_raise(error, STATUS_UNPROCESSABLE,
                       inference->is_planning ? EXCEPTION_INVALID_ARGUMENT : EXCEPTION_VALUE,
                       "axis = %lld not in [%d, %d)", (long long)axis, -rank, rank);
}

/* ---- Pack: values…; axis ---- */

static enum status refuse_values(const struct inference *inference, size_t at, struct error *error)
{
    char first[SHAPE_TEXT_BYTES_MAX];
    char other[SHAPE_TEXT_BYTES_MAX];
    return op_shape_error(
        inference, error, "Shapes of all inputs must match: values[0].shape = %s != values[%zu].shape = %s",
        shape_cpp_text(&inference->inputs[0].shape, first), at, shape_cpp_text(&inference->inputs[at].shape, other));
}

static enum status infer_pack(struct inference *inference, struct error *error)
{
    if (inference->input_count == 0) {
        return op_shape_error(inference, error, "Pack takes at least one value");
    }
    struct shape merged = inference->inputs[0].shape;
    struct shape packed = shape_unknown();
    for (size_t i = 1; i < inference->input_count; i++) {
        TRY(op_check_same_type(inference, i, "values", 0, "values", error));
        enum status status = array_merge(inference, &merged, &inference->inputs[i].shape, -1, &merged, error);
        if (status != STATUS_OK) {
            return inference->is_planning ? refuse_values(inference, i, error) : status;
        }
    }
    if (merged.rank != SHAPE_RANK_UNKNOWN) {
        int64_t axis = node_attribute_integer(inference->node, "axis", 0);
        TRY(array_unknown_shape(inference, merged.rank + 1, &packed, error));
        if (axis < -packed.rank || axis >= packed.rank) {
            return refuse_axis(inference, axis, packed.rank, error);
        }
        int at = packed_axis(inference->node, packed.rank);
        for (int i = 0; i < packed.rank; i++) {
            packed.dimensions[i] = i == at ? (int64_t)inference->input_count : merged.dimensions[i - (i > at)];
        }
    }
    return op_one_output(inference, inference->inputs[0].dtype, &packed);
}

static enum status compute_pack(const struct op_run *run, struct error *error)
{
    (void)error;
    struct layout layout = layout_of(&run->outputs[0], packed_axis(run->node, run->outputs[0].shape.rank));
    char *to = run->outputs[0].data;
    for (size_t row = 0; layout.bytes > 0 && row < layout.outer; row++) {
        for (size_t i = 0; i < layout.count; i++) {
            memcpy(to + (row * layout.count + i) * layout.bytes, (const char *)run->inputs[i].data + row * layout.bytes,
                   layout.bytes);
        }
    }
    return STATUS_OK;
}

static enum status gradient_pack(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    struct attribute attributes[] = {
        {.name = "num", .kind = ATTRIBUTE_INTEGER, .integer = node->input_count},
        {.name = "axis", .kind = ATTRIBUTE_INTEGER, .integer = node_attribute_integer(node, "axis", 0)},
    };
    struct node_options options = {
        .inputs = gradients, .input_count = 1, .attributes = attributes, .attribute_count = 2};
    struct node *parts = NULL;
    TRY(graph_add_node(graph, "Unpack", &options, &parts, error));
    for (uint32_t i = 0; i < node->input_count; i++) {
        ret[i] = (struct output){parts, i};
    }
    return STATUS_OK;
}

static const struct attribute_rule pack_attributes[] = {
    {.name = "axis", .kind = ATTRIBUTE_INTEGER},
    {.name = NULL},
};

const struct op op_pack = {.name = "Pack",
                           .input_count = OP_INPUTS_ANY,
                           .infer = infer_pack,
                           .compute = compute_pack,
                           .gradient = gradient_pack,
                           .call = "stack",
                           .default_name = "stack",
                           .arguments = "values*",
                           .argument_types = "T",
                           .attributes = pack_attributes};

/* ---- Unpack: value; num (below 0: the axis's dimension), axis ---- */

static enum status infer_unpack(struct inference *inference, struct error *error)
{
    const struct output_type *value = &inference->inputs[0];
    int64_t num = node_attribute_integer(inference->node, "num", -1);
    int64_t axis = node_attribute_integer(inference->node, "axis", 0);
    struct shape shape = shape_unknown();
    char text[SHAPE_TEXT_BYTES_MAX];
    int64_t size = DIMENSION_UNKNOWN;
    if (value->shape.rank != SHAPE_RANK_UNKNOWN) {
        if (axis < -value->shape.rank || axis >= value->shape.rank) {
            return refuse_axis(inference, axis, value->shape.rank, error);
        }
        int at = packed_axis(inference->node, value->shape.rank);
        size = value->shape.dimensions[at];
        shape = (struct shape){.rank = value->shape.rank - 1};
        for (int i = 0; i < shape.rank; i++) {
            shape.dimensions[i] = value->shape.dimensions[i + (i >= at)];
        }
    }
    /* The number of outputs is the graph's: it is what was known while building. */
    int64_t count = num >= 0 ? num : inference->is_planning ? (int64_t)inference->node->output_count : size;
    if (count == DIMENSION_UNKNOWN) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "Cannot infer num from shape %s",
                           shape_text(&value->shape, text));
    }
    if (size != DIMENSION_UNKNOWN && size != count) {
        return inference->is_planning
                   ? op_shape_error(inference, error, "Input shape axis %lld must equal %lld, got shape %s",
                                    (long long)axis, (long long)count, shape_cpp_text(&value->shape, text))
                   : op_shape_error(inference, error, "Dimension must be %lld but is %lld", (long long)count,
                                    (long long)size);
    }
    TRY(op_need_outputs(inference, count, error));
    inference->output_count = (size_t)count;
    for (int64_t i = 0; i < count; i++) {
        inference->outputs[i] = (struct output_type){value->dtype, shape};
    }
    return STATUS_OK;
}

static enum status compute_unpack(const struct op_run *run, struct error *error)
{
    (void)error;
    struct layout layout = layout_of(&run->inputs[0], packed_axis(run->node, run->inputs[0].shape.rank));
    const char *from = run->inputs[0].data;
    for (size_t row = 0; layout.bytes > 0 && row < layout.outer; row++) {
        for (size_t i = 0; i < layout.count; i++) {
            memcpy((char *)run->outputs[i].data + row * layout.bytes, from + (row * layout.count + i) * layout.bytes,
                   layout.bytes);
        }
    }
    return STATUS_OK;
}

static enum status gradient_unpack(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    struct output *parts = mem_allocate(node->output_count + 1, sizeof *parts);
    enum status status = parts == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory for gradients") : STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < node->output_count; i++) {
        parts[i] = gradients[i];
        if (gradients[i].node == NULL) {
            status = graph_add_zeros_like(graph, node_own_output(graph, node, i), &parts[i], error);
        }
    }
    struct attribute axis = {
        .name = "axis", .kind = ATTRIBUTE_INTEGER, .integer = node_attribute_integer(node, "axis", 0)};
    struct node_options options = {
        .inputs = parts, .input_count = node->output_count, .attributes = &axis, .attribute_count = 1};
    struct node *packed = NULL;
    if (status == STATUS_OK) {
        status = graph_add_node(graph, "Pack", &options, &packed, error);
    }
    mem_free(parts);
    TRY(status);
    ret[0] = (struct output){packed, 0};
    return STATUS_OK;
}

static const struct attribute_rule unpack_attributes[] = {
    {.name = "num", .kind = ATTRIBUTE_INTEGER, .otherwise = -1},
    {.name = "axis", .kind = ATTRIBUTE_INTEGER},
    {.name = NULL},
};

const struct op op_unpack = {.name = "Unpack",
                             .input_count = 1,
                             .infer = infer_unpack,
                             .compute = compute_unpack,
                             .gradient = gradient_unpack,
                             .call = "unstack",
                             .default_name = "unstack",
                             .arguments = "value",
                             .argument_types = "T",
                             .attributes = unpack_attributes,
                             .returns_list = true};

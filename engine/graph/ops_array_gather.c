/* Ops that look up by index: GatherV2 with its dense gradient, OneHot. Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/graph/array_rules.h"
#include "engine/graph/function.h"
#include "engine/math/pointwise.h"

/* ---- GatherV2: params, indices, axis → params' dimensions with `axis` replaced by indices' ---- */

/* params as [outer, limit, inner]. */
struct lookup {
    int axis;
    size_t outer;
    int64_t limit;
    size_t inner; /* elements */
};

static struct lookup lookup_of(const struct shape *params, const struct tensor *axis)
{
    int64_t given = tensor_integer(axis, 0);
    struct lookup lookup = {.axis = (int)(given < 0 ? given + params->rank : given), .outer = 1, .inner = 1};
    lookup.limit = params->dimensions[lookup.axis];
    for (int i = 0; i < params->rank; i++) {
        if (i < lookup.axis) {
            lookup.outer *= (size_t)params->dimensions[i];
        } else if (i > lookup.axis) {
            lookup.inner *= (size_t)params->dimensions[i];
        }
    }
    return lookup;
}

/* The result's shape, for an axis that is known and in range. */
static enum status gathered_shape(const struct inference *inference, const struct shape *params,
                                  const struct shape *indices, int axis, struct shape *ret_shape, struct error *error)
{
    struct shape shape;
    TRY(array_unknown_shape(inference, params->rank + indices->rank - 1, &shape, error));
    int at = 0;
    for (int i = 0; i < axis; i++) {
        shape.dimensions[at++] = params->dimensions[i];
    }
    for (int i = 0; i < indices->rank; i++) {
        shape.dimensions[at++] = indices->dimensions[i];
    }
    for (int i = axis + 1; i < params->rank; i++) {
        shape.dimensions[at++] = params->dimensions[i];
    }
    *ret_shape = shape;
    return STATUS_OK;
}

static enum status infer_gather(struct inference *inference, struct error *error)
{
    const struct shape *params = &inference->inputs[0].shape;
    const struct shape *indices = &inference->inputs[1].shape;
    struct shape shape = shape_unknown();
    int64_t axis = 0;
    bool is_known = false;
    TRY(op_check_type(inference, 1, "indices", TYPES_INTEGER, error));
    TRY(array_integer(inference, 2, "axis", &is_known, &axis, error));
    if (node_attribute_integer(inference->node, "batch_dims", 0) != 0) {
        return error_set(error, STATUS_UNSUPPORTED, "'%s' (op: 'GatherV2'): batch_dims other than 0",
                         inference->node->name);
    }
    if (params->rank == 0) {
        return inference->is_planning ? op_shape_error(inference, error, "params must be at least 1 dimensional")
                                      : op_shape_error(inference, error, "Shape must be at least rank 1 but is rank 0");
    }
    if (is_known && params->rank != SHAPE_RANK_UNKNOWN && (axis < -params->rank || axis >= params->rank)) {
        return inference->is_planning
                   ? op_shape_error(inference, error, "Expected axis in the range [%d, %d), but got %lld",
                                    -params->rank, params->rank, (long long)axis)
                   : op_shape_error(inference, error, "Shape must be at least rank %lld but is rank %d",
                                    (long long)array_rank_for_axis(axis), params->rank);
    }
    if (params->rank != SHAPE_RANK_UNKNOWN && indices->rank != SHAPE_RANK_UNKNOWN) {
        if (is_known) {
            TRY(gathered_shape(inference, params, indices, (int)(axis < 0 ? axis + params->rank : axis), &shape,
                               error));
        } else {
            TRY(array_unknown_shape(inference, params->rank + indices->rank - 1, &shape, error));
        }
    }
    return op_one_output(inference, inference->inputs[0].dtype, &shape);
}

/* "indices[1,0] = 7 is not in [0, 5)" */
static enum status refuse_index(const struct op_run *run, const struct tensor *indices, size_t at, int64_t limit,
                                struct error *error)
{
    char place[SHAPE_TEXT_BYTES_MAX] = "";
    struct shape index = {.rank = indices->shape.rank};
    size_t rest = at;
    for (int i = index.rank; i-- > 0;) {
        index.dimensions[i] = (int64_t)(rest % (size_t)indices->shape.dimensions[i]);
        rest /= (size_t)indices->shape.dimensions[i];
    }
    if (index.rank > 0) {
        shape_cpp_text(&index, place);
    }
    return op_run_error(run, error, "indices%s = %lld is not in [0, %lld)", place,
                        (long long)tensor_integer(indices, at), (long long)limit);
}

static enum status check_indices(const struct op_run *run, const struct tensor *indices, int64_t limit,
                                 struct error *error)
{
    size_t count = tensor_element_count(indices);
    for (size_t i = 0; i < count; i++) {
        int64_t index = tensor_integer(indices, i);
        if (index < 0 || index >= limit) {
            return refuse_index(run, indices, i, limit, error);
        }
    }
    return STATUS_OK;
}

static enum status compute_gather(const struct op_run *run, struct error *error)
{
    const struct tensor *params = &run->inputs[0];
    const struct tensor *indices = &run->inputs[1];
    struct lookup lookup = lookup_of(&params->shape, &run->inputs[2]);
    size_t bytes = lookup.inner * dtype_bytes(params->dtype);
    size_t count = tensor_element_count(indices);
    char *to = run->outputs[0].data;
    if (lookup.outer * bytes == 0) {
        return check_indices(run, indices, lookup.limit, error);
    }
    TRY(check_indices(run, indices, lookup.limit, error));
    for (size_t row = 0; row < lookup.outer; row++) {
        const char *from = (const char *)params->data + row * (size_t)lookup.limit * bytes;
        for (size_t i = 0; i < count; i++, to += bytes) {
            memcpy(to, from + (size_t)tensor_integer(indices, i) * bytes, bytes);
        }
    }
    return STATUS_OK;
}

static enum status gradient_gather(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    struct output inputs[] = {node->inputs[0], node->inputs[1], node->inputs[2], gradients[0]};
    ret[1] = ret[2] = (struct output){NULL, 0};
    return graph_add(graph, "GatherGrad", NULL, inputs, 4, &ret[0], error);
}

static enum status complete_gather(struct graph *graph, struct output *inputs, size_t input_count, struct error *error)
{
    CHECK(input_count == 3);
    return inputs[2].node != NULL ? STATUS_OK : graph_add_integer(graph, "axis", 0, &inputs[2], error);
}

static const struct attribute_rule gather_attributes[] = {
    {.name = "batch_dims", .kind = ATTRIBUTE_INTEGER},
    {.name = NULL},
};

const struct op op_gather = {.name = "GatherV2",
                             .input_count = 3,
                             .infer = infer_gather,
                             .compute = compute_gather,
                             .gradient = gradient_gather,
                             .call = "gather",
                             .arguments = "params indices axis?",
                             .argument_types = "Tii",
                             .complete = complete_gather,
                             .attributes = gather_attributes};

/* ---- GatherGrad: params, indices, axis, dy → the dense gradient of params ---- */

static enum status infer_gather_grad(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 3, "dy", TYPES_FLOAT, error));
    return op_one_output(inference, inference->inputs[3].dtype, &inference->inputs[0].shape);
}

static void add_to(enum dtype dtype, size_t count, const void *from, void *to)
{
    if (dtype == DTYPE_FLOAT32) {
        pointwise()->add_to(count, from, to);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        ((double *)to)[i] += ((const double *)from)[i];
    }
}

static enum status compute_gather_grad(const struct op_run *run, struct error *error)
{
    const struct tensor *indices = &run->inputs[1];
    const struct tensor *to = &run->outputs[0];
    struct lookup lookup = lookup_of(&to->shape, &run->inputs[2]);
    size_t bytes = lookup.inner * dtype_bytes(to->dtype);
    size_t count = tensor_element_count(indices);
    const char *from = run->inputs[3].data;
    TRY(check_indices(run, indices, lookup.limit, error));
    memset(to->data, 0, tensor_bytes(to));
    for (size_t row = 0; row < lookup.outer; row++) {
        char *target = (char *)to->data + row * (size_t)lookup.limit * bytes;
        for (size_t i = 0; i < count; i++, from += bytes) {
            add_to(to->dtype, lookup.inner, from, target + (size_t)tensor_integer(indices, i) * bytes);
        }
    }
    return STATUS_OK;
}

static enum status gradient_gather_grad(struct graph *graph, const struct node *node, const struct output *gradients,
                                        struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[1], node->inputs[2]};
    ret[0] = ret[1] = ret[2] = (struct output){NULL, 0};
    return graph_add(graph, "GatherV2", NULL, inputs, 3, &ret[3], error);
}

const struct op op_gather_grad = {.name = "GatherGrad",
                                  .input_count = 4,
                                  .infer = infer_gather_grad,
                                  .compute = compute_gather_grad,
                                  .gradient = gradient_gather_grad};

/* ---- OneHot: indices, depth, on_value, off_value; axis of the new dimension (−1: last). An index out of range gives
 *      off values alone, as in TensorFlow. ---- */

static enum status infer_one_hot(struct inference *inference, struct error *error)
{
    const struct shape *indices = &inference->inputs[0].shape;
    int64_t axis = node_attribute_integer(inference->node, "axis", -1);
    int64_t depth = DIMENSION_UNKNOWN;
    bool is_known = false;
    struct shape shape = shape_unknown();
    TRY(op_check_type(inference, 0, "indices", TYPES_INTEGER | 1U << DTYPE_UINT8, error));
    TRY(array_integer(inference, 1, "depth", &is_known, &depth, error));
    TRY(op_check_same_type(inference, 3, "off_value", 2, "on_value", error));
    if (is_known && depth < 0) {
        return op_shape_error(inference, error, "depth must be non-negative, got: %lld", (long long)depth);
    }
    if (indices->rank == SHAPE_RANK_UNKNOWN) {
        return op_one_output(inference, inference->inputs[2].dtype, &shape);
    }
    TRY(array_unknown_shape(inference, indices->rank + 1, &shape, error));
    if (axis < -1 || axis > indices->rank) {
        return op_shape_error(inference, error, "Expected axis to be -1 or between [0, %d).  But received: %lld",
                              indices->rank + 1, (long long)axis);
    }
    int at = axis < 0 ? indices->rank : (int)axis;
    for (int i = 0; i < shape.rank; i++) {
        shape.dimensions[i] = i == at ? depth : indices->dimensions[i - (i > at)];
    }
    return op_one_output(inference, inference->inputs[2].dtype, &shape);
}

static enum status compute_one_hot(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *indices = &run->inputs[0];
    const struct tensor *to = &run->outputs[0];
    int64_t axis = node_attribute_integer(run->node, "axis", -1);
    int at = axis < 0 ? indices->shape.rank : (int)axis;
    size_t bytes = dtype_bytes(to->dtype);
    size_t outer = 1;
    size_t inner = 1;
    for (int i = 0; i < indices->shape.rank; i++) {
        *(i < at ? &outer : &inner) *= (size_t)indices->shape.dimensions[i];
    }
    size_t depth = (size_t)to->shape.dimensions[at];
    size_t total = tensor_element_count(to);
    char *data = to->data;
    const uint8_t zero[sizeof(uint64_t)] = {0};
    bool is_zero = memcmp(run->inputs[3].data, zero, bytes) == 0;
    if (is_zero) {
        memset(data, 0, total * bytes);
    }
    for (size_t i = 0; !is_zero && i < total; i++) {
        memcpy(data + i * bytes, run->inputs[3].data, bytes);
    }
    for (size_t i = 0; i < outer * inner; i++) {
        int64_t index = tensor_integer(indices, i);
        if (index >= 0 && (size_t)index < depth) {
            size_t place = (i / inner * depth + (size_t)index) * inner + i % inner;
            memcpy(data + place * bytes, run->inputs[2].data, bytes);
        }
    }
    return STATUS_OK;
}

static const struct attribute_rule one_hot_attributes[] = {
    {.name = "axis", .kind = ATTRIBUTE_INTEGER, .otherwise = -1},
    {.name = NULL},
};

const struct op op_one_hot = {.name = "OneHot",
                              .input_count = 4,
                              .infer = infer_one_hot,
                              .compute = compute_one_hot,
                              .gradient = op_gradient_none,
                              .attributes = one_hot_attributes};

/* What the array ops share. Thread: see op.h. */
#include "engine/graph/array_rules.h"

#include "engine/math/strided.h"

bool integers_read(const struct tensor *tensor, struct integers *ret_integers)
{
    size_t count = tensor_element_count(tensor);
    if (count > 2 * SHAPE_RANK_MAX) {
        return false;
    }
    ret_integers->count = count;
    for (size_t i = 0; i < count; i++) {
        ret_integers->values[i] = tensor_integer(tensor, i);
    }
    return true;
}

enum status array_integers(const struct inference *inference, size_t input, const char *parameter, bool *ret_known,
                           struct integers *ret_integers, struct error *error)
{
    const struct tensor *value = inference->constants[input];
    TRY(op_check_type(inference, input, parameter, TYPES_INTEGER, error));
    *ret_known = value != NULL;
    if (value != NULL && !integers_read(value, ret_integers)) {
        return array_rank_error(inference, (int64_t)tensor_element_count(value), error);
    }
    return STATUS_OK;
}

enum status array_integer(const struct inference *inference, size_t input, const char *parameter, bool *ret_known,
                          int64_t *ret_integer, struct error *error)
{
    int rank = inference->inputs[input].shape.rank;
    struct integers integers = {.count = 1};
    if (rank > 0) {
        return op_shape_error(inference, error, "Shape must be rank 0 but is rank %d", rank);
    }
    TRY(array_integers(inference, input, parameter, ret_known, &integers, error));
    if (integers.count != 1) { /* of an unknown rank, but fed */
        return op_shape_error(inference, error, "Shape must be rank 0 but is rank 1");
    }
    if (*ret_known) {
        *ret_integer = integers.values[0];
    }
    return STATUS_OK;
}

int64_t array_rank_for_axis(int64_t axis)
{
    return axis >= 0 ? axis + (axis < INT64_MAX) : axis == INT64_MIN ? INT64_MAX : -axis;
}

int64_t array_vector_length(const struct inference *inference, size_t input)
{
    const struct shape *shape = &inference->inputs[input].shape;
    if (shape->rank == SHAPE_RANK_UNKNOWN) {
        return DIMENSION_UNKNOWN;
    }
    return shape->rank == 0 ? 1 : shape->dimensions[0];
}

enum status array_rank_error(const struct inference *inference, int64_t rank, struct error *error)
{
    return error_raise(error, STATUS_TOO_LARGE, inference->is_planning ? EXCEPTION_INVALID_ARGUMENT : EXCEPTION_VALUE,
                       "'%s' (op: '%s') would have rank %lld, the maximum is %d", inference->node->name,
                       inference->node->op->name, (long long)rank, SHAPE_RANK_MAX);
}

enum status array_unknown_shape(const struct inference *inference, int64_t rank, struct shape *ret_shape,
                                struct error *error)
{
    if (rank > SHAPE_RANK_MAX) {
        return array_rank_error(inference, rank, error);
    }
    *ret_shape = (struct shape){.rank = (int)rank};
    for (int i = 0; i < rank; i++) {
        ret_shape->dimensions[i] = DIMENSION_UNKNOWN;
    }
    return STATUS_OK;
}

enum status array_merge(const struct inference *inference, const struct shape *a, const struct shape *b, int but,
                        struct shape *ret_shape, struct error *error)
{
    if (a->rank == SHAPE_RANK_UNKNOWN || b->rank == SHAPE_RANK_UNKNOWN) {
        *ret_shape = a->rank == SHAPE_RANK_UNKNOWN ? *b : *a;
        return STATUS_OK;
    }
    if (a->rank != b->rank) {
        return op_shape_error(inference, error, "Shapes must be equal rank, but are %d and %d", a->rank, b->rank);
    }
    struct shape merged = *a;
    for (int i = 0; i < a->rank; i++) {
        int64_t left = a->dimensions[i];
        int64_t right = b->dimensions[i];
        if (i == but || right == DIMENSION_UNKNOWN || left == right) {
            continue;
        }
        if (left != DIMENSION_UNKNOWN) {
            char first[SHAPE_TEXT_BYTES_MAX];
            char second[SHAPE_TEXT_BYTES_MAX];
            return op_shape_error(
                inference, error,
                "Dimension %d in both shapes must be equal, but are %lld and %lld. Shapes are %s and %s.", i,
                (long long)left, (long long)right, shape_cpp_text(a, first), shape_cpp_text(b, second));
        }
        merged.dimensions[i] = right;
    }
    *ret_shape = merged;
    return STATUS_OK;
}

int64_t dimension_add(int64_t a, int64_t b)
{
    int64_t sum;
    if (a == DIMENSION_UNKNOWN || b == DIMENSION_UNKNOWN || __builtin_add_overflow(a, b, &sum)) {
        return DIMENSION_UNKNOWN;
    }
    return sum;
}

enum status array_gradient_reshape(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret_gradients, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[0]};
    for (uint32_t i = 0; i < node->input_count; i++) {
        ret_gradients[i] = (struct output){NULL, 0};
    }
    return graph_add(graph, "ReshapeLike", NULL, inputs, 2, &ret_gradients[0], error);
}

void array_move_cut(enum cut_direction direction, const struct array_cut *cut, const struct shape *whole_shape,
                    size_t element_bytes, char *whole, char *part)
{
    struct shape part_shape = {.rank = cut->rank};
    struct strided block = {.rank = cut->rank, .element_bytes = element_bytes};
    ptrdiff_t whole_bytes[SHAPE_RANK_MAX];
    ptrdiff_t part_bytes[SHAPE_RANK_MAX];
    memcpy(part_shape.dimensions, cut->count, sizeof cut->count);
    strided_row_major(whole_shape, element_bytes, whole_bytes);
    strided_row_major(&part_shape, element_bytes, part_bytes);
    for (int i = 0; i < cut->rank; i++) {
        if (cut->count[i] == 0) {
            return;
        }
        whole += cut->begin[i] * whole_bytes[i];
        block.dimensions[i] = cut->count[i];
        block.from_bytes[i] = direction == CUT_TAKE_OUT ? cut->stride[i] * whole_bytes[i] : part_bytes[i];
        block.to_bytes[i] = direction == CUT_TAKE_OUT ? part_bytes[i] : cut->stride[i] * whole_bytes[i];
    }
    strided_copy(&block, direction == CUT_TAKE_OUT ? whole : part, direction == CUT_TAKE_OUT ? part : whole);
}

void array_fill(const struct tensor *tensor, const void *element)
{
    size_t bytes = dtype_bytes(tensor->dtype);
    struct strided block = {.rank = 1,
                            .element_bytes = bytes,
                            .dimensions = {(int64_t)tensor_element_count(tensor)},
                            .to_bytes = {(ptrdiff_t)bytes}};
    strided_copy(&block, element, tensor->data);
}

enum status array_add_like(struct graph *graph, const char *op, const struct node *node, const struct output *inputs,
                           size_t input_count, struct output *ret_output, struct error *error)
{
    struct node_options options = {.inputs = inputs,
                                   .input_count = input_count,
                                   .attributes = node->attributes,
                                   .attribute_count = node->attribute_count};
    struct node *added = NULL;
    TRY(graph_add_node(graph, op, &options, &added, error));
    *ret_output = (struct output){added, 0};
    return STATUS_OK;
}

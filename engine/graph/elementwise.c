/* NumPy's broadcasting, and what elementwise ops do with their loops. Thread: see op.h. */
#include "engine/graph/elementwise.h"

#include "engine/base/check.h"
#include "engine/graph/op_rules.h"

/* ---- the walk over a broadcast ---- */

/* One dimension of two operands' result; false when they do not fit. */
static bool broadcast_dimension(int64_t a, int64_t b, int64_t *ret_dimension)
{
    if (a == 1 || a == b) {
        *ret_dimension = b;
    } else if (b == 1) {
        *ret_dimension = a;
    } else if (a == DIMENSION_UNKNOWN || b == DIMENSION_UNKNOWN) {
        *ret_dimension = a == DIMENSION_UNKNOWN ? b : a;
    } else {
        return false;
    }
    return true;
}

bool broadcast_shape(const struct shape *a, const struct shape *b, struct shape *ret_shape, int64_t *ret_a,
                     int64_t *ret_b)
{
    if (a->rank == SHAPE_RANK_UNKNOWN || b->rank == SHAPE_RANK_UNKNOWN) {
        *ret_shape = shape_unknown();
        return true;
    }
    struct shape shape = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 0; i < shape.rank; i++) {
        int at_a = i - (shape.rank - a->rank);
        int at_b = i - (shape.rank - b->rank);
        *ret_a = at_a < 0 ? 1 : a->dimensions[at_a];
        *ret_b = at_b < 0 ? 1 : b->dimensions[at_b];
        if (!broadcast_dimension(*ret_a, *ret_b, &shape.dimensions[i])) {
            return false;
        }
    }
    *ret_shape = shape;
    return true;
}

/* Element steps of an operand along each dimension of the result; 0 where it is repeated. */
static void operand_steps(const struct shape *operand, const struct shape *result, size_t steps[SHAPE_RANK_MAX])
{
    size_t step = 1;
    for (int i = result->rank - 1; i >= 0; i--) {
        int at = i - (result->rank - operand->rank);
        steps[i] = at < 0 || operand->dimensions[at] == 1 ? 0 : step;
        step *= at < 0 ? 1 : (size_t)operand->dimensions[at];
    }
}

/* Whether dimension `outer`, the last of the joined ones, and `inner` are one for every operand. */
static bool can_join(const struct broadcast *walk, int outer, size_t (*steps)[SHAPE_RANK_MAX], int inner,
                     size_t inner_size)
{
    for (size_t operand = 0; operand < walk->operand_count; operand++) {
        if (walk->steps[operand][outer] != steps[operand][inner] * inner_size) {
            return false;
        }
    }
    return true;
}

void broadcast_start(struct broadcast *walk, const struct shape *result, const struct shape *const *operands,
                     size_t operand_count)
{
    CHECK(operand_count <= BROADCAST_OPERANDS_MAX);
    *walk = (struct broadcast){.operand_count = operand_count};
    size_t steps[BROADCAST_OPERANDS_MAX][SHAPE_RANK_MAX];
    bool is_empty = false;
    for (size_t operand = 0; operand < operand_count; operand++) {
        operand_steps(operands[operand], result, steps[operand]);
    }
    for (int i = 0; i < result->rank; i++) {
        size_t size = (size_t)result->dimensions[i];
        is_empty = is_empty || size == 0;
        if (size == 1) {
            continue;
        }
        bool joins = walk->rank > 0 && can_join(walk, walk->rank - 1, steps, i, size);
        int at = joins ? walk->rank - 1 : walk->rank++;
        walk->sizes[at] = joins ? walk->sizes[at] * size : size;
        for (size_t operand = 0; operand < operand_count; operand++) {
            walk->steps[operand][at] = steps[operand][i];
        }
    }
    if (walk->rank == 0) {
        walk->sizes[walk->rank++] = 1;
    }
    walk->run = is_empty ? 0 : walk->sizes[walk->rank - 1];
}

bool broadcast_next(struct broadcast *walk)
{
    walk->result_offset += walk->run;
    for (int i = walk->rank - 2; i >= 0 && walk->run > 0; i--) {
        walk->index[i]++;
        for (size_t operand = 0; operand < walk->operand_count; operand++) {
            walk->offsets[operand] += walk->steps[operand][i];
        }
        if (walk->index[i] < walk->sizes[i]) {
            return true;
        }
        for (size_t operand = 0; operand < walk->operand_count; operand++) {
            walk->offsets[operand] -= walk->steps[operand][i] * walk->sizes[i];
        }
        walk->index[i] = 0;
    }
    return false;
}

size_t broadcast_step(const struct broadcast *walk, size_t operand)
{
    return walk->steps[operand][walk->rank - 1];
}

enum status broadcast_infer(struct inference *inference, enum dtype result, struct error *error)
{
    const struct shape *a = &inference->inputs[0].shape;
    const struct shape *b = &inference->inputs[1].shape;
    struct shape shape;
    int64_t from_a = 0;
    int64_t from_b = 0;
    if (broadcast_shape(a, b, &shape, &from_a, &from_b)) {
        return op_one_output(inference, result, &shape);
    }
    if (inference->is_planning) {
        char text_a[SHAPE_TEXT_BYTES_MAX];
        char text_b[SHAPE_TEXT_BYTES_MAX];
        return op_shape_error(inference, error, "Incompatible shapes: %s vs. %s", shape_cpp_text(a, text_a),
                              shape_cpp_text(b, text_b));
    }
    return op_dimensions_error(inference, from_a, from_b, error);
}

/* ---- two operands ---- */

static enum status infer_binary(struct inference *inference, enum dtype result, struct error *error)
{
    const struct binary_loops *loops = inference->node->op->binary;
    unsigned types = 0;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        types |= loops->of[i] == NULL ? 0u : 1u << i;
    }
    TRY(op_check_type(inference, 0, "x", types, error));
    TRY(op_check_same_type(inference, 1, "y", 0, "x", error));
    return broadcast_infer(inference, result, error);
}

enum status binary_infer(struct inference *inference, struct error *error)
{
    return infer_binary(inference, inference->inputs[0].dtype, error);
}

enum status binary_infer_bool(struct inference *inference, struct error *error)
{
    return infer_binary(inference, DTYPE_BOOL, error);
}

enum status binary_compute(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct binary_loops *loops = run->node->op->binary;
    const struct tensor *a = &run->inputs[0];
    const struct tensor *b = &run->inputs[1];
    const struct tensor *result = &run->outputs[0];
    size_t from_bytes = dtype_bytes(a->dtype);
    size_t to_bytes = dtype_bytes(result->dtype);
    struct broadcast walk;
    broadcast_start(&walk, &result->shape, (const struct shape *[]){&a->shape, &b->shape}, 2);
    if (walk.run == 0) {
        return STATUS_OK;
    }
    do {
        loops->of[a->dtype](walk.run, (const char *)a->data + walk.offsets[0] * from_bytes, broadcast_step(&walk, 0),
                            (const char *)b->data + walk.offsets[1] * from_bytes, broadcast_step(&walk, 1),
                            (char *)result->data + walk.result_offset * to_bytes);
    } while (broadcast_next(&walk));
    return STATUS_OK;
}

/* ---- one operand ---- */

enum status unary_infer(struct inference *inference, struct error *error)
{
    const struct op *op = inference->node->op;
    unsigned types = 0;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        types |= op->unary->of[i] == NULL ? 0u : 1u << i;
    }
    TRY(op_check_type(inference, 0, op->arguments, types, error));
    return op_infer_same(inference, error);
}

enum status unary_infer_bool(struct inference *inference, struct error *error)
{
    TRY(unary_infer(inference, error));
    inference->outputs[0].dtype = DTYPE_BOOL;
    return STATUS_OK;
}

enum status unary_compute(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *x = &run->inputs[0];
    run->node->op->unary->of[x->dtype](tensor_element_count(&run->outputs[0]), x->data, run->outputs[0].data);
    return STATUS_OK;
}

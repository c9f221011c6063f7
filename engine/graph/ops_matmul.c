/* Products of matrices: MatMul, BatchMatMul, BatchMatMulV2 (whose batch dimensions broadcast), BiasAdd. Thread: see
 * op.h. */
#include "engine/base/check.h"
#include "engine/graph/elementwise.h"
#include "engine/graph/op_rules.h"
#include "engine/graph/reduction.h"
#include "engine/math/gemm.h"
#include "engine/math/pointwise.h"

/* ---- one product ---- */

/* A matrix as stored, and whether the product takes it transposed. */
struct matrix {
    const void *data;
    size_t rows;
    size_t columns;
    bool is_transposed;
};

static size_t inner_size(const struct matrix *a)
{
    return a->is_transposed ? a->rows : a->columns;
}

#define PLAIN_PRODUCT(TYPE, UNSIGNED)                                                                                  \
    for (size_t row = 0; row < m; row++) {                                                                             \
        for (size_t column = 0; column < n; column++) {                                                                \
            UNSIGNED sum = 0;                                                                                          \
            for (size_t i = 0; i < k; i++) {                                                                           \
                TYPE left = ((const TYPE *)a->data)[a->is_transposed ? i * a->columns + row : row * a->columns + i];   \
                TYPE right =                                                                                           \
                    ((const TYPE *)b->data)[b->is_transposed ? column * b->columns + i : i * b->columns + column];     \
                sum += (UNSIGNED)left * (UNSIGNED)right;                                                               \
            }                                                                                                          \
            ((TYPE *)to)[row * n + column] = (TYPE)sum;                                                                \
        }                                                                                                              \
    }

/* to [m, n] = a · b; whole numbers wrap around. */
static void multiply(enum dtype dtype, size_t m, size_t n, const struct matrix *a, const struct matrix *b, void *to)
{
    size_t k = inner_size(a);
    enum gemm_transpose a_transpose = a->is_transposed ? GEMM_TRANSPOSED : GEMM_PLAIN;
    enum gemm_transpose b_transpose = b->is_transposed ? GEMM_TRANSPOSED : GEMM_PLAIN;
    switch ((int)dtype) {
    case DTYPE_FLOAT32:
        gemm(m, n, k, (struct gemm_operand){a->data, a->columns, a_transpose},
             (struct gemm_operand){b->data, b->columns, b_transpose}, 0, to, n);
        return;
    case DTYPE_FLOAT64:
        gemm64(m, n, k, (struct gemm_operand64){a->data, a->columns, a_transpose},
               (struct gemm_operand64){b->data, b->columns, b_transpose}, 0, to, n);
        return;
    case DTYPE_INT32: PLAIN_PRODUCT(int32_t, uint32_t) return;
    case DTYPE_INT64: PLAIN_PRODUCT(int64_t, uint64_t) return;
    default: CHECK(false);
    }
}

/* What the ops differ in by name alone: inputs and attributes. */
struct product_names {
    const char *op;
    const char *a;
    const char *b;
    const char *transpose_a;
    const char *transpose_b;
};

static const struct product_names matmul_names = {"MatMul", "a", "b", "transpose_a", "transpose_b"};
static const struct product_names batch_names = {"BatchMatMulV2", "x", "y", "adj_x", "adj_y"};

static const struct product_names *names_of(const struct node *node)
{
    return node_is(node, "MatMul") ? &matmul_names : &batch_names;
}

static bool is_transposed(const struct node *node, size_t input)
{
    const struct product_names *names = names_of(node);
    return node_attribute_boolean(node, input == 0 ? names->transpose_a : names->transpose_b, false);
}

/* Rows and columns of an operand as the product takes it. */
static void operand_sizes(const struct inference *inference, size_t input, int64_t *ret_rows, int64_t *ret_columns)
{
    const struct shape *shape = &inference->inputs[input].shape;
    int last = shape->rank - 1;
    bool is_known = shape->rank != SHAPE_RANK_UNKNOWN;
    bool swaps = is_transposed(inference->node, input);
    *ret_rows = is_known ? shape->dimensions[swaps ? last : last - 1] : DIMENSION_UNKNOWN;
    *ret_columns = is_known ? shape->dimensions[swaps ? last - 1 : last] : DIMENSION_UNKNOWN;
}

/* Checks types and the inner dimension; gives the result's rows and columns. */
static enum status infer_product(const struct inference *inference, int64_t *ret_rows, int64_t *ret_columns,
                                 struct error *error)
{
    int64_t inner[2];
    const struct product_names *names = names_of(inference->node);
    TRY(op_check_type(inference, 0, names->a, TYPES_NUMBER, error));
    TRY(op_check_same_type(inference, 1, names->b, 0, names->a, error));
    operand_sizes(inference, 0, ret_rows, &inner[0]);
    operand_sizes(inference, 1, &inner[1], ret_columns);
    if (inner[0] == inner[1] || inner[0] == DIMENSION_UNKNOWN || inner[1] == DIMENSION_UNKNOWN) {
        return STATUS_OK;
    }
    if (inference->is_planning) {
        char texts[2][SHAPE_TEXT_BYTES_MAX];
        return op_shape_error(inference, error, "Matrix size-incompatible: In[0]: %s, In[1]: %s",
                              shape_cpp_text(&inference->inputs[0].shape, texts[0]),
                              shape_cpp_text(&inference->inputs[1].shape, texts[1]));
    }
    return op_dimensions_error(inference, inner[0], inner[1], error);
}

/* a · b with these transposes; the op is that of `node`, or BatchMatMulV2 of a batched one. */
static enum status add_product(struct graph *graph, const struct node *node, struct output a, bool is_a_transposed,
                               struct output b, bool is_b_transposed, struct output *ret_output, struct error *error)
{
    const struct product_names *names = names_of(node);
    struct attribute attributes[] = {
        {.name = names->transpose_a, .kind = ATTRIBUTE_BOOLEAN, .boolean = is_a_transposed},
        {.name = names->transpose_b, .kind = ATTRIBUTE_BOOLEAN, .boolean = is_b_transposed}};
    struct output inputs[] = {a, b};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = attributes, .attribute_count = 2};
    struct node *product = NULL;
    TRY(graph_add_node(graph, names->op, &options, &product, error));
    *ret_output = (struct output){product, 0};
    return STATUS_OK;
}

/* C = op(A) op(B): with A and B as stored, dA = g op(B)ᵀ and dB = op(A)ᵀ g, transposed where the operand was; summed
 * over the batches an operand was repeated for. */
static enum status gradient_product(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    bool a_transposed = is_transposed(node, 0);
    bool b_transposed = is_transposed(node, 1);
    struct output a = node->inputs[0];
    struct output b = node->inputs[1];
    struct output g = gradients[0];
    if (a_transposed) {
        TRY(add_product(graph, node, b, b_transposed, g, true, &ret[0], error));
    } else {
        TRY(add_product(graph, node, g, false, b, !b_transposed, &ret[0], error));
    }
    if (b_transposed) {
        TRY(add_product(graph, node, g, true, a, a_transposed, &ret[1], error));
    } else {
        TRY(add_product(graph, node, a, !a_transposed, g, false, &ret[1], error));
    }
    for (size_t i = 0; i < 2 && !node_is(node, "MatMul"); i++) {
        TRY(graph_add_sum_to_shape(graph, ret[i], node->inputs[i], &ret[i], error));
    }
    return STATUS_OK;
}

/* ---- MatMul: a, b of rank 2; attributes transpose_a, transpose_b ---- */

static enum status infer_matmul(struct inference *inference, struct error *error)
{
    for (size_t i = 0; i < 2; i++) {
        int rank = inference->inputs[i].shape.rank;
        if (rank != SHAPE_RANK_UNKNOWN && rank != 2) {
            return op_shape_error(inference, error, "Shape must be rank 2 but is rank %d", rank);
        }
    }
    int64_t rows;
    int64_t columns;
    TRY(infer_product(inference, &rows, &columns, error));
    struct shape shape = shape_matrix(rows, columns);
    return op_one_output(inference, inference->inputs[0].dtype, &shape);
}

static struct matrix matrix_of(const struct op_run *run, size_t input)
{
    const struct tensor *tensor = &run->inputs[input];
    int rank = tensor->shape.rank;
    return (struct matrix){tensor->data, (size_t)tensor->shape.dimensions[rank - 2],
                           (size_t)tensor->shape.dimensions[rank - 1], is_transposed(run->node, input)};
}

static enum status compute_matmul(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *to = &run->outputs[0];
    struct matrix a = matrix_of(run, 0);
    struct matrix b = matrix_of(run, 1);
    multiply(to->dtype, (size_t)to->shape.dimensions[0], (size_t)to->shape.dimensions[1], &a, &b, to->data);
    return STATUS_OK;
}

const struct op op_matmul = {
    .name = "MatMul", .input_count = 2, .infer = infer_matmul, .compute = compute_matmul, .gradient = gradient_product};

/* ---- BatchMatMul: x, y of rank 2 or more; attributes adj_x, adj_y ---- */

/* The batch dimensions of an operand: all but the last two. */
static struct shape batch_shape(const struct shape *shape)
{
    struct shape batch = *shape;
    batch.rank = shape->rank == SHAPE_RANK_UNKNOWN ? SHAPE_RANK_UNKNOWN : shape->rank - 2;
    return batch;
}

static enum status infer_batch_matmul(struct inference *inference, struct error *error)
{
    struct shape batches[2];
    struct shape shape;
    int64_t rows;
    int64_t columns;
    for (size_t i = 0; i < 2; i++) {
        int rank = inference->inputs[i].shape.rank;
        if (rank != SHAPE_RANK_UNKNOWN && rank < 2) {
            return op_shape_error(inference, error, "Shape must be at least rank 2 but is rank %d", rank);
        }
        batches[i] = batch_shape(&inference->inputs[i].shape);
    }
    TRY(infer_product(inference, &rows, &columns, error));
    int64_t a = 0;
    int64_t b = 0;
    if (!broadcast_shape(&batches[0], &batches[1], &shape, &a, &b)) {
        return op_dimensions_error(inference, a, b, error);
    }
    if (shape.rank != SHAPE_RANK_UNKNOWN) {
        shape.dimensions[shape.rank++] = rows;
        shape.dimensions[shape.rank++] = columns;
    }
    return op_one_output(inference, inference->inputs[0].dtype, &shape);
}

static enum status compute_batch_matmul(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *to = &run->outputs[0];
    size_t bytes = dtype_bytes(to->dtype);
    size_t m = (size_t)to->shape.dimensions[to->shape.rank - 2];
    size_t n = (size_t)to->shape.dimensions[to->shape.rank - 1];
    struct matrix a = matrix_of(run, 0);
    struct matrix b = matrix_of(run, 1);
    size_t a_bytes = a.rows * a.columns * bytes;
    size_t b_bytes = b.rows * b.columns * bytes;
    struct shape shapes[] = {batch_shape(&run->inputs[0].shape), batch_shape(&run->inputs[1].shape),
                             batch_shape(&to->shape)};
    struct broadcast walk;
    broadcast_start(&walk, &shapes[2], (const struct shape *[]){&shapes[0], &shapes[1]}, 2);
    do {
        for (size_t i = 0; i < walk.run; i++) {
            a.data = (const char *)run->inputs[0].data + (walk.offsets[0] + i * broadcast_step(&walk, 0)) * a_bytes;
            b.data = (const char *)run->inputs[1].data + (walk.offsets[1] + i * broadcast_step(&walk, 1)) * b_bytes;
            multiply(to->dtype, m, n, &a, &b, (char *)to->data + (walk.result_offset + i) * m * n * bytes);
        }
    } while (broadcast_next(&walk));
    return STATUS_OK;
}

const struct op op_batch_matmul = {.name = "BatchMatMul",
                                   .input_count = 2,
                                   .infer = infer_batch_matmul,
                                   .compute = compute_batch_matmul,
                                   .gradient = gradient_product};
const struct op op_batch_matmul_v2 = {.name = "BatchMatMulV2",
                                      .input_count = 2,
                                      .infer = infer_batch_matmul,
                                      .compute = compute_batch_matmul,
                                      .gradient = gradient_product};

/* ---- BiasAdd: value [..., n], bias [n] ---- */

static enum status infer_bias_add(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "value", TYPES_NUMBER, error));
    TRY(op_check_same_type(inference, 1, "bias", 0, "value", error));
    const struct shape *x = &inference->inputs[0].shape;
    const struct shape *bias = &inference->inputs[1].shape;
    if (x->rank != SHAPE_RANK_UNKNOWN && x->rank < 2) {
        return op_shape_error(inference, error, "Shape must be at least rank 2 but is rank %d", x->rank);
    }
    if (bias->rank != SHAPE_RANK_UNKNOWN && bias->rank != 1) {
        return op_shape_error(inference, error, "Shape must be rank 1 but is rank %d", bias->rank);
    }
    if (x->rank == SHAPE_RANK_UNKNOWN || bias->rank == SHAPE_RANK_UNKNOWN) {
        return op_one_output(inference, inference->inputs[0].dtype, x);
    }
    struct shape shape = *x;
    int64_t *last = &shape.dimensions[x->rank - 1];
    int64_t size = bias->dimensions[0];
    if (*last != DIMENSION_UNKNOWN && size != DIMENSION_UNKNOWN && *last != size) {
        return op_dimensions_error(inference, *last, size, error);
    }
    *last = *last == DIMENSION_UNKNOWN ? size : *last;
    return op_one_output(inference, inference->inputs[0].dtype, &shape);
}

BINARY_LOOP(add_float64, double, double, a + b)
BINARY_LOOP(add_int32, int32_t, int32_t, (int32_t)((uint32_t)a + (uint32_t)b))
BINARY_LOOP(add_int64, int64_t, int64_t, (int64_t)((uint64_t)a + (uint64_t)b))
static const struct binary_loops bias_loops = {
    {[DTYPE_FLOAT64] = add_float64, [DTYPE_INT32] = add_int32, [DTYPE_INT64] = add_int64}};

static enum status compute_bias_add(const struct op_run *run, struct error *error)
{
    if (run->outputs[0].dtype != DTYPE_FLOAT32) {
        return binary_compute(run, error);
    }
    size_t columns = (size_t)run->inputs[1].shape.dimensions[0];
    size_t count = tensor_element_count(&run->outputs[0]);
    memcpy(run->outputs[0].data, run->inputs[0].data, count * sizeof(float));
    for (size_t at = 0; at < count; at += columns) {
        pointwise()->add_to(columns, run->inputs[1].data, (float *)run->outputs[0].data + at);
    }
    return STATUS_OK;
}

static enum status gradient_bias_add(struct graph *graph, const struct node *node, const struct output *gradients,
                                     struct output *ret, struct error *error)
{
    (void)node;
    ret[0] = gradients[0];
    return graph_add_unary(graph, "BiasAddGrad", gradients[0], &ret[1], error);
}

const struct op op_bias_add = {.name = "BiasAdd",
                               .input_count = 2,
                               .infer = infer_bias_add,
                               .compute = compute_bias_add,
                               .binary = &bias_loops,
                               .gradient = gradient_bias_add,
                               .call = "bias_add",
                               .arguments = "value bias"};

/* ---- BiasAddGrad: out_backprop [..., n] → [n], the sums over the rows ---- */

static enum status infer_bias_add_grad(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "out_backprop", TYPES_NUMBER, error));
    const struct shape *from = &inference->inputs[0].shape;
    if (from->rank != SHAPE_RANK_UNKNOWN && from->rank < 2) {
        return op_shape_error(inference, error, "Shape must be at least rank 2 but is rank %d", from->rank);
    }
    struct shape shape =
        shape_vector(from->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : from->dimensions[from->rank - 1]);
    return op_one_output(inference, inference->inputs[0].dtype, &shape);
}

static enum status compute_bias_add_grad(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *from = &run->inputs[0];
    struct tensor *to = &run->outputs[0];
    if (from->dtype != DTYPE_FLOAT32) {
        bool is_reduced[SHAPE_RANK_MAX] = {false};
        for (int i = 0; i < from->shape.rank - 1; i++) {
            is_reduced[i] = true;
        }
        reduction_run(REDUCTION_SUM, from, is_reduced, to);
        return STATUS_OK;
    }
    size_t columns = (size_t)to->shape.dimensions[0];
    size_t count = tensor_element_count(from);
    memset(to->data, 0, columns * sizeof(float));
    for (size_t at = 0; at < count; at += columns) {
        pointwise()->add_to(columns, (const float *)from->data + at, to->data);
    }
    return STATUS_OK;
}

/* The same gradient for every row: bias-like. */
static enum status gradient_bias_add_grad(struct graph *graph, const struct node *node, const struct output *gradients,
                                          struct output *ret, struct error *error)
{
    return graph_add_binary(graph, "BroadcastLike", gradients[0], node->inputs[0], &ret[0], error);
}

const struct op op_bias_add_grad = {.name = "BiasAddGrad",
                                    .input_count = 1,
                                    .infer = infer_bias_add_grad,
                                    .compute = compute_bias_add_grad,
                                    .gradient = gradient_bias_add_grad};

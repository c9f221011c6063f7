/* Ops that make a tensor larger out of itself: Tile, Pad, PadV2, MirrorPad, and the gradients that add up again what
 * was repeated. Thread: see op.h. */
#include "engine/graph/array_rules.h"
#include "engine/graph/function.h"
#include "engine/math/strided.h"

/* ---- Tile: input, multiples ---- */

static enum status infer_tile(struct inference *inference, struct error *error)
{
    const struct shape *from = &inference->inputs[0].shape;
    struct integers multiples;
    bool is_known = false;
    struct shape to = shape_unknown();
    TRY(array_integers(inference, 1, "multiples", &is_known, &multiples, error));
    int64_t length = array_vector_length(inference, 1);
    int64_t rank = from->rank == SHAPE_RANK_UNKNOWN ? length : from->rank;
    if (length != DIMENSION_UNKNOWN && length != rank) {
        return inference->is_planning
                   ? op_shape_error(inference, error,
                                    "Expected multiples argument to be a vector of length %lld but got length %lld",
                                    (long long)rank, (long long)length)
                   : op_shape_error(inference, error, "Shape must be rank %lld but is rank %d", (long long)length,
                                    from->rank);
    }
    if (rank == DIMENSION_UNKNOWN) {
        return op_one_output(inference, inference->inputs[0].dtype, &to);
    }
    TRY(array_unknown_shape(inference, rank, &to, error));
    for (int i = 0; is_known && i < to.rank; i++) {
        int64_t own = from->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : from->dimensions[i];
        if (multiples.values[i] < 0) {
            return op_shape_error(inference, error, "Expected multiples[%d] >= 0, but got %lld", i,
                                  (long long)multiples.values[i]);
        }
        if (own != DIMENSION_UNKNOWN && __builtin_mul_overflow(own, multiples.values[i], &to.dimensions[i])) {
            return op_shape_error(inference, error, "Dimension %d would be %lld times %lld", i, (long long)own,
                                  (long long)multiples.values[i]);
        }
    }
    return op_one_output(inference, inference->inputs[0].dtype, &to);
}

/* The tiled tensor as [times 0, dimension 0, times 1, dimension 1, …] beside the single one. */
static struct strided tiles(const struct shape *single, const struct shape *tiled, size_t element_bytes)
{
    struct strided block = {.rank = 2 * single->rank, .element_bytes = element_bytes};
    ptrdiff_t single_bytes[SHAPE_RANK_MAX];
    ptrdiff_t tiled_bytes[SHAPE_RANK_MAX];
    strided_row_major(single, element_bytes, single_bytes);
    strided_row_major(tiled, element_bytes, tiled_bytes);
    for (int i = 0; i < single->rank; i++) {
        int64_t dimension = single->dimensions[i];
        block.dimensions[2 * i] = dimension == 0 ? 0 : tiled->dimensions[i] / dimension;
        block.dimensions[2 * i + 1] = dimension;
        block.from_bytes[2 * i + 1] = single_bytes[i];
        block.to_bytes[2 * i] = tiled_bytes[i] * dimension;
        block.to_bytes[2 * i + 1] = tiled_bytes[i];
    }
    return block;
}

static enum status compute_tile(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *from = &run->inputs[0];
    struct strided block = tiles(&from->shape, &run->outputs[0].shape, dtype_bytes(from->dtype));
    strided_copy(&block, from->data, run->outputs[0].data);
    return STATUS_OK;
}

static enum status gradient_tile(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[0], node->inputs[1]};
    ret[1] = (struct output){NULL, 0};
    return graph_add(graph, "TileGrad", NULL, inputs, 3, &ret[0], error);
}

const struct op op_tile = {.name = "Tile",
                           .input_count = 2,
                           .infer = infer_tile,
                           .compute = compute_tile,
                           .gradient = gradient_tile,
                           .call = "tile",
                           .arguments = "input multiples",
                           .argument_types = "Ti"};

/* TileGrad: dy, x, multiples → the sum over all tiles, in x's shape */
static enum status infer_like_second_float(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "dy", TYPES_FLOAT, error));
    return op_infer_like_second(inference, error);
}

static enum status compute_tile_grad(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *to = &run->outputs[0];
    struct strided block = tiles(&to->shape, &run->inputs[0].shape, dtype_bytes(to->dtype));
    for (int i = 0; i < block.rank; i++) {
        ptrdiff_t tiled_bytes = block.to_bytes[i];
        block.to_bytes[i] = block.from_bytes[i];
        block.from_bytes[i] = tiled_bytes;
    }
    memset(to->data, 0, tensor_bytes(to));
    strided_add(&block, to->dtype, run->inputs[0].data, to->data);
    return STATUS_OK;
}

static enum status gradient_tile_grad(struct graph *graph, const struct node *node, const struct output *gradients,
                                      struct output *ret, struct error *error)
{
    ret[1] = ret[2] = (struct output){NULL, 0};
    return graph_add_binary(graph, "Tile", gradients[0], node->inputs[2], &ret[0], error);
}

const struct op op_tile_grad = {.name = "TileGrad",
                                .input_count = 3,
                                .infer = infer_like_second_float,
                                .compute = compute_tile_grad,
                                .gradient = gradient_tile_grad};

/* ---- Pad: input, paddings [rank, 2]; PadV2: input, paddings, constant_values ---- */

/* How far the input's edges are from the result's. */
struct paddings {
    int64_t before[SHAPE_RANK_MAX];
    int64_t after[SHAPE_RANK_MAX];
};

static void read_paddings(const struct tensor *tensor, int rank, struct paddings *ret_paddings)
{
    for (int i = 0; i < rank; i++) {
        ret_paddings->before[i] = tensor_integer(tensor, 2 * (size_t)i);
        ret_paddings->after[i] = tensor_integer(tensor, 2 * (size_t)i + 1);
    }
}

/* The rank that input and paddings agree on, DIMENSION_UNKNOWN when neither has it. */
static enum status padded_rank(const struct inference *inference, int64_t *ret_rank, struct error *error)
{
    const struct shape *from = &inference->inputs[0].shape;
    const struct shape *paddings = &inference->inputs[1].shape;
    TRY(op_check_type(inference, 1, "paddings", TYPES_INTEGER, error));
    int64_t rank = from->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : from->rank;
    if (paddings->rank != SHAPE_RANK_UNKNOWN) {
        int64_t rows = paddings->rank == 2 ? paddings->dimensions[0] : -2;
        int64_t columns = paddings->rank == 2 ? paddings->dimensions[1] : -2;
        if (rows == -2 || (columns != 2 && columns != DIMENSION_UNKNOWN)) {
            char text[SHAPE_TEXT_BYTES_MAX];
            return op_shape_error(inference, error, "paddings must be a matrix with 2 columns: %s",
                                  shape_cpp_text(paddings, text));
        }
        if (rows != DIMENSION_UNKNOWN && rank != DIMENSION_UNKNOWN && rows != rank) {
            return inference->is_planning
                       ? op_shape_error(inference, error,
                                        "The first dimension of paddings must be the rank of inputs: %lld, not %lld",
                                        (long long)rank, (long long)rows)
                       : op_shape_error(inference, error, "Shape must be rank %lld but is rank %d", (long long)rows,
                                        from->rank);
        }
        rank = rank == DIMENSION_UNKNOWN ? rows : rank;
    }
    *ret_rank = rank;
    return STATUS_OK;
}

/* `mirror`: at most how much longer than the dimension less this a padding may be; below 0: any. */
static enum status infer_padded(struct inference *inference, int64_t mirror, struct error *error)
{
    const struct shape *from = &inference->inputs[0].shape;
    struct shape to = shape_unknown();
    int64_t rank = DIMENSION_UNKNOWN;
    struct paddings paddings;
    TRY(padded_rank(inference, &rank, error));
    if (rank == DIMENSION_UNKNOWN) {
        return op_one_output(inference, inference->inputs[0].dtype, &to);
    }
    TRY(array_unknown_shape(inference, rank, &to, error));
    if (from->rank == SHAPE_RANK_UNKNOWN || inference->constants[1] == NULL) {
        return op_one_output(inference, inference->inputs[0].dtype, &to);
    }
    read_paddings(inference->constants[1], from->rank, &paddings);
    for (int i = 0; i < from->rank; i++) {
        int64_t before = paddings.before[i];
        int64_t after = paddings.after[i];
        int64_t own = from->dimensions[i];
        if (before < 0 || after < 0) {
            return op_shape_error(inference, error, "Paddings must be non-negative: %lld %lld", (long long)before,
                                  (long long)after);
        }
        if (mirror >= 0 && own != DIMENSION_UNKNOWN && (before > own - mirror || after > own - mirror)) {
            return op_shape_error(inference, error, "paddings must be %s the dimension size: %lld, %lld %s %lld",
                                  mirror == 0 ? "no greater than" : "less than", (long long)before, (long long)after,
                                  mirror == 0 ? "greater than" : "not less than", (long long)own);
        }
        to.dimensions[i] = dimension_add(dimension_add(own, before), after);
    }
    return op_one_output(inference, inference->inputs[0].dtype, &to);
}

static enum status infer_pad(struct inference *inference, struct error *error)
{
    if (inference->input_count == 3) {
        TRY(op_check_same_type(inference, 2, "constant_values", 0, "input", error));
        if (inference->inputs[2].shape.rank > 0) {
            return op_shape_error(inference, error, "Shape must be rank 0 but is rank %d",
                                  inference->inputs[2].shape.rank);
        }
    }
    return infer_padded(inference, -1, error);
}

static enum status compute_pad(const struct op_run *run, struct error *error)
{
    const struct tensor *from = &run->inputs[0];
    const struct tensor *to = &run->outputs[0];
    struct array_cut cut = {.rank = from->shape.rank};
    struct paddings paddings;
    read_paddings(&run->inputs[1], from->shape.rank, &paddings);
    for (int i = 0; i < cut.rank; i++) {
        cut.begin[i] = paddings.before[i];
        cut.stride[i] = 1;
        cut.count[i] = from->shape.dimensions[i];
        if (cut.begin[i] < 0 || cut.begin[i] > to->shape.dimensions[i] - cut.count[i]) {
            return op_run_error(run, error, "Paddings must be non-negative: %lld %lld", (long long)paddings.before[i],
                                (long long)paddings.after[i]);
        }
    }
    if (run->input_count == 3) {
        array_fill(to, run->inputs[2].data);
    } else {
        memset(to->data, 0, tensor_bytes(to));
    }
    array_move_cut(CUT_PUT_BACK, &cut, &to->shape, dtype_bytes(to->dtype), to->data, from->data);
    return STATUS_OK;
}

/* The part of the gradient inside the padding: Slice(dy, paddings[:, 0], Shape(x)). */
static enum status gradient_pad(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output shape;
    struct output before;
    struct output column[3] = {node->inputs[1], {NULL, 0}, {NULL, 0}};
    struct output slice[3] = {gradients[0], {NULL, 0}, {NULL, 0}};
    for (uint32_t i = 1; i < node->input_count; i++) {
        ret[i] = (struct output){NULL, 0};
    }
    TRY(graph_add_unary(graph, "Shape", node->inputs[0], &shape, error));
    TRY(graph_add_integers(graph, NULL, (int64_t[]){0, 0}, 2, &column[1], error));
    TRY(graph_add_integers(graph, NULL, (int64_t[]){-1, 1}, 2, &column[2], error));
    TRY(graph_add(graph, "Slice", NULL, column, 3, &before, error));
    TRY(graph_add_integers(graph, NULL, (int64_t[]){-1}, 1, &slice[1], error));
    TRY(graph_add_binary(graph, "Reshape", before, slice[1], &slice[1], error));
    slice[2] = shape;
    return graph_add(graph, "Slice", NULL, slice, 3, &ret[0], error);
}

const struct op op_pad = {
    .name = "Pad", .input_count = 2, .infer = infer_pad, .compute = compute_pad, .gradient = gradient_pad};
const struct op op_pad_v2 = {
    .name = "PadV2", .input_count = 3, .infer = infer_pad, .compute = compute_pad, .gradient = gradient_pad};

/* ---- MirrorPad: input, paddings; mode REFLECT (the edge is not repeated) or SYMMETRIC (it is) ---- */

/* 1 when the edge itself is left out of the mirror image, 0 when not; INVALID for another mode. */
static enum status mirror_offset(const struct inference *inference, int64_t *ret_offset, struct error *error)
{
    const struct attribute *mode = node_attribute(inference->node, "mode");
    bool is_reflect = mode != NULL && strcmp(mode->text, "REFLECT") == 0;
    if (!is_reflect && (mode == NULL || strcmp(mode->text, "SYMMETRIC") != 0)) {
        return error_set(error, STATUS_INVALID, "'%s' (op: '%s') has mode %s, neither REFLECT nor SYMMETRIC",
                         inference->node->name, inference->node->op->name, mode == NULL ? "none" : mode->text);
    }
    *ret_offset = is_reflect;
    return STATUS_OK;
}

static enum status infer_mirror_pad(struct inference *inference, struct error *error)
{
    int64_t offset = 0;
    TRY(mirror_offset(inference, &offset, error));
    return infer_padded(inference, offset, error);
}

/* Where position `at` of a padded dimension comes from. */
static int64_t mirrored(int64_t at, int64_t before, int64_t dimension, int64_t offset)
{
    int64_t inside = at - before;
    if (inside < 0) {
        return -inside - 1 + offset;
    }
    return inside < dimension ? inside : 2 * dimension - 1 - inside - offset;
}

/* Steps an index through `shape`, last dimension first; false behind the last. */
static bool next_index(const struct shape *shape, int64_t *index)
{
    for (int i = shape->rank; i-- > 0;) {
        if (++index[i] < shape->dimensions[i]) {
            return true;
        }
        index[i] = 0;
    }
    return false;
}

static enum status check_mirror(const struct op_run *run, const struct paddings *paddings, const struct shape *inner,
                                const struct shape *padded, int64_t offset, struct error *error)
{
    for (int i = 0; i < inner->rank; i++) {
        int64_t most = inner->dimensions[i] - offset;
        bool is_right = paddings->before[i] >= 0 && paddings->after[i] >= 0 && paddings->before[i] <= most &&
                        paddings->after[i] <= most &&
                        padded->dimensions[i] == inner->dimensions[i] + paddings->before[i] + paddings->after[i];
        if (!is_right) {
            return op_run_error(run, error, "paddings %lld and %lld do not fit a dimension of %lld",
                                (long long)paddings->before[i], (long long)paddings->after[i],
                                (long long)inner->dimensions[i]);
        }
    }
    return STATUS_OK;
}

/* Walks the padded tensor; `add`: adds its elements to those they mirror, else copies them from there. */
static enum status walk_mirror(const struct op_run *run, struct tensor *inner, struct tensor *padded, bool add,
                               struct error *error)
{
    const struct attribute *mode = node_attribute(run->node, "mode");
    int64_t offset = strcmp(mode->text, "REFLECT") == 0;
    size_t bytes = dtype_bytes(inner->dtype);
    ptrdiff_t inner_bytes[SHAPE_RANK_MAX];
    int64_t index[SHAPE_RANK_MAX] = {0};
    struct paddings paddings;
    char *at = padded->data;
    read_paddings(&run->inputs[1], inner->shape.rank, &paddings);
    TRY(check_mirror(run, &paddings, &inner->shape, &padded->shape, offset, error));
    strided_row_major(&inner->shape, bytes, inner_bytes);
    if (tensor_element_count(padded) == 0) {
        return STATUS_OK;
    }
    do {
        char *source = inner->data;
        for (int i = 0; i < inner->shape.rank; i++) {
            source += inner_bytes[i] * mirrored(index[i], paddings.before[i], inner->shape.dimensions[i], offset);
        }
        if (!add) {
            memcpy(at, source, bytes);
        } else {
            strided_add(&(struct strided){.element_bytes = bytes}, inner->dtype, at, source);
        }
        at += bytes;
    } while (next_index(&padded->shape, index));
    return STATUS_OK;
}

static enum status compute_mirror_pad(const struct op_run *run, struct error *error)
{
    struct tensor inner = run->inputs[0];
    return walk_mirror(run, &inner, &run->outputs[0], false, error);
}

static enum status gradient_mirror_pad(struct graph *graph, const struct node *node, const struct output *gradients,
                                       struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[1], node->inputs[0]};
    ret[1] = (struct output){NULL, 0};
    return array_add_like(graph, "MirrorPadGradLike", node, inputs, 3, &ret[0], error);
}

const struct op op_mirror_pad = {.name = "MirrorPad",
                                 .input_count = 2,
                                 .infer = infer_mirror_pad,
                                 .compute = compute_mirror_pad,
                                 .gradient = gradient_mirror_pad};

/* MirrorPadGradLike: dy, paddings, x → in x's shape */
static enum status infer_mirror_pad_grad(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "dy", TYPES_FLOAT, error));
    return op_one_output(inference, inference->inputs[0].dtype, &inference->inputs[2].shape);
}

static enum status compute_mirror_pad_grad(const struct op_run *run, struct error *error)
{
    struct tensor padded = run->inputs[0];
    memset(run->outputs[0].data, 0, tensor_bytes(&run->outputs[0]));
    return walk_mirror(run, &run->outputs[0], &padded, true, error);
}

static enum status gradient_mirror_pad_grad(struct graph *graph, const struct node *node,
                                            const struct output *gradients, struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[1]};
    ret[1] = ret[2] = (struct output){NULL, 0};
    return array_add_like(graph, "MirrorPad", node, inputs, 2, &ret[0], error);
}

const struct op op_mirror_pad_grad = {.name = "MirrorPadGradLike",
                                      .input_count = 3,
                                      .infer = infer_mirror_pad_grad,
                                      .compute = compute_mirror_pad_grad,
                                      .gradient = gradient_mirror_pad_grad};

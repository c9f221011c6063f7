/* Computing the constants of an ONNX graph: what exporters leave of weights that they cut, turn and join. Thread: the
 * one that imports. Results are in the model's arena, whose maximum bounds them. */
#include "engine/base/check.h"
#include "engine/import/onnx_graph.h"

enum { DEPTH_MAX = 64, STEPS_MAX = 10000, AXES_MAX = SHAPE_RANK_MAX };

/* Elements of a tensor in an order of its own. */
struct view {
    struct shape shape;
    int64_t strides[SHAPE_RANK_MAX]; /* in elements */
    int64_t offset;
};

static void begin_view(const struct foreign_tensor *tensor, struct view *ret_view)
{
    int64_t stride = 1;
    *ret_view = (struct view){.shape = tensor->shape};
    for (int d = tensor->shape.rank - 1; d >= 0; d--) {
        ret_view->strides[d] = stride;
        stride *= tensor->shape.dimensions[d];
    }
}

static struct foreign_tensor *make_tensor(struct onnx_graph *graph, const struct foreign_tensor *like,
                                          const struct shape *shape, unsigned char **ret_data, struct error *error)
{
    size_t count = 0;
    struct arena *arena = &graph->model->arena;
    struct foreign_tensor *made = arena_allocate(arena, 1, sizeof *made);
    *ret_data = shape_element_count(shape, &count) ? arena_allocate(arena, count + 1, dtype_bytes(like->dtype)) : NULL;
    if (made == NULL || *ret_data == NULL) {
        foreign_no_memory(graph->model, error);
        return NULL;
    }
    *made = (struct foreign_tensor){.name = like->name, .dtype = like->dtype, .shape = *shape, .data = *ret_data};
    return made;
}

static enum status copy_view(struct onnx_graph *graph, const struct foreign_tensor *tensor, const struct view *view,
                             const struct foreign_tensor **ret_tensor, struct error *error)
{
    unsigned char *data = NULL;
    size_t bytes = dtype_bytes(tensor->dtype);
    size_t count = 0;
    int64_t at[SHAPE_RANK_MAX] = {0};
    int64_t from = view->offset;
    struct foreign_tensor *made = make_tensor(graph, tensor, &view->shape, &data, error);
    if (made == NULL) {
        return error->status;
    }
    CHECK(shape_element_count(&view->shape, &count));
    for (size_t i = 0; i < count; i++) {
        memcpy(data + i * bytes, tensor->data + (size_t)from * bytes, bytes);
        for (int d = view->shape.rank - 1; d >= 0; d--) {
            from += view->strides[d];
            if (++at[d] < view->shape.dimensions[d]) {
                break;
            }
            from -= at[d] * view->strides[d];
            at[d] = 0;
        }
    }
    *ret_tensor = made;
    return STATUS_OK;
}

/* The same elements in another shape. */
static enum status reshape(struct onnx_graph *graph, const struct foreign_tensor *tensor, const struct shape *shape,
                           const struct foreign_tensor **ret_tensor, struct error *error)
{
    struct foreign_tensor *made = arena_copy(&graph->model->arena, tensor, 1, sizeof *tensor);
    if (made == NULL) {
        return foreign_no_memory(graph->model, error);
    }
    made->shape = *shape;
    *ret_tensor = made;
    return STATUS_OK;
}

static enum status permute(struct onnx_graph *graph, const struct foreign_tensor *tensor, const int64_t *axes,
                           const struct foreign_tensor **ret_tensor, struct error *error)
{
    struct view view;
    struct view turned;
    begin_view(tensor, &view);
    turned = view;
    for (int d = 0; d < tensor->shape.rank; d++) {
        turned.shape.dimensions[d] = view.shape.dimensions[axes[d]];
        turned.strides[d] = view.strides[axes[d]];
    }
    return copy_view(graph, tensor, &turned, ret_tensor, error);
}

enum status onnx_transpose(struct onnx_graph *graph, const struct foreign_tensor *matrix,
                           const struct foreign_tensor **ret_tensor, struct error *error)
{
    CHECK(matrix->shape.rank == 2);
    return permute(graph, matrix, (const int64_t[]){1, 0}, ret_tensor, error);
}

/* ---- lists of whole numbers ---- */

struct integers {
    int64_t values[AXES_MAX];
    int count; /* −1: left out */
};

static enum status fold(struct onnx_graph *graph, const char *name, size_t depth,
                        const struct foreign_tensor **ret_tensor, struct error *error);

static int64_t integer_at(const struct foreign_tensor *tensor, size_t index)
{
    int64_t wide;
    int32_t narrow;
    memcpy(&narrow, tensor->data + index * sizeof narrow, sizeof narrow);
    if (tensor->dtype == DTYPE_INT32) {
        return narrow;
    }
    memcpy(&wide, tensor->data + index * sizeof wide, sizeof wide);
    return wide;
}

/* From the attribute, or the constant that is input `index`. */
static enum status read_integers(struct onnx_graph *graph, const Onnx__NodeProto *node, const char *attribute_name,
                                 size_t index, size_t depth, struct integers *ret_integers, struct error *error)
{
    const Onnx__AttributeProto *attribute = onnx_attribute(node, attribute_name);
    const struct foreign_tensor *tensor = NULL;
    size_t count = attribute == NULL ? 0 : attribute->n_ints;
    ret_integers->count = -1;
    if (attribute == NULL) {
        if (onnx_input(node, index) == NULL) {
            return STATUS_OK;
        }
        TRY(fold(graph, onnx_input(node, index), depth, &tensor, error));
        if (tensor == NULL || !shape_element_count(&tensor->shape, &count) ||
            (tensor->dtype != DTYPE_INT64 && tensor->dtype != DTYPE_INT32)) {
            return onnx_refuse(node, error, "its input %zu is no constant of whole numbers", index);
        }
    }
    if (count > AXES_MAX) {
        return onnx_refuse(node, error, "%zu %.20s, at most %d", count, attribute_name, AXES_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        ret_integers->values[i] = tensor == NULL ? attribute->ints[i] : integer_at(tensor, i);
    }
    ret_integers->count = (int)count;
    return STATUS_OK;
}

static bool find_axis(int64_t axis, int rank, int *ret_axis)
{
    bool is_axis = axis >= -rank && axis < rank;
    *ret_axis = is_axis ? (int)(axis < 0 ? axis + rank : axis) : 0;
    return is_axis;
}

/* ---- operations ---- */

/* Its other dimensions may then be of any size. */
static bool is_empty(const struct foreign_tensor *tensor)
{
    size_t count = 0;
    return !shape_element_count(&tensor->shape, &count) || count == 0;
}

struct folding {
    struct onnx_graph *graph;
    const Onnx__NodeProto *node;
    const struct foreign_tensor *tensor; /* input 0 */
    size_t depth;
    struct error *error;
};

static enum status fold_as_it_is(struct folding *folding, const struct foreign_tensor **ret_tensor)
{
    *ret_tensor = folding->tensor;
    return STATUS_OK;
}

/* Numbers are read as they are; only whole ones would lose something. */
static enum status fold_cast(struct folding *folding, const struct foreign_tensor **ret_tensor)
{
    int64_t to = onnx_integer(folding->node, "to", 0);
    if (to != ONNX_FLOAT && to != ONNX_FLOAT16 && to != ONNX_DOUBLE) {
        return onnx_refuse(folding->node, folding->error, "to type %lld, which is no floating-point number",
                           (long long)to);
    }
    return fold_as_it_is(folding, ret_tensor);
}

static enum status fold_transpose(struct folding *folding, const struct foreign_tensor **ret_tensor)
{
    int rank = folding->tensor->shape.rank;
    struct integers axes;
    bool is_seen[SHAPE_RANK_MAX] = {false};
    TRY(read_integers(folding->graph, folding->node, "perm", SIZE_MAX, folding->depth, &axes, folding->error));
    for (int d = 0; axes.count < 0 && d < rank; d++) {
        axes.values[d] = rank - 1 - d;
    }
    bool is_permutation = axes.count < 0 || axes.count == rank;
    for (int d = 0; is_permutation && d < rank; d++) {
        is_permutation = axes.values[d] >= 0 && axes.values[d] < rank && !is_seen[axes.values[d]];
        is_seen[is_permutation ? axes.values[d] : 0] = true;
    }
    return is_permutation ? permute(folding->graph, folding->tensor, axes.values, ret_tensor, folding->error)
                          : onnx_refuse(folding->node, folding->error, "perm is no permutation of %d axes", rank);
}

/* Marks the axes that are named; without any all of one element. */
static enum status read_axes(struct folding *folding, int rank, bool is_named[SHAPE_RANK_MAX + AXES_MAX])
{
    struct integers axes;
    TRY(read_integers(folding->graph, folding->node, "axes", 1, folding->depth, &axes, folding->error));
    for (int d = 0; axes.count < 0 && d < rank; d++) {
        is_named[d] = folding->tensor->shape.dimensions[d] == 1;
    }
    for (int i = 0; i < axes.count; i++) {
        int axis = 0;
        if (!find_axis(axes.values[i], rank, &axis) || is_named[axis]) {
            return onnx_refuse(folding->node, folding->error, "axis %lld of %d", (long long)axes.values[i], rank);
        }
        is_named[axis] = true;
    }
    return STATUS_OK;
}

static enum status fold_squeeze(struct folding *folding, const struct foreign_tensor **ret_tensor)
{
    const struct shape *from = &folding->tensor->shape;
    struct shape shape = {.rank = 0};
    bool is_named[SHAPE_RANK_MAX + AXES_MAX] = {false};
    TRY(read_axes(folding, from->rank, is_named));
    for (int d = 0; d < from->rank; d++) {
        if (is_named[d] && from->dimensions[d] != 1) {
            return onnx_refuse(folding->node, folding->error, "axis %d has %lld elements", d,
                               (long long)from->dimensions[d]);
        }
        if (!is_named[d]) {
            shape.dimensions[shape.rank++] = from->dimensions[d];
        }
    }
    return reshape(folding->graph, folding->tensor, &shape, ret_tensor, folding->error);
}

static enum status fold_unsqueeze(struct folding *folding, const struct foreign_tensor **ret_tensor)
{
    const struct shape *from = &folding->tensor->shape;
    struct shape shape = {.rank = 0};
    struct integers axes;
    bool is_named[SHAPE_RANK_MAX + AXES_MAX] = {false};
    TRY(read_integers(folding->graph, folding->node, "axes", 1, folding->depth, &axes, folding->error));
    int rank = from->rank + (axes.count < 0 ? 0 : axes.count);
    if (axes.count < 0 || rank > SHAPE_RANK_MAX) {
        return onnx_refuse(folding->node, folding->error, "no axes, or more than %d dimensions", SHAPE_RANK_MAX);
    }
    TRY(read_axes(folding, rank, is_named));
    for (int d = 0, source = 0; d < rank; d++) {
        shape.dimensions[shape.rank++] = is_named[d] ? 1 : from->dimensions[source++];
    }
    return reshape(folding->graph, folding->tensor, &shape, ret_tensor, folding->error);
}

static enum status fold_reshape(struct folding *folding, const struct foreign_tensor **ret_tensor)
{
    const struct shape *from = &folding->tensor->shape;
    struct shape shape = {.rank = 0};
    struct integers wanted;
    size_t have = 0;
    size_t known = 1;
    int open = -1;
    TRY(read_integers(folding->graph, folding->node, "shape", 1, folding->depth, &wanted, folding->error));
    bool fits = wanted.count >= 0 && shape_element_count(from, &have);
    for (int d = 0; fits && d < wanted.count; d++) {
        int64_t size = wanted.values[d] == 0 && d < from->rank ? from->dimensions[d] : wanted.values[d];
        fits = size >= 0 || (size == -1 && open < 0);
        open = size == -1 ? d : open;
        shape.dimensions[shape.rank++] = size;
        fits = fits && (size == -1 || !__builtin_mul_overflow(known, (size_t)size, &known));
    }
    if (fits && open >= 0) {
        fits = known > 0 && have % known == 0;
        shape.dimensions[open] = fits ? (int64_t)(have / known) : 0;
    } else {
        fits = fits && have == known;
    }
    return fits ? reshape(folding->graph, folding->tensor, &shape, ret_tensor, folding->error)
                : onnx_refuse(folding->node, folding->error, "%zu elements do not have that shape", have);
}

static int64_t clamp(int64_t at, int64_t size)
{
    at = at < 0 ? at + size : at;
    return at < 0 ? 0 : at > size ? size : at;
}

static enum status fold_slice(struct folding *folding, const struct foreign_tensor **ret_tensor)
{
    static const struct {
        const char *name;
        size_t input;
    } lists[] = {{"starts", 1}, {"ends", 2}, {"axes", 3}, {"steps", 4}};
    struct integers read[4];
    struct view view;
    begin_view(folding->tensor, &view);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        TRY(read_integers(folding->graph, folding->node, lists[i].name, lists[i].input, folding->depth, &read[i],
                          folding->error));
    }
    bool fits =
        read[0].count >= 0 && read[0].count == read[1].count && (read[2].count < 0 || read[2].count == read[0].count);
    for (int i = 0; fits && i < read[0].count; i++) {
        int axis = 0;
        fits = find_axis(read[2].count < 0 ? i : read[2].values[i], view.shape.rank, &axis) &&
               (read[3].count < 0 || (i < read[3].count && read[3].values[i] == 1));
        int64_t size = view.shape.dimensions[axis];
        int64_t begin = clamp(read[0].values[i], size);
        int64_t end = clamp(read[1].values[i], size);
        view.offset += begin * view.strides[axis];
        view.shape.dimensions[axis] = end > begin ? end - begin : 0;
    }
    return fits ? copy_view(folding->graph, folding->tensor, &view, ret_tensor, folding->error)
                : onnx_refuse(folding->node, folding->error, "starts, ends, axes or steps that are not understood");
}

/* Two tensors, the second one behind the first along an axis. */
static enum status join(struct folding *folding, const struct foreign_tensor *first,
                        const struct foreign_tensor *second, int axis, const struct foreign_tensor **ret_tensor)
{
    struct shape shape = first->shape;
    unsigned char *data = NULL;
    bool fits = first->dtype == second->dtype && first->shape.rank == second->shape.rank;
    for (int d = 0; fits && d < shape.rank; d++) {
        fits = d == axis || shape.dimensions[d] == second->shape.dimensions[d];
    }
    if (!fits) {
        return onnx_refuse(folding->node, folding->error, "tensors that do not fit together");
    }
    shape.dimensions[axis] += second->shape.dimensions[axis];
    struct foreign_tensor *made = make_tensor(folding->graph, first, &shape, &data, folding->error);
    if (made == NULL) {
        return folding->error->status;
    }
    size_t blocks = 1;
    size_t inner = dtype_bytes(first->dtype);
    for (int d = 0; d < shape.rank; d++) {
        blocks *= d < axis ? (size_t)shape.dimensions[d] : 1;
        inner *= d > axis ? (size_t)shape.dimensions[d] : 1;
    }
    size_t first_bytes = inner * (size_t)first->shape.dimensions[axis];
    size_t second_bytes = inner * (size_t)second->shape.dimensions[axis];
    for (size_t i = 0; i < blocks; i++) {
        memcpy(data, first->data + i * first_bytes, first_bytes);
        memcpy(data + first_bytes, second->data + i * second_bytes, second_bytes);
        data += first_bytes + second_bytes;
    }
    *ret_tensor = made;
    return STATUS_OK;
}

static enum status fold_concat(struct folding *folding, const struct foreign_tensor **ret_tensor)
{
    const struct foreign_tensor *joined = folding->tensor;
    int axis = 0;
    if (!find_axis(onnx_integer(folding->node, "axis", 0), joined->shape.rank, &axis)) {
        return onnx_refuse(folding->node, folding->error, "its axis is none of %d", joined->shape.rank);
    }
    for (size_t i = 1; i < folding->node->n_input; i++) {
        const struct foreign_tensor *next = NULL;
        TRY(fold(folding->graph, folding->node->input[i], folding->depth, &next, folding->error));
        if (next == NULL) {
            *ret_tensor = NULL;
            return STATUS_OK;
        }
        if (is_empty(next)) {
            return onnx_refuse(folding->node, folding->error, "its input %zu has no elements", i);
        }
        TRY(join(folding, joined, next, axis, &joined));
    }
    *ret_tensor = joined;
    return STATUS_OK;
}

static const struct {
    const char *op;
    enum status (*fold)(struct folding *folding, const struct foreign_tensor **ret_tensor);
} operations[] = {
    {"Identity", fold_as_it_is},   {"Cast", fold_cast},       {"Transpose", fold_transpose}, {"Squeeze", fold_squeeze},
    {"Unsqueeze", fold_unsqueeze}, {"Reshape", fold_reshape}, {"Slice", fold_slice},         {"Concat", fold_concat},
};
enum { OPERATION_COUNT = sizeof operations / sizeof *operations };

static enum status fold(struct onnx_graph *graph, const char *name, size_t depth,
                        const struct foreign_tensor **ret_tensor, struct error *error)
{
    const struct foreign_tensor *tensor = onnx_find_tensor(graph, name);
    const struct onnx_output *output = tensor == NULL ? onnx_find_output(graph, name) : NULL;
    size_t at = 0;
    *ret_tensor = tensor;
    while (output != NULL && at < OPERATION_COUNT && !onnx_is(output->node, operations[at].op)) {
        at++;
    }
    if (output == NULL || at == OPERATION_COUNT || onnx_input(output->node, 0) == NULL) {
        return STATUS_OK;
    }
    if (depth >= DEPTH_MAX || ++graph->steps > STEPS_MAX) {
        return onnx_refuse(output->node, error, "constants made in more than %d steps, or one after %d others",
                           STEPS_MAX, DEPTH_MAX);
    }
    struct folding folding = {.graph = graph, .node = output->node, .depth = depth + 1, .error = error};
    TRY(fold(graph, onnx_input(output->node, 0), depth + 1, &folding.tensor, error));
    if (folding.tensor == NULL) {
        return STATUS_OK;
    }
    return is_empty(folding.tensor) ? onnx_refuse(output->node, error, "its input has no elements")
                                    : operations[at].fold(&folding, ret_tensor);
}

enum status onnx_fold(struct onnx_graph *graph, const char *name, const struct foreign_tensor **ret_tensor,
                      struct error *error)
{
    return fold(graph, name, 0, ret_tensor, error);
}

enum status onnx_fold_input(struct onnx_graph *graph, const Onnx__NodeProto *node, size_t index, const char *what,
                            const struct foreign_tensor **ret_tensor, struct error *error)
{
    const char *name = onnx_input(node, index);
    *ret_tensor = NULL;
    if (name != NULL) {
        TRY(onnx_fold(graph, name, ret_tensor, error));
    }
    return *ret_tensor != NULL ? STATUS_OK : onnx_refuse(node, error, "its %s is no constant of the file", what);
}

size_t onnx_element_count(const struct foreign_tensor *tensor)
{
    size_t count = 0;
    return shape_element_count(&tensor->shape, &count) ? count : 0;
}

bool onnx_holds_only(const struct foreign_tensor *tensor, double number)
{
    for (size_t i = 0; i < onnx_element_count(tensor); i++) {
        double one = foreign_number(tensor, i);
        if (!(one >= number && one <= number)) {
            return false;
        }
    }
    return true;
}

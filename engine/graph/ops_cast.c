/* Cast: between any two dtypes, as C converts; a float out of a whole number's range goes to the range's end (NaN: 0),
 * where C leaves it undefined. Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/graph/op_rules.h"

static enum status infer_cast(struct inference *inference, struct error *error)
{
    const struct attribute *dtype = node_attribute(inference->node, "DstT");
    if (dtype == NULL || dtype->kind != ATTRIBUTE_DTYPE) {
        return error_set(error, STATUS_INVALID, "'%s' (op: 'Cast') has no dtype DstT", inference->node->name);
    }
    return op_one_output(inference, dtype->dtype, &inference->inputs[0].shape);
}

/* Whole numbers lose their upper bits. */
static int64_t cut(enum dtype dtype, int64_t integer)
{
    switch (dtype) {
    case DTYPE_INT8: return (int8_t)integer;
    case DTYPE_UINT8: return (uint8_t)integer;
    case DTYPE_INT16: return (int16_t)integer;
    case DTYPE_UINT16: return (uint16_t)integer;
    case DTYPE_INT32: return (int32_t)integer;
    case DTYPE_INT64: return integer;
    case DTYPE_FLOAT32:
    case DTYPE_FLOAT64:
    case DTYPE_BOOL:
    case DTYPE_FLOAT16:
    case DTYPE_COMPLEX64:
    case DTYPE_COUNT: break;
    }
    CHECK(false);
    return 0;
}

static void cast_any(size_t count, const struct tensor *from, struct tensor *to)
{
    bool is_whole = dtype_is_integer(from->dtype) && dtype_is_integer(to->dtype);
    for (size_t i = 0; i < count; i++) {
        if (is_whole) {
            tensor_set_integer(to, i, cut(to->dtype, tensor_integer(from, i)));
        } else {
            tensor_set_number(to, i, tensor_number(from, i));
        }
    }
}

#define CAST_LOOP(FROM, TO)                                                                                            \
    for (size_t i = 0; i < count; i++) {                                                                               \
        ((TO *)to->data)[i] = (TO)((const FROM *)from->data)[i];                                                       \
    }

/* The pairs that graphs are full of, in loops of their own. */
static enum status compute_cast(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *from = &run->inputs[0];
    struct tensor *to = &run->outputs[0];
    size_t count = tensor_element_count(to);
    if (from->dtype == to->dtype) {
        memcpy(to->data, from->data, tensor_bytes(to));
    } else if (from->dtype == DTYPE_BOOL && to->dtype == DTYPE_FLOAT32) {
        CAST_LOOP(bool, float)
    } else if (from->dtype == DTYPE_INT32 && to->dtype == DTYPE_FLOAT32) {
        CAST_LOOP(int32_t, float)
    } else if (from->dtype == DTYPE_INT64 && to->dtype == DTYPE_FLOAT32) {
        CAST_LOOP(int64_t, float)
    } else if (from->dtype == DTYPE_INT64 && to->dtype == DTYPE_INT32) {
        CAST_LOOP(int64_t, int32_t)
    } else if (from->dtype == DTYPE_INT32 && to->dtype == DTYPE_INT64) {
        CAST_LOOP(int32_t, int64_t)
    } else if (from->dtype == DTYPE_FLOAT64 && to->dtype == DTYPE_FLOAT32) {
        CAST_LOOP(double, float)
    } else if (from->dtype == DTYPE_FLOAT32 && to->dtype == DTYPE_FLOAT64) {
        CAST_LOOP(float, double)
    } else {
        cast_any(count, from, to);
    }
    return STATUS_OK;
}

static enum status gradient_cast(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    enum dtype from = output_type(node->inputs[0])->dtype;
    if (!dtype_is_float(from) || !dtype_is_float(node->outputs[0].dtype)) {
        return op_gradient_none(graph, node, gradients, ret, error);
    }
    struct attribute back = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = from};
    struct node_options options = {.inputs = gradients, .input_count = 1, .attributes = &back, .attribute_count = 1};
    struct node *cast = NULL;
    TRY(graph_add_node(graph, "Cast", &options, &cast, error));
    ret[0] = (struct output){cast, 0};
    return STATUS_OK;
}

const struct op op_cast = {
    .name = "Cast", .input_count = 1, .infer = infer_cast, .compute = compute_cast, .gradient = gradient_cast};

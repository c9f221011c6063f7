/* Ops that tell of shapes: Shape, Size, Rank. Thread: see op.h. They read no values, so what is known of a shape is
 * known of their results (constants.h). */
#include "engine/base/check.h"
#include "engine/graph/op.h"

static enum status gradient_none(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    (void)graph;
    (void)node;
    (void)gradients;
    (void)ret;
    (void)error;
    return STATUS_OK;
}

static const struct attribute_rule out_type[] = {
    {.name = "out_type", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_INT32},
    {.name = NULL},
};

static enum status whole_number_output(struct inference *inference, const struct shape *shape, struct error *error)
{
    const struct attribute *type = node_attribute(inference->node, "out_type");
    enum dtype dtype = type == NULL ? DTYPE_INT32 : type->dtype;
    if (dtype != DTYPE_INT32 && dtype != DTYPE_INT64) {
        error_set(error, STATUS_INVALID,
                  "Value for attr 'out_type' of %s is not in the list of allowed values: int32, int64",
                  dtype_cpp_name(dtype));
        return error_type(error, "TypeError"), STATUS_INVALID;
    }
    inference->outputs[0] = (struct output_type){dtype, *shape};
    inference->output_count = 1;
    return STATUS_OK;
}

static void set_whole_number(struct tensor *tensor, size_t index, int64_t value)
{
    if (tensor->dtype == DTYPE_INT64) {
        ((int64_t *)tensor->data)[index] = value;
    } else {
        ((int32_t *)tensor->data)[index] = (int32_t)value;
    }
}

/* ---- Shape: x → its dimensions ---- */

static enum status infer_shape(struct inference *inference, struct error *error)
{
    int rank = inference->inputs[0].shape.rank;
    struct shape shape = shape_vector(rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : rank);
    return whole_number_output(inference, &shape, error);
}

static enum status compute_shape(const struct op_run *run, struct error *error)
{
    const struct shape *shape = &run->inputs[0].shape;
    for (int i = 0; i < shape->rank; i++) {
        if (run->outputs[0].dtype == DTYPE_INT32 && shape->dimensions[i] > INT32_MAX) {
            return op_run_error(run, error, "Shape output type is 32-bit  but dim %d is %lld", i,
                                (long long)shape->dimensions[i]);
        }
        set_whole_number(&run->outputs[0], (size_t)i, shape->dimensions[i]);
    }
    return STATUS_OK;
}

const struct op op_shape = {.name = "Shape",
                            .input_count = 1,
                            .flags = OP_OF_SHAPE,
                            .infer = infer_shape,
                            .compute = compute_shape,
                            .gradient = gradient_none,
                            .call = "shape",
                            .arguments = "input",
                            .argument_types = "T",
                            .attributes = out_type};

/* ---- Size: x → how many elements; Rank: x → how many dimensions ---- */

static enum status infer_size(struct inference *inference, struct error *error)
{
    struct shape scalar = shape_scalar();
    return whole_number_output(inference, &scalar, error);
}

static enum status compute_size(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    if (run->outputs[0].dtype == DTYPE_INT32 && count > INT32_MAX) {
        return op_run_error(run, error, "Number of elements was larger than representable by 32-bit output type");
    }
    set_whole_number(&run->outputs[0], 0, (int64_t)count);
    return STATUS_OK;
}

const struct op op_size = {.name = "Size",
                           .input_count = 1,
                           .flags = OP_OF_SHAPE,
                           .infer = infer_size,
                           .compute = compute_size,
                           .gradient = gradient_none,
                           .call = "size",
                           .arguments = "input",
                           .argument_types = "T",
                           .attributes = out_type};

static enum status compute_rank(const struct op_run *run, struct error *error)
{
    (void)error;
    set_whole_number(&run->outputs[0], 0, run->inputs[0].shape.rank);
    return STATUS_OK;
}

const struct op op_rank = {.name = "Rank",
                           .input_count = 1,
                           .flags = OP_OF_SHAPE,
                           .infer = infer_size,
                           .compute = compute_rank,
                           .gradient = gradient_none,
                           .call = "rank",
                           .arguments = "input",
                           .argument_types = "T"};

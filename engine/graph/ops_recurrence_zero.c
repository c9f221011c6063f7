/* ZeroState: a cell's zero_state. Thread: see op.h.
 *
 * Input: the batch as a scalar of whole numbers, or any tensor that has the batch as its dimension `batch_dimension`.
 * Attributes units (the columns), dtype (float32). Output [batch, units], all zero. */
#include "engine/graph/constants.h"
#include "engine/graph/op_rules.h"

static enum status infer_zero_state(struct inference *inference, struct error *error)
{
    const struct node *node = inference->node;
    const struct output_type *input = &inference->inputs[0];
    const struct attribute *dtype = node_attribute(node, "dtype");
    int64_t dimension = node_attribute_integer(node, "batch_dimension", 0);
    int64_t batch = DIMENSION_UNKNOWN;
    if (input->shape.rank == 0 && (input->dtype == DTYPE_INT32 || input->dtype == DTYPE_INT64)) {
        batch = inference->constants[0] == NULL ? DIMENSION_UNKNOWN : tensor_integer(inference->constants[0], 0);
        if (inference->constants[0] != NULL && (batch < 0 || batch > INT32_MAX)) {
            return op_shape_error(inference, error, "Dimension %lld must be >= 0 and < 2147483648", (long long)batch);
        }
    } else if (input->shape.rank != SHAPE_RANK_UNKNOWN) {
        if (dimension < 0 || dimension >= input->shape.rank) {
            return op_shape_error(inference, error, "A tensor of rank %d has no batch", input->shape.rank);
        }
        batch = input->shape.dimensions[dimension];
    }
    struct shape shape = shape_matrix(batch, node_attribute_integer(node, "units", 0));
    inference->outputs[0] = (struct output_type){dtype == NULL ? DTYPE_FLOAT32 : dtype->dtype, shape};
    inference->output_count = 1;
    return STATUS_OK;
}

static enum status compute_zero_state(const struct op_run *run, struct error *error)
{
    (void)error;
    memset(run->outputs[0].data, 0, tensor_bytes(&run->outputs[0]));
    return STATUS_OK;
}

const struct op op_zero_state = {.name = "ZeroState",
                                 .input_count = 1,
                                 .infer = infer_zero_state,
                                 .compute = compute_zero_state,
                                 .gradient = op_gradient_none};

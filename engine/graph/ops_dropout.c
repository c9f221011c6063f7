/* Dropout: x, keep_probability → x · mask / keep, the mask keyed by the run and the node's seed. TensorFlow's Python
 * function composes this of a random tensor; as one op its gradient makes the same mask again instead of keeping it.
 * float32, float64. Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/base/rng.h"
#include "engine/graph/op_rules.h"

static enum status infer_dropout(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "x", TYPES_FLOAT, error));
    TRY(op_check_same_type(inference, 1, "keep_prob", 0, "x", error));
    TRY(op_expect(inference, 1, inference->inputs[0].dtype, 0, error));
    return op_infer_same(inference, error);
}

/* Forward and backward are the same linear map, with the mask made again from the same counters. */
static enum status compute_dropout(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    bool is_float32 = run->inputs[0].dtype == DTYPE_FLOAT32;
    double keep = tensor_number(&run->inputs[1], 0);
    if (!(keep > 0 && keep <= 1)) {
        return op_run_error(run, error, "keep_prob must be a scalar tensor or a float in the range (0, 1], got %g",
                            keep);
    }
    if (keep == 1) {
        memcpy(run->outputs[0].data, run->inputs[0].data, tensor_bytes(&run->inputs[0]));
        return STATUS_OK;
    }
    uint64_t stream = op_random_stream(run);
    uint32_t threshold = (uint32_t)(keep * 16777216.0);
    float factor = 1.0f / (float)keep;
    for (size_t i = 0; i < count; i += 4) {
        struct rng_words words = rng_philox(run->random_key, stream, i / 4);
        for (size_t lane = 0; lane < 4 && i + lane < count; lane++) {
            bool is_kept = (words.word[lane] >> 8) < threshold;
            if (is_float32) {
                const float *from = run->inputs[0].data;
                ((float *)run->outputs[0].data)[i + lane] = is_kept ? from[i + lane] * factor : 0.0f;
            } else {
                const double *from = run->inputs[0].data;
                ((double *)run->outputs[0].data)[i + lane] = is_kept ? from[i + lane] / keep : 0.0;
            }
        }
    }
    return STATUS_OK;
}

/* The same map of the gradient, under the same seed. */
static enum status gradient_dropout(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[1]};
    int64_t said = node_attribute_integer(node, "seed", -1);
    struct attribute seed = {
        .name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = said >= 0 ? said : (int64_t)(rng_key(node->name) >> 1)};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = &seed, .attribute_count = 1};
    struct node *grad = NULL;
    TRY(graph_add_node(graph, "DropoutGrad", &options, &grad, error));
    ret[0] = (struct output){grad, 0};
    return STATUS_OK;
}

const struct op op_dropout = {.name = "Dropout",
                              .input_count = 2,
                              .flags = OP_RANDOM,
                              .infer = infer_dropout,
                              .compute = compute_dropout,
                              .gradient = gradient_dropout};
const struct op op_dropout_grad = {.name = "DropoutGrad",
                                   .input_count = 2,
                                   .flags = OP_RANDOM,
                                   .infer = infer_dropout,
                                   .compute = compute_dropout,
                                   .gradient = gradient_dropout};

/* Dropout: x, keep_probability → x · mask / keep, the mask keyed by the run and the node's seed. TensorFlow's Python
 * function composes this of a random tensor; as one op its gradient makes the same mask again instead of keeping it.
 * With the attribute one_mask a sequence has one mask (Gal & Ghahramani 2016): the first dimension of an x of rank 3 is
 * time, and so are the turns of a loop. float32, float64. Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/base/rng.h"
#include "engine/graph/op_rules.h"
#include "engine/math/pointwise.h"

static enum status infer_dropout(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "x", TYPES_FLOAT, error));
    TRY(op_check_same_type(inference, 1, "keep_prob", 0, "x", error));
    TRY(op_expect(inference, 1, inference->inputs[0].dtype, 0, error));
    return op_infer_same(inference, error);
}

/* Elements from `begin` to `begin` + `count`, by counters from 0. */
static void drop(const struct op_run *run, uint64_t key, double keep, size_t begin, size_t count)
{
    struct dropout_draw draw = {.seed = key,
                                .stream = op_random_stream(run),
                                .kept_below = (uint32_t)(keep * 16777216.0),
                                .factor = 1.0f / (float)keep};
    if (run->inputs[0].dtype == DTYPE_FLOAT32) {
        pointwise()->dropout(count, &draw, (const float *)run->inputs[0].data + begin,
                             (float *)run->outputs[0].data + begin);
        return;
    }
    const double *from = (const double *)run->inputs[0].data + begin;
    double *to = (double *)run->outputs[0].data + begin;
    for (size_t i = 0; i < count; i++) {
        struct rng_words words = rng_philox(draw.seed, draw.stream, i / 4);
        to[i] = words.word[i % 4] >> 8 < draw.kept_below ? from[i] / keep : 0.0;
    }
}

/* Forward and backward are the same linear map, with the mask made again from the same counters. */
static enum status compute_dropout(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    double keep = tensor_number(&run->inputs[1], 0);
    if (!(keep > 0 && keep <= 1)) {
        return op_run_error(run, error, "keep_prob must be a scalar tensor or a float in the range (0, 1], got %g",
                            keep);
    }
    if (keep == 1) {
        memcpy(run->outputs[0].data, run->inputs[0].data, tensor_bytes(&run->inputs[0]));
        return STATUS_OK;
    }
    bool has_one_mask = node_attribute_boolean(run->node, "one_mask", false);
    const struct shape *shape = &run->inputs[0].shape;
    size_t steps = has_one_mask && shape->rank == 3 ? (size_t)shape->dimensions[0] : 1;
    for (size_t step = 0; step < steps; step++) {
        drop(run, has_one_mask ? run->loop_key : run->random_key, keep, step * (count / steps), count / steps);
    }
    return STATUS_OK;
}

/* The same map of the gradient, under the same seed. */
static enum status gradient_dropout(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[1]};
    int64_t said = node_attribute_integer(node, "seed", -1);
    struct attribute attributes[] = {
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = said >= 0 ? said : (int64_t)(rng_key(node->name) >> 1)},
        {.name = "one_mask", .kind = ATTRIBUTE_BOOLEAN, .boolean = node_attribute_boolean(node, "one_mask", false)}};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = attributes, .attribute_count = 2};
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

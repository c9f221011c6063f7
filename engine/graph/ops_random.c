/* Random ops. Element i of a result is a pure function of the run's key, the node's seed and i, with Philox and
 * arithmetic that is the same everywhere: neither thread nor machine matters. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/base/rng.h"
#include "engine/graph/constants.h"
#include "engine/graph/op_rules.h"

uint64_t op_random_stream(const struct op_run *run)
{
    int64_t seed = node_attribute_integer(run->node, "seed", -1);
    return seed >= 0 ? (uint64_t)seed : rng_key(run->node->name) >> 1;
}

/* ---- RandomUniform, RandomStandardNormal, TruncatedNormal: shape; attributes dtype, seed ---- */

static enum status check_shape_input(const struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "shape", TYPES_INTEGER, error));
    const struct shape *shape = &inference->inputs[0].shape;
    if (shape->rank != SHAPE_RANK_UNKNOWN && shape->rank != 1) {
        return op_shape_error(inference, error, "Shape must be rank 1 but is rank %d", shape->rank);
    }
    return STATUS_OK;
}

static enum status infer_random(struct inference *inference, struct error *error)
{
    const struct attribute *dtype = node_attribute(inference->node, "dtype");
    enum dtype made = dtype == NULL ? DTYPE_FLOAT32 : dtype->dtype;
    TRY(check_shape_input(inference, error));
    if (made != DTYPE_FLOAT32 && made != DTYPE_FLOAT64) {
        return error_raise(
            error, STATUS_INVALID, EXCEPTION_TYPE,
            "Value passed to parameter 'dtype' has DataType %s not in list of allowed values: float32, float64",
            dtype_name(made));
    }
    inference->outputs[0] = (struct output_type){made, constants_as_shape(inference, 0)};
    inference->output_count = 1;
    return STATUS_OK;
}

static enum status compute_random_uniform(const struct op_run *run, struct error *error)
{
    (void)error;
    struct tensor *to = &run->outputs[0];
    uint64_t stream = op_random_stream(run);
    size_t count = tensor_element_count(to);
    if (to->dtype == DTYPE_FLOAT32) {
        rng_fill_uniform(run->random_key, stream, count, 0, 1, to->data);
        return STATUS_OK;
    }
    for (size_t i = 0; i < count; i++) {
        ((double *)to->data)[i] = rng_uniform(run->random_key, stream, i);
    }
    return STATUS_OK;
}

static enum status fill_with(const struct op_run *run, double (*draw)(uint64_t, uint64_t, uint64_t))
{
    struct tensor *to = &run->outputs[0];
    uint64_t stream = op_random_stream(run);
    size_t count = tensor_element_count(to);
    for (size_t i = 0; i < count; i++) {
        double number = draw(run->random_key, stream, i);
        if (to->dtype == DTYPE_FLOAT32) {
            ((float *)to->data)[i] = (float)number;
        } else {
            ((double *)to->data)[i] = number;
        }
    }
    return STATUS_OK;
}

static enum status compute_random_normal(const struct op_run *run, struct error *error)
{
    (void)error;
    return fill_with(run, rng_normal);
}

static enum status compute_truncated_normal(const struct op_run *run, struct error *error)
{
    (void)error;
    return fill_with(run, rng_truncated_normal);
}

const struct op op_random_uniform = {.name = "RandomUniform",
                                     .input_count = 1,
                                     .flags = OP_RANDOM | OP_SEEDED,
                                     .infer = infer_random,
                                     .compute = compute_random_uniform,
                                     .gradient = op_gradient_none};
const struct op op_random_normal = {.name = "RandomStandardNormal",
                                    .input_count = 1,
                                    .flags = OP_RANDOM | OP_SEEDED,
                                    .infer = infer_random,
                                    .compute = compute_random_normal,
                                    .gradient = op_gradient_none};
const struct op op_truncated_normal = {.name = "TruncatedNormal",
                                       .input_count = 1,
                                       .flags = OP_RANDOM | OP_SEEDED,
                                       .infer = infer_random,
                                       .compute = compute_truncated_normal,
                                       .gradient = op_gradient_none};

/* ---- RandomUniformInt: shape, minval, maxval → whole numbers in [minval, maxval) ---- */

static enum status infer_random_uniform_int(struct inference *inference, struct error *error)
{
    TRY(check_shape_input(inference, error));
    enum dtype dtype = inference->inputs[1].dtype;
    TRY(op_check_type(inference, 1, "minval", TYPES_INTEGER, error));
    TRY(op_check_same_type(inference, 2, "maxval", 1, "minval", error));
    TRY(op_expect(inference, 1, dtype, 0, error));
    TRY(op_expect(inference, 2, dtype, 0, error));
    inference->outputs[0] = (struct output_type){dtype, constants_as_shape(inference, 0)};
    inference->output_count = 1;
    return STATUS_OK;
}

static enum status compute_random_uniform_int(const struct op_run *run, struct error *error)
{
    struct tensor *to = &run->outputs[0];
    int64_t least = tensor_integer(&run->inputs[1], 0);
    int64_t limit = tensor_integer(&run->inputs[2], 0);
    uint64_t stream = op_random_stream(run);
    size_t count = tensor_element_count(to);
    if (count > 0 && least >= limit) {
        return op_run_error(run, error, "Need minval < maxval, got %lld >= %lld", (long long)least, (long long)limit);
    }
    uint64_t span = (uint64_t)limit - (uint64_t)least;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = (uint64_t)least + rng_bits(run->random_key, stream, i) % span;
        tensor_set_integer(to, i, (int64_t)number);
    }
    return STATUS_OK;
}

const struct op op_random_uniform_int = {.name = "RandomUniformInt",
                                         .input_count = 3,
                                         .flags = OP_RANDOM | OP_SEEDED,
                                         .infer = infer_random_uniform_int,
                                         .compute = compute_random_uniform_int,
                                         .gradient = op_gradient_none};

/* ---- Multinomial: logits [batch, classes], num_samples → classes drawn [batch, num_samples] ---- */

static enum status infer_multinomial(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "logits", TYPES_FLOAT, error));
    TRY(op_expect(inference, 0, inference->inputs[0].dtype, 2, error));
    TRY(op_expect(inference, 1, DTYPE_INT32, 0, error));
    const struct attribute *made = node_attribute(inference->node, "output_dtype");
    enum dtype result = made == NULL ? DTYPE_INT64 : made->dtype;
    if (result != DTYPE_INT32 && result != DTYPE_INT64) {
        return error_raise(
            error, STATUS_INVALID, EXCEPTION_TYPE,
            "Value passed to parameter 'output_dtype' has DataType %s not in list of allowed values: int32, int64",
            dtype_name(result));
    }
    const struct shape *logits = &inference->inputs[0].shape;
    const struct tensor *samples = inference->constants[1];
    int64_t count = samples == NULL ? DIMENSION_UNKNOWN : tensor_integer(samples, 0);
    if (samples != NULL && count < 0) {
        return op_shape_error(inference, error, "num_samples should be nonnegative, got %lld", (long long)count);
    }
    int64_t rows = logits->rank == 2 ? logits->dimensions[0] : DIMENSION_UNKNOWN;
    inference->outputs[0] = (struct output_type){result, shape_matrix(rows, count)};
    inference->output_count = 1;
    return STATUS_OK;
}

static size_t multinomial_scratch(const struct inference *inference)
{
    const struct shape *logits = &inference->inputs[0].shape;
    return (size_t)logits->dimensions[1] * sizeof(double);
}

/* Fills `sums` with running sums of exp(logit − greatest); logits that are not finite have no chance. Returns the
 * last. */
static double sum_up(const struct tensor *logits, size_t row, size_t classes, double *sums)
{
    double greatest = -HUGE_VAL;
    for (size_t i = 0; i < classes; i++) {
        double logit = tensor_number(logits, row * classes + i);
        greatest = isfinite(logit) && logit > greatest ? logit : greatest;
    }
    double sum = 0;
    for (size_t i = 0; i < classes; i++) {
        double logit = tensor_number(logits, row * classes + i);
        sum += isfinite(logit) ? exp(logit - greatest) : 0;
        sums[i] = sum;
    }
    return sum;
}

/* The first class whose running sum exceeds `target`. */
static size_t find_class(const double *sums, size_t classes, double target)
{
    size_t low = 0;
    size_t high = classes - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sums[middle] > target) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static enum status compute_multinomial(const struct op_run *run, struct error *error)
{
    struct tensor *to = &run->outputs[0];
    size_t rows = (size_t)to->shape.dimensions[0];
    size_t samples = (size_t)to->shape.dimensions[1];
    size_t classes = (size_t)run->inputs[0].shape.dimensions[1];
    uint64_t stream = op_random_stream(run);
    double *sums = run->scratch;
    if (classes == 0 && rows * samples > 0) {
        return op_run_error(run, error, "num_classes should be positive, got 0");
    }
    for (size_t row = 0; row < rows; row++) {
        double total = sum_up(&run->inputs[0], row, classes, sums);
        for (size_t i = 0; i < samples; i++) {
            double target = rng_uniform(run->random_key, stream, row * samples + i) * total;
            tensor_set_integer(to, row * samples + i, (int64_t)find_class(sums, classes, target));
        }
    }
    return STATUS_OK;
}

const struct op op_multinomial = {.name = "Multinomial",
                                  .input_count = 2,
                                  .flags = OP_RANDOM | OP_SEEDED,
                                  .infer = infer_multinomial,
                                  .compute = compute_multinomial,
                                  .scratch_bytes = multinomial_scratch,
                                  .gradient = op_gradient_none};

/* ---- RandomShuffle: the slices along dimension 0 in another order ---- */

/* Fisher and Yates: at each place, one of the slices that are left. */
static enum status compute_random_shuffle(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *from = &run->inputs[0];
    size_t count = from->shape.rank == 0 ? 1 : (size_t)from->shape.dimensions[0];
    size_t bytes = count == 0 ? 0 : tensor_bytes(from) / count;
    char *to = run->outputs[0].data;
    uint64_t stream = op_random_stream(run);
    memcpy(to, from->data, count * bytes);
    for (size_t i = 0; i + 1 < count; i++) {
        size_t other = i + (size_t)(rng_bits(run->random_key, stream, i) % (count - i));
        for (size_t k = 0; other != i && k < bytes; k++) {
            char swapped = to[i * bytes + k];
            to[i * bytes + k] = to[other * bytes + k];
            to[other * bytes + k] = swapped;
        }
    }
    return STATUS_OK;
}

static const struct attribute_rule shuffle_attributes[] = {{.name = "seed", .kind = ATTRIBUTE_INTEGER, .otherwise = -1},
                                                           {0}};

const struct op op_random_shuffle = {.name = "RandomShuffle",
                                     .input_count = 1,
                                     .flags = OP_RANDOM | OP_SEEDED,
                                     .infer = op_infer_same,
                                     .compute = compute_random_shuffle,
                                     .call = "random_shuffle|shuffle",
                                     .arguments = "value",
                                     .argument_types = "A",
                                     .attributes = shuffle_attributes};

/* What variables begin with: constants, random numbers, orthogonal matrices. Attributes: dtype, shape, and those
 * named below. Thread: see op.h.
 *
 * Random numbers are a pure function of the run's key, the node's seed (its variable's name) and the element's
 * place, so neither order nor thread changes them. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/base/rng.h"
#include "engine/graph/op_rules.h"

static enum status infer_initial(struct inference *inference, struct error *error)
{
    const struct attribute *dtype = node_attribute(inference->node, "dtype");
    const struct attribute *shape = node_attribute(inference->node, "shape");
    (void)error;
    CHECK(dtype != NULL && shape != NULL);
    inference->outputs[0] = (struct output_type){dtype->dtype, shape->shape};
    inference->output_count = 1;
    return STATUS_OK;
}

#define INITIAL_OP(ROW, NAME, FLAGS, COMPUTE, SCRATCH_BYTES)                                                           \
    const struct op ROW = {.name = NAME,                                                                               \
                           .flags = FLAGS,                                                                             \
                           .infer = infer_initial,                                                                     \
                           .compute = COMPUTE,                                                                         \
                           .gradient = op_gradient_none,                                                               \
                           .scratch_bytes = SCRATCH_BYTES};

/* ---- ConstantInitializer: `values` in order, the last one repeated ---- */

static enum status compute_constant(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *values = &node_attribute(run->node, "values")->tensor;
    struct tensor *output = &run->outputs[0];
    size_t count = tensor_element_count(output);
    size_t value_count = tensor_element_count(values);
    size_t bytes = dtype_bytes(output->dtype);
    for (size_t i = 0; i < count && value_count > 0; i++) {
        size_t from = i < value_count ? i : value_count - 1;
        memcpy((char *)output->data + i * bytes, (const char *)values->data + from * bytes, bytes);
    }
    return STATUS_OK;
}

INITIAL_OP(op_initial_constant, "ConstantInitializer", OP_PLAIN, compute_constant, NULL)

/* ---- RandomUniformInitializer: [low, high); whole numbers too ---- */

static uint64_t stream_of(const struct op_run *run)
{
    return (uint64_t)node_attribute_integer(run->node, "seed", 0);
}

static enum status compute_uniform(const struct op_run *run, struct error *error)
{
    (void)error;
    struct tensor *output = &run->outputs[0];
    size_t count = tensor_element_count(output);
    double low = node_attribute_number(run->node, "low", 0);
    double high = node_attribute_number(run->node, "high", 1);
    if (output->dtype == DTYPE_FLOAT32) {
        rng_fill_uniform(run->random_key, stream_of(run), count, (float)low, (float)high, output->data);
        return STATUS_OK;
    }
    for (size_t i = 0; i < count; i++) {
        double number = low + (high - low) * rng_uniform(run->random_key, stream_of(run), i);
        tensor_set_number(output, i, dtype_is_float(output->dtype) ? number : floor(number));
    }
    return STATUS_OK;
}

INITIAL_OP(op_initial_uniform, "RandomUniformInitializer", OP_RANDOM, compute_uniform, NULL)

/* ---- RandomNormalInitializer, TruncatedNormalInitializer: mean, deviation ---- */

enum { REDRAW_SHIFT = 40 }; /* counters of element i: i, and i + draw · 2^40 */

/* A standard normal number, by Box and Muller: √(−2 ln u) · cos 2πv with u in (0, 1], v in [0, 1). */
static double standard_normal(uint64_t key, uint64_t stream, uint64_t counter)
{
    struct rng_words words = rng_philox(key, stream, counter);
    double u = ((double)(words.word[0] >> 5) * 0x1p26 + (double)(words.word[1] >> 6) + 1) * 0x1p-53;
    double v = ((double)(words.word[2] >> 5) * 0x1p26 + (double)(words.word[3] >> 6)) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

/* Redrawn while it is further than two deviations away. */
static double truncated_normal(uint64_t key, uint64_t stream, uint64_t counter)
{
    double number = standard_normal(key, stream, counter);
    while (fabs(number) > 2) { /* one in 22 */
        counter += (uint64_t)1 << REDRAW_SHIFT;
        number = standard_normal(key, stream, counter);
    }
    return number;
}

static enum status draw(const struct op_run *run, double (*number)(uint64_t key, uint64_t stream, uint64_t counter))
{
    size_t count = tensor_element_count(&run->outputs[0]);
    double mean = node_attribute_number(run->node, "mean", 0);
    double deviation = node_attribute_number(run->node, "deviation", 1);
    for (size_t i = 0; i < count; i++) {
        tensor_set_number(&run->outputs[0], i, mean + deviation * number(run->random_key, stream_of(run), i));
    }
    return STATUS_OK;
}

static enum status compute_normal(const struct op_run *run, struct error *error)
{
    (void)error;
    return draw(run, standard_normal);
}

static enum status compute_truncated_normal(const struct op_run *run, struct error *error)
{
    (void)error;
    return draw(run, truncated_normal);
}

INITIAL_OP(op_initial_normal, "RandomNormalInitializer", OP_RANDOM, compute_normal, NULL)
INITIAL_OP(op_initial_truncated_normal, "TruncatedNormalInitializer", OP_RANDOM, compute_truncated_normal, NULL)

/* ---- OrthogonalInitializer: gain · Q of the QR decomposition of normal numbers, R's diagonal positive; leading
 * dimensions are rows. Of a matrix wider than high, the rows are orthonormal, else the columns. ---- */

/* How many orthonormal vectors of which length: the shorter side is many, the longer long. */
static void orthogonal_sizes(const struct shape *shape, size_t *ret_vectors, size_t *ret_length, bool *ret_is_wide)
{
    size_t rows = 1;
    size_t columns = (size_t)shape->dimensions[shape->rank - 1];
    for (int i = 0; i + 1 < shape->rank; i++) {
        rows *= (size_t)shape->dimensions[i];
    }
    *ret_is_wide = rows < columns;
    *ret_vectors = rows < columns ? rows : columns;
    *ret_length = rows < columns ? columns : rows;
}

static size_t orthogonal_scratch_bytes(const struct inference *inference)
{
    size_t count = 0;
    bool is_known = shape_element_count(&inference->outputs[0].shape, &count);
    CHECK(is_known); /* the plan refused it otherwise */
    return count * sizeof(double);
}

static double dot(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* Gram and Schmidt's, each vector made orthogonal to those before it twice, which is enough. */
static void orthonormalize(double *vectors, size_t vector_count, size_t length)
{
    for (size_t v = 0; v < vector_count; v++) {
        double *vector = vectors + v * length;
        for (size_t other = 0; other < 2 * v; other++) {
            const double *before = vectors + other % v * length;
            double along = dot(vector, before, length);
            for (size_t i = 0; i < length; i++) {
                vector[i] -= along * before[i];
            }
        }
        double norm = sqrt(dot(vector, vector, length));
        for (size_t i = 0; i < length; i++) {
            vector[i] /= norm;
        }
    }
}

static enum status compute_orthogonal(const struct op_run *run, struct error *error)
{
    (void)error;
    struct tensor *output = &run->outputs[0];
    double *vectors = run->scratch;
    double gain = node_attribute_number(run->node, "gain", 1);
    size_t vector_count = 0;
    size_t length = 0;
    bool is_wide = false;
    orthogonal_sizes(&output->shape, &vector_count, &length, &is_wide);
    for (size_t i = 0; i < vector_count * length; i++) {
        vectors[i] = standard_normal(run->random_key, stream_of(run), i);
    }
    orthonormalize(vectors, vector_count, length);
    for (size_t v = 0; v < vector_count; v++) {
        for (size_t i = 0; i < length; i++) {
            tensor_set_number(output, is_wide ? v * length + i : i * vector_count + v, gain * vectors[v * length + i]);
        }
    }
    return STATUS_OK;
}

INITIAL_OP(op_initial_orthogonal, "OrthogonalInitializer", OP_RANDOM, compute_orthogonal, orthogonal_scratch_bytes)

/* Packing weights for the recurrent kernels, and choosing the kernels by the CPU's flags. Thread: any; no state. */
#include "engine/math/rnn_packed.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/math/rnn_packed_sets.h"

#if defined(__x86_64__)
static bool cpu_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
}

static bool cpu_has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

static bool cpu_has_all(void)
{
    return true;
}

static const struct {
    const struct rnn_kernels *kernels;
    bool (*is_supported)(void);
} sets[] = {
#if defined(__x86_64__)
    {&rnn_kernels_avx512, cpu_has_avx512},
    {&rnn_kernels_avx2, cpu_has_avx2},
#elif defined(__aarch64__)
    {&rnn_kernels_neon, cpu_has_all},
#endif
    {&rnn_kernels_plain, cpu_has_all},
};
enum { SET_COUNT = sizeof sets / sizeof *sets };

const struct rnn_kernels *rnn_kernels_at(size_t index)
{
    for (size_t i = 0; i < SET_COUNT; i++) {
        if (sets[i].is_supported() && index-- == 0) {
            return sets[i].kernels;
        }
    }
    return NULL;
}

const struct rnn_kernels *rnn_kernels_find(const char *name)
{
    const struct rnn_kernels *kernels = NULL;
    for (size_t i = 0; (kernels = rnn_kernels_at(i)) != NULL; i++) {
        if (name == NULL || strcmp(kernels->name, name) == 0) {
            return kernels;
        }
    }
    return NULL;
}

static size_t blocks(size_t count, size_t block)
{
    return (count + block - 1) / block;
}

enum status rnn_lstm_init(struct rnn_lstm *layer, const struct rnn_kernels *kernels, size_t input_size, size_t skipped,
                          size_t units, const float *kernel, const float *bias, float forget_bias, struct error *error)
{
    CHECK(skipped <= input_size && units > 0);
    size_t lanes = kernels->lanes;
    struct rnn_lstm made = {.input_size = input_size - skipped, .units = units, .block_count = blocks(units, lanes)};
    made.stride = made.block_count * lanes;
    size_t term_count = made.input_size + units;
    float *gates = mem_allocate(RNN_GATES * units, sizeof *gates);
    made.weights = mem_allocate_aligned(made.stride * term_count, RNN_GATES * sizeof(float));
    made.start = mem_allocate_aligned(made.stride, RNN_GATES * sizeof(float));
    if (gates == NULL || made.weights == NULL || made.start == NULL) {
        mem_free(gates);
        rnn_lstm_release(&made);
        return error_set(error, STATUS_NO_MEMORY, "no memory to pack an LSTM layer of %zu units", units);
    }
    for (size_t gate = 0; gate < RNN_GATES; gate++) {
        for (size_t unit = 0; unit < units; unit++) {
            gates[gate * units + unit] = bias[gate * units + unit] + (gate == RNN_GATE_FORGET ? forget_bias : 0.0f);
        }
    }
    rnn_lstm_pack_start(&made, kernels, gates, made.start);
    for (size_t term = 0; term < term_count; term++) {
        const float *from = kernel + (skipped + term) * RNN_GATES * units;
        for (size_t unit = 0; unit < units; unit++) {
            float *to = made.weights + ((unit / lanes * term_count + term) * RNN_GATES * lanes + unit % lanes);
            for (size_t gate = 0; gate < RNN_GATES; gate++) {
                to[gate * lanes] = from[gate * units + unit];
            }
        }
    }
    mem_free(gates);
    *layer = made;
    return STATUS_OK;
}

void rnn_lstm_release(struct rnn_lstm *layer)
{
    mem_free(layer->weights);
    mem_free(layer->start);
    *layer = (struct rnn_lstm){0};
}

void rnn_lstm_pack_start(const struct rnn_lstm *layer, const struct rnn_kernels *kernels, const float *gates,
                         float *start)
{
    size_t lanes = kernels->lanes;
    memset(start, 0, layer->stride * RNN_GATES * sizeof *start);
    for (size_t unit = 0; unit < layer->units; unit++) {
        for (size_t gate = 0; gate < RNN_GATES; gate++) {
            start[(unit / lanes * RNN_GATES + gate) * lanes + unit % lanes] = gates[gate * layer->units + unit];
        }
    }
}

enum status rnn_dense_init(struct rnn_dense *layer, const struct rnn_kernels *kernels, size_t input_size,
                           size_t columns, const float *weights, const float *bias, struct error *error)
{
    CHECK(input_size > 0 && columns > 0);
    size_t block_columns = RNN_GATES * kernels->lanes;
    struct rnn_dense made = {
        .input_size = input_size, .columns = columns, .block_count = blocks(columns, block_columns)};
    made.stride = made.block_count * block_columns;
    made.weights = mem_allocate_aligned(made.stride * input_size, sizeof(float));
    made.start = mem_allocate_aligned(made.stride, sizeof(float));
    if (made.weights == NULL || made.start == NULL) {
        rnn_dense_release(&made);
        return error_set(error, STATUS_NO_MEMORY, "no memory to pack an output layer of %zu × %zu", input_size,
                         columns);
    }
    memcpy(made.start, bias, columns * sizeof *bias);
    for (size_t column = 0; column < columns; column += block_columns) {
        size_t width = columns - column < block_columns ? columns - column : block_columns;
        for (size_t input = 0; input < input_size; input++) {
            memcpy(made.weights + column * input_size + input * block_columns, weights + input * columns + column,
                   width * sizeof *weights);
        }
    }
    *layer = made;
    return STATUS_OK;
}

void rnn_dense_release(struct rnn_dense *layer)
{
    mem_free(layer->weights);
    mem_free(layer->start);
    *layer = (struct rnn_dense){0};
}

/* A small random model for the tests of decoding, in TensorFlow's layout, with a vocabulary for it. */
#ifndef TESTS_UNIT_DECODE_MODEL_H
#define TESTS_UNIT_DECODE_MODEL_H

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/decode/decode_plan_layout.h"
#include "tests/unit/text_vocabulary.h"

struct decode_model {
    struct decode_weights weights;
    float *values; /* all weights, one after another */
    struct vocabulary *vocabulary;
};

/* The next `count` of the model's values. */
static inline const float *decode_model_part(struct decode_model *model, size_t *used, size_t count)
{
    *used += count;
    return model->values + (*used - count);
}

/* Layers of `units` cells each; embedding_size 0: one-hot. Free with decode_model_release; takes over the vocabulary,
 * whose size is the number of symbols. */
static inline void decode_model_init_cells(struct decode_model *model, struct vocabulary *vocabulary,
                                           enum decode_cell cell, size_t embedding_size, size_t layer_count,
                                           size_t units, uint64_t seed)
{
    size_t symbols = vocabulary_size(vocabulary);
    size_t input_max = embedding_size > symbols ? embedding_size : symbols;
    input_max = units > input_max ? units : input_max;
    size_t count = symbols * (embedding_size + units + 1) + layer_count * 4 * units * (input_max + units + 1);
    *model = (struct decode_model){.vocabulary = vocabulary, .values = mem_allocate(count, sizeof(float))};
    float limit = cell == DECODE_CELL_LSTM ? 0.8f : 0.15f; /* above, these are chaotic: small errors grow */
    rng_fill_uniform(seed, 0, count, -limit, limit, model->values);
    size_t used = 0;
    struct decode_weights *weights = &model->weights;
    weights->vocabulary_size = symbols;
    weights->embedding_size = embedding_size;
    weights->embedding = embedding_size > 0 ? decode_model_part(model, &used, symbols * embedding_size) : NULL;
    weights->layer_count = layer_count;
    size_t input_size = embedding_size > 0 ? embedding_size : symbols;
    size_t columns = (cell == DECODE_CELL_LSTM ? 4 : cell == DECODE_CELL_GRU ? 2 : 1) * units;
    for (size_t i = 0; i < layer_count; i++) {
        weights->layers[i] = (struct decode_layer_weights){
            .cell = cell,
            .input_size = input_size,
            .units = units,
            .kernel = decode_model_part(model, &used, (input_size + units) * columns),
            .bias = decode_model_part(model, &used, columns),
            .forget_bias = 1.0f,
        };
        if (cell == DECODE_CELL_GRU) {
            weights->layers[i].candidate_kernel = decode_model_part(model, &used, (input_size + units) * units);
            weights->layers[i].candidate_bias = decode_model_part(model, &used, units);
        }
        input_size = units;
    }
    weights->softmax_w = decode_model_part(model, &used, units * symbols);
    weights->softmax_b = decode_model_part(model, &used, symbols);
}

/* The same of LSTM cells. */
static inline void decode_model_init(struct decode_model *model, struct vocabulary *vocabulary, size_t embedding_size,
                                     size_t layer_count, size_t units, uint64_t seed)
{
    decode_model_init_cells(model, vocabulary, DECODE_CELL_LSTM, embedding_size, layer_count, units, seed);
}

/* Feeds one symbol to one row of a packed plan. */
static inline void decode_model_step(const struct decode_plan *plan, uint32_t symbol, float *slot, unsigned parity,
                                     float *logits)
{
    assert_int_equal(decode_plan_step_alone(plan, slot, parity, symbol, logits, NULL), STATUS_OK);
}

/* Frees the weights and gives the vocabulary back; a plan made of them stays. */
static inline void decode_model_release(struct decode_model *model)
{
    vocabulary_unref(model->vocabulary);
    mem_free(model->values);
}

/* `count` (at most 90) printable characters from '!' on. */
static inline struct vocabulary *decode_model_characters(size_t count)
{
    char text[90];
    for (size_t i = 0; i < count; i++) {
        text[i] = (char)('!' + i);
    }
    struct vocabulary *vocabulary = NULL;
    struct error error;
    return text_vocabulary(text, count, &vocabulary, &error) == STATUS_OK ? vocabulary : NULL;
}

#endif

/* A small random model for the tests of decoding, in TensorFlow's layout, with a vocabulary for it. */
#ifndef TESTS_UNIT_DECODE_MODEL_H
#define TESTS_UNIT_DECODE_MODEL_H

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/decode/decode_plan.h"
#include "engine/text/vocabulary.h"

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

/* Layers of `units` each; embedding_size 0: one-hot. Free with decode_model_release; takes over the vocabulary, whose
 * size is the number of symbols. */
static inline void decode_model_init(struct decode_model *model, struct vocabulary *vocabulary, size_t embedding_size,
                                     size_t layer_count, size_t units, uint64_t seed)
{
    size_t symbols = vocabulary_size(vocabulary);
    size_t input_max = embedding_size > symbols ? embedding_size : symbols;
    input_max = units > input_max ? units : input_max;
    size_t count = symbols * (embedding_size + units + 1) + layer_count * 4 * units * (input_max + units + 1);
    *model = (struct decode_model){.vocabulary = vocabulary, .values = mem_allocate(count, sizeof(float))};
    rng_fill_uniform(seed, 0, count, -0.8f, 0.8f, model->values);
    size_t used = 0;
    struct decode_weights *weights = &model->weights;
    weights->vocabulary_size = symbols;
    weights->embedding_size = embedding_size;
    weights->embedding = embedding_size > 0 ? decode_model_part(model, &used, symbols * embedding_size) : NULL;
    weights->layer_count = layer_count;
    size_t input_size = embedding_size > 0 ? embedding_size : symbols;
    for (size_t i = 0; i < layer_count; i++) {
        weights->layers[i] = (struct decode_layer_weights){
            .input_size = input_size,
            .units = units,
            .kernel = decode_model_part(model, &used, (input_size + units) * 4 * units),
            .bias = decode_model_part(model, &used, 4 * units),
            .forget_bias = 1.0f,
        };
        input_size = units;
    }
    weights->softmax_w = decode_model_part(model, &used, units * symbols);
    weights->softmax_b = decode_model_part(model, &used, symbols);
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
    return vocabulary_create_from_text(text, count, &vocabulary, &error) == STATUS_OK ? vocabulary : NULL;
}

#endif

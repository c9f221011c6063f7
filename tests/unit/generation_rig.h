/* One generation stepped by hand, for the tests of rows: what the model would choose is said step by step. Included
 * after cmocka.h. */
#ifndef TESTS_UNIT_GENERATION_RIG_H
#define TESTS_UNIT_GENERATION_RIG_H

#include "engine/decode/decode_plan_layout.h"
#include "engine/decode/generation_row.h"
#include "tests/unit/decode_model.h"

enum { SEED = 21, TEXT_BYTES_MAX = 1 << 16, SYMBOLS_MAX = 512 };

static _Alignas(64) float logits[SYMBOLS_MAX];
static _Alignas(64) float weights[SYMBOLS_MAX];

/* A model that nobody steps, and what was read of its generation. */
struct fixture {
    struct decode_model model;
    struct decode_plan *plan;
    struct generation *generation;
    char text[TEXT_BYTES_MAX];
    size_t length;
    unsigned released_count;
};

/* Its release_lifetime. */
static inline void count_release(void *lifetime)
{
    ((struct fixture *)lifetime)->released_count++;
}

/* Makes a generation of a small model, which takes over the vocabulary; prompt NULL: symbol 0. */
static inline void begin(struct fixture *f, struct vocabulary *vocabulary, struct generation_options options)
{
    static const uint32_t first_symbol[] = {0};
    struct error error;
    *f = (struct fixture){0};
    decode_model_init(&f->model, vocabulary, 0, 1, 3, SEED);
    assert_int_equal(decode_plan_create(&f->model.weights, &f->plan, &error), STATUS_OK);
    if (options.prompt == NULL) {
        options.prompt = first_symbol;
        options.prompt_count = 1;
    }
    options.top_p = 1.0;
    options.owner = f;
    assert_int_equal(generation_create(f->plan, vocabulary, &options, f, count_release, &f->generation, &error),
                     STATUS_OK);
    assert_ptr_equal(generation_owner(f->generation), f);
}

/* Frees it all, each reference in its turn. */
static inline void end(struct fixture *f)
{
    assert_int_equal(f->released_count, 0);
    assert_null(generation_unref(generation_ref(f->generation)));
    assert_int_equal(f->released_count, 0);
    generation_unref(f->generation);
    assert_int_equal(f->released_count, 1);
    decode_plan_destroy(f->plan);
    decode_model_release(&f->model);
}

/* Adds what is readable to the text, whole characters at a time. */
static inline void read_all(struct fixture *f, size_t bytes_a_read)
{
    size_t count;
    do {
        count = generation_read(f->generation, f->text + f->length, bytes_a_read);
        f->length += count;
        assert_true(f->length + bytes_a_read < TEXT_BYTES_MAX);
        assert_int_equal(utf8_find_malformed(f->text, f->length), f->length);
    } while (count > 0);
    f->text[f->length] = '\0';
}

/* One step in which the model would choose `symbol`. */
static inline enum generation_row_state step(struct fixture *f, uint32_t symbol)
{
    bool wants_logits = generation_row_wants_logits(f->generation);
    memset(logits, 0, sizeof logits);
    logits[symbol] = 1.0f;
    generation_row_advance(f->generation, rnn_kernels_find(NULL), wants_logits ? logits : NULL, weights);
    return generation_row_settle(f->generation, 0);
}

/* A vocabulary of these symbols. */
static inline struct vocabulary *make_vocabulary(enum vocabulary_kind kind, const char *const *symbols, size_t count)
{
    size_t lengths[SYMBOLS_MAX];
    for (size_t i = 0; i < count; i++) {
        lengths[i] = strlen(symbols[i]);
    }
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create(kind, symbols, lengths, count, &vocabulary, &error), STATUS_OK);
    return vocabulary;
}

/* All 256 bytes. */
static inline struct vocabulary *make_bytes(void)
{
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create_bytes(&vocabulary, &error), STATUS_OK);
    return vocabulary;
}

#endif

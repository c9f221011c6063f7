/* Log-probabilities, step by step. Threads: one appends, one reads. */
#include "engine/decode/logprobs.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/sampler.h"

enum status logprobs_init(struct logprobs *logprobs, size_t symbol_count, size_t entry_max, size_t top_count,
                          struct error *error)
{
    CHECK(top_count <= LOGPROBS_TOP_MAX);
    struct symbol_logprob *entries = mem_allocate(entry_max > 0 ? entry_max : 1, sizeof *entries);
    float *logits = mem_allocate(symbol_count, sizeof *logits);
    if (entries == NULL || logits == NULL) {
        mem_free(entries);
        mem_free(logits);
        return error_set(error, STATUS_NO_MEMORY, "no memory for logprobs of %zu symbols", entry_max);
    }
    logprobs->entries = entries;
    logprobs->entry_max = entry_max;
    logprobs->logits = logits;
    logprobs->symbol_count = symbol_count;
    logprobs->normalizer = (double)NAN;
    logprobs->top_max = top_count < symbol_count ? top_count : symbol_count;
    return STATUS_OK;
}

void logprobs_release(struct logprobs *logprobs)
{
    mem_free(logprobs->entries);
    mem_free(logprobs->logits);
    logprobs->entries = NULL;
    logprobs->logits = NULL;
}

/* NaN while nothing is predicted. */
static float logprob_of(const struct logprobs *logprobs, uint32_t symbol)
{
    return sampler_logprob(logprobs->logits[symbol], logprobs->normalizer);
}

/* Finds the likeliest in one pass: most symbols are only compared with the last of them. */
static void find_top(struct logprobs *logprobs)
{
    uint32_t *top = logprobs->top_symbols;
    const float *logits = logprobs->logits;
    logprobs->top_count = 0;
    for (uint32_t n = 0; n < logprobs->symbol_count && logprobs->top_max > 0; n++) {
        bool is_full = logprobs->top_count == logprobs->top_max;
        if (is_full && logits[n] <= logits[top[logprobs->top_count - 1]]) {
            continue;
        }
        logprobs->top_count += !is_full;
        size_t place = logprobs->top_count - 1;
        for (; place > 0 && logits[top[place - 1]] < logits[n]; place--) {
            top[place] = top[place - 1];
        }
        top[place] = n;
    }
}

bool logprobs_predict(struct logprobs *logprobs, const struct rnn_kernels *kernels, const float *logits, float *weights)
{
    size_t count = logprobs->symbol_count;
    if (!sampler_find_normalizer(kernels, logits, weights, count, &logprobs->normalizer)) {
        return false;
    }
    memcpy(logprobs->logits, logits, count * sizeof *logits);
    find_top(logprobs);
    return true;
}

void logprobs_add(struct logprobs *logprobs, uint32_t symbol, struct text_position begin, size_t end_bytes)
{
    size_t count = atomic_load_explicit(&logprobs->entry_count, memory_order_relaxed);
    CHECK(count < logprobs->entry_max && symbol < logprobs->symbol_count);
    struct symbol_logprob *entry = &logprobs->entries[count];
    entry->symbol = symbol;
    entry->logprob = logprob_of(logprobs, symbol);
    entry->begin = begin;
    entry->end_bytes = end_bytes;
    entry->top_count = logprobs->top_count;
    for (size_t i = 0; i < logprobs->top_count; i++) {
        entry->top_symbols[i] = logprobs->top_symbols[i];
        entry->top_logprobs[i] = logprob_of(logprobs, logprobs->top_symbols[i]);
    }
    atomic_store_explicit(&logprobs->entry_count, count + 1, memory_order_release);
}

const struct symbol_logprob *logprobs_entries(const struct logprobs *logprobs, size_t *ret_count)
{
    *ret_count = atomic_load_explicit(&logprobs->entry_count, memory_order_acquire);
    return logprobs->entries;
}

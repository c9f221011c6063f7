/* Logits changed by wishes and by what was said. Thread: one at a time. Owns its lists. */
#include "engine/decode/penalties.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/mem.h"

static enum status refuse(struct error *error, const char *option)
{
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "%s", option);
    }
    return STATUS_INVALID;
}

static enum status check_number(const char *name, double value, double min, double max, struct error *error)
{
    if (value >= min && value <= max) {
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "%s is %g, not %g to %g", name, value, min, max);
    return refuse(error, name);
}

static enum status check_options(const struct penalty_options *options, size_t symbol_count, struct error *error)
{
    if (options->repetition != 0.0) {
        TRY(check_number("repetition_penalty", options->repetition, PENALTIES_REPETITION_MIN, PENALTIES_REPETITION_MAX,
                         error));
    }
    TRY(check_number("repetition_window", (double)options->repetition_window, 0, PENALTIES_WINDOW_MAX, error));
    TRY(check_number("frequency_penalty", options->frequency, -PENALTIES_TAKEN_MAX, PENALTIES_TAKEN_MAX, error));
    TRY(check_number("presence_penalty", options->presence, -PENALTIES_TAKEN_MAX, PENALTIES_TAKEN_MAX, error));
    if (options->bias_count > PENALTIES_BIASES_MAX) {
        error_set(error, STATUS_INVALID, "logit_bias names %zu symbols, at most %d", options->bias_count,
                  PENALTIES_BIASES_MAX);
        return refuse(error, "logit_bias");
    }
    for (size_t i = 0; i < options->bias_count; i++) {
        const struct penalty_bias *bias = &options->biases[i];
        if (bias->symbol >= symbol_count) {
            error_set(error, STATUS_INVALID, "logit_bias names symbol %u, but the vocabulary has %zu", bias->symbol,
                      symbol_count);
            return refuse(error, "logit_bias");
        }
        if (bias->bias != (double)-INFINITY) {
            TRY(check_number("logit_bias", bias->bias, -PENALTIES_BIAS_MAX, PENALTIES_BIAS_MAX, error));
        }
    }
    return STATUS_OK;
}

static int compare_symbols(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* Sorts the banned symbols and drops those that stand twice. */
static void tidy_banned(struct penalties *penalties)
{
    size_t count = 0;
    qsort(penalties->banned, penalties->banned_count, sizeof *penalties->banned, compare_symbols);
    for (size_t i = 0; i < penalties->banned_count; i++) {
        if (count == 0 || penalties->banned[count - 1] != penalties->banned[i]) {
            penalties->banned[count++] = penalties->banned[i];
        }
    }
    penalties->banned_count = count;
}

static enum status init_biases(struct penalties *penalties, const struct penalty_options *options, size_t symbol_count,
                               struct error *error)
{
    if (options->bias_count == 0) {
        return STATUS_OK;
    }
    penalties->biases = mem_allocate(options->bias_count, sizeof *penalties->biases);
    penalties->banned = mem_allocate(options->bias_count, sizeof *penalties->banned);
    if (penalties->biases == NULL || penalties->banned == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a logit_bias of %zu symbols", options->bias_count);
    }
    for (size_t i = 0; i < options->bias_count; i++) {
        if (isinf(options->biases[i].bias)) {
            penalties->banned[penalties->banned_count++] = options->biases[i].symbol;
        } else {
            penalties->biases[penalties->bias_count++] = options->biases[i];
        }
    }
    tidy_banned(penalties);
    if (penalties->banned_count == symbol_count) {
        error_set(error, STATUS_INVALID, "logit_bias leaves none of the %zu symbols", symbol_count);
        return refuse(error, "logit_bias");
    }
    return STATUS_OK;
}

static void add_recent(struct penalties *penalties, uint32_t symbol)
{
    size_t window = penalties->options.repetition_window;
    penalties->recent[penalties->recent_next] = symbol;
    penalties->recent_next = (penalties->recent_next + 1) % window;
    penalties->recent_count += penalties->recent_count < window;
}

static enum status init_recent(struct penalties *penalties, const uint32_t *prompt, size_t prompt_count,
                               struct error *error)
{
    size_t window = penalties->options.repetition_window;
    if (window == 0 || penalties->options.repetition == 0.0 || penalties->options.repetition == 1.0) {
        return STATUS_OK;
    }
    penalties->recent = mem_allocate(window, sizeof *penalties->recent);
    if (penalties->recent == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a repetition_window of %zu symbols", window);
    }
    for (size_t i = prompt_count > window ? prompt_count - window : 0; i < prompt_count; i++) {
        add_recent(penalties, prompt[i]);
    }
    return STATUS_OK;
}

static enum status init_made(struct penalties *penalties, size_t symbol_count, size_t tokens_max, struct error *error)
{
    if (penalties->options.frequency == 0.0 && penalties->options.presence == 0.0) {
        return STATUS_OK;
    }
    size_t made_max = tokens_max < symbol_count ? tokens_max : symbol_count;
    made_max = made_max > 0 ? made_max : 1;
    size_t place_count = 1;
    while (place_count < symbol_count && place_count < 2 * made_max) {
        place_count *= 2; /* with a place for each symbol there is nothing to search */
    }
    penalties->made = mem_allocate(made_max, sizeof *penalties->made);
    penalties->places = mem_allocate(place_count, sizeof *penalties->places);
    penalties->place_mask = place_count - 1;
    if (penalties->made == NULL || penalties->places == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the counts of %zu symbols", made_max);
    }
    return STATUS_OK;
}

enum status penalties_init(struct penalties *penalties, const struct penalty_options *options, size_t symbol_count,
                           const uint32_t *prompt, size_t prompt_count, size_t tokens_max, struct error *error)
{
    TRY(check_options(options, symbol_count, error));
    struct penalties made = {.options = *options};
    made.options.biases = NULL;
    enum status status = init_biases(&made, options, symbol_count, error);
    if (status == STATUS_OK) {
        status = init_recent(&made, prompt, prompt_count, error);
    }
    if (status == STATUS_OK) {
        status = init_made(&made, symbol_count, tokens_max, error);
    }
    if (status != STATUS_OK) {
        penalties_release(&made);
        return status;
    }
    *penalties = made;
    return STATUS_OK;
}

void penalties_release(struct penalties *penalties)
{
    mem_free(penalties->biases);
    mem_free(penalties->banned);
    mem_free(penalties->recent);
    mem_free(penalties->made);
    mem_free(penalties->places);
    *penalties = (struct penalties){0};
}

/* A finite logit, where the exact one is beyond what floats hold. */
static float bound(double logit)
{
    return (float)fmin(fmax(logit, -(double)FLT_MAX), (double)FLT_MAX);
}

bool penalties_apply(const struct penalties *penalties, const struct rnn_kernels *kernels, float *logits,
                     float *scratch, size_t count)
{
    float maximum;
    size_t change_count =
        penalties->bias_count + penalties->banned_count + penalties->recent_count + penalties->made_count;
    if (change_count > 0 && !kernels->find_maximum(logits, count, &maximum)) {
        return false;
    }
    for (size_t i = 0; i < penalties->bias_count; i++) {
        uint32_t symbol = penalties->biases[i].symbol;
        logits[symbol] = bound((double)logits[symbol] + penalties->biases[i].bias);
    }
    for (size_t i = 0; i < penalties->recent_count; i++) { /* so that what stands there twice changes once */
        scratch[penalties->recent[i]] = logits[penalties->recent[i]];
    }
    for (size_t i = 0; i < penalties->recent_count; i++) {
        double logit = (double)scratch[penalties->recent[i]];
        double penalty = penalties->options.repetition;
        logits[penalties->recent[i]] = bound(logit > 0.0 ? logit / penalty : logit * penalty);
    }
    for (size_t i = 0; i < penalties->made_count; i++) {
        const struct made_symbol *made = &penalties->made[i];
        logits[made->symbol] = bound((double)logits[made->symbol] - made->count * penalties->options.frequency -
                                     penalties->options.presence);
    }
    for (size_t i = 0; i < penalties->banned_count; i++) {
        logits[penalties->banned[i]] = -FLT_MAX;
    }
    return true;
}

/* Where a symbol's index is in `places`, or would be. */
static size_t find_place(const struct penalties *penalties, uint32_t symbol)
{
    size_t place = symbol & penalties->place_mask;
    while (penalties->places[place] != 0 && penalties->made[penalties->places[place] - 1].symbol != symbol) {
        place = (place + 1) & penalties->place_mask;
    }
    return place;
}

size_t penalties_find_made(const struct penalties *penalties, uint32_t symbol)
{
    size_t index = penalties->made == NULL ? 0 : penalties->places[find_place(penalties, symbol)];
    return index == 0 ? penalties->made_count : index - 1;
}

void penalties_count_earlier(struct penalties *penalties, struct made_symbol earlier)
{
    if (penalties->made == NULL) {
        return;
    }
    size_t place = find_place(penalties, earlier.symbol);
    if (penalties->places[place] == 0) {
        penalties->made[penalties->made_count++] = (struct made_symbol){.symbol = earlier.symbol};
        penalties->places[place] = (uint32_t)penalties->made_count;
    }
    penalties->made[penalties->places[place] - 1].count += earlier.count;
}

void penalties_add(struct penalties *penalties, uint32_t symbol)
{
    if (penalties->recent != NULL) {
        add_recent(penalties, symbol);
    }
    penalties_count_earlier(penalties, (struct made_symbol){.symbol = symbol, .count = 1});
}

/* Scores: how likely a text is, symbol by symbol, and what may follow it. A score is a completion whose prompts are the
 * text and, each behind it, the candidates: forced steps of the decode plan, and nothing is made. So its numbers are
 * those of `echo` with `logprobs`, and of `lstmd score`. Thread: loop; run threads for large bodies and replies. Owns
 * nothing. */
#include "daemon/completion_private.h"

#include <math.h>

#include "daemon/fields.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

enum { SCORE_SYMBOLS_MAX = 1 << 17 }; /* of text and candidates, each with the text before it */

/* ---- The request */

static bool is_text(const json_t *value)
{
    return json_is_string(value) && json_string_length(value) > 0;
}

enum status completion_score_translate(const json_t *object, json_t **ret_object, struct error *error)
{
    TRY(fields_only(object, "text candidates unknown_symbols deadline_ms priority", error));
    json_t *text = json_object_get(object, "text"), *candidates = json_object_get(object, "candidates");
    if (!is_text(text)) {
        error_set(error, STATUS_INVALID, "text must be a string, not empty");
        snprintf(error->param, sizeof error->param, "/text");
        return STATUS_INVALID;
    }
    bool is_good = candidates == NULL || json_is_null(candidates) || json_array_size(candidates) > 0;
    json_t *prompts = json_pack("[O]", text);
    size_t index;
    json_t *candidate;
    json_array_foreach(candidates, index, candidate)
    {
        is_good = is_good && is_text(candidate);
        json_array_append(prompts, candidate);
    }
    if (!is_good) {
        json_decref(prompts);
        error_set(error, STATUS_INVALID, "candidates must be a list of strings, none of them empty");
        snprintf(error->param, sizeof error->param, "/candidates");
        return STATUS_INVALID;
    }
    json_t *made = json_copy((json_t *)(uintptr_t)object); /* only read */
    json_object_del(made, "text");
    json_object_del(made, "candidates");
    const json_t *priority = json_object_get(object, "priority");
    bool has_priority = priority != NULL && !json_is_null(priority);
    if (prompts == NULL || json_object_set_new(made, "prompt", prompts) != 0 ||
        json_object_set_new(made, "max_tokens", json_integer(0)) != 0 ||
        (!has_priority && json_object_set_new(made, "priority", json_integer(GENERATION_PRIORITY_LOW)) != 0)) {
        json_decref(made);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a score");
    }
    *ret_object = made;
    return STATUS_OK;
}

enum status completion_score_prompt(struct completion *completion, size_t index, uint32_t *symbols, size_t *count,
                                    struct error *error)
{
    size_t rows = completion->choice_count;
    size_t total = completion->context_count + *count;
    if (*count == 0 || total > SCORE_SYMBOLS_MAX / rows) {
        return error_set(error, STATUS_INVALID, "%s has %zu known symbols%s; with %zu texts it takes 1 to %zu",
                         index == 0 ? "text" : "a candidate", total, index == 0 ? "" : ", the text before it counted",
                         rows, SCORE_SYMBOLS_MAX / rows);
    }
    if (index == 0 && *count == 1 && rows == 1) {
        return error_set(error, STATUS_INVALID, "text has 1 symbol, and the first has no context: at least 2");
    }
    if (index == 0) {
        completion->context = mem_allocate(*count, sizeof *completion->context);
        if (completion->context == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for a text of %zu symbols", *count);
        }
        memcpy(completion->context, symbols, *count * sizeof *symbols);
        completion->context_count = *count;
        return STATUS_OK;
    }
    memmove(symbols + completion->context_count, symbols, *count * sizeof *symbols);
    memcpy(symbols, completion->context, completion->context_count * sizeof *symbols);
    *count = total;
    return STATUS_OK;
}

/* ---- The reply */

void completion_score_check(struct completion *completion)
{
    for (size_t i = 0; i < completion->choice_count; i++) {
        struct choice *choice = &completion->choices[i];
        if (choice->failure.status == STATUS_OK && choice->finish != FINISH_LENGTH) {
            bool is_late = choice->finish == FINISH_DEADLINE;
            error_set(&choice->failure, is_late ? STATUS_UNAVAILABLE : STATUS_CANCELLED,
                      "%s after %zu symbols of text %zu", is_late ? "the deadline came" : "cancelled",
                      choice->prompt_count, i);
            error_code(&choice->failure, is_late ? "deadline" : "cancelled");
        }
    }
}

/* The sum over symbols `begin` and on, in their order: whoever adds up the single ones gets the same bits. */
static double sum_logprobs(const struct choice *choice, size_t begin)
{
    const float *logprobs = generation_prompt_logprobs(choice->scored);
    double sum = 0;
    for (size_t i = begin; i < choice->prompt_count; i++) {
        sum += (double)logprobs[i];
    }
    return sum;
}

/* Characters of the symbols behind the first, as `lstmd score` counts them. */
static size_t count_characters(const struct completion *completion)
{
    struct text_position position = {.is_line_begun = true};
    for (size_t i = 1; i < completion->context_count; i++) {
        char text[GENERATION_SYMBOL_BYTES_MAX];
        size_t length =
            generation_spell(snapshot_vocabulary(completion->snapshot), completion->context[i], position, text);
        position.characters += utf8_count(text, length);
        position.is_line_begun = length == 1 && text[0] == '\n';
    }
    return position.characters;
}

static json_t *name_symbols(const struct completion *completion)
{
    const struct vocabulary *vocabulary = snapshot_vocabulary(completion->snapshot);
    struct text_position position = {.is_line_begun = true};
    json_t *tokens = json_array();
    for (size_t i = 0; i < completion->context_count; i++) {
        char name[SYMBOL_NAME_BYTES_MAX];
        size_t length = completion_name_symbol(vocabulary, completion->context[i], position, name);
        position.is_line_begun = length == 1 && name[0] == '\n';
        if (json_array_append_new(tokens, json_stringn(name, length)) != 0) {
            json_decref(tokens);
            return NULL;
        }
    }
    return tokens;
}

static json_t *list_logprobs(const struct choice *choice)
{
    const float *logprobs = generation_prompt_logprobs(choice->scored);
    json_t *list = json_pack("[n]"); /* nothing stood before the first */
    for (size_t i = 1; list != NULL && i < choice->prompt_count; i++) {
        if (json_array_append_new(list, json_real((double)logprobs[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

struct candidate {
    size_t index;
    size_t symbol_count;
    double logprob;
};

/* Likeliest first, as given where they are equal. */
static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *first = a, *second = b;
    int order = (first->logprob < second->logprob) - (first->logprob > second->logprob);
    return order != 0 ? order : (first->index > second->index) - (first->index < second->index);
}

static json_t *rank_candidates(const struct completion *completion)
{
    size_t count = completion->choice_count - 1;
    struct candidate *candidates = mem_allocate(count, sizeof *candidates);
    for (size_t i = 0; candidates != NULL && i < count; i++) {
        const struct choice *choice = &completion->choices[i + 1];
        candidates[i] = (struct candidate){.index = i,
                                           .symbol_count = choice->prompt_count - completion->context_count,
                                           .logprob = sum_logprobs(choice, completion->context_count)};
    }
    if (candidates == NULL) {
        return NULL;
    }
    qsort(candidates, count, sizeof *candidates, compare_candidates);
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        struct generate_prompt prompt = generate_request_prompt(&completion->fields, candidates[i].index + 1);
        json_t *entry = json_pack("{s:I, s:s%, s:f, s:I}", "index", (json_int_t)candidates[i].index, "text",
                                  prompt.text, prompt.length, "logprob", candidates[i].logprob, "symbols",
                                  (json_int_t)candidates[i].symbol_count);
        if (json_array_append_new(list, entry) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    mem_free(candidates);
    return list;
}

/* A number, "Infinity" beyond what a double holds, null where there is none. */
static json_t *number_or_none(bool is_there, double number)
{
    return !is_there ? json_null() : isfinite(number) ? json_real(number) : json_string("Infinity");
}

json_t *completion_score_reply(const struct completion *completion)
{
    const struct choice *text = &completion->choices[0];
    size_t symbol_count = completion->context_count - 1;
    double nats = -sum_logprobs(text, 1);
    double mean = nats / (double)symbol_count;
    size_t character_count = count_characters(completion);
    json_t *reply = json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "object", "score", "model",
                              completion->model, "symbols", (json_int_t)symbol_count, "tokens",
                              name_symbols(completion), "token_logprobs", list_logprobs(text), "nats", json_real(nats),
                              "nats_per_symbol", number_or_none(symbol_count > 0, mean), "bits_per_character",
                              number_or_none(character_count > 0, nats / log(2) / (double)character_count),
                              "perplexity", number_or_none(symbol_count > 0, exp(mean)));
    if (reply != NULL && completion->choice_count > 1 &&
        json_object_set_new(reply, "candidates", rank_candidates(completion)) != 0) {
        json_decref(reply);
        return NULL;
    }
    return reply;
}

/* Reading the fields of a text request whose values are more than a number or a flag: prompts, stop strings, biases.
 * Thread: any. Owns nothing. */
#include "daemon/generate_request_private.h"

#include <math.h>

#include "engine/base/check.h"

enum { CROWD_TEXTS = 1000, CROWD_TEXTS_A_MS = 25 };

static enum status fail_prompt(struct error *error)
{
    error_set(error, STATUS_INVALID,
              "prompt must be a string, a list of strings, a list of symbol numbers, or a list of such lists");
    return generate_request_refuse("prompt", error);
}

static struct generate_prompt prompt_of(const json_t *value)
{
    return json_is_string(value)
               ? (struct generate_prompt){.text = json_string_value(value), .length = json_string_length(value)}
               : (struct generate_prompt){.symbols = value};
}

struct generate_prompt generate_request_prompt(const struct generate_request *request, size_t index)
{
    CHECK(index < request->prompt_count);
    return request->prompts == NULL ? request->prompt : prompt_of(json_array_get(request->prompts, index));
}

static enum status count_prompt(struct generate_request *request, const json_t *value, struct error *error)
{
    if (request->prompt_count++ == GENERATE_PROMPTS_MAX) {
        error_set(error, STATUS_INVALID, "prompt has more than %d texts", GENERATE_PROMPTS_MAX);
        return generate_request_refuse("prompt", error);
    }
    if (json_is_string(value)) {
        request->prompt_bytes += json_string_length(value);
        return STATUS_OK;
    }
    if (!json_is_array(value)) {
        return fail_prompt(error);
    }
    size_t index;
    json_t *symbol;
    json_array_foreach(value, index, symbol)
    {
        if (!json_is_integer(symbol) || json_integer_value(symbol) < 0 ||
            json_integer_value(symbol) >= VOCABULARY_SYMBOLS_MAX) {
            return fail_prompt(error);
        }
    }
    request->prompt_bytes += sizeof(uint32_t) * json_array_size(value);
    return STATUS_OK;
}

enum status generate_request_read_prompt(struct generate_request *request, const json_t *value, struct error *error)
{
    if (!json_is_array(value) || json_is_integer(json_array_get(value, 0))) {
        request->prompt = prompt_of(value);
        return count_prompt(request, value, error);
    }
    if (json_array_size(value) == 0) {
        return fail_prompt(error);
    }
    request->prompts = value;
    size_t index;
    json_t *item;
    json_array_foreach(value, index, item)
    {
        TRY(count_prompt(request, item, error));
    }
    return STATUS_OK;
}

static enum status add_stop(struct generate_request *request, const json_t *value, struct error *error)
{
    if (!json_is_string(value) || json_string_length(value) == 0) {
        error_set(error, STATUS_INVALID, "stop must be a string or a list of strings, none of them empty");
        return generate_request_refuse("stop", error);
    }
    if (request->stop_count == STOP_STRINGS_MAX || json_string_length(value) > STOP_STRING_BYTES_MAX) {
        error_set(error, STATUS_INVALID, "stop takes at most %d strings of at most %d bytes", STOP_STRINGS_MAX,
                  STOP_STRING_BYTES_MAX);
        return generate_request_refuse("stop", error);
    }
    request->stop[request->stop_count] = json_string_value(value);
    request->stop_lengths[request->stop_count++] = json_string_length(value);
    return STATUS_OK;
}

enum status generate_request_read_stop(struct generate_request *request, const json_t *value, struct error *error)
{
    request->stop_count = 0;
    if (!json_is_array(value)) {
        return add_stop(request, value, error);
    }
    size_t index;
    json_t *item;
    json_array_foreach(value, index, item)
    {
        TRY(add_stop(request, item, error));
    }
    return STATUS_OK;
}

/* Whether a text is a number in decimal, written in the one way; SYMBOL_NONE where no symbol has so high a one. */
static bool read_symbol_number(const char *text, uint32_t *ret_symbol)
{
    size_t length = strlen(text);
    if (length == 0 || strspn(text, "0123456789") != length || (text[0] == '0' && length > 1)) {
        return false;
    }
    uint32_t symbol = 0;
    for (size_t i = 0; i < length && symbol < VOCABULARY_SYMBOLS_MAX; i++) {
        symbol = 10 * symbol + (uint32_t)(text[i] - '0');
    }
    *ret_symbol = symbol < VOCABULARY_SYMBOLS_MAX ? symbol : SYMBOL_NONE;
    return true;
}

/* One entry of logit_bias: {"12": -3.5} or {"e": -3.5}, or false for never. */
static bool is_bias_good(const char *name, const json_t *value)
{
    double bias = json_number_value(value);
    uint32_t symbol = 0;
    bool is_number = read_symbol_number(name, &symbol);
    return name[0] != '\0' && (!is_number || symbol != SYMBOL_NONE) &&
           (json_is_false(value) || (json_is_number(value) && fabs(bias) <= PENALTIES_BIAS_MAX));
}

enum status generate_request_read_logit_bias(struct generate_request *request, const json_t *object,
                                             struct error *error)
{
    const char *name;
    json_t *value;
    bool is_known = json_is_object(object) && json_object_size(object) <= PENALTIES_BIASES_MAX;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        is_known = is_known && is_bias_good(name, value);
    }
    if (!is_known) {
        error_set(error, STATUS_INVALID,
                  "logit_bias must be an object of at most %d symbols, by number or text, each with a number of -%d to "
                  "%d, or false for never",
                  PENALTIES_BIASES_MAX, PENALTIES_BIAS_MAX, PENALTIES_BIAS_MAX);
        return generate_request_refuse("logit_bias", error);
    }
    request->logit_bias = object;
    return STATUS_OK;
}

enum status generate_request_biases(const struct generate_request *request, const struct vocabulary *vocabulary,
                                    struct penalty_bias *biases, size_t *ret_count, struct error *error)
{
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)request->logit_bias, name, value)
    {
        uint32_t symbol;
        if (!read_symbol_number(name, &symbol)) {
            symbol = vocabulary_find(vocabulary, name, strlen(name));
        }
        if (symbol == SYMBOL_NONE) {
            error_set(error, STATUS_INVALID, "logit_bias: the model has no symbol \"%.60s\"", name);
            return generate_request_refuse("logit_bias", error);
        }
        double bias = json_is_false(value) ? -(double)INFINITY : json_number_value(value);
        biases[count++] = (struct penalty_bias){.symbol = symbol, .bias = bias};
    }
    *ret_count = count;
    return STATUS_OK;
}

enum status generate_request_read_stream_options(struct generate_request *request, const json_t *value,
                                                 struct error *error)
{
    const json_t *usage = json_object_get(value, "include_usage");
    if (!json_is_object(value) || (usage != NULL && !json_is_boolean(usage) && !json_is_null(usage))) {
        error_set(error, STATUS_INVALID, "stream_options must be an object; include_usage is true or false");
        return generate_request_refuse("stream_options", error);
    }
    request->include_usage = json_is_true(usage);
    return STATUS_OK;
}

enum status generate_request_read_unknown_symbols(struct generate_request *request, const json_t *value,
                                                  struct error *error)
{
    static const char *const names[] = {
        [UNKNOWN_SYMBOLS_ERROR] = "error", [UNKNOWN_SYMBOLS_SKIP] = "skip", [UNKNOWN_SYMBOLS_REPLACE] = "replace"};
    for (size_t i = 0; json_is_string(value) && i < sizeof names / sizeof *names; i++) {
        if (strcmp(json_string_value(value), names[i]) == 0) {
            request->unknown_symbols = (enum unknown_symbols)i;
            return STATUS_OK;
        }
    }
    error_set(error, STATUS_INVALID, "unknown_symbols must be \"error\", \"skip\" or \"replace\"");
    return generate_request_refuse("unknown_symbols", error);
}

enum status generate_request_read_adapt(struct generate_request *request, const json_t *value, struct error *error)
{
    request->adapts = json_is_string(value) && adaptation_weights_find(json_string_value(value), &request->adapted);
    if (request->adapts || json_is_false(value)) {
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "adapt must be false, \"output\" or \"all\"");
    return generate_request_refuse("adapt", error);
}

uint64_t generate_request_flush_ms(const struct generate_request *request, size_t text_count)
{
    uint64_t asked_ms = (uint64_t)request->flush_ms;
    uint64_t crowd_ms = text_count > CROWD_TEXTS ? text_count / CROWD_TEXTS_A_MS : 0;
    return asked_ms > crowd_ms ? asked_ms : crowd_ms;
}

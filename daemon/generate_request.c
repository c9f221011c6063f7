/* The table of fields of a text request, and reading them. Thread: any. Owns nothing. */
#include "daemon/generate_request_private.h"

#include "daemon/options.h"
#include "engine/base/check.h"

enum field_kind {
    FIELD_INTEGER,
    FIELD_NUMBER,
    FIELD_FLAG,
    FIELD_MODEL,
    FIELD_PROMPT,
    FIELD_STOP,
    FIELD_LOGIT_BIAS,
    FIELD_STREAM_OPTIONS,
    FIELD_UNKNOWN_SYMBOLS,
    FIELD_SESSION,
    FIELD_STATE,
    FIELD_PATTERN,
    FIELD_ADAPT,
    FIELD_IGNORED, /* taken from foreign clients, means nothing here */
    FIELD_SUFFIX,  /* only "" is accepted: what comes later cannot be read first */
};

static const struct field {
    const char *name;
    enum field_kind kind;
    bool has_default; /* a model's settings may set it */
    double min, max;
    size_t offset;
} table[] = {
    {"model", FIELD_MODEL, false, 0, 0, 0},
    {"prompt", FIELD_PROMPT, false, 0, 0, 0},
    {"max_tokens", FIELD_INTEGER, true, 0, GENERATION_TOKENS_MAX, offsetof(struct generate_request, max_tokens)},
    {"temperature", FIELD_NUMBER, true, 0, 2, offsetof(struct generate_request, temperature)},
    {"top_k", FIELD_INTEGER, true, 0, INT32_MAX, offsetof(struct generate_request, top_k)},
    {"top_p", FIELD_NUMBER, true, 0, 1, offsetof(struct generate_request, top_p)},
    {"min_p", FIELD_NUMBER, true, 0, 1, offsetof(struct generate_request, min_p)},
    {"typical_p", FIELD_NUMBER, true, 0, 1, offsetof(struct generate_request, typical_p)},
    {"repetition_penalty", FIELD_NUMBER, true, PENALTIES_REPETITION_MIN, PENALTIES_REPETITION_MAX,
     offsetof(struct generate_request, repetition_penalty)},
    {"repetition_window", FIELD_INTEGER, true, 0, PENALTIES_WINDOW_MAX,
     offsetof(struct generate_request, repetition_window)},
    /* llama.cpp's names of the same two */
    {"repeat_penalty", FIELD_NUMBER, false, PENALTIES_REPETITION_MIN, PENALTIES_REPETITION_MAX,
     offsetof(struct generate_request, repetition_penalty)},
    {"repeat_last_n", FIELD_INTEGER, false, 0, PENALTIES_WINDOW_MAX,
     offsetof(struct generate_request, repetition_window)},
    {"frequency_penalty", FIELD_NUMBER, true, -PENALTIES_TAKEN_MAX, PENALTIES_TAKEN_MAX,
     offsetof(struct generate_request, frequency_penalty)},
    {"presence_penalty", FIELD_NUMBER, true, -PENALTIES_TAKEN_MAX, PENALTIES_TAKEN_MAX,
     offsetof(struct generate_request, presence_penalty)},
    {"logit_bias", FIELD_LOGIT_BIAS, true, -PENALTIES_BIAS_MAX, PENALTIES_BIAS_MAX,
     offsetof(struct generate_request, logit_bias)},
    {"min_tokens", FIELD_INTEGER, true, 0, GENERATION_TOKENS_MAX, offsetof(struct generate_request, min_tokens)},
    {"stop", FIELD_STOP, true, 0, 0, 0},
    {"seed", FIELD_INTEGER, true, -0x1p63, 0x1p63, offsetof(struct generate_request, seed)},
    {"n", FIELD_INTEGER, false, 1, 128, offsetof(struct generate_request, n)},
    {"best_of", FIELD_INTEGER, false, 1, 128, offsetof(struct generate_request, best_of)},
    {"logprobs", FIELD_INTEGER, false, 0, LOGPROBS_TOP_MAX, offsetof(struct generate_request, logprobs)},
    {"echo", FIELD_FLAG, false, 0, 0, offsetof(struct generate_request, echo)},
    {"stream", FIELD_FLAG, false, 0, 0, offsetof(struct generate_request, stream)},
    {"stream_options", FIELD_STREAM_OPTIONS, false, 0, 0, 0},
    {"deadline_ms", FIELD_INTEGER, true, 1, 86400000, offsetof(struct generate_request, deadline_ms)},
    {"priority", FIELD_INTEGER, true, GENERATION_PRIORITY_LOW, GENERATION_PRIORITY_HIGH,
     offsetof(struct generate_request, priority)},
    {"flush_ms", FIELD_INTEGER, true, 0, GENERATE_FLUSH_MS_MAX, offsetof(struct generate_request, flush_ms)},
    {"unknown_symbols", FIELD_UNKNOWN_SYMBOLS, true, 0, 0, 0},
    {"user", FIELD_IGNORED, false, 0, 0, 0},
    {"suffix", FIELD_SUFFIX, false, 0, 0, 0},
    {"pattern", FIELD_PATTERN, false, 0, 0, 0},
    {"use_beam_search", FIELD_FLAG, false, 0, 0, offsetof(struct generate_request, use_beam_search)},
    {"session", FIELD_SESSION, false, 0, 0, 0},
    {"session_start", FIELD_FLAG, false, 0, 0, offsetof(struct generate_request, session_start)},
    {"state", FIELD_STATE, false, 0, 0, 0},
    {"return_state", FIELD_FLAG, false, 0, 0, offsetof(struct generate_request, return_state)},
    {"adapt", FIELD_ADAPT, false, 0, 0, 0},
};
enum { FIELD_COUNT = sizeof table / sizeof *table };
static_assert(FIELD_COUNT <= 64, "generate_request.given has a bit for each field");

static const struct field *find(const char *name)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

const char *generate_request_default_name(size_t index)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (table[i].has_default && index-- == 0) {
            return table[i].name;
        }
    }
    return NULL;
}

enum status generate_request_refuse(const char *name, struct error *error)
{
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "%s", name);
    }
    return STATUS_INVALID;
}

static enum status read_integer(const struct field *field, const json_t *value, int64_t *ret_number,
                                struct error *error)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || (double)number < field->min || (double)number > field->max) {
        if (field->max >= 0x1p63) {
            error_set(error, STATUS_INVALID, "%s must be an integer of 64 bits", field->name);
        } else {
            error_set(error, STATUS_INVALID, "%s must be an integer of %.0f to %.0f", field->name, field->min,
                      field->max);
        }
        return generate_request_refuse(field->name, error);
    }
    *ret_number = number;
    return STATUS_OK;
}

static enum status read_number(const struct field *field, const json_t *value, double *ret_number, struct error *error)
{
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= field->min && number <= field->max)) {
        error_set(error, STATUS_INVALID, "%s must be a number of %g to %g", field->name, field->min, field->max);
        return generate_request_refuse(field->name, error);
    }
    *ret_number = number;
    return STATUS_OK;
}

static enum status read_suffix(const json_t *value, struct error *error)
{
    if (json_is_string(value) && json_string_length(value) == 0) {
        return STATUS_OK;
    }
    error_set(error, STATUS_UNSUPPORTED, "suffix is not supported: a recurrent model reads forwards only");
    error_code(error, "unsupported_parameter");
    generate_request_refuse("suffix", error);
    return STATUS_UNSUPPORTED;
}

static enum status read_field(struct generate_request *request, const struct field *field, const json_t *value,
                              struct error *error)
{
    void *place = (char *)request + field->offset;
    switch (field->kind) {
    case FIELD_INTEGER: return read_integer(field, value, place, error);
    case FIELD_NUMBER: return read_number(field, value, place, error);
    case FIELD_FLAG:
        if (!json_is_boolean(value)) {
            error_set(error, STATUS_INVALID, "%s must be true or false", field->name);
            return generate_request_refuse(field->name, error);
        }
        *(bool *)place = json_is_true(value);
        return STATUS_OK;
    case FIELD_MODEL:
        if (!json_is_string(value)) {
            error_set(error, STATUS_INVALID, "model must be a string");
            return generate_request_refuse("model", error);
        }
        request->model = json_string_value(value);
        return STATUS_OK;
    case FIELD_PROMPT: return generate_request_read_prompt(request, value, error);
    case FIELD_STOP: return generate_request_read_stop(request, value, error);
    case FIELD_LOGIT_BIAS: return generate_request_read_logit_bias(request, value, error);
    case FIELD_STREAM_OPTIONS: return generate_request_read_stream_options(request, value, error);
    case FIELD_UNKNOWN_SYMBOLS: return generate_request_read_unknown_symbols(request, value, error);
    case FIELD_SESSION:
        if (!json_is_string(value)) {
            error_set(error, STATUS_INVALID, "session must be a string");
            return generate_request_refuse("session", error);
        }
        request->session = json_string_value(value);
        return STATUS_OK;
    case FIELD_STATE:
        if (!json_is_string(value) || json_string_length(value) == 0) {
            error_set(error, STATUS_INVALID, "state must be the base64 text that return_state gave");
            return generate_request_refuse("state", error);
        }
        request->state = json_string_value(value);
        request->state_length = json_string_length(value);
        return STATUS_OK;
    case FIELD_PATTERN:
        if (!json_is_string(value)) {
            error_set(error, STATUS_INVALID, "pattern must be a string");
            return generate_request_refuse("pattern", error);
        }
        request->pattern_length = json_string_length(value); /* "" is none */
        request->pattern = request->pattern_length == 0 ? NULL : json_string_value(value);
        return STATUS_OK;
    case FIELD_ADAPT: return generate_request_read_adapt(request, value, error);
    case FIELD_IGNORED: return STATUS_OK;
    case FIELD_SUFFIX: return read_suffix(value, error);
    }
    CHECK(false);
}

static bool is_foreign(enum generate_door door)
{
    return door == DOOR_COMPLETIONS || door == DOOR_CHAT || door == DOOR_OIP;
}

static enum status take_unknown(struct generate_request *request, const char *name, enum generate_door door,
                                struct error *error)
{
    if (is_foreign(door)) {
        if (request->warning_count < GENERATE_WARNINGS_MAX) {
            request->warnings[request->warning_count++] = name;
        }
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "unknown field '%.64s'", name);
    error_code(error, "unknown_field");
    generate_request_refuse("", error);
    snprintf(error->param, sizeof error->param, "/%.200s", name);
    return STATUS_INVALID;
}

bool generate_request_is_given(const struct generate_request *request, const char *name)
{
    return (request->given >> (find(name) - table) & 1) != 0;
}

enum status generate_request_read(struct generate_request *request, const json_t *object, enum generate_door door,
                                  struct error *error)
{
    struct error local;
    error = error == NULL ? &local : error;
    *request = (struct generate_request){
        .max_tokens = door == DOOR_COMPLETIONS ? 16
                      : door == DOOR_OIP       ? 20
                                               : 500,
        .n = 1,
        .temperature = 1,
        .top_p = 1,
        .typical_p = 1,
        .repetition_penalty = 1,
        .repetition_window = 64,
        .flush_ms = 20,
    };
    const char *name;
    json_t *value;
    /* jansson's iteration does not change the object, but its prototype cannot say so */
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const struct field *field = find(name);
        if (field == NULL || (field->kind == FIELD_MODEL && !is_foreign(door))) {
            TRY(take_unknown(request, name, door, error));
        } else if (!json_is_null(value)) {
            TRY(read_field(request, field, value, error));
            request->given |= UINT64_C(1) << (field - table);
        }
    }
    if (generate_request_is_given(request, "stream_options") && !request->stream) {
        error_set(error, STATUS_INVALID, "stream_options is only for stream: true");
        return generate_request_refuse("stream_options", error);
    }
    if (generate_request_is_given(request, "best_of") && request->best_of < request->n) {
        error_set(error, STATUS_INVALID, "best_of is %lld, it must be at least n, which is %lld",
                  (long long)request->best_of, (long long)request->n);
        return generate_request_refuse("best_of", error);
    }
    request->best_of = generate_request_is_given(request, "best_of") ? request->best_of : request->n;
    return STATUS_OK;
}

enum status generate_request_default(struct generate_request *request, const char *name, const json_t *value,
                                     struct error *error)
{
    const struct field *field = find(name);
    CHECK(field != NULL && field->has_default);
    if (generate_request_is_given(request, name) || value == NULL || json_is_null(value)) {
        return STATUS_OK;
    }
    request->given |= UINT64_C(1) << (field - table);
    return read_field(request, field, value, error);
}

static json_t *value_of(const struct field *field, const char *text)
{
    char *end;
    if (field != NULL && field->kind == FIELD_INTEGER) {
        errno = 0;
        long long number = strtoll(text, &end, 10);
        int failed = errno;
        if (failed == 0 && end != text && *end == '\0') {
            return json_integer(number);
        }
    }
    double number;
    if (field != NULL && field->kind == FIELD_NUMBER && options_read_number(text, &number, NULL) == STATUS_OK) {
        return json_real(number);
    }
    if (field != NULL && (field->kind == FIELD_FLAG || field->kind == FIELD_ADAPT) &&
        (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
        return json_boolean(text[0] == 't');
    }
    if (field != NULL && field->kind == FIELD_LOGIT_BIAS) {
        json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        return object != NULL ? object : json_string(text);
    }
    return json_string(text); /* the field's own reader says what is wrong with it */
}

enum status generate_request_add_query(json_t *object, const char *name, const char *value, struct error *error)
{
    const struct field *field = find(name);
    json_t *before = json_object_get(object, name);
    json_t *item = value_of(field, value);
    int failed;
    if (field != NULL && field->kind == FIELD_STOP) {
        failed = before != NULL ? json_array_append_new(before, item)
                                : json_object_set_new(object, name, json_pack("[o]", item));
    } else if (before != NULL) {
        json_decref(item);
        error_set(error, STATUS_INVALID, "%.64s is given twice", name);
        return generate_request_refuse(name, error);
    } else {
        failed = json_object_set_new(object, name, item);
    }
    if (failed != 0) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the query");
    }
    return STATUS_OK;
}

/* ---- The table as a JSON schema */

static json_t *schema_of(const struct field *field)
{
    switch (field->kind) {
    case FIELD_INTEGER:
        return field->max >= 0x1p63 ? json_pack("{s:s}", "type", "integer")
                                    : json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum", (json_int_t)field->min,
                                                "maximum", (json_int_t)field->max);
    case FIELD_NUMBER:
        return json_pack("{s:s, s:f, s:f}", "type", "number", "minimum", field->min, "maximum", field->max);
    case FIELD_FLAG: return json_pack("{s:s}", "type", "boolean");
    case FIELD_MODEL:
    case FIELD_SUFFIX: return json_pack("{s:s}", "type", "string");
    case FIELD_PROMPT: return json_pack("{s:[s,s]}", "type", "string", "array");
    case FIELD_STOP: return json_pack("{s:[s,s], s:i}", "type", "string", "array", "maxItems", STOP_STRINGS_MAX);
    case FIELD_LOGIT_BIAS:
        return json_pack("{s:s, s:i, s:{s:[s,s], s:f, s:f}}", "type", "object", "maxProperties", PENALTIES_BIASES_MAX,
                         "additionalProperties", "type", "number", "boolean", "minimum", field->min, "maximum",
                         field->max);
    case FIELD_STREAM_OPTIONS:
        return json_pack("{s:s, s:{s:{s:s}}}", "type", "object", "properties", "include_usage", "type", "boolean");
    case FIELD_UNKNOWN_SYMBOLS: return json_pack("{s:[s,s,s]}", "enum", "error", "skip", "replace");
    case FIELD_SESSION:
    case FIELD_STATE: return json_pack("{s:s}", "type", "string");
    case FIELD_PATTERN: return json_pack("{s:s, s:i}", "type", "string", "maxLength", PATTERN_BYTES_MAX);
    case FIELD_ADAPT:
        return json_pack("{s:[b,s,s]}", "enum", 0, adaptation_weights_name(ADAPTATION_OUTPUT),
                         adaptation_weights_name(ADAPTATION_ALL));
    case FIELD_IGNORED: break;
    }
    return json_object();
}

json_t *generate_request_schema(void)
{
    json_t *fields = json_object();
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (json_object_set_new(fields, table[i].name, schema_of(&table[i])) != 0) {
            json_decref(fields);
            return NULL;
        }
    }
    return json_pack("{s:s, s:o}", "type", "object", "properties", fields);
}

/* The content of vocab.json, to and from a vocabulary. Thread: any; owns nothing beyond a call. */
#include "engine/base/mem.h"
#include "engine/text/vocabulary.h"

enum { BYTE_SYMBOLS_MAX = 256 };

static enum status refuse(struct error *error, const char *param, const char *message)
{
    error_set(error, STATUS_INVALID, "%s", message);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "%s", param);
    }
    return STATUS_INVALID;
}

static enum status from_symbols(enum vocabulary_kind kind, const json_t *list, struct vocabulary **ret_vocabulary,
                                struct error *error)
{
    size_t count = json_array_size(list);
    if (count > VOCABULARY_SYMBOLS_MAX) {
        return error_set(error, STATUS_LIMIT, "a vocabulary of %zu symbols, at most %d", count, VOCABULARY_SYMBOLS_MAX);
    }
    enum status status;
    const char **symbols = mem_allocate(count, sizeof *symbols);
    size_t *lengths = mem_allocate(count, sizeof *lengths);
    if (symbols == NULL || lengths == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary of %zu symbols", count);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *symbol = json_array_get(list, i);
        if (!json_is_string(symbol)) {
            char param[64];
            snprintf(param, sizeof param, "/symbols/%zu", i);
            status = refuse(error, param, "a vocabulary's symbols are strings");
            goto done;
        }
        symbols[i] = json_string_value(symbol);
        lengths[i] = json_string_length(symbol);
    }
    status = vocabulary_create(kind, symbols, lengths, count, ret_vocabulary, error);
done:
    mem_free(symbols);
    mem_free(lengths);
    return status;
}

/* The values of some bytes, in order. */
static enum status from_bytes(const json_t *list, struct vocabulary **ret_vocabulary, struct error *error)
{
    unsigned char bytes[BYTE_SYMBOLS_MAX];
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0 || count > BYTE_SYMBOLS_MAX) {
        return refuse(error, "/symbols", "a vocabulary of bytes has no list of symbols, or one of 1 to 256 values");
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(list, i);
        json_int_t byte = json_integer_value(value);
        if (!json_is_integer(value) || byte < 0 || byte >= BYTE_SYMBOLS_MAX) {
            char param[64];
            snprintf(param, sizeof param, "/symbols/%zu", i);
            return refuse(error, param, "a byte is a whole number from 0 to 255");
        }
        bytes[i] = (unsigned char)byte;
    }
    return vocabulary_create_some_bytes(bytes, count, ret_vocabulary, error);
}

enum status vocabulary_from_json(const json_t *json, struct vocabulary **ret_vocabulary, struct error *error)
{
    const json_t *kind_json = json_is_object(json) ? json_object_get(json, "kind") : json;
    const json_t *symbols = json_object_get(json, "symbols");
    enum vocabulary_kind kind = VOCABULARY_CHARACTERS;
    if (kind_json != NULL &&
        (!json_is_string(kind_json) || !vocabulary_kind_from_name(json_string_value(kind_json), &kind))) {
        return refuse(error, json_is_object(json) ? "/kind" : "",
                      "a vocabulary is \"bytes\" or "
                      "{\"kind\": \"characters\" | \"words\" | \"bytes\", \"symbols\": […]}");
    }
    if (json_object_size(json) > (size_t)(kind_json != NULL) + (symbols != NULL) && json_is_object(json)) {
        return refuse(error, "", "a vocabulary has no keys but \"kind\" and \"symbols\"");
    }
    if (kind == VOCABULARY_BYTES) {
        return symbols == NULL ? vocabulary_create_bytes(ret_vocabulary, error)
                               : from_bytes(symbols, ret_vocabulary, error);
    }
    if (!json_is_array(symbols)) {
        return refuse(error, "/symbols", "the vocabulary's symbols are missing, or not a list");
    }
    return from_symbols(kind, symbols, ret_vocabulary, error);
}

static json_t *symbols_json(const struct vocabulary *vocabulary)
{
    json_t *list = json_array();
    for (uint32_t id = 0; list != NULL && id < vocabulary_size(vocabulary); id++) {
        size_t length;
        const char *symbol = vocabulary_symbol(vocabulary, id, &length);
        bool is_byte = vocabulary_kind(vocabulary) == VOCABULARY_BYTES;
        json_t *json = is_byte ? json_integer((unsigned char)symbol[0]) : json_stringn(symbol, length);
        if (json_array_append_new(list, json) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* Whether it is vocabulary_create_bytes'. */
static bool has_all_bytes(const struct vocabulary *vocabulary)
{
    bool are_in_order = vocabulary_size(vocabulary) == BYTE_SYMBOLS_MAX;
    for (uint32_t id = 0; are_in_order && id < BYTE_SYMBOLS_MAX; id++) {
        size_t length;
        are_in_order = (unsigned char)vocabulary_symbol(vocabulary, id, &length)[0] == id;
    }
    return are_in_order;
}

enum status vocabulary_to_json(const struct vocabulary *vocabulary, json_t **ret_json, struct error *error)
{
    enum vocabulary_kind kind = vocabulary_kind(vocabulary);
    json_t *json = json_pack("{s:s}", "kind", vocabulary_kind_name(kind));
    bool has_list = kind != VOCABULARY_BYTES || !has_all_bytes(vocabulary);
    if (json == NULL || (has_list && json_object_set_new(json, "symbols", symbols_json(vocabulary)) != 0)) {
        json_decref(json);
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu symbols as JSON", vocabulary_size(vocabulary));
    }
    *ret_json = json;
    return STATUS_OK;
}

/* ---- still to come ---- */

bool vocabulary_is_to_come(const json_t *json)
{
    const char *kind = json_string_value(json_object_get(json, "kind"));
    return json == NULL || (json_is_object(json) && json_object_get(json, "symbols") == NULL &&
                            (kind == NULL || strcmp(kind, vocabulary_kind_name(VOCABULARY_BYTES)) != 0));
}

static enum status read_limit(const json_t *json, const char *name, json_int_t least, uint64_t *ret_limit,
                              struct error *error)
{
    const json_t *value = json_object_get(json, name);
    json_int_t number = json_integer_value(value);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_integer(value) || number < least || number > VOCABULARY_SYMBOLS_MAX) {
        char param[64];
        char message[128];
        snprintf(param, sizeof param, "/%s", name);
        snprintf(message, sizeof message, "%s must be a whole number from %d to %d", name, (int)least,
                 VOCABULARY_SYMBOLS_MAX);
        return refuse(error, param, message);
    }
    *ret_limit = (uint64_t)number;
    return STATUS_OK;
}

enum status vocabulary_to_come_from_json(const json_t *json, enum vocabulary_kind *ret_kind,
                                         struct vocabulary_limits *ret_limits, struct error *error)
{
    struct vocabulary_limits limits = {.min_count = 0};
    enum vocabulary_kind kind = VOCABULARY_CHARACTERS;
    const json_t *kind_json = json_object_get(json, "kind");
    if (kind_json != NULL &&
        (!json_is_string(kind_json) || !vocabulary_kind_from_name(json_string_value(kind_json), &kind))) {
        return refuse(error, "/kind", "the kind of a vocabulary is \"characters\", \"bytes\" or \"words\"");
    }
    TRY(read_limit(json, "min_count", 1, &limits.min_count, error));
    TRY(read_limit(json, "max_size", 2, &limits.max_size, error));
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        bool is_limit = strcmp(key, "min_count") == 0 || strcmp(key, "max_size") == 0;
        if (strcmp(key, "kind") != 0 && !(is_limit && kind == VOCABULARY_WORDS)) {
            char param[64];
            snprintf(param, sizeof param, "/%.50s", key);
            return refuse(error, param,
                          is_limit
                              ? "only a vocabulary of words has limits"
                              : "a vocabulary that is to come has no keys but \"kind\", \"min_count\", \"max_size\"");
        }
    }
    *ret_kind = kind;
    *ret_limits = limits;
    return STATUS_OK;
}

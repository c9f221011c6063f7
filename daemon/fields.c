/* Strict reading of JSON objects. Thread: any. Owns nothing. */
#include "daemon/fields.h"

#include <stdint.h>
#include <string.h>

static enum status fail(const char *name, struct error *error)
{
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "/%s", name);
    }
    return STATUS_INVALID;
}

enum status fields_refuse_json(const json_error_t *where, struct error *error)
{
    enum json_error_code code = json_error_code(where);
    if (code == json_error_null_character || code == json_error_null_byte_in_key) {
        error_set(error, STATUS_INVALID,
                  "the body has \\u0000 in a string, which is not taken, line %d, column %d; a prompt with it can be "
                  "given as the numbers of its symbols",
                  where->line, where->column);
    } else {
        error_set(error, STATUS_INVALID, "the body is not JSON: %s, line %d, column %d", where->text, where->line,
                  where->column);
    }
    return error_code(error, "bad_json"), STATUS_INVALID;
}

enum status fields_parse(const char *body, size_t length, json_t **ret_object, struct error *error)
{
    json_error_t where;
    json_t *parsed = length == 0 ? json_object() : json_loadb(body, length, JSON_REJECT_DUPLICATES, &where);
    if (parsed == NULL && length == 0) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for an empty body");
    }
    if (parsed == NULL) {
        return fields_refuse_json(&where, error);
    }
    if (!json_is_object(parsed)) {
        json_decref(parsed);
        error_set(error, STATUS_INVALID, "the body is not a JSON object");
        error_code(error, "bad_json");
        return STATUS_INVALID;
    }
    *ret_object = parsed;
    return STATUS_OK;
}

static bool is_listed(const char *names, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = names; (at = strstr(at, name)) != NULL; at += length) {
        if ((at == names || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) {
            return true;
        }
        if (length == 0) {
            return false;
        }
    }
    return false;
}

static bool is_known(const char *names, const char *name)
{
    return strchr(name, ' ') == NULL && is_listed(names, name);
}

json_t *fields_warn_unknown(const json_t *object, const char *names)
{
    const char *name;
    json_t *value;
    json_t *warnings = NULL;
    size_t count = 0;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (!is_known(names, name) && count++ < FIELDS_WARNINGS_MAX) {
            bool is_long = strlen(name) > FIELDS_WARNED_NAME_BYTES_MAX;
            warnings = warnings == NULL ? json_array() : warnings;
            json_array_append_new(warnings, is_long ? json_string("an unknown field with a long name was ignored")
                                                    : json_sprintf("unknown field '%s' was ignored", name));
        }
    }
    if (count > FIELDS_WARNINGS_MAX) {
        json_array_append_new(warnings,
                              json_sprintf("%zu more unknown fields were ignored", count - FIELDS_WARNINGS_MAX));
    }
    return warnings;
}

enum status fields_only(const json_t *object, const char *names, struct error *error)
{
    const char *name;
    json_t *value;
    /* jansson's iteration does not change the object, but its prototype cannot say so */
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (!is_known(names, name)) {
            error_set(error, STATUS_INVALID, "unknown field '%.64s'; there are: %s", name,
                      names[0] == '\0' ? "none" : names);
            error_code(error, "unknown_field");
            return fail(name, error);
        }
    }
    return STATUS_OK;
}

static const json_t *find(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

enum status fields_text(const json_t *object, const char *name, const char **value, struct error *error)
{
    const json_t *found = find(object, name);
    if (found != NULL && !json_is_string(found)) {
        error_set(error, STATUS_INVALID, "%s must be a string", name);
        return fail(name, error);
    }
    *value = found == NULL ? *value : json_string_value(found);
    return STATUS_OK;
}

enum status fields_flag(const json_t *object, const char *name, bool *value, struct error *error)
{
    const json_t *found = find(object, name);
    if (found != NULL && !json_is_boolean(found)) {
        error_set(error, STATUS_INVALID, "%s must be true or false", name);
        return fail(name, error);
    }
    *value = found == NULL ? *value : json_is_true(found);
    return STATUS_OK;
}

enum status fields_integer(const json_t *object, const char *name, int64_t min, int64_t max, int64_t *value,
                           struct error *error)
{
    const json_t *found = find(object, name);
    if (found == NULL) {
        return STATUS_OK;
    }
    json_int_t number = json_integer_value(found);
    if (!json_is_integer(found) || number < min || number > max) {
        error_set(error, STATUS_INVALID, "%s must be an integer of %lld to %lld", name, (long long)min, (long long)max);
        return fail(name, error);
    }
    *value = number;
    return STATUS_OK;
}

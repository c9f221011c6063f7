/* Plain data in an arena. Thread: any, one at a time. Owns nothing. */
#include "engine/import/plain.h"

struct plain *plain_create(struct arena *arena, enum plain_kind kind)
{
    struct plain *value = arena_allocate(arena, 1, sizeof *value);
    if (value != NULL) {
        value->kind = kind;
    }
    return value;
}

struct plain *plain_create_text(struct arena *arena, enum plain_kind kind, const char *bytes, size_t length)
{
    struct plain *value = plain_create(arena, kind);
    char *copy = arena_allocate(arena, length + 1, 1);
    if (value == NULL || copy == NULL) {
        return NULL;
    }
    if (length > 0) {
        memcpy(copy, bytes, length);
    }
    value->text = copy;
    value->length = length;
    return value;
}

bool plain_append(struct arena *arena, struct plain *list, struct plain *item)
{
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity == 0 ? 4 : list->capacity * 2;
        struct plain **items = capacity > UINT32_MAX / 4 ? NULL : arena_allocate(arena, capacity, sizeof(void *));
        if (items == NULL) {
            return false;
        }
        if (list->count > 0) {
            memcpy(items, list->items, list->count * sizeof(void *));
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return true;
}

bool plain_is_string(const struct plain *value)
{
    return value != NULL && (value->kind == PLAIN_TEXT || value->kind == PLAIN_BYTES);
}

bool plain_equals(const struct plain *value, const char *text)
{
    return plain_is_string(value) && value->length == strlen(text) && memcmp(value->text, text, value->length) == 0;
}

bool plain_integer(const struct plain *value, int64_t *ret_integer)
{
    if (value == NULL || value->kind != PLAIN_INTEGER) {
        return false;
    }
    *ret_integer = value->integer;
    return true;
}

const struct plain *plain_get(const struct plain *dict, const char *key)
{
    if (dict == NULL || (dict->kind != PLAIN_DICT && dict->kind != PLAIN_CALL)) {
        return NULL;
    }
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        if (plain_equals(dict->items[i], key)) {
            return dict->items[i + 1];
        }
    }
    return NULL;
}

const struct plain *plain_item(const struct plain *list, size_t index)
{
    return list != NULL && list->kind == PLAIN_LIST && index < list->count ? list->items[index] : NULL;
}

static bool append_json(struct arena *arena, struct plain *list, const json_t *json)
{
    struct plain *item = plain_from_json(arena, json);
    return item != NULL && plain_append(arena, list, item);
}

static struct plain *list_from_json(struct arena *arena, const json_t *json)
{
    struct plain *list = plain_create(arena, PLAIN_LIST);
    for (size_t i = 0; list != NULL && i < json_array_size(json); i++) {
        list = append_json(arena, list, json_array_get(json, i)) ? list : NULL;
    }
    return list;
}

static struct plain *dict_from_json(struct arena *arena, const json_t *json)
{
    struct plain *dict = plain_create(arena, PLAIN_DICT);
    json_t *object = (json_t *)(uintptr_t)json;
    for (void *at = json_object_iter(object); dict != NULL && at != NULL; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        struct plain *name = plain_create_text(arena, PLAIN_TEXT, key, json_object_iter_key_len(at));
        bool is_added =
            name != NULL && plain_append(arena, dict, name) && append_json(arena, dict, json_object_iter_value(at));
        dict = is_added ? dict : NULL;
    }
    return dict;
}

struct plain *plain_from_json(struct arena *arena, const json_t *json)
{
    struct plain *value;
    switch (json_typeof(json)) {
    case JSON_OBJECT: return dict_from_json(arena, json);
    case JSON_ARRAY: return list_from_json(arena, json);
    case JSON_STRING: return plain_create_text(arena, PLAIN_TEXT, json_string_value(json), json_string_length(json));
    case JSON_INTEGER:
        value = plain_create(arena, PLAIN_INTEGER);
        if (value != NULL) {
            value->integer = json_integer_value(json);
        }
        return value;
    case JSON_REAL:
        value = plain_create(arena, PLAIN_REAL);
        if (value != NULL) {
            value->real = json_real_value(json);
        }
        return value;
    case JSON_TRUE:
    case JSON_FALSE:
        value = plain_create(arena, PLAIN_BOOLEAN);
        if (value != NULL) {
            value->boolean = json_is_true(json);
        }
        return value;
    case JSON_NULL:
    default: return plain_create(arena, PLAIN_NONE);
    }
}

/* Steps on collections: what is filed under a key, filtered as TensorFlow does. Thread: the building one. Owns a
 * compiled filter while it looks. */
#include <regex.h>

#include "engine/store/program_private.h"

enum { FILTER_BYTES_MAX = 200 };

/* TensorFlow's scope filter: a regular expression that a name must match from its start. What could make matching slow
 * or large (repetition counts, back-references) is refused. */
struct filter {
    bool is_set;
    regex_t expression;
};

static enum status compile_filter(struct builder *builder, const struct step *step, const char *text,
                                  struct filter *filter)
{
    char anchored[FILTER_BYTES_MAX + 8];
    bool has_reference = false;
    for (const char *at = strchr(text, '\\'); at != NULL && !has_reference; at = strchr(at + 2, '\\')) {
        has_reference = at[1] >= '0' && at[1] <= '9';
        if (at[1] == '\0') {
            break;
        }
    }
    if (strlen(text) >= FILTER_BYTES_MAX || strchr(text, '{') != NULL || has_reference) {
        return refuse_field(builder, step, "scope_prefix",
                            "must be shorter than 200 bytes, without repetition counts and back-references");
    }
    snprintf(anchored, sizeof anchored, "^(%s)", text);
    if (regcomp(&filter->expression, anchored, REG_EXTENDED | REG_NOSUB) != 0) {
        return refuse_field(builder, step, "scope_prefix", "is no regular expression");
    }
    filter->is_set = true;
    return STATUS_OK;
}

/* The prefix of a scope object ("a/"), which is taken literally; NULL: none. */
static enum status read_prefix(struct builder *builder, const struct step *step, const char **ret_prefix)
{
    uint32_t scope = 0;
    if (json_is_null(json_object_get(step->json, "scope")) || json_object_get(step->json, "scope") == NULL) {
        return STATUS_OK;
    }
    TRY(need_object(builder, step, "scope", OBJECT_SCOPE, &scope));
    const char *name = variable_scope_at(builder->graph, scope)->name;
    char *prefix = NULL;
    TRY(builder_scratch(builder, strlen(name) + 2, 1, &prefix));
    snprintf(prefix, strlen(name) + 2, "%s%s", name, name[0] == '\0' ? "" : "/");
    *ret_prefix = prefix[0] == '\0' ? NULL : prefix;
    return STATUS_OK;
}

static bool is_wanted(const struct handle *handle, const char *prefix, const struct filter *filter)
{
    char text[OUTPUT_NAME_BYTES_MAX];
    const char *name = handle_name(handle, text);
    if (prefix == NULL && !filter->is_set) {
        return true;
    }
    return name != NULL && (prefix == NULL || strncmp(name, prefix, strlen(prefix)) == 0) &&
           (!filter->is_set || regexec(&filter->expression, name, 0, NULL, 0) == 0);
}

static enum status collect(struct builder *builder, const char *key, const char *prefix, const struct filter *filter)
{
    size_t count = graph_collection_count(builder->graph, key);
    struct handle *items = NULL;
    size_t kept = 0;
    TRY(builder_scratch(builder, count, sizeof *items, &items));
    for (size_t i = 0; i < count; i++) {
        const struct handle *handle = graph_collection_at(builder->graph, key, i);
        if (is_wanted(handle, prefix, filter)) {
            items[kept++] = *handle;
        }
    }
    return builder_give_list(builder, items, NULL, kept);
}

static enum status apply_get_collection(struct builder *builder, const struct step *step)
{
    struct filter filter = {.is_set = false};
    const char *key = NULL;
    const char *prefix = NULL;
    const char *pattern = NULL;
    TRY(need_text(builder, step, "key", &key));
    TRY(read_prefix(builder, step, &prefix));
    TRY(read_text(builder, step, "scope_prefix", &pattern));
    if (pattern != NULL && pattern[0] != '\0') {
        TRY(compile_filter(builder, step, pattern, &filter));
    }
    enum status status = collect(builder, key, prefix, &filter);
    if (filter.is_set) {
        regfree(&filter.expression);
    }
    return status;
}

/* A result's name, or {"text":"…"}. */
static enum status read_collected(struct builder *builder, const struct step *step, struct handle *ret_handle)
{
    const json_t *json = json_object_get(step->json, "value");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "value"};
    const char *text = json_string_value(json_object_get(json, "text"));
    const struct handle *handle = NULL;
    if (text != NULL) {
        *ret_handle = (struct handle){.kind = HANDLE_TEXT, .text = text};
        return STATUS_OK;
    }
    TRY(read_handle(builder, json, &place, &handle));
    *ret_handle = *handle;
    return STATUS_OK;
}

/* "key", or "keys", of which each counts once. */
static enum status apply_add_to_collection(struct builder *builder, const struct step *step)
{
    const json_t *keys = json_object_get(step->json, "keys");
    const char *key = NULL;
    struct handle handle;
    TRY(read_collected(builder, step, &handle));
    if (keys == NULL || json_is_string(keys)) {
        TRY(need_text(builder, step, keys == NULL ? "key" : "keys", &key));
        return graph_add_to_collection(builder->graph, key, &handle, builder->error);
    }
    if (!json_is_array(keys) || json_array_size(keys) > GRAPH_COLLECTIONS_MAX) {
        return refuse_field(builder, step, "keys", "must be a list of keys");
    }
    for (size_t i = 0; i < json_array_size(keys); i++) {
        bool is_repeated = false;
        key = json_string_value(json_array_get(keys, i));
        if (key == NULL) {
            return refuse_field(builder, step, "keys", "must be a list of keys");
        }
        for (size_t before = 0; before < i; before++) {
            is_repeated = is_repeated || strcmp(json_string_value(json_array_get(keys, before)), key) == 0;
        }
        if (!is_repeated) {
            TRY(graph_add_to_collection(builder->graph, key, &handle, builder->error));
        }
    }
    return STATUS_OK;
}

const struct step_kind program_collection_steps[] = {
    {"get_collection", "key scope scope_prefix", apply_get_collection, NULL},
    {"add_to_collection", "key keys value", apply_add_to_collection, NULL},
    {NULL, NULL, NULL, NULL},
};

/* Op names and name scopes. Thread: the building one. Source: TensorFlow 1.15, framework/ops.py, Graph.unique_name and
 * Graph.name_scope: comparison ignores case, suffix search starts at the name's own counter. */
#include <ctype.h>

#include "engine/graph/graph_private.h"

static bool is_name_character(char c, bool is_first_at_root)
{
    if (isalnum((unsigned char)c) || c == '.') {
        return true;
    }
    return !is_first_at_root && (c == '_' || c == '-' || c == '/');
}

static bool is_valid_name(const char *name, bool is_at_root)
{
    if (is_at_root && name[0] == '\0') {
        return false;
    }
    for (size_t i = 0; name[i] != '\0'; i++) {
        if (!is_name_character(name[i], is_at_root && i == 0)) {
            return false;
        }
    }
    return true;
}

/* Less than a name's worth is left, or the system gave nothing. */
static enum status no_memory(struct graph *graph, struct error *error)
{
    if (graph_arena(graph)->bytes + GRAPH_NAME_BYTES_MAX * 2 > GRAPH_ARENA_BYTES_MAX) {
        return error_set(error, STATUS_LIMIT, "the graph's names need more than %d bytes", GRAPH_ARENA_BYTES_MAX);
    }
    return error_set(error, STATUS_NO_MEMORY, "no memory for the graph's names");
}

static void lower(char *text)
{
    for (char *c = text; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
}

/* Marks `key` (lower case, copied here) as used and returns its entry. */
static struct name_count *use(struct graph *graph, const char *key)
{
    struct name_count *entry = name_counts_find(&graph->names, key);
    if (entry != NULL) {
        return entry;
    }
    const char *copy = arena_copy_string(graph_arena(graph), key);
    return copy == NULL ? NULL : name_counts_add(&graph->names, copy);
}

static enum status check_length(const char *full, struct error *error)
{
    if (strlen(full) >= GRAPH_NAME_BYTES_MAX) {
        return error_set(error, STATUS_LIMIT, "name '%.60s…' has %zu bytes, at most %d", full, strlen(full),
                         GRAPH_NAME_BYTES_MAX - 1);
    }
    return STATUS_OK;
}

static enum status refuse_name(const char *name, const char *what, struct error *error)
{
    return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "'%s' is not a valid %s name", name, what);
}

/* `name` in the current name scope, made unique; with `marks` it is then used. */
static enum status unique(struct graph *graph, const char *name, bool marks, const char **ret_name, struct error *error)
{
    char full[GRAPH_NAME_BYTES_MAX * 2];
    snprintf(full, sizeof full, "%s%s%s", graph->name_scope, graph->name_scope[0] == '\0' ? "" : "/", name);
    TRY(check_length(full, error));
    char key[GRAPH_NAME_BYTES_MAX * 2 + 24];
    snprintf(key, sizeof key, "%s", full);
    lower(key);
    const struct name_count *taken = name_counts_find(&graph->names, key);
    uint64_t suffix = taken == NULL ? 0 : taken->count;
    if (marks) {
        struct name_count *entry = use(graph, key);
        if (entry == NULL) {
            return no_memory(graph, error);
        }
        entry->count++;
    }
    if (suffix == 0) {
        *ret_name = arena_copy_string(graph_arena(graph), full);
        return *ret_name == NULL ? no_memory(graph, error) : STATUS_OK;
    }
    char base[GRAPH_NAME_BYTES_MAX];
    memcpy(base, key, strlen(full) + 1); /* check_length bounded it */
    while (taken != NULL && taken->count > 0) {
        snprintf(key, sizeof key, "%s_%llu", base, (unsigned long long)suffix++);
        taken = name_counts_find(&graph->names, key);
    }
    struct name_count *fresh = marks ? use(graph, key) : NULL;
    if (marks && fresh == NULL) {
        return no_memory(graph, error);
    }
    if (fresh != NULL) {
        fresh->count = 1;
    }
    *ret_name = arena_format(graph_arena(graph), "%s_%llu", full, (unsigned long long)(suffix - 1));
    return *ret_name == NULL ? no_memory(graph, error) : STATUS_OK;
}

/* A name that ends in a slash, without it. */
static enum status cut_slash(struct graph *graph, const char *name, const char **ret_name, struct error *error)
{
    TRY(check_length(name, error));
    *ret_name = arena_format(graph_arena(graph), "%.*s", (int)strlen(name) - 1, name);
    return *ret_name == NULL ? no_memory(graph, error) : STATUS_OK;
}

static bool ends_in_slash(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && name[length - 1] == '/';
}

enum status graph_unique_name(struct graph *graph, const char *name, const char **ret_name, struct error *error)
{
    return unique(graph, name, true, ret_name, error);
}

enum status graph_peek_name(struct graph *graph, const char *name, const char **ret_name, struct error *error)
{
    return unique(graph, name, false, ret_name, error);
}

enum status graph_name_node(struct graph *graph, const char *name, const char **ret_name, struct error *error)
{
    const char *full = NULL;
    TRY(ends_in_slash(name) ? cut_slash(graph, name, &full, error) : unique(graph, name, true, &full, error));
    if (!is_valid_name(full, true)) {
        return refuse_name(full, "node", error);
    }
    *ret_name = full;
    return STATUS_OK;
}

enum status graph_enter_name_scope(struct graph *graph, const char *name, const char **ret_previous,
                                   struct error *error)
{
    const char *previous = graph->name_scope;
    const char *scope = "";
    if (name != NULL && name[0] != '\0') {
        if (!is_valid_name(name, previous[0] == '\0')) {
            return refuse_name(name, "scope", error);
        }
        TRY(ends_in_slash(name) ? cut_slash(graph, name, &scope, error) : unique(graph, name, true, &scope, error));
    }
    graph->name_scope = scope;
    *ret_previous = previous;
    return STATUS_OK;
}

void graph_leave_name_scope(struct graph *graph, const char *previous)
{
    graph->name_scope = previous;
}

const char *graph_name_scope(const struct graph *graph)
{
    return graph->name_scope;
}

enum status graph_add_operation(struct graph *graph, const char *type, const char *name, struct node **ret_node,
                                struct error *error)
{
    struct attribute attribute = {.name = "type", .kind = ATTRIBUTE_TEXT, .text = type};
    struct node_options options = {.name = name == NULL ? type : name, .attributes = &attribute, .attribute_count = 1};
    return graph_add_node(graph, "NoOp", &options, ret_node, error);
}

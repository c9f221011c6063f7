/* Savers as objects of graphs. Thread: the building one; everything made belongs to the graph. */
#include "engine/nn/saver.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a saver");
}

static enum status refuse(struct error *error, const char *message, const char *name)
{
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "%s%s", message, name);
}

/* All of GLOBAL_VARIABLES, in order. */
static void list_global(const struct graph *graph, struct saver_entry *entries, size_t *ret_count)
{
    size_t count = 0;
    for (size_t i = 0; i < graph_collection_count(graph, COLLECTION_GLOBAL_VARIABLES); i++) {
        const struct handle *handle = graph_collection_at(graph, COLLECTION_GLOBAL_VARIABLES, i);
        if (handle->kind == HANDLE_VARIABLE) {
            entries[count++] = (struct saver_entry){handle->variable->node->name, handle->variable};
        }
    }
    *ret_count = count;
}

/* Stable, so that of two the one that came first stays first. */
static int compare_keys(const void *left, const void *right)
{
    const struct saver_entry *a = left;
    const struct saver_entry *b = right;
    int order = strcmp(a->key, b->key);
    return order != 0 ? order
                      : (int)(a->variable->index > b->variable->index) - (a->variable->index < b->variable->index);
}

static int compare_variables(const void *left, const void *right)
{
    const struct saver_entry *a = left;
    const struct saver_entry *b = right;
    bool is_same = a->variable == b->variable;
    return is_same ? strcmp(a->key, b->key) : (a->variable->index > b->variable->index) ? 1 : -1;
}

/* Sorts by key; no two may have one key. */
static enum status check_keys(struct saver_entry *entries, size_t count, struct error *error)
{
    qsort(entries, count, sizeof *entries, compare_keys);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(entries[i - 1].key, entries[i].key) == 0) {
            return refuse(error, "At least two variables have the same name: ", entries[i].key);
        }
    }
    return STATUS_OK;
}

/* No variable may have two keys; of all second keys the first by name is told. */
static enum status check_variables(struct graph *graph, const struct saver_entry *entries, size_t count,
                                   struct error *error)
{
    struct saver_entry *sorted = arena_copy(graph_arena(graph), entries, count, sizeof *sorted);
    const char *second = NULL;
    if (sorted == NULL) {
        return no_memory(error);
    }
    qsort(sorted, count, sizeof *sorted, compare_variables);
    for (size_t i = 1; i < count; i++) {
        if (sorted[i - 1].variable == sorted[i].variable && (second == NULL || strcmp(sorted[i].key, second) < 0)) {
            second = sorted[i].key;
        }
    }
    return second == NULL ? STATUS_OK : refuse(error, "The same saveable will be restored with two names: ", second);
}

static enum status fill(struct graph *graph, const struct saver_options *options, struct saver_entry *entries,
                        size_t *ret_count, struct error *error)
{
    if (!options->has_variables) {
        list_global(graph, entries, ret_count);
    }
    for (size_t i = 0; options->has_variables && i < options->count; i++) {
        const char *key = options->keys == NULL ? options->variables[i]->node->name : options->keys[i];
        entries[i] = (struct saver_entry){arena_copy_string(graph_arena(graph), key), options->variables[i]};
        if (entries[i].key == NULL) {
            return no_memory(error);
        }
        *ret_count = i + 1;
    }
    return *ret_count == 0 ? refuse(error, "No variables to save", "") : STATUS_OK;
}

enum status saver_create(struct graph *graph, const struct saver_options *options, uint32_t *ret_saver,
                         struct error *error)
{
    size_t room = options->has_variables ? options->count : graph_collection_count(graph, COLLECTION_GLOBAL_VARIABLES);
    struct saver_entry *entries = arena_allocate(graph_arena(graph), room + 1, sizeof *entries);
    struct saver saver = {.entries = entries, .reshapes = options->reshapes};
    if (entries == NULL) {
        return no_memory(error);
    }
    TRY(fill(graph, options, entries, &saver.count, error));
    TRY(check_keys(entries, saver.count, error));
    TRY(check_variables(graph, entries, saver.count, error));
    const char *previous = NULL;
    struct node *node = NULL;
    TRY(graph_enter_name_scope(graph, options->name == NULL ? "save" : options->name, &previous, error));
    saver.scope = graph_name_scope(graph);
    /* What stands for all of TensorFlow's restoring ops. */
    enum status status = graph_add_operation(graph, "NoOp", "restore_all", &node, error);
    graph_leave_name_scope(graph, previous);
    TRY(status);
    return graph_add_object(graph, OBJECT_SAVER, &saver, sizeof saver, ret_saver, error);
}

const struct saver *saver_at(const struct graph *graph, uint32_t saver)
{
    return graph_object(graph, OBJECT_SAVER, saver);
}

/* What a graph holds besides nodes: objects, handles, collections. Thread: the building one. Lists are the graph's;
 * their contents live in its arena. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the graph's objects");
}

/* ---- copying ---- */

static enum status copy_collections(const struct graph *source, struct graph *graph, struct error *error)
{
    graph->collections = mem_allocate(source->collection_count + 1, sizeof *graph->collections);
    if (graph->collections == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < source->collection_count; i++) {
        const struct collection *from = &source->collections[i];
        struct collection *to = &graph->collections[i];
        *to = (struct collection){.key = from->key, .count = from->count, .capacity = from->count + 1};
        to->items = mem_allocate(to->capacity, sizeof *to->items);
        if (to->items == NULL) {
            return no_memory(error);
        }
        graph->collection_count++;
        memcpy(to->items, from->items, from->count * sizeof *to->items);
    }
    return STATUS_OK;
}

/* Scopes that are open stay open in the clone. */
static enum status copy_count_changes(const struct graph *source, struct graph *graph, struct error *error)
{
    graph->jump_count = source->jump_count;
    if (source->count_change_count == 0) {
        return STATUS_OK;
    }
    graph->count_changes = mem_allocate(source->count_change_count, sizeof *graph->count_changes);
    if (graph->count_changes == NULL) {
        return no_memory(error);
    }
    memcpy(graph->count_changes, source->count_changes, source->count_change_count * sizeof *graph->count_changes);
    graph->count_change_count = source->count_change_count;
    graph->count_change_capacity = source->count_change_count;
    return STATUS_OK;
}

enum status graph_copy_things(const struct graph *source, struct graph *graph, struct error *error)
{
    graph->objects = mem_allocate(source->object_count + 1, sizeof *graph->objects);
    graph->handles = mem_allocate(source->handle_count + 1, sizeof *graph->handles);
    graph->handle_keys = mem_allocate(source->handle_count + 1, sizeof *graph->handle_keys);
    if (graph->objects == NULL || graph->handles == NULL || graph->handle_keys == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < source->object_count; i++) {
        graph->objects[i] = source->objects[i];
        graph->objects[i].is_own = false;
    }
    for (size_t i = 0; i < source->handle_count; i++) {
        graph->handles[i] = source->handles[i];
        graph->handle_keys[i] = source->handle_keys[i];
    }
    graph->object_count = source->object_count;
    graph->object_capacity = source->object_count + 1;
    graph->handle_count = source->handle_count;
    graph->handle_capacity = source->handle_count + 1;
    TRY(name_counts_copy(&source->handle_names, &graph->handle_names, error));
    TRY(copy_count_changes(source, graph, error));
    return copy_collections(source, graph, error);
}

void graph_release_things(struct graph *graph)
{
    for (size_t i = 0; i < graph->collection_count; i++) {
        mem_free(graph->collections[i].items);
    }
    mem_free(graph->collections);
    mem_free(graph->objects);
    mem_free(graph->uses);
    mem_free(graph->count_changes);
    mem_free(graph->handles);
    mem_free(graph->handle_keys);
    name_counts_release(&graph->handle_names);
}

void graph_set_builder(struct graph *graph, struct builder *builder)
{
    graph->builder = builder;
}

struct builder *graph_builder(const struct graph *graph)
{
    return graph->builder;
}

enum status graph_note_use(struct graph *graph, uint32_t variable, struct error *error)
{
    if (graph->builder == NULL) {
        return STATUS_OK;
    }
    if (graph->use_count == graph->use_capacity) {
        size_t capacity = graph->use_capacity * 2 + 16;
        uint32_t *uses = mem_reallocate(graph->uses, capacity, sizeof *uses);
        if (uses == NULL) {
            return no_memory(error);
        }
        graph->uses = uses;
        graph->use_capacity = capacity;
    }
    graph->uses[graph->use_count++] = variable;
    return STATUS_OK;
}

const uint32_t *graph_take_uses(struct graph *graph, size_t *ret_count)
{
    *ret_count = graph->use_count;
    graph->use_count = 0;
    return graph->uses;
}

/* ---- comparing ---- */

static bool counts_differ(const struct name_counts *a, const struct name_counts *b)
{
    bool differ = a->used_count != b->used_count || a->slot_count != b->slot_count;
    for (size_t i = 0; !differ && i < a->slot_count; i++) {
        differ = a->slots[i].key != b->slots[i].key || a->slots[i].count != b->slots[i].count;
    }
    return differ;
}

static bool things_differ(const struct graph *a, const struct graph *b)
{
    bool differ = a->object_count != b->object_count || a->handle_count != b->handle_count ||
                  a->collection_count != b->collection_count;
    for (size_t i = 0; !differ && i < a->object_count; i++) {
        differ = a->objects[i].data != b->objects[i].data;
    }
    for (size_t i = 0; !differ && i < a->handle_count; i++) {
        differ = a->handles[i] != b->handles[i];
    }
    for (size_t i = 0; !differ && i < a->collection_count; i++) {
        differ = a->collections[i].count != b->collections[i].count;
    }
    return differ;
}

bool graph_differs(const struct graph *clone, const struct graph *source)
{
    return clone->node_count != source->node_count || clone->variable_count != source->variable_count ||
           clone->is_finalized != source->is_finalized || things_differ(clone, source) ||
           counts_differ(&clone->names, &source->names) || counts_differ(&clone->scope_counts, &source->scope_counts);
}

/* ---- objects ---- */

enum status graph_add_object(struct graph *graph, enum object_kind kind, const void *data, size_t bytes,
                             uint32_t *ret_id, struct error *error)
{
    if (graph->object_count == GRAPH_OBJECTS_MAX) {
        return error_set(error, STATUS_LIMIT, "the graph has %d scopes, cells and other objects, the maximum",
                         GRAPH_OBJECTS_MAX);
    }
    if (graph->object_count == graph->object_capacity) {
        size_t capacity = graph->object_capacity < 16 ? 32 : graph->object_capacity * 2;
        struct object *objects = mem_reallocate(graph->objects, capacity, sizeof *objects);
        if (objects == NULL) {
            return no_memory(error);
        }
        graph->objects = objects;
        graph->object_capacity = capacity;
    }
    void *copy = arena_copy(graph_arena(graph), data, bytes, 1);
    if (copy == NULL) {
        return no_memory(error);
    }
    *ret_id = (uint32_t)graph->object_count;
    graph->objects[graph->object_count++] = (struct object){kind, true, bytes, copy};
    return STATUS_OK;
}

const void *graph_object(const struct graph *graph, enum object_kind kind, uint32_t id)
{
    CHECK(id < graph->object_count && graph->objects[id].kind == kind);
    return graph->objects[id].data;
}

enum status graph_edit_object(struct graph *graph, enum object_kind kind, uint32_t id, void **ret_data,
                              struct error *error)
{
    CHECK(id < graph->object_count && graph->objects[id].kind == kind);
    struct object *object = &graph->objects[id];
    if (!object->is_own) {
        void *copy = arena_copy(graph_arena(graph), object->data, object->bytes, 1);
        if (copy == NULL) {
            return no_memory(error);
        }
        object->data = copy;
        object->is_own = true;
    }
    *ret_data = object->data;
    return STATUS_OK;
}

/* ---- handles ---- */

struct handle handle_tensor(struct output output)
{
    return (struct handle){.kind = HANDLE_TENSOR, .output = output};
}

struct handle handle_operation(struct node *node)
{
    return (struct handle){.kind = HANDLE_OPERATION, .node = node};
}

struct handle handle_variable(const struct variable *variable)
{
    return (struct handle){.kind = HANDLE_VARIABLE, .variable = variable};
}

struct handle handle_object(enum object_kind kind, uint32_t id)
{
    return (struct handle){.kind = HANDLE_OBJECT, .object_kind = kind, .object_id = id};
}

/* `left`: items that the whole may still have. */
static enum status copy_handle(struct arena *arena, const struct handle *handle, int depth, size_t *left,
                               struct handle *ret_copy, struct error *error);

static enum status copy_list(struct arena *arena, const struct handle *handle, int depth, size_t *left,
                             struct handle *copy, struct error *error)
{
    if (depth == HANDLE_NESTING_MAX || handle->count > HANDLE_ITEMS_MAX || handle->count > *left) {
        return error_set(error, STATUS_LIMIT, "a result nests deeper than %d or has more than %d items, %d in all",
                         HANDLE_NESTING_MAX, HANDLE_ITEMS_MAX, HANDLE_ITEMS_IN_ALL_MAX);
    }
    *left -= handle->count;
    struct handle *items = arena_allocate(arena, handle->count, sizeof *items);
    const char **names = arena_allocate(arena, handle->count, sizeof *names);
    if (items == NULL || names == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < handle->count; i++) {
        TRY(copy_handle(arena, &handle->items[i], depth + 1, left, &items[i], error));
        if (handle->names != NULL && handle->names[i] != NULL) {
            names[i] = arena_copy_string(arena, handle->names[i]);
            if (names[i] == NULL) {
                return no_memory(error);
            }
        }
    }
    copy->items = items;
    copy->names = handle->names == NULL ? NULL : names;
    return STATUS_OK;
}

static enum status copy_handle(struct arena *arena, const struct handle *handle, int depth, size_t *left,
                               struct handle *ret_copy, struct error *error)
{
    *ret_copy = *handle;
    if (handle->kind == HANDLE_TEXT) {
        ret_copy->text = arena_copy_string(arena, handle->text);
        return ret_copy->text == NULL ? no_memory(error) : STATUS_OK;
    }
    return handle->kind == HANDLE_LIST ? copy_list(arena, handle, depth, left, ret_copy, error) : STATUS_OK;
}

static enum status keep_handle(struct graph *graph, const struct handle *handle, const struct handle **ret_kept,
                               struct error *error)
{
    struct handle *kept = arena_allocate(graph_arena(graph), 1, sizeof *kept);
    size_t left = HANDLE_ITEMS_IN_ALL_MAX;
    if (kept == NULL) {
        return no_memory(error);
    }
    TRY(copy_handle(graph_arena(graph), handle, 0, &left, kept, error));
    *ret_kept = kept;
    return STATUS_OK;
}

/* Appends a name to the list of handles; its place is in the entry. */
static enum status add_handle_name(struct graph *graph, const char *name, struct name_count **ret_entry,
                                   struct error *error)
{
    if (graph->handle_count == graph->handle_capacity) {
        size_t capacity = graph->handle_capacity < 16 ? 32 : graph->handle_capacity * 2;
        const struct handle **handles = mem_reallocate(graph->handles, capacity, sizeof *handles);
        if (handles == NULL) {
            return no_memory(error);
        }
        graph->handles = handles;
        const char **keys = mem_reallocate(graph->handle_keys, capacity, sizeof *keys);
        if (keys == NULL) {
            return no_memory(error);
        }
        graph->handle_keys = keys;
        graph->handle_capacity = capacity;
    }
    const char *key = arena_copy_string(graph_arena(graph), name);
    struct name_count *entry = key == NULL ? NULL : name_counts_add(&graph->handle_names, key);
    if (entry == NULL) {
        return no_memory(error);
    }
    entry->count = graph->handle_count;
    graph->handle_keys[graph->handle_count] = key;
    graph->handles[graph->handle_count++] = NULL;
    *ret_entry = entry;
    return STATUS_OK;
}

enum status graph_set_handle(struct graph *graph, const char *name, const struct handle *handle, struct error *error)
{
    const struct handle *kept = NULL;
    struct name_count *entry = name_counts_find(&graph->handle_names, name);
    if (strlen(name) >= HANDLE_PATH_BYTES_MAX) {
        return error_set(error, STATUS_LIMIT, "the name '%.40s…' of a result has %zu bytes, at most %d", name,
                         strlen(name), HANDLE_PATH_BYTES_MAX - 1);
    }
    TRY(keep_handle(graph, handle, &kept, error));
    if (entry == NULL) {
        TRY(add_handle_name(graph, name, &entry, error));
    }
    graph->handles[entry->count] = kept;
    return STATUS_OK;
}

/* The item of a list that `key` (`length` bytes) names, by name or number; NULL when there is none. */
static const struct handle *find_item(const struct handle *list, const char *key, size_t length)
{
    char *end = NULL;
    for (size_t i = 0; list->kind == HANDLE_LIST && list->names != NULL && i < list->count; i++) {
        if (list->names[i] != NULL && strlen(list->names[i]) == length && strncmp(list->names[i], key, length) == 0) {
            return &list->items[i];
        }
    }
    unsigned long index = length > 0 && key[0] >= '0' && key[0] <= '9' ? strtoul(key, &end, 10) : 0;
    bool is_number = end == key + length;
    return list->kind == HANDLE_LIST && is_number && index < list->count ? &list->items[index] : NULL;
}

size_t handle_leaf_count(const struct handle *handle)
{
    size_t count = handle->kind == HANDLE_LIST ? 0 : 1;
    for (size_t i = 0; handle->kind == HANDLE_LIST && i < handle->count; i++) {
        count += handle_leaf_count(&handle->items[i]);
    }
    return count;
}

const struct handle *handle_part(const struct handle *handle, const char *path)
{
    while (handle != NULL && path[0] == '.') {
        size_t length = strcspn(path + 1, ".");
        handle = find_item(handle, path + 1, length);
        path += length + 1;
    }
    return handle;
}

const struct handle *graph_find_handle(const struct graph *graph, const char *path)
{
    char first[HANDLE_PATH_BYTES_MAX];
    size_t length = strcspn(path, ".");
    if (length >= sizeof first) {
        return NULL;
    }
    memcpy(first, path, length);
    first[length] = '\0';
    const struct name_count *entry = name_counts_find(&graph->handle_names, first);
    return entry == NULL ? NULL : handle_part(graph->handles[entry->count], path + length);
}

size_t graph_handle_count(const struct graph *graph)
{
    return graph->handle_count;
}

const struct handle *graph_handle_at(const struct graph *graph, size_t index, const char **ret_name)
{
    CHECK(index < graph->handle_count);
    *ret_name = graph->handle_keys[index];
    return graph->handles[index];
}

const char *handle_name(const struct handle *handle, char text[OUTPUT_NAME_BYTES_MAX])
{
    switch (handle->kind) {
    case HANDLE_TENSOR: return output_name(handle->output, text);
    case HANDLE_VARIABLE: return output_name((struct output){handle->variable->node, 0}, text);
    case HANDLE_OPERATION: return handle->node->name;
    case HANDLE_NONE:
    case HANDLE_OBJECT:
    case HANDLE_TEXT:
    case HANDLE_LIST: break;
    }
    return NULL;
}

/* ---- collections ---- */

static struct collection *find_collection(const struct graph *graph, const char *key)
{
    for (size_t i = 0; i < graph->collection_count; i++) {
        if (strcmp(graph->collections[i].key, key) == 0) {
            return &graph->collections[i];
        }
    }
    return NULL;
}

static enum status add_collection(struct graph *graph, const char *key, struct collection **ret_collection,
                                  struct error *error)
{
    if (graph->collection_count == GRAPH_COLLECTIONS_MAX) {
        return error_set(error, STATUS_LIMIT, "the graph has %d collections, the maximum", GRAPH_COLLECTIONS_MAX);
    }
    struct collection *collections =
        mem_reallocate(graph->collections, graph->collection_count + 1, sizeof *collections);
    if (collections == NULL) {
        return no_memory(error);
    }
    graph->collections = collections;
    const char *copy = arena_copy_string(graph_arena(graph), key);
    if (copy == NULL) {
        return no_memory(error);
    }
    *ret_collection = &graph->collections[graph->collection_count++];
    **ret_collection = (struct collection){.key = copy};
    return STATUS_OK;
}

enum status graph_add_to_own_collection(struct graph *graph, const char *key, const struct handle *value,
                                        struct error *error)
{
    const struct handle *kept = NULL;
    struct collection *collection = find_collection(graph, key);
    TRY(graph_check_not_finalized(graph, error));
    TRY(keep_handle(graph, value, &kept, error));
    if (collection == NULL) {
        TRY(add_collection(graph, key, &collection, error));
    }
    if (collection->count == collection->capacity) {
        size_t capacity = collection->capacity < 8 ? 16 : collection->capacity * 2;
        const struct handle **items = mem_reallocate(collection->items, capacity, sizeof *items);
        if (items == NULL) {
            return no_memory(error);
        }
        collection->items = items;
        collection->capacity = capacity;
    }
    collection->items[collection->count++] = kept;
    return STATUS_OK;
}

enum status graph_add_to_collection(struct graph *graph, const char *key, const struct handle *value,
                                    struct error *error)
{
    if (strcmp(key, COLLECTION_SIGNATURES) == 0 || strcmp(key, COLLECTION_KERAS_LAYERS) == 0) {
        return error_set(error, STATUS_INVALID, "the collection \"%s\" is lstmd's own: nothing can be added to it",
                         key);
    }
    return graph_add_to_own_collection(graph, key, value, error);
}

size_t graph_collection_count(const struct graph *graph, const char *key)
{
    const struct collection *collection = find_collection(graph, key);
    return collection == NULL ? 0 : collection->count;
}

const struct handle *graph_collection_at(const struct graph *graph, const char *key, size_t index)
{
    const struct collection *collection = find_collection(graph, key);
    CHECK(collection != NULL && index < collection->count);
    return collection->items[index];
}

const char *graph_collection_key(const struct graph *graph, size_t index)
{
    return index < graph->collection_count ? graph->collections[index].key : NULL;
}

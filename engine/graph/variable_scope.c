/* Variable scopes. Thread: the building one; everything made belongs to the graph.
 * Source: TensorFlow 1.15, variable_scope.py (variable_scope, _pure_variable_scope, _VariableScopeStore). */
#include "engine/graph/variable_scope.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the graph's scopes");
}

/* ---- reading ---- */

uint32_t variable_scope_current(const struct graph *graph)
{
    return graph->scope;
}

const struct variable_scope *variable_scope_at(const struct graph *graph, uint32_t scope)
{
    return graph_object(graph, OBJECT_SCOPE, scope);
}

static const struct variable_scope *current(const struct graph *graph)
{
    return variable_scope_at(graph, graph->scope);
}

const char *variable_scope_name(const struct graph *graph)
{
    return current(graph)->name;
}

enum reuse variable_scope_reuse(const struct graph *graph)
{
    const struct variable_scope *scope = current(graph);
    bool is_root = scope->name[0] == '\0' && scope->reuse == REUSE_INHERIT;
    return is_root ? graph->root_reuse : scope->reuse;
}

void variable_scope_set_reuse(struct graph *graph, enum reuse reuse)
{
    graph->root_reuse = reuse;
}

/* ---- changing a scope object ---- */

static enum status edit(struct graph *graph, uint32_t scope, struct variable_scope **ret_scope, struct error *error)
{
    void *data = NULL;
    TRY(graph_edit_object(graph, OBJECT_SCOPE, scope, &data, error));
    *ret_scope = data;
    return STATUS_OK;
}

enum status variable_scope_reuse_variables(struct graph *graph, uint32_t scope, struct error *error)
{
    struct variable_scope *edited = NULL;
    TRY(edit(graph, scope, &edited, error));
    edited->reuse = REUSE_TRUE;
    return STATUS_OK;
}

enum status variable_scope_set_initializer(struct graph *graph, uint32_t scope, const struct initializer *initializer,
                                           struct error *error)
{
    struct variable_scope *edited = NULL;
    TRY(edit(graph, scope, &edited, error));
    edited->initializer = *initializer;
    return STATUS_OK;
}

enum status variable_scope_set_regularizer(struct graph *graph, uint32_t scope, const struct regularizer *regularizer,
                                           struct error *error)
{
    struct variable_scope *edited = NULL;
    TRY(edit(graph, scope, &edited, error));
    edited->regularizer = *regularizer;
    return STATUS_OK;
}

enum status variable_scope_set_dtype(struct graph *graph, uint32_t scope, enum dtype dtype, struct error *error)
{
    struct variable_scope *edited = NULL;
    TRY(edit(graph, scope, &edited, error));
    edited->dtype = dtype;
    return STATUS_OK;
}

/* ---- opening ---- */

static const char *join(struct graph *graph, const char *name)
{
    const char *scope = variable_scope_name(graph);
    return arena_format(graph_arena(graph), "%s%s%s", scope, scope[0] == '\0' ? "" : "/", name);
}

/* What a scope has of the one it is opened from, the current one or the one that is entered again. */
static struct variable_scope inherit(const struct graph *graph, const struct variable_scope *from,
                                     const struct variable_scope_options *options)
{
    struct variable_scope scope = *from;
    bool is_current = from == current(graph);
    enum reuse inherited = is_current ? variable_scope_reuse(graph) : from->reuse;
    scope.reuse = options->reuse == REUSE_INHERIT ? inherited : options->reuse;
    scope.dtype = options->has_dtype ? options->dtype : from->dtype;
    if (options->initializer.kind != INITIALIZER_DEFAULT) {
        scope.initializer = options->initializer;
    }
    if (options->regularizer.kind != REGULARIZER_INHERIT) {
        scope.regularizer = options->regularizer;
    }
    scope.constraint = NULL; /* never inherited */
    return scope;
}

/* default_name, or default_name_1 …: the first whose scope was not opened yet below the current one. */
static enum status unique_scope_name(struct graph *graph, const char *default_name, const char **ret_full,
                                     struct error *error)
{
    const char *full = join(graph, default_name);
    for (uint64_t suffix = 1; full != NULL; suffix++) {
        const struct name_count *entry = name_counts_find(&graph->scope_counts, full);
        if (entry == NULL || entry->count == 0) {
            *ret_full = full;
            return STATUS_OK;
        }
        char numbered[GRAPH_NAME_BYTES_MAX + 24];
        snprintf(numbered, sizeof numbered, "%.*s_%llu", GRAPH_NAME_BYTES_MAX, default_name,
                 (unsigned long long)suffix);
        full = join(graph, numbered);
    }
    return no_memory(error);
}

/* The scope to make current, without its name scope, and the name scope to open ("": none). */
static enum status describe(struct graph *graph, const struct variable_scope_options *options,
                            struct variable_scope *ret_scope, const char **ret_name_scope, struct error *error)
{
    if (options->is_scope) {
        const struct variable_scope *from = variable_scope_at(graph, options->scope);
        const char *slash = strrchr(from->name, '/');
        *ret_scope = inherit(graph, from, options);
        *ret_name_scope = slash == NULL ? from->name : slash + 1;
        return STATUS_OK;
    }
    *ret_scope = inherit(graph, current(graph), options);
    *ret_name_scope = options->name == NULL ? options->default_name : options->name;
    if (options->name != NULL) {
        ret_scope->name = join(graph, options->name);
        return ret_scope->name == NULL ? no_memory(error) : STATUS_OK;
    }
    if (options->default_name == NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "If default_name is None then name_or_scope is required");
    }
    if (options->reuse != REUSE_INHERIT) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "reuse=True cannot be used without a name_or_scope");
    }
    return unique_scope_name(graph, options->default_name, &ret_scope->name, error);
}

/* ---- counts of scope names ---- */

/* Sets a count; while a scope entered by object is open, the old one is remembered. */
static enum status set_count(struct graph *graph, struct name_count *entry, uint64_t count, struct error *error)
{
    if (graph->jump_count > 0) {
        if (graph->count_change_count == graph->count_change_capacity) {
            size_t capacity = graph->count_change_capacity < 16 ? 32 : graph->count_change_capacity * 2;
            struct count_change *changes = mem_reallocate(graph->count_changes, capacity, sizeof *changes);
            if (changes == NULL) {
                return no_memory(error);
            }
            graph->count_changes = changes;
            graph->count_change_capacity = capacity;
        }
        graph->count_changes[graph->count_change_count++] = (struct count_change){entry->key, entry->count};
    }
    entry->count = count;
    return STATUS_OK;
}

/* Sets the counts of every scope below back to 0, so that default names start afresh when it is opened again. */
static enum status forget_scopes_below(struct graph *graph, const char *name, struct error *error)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < graph->scope_counts.slot_count; i++) {
        struct name_count *slot = &graph->scope_counts.slots[i];
        if (slot->key != NULL && slot->count > 0 && strncmp(slot->key, name, length) == 0 && slot->key[length] == '/') {
            TRY(set_count(graph, slot, 0, error));
        }
    }
    return STATUS_OK;
}

/* Undoes all changes of counts since there were `change_count`. */
static void restore_counts(struct graph *graph, size_t change_count)
{
    while (graph->count_change_count > change_count) {
        const struct count_change *change = &graph->count_changes[--graph->count_change_count];
        struct name_count *entry = name_counts_find(&graph->scope_counts, change->key);
        CHECK(entry != NULL);
        entry->count = change->count;
    }
}

/* Counts one more opening; a scope entered by object comes back to the counts after it. */
static enum status count_opening(struct graph *graph, const char *name, struct variable_scope_frame *frame,
                                 struct error *error)
{
    struct name_count *entry = name_counts_add(&graph->scope_counts, name);
    if (entry == NULL) {
        return no_memory(error);
    }
    TRY(set_count(graph, entry, entry->count + 1, error));
    if (frame->is_jump) {
        frame->change_count = graph->count_change_count;
        graph->jump_count++;
    }
    return STATUS_OK;
}

/* ---- opening and leaving ---- */

/* The name scope that comes with the first opening; an empty name opens none and has none. */
static enum status name_original_scope(struct graph *graph, const struct variable_scope_options *options,
                                       struct variable_scope *scope, struct error *error)
{
    if (options->is_scope) {
        return STATUS_OK;
    }
    const char *prefix = graph_name_scope(graph);
    bool is_none =
        prefix[0] == '\0' || (!options->keeps_name_scope && options->name != NULL && options->name[0] == '\0');
    scope->original_name_scope = is_none ? "" : arena_format(graph_arena(graph), "%s/", prefix);
    return scope->original_name_scope == NULL ? no_memory(error) : STATUS_OK;
}

static enum status open_scope(struct graph *graph, const struct variable_scope_options *options,
                              struct variable_scope_frame *ret_frame, struct error *error)
{
    struct variable_scope scope;
    const char *name_scope = NULL;
    struct variable_scope_frame frame = {.previous = graph->scope, .is_jump = options->is_scope};
    TRY(describe(graph, options, &scope, &name_scope, error));
    if (!options->keeps_name_scope && name_scope[0] != '\0') {
        TRY(graph_enter_name_scope(graph, name_scope, &frame.previous_name_scope, error));
    } else {
        frame.previous_name_scope = graph_name_scope(graph);
    }
    enum status status = name_original_scope(graph, options, &scope, error);
    if (status == STATUS_OK && options->constraint != NULL) {
        scope.constraint = arena_copy_string(graph_arena(graph), options->constraint);
        status = scope.constraint == NULL ? no_memory(error) : STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = graph_add_object(graph, OBJECT_SCOPE, &scope, sizeof scope, &frame.scope, error);
    }
    if (status == STATUS_OK) {
        status = count_opening(graph, scope.name, &frame, error);
    }
    if (status != STATUS_OK) {
        graph_leave_name_scope(graph, frame.previous_name_scope);
        return status;
    }
    graph->scope = frame.scope;
    *ret_frame = frame;
    return STATUS_OK;
}

enum status variable_scope_open(struct graph *graph, const struct variable_scope_options *options,
                                struct variable_scope_frame *ret_frame, struct error *error)
{
    return open_scope(graph, options, ret_frame, error);
}

enum status variable_scope_enter(struct graph *graph, const char *name, enum reuse reuse,
                                 struct variable_scope_frame *ret_frame, struct error *error)
{
    struct variable_scope_options options = {.name = name, .reuse = reuse};
    return open_scope(graph, &options, ret_frame, error);
}

enum status variable_scope_enter_default(struct graph *graph, const char *default_name,
                                         struct variable_scope_frame *ret_frame, struct error *error)
{
    struct variable_scope_options options = {.default_name = default_name};
    return open_scope(graph, &options, ret_frame, error);
}

enum status variable_scope_reopen(struct graph *graph, enum reuse reuse, struct variable_scope_frame *ret_frame,
                                  struct error *error)
{
    struct variable_scope_options options = {
        .is_scope = true, .scope = variable_scope_current(graph), .reuse = reuse, .keeps_name_scope = true};
    return open_scope(graph, &options, ret_frame, error);
}

static enum status leave(struct graph *graph, const struct variable_scope_frame *frame, struct error *error)
{
    graph->scope = frame->previous;
    graph_leave_name_scope(graph, frame->previous_name_scope);
    if (!frame->is_jump) {
        return forget_scopes_below(graph, variable_scope_at(graph, frame->scope)->name, error);
    }
    graph->jump_count--;
    restore_counts(graph, frame->change_count);
    return STATUS_OK;
}

void variable_scope_leave(struct graph *graph, const struct variable_scope_frame *frame)
{
    struct error error;
    /* Without memory to remember counts, default names inside an outer scope that is entered again may be skipped. */
    (void)!leave(graph, frame, &error);
}

enum status variable_scope_close(struct graph *graph, const struct variable_scope_frame *frame, struct error *error)
{
    if (graph->scope != frame->scope) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_RUNTIME, "Improper nesting of variable_scope.");
    }
    return leave(graph, frame, error);
}

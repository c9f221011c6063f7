/* Variable values. Thread: see values.h. Owns every tensor in it. */
#include "engine/graph/values.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/plan.h"

/* Tensors lie in chunks, each twice the last, so that growing moves none. */
enum { CHUNK_TENSORS_FIRST = 64, CHUNKS_MAX = 20 };

struct values {
    struct tensor *chunks[CHUNKS_MAX]; /* data NULL: not initialised */
    size_t count;                      /* of variables there is room for */
    const struct values *base;         /* has what is not initialised here; NULL: nothing has */
};

/* Chunk k holds CHUNK_TENSORS_FIRST << k tensors, from index (CHUNK_TENSORS_FIRST << k) − CHUNK_TENSORS_FIRST. */
static struct tensor *tensor_at(const struct values *values, size_t index)
{
    size_t from_first = index / CHUNK_TENSORS_FIRST + 1;
    int chunk = 63 - __builtin_clzll(from_first);
    return &values->chunks[chunk][index + CHUNK_TENSORS_FIRST - ((size_t)CHUNK_TENSORS_FIRST << chunk)];
}

static enum status no_memory(struct error *error, const char *name)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for variable %s", name);
}

enum status values_create(const struct graph *graph, struct values **ret_values, struct error *error)
{
    struct values *values = mem_allocate(1, sizeof *values);
    if (values == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a model's values");
    }
    enum status status = values_grow(values, graph, error);
    if (status != STATUS_OK) {
        values_destroy(values);
        return status;
    }
    *ret_values = values;
    return STATUS_OK;
}

enum status values_create_over(const struct values *base, const struct graph *graph, struct values **ret_values,
                               struct error *error)
{
    TRY(values_create(graph, ret_values, error));
    (*ret_values)->base = base;
    return STATUS_OK;
}

enum status values_grow(struct values *values, const struct graph *graph, struct error *error)
{
    size_t count = graph_variable_count(graph);
    size_t room = 0;
    for (int i = 0; i < CHUNKS_MAX && room < count; i++) {
        size_t chunk_count = (size_t)CHUNK_TENSORS_FIRST << i;
        if (values->chunks[i] == NULL) {
            values->chunks[i] = mem_allocate(chunk_count, sizeof *values->chunks[i]);
        }
        if (values->chunks[i] == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for %zu variables", count);
        }
        room += chunk_count;
    }
    CHECK(room >= count);
    values->count = count > values->count ? count : values->count;
    return STATUS_OK;
}

enum status values_copy(const struct values *source, struct values **ret_values, struct error *error)
{
    struct values *values = mem_allocate(1, sizeof *values);
    if (values == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a copy of %zu variables", source->count);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < CHUNKS_MAX && source->chunks[i] != NULL; i++) {
        values->chunks[i] = mem_allocate((size_t)CHUNK_TENSORS_FIRST << i, sizeof *values->chunks[i]);
        if (values->chunks[i] == NULL) {
            status = error_set(error, STATUS_NO_MEMORY, "no memory for a copy of %zu variables", source->count);
        }
    }
    for (size_t i = 0; status == STATUS_OK && i < source->count; i++) {
        values->count = i + 1;
        if (tensor_at(source, i)->data != NULL) {
            status = tensor_init_copy(tensor_at(values, i), tensor_at(source, i), error);
        }
    }
    if (status != STATUS_OK) {
        values_destroy(values);
        return status;
    }
    *ret_values = values;
    return STATUS_OK;
}

void values_destroy(struct values *values)
{
    if (values == NULL) {
        return;
    }
    for (size_t i = 0; i < values->count; i++) {
        if (tensor_at(values, i)->data != NULL) {
            tensor_release(tensor_at(values, i));
        }
    }
    for (size_t i = 0; i < CHUNKS_MAX; i++) {
        mem_free(values->chunks[i]);
    }
    mem_free(values);
}

struct tensor *values_tensor(const struct values *values, const struct variable *variable)
{
    if (variable->index >= values->count || tensor_at(values, variable->index)->data == NULL) {
        return values->base == NULL ? NULL : values_tensor(values->base, variable);
    }
    return tensor_at(values, variable->index);
}

enum status values_set(struct values *values, const struct variable *variable, const struct tensor *tensor,
                       struct error *error)
{
    CHECK(variable->index < values->count);
    const struct output_type *type = &variable->node->outputs[0];
    if (tensor->dtype != type->dtype || !shape_equal(&tensor->shape, &type->shape)) {
        char have[SHAPE_TEXT_BYTES_MAX];
        char want[SHAPE_TEXT_BYTES_MAX];
        enum status status =
            error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT,
                        "Assign requires shapes of both tensors to match. lhs shape= %s "
                        "(%s) rhs shape= %s (%s), variable %s",
                        shape_cpp_text(&type->shape, want), dtype_name(type->dtype),
                        shape_cpp_text(&tensor->shape, have), dtype_name(tensor->dtype), variable->node->name);
        if (error != NULL) {
            snprintf(error->variable, sizeof error->variable, "%s", variable->node->name);
        }
        return status;
    }
    struct tensor *own = tensor_at(values, variable->index);
    if (own->data == NULL && tensor_init(own, type->dtype, &type->shape, error) != STATUS_OK) {
        return no_memory(error, variable->node->name);
    }
    memmove(own->data, tensor->data, tensor_bytes(tensor));
    return STATUS_OK;
}

/* Runs the initialisers in one go: in the order of their nodes, so that one may read a variable made before. */
static enum status initialize(struct values *values, struct graph *graph, struct node *const *initializers,
                              size_t count, uint64_t seed, struct error *error)
{
    struct plan_options options = {.targets = initializers, .target_count = count};
    struct run_options run = {.random_key = seed};
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    TRY(plan_create(graph, &options, &plan, error));
    enum status status = workspace_create(plan, &workspace, error);
    if (status == STATUS_OK) {
        status = plan_run(plan, workspace, values, &run, NULL, error);
    }
    workspace_destroy(workspace);
    plan_unref(plan);
    return status;
}

enum status values_initialize(struct values *values, struct graph *graph, uint64_t seed, struct error *error)
{
    size_t count = 0;
    struct node **initializers = mem_allocate(graph_variable_count(graph) + 1, sizeof(struct node *));
    if (initializers == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for initialising variables");
    }
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        if (values_tensor(values, variable) == NULL) {
            initializers[count++] = variable->initializer;
        }
    }
    enum status status = count == 0 ? STATUS_OK : initialize(values, graph, initializers, count, seed, error);
    mem_free(initializers);
    return status;
}

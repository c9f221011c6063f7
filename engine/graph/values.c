/* Variable values. Thread: see values.h. Owns every tensor in it. */
#include "engine/graph/values.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/plan.h"

struct values {
    struct tensor *tensors; /* data NULL: not initialised */
    size_t count;
};

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

enum status values_grow(struct values *values, const struct graph *graph, struct error *error)
{
    size_t count = graph_variable_count(graph);
    if (count <= values->count) {
        return STATUS_OK;
    }
    struct tensor *tensors = mem_reallocate(values->tensors, count, sizeof *tensors);
    if (tensors == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu variables", count);
    }
    memset(tensors + values->count, 0, (count - values->count) * sizeof *tensors);
    values->tensors = tensors;
    values->count = count;
    return STATUS_OK;
}

enum status values_copy(const struct values *source, struct values **ret_values, struct error *error)
{
    struct values *values = mem_allocate(1, sizeof *values);
    struct tensor *tensors = mem_allocate(source->count + 1, sizeof *tensors);
    if (values == NULL || tensors == NULL) {
        mem_free(values);
        mem_free(tensors);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a copy of %zu variables", source->count);
    }
    values->tensors = tensors;
    values->count = source->count;
    for (size_t i = 0; i < source->count; i++) {
        if (source->tensors[i].data == NULL) {
            continue;
        }
        enum status status = tensor_init_copy(&tensors[i], &source->tensors[i], error);
        if (status != STATUS_OK) {
            values_destroy(values);
            return status;
        }
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
        if (values->tensors[i].data != NULL) {
            tensor_release(&values->tensors[i]);
        }
    }
    mem_free(values->tensors);
    mem_free(values);
}

struct tensor *values_tensor(const struct values *values, const struct variable *variable)
{
    if (variable->index >= values->count || values->tensors[variable->index].data == NULL) {
        return NULL;
    }
    return &values->tensors[variable->index];
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
            error_set(error, STATUS_UNPROCESSABLE,
                      "Assign requires shapes of both tensors to match. lhs shape= %s "
                      "(%s) rhs shape= %s (%s), variable %s",
                      shape_cpp_text(&type->shape, want), dtype_name(type->dtype), shape_cpp_text(&tensor->shape, have),
                      dtype_name(tensor->dtype), variable->node->name);
        if (error != NULL) {
            snprintf(error->type, sizeof error->type, "InvalidArgumentError");
            snprintf(error->variable, sizeof error->variable, "%s", variable->node->name);
        }
        return status;
    }
    struct tensor *own = &values->tensors[variable->index];
    if (own->data == NULL) {
        struct tensor fresh;
        if (tensor_init(&fresh, type->dtype, &type->shape, error) != STATUS_OK) {
            return no_memory(error, variable->node->name);
        }
        *own = fresh;
    }
    memmove(own->data, tensor->data, tensor_bytes(tensor));
    return STATUS_OK;
}

enum status values_initialize(struct values *values, struct graph *graph, uint64_t seed, struct error *error)
{
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        if (values_tensor(values, variable) != NULL) {
            continue;
        }
        struct plan_options options = {.fetches = &variable->initial, .fetch_count = 1};
        struct plan *plan = NULL;
        struct workspace *workspace = NULL;
        struct run_options run = {.random_key = seed};
        struct tensor initial;
        enum status status = plan_create(graph, &options, &plan, error);
        if (status == STATUS_OK) {
            status = workspace_create(plan, &workspace, error);
        }
        if (status == STATUS_OK) {
            status = plan_run(plan, workspace, values, &run, &initial, error);
        }
        if (status == STATUS_OK) {
            status = values_set(values, variable, &initial, error);
        }
        workspace_destroy(workspace);
        plan_unref(plan);
        TRY(status);
    }
    return STATUS_OK;
}

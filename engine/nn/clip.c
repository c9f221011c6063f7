/* Clipping of gradients. Thread: the building one. Source: TensorFlow 1.15, clip_ops.py. */
#include "engine/nn/clip.h"
#include "engine/graph/function.h"

/* clip · min(1/norm, 1/clip), NaN where the norm is not finite: norm − norm is 0 or NaN. */
static enum status add_scale(struct graph *graph, struct output clip_norm, struct output norm, struct output *ret_scale,
                             struct error *error)
{
    enum dtype dtype = output_type(norm)->dtype;
    struct output one;
    struct output inverses[2];
    struct output least;
    struct output finite;
    struct output nothing;
    TRY(graph_add_number(graph, NULL, dtype, 1, &one, error));
    struct output first[] = {one, norm};
    TRY(graph_add(graph, "RealDiv", "truediv", first, 2, &inverses[0], error));
    struct output second[] = {one, clip_norm};
    TRY(graph_add(graph, "RealDiv", "truediv", second, 2, &inverses[1], error));
    TRY(graph_add(graph, "Minimum", NULL, inverses, 2, &least, error));
    struct output product[] = {clip_norm, least};
    TRY(graph_add(graph, "Mul", "mul", product, 2, &finite, error));
    struct output difference[] = {norm, norm};
    TRY(graph_add(graph, "Sub", "sub", difference, 2, &nothing, error));
    struct output sum[] = {finite, nothing};
    return graph_add(graph, "Add", "add", sum, 2, ret_scale, error);
}

static enum status add_norm(struct graph *graph, const struct output *tensors, size_t count, const char *name,
                            struct output *ret_norm, struct error *error)
{
    struct output *given = arena_allocate(graph_arena(graph), count + 1, sizeof *given);
    size_t given_count = 0;
    if (given == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a norm");
    }
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].node != NULL) {
            given[given_count++] = tensors[i];
        }
    }
    return graph_add(graph, "GlobalNorm", name == NULL ? "global_norm" : name, given, given_count, ret_norm, error);
}

/* Inside the name scope. */
static enum status scale_all(struct graph *graph, const struct output *tensors, size_t count, struct output scale,
                             struct output *ret_tensors, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        char name[GRAPH_NAME_BYTES_MAX + 32];
        struct output product;
        if (tensors[i].node == NULL) {
            ret_tensors[i] = tensors[i];
            continue;
        }
        struct output factors[] = {tensors[i], scale};
        TRY(graph_add(graph, "Mul", "mul", factors, 2, &product, error));
        snprintf(name, sizeof name, "%s/_%zu", graph_name_scope(graph), i);
        TRY(graph_add(graph, "Identity", name, &product, 1, &ret_tensors[i], error));
    }
    return STATUS_OK;
}

enum status clip_by_global_norm(struct graph *graph, const struct output *tensors, size_t count,
                                struct output clip_norm, struct output use_norm, const char *name,
                                struct output *ret_tensors, struct output *ret_norm, struct error *error)
{
    const char *previous = NULL;
    struct output norm = use_norm;
    struct output scale;
    if (norm.node == NULL) {
        TRY(add_norm(graph, tensors, count, name, &norm, error));
    }
    TRY(graph_enter_name_scope(graph, name == NULL ? "clip_by_global_norm" : name, &previous, error));
    enum status status = add_scale(graph, clip_norm, norm, &scale, error);
    if (status == STATUS_OK) {
        status = scale_all(graph, tensors, count, scale, ret_tensors, error);
    }
    graph_leave_name_scope(graph, previous);
    TRY(status);
    *ret_norm = norm;
    return STATUS_OK;
}

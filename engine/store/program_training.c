/* Steps of training: gradients, clipping, optimisers. Thread: the building one. Owns nothing. */
#include "engine/graph/function.h"
#include "engine/graph/gradients.h"
#include "engine/store/program_private.h"

/* Tensors of a field; a single one counts as a list of one. Absent: none. */
static enum status read_list(struct builder *builder, const struct step *step, const char *field,
                             struct output **ret_outputs, size_t *ret_count)
{
    const json_t *json = json_object_get(step->json, field);
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    if (json == NULL || json_is_null(json)) {
        return STATUS_OK;
    }
    return read_tensors(builder, json, &place, ret_outputs, ret_count);
}

/* A list of tensors as a handle, None for what is not there. */
static enum status list_of(struct builder *builder, const struct output *outputs, size_t count,
                           struct handle *ret_handle)
{
    struct handle *items = NULL;
    TRY(builder_scratch(builder, count, sizeof *items, &items));
    for (size_t i = 0; i < count; i++) {
        items[i] = outputs[i].node == NULL ? (struct handle){.kind = HANDLE_NONE} : handle_tensor(outputs[i]);
    }
    *ret_handle = (struct handle){.kind = HANDLE_LIST, .items = items, .count = count};
    return STATUS_OK;
}

/* Variables count as what is read of them, so that gradients by them are those of every reading. */
static enum status apply_gradients_step(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {"list"};
    struct gradient_options options = {.name = NULL};
    struct output *ys = NULL;
    struct output *xs = NULL;
    struct output *grad_ys = NULL;
    struct output *stops = NULL;
    struct output *gradients = NULL;
    size_t grad_y_count = 0;
    struct handle list;
    TRY(read_list(builder, step, "ys", &ys, &options.y_count));
    TRY(read_list(builder, step, "xs", &xs, &options.x_count));
    TRY(read_list(builder, step, "grad_ys", &grad_ys, &grad_y_count));
    TRY(read_list(builder, step, "stop_gradients", &stops, &options.stop_count));
    TRY(read_text(builder, step, "unconnected_gradients", &options.unconnected));
    TRY(read_text(builder, step, "name", &options.name));
    if (ys == NULL || xs == NULL) {
        return refuse_field(builder, step, ys == NULL ? "ys" : "xs", "must be given: a list of tensors");
    }
    if (grad_ys != NULL && grad_y_count != options.y_count) {
        return refuse_field(builder, step, "grad_ys", "must be as long as \"ys\"");
    }
    options.ys = ys;
    options.xs = xs;
    options.grad_ys = grad_ys;
    options.stop_gradients = stops;
    TRY(builder_scratch(builder, options.x_count, sizeof *gradients, &gradients));
    TRY(graph_gradients_with(builder->graph, &options, gradients, builder->error));
    TRY(list_of(builder, gradients, options.x_count, &list));
    return builder_give_list(builder, &list, names, 1);
}

const struct step_kind program_training_steps[] = {
    {"gradients", "ys xs grad_ys stop_gradients unconnected_gradients name", apply_gradients_step, NULL},
    {NULL, NULL, NULL, NULL},
};

/* The insides of loops while they are built. Thread: the building one. A body's graph belongs to the segment of the
 * graph it was made in. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/constants.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the inside of a loop");
}

/* Adds a BodyInput of that type, whose name is the outer graph's. */
static enum status add_input(struct graph *graph, const struct output_type *type, struct output *ret_output,
                             struct error *error)
{
    struct body_builder *builder = graph->body;
    if (builder->input_count == builder->input_capacity) {
        size_t capacity = builder->input_capacity < 8 ? 16 : builder->input_capacity * 2;
        struct output *inputs = mem_reallocate(builder->inputs, capacity, sizeof *inputs);
        if (inputs == NULL) {
            return no_memory(error);
        }
        builder->inputs = inputs;
        struct output *captures = mem_reallocate(builder->captures, capacity, sizeof *captures);
        if (captures == NULL) {
            return no_memory(error);
        }
        builder->captures = captures;
        builder->input_capacity = capacity;
    }
    struct attribute attributes[] = {{.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = type->shape},
                                     {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = type->dtype}};
    struct node_options options = {.name = "Enter", .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "BodyInput", &options, &node, error));
    *ret_output = (struct output){node, 0};
    builder->inputs[builder->input_count++] = *ret_output;
    return STATUS_OK;
}

static void drop_builder(struct graph *graph)
{
    struct body_builder *builder = graph->body;
    graph->body = NULL;
    mem_free(builder->inputs);
    mem_free(builder->captures);
    mem_free(builder);
}

enum status graph_keep_inner(struct graph *graph, struct graph *inner, struct error *error)
{
    struct body_link *link = arena_allocate(graph_arena(graph), 1, sizeof *link);
    if (link == NULL) {
        graph_unref(inner);
        return no_memory(error);
    }
    *link = (struct body_link){inner, graph->segment->bodies};
    graph->segment->bodies = link;
    inner->segment->arena.bytes_max = arena_room_bytes(graph_arena(graph));
    return STATUS_OK;
}

void graph_charge_inner(struct graph *graph, const struct graph *inner)
{
    struct arena *arena = graph_arena(graph);
    size_t room = arena_room_bytes(arena);
    size_t used = inner->segment->arena.bytes;
    arena->bytes_max = arena->bytes + (room > used ? room - used : 1);
}

enum status graph_enter_body(struct graph *graph, const struct output_type *arguments, size_t argument_count,
                             struct output *ret_arguments, struct error *error)
{
    if (graph->body != NULL) {
        return error_set(error, STATUS_UNSUPPORTED, "a recurrence inside a recurrence's cell");
    }
    struct body_builder *builder = mem_allocate(1, sizeof *builder);
    if (builder == NULL) {
        return no_memory(error);
    }
    enum status status = graph_create(&builder->graph, error);
    if (status == STATUS_OK) {
        status = graph_keep_inner(graph, builder->graph, error);
    }
    if (status != STATUS_OK) {
        mem_free(builder);
        return status;
    }
    builder->number = ++graph->body_count;
    builder->argument_count = argument_count;
    graph->body = builder;
    for (size_t i = 0; i < argument_count; i++) {
        status = add_input(graph, &arguments[i], &ret_arguments[i], error);
        if (status != STATUS_OK) {
            drop_builder(graph);
            return status;
        }
    }
    return STATUS_OK;
}

static enum status refuse_inner(struct output output, struct error *error)
{
    char name[OUTPUT_NAME_BYTES_MAX];
    return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                       "Tensor '%s' is inside a recurrence's loop and cannot be used outside it",
                       output_name(output, name));
}

/* Lets shape rules inside know what is known of the value outside. */
static enum status know_value(struct graph *graph, struct output outer, struct node *inner, struct error *error)
{
    const struct tensor *value = graph_constant_value(graph, outer);
    if (value == NULL) {
        return STATUS_OK;
    }
    inner->constants = arena_copy(graph_arena(graph->body->graph), &value, 1, sizeof value);
    return inner->constants == NULL ? no_memory(error) : STATUS_OK;
}

enum status graph_body_resolve(struct graph *graph, struct output output, struct output *ret_output,
                               struct error *error)
{
    struct body_builder *builder = graph->body;
    uint32_t current = builder == NULL ? 0 : builder->number;
    if (output.node->body == current) {
        *ret_output = output;
        return STATUS_OK;
    }
    if (output.node->body != 0) {
        /* A body's own graph is extended by gradients through its own pointer. */
        bool is_own = output.node->id < graph->node_count && graph->nodes[output.node->id] == output.node;
        *ret_output = output;
        return is_own ? STATUS_OK : refuse_inner(output, error);
    }
    for (size_t i = builder->argument_count; i < builder->input_count; i++) {
        if (output_equal(builder->captures[i], output)) {
            *ret_output = builder->inputs[i];
            return STATUS_OK;
        }
    }
    TRY(add_input(graph, output_type(output), ret_output, error));
    builder->captures[builder->input_count - 1] = output;
    return know_value(graph, output, ret_output->node, error);
}

static enum status make_body(struct graph *graph, const struct output *outputs, size_t output_count,
                             const struct body **ret_body, struct error *error)
{
    struct body_builder *builder = graph->body;
    struct arena *arena = graph_arena(graph);
    struct body *body = arena_allocate(arena, 1, sizeof *body);
    struct output *resolved = arena_copy(arena, outputs, output_count, sizeof *resolved);
    if (body == NULL || resolved == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < output_count; i++) {
        TRY(graph_body_resolve(graph, outputs[i], &resolved[i], error));
    }
    *body = (struct body){.graph = builder->graph,
                          .argument_count = builder->argument_count,
                          .capture_count = builder->input_count - builder->argument_count,
                          .output_count = output_count,
                          .outputs = resolved};
    body->inputs = arena_copy(arena, builder->inputs, builder->input_count, sizeof *body->inputs);
    if (body->capture_count > 0) {
        body->captures =
            arena_copy(arena, builder->captures + builder->argument_count, body->capture_count, sizeof *body->captures);
    }
    if (body->inputs == NULL || (body->capture_count > 0 && body->captures == NULL)) {
        return no_memory(error);
    }
    *ret_body = body;
    return STATUS_OK;
}

enum status graph_leave_body(struct graph *graph, const struct output *outputs, size_t output_count,
                             const struct body **ret_body, struct error *error)
{
    CHECK(graph->body != NULL);
    enum status status = make_body(graph, outputs, output_count, ret_body, error);
    graph_charge_inner(graph, graph->body->graph);
    drop_builder(graph);
    return status;
}

void graph_abandon_body(struct graph *graph)
{
    if (graph->body != NULL) {
        drop_builder(graph);
    }
}

bool graph_is_in_body(const struct graph *graph)
{
    return graph->body != NULL;
}

struct body_builder *graph_suspend_body(struct graph *graph)
{
    struct body_builder *builder = graph->body;
    graph->body = NULL;
    graph->is_suspended = true;
    return builder;
}

void graph_resume_body(struct graph *graph, struct body_builder *builder)
{
    graph->body = builder;
    graph->is_suspended = false;
}

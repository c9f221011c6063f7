/* Seeing a graph as one step. Thread: one. Owns an arena of marks. */
#include "engine/model/step_view.h"

#include "engine/graph/constants.h"
#include "engine/graph/ops_recurrence.h"

enum { LSTM_OUTPUTS = 0, LSTM_H = 2 };

bool step_refuse(struct step_view *view, struct output output, const char *what)
{
    if (view->reason[0] == '\0') {
        snprintf(view->reason, sizeof view->reason, "'%.200s' (op: '%.60s') %s", output.node->name,
                 node_op_name(output.node), what);
    }
    return false;
}

/* ---- what depends on symbol and state ---- */

static bool is_end(const struct step_view *view, struct output output)
{
    bool is_found = output_equal(output, view->signature->symbol);
    for (size_t i = 0; !is_found && i < view->signature->state_count; i++) {
        is_found = output_equal(output, view->signature->states[i]);
    }
    return is_found;
}

/* Marks what depends on something that is marked already. */
static void spread(const struct graph *graph, bool *depends)
{
    for (size_t id = 0; id < graph_node_count(graph); id++) {
        const struct node *node = graph_node(graph, id);
        for (size_t i = 0; i < node->input_count && !depends[id]; i++) {
            depends[id] = depends[node->inputs[i].node->id];
        }
    }
}

enum status step_view_init(struct step_view *view, const struct graph *graph,
                           const struct generate_signature *signature, struct error *error)
{
    *view = (struct step_view){.graph = graph, .signature = signature};
    view->depends = arena_allocate(&view->arena, graph_node_count(graph) + 1, sizeof *view->depends);
    if (view->depends == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to look at a graph of %zu nodes", graph_node_count(graph));
    }
    view->depends[signature->symbol.node->id] = true;
    for (size_t i = 0; i < signature->state_count; i++) {
        view->depends[signature->states[i].node->id] = true;
    }
    spread(graph, view->depends);
    return STATUS_OK;
}

void step_view_release(struct step_view *view)
{
    arena_release(&view->arena);
}

static const struct step_loop *loop_of(const struct step_view *view, const struct node *node)
{
    for (size_t i = 0; node->body != 0 && i < view->loop_count; i++) {
        if (view->loops[i].body->inputs[0].node->body == node->body) {
            return &view->loops[i];
        }
    }
    return NULL;
}

bool step_is_free(const struct step_view *view, struct output output)
{
    const struct step_loop *loop = loop_of(view, output.node);
    return loop == NULL ? !view->depends[output.node->id] : !loop->depends[output.node->id];
}

/* ---- into loops and out of them ---- */

/* What a loop's input is outside. */
static struct output outside(const struct step_loop *loop, struct output input)
{
    size_t i = 0;
    while (!output_equal(loop->body->inputs[i], input)) {
        i++;
    }
    if (i >= loop->body->argument_count) {
        return loop->body->captures[i - loop->body->argument_count];
    }
    return loop->node->inputs[i == 0 ? 0 : recurrence_of(loop->node).first_state + i - 1];
}

static const struct step_loop *enter(struct step_view *view, const struct node *node)
{
    const struct body *body = recurrence_of(node).body;
    const struct step_loop *known = loop_of(view, body->inputs[0].node);
    if (known != NULL || view->loop_count == STEP_VIEW_LOOPS_MAX) {
        return known;
    }
    struct step_loop loop = {.node = node, .body = body};
    loop.depends = arena_allocate(&view->arena, graph_node_count(body->graph) + 1, sizeof *loop.depends);
    if (loop.depends == NULL) {
        view->has_failed = true;
        return NULL;
    }
    for (size_t i = 0; i < body->argument_count + body->capture_count; i++) {
        loop.depends[body->inputs[i].node->id] =
            i < body->argument_count || !step_is_free(view, body->captures[i - body->argument_count]);
    }
    spread(body->graph, loop.depends);
    view->loops[view->loop_count] = loop;
    return &view->loops[view->loop_count++];
}

/* What a turn of the loop yields for the node's output; false for a loop that turns otherwise. */
static bool turn(struct step_view *view, struct output output, struct output *ret_output)
{
    struct recurrence recurrence = recurrence_of(output.node);
    if (recurrence.has_lengths || output.index >= recurrence_saved(&recurrence)) {
        return false;
    }
    const struct step_loop *loop = enter(view, output.node);
    if (loop == NULL) {
        return false;
    }
    bool is_history = output.index > recurrence.state_count;
    *ret_output = loop->body->outputs[is_history ? output.index - recurrence.state_count : output.index];
    return true;
}

/* ---- changes of shape ---- */

size_t step_width(struct output output)
{
    const struct shape *shape = &output_type(output)->shape;
    size_t width = shape->rank < 0 ? 0 : 1;
    for (int d = 0; d < shape->rank; d++) {
        width *= shape->dimensions[d] < 0 ? 1 : (size_t)shape->dimensions[d];
    }
    return width;
}

static bool is_one(struct step_view *view, struct output output)
{
    double number;
    return step_number(view, output, &number) && number == 1;
}

/* Which input it is under another shape; false when it is more than that. */
static bool find_same(struct step_view *view, const struct node *node, size_t *ret_input)
{
    static const char *const reshaping[] = {"Identity",    "StopGradient", "PreventGradient", "Reshape",
                                            "ReshapeLike", "Squeeze",      "ExpandDims",      "PlaceholderWithDefault",
                                            "Transpose"};
    *ret_input = 0;
    for (size_t i = 0; i < sizeof reshaping / sizeof *reshaping; i++) {
        if (node_is(node, reshaping[i])) {
            return true;
        }
    }
    if (node_is(node, "Slice") || node_is(node, "StridedSlice")) {
        size_t width = step_width((struct output){(struct node *)(uintptr_t)node, 0});
        return width != 0 && width == step_width(node->inputs[0]);
    }
    if (node_is(node, "Cast")) {
        return dtype_is_integer(output_type(node->inputs[0])->dtype) && dtype_is_integer(node->outputs[0].dtype);
    }
    return (node_is(node, "Pack") && node->input_count == 1) || (node_is(node, "Unpack") && node->output_count == 1) ||
           (node_is(node, "ConcatV2") && node->input_count == 2) ||
           (node_is(node, "Dropout") && is_one(view, node->inputs[1]));
}

/* One tensor back; false where more than a shape changes. */
static bool look_behind(struct step_view *view, struct output *output) /* NOLINT(misc-no-recursion) */
{
    size_t input = 0;
    if (node_is(output->node, "Recurrence")) {
        return turn(view, *output, output);
    }
    if (node_is(output->node, "LstmBlock") && output->index == LSTM_OUTPUTS) {
        output->index = LSTM_H;
        return true;
    }
    if (!find_same(view, output->node, &input)) {
        return false;
    }
    *output = output->node->inputs[input];
    return true;
}

struct output step_resolve(struct step_view *view, struct output output) /* NOLINT(misc-no-recursion) */
{
    for (;;) {
        const struct step_loop *loop = loop_of(view, output.node);
        if (loop != NULL && node_is(output.node, "BodyInput")) {
            output = outside(loop, output);
        } else if (is_end(view, output) || step_is_free(view, output) || !look_behind(view, &output)) {
            return output;
        }
    }
}

bool step_number(struct step_view *view, struct output output, double *ret_number) /* NOLINT(misc-no-recursion) */
{
    for (;;) {
        const struct step_loop *loop = loop_of(view, output.node);
        if (loop != NULL && node_is(output.node, "BodyInput")) {
            output = outside(loop, output);
        } else if (node_is(output.node, "PlaceholderWithDefault") || node_is(output.node, "Identity")) {
            output = output.node->inputs[0];
        } else {
            break;
        }
    }
    const struct tensor *value = graph_constant_value(view->graph, output);
    if (value == NULL || tensor_element_count(value) != 1) {
        return false;
    }
    *ret_number = tensor_number(value, 0);
    return true;
}

/* ---- columns ---- */

/* Where a slice that keeps all but columns begins; false when it is another slice. */
static bool find_columns(const struct step_view *view, const struct node *node, size_t *ret_begin)
{
    const struct tensor *begin = graph_constant_value(view->graph, node->inputs[1]);
    size_t rank = begin == NULL ? 0 : tensor_element_count(begin);
    for (size_t d = 0; d + 1 < rank; d++) {
        if (tensor_number(begin, d) != 0) {
            return false;
        }
    }
    *ret_begin = rank == 0 ? 0 : (size_t)tensor_number(begin, rank - 1);
    return rank > 0;
}

struct step_piece step_select(struct step_view *view, struct output output)
{
    struct step_piece piece = {.output = step_resolve(view, output)};
    piece.count = step_width(piece.output);
    while (!step_is_free(view, piece.output) && !is_end(view, piece.output)) {
        const struct node *node = piece.output.node;
        size_t begin = 0;
        if (node_is(node, "Split")) {
            piece.begin += piece.output.index * step_width(piece.output);
            piece.output = step_resolve(view, node->inputs[1]);
        } else if (node_is(node, "Slice") && find_columns(view, node, &begin)) {
            piece.begin += begin;
            piece.output = step_resolve(view, node->inputs[0]);
        } else {
            break;
        }
    }
    return piece;
}

bool step_piece_equal(struct step_piece a, struct step_piece b)
{
    return output_equal(a.output, b.output) && a.begin == b.begin && a.count == b.count;
}

bool step_find_next(struct step_view *view, struct output output, size_t *ret_state)
{
    for (size_t i = 0; i < view->signature->state_count; i++) {
        if (output_equal(step_resolve(view, view->signature->next_states[i]), output)) {
            *ret_state = i;
            return true;
        }
    }
    return false;
}

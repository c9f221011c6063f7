/* Which nodes a run computes, and what each reads: from feeds, fetches and targets to steps over slots. Thread: the
 * compiling one. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/plan_private.h"

/* ---- what is needed ---- */

static size_t find_feed(const struct compiler *compiler, struct output output)
{
    uint32_t at = compiler->first_feed[output.node->id];
    while (at != 0 && compiler->options->feeds[at - 1].index != output.index) {
        at = compiler->next_feed[at - 1];
    }
    return at == 0 ? compiler->options->feed_count : at - 1;
}

static bool is_fed(const struct compiler *compiler, struct output output)
{
    return find_feed(compiler, output) < compiler->options->feed_count;
}

static void index_feeds(struct compiler *compiler)
{
    for (size_t i = compiler->options->feed_count; i-- > 0;) {
        uint32_t *first = &compiler->first_feed[compiler->options->feeds[i].node->id];
        compiler->next_feed[i] = *first;
        *first = (uint32_t)i + 1;
    }
}

/* A node that is waited for or a target. As in TensorFlow, a fed placeholder has happened, while another node whose
 * outputs are fed is still computed. */
static void mark_node(struct compiler *compiler, const struct node *node)
{
    bool has_happened = (node->op->flags & OP_FEED_ONLY) != 0 && compiler->first_feed[node->id] != 0;
    compiler->is_needed[node->id] = compiler->is_needed[node->id] || !has_happened;
}

static void mark_needed(struct compiler *compiler)
{
    const struct plan_options *options = compiler->options;
    const struct graph *graph = compiler->graph;
    for (size_t i = 0; i < options->fetch_count; i++) {
        if (!is_fed(compiler, options->fetches[i])) {
            compiler->is_needed[options->fetches[i].node->id] = true;
        }
    }
    for (size_t i = 0; i < options->target_count; i++) {
        mark_node(compiler, options->targets[i]);
    }
    for (size_t id = graph_node_count(graph); id-- > 0;) {
        const struct node *node = graph_node(graph, id);
        for (size_t i = 0; compiler->is_needed[id] && i < node->input_count; i++) {
            if (!is_fed(compiler, node->inputs[i])) {
                compiler->is_needed[node->inputs[i].node->id] = true;
            }
        }
        for (size_t i = 0; compiler->is_needed[id] && i < node->control_count; i++) {
            mark_node(compiler, node->controls[i]);
        }
    }
}

enum status plan_check_feed(struct output output, const struct shape *shape, struct error *error)
{
    const struct output_type *type = output_type(output);
    char name[OUTPUT_NAME_BYTES_MAX];
    if (shape_is_compatible(shape, &type->shape)) {
        struct output_type given = {type->dtype, *shape};
        return output_type_check_size(&given, output_name(output, name), error);
    }
    char fed[SHAPE_TEXT_BYTES_MAX];
    char wanted[SHAPE_TEXT_BYTES_MAX];
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                       "Cannot feed value of shape %s for Tensor '%s', which has shape '%s'", shape_text(shape, fed),
                       output_name(output, name), shape_text(&type->shape, wanted));
}

/* ---- slots and steps ---- */

static uint32_t slot_of(const struct compiler *compiler, struct output output)
{
    size_t feed = find_feed(compiler, output);
    if (feed < compiler->options->feed_count) {
        return compiler->plan->feed_slots[feed];
    }
    uint32_t first = compiler->first_slot[output.node->id];
    CHECK(first > 0);
    return first - 1 + output.index;
}

static enum status refuse_placeholder(const struct node *node, struct error *error)
{
    char shape[SHAPE_TEXT_BYTES_MAX];
    const struct output_type *type = &node->outputs[0];
    bool has_shape = type->shape.rank > 0;
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT,
                       "You must feed a value for placeholder tensor '%s' with dtype %s%s%s\n\t [[node %s]]",
                       node->name, dtype_cpp_name(type->dtype), has_shape ? " and shape " : "",
                       has_shape ? shape_cpp_text(&type->shape, shape) : "", node->name);
}

/* An op that changes a variable cannot change what was fed in its place. */
static enum status check_not_fed(const struct compiler *compiler, const struct node *node, struct error *error)
{
    for (size_t i = 0; i < node->input_count; i++) {
        struct output input = node->inputs[i];
        if (plan_is_written(node, i) && is_fed(compiler, input)) {
            const char *dtype = dtype_cpp_name(output_type(input)->dtype);
            return error_raise(
                error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT,
                "Input %zu of node %s was passed %s from _arg_%s_%u_%zu:0 incompatible with expected %s_ref.", i,
                node->name, dtype, input.node->name, input.index, find_feed(compiler, input), dtype);
        }
    }
    return STATUS_OK;
}

static enum status find_variable(struct compiler *compiler, struct step *step, struct error *error)
{
    const struct node *node = step->node;
    if ((node->op->flags & OP_VARIABLE) != 0) {
        step->variable = node->variable;
    } else if ((node->op->flags & OP_WRITES) != 0) {
        TRY(check_not_fed(compiler, node, error));
        step->variable = node->inputs[0].node->variable;
        compiler->plan->writes = true;
    } else {
        return STATUS_OK;
    }
    return step->variable != NULL ? STATUS_OK
                                  : error_set(error, STATUS_UNPROCESSABLE, "'%s' (op: '%s') has no variable behind it",
                                              node->name, node->op->name);
}

static enum status add_step(struct compiler *compiler, const struct node *node, struct error *error)
{
    struct plan *plan = compiler->plan;
    struct step *step = &plan->steps[plan->step_count];
    if ((node->op->flags & OP_FEED_ONLY) != 0) {
        return refuse_placeholder(node, error);
    }
    step->node = node;
    step->input_count = node->input_count;
    step->inputs = arena_allocate(&plan->arena, node->input_count, sizeof *step->inputs);
    if (step->inputs == NULL) {
        return plan_no_memory(error);
    }
    for (size_t i = 0; i < node->input_count; i++) {
        step->inputs[i] = slot_of(compiler, node->inputs[i]);
    }
    TRY(find_variable(compiler, step, error));
    step->output = (uint32_t)plan->slot_count;
    step->output_count = node->output_count;
    compiler->first_slot[node->id] = step->output + 1;
    plan->slot_count += node->output_count;
    compiler->step_of[node->id] = (uint32_t)++plan->step_count;
    return plan_infer_step(compiler, step, error);
}

static enum status add_feeds(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    const struct plan_options *options = compiler->options;
    for (size_t i = 0; i < options->feed_count; i++) {
        TRY(plan_check_feed(options->feeds[i], &options->feed_shapes[i], error));
        uint32_t at = (uint32_t)plan->slot_count++;
        plan->feed_slots[i] = at;
        plan->slots[at] =
            (struct slot){.kind = SLOT_FEED,
                          .root = at,
                          .maker = NO_STEP,
                          .tensor = {.dtype = output_type(options->feeds[i])->dtype, .shape = options->feed_shapes[i]}};
    }
    return STATUS_OK;
}

static enum status add_steps(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    for (size_t id = 0; id < graph_node_count(compiler->graph); id++) {
        if (compiler->is_needed[id]) {
            TRY(add_step(compiler, graph_node(compiler->graph, id), error));
        }
    }
    for (size_t i = 0; i < compiler->options->fetch_count; i++) {
        plan->fetches[i] = slot_of(compiler, compiler->options->fetches[i]);
    }
    return STATUS_OK;
}

/* ---- tables ---- */

static enum status allocate_marks(struct compiler *compiler, struct error *error)
{
    size_t node_count = graph_node_count(compiler->graph);
    compiler->is_needed = mem_allocate(node_count + 1, sizeof *compiler->is_needed);
    compiler->first_slot = mem_allocate(node_count + 1, sizeof *compiler->first_slot);
    compiler->step_of = mem_allocate(node_count + 1, sizeof *compiler->step_of);
    compiler->first_feed = mem_allocate(node_count + 1, sizeof *compiler->first_feed);
    compiler->next_feed = mem_allocate(compiler->options->feed_count + 1, sizeof *compiler->next_feed);
    bool is_complete = compiler->is_needed != NULL && compiler->first_slot != NULL && compiler->step_of != NULL &&
                       compiler->first_feed != NULL && compiler->next_feed != NULL;
    return is_complete ? STATUS_OK : plan_no_memory(error);
}

static enum status allocate_tables(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    size_t slots = compiler->options->feed_count;
    size_t steps = 0;
    size_t copies = 0; /* what plan_keep_reads may add */
    size_t outputs_max = 0;
    for (size_t id = 0; id < graph_node_count(compiler->graph); id++) {
        const struct node *node = graph_node(compiler->graph, id);
        if (compiler->is_needed[id]) {
            slots += node->output_count;
            steps++;
            outputs_max = node->output_count > outputs_max ? node->output_count : outputs_max;
            copies += (node->op->flags & (OP_ALIAS | OP_WRITES)) != 0;
            plan->inputs_max = node->input_count > plan->inputs_max ? node->input_count : plan->inputs_max;
        }
    }
    compiler->input_types = mem_allocate(plan->inputs_max + 1, sizeof *compiler->input_types);
    compiler->constants = mem_allocate(plan->inputs_max + 1, sizeof *compiler->constants);
    compiler->computed = mem_allocate(outputs_max + 1, sizeof *compiler->computed);
    compiler->known = mem_allocate(slots + 1, sizeof *compiler->known);
    plan->slots = arena_allocate(&plan->arena, slots + copies, sizeof *plan->slots);
    plan->steps = arena_allocate(&plan->arena, steps, sizeof *plan->steps);
    plan->fetches = arena_allocate(&plan->arena, compiler->options->fetch_count, sizeof *plan->fetches);
    plan->feed_slots = arena_allocate(&plan->arena, compiler->options->feed_count, sizeof *plan->feed_slots);
    bool is_complete = compiler->input_types != NULL && compiler->constants != NULL && compiler->known != NULL &&
                       compiler->computed != NULL && plan->slots != NULL && plan->steps != NULL &&
                       plan->fetches != NULL && plan->feed_slots != NULL;
    return is_complete ? STATUS_OK : plan_no_memory(error);
}

static enum status compile(struct compiler *compiler, struct error *error)
{
    TRY(allocate_marks(compiler, error));
    index_feeds(compiler);
    mark_needed(compiler);
    TRY(allocate_tables(compiler, error));
    TRY(add_feeds(compiler, error));
    plan_know_feeds(compiler);
    TRY(add_steps(compiler, error));
    TRY(plan_keep_reads(compiler, error));
    return plan_drop_unused(compiler, error);
}

enum status plan_compile(struct plan *plan, const struct graph *graph, const struct plan_options *options,
                         struct error *error)
{
    struct compiler compiler = {.options = options, .graph = graph, .plan = plan};
    op_inference_begin(&compiler.inference);
    enum status status = compile(&compiler, error);
    op_inference_end(&compiler.inference);
    mem_free(compiler.is_needed);
    mem_free(compiler.first_slot);
    mem_free(compiler.step_of);
    mem_free(compiler.first_feed);
    mem_free(compiler.next_feed);
    mem_free(compiler.known);
    arena_release(&compiler.arena);
    mem_free(compiler.computed);
    mem_free(compiler.input_types);
    mem_free(compiler.constants);
    return status;
}

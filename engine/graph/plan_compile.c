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

static void mark_needed(struct compiler *compiler)
{
    const struct plan_options *options = compiler->options;
    const struct graph *graph = compiler->plan->graph;
    for (size_t i = options->feed_count; i-- > 0;) {
        uint32_t *first = &compiler->first_feed[options->feeds[i].node->id];
        compiler->next_feed[i] = *first;
        *first = (uint32_t)i + 1;
    }
    for (size_t i = 0; i < options->fetch_count; i++) {
        if (!is_fed(compiler, options->fetches[i])) {
            compiler->is_needed[options->fetches[i].node->id] = true;
        }
    }
    for (size_t i = 0; i < options->target_count; i++) {
        compiler->is_needed[options->targets[i]->id] = true;
    }
    for (size_t id = graph_node_count(graph); id-- > 0;) {
        const struct node *node = graph_node(graph, id);
        for (size_t i = 0; compiler->is_needed[id] && i < node->input_count; i++) {
            if (!is_fed(compiler, node->inputs[i])) {
                compiler->is_needed[node->inputs[i].node->id] = true;
            }
        }
        for (size_t i = 0; compiler->is_needed[id] && i < node->control_count; i++) {
            compiler->is_needed[node->controls[i]->id] = true;
        }
    }
}

static enum status check_feed(const struct plan_options *options, size_t index, struct error *error)
{
    const struct output_type *type = output_type(options->feeds[index]);
    if (shape_is_compatible(&options->feed_shapes[index], &type->shape)) {
        return STATUS_OK;
    }
    char name[OUTPUT_NAME_BYTES_MAX];
    char fed[SHAPE_TEXT_BYTES_MAX];
    char wanted[SHAPE_TEXT_BYTES_MAX];
    error_set(error, STATUS_UNPROCESSABLE, "Cannot feed value of shape %s for Tensor '%s', which has shape '%s'",
              shape_text(&options->feed_shapes[index], fed), output_name(options->feeds[index], name),
              shape_text(&type->shape, wanted));
    error_type(error, "ValueError");
    return STATUS_UNPROCESSABLE;
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
    error_set(error, STATUS_UNPROCESSABLE,
              "You must feed a value for placeholder tensor '%s' with dtype %s%s%s\n\t [[node %s]]", node->name,
              dtype_cpp_name(type->dtype), has_shape ? " and shape " : "",
              has_shape ? shape_cpp_text(&type->shape, shape) : "", node->name);
    error_type(error, "InvalidArgumentError");
    return STATUS_UNPROCESSABLE;
}

static void set_slot_kinds(struct plan *plan, const struct step *step, const struct inference *inference)
{
    const struct op *op = step->node->op;
    for (uint32_t i = 0; i < inference->output_count; i++) {
        struct slot *slot = &plan->slots[step->output + i];
        *slot = (struct slot){
            .kind = SLOT_MEMORY,
            .root = step->output + i,
            .tensor = {.dtype = inference->outputs[i].dtype, .shape = inference->outputs[i].shape}};
        if (i > 0) {
            continue;
        }
        if ((op->flags & OP_ALIAS) != 0) {
            slot->kind = SLOT_ALIAS;
            slot->root = plan->slots[step->inputs[0]].root;
        } else if ((op->flags & (OP_VARIABLE | OP_WRITES)) != 0) {
            slot->kind = SLOT_VARIABLE;
            slot->variable = step->variable;
        } else if (op == &op_const) {
            slot->kind = SLOT_CONSTANT;
            slot->tensor.data = node_attribute(step->node, "value")->tensor.data;
        }
    }
}

/* Refuses what a run would not know the size of. */
static enum status check_outputs(const struct inference *inference, struct error *error)
{
    for (size_t i = 0; i < inference->output_count; i++) {
        size_t count = 0;
        const struct shape *shape = &inference->outputs[i].shape;
        if (!shape_is_fully_known(shape) || !shape_element_count(shape, &count)) {
            char text[SHAPE_TEXT_BYTES_MAX];
            return error_set(error, STATUS_UNPROCESSABLE,
                             "the shape %s of %s:%zu is not known before the run or too large",
                             shape_text(shape, text), inference->node->name, i);
        }
    }
    return STATUS_OK;
}

/* Lets the op compile what it runs inside, and makes room for what it computes with. */
static enum status prepare_step(struct plan *plan, struct step *step, const struct inference *inference,
                                struct error *error)
{
    const struct op *op = step->node->op;
    size_t bytes = op->scratch_bytes == NULL ? 0 : op->scratch_bytes(inference);
    if (op->prepare != NULL) {
        size_t prepared_bytes = 0;
        TRY(op->prepare(inference, &step->prepared, &prepared_bytes, error));
        bytes = prepared_bytes > bytes ? prepared_bytes : bytes;
    }
    plan->scratch_bytes = bytes > plan->scratch_bytes ? bytes : plan->scratch_bytes;
    return plan_check_bytes(plan, error);
}

static enum status infer_step(struct compiler *compiler, struct step *step, struct error *error)
{
    struct plan *plan = compiler->plan;
    struct inference *inference = compiler->inference;
    for (size_t i = 0; i < step->input_count; i++) {
        const struct slot *slot = &plan->slots[step->inputs[i]];
        compiler->input_types[i] = (struct output_type){slot->tensor.dtype, slot->tensor.shape};
        compiler->constants[i] = slot->kind == SLOT_CONSTANT ? &slot->tensor : NULL;
    }
    inference->node = step->node;
    inference->inputs = compiler->input_types;
    inference->constants = compiler->constants;
    inference->input_count = step->input_count;
    inference->output_count = 0;
    TRY(step->node->op->infer(inference, error));
    CHECK(inference->output_count == step->node->output_count);
    TRY(check_outputs(inference, error));
    set_slot_kinds(plan, step, inference);
    return prepare_step(plan, step, inference, error);
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
    if ((node->op->flags & OP_VARIABLE) != 0) {
        step->variable = node->variable;
    } else if ((node->op->flags & OP_WRITES) != 0) {
        step->variable = node->inputs[0].node->variable;
        plan->writes = true;
    }
    if ((node->op->flags & (OP_VARIABLE | OP_WRITES)) != 0 && step->variable == NULL) {
        return error_set(error, STATUS_UNPROCESSABLE, "'%s' (op: '%s') has no variable behind it", node->name,
                         node->op->name);
    }
    step->output = (uint32_t)plan->slot_count;
    step->output_count = node->output_count;
    compiler->first_slot[node->id] = step->output + 1;
    plan->slot_count += node->output_count;
    plan->step_count++;
    return infer_step(compiler, step, error);
}

static enum status add_feeds(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    const struct plan_options *options = compiler->options;
    for (size_t i = 0; i < options->feed_count; i++) {
        TRY(check_feed(options, i, error));
        uint32_t at = (uint32_t)plan->slot_count++;
        plan->feed_slots[i] = at;
        plan->slots[at] = (struct slot){
            .kind = SLOT_FEED,
            .root = at,
            .tensor = {.dtype = output_type(options->feeds[i])->dtype, .shape = options->feed_shapes[i]}};
    }
    return STATUS_OK;
}

static enum status add_steps(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    for (size_t id = 0; id < graph_node_count(plan->graph); id++) {
        if (compiler->is_needed[id]) {
            TRY(add_step(compiler, graph_node(plan->graph, id), error));
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
    size_t node_count = graph_node_count(compiler->plan->graph);
    compiler->is_needed = mem_allocate(node_count + 1, sizeof *compiler->is_needed);
    compiler->first_slot = mem_allocate(node_count + 1, sizeof *compiler->first_slot);
    compiler->first_feed = mem_allocate(node_count + 1, sizeof *compiler->first_feed);
    compiler->next_feed = mem_allocate(compiler->options->feed_count + 1, sizeof *compiler->next_feed);
    compiler->inference = mem_allocate(1, sizeof *compiler->inference);
    bool is_complete = compiler->is_needed != NULL && compiler->first_slot != NULL && compiler->first_feed != NULL &&
                       compiler->next_feed != NULL && compiler->inference != NULL;
    return is_complete ? STATUS_OK : plan_no_memory(error);
}

static enum status allocate_tables(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    size_t slots = compiler->options->feed_count;
    size_t steps = 0;
    for (size_t id = 0; id < graph_node_count(plan->graph); id++) {
        const struct node *node = graph_node(plan->graph, id);
        if (compiler->is_needed[id]) {
            slots += node->output_count;
            steps++;
            plan->inputs_max = node->input_count > plan->inputs_max ? node->input_count : plan->inputs_max;
        }
    }
    compiler->input_types = mem_allocate(plan->inputs_max + 1, sizeof *compiler->input_types);
    compiler->constants = mem_allocate(plan->inputs_max + 1, sizeof *compiler->constants);
    plan->slots = arena_allocate(&plan->arena, slots, sizeof *plan->slots);
    plan->steps = arena_allocate(&plan->arena, steps, sizeof *plan->steps);
    plan->fetches = arena_allocate(&plan->arena, compiler->options->fetch_count, sizeof *plan->fetches);
    plan->feed_slots = arena_allocate(&plan->arena, compiler->options->feed_count, sizeof *plan->feed_slots);
    bool is_complete = compiler->input_types != NULL && compiler->constants != NULL && plan->slots != NULL &&
                       plan->steps != NULL && plan->fetches != NULL && plan->feed_slots != NULL;
    return is_complete ? STATUS_OK : plan_no_memory(error);
}

static enum status compile(struct compiler *compiler, struct error *error)
{
    TRY(allocate_marks(compiler, error));
    mark_needed(compiler);
    TRY(allocate_tables(compiler, error));
    TRY(add_feeds(compiler, error));
    return add_steps(compiler, error);
}

enum status plan_compile(struct plan *plan, const struct plan_options *options, struct error *error)
{
    struct compiler compiler = {.options = options, .plan = plan};
    enum status status = compile(&compiler, error);
    mem_free(compiler.is_needed);
    mem_free(compiler.first_slot);
    mem_free(compiler.first_feed);
    mem_free(compiler.next_feed);
    mem_free(compiler.inference);
    mem_free(compiler.input_types);
    mem_free(compiler.constants);
    return status;
}

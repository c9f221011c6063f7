/* Compiling and running. Thread: compiling, any one; running, any, each with a workspace of its own.
 *
 * Every tensor of a plan is a slot. A slot's memory is a feed, a constant in the graph, a variable's own, another
 * slot's (ops that only change the shape), or a place in the workspace, reused once the last reader has run. */
#include "engine/graph/plan.h"

#include <stdatomic.h>

#include "engine/base/arena.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"

enum slot_kind { SLOT_FEED, SLOT_CONSTANT, SLOT_VARIABLE, SLOT_ALIAS, SLOT_MEMORY };

struct slot {
    enum slot_kind kind;
    uint32_t source;      /* feed index, or the slot an alias shows */
    uint32_t last_use;    /* step after which its memory is free */
    struct tensor tensor; /* dtype and full shape; data of constants */
    size_t offset;        /* in the workspace */
    const struct variable *variable;
};

struct step {
    const struct node *node;
    const struct variable *variable; /* of VariableV2 and of ops that write */
    uint32_t *inputs;                /* slots */
    uint32_t output;                 /* first of its slots */
};

struct plan {
    _Atomic size_t references;
    struct graph *graph;
    struct arena arena;
    struct slot *slots;
    size_t slot_count;
    struct step *steps;
    size_t step_count;
    uint32_t *fetches; /* slots */
    size_t fetch_count;
    size_t feed_count;
    uint32_t *feed_slots;
    size_t inputs_max; /* of one step */
    size_t memory_bytes;
    size_t scratch_bytes;
    bool writes;
};

struct workspace {
    char *memory;
    char *scratch;
    struct tensor *tensors; /* one for each slot */
    struct tensor *inputs;  /* of the step that runs */
};

/* What compiling needs only meanwhile. */
struct compiler {
    const struct plan_options *options;
    struct plan *plan;
    uint32_t *first_slot; /* of each node + 1; 0: not computed */
    bool *is_needed;
    struct hole *holes;
    size_t hole_count;
    size_t hole_capacity;
};

struct hole {
    size_t offset;
    size_t bytes;
};

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a plan");
}

/* ---- what is needed ---- */

static size_t find_feed(const struct plan_options *options, struct output output)
{
    for (size_t i = 0; i < options->feed_count; i++) {
        if (output_equal(options->feeds[i], output)) {
            return i;
        }
    }
    return options->feed_count;
}

static bool is_fed(const struct compiler *compiler, struct output output)
{
    return find_feed(compiler->options, output) < compiler->options->feed_count;
}

static void mark_needed(struct compiler *compiler)
{
    const struct plan_options *options = compiler->options;
    const struct graph *graph = compiler->plan->graph;
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
    size_t feed = find_feed(compiler->options, output);
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
    for (size_t i = 0; i < inference->output_count; i++) {
        struct slot *slot = &plan->slots[step->output + i];
        slot->kind = SLOT_MEMORY;
        slot->tensor = (struct tensor){.dtype = inference->outputs[i].dtype, .shape = inference->outputs[i].shape};
        if ((op->flags & OP_ALIAS) != 0 && i == 0) {
            slot->kind = SLOT_ALIAS;
            slot->source = step->inputs[0];
        } else if ((op->flags & (OP_VARIABLE | OP_WRITES)) != 0 && i == 0) {
            slot->kind = SLOT_VARIABLE;
            slot->variable = step->variable;
        } else if (op == &op_const) {
            slot->kind = SLOT_CONSTANT;
            slot->tensor.data = node_attribute(step->node, "value")->tensor.data;
        }
    }
}

static enum status infer_step(struct compiler *compiler, struct step *step, struct error *error)
{
    struct plan *plan = compiler->plan;
    const struct node *node = step->node;
    struct inference inference = {.node = node, .input_count = node->input_count};
    struct output_type *inputs = mem_allocate(node->input_count, sizeof *inputs);
    const struct tensor **constants = mem_allocate(node->input_count, sizeof *constants);
    if (inputs == NULL || constants == NULL) {
        mem_free(inputs);
        mem_free(constants);
        return no_memory(error);
    }
    for (size_t i = 0; i < node->input_count; i++) {
        const struct slot *slot = &plan->slots[step->inputs[i]];
        inputs[i] = (struct output_type){slot->tensor.dtype, slot->tensor.shape};
        constants[i] = slot->kind == SLOT_CONSTANT ? &slot->tensor : NULL;
    }
    inference.inputs = inputs;
    inference.constants = constants;
    enum status status = node->op->infer(&inference, error);
    for (size_t i = 0; status == STATUS_OK && i < inference.output_count; i++) {
        size_t count = 0;
        if (!shape_is_fully_known(&inference.outputs[i].shape) ||
            !shape_element_count(&inference.outputs[i].shape, &count)) {
            char shape[SHAPE_TEXT_BYTES_MAX];
            status = error_set(error, STATUS_UNPROCESSABLE,
                               "the shape %s of %s:%zu is not known before the run or too large",
                               shape_text(&inference.outputs[i].shape, shape), node->name, i);
        }
    }
    if (status == STATUS_OK) {
        set_slot_kinds(plan, step, &inference);
        size_t scratch = node->op->scratch_bytes == NULL ? 0 : node->op->scratch_bytes(&inference);
        plan->scratch_bytes = scratch > plan->scratch_bytes ? scratch : plan->scratch_bytes;
    }
    mem_free(inputs);
    mem_free(constants);
    return status;
}

static enum status add_step(struct compiler *compiler, const struct node *node, struct error *error)
{
    struct plan *plan = compiler->plan;
    struct step *step = &plan->steps[plan->step_count];
    if ((node->op->flags & OP_FEED_ONLY) != 0) {
        return refuse_placeholder(node, error);
    }
    step->node = node;
    step->inputs = arena_allocate(&plan->arena, node->input_count, sizeof *step->inputs);
    if (step->inputs == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < node->input_count; i++) {
        step->inputs[i] = slot_of(compiler, node->inputs[i]);
    }
    if ((node->op->flags & OP_VARIABLE) != 0) {
        step->variable = graph_variable_of_node(plan->graph, node);
    } else if ((node->op->flags & OP_WRITES) != 0) {
        step->variable = graph_variable_of_node(plan->graph, node->inputs[0].node);
        plan->writes = true;
    }
    step->output = (uint32_t)plan->slot_count;
    compiler->first_slot[node->id] = step->output + 1;
    plan->slot_count += node->output_count;
    plan->inputs_max = node->input_count > plan->inputs_max ? node->input_count : plan->inputs_max;
    plan->step_count++;
    return infer_step(compiler, step, error);
}

static enum status add_feeds(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    const struct plan_options *options = compiler->options;
    for (size_t i = 0; i < options->feed_count; i++) {
        TRY(check_feed(options, i, error));
        plan->feed_slots[i] = (uint32_t)plan->slot_count;
        struct slot *slot = &plan->slots[plan->slot_count++];
        slot->kind = SLOT_FEED;
        slot->source = (uint32_t)i;
        slot->tensor =
            (struct tensor){.dtype = output_type(options->feeds[i])->dtype, .shape = options->feed_shapes[i]};
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

/* ---- memory ---- */

static uint32_t root_of(const struct plan *plan, uint32_t slot)
{
    while (plan->slots[slot].kind == SLOT_ALIAS) {
        slot = plan->slots[slot].source;
    }
    return slot;
}

static void find_last_uses(struct plan *plan)
{
    for (size_t s = 0; s < plan->step_count; s++) {
        for (size_t i = 0; i < plan->steps[s].node->output_count; i++) {
            plan->slots[plan->steps[s].output + i].last_use = (uint32_t)s;
        }
        for (size_t i = 0; i < plan->steps[s].node->input_count; i++) {
            plan->slots[root_of(plan, plan->steps[s].inputs[i])].last_use = (uint32_t)s;
        }
    }
    for (size_t i = 0; i < plan->fetch_count; i++) {
        plan->slots[root_of(plan, plan->fetches[i])].last_use = UINT32_MAX;
    }
}

static size_t rounded(size_t bytes)
{
    return (bytes + MEM_ALIGNMENT_BYTES - 1) / MEM_ALIGNMENT_BYTES * MEM_ALIGNMENT_BYTES;
}

/* Takes the smallest hole that fits, or grows the workspace. */
static size_t take_memory(struct compiler *compiler, size_t bytes)
{
    size_t best = compiler->hole_count;
    for (size_t i = 0; i < compiler->hole_count; i++) {
        if (compiler->holes[i].bytes >= bytes &&
            (best == compiler->hole_count || compiler->holes[i].bytes < compiler->holes[best].bytes)) {
            best = i;
        }
    }
    if (best == compiler->hole_count) {
        size_t offset = compiler->plan->memory_bytes;
        compiler->plan->memory_bytes += bytes;
        return offset;
    }
    struct hole *hole = &compiler->holes[best];
    size_t offset = hole->offset;
    hole->offset += bytes;
    hole->bytes -= bytes;
    if (hole->bytes == 0) {
        *hole = compiler->holes[--compiler->hole_count];
    }
    return offset;
}

/* Gives memory back and joins it with its neighbours. */
static void give_memory(struct compiler *compiler, size_t offset, size_t bytes)
{
    struct hole joined = {offset, bytes};
    for (size_t i = 0; i < compiler->hole_count;) {
        struct hole *hole = &compiler->holes[i];
        if (hole->offset + hole->bytes == joined.offset || joined.offset + joined.bytes == hole->offset) {
            joined.offset = hole->offset < joined.offset ? hole->offset : joined.offset;
            joined.bytes += hole->bytes;
            *hole = compiler->holes[--compiler->hole_count];
            i = 0;
        } else {
            i++;
        }
    }
    CHECK(compiler->hole_count < compiler->hole_capacity);
    compiler->holes[compiler->hole_count++] = joined;
}

static void free_after(struct compiler *compiler, uint32_t slot_index, size_t step)
{
    struct slot *slot = &compiler->plan->slots[slot_index];
    if (slot->kind == SLOT_MEMORY && slot->last_use == step && tensor_bytes(&slot->tensor) > 0) {
        give_memory(compiler, slot->offset, rounded(tensor_bytes(&slot->tensor)));
        slot->last_use = UINT32_MAX - 1; /* freed once, though it may be an input twice */
    }
}

static enum status place_memory(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    find_last_uses(plan);
    for (size_t s = 0; s < plan->step_count; s++) {
        const struct step *step = &plan->steps[s];
        for (size_t i = 0; i < step->node->output_count; i++) {
            struct slot *slot = &plan->slots[step->output + i];
            if (slot->kind == SLOT_MEMORY && tensor_bytes(&slot->tensor) > 0) {
                slot->offset = take_memory(compiler, rounded(tensor_bytes(&slot->tensor)));
            }
            if (plan->memory_bytes > PLAN_WORKSPACE_BYTES_MAX) { /* before a sum can overflow */
                return error_set(error, STATUS_LIMIT, "a run of these shapes needs more than %zu bytes",
                                 PLAN_WORKSPACE_BYTES_MAX);
            }
        }
        for (size_t i = 0; i < step->node->input_count; i++) {
            free_after(compiler, root_of(plan, step->inputs[i]), s);
        }
        for (uint32_t i = 0; i < step->node->output_count; i++) {
            free_after(compiler, step->output + i, s);
        }
    }
    return STATUS_OK;
}

/* ---- life ---- */

static enum status allocate_tables(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    size_t node_count = graph_node_count(plan->graph);
    compiler->is_needed = mem_allocate(node_count + 1, sizeof *compiler->is_needed);
    compiler->first_slot = mem_allocate(node_count + 1, sizeof *compiler->first_slot);
    if (compiler->is_needed == NULL || compiler->first_slot == NULL) {
        return no_memory(error);
    }
    mark_needed(compiler);
    size_t slots = compiler->options->feed_count;
    size_t steps = 0;
    for (size_t id = 0; id < node_count; id++) {
        slots += compiler->is_needed[id] ? graph_node(plan->graph, id)->output_count : 0;
        steps += compiler->is_needed[id];
    }
    compiler->hole_capacity = slots + 1;
    compiler->holes = mem_allocate(compiler->hole_capacity, sizeof *compiler->holes);
    plan->slots = arena_allocate(&plan->arena, slots, sizeof *plan->slots);
    plan->steps = arena_allocate(&plan->arena, steps, sizeof *plan->steps);
    plan->fetches = arena_allocate(&plan->arena, compiler->options->fetch_count, sizeof *plan->fetches);
    plan->feed_slots = arena_allocate(&plan->arena, compiler->options->feed_count, sizeof *plan->feed_slots);
    bool is_complete = compiler->holes != NULL && plan->slots != NULL && plan->steps != NULL && plan->fetches != NULL &&
                       plan->feed_slots != NULL;
    return is_complete ? STATUS_OK : no_memory(error);
}

static enum status compile(struct compiler *compiler, struct error *error)
{
    TRY(allocate_tables(compiler, error));
    TRY(add_feeds(compiler, error));
    TRY(add_steps(compiler, error));
    return place_memory(compiler, error);
}

enum status plan_create(struct graph *graph, const struct plan_options *options, struct plan **ret_plan,
                        struct error *error)
{
    if (options->feed_count > PLAN_FEEDS_MAX || options->fetch_count > PLAN_FETCHES_MAX) {
        return error_set(error, STATUS_LIMIT, "a run takes at most %d feeds and %d fetches", PLAN_FEEDS_MAX,
                         PLAN_FETCHES_MAX);
    }
    struct plan *plan = mem_allocate(1, sizeof *plan);
    if (plan == NULL) {
        return no_memory(error);
    }
    atomic_init(&plan->references, 1);
    plan->graph = graph_ref(graph);
    plan->fetch_count = options->fetch_count;
    plan->feed_count = options->feed_count;
    struct compiler compiler = {.options = options, .plan = plan};
    enum status status = compile(&compiler, error);
    mem_free(compiler.is_needed);
    mem_free(compiler.first_slot);
    mem_free(compiler.holes);
    if (status != STATUS_OK) {
        plan_unref(plan);
        return status;
    }
    *ret_plan = plan;
    return STATUS_OK;
}

struct plan *plan_ref(struct plan *plan)
{
    atomic_fetch_add(&plan->references, 1);
    return plan;
}

struct plan *plan_unref(struct plan *plan)
{
    if (plan != NULL && atomic_fetch_sub(&plan->references, 1) == 1) {
        graph_unref(plan->graph);
        arena_release(&plan->arena);
        mem_free(plan);
    }
    return NULL;
}

bool plan_writes(const struct plan *plan)
{
    return plan->writes;
}

size_t plan_workspace_bytes(const struct plan *plan)
{
    return plan->memory_bytes + plan->scratch_bytes;
}

enum status workspace_create(const struct plan *plan, struct workspace **ret_workspace, struct error *error)
{
    struct workspace *workspace = mem_allocate(1, sizeof *workspace);
    if (workspace == NULL) {
        return no_memory(error);
    }
    workspace->memory = mem_allocate_aligned_raw(plan->memory_bytes, 1);
    workspace->scratch = mem_allocate_aligned_raw(plan->scratch_bytes, 1);
    workspace->tensors = mem_allocate(plan->slot_count + 1, sizeof *workspace->tensors);
    workspace->inputs = mem_allocate(plan->inputs_max + 1, sizeof *workspace->inputs);
    if (workspace->memory == NULL || workspace->scratch == NULL || workspace->tensors == NULL ||
        workspace->inputs == NULL) {
        workspace_destroy(workspace);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a run's %zu bytes", plan_workspace_bytes(plan));
    }
    for (size_t i = 0; i < plan->slot_count; i++) {
        workspace->tensors[i] = plan->slots[i].tensor;
        if (plan->slots[i].kind == SLOT_MEMORY) {
            workspace->tensors[i].data = workspace->memory + plan->slots[i].offset;
        }
    }
    *ret_workspace = workspace;
    return STATUS_OK;
}

void workspace_destroy(struct workspace *workspace)
{
    if (workspace != NULL) {
        mem_free(workspace->memory);
        mem_free(workspace->scratch);
        mem_free(workspace->tensors);
        mem_free(workspace->inputs);
        mem_free(workspace);
    }
}

/* ---- running ---- */

static enum status refuse_uninitialized(const struct variable *variable, struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE, "Attempting to use uninitialized value %s\n\t [[{{node %s}}]]",
              variable->node->name, variable->node->name);
    error_type(error, "FailedPreconditionError");
    error_code(error, "uninitialized");
    if (error != NULL) {
        snprintf(error->variable, sizeof error->variable, "%s", variable->node->name);
    }
    return STATUS_UNPROCESSABLE;
}

/* Fails when a slot shows a variable that has no value yet. */
static enum status check_initialized(const struct plan *plan, const struct workspace *workspace, uint32_t slot,
                                     struct error *error)
{
    if (workspace->tensors[slot].data != NULL) {
        return STATUS_OK;
    }
    const struct slot *root = &plan->slots[root_of(plan, slot)];
    return root->variable == NULL ? STATUS_OK : refuse_uninitialized(root->variable, error);
}

static enum status run_step(const struct plan *plan, struct workspace *workspace, struct values *values,
                            const struct step *step, uint64_t random_key, struct error *error)
{
    const struct op *op = step->node->op;
    struct tensor *outputs = workspace->tensors + step->output;
    for (size_t i = 0; i < step->node->input_count; i++) {
        bool is_written = i == 0 && op == &op_assign;
        if (!is_written && op != &op_identity) {
            TRY(check_initialized(plan, workspace, step->inputs[i], error));
        }
        workspace->inputs[i] = workspace->tensors[step->inputs[i]];
    }
    if ((op->flags & OP_ALIAS) != 0) {
        outputs[0].data = workspace->inputs[0].data;
    }
    if (op->compute != NULL) {
        struct op_run run = {.node = step->node,
                             .inputs = workspace->inputs,
                             .input_count = step->node->input_count,
                             .outputs = outputs,
                             .scratch = workspace->scratch,
                             .values = values,
                             .variable = step->variable,
                             .random_key = random_key};
        TRY(op->compute(&run, error));
    }
    if ((op->flags & (OP_VARIABLE | OP_WRITES)) != 0) {
        const struct tensor *value = values_tensor(values, step->variable);
        outputs[0].data = value == NULL ? NULL : value->data;
    }
    return STATUS_OK;
}

enum status plan_run(const struct plan *plan, struct workspace *workspace, struct values *values,
                     const struct run_options *options, struct tensor *ret_fetches, struct error *error)
{
    for (size_t i = 0; i < plan->feed_count; i++) {
        struct tensor *tensor = &workspace->tensors[plan->feed_slots[i]];
        CHECK(options->feeds[i].dtype == tensor->dtype && shape_equal(&options->feeds[i].shape, &tensor->shape));
        tensor->data = options->feeds[i].data;
    }
    for (size_t s = 0; s < plan->step_count; s++) {
        if (options->cancel != NULL && atomic_load_explicit(options->cancel, memory_order_relaxed)) {
            return error_set(error, STATUS_CANCELLED, "the run was cancelled");
        }
        TRY(run_step(plan, workspace, values, &plan->steps[s], options->random_key, error));
    }
    for (size_t i = 0; i < plan->fetch_count; i++) {
        TRY(check_initialized(plan, workspace, plan->fetches[i], error));
        ret_fetches[i] = workspace->tensors[plan->fetches[i]];
    }
    return STATUS_OK;
}

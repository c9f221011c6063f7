/* What is known while planning: the shapes of all tensors, and the values of constants, of shapes, of small whole
 * numbers that are fed, and of what is computed from such. Thread: the compiling one. */
#include "engine/base/check.h"
#include "engine/graph/constants.h"
#include "engine/graph/plan_private.h"

static bool is_whole(enum dtype dtype)
{
    return dtype == DTYPE_INT32 || dtype == DTYPE_INT64 || dtype == DTYPE_BOOL;
}

void plan_know_feeds(struct compiler *compiler)
{
    const struct plan_options *options = compiler->options;
    for (size_t i = 0; options->feed_values != NULL && i < options->feed_count && i < PLAN_VALUE_FEEDS_MAX; i++) {
        const struct tensor *value = &options->feed_values[i];
        if (is_whole(value->dtype) && tensor_element_count(value) <= PLAN_VALUE_ELEMENTS_MAX) {
            compiler->known[compiler->plan->feed_slots[i]] = (struct known){*value, UINT64_C(1) << i};
        }
    }
}

/* Gives the shape rule the inputs' values: those that always hold, and with `with_feeds` also those that hold for these
 * feeds. Returns the feeds that given values come from. */
static uint64_t give_values(struct compiler *compiler, const struct step *step, bool with_feeds)
{
    uint64_t feeds = 0;
    for (size_t i = 0; i < step->input_count; i++) {
        const struct known *known = &compiler->known[step->inputs[i]];
        bool is_given = known->tensor.data != NULL && (with_feeds || known->feeds == 0);
        compiler->constants[i] = is_given ? &known->tensor : NULL;
        feeds |= is_given ? known->feeds : 0;
    }
    return feeds;
}

static bool has_all_shapes(const struct inference *inference)
{
    for (size_t i = 0; i < inference->output_count; i++) {
        if (!shape_is_fully_known(&inference->outputs[i].shape)) {
            return false;
        }
    }
    return true;
}

/* Refuses an output whose shape is not known: names the first input whose value is not. */
static enum status refuse_unknown(const struct inference *inference, struct error *error)
{
    const struct node *node = inference->node;
    size_t input = 0;
    while (input < inference->input_count &&
           (inference->constants[input] != NULL || !is_whole(inference->inputs[input].dtype))) {
        input++;
    }
    char name[OUTPUT_NAME_BYTES_MAX];
    if (input < inference->input_count) {
        return error_raise(
            error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT,
            "the shape of '%s' (op: '%s') depends on the value of its input %zu, '%s', which is not known before "
            "the run",
            node->name, node->op->name, input, output_name(node->inputs[input], name));
    }
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT,
                       "the shape of '%s' (op: '%s') is not known before the run", node->name, node->op->name);
}

/* Runs the shape rule; only if it needs them, with the values of feeds. */
static enum status infer(struct compiler *compiler, const struct step *step, struct error *error)
{
    struct inference *inference = &compiler->inference;
    for (size_t i = 0; i < step->input_count; i++) {
        const struct tensor *tensor = &compiler->plan->slots[step->inputs[i]].tensor;
        compiler->input_types[i] = (struct output_type){tensor->dtype, tensor->shape};
    }
    inference->node = step->node;
    inference->inputs = compiler->input_types;
    inference->constants = compiler->constants;
    inference->input_count = step->input_count;
    inference->is_planning = true;
    inference->output_count = 0;
    (void)give_values(compiler, step, false);
    TRY(step->node->op->infer(inference, error));
    if (!has_all_shapes(inference)) {
        uint64_t feeds = give_values(compiler, step, true);
        inference->output_count = 0;
        TRY(step->node->op->infer(inference, error));
        if (!has_all_shapes(inference)) {
            return refuse_unknown(inference, error);
        }
        compiler->plan->depends |= feeds;
    }
    CHECK(inference->output_count == step->node->output_count);
    return op_check_sizes(inference, error);
}

static void set_slots(struct plan *plan, const struct step *step, const struct inference *inference)
{
    const struct op *op = step->node->op;
    for (uint32_t i = 0; i < inference->output_count; i++) {
        struct slot *slot = &plan->slots[step->output + i];
        *slot = (struct slot){.kind = SLOT_MEMORY,
                              .root = step->output + i,
                              .maker = (uint32_t)(step - plan->steps),
                              .tensor = {.dtype = inference->outputs[i].dtype, .shape = inference->outputs[i].shape}};
        if ((op->flags & OP_ALIAS) != 0 && i == 0) {
            slot->kind = SLOT_ALIAS;
            slot->root = plan->slots[step->inputs[0]].root;
        } else if ((op->flags & (OP_VARIABLE | OP_WRITES)) != 0 && i == 0) {
            slot->kind = SLOT_VARIABLE;
            slot->variable = step->variable;
        }
    }
}

/* Computes a step whose inputs are known; its outputs are constants of the plan unless they come from feeds. */
static enum status fold(struct compiler *compiler, struct step *step, struct error *error)
{
    struct plan *plan = compiler->plan;
    struct tensor *outputs = compiler->computed;
    uint64_t feeds = give_values(compiler, step, true);
    if (step->node->op == &op_const) {
        outputs[0] = node_attribute(step->node, "value")->tensor;
    } else {
        bool only_looks_at_shapes = (step->node->op->flags & OP_OF_SHAPE) != 0;
        feeds = only_looks_at_shapes ? 0 : feeds;
        bool is_known = false;
        TRY(constants_compute(&compiler->inference, feeds == 0 ? &plan->arena : &compiler->arena, outputs, &is_known,
                              error));
        if (!is_known) {
            return STATUS_OK;
        }
    }
    for (uint32_t i = 0; i < step->output_count; i++) {
        uint32_t at = step->output + i;
        compiler->known[at] = (struct known){outputs[i], feeds};
        if (feeds == 0) {
            plan->slots[at].kind = SLOT_CONSTANT;
            plan->slots[at].root = at;
            plan->slots[at].tensor = outputs[i];
        }
    }
    step->is_folded = feeds == 0;
    return STATUS_OK;
}

/* Shapes that do not go together are a ValueError while building and, as here, an InvalidArgumentError in a run. */
static void refuse_at_run(const struct node *node, struct error *error)
{
    if (error_is(error, EXCEPTION_VALUE)) {
        size_t length = strlen(error->message);
        snprintf(error->message + length, sizeof error->message - length, "\n\t [[node %s]]", node->name);
        error_type(error, EXCEPTION_INVALID_ARGUMENT);
    }
}

enum status plan_infer_step(struct compiler *compiler, struct step *step, struct error *error)
{
    const struct op *op = step->node->op;
    enum status status = infer(compiler, step, error);
    if (status != STATUS_OK) {
        refuse_at_run(step->node, error);
        return status;
    }
    set_slots(compiler->plan, step, &compiler->inference);
    TRY(fold(compiler, step, error));
    if (step->is_folded) {
        return STATUS_OK;
    }
    (void)give_values(compiler, step, false); /* what the op prepares must hold for other feeds, too */
    step->scratch_bytes = op->scratch_bytes == NULL ? 0 : op->scratch_bytes(&compiler->inference);
    return op->prepare == NULL ? STATUS_OK
                               : op->prepare(&compiler->inference, &step->prepared, &step->scratch_bytes, error);
}

/* Workspaces, and running a plan in one. Thread: any, each with a workspace of its own. */
#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/graph/plan_private.h"

/* ---- workspaces ---- */

static size_t table_bytes(const struct plan *plan)
{
    return plan_rounded(sizeof(struct workspace)) + plan_rounded(plan->slot_count * sizeof(struct tensor)) +
           plan_rounded(plan->inputs_max * sizeof(struct tensor));
}

size_t plan_workspace_bytes(const struct plan *plan)
{
    return table_bytes(plan) + plan->memory_bytes + plan_rounded(plan->scratch_bytes);
}

struct workspace *workspace_place(const struct plan *plan, void *memory)
{
    CHECK((uintptr_t)memory % MEM_ALIGNMENT_BYTES == 0);
    struct workspace *workspace = memory;
    char *rest = (char *)memory + plan_rounded(sizeof *workspace);
    workspace->tensors = (struct tensor *)(void *)rest;
    rest += plan_rounded(plan->slot_count * sizeof *workspace->tensors);
    workspace->inputs = (struct tensor *)(void *)rest;
    rest += plan_rounded(plan->inputs_max * sizeof *workspace->inputs);
    workspace->memory = rest;
    workspace->scratch = rest + plan->memory_bytes;
    for (size_t i = 0; i < plan->slot_count; i++) {
        workspace->tensors[i] = plan->slots[i].tensor;
        if (plan->slots[i].kind == SLOT_MEMORY) {
            workspace->tensors[i].data = workspace->memory + plan->slots[i].offset;
        }
    }
    return workspace;
}

enum status workspace_create(const struct plan *plan, struct workspace **ret_workspace, struct error *error)
{
    void *memory = mem_allocate_aligned_raw(plan_workspace_bytes(plan), 1);
    if (memory == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a run's %zu bytes", plan_workspace_bytes(plan));
    }
    *ret_workspace = workspace_place(plan, memory);
    return STATUS_OK;
}

void workspace_destroy(struct workspace *workspace)
{
    mem_free(workspace);
}

/* ---- running ---- */

/* `reader` is the node that would have used it. */
static enum status refuse_uninitialized(const struct variable *variable, const char *reader, struct error *error)
{
    const char *name = variable->node->name;
    if (variable->is_resource) {
        error_raise(
            error, STATUS_UNPROCESSABLE, EXCEPTION_FAILED_PRECONDITION,
            "Error while reading resource variable %s from Container: localhost. This could mean that the "
            "variable was uninitialized. Not found: Resource localhost/%s/N10tensorflow3VarE does not exist.\n\t "
            "[[{{node %s}}]]",
            name, name, reader);
    } else {
        error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_FAILED_PRECONDITION,
                    "Attempting to use uninitialized value %s\n\t [[{{node %s}}]]", name, reader);
    }
    error_code(error, "uninitialized");
    if (error != NULL) {
        snprintf(error->variable, sizeof error->variable, "%s", variable->node->name);
    }
    return STATUS_UNPROCESSABLE;
}

/* Whether a slot shows a variable that has no value yet. */
static bool is_uninitialized(const struct plan *plan, const struct workspace *workspace, uint32_t slot)
{
    return workspace->tensors[slot].data == NULL && plan->slots[plan->slots[slot].root].kind == SLOT_VARIABLE;
}

static enum status take_inputs(const struct plan *plan, struct workspace *workspace, const struct step *step,
                               struct error *error)
{
    bool may_lack_first = (step->node->op->flags & OP_TAKES_UNINITIALIZED) != 0;
    for (size_t i = 0; i < step->input_count; i++) {
        uint32_t slot = step->inputs[i];
        if (is_uninitialized(plan, workspace, slot) && !(i == 0 && may_lack_first)) {
            return refuse_uninitialized(plan->slots[plan->slots[slot].root].variable, step->node->name, error);
        }
        workspace->inputs[i] = workspace->tensors[slot];
    }
    return STATUS_OK;
}

/* After a write: the variable's own output and the op's show its memory, which the first write makes. */
static void show_variable(struct workspace *workspace, struct values *values, const struct step *step)
{
    const struct tensor *value = values_tensor(values, step->variable);
    void *data = value == NULL ? NULL : value->data;
    if (step->output_count > 0) {
        workspace->tensors[step->output].data = data;
    }
    if ((step->node->op->flags & OP_WRITES) != 0) {
        workspace->tensors[step->inputs[0]].data = data;
    }
}

static enum status run_step(const struct plan *plan, struct workspace *workspace, struct values *values,
                            const struct step *step, const struct run_options *options, struct error *error)
{
    struct tensor *outputs = workspace->tensors + step->output;
    if (step->node == NULL) { /* copies what the step before it has made */
        memcpy(outputs[0].data, workspace->tensors[step->inputs[0]].data, tensor_bytes(&outputs[0]));
        return STATUS_OK;
    }
    TRY(take_inputs(plan, workspace, step, error));
    const struct op *op = step->node->op;
    if ((op->flags & OP_ALIAS) != 0) {
        outputs[0].data = workspace->inputs[0].data;
    }
    if (op->compute != NULL) {
        bool has_key = step->seeded != 0 && options->seeded_keys != NULL;
        uint64_t random_key = has_key ? options->seeded_keys[step->seeded - 1] : options->random_key;
        struct op_run run = {.node = step->node,
                             .inputs = workspace->inputs,
                             .input_count = step->input_count,
                             .outputs = outputs,
                             .scratch = workspace->scratch,
                             .values = values,
                             .variable = step->variable,
                             .random_key = random_key,
                             .loop_key = options->loop_key != NULL ? *options->loop_key : random_key,
                             .prepared = step->prepared,
                             .cancel = options->cancel,
                             .deadline_ms = options->deadline_ms};
        TRY(op->compute(&run, error));
    }
    if ((op->flags & (OP_VARIABLE | OP_WRITES)) != 0) {
        show_variable(workspace, values, step);
    }
    return STATUS_OK;
}

static enum status show_fetches(const struct plan *plan, const struct workspace *workspace, struct tensor *ret_fetches,
                                struct error *error)
{
    for (size_t i = 0; i < plan->fetch_count; i++) {
        uint32_t slot = plan->fetches[i];
        if (is_uninitialized(plan, workspace, slot)) {
            const struct variable *variable = plan->slots[plan->slots[slot].root].variable;
            char reader[OUTPUT_NAME_BYTES_MAX + 32]; /* the node that TensorFlow adds for a fetch */
            snprintf(reader, sizeof reader, "_retval_%s_0_%zu", variable->node->name, i);
            return refuse_uninitialized(variable, reader, error);
        }
        ret_fetches[i] = workspace->tensors[slot];
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
        bool is_cancelled = options->cancel != NULL && atomic_load_explicit(options->cancel, memory_order_relaxed);
        if (is_cancelled || (options->deadline_ms != 0 && clock_now_ms() >= options->deadline_ms)) {
            return error_set(error, STATUS_CANCELLED, is_cancelled ? "the run was cancelled" : "the run took too long");
        }
        TRY(run_step(plan, workspace, values, &plan->steps[s], options, error));
    }
    return show_fetches(plan, workspace, ret_fetches, error);
}

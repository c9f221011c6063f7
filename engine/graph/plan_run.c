/* Workspaces, and running a plan in one. Thread: any, each with a workspace of its own. */
#include <stdatomic.h>

#include "engine/base/check.h"
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
    const struct slot *root = &plan->slots[plan->slots[slot].root];
    return root->variable == NULL ? STATUS_OK : refuse_uninitialized(root->variable, error);
}

static enum status run_step(const struct plan *plan, struct workspace *workspace, struct values *values,
                            const struct step *step, const struct run_options *options, struct error *error)
{
    const struct op *op = step->node->op;
    struct tensor *outputs = workspace->tensors + step->output;
    for (size_t i = 0; i < step->input_count; i++) {
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
                             .input_count = step->input_count,
                             .outputs = outputs,
                             .scratch = workspace->scratch,
                             .values = values,
                             .variable = step->variable,
                             .random_key = options->random_key,
                             .prepared = step->prepared,
                             .cancel = options->cancel};
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
        TRY(run_step(plan, workspace, values, &plan->steps[s], options, error));
    }
    for (size_t i = 0; i < plan->fetch_count; i++) {
        TRY(check_initialized(plan, workspace, plan->fetches[i], error));
        ret_fetches[i] = workspace->tensors[plan->fetches[i]];
    }
    return STATUS_OK;
}

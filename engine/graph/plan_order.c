/* What a run's writes mean for its reads, and which steps it can do without. Thread: the compiling one.
 *
 * Steps go in the order their nodes were added. A tensor read from a variable shows the variable as it was where the
 * read stands: when somebody uses it after a later write of the same run, it is copied before. The exception is
 * TensorFlow's, whose reads share the variable's memory: who uses the tensor and has waited for the write, by data or
 * by control dependencies (`with control_dependencies([assign]): identity(v)`), sees what was written. The variable's
 * own output ("v:0") is never copied: it shows what the variable holds at the time, and fetched, at the end. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/plan_private.h"

enum { ORDER_PASSES_MAX = 4096 };

/* One step that changes one variable. */
struct write {
    uint32_t step;
    uint32_t next; /* write of the same variable + 1; 0: the last */
};

struct order {
    struct compiler *compiler;
    struct write *writes;
    size_t write_count;
    uint32_t *first_write; /* of each variable + 1 */
    uint32_t *last_write;  /* of each variable + 1 */
    uint32_t *copies;      /* of each slot: its copy + 1 */
    size_t copy_count;
    bool *waits; /* each step: for the write in question or one after it of the same variable */
    uint32_t waits_write;
    size_t pass_count;
};

/* ---- writes ---- */

static void add_write(struct order *order, uint32_t variable, uint32_t step)
{
    struct write *write = &order->writes[order->write_count++];
    write->step = step;
    uint32_t last = order->last_write[variable];
    *(last == 0 ? &order->first_write[variable] : &order->writes[last - 1].next) = (uint32_t)order->write_count;
    order->last_write[variable] = (uint32_t)order->write_count;
}

static void find_writes(struct order *order)
{
    const struct plan *plan = order->compiler->plan;
    for (uint32_t s = 0; s < plan->step_count; s++) {
        const struct step *step = &plan->steps[s];
        for (size_t i = 0; i < step->input_count; i++) {
            const struct slot *slot = &plan->slots[step->inputs[i]];
            if (plan_is_written(step->node, i) && slot->kind == SLOT_VARIABLE) {
                add_write(order, slot->variable->index, s);
            }
        }
    }
}

/* The first write after `step` of the variable that a slot shows, as an index + 1; 0: none. */
static uint32_t write_after(const struct order *order, uint32_t slot)
{
    const struct plan *plan = order->compiler->plan;
    const struct slot *root = &plan->slots[plan->slots[slot].root];
    if (root->kind != SLOT_VARIABLE) {
        return 0;
    }
    uint32_t made = plan->slots[slot].maker;
    if ((plan->steps[made].node->op->flags & OP_VARIABLE) != 0) {
        return 0; /* the variable's own output is never old */
    }
    uint32_t write = order->first_write[root->variable->index];
    while (write != 0 && order->writes[write - 1].step <= made) {
        write = order->writes[write - 1].next;
    }
    return write;
}

/* ---- who waits for a write ---- */

static bool has_waited(const struct order *order, const struct step *step, const bool *is_write)
{
    const struct compiler *compiler = order->compiler;
    for (size_t i = 0; i < step->input_count; i++) {
        uint32_t maker = compiler->plan->slots[step->inputs[i]].maker;
        if (maker != NO_STEP && (order->waits[maker] || is_write[maker])) {
            return true;
        }
    }
    for (size_t i = 0; i < step->node->control_count; i++) {
        uint32_t control = compiler->step_of[step->node->controls[i]->id];
        if (control != 0 && (order->waits[control - 1] || is_write[control - 1])) {
            return true;
        }
    }
    return false;
}

/* Marks the steps that have waited for a write or a later one of the same variable. */
static enum status mark_waits(struct order *order, uint32_t write, struct error *error)
{
    const struct plan *plan = order->compiler->plan;
    if (order->waits_write == write) {
        return STATUS_OK;
    }
    if (++order->pass_count > ORDER_PASSES_MAX) {
        return error_set(error, STATUS_LIMIT, "a run reads and writes variables in turns more than %d times",
                         ORDER_PASSES_MAX);
    }
    bool *is_write = mem_allocate(plan->step_count + 1, sizeof *is_write);
    if (is_write == NULL) {
        return plan_no_memory(error);
    }
    for (uint32_t at = write; at != 0; at = order->writes[at - 1].next) {
        is_write[order->writes[at - 1].step] = true;
    }
    for (uint32_t s = 0; s < plan->step_count; s++) {
        order->waits[s] = s > order->writes[write - 1].step && has_waited(order, &plan->steps[s], is_write);
    }
    order->waits_write = write;
    mem_free(is_write);
    return STATUS_OK;
}

/* ---- copies ---- */

static uint32_t copy_of(struct order *order, uint32_t slot)
{
    struct plan *plan = order->compiler->plan;
    if (order->copies[slot] == 0) {
        uint32_t at = (uint32_t)plan->slot_count++;
        plan->slots[at] = plan->slots[slot];
        plan->slots[at].kind = SLOT_MEMORY;
        plan->slots[at].root = at;
        plan->slots[at].tensor.data = NULL;
        order->copies[slot] = at + 1;
        order->copy_count++;
    }
    return order->copies[slot] - 1;
}

static enum status keep_inputs(struct order *order, uint32_t s, struct error *error)
{
    struct plan *plan = order->compiler->plan;
    struct step *step = &plan->steps[s];
    for (size_t i = 0; i < step->input_count; i++) {
        uint32_t write = write_after(order, step->inputs[i]);
        if (write == 0 || order->writes[write - 1].step >= s) {
            continue;
        }
        TRY(mark_waits(order, write, error));
        if (!order->waits[s]) {
            step->inputs[i] = copy_of(order, step->inputs[i]);
        }
    }
    struct slot *output = step->output_count == 0 ? NULL : &plan->slots[step->output];
    if (output != NULL && output->kind == SLOT_ALIAS) {
        output->root = plan->slots[step->inputs[0]].root;
    }
    return STATUS_OK;
}

/* Puts a copying step behind each step whose output has a copy. */
static enum status insert_copies(struct order *order, struct error *error)
{
    struct compiler *compiler = order->compiler;
    struct plan *plan = compiler->plan;
    size_t count = plan->step_count + order->copy_count;
    struct step *steps = arena_allocate(&plan->arena, count, sizeof *steps);
    uint32_t *inputs = arena_allocate(&plan->arena, order->copy_count, sizeof *inputs);
    if (steps == NULL || inputs == NULL) {
        return plan_no_memory(error);
    }
    uint32_t to = 0;
    for (uint32_t from = 0; from < plan->step_count; from++) {
        const struct step *step = &plan->steps[from];
        compiler->step_of[step->node->id] = to + 1;
        for (uint32_t i = 0; i < step->output_count; i++) {
            plan->slots[step->output + i].maker = to;
        }
        steps[to++] = *step;
        uint32_t copy = step->output_count == 0 ? 0 : order->copies[step->output];
        if (copy != 0) {
            *inputs = step->output;
            plan->slots[copy - 1].maker = to;
            steps[to++] = (struct step){.inputs = inputs++, .input_count = 1, .output = copy - 1, .output_count = 1};
        }
    }
    CHECK(to == count);
    plan->steps = steps;
    plan->step_count = count;
    return STATUS_OK;
}

static enum status keep_reads(struct order *order, struct error *error)
{
    struct plan *plan = order->compiler->plan;
    size_t inputs = 0;
    for (size_t s = 0; s < plan->step_count; s++) {
        inputs += (plan->steps[s].node->op->flags & OP_WRITES) != 0 ? plan->steps[s].input_count : 0;
    }
    size_t variables = graph_variable_count(order->compiler->graph);
    order->writes = mem_allocate(inputs + 1, sizeof *order->writes);
    order->first_write = mem_allocate(variables + 1, sizeof *order->first_write);
    order->last_write = mem_allocate(variables + 1, sizeof *order->last_write);
    order->copies = mem_allocate(plan->slot_count + 1, sizeof *order->copies);
    order->waits = mem_allocate(plan->step_count + 1, sizeof *order->waits);
    if (order->writes == NULL || order->first_write == NULL || order->last_write == NULL || order->copies == NULL ||
        order->waits == NULL) {
        return plan_no_memory(error);
    }
    find_writes(order);
    for (uint32_t s = 0; s < plan->step_count; s++) {
        TRY(keep_inputs(order, s, error));
    }
    for (size_t i = 0; i < plan->fetch_count; i++) {
        plan->fetches[i] =
            write_after(order, plan->fetches[i]) == 0 ? plan->fetches[i] : copy_of(order, plan->fetches[i]);
    }
    return order->copy_count == 0 ? STATUS_OK : insert_copies(order, error);
}

enum status plan_keep_reads(struct compiler *compiler, struct error *error)
{
    struct order order = {.compiler = compiler};
    if (!compiler->plan->writes) {
        return STATUS_OK;
    }
    enum status status = keep_reads(&order, error);
    mem_free(order.writes);
    mem_free(order.first_write);
    mem_free(order.last_write);
    mem_free(order.copies);
    mem_free(order.waits);
    return status;
}

/* ---- what nobody reads ---- */

/* Why a step stays: what it changes matters, or also what it computes. */
enum use { USE_NONE, USE_EFFECT, USE_RESULT };

static void use_step(uint8_t *uses, uint32_t step, enum use use)
{
    if (step != NO_STEP && uses[step] < (uint8_t)use) {
        uses[step] = (uint8_t)use;
    }
}

/* From the last step to the first. What is known ahead needs no inputs, but what happens behind them still does. */
static void mark_uses(const struct compiler *compiler, uint8_t *uses)
{
    const struct plan *plan = compiler->plan;
    for (size_t i = 0; i < plan->fetch_count; i++) {
        use_step(uses, plan->slots[plan->fetches[i]].maker, USE_RESULT);
    }
    for (size_t i = 0; i < compiler->options->target_count; i++) {
        use_step(uses, compiler->step_of[compiler->options->targets[i]->id] - 1, USE_RESULT); /* 0 − 1 is NO_STEP */
    }
    for (size_t s = plan->step_count; s-- > 0;) {
        const struct step *step = &plan->steps[s];
        bool has_effect = step->node != NULL && (step->node->op->flags & OP_WRITES) != 0;
        if (has_effect && uses[s] != USE_NONE) {
            uses[s] = USE_RESULT;
        }
        enum use passed = step->is_folded && uses[s] == USE_RESULT ? USE_EFFECT : (enum use)uses[s];
        for (size_t i = 0; i < step->input_count; i++) {
            use_step(uses, plan->slots[step->inputs[i]].maker, passed);
        }
        for (size_t i = 0; step->node != NULL && uses[s] != USE_NONE && i < step->node->control_count; i++) {
            use_step(uses, compiler->step_of[step->node->controls[i]->id] - 1, USE_RESULT);
        }
    }
}

/* Lists the steps that have seeds of their own. */
static enum status list_seeded(struct plan *plan, struct error *error)
{
    for (size_t s = 0; s < plan->step_count; s++) {
        const struct node *node = plan->steps[s].node;
        bool is_seeded =
            node != NULL && (node->op->flags & OP_SEEDED) != 0 && node_attribute_integer(node, "seed", -1) >= 0;
        plan->steps[s].seeded = is_seeded ? (uint32_t)++plan->seeded_count : 0;
    }
    plan->seeded = arena_allocate(&plan->arena, plan->seeded_count, sizeof *plan->seeded);
    if (plan->seeded == NULL) {
        return plan_no_memory(error);
    }
    for (uint32_t s = 0; s < plan->step_count; s++) {
        if (plan->steps[s].seeded != 0) {
            plan->seeded[plan->steps[s].seeded - 1] = s;
        }
    }
    return STATUS_OK;
}

enum status plan_drop_unused(struct compiler *compiler, struct error *error)
{
    struct plan *plan = compiler->plan;
    uint8_t *uses = mem_allocate(plan->step_count + 1, sizeof *uses);
    if (uses == NULL) {
        return plan_no_memory(error);
    }
    mark_uses(compiler, uses);
    size_t kept = 0;
    for (size_t s = 0; s < plan->step_count; s++) {
        struct step *step = &plan->steps[s];
        if (uses[s] == USE_RESULT && !step->is_folded) {
            plan->scratch_bytes = step->scratch_bytes > plan->scratch_bytes ? step->scratch_bytes : plan->scratch_bytes;
            plan->steps[kept++] = *step;
        } else if (step->prepared != NULL) {
            step->node->op->release(step->prepared);
            step->prepared = NULL;
        }
    }
    plan->step_count = kept;
    mem_free(uses);
    return list_seeded(plan, error);
}

/* Where a plan's tensors lie in a workspace: a place is reused once the last reader of its tensor has run. Thread: the
 * compiling one. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/plan_private.h"

/* Free places beyond this many are forgotten, smallest first: a bound on the time a search takes. */
enum { HOLES_MAX = 512 };

struct hole {
    size_t offset;
    size_t bytes;
};

struct placement {
    struct plan *plan;
    struct hole holes[HOLES_MAX];
    size_t hole_count;
};

static void find_last_uses(struct plan *plan)
{
    for (size_t s = 0; s < plan->step_count; s++) {
        const struct step *step = &plan->steps[s];
        for (size_t i = 0; i < step->output_count; i++) {
            plan->slots[step->output + i].last_use = (uint32_t)s;
        }
        for (size_t i = 0; i < step->input_count; i++) {
            plan->slots[plan->slots[step->inputs[i]].root].last_use = (uint32_t)s;
        }
    }
    for (size_t i = 0; i < plan->fetch_count; i++) {
        plan->slots[plan->slots[plan->fetches[i]].root].last_use = UINT32_MAX;
    }
}

/* Takes the smallest hole that fits, or grows the workspace. */
static size_t take_memory(struct placement *placement, size_t bytes)
{
    size_t best = placement->hole_count;
    for (size_t i = 0; i < placement->hole_count; i++) {
        if (placement->holes[i].bytes >= bytes &&
            (best == placement->hole_count || placement->holes[i].bytes < placement->holes[best].bytes)) {
            best = i;
        }
    }
    if (best == placement->hole_count) {
        size_t offset = placement->plan->memory_bytes;
        placement->plan->memory_bytes += bytes;
        return offset;
    }
    struct hole *hole = &placement->holes[best];
    size_t offset = hole->offset;
    hole->offset += bytes;
    hole->bytes -= bytes;
    if (hole->bytes == 0) {
        *hole = placement->holes[--placement->hole_count];
    }
    return offset;
}

/* Keeps a free place; when there are too many, the smallest is forgotten. */
static void keep_hole(struct placement *placement, struct hole hole)
{
    if (placement->hole_count < HOLES_MAX) {
        placement->holes[placement->hole_count++] = hole;
        return;
    }
    size_t smallest = 0;
    for (size_t i = 1; i < placement->hole_count; i++) {
        smallest = placement->holes[i].bytes < placement->holes[smallest].bytes ? i : smallest;
    }
    if (placement->holes[smallest].bytes < hole.bytes) {
        placement->holes[smallest] = hole;
    }
}

/* Gives memory back and joins it with its neighbours. */
static void give_memory(struct placement *placement, size_t offset, size_t bytes)
{
    struct hole joined = {offset, bytes};
    for (size_t i = 0; i < placement->hole_count;) {
        struct hole *hole = &placement->holes[i];
        if (hole->offset + hole->bytes == joined.offset || joined.offset + joined.bytes == hole->offset) {
            joined.offset = hole->offset < joined.offset ? hole->offset : joined.offset;
            joined.bytes += hole->bytes;
            *hole = placement->holes[--placement->hole_count];
            i = 0;
        } else {
            i++;
        }
    }
    keep_hole(placement, joined);
}

static void free_after(struct placement *placement, uint32_t slot_index, size_t step)
{
    struct slot *slot = &placement->plan->slots[slot_index];
    if (slot->kind == SLOT_MEMORY && slot->last_use == step && tensor_bytes(&slot->tensor) > 0) {
        give_memory(placement, slot->offset, plan_rounded(tensor_bytes(&slot->tensor)));
        slot->last_use = UINT32_MAX - 1; /* freed once, though it may be an input twice */
    }
}

static enum status place(struct placement *placement, struct error *error)
{
    struct plan *plan = placement->plan;
    for (size_t s = 0; s < plan->step_count; s++) {
        const struct step *step = &plan->steps[s];
        for (size_t i = 0; i < step->output_count; i++) {
            struct slot *slot = &plan->slots[step->output + i];
            if (slot->kind == SLOT_MEMORY && tensor_bytes(&slot->tensor) > 0) {
                slot->offset = take_memory(placement, plan_rounded(tensor_bytes(&slot->tensor)));
            }
            TRY(plan_check_bytes(plan, error)); /* before a sum can overflow */
        }
        for (size_t i = 0; i < step->input_count; i++) {
            free_after(placement, plan->slots[step->inputs[i]].root, s);
        }
        for (uint32_t i = 0; i < step->output_count; i++) {
            free_after(placement, step->output + i, s);
        }
    }
    return plan_check_bytes(plan, error);
}

enum status plan_place_memory(struct plan *plan, struct error *error)
{
    struct placement *placement = mem_allocate(1, sizeof *placement);
    if (placement == NULL) {
        return plan_no_memory(error);
    }
    placement->plan = plan;
    find_last_uses(plan);
    enum status status = place(placement, error);
    mem_free(placement);
    return status;
}

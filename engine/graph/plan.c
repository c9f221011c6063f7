/* A plan's life. Thread: see plan.h. Owns its tables (one arena), what ops prepared, and a reference to the graph. */
#include "engine/graph/plan.h"

#include <stdatomic.h>

#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/plan_private.h"

size_t plan_rounded(size_t bytes)
{
    return (bytes + MEM_ALIGNMENT_BYTES - 1) / MEM_ALIGNMENT_BYTES * MEM_ALIGNMENT_BYTES;
}

enum status plan_no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a plan");
}

enum status plan_check_bytes(const struct plan *plan, struct error *error)
{
    if (plan->memory_bytes > PLAN_WORKSPACE_BYTES_MAX || plan->scratch_bytes > PLAN_WORKSPACE_BYTES_MAX ||
        plan_workspace_bytes(plan) > PLAN_WORKSPACE_BYTES_MAX) {
        return error_raise(error, STATUS_TOO_LARGE, EXCEPTION_RESOURCE_EXHAUSTED,
                           "a run of these shapes needs more than %zu bytes", PLAN_WORKSPACE_BYTES_MAX);
    }
    return STATUS_OK;
}

bool plan_is_written(const struct node *node, size_t index)
{
    size_t count = node->op->written_count == 0 ? 1 : node->op->written_count;
    return (node->op->flags & OP_WRITES) != 0 && index < count;
}

enum status plan_create(struct graph *graph, const struct plan_options *options, struct plan **ret_plan,
                        struct error *error)
{
    if (options->feed_count > PLAN_FEEDS_MAX || options->fetch_count > PLAN_FETCHES_MAX) {
        return error_set(error, STATUS_TOO_LARGE, "a run takes at most %d feeds and %d fetches", PLAN_FEEDS_MAX,
                         PLAN_FETCHES_MAX);
    }
    struct plan *plan = mem_allocate(1, sizeof *plan);
    if (plan == NULL) {
        return plan_no_memory(error);
    }
    atomic_init(&plan->references, 1);
    plan->segment = graph_segment_ref(graph->segment);
    plan->fetch_count = options->fetch_count;
    plan->feed_count = options->feed_count;
    enum status status = plan_compile(plan, graph, options, error);
    if (status == STATUS_OK) {
        status = plan_place_memory(plan, error);
    }
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
        for (size_t s = 0; s < plan->step_count; s++) {
            if (plan->steps[s].prepared != NULL) {
                plan->steps[s].node->op->release(plan->steps[s].prepared);
            }
        }
        graph_segment_unref(plan->segment);
        arena_release(&plan->arena);
        mem_free(plan);
    }
    return NULL;
}

bool plan_depends_on_feed(const struct plan *plan, size_t index)
{
    return index < PLAN_VALUE_FEEDS_MAX && (plan->depends >> index & 1) != 0;
}

bool plan_writes(const struct plan *plan)
{
    return plan->writes;
}

size_t plan_bytes(const struct plan *plan)
{
    return sizeof *plan + plan->arena.bytes;
}

size_t plan_seeded_count(const struct plan *plan)
{
    return plan->seeded_count;
}

const struct node *plan_seeded_node(const struct plan *plan, size_t index)
{
    return plan->steps[plan->seeded[index]].node;
}

size_t plan_fetch_elements(const struct plan *plan)
{
    size_t sum = 0;
    for (size_t i = 0; i < plan->fetch_count; i++) {
        size_t extent = 0;
        if (!shape_extent(&plan->slots[plan->fetches[i]].tensor.shape, &extent) ||
            __builtin_add_overflow(sum, extent, &sum)) {
            return SIZE_MAX;
        }
    }
    return sum;
}

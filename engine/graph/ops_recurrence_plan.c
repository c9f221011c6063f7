/* What general execution of a recurrence's body shares between forward and backward: its layout, its steps, its
 * sub-plan. Thread: see op.h. A prepared plan owns the sub-plan. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/graph/ops_recurrence.h"

struct recurrence recurrence_of(const struct node *node)
{
    const struct attribute *body = node_attribute(node, "body");
    struct recurrence recurrence = {.body = body == NULL ? NULL : body->body,
                                    .has_lengths = node_attribute_boolean(node, "has_lengths", false),
                                    .is_general = node_attribute_boolean(node, "is_general", false)};
    CHECK(recurrence.body != NULL && recurrence.body->argument_count >= 1);
    recurrence.state_count = recurrence.body->argument_count - 1;
    recurrence.capture_count = recurrence.body->capture_count;
    recurrence.first_state = recurrence.has_lengths ? 2 : 1;
    recurrence.first_capture = recurrence.first_state + recurrence.state_count;
    recurrence.input_count = recurrence.first_capture + recurrence.capture_count;
    return recurrence;
}

struct shape shape_without_first(const struct shape *shape)
{
    struct shape rest = *shape;
    if (shape->rank > 0) {
        rest.rank = shape->rank - 1;
        memmove(rest.dimensions, shape->dimensions + 1, (size_t)rest.rank * sizeof *rest.dimensions);
    }
    return rest;
}

struct shape shape_with_first(int64_t first, const struct shape *shape)
{
    if (shape->rank == SHAPE_RANK_UNKNOWN || shape->rank == SHAPE_RANK_MAX) {
        return shape_unknown();
    }
    struct shape more = {.rank = shape->rank + 1, .dimensions = {first}};
    memcpy(more.dimensions + 1, shape->dimensions, (size_t)shape->rank * sizeof *more.dimensions);
    return more;
}

/* ---- steps ---- */

static int64_t length_at(const struct tensor *lengths, size_t row)
{
    return lengths->dtype == DTYPE_INT32 ? ((const int32_t *)lengths->data)[row]
                                         : ((const int64_t *)lengths->data)[row];
}

enum status recurrence_read_steps(const struct op_run *run, const struct recurrence *recurrence, int64_t *room,
                                  struct recurrence_steps *ret_steps, struct error *error)
{
    const struct shape *x = &run->inputs[0].shape;
    struct recurrence_steps steps = {.time = (size_t)x->dimensions[0], .batch = (size_t)x->dimensions[1]};
    steps.count = steps.time;
    if (recurrence->has_lengths) {
        const struct tensor *lengths = &run->inputs[1];
        if (lengths->shape.dimensions[0] != x->dimensions[1]) {
            return op_run_error(run, error,
                                "assertion failed: [Expected shape for Tensor %s:0 is ] [%lld] [ but saw shape: ] "
                                "[%lld]",
                                run->node->inputs[1].node->name, (long long)x->dimensions[1],
                                (long long)lengths->shape.dimensions[0]);
        }
        size_t longest = 0;
        for (size_t row = 0; row < steps.batch; row++) {
            room[row] = length_at(lengths, row);
            longest = room[row] > (int64_t)longest ? (size_t)room[row] : longest;
        }
        steps.length = room;
        steps.count = longest < steps.time ? longest : steps.time;
    }
    steps.count = steps.batch == 0 ? 0 : steps.count;
    *ret_steps = steps;
    return STATUS_OK;
}

uint64_t recurrence_step_key(uint64_t run_key, size_t step)
{
    struct rng_words words = rng_philox(run_key, 0x73746570 /* "step" */, step);
    return ((uint64_t)words.word[0] << 32) | words.word[1];
}

/* ---- scratch ---- */

size_t recurrence_rounded(size_t bytes)
{
    return (bytes + MEM_ALIGNMENT_BYTES - 1) / MEM_ALIGNMENT_BYTES * MEM_ALIGNMENT_BYTES;
}

void *recurrence_take(struct recurrence_scratch *scratch, size_t bytes)
{
    void *piece = scratch->at;
    scratch->at += recurrence_rounded(bytes);
    return piece;
}

/* ---- the sub-plan ---- */

static size_t input_count_of(const struct body *body)
{
    return body->argument_count + body->capture_count;
}

struct tensor recurrence_outer_feed(const struct inference *inference, size_t input)
{
    const struct output_type *type = &inference->inputs[input];
    const struct tensor *constant = inference->constants[input];
    return constant != NULL ? *constant : (struct tensor){.dtype = type->dtype, .shape = type->shape};
}

/* Feeds without a value look like one that no shape depends on. */
static void split_feeds(const struct tensor *feeds, size_t count, struct shape *shapes, struct tensor *values)
{
    for (size_t i = 0; i < count; i++) {
        shapes[i] = feeds[i].shape;
        values[i] = feeds[i].data == NULL ? (struct tensor){.dtype = DTYPE_FLOAT32} : feeds[i];
    }
}

enum status recurrence_plan_create(const struct body *body, const struct tensor *feeds,
                                   struct recurrence_plan *ret_plan, struct error *error)
{
    size_t count = input_count_of(body);
    struct shape *shapes = mem_allocate(count, sizeof *shapes);
    struct tensor *values = mem_allocate(count, sizeof *values);
    struct plan *plan = NULL;
    enum status status = STATUS_OK;
    if (shapes == NULL || values == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a recurrence");
    } else {
        split_feeds(feeds, count, shapes, values);
        struct plan_options options = {.feeds = body->inputs,
                                       .feed_shapes = shapes,
                                       .feed_values = values,
                                       .feed_count = count,
                                       .fetches = body->outputs,
                                       .fetch_count = body->output_count};
        status = plan_create(body->graph, &options, &plan, error);
    }
    mem_free(shapes);
    mem_free(values);
    TRY(status);
    *ret_plan = (struct recurrence_plan){.plan = plan,
                                         .feed_count = count,
                                         .fetch_count = body->output_count,
                                         .workspace_bytes = plan_workspace_bytes(plan)};
    return STATUS_OK;
}

size_t recurrence_plan_bytes(const struct recurrence_plan *plan)
{
    return recurrence_rounded(plan->workspace_bytes) + recurrence_rounded(plan->feed_count * sizeof(struct tensor)) +
           recurrence_rounded(plan->fetch_count * sizeof(struct tensor));
}

struct recurrence_turn recurrence_plan_place(const struct recurrence_plan *plan, const struct body *body,
                                             struct recurrence_scratch *scratch)
{
    struct recurrence_turn turn;
    turn.workspace = workspace_place(plan->plan, recurrence_take(scratch, plan->workspace_bytes));
    turn.feeds = recurrence_take(scratch, plan->feed_count * sizeof *turn.feeds);
    turn.results = recurrence_take(scratch, plan->fetch_count * sizeof *turn.results);
    for (size_t i = 0; i < plan->feed_count; i++) {
        turn.feeds[i] = (struct tensor){.dtype = output_type(body->inputs[i])->dtype};
    }
    return turn;
}

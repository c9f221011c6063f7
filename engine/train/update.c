/* Summing gradients over shards and applying them. */
#include "engine/train/update.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/train/ranks.h"
#include "engine/train/reduce.h"

struct update {
    struct values *values;
    const struct train_step *step;
    const struct shards *shards;
    struct trainer_threads *threads;
    struct plan *plan;
    struct workspace *workspace;
    struct tensor *feeds;                 /* the sums, then the numbers that the step uses */
    size_t feed_count;                    /* of all */
    float numbers[TRAIN_STEP_FEED_COUNT]; /* by enum train_step_feed */
};

static enum status make_feeds(struct update *update, struct error *error)
{
    size_t count = update->step->variable_count;
    update->feeds = mem_allocate(count + TRAIN_STEP_FEED_COUNT, sizeof *update->feeds);
    if (!update->feeds) {
        return error_set(error, STATUS_NO_MEMORY, "training: no memory");
    }
    for (size_t i = 0; i < count; i++) {
        const struct tensor *variable = values_tensor(update->values, update->step->variables[i]);
        CHECK(variable);
        TRY(tensor_init(&update->feeds[i], variable->dtype, &variable->shape, error));
    }
    update->feed_count = count;
    for (int feed = 0; feed < TRAIN_STEP_FEED_COUNT; feed++) {
        if (update->step->feeds[feed].node != NULL) {
            update->feeds[update->feed_count++] =
                (struct tensor){DTYPE_FLOAT32, shape_scalar(), &update->numbers[feed]};
        }
    }
    return STATUS_OK;
}

static enum status compile(struct graph *graph, struct update *update, struct error *error)
{
    const struct train_step *step = update->step;
    struct output feeds[TRAIN_STEP_VARIABLES_MAX + TRAIN_STEP_FEED_COUNT];
    struct shape shapes[TRAIN_STEP_VARIABLES_MAX + TRAIN_STEP_FEED_COUNT];
    size_t count = step->variable_count;
    memcpy(feeds, step->gradients, count * sizeof *feeds);
    for (int feed = 0; feed < TRAIN_STEP_FEED_COUNT; feed++) {
        if (step->feeds[feed].node != NULL) {
            feeds[count++] = step->feeds[feed];
        }
    }
    for (size_t i = 0; i < count; i++) {
        shapes[i] = update->feeds[i].shape;
    }
    struct plan_options options = {.feeds = feeds,
                                   .feed_shapes = shapes,
                                   .feed_count = count,
                                   .fetches = &step->global_norm,
                                   .fetch_count = 1,
                                   .targets = &step->apply,
                                   .target_count = 1};
    TRY(plan_create(graph, &options, &update->plan, error));
    return workspace_create(update->plan, &update->workspace, error);
}

enum status update_create(struct graph *graph, struct values *values, const struct train_step *step,
                          const struct shards *shards, struct trainer_threads *threads, struct update **ret_update,
                          struct error *error)
{
    struct update *update = mem_allocate(1, sizeof *update);
    if (!update) {
        return error_set(error, STATUS_NO_MEMORY, "training: no memory");
    }
    *update = (struct update){.values = values, .step = step, .shards = shards, .threads = threads};
    enum status status = make_feeds(update, error);
    if (status == STATUS_OK) {
        status = compile(graph, update, error);
    }
    if (status != STATUS_OK) {
        update_destroy(update);
        return status;
    }
    *ret_update = update;
    return STATUS_OK;
}

void update_destroy(struct update *update)
{
    if (!update) {
        return;
    }
    workspace_destroy(update->workspace);
    plan_unref(update->plan);
    for (size_t i = 0; update->feeds && i < update->step->variable_count; i++) {
        tensor_release(&update->feeds[i]);
    }
    mem_free(update->feeds);
    mem_free(update);
}

static void sum_variable(void *context, size_t variable)
{
    struct update *update = context;
    const float *parts[TRAINING_SHARDS_MAX];
    float weights[TRAINING_SHARDS_MAX];
    size_t count = shards_count(update->shards);
    for (size_t i = 0; i < count; i++) {
        parts[i] = shards_gradient(update->shards, i, variable);
        weights[i] = shards_weight(update->shards, i);
    }
    struct tensor *sum = &update->feeds[variable];
    reduce_sum(parts, weights, count, tensor_element_count(sum), sum->data);
}

enum status update_run(struct update *update, const double numbers[TRAIN_STEP_FEED_COUNT], uint64_t random_key,
                       double *ret_global_norm, struct error *error)
{
    trainer_threads_run(update->threads, update->step->variable_count, sum_variable, update);
    for (size_t i = 0; i < update->step->variable_count; i++) {
        ranks_sum(update->feeds[i].data, tensor_element_count(&update->feeds[i]));
    }
    for (int feed = 0; feed < TRAIN_STEP_FEED_COUNT; feed++) {
        update->numbers[feed] = (float)numbers[feed];
    }
    struct run_options run = {.feeds = update->feeds, .random_key = random_key};
    struct tensor norm;
    TRY(plan_run(update->plan, update->workspace, update->values, &run, &norm, error));
    *ret_global_norm = (double)*(const float *)norm.data;
    return STATUS_OK;
}

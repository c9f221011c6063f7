/* Rows are emptied in the batcher's own callback, so no ring ever fills. Thread: see local_batcher.h. */
#include "daemon/local_batcher.h"

#include <pthread.h>

#include "engine/base/mem.h"

struct local_batcher {
    struct batcher *batcher;
    struct local_row *rows[LOCAL_BATCHER_ROWS_MAX]; /* that were begun */
    size_t row_count;
    pthread_mutex_t lock;
    pthread_cond_t row_ended;
    size_t running; /* under the lock, as the next two */
    enum status status;
    struct error error; /* of the first row that failed */
};

static void end_row(struct local_batcher *local, struct generation *generation, enum finish_reason finish)
{
    pthread_mutex_lock(&local->lock);
    local->running--;
    if (finish == FINISH_FAILED && local->status == STATUS_OK) {
        generation_failure(generation, &local->error);
        local->status = local->error.status;
    }
    pthread_cond_signal(&local->row_ended);
    pthread_mutex_unlock(&local->lock);
}

/* What was reported of a row may come in after its end. */
static void read_row(struct local_batcher *local, struct generation *generation)
{
    struct local_row *row = generation_owner(generation);
    char bytes[GENERATION_RING_BYTES];
    size_t length;
    pthread_mutex_lock(&row->reading);
    struct generation_progress progress = generation_progress(generation);
    while ((length = generation_read(generation, bytes, sizeof bytes)) > 0) {
        if (row->on_text) {
            row->on_text(row->context, bytes, length);
        }
    }
    bool ends_now = progress.finish != FINISH_NONE && !row->has_ended;
    row->has_ended = row->has_ended || ends_now;
    pthread_mutex_unlock(&row->reading);
    if (ends_now) {
        end_row(local, generation, progress.finish);
    }
}

static void on_progress(void *context, struct generation **generations, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        read_row(context, generations[i]);
        generation_unref(generations[i]);
    }
}

enum status local_batcher_create(size_t threads, struct local_batcher **ret_local, struct error *error)
{
    struct local_batcher *local = mem_allocate(1, sizeof *local);
    if (!local) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a batcher");
    }
    pthread_mutex_init(&local->lock, NULL);
    pthread_cond_init(&local->row_ended, NULL);
    struct batcher_options options = {
        .threads = threads, .queue_max = LOCAL_BATCHER_ROWS_MAX, .on_progress = on_progress, .context = local};
    enum status status = batcher_create(&options, &local->batcher, error);
    if (status != STATUS_OK) {
        local_batcher_destroy(local);
        return status;
    }
    *ret_local = local;
    return STATUS_OK;
}

void local_batcher_destroy(struct local_batcher *local)
{
    if (!local) {
        return;
    }
    batcher_destroy(local->batcher);
    for (size_t i = 0; i < local->row_count; i++) {
        local->rows[i]->generation = generation_unref(local->rows[i]->generation);
        pthread_mutex_destroy(&local->rows[i]->reading);
    }
    pthread_cond_destroy(&local->row_ended);
    pthread_mutex_destroy(&local->lock);
    mem_free(local);
}

enum status local_batcher_begin(struct local_batcher *local, struct snapshot *snapshot,
                                const struct generation_options *options, struct local_row *row, struct error *error)
{
    if (local->row_count == LOCAL_BATCHER_ROWS_MAX) {
        return error_set(error, STATUS_LIMIT, "at most %d rows", LOCAL_BATCHER_ROWS_MAX);
    }
    struct generation_options own = *options;
    own.owner = row;
    TRY(generation_create(snapshot_decode_plan(snapshot), snapshot_vocabulary(snapshot), &own, NULL, NULL,
                          &row->generation, error));
    pthread_mutex_init(&row->reading, NULL);
    pthread_mutex_lock(&local->lock);
    local->running++;
    pthread_mutex_unlock(&local->lock);
    enum status status = batcher_submit(local->batcher, row->generation, error);
    if (status != STATUS_OK) {
        row->generation = generation_unref(row->generation);
        pthread_mutex_destroy(&row->reading);
        pthread_mutex_lock(&local->lock);
        local->running--;
        pthread_mutex_unlock(&local->lock);
        return status;
    }
    local->rows[local->row_count++] = row;
    return STATUS_OK;
}

enum status local_batcher_wait(struct local_batcher *local, struct error *error)
{
    pthread_mutex_lock(&local->lock);
    while (local->running > 0) {
        pthread_cond_wait(&local->row_ended, &local->lock);
    }
    enum status status = local->status;
    if (status != STATUS_OK && error) {
        *error = local->error;
    }
    pthread_mutex_unlock(&local->lock);
    return status;
}

/* What the loop knows of one training job: its records, who watches them, how it is described. Thread: loop. Owns the
 * records. */
#include "daemon/training_run.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

static const char *const state_names[] = {"starting", "running", "stopping", "done", "stopped", "failed"};
static_assert(sizeof state_names / sizeof *state_names == TRAINING_STATE_COUNT, "one name for each state");

const char *training_run_state(const struct training_run *run)
{
    return state_names[run->state];
}

bool training_run_is_over(const struct training_run *run)
{
    return run->state >= TRAINING_FINISHED;
}

struct training_run *training_run_ref(struct training_run *run)
{
    run->references++;
    return run;
}

void training_run_unref(struct training_run *run)
{
    if (run == NULL || --run->references > 0) {
        return;
    }
    CHECK(run->watches == NULL && run->over == NULL && run->request == NULL);
    for (size_t i = 0; i < run->record_count; i++) {
        training_record_free(run->records[i]);
    }
    training_run_unref(run->before);
    mem_free(run->records);
    json_decref(run->options);
    pthread_mutex_destroy(&run->lock);
    mem_free(run);
}

void training_run_changed(struct training_run *run, bool is_ping)
{
    struct training_watch *next;
    for (struct training_watch *watch = run->watches; watch != NULL; watch = next) {
        next = watch->next;
        watch->on_change(watch, is_ping);
    }
}

/* ---- Records */

/* Halves the progress records, so that a plot keeps its whole length. */
static void thin_out(struct training_run *run)
{
    size_t kept = 0;
    bool is_kept = false;
    for (size_t i = 0; i < run->record_count; i++) {
        struct training_record *record = run->records[i];
        is_kept = record->is_progress ? !is_kept : is_kept;
        if (record->is_progress && !is_kept) {
            training_record_free(record);
        } else {
            run->records[kept++] = record;
        }
    }
    if (kept == TRAINING_RECORDS_MAX) { /* no progress among them: the oldest goes */
        training_record_free(run->records[0]);
        memmove(run->records, run->records + 1, --kept * sizeof *run->records);
    }
    run->record_count = kept;
}

void training_run_keep(struct training_run *run, struct training_record *record)
{
    if (run->record_count == TRAINING_RECORDS_MAX) {
        thin_out(run);
    }
    record->next = NULL;
    record->number = ++run->record_number;
    if (record->version != 0) {
        run->version = record->version;
        registry_scan(run->registry);
    }
    run->records[run->record_count++] = record;
}

/* The last record of those that say where the training stands; NULL: there is none yet. */
static const json_t *find_standing(const struct training_run *run)
{
    for (size_t i = run->record_count; i-- > 0;) {
        if (json_object_get(run->records[i]->json, "train_loss") != NULL) {
            return run->records[i]->json;
        }
    }
    return NULL;
}

json_t *training_run_describe(const struct training_run *run, bool has_history)
{
    const json_t *standing = find_standing(run);
    const json_t *last = run->record_count == 0 ? NULL : run->records[run->record_count - 1]->json;
    json_t *error = run->state == TRAINING_FAILED ? json_object_get(last, "error") : NULL;
    json_t *json = standing == NULL ? json_object() : json_copy((json_t *)(uintptr_t)standing);
    json_object_del(json, "event");
    int failed = json_object_set_new(json, "id", json_string(run->id));
    failed |= json_object_set_new(json, "model", json_string(run->name));
    failed |= json_object_set_new(json, "state", json_string(training_run_state(run)));
    failed |=
        json_object_set_new(json, "version", run->version == 0 ? json_null() : json_integer((json_int_t)run->version));
    if (error != NULL) {
        failed |= json_object_set(json, "error", error);
    }
    if (run->options != NULL) {
        failed |= json_object_set(json, "options", run->options);
    }
    json_t *history = has_history ? json_array() : NULL;
    for (size_t i = 0; has_history && i < run->record_count; i++) {
        failed |= json_array_append(history, run->records[i]->json);
    }
    if (has_history) {
        failed |= json_object_set_new(json, "history", history);
    }
    if (failed != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

const json_t *training_run_record(const struct training_run *run, uint64_t after, uint64_t *ret_number)
{
    size_t low = 0;
    size_t high = run->record_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (run->records[middle]->number <= after) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == run->record_count) {
        return NULL;
    }
    *ret_number = run->records[low]->number;
    return run->records[low]->json;
}

void training_run_watch(struct training_run *run, struct training_watch *watch)
{
    watch->next = run->watches;
    run->watches = watch;
}

void training_run_unwatch(struct training_run *run, struct training_watch *watch)
{
    for (struct training_watch **link = &run->watches; *link != NULL; link = &(*link)->next) {
        if (*link == watch) {
            *link = watch->next;
            return;
        }
    }
}

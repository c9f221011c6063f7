/* Whose turn it is. Thread: one at a time. Owns nothing. */
#include "engine/decode/row_queue.h"

#include "engine/base/check.h"
#include "engine/decode/generation_beam.h"

enum { LOWER_PRIORITY_SHARE = 16 };

void row_list_append(struct row_list *list, struct generation *row)
{
    row->previous = list->last;
    row->next = NULL;
    if (list->last != NULL) {
        list->last->next = row;
    } else {
        list->first = row;
    }
    list->last = row;
}

void row_list_remove(struct row_list *list, struct generation *row)
{
    if (row->previous != NULL) {
        row->previous->next = row->next;
    } else {
        CHECK(list->first == row);
        list->first = row->next;
    }
    if (row->next != NULL) {
        row->next->previous = row->previous;
    } else {
        CHECK(list->last == row);
        list->last = row->previous;
    }
    row->previous = NULL;
    row->next = NULL;
}

struct generation *row_list_take_first(struct row_list *list)
{
    struct generation *row = list->first;
    if (row != NULL) {
        row_list_remove(list, row);
    }
    return row;
}

/* A place for a plan that has none: the one it had last, where nobody took it; NULL when all are taken. */
static struct row_model *find_free_place(struct row_queue *queue, const struct decode_plan *plan)
{
    struct row_model *first = NULL;
    for (size_t i = 0; i < queue->model_count; i++) {
        struct row_model *place = &queue->models[i];
        if (place->plan == NULL && place->last_plan == plan) {
            return place;
        }
        first = place->plan == NULL && first == NULL ? place : first;
    }
    if (first == NULL && queue->model_count < ROW_QUEUE_MODELS_MAX) {
        first = &queue->models[queue->model_count++];
    }
    if (first != NULL) {
        first->used_ns = queue->least_used_ns;
    }
    return first;
}

struct row_model *row_queue_find_model(struct row_queue *queue, const struct decode_plan *plan)
{
    for (size_t i = 0; i < queue->model_count; i++) {
        if (queue->models[i].plan == plan) {
            return &queue->models[i];
        }
    }
    struct row_model *place = find_free_place(queue, plan);
    if (place != NULL) {
        place->plan = plan;
        place->ready_deadline_ms = UINT64_MAX;
    }
    return place;
}

void row_queue_release_model(struct row_model *model)
{
    if (model->ready_count == 0 && model->stepping_count == 0 && model->stalled.first == NULL &&
        model->waiting.first == NULL) {
        *model = (struct row_model){.last_plan = model->plan, .used_ns = model->used_ns};
    }
}

static uint64_t flow_bit(size_t flow)
{
    return UINT64_C(1) << flow;
}

static struct row_ready *ready_of(struct row_model *model, const struct generation *row)
{
    return &model->ready[GENERATION_PRIORITY_HIGH - row->priority];
}

void row_model_note_deadline(struct row_model *model, const struct generation *row)
{
    if (row->deadline_ms != 0 && row->deadline_ms < model->ready_deadline_ms) {
        model->ready_deadline_ms = row->deadline_ms;
    }
}

void row_model_add_ready(struct row_model *model, struct generation *row)
{
    struct row_ready *ready = ready_of(model, row);
    row_list_append(&ready->flows[row->flow], row);
    ready->waiting |= flow_bit(row->flow);
    ready->count++;
    row->place = GENERATION_ROW_IS_READY;
    model->ready_count++;
    row_model_note_deadline(model, row);
}

void row_model_add_stalled(struct row_model *model, struct generation *row)
{
    bool waits_for_search = generation_beam_waits(row);
    row_list_append(waits_for_search ? &model->waiting : &model->stalled, row);
    row->place = waits_for_search ? GENERATION_ROW_WAITS_FOR_SEARCH : GENERATION_ROW_WAITS_FOR_READER;
}

/* After a row left the flow. */
static void note_flow(struct row_ready *ready, size_t flow)
{
    ready->count--;
    if (ready->flows[flow].first == NULL) {
        ready->waiting &= ~flow_bit(flow);
    }
}

static void remove_ready(struct row_model *model, struct generation *row)
{
    struct row_ready *ready = ready_of(model, row);
    row_list_remove(&ready->flows[row->flow], row);
    note_flow(ready, row->flow);
    model->ready_count--;
}

void row_model_remove(struct row_model *model, struct generation *row)
{
    switch (row->place) {
    case GENERATION_ROW_IS_READY: remove_ready(model, row); break;
    case GENERATION_ROW_WAITS_FOR_READER: row_list_remove(&model->stalled, row); break;
    case GENERATION_ROW_WAITS_FOR_SEARCH: row_list_remove(&model->waiting, row); break;
    case GENERATION_ROW_ON_ITS_WAY: CHECK(false);
    }
    row->place = GENERATION_ROW_ON_ITS_WAY;
}

/* Of the flow whose turn it is, or the next one that has rows. There is one. */
static struct generation *take_in_turn(struct row_ready *ready)
{
    uint64_t from_turn = ready->waiting & ~(flow_bit(ready->turn) - 1);
    size_t flow = (size_t)__builtin_ctzll(from_turn != 0 ? from_turn : ready->waiting);
    struct generation *row = row_list_take_first(&ready->flows[flow]);
    row->place = GENERATION_ROW_ON_ITS_WAY;
    note_flow(ready, flow);
    ready->turn = (flow + 1) % GENERATION_FLOW_COUNT;
    return row;
}

static struct row_model *find_least_used(struct row_queue *queue)
{
    struct row_model *least = NULL;
    for (size_t i = 0; i < queue->model_count; i++) {
        struct row_model *model = &queue->models[i];
        if (model->ready_count > 0 && (least == NULL || model->used_ns < least->used_ns)) {
            least = model;
        }
    }
    return least;
}

struct row_model *row_queue_next_model(struct row_queue *queue)
{
    struct row_model *next = find_least_used(queue);
    if (next == NULL) {
        return NULL;
    }
    queue->least_used_ns = next->used_ns;
    for (size_t i = 0; i < queue->model_count; i++) {
        struct row_model *model = &queue->models[i];
        model->used_ns = model->used_ns > next->used_ns ? model->used_ns : next->used_ns;
    }
    return next;
}

bool row_queue_has_ready(const struct row_queue *queue)
{
    for (size_t i = 0; i < queue->model_count; i++) {
        if (queue->models[i].ready_count > 0) {
            return true;
        }
    }
    return false;
}

void row_model_charge(struct row_model *model, uint64_t step_ns)
{
    model->used_ns += step_ns > 0 ? step_ns : 1; /* so that turns pass on whatever the clock says */
}

/* What the lower priorities that wait have earned with this step and those before. */
static void count_shares(struct row_model *model, size_t rows_max)
{
    for (size_t priority = 1; priority < ROW_PRIORITY_COUNT; priority++) {
        struct row_ready *ready = &model->ready[priority];
        ready->owed = ready->count > 0 ? ready->owed + rows_max : 0;
    }
}

/* Whole rows that a priority has earned, no more than it has. */
static size_t count_owed(const struct row_ready *ready)
{
    size_t owed = ready->owed / LOWER_PRIORITY_SHARE;
    return owed < ready->count ? owed : ready->count;
}

size_t row_model_take(struct row_model *model, struct generation **rows, size_t rows_max)
{
    size_t count = 0;
    count_shares(model, rows_max);
    for (size_t priority = 0; priority < ROW_PRIORITY_COUNT; priority++) {
        struct row_ready *ready = &model->ready[priority];
        size_t before = count;
        size_t kept = 0;
        for (size_t lower = priority + 1; lower < ROW_PRIORITY_COUNT; lower++) {
            kept += count_owed(&model->ready[lower]);
        }
        while (count + kept < rows_max && ready->waiting != 0) {
            rows[count++] = take_in_turn(ready);
        }
        size_t paid = (count - before) * LOWER_PRIORITY_SHARE;
        bool is_served = ready->count == 0; /* then it saves nothing up */
        ready->owed -= is_served || paid > ready->owed ? ready->owed : paid;
    }
    model->ready_count -= count;
    return count;
}

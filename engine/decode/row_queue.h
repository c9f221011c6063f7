/* The rows that wait for a step: models by the time that their steps take, the rows of a model by priority, flow by
 * flow and in turn, so that all progress and nobody gets more by asking for more. Thread: the compute thread that asks
 * for work, so one at a time. Owns nothing: rows are linked through themselves, models lie in a fixed table. */
#ifndef ENGINE_DECODE_ROW_QUEUE_H
#define ENGINE_DECODE_ROW_QUEUE_H

#include "engine/decode/generation_row.h"

enum { ROW_QUEUE_MODELS_MAX = 256, ROW_PRIORITY_COUNT = 3 };

struct row_list {
    struct generation *first;
    struct generation *last;
};

/* The ready rows of one priority. */
struct row_ready {
    struct row_list flows[GENERATION_FLOW_COUNT]; /* each in order of its rows' last steps */
    uint64_t waiting;                             /* a bit for each flow that has rows */
    size_t turn;                                  /* the flow whose turn it is next */
    size_t count;                                 /* of rows, all flows together */
    size_t owed; /* of a lower priority that waits: its share of the steps so far, in sixteenths of a row */
};
static_assert((int)GENERATION_FLOW_COUNT == 64, "a bit for each flow");

/* The rows of one plan. */
struct row_model {
    const struct decode_plan *plan;      /* NULL: the place is free */
    const struct decode_plan *last_plan; /* whose it was, and whose used_ns it has */
    uint64_t used_ns; /* what its steps took; of models that had nothing to do no less than the others had used then */
    struct row_ready ready[ROW_PRIORITY_COUNT]; /* from high to low */
    struct row_list stalled;                    /* by slow readers */
    struct row_list waiting;                    /* for what a search finds */
    size_t ready_count;
    uint64_t ready_deadline_ms; /* none of those that are ready has an earlier one; UINT64_MAX: none has one */
    size_t stepping_count;      /* rows taken for the steps under way */
};

/* All zero at start. */
struct row_queue {
    struct row_model models[ROW_QUEUE_MODELS_MAX];
    size_t model_count;     /* places used so far; those above were never used */
    uint64_t least_used_ns; /* of the model whose turn it was last */
};

/* Adds a row that is in no list, removes one that is in this list, takes the first one (NULL when there is none). */
void row_list_append(struct row_list *list, struct generation *row);
void row_list_remove(struct row_list *list, struct generation *row);
struct generation *row_list_take_first(struct row_list *list);

/* The plan's place, taken where it has none; NULL when ROW_QUEUE_MODELS_MAX others have rows. */
struct row_model *row_queue_find_model(struct row_queue *queue, const struct decode_plan *plan);

/* Frees the place of a model that has no rows left; what it has used is kept there until somebody takes the place. */
void row_queue_release_model(struct row_model *model);

/* Adds a row that is ready for a step behind those of its priority and flow; or one that is not, to those that stall or
 * wait for a search; removes a row from where it is. Each notes its `place`. */
void row_model_add_ready(struct row_model *model, struct generation *row);
void row_model_add_stalled(struct row_model *model, struct generation *row);
void row_model_remove(struct row_model *model, struct generation *row);

/* Lets a ready row's deadline count for `ready_deadline_ms`, which is never too late but may be too early: who finds
 * that sets it to UINT64_MAX and notes every row again. */
void row_model_note_deadline(struct row_model *model, const struct generation *row);

/* Of the models with ready rows the one whose steps have used the least time: a slow one has its share of the
 * time, not a step for each of another's. Who had no ready row saves nothing up. NULL when there is none. */
struct row_model *row_queue_next_model(struct row_queue *queue);

/* Whether a model has ready rows. */
bool row_queue_has_ready(const struct row_queue *queue);

/* After a step of its rows: its share of the time of all threads, in nanoseconds. */
void row_model_charge(struct row_model *model, uint64_t step_ns);

/* Takes up to `rows_max` ready rows, higher priorities first; where rows are scarce each lower priority that waits
 * still gets a sixteenth, of steps of few rows one row in some of them, so that none starves. Within a priority flows
 * take turns, a row each. Returns the number of rows. */
size_t row_model_take(struct row_model *model, struct generation **rows, size_t rows_max);

#endif

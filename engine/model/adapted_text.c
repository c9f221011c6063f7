/* Adapted texts: a stepper over an adaptation's graph, which learns on the way. Thread: see the header. Owns the
 * adaptation, the plan over it and what was learned.
 *
 * It counts the steps. Those of the prompt are a segment's inputs; the symbol that a step feeds is what the step before
 * predicted. So a segment is learned from just before the step behind its last target, from the state in which it
 * began: that step and all after it have the new weights. */
#include "engine/model/adapted_text.h"

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_batch.h"
#include "engine/decode/stepper.h"
#include "engine/graph/session.h"
#include "engine/model/graph_stepper.h"

struct adapted_text {
    struct served_graph *graph; /* one reference; has the values below the adaptation's */
    struct adaptation *adaptation;
    struct stepper steps;         /* runs of the predict head */
    struct decode_plan *plan;     /* over the stepper of this file */
    struct decode_batch *batch;   /* of one row */
    struct adapted_weights *from; /* one reference, or NULL */
    struct adapted_weights *learned;
    const struct generation *generation; /* the one that was stepped, NULL before; only compared */
    size_t prompt_count, carried_count;
    size_t step_count;
    char *segment_state; /* where the segment began: [steps.state_bytes] */
    uint32_t *segment;   /* the symbol before it, and its own */
    size_t segment_count;
};

/* ---- stepping ---- */

static enum status learn(struct adapted_text *text, struct error *error)
{
    double nats = 0;
    if (text->segment_count == 0) {
        return STATUS_OK;
    }
    adaptation_go_to(text->adaptation, text->segment_state, text->segment[0]);
    return adaptation_read(text->adaptation, text->segment + 1, text->segment_count, &nats, error);
}

static void begin_segment(struct adapted_text *text, const struct stepper_step *step)
{
    memcpy(text->segment_state, step->state, text->steps.state_bytes);
    text->segment[0] = step->symbol;
    text->segment_count = 0;
}

/* Before the prompt's last symbol is fed, all of the prompt was predicted. */
static enum status keep_learned(struct adapted_text *text, struct error *error)
{
    bool is_same = text->from != NULL && text->prompt_count == text->carried_count;
    text->learned = is_same ? adapted_weights_ref(text->from) : NULL;
    return is_same ? STATUS_OK : adapted_weights_save(text->adaptation, &text->learned, error);
}

/* Before a step of the prompt, but for what only comes back of a state. */
static enum status read_prompt(struct adapted_text *text, size_t index, const struct stepper_step *step,
                               struct error *error)
{
    size_t begin = text->carried_count == 0 ? 0 : text->carried_count - 1; /* the symbol that the first is behind */
    bool is_last = index + 1 == text->prompt_count;
    if (index < begin) {
        return STATUS_OK;
    }
    if (index == begin) {
        begin_segment(text, step);
    } else {
        text->segment[++text->segment_count] = step->symbol;
        if (is_last || text->segment_count == adaptation_segment_symbols(text->adaptation)) {
            TRY(learn(text, error));
            begin_segment(text, step);
        }
    }
    return is_last ? keep_learned(text, error) : STATUS_OK;
}

static enum status step_row(void *context, const struct stepper_step *step, struct error *error)
{
    struct adapted_text *text = context;
    size_t index = text->step_count++;
    if (index < text->prompt_count) {
        TRY(read_prompt(text, index, step, error));
    }
    return text->steps.step(text->steps.context, step, error);
}

static void begin_row(void *context, void *state)
{
    const struct adapted_text *text = context;
    text->steps.begin(text->steps.context, state);
}

static enum status check_state(void *context, const void *state, struct error *error)
{
    const struct adapted_text *text = context;
    return text->steps.check_state(text->steps.context, state, error);
}

static void destroy_steps(void *context)
{
    const struct adapted_text *text = context;
    text->steps.destroy(text->steps.context);
}

enum adapted_text_course adapted_text_run(struct adapted_text *text, struct generation *generation, uint32_t maximum_ms,
                                          void (*on_progress)(void *context, struct generation **generations,
                                                              size_t count),
                                          void *context)
{
    CHECK(text->generation == NULL || text->generation == generation);
    text->generation = generation;
    uint64_t until_ms = clock_now_ms() + maximum_ms;
    enum generation_row_state state = GENERATION_ROW_ENDED;
    bool is_over = generation_progress(generation).finish != FINISH_NONE;
    while (!is_over) {
        uint64_t now_ms = clock_now_ms();
        state = generation_row_settle(generation, now_ms);
        is_over = state == GENERATION_ROW_ENDED;
        if (state == GENERATION_ROW_STALLED || now_ms >= until_ms) {
            break;
        }
        if (!is_over) {
            is_over = !decode_batch_run(text->batch, text->plan, &generation, 1); /* it was cancelled just now */
        }
        if (generation_row_has_news(generation) && !is_over) {
            struct generation *report = generation_ref(generation);
            on_progress(context, &report, 1);
        }
    }
    if (is_over) {
        struct generation *report = generation_ref(generation);
        on_progress(context, &report, 1);
        return ADAPTED_TEXT_ENDED;
    }
    return state == GENERATION_ROW_STALLED ? ADAPTED_TEXT_WAITS : ADAPTED_TEXT_GOES_ON;
}

/* ---- making ---- */

static enum status make_plan(struct adapted_text *text, size_t symbol_count, struct error *error)
{
    struct generate_signature signature;
    struct graph *graph = NULL;
    struct values *values = NULL;
    TRY(adaptation_signature(text->adaptation, &signature, &graph, &values, error));
    enum status status = graph_stepper_create(graph, values, &signature, symbol_count, &text->steps, error);
    if (status != STATUS_OK) {
        values_destroy(values);
        return status;
    }
    struct stepper stepper = text->steps;
    stepper.context = text;
    stepper.begin = begin_row;
    stepper.step = step_row;
    stepper.check_state = check_state;
    stepper.destroy = destroy_steps;
    status = decode_plan_create_stepped(&stepper, &text->plan, error);
    if (status != STATUS_OK) {
        destroy_steps(text);
    }
    return status;
}

static enum status make(struct adapted_text *text, const struct adapted_text_options *options, struct error *error)
{
    const struct session *session = served_graph_session(text->graph);
    struct adaptation_options adaptation = adaptation_defaults(options->weights, options->kind);
    TRY(adaptation_create(session_graph(session), session_values(session), &adaptation, &text->adaptation, error));
    if (text->from != NULL) {
        TRY(adapted_weights_load(text->from, text->adaptation, error));
    }
    TRY(make_plan(text, options->symbol_count, error));
    TRY(decode_batch_create(&text->batch, error));
    text->segment_state = mem_allocate_aligned(text->steps.state_bytes, 1);
    text->segment = mem_allocate(adaptation.segment_symbols + 1, sizeof *text->segment);
    return text->segment_state == NULL || text->segment == NULL
               ? error_set(error, STATUS_NO_MEMORY, "no memory for a text that adapts")
               : STATUS_OK;
}

enum status adapted_text_create(struct served_graph *graph, const struct adapted_text_options *options,
                                struct adapted_text **ret_text, struct error *error)
{
    struct adapted_text *text = mem_allocate(1, sizeof *text);
    if (text == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a text that adapts");
    }
    text->graph = served_graph_ref(graph);
    text->from = adapted_weights_ref(options->from);
    enum status status = make(text, options, error);
    if (status != STATUS_OK) {
        adapted_text_destroy(text);
        return status;
    }
    *ret_text = text;
    return STATUS_OK;
}

void adapted_text_destroy(struct adapted_text *text)
{
    if (text == NULL) {
        return;
    }
    decode_batch_destroy(text->batch);
    decode_plan_destroy(text->plan);
    adaptation_destroy(text->adaptation);
    adapted_weights_unref(text->from);
    adapted_weights_unref(text->learned);
    mem_free(text->segment_state);
    mem_free(text->segment);
    served_graph_unref(text->graph);
    mem_free(text);
}

/* ---- looking ---- */

const struct decode_plan *adapted_text_plan(const struct adapted_text *text)
{
    return text->plan;
}

size_t adapted_text_weights_bytes(const struct adapted_text *text)
{
    return adapted_weights_measure(text->adaptation);
}

void adapted_text_begin(struct adapted_text *text, size_t prompt_count, size_t carried_count)
{
    CHECK(text->step_count == 0 && prompt_count > 0 && carried_count <= prompt_count);
    text->prompt_count = prompt_count;
    text->carried_count = carried_count;
}

struct adapted_weights *adapted_text_weights(const struct adapted_text *text)
{
    return text->learned;
}

/* Steps of a row as runs of a graph. Thread: any. Owns the compiled step, the variables' values, the first state, and a
 * pool of places to run in, one for each thread that is stepping.
 *
 * A state is its tensors one after another, each from an aligned offset. */
#include "engine/model/graph_stepper.h"

#include <float.h>
#include <math.h>
#include <pthread.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/decode/stepper.h"
#include "engine/graph/op.h"
#include "engine/graph/plan.h"

enum { TENSORS_MAX = 1 + GENERATE_STATES_MAX, WARM_UP_RUNS = 3 };

/* What of a step is computed. Of a prompt only the last symbol's scores are read, and where the state is a window of
 * symbols, the next one is nothing to compute. */
enum extent { SCORES_AND_STATE, STATE_ALONE, EXTENT_COUNT };

/* Where one thread runs steps. */
struct place {
    struct place *next;
    struct workspace *workspaces[EXTENT_COUNT];
    struct tensor symbol;               /* owned; a one-hot vector's ones are taken back */
    struct tensor feeds[TENSORS_MAX];   /* the symbol, then the states */
    struct tensor results[TENSORS_MAX]; /* the scores, then the next states */
};

struct graph_stepper {
    struct generate_signature signature;
    size_t symbol_count;
    struct values *values;
    struct plan *plans[EXTENT_COUNT];
    size_t state_bytes;
    size_t offsets[GENERATE_STATES_MAX];
    char *first_state;    /* [state_bytes] */
    pthread_mutex_t lock; /* of the pool */
    struct place *idle;
};

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory to generate by runs of the graph");
}

/* Whatever a graph cannot do becomes the one reason why it makes no text. */
static enum status refuse_step(struct error *error, enum status status)
{
    if (status == STATUS_NO_MEMORY) {
        return status;
    }
    error_prefix(error, "the signature " GENERATE_SIGNATURE_NAME " cannot be run");
    error_code(error, "cannot_generate");
    if (error != NULL) {
        error->status = STATUS_UNPROCESSABLE;
    }
    return STATUS_UNPROCESSABLE;
}

/* ---- places to run in ---- */

static void place_free(struct place *place)
{
    if (place != NULL) {
        for (size_t extent = 0; extent < EXTENT_COUNT; extent++) {
            workspace_destroy(place->workspaces[extent]);
        }
        tensor_release(&place->symbol);
        mem_free(place);
    }
}

static enum status place_make(const struct graph_stepper *stepper, struct place **ret_place, struct error *error)
{
    const struct generate_signature *signature = &stepper->signature;
    struct place *place = mem_allocate(1, sizeof *place);
    if (place == NULL) {
        return no_memory(error);
    }
    enum status status =
        tensor_init(&place->symbol, output_type(signature->symbol)->dtype, &signature->symbol_shape, error);
    for (size_t extent = 0; status == STATUS_OK && extent < EXTENT_COUNT; extent++) {
        status = workspace_create(stepper->plans[extent], &place->workspaces[extent], error);
    }
    if (status != STATUS_OK) {
        place_free(place);
        return status;
    }
    place->feeds[0] = place->symbol;
    for (size_t i = 0; i < signature->state_count; i++) {
        place->feeds[1 + i] =
            (struct tensor){.dtype = output_type(signature->states[i])->dtype, .shape = signature->state_shapes[i]};
    }
    *ret_place = place;
    return STATUS_OK;
}

static enum status place_take(struct graph_stepper *stepper, struct place **ret_place, struct error *error)
{
    CHECK(pthread_mutex_lock(&stepper->lock) == 0);
    struct place *place = stepper->idle;
    stepper->idle = place == NULL ? NULL : place->next;
    CHECK(pthread_mutex_unlock(&stepper->lock) == 0);
    if (place == NULL) {
        return place_make(stepper, ret_place, error);
    }
    *ret_place = place;
    return STATUS_OK;
}

static void place_give_back(struct graph_stepper *stepper, struct place *place)
{
    CHECK(pthread_mutex_lock(&stepper->lock) == 0);
    place->next = stepper->idle;
    stepper->idle = place;
    CHECK(pthread_mutex_unlock(&stepper->lock) == 0);
}

/* ---- a step ---- */

static void set_symbol(const struct graph_stepper *stepper, struct place *place, uint32_t symbol, bool is_set)
{
    if (stepper->signature.is_one_hot) {
        ((float *)place->symbol.data)[symbol] = is_set ? 1 : 0;
    } else if (is_set) {
        tensor_set_integer(&place->symbol, 0, symbol);
    }
}

static void read_logits(const struct graph_stepper *stepper, const struct tensor *scores, float *logits)
{
    const float *values = scores->data;
    memcpy(logits, values, stepper->symbol_count * sizeof *logits);
    for (size_t i = 0; stepper->signature.is_probabilities && i < stepper->symbol_count; i++) {
        logits[i] = logf(logits[i] < FLT_MIN ? FLT_MIN : logits[i]); /* a NaN stays one */
    }
}

/* Runs the plan of `extent`; the next states are in results[1] and on in both. */
static enum status run_plan(struct graph_stepper *stepper, struct place *place, enum extent extent,
                            const struct run_options *options, struct error *error)
{
    return plan_run(stepper->plans[extent], place->workspaces[extent], stepper->values, options,
                    extent == STATE_ALONE ? place->results + 1 : place->results, error);
}

static enum status run_step(struct graph_stepper *stepper, struct place *place, const struct stepper_step *step,
                            struct error *error)
{
    const struct generate_signature *signature = &stepper->signature;
    for (size_t i = 0; i < signature->state_count; i++) {
        place->feeds[1 + i].data = (char *)(uintptr_t)step->state + stepper->offsets[i];
    }
    set_symbol(stepper, place, step->symbol, true);
    struct run_options options = {.feeds = place->feeds, .random_key = step->random_key};
    enum status status =
        run_plan(stepper, place, step->logits == NULL ? STATE_ALONE : SCORES_AND_STATE, &options, error);
    if (status == STATUS_OK) {
        if (step->logits != NULL) {
            read_logits(stepper, &place->results[0], step->logits);
        }
        for (size_t i = 0; i < signature->state_count; i++) {
            const struct tensor *next = &place->results[1 + i];
            memcpy((char *)step->next_state + stepper->offsets[i], next->data, tensor_bytes(next));
        }
    }
    set_symbol(stepper, place, step->symbol, false);
    return status;
}

static enum status step_row(void *context, const struct stepper_step *step, struct error *error)
{
    struct graph_stepper *stepper = context;
    struct place *place = NULL;
    CHECK(step->symbol < stepper->symbol_count);
    TRY(place_take(stepper, &place, error));
    enum status status = run_step(stepper, place, step, error);
    place_give_back(stepper, place);
    return status;
}

static void begin_row(void *context, void *state)
{
    const struct graph_stepper *stepper = context;
    memcpy(state, stepper->first_state, stepper->state_bytes);
}

/* Bytes from outside: all numbers are some number, but a truth value is 0 or 1. */
static enum status check_state(void *context, const void *state, struct error *error)
{
    const struct graph_stepper *stepper = context;
    for (size_t i = 0; i < stepper->signature.state_count; i++) {
        struct tensor tensor = {.dtype = output_type(stepper->signature.states[i])->dtype,
                                .shape = stepper->signature.state_shapes[i]};
        const uint8_t *bytes = (const uint8_t *)state + stepper->offsets[i];
        size_t count = tensor.dtype == DTYPE_BOOL ? tensor_bytes(&tensor) : 0;
        for (size_t n = 0; n < count; n++) {
            if (bytes[n] > 1) {
                error_set(error, STATUS_INVALID, "truth value %zu of the state's tensor %zu is %u", n, i, bytes[n]);
                return error_code(error, "state_malformed");
            }
        }
    }
    return STATUS_OK;
}

static void destroy(void *context)
{
    struct graph_stepper *stepper = context;
    while (stepper->idle != NULL) {
        struct place *place = stepper->idle;
        stepper->idle = place->next;
        place_free(place);
    }
    CHECK(pthread_mutex_destroy(&stepper->lock) == 0);
    for (size_t extent = 0; extent < EXTENT_COUNT; extent++) {
        plan_unref(stepper->plans[extent]);
    }
    values_destroy(stepper->values);
    mem_free(stepper->first_state);
    mem_free(stepper);
}

/* ---- making it ---- */

static enum status compile_step(struct graph_stepper *stepper, struct graph *graph, struct error *error)
{
    const struct generate_signature *signature = &stepper->signature;
    struct output feeds[TENSORS_MAX] = {signature->symbol};
    struct shape shapes[TENSORS_MAX] = {signature->symbol_shape};
    struct output fetches[TENSORS_MAX] = {signature->scores};
    for (size_t i = 0; i < signature->state_count; i++) {
        feeds[1 + i] = signature->states[i];
        shapes[1 + i] = signature->state_shapes[i];
        fetches[1 + i] = signature->next_states[i];
    }
    struct plan_options options = {.feeds = feeds,
                                   .feed_shapes = shapes,
                                   .feed_count = 1 + signature->state_count,
                                   .fetches = fetches,
                                   .fetch_count = 1 + signature->state_count};
    TRY(plan_create(graph, &options, &stepper->plans[SCORES_AND_STATE], error));
    options.fetches = fetches + 1;
    options.fetch_count = signature->state_count;
    TRY(plan_create(graph, &options, &stepper->plans[STATE_ALONE], error));
    return plan_writes(stepper->plans[SCORES_AND_STATE])
               ? error_set(error, STATUS_UNPROCESSABLE, "a step changes variables")
               : STATUS_OK;
}

static void lay_out_state(struct graph_stepper *stepper, struct stepper *seam)
{
    const struct generate_signature *signature = &stepper->signature;
    for (size_t i = 0; i < signature->state_count; i++) {
        struct tensor tensor = {.dtype = output_type(signature->states[i])->dtype, .shape = signature->state_shapes[i]};
        size_t bytes = tensor_bytes(&tensor);
        stepper->offsets[i] = stepper->state_bytes;
        stepper->state_bytes += (bytes + MEM_ALIGNMENT_BYTES - 1) / MEM_ALIGNMENT_BYTES * MEM_ALIGNMENT_BYTES;
    }
    stepper->state_bytes = stepper->state_bytes == 0 ? MEM_ALIGNMENT_BYTES : stepper->state_bytes;
    seam->state_bytes = stepper->state_bytes;
}

/* What the graph makes of the states that are no placeholders, with symbol 0 and without any state. */
static enum status make_first_state(struct graph_stepper *stepper, struct graph *graph, const struct tensor *symbol,
                                    struct error *error)
{
    const struct generate_signature *signature = &stepper->signature;
    struct output fetches[GENERATE_STATES_MAX];
    size_t states[GENERATE_STATES_MAX];
    struct tensor results[GENERATE_STATES_MAX];
    struct plan_options options = {
        .feeds = &signature->symbol, .feed_shapes = &signature->symbol_shape, .feed_count = 1, .fetches = fetches};
    for (size_t i = 0; i < signature->state_count; i++) {
        if ((signature->states[i].node->op->flags & OP_FEED_ONLY) == 0) {
            states[options.fetch_count] = i;
            fetches[options.fetch_count++] = signature->states[i];
        }
    }
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    if (options.fetch_count == 0) {
        return STATUS_OK;
    }
    TRY(plan_create(graph, &options, &plan, error));
    enum status status = plan_writes(plan) ? error_set(error, STATUS_UNPROCESSABLE, "its state changes variables")
                                           : workspace_create(plan, &workspace, error);
    if (status == STATUS_OK) {
        struct run_options run = {.feeds = symbol, .deadline_ms = clock_now_ms() + GRAPH_STEPPER_STEP_MS_MAX};
        status = plan_run(plan, workspace, stepper->values, &run, results, error);
    }
    for (size_t i = 0; status == STATUS_OK && i < options.fetch_count; i++) {
        char name[OUTPUT_NAME_BYTES_MAX];
        status = !shape_equal(&results[i].shape, &signature->state_shapes[states[i]])
                     ? error_set(error, STATUS_UNPROCESSABLE, "the state '%s' has no rows of its own",
                                 output_name(fetches[i], name))
                     : STATUS_OK;
        if (status == STATUS_OK) {
            memcpy(stepper->first_state + stepper->offsets[states[i]], results[i].data, tensor_bytes(&results[i]));
        }
    }
    workspace_destroy(workspace);
    plan_unref(plan);
    return status;
}

/* What the run gave must be what the signature says. */
static enum status check_results(const struct graph_stepper *stepper, const struct place *place, struct error *error)
{
    const struct generate_signature *signature = &stepper->signature;
    char name[OUTPUT_NAME_BYTES_MAX];
    char text[SHAPE_TEXT_BYTES_MAX];
    if (tensor_element_count(&place->results[0]) != stepper->symbol_count) {
        return error_set(error, STATUS_UNPROCESSABLE, "'%s' has shape %s, but there are %zu symbols",
                         output_name(signature->scores, name), shape_text(&place->results[0].shape, text),
                         stepper->symbol_count);
    }
    for (size_t i = 0; i < signature->state_count; i++) {
        if (!shape_equal(&place->results[1 + i].shape, &signature->state_shapes[i])) {
            return error_set(error, STATUS_UNPROCESSABLE, "the next state '%s' has shape %s",
                             output_name(signature->next_states[i], name),
                             shape_text(&place->results[1 + i].shape, text));
        }
    }
    return STATUS_OK;
}

/* The first run, which also tells shapes and time. A busy machine gets another try. */
static enum status try_step(struct graph_stepper *stepper, struct place *place, struct error *error)
{
    struct run_options options = {.feeds = place->feeds};
    enum status status = STATUS_CANCELLED;
    for (size_t i = 0; i < stepper->signature.state_count; i++) {
        place->feeds[1 + i].data = stepper->first_state + stepper->offsets[i];
    }
    set_symbol(stepper, place, 0, true);
    for (int run = 0; status == STATUS_CANCELLED && run < WARM_UP_RUNS; run++) {
        options.deadline_ms = clock_now_ms() + GRAPH_STEPPER_STEP_MS_MAX;
        status = run_plan(stepper, place, SCORES_AND_STATE, &options, error);
    }
    set_symbol(stepper, place, 0, false);
    if (status == STATUS_CANCELLED) {
        return error_set(error, STATUS_UNPROCESSABLE, "a step takes longer than %d ms", GRAPH_STEPPER_STEP_MS_MAX);
    }
    return status == STATUS_OK ? check_results(stepper, place, error) : status;
}

static enum status make(struct graph_stepper *stepper, struct graph *graph, struct stepper *seam, struct error *error)
{
    struct place *place = NULL;
    TRY(compile_step(stepper, graph, error));
    lay_out_state(stepper, seam);
    stepper->first_state = mem_allocate_aligned(stepper->state_bytes, 1);
    if (stepper->first_state == NULL) {
        return no_memory(error);
    }
    TRY(place_make(stepper, &place, error));
    stepper->idle = place;
    set_symbol(stepper, place, 0, true);
    enum status status = make_first_state(stepper, graph, &place->symbol, error);
    set_symbol(stepper, place, 0, false);
    return status == STATUS_OK ? try_step(stepper, place, error) : status;
}

/* Of the compiled step, but for the graph's nodes; optimisers' slots have no values. */
static size_t count_bytes(const struct graph_stepper *stepper, const struct graph *graph)
{
    size_t bytes = stepper->state_bytes;
    for (size_t extent = 0; extent < EXTENT_COUNT; extent++) {
        bytes += plan_bytes(stepper->plans[extent]) + plan_workspace_bytes(stepper->plans[extent]);
    }
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        const struct output_type *type = &variable->node->outputs[0];
        struct tensor tensor = {.dtype = type->dtype, .shape = type->shape};
        bytes += variable->is_slot ? 0 : tensor_bytes(&tensor);
    }
    return bytes;
}

enum status graph_stepper_measure(struct graph *graph, const struct generate_signature *signature, size_t *ret_bytes,
                                  struct error *error)
{
    struct graph_stepper stepper = {.signature = *signature};
    struct stepper seam = {.context = NULL};
    enum status status = compile_step(&stepper, graph, error);
    if (status == STATUS_OK) {
        lay_out_state(&stepper, &seam);
        *ret_bytes = count_bytes(&stepper, graph);
    }
    for (size_t extent = 0; extent < EXTENT_COUNT; extent++) {
        plan_unref(stepper.plans[extent]);
    }
    return status == STATUS_OK ? status : refuse_step(error, status);
}

enum status graph_stepper_create(struct graph *graph, struct values *values, const struct generate_signature *signature,
                                 size_t symbol_count, struct stepper *ret_stepper, struct error *error)
{
    if (signature->is_one_hot || signature->symbol_count != 0) {
        size_t columns = signature->is_one_hot
                             ? (size_t)signature->symbol_shape.dimensions[signature->symbol_shape.rank - 1]
                             : signature->symbol_count;
        if (columns != symbol_count) {
            error_set(error, STATUS_UNPROCESSABLE, "there are %zu scores for %zu symbols", columns, symbol_count);
            return refuse_step(error, STATUS_UNPROCESSABLE);
        }
    }
    struct graph_stepper *stepper = mem_allocate(1, sizeof *stepper);
    if (stepper == NULL) {
        return no_memory(error);
    }
    CHECK(pthread_mutex_init(&stepper->lock, NULL) == 0);
    stepper->signature = *signature;
    stepper->symbol_count = symbol_count;
    stepper->values = values;
    struct stepper seam = {.context = stepper,
                           .name = "graph",
                           .symbol_count = symbol_count,
                           .begin = begin_row,
                           .step = step_row,
                           .check_state = check_state,
                           .destroy = destroy};
    enum status status = make(stepper, graph, &seam, error);
    if (status != STATUS_OK) {
        stepper->values = NULL; /* still the caller's */
        destroy(stepper);
        return refuse_step(error, status);
    }
    seam.bytes = count_bytes(stepper, graph);
    *ret_stepper = seam;
    return STATUS_OK;
}

enum status graph_stepper_plan(struct graph *graph, struct values *values, const struct generate_signature *signature,
                               size_t symbol_count, struct decode_plan **ret_plan, struct error *error)
{
    struct stepper seam;
    TRY(graph_stepper_create(graph, values, signature, symbol_count, &seam, error));
    enum status status = decode_plan_create_stepped(&seam, ret_plan, error);
    if (status != STATUS_OK) {
        ((struct graph_stepper *)seam.context)->values = NULL; /* still the caller's */
        seam.destroy(seam.context);
    }
    return status;
}

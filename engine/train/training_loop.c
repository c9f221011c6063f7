/* The training loop: steps, evaluations, checkpoints, samples, and what is told of them. */
#include <math.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/train/ranks.h"
#include "engine/train/training_private.h"

enum { HISTORY_MAX = 4096 };
static const double EVENT_SECONDS = 0.2;
static const double FILES_SECONDS = 1;
static const double NOISE_FALL = 0.55;
enum { SMOOTHED_STEPS = 100 }; /* the train loss that is told remembers about as many */

static double seconds_since(uint64_t ns)
{
    return (double)(clock_now_ns() - ns) * 1e-9;
}

/* ---- telling ---- */

static void tell(struct training *training, enum training_event_kind kind)
{
    training->event_ns = clock_now_ns();
    if (training->parts.callbacks.on_event) {
        struct training_event event;
        training_describe(training, &event);
        event.kind = kind;
        training->parts.callbacks.on_event(training->parts.callbacks.context, training, &event);
    }
}

/* Where it stands, as it is told. */
static json_t *record_event(const struct training *training, enum training_event_kind kind)
{
    struct training_event event;
    training_describe(training, &event);
    event.kind = kind;
    return training_event_to_json(&event);
}

static enum status remember(struct training *training, struct error *error)
{
    json_t *history = training->record.history;
    if (json_array_size(history) >= HISTORY_MAX) {
        for (size_t i = 1; i < json_array_size(history); i++) {
            json_array_remove(history, i);
        }
    }
    if (json_array_append_new(history, record_event(training, TRAINING_PROGRESS)) != 0) {
        return error_set(error, STATUS_NO_MEMORY, "training: no memory for its history");
    }
    return STATUS_OK;
}

/* ---- running ---- */

static enum status not_finite(const struct training *training, const char *what, double number, struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE,
              "step %zu: the %s is %g: training ends, its last checkpoint stands (a lower learning rate may help)",
              (size_t)training->record.position.step + 1, what, number);
    return error_code(error, "not_finite"), STATUS_UNPROCESSABLE;
}

static enum status keep_best(struct training *training, struct error *error)
{
    const struct graph *graph = training->parts.graph;
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        const struct tensor *tensor = values_tensor(training->parts.values, variable);
        if (!variable->is_slot && tensor) {
            TRY(values_set(training->best, variable, tensor, error));
        }
    }
    return STATUS_OK;
}

static enum status evaluate(struct training *training, struct error *error)
{
    struct training_position *at = &training->record.position;
    double loss;
    TRY(evaluation_run(training->evaluation, &loss, error));
    if (!isfinite(loss)) {
        return not_finite(training, "validation loss", loss, error);
    }
    at->validation_loss = loss;
    at->seconds = training->seconds_before + seconds_since(training->began_ns);
    training->is_evaluated = true;
    training->is_best = isnan(at->best_loss) || loss < at->best_loss;
    plateau_note(&at->plateau, &training->options.schedule, loss);
    at->stale_evaluations++;
    if (training->is_best) {
        at->best_loss = loss;
        at->best_step = at->step;
        at->stale_evaluations = 0;
        TRY(keep_best(training, error));
    }
    TRY(remember(training, error));
    tell(training, TRAINING_PROGRESS);
    return STATUS_OK;
}

/* The sum of the shards' gradients goes into the weights. */
static enum status update(struct training *training, struct error *error)
{
    const struct training_options *options = &training->options;
    uint64_t step = training->record.position.step;
    const double numbers[TRAIN_STEP_FEED_COUNT] = {
        [TRAIN_STEP_LEARNING_RATE] = training_rate(training),
        [TRAIN_STEP_CLIP_NORM] = options->clip_norm,
        [TRAIN_STEP_CLIP_VALUE] = options->clip_value,
        [TRAIN_STEP_WEIGHT_DECAY] = options->weight_decay,
        [TRAIN_STEP_NOISE] = sqrt(options->gradient_noise / pow(1 + (double)step, NOISE_FALL)),
    };
    struct rng_words words = rng_philox(options->seed, TRAINING_SHARDS_MAX, step); /* shards count from 0 */
    uint64_t key = (uint64_t)words.word[1] << 32 | words.word[0];
    TRY(update_run(training->update, numbers, key, &training->gradient_norm, error));
    return isfinite(training->gradient_norm) ? STATUS_OK
                                             : not_finite(training, "gradients' norm", training->gradient_norm, error);
}

static enum status step(struct training *training, struct error *error)
{
    struct training_position *at = &training->record.position;
    uint64_t began_ns = clock_now_ns();
    training->is_evaluated = false;
    training->is_best = false;
    if (at->window == 0) {
        carried_state_zero(&training->state);
    }
    struct shards_window window = {.batches = &training->batches,
                                   .time_begin = at->window * training->options.sequence_length,
                                   .keep_probability = training->keep_probability,
                                   .label_smoothing = (float)training->options.label_smoothing,
                                   .seed = training->options.seed,
                                   .step = at->step};
    double loss;
    TRY(shards_run(training->shards, &window, &loss, error));
    if (!isfinite(loss)) {
        return not_finite(training, "loss", loss, error);
    }
    TRY(update(training, error));
    at->step++;
    double share = 1 / (double)(at->step < SMOOTHED_STEPS ? at->step : SMOOTHED_STEPS);
    at->smoothed_loss = at->step == 1 ? loss : at->smoothed_loss + share * (loss - at->smoothed_loss);
    at->window++;
    if (at->window == training->windows) {
        at->window = 0;
        at->epoch++;
    }
    training_speed_add(&training->speed, (double)(training->options.batch * training->options.sequence_length),
                       seconds_since(began_ns));
    at->seconds = training->seconds_before + seconds_since(training->began_ns);
    return STATUS_OK;
}

static enum status write_checkpoint(struct training *training, struct error *error)
{
    struct checkpoint_files files = training_checkpoint_files(training);
    shards_gather_state(training->shards);
    json_decref(training->record.told);
    training->record.told = record_event(training, TRAINING_CHECKPOINT);
    if (ranks_index() == 0) {
        TRY(checkpoint_write(training->parts.checkpoint_path, &training->record, &files, error));
    }
    if (training->parts.hand_back) {
        TRY(training->parts.hand_back(training->parts.context, training->parts.values, error));
    }
    training->checkpoint_ns = clock_now_ns();
    tell(training, TRAINING_CHECKPOINT);
    return STATUS_OK;
}

static bool is_at_limit(const struct training *training)
{
    const struct training_options *options = &training->options;
    const struct training_position *at = &training->record.position;
    return (options->epochs > 0 && at->epoch >= options->epochs) ||
           (options->max_steps > 0 && at->step >= options->max_steps) ||
           (options->max_seconds > 0 && at->seconds >= options->max_seconds) ||
           (options->early_stopping > 0 && at->stale_evaluations >= options->early_stopping);
}

/* Every sample_every_steps. */
static void sample(struct training *training)
{
    uint64_t every = training->options.sample_every_steps;
    char *text = NULL;
    struct error ignored;
    if (every == 0 || training->record.position.step % every != 0 || !training->parts.make_sample) {
        return;
    }
    if (training->parts.make_sample(training->parts.context, training->record.position.step, &text, &ignored) ==
        STATUS_OK) {
        training->sample = text;
        tell(training, TRAINING_SAMPLE);
        training->sample = NULL;
        mem_free(text);
    }
}

/* What comes next: the same on all ranks. Anybody may be told to stop; the first one's clock counts. */
struct decision {
    bool stops;
    bool ends;
    bool keeps; /* a checkpoint is due */
};

static struct decision decide(const struct training *training)
{
    const struct training_options *options = &training->options;
    bool leads = ranks_index() == 0;
    bool is_due = seconds_since(training->checkpoint_ns) >= options->checkpoint_seconds;
    double votes[] = {atomic_load(&training->is_stopping), leads && is_at_limit(training), leads && is_due};
    ranks_sum_numbers(votes, sizeof votes / sizeof votes[0]);
    bool stops = votes[0] > 0; /* also at the limit: whoever asked for it wants nothing published */
    return (struct decision){stops, votes[1] > 0 && !stops, votes[2] > 0};
}

/* Whether an evaluation belongs behind the last step. */
static bool is_evaluation_due(const struct training *training)
{
    uint64_t every = training->options.evaluate_every_steps;
    const struct training_position *at = &training->record.position;
    return training->evaluation && at->step > 0 && (at->window == 0 || (every > 0 && at->step % every == 0));
}

/* Of a resume: whether the last step's evaluation is in the record. */
static bool has_evaluation(const struct training *training)
{
    const json_t *history = training->record.history;
    const json_t *last = json_array_get(history, json_array_size(history) - 1);
    return last && (uint64_t)json_integer_value(json_object_get(last, "step")) == training->record.position.step;
}

static enum status after_step(struct training *training, struct error *error)
{
    if (is_evaluation_due(training)) {
        TRY(evaluate(training, error));
    } else if (seconds_since(training->event_ns) >= EVENT_SECONDS) {
        tell(training, TRAINING_PROGRESS);
    }
    sample(training);
    return STATUS_OK;
}

/* Measures the result. */
static enum status test(struct training *training, struct error *error)
{
    struct evaluation *evaluation = NULL;
    if (training->split.parts[CORPUS_TEST].count == 0) {
        return STATUS_OK;
    }
    TRY(training_make_evaluation(training, CORPUS_TEST, &evaluation, error));
    double loss;
    enum status status = evaluation_run(evaluation, &loss, error);
    evaluation_destroy(evaluation);
    TRY(status);
    training->test_loss = loss;
    return isfinite(loss) ? STATUS_OK : not_finite(training, "test loss", loss, error);
}

/* The best values become the result, if they are not the last ones, which were handed back with their checkpoint. One
 * that is stopped in its test is resumed from that. */
static enum status finish(struct training *training, struct error *error)
{
    const struct graph *graph = training->parts.graph;
    const struct training_position *at = &training->record.position;
    bool was_better = training->best && at->best_step != at->step;
    for (size_t i = 0; was_better && i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        const struct tensor *tensor = values_tensor(training->best, variable);
        if (tensor) {
            TRY(values_set(training->parts.values, variable, tensor, error));
        }
    }
    TRY(test(training, error));
    if (was_better && training->parts.hand_back) {
        TRY(training->parts.hand_back(training->parts.context, training->parts.values, error));
    }
    tell(training, TRAINING_DONE);
    return STATUS_OK;
}

/* What is on the checkpoint is trained on the text as it was: it could not be resumed with another. */
static enum status check_files(struct training *training, struct error *error)
{
    if (!training->parts.is_watched || seconds_since(training->files_ns) < FILES_SECONDS) {
        return STATUS_OK;
    }
    training->files_ns = clock_now_ns();
    return corpus_check_files(training->parts.corpus, error);
}

static enum status tell_stopped(const struct training *training, struct error *error)
{
    error_set(error, STATUS_CANCELLED, "stopped at step %zu; its checkpoint is kept",
              (size_t)training->record.position.step);
    return error_code(error, "stopped"), STATUS_CANCELLED;
}

static enum status stop(struct training *training, struct error *error)
{
    TRY(write_checkpoint(training, error));
    return tell_stopped(training, error);
}

/* Whether the last step has a checkpoint of its own. Of the last of all one is written at the end. */
static bool is_kept(const struct training *training, const struct decision *next)
{
    bool is_due = next->keeps || (training->options.publish == PUBLISH_BEST && training->is_best);
    return is_due && !next->stops && !next->ends;
}

/* Steps, and what comes after each, until the first limit. An evaluation that was stopped in its middle is not in the
 * record: a resume begins with it instead of a step, and ends in the same bits. */
static enum status run_steps(struct training *training, struct error *error)
{
    bool owes_evaluation = is_evaluation_due(training) && !has_evaluation(training);
    struct decision next = decide(training);
    while (!next.ends) {
        if (next.stops) {
            return stop(training, error);
        }
        TRY(check_files(training, error));
        TRY(owes_evaluation ? STATUS_OK : step(training, error));
        enum status status = after_step(training, error);
        if (status == STATUS_CANCELLED) {
            return stop(training, error);
        }
        TRY(status);
        owes_evaluation = false;
        next = decide(training);
        if (is_kept(training, &next)) {
            TRY(write_checkpoint(training, error));
        }
    }
    return STATUS_OK;
}

enum status training_run(struct training *training, struct error *error)
{
    training->began_ns = clock_now_ns();
    training->event_ns = training->began_ns;
    training->files_ns = 0;
    training->checkpoint_ns = training->began_ns;
    training->is_evaluated = has_evaluation(training);
    TRY(run_steps(training, error));
    enum status status = STATUS_OK;
    if (training->evaluation && !training->is_evaluated) {
        status = evaluate(training, error);
    }
    if (status == STATUS_CANCELLED) {
        return stop(training, error);
    }
    TRY(status);
    TRY(write_checkpoint(training, error));
    status = finish(training, error);
    return status == STATUS_CANCELLED ? tell_stopped(training, error) : status;
}

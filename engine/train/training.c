/* The training loop. */
#include <math.h>

#include "engine/base/check.h"
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

/* ---- making ---- */

enum status training_check_corpus(const struct corpus *corpus, const struct training_options *options,
                                  struct error *error)
{
    static const char *const names[] = {"training", "validation", "the test"};
    struct corpus_split split = corpus_split(corpus, options->validation_fraction, options->test_fraction);
    const bool is_wanted[] = {true, options->validation_fraction > 0, options->test_fraction > 0};
    size_t total = corpus_symbol_count(corpus);
    size_t train = split.parts[CORPUS_TRAIN].count;
    size_t least = options->batch * options->sequence_length + 1;
    enum status status = STATUS_OK;
    if (train < least) {
        status =
            error_set(error, STATUS_INVALID,
                      "corpus: too short: %zu of its %zu symbols are for training, and one batch of %zu rows × %zu "
                      "steps takes %zu",
                      train, total, options->batch, options->sequence_length, least);
    }
    for (int i = CORPUS_VALIDATION; status == STATUS_OK && i < CORPUS_PART_COUNT; i++) {
        size_t count = split.parts[i].count;
        if (count < 2 && (is_wanted[i] || corpus_has_part(corpus, (enum corpus_part)i))) {
            status = error_set(error, STATUS_INVALID,
                               "corpus: too short: %zu of its %zu symbols are left for %s, which takes at least 2",
                               count, total, names[i]);
        }
    }
    if (status != STATUS_OK) {
        error_code(error, "corpus_too_short");
        return status;
    }
    const char *needing = options->early_stopping > 0                  ? "early_stopping"
                          : options->schedule.kind == SCHEDULE_PLATEAU ? "schedule"
                                                                       : NULL;
    if (needing && split.parts[CORPUS_VALIDATION].count == 0) {
        status = error_set(error, STATUS_INVALID, "%s goes by the validation loss, and no text is held back", needing);
        if (error) {
            snprintf(error->param, sizeof error->param, "%s", needing);
        }
    }
    return status;
}

static enum status make_evaluation(struct training *training, enum corpus_part part, struct evaluation **ret_evaluation,
                                   struct error *error)
{
    struct evaluation_options options = {.graph = training->parts.graph,
                                         .values = training->parts.values,
                                         .corpus = training->parts.corpus,
                                         .stretch = training->split.parts[part],
                                         .shard_count = training->options.shards,
                                         .threads = training->threads};
    return evaluation_create(&options, ret_evaluation, error);
}

static enum status make_validation(struct training *training, struct error *error)
{
    enum corpus_part part = CORPUS_VALIDATION;
    if (training->split.parts[part].count > 0) {
        TRY(make_evaluation(training, part, &training->evaluation, error));
        TRY(values_create(training->parts.graph, &training->best, error));
    } else {
        part = CORPUS_TRAIN;
    }
    struct corpus_stretch stretch = training->split.parts[part];
    uint64_t characters;
    TRY(corpus_count_characters(training->parts.corpus, stretch, &characters, error));
    training->symbols_per_character = (double)stretch.count / (double)(characters ? characters : 1);
    return STATUS_OK;
}

/* A cosine to the end: when that is. */
static void settle_schedule(struct training *training)
{
    struct training_options *options = &training->options;
    uint64_t steps = options->epochs * training->windows;
    if (options->max_steps > 0 && (steps == 0 || options->max_steps < steps)) {
        steps = options->max_steps;
    }
    if (options->schedule.kind == SCHEDULE_COSINE && options->schedule.decay_steps == 0) {
        options->schedule.decay_steps = steps;
    }
}

static enum status make_parts(struct training *training, struct error *error)
{
    const struct training_parts *parts = &training->parts;
    const struct training_options *options = &training->options;
    if (!language_model_find(parts->graph, &training->model)) {
        return error_set(error, STATUS_UNPROCESSABLE, "the graph holds no language model to train");
    }
    double dropout = isnan(options->dropout) ? training->model.dropout : options->dropout;
    training->options.dropout = dropout;
    training->keep_probability = (float)(1 - dropout);
    TRY(training_check_corpus(parts->corpus, options, error));
    training->split = corpus_split(parts->corpus, options->validation_fraction, options->test_fraction);
    training->batches = batches_make(parts->corpus, training->split.parts[CORPUS_TRAIN], options->batch);
    training->windows = training->batches.row_symbols / options->sequence_length;
    settle_schedule(training);
    size_t shards_here = (options->shards + ranks_count() - 1) / ranks_count();
    size_t threads = parts->threads < shards_here ? parts->threads : shards_here;
    TRY(trainer_threads_create(threads, parts->is_idle_priority, &training->threads, error));
    TRY(carried_state_init(&training->state, &training->model, options->batch, error));
    struct shards_options shards = {.graph = parts->graph,
                                    .values = parts->values,
                                    .step = parts->step,
                                    .state = &training->state,
                                    .rows = options->batch,
                                    .time = options->sequence_length,
                                    .count = options->shards,
                                    .threads = training->threads};
    TRY(shards_create(&shards, &training->shards, error));
    TRY(update_create(parts->graph, parts->values, parts->step, training->shards, training->threads, &training->update,
                      error));
    TRY(make_validation(training, error));
    training->record.options = training_options_write(&training->options);
    snprintf(training->record.corpus_sha256, sizeof training->record.corpus_sha256, "%s",
             corpus_report(parts->corpus).sha256);
    return training->record.options ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "training: no memory");
}

static enum status create(const struct training_parts *parts, const struct training_options *options,
                          struct training **ret_training, struct error *error)
{
    CHECK(parts->threads >= 1);
    struct training *training = mem_allocate(1, sizeof *training);
    if (!training) {
        return error_set(error, STATUS_NO_MEMORY, "training: no memory");
    }
    training->parts = *parts;
    training->options = *options;
    training->test_loss = (double)NAN;
    training->record.position = (struct training_position){
        .smoothed_loss = (double)NAN,
        .validation_loss = (double)NAN,
        .best_loss = (double)NAN,
        .plateau = {.best = (double)NAN},
    };
    training->gradient_norm = (double)NAN;
    enum status status = make_parts(training, error);
    if (status != STATUS_OK) {
        training_destroy(training);
        return status;
    }
    *ret_training = training;
    return STATUS_OK;
}

enum status training_create(const struct training_parts *parts, const struct training_options *options,
                            struct training **ret_training, struct error *error)
{
    struct training *training;
    TRY(create(parts, options, &training, error));
    training->record.history = json_array();
    if (!training->record.history) {
        training_destroy(training);
        return error_set(error, STATUS_NO_MEMORY, "training: no memory");
    }
    *ret_training = training;
    return STATUS_OK;
}

static struct checkpoint_files checkpoint_files(struct training *training)
{
    return (struct checkpoint_files){.graph = training->parts.graph,
                                     .values = training->parts.values,
                                     .state = &training->state,
                                     .best = training->best,
                                     .model_files = training->parts.model_files,
                                     .model_file_count = training->parts.model_file_count,
                                     .manifest = training->parts.manifest};
}

static enum status resume(struct training *training, const struct checkpoint *checkpoint, struct error *error)
{
    struct checkpoint *record = &training->record;
    TRY(checkpoint_check_corpus(checkpoint, record->corpus_sha256, error));
    record->position = checkpoint->position;
    record->history = json_incref(checkpoint->history);
    training->seconds_before = checkpoint->position.seconds;
    if (record->position.window >= training->windows || (isfinite(record->position.best_loss) && !training->best)) {
        return error_set(error, STATUS_CORRUPT, "checkpoint %s: window %zu of %zu in an epoch",
                         training->parts.checkpoint_path, (size_t)record->position.window, (size_t)training->windows);
    }
    struct checkpoint_files files = checkpoint_files(training);
    return checkpoint_restore(training->parts.checkpoint_path, record, &files, error);
}

enum status training_create_resumed(const struct training_parts *parts, const struct training_options *options,
                                    const struct checkpoint *checkpoint, struct training **ret_training,
                                    struct error *error)
{
    struct training *training;
    TRY(create(parts, options, &training, error));
    enum status status = resume(training, checkpoint, error);
    if (status != STATUS_OK) {
        training_destroy(training);
        return status;
    }
    *ret_training = training;
    return STATUS_OK;
}

void training_destroy(struct training *training)
{
    if (!training) {
        return;
    }
    evaluation_destroy(training->evaluation);
    update_destroy(training->update);
    shards_destroy(training->shards);
    carried_state_release(&training->state);
    trainer_threads_destroy(training->threads);
    values_destroy(training->best);
    checkpoint_release(&training->record);
    mem_free(training);
}

void training_stop(struct training *training)
{
    atomic_store(&training->is_stopping, true);
}

const _Atomic bool *training_stop_flag(const struct training *training)
{
    return &training->is_stopping;
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
    struct checkpoint_files files = checkpoint_files(training);
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
    return (struct decision){votes[0] > 0, votes[1] > 0, votes[2] > 0};
}

static enum status after_step(struct training *training, struct error *error)
{
    const struct training_options *options = &training->options;
    const struct training_position *at = &training->record.position;
    bool is_due =
        at->window == 0 || (options->evaluate_every_steps > 0 && at->step % options->evaluate_every_steps == 0);
    if (training->evaluation && is_due) {
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
    TRY(make_evaluation(training, CORPUS_TEST, &evaluation, error));
    double loss;
    enum status status = evaluation_run(evaluation, &loss, error);
    evaluation_destroy(evaluation);
    TRY(status);
    training->test_loss = loss;
    return isfinite(loss) ? STATUS_OK : not_finite(training, "test loss", loss, error);
}

/* The best values become the result. */
static enum status finish(struct training *training, struct error *error)
{
    const struct graph *graph = training->parts.graph;
    for (size_t i = 0; training->best && i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        const struct tensor *tensor = values_tensor(training->best, variable);
        if (tensor) {
            TRY(values_set(training->parts.values, variable, tensor, error));
        }
    }
    if (training->parts.hand_back) {
        TRY(training->parts.hand_back(training->parts.context, training->parts.values, error));
    }
    TRY(test(training, error));
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

enum status training_run(struct training *training, struct error *error)
{
    training->began_ns = clock_now_ns();
    training->event_ns = training->began_ns;
    training->files_ns = 0;
    training->checkpoint_ns = training->began_ns;
    struct decision next = decide(training);
    while (!next.ends) {
        if (next.stops) {
            TRY(write_checkpoint(training, error));
            return error_set(error, STATUS_CANCELLED, "stopped at step %zu; its checkpoint is kept",
                             (size_t)training->record.position.step);
        }
        TRY(check_files(training, error));
        TRY(step(training, error));
        TRY(after_step(training, error));
        next = decide(training);
        if (next.keeps || (training->options.publish == PUBLISH_BEST && training->is_best)) {
            TRY(write_checkpoint(training, error));
        }
    }
    if (training->evaluation && !training->is_evaluated) {
        TRY(evaluate(training, error));
    }
    TRY(write_checkpoint(training, error));
    return finish(training, error);
}

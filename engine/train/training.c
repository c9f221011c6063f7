/* The training loop. */
#include "engine/train/training.h"

#include <math.h>
#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/train/checkpoint.h"
#include "engine/train/evaluation.h"
#include "engine/train/shards.h"
#include "engine/train/update.h"

enum { HISTORY_MAX = 4096 };
static const double EVENT_SECONDS = 0.2;
static const double SPEED_WINDOW_SECONDS = 4;
enum { SMOOTHED_STEPS = 100 }; /* the train loss that is told remembers about as many */

/* Speed over the last one to two windows of time. */
struct speed {
    double symbols; /* in the current window */
    double seconds;
    double symbols_before; /* in the one before */
    double seconds_before;
};

struct training {
    struct training_parts parts;
    struct training_options options;
    struct language_model_options model;
    float keep_probability;
    struct trainer_threads *threads;
    struct carried_state state;
    struct shards *shards;
    struct update *update;
    struct batches batches;
    uint64_t windows;              /* in an epoch */
    struct evaluation *evaluation; /* NULL: no validation text */
    struct values *best;
    struct checkpoint record; /* position, options, history */
    struct speed speed;
    double seconds_before;  /* of earlier runs */
    uint64_t began_ns;      /* this run */
    uint64_t event_ns;      /* the last progress event */
    uint64_t checkpoint_ns; /* the last checkpoint, or the beginning */
    bool is_evaluated;      /* at this very step */
    bool is_best;
    _Atomic bool is_stopping;
};

static double seconds_since(uint64_t ns)
{
    return (double)(clock_now_ns() - ns) * 1e-9;
}

/* ---- making ---- */

size_t training_symbols(const struct corpus *corpus, const struct training_options *options)
{
    size_t total = corpus_symbol_count(corpus);
    return options->validation_fraction > 0 ? (size_t)((1 - options->validation_fraction) * (double)total) : total;
}

enum status training_check_corpus(const struct corpus *corpus, const struct training_options *options,
                                  struct error *error)
{
    size_t total = corpus_symbol_count(corpus);
    size_t train = training_symbols(corpus, options);
    size_t least = options->batch * options->sequence_length + 1;
    enum status status = STATUS_OK;
    if (train < least) {
        status =
            error_set(error, STATUS_INVALID,
                      "corpus: too short: %zu of its %zu symbols are for training, and one batch of %zu rows × %zu "
                      "steps takes %zu",
                      train, total, options->batch, options->sequence_length, least);
    } else if (options->validation_fraction > 0 && total - train < 2) {
        status = error_set(error, STATUS_INVALID,
                           "corpus: too short: %zu of its %zu symbols are left for validation, which takes at least 2",
                           total - train, total);
    }
    if (status != STATUS_OK) {
        error_code(error, "corpus_too_short");
    }
    return status;
}

static enum status make_evaluation(struct training *training, struct error *error)
{
    if (training->options.validation_fraction <= 0) {
        return STATUS_OK;
    }
    size_t begin = training_symbols(training->parts.corpus, &training->options);
    struct evaluation_options options = {.graph = training->parts.graph,
                                         .values = training->parts.values,
                                         .corpus = training->parts.corpus,
                                         .begin = begin,
                                         .count = corpus_symbol_count(training->parts.corpus) - begin,
                                         .shard_count = training->options.shards,
                                         .threads = training->threads};
    TRY(evaluation_create(&options, &training->evaluation, error));
    return values_create(training->parts.graph, &training->best, error);
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
    training->batches = batches_make(parts->corpus, 0, training_symbols(parts->corpus, options), options->batch);
    training->windows = training->batches.row_symbols / options->sequence_length;
    size_t threads = parts->threads < options->shards ? parts->threads : options->shards;
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
    TRY(make_evaluation(training, error));
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
    training->record.position = (struct training_position){
        .smoothed_loss = (double)NAN, .validation_loss = (double)NAN, .best_loss = (double)NAN};
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

static void speed_add(struct speed *speed, double symbols, double seconds)
{
    speed->symbols += symbols;
    speed->seconds += seconds;
    if (speed->seconds >= SPEED_WINDOW_SECONDS) {
        speed->symbols_before = speed->symbols;
        speed->seconds_before = speed->seconds;
        speed->symbols = 0;
        speed->seconds = 0;
    }
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* How much of the way to the nearest limit is done. */
static double fraction_done(const struct training *training)
{
    const struct training_options *options = &training->options;
    const struct training_position *at = &training->record.position;
    double done = 0;
    if (options->epochs > 0) {
        double windows = (double)options->epochs * (double)training->windows;
        done = larger(done, ((double)at->epoch * (double)training->windows + (double)at->window) / windows);
    }
    if (options->max_steps > 0) {
        done = larger(done, (double)at->step / (double)options->max_steps);
    }
    if (options->max_seconds > 0) {
        done = larger(done, at->seconds / options->max_seconds);
    }
    return done < 1 ? done : 1;
}

void training_describe(const struct training *training, struct training_event *ret_event)
{
    const struct training_position *at = &training->record.position;
    const struct speed *speed = &training->speed;
    double loss = isnan(at->validation_loss) ? at->smoothed_loss : at->validation_loss;
    double done = fraction_done(training);
    double seconds = speed->seconds + speed->seconds_before;
    *ret_event = (struct training_event){
        .kind = TRAINING_PROGRESS,
        .step = at->step,
        .epoch = (double)at->epoch + (double)at->window / (double)training->windows,
        .train_loss = at->smoothed_loss,
        .validation_loss = at->validation_loss,
        .best_loss = at->best_loss,
        .best_step = at->best_step,
        .bits_per_character = loss / log(2),
        .perplexity = exp(loss),
        .learning_rate = training_learning_rate(&training->options, at->epoch + 1),
        .symbols_per_second = seconds > 0 ? (speed->symbols + speed->symbols_before) / seconds : (double)NAN,
        .seconds_left = done > 0 ? at->seconds / done * (1 - done) : (double)NAN,
        .seconds = at->seconds,
        .fraction_done = done,
        .is_evaluation = training->is_evaluated,
        .is_best = training->is_best,
    };
}

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

const json_t *training_history(const struct training *training)
{
    return training->record.history;
}

static enum status remember(struct training *training, struct error *error)
{
    json_t *history = training->record.history;
    if (json_array_size(history) >= HISTORY_MAX) {
        for (size_t i = 1; i < json_array_size(history); i++) {
            json_array_remove(history, i);
        }
    }
    struct training_event event;
    training_describe(training, &event);
    if (json_array_append_new(history, training_event_to_json(&event)) != 0) {
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
    if (training->is_best) {
        at->best_loss = loss;
        at->best_step = at->step;
        TRY(keep_best(training, error));
    }
    TRY(remember(training, error));
    tell(training, TRAINING_PROGRESS);
    return STATUS_OK;
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
                                   .seed = training->options.seed,
                                   .step = at->step};
    double loss;
    double norm;
    TRY(shards_run(training->shards, &window, &loss, error));
    if (!isfinite(loss)) {
        return not_finite(training, "loss", loss, error);
    }
    TRY(update_run(training->update, training_learning_rate(&training->options, at->epoch + 1),
                   training->options.clip_norm, &norm, error));
    if (!isfinite(norm)) {
        return not_finite(training, "gradients' norm", norm, error);
    }
    at->step++;
    double share = 1 / (double)(at->step < SMOOTHED_STEPS ? at->step : SMOOTHED_STEPS);
    at->smoothed_loss = at->step == 1 ? loss : at->smoothed_loss + share * (loss - at->smoothed_loss);
    at->window++;
    if (at->window == training->windows) {
        at->window = 0;
        at->epoch++;
    }
    speed_add(&training->speed, (double)(training->options.batch * training->options.sequence_length),
              seconds_since(began_ns));
    at->seconds = training->seconds_before + seconds_since(training->began_ns);
    return STATUS_OK;
}

static enum status write_checkpoint(struct training *training, struct error *error)
{
    struct checkpoint_files files = checkpoint_files(training);
    TRY(checkpoint_write(training->parts.checkpoint_path, &training->record, &files, error));
    if (training->parts.hand_back) {
        TRY(training->parts.hand_back(training->parts.hand_back_context, training->parts.values, error));
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
           (options->max_seconds > 0 && at->seconds >= options->max_seconds);
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
    bool is_published = options->publish == PUBLISH_BEST && training->is_best;
    if (is_published || seconds_since(training->checkpoint_ns) >= options->checkpoint_seconds) {
        TRY(write_checkpoint(training, error));
    }
    return STATUS_OK;
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
        TRY(training->parts.hand_back(training->parts.hand_back_context, training->parts.values, error));
    }
    tell(training, TRAINING_DONE);
    return STATUS_OK;
}

enum status training_run(struct training *training, struct error *error)
{
    training->began_ns = clock_now_ns();
    training->event_ns = training->began_ns;
    training->checkpoint_ns = training->began_ns;
    while (!is_at_limit(training)) {
        if (atomic_load(&training->is_stopping)) {
            TRY(write_checkpoint(training, error));
            return error_set(error, STATUS_CANCELLED, "stopped at step %zu; its checkpoint is kept",
                             (size_t)training->record.position.step);
        }
        TRY(step(training, error));
        TRY(after_step(training, error));
    }
    if (training->evaluation && !training->is_evaluated) {
        TRY(evaluate(training, error));
    }
    TRY(write_checkpoint(training, error));
    return finish(training, error);
}

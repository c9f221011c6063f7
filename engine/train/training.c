/* Making a training, from its beginning or from a checkpoint, and ending it. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/train/ranks.h"
#include "engine/train/training_private.h"

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
                          : options->publish == PUBLISH_BEST           ? "publish"
                                                                       : NULL;
    if (needing && split.parts[CORPUS_VALIDATION].count == 0) {
        status = error_set(error, STATUS_INVALID, "%s goes by the validation loss, and no text is held back", needing);
        if (error) {
            snprintf(error->param, sizeof error->param, "%s", needing);
        }
    }
    return status;
}

enum status training_make_evaluation(struct training *training, enum corpus_part part,
                                     struct evaluation **ret_evaluation, struct error *error)
{
    struct evaluation_options options = {.graph = training->parts.graph,
                                         .values = training->parts.values,
                                         .corpus = training->parts.corpus,
                                         .stretch = training->split.parts[part],
                                         .shard_count = training->options.shards,
                                         .threads = training->threads,
                                         .is_cancelled = &training->is_stopping};
    return evaluation_create(&options, ret_evaluation, error);
}

static enum status make_validation(struct training *training, struct error *error)
{
    enum corpus_part part = CORPUS_VALIDATION;
    if (training->split.parts[part].count > 0) {
        TRY(training_make_evaluation(training, part, &training->evaluation, error));
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
    const uint64_t steps_max = UINT64_C(1) << 53; /* as many as an option can say, and a checkpoint's options have to */
    uint64_t steps;
    if (__builtin_mul_overflow(options->epochs, training->windows, &steps) || steps > steps_max) {
        steps = steps_max;
    }
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

struct checkpoint_files training_checkpoint_files(struct training *training)
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
    struct checkpoint_files files = training_checkpoint_files(training);
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

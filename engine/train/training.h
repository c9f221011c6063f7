/* Training a language model on a text: corpus → batches → steps → evaluation → checkpoints. Runs on the thread that
 * calls training_run and on trainer threads it starts itself (lowest priority when asked). The mathematics is the
 * ordinary graph with its train head.
 *
 * The text's end, or another text, is for validation, and one more for a test at the end; the rest is cut into
 * contiguous streams, one for each row of the batch, and the recurrent state is carried along them, zeroed when an
 * epoch begins. Weights depend on options, corpus, initial values and seed alone, never on the clock or the number of
 * threads: a resumed training ends in the same bits. */
#ifndef ENGINE_TRAIN_TRAINING_H
#define ENGINE_TRAIN_TRAINING_H

#include <jansson.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/graph/values.h"
#include "engine/nn/train_step.h"
#include "engine/store/version_directory.h"
#include "engine/train/corpus.h"
#include "engine/train/training_options.h"

struct training;
struct checkpoint; /* checkpoint.h */

/* One record of progress; the same for --json lines, HTTP and history. Numbers not known yet are NaN (counts 0). */
enum training_event_kind {
    TRAINING_PROGRESS,
    TRAINING_SAMPLE,
    TRAINING_CHECKPOINT,
    TRAINING_DONE,
    TRAINING_EVENT_KIND_COUNT
};

struct training_event {
    enum training_event_kind kind;
    uint64_t step;
    double epoch;                 /* fractional */
    double train_loss;            /* nats per symbol, smoothed over the last hundred steps or so */
    double validation_loss;       /* nats per symbol, of the last evaluation; NaN before the first */
    double best_loss;             /* the lowest validation loss so far; NaN before the first evaluation */
    uint64_t best_step;           /* where it was measured */
    double bits_per_character;    /* of the validation loss, else of the train loss; of words with their spaces */
    double perplexity;            /* of the same */
    double symbols_per_character; /* of the text that bits_per_character is of */
    double test_loss;             /* nats per symbol, of the result, with DONE; NaN before, and without a test text */
    double learning_rate;
    double gradient_norm;      /* of the last step, before clipping; NaN before the first */
    double symbols_per_second; /* of training, over the last seconds */
    double seconds_left;       /* NaN when the end is not known */
    double seconds;            /* since the job began, over all its resumes */
    double fraction_done;      /* 0 to 1 */
    bool is_evaluation;        /* validation_loss was measured at this very step */
    bool is_best;              /* and is the job's best */
    const char *text;          /* of SAMPLE: what the model writes now; borrowed until the callback returns */
};

struct training_callbacks {
    /* Called on the training thread: PROGRESS five times a second at most and after each evaluation, SAMPLE every
     * sample_every_steps, CHECKPOINT once it is on disk, DONE once. */
    void (*on_event)(void *context, struct training *training, const struct training_event *event);
    void *context;
};

/* What is trained. All is borrowed until training_destroy; `values` and the graph's other users must keep apart. */
struct training_parts {
    struct graph *graph;                    /* with a language model's train head and `step` */
    struct values *values;                  /* the job's own, all initialised; trained in place */
    const struct train_step *step;          /* of the graph */
    const struct corpus *corpus;            /* encoded */
    bool is_watched;                        /* the training ends when a file of the corpus changes */
    const char *checkpoint_path;            /* replaced at every checkpoint */
    const struct version_file *model_files; /* go into the checkpoint as they are */
    size_t model_file_count;
    const json_t *manifest; /* the checkpoint's */
    bool is_idle_priority;
    size_t threads; /* at least 1; more than there are shards help nothing */
    /* Called after every checkpoint, and at the end with the best values, if the last are others; before the event. */
    enum status (*hand_back)(void *context, const struct values *values, struct error *error);
    /* Makes a sample's text (owned by the training: mem_free); NULL: there are no samples. One that cannot be made is
     * left out: it is for people to look at. */
    enum status (*make_sample)(void *context, uint64_t step, char **ret_text, struct error *error);
    void *context; /* of hand_back and make_sample */
    struct training_callbacks callbacks;
};

/* Whether the encoded corpus is long enough. INVALID, code "corpus_too_short", with the numbers, when the part for
 * training is shorter than one batch or one for validation or the test than two symbols; also, naming the field, when
 * the options go by a validation loss and there is no text for one. */
enum status training_check_corpus(const struct corpus *corpus, const struct training_options *options,
                                  struct error *error) MUST_CHECK;

/* Begins at step 0. Errors as training_check_corpus and plan_create. */
enum status training_create(const struct training_parts *parts, const struct training_options *options,
                            struct training **ret_training, struct error *error) MUST_CHECK;

/* Goes on from the checkpoint at parts->checkpoint_path, which was read into `checkpoint`; `options` are the
 * checkpoint's, perhaps with new limits. CONFLICT, code "resume_differs", when the corpus is another one, naming both
 * checksums; errors as checkpoint_restore. */
enum status training_create_resumed(const struct training_parts *parts, const struct training_options *options,
                                    const struct checkpoint *checkpoint, struct training **ret_training,
                                    struct error *error) MUST_CHECK;
void training_destroy(struct training *training);

/* Trains until the first limit. Ends with the best values by validation, or the last ones without validation text, in
 * parts->values and handed back, measures them on the test text, if there is one, and reports DONE. CANCELLED, code
 * "stopped", after training_stop, with a checkpoint kept. UNPROCESSABLE, code "not_finite", when the loss or a
 * gradient is not finite: the last checkpoint stands. Other errors: hand_back's, the checkpoint's;
 * corpus_check_files' when the corpus is `watched`. */
enum status training_run(struct training *training, struct error *error) MUST_CHECK;

/* Asks it to stop after the current step, or in the middle of an evaluation, which is then not in the record: a resume
 * makes it first. Any thread, and signal handlers. */
void training_stop(struct training *training);
/* Whether it was asked to; borrowed, for what else must end then. */
const _Atomic bool *training_stop_flag(const struct training *training);

/* The last state as an event record; only on the training thread or when it does not run. */
void training_describe(const struct training *training, struct training_event *ret_event);

/* The event as a JSON object with the HTTP API's field names; new reference, NULL when out of memory. */
json_t *training_event_to_json(const struct training_event *event);

#endif

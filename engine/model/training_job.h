/* One training of one model: holds the model's training lock, trains a copy of its values, hands them back whole at
 * every checkpoint and at the end, and keeps <model directory>/.training/ so that it can resume. Created anywhere; run
 * on a thread of its own. */
#ifndef ENGINE_MODEL_TRAINING_JOB_H
#define ENGINE_MODEL_TRAINING_JOB_H

#include "engine/model/model.h"
#include "engine/train/training.h"

struct training_job;

/* What is done with symbols of the text that the weights' vocabulary lacks. */
enum vocabulary_policy {
    VOCABULARY_POLICY_FIXED,  /* refused, by name and place; words may have "<unk>" */
    VOCABULARY_POLICY_EXTEND, /* they get rows of their own, behind the others and in a vocabulary's order */
    VOCABULARY_POLICY_BYTES,  /* the vocabulary becomes all bytes; those that were characters keep their rows */
    VOCABULARY_POLICY_COUNT,
};

/* Finds a policy by its name: "fixed", "extend", "bytes"; false when there is none. */
bool vocabulary_policy_find(const char *name, enum vocabulary_policy *ret_policy);

struct training_start {
    const char
        *version_path; /* of a version whose graph and weights take the place of the model's; NULL: the model's */
    bool is_scratch;   /* new initial values instead of weights */
    enum vocabulary_policy policy;
    struct vocabulary_limits limits; /* of words that extend a vocabulary */
};

struct training_job_options {
    const char *model_directory; /* <models>/<name>; made if missing; .training/ is made there */
    const json_t *request;       /* as training_options_read takes it; without the corpus */
    struct corpus_text corpus;
    struct corpus_text validation; /* in place of a fraction; may be empty, as the next */
    struct corpus_text test;
    bool has_kept_files; /* nobody changes the corpus' files in place: what happens to their names is no matter */
    struct training_start start; /* where other than at the model's own weights; not with is_resume */
    bool is_resume;              /* go on from .training/ exactly */
    bool discards_unfinished;    /* not a resume: an unfinished training there is given up at the first checkpoint */
    /* trainer threads take only CPU time nobody wants; so does the caller, which reads the texts, from then on */
    bool is_idle_priority;
    const _Atomic bool *is_cancelled; /* ends training_job_create; borrowed until training_job_destroy; NULL: nothing */
    size_t threads;                   /* 0: as many as we may use */
    const char *name;                 /* for messages: "train-3" */
};

/* The path of a model directory's checkpoint: "<model_directory>/.training". It can be loaded as a version
 * (model_create_from_version), which is how a resume gets its graph in a new process. */
enum { TRAINING_JOB_PATH_BYTES_MAX = 4096 };
void training_job_checkpoint_path(const char *model_directory, char path[TRAINING_JOB_PATH_BYTES_MAX]);

/* Whether an interrupted (or running) training's checkpoint lies there. */
bool training_job_is_unfinished(const char *model_directory);

/* Whether a training runs there, of this process or another. */
bool training_job_is_running(const char *model_directory);

/* What the checkpoint that lies there says of its training: the fields of its last record, "options", and "history",
 * the evaluations. NOT_FOUND, code "no_checkpoint"; else errors as checkpoint_look's. Reads one file. New reference. */
enum status training_job_describe_unfinished(const char *model_directory, json_t **ret_json,
                                             struct error *error) MUST_CHECK;

/* Takes the model's training lock (CONFLICT when taken) and the directory's (CONFLICT, code "training_locked": another
 * process trains there), and checks the options, the corpus (corpus.h; too short: the numbers) and, for a resume, the
 * checkpoint; then builds the language model when it waits for its vocabulary, and the optimiser. An unfinished
 * training without is_resume: CONFLICT, code "unfinished_job"; none with it: NOT_FOUND, code "no_checkpoint". What
 * fails changes nothing, neither the model nor a file. CANCELLED, code "stopped", soon after `is_cancelled` is set.
 * Where several ranks train together (ranks.h) all succeed or none does: INVALID when there are fewer shards than
 * ranks, or their texts or kernels differ; only rank 0 locks and writes. Slow. */
enum status training_job_create(struct model *model, const struct training_job_options *options,
                                const struct training_callbacks *callbacks, struct training_job **ret_job,
                                struct error *error) MUST_CHECK;

/* Trains until done, stopped or failed; blocks. At a checkpoint .training/ is replaced, then the values are handed back
 * to the model, then TRAINING_CHECKPOINT is reported. At the end the best values by validation (without validation: the
 * last ones) are handed back. A stop ends as training_stop says, with the checkpoint kept, and returns CANCELLED. OK
 * means done: .training/ is removed once the caller says so with training_job_finish. Errors as training_run. */
enum status training_job_run(struct training_job *job, struct error *error) MUST_CHECK;

/* Asks a running job to stop, as training_stop. Any thread, and from a signal handler. */
void training_job_stop(struct training_job *job);

/* After training_job_run returned OK and its result is safe (saved): removes .training/. */
enum status training_job_finish(struct training_job *job, struct error *error) MUST_CHECK;

/* What the manifest should say; new references, NULL when out of memory. Evaluation: {"validation_loss",
 * "bits_per_character","perplexity","step","train_loss","test_loss",…} of the handed-back values. Origin:
 * {"kind":"training","corpus": {"sha256","bytes","symbols","files"},"options":{…},"kernels","blas"}. Not while it
 * runs, but inside its events. */
json_t *training_job_evaluation(const struct training_job *job);
/* Adds "precisions" to an evaluation, as precision_cost_measure gives it, of the handed-back values on the validation
 * text. Advice: nothing without such text, without memory, and once the job was asked to stop. Seconds long. Not while
 * it runs, but inside its events. */
void training_job_add_precisions(const struct training_job *job, json_t *evaluation);
json_t *training_job_origin(const struct training_job *job);

/* The loss of the version at `version_path`, whatever its symbols, on the job's validation text, in nats per symbol of
 * the job's: what the job's own validation losses can be compared with. NaN without such text. Errors as
 * version_loss_measure; CANCELLED soon after training_job_stop. As slow as one evaluation. Not while it runs. */
enum status training_job_measure_version(const struct training_job *job, const char *version_path, double *ret_loss,
                                         struct error *error) MUST_CHECK;

/* What its user should know before it runs: that a resume goes on with other kernels or another BLAS core type than the
 * interrupted training had, and will end in other bits; NULL: nothing. Borrowed. */
const char *training_job_warning(const struct training_job *job);

/* The evaluations of a job that goes on from a checkpoint, before that: records as those of events. A copy of the
 * caller's own; NULL: it begins, or out of memory. */
json_t *training_job_earlier_history(const struct training_job *job);

/* When to make a version: of a resume what the checkpoint has, where its request does not say otherwise. */
enum publish training_job_publish(const struct training_job *job);

/* Steps that are done: at first of the checkpoint that is resumed, otherwise 0. Not while it runs. */
uint64_t training_job_step(const struct training_job *job);

/* What reading the corpus came to, and found and changed in its files. Borrowed. */
const struct corpus *training_job_corpus(const struct training_job *job);
struct vocabulary *training_job_vocabulary(const struct training_job *job);
/* The same as a record like those of events: {"event":"corpus","files","bytes","symbols","vocabulary":{"kind","size"},
 * "byte_order_marks_dropped","line_endings_changed","changed_files":[{"name",…}],"sha256"}; of the changed files the
 * first TRAINING_JOB_FILES_MAX. Of words "unknown_words", "unseen_words", "trains_unknown", too (corpus.h). New
 * reference, NULL when out of memory. */
enum { TRAINING_JOB_FILES_MAX = 100 };
json_t *training_job_describe_corpus(const struct training_job *job);

/* Releases the model's training lock and everything else; NULL is allowed. Not while it runs. */
void training_job_destroy(struct training_job *job);

#endif

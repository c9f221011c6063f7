/* One training of one model: holds the model's training lock, trains a copy of its values, hands them back whole at
 * every checkpoint and at the end, and keeps <model directory>/.training/ so that it can resume. Created anywhere; run
 * on a thread of its own. */
#ifndef ENGINE_MODEL_TRAINING_JOB_H
#define ENGINE_MODEL_TRAINING_JOB_H

#include "engine/model/model.h"
#include "engine/train/training.h"

struct training_job;

struct training_job_options {
    const char *model_directory;     /* <models>/<name>; .training/ is made there */
    const json_t *request;           /* as training_options_complete takes it; without the corpus */
    const char *const *corpus_paths; /* files, read in order as one text; or NULL and */
    const char *corpus_text;         /* the text itself (copied) */
    size_t corpus_path_count;
    size_t corpus_text_bytes;
    bool is_resume;        /* go on from .training/ exactly */
    bool is_idle_priority; /* trainer threads take only CPU time nobody wants */
    size_t threads;        /* 0: as many as we may use */
    const char *name;      /* for messages: "train-3" */
};

/* Takes the model's training lock (CONFLICT when taken), checks the options, the corpus (INVALID naming file, line,
 * offset for bad UTF-8; empty; shorter than a batch: the numbers) and for a resume the checkpoint; builds the language
 * model when it waits for its vocabulary, and the optimiser. An unfinished job in .training/ without is_resume:
 * CONFLICT, code "unfinished_job". Slow. */
enum status training_job_create(struct model *model, const struct training_job_options *options,
                                const struct training_callbacks *callbacks, struct training_job **ret_job,
                                struct error *error) MUST_CHECK;

/* Trains until done, stopped or failed; blocks. At a checkpoint: values are handed back to the model, then .training/
 * is replaced, then TRAINING_CHECKPOINT is reported. A stop ends after the current step with the checkpoint kept and
 * returns CANCELLED. OK means done: .training/ is removed once the caller says so with training_job_finish. */
enum status training_job_run(struct training_job *job, struct error *error) MUST_CHECK;

/* Asks a running job to stop after its current step. Any thread, and from a signal handler. */
void training_job_stop(struct training_job *job);

/* After training_job_run returned OK and its result is safe (saved): removes .training/. */
enum status training_job_finish(struct training_job *job, struct error *error) MUST_CHECK;

/* Evaluation figures of the best/last state for the manifest: {"validation_loss","bits_per_character","steps",…}. New
 * reference. */
json_t *training_job_evaluation(const struct training_job *job);

/* Releases the model's training lock and everything else; NULL is allowed. Not while it runs. */
void training_job_destroy(struct training_job *job);

#endif

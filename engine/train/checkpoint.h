/* A job's checkpoint directory: all that an exact resume needs, replaced whole and atomically. Thread: the job's.
 *
 *   weights.safetensors     the variables that a version holds, by name
 *   optimizer.safetensors   the optimiser's slots
 *   state.safetensors       the recurrent state carried to the next window: final_state/N/{c,h} [batch, units],
 *                           of cells whose state is no pair final_state/N
 *   best.safetensors        the best evaluation's variables, once there was one
 *   train.json              options, corpus, position, losses, history, what was told last
 *   and what the model adds (graph.json, vocab.json), so that the directory can be loaded as a version.
 * Random numbers are keyed by (seed, step, shard): the position is their state. */
#ifndef ENGINE_TRAIN_CHECKPOINT_H
#define ENGINE_TRAIN_CHECKPOINT_H

#include "engine/graph/values.h"
#include "engine/store/safetensors.h"
#include "engine/store/version_directory.h"
#include "engine/train/schedule.h"
#include "engine/train/shards.h"

enum { CHECKPOINT_FORMAT = 2 };

/* Where a training stands. */
struct training_position {
    uint64_t step;          /* steps done */
    uint64_t epoch;         /* whole epochs done */
    uint64_t window;        /* windows done in the current epoch */
    double seconds;         /* spent, over all resumes */
    double smoothed_loss;   /* of the training batches; NaN before the first step */
    double validation_loss; /* of the last evaluation; NaN before the first */
    double best_loss;       /* NaN before the first evaluation */
    uint64_t best_step;
    uint64_t stale_evaluations; /* since the best one */
    struct plateau plateau;     /* of that schedule */
};

struct checkpoint {
    struct training_position position;
    char corpus_sha256[SHA256_TEXT_BYTES];
    json_t *options; /* training_options_write's */
    json_t *history; /* an array of evaluations */
    json_t *told;    /* the record of this very step (training_event_to_json), for who looks; NULL: not kept */
    json_t *origin;  /* the manifest's, when read; NULL: it has none */
};

struct checkpoint_files {
    const struct graph *graph;
    struct values *values;
    struct carried_state *state;
    struct values *best;                    /* the best evaluation's values; their slots mean nothing */
    const struct version_file *model_files; /* added as they are; names other than the above */
    size_t model_file_count;
    const json_t *manifest;
};

enum { CHECKPOINT_MODEL_FILES_MAX = 8 };

/* Replaces the directory `path`. Errors as version_replace's. */
enum status checkpoint_write(const char *path, const struct checkpoint *checkpoint,
                             const struct checkpoint_files *files, struct error *error) MUST_CHECK;

/* Reads train.json and the manifest's origin alone: options and corpus decide how the rest is built. Verifies the whole
 * directory, with version_read's errors; CORRUPT names file and field; UNSUPPORTED for a newer format. Release with
 * checkpoint_release. */
enum status checkpoint_read(const char *path, struct checkpoint *ret_checkpoint, struct error *error) MUST_CHECK;
/* The same of train.json alone, of which no checksum is verified and the origin is not read: for who only looks. Errors
 * as file_read's; CORRUPT, UNSUPPORTED. */
enum status checkpoint_look(const char *path, struct checkpoint *ret_checkpoint, struct error *error) MUST_CHECK;
void checkpoint_release(struct checkpoint *checkpoint);

/* A loss, a perplexity or the like as records and manifests have it: null where it is not finite, which JSON has not.
 * New reference, or NULL without memory. */
json_t *checkpoint_number(double number);

/* CONFLICT, code "resume_differs", naming both checksums, when the training was begun with another corpus. */
enum status checkpoint_check_corpus(const struct checkpoint *checkpoint, const char *sha256,
                                    struct error *error) MUST_CHECK;

/* Fills values, state and best from the directory. CORRUPT names the file and the tensor that is missing or of another
 * shape; NO_MEMORY. */
enum status checkpoint_restore(const char *path, const struct checkpoint *checkpoint,
                               const struct checkpoint_files *files, struct error *error) MUST_CHECK;

#endif

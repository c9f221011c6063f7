/* The inside of a model, for the files of engine/model. */
#ifndef ENGINE_MODEL_MODEL_PRIVATE_H
#define ENGINE_MODEL_MODEL_PRIVATE_H

#include <pthread.h>

#include "engine/decode/decode_plan.h"
#include "engine/graph/session.h"
#include "engine/model/model.h"
#include "engine/store/safetensors.h"
#include "engine/store/version_directory.h"

struct model {
    _Atomic size_t references;
    char *name;
    /* Held by who saves until the version is written: a higher number never holds what is older. Taken before the
     * locks below. */
    pthread_mutex_t saving;
    /* Held by who builds for as long as that takes: builds are made one after another, aside, and published under the
     * other lock; and by a training that puts in place what it built. Taken before that lock, never by who holds it. */
    pthread_mutex_t building;
    /* Runs that only read hold it shared for as long as they run; whatever changes the fields below holds it alone, for
     * no longer than it takes to copy and write variables' values. */
    pthread_rwlock_t lock;
    _Atomic uint32_t run_count;    /* at work, or waiting for the lock */
    _Atomic bool cancel_runs;      /* set while a forced reset waits for the lock */
    struct session *session;       /* the graph, the values of its variables, plans */
    json_t *programs;              /* as in graph.json */
    struct vocabulary *vocabulary; /* NULL: none yet */
    json_t *waiting_specification; /* a language model that waits for its vocabulary, or NULL */
    uint64_t generation;
    uint64_t base_version; /* 0: none */
    bool is_unsaved;
    uint64_t change_count; /* of what left it unsaved */
    bool is_training;      /* the job alone changes graph, values, programs, vocabulary and specification, and so
                            * reads these without the lock */
    char training_job[64];
};

/* Takes the lock as a reader, takes it alone; gives it back. */
void model_lock_shared(struct model *model);
void model_lock_alone(struct model *model);
void model_unlock(struct model *model);

/* NO_MEMORY, naming the model. */
enum status model_no_memory(const struct model *model, struct error *error) MUST_CHECK;

/* UNPROCESSABLE, code "no_language_model", naming the model that a training has nothing to train of. */
enum status model_no_language_model(const struct model *model, struct error *error) MUST_CHECK;

/* Whatever was changed is not saved. The lock is held alone. */
void model_note_change(struct model *model);

/* CONFLICT while a training job holds the model. The lock is held. */
enum status model_check_not_training(const struct model *model, struct error *error) MUST_CHECK;

/* Runs the initialisers of what has no values yet, aside, and puts the values in place. CONFLICT when the model was
 * reset or values changed meanwhile, or a training holds it. Takes its turn among those who build. */
enum status model_initialize(struct model *model, uint64_t seed, struct error *error) MUST_CHECK;

/* The saver a build named so. NOT_FOUND. The lock is held. */
enum status model_find_saver(const struct model *model, const char *name, uint32_t *ret_saver,
                             struct error *error) MUST_CHECK;

/* {"cell","layers","units","embedding","tie","residual","dropout","parameters","vocabulary":{"kind","size"}}; new
 * reference. The lock is held. */
enum status model_architecture(const struct model *model, json_t **ret_architecture, struct error *error) MUST_CHECK;

/* What a version's files hold, read and checked: graph replayed, every saved variable's value. */
struct version_content {
    struct graph *graph;
    struct values *values; /* slots and what is untrainable and missing: initialised afresh; NULL: not asked for */
    json_t *programs;
    struct vocabulary *vocabulary;
    json_t *manifest;
    struct version_files files; /* without values */
    struct safetensors weights; /* in `files` */
};

/* Of initialisers of what a version's weights leave out. */
enum { VERSION_WEIGHTS_SEED = 0 };

/* What for: a live graph needs values, packing only the weights as they lie in the file, once in memory. */
enum version_use { VERSION_USE_LIVE, VERSION_USE_PACK };

/* Errors as snapshot_load. Release with version_content_release. */
enum status version_content_read(const char *path, enum version_use use, struct version_content *ret_content,
                                 struct error *error) MUST_CHECK;
/* The same of files that were read, which are taken over, on failure too. */
enum status version_content_take(const struct version_files *files, enum version_use use,
                                 struct version_content *ret_content, struct error *error) MUST_CHECK;
/* Reads graph and vocabulary alone, neither weights nor manifest, and verifies no checksum. Errors as those of the
 * whole. */
enum status version_content_read_graph(const char *path, struct version_content *ret_content,
                                       struct error *error) MUST_CHECK;
void version_content_release(struct version_content *content);
/* What generates its text: the signature "generate" where the graph has one, else its language model. Weights are
 * packed where they can be; else `*ret_slow_path` (owned; NULL: packed) says in a sentence why not. UNPROCESSABLE: code
 * "no_language_model" where the graph has neither, "cannot_generate" for a signature that does not work
 * (graph_stepper.h), "not_packed" for one that is run and a narrow precision, "missing_variable", "wrong_shape"; else
 * errors as decode_plan_create. Owned. */
enum status version_content_plan(const struct version_content *content, enum rnn_precision precision,
                                 struct decode_plan **ret_plan, char **ret_slow_path, struct error *error) MUST_CHECK;
/* Bytes of the plan that version_content_plan would make, by the graph and the vocabulary alone. Its errors, as far as
 * these show. */
enum status version_content_measure(const struct version_content *content, enum rnn_precision precision,
                                    size_t *ret_bytes, struct error *error) MUST_CHECK;
/* Hands `use` the weights that version_content_plan would pack, before it returns. Its errors; also where the graph can
 * only be run step by step: code "not_packed". */
struct weights_use;
enum status version_content_use_weights(const struct version_content *content, const struct weights_use *use,
                                        struct error *error) MUST_CHECK;

/* Changes places: the model has the version's content, one generation up, and `content` what the model had, to be
 * released without the lock. The lock is held alone. */
void model_fill(struct model *model, struct version_content *content, uint64_t version);

#endif

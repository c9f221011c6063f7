/* The inside of a model, for the files of engine/model. */
#ifndef ENGINE_MODEL_MODEL_PRIVATE_H
#define ENGINE_MODEL_MODEL_PRIVATE_H

#include <pthread.h>

#include "engine/graph/session.h"
#include "engine/model/model.h"
#include "engine/store/version_directory.h"

struct model {
    _Atomic size_t references;
    char *name;
    /* Runs that only read hold it shared for as long as they run; whatever changes the fields below holds it alone. */
    pthread_rwlock_t lock;
    _Atomic bool cancel_runs;      /* set while a forced reset waits for the lock */
    struct session *session;       /* the graph, the values of its variables, plans */
    json_t *programs;              /* as in graph.json */
    struct vocabulary *vocabulary; /* NULL: none yet */
    json_t *waiting_specification; /* a language model that waits for its vocabulary, or NULL */
    uint64_t waiting_seed;
    uint64_t generation;
    uint64_t base_version; /* 0: none */
    bool is_unsaved;
    bool is_training;
    char training_job[64];
};

/* CONFLICT while a training job holds the model. The lock is held. */
enum status model_check_not_training(const struct model *model, struct error *error) MUST_CHECK;

/* Applies a program to a clone and publishes it with its values grown; nothing changes on failure. The lock is held
 * alone. `ret_reply` may be NULL. */
enum status model_apply(struct model *model, const json_t *request, const char *request_id, json_t **ret_reply,
                        struct error *error) MUST_CHECK;

/* The saver a build named so. NOT_FOUND. The lock is held. */
enum status model_find_saver(const struct model *model, const char *name, uint32_t *ret_saver,
                             struct error *error) MUST_CHECK;

/* {"cell","layers","units","embedding","parameters","vocabulary":{"kind","size"}}; new reference. The lock is held. */
enum status model_architecture(const struct model *model, json_t **ret_architecture, struct error *error) MUST_CHECK;

/* What a version's files hold, read and checked: graph replayed, every saved variable's value. */
struct version_content {
    struct graph *graph;
    struct values *values; /* slots and what is untrainable and missing: initialised afresh */
    json_t *programs;
    struct vocabulary *vocabulary;
    json_t *manifest;
};

/* Errors as snapshot_load. Release with version_content_release. */
enum status version_content_read(const char *path, struct version_content *ret_content, struct error *error) MUST_CHECK;
void version_content_release(struct version_content *content);

/* Moves a version's content into the model, one generation up. The lock is held alone. */
void model_fill(struct model *model, struct version_content *content, uint64_t version);

#endif

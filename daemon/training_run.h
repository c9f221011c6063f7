/* One training job over HTTP: what its thread and the loop share. Thread: loop for trainings.c and training_history.c,
 * the job's own for training_run.c; each field says whose it is. */
#ifndef DAEMON_TRAINING_RUN_H
#define DAEMON_TRAINING_RUN_H

#include <pthread.h>

#include "daemon/registry.h"
#include "daemon/trainings.h"

enum training_state {
    TRAINING_STARTING,
    TRAINING_RUNNING,
    TRAINING_STOPPING,
    TRAINING_FINISHED,
    TRAINING_STOPPED,
    TRAINING_FAILED,
    TRAINING_STATE_COUNT,
};

/* A record on its way to the loop, then in the history. */
struct training_record {
    struct training_record *next; /* on its way */
    uint64_t number;              /* from 1 */
    uint64_t version;             /* that was published; 0: none */
    bool is_progress;
    json_t *json;
};

struct training_over {
    struct training_over *next;
    void (*on_over)(void *context);
    void *context;
};

struct training_run {
    struct job job;         /* first */
    struct message message; /* the thread's: records wait */
    size_t references;      /* the table's, the thread's, streams' */
    struct trainings *trainings;
    struct registry *registry;
    struct mailbox *mailbox;
    char name[MODEL_NAME_BYTES_MAX];
    char id[32]; /* "train-3" */
    struct live_ticket ticket;
    struct training_run *before; /* the model's last job, until this one has begun; NULL: none */

    /* The thread's input; `request` is held, its body read by the thread, until has_started or the end. */
    struct request *request;
    char corpora_path[REGISTRY_PATH_BYTES_MAX];
    char corpora_roots[SETTING_TEXT_BYTES_MAX];
    size_t thread_count;

    /* Shared, under `lock`. */
    pthread_mutex_t lock;
    struct training_job *training; /* while it may be stopped */
    _Atomic bool must_stop;        /* read without the lock while the job is made */
    bool is_posted;                /* `message` is under way */
    bool has_started;
    json_t *started_options;
    struct training_record *first; /* on their way */
    struct training_record **last;

    /* The thread's. */
    struct model *model;
    enum publish publish;
    double published_loss; /* `best`: what a version must beat; NaN: nothing */
    enum status publish_status;
    struct error publish_error;
    json_t *done;              /* the last record, sent after the last version is published */
    uint64_t last_version;     /* published; 0: none */
    json_int_t published_step; /* whose weights it has */
    uint64_t last_step;

    /* The thread's result, the loop's once it has ended. */
    enum status status;
    struct error error;

    /* The loop's. */
    enum training_state state;
    bool is_answered;
    uint64_t version; /* published last */
    json_t *options;
    struct training_record **records;
    size_t record_count;
    uint64_t record_number;
    struct training_watch *watches;
    struct training_over *over;
};

/* The job's `run`: reads the request, trains, publishes. Thread: the job's own. */
void training_run_thread(struct job *job);

/* Frees a record; NULL is allowed. */
void training_record_free(struct training_record *record);

/* Another reference for the caller. Thread: loop, as all below. */
struct training_run *training_run_ref(struct training_run *run);

/* "running", … */
const char *training_run_state(const struct training_run *run);

/* Takes the record into the history, numbers it, and looks for the version that it published. */
void training_run_keep(struct training_run *run, struct training_record *record);

/* Tells the watches. */
void training_run_changed(struct training_run *run, bool is_ping);

/* Where corpora are kept: the setting, or .corpora in the models directory. */
void corpora_directory(const struct settings *settings, char path[REGISTRY_PATH_BYTES_MAX]);

#endif

/* The inside of the registry, for the files daemon/registry*.c and live.c. Thread: loop, but for scan_read. */
#ifndef DAEMON_REGISTRY_PRIVATE_H
#define DAEMON_REGISTRY_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/registry.h"

struct registry_version {
    uint64_t number;
    enum version_status status;
    bool is_gone;         /* its directory; what serves goes on from memory */
    bool is_wanted;       /* a request or the API asked for it: loaded beside the one that serves */
    uint64_t fingerprint; /* of its files when they were last read */
    uint64_t unchanged_since_ms;
    struct snapshot *snapshot;    /* while loaded */
    struct served *served;        /* NULL: no request has run its graph */
    enum rnn_precision precision; /* it ought to be packed in: model_precision when it was last looked at */
    bool is_repacking;            /* read again to be packed in another precision, beside the snapshot it has */
    bool is_precision_refused;    /* it could not be packed in `precision`: what it is packed in serves on */
    bool is_postponed;            /* not loaded, or not packed in `precision`, for want of memory */
    bool is_measured;
    enum rnn_precision measured_precision;
    size_t measured_bytes; /* that it takes in this; 0: it could not be measured */
    enum status reason_status;
    struct error reason; /* while incomplete, refused or textless, or its precision is refused, or it is postponed */
    int64_t reason_at;   /* seconds since 1970 */
};

/* A snapshot that requests hold. Another model of the same name, deleted since, may have its own still out. */
struct registry_use {
    struct snapshot *snapshot;
    size_t count;
};

/* The small files beside a model's versions: what people say of it, and what PUT said. */
enum model_file { MODEL_FILE_LABELS, MODEL_FILE_SETTINGS, MODEL_FILE_DEFINITION, MODEL_FILE_COUNT };

enum { MODEL_FILE_BYTES_MAX = 1 << 20, FILE_PROBLEM_BYTES_MAX = 256 };

/* Why one of them was not taken. */
struct file_problem {
    char message[FILE_PROBLEM_BYTES_MAX]; /* "": nothing is wrong with it */
    uint64_t changed_ns;                  /* when the file was written */
    int64_t at;                           /* when it was found, seconds since 1970 */
};

/* One model. Owned by the registry. */
struct registry_model {
    char name[MODEL_NAME_BYTES_MAX];
    char path[REGISTRY_PATH_BYTES_MAX];
    bool is_read_only;
    bool is_present; /* in the scan that runs */
    bool is_unloaded;
    bool is_asleep; /* nobody used it for its keep_alive_seconds: nothing is loaded until somebody asks for it */
    uint64_t slept_version; /* that served when it fell asleep last, and stands in until one serves again; 0: none */
    uint64_t used_ms;       /* when the last use of it ended, or a load; clock_now_ms */
    bool is_training;
    enum rnn_precision asked_precision; /* by a load, in place of the setting; RNN_PRECISION_COUNT: none was */
    enum rnn_precision held_precision;  /* the last one of these that could be had: a refusal leads back to it */
    bool is_deleting;                   /* nobody finds it any more */
    bool is_deleted;                   /* its files are gone: what a scan still finds under its name is another model */
    struct registry_version *versions; /* ascending */
    size_t version_count;
    struct registry_use *uses; /* snapshots resolved and not yet released */
    size_t use_count;
    json_t *labels;     /* labels.json as last found good; an object */
    json_t *settings;   /* settings.json as last found good; an object */
    json_t *definition; /* what PUT said, or NULL */
    struct file_problem problems[MODEL_FILE_COUNT];
    uint64_t written_scan[MODEL_FILE_COUNT]; /* the first scan that sees what was last written to the file */
    struct live *live;
    uint64_t reloads_ok;
    uint64_t reloads_failed;
};

/* A call that waits for a scan and its model's loads to end. */
struct registry_waiter {
    struct registry_waiter *next;
    struct registry_callback callback;
    char name[MODEL_NAME_BYTES_MAX]; /* "": every model */
    uint64_t version;                /* 0: the newest */
    enum rnn_precision precision;    /* the call asked for; RNN_PRECISION_COUNT: it did not */
    uint64_t previous;               /* current when the call came */
    uint64_t started_ms;
    uint64_t deadline_ms; /* of a request */
    uint64_t scan;        /* the scan it waits for */
    json_t *reply;        /* what it is answered with; NULL: with what was loaded, or why that is not so */
    bool is_new;          /* 201 */
    struct error error;   /* its status not OK: the call failed already, and what it did is being taken back */
    bool is_request;      /* it waits only to look again */
    bool is_trial;        /* of a precision, by the version that serves, whichever that is in the end */
};

struct registry {
    const struct settings *settings;
    struct workers *loader;
    uv_loop_t *loop;
    char models_path[REGISTRY_PATH_BYTES_MAX];
    char demo_path[REGISTRY_PATH_BYTES_MAX]; /* "": none */
    struct registry_model **models;          /* by name */
    size_t model_count;
    struct registry_waiter *waiters; /* the last one first */
    size_t waiting_requests;         /* among them */
    void (*on_change)(void *context);
    void *on_change_context;
    uv_timer_t *timer;          /* these close by themselves after registry_destroy */
    uv_timer_t *idle_timer;     /* for the model that falls asleep next */
    uv_timer_t *deadline_timer; /* for the waiting request whose deadline comes next */
    bool is_scanning;
    bool must_scan_again;
    uint64_t scans_started;
    uint64_t scans_done;
    size_t loads_running;
    size_t held_bytes;      /* of snapshots, whoever has them */
    size_t loading_bytes;   /* that the loads which run will take, where that is known */
    bool is_ready;          /* the first scan and its loads are over */
    _Atomic bool is_ending; /* nothing more is begun; read on the loader thread, too, where loads compare versions */
};

/* What a scan found on disk, made on the loader thread. */
struct found_version {
    uint64_t number;
    uint64_t fingerprint;
};
struct found_file {
    json_t *json; /* good; NULL: missing, or with a problem */
    struct file_problem problem;
};
struct found_model {
    char name[MODEL_NAME_BYTES_MAX];
    char path[REGISTRY_PATH_BYTES_MAX];
    bool is_read_only;
    struct found_version *versions;
    size_t version_count;
    struct found_file files[MODEL_FILE_COUNT];
};
struct scan {
    struct job job;
    struct registry *registry;
    char models_path[REGISTRY_PATH_BYTES_MAX];
    char demo_path[REGISTRY_PATH_BYTES_MAX];
    struct found_model *models;
    size_t model_count;
};

/* Reads both directories. Thread: loader. */
void scan_read(struct scan *scan);
void scan_free(struct scan *scan);

/* The model, or NULL. */
struct registry_model *registry_find(const struct registry *registry, const char *name);
/* The model, or NULL with NOT_FOUND, code "model_not_found". */
struct registry_model *registry_need(const struct registry *registry, const char *name, struct error *error);
struct registry_version *model_version(const struct registry_model *model, uint64_t number);
/* What the model's name means: the pinned or the serving version, or NULL. */
struct registry_version *model_current(const struct registry_model *model);
/* The version `current` is pinned to; 0: it follows the newest good one. */
uint64_t model_pin(const struct registry_model *model);
void version_path(const struct registry_model *model, uint64_t number, char path[REGISTRY_PATH_BYTES_MAX]);
/* The same in the model directory `directory`. Thread: any. */
void version_path_in(const char *directory, uint64_t number, char path[REGISTRY_PATH_BYTES_MAX]);
void registry_answer(struct registry_callback callback, enum status status, const struct error *error, json_t *reply,
                     bool is_new);
void registry_answer_error(struct registry_callback callback, const struct error *error);
/* NOT_FOUND, code "model_not_found". Thread: any. */
enum status registry_refuse_missing(const char *name, struct error *error);
/* Why a version that is postponed is not loaded, and what serves on. UNAVAILABLE, the reason's code. */
enum status registry_refuse_postponed(const struct registry_model *model, const struct registry_version *version,
                                      struct error *error);
/* Adds a hint to an error about a version that the gate keeps out: how it serves all the same. */
void registry_hint_at_pin(const struct registry_model *model, const struct registry_version *version,
                          struct error *error);
/* Why a version that has a reason does not serve. UNPROCESSABLE, code "version_refused" or, of one that makes no text,
 * its reason's. */
enum status registry_refuse_version(const struct registry_model *model, const struct registry_version *version,
                                    struct error *error);
/* The model that a reference names, and the version it says; 0: it says none. NOT_FOUND. */
enum status registry_find_reference(const struct registry *registry, const char *text,
                                    struct registry_model **ret_model, uint64_t *ret_version,
                                    struct error *error) MUST_CHECK;
/* The version that `reference` means, on disk or from memory; of a model's name alone model_source. Errors as
 * registry_resolve's. */
enum status registry_find_version(struct registry *registry, const char *reference, struct registry_model **ret_model,
                                  struct registry_version **ret_version, struct error *error) MUST_CHECK;
/* CONFLICT, code "model_in_use": the model is being deleted. */
enum status registry_refuse_deleting(const char *name, struct error *error);
/* UNPROCESSABLE, code "version_gone". Thread: any. */
enum status registry_refuse_gone(const char *model, uint64_t number, struct error *error);
/* CONFLICT, code "read_only". */
enum status registry_refuse_read_only(const struct registry_model *model, struct error *error);
/* What is to be written, and the answer to give then. */
struct registry_write {
    const char *model;
    const char *directory;
    const char *file;   /* of the model; definition.json makes the model first; "": removes `directory` */
    const json_t *json; /* NULL: nothing is written */
    json_t *reply;      /* taken; NULL: there was no memory for it, which is the answer */
    bool is_new;
    enum rnn_precision precision; /* that the settings bring, and that is asked for until then; RNN_PRECISION_COUNT */
};

/* Submits a job that writes. The answer waits until a scan has seen what was written or, when that failed, has taken
 * back what was in force meanwhile. */
void registry_submit_file(struct registry *registry, const struct registry_write *write,
                          struct registry_callback callback);

/* "labels.json", … */
const char *model_file_name(enum model_file which);
/* Whether a file may hold `json`: INVALID or UNSUPPORTED with the place. Thread: any. */
enum status model_file_check(enum model_file which, const json_t *json, struct error *error) MUST_CHECK;
/* Takes what the scan that just ended found in a file; with a problem the last good content stays, and the log tells it
 * once. What was set since the scan began stays, too. */
void model_take_file(const struct registry *registry, struct registry_model *model, enum model_file which,
                     const struct found_file *found);
/* Whether labels or settings were not taken, so that what they keep is not known. */
bool model_has_problem(const struct registry_model *model);
/* Whether the API may change a file. CONFLICT for a demo model; UNPROCESSABLE, code "bad_file", while what somebody
 * wrote by hand has a problem: it is not thrown away because of a mistake. */
enum status model_file_check_writable(const struct registry_model *model, enum model_file which,
                                      struct error *error) MUST_CHECK;
/* Takes `json`, which is about to be written: it is in force at once. The loader thread writes it before it begins
 * another scan. */
void model_file_set(const struct registry *registry, struct registry_model *model, enum model_file which, json_t *json);
/* Adds to a reply why the file's content is not in force, if so. */
enum status model_file_add_reason(const struct registry_model *model, enum model_file which, json_t *reply,
                                  struct error *error) MUST_CHECK;
/* Whether it is a label's name and {"version":7} or {"split":{…}}, by form alone: whether the model has the versions
 * changes with its directory. INVALID. Thread: any. */
enum status label_check(const char *label, const json_t *target, struct error *error) MUST_CHECK;
/* {"code","file","message","at"}, or NULL: nothing is wrong with it. New reference. */
json_t *model_file_reason(const struct registry_model *model, enum model_file which);

/* What a model's versions are to be packed in: what a load asked for, else its setting. */
enum rnn_precision model_precision(const struct registry_model *model);
/* Asks for `precision` in place of the setting, and calls back when the version that serves is packed so, or could not
 * be: then nothing has changed. The reply is that of registry_load. Something must serve. */
void registry_try_precision(struct registry *registry, struct registry_model *model, enum rnn_precision precision,
                            struct registry_callback callback);

/* Starts the loads that a model needs now, but for those that failed for want of memory. Where nothing serves and the
 * version that ought to is postponed, the newest older one that has room stands in. */
void registry_load_model(struct registry *registry, struct registry_model *model);
/* The same with those, where a version is postponed. */
void registry_retry(struct registry *registry, struct registry_model *model);
/* The same for all models: memory was freed. */
void registry_load_postponed(struct registry *registry);
/* Whether there is room to load `bytes` of `model` beside what is held; other models may be put to sleep for it, those
 * first that were not used for longest, but none where that is not enough. UNAVAILABLE, code "models_bytes_max", with
 * the numbers. */
enum status registry_make_room(struct registry *registry, const struct registry_model *model, size_t bytes,
                               struct error *error) MUST_CHECK;
void registry_changed(struct registry *registry);
/* Whether something in its files is the reason that it does not serve. */
bool version_has_reason(const struct registry_version *version);
/* Whether the reason is the model's gate. */
bool version_is_kept_out(const struct registry_version *version);
/* Whether one of the model's versions is being read. NULL: no. */
bool model_is_loading(const struct registry_model *model);
/* Puts a call among those that wait for a scan that has yet to begin, and for its loads: one that runs may have missed
 * what the caller has just written or copied. `name` "" waits for every model. NULL without memory. */
struct registry_waiter *registry_add_waiter(struct registry *registry, const char *name,
                                            struct registry_callback callback);
/* Answers `error` to a call, once a scan and its loads have taken back what it did. */
void registry_answer_when_back(struct registry *registry, const char *name, const struct error *error,
                               struct registry_callback callback);
/* A precision that was asked for and cannot be had is forgotten, once no call waits for it. RNN_PRECISION_COUNT is
 * allowed. */
void registry_forget_precision(struct registry *registry, struct registry_model *model, enum rnn_precision precision);
/* Answers the calls whose scan is over and whose model has no load under way. */
void registry_answer_waiters(struct registry *registry);
/* An incomplete version is looked at again once it has had its time. */
void registry_scan_after_settling(struct registry *registry);
void registry_drop_version(struct registry *registry, struct registry_version *version);
/* Frees what is loaded of a version that nobody uses; its statistics stay. */
void registry_rest_version(struct registry *registry, struct registry_version *version);
/* Frees all that is loaded of a model; what uses it goes on. */
void registry_drop_versions(struct registry *registry, struct registry_model *model);

/* The use of a model, or a load, has ended, or a use that nobody sees the end of began: the model's keep_alive_seconds
 * count from now. */
void registry_note_use(struct registry *registry, struct registry_model *model);
/* Looks when the model is to fall asleep: what it uses, has loaded or is set to may have changed. */
void registry_watch_idle(struct registry *registry, struct registry_model *model);
/* Whether it has keep_alive_seconds, nobody uses it or waits for it, and what is loaded could be had back. */
bool registry_may_sleep(const struct registry *registry, const struct registry_model *model);
/* Frees what is loaded of it until somebody asks for it. */
void registry_fall_asleep(struct registry *registry, struct registry_model *model);
/* Somebody asks for a model: if it is asleep, it begins to load. */
void registry_wake(struct registry *registry, struct registry_model *model);
/* The model that a reference names, NULL or "" the default one; NULL: there is none. */
struct registry_model *registry_find_referred(const struct registry *registry, const char *reference);
/* Gives a reference back; the last one is freed on the loader thread. NULL is allowed. */
void registry_drop(struct registry *registry, struct snapshot *snapshot);

/* What a model's graph is that people run or build on: what serves, or a newer version that makes no text, while no
 * label holds the model to one. NULL: there is none. */
struct registry_version *model_source(const struct registry_model *model);

/* Whether a label names the version, alone or among others. */
bool model_is_labelled(const struct registry_model *model, uint64_t number);

/* An empty place for a version's graph, with one reference; NULL without memory. */
struct served *served_create(void);
/* Gives a reference back; the last one frees what is large: on the loader thread, registry_drop_served. Any thread;
 * returns NULL. */
struct served *served_unref(struct served *served);
/* Whether a run has it. NULL: no. */
bool served_is_used(const struct served *served);
/* Whether its graph was read, or is about to be. NULL: no. */
bool served_is_read(const struct served *served);
/* Takes the graph out of a place that no run has, and leaves the statistics; NULL: there is none. */
struct served_graph *served_take_graph(struct served *served);
/* Forgets the graph of a version, where there is one; runs under way go on. */
void registry_drop_served(struct registry *registry, struct registry_version *version);

/* An empty slot with one reference; NULL without memory. */
struct live *live_create(const char *name);
/* Any thread; returns NULL. */
struct live *live_unref(struct live *live);

#endif

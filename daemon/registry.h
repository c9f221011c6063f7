/* The models: name → versions → the snapshot that serves, and each model's live graph. Watching, SIGHUP and the API all
 * lead to registry_scan: read the directories, load what is new beside what serves, verify, swap one pointer, drain,
 * free. Any failure leaves the old version serving and is kept as that version's reason.
 * Thread: loop, but for live_open. Directories and files are read and written on the loader thread. */
#ifndef DAEMON_REGISTRY_H
#define DAEMON_REGISTRY_H

#include <jansson.h>

#include "daemon/names.h"
#include "daemon/settings.h"
#include "daemon/workers.h"
#include "engine/engine.h"

enum {
    REGISTRY_MODELS_MAX = 4096,
    REGISTRY_VERSIONS_MAX = 4096, /* of one model */
    REGISTRY_PATH_BYTES_MAX = 4096,
    REGISTRY_FULL_NAME_BYTES_MAX = MODEL_NAME_BYTES_MAX + 24,
};

enum version_status {
    VERSION_READY,    /* on disk; loaded when asked for, or loaded beside the one that serves */
    VERSION_TEXTLESS, /* good, but its graph makes no text: nothing to load; its graph and values can be used */
    VERSION_LOADING,
    VERSION_SERVING,    /* what the model's name means */
    VERSION_INCOMPLETE, /* files missing, short or mismatched: a copy may still run */
    VERSION_REFUSED,    /* stays so until its content changes */
    VERSION_RETIRED,    /* its directory is gone */
    VERSION_STATUS_COUNT,
};

/* "ready", "serving", … */
const char *version_status_name(enum version_status status);

struct registry;

struct registry_options {
    const struct settings *settings; /* read at every use: reloads change it */
    const char *models_path;
    const char *demo_path; /* a second, read-only models directory; NULL: none */
    struct workers *loader;
    uv_loop_t *loop;
};

/* Makes an empty registry; registry_scan fills it. Owned. */
enum status registry_create(const struct registry_options *options, struct registry **ret_registry,
                            struct error *error) MUST_CHECK;

/* lstmd is ending: nothing more is scanned or loaded, and loads that compare versions end soon. NULL is allowed. */
void registry_stop(struct registry *registry);

/* Stops its timers and releases snapshots and models; the loader must have ended. NULL is allowed. */
void registry_destroy(struct registry *registry);

/* Reads the directories again and loads what is new. Cheap to call often: a scan that waits covers all calls before
 * it. */
void registry_scan(struct registry *registry);

/* Whether the first scan, with the loads it began, is over. */
bool registry_is_ready(const struct registry *registry);

/* Called on the loop thread whenever a version begins to serve, is refused or retires (for the log and metrics are done
 * by the registry itself). One listener. */
void registry_on_change(struct registry *registry, void (*on_change)(void *context), void *context);

/* ---- what serves ---- */

/* The snapshot that `reference` means now: "m", "m@7", "m:label"; NULL or "": the default model, or the only one. One
 * reference for the caller, to be given back with registry_release; the model counts as in use until then. NOT_FOUND,
 * code "model_not_found", "version_not_found" or "label_not_found"; INVALID, code "model_required"; UNPROCESSABLE, code
 * "version_refused" with the reason; UNAVAILABLE, code "model_loading", "model_unloaded" or "no_version": a version on
 * disk that is not loaded begins to load, and so does a model that is idle; code "models_bytes_max" or "no_memory":
 * there is no room for it now. */
enum status registry_resolve(struct registry *registry, const char *reference, struct snapshot **ret_snapshot,
                             struct error *error) MUST_CHECK;

/* The default model's name, or that of the only one; NULL: requests must say which they mean. Borrowed. */
const char *registry_default_name(const struct registry *registry);

/* Gives a resolved snapshot back; the last release frees it on the loader thread. */
void registry_release(struct registry *registry, struct snapshot *snapshot);

/* ---- live graphs ---- */

/* A model's live graph, from the loop thread to a run thread. Reference-counted; plain look inside for its name. */
struct live;
struct live_ticket {
    struct live *live;
    uint64_t version; /* the current one; 0: none */
    uint64_t newest;  /* that the registry knows of */
    bool is_loading;  /* another may be the current one in a moment */
    char version_path[REGISTRY_PATH_BYTES_MAX];
    char model_path[REGISTRY_PATH_BYTES_MAX];
    json_t *definition; /* what PUT said, or NULL; one reference */
    bool is_read_only;  /* a demo model: save, train and delete are CONFLICT */
};

/* NOT_FOUND, code "model_not_found". Release with live_ticket_release, on any thread. */
enum status registry_live_ticket(struct registry *registry, const char *name, struct live_ticket *ret_ticket,
                                 struct error *error) MUST_CHECK;

/* The live model: filled from the current version (or from PUT's definition) by the first call, following the current
 * version while nothing was built, assigned or trained; but one that was just saved from it is waited for. One
 * reference: model_unref. Slow. Thread: run threads. */
enum status live_open(const struct live_ticket *ticket, struct model **ret_model, struct error *error) MUST_CHECK;
void live_ticket_release(struct live_ticket *ticket);

/* The live graph was saved as `version`: it need not be filled from it again, nor from an older one. Thread: run
 * threads. */
void live_note_saved(const struct live_ticket *ticket, uint64_t version);

/* ---- graphs of versions ---- */

/* A version's graph as it serves, from the loop thread to a run thread. */
struct served;
struct served_ticket {
    struct served *served;
    char model[MODEL_NAME_BYTES_MAX];
    uint64_t version;
    uint64_t fingerprint; /* of its files when they were last looked at */
    char path[REGISTRY_PATH_BYTES_MAX];
};

/* The version that `reference` means, also one that makes no text. Errors as registry_resolve's, but that nothing has
 * to be loaded before; UNPROCESSABLE, code "version_gone", when its files are gone. `is_look`: only to see what the
 * graph is like, which wakes no model and keeps none awake. Release with served_ticket_release, on any thread. */
enum status registry_served_ticket(struct registry *registry, const char *reference, bool is_look,
                                   struct served_ticket *ret_ticket, struct error *error) MUST_CHECK;

/* Whether a ticket can be had: what asks only that uses nothing, and wakes no model. Errors as
 * registry_served_ticket's. */
enum status registry_check_served(struct registry *registry, const char *reference, struct error *error) MUST_CHECK;

/* The version's graph, read by the first call and kept until the version is unloaded, replaced or gone; one that is
 * neither loaded, current nor labelled also until another such is asked for. One reference: served_graph_unref. Slow.
 * Thread: run threads. */
enum status served_open(const struct served_ticket *ticket, struct served_graph **ret_graph,
                        struct error *error) MUST_CHECK;
void served_ticket_release(struct served_ticket *ticket);

/* How long the parts of a request took; of one that failed only the whole counts. Thread: any. */
struct served_timing {
    bool is_good;
    uint64_t queue_ns, input_ns, infer_ns, output_ns, all_ns;
};
void served_count_run(const struct served_ticket *ticket, const struct served_timing *timing);

/* {"model_stats":[…]} in the form of the Open Inference Protocol, since the version's graph was first read, though the
 * model may have slept meanwhile: of the version
 * that `reference` means, or, without version and label, of all that have been asked for. NULL: of every model that
 * `sees` returns true for. Errors as registry_served_ticket's. */
enum status registry_statistics(struct registry *registry, const char *reference,
                                bool (*sees)(const void *context, const char *model), const void *context,
                                json_t **ret_reply, struct error *error) MUST_CHECK;

/* The path of version `version` of a model. NOT_FOUND, code "version_not_found"; UNPROCESSABLE, code "version_gone",
 * when its files are gone and it serves on from memory. */
enum status registry_version_path(const struct registry *registry, const char *name, uint64_t version,
                                  char path[REGISTRY_PATH_BYTES_MAX], struct error *error) MUST_CHECK;

/* Marks a model as trained or not, for GET and DELETE. */
void registry_set_training(struct registry *registry, const char *name, bool is_training);

/* ---- the API's calls; each calls callback.done once, on the loop thread, perhaps before it returns ---- */

/* `reply` is the callee's to release (json_decref) and NULL on failure; `status` is what the call came to. */
struct registry_reply {
    enum status status;
    struct error error;
    json_t *reply;
    bool is_new; /* 201 */
};
struct registry_callback {
    void (*done)(void *context, const struct registry_reply *reply);
    void *context;
};

/* Whether a model of that name is there already: then answers what PUT of `definition` comes to, OK for the same one as
 * made it, CONFLICT, code "model_exists" or "model_in_use". */
bool registry_answer_known(struct registry *registry, const char *name, const json_t *definition,
                           struct registry_callback callback);

/* Writes what PUT said into the directory of a model that is being made, before the registry sees it. Thread: any. */
enum status registry_write_definition(const char *directory, const json_t *definition, struct error *error) MUST_CHECK;

/* Makes a model whose live graph `definition` describes ({} or {"language_model":{…}}, already checked). The same
 * again: OK, not new; another: CONFLICT, code "model_exists". */
void registry_put(struct registry *registry, const char *name, const json_t *definition,
                  struct registry_callback callback);

/* Unloads and removes its files. CONFLICT, code "model_in_use", while requests or a training job use it unless `force`
 * (the caller ends those first); CONFLICT, code "read_only", for a demo model. */
void registry_delete(struct registry *registry, const char *name, bool force, struct registry_callback callback);

/* Reads the directory again and waits for its loads: {"model":"m@8","previous":"m@7","seconds"}; UNPROCESSABLE, code
 * "version_refused" with the reason and what serves on, or "version_gone" when the files of what would serve are gone;
 * NOT_FOUND, code "version_not_found". `version` not 0: loads that one beside. `precision` not RNN_PRECISION_COUNT: the
 * model's versions are packed so in place of its setting, until another load says otherwise, the setting is patched, or
 * the model is unloaded; UNPROCESSABLE, code "precision_refused", when a version cannot be: it serves on as it was;
 * UNAVAILABLE, code "models_bytes_max" or "no_memory", when there is no room for it: what serves goes on, and it is
 * loaded once there is; CONFLICT, code "precision_changed", when another call asked for another one meanwhile,
 * "model_unloaded" when it unloaded the model. */
void registry_load(struct registry *registry, const char *name, uint64_t version, enum rnn_precision precision,
                   struct registry_callback callback);

/* Reads every directory again and waits until what was found is loaded or refused: {"reloaded":true}. */
void registry_rescan(struct registry *registry, struct registry_callback callback);

/* Looking for what `reference` names (NULL or "": the default model) failed with `error`. Where that was because it is
 * being loaded, and `*has_waited` is not set yet: sets it, and calls back once no version of the model is being loaded,
 * whatever came of it, to look again: {}; or at `deadline_ms` (clock_now_ms) with UNAVAILABLE, code "deadline". False:
 * it does not call back; where generations_max requests wait so already, `error` has become LIMIT, code
 * "queue_full". */
bool registry_wait_for_loads(struct registry *registry, const char *reference, uint64_t deadline_ms,
                             struct error *error, bool *has_waited, struct registry_callback callback);

/* Who waits so with that context does no longer: it is not called back. */
void registry_stop_waiting(struct registry *registry, const void *context);

/* The full name ("moby@3") and the path of the version that `reference` means, to read its files: nothing is loaded and
 * no model woken for that. Errors as registry_served_ticket's, and of a version that makes no text, too. */
enum status registry_find_files(struct registry *registry, const char *reference,
                                char name[REGISTRY_FULL_NAME_BYTES_MAX], char path[REGISTRY_PATH_BYTES_MAX],
                                struct error *error) MUST_CHECK;

/* Frees memory, keeps files; {"model":"m","unloaded":true}. It loads again by registry_load. */
void registry_unload(struct registry *registry, const char *name, struct registry_callback callback);

/* {"labels":{"stable":{"version":7},…}}; put takes {"version":7} or {"split":{"7":90,"8":10}}; json NULL deletes. While
 * labels.json on disk is bad: what is in force, with "reason":{"code","file","message","at"}, and put is UNPROCESSABLE,
 * code "bad_file"; so with settings.json below. */
enum status registry_labels(struct registry *registry, const char *name, json_t **ret_reply,
                            struct error *error) MUST_CHECK;
void registry_put_label(struct registry *registry, const char *name, const char *label, const json_t *json,
                        struct registry_callback callback);

/* settings.json as it stands with defaults filled in; patch merges (null removes). Unknown keys INVALID, ones not built
 * UNSUPPORTED, each with error->param. Another precision is tried before it is written: the version that serves, of an
 * idle model once it is loaded, is packed again, beside; errors then as registry_load's, with nothing changed. A patch
 * that could not be written is answered once what it changed is as it was. */
enum status registry_settings(struct registry *registry, const char *name, json_t **ret_reply,
                              struct error *error) MUST_CHECK;
void registry_patch_settings(struct registry *registry, const char *name, const json_t *patch,
                             struct registry_callback callback);

/* OpenAI's list, of models and labels (but "current"), and one model in full; of "m@7" or "m:label" its entry as in the
 * list. NOT_FOUND. */
enum status registry_describe_all(struct registry *registry, json_t **ret_reply, struct error *error) MUST_CHECK;
enum status registry_describe(struct registry *registry, const char *name, json_t **ret_reply,
                              struct error *error) MUST_CHECK;

/* {"model_version_status":[…]}, as TF Serving tells of the version that `reference` ("m@7", "m:label") means.
 * NOT_FOUND. */
enum status registry_describe_version(struct registry *registry, const char *reference, json_t **ret_reply,
                                      struct error *error) MUST_CHECK;

/* [{"name","version","state","reason"}] of the models that `sees` returns true for, in the form of the Open Inference
 * Protocol's repository index. New reference, NULL without memory. */
json_t *registry_index(const struct registry *registry, bool only_ready,
                       bool (*sees)(const void *context, const char *model), const void *context);

/* ["6","7"]: the versions that can be asked for, of the model that `reference` names. New reference, NULL without
 * memory. */
json_t *registry_version_names(const struct registry *registry, const char *reference);

/* Whether every model that has versions, and was not unloaded, serves one. */
bool registry_serves_all(const struct registry *registry);

/* The names of models whose newest version was refused, for /health/ready: new reference. */
json_t *registry_refused(struct registry *registry);

/* A model's generation default ("temperature", …), unknown_symbols or start text from its settings, or NULL.
 * Borrowed. */
const json_t *registry_setting(const struct registry *registry, const char *name, const char *key);

/* Memory of the versions that are loaded, being loaded, or still used by requests; and the setting models_bytes_max. */
struct registry_memory {
    size_t held_bytes;
    uint64_t bytes_max; /* 0: no maximum */
};
struct registry_memory registry_memory(const struct registry *registry);

/* For each model, for metrics: calls `visit` with name, current version (0: none), bytes, reloads done and failed. */
struct registry_metrics {
    const char *name;
    uint64_t version;
    size_t bytes;
    uint64_t reloads_ok;
    uint64_t reloads_failed;
};
void registry_visit(const struct registry *registry,
                    void (*visit)(void *context, const struct registry_metrics *metrics), void *context);

/* Calls `visit` with every directory whose changes matter: the models directory, each model's, and those of versions
 * that are not complete yet. */
void registry_visit_paths(const struct registry *registry, void (*visit)(void *context, const char *path),
                          void *context);

#endif

/* A model's workshop: its live graph (one, the default graph of that model) and the values of its variables.
 * Reference-counted; every call locks the model for itself and may take long: run threads, never the loop. Calls that
 * only read values go in parallel; writers are ordered.
 *
 * Requests and replies are JSON in the form of the HTTP API (graph programs, tensors): one parser for HTTP, graph.json
 * and importers. `ret_reply` is always a new reference. Errors carry TensorFlow's exception type, code, variable,
 * origin and the JSON path of the step. */
#ifndef ENGINE_MODEL_MODEL_H
#define ENGINE_MODEL_MODEL_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/text/vocabulary.h"
#include "engine/train/adaptation.h"

struct model;

/* An empty graph, generation 1. `name` is for messages. Owned by one reference. */
enum status model_create(const char *name, struct model **ret_model, struct error *error) MUST_CHECK;

/* The graph, values and vocabulary of a version directory, verified as in snapshot_load; its number becomes the base
 * version. */
enum status model_create_from_version(const char *name, const char *version_path, uint64_t version,
                                      struct model **ret_model, struct error *error) MUST_CHECK;
struct model *model_ref(struct model *model);
struct model *model_unref(struct model *model);

/* Builds a language_model ({"cell","layers","units","embedding","tie","residual","dropout","vocabulary","heads", …})
 * and, when its vocabulary is known, runs its initialisers with `seed`. Without a vocabulary the specification is kept
 * and the first training builds it. Paths in errors are those of the specification. */
enum status model_make_language_model(struct model *model, const json_t *specification, uint64_t seed,
                                      struct error *error) MUST_CHECK;

/* What a version's manifest calls its architecture: {"cell","layers","units","embedding",…,"parameters","vocabulary":
 * {"kind","size"}}, of a graph without language_model only the last ones. New reference. */
enum status model_describe_architecture(struct model *model, json_t **ret_architecture, struct error *error) MUST_CHECK;

/* Applies {"program":[…],"reuse":…} whole or not at all. `request_id` is kept as origin of what it defines. Builds are
 * made one after another, and aside: others go on with the graph as it was until a build is done. One whose graph was
 * reset meanwhile (code "generation") or is held by a training that began meanwhile is CONFLICT; one that changes
 * something after GRAPH_FILE_PROGRAMS_MAX such ones is TOO_LARGE: what was built can be saved and read back.
 * `ret_reply` may be NULL. */
enum status model_build(struct model *model, const json_t *request, const char *request_id, json_t **ret_reply,
                        struct error *error) MUST_CHECK;

enum { MODEL_RUN_MS_MAX = 300 * 1000 };

/* {"feeds","fetches","targets","generation","encoding"} → {"results","generation"}. A fetch is a tensor's name ("y:0"),
 * an operation's (result null), a variable's, or what a program called it with "as" (a list: its items by name or
 * number). A run that takes longer than MODEL_RUN_MS_MAX is ended, UNPROCESSABLE. */
enum status model_run(struct model *model, const json_t *request, json_t **ret_reply, struct error *error) MUST_CHECK;
/* The same with another maximum. */
enum status model_run_within(struct model *model, const json_t *request, uint32_t maximum_ms, json_t **ret_reply,
                             struct error *error) MUST_CHECK;

/* A new, empty graph, one generation up; refused (CONFLICT, code "graph_in_use") while a run or a job uses it unless
 * `force`, which cancels runs first (they end with CANCELLED). A job must be stopped by its owner before.
 * `version_path` non-NULL: filled from that version. */
enum status model_reset(struct model *model, bool force, const char *version_path, uint64_t version, json_t **ret_reply,
                        struct error *error) MUST_CHECK;

/* Puts a version's content into the graph, one generation up. CONFLICT, nothing done, while a run or a job uses it, or
 * when there is anything that is not saved. */
enum status model_follow(struct model *model, const char *version_path, uint64_t version,
                         struct error *error) MUST_CHECK;

/* generation, finalized, base_version, unsaved, nodes, variables, scopes, collections, signatures, handles, results. */
enum status model_describe_graph(struct model *model, json_t **ret_reply, struct error *error) MUST_CHECK;

/* {"variables":[{"name","shape","dtype","trainable","initialized"}]} */
enum status model_list_variables(struct model *model, json_t **ret_reply, struct error *error) MUST_CHECK;

/* The graph as a picture in Graphviz' language (graph_to_dot); free with mem_free. */
enum status model_draw_graph(struct model *model, char **ret_dot, size_t *ret_length, struct error *error) MUST_CHECK;

/* Freezes graph, values and vocabulary into the next version below `model_directory` and returns its number. Saves are
 * made one after another: of two, the higher number holds what is newer. A reset meanwhile leaves the base version.
 * UNPROCESSABLE when a variable is uninitialised, holds a NaN, or there is no graph. `origin` and `evaluation` (may be
 * NULL) go into the manifest. */
enum status model_save(struct model *model, const char *model_directory, const json_t *origin, const json_t *evaluation,
                       uint64_t *ret_version, struct error *error) MUST_CHECK;

/* Puts a version's values into the live graph by variable name, {"old":"new"} names mapped (scope prefixes). The
 * Saver's errors. */
enum status model_restore(struct model *model, const char *version_path, const json_t *names, json_t **ret_reply,
                          struct error *error) MUST_CHECK;

/* A Saver of the graph, by the name its step gave it: its variables' values under its keys, as the file
 * checkpoint.safetensors of a new version, which can be served only if all other variables have values too; and back.
 * `version_path` NULL: there is no such version; `what` is what the caller called it, NULL for None. The Saver's
 * errors. */
enum status model_save_checkpoint(struct model *model, const char *model_directory, const char *saver_name,
                                  const json_t *origin, uint64_t *ret_version, struct error *error) MUST_CHECK;
enum status model_restore_checkpoint(struct model *model, const char *version_path, const char *what,
                                     const char *saver_name, json_t **ret_reply, struct error *error) MUST_CHECK;

/* Gives a variable ("scope/v" or "scope/v:0") a value, a tensor as JSON. NOT_FOUND, code "variable_not_found";
 * UNPROCESSABLE, ValueError for another shape; CONFLICT during training. Reply: {"generation"}. */
enum status model_set_variable(struct model *model, const char *name, const json_t *value, json_t **ret_reply,
                               struct error *error) MUST_CHECK;

/* Begins to adapt the model's language model: errors as adaptation_create's. For a model of one's own: nobody may
 * change its values, and it must be kept, until adaptation_destroy. */
enum status model_adapt(struct model *model, const struct adaptation_options *options,
                        struct adaptation **ret_adaptation, struct error *error) MUST_CHECK;

/* Whether its graph is a language_model or has a signature "generate": whether its versions ought to serve text. */
bool model_makes_text(struct model *model);

/* Whether anything was built, assigned or trained since it was filled or saved. */
bool model_is_unsaved(struct model *model);
uint64_t model_generation(struct model *model);
/* The version it was last filled from or saved as; 0: none. */
uint64_t model_base_version(struct model *model);

/* While a training job named `job` holds the model, builds, restore and reset answer CONFLICT naming it, and reads see
 * the last values handed back. CONFLICT when another job holds it. */
enum status model_begin_training(struct model *model, const char *job, struct error *error) MUST_CHECK;
void model_end_training(struct model *model);

#endif

/* A published version, frozen: packed weights, vocabulary, architecture. Immutable and reference-counted; what is
 * served never moves under a request. Made on the loader thread; referenced from any. */
#ifndef ENGINE_MODEL_SNAPSHOT_H
#define ENGINE_MODEL_SNAPSHOT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/decode/decode_plan.h"
#include "engine/decode/text_state.h"
#include "engine/text/vocabulary.h"

struct snapshot;

/* Reads and verifies the version directory `path` (sizes, SHA-256), replays graph.json, checks every weight's name,
 * shape and that it is finite, packs the decode plan in `precision` and warms it up with one symbol. Slow: never on
 * the loop. Errors name file or tensor and numbers; codes "incomplete" (a copy may still run: try again when it
 * changes), "corrupt", "newer_format", "wrong_shape", "missing_variable", "not_finite"; `error->param` is the file.
 * Owned by one reference. */
enum status snapshot_load(const char *path, const char *model_name, uint64_t version, enum rnn_precision precision,
                          struct snapshot **ret_snapshot, struct error *error) MUST_CHECK;
/* The snapshot_bytes of a version that is not loaded, in `precision`: by its graph.json and vocab.json; weights are not
 * read and nothing is verified, so that what it says of a broken version means nothing. Where the graph's own values
 * keep it from being packed (snapshot_slow_path), it says what packing would take. Errors as snapshot_load, as far as
 * these files show. Slow: never on the loop. */
enum status snapshot_measure(const char *path, enum rnn_precision precision, size_t *ret_bytes,
                             struct error *error) MUST_CHECK;
struct snapshot *snapshot_ref(struct snapshot *snapshot);
/* The last release frees megabytes: hand it to the loader thread. Returns NULL. */
struct snapshot *snapshot_unref(struct snapshot *snapshot);

/* Gives a reference back unless it is the last one; false: it still is the caller's, who hands it to the loader. */
bool snapshot_unref_shared(struct snapshot *snapshot) MUST_CHECK;

/* What it was loaded as and what it holds. Borrowed from the snapshot. */
const char *snapshot_model_name(const struct snapshot *snapshot);
uint64_t snapshot_version(const struct snapshot *snapshot);
/* "bard@7" */
const char *snapshot_full_name(const struct snapshot *snapshot);
/* The full name with a digest of graph, weights and vocabulary: whose the states of its texts are. Borrowed. */
const struct text_origin *snapshot_origin(const struct snapshot *snapshot);
const struct decode_plan *snapshot_decode_plan(const struct snapshot *snapshot);
struct vocabulary *snapshot_vocabulary(const struct snapshot *snapshot); /* borrowed */
size_t snapshot_parameter_count(const struct snapshot *snapshot);
enum rnn_precision snapshot_precision(const struct snapshot *snapshot);
/* What steps it: "avx512-vnni"; "graph" where its steps are runs of the graph. */
const char *snapshot_kernels(const struct snapshot *snapshot);
/* Why its weights are not packed, in a sentence that names a node; NULL where they are. */
const char *snapshot_slow_path(const struct snapshot *snapshot);
size_t snapshot_bytes(const struct snapshot *snapshot); /* resident: packed weights, vocabulary */
/* The manifest: architecture, origin, evaluation. Borrowed; read only. */
const json_t *snapshot_manifest(const struct snapshot *snapshot);

#endif

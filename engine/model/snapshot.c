/* Published versions. Thread: made on the loader thread, referenced from any; immutable in between. A snapshot keeps
 * the packed weights, the vocabulary and the manifest; graph and files are dropped once packed. */
#include "engine/model/snapshot.h"

#include <nettle/sha2.h>
#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/model/model_private.h"

struct snapshot {
    _Atomic size_t references;
    uint64_t version;
    char *model_name;
    struct text_origin origin; /* its model is the full name */
    struct decode_plan *plan;
    char *slow_path; /* NULL: the plan is packed */
    struct vocabulary *vocabulary;
    json_t *manifest;
    size_t parameter_count;
};

static enum status no_memory(struct error *error, const char *path)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory to load %s", path);
}

/* With so much for its plan. The manifest's few kilobytes are not counted. */
static size_t held_bytes(size_t plan_bytes, const struct vocabulary *vocabulary)
{
    return sizeof(struct snapshot) + plan_bytes + vocabulary_bytes(vocabulary);
}

/* ---- life ---- */

static size_t count_parameters(const struct graph *graph)
{
    size_t parameters = 0;
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        size_t count = 0;
        if (!variable->is_slot && shape_element_count(&variable->node->outputs[0].shape, &count)) {
            parameters += count;
        }
    }
    return parameters;
}

/* By the files' checksums, which were verified. */
static void fill_digest(const json_t *manifest, uint8_t digest[TEXT_STATE_DIGEST_BYTES])
{
    static const char *const names[] = {"graph.json", "weights.safetensors", "vocab.json"};
    const json_t *files = json_object_get(manifest, "files");
    struct sha256_ctx context;
    sha256_init(&context);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *sum = json_string_value(json_object_get(json_object_get(files, names[i]), "sha256"));
        sum = sum == NULL ? "" : sum; /* vocab.json may be missing */
        sha256_update(&context, strlen(sum) + 1, (const uint8_t *)sum);
    }
    sha256_digest(&context, TEXT_STATE_DIGEST_BYTES, digest);
}

static enum status fill(struct snapshot *snapshot, const struct version_content *content, const char *model_name,
                        enum rnn_precision precision, struct error *error)
{
    struct text_origin *origin = &snapshot->origin;
    snprintf(origin->model, sizeof origin->model, "%.128s@%llu", model_name, (unsigned long long)snapshot->version);
    snapshot->model_name = mem_copy_string(model_name);
    snapshot->manifest = json_deep_copy(content->manifest);
    if (snapshot->model_name == NULL || snapshot->manifest == NULL) {
        return no_memory(error, origin->model);
    }
    fill_digest(snapshot->manifest, origin->digest);
    snapshot->parameter_count = count_parameters(content->graph);
    TRY(version_content_plan(content, precision, &snapshot->plan, &snapshot->slow_path, error));
    snapshot->vocabulary = vocabulary_ref(content->vocabulary);
    return decode_plan_warm_up(snapshot->plan, error);
}

enum status snapshot_load(const char *path, const char *model_name, uint64_t version, enum rnn_precision precision,
                          struct snapshot **ret_snapshot, struct error *error)
{
    struct version_content content;
    TRY(version_content_read(path, VERSION_USE_PACK, &content, error));
    struct snapshot *snapshot = mem_allocate(1, sizeof *snapshot);
    enum status status = STATUS_OK;
    if (snapshot == NULL) {
        status = no_memory(error, path);
    } else {
        atomic_init(&snapshot->references, 1);
        snapshot->version = version;
        status = fill(snapshot, &content, model_name, precision, error);
    }
    version_content_release(&content);
    if (status != STATUS_OK) {
        snapshot_unref(snapshot);
        return status;
    }
    *ret_snapshot = snapshot;
    return STATUS_OK;
}

enum status snapshot_measure(const char *path, enum rnn_precision precision, size_t *ret_bytes, struct error *error)
{
    struct version_content content;
    size_t bytes = 0;
    TRY(version_content_read_graph(path, &content, error));
    enum status status = version_content_measure(&content, precision, &bytes, error);
    if (status == STATUS_OK) {
        *ret_bytes = held_bytes(bytes, content.vocabulary);
    }
    version_content_release(&content);
    return status;
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
    atomic_fetch_add(&snapshot->references, 1);
    return snapshot;
}

struct snapshot *snapshot_unref(struct snapshot *snapshot)
{
    if (snapshot != NULL && atomic_fetch_sub(&snapshot->references, 1) == 1) {
        decode_plan_destroy(snapshot->plan);
        vocabulary_unref(snapshot->vocabulary);
        json_decref(snapshot->manifest);
        mem_free(snapshot->model_name);
        mem_free(snapshot->slow_path);
        mem_free(snapshot);
    }
    return NULL;
}

bool snapshot_unref_shared(struct snapshot *snapshot)
{
    size_t references = atomic_load(&snapshot->references);
    while (references > 1) {
        if (atomic_compare_exchange_weak(&snapshot->references, &references, references - 1)) {
            return true;
        }
    }
    return false;
}

/* ---- looking ---- */

const char *snapshot_model_name(const struct snapshot *snapshot)
{
    return snapshot->model_name;
}

uint64_t snapshot_version(const struct snapshot *snapshot)
{
    return snapshot->version;
}

const char *snapshot_full_name(const struct snapshot *snapshot)
{
    return snapshot->origin.model;
}

const struct text_origin *snapshot_origin(const struct snapshot *snapshot)
{
    return &snapshot->origin;
}

const struct decode_plan *snapshot_decode_plan(const struct snapshot *snapshot)
{
    return snapshot->plan;
}

struct vocabulary *snapshot_vocabulary(const struct snapshot *snapshot)
{
    return snapshot->vocabulary;
}

size_t snapshot_parameter_count(const struct snapshot *snapshot)
{
    return snapshot->parameter_count;
}

enum rnn_precision snapshot_precision(const struct snapshot *snapshot)
{
    return decode_plan_precision(snapshot->plan);
}

const char *snapshot_kernels(const struct snapshot *snapshot)
{
    return decode_plan_kernels(snapshot->plan);
}

const char *snapshot_slow_path(const struct snapshot *snapshot)
{
    return snapshot->slow_path;
}

size_t snapshot_bytes(const struct snapshot *snapshot)
{
    return held_bytes(decode_plan_bytes(snapshot->plan), snapshot->vocabulary);
}

const json_t *snapshot_manifest(const struct snapshot *snapshot)
{
    return snapshot->manifest;
}

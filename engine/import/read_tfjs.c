/* TensorFlow.js' layers models: model.json, {"modelTopology":…,"weightsManifest":[{"paths":[…],"weights":[{"name",
 * "shape","dtype","quantization"}]}]}, and beside it the shards: of each group one after another the bytes of its
 * weights, little-endian. Quantised weights are float16, or uint8 and uint16 with w = q · scale + min. Thread: the one
 * that imports.
 * Source: tfjs-core, io/types.ts and io/io_utils.ts (decodeWeights). */
#include "engine/import/readers.h"

enum { TOPOLOGY_BYTES_MAX = 64 << 20, SHARDS_MAX = 4096 };

struct group {
    struct foreign_model *model;
    const char *name; /* of model.json */
    const unsigned char *bytes;
    size_t length;
    size_t at;
};

bool tfjs_recognise(const struct source_file *file)
{
    static const char *const marks[] = {"\"modelTopology\"", "\"weightsManifest\"", "\"layers-model\"",
                                        "\"graph-model\""};
    unsigned char head[SOURCE_HEAD_BYTES];
    size_t length = foreign_source_peek(file, 0, head);
    bool is_marked = false;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        is_marked = is_marked || memmem(head, length, marks[i], strlen(marks[i])) != NULL;
    }
    return length > 0 && head[0] == '{' && is_marked && file->bytes <= TOPOLOGY_BYTES_MAX;
}

/* ---- weights ---- */

static double number_of(const struct plain *value, double otherwise)
{
    int64_t whole;
    return plain_integer(value, &whole)                 ? (double)whole
           : value != NULL && value->kind == PLAIN_REAL ? value->real
                                                        : otherwise;
}

/* q · scale + min, as float32 computes it. */
static enum status dequantise(const struct group *group, const char *name, enum dtype dtype, const struct shape *shape,
                              size_t count, const struct plain *quantization, struct error *error)
{
    const struct foreign_tensor stored = {.name = name, .dtype = dtype, .data = group->bytes + group->at};
    const struct plain *scale = plain_get(quantization, "scale");
    double factor = dtype == DTYPE_FLOAT16 ? 1 : number_of(scale, 1);
    double least = dtype == DTYPE_FLOAT16 ? 0 : number_of(plain_get(quantization, "min"), 0);
    float *numbers = arena_allocate(&group->model->arena, count + 1, sizeof *numbers);
    if (numbers == NULL) {
        return foreign_no_memory(group->model, error);
    }
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (float)(foreign_number(&stored, i) * factor + least);
    }
    return foreign_add_tensor(group->model, name, DTYPE_FLOAT32, shape, (const unsigned char *)numbers,
                              count * sizeof *numbers, error);
}

static enum status add_weight(struct group *group, const struct plain *entry, struct error *error)
{
    const struct plain *name = plain_get(entry, "name");
    const struct plain *type = plain_get(entry, "dtype");
    const struct plain *sizes = plain_get(entry, "shape");
    const struct plain *quantization = plain_get(entry, "quantization");
    const struct plain *stored = quantization == NULL ? type : plain_get(quantization, "dtype");
    struct shape shape = {.rank = 0};
    enum dtype dtype = DTYPE_COUNT;
    size_t count = 0;
    size_t bytes = 0;
    if (!plain_is_string(name) || !plain_is_string(stored) || sizes == NULL || sizes->kind != PLAIN_LIST) {
        return error_set(error, STATUS_CORRUPT, "%s: a weight without name, shape or dtype", group->name);
    }
    if (!dtype_from_name(stored->text, &dtype)) {
        return error_set(error, STATUS_UNSUPPORTED, "%s: '%.200s' is of dtype %.60s", group->name, name->text,
                         stored->text);
    }
    for (uint32_t i = 0; i < sizes->count; i++) {
        int64_t size = -1;
        (void)!plain_integer(sizes->items[i], &size); /* −1 is refused next */
        TRY(foreign_add_dimension(&shape, name->text, size, error));
    }
    if (!shape_element_count(&shape, &count) || __builtin_mul_overflow(count, dtype_bytes(dtype), &bytes) ||
        bytes > group->length - group->at) {
        char text[SHAPE_TEXT_BYTES_MAX];
        return error_set(error, STATUS_CORRUPT, "%s: '%.200s' of shape %s begins at byte %zu of its shards' %zu",
                         group->name, name->text, shape_text(&shape, text), group->at, group->length);
    }
    enum status status =
        quantization != NULL || dtype == DTYPE_FLOAT16
            ? dequantise(group, name->text, dtype, &shape, count, quantization, error)
            : foreign_add_tensor(group->model, name->text, dtype, &shape, group->bytes + group->at, bytes, error);
    group->at += bytes;
    return status;
}

/* ---- shards ---- */

/* The files of the shards, and how many bytes they have. */
static enum status find_shards(const struct foreign_source *source, const struct source_file *entry,
                               const struct plain *paths, struct group *group, struct source_file **files,
                               struct error *error)
{
    if (paths == NULL || paths->kind != PLAIN_LIST || paths->count > SHARDS_MAX) {
        return error_set(error, STATUS_CORRUPT, "%s: weights without paths, or more than %d", group->name, SHARDS_MAX);
    }
    for (uint32_t i = 0; i < paths->count; i++) {
        const struct plain *path = paths->items[i];
        struct source_file *file = plain_is_string(path) ? foreign_source_find_beside(source, entry, path->text) : NULL;
        if (file == NULL) {
            return error_set(error, STATUS_NOT_FOUND, "%s: weights are in the file %.200s, which is not beside it",
                             group->name, plain_is_string(path) ? path->text : "without a name");
        }
        files[i] = file;
        group->length += file->bytes;
    }
    return STATUS_OK;
}

/* One shard stays where it is; several are read into one. */
static enum status read_shards(struct foreign_source *source, const struct source_file *entry,
                               const struct plain *paths, struct group *group, struct error *error)
{
    struct source_file *files[SHARDS_MAX];
    size_t done = 0;
    TRY(find_shards(source, entry, paths, group, files, error));
    if (paths->count == 1) {
        return foreign_source_read(source, files[0], &group->bytes, &group->length, error);
    }
    unsigned char *joined = arena_allocate(&group->model->arena, group->length + 1, 1);
    if (joined == NULL) {
        return foreign_no_memory(group->model, error);
    }
    group->bytes = joined;
    for (uint32_t i = 0; i < paths->count; i++) {
        size_t length = foreign_source_read_at(files[i], 0, joined + done, group->length - done);
        if (length != files[i]->bytes) {
            return error_set(error, STATUS_IO, "%s: %zu of its %llu bytes can be read", files[i]->name, length,
                             (unsigned long long)files[i]->bytes);
        }
        done += length;
    }
    return STATUS_OK;
}

static enum status read_group(struct foreign_source *source, const struct source_file *entry, const struct plain *item,
                              struct foreign_model *model, struct error *error)
{
    struct group group = {.model = model, .name = entry->name};
    const struct plain *weights = plain_get(item, "weights");
    TRY(read_shards(source, entry, plain_get(item, "paths"), &group, error));
    for (uint32_t i = 0; weights != NULL && weights->kind == PLAIN_LIST && i < weights->count; i++) {
        TRY(add_weight(&group, weights->items[i], error));
    }
    return STATUS_OK;
}

enum status tfjs_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                      struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    const struct plain *root = NULL;
    struct foreign_keras *keras = arena_allocate(&model->arena, 1, sizeof *keras);
    model->format = "TensorFlow.js";
    if (keras == NULL) {
        return foreign_no_memory(model, error);
    }
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    TRY(foreign_read_json(model, file->name, bytes, length, &root, error));
    const struct plain *manifest = plain_get(root, "weightsManifest");
    if (plain_equals(plain_get(root, "format"), "graph-model")) {
        return error_set(
            error, STATUS_UNSUPPORTED,
            "%s is a graph model of TensorFlow.js: layers models are read, as tensorflowjs_converter makes "
            "them of Keras' files",
            file->name);
    }
    if (manifest == NULL || manifest->kind != PLAIN_LIST) {
        return error_set(error, STATUS_CORRUPT, "%s: no weightsManifest", file->name);
    }
    *keras = (struct foreign_keras){.config = plain_get(root, "modelTopology"), .is_javascript = true};
    model->keras = keras;
    for (uint32_t i = 0; i < manifest->count; i++) {
        TRY(read_group(source, file, manifest->items[i], model, error));
    }
    return STATUS_OK;
}

/* TensorFlow V2 checkpoints: an index, which is a LevelDB table, and shards of raw data. Thread: the one that imports.
 *
 * The index's first key, "", holds a BundleHeaderProto {1: shards, 2: endianness, 3: version}; each other one is a
 * tensor's name and holds a BundleEntryProto {1: dtype, 2: shape, 3: shard, 4: offset, 5: size, 6: masked CRC-32C,
 * 7: slices}. Source: tensorflow/core/protobuf/tensor_bundle.proto. A V1 checkpoint is a table too, and tells itself
 * by its first value. */
#include "engine/import/crc32c.h"
#include "engine/import/tensorflow.h"

enum { SHARDS_MAX = 256 };

struct bundle {
    struct foreign_source *source;
    struct source_file *index;
    const char *prefix; /* its name without ".index" */
    struct foreign_model *model;
    uint64_t shard_count;
    struct error *error;
};

struct bundle_entry {
    uint64_t type;
    struct shape shape;
    uint64_t shard;
    uint64_t offset;
    uint64_t bytes;
    uint32_t checksum;
    size_t slice_count;
};

bool tensorflow_recognise(const struct source_file *file)
{
    unsigned char footer[SOURCE_HEAD_BYTES];
    return file->bytes >= LEVEL_TABLE_FOOTER_BYTES &&
           foreign_source_peek(file, file->bytes - LEVEL_TABLE_FOOTER_BYTES, footer) == LEVEL_TABLE_FOOTER_BYTES &&
           level_table_is_footer(footer);
}

bool tensorflow_dtype(uint64_t type, enum dtype *ret_dtype, bool *ret_is_bfloat16)
{
    static const struct {
        uint64_t type;
        enum dtype dtype;
    } rows[] = {
        {1, DTYPE_FLOAT32}, {2, DTYPE_FLOAT64}, {3, DTYPE_INT32}, {4, DTYPE_UINT8},   {5, DTYPE_INT16},
        {6, DTYPE_INT8},    {9, DTYPE_INT64},   {10, DTYPE_BOOL}, {17, DTYPE_UINT16}, {19, DTYPE_FLOAT16},
    };
    enum { BFLOAT16 = 14, REFERENCE = 100 };
    type = type > REFERENCE ? type - REFERENCE : type;
    *ret_is_bfloat16 = type == BFLOAT16;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].type == type) {
            *ret_dtype = rows[i].dtype;
            return true;
        }
    }
    *ret_dtype = DTYPE_FLOAT32;
    return *ret_is_bfloat16;
}

enum status tensorflow_shape(struct wire message, const char *name, struct shape *ret_shape, struct error *error)
{
    struct wire_field field;
    bool is_corrupt = false;
    struct shape shape = {.rank = 0};
    while (wire_read_field(&message, &field, &is_corrupt)) {
        if (field.number != 2 || field.type != WIRE_BYTES) {
            continue; /* unknown_rank */
        }
        struct wire dimension = field.bytes;
        struct wire_field size;
        uint64_t value = 0; /* left out: 0 */
        while (wire_read_field(&dimension, &size, &is_corrupt)) {
            value = size.number == 1 && size.type == WIRE_VARINT ? size.value : value;
        }
        if (is_corrupt) {
            break;
        }
        TRY(foreign_add_dimension(&shape, name, (int64_t)value, error));
    }
    if (is_corrupt) {
        return error_set(error, STATUS_CORRUPT, "tensor '%.200s': its shape is no message", name);
    }
    *ret_shape = shape;
    return STATUS_OK;
}

static enum status refuse(const struct bundle *bundle, const char *name, const char *what)
{
    return error_set(bundle->error, STATUS_CORRUPT, "%s: tensor '%.200s': %s", bundle->index->name, name, what);
}

static enum status read_entry(const struct bundle *bundle, const struct level_entry *row, struct bundle_entry *entry)
{
    struct wire message = {row->value, row->value_length};
    struct wire_field field;
    bool is_corrupt;
    *entry = (struct bundle_entry){.type = 0};
    while (wire_read_field(&message, &field, &is_corrupt)) {
        uint64_t *const numbers[] = {
            [1] = &entry->type, [3] = &entry->shard, [4] = &entry->offset, [5] = &entry->bytes};
        if (field.number == 2 && field.type == WIRE_BYTES) {
            TRY(tensorflow_shape(field.bytes, row->key, &entry->shape, bundle->error));
        } else if (field.number == 6 && field.type == WIRE_FOUR_BYTES) {
            entry->checksum = (uint32_t)field.value;
        } else if (field.number == 7) {
            entry->slice_count++;
        } else if (field.number < 6 && field.type == WIRE_VARINT && numbers[field.number] != NULL) {
            *numbers[field.number] = field.value;
        }
    }
    return is_corrupt ? refuse(bundle, row->key, "its entry is no message") : STATUS_OK;
}

/* The shard's file, whole. */
static enum status read_shard(const struct bundle *bundle, uint64_t shard, const unsigned char **ret_bytes,
                              size_t *ret_length)
{
    char name[FILENAME_MAX];
    int length = snprintf(name, sizeof name, "%s.data-%05llu-of-%05llu", bundle->prefix, (unsigned long long)shard,
                          (unsigned long long)bundle->shard_count);
    struct source_file *file = length < (int)sizeof name ? foreign_source_find(bundle->source, name) : NULL;
    if (file == NULL) {
        return error_set(bundle->error, STATUS_NOT_FOUND, "%s needs the shard %.300s, which is not beside it",
                         bundle->index->name, name);
    }
    return foreign_source_read(bundle->source, file, ret_bytes, ret_length, bundle->error);
}

static enum status add_entry(const struct bundle *bundle, const struct level_entry *row)
{
    struct bundle_entry entry;
    const unsigned char *data = NULL;
    size_t length = 0;
    enum dtype dtype;
    bool is_bfloat16;
    if (row->key[0] == '\0') {
        return STATUS_OK; /* a slice of a partitioned variable, which its own entry tells of */
    }
    if (strlen(row->key) != row->key_length) {
        return refuse(bundle, row->key, "a name with a NUL in it");
    }
    TRY(read_entry(bundle, row, &entry));
    if (entry.slice_count > 0) {
        return error_set(bundle->error, STATUS_UNSUPPORTED, "variable '%.200s' is partitioned into %zu slices",
                         row->key, entry.slice_count);
    }
    if (!tensorflow_dtype(entry.type, &dtype, &is_bfloat16)) {
        bundle->model->skipped_count++;
        return STATUS_OK;
    }
    if (entry.shard >= bundle->shard_count) {
        return refuse(bundle, row->key, "it lies in a shard beyond the last");
    }
    TRY(read_shard(bundle, entry.shard, &data, &length));
    if (entry.offset > length || entry.bytes > length - entry.offset) {
        return error_set(bundle->error, STATUS_CORRUPT, "tensor '%.200s' ends at byte %llu of a shard of %zu bytes",
                         row->key, (unsigned long long)(entry.offset + entry.bytes), length);
    }
    data += entry.offset;
    if (!crc32c_matches(data, entry.bytes, entry.checksum)) {
        return error_set(bundle->error, STATUS_CORRUPT, "tensor '%.200s': its %llu bytes have another checksum",
                         row->key, (unsigned long long)entry.bytes);
    }
    return is_bfloat16
               ? foreign_add_bfloat16(bundle->model, row->key, &entry.shape, data, entry.bytes, bundle->error)
               : foreign_add_tensor(bundle->model, row->key, dtype, &entry.shape, data, entry.bytes, bundle->error);
}

/* Reads the header; `*ret_is_slices` for that of a V1 checkpoint. */
static enum status read_header(struct bundle *bundle, const struct level_table *table, bool *ret_is_slices)
{
    if (table->count == 0 || table->entries[0].key_length != 0) {
        return error_set(bundle->error, STATUS_CORRUPT, "%s: a table without a checkpoint's header",
                         bundle->index->name);
    }
    struct wire message = {table->entries[0].value, table->entries[0].value_length};
    struct wire_field field;
    bool is_corrupt;
    bool is_slices = false;
    uint64_t endianness = 0;
    while (wire_read_field(&message, &field, &is_corrupt)) {
        is_slices = is_slices || (field.number == 1 && field.type == WIRE_BYTES);
        if (field.type == WIRE_VARINT) {
            bundle->shard_count = field.number == 1 ? field.value : bundle->shard_count;
            endianness = field.number == 2 ? field.value : endianness;
        }
    }
    if (is_corrupt) {
        return error_set(bundle->error, STATUS_CORRUPT, "%s: the header is no message", bundle->index->name);
    }
    if (endianness != 0) {
        return error_set(bundle->error, STATUS_UNSUPPORTED, "%s: a checkpoint written big-endian", bundle->index->name);
    }
    if (!is_slices && bundle->shard_count > SHARDS_MAX) {
        return error_set(bundle->error, STATUS_LIMIT, "%s: %llu shards, at most %d", bundle->index->name,
                         (unsigned long long)bundle->shard_count, SHARDS_MAX);
    }
    *ret_is_slices = is_slices;
    return STATUS_OK;
}

static const char *prefix_of(const char *name, struct arena *arena)
{
    static const char suffix[] = ".index";
    size_t length = strlen(name);
    char *prefix = arena_copy_string(arena, name);
    if (prefix != NULL && foreign_ends_in(name, length, suffix)) {
        prefix[length - strlen(suffix)] = '\0';
    }
    return prefix;
}

enum status tensorflow_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                            struct error *error)
{
    struct bundle bundle = {.source = source, .index = file, .model = model, .error = error};
    struct level_table table = {.count = 0};
    const unsigned char *bytes = NULL;
    size_t length = 0;
    bool is_slices = false;
    model->format = "TensorFlow checkpoint";
    bundle.prefix = prefix_of(file->name, &model->arena);
    if (bundle.prefix == NULL) {
        return foreign_no_memory(model, error);
    }
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    enum status status = level_table_read(bytes, length, &model->arena, &table, error);
    if (status != STATUS_OK) {
        error_prefix(error, "%s", file->name);
        return status;
    }
    TRY(read_header(&bundle, &table, &is_slices));
    if (is_slices) {
        model->format = "TensorFlow V1 checkpoint";
        TRY(tensorflow_slices_read(&table, model, error));
        return tensorflow_graph_read(source, bundle.prefix, model, error);
    }
    model->format = "TensorFlow V2 checkpoint";
    for (size_t i = 1; i < table.count; i++) {
        TRY(add_entry(&bundle, &table.entries[i]));
    }
    TRY(tensorflow_take_objects(model, error));
    return tensorflow_graph_read(source, bundle.prefix, model, error);
}

/* ONNX: a graph of operators with its weights, as protocol buffers (onnx.proto); weights may lie in files beside it.
 * Thread: the one that imports. */
#include "engine/import/onnx.pb-c.h"
#include "engine/import/readers.h"
#include "engine/import/wire.h"

enum { IR_VERSION_MAX = 99, FIELDS_MAX = 64, EXTERNAL = 1 };

/* ModelProto's fields. */
enum { FIELD_IR_VERSION = 1, FIELD_MODEL_VERSION = 5, FIELD_GRAPH = 7, FIELD_MAX = 32 };

/* An IR version, and a graph among the fields behind it that lies within the file. */
bool onnx_recognise(const struct source_file *file)
{
    uint64_t at = 0;
    bool has_version = false;
    for (int i = 0; i < FIELDS_MAX && at < file->bytes; i++) {
        unsigned char head[SOURCE_HEAD_BYTES];
        size_t length = foreign_source_peek(file, at, head);
        struct wire wire = {head, length};
        uint64_t tag = 0;
        uint64_t value = 0;
        if (!wire_read_varint(&wire, &tag) || !wire_read_varint(&wire, &value) || tag >> 3 == 0 ||
            tag >> 3 > FIELD_MAX) {
            return false;
        }
        at += length - wire.length;
        if ((tag & 7) == WIRE_VARINT) {
            bool is_version = tag >> 3 == FIELD_IR_VERSION && value >= 1 && value <= IR_VERSION_MAX;
            if (!is_version && tag >> 3 != FIELD_MODEL_VERSION) {
                return false;
            }
            has_version = has_version || is_version;
        } else if ((tag & 7) != WIRE_BYTES || value > file->bytes - at) {
            return false;
        } else if (tag >> 3 == FIELD_GRAPH) {
            return has_version && value > 0;
        } else {
            at += value;
        }
    }
    return false;
}

/* ---- memory for protobuf-c: the model's arena, which has a maximum ---- */

struct unpacking {
    struct foreign_model *model;
    bool has_failed;
};

static void *allocate(void *context, size_t bytes)
{
    struct unpacking *unpacking = context;
    void *block = arena_allocate(&unpacking->model->arena, bytes, 1);
    unpacking->has_failed = unpacking->has_failed || block == NULL;
    return block;
}

static void let_be(void *context, void *block)
{
    (void)context;
    (void)block;
}

/* ---- tensors ---- */

/* TensorProto.DataType */
static const struct type {
    int32_t type;
    enum dtype dtype;
    bool is_bfloat16;
} types[] = {
    {1, DTYPE_FLOAT32, false},  {2, DTYPE_UINT8, false},    {3, DTYPE_INT8, false},    {4, DTYPE_UINT16, false},
    {5, DTYPE_INT16, false},    {6, DTYPE_INT32, false},    {7, DTYPE_INT64, false},   {9, DTYPE_BOOL, false},
    {10, DTYPE_FLOAT16, false}, {11, DTYPE_FLOAT64, false}, {16, DTYPE_FLOAT16, true},
};

static const struct type *find_type(int32_t type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].type == type) {
            return &types[i];
        }
    }
    return NULL;
}

/* The entry of `external_data`, or NULL. */
static const char *external(const Onnx__TensorProto *tensor, const char *key)
{
    for (size_t i = 0; i < tensor->n_external_data; i++) {
        const Onnx__StringStringEntryProto *entry = tensor->external_data[i];
        if (entry->key != NULL && entry->value != NULL && strcmp(entry->key, key) == 0) {
            return entry->value;
        }
    }
    return NULL;
}

/* A path that leads out of the folder, whatever lies there. */
static bool leads_out(const char *path)
{
    const char *dots = strstr(path, "..");
    return path[0] == '/' || (dots != NULL && (dots == path || dots[-1] == '/') && (dots[2] == '\0' || dots[2] == '/'));
}

static bool read_number(const char *text, uint64_t otherwise, uint64_t *ret_number)
{
    char *end;
    *ret_number = otherwise;
    if (text == NULL) {
        return true;
    }
    *ret_number = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0';
}

static enum status find_external(struct foreign_source *source, const struct source_file *entry,
                                 const Onnx__TensorProto *tensor, const char *name, const unsigned char **ret_data,
                                 size_t *ret_length, struct error *error)
{
    const char *location = external(tensor, "location");
    const unsigned char *bytes = NULL;
    size_t length = 0;
    uint64_t offset = 0;
    uint64_t count = 0;
    if (location == NULL || leads_out(location)) {
        return error_set(error, STATUS_CORRUPT,
                         "tensor '%.200s': its data lies in '%.200s', which is no file beside it", name,
                         location == NULL ? "" : location);
    }
    struct source_file *file = foreign_source_find_beside(source, entry, location);
    if (file == NULL) {
        return error_set(error, STATUS_NOT_FOUND, "tensor '%.200s' is in the file %.200s, which is not beside %.200s",
                         name, location, entry->name);
    }
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    bool is_right = read_number(external(tensor, "offset"), 0, &offset) && offset <= length &&
                    read_number(external(tensor, "length"), length - offset, &count) && count <= length - offset;
    if (!is_right) {
        return error_set(error, STATUS_CORRUPT, "tensor '%.200s': not within the %zu bytes of %.200s", name, length,
                         location);
    }
    *ret_data = bytes + offset;
    *ret_length = (size_t)count;
    return STATUS_OK;
}

/* Elements that the field holds one in 32 bits each, whatever their type. */
static enum status narrow(struct foreign_model *model, const Onnx__TensorProto *tensor, enum dtype dtype,
                          const unsigned char **ret_data, size_t *ret_length, struct error *error)
{
    size_t bytes = dtype_bytes(dtype);
    unsigned char *data = arena_allocate(&model->arena, tensor->n_int32_data + 1, bytes);
    if (data == NULL) {
        return foreign_no_memory(model, error);
    }
    for (size_t i = 0; i < tensor->n_int32_data; i++) {
        memcpy(data + i * bytes, &tensor->int32_data[i], bytes);
    }
    *ret_data = data;
    *ret_length = tensor->n_int32_data * bytes;
    return STATUS_OK;
}

static enum status find_data(struct foreign_source *source, const struct source_file *entry,
                             struct foreign_model *model, const Onnx__TensorProto *tensor, const char *name,
                             const struct type *type, const unsigned char **ret_data, size_t *ret_length,
                             struct error *error)
{
    const void *data = tensor->float_data;
    size_t count = tensor->n_float_data;
    if (tensor->has_data_location && tensor->data_location == EXTERNAL) {
        return find_external(source, entry, tensor, name, ret_data, ret_length, error);
    }
    if (tensor->has_raw_data) {
        *ret_data = tensor->raw_data.data;
        *ret_length = tensor->raw_data.len;
        return STATUS_OK;
    }
    if (dtype_bytes(type->dtype) <= sizeof(int32_t) && type->dtype != DTYPE_FLOAT32) {
        return narrow(model, tensor, type->dtype, ret_data, ret_length, error);
    }
    if (type->dtype == DTYPE_INT64) {
        data = tensor->int64_data;
        count = tensor->n_int64_data;
    } else if (type->dtype == DTYPE_FLOAT64) {
        data = tensor->double_data;
        count = tensor->n_double_data;
    }
    *ret_data = data;
    *ret_length = count * dtype_bytes(type->dtype);
    return STATUS_OK;
}

static enum status add_tensor(struct foreign_source *source, const struct source_file *entry,
                              struct foreign_model *model, const Onnx__TensorProto *tensor, const char *name,
                              struct error *error)
{
    const struct type *type = find_type(tensor->data_type);
    const unsigned char *data = NULL;
    size_t length = 0;
    struct shape shape = {.rank = 0};
    if (type == NULL) {
        model->skipped_count++;
        return STATUS_OK;
    }
    for (size_t i = 0; i < tensor->n_dims; i++) {
        TRY(foreign_add_dimension(&shape, name, tensor->dims[i], error));
    }
    TRY(find_data(source, entry, model, tensor, name, type, &data, &length, error));
    return type->is_bfloat16 ? foreign_add_bfloat16(model, name, &shape, data, length, error)
                             : foreign_add_tensor(model, name, type->dtype, &shape, data, length, error);
}

/* A Constant node's tensor goes by the name of what the node makes. */
static const Onnx__TensorProto *constant_of(const Onnx__NodeProto *node)
{
    bool is_constant = node->op_type != NULL && strcmp(node->op_type, "Constant") == 0 && node->n_output == 1;
    for (size_t i = 0; is_constant && i < node->n_attribute; i++) {
        if (node->attribute[i]->t != NULL) {
            return node->attribute[i]->t;
        }
    }
    return NULL;
}

static enum status add_tensors(struct foreign_source *source, const struct source_file *entry,
                               struct foreign_model *model, const Onnx__GraphProto *graph, struct error *error)
{
    for (size_t i = 0; i < graph->n_initializer; i++) {
        const Onnx__TensorProto *tensor = graph->initializer[i];
        TRY(add_tensor(source, entry, model, tensor, tensor->name == NULL ? "" : tensor->name, error));
    }
    for (size_t i = 0; i < graph->n_node; i++) {
        const Onnx__TensorProto *tensor = constant_of(graph->node[i]);
        if (tensor != NULL) {
            TRY(add_tensor(source, entry, model, tensor, graph->node[i]->output[0], error));
        }
    }
    return STATUS_OK;
}

enum status onnx_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                      struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    struct unpacking unpacking = {.model = model};
    ProtobufCAllocator allocator = {.alloc = allocate, .free = let_be, .allocator_data = &unpacking};
    model->format = "ONNX";
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    const Onnx__ModelProto *read = onnx__model_proto__unpack(&allocator, length, bytes);
    foreign_source_forget(source, file); /* everything was copied */
    if (read == NULL && unpacking.has_failed) {
        return foreign_no_memory(model, error);
    }
    if (read == NULL || read->graph == NULL) {
        return error_set(error, STATUS_CORRUPT, "%s: no ONNX model: its %zu bytes are no whole message with a graph",
                         file->name, length);
    }
    model->onnx = read->graph;
    TRY(add_tensors(source, file, model, read->graph, error));
    for (size_t i = 0; i < read->n_metadata_props; i++) {
        const Onnx__StringStringEntryProto *entry = read->metadata_props[i];
        if (entry->key != NULL && entry->value != NULL) {
            TRY(foreign_add_metadata(model, entry->key, entry->value, error));
        }
    }
    return STATUS_OK;
}

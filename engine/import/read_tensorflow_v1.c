/* TensorFlow V1 checkpoints: one LevelDB table. Thread: the one that imports.
 *
 * Every value is a SavedTensorSlices. The first, under key "", has {1: meta {1: tensors {1: name, 2: shape, 3: type}}},
 * the others {2: data {1: name, 2: slice {1: extents {1: start, 2: length}}, 3: TensorProto}}. A tensor's numbers stand
 * in TensorProto's tensor_content (4) or, packed, in float_val (5) or double_val (6).
 * Source: tensorflow/core/util/saved_tensor_slice.proto. */
#include "engine/import/tensorflow.h"

/* A tensor that is being put together. */
struct sliced {
    const char *name;
    struct shape shape;
    enum dtype dtype;
    size_t element_count;
    size_t done_count;          /* elements whose slice was read */
    unsigned char *data;        /* NULL until a slice is copied */
    const unsigned char *whole; /* the only slice, in place */
};

struct slices {
    struct foreign_model *model;
    struct sliced *tensors;
    size_t count;
    size_t capacity;
    struct error *error;
};

static enum status corrupt(const struct slices *slices, const char *name, const char *what)
{
    return error_set(slices->error, STATUS_CORRUPT, "tensor '%.200s': %s", name, what);
}

static enum status copy_name(const struct slices *slices, struct wire text, const char **ret_name)
{
    char *name = text.length > FOREIGN_NAME_BYTES_MAX || memchr(text.bytes, '\0', text.length) != NULL
                     ? NULL
                     : arena_allocate(&slices->model->arena, text.length + 1, 1);
    if (name == NULL) {
        return error_set(slices->error, STATUS_LIMIT, "a tensor's name of %zu bytes, or with a NUL", text.length);
    }
    memcpy(name, text.bytes, text.length);
    *ret_name = name;
    return STATUS_OK;
}

/* ---- what there is ---- */

static enum status add_tensor(struct slices *slices, const struct sliced *tensor)
{
    if (slices->count >= FOREIGN_TENSORS_MAX) {
        return error_set(slices->error, STATUS_LIMIT, "more than %d tensors", FOREIGN_TENSORS_MAX);
    }
    if (slices->count == slices->capacity) {
        size_t capacity = slices->capacity == 0 ? 64 : slices->capacity * 2;
        struct sliced *tensors = arena_allocate(&slices->model->arena, capacity, sizeof *tensors);
        if (tensors == NULL) {
            return foreign_no_memory(slices->model, slices->error);
        }
        if (slices->count > 0) {
            memcpy(tensors, slices->tensors, slices->count * sizeof *tensors);
        }
        slices->tensors = tensors;
        slices->capacity = capacity;
    }
    slices->tensors[slices->count++] = *tensor;
    return STATUS_OK;
}

static enum status read_tensor_meta(struct slices *slices, struct wire message)
{
    struct sliced tensor = {.name = ""};
    struct wire_field field;
    struct wire shape = {.length = 0};
    uint64_t type = 0;
    bool is_corrupt;
    bool is_bfloat16;
    while (wire_read_field(&message, &field, &is_corrupt)) {
        if (field.number == 1 && field.type == WIRE_BYTES) {
            TRY(copy_name(slices, field.bytes, &tensor.name));
        } else if (field.number == 2 && field.type == WIRE_BYTES) {
            shape = field.bytes;
        } else if (field.number == 3 && field.type == WIRE_VARINT) {
            type = field.value;
        }
    }
    if (is_corrupt) {
        return corrupt(slices, tensor.name, "its description is no message");
    }
    bool is_known = tensorflow_dtype(type, &tensor.dtype, &is_bfloat16) && !is_bfloat16;
    if (!is_known || (tensor.dtype != DTYPE_FLOAT32 && tensor.dtype != DTYPE_FLOAT64)) {
        slices->model->skipped_count++; /* counters and strings, which make no model */
        return STATUS_OK;
    }
    TRY(tensorflow_shape(shape, tensor.name, &tensor.shape, slices->error));
    if (!shape_element_count(&tensor.shape, &tensor.element_count)) {
        return corrupt(slices, tensor.name, "its shape has too many elements");
    }
    return add_tensor(slices, &tensor);
}

static enum status read_meta(struct slices *slices, struct wire message)
{
    struct wire_field field;
    bool is_corrupt;
    while (wire_read_field(&message, &field, &is_corrupt)) {
        if (field.number == 1 && field.type == WIRE_BYTES) {
            TRY(read_tensor_meta(slices, field.bytes));
        }
    }
    return is_corrupt ? error_set(slices->error, STATUS_CORRUPT, "the list of tensors is no message") : STATUS_OK;
}

/* ---- slices ---- */

struct slice {
    struct sliced *tensor; /* NULL: one that is passed over */
    struct shape start;
    struct shape length;
    struct wire data;
};

/* Extents without a length are whole. */
static enum status read_extents(const struct slices *slices, struct wire message, struct slice *slice)
{
    const struct shape *shape = &slice->tensor->shape;
    struct wire_field field;
    bool is_corrupt;
    int rank = 0;
    slice->start = (struct shape){.rank = shape->rank};
    slice->length = *shape;
    while (wire_read_field(&message, &field, &is_corrupt)) {
        struct wire extent = field.bytes;
        struct wire_field number;
        uint64_t values[3] = {0, 0, 0};
        bool is_given = false;
        while (field.type == WIRE_BYTES && wire_read_field(&extent, &number, &is_corrupt)) {
            if (number.type == WIRE_VARINT && number.number <= 2) {
                values[number.number] = number.value;
                is_given = is_given || number.number == 2;
            }
        }
        if (is_corrupt || rank >= shape->rank) {
            return corrupt(slices, slice->tensor->name, "a slice of more dimensions than it has");
        }
        if (is_given) {
            uint64_t dimension = (uint64_t)shape->dimensions[rank];
            if (values[1] > dimension || values[2] > dimension - values[1]) {
                return corrupt(slices, slice->tensor->name, "a slice beyond its end");
            }
            slice->start.dimensions[rank] = (int64_t)values[1];
            slice->length.dimensions[rank] = (int64_t)values[2];
        }
        rank++;
    }
    return is_corrupt ? corrupt(slices, slice->tensor->name, "its slice is no message") : STATUS_OK;
}

/* Where TensorProto's numbers stand. */
static enum status find_numbers(const struct slices *slices, struct wire message, struct slice *slice)
{
    uint32_t values = slice->tensor->dtype == DTYPE_FLOAT32 ? 5 : 6;
    struct wire_field field;
    bool is_corrupt;
    while (wire_read_field(&message, &field, &is_corrupt)) {
        if (field.type == WIRE_BYTES && (field.number == 4 || field.number == values)) {
            slice->data = field.bytes;
        }
    }
    return is_corrupt ? corrupt(slices, slice->tensor->name, "its data is no message") : STATUS_OK;
}

/* Copies a slice's rows (along the last dimension) to where they belong. */
static void copy_slice(const struct slice *slice)
{
    const struct sliced *tensor = slice->tensor;
    size_t item = dtype_bytes(tensor->dtype);
    int rank = tensor->shape.rank;
    size_t row = rank == 0 ? 1 : (size_t)slice->length.dimensions[rank - 1];
    int64_t at[SHAPE_RANK_MAX] = {0};
    for (const unsigned char *from = slice->data.bytes; from < slice->data.bytes + slice->data.length;
         from += row * item) {
        size_t to = 0;
        for (int d = 0; d < rank; d++) {
            to = to * (size_t)tensor->shape.dimensions[d] + (size_t)(slice->start.dimensions[d] + at[d]);
        }
        memcpy(tensor->data + to * item, from, row * item);
        for (int d = rank - 2; d >= 0 && ++at[d] == slice->length.dimensions[d]; d--) {
            at[d] = 0;
        }
    }
}

static enum status take_slice(struct slices *slices, struct slice *slice)
{
    struct sliced *tensor = slice->tensor;
    size_t count = 0;
    if (!shape_element_count(&slice->length, &count) || slice->data.length != count * dtype_bytes(tensor->dtype)) {
        return error_set(slices->error, STATUS_CORRUPT, "tensor '%.200s': a slice of %zu elements has %zu bytes",
                         tensor->name, count, slice->data.length);
    }
    if (count > tensor->element_count - tensor->done_count) {
        return corrupt(slices, tensor->name, "its slices overlap");
    }
    tensor->done_count += count;
    if (count == tensor->element_count) {
        tensor->whole = slice->data.bytes;
        return STATUS_OK;
    }
    if (tensor->data == NULL && count > 0) {
        tensor->data = arena_allocate(&slices->model->arena, tensor->element_count, dtype_bytes(tensor->dtype));
        if (tensor->data == NULL) {
            return foreign_no_memory(slices->model, slices->error);
        }
    }
    if (count > 0) {
        copy_slice(slice);
    }
    return STATUS_OK;
}

static struct sliced *find_tensor(const struct slices *slices, const char *name)
{
    for (size_t i = 0; i < slices->count; i++) {
        if (strcmp(slices->tensors[i].name, name) == 0) {
            return &slices->tensors[i];
        }
    }
    return NULL;
}

static enum status read_data(struct slices *slices, struct wire message)
{
    struct slice slice = {.tensor = NULL};
    struct wire extents = {.length = 0};
    struct wire tensor = {.length = 0};
    struct wire_field field;
    bool is_corrupt;
    const char *name = "";
    while (wire_read_field(&message, &field, &is_corrupt)) {
        if (field.type == WIRE_BYTES && field.number == 1) {
            TRY(copy_name(slices, field.bytes, &name));
        } else if (field.type == WIRE_BYTES && field.number == 2) {
            extents = field.bytes;
        } else if (field.type == WIRE_BYTES && field.number == 3) {
            tensor = field.bytes;
        }
    }
    if (is_corrupt) {
        return corrupt(slices, name, "its slice is no message");
    }
    slice.tensor = find_tensor(slices, name);
    if (slice.tensor == NULL) {
        return STATUS_OK;
    }
    TRY(read_extents(slices, extents, &slice));
    TRY(find_numbers(slices, tensor, &slice));
    return take_slice(slices, &slice);
}

/* ---- the table ---- */

static enum status read_value(struct slices *slices, const struct level_entry *entry)
{
    struct wire message = {entry->value, entry->value_length};
    struct wire_field field;
    bool is_corrupt;
    while (wire_read_field(&message, &field, &is_corrupt)) {
        if (field.type != WIRE_BYTES) {
            continue;
        }
        if (field.number == 1) {
            TRY(read_meta(slices, field.bytes));
        } else if (field.number == 2) {
            TRY(read_data(slices, field.bytes));
        }
    }
    return is_corrupt ? error_set(slices->error, STATUS_CORRUPT, "an entry of the checkpoint is no message")
                      : STATUS_OK;
}

enum status tensorflow_slices_read(const struct level_table *table, struct foreign_model *model, struct error *error)
{
    struct slices slices = {.model = model, .error = error};
    for (size_t i = 0; i < table->count; i++) {
        TRY(read_value(&slices, &table->entries[i]));
    }
    for (size_t i = 0; i < slices.count; i++) {
        const struct sliced *tensor = &slices.tensors[i];
        if (tensor->done_count != tensor->element_count) {
            return error_set(error, STATUS_CORRUPT, "tensor '%.200s': %zu of its %zu elements are there", tensor->name,
                             tensor->done_count, tensor->element_count);
        }
        TRY(foreign_add_tensor(model, tensor->name, tensor->dtype, &tensor->shape,
                               tensor->whole != NULL ? tensor->whole : tensor->data,
                               tensor->element_count * dtype_bytes(tensor->dtype), error));
    }
    return STATUS_OK;
}

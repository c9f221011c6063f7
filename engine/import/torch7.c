/* The machine that reads Torch7's objects. Thread: any, one at a time. Owns nothing: all is in the model's arena.
 *
 * Containers that are being read stand on a stack of its own, since graphs are nested as deeply as they are long. */
#include "engine/import/torch7.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/import/torch7_private.h"

enum { FRAMES_MAX = 1 << 16, OBJECTS_MAX = 1 << 20, FIRST_CAPACITY = 64, CLASS_BYTES_MAX = 128 };

enum type {
    TYPE_NIL = 0,
    TYPE_NUMBER = 1,
    TYPE_STRING = 2,
    TYPE_TABLE = 3,
    TYPE_CLASS = 4,
    TYPE_BOOLEAN = 5,
    TYPE_BARE_FUNCTION = 6,
    TYPE_OLD_FUNCTION = 7,
    TYPE_FUNCTION = 8,
};

/* Something of which so many objects are still to be read. */
struct frame {
    struct plain *into;
    uint64_t left;
};

/* A list that grows in the arena. */
struct growing {
    void *items;
    size_t count;
    size_t capacity;
};

struct reader {
    struct torch7_cursor cursor;
    struct arena *arena;
    struct growing frames;   /* struct frame */
    struct growing objects;  /* struct plain *: object i + 1 */
    struct growing storages; /* struct torch_view */
    struct growing tensors;  /* the same */
    struct plain *nil;
};

/* ---- lists ---- */

static enum status no_memory(const struct reader *reader)
{
    return foreign_no_memory(reader->cursor.model, reader->cursor.error);
}

/* Room for one more item at the end, which counts from now on. */
static void *grow(struct arena *arena, struct growing *list, size_t item_bytes)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? FIRST_CAPACITY : list->capacity * 2;
        char *items = arena_allocate(arena, capacity, item_bytes);
        if (items == NULL) {
            return NULL;
        }
        if (list->count > 0) {
            memcpy(items, list->items, list->count * item_bytes);
        }
        list->items = items;
        list->capacity = capacity;
    }
    return (char *)list->items + list->count++ * item_bytes;
}

static enum status push_frame(struct reader *reader, struct plain *into, uint64_t left)
{
    if (reader->frames.count >= FRAMES_MAX) {
        return error_set(reader->cursor.error, STATUS_LIMIT, "%.200s, byte %zu: objects are nested more than %d deep",
                         reader->cursor.name, reader->cursor.at, FRAMES_MAX);
    }
    struct frame *frame = grow(reader->arena, &reader->frames, sizeof *frame);
    if (frame == NULL) {
        return no_memory(reader);
    }
    *frame = (struct frame){into, left};
    return STATUS_OK;
}

static enum status remember(struct reader *reader, struct plain *value)
{
    struct plain **object = value == NULL ? NULL : grow(reader->arena, &reader->objects, sizeof(struct plain *));
    if (object == NULL) {
        return no_memory(reader);
    }
    *object = value;
    return STATUS_OK;
}

/* Reads an index: `*ret_known` is the object that it means, or NULL where a new one follows. */
static enum status read_index(struct reader *reader, struct plain **ret_known)
{
    int32_t index = 0;
    TRY(torch7_read_int(&reader->cursor, &index));
    size_t next = reader->objects.count + 1;
    if (index < 1 || (size_t)index > next) {
        return error_set(reader->cursor.error, STATUS_CORRUPT, "%.200s, byte %zu: object %d, but the next one is %zu",
                         reader->cursor.name, reader->cursor.at, index, next);
    }
    if ((size_t)index > OBJECTS_MAX) {
        return error_set(reader->cursor.error, STATUS_LIMIT, "%.200s, byte %zu: more than %d objects",
                         reader->cursor.name, reader->cursor.at, OBJECTS_MAX);
    }
    *ret_known = (size_t)index == next ? NULL : ((struct plain **)reader->objects.items)[index - 1];
    return STATUS_OK;
}

/* ---- storages and tensors ---- */

/* "torch.FloatTensor" ends in "Tensor". */
static bool is_of(const char *class_name, const char *ending)
{
    CHECK(class_name != NULL);
    size_t length = strlen(class_name);
    size_t ending_length = strlen(ending);
    return strncmp(class_name, "torch.", 6) == 0 && length > ending_length &&
           strcmp(class_name + length - ending_length, ending) == 0;
}

/* The class's name behind its version; files of before versions have the name alone. */
static enum status read_class(struct reader *reader, const char **ret_name)
{
    const char *text = NULL;
    size_t length = 0;
    TRY(torch7_read_string(&reader->cursor, &text, &length));
    if (length >= 2 && memcmp(text, "V ", 2) == 0) {
        TRY(torch7_read_string(&reader->cursor, &text, &length));
    }
    if (length == 0 || length > CLASS_BYTES_MAX || memchr(text, '\0', length) != NULL) {
        return torch7_corrupt(&reader->cursor, "an object whose class has no name, or a long one");
    }
    char *name = arena_allocate(reader->arena, length + 1, 1);
    if (name == NULL) {
        return no_memory(reader);
    }
    memcpy(name, text, length);
    *ret_name = name;
    return STATUS_OK;
}

/* An object of a class, as a note; of a storage or tensor with its place in `list`, which gets an empty view. */
static enum status create_object(struct reader *reader, const char *class_name, struct growing *list,
                                 struct plain **ret_object)
{
    struct plain *object = plain_create(reader->arena, PLAIN_CALL);
    TRY(remember(reader, object));
    object->global = class_name;
    if (list != NULL) {
        object->arguments = plain_create(reader->arena, PLAIN_INTEGER);
        if (object->arguments == NULL || grow(reader->arena, list, sizeof(struct torch_view)) == NULL) {
            return no_memory(reader);
        }
        object->arguments->integer = (int64_t)list->count - 1;
        ((struct torch_view *)list->items)[list->count - 1] = (struct torch_view){.offset = 0};
    }
    *ret_object = object;
    return STATUS_OK;
}

static struct torch_view *view_of(const struct growing *list, const struct plain *object)
{
    return (struct torch_view *)list->items + object->arguments->integer;
}

static enum status read_storage(struct reader *reader, const char *class_name, struct plain **ret_object)
{
    int64_t count = 0;
    struct plain *object = NULL;
    TRY(create_object(reader, class_name, &reader->storages, &object));
    CHECK(object != NULL);
    struct torch_view *view = view_of(&reader->storages, object);
    if (!torch_storage_dtype(class_name, &view->dtype, &view->is_bfloat16)) {
        return error_set(reader->cursor.error, STATUS_UNSUPPORTED, "%.200s: numbers lie in a %s", reader->cursor.name,
                         class_name);
    }
    TRY(torch7_read_long(&reader->cursor, &count));
    if (count < 0) {
        return torch7_corrupt(&reader->cursor, "a storage of negative size");
    }
    *ret_object = object;
    return torch7_read_elements(&reader->cursor, view->dtype, (uint64_t)count, &view->bytes, &view->length);
}

/* The storage that a tensor lies in: nil, one that is known, or a new one. */
static enum status read_storage_of(struct reader *reader, struct torch_view *tensor)
{
    int32_t type = 0;
    struct plain *storage = NULL;
    const char *class_name = NULL;
    TRY(torch7_read_int(&reader->cursor, &type));
    if (type == TYPE_NIL) {
        return STATUS_OK;
    }
    if (type != TYPE_CLASS) {
        return torch7_corrupt(&reader->cursor, "a tensor that lies in no storage");
    }
    TRY(read_index(reader, &storage));
    if (storage == NULL) {
        TRY(read_class(reader, &class_name));
        if (is_of(class_name, "Storage")) {
            TRY(read_storage(reader, class_name, &storage));
        }
    }
    if (storage == NULL || storage->kind != PLAIN_CALL || storage->arguments == NULL ||
        !is_of(storage->global, "Storage")) {
        return torch7_corrupt(&reader->cursor, "a tensor that lies in no storage");
    }
    const struct torch_view *view = view_of(&reader->storages, storage);
    tensor->dtype = view->dtype;
    tensor->is_bfloat16 = view->is_bfloat16;
    tensor->bytes = view->bytes;
    tensor->length = view->length;
    return STATUS_OK;
}

/* Sizes or strides. */
static enum status read_sizes(struct reader *reader, size_t count, int64_t *sizes)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    TRY(torch7_read_elements(&reader->cursor, DTYPE_INT64, count, &bytes, &length));
    memcpy(sizes, bytes, length);
    for (size_t i = 0; i < count; i++) {
        if (sizes[i] < 0) {
            return torch7_corrupt(&reader->cursor, "a negative size or stride");
        }
    }
    return STATUS_OK;
}

static enum status read_tensor(struct reader *reader, const char *class_name, struct plain **ret_object)
{
    int32_t rank = 0;
    struct torch_view view = {.offset = 0};
    struct plain *object = NULL;
    TRY(create_object(reader, class_name, &reader->tensors, &object));
    CHECK(object != NULL);
    TRY(torch7_read_int(&reader->cursor, &rank));
    if (rank < 0 || rank > SHAPE_RANK_MAX) {
        return error_set(reader->cursor.error, STATUS_UNSUPPORTED,
                         "%.200s, byte %zu: a tensor of %d dimensions, at most %d", reader->cursor.name,
                         reader->cursor.at, rank, SHAPE_RANK_MAX);
    }
    TRY(read_sizes(reader, (size_t)rank, view.shape.dimensions));
    TRY(read_sizes(reader, (size_t)rank, view.strides));
    view.shape.rank = rank;
    TRY(torch7_read_long(&reader->cursor, &view.offset));
    view.offset -= view.offset > INT64_MIN ? 1 : 0;
    TRY(read_storage_of(reader, &view));
    *view_of(&reader->tensors, object) = view;
    *ret_object = object;
    return STATUS_OK;
}

/* ---- objects ---- */

static enum status read_number(struct reader *reader, struct plain **ret_value)
{
    const double exact_max = 9007199254740992; /* 2^53 */
    double number = 0;
    TRY(torch7_read_double(&reader->cursor, &number));
    bool is_whole = fabs(number) <= exact_max && !(floor(number) < number);
    struct plain *value = plain_create(reader->arena, is_whole ? PLAIN_INTEGER : PLAIN_REAL);
    if (value == NULL) {
        return no_memory(reader);
    }
    if (is_whole) {
        value->integer = (int64_t)number;
    } else {
        value->real = number;
    }
    *ret_value = value;
    return STATUS_OK;
}

static enum status read_boolean(struct reader *reader, struct plain **ret_value)
{
    int32_t number = 0;
    TRY(torch7_read_int(&reader->cursor, &number));
    struct plain *value = plain_create(reader->arena, PLAIN_BOOLEAN);
    if (value == NULL) {
        return no_memory(reader);
    }
    value->boolean = number == 1;
    *ret_value = value;
    return STATUS_OK;
}

static enum status read_string(struct reader *reader, struct plain **ret_value)
{
    const char *text = NULL;
    size_t length = 0;
    TRY(torch7_read_string(&reader->cursor, &text, &length));
    *ret_value = plain_create_text(reader->arena, PLAIN_BYTES, text, length);
    return *ret_value == NULL ? no_memory(reader) : STATUS_OK;
}

/* A function: its dump is stepped over, its upvalues follow. */
static enum status read_function(struct reader *reader, bool is_indexed, struct plain **ret_value)
{
    const char *ignored = NULL;
    size_t length = 0;
    struct plain *value = plain_create(reader->arena, PLAIN_PERSISTENT);
    if (value == NULL) {
        return no_memory(reader);
    }
    if (is_indexed) {
        TRY(remember(reader, value));
    }
    TRY(torch7_read_string(&reader->cursor, &ignored, &length));
    *ret_value = value;
    return push_frame(reader, value, 1);
}

static enum status read_table(struct reader *reader, struct plain **ret_value)
{
    int32_t count = 0;
    struct plain *value = plain_create(reader->arena, PLAIN_DICT);
    TRY(remember(reader, value));
    TRY(torch7_read_int(&reader->cursor, &count));
    if (count < 0) {
        return torch7_corrupt(&reader->cursor, "a table of negative size");
    }
    *ret_value = value;
    return push_frame(reader, value, 2 * (uint64_t)count);
}

static enum status read_object_of_class(struct reader *reader, struct plain **ret_value)
{
    const char *class_name = NULL;
    TRY(read_class(reader, &class_name));
    if (is_of(class_name, "Storage")) {
        return read_storage(reader, class_name, ret_value);
    }
    if (is_of(class_name, "Tensor")) {
        return read_tensor(reader, class_name, ret_value);
    }
    TRY(create_object(reader, class_name, NULL, ret_value));
    return push_frame(reader, *ret_value, 1);
}

static enum status read_indexed(struct reader *reader, enum type type, struct plain **ret_value)
{
    struct plain *known = NULL;
    TRY(read_index(reader, &known));
    if (known != NULL) {
        *ret_value = known;
        return STATUS_OK;
    }
    return type == TYPE_TABLE   ? read_table(reader, ret_value)
           : type == TYPE_CLASS ? read_object_of_class(reader, ret_value)
                                : read_function(reader, true, ret_value);
}

/* One object; what it contains is left to the frame that it pushes. */
static enum status read_value(struct reader *reader, struct plain **ret_value)
{
    int32_t type = 0;
    TRY(torch7_read_int(&reader->cursor, &type));
    switch (type) {
    case TYPE_NIL: *ret_value = reader->nil; return STATUS_OK;
    case TYPE_NUMBER: return read_number(reader, ret_value);
    case TYPE_STRING: return read_string(reader, ret_value);
    case TYPE_BOOLEAN: return read_boolean(reader, ret_value);
    case TYPE_BARE_FUNCTION: return read_function(reader, false, ret_value);
    case TYPE_TABLE:
    case TYPE_CLASS:
    case TYPE_OLD_FUNCTION:
    case TYPE_FUNCTION: return read_indexed(reader, (enum type)type, ret_value);
    default: return torch7_corrupt(&reader->cursor, "no type of an object");
    }
}

/* Reads until the stack is empty. */
static enum status read_contents(struct reader *reader)
{
    while (reader->frames.count > 0) {
        struct frame *frame = (struct frame *)reader->frames.items + reader->frames.count - 1;
        struct plain *into = frame->into;
        struct plain *value = NULL;
        if (frame->left == 0) {
            reader->frames.count--;
            continue;
        }
        frame->left--;
        TRY(read_value(reader, &value));
        if (into->kind != PLAIN_DICT) {
            into->state = value;
        } else if (!plain_append(reader->arena, into, value)) {
            return no_memory(reader);
        }
    }
    return STATUS_OK;
}

/* ---- a file ---- */

/* Whether it begins so in one of the two forms. */
static bool begins_as(const unsigned char *bytes, size_t length, bool is_ascii)
{
    struct error ignored;
    struct torch7_cursor cursor = {
        .bytes = bytes, .length = length, .is_ascii = is_ascii, .name = "", .error = &ignored};
    int32_t type = 0;
    int32_t index = 0;
    int32_t third = 0;
    int32_t key = 0;
    if (torch7_read_int(&cursor, &type) != STATUS_OK || torch7_read_int(&cursor, &index) != STATUS_OK ||
        torch7_read_int(&cursor, &third) != STATUS_OK || index != 1) {
        return false;
    }
    if (type == TYPE_CLASS) { /* third: the length of "V 1" */
        return third > 2 && length - cursor.at > 2 && memcmp(bytes + cursor.at, "V ", 2) == 0;
    }
    return type == TYPE_TABLE && third > 0 && torch7_read_int(&cursor, &key) == STATUS_OK &&
           (key == TYPE_STRING || key == TYPE_NUMBER);
}

bool torch7_begins(const unsigned char *bytes, size_t length)
{
    return begins_as(bytes, length, false) || begins_as(bytes, length, true);
}

enum status torch7_parse(const unsigned char *bytes, size_t length, const char *name, struct foreign_model *model,
                         struct torch7_file *ret_file, struct error *error)
{
    struct reader reader = {.cursor = {.bytes = bytes,
                                       .length = length,
                                       .is_ascii = begins_as(bytes, length, true),
                                       .name = name,
                                       .model = model,
                                       .error = error},
                            .arena = &model->arena};
    struct plain *root = NULL;
    reader.nil = plain_create(reader.arena, PLAIN_NONE);
    if (reader.nil == NULL) {
        return no_memory(&reader);
    }
    TRY(read_value(&reader, &root));
    TRY(read_contents(&reader));
    *ret_file = (struct torch7_file){root, reader.storages.items, reader.tensors.items};
    return STATUS_OK;
}

const struct torch_view *torch7_tensor(const struct torch7_file *file, const struct plain *value)
{
    return value != NULL && value->kind == PLAIN_CALL && value->arguments != NULL && is_of(value->global, "Tensor")
               ? &file->tensors[value->arguments->integer]
               : NULL;
}

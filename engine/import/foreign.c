/* Collecting what readers find. Thread: the one that reads. Everything is in the model's arena. */
#include "engine/import/foreign.h"

enum { TENSORS_FIRST = 64 };

enum status foreign_no_memory(const struct foreign_model *model, struct error *error)
{
    const char *format = model->format == NULL ? "the file" : model->format;
    if (model->arena.is_full) {
        return error_set(error, STATUS_LIMIT, "%s: what it describes takes more than %zu bytes", format,
                         model->arena.bytes_max);
    }
    return error_set(error, STATUS_NO_MEMORY, "%s: no memory", format);
}

enum status foreign_add_dimension(struct shape *shape, const char *name, int64_t dimension, struct error *error)
{
    if (shape->rank >= SHAPE_RANK_MAX) {
        return error_set(error, STATUS_UNSUPPORTED, "tensor '%.200s' has more than %d dimensions", name,
                         SHAPE_RANK_MAX);
    }
    if (dimension < 0) {
        return error_set(error, STATUS_CORRUPT, "tensor '%.200s': dimension %d is %lld", name, shape->rank,
                         (long long)dimension);
    }
    shape->dimensions[shape->rank++] = dimension;
    return STATUS_OK;
}

enum status foreign_read_json(struct foreign_model *model, const char *name, const void *bytes, size_t length,
                              const struct plain **ret_root, struct error *error)
{
    json_error_t json_error;
    json_t *json = json_loadb(bytes, length, JSON_ALLOW_NUL | JSON_DECODE_ANY, &json_error);
    if (json == NULL) {
        return error_set(error, STATUS_CORRUPT, "%s, line %d: %s", name, json_error.line, json_error.text);
    }
    *ret_root = plain_from_json(&model->arena, json);
    json_decref(json);
    return *ret_root == NULL ? foreign_no_memory(model, error) : STATUS_OK;
}

static enum status make_room(struct foreign_model *model, struct error *error)
{
    if (model->tensor_count >= FOREIGN_TENSORS_MAX) {
        return error_set(error, STATUS_LIMIT, "%s: more than %d tensors", model->format, FOREIGN_TENSORS_MAX);
    }
    if (model->tensor_count < model->tensor_capacity) {
        return STATUS_OK;
    }
    size_t capacity = model->tensor_capacity == 0 ? TENSORS_FIRST : model->tensor_capacity * 2;
    struct foreign_tensor *tensors = arena_allocate(&model->arena, capacity, sizeof *tensors);
    if (tensors == NULL) {
        return foreign_no_memory(model, error);
    }
    if (model->tensor_count > 0) {
        memcpy(tensors, model->tensors, model->tensor_count * sizeof *tensors);
    }
    model->tensors = tensors;
    model->tensor_capacity = capacity;
    return STATUS_OK;
}

enum status foreign_add_tensor(struct foreign_model *model, const char *name, enum dtype dtype,
                               const struct shape *shape, const unsigned char *data, size_t data_bytes,
                               struct error *error)
{
    size_t count = 0;
    size_t need = 0;
    bool is_countable = shape_element_count(shape, &count) && !__builtin_mul_overflow(count, dtype_bytes(dtype), &need);
    if (!is_countable || need != data_bytes) {
        char text[SHAPE_TEXT_BYTES_MAX];
        return error_set(error, STATUS_CORRUPT, "tensor '%.200s': %zu bytes do not hold %s of shape %s", name,
                         data_bytes, dtype_name(dtype), shape_text(shape, text));
    }
    if (strlen(name) > FOREIGN_NAME_BYTES_MAX) {
        return error_set(error, STATUS_LIMIT, "tensor '%.100s…': a name of %zu bytes, at most %d", name, strlen(name),
                         FOREIGN_NAME_BYTES_MAX);
    }
    TRY(make_room(model, error));
    char *copy = arena_copy_string(&model->arena, name);
    if (copy == NULL) {
        return foreign_no_memory(model, error);
    }
    model->tensors[model->tensor_count] = (struct foreign_tensor){
        .name = copy, .dtype = dtype, .shape = *shape, .data = data, .position = model->tensor_count};
    model->tensor_count++;
    return STATUS_OK;
}

enum status foreign_add_bfloat16(struct foreign_model *model, const char *name, const struct shape *shape,
                                 const unsigned char *data, size_t data_bytes, struct error *error)
{
    size_t count = data_bytes / 2;
    uint32_t *wide = arena_allocate(&model->arena, count, sizeof *wide);
    if (wide == NULL) {
        return foreign_no_memory(model, error);
    }
    for (size_t i = 0; i < count; i++) {
        wide[i] = (uint32_t)data[2 * i] << 16 | (uint32_t)data[2 * i + 1] << 24;
    }
    return foreign_add_tensor(model, name, DTYPE_FLOAT32, shape, (const unsigned char *)wide, count * sizeof *wide,
                              error);
}

bool foreign_are_same(const struct foreign_tensor *a, const struct foreign_tensor *b)
{
    size_t count = 0;
    if (a == NULL || b == NULL) {
        return a == b;
    }
    return a->dtype == b->dtype && shape_equal(&a->shape, &b->shape) && shape_element_count(&a->shape, &count) &&
           (a->data == b->data || memcmp(a->data, b->data, count * dtype_bytes(a->dtype)) == 0);
}

static int by_name(const void *left, const void *right)
{
    const struct foreign_tensor *a = left;
    const struct foreign_tensor *b = right;
    return strcmp(a->name, b->name);
}

enum status foreign_sort_tensors(struct foreign_model *model, struct error *error)
{
    if (model->tensor_count > 0) {
        qsort(model->tensors, model->tensor_count, sizeof *model->tensors, by_name);
    }
    size_t count = model->tensor_count > 0 ? 1 : 0;
    for (size_t i = 1; i < model->tensor_count; i++) {
        const struct foreign_tensor *last = &model->tensors[count - 1];
        bool is_again = by_name(last, &model->tensors[i]) == 0;
        if (is_again && !foreign_are_same(last, &model->tensors[i])) {
            return error_set(error, STATUS_CORRUPT, "two tensors are named '%.200s'", model->tensors[i].name);
        }
        if (!is_again) {
            model->tensors[count++] = model->tensors[i];
        }
    }
    model->tensor_count = count;
    return STATUS_OK;
}

const struct foreign_tensor *foreign_find_tensor(const struct foreign_model *model, const char *name)
{
    const struct foreign_tensor wanted = {.name = name};
    return model->tensor_count == 0 ? NULL
                                    : bsearch(&wanted, model->tensors, model->tensor_count, sizeof wanted, by_name);
}

enum status foreign_add_hint(struct foreign_model *model, const char *place, const char *key, const char *value,
                             struct error *error)
{
    if (model->hint_count >= FOREIGN_HINTS_MAX) {
        return STATUS_OK;
    }
    struct foreign_hint hint = {arena_copy_string(&model->arena, key), arena_copy_string(&model->arena, value), place};
    if (hint.key == NULL || hint.value == NULL) {
        return foreign_no_memory(model, error);
    }
    model->hints[model->hint_count++] = hint;
    return STATUS_OK;
}

const char *foreign_hint(const struct foreign_model *model, const char *key)
{
    for (size_t i = 0; i < model->hint_count; i++) {
        if (strcmp(model->hints[i].key, key) == 0) {
            return model->hints[i].value;
        }
    }
    return NULL;
}

bool foreign_ends_in(const char *text, size_t length, const char *ending)
{
    size_t ending_length = strlen(ending);
    return length >= ending_length && memcmp(text + length - ending_length, ending, ending_length) == 0;
}

static size_t folder_length(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash == NULL ? 0 : (size_t)(slash - name) + 1;
}

bool foreign_is_around(const char *name, const char *other)
{
    size_t length = folder_length(name);
    return length <= folder_length(other) && memcmp(name, other, length) == 0;
}

/* A name without its folders and without what tells its format: ".json", ".weights.h5". */
static size_t stem_length(const char *base)
{
    static const char weights[] = ".weights";
    const char *dot = strrchr(base, '.');
    size_t length = dot == NULL || dot == base ? strlen(base) : (size_t)(dot - base);
    bool is_of_weights = length > strlen(weights) && foreign_ends_in(base, length, weights);
    return is_of_weights ? length - strlen(weights) : length;
}

static bool ends_word(const char *stem, size_t length, size_t at)
{
    return at == length || strchr("_-. ", stem[at]) != NULL;
}

size_t foreign_likeness(const char *name, const char *other)
{
    enum { WORDS_MAX = 1 << 16 }; /* no name has so many bytes */
    const char *stem = name + folder_length(name);
    const char *other_stem = other + folder_length(other);
    size_t length = stem_length(stem);
    size_t other_length = stem_length(other_stem);
    size_t shared = 0;
    size_t at = 0;
    for (; at < length && at < other_length && stem[at] == other_stem[at]; at++) {
        shared = ends_word(stem, length, at) ? at : shared;
    }
    shared = ends_word(stem, length, at) && ends_word(other_stem, other_length, at) ? at : shared;
    size_t words = 2 * shared + (shared == length ? 1 : 0);
    size_t nearness = foreign_is_around(name, other) ? 1 + folder_length(name) : 0;
    return nearness * WORDS_MAX + (words < WORDS_MAX ? words : WORDS_MAX - 1);
}

double foreign_number(const struct foreign_tensor *tensor, size_t index)
{
    const unsigned char *at = tensor->data + index * dtype_bytes(tensor->dtype);
    if (tensor->dtype == DTYPE_FLOAT32) {
        float number;
        memcpy(&number, at, sizeof number);
        return (double)number;
    }
    if (tensor->dtype == DTYPE_BOOL) {
        return *at != 0;
    }
    _Alignas(16) unsigned char element[16] = {0};
    memcpy(element, at, dtype_bytes(tensor->dtype));
    struct tensor one = {.dtype = tensor->dtype, .data = element};
    return tensor_number(&one, 0);
}

void foreign_model_release(struct foreign_model *model)
{
    arena_release(&model->arena);
    *model = (struct foreign_model){.format = NULL};
}

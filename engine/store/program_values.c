/* Reading the fields of a step: texts, numbers, dtypes, shapes, initializers; and saying which one is wrong.
 * Thread: the building one. Owns nothing. */
#include <stdarg.h>

#include "engine/store/program_private.h"
#include "engine/store/tensor_json.h"

/* ---- refusing ---- */

/* "/program/2/args/1" */
static void write_place(const struct place *place, char *text, size_t bytes)
{
    if (place->above != NULL) {
        write_place(place->above, text, bytes);
        size_t length = strlen(text);
        if (place->field != NULL) {
            snprintf(text + length, bytes - length, "/%.60s", place->field);
        } else {
            snprintf(text + length, bytes - length, "/%zu", place->index);
        }
    } else {
        snprintf(text, bytes, "%s", place->field);
    }
}

enum status at_place(struct builder *builder, const struct place *place, enum status status)
{
    if (status != STATUS_OK && builder->error != NULL && builder->error->param[0] == '\0') {
        write_place(place, builder->error->param, sizeof builder->error->param);
    }
    return status;
}

enum status builder_explain_memory(struct builder *builder, enum status status)
{
    char param[ERROR_PLACE_BYTES_MAX];
    bool is_scratch = builder->scratch.is_full;
    if (status != STATUS_NO_MEMORY || builder->error == NULL || !(is_scratch || graph_is_full(builder->graph))) {
        return status;
    }
    memcpy(param, builder->error->param, sizeof param);
    status = error_set(builder->error, STATUS_LIMIT, "%s needs more than %d bytes, the maximum",
                       is_scratch ? "the step" : "the graph", GRAPH_ARENA_BYTES_MAX);
    memcpy(builder->error->param, param, sizeof param);
    return status;
}

enum status refuse_place(struct builder *builder, const struct place *place, const char *format, ...)
{
    char message[ERROR_MESSAGE_BYTES_MAX / 2];
    char path[ERROR_PLACE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    write_place(place, path, sizeof path);
    enum status status = error_set(builder->error, STATUS_INVALID, "%s: %s", path, message);
    return at_place(builder, place, status);
}

enum status refuse_field(struct builder *builder, const struct step *step, const char *field, const char *message)
{
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    return refuse_place(builder, &place, "%s", message);
}

enum status raise_place(struct builder *builder, const struct place *place, enum exception exception,
                        const char *format, ...)
{
    char message[ERROR_MESSAGE_BYTES_MAX / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    enum status status = error_raise(builder->error, STATUS_INVALID, exception, "%s", message);
    return at_place(builder, place, status);
}

bool is_result_name(const json_t *json)
{
    const char *name = json_string_value(json);
    return name != NULL && name[0] != '\0' && strpbrk(name, ".:") == NULL &&
           json_string_length(json) < HANDLE_PATH_BYTES_MAX;
}

bool word_is_in(const char *key, const char *words)
{
    size_t length = strlen(key);
    for (const char *word = words; *word != '\0'; word += strspn(word, " ")) {
        size_t word_length = strcspn(word, " ");
        if (word_length == length && strncmp(word, key, length) == 0) {
            return true;
        }
        word += word_length;
    }
    return false;
}

enum status check_fields(struct builder *builder, const struct step *step, const char *fields)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)step->json, key, value)
    {
        if (strcmp(key, "op") != 0 && strcmp(key, "as") != 0 && !word_is_in(key, fields)) {
            return refuse_field(builder, step, key, "unknown field");
        }
    }
    return STATUS_OK;
}

/* ---- fields ---- */

/* The field's value; NULL when it is not there or null. */
static const json_t *field_of(const struct step *step, const char *field)
{
    const json_t *value = json_object_get(step->json, field);
    return json_is_null(value) ? NULL : value;
}

enum status read_text(struct builder *builder, const struct step *step, const char *field, const char **ret_text)
{
    const json_t *value = field_of(step, field);
    if (value == NULL) {
        return STATUS_OK;
    }
    const char *text = json_string_value(value);
    if (text == NULL || strlen(text) != json_string_length(value)) {
        return refuse_field(builder, step, field, "must be a text");
    }
    if (strlen(text) >= GRAPH_NAME_BYTES_MAX) {
        return refuse_field(builder, step, field, "must be shorter than 400 bytes");
    }
    *ret_text = text;
    return STATUS_OK;
}

enum status need_text(struct builder *builder, const struct step *step, const char *field, const char **ret_text)
{
    if (field_of(step, field) == NULL) {
        return refuse_field(builder, step, field, "must be given: a text");
    }
    return read_text(builder, step, field, ret_text);
}

enum status read_flag(struct builder *builder, const struct step *step, const char *field, bool *ret_flag)
{
    const json_t *value = field_of(step, field);
    if (value != NULL && !json_is_boolean(value)) {
        return refuse_field(builder, step, field, "must be true or false");
    }
    *ret_flag = value == NULL ? *ret_flag : json_is_true(value);
    return STATUS_OK;
}

enum status read_number(struct builder *builder, const struct step *step, const char *field, double *ret_number)
{
    const json_t *value = field_of(step, field);
    if (value != NULL && !json_is_number(value)) {
        return refuse_field(builder, step, field, "must be a number");
    }
    *ret_number = value == NULL ? *ret_number : json_number_value(value);
    return STATUS_OK;
}

enum status read_whole(struct builder *builder, const struct step *step, const char *field, int64_t least, int64_t most,
                       int64_t *ret_number)
{
    const json_t *value = field_of(step, field);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < least || json_integer_value(value) > most) {
        char message[96];
        snprintf(message, sizeof message, "must be a whole number from %lld to %lld", (long long)least,
                 (long long)most);
        return refuse_field(builder, step, field, message);
    }
    *ret_number = json_integer_value(value);
    return STATUS_OK;
}

enum status read_dtype(struct builder *builder, const struct step *step, const char *field, bool *ret_has,
                       enum dtype *ret_dtype)
{
    const json_t *value = field_of(step, field);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_string(value) || !dtype_from_name(json_string_value(value), ret_dtype)) {
        return refuse_field(builder, step, field, "must be \"float32\", \"float64\", \"int32\", \"int64\" or \"bool\"");
    }
    *ret_has = true;
    return STATUS_OK;
}

enum status read_shape(struct builder *builder, const struct step *step, const char *field, bool *ret_has,
                       struct shape *ret_shape)
{
    const json_t *value = field_of(step, field);
    if (value == NULL) {
        return STATUS_OK;
    }
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret_shape = shape_vector(json_integer_value(value));
    } else {
        TRY(at_place(builder, &place, shape_from_json(value, ret_shape, builder->error)));
    }
    *ret_has = true;
    return STATUS_OK;
}

enum status read_reuse(struct builder *builder, const struct step *step, enum reuse *ret_reuse)
{
    const json_t *value = field_of(step, "reuse");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "reuse"};
    if (value == NULL || json_is_false(value)) {
        *ret_reuse = REUSE_INHERIT;
    } else if (json_is_true(value)) {
        *ret_reuse = REUSE_TRUE;
    } else if (json_is_string(value) && strcmp(json_string_value(value), "auto") == 0) {
        *ret_reuse = REUSE_AUTO;
    } else {
        return raise_place(builder, &place, EXCEPTION_VALUE, "The reuse parameter must be True or False or None.");
    }
    return STATUS_OK;
}

/* ---- initializers and regularizers ---- */

static const struct {
    const char *name;
    enum initializer_kind kind;
    double low;
    double high;
} initializer_names[] = {
    {"zeros", INITIALIZER_ZEROS, 0, 0},
    {"ones", INITIALIZER_ONES, 0, 0},
    {"glorot_uniform", INITIALIZER_GLOROT_UNIFORM, 0, 0},
    {"glorot_normal", INITIALIZER_GLOROT_NORMAL, 0, 0},
    {"orthogonal", INITIALIZER_ORTHOGONAL, 1, 0},
    {"random_uniform", INITIALIZER_UNIFORM, -0.05, 0.05},
    {"random_normal", INITIALIZER_NORMAL, 0, 1},
    {"truncated_normal", INITIALIZER_TRUNCATED_NORMAL, 0, 1},
};

/* {"random_uniform":[low,high]} and the like; {"orthogonal":gain} */
static enum status read_ranged(struct builder *builder, const char *key, const json_t *range, const struct place *place,
                               struct initializer *initializer)
{
    for (size_t i = 0; i < sizeof initializer_names / sizeof *initializer_names; i++) {
        if (strcmp(initializer_names[i].name, key) == 0) {
            const json_t *low = json_is_array(range) ? json_array_get(range, 0) : range;
            const json_t *high = json_array_get(range, 1);
            bool is_pair = json_array_size(range) == 2 && json_is_number(low) && json_is_number(high);
            bool is_gain = initializer_names[i].kind == INITIALIZER_ORTHOGONAL && json_is_number(range);
            *initializer = (struct initializer){
                .kind = initializer_names[i].kind, .low = initializer_names[i].low, .high = initializer_names[i].high};
            if (is_pair || is_gain) {
                initializer->low = json_number_value(low);
                initializer->high = json_number_value(high);
            } else if (!json_is_true(range)) {
                return refuse_place(builder, place, "\"%s\" takes %s", key,
                                    initializer->kind == INITIALIZER_ORTHOGONAL ? "a number" : "two numbers");
            }
            return STATUS_OK;
        }
    }
    return refuse_place(builder, place, "there is no initializer \"%.60s\"", key);
}

/* A value: its dtype is natural unless the object says one; kept in the graph's arena. */
static enum status keep_value(struct builder *builder, const json_t *object, const json_t *value,
                              const struct place *place, struct initializer *initializer)
{
    const json_t *dtype = json_object_get(object, "dtype");
    struct tensor *values = &initializer->values;
    enum dtype wanted = DTYPE_FLOAT32;
    if (dtype != NULL && (!json_is_string(dtype) || !dtype_from_name(json_string_value(dtype), &wanted))) {
        return refuse_place(builder, place, "\"dtype\" must be float32, float64, int32, int64 or bool");
    }
    if (dtype != NULL) {
        TRY(read_value(builder, value, place, true, wanted, values));
    } else {
        TRY(read_python_value(builder, value, place, values));
    }
    initializer->has_dtype = dtype != NULL;
    void *copy = arena_copy(graph_arena(builder->graph), values->data, tensor_bytes(values), 1);
    if (copy == NULL) {
        return error_set(builder->error, STATUS_LIMIT, "no room for a value of %zu bytes in the graph",
                         tensor_bytes(values));
    }
    values->data = copy;
    return STATUS_OK;
}

static enum status read_constant(struct builder *builder, const json_t *constant, const struct place *place,
                                 struct initializer *initializer)
{
    *initializer = (struct initializer){.kind = INITIALIZER_CONSTANT, .low = json_number_value(constant)};
    if (json_is_number(constant)) {
        return STATUS_OK;
    }
    if (json_is_boolean(constant)) {
        initializer->low = json_is_true(constant);
        return STATUS_OK;
    }
    TRY(keep_value(builder, NULL, constant, place, initializer));
    return STATUS_OK;
}

static enum status read_callable(struct builder *builder, const json_t *json, const struct place *place,
                                 struct initializer *initializer)
{
    *initializer = (struct initializer){.kind = INITIALIZER_CALLABLE,
                                        .takes_arguments = json_is_true(json_object_get(json, "takes_arguments"))};
    return keep_value(builder, json, json_object_get(json, "callable"), place, initializer);
}

static enum status read_initializer_object(struct builder *builder, const json_t *json, const struct place *place,
                                           struct initializer *initializer)
{
    static const char kinds[] = "constant value tensor callable";
    const char *key;
    json_t *value;
    if (json_object_get(json, "callable") != NULL) {
        return read_callable(builder, json, place, initializer);
    }
    if (json_object_get(json, "value") != NULL) {
        *initializer = (struct initializer){.kind = INITIALIZER_VALUE};
        return keep_value(builder, json, json_object_get(json, "value"), place, initializer);
    }
    if (json_object_size(json) != 1) {
        return refuse_place(builder, place, "an initializer is one of %s or a named one", kinds);
    }
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        if (strcmp(key, "constant") == 0) {
            return read_constant(builder, value, place, initializer);
        }
        if (strcmp(key, "tensor") == 0) {
            *initializer = (struct initializer){.kind = INITIALIZER_TENSOR};
            return read_tensor(builder, value, place, &initializer->output);
        }
        return read_ranged(builder, key, value, place, initializer);
    }
    return STATUS_OK;
}

enum status read_initializer(struct builder *builder, const struct step *step, const char *field,
                             struct initializer *ret_initializer)
{
    const json_t *json = field_of(step, field);
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    if (json == NULL) {
        return STATUS_OK;
    }
    if (json_is_object(json)) {
        return read_initializer_object(builder, json, &place, ret_initializer);
    }
    if (json_is_string(json)) {
        json_t *yes = json_true();
        return read_ranged(builder, json_string_value(json), yes, &place, ret_initializer);
    }
    *ret_initializer = (struct initializer){.kind = INITIALIZER_VALUE};
    return keep_value(builder, NULL, json, &place, ret_initializer);
}

static const struct {
    const char *name;
    enum regularizer_kind kind;
} regularizer_names[] = {{"mean_plus", REGULARIZER_MEAN_PLUS}, {"l1", REGULARIZER_L1}, {"l2", REGULARIZER_L2}};

enum status read_regularizer(struct builder *builder, const struct step *step, const char *field,
                             struct regularizer *ret_regularizer)
{
    const json_t *json = field_of(step, field);
    if (json == NULL) {
        return STATUS_OK;
    }
    if (json_is_string(json) && strcmp(json_string_value(json), "none") == 0) {
        *ret_regularizer = (struct regularizer){.kind = REGULARIZER_NONE};
        return STATUS_OK;
    }
    for (size_t i = 0; i < sizeof regularizer_names / sizeof *regularizer_names; i++) {
        const json_t *amount = json_object_get(json, regularizer_names[i].name);
        if (json_is_number(amount) && json_object_size(json) == 1) {
            *ret_regularizer =
                (struct regularizer){.kind = regularizer_names[i].kind, .amount = json_number_value(amount)};
            return STATUS_OK;
        }
    }
    return refuse_field(builder, step, field, "must be {\"mean_plus\":a}, {\"l1\":a}, {\"l2\":a} or \"none\"");
}

/* Reading and writing training options. One table of fields serves checking, defaults and writing. Thread: any. */
#include "engine/train/training_options.h"

#include <assert.h>
#include <math.h>

enum field_kind { FIELD_SIZE, FIELD_COUNT, FIELD_NUMBER };

/* A plain number of a struct. A limit that is 0 is written as absent. */
struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
    double least;
    double most;
    double otherwise;
    bool is_above; /* least itself is not allowed */
    bool is_limit;
};

#define AT(member) offsetof(struct training_options, member)
#define INTEGER_MAX 9007199254740992.0 /* 2^53: every integer up to it is a double */

static const struct field FIELDS[] = {
    {.name = "batch", FIELD_SIZE, AT(batch), 1, TRAINING_BATCH_MAX, 64},
    {.name = "sequence_length", FIELD_SIZE, AT(sequence_length), 1, TRAINING_SEQUENCE_LENGTH_MAX, 64},
    {.name = "shards", FIELD_SIZE, AT(shards), 1, TRAINING_SHARDS_MAX, 0},
    {.name = "epochs", FIELD_COUNT, AT(epochs), 1, INTEGER_MAX, 0, .is_limit = true},
    {.name = "max_steps", FIELD_COUNT, AT(max_steps), 1, INTEGER_MAX, 0, .is_limit = true},
    {.name = "max_seconds", FIELD_NUMBER, AT(max_seconds), 0, 1e9, 0, .is_above = true, .is_limit = true},
    {.name = "clip_norm", FIELD_NUMBER, AT(clip_norm), 0, HUGE_VAL, 5, .is_above = true},
    {.name = "dropout", FIELD_NUMBER, AT(dropout), 0, 0.99, (double)NAN},
    {.name = "validation_fraction", FIELD_NUMBER, AT(validation_fraction), 0, 0.9, 0.1},
    {.name = "seed", FIELD_COUNT, AT(seed), 0, INTEGER_MAX - 1, 1},
    {.name = "evaluate_every_steps", FIELD_COUNT, AT(evaluate_every_steps), 1, INTEGER_MAX, 0, .is_limit = true},
    {.name = "checkpoint_seconds", FIELD_NUMBER, AT(checkpoint_seconds), 0, 1e9, 60, .is_above = true},
};
enum { FIELDS_COUNT = sizeof FIELDS / sizeof FIELDS[0] };

static const char *const UNSUPPORTED[] = {"preset", "from", "vocabulary_policy"};
static const char *const PUBLISH_NAMES[] = {"end", "best", "checkpoints", "never"};
static_assert(sizeof PUBLISH_NAMES / sizeof PUBLISH_NAMES[0] == PUBLISH_COUNT, "one name each");

const char *publish_name(enum publish publish)
{
    return PUBLISH_NAMES[publish];
}

static enum status fail(struct error *error, enum status status, const char *param, const char *message)
{
    error_set(error, status, "%s %s", param, message);
    if (error) {
        snprintf(error->param, sizeof error->param, "%s", param);
    }
    if (status == STATUS_UNSUPPORTED) {
        error_code(error, "unsupported");
    }
    return status;
}

/* `record`: the struct that the field is of. */
static void field_set(const struct field *field, void *record, double number)
{
    char *place = (char *)record + field->offset;
    size_t size = (size_t)number;
    uint64_t count = (uint64_t)number;
    switch (field->kind) {
    case FIELD_SIZE: memcpy(place, &size, sizeof size); break;
    case FIELD_COUNT: memcpy(place, &count, sizeof count); break;
    case FIELD_NUMBER: memcpy(place, &number, sizeof number); break;
    }
}

static double field_get(const struct field *field, const struct training_options *options)
{
    const char *place = (const char *)options + field->offset;
    size_t size;
    uint64_t count;
    double number;
    switch (field->kind) {
    case FIELD_SIZE: memcpy(&size, place, sizeof size); return (double)size;
    case FIELD_COUNT: memcpy(&count, place, sizeof count); return (double)count;
    case FIELD_NUMBER: memcpy(&number, place, sizeof number); return number;
    }
    return 0;
}

static enum status read_number(const struct field *field, const char *param, const json_t *value, double *ret_number,
                               struct error *error)
{
    bool is_whole = field->kind != FIELD_NUMBER;
    double number = json_number_value(value);
    bool fits = is_whole ? json_is_integer(value) : json_is_number(value);
    fits = fits && (field->is_above ? number > field->least : number >= field->least) && number <= field->most;
    if (!fits) {
        char message[160];
        const char *kind = is_whole ? "an integer" : "a number";
        if (field->most >= HUGE_VAL) {
            snprintf(message, sizeof message, "must be %s %s %g", kind, field->is_above ? "above" : "from",
                     field->least);
        } else {
            snprintf(message, sizeof message, "must be %s %s %.16g %s %.16g", kind, field->is_above ? "above" : "from",
                     field->least, field->is_above ? "and at most" : "to", field->most);
        }
        return fail(error, STATUS_INVALID, param, message);
    }
    *ret_number = number;
    return STATUS_OK;
}

static enum status read_optimizer(const json_t *value, struct training_options *options, struct error *error)
{
    if (!json_is_object(value)) {
        return fail(error, STATUS_INVALID, "optimizer",
                    "must be an object: {\"name\":\"adam\",\"learning_rate\":0.002}");
    }
    static const struct field rate = {
        .name = "learning_rate", FIELD_NUMBER, AT(learning_rate), 0, 1000, 0, .is_above = true};
    const char *key;
    const json_t *item;
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        if (strcmp(key, "learning_rate") == 0) {
            TRY(read_number(&rate, "optimizer.learning_rate", item, &options->learning_rate, error));
        } else if (strcmp(key, "name") == 0) {
            if (!json_is_string(item)) {
                return fail(error, STATUS_INVALID, "optimizer.name", "must be a string: adam or sgd");
            }
            if (!optimizer_kind_from_name(json_string_value(item), &options->optimizer)) {
                return fail(error, STATUS_UNSUPPORTED, "optimizer.name",
                            "is not one that is built: adam, sgd, momentum, rmsprop, adagrad");
            }
        } else {
            char param[ERROR_PLACE_BYTES_MAX];
            snprintf(param, sizeof param, "optimizer.%s", key);
            return fail(error, STATUS_INVALID, param, "is not a field of an optimizer: name, learning_rate");
        }
    }
    return STATUS_OK;
}

static const struct field SCHEDULE_FIELDS[] = {
    {.name = "after_epochs", FIELD_COUNT, offsetof(struct schedule, after_epochs), 0, INTEGER_MAX, 10},
    {.name = "every_epochs", FIELD_COUNT, offsetof(struct schedule, every_epochs), 1, INTEGER_MAX, 5},
    {.name = "factor", FIELD_NUMBER, offsetof(struct schedule, factor), 0, 1, 0.5, .is_above = true},
};
enum { SCHEDULE_FIELDS_COUNT = sizeof SCHEDULE_FIELDS / sizeof SCHEDULE_FIELDS[0] };
static const struct schedule SCHEDULE_DEFAULT = {.after_epochs = 10, .every_epochs = 5, .factor = 0.5};

static enum status read_schedule_field(const char *key, const json_t *item, struct schedule *schedule,
                                       struct error *error)
{
    char param[ERROR_PLACE_BYTES_MAX];
    snprintf(param, sizeof param, "schedule.%s", key);
    for (size_t i = 0; i < SCHEDULE_FIELDS_COUNT; i++) {
        const struct field *field = &SCHEDULE_FIELDS[i];
        if (strcmp(field->name, key) == 0) {
            double number;
            TRY(read_number(field, param, item, &number, error));
            field_set(field, schedule, number);
            return STATUS_OK;
        }
    }
    return fail(error, STATUS_INVALID, param, "is not a field of a schedule: name, after_epochs, every_epochs, factor");
}

static enum status read_schedule(const json_t *value, struct schedule *schedule, struct error *error)
{
    const char *name = json_string_value(json_is_object(value) ? json_object_get(value, "name") : value);
    if (!name) {
        return fail(error, STATUS_INVALID, "schedule", "must be \"constant\" or an object with a name");
    }
    if (strcmp(name, "constant") == 0) {
        *schedule = (struct schedule){.factor = 1};
        return json_is_object(value) && json_object_size(value) > 1
                   ? fail(error, STATUS_INVALID, "schedule", "constant takes no other field")
                   : STATUS_OK;
    }
    if (strcmp(name, "step") != 0) {
        return fail(error, STATUS_UNSUPPORTED, "schedule", "is not one that is built: constant, step");
    }
    *schedule = SCHEDULE_DEFAULT;
    const char *key;
    const json_t *item;
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        if (strcmp(key, "name") != 0) {
            TRY(read_schedule_field(key, item, schedule, error));
        }
    }
    return STATUS_OK;
}

static enum status read_publish(const json_t *value, enum publish *ret_publish, struct error *error)
{
    for (int i = 0; json_is_string(value) && i < PUBLISH_COUNT; i++) {
        if (strcmp(json_string_value(value), PUBLISH_NAMES[i]) == 0) {
            *ret_publish = (enum publish)i;
            return STATUS_OK;
        }
    }
    return fail(error, STATUS_INVALID, "publish", "must be \"end\", \"best\", \"checkpoints\" or \"never\"");
}

static enum status read_field(const char *key, const json_t *value, struct training_options *options,
                              struct error *error)
{
    for (size_t i = 0; i < FIELDS_COUNT; i++) {
        const struct field *field = &FIELDS[i];
        if (strcmp(key, field->name) != 0) {
            continue;
        }
        if (json_is_null(value) && (field->is_limit || field->offset == AT(clip_norm))) {
            field_set(field, options, field->is_limit ? 0 : HUGE_VAL);
            return STATUS_OK;
        }
        double number;
        TRY(read_number(field, key, value, &number, error));
        field_set(field, options, number);
        return STATUS_OK;
    }
    if (strcmp(key, "optimizer") == 0) {
        return read_optimizer(value, options, error);
    }
    if (strcmp(key, "schedule") == 0) {
        return read_schedule(value, &options->schedule, error);
    }
    if (strcmp(key, "publish") == 0) {
        return read_publish(value, &options->publish, error);
    }
    for (size_t i = 0; i < sizeof UNSUPPORTED / sizeof UNSUPPORTED[0]; i++) {
        if (strcmp(key, UNSUPPORTED[i]) == 0) {
            return fail(error, STATUS_UNSUPPORTED, key, "is not built yet");
        }
    }
    return fail(error, STATUS_INVALID, key, "is not a field of a training");
}

enum status training_options_read(const json_t *request, struct training_options *ret_options, struct error *error)
{
    if (!json_is_object(request)) {
        return error_set(error, STATUS_INVALID, "training options must be a JSON object");
    }
    struct training_options options = {
        .optimizer = OPTIMIZER_ADAM, .learning_rate = 0.002, .schedule = SCHEDULE_DEFAULT, .publish = PUBLISH_END};
    for (size_t i = 0; i < FIELDS_COUNT; i++) {
        field_set(&FIELDS[i], &options, FIELDS[i].otherwise);
    }
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)request, key, value)
    {
        TRY(read_field(key, value, &options, error));
    }
    if (options.epochs == 0 && options.max_steps == 0 && options.max_seconds <= 0) {
        options.epochs = TRAINING_EPOCHS_DEFAULT;
    }
    if (options.shards == 0) {
        options.shards = options.batch < TRAINING_SHARDS_DEFAULT ? options.batch : TRAINING_SHARDS_DEFAULT;
    }
    if (options.shards > options.batch) {
        error_set(error, STATUS_INVALID, "shards is %zu, but the batch has only %zu rows", options.shards,
                  options.batch);
        if (error) {
            snprintf(error->param, sizeof error->param, "shards");
        }
        return STATUS_INVALID;
    }
    *ret_options = options;
    return STATUS_OK;
}

static json_t *write_number(const struct field *field, double number)
{
    if (!isfinite(number)) {
        return json_null();
    }
    return field->kind == FIELD_NUMBER ? json_real(number) : json_integer((json_int_t)number);
}

json_t *training_options_write(const struct training_options *options)
{
    json_t *json = json_object();
    int failed = json ? 0 : -1;
    for (size_t i = 0; i < FIELDS_COUNT && failed == 0; i++) {
        double number = field_get(&FIELDS[i], options);
        if (!isnan(number) && !(FIELDS[i].is_limit && number <= 0)) {
            failed = json_object_set_new(json, FIELDS[i].name, write_number(&FIELDS[i], number));
        }
    }
    json_t *schedule = options->schedule.every_epochs == 0
                           ? json_string("constant")
                           : json_pack("{s:s, s:I, s:I, s:f}", "name", "step", "after_epochs",
                                       (json_int_t)options->schedule.after_epochs, "every_epochs",
                                       (json_int_t)options->schedule.every_epochs, "factor", options->schedule.factor);
    failed |= json_object_set_new(
        json, "optimizer",
        json_pack("{s:s, s:f}", "name", optimizer_name(options->optimizer), "learning_rate", options->learning_rate));
    failed |= json_object_set_new(json, "schedule", schedule);
    failed |= json_object_set_new(json, "publish", json_string(PUBLISH_NAMES[options->publish]));
    if (failed != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

enum status training_options_complete(const json_t *request, json_t **ret_options, struct error *error)
{
    struct training_options options;
    TRY(training_options_read(request, &options, error));
    json_t *json = training_options_write(&options);
    if (!json) {
        return error_set(error, STATUS_NO_MEMORY, "training options: no memory");
    }
    *ret_options = json;
    return STATUS_OK;
}

static bool may_change_on_resume(const char *key)
{
    static const char *const keys[] = {"epochs", "max_steps", "max_seconds", "checkpoint_seconds", "publish"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(key, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether `asked` says something else than `kept`, which is complete; an object only with the fields it has. */
static bool differs(const json_t *asked, const json_t *kept)
{
    if (json_is_number(asked) && json_is_number(kept)) {
        return !(fabs(json_number_value(asked) - json_number_value(kept)) <= 0);
    }
    if (!json_is_object(asked) || !json_is_object(kept)) {
        return !json_equal(asked, kept);
    }
    const char *key;
    const json_t *item;
    json_object_foreach((json_t *)(uintptr_t)asked, key, item)
    {
        if (differs(item, json_object_get(kept, key))) {
            return true;
        }
    }
    return false;
}

enum status training_options_resume(const json_t *checkpoint, const json_t *request,
                                    struct training_options *ret_options, struct error *error)
{
    struct training_options asked;
    TRY(training_options_read(request, &asked, error));
    json_t *merged = json_copy((json_t *)(uintptr_t)checkpoint);
    int failed = merged ? 0 : -1;
    const char *key;
    const json_t *value;
    if (json_object_get(request, "epochs") || json_object_get(request, "max_steps") ||
        json_object_get(request, "max_seconds")) {
        json_object_del(merged, "epochs");
        json_object_del(merged, "max_steps");
        json_object_del(merged, "max_seconds");
    }
    json_object_foreach((json_t *)(uintptr_t)request, key, value)
    {
        if (may_change_on_resume(key)) {
            failed |= json_object_set(merged, key, (json_t *)(uintptr_t)value);
        } else if (differs(value, json_object_get(checkpoint, key))) {
            enum status status =
                fail(error, STATUS_CONFLICT, key, "differs from the interrupted training's: leave it out to resume");
            error_code(error, "resume_differs");
            json_decref(merged);
            return status;
        }
    }
    enum status status = failed == 0 ? training_options_read(merged, ret_options, error)
                                     : error_set(error, STATUS_NO_MEMORY, "training options: no memory");
    json_decref(merged);
    return status;
}

double training_learning_rate(const struct training_options *options, uint64_t epoch)
{
    const struct schedule *schedule = &options->schedule;
    if (schedule->every_epochs == 0 || epoch <= schedule->after_epochs) {
        return options->learning_rate;
    }
    uint64_t decays = (epoch - schedule->after_epochs) / schedule->every_epochs;
    return options->learning_rate * pow(schedule->factor, (double)decays);
}

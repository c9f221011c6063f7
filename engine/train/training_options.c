/* Reading and writing training options. One table of fields serves checking, defaults and writing. Thread: any. */
#include "engine/train/training_options.h"

#include <assert.h>
#include <math.h>

#include "engine/nn/language_model.h"
#include "engine/nn/presets.h"

enum field_kind { FIELD_SIZE, FIELD_COUNT, FIELD_NUMBER, FIELD_FLAG };
enum field_object { OBJECT_NONE, OBJECT_OPTIMIZER_FIELDS, OBJECT_SCHEDULE_FIELDS };

/* A plain value of the options, perhaps inside an object of them. A limit that is 0 is written as absent. */
struct field {
    enum field_object object;
    const char *name;
    enum field_kind kind;
    size_t offset;
    double least;
    double most;
    double otherwise;
    bool is_above;       /* least itself is not allowed */
    bool is_limit;       /* 0, null: none */
    bool is_endless;     /* infinity, null: none */
    unsigned only_kinds; /* of an object: bits of the optimisers or schedules that have it; 0: all */
};

#define AT(member) offsetof(struct training_options, member)
#define FRACTIONS_MAX 0.95
#define STEP_AT(member) AT(step.optimizer.member)
#define SCHEDULE_AT(member) AT(schedule.member)
#define INTEGER_MAX 9007199254740992.0 /* 2^53: every integer up to it is a double */
#define TOP OBJECT_NONE
#define OPT OBJECT_OPTIMIZER_FIELDS
#define SCH OBJECT_SCHEDULE_FIELDS
#define BIT(kind) (1U << (kind))
#define ADAMS (BIT(OPTIMIZER_ADAM) | BIT(OPTIMIZER_ADAMW))
#define DECAYED_BY_STEPS (BIT(SCHEDULE_EXPONENTIAL) | BIT(SCHEDULE_COSINE))
#define WITH_FACTOR (BIT(SCHEDULE_STEP) | BIT(SCHEDULE_EXPONENTIAL) | BIT(SCHEDULE_PLATEAU))

/* clang-format off */
static const struct field FIELDS[] = {
    {.object = TOP, "batch", FIELD_SIZE, AT(batch), 1, TRAINING_BATCH_MAX, 64},
    {.object = TOP, "sequence_length", FIELD_SIZE, AT(sequence_length), 1, TRAINING_SEQUENCE_LENGTH_MAX, 64},
    {.object = TOP, "shards", FIELD_SIZE, AT(shards), 1, TRAINING_SHARDS_MAX, 0},
    {.object = TOP, "epochs", FIELD_COUNT, AT(epochs), 1, INTEGER_MAX, 0, .is_limit = true},
    {.object = TOP, "max_steps", FIELD_COUNT, AT(max_steps), 1, INTEGER_MAX, 0, .is_limit = true},
    {.object = TOP, "max_seconds", FIELD_NUMBER, AT(max_seconds), 0, 1e9, 0, .is_above = true,
     .is_limit = true},
    {.object = TOP, "clip_norm", FIELD_NUMBER, AT(clip_norm), 0, HUGE_VAL, 5, .is_above = true,
     .is_endless = true},
    {.object = TOP, "clip_value", FIELD_NUMBER, AT(clip_value), 0, HUGE_VAL, HUGE_VAL,
     .is_above = true, .is_endless = true},
    {.object = TOP, "label_smoothing", FIELD_NUMBER, AT(label_smoothing), 0, 0.99, 0},
    {.object = TOP, "gradient_noise", FIELD_NUMBER, AT(gradient_noise), 0, 1000, 0},
    {.object = TOP, "dropout", FIELD_NUMBER, AT(dropout), 0, LANGUAGE_MODEL_DROPOUT_MAX, (double)NAN},
    {.object = TOP, "validation_fraction", FIELD_NUMBER, AT(validation_fraction), 0, 0.9, 0.1},
    {.object = TOP, "test_fraction", FIELD_NUMBER, AT(test_fraction), 0, 0.9, 0},
    {.object = TOP, "seed", FIELD_COUNT, AT(seed), 0, INTEGER_MAX - 1, 1},
    {.object = TOP, "early_stopping", FIELD_COUNT, AT(early_stopping), 1, INTEGER_MAX, 0, .is_limit = true},
    {.object = TOP, "evaluate_every_steps", FIELD_COUNT, AT(evaluate_every_steps), 1, INTEGER_MAX, 0,
     .is_limit = true},
    {.object = TOP, "sample_every_steps", FIELD_COUNT, AT(sample_every_steps), 1, INTEGER_MAX, 0,
     .is_limit = true},
    {.object = TOP, "sample_symbols", FIELD_SIZE, AT(sample_symbols), 1, TRAINING_SAMPLE_SYMBOLS_MAX, 200},
    {.object = TOP, "checkpoint_seconds", FIELD_NUMBER, AT(checkpoint_seconds), 0, 1e9, 60, .is_above = true},

    {.object = OPT, "learning_rate", FIELD_NUMBER, AT(learning_rate), 0, 1000, 0.002, .is_above = true},
    {.object = OPT, "weight_decay", FIELD_NUMBER, AT(weight_decay), 0, 1000, 0,
     .only_kinds = ~BIT(OPTIMIZER_ADAMW)},
    {.object = OPT, "weight_decay", FIELD_NUMBER, AT(weight_decay), 0, 1000, 0.01,
     .only_kinds = BIT(OPTIMIZER_ADAMW)},
    {.object = OPT, "beta1", FIELD_NUMBER, STEP_AT(beta1), 0, 0.999999, 0.9, .only_kinds = ADAMS},
    {.object = OPT, "beta2", FIELD_NUMBER, STEP_AT(beta2), 0, 0.999999, 0.999, .only_kinds = ADAMS},
    {.object = OPT, "epsilon", FIELD_NUMBER, STEP_AT(epsilon), 0, 1, 1e-8, .is_above = true,
     .only_kinds = ADAMS},
    {.object = OPT, "epsilon", FIELD_NUMBER, STEP_AT(epsilon), 0, 1, 1e-10, .is_above = true,
     .only_kinds = BIT(OPTIMIZER_RMSPROP)},
    {.object = OPT, "decay", FIELD_NUMBER, STEP_AT(decay), 0, 0.999999, 0.9,
     .only_kinds = BIT(OPTIMIZER_RMSPROP)},
    {.object = OPT, "centered", FIELD_FLAG, STEP_AT(is_centered), 0, 1, 0,
     .only_kinds = BIT(OPTIMIZER_RMSPROP)},
    {.object = OPT, "momentum", FIELD_NUMBER, STEP_AT(momentum), 0, 0.999999, 0,
     .only_kinds = BIT(OPTIMIZER_RMSPROP)},
    {.object = OPT, "momentum", FIELD_NUMBER, STEP_AT(momentum), 0, 0.999999, 0.9,
     .only_kinds = BIT(OPTIMIZER_MOMENTUM)},
    {.object = OPT, "use_nesterov", FIELD_FLAG, STEP_AT(uses_nesterov), 0, 1, 0,
     .only_kinds = BIT(OPTIMIZER_MOMENTUM)},
    {.object = OPT, "initial_accumulator_value", FIELD_NUMBER, STEP_AT(initial_accumulator), 0, 1000, 1,
     .only_kinds = BIT(OPTIMIZER_RMSPROP)},
    {.object = OPT, "initial_accumulator_value", FIELD_NUMBER, STEP_AT(initial_accumulator), 0, 1000, 0.1,
     .is_above = true,
     .only_kinds = BIT(OPTIMIZER_ADAGRAD)},

    {.object = SCH, "warmup_steps", FIELD_COUNT, SCHEDULE_AT(warmup_steps), 0, INTEGER_MAX, 0},
    {.object = SCH, "after_epochs", FIELD_COUNT, SCHEDULE_AT(after_epochs), 0, INTEGER_MAX, 10,
     .only_kinds = BIT(SCHEDULE_STEP)},
    {.object = SCH, "every_epochs", FIELD_COUNT, SCHEDULE_AT(every_epochs), 1, INTEGER_MAX, 5,
     .only_kinds = BIT(SCHEDULE_STEP)},
    {.object = SCH, "factor", FIELD_NUMBER, SCHEDULE_AT(factor), 0, 1, 0.5,
     .is_above = true, .only_kinds = WITH_FACTOR},
    {.object = SCH, "decay_steps", FIELD_COUNT, SCHEDULE_AT(decay_steps), 1, INTEGER_MAX, 1000,
     .only_kinds = BIT(SCHEDULE_EXPONENTIAL)},
    {.object = SCH, "decay_steps", FIELD_COUNT, SCHEDULE_AT(decay_steps), 1, INTEGER_MAX, 0, .is_limit = true,
     .only_kinds = BIT(SCHEDULE_COSINE)},
    {.object = SCH, "final_fraction", FIELD_NUMBER, SCHEDULE_AT(final_fraction), 0, 1, 0,
     .only_kinds = BIT(SCHEDULE_COSINE)},
    {.object = SCH, "patience", FIELD_COUNT, SCHEDULE_AT(patience), 0, INTEGER_MAX, 3,
     .only_kinds = BIT(SCHEDULE_PLATEAU)},
    {.object = SCH, "threshold", FIELD_NUMBER, SCHEDULE_AT(threshold), 0, 0.99, 1e-4,
     .only_kinds = BIT(SCHEDULE_PLATEAU)},
    {.object = SCH, "least_rate", FIELD_NUMBER, SCHEDULE_AT(least_rate), 0, 1000, 0,
     .only_kinds = BIT(SCHEDULE_PLATEAU)},
};
/* clang-format on */
enum { FIELDS_COUNT = sizeof FIELDS / sizeof FIELDS[0] };

static const char *const OBJECT_NAMES[] = {[TOP] = "training", [OPT] = "optimizer", [SCH] = "schedule"};
static const char *const PUBLISH_NAMES[] = {"end", "best", "checkpoints", "never"};
static_assert(sizeof PUBLISH_NAMES / sizeof PUBLISH_NAMES[0] == PUBLISH_COUNT, "one name each");

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

/* ---- single fields ---- */

static void field_set(const struct field *field, struct training_options *options, double number)
{
    char *place = (char *)options + field->offset;
    bool is_whole = field->kind == FIELD_SIZE || field->kind == FIELD_COUNT; /* others may be infinite */
    uint64_t count = is_whole ? (uint64_t)number : 0;
    size_t size = (size_t)count;
    bool flag = number > 0;
    switch (field->kind) {
    case FIELD_SIZE: memcpy(place, &size, sizeof size); break;
    case FIELD_COUNT: memcpy(place, &count, sizeof count); break;
    case FIELD_NUMBER: memcpy(place, &number, sizeof number); break;
    case FIELD_FLAG: memcpy(place, &flag, sizeof flag); break;
    }
}

static double field_get(const struct field *field, const struct training_options *options)
{
    const char *place = (const char *)options + field->offset;
    size_t size;
    uint64_t count;
    double number = 0;
    bool flag;
    switch (field->kind) {
    case FIELD_SIZE: memcpy(&size, place, sizeof size); return (double)size;
    case FIELD_COUNT: memcpy(&count, place, sizeof count); return (double)count;
    case FIELD_NUMBER: memcpy(&number, place, sizeof number); return number;
    case FIELD_FLAG: memcpy(&flag, place, sizeof flag); return flag ? 1 : 0;
    }
    return 0;
}

/* Whether options have the field: an object's may depend on its kind. */
static bool is_of(const struct field *field, enum field_object object, const struct training_options *options)
{
    unsigned kind = object == OPT ? BIT(options->step.optimizer.kind) : BIT(options->schedule.kind);
    return field->object == object && (field->only_kinds == 0 || (field->only_kinds & kind) != 0);
}

static void set_defaults(enum field_object object, struct training_options *options)
{
    for (size_t i = 0; i < FIELDS_COUNT; i++) {
        if (is_of(&FIELDS[i], object, options)) {
            field_set(&FIELDS[i], options, FIELDS[i].otherwise);
        }
    }
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

static enum status read_value(const struct field *field, const char *param, const json_t *value,
                              struct training_options *options, struct error *error)
{
    double number = field->is_limit ? 0 : HUGE_VAL;
    if (field->kind == FIELD_FLAG) {
        if (!json_is_boolean(value)) {
            return fail(error, STATUS_INVALID, param, "must be true or false");
        }
        number = json_is_true(value) ? 1 : 0;
    } else if (!json_is_null(value) || !(field->is_limit || field->is_endless)) {
        TRY(read_number(field, param, value, &number, error));
    }
    field_set(field, options, number);
    return STATUS_OK;
}

/* A field of the options or of an object in them. */
static enum status read_field(enum field_object object, const char *key, const json_t *value,
                              struct training_options *options, struct error *error)
{
    char param[ERROR_PLACE_BYTES_MAX];
    char message[64];
    snprintf(param, sizeof param, "%s%s%.80s", object == TOP ? "" : OBJECT_NAMES[object], object == TOP ? "" : ".",
             key);
    for (size_t i = 0; i < FIELDS_COUNT; i++) {
        if (is_of(&FIELDS[i], object, options) && strcmp(key, FIELDS[i].name) == 0) {
            return read_value(&FIELDS[i], param, value, options, error);
        }
    }
    snprintf(message, sizeof message, "is not a field of %s %s", object == TOP ? "a" : "this", OBJECT_NAMES[object]);
    return fail(error, STATUS_INVALID, param, message);
}

static enum status read_rest(enum field_object object, const json_t *value, struct training_options *options,
                             struct error *error)
{
    const char *key;
    const json_t *item;
    set_defaults(object, options);
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        if (strcmp(key, "name") != 0) {
            TRY(read_field(object, key, item, options, error));
        }
    }
    return STATUS_OK;
}

/* ---- what is more than a number ---- */

static enum status read_optimizer(const json_t *value, struct training_options *options, struct error *error)
{
    enum optimizer_kind kind = OPTIMIZER_ADAM;
    const json_t *name = json_object_get(value, "name");
    if (!json_is_object(value)) {
        return fail(error, STATUS_INVALID, "optimizer",
                    "must be an object: {\"name\":\"adam\",\"learning_rate\":0.002}");
    }
    if (name && !json_is_string(name)) {
        return fail(error, STATUS_INVALID, "optimizer.name", "must be a string: adam or sgd");
    }
    if (name && !optimizer_kind_from_name(json_string_value(name), &kind)) {
        return fail(error, STATUS_UNSUPPORTED, "optimizer.name",
                    "is not one that is built: adam, adamw, sgd, momentum, rmsprop, adagrad");
    }
    options->step = train_step_defaults(kind);
    return read_rest(OPT, value, options, error);
}

static enum status read_schedule(const json_t *value, struct training_options *options, struct error *error)
{
    const char *name = json_string_value(json_is_object(value) ? json_object_get(value, "name") : value);
    if (!name) {
        return fail(error, STATUS_INVALID, "schedule", "must be \"constant\" or an object with a name");
    }
    if (!schedule_kind_from_name(name, &options->schedule.kind)) {
        return fail(error, STATUS_UNSUPPORTED, "schedule",
                    "is not one that is built: constant, step, exponential, cosine, plateau");
    }
    return read_rest(SCH, json_is_object(value) ? value : NULL, options, error);
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

static enum status read_option(const char *key, const json_t *value, struct training_options *options,
                               struct error *error)
{
    if (strcmp(key, "optimizer") == 0) {
        return read_optimizer(value, options, error);
    }
    if (strcmp(key, "schedule") == 0) {
        return read_schedule(value, options, error);
    }
    if (strcmp(key, "publish") == 0) {
        return read_publish(value, &options->publish, error);
    }
    return read_field(TOP, key, value, options, error);
}

/* ---- all of them ---- */

/* What follows from the numbers, and what they must not be together. */
static enum status settle(struct training_options *options, struct error *error)
{
    char message[96];
    if (options->epochs == 0 && options->max_steps == 0 && options->max_seconds <= 0) {
        options->epochs = TRAINING_EPOCHS_DEFAULT;
    }
    if (options->validation_fraction + options->test_fraction > FRACTIONS_MAX) {
        return fail(error, STATUS_INVALID, "test_fraction", "and validation_fraction leave less than 5 % to train on");
    }
    if (options->shards == 0) {
        options->shards = options->batch < TRAINING_SHARDS_DEFAULT ? options->batch : TRAINING_SHARDS_DEFAULT;
    }
    if (options->shards > options->batch) {
        snprintf(message, sizeof message, "is %zu, but the batch has only %zu rows", options->shards, options->batch);
        return fail(error, STATUS_INVALID, "shards", message);
    }
    bool has_end = options->epochs > 0 || options->max_steps > 0;
    if (options->schedule.kind == SCHEDULE_COSINE && options->schedule.decay_steps == 0 && !has_end) {
        return fail(error, STATUS_INVALID, "schedule.decay_steps",
                    "must be given: max_seconds alone does not say how many steps there will be");
    }
    options->step.clips_values = isfinite(options->clip_value);
    options->step.adds_noise = options->gradient_noise > 0;
    options->step.decays_weights = options->step.optimizer.kind == OPTIMIZER_ADAMW || options->weight_decay > 0;
    return STATUS_OK;
}

static enum status read_all(const json_t *request, struct training_options *options, struct error *error)
{
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)request, key, value)
    {
        TRY(read_option(key, value, options, error));
    }
    return settle(options, error);
}

enum status training_options_read(const json_t *request, struct training_options *ret_options, struct error *error)
{
    if (!json_is_object(request)) {
        return error_set(error, STATUS_INVALID, "training options must be a JSON object");
    }
    struct training_options options = {
        .step = train_step_defaults(OPTIMIZER_ADAM), .schedule = {.kind = SCHEDULE_STEP}, .publish = PUBLISH_END};
    json_t *whole;
    for (int object = TOP; object <= SCH; object++) {
        set_defaults((enum field_object)object, &options);
    }
    TRY(preset_expand(request, PRESET_TRAINING, &whole, error));
    enum status status = read_all(whole, &options, error);
    json_decref(whole);
    TRY(status);
    *ret_options = options;
    return STATUS_OK;
}

static json_t *write_value(const struct field *field, double number)
{
    if (field->kind == FIELD_FLAG) {
        return json_boolean(number > 0);
    }
    if (!isfinite(number)) {
        return json_null();
    }
    return field->kind == FIELD_NUMBER ? json_real(number) : json_integer((json_int_t)number);
}

/* An object with its kind's name, or the options' own fields. */
static json_t *write_object(enum field_object object, const char *name, const struct training_options *options)
{
    json_t *json = json_object();
    int failed = json ? 0 : -1;
    if (name) {
        failed |= json_object_set_new(json, "name", json_string(name));
    }
    for (size_t i = 0; i < FIELDS_COUNT && failed == 0; i++) {
        double number = field_get(&FIELDS[i], options);
        if (is_of(&FIELDS[i], object, options) && !isnan(number) && !(FIELDS[i].is_limit && number <= 0)) {
            failed = json_object_set_new(json, FIELDS[i].name, write_value(&FIELDS[i], number));
        }
    }
    if (failed != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

json_t *training_options_write(const struct training_options *options)
{
    json_t *json = write_object(TOP, NULL, options);
    json_t *optimizer = write_object(OPT, optimizer_name(options->step.optimizer.kind), options);
    json_t *schedule = write_object(SCH, schedule_name(options->schedule.kind), options);
    int failed = json_object_set_new(json, "optimizer", optimizer);
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

/* The options of lstmd train. Thread: main. Owns nothing. */
#include "daemon/train_arguments.h"

#include "daemon/commands.h"
#include "engine/base/check.h"
#include "engine/engine.h"

static const char SYNOPSIS[] = "CORPUS… --out MODELS/NAME [OPTION]…";

static const struct option_row ROWS[] = {
    {"out", OPTION_TEXT, "MODELS/NAME", NULL, "the model's directory; the result becomes its next version"},
    {"preset", OPTION_TEXT, "NAME", NULL,
     "published hyperparameters, under what else is given: char-rnn, torch-rnn, anna, ptb-small, -medium, -large"},
    {"layers", OPTION_COUNT, "N", "2", "recurrent layers"},
    {"units", OPTION_COUNT, "N", "128", "units of a layer"},
    {"cell", OPTION_TEXT, "KIND", "lstm", "lstm, gru or rnn"},
    {"embedding", OPTION_COUNT, "N", NULL, "size of a symbol's embedding; without it symbols go in one-hot"},
    {"tie", OPTION_FLAG, NULL, NULL, "the output's weights are the embedding's; needs --embedding equal to --units"},
    {"residual", OPTION_FLAG, NULL, NULL, "every layer but the first gives its output plus its input"},
    {"forget-bias", OPTION_NUMBER, "B", "1", "added to an lstm's forget gate"},
    {"initial-range", OPTION_NUMBER, "R", NULL,
     "weights begin uniform from -R to R; without it as TensorFlow's do (Glorot)"},
    {"vocabulary", OPTION_TEXT, "KIND", "characters", "characters, bytes or words"},
    {"min-count", OPTION_COUNT, "N", NULL, "words that come less often are \"<unk>\""},
    {"max-size", OPTION_COUNT, "N", NULL, "so many words at most, the most frequent ones; the others are \"<unk>\""},
    {"batch", OPTION_COUNT, "N", "64", "rows of a batch"},
    {"sequence-length", OPTION_COUNT, "N", "64", "symbols of a row between two updates"},
    {"epochs", OPTION_COUNT, "N", NULL, "passes over the text; 50 without any limit"},
    {"max-steps", OPTION_COUNT, "N", NULL, "updates; of several limits the first one counts"},
    {"max-seconds", OPTION_NUMBER, "N", NULL, "time, over all resumes"},
    {"early-stopping", OPTION_COUNT, "N", NULL, "ends after so many evaluations without a better loss"},
    {"optimizer", OPTION_TEXT, "NAME", "adam", "adam, adamw, sgd, momentum, rmsprop or adagrad"},
    {"learning-rate", OPTION_NUMBER, "R", "0.002", "how far an update goes, at the beginning"},
    {"weight-decay", OPTION_NUMBER, "D", NULL, "of every weight; of adamw apart from its gradient, and 0.01"},
    {"beta1", OPTION_NUMBER, "B", NULL, "of adam and adamw, 0.9"},
    {"beta2", OPTION_NUMBER, "B", NULL, "of adam and adamw, 0.999"},
    {"epsilon", OPTION_NUMBER, "E", NULL, "of adam and adamw, 1e-8; of rmsprop, 1e-10"},
    {"momentum", OPTION_NUMBER, "M", NULL, "of momentum, 0.9; of rmsprop, 0"},
    {"use-nesterov", OPTION_FLAG, NULL, NULL, "of momentum"},
    {"decay", OPTION_NUMBER, "D", NULL, "of rmsprop, 0.9"},
    {"centered", OPTION_FLAG, NULL, NULL, "of rmsprop"},
    {"initial-accumulator-value", OPTION_NUMBER, "A", NULL, "of adagrad, 0.1; of rmsprop's mean squares, 1"},
    {"schedule", OPTION_TEXT, "NAME", "step", "of the rate: constant, step, exponential, cosine or plateau"},
    {"warmup-steps", OPTION_COUNT, "N", NULL, "the rate rises over so many steps, whatever the schedule"},
    {"after-epochs", OPTION_COUNT, "N", NULL, "of step, 10"},
    {"every-epochs", OPTION_COUNT, "N", NULL, "of step, 5"},
    {"factor", OPTION_NUMBER, "F", NULL, "of step, exponential and plateau, 0.5: what the rate is multiplied by"},
    {"decay-steps", OPTION_COUNT, "N", NULL, "of exponential, 1000, for one factor; of cosine, all steps"},
    {"final-fraction", OPTION_NUMBER, "F", NULL, "of cosine, 0: what of the rate is left"},
    {"patience", OPTION_COUNT, "N", NULL, "of plateau, 3: evaluations without progress that are borne"},
    {"threshold", OPTION_NUMBER, "T", NULL, "of plateau, 0.0001: the share a loss must fall by to be progress"},
    {"least-rate", OPTION_NUMBER, "R", NULL, "of plateau, 0"},
    {"clip-norm", OPTION_NUMBER, "N", "5", "gradients are scaled down to this global norm"},
    {"clip-value", OPTION_NUMBER, "N", NULL, "each element of the gradients is cut to this"},
    {"label-smoothing", OPTION_NUMBER, "P", "0", "share of a target that is spread over all symbols"},
    {"gradient-noise", OPTION_NUMBER, "V", "0", "variance of noise on the gradients, falling with the steps"},
    {"dropout", OPTION_NUMBER, "P", "0", "share of the connections between layers that are dropped"},
    {"input-dropout", OPTION_FLAG, NULL, NULL, "drops those from the embedding, too"},
    {"variational-dropout", OPTION_FLAG, NULL, NULL, "drops the same ones at every step of a sequence"},
    {"validation-fraction", OPTION_NUMBER, "P", "0.1",
     "share of the text, at its end, that is held back; the best weights on it are kept"},
    {"validation", OPTION_LIST, "FILE", NULL, "a text, or several, of its own for that"},
    {"test-fraction", OPTION_NUMBER, "P", "0", "share of the text, at its very end, for a test of the result"},
    {"test", OPTION_LIST, "FILE", NULL, "a text, or several, of its own for that"},
    {"evaluate-every-steps", OPTION_COUNT, "N", NULL, "measures the validation loss so often, not only after epochs"},
    {"sample-every-steps", OPTION_COUNT, "N", NULL, "shows so often what the model writes"},
    {"sample-symbols", OPTION_COUNT, "N", "200", "length of that"},
    {"checkpoint-seconds", OPTION_NUMBER, "N", "60", "how often the state is kept to resume from"},
    {"seed", OPTION_COUNT, "N", "1", "of initial weights, dropout and noise"},
    {"threads", OPTION_COUNT, "N", NULL, "all CPUs we may use; the result does not depend on it"},
    {"shards", OPTION_COUNT, "N", "2",
     "parts of a batch that threads work on; the last bits of the result depend on it"},
    {"resume", OPTION_FLAG, NULL, NULL, "goes on with the interrupted training in the directory"},
    {"from", OPTION_TEXT, "MODELS/NAME[@VERSION]", NULL, "begins with that version's weights and vocabulary"},
    {"vocabulary-policy", OPTION_TEXT, "POLICY", "fixed",
     "of --from, for symbols it lacks: fixed (refused), extend (new rows), or bytes (it becomes all bytes)"},
    {"logdir", OPTION_TEXT, "DIR", NULL, "writes what TensorBoard shows, and history.csv, there"},
    {"json", OPTION_FLAG, NULL, NULL, "prints JSON lines, on a terminal too"},
};
enum { ROW_COUNT = sizeof ROWS / sizeof ROWS[0] };
static_assert(sizeof ROWS / sizeof ROWS[0] <= OPTIONS_MAX, "a table that options_parse takes");

/* Which options are whose fields. */
static const char *const TRAINING[] = {"batch",
                                       "sequence-length",
                                       "epochs",
                                       "max-steps",
                                       "max-seconds",
                                       "early-stopping",
                                       "clip-norm",
                                       "clip-value",
                                       "label-smoothing",
                                       "gradient-noise",
                                       "dropout",
                                       "validation-fraction",
                                       "test-fraction",
                                       "seed",
                                       "evaluate-every-steps",
                                       "sample-every-steps",
                                       "sample-symbols",
                                       "checkpoint-seconds",
                                       "shards",
                                       "preset",
                                       NULL};
static const char *const OPTIMIZER[] = {"learning-rate",
                                        "weight-decay",
                                        "beta1",
                                        "beta2",
                                        "epsilon",
                                        "momentum",
                                        "use-nesterov",
                                        "decay",
                                        "centered",
                                        "initial-accumulator-value",
                                        NULL};
static const char *const SCHEDULE[] = {"warmup-steps",   "after-epochs", "every-epochs", "factor",     "decay-steps",
                                       "final-fraction", "patience",     "threshold",    "least-rate", NULL};
static const char *const LIMITS[] = {"min-count", "max-size", NULL};
static const char *const MODEL[] = {
    "cell",        "layers",        "units",         "embedding",           "tie",     "residual",
    "forget-bias", "initial-range", "input-dropout", "variational-dropout", "dropout", "preset",
    NULL};

struct training_start train_arguments_start(const struct options *options)
{
    struct training_start start = {.version_path = NULL};
    bool has_policy = vocabulary_policy_find(options_text(options, "vocabulary-policy"), &start.policy);
    CHECK(has_policy); /* train_arguments_check has seen to it */
    start.limits.min_count = options_is_given(options, "min-count") ? options_count(options, "min-count") : 0;
    start.limits.max_size = options_is_given(options, "max-size") ? options_count(options, "max-size") : 0;
    return start;
}

bool train_arguments_parse(struct options *options, int argc, char **argv, int *ret_exit_status)
{
    return command_parse(options, ROWS, ROW_COUNT, SYNOPSIS, 1, OPTIONS_POSITIONAL_MAX, argc, argv, ret_exit_status);
}

/* ---- JSON ---- */

static json_t *option_json(const struct options *options, const struct option_row *row)
{
    if (row->kind == OPTION_FLAG) {
        return json_true();
    }
    return row->kind == OPTION_COUNT    ? json_integer((json_int_t)options_count(options, row->name))
           : row->kind == OPTION_NUMBER ? json_real(options_number(options, row->name))
                                        : json_string(options_text(options, row->name));
}

enum { FIELD_BYTES_MAX = 64 };

/* An option's JSON name: with underscores. */
static const char *field_of(const char *option, char field[FIELD_BYTES_MAX])
{
    snprintf(field, FIELD_BYTES_MAX, "%s", option);
    for (char *at = field; *at != '\0'; at++) {
        *at = *at == '-' ? '_' : *at;
    }
    return field;
}

/* Those of `names` that were given, under their JSON names. */
static json_t *given(const struct options *options, const char *const *names)
{
    json_t *object = json_object();
    for (; *names; names++) {
        char field[FIELD_BYTES_MAX];
        if (!options_is_given(options, *names)) {
            continue;
        }
        field_of(*names, field);
        for (size_t row = 0; row < ROW_COUNT; row++) {
            if (strcmp(ROWS[row].name, *names) == 0) {
                json_object_set_new(object, field, option_json(options, &ROWS[row]));
            }
        }
    }
    return object;
}

/* Adds an object of the given fields, of the kind that `option` names; a preset's or the usual one otherwise. */
static void put_object(const struct options *options, const char *option, const char *const *names, json_t *request)
{
    json_t *object = given(options, names);
    bool is_said = options_is_given(options, option);
    if (is_said || (json_object_size(object) > 0 && !options_is_given(options, "preset"))) {
        json_object_set_new(object, "name", json_string(options_text(options, option)));
    }
    if (json_object_size(object) > 0) {
        json_object_set(request, option, object);
    }
    json_decref(object);
}

json_t *train_arguments_request(const struct options *options)
{
    json_t *request = given(options, TRAINING);
    put_object(options, "optimizer", OPTIMIZER, request);
    put_object(options, "schedule", SCHEDULE, request);
    return request;
}

/* A preset has a vocabulary of its own, or the usual one. */
json_t *train_arguments_model(const struct options *options)
{
    json_t *specification = given(options, MODEL);
    json_t *vocabulary = given(options, LIMITS);
    if (options_is_given(options, "vocabulary") || !options_is_given(options, "preset")) {
        json_object_set_new(vocabulary, "kind", json_string(options_text(options, "vocabulary")));
    }
    if (json_object_size(vocabulary) > 0) {
        json_object_set(specification, "vocabulary", vocabulary);
    }
    json_decref(vocabulary);
    return specification;
}

/* The same with what the preset has beside. */
static enum status expand_model(const struct options *options, json_t **ret_model, struct error *error)
{
    json_t *specification = train_arguments_model(options);
    enum status status = preset_expand(specification, PRESET_MODEL, ret_model, error);
    json_decref(specification);
    return status;
}

static const char *vocabulary_kind_of(const json_t *model)
{
    return json_string_value(json_object_get(json_object_get(model, "vocabulary"), "kind"));
}

/* ---- checks ---- */

static enum status check_kind(const struct options *options, const char *option, const char *const *known,
                              const char *expected, struct error *error)
{
    const char *kind = options_text(options, option);
    for (size_t i = 0; known[i]; i++) {
        if (strcmp(kind, known[i]) == 0) {
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_INVALID, "--%s %.40s: %s", option, kind, expected);
}

/* Words alone are counted. */
static enum status check_limits(const struct options *options, struct error *error)
{
    bool is_extended = strcmp(options_text(options, "vocabulary-policy"), "extend") == 0;
    const char *given_limit = options_is_given(options, "min-count")  ? "min-count"
                              : options_is_given(options, "max-size") ? "max-size"
                                                                      : NULL;
    if (given_limit == NULL || is_extended) {
        return STATUS_OK;
    }
    json_t *model = NULL;
    TRY(expand_model(options, &model, error));
    const char *kind = vocabulary_kind_of(model);
    bool has_words = kind != NULL && strcmp(kind, "words") == 0;
    json_decref(model);
    bool has_model = options_is_given(options, "from") || options_is_given(options, "resume");
    if (has_model && !options_is_given(options, "vocabulary")) {
        return STATUS_OK; /* train_arguments_check_model says what is wrong */
    }
    return has_words ? STATUS_OK : error_set(error, STATUS_INVALID, "--%s is for --vocabulary words", given_limit);
}

enum status train_arguments_check(const struct options *options, struct model_reference *ret_out, struct error *error)
{
    static const char *const cells[] = {"lstm", "gru", "rnn", NULL};
    static const char *const vocabularies[] = {"characters", "bytes", "words", NULL};
    struct model_reference out;
    if (!options_text(options, "out")) {
        return error_set(error, STATUS_INVALID, "--out MODELS/NAME is missing");
    }
    TRY(model_reference_parse(options_text(options, "out"), &out, error));
    if (out.version > 0) {
        return error_set(error, STATUS_INVALID, "--out takes no version: the next free one is made");
    }
    if (options_is_given(options, "resume") && options_is_given(options, "from")) {
        return error_set(error, STATUS_INVALID, "--resume and --from exclude each other");
    }
    TRY(check_kind(options, "cell", cells, "lstm, gru or rnn", error));
    TRY(check_kind(options, "vocabulary", vocabularies, "characters, bytes or words", error));
    enum vocabulary_policy policy;
    if (!vocabulary_policy_find(options_text(options, "vocabulary-policy"), &policy)) {
        return error_set(error, STATUS_INVALID, "--vocabulary-policy %.40s: fixed, extend or bytes",
                         options_text(options, "vocabulary-policy"));
    }
    if (options_is_given(options, "vocabulary-policy") && !options_is_given(options, "from")) {
        return error_set(error, STATUS_INVALID, "--vocabulary-policy is for --from");
    }
    TRY(check_limits(options, error));
    *ret_out = out;
    return STATUS_OK;
}

/* ---- a model that is there already ---- */

enum { VALUE_BYTES_MAX = 64 };

/* For people: "2", "lstm"; of nothing "none". */
static const char *describe_value(const json_t *value, char text[VALUE_BYTES_MAX])
{
    if (json_is_string(value)) {
        snprintf(text, VALUE_BYTES_MAX, "%s", json_string_value(value));
    } else if (json_is_number(value)) {
        snprintf(text, VALUE_BYTES_MAX, "%.6g", json_number_value(value));
    } else {
        snprintf(text, VALUE_BYTES_MAX, "%s", json_is_true(value) ? "it" : "none");
    }
    return text;
}

static bool is_same_value(const json_t *asked, const json_t *there)
{
    if (json_is_number(asked) && json_is_number(there)) {
        return !(json_number_value(asked) < json_number_value(there)) &&
               !(json_number_value(asked) > json_number_value(there));
    }
    bool is_absent = json_is_null(asked) || json_is_false(asked);
    return json_equal(asked, there) || (is_absent && (there == NULL || json_is_null(there) || json_is_false(there)));
}

/* An option, or the field of the preset, that the model does not have so. */
static enum status refuse_value(const struct options *options, const char *option, const json_t *asked,
                                const json_t *there, struct error *error)
{
    char wanted[VALUE_BYTES_MAX];
    char had[VALUE_BYTES_MAX];
    const char *whose =
        options_is_given(options, "resume") ? "the model of the interrupted training" : "the model of --from";
    describe_value(asked, wanted);
    describe_value(there, had);
    if (!options_is_given(options, option)) {
        return error_set(error, STATUS_CONFLICT,
                         "--preset %s: %s is %s in it, and %s has %s: give what else it stands for one by one",
                         options_text(options, "preset"), option, wanted, whose, had);
    }
    bool is_flag = json_is_boolean(asked);
    return error_set(error, STATUS_CONFLICT, "--%s%s%s: %s has %s: leave it out", option, is_flag ? "" : " ",
                     is_flag ? "" : wanted, whose, had);
}

/* The words or characters of the text. */
static enum status check_vocabulary(const struct options *options, const json_t *asked, const json_t *architecture,
                                    struct error *error)
{
    const char *policy = options_text(options, "vocabulary-policy");
    json_t *vocabulary = json_object_get(asked, "vocabulary");
    json_t *there = json_object_get(json_object_get(architecture, "vocabulary"), "kind");
    json_t *bytes = json_string("bytes");
    json_t *kind = json_object_get(vocabulary, "kind");
    bool is_said = options_is_given(options, "vocabulary") || options_is_given(options, "preset");
    enum status status = STATUS_OK;
    there = strcmp(policy, "bytes") == 0 ? bytes : there;
    if (is_said && kind != NULL && !json_equal(kind, there)) {
        status = refuse_value(options, "vocabulary", kind, there, error);
    }
    for (size_t i = 0; status == STATUS_OK && LIMITS[i] != NULL && strcmp(policy, "extend") != 0; i++) {
        if (options_is_given(options, LIMITS[i])) {
            status = error_set(
                error, STATUS_CONFLICT, "--%s: the model has its vocabulary already: leave it out%s", LIMITS[i],
                options_is_given(options, "from") ? ", or take in new words by --vocabulary-policy extend" : "");
        }
    }
    json_decref(bytes);
    return status;
}

enum status train_arguments_check_model(const struct options *options, const json_t *architecture, struct error *error)
{
    json_t *asked = NULL;
    TRY(expand_model(options, &asked, error));
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && MODEL[i] != NULL; i++) {
        char field[FIELD_BYTES_MAX];
        const json_t *value = json_object_get(asked, field_of(MODEL[i], field));
        const json_t *there = json_object_get(architecture, field);
        bool begins_nothing = strcmp(field, "initial_range") == 0 && !options_is_given(options, MODEL[i]);
        bool is_trainings = strcmp(field, "dropout") == 0; /* a field of the training, too, and has its effect there */
        if (value != NULL && !begins_nothing && !is_trainings && !is_same_value(value, there)) {
            status = refuse_value(options, MODEL[i], value, there, error);
        }
    }
    if (status == STATUS_OK) {
        status = check_vocabulary(options, asked, architecture, error);
    }
    json_decref(asked);
    return status;
}

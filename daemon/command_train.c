/* lstmd train: a model from a text, written as the next version of a model directory. Thread: main, which trains; a
 * signal handler asks it to stop. */
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "daemon/commands.h"
#include "daemon/model_reference.h"
#include "daemon/progress_bar.h"
#include "engine/base/clock.h"
#include "engine/engine.h"

static const char SYNOPSIS[] = "CORPUS… --out MODELS/NAME [OPTION]…";
static const double LINE_SECONDS = 5; /* between two progress lines of JSON, besides evaluations */

static const struct option_row ROWS[] = {
    {"out", OPTION_TEXT, "MODELS/NAME", NULL, "the model's directory; the result becomes its next version"},
    {"layers", OPTION_COUNT, "N", "2", "recurrent layers"},
    {"units", OPTION_COUNT, "N", "128", "units of a layer"},
    {"cell", OPTION_TEXT, "KIND", "lstm", "lstm, gru or rnn"},
    {"embedding", OPTION_COUNT, "N", NULL, "size of a symbol's embedding; without it symbols go in one-hot"},
    {"tie", OPTION_FLAG, NULL, NULL, "the output's weights are the embedding's; needs --embedding equal to --units"},
    {"vocabulary", OPTION_TEXT, "KIND", "characters", "characters or bytes"},
    {"batch", OPTION_COUNT, "N", "64", "rows of a batch"},
    {"sequence-length", OPTION_COUNT, "N", "64", "symbols of a row between two updates"},
    {"epochs", OPTION_COUNT, "N", NULL, "passes over the text; 50 without any limit"},
    {"max-steps", OPTION_COUNT, "N", NULL, "updates; of several limits the first one counts"},
    {"max-seconds", OPTION_NUMBER, "N", NULL, "time, over all resumes"},
    {"optimizer", OPTION_TEXT, "NAME", "adam", "adam, sgd, momentum, rmsprop or adagrad"},
    {"learning-rate", OPTION_NUMBER, "R", "0.002", "how far an update goes, at the beginning"},
    {"schedule", OPTION_TEXT, "NAME", "step", "step: halved every 5 epochs after the 10th; or constant"},
    {"clip-norm", OPTION_NUMBER, "N", "5", "gradients are scaled down to this global norm"},
    {"dropout", OPTION_NUMBER, "P", "0", "share of the connections between layers that are dropped"},
    {"validation-fraction", OPTION_NUMBER, "P", "0.1",
     "share of the text, at its end, that is held back; the best weights on it are kept"},
    {"evaluate-every-steps", OPTION_COUNT, "N", NULL, "measures the validation loss so often, not only after epochs"},
    {"checkpoint-seconds", OPTION_NUMBER, "N", "60", "how often the state is kept to resume from"},
    {"seed", OPTION_COUNT, "N", "1", "of initial weights and dropout"},
    {"threads", OPTION_COUNT, "N", NULL, "all CPUs we may use; the result does not depend on it"},
    {"shards", OPTION_COUNT, "N", "2",
     "parts of a batch that threads work on; the last bits of the result depend on it"},
    {"resume", OPTION_FLAG, NULL, NULL, "goes on with the interrupted training in the directory"},
    {"from", OPTION_TEXT, "MODELS/NAME[@VERSION]", NULL, "begins with that version's weights and vocabulary"},
    {"preset", OPTION_TEXT, "NAME", NULL, "not built yet"},
    {"logdir", OPTION_TEXT, "DIR", NULL, "not built yet"},
    {"json", OPTION_FLAG, NULL, NULL, "prints JSON lines, on a terminal too"},
};
enum { ROW_COUNT = sizeof ROWS / sizeof ROWS[0] };

struct command {
    struct options options;
    struct model_reference out;
    bool prints_json;
    struct progress_bar bar;
    uint64_t line_ns; /* when the last progress line was printed */
    char command_line[2048];
};

/* ---- signals ---- */

static _Atomic(struct training_job *) running_job;
static volatile sig_atomic_t signal_count;

static void on_signal(int number)
{
    struct training_job *job = atomic_load(&running_job);
    if (signal_count++ > 0 || job == NULL) {
        _exit(128 + number);
    }
    training_job_stop(job);
}

static void watch_signals(struct training_job *job)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    atomic_store(&running_job, job);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- telling ---- */

/* Takes the reference. */
static void print_json_line(json_t *json)
{
    struct error error;
    if (command_print_json(json, 6, &error) != STATUS_OK) {
        command_fail("train", &error);
    }
    json_decref(json);
}

static void print_bar(struct command *command, const struct training_event *event)
{
    char text[PROGRESS_BAR_TEXT_BYTES_MAX];
    char left[PROGRESS_BAR_TIME_BYTES_MAX];
    char validation[64] = "";
    if (isfinite(event->validation_loss)) {
        snprintf(validation, sizeof validation, "  valid %.3f", event->validation_loss);
    }
    const char *time = progress_bar_time(event->seconds_left, left);
    snprintf(text, sizeof text, "epoch %.2f  loss %.3f%s  %.1f k/s  %s%s", event->epoch, event->train_loss, validation,
             event->symbols_per_second * 1e-3, time, time[0] ? " left" : "");
    progress_bar_draw(&command->bar, event->fraction_done, text);
}

static void print_evaluation(struct command *command, const struct training_event *event)
{
    char text[PROGRESS_BAR_TEXT_BYTES_MAX];
    snprintf(text, sizeof text, "epoch %6.2f  step %7llu  train %.4f  validation %.4f nats, %.4f bits per character%s",
             event->epoch, (unsigned long long)event->step, event->train_loss, event->validation_loss,
             event->bits_per_character, event->is_best ? "  best" : "");
    progress_bar_print(&command->bar, text);
}

static void on_event(void *context, struct training *training, const struct training_event *event)
{
    (void)training;
    struct command *command = context;
    bool is_progress = event->kind == TRAINING_PROGRESS;
    if (command->prints_json) {
        uint64_t now = clock_now_ns();
        bool is_due = (double)(now - command->line_ns) * 1e-9 >= LINE_SECONDS;
        if (!is_progress || event->is_evaluation || is_due) {
            command->line_ns = is_progress ? now : command->line_ns;
            print_json_line(training_event_to_json(event));
        }
        return;
    }
    if (is_progress && event->is_evaluation) {
        print_evaluation(command, event);
    }
    if (event->kind != TRAINING_DONE) {
        print_bar(command, event);
    }
}

static void print_corpus(struct command *command, const struct training_job *job)
{
    struct corpus_report report = training_job_corpus_report(job);
    if (command->prints_json) {
        print_json_line(json_pack("{s:s, s:I, s:I, s:I, s:I, s:s}", "event", "corpus", "files",
                                  (json_int_t)report.file_count, "bytes", (json_int_t)report.bytes,
                                  "byte_order_marks_dropped", (json_int_t)report.marks, "line_endings_changed",
                                  (json_int_t)report.line_endings, "sha256", report.sha256));
        return;
    }
    char text[PROGRESS_BAR_TEXT_BYTES_MAX];
    int length = snprintf(text, sizeof text, "corpus: %zu bytes in %zu %s", report.bytes, report.file_count,
                          report.file_count == 1 ? "file" : "files");
    if (report.marks > 0) {
        length += snprintf(text + length, sizeof text - (size_t)length, "; %zu byte order marks dropped", report.marks);
    }
    if (report.line_endings > 0) {
        snprintf(text + length, sizeof text - (size_t)length, "; %zu CR LF made LF", report.line_endings);
    }
    progress_bar_print(&command->bar, text);
}

static int fail(struct command *command, const struct error *error)
{
    progress_bar_clear(&command->bar);
    if (command->prints_json) {
        print_json_line(json_pack("{s:s, s:s, s:s}", "event", "failed", "error", error->message, "code", error->code));
    }
    return command_fail("train", error);
}

/* ---- what was asked for ---- */

static const char *json_name(const char *option, char name[64])
{
    snprintf(name, 64, "%s", option);
    for (char *at = name; *at != '\0'; at++) {
        *at = *at == '-' ? '_' : *at;
    }
    return name;
}

static json_t *option_json(const struct options *options, const struct option_row *row)
{
    if (row->kind == OPTION_FLAG) {
        return json_true();
    }
    return row->kind == OPTION_COUNT    ? json_integer((json_int_t)options_count(options, row->name))
           : row->kind == OPTION_NUMBER ? json_real(options_number(options, row->name))
                                        : json_string(options_text(options, row->name));
}

/* Puts the options that were given into `object`, under their JSON names. */
static void put_given(const struct options *options, const char *const *names, size_t count, json_t *object)
{
    for (size_t i = 0; i < count; i++) {
        char name[64];
        if (!options_is_given(options, names[i])) {
            continue;
        }
        for (size_t row = 0; row < ROW_COUNT; row++) {
            if (strcmp(ROWS[row].name, names[i]) == 0) {
                json_object_set_new(object, json_name(names[i], name), option_json(options, &ROWS[row]));
            }
        }
    }
}

static json_t *make_request(const struct options *options)
{
    static const char *const names[] = {"batch",
                                        "sequence-length",
                                        "epochs",
                                        "max-steps",
                                        "max-seconds",
                                        "schedule",
                                        "clip-norm",
                                        "dropout",
                                        "validation-fraction",
                                        "seed",
                                        "evaluate-every-steps",
                                        "checkpoint-seconds",
                                        "shards"};
    json_t *request = json_object();
    json_t *optimizer = json_object();
    put_given(options, names, sizeof names / sizeof names[0], request);
    put_given(options, (const char *const[]){"learning-rate"}, 1, optimizer);
    if (options_is_given(options, "optimizer")) {
        json_object_set_new(optimizer, "name", json_string(options_text(options, "optimizer")));
    }
    if (strcmp(options_text(options, "schedule"), "constant") != 0 && options_is_given(options, "schedule")) {
        json_object_set_new(request, "schedule", json_pack("{s:s}", "name", options_text(options, "schedule")));
    }
    if (json_object_size(optimizer) > 0) {
        json_object_set(request, "optimizer", optimizer);
    }
    json_decref(optimizer);
    return request;
}

static json_t *make_specification(const struct options *options)
{
    static const char *const names[] = {"embedding", "tie", "dropout"};
    json_t *specification =
        json_pack("{s:s, s:I, s:I}", "cell", options_text(options, "cell"), "layers",
                  (json_int_t)options_count(options, "layers"), "units", (json_int_t)options_count(options, "units"));
    put_given(options, names, sizeof names / sizeof names[0], specification);
    const char *kind = options_text(options, "vocabulary");
    json_object_set_new(specification, "vocabulary",
                        strcmp(kind, "bytes") == 0 ? json_string("bytes") : json_pack("{s:s}", "kind", kind));
    return specification;
}

/* The model to train: new, an older version, or the interrupted one. */
static enum status make_model(const struct command *command, struct model **ret_model, struct error *error)
{
    const struct options *options = &command->options;
    const char *name = command->out.name;
    if (options_is_given(options, "resume")) {
        char path[TRAINING_JOB_PATH_BYTES_MAX];
        if (!training_job_is_unfinished(command->out.directory)) {
            return error_set(error, STATUS_NOT_FOUND, "%s: there is no interrupted training to resume",
                             command->out.directory);
        }
        training_job_checkpoint_path(command->out.directory, path);
        return model_create_from_version(name, path, 0, ret_model, error);
    }
    if (options_is_given(options, "from")) {
        struct model_reference from;
        struct snapshot *snapshot = NULL;
        TRY(model_reference_parse(options_text(options, "from"), &from, error));
        TRY(model_reference_load(&from, &snapshot, error));
        char path[MODEL_REFERENCE_PATH_BYTES_MAX + 32];
        uint64_t version = snapshot_version(snapshot);
        model_reference_version_path(&from, version, path);
        snapshot_unref(snapshot);
        return model_create_from_version(name, path, version, ret_model, error);
    }
    struct model *model = NULL;
    TRY(model_create(name, &model, error));
    json_t *specification = make_specification(options);
    enum status status = model_make_language_model(model, specification, options_count(options, "seed"), error);
    json_decref(specification);
    if (status != STATUS_OK) {
        model_unref(model);
        return status;
    }
    *ret_model = model;
    return STATUS_OK;
}

/* ---- training ---- */

static enum status make_job(struct command *command, struct model *model, const json_t *request,
                            struct training_job **ret_job, struct error *error)
{
    static const char *const architecture[] = {"cell", "layers", "units", "embedding", "tie"};
    const struct options *options = &command->options;
    json_t *asked = json_object();
    put_given(options, architecture, sizeof architecture / sizeof architecture[0], asked);
    struct training_job_options job = {
        .model_directory = command->out.directory,
        .request = request,
        .corpus_paths = options->positional,
        .corpus_path_count = options->positional_count,
        .is_resume = options_is_given(options, "resume"),
        .discards_unfinished = options_is_given(options, "from"),
        .language_model = asked,
        .threads = options_is_given(options, "threads") ? (size_t)options_count(options, "threads") : 0,
        .name = "lstmd train"};
    struct training_callbacks callbacks = {.on_event = on_event, .context = command};
    enum status status = training_job_create(model, &job, &callbacks, ret_job, error);
    json_decref(asked);
    return status;
}

static enum status publish(struct command *command, struct model *model, struct training_job *job, struct error *error)
{
    json_t *origin = training_job_origin(job);
    json_t *evaluation = training_job_evaluation(job);
    uint64_t version = 0;
    json_object_set_new(origin, "command", json_string(command->command_line));
    training_job_add_precisions(job, evaluation);
    enum status status = model_save(model, command->out.directory, origin, evaluation, &version, error);
    if (status == STATUS_OK) {
        status = training_job_finish(job, error);
    }
    if (status == STATUS_OK && command->prints_json) {
        print_json_line(json_pack("{s:s, s:I, s:O}", "event", "published", "version", (json_int_t)version, "evaluation",
                                  evaluation));
    } else if (status == STATUS_OK) {
        bool is_best = json_is_number(json_object_get(evaluation, "validation_loss"));
        char text[PROGRESS_BAR_TEXT_BYTES_MAX];
        snprintf(text, sizeof text, "%.200s@%llu: %s weights, of step %lld: %.4f %s nats, %.4f bits per character",
                 command->out.directory, (unsigned long long)version, is_best ? "best" : "last",
                 (long long)json_integer_value(json_object_get(evaluation, "step")),
                 json_number_value(json_object_get(evaluation, is_best ? "validation_loss" : "train_loss")),
                 is_best ? "validation" : "training",
                 json_number_value(json_object_get(evaluation, "bits_per_character")));
        progress_bar_print(&command->bar, text);
    }
    json_decref(evaluation);
    json_decref(origin);
    return status;
}

static enum status train(struct command *command, const json_t *request, struct error *error)
{
    struct model *model = NULL;
    struct training_job *job = NULL;
    enum status status = make_model(command, &model, error);
    if (status == STATUS_OK) {
        status = make_job(command, model, request, &job, error);
    }
    if (status == STATUS_OK) {
        watch_signals(job);
        print_corpus(command, job);
        status = training_job_run(job, error);
    }
    if (status == STATUS_OK) {
        status = publish(command, model, job, error);
    } else if (status == STATUS_CANCELLED) {
        error_prefix(error, "%s", command->out.directory);
    }
    atomic_store(&running_job, NULL);
    training_job_destroy(job);
    model_unref(model);
    return status;
}

static void remember_command_line(struct command *command, int argc, char **argv)
{
    size_t length = (size_t)snprintf(command->command_line, sizeof command->command_line, "lstmd");
    for (int i = 0; i < argc && length < sizeof command->command_line; i++) {
        length +=
            (size_t)snprintf(command->command_line + length, sizeof command->command_line - length, " %s", argv[i]);
    }
}

/* A known kind that is not built is another thing than a wrong one. */
static enum status check_kind(const struct options *options, const char *option, const char *const *known,
                              size_t built_count, const char *built, struct error *error)
{
    const char *kind = options_text(options, option);
    for (size_t i = 0; known[i]; i++) {
        if (strcmp(kind, known[i]) == 0) {
            return i < built_count
                       ? STATUS_OK
                       : error_set(error, STATUS_UNSUPPORTED, "--%s %s is not built yet: %s", option, kind, built);
        }
    }
    return error_set(error, STATUS_INVALID, "--%s %.40s: %s", option, kind, built);
}

static enum status check_arguments(struct command *command, struct error *error)
{
    const struct options *options = &command->options;
    if (!options_text(options, "out")) {
        return error_set(error, STATUS_INVALID, "--out MODELS/NAME is missing");
    }
    TRY(model_reference_parse(options_text(options, "out"), &command->out, error));
    if (command->out.version > 0) {
        return error_set(error, STATUS_INVALID, "--out takes no version: the next free one is made");
    }
    if (options_is_given(options, "resume") && options_is_given(options, "from")) {
        return error_set(error, STATUS_INVALID, "--resume and --from exclude each other");
    }
    static const char *const cells[] = {"lstm", "gru", "rnn", NULL};
    static const char *const vocabularies[] = {"characters", "bytes", "words", NULL};
    TRY(check_kind(options, "cell", cells, 3, "lstm, gru or rnn", error));
    TRY(check_kind(options, "vocabulary", vocabularies, 2, "characters or bytes", error));
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "preset" : "logdir";
        if (options_is_given(options, name)) {
            return error_set(error, STATUS_UNSUPPORTED, "--%s is not built yet", name);
        }
    }
    return STATUS_OK;
}

int command_train(int argc, char **argv)
{
    struct command command = {.bar = {.file = stdout}};
    int exit_status;
    if (!command_parse(&command.options, ROWS, ROW_COUNT, SYNOPSIS, 1, OPTIONS_POSITIONAL_MAX, argc, argv,
                       &exit_status)) {
        return exit_status;
    }
    command.prints_json = options_is_given(&command.options, "json") || !progress_bar_is_possible(stdout);
    remember_command_line(&command, argc, argv);
    struct error error;
    enum status status = check_arguments(&command, &error);
    json_t *request = make_request(&command.options);
    if (status == STATUS_OK) {
        json_t *complete = NULL;
        status = training_options_complete(request, &complete, &error);
        json_decref(complete);
    }
    if (status != STATUS_OK) {
        json_decref(request);
        command_fail("train", &error);
        return status == STATUS_INVALID ? EXIT_USAGE : EXIT_FAILED;
    }
    status = train(&command, request, &error);
    json_decref(request);
    return status == STATUS_OK ? EXIT_DONE : fail(&command, &error);
}

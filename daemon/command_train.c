/* lstmd train: a model from a text, written as the next version of a model directory. Thread: main, which trains; a
 * signal handler asks it to stop. Of several ranks (engine/train/ranks.h) each trains its shards; the first one alone
 * prints and writes, the others tell nothing but why they failed. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "daemon/commands.h"
#include "daemon/progress_bar.h"
#include "daemon/train_arguments.h"
#include "daemon/training_ending.h"
#include "daemon/training_log.h"
#include "engine/base/clock.h"
#include "engine/engine.h"

static const double LINE_SECONDS = 5; /* between two progress lines of JSON, besides evaluations */

struct command {
    struct options options;
    struct model_reference out;
    bool prints_json;
    struct progress_bar bar;
    struct training_log *log; /* NULL without --logdir */
    enum status log_status;   /* what it cannot write ends the training */
    struct error log_error;
    uint64_t line_ns;   /* when the last progress line was printed */
    json_t *checkpoint; /* the last one's record; NULL: none */
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

/* A model may write what would move the terminal's cursor. */
static void print_sample(struct command *command, const struct training_event *event)
{
    progress_bar_clear(&command->bar);
    printf("---- step %llu\n", (unsigned long long)event->step);
    for (const char *at = event->text; *at != '\0'; at++) {
        bool is_control = (unsigned char)*at < ' ' || *at == 0x7f;
        putchar(is_control && *at != '\n' && *at != '\t' ? '?' : *at);
    }
    progress_bar_print(&command->bar, "\n----");
}

static void on_event(void *context, struct training *training, const struct training_event *event)
{
    struct command *command = context;
    bool is_progress = event->kind == TRAINING_PROGRESS;
    if (event->kind == TRAINING_CHECKPOINT) {
        json_decref(command->checkpoint);
        command->checkpoint = training_event_to_json(event);
    }
    if (command->log != NULL && command->log_status == STATUS_OK) {
        command->log_status = training_log_add(command->log, event, &command->log_error);
        if (command->log_status != STATUS_OK) {
            training_stop(training);
        }
    }
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
    } else if (event->kind == TRAINING_SAMPLE) {
        print_sample(command, event);
    }
    if (event->kind != TRAINING_DONE) {
        print_bar(command, event);
    }
}

/* What was changed in a file; false when nothing was. */
static bool print_file(struct command *command, const struct corpus_file_report *file)
{
    char text[PROGRESS_BAR_TEXT_BYTES_MAX];
    char line_ends[64] = "";
    if (file->marks == 0 && file->line_endings == 0) {
        return false;
    }
    if (file->line_endings > 0) {
        snprintf(line_ends, sizeof line_ends, "%s%llu CRLF line ends read as LF", file->marks > 0 ? ", " : "",
                 (unsigned long long)file->line_endings);
    }
    snprintf(text, sizeof text, "%.200s: %s%s", file->name, file->marks > 0 ? "byte order mark dropped" : "",
             line_ends);
    progress_bar_print(&command->bar, text);
    return true;
}

/* Words that the training text lacks, and what could be done for them. */
static void print_unseen(struct command *command, const struct corpus_report *report)
{
    char text[PROGRESS_BAR_TEXT_BYTES_MAX];
    if (report->unseen_words > 0) {
        snprintf(text, sizeof text, "%llu words that only validation or test has are read as <unk>%s",
                 (unsigned long long)report->unseen_words,
                 report->trains_unknown ? ""
                                        : ", of which the training text has none: --min-count 2 would give it some");
        progress_bar_print(&command->bar, text);
    }
}

static void print_corpus(struct command *command, const struct training_job *job)
{
    const struct corpus *corpus = training_job_corpus(job);
    const struct vocabulary *vocabulary = training_job_vocabulary(job);
    struct corpus_report report = corpus_report(corpus);
    if (command->prints_json) {
        print_json_line(training_job_describe_corpus(job));
        return;
    }
    char text[PROGRESS_BAR_TEXT_BYTES_MAX];
    snprintf(text, sizeof text, "corpus: %llu bytes in %zu %s, %zu symbols, a vocabulary of %zu %s",
             (unsigned long long)report.bytes, report.file_count, report.file_count == 1 ? "file" : "files",
             corpus_symbol_count(corpus), vocabulary_size(vocabulary),
             vocabulary_kind_name(vocabulary_kind(vocabulary)));
    progress_bar_print(&command->bar, text);
    size_t printed = 0;
    for (size_t i = 0; i < report.file_count && printed < TRAINING_JOB_FILES_MAX; i++) {
        struct corpus_file_report file = corpus_file_report(corpus, i);
        printed += print_file(command, &file);
    }
    print_unseen(command, &report);
}

static void print_warning(struct command *command, const struct training_job *job)
{
    const char *warning = training_job_warning(job);
    if (warning != NULL && command->prints_json) {
        print_json_line(json_pack("{s:s, s:s}", "event", "warning", "message", warning));
    } else if (warning != NULL) {
        progress_bar_print(&command->bar, warning);
    }
}

/* A stop, and another rank's failure, are for others to tell. */
static int fail(struct command *command, enum status status, struct error *error)
{
    bool is_others = status == STATUS_CANCELLED && (ranks_index() > 0 || strcmp(error->code, "other_rank") == 0);
    if (is_others) {
        return EXIT_FAILED;
    }
    if (ranks_index() > 0) {
        error_prefix(error, "rank %zu", ranks_index());
    }
    progress_bar_clear(&command->bar);
    if (command->prints_json) {
        print_json_line(training_ending_record(error, command->checkpoint));
    }
    command_fail("train", error);
    if (status != STATUS_CANCELLED) {
        fflush(stdout);
        ranks_abort(); /* they may wait for us */
    }
    return EXIT_FAILED;
}

/* ---- what was asked for ---- */

static enum status make_interrupted(const struct command *command, struct model **ret_model, struct error *error)
{
    char path[TRAINING_JOB_PATH_BYTES_MAX];
    if (!training_job_is_unfinished(command->out.directory)) {
        return error_set(error, STATUS_NOT_FOUND, "%s: there is no interrupted training to resume",
                         command->out.directory);
    }
    training_job_checkpoint_path(command->out.directory, path);
    return model_create_from_version(command->out.name, path, 0, ret_model, error);
}

static enum status make_of_version(const struct command *command, struct model **ret_model, struct error *error)
{
    struct model_reference from;
    struct snapshot *snapshot = NULL;
    char path[MODEL_REFERENCE_PATH_BYTES_MAX + 32];
    TRY(model_reference_parse(options_text(&command->options, "from"), &from, error));
    TRY(model_reference_load(&from, &snapshot, error));
    uint64_t version = snapshot_version(snapshot);
    model_reference_version_path(&from, version, path);
    snapshot_unref(snapshot);
    return model_create_from_version(command->out.name, path, version, ret_model, error);
}

static enum status make_new(const struct command *command, struct model **ret_model, struct error *error)
{
    struct model *model = NULL;
    TRY(model_create(command->out.name, &model, error));
    json_t *specification = train_arguments_model(&command->options);
    enum status status =
        model_make_language_model(model, specification, options_count(&command->options, "seed"), error);
    json_decref(specification);
    if (status != STATUS_OK) {
        model_unref(model);
        return status;
    }
    *ret_model = model;
    return STATUS_OK;
}

/* What was asked of a model that is there already must be what it is. */
static enum status check_model(const struct command *command, struct model *model, struct error *error)
{
    json_t *architecture = NULL;
    TRY(model_describe_architecture(model, &architecture, error));
    enum status status = train_arguments_check_model(&command->options, architecture, error);
    json_decref(architecture);
    return status;
}

/* The model to train: new, an older version, or the interrupted one. */
static enum status make_model(const struct command *command, struct model **ret_model, struct error *error)
{
    struct model *model = NULL;
    bool is_resume = options_is_given(&command->options, "resume");
    if (!is_resume && !options_is_given(&command->options, "from")) {
        return make_new(command, ret_model, error);
    }
    TRY(is_resume ? make_interrupted(command, &model, error) : make_of_version(command, &model, error));
    enum status status = check_model(command, model, error);
    if (status != STATUS_OK) {
        model_unref(model);
        return status;
    }
    *ret_model = model;
    return STATUS_OK;
}

/* ---- training ---- */

/* The files that a list option names; `paths` has room for them. */
static struct corpus_text given_texts(const struct options *options, const char *name,
                                      const char *paths[OPTIONS_VALUES_MAX])
{
    size_t count = 0;
    while (count < OPTIONS_VALUES_MAX && (paths[count] = options_list(options, name, count)) != NULL) {
        count++;
    }
    return (struct corpus_text){.paths = count > 0 ? paths : NULL, .path_count = count};
}

static enum status make_job(struct command *command, struct model *model, const json_t *request,
                            struct training_job **ret_job, struct error *error)
{
    const struct options *options = &command->options;
    const char *validation[OPTIONS_VALUES_MAX];
    const char *test[OPTIONS_VALUES_MAX];
    struct training_job_options job = {
        .model_directory = command->out.directory,
        .request = request,
        .corpus = {.paths = options->positional, .path_count = options->positional_count},
        .validation = given_texts(options, "validation", validation),
        .test = given_texts(options, "test", test),
        .start = train_arguments_start(options),
        .is_resume = options_is_given(options, "resume"),
        .threads = options_is_given(options, "threads") ? (size_t)options_count(options, "threads") : 0,
        .name = "lstmd train"};
    struct training_callbacks callbacks = {.on_event = on_event, .context = command};
    enum status status = training_job_create(model, &job, &callbacks, ret_job, error);
    if (status != STATUS_OK && strcmp(error->code, "unknown_symbol") == 0) {
        size_t length = strlen(error->message);
        snprintf(error->message + length, sizeof error->message - length, " (--vocabulary-policy extend takes it in)");
    }
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
    const char *log = ranks_index() == 0 ? options_text(&command->options, "logdir") : NULL;
    enum status status = ranks_agree(make_model(command, &model, error), error);
    if (status == STATUS_OK) {
        status = make_job(command, model, request, &job, error);
    }
    if (status == STATUS_OK && log != NULL) {
        status = training_log_create(log, &command->log, error);
    }
    if (status == STATUS_OK && log != NULL && options_is_given(&command->options, "resume")) {
        status = training_log_resume(command->log, training_job_step(job), error);
    }
    if (status == STATUS_OK) {
        watch_signals(job);
        print_corpus(command, job);
        print_warning(command, job);
        status = training_job_run(job, error);
    }
    if (command->log_status != STATUS_OK) {
        *error = command->log_error;
        status = command->log_status;
    }
    if (status == STATUS_OK && ranks_index() == 0) {
        status = publish(command, model, job, error);
    } else if (status == STATUS_CANCELLED) {
        error_prefix(error, "%s", command->out.directory);
    }
    atomic_store(&running_job, NULL);
    training_job_destroy(job);
    model_unref(model);
    training_log_destroy(command->log);
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

/* Joins the other ranks, if there are any. */
static enum status begin(struct command *command, struct error *error)
{
    TRY(ranks_start(error));
    if (ranks_index() > 0 && freopen("/dev/null", "w", stdout) == NULL) {
        return error_set_errno(error, errno, "/dev/null");
    }
    for (size_t i = 0; ranks_count() > 1 && i < command->options.positional_count; i++) {
        if (strcmp(command->options.positional[i], "-") == 0) {
            return error_set(error, STATUS_INVALID, "standard input is no text for several ranks: name a file");
        }
    }
    command->prints_json = options_is_given(&command->options, "json") || !progress_bar_is_possible(stdout);
    return STATUS_OK;
}

int command_train(int argc, char **argv)
{
    struct command command = {.bar = {.file = stdout}};
    int exit_status;
    if (!train_arguments_parse(&command.options, argc, argv, &exit_status)) {
        return exit_status;
    }
    remember_command_line(&command, argc, argv);
    struct error error;
    enum status status = train_arguments_check(&command.options, &command.out, &error);
    json_t *request = train_arguments_request(&command.options);
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
    status = begin(&command, &error);
    if (status == STATUS_OK) {
        status = train(&command, request, &error);
    }
    json_decref(request);
    exit_status = status == STATUS_OK ? EXIT_DONE : fail(&command, status, &error);
    json_decref(command.checkpoint);
    ranks_end();
    return exit_status;
}

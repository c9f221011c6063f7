/* Keeping a training's curves. Thread: see the header. */
#include "daemon/training_log.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <unistd.h>

#include "daemon/event_file.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

struct training_log {
    struct event_file *events;
    FILE *history;
    char history_path[PATH_MAX];
    uint64_t progress_ns; /* the last that was noted; 0: none */
};

static const double PROGRESS_SECONDS = 1;
enum { COLUMN_COUNT = 9, SCALAR_COUNT = 6, LINE_BYTES_MAX = 512 };

static enum status refuse(const struct training_log *log, struct error *error)
{
    return error_set(error, STATUS_IO, "%s: %s", log->history_path, strerror(errno));
}

static enum status open_history(struct training_log *log, const char *directory, struct error *error)
{
    static const char header[] = "step,epoch,train_loss,validation_loss,best_validation_loss,learning_rate,"
                                 "gradient_norm,symbols_per_second,seconds\n";
    snprintf(log->history_path, sizeof log->history_path, "%.*s/history.csv", PATH_MAX / 2, directory);
    log->history = fopen(log->history_path, "a+e");
    if (log->history == NULL) {
        return refuse(log, error);
    }
    bool is_new = fseek(log->history, 0, SEEK_END) == 0 && ftell(log->history) == 0;
    bool is_written = !is_new || (fputs(header, log->history) >= 0 && fflush(log->history) == 0);
    return is_written ? STATUS_OK : refuse(log, error);
}

enum status training_log_create(const char *directory, struct training_log **ret_log, struct error *error)
{
    struct training_log *log = mem_allocate(1, sizeof *log);
    if (log == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a training's log");
    }
    enum status status = event_file_create(directory, &log->events, error);
    if (status == STATUS_OK) {
        status = open_history(log, directory, error);
    }
    if (status != STATUS_OK) {
        training_log_destroy(log);
        return status;
    }
    *ret_log = log;
    return STATUS_OK;
}

void training_log_destroy(struct training_log *log)
{
    if (log == NULL) {
        return;
    }
    event_file_destroy(log->events);
    if (log->history != NULL) {
        fclose(log->history);
    }
    mem_free(log);
}

/* Where the first line of a later step begins, or one that was not written to its end; at most the end. */
static long find_later(FILE *history, uint64_t step)
{
    char line[LINE_BYTES_MAX];
    rewind(history);
    long begin = 0;
    while (fgets(line, sizeof line, history) != NULL) {
        bool is_later = line[0] >= '0' && line[0] <= '9' && strtoull(line, NULL, 10) > step;
        if (is_later || strchr(line, '\n') == NULL) {
            return begin;
        }
        begin = ftell(history);
    }
    return begin;
}

enum status training_log_resume(struct training_log *log, uint64_t step, struct error *error)
{
    long end = find_later(log->history, step);
    if (end < 0 || ftruncate(fileno(log->history), end) != 0 || fseek(log->history, 0, SEEK_END) != 0) {
        return refuse(log, error);
    }
    return event_file_add_start(log->events, step + 1, error);
}

/* A line; what is not known is left empty. */
static enum status add_history(struct training_log *log, const struct training_event *event, struct error *error)
{
    const double columns[COLUMN_COUNT] = {
        (double)event->step,  event->epoch,         event->train_loss,         event->validation_loss, event->best_loss,
        event->learning_rate, event->gradient_norm, event->symbols_per_second, event->seconds};
    bool is_written = true;
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        const char *end = i + 1 < COLUMN_COUNT ? "," : "\n";
        is_written = is_written && (isfinite(columns[i]) ? fprintf(log->history, "%.10g%s", columns[i], end)
                                                         : fputs(end, log->history)) >= 0;
    }
    return is_written && fflush(log->history) == 0 ? STATUS_OK : refuse(log, error);
}

enum status training_log_add(struct training_log *log, const struct training_event *event, struct error *error)
{
    if (event->kind == TRAINING_SAMPLE) {
        return event_file_add_text(log->events, event->step, "sample", event->text, error);
    }
    uint64_t now_ns = clock_now_ns();
    bool is_due = log->progress_ns == 0 || (double)(now_ns - log->progress_ns) * 1e-9 >= PROGRESS_SECONDS;
    if (event->kind != TRAINING_PROGRESS || !(event->is_evaluation || is_due)) {
        return STATUS_OK;
    }
    log->progress_ns = now_ns;
    const double none = (double)NAN;
    const struct event_scalar scalars[SCALAR_COUNT] = {
        {"loss/train", event->train_loss},
        {"loss/validation", event->is_evaluation ? event->validation_loss : none},
        {"perplexity/validation", event->is_evaluation ? event->perplexity : none},
        {"learning_rate", event->learning_rate},
        {"gradient_norm", event->gradient_norm},
        {"symbols_per_second", event->symbols_per_second},
    };
    TRY(event_file_add_scalars(log->events, event->step, scalars, SCALAR_COUNT, error));
    return add_history(log, event, error);
}

/* Writing the log. Thread: any. Owns the level and the form, set by the loop thread, and the count of lines lost. */
#include "daemon/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <unistd.h>

static _Atomic int level_max = LOG_LEVEL_INFO;
static _Atomic bool is_journal;
static _Atomic size_t lost_count;

static const struct {
    const char *name;
    int priority; /* syslog's */
} levels[] = {{"error", 3}, {"warning", 4}, {"info", 6}, {"debug", 7}};
static_assert(sizeof levels / sizeof *levels == LOG_LEVEL_COUNT, "one row for each level");

void log_start(void)
{
    atomic_store(&is_journal, getenv("JOURNAL_STREAM") != NULL);
}

void log_set_level(enum log_level level)
{
    atomic_store(&level_max, (int)level);
}

/* snprintf's length, cut to what was written. */
static size_t advance(size_t used, int length)
{
    size_t left = LOG_LINE_BYTES_MAX - used;
    return length < 0 ? used : (size_t)length < left ? used + (size_t)length : LOG_LINE_BYTES_MAX - 1;
}

static size_t write_start(char *line, enum log_level level, const char *event)
{
    if (atomic_load(&is_journal)) {
        return advance(0, snprintf(line, LOG_LINE_BYTES_MAX, "<%d>%s", levels[level].priority, event));
    }
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t used = strftime(line, LOG_LINE_BYTES_MAX, "%Y-%m-%dT%H:%M:%S", &parts);
    return advance(used, snprintf(line + used, LOG_LINE_BYTES_MAX - used, ".%03ldZ %-7s %s", now.tv_nsec / 1000000,
                                  levels[level].name, event));
}

static size_t write_message(char *line, size_t used, const char *message)
{
    used = advance(used, snprintf(line + used, LOG_LINE_BYTES_MAX - used, " message=\""));
    for (; *message != '\0' && used < LOG_LINE_BYTES_MAX - 4; message++) {
        unsigned char byte = (unsigned char)*message;
        if (byte == '"' || byte == '\\') {
            line[used++] = '\\';
        }
        line[used++] = byte < ' ' || byte == 0x7F ? ' ' : *message;
    }
    line[used++] = '"';
    return used;
}

/* Whether a line goes out without waiting: poll says so of a pipe as long as PIPE_BUF bytes, two lines, fit in. */
static bool is_writable(void)
{
    struct pollfd error_output = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&error_output, 1, 0) == 1 && (error_output.revents & POLLOUT) != 0;
}

/* A log that cannot be written cannot be complained about; later it says how much it lacks. */
static void write_line(const char *line, size_t length)
{
    if (!is_writable()) {
        atomic_fetch_add(&lost_count, 1);
        return;
    }
    size_t lost = atomic_exchange(&lost_count, 0);
    if (lost > 0) {
        /* As an error, since a level above would keep it back, and with it the count. */
        log_event(LOG_LEVEL_ERROR, "log_lines_lost", "nobody read them", "count=%zu", lost);
    }
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
}

void log_event(enum log_level level, const char *event, const char *message, const char *format, ...)
{
    if ((int)level > atomic_load(&level_max)) {
        return;
    }
    char line[LOG_LINE_BYTES_MAX + 1];
    size_t used = write_start(line, level, event);
    if (format[0] != '\0') {
        va_list arguments;
        va_start(arguments, format);
        line[used] = ' ';
        size_t end = advance(used + 1, vsnprintf(line + used + 1, LOG_LINE_BYTES_MAX - used - 1, format, arguments));
        used = end == used + 1 ? used : end; /* nothing to say: no space either */
        va_end(arguments);
    }
    if (message != NULL && used < LOG_LINE_BYTES_MAX - 16) {
        used = write_message(line, used, message);
    }
    line[used++] = '\n';
    write_line(line, used);
}

/* Filling errors. Thread: any. Owns nothing; formats into the caller's struct. */
#include "engine/base/status.h"

#include <stdarg.h>

#include "engine/base/check.h"

static const char *const names[] = {
    [STATUS_OK] = "ok",
    [STATUS_INVALID] = "invalid",
    [STATUS_NOT_FOUND] = "not_found",
    [STATUS_CONFLICT] = "conflict",
    [STATUS_UNPROCESSABLE] = "unprocessable",
    [STATUS_CORRUPT] = "corrupt",
    [STATUS_LIMIT] = "limit",
    [STATUS_TOO_LARGE] = "too_large",
    [STATUS_NO_MEMORY] = "no_memory",
    [STATUS_IO] = "io",
    [STATUS_CANCELLED] = "cancelled",
    [STATUS_UNAVAILABLE] = "unavailable",
    [STATUS_UNSUPPORTED] = "unsupported",
};
static_assert(sizeof names / sizeof *names == STATUS_COUNT, "one name for each status");

static const char *const exception_names[] = {
    [EXCEPTION_ASSERTION] = "AssertionError",
    [EXCEPTION_CANCELLED] = "CancelledError",
    [EXCEPTION_DATA_LOSS] = "DataLossError",
    [EXCEPTION_DEADLINE_EXCEEDED] = "DeadlineExceededError",
    [EXCEPTION_FAILED_PRECONDITION] = "FailedPreconditionError",
    [EXCEPTION_INDEX] = "IndexError",
    [EXCEPTION_INVALID_ARGUMENT] = "InvalidArgumentError",
    [EXCEPTION_KEY] = "KeyError",
    [EXCEPTION_LOOKUP] = "LookupError",
    [EXCEPTION_NOT_FOUND] = "NotFoundError",
    [EXCEPTION_RESOURCE_EXHAUSTED] = "ResourceExhaustedError",
    [EXCEPTION_RUNTIME] = "RuntimeError",
    [EXCEPTION_TYPE] = "TypeError",
    [EXCEPTION_VALUE] = "ValueError",
};
static_assert(sizeof exception_names / sizeof *exception_names == EXCEPTION_COUNT, "one name for each exception");

const char *status_name(enum status status)
{
    CHECK(status < STATUS_COUNT);
    return names[status];
}

/* A message cut by its limit must not end inside a UTF-8 sequence: it becomes part of a JSON string. */
static void cut_to_whole_characters(char *message)
{
    size_t length = strlen(message);
    if (length + 1 < ERROR_MESSAGE_BYTES_MAX) {
        return;
    }
    size_t end = length;
    while (end > 0 && ((unsigned char)message[end - 1] & 0xC0) == 0x80) {
        end--;
    }
    if (end > 0 && (unsigned char)message[end - 1] >= 0xC0) {
        message[end - 1] = '\0';
    }
}

static void append(struct error *error, const char *text)
{
    size_t length = strlen(error->message);
    snprintf(error->message + length, sizeof error->message - length, ": %s", text);
    cut_to_whole_characters(error->message);
}

/* `reason`, which may be NULL, is appended. */
static PRINTF_LIKE(4, 0) void fill(struct error *error, enum status status, const char *reason, const char *format,
                                   va_list arguments)
{
    CHECK(status != STATUS_OK && status < STATUS_COUNT);
    if (error == NULL) {
        return;
    }
    error->status = status;
    error->type[0] = error->code[0] = error->param[0] = error->variable[0] = error->hint[0] = '\0';
    error->origin = (struct error_origin){.program = 0};
    error->expired_at = 0;
    error->retry_after_seconds = 0;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    if (reason != NULL) {
        append(error, reason);
    }
    cut_to_whole_characters(error->message);
}

enum status error_set(struct error *error, enum status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(error, status, NULL, format, arguments);
    va_end(arguments);
    return status;
}

enum status(error_raise)(struct error *error, enum status status, enum exception exception, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(error, status, NULL, format, arguments);
    va_end(arguments);
    error_type(error, exception);
    return status;
}

enum status error_set_errno(struct error *error, int error_number, const char *format, ...)
{
    enum status status = error_number == ENOENT   ? STATUS_NOT_FOUND
                         : error_number == ENOMEM ? STATUS_NO_MEMORY
                                                  : STATUS_IO;
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    fill(error, status, strerror_r(error_number, text, sizeof text), format, arguments);
    va_end(arguments);
    return status;
}

enum status error_code(struct error *error, const char *code)
{
    if (error == NULL) {
        return STATUS_INVALID;
    }
    snprintf(error->code, sizeof error->code, "%s", code);
    return error->status;
}

void error_type(struct error *error, enum exception exception)
{
    CHECK(exception < EXCEPTION_COUNT);
    if (error != NULL) {
        snprintf(error->type, sizeof error->type, "%s", exception_names[exception]);
    }
}

bool error_is(const struct error *error, enum exception exception)
{
    CHECK(exception < EXCEPTION_COUNT);
    return error != NULL && strcmp(error->type, exception_names[exception]) == 0;
}

void error_move(struct error *error, const char *from, const char *to)
{
    size_t length = strlen(from);
    if (error == NULL || strncmp(error->param, from, length) != 0) {
        return;
    }
    char below[ERROR_PLACE_BYTES_MAX];
    char message[ERROR_MESSAGE_BYTES_MAX];
    snprintf(below, sizeof below, "%s", error->param + length);
    size_t path_length = strlen(error->param);
    bool is_said = path_length > 0 && strncmp(error->message, error->param, path_length) == 0 &&
                   strncmp(error->message + path_length, ": ", 2) == 0;
    snprintf(error->param, sizeof error->param, "%.200s%.50s", to, below);
    if (is_said) {
        memcpy(message, error->message, sizeof message);
        snprintf(error->message, sizeof error->message, "%s", error->param);
        append(error, message + path_length + 2);
    }
}

void error_prefix(struct error *error, const char *format, ...)
{
    if (error == NULL) {
        return;
    }
    char before[ERROR_MESSAGE_BYTES_MAX];
    memcpy(before, error->message, sizeof before);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    append(error, before);
}

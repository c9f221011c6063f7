/* What a fallible call returns, and the message that says why. Thread: any. Owns nothing.
 *
 * A call returns STATUS_OK and leaves `error` untouched, or returns another status and fills `error` with a message
 * that names the thing and the number that broke the rule; its `ret_` parameters are then untouched. */
#ifndef ENGINE_BASE_STATUS_H
#define ENGINE_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum status {
    STATUS_OK,
    STATUS_INVALID,       /* malformed, wrong type, out of range */
    STATUS_NOT_FOUND,     /* no such file, model, name, session */
    STATUS_CONFLICT,      /* it exists already, or is in use */
    STATUS_UNPROCESSABLE, /* well-formed, but impossible: shapes, unfed placeholder, refused version */
    STATUS_CORRUPT,       /* a file's bytes contradict its format or checksum */
    STATUS_LIMIT,         /* a stated maximum was reached */
    STATUS_TOO_LARGE,     /* one thing is larger than its stated maximum */
    STATUS_NO_MEMORY,
    STATUS_IO,
    STATUS_CANCELLED,
    STATUS_UNAVAILABLE, /* not now: loading, unloaded, draining */
    STATUS_UNSUPPORTED, /* documented or known, but this build does not do it */
    STATUS_COUNT,
};

enum {
    ERROR_MESSAGE_BYTES_MAX = 1024,
    ERROR_CODE_BYTES_MAX = 48,
    ERROR_PLACE_BYTES_MAX = 256,
    ERROR_REQUEST_ID_BYTES_MAX = 72,
};

/* The exceptions of TensorFlow, and of the Python around it, that graph errors are: EXCEPTION_VALUE is ValueError. */
enum exception {
    EXCEPTION_ASSERTION,
    EXCEPTION_CANCELLED,
    EXCEPTION_DATA_LOSS,
    EXCEPTION_DEADLINE_EXCEEDED,
    EXCEPTION_FAILED_PRECONDITION,
    EXCEPTION_INDEX,
    EXCEPTION_INVALID_ARGUMENT,
    EXCEPTION_KEY,
    EXCEPTION_LOOKUP,
    EXCEPTION_NOT_FOUND,
    EXCEPTION_RESOURCE_EXHAUSTED,
    EXCEPTION_RUNTIME,
    EXCEPTION_TYPE,
    EXCEPTION_VALUE,
    EXCEPTION_COUNT,
};

/* Where something was first defined: `program` counts from 1 since the graph's reset, 0 when it does not apply. */
struct error_origin {
    uint32_t program;
    char step[ERROR_PLACE_BYTES_MAX]; /* its JSON path: "/program/2" */
    char request_id[ERROR_REQUEST_ID_BYTES_MAX];
    int64_t at; /* seconds since 1970 */
};

/* Why a call failed. `message` is a sentence for people; the rest is for programs and is empty where it does not
 * apply. */
struct error {
    enum status status;
    char message[ERROR_MESSAGE_BYTES_MAX];
    char type[ERROR_CODE_BYTES_MAX];      /* TensorFlow's exception class for graph errors: "ValueError" */
    char code[ERROR_CODE_BYTES_MAX];      /* stable identifier: "variable_exists", "model_not_found" */
    char param[ERROR_PLACE_BYTES_MAX];    /* the request field or JSON path that is wrong: "/program/2/body/0" */
    char variable[ERROR_PLACE_BYTES_MAX]; /* graph errors: the variable's full name */
    struct error_origin origin;           /* graph errors: where it was first defined */
    char hint[ERROR_PLACE_BYTES_MAX];     /* what to do instead */
    int64_t expired_at;                   /* when what is not there any more ended, seconds since 1970; 0: not known */
    unsigned retry_after_seconds;         /* when it may go better; 0: nobody knows */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_index) __attribute__((format(printf, format_index, first_index)))

/* Fills `error` (may be NULL) with a status and a formatted message, empties its other fields, and returns `status`. */
enum status error_set(struct error *error, enum status status, const char *format, ...) PRINTF_LIKE(3, 4);

/* As error_set, with `exception` as the error's type. */
enum status error_raise(struct error *error, enum status status, enum exception exception, const char *format, ...)
    PRINTF_LIKE(4, 5);
#ifdef __clang_analyzer__ /* it cannot look into status.c */
#define error_raise(error, status, ...) ((error_raise)((error), (status), __VA_ARGS__), (status))
#endif

/* As error_set, with the text of `error_number` (an errno value) appended after ": ". Maps ENOENT to NOT_FOUND, ENOMEM
 * to NO_MEMORY and everything else to IO; returns that status. */
enum status error_set_errno(struct error *error, int error_number, const char *format, ...) PRINTF_LIKE(3, 4);

/* Sets the stable code of a filled error. `error` may be NULL. Returns error's status, or STATUS_INVALID without
 * one. */
enum status error_code(struct error *error, const char *code);

/* Sets the type of a filled error. `error` may be NULL. */
void error_type(struct error *error, enum exception exception);

/* Whether `error`, which may be NULL, is of that type. */
bool error_is(const struct error *error, enum exception exception);

/* An error about part of a document becomes one about the whole: where `param`, a JSON path, begins with `from` ("" is
 * the path of all), `to` takes its place, also where the message begins with that path. `error` may be NULL. */
void error_move(struct error *error, const char *from, const char *to);

/* Puts `format: ` before the message that is already there. `error` may be NULL. */
void error_prefix(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);

/* The status's name in lower case ("not_found"), for logs and as default error code. */
const char *status_name(enum status status);

/* Returns from the calling function when `call` fails. Only where there is nothing to release. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        enum status try_status = (call);                                                                               \
        if (try_status != STATUS_OK) {                                                                                 \
            return try_status;                                                                                         \
        }                                                                                                              \
    } while (0)

#endif

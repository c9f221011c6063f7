/* JSON replies: bodies, and errors with the one table from status to HTTP status. Thread: loop. Owns nothing. */
#include "daemon/http.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"

static const unsigned http_statuses[] = {
    [STATUS_OK] = 200,          [STATUS_INVALID] = 400,       [STATUS_NOT_FOUND] = 404,
    [STATUS_CONFLICT] = 409,    [STATUS_UNPROCESSABLE] = 422, [STATUS_CORRUPT] = 422,
    [STATUS_LIMIT] = 429,       [STATUS_TOO_LARGE] = 413,     [STATUS_NO_MEMORY] = 503,
    [STATUS_IO] = 503,          [STATUS_CANCELLED] = 409,     [STATUS_UNAVAILABLE] = 503,
    [STATUS_UNSUPPORTED] = 400,
};
static_assert(sizeof http_statuses / sizeof *http_statuses == STATUS_COUNT, "one HTTP status for each status");

enum { RETRY_AFTER_SECONDS = 1, SHORT_DIGITS = 15, ALL_DIGITS = 17 };

unsigned error_http_status(const struct error *error)
{
    CHECK(error->status < STATUS_COUNT && error->status != STATUS_OK);
    return http_statuses[error->status];
}

static const char *type_of(unsigned status)
{
    switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 409: return "conflict_error";
    case 429: return "rate_limit_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

/* Messages may quote bytes of a request; JSON takes UTF-8 only. */
static void make_printable(char *text)
{
    json_t *string = json_string(text);
    if (string == NULL) {
        for (; *text != '\0'; text++) {
            *text = (unsigned char)*text < 0x80 ? *text : '?';
        }
    }
    json_decref(string);
}

static bool set_text(json_t *object, const char *name, const char *text)
{
    return text[0] == '\0' || json_object_set_new(object, name, json_string(text)) == 0;
}

/* "origin":{"program","step","request_id","at"}, where something was first defined. */
static bool set_origin(json_t *object, const struct error_origin *origin)
{
    if (origin->program == 0) {
        return true;
    }
    json_t *value =
        json_pack("{s:I, s:s, s:s?, s:I}", "program", (json_int_t)origin->program, "step", origin->step, "request_id",
                  origin->request_id[0] == '\0' ? NULL : origin->request_id, "at", (json_int_t)origin->at);
    return json_object_set_new(object, "origin", value) == 0;
}

/* The step of a place in a program: "/program/2/body/0" of "/program/2/body/0/args/1"; "" of what is none. */
static void step_of(const char *place, char step[ERROR_PLACE_BYTES_MAX])
{
    static const char digits[] = "0123456789";
    size_t length = 0;
    size_t at = strncmp(place, "/program/", 9) == 0 ? 9 : 0;
    while (at > 0 && strspn(place + at, digits) > 0) {
        length = at + strspn(place + at, digits);
        at = strncmp(place + length, "/body/", 6) == 0 ? length + 6 : 0;
    }
    snprintf(step, ERROR_PLACE_BYTES_MAX, "%.*s", (int)length, place);
}

static bool is_to_be_retried(unsigned status)
{
    return status == 429 || status == 503;
}

static unsigned retry_after_seconds(const struct error *error)
{
    return error->retry_after_seconds > 0 ? error->retry_after_seconds : RETRY_AFTER_SECONDS;
}

json_t *error_to_json(const struct error *given, unsigned status)
{
    struct error printable = *given;
    const struct error *error = &printable;
    make_printable(printable.message);
    make_printable(printable.param);
    make_printable(printable.variable);
    make_printable(printable.hint);
    json_t *object = json_pack("{s:s, s:s, s:s, s:s?}", "message", error->message, "type",
                               error->type[0] == '\0' ? type_of(status) : error->type, "code",
                               error->code[0] == '\0' ? status_name(error->status) : error->code, "param",
                               error->param[0] == '\0' ? NULL : error->param);
    char step[ERROR_PLACE_BYTES_MAX];
    step_of(error->param, step);
    if (object == NULL || !set_text(object, "step", step) || !set_text(object, "variable", error->variable) ||
        !set_origin(object, &error->origin) || !set_text(object, "hint", error->hint) ||
        (error->expired_at != 0 && json_object_set_new(object, "expired_at", json_integer(error->expired_at)) != 0) ||
        (is_to_be_retried(status) &&
         json_object_set_new(object, "retry_after_seconds", json_integer(retry_after_seconds(given))) != 0)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* The message alone. */
static json_t *plain_error(const struct error *error)
{
    char message[ERROR_MESSAGE_BYTES_MAX];
    snprintf(message, sizeof message, "%s", error->message);
    make_printable(message);
    return json_string(message);
}

static bool is_short(double number)
{
    char text[32];
    snprintf(text, sizeof text, "%.*g", SHORT_DIGITS, number);
    return strtod(text, NULL) == number;
}

/* Whether every number of a reply is the same with SHORT_DIGITS: 0.009 then is 0.009, no 0.0089999999999999993. */
static bool has_short_numbers(json_t *json)
{
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
    {
        if (!has_short_numbers(value)) {
            return false;
        }
    }
    for (size_t i = 0; i < json_array_size(json); i++) {
        if (!has_short_numbers(json_array_get(json, i))) {
            return false;
        }
    }
    return !json_is_real(json) || is_short(json_real_value(json));
}

char *http_json_bytes(json_t *body, size_t *ret_length)
{
    size_t digits = has_short_numbers(body) ? SHORT_DIGITS : ALL_DIGITS;
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
    json_decref(body);
    size_t length = text == NULL ? 0 : strlen(text);
    char *bytes = text == NULL ? NULL : mem_copy_bytes(text, length + 1);
    free(text);
    if (bytes != NULL) {
        bytes[length++] = '\n';
        *ret_length = length;
    }
    return bytes;
}

void request_reply_json_bytes(struct request *request, unsigned status, char *bytes, size_t length)
{
    /* no memory; a reply without a body still needs none */
    request_reply(request, bytes == NULL ? 503 : status, "application/json", bytes, bytes == NULL ? 0 : length);
}

void request_reply_json(struct request *request, unsigned status, json_t *body)
{
    size_t length = 0;
    char *bytes = http_json_bytes(body, &length);
    request_reply_json_bytes(request, status, bytes, length);
}

static void add_retry_after(struct request *request, unsigned status, const struct error *error)
{
    if (is_to_be_retried(status)) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%u", retry_after_seconds(error));
        request_add_header(request, "Retry-After", seconds);
    }
}

void request_reply_error_as(struct request *request, unsigned status, const struct error *error)
{
    add_retry_after(request, status, error);
    json_t *object = request_has_plain_errors(request) ? plain_error(error) : error_to_json(error, status);
    json_t *body = object == NULL ? NULL : json_pack("{s:o}", "error", object);
    request_reply_json(request, body == NULL ? 503 : status, body);
}

void request_reply_error(struct request *request, const struct error *error)
{
    unsigned status = error_http_status(error);
    bool is_plain_400 = request_has_plain_errors(request) && (status == 409 || status == 422);
    request_reply_error_as(request, is_plain_400 ? 400 : status, error);
}

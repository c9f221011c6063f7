/* Bodies and queries of requests. Thread: loop. */
#include "daemon/request_fields.h"

#include "daemon/fields.h"
#include "daemon/routes.h"

enum status request_read_fields(const struct request *request, const char *names, json_t **ret_object,
                                struct error *error)
{
    size_t length;
    json_t *object;
    const char *body = request_body(request, &length);
    if (length > FIELDS_INLINE_BYTES_MAX) {
        return error_set(error, STATUS_TOO_LARGE, "the body has %zu bytes, at most %d are of use here", length,
                         FIELDS_INLINE_BYTES_MAX);
    }
    TRY(fields_parse(body, length, &object, error));
    if (names != NULL) {
        enum status status = fields_only(object, names, error);
        if (status != STATUS_OK) {
            json_decref(object);
            return status;
        }
    }
    *ret_object = object;
    return STATUS_OK;
}

struct search {
    const char *name;
    const char *value; /* as sent */
};

static bool compare(void *context, const char *name, const char *value)
{
    struct search *search = context;
    if (strcmp(name, search->name) != 0) {
        return true;
    }
    search->value = value == NULL ? "" : value;
    return false;
}

const char *request_query(struct request *request, const char *name)
{
    struct search search = {.name = name};
    const char *decoded;
    request_each_query(request, compare, &search);
    if (search.value == NULL ||
        percent_decode(search.value, strlen(search.value), request_arena(request), &decoded, NULL) != STATUS_OK) {
        return search.value;
    }
    return decoded;
}

struct known_query {
    const char *names;
    struct error *error;
    enum status status;
};

static bool check_query(void *context, const char *name, const char *value)
{
    struct known_query *known = context;
    (void)value;
    json_t *object = json_pack("{s:n}", name);
    if (object != NULL) { /* NULL: not UTF-8, and so not known either */
        known->status = fields_only(object, known->names, known->error);
        json_decref(object);
    } else {
        known->status = error_set(known->error, STATUS_INVALID, "a query parameter's name is not UTF-8");
    }
    return known->status == STATUS_OK;
}

enum status request_only_query(struct request *request, const char *names, struct error *error)
{
    struct known_query known = {.names = names, .error = error, .status = STATUS_OK};
    request_each_query(request, check_query, &known);
    return known.status;
}

enum status request_query_flag(struct request *request, const char *name, bool *ret_value, struct error *error)
{
    const char *text = request_query(request, name);
    if (text != NULL && strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        error_set(error, STATUS_INVALID, "?%s must be true or false", name);
        snprintf(error->param, sizeof error->param, "%s", name);
        return STATUS_INVALID;
    }
    *ret_value = text != NULL && strcmp(text, "true") == 0;
    return STATUS_OK;
}

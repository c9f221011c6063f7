/* /v1/sessions and below: list, look, make, delete; of the caller's own key alone. Thread: loop. Owns nothing. */
#include "daemon/api.h"
#include "daemon/callers.h"
#include "daemon/fields.h"
#include "daemon/registry.h"
#include "daemon/routes.h"
#include "daemon/sessions.h"

static const char *owner_of(const struct request *request)
{
    const struct caller *caller = request_caller(request);
    return caller == NULL ? "" : caller->key;
}

void api_sessions_list(struct server *server, struct request *request)
{
    request_reply_json(request, 200, sessions_list(server->sessions, owner_of(request)));
}

static bool wants_state(void *context, const char *name, const char *value)
{
    if (strcmp(name, "state") == 0) {
        *(bool *)context = value == NULL || strcmp(value, "true") == 0;
    }
    return true;
}

void api_sessions_get(struct server *server, struct request *request)
{
    struct error error;
    struct session *session = NULL;
    bool with_state = false;
    request_each_query(request, wants_state, &with_state);
    if (sessions_find(server->sessions, owner_of(request), route_parameter(request, 0), &session, &error) !=
        STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    request_reply_json(request, 200, session_describe(session, with_state));
}

void api_sessions_delete(struct server *server, struct request *request)
{
    struct error error;
    const char *name = route_parameter(request, 0);
    if (sessions_remove(server->sessions, owner_of(request), name, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    request_reply_json(request, 200, json_pack("{s:s, s:s, s:b}", "name", name, "object", "session", "deleted", 1));
}

/* ---- PUT */

/* The version that `reference` means, by its full name, where the caller may use it. */
static enum status resolve(struct server *server, const struct request *request, const char *reference,
                           struct text_origin *ret_origin, struct error *error)
{
    struct snapshot *snapshot = NULL;
    TRY(caller_resolve(server->registry, request_caller(request), reference, &snapshot, error));
    *ret_origin = *snapshot_origin(snapshot);
    registry_release(server->registry, snapshot);
    return STATUS_OK;
}

/* Whether a state is one of a version that is here. */
static enum status check_state(struct server *server, const struct request *request, const struct text_state *state,
                               struct error *error)
{
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    struct text_origin origin;
    text_state_model(state, model);
    TRY(resolve(server, request, model, &origin, error));
    if (memcmp(origin.digest, text_state_head(state)->digest, sizeof origin.digest) != 0) {
        error_set(error, STATUS_UNPROCESSABLE, "the state is of a %s whose content is another's now", model);
        error_code(error, "state_mismatch");
        return STATUS_UNPROCESSABLE;
    }
    return STATUS_OK;
}

static enum status read_fork(struct server *server, const struct request *request, const char *fork,
                             struct session_order *order, char model[TEXT_STATE_MODEL_BYTES_MAX], struct error *error)
{
    struct session *session = NULL;
    TRY(sessions_find(server->sessions, owner_of(request), fork, &session, error));
    TRY(session_check_begun(session, error));
    order->state = text_state_ref(session_state(session));
    if (order->state == NULL) {
        session_model(session, model);
        order->model = model;
    }
    return STATUS_OK;
}

/* What the body says; `order->state` is the caller's reference. `model` is where the model's name is put. */
static enum status read_order(struct server *server, struct request *request, const json_t *object,
                              struct session_order *order, struct text_origin *model, struct error *error)
{
    const char *reference = NULL, *state = NULL, *fork = NULL;
    struct session *session = NULL;
    TRY(fields_only(object, "model state fork ttl_seconds", error));
    TRY(fields_text(object, "model", &reference, error));
    TRY(fields_text(object, "state", &state, error));
    TRY(fields_text(object, "fork", &fork, error));
    TRY(fields_integer(object, "ttl_seconds", 1, SESSION_TTL_SECONDS_MAX, &order->ttl_seconds, error));
    if ((reference != NULL) + (state != NULL) + (fork != NULL) > 1) {
        return error_set(error, STATUS_INVALID, "a session is made of one of model, state and fork");
    }
    if (fork != NULL) {
        return read_fork(server, request, fork, order, model->model, error);
    }
    if (state != NULL) {
        TRY(text_state_read_base64(state, strlen(state), &order->state, error));
        return check_state(server, request, order->state, error);
    }
    const char *name = route_parameter(request, 0);
    bool is_there = sessions_find(server->sessions, owner_of(request), name, &session, error) == STATUS_OK;
    if (reference == NULL && is_there) {
        return STATUS_OK;
    }
    TRY(resolve(server, request, reference, model, error));
    order->model = model->model;
    return STATUS_OK;
}

void api_sessions_put(struct server *server, struct request *request)
{
    struct error error;
    struct session_order order = {.ttl_seconds = 0};
    struct text_origin model;
    struct session *session = NULL;
    json_t *object = NULL;
    size_t length;
    bool is_new = false;
    const char *owner = owner_of(request), *name = route_parameter(request, 0);
    const char *body = request_body(request, &length);
    enum status status = fields_parse(body, length, &object, &error);
    if (status == STATUS_OK) {
        status = read_order(server, request, object, &order, &model, &error);
    }
    if (status == STATUS_OK) {
        status = sessions_put(server->sessions, owner, name, &order, &is_new, &error);
    }
    if (status == STATUS_OK) {
        status = sessions_find(server->sessions, owner, name, &session, &error);
    }
    if (status == STATUS_OK) {
        request_reply_json(request, is_new ? 201 : 200, session_describe(session, false));
    } else {
        request_reply_error(request, &error);
    }
    text_state_unref(order.state);
    json_decref(object);
}

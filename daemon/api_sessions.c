/* /v1/sessions and below: list, look, make, delete; of the caller's own key alone. Thread: loop; large bodies on
 * run threads. Owns its calls. */
#include "daemon/api.h"
#include "daemon/callers.h"
#include "daemon/fields.h"
#include "daemon/registry.h"
#include "daemon/request_fields.h"
#include "daemon/routes.h"
#include "daemon/sessions.h"
#include "engine/base/mem.h"

static const char *owner_of(const struct request *request)
{
    const struct caller *caller = request_caller(request);
    return caller == NULL ? "" : caller->key;
}

void api_sessions_list(struct server *server, struct request *request)
{
    request_reply_json(request, 200, sessions_list(server->sessions, owner_of(request)));
}

void api_sessions_get(struct server *server, struct request *request)
{
    struct error error;
    struct session *session = NULL;
    bool with_state = false;
    enum status status = request_only_query(request, "state", &error);
    if (status == STATUS_OK) {
        status = request_query_flag(request, "state", &with_state, &error);
    }
    if (status == STATUS_OK) {
        status = sessions_find(server->sessions, owner_of(request), route_parameter(request, 0), &session, &error);
    }
    if (status != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    if (with_state && session_check_state_shown(session, &error) != STATUS_OK) {
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

struct put_call {
    struct job job; /* first: reading a large body */
    struct server *server;
    struct request *request; /* held */
    json_t *object;
    const char *model, *fork; /* in `object`; NULL: not said */
    struct text_origin origin;
    struct session_order order; /* its state and what was learned are owned */
    bool has_waited;            /* for its model to be loaded */
    enum status status;
    struct error error;
};

static enum status read_fields(struct put_call *call, struct error *error)
{
    const char *state = NULL;
    size_t length;
    const char *body = request_body(call->request, &length);
    TRY(fields_parse(body, length, &call->object, error));
    TRY(fields_only(call->object, "model state fork ttl_seconds", error));
    TRY(fields_text(call->object, "model", &call->model, error));
    TRY(fields_text(call->object, "state", &state, error));
    TRY(fields_text(call->object, "fork", &call->fork, error));
    TRY(fields_integer(call->object, "ttl_seconds", 1, SESSION_TTL_SECONDS_MAX, &call->order.ttl_seconds, error));
    if ((call->model != NULL) + (state != NULL) + (call->fork != NULL) > 1) {
        return error_set(error, STATUS_INVALID, "a session is made of one of model, state and fork");
    }
    return state == NULL ? STATUS_OK : text_state_read_base64(state, strlen(state), &call->order.state, error);
}

static void read_body(struct job *job)
{
    struct put_call *call = (struct put_call *)job;
    call->status = read_fields(call, &call->error);
}

static enum status resolve(const struct put_call *call, const char *reference, struct snapshot **ret_snapshot,
                           struct error *error)
{
    return caller_resolve(call->server->registry, request_caller(call->request), reference, ret_snapshot, error);
}

/* Whether a text of the version that the state names can go on from it. */
static enum status check_state(const struct put_call *call, struct error *error)
{
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    struct snapshot *snapshot = NULL;
    text_state_model(call->order.state, model);
    TRY(resolve(call, model, &snapshot, error));
    enum status status =
        generation_check_state(snapshot_decode_plan(snapshot), snapshot_origin(snapshot), call->order.state, error);
    registry_release(call->server->registry, snapshot);
    return status;
}

static enum status take_fork(struct put_call *call, struct error *error)
{
    struct session *session = NULL;
    TRY(sessions_find(call->server->sessions, owner_of(call->request), call->fork, &session, error));
    TRY(session_check_begun(session, error));
    call->order.state = text_state_ref(session_state(session));
    call->order.adapted = adapted_weights_ref(session_adapted(session));
    if (call->order.state == NULL) {
        session_model(session, call->origin.model);
        call->order.model = call->origin.model;
    }
    return STATUS_OK;
}

/* What the session begins with; one that is there stays as it is where nothing is said of that. */
static enum status take_content(struct put_call *call, struct error *error)
{
    struct session *session = NULL;
    struct snapshot *snapshot = NULL;
    if (call->fork != NULL) {
        return take_fork(call, error);
    }
    if (call->order.state != NULL) {
        return check_state(call, error);
    }
    const char *name = route_parameter(call->request, 0);
    if (call->model == NULL &&
        sessions_find(call->server->sessions, owner_of(call->request), name, &session, NULL) == STATUS_OK) {
        return STATUS_OK;
    }
    TRY(resolve(call, call->model, &snapshot, error));
    call->origin = *snapshot_origin(snapshot);
    call->order.model = call->origin.model;
    registry_release(call->server->registry, snapshot);
    return STATUS_OK;
}

static void put(struct job *job);

/* How the load went, looking for the model again tells; or nobody waits for it any longer. */
static void on_loaded(void *context, const struct registry_reply *reply)
{
    struct put_call *call = context;
    json_decref(reply->reply);
    call->status = reply->status;
    call->error = reply->error;
    put(&call->job);
}

/* Looking for the model failed: begins to wait where it is being loaded, once. */
static bool wait_for_load(struct put_call *call)
{
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    const char *reference = call->model;
    if (call->order.state != NULL) {
        text_state_model(call->order.state, model);
        reference = model;
    }
    return registry_wait_for_loads(call->server->registry, reference, api_deadline_ms(call->server, call->request),
                                   &call->error, &call->has_waited,
                                   (struct registry_callback){.done = on_loaded, .context = call});
}

static void put(struct job *job)
{
    struct put_call *call = (struct put_call *)job;
    struct error *error = &call->error;
    struct sessions *sessions = call->server->sessions;
    struct session *session = NULL;
    const char *owner = owner_of(call->request), *name = route_parameter(call->request, 0);
    bool is_new = false;
    enum status status = call->status;
    if (status == STATUS_OK) {
        status = take_content(call, error);
    }
    if (status == STATUS_UNAVAILABLE && wait_for_load(call)) {
        return;
    }
    if (status == STATUS_OK) {
        status = sessions_put(sessions, owner, name, &call->order, &is_new, error);
    }
    if (status == STATUS_OK) {
        status = sessions_find(sessions, owner, name, &session, error);
    }
    if (status == STATUS_OK) {
        request_reply_json(call->request, is_new ? 201 : 200, session_describe(session, false));
    } else {
        request_reply_error(call->request, error);
    }
    text_state_unref(call->order.state);
    adapted_weights_unref(call->order.adapted);
    json_decref(call->object);
    request_release(call->request);
    mem_free(call);
}

void api_sessions_put(struct server *server, struct request *request)
{
    struct error error;
    size_t length;
    struct put_call *call = mem_allocate(1, sizeof *call);
    if (call == NULL) {
        request_reply_json(request, 503, NULL);
        return;
    }
    call->server = server;
    call->request = request;
    call->job.run = read_body;
    call->job.done = put;
    request_body(request, &length);
    if (length > FIELDS_INLINE_BYTES_MAX) {
        api_submit(request, server->run, &call->job, STATUS_OK, &error);
        return;
    }
    request_hold(request, NULL, NULL);
    read_body(&call->job);
    put(&call->job);
}

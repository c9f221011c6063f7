/* What requests do with sessions: turns in them, one inside at a time; the API's calls; their life. Thread: loop. Owns
 * the table (sessions_table.c), which owns the sessions. */
#include "daemon/sessions_private.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum { TICK_MS = 1000 };

enum status sessions_find(struct sessions *sessions, const char *owner, const char *name, struct session **ret_session,
                          struct error *error)
{
    struct session_names names;
    TRY(session_names_make(owner, name, &names, error));
    struct session *session = sessions_find_live(sessions, &names);
    if (session == NULL) {
        return sessions_refuse_missing(sessions, &names, error);
    }
    *ret_session = session;
    return STATUS_OK;
}

static enum status refuse_busy(const struct session *session, enum status status, struct error *error)
{
    error_set(error, status, "session '%s' has a request inside", session_name(session));
    error_code(error, "session_busy");
    return status;
}

/* ---- turns ---- */

enum status sessions_enter(struct sessions *sessions, const char *owner, const char *name, bool is_start,
                           struct session_turn *turn, struct error *error)
{
    struct session_names names;
    TRY(session_names_make(owner, name, &names, error));
    struct session *session = sessions_find_live(sessions, &names);
    if (session == NULL && !is_start) {
        return sessions_refuse_missing(sessions, &names, error);
    }
    if (session == NULL) {
        TRY(sessions_insert(sessions, &names, &session, error));
        session->expires_at = sessions_now() + session->ttl_seconds;
    }
    if (session->turns.count > SESSION_WAITERS_MAX) {
        error_set(error, STATUS_LIMIT, "session '%s' has %zu requests waiting, the most there may be", name,
                  session->turns.count - 1);
        error_code(error, "session_busy");
        return STATUS_LIMIT;
    }
    turns_add(&session->turns, &turn->turn);
    turn->session = session;
    return STATUS_OK;
}

struct text_state *session_state(const struct session *session)
{
    return session->state;
}

struct adapted_weights *session_adapted(const struct session *session)
{
    return session->adapted;
}

void session_model(const struct session *session, char model[TEXT_STATE_MODEL_BYTES_MAX])
{
    if (session->state != NULL) {
        text_state_model(session->state, model);
    } else {
        snprintf(model, TEXT_STATE_MODEL_BYTES_MAX, "%s", session->model == NULL ? "" : session->model);
    }
}

enum status session_check_state_shown(const struct session *session, struct error *error)
{
    if (session->adapted == NULL) {
        return STATUS_OK;
    }
    error_set(error, STATUS_UNPROCESSABLE, "session '%s' adapts: its state is nothing without what it learned",
              session_name(session));
    error_code(error, "session_adapts");
    return STATUS_UNPROCESSABLE;
}

enum status sessions_check_size(uint64_t sessions_bytes_max, size_t state_bytes, size_t adapted_bytes,
                                struct error *error)
{
    bool fits_file = state_bytes <= UINT32_MAX && adapted_bytes <= UINT32_MAX;
    if (fits_file &&
        state_bytes + adapted_bytes + sizeof(struct session) + SESSION_NAMES_BYTES_MAX <= sessions_bytes_max) {
        return STATUS_OK;
    }
    if (!fits_file) {
        error_set(error, STATUS_TOO_LARGE,
                  "a state of %zu bytes and adapted weights of %zu: files have room for %u each", state_bytes,
                  adapted_bytes, UINT32_MAX);
    } else if (adapted_bytes > 0) {
        error_set(error, STATUS_TOO_LARGE,
                  "a state of %zu bytes and adapted weights of %zu, sessions_bytes_max is %llu", state_bytes,
                  adapted_bytes, (unsigned long long)sessions_bytes_max);
    } else {
        error_set(error, STATUS_TOO_LARGE, "a state of %zu bytes, sessions_bytes_max is %llu", state_bytes,
                  (unsigned long long)sessions_bytes_max);
    }
    error_code(error, "sessions_bytes_max");
    return STATUS_TOO_LARGE;
}

enum status session_check_begun(const struct session *session, struct error *error)
{
    if (session->is_kept) {
        return STATUS_OK;
    }
    error_set(error, STATUS_NOT_FOUND, "there is no session '%s' yet", session_name(session));
    error_code(error, "session_not_found");
    return STATUS_NOT_FOUND;
}

void sessions_leave(struct sessions *sessions, struct session_turn *turn, struct text_state *state,
                    struct adapted_weights *adapted)
{
    struct session *session = turn->session;
    if (session == NULL) {
        return;
    }
    bool was_inside = turn->turn.is_inside;
    if (was_inside && state != NULL) {
        sessions_set_content(sessions, session, text_state_ref(state), adapted_weights_ref(adapted), NULL);
    }
    turns_remove(&session->turns, &turn->turn);
    turn->session = NULL;
    if (!was_inside) {
        return;
    }
    sessions_touch(sessions, session);
    if (!turns_let_in(&session->turns) && !session->is_kept) {
        sessions_forget(sessions, session);
    }
    sessions_make_room(sessions);
}

/* ---- the API's calls ---- */

/* Sets what an order says; the session's own before is kept where it says nothing. */
static enum status apply(struct sessions *sessions, struct session *session, const struct session_order *order,
                         struct error *error)
{
    if (order->state != NULL) {
        sessions_set_content(sessions, session, text_state_ref(order->state), adapted_weights_ref(order->adapted),
                             NULL);
    } else if (order->model != NULL) {
        char *model = mem_copy_string(order->model);
        if (model == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for a session");
        }
        sessions_set_content(sessions, session, NULL, NULL, model);
    }
    session->ttl_seconds = order->ttl_seconds == 0 ? session->ttl_seconds : (uint32_t)order->ttl_seconds;
    sessions_touch(sessions, session);
    return STATUS_OK;
}

enum status sessions_put(struct sessions *sessions, const char *owner, const char *name,
                         const struct session_order *order, bool *ret_is_new, struct error *error)
{
    struct session_names names;
    TRY(session_names_make(owner, name, &names, error));
    if (order->state != NULL) {
        TRY(sessions_check_size(sessions->server->settings.sessions_bytes_max, text_state_bytes(order->state),
                                adapted_weights_bytes(order->adapted), error));
    }
    struct session *session = sessions_find_live(sessions, &names);
    if (session != NULL && session->turns.first != NULL) {
        return refuse_busy(session, STATUS_CONFLICT, error);
    }
    bool is_new = session == NULL;
    if (is_new) {
        TRY(sessions_insert(sessions, &names, &session, error));
    }
    enum status status = apply(sessions, session, order, error);
    if (status != STATUS_OK && is_new) {
        sessions_forget(sessions, session);
    }
    if (status != STATUS_OK) {
        return status;
    }
    sessions_make_room(sessions);
    *ret_is_new = is_new;
    return STATUS_OK;
}

enum status sessions_add(struct sessions *sessions, const char *owner, const char *name,
                         const struct session_order *order, int64_t expires_at, struct error *error)
{
    struct session_names names;
    bool is_new;
    TRY(session_names_make(owner, name, &names, error));
    TRY(sessions_put(sessions, owner, name, order, &is_new, error));
    struct session *session = sessions_look_up(sessions, &names);
    if (session != NULL) { /* else there is no room for so many any more */
        session->expires_at = expires_at;
    }
    return STATUS_OK;
}

enum status sessions_remove(struct sessions *sessions, const char *owner, const char *name, struct error *error)
{
    struct session_names names;
    TRY(session_names_make(owner, name, &names, error));
    struct session *session = sessions_find_live(sessions, &names);
    if (session == NULL) {
        return sessions_refuse_missing(sessions, &names, error);
    }
    if (session->turns.first != NULL) {
        return refuse_busy(session, STATUS_CONFLICT, error);
    }
    sessions_forget(sessions, session);
    return STATUS_OK;
}

json_t *session_describe(const struct session *session, bool with_state)
{
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    session_model(session, model);
    uint64_t symbols = session->state == NULL ? 0 : text_state_symbol_count(session->state);
    json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b}", "name", session_name(session), "object",
                               "session", "model", model, "symbols", (json_int_t)symbols, "bytes",
                               (json_int_t)session_bytes(session), "ttl_seconds", (json_int_t)session->ttl_seconds,
                               "expires_at", (json_int_t)session->expires_at, "busy", session->turns.first != NULL);
    if (session->adapted != NULL) {
        const char *weights = adaptation_weights_name(adapted_weights_kind(session->adapted));
        json_object_set_new(object, "adapt", json_string(weights));
    }
    if (with_state && session->state != NULL) {
        char *text = text_state_write_base64(session->state);
        if (text == NULL || json_object_set_new(object, "state", json_string(text)) != 0) {
            json_decref(object);
            object = NULL;
        }
        mem_free(text);
    }
    return object;
}

json_t *sessions_list(const struct sessions *sessions, const char *owner)
{
    json_t *data = json_array();
    const struct session_owner *found = sessions_find_owner(sessions, owner);
    const struct session *session = found == NULL ? NULL : found->newest;
    for (int listed = 0; session != NULL && listed < SESSIONS_LISTED_MAX; listed++, session = session->older) {
        json_array_append_new(data, session_describe(session, false));
    }
    json_int_t total = found == NULL ? 0 : (json_int_t)found->count;
    return json_pack("{s:s, s:o, s:I}", "object", "list", "data", data, "total", total);
}

struct sessions_counters sessions_counters(const struct sessions *sessions)
{
    return sessions->counters;
}

/* ---- life ---- */

static void on_tick(uv_timer_t *timer)
{
    struct sessions *sessions = timer->data;
    sessions_sweep(sessions);
    sessions_write_some(sessions);
}

enum status sessions_create(struct server *server, struct sessions **ret_sessions, struct error *error)
{
    struct sessions *sessions = mem_allocate(1, sizeof *sessions);
    struct session **buckets = mem_allocate(SESSION_SEGMENTS, sizeof *buckets);
    if (sessions == NULL || buckets == NULL) {
        mem_free(sessions);
        mem_free(buckets);
        return error_set(error, STATUS_NO_MEMORY, "no memory for sessions");
    }
    sessions->server = server;
    sessions->buckets = buckets;
    sessions->bucket_count = SESSION_SEGMENTS;
    sessions->saved_ms = clock_now_ms();
    const struct settings *settings = &server->settings;
    bool is_set = settings->sessions[0] != '\0';
    snprintf(sessions->path, sizeof sessions->path, "%s%s", is_set ? settings->sessions : settings->models,
             is_set ? "" : "/.sessions");
    sessions_read_files(sessions);
    CHECK(uv_timer_init(&server->loop, &sessions->timer) == 0);
    sessions->timer.data = sessions;
    CHECK(uv_timer_start(&sessions->timer, on_tick, TICK_MS, TICK_MS) == 0);
    uv_unref((uv_handle_t *)&sessions->timer);
    *ret_sessions = sessions;
    return STATUS_OK;
}

void sessions_stop(struct sessions *sessions)
{
    if (sessions != NULL) {
        sessions->is_stopped = true;
        uv_close((uv_handle_t *)&sessions->timer, NULL);
    }
}

void sessions_destroy(struct sessions *sessions)
{
    if (sessions == NULL) {
        return;
    }
    sessions_write_all(sessions);
    while (sessions->owners != NULL) {
        sessions_forget(sessions, sessions->owners->oldest);
    }
    mem_free(sessions->buckets);
    mem_free(sessions);
}

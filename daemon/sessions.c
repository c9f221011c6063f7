/* The table of sessions: by owner and name, and in the order of use. Thread: loop. Owns the sessions and their states;
 * a session whose turn is inside stays, whatever expires or is evicted. */
#include "daemon/sessions_private.h"

#include <time.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

enum { TICK_MS = 1000, SWEEP_TICKS = 64 };

int64_t sessions_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

/* ---- the table ---- */

struct names {
    char text[SESSION_NAMES_BYTES_MAX];
    size_t length; /* with both NULs */
    uint64_t hash;
};

static enum status make_names(const char *owner, const char *name, struct names *ret_names, struct error *error)
{
    TRY(name_check(name, error));
    CHECK(strlen(owner) < MODEL_NAME_BYTES_MAX);
    size_t owner_bytes = strlen(owner) + 1;
    memcpy(ret_names->text, owner, owner_bytes);
    memcpy(ret_names->text + owner_bytes, name, strlen(name) + 1);
    ret_names->length = owner_bytes + strlen(name) + 1;
    ret_names->hash = rng_bits(rng_key(owner), rng_key(name), 0);
    return STATUS_OK;
}

static const char *name_of(const struct session *session)
{
    return session->names + strlen(session->names) + 1;
}

static size_t names_length(const struct session *session)
{
    return strlen(session->names) + strlen(name_of(session)) + 2;
}

static struct session **bucket_of(const struct sessions *sessions, uint64_t hash)
{
    return &sessions->buckets[hash & (sessions->bucket_count - 1)];
}

static struct session *look_up(const struct sessions *sessions, const struct names *names)
{
    struct session *session = *bucket_of(sessions, names->hash);
    while (session != NULL && (session->hash != names->hash || names_length(session) != names->length ||
                               memcmp(session->names, names->text, names->length) != 0)) {
        session = session->next;
    }
    return session;
}

/* What counts towards sessions_bytes_max; a state that forks share counts for each. */
static size_t bytes_of(const struct session *session)
{
    return sizeof *session + names_length(session) + (session->state == NULL ? 0 : text_state_bytes(session->state)) +
           (session->model == NULL ? 0 : strlen(session->model) + 1);
}

static void unlink_use(struct sessions *sessions, struct session *session)
{
    *(session->newer == NULL ? &sessions->newest : &session->newer->older) = session->older;
    *(session->older == NULL ? &sessions->oldest : &session->older->newer) = session->newer;
}

static void link_newest(struct sessions *sessions, struct session *session)
{
    session->newer = NULL;
    session->older = sessions->newest;
    *(sessions->newest == NULL ? &sessions->oldest : &sessions->newest->newer) = session;
    sessions->newest = session;
}

static void note_change(struct sessions *sessions, const struct session *session)
{
    sessions->is_changed[session->hash % SESSION_SEGMENTS] = true;
}

static void forget(struct sessions *sessions, struct session *session)
{
    CHECK(session->turn == NULL);
    struct session **link = bucket_of(sessions, session->hash);
    while (*link != session) {
        link = &(*link)->next;
    }
    *link = session->next;
    unlink_use(sessions, session);
    note_change(sessions, session);
    sessions->counters.count--;
    sessions->counters.bytes -= bytes_of(session);
    text_state_unref(session->state);
    mem_free(session->model);
    mem_free(session);
}

/* Twice as many buckets; without memory the lists in them grow. */
static void grow(struct sessions *sessions)
{
    size_t count = 2 * sessions->bucket_count;
    struct session **buckets = mem_allocate(count, sizeof *buckets);
    if (buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < sessions->bucket_count; i++) {
        struct session *next;
        for (struct session *session = sessions->buckets[i]; session != NULL; session = next) {
            next = session->next;
            session->next = buckets[session->hash & (count - 1)];
            buckets[session->hash & (count - 1)] = session;
        }
    }
    mem_free(sessions->buckets);
    sessions->buckets = buckets;
    sessions->bucket_count = count;
}

static enum status add(struct sessions *sessions, const struct names *names, struct session **ret_session,
                       struct error *error)
{
    struct session *session = mem_allocate(1, sizeof *session + names->length);
    if (session == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a session");
    }
    if (sessions->counters.count >= sessions->bucket_count) {
        grow(sessions);
    }
    session->hash = names->hash;
    session->ttl_seconds = SESSION_TTL_SECONDS_DEFAULT;
    memcpy(session->names, names->text, names->length);
    session->next = *bucket_of(sessions, names->hash);
    *bucket_of(sessions, names->hash) = session;
    link_newest(sessions, session);
    sessions->counters.count++;
    sessions->counters.bytes += bytes_of(session);
    *ret_session = session;
    return STATUS_OK;
}

/* ---- time and memory ---- */

static void expire(struct sessions *sessions, struct session *session)
{
    struct expired_session *expired = &sessions->expired[sessions->expired_next++ % SESSIONS_EXPIRED_MAX];
    memset(expired->names, 0, sizeof expired->names);
    memcpy(expired->names, session->names, names_length(session));
    expired->at = session->expires_at;
    sessions->counters.expired++;
    forget(sessions, session);
}

static bool is_expired(const struct session *session, int64_t now)
{
    return session->turn == NULL && session->expires_at <= now;
}

/* Lets sessions go that were not used for longest, until all the others are within their maximum. */
static void make_room(struct sessions *sessions)
{
    uint64_t bytes_max = sessions->server->settings.sessions_bytes_max;
    struct session *newer;
    for (struct session *session = sessions->oldest; session != NULL && sessions->counters.bytes > bytes_max;
         session = newer) {
        newer = session->newer;
        if (session->turn == NULL) {
            sessions->counters.evicted++;
            forget(sessions, session);
        }
    }
}

static void touch(struct sessions *sessions, struct session *session)
{
    session->expires_at = sessions_now() + session->ttl_seconds;
    unlink_use(sessions, session);
    link_newest(sessions, session);
    note_change(sessions, session);
}

static void sweep(struct sessions *sessions)
{
    int64_t now = sessions_now();
    for (size_t n = sessions->bucket_count / SWEEP_TICKS; n > 0; n--) {
        struct session *next;
        for (struct session *session = sessions->buckets[sessions->swept++ & (sessions->bucket_count - 1)];
             session != NULL; session = next) {
            next = session->next;
            if (is_expired(session, now)) {
                expire(sessions, session);
            }
        }
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct sessions *sessions = timer->data;
    sweep(sessions);
    sessions_write_some(sessions);
}

/* ---- finding ---- */

static enum status refuse_missing(const struct sessions *sessions, const struct names *names, struct error *error)
{
    const char *name = names->text + strlen(names->text) + 1;
    for (size_t i = 0; i < SESSIONS_EXPIRED_MAX; i++) { /* the last end first */
        const struct expired_session *expired =
            &sessions->expired[(sessions->expired_next + SESSIONS_EXPIRED_MAX - 1 - i) % SESSIONS_EXPIRED_MAX];
        if (expired->at != 0 && memcmp(expired->names, names->text, names->length) == 0) {
            error_set(error, STATUS_NOT_FOUND, "session '%s' expired", name);
            if (error != NULL) {
                error->expired_at = expired->at;
            }
            error_code(error, "session_not_found");
            return STATUS_NOT_FOUND;
        }
    }
    error_set(error, STATUS_NOT_FOUND, "there is no session '%s'", name);
    error_code(error, "session_not_found");
    return STATUS_NOT_FOUND;
}

/* The session, or NULL; one whose time is over ends here. */
static struct session *find_live(struct sessions *sessions, const struct names *names)
{
    struct session *session = look_up(sessions, names);
    if (session != NULL && is_expired(session, sessions_now())) {
        expire(sessions, session);
        return NULL;
    }
    return session;
}

enum status sessions_find(struct sessions *sessions, const char *owner, const char *name, struct session **ret_session,
                          struct error *error)
{
    struct names names;
    TRY(make_names(owner, name, &names, error));
    struct session *session = find_live(sessions, &names);
    if (session == NULL) {
        return refuse_missing(sessions, &names, error);
    }
    *ret_session = session;
    return STATUS_OK;
}

static enum status refuse_busy(const struct session *session, enum status status, struct error *error)
{
    error_set(error, status, "session '%s' has a request inside", name_of(session));
    error_code(error, "session_busy");
    return status;
}

/* ---- turns ---- */

enum status sessions_enter(struct sessions *sessions, const char *owner, const char *name, bool is_start,
                           struct session_turn *turn, struct error *error)
{
    struct names names;
    TRY(make_names(owner, name, &names, error));
    struct session *session = find_live(sessions, &names);
    if (session == NULL && !is_start) {
        return refuse_missing(sessions, &names, error);
    }
    if (session == NULL) {
        TRY(add(sessions, &names, &session, error));
        session->expires_at = sessions_now() + session->ttl_seconds;
    }
    struct session_turn **link = &session->turn;
    size_t count = 0;
    for (; *link != NULL; link = &(*link)->next) {
        count++;
    }
    if (count > SESSION_WAITERS_MAX) {
        error_set(error, STATUS_LIMIT, "session '%s' has %zu requests waiting, the most there may be", name, count - 1);
        error_code(error, "session_busy");
        return STATUS_LIMIT;
    }
    *link = turn;
    turn->next = NULL;
    turn->session = session;
    turn->is_inside = count == 0;
    return STATUS_OK;
}

struct text_state *session_state(const struct session *session)
{
    return session->state;
}

void session_model(const struct session *session, char model[TEXT_STATE_MODEL_BYTES_MAX])
{
    if (session->state != NULL) {
        text_state_model(session->state, model);
    } else {
        snprintf(model, TEXT_STATE_MODEL_BYTES_MAX, "%s", session->model == NULL ? "" : session->model);
    }
}

enum status session_check_begun(const struct session *session, struct error *error)
{
    if (session->is_kept) {
        return STATUS_OK;
    }
    error_set(error, STATUS_NOT_FOUND, "there is no session '%s' yet", name_of(session));
    error_code(error, "session_not_found");
    return STATUS_NOT_FOUND;
}

/* Takes over the state, which is not NULL, and drops what it had before. */
static void set_state(struct sessions *sessions, struct session *session, struct text_state *state)
{
    sessions->counters.bytes -= bytes_of(session);
    text_state_unref(session->state);
    mem_free(session->model);
    session->model = NULL;
    session->state = state;
    session->is_kept = true;
    sessions->counters.bytes += bytes_of(session);
}

void sessions_leave(struct sessions *sessions, struct session_turn *turn, struct text_state *state)
{
    struct session *session = turn->session;
    if (session == NULL) {
        return;
    }
    CHECK(turn->is_inside && session->turn == turn);
    if (state != NULL) {
        set_state(sessions, session, text_state_ref(state));
    }
    session->turn = turn->next;
    turn->session = NULL;
    turn->is_inside = false;
    touch(sessions, session);
    if (session->turn != NULL) {
        session->turn->is_inside = true;
        session->turn->granted(session->turn);
    } else if (!session->is_kept) {
        forget(sessions, session);
    }
    make_room(sessions);
}

/* ---- the API's calls ---- */

/* Sets what an order says; the session's own before is kept where it says nothing. */
static enum status apply(struct sessions *sessions, struct session *session, const struct session_order *order,
                         struct error *error)
{
    if (order->state != NULL) {
        set_state(sessions, session, text_state_ref(order->state));
    } else if (order->model != NULL) {
        char *model = mem_copy_string(order->model);
        if (model == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for a session");
        }
        sessions->counters.bytes -= bytes_of(session);
        session->state = text_state_unref(session->state);
        mem_free(session->model);
        session->model = model;
        session->is_kept = true;
        sessions->counters.bytes += bytes_of(session);
    }
    session->ttl_seconds = order->ttl_seconds == 0 ? session->ttl_seconds : (uint32_t)order->ttl_seconds;
    touch(sessions, session);
    return STATUS_OK;
}

enum status sessions_put(struct sessions *sessions, const char *owner, const char *name,
                         const struct session_order *order, bool *ret_is_new, struct error *error)
{
    struct names names;
    TRY(make_names(owner, name, &names, error));
    uint64_t bytes_max = sessions->server->settings.sessions_bytes_max;
    if (order->state != NULL && text_state_bytes(order->state) + sizeof(struct session) + names.length > bytes_max) {
        error_set(error, STATUS_TOO_LARGE, "a state of %zu bytes, sessions_bytes_max is %llu",
                  text_state_bytes(order->state), (unsigned long long)bytes_max);
        error_code(error, "sessions_bytes_max");
        return STATUS_TOO_LARGE;
    }
    struct session *session = find_live(sessions, &names);
    if (session != NULL && session->turn != NULL) {
        return refuse_busy(session, STATUS_CONFLICT, error);
    }
    bool is_new = session == NULL;
    if (is_new) {
        TRY(add(sessions, &names, &session, error));
    }
    enum status status = apply(sessions, session, order, error);
    if (status != STATUS_OK && is_new) {
        forget(sessions, session);
    }
    if (status != STATUS_OK) {
        return status;
    }
    make_room(sessions);
    *ret_is_new = is_new;
    return STATUS_OK;
}

enum status sessions_add(struct sessions *sessions, const char *owner, const char *name,
                         const struct session_order *order, int64_t expires_at, struct error *error)
{
    struct names names;
    bool is_new;
    TRY(make_names(owner, name, &names, error));
    TRY(sessions_put(sessions, owner, name, order, &is_new, error));
    struct session *session = look_up(sessions, &names);
    if (session != NULL) { /* else there is no room for so many any more */
        session->expires_at = expires_at;
    }
    return STATUS_OK;
}

enum status sessions_remove(struct sessions *sessions, const char *owner, const char *name, struct error *error)
{
    struct names names;
    TRY(make_names(owner, name, &names, error));
    struct session *session = find_live(sessions, &names);
    if (session == NULL) {
        return refuse_missing(sessions, &names, error);
    }
    if (session->turn != NULL) {
        return refuse_busy(session, STATUS_CONFLICT, error);
    }
    forget(sessions, session);
    return STATUS_OK;
}

json_t *session_describe(const struct session *session, bool with_state)
{
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    session_model(session, model);
    uint64_t symbols = session->state == NULL ? 0 : text_state_symbol_count(session->state);
    json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b}", "name", name_of(session), "object",
                               "session", "model", model, "symbols", (json_int_t)symbols, "bytes",
                               (json_int_t)bytes_of(session), "ttl_seconds", (json_int_t)session->ttl_seconds,
                               "expires_at", (json_int_t)session->expires_at, "busy", session->turn != NULL);
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
    json_int_t total = 0;
    for (const struct session *session = sessions->newest; session != NULL; session = session->older) {
        if (strcmp(session->names, owner) == 0 && total++ < SESSIONS_LISTED_MAX) {
            json_array_append_new(data, session_describe(session, false));
        }
    }
    return json_pack("{s:s, s:o, s:I}", "object", "list", "data", data, "total", total);
}

struct sessions_counters sessions_counters(const struct sessions *sessions)
{
    return sessions->counters;
}

/* ---- life ---- */

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
    while (sessions->oldest != NULL) {
        forget(sessions, sessions->oldest);
    }
    mem_free(sessions->buckets);
    mem_free(sessions);
}

/* The table of sessions: by owner and name, and in the order of use; what ends by its time or for want of room. Thread:
 * loop. Owns the sessions and their states; a session whose turn is inside stays, whatever expires or is evicted. */
#include <time.h>

#include "daemon/sessions_private.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

enum { SWEEP_TICKS = 64 };

int64_t sessions_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

enum status session_names_make(const char *owner, const char *name, struct session_names *ret_names,
                               struct error *error)
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

const char *session_name(const struct session *session)
{
    return session->names + strlen(session->names) + 1;
}

static size_t names_length(const struct session *session)
{
    return strlen(session->names) + strlen(session_name(session)) + 2;
}

static struct session **bucket_of(const struct sessions *sessions, uint64_t hash)
{
    return &sessions->buckets[hash & (sessions->bucket_count - 1)];
}

struct session *sessions_look_up(const struct sessions *sessions, const struct session_names *names)
{
    struct session *session = *bucket_of(sessions, names->hash);
    while (session != NULL && (session->hash != names->hash || names_length(session) != names->length ||
                               memcmp(session->names, names->text, names->length) != 0)) {
        session = session->next;
    }
    return session;
}

size_t session_bytes(const struct session *session)
{
    return sizeof *session + names_length(session) + (session->state == NULL ? 0 : text_state_bytes(session->state)) +
           adapted_weights_bytes(session->adapted) + (session->model == NULL ? 0 : strlen(session->model) + 1);
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

/* ---- how many ---- */

static struct session_owner *find_owner(const struct sessions *sessions, const char *name)
{
    for (size_t i = 0; i < sessions->owner_count; i++) {
        if (strcmp(sessions->owners[i].name, name) == 0) {
            return &sessions->owners[i];
        }
    }
    return NULL;
}

/* One more of that owner, where there may be one. */
static enum status count_in(struct sessions *sessions, const char *name, struct error *error)
{
    const struct settings *settings = &sessions->server->settings;
    struct session_owner *owner = find_owner(sessions, name);
    if (sessions->counters.count >= settings->sessions_max) {
        error_set(error, STATUS_UNAVAILABLE, "there are %zu sessions, sessions_max is %llu", sessions->counters.count,
                  (unsigned long long)settings->sessions_max);
        return error_code(error, "sessions_max");
    }
    if (owner != NULL && owner->count >= settings->sessions_per_key_max) {
        error_set(error, STATUS_LIMIT, "there are %zu sessions %s%s, sessions_per_key_max is %llu", owner->count,
                  name[0] == '\0' ? "without a key" : "of key ", name,
                  (unsigned long long)settings->sessions_per_key_max);
        return error_code(error, "sessions_per_key_max");
    }
    if (owner == NULL) {
        struct session_owner *owners = mem_reallocate(sessions->owners, sessions->owner_count + 1, sizeof *owners);
        if (owners == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for a session");
        }
        sessions->owners = owners;
        owner = &owners[sessions->owner_count++];
        *owner = (struct session_owner){.count = 0};
        memcpy(owner->name, name, strlen(name) + 1);
    }
    owner->count++;
    sessions->counters.count++;
    return STATUS_OK;
}

static void count_out(struct sessions *sessions, const char *name)
{
    struct session_owner *owner = find_owner(sessions, name);
    sessions->counters.count--;
    if (--owner->count == 0) {
        *owner = sessions->owners[--sessions->owner_count];
    }
}

void sessions_forget(struct sessions *sessions, struct session *session)
{
    CHECK(session->turns.first == NULL);
    struct session **link = bucket_of(sessions, session->hash);
    while (*link != session) {
        link = &(*link)->next;
    }
    *link = session->next;
    unlink_use(sessions, session);
    note_change(sessions, session);
    count_out(sessions, session->names);
    sessions->counters.bytes -= session_bytes(session);
    text_state_unref(session->state);
    adapted_weights_unref(session->adapted);
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

enum status sessions_insert(struct sessions *sessions, const struct session_names *names, struct session **ret_session,
                            struct error *error)
{
    struct session *session = mem_allocate(1, sizeof *session + names->length);
    if (session == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a session");
    }
    enum status status = count_in(sessions, names->text, error);
    if (status != STATUS_OK) {
        mem_free(session);
        return status;
    }
    if (sessions->counters.count > sessions->bucket_count) {
        grow(sessions);
    }
    session->hash = names->hash;
    session->ttl_seconds = SESSION_TTL_SECONDS_DEFAULT;
    memcpy(session->names, names->text, names->length);
    session->next = *bucket_of(sessions, names->hash);
    *bucket_of(sessions, names->hash) = session;
    link_newest(sessions, session);
    sessions->counters.bytes += session_bytes(session);
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
    sessions_forget(sessions, session);
}

static bool is_expired(const struct session *session, int64_t now)
{
    return session->turns.first == NULL && session->expires_at <= now;
}

void sessions_make_room(struct sessions *sessions)
{
    uint64_t bytes_max = sessions->server->settings.sessions_bytes_max;
    struct session *newer;
    for (struct session *session = sessions->oldest; session != NULL && sessions->counters.bytes > bytes_max;
         session = newer) {
        newer = session->newer;
        if (session->turns.first == NULL) {
            sessions->counters.evicted++;
            sessions_forget(sessions, session);
        }
    }
}

void sessions_touch(struct sessions *sessions, struct session *session)
{
    session->expires_at = sessions_now() + session->ttl_seconds;
    unlink_use(sessions, session);
    link_newest(sessions, session);
    note_change(sessions, session);
}

void sessions_sweep(struct sessions *sessions)
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

/* ---- finding ---- */

enum status sessions_refuse_missing(const struct sessions *sessions, const struct session_names *names,
                                    struct error *error)
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

struct session *sessions_find_live(struct sessions *sessions, const struct session_names *names)
{
    struct session *session = sessions_look_up(sessions, names);
    if (session != NULL && is_expired(session, sessions_now())) {
        expire(sessions, session);
        return NULL;
    }
    return session;
}

void sessions_set_content(struct sessions *sessions, struct session *session, struct text_state *state,
                          struct adapted_weights *adapted, char *model)
{
    sessions->counters.bytes -= session_bytes(session);
    text_state_unref(session->state);
    adapted_weights_unref(session->adapted);
    mem_free(session->model);
    session->state = state;
    session->adapted = adapted;
    session->model = model;
    session->is_kept = true;
    sessions->counters.bytes += session_bytes(session);
}

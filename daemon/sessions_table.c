/* The table of sessions: by owner and name, each owner's in the order of use; what ends by its time or for want of
 * room. Thread: loop. Owns the sessions and their states; a session whose turn is inside stays, whatever expires or is
 * evicted. */
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

static void unlink_use(struct session *session)
{
    struct session_owner *owner = session->owner;
    *(session->newer == NULL ? &owner->newest : &session->newer->older) = session->older;
    *(session->older == NULL ? &owner->oldest : &session->older->newer) = session->newer;
}

static void link_newest(struct session *session)
{
    struct session_owner *owner = session->owner;
    session->newer = NULL;
    session->older = owner->newest;
    *(owner->newest == NULL ? &owner->oldest : &owner->newest->newer) = session;
    owner->newest = session;
}

static void add_bytes(struct sessions *sessions, const struct session *session)
{
    sessions->counters.bytes += session_bytes(session);
    session->owner->bytes += session_bytes(session);
}

static void take_bytes(struct sessions *sessions, const struct session *session)
{
    sessions->counters.bytes -= session_bytes(session);
    session->owner->bytes -= session_bytes(session);
}

static void note_change(struct sessions *sessions, const struct session *session)
{
    sessions->is_changed[session->hash % SESSION_SEGMENTS] = true;
}

/* ---- how many ---- */

struct session_owner *sessions_find_owner(const struct sessions *sessions, const char *name)
{
    struct session_owner *owner = sessions->owners;
    while (owner != NULL && strcmp(owner->name, name) != 0) {
        owner = owner->next;
    }
    return owner;
}

/* Whether the owner, NULL where it has none yet, may have one more. */
static enum status check_count(const struct sessions *sessions, const struct session_owner *owner, struct error *error)
{
    const struct settings *settings = &sessions->server->settings;
    if (sessions->counters.count >= settings->sessions_max) {
        error_set(error, STATUS_UNAVAILABLE, "there are %zu sessions, sessions_max is %llu", sessions->counters.count,
                  (unsigned long long)settings->sessions_max);
        return error_code(error, "sessions_max");
    }
    if (owner != NULL && owner->count >= settings->sessions_per_key_max) {
        error_set(error, STATUS_LIMIT, "there are %zu sessions %s%s, sessions_per_key_max is %llu", owner->count,
                  owner->name[0] == '\0' ? "without a key" : "of key ", owner->name,
                  (unsigned long long)settings->sessions_per_key_max);
        return error_code(error, "sessions_per_key_max");
    }
    return STATUS_OK;
}

/* One more of that owner, where there may be one. */
static enum status count_in(struct sessions *sessions, const char *name, struct session_owner **ret_owner,
                            struct error *error)
{
    struct session_owner *owner = sessions_find_owner(sessions, name);
    TRY(check_count(sessions, owner, error));
    if (owner == NULL) {
        owner = mem_allocate(1, sizeof *owner);
        if (owner == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for a session");
        }
        memcpy(owner->name, name, strlen(name) + 1);
        owner->next = sessions->owners;
        sessions->owners = owner;
    }
    owner->count++;
    sessions->counters.count++;
    *ret_owner = owner;
    return STATUS_OK;
}

static void count_out(struct sessions *sessions, struct session_owner *owner)
{
    sessions->counters.count--;
    if (--owner->count > 0) {
        return;
    }
    struct session_owner **link = &sessions->owners;
    while (*link != owner) {
        link = &(*link)->next;
    }
    *link = owner->next;
    mem_free(owner);
}

void sessions_forget(struct sessions *sessions, struct session *session)
{
    CHECK(session->turns.first == NULL);
    struct session **link = bucket_of(sessions, session->hash);
    while (*link != session) {
        link = &(*link)->next;
    }
    *link = session->next;
    unlink_use(session);
    note_change(sessions, session);
    take_bytes(sessions, session);
    count_out(sessions, session->owner);
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
    enum status status = count_in(sessions, names->text, &session->owner, error);
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
    link_newest(session);
    add_bytes(sessions, session);
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

/* The one of an owner's that was not used for longest and has nobody inside, or NULL. */
static struct session *find_idle(const struct session_owner *owner)
{
    struct session *session = owner->oldest;
    while (session != NULL && session->turns.first != NULL) {
        session = session->newer;
    }
    return session;
}

void sessions_make_room(struct sessions *sessions)
{
    while (sessions->counters.bytes > sessions->server->settings.sessions_bytes_max) {
        struct session *victim = NULL;
        for (const struct session_owner *owner = sessions->owners; owner != NULL; owner = owner->next) {
            bool has_most = victim == NULL || owner->bytes > victim->owner->bytes;
            struct session *idle = has_most ? find_idle(owner) : NULL;
            victim = idle == NULL ? victim : idle;
        }
        if (victim == NULL) {
            return; /* requests are inside all of them */
        }
        sessions->counters.evicted++;
        sessions_forget(sessions, victim);
    }
}

void sessions_touch(struct sessions *sessions, struct session *session)
{
    session->expires_at = sessions_now() + session->ttl_seconds;
    unlink_use(session);
    link_newest(session);
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
    take_bytes(sessions, session);
    text_state_unref(session->state);
    adapted_weights_unref(session->adapted);
    mem_free(session->model);
    session->state = state;
    session->adapted = adapted;
    session->model = model;
    session->is_kept = true;
    add_bytes(sessions, session);
}

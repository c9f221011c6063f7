/* Named sessions: texts that go on from request to request, each with the state it stands in and the key it belongs to.
 * Kept in memory up to a number of bytes, the ones unused longest of the key that has most going first; each until it
 * was not used for so many seconds; and on disk, so that a restart forgets nothing.
 *
 * A request enters a session, and leaves it with the state its text ended in. One is inside at a time; others wait, and
 * come in the order in which they arrived. Thread: loop. */
#ifndef DAEMON_SESSIONS_H
#define DAEMON_SESSIONS_H

#include "daemon/names.h"
#include "daemon/server.h"
#include "daemon/turns.h"

enum {
    SESSION_WAITERS_MAX = 64,             /* requests of one session; above: LIMIT */
    SESSION_TTL_SECONDS_DEFAULT = 604800, /* a week */
    SESSION_TTL_SECONDS_MAX = 315360000,
    SESSIONS_LISTED_MAX = 1000,
};

struct sessions;
struct session;

/* Owned. `server` is borrowed for good. Reads what was kept on disk; files that are no good are named in the log and
 * put aside. Before anything listens. */
enum status sessions_create(struct server *server, struct sessions **ret_sessions, struct error *error) MUST_CHECK;

/* Writes what changed, while the caller waits; then forgets everything. No request may be inside, the loader must have
 * ended. NULL is allowed. */
void sessions_destroy(struct sessions *sessions);

/* Ends its timer, whose handle closes with the loop's next turn. NULL is allowed. */
void sessions_stop(struct sessions *sessions);

/* A request's place in a session; zeroed by its owner, who sets `turn.granted`. */
struct session_turn {
    struct turn turn;
    struct session *session; /* NULL: in none */
};

/* Enters the session of that owner (a key's name; "": without keys) and name, or begins to wait for it: `is_inside`
 * tells. With `is_start` a session that is not there is made. INVALID, code "invalid_name"; NOT_FOUND, code
 * "session_not_found", with `expired_at` where it is known when it ended; LIMIT, code "session_busy" or
 * "sessions_per_key_max"; UNAVAILABLE, code "sessions_max"; NO_MEMORY. */
enum status sessions_enter(struct sessions *sessions, const char *owner, const char *name, bool is_start,
                           struct session_turn *turn, struct error *error) MUST_CHECK;

/* What is inside may look at: NULL where nothing was said yet. Borrowed until the turn leaves. */
struct text_state *session_state(const struct session *session);
/* What it learned by `adapt`, of which its state is then: NULL where it does not adapt. */
struct adapted_weights *session_adapted(const struct session *session);
/* "bard@7": the version it stays with; "" where it was only just made. */
void session_model(const struct session *session, char model[TEXT_STATE_MODEL_BYTES_MAX]);

/* Whether it can be with a state and `adapted` of so many bytes: TOO_LARGE, code "sessions_bytes_max". Thread: any. */
enum status sessions_check_size(uint64_t sessions_bytes_max, size_t state_bytes, size_t adapted_bytes,
                                struct error *error) MUST_CHECK;

/* UNPROCESSABLE, code "session_adapts": its state is nothing without what it learned, and is not given out. */
enum status session_check_state_shown(const struct session *session, struct error *error) MUST_CHECK;

/* NOT_FOUND, code "session_not_found": it was made for a turn that has not ended, or that left nothing. */
enum status session_check_begun(const struct session *session, struct error *error) MUST_CHECK;

/* Leaves: `state` is where the text stands now, with what it learned, or NULL where it does not adapt; without a state
 * the session is left as it was, and one that was made for this turn is then gone. Lets the next one in. A turn that
 * only waits gives up its place; one that is in no session is allowed. */
void sessions_leave(struct sessions *sessions, struct session_turn *turn, struct text_state *state,
                    struct adapted_weights *adapted);

/* What PUT says. */
struct session_order {
    const char *model;               /* "bard@7" of a session without a state; NULL: none */
    struct text_state *state;        /* or what it goes on from; a reference is taken */
    struct adapted_weights *adapted; /* with that: what it learned, if it adapts; likewise */
    int64_t ttl_seconds;             /* 0: the default, or as it was */
};

/* Makes a session, or begins one anew. CONFLICT, code "session_busy", while a request is inside; TOO_LARGE above
 * sessions_bytes_max; LIMIT and UNAVAILABLE as sessions_enter; INVALID, NO_MEMORY. */
enum status sessions_put(struct sessions *sessions, const char *owner, const char *name,
                         const struct session_order *order, bool *ret_is_new, struct error *error) MUST_CHECK;

/* NOT_FOUND as sessions_enter; CONFLICT, code "session_busy", for remove. `find` gives what a look at it needs. */
enum status sessions_find(struct sessions *sessions, const char *owner, const char *name, struct session **ret_session,
                          struct error *error) MUST_CHECK;
enum status sessions_remove(struct sessions *sessions, const char *owner, const char *name,
                            struct error *error) MUST_CHECK;

/* {"name","model","symbols","bytes","ttl_seconds","expires_at","busy"}, "adapt" where it does; with_state also "state".
 * New reference, NULL without memory. */
json_t *session_describe(const struct session *session, bool with_state);

/* The owner's, the one used last first, at most SESSIONS_LISTED_MAX: {"object":"list","data":[…],"total"}. New
 * reference, NULL without memory. */
json_t *sessions_list(const struct sessions *sessions, const char *owner);

struct sessions_counters {
    size_t count;
    size_t bytes;
    uint64_t expired; /* ended by their time, and by the memory that all may have */
    uint64_t evicted;
    uint64_t saves_failed;
};
struct sessions_counters sessions_counters(const struct sessions *sessions);

#endif

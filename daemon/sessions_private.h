/* What sessions.c (turns and the API's calls), sessions_table.c (the table of sessions) and sessions_file.c (keeping
 * them on disk) share. Thread: loop. */
#ifndef DAEMON_SESSIONS_PRIVATE_H
#define DAEMON_SESSIONS_PRIVATE_H

#include "daemon/sessions.h"

enum {
    SESSION_NAMES_BYTES_MAX = 2 * MODEL_NAME_BYTES_MAX, /* the owner and its NUL, the name and its NUL */
    SESSION_SEGMENTS = 256,                             /* files on disk */
    SESSIONS_EXPIRED_MAX = 1024,                        /* whose end is remembered */
    SESSIONS_PATH_BYTES_MAX = 4096,
};

struct session {
    struct session *next;            /* in its bucket */
    struct session *newer, *older;   /* of its owner's, by use */
    struct session_owner *owner;     /* borrowed from the table */
    struct text_state *state;        /* owned; NULL: nothing said yet */
    struct adapted_weights *adapted; /* owned; NULL: it does not adapt */
    char *model;                     /* owned; of a session without a state, else NULL */
    struct turns turns;              /* who is inside, and those that wait */
    uint64_t hash;
    int64_t expires_at; /* seconds since 1970 */
    uint32_t ttl_seconds;
    bool is_kept; /* it stays although its turn leaves nothing */
    char names[]; /* the owner, NUL, the name, NUL */
};

struct expired_session {
    char names[SESSION_NAMES_BYTES_MAX];
    int64_t at;
};

/* A key's sessions: at least one. */
struct session_owner {
    struct session_owner *next;
    struct session *newest, *oldest;
    size_t count;
    size_t bytes;
    char name[MODEL_NAME_BYTES_MAX];
};

struct sessions {
    struct server *server;
    struct session **buckets;     /* a session is in bucket hash % bucket_count; its file is hash % SESSION_SEGMENTS */
    size_t bucket_count;          /* a power of 2, at least SESSION_SEGMENTS */
    struct session_owner *owners; /* owned: of those that have any */
    struct sessions_counters counters;
    struct expired_session expired[SESSIONS_EXPIRED_MAX]; /* a ring */
    size_t expired_next;
    uv_timer_t timer;
    size_t swept; /* buckets that were looked at for what has expired */
    bool is_changed[SESSION_SEGMENTS];
    struct sessions_save *save; /* one file being written; NULL: none */
    size_t save_next;           /* the segment to look at next */
    uint64_t saved_ms;          /* clock_now_ms() when the last round began */
    char path[SESSIONS_PATH_BYTES_MAX];
    bool is_stopped;
    bool is_failing; /* the last file could not be written: said once */
};

/* Seconds since 1970. */
int64_t sessions_now(void);

/* ---- the table ---- */

/* An owner and a name, as the table looks for them. */
struct session_names {
    char text[SESSION_NAMES_BYTES_MAX];
    size_t length; /* with both NULs */
    uint64_t hash;
};

/* INVALID, code "invalid_name". */
enum status session_names_make(const char *owner, const char *name, struct session_names *ret_names,
                               struct error *error) MUST_CHECK;
const char *session_name(const struct session *session);

/* What counts towards sessions_bytes_max; a state that forks share counts for each. */
size_t session_bytes(const struct session *session);

/* The session, or NULL. With find_live one whose time is over ends here. */
struct session *sessions_look_up(const struct sessions *sessions, const struct session_names *names);
struct session *sessions_find_live(struct sessions *sessions, const struct session_names *names);

/* NOT_FOUND, code "session_not_found", with the time at which it expired where that is remembered. */
enum status sessions_refuse_missing(const struct sessions *sessions, const struct session_names *names,
                                    struct error *error);

/* A new one, which is not there yet, with nothing said in it. UNAVAILABLE, code "sessions_max"; LIMIT, code
 * "sessions_per_key_max"; NO_MEMORY. */
enum status sessions_insert(struct sessions *sessions, const struct session_names *names, struct session **ret_session,
                            struct error *error) MUST_CHECK;
/* Nobody may be inside. */
void sessions_forget(struct sessions *sessions, struct session *session);

/* Takes over the state, what it learned and the model, each or NULL, and drops what it had before; it is kept from now
 * on. */
void sessions_set_content(struct sessions *sessions, struct session *session, struct text_state *state,
                          struct adapted_weights *adapted, char *model);

/* It was used now: its time begins anew, and it will be written. */
void sessions_touch(struct sessions *sessions, struct session *session);

/* The owner's, or NULL where it has no session. */
struct session_owner *sessions_find_owner(const struct sessions *sessions, const char *name);

/* Lets sessions go until all the others are within their maximum: of the owner whose sessions take most, the one that
 * was not used for longest. So nobody's sessions push out those of one who has less. */
void sessions_make_room(struct sessions *sessions);

/* Ends those whose time is over, in the next part of the table: all of it in a minute. */
void sessions_sweep(struct sessions *sessions);

/* ---- files ---- */

/* Adds a session that was read from disk. NO_MEMORY. */
enum status sessions_add(struct sessions *sessions, const char *owner, const char *name,
                         const struct session_order *order, int64_t expires_at, struct error *error) MUST_CHECK;

/* A session as a file has it. */
struct session_record {
    char owner[MODEL_NAME_BYTES_MAX];
    char name[MODEL_NAME_BYTES_MAX];
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    struct session_order order; /* its model is the one above, its state and what it learned the parser's references */
    int64_t expires_at;
};

/* Calls `each` for every session of a file's content; its error ends it. CORRUPT, INVALID or UNSUPPORTED say what is
 * wrong with the content. Thread: any. */
enum status sessions_parse(const char *bytes, size_t length,
                           enum status (*each)(void *context, const struct session_record *record, struct error *error),
                           void *context, struct error *error) MUST_CHECK;

/* Reads all files of the directory. */
void sessions_read_files(struct sessions *sessions);

/* Goes on with writing what changed, one file at a time, on the loader thread; begins a round when one is due. */
void sessions_write_some(struct sessions *sessions);

/* Writes all that changed, here. */
void sessions_write_all(struct sessions *sessions);

#endif

/* What sessions.c (the table of sessions) and sessions_file.c (keeping them on disk) share. Thread: loop. */
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
    struct session *next;          /* in its bucket */
    struct session *newer, *older; /* by use */
    struct text_state *state;      /* owned; NULL: nothing said yet */
    char *model;                   /* owned; of a session without a state, else NULL */
    struct session_turn *turn;     /* inside; those that wait are behind it */
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

struct sessions {
    struct server *server;
    struct session **buckets; /* a session is in bucket hash % bucket_count; its file is hash % SESSION_SEGMENTS */
    size_t bucket_count;      /* a power of 2, at least SESSION_SEGMENTS */
    struct session *newest, *oldest;
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

/* Adds a session that was read from disk. NO_MEMORY. */
enum status sessions_add(struct sessions *sessions, const char *owner, const char *name,
                         const struct session_order *order, int64_t expires_at, struct error *error) MUST_CHECK;

/* A session as a file has it. */
struct session_record {
    char owner[MODEL_NAME_BYTES_MAX];
    char name[MODEL_NAME_BYTES_MAX];
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    struct session_order order; /* its model is the one above, its state the parser's reference */
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

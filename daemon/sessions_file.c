/* Sessions on disk: SESSION_SEGMENTS files, each with the sessions whose hash says so, written whole and renamed into
 * place when one of them changed. Thread: loop, which only gathers what a file will hold (states do not change, a
 * reference is enough); the loader thread writes. Owns a file's content while it is written.
 *
 *   file    "lstmdses", format, number of sessions, SHA-256 of all that follows; then for each
 *   session bytes of the owner, the name, the model and the state, time to live, expiry, bytes of what it learned; then
 *           those texts, the state, what it learned
 *
 * Numbers are little-endian, as in the states. */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "daemon/log.h"
#include "daemon/sessions_private.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum {
    FILE_FORMAT = 2,
    FILE_FORMAT_UNADAPTED = 1, /* the same, but nobody had learned anything */
    SUM_BYTES = SHA256_TEXT_BYTES - 1,
};
#define FILE_BYTES_MAX ((size_t)1 << 40) /* sessions_bytes_max may have been as much when it was written */

struct file_head {
    char magic[8];
    uint32_t format;
    uint32_t count;
    char sum[SUM_BYTES]; /* hexadecimal */
};

struct record_head {
    int64_t expires_at;
    uint32_t ttl_seconds;
    uint32_t owner_bytes, name_bytes, model_bytes, state_bytes;
    uint32_t adapted_bytes;
};

static_assert(sizeof(struct file_head) == 80 && sizeof(struct record_head) == 32, "no gaps");

static const char magic[8] = {'l', 's', 't', 'm', 'd', 's', 'e', 's'};

/* What a session's record is made of: references, so that another thread may write it. */
struct kept_session {
    struct record_head head;
    struct text_state *state;
    struct adapted_weights *adapted;
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    char names[SESSION_NAMES_BYTES_MAX]; /* the owner and the name, without NULs */
};

struct sessions_save {
    struct job job; /* first */
    struct sessions *sessions;
    size_t segment;
    struct kept_session *kept;
    size_t count;
    enum status status;
    struct error error;
};

/* ---- writing ---- */

static void name_file(const struct sessions *sessions, size_t segment, char path[SESSIONS_PATH_BYTES_MAX + 32])
{
    snprintf(path, SESSIONS_PATH_BYTES_MAX + 32, "%s/%02zx.sessions", sessions->path, segment);
}

static struct kept_session keep(const struct session *session)
{
    struct kept_session kept = {.state = text_state_ref(session->state),
                                .adapted = adapted_weights_ref(session->adapted)};
    const char *name = session_name(session);
    kept.head.expires_at = session->expires_at;
    kept.head.ttl_seconds = session->ttl_seconds;
    kept.head.owner_bytes = (uint32_t)strlen(session->names);
    kept.head.name_bytes = (uint32_t)strlen(name);
    memcpy(kept.names, session->names, kept.head.owner_bytes);
    memcpy(kept.names + kept.head.owner_bytes, name, kept.head.name_bytes);
    if (session->state == NULL) {
        session_model(session, kept.model);
        kept.head.model_bytes = (uint32_t)strlen(kept.model);
    } else {
        kept.head.state_bytes = (uint32_t)text_state_bytes(session->state);
        kept.head.adapted_bytes = (uint32_t)adapted_weights_bytes(session->adapted);
    }
    return kept;
}

/* The segment's sessions as they are now; false without memory. `kept` NULL only counts them. */
static size_t gather(const struct sessions *sessions, size_t segment, struct kept_session *kept)
{
    size_t count = 0;
    for (size_t i = segment; i < sessions->bucket_count; i += SESSION_SEGMENTS) {
        for (const struct session *session = sessions->buckets[i]; session != NULL; session = session->next) {
            if (session->is_kept) {
                if (kept != NULL) {
                    kept[count] = keep(session);
                }
                count++;
            }
        }
    }
    return count;
}

static char *append(char *at, const void *bytes, size_t length)
{
    memcpy(at, bytes, length);
    return at + length;
}

static enum status write_file(const struct sessions_save *save, struct error *error)
{
    char path[SESSIONS_PATH_BYTES_MAX + 32];
    name_file(save->sessions, save->segment, path);
    size_t length = sizeof(struct file_head);
    for (size_t i = 0; i < save->count; i++) {
        const struct record_head *head = &save->kept[i].head;
        length += sizeof *head + head->owner_bytes + head->name_bytes + head->model_bytes + head->state_bytes +
                  head->adapted_bytes;
    }
    char *bytes = mem_allocate(length, 1);
    if (bytes == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to write '%s', %zu bytes", path, length);
    }
    char *at = bytes + sizeof(struct file_head);
    for (size_t i = 0; i < save->count; i++) {
        const struct kept_session *kept = &save->kept[i];
        at = append(at, &kept->head, sizeof kept->head);
        at = append(at, kept->names, kept->head.owner_bytes + kept->head.name_bytes);
        at = append(at, kept->model, kept->head.model_bytes);
        if (kept->state != NULL) {
            text_state_write(kept->state, at);
            at += kept->head.state_bytes;
        }
        if (kept->adapted != NULL) {
            at = append(at, adapted_weights_content(kept->adapted), kept->head.adapted_bytes);
        }
    }
    struct file_head head = {.format = FILE_FORMAT, .count = (uint32_t)save->count};
    char sum[SHA256_TEXT_BYTES];
    sha256_text(bytes + sizeof head, length - sizeof head, sum);
    memcpy(head.magic, magic, sizeof magic);
    memcpy(head.sum, sum, SUM_BYTES);
    memcpy(bytes, &head, sizeof head);
    enum status status = STATUS_OK;
    if (mkdir(save->sessions->path, 0700) != 0 && errno != EEXIST) {
        status = error_set_errno(error, errno, "make directory '%s'", save->sessions->path);
    }
    status = status == STATUS_OK ? file_write_atomically(path, bytes, length, error) : status;
    mem_free(bytes);
    return status;
}

static void run_save(struct job *job)
{
    struct sessions_save *save = (struct sessions_save *)job;
    save->status = write_file(save, &save->error);
}

/* What is to be written of a segment; NULL without memory. */
static struct sessions_save *prepare(struct sessions *sessions, size_t segment)
{
    struct sessions_save *save = mem_allocate(1, sizeof *save);
    size_t count = gather(sessions, segment, NULL);
    struct kept_session *kept = save == NULL ? NULL : mem_allocate(count, sizeof *kept);
    if (kept == NULL) {
        mem_free(save);
        return NULL;
    }
    save->sessions = sessions;
    save->segment = segment;
    save->kept = kept;
    save->count = gather(sessions, segment, kept);
    return save;
}

/* Notes how it went; a file that could not be written is tried again in the next round. */
static void finish(struct sessions_save *save)
{
    struct sessions *sessions = save->sessions;
    bool is_failing = save->status != STATUS_OK;
    if (is_failing) {
        sessions->is_changed[save->segment] = true;
        sessions->counters.saves_failed++;
    }
    if (is_failing != sessions->is_failing) {
        log_event(is_failing ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, is_failing ? "sessions_not_saved" : "sessions_saved",
                  is_failing ? save->error.message : NULL, "segment=%zu", save->segment);
    }
    sessions->is_failing = is_failing;
    for (size_t i = 0; i < save->count; i++) {
        text_state_unref(save->kept[i].state);
        adapted_weights_unref(save->kept[i].adapted);
    }
    mem_free(save->kept);
    mem_free(save);
}

static void on_saved(struct job *job)
{
    struct sessions_save *save = (struct sessions_save *)job;
    struct sessions *sessions = save->sessions;
    sessions->save = NULL;
    finish(save);
    sessions_write_some(sessions);
}

void sessions_write_some(struct sessions *sessions)
{
    uint64_t interval_ms = 1000 * sessions->server->settings.sessions_save_seconds;
    if (sessions->save != NULL || sessions->is_stopped) {
        return;
    }
    if (sessions->save_next == SESSION_SEGMENTS) {
        uint64_t now_ms = clock_now_ms();
        if (now_ms < sessions->saved_ms + interval_ms) {
            return;
        }
        sessions->save_next = 0;
        sessions->saved_ms = now_ms;
    }
    while (sessions->save_next < SESSION_SEGMENTS && !sessions->is_changed[sessions->save_next]) {
        sessions->save_next++;
    }
    if (sessions->save_next == SESSION_SEGMENTS) {
        return;
    }
    size_t segment = sessions->save_next++;
    struct sessions_save *save = prepare(sessions, segment);
    if (save != NULL) {
        sessions->is_changed[segment] = false;
        sessions->save = save;
        save->job.run = run_save;
        save->job.done = on_saved;
        workers_submit_always(sessions->server->loader, &save->job);
    }
}

void sessions_write_all(struct sessions *sessions)
{
    CHECK(sessions->save == NULL);
    for (size_t segment = 0; segment < SESSION_SEGMENTS; segment++) {
        struct sessions_save *save = sessions->is_changed[segment] ? prepare(sessions, segment) : NULL;
        if (save != NULL) {
            sessions->is_changed[segment] = false;
            run_save(&save->job);
            finish(save);
        }
    }
}

/* ---- reading ---- */

static enum status refuse(const char *what, struct error *error)
{
    error_set(error, STATUS_CORRUPT, "%s", what);
    return STATUS_CORRUPT;
}

/* The next `length` bytes as a text of less than MODEL_NAME_BYTES_MAX, or a model's name. */
static void take_text(const char **at, size_t length, char *text)
{
    memcpy(text, *at, length);
    text[length] = '\0';
    *at += length;
}

static void release_order(struct session_order *order)
{
    order->state = text_state_unref(order->state);
    order->adapted = adapted_weights_unref(order->adapted);
}

/* The state and what was learned with it, which only a state has. */
static enum status read_content(const char **at, const struct record_head *head, struct session_order *order,
                                struct error *error)
{
    if (head->state_bytes > 0) {
        TRY(text_state_read(*at, head->state_bytes, &order->state, error));
        *at += head->state_bytes;
    }
    if (head->adapted_bytes > 0) {
        TRY(adapted_weights_read(*at, head->adapted_bytes, &order->adapted, error));
        *at += head->adapted_bytes;
    }
    return STATUS_OK;
}

/* The record at `*at`, which moves behind it; its state and what it learned are the caller's references. */
static enum status read_record(const char **at, const char *end, struct session_record *ret_record, struct error *error)
{
    struct record_head head;
    if ((size_t)(end - *at) < sizeof head) {
        return refuse("a session's head is cut off", error);
    }
    memcpy(&head, *at, sizeof head);
    *at += sizeof head;
    struct session_record record = {.order.ttl_seconds = head.ttl_seconds, .expires_at = head.expires_at};
    uint64_t length =
        (uint64_t)head.owner_bytes + head.name_bytes + head.model_bytes + head.state_bytes + head.adapted_bytes;
    if (head.owner_bytes >= sizeof record.owner || head.name_bytes >= sizeof record.name ||
        head.model_bytes >= sizeof record.model || length > (uint64_t)(end - *at) || head.ttl_seconds == 0 ||
        head.ttl_seconds > SESSION_TTL_SECONDS_MAX || (head.adapted_bytes > 0 && head.state_bytes == 0)) {
        return refuse("a session's lengths are out of bounds", error);
    }
    take_text(at, head.owner_bytes, record.owner);
    take_text(at, head.name_bytes, record.name);
    take_text(at, head.model_bytes, record.model);
    enum status status = read_content(at, &head, &record.order, error);
    if (status != STATUS_OK) {
        release_order(&record.order);
        return status;
    }
    *ret_record = record;
    ret_record->order.model = head.model_bytes == 0 ? NULL : ret_record->model;
    return STATUS_OK;
}

enum status sessions_parse(const char *bytes, size_t length,
                           enum status (*each)(void *context, const struct session_record *record, struct error *error),
                           void *context, struct error *error)
{
    struct file_head head;
    char sum[SHA256_TEXT_BYTES];
    if (length < sizeof head) {
        return refuse("the file is cut off", error);
    }
    memcpy(&head, bytes, sizeof head);
    if (memcmp(head.magic, magic, sizeof magic) != 0) {
        return refuse("these are no sessions", error);
    }
    if (head.format != FILE_FORMAT && head.format != FILE_FORMAT_UNADAPTED) {
        return error_set(error, STATUS_UNSUPPORTED, "format %u, this lstmd knows %d", head.format, FILE_FORMAT);
    }
    sha256_text(bytes + sizeof head, length - sizeof head, sum);
    if (memcmp(head.sum, sum, SUM_BYTES) != 0) {
        return refuse("the checksum does not match", error);
    }
    const char *at = bytes + sizeof head;
    for (uint32_t i = 0; i < head.count; i++) {
        struct session_record record;
        TRY(read_record(&at, bytes + length, &record, error));
        enum status status = each(context, &record, error);
        release_order(&record.order);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return at == bytes + length ? STATUS_OK : refuse("there are bytes behind the last session", error);
}

/* One that today's limits have no room for is dropped, and the others of the file are not. */
static enum status take_record(void *context, const struct session_record *record, struct error *error)
{
    if (record->expires_at <= sessions_now()) {
        return STATUS_OK;
    }
    enum status status = sessions_add(context, record->owner, record->name, &record->order, record->expires_at, error);
    if (status != STATUS_TOO_LARGE && status != STATUS_LIMIT && status != STATUS_UNAVAILABLE) {
        return status;
    }
    log_event(LOG_LEVEL_WARNING, "session_dropped", error->message, "key=%s session=%s", record->owner, record->name);
    return STATUS_OK;
}

/* Puts a file aside that cannot be read, so that writing does not replace it. */
static void put_aside(const char *path, const struct error *error)
{
    char aside[SESSIONS_PATH_BYTES_MAX + 64];
    snprintf(aside, sizeof aside, "%s.refused", path);
    bool is_moved = rename(path, aside) == 0;
    log_event(LOG_LEVEL_ERROR, "sessions_refused", error->message, "file=%s put_aside=%s", path,
              is_moved ? aside : "no");
}

void sessions_read_files(struct sessions *sessions)
{
    file_sweep(sessions->path);
    for (size_t segment = 0; segment < SESSION_SEGMENTS; segment++) {
        char path[SESSIONS_PATH_BYTES_MAX + 32];
        char *bytes = NULL;
        size_t length;
        struct error error;
        name_file(sessions, segment, path);
        enum status status = file_read(path, FILE_BYTES_MAX, &bytes, &length, &error);
        if (status == STATUS_OK) {
            status = sessions_parse(bytes, length, take_record, sessions, &error);
        } else if (status == STATUS_NOT_FOUND) {
            continue;
        }
        mem_free(bytes);
        if (status != STATUS_OK) {
            put_aside(path, &error);
        }
        sessions->is_changed[segment] = status != STATUS_OK;
    }
    log_event(LOG_LEVEL_INFO, "sessions_read", NULL, "sessions=%zu bytes=%zu", sessions->counters.count,
              sessions->counters.bytes);
}

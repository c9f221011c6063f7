/* Writing event files. Thread: see the header. */
#include "daemon/event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"

struct event_file {
    int fd;
    char path[PATH_MAX];
};

/* ---- messages ---- */

enum { WIRE_VARINT = 0, WIRE_64_BITS = 1, WIRE_BYTES = 2, WIRE_32_BITS = 5 };
enum { TEXT_BYTES_MAX = 16 << 20, FRAME_BYTES = 16, DT_STRING = 7, SESSION_START = 1 };

/* A message as it is put together. What finds no memory is remembered until the end. */
struct message_bytes {
    unsigned char *bytes;
    size_t length;
    size_t room;
    bool has_failed;
};

static void put(struct message_bytes *message, const void *bytes, size_t length)
{
    if (length == 0) {
        return;
    }
    if (message->length + length > message->room) {
        size_t room = 2 * (message->length + length);
        unsigned char *grown = message->has_failed ? NULL : mem_reallocate(message->bytes, room, 1);
        message->has_failed = grown == NULL;
        if (grown == NULL) {
            return;
        }
        message->bytes = grown;
        message->room = room;
    }
    memcpy(message->bytes + message->length, bytes, length);
    message->length += length;
}

static void put_varint(struct message_bytes *message, uint64_t number)
{
    do {
        unsigned char byte = (unsigned char)((number & 0x7f) | (number > 0x7f ? 0x80 : 0));
        put(message, &byte, 1);
        number >>= 7;
    } while (number > 0);
}

static void put_key(struct message_bytes *message, unsigned field, unsigned wire)
{
    put_varint(message, field << 3 | wire);
}

static void put_little_endian(struct message_bytes *message, uint64_t number, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char byte = (unsigned char)(number >> (8 * i));
        put(message, &byte, 1);
    }
}

static void put_bytes(struct message_bytes *message, unsigned field, const void *bytes, size_t length)
{
    put_key(message, field, WIRE_BYTES);
    put_varint(message, length);
    put(message, bytes, length);
}

static void put_string(struct message_bytes *message, unsigned field, const char *text)
{
    put_bytes(message, field, text, strlen(text));
}

/* Puts `inner`, which is released. */
static void put_message(struct message_bytes *message, unsigned field, struct message_bytes *inner)
{
    put_bytes(message, field, inner->bytes, inner->length);
    message->has_failed = message->has_failed || inner->has_failed;
    mem_free(inner->bytes);
}

/* Event: wall_time 1, step 2. */
static void begin_event(struct message_bytes *event, uint64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double seconds = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    uint64_t bits;
    memcpy(&bits, &seconds, sizeof bits);
    put_key(event, 1, WIRE_64_BITS);
    put_little_endian(event, bits, 8);
    put_key(event, 2, WIRE_VARINT);
    put_varint(event, step);
}

/* ---- records ---- */

uint32_t event_file_crc32c(const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < length; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78U : 0);
        }
    }
    return ~crc;
}

static uint32_t masked_crc(const void *bytes, size_t length)
{
    uint32_t crc = event_file_crc32c(bytes, length);
    return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

static enum status refuse(const struct event_file *file, struct error *error)
{
    return error_set(error, STATUS_IO, "%s: %s", file->path, strerror(errno));
}

/* Writes and releases the event. */
static enum status write_record(const struct event_file *file, struct message_bytes *event, struct error *error)
{
    struct message_bytes record = {.bytes = NULL};
    put_little_endian(&record, event->length, 8);
    put_little_endian(&record, record.has_failed ? 0 : masked_crc(record.bytes, 8), 4);
    put(&record, event->bytes, event->length);
    put_little_endian(&record, event->has_failed ? 0 : masked_crc(event->bytes, event->length), 4);
    enum status status = STATUS_OK;
    if (record.has_failed || event->has_failed) {
        status = error_set(error, STATUS_NO_MEMORY, "%s: no memory for a record", file->path);
    }
    for (size_t done = 0; status == STATUS_OK && done < record.length;) {
        ssize_t count = write(file->fd, record.bytes + done, record.length - done);
        if (count < 0 && errno != EINTR) {
            status = refuse(file, error);
        }
        done += count > 0 ? (size_t)count : 0;
    }
    mem_free(record.bytes);
    mem_free(event->bytes);
    return status;
}

/* ---- what is shown ---- */

enum status event_file_add_scalars(struct event_file *file, uint64_t step, const struct event_scalar *scalars,
                                   size_t count, struct error *error)
{
    struct message_bytes event = {.bytes = NULL};
    struct message_bytes summary = {.bytes = NULL};
    for (size_t i = 0; i < count; i++) {
        if (isnan(scalars[i].value)) {
            continue;
        }
        struct message_bytes value = {.bytes = NULL}; /* tag 1, simple_value 2 */
        float number = (float)scalars[i].value;
        uint32_t bits;
        memcpy(&bits, &number, sizeof bits);
        put_string(&value, 1, scalars[i].tag);
        put_key(&value, 2, WIRE_32_BITS);
        put_little_endian(&value, bits, 4);
        put_message(&summary, 1, &value);
    }
    begin_event(&event, step);
    put_message(&event, 5, &summary);
    return write_record(file, &event, error);
}

enum status event_file_add_text(struct event_file *file, uint64_t step, const char *tag, const char *text,
                                struct error *error)
{
    struct message_bytes plugin = {.bytes = NULL};   /* plugin_name 1 */
    struct message_bytes metadata = {.bytes = NULL}; /* plugin_data 1 */
    struct message_bytes tensor = {.bytes = NULL};   /* dtype 1, tensor_shape 2 (empty: a scalar), string_val 8 */
    struct message_bytes value = {.bytes = NULL};    /* tag 1, tensor 8, metadata 9 */
    struct message_bytes summary = {.bytes = NULL};  /* value 1 */
    struct message_bytes event = {.bytes = NULL};    /* summary 5 */
    if (strlen(text) > TEXT_BYTES_MAX) {
        return error_set(error, STATUS_LIMIT, "%s: a text of %zu bytes, at most %d", file->path, strlen(text),
                         TEXT_BYTES_MAX);
    }
    put_string(&plugin, 1, "text");
    put_message(&metadata, 1, &plugin);
    put_key(&tensor, 1, WIRE_VARINT);
    put_varint(&tensor, DT_STRING);
    put_string(&tensor, 2, "");
    put_string(&tensor, 8, text);
    put_string(&value, 1, tag);
    put_message(&value, 8, &tensor);
    put_message(&value, 9, &metadata);
    put_message(&summary, 1, &value);
    begin_event(&event, step);
    put_message(&event, 5, &summary);
    return write_record(file, &event, error);
}

enum status event_file_add_start(struct event_file *file, uint64_t step, struct error *error)
{
    struct message_bytes session = {.bytes = NULL}; /* status 1 */
    struct message_bytes event = {.bytes = NULL};   /* session_log 7 */
    put_key(&session, 1, WIRE_VARINT);
    put_varint(&session, SESSION_START);
    begin_event(&event, step);
    put_message(&event, 7, &session);
    return write_record(file, &event, error);
}

/* ---- life ---- */

static enum status make_directories(const char *directory, struct error *error)
{
    char path[PATH_MAX];
    size_t length = strlen(directory);
    if (length == 0 || length >= sizeof path / 2) {
        return error_set(error, STATUS_INVALID, "a directory of %zu bytes", length);
    }
    for (size_t i = 1; i <= length; i++) {
        if (directory[i] != '/' && directory[i] != '\0') {
            continue;
        }
        memcpy(path, directory, i);
        path[i] = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST) {
            return error_set(error, STATUS_IO, "%s: %s", path, strerror(errno));
        }
    }
    return STATUS_OK;
}

static enum status open_file(struct event_file *file, const char *directory, struct error *error)
{
    char host[HOST_NAME_MAX + 1] = "";
    gethostname(host, sizeof host - 1);
    snprintf(file->path, sizeof file->path, "%.*s/events.out.tfevents.%lld.%.64s.%ld", PATH_MAX / 2, directory,
             (long long)time(NULL), host, (long)getpid());
    file->fd = open(file->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file->fd < 0) {
        return refuse(file, error);
    }
    struct message_bytes event = {.bytes = NULL}; /* file_version 3 */
    begin_event(&event, 0);
    put_string(&event, 3, "brain.Event:2");
    return write_record(file, &event, error);
}

enum status event_file_create(const char *directory, struct event_file **ret_file, struct error *error)
{
    TRY(make_directories(directory, error));
    struct event_file *file = mem_allocate(1, sizeof *file);
    if (file == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for an event file");
    }
    enum status status = open_file(file, directory, error);
    if (status != STATUS_OK) {
        event_file_destroy(file);
        return status;
    }
    *ret_file = file;
    return STATUS_OK;
}

void event_file_destroy(struct event_file *file)
{
    if (file == NULL) {
        return;
    }
    if (file->fd >= 0) {
        close(file->fd);
    }
    mem_free(file);
}

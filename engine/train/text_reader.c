/* Reading, checking and cleaning in one buffer: cleaned text is never longer. */
#include "engine/train/text_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/text/utf8.h"

static const char MARK[] = "\xef\xbb\xbf";
enum { MARK_BYTES = sizeof MARK - 1 };

static struct file_stamp make_stamp(const struct stat *info)
{
    return (struct file_stamp){
        .device = info->st_dev, .inode = info->st_ino, .bytes = info->st_size, .changed = info->st_mtim};
}

/* ---- opening ---- */

static enum status allocate(struct text_reader *reader, struct error *error)
{
    reader->buffer = mem_allocate(TEXT_READER_PIECE_BYTES, 1);
    return reader->buffer ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory to read it");
}

static enum status open_file(struct text_reader *reader, const char *path, struct error *error)
{
    struct stat info;
    reader->file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer does not keep us */
    int reason = errno;
    if (reader->file < 0) {
        return error_set_errno(error, reason, "open it");
    }
    reader->is_regular = fstat(reader->file, &info) == 0 && S_ISREG(info.st_mode);
    if (!reader->is_regular) {
        close(reader->file);
        return error_set(error, STATUS_INVALID, "is no regular file");
    }
    posix_fadvise(reader->file, 0, 0, POSIX_FADV_SEQUENTIAL); /* advice: a failure changes nothing */
    reader->stamp = make_stamp(&info);
    return STATUS_OK;
}

enum status text_reader_open(struct text_reader *reader, const char *path, bool is_raw, struct error *error)
{
    bool is_input = strcmp(path, "-") == 0;
    *reader = (struct text_reader){.name = is_input ? "standard input" : path, .file = -1, .is_raw = is_raw};
    enum status status = allocate(reader, error);
    if (status == STATUS_OK && is_input) {
        reader->file = STDIN_FILENO;
    } else if (status == STATUS_OK) {
        status = open_file(reader, path, error);
    }
    if (status != STATUS_OK) {
        text_reader_close(reader);
    }
    return status;
}

enum status text_reader_open_text(struct text_reader *reader, const char *text, size_t bytes, bool is_raw,
                                  struct error *error)
{
    *reader = (struct text_reader){.name = "the text", .file = -1, .is_raw = is_raw, .text = text, .text_bytes = bytes};
    return allocate(reader, error);
}

void text_reader_close(struct text_reader *reader)
{
    if (reader->is_regular) {
        close(reader->file);
    }
    mem_free(reader->buffer);
    reader->buffer = NULL;
    reader->file = -1;
}

/* ---- reading ---- */

/* Fills the buffer behind what is kept, and finds the end. */
static enum status fill(struct text_reader *reader, size_t *ret_length, struct error *error)
{
    size_t length = reader->rest_bytes;
    memcpy(reader->buffer, reader->rest, length);
    while (length < TEXT_READER_PIECE_BYTES && !reader->is_at_end) {
        size_t room = TEXT_READER_PIECE_BYTES - length;
        ssize_t count;
        if (reader->file < 0) {
            count = (ssize_t)(reader->text_bytes < room ? reader->text_bytes : room);
            memcpy(reader->buffer + length, count > 0 ? reader->text : "", (size_t)count);
            reader->text += count;
            reader->text_bytes -= (size_t)count;
        } else {
            count = read(reader->file, reader->buffer + length, room);
        }
        int reason = errno;
        if (count < 0 && reason != EINTR) {
            return error_set_errno(error, reason, "read it");
        }
        reader->is_at_end = count == 0;
        length += count > 0 ? (size_t)count : 0;
    }
    *ret_length = length;
    return STATUS_OK;
}

static uint64_t count_lines(const char *bytes, size_t length)
{
    uint64_t lines = 0;
    for (const char *at = bytes; (at = memchr(at, '\n', length - (size_t)(at - bytes))) != NULL; at++) {
        lines++;
    }
    return lines;
}

/* How much of the buffer is whole: all, but for a character that its end may cut off and a CR whose LF may follow. */
static enum status find_whole(const struct text_reader *reader, size_t length, size_t *ret_whole, struct error *error)
{
    if (reader->is_raw) {
        *ret_whole = length;
        return STATUS_OK;
    }
    size_t whole = utf8_find_malformed(reader->buffer, length);
    bool is_cut_off = !reader->is_at_end && length - whole < UTF8_BYTES_MAX;
    for (size_t i = whole + 1; is_cut_off && i < length; i++) {
        is_cut_off = ((unsigned char)reader->buffer[i] & 0xC0) == 0x80;
    }
    if (whole < length && !is_cut_off) {
        error_set(error, STATUS_INVALID, "line %llu: invalid UTF-8 at byte offset %llu (0x%02x)",
                  (unsigned long long)(reader->lines + count_lines(reader->buffer, whole) + 1),
                  (unsigned long long)(reader->offset + whole), (unsigned)(unsigned char)reader->buffer[whole]);
        error_code(error, "malformed_utf8");
        return STATUS_INVALID;
    }
    if (whole > 0 && whole == length && reader->buffer[whole - 1] == '\r' && !reader->is_at_end) {
        whole--;
    }
    *ret_whole = whole;
    return STATUS_OK;
}

/* Takes marks and CRs out of the first `length` bytes; their new length. */
static size_t clean(struct text_reader *reader, size_t length, size_t *ret_begin)
{
    char *bytes = reader->buffer;
    bool has_mark = reader->offset == 0 && length >= MARK_BYTES && memcmp(bytes, MARK, MARK_BYTES) == 0;
    size_t begin = has_mark ? MARK_BYTES : 0;
    reader->mark_count += has_mark;
    *ret_begin = begin;
    const char *end = bytes + length;
    char *out = memchr(bytes + begin, '\r', length - begin);
    if (!out) {
        return length - begin;
    }
    for (const char *at = out; at < end; at++) {
        if (at[0] == '\r' && at + 1 < end && at[1] == '\n') {
            reader->line_ends++;
        } else {
            *out++ = *at;
        }
    }
    return (size_t)(out - bytes) - begin;
}

static enum status check_length(const struct text_reader *reader, struct error *error)
{
    struct stat info;
    if (!reader->is_regular || (reader->offset == (uint64_t)reader->stamp.bytes && fstat(reader->file, &info) == 0 &&
                                info.st_size == reader->stamp.bytes)) {
        return STATUS_OK;
    }
    error_set(error, STATUS_IO, "changed while it was read: %llu bytes at first, then %llu",
              (unsigned long long)reader->stamp.bytes, (unsigned long long)reader->offset);
    error_code(error, "file_changed");
    return STATUS_IO;
}

enum status text_reader_next(struct text_reader *reader, const char **ret_bytes, size_t *ret_length,
                             struct error *error)
{
    size_t length = 0;
    size_t whole = 0;
    size_t begin = 0;
    TRY(fill(reader, &length, error));
    TRY(find_whole(reader, length, &whole, error));
    if (whole == 0) { /* the buffer is as full as it gets: the end */
        TRY(check_length(reader, error));
    }
    reader->rest_bytes = length - whole;
    memcpy(reader->rest, reader->buffer + whole, reader->rest_bytes);
    reader->lines += count_lines(reader->buffer, whole);
    *ret_length = reader->is_raw ? whole : clean(reader, whole, &begin);
    *ret_bytes = reader->buffer + begin;
    reader->offset += whole;
    return STATUS_OK;
}

enum status file_stamp_check(const struct file_stamp *stamp, const char *path, struct error *error)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        int reason = errno;
        error_set_errno(error, reason, "changed since it was read");
        error_code(error, "file_changed");
        return STATUS_IO;
    }
    struct file_stamp now = make_stamp(&info);
    bool is_same = now.device == stamp->device && now.inode == stamp->inode && now.bytes == stamp->bytes &&
                   now.changed.tv_sec == stamp->changed.tv_sec && now.changed.tv_nsec == stamp->changed.tv_nsec;
    if (is_same) {
        return STATUS_OK;
    }
    error_set(error, STATUS_IO, "changed since it was read: %llu bytes then, now %llu",
              (unsigned long long)stamp->bytes, (unsigned long long)now.bytes);
    error_code(error, "file_changed");
    return STATUS_IO;
}

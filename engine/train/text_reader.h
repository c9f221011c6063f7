/* One text, read from its beginning to its end in pieces of bounded size, checked and cleaned: what a file's encoding
 * leaves to chance is out of the way. Characters and words: a byte order mark at the beginning is dropped, CR LF
 * becomes LF, the text must be UTF-8, and pieces are whole characters. Bytes: the text is taken exactly as it is.
 * Messages do not name the file: its owner does. For one thread. */
#ifndef ENGINE_TRAIN_TEXT_READER_H
#define ENGINE_TRAIN_TEXT_READER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "engine/base/status.h"

enum { TEXT_READER_PIECE_BYTES = 1 << 18 };

/* What identifies a file's content without reading it. */
struct file_stamp {
    dev_t device;
    ino_t inode;
    off_t bytes;
    struct timespec changed;
};

struct text_reader {
    const char *name; /* for messages; borrowed */
    int file;         /* −1: the text was given */
    bool is_raw;      /* bytes: nothing is changed */
    bool is_regular;  /* a file of our own, whose size must be its length */
    bool is_at_end;
    const char *text; /* what is left of a given one; borrowed */
    size_t text_bytes;
    char *buffer; /* owned */
    char rest[4]; /* what the last piece left: part of a character, or a CR */
    size_t rest_bytes;
    uint64_t offset;     /* in the file, of what comes next */
    uint64_t lines;      /* line feeds so far */
    uint64_t line_ends;  /* CR LF made LF */
    uint64_t mark_count; /* byte order marks dropped */
    struct file_stamp stamp;
};

/* Opens a regular file, or standard input as "-". NOT_FOUND, IO; INVALID for what is no regular file. `path` is
 * borrowed until text_reader_close. */
enum status text_reader_open(struct text_reader *reader, const char *path, bool is_raw, struct error *error) MUST_CHECK;
/* Reads a text that is there already; borrowed until text_reader_close. */
enum status text_reader_open_text(struct text_reader *reader, const char *text, size_t bytes, bool is_raw,
                                  struct error *error) MUST_CHECK;
/* A reader of zeroes is allowed. */
void text_reader_close(struct text_reader *reader);

/* The next piece, until the next call; of length 0 at the end. INVALID, code "malformed_utf8", naming line (from 1) and
 * byte offset in the file; IO, code "file_changed", when the file is not as long as when it was opened. */
enum status text_reader_next(struct text_reader *reader, const char **ret_bytes, size_t *ret_length,
                             struct error *error) MUST_CHECK;

/* Whether the file is still the one that was read: IO, code "file_changed", naming what is different. */
enum status file_stamp_check(const struct file_stamp *stamp, const char *path, struct error *error) MUST_CHECK;

#endif

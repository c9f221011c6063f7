/* The inside of the reader of Torch7's objects, for its files. */
#ifndef ENGINE_IMPORT_TORCH7_PRIVATE_H
#define ENGINE_IMPORT_TORCH7_PRIVATE_H

#include "engine/import/torch7.h"

/* Reading from the front, binary or ascii. */
struct torch7_cursor {
    const unsigned char *bytes;
    size_t length;
    size_t at;
    bool is_ascii;
    const char *name;            /* of the file, for messages */
    struct foreign_model *model; /* whose arena takes the numbers of ascii files */
    struct error *error;
};

/* CORRUPT with the byte's offset before `what`. */
enum status torch7_corrupt(const struct torch7_cursor *cursor, const char *what);
/* One number. CORRUPT where it is cut off, or no number. */
enum status torch7_read_int(struct torch7_cursor *cursor, int32_t *ret_number) MUST_CHECK;
enum status torch7_read_long(struct torch7_cursor *cursor, int64_t *ret_number) MUST_CHECK;
enum status torch7_read_double(struct torch7_cursor *cursor, double *ret_number) MUST_CHECK;
/* A string: its length, and where its bytes lie. */
enum status torch7_read_string(struct torch7_cursor *cursor, const char **ret_text, size_t *ret_length) MUST_CHECK;
/* `count` elements one behind another, little-endian: where they lie in the file, or of an ascii file a copy. */
enum status torch7_read_elements(struct torch7_cursor *cursor, enum dtype dtype, uint64_t count,
                                 const unsigned char **ret_bytes, size_t *ret_length) MUST_CHECK;

#endif

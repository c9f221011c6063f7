/* The inside of the pickle reader, for its files. */
#ifndef ENGINE_IMPORT_PICKLE_PRIVATE_H
#define ENGINE_IMPORT_PICKLE_PRIVATE_H

#include "engine/import/pickle.h"

/* Lists of symbols' numbers are long, and their values few: they share them. */
enum { PICKLE_INTEGERS = 1 << 14 };

struct pickle_reader {
    const unsigned char *bytes;
    size_t length;
    size_t at;
    size_t instruction; /* where the current one begins, for messages */
    struct arena *arena;
    struct plain **stack;
    size_t depth;
    size_t stack_capacity;
    size_t *marks; /* heights of the stack */
    size_t mark_count;
    size_t mark_capacity;
    struct plain **memo;
    size_t memo_capacity;
    size_t memo_next;        /* of MEMOIZE */
    struct plain **integers; /* the last of each value modulo PICKLE_INTEGERS; NULL: none yet */
    struct error *error;
};

/* What stands behind an instruction's byte. */
struct pickle_argument {
    uint64_t number;
    double real;
    const char *text;
    size_t length;
    const char *second;
    size_t second_length;
};

/* The stack: the lowest place that may be taken (a mark protects what lies below it); push (NULL: no memory), pop, look
 * at the top. */
size_t pickle_floor(const struct pickle_reader *reader);
enum status pickle_push(struct pickle_reader *reader, struct plain *value) MUST_CHECK;
enum status pickle_pop(struct pickle_reader *reader, struct plain **ret_value) MUST_CHECK;
enum status pickle_top(struct pickle_reader *reader, struct plain **ret_value) MUST_CHECK;
/* Sets a mark; takes it off: `ret_begin` is the first value above it. */
enum status pickle_push_mark(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_pop_mark(struct pickle_reader *reader, size_t *ret_begin) MUST_CHECK;
/* Appends the values from `begin` on to `list` and takes them off; the same to a new one that is pushed; the same from
 * the mark on. */
enum status pickle_gather(struct pickle_reader *reader, size_t begin, struct plain *list) MUST_CHECK;
enum status pickle_push_gathered(struct pickle_reader *reader, size_t begin, enum plain_kind kind) MUST_CHECK;
enum status pickle_push_marked(struct pickle_reader *reader, enum plain_kind kind) MUST_CHECK;

/* Instructions that push a number or a string. */
enum status pickle_do_none(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_true(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_false(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_unsigned(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_signed(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_decimal(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_long(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_real(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_decimal_real(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_bytes(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_text(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_quoted(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_escaped_text(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;

/* Instructions that name a global, or make an object of one: what would be called is noted. */
enum status pickle_do_global(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_stack_global(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_call(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_new_with_keywords(struct pickle_reader *reader,
                                        const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_object(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_instance(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_build(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_persistent(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;
enum status pickle_do_persistent_line(struct pickle_reader *reader, const struct pickle_argument *argument) MUST_CHECK;

/* CORRUPT with the byte's offset before `what`. */
enum status pickle_corrupt(const struct pickle_reader *reader, const char *what);
/* LIMIT where the arena is full, else NO_MEMORY. */
enum status pickle_no_memory(const struct pickle_reader *reader);

/* What `global`, called with `arguments`, comes to: plain data where it is known, else a call. */
enum status pickle_call(struct pickle_reader *reader, const struct plain *global, struct plain *arguments,
                        struct plain **ret_value) MUST_CHECK;

/* NumPy's: an array of texts becomes a list of them, where `state` is set; that of protocol 5 where it is called, any
 * other array then nothing; a scalar a whole number, a text, or nothing. LIMIT, NO_MEMORY. */
enum status pickle_build_array(struct pickle_reader *reader, struct plain *object,
                               const struct plain *state) MUST_CHECK;
enum status pickle_make_array(struct pickle_reader *reader, const struct plain *arguments,
                              struct plain **ret_value) MUST_CHECK;
enum status pickle_make_scalar(struct pickle_reader *reader, const struct plain *arguments,
                               struct plain **ret_value) MUST_CHECK;

/* A string as Python's repr writes it, without its quotes; and one in raw-unicode-escape. */
enum status pickle_unescape(struct pickle_reader *reader, const char *text, size_t length,
                            struct plain **ret_value) MUST_CHECK;
enum status pickle_unescape_unicode(struct pickle_reader *reader, const char *text, size_t length,
                                    struct plain **ret_value) MUST_CHECK;

#endif

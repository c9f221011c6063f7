/* Plain data as pickles and JSON hold it: numbers, strings, lists, dictionaries; and of pickles what they would call
 * and have called, which is never done. Values live in an arena and may share parts, or even contain themselves: what
 * walks over them bounds its depth and its steps. Thread: any, one at a time. */
#ifndef ENGINE_IMPORT_PLAIN_H
#define ENGINE_IMPORT_PLAIN_H

#include <jansson.h>
#include <stdint.h>

#include "engine/base/arena.h"

enum plain_kind {
    PLAIN_NONE,
    PLAIN_BOOLEAN,
    PLAIN_INTEGER,
    PLAIN_BIG, /* an integer beyond 64 bits: `text` is two's complement, little-endian */
    PLAIN_REAL,
    PLAIN_BYTES, /* also Python 2's str */
    PLAIN_TEXT,
    PLAIN_LIST,       /* also tuples */
    PLAIN_SET,        /* items in whatever order the program that wrote them had */
    PLAIN_DICT,       /* items are key, value, key, value, … */
    PLAIN_GLOBAL,     /* a class or function by name: "torch.nn.modules.rnn LSTM" */
    PLAIN_CALL,       /* what a call of a global would have made; items were appended or set afterwards */
    PLAIN_PERSISTENT, /* something kept outside of the pickle: arguments says what */
};

struct plain {
    enum plain_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct {
            const char *text; /* a NUL behind it */
            size_t length;
        };
        struct {
            struct plain **items;
            uint32_t count;
            uint32_t capacity;
            const char *global; /* of a call: what was called */
            struct plain *arguments;
            struct plain *state;
        };
    };
};

/* A new value in the arena, or NULL. */
struct plain *plain_create(struct arena *arena, enum plain_kind kind) MUST_CHECK;
struct plain *plain_create_text(struct arena *arena, enum plain_kind kind, const char *bytes, size_t length) MUST_CHECK;
/* Appends to a list, set, dictionary or call; false without memory. */
bool plain_append(struct arena *arena, struct plain *list, struct plain *item) MUST_CHECK;

/* What a dictionary, or a call's items, hold under a text or byte string; NULL without it. */
const struct plain *plain_get(const struct plain *dict, const char *key);
/* Item `index` of a list, or NULL. */
const struct plain *plain_item(const struct plain *list, size_t index);
/* Whether it is a string, text or bytes, and that one. */
bool plain_is_string(const struct plain *value);
bool plain_equals(const struct plain *value, const char *text);
/* Whether it is a whole number, and which. */
bool plain_integer(const struct plain *value, int64_t *ret_integer);

/* A copy of JSON in the arena; NULL without memory. Nesting is jansson's (2048 at most). */
struct plain *plain_from_json(struct arena *arena, const json_t *json) MUST_CHECK;

#endif

/* Where a text stands, kept so that another generation goes on from there exactly as if it had never ended: the model's
 * recurrent state, the symbols that are not in it yet, and what else choosing symbols depends on. A few hundred bytes
 * beside the model's numbers, without a pointer, the same on every machine (little-endian, as all that lstmd runs on):
 * kept in memory, on disk and by clients in this one form.
 *
 *   head | numbers | pending symbols | recent symbols | counted symbols | the model's name
 *
 * The numbers are those before the first pending symbol, which is mostly the text's last: feeding it again is what a
 * generation that went on would have done next, so that going on costs nothing and needs no logits to be kept.
 * Immutable, reference-counted. Thread: any. */
#ifndef ENGINE_DECODE_TEXT_STATE_H
#define ENGINE_DECODE_TEXT_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/decode/penalties.h"
#include "engine/text/utf8.h"

enum {
    TEXT_STATE_FORMAT = 1,
    TEXT_STATE_DIGEST_BYTES = 32,
    TEXT_STATE_MODEL_BYTES_MAX = 160, /* of the model's name, with its NUL in `text_origin` */
    TEXT_STATE_NUMBER_BYTES_MAX = 64 << 20,
    TEXT_STATE_PENDING_MAX = 1 << 21,
};

/* Of a whole text: numbers in replies stay whole numbers. */
#define TEXT_STATE_SYMBOLS_MAX ((uint64_t)1 << 53)

/* Whose numbers they are. */
struct text_origin {
    char model[TEXT_STATE_MODEL_BYTES_MAX];  /* "bard@7": for people */
    uint8_t digest[TEXT_STATE_DIGEST_BYTES]; /* of the version's graph, weights and vocabulary */
};

struct text_state_head {
    char magic[8];
    uint64_t checksum; /* of all bytes behind it; only in the form that leaves the process */
    uint32_t format;
    uint32_t bytes; /* all, head included */
    uint8_t digest[TEXT_STATE_DIGEST_BYTES];
    uint64_t seed;
    uint64_t choice;        /* these two and made_count key the random numbers to come */
    uint64_t fed_count;     /* symbols that are in the numbers */
    uint64_t made_count;    /* symbols made since the text began */
    uint32_t number_bytes;  /* a multiple of 4 */
    uint32_t pending_count; /* at least 1 */
    uint32_t recent_count;  /* the last symbols, pending ones among them: what a repetition penalty looks at */
    uint32_t counted_count; /* symbols made under frequency or presence penalties, and how often */
    uint16_t model_bytes;
    uint8_t is_stepped; /* the numbers are a stepper's own bytes, else floats as decode_plan_save_state says */
    uint8_t unfinished_count;
    uint8_t unfinished[UTF8_BYTES_MAX]; /* of a byte model: what it has of a character */
};

struct text_state;

/* Where the parts of a new state lie. */
struct text_state_parts {
    void *numbers;
    uint32_t *pending;
    uint32_t *recent;
    struct made_symbol *counted;
};

/* A state with room for what the head counts, all zero, for engine/decode alone to fill in before anybody else sees it.
 * NO_MEMORY. Owned by one reference. */
enum status text_state_create(const struct text_state_head *head, const struct text_origin *origin,
                              struct text_state **ret_state, struct text_state_parts *ret_parts,
                              struct error *error) MUST_CHECK;

/* From bytes that left the process; copied. INVALID, code "state_malformed", says what is wrong with them; UNSUPPORTED,
 * code "newer_format", names both formats; NO_MEMORY. Symbols are not checked against a vocabulary here. Owned by one
 * reference. */
enum status text_state_read(const void *bytes, size_t length, struct text_state **ret_state,
                            struct error *error) MUST_CHECK;

/* One more reference, counted atomically, and its release; both take NULL, unref returns it. */
struct text_state *text_state_ref(struct text_state *state);
struct text_state *text_state_unref(struct text_state *state);

/* Its size, and all of it as text_state_read takes it: [text_state_bytes]. */
size_t text_state_bytes(const struct text_state *state);
void text_state_write(const struct text_state *state, void *bytes);

/* The same as base64, with a NUL behind; from mem_allocate, NULL without memory. And back, errors as text_state_read's:
 * INVALID for what is no base64, too. */
char *text_state_write_base64(const struct text_state *state);
enum status text_state_read_base64(const char *text, size_t length, struct text_state **ret_state,
                                   struct error *error) MUST_CHECK;

/* What is in it. Borrowed. */
const struct text_state_head *text_state_head(const struct text_state *state);
const void *text_state_numbers(const struct text_state *state);
const uint32_t *text_state_pending(const struct text_state *state);
const uint32_t *text_state_recent(const struct text_state *state);
const struct made_symbol *text_state_counted(const struct text_state *state);
/* The model's name, of printable characters, copied. */
void text_state_model(const struct text_state *state, char name[TEXT_STATE_MODEL_BYTES_MAX]);

/* How many symbols the text has so far, prompts included. */
uint64_t text_state_symbol_count(const struct text_state *state);

#endif

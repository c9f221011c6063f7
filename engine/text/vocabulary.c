/* Symbols in order, and their way back to numbers: a direct table for the characters most texts are made of, a hash
 * table for everything else. Thread: any; immutable but for the atomic reference count. Owns copies of the symbols.
 *
 * The hash is keyed by a random number per vocabulary, since a vocabulary may come from a stranger, who could otherwise
 * make all symbols collide. Only speed depends on it. */
#include "engine/text/vocabulary.h"

#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/text/utf8.h"

enum { BYTE_SYMBOLS = 256, DIRECT_CODE_POINTS = 0x800, CODE_POINT_COUNT = 0x110000 };

static const uint32_t no_symbol = UINT32_MAX;

struct vocabulary {
    atomic_size_t references;
    enum vocabulary_kind kind;
    size_t size;
    char *text;        /* all symbols, one behind the other */
    uint32_t *offsets; /* [size + 1] into text */
    uint64_t hash_key;
    uint32_t *slots; /* [slot_mask + 1] ids by hash with linear probing, at most half full; NULL for bytes */
    size_t slot_mask;
    uint32_t replacement;                /* id for UNKNOWN_SYMBOLS_REPLACE */
    uint32_t direct[DIRECT_CODE_POINTS]; /* characters only: id by code point */
};

static_assert((uint64_t)VOCABULARY_SYMBOLS_MAX * VOCABULARY_SYMBOL_BYTES_MAX < UINT32_MAX, "offsets fit");

static const char *const kind_names[] = {
    [VOCABULARY_CHARACTERS] = "characters",
    [VOCABULARY_BYTES] = "bytes",
    [VOCABULARY_WORDS] = "words",
};
static_assert(sizeof kind_names / sizeof *kind_names == VOCABULARY_KIND_COUNT, "one name for each kind");

const char *vocabulary_kind_name(enum vocabulary_kind kind)
{
    CHECK(kind < VOCABULARY_KIND_COUNT);
    return kind_names[kind];
}

bool vocabulary_kind_from_name(const char *name, enum vocabulary_kind *ret_kind)
{
    for (int kind = 0; kind < VOCABULARY_KIND_COUNT; kind++) {
        if (strcmp(kind_names[kind], name) == 0) {
            *ret_kind = (enum vocabulary_kind)kind;
            return true;
        }
    }
    return false;
}

/* Spreads every bit over the word. */
static uint64_t mix(uint64_t bits)
{
    bits = (bits ^ bits >> 32) * 0xD6E8FEB86659FD93u;
    bits = (bits ^ bits >> 29) * 0x9E3779B97F4A7C15u;
    return bits ^ bits >> 32;
}

static uint64_t hash(uint64_t key, const char *bytes, size_t length)
{
    uint64_t sum = key ^ length;
    while (length > 0) {
        uint64_t chunk = 0;
        size_t step = length < sizeof chunk ? length : sizeof chunk;
        memcpy(&chunk, bytes, step);
        sum = mix(sum ^ chunk) + key;
        bytes += step;
        length -= step;
    }
    return sum ^ sum >> 32;
}

const char *vocabulary_symbol(const struct vocabulary *vocabulary, uint32_t id, size_t *ret_length)
{
    CHECK(id < vocabulary->size);
    uint32_t begin = vocabulary->offsets[id];
    *ret_length = vocabulary->offsets[id + 1] - begin;
    return vocabulary->text + begin;
}

/* The slot that holds the symbol, or the free one where it belongs. */
static uint32_t *find_slot(const struct vocabulary *vocabulary, const char *bytes, size_t length)
{
    size_t slot = hash(vocabulary->hash_key, bytes, length) & vocabulary->slot_mask;
    while (vocabulary->slots[slot] != no_symbol) {
        size_t symbol_length;
        const char *symbol = vocabulary_symbol(vocabulary, vocabulary->slots[slot], &symbol_length);
        if (symbol_length == length && memcmp(symbol, bytes, length) == 0) {
            break;
        }
        slot = (slot + 1) & vocabulary->slot_mask;
    }
    return &vocabulary->slots[slot];
}

static void destroy(struct vocabulary *vocabulary)
{
    mem_free(vocabulary->text);
    mem_free(vocabulary->offsets);
    mem_free(vocabulary->slots);
    mem_free(vocabulary);
}

/* A vocabulary with one reference and room for its symbols; NULL when memory runs out. */
static struct vocabulary *allocate(enum vocabulary_kind kind, size_t size, size_t text_bytes)
{
    struct vocabulary *vocabulary = mem_allocate(1, sizeof *vocabulary);
    if (vocabulary == NULL) {
        return NULL;
    }
    atomic_init(&vocabulary->references, 1);
    vocabulary->kind = kind;
    vocabulary->size = size;
    memset(vocabulary->direct, 0xFF, sizeof vocabulary->direct);
    vocabulary->text = mem_allocate(text_bytes, 1);
    vocabulary->offsets = mem_allocate(size + 1, sizeof *vocabulary->offsets);
    bool is_complete = vocabulary->text != NULL && vocabulary->offsets != NULL;
    if (kind != VOCABULARY_BYTES) {
        size_t slot_count = 16;
        while (slot_count < 2 * size) {
            slot_count *= 2;
        }
        vocabulary->hash_key = rng_system();
        vocabulary->slot_mask = slot_count - 1;
        vocabulary->slots = mem_allocate(slot_count, sizeof *vocabulary->slots);
        if (vocabulary->slots != NULL) {
            memset(vocabulary->slots, 0xFF, slot_count * sizeof *vocabulary->slots);
        }
        is_complete = is_complete && vocabulary->slots != NULL;
    }
    if (!is_complete) {
        destroy(vocabulary);
        return NULL;
    }
    return vocabulary;
}

enum status vocabulary_create_bytes(struct vocabulary **ret_vocabulary, struct error *error)
{
    struct vocabulary *vocabulary = allocate(VOCABULARY_BYTES, BYTE_SYMBOLS, BYTE_SYMBOLS);
    if (vocabulary == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the byte vocabulary");
    }
    for (uint32_t byte = 0; byte < BYTE_SYMBOLS; byte++) {
        vocabulary->text[byte] = (char)(unsigned char)byte;
        vocabulary->offsets[byte + 1] = byte + 1;
    }
    *ret_vocabulary = vocabulary;
    return STATUS_OK;
}

void vocabulary_describe_character(const char *character, size_t length, char text[VOCABULARY_DESCRIPTION_BYTES_MAX])
{
    uint32_t code_point;
    size_t size = utf8_decode(character, length, &code_point);
    if (size == 0) {
        snprintf(text, VOCABULARY_DESCRIPTION_BYTES_MAX, "malformed UTF-8");
        return;
    }
    bool is_control = code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0);
    const char *quote = code_point == '"' ? "'" : "\"";
    if (is_control) {
        snprintf(text, VOCABULARY_DESCRIPTION_BYTES_MAX, "U+%04X", code_point);
    } else {
        snprintf(text, VOCABULARY_DESCRIPTION_BYTES_MAX, "U+%04X %s%.*s%s", code_point, quote, (int)size, character,
                 quote);
    }
}

/* Whether a symbol can be one of its kind, whatever the others are. */
static enum status check_symbol(enum vocabulary_kind kind, size_t id, const char *symbol, size_t length,
                                struct error *error)
{
    if (length == 0) {
        return error_set(error, STATUS_INVALID, "symbol %zu is empty", id);
    }
    if (length > VOCABULARY_SYMBOL_BYTES_MAX) {
        return error_set(error, STATUS_LIMIT, "symbol %zu has %zu bytes, at most %d", id, length,
                         VOCABULARY_SYMBOL_BYTES_MAX);
    }
    size_t malformed = utf8_find_malformed(symbol, length);
    if (malformed < length) {
        return error_set(error, STATUS_INVALID, "symbol %zu is not UTF-8 at byte %zu", id, malformed);
    }
    uint32_t code_point;
    if (kind == VOCABULARY_CHARACTERS && utf8_decode(symbol, length, &code_point) != length) {
        return error_set(error, STATUS_INVALID, "symbol %zu, \"%.*s\", is more than one character", id, (int)length,
                         symbol);
    }
    if (kind == VOCABULARY_WORDS && memchr(symbol, '\0', length) != NULL) {
        return error_set(error, STATUS_INVALID, "symbol %zu holds a NUL", id);
    }
    return STATUS_OK;
}

/* Puts symbol `id` behind the ones before it. */
static enum status add_symbol(struct vocabulary *vocabulary, uint32_t id, const char *symbol, size_t length,
                              struct error *error)
{
    uint32_t *slot = find_slot(vocabulary, symbol, length);
    if (*slot != no_symbol) {
        return error_set(error, STATUS_INVALID, "symbol %u, \"%.*s\", is symbol %u already", id, (int)length, symbol,
                         *slot);
    }
    memcpy(vocabulary->text + vocabulary->offsets[id], symbol, length);
    vocabulary->offsets[id + 1] = vocabulary->offsets[id] + (uint32_t)length;
    *slot = id;
    uint32_t code_point;
    if (vocabulary->kind == VOCABULARY_CHARACTERS && utf8_decode(symbol, length, &code_point) == length &&
        code_point < DIRECT_CODE_POINTS) {
        vocabulary->direct[code_point] = id;
    }
    return STATUS_OK;
}

static void choose_replacement(struct vocabulary *vocabulary)
{
    uint32_t unknown = *find_slot(vocabulary, "<unk>", 5);
    uint32_t space = *find_slot(vocabulary, " ", 1);
    vocabulary->replacement = unknown != no_symbol ? unknown : space != no_symbol ? space : 0;
}

enum status vocabulary_create(enum vocabulary_kind kind, const char *const *symbols, const size_t *lengths,
                              size_t count, struct vocabulary **ret_vocabulary, struct error *error)
{
    CHECK(kind == VOCABULARY_CHARACTERS || kind == VOCABULARY_WORDS);
    if (count == 0) {
        return error_set(error, STATUS_INVALID, "a vocabulary of no symbols");
    }
    if (count > VOCABULARY_SYMBOLS_MAX) {
        return error_set(error, STATUS_LIMIT, "a vocabulary of %zu symbols, at most %d", count, VOCABULARY_SYMBOLS_MAX);
    }
    size_t text_bytes = 0;
    for (size_t id = 0; id < count; id++) {
        TRY(check_symbol(kind, id, symbols[id], lengths[id], error));
        text_bytes += lengths[id];
    }
    struct vocabulary *vocabulary = allocate(kind, count, text_bytes);
    if (vocabulary == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary of %zu symbols", count);
    }
    for (uint32_t id = 0; id < count; id++) {
        enum status status = add_symbol(vocabulary, id, symbols[id], lengths[id], error);
        if (status != STATUS_OK) {
            destroy(vocabulary);
            return status;
        }
    }
    choose_replacement(vocabulary);
    *ret_vocabulary = vocabulary;
    return STATUS_OK;
}

static enum status refuse_malformed(size_t offset, struct error *error)
{
    error_set(error, STATUS_INVALID, "not UTF-8 at byte offset %zu", offset);
    error_code(error, "malformed_utf8");
    return STATUS_INVALID;
}

/* Marks every character of the text in a set of bits; counts the distinct ones and their bytes. */
static enum status mark_characters(const char *text, size_t length, uint64_t *present, size_t *ret_count,
                                   size_t *ret_bytes, struct error *error)
{
    size_t count = 0;
    size_t bytes = 0;
    for (size_t offset = 0; offset < length;) {
        uint32_t code_point;
        size_t step = utf8_decode(text + offset, length - offset, &code_point);
        if (step == 0) {
            return refuse_malformed(offset, error);
        }
        uint64_t bit = UINT64_C(1) << code_point % 64;
        if ((present[code_point / 64] & bit) == 0) {
            present[code_point / 64] |= bit;
            count++;
            bytes += step;
        }
        offset += step;
    }
    *ret_count = count;
    *ret_bytes = bytes;
    return STATUS_OK;
}

/* Fills a vocabulary with the marked characters in order of code point. */
static enum status add_characters(struct vocabulary *vocabulary, const uint64_t *present, struct error *error)
{
    uint32_t id = 0;
    for (uint32_t word = 0; word < CODE_POINT_COUNT / 64; word++) {
        for (uint64_t bits = present[word]; bits != 0; bits &= bits - 1) {
            char bytes[UTF8_BYTES_MAX];
            uint32_t code_point = word * 64 + (uint32_t)__builtin_ctzll(bits);
            TRY(add_symbol(vocabulary, id++, bytes, utf8_encode(code_point, bytes), error));
        }
    }
    return STATUS_OK;
}

enum status vocabulary_create_from_text(const char *text, size_t length, struct vocabulary **ret_vocabulary,
                                        struct error *error)
{
    if (length == 0) {
        return error_set(error, STATUS_INVALID, "the text is empty");
    }
    struct vocabulary *vocabulary = NULL;
    size_t count = 0;
    size_t bytes = 0;
    enum status status;
    uint64_t *present = mem_allocate(CODE_POINT_COUNT / 64, sizeof *present);
    if (present == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory to count characters");
        goto done;
    }
    status = mark_characters(text, length, present, &count, &bytes, error);
    if (status != STATUS_OK) {
        goto done;
    }
    if (count > VOCABULARY_SYMBOLS_MAX) {
        status = error_set(error, STATUS_LIMIT, "%zu distinct characters, at most %d", count, VOCABULARY_SYMBOLS_MAX);
        goto done;
    }
    vocabulary = allocate(VOCABULARY_CHARACTERS, count, bytes);
    if (vocabulary == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary of %zu symbols", count);
        goto done;
    }
    status = add_characters(vocabulary, present, error);
    CHECK(status == STATUS_OK); /* distinct characters cannot collide */
    choose_replacement(vocabulary);
    *ret_vocabulary = vocabulary;
done:
    mem_free(present);
    return status;
}

struct vocabulary *vocabulary_ref(struct vocabulary *vocabulary)
{
    atomic_fetch_add_explicit(&vocabulary->references, 1, memory_order_relaxed);
    return vocabulary;
}

void vocabulary_unref(struct vocabulary *vocabulary)
{
    if (vocabulary != NULL && atomic_fetch_sub_explicit(&vocabulary->references, 1, memory_order_acq_rel) == 1) {
        destroy(vocabulary);
    }
}

enum vocabulary_kind vocabulary_kind(const struct vocabulary *vocabulary)
{
    return vocabulary->kind;
}

size_t vocabulary_size(const struct vocabulary *vocabulary)
{
    return vocabulary->size;
}

bool vocabulary_equal(const struct vocabulary *a, const struct vocabulary *b)
{
    return a->kind == b->kind && a->size == b->size &&
           memcmp(a->offsets, b->offsets, (a->size + 1) * sizeof *a->offsets) == 0 &&
           memcmp(a->text, b->text, a->offsets[a->size]) == 0;
}

/* What vocabulary_encode is doing: the text, how far it is, and what it has found. */
struct encoding {
    const struct vocabulary *vocabulary;
    const char *text;
    size_t length;
    enum unknown_symbols unknown;
    uint32_t *ids;
    size_t count;
};

/* Takes in a found symbol, or does with an unknown one what the caller wants. */
static enum status append(struct encoding *encoding, uint32_t id, size_t offset, size_t length, size_t position,
                          struct error *error)
{
    if (id != no_symbol) {
        encoding->ids[encoding->count++] = id;
        return STATUS_OK;
    }
    if (encoding->unknown == UNKNOWN_SYMBOLS_REPLACE) {
        encoding->ids[encoding->count++] = encoding->vocabulary->replacement;
        return STATUS_OK;
    }
    if (encoding->unknown == UNKNOWN_SYMBOLS_SKIP) {
        return STATUS_OK;
    }
    const char *symbol = encoding->text + offset;
    if (encoding->vocabulary->kind == VOCABULARY_CHARACTERS) {
        char description[VOCABULARY_DESCRIPTION_BYTES_MAX];
        vocabulary_describe_character(symbol, length, description);
        error_set(error, STATUS_INVALID, "the model does not know the character %s at position %zu", description,
                  position);
    } else {
        int shown = length > 200 ? 200 : (int)length;
        while (shown < (int)length && ((unsigned char)symbol[shown] & 0xC0) == 0x80) {
            shown--; /* never cut inside a character */
        }
        error_set(error, STATUS_INVALID, "the model does not know the word \"%.*s\"%s at position %zu", shown, symbol,
                  shown < (int)length ? "…" : "", position);
    }
    error_code(error, "unknown_symbol");
    return STATUS_INVALID;
}

static enum status encode_characters(struct encoding *encoding, struct error *error)
{
    const struct vocabulary *vocabulary = encoding->vocabulary;
    size_t position = 0;
    for (size_t offset = 0; offset < encoding->length; position++) {
        const char *character = encoding->text + offset;
        uint32_t code_point;
        size_t step = utf8_decode(character, encoding->length - offset, &code_point);
        if (step == 0) {
            return refuse_malformed(offset, error);
        }
        uint32_t id =
            code_point < DIRECT_CODE_POINTS ? vocabulary->direct[code_point] : *find_slot(vocabulary, character, step);
        TRY(append(encoding, id, offset, step, position, error));
        offset += step;
    }
    return STATUS_OK;
}

/* Unicode's White_Space property. */
static bool is_white_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static enum status encode_words(struct encoding *encoding, struct error *error)
{
    size_t position = 0;
    size_t word_position = 0;
    size_t word_length = 0;
    for (size_t offset = 0; offset <= encoding->length; position++) {
        uint32_t code_point = ' '; /* behind the last word */
        size_t step = 1;
        if (offset < encoding->length) {
            step = utf8_decode(encoding->text + offset, encoding->length - offset, &code_point);
            if (step == 0) {
                return refuse_malformed(offset, error);
            }
        }
        if (!is_white_space(code_point)) {
            word_position = word_length == 0 ? position : word_position;
            word_length += step;
        } else if (word_length > 0) {
            size_t begin = offset - word_length;
            uint32_t id = *find_slot(encoding->vocabulary, encoding->text + begin, word_length);
            TRY(append(encoding, id, begin, word_length, word_position, error));
            word_length = 0;
        }
        offset += step;
    }
    return STATUS_OK;
}

enum status vocabulary_encode(const struct vocabulary *vocabulary, const char *text, size_t length,
                              enum unknown_symbols unknown, uint32_t *ids, size_t *ret_count, struct error *error)
{
    struct encoding encoding = {vocabulary, text, length, unknown, ids, 0};
    if (vocabulary->kind == VOCABULARY_CHARACTERS) {
        TRY(encode_characters(&encoding, error));
    } else if (vocabulary->kind == VOCABULARY_WORDS) {
        TRY(encode_words(&encoding, error));
    } else {
        for (size_t i = 0; i < length; i++) {
            ids[i] = (unsigned char)text[i];
        }
        encoding.count = length;
    }
    *ret_count = encoding.count;
    return STATUS_OK;
}

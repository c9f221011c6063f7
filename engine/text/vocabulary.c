/* Symbols in order, and turning text into them. Thread: any; immutable but for the atomic reference count. Owns copies
 * of the symbols. */
#include "engine/text/vocabulary.h"

#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/text/symbol_table.h"
#include "engine/text/utf8.h"
#include "engine/text/word_splitter.h"

enum { BYTE_SYMBOLS = 256, SHOWN_BYTES_MAX = 200 };

struct vocabulary {
    atomic_size_t references;
    enum vocabulary_kind kind;
    struct symbol_table table;
    uint32_t replacement; /* for UNKNOWN_SYMBOLS_REPLACE */
    uint32_t unknown;
    uint32_t end_of_line;
    uint32_t bytes[BYTE_SYMBOLS]; /* of bytes: each one's number */
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

const char *vocabulary_symbol(const struct vocabulary *vocabulary, uint32_t id, size_t *ret_length)
{
    return symbol_table_text(&vocabulary->table, id, ret_length);
}

static void destroy(struct vocabulary *vocabulary)
{
    symbol_table_release(&vocabulary->table);
    mem_free(vocabulary);
}

/* An empty vocabulary with one reference and room for its symbols. */
static enum status allocate(enum vocabulary_kind kind, size_t size, size_t text_bytes,
                            struct vocabulary **ret_vocabulary, struct error *error)
{
    struct vocabulary *vocabulary = mem_allocate(1, sizeof *vocabulary);
    if (vocabulary == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary of %zu symbols", size);
    }
    atomic_init(&vocabulary->references, 1);
    vocabulary->kind = kind;
    enum status status = symbol_table_init(&vocabulary->table, size, text_bytes, error);
    if (status != STATUS_OK) {
        mem_free(vocabulary);
        return status;
    }
    *ret_vocabulary = vocabulary;
    return STATUS_OK;
}

/* Once all symbols are there. */
static struct vocabulary *complete(struct vocabulary *vocabulary)
{
    uint32_t unknown = symbol_table_find(&vocabulary->table, VOCABULARY_UNKNOWN, strlen(VOCABULARY_UNKNOWN));
    uint32_t space = symbol_table_find(&vocabulary->table, " ", 1);
    uint32_t mark = symbol_table_find(&vocabulary->table, VOCABULARY_END_OF_LINE, strlen(VOCABULARY_END_OF_LINE));
    uint32_t newline = symbol_table_find(&vocabulary->table, "\n", 1);
    bool has_words = vocabulary->kind == VOCABULARY_WORDS;
    vocabulary->replacement = unknown != SYMBOL_NONE ? unknown : space != SYMBOL_NONE ? space : 0;
    vocabulary->unknown = has_words ? unknown : SYMBOL_NONE;
    vocabulary->end_of_line = has_words && mark != SYMBOL_NONE ? mark : newline;
    return vocabulary;
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

bool vocabulary_is_mark(const char *symbol, size_t length)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/";
    bool is_mark = length > 2 && length <= VOCABULARY_MARK_BYTES_MAX && symbol[0] == '<' && symbol[length - 1] == '>';
    for (size_t i = 1; is_mark && i + 1 < length; i++) {
        is_mark = memchr(letters, symbol[i], sizeof letters - 1) != NULL;
    }
    return is_mark;
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
    if (kind == VOCABULARY_CHARACTERS && utf8_decode(symbol, length, &code_point) != length &&
        !vocabulary_is_mark(symbol, length)) {
        return error_set(error, STATUS_INVALID, "symbol %zu, \"%.*s\", is more than one character", id, (int)length,
                         symbol);
    }
    if (kind == VOCABULARY_WORDS && memchr(symbol, '\0', length) != NULL) {
        return error_set(error, STATUS_INVALID, "symbol %zu holds a NUL", id);
    }
    return STATUS_OK;
}

/* Puts a symbol behind the ones before it. */
static enum status add_symbol(struct vocabulary *vocabulary, const char *symbol, size_t length, struct error *error)
{
    uint32_t same = symbol_table_find(&vocabulary->table, symbol, length);
    if (same != SYMBOL_NONE) {
        return error_set(error, STATUS_INVALID, "symbol %zu, \"%.*s\", is symbol %u already", vocabulary->table.count,
                         (int)length, symbol, same);
    }
    return symbol_table_add(&vocabulary->table, symbol, length, error);
}

enum status vocabulary_create_some_bytes(const unsigned char *bytes, size_t count, struct vocabulary **ret_vocabulary,
                                         struct error *error)
{
    if (count == 0 || count > BYTE_SYMBOLS) {
        return error_set(error, STATUS_INVALID, "a vocabulary of %zu bytes, must be 1 to %d", count, BYTE_SYMBOLS);
    }
    struct vocabulary *vocabulary = NULL;
    TRY(allocate(VOCABULARY_BYTES, count, count, &vocabulary, error));
    memset(vocabulary->bytes, 0xFF, sizeof vocabulary->bytes);
    for (uint32_t id = 0; id < count; id++) {
        char symbol = (char)bytes[id];
        uint32_t *number = &vocabulary->bytes[bytes[id]];
        enum status status =
            *number == SYMBOL_NONE
                ? symbol_table_add(&vocabulary->table, &symbol, 1, error)
                : error_set(error, STATUS_INVALID, "symbol %u, byte %d, is symbol %u already", id, bytes[id], *number);
        if (status != STATUS_OK) {
            destroy(vocabulary);
            return status;
        }
        *number = id;
    }
    *ret_vocabulary = complete(vocabulary);
    return STATUS_OK;
}

enum status vocabulary_create_bytes(struct vocabulary **ret_vocabulary, struct error *error)
{
    unsigned char bytes[BYTE_SYMBOLS];
    for (size_t byte = 0; byte < BYTE_SYMBOLS; byte++) {
        bytes[byte] = (unsigned char)byte;
    }
    return vocabulary_create_some_bytes(bytes, BYTE_SYMBOLS, ret_vocabulary, error);
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
    struct vocabulary *vocabulary = NULL;
    TRY(allocate(kind, count, text_bytes, &vocabulary, error));
    for (size_t id = 0; id < count; id++) {
        enum status status = add_symbol(vocabulary, symbols[id], lengths[id], error);
        if (status != STATUS_OK) {
            destroy(vocabulary);
            return status;
        }
    }
    *ret_vocabulary = complete(vocabulary);
    return STATUS_OK;
}

static enum status refuse_malformed(size_t offset, struct error *error)
{
    error_set(error, STATUS_INVALID, "not UTF-8 at byte offset %zu", offset);
    error_code(error, "malformed_utf8");
    return STATUS_INVALID;
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
    return vocabulary->table.count;
}

size_t vocabulary_bytes(const struct vocabulary *vocabulary)
{
    return sizeof *vocabulary + symbol_table_bytes(&vocabulary->table);
}

uint32_t vocabulary_end_of_line(const struct vocabulary *vocabulary)
{
    return vocabulary->end_of_line;
}

uint32_t vocabulary_unknown(const struct vocabulary *vocabulary)
{
    return vocabulary->unknown;
}

uint32_t vocabulary_find(const struct vocabulary *vocabulary, const char *symbol, size_t length)
{
    return symbol_table_find(&vocabulary->table, symbol, length);
}

bool vocabulary_equal(const struct vocabulary *a, const struct vocabulary *b)
{
    const struct symbol_table *one = &a->table;
    const struct symbol_table *other = &b->table;
    return a->kind == b->kind && one->count == other->count &&
           memcmp(one->offsets, other->offsets, (one->count + 1) * sizeof *one->offsets) == 0 &&
           memcmp(one->text, other->text, one->offsets[one->count]) == 0;
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

static void put(struct encoding *encoding, uint32_t id)
{
    encoding->ids[encoding->count++] = id;
}

const char *vocabulary_describe_symbol(enum vocabulary_kind kind, const char *symbol, size_t length,
                                       char text[VOCABULARY_SYMBOL_DESCRIPTION_BYTES_MAX])
{
    if (kind == VOCABULARY_CHARACTERS && vocabulary_is_mark(symbol, length)) {
        snprintf(text, VOCABULARY_SYMBOL_DESCRIPTION_BYTES_MAX, "mark \"%.*s\"", (int)length, symbol);
        return text;
    }
    if (kind == VOCABULARY_CHARACTERS) {
        char description[VOCABULARY_DESCRIPTION_BYTES_MAX];
        vocabulary_describe_character(symbol, length, description);
        snprintf(text, VOCABULARY_SYMBOL_DESCRIPTION_BYTES_MAX, "character %s", description);
        return text;
    }
    if (kind == VOCABULARY_BYTES) {
        snprintf(text, VOCABULARY_SYMBOL_DESCRIPTION_BYTES_MAX, "byte 0x%02x", (unsigned)(unsigned char)symbol[0]);
        return text;
    }
    int shown = length > SHOWN_BYTES_MAX ? SHOWN_BYTES_MAX : (int)length;
    while (shown < (int)length && ((unsigned char)symbol[shown] & 0xC0) == 0x80) {
        shown--; /* never cut inside a character */
    }
    snprintf(text, VOCABULARY_SYMBOL_DESCRIPTION_BYTES_MAX, "word \"%.*s\"%s", shown, symbol,
             shown < (int)length ? "…" : "");
    return text;
}

/* Does with an unknown symbol what the caller wants. */
static enum status put_unknown(struct encoding *encoding, const char *symbol, size_t length, size_t position,
                               struct error *error)
{
    const struct vocabulary *vocabulary = encoding->vocabulary;
    if (encoding->unknown == UNKNOWN_SYMBOLS_SKIP) {
        return STATUS_OK;
    }
    if (encoding->unknown == UNKNOWN_SYMBOLS_REPLACE || vocabulary->unknown != SYMBOL_NONE) {
        put(encoding, vocabulary->replacement);
        return STATUS_OK;
    }
    char description[VOCABULARY_SYMBOL_DESCRIPTION_BYTES_MAX];
    error_set(error, STATUS_INVALID, "the model does not know the %s at position %zu",
              vocabulary_describe_symbol(vocabulary->kind, symbol, length, description), position);
    error_code(error, "unknown_symbol");
    return STATUS_INVALID;
}

/* The mark that the text begins with, if it is one of the vocabulary's; its bytes. */
static uint32_t find_mark(const struct vocabulary *vocabulary, const char *text, size_t length, size_t *ret_bytes)
{
    size_t room = length < VOCABULARY_MARK_BYTES_MAX ? length : VOCABULARY_MARK_BYTES_MAX;
    const char *end = *text == '<' ? memchr(text, '>', room) : NULL;
    *ret_bytes = end == NULL ? 0 : (size_t)(end - text) + 1;
    return end == NULL || !vocabulary_is_mark(text, *ret_bytes)
               ? SYMBOL_NONE
               : symbol_table_find(&vocabulary->table, text, *ret_bytes);
}

static enum status encode_characters(struct encoding *encoding, struct error *error)
{
    const struct vocabulary *vocabulary = encoding->vocabulary;
    size_t position = 0;
    for (size_t offset = 0; offset < encoding->length; position++) {
        const char *character = encoding->text + offset;
        uint32_t code_point;
        size_t step = 0;
        uint32_t id = find_mark(vocabulary, character, encoding->length - offset, &step);
        if (id != SYMBOL_NONE) {
            put(encoding, id);
            offset += step;
            position += step - 1; /* its bytes are characters */
            continue;
        }
        step = utf8_decode(character, encoding->length - offset, &code_point);
        if (step == 0) {
            return refuse_malformed(offset, error);
        }
        id = symbol_table_find_character(&vocabulary->table, code_point, character, step);
        if (id != SYMBOL_NONE) {
            put(encoding, id);
        } else {
            TRY(put_unknown(encoding, character, step, position, error));
        }
        offset += step;
    }
    return STATUS_OK;
}

static enum status put_word(struct encoding *encoding, const struct word_splitter *splitter, size_t position,
                            struct error *error)
{
    uint32_t id = symbol_table_find(&encoding->vocabulary->table, splitter->word, splitter->length);
    if (id != SYMBOL_NONE) {
        put(encoding, id);
        return STATUS_OK;
    }
    return put_unknown(encoding, splitter->word, splitter->length, position, error);
}

static enum status encode_words(struct encoding *encoding, struct error *error)
{
    struct word_splitter splitter = {.length = 0};
    size_t position = 0;
    size_t word_position = 0;
    for (size_t offset = 0; offset < encoding->length; position++) {
        const char *character = encoding->text + offset;
        uint32_t code_point;
        size_t step = utf8_decode(character, encoding->length - offset, &code_point);
        if (step == 0) {
            return refuse_malformed(offset, error);
        }
        if (word_splitter_push(&splitter, character, step, code_point)) {
            TRY(put_word(encoding, &splitter, word_position, error));
        } else if (splitter.length == step) {
            word_position = position;
        }
        if (code_point == '\n' && encoding->vocabulary->end_of_line != SYMBOL_NONE) {
            put(encoding, encoding->vocabulary->end_of_line);
        }
        offset += step;
    }
    return word_splitter_finish(&splitter) ? put_word(encoding, &splitter, word_position, error) : STATUS_OK;
}

static enum status encode_bytes(struct encoding *encoding, struct error *error)
{
    for (size_t i = 0; i < encoding->length; i++) {
        uint32_t id = encoding->vocabulary->bytes[(unsigned char)encoding->text[i]];
        if (id != SYMBOL_NONE) {
            put(encoding, id);
        } else {
            TRY(put_unknown(encoding, encoding->text + i, 1, i, error));
        }
    }
    return STATUS_OK;
}

enum status vocabulary_encode(const struct vocabulary *vocabulary, const char *text, size_t length,
                              enum unknown_symbols unknown, uint32_t *ids, size_t *ret_count, struct error *error)
{
    struct encoding encoding = {vocabulary, text, length, unknown, NULL, 0};
    encoding.ids = ids;
    if (vocabulary->kind == VOCABULARY_CHARACTERS) {
        TRY(encode_characters(&encoding, error));
    } else if (vocabulary->kind == VOCABULARY_WORDS) {
        TRY(encode_words(&encoding, error));
    } else {
        TRY(encode_bytes(&encoding, error));
    }
    *ret_count = encoding.count;
    return STATUS_OK;
}

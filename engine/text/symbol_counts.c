/* Counting symbols, and choosing a vocabulary among them. */
#include "engine/text/symbol_counts.h"

#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/text/symbol_table.h"

struct tally {
    uint64_t count;
    struct symbol_place place;
};

struct symbol_counts {
    enum vocabulary_kind kind;
    struct symbol_table table;
    struct tally *tallies; /* by number */
    size_t tally_max;
    bool is_counting;
};

/* ---- counting ---- */

enum status symbol_counts_create(enum vocabulary_kind kind, struct symbol_counts **ret_counts, struct error *error)
{
    struct symbol_counts *counts = mem_allocate(1, sizeof *counts);
    if (counts == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to count symbols");
    }
    counts->kind = kind;
    counts->is_counting = true;
    enum status status = symbol_table_init(&counts->table, 0, 0, error);
    if (status != STATUS_OK) {
        symbol_counts_destroy(counts);
        return status;
    }
    *ret_counts = counts;
    return STATUS_OK;
}

void symbol_counts_destroy(struct symbol_counts *counts)
{
    if (counts != NULL) {
        symbol_table_release(&counts->table);
        mem_free(counts->tallies);
        mem_free(counts);
    }
}

void symbol_counts_stop(struct symbol_counts *counts)
{
    counts->is_counting = false;
}

static enum status add_new(struct symbol_counts *counts, const char *symbol, size_t length,
                           const struct symbol_place *place, uint32_t *ret_number, struct error *error)
{
    size_t number = counts->table.count;
    if (number >= SYMBOL_COUNTS_MAX) {
        return error_set(error, STATUS_LIMIT, "the text has more than %d distinct words", SYMBOL_COUNTS_MAX);
    }
    if (number == counts->tally_max) {
        size_t room = number == 0 ? 64 : 2 * number;
        struct tally *tallies = mem_reallocate(counts->tallies, room, sizeof *tallies);
        if (tallies == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory to count %zu symbols", number);
        }
        counts->tallies = tallies;
        counts->tally_max = room;
    }
    TRY(symbol_table_add(&counts->table, symbol, length, error));
    counts->tallies[number] = (struct tally){.count = 0, .place = *place};
    *ret_number = (uint32_t)number;
    return STATUS_OK;
}

enum status symbol_counts_add_character(struct symbol_counts *counts, const char *character, size_t length,
                                        uint32_t code_point, const struct symbol_place *place, uint32_t *ret_number,
                                        struct error *error)
{
    uint32_t number = symbol_table_find_character(&counts->table, code_point, character, length);
    if (number == SYMBOL_NONE) {
        TRY(add_new(counts, character, length, place, &number, error));
    }
    counts->tallies[number].count += counts->is_counting;
    *ret_number = number;
    return STATUS_OK;
}

enum status symbol_counts_add_word(struct symbol_counts *counts, const char *word, size_t length,
                                   const struct symbol_place *place, uint32_t *ret_number, struct error *error)
{
    uint32_t number = symbol_table_find(&counts->table, word, length);
    if (number == SYMBOL_NONE) {
        TRY(add_new(counts, word, length, place, &number, error));
    }
    counts->tallies[number].count += counts->is_counting;
    *ret_number = number;
    return STATUS_OK;
}

size_t symbol_counts_size(const struct symbol_counts *counts)
{
    return counts->table.count;
}

struct counted_symbol symbol_counts_get(const struct symbol_counts *counts, uint32_t number)
{
    struct counted_symbol symbol = {.count = counts->tallies[number].count, .place = counts->tallies[number].place};
    symbol.text = symbol_table_text(&counts->table, number, &symbol.length);
    return symbol;
}

/* ---- choosing ---- */

/* What may become a symbol, in the order of the vocabulary once sorted. */
struct choice {
    struct counted_symbol *symbols;
    size_t count;
    uint64_t left_out;  /* how often what was left out comes in the text */
    uint64_t unknown;   /* how often "<unk>" does */
    bool needs_unknown; /* a word is read as "<unk>", or is it */
};

static bool is_text(const struct counted_symbol *symbol, const char *text)
{
    return symbol->length == strlen(text) && memcmp(symbol->text, text, symbol->length) == 0;
}

/* By code point, which is the order of UTF-8's bytes. */
static int compare_texts(const void *a, const void *b)
{
    const struct counted_symbol *one = a;
    const struct counted_symbol *other = b;
    int order = memcmp(one->text, other->text, one->length < other->length ? one->length : other->length);
    return order != 0 ? order : one->length < other->length ? -1 : one->length > other->length;
}

/* By falling count, then by code point. */
static int compare_words(const void *a, const void *b)
{
    const struct counted_symbol *one = a;
    const struct counted_symbol *other = b;
    return one->count != other->count ? (one->count > other->count ? -1 : 1) : compare_texts(a, b);
}

static bool can_be_word(const struct counted_symbol *symbol)
{
    return symbol->length <= VOCABULARY_SYMBOL_BYTES_MAX && memchr(symbol->text, '\0', symbol->length) == NULL;
}

/* Takes all that could be chosen. */
static void collect(const struct symbol_counts *counts, const struct vocabulary *base, uint64_t min_count,
                    struct choice *choice)
{
    for (uint32_t number = 0; number < counts->table.count; number++) {
        struct counted_symbol symbol = symbol_counts_get(counts, number);
        bool is_there = base != NULL && vocabulary_find(base, symbol.text, symbol.length) != SYMBOL_NONE;
        bool has_words = counts->kind == VOCABULARY_WORDS;
        if (symbol.count == 0 || is_there) {
            bool is_end = has_words && is_text(&symbol, VOCABULARY_END_OF_LINE);
            choice->needs_unknown = choice->needs_unknown || (has_words && !is_there && !is_end);
            continue;
        }
        if (has_words && is_text(&symbol, VOCABULARY_UNKNOWN)) {
            choice->unknown = symbol.count;
            choice->needs_unknown = true;
        } else if (!has_words || is_text(&symbol, VOCABULARY_END_OF_LINE) ||
                   (can_be_word(&symbol) && symbol.count >= min_count)) {
            choice->symbols[choice->count++] = symbol;
        } else {
            choice->left_out += symbol.count;
            choice->needs_unknown = true;
        }
    }
}

/* Keeps the first `room` symbols, "<eos>" and "<unk>" among them. */
static void cut(struct choice *choice, size_t room, bool has_unknown)
{
    size_t taken = choice->needs_unknown && !has_unknown;
    if (choice->count + taken <= room) {
        return;
    }
    size_t kept = has_unknown ? room : room - 1;
    for (size_t i = choice->count; i-- > kept;) {
        if (kept > 0 && is_text(&choice->symbols[i], VOCABULARY_END_OF_LINE)) {
            struct counted_symbol pushed_out = choice->symbols[kept - 1];
            choice->symbols[kept - 1] = choice->symbols[i];
            choice->symbols[i] = pushed_out;
        }
    }
    for (size_t i = kept; i < choice->count; i++) {
        choice->left_out += choice->symbols[i].count;
    }
    choice->count = kept;
    choice->needs_unknown = true;
}

static enum status choose_words(const struct vocabulary *base, const struct vocabulary_limits *limits,
                                struct choice *choice, struct error *error)
{
    size_t there = base == NULL ? 0 : vocabulary_size(base);
    bool has_unknown = base != NULL && vocabulary_unknown(base) != SYMBOL_NONE;
    if (limits->max_size > 0 && limits->max_size < there + 2) {
        return error_set(error, STATUS_INVALID, "max_size is %llu, and %zu symbols are there already: at least %zu",
                         (unsigned long long)limits->max_size, there, there + 2);
    }
    qsort(choice->symbols, choice->count, sizeof *choice->symbols, compare_words);
    if (limits->max_size > 0) {
        cut(choice, limits->max_size - there, has_unknown);
    }
    if (!has_unknown && choice->needs_unknown) {
        choice->symbols[choice->count++] = (struct counted_symbol){.text = VOCABULARY_UNKNOWN,
                                                                   .length = strlen(VOCABULARY_UNKNOWN),
                                                                   .count = choice->unknown + choice->left_out};
    }
    qsort(choice->symbols, choice->count, sizeof *choice->symbols, compare_words);
    return STATUS_OK;
}

/* The symbols of `base`, then the chosen ones. */
static enum status create(enum vocabulary_kind kind, const struct vocabulary *base, const struct choice *choice,
                          struct vocabulary **ret_vocabulary, struct error *error)
{
    size_t there = base == NULL ? 0 : vocabulary_size(base);
    size_t count = there + choice->count;
    const char **symbols = mem_allocate(count, sizeof *symbols);
    size_t *lengths = mem_allocate(count, sizeof *lengths);
    enum status status = STATUS_OK;
    if (symbols == NULL || lengths == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary of %zu symbols", count);
    } else if (count > VOCABULARY_SYMBOLS_MAX) {
        status = error_set(error, STATUS_LIMIT, "the text has %zu distinct symbols, a vocabulary at most %d%s", count,
                           VOCABULARY_SYMBOLS_MAX, kind == VOCABULARY_WORDS ? ": set max_size" : "");
    } else {
        for (size_t i = 0; i < count; i++) {
            symbols[i] =
                i < there ? vocabulary_symbol(base, (uint32_t)i, &lengths[i]) : choice->symbols[i - there].text;
            lengths[i] = i < there ? lengths[i] : choice->symbols[i - there].length;
        }
        status = vocabulary_create(kind, symbols, lengths, count, ret_vocabulary, error);
    }
    mem_free(symbols);
    mem_free(lengths);
    return status;
}

enum status symbol_counts_make_vocabulary(const struct symbol_counts *counts, const struct vocabulary *base,
                                          const struct vocabulary_limits *limits, struct vocabulary **ret_vocabulary,
                                          struct error *error)
{
    CHECK(base == NULL || vocabulary_kind(base) == counts->kind);
    struct choice choice = {.symbols = mem_allocate(counts->table.count + 1, sizeof *choice.symbols)};
    if (choice.symbols == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to choose among %zu symbols", counts->table.count);
    }
    collect(counts, base, limits->min_count, &choice);
    enum status status = STATUS_OK;
    if (counts->kind == VOCABULARY_WORDS) {
        status = choose_words(base, limits, &choice, error);
    } else {
        qsort(choice.symbols, choice.count, sizeof *choice.symbols, compare_texts);
    }
    if (status == STATUS_OK) {
        status = create(counts->kind, base, &choice, ret_vocabulary, error);
    }
    mem_free(choice.symbols);
    return status;
}

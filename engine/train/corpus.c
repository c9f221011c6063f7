/* A training text, read once (corpus_read) as numbers of symbols. What the vocabulary calls them is a table from
 * numbers to symbols, made when the vocabulary is known. Thread: the job's. */
#include <stdio.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/text/utf8.h"
#include "engine/train/corpus_private.h"

enum status corpus_create(const struct corpus_source *source, struct corpus **ret_corpus, struct error *error)
{
    struct corpus *corpus = mem_allocate(1, sizeof *corpus);
    if (!corpus) {
        return error_set(error, STATUS_NO_MEMORY, "corpus: no memory");
    }
    corpus->kind = source->kind;
    corpus->is_cancelled = source->is_cancelled;
    enum status status = corpus_read(corpus, source, error);
    if (status != STATUS_OK) {
        corpus_destroy(corpus);
        return status;
    }
    *ret_corpus = corpus;
    return STATUS_OK;
}

void corpus_destroy(struct corpus *corpus)
{
    if (!corpus) {
        return;
    }
    for (int i = 0; i < CORPUS_PART_COUNT; i++) {
        text_files_release(&corpus->parts[i].paths);
    }
    symbol_store_destroy(corpus->store);
    symbol_counts_destroy(corpus->counts);
    mem_free(corpus->files);
    mem_free(corpus->ids);
    mem_free(corpus->characters);
    mem_free(corpus);
}

/* ---- what was read ---- */

struct corpus_report corpus_report(const struct corpus *corpus)
{
    struct corpus_report report = {.file_count = corpus->file_count,
                                   .unknown_words = corpus->unknown_words,
                                   .unseen_words = corpus->unseen_words,
                                   .trains_unknown = corpus->trains_unknown,
                                   .sha256 = corpus->sha256};
    for (size_t i = 0; i < corpus->file_count; i++) {
        report.bytes += corpus->files[i].report.bytes;
        report.marks += corpus->files[i].report.marks;
        report.line_endings += corpus->files[i].report.line_endings;
    }
    return report;
}

struct corpus_file_report corpus_file_report(const struct corpus *corpus, size_t index)
{
    CHECK(index < corpus->file_count);
    return corpus->files[index].report;
}

enum status corpus_check_files(const struct corpus *corpus, struct error *error)
{
    for (size_t i = 0; i < corpus->file_count; i++) {
        const struct corpus_file *file = &corpus->files[i];
        enum status status = file->is_stamped ? file_stamp_check(&file->stamp, file->report.name, error) : STATUS_OK;
        status = corpus_blame(status, file->report.name, error);
        if (status != STATUS_OK) {
            error_prefix(error, "corpus");
            return status;
        }
    }
    return STATUS_OK;
}

/* ---- symbols ---- */

enum status corpus_make_vocabulary(const struct corpus *corpus, const struct vocabulary *base,
                                   const struct vocabulary_limits *limits, struct vocabulary **ret_vocabulary,
                                   struct error *error)
{
    if (corpus->kind == VOCABULARY_BYTES) {
        return vocabulary_create_bytes(ret_vocabulary, error);
    }
    CHECK(corpus->counts);
    return symbol_counts_make_vocabulary(corpus->counts, base, limits, ret_vocabulary, error);
}

static enum status refuse_unknown(const struct corpus *corpus, const struct counted_symbol *symbol, struct error *error)
{
    char description[VOCABULARY_SYMBOL_DESCRIPTION_BYTES_MAX];
    const char *name = corpus->files[symbol->place.file].report.name;
    error_set(error, STATUS_INVALID, "corpus: %s: line %llu: the model does not know the %s", name,
              (unsigned long long)symbol->place.line,
              vocabulary_describe_symbol(corpus->kind, symbol->text, symbol->length, description));
    error_code(error, "unknown_symbol");
    if (error) {
        snprintf(error->param, sizeof error->param, "%s", name);
    }
    return STATUS_INVALID;
}

static uint16_t count_characters(const struct counted_symbol *symbol)
{
    bool is_end = symbol->length == strlen(VOCABULARY_END_OF_LINE) &&
                  memcmp(symbol->text, VOCABULARY_END_OF_LINE, symbol->length) == 0;
    return is_end ? 0 : (uint16_t)utf8_count(symbol->text, symbol->length);
}

/* A vocabulary of bytes need not have all. */
static enum status encode_bytes(struct corpus *corpus, const struct vocabulary *vocabulary, struct error *error)
{
    corpus->ids = mem_allocate(BYTE_NUMBERS, sizeof *corpus->ids);
    if (!corpus->ids) {
        return error_set(error, STATUS_NO_MEMORY, "corpus: no memory for %d symbols", BYTE_NUMBERS);
    }
    for (size_t number = 0; number < BYTE_NUMBERS; number++) {
        char byte = (char)(unsigned char)number;
        struct counted_symbol symbol = {.text = &byte, .length = 1, .place = corpus->bytes[number]};
        corpus->ids[number] = vocabulary_find(vocabulary, &byte, 1);
        if (corpus->ids[number] == SYMBOL_NONE && symbol.place.line > 0) {
            return refuse_unknown(corpus, &symbol, error);
        }
    }
    return STATUS_OK;
}

/* Its symbol; of a word that has none "<unk>", which is counted. */
static uint32_t find_symbol(struct corpus *corpus, const struct vocabulary *vocabulary,
                            const struct counted_symbol *symbol, bool is_end)
{
    uint32_t id =
        is_end ? vocabulary_end_of_line(vocabulary) : vocabulary_find(vocabulary, symbol->text, symbol->length);
    uint32_t unknown = vocabulary_unknown(vocabulary);
    bool has_none = id == SYMBOL_NONE && unknown != SYMBOL_NONE;
    id = has_none ? unknown : id;
    corpus->unknown_words += has_none;
    corpus->unseen_words += has_none && symbol->count == 0;
    corpus->trains_unknown = corpus->trains_unknown || (id == unknown && symbol->count > 0);
    return id;
}

enum status corpus_encode(struct corpus *corpus, const struct vocabulary *vocabulary, struct error *error)
{
    CHECK(vocabulary_kind(vocabulary) == corpus->kind && !corpus->ids);
    if (corpus->kind == VOCABULARY_BYTES) {
        return encode_bytes(corpus, vocabulary, error);
    }
    size_t count = symbol_counts_size(corpus->counts);
    corpus->ids = mem_allocate(count, sizeof *corpus->ids);
    corpus->characters = mem_allocate(count, sizeof *corpus->characters);
    if (!corpus->ids || !corpus->characters) {
        return error_set(error, STATUS_NO_MEMORY, "corpus: no memory for %zu symbols", count);
    }
    for (uint32_t number = 0; number < count; number++) {
        struct counted_symbol symbol = symbol_counts_get(corpus->counts, number);
        corpus->characters[number] = count_characters(&symbol);
        bool is_end = corpus->kind == VOCABULARY_WORDS && corpus->characters[number] == 0;
        uint32_t id = find_symbol(corpus, vocabulary, &symbol, is_end);
        if (id == SYMBOL_NONE) {
            return refuse_unknown(corpus, &symbol, error);
        }
        corpus->ids[number] = id;
    }
    symbol_counts_destroy(corpus->counts);
    corpus->counts = NULL;
    return STATUS_OK;
}

size_t corpus_symbol_count(const struct corpus *corpus)
{
    return (size_t)symbol_store_count(corpus->store);
}

enum status corpus_copy_symbols(const struct corpus *corpus, size_t begin, size_t count, int32_t *ids,
                                struct error *error)
{
    TRY(symbol_store_read(corpus->store, begin, count, (uint32_t *)ids, error)); /* all are below 2^31 */
    for (size_t i = 0; i < count; i++) {
        ids[i] = (int32_t)corpus->ids[ids[i]];
    }
    return STATUS_OK;
}

/* ---- parts ---- */

bool corpus_has_part(const struct corpus *corpus, enum corpus_part part)
{
    return corpus->parts[part].has_text;
}

struct corpus_split corpus_split(const struct corpus *corpus, double validation_fraction, double test_fraction)
{
    struct corpus_split split;
    for (int i = 0; i < CORPUS_PART_COUNT; i++) {
        split.parts[i] = (struct corpus_stretch){.begin = corpus->parts[i].begin, .count = corpus->parts[i].count};
    }
    size_t total = split.parts[CORPUS_TRAIN].count;
    double cut_off = corpus_has_part(corpus, CORPUS_TEST) ? 0 : test_fraction;
    size_t end = cut_off > 0 ? (size_t)((1 - cut_off) * (double)total) : total;
    if (cut_off > 0) {
        split.parts[CORPUS_TEST] = (struct corpus_stretch){.begin = end, .count = total - end};
    }
    if (!corpus_has_part(corpus, CORPUS_VALIDATION) && validation_fraction > 0) {
        size_t begin = (size_t)((1 - validation_fraction - cut_off) * (double)total);
        split.parts[CORPUS_VALIDATION] = (struct corpus_stretch){.begin = begin, .count = end - begin};
        end = begin;
    }
    split.parts[CORPUS_TRAIN].count = end;
    return split;
}

enum status corpus_count_characters(const struct corpus *corpus, struct corpus_stretch stretch, uint64_t *ret_count,
                                    struct error *error)
{
    uint32_t numbers[1024];
    uint64_t count = corpus->kind == VOCABULARY_CHARACTERS ? stretch.count : 0;
    bool is_line_begun = true;
    for (size_t done = 0; corpus->kind != VOCABULARY_CHARACTERS && done < stretch.count;) {
        size_t piece = stretch.count - done < 1024 ? stretch.count - done : 1024;
        TRY(corpus_check_cancelled(corpus, error));
        TRY(symbol_store_read(corpus->store, stretch.begin + done, piece, numbers, error));
        for (size_t i = 0; i < piece; i++) {
            bool is_byte = corpus->kind == VOCABULARY_BYTES;
            uint32_t characters = is_byte ? (numbers[i] & 0xC0) != 0x80 : corpus->characters[numbers[i]];
            uint32_t space = characters == 0 || !is_line_begun; /* an end of line is one itself */
            count += characters + (is_byte ? 0 : space);
            is_line_begun = characters == 0;
        }
        done += piece;
    }
    *ret_count = count;
    return STATUS_OK;
}

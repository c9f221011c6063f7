/* Reading a training text once: symbols get numbers as they first appear, and only the numbers are kept. What the
 * vocabulary calls them is a table from numbers to symbols, made when the vocabulary is known. Thread: the job's. */
#include "engine/train/corpus.h"

#include <nettle/sha2.h>
#include <stdio.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/store/version_directory.h"
#include "engine/text/symbol_table.h"
#include "engine/text/utf8.h"
#include "engine/text/word_splitter.h"
#include "engine/train/symbol_store.h"
#include "engine/train/text_files.h"
#include "engine/train/text_reader.h"

enum { NUMBERS_MAX = 1 << 14, BYTE_NUMBERS = 256 };

static const char *const part_names[] = {"corpus", "validation", "test"};
static_assert(sizeof part_names / sizeof part_names[0] == CORPUS_PART_COUNT, "one name each");

struct corpus_file {
    struct corpus_file_report report;
    struct file_stamp stamp;
    bool is_stamped;
};

struct part {
    struct text_files paths;
    size_t begin; /* its symbols */
    size_t count;
    bool has_text;
    char sha256[SHA256_TEXT_BYTES];
};

struct corpus {
    enum vocabulary_kind kind;
    struct part parts[CORPUS_PART_COUNT];
    struct corpus_file *files;
    size_t file_count;
    struct symbol_store *store;
    struct symbol_counts *counts;            /* until it is encoded; NULL: bytes */
    struct symbol_place bytes[BYTE_NUMBERS]; /* of bytes, whose numbers are their values; line 0: none */
    uint32_t *ids;                           /* by number */
    uint16_t *characters;                    /* of words, by number; 0: an end of line */
    uint64_t unknown_words;                  /* as corpus_report has them */
    uint64_t unseen_words;
    bool trains_unknown;
    char sha256[SHA256_TEXT_BYTES];
    const _Atomic bool *is_cancelled;
};

static enum status check_cancelled(const struct corpus *corpus, struct error *error)
{
    if (!corpus->is_cancelled || !atomic_load(corpus->is_cancelled)) {
        return STATUS_OK;
    }
    error_set(error, STATUS_CANCELLED, "stopped while the text was read");
    return error_code(error, "stopped"), STATUS_CANCELLED;
}

/* ---- reading ---- */

/* A part that is being read. */
struct reading {
    struct corpus *corpus;
    struct part *part;
    struct text_reader reader;
    struct corpus_file *file;
    struct symbol_place place;
    struct word_splitter splitter;
    struct sha256_ctx sha256;
    uint64_t bytes_max; /* of text that is still allowed */
    uint32_t *numbers;  /* [NUMBERS_MAX] on their way to the store */
    size_t number_count;
};

static enum status put_away(struct reading *reading, struct error *error)
{
    size_t count = reading->number_count;
    reading->number_count = 0;
    reading->part->count += count;
    return symbol_store_append(reading->corpus->store, reading->numbers, count, error);
}

static enum status put(struct reading *reading, uint32_t number, struct error *error)
{
    reading->numbers[reading->number_count++] = number;
    return reading->number_count < NUMBERS_MAX ? STATUS_OK : put_away(reading, error);
}

static enum status put_word(struct reading *reading, const char *word, size_t length, struct error *error)
{
    uint32_t number;
    TRY(symbol_counts_add_word(reading->corpus->counts, word, length, &reading->place, &number, error));
    return put(reading, number, error);
}

/* Whole characters. */
static enum status put_text(struct reading *reading, const char *text, size_t length, struct error *error)
{
    struct word_splitter *splitter = &reading->splitter;
    bool has_words = reading->corpus->kind == VOCABULARY_WORDS;
    for (size_t offset = 0; offset < length;) {
        uint32_t code_point;
        uint32_t number;
        size_t step = utf8_decode(text + offset, length - offset, &code_point);
        CHECK(step > 0); /* the reader has checked it */
        if (!has_words) {
            TRY(symbol_counts_add_character(reading->corpus->counts, text + offset, step, code_point, &reading->place,
                                            &number, error));
            TRY(put(reading, number, error));
        } else if (word_splitter_push(splitter, text + offset, step, code_point)) {
            TRY(put_word(reading, splitter->word, splitter->length, error));
        }
        if (code_point == '\n') {
            if (has_words) {
                TRY(put_word(reading, VOCABULARY_END_OF_LINE, strlen(VOCABULARY_END_OF_LINE), error));
            }
            reading->place.line++;
        }
        offset += step;
    }
    return STATUS_OK;
}

static enum status put_piece(struct reading *reading, const char *bytes, size_t length, struct error *error)
{
    if (length > reading->bytes_max) {
        return error_set(error, STATUS_TOO_LARGE, "more than %llu bytes", (unsigned long long)CORPUS_TEXT_BYTES_MAX);
    }
    reading->bytes_max -= length;
    reading->file->report.bytes += length;
    sha256_update(&reading->sha256, length, (const uint8_t *)bytes);
    if (reading->corpus->kind != VOCABULARY_BYTES) {
        return put_text(reading, bytes, length, error);
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        struct symbol_place *place = &reading->corpus->bytes[byte];
        *place = place->line == 0 ? reading->place : *place;
        reading->place.line += byte == '\n';
        TRY(put(reading, byte, error));
    }
    return STATUS_OK;
}

static enum status read_opened(struct reading *reading, struct error *error)
{
    const char *bytes;
    size_t length;
    char last = '\n';
    for (;;) {
        TRY(check_cancelled(reading->corpus, error));
        TRY(text_reader_next(&reading->reader, &bytes, &length, error));
        if (length == 0) {
            break;
        }
        TRY(put_piece(reading, bytes, length, error));
        last = bytes[length - 1];
    }
    if (reading->corpus->kind == VOCABULARY_WORDS && last != '\n') {
        TRY(put_piece(reading, "\n", 1, error));
    }
    struct corpus_file *file = reading->file;
    file->report.marks = reading->reader.mark_count;
    file->report.line_endings = reading->reader.line_ends;
    file->is_stamped = reading->reader.is_regular;
    file->stamp = reading->reader.stamp;
    return STATUS_OK;
}

/* `path` NULL: the text that was given. */
static enum status read_file(struct reading *reading, const struct corpus_text *text, const char *path,
                             struct error *error)
{
    struct corpus *corpus = reading->corpus;
    struct text_reader *reader = &reading->reader;
    bool is_raw = corpus->kind == VOCABULARY_BYTES;
    TRY(path ? text_reader_open(reader, path, is_raw, error)
             : text_reader_open_text(reader, text->text, text->text_bytes, is_raw, error));
    reading->place = (struct symbol_place){.file = (uint32_t)corpus->file_count, .line = 1};
    reading->file = &corpus->files[corpus->file_count++];
    reading->file->report.name = reader->name;
    enum status status = read_opened(reading, error);
    text_reader_close(reader);
    return status;
}

/* An error about a file names it. */
static enum status blame(enum status status, const char *name, struct error *error)
{
    if (status != STATUS_OK && error) {
        error_prefix(error, "%s", name);
        snprintf(error->param, sizeof error->param, "%s", name);
    }
    return status;
}

static enum status read_part(struct reading *reading, const struct corpus_text *text, struct error *error)
{
    struct part *part = reading->part;
    part->begin = (size_t)symbol_store_count(reading->corpus->store);
    sha256_init(&reading->sha256);
    for (size_t i = 0; i < part->paths.count; i++) {
        TRY(blame(read_file(reading, text, part->paths.paths[i], error), part->paths.paths[i], error));
    }
    enum status status = text->paths ? STATUS_OK : read_file(reading, text, NULL, error);
    if (status != STATUS_OK) {
        error_prefix(error, "the text");
        return status;
    }
    TRY(put_away(reading, error));
    sha256_finish_text(&reading->sha256, part->sha256);
    if (part->count == 0) {
        bool has_file = part->paths.count > 0;
        error_set(error, STATUS_INVALID, "%s%s: empty (0 bytes)", has_file ? part->paths.paths[0] : "the text",
                  part->paths.count > 1 ? " and the files after it" : "");
        return error_code(error, "empty_corpus"), STATUS_INVALID;
    }
    return STATUS_OK;
}

static enum status list_files(struct corpus *corpus, const struct corpus_source *source, struct error *error)
{
    size_t count = CORPUS_PART_COUNT;
    for (int i = 0; i < CORPUS_PART_COUNT; i++) {
        struct part *part = &corpus->parts[i];
        part->has_text = i == CORPUS_TRAIN || source->parts[i].paths || source->parts[i].text;
        enum status status = text_files_list(source->parts[i].paths, source->parts[i].path_count, &part->paths, error);
        if (status != STATUS_OK) {
            error_prefix(error, "%s", part_names[i]);
            return status;
        }
        count += part->paths.count;
    }
    corpus->files = mem_allocate(count, sizeof *corpus->files);
    return corpus->files ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "corpus: no memory");
}

static enum status read_parts(struct reading *reading, const struct corpus_source *source, struct error *error)
{
    struct corpus *corpus = reading->corpus;
    for (int i = 0; i < CORPUS_PART_COUNT; i++) {
        reading->part = &corpus->parts[i];
        if (!reading->part->has_text) {
            continue;
        }
        if (i != CORPUS_TRAIN && corpus->kind == VOCABULARY_WORDS) {
            symbol_counts_stop(corpus->counts);
        }
        enum status status = read_part(reading, &source->parts[i], error);
        if (status != STATUS_OK) {
            error_prefix(error, "%s", part_names[i]);
            return status;
        }
    }
    return symbol_store_seal(corpus->store, error);
}

static void sum_up(struct corpus *corpus)
{
    struct sha256_ctx context;
    sha256_init(&context);
    for (int i = 0; i < CORPUS_PART_COUNT; i++) {
        sha256_update(&context, strlen(corpus->parts[i].sha256), (const uint8_t *)corpus->parts[i].sha256);
    }
    sha256_finish_text(&context, corpus->sha256);
    if (!corpus->parts[CORPUS_VALIDATION].has_text && !corpus->parts[CORPUS_TEST].has_text) {
        memcpy(corpus->sha256, corpus->parts[CORPUS_TRAIN].sha256, SHA256_TEXT_BYTES);
    }
}

static enum status read_source(struct corpus *corpus, const struct corpus_source *source, struct error *error)
{
    struct symbol_store_options store = {.directory = source->directory, .memory_bytes_max = source->memory_bytes_max};
    store.memory_bytes_max = store.memory_bytes_max ? store.memory_bytes_max : CORPUS_MEMORY_BYTES_MAX;
    TRY(list_files(corpus, source, error));
    TRY(symbol_store_create(&store, &corpus->store, error));
    if (corpus->kind != VOCABULARY_BYTES) {
        TRY(symbol_counts_create(corpus->kind, &corpus->counts, error));
    }
    struct reading *reading = mem_allocate(1, sizeof *reading);
    uint32_t *numbers = mem_allocate(NUMBERS_MAX, sizeof *numbers);
    enum status status = STATUS_OK;
    if (!reading || !numbers) {
        status = error_set(error, STATUS_NO_MEMORY, "corpus: no memory");
    } else {
        reading->corpus = corpus;
        reading->numbers = numbers;
        reading->bytes_max = source->directory ? UINT64_MAX : CORPUS_TEXT_BYTES_MAX;
        status = read_parts(reading, source, error);
        sum_up(corpus);
    }
    mem_free(numbers);
    mem_free(reading);
    return status;
}

enum status corpus_create(const struct corpus_source *source, struct corpus **ret_corpus, struct error *error)
{
    struct corpus *corpus = mem_allocate(1, sizeof *corpus);
    if (!corpus) {
        return error_set(error, STATUS_NO_MEMORY, "corpus: no memory");
    }
    corpus->kind = source->kind;
    corpus->is_cancelled = source->is_cancelled;
    enum status status = read_source(corpus, source, error);
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
        status = blame(status, file->report.name, error);
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
        TRY(check_cancelled(corpus, error));
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

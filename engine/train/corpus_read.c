/* Reading a training text once: symbols get numbers as they first appear, and only the numbers are kept. Thread: the
 * job's. */
#include <nettle/sha2.h>
#include <stdio.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/text/utf8.h"
#include "engine/text/word_splitter.h"
#include "engine/train/corpus_private.h"

enum { NUMBERS_MAX = 1 << 14 };

static const char *const part_names[] = {"corpus", "validation", "test"};
static_assert(sizeof part_names / sizeof part_names[0] == CORPUS_PART_COUNT, "one name each");

enum status corpus_check_cancelled(const struct corpus *corpus, struct error *error)
{
    if (!corpus->is_cancelled || !atomic_load(corpus->is_cancelled)) {
        return STATUS_OK;
    }
    error_set(error, STATUS_CANCELLED, "stopped while the text was read");
    return error_code(error, "stopped"), STATUS_CANCELLED;
}

/* A part that is being read. */
struct reading {
    struct corpus *corpus;
    struct corpus_section *part;
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
        TRY(corpus_check_cancelled(reading->corpus, error));
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

enum status corpus_blame(enum status status, const char *name, struct error *error)
{
    if (status != STATUS_OK && error) {
        error_prefix(error, "%s", name);
        snprintf(error->param, sizeof error->param, "%s", name);
    }
    return status;
}

static enum status read_part(struct reading *reading, const struct corpus_text *text, struct error *error)
{
    struct corpus_section *part = reading->part;
    part->begin = (size_t)symbol_store_count(reading->corpus->store);
    sha256_init(&reading->sha256);
    for (size_t i = 0; i < part->paths.count; i++) {
        TRY(corpus_blame(read_file(reading, text, part->paths.paths[i], error), part->paths.paths[i], error));
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
        struct corpus_section *part = &corpus->parts[i];
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

enum status corpus_read(struct corpus *corpus, const struct corpus_source *source, struct error *error)
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

/* Reading, cleaning and encoding a training text. Thread: the job's. */
#include "engine/train/corpus.h"

#include <stdbool.h>
#include <sys/stat.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/store/version_directory.h"
#include "engine/text/utf8.h"

enum { ENCODE_PIECE_BYTES = 1 << 16 };

struct corpus_file {
    const char *path; /* NULL: the text was given */
    size_t begin;     /* in the cleaned text */
};

struct corpus {
    struct corpus_file *files;
    char **paths;
    size_t file_count;
    enum vocabulary_kind kind;
    char *text; /* until it is encoded */
    size_t text_bytes;
    size_t marks;
    size_t line_endings;
    char sha256[SHA256_TEXT_BYTES];
    uint16_t *narrow; /* symbols when the vocabulary has at most 65,536 */
    uint32_t *wide;   /* else */
    size_t symbol_count;
};

static const char *file_name(const struct corpus_file *file)
{
    return file->path ? file->path : "the text";
}

static enum status fail_in_file(const struct corpus_file *file, const char *code, struct error *error)
{
    if (code) {
        error_code(error, code);
    }
    if (error && file->path) {
        snprintf(error->param, sizeof error->param, "%s", file->path);
    }
    return error ? error->status : STATUS_INVALID;
}

static size_t count_lines(const char *bytes, size_t length)
{
    size_t lines = 0;
    for (const char *at = bytes; (at = memchr(at, '\n', length - (size_t)(at - bytes))) != NULL; at++) {
        lines++;
    }
    return lines;
}

/* Checks the bytes of one file before they are cleaned, so that the offset is the file's own. */
static enum status check_utf8(const struct corpus_file *file, const char *bytes, size_t length, struct error *error)
{
    size_t offset = utf8_find_malformed(bytes, length);
    if (offset == length) {
        return STATUS_OK;
    }
    enum status status =
        error_set(error, STATUS_INVALID, "corpus: %s: line %zu: invalid UTF-8 at byte offset %zu (0x%02x)",
                  file_name(file), count_lines(bytes, offset) + 1, offset, (unsigned)(unsigned char)bytes[offset]);
    fail_in_file(file, "malformed_utf8", error);
    return status;
}

/* Appends `bytes` to the text, which has room for them. */
static void append_cleaned(struct corpus *corpus, const char *bytes, size_t length)
{
    char *out = corpus->text + corpus->text_bytes;
    if (corpus->kind == VOCABULARY_BYTES) {
        memcpy(out, bytes, length);
        corpus->text_bytes += length;
        return;
    }
    size_t i = 0;
    if (length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        i = 3;
        corpus->marks++;
    }
    for (; i < length; i++) {
        if (bytes[i] == '\r' && i + 1 < length && bytes[i + 1] == '\n') {
            corpus->line_endings++;
            continue;
        }
        *out++ = bytes[i];
    }
    corpus->text_bytes = (size_t)(out - corpus->text);
}

static enum status add_text(struct corpus *corpus, struct corpus_file *file, const char *bytes, size_t length,
                            struct error *error)
{
    if (length > CORPUS_BYTES_MAX - corpus->text_bytes) {
        return error_set(error, STATUS_TOO_LARGE, "corpus: more than %zu bytes", CORPUS_BYTES_MAX);
    }
    if (corpus->kind == VOCABULARY_CHARACTERS) {
        TRY(check_utf8(file, bytes, length, error));
    }
    if (length == 0) {
        return STATUS_OK;
    }
    char *text = mem_reallocate(corpus->text, corpus->text_bytes + length, 1);
    if (!text) {
        return error_set(error, STATUS_NO_MEMORY, "corpus: no memory for %zu bytes", corpus->text_bytes + length);
    }
    corpus->text = text;
    append_cleaned(corpus, bytes, length);
    return STATUS_OK;
}

static enum status read_file(struct corpus *corpus, size_t index, const char *path, struct error *error)
{
    if (strcmp(path, "-") == 0) {
        return error_set(error, STATUS_UNSUPPORTED, "corpus: standard input ('-') is not built yet; name a file");
    }
    struct corpus_file *file = &corpus->files[index];
    file->path = corpus->paths[index] = mem_copy_string(path);
    if (!file->path) {
        return error_set(error, STATUS_NO_MEMORY, "corpus: no memory");
    }
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        enum status status = error_set(error, STATUS_INVALID, "corpus: %s: is no regular file", path);
        fail_in_file(file, NULL, error);
        return status;
    }
    char *bytes;
    size_t length;
    enum status status = file_read(path, CORPUS_BYTES_MAX, &bytes, &length, error);
    if (status != STATUS_OK) {
        error_prefix(error, "corpus");
        fail_in_file(file, NULL, error);
        return status;
    }
    file->begin = corpus->text_bytes;
    status = add_text(corpus, file, bytes, length, error);
    mem_free(bytes);
    return status;
}

static enum status read_source(struct corpus *corpus, const struct corpus_source *source, struct error *error)
{
    corpus->file_count = source->paths ? source->path_count : 1;
    if (corpus->file_count > CORPUS_FILES_MAX) {
        return error_set(error, STATUS_LIMIT, "corpus: %zu files, at most %d", corpus->file_count, CORPUS_FILES_MAX);
    }
    corpus->files = mem_allocate(corpus->file_count, sizeof *corpus->files);
    corpus->paths = mem_allocate(corpus->file_count, sizeof *corpus->paths);
    if (!corpus->files || !corpus->paths) {
        return error_set(error, STATUS_NO_MEMORY, "corpus: no memory");
    }
    if (!source->paths) {
        TRY(add_text(corpus, &corpus->files[0], source->text, source->text_bytes, error));
    }
    for (size_t i = 0; source->paths && i < source->path_count; i++) {
        TRY(read_file(corpus, i, source->paths[i], error));
    }
    if (corpus->text_bytes == 0) {
        error_set(error, STATUS_INVALID, "corpus: %s%s: empty (0 bytes)",
                  corpus->file_count ? file_name(&corpus->files[0]) : "no file",
                  corpus->file_count > 1 ? " and the files after it" : "");
        return error_code(error, "empty_corpus");
    }
    sha256_text(corpus->text, corpus->text_bytes, corpus->sha256);
    return STATUS_OK;
}

enum status corpus_create(const struct corpus_source *source, struct corpus **ret_corpus, struct error *error)
{
    if (source->kind == VOCABULARY_WORDS) {
        return error_set(error, STATUS_UNSUPPORTED, "vocabulary 'words' is not built yet: characters or bytes");
    }
    struct corpus *corpus = mem_allocate(1, sizeof *corpus);
    if (!corpus) {
        return error_set(error, STATUS_NO_MEMORY, "corpus: no memory");
    }
    corpus->kind = source->kind;
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
    for (size_t i = 0; corpus->paths && i < corpus->file_count; i++) {
        mem_free(corpus->paths[i]);
    }
    mem_free(corpus->paths);
    mem_free(corpus->files);
    mem_free(corpus->text);
    mem_free(corpus->narrow);
    mem_free(corpus->wide);
    mem_free(corpus);
}

struct corpus_report corpus_report(const struct corpus *corpus)
{
    return (struct corpus_report){
        .file_count = corpus->file_count,
        .bytes = corpus->text_bytes,
        .marks = corpus->marks,
        .line_endings = corpus->line_endings,
        .sha256 = corpus->sha256,
    };
}

enum status corpus_make_vocabulary(const struct corpus *corpus, struct vocabulary **ret_vocabulary, struct error *error)
{
    CHECK(corpus->text);
    if (corpus->kind == VOCABULARY_BYTES) {
        return vocabulary_create_bytes(ret_vocabulary, error);
    }
    return vocabulary_create_from_text(corpus->text, corpus->text_bytes, ret_vocabulary, error);
}

/* Where a piece of at most ENCODE_PIECE_BYTES that begins at `begin` ends: behind a line, or at least not inside a
 * character. */
static size_t piece_end(const struct corpus *corpus, size_t begin)
{
    if (corpus->text_bytes - begin <= ENCODE_PIECE_BYTES) {
        return corpus->text_bytes;
    }
    size_t end = begin + ENCODE_PIECE_BYTES;
    const char *newline = memrchr(corpus->text + begin, '\n', end - begin);
    if (newline) {
        return (size_t)(newline - corpus->text) + 1;
    }
    while (corpus->kind == VOCABULARY_CHARACTERS && ((unsigned char)corpus->text[end] & 0xc0) == 0x80) {
        end--;
    }
    return end;
}

/* After the piece was refused with `status`: finds the line that is to blame and names it and its file. */
static enum status refuse_piece(const struct corpus *corpus, const struct vocabulary *vocabulary, size_t begin,
                                size_t end, uint32_t *ids, enum status status, struct error *error)
{
    while (begin < end) {
        const char *newline = memchr(corpus->text + begin, '\n', end - begin);
        size_t line_end = newline ? (size_t)(newline - corpus->text) + 1 : end;
        size_t count;
        enum status line_status = vocabulary_encode(vocabulary, corpus->text + begin, line_end - begin,
                                                    UNKNOWN_SYMBOLS_ERROR, ids, &count, error);
        if (line_status != STATUS_OK) {
            status = line_status;
            break;
        }
        begin = line_end;
    }
    size_t index = 0;
    while (index + 1 < corpus->file_count && corpus->files[index + 1].begin <= begin) {
        index++;
    }
    const struct corpus_file *file = &corpus->files[index];
    size_t line = count_lines(corpus->text + file->begin, begin - file->begin) + 1;
    error_prefix(error, "corpus: %s: line %zu", file_name(file), line);
    fail_in_file(file, NULL, error);
    return status;
}

static enum status encode_pieces(struct corpus *corpus, const struct vocabulary *vocabulary, uint32_t *ids,
                                 struct error *error)
{
    size_t end = 0;
    for (size_t begin = 0; begin < corpus->text_bytes; begin = end) {
        end = piece_end(corpus, begin);
        size_t count;
        enum status status =
            vocabulary_encode(vocabulary, corpus->text + begin, end - begin, UNKNOWN_SYMBOLS_ERROR, ids, &count, error);
        if (status != STATUS_OK) {
            return refuse_piece(corpus, vocabulary, begin, end, ids, status, error);
        }
        for (size_t i = 0; i < count && corpus->narrow; i++) {
            corpus->narrow[corpus->symbol_count + i] = (uint16_t)ids[i];
        }
        if (corpus->wide) {
            memcpy(corpus->wide + corpus->symbol_count, ids, count * sizeof *ids);
        }
        corpus->symbol_count += count;
    }
    return STATUS_OK;
}

/* At most as many symbols as bytes; characters can be counted exactly. */
static size_t symbols_max(const struct corpus *corpus)
{
    size_t count = 0;
    for (size_t i = 0; i < corpus->text_bytes; i++) {
        count += corpus->kind != VOCABULARY_CHARACTERS || ((unsigned char)corpus->text[i] & 0xc0) != 0x80;
    }
    return count;
}

enum status corpus_encode(struct corpus *corpus, const struct vocabulary *vocabulary, struct error *error)
{
    CHECK(corpus->text && !corpus->narrow && !corpus->wide);
    CHECK(vocabulary_kind(vocabulary) == corpus->kind);
    size_t count = symbols_max(corpus);
    if (vocabulary_size(vocabulary) <= 65536) {
        corpus->narrow = mem_allocate(count, sizeof *corpus->narrow);
    } else {
        corpus->wide = mem_allocate(count, sizeof *corpus->wide);
    }
    uint32_t *ids = mem_allocate(ENCODE_PIECE_BYTES, sizeof *ids);
    enum status status = STATUS_OK;
    if (!ids || (!corpus->narrow && !corpus->wide)) {
        status = error_set(error, STATUS_NO_MEMORY, "corpus: no memory for %zu symbols", count);
    } else {
        status = encode_pieces(corpus, vocabulary, ids, error);
    }
    mem_free(ids);
    if (status == STATUS_OK) {
        CHECK(corpus->symbol_count <= count);
        mem_free(corpus->text);
        corpus->text = NULL;
    }
    return status;
}

size_t corpus_symbol_count(const struct corpus *corpus)
{
    return corpus->symbol_count;
}

void corpus_copy_symbols(const struct corpus *corpus, size_t begin, size_t count, int32_t *ids)
{
    CHECK(begin <= corpus->symbol_count && count <= corpus->symbol_count - begin);
    for (size_t i = 0; i < count; i++) {
        ids[i] = corpus->narrow ? corpus->narrow[begin + i] : (int32_t)corpus->wide[begin + i];
    }
}

/* A text to train on: files read in order as one text, cleaned, then turned into symbols once. Owned by the job; after
 * corpus_encode immutable, read by every trainer thread.
 *
 * Characters: a byte order mark at a file's beginning is dropped, CR LF becomes LF, and the text must be UTF-8. Bytes:
 * the text is taken exactly as it is. */
#ifndef ENGINE_TRAIN_CORPUS_H
#define ENGINE_TRAIN_CORPUS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/text/vocabulary.h"

enum { CORPUS_FILES_MAX = 10000 };
#define CORPUS_BYTES_MAX ((size_t)4 << 30) /* the text is held whole while it is turned into symbols */

struct corpus;

struct corpus_source {
    const char *const *paths; /* files; or NULL and */
    size_t path_count;
    const char *text; /* the text itself; borrowed during corpus_create */
    size_t text_bytes;
    enum vocabulary_kind kind;
};

/* What reading found and changed. */
struct corpus_report {
    size_t file_count;
    size_t bytes;        /* of the cleaned text */
    size_t marks;        /* byte order marks dropped */
    size_t line_endings; /* CR LF made LF */
    const char *sha256;  /* of the cleaned text, 64 hexadecimal digits; borrowed */
};

/* Reads and cleans. INVALID, code "empty_corpus"; INVALID, code "malformed_utf8", naming file, line (from 1) and byte
 * offset in the file; TOO_LARGE above CORPUS_BYTES_MAX; UNSUPPORTED for words and for standard input ("-"); NOT_FOUND
 * and IO name the file. `param` is the file. Owned. */
enum status corpus_create(const struct corpus_source *source, struct corpus **ret_corpus,
                          struct error *error) MUST_CHECK;
void corpus_destroy(struct corpus *corpus);

/* What reading the files came to. */
struct corpus_report corpus_report(const struct corpus *corpus);

/* The vocabulary of the whole text, before corpus_encode: its characters, or all bytes. One reference. */
enum status corpus_make_vocabulary(const struct corpus *corpus, struct vocabulary **ret_vocabulary,
                                   struct error *error) MUST_CHECK;

/* Turns the text into symbols and frees it. INVALID, code "unknown_symbol", naming file, line and symbol. Once only. */
enum status corpus_encode(struct corpus *corpus, const struct vocabulary *vocabulary, struct error *error) MUST_CHECK;

/* After corpus_encode: the length of the text in symbols. */
size_t corpus_symbol_count(const struct corpus *corpus);
/* Copies `count` symbols from position `begin`; the range must lie inside. */
void corpus_copy_symbols(const struct corpus *corpus, size_t begin, size_t count, int32_t *ids);

#endif

/* A text to train on, and what it is measured with: files read once, in pieces of bounded size, cleaned
 * (text_reader.h) and turned into symbols, which are kept in memory or, when there are many, in a file of our own
 * (symbol_store.h). So a text may be larger than memory, and what happens to its files afterwards does no harm but that
 * it cannot be resumed from them, which corpus_check_files tells. Owned by the job; after corpus_encode immutable, read
 * by every trainer thread.
 *
 * Three parts follow each other: for training, for validation, for the test. The latter two come from files of their
 * own, or are cut off the training text's end. The symbols are characters, bytes, or words and the ends of lines: each
 * line, a file's last one too, ends with "<eos>". */
#ifndef ENGINE_TRAIN_CORPUS_H
#define ENGINE_TRAIN_CORPUS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/text/symbol_counts.h"
#include "engine/text/vocabulary.h"

#define CORPUS_TEXT_BYTES_MAX ((uint64_t)4 << 30)  /* of a corpus that is kept in memory */
#define CORPUS_MEMORY_BYTES_MAX ((size_t)64 << 20) /* of symbols, before they go into a file */

enum corpus_part { CORPUS_TRAIN, CORPUS_VALIDATION, CORPUS_TEST, CORPUS_PART_COUNT };

struct corpus;

/* Where a part comes from; all is borrowed during corpus_create. Neither: it has no text of its own. */
struct corpus_text {
    const char *const *paths; /* files, directories, "-" (text_files.h), read in order as one text; or NULL and */
    size_t path_count;
    const char *text; /* the text itself */
    size_t text_bytes;
};

struct corpus_source {
    struct corpus_text parts[CORPUS_PART_COUNT];
    enum vocabulary_kind kind;
    const char *directory;            /* for the file of symbols; NULL: they stay in memory */
    size_t memory_bytes_max;          /* of symbols, before there is one; 0: CORPUS_MEMORY_BYTES_MAX */
    const _Atomic bool *is_cancelled; /* ends the reading; borrowed until corpus_destroy; NULL: nothing does */
};

/* What reading found and changed. */
struct corpus_report {
    size_t file_count;
    uint64_t bytes;        /* of the cleaned text */
    uint64_t marks;        /* byte order marks dropped */
    uint64_t line_endings; /* CR LF made LF */
    /* After corpus_encode: distinct words that are read as "<unk>"; those of them that only validation and test have;
     * whether the training text has "<unk>" at all, so that a model can learn of it. */
    uint64_t unknown_words;
    uint64_t unseen_words;
    bool trains_unknown;
    const char *sha256; /* of the cleaned text, 64 hexadecimal digits; where validation or test have texts of their
                         * own, of the parts' three checksums. Borrowed */
};

struct corpus_file_report {
    const char *name; /* borrowed */
    uint64_t bytes;   /* of its cleaned text */
    uint64_t marks;
    uint64_t line_endings;
};

/* Reads and cleans. INVALID, code "empty_corpus", for a part without text; TOO_LARGE above CORPUS_TEXT_BYTES_MAX
 * without a directory; else errors as text_files_list, text_reader_next, symbol_counts_add_word and
 * symbol_store_append. `param` is the file. CANCELLED, code "stopped", within a piece of text_reader.h once
 * `is_cancelled` is set. Owned. */
enum status corpus_create(const struct corpus_source *source, struct corpus **ret_corpus,
                          struct error *error) MUST_CHECK;
void corpus_destroy(struct corpus *corpus);

/* What reading the files came to: all, and file `index`, in the order in which they were read. */
struct corpus_report corpus_report(const struct corpus *corpus);
struct corpus_file_report corpus_file_report(const struct corpus *corpus, size_t index);

/* Whether the files still are what was read. IO, code "file_changed", naming the one that is not. */
enum status corpus_check_files(const struct corpus *corpus, struct error *error) MUST_CHECK;

/* The vocabulary, before corpus_encode: all bytes; the characters of all parts; the words of the training text within
 * `limits`. With `base` its symbols, then those that it lacks. Errors as symbol_counts_make_vocabulary. */
enum status corpus_make_vocabulary(const struct corpus *corpus, const struct vocabulary *base,
                                   const struct vocabulary_limits *limits, struct vocabulary **ret_vocabulary,
                                   struct error *error) MUST_CHECK;

/* Settles what the symbols are. INVALID, code "unknown_symbol", naming symbol, file and line of the first one that the
 * vocabulary has not, where it has no "<unk>" for words. Once only. */
enum status corpus_encode(struct corpus *corpus, const struct vocabulary *vocabulary, struct error *error) MUST_CHECK;

/* After corpus_encode: the length of all parts in symbols. */
size_t corpus_symbol_count(const struct corpus *corpus);
/* Copies `count` symbols from position `begin`; the range must lie inside. IO. */
enum status corpus_copy_symbols(const struct corpus *corpus, size_t begin, size_t count, int32_t *ids,
                                struct error *error) MUST_CHECK;

/* A range of symbols. */
struct corpus_stretch {
    size_t begin;
    size_t count;
};

struct corpus_split {
    struct corpus_stretch parts[CORPUS_PART_COUNT];
};

/* Whether the part has a text of its own. */
bool corpus_has_part(const struct corpus *corpus, enum corpus_part part);

/* Where the parts lie: those with texts of their own there; else `validation_fraction` and `test_fraction` of the
 * training text, at its end, in this order. */
struct corpus_split corpus_split(const struct corpus *corpus, double validation_fraction, double test_fraction);

/* How many characters the stretch has as text: of words with one space between two of a line. IO; CANCELLED as
 * corpus_create. */
enum status corpus_count_characters(const struct corpus *corpus, struct corpus_stretch stretch, uint64_t *ret_count,
                                    struct error *error) MUST_CHECK;

#endif

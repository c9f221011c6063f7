/* The inside of a corpus, for its files. */
#ifndef ENGINE_TRAIN_CORPUS_PRIVATE_H
#define ENGINE_TRAIN_CORPUS_PRIVATE_H

#include "engine/store/version_directory.h"
#include "engine/text/symbol_table.h"
#include "engine/train/corpus.h"
#include "engine/train/symbol_store.h"
#include "engine/train/text_files.h"
#include "engine/train/text_reader.h"

enum { BYTE_NUMBERS = 256 };

/* A file that was read. */
struct corpus_file {
    struct corpus_file_report report;
    struct file_stamp stamp;
    bool is_stamped;
};

/* A part and its text. */
struct corpus_section {
    struct text_files paths;
    size_t begin; /* its symbols */
    size_t count;
    bool has_text;
    char sha256[SHA256_TEXT_BYTES];
};

struct corpus {
    enum vocabulary_kind kind;
    struct corpus_section parts[CORPUS_PART_COUNT];
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

/* Reads all of the source into a corpus that has nothing but its kind and is_cancelled. INVALID, naming file and line;
 * TOO_LARGE, CANCELLED, NO_MEMORY and those of files. */
enum status corpus_read(struct corpus *corpus, const struct corpus_source *source, struct error *error) MUST_CHECK;

/* CANCELLED once the job was told to stop. */
enum status corpus_check_cancelled(const struct corpus *corpus, struct error *error) MUST_CHECK;

/* Says of which file an error is; returns `status`. */
enum status corpus_blame(enum status status, const char *name, struct error *error) MUST_CHECK;

#endif

/* The texts that a training's body names: its corpus, and those of validation and the test. Thread: the job's. */
#ifndef DAEMON_TRAIN_TEXTS_H
#define DAEMON_TRAIN_TEXTS_H

#include <jansson.h>

#include "engine/engine.h"

enum { TRAIN_TEXTS_NAMES_MAX = 100 }; /* of kept corpora or paths, in one text */

/* Owns the paths; the texts themselves are the body's. */
struct train_texts {
    struct corpus_text parts[CORPUS_PART_COUNT];
    char **paths[CORPUS_PART_COUNT];
    bool has_paths; /* files that others may change; else only kept corpora, which are replaced whole */
};

struct train_texts_folders {
    const char *corpora_path;  /* of kept corpora */
    const char *corpora_roots; /* a setting: where paths may lead */
};

/* Reads {"corpus":…,"validation":…,"test":…}, each {"name":"kept"}, {"text":"…"} or {"path":"/of/a/file"}; of names and
 * paths a list too. INVALID, code "invalid_corpus" or "corpus_path"; NOT_FOUND, code "corpus_not_found"; `param` is the
 * field. Release with train_texts_release. */
enum status train_texts_read(const json_t *body, const struct train_texts_folders *folders,
                             struct train_texts *ret_texts, struct error *error) MUST_CHECK;
/* Texts of zeroes are allowed. */
void train_texts_release(struct train_texts *texts);

#endif

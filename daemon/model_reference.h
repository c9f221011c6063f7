/* A model on the command line: MODELS/NAME[@VERSION]. Plain value. Thread: main. */
#ifndef DAEMON_MODEL_REFERENCE_H
#define DAEMON_MODEL_REFERENCE_H

#include "daemon/names.h"
#include "engine/engine.h"

enum { MODEL_REFERENCE_PATH_BYTES_MAX = 4096 };

struct model_reference {
    char directory[MODEL_REFERENCE_PATH_BYTES_MAX]; /* MODELS/NAME */
    char name[MODEL_NAME_BYTES_MAX];
    uint64_t version;             /* 0: the newest good one */
    enum rnn_precision precision; /* fp32 unless it is set after parsing */
};

/* Splits `text`. INVALID when NAME is no model name ([A-Za-z0-9][A-Za-z0-9._-]{0,63}) or VERSION no positive number. */
enum status model_reference_parse(const char *text, struct model_reference *ret_reference,
                                  struct error *error) MUST_CHECK;

/* Loads the version, or the newest one that is whole. NOT_FOUND when there is none; snapshot_load's errors of the
 * version that was named, or of the newest. */
enum status model_reference_load(const struct model_reference *reference, struct snapshot **ret_snapshot,
                                 struct error *error) MUST_CHECK;

/* The path of a version. */
void model_reference_version_path(const struct model_reference *reference, uint64_t version,
                                  char path[MODEL_REFERENCE_PATH_BYTES_MAX + 32]);

#endif

/* Importing in a process of its own: `lstmd import-reader`, which shuts itself in before it reads a byte of the source.
 * Thread: main of a command, or one of its own; waits for the process. */
#ifndef DAEMON_IMPORT_PROCESS_H
#define DAEMON_IMPORT_PROCESS_H

#include "daemon/options.h"
#include "engine/engine.h"

enum { IMPORT_SECONDS_MAX = 120, IMPORT_MEMORY_MIB = 192 };

struct import_request {
    const char *source;
    const char *vocabulary;                    /* NULL: what lies in or beside the source */
    const char *settings[IMPORT_SETTINGS_MAX]; /* "KEY=VALUE" */
    size_t setting_count;
    bool looks_only;
    int upload;                /* the open file that is the source, which is then only called `source`; 0: none */
    int cancel;                /* the process is ended when this descriptor can be read; 0: none */
    uint64_t unpack_bytes_max; /* of an archive; 0: SOURCE_UNPACK_MIB_MAX */
    uint64_t seconds_max;      /* 0: IMPORT_SECONDS_MAX */
};

/* The process's answer; `bytes` is what it wrote, to which `reply` points. Release with import_answer_release. */
struct import_answer {
    struct import_reply reply;
    void *bytes;
};

/* Runs the process to its end: the errors that it reports; UNPROCESSABLE, code "import_too_long" above `seconds_max`,
 * "import_died" where it was killed for what it asked of the kernel, or crashed; CANCELLED by `cancel`. */
enum status import_process_run(const struct import_request *request, struct import_answer *ret_answer,
                               struct error *error) MUST_CHECK;
void import_answer_release(struct import_answer *answer);

/* Makes the answer a model called `name` and saves it as the next version of the model directory `directory`, with
 * where it came from in the manifest; a version of lstmd's own is kept as it is. The answer keeps its facts; its
 * weights may go. Errors as model_create_imported and model_save, or model_write_imported. */
enum status import_save(const char *name, const char *directory, const struct import_request *request,
                        struct import_answer *answer, uint64_t *ret_version, struct error *error) MUST_CHECK;

/* Takes the first argument and the options "vocabulary" and "set" as a request, whose strings are borrowed. INVALID. */
enum status import_request_read(const struct options *options, struct import_request *ret_request,
                                struct error *error) MUST_CHECK;

/* Splits "KEY=VALUE" into `settings`; the text is changed and has to live on. INVALID. */
enum status import_split_setting(char *text, struct import_settings *settings, struct error *error) MUST_CHECK;

#endif

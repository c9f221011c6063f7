/* Importing in a process of its own: `lstmd import-reader`, which shuts itself in before it reads a byte of the source.
 * Thread: main of a command, or a run thread; waits for the process. */
#ifndef DAEMON_IMPORT_PROCESS_H
#define DAEMON_IMPORT_PROCESS_H

#include "daemon/options.h"
#include "engine/engine.h"

enum { IMPORT_CPU_SECONDS = 60, IMPORT_ELAPSED_SECONDS = 120, IMPORT_MEMORY_MIB = 192 };

struct import_request {
    const char *source;
    const char *vocabulary;                    /* NULL: what lies in or beside the source */
    const char *settings[IMPORT_SETTINGS_MAX]; /* "KEY=VALUE" */
    size_t setting_count;
    bool looks_only;
};

/* The process's answer; `bytes` is what it wrote, to which `reply` points. Release with import_answer_release. */
struct import_answer {
    struct import_reply reply;
    void *bytes;
};

/* Runs the process to its end: the errors that it reports, CANCELLED when it took more than IMPORT_ELAPSED_SECONDS, and
 * UNPROCESSABLE, code "import_died", where it was killed: for what it asked of the kernel, time or memory. */
enum status import_process_run(const struct import_request *request, struct import_answer *ret_answer,
                               struct error *error) MUST_CHECK;
void import_answer_release(struct import_answer *answer);

/* Takes the first argument and the options "vocabulary" and "set" as a request, whose strings are borrowed. INVALID. */
enum status import_request_read(const struct options *options, struct import_request *ret_request,
                                struct error *error) MUST_CHECK;

/* Splits "KEY=VALUE" into `settings`; the text is changed and has to live on. INVALID. */
enum status import_split_setting(char *text, struct import_settings *settings, struct error *error) MUST_CHECK;

#endif

/* Importing: a foreign source read and understood in one process, taken over by another. Thread: the one that imports.
 *
 * The reading process opens the source (foreign_source.h), gives up its rights, calls import_write and ends. What it
 * writes is checked by the other as bytes from a stranger:
 *
 * 1. 8 bytes "lstmdimp"
 * 2. 8 bytes each, little-endian: N and W
 * 3. N bytes of JSON, the reply, with spaces behind so that N is a multiple of 8:
 *    {"format","entry","understood":[{"what","value","why"}],"program":{…}}, when it was asked to look only also
 *    {"tensors":[{"name","dtype","shape"}],"vocabularies":[{"place","symbols"}]};
 *    {"error":{"status","code","message"}} where it failed
 * 4. W bytes of safetensors, the variables; none where it failed or only looked
 *
 * An archive or folder that holds a version of lstmd's own (version_directory.h) and comes without settings is handed
 * over as it is: instead of "program" the reply has "version":[{"name","bytes"}], and W are the files' bytes. */
#ifndef ENGINE_IMPORT_IMPORTER_H
#define ENGINE_IMPORT_IMPORTER_H

#include <jansson.h>

#include "engine/import/foreign_source.h"
#include "engine/import/understanding.h"

enum { IMPORT_REPLY_BYTES_MAX = 64 << 20 };

/* What was read back; `weights` points into the bytes that were parsed. Release with import_reply_release. */
struct import_reply {
    json_t *facts;
    void *weights; /* [weights_length], NULL without */
    size_t weights_length;
};

/* Where the bytes go: `write` takes all of them, or says false. */
struct import_sink {
    bool (*write)(void *context, const void *bytes, size_t length);
    void *context;
};

/* What reading needs of the process while it still may open files. */
void import_prepare(void);

/* Whether a file, of which perhaps only the beginning is there, is an archive or of a format that is read here. */
bool import_is_foreign(const struct source_file *file);

/* Bytes of the source's files, or that they may unpack to: what the process that reads it needs memory for. */
uint64_t import_bytes_max(const struct foreign_source *source);

/* Reads the source and understands it. Writes the reply, its failure included; only what it cannot write is an error
 * (IO, NO_MEMORY). `looks_only`: the tensors are listed, and what cannot be understood is no failure but stands as
 * "problem" in the reply. */
enum status import_write(struct foreign_source *source, struct import_settings *settings, bool looks_only,
                         const struct import_sink *sink, struct error *error) MUST_CHECK;

/* Writes a failure from before reading. */
enum status import_write_failure(const struct error *failure, const struct import_sink *sink) MUST_CHECK;

/* Takes such bytes apart: CORRUPT for what is none. The failure that they tell of becomes this call's. */
enum status import_reply_parse(const void *bytes, size_t length, struct import_reply *ret_reply,
                               struct error *error) MUST_CHECK;

/* How many bytes the whole is, once the first IMPORT_HEAD_BYTES are there; CORRUPT, TOO_LARGE. */
enum { IMPORT_HEAD_BYTES = 24 };
enum status import_reply_length(const void *head, size_t *ret_length, struct error *error) MUST_CHECK;

/* Frees the facts; a zeroed one is allowed. */
void import_reply_release(struct import_reply *reply);

#endif

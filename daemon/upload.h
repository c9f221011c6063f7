/* A model or archive that a request sends: kept part by part in an unnamed file of the models directory, written by run
 * threads, with its checksum. Thread: loop. */
#ifndef DAEMON_UPLOAD_H
#define DAEMON_UPLOAD_H

#include "daemon/server.h"

struct upload;

/* Whether a body that begins so is no JSON but something to import: by its Content-Type (may be NULL) or its bytes. */
bool upload_is_meant(const char *content_type, const char *bytes, size_t length);

/* An empty one, in a place among the imports, which it gives back when it is released. LIMIT, code "imports_busy". */
enum status upload_create(struct server *server, struct upload **ret_upload, struct error *error) MUST_CHECK;

/* Writes `bytes` from mem_allocate, which are taken over, on failure too, behind what it has; one write at a time.
 * `done` is called once with the failure or NULL, unless the upload is released before. LIMIT, code "queue_full". */
enum status upload_write(struct upload *upload, char *bytes, size_t length,
                         void (*done)(void *context, const struct error *error), void *context,
                         struct error *error) MUST_CHECK;

/* When all is written, which may not be nothing: the file, which stays the upload's, and the SHA-256 of its bytes. */
int upload_file(const struct upload *upload);
void upload_sum(struct upload *upload, char sha256[SHA256_TEXT_BYTES]);

/* Removes the file, after a write that still runs. NULL is allowed. */
void upload_release(struct upload *upload);

#endif

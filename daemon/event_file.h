/* Files that TensorBoard opens: records (TFRecord's framing: length and content, each under a masked CRC-32C) of Event
 * messages, written by hand, as they need four of protobuf's field types. Thread: any, one at a time.
 * Sources: TensorFlow's core/lib/io/record_writer.cc, core/util/event.proto (SessionLog),
 * core/framework/summary.proto and tensor.proto; RFC 3720, appendix B.4 for the checksum. */
#ifndef DAEMON_EVENT_FILE_H
#define DAEMON_EVENT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct event_file;

struct event_scalar {
    const char *tag;
    double value; /* NaN: left out */
};

/* Makes DIRECTORY/events.out.tfevents.<seconds>.<host>.<process>, with its first record; directories that are missing
 * are made. IO names the path. Owned. */
enum status event_file_create(const char *directory, struct event_file **ret_file, struct error *error) MUST_CHECK;
void event_file_destroy(struct event_file *file);

/* Adds a record, which is in the file on return. IO names the path; LIMIT for a text above 16 MiB; NO_MEMORY. */
enum status event_file_add_scalars(struct event_file *file, uint64_t step, const struct event_scalar *scalars,
                                   size_t count, struct error *error) MUST_CHECK;
enum status event_file_add_text(struct event_file *file, uint64_t step, const char *tag, const char *text,
                                struct error *error) MUST_CHECK;

/* Adds TensorFlow's SessionLog START at `step`, the first that comes next: TensorBoard forgets what the files of this
 * directory say of that step and later ones. IO names the path; NO_MEMORY. */
enum status event_file_add_start(struct event_file *file, uint64_t step, struct error *error) MUST_CHECK;

/* CRC-32C (Castagnoli). */
uint32_t event_file_crc32c(const void *bytes, size_t length);

#endif

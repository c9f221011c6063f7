/* Files of `name = value` lines, perhaps in [sections] (libinih; # and ; begin comments). Thread: as the caller's; owns
 * nothing. */
#ifndef DAEMON_INI_FILE_H
#define DAEMON_INI_FILE_H

#include "engine/base/status.h"

/* Takes one line; `section` is "" before the first. What it returns but OK ends the reading. */
typedef enum status ini_file_line(void *context, const char *section, const char *name, const char *text,
                                  struct error *error);

/* Reads a file line by line; `what` is what people call it ("configuration"). INVALID begins with file and line: what
 * `take` refuses, a line that is none, one of more than 198 bytes. Unreadable: NOT_FOUND or IO. */
enum status ini_file_read(const char *path, const char *what, ini_file_line *take, void *context,
                          struct error *error) MUST_CHECK;

#endif

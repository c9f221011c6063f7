/* The log: one line an event on standard error, "level event key=value … message", or with the journal's priority
 * prefix under systemd. Thread: any; a line is one write. Nobody waits for who reads it: lines that do not fit into a
 * full pipe are counted, and a later line says how many. No heap. */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include "engine/base/status.h"

/* In the order of the setting log_level's choices. */
enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_COUNT };

enum { LOG_LINE_BYTES_MAX = 2048 };

/* Once at start: under systemd's journal lines begin with "<priority>", else with the time (UTC). */
void log_start(void);
void log_set_level(enum log_level level);

/* Writes one line. `event` is a fixed word; `format` gives "key=value key=value" of names and numbers only; free text,
 * such as an error's message, goes into `message` (NULL: none), which is quoted, with control characters as spaces. */
void log_event(enum log_level level, const char *event, const char *message, const char *format, ...) PRINTF_LIKE(4, 5);

#endif

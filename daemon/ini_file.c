/* Reading `name = value` files: libinih pulls lines and calls back for each. Thread: as the caller's; owns nothing. */
#include "daemon/ini_file.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>

struct reading {
    ini_file_line *take;
    void *context;
    struct error *error;
    FILE *file;
    size_t line;
    bool has_failed;
};

static char *read_line(char *line, int bytes_max, void *context)
{
    struct reading *reading = context;
    if (reading->has_failed || fgets(line, bytes_max, reading->file) == NULL) {
        return NULL;
    }
    reading->line++;
    if (strchr(line, '\n') == NULL && !feof(reading->file)) {
        error_set(reading->error, STATUS_INVALID, "a line of more than %d bytes; lists may be given in several lines",
                  bytes_max - 2);
        reading->has_failed = true;
        return NULL;
    }
    return line;
}

static int on_line(void *context, const char *section, const char *name, const char *text)
{
    struct reading *reading = context;
    reading->has_failed =
        reading->has_failed || reading->take(reading->context, section, name, text, reading->error) != STATUS_OK;
    return !reading->has_failed;
}

enum status ini_file_read(const char *path, const char *what, ini_file_line *take, void *context, struct error *error)
{
    struct error local; /* callers may pass NULL, libinih's callbacks still need one */
    struct reading reading = {.take = take, .context = context, .error = &local, .file = fopen(path, "re")};
    if (reading.file == NULL) {
        return error_set_errno(error, errno, "open %s '%s'", what, path);
    }
    int line = ini_parse_stream(read_line, &reading, on_line, &reading);
    bool is_unreadable = ferror(reading.file) != 0;
    fclose(reading.file);
    if (is_unreadable) {
        return error_set(error, STATUS_IO, "read %s '%s': it cannot be read", what, path);
    }
    if (reading.has_failed) {
        return error_set(error, STATUS_INVALID, "%s:%zu: %s", path, reading.line, local.message);
    }
    if (line != 0) {
        return error_set(error, STATUS_INVALID, "%s:%d: expected `name = value`", path, line);
    }
    return STATUS_OK;
}

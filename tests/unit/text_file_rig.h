/* One small text file for the tests of what is read from a file. The test includes cmocka before it. */
#ifndef TESTS_UNIT_TEXT_FILE_RIG_H
#define TESTS_UNIT_TEXT_FILE_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/lstmd-test-XXXXXX";

/* Group setup: makes the file, empty; its path is then in `path`. */
static inline int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

/* Group teardown. */
static inline int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

/* Makes `text` all that the file holds. */
static inline void write_text(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

#endif

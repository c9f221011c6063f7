/* What the tests of training share: a temporary directory, and calls that succeed. */
#ifndef TESTS_UNIT_TRAINING_RIG_H
#define TESTS_UNIT_TRAINING_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/status.h"
#include "engine/store/version_directory.h"

#define assert_ok(call, error)                                                                                         \
    do {                                                                                                               \
        if ((call) != STATUS_OK) {                                                                                     \
            fail_msg("%s: %s", #call, (error).message);                                                                \
        }                                                                                                              \
    } while (0)

static char directory[64];

/* Makes `directory`, whose name begins with `name`; false when that fails. */
static inline bool make_temporary(const char *name)
{
    snprintf(directory, sizeof directory, "/tmp/%s-XXXXXX", name);
    return mkdtemp(directory) != NULL;
}

/* A group's end. */
static inline int remove_directory(void **state)
{
    (void)state;
    return directory_remove(directory, NULL) != STATUS_OK;
}

#endif

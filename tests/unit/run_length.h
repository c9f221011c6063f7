/* How much a test does where a sanitizer makes every step ten times as slow. Thread: any. */
#ifndef TESTS_UNIT_RUN_LENGTH_H
#define TESTS_UNIT_RUN_LENGTH_H

#include <stdbool.h>
#include <stdlib.h>

/* Whether to try every case: always without a sanitizer, and with one in `make test-all`, which sets SLOW. */
static inline bool run_is_whole(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return getenv("SLOW") != NULL;
#else
    return true;
#endif
}

#endif

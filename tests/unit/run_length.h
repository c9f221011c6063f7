/* How much a test does where a sanitizer makes every step ten times as slow. Thread: any. */
#ifndef TESTS_UNIT_RUN_LENGTH_H
#define TESTS_UNIT_RUN_LENGTH_H

#include <stdbool.h>
#include <stdlib.h>

#ifdef __has_feature /* as clang tells */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED true
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

/* Whether to try every case: always without a sanitizer, and with one in `make test-all`, which sets SLOW. */
static inline bool run_is_whole(void)
{
    return !IS_SANITIZED || getenv("SLOW") != NULL;
}

#endif

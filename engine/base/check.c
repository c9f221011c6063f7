/* The one place where the engine ends the process: a broken invariant. Thread: any. Owns nothing. */
#include "engine/base/check.h"

void check_failed(const char *file, int line, const char *function, const char *expression)
{
    fprintf(stderr, "lstmd: %s:%d: %s: CHECK(%s) failed\n", file, line, function, expression);
    abort();
}

/* Assertions for programmer errors. They stay on in every build: message, then abort, and the service manager restarts
 * us. Bytes from outside (files, sockets, configuration) are never checked here; they get a status (status.h). */
#ifndef ENGINE_BASE_CHECK_H
#define ENGINE_BASE_CHECK_H

#include <stdnoreturn.h>

/* Prints "file:line: function: CHECK(expression) failed" to standard error and aborts. Thread: any. */
noreturn void check_failed(const char *file, int line, const char *function, const char *expression);

#define CHECK(expression)                                                                                              \
    do {                                                                                                               \
        if (__builtin_expect(!(expression), 0)) {                                                                      \
            check_failed(__FILE__, __LINE__, __func__, #expression);                                                   \
        }                                                                                                              \
    } while (0)

#endif

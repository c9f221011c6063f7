/* Force-included by `make lint`: clang's analyzer looks into one file at a time, so it is told here that a call which
 * sets an error returns a failure. Without it every check of a status looks as if it could go the wrong way. */
#ifndef TESTS_LINT_H
#define TESTS_LINT_H

#include "engine/base/status.h"

#define error_set(error, status, ...) (error_set(error, status, __VA_ARGS__), (status))
#define error_set_errno(error, ...) (error_set_errno(error, __VA_ARGS__), STATUS_IO)

#endif

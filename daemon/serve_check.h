/* lstmd serve --check: every version of every model, loaded one after another. Thread: main. */
#ifndef DAEMON_SERVE_CHECK_H
#define DAEMON_SERVE_CHECK_H

#include "engine/base/status.h"

/* Prints a line for each version: good, or what is wrong with it. UNPROCESSABLE when any is bad, with their number. */
enum status serve_check(const char *models_path, struct error *error) MUST_CHECK;

#endif

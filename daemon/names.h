/* What models, labels and corpora may be called. Thread: any. */
#ifndef DAEMON_NAMES_H
#define DAEMON_NAMES_H

#include "engine/base/status.h"

enum { MODEL_NAME_BYTES_MAX = 65 }; /* with the NUL; labels and corpora the same */

/* Whether `name` is [A-Za-z0-9][A-Za-z0-9._-]{0,63}: safe as a file's name, never hidden, and free of what a reference
 * ("m@7", "m:label") and a path mean otherwise. */
bool name_is_valid(const char *name);

/* INVALID, with the code invalid_name, when it is not. */
enum status name_check(const char *name, struct error *error) MUST_CHECK;

#endif

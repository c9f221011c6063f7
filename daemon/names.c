/* Names of models, labels and corpora. Thread: any. Owns nothing. */
#include "daemon/names.h"

#define LETTERS_AND_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

bool name_is_valid(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < MODEL_NAME_BYTES_MAX && strchr(LETTERS_AND_DIGITS, name[0]) != NULL &&
           strspn(name, LETTERS_AND_DIGITS "._-") == length;
}

enum status name_check(const char *name, struct error *error)
{
    if (name_is_valid(name)) {
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "'%.64s' is no name: [A-Za-z0-9][A-Za-z0-9._-]{0,63}", name);
    return error_code(error, "invalid_name");
}

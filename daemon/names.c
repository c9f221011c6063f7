/* Names of models, labels and corpora. Thread: any. Owns nothing. */
#include "daemon/names.h"

#include <string.h>

#define LETTERS_AND_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

bool name_is_valid(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < MODEL_NAME_BYTES_MAX && strchr(LETTERS_AND_DIGITS, name[0]) != NULL &&
           strspn(name, LETTERS_AND_DIGITS "._-") == length;
}

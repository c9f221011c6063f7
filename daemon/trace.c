/* Reading `traceparent`. Thread: any; owns nothing. */
#include "daemon/trace.h"

#include <stddef.h>
#include <string.h>

enum { VERSION_DIGITS = 2, FLAGS_DIGITS = 2 };

/* Passes `count` digits, behind which a dash or the end must come. Returns what follows them, NULL when there are
 * fewer or more. */
static const char *read_digits(const char *text, size_t count)
{
    bool is_right = text != NULL && strspn(text, "0123456789abcdef") == count;
    return is_right && (text[count] == '-' || text[count] == '\0') ? text + count : NULL;
}

/* The same, with a dash behind the digits, which is passed. */
static const char *read_part(const char *text, size_t count)
{
    const char *end = read_digits(text, count);
    return end != NULL && *end == '-' ? end + 1 : NULL;
}

static bool is_zero(const char *digits, size_t count)
{
    return strspn(digits, "0") >= count;
}

bool trace_parse(const char *header, struct trace *ret_trace)
{
    const size_t id_digits = sizeof ret_trace->id - 1;
    const size_t parent_digits = sizeof ret_trace->parent - 1;
    const char *id = read_part(header, VERSION_DIGITS);
    const char *parent = read_part(id, id_digits);
    const char *flags = read_part(parent, parent_digits);
    const char *end = read_digits(flags, FLAGS_DIGITS);
    *ret_trace = (struct trace){.id = ""};
    if (end == NULL || strncmp(header, "ff", VERSION_DIGITS) == 0 || is_zero(id, id_digits) ||
        is_zero(parent, parent_digits)) {
        return false;
    }
    bool is_first_version = is_zero(header, VERSION_DIGITS);
    if ((is_first_version && *end != '\0') || strchr(end, ',') != NULL) { /* a comma: several headers, joined */
        return false;
    }
    memcpy(ret_trace->id, id, id_digits);
    memcpy(ret_trace->parent, parent, parent_digits);
    return true;
}

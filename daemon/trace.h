/* Where a request stands in its caller's trace: the header `traceparent` of W3C Trace Context. Thread: any. */
#ifndef DAEMON_TRACE_H
#define DAEMON_TRACE_H

#include <stdbool.h>

struct trace {
    char id[33];     /* 32 lower-case hexadecimal digits; "" where there is no trace */
    char parent[17]; /* 16, of the caller's span */
};

/* Takes a header's value apart: "00-" trace "-" parent "-" two digits of flags; versions above 00 may say more behind
 * another dash. False, with both texts empty, for all else: version ff, an id of zeroes, upper case, several values.
 * https://www.w3.org/TR/trace-context/#traceparent-header */
bool trace_parse(const char *header, struct trace *ret_trace);

#endif

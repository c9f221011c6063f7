/* Fuzz target: a traceparent header. What is taken stands in the header, between dashes, and is hexadecimal. */
#include <stdint.h>
#include <string.h>

#include "daemon/trace.h"
#include "engine/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { HEADER_BYTES_MAX = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    char header[HEADER_BYTES_MAX] = "";
    struct trace trace;
    if (length >= sizeof header) {
        return 0;
    }
    memcpy(header, bytes, length);
    bool is_good = trace_parse(header, &trace);
    CHECK(strspn(trace.id, "0123456789abcdef") == (is_good ? sizeof trace.id - 1 : 0));
    CHECK(strspn(trace.parent, "0123456789abcdef") == (is_good ? sizeof trace.parent - 1 : 0));
    if (is_good) {
        CHECK(header[2] == '-' && strncmp(header + 3, trace.id, strlen(trace.id)) == 0);
        CHECK(header[35] == '-' && strncmp(header + 36, trace.parent, strlen(trace.parent)) == 0);
    }
    return 0;
}

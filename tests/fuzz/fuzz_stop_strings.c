/* Fuzz target: lines of stop strings, an empty line, then text. Pushed whole or byte by byte, the same text must come
 * out and the same stop be seen. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/text/stop_strings.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { TEXT_BYTES_MAX = 16384 };

/* Pushes the text in pieces of `step` bytes; returns the length of what comes out. */
static size_t run(struct stop_strings *stop, const char *text, size_t length, size_t step, char *collected,
                  bool *ret_is_stopped)
{
    size_t used = 0;
    size_t written;
    bool is_stopped = false;
    for (size_t at = 0; at < length && !is_stopped; at += step) {
        size_t piece = step < length - at ? step : length - at;
        is_stopped = stop_strings_push(stop, text + at, piece, collected + used, &written);
        used += written;
    }
    stop_strings_flush(stop, collected + used, &written);
    *ret_is_stopped = is_stopped;
    return used + written;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static char outputs[2][TEXT_BYTES_MAX + STOP_STRINGS_OUTPUT_BYTES_MAX];
    const char *strings[STOP_STRINGS_MAX + 1];
    size_t lengths[STOP_STRINGS_MAX + 1];
    const char *at = (const char *)bytes;
    const char *end = at + length;
    size_t count = 0;
    while (count <= STOP_STRINGS_MAX && at < end && *at != '\n') {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        strings[count] = at;
        lengths[count++] = (size_t)((line_end == NULL ? end : line_end) - at);
        at = line_end == NULL ? end : line_end + 1;
    }
    size_t text_length = (size_t)(end - at);
    if (text_length > TEXT_BYTES_MAX) {
        return 0;
    }
    size_t used[2];
    bool is_stopped[2];
    for (size_t i = 0; i < 2; i++) {
        struct stop_strings *stop = NULL;
        struct error error;
        if (stop_strings_create(strings, lengths, count, &stop, &error) != STATUS_OK) {
            return 0;
        }
        used[i] = run(stop, at, text_length, i == 0 ? 1 : STOP_STRINGS_INPUT_BYTES_MAX, outputs[i], &is_stopped[i]);
        stop_strings_destroy(stop);
    }
    CHECK(used[0] == used[1] && is_stopped[0] == is_stopped[1]);
    CHECK(memcmp(outputs[0], outputs[1], used[0]) == 0 && (used[0] == 0 || memcmp(outputs[0], at, used[0]) == 0));
    CHECK(is_stopped[0] || used[0] == text_length);
    return 0;
}

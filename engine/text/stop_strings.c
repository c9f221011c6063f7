/* Stop strings by Knuth, Morris and Pratt, one automaton a string, so that a byte costs O(strings) however the text is
 * cut into pieces. Thread: the owner's. Owns copies of the strings and at most one string's length of text. */
#include "engine/text/stop_strings.h"

#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

struct stop_string {
    size_t length;
    size_t matched;                         /* the text ends with the first `matched` bytes; below length */
    uint16_t border[STOP_STRING_BYTES_MAX]; /* of the first i + 1 bytes, the longest proper prefix that is a suffix */
    char bytes[STOP_STRING_BYTES_MAX];
};

struct stop_strings {
    size_t count;
    size_t held_count;
    bool is_done;
    char held[STOP_STRING_BYTES_MAX];
    struct stop_string strings[];
};

static_assert(STOP_STRING_BYTES_MAX + STOP_STRINGS_INPUT_BYTES_MAX <= STOP_STRINGS_OUTPUT_BYTES_MAX, "output has room");

/* What remains matched of `string` when `byte` follows its first `matched` bytes. */
static size_t advance(const struct stop_string *string, size_t matched, char byte)
{
    while (matched > 0 && string->bytes[matched] != byte) {
        matched = string->border[matched - 1];
    }
    return string->bytes[matched] == byte ? matched + 1 : 0;
}

static void fill(struct stop_string *string, const char *bytes, size_t length)
{
    string->length = length;
    memcpy(string->bytes, bytes, length);
    for (size_t i = 1; i < length; i++) {
        string->border[i] = (uint16_t)advance(string, string->border[i - 1], bytes[i]);
    }
}

enum status stop_strings_create(const char *const *strings, const size_t *lengths, size_t count,
                                struct stop_strings **ret_stop, struct error *error)
{
    if (count > STOP_STRINGS_MAX) {
        return error_set(error, STATUS_LIMIT, "%zu stop strings, at most %d", count, STOP_STRINGS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        if (lengths[i] == 0) {
            return error_set(error, STATUS_INVALID, "stop string %zu is empty", i);
        }
        if (lengths[i] > STOP_STRING_BYTES_MAX) {
            return error_set(error, STATUS_LIMIT, "stop string %zu has %zu bytes, at most %d", i, lengths[i],
                             STOP_STRING_BYTES_MAX);
        }
    }
    struct stop_strings *stop = mem_allocate(1, sizeof *stop + count * sizeof *stop->strings);
    if (stop == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu stop strings", count);
    }
    stop->count = count;
    for (size_t i = 0; i < count; i++) {
        fill(&stop->strings[i], strings[i], lengths[i]);
    }
    *ret_stop = stop;
    return STATUS_OK;
}

void stop_strings_destroy(struct stop_strings *stop)
{
    mem_free(stop);
}

/* Feeds one byte to every automaton. Returns the length of the longest string that it completed, or 0; `ret_matched`
 * is the longest piece at the text's end that could still become one. */
static size_t feed(struct stop_strings *stop, char byte, size_t *ret_matched)
{
    size_t completed = 0;
    size_t matched = 0;
    for (size_t i = 0; i < stop->count; i++) {
        struct stop_string *string = &stop->strings[i];
        string->matched = advance(string, string->matched, byte);
        if (string->matched == string->length && string->length > completed) {
            completed = string->length;
        }
        if (string->matched > matched) {
            matched = string->matched;
        }
    }
    *ret_matched = matched;
    return completed;
}

bool stop_strings_push(struct stop_strings *stop, const char *bytes, size_t length,
                       char output[STOP_STRINGS_OUTPUT_BYTES_MAX], size_t *ret_length)
{
    CHECK(length <= STOP_STRINGS_INPUT_BYTES_MAX && !stop->is_done);
    size_t end = stop->held_count;
    size_t matched = stop->held_count;
    memcpy(output, stop->held, end);
    for (size_t i = 0; i < length; i++) {
        output[end++] = bytes[i];
        size_t completed = feed(stop, bytes[i], &matched);
        if (completed > 0) {
            stop->is_done = true;
            stop->held_count = 0;
            *ret_length = end - completed;
            return true;
        }
    }
    stop->held_count = matched;
    memcpy(stop->held, output + end - matched, matched);
    *ret_length = end - matched;
    return false;
}

void stop_strings_flush(struct stop_strings *stop, char output[STOP_STRINGS_OUTPUT_BYTES_MAX], size_t *ret_length)
{
    memcpy(output, stop->held, stop->held_count);
    *ret_length = stop->held_count;
    stop->held_count = 0;
    stop->is_done = true;
}

/* From symbols to bytes in a ring. Thread: a compute thread writes, the loop reads. Owns its stop strings. */
#include "engine/decode/text_stream.h"

#include "engine/base/check.h"

/* A space and a symbol, what was held back before them, and what may be held back after them. */
enum {
    TEXT_BYTES_MAX = TEXT_STREAM_SYMBOL_BYTES_MAX,
    ROOM_NEEDED_BYTES = TEXT_BYTES_MAX + 2 * (int)STOP_STRING_BYTES_MAX
};
static_assert((int)ROOM_NEEDED_BYTES <= (int)BYTE_RING_BYTES / 2, "an empty ring has room for more than one symbol");
static_assert((int)TEXT_BYTES_MAX <= (int)STOP_STRINGS_INPUT_BYTES_MAX, "a symbol is one push");
static_assert((int)TEXT_BYTES_MAX >= (int)UTF8_ASSEMBLER_OUTPUT_BYTES_MAX, "a byte's characters fit");

bool text_stream_is_end_of_line(const struct vocabulary *vocabulary, uint32_t symbol)
{
    size_t length;
    const char *text = vocabulary_symbol(vocabulary, symbol, &length);
    return (length == 1 && text[0] == '\n') || (length == 5 && memcmp(text, "<eos>", 5) == 0);
}

enum status text_stream_init(struct text_stream *stream, const struct vocabulary *vocabulary, uint32_t last,
                             const char *const *stop, const size_t *stop_lengths, size_t stop_count,
                             struct error *error)
{
    *stream = (struct text_stream){.vocabulary = vocabulary,
                                   .position.is_line_begun =
                                       last == TEXT_STREAM_START || text_stream_is_end_of_line(vocabulary, last)};
    for (size_t i = 0; i < stop_count; i++) {
        size_t malformed = utf8_find_malformed(stop[i], stop_lengths[i]);
        if (malformed < stop_lengths[i]) {
            return error_set(error, STATUS_INVALID, "stop string %zu is not UTF-8 at byte %zu", i, malformed);
        }
    }
    return stop_strings_create(stop, stop_lengths, stop_count, &stream->stop, error);
}

void text_stream_release(struct text_stream *stream)
{
    stop_strings_destroy(stream->stop);
    stream->stop = NULL;
}

bool text_stream_is_ready(const struct text_stream *stream)
{
    return byte_ring_room(&stream->ring) >= ROOM_NEEDED_BYTES;
}

size_t text_stream_spell(const struct vocabulary *vocabulary, uint32_t symbol, bool is_line_begun,
                         char text[TEXT_STREAM_SYMBOL_BYTES_MAX])
{
    size_t length;
    const char *characters = vocabulary_symbol(vocabulary, symbol, &length);
    if (vocabulary_kind(vocabulary) != VOCABULARY_WORDS) {
        memcpy(text, characters, length);
        return length;
    }
    if (text_stream_is_end_of_line(vocabulary, symbol)) {
        text[0] = '\n';
        return 1;
    }
    size_t space = is_line_begun ? 0 : 1;
    text[0] = ' ';
    memcpy(text + space, characters, length);
    return space + length;
}

size_t text_stream_follow(const struct vocabulary *vocabulary, struct utf8_assembler *assembler,
                          struct text_position *position, uint32_t symbol, char text[TEXT_STREAM_SYMBOL_BYTES_MAX])
{
    size_t length = text_stream_spell(vocabulary, symbol, position->is_line_begun, text);
    if (vocabulary_kind(vocabulary) == VOCABULARY_BYTES) {
        length = utf8_assembler_push(assembler, (unsigned char)text[0], text);
    }
    position->is_line_begun = text_stream_is_end_of_line(vocabulary, symbol);
    position->bytes += length;
    position->characters += utf8_count(text, length);
    return length;
}

size_t text_stream_push(struct text_stream *stream, uint32_t symbol, char text[TEXT_STREAM_SYMBOL_BYTES_MAX])
{
    CHECK(text_stream_is_ready(stream));
    return text_stream_follow(stream->vocabulary, &stream->assembler, &stream->position, symbol, text);
}

bool text_stream_write(struct text_stream *stream, const char *text, size_t length, bool may_stop)
{
    if (length == 0) {
        return false;
    }
    if (!may_stop) {
        byte_ring_write(&stream->ring, text, length);
        return false;
    }
    char output[STOP_STRINGS_OUTPUT_BYTES_MAX];
    bool is_stopped = stop_strings_push(stream->stop, text, length, output, &length);
    byte_ring_write(&stream->ring, output, length);
    return is_stopped;
}

void text_stream_finish(struct text_stream *stream)
{
    char output[STOP_STRINGS_OUTPUT_BYTES_MAX];
    size_t length;
    stop_strings_flush(stream->stop, output, &length);
    byte_ring_write(&stream->ring, output, length);
}

size_t text_stream_read(struct text_stream *stream, char *bytes, size_t bytes_max)
{
    return byte_ring_read(&stream->ring, bytes, bytes_max);
}

size_t text_stream_readable(const struct text_stream *stream)
{
    return byte_ring_readable(&stream->ring);
}

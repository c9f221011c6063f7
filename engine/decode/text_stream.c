/* From symbols to bytes in a ring. Thread: a compute thread writes, the loop reads. Owns its stop strings. */
#include "engine/decode/text_stream.h"

#include "engine/base/check.h"

/* A piece, the text held back before it, and what may be held back at the end. */
enum { PIECE_BYTES_MAX = 512, ROOM_NEEDED_BYTES = PIECE_BYTES_MAX + 2 * (int)STOP_STRING_BYTES_MAX };
static_assert((int)ROOM_NEEDED_BYTES <= (int)BYTE_RING_BYTES / 2, "an empty ring has room for more than one piece");
static_assert((int)PIECE_BYTES_MAX <= (int)STOP_STRINGS_INPUT_BYTES_MAX, "a piece is one push");

static bool is_end_of_line(const struct vocabulary *vocabulary, uint32_t symbol)
{
    size_t length;
    const char *text = vocabulary_symbol(vocabulary, symbol, &length);
    return (length == 1 && text[0] == '\n') || (length == 5 && memcmp(text, "<eos>", 5) == 0);
}

enum status text_stream_init(struct text_stream *stream, const struct vocabulary *vocabulary, uint32_t last,
                             const char *const *stop, const size_t *stop_lengths, size_t stop_count,
                             struct error *error)
{
    *stream = (struct text_stream){.vocabulary = vocabulary, .is_line_begun = is_end_of_line(vocabulary, last)};
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

/* The next whole characters of a symbol's text, at most PIECE_BYTES_MAX bytes. */
static size_t cut_piece(const char *text, size_t length)
{
    if (length <= PIECE_BYTES_MAX) {
        return length;
    }
    size_t end = PIECE_BYTES_MAX;
    while (end > PIECE_BYTES_MAX - UTF8_BYTES_MAX && ((unsigned char)text[end] & 0xC0) == 0x80) {
        end--;
    }
    return end;
}

static bool write_text(struct text_stream *stream, const char *text, size_t length)
{
    char output[STOP_STRINGS_OUTPUT_BYTES_MAX];
    bool is_stopped = stop_strings_push(stream->stop, text, length, output, &length);
    byte_ring_write(&stream->ring, output, length);
    return is_stopped;
}

/* Writes the next piece of the symbol; returns whether that completed a stop string. */
static bool write_piece(struct text_stream *stream)
{
    size_t length;
    const char *text = vocabulary_symbol(stream->vocabulary, stream->symbol, &length);
    char piece[PIECE_BYTES_MAX + 1];
    switch (vocabulary_kind(stream->vocabulary)) {
    case VOCABULARY_BYTES:
        stream->is_writing = false;
        length = utf8_assembler_push(&stream->assembler, (unsigned char)text[0], piece);
        return length > 0 && write_text(stream, piece, length);
    case VOCABULARY_WORDS:
        if (stream->symbol_offset == 0) {
            bool was_line_begun = stream->is_line_begun;
            stream->is_line_begun = is_end_of_line(stream->vocabulary, stream->symbol);
            if (stream->is_line_begun) {
                stream->is_writing = false;
                return write_text(stream, "\n", 1);
            }
            if (!was_line_begun && write_text(stream, " ", 1)) {
                return true;
            }
        }
        break;
    case VOCABULARY_CHARACTERS:
    case VOCABULARY_KIND_COUNT: break;
    }
    size_t count = cut_piece(text + stream->symbol_offset, length - stream->symbol_offset);
    text += stream->symbol_offset;
    stream->symbol_offset += count;
    stream->is_writing = stream->symbol_offset < length;
    return write_text(stream, text, count);
}

enum text_stream_state text_stream_push(struct text_stream *stream, uint32_t symbol)
{
    CHECK(!stream->is_writing);
    stream->symbol = symbol;
    stream->symbol_offset = 0;
    stream->is_writing = true;
    return text_stream_resume(stream);
}

enum text_stream_state text_stream_resume(struct text_stream *stream)
{
    while (byte_ring_room(&stream->ring) >= ROOM_NEEDED_BYTES) {
        if (!stream->is_writing) {
            return TEXT_STREAM_READY;
        }
        if (write_piece(stream)) {
            stream->is_writing = false;
            return TEXT_STREAM_STOPPED;
        }
    }
    return TEXT_STREAM_STALLED;
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

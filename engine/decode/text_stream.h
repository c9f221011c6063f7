/* Turns symbols into text that is ready to be sent: words joined, bytes assembled into characters, stop strings held
 * back.
 *
 * Between words there is one space, also before the first (the prompt stands before it), but none beside an end of
 * line: a word "<eos>" or "\n", which becomes "\n". A byte model's unfinished character is held until it is finished
 * or malformed (U+FFFD), and dropped at the end. A symbol is written in pieces, each only when it and the end of the
 * text fit the ring: so a slow reader stalls the stream, and nothing is ever lost or waits for room at the end.
 * Threads: one writer, one reader (text_stream_read and text_stream_readable). */
#ifndef ENGINE_DECODE_TEXT_STREAM_H
#define ENGINE_DECODE_TEXT_STREAM_H

#include <stdint.h>

#include "engine/decode/byte_ring.h"
#include "engine/text/stop_strings.h"
#include "engine/text/utf8.h"
#include "engine/text/vocabulary.h"

struct text_stream {
    struct byte_ring ring;
    const struct vocabulary *vocabulary; /* borrowed */
    struct stop_strings *stop;           /* owned */
    struct utf8_assembler assembler;
    uint32_t symbol;      /* being written */
    size_t symbol_offset; /* bytes of it that are written */
    bool is_writing;      /* some of it is left */
    bool is_line_begun;   /* the last symbol was an end of line */
};

/* What became of a symbol. */
enum text_stream_state {
    TEXT_STREAM_READY,   /* written; the next one may come */
    TEXT_STREAM_STALLED, /* the ring is too full: call text_stream_resume after the reader read */
    TEXT_STREAM_STOPPED, /* a stop string was completed: nothing may follow */
};

/* Starts after the prompt symbol `last`. Owned: text_stream_release. Errors of stop_strings_create; INVALID for a stop
 * string that is not UTF-8. */
enum status text_stream_init(struct text_stream *stream, const struct vocabulary *vocabulary, uint32_t last,
                             const char *const *stop, const size_t *stop_lengths, size_t stop_count,
                             struct error *error) MUST_CHECK;
void text_stream_release(struct text_stream *stream);

/* Writes the next symbol. The stream must be ready. */
enum text_stream_state text_stream_push(struct text_stream *stream, uint32_t symbol);

/* Goes on where it stalled; also tells whether another symbol may come now. */
enum text_stream_state text_stream_resume(struct text_stream *stream);

/* At the end: writes what stop strings held back. Never stalls. */
void text_stream_finish(struct text_stream *stream);

/* As byte_ring_read and byte_ring_readable. Reading thread. */
size_t text_stream_read(struct text_stream *stream, char *bytes, size_t bytes_max);
size_t text_stream_readable(const struct text_stream *stream);

#endif

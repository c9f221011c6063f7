/* Turns symbols into text that is ready to be sent: words joined, bytes assembled into characters, stop strings held
 * back.
 *
 * Between words there is one space, also before the first (the prompt stands before it), but none beside an end of
 * line: a word "<eos>" or "\n", which becomes "\n". A byte model's unfinished character is held until it is finished
 * or malformed (U+FFFD), and dropped at the end. A symbol is written only while the ring has room for the longest one
 * and for what is held back: so a slow reader stalls the stream, and nothing is ever lost or waits for room at the
 * end. Threads: one writer, one reader (text_stream_read and text_stream_readable). */
#ifndef ENGINE_DECODE_TEXT_STREAM_H
#define ENGINE_DECODE_TEXT_STREAM_H

#include <stdint.h>

#include "engine/decode/byte_ring.h"
#include "engine/decode/logprobs.h"
#include "engine/text/stop_strings.h"
#include "engine/text/utf8.h"
#include "engine/text/vocabulary.h"

enum { TEXT_STREAM_SYMBOL_BYTES_MAX = 1 + VOCABULARY_SYMBOL_BYTES_MAX };
#define TEXT_STREAM_START UINT32_MAX

struct text_stream {
    struct byte_ring ring;
    const struct vocabulary *vocabulary; /* borrowed */
    struct stop_strings *stop;           /* owned */
    struct utf8_assembler assembler;
    struct text_position position; /* behind all that was pushed, whatever stop strings hold back */
};

/* Starts after the prompt symbol `last`, or with TEXT_STREAM_START where nothing stands before. Owned:
 * text_stream_release. Errors of stop_strings_create; INVALID for a stop string that is not UTF-8. */
enum status text_stream_init(struct text_stream *stream, const struct vocabulary *vocabulary, uint32_t last,
                             const char *const *stop, const size_t *stop_lengths, size_t stop_count,
                             struct error *error) MUST_CHECK;
void text_stream_release(struct text_stream *stream);

/* Whether there is room for another symbol. Writing thread. */
bool text_stream_is_ready(const struct text_stream *stream);

/* Takes the next symbol; the stream must be ready. Moves `position` behind it, and returns the length of what it
 * writes, which nobody can read before text_stream_write. */
size_t text_stream_push(struct text_stream *stream, uint32_t symbol,
                        char text[TEXT_STREAM_SYMBOL_BYTES_MAX]) MUST_CHECK;

/* Writes what the symbol pushed last came to. True when that completed a stop string: nothing may follow. Stop strings
 * are looked for in what `may_stop` symbols write; once one may stop, so must those behind it. */
bool text_stream_write(struct text_stream *stream, const char *text, size_t length, bool may_stop) MUST_CHECK;

/* As text_stream_push without a stream: what the next symbol writes behind `position`, with what `assembler` holds of a
 * character; both move on. Any thread. */
size_t text_stream_follow(const struct vocabulary *vocabulary, struct utf8_assembler *assembler,
                          struct text_position *position, uint32_t symbol, char text[TEXT_STREAM_SYMBOL_BYTES_MAX]);

/* What a symbol would write there, alone; a byte of a byte vocabulary is that byte, not yet a character. Any thread. */
size_t text_stream_spell(const struct vocabulary *vocabulary, uint32_t symbol, bool is_line_begun,
                         char text[TEXT_STREAM_SYMBOL_BYTES_MAX]);

/* Whether a line ends with that symbol: a word behind it has no space before it. Any thread. */
bool text_stream_is_end_of_line(const struct vocabulary *vocabulary, uint32_t symbol);

/* At the end: writes what stop strings held back. Never stalls. */
void text_stream_finish(struct text_stream *stream);

/* As byte_ring_read and byte_ring_readable. Reading thread. */
size_t text_stream_read(struct text_stream *stream, char *bytes, size_t bytes_max);
size_t text_stream_readable(const struct text_stream *stream);

#endif

/* The wire format of protocol buffers, as far as TensorFlow's checkpoints need it: walking over the fields of one
 * message in memory. Thread: any. Owns nothing.
 *
 * A field is a varint (number << 3 | type) and its content: type 0 a varint, 1 eight bytes, 2 a length and so many
 * bytes, 5 four bytes. Source: protobuf.dev, "Encoding". */
#ifndef ENGINE_IMPORT_WIRE_H
#define ENGINE_IMPORT_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum wire_type { WIRE_VARINT = 0, WIRE_EIGHT_BYTES = 1, WIRE_BYTES = 2, WIRE_FOUR_BYTES = 5 };

/* A message, read from the front. */
struct wire {
    const unsigned char *bytes;
    size_t length;
};

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;    /* of a varint; of four and eight bytes their bits */
    struct wire bytes; /* of the others, and of packed numbers */
};

/* Reads a varint of at most 64 bits from the front; false when it is cut off or longer. */
bool wire_read_varint(struct wire *wire, uint64_t *ret_value) MUST_CHECK;

/* Reads the next field from the front. False at the end, with `*ret_is_corrupt` set when what is left is no field. */
bool wire_read_field(struct wire *wire, struct wire_field *ret_field, bool *ret_is_corrupt) MUST_CHECK;

#endif

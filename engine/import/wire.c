/* Walking over protocol buffers. Thread: any. */
#include "engine/import/wire.h"

bool wire_read_varint(struct wire *wire, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < wire->length && i < 10; i++) {
        uint64_t bits = wire->bytes[i] & 0x7F;
        if (i == 9 && bits > 1) {
            return false;
        }
        value |= bits << (7 * i);
        if (wire->bytes[i] < 0x80) {
            wire->bytes += i + 1;
            wire->length -= i + 1;
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool read_content(struct wire *wire, struct wire_field *field)
{
    uint64_t length = field->type == WIRE_EIGHT_BYTES ? 8 : 4;
    if (field->type == WIRE_VARINT) {
        return wire_read_varint(wire, &field->value);
    }
    if (field->type == WIRE_BYTES && !wire_read_varint(wire, &length)) {
        return false;
    }
    if (length > wire->length) {
        return false;
    }
    field->bytes = (struct wire){wire->bytes, (size_t)length};
    if (field->type != WIRE_BYTES) {
        memcpy(&field->value, wire->bytes, (size_t)length);
    }
    wire->bytes += length;
    wire->length -= (size_t)length;
    return true;
}

bool wire_read_field(struct wire *wire, struct wire_field *ret_field, bool *ret_is_corrupt)
{
    uint64_t tag;
    *ret_is_corrupt = false;
    if (wire->length == 0) {
        return false;
    }
    *ret_is_corrupt = true;
    if (!wire_read_varint(wire, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX) {
        return false;
    }
    unsigned type = tag & 7;
    *ret_field = (struct wire_field){.number = (uint32_t)(tag >> 3), .type = (enum wire_type)type};
    if (type != WIRE_VARINT && type != WIRE_EIGHT_BYTES && type != WIRE_BYTES && type != WIRE_FOUR_BYTES) {
        return false;
    }
    *ret_is_corrupt = !read_content(wire, ret_field);
    return !*ret_is_corrupt;
}

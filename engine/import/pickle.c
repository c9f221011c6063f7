/* The pickle machine: a stack, marks and a memo. Thread: any, one at a time. Owns these and a table of numbers while it
 * reads.
 *
 * An instruction is a row of the table below: its byte, how its argument is written, and what it does. */
#include "engine/import/pickle.h"

#include "engine/base/mem.h"
#include "engine/import/pickle_private.h"

enum { TABLE_ROWS = 256 };

/* How an instruction's argument is written. */
enum form {
    FORM_NONE,
    FORM_BYTE,
    FORM_TWO_BYTES,
    FORM_FOUR_BYTES,
    FORM_EIGHT_BYTES,
    FORM_REAL, /* big-endian */
    FORM_LINE,
    FORM_TWO_LINES,
    FORM_COUNTED_1, /* a length of 1, 4 or 8 bytes, then so many */
    FORM_COUNTED_4,
    FORM_COUNTED_8,
};

struct instruction {
    enum form form;
    enum status (*perform)(struct pickle_reader *reader, const struct pickle_argument *argument);
};

/* ---- containers ---- */

static enum status do_empty_list(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return pickle_push(reader, plain_create(reader->arena, PLAIN_LIST));
}

static enum status do_empty_set(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return pickle_push(reader, plain_create(reader->arena, PLAIN_SET));
}

static enum status do_empty_dict(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return pickle_push(reader, plain_create(reader->arena, PLAIN_DICT));
}

static enum status do_list(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return pickle_push_marked(reader, PLAIN_LIST);
}

static enum status do_frozen_set(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return pickle_push_marked(reader, PLAIN_SET);
}

static enum status do_dict(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return pickle_push_marked(reader, PLAIN_DICT);
}

static enum status push_tuple(struct pickle_reader *reader, size_t count)
{
    if (reader->depth - pickle_floor(reader) < count) {
        return pickle_corrupt(reader, "fewer values than the tuple takes are on the stack");
    }
    return pickle_push_gathered(reader, reader->depth - count, PLAIN_LIST);
}

static enum status do_tuple1(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return push_tuple(reader, 1);
}

static enum status do_tuple2(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return push_tuple(reader, 2);
}

static enum status do_tuple3(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return push_tuple(reader, 3);
}

/* Moves the values from `begin` on to the container below them. */
static enum status add_items(struct pickle_reader *reader, size_t begin, bool are_pairs)
{
    if (begin <= pickle_floor(reader)) {
        return pickle_corrupt(reader, "nothing to add items to is on the stack");
    }
    struct plain *list = reader->stack[begin - 1];
    if (are_pairs && (list->kind == PLAIN_LIST || list->kind == PLAIN_SET || (reader->depth - begin) % 2 != 0)) {
        return pickle_corrupt(reader, "a key without its value, or for a list or set");
    }
    if (!are_pairs && list->kind == PLAIN_DICT) {
        return pickle_corrupt(reader, "items without keys for a dictionary");
    }
    return pickle_gather(reader, begin, list);
}

static enum status do_append(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return reader->depth < 2 ? pickle_corrupt(reader, "nothing is on the stack")
                             : add_items(reader, reader->depth - 1, false);
}

static enum status do_set_item(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return reader->depth < 3 ? pickle_corrupt(reader, "nothing is on the stack")
                             : add_items(reader, reader->depth - 2, true);
}

static enum status do_appends(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    size_t begin = 0;
    (void)argument;
    TRY(pickle_pop_mark(reader, &begin));
    return add_items(reader, begin, false);
}

static enum status do_set_items(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    size_t begin = 0;
    (void)argument;
    TRY(pickle_pop_mark(reader, &begin));
    return add_items(reader, begin, true);
}

/* ---- the stack and the memo ---- */

static enum status do_pop(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    struct plain *ignored = NULL;
    (void)argument;
    if (reader->mark_count > 0 && reader->depth == pickle_floor(reader)) {
        reader->mark_count--; /* as Python: it takes the mark then */
        return STATUS_OK;
    }
    return pickle_pop(reader, &ignored);
}

static enum status do_pop_mark(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return pickle_pop_mark(reader, &reader->depth);
}

static enum status do_duplicate(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    struct plain *value = NULL;
    (void)argument;
    TRY(pickle_top(reader, &value));
    return pickle_push(reader, value);
}

static enum status put(struct pickle_reader *reader, uint64_t index)
{
    struct plain *value = NULL;
    TRY(pickle_top(reader, &value));
    if (index >= PICKLE_MEMO_MAX) {
        return error_set(reader->error, STATUS_LIMIT, "the pickle's memo has an entry %llu, at most %d",
                         (unsigned long long)index, PICKLE_MEMO_MAX - 1);
    }
    if (index >= reader->memo_capacity) {
        size_t capacity = reader->memo_capacity == 0 ? 256 : reader->memo_capacity;
        while (capacity <= index) {
            capacity *= 2;
        }
        struct plain **memo = mem_reallocate(reader->memo, capacity, sizeof *memo);
        if (memo == NULL) {
            return pickle_no_memory(reader);
        }
        memset(memo + reader->memo_capacity, 0, (capacity - reader->memo_capacity) * sizeof *memo);
        reader->memo = memo;
        reader->memo_capacity = capacity;
    }
    reader->memo[index] = value;
    reader->memo_next++;
    return STATUS_OK;
}

static enum status get(struct pickle_reader *reader, uint64_t index)
{
    if (index >= reader->memo_capacity || reader->memo[index] == NULL) {
        return pickle_corrupt(reader, "the memo has no such entry");
    }
    return pickle_push(reader, reader->memo[index]);
}

/* The index that a line holds. */
static enum status read_index(struct pickle_reader *reader, const struct pickle_argument *argument, uint64_t *ret_index)
{
    uint64_t index = 0;
    for (size_t i = 0; i < argument->length; i++) {
        if (argument->text[i] < '0' || argument->text[i] > '9' || index > PICKLE_MEMO_MAX) {
            return pickle_corrupt(reader, "no index of the memo");
        }
        index = index * 10 + (uint64_t)(argument->text[i] - '0');
    }
    *ret_index = index;
    return STATUS_OK;
}

static enum status do_put(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    return put(reader, argument->number);
}

static enum status do_put_line(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    uint64_t index = 0;
    TRY(read_index(reader, argument, &index));
    return put(reader, index);
}

static enum status do_memoize(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return put(reader, reader->memo_next);
}

static enum status do_get(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    return get(reader, argument->number);
}

static enum status do_get_line(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    uint64_t index = 0;
    TRY(read_index(reader, argument, &index));
    return get(reader, index);
}

/* ---- the rest ---- */

static enum status do_protocol(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    enum { PROTOCOL_MAX = 5 };
    if (argument->number > PROTOCOL_MAX) {
        return error_set(reader->error, STATUS_UNSUPPORTED, "a pickle of protocol %d, at most %d",
                         (int)argument->number, PROTOCOL_MAX);
    }
    return STATUS_OK;
}

static enum status do_nothing(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)reader;
    (void)argument;
    return STATUS_OK;
}

static enum status do_unsupported(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return error_set(reader->error, STATUS_UNSUPPORTED,
                     "the pickle's instruction at byte %zu: it needs a registry or buffers that are not in the file",
                     reader->instruction);
}

static const struct instruction instructions[TABLE_ROWS] = {
    ['('] = {FORM_NONE, pickle_push_mark},
    ['0'] = {FORM_NONE, do_pop},
    ['1'] = {FORM_NONE, do_pop_mark},
    ['2'] = {FORM_NONE, do_duplicate},
    ['F'] = {FORM_LINE, pickle_do_decimal_real},
    ['G'] = {FORM_REAL, pickle_do_real},
    ['I'] = {FORM_LINE, pickle_do_decimal},
    ['L'] = {FORM_LINE, pickle_do_decimal},
    ['J'] = {FORM_FOUR_BYTES, pickle_do_signed},
    ['K'] = {FORM_BYTE, pickle_do_unsigned},
    ['M'] = {FORM_TWO_BYTES, pickle_do_unsigned},
    ['N'] = {FORM_NONE, pickle_do_none},
    [0x88] = {FORM_NONE, pickle_do_true},
    [0x89] = {FORM_NONE, pickle_do_false},
    [0x8a] = {FORM_COUNTED_1, pickle_do_long},
    [0x8b] = {FORM_COUNTED_4, pickle_do_long},
    ['S'] = {FORM_LINE, pickle_do_quoted},
    ['T'] = {FORM_COUNTED_4, pickle_do_bytes},
    ['U'] = {FORM_COUNTED_1, pickle_do_bytes},
    ['B'] = {FORM_COUNTED_4, pickle_do_bytes},
    ['C'] = {FORM_COUNTED_1, pickle_do_bytes},
    [0x8e] = {FORM_COUNTED_8, pickle_do_bytes},
    [0x96] = {FORM_COUNTED_8, pickle_do_bytes},
    ['V'] = {FORM_LINE, pickle_do_escaped_text},
    ['X'] = {FORM_COUNTED_4, pickle_do_text},
    [0x8c] = {FORM_COUNTED_1, pickle_do_text},
    [0x8d] = {FORM_COUNTED_8, pickle_do_text},
    [']'] = {FORM_NONE, do_empty_list},
    [')'] = {FORM_NONE, do_empty_list},
    [0x8f] = {FORM_NONE, do_empty_set},
    ['}'] = {FORM_NONE, do_empty_dict},
    ['l'] = {FORM_NONE, do_list},
    ['t'] = {FORM_NONE, do_list},
    [0x91] = {FORM_NONE, do_frozen_set},
    ['d'] = {FORM_NONE, do_dict},
    [0x85] = {FORM_NONE, do_tuple1},
    [0x86] = {FORM_NONE, do_tuple2},
    [0x87] = {FORM_NONE, do_tuple3},
    ['a'] = {FORM_NONE, do_append},
    ['e'] = {FORM_NONE, do_appends},
    [0x90] = {FORM_NONE, do_appends},
    ['s'] = {FORM_NONE, do_set_item},
    ['u'] = {FORM_NONE, do_set_items},
    ['p'] = {FORM_LINE, do_put_line},
    ['q'] = {FORM_BYTE, do_put},
    ['r'] = {FORM_FOUR_BYTES, do_put},
    [0x94] = {FORM_NONE, do_memoize},
    ['g'] = {FORM_LINE, do_get_line},
    ['h'] = {FORM_BYTE, do_get},
    ['j'] = {FORM_FOUR_BYTES, do_get},
    ['c'] = {FORM_TWO_LINES, pickle_do_global},
    [0x93] = {FORM_NONE, pickle_do_stack_global},
    ['R'] = {FORM_NONE, pickle_do_call},
    [0x81] = {FORM_NONE, pickle_do_call},
    [0x92] = {FORM_NONE, pickle_do_new_with_keywords},
    ['i'] = {FORM_TWO_LINES, pickle_do_instance},
    ['o'] = {FORM_NONE, pickle_do_object},
    ['b'] = {FORM_NONE, pickle_do_build},
    ['P'] = {FORM_LINE, pickle_do_persistent_line},
    ['Q'] = {FORM_NONE, pickle_do_persistent},
    [0x80] = {FORM_BYTE, do_protocol},
    [0x95] = {FORM_EIGHT_BYTES, do_nothing}, /* a frame's length */
    [0x82] = {FORM_NONE, do_unsupported},
    [0x83] = {FORM_NONE, do_unsupported},
    [0x84] = {FORM_NONE, do_unsupported},
    [0x97] = {FORM_NONE, do_unsupported},
    [0x98] = {FORM_NONE, do_unsupported},
};

/* ---- arguments ---- */

static enum status read_number(struct pickle_reader *reader, size_t bytes, uint64_t *ret_number)
{
    if (reader->length - reader->at < bytes) {
        return pickle_corrupt(reader, "it is cut off");
    }
    uint64_t number = 0;
    memcpy(&number, reader->bytes + reader->at, bytes);
    reader->at += bytes;
    *ret_number = number;
    return STATUS_OK;
}

static enum status read_counted(struct pickle_reader *reader, size_t length_bytes, struct pickle_argument *argument)
{
    uint64_t length = 0;
    TRY(read_number(reader, length_bytes, &length));
    if (length > reader->length - reader->at) {
        return pickle_corrupt(reader, "it is cut off");
    }
    argument->text = (const char *)reader->bytes + reader->at;
    argument->length = (size_t)length;
    reader->at += (size_t)length;
    return STATUS_OK;
}

static enum status read_line(struct pickle_reader *reader, const char **ret_text, size_t *ret_length)
{
    const char *text = (const char *)reader->bytes + reader->at;
    const char *end = memchr(text, '\n', reader->length - reader->at);
    if (end == NULL) {
        return pickle_corrupt(reader, "a line without its end");
    }
    size_t length = (size_t)(end - text);
    reader->at += length + 1;
    *ret_text = text;
    *ret_length = length - (length > 0 && text[length - 1] == '\r' ? 1 : 0);
    return STATUS_OK;
}

static enum status read_argument(struct pickle_reader *reader, enum form form, struct pickle_argument *argument)
{
    static const size_t widths[] = {
        [FORM_BYTE] = 1, [FORM_TWO_BYTES] = 2, [FORM_FOUR_BYTES] = 4, [FORM_EIGHT_BYTES] = 8,
        [FORM_REAL] = 8, [FORM_COUNTED_1] = 1, [FORM_COUNTED_4] = 4,  [FORM_COUNTED_8] = 8,
    };
    if (form == FORM_NONE) {
        return STATUS_OK;
    }
    if (form == FORM_LINE || form == FORM_TWO_LINES) {
        TRY(read_line(reader, &argument->text, &argument->length));
        return form == FORM_LINE ? STATUS_OK : read_line(reader, &argument->second, &argument->second_length);
    }
    if (form >= FORM_COUNTED_1) {
        return read_counted(reader, widths[form], argument);
    }
    TRY(read_number(reader, widths[form], &argument->number));
    if (form == FORM_REAL) {
        uint64_t bits = __builtin_bswap64(argument->number);
        memcpy(&argument->real, &bits, sizeof bits);
    }
    return STATUS_OK;
}

/* ---- running ---- */

static enum status run(struct pickle_reader *reader, struct plain **ret_value)
{
    for (;;) {
        struct pickle_argument argument = {.number = 0};
        reader->instruction = reader->at;
        if (reader->at >= reader->length) {
            return pickle_corrupt(reader, "the pickle ends without its STOP");
        }
        unsigned char code = reader->bytes[reader->at++];
        if (code == '.') {
            return pickle_pop(reader, ret_value);
        }
        const struct instruction *instruction = &instructions[code];
        if (instruction->perform == NULL) {
            char what[32];
            snprintf(what, sizeof what, "0x%02x is none", code);
            return pickle_corrupt(reader, what);
        }
        TRY(read_argument(reader, instruction->form, &argument));
        TRY(instruction->perform(reader, &argument));
    }
}

enum status pickle_read(const unsigned char *bytes, size_t length, struct arena *arena, struct plain **ret_value,
                        size_t *ret_length, struct error *error)
{
    struct pickle_reader reader = {.bytes = bytes, .length = length, .arena = arena, .error = error};
    struct plain *value = NULL;
    enum status status = run(&reader, &value);
    mem_free(reader.stack);
    mem_free(reader.marks);
    mem_free(reader.memo);
    mem_free(reader.integers);
    if (status == STATUS_OK) {
        *ret_value = value;
        *ret_length = reader.at;
    }
    return status;
}

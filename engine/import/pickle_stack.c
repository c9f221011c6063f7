/* The stack and the marks of the pickle machine. Thread: any, one at a time. */
#include "engine/base/mem.h"
#include "engine/import/pickle_private.h"

enum { MARKS_MAX = 1 << 16 };

enum status pickle_corrupt(const struct pickle_reader *reader, const char *what)
{
    return error_set(reader->error, STATUS_CORRUPT, "the pickle's instruction at byte %zu: %s", reader->instruction,
                     what);
}

enum status pickle_no_memory(const struct pickle_reader *reader)
{
    if (reader->arena->is_full) {
        return error_set(reader->error, STATUS_LIMIT, "the pickle at byte %zu: its values take more than %zu bytes",
                         reader->instruction, reader->arena->bytes_max);
    }
    return error_set(reader->error, STATUS_NO_MEMORY, "no memory for a pickle");
}

/* ---- the stack ---- */

enum status pickle_push(struct pickle_reader *reader, struct plain *value)
{
    if (value == NULL) {
        return pickle_no_memory(reader);
    }
    if (reader->depth == reader->stack_capacity) {
        if (reader->depth >= PICKLE_STACK_MAX) {
            return error_set(reader->error, STATUS_LIMIT, "the pickle's stack is more than %d deep", PICKLE_STACK_MAX);
        }
        size_t capacity = reader->stack_capacity == 0 ? 256 : reader->stack_capacity * 2;
        struct plain **stack = mem_reallocate(reader->stack, capacity, sizeof *stack);
        if (stack == NULL) {
            return pickle_no_memory(reader);
        }
        reader->stack = stack;
        reader->stack_capacity = capacity;
    }
    reader->stack[reader->depth++] = value;
    return STATUS_OK;
}

/* The stack's lowest value that may be taken: what a mark protects stays. */
size_t pickle_floor(const struct pickle_reader *reader)
{
    return reader->mark_count == 0 ? 0 : reader->marks[reader->mark_count - 1];
}

enum status pickle_pop(struct pickle_reader *reader, struct plain **ret_value)
{
    if (reader->depth <= pickle_floor(reader)) {
        return pickle_corrupt(reader, "nothing is on the stack");
    }
    *ret_value = reader->stack[--reader->depth];
    return STATUS_OK;
}

enum status pickle_top(struct pickle_reader *reader, struct plain **ret_value)
{
    TRY(pickle_pop(reader, ret_value));
    reader->depth++;
    return STATUS_OK;
}

enum status pickle_push_mark(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    if (reader->mark_count == reader->mark_capacity) {
        if (reader->mark_count >= MARKS_MAX) {
            return error_set(reader->error, STATUS_LIMIT, "the pickle has more than %d open marks", MARKS_MAX);
        }
        size_t capacity = reader->mark_capacity == 0 ? 64 : reader->mark_capacity * 2;
        size_t *marks = mem_reallocate(reader->marks, capacity, sizeof *marks);
        if (marks == NULL) {
            return pickle_no_memory(reader);
        }
        reader->marks = marks;
        reader->mark_capacity = capacity;
    }
    reader->marks[reader->mark_count++] = reader->depth;
    return STATUS_OK;
}

/* Takes the mark off: `ret_begin` is the first value above it. */
enum status pickle_pop_mark(struct pickle_reader *reader, size_t *ret_begin)
{
    if (reader->mark_count == 0) {
        return pickle_corrupt(reader, "there is no mark");
    }
    *ret_begin = reader->marks[--reader->mark_count];
    return STATUS_OK;
}

/* Appends the values from `begin` on and takes them off the stack. */
enum status pickle_gather(struct pickle_reader *reader, size_t begin, struct plain *list)
{
    bool takes_items = list != NULL && (list->kind == PLAIN_LIST || list->kind == PLAIN_SET ||
                                        list->kind == PLAIN_DICT || list->kind == PLAIN_CALL);
    if (list != NULL && !takes_items) {
        return pickle_corrupt(reader, "items for what is no list, dictionary or object");
    }
    for (size_t i = begin; i < reader->depth; i++) {
        if (list == NULL || !plain_append(reader->arena, list, reader->stack[i])) {
            return pickle_no_memory(reader);
        }
    }
    reader->depth = begin;
    return STATUS_OK;
}

enum status pickle_push_gathered(struct pickle_reader *reader, size_t begin, enum plain_kind kind)
{
    struct plain *list = plain_create(reader->arena, kind);
    if (kind == PLAIN_DICT && (reader->depth - begin) % 2 != 0) {
        return pickle_corrupt(reader, "a key without its value");
    }
    if (list == NULL) {
        return pickle_no_memory(reader);
    }
    TRY(pickle_gather(reader, begin, list));
    return pickle_push(reader, list);
}

enum status pickle_push_marked(struct pickle_reader *reader, enum plain_kind kind)
{
    size_t begin = 0;
    TRY(pickle_pop_mark(reader, &begin));
    return pickle_push_gathered(reader, begin, kind);
}

/* The pickle machine's objects: globals and calls are noted, never looked up or made. Thread: any, one at a time. */
#include "engine/import/pickle_private.h"

static enum status push_global(struct pickle_reader *reader, const char *module, size_t module_length, const char *name,
                               size_t name_length)
{
    char *text = arena_format(reader->arena, "%.*s %.*s", (int)module_length, module, (int)name_length, name);
    struct plain *value = plain_create(reader->arena, PLAIN_GLOBAL);
    if (text == NULL || value == NULL) {
        return pickle_no_memory(reader);
    }
    value->text = text;
    value->length = strlen(text);
    return pickle_push(reader, value);
}

enum { GLOBAL_NAME_BYTES_MAX = 4096 };

static enum status check_global(const struct pickle_reader *reader, size_t module_length, size_t name_length)
{
    return module_length > GLOBAL_NAME_BYTES_MAX || name_length > GLOBAL_NAME_BYTES_MAX
               ? pickle_corrupt(reader, "a global with a name of more than 4096 bytes")
               : STATUS_OK;
}

enum status pickle_do_global(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    TRY(check_global(reader, argument->length, argument->second_length));
    return push_global(reader, argument->text, argument->length, argument->second, argument->second_length);
}

enum status pickle_do_stack_global(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    struct plain *name = NULL;
    struct plain *module = NULL;
    (void)argument;
    TRY(pickle_pop(reader, &name));
    TRY(pickle_pop(reader, &module));
    if (!plain_is_string(name) || !plain_is_string(module)) {
        return pickle_corrupt(reader, "a global whose name is no string");
    }
    TRY(check_global(reader, module->length, name->length));
    return push_global(reader, module->text, module->length, name->text, name->length);
}

enum status pickle_do_call(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    struct plain *arguments = NULL;
    struct plain *global = NULL;
    struct plain *value = NULL;
    (void)argument;
    TRY(pickle_pop(reader, &arguments));
    TRY(pickle_pop(reader, &global));
    TRY(pickle_call(reader, global, arguments, &value));
    return pickle_push(reader, value);
}

enum status pickle_do_new_with_keywords(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    struct plain *keywords = NULL;
    TRY(pickle_pop(reader, &keywords));
    return pickle_do_call(reader, argument);
}

/* class and arguments between mark and top; of INST the class stands in the instruction. */
static enum status call_marked(struct pickle_reader *reader, size_t begin)
{
    if (reader->depth <= begin) {
        return pickle_corrupt(reader, "an object without its class");
    }
    TRY(pickle_push_gathered(reader, begin + 1, PLAIN_LIST));
    return pickle_do_call(reader, NULL);
}

enum status pickle_do_object(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    size_t begin = 0;
    (void)argument;
    TRY(pickle_pop_mark(reader, &begin));
    return call_marked(reader, begin);
}

enum status pickle_do_instance(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    TRY(pickle_push_marked(reader, PLAIN_LIST));
    struct plain *arguments = NULL;
    TRY(pickle_pop(reader, &arguments));
    TRY(pickle_do_global(reader, argument));
    TRY(pickle_push(reader, arguments));
    return pickle_do_call(reader, NULL);
}

enum status pickle_do_build(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    struct plain *state = NULL;
    struct plain *object = NULL;
    (void)argument;
    TRY(pickle_pop(reader, &state));
    TRY(pickle_top(reader, &object));
    if (object->kind == PLAIN_CALL) {
        object->state = state;
        return pickle_build_array(reader, object, state);
    }
    return STATUS_OK;
}

static enum status push_persistent(struct pickle_reader *reader, struct plain *id)
{
    struct plain *value = plain_create(reader->arena, PLAIN_PERSISTENT);
    if (value != NULL) {
        value->arguments = id;
    }
    return pickle_push(reader, value);
}

enum status pickle_do_persistent(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    struct plain *id = NULL;
    (void)argument;
    TRY(pickle_pop(reader, &id));
    return push_persistent(reader, id);
}

enum status pickle_do_persistent_line(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    struct plain *id = plain_create_text(reader->arena, PLAIN_TEXT, argument->text, argument->length);
    return id == NULL ? pickle_no_memory(reader) : push_persistent(reader, id);
}

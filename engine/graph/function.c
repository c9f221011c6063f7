/* Finding functions and reading their rows. Thread: any; constants only. */
#include "engine/graph/function.h"

#include "engine/base/check.h"
#include "engine/graph/function_private.h"

/* Whether `name` is one of the spellings in "subtract|sub". */
static bool is_spelled(const char *spellings, const char *name)
{
    size_t length = strlen(name);
    while (true) {
        size_t span = strcspn(spellings, "|");
        if (span == length && memcmp(spellings, name, length) == 0) {
            return true;
        }
        if (spellings[span] == '\0') {
            return false;
        }
        spellings += span + 1;
    }
}

static void copy_name(const char *from, size_t length, char name[FUNCTION_NAME_BYTES_MAX])
{
    CHECK(length > 0 && length < FUNCTION_NAME_BYTES_MAX);
    memcpy(name, from, length);
    name[length] = '\0';
}

/* Reads one word of a row's arguments: "axis=reduction_indices?". */
static void read_parameter(const char *word, size_t length, struct parameter *parameter)
{
    if (word[length - 1] == '?') {
        parameter->is_optional = true;
        length--;
    }
    if (word[length - 1] == '*') {
        parameter->is_list = true;
        length--;
    }
    const char *equals = memchr(word, '=', length);
    size_t called = equals == NULL ? length : (size_t)(equals - word);
    size_t skip = equals == NULL ? 0 : called + 1;
    copy_name(word, called, parameter->called);
    copy_name(word + skip, length - skip, parameter->name);
}

static void read_parameters(const char *arguments, const char *types, struct signature *signature)
{
    for (const char *at = arguments; at != NULL && *at != '\0';) {
        size_t length = strcspn(at, " ");
        CHECK(signature->parameter_count < FUNCTION_PARAMETERS_MAX);
        struct parameter *parameter = &signature->parameters[signature->parameter_count];
        *parameter = (struct parameter){.type = types == NULL ? 'T' : types[signature->parameter_count]};
        CHECK(strchr("TfibdnA", parameter->type) != NULL && parameter->type != '\0');
        read_parameter(at, length, parameter);
        signature->parameter_count++;
        at += length + strspn(at + length, " ");
    }
}

static bool find_exactly(const char *name, struct signature *signature)
{
    for (size_t i = 0; i < op_count(); i++) {
        const struct op *op = op_at(i);
        if (op->call != NULL && is_spelled(op->call, name)) {
            *signature = (struct signature){.name = name,
                                            .default_name = op->default_name == NULL ? op->name : op->default_name,
                                            .shown = op->name,
                                            .op = op,
                                            .attributes = op->attributes};
            read_parameters(op->arguments, op->argument_types, signature);
            return true;
        }
    }
    for (size_t i = 0; i < function_count(); i++) {
        const struct function *function = function_at(i);
        if (is_spelled(function->name, name)) {
            *signature = (struct signature){.name = name,
                                            .default_name = function->default_name,
                                            .shown = function->shown,
                                            .function = function,
                                            .attributes = function->attributes};
            read_parameters(function->arguments, function->argument_types, signature);
            return true;
        }
    }
    return false;
}

bool function_find(const char *name, struct signature *ret_signature)
{
    static const char *const modules[] = {"tf.", "nn.", "math.", "random."};
    if (find_exactly(name, ret_signature)) {
        return true;
    }
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        size_t length = strlen(modules[i]);
        if (strncmp(name, modules[i], length) == 0) {
            return function_find(name + length, ret_signature);
        }
    }
    return false;
}

bool function_exists(const char *name)
{
    struct signature signature;
    return function_find(name, &signature);
}

enum parameter_kind function_parameter(const char *function, const char *parameter, enum attribute_kind *ret_kind)
{
    struct signature signature;
    if (!function_find(function, &signature)) {
        return PARAMETER_NONE;
    }
    for (size_t i = 0; i < signature.parameter_count; i++) {
        const struct parameter *at = &signature.parameters[i];
        if (strcmp(at->called, parameter) == 0 || strcmp(at->name, parameter) == 0) {
            return at->is_list ? PARAMETER_TENSORS : PARAMETER_TENSOR;
        }
    }
    for (const struct attribute_rule *rule = signature.attributes; rule != NULL && rule->name != NULL; rule++) {
        if (strcmp(rule->name, parameter) == 0 || (rule->called != NULL && strcmp(rule->called, parameter) == 0)) {
            *ret_kind = rule->kind;
            return PARAMETER_ATTRIBUTE;
        }
    }
    return PARAMETER_NONE;
}

const char *function_parameter_at(const char *function, size_t position, char text[FUNCTION_NAME_BYTES_MAX])
{
    struct signature signature;
    if (!function_find(function, &signature)) {
        return NULL;
    }
    if (position < signature.parameter_count) {
        snprintf(text, FUNCTION_NAME_BYTES_MAX, "%s", signature.parameters[position].called);
        return text;
    }
    position -= signature.parameter_count;
    for (const struct attribute_rule *rule = signature.attributes; rule != NULL && rule->name != NULL; rule++) {
        if (position-- == 0) {
            return rule->called == NULL ? rule->name : rule->called;
        }
    }
    return NULL;
}

const struct attribute *function_attribute(const struct function_call *call, const char *name)
{
    for (size_t i = 0; i < call->attribute_count; i++) {
        if (strcmp(call->attributes[i].name, name) == 0) {
            return &call->attributes[i];
        }
    }
    return NULL;
}

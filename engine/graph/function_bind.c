/* Sorting a call's arguments the way Python does: by position, by name, with its TypeErrors. Thread: the building one.
 * Owns nothing: bindings borrow from the call. */
#include "engine/base/check.h"
#include "engine/graph/function_private.h"

bool function_is_given(const struct call_argument *argument)
{
    return argument->is_list || argument->output.node != NULL || argument->value.data != NULL;
}

/* ---- attributes ---- */

static const char *const kind_names[] = {
    [ATTRIBUTE_INTEGER] = "int",    [ATTRIBUTE_NUMBER] = "float",  [ATTRIBUTE_BOOLEAN] = "bool",
    [ATTRIBUTE_DTYPE] = "DataType", [ATTRIBUTE_SHAPE] = "shape",   [ATTRIBUTE_TENSOR] = "tensor",
    [ATTRIBUTE_TEXT] = "string",    [ATTRIBUTE_BODY] = "function",
};

/* A given attribute as Python's repr has it, for errors. */
static void show_attribute(const struct attribute *given, char *text, size_t bytes)
{
    char shape[SHAPE_TEXT_BYTES_MAX];
    switch (given->kind) {
    case ATTRIBUTE_INTEGER: snprintf(text, bytes, "%lld", (long long)given->integer); return;
    case ATTRIBUTE_NUMBER: snprintf(text, bytes, "%.12g", given->number); return;
    case ATTRIBUTE_BOOLEAN: snprintf(text, bytes, "%s", given->boolean ? "True" : "False"); return;
    case ATTRIBUTE_DTYPE: snprintf(text, bytes, "<dtype: '%s'>", dtype_name(given->dtype)); return;
    case ATTRIBUTE_SHAPE: snprintf(text, bytes, "%s", shape_cpp_text(&given->shape, shape)); return;
    case ATTRIBUTE_TEXT: snprintf(text, bytes, "'%.100s'", given->text); return;
    case ATTRIBUTE_TENSOR:
    case ATTRIBUTE_BODY: snprintf(text, bytes, "a %s", kind_names[given->kind]); return;
    }
}

static enum status refuse_attribute(const struct attribute_rule *rule, const struct attribute *given,
                                    struct error *error)
{
    char shown[SHAPE_TEXT_BYTES_MAX];
    show_attribute(given, shown, sizeof shown);
    return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE, "Expected %s for argument '%s' not %s.",
                       kind_names[rule->kind], rule->called == NULL ? rule->name : rule->called, shown);
}

/* A whole number or a tensor of them as the list a SHAPE attribute is ("axis": 1, [0, 2]). */
static bool read_shape(const struct attribute *given, struct shape *ret_shape)
{
    if (given->kind == ATTRIBUTE_INTEGER) {
        *ret_shape = shape_vector(given->integer);
        return true;
    }
    if (given->kind != ATTRIBUTE_TENSOR || given->tensor.shape.rank != 1) {
        return false;
    }
    size_t count = tensor_element_count(&given->tensor);
    if (count > SHAPE_RANK_MAX || (count > 0 && !dtype_is_integer(given->tensor.dtype))) {
        return false;
    }
    *ret_shape = (struct shape){.rank = (int)count};
    for (size_t i = 0; i < count; i++) {
        ret_shape->dimensions[i] = tensor_integer(&given->tensor, i);
    }
    return true;
}

enum status function_bind_attribute(const struct attribute_rule *rule, const struct attribute *given,
                                    struct attribute *ret_attribute, struct error *error)
{
    struct attribute attribute = *given;
    attribute.name = rule->name;
    attribute.kind = rule->kind;
    bool fits = given->kind == rule->kind;
    if (rule->kind == ATTRIBUTE_NUMBER && given->kind == ATTRIBUTE_INTEGER) {
        attribute.number = (double)given->integer;
        fits = true;
    } else if (rule->kind == ATTRIBUTE_DTYPE && given->kind == ATTRIBUTE_TEXT) {
        fits = dtype_from_name(given->text, &attribute.dtype);
    } else if (rule->kind == ATTRIBUTE_SHAPE && given->kind != ATTRIBUTE_SHAPE) {
        fits = read_shape(given, &attribute.shape);
    } else if (rule->kind == ATTRIBUTE_TENSOR && given->kind == ATTRIBUTE_INTEGER) {
        attribute.tensor = (struct tensor){DTYPE_INT64, shape_scalar(), (void *)(uintptr_t)&given->integer};
        fits = true;
    }
    if (!fits) {
        return refuse_attribute(rule, given, error);
    }
    *ret_attribute = attribute;
    return STATUS_OK;
}

/* A number among the arguments as the attribute it is meant for. */
static enum status attribute_of_argument(const struct attribute_rule *rule, const struct call_argument *argument,
                                         struct attribute *ret_attribute, struct error *error)
{
    if (argument->is_list || argument->output.node != NULL) {
        char name[OUTPUT_NAME_BYTES_MAX] = "a list of tensors";
        if (!argument->is_list) {
            output_name(argument->output, name);
        }
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE, "Expected %s for argument '%s' not %s.",
                           kind_names[rule->kind], rule->called == NULL ? rule->name : rule->called, name);
    }
    const struct tensor *value = &argument->value;
    struct attribute given = {.kind = ATTRIBUTE_TENSOR, .tensor = *value};
    if (rule->kind == ATTRIBUTE_TENSOR || value->shape.rank > 0) {
        return function_bind_attribute(rule, &given, ret_attribute, error);
    }
    if (value->dtype == DTYPE_BOOL) {
        given = (struct attribute){.kind = ATTRIBUTE_BOOLEAN, .boolean = *(const bool *)value->data};
    } else if (dtype_is_integer(value->dtype)) {
        given = (struct attribute){.kind = ATTRIBUTE_INTEGER, .integer = tensor_integer(value, 0)};
    } else {
        given = (struct attribute){.kind = ATTRIBUTE_NUMBER, .number = tensor_number(value, 0)};
    }
    return function_bind_attribute(rule, &given, ret_attribute, error);
}

/* ---- where an argument goes ---- */

static size_t find_parameter(const struct signature *signature, const char *name)
{
    for (size_t i = 0; i < signature->parameter_count; i++) {
        if (strcmp(signature->parameters[i].called, name) == 0 || strcmp(signature->parameters[i].name, name) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static const struct attribute_rule *find_rule(const struct signature *signature, const char *name)
{
    for (const struct attribute_rule *rule = signature->attributes; rule != NULL && rule->name != NULL; rule++) {
        if (strcmp(rule->name, name) == 0 || (rule->called != NULL && strcmp(rule->called, name) == 0)) {
            return rule;
        }
    }
    return NULL;
}

static const struct attribute *find_attribute(const struct binding *binding, const char *name)
{
    for (size_t i = 0; i < binding->attribute_count; i++) {
        if (strcmp(binding->attributes[i].name, name) == 0) {
            return &binding->attributes[i];
        }
    }
    return NULL;
}

static enum status refuse_doubled(const struct signature *signature, const char *name, struct error *error)
{
    return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE, "%s() got multiple values for argument '%s'",
                       signature->name, name);
}

static enum status refuse_unknown(const struct signature *signature, const char *name, struct error *error)
{
    return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE, "%s() got an unexpected keyword argument '%.100s'",
                       signature->name, name);
}

static enum status keep_attribute(const struct signature *signature, const struct attribute *attribute,
                                  struct binding *binding, struct error *error)
{
    if (find_attribute(binding, attribute->name) != NULL) {
        return refuse_doubled(signature, attribute->name, error);
    }
    CHECK(binding->attribute_count < FUNCTION_ATTRIBUTES_MAX);
    binding->attributes[binding->attribute_count++] = *attribute;
    return STATUS_OK;
}

static enum status keep_argument(const struct signature *signature, size_t at, const struct call_argument *argument,
                                 struct binding *binding, struct error *error)
{
    if (function_is_given(&binding->arguments[at])) {
        return refuse_doubled(signature, signature->parameters[at].called, error);
    }
    binding->arguments[at] = *argument;
    return STATUS_OK;
}

static enum status bind_argument(const struct signature *signature, size_t position,
                                 const struct call_argument *argument, struct binding *binding, struct error *error)
{
    size_t at = argument->name != NULL ? find_parameter(signature, argument->name) : position;
    if (at < signature->parameter_count) {
        return keep_argument(signature, at, argument, binding, error);
    }
    const struct attribute_rule *rule = NULL;
    if (argument->name != NULL) {
        rule = find_rule(signature, argument->name);
        if (rule == NULL) {
            return refuse_unknown(signature, argument->name, error);
        }
    } else {
        size_t skip = position - signature->parameter_count;
        for (rule = signature->attributes; rule != NULL && rule->name != NULL && skip > 0; rule++) {
            skip--;
        }
        if (rule == NULL || rule->name == NULL) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                               "%s() takes %zu positional arguments but %zu were given", signature->name, position,
                               position + 1);
        }
    }
    if (!function_is_given(argument)) {
        return STATUS_OK;
    }
    struct attribute attribute = {.name = rule->name};
    TRY(attribute_of_argument(rule, argument, &attribute, error));
    return keep_attribute(signature, &attribute, binding, error);
}

/* A number that came among the attributes but is meant for a tensor. */
static enum status argument_of_attribute(const struct signature *signature, size_t at, const struct attribute *given,
                                         struct binding *binding, struct error *error)
{
    struct call_argument argument = {.name = given->name};
    void *data = &binding->scalars[at];
    if (given->kind == ATTRIBUTE_INTEGER) {
        memcpy(data, &given->integer, sizeof given->integer);
        argument.value = (struct tensor){DTYPE_INT64, shape_scalar(), data};
    } else if (given->kind == ATTRIBUTE_NUMBER) {
        memcpy(data, &given->number, sizeof given->number);
        argument.value = (struct tensor){DTYPE_FLOAT64, shape_scalar(), data};
    } else if (given->kind == ATTRIBUTE_BOOLEAN) {
        memcpy(data, &given->boolean, sizeof given->boolean);
        argument.value = (struct tensor){DTYPE_BOOL, shape_scalar(), data};
    } else if (given->kind == ATTRIBUTE_TENSOR) {
        argument.value = given->tensor;
    } else if (given->kind == ATTRIBUTE_SHAPE && shape_is_fully_known(&given->shape)) {
        argument.value =
            (struct tensor){DTYPE_INT64, shape_vector(given->shape.rank), (void *)(uintptr_t)given->shape.dimensions};
    } else {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE, "%s() wants a tensor or numbers for '%s'",
                           signature->name, given->name);
    }
    return keep_argument(signature, at, &argument, binding, error);
}

/* Adds the defaults of attributes that were left out, and misses those that must be there. */
static enum status complete_attributes(const struct signature *signature, struct binding *binding, struct error *error)
{
    for (const struct attribute_rule *rule = signature->attributes; rule != NULL && rule->name != NULL; rule++) {
        const char *called = rule->called == NULL ? rule->name : rule->called;
        struct attribute attribute = {.name = rule->name, .kind = rule->kind};
        if (find_attribute(binding, rule->name) != NULL) {
            continue;
        }
        if (rule->is_required) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                               "%s() missing 1 required positional argument: '%s'", signature->name, called);
        }
        if (rule->kind == ATTRIBUTE_INTEGER) {
            attribute.integer = (int64_t)rule->otherwise;
        } else if (rule->kind == ATTRIBUTE_NUMBER) {
            attribute.number = rule->otherwise;
        } else if (rule->kind == ATTRIBUTE_BOOLEAN) {
            attribute.boolean = rule->otherwise != 0;
        } else if (rule->kind == ATTRIBUTE_DTYPE) {
            attribute.dtype = (enum dtype)rule->otherwise;
        } else {
            continue;
        }
        TRY(keep_attribute(signature, &attribute, binding, error));
    }
    return STATUS_OK;
}

/* How many inputs the arguments are when lists are laid out; misses those that must be there. */
static enum status count_inputs(const struct signature *signature, struct binding *binding, struct error *error)
{
    for (size_t i = 0; i < signature->parameter_count; i++) {
        const struct call_argument *argument = &binding->arguments[i];
        const struct parameter *parameter = &signature->parameters[i];
        if (!function_is_given(argument) && !parameter->is_optional) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                               "%s() missing 1 required positional argument: '%s'", signature->name, parameter->called);
        }
        if (!parameter->is_list || argument->output.node != NULL) {
            binding->input_count++;
        } else if (argument->is_list) {
            binding->input_count += argument->item_count;
        } else if (argument->value.data != NULL) {
            binding->input_count += argument->value.shape.rank == 0 ? 1 : (size_t)argument->value.shape.dimensions[0];
        }
    }
    if (binding->input_count > NODE_INPUTS_MAX) {
        return error_set(error, STATUS_LIMIT, "%s() of %zu tensors, at most %d", signature->name, binding->input_count,
                         NODE_INPUTS_MAX);
    }
    return STATUS_OK;
}

enum status function_bind(const struct signature *signature, const struct call *call, struct binding *ret_binding,
                          struct error *error)
{
    *ret_binding = (struct binding){.attribute_count = 0};
    size_t position = 0;
    for (size_t i = 0; i < call->argument_count; i++) {
        const struct call_argument *argument = &call->arguments[i];
        TRY(bind_argument(signature, position, argument, ret_binding, error));
        position += argument->name == NULL;
    }
    for (size_t i = 0; i < call->attribute_count; i++) {
        const struct attribute *given = &call->attributes[i];
        const struct attribute_rule *rule = find_rule(signature, given->name);
        size_t at = find_parameter(signature, given->name);
        if (rule == NULL && at == SIZE_MAX) {
            return refuse_unknown(signature, given->name, error);
        }
        if (rule == NULL) {
            TRY(argument_of_attribute(signature, at, given, ret_binding, error));
            continue;
        }
        struct attribute attribute = {.name = rule->name};
        TRY(function_bind_attribute(rule, given, &attribute, error));
        TRY(keep_attribute(signature, &attribute, ret_binding, error));
    }
    TRY(complete_attributes(signature, ret_binding, error));
    return count_inputs(signature, ret_binding, error);
}

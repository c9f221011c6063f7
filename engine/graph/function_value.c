/* What dtype a number becomes among a call's tensors, and making constants of numbers: TensorFlow's convert_to_tensor
 * and the dtype checks of its op_def_library. Thread: the building one. Temporary tensors are freed here. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/function_private.h"

enum dtype function_natural_dtype(const struct tensor *value)
{
    if (value->dtype == DTYPE_BOOL) {
        return DTYPE_BOOL;
    }
    if (!dtype_is_integer(value->dtype)) {
        return DTYPE_FLOAT32;
    }
    size_t count = tensor_element_count(value);
    for (size_t i = 0; i < count; i++) {
        int64_t number = tensor_integer(value, i);
        if (number < INT32_MIN || number > INT32_MAX) {
            return DTYPE_INT64;
        }
    }
    return DTYPE_INT32;
}

/* ---- dtypes that must agree ---- */

/* The decided dtype of one letter, and who decided. */
struct agreement {
    enum dtype dtype;
    const struct parameter *by; /* NULL: undecided */
    bool is_by_tensor;
};

static enum status refuse_mismatch(const struct signature *signature, const struct parameter *parameter,
                                   struct output output, const struct agreement *agreement, struct error *error)
{
    enum dtype dtype = output_type(output)->dtype;
    if (signature->shown != NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "Input '%s' of '%s' Op has type %s that does not match type %s of argument '%s'.",
                           parameter->name, signature->shown, dtype_name(dtype), dtype_name(agreement->dtype),
                           agreement->by->name);
    }
    char text[OUTPUT_TEXT_BYTES_MAX];
    return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                       "Tensor conversion requested dtype %s for Tensor with dtype %s: '%s'",
                       dtype_name(agreement->dtype), dtype_name(dtype), output_text(output, text));
}

/* Refuses a tensor whose dtype its letter does not allow at all. */
static enum status check_letter(const struct signature *signature, const struct parameter *parameter,
                                struct output output, struct error *error)
{
    enum dtype dtype = output_type(output)->dtype;
    const char *shown = signature->shown == NULL ? signature->name : signature->shown;
    if (parameter->type == 'b' && dtype != DTYPE_BOOL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "Input '%s' of '%s' Op has type %s that does not match expected type of bool.",
                           parameter->name, shown, dtype_name(dtype));
    }
    if (parameter->type == 'i' && dtype != DTYPE_INT32 && dtype != DTYPE_INT64) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "Value passed to parameter '%s' has DataType %s not in list of allowed values: "
                           "int32, int64",
                           parameter->name, dtype_name(dtype));
    }
    if (parameter->type == 'f' && dtype != DTYPE_FLOAT32 && dtype != DTYPE_FLOAT64) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "Value passed to parameter '%s' has DataType %s not in list of allowed values: "
                           "float32, float64",
                           parameter->name, dtype_name(dtype));
    }
    return STATUS_OK;
}

static enum status refuse_list(const struct signature *signature, const struct parameter *parameter,
                               const struct call_argument *argument, struct error *error)
{
    char types[256] = "";
    size_t length = 0;
    for (size_t i = 0; i < argument->item_count && length + 16 < sizeof types; i++) {
        length += (size_t)snprintf(types + length, sizeof types - length, "%s%s", i == 0 ? "" : ", ",
                                   dtype_name(output_type(argument->items[i])->dtype));
    }
    return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                       "Tensors in list passed to '%s' of '%s' Op have types [%s] that don't all match.",
                       parameter->name, signature->shown == NULL ? signature->name : signature->shown, types);
}

static enum status agree(const struct signature *signature, const struct parameter *parameter,
                         const struct call_argument *argument, struct agreement *agreement, struct error *error)
{
    size_t count = argument->is_list ? argument->item_count : argument->output.node != NULL;
    for (size_t i = 0; i < count; i++) {
        struct output output = argument->is_list ? argument->items[i] : argument->output;
        enum dtype dtype = output_type(output)->dtype;
        TRY(check_letter(signature, parameter, output, error));
        if (agreement == NULL) {
            continue;
        }
        if (!agreement->is_by_tensor) {
            *agreement = (struct agreement){dtype, parameter, true};
        } else if (dtype != agreement->dtype) {
            return i > 0 ? refuse_list(signature, parameter, argument, error)
                         : refuse_mismatch(signature, parameter, output, agreement, error);
        }
    }
    return STATUS_OK;
}

/* A number decides where no tensor does. */
static void decide_by_number(const struct parameter *parameter, const struct call_argument *argument,
                             struct agreement *agreement)
{
    if (agreement->by == NULL && argument->value.data != NULL) {
        enum dtype natural = function_natural_dtype(&argument->value);
        bool is_float = parameter->type != 'f' || natural == DTYPE_FLOAT32;
        *agreement = (struct agreement){is_float ? natural : DTYPE_FLOAT32, parameter, false};
    }
}

/* The dtype attribute of a call; float32 where the function has none. */
static enum dtype dtype_attribute(const struct binding *binding)
{
    for (size_t i = 0; i < binding->attribute_count; i++) {
        if (binding->attributes[i].kind == ATTRIBUTE_DTYPE && strcmp(binding->attributes[i].name, "dtype") == 0) {
            return binding->attributes[i].dtype;
        }
    }
    return DTYPE_FLOAT32;
}

enum status function_decide_types(const struct signature *signature, struct binding *binding, struct error *error)
{
    struct agreement any = {.dtype = DTYPE_FLOAT32};
    struct agreement floats = {.dtype = DTYPE_FLOAT32};
    static const struct parameter said = {.called = "dtype", .name = "dtype", .type = 'd'};
    struct agreement declared = {dtype_attribute(binding), &said, true};
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < signature->parameter_count; i++) {
            const struct parameter *parameter = &signature->parameters[i];
            struct agreement *agreement = parameter->type == 'T'   ? &any
                                          : parameter->type == 'f' ? &floats
                                          : parameter->type == 'd' ? &declared
                                                                   : NULL;
            if (turn == 0) {
                TRY(agree(signature, parameter, &binding->arguments[i], agreement, error));
            } else if (agreement != NULL) {
                decide_by_number(parameter, &binding->arguments[i], agreement);
            }
        }
    }
    for (size_t i = 0; i < signature->parameter_count; i++) {
        const struct call_argument *argument = &binding->arguments[i];
        switch (signature->parameters[i].type) {
        case 'T': binding->types[i] = any.dtype; break;
        case 'f': binding->types[i] = floats.dtype; break;
        case 'b': binding->types[i] = DTYPE_BOOL; break;
        case 'i': binding->types[i] = DTYPE_INT32; break;
        case 'd': binding->types[i] = declared.dtype; break;
        default: binding->types[i] = DTYPE_FLOAT32; break;
        }
        if (argument->value.data != NULL && strchr("iA", signature->parameters[i].type) != NULL) {
            enum dtype natural = function_natural_dtype(&argument->value);
            bool is_kept = signature->parameters[i].type == 'A' || natural == DTYPE_INT64;
            binding->types[i] = is_kept ? natural : DTYPE_INT32;
        }
    }
    return STATUS_OK;
}

/* ---- constants of numbers ---- */

/* The shortest digits that read back as the same number, as Python prints it. */
static const char *show_number(double number, char text[NUMBER_TEXT_BYTES_MAX])
{
    int digits = 1;
    do {
        snprintf(text, NUMBER_TEXT_BYTES_MAX, "%.*e", digits - 1, number);
        digits++;
    } while (digits <= 17 && strtod(text, NULL) != number);
    if (!isfinite(number)) {
        snprintf(text, NUMBER_TEXT_BYTES_MAX, isnan(number) ? "nan" : number > 0 ? "inf" : "-inf");
        return text;
    }
    const char *exponent = strchr(text, 'e');
    long power = exponent == NULL ? 0 : strtol(exponent + 1, NULL, 10);
    if (power >= -4 && power < 16) {
        long decimals = digits - 2 - power;
        snprintf(text, NUMBER_TEXT_BYTES_MAX, "%.*f", decimals < 1 ? 1 : (int)decimals, number);
    }
    return text;
}

static enum status refuse_number(const struct tensor *value, size_t at, enum dtype dtype, struct error *error)
{
    char number[NUMBER_TEXT_BYTES_MAX];
    const char *type = "float";
    if (value->dtype == DTYPE_BOOL) {
        snprintf(number, sizeof number, "%s", tensor_number(value, at) != 0 ? "True" : "False");
        type = "bool";
    } else if (dtype_is_integer(value->dtype)) {
        snprintf(number, sizeof number, "%lld", (long long)tensor_integer(value, at));
        type = "int";
    } else {
        show_number(tensor_number(value, at), number);
    }
    return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE, "Expected %s, got %s of type '%s' instead.",
                       dtype_name(dtype), number, type);
}

static bool is_whole_in_range(int64_t number, enum dtype dtype)
{
    int64_t least = 0;
    int64_t greatest = 0;
    dtype_integer_range(dtype, &least, &greatest);
    return number >= least && number <= greatest;
}

/* Copies the numbers as `dtype`, refusing what Python's would refuse. */
static enum status convert(const struct tensor *value, struct tensor *to, struct error *error)
{
    bool is_from_integer = dtype_is_integer(value->dtype);
    bool is_to_integer = dtype_is_integer(to->dtype);
    size_t count = tensor_element_count(value);
    for (size_t i = 0; i < count; i++) {
        bool is_bool_mixed = (value->dtype == DTYPE_BOOL) != (to->dtype == DTYPE_BOOL);
        if (is_bool_mixed || (is_to_integer && !is_from_integer)) {
            return refuse_number(value, i, to->dtype, error);
        }
        if (!is_to_integer) {
            tensor_set_number(to, i, tensor_number(value, i));
            continue;
        }
        int64_t number = tensor_integer(value, i);
        if (!is_whole_in_range(number, to->dtype)) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "%lld is out of the range of %s",
                               (long long)number, dtype_name(to->dtype));
        }
        tensor_set_integer(to, i, number);
    }
    return STATUS_OK;
}

enum status function_add_value(struct graph *graph, const char *name, const struct tensor *value, enum dtype dtype,
                               struct output *ret_output, struct error *error)
{
    struct tensor converted;
    TRY(tensor_init(&converted, dtype, &value->shape, error));
    enum status status = convert(value, &converted, error);
    if (status == STATUS_OK) {
        status = graph_add_constant(graph, name, &converted, ret_output, error);
    }
    tensor_release(&converted);
    return status;
}

enum status graph_add_constant(struct graph *graph, const char *name, const struct tensor *value,
                               struct output *ret_output, struct error *error)
{
    struct attribute attribute = {.name = "value", .kind = ATTRIBUTE_TENSOR, .tensor = *value};
    struct node_options options = {.name = name, .attributes = &attribute, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Const", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

enum status graph_add_number(struct graph *graph, const char *name, enum dtype dtype, double value,
                             struct output *ret_output, struct error *error)
{
    struct tensor given = {DTYPE_FLOAT64, shape_scalar(), &value};
    struct tensor converted;
    TRY(tensor_init(&converted, dtype, &given.shape, error));
    tensor_set_number(&converted, 0, value);
    enum status status = graph_add_constant(graph, name, &converted, ret_output, error);
    tensor_release(&converted);
    return status;
}

enum status graph_add_integer(struct graph *graph, const char *name, int64_t value, struct output *ret_output,
                              struct error *error)
{
    struct tensor given = {DTYPE_INT64, shape_scalar(), &value};
    return function_add_value(graph, name, &given, DTYPE_INT32, ret_output, error);
}

enum status graph_add_integers(struct graph *graph, const char *name, const int64_t *values, size_t count,
                               struct output *ret_output, struct error *error)
{
    struct tensor given = {DTYPE_INT64, shape_vector((int64_t)count), (void *)(uintptr_t)values};
    return function_add_value(graph, name, &given, DTYPE_INT32, ret_output, error);
}

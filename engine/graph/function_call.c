/* Calling functions by their Python name: name scope, constants of numbers, nodes. Thread: the building one. What is
 * made is the graph's. Source: TensorFlow 1.15, framework/op_def_library.py. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/function_private.h"
#include "engine/graph/graph_private.h"

/* A call under way. */
struct caller {
    struct graph *graph;
    const struct signature *signature;
    const struct call *call;
    struct binding binding;
    struct output *inputs;                      /* binding.input_count */
    size_t starts[FUNCTION_PARAMETERS_MAX + 1]; /* where each parameter's inputs begin */
};

/* ---- inputs ---- */

/* A list of tensors where one is wanted ([batch, 10] for a shape): packed, as TensorFlow does. */
static enum status pack_items(struct caller *caller, const struct parameter *parameter,
                              const struct call_argument *argument, struct output *ret_output, struct error *error)
{
    struct attribute axis = {.name = "axis", .kind = ATTRIBUTE_INTEGER};
    struct node_options options = {.name = parameter->name,
                                   .inputs = argument->items,
                                   .input_count = argument->item_count,
                                   .attributes = &axis,
                                   .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(caller->graph, "Pack", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

/* A list of numbers where tensors are wanted: a constant each, "values_0". */
static enum status add_item_values(struct caller *caller, const struct parameter *parameter, enum dtype dtype,
                                   const struct tensor *value, struct output *ret_outputs, struct error *error)
{
    struct tensor item = *value;
    size_t count = value->shape.rank == 0 ? 1 : (size_t)value->shape.dimensions[0];
    if (value->shape.rank > 0) {
        item.shape.rank--;
        memmove(item.shape.dimensions, item.shape.dimensions + 1, (size_t)item.shape.rank * sizeof(int64_t));
    }
    size_t bytes = tensor_bytes(&item);
    for (size_t i = 0; i < count; i++) {
        char name[FUNCTION_NAME_BYTES_MAX + 24];
        snprintf(name, sizeof name, "%s_%zu", parameter->name, i);
        item.data = (char *)value->data + i * bytes;
        TRY(function_add_value(caller->graph, name, &item, dtype, &ret_outputs[i], error));
    }
    return STATUS_OK;
}

static enum status lay_out(struct caller *caller, size_t at, struct error *error)
{
    const struct parameter *parameter = &caller->signature->parameters[at];
    const struct call_argument *argument = &caller->binding.arguments[at];
    enum dtype dtype = caller->binding.types[at];
    struct output *to = &caller->inputs[caller->starts[at]];
    if (argument->output.node != NULL) {
        *to = argument->output;
    } else if (parameter->type == 'n' && !argument->is_list) {
        to->node = NULL;
    } else if (argument->is_list && parameter->is_list) {
        memcpy(to, argument->items, argument->item_count * sizeof *to);
    } else if (argument->is_list) {
        return pack_items(caller, parameter, argument, to, error);
    } else if (argument->value.data != NULL && parameter->is_list) {
        return add_item_values(caller, parameter, dtype, &argument->value, to, error);
    } else if (argument->value.data != NULL) {
        return function_add_value(caller->graph, parameter->name, &argument->value, dtype, to, error);
    }
    return STATUS_OK;
}

static void find_starts(struct caller *caller)
{
    size_t start = 0;
    for (size_t i = 0; i < caller->signature->parameter_count; i++) {
        const struct call_argument *argument = &caller->binding.arguments[i];
        caller->starts[i] = start;
        if (!caller->signature->parameters[i].is_list || argument->output.node != NULL) {
            start++;
        } else if (argument->is_list) {
            start += argument->item_count;
        } else if (argument->value.data != NULL) {
            start += argument->value.shape.rank == 0 ? 1 : (size_t)argument->value.shape.dimensions[0];
        }
    }
    CHECK(start == caller->binding.input_count);
}

/* "Tensor(…) must be from the same graph as Tensor(…).": the later one is at fault. */
static enum status check_one_graph(const struct caller *caller, struct error *error)
{
    struct output first = {NULL, 0};
    for (size_t i = 0; i < caller->signature->parameter_count; i++) {
        const struct call_argument *argument = &caller->binding.arguments[i];
        size_t count = argument->is_list ? argument->item_count : argument->output.node != NULL;
        for (size_t k = 0; k < count; k++) {
            struct output output = argument->is_list ? argument->items[k] : argument->output;
            if (output.node == NULL) {
                return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "None values not supported.");
            }
            if (first.node == NULL) {
                first = output;
            }
            if (!graph_has_node(caller->graph, output.node)) {
                char item[OUTPUT_TEXT_BYTES_MAX];
                char other[OUTPUT_TEXT_BYTES_MAX];
                return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                                   "%s must be from the same graph as %s.", output_text(output, item),
                                   output_text(first, other));
            }
        }
    }
    return STATUS_OK;
}

/* ---- one op ---- */

static enum status complete(struct caller *caller, struct error *error)
{
    const struct op *op = caller->signature->op;
    if (op->complete == NULL) {
        return STATUS_OK;
    }
    return op->complete(caller->graph, caller->inputs, caller->binding.input_count, error);
}

static enum status add_op(struct caller *caller, const char *scope, struct call_result *ret_result, struct error *error)
{
    const struct op *op = caller->signature->op;
    size_t count = caller->binding.input_count;
    while (count > 0 && caller->inputs[count - 1].node == NULL && op->input_count == OP_INPUTS_ANY) {
        count--;
    }
    for (size_t i = 0; i < count; i++) {
        if (caller->inputs[i].node == NULL) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE, "%s() is missing argument %zu",
                               caller->signature->name, i + 1);
        }
    }
    char name[GRAPH_NAME_BYTES_MAX + 2];
    snprintf(name, sizeof name, "%s/", scope);
    struct node_options options = {.name = name,
                                   .inputs = caller->inputs,
                                   .input_count = count,
                                   .controls = caller->call->controls,
                                   .control_count = caller->call->control_count,
                                   .attributes = caller->binding.attributes,
                                   .attribute_count = caller->binding.attribute_count};
    struct node *node = NULL;
    TRY(graph_add_node(caller->graph, op->name, &options, &node, error));
    CHECK(node->output_count <= FUNCTION_ARGUMENTS_MAX);
    ret_result->operation = node;
    ret_result->output_count = op->returns_first && node->output_count > 1 ? 1 : node->output_count;
    ret_result->is_list = op->returns_list;
    for (uint32_t i = 0; i < ret_result->output_count; i++) {
        ret_result->outputs[i] = (struct output){node, i};
    }
    return STATUS_OK;
}

/* ---- the call ---- */

/* What happens inside the call's name scope. */
static enum status go(struct caller *caller, const char *scope, struct call_result *ret_result, struct error *error)
{
    const struct signature *signature = caller->signature;
    for (size_t i = 0; i < signature->parameter_count; i++) {
        TRY(lay_out(caller, i, error));
    }
    if (signature->op != NULL) {
        TRY(complete(caller, error));
        return add_op(caller, scope, ret_result, error);
    }
    struct function_call call = {.scope = scope,
                                 .name = caller->call->name,
                                 .arguments = caller->binding.arguments,
                                 .inputs = caller->inputs,
                                 .input_count = caller->binding.input_count,
                                 .attributes = caller->binding.attributes,
                                 .attribute_count = caller->binding.attribute_count,
                                 .controls = caller->call->controls,
                                 .control_count = caller->call->control_count};
    TRY(signature->function->build(caller->graph, &call, ret_result, error));
    if (ret_result->operation == NULL && ret_result->output_count > 0) {
        ret_result->operation = ret_result->outputs[ret_result->output_count - 1].node;
    }
    return STATUS_OK;
}

/* Completion beside the scope sees the tensors that were given; numbers become constants only later. */
static enum status complete_outside(struct caller *caller, struct error *error)
{
    for (size_t i = 0; i < caller->signature->parameter_count; i++) {
        const struct call_argument *argument = &caller->binding.arguments[i];
        if (argument->output.node != NULL) {
            caller->inputs[caller->starts[i]] = argument->output;
        }
    }
    TRY(complete(caller, error));
    for (size_t i = 0; i < caller->signature->parameter_count; i++) {
        if (!function_is_given(&caller->binding.arguments[i]) && !caller->signature->parameters[i].is_list) {
            caller->binding.arguments[i].output = caller->inputs[caller->starts[i]];
        }
    }
    return STATUS_OK;
}

static enum status enter_and_go(struct caller *caller, struct call_result *ret_result, struct error *error)
{
    struct graph *graph = caller->graph;
    const struct signature *signature = caller->signature;
    if (signature->op != NULL && signature->op->completes_outside) {
        TRY(complete_outside(caller, error));
    }
    bool is_named = caller->call->name != NULL && caller->call->name[0] != '\0';
    const char *name = is_named ? caller->call->name : signature->default_name;
    if (name == NULL) {
        return go(caller, graph_name_scope(graph), ret_result, error);
    }
    const char *previous = NULL;
    TRY(graph_enter_name_scope(graph, name, &previous, error));
    enum status status = go(caller, graph_name_scope(graph), ret_result, error);
    graph_leave_name_scope(graph, previous);
    return status;
}

enum status graph_call(struct graph *graph, const struct call *call, struct call_result *ret_result,
                       struct error *error)
{
    struct signature signature;
    TRY(graph_check_not_finalized(graph, error));
    if (!function_find(call->function, &signature)) {
        return error_set(error, STATUS_UNSUPPORTED, "there is no function '%.100s'", call->function);
    }
    struct caller caller = {.graph = graph, .signature = &signature, .call = call};
    TRY(function_bind(&signature, call, &caller.binding, error));
    TRY(check_one_graph(&caller, error));
    TRY(function_decide_types(&signature, &caller.binding, error));
    find_starts(&caller);
    caller.inputs = mem_allocate(caller.binding.input_count + 1, sizeof *caller.inputs);
    if (caller.inputs == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to call %s()", signature.name);
    }
    struct call_result *result = mem_allocate(1, sizeof *result);
    enum status status = result == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory to call %s()", signature.name)
                                        : enter_and_go(&caller, result, error);
    if (status == STATUS_OK) {
        *ret_result = *result;
    }
    mem_free(result);
    mem_free(caller.inputs);
    return status;
}

enum status graph_call_tensors(struct graph *graph, const char *function, const char *name, const struct output *inputs,
                               size_t input_count, struct output *ret_output, struct error *error)
{
    struct call_argument arguments[FUNCTION_PARAMETERS_MAX] = {{.name = NULL}};
    struct signature signature;
    CHECK(function_find(function, &signature));
    struct call call = {.function = function, .name = name, .arguments = arguments, .argument_count = input_count};
    if (signature.parameter_count == 1 && signature.parameters[0].is_list) {
        arguments[0] = (struct call_argument){.is_list = true, .items = inputs, .item_count = input_count};
        call.argument_count = 1;
    } else {
        CHECK(input_count <= FUNCTION_PARAMETERS_MAX);
        for (size_t i = 0; i < input_count; i++) {
            arguments[i].output = inputs[i];
        }
    }
    struct call_result result;
    TRY(graph_call(graph, &call, &result, error));
    CHECK(result.output_count > 0);
    *ret_output = result.outputs[0];
    return STATUS_OK;
}

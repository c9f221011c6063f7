/* Ops that hold or make values: constants, placeholders, variables, initial values. Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op_rules.h"

/* ---- Const: attribute value ---- */

static enum status infer_const(struct inference *inference, struct error *error)
{
    const struct attribute *value = node_attribute(inference->node, "value");
    if (value == NULL || value->kind != ATTRIBUTE_TENSOR) {
        return error_set(error, STATUS_INVALID, "'%s' (op: 'Const') has no value", inference->node->name);
    }
    return op_one_output(inference, value->tensor.dtype, &value->tensor.shape);
}

const struct op op_const = {.name = "Const", .infer = infer_const, .gradient = op_gradient_none};

/* ---- Placeholder, VariableV2: attributes dtype, shape ---- */

static enum status infer_declared(struct inference *inference, struct error *error)
{
    const struct attribute *dtype = node_attribute(inference->node, "dtype");
    const struct attribute *shape = node_attribute(inference->node, "shape");
    if (dtype == NULL || shape == NULL) {
        return error_set(error, STATUS_INVALID, "'%s' (op: '%s') has no dtype or shape", inference->node->name,
                         inference->node->op->name);
    }
    return op_one_output(inference, dtype->dtype, &shape->shape);
}

/* A placeholder may leave its shape open. */
static enum status infer_placeholder(struct inference *inference, struct error *error)
{
    const struct attribute *dtype = node_attribute(inference->node, "dtype");
    if (dtype != NULL && node_attribute(inference->node, "shape") == NULL) {
        struct shape unknown = shape_unknown();
        return op_one_output(inference, dtype->dtype, &unknown);
    }
    return infer_declared(inference, error);
}

static const struct attribute_rule placeholder_attributes[] = {
    {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .is_required = true}, {.name = "shape", .kind = ATTRIBUTE_SHAPE}, {0}};

const struct op op_placeholder = {.name = "Placeholder",
                                  .flags = OP_FEED_ONLY,
                                  .infer = infer_placeholder,
                                  .gradient = op_gradient_none,
                                  .call = "placeholder",
                                  .attributes = placeholder_attributes};

/* A tensor that a loop's body gets from outside: an argument of the turn, or a capture. */
const struct op op_body_input = {
    .name = "BodyInput", .flags = OP_FEED_ONLY, .infer = infer_declared, .gradient = op_gradient_none};

/* While building, the shape that was said: what is fed may differ from the default in what that leaves open. */
static enum status infer_placeholder_with_default(struct inference *inference, struct error *error)
{
    const struct attribute *said = node_attribute(inference->node, "shape");
    if (said == NULL || inference->is_planning) {
        return op_infer_same(inference, error);
    }
    if (!shape_is_compatible(&said->shape, &inference->inputs[0].shape)) {
        return op_shape_error(inference, error, "The default's shape does not fit the placeholder's");
    }
    return op_one_output(inference, inference->inputs[0].dtype, &said->shape);
}

static const struct attribute_rule shape_attribute[] = {{.name = "shape", .kind = ATTRIBUTE_SHAPE}, {0}};

const struct op op_placeholder_with_default = {.name = "PlaceholderWithDefault",
                                               .input_count = 1,
                                               .flags = OP_ALIAS,
                                               .infer = infer_placeholder_with_default,
                                               .gradient = op_gradient_pass,
                                               .call = "placeholder_with_default",
                                               .arguments = "input",
                                               .argument_types = "A",
                                               .attributes = shape_attribute};

const struct op op_variable = {
    .name = "VariableV2", .flags = OP_VARIABLE, .infer = infer_declared, .gradient = op_gradient_none};

/* ---- Identity, StopGradient, NoOp ---- */

const struct op op_identity = {.name = "Identity",
                               .input_count = 1,
                               .flags = OP_ALIAS,
                               .infer = op_infer_same,
                               .gradient = op_gradient_pass,
                               .call = "identity",
                               .arguments = "input",
                               .argument_types = "A"};

const struct op op_stop_gradient = {.name = "StopGradient",
                                    .input_count = 1,
                                    .flags = OP_ALIAS,
                                    .infer = op_infer_same,
                                    .gradient = op_gradient_none,
                                    .call = "stop_gradient",
                                    .arguments = "input",
                                    .argument_types = "A"};

/* As Identity; differentiating it is refused. */
static enum status gradient_prevented(struct graph *graph, const struct node *node, const struct output *gradients,
                                      struct output *ret_gradients, struct error *error)
{
    (void)graph;
    (void)gradients;
    (void)ret_gradients;
    const struct attribute *message = node_attribute(node, "message");
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_LOOKUP, "Gradient explicitly disabled. Reason: b'%.200s'",
                       message == NULL ? "" : message->text);
}

static const struct attribute_rule message_attribute[] = {{.name = "message", .kind = ATTRIBUTE_TEXT}, {0}};

const struct op op_prevent_gradient = {.name = "PreventGradient",
                                       .input_count = 1,
                                       .flags = OP_ALIAS,
                                       .infer = op_infer_same,
                                       .gradient = gradient_prevented,
                                       .call = "prevent_gradient",
                                       .arguments = "input",
                                       .argument_types = "A",
                                       .attributes = message_attribute};

static enum status infer_nothing(struct inference *inference, struct error *error)
{
    (void)error;
    inference->output_count = 0;
    return STATUS_OK;
}

/* Ordering alone: its control inputs run before it. */
const struct op op_no_op = {.name = "NoOp", .infer = infer_nothing, .call = "no_op"};

/* ---- FillLike: zeros, ones or another number (attribute value) in the shape of the input ---- */

static void fill(struct tensor *tensor, double value)
{
    size_t count = tensor_element_count(tensor);
    size_t bytes = dtype_bytes(tensor->dtype);
    if (count == 0) {
        return;
    }
    tensor_set_number(tensor, 0, value);
    for (size_t i = 1; i < count; i++) {
        memcpy((char *)tensor->data + i * bytes, tensor->data, bytes);
    }
}

static enum status compute_fill(const struct op_run *run, struct error *error)
{
    (void)error;
    fill(&run->outputs[0], node_attribute_number(run->node, "value", 0));
    return STATUS_OK;
}

const struct op op_fill_like = {.name = "FillLike",
                                .input_count = 1,
                                .infer = op_infer_same,
                                .compute = compute_fill,
                                .gradient = op_gradient_none};

/* Tensors, operations and variables in messages. Thread: any. */
#include "engine/graph/texts.h"

static void write_repr(struct output output, const char *class, char text[REPR_BYTES_MAX])
{
    const struct output_type *type = output_type(output);
    char name[OUTPUT_NAME_BYTES_MAX];
    char shape[SHAPE_TEXT_BYTES_MAX];
    snprintf(text, REPR_BYTES_MAX, "<tf.%s '%s' shape=%s dtype=%s%s>", class, output_name(output, name),
             shape_text(&type->shape, shape), dtype_name(type->dtype),
             node_is(output.node, "VariableV2") ? "_ref" : "");
}

const char *tensor_repr(struct output output, char text[REPR_BYTES_MAX])
{
    write_repr(output, "Tensor", text);
    return text;
}

const char *variable_repr(const struct variable *variable, char text[REPR_BYTES_MAX])
{
    write_repr((struct output){variable->node, 0}, "Variable", text);
    return text;
}

const char *operation_repr(const struct node *node, char text[REPR_BYTES_MAX])
{
    snprintf(text, REPR_BYTES_MAX, "<tf.Operation '%s' type=%s>", node->name, node_op_name(node));
    return text;
}

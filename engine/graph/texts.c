/* Variables in messages. Thread: any. */
#include "engine/graph/texts.h"

const char *variable_repr(const struct variable *variable, char text[REPR_BYTES_MAX])
{
    struct output output = {variable->node, 0};
    const struct output_type *type = output_type(output);
    char name[OUTPUT_NAME_BYTES_MAX];
    char shape[SHAPE_TEXT_BYTES_MAX];
    snprintf(text, REPR_BYTES_MAX, "<tf.Variable '%s' shape=%s dtype=%s%s>", output_name(output, name),
             shape_text(&type->shape, shape), dtype_name(type->dtype),
             node_is(output.node, "VariableV2") ? "_ref" : "");
    return text;
}

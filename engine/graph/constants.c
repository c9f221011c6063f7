/* Values known before a run. Thread: the building or compiling one. */
#include "engine/graph/constants.h"

#include "engine/graph/op.h"

const struct tensor *graph_constant_value(struct graph *graph, struct output output)
{
    (void)graph;
    return output.node->op == &op_const ? &node_attribute(output.node, "value")->tensor : NULL;
}

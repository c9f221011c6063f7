/* An ONNX graph to look around in: what makes a value, apart from changes of shape, and which values are constants.
 * For the files that understand ONNX. Thread: the one that imports. What is made lives in the model's arena. */
#ifndef ENGINE_IMPORT_ONNX_GRAPH_H
#define ENGINE_IMPORT_ONNX_GRAPH_H

#include "engine/import/foreign.h"
#include "engine/import/onnx.pb-c.h"

/* TensorProto.DataType */
enum { ONNX_FLOAT = 1, ONNX_FLOAT16 = 10, ONNX_DOUBLE = 11 };

struct onnx_output {
    const char *name;
    const Onnx__NodeProto *node;
    size_t index; /* among the node's outputs */
};

struct onnx_graph {
    struct foreign_model *model; /* its tensors are sorted: initializers, and what Constant nodes hold */
    const Onnx__GraphProto *proto;
    struct onnx_output *outputs; /* of all nodes, sorted by name */
    size_t output_count;
    size_t steps; /* of folding, which are bounded */
};

/* CORRUPT where two nodes make one value; NO_MEMORY. Proto and model are borrowed. */
enum status onnx_graph_init(struct onnx_graph *graph, struct foreign_model *model, const Onnx__GraphProto *proto,
                            struct error *error) MUST_CHECK;

/* What makes a value, apart from nodes that only change its shape or choose among steps and rows of a batch (one step
 * of one row has all of it): `.node` NULL for inputs of the graph and constants. CORRUPT for a cycle. */
enum status onnx_find_source(const struct onnx_graph *graph, const char *name, struct onnx_output *ret_source,
                             struct error *error) MUST_CHECK;

/* A value that is made of constants by cutting, turning and joining, computed; `*ret_tensor` NULL: it is no such.
 * UNSUPPORTED names a node among those that does something else than such nodes do. */
enum status onnx_fold(struct onnx_graph *graph, const char *name, const struct foreign_tensor **ret_tensor,
                      struct error *error) MUST_CHECK;
/* An input that must be such a value; `what` is what messages call it. */
enum status onnx_fold_input(struct onnx_graph *graph, const Onnx__NodeProto *node, size_t index, const char *what,
                            const struct foreign_tensor **ret_tensor, struct error *error) MUST_CHECK;
size_t onnx_element_count(const struct foreign_tensor *tensor);
/* Whether each element is that number. */
bool onnx_holds_only(const struct foreign_tensor *tensor, double number);
/* The node that makes a value, or NULL. */
const struct onnx_output *onnx_find_output(const struct onnx_graph *graph, const char *name);
/* The tensor of that name in the file, or NULL. */
const struct foreign_tensor *onnx_find_tensor(const struct onnx_graph *graph, const char *name);
/* The input of the graph of that name that is no initializer, or NULL. */
const Onnx__ValueInfoProto *onnx_find_input(const struct onnx_graph *graph, const char *name);

/* A matrix, its rows and columns exchanged. NO_MEMORY. */
enum status onnx_transpose(struct onnx_graph *graph, const struct foreign_tensor *matrix,
                           const struct foreign_tensor **ret_tensor, struct error *error) MUST_CHECK;

/* Input `index` of a node; NULL where it is left out. */
const char *onnx_input(const Onnx__NodeProto *node, size_t index);
const Onnx__AttributeProto *onnx_attribute(const Onnx__NodeProto *node, const char *name);
int64_t onnx_integer(const Onnx__NodeProto *node, const char *name, int64_t otherwise);
bool onnx_is(const Onnx__NodeProto *node, const char *op);
/* A string attribute, or item of one, equals a text. */
bool onnx_text_equals(const ProtobufCBinaryData *text, const char *want);
/* A node for messages: its name, or that of what it makes. */
const char *onnx_name(const Onnx__NodeProto *node);

/* Sets an error that names the node: "node 'N' (Op): <what>". */
enum status onnx_refuse(const Onnx__NodeProto *node, struct error *error, const char *format, ...) PRINTF_LIKE(3, 4);

#endif

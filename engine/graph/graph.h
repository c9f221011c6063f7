/* A graph: nodes, names, scopes, variables; no numbers. TensorFlow 1's default graph, one a model.
 *
 * Nodes never change once added, and a node's inputs always have smaller ids: id order is a topological order. A build
 * works on a clone made aside, which shares the nodes of its parent, and its owner publishes it with one pointer: a
 * failed build changes nothing. A graph is built by one thread at a time; a published one is only read, by any thread.
 * Reference-counted. */
#ifndef ENGINE_GRAPH_GRAPH_H
#define ENGINE_GRAPH_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "engine/math/tensor.h"

enum {
    GRAPH_NODES_MAX = 200000,
    GRAPH_OBJECTS_MAX = 100000,
    GRAPH_COLLECTIONS_MAX = 1000,
    GRAPH_NAME_BYTES_MAX = 400, /* gradients repeat the names of what they differentiate */
    GRAPH_ARENA_BYTES_MAX = 256 << 20,
    NODE_INPUTS_MAX = 4096,
};
#define GRAPH_TENSOR_ELEMENTS_MAX ((size_t)1 << 31)

struct graph;
struct node;
struct op;

/* One output of a node: a tensor of the graph, "name:index". */
struct output {
    struct node *node;
    uint32_t index;
};

struct output_type {
    enum dtype dtype;
    struct shape shape; /* as far as it is known while building */
};

enum attribute_kind {
    ATTRIBUTE_INTEGER,
    ATTRIBUTE_NUMBER,
    ATTRIBUTE_BOOLEAN,
    ATTRIBUTE_DTYPE,
    ATTRIBUTE_SHAPE,
    ATTRIBUTE_TENSOR,
    ATTRIBUTE_TEXT,
    ATTRIBUTE_BODY /* the inside of a loop */
};

struct attribute {
    const char *name;
    enum attribute_kind kind;
    union {
        int64_t integer;
        double number;
        bool boolean;
        enum dtype dtype;
        struct shape shape;
        struct tensor tensor;
        const char *text;
        const struct body *body;
    };
};

/* The inside of a loop: a graph of its own whose nodes see the outside through BodyInput nodes only. It is made
 * between graph_enter_body and graph_leave_body, lives as long as the graph it was made in, and never changes. */
struct body {
    struct graph *graph;
    size_t argument_count; /* BodyInputs 0 … argument_count − 1 */
    size_t capture_count;  /* the following BodyInputs: outer tensors that nodes inside use */
    size_t output_count;
    struct output *inputs;   /* the BodyInput nodes' outputs: arguments, then captures */
    struct output *captures; /* the outer tensors, capture_count */
    struct output *outputs;  /* what one turn of the loop yields */
};

/* Where something was defined: which program of the graph, which step. Texts are the graph's. */
struct origin {
    uint32_t program;       /* counted from 1 since the reset; 0: the engine itself */
    const char *step;       /* "/program/2/body/0" */
    const char *op;         /* the step's op: "dynamic_rnn" */
    const char *request_id; /* or NULL */
    int64_t at;             /* seconds since 1970 */
};

struct node {
    uint32_t id;
    uint32_t body; /* number of the body it belongs to, counted from 1 in its graph; 0: none */
    uint32_t input_count;
    uint32_t control_count;
    uint32_t output_count;
    uint32_t attribute_count;
    const struct op *op;
    const char *name;
    struct output *inputs;
    struct node **controls; /* run before this one */
    struct output_type *outputs;
    const struct tensor *const *constants; /* each output's value where it is known before any run (constants.h) */
    struct attribute *attributes;
    const struct variable *variable; /* whose state it is, else NULL */
    struct origin origin;
};

/* A variable: its state node, its initial value, and where it stands in struct values. */
struct variable {
    uint32_t index;
    const char *store_key;    /* get_variable's name; NULL: made by tf.Variable, which has none */
    struct node *node;        /* VariableV2; its name is the variable's */
    struct node *initializer; /* Assign ".../Assign": what initialising runs */
    struct output read;       /* Identity ".../read" */
    struct output initial;    /* what initialising assigns */
    bool is_trainable;
    bool is_slot;     /* an optimiser's: not part of a saved version */
    bool is_resource; /* Keras': errors about it speak of a resource variable */
    struct origin origin;
};

/* An empty graph with one reference. */
enum status graph_create(struct graph **ret_graph, struct error *error) MUST_CHECK;
/* A new graph that begins with all that `source` has. */
enum status graph_clone(const struct graph *source, struct graph **ret_graph, struct error *error) MUST_CHECK;
/* Whether anything was done to a clone, or to what it was made from, since: nodes, names, scopes, handles, objects,
 * collections. */
bool graph_differs(const struct graph *clone, const struct graph *source);
struct graph *graph_ref(struct graph *graph);
struct graph *graph_unref(struct graph *graph); /* returns NULL */

/* Nodes and variables, in the order they were added; ids and indices are below the counts. Borrowed from the graph. */
size_t graph_node_count(const struct graph *graph);
struct node *graph_node(const struct graph *graph, size_t id);
size_t graph_variable_count(const struct graph *graph);
const struct variable *graph_variable(const struct graph *graph, size_t index);
/* By op name ("softmax/w", without ":0"), or by state node; NULL when there is none. */
const struct variable *graph_find_variable(const struct graph *graph, const char *name);
const struct variable *graph_variable_of_node(const struct graph *graph, const struct node *node);
struct node *graph_find_node(const struct graph *graph, const char *name);

/* The tensor a name ("x:0") means. Otherwise NOT_FOUND, KeyError: "The name 'x:0' refers to a Tensor which does not
 * exist. The operation, 'x', does not exist in the graph.", or INVALID, ValueError for text of another form; for a name
 * inside a loop, UNPROCESSABLE, ValueError: "Operation 'rnn/while/x' has been marked as not fetchable.". */
enum status graph_find_output(const struct graph *graph, const char *name, struct output *ret_output,
                              struct error *error) MUST_CHECK;

/* Memory that lives as long as the graph's nodes. */
struct arena *graph_arena(struct graph *graph);
/* Whether something did not fit into GRAPH_ARENA_BYTES_MAX, which a graph and all it was cloned from share. */
bool graph_is_full(const struct graph *graph);

/* ---- objects: what builds make besides nodes: scopes, cells, optimisers, savers, layers ----
 *
 * Plain data; pointers in it may only lead into the graph's arena. A clone has the same objects under the same ids and
 * copies one when it is edited, so that a failed build changes nothing. */

enum object_kind { OBJECT_SCOPE, OBJECT_CELL, OBJECT_OPTIMIZER, OBJECT_SAVER, OBJECT_LAYER };

/* Adds an object of `bytes` bytes, copied from `data`. */
enum status graph_add_object(struct graph *graph, enum object_kind kind, const void *data, size_t bytes,
                             uint32_t *ret_id, struct error *error) MUST_CHECK;
/* The object's data, to read; valid until the object is edited. CHECKs that `id` is one of that kind. */
const void *graph_object(const struct graph *graph, enum object_kind kind, uint32_t id);
/* Its data, to change. NO_MEMORY. */
enum status graph_edit_object(struct graph *graph, enum object_kind kind, uint32_t id, void **ret_data,
                              struct error *error) MUST_CHECK;

/* ---- bodies ---- */

/* Begins the inside of a loop: until graph_leave_body, new nodes go into the body, and outer tensors they use become
 * captures. Names are still made unique in the whole graph. `ret_arguments` are the tensors a turn starts with. Scopes
 * opened meanwhile must be left before. Variables made meanwhile belong outside (graph_suspend_body). Bodies do not
 * nest: UNSUPPORTED. */
enum status graph_enter_body(struct graph *graph, const struct output_type *arguments, size_t argument_count,
                             struct output *ret_arguments, struct error *error) MUST_CHECK;
/* Ends it; `outputs` (inner or outer tensors) are what a turn yields. The body is the graph's. Ended on failure too. */
enum status graph_leave_body(struct graph *graph, const struct output *outputs, size_t output_count,
                             const struct body **ret_body, struct error *error) MUST_CHECK;
/* Ends it without a body, after a failure; does nothing when there is none. */
void graph_abandon_body(struct graph *graph);
/* Whether new nodes go into a body. */
bool graph_is_in_body(const struct graph *graph);
/* While suspended, new nodes go outside and have no controls of contexts around; returns what graph_resume_body
 * takes. */
struct body_builder *graph_suspend_body(struct graph *graph);
void graph_resume_body(struct graph *graph, struct body_builder *builder);

/* Sets what new nodes and variables record as their origin; texts are copied. */
enum status graph_set_origin(struct graph *graph, const struct origin *origin, struct error *error) MUST_CHECK;

/* Who builds it now, for what a cell made of steps calls back; borrowed, NULL: nobody. A clone has none. */
struct builder;
void graph_set_builder(struct graph *graph, struct builder *builder);
struct builder *graph_builder(const struct graph *graph);
/* Indices of the variables that get_variable shared since the last call; borrowed until the next. Only kept while there
 * is a builder. */
const uint32_t *graph_take_uses(struct graph *graph, size_t *ret_count);

/* Afterwards nothing can be added. */
void graph_finalize(struct graph *graph);
bool graph_is_finalized(const struct graph *graph);

/* What a new node is made from. Arrays are copied; tensors in attributes too. */
struct node_options {
    const char *name; /* made unique in the current name scope; NULL: the op's name */
    const struct output *inputs;
    size_t input_count;
    struct node *const *controls;
    size_t control_count;
    const struct attribute *attributes;
    size_t attribute_count;
};

/* Adds a node of op `op_name`: checks inputs and attributes, infers dtypes and shapes. INVALID or UNPROCESSABLE
 * (ValueError) says what does not fit; LIMIT at GRAPH_NODES_MAX; TOO_LARGE
 * (ResourceExhaustedError) above GRAPH_TENSOR_ELEMENTS_MAX; CONFLICT when finalized (RuntimeError). */
enum status graph_add_node(struct graph *graph, const char *op_name, const struct node_options *options,
                           struct node **ret_node, struct error *error) MUST_CHECK;

/* Shorthand for the common node: inputs, no attributes, first output. */
enum status graph_add(struct graph *graph, const char *op_name, const char *name, const struct output *inputs,
                      size_t input_count, struct output *ret_output, struct error *error) MUST_CHECK;

/* Graph.create_op without inputs, of any type name, also one that is not in the op table: a node that computes
 * nothing. `name` NULL: its type. ValueError "'N' is not a valid node name". */
enum status graph_add_operation(struct graph *graph, const char *type, const char *name, struct node **ret_node,
                                struct error *error) MUST_CHECK;

/* A constant float32 scalar. */
enum status graph_add_scalar(struct graph *graph, const char *name, float value, struct output *ret_output,
                             struct error *error) MUST_CHECK;

/* ---- control dependencies ---- */

struct control_list;

/* tf.control_dependencies: until it is left, new nodes run after `nodes`, besides those of the contexts around it;
 * without nodes, after none at all (control_dependencies(None)). Returns the one that was current, for
 * graph_leave_controls. LIMIT above NODE_INPUTS_MAX. */
enum status graph_enter_controls(struct graph *graph, struct node *const *nodes, size_t node_count,
                                 const struct control_list **ret_previous, struct error *error) MUST_CHECK;
void graph_leave_controls(struct graph *graph, const struct control_list *previous);

/* ---- names: TensorFlow's Graph.unique_name and name_scope ---- */

/* Makes `name` unique in the current name scope and marks it used; graph_peek_name only tells what it would be. */
enum status graph_unique_name(struct graph *graph, const char *name, const char **ret_name,
                              struct error *error) MUST_CHECK;
enum status graph_peek_name(struct graph *graph, const char *name, const char **ret_name,
                            struct error *error) MUST_CHECK;

/* Opens a name scope (ending in "/": absolute and not made unique; NULL or "": the root) and returns the one that was
 * current, for graph_leave_name_scope. ValueError "'N' is not a valid scope name". */
enum status graph_enter_name_scope(struct graph *graph, const char *name, const char **ret_previous,
                                   struct error *error) MUST_CHECK;
void graph_leave_name_scope(struct graph *graph, const char *previous);
/* "" at the root, else without trailing slash. */
const char *graph_name_scope(const struct graph *graph);

/* ---- reading nodes ---- */

/* An output's dtype and shape as far as they are known; whether two are the same output of the same node. */
const struct output_type *output_type(struct output output);
bool output_equal(struct output a, struct output b);
enum { OUTPUT_NAME_BYTES_MAX = GRAPH_NAME_BYTES_MAX + 16 };
/* "softmax/w:0" */
const char *output_name(struct output output, char text[OUTPUT_NAME_BYTES_MAX]);
enum { OUTPUT_TEXT_BYTES_MAX = OUTPUT_NAME_BYTES_MAX + SHAPE_TEXT_BYTES_MAX + 48 };
/* As Python prints it: "Tensor("x:0", shape=(?, 10), dtype=float32)". */
const char *output_text(struct output output, char text[OUTPUT_TEXT_BYTES_MAX]);
/* TOO_LARGE, ResourceExhaustedError, when the type's dimensions are known and come to more than
 * GRAPH_TENSOR_ELEMENTS_MAX. One that is 0 counts as 1: kernels count through the others. `name` is the tensor's. */
enum status output_type_check_size(const struct output_type *type, const char *name, struct error *error) MUST_CHECK;
/* Whether the node belongs to this graph or to one of its bodies. */
bool graph_has_node(const struct graph *graph, const struct node *node);
const char *node_op_name(const struct node *node);
bool node_is(const struct node *node, const char *op_name);
const struct attribute *node_attribute(const struct node *node, const char *name); /* NULL when absent */
int64_t node_attribute_integer(const struct node *node, const char *name, int64_t otherwise);
double node_attribute_number(const struct node *node, const char *name, double otherwise);
bool node_attribute_boolean(const struct node *node, const char *name, bool otherwise);

#endif

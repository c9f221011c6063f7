/* What the files of the Keras layers share. */
#ifndef ENGINE_NN_KERAS_PRIVATE_H
#define ENGINE_NN_KERAS_PRIVATE_H

#include "engine/nn/keras.h"

enum { KERAS_LAYER_VARIABLES_MAX = 3 };

/* An OBJECT_LAYER; what it points to is the graph's. */
struct keras_layer {
    struct keras_options options; /* complete: name, activations, merge_mode are set */
    uint32_t *children; /* sequential: the layers; wrappers: the inner one; bidirectional: forward, backward */
    size_t child_count;
    size_t levels;                    /* how deep layers nest in it, itself counted */
    size_t total;                     /* layers in it, itself counted */
    bool is_named_by_us;              /* and so counts for the next one's name */
    uint32_t named[KERAS_KIND_COUNT]; /* layers of each kind that were named by us when it was added, itself counted */
    bool is_built;
    int64_t depth; /* the last dimension of its inputs, once built, where it matters */
    const struct variable *variables[KERAS_LAYER_VARIABLES_MAX];
    size_t variable_count;
    bool has_tensors; /* a model that was built from its first layer's input_shape */
    struct output input;
    struct output output;
};

/* A layer to read; valid until it is edited. Whether a kind is one of the recurrent layers. */
const struct keras_layer *keras_layer(const struct graph *graph, uint32_t layer);
bool keras_is_recurrent(enum keras_kind kind);
/* The layer's dtype: said, or float32. */
enum dtype keras_dtype(const struct keras_layer *layer);

/* Refuses inputs that the layer cannot take, as Keras' input_spec. */
enum status keras_check_input(const struct keras_layer *layer, const struct shape *input,
                              struct error *error) MUST_CHECK;
/* Makes the variables in the current name scope, and those of inner layers below it. */
enum status keras_build_here(struct graph *graph, uint32_t layer, const struct shape *input, int nesting,
                             struct error *error) MUST_CHECK;
/* The shape of the output for inputs of a shape, as far as it is known. */
enum status keras_output_shape(const struct graph *graph, const struct keras_layer *layer, const struct shape *input,
                               struct shape *ret_output, struct error *error) MUST_CHECK;

/* What an activation adds; it must exist. */
enum status keras_activate(struct graph *graph, const char *name, struct output x, struct output *ret_output,
                           struct error *error) MUST_CHECK;

/* A recurrent layer over time: [batch, time, depth]. */
enum status keras_call_recurrent(struct graph *graph, const struct keras_layer *layer, const struct keras_call *call,
                                 struct keras_result *ret_result, struct error *error) MUST_CHECK;
/* Calls inside the name scope that is open, of a layer that is built. */
enum status keras_call_here(struct graph *graph, uint32_t layer, const struct keras_call *call, int nesting,
                            struct keras_result *ret_result, struct error *error) MUST_CHECK;

/* x K, of any rank from 2, with the bias where there is one (.node NULL: none). */
enum status keras_project(struct graph *graph, struct output x, struct output kernel, struct output bias,
                          struct output *ret_output, struct error *error) MUST_CHECK;
/* x in another order of dimensions; x backwards along one. */
enum status keras_transpose(struct graph *graph, struct output x, const int64_t *order, size_t count,
                            struct output *ret_output, struct error *error) MUST_CHECK;
enum status keras_reverse(struct graph *graph, struct output x, int64_t axis, struct output *ret_output,
                          struct error *error) MUST_CHECK;

#endif

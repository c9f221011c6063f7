/* The nodes of a TensorFlow graph, as the two that look at them see them. Thread: the one that imports. */
#ifndef ENGINE_IMPORT_TENSORFLOW_GRAPH_H
#define ENGINE_IMPORT_TENSORFLOW_GRAPH_H

#include "engine/import/tensorflow.h"

/* What is looked at of a node; all of it lies in the graph's bytes. */
struct graph_node {
    struct wire name;
    struct wire op;
    struct wire inputs[2];
    size_t input_count;
    struct wire value; /* the tensor of a constant */
    float forget_bias; /* its attributes of these names, or what they usually are */
    float cell_clip;
};

/* Takes the next node off the front of a GraphDef; false at its end. */
bool tensorflow_next_node(struct wire *graph, struct graph_node *ret_node);

/* Whether it is that text. */
bool tensorflow_wire_is(struct wire text, const char *word);

/* Orders `struct wire`s by their bytes, for qsort and bsearch. */
int tensorflow_compare_wires(const void *left, const void *right);

/* Whether it adds two things. */
bool tensorflow_is_addition(const struct graph_node *node);

/* Whether the operator is a whole LSTM cell. */
bool tensorflow_is_whole_cell(const struct graph_node *node);

/* Fills the model's `unbuilt` by what the graph's cells do. NO_MEMORY, LIMIT. */
enum status tensorflow_note_unbuilt(struct wire graph, struct foreign_model *model, struct error *error) MUST_CHECK;

#endif

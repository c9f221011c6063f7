/* How Python prints variables inside lists (repr), which some messages show; output_text (graph.h) is how it prints a
 * tensor alone. Thread: any. */
#ifndef ENGINE_GRAPH_TEXTS_H
#define ENGINE_GRAPH_TEXTS_H

#include "engine/graph/graph.h"

enum { REPR_BYTES_MAX = OUTPUT_NAME_BYTES_MAX + SHAPE_TEXT_BYTES_MAX + 64 };

/* <tf.Variable 'w:0' shape=(2,) dtype=float32_ref> */
const char *variable_repr(const struct variable *variable, char text[REPR_BYTES_MAX]);

#endif

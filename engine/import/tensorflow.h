/* What TensorFlow's two checkpoint formats share. Thread: the one that imports. */
#ifndef ENGINE_IMPORT_TENSORFLOW_H
#define ENGINE_IMPORT_TENSORFLOW_H

#include "engine/import/level_table.h"
#include "engine/import/readers.h"
#include "engine/import/wire.h"

/* DataType of types.proto: false for those that hold no numbers we know (strings, resources, quantized types). */
bool tensorflow_dtype(uint64_t type, enum dtype *ret_dtype, bool *ret_is_bfloat16);

/* A TensorShapeProto. CORRUPT, UNSUPPORTED, naming the tensor. */
enum status tensorflow_shape(struct wire message, const char *name, struct shape *ret_shape,
                             struct error *error) MUST_CHECK;

/* One entry of a V1 checkpoint's table after the other. CORRUPT, LIMIT, UNSUPPORTED. */
enum status tensorflow_slices_read(const struct level_table *table, struct foreign_model *model,
                                   struct error *error) MUST_CHECK;

/* Makes Keras' weights of what names variables by their objects; others stay. UNSUPPORTED for a SavedModel's. */
enum status tensorflow_take_objects(struct foreign_model *model, struct error *error) MUST_CHECK;

/* Looks into PREFIX.meta, if there is such a file: the model's graph_says, forget_bias, unbuilt, and graph_problem
 * where it cannot be read. What is not understood of it says nothing. NO_MEMORY, LIMIT. */
enum status tensorflow_graph_read(struct foreign_source *source, const char *prefix, struct foreign_model *model,
                                  struct error *error) MUST_CHECK;

/* Names are components behind slashes: where the last one of the first `length` bytes begins; whether one is `word`. */
size_t tensorflow_last_component(const char *name, size_t length);
bool tensorflow_component_is(const char *name, size_t length, const char *word);

/* The recurrent cell in whose scope a name stands. */
struct tensorflow_cell {
    enum foreign_cell kind;
    size_t scope_length;      /* so many of the name's bytes are its scope */
    bool adds_to_forget_gate; /* an LSTM that does what its program said */
};

/* Whether the last component stands in a cell's scope, or in what cells open there: "gates", "candidate", "Linear". */
bool tensorflow_cell_around(const char *name, size_t length, struct tensorflow_cell *ret_cell);

#endif

/* TensorFlow's Saver: which variables are saved under which keys. An object of its graph (OBJECT_SAVER); what reads and
 * writes files is engine/store/saver_file.h. For one building thread.
 * Source: TensorFlow 1.15, training/saver.py, training/saving/saveable_object_util.py. */
#ifndef ENGINE_NN_SAVER_H
#define ENGINE_NN_SAVER_H

#include "engine/graph/variable.h"

struct saver_options {
    bool has_variables; /* otherwise all of GLOBAL_VARIABLES as they are now, optimisers' slots among them */
    const struct variable *const *variables;
    const char *const *keys; /* one for each variable, a dict's; NULL: the variables' op names */
    size_t count;
    bool reshapes;    /* restores what has another shape but as many elements */
    const char *name; /* of its name scope; NULL: "save" */
};

struct saver_entry {
    const char *key;
    const struct variable *variable;
};

/* OBJECT_SAVER. */
struct saver {
    const char *scope;                 /* "save", "save_1": where TensorFlow's saving ops are */
    const struct saver_entry *entries; /* sorted by key */
    size_t count;
    bool reshapes;
};

/* Makes a saver, which takes a name scope. ValueErrors "No variables to save", "At least two variables have the same
 * name: N", "The same saveable will be restored with two names: K"; RuntimeError when the graph is finalized. */
enum status saver_create(struct graph *graph, const struct saver_options *options, uint32_t *ret_saver,
                         struct error *error) MUST_CHECK;
const struct saver *saver_at(const struct graph *graph, uint32_t saver);

#endif

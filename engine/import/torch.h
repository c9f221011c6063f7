/* What PyTorch's two file formats share: tensors inside pickles, as notes of calls, and the storages they lie in.
 * Thread: the one that imports. */
#ifndef ENGINE_IMPORT_TORCH_H
#define ENGINE_IMPORT_TORCH_H

#include "engine/import/readers.h"

/* Where a storage's bytes are. `key` is what the pickle calls it. NOT_FOUND, CORRUPT. */
struct torch_storages {
    enum status (*find)(const struct torch_storages *storages, const char *key, const unsigned char **ret_bytes,
                        size_t *ret_length, struct error *error);
    void *context;
};

/* Adds every tensor that `root` holds: of a state_dict, of a checkpoint that has one among other things, of whole
 * modules by their parameters. Names are joined with dots; containers that are not part of a module ("state_dict",
 * "model") do not count. Vocabularies that lie beside become the model's. */
enum status torch_add_tensors(struct foreign_model *model, const struct plain *root,
                              const struct torch_storages *storages, struct error *error) MUST_CHECK;

/* What a storage's class holds: "torch FloatStorage". False for those that are no numbers. */
bool torch_storage_dtype(const char *global, enum dtype *ret_dtype, bool *ret_is_bfloat16);

#endif

/* What the file formats of PyTorch and Torch7 share: tensors as views of storages; and of PyTorch's two, tensors inside
 * pickles, as notes of calls. Thread: the one that imports. */
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
 * modules by their parameters, alone or in a list. Names are joined with dots; containers that are not part of a module
 * ("state_dict", "model", a list's items by number) count only where several of them hold recurrent layers. Optimisers
 * are left out. Vocabularies that lie beside become the model's. */
enum status torch_add_tensors(struct foreign_model *model, const struct plain *root,
                              const struct torch_storages *storages, struct error *error) MUST_CHECK;

/* A tensor as a view of a storage's bytes; offset and strides, which are not negative, in elements. */
struct torch_view {
    struct shape shape;
    int64_t strides[SHAPE_RANK_MAX];
    int64_t offset;
    enum dtype dtype;
    bool is_bfloat16;
    const unsigned char *bytes;
    size_t length;
};

/* Adds the tensor that a view is, copied where its elements are not one behind another. CORRUPT where it ends beyond
 * the storage. */
enum status torch_add_view(struct foreign_model *model, const char *name, const struct torch_view *view,
                           struct error *error) MUST_CHECK;

/* What a storage's class holds: "torch FloatStorage", "torch.FloatStorage". False for those that are no numbers. */
bool torch_storage_dtype(const char *global, enum dtype *ret_dtype, bool *ret_is_bfloat16);

#endif

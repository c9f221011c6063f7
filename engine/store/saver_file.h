/* Saving the values of a saver's variables to a file and restoring them, with TensorFlow's errors. The file is
 * safetensors', its tensors named by the saver's keys. Thread: the one that holds the values; a restore writes them.
 * Source: TensorFlow 1.15, training/saver.py (restore), kernels/save_restore_tensor.cc. */
#ifndef ENGINE_STORE_SAVER_FILE_H
#define ENGINE_STORE_SAVER_FILE_H

#include "engine/graph/values.h"
#include "engine/nn/saver.h"
#include "engine/store/safetensors.h"

/* The saver's tensors, borrowed from `values`, into `ret_entries` (as many as the saver has entries). UNPROCESSABLE,
 * FailedPreconditionError "Attempting to use uninitialized value N". */
enum status saver_collect(const struct graph *graph, uint32_t saver, const struct values *values,
                          struct named_tensor *ret_entries, struct error *error) MUST_CHECK;

/* Gives the saver's variables the values found under their keys; what else is there is ignored. All is checked before
 * anything is changed, in sorted order of the keys: NOT_FOUND, NotFoundError "Restoring from checkpoint failed. … Key N
 * not found in checkpoint …"; then UNPROCESSABLE, InvalidArgumentError for all wrong dtypes, then for a shape. */
enum status saver_assign(const struct graph *graph, uint32_t saver, struct values *values,
                         const struct safetensors *tensors, struct error *error) MUST_CHECK;

/* The same with entries of the caller's instead of a saver object. */
enum status saver_assign_entries(const struct saver *saver, struct values *values, const struct safetensors *tensors,
                                 struct error *error) MUST_CHECK;

/* Both on a file, which is replaced whole or not at all. `path` NULL, or nothing there: ValueErrors "Can't load
 * save_path when it is None.", "The passed save_path is not a valid checkpoint: P"; a file that is no safetensors:
 * CORRUPT, DataLossError. */
enum status saver_save(const struct graph *graph, uint32_t saver, const struct values *values, const char *path,
                       struct error *error) MUST_CHECK;
enum status saver_restore(const struct graph *graph, uint32_t saver, struct values *values, const char *path,
                          struct error *error) MUST_CHECK;

#endif

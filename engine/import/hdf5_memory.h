/* libhdf5 reading memory instead of a file: a driver of its own, since libhdf5's looks first whether there is a file of
 * that name, and copies. Thread: the one that imports. */
#ifndef ENGINE_IMPORT_HDF5_MEMORY_H
#define ENGINE_IMPORT_HDF5_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* Bytes, which are borrowed, to be opened once; NULL: no memory. Destroyed after the file is closed; NULL is allowed.
 */
struct hdf5_memory;
struct hdf5_memory *hdf5_memory_create(const void *bytes, size_t length) MUST_CHECK;
void hdf5_memory_destroy(struct hdf5_memory *memory);

/* A property list with which H5Fopen opens them, whatever the name, to read. Closed by the caller; negative: libhdf5
 * has no memory. */
int64_t hdf5_memory_access(struct hdf5_memory *memory) MUST_CHECK;

#endif

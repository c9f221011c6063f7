/* Files as a tar. Thread: any but the loop. */
#ifndef ENGINE_EXPORT_TAR_WRITE_H
#define ENGINE_EXPORT_TAR_WRITE_H

#include "engine/store/version_directory.h"

/* The files, which are sorted by name, one after another: ustar, with a pax header only where a name or a size asks for
 * one. The same files give the same bytes: time 0, owner 0, mode 0644. New block: free with mem_free. NO_MEMORY, and
 * INVALID for a name that a tar cannot hold. */
enum status tar_write(struct version_file *files, size_t count, void **ret_bytes, size_t *ret_length,
                      struct error *error) MUST_CHECK;

#endif

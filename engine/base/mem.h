/* All heap memory of lstmd: overflow-checked, counted, and able to fail on demand so that tests can walk every
 * out-of-memory path. Thread: any. */
#ifndef ENGINE_BASE_MEM_H
#define ENGINE_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum { MEM_ALIGNMENT_BYTES = 64 }; /* a cache line, and the widest vector register */

/* `count` zeroed items of `item_bytes`; NULL when memory or size_t runs out. Free with mem_free. */
void *mem_allocate(size_t count, size_t item_bytes) MUST_CHECK;

/* As mem_allocate, aligned to MEM_ALIGNMENT_BYTES, for arrays that vector kernels read. Free with mem_free. Blocks of
 * 1 MiB and more are rounded up to 2 MiB pages on request of the kernel (fewer TLB misses over weights). */
void *mem_allocate_aligned(size_t count, size_t item_bytes) MUST_CHECK;

/* What such a block of `bytes` takes, rounded up. */
size_t mem_aligned_bytes(size_t bytes);

/* As mem_allocate_aligned, but not zeroed. */
void *mem_allocate_aligned_raw(size_t count, size_t item_bytes) MUST_CHECK;

/* As mem_allocate_aligned_raw, for a block of which mostly little is used: in small pages, whatever its size. */
void *mem_allocate_sparse(size_t count, size_t item_bytes) MUST_CHECK;

/* Grows or shrinks a mem_allocate block (NULL makes a new one); new items are not zeroed. NULL leaves `old`
 * untouched. */
void *mem_reallocate(void *old, size_t count, size_t item_bytes) MUST_CHECK;

/* A copy of a string, or of its first `length` bytes with a NUL behind. NULL when memory runs out. */
char *mem_copy_string(const char *text) MUST_CHECK;
char *mem_copy_bytes(const char *bytes, size_t length) MUST_CHECK;

/* Frees any of the above; NULL is allowed. */
void mem_free(void *block);

/* Once, before other threads exist: few arenas, and large blocks always mapped on their own, so that what a dropped
 * model held goes back to the system whole. */
void mem_start(void);

/* How many allocations this process has made; a test asserts that running a plan again does not move it. */
uint64_t mem_allocation_count(void);

/* Gives pages of freed blocks back to the system. May take milliseconds: never on the loop or a compute thread. */
void mem_trim(void);

/* Tests only: the allocation after the next `count` successful ones, made by this thread, fails once; 0 fails the very
 * next, UINT64_MAX never. */
void mem_fail_after(uint64_t count);

#endif

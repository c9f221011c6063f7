/* The one caller of the C allocator. Thread: any; the count is atomic, the injected failure is per thread. */
#include "engine/base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "engine/base/check.h"

enum { ARENAS_MAX = 2, MAPPED_FROM_BYTES = 128 << 10 };
enum { PAGE_BYTES = 4096, HUGE_PAGE_BYTES = 2 << 20, HUGE_PAGE_WORTH_BYTES = 1 << 20 };

static _Atomic uint64_t allocation_count;
static _Thread_local uint64_t failures_after = UINT64_MAX;

static bool must_fail(void)
{
    atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed);
    if (failures_after == UINT64_MAX) {
        return false;
    }
    if (failures_after == 0) {
        failures_after = UINT64_MAX;
        return true;
    }
    failures_after--;
    return false;
}

static bool product_overflows(size_t count, size_t item_bytes, size_t *ret_bytes)
{
    return __builtin_mul_overflow(count, item_bytes, ret_bytes) || *ret_bytes > PTRDIFF_MAX - HUGE_PAGE_BYTES;
}

void *mem_allocate(size_t count, size_t item_bytes)
{
    size_t bytes;
    if (product_overflows(count, item_bytes, &bytes) || must_fail()) {
        return NULL;
    }
    return calloc(1, bytes == 0 ? 1 : bytes);
}

void *mem_allocate_sparse(size_t count, size_t item_bytes)
{
    size_t bytes;
    if (product_overflows(count, item_bytes, &bytes) || must_fail()) {
        return NULL;
    }
    size_t rounded = bytes / PAGE_BYTES * PAGE_BYTES + PAGE_BYTES;
    void *block = aligned_alloc(PAGE_BYTES, rounded);
    if (block != NULL) {
        madvise(block, rounded, MADV_NOHUGEPAGE); /* a wish: refusal, or larger pages, are harmless */
    }
    return block;
}

static size_t alignment_of(size_t bytes)
{
    return bytes >= HUGE_PAGE_WORTH_BYTES ? HUGE_PAGE_BYTES : MEM_ALIGNMENT_BYTES;
}

size_t mem_aligned_bytes(size_t bytes)
{
    size_t alignment = alignment_of(bytes);
    size_t rounded = (bytes + alignment - 1) / alignment * alignment; /* C17: a multiple of the alignment */
    return rounded == 0 ? alignment : rounded;
}

void *mem_allocate_aligned_raw(size_t count, size_t item_bytes)
{
    size_t bytes;
    if (product_overflows(count, item_bytes, &bytes) || must_fail()) {
        return NULL;
    }
    size_t alignment = alignment_of(bytes);
    size_t rounded = mem_aligned_bytes(bytes);
    void *block = aligned_alloc(alignment, rounded);
    if (block != NULL && alignment == HUGE_PAGE_BYTES) {
        madvise(block, rounded, MADV_HUGEPAGE); /* a wish: refusal is harmless */
    }
    return block;
}

void *mem_allocate_aligned(size_t count, size_t item_bytes)
{
    void *block = mem_allocate_aligned_raw(count, item_bytes);
    if (block != NULL) {
        memset(block, 0, count * item_bytes);
    }
    return block;
}

void *mem_reallocate(void *old, size_t count, size_t item_bytes)
{
    size_t bytes;
    if (product_overflows(count, item_bytes, &bytes) || must_fail()) {
        return NULL;
    }
    return realloc(old, bytes == 0 ? 1 : bytes);
}

char *mem_copy_bytes(const char *bytes, size_t length)
{
    char *copy = mem_allocate(length + 1, 1);
    if (copy != NULL && length > 0) {
        memcpy(copy, bytes, length);
    }
    return copy;
}

char *mem_copy_string(const char *text)
{
    return mem_copy_bytes(text, strlen(text));
}

void mem_free(void *block)
{
    free(block);
}

void mem_start(void)
{
    mallopt(M_ARENA_MAX, ARENAS_MAX);
    mallopt(M_MMAP_THRESHOLD, MAPPED_FROM_BYTES); /* setting it also stops it from growing with what was freed */
    mallopt(M_TRIM_THRESHOLD, MAPPED_FROM_BYTES);
}

uint64_t mem_allocation_count(void)
{
    return atomic_load_explicit(&allocation_count, memory_order_relaxed);
}

void mem_trim(void)
{
    malloc_trim(0);
}

void mem_fail_after(uint64_t count)
{
    failures_after = count;
}

/* Arenas and the allocator below them: alignment, zeroes, maxima, overflow, and failure on demand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/arena.h"
#include "engine/base/mem.h"

static bool is_zero(const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static void test_pieces_are_apart_aligned_and_zeroed(void **state)
{
    (void)state;
    struct arena arena = {0};
    unsigned char *last_end = NULL;
    for (size_t round = 0; round < 3000; round++) {
        size_t bytes = round * 7 % 301;
        unsigned char *piece = arena_allocate(&arena, bytes, 1);
        assert_non_null(piece);
        assert_int_equal((uintptr_t)piece % 16, 0);
        assert_true(is_zero(piece, bytes));
        assert_true(last_end == NULL || piece >= last_end || piece + bytes <= last_end);
        memset(piece, 0xff, bytes); /* a neighbour that overlaps would not be zero */
        last_end = piece + bytes;
    }
    unsigned char *large = arena_allocate(&arena, 3, 1 << 20);
    assert_non_null(large);
    assert_true(is_zero(large, 3 << 20));
    arena_release(&arena);
    assert_int_equal(arena.bytes, 0);
    assert_non_null(arena_allocate(&arena, 1, 1));
    arena_release(&arena);
}

static void test_copies_and_formats(void **state)
{
    (void)state;
    struct arena arena = {0};
    static const int numbers[] = {3, 1, 4};
    char *text = arena_copy_string(&arena, "Ishmael");
    int *copy = arena_copy(&arena, numbers, 3, sizeof *numbers);
    assert_string_equal(text, "Ishmael");
    assert_memory_equal(copy, numbers, sizeof numbers);
    char *formatted = arena_format(&arena, "%s@%d %0*d", text, 7, 5000, 1);
    assert_non_null(formatted);
    assert_int_equal(strlen(formatted), strlen("Ishmael@7 ") + 5000);
    assert_memory_equal(formatted, "Ishmael@7 0", 11);
    arena_release(&arena);
}

static void test_maximum_and_overflow_are_null(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 64};
    assert_non_null(arena_allocate(&arena, 48, 1));
    assert_null(arena_allocate(&arena, 17, 1));
    assert_non_null(arena_allocate(&arena, 16, 1));
    assert_null(arena_allocate(&arena, 1, 1));
    arena_release(&arena);
    struct arena unlimited = {0};
    assert_null(arena_allocate(&unlimited, SIZE_MAX / 2, 3));
    assert_null(arena_allocate(&unlimited, SIZE_MAX, 1));
    arena_release(&unlimited);
}

static void test_memory_failure_is_null(void **state)
{
    (void)state;
    struct arena arena = {0};
    mem_fail_after(0);
    assert_null(arena_allocate(&arena, 1, 1));
    assert_non_null(arena_allocate(&arena, 1, 1)); /* it fails once */
    arena_release(&arena);

    mem_fail_after(1);
    void *first = mem_allocate(1, 8);
    void *second = mem_allocate(1, 8);
    mem_fail_after(UINT64_MAX);
    assert_non_null(first);
    assert_null(second);
    mem_free(first);
}

static void test_allocations_are_counted_and_checked(void **state)
{
    (void)state;
    uint64_t before = mem_allocation_count();
    float *numbers = mem_allocate_aligned(1000, sizeof *numbers);
    assert_int_equal(mem_allocation_count(), before + 1);
    assert_int_equal((uintptr_t)numbers % MEM_ALIGNMENT_BYTES, 0);
    assert_true(is_zero((unsigned char *)numbers, 1000 * sizeof *numbers));
    mem_free(numbers);
    mem_free(NULL);
    assert_null(mem_allocate(SIZE_MAX / 4, 8));
    assert_null(mem_allocate_aligned(SIZE_MAX / 4, 8));
    assert_null(mem_allocate_aligned_raw(SIZE_MAX, 1));

    char *text = mem_copy_bytes("white whale", 5);
    assert_string_equal(text, "white");
    char *grown = mem_reallocate(text, 100, 1);
    assert_string_equal(grown, "white");
    assert_null(mem_reallocate(grown, SIZE_MAX, 2));
    assert_string_equal(grown, "white");
    mem_free(grown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_apart_aligned_and_zeroed), cmocka_unit_test(test_copies_and_formats),
        cmocka_unit_test(test_maximum_and_overflow_are_null),       cmocka_unit_test(test_memory_failure_is_null),
        cmocka_unit_test(test_allocations_are_counted_and_checked),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}

/* Arenas: alignment, zeroes, the maximum, memory that runs out, use after release. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/arena.h"
#include "engine/base/mem.h"

static void test_memory_is_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    struct arena arena = {.blocks = NULL};
    for (size_t bytes = 1; bytes < 300000; bytes = bytes * 3 + 1) {
        unsigned char *memory = arena_allocate(&arena, bytes, 1);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 16, 0);
        for (size_t i = 0; i < bytes; i++) {
            assert_int_equal(memory[i], 0);
        }
        memset(memory, 0xFF, bytes); /* a neighbour would show it */
    }
    arena_release(&arena);
}

static void test_copies(void **state)
{
    (void)state;
    struct arena arena = {.blocks = NULL};
    const int numbers[] = {1, 2, 3};
    int *copy = arena_copy(&arena, numbers, 3, sizeof *numbers);
    char *text = arena_copy_string(&arena, "call me");
    char *formatted = arena_format(&arena, "%s %d", text, 42);
    char *empty = arena_copy_string(&arena, "");
    assert_memory_equal(copy, numbers, sizeof numbers);
    assert_string_equal(text, "call me");
    assert_string_equal(formatted, "call me 42");
    assert_string_equal(empty, "");
    arena_release(&arena);
}

static void test_maximum_holds_to_the_byte(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 64};
    assert_non_null(arena_allocate(&arena, 1, 1)); /* takes 16 */
    assert_null(arena_allocate(&arena, 49, 1));
    assert_non_null(arena_allocate(&arena, 48, 1));
    assert_int_equal(arena.bytes, 64);
    assert_null(arena_allocate(&arena, 1, 1));
    assert_null(arena_format(&arena, "x"));
    assert_null(arena_copy_string(&arena, "x"));
    arena_release(&arena);
    assert_int_equal(arena.bytes, 0);
    assert_int_equal(arena.bytes_max, 64);
    assert_non_null(arena_allocate(&arena, 64, 1)); /* used again after release */
    arena_release(&arena);
}

static void test_overflow_is_refused(void **state)
{
    (void)state;
    struct arena arena = {.blocks = NULL};
    assert_null(arena_allocate(&arena, SIZE_MAX, 2));
    assert_null(arena_allocate(&arena, SIZE_MAX / 2, 2));
    assert_null(arena_allocate(&arena, SIZE_MAX, 1));
    assert_int_equal(arena.bytes, 0);
    arena_release(&arena);
}

static void test_failing_allocation_leaves_the_arena_usable(void **state)
{
    (void)state;
    struct arena arena = {.blocks = NULL};
    mem_fail_after(0);
    assert_null(arena_allocate(&arena, 8, 1));
    assert_int_equal(arena.bytes, 0);
    assert_non_null(arena_allocate(&arena, 8, 1));
    mem_fail_after(0);
    assert_null(arena_allocate(&arena, 1 << 20, 1));
    mem_fail_after(UINT64_MAX);
    assert_non_null(arena_allocate(&arena, 8, 1));
    arena_release(&arena);
    arena_release(&arena);
}

/* What was given out stays where it is, and both go on. */
static void test_taking_over(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 64};
    struct arena other = {.bytes_max = 48};
    char *own = arena_copy_string(&arena, "own");
    char *taken = arena_copy_string(&other, "taken");
    assert_null(arena_allocate(&other, 64, 1));
    arena_take_over(&arena, &other);
    assert_int_equal(arena.bytes, 32);
    assert_int_equal(other.bytes, 0);
    assert_false(other.is_full);
    assert_non_null(arena_allocate(&other, 48, 1));
    arena_release(&other);
    assert_non_null(arena_allocate(&arena, 32, 1));
    assert_null(arena_allocate(&arena, 1, 1));
    assert_string_equal(own, "own");
    assert_string_equal(taken, "taken");
    arena_release(&arena);
    arena_take_over(&other, &arena);
    assert_null(other.blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_maximum_holds_to_the_byte),
        cmocka_unit_test(test_overflow_is_refused),
        cmocka_unit_test(test_failing_allocation_leaves_the_arena_usable),
        cmocka_unit_test(test_taking_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

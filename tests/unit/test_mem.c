/* The heap: zeroes, alignment, overflow, the count, and the failure that tests ask for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"

static void test_blocks_are_zeroed_and_aligned(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 63, 64, 65, 4096, (1 << 20) - 1, 1 << 20, (2 << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *plain = mem_allocate(sizes[i], 1);
        unsigned char *aligned = mem_allocate_aligned(sizes[i], 1);
        unsigned char *raw = mem_allocate_aligned_raw(sizes[i], 1);
        assert_true(plain != NULL && aligned != NULL && raw != NULL);
        assert_int_equal((uintptr_t)aligned % MEM_ALIGNMENT_BYTES, 0);
        assert_int_equal((uintptr_t)raw % MEM_ALIGNMENT_BYTES, 0);
        for (size_t at = 0; at < sizes[i]; at++) {
            assert_int_equal(plain[at] | aligned[at], 0);
        }
        memset(raw, 0xFF, sizes[i]);
        mem_free(plain);
        mem_free(aligned);
        mem_free(raw);
    }
    mem_free(NULL);
}

static void test_overflow_is_refused(void **state)
{
    (void)state;
    void *kept = mem_allocate(1, 8);
    assert_null(mem_allocate(SIZE_MAX / 2, 3));
    assert_null(mem_allocate(PTRDIFF_MAX, 1));
    assert_null(mem_allocate_aligned(SIZE_MAX / 4, 8));
    assert_null(mem_allocate_aligned_raw(SIZE_MAX, 1));
    assert_null(mem_reallocate(kept, SIZE_MAX / 2, 4));
    mem_free(kept);
}

static void test_reallocate_keeps_content(void **state)
{
    (void)state;
    uint32_t *numbers = mem_reallocate(NULL, 2, sizeof *numbers);
    assert_non_null(numbers);
    numbers[0] = 7;
    numbers[1] = 8;
    uint32_t *more = mem_reallocate(numbers, 1000, sizeof *more);
    assert_non_null(more);
    assert_int_equal(more[0], 7);
    assert_int_equal(more[1], 8);
    mem_fail_after(0);
    assert_null(mem_reallocate(more, 2000, sizeof *more));
    assert_int_equal(more[1], 8); /* untouched by the failure */
    mem_free(more);
}

static void test_copies(void **state)
{
    (void)state;
    char *text = mem_copy_string("whale");
    char *part = mem_copy_bytes("whale", 2);
    char *none = mem_copy_bytes(NULL, 0);
    assert_string_equal(text, "whale");
    assert_string_equal(part, "wh");
    assert_string_equal(none, "");
    mem_free(text);
    mem_free(part);
    mem_free(none);
}

static void test_every_allocation_is_counted(void **state)
{
    (void)state;
    uint64_t before = mem_allocation_count();
    void *a = mem_allocate(1, 1);
    void *b = mem_allocate_aligned(1, 1);
    void *c = mem_reallocate(NULL, 1, 1);
    assert_int_equal(mem_allocation_count() - before, 3);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_trim();
    assert_int_equal(mem_allocation_count() - before, 3);
}

static void test_the_asked_for_allocation_fails_once(void **state)
{
    (void)state;
    for (uint64_t after = 0; after < 4; after++) {
        mem_fail_after(after);
        for (uint64_t i = 0; i < 6; i++) {
            void *block = mem_allocate(1, 1);
            assert_int_equal(block == NULL, i == after);
            mem_free(block);
        }
    }
    mem_fail_after(0);
    mem_fail_after(UINT64_MAX);
    void *block = mem_allocate(1, 1);
    assert_non_null(block);
    mem_free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_are_zeroed_and_aligned),
        cmocka_unit_test(test_overflow_is_refused),
        cmocka_unit_test(test_reallocate_keeps_content),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_every_allocation_is_counted),
        cmocka_unit_test(test_the_asked_for_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

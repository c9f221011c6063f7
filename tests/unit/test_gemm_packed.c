/* Products with a packed matrix: every version this CPU can run against sums in double precision (relative to the sum
 * of magnitudes), vector versions against each other (equal bits), and a row alone against the row among others. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/math/gemm_packed.h"

enum { SEED = 11, GAP = 3 }; /* GAP: floats between rows, which must stay as they are */

/* C[m, n] = A[m, depth] · B + beta · C, with rows apart. */
struct problem {
    size_t m, n, depth;
    bool is_transposed; /* B as stored */
    float beta;
    float *a, *b, *c_before;
};

static float *fill(size_t count, uint64_t stream)
{
    float *values = mem_allocate_aligned(count, sizeof *values);
    assert_non_null(values);
    rng_fill_uniform(SEED, stream, count, -1, 1, values);
    return values;
}

static struct problem make(size_t m, size_t n, size_t depth, bool is_transposed, float beta)
{
    size_t b_rows = is_transposed ? n : depth;
    size_t b_columns = is_transposed ? depth : n;
    return (struct problem){.m = m,
                            .n = n,
                            .depth = depth,
                            .is_transposed = is_transposed,
                            .beta = beta,
                            .a = fill(m * (depth + GAP), 1),
                            .b = fill(b_rows * (b_columns + GAP), 2),
                            .c_before = fill(m * (n + GAP), 3)};
}

static void release(struct problem *p)
{
    mem_free(p->a);
    mem_free(p->b);
    mem_free(p->c_before);
}

/* The product of `row_count` rows from `row` on, as a new copy of C. */
static float *multiply(const struct problem *p, const struct gemm_packed_kernels *kernels, size_t row, size_t row_count)
{
    size_t c_floats = p->m * (p->n + GAP);
    float *room = mem_allocate_aligned(gemm_packed_floats(p->depth, p->n), sizeof *room);
    float *c = mem_allocate_aligned(c_floats, sizeof *c);
    assert_true(room != NULL && c != NULL);
    memcpy(c, p->c_before, c_floats * sizeof *c);
    struct gemm_operand b = {p->b, (p->is_transposed ? p->depth : p->n) + GAP,
                             p->is_transposed ? GEMM_TRANSPOSED : GEMM_PLAIN};
    struct gemm_packed packed = gemm_pack(kernels, p->depth, p->n, b, room);
    struct gemm_packed_product product = {.m = row_count,
                                          .a = {p->a + row * (p->depth + GAP), p->depth + GAP, GEMM_PLAIN},
                                          .b = &packed,
                                          .beta = p->beta,
                                          .c = c + row * (p->n + GAP),
                                          .c_stride = p->n + GAP};
    gemm_by_packed(&product);
    mem_free(room);
    return c;
}

static void check(const struct problem *p, const float *c)
{
    for (size_t i = 0; i < p->m; i++) {
        for (size_t j = 0; j < p->n; j++) {
            double sum = p->beta == 0 ? 0 : (double)p->c_before[i * (p->n + GAP) + j];
            double magnitude = fabs(sum);
            for (size_t k = 0; k < p->depth; k++) {
                size_t at = p->is_transposed ? j * (p->depth + GAP) + k : k * (p->n + GAP) + j;
                double term = (double)p->a[i * (p->depth + GAP) + k] * (double)p->b[at];
                sum += term;
                magnitude += fabs(term);
            }
            double off = fabs((double)c[i * (p->n + GAP) + j] - sum);
            assert_true(off <= 2e-7 * sqrt((double)p->depth + 1) * magnitude);
        }
        for (size_t j = p->n; j < p->n + GAP; j++) {
            assert_true(c[i * (p->n + GAP) + j] == p->c_before[i * (p->n + GAP) + j]);
        }
    }
}

static void check_versions(struct problem *p)
{
    const struct gemm_packed_kernels *kernels = gemm_packed_kernels();
    const struct gemm_packed_kernels *next = NULL;
    for (size_t v = 0; (next = gemm_packed_kernels_at(v)) != NULL; v++) {
        float *all = multiply(p, next, 0, p->m);
        float *first = multiply(p, kernels, 0, p->m);
        check(p, all);
        bool is_plain = gemm_packed_kernels_at(v + 1) == NULL;
        assert_true(is_plain || memcmp(all, first, p->m * (p->n + GAP) * sizeof *all) == 0);
        for (size_t row = 0; row < p->m; row++) {
            float *alone = multiply(p, next, row, 1);
            assert_memory_equal(alone + row * (p->n + GAP), all + row * (p->n + GAP), p->n * sizeof *all);
            mem_free(alone);
        }
        mem_free(all);
        mem_free(first);
    }
    release(p);
}

static void test_products_of_all_shapes(void **state)
{
    (void)state;
    const size_t rows[] = {0, 1, 5, 6, 7, 13};
    const size_t columns[] = {1, 15, 64, 83, 128};
    const size_t depths[] = {0, 1, 17, 96};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t j = 0; j < sizeof columns / sizeof *columns; j++) {
            for (size_t k = 0; k < sizeof depths / sizeof *depths; k++) {
                struct problem p = make(rows[i], columns[j], depths[k], (i + k) % 2 == 0, (float)((i + j) % 2));
                check_versions(&p);
            }
        }
    }
}

static void test_without_beta_nothing_is_read(void **state)
{
    (void)state;
    struct problem p = make(4, 70, 9, false, 0);
    for (size_t i = 0; i < 4 * (70 + GAP); i++) {
        p.c_before[i] = i % (70 + GAP) < 70 ? NAN : 0;
    }
    check_versions(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_of_all_shapes),
        cmocka_unit_test(test_without_beta_nothing_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

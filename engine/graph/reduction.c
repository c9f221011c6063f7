/* Folding tensors: one small set of loops for each kind and dtype, and the walk. Thread: any. Owns nothing.
 *
 * Neighbouring dimensions of the same sort are joined. If the last one is folded, each result is a fold over runs; if
 * it stays, results are made a block of neighbours at a time, so that memory is read in order either way. */
#include "engine/graph/reduction.h"

#include <math.h>

#include "engine/base/check.h"

enum { BLOCK = 128, ACCUMULATOR_BYTES_MAX = 8 };

/* Accumulators are the fold's own type. A run goes into one; a row goes into as many as it is wide. */
struct fold {
    void (*begin)(size_t width, void *accumulators);
    void (*add_run)(size_t count, const void *from, void *accumulator);
    void (*add_row)(size_t width, const void *from, void *accumulators);
    void (*finish)(size_t width, const void *accumulators, size_t folded_count, void *to);
};

/* Defines the loops of a fold: a is the accumulator (ACCUMULATOR), x the element (TYPE), n the count folded. */
#define FOLD(NAME, TYPE, ACCUMULATOR, BEGIN, STEP, FINISH)                                                             \
    static void NAME##_begin(size_t width, void *accumulators)                                                         \
    {                                                                                                                  \
        for (size_t i = 0; i < width; i++) {                                                                           \
            ((ACCUMULATOR *)accumulators)[i] = BEGIN;                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    static void NAME##_add_run(size_t count, const void *from, void *accumulator)                                      \
    {                                                                                                                  \
        ACCUMULATOR a = *(ACCUMULATOR *)accumulator;                                                                   \
        for (size_t i = 0; i < count; i++) {                                                                           \
            TYPE x = ((const TYPE *)from)[i];                                                                          \
            a = STEP;                                                                                                  \
        }                                                                                                              \
        *(ACCUMULATOR *)accumulator = a;                                                                               \
    }                                                                                                                  \
    static void NAME##_add_row(size_t width, const void *from, void *accumulators)                                     \
    {                                                                                                                  \
        for (size_t i = 0; i < width; i++) {                                                                           \
            TYPE x = ((const TYPE *)from)[i];                                                                          \
            ACCUMULATOR a = ((ACCUMULATOR *)accumulators)[i];                                                          \
            ((ACCUMULATOR *)accumulators)[i] = STEP;                                                                   \
        }                                                                                                              \
    }                                                                                                                  \
    static void NAME##_finish(size_t width, const void *accumulators, size_t n, void *to)                              \
    {                                                                                                                  \
        (void)n;                                                                                                       \
        for (size_t i = 0; i < width; i++) {                                                                           \
            ACCUMULATOR a = ((const ACCUMULATOR *)accumulators)[i];                                                    \
            ((TYPE *)to)[i] = FINISH;                                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    static_assert(sizeof(ACCUMULATOR) <= ACCUMULATOR_BYTES_MAX, "an accumulator fits");

#define FOLD_FUNCTIONS(NAME)                                                                                           \
    {                                                                                                                  \
        NAME##_begin, NAME##_add_run, NAME##_add_row, NAME##_finish                                                    \
    }

/* Whole numbers wrap around. */
FOLD(sum_float32, float, double, 0, a + (double)x, (float)a)
FOLD(sum_float64, double, double, 0, a + x, a)
FOLD(sum_int32, int32_t, uint32_t, 0, a + (uint32_t)x, (int32_t)a)
FOLD(sum_int64, int64_t, uint64_t, 0, a + (uint64_t)x, (int64_t)a)
FOLD(mean_float32, float, double, 0, a + (double)x, (float)(a / (double)n))
FOLD(mean_float64, double, double, 0, a + x, a / (double)n)
FOLD(mean_int32, int32_t, uint32_t, 0, a + (uint32_t)x, n == 0 ? 0 : (int32_t)((int64_t)(int32_t)a / (int64_t)n))
FOLD(mean_int64, int64_t, uint64_t, 0, a + (uint64_t)x, n == 0 ? 0 : (int64_t)a / (int64_t)n)
FOLD(prod_float32, float, double, 1, a *(double)x, (float)a)
FOLD(prod_float64, double, double, 1, a *x, a)
FOLD(prod_int32, int32_t, uint32_t, 1, a *(uint32_t)x, (int32_t)a)
FOLD(prod_int64, int64_t, uint64_t, 1, a *(uint64_t)x, (int64_t)a)
FOLD(max_float32, float, float, -INFINITY, x > a || x != x ? x : a, a)
FOLD(max_float64, double, double, -(double)INFINITY, x > a || x != x ? x : a, a)
FOLD(max_int32, int32_t, int32_t, INT32_MIN, x > a ? x : a, a)
FOLD(max_int64, int64_t, int64_t, INT64_MIN, x > a ? x : a, a)
FOLD(min_float32, float, float, INFINITY, x < a || x != x ? x : a, a)
FOLD(min_float64, double, double, (double)INFINITY, x < a || x != x ? x : a, a)
FOLD(min_int32, int32_t, int32_t, INT32_MAX, x < a ? x : a, a)
FOLD(min_int64, int64_t, int64_t, INT64_MAX, x < a ? x : a, a)
FOLD(all_bool, bool, bool, true, (a & x) != 0, a)
FOLD(any_bool, bool, bool, false, (a | x) != 0, a)

#define NUMBER_FOLDS(NAME)                                                                                             \
    {                                                                                                                  \
        [DTYPE_FLOAT32] = FOLD_FUNCTIONS(NAME##_float32), [DTYPE_FLOAT64] = FOLD_FUNCTIONS(NAME##_float64),            \
        [DTYPE_INT32] = FOLD_FUNCTIONS(NAME##_int32), [DTYPE_INT64] = FOLD_FUNCTIONS(NAME##_int64)                     \
    }

static const struct fold folds[REDUCTION_KIND_COUNT][DTYPE_COUNT] = {
    [REDUCTION_SUM] = NUMBER_FOLDS(sum),
    [REDUCTION_MEAN] = NUMBER_FOLDS(mean),
    [REDUCTION_PROD] = NUMBER_FOLDS(prod),
    [REDUCTION_MAX] = NUMBER_FOLDS(max),
    [REDUCTION_MIN] = NUMBER_FOLDS(min),
    [REDUCTION_ALL] = {[DTYPE_BOOL] = FOLD_FUNCTIONS(all_bool)},
    [REDUCTION_ANY] = {[DTYPE_BOOL] = FOLD_FUNCTIONS(any_bool)},
};

bool reduction_has(enum reduction_kind kind, enum dtype dtype)
{
    return folds[kind][dtype].begin != NULL;
}

/* ---- the walk ---- */

/* Dimensions of one sort, with the bytes from one element to the next along each. */
struct axes {
    int rank;
    size_t sizes[SHAPE_RANK_MAX];
    size_t steps[SHAPE_RANK_MAX];
};

/* Splits the dimensions by sort. Those of size 1 go away, neighbours of one sort become one. */
static void split(const struct tensor *from, const bool is_reduced[SHAPE_RANK_MAX], struct axes *kept,
                  struct axes *folded)
{
    struct axes *last = NULL;
    size_t step = dtype_bytes(from->dtype);
    size_t steps[SHAPE_RANK_MAX];
    *kept = (struct axes){0};
    *folded = (struct axes){0};
    for (int i = from->shape.rank - 1; i >= 0; i--) {
        steps[i] = step;
        step *= (size_t)from->shape.dimensions[i];
    }
    for (int i = 0; i < from->shape.rank; i++) {
        size_t size = (size_t)from->shape.dimensions[i];
        struct axes *axes = is_reduced[i] ? folded : kept;
        if (size == 1) {
            continue;
        }
        bool joins = axes == last;
        int at = joins ? axes->rank - 1 : axes->rank++;
        axes->sizes[at] = joins ? axes->sizes[at] * size : size;
        axes->steps[at] = steps[i];
        last = axes;
    }
}

static size_t element_count(const struct axes *axes)
{
    size_t count = 1;
    for (int i = 0; i < axes->rank; i++) {
        count *= axes->sizes[i];
    }
    return count;
}

/* The first `rank` dimensions of `axes` to their next index; false after the last. */
static bool advance(const struct axes *axes, int rank, size_t index[SHAPE_RANK_MAX], size_t *offset)
{
    for (int i = rank - 1; i >= 0; i--) {
        index[i]++;
        *offset += axes->steps[i];
        if (index[i] < axes->sizes[i]) {
            return true;
        }
        *offset -= axes->steps[i] * axes->sizes[i];
        index[i] = 0;
    }
    return false;
}

/* Every result by itself: the last folded dimension is a run. */
static void fold_runs(const struct fold *fold, const struct tensor *from, const struct axes *kept,
                      const struct axes *folded, struct tensor *to)
{
    size_t bytes = dtype_bytes(from->dtype);
    size_t folded_count = element_count(folded);
    size_t run = folded->rank == 0 ? 1 : folded->sizes[folded->rank - 1];
    size_t kept_index[SHAPE_RANK_MAX] = {0};
    size_t start = 0;
    char *result = to->data;
    do {
        _Alignas(ACCUMULATOR_BYTES_MAX) char accumulator[ACCUMULATOR_BYTES_MAX];
        size_t index[SHAPE_RANK_MAX] = {0};
        size_t offset = start;
        fold->begin(1, accumulator);
        do {
            fold->add_run(folded_count == 0 ? 0 : run, (const char *)from->data + offset, accumulator);
        } while (folded_count > 0 && advance(folded, folded->rank - 1, index, &offset));
        fold->finish(1, accumulator, folded_count, result);
        result += bytes;
    } while (advance(kept, kept->rank, kept_index, &start));
}

/* The last dimension stays: blocks of it at a time, row upon row. */
static void fold_rows(const struct fold *fold, const struct tensor *from, const struct axes *kept,
                      const struct axes *folded, struct tensor *to)
{
    size_t bytes = dtype_bytes(from->dtype);
    size_t folded_count = element_count(folded);
    size_t columns = kept->sizes[kept->rank - 1];
    size_t kept_index[SHAPE_RANK_MAX] = {0};
    size_t start = 0;
    char *result = to->data;
    do {
        for (size_t column = 0; column < columns; column += BLOCK) {
            _Alignas(ACCUMULATOR_BYTES_MAX) char accumulators[BLOCK * ACCUMULATOR_BYTES_MAX];
            size_t width = columns - column < BLOCK ? columns - column : BLOCK;
            size_t index[SHAPE_RANK_MAX] = {0};
            size_t offset = start + column * bytes;
            fold->begin(width, accumulators);
            do {
                fold->add_row(folded_count == 0 ? 0 : width, (const char *)from->data + offset, accumulators);
            } while (folded_count > 0 && advance(folded, folded->rank, index, &offset));
            fold->finish(width, accumulators, folded_count, result);
            result += width * bytes;
        }
    } while (advance(kept, kept->rank - 1, kept_index, &start));
}

void reduction_run(enum reduction_kind kind, const struct tensor *from, const bool is_reduced[SHAPE_RANK_MAX],
                   struct tensor *to)
{
    const struct fold *fold = &folds[kind][from->dtype];
    struct axes kept;
    struct axes folded;
    CHECK(fold->begin != NULL);
    split(from, is_reduced, &kept, &folded);
    if (element_count(&kept) == 0) {
        return;
    }
    bool is_last_kept = kept.rank > 0 && kept.steps[kept.rank - 1] == dtype_bytes(from->dtype);
    if (is_last_kept) {
        fold_rows(fold, from, &kept, &folded, to);
    } else {
        fold_runs(fold, from, &kept, &folded, to);
    }
}

/* Copies over strides. Thread: any. Dimensions are first merged where both arrays allow it, so that most blocks become
 * a few long memcpys; what is left of a transposition is copied in squares that stay in the cache. */
#include "engine/math/strided.h"

#include "engine/base/check.h"

enum { SQUARE = 16 }; /* elements: a cache line of float32 */

void strided_row_major(const struct shape *shape, size_t element_bytes, ptrdiff_t *ret_bytes)
{
    ptrdiff_t bytes = (ptrdiff_t)element_bytes;
    for (int i = shape->rank; i-- > 0;) {
        ret_bytes[i] = bytes;
        bytes *= (ptrdiff_t)shape->dimensions[i];
    }
}

/* Leaves out dimensions of 1 and merges neighbours that both arrays run through evenly; false: no elements. */
static bool simplify(const struct strided *block, struct strided *simple)
{
    *simple = (struct strided){.element_bytes = block->element_bytes};
    for (int i = 0; i < block->rank; i++) {
        int64_t dimension = block->dimensions[i];
        if (dimension == 0) {
            return false;
        }
        if (dimension == 1) {
            continue;
        }
        int last = simple->rank - 1;
        if (last >= 0 && simple->from_bytes[last] == block->from_bytes[i] * dimension &&
            simple->to_bytes[last] == block->to_bytes[i] * dimension) {
            simple->dimensions[last] *= dimension;
            simple->from_bytes[last] = block->from_bytes[i];
            simple->to_bytes[last] = block->to_bytes[i];
            continue;
        }
        simple->dimensions[simple->rank] = dimension;
        simple->from_bytes[simple->rank] = block->from_bytes[i];
        simple->to_bytes[simple->rank++] = block->to_bytes[i];
    }
    return true;
}

/* Makes a last dimension that is contiguous in both arrays part of the element. */
static void widen_element(struct strided *block)
{
    int last = block->rank - 1;
    ptrdiff_t bytes = (ptrdiff_t)block->element_bytes;
    if (last >= 0 && block->from_bytes[last] == bytes && block->to_bytes[last] == bytes) {
        block->element_bytes *= (size_t)block->dimensions[last];
        block->rank--;
    }
}

#define COPY_ROW(type)                                                                                                 \
    for (int64_t i = 0; i < count; i++) {                                                                              \
        memcpy(to + i * to_bytes, from + i * from_bytes, sizeof(type));                                                \
    }

static void copy_row(size_t element_bytes, int64_t count, const char *from, ptrdiff_t from_bytes, char *to,
                     ptrdiff_t to_bytes)
{
    switch (element_bytes) {
    case 1: COPY_ROW(uint8_t); break;
    case 2: COPY_ROW(uint16_t); break;
    case 4: COPY_ROW(uint32_t); break;
    case 8: COPY_ROW(uint64_t); break;
    default:
        for (int64_t i = 0; i < count; i++) {
            memcpy(to + i * to_bytes, from + i * from_bytes, element_bytes);
        }
    }
}

/* The last two dimensions, square by square. */
static void copy_plane(const struct strided *block, const char *from, char *to)
{
    int row = block->rank - 2;
    int column = block->rank - 1;
    for (int64_t r = 0; r < block->dimensions[row]; r += SQUARE) {
        int64_t rows = block->dimensions[row] - r < SQUARE ? block->dimensions[row] - r : SQUARE;
        for (int64_t c = 0; c < block->dimensions[column]; c += SQUARE) {
            int64_t columns = block->dimensions[column] - c < SQUARE ? block->dimensions[column] - c : SQUARE;
            for (int64_t i = r; i < r + rows; i++) {
                copy_row(block->element_bytes, columns,
                         from + i * block->from_bytes[row] + c * block->from_bytes[column], block->from_bytes[column],
                         to + i * block->to_bytes[row] + c * block->to_bytes[column], block->to_bytes[column]);
            }
        }
    }
}

static ptrdiff_t distance(ptrdiff_t bytes)
{
    return bytes < 0 ? -bytes : bytes;
}

static void swap_dimensions(struct strided *block, int a, int b)
{
    int64_t dimension = block->dimensions[a];
    ptrdiff_t from_bytes = block->from_bytes[a];
    ptrdiff_t to_bytes = block->to_bytes[a];
    block->dimensions[a] = block->dimensions[b];
    block->from_bytes[a] = block->from_bytes[b];
    block->to_bytes[a] = block->to_bytes[b];
    block->dimensions[b] = dimension;
    block->from_bytes[b] = from_bytes;
    block->to_bytes[b] = to_bytes;
}

/* Whether the reader's nearest elements lie along another dimension than the last: it becomes the one before. */
static bool find_plane(struct strided *block)
{
    int last = block->rank - 1;
    int nearest = last;
    for (int i = 0; i < last; i++) {
        if (block->from_bytes[i] != 0 && distance(block->from_bytes[i]) < distance(block->from_bytes[nearest])) {
            nearest = i;
        }
    }
    if (nearest == last || block->element_bytes > sizeof(uint64_t)) {
        return false;
    }
    swap_dimensions(block, nearest, last - 1);
    return true;
}

/* Steps through the first `rank` dimensions; false after the last position. */
static bool next_position(const struct strided *block, int rank, int64_t *index, const char **from, char **to)
{
    for (int i = rank; i-- > 0;) {
        *from += block->from_bytes[i];
        *to += block->to_bytes[i];
        if (++index[i] < block->dimensions[i]) {
            return true;
        }
        index[i] = 0;
        *from -= block->from_bytes[i] * block->dimensions[i];
        *to -= block->to_bytes[i] * block->dimensions[i];
    }
    return false;
}

void strided_copy(const struct strided *block, const void *from, void *to)
{
    struct strided simple;
    CHECK(block->rank <= STRIDED_RANK_MAX);
    if (!simplify(block, &simple)) {
        return;
    }
    widen_element(&simple);
    const char *source = from;
    char *target = to;
    if (simple.rank == 0) {
        memcpy(target, source, simple.element_bytes);
        return;
    }
    int64_t index[STRIDED_RANK_MAX] = {0};
    int last = simple.rank - 1;
    if (find_plane(&simple)) {
        do {
            copy_plane(&simple, source, target);
        } while (next_position(&simple, last - 1, index, &source, &target));
        return;
    }
    do {
        copy_row(simple.element_bytes, simple.dimensions[last], source, simple.from_bytes[last], target,
                 simple.to_bytes[last]);
    } while (next_position(&simple, last, index, &source, &target));
}

static void add_row(enum dtype dtype, int64_t count, const char *from, ptrdiff_t from_bytes, char *to,
                    ptrdiff_t to_bytes)
{
    for (int64_t i = 0; i < count; i++) {
        if (dtype == DTYPE_FLOAT32) {
            *(float *)(void *)(to + i * to_bytes) += *(const float *)(const void *)(from + i * from_bytes);
        } else {
            *(double *)(void *)(to + i * to_bytes) += *(const double *)(const void *)(from + i * from_bytes);
        }
    }
}

void strided_add(const struct strided *block, enum dtype dtype, const void *from, void *to)
{
    struct strided simple;
    CHECK(block->rank <= STRIDED_RANK_MAX && (dtype == DTYPE_FLOAT32 || dtype == DTYPE_FLOAT64));
    if (!simplify(block, &simple)) {
        return;
    }
    const char *source = from;
    char *target = to;
    int64_t index[STRIDED_RANK_MAX] = {0};
    int last = simple.rank - 1;
    if (simple.rank == 0) {
        add_row(dtype, 1, source, 0, target, 0);
        return;
    }
    do {
        add_row(dtype, simple.dimensions[last], source, simple.from_bytes[last], target, simple.to_bytes[last]);
    } while (next_position(&simple, last, index, &source, &target));
}

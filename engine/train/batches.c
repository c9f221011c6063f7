/* Contiguous streams per batch row. Thread: any. */
#include "engine/train/batches.h"

#include "engine/base/check.h"

struct batches batches_make(const struct corpus *corpus, size_t begin, size_t count, size_t rows)
{
    CHECK(rows > 0);
    return (struct batches){
        .corpus = corpus,
        .begin = begin,
        .rows = rows,
        .row_symbols = count > 0 ? (count - 1) / rows : 0,
    };
}

void batches_fill(const struct batches *batches, size_t row_begin, size_t row_count, size_t time_begin, size_t time,
                  int32_t *inputs, int32_t *targets)
{
    CHECK(row_begin + row_count <= batches->rows && time_begin + time <= batches->row_symbols);
    for (size_t row = 0; row < row_count; row++) {
        size_t begin = batches->begin + (row_begin + row) * batches->row_symbols + time_begin;
        corpus_copy_symbols(batches->corpus, begin, time, inputs + row * time);
        corpus_copy_symbols(batches->corpus, begin + 1, time, targets + row * time);
    }
}

/* Contiguous streams per batch row. Thread: any. */
#include "engine/train/batches.h"

#include "engine/base/check.h"

struct batches batches_make(const struct corpus *corpus, struct corpus_stretch stretch, size_t rows)
{
    CHECK(rows > 0);
    return (struct batches){
        .corpus = corpus,
        .begin = stretch.begin,
        .rows = rows,
        .row_symbols = stretch.count > 0 ? (stretch.count - 1) / rows : 0,
    };
}

static enum status copy_symbols(const struct batches *batches, size_t begin, size_t count, int32_t *symbols,
                                struct error *error)
{
    if (batches->corpus) {
        return corpus_copy_symbols(batches->corpus, begin, count, symbols, error);
    }
    memcpy(symbols, batches->symbols + begin, count * sizeof *symbols);
    return STATUS_OK;
}

enum status batches_fill(const struct batches *batches, size_t row_begin, size_t row_count, size_t time_begin,
                         size_t time, int32_t *inputs, int32_t *targets, struct error *error)
{
    CHECK(row_begin + row_count <= batches->rows && time_begin + time <= batches->row_symbols);
    for (size_t row = 0; row < row_count; row++) {
        size_t begin = batches->begin + (row_begin + row) * batches->row_symbols + time_begin;
        TRY(copy_symbols(batches, begin, time, inputs + row * time, error));
        memcpy(targets + row * time, inputs + row * time + 1, (time - 1) * sizeof *targets);
        TRY(copy_symbols(batches, begin + time, 1, targets + row * time + time - 1, error));
    }
    return STATUS_OK;
}

/* The table of functions that TensorFlow composes of several ops. Thread: any; constants only. */
#include "engine/base/check.h"
#include "engine/graph/function_private.h"

#define FUNCTION_ADDRESS(row) &row,
static const struct function *const table[] = {FUNCTION_ROWS(FUNCTION_ADDRESS)};
#undef FUNCTION_ADDRESS

size_t function_count(void)
{
    return sizeof table / sizeof *table;
}

const struct function *function_at(size_t index)
{
    CHECK(index < function_count());
    return table[index];
}

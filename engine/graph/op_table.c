/* The table of all ops, and what their shape rules share. Thread: any; constants only. */
#include <stdarg.h>
#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/graph/op.h"

#define OP_ADDRESS(row) &row,
static const struct op *const table[] = {OP_ROWS(OP_ADDRESS)};
#undef OP_ADDRESS

size_t op_count(void)
{
    return sizeof table / sizeof *table;
}

const struct op *op_at(size_t index)
{
    CHECK(index < op_count());
    return table[index];
}

const struct op *op_find(const char *name)
{
    for (size_t i = 0; i < op_count(); i++) {
        if (strcmp(table[i]->name, name) == 0) {
            return table[i];
        }
    }
    return NULL;
}

enum status op_shape_error(const struct inference *inference, struct error *error, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (inference->is_planning) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT, "%s\n\t [[node %s]]", text,
                           inference->node->name);
    }
    char shapes[SHAPE_TEXT_BYTES_MAX * 2] = "";
    size_t length = 0;
    for (size_t i = 0; i < inference->input_count && length + SHAPE_TEXT_BYTES_MAX < sizeof shapes; i++) {
        char one[SHAPE_TEXT_BYTES_MAX];
        length += (size_t)snprintf(shapes + length, sizeof shapes - length, "%s%s", i == 0 ? "" : ", ",
                                   shape_cpp_text(&inference->inputs[i].shape, one));
    }
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "%s for '%s' (op: '%s') with input shapes: %s.",
                       text, inference->node->name, inference->node->op->name, shapes);
}

enum status op_run_error(const struct op_run *run, struct error *error, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT, "%s\n\t [[node %s]]", text,
                       run->node->name);
}

bool op_run_must_stop(const struct op_run *run)
{
    bool is_cancelled = run->cancel != NULL && atomic_load_explicit(run->cancel, memory_order_relaxed);
    return is_cancelled || (run->deadline_ms != 0 && clock_now_ms() >= run->deadline_ms);
}

enum status op_run_check(const struct op_run *run, struct error *error)
{
    if (!op_run_must_stop(run)) {
        return STATUS_OK;
    }
    bool is_cancelled = run->cancel != NULL && atomic_load_explicit(run->cancel, memory_order_relaxed);
    return error_set(error, STATUS_CANCELLED, is_cancelled ? "the run was cancelled" : "the run took too long");
}

enum status op_dimensions_error(const struct inference *inference, int64_t a, int64_t b, struct error *error)
{
    return op_shape_error(inference, error, "Dimensions must be equal, but are %lld and %lld", (long long)a,
                          (long long)b);
}

enum status op_expect(const struct inference *inference, size_t input, enum dtype dtype, int rank, struct error *error)
{
    const struct output_type *type = &inference->inputs[input];
    if (type->dtype != dtype) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "Input %zu of '%s' (op: '%s') has type %s that does not match "
                           "expected type of %s.",
                           input, inference->node->name, inference->node->op->name, dtype_name(type->dtype),
                           dtype_name(dtype));
    }
    if (rank != SHAPE_RANK_UNKNOWN && type->shape.rank != SHAPE_RANK_UNKNOWN && type->shape.rank != rank) {
        return op_shape_error(inference, error, "Shape must be rank %d but is rank %d", rank, type->shape.rank);
    }
    return STATUS_OK;
}

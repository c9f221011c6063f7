/* What the tests of array ops share: tensors of literals, and comparing an op's results with them. */
#ifndef TESTS_UNIT_ARRAY_RIG_H
#define TESTS_UNIT_ARRAY_RIG_H

#include "tests/unit/op_rig.h"

/* Tensors of literals. */
#define FLOATS(shape, ...) ((struct tensor){DTYPE_FLOAT32, shape, (float[]){__VA_ARGS__}})
#define DOUBLES(shape, ...) ((struct tensor){DTYPE_FLOAT64, shape, (double[]){__VA_ARGS__}})
#define INTS(...)                                                                                                      \
    ((struct tensor){DTYPE_INT32, shape_vector(sizeof((int32_t[]){__VA_ARGS__}) / 4), (int32_t[]){__VA_ARGS__}})
#define INTS_AS(shape, ...) ((struct tensor){DTYPE_INT32, shape, (int32_t[]){__VA_ARGS__}})
#define LONGS(...)                                                                                                     \
    ((struct tensor){DTYPE_INT64, shape_vector(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__}})
#define INT(value) ((struct tensor){DTYPE_INT32, shape_scalar(), (int32_t[]){value}})
#define NUMBER(value) ((struct tensor){DTYPE_FLOAT32, shape_scalar(), (float[]){value}})
#define BOOLS(shape, ...) ((struct tensor){DTYPE_BOOL, shape, (bool[]){__VA_ARGS__}})
#define ATTRIBUTE_INT(called, value)                                                                                   \
    {                                                                                                                  \
        .name = called, .kind = ATTRIBUTE_INTEGER, .integer = value                                                    \
    }
#define CALL(called, count, ...) ((struct op_call){.op = called, .input_count = count, .inputs = {__VA_ARGS__}})

/* Compares dtype, shape and every element. */
static inline void assert_tensor(const char *what, const struct tensor *have, const struct tensor *want)
{
    char a[SHAPE_TEXT_BYTES_MAX];
    char b[SHAPE_TEXT_BYTES_MAX];
    if (have->dtype != want->dtype || !shape_equal(&have->shape, &want->shape)) {
        fail_msg("%s: %s %s, expected %s %s", what, dtype_name(have->dtype), shape_text(&have->shape, a),
                 dtype_name(want->dtype), shape_text(&want->shape, b));
    }
    for (size_t i = 0; i < tensor_element_count(want); i++) {
        if (tensor_number(have, i) != tensor_number(want, i)) {
            fail_msg("%s: element %zu is %g, expected %g", what, i, tensor_number(have, i), tensor_number(want, i));
        }
    }
}

/* Runs the call and compares all its outputs. */
static inline void check_run(const struct op_call *call, size_t count, const struct tensor *want)
{
    struct tensor outputs[RIG_INPUTS_MAX];
    struct error error;
    must(op_call_run(call, outputs, &error), &error);
    for (size_t i = 0; i < count; i++) {
        assert_tensor(call->op, &outputs[i], &want[i]);
        tensor_release(&outputs[i]);
    }
}

#endif

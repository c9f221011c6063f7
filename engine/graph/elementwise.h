/* Elementwise kernels: an op gives one loop for each dtype it takes, and the rules and the walk over NumPy's
 * broadcasting are here. Thread: see op.h.
 *
 * Loops see runs: neighbouring dimensions are joined as far as all operands allow, so that equal shapes, scalars and a
 * repeated last dimension (a bias) are one or few calls of a loop that the compiler makes vectors of. */
#ifndef ENGINE_GRAPH_ELEMENTWISE_H
#define ENGINE_GRAPH_ELEMENTWISE_H

#include "engine/graph/op.h"

/* ---- the walk over a broadcast ---- */

enum { BROADCAST_OPERANDS_MAX = 3 };

/* Steps and offsets count elements. An operand's step is 0 along dimensions where it is repeated. */
struct broadcast {
    size_t operand_count;
    int rank; /* of what is left after joining; at least 1 */
    size_t sizes[SHAPE_RANK_MAX];
    size_t steps[BROADCAST_OPERANDS_MAX][SHAPE_RANK_MAX];
    size_t index[SHAPE_RANK_MAX];
    size_t run; /* elements along the last dimension; 0: there are none at all */
    size_t result_offset;
    size_t offsets[BROADCAST_OPERANDS_MAX];
};

/* What `a` and `b` give together, as far as it is known; false, and the two dimensions, when they do not fit. */
bool broadcast_shape(const struct shape *a, const struct shape *b, struct shape *ret_shape, int64_t *ret_a,
                     int64_t *ret_b);
/* Begins at the first run: result elements from result_offset, operand elements from offsets, the operands' steps
 * within the run are steps[…][rank − 1]. */
void broadcast_start(struct broadcast *walk, const struct shape *result, const struct shape *const *operands,
                     size_t operand_count);
/* Goes to the next run; false when there is none. */
bool broadcast_next(struct broadcast *walk);
/* An operand's step within a run: 0 or 1. */
size_t broadcast_step(const struct broadcast *walk, size_t operand);

/* The shape of inputs 0 and 1 broadcast. ValueError "Dimensions must be equal, but are …", in a run
 * InvalidArgumentError "Incompatible shapes: [2] vs. [3]". */
enum status broadcast_infer(struct inference *inference, enum dtype result, struct error *error) MUST_CHECK;

/* Loops by dtype: the functions NAME_float32 and NAME_float64, and of numbers NAME_int32 and NAME_int64. */
#define FLOAT_LOOPS(NAME) [DTYPE_FLOAT32] = NAME##_float32, [DTYPE_FLOAT64] = NAME##_float64
#define NUMBER_LOOPS(NAME) FLOAT_LOOPS(NAME), [DTYPE_INT32] = NAME##_int32, [DTYPE_INT64] = NAME##_int64

/* ---- two operands ---- */

/* The loop of each dtype of the operands; NULL where the op does not take it. Steps are 0 or 1. */
struct binary_loops {
    void (*of[DTYPE_COUNT])(size_t count, const void *a, size_t a_step, const void *b, size_t b_step, void *result);
};

/* Shape rules of rows with such loops: x and y are of one dtype that has a loop; the result has it, or is bool. */
enum status binary_infer(struct inference *inference, struct error *error) MUST_CHECK;
enum status binary_infer_bool(struct inference *inference, struct error *error) MUST_CHECK;
/* Their kernel; succeeds always. */
enum status binary_compute(const struct op_run *run, struct error *error);

/* A row of the op table; after the gradient come its loops by dtype. */
#define BINARY_OP(ROW, NAME, CALL, ARGUMENTS, TYPES, INFER, COMPUTE, GRADIENT, ...)                                    \
    const struct op ROW = {.name = NAME,                                                                               \
                           .input_count = 2,                                                                           \
                           .infer = INFER,                                                                             \
                           .compute = COMPUTE,                                                                         \
                           .binary = &(const struct binary_loops){{__VA_ARGS__}},                                      \
                           .gradient = GRADIENT,                                                                       \
                           .call = CALL,                                                                               \
                           .arguments = ARGUMENTS,                                                                     \
                           .argument_types = TYPES};

/* Defines a loop: EXPRESSION of a and b (FROM) is the result (TO). */
#define BINARY_LOOP(NAME, FROM, TO, EXPRESSION)                                                                        \
    static void NAME(size_t count, const void *from_a, size_t a_step, const void *from_b, size_t b_step, void *result) \
    {                                                                                                                  \
        const FROM *left = from_a;                                                                                     \
        const FROM *right = from_b;                                                                                    \
        TO *to = result;                                                                                               \
        if (a_step == b_step) {                                                                                        \
            for (size_t i = 0; i < count; i++) {                                                                       \
                FROM a = left[i];                                                                                      \
                FROM b = right[i];                                                                                     \
                to[i] = EXPRESSION;                                                                                    \
            }                                                                                                          \
        } else if (b_step == 0) {                                                                                      \
            FROM b = *right;                                                                                           \
            for (size_t i = 0; i < count; i++) {                                                                       \
                FROM a = left[i];                                                                                      \
                to[i] = EXPRESSION;                                                                                    \
            }                                                                                                          \
        } else {                                                                                                       \
            FROM a = *left;                                                                                            \
            for (size_t i = 0; i < count; i++) {                                                                       \
                FROM b = right[i];                                                                                     \
                to[i] = EXPRESSION;                                                                                    \
            }                                                                                                          \
        }                                                                                                              \
    }

/* ---- one operand ---- */

struct unary_loops {
    void (*of[DTYPE_COUNT])(size_t count, const void *x, void *result);
};

/* Shape rules of rows with such loops: the input is of a dtype that has a loop; the result is alike, or bool. */
enum status unary_infer(struct inference *inference, struct error *error) MUST_CHECK;
enum status unary_infer_bool(struct inference *inference, struct error *error) MUST_CHECK;
/* Their kernel; succeeds always. */
enum status unary_compute(const struct op_run *run, struct error *error);

/* A row of the op table; after the gradient come its loops by dtype. */
#define UNARY_OP(ROW, NAME, CALL, ARGUMENT, TYPE, INFER, GRADIENT, ...)                                                \
    const struct op ROW = {.name = NAME,                                                                               \
                           .input_count = 1,                                                                           \
                           .infer = INFER,                                                                             \
                           .compute = unary_compute,                                                                   \
                           .unary = &(const struct unary_loops){{__VA_ARGS__}},                                        \
                           .gradient = GRADIENT,                                                                       \
                           .call = CALL,                                                                               \
                           .arguments = ARGUMENT,                                                                      \
                           .argument_types = TYPE};

/* Defines a loop: EXPRESSION of x (FROM) is the result (TO). */
#define UNARY_LOOP(NAME, FROM, TO, EXPRESSION)                                                                         \
    static void NAME(size_t count, const void *from_x, void *result)                                                   \
    {                                                                                                                  \
        const FROM *from = from_x;                                                                                     \
        TO *to = result;                                                                                               \
        for (size_t i = 0; i < count; i++) {                                                                           \
            FROM x = from[i];                                                                                          \
            to[i] = EXPRESSION;                                                                                        \
        }                                                                                                              \
    }

#endif

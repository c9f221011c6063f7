/* Ops on variables: Assign, AssignAdd, AssignSub, and what looks whether one has a value. Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/graph/op.h"
#include "engine/graph/op_rules.h"

/* What the kernel says in a run of what was assigned, where the shape rule said it while building. */
static enum status refuse_at_run(const struct inference *inference, struct error *error)
{
    char left[SHAPE_TEXT_BYTES_MAX];
    char right[SHAPE_TEXT_BYTES_MAX];
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT,
                       "Assign requires shapes of both tensors to match. lhs shape= %s rhs shape= %s\n\t [[node %s]]",
                       shape_cpp_text(&inference->inputs[0].shape, left),
                       shape_cpp_text(&inference->inputs[1].shape, right), inference->node->name);
}

/* What C++ TensorFlow says of two shapes that must be one. */
static enum status check_same_shape(const struct inference *inference, struct error *error)
{
    const struct shape *a = &inference->inputs[0].shape;
    const struct shape *b = &inference->inputs[1].shape;
    bool is_planning = inference->node->outputs != NULL;
    if (shape_is_compatible(a, b)) {
        return STATUS_OK;
    }
    if (is_planning) {
        return refuse_at_run(inference, error);
    }
    if (a->rank != b->rank) {
        return op_shape_error(inference, error, "Shapes must be equal rank, but are %d and %d", a->rank, b->rank);
    }
    for (int i = 0; i < a->rank; i++) {
        int64_t left = a->dimensions[i];
        int64_t right = b->dimensions[i];
        if (left != right && left != DIMENSION_UNKNOWN && right != DIMENSION_UNKNOWN) {
            char text_a[SHAPE_TEXT_BYTES_MAX];
            char text_b[SHAPE_TEXT_BYTES_MAX];
            return op_shape_error(inference, error,
                                  "Dimension %d in both shapes must be equal, but are %lld and %lld. Shapes are %s and "
                                  "%s.",
                                  i, (long long)left, (long long)right, shape_cpp_text(a, text_a),
                                  shape_cpp_text(b, text_b));
        }
    }
    return STATUS_OK;
}

static enum status check_variable(const struct inference *inference, struct error *error)
{
    if (!node_is(inference->node->inputs[0].node, "VariableV2")) {
        return error_set(error, STATUS_INVALID, "Input 0 of '%s' (op: '%s') is not a variable", inference->node->name,
                         inference->node->op->name);
    }
    return STATUS_OK;
}

static enum status infer_assign(struct inference *inference, struct error *error)
{
    TRY(check_variable(inference, error));
    TRY(op_expect(inference, 1, inference->inputs[0].dtype, SHAPE_RANK_UNKNOWN, error));
    TRY(check_same_shape(inference, error));
    inference->outputs[0] = inference->inputs[0];
    inference->output_count = 1;
    return STATUS_OK;
}

/* At run time too: what a variable is given may have been fed. */
static enum status compute_assign(const struct op_run *run, struct error *error)
{
    const struct output_type *type = &run->variable->node->outputs[0];
    if (!shape_equal(&type->shape, &run->inputs[1].shape)) {
        char left[SHAPE_TEXT_BYTES_MAX];
        char right[SHAPE_TEXT_BYTES_MAX];
        return op_run_error(run, error, "Assign requires shapes of both tensors to match. lhs shape= %s rhs shape= %s",
                            shape_cpp_text(&type->shape, left), shape_cpp_text(&run->inputs[1].shape, right));
    }
    return values_set(run->values, run->variable, &run->inputs[1], error);
}

const struct op op_assign = {.name = "Assign",
                             .input_count = 2,
                             .flags = OP_WRITES | OP_TAKES_UNINITIALIZED,
                             .infer = infer_assign,
                             .compute = compute_assign,
                             .call = "assign",
                             .arguments = "ref value",
                             .argument_types = "TT"};

/* ---- AssignAdd, AssignSub: variable += value, variable −= value ---- */

static enum status infer_update(struct inference *inference, struct error *error)
{
    enum dtype dtype = inference->inputs[0].dtype;
    TRY(infer_assign(inference, error));
    if (dtype != DTYPE_FLOAT32 && dtype != DTYPE_FLOAT64 && dtype != DTYPE_INT32 && dtype != DTYPE_INT64) {
        return error_raise(
            error, STATUS_UNPROCESSABLE, EXCEPTION_TYPE,
            "Value passed to parameter 'ref' has DataType %s not in list of allowed values: float32, float64, "
            "int32, int64",
            dtype_name(dtype));
    }
    return STATUS_OK;
}

#define UPDATE(type, unsigned_type, operator)                                                                          \
    do {                                                                                                               \
        type *to = run->inputs[0].data;                                                                                \
        const type *by = run->inputs[1].data;                                                                          \
        for (size_t i = 0; i < count; i++) {                                                                           \
            to[i] = (type)((unsigned_type)to[i] operator(unsigned_type) by[i]);                                        \
        }                                                                                                              \
    } while (0)

/* Whole numbers wrap around, as TensorFlow's do. */
#define DEFINE_UPDATE(name, operator)                                                                                  \
    static enum status name(const struct op_run *run, struct error *error)                                             \
    {                                                                                                                  \
        size_t count = tensor_element_count(&run->inputs[0]);                                                          \
        (void)error;                                                                                                   \
        switch ((int)run->inputs[0].dtype) {                                                                           \
        case DTYPE_FLOAT32: UPDATE(float, float, operator); break;                                                     \
        case DTYPE_FLOAT64: UPDATE(double, double, operator); break;                                                   \
        case DTYPE_INT32: UPDATE(int32_t, uint32_t, operator); break;                                                  \
        case DTYPE_INT64: UPDATE(int64_t, uint64_t, operator); break;                                                  \
        default: CHECK(false);                                                                                         \
        }                                                                                                              \
        return STATUS_OK;                                                                                              \
    }

DEFINE_UPDATE(compute_assign_add, +)
DEFINE_UPDATE(compute_assign_sub, -)

const struct op op_assign_add = {.name = "AssignAdd",
                                 .input_count = 2,
                                 .flags = OP_WRITES,
                                 .infer = infer_update,
                                 .compute = compute_assign_add,
                                 .call = "assign_add",
                                 .arguments = "ref value",
                                 .argument_types = "TT"};

const struct op op_assign_sub = {.name = "AssignSub",
                                 .input_count = 2,
                                 .flags = OP_WRITES,
                                 .infer = infer_update,
                                 .compute = compute_assign_sub,
                                 .call = "assign_sub",
                                 .arguments = "ref value",
                                 .argument_types = "TT"};

/* ---- IsVariableInitialized: variable → bool ---- */

static enum status infer_is_initialized(struct inference *inference, struct error *error)
{
    struct shape scalar = shape_scalar();
    TRY(check_variable(inference, error));
    return op_one_output(inference, DTYPE_BOOL, &scalar);
}

static enum status compute_is_initialized(const struct op_run *run, struct error *error)
{
    (void)error;
    *(bool *)run->outputs[0].data = run->inputs[0].data != NULL;
    return STATUS_OK;
}

const struct op op_is_variable_initialized = {.name = "IsVariableInitialized",
                                              .input_count = 1,
                                              .flags = OP_TAKES_UNINITIALIZED | OP_RANDOM, /* not known ahead */
                                              .infer = infer_is_initialized,
                                              .compute = compute_is_initialized,
                                              .gradient = op_gradient_none,
                                              .call = "is_variable_initialized",
                                              .arguments = "ref",
                                              .argument_types = "T"};

/* ---- InitializedValue: variable, initial → the variable's value if it has one, else the initial one. Stands for the
 * conditional that TensorFlow's initialized_value makes. ---- */

static enum status compute_initialized_value(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *chosen = &run->inputs[run->inputs[0].data == NULL];
    memcpy(run->outputs[0].data, chosen->data, tensor_bytes(&run->outputs[0]));
    return STATUS_OK;
}

const struct op op_initialized_value = {.name = "InitializedValue",
                                        .input_count = 2,
                                        .flags = OP_TAKES_UNINITIALIZED,
                                        .infer = infer_assign,
                                        .compute = compute_initialized_value,
                                        .gradient = op_gradient_pass};

/* The op table: one row an op, with its shape rule, kernel and gradient. Adding an op is one row (op_table.c) and its
 * functions (ops_*.c). Rows are constants; their functions run on whatever thread builds or runs. */
#ifndef ENGINE_GRAPH_OP_H
#define ENGINE_GRAPH_OP_H

#include "engine/graph/graph.h"
#include "engine/graph/values.h"

enum { OP_INPUTS_ANY = -1, OP_OUTPUTS_MAX = NODE_INPUTS_MAX, OP_OUTPUTS_USUAL = 8 };

/* What a shape rule sees and fills: used while building with partial shapes, and again while planning with full
 * ones. */
struct inference {
    const struct node *node; /* op, attributes, name; outputs not yet set while building */
    const struct output_type *inputs;
    /* The value of each input as far as it is known: of a Const, of the Shape of something fully known, of small whole
     * numbers computed from such (constants.h), and while planning of a fed tensor. NULL where it is not. A rule
     * that needs a value which is unknown leaves its outputs unknown; the plan then refuses. */
    const struct tensor *const *constants;
    size_t input_count;
    bool is_planning;            /* input shapes are fully known, and `constants` is all that can be known */
    struct output_type *outputs; /* room for OP_OUTPUTS_USUAL, or for what op_need_outputs was asked for */
    size_t output_count;
    size_t output_room;
    struct output_type usual[OP_OUTPUTS_USUAL];
};

/* Readies an inference for shape rules; frees what they took. It stays where it is between the two. */
void op_inference_begin(struct inference *inference);
void op_inference_end(struct inference *inference);

/* TOO_LARGE when an output is larger than any run could hold (output_type_check_size). */
enum status op_check_sizes(const struct inference *inference, struct error *error) MUST_CHECK;

/* For a shape rule that makes more than OP_OUTPUTS_USUAL outputs: room for `count`; what is in `outputs` is lost.
 * TOO_LARGE below 0 or above OP_OUTPUTS_MAX; NO_MEMORY. */
enum status op_need_outputs(struct inference *inference, int64_t count, struct error *error) MUST_CHECK;

/* What people give an op besides tensors. One left out that is an INTEGER, NUMBER, BOOLEAN or DTYPE is set to
 * `otherwise`; of another kind, it stays away unless it is required. */
struct attribute_rule {
    const char *name;   /* NULL ends a list */
    const char *called; /* what people call it, where that is another name ("keepdims" for keep_dims); else NULL */
    enum attribute_kind kind;
    bool is_required;
    double otherwise; /* for those left out: integer, number, boolean; a dtype's number */
};

/* What a kernel sees. */
struct op_run {
    const struct node *node;
    const struct tensor *inputs;
    size_t input_count;
    struct tensor *outputs; /* allocated by the plan; an alias op's first output already is its first input's data */
    void *scratch;          /* as many bytes as the row's scratch_bytes asked for */
    struct values *values;
    const struct variable *variable; /* for ops whose first input is a variable's state, and for VariableV2 */
    uint64_t random_key;             /* this run's key, or this draw's of a seeded node; mix it with the node's seed */
    uint64_t loop_key;               /* in a loop's body, the key of the run around it, the same for every turn */
    const void *prepared;            /* what the row's prepare made for this step of the plan */
    const _Atomic bool *cancel;      /* looked at by long kernels (op_run_must_stop); may be NULL */
    uint64_t deadline_ms;            /* likewise; by clock_now_ms; 0: never */
};

enum op_flags {
    OP_PLAIN = 0,
    OP_ALIAS = 1,                /* output 0 is input 0's data under another shape: no kernel */
    OP_WRITES = 2,               /* changes the variables behind its first written_count inputs */
    OP_VARIABLE = 4,             /* its output is a variable's own memory */
    OP_FEED_ONLY = 8,            /* has no value unless fed */
    OP_RANDOM = 16,              /* its numbers depend on the run: never computed ahead */
    OP_OF_SHAPE = 32,            /* reads its inputs' shapes alone, not their values */
    OP_TAKES_UNINITIALIZED = 64, /* input 0 may be a variable without a value */
    OP_SEEDED = 128, /* with an attribute seed of 0 or more, its n-th run draws the same numbers in every session */
};

struct unary_loops;
struct binary_loops;

struct op {
    const char *name;
    int input_count; /* or OP_INPUTS_ANY */
    unsigned flags;
    unsigned written_count; /* of an op that writes; 0: one */
    enum status (*infer)(struct inference *inference, struct error *error);
    enum status (*compute)(const struct op_run *run, struct error *error); /* NULL: nothing to do */
    const struct unary_loops *unary; /* of elementwise ops (elementwise.h), the one that fits; else NULL */
    const struct binary_loops *binary;
    /* Adds nodes for the gradients of `node`'s inputs, given those of its outputs (.node NULL: zero). Leaves .node
     * NULL for inputs without one. NULL: not differentiable. */
    enum status (*gradient)(struct graph *graph, const struct node *node, const struct output *output_gradients,
                            struct output *ret_input_gradients, struct error *error);
    size_t (*scratch_bytes)(const struct inference *inference); /* NULL: none */
    /* For ops that hold bodies: compiles, once a plan, what compute needs (sub-plans), and says how much scratch that
     * takes (scratch_bytes then does not count). NULL: nothing. `release` takes what it made, when the plan goes. */
    enum status (*prepare)(const struct inference *inference, void **ret_prepared, size_t *ret_scratch_bytes,
                           struct error *error);
    void (*release)(void *prepared);

    /* How people call it: as a build step of this name, TensorFlow's Python function; other spellings after a bar
     * ("subtract|sub"). NULL: they do not. */
    const char *call;
    const char *default_name; /* of a node made by that call ("concat"); NULL: the op's name */
    /* The arguments' names in TensorFlow's order, separated by spaces; "axis?" may be left out (`complete` says what it
     * is then), "values*" takes a list, which becomes as many inputs. "axis=reduction_indices?": people say axis, the
     * op's definition reduction_indices, and so is the constant named that is made of a number
     * ("Sum/reduction_indices"). */
    const char *arguments;
    /* What each may be and what a number given for it becomes, one letter each: T the dtype of the first T that is a
     * tensor, else of the first number (float32, whole numbers int32), and all T must agree; f the same among floats;
     * i int32, also int64; b bool; d the call's dtype attribute; A anything, by itself. NULL: all T. */
    const char *argument_types;
    const struct attribute_rule *attributes; /* NULL: none */
    /* Adds what TensorFlow's Python function computes for arguments that were left out (reduce_sum's axis). `inputs`
     * are as many as `arguments` names, .node NULL where left out. NULL: nothing may be left out. */
    enum status (*complete)(struct graph *graph, struct output *inputs, size_t input_count, struct error *error);
    /* Beside the op's name scope, as the reductions do, as far as the tensors that were given allow; inside it what
     * then is still missing. */
    bool completes_outside;
    bool returns_first; /* Python returns the first output alone */
    bool returns_list;  /* Python returns a list, even of one: split, unstack */
};

/* The row named so, or NULL. */
const struct op *op_find(const char *name);
size_t op_count(void);
const struct op *op_at(size_t index);

/* UNPROCESSABLE, ValueError "<message> for 'N' (op: 'T') with input shapes: …" in TensorFlow's form; while planning, as
 * op_run_error: InvalidArgumentError with the "[[node NAME]]" suffix. */
enum status op_shape_error(const struct inference *inference, struct error *error, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* UNPROCESSABLE, InvalidArgumentError with TensorFlow's "[[node NAME]]" suffix. */
enum status op_run_error(const struct op_run *run, struct error *error, const char *format, ...) PRINTF_LIKE(3, 4);

/* Whether a run is to stop, cancelled or out of time; and CANCELLED when it is. */
bool op_run_must_stop(const struct op_run *run);
enum status op_run_check(const struct op_run *run, struct error *error) MUST_CHECK;

/* "Dimensions must be equal, but are A and B for 'N' (op: 'T') with input shapes: [..], [..]." */
enum status op_dimensions_error(const struct inference *inference, int64_t a, int64_t b, struct error *error);

/* Checks an input's dtype and rank (rank unknown passes; SHAPE_RANK_UNKNOWN asks for none). */
enum status op_expect(const struct inference *inference, size_t input, enum dtype dtype, int rank, struct error *error);

/* The stream of a random op's numbers: its attribute seed, or, where that is below 0 or missing, its name. */
uint64_t op_random_stream(const struct op_run *run);

/* The rows, by the files that have them. */
/* clang-format off */
#define OP_ROWS_STATE(X)                                                                                            \
    X(op_const) X(op_placeholder) X(op_body_input) X(op_placeholder_with_default) X(op_variable) X(op_identity)     \
    X(op_stop_gradient) X(op_prevent_gradient) X(op_no_op) X(op_fill_like)
#define OP_ROWS_ASSIGN(X)                                                                                           \
    X(op_assign) X(op_assign_add) X(op_assign_sub) X(op_is_variable_initialized) X(op_initialized_value)
#define OP_ROWS_INITIAL(X)                                                                                          \
    X(op_initial_constant) X(op_initial_uniform) X(op_initial_normal) X(op_initial_truncated_normal)                \
    X(op_initial_orthogonal)
#define OP_ROWS_RANDOM(X)                                                                                           \
    X(op_random_uniform) X(op_random_uniform_int) X(op_random_normal) X(op_truncated_normal) X(op_multinomial)      \
    X(op_random_shuffle)
#define OP_ROWS_MATH(X)                                                                                             \
    X(op_add) X(op_add_v2) X(op_sub) X(op_mul) X(op_squared_difference) X(op_div) X(op_plain_div)                   \
    X(op_truncate_div) X(op_floor_div) X(op_mod) X(op_truncate_mod) X(op_floor_mod) X(op_minimum) X(op_maximum)     \
    X(op_pow) X(op_atan2) X(op_equal) X(op_not_equal) X(op_less) X(op_less_equal) X(op_greater)                     \
    X(op_greater_equal) X(op_logical_and) X(op_logical_or) X(op_logical_not) X(op_masked) X(op_neg) X(op_abs)       \
    X(op_sign) X(op_sqrt) X(op_rsqrt) X(op_square) X(op_reciprocal) X(op_exp) X(op_expm1) X(op_log) X(op_log1p)     \
    X(op_erf) X(op_erfc) X(op_floor) X(op_ceil) X(op_round) X(op_rint) X(op_sin) X(op_cos) X(op_tan) X(op_asin)     \
    X(op_acos) X(op_atan) X(op_sinh) X(op_cosh) X(op_is_nan) X(op_is_inf) X(op_is_finite) X(op_sigmoid)             \
    X(op_tanh) X(op_sigmoid_grad) X(op_tanh_grad) X(op_relu) X(op_relu6) X(op_relu_grad) X(op_relu6_grad)           \
    X(op_leaky_relu) X(op_leaky_relu_grad) X(op_elu) X(op_selu) X(op_elu_grad) X(op_selu_grad) X(op_softplus)       \
    X(op_softsign) X(op_cast) X(op_sum) X(op_mean) X(op_prod) X(op_max) X(op_min) X(op_all) X(op_any)               \
    X(op_kept_dimensions) X(op_prod_grad) X(op_arg_max) X(op_arg_min) X(op_cumsum) X(op_cumprod) X(op_add_n)        \
    X(op_sum_to_shape) X(op_broadcast_to) X(op_broadcast_like) X(op_global_norm) X(op_matmul) X(op_batch_matmul)    \
    X(op_batch_matmul_v2) X(op_bias_add) X(op_bias_add_grad)
#define OP_ROWS_ARRAY(X)                                                                                            \
    X(op_reshape) X(op_reshape_like) X(op_expand_dims) X(op_squeeze) X(op_shape) X(op_size) X(op_rank)              \
    X(op_concat) X(op_split_like) X(op_split) X(op_split_v) X(op_pack) X(op_unpack) X(op_slice) X(op_slice_grad)    \
    X(op_strided_slice) X(op_strided_slice_grad) X(op_transpose) X(op_invert_permutation) X(op_reverse)             \
    X(op_reverse_sequence) X(op_tile) X(op_tile_grad) X(op_pad) X(op_pad_v2) X(op_mirror_pad)                       \
    X(op_mirror_pad_grad) X(op_gather) X(op_gather_grad) X(op_one_hot) X(op_fill) X(op_zeros_like) X(op_ones_like)  \
    X(op_range) X(op_lin_space) X(op_select)
#define OP_ROWS_NN(X)                                                                                               \
    X(op_softmax) X(op_log_softmax) X(op_l2_loss) X(op_sparse_xent) X(op_sparse_xent_grad) X(op_softmax_xent)       \
    X(op_dropout) X(op_dropout_grad)
#define OP_ROWS_RECURRENCE(X)                                                                                       \
    X(op_zero_state) X(op_lstm) X(op_lstm_grad) X(op_recurrence) X(op_recurrence_grad)
#define OP_ROWS_TRAIN(X)                                                                                            \
    X(op_apply_gradient_descent) X(op_apply_momentum) X(op_apply_adagrad) X(op_apply_rmsprop)                       \
    X(op_apply_centered_rmsprop) X(op_apply_adam)
#define OP_ROWS(X)                                                                                                  \
    OP_ROWS_STATE(X) OP_ROWS_ASSIGN(X) OP_ROWS_INITIAL(X) OP_ROWS_RANDOM(X) OP_ROWS_MATH(X) OP_ROWS_ARRAY(X)        \
    OP_ROWS_NN(X) OP_ROWS_RECURRENCE(X) OP_ROWS_TRAIN(X)
/* clang-format on */

#define OP_DECLARE(row) extern const struct op row;
OP_ROWS(OP_DECLARE)
#undef OP_DECLARE

#endif

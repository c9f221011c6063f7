/* TensorFlow's optimisers as graph builders: GradientDescent, Momentum, Adam, RMSProp, Adagrad, with its slot
 * names. An optimiser is an object of its graph (OBJECT_OPTIMIZER); it adds nodes and slot variables when it is
 * applied, and keeps its slots for the next time. For one building thread.
 *
 * Equations, g the gradient, r the rate:
 *   GradientDescent  var −= r g
 *   Momentum         a = p a + g; var −= r a; Nesterov's: var −= r g + r p a
 *   Adam             m = b1 m + (1 − b1) g; v = b2 v + (1 − b2) g²; var −= r·√(1 − b2^t)/(1 − b1^t) · m/(√v + ε)
 *   RMSProp          s = d s + (1 − d) g²; a = p a + r g/√(s + ε); var −= a; s begins with initial_accumulator;
 *                    centered: c = d c + (1 − d) g, and s − c² + ε under the root
 *   Adagrad          a = a + g²; var −= r g/√a
 * Source: TensorFlow 1.15, training/optimizer.py and its subclasses, slot_creator.py. */
#ifndef ENGINE_NN_OPTIMIZER_H
#define ENGINE_NN_OPTIMIZER_H

#include "engine/graph/variable.h"

enum optimizer_kind {
    OPTIMIZER_SGD,
    OPTIMIZER_ADAM,
    OPTIMIZER_MOMENTUM,
    OPTIMIZER_RMSPROP,
    OPTIMIZER_ADAGRAD,
    OPTIMIZER_ADAMW, /* Adam's updates; what decays the weights is train_step.h's */
    OPTIMIZER_KIND_COUNT
};

/* Its name in requests: "sgd", "adam", "momentum", "rmsprop", "adagrad", "adamw". */
const char *optimizer_name(enum optimizer_kind kind);
/* TensorFlow's name of its operation: "GradientDescent". */
const char *optimizer_op_name(enum optimizer_kind kind);
/* Finds a kind by that name; false when there is none. */
bool optimizer_kind_from_name(const char *name, enum optimizer_kind *ret_kind);

/* Begin with optimizer_defaults. */
struct optimizer_options {
    enum optimizer_kind kind;
    const char *name; /* of its operation and slots; NULL: TensorFlow's: "Adam" */
    double learning_rate;
    struct output rate;         /* a tensor instead of the number; .node NULL: none */
    double beta1;               /* Adam: 0.9 */
    double beta2;               /* Adam: 0.999 */
    double epsilon;             /* Adam: 1e-8; RMSProp: 1e-10 */
    double momentum;            /* Momentum, RMSProp: 0 */
    double decay;               /* RMSProp: 0.9 */
    double initial_accumulator; /* Adagrad: 0.1; RMSProp's mean squares: 1, as TensorFlow begins, 0 as Torch does */
    bool uses_nesterov;         /* Momentum */
    bool is_centered;           /* RMSProp */
    bool has_own_slots;         /* the engine's: slots that get_variable cannot find, whatever scope is open */
};

/* TensorFlow's defaults. Only Adam's has a learning rate (0.001); of the others people must say it. */
struct optimizer_options optimizer_defaults(enum optimizer_kind kind);

/* Makes an optimiser; nothing is added to the graph's nodes yet. ValueErrors "Must specify the optimizer name",
 * "initial_accumulator_value must be positive: 0". */
enum status optimizer_create(struct graph *graph, const struct optimizer_options *options, uint32_t *ret_optimizer,
                             struct error *error) MUST_CHECK;

/* compute_gradients: the loss's gradients by the variables (NULL: all of TRAINABLE_VARIABLES; `ret_count` tells how
 * many). `ret_gradients` (.node NULL where there is none) and `ret_variables` are in the graph's arena. ValueErrors "No
 * variables to optimize.", "Invalid type tf.int32 for x:0, expected: […]."; gradient errors. */
enum status optimizer_compute_gradients(struct graph *graph, uint32_t optimizer, struct output loss,
                                        const struct variable *const *variables, size_t variable_count,
                                        const struct output **ret_gradients,
                                        const struct variable *const **ret_variables, size_t *ret_count,
                                        struct error *error) MUST_CHECK;

struct apply_options {
    const struct output *gradients; /* .node NULL: none, the variable stays as it is */
    const struct variable *const *variables;
    size_t count;
    const struct variable *global_step; /* counted up once the variables are updated; NULL: none */
    const char *name;                   /* of the operation; NULL: the optimiser's */
};

/* apply_gradients: an operation that updates the variables, in TRAIN_OP too. ValueErrors "No variables provided.", "No
 * gradients provided for any variable: […]."; what get_variable says of the slots. */
enum status optimizer_apply_gradients(struct graph *graph, uint32_t optimizer, const struct apply_options *options,
                                      struct node **ret_operation, struct error *error) MUST_CHECK;

struct minimize_options {
    struct output loss;
    const struct variable *const *variables; /* NULL: all of TRAINABLE_VARIABLES */
    size_t variable_count;
    const struct variable *global_step;
    const char *name;
};

/* minimize: both. ValueError "No gradients provided for any variable, check your graph for ops that do not support
 * gradients, between variables […] and loss …". */
enum status optimizer_minimize(struct graph *graph, uint32_t optimizer, const struct minimize_options *options,
                               struct node **ret_operation, struct error *error) MUST_CHECK;

/* get_slot: an optimiser's slot of a variable ("m", "v"; "momentum"; "rms", "mg"; "accumulator"), or NULL. */
const struct variable *optimizer_slot(const struct graph *graph, uint32_t optimizer, const struct variable *variable,
                                      const char *slot);

#endif

/* The inside of understanding Keras, for its files. */
#ifndef ENGINE_IMPORT_KERAS_PRIVATE_H
#define ENGINE_IMPORT_KERAS_PRIVATE_H

#include "engine/import/keras_design.h"
#include "engine/import/understanding_private.h"

/* A class of Keras' layers that is read. */
struct keras_class {
    const char *name;
    enum keras_part_kind kind;
    const char *activation; /* where the configuration has none */
};
/* The class of that name, or NULL. */
const struct keras_class *keras_find_class(const char *name);
/* The names of all, for people. */
void keras_list_classes(char *text, size_t bytes);

/* A class in snake case, as Keras begins the names of its layers: "spatial_dropout1d". */
void keras_write_snake(const char *class, char *name, size_t bytes);
/* How long a layer's name is without the number behind it: 4 for "lstm_1". */
size_t keras_base_length(const char *layer);
/* Whether Keras gives a layer of the class such a name: "leaky_re_lu_1", in Keras 1 "leakyrelu_1". */
bool keras_layer_is_called(const char *layer, const char *class);
/* The class whose layers have such names, or NULL. */
const struct keras_class *keras_class_of_layer(const char *layer);

/* What a tensor is to its layer. */
enum keras_role {
    KERAS_ROLE_KERNEL,
    KERAS_ROLE_RECURRENT,
    KERAS_ROLE_BIAS,
    KERAS_ROLE_GAMMA,
    KERAS_ROLE_BETA,
    KERAS_ROLE_MEAN,
    KERAS_ROLE_VARIANCE,
    KERAS_ROLE_COUNT
};

/* One direction of a layer and its tensors; those that it has not are NULL. */
enum { KERAS_GATES_MAX = 4 };
struct keras_tensors {
    const struct foreign_tensor *of[KERAS_ROLE_COUNT];
    /* Of Keras 1: kernel, recurrent kernel and bias of each gate, in the order of the gates. */
    const struct foreign_tensor *gates[KERAS_ROLE_BIAS + 1][KERAS_GATES_MAX];
    bool are_gates_apart;
};

/* Finds the tensors of a layer, `direction` being "forward" or "backward" where it is bidirectional, else NULL. */
void keras_find_tensors(const struct thinking *thinking, const struct keras_part *part, const char *direction,
                        struct keras_tensors *ret_tensors);

/* The tensor of a role, or that of its first gate; NULL: there is none. */
const struct foreign_tensor *keras_tensor_of(const struct keras_tensors *tensors, enum keras_role role);
/* Whether any weight is the layer's, also such as have no role. */
bool keras_has_tensors(const struct thinking *thinking, const struct keras_part *part);

/* Infers the design of weights alone. UNPROCESSABLE, code "ambiguous", asks for what they do not tell; UNSUPPORTED. */
enum status keras_design_infer(struct thinking *thinking, struct keras_design *ret_design) MUST_CHECK;

/* Puts the parts of a design behind its input in order, by their shapes or by the setting `layers`; those that change
 * nothing go. Errors as above. */
enum status keras_order_parts(struct thinking *thinking, struct keras_design *design) MUST_CHECK;
/* Decides what weights do not say of parts that are in order and joined: activations and the length of inputs. Errors
 * as above. */
enum status keras_decide_unsaid(struct thinking *thinking, struct keras_design *design, bool is_textgenrnn) MUST_CHECK;
/* Asks for what weights do not tell: "the order of its layers", "layers=A,B". */
enum status keras_ask(const struct thinking *thinking, const char *what, const char *how) MUST_CHECK;

/* A recurrent layer as its tensors have it. */
struct keras_recurrent {
    size_t inputs;
    size_t units;
    bool has_bias;
    bool resets_after; /* of a GRU */
    bool is_cudnn;
};

/* Sizes of a layer that reads `inputs` columns. UNPROCESSABLE where its tensors do not fit, or are missing. */
enum status keras_measure(const struct thinking *thinking, const struct keras_part *part,
                          const struct keras_tensors *tensors, size_t inputs,
                          struct keras_recurrent *ret_recurrent) MUST_CHECK;

/* Adds the variables of a layer, SCOPE/kernel and so on. */
enum status keras_add_recurrent(struct thinking *thinking, const struct keras_part *part,
                                const struct keras_tensors *tensors, const struct keras_recurrent *recurrent,
                                const char *scope) MUST_CHECK;
/* Adds SCOPE/NAME of a tensor that must have a shape. */
enum status keras_add_plain(struct thinking *thinking, const struct keras_part *part,
                            const struct foreign_tensor *tensor, const char *scope, const char *name,
                            const struct shape *shape) MUST_CHECK;

/* What a part gives in the program. */
struct keras_flow {
    bool is_there;
    bool is_sequence;
    size_t width;  /* 0: numbers of symbols */
    char name[32]; /* in the program */
    char mask[48]; /* there, of steps that recurrent layers pass over; "": none are */
};

/* The steps that build a design, and its variables. Lists are owned. */
struct keras_program {
    struct thinking *thinking;
    const struct keras_design *design;
    bool is_windowed;
    bool has_embedding;
    const struct keras_part *scores; /* the part that makes probabilities; the program makes their logits */
    json_t *layers;                  /* steps that make layers and their variables */
    json_t *calls;                   /* steps that call them, below "predict" */
    json_t *states;
    json_t *next_states;
    struct keras_flow results[KERAS_PARTS_MAX];
    bool has_failed; /* no memory */
};

/* Writes all layers down, to the scores, and says how many symbols there are. Release with keras_program_release, on
 * failure too. */
enum status keras_write_program(struct keras_program *program) MUST_CHECK;
/* The whole program, with the vocabulary and the signature; NULL: no memory. */
json_t *keras_finish_program(struct keras_program *program) MUST_CHECK;
void keras_program_release(struct keras_program *program);

/* One layer whose inputs are written; a recurrent one. */
enum status keras_write_layer(struct keras_program *program, const struct keras_part *part) MUST_CHECK;
enum status keras_write_recurrent(struct keras_program *program, const struct keras_part *part) MUST_CHECK;

/* Adds a step, which it takes over, to a list. */
void keras_add_step(struct keras_program *program, json_t *list, json_t *step);
/* The result of a part, with a name; and that of one of its inputs. */
struct keras_flow *keras_begin_result(struct keras_program *program, const struct keras_part *part);
const struct keras_flow *keras_input_of(const struct keras_program *program, const struct keras_part *part,
                                        size_t index);
/* A scope for a part's variables: its name, or a number where that is no scope's or is taken. */
enum { KERAS_SCOPE_BYTES_MAX = 96 };
void keras_choose_scope(const struct keras_program *program, const struct keras_part *part, const char *suffix,
                        char scope[KERAS_SCOPE_BYTES_MAX]);
/* Builds the program's layer for such inputs, its variables in the scope; calls it. */
void keras_build_layer(struct keras_program *program, const char *layer, const char *scope,
                       const struct keras_flow *input);
void keras_call_layer(struct keras_program *program, const char *layer, const struct keras_flow *input, const char *as);
/* The program's name for an activation; UNSUPPORTED names what is none. */
enum status keras_find_activation(const struct keras_program *program, const struct keras_part *part,
                                  const char *activation, const char **ret_name) MUST_CHECK;

#endif

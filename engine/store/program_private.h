/* The inside of the interpreter, for the files of engine/store/program*. Thread: the building one. */
#ifndef ENGINE_STORE_PROGRAM_PRIVATE_H
#define ENGINE_STORE_PROGRAM_PRIVATE_H

#include "engine/base/arena.h"
#include "engine/graph/handles.h"
#include "engine/graph/variable.h"
#include "engine/store/program.h"
#include "engine/store/tensor_json.h"

enum { STEP_PATH_BYTES_MAX = ERROR_PLACE_BYTES_MAX, CONTEXTS_MAX = 1000, LOCALS_MAX = 1024 };

enum context_kind { CONTEXT_VARIABLE_SCOPE, CONTEXT_NAME_SCOPE, CONTEXT_CONTROLS };

/* Something opened and not yet left. */
struct context {
    enum context_kind kind;
    uint32_t number;
    struct variable_scope_frame frame;
    const char *previous_name_scope;
    const struct control_list *previous_controls;
    bool keeps_controls;
};

/* A name that only the body of a cell sees. */
struct local {
    char name[HANDLE_PATH_BYTES_MAX];
    struct handle handle;
};

struct builder {
    struct graph *graph;
    const struct vocabulary *vocabulary;
    struct program_result result;
    struct origin origin;
    struct origin step_origin; /* of the step at work */
    char *request_id;
    size_t step_count;
    size_t nodes_before;  /* nodes_added counts from here */
    struct arena scratch; /* of one step; of a cell's body while that is called */
    struct context *contexts;
    size_t context_count;
    uint32_t next_context;
    unsigned char *noted; /* by variable index: whether result.variables has it */
    size_t noted_count;
    struct local *locals; /* inside a cell's body; NULL outside */
    size_t local_count;
    struct handle made; /* the result of the step at work */
    bool has_made;
    int depth;
    size_t described_count; /* items of the results that were named */
    struct error *error;    /* of the call at work; may be NULL */
};

/* A step at work. */
struct step {
    const json_t *json;
    const char *op;
    const char *path; /* "/program/2/body/0" */
};

/* Where in a step something stands: a field, then perhaps indices and fields below. */
struct place {
    const struct place *above; /* NULL: `field` is the step's path */
    const char *field;         /* NULL: `index` */
    size_t index;
};

/* The row of a step in the table of program.c. */
struct step_kind {
    const char *op;
    const char *fields; /* besides "op" and "as", separated by spaces; NULL: apply looks itself */
    enum status (*apply)(struct builder *builder, const struct step *step);
    /* Instead of apply, for steps with a body: opens. The result, if any, has been given when it returns. */
    enum status (*enter)(struct builder *builder, const struct step *step, struct context *ret_context);
};

/* Steps of one object each, and what they leave: the step's result, to be named by "as". */
void builder_give(struct builder *builder, const struct handle *handle);
void builder_give_tensor(struct builder *builder, struct output output);
/* A list, its items copied to scratch; `names` are literals, or NULL. */
enum status builder_give_list(struct builder *builder, const struct handle *items, const char *const *names,
                              size_t count) MUST_CHECK;

/* Notes in the reply that a variable was made or shared. */
enum status builder_note_variable(struct builder *builder, const struct variable *variable, bool is_new) MUST_CHECK;
/* Says what TensorFlow leaves silent. */
enum status builder_warn(struct builder *builder, const struct step *step, const char *format, ...)
    PRINTF_LIKE(3, 4) MUST_CHECK;

/* Applies the list of steps `body` of `step`. */
enum status builder_body(struct builder *builder, const json_t *body, const char *path) MUST_CHECK;

/* NO_MEMORY, said in the builder's error. */
enum status builder_no_memory(struct builder *builder);
/* Returns `status`, but when it is NO_MEMORY and no lack of memory but a maximum of ours was the reason: an error that
 * says so. */
enum status builder_explain_memory(struct builder *builder, enum status status);
/* Scratch memory, zeroed, that lives as long as the step. */
enum status builder_scratch(struct builder *builder, size_t count, size_t bytes, void *ret_memory) MUST_CHECK;

/* ---- refusing (program_values.c) ---- */

/* INVALID "/program/2/args/1: <message>", with that path as error->param. */
enum status refuse_place(struct builder *builder, const struct place *place, const char *format, ...) PRINTF_LIKE(3, 4);
enum status refuse_field(struct builder *builder, const struct step *step, const char *field, const char *message);
/* INVALID, a Python exception about `place`: the message is TensorFlow's, the path only in error->param. */
enum status raise_place(struct builder *builder, const struct place *place, enum exception exception,
                        const char *format, ...) PRINTF_LIKE(4, 5);
/* Adds the path of `place` to an error that has none. */
enum status at_place(struct builder *builder, const struct place *place, enum status status);
/* Whether a result may be called so: text without "." and ":", not empty, shorter than HANDLE_PATH_BYTES_MAX. */
bool is_result_name(const json_t *json);
/* Whether `key` is in a list of words separated by spaces. */
bool word_is_in(const char *key, const char *words);
enum status check_fields(struct builder *builder, const struct step *step, const char *fields) MUST_CHECK;

/* ---- reading fields (program_values.c). A field that is not there leaves `ret_…` as it was. ---- */

/* A string. */
enum status read_text(struct builder *builder, const struct step *step, const char *field,
                      const char **ret_text) MUST_CHECK;
/* A string that must be there. */
enum status need_text(struct builder *builder, const struct step *step, const char *field,
                      const char **ret_text) MUST_CHECK;
/* true or false. */
enum status read_flag(struct builder *builder, const struct step *step, const char *field, bool *ret_flag) MUST_CHECK;
/* A number, whole or not. */
enum status read_number(struct builder *builder, const struct step *step, const char *field,
                        double *ret_number) MUST_CHECK;
/* A whole number from `least` to `most`. */
enum status read_whole(struct builder *builder, const struct step *step, const char *field, int64_t least, int64_t most,
                       int64_t *ret_number) MUST_CHECK;
enum status read_dtype(struct builder *builder, const struct step *step, const char *field, bool *ret_has,
                       enum dtype *ret_dtype) MUST_CHECK;
enum status read_shape(struct builder *builder, const struct step *step, const char *field, bool *ret_has,
                       struct shape *ret_shape) MUST_CHECK;
enum status read_reuse(struct builder *builder, const struct step *step, enum reuse *ret_reuse) MUST_CHECK;
enum status read_initializer(struct builder *builder, const struct step *step, const char *field,
                             struct initializer *ret_initializer) MUST_CHECK;
enum status read_regularizer(struct builder *builder, const struct step *step, const char *field,
                             struct regularizer *ret_regularizer) MUST_CHECK;

/* ---- reading values (program_handles.c) ---- */

/* What a string means: a result's name or dotted path, "name=x:0" or "x:0" a tensor of the graph, or an operation's
 * name. ValueError naming it otherwise. */
enum status read_handle(struct builder *builder, const json_t *json, const struct place *place,
                        const struct handle **ret_handle) MUST_CHECK;
enum status read_handle_field(struct builder *builder, const struct step *step, const char *field,
                              const struct handle **ret_handle) MUST_CHECK;
/* What a handle's kind is called in messages: "a tensor". */
extern const char *const handle_kind_words[];
/* The tensor a handle stands for: of a variable, what reading it gives. TypeError naming the place. */
enum status handle_as_tensor(struct builder *builder, const struct handle *handle, const struct place *place,
                             struct output *ret_output) MUST_CHECK;
enum status handle_as_node(struct builder *builder, const struct handle *handle, const struct place *place,
                           struct node **ret_node) MUST_CHECK;
enum status read_tensor(struct builder *builder, const json_t *json, const struct place *place,
                        struct output *ret_output) MUST_CHECK;
/* The same of a field; .node NULL: not there. */
enum status read_tensor_field(struct builder *builder, const struct step *step, const char *field,
                              struct output *ret_output) MUST_CHECK;
enum status need_tensor_field(struct builder *builder, const struct step *step, const char *field,
                              struct output *ret_output) MUST_CHECK;
/* A list of strings, or one that stands for a list or for one; handles in scratch. */
enum status read_handles(struct builder *builder, const json_t *json, const struct place *place,
                         const struct handle **ret_handles, size_t *ret_count) MUST_CHECK;
enum status read_tensors(struct builder *builder, const json_t *json, const struct place *place,
                         struct output **ret_outputs, size_t *ret_count) MUST_CHECK;
/* The same where None may stand in the list: .node NULL. */
enum status read_tensors_and_none(struct builder *builder, const json_t *json, const struct place *place,
                                  struct output **ret_outputs, size_t *ret_count) MUST_CHECK;
enum status read_nodes(struct builder *builder, const json_t *json, const struct place *place, struct node ***ret_nodes,
                       size_t *ret_count) MUST_CHECK;
enum status need_variable(struct builder *builder, const struct step *step, const char *field,
                          const struct variable **ret_variable) MUST_CHECK;
enum status read_variables(struct builder *builder, const json_t *json, const struct place *place,
                           const struct variable ***ret_variables, size_t *ret_count) MUST_CHECK;
enum status need_object(struct builder *builder, const struct step *step, const char *field, enum object_kind kind,
                        uint32_t *ret_id) MUST_CHECK;
/* "get_variable", "scope" …: a VariableScope by a string's handle; null or absent: the current one. */
enum status read_scope(struct builder *builder, const struct step *step, const char *field,
                       uint32_t *ret_scope) MUST_CHECK;
/* A number, nested list or tensor object as a tensor in scratch. Without has_dtype its natural one: bool, int32 (int64
 * when it does not fit), float64. */
enum status read_value(struct builder *builder, const json_t *json, const struct place *place, bool has_dtype,
                       enum dtype dtype, struct tensor *ret_tensor) MUST_CHECK;
/* As Python numbers become tensors where nothing else is said: float64 to float32. */
enum status read_python_value(struct builder *builder, const json_t *json, const struct place *place,
                              struct tensor *ret_tensor) MUST_CHECK;

/* The same as `dtype` where it is given: TypeError "Expected int32, got 1.5 of type 'float' instead.". */
enum status read_constant_value(struct builder *builder, const json_t *json, const struct place *place, bool has_dtype,
                                enum dtype dtype, struct tensor *ret_tensor) MUST_CHECK;

/* ---- cells (program_cells.c) ---- */

/* The result that is a cell; its object's number. */
enum status need_cell(struct builder *builder, const struct step *step, const char *field,
                      uint32_t *ret_cell) MUST_CHECK;
/* A cell's state in its structure: a result, a list, or an object of names; flat, in scratch. NULL: not there. */
enum status read_state(struct builder *builder, const struct step *step, const char *field, uint32_t cell,
                       const struct output **ret_states) MUST_CHECK;
/* "scope": a name or {"scope":a scope's name}. `*ret_set` is left alone when it is not there. */
enum status read_scope_options(struct builder *builder, const struct step *step,
                               struct variable_scope_options *ret_options,
                               const struct variable_scope_options **ret_set) MUST_CHECK;

/* Field "vocabulary", which becomes what the program gives the model; and, at the end of such a step, CONFLICT, code
 * "vocabulary_exists", where the model has another one. */
enum status take_vocabulary(struct builder *builder, const struct step *step) MUST_CHECK;
enum status check_vocabulary(struct builder *builder) MUST_CHECK;

/* ---- the families' rows; each list ends with a row without op ---- */
extern const struct step_kind program_scope_steps[];
extern const struct step_kind program_variable_steps[];
extern const struct step_kind program_function_steps[];
extern const struct step_kind program_collection_steps[];
extern const struct step_kind program_cell_steps[];
extern const struct step_kind program_recurrence_steps[];
extern const struct step_kind program_training_steps[];
extern const struct step_kind program_saver_steps[];
extern const struct step_kind program_keras_steps[];
extern const struct step_kind program_model_steps[];

/* A step that is the call of a function by its Python name. */
enum status apply_function(struct builder *builder, const struct step *step) MUST_CHECK;

#endif

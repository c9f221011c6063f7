/* get_variable. Thread: the building one; everything made belongs to the graph.
 * Source: TensorFlow 1.15, variable_scope.py (VariableScope.get_variable, _VariableStore._get_single_variable). */
#include "engine/graph/variable.h"

#include "engine/graph/function.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/variable_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a variable");
}

/* What a call asks for once the scope's defaults are filled in. */
struct request {
    const char *key; /* the full name: what the store knows it by */
    struct initializer initializer;
    struct regularizer regularizer;
    bool has_shape;
    struct shape shape;
    enum dtype dtype;
    const struct variable_options *options;
};

/* ---- refusing ---- */

/* Adds what programs want to know of a variable that is in the way. */
static enum status refuse_sharing(struct error *error, const struct variable *variable, const char *key,
                                  enum status status, const char *code)
{
    if (error == NULL) {
        return status;
    }
    error_code(error, code);
    snprintf(error->variable, sizeof error->variable, "%s", key);
    if (variable != NULL && variable->origin.program > 0) {
        error->origin = (struct error_origin){.program = variable->origin.program, .at = variable->origin.at};
        snprintf(error->origin.step, sizeof error->origin.step, "%s", variable->origin.step);
        if (variable->origin.request_id != NULL) {
            snprintf(error->origin.request_id, sizeof error->origin.request_id, "%s", variable->origin.request_id);
        }
    }
    return status;
}

static enum status refuse_existing(const struct variable *variable, const char *key, struct error *error)
{
    char origin[ERROR_PLACE_BYTES_MAX];
    if (variable->origin.program > 0) {
        snprintf(origin, sizeof origin, "program %u, %s (%s)", variable->origin.program, variable->origin.step,
                 variable->origin.op);
    } else {
        snprintf(origin, sizeof origin, "%s", variable->origin.op);
    }
    error_raise(
        error, STATUS_CONFLICT, EXCEPTION_VALUE,
        "Variable %s already exists, disallowed. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE in VarScope? "
        "Originally defined at:\n\n  %s",
        key, origin);
    refuse_sharing(error, variable, key, STATUS_CONFLICT, "variable_exists");
    if (error != NULL) {
        snprintf(error->hint, sizeof error->hint,
                 "to share it, put both in {\"op\":\"variable_scope\",\"name\":…,\"reuse\":\"auto\"}");
    }
    return STATUS_CONFLICT;
}

static enum status refuse_missing(const char *key, struct error *error)
{
    error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                "Variable %s does not exist, or was not created with tf.get_variable(). Did you mean to set "
                "reuse=tf.AUTO_REUSE in VarScope?",
                key);
    return refuse_sharing(error, NULL, key, STATUS_UNPROCESSABLE, "variable_missing");
}

/* ---- the checks, in TensorFlow's order ---- */

/* An explicit dtype against that of a constant. TensorFlow makes a tensor of the constant to see, which takes the name
 * "Const". */
static enum status check_initializer_dtype(struct graph *graph, const struct variable_options *options,
                                           struct error *error)
{
    const struct initializer *initializer = &options->initializer;
    if (!options->has_dtype || !initializer_is_value(initializer)) {
        return STATUS_OK;
    }
    if (initializer_dtype(initializer) != options->dtype) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Initializer type '<dtype: '%s'>' and explicit dtype '<dtype: '%s'>' don't match.",
                           dtype_name(initializer_dtype(initializer)), dtype_name(options->dtype));
    }
    const char *name = NULL;
    return initializer->kind == INITIALIZER_VALUE ? graph_unique_name(graph, "Const", &name, error) : STATUS_OK;
}

static enum status check_sharing(const struct variable *variable, const struct request *request, struct error *error)
{
    const struct output_type *found = &variable->node->outputs[0];
    if (request->has_shape && !shape_is_compatible(&request->shape, &found->shape)) {
        char wanted_text[SHAPE_TEXT_BYTES_MAX];
        char found_text[SHAPE_TEXT_BYTES_MAX];
        error_raise(error, STATUS_CONFLICT, EXCEPTION_VALUE,
                    "Trying to share variable %s, but specified shape %s and found shape %s.", request->key,
                    shape_text(&request->shape, wanted_text), shape_text(&found->shape, found_text));
        return refuse_sharing(error, variable, request->key, STATUS_CONFLICT, "variable_shape");
    }
    if (request->dtype != found->dtype) {
        error_raise(error, STATUS_CONFLICT, EXCEPTION_VALUE,
                    "Trying to share variable %s, but specified dtype %s and found dtype %s_ref.", request->key,
                    dtype_name(request->dtype), dtype_name(found->dtype));
        return refuse_sharing(error, variable, request->key, STATUS_CONFLICT, "variable_dtype");
    }
    return STATUS_OK;
}

/* Whether the initializer can do with what is known of the shape. */
static enum status check_initializer(const struct request *request, struct error *error)
{
    const struct initializer *initializer = &request->initializer;
    bool is_known = request->has_shape && shape_is_fully_known(&request->shape);
    bool is_callable = initializer->kind == INITIALIZER_CALLABLE;
    if (initializer->kind == INITIALIZER_DEFAULT && request->dtype == DTYPE_COMPLEX64) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "An initializer for variable %s of <dtype: '%s'> is required", request->key,
                           dtype_name(request->dtype));
    }
    if (!initializer_is_value(initializer) && !is_known && (!is_callable || initializer->takes_arguments)) {
        return error_raise(
            error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
            "The initializer passed is not valid. It should be a callable with no arguments and the shape should not "
            "be provided or an instance of `tf.keras.initializers.*' and `shape` should be fully defined.");
    }
    if (is_callable && is_known && !initializer->takes_arguments) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_TYPE,
                           "<lambda>() got an unexpected keyword argument 'dtype'");
    }
    struct output_type type = {request->dtype, request->shape};
    return output_type_check_size(&type, request->key, error);
}

/* ---- regularizers ---- */

/* mean(v) + a; a·Σ|v|; a·Σv²/2. Inside full/Regularizer/. */
static enum status add_loss(struct graph *graph, const struct regularizer *regularizer, struct output value,
                            struct output *ret_loss, struct error *error)
{
    struct output reduced;
    struct output amount;
    enum dtype dtype = output_type(value)->dtype;
    if (regularizer->kind == REGULARIZER_MEAN_PLUS) {
        TRY(graph_call_tensors(graph, "reduce_mean", NULL, &value, 1, &reduced, error));
        TRY(graph_add_number(graph, "add/y", dtype, regularizer->amount, &amount, error));
        struct output terms[] = {reduced, amount};
        return graph_add(graph, "Add", "add", terms, 2, ret_loss, error);
    }
    bool is_l1 = regularizer->kind == REGULARIZER_L1;
    const char *previous = NULL;
    TRY(graph_enter_name_scope(graph, is_l1 ? "l1_regularizer" : "l2_regularizer", &previous, error));
    TRY(graph_add_number(graph, "scale", dtype, regularizer->amount, &amount, error));
    if (is_l1) {
        struct output magnitude;
        TRY(graph_call_tensors(graph, "abs", NULL, &value, 1, &magnitude, error));
        TRY(graph_call_tensors(graph, "reduce_sum", NULL, &magnitude, 1, &reduced, error));
    } else {
        TRY(graph_call_tensors(graph, "l2_loss", NULL, &value, 1, &reduced, error));
    }
    char name[GRAPH_NAME_BYTES_MAX + 2];
    snprintf(name, sizeof name, "%s/", graph_name_scope(graph));
    struct output factors[] = {amount, reduced};
    TRY(graph_add(graph, "Mul", name, factors, 2, ret_loss, error));
    graph_leave_name_scope(graph, previous);
    return STATUS_OK;
}

static enum status regularize(struct graph *graph, const struct request *request, const struct variable *variable,
                              struct error *error)
{
    const struct regularizer *regularizer = &request->regularizer;
    bool is_off = regularizer->kind == REGULARIZER_INHERIT || regularizer->kind == REGULARIZER_NONE ||
                  (regularizer->kind != REGULARIZER_MEAN_PLUS && regularizer->amount == 0);
    if (is_off) {
        return STATUS_OK;
    }
    char name[GRAPH_NAME_BYTES_MAX * 2];
    const char *previous = NULL;
    struct output loss;
    snprintf(name, sizeof name, "%s/Regularizer/", request->key);
    TRY(graph_enter_name_scope(graph, name, &previous, error));
    struct body_builder *body = graph_suspend_body(graph);
    enum status status = add_loss(graph, regularizer, variable->read, &loss, error);
    graph_resume_body(graph, body);
    graph_leave_name_scope(graph, previous);
    TRY(status);
    struct handle handle = handle_tensor(loss);
    return graph_add_to_collection(graph, COLLECTION_REGULARIZATION_LOSSES, &handle, error);
}

/* ---- the store ---- */

/* The name scope is the root. */
static enum status create(struct graph *graph, const struct request *request, const struct variable **ret_variable,
                          struct error *error)
{
    const struct variable_options *options = request->options;
    bool is_value = initializer_is_value(&request->initializer);
    bool is_shaped = request->has_shape && shape_is_fully_known(&request->shape);
    TRY(check_initializer(request, error));
    struct variable_plan plan = {.name = request->key,
                                 .store_key = request->key,
                                 .initializer = &request->initializer,
                                 .shape = request->shape,
                                 .has_dtype = !is_value && is_shaped,
                                 .dtype = request->dtype,
                                 .is_trainable = options->trainable == TRAINABLE_YES ||
                                                 (options->trainable == TRAINABLE_DEFAULT && !options->is_on_read),
                                 .is_slot = options->is_slot,
                                 .collections = options->collections,
                                 .collection_count = options->collection_count};
    TRY(variable_create(graph, &plan, ret_variable, error));
    struct name_count *entry = name_counts_add(&graph->store, request->key);
    if (entry == NULL) {
        return no_memory(error);
    }
    entry->count = (*ret_variable)->index;
    return regularize(graph, request, *ret_variable, error);
}

/* Fetches or creates, with the name scope reset to the root. */
static enum status get_or_create(struct graph *graph, const struct request *request,
                                 const struct variable **ret_variable, bool *ret_is_new, struct error *error)
{
    enum reuse reuse = variable_scope_reuse(graph);
    if (request->has_shape && initializer_is_value(&request->initializer)) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "If initializer is a constant, do not specify shape.");
    }
    const struct name_count *entry = name_counts_find(&graph->store, request->key);
    *ret_is_new = entry == NULL;
    if (entry == NULL) {
        return reuse == REUSE_TRUE ? refuse_missing(request->key, error) : create(graph, request, ret_variable, error);
    }
    *ret_variable = graph_variable(graph, entry->count);
    return reuse == REUSE_INHERIT ? refuse_existing(*ret_variable, request->key, error)
                                  : check_sharing(*ret_variable, request, error);
}

enum status get_variable(struct graph *graph, const struct variable_options *options,
                         const struct variable **ret_variable, bool *ret_is_new, struct error *error)
{
    const struct variable_scope *scope = variable_scope_at(graph, variable_scope_current(graph));
    struct request request = {
        .initializer = options->initializer.kind == INITIALIZER_DEFAULT ? scope->initializer : options->initializer,
        .regularizer = options->regularizer.kind == REGULARIZER_INHERIT ? scope->regularizer : options->regularizer,
        .has_shape = options->has_shape || options->shape.rank > 0,
        .shape = options->shape,
        .dtype = options->has_dtype ? options->dtype : scope->dtype,
        .options = options};
    request.key =
        arena_format(graph_arena(graph), "%s%s%s", scope->name, scope->name[0] == '\0' ? "" : "/", options->name);
    if (request.key == NULL) {
        return no_memory(error);
    }
    const struct variable *variable = NULL;
    const char *previous = NULL;
    bool is_new = false;
    TRY(graph_enter_name_scope(graph, NULL, &previous, error));
    enum status status = check_initializer_dtype(graph, options, error);
    if (status == STATUS_OK) {
        status = get_or_create(graph, &request, &variable, &is_new, error);
    }
    graph_leave_name_scope(graph, previous);
    TRY(status);
    if (!is_new) {
        TRY(graph_note_use(graph, variable->index, error));
    }
    *ret_variable = variable;
    if (ret_is_new != NULL) {
        *ret_is_new = is_new;
    }
    return STATUS_OK;
}

enum { LOCAL_COLLECTIONS_MAX = 64 };

enum status get_local_variable(struct graph *graph, const struct variable_options *options,
                               const struct variable **ret_variable, bool *ret_is_new, struct error *error)
{
    const char *collections[LOCAL_COLLECTIONS_MAX];
    struct variable_options local = *options;
    if (options->collection_count >= LOCAL_COLLECTIONS_MAX) {
        return error_set(error, STATUS_LIMIT, "a local variable in %zu collections, at most %d",
                         options->collection_count, LOCAL_COLLECTIONS_MAX - 1);
    }
    for (size_t i = 0; i < options->collection_count; i++) {
        collections[i] = options->collections[i];
    }
    collections[options->collection_count] = COLLECTION_LOCAL_VARIABLES;
    local.collections = collections;
    local.collection_count = options->collection_count + 1;
    local.trainable = TRAINABLE_NO;
    return get_variable(graph, &local, ret_variable, ret_is_new, error);
}

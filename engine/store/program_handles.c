/* What the strings, numbers and lists in a step mean: results by name, tensors of the graph, values. Thread: the
 * building one. Owns nothing; what is handed out lives in scratch or in the graph. */
#include <math.h>

#include "engine/store/program_private.h"
#include "engine/store/tensor_json.h"

/* ---- handles ---- */

/* What the first name of a dotted path means: inside a cell's body, its own names come first. */
static const struct handle *find_result(const struct builder *builder, const char *path)
{
    size_t length = strcspn(path, ".");
    for (size_t i = builder->local_count; i > 0; i--) {
        const struct local *local = &builder->locals[i - 1];
        if (strncmp(local->name, path, length) == 0 && local->name[length] == '\0') {
            return handle_part(&local->handle, path + length);
        }
    }
    return graph_find_handle(builder->graph, path);
}

/* A tensor or operation of the graph, as a handle in scratch. */
static enum status find_in_graph(struct builder *builder, const char *text, const struct place *place,
                                 const struct handle **ret_handle)
{
    struct handle *handle = NULL;
    TRY(builder_scratch(builder, 1, sizeof *handle, &handle));
    if (strchr(text, ':') != NULL) {
        struct output output;
        TRY(at_place(builder, place, graph_find_output(builder->graph, text, &output, builder->error)));
        *handle = handle_tensor(output);
    } else {
        struct node *node = graph_find_node(builder->graph, text);
        if (node == NULL) {
            raise_place(builder, place, EXCEPTION_VALUE,
                        "'%.120s' is neither a result named by \"as\" nor a tensor (\"name:0\") or operation of "
                        "the graph.",
                        text);
            return STATUS_INVALID;
        }
        *handle = handle_operation(node);
    }
    *ret_handle = handle;
    return STATUS_OK;
}

enum status read_handle(struct builder *builder, const json_t *json, const struct place *place,
                        const struct handle **ret_handle)
{
    const char *text = json_string_value(json);
    if (text == NULL && json_is_object(json) && json_object_size(json) == 1) {
        text = json_string_value(json_object_get(json, "tensor"));
    }
    if (text == NULL) {
        refuse_place(builder, place, "must name a result, or a tensor (\"name:0\") of the graph");
        return STATUS_INVALID;
    }
    bool is_graph_name = strncmp(text, "name=", 5) == 0;
    const struct handle *handle = is_graph_name ? NULL : find_result(builder, text);
    if (handle != NULL) {
        *ret_handle = handle;
        return STATUS_OK;
    }
    return find_in_graph(builder, is_graph_name ? text + 5 : text, place, ret_handle);
}

enum status read_handle_field(struct builder *builder, const struct step *step, const char *field,
                              const struct handle **ret_handle)
{
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    const json_t *json = json_object_get(step->json, field);
    return json == NULL || json_is_null(json) ? STATUS_OK : read_handle(builder, json, &place, ret_handle);
}

const char *const handle_kind_words[] = {
    [HANDLE_NONE] = "None",
    [HANDLE_TENSOR] = "a tensor",
    [HANDLE_OPERATION] = "an operation",
    [HANDLE_VARIABLE] = "a variable",
    [HANDLE_OBJECT] = "a scope, cell or other object",
    [HANDLE_TEXT] = "a text",
    [HANDLE_LIST] = "a list",
};

enum status handle_as_tensor(struct builder *builder, const struct handle *handle, const struct place *place,
                             struct output *ret_output)
{
    if (handle->kind == HANDLE_TENSOR) {
        *ret_output = handle->output;
        return STATUS_OK;
    }
    if (handle->kind == HANDLE_VARIABLE) {
        *ret_output = handle->variable->read;
        return STATUS_OK;
    }
    if (handle->kind == HANDLE_OPERATION && handle->node->output_count == 1) {
        *ret_output = (struct output){handle->node, 0};
        return STATUS_OK;
    }
    return raise_place(builder, place, EXCEPTION_TYPE, "Cannot convert %s to a Tensor.",
                       handle_kind_words[handle->kind]);
}

enum status handle_as_node(struct builder *builder, const struct handle *handle, const struct place *place,
                           struct node **ret_node)
{
    switch (handle->kind) {
    case HANDLE_OPERATION: *ret_node = handle->node; return STATUS_OK;
    case HANDLE_TENSOR: *ret_node = handle->output.node; return STATUS_OK;
    case HANDLE_VARIABLE: *ret_node = handle->variable->read.node; return STATUS_OK;
    case HANDLE_NONE:
    case HANDLE_OBJECT:
    case HANDLE_TEXT:
    case HANDLE_LIST: break;
    }
    return raise_place(builder, place, EXCEPTION_TYPE, "Cannot convert %s to an Operation.",
                       handle_kind_words[handle->kind]);
}

/* ---- one tensor, many tensors ---- */

enum status read_tensor(struct builder *builder, const json_t *json, const struct place *place,
                        struct output *ret_output)
{
    const struct handle *handle = NULL;
    TRY(read_handle(builder, json, place, &handle));
    return handle_as_tensor(builder, handle, place, ret_output);
}

enum status read_tensor_field(struct builder *builder, const struct step *step, const char *field,
                              struct output *ret_output)
{
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    const json_t *json = json_object_get(step->json, field);
    return json == NULL || json_is_null(json) ? STATUS_OK : read_tensor(builder, json, &place, ret_output);
}

enum status need_tensor_field(struct builder *builder, const struct step *step, const char *field,
                              struct output *ret_output)
{
    const json_t *json = json_object_get(step->json, field);
    if (json == NULL || json_is_null(json)) {
        return refuse_field(builder, step, field, "must be given: a tensor's name");
    }
    return read_tensor_field(builder, step, field, ret_output);
}

enum status read_handles(struct builder *builder, const json_t *json, const struct place *place,
                         const struct handle **ret_handles, size_t *ret_count)
{
    if (!json_is_array(json)) {
        const struct handle *handle = NULL;
        TRY(read_handle(builder, json, place, &handle));
        *ret_handles = handle->kind == HANDLE_LIST ? handle->items : handle;
        *ret_count = handle->kind == HANDLE_LIST ? handle->count : 1;
        return STATUS_OK;
    }
    struct handle *handles = NULL;
    size_t count = json_array_size(json);
    if (count > HANDLE_ITEMS_MAX) {
        return refuse_place(builder, place, "has %zu items, at most %d", count, HANDLE_ITEMS_MAX);
    }
    TRY(builder_scratch(builder, count, sizeof *handles, &handles));
    for (size_t i = 0; i < count; i++) {
        struct place item = {.above = place, .index = i};
        const struct handle *handle = NULL;
        if (json_is_null(json_array_get(json, i))) {
            continue; /* None */
        }
        TRY(read_handle(builder, json_array_get(json, i), &item, &handle));
        handles[i] = *handle;
    }
    *ret_handles = handles;
    *ret_count = count;
    return STATUS_OK;
}

static enum status read_outputs(struct builder *builder, const json_t *json, const struct place *place, bool takes_none,
                                struct output **ret_outputs, size_t *ret_count)
{
    const struct handle *handles = NULL;
    struct output *outputs = NULL;
    size_t count = 0;
    TRY(read_handles(builder, json, place, &handles, &count));
    TRY(builder_scratch(builder, count, sizeof *outputs, &outputs));
    for (size_t i = 0; i < count; i++) {
        struct place item = {.above = place, .index = i};
        if (handles[i].kind != HANDLE_NONE || !takes_none) {
            TRY(handle_as_tensor(builder, &handles[i], json_is_array(json) ? &item : place, &outputs[i]));
        }
    }
    *ret_outputs = outputs;
    *ret_count = count;
    return STATUS_OK;
}

enum status read_tensors(struct builder *builder, const json_t *json, const struct place *place,
                         struct output **ret_outputs, size_t *ret_count)
{
    return read_outputs(builder, json, place, false, ret_outputs, ret_count);
}

enum status read_tensors_and_none(struct builder *builder, const json_t *json, const struct place *place,
                                  struct output **ret_outputs, size_t *ret_count)
{
    return read_outputs(builder, json, place, true, ret_outputs, ret_count);
}

enum status read_nodes(struct builder *builder, const json_t *json, const struct place *place, struct node ***ret_nodes,
                       size_t *ret_count)
{
    const struct handle *handles = NULL;
    struct node **nodes = NULL;
    size_t count = 0;
    TRY(read_handles(builder, json, place, &handles, &count));
    TRY(builder_scratch(builder, count, sizeof(struct node *), &nodes));
    for (size_t i = 0; i < count; i++) {
        struct place item = {.above = place, .index = i};
        TRY(handle_as_node(builder, &handles[i], json_is_array(json) ? &item : place, &nodes[i]));
    }
    *ret_nodes = nodes;
    *ret_count = count;
    return STATUS_OK;
}

/* ---- variables, scopes, other objects ---- */

/* The variable a handle stands for, also by its state's or operation's name; NULL: none. */
static const struct variable *handle_as_variable(const struct builder *builder, const struct handle *handle)
{
    switch (handle->kind) {
    case HANDLE_VARIABLE: return handle->variable;
    case HANDLE_TENSOR: return graph_variable_of_node(builder->graph, handle->output.node);
    case HANDLE_OPERATION: return graph_variable_of_node(builder->graph, handle->node);
    case HANDLE_NONE:
    case HANDLE_OBJECT:
    case HANDLE_TEXT:
    case HANDLE_LIST: break;
    }
    return NULL;
}

enum status need_variable(struct builder *builder, const struct step *step, const char *field,
                          const struct variable **ret_variable)
{
    const struct handle *handle = NULL;
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    TRY(read_handle_field(builder, step, field, &handle));
    const struct variable *variable = handle == NULL ? NULL : handle_as_variable(builder, handle);
    if (variable == NULL) {
        return refuse_place(builder, &place, "must name a variable");
    }
    *ret_variable = variable;
    return STATUS_OK;
}

enum status read_variables(struct builder *builder, const json_t *json, const struct place *place,
                           const struct variable ***ret_variables, size_t *ret_count)
{
    const struct handle *handles = NULL;
    const struct variable **variables = NULL;
    size_t count = 0;
    TRY(read_handles(builder, json, place, &handles, &count));
    TRY(builder_scratch(builder, count, sizeof(const struct variable *), &variables));
    for (size_t i = 0; i < count; i++) {
        struct place item = {.above = place, .index = i};
        variables[i] = handle_as_variable(builder, &handles[i]);
        if (variables[i] == NULL) {
            return refuse_place(builder, json_is_array(json) ? &item : place, "must name a variable");
        }
    }
    *ret_variables = variables;
    *ret_count = count;
    return STATUS_OK;
}

static const char *const object_words[] = {
    [OBJECT_SCOPE] = "a variable scope", [OBJECT_CELL] = "a cell",   [OBJECT_OPTIMIZER] = "an optimizer",
    [OBJECT_SAVER] = "a saver",          [OBJECT_LAYER] = "a layer",
};

enum status need_object(struct builder *builder, const struct step *step, const char *field, enum object_kind kind,
                        uint32_t *ret_id)
{
    const struct handle *handle = NULL;
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    TRY(read_handle_field(builder, step, field, &handle));
    if (handle == NULL || handle->kind != HANDLE_OBJECT || handle->object_kind != kind) {
        return refuse_place(builder, &place, "must name %s", object_words[kind]);
    }
    *ret_id = handle->object_id;
    return STATUS_OK;
}

enum status read_scope(struct builder *builder, const struct step *step, const char *field, uint32_t *ret_scope)
{
    const json_t *json = json_object_get(step->json, field);
    *ret_scope = variable_scope_current(builder->graph);
    return json == NULL || json_is_null(json) ? STATUS_OK : need_object(builder, step, field, OBJECT_SCOPE, ret_scope);
}

/* ---- values ---- */

enum leaves { LEAVES_BOOL, LEAVES_INT32, LEAVES_INT64, LEAVES_FLOAT };

/* The widest of the numbers in nested lists; ragged and too deep ones are found when they are read. */
static enum leaves widest_leaf(const json_t *json, int depth)
{
    enum leaves widest = LEAVES_BOOL;
    if (!json_is_array(json)) {
        json_int_t whole = json_integer_value(json);
        return json_is_boolean(json)                    ? LEAVES_BOOL
               : !json_is_integer(json)                 ? LEAVES_FLOAT
               : whole < INT32_MIN || whole > INT32_MAX ? LEAVES_INT64
                                                        : LEAVES_INT32;
    }
    size_t count = depth > SHAPE_RANK_MAX ? 0 : json_array_size(json);
    for (size_t i = 0; i < count; i++) {
        enum leaves leaf = widest_leaf(json_array_get(json, i), depth + 1);
        widest = leaf > widest ? leaf : widest;
    }
    return count == 0 ? LEAVES_FLOAT : widest;
}

static enum dtype natural_dtype(const json_t *json)
{
    static const enum dtype dtypes[] = {[LEAVES_BOOL] = DTYPE_BOOL,
                                        [LEAVES_INT32] = DTYPE_INT32,
                                        [LEAVES_INT64] = DTYPE_INT64,
                                        [LEAVES_FLOAT] = DTYPE_FLOAT64};
    return dtypes[widest_leaf(json, 0)];
}

enum status read_value(struct builder *builder, const json_t *json, const struct place *place, bool has_dtype,
                       enum dtype dtype, struct tensor *ret_tensor)
{
    struct tensor tensor = {.data = NULL};
    if (json == NULL || json_is_null(json)) {
        return raise_place(builder, place, EXCEPTION_VALUE, "None values not supported.");
    }
    if (!has_dtype) {
        const char *said = json_string_value(json_object_get(json, "dtype"));
        if (json_is_object(json) && (said == NULL || !dtype_from_name(said, &dtype))) {
            return refuse_place(builder, place, "a tensor object has \"dtype\", \"shape\" and \"data\" or \"base64\"");
        }
        dtype = json_is_object(json) ? dtype : natural_dtype(json);
    }
    TRY(at_place(builder, place, tensor_from_json(json, dtype, &tensor, builder->error)));
    void *copy = arena_copy(&builder->scratch, tensor.data, tensor_bytes(&tensor), 1);
    *ret_tensor = tensor;
    ret_tensor->data = copy;
    tensor_release(&tensor);
    return copy == NULL ? builder_no_memory(builder) : STATUS_OK;
}

enum status read_python_value(struct builder *builder, const json_t *json, const struct place *place,
                              struct tensor *ret_tensor)
{
    bool is_float =
        !json_is_object(json) && json != NULL && !json_is_null(json) && natural_dtype(json) == DTYPE_FLOAT64;
    return read_value(builder, json, place, is_float, DTYPE_FLOAT32, ret_tensor);
}

/* The first number in nested lists that `dtype` cannot be made of, as TensorFlow checks it; NULL: none. */
static const json_t *find_unfit(const json_t *json, enum dtype dtype, int depth)
{
    if (json_is_array(json)) {
        const json_t *unfit = NULL;
        for (size_t i = 0; unfit == NULL && depth < SHAPE_RANK_MAX && i < json_array_size(json); i++) {
            unfit = find_unfit(json_array_get(json, i), dtype, depth + 1);
        }
        return unfit;
    }
    bool is_fit = dtype == DTYPE_BOOL       ? json_is_boolean(json)
                  : dtype_is_integer(dtype) ? json_is_integer(json)
                                            : json_is_number(json) || json_is_string(json);
    return is_fit ? NULL : json;
}

static enum status check_fit(struct builder *builder, const json_t *value, enum dtype dtype, const struct place *place)
{
    const json_t *unfit = json_is_object(value) ? NULL : find_unfit(value, dtype, 0);
    if (unfit == NULL) {
        return STATUS_OK;
    }
    char *text = json_dumps(unfit, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(12));
    bool is_boolean = json_is_boolean(unfit);
    enum status status = raise_place(builder, place, EXCEPTION_TYPE, "Expected %s, got %.60s of type '%s' instead.",
                                     dtype_name(dtype), is_boolean ? (json_is_true(unfit) ? "True" : "False") : text,
                                     is_boolean               ? "bool"
                                     : json_is_integer(unfit) ? "int"
                                     : json_is_real(unfit)    ? "float"
                                     : json_is_string(unfit)  ? "str"
                                     : json_is_null(unfit)    ? "NoneType"
                                                              : "dict");
    free(text);
    return status;
}

enum status read_constant_value(struct builder *builder, const json_t *json, const struct place *place, bool has_dtype,
                                enum dtype dtype, struct tensor *ret_tensor)
{
    if (!has_dtype || json == NULL) {
        return read_python_value(builder, json, place, ret_tensor);
    }
    TRY(check_fit(builder, json, dtype, place));
    return read_value(builder, json, place, true, dtype, ret_tensor);
}

/* The interpreter of build programs. Thread: the building one. Owns nothing but the result while it runs. */
#include "engine/store/program.h"

#include "engine/base/check.h"
#include "engine/graph/variable.h"
#include "engine/nn/optimizer.h"
#include "engine/store/tensor_json.h"

enum { STEP_PATH_BYTES_MAX = ERROR_PLACE_BYTES_MAX };

struct interpreter {
    struct graph *graph;
    const struct vocabulary *vocabulary;
    struct program_result *result;
    struct origin origin;
    size_t step_count;
    struct error *error;
};

struct step_kind {
    const char *op;
    const char *const *fields; /* besides "op" and "as"; NULL-terminated */
    enum status (*apply)(struct interpreter *interpreter, const json_t *step, const char *path, int depth);
};

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a build program");
}

/* Says at which step an error arose, unless a deeper step already did. */
static enum status at_step(struct interpreter *interpreter, enum status status, const char *path)
{
    if (status != STATUS_OK && interpreter->error != NULL && interpreter->error->param[0] == '\0') {
        snprintf(interpreter->error->param, sizeof interpreter->error->param, "%s", path);
    }
    return status;
}

static enum status refuse_field(struct error *error, const char *path, const char *field, const char *expected)
{
    enum status status = error_set(error, STATUS_INVALID, "%s/%s: %s", path, field, expected);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "%.200s/%.40s", path, field);
    }
    return status;
}

static enum status check_fields(const json_t *object, const char *const *fields, const char *path, struct error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool is_known = strcmp(key, "op") == 0;
        for (const char *const *field = fields; *field != NULL && !is_known; field++) {
            is_known = strcmp(key, *field) == 0;
        }
        if (!is_known) {
            return refuse_field(error, path, key, "unknown field");
        }
    }
    return STATUS_OK;
}

static const char *string_field(const json_t *object, const char *field)
{
    return json_string_value(json_object_get(object, field));
}

static enum status read_reuse(const json_t *object, const char *path, enum reuse *ret_reuse, struct error *error)
{
    const json_t *reuse = json_object_get(object, "reuse");
    if (reuse == NULL || json_is_null(reuse) || json_is_false(reuse)) {
        *ret_reuse = REUSE_INHERIT;
    } else if (json_is_true(reuse)) {
        *ret_reuse = REUSE_TRUE;
    } else if (json_is_string(reuse) && strcmp(json_string_value(reuse), "auto") == 0) {
        *ret_reuse = REUSE_AUTO;
    } else {
        refuse_field(error, path, "reuse",
                     "The reuse parameter must be True or False or None (here true, null or \"auto\").");
        if (error != NULL) {
            snprintf(error->type, sizeof error->type, "ValueError");
        }
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static enum status note_variable(struct interpreter *interpreter, const struct variable *variable, bool is_new)
{
    const struct output_type *type = &variable->node->outputs[0];
    json_t *entry =
        json_pack("{s:s+, s:o, s:s, s:s}", "name", variable->node->name, ":0", "shape", shape_to_json(&type->shape),
                  "dtype", dtype_name(type->dtype), "built", is_new ? "created" : "reused");
    return json_array_append_new(interpreter->result->variables, entry) == 0 ? STATUS_OK
                                                                             : no_memory(interpreter->error);
}

/* ---- language_model ---- */

static enum status read_size(const json_t *object, const char *field, size_t least, size_t most, size_t *size,
                             struct error *error)
{
    const json_t *value = json_object_get(object, field);
    if (value == NULL) {
        return STATUS_OK;
    }
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < (json_int_t)least || number > (json_int_t)most) {
        char expected[96];
        snprintf(expected, sizeof expected, "must be a whole number from %zu to %zu", least, most);
        return refuse_field(error, "", field, expected);
    }
    *size = (size_t)number;
    return STATUS_OK;
}

static enum status read_heads(const json_t *specification, struct language_model_options *options, struct error *error)
{
    const json_t *heads = json_object_get(specification, "heads");
    if (heads == NULL) {
        options->has_train_head = options->has_predict_head = true;
        return STATUS_OK;
    }
    for (size_t i = 0; i < json_array_size(heads); i++) {
        const char *head = json_string_value(json_array_get(heads, i));
        if (head == NULL || (strcmp(head, "train") != 0 && strcmp(head, "predict") != 0)) {
            return refuse_field(error, "", "heads", "must list \"train\" and \"predict\"");
        }
        options->has_train_head = options->has_train_head || head[0] == 't';
        options->has_predict_head = options->has_predict_head || head[0] == 'p';
    }
    if (!options->has_train_head && !options->has_predict_head) {
        return refuse_field(error, "", "heads", "must list \"train\", \"predict\" or both");
    }
    return STATUS_OK;
}

static enum status refuse_unbuilt(const json_t *specification, struct error *error)
{
    const json_t *cell = json_object_get(specification, "cell");
    const char *name = json_string_value(cell);
    bool is_known = name != NULL && (strcmp(name, "lstm") == 0 || strcmp(name, "gru") == 0 || strcmp(name, "rnn") == 0);
    if (cell != NULL && !is_known) {
        return refuse_field(error, "", "cell", "must be \"lstm\", \"gru\" or \"rnn\"");
    }
    const json_t *tie = json_object_get(specification, "tie");
    if (tie != NULL && !json_is_boolean(tie)) {
        return refuse_field(error, "", "tie", "must be true or false");
    }
    const char *unbuilt = cell != NULL && strcmp(name, "lstm") != 0 ? "cell" : json_is_true(tie) ? "tie" : NULL;
    if (unbuilt == NULL) {
        return STATUS_OK;
    }
    error_set(error, STATUS_UNSUPPORTED, "language_model: this value of \"%s\" is not built yet", unbuilt);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "/%s", unbuilt);
    }
    return STATUS_UNSUPPORTED;
}

static const char *const language_model_fields[] = {"cell",    "layers",     "units", "embedding", "tie",
                                                    "dropout", "vocabulary", "heads", "as",        NULL};

enum status language_model_options_from_json(const json_t *specification, struct language_model_options *ret_options,
                                             struct error *error)
{
    struct language_model_options options = {.layers = 2, .units = 128};
    if (!json_is_object(specification)) {
        return error_set(error, STATUS_INVALID, "a language_model is an object");
    }
    TRY(check_fields(specification, language_model_fields, "", error));
    TRY(refuse_unbuilt(specification, error));
    TRY(read_size(specification, "layers", 1, LANGUAGE_MODEL_LAYERS_MAX, &options.layers, error));
    TRY(read_size(specification, "units", 1, LANGUAGE_MODEL_UNITS_MAX, &options.units, error));
    if (!json_is_null(json_object_get(specification, "embedding"))) {
        TRY(read_size(specification, "embedding", 1, LANGUAGE_MODEL_UNITS_MAX, &options.embedding, error));
    }
    const json_t *dropout = json_object_get(specification, "dropout");
    options.dropout = json_number_value(dropout);
    if (dropout != NULL && (!json_is_number(dropout) || !(options.dropout >= 0 && options.dropout < 1))) {
        return refuse_field(error, "", "dropout", "must be a number from 0, below 1");
    }
    TRY(read_heads(specification, &options, error));
    *ret_options = options;
    return STATUS_OK;
}

static enum status note_language_model_variables(struct interpreter *interpreter, size_t count_before)
{
    size_t count = graph_variable_count(interpreter->graph);
    for (size_t i = 0; i < count; i++) {
        const struct variable *variable = graph_variable(interpreter->graph, i);
        if (!variable->is_slot) {
            TRY(note_variable(interpreter, variable, i >= count_before));
        }
    }
    return STATUS_OK;
}

static enum status apply_language_model(struct interpreter *interpreter, const json_t *step, const char *path,
                                        int depth)
{
    (void)depth;
    struct language_model_options options;
    json_t *specification = json_copy((json_t *)(uintptr_t)step);
    if (specification == NULL) {
        return no_memory(interpreter->error);
    }
    json_object_del(specification, "op");
    enum status status = language_model_options_from_json(specification, &options, interpreter->error);
    json_decref(specification);
    TRY(status);
    const json_t *vocabulary_json = json_object_get(step, "vocabulary");
    if (vocabulary_json == NULL) {
        return refuse_field(interpreter->error, path, "vocabulary", "a build step needs one");
    }
    struct vocabulary *vocabulary = NULL;
    TRY(vocabulary_from_json(vocabulary_json, &vocabulary, interpreter->error));
    vocabulary_unref(interpreter->result->vocabulary);
    interpreter->result->vocabulary = vocabulary;
    options.vocabulary_size = vocabulary_size(vocabulary);
    size_t count_before = graph_variable_count(interpreter->graph);
    TRY(language_model_build(interpreter->graph, &options, interpreter->error));
    if (interpreter->vocabulary != NULL && !vocabulary_equal(vocabulary, interpreter->vocabulary)) {
        error_set(interpreter->error, STATUS_CONFLICT, "the model has another vocabulary of the same size, %zu symbols",
                  vocabulary_size(vocabulary));
        return error_code(interpreter->error, "vocabulary_exists"), STATUS_CONFLICT;
    }
    return note_language_model_variables(interpreter, count_before);
}

/* ---- scopes and variables ---- */

static enum status apply_steps(struct interpreter *interpreter, const json_t *steps, const char *path, int depth);

static const char *const scope_fields[] = {"name", "reuse", "body", NULL};

static enum status apply_variable_scope(struct interpreter *interpreter, const json_t *step, const char *path,
                                        int depth)
{
    const char *name = string_field(step, "name");
    const json_t *body = json_object_get(step, "body");
    enum reuse reuse;
    if (name == NULL) {
        return refuse_field(interpreter->error, path, "name", "must be the scope's name");
    }
    if (!json_is_array(body)) {
        return refuse_field(interpreter->error, path, "body", "must be a list of steps");
    }
    TRY(read_reuse(step, path, &reuse, interpreter->error));
    struct variable_scope_frame frame;
    TRY(variable_scope_enter(interpreter->graph, name, reuse, &frame, interpreter->error));
    char body_path[STEP_PATH_BYTES_MAX];
    snprintf(body_path, sizeof body_path, "%.240s/body", path);
    enum status status = apply_steps(interpreter, body, body_path, depth + 1);
    variable_scope_leave(interpreter->graph, &frame);
    return status;
}

static const struct {
    const char *name;
    enum initializer_kind kind;
} initializer_names[] = {
    {"zeros", INITIALIZER_ZEROS}, {"ones", INITIALIZER_ONES}, {"glorot_uniform", INITIALIZER_GLOROT_UNIFORM}};

/* "zeros" | "ones" | "glorot_uniform" | {"constant":c} | {"random_uniform":[low,high]} */
static enum status read_initializer(const json_t *json, const char *path, struct initializer *ret_initializer,
                                    struct error *error)
{
    const json_t *constant = json_object_get(json, "constant");
    const json_t *range = json_object_get(json, "random_uniform");
    if (json == NULL || json_is_null(json)) {
        *ret_initializer = (struct initializer){.kind = INITIALIZER_DEFAULT};
        return STATUS_OK;
    }
    for (size_t i = 0; json_is_string(json) && i < sizeof initializer_names / sizeof *initializer_names; i++) {
        if (strcmp(json_string_value(json), initializer_names[i].name) == 0) {
            *ret_initializer = (struct initializer){.kind = initializer_names[i].kind};
            return STATUS_OK;
        }
    }
    if (json_is_number(constant)) {
        *ret_initializer = (struct initializer){.kind = INITIALIZER_CONSTANT, .low = json_number_value(constant)};
        return STATUS_OK;
    }
    if (json_array_size(range) == 2 && json_is_number(json_array_get(range, 0)) &&
        json_is_number(json_array_get(range, 1))) {
        *ret_initializer = (struct initializer){.kind = INITIALIZER_UNIFORM,
                                                .low = json_number_value(json_array_get(range, 0)),
                                                .high = json_number_value(json_array_get(range, 1))};
        return STATUS_OK;
    }
    return refuse_field(
        error, path, "initializer",
        "must be \"zeros\", \"ones\", \"glorot_uniform\", {\"constant\":c} or {\"random_uniform\":[low,high]}");
}

static const char *const variable_fields[] = {"name", "shape", "dtype", "initializer", "trainable", "as", NULL};

static enum status note_handle(struct interpreter *interpreter, const json_t *step, const char *path,
                               struct output output)
{
    const json_t *as = json_object_get(step, "as");
    char name[OUTPUT_NAME_BYTES_MAX];
    if (as == NULL) {
        return STATUS_OK;
    }
    if (!json_is_string(as)) {
        return refuse_field(interpreter->error, path, "as", "must be a name");
    }
    int failed = json_object_set_new(interpreter->result->handles, json_string_value(as),
                                     json_string(output_name(output, name)));
    return failed ? no_memory(interpreter->error) : STATUS_OK;
}

static enum status apply_get_variable(struct interpreter *interpreter, const json_t *step, const char *path, int depth)
{
    (void)depth;
    const json_t *trainable = json_object_get(step, "trainable");
    const json_t *dtype = json_object_get(step, "dtype");
    struct variable_options options = {
        .name = string_field(step, "name"), .has_dtype = true, .dtype = DTYPE_FLOAT32, .shape = shape_unknown()};
    if (options.name == NULL) {
        return refuse_field(interpreter->error, path, "name", "must be the variable's name");
    }
    if (dtype != NULL && (!json_is_string(dtype) || !dtype_from_name(json_string_value(dtype), &options.dtype))) {
        return refuse_field(interpreter->error, path, "dtype", "must be float32, float64, int32, int64 or bool");
    }
    if (trainable != NULL && !json_is_boolean(trainable)) {
        return refuse_field(interpreter->error, path, "trainable", "must be true or false");
    }
    options.trainable = json_is_false(trainable) ? TRAINABLE_NO : TRAINABLE_DEFAULT;
    if (json_object_get(step, "shape") != NULL) {
        TRY(shape_from_json(json_object_get(step, "shape"), &options.shape, interpreter->error));
    }
    TRY(read_initializer(json_object_get(step, "initializer"), path, &options.initializer, interpreter->error));
    const struct variable *variable = NULL;
    bool is_new = false;
    TRY(get_variable(interpreter->graph, &options, &variable, &is_new, interpreter->error));
    TRY(note_variable(interpreter, variable, is_new));
    return note_handle(interpreter, step, path, (struct output){variable->node, 0});
}

/* ---- optimisers, finalize ---- */

static const char *const optimizer_fields[] = {"loss", NULL};

static enum status apply_optimizer(struct interpreter *interpreter, const json_t *step, enum optimizer_kind kind,
                                   const char *path)
{
    const char *name = string_field(step, "loss");
    struct output loss;
    struct train_step ignored;
    if (name == NULL) {
        return refuse_field(interpreter->error, path, "loss", "must name the loss (\"train/loss:0\")");
    }
    TRY(graph_find_output(interpreter->graph, name, &loss, interpreter->error));
    return train_step_build(interpreter->graph, loss, kind, &ignored, interpreter->error);
}

static enum status apply_adam(struct interpreter *interpreter, const json_t *step, const char *path, int depth)
{
    (void)depth;
    return apply_optimizer(interpreter, step, OPTIMIZER_ADAM, path);
}

static enum status apply_sgd(struct interpreter *interpreter, const json_t *step, const char *path, int depth)
{
    (void)depth;
    return apply_optimizer(interpreter, step, OPTIMIZER_SGD, path);
}

static const char *const no_fields[] = {NULL};

static enum status apply_finalize(struct interpreter *interpreter, const json_t *step, const char *path, int depth)
{
    (void)step;
    (void)path;
    (void)depth;
    graph_finalize(interpreter->graph);
    return STATUS_OK;
}

/* ---- programs ---- */

static const struct step_kind step_kinds[] = {
    {"language_model", language_model_fields, apply_language_model},
    {"variable_scope", scope_fields, apply_variable_scope},
    {"get_variable", variable_fields, apply_get_variable},
    {"adam", optimizer_fields, apply_adam},
    {"sgd", optimizer_fields, apply_sgd},
    {"finalize", no_fields, apply_finalize},
};

static enum status apply_step(struct interpreter *interpreter, const json_t *step, const char *path, int depth)
{
    const char *op = string_field(step, "op");
    if (!json_is_object(step) || op == NULL) {
        return refuse_field(interpreter->error, path, "op", "a step is an object with \"op\"");
    }
    if (++interpreter->step_count > PROGRAM_STEPS_MAX) {
        return error_set(interpreter->error, STATUS_TOO_LARGE, "a program has at most %d steps", PROGRAM_STEPS_MAX);
    }
    for (size_t i = 0; i < sizeof step_kinds / sizeof *step_kinds; i++) {
        if (strcmp(step_kinds[i].op, op) == 0) {
            struct origin origin = interpreter->origin;
            origin.step = path;
            origin.op = op;
            TRY(graph_set_origin(interpreter->graph, &origin, interpreter->error));
            TRY(check_fields(step, step_kinds[i].fields, path, interpreter->error));
            return step_kinds[i].apply(interpreter, step, path, depth);
        }
    }
    return error_set(interpreter->error, STATUS_UNSUPPORTED, "%s: no step \"%.60s\" is built", path, op);
}

static enum status apply_steps(struct interpreter *interpreter, const json_t *steps, const char *path, int depth)
{
    if (depth > PROGRAM_NESTING_MAX) {
        return at_step(
            interpreter,
            error_set(interpreter->error, STATUS_TOO_LARGE, "steps nest deeper than %d", PROGRAM_NESTING_MAX), path);
    }
    for (size_t i = 0; i < json_array_size(steps); i++) {
        char step_path[STEP_PATH_BYTES_MAX];
        snprintf(step_path, sizeof step_path, "%.220s/%zu", path, i);
        enum status status = apply_step(interpreter, json_array_get(steps, i), step_path, depth);
        TRY(at_step(interpreter, status, step_path));
    }
    return STATUS_OK;
}

static enum status start_result(struct program_result *result, struct error *error)
{
    *result = (struct program_result){.handles = json_object(), .variables = json_array(), .warnings = json_array()};
    return result->handles == NULL || result->variables == NULL || result->warnings == NULL ? no_memory(error)
                                                                                            : STATUS_OK;
}

enum status program_apply(struct graph *graph, const json_t *request, uint32_t number, const char *request_id,
                          const struct vocabulary *vocabulary, struct program_result *ret_result, struct error *error)
{
    static const char *const request_fields[] = {"program", "reuse", NULL};
    const json_t *steps = json_object_get(request, "program");
    enum reuse reuse;
    if (!json_is_object(request) || !json_is_array(steps)) {
        return refuse_field(error, "", "program", "must be a list of steps");
    }
    TRY(check_fields(request, request_fields, "", error));
    TRY(read_reuse(request, "", &reuse, error));
    struct program_result result;
    enum status status = start_result(&result, error);
    struct interpreter interpreter = {.graph = graph,
                                      .vocabulary = vocabulary,
                                      .result = &result,
                                      .error = error,
                                      .origin = {.program = number, .request_id = request_id, .at = time(NULL)}};
    size_t nodes_before = graph_node_count(graph);
    variable_scope_set_reuse(graph, reuse);
    if (status == STATUS_OK) {
        status = apply_steps(&interpreter, steps, "/program", 0);
    }
    variable_scope_set_reuse(graph, REUSE_INHERIT);
    if (status != STATUS_OK) {
        program_result_release(&result);
        return status;
    }
    result.nodes_added = graph_node_count(graph) - nodes_before;
    *ret_result = result;
    return STATUS_OK;
}

void program_result_release(struct program_result *result)
{
    json_decref(result->handles);
    json_decref(result->variables);
    json_decref(result->warnings);
    vocabulary_unref(result->vocabulary);
    *result = (struct program_result){.handles = NULL};
}

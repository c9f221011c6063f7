/* TF Serving's REST API: predict by rows and by columns, status, metadata, of a model, a version or a label.
 * Inputs and outputs are those of the graph's signatures. Thread: loop; bodies are parsed, signatures run and replies
 * laid out on run threads. Owns nothing. */
#include "daemon/api.h"
#include "daemon/fields.h"
#include "daemon/predict_call.h"
#include "daemon/prediction.h"
#include "daemon/routes.h"

#define PREDICT_FIELDS "signature_name instances inputs"

static const char NOT_FOUND[] = "Servable not found for request:";

/* ---- what a path means ---- */

/* The reference that a path means, and the verb behind its last segment, "" without one. */
struct target {
    const char *reference;
    const char *verb;
};

/* "bard:predict", or the same behind /versions/ or /labels/. Without `has_verb` what stands behind a colon is a label.
 * Texts are of the request's arena. */
static enum status read_target(struct request *request, bool has_verb, struct target *ret_target, struct error *error)
{
    struct arena *arena = request_arena(request);
    const char *model = request_path(request) + strlen("/v1/models/");
    const char *within = model + strcspn(model, "/");
    bool is_version = strncmp(within, "/versions/", 10) == 0;
    bool is_label = strncmp(within, "/labels/", 8) == 0;
    const char *last = route_parameter(request, is_version || is_label ? 1 : 0);
    const char *colon = has_verb ? strrchr(last, ':') : NULL;
    const char *name = arena_format(arena, "%.*s", (int)(colon == NULL ? strlen(last) : (size_t)(colon - last)), last);
    struct target target = {.reference = name, .verb = colon == NULL ? "" : colon + 1};
    if (is_version && name != NULL) {
        TRY(predict_call_reference(request, route_parameter(request, 0), name, &target.reference, error));
    } else if (is_label && name != NULL) {
        target.reference = arena_format(arena, "%s:%s", route_parameter(request, 0), name);
    }
    if (target.reference == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    }
    *ret_target = target;
    return STATUS_OK;
}

/* ---- predict: inputs ---- */

/* One input's values in all rows, as a list; `name` NULL: the rows are the values. New reference. */
static enum status gather_column(const json_t *rows, const char *name, json_t **ret_column, struct error *error)
{
    json_t *column = json_array();
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        json_t *value = name == NULL ? row : json_object_get(row, name);
        if (value == NULL || (name == NULL && json_is_object(row))) {
            json_decref(column);
            return error_set(error, STATUS_INVALID, "Failed to process element: %zu of 'instances' list. %s '%.60s'", i,
                             name == NULL ? "It is no value of" : "It has no", name == NULL ? "the input" : name);
        }
        if (json_is_object(value)) {
            json_decref(column);
            return error_set(error, STATUS_INVALID,
                             "Failed to process element: %zu of 'instances' list. '%.60s' is an object, no tensor; "
                             "{\"b64\"} stands for strings of bytes, which no input takes",
                             i, name == NULL ? "it" : name);
        }
        if (json_array_append(column, value) != 0) {
            json_decref(column);
            return error_set(error, STATUS_NO_MEMORY, "no memory for %zu instances", json_array_size(rows));
        }
    }
    *ret_column = column;
    return STATUS_OK;
}

static enum status set_column(struct prediction *prediction, size_t input, const json_t *rows, const char *name,
                              struct error *error)
{
    json_t *column = NULL;
    TRY(gather_column(rows, name, &column, error));
    enum status status = prediction_set_json(prediction, input, column, error);
    json_decref(column);
    return status;
}

/* {"instances":[…]}: each a row, an object of inputs by name, or the value of the only input. */
static enum status read_rows(struct prediction *prediction, const json_t *rows, struct error *error)
{
    size_t input = 0;
    const char *name;
    json_t *value;
    json_t *first = json_array_get(rows, 0);
    if (!json_is_array(rows) || first == NULL) {
        return error_set(error, STATUS_INVALID, "'instances' must be a list with at least one element");
    }
    if (!json_is_object(first)) {
        TRY(prediction_find_only_input(prediction, &input, error));
        return set_column(prediction, input, rows, NULL, error);
    }
    for (size_t i = 1; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (!json_is_object(row) || json_object_size(row) != json_object_size(first)) {
            return error_set(error, STATUS_INVALID,
                             "Failed to process element: %zu of 'instances' list. It has not the inputs of element 0",
                             i);
        }
    }
    json_object_foreach(first, name, value)
    {
        TRY(prediction_find_input(prediction, name, &input, error));
        TRY(set_column(prediction, input, rows, name, error));
    }
    return STATUS_OK;
}

/* {"inputs":…}: whole tensors by name, or the value of the only input. */
static enum status read_columns(struct prediction *prediction, const json_t *columns, struct error *error)
{
    size_t input = 0;
    const char *name;
    json_t *value;
    if (!json_is_object(columns)) {
        TRY(prediction_find_only_input(prediction, &input, error));
        return prediction_set_json(prediction, input, columns, error);
    }
    json_object_foreach((json_t *)(uintptr_t)columns, name, value)
    {
        TRY(prediction_find_input(prediction, name, &input, error));
        TRY(prediction_set_json(prediction, input, value, error));
    }
    return STATUS_OK;
}

/* ---- predict: outputs ---- */

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a reply");
}

/* {"name":value,…}, of one output the value alone. */
static enum status write_columns(const struct prediction *prediction, json_t **ret_outputs, struct error *error)
{
    json_t *outputs = json_object();
    json_t *value = NULL;
    for (size_t i = 0; i < prediction->told_count; i++) {
        enum status status = tensor_to_json(prediction_value(prediction, i), TENSOR_NESTED, &value, error);
        if (status == STATUS_OK && prediction->told_count == 1) {
            json_decref(outputs);
            *ret_outputs = value;
            return STATUS_OK;
        }
        if (status != STATUS_OK || json_object_set_new(outputs, prediction_output(prediction, i)->name, value) != 0) {
            json_decref(outputs);
            return status != STATUS_OK ? status : no_memory(error);
        }
    }
    *ret_outputs = outputs;
    return outputs == NULL ? no_memory(error) : STATUS_OK;
}

/* Rows share the first dimension of all outputs, which is how many instances there were. */
static enum status check_rows(const struct prediction *prediction, struct error *error)
{
    int64_t rows = -1;
    for (size_t i = 0; i < prediction->told_count; i++) {
        const struct shape *shape = &prediction_value(prediction, i)->shape;
        int64_t own = shape->rank == 0 ? -1 : shape->dimensions[0];
        rows = i == 0 ? own : rows;
        if (own < 0 || own != rows) {
            char text[SHAPE_TEXT_BYTES_MAX];
            return error_set(error, STATUS_INVALID,
                             "Tensor name: %.60s of shape %s has no batch size in common with the other outputs; ask "
                             "by columns, with 'inputs'",
                             prediction_output(prediction, i)->name, shape_text(shape, text));
        }
    }
    return STATUS_OK;
}

/* Columns to rows: {"a":[1,2],"b":[3,4]} to [{"a":1,"b":3},{"a":2,"b":4}]. */
static json_t *rows_of(const json_t *columns)
{
    const char *name;
    json_t *column;
    json_t *rows = json_array();
    json_object_foreach((json_t *)(uintptr_t)columns, name, column)
    {
        for (size_t i = 0; i < json_array_size(column); i++) {
            if (i == json_array_size(rows) && json_array_append_new(rows, json_object()) != 0) {
                json_decref(rows);
                return NULL;
            }
            if (json_object_set(json_array_get(rows, i), name, json_array_get(column, i)) != 0) {
                json_decref(rows);
                return NULL;
            }
        }
    }
    return rows;
}

static enum status write_rows(const struct prediction *prediction, json_t **ret_predictions, struct error *error)
{
    json_t *columns = NULL;
    TRY(check_rows(prediction, error));
    TRY(write_columns(prediction, &columns, error));
    if (prediction->told_count == 1) {
        *ret_predictions = columns;
        return STATUS_OK;
    }
    *ret_predictions = rows_of(columns);
    json_decref(columns);
    return *ret_predictions == NULL ? no_memory(error) : STATUS_OK;
}

/* ---- predict ---- */

static enum status predict_body(const struct predict_call *call, struct prediction *prediction, const json_t *body,
                                json_t **ret_reply, struct error *error)
{
    const json_t *rows = json_object_get(body, "instances");
    const json_t *columns = json_object_get(body, "inputs");
    json_t *values = NULL;
    if ((rows == NULL) == (columns == NULL)) {
        return error_set(error, STATUS_INVALID, "a predict request has either 'instances' or 'inputs', this one %s",
                         rows == NULL ? "neither" : "both");
    }
    TRY(rows != NULL ? read_rows(prediction, rows, error) : read_columns(prediction, columns, error));
    TRY(prediction_run(prediction, TENSOR_JSON_REPLY_ELEMENTS_MAX, call->maximum_ms, error));
    TRY(rows != NULL ? write_rows(prediction, &values, error) : write_columns(prediction, &values, error));
    *ret_reply = json_pack("{s:o, s:o*}", rows != NULL ? "predictions" : "outputs", values, "warnings",
                           fields_warn_unknown(body, PREDICT_FIELDS));
    return *ret_reply == NULL ? no_memory(error) : STATUS_OK;
}

static enum status predict(struct predict_call *call, struct served_graph *graph, struct error *error)
{
    struct prediction prediction = {.graph = NULL};
    const char *signature = NULL;
    json_t *body = NULL;
    size_t length;
    const char *bytes = request_body(call->request, &length);
    TRY(fields_parse(bytes, length, &body, error));
    enum status status = fields_text(body, "signature_name", &signature, error);
    if (status == STATUS_OK) {
        signature = signature != NULL && signature[0] == '\0' ? NULL : signature;
        status = prediction_begin(graph, signature, &prediction, error);
    }
    if (status == STATUS_OK) {
        status = predict_body(call, &prediction, body, &call->reply, error);
    }
    predict_call_count(call, &prediction, status);
    prediction_release(&prediction);
    json_decref(body);
    return status;
}

static enum status check_verb(const struct request *request, const char *verb, struct error *error)
{
    if (strcmp(verb, "predict") == 0) {
        return STATUS_OK;
    }
    if (strcmp(verb, "classify") == 0 || strcmp(verb, "regress") == 0) {
        return error_set(error, STATUS_UNSUPPORTED,
                         ":%s takes tf.Example records, which the signatures of recurrent models do not; :predict "
                         "takes their tensors",
                         verb);
    }
    return error_set(error, STATUS_INVALID, "Malformed request: POST %.200s; there is :predict", request_path(request));
}

/* Has `work` run on the version that the path means; `is_look`: it only sees what the graph is like. */
static void start(struct server *server, struct request *request, const char *reference, bool is_look,
                  enum status (*work)(struct predict_call *call, struct served_graph *graph, struct error *error))
{
    struct predict_call *call = predict_call_create(server, request, sizeof *call);
    if (call != NULL) {
        call->is_look = is_look;
        predict_call_submit(call, reference, NOT_FOUND, work);
    }
}

void api_tf_predict(struct server *server, struct request *request)
{
    struct error error;
    struct target target;
    enum status status = read_target(request, true, &target, &error);
    if (status == STATUS_OK) {
        status = check_verb(request, target.verb, &error);
    }
    if (status != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    start(server, request, target.reference, false, predict);
}

/* ---- status ---- */

void api_tf_status(struct server *server, struct request *request)
{
    struct error error;
    struct target target;
    json_t *reply = NULL;
    enum status status = read_target(request, false, &target, &error);
    if (status == STATUS_OK) {
        status = registry_describe_version(server->registry, target.reference, &reply, &error);
        if (status == STATUS_NOT_FOUND) {
            error_prefix(&error, "%s %.140s", NOT_FOUND, target.reference);
        }
    }
    if (status != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    request_reply_json(request, 200, reply);
}

/* ---- metadata ---- */

/* TensorShapeProto as JSON: sizes are strings. */
static json_t *shape_proto(const struct shape *shape)
{
    json_t *dimensions = json_array();
    for (int i = 0; i < shape->rank; i++) {
        json_array_append_new(dimensions, json_pack("{s:o, s:s}", "size",
                                                    json_sprintf("%lld", (long long)shape->dimensions[i]), "name", ""));
    }
    return json_pack("{s:o, s:b}", "dim", dimensions, "unknown_rank", shape->rank == SHAPE_RANK_UNKNOWN);
}

static json_t *ends_proto(const struct served_end *ends, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        json_object_set_new(object, ends[i].name,
                            json_pack("{s:s, s:o, s:s}", "dtype", dtype_tf_name(ends[i].dtype), "tensor_shape",
                                      shape_proto(&ends[i].shape), "name", ends[i].tensor));
    }
    return object;
}

static enum status describe(struct predict_call *call, struct served_graph *graph, struct error *error)
{
    json_t *signatures = json_object();
    for (size_t i = 0; i < served_graph_signature_count(graph); i++) {
        const struct served_signature *signature = served_graph_signature(graph, i);
        json_object_set_new(signatures, signature->name,
                            json_pack("{s:o, s:o, s:s}", "inputs",
                                      ends_proto(signature->inputs, signature->input_count), "outputs",
                                      ends_proto(signature->outputs, signature->output_count), "method_name",
                                      "tensorflow/serving/predict"));
    }
    /* the doubled signature_def is TF Serving's: a map inside a message of the same name */
    call->reply = json_pack("{s:{s:s, s:s, s:o}, s:{s:{s:o}}}", "model_spec", "name", call->model, "signature_name", "",
                            "version", json_sprintf("%llu", (unsigned long long)call->ticket.version), "metadata",
                            "signature_def", "signature_def", signatures);
    return call->reply == NULL ? no_memory(error) : STATUS_OK;
}

void api_tf_metadata(struct server *server, struct request *request)
{
    struct error error;
    struct target target;
    if (read_target(request, false, &target, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    start(server, request, target.reference, true, describe);
}

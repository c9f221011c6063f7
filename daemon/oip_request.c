/* Infer requests and replies. Thread: any. A request owns its JSON. */
#include "daemon/oip_request.h"

#include "daemon/fields.h"
#include "daemon/http.h"
#include "engine/base/mem.h"

#define BODY_FIELDS "id parameters inputs outputs"
#define REQUEST_PARAMETERS "sequence_id sequence_start sequence_end priority timeout binary_data_output signature_name"

enum { REPLY_BYTES_MAX = 1 << 30 };

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for an inference");
}

static bool is_given(const json_t *json)
{
    return json != NULL && !json_is_null(json);
}

/* ---- the request's own fields ---- */

/* A whole number from 1, or a text; 0 and "" are none. */
static enum status read_sequence(const json_t *json, struct oip_request *request, struct error *error)
{
    if (!is_given(json)) {
        return STATUS_OK;
    }
    if (json_is_integer(json) && json_integer_value(json) >= 0) {
        json_int_t number = json_integer_value(json);
        snprintf(request->sequence, sizeof request->sequence, "%lld", (long long)number);
        request->sequence[0] = number == 0 ? '\0' : request->sequence[0];
        return STATUS_OK;
    }
    if (!json_is_string(json) || json_string_length(json) >= sizeof request->sequence) {
        return error_set(error, STATUS_INVALID,
                         "sequence_id must be a whole number of 0 or more, or a text of at most %d "
                         "bytes",
                         OIP_SEQUENCE_BYTES_MAX - 1);
    }
    snprintf(request->sequence, sizeof request->sequence, "%s", json_string_value(json));
    return STATUS_OK;
}

static enum status read_parameters(const json_t *parameters, struct oip_request *request, struct error *error)
{
    int64_t priority = 0;
    if (is_given(parameters) && !json_is_object(parameters)) {
        return error_set(error, STATUS_INVALID, "parameters must be an object");
    }
    TRY(read_sequence(json_object_get(parameters, "sequence_id"), request, error));
    TRY(fields_flag(parameters, "sequence_start", &request->is_sequence_start, error));
    TRY(fields_flag(parameters, "sequence_end", &request->is_sequence_end, error));
    TRY(fields_flag(parameters, "binary_data_output", &request->wants_binary, error));
    TRY(fields_integer(parameters, "priority", 0, INT64_MAX, &priority, error));
    TRY(fields_integer(parameters, "timeout", 0, INT64_MAX, &request->timeout_us, error));
    TRY(fields_text(parameters, "signature_name", &request->signature, error));
    if (request->sequence[0] == '\0' && (request->is_sequence_start || request->is_sequence_end)) {
        return error_set(error, STATUS_INVALID, "sequence_start and sequence_end belong to a sequence_id");
    }
    return STATUS_OK;
}

enum status oip_request_read(const char *body, size_t length, size_t json_length, struct oip_request *request,
                             struct error *error)
{
    if (json_length != SIZE_MAX && json_length > length) {
        return error_set(error, STATUS_INVALID, "Inference-Header-Content-Length is %zu, but the body has %zu bytes",
                         json_length, length);
    }
    size_t text_length = json_length == SIZE_MAX ? length : json_length;
    request->bytes = body == NULL ? NULL : body + text_length;
    request->byte_count = length - text_length;
    if (json_length == 0) {
        request->wants_binary = true; /* nothing can ask for another form */
        return STATUS_OK;
    }
    TRY(fields_parse(body, text_length, &request->body, error));
    TRY(fields_text(request->body, "id", &request->id, error));
    return read_parameters(json_object_get(request->body, "parameters"), request, error);
}

void oip_request_release(struct oip_request *request)
{
    json_decref(request->body);
    mem_free(request->binary_outputs);
    *request = (struct oip_request){.body = NULL};
}

/* ---- inputs ---- */

/* Where the next binary tensor begins. */
struct binary_cursor {
    const char *bytes;
    size_t left;
};

static enum status take_bytes(struct binary_cursor *cursor, const json_t *size, const char *name,
                              const char **ret_bytes, size_t *ret_length, struct error *error)
{
    json_int_t length = json_integer_value(size);
    if (!json_is_integer(size) || length < 0) {
        return error_set(error, STATUS_INVALID,
                         "the input '%.60s': binary_data_size must be a whole number of 0 or more", name);
    }
    if ((uint64_t)length > cursor->left) {
        return error_set(error, STATUS_INVALID,
                         "the input '%.60s': binary_data_size is %lld, but the body has %zu bytes left", name,
                         (long long)length, cursor->left);
    }
    *ret_bytes = cursor->bytes;
    *ret_length = (size_t)length;
    cursor->bytes += length;
    cursor->left -= (size_t)length;
    return STATUS_OK;
}

/* What lies in shared memory cannot come by HTTP. */
static enum status check_parameters(const json_t *parameters, const char *side, const char *name, struct error *error)
{
    if (is_given(parameters) && !json_is_object(parameters)) {
        return error_set(error, STATUS_INVALID, "the %s '%.60s': parameters must be an object", side, name);
    }
    static const char *const refused[] = {"shared_memory_region", "classification"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (is_given(json_object_get(parameters, refused[i]))) {
            return error_set(error, STATUS_INVALID, "the %s '%.60s': %s is not supported", side, name, refused[i]);
        }
    }
    return STATUS_OK;
}

static enum status check_datatype(const struct served_end *end, const json_t *datatype, struct error *error)
{
    const char *wanted = dtype_oip_name(end->dtype);
    const char *given = json_string_value(datatype);
    if (given == NULL || wanted == NULL || strcmp(given, wanted) != 0) {
        return error_set(error, STATUS_INVALID, "the input '%.60s' has datatype %s, but was given as '%.32s'",
                         end->name, wanted == NULL ? dtype_name(end->dtype) : wanted, given == NULL ? "none" : given);
    }
    return STATUS_OK;
}

static enum status feed_input(struct prediction *prediction, const json_t *item, struct binary_cursor *cursor,
                              struct error *error)
{
    const char *name = json_string_value(json_object_get(item, "name"));
    const json_t *parameters = json_object_get(item, "parameters");
    const json_t *size = json_object_get(parameters, "binary_data_size");
    const json_t *data = json_object_get(item, "data");
    const char *bytes = NULL;
    char what[96];
    size_t input;
    size_t length = 0;
    struct shape shape;
    if (name == NULL) {
        return error_set(error, STATUS_INVALID, "each of inputs must be an object with a name");
    }
    TRY(check_parameters(parameters, "input", name, error));
    TRY(prediction_find_input(prediction, name, &input, error));
    TRY(check_datatype(&prediction->signature->inputs[input], json_object_get(item, "datatype"), error));
    snprintf(what, sizeof what, "the input '%.60s'", name);
    TRY(prediction_read_shape(json_object_get(item, "shape"), what, &shape, error));
    if (is_given(size) == is_given(data)) {
        return error_set(error, STATUS_INVALID, "%s has %s", what,
                         is_given(data) ? "both data and binary_data_size" : "neither data nor binary_data_size");
    }
    if (is_given(data)) {
        return prediction_set_listed(prediction, input, &shape, data, error);
    }
    TRY(take_bytes(cursor, size, name, &bytes, &length, error));
    return prediction_set_bytes(prediction, input, &shape, bytes, length, error);
}

static enum status feed_inputs(const struct oip_request *request, struct prediction *prediction, struct error *error)
{
    const json_t *inputs = json_object_get(request->body, "inputs");
    struct binary_cursor cursor = {request->bytes, request->byte_count};
    if (!json_is_array(inputs)) {
        return error_set(error, STATUS_INVALID, "inputs must be a list of tensors");
    }
    for (size_t i = 0; i < json_array_size(inputs); i++) {
        TRY(feed_input(prediction, json_array_get(inputs, i), &cursor, error));
    }
    return cursor.left == 0
               ? STATUS_OK
               : error_set(error, STATUS_INVALID, "%zu bytes behind the JSON belong to no input", cursor.left);
}

/* The shape of a raw body: dimensions that are not known are 1, but the last of them, which takes what there is. */
static enum status feed_raw(const struct oip_request *request, struct prediction *prediction, struct error *error)
{
    size_t input;
    TRY(prediction_find_only_input(prediction, &input, error));
    const struct served_end *end = &prediction->signature->inputs[input];
    struct shape shape = end->shape.rank == SHAPE_RANK_UNKNOWN ? shape_vector(DIMENSION_UNKNOWN) : end->shape;
    int open = -1;
    size_t known = dtype_bytes(end->dtype);
    for (int i = 0; i < shape.rank; i++) {
        open = shape.dimensions[i] == DIMENSION_UNKNOWN ? i : open;
    }
    for (int i = 0; i < shape.rank; i++) {
        shape.dimensions[i] = shape.dimensions[i] == DIMENSION_UNKNOWN ? 1 : shape.dimensions[i];
        if (__builtin_mul_overflow(known, (size_t)shape.dimensions[i], &known)) {
            return error_set(error, STATUS_INVALID, "the input '%.60s' is too large for a raw body", end->name);
        }
    }
    if (open >= 0 && known > 0) {
        shape.dimensions[open] = (int64_t)(request->byte_count / known);
    }
    return prediction_set_bytes(prediction, input, &shape, request->bytes, request->byte_count, error);
}

/* ---- outputs ---- */

static enum status ask_for_outputs(struct oip_request *request, struct prediction *prediction, struct error *error)
{
    const json_t *outputs = json_object_get(request->body, "outputs");
    if (is_given(outputs) && !json_is_array(outputs)) {
        return error_set(error, STATUS_INVALID, "outputs must be a list");
    }
    size_t count = json_array_size(outputs);
    if (count > prediction->signature->output_count) {
        return error_set(error, STATUS_INVALID, "%zu outputs are asked for, but the signature '%.60s' has %zu", count,
                         prediction->signature->name, prediction->signature->output_count);
    }
    request->binary_outputs = mem_allocate(prediction->signature->output_count + 1, sizeof *request->binary_outputs);
    if (request->binary_outputs == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < prediction->signature->output_count; i++) {
        request->binary_outputs[i] = request->wants_binary;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(outputs, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name == NULL) {
            return error_set(error, STATUS_INVALID, "each of outputs must be an object with a name");
        }
        TRY(check_parameters(json_object_get(item, "parameters"), "output", name, error));
        TRY(prediction_ask_for(prediction, name, error));
        TRY(fields_flag(json_object_get(item, "parameters"), "binary_data", &request->binary_outputs[i], error));
    }
    return STATUS_OK;
}

enum status oip_request_feed(struct oip_request *request, struct prediction *prediction, struct error *error)
{
    TRY(request->body == NULL ? feed_raw(request, prediction, error) : feed_inputs(request, prediction, error));
    return ask_for_outputs(request, prediction, error);
}

/* ---- the reply ---- */

static json_t *list_shape(const struct shape *shape)
{
    json_t *list = json_array();
    for (int i = 0; i < shape->rank; i++) {
        json_array_append_new(list, json_integer(shape->dimensions[i])); /* DIMENSION_UNKNOWN is the protocol's -1 */
    }
    return list;
}

json_t *oip_describe_end(const struct served_end *end)
{
    return json_pack("{s:s, s:s?, s:o}", "name", end->name, "datatype", dtype_oip_name(end->dtype), "shape",
                     list_shape(&end->shape));
}

static enum status describe_output(const struct served_end *end, const struct tensor *value, bool is_binary,
                                   json_t **ret_output, struct error *error)
{
    const char *datatype = dtype_oip_name(value->dtype);
    if (datatype == NULL || (value->dtype == DTYPE_FLOAT16 && !is_binary)) {
        return error_set(error, STATUS_INVALID, "the output '%.60s' is %s, which %s", end->name,
                         dtype_name(value->dtype),
                         datatype == NULL ? "the protocol has no datatype for" : "goes as binary data only");
    }
    json_t *output =
        json_pack("{s:s, s:s, s:o}", "name", end->name, "datatype", datatype, "shape", list_shape(&value->shape));
    if (is_binary) {
        json_object_set_new(output, "parameters",
                            json_pack("{s:I}", "binary_data_size", (json_int_t)tensor_bytes(value)));
    } else {
        json_t *flat = NULL;
        enum status status = tensor_to_json(value, TENSOR_FLAT, &flat, error);
        if (status != STATUS_OK) {
            json_decref(output);
            return status;
        }
        json_object_set(output, "data", json_object_get(flat, "data"));
        json_decref(flat);
    }
    *ret_output = output;
    return output == NULL ? no_memory(error) : STATUS_OK;
}

/* What was in the request without meaning anything. */
static json_t *warn(const struct oip_request *request)
{
    json_t *warnings = fields_warn_unknown(request->body, BODY_FIELDS);
    json_t *more = fields_warn_unknown(json_object_get(request->body, "parameters"), REQUEST_PARAMETERS);
    if (warnings == NULL) {
        return more;
    }
    json_array_extend(warnings, more);
    json_decref(more);
    return warnings;
}

static enum status describe_outputs(const struct oip_request *request, const struct prediction *prediction,
                                    json_t *outputs, size_t *ret_binary_length, struct error *error)
{
    *ret_binary_length = 0;
    for (size_t i = 0; i < prediction->told_count; i++) {
        const struct tensor *value = prediction_value(prediction, i);
        json_t *output = NULL;
        TRY(describe_output(prediction_output(prediction, i), value, request->binary_outputs[i], &output, error));
        if (json_array_append_new(outputs, output) != 0) {
            return no_memory(error);
        }
        *ret_binary_length += request->binary_outputs[i] ? tensor_bytes(value) : 0;
    }
    return *ret_binary_length > REPLY_BYTES_MAX
               ? error_set(error, STATUS_INVALID, "the outputs take %zu bytes, a reply at most %d", *ret_binary_length,
                           REPLY_BYTES_MAX)
               : STATUS_OK;
}

/* Puts the binary tensors behind the JSON. */
static char *append_tensors(const struct oip_request *request, const struct prediction *prediction, char *json,
                            size_t json_length, size_t binary_length)
{
    char *bytes = mem_reallocate(json, json_length + binary_length, 1);
    char *at = bytes == NULL ? NULL : bytes + json_length;
    for (size_t i = 0; bytes != NULL && i < prediction->told_count; i++) {
        const struct tensor *value = prediction_value(prediction, i);
        if (request->binary_outputs[i] && tensor_bytes(value) > 0) {
            memcpy(at, value->data, tensor_bytes(value));
            at += tensor_bytes(value);
        }
    }
    return bytes;
}

enum status oip_request_reply(const struct oip_request *request, const struct prediction *prediction, const char *model,
                              uint64_t version, char **ret_bytes, size_t *ret_length, size_t *ret_json_length,
                              struct error *error)
{
    size_t binary_length = 0;
    size_t json_length = 0;
    json_t *outputs = json_array();
    enum status status = describe_outputs(request, prediction, outputs, &binary_length, error);
    if (status != STATUS_OK) {
        json_decref(outputs);
        return status;
    }
    json_t *body = json_pack("{s:s, s:o, s:s*, s:o, s:o*}", "model_name", model, "model_version",
                             json_sprintf("%llu", (unsigned long long)version), "id", request->id, "outputs", outputs,
                             "warnings", warn(request));
    char *bytes = body == NULL ? NULL : http_json_bytes(body, &json_length);
    char *whole = bytes == NULL || binary_length == 0
                      ? bytes
                      : append_tensors(request, prediction, bytes, json_length, binary_length);
    if (whole == NULL) {
        mem_free(bytes);
        return no_memory(error);
    }
    *ret_bytes = whole;
    *ret_length = json_length + binary_length;
    *ret_json_length = json_length;
    return STATUS_OK;
}

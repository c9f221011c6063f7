/* Predictions. Thread: run threads. A prediction owns its inputs' values and its run. */
#include "daemon/prediction.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum { NAMES_BYTES_MAX = 600 };

static const struct {
    const char *oip, *tf;
} dtype_names[] = {
    [DTYPE_FLOAT32] = {"FP32", "DT_FLOAT"},     [DTYPE_FLOAT64] = {"FP64", "DT_DOUBLE"},
    [DTYPE_INT32] = {"INT32", "DT_INT32"},      [DTYPE_INT64] = {"INT64", "DT_INT64"},
    [DTYPE_BOOL] = {"BOOL", "DT_BOOL"},         [DTYPE_FLOAT16] = {"FP16", "DT_HALF"},
    [DTYPE_INT8] = {"INT8", "DT_INT8"},         [DTYPE_UINT8] = {"UINT8", "DT_UINT8"},
    [DTYPE_INT16] = {"INT16", "DT_INT16"},      [DTYPE_UINT16] = {"UINT16", "DT_UINT16"},
    [DTYPE_COMPLEX64] = {NULL, "DT_COMPLEX64"},
};
static_assert(sizeof dtype_names / sizeof *dtype_names == DTYPE_COUNT, "a row for each dtype");

const char *dtype_oip_name(enum dtype dtype)
{
    return dtype_names[dtype].oip;
}

const char *dtype_tf_name(enum dtype dtype)
{
    return dtype_names[dtype].tf;
}

/* ---- life ---- */

enum status prediction_begin(struct served_graph *graph, const char *signature_name, struct prediction *prediction,
                             struct error *error)
{
    prediction->graph = graph;
    prediction->begun_ns = clock_now_ns();
    TRY(served_graph_find(graph, signature_name, &prediction->signature, error));
    const struct served_signature *signature = prediction->signature;
    prediction->values = mem_allocate(signature->input_count + 1, sizeof *prediction->values);
    prediction->inputs = mem_allocate(signature->input_count + 1, sizeof(const struct tensor *));
    prediction->outputs = mem_allocate(signature->output_count + 1, sizeof *prediction->outputs);
    if (prediction->values == NULL || prediction->inputs == NULL || prediction->outputs == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a prediction");
    }
    return STATUS_OK;
}

void prediction_release(struct prediction *prediction)
{
    served_run_end(prediction->run);
    for (size_t i = 0; prediction->inputs != NULL && i < prediction->signature->input_count; i++) {
        if (prediction->inputs[i] != NULL) {
            tensor_release(&prediction->values[i]);
        }
    }
    mem_free(prediction->values);
    mem_free(prediction->inputs);
    mem_free(prediction->outputs);
    *prediction = (struct prediction){.graph = NULL};
}

/* ---- names ---- */

static const char *list_names(const struct served_end *ends, size_t count, char names[NAMES_BYTES_MAX])
{
    size_t used = 0;
    snprintf(names, NAMES_BYTES_MAX, "none");
    for (size_t i = 0; i < count && used < NAMES_BYTES_MAX; i++) {
        used += (size_t)snprintf(names + used, NAMES_BYTES_MAX - used, "%s%.60s", i == 0 ? "" : ", ", ends[i].name);
    }
    return names;
}

enum status prediction_find_input(const struct prediction *prediction, const char *name, size_t *ret_input,
                                  struct error *error)
{
    const struct served_signature *signature = prediction->signature;
    size_t found = served_end_find(signature->inputs, signature->input_count, name);
    if (found == SIZE_MAX) {
        char names[NAMES_BYTES_MAX];
        return error_set(error, STATUS_INVALID, "the signature '%.60s' has no input '%.60s'; there are: %s",
                         signature->name, name, list_names(signature->inputs, signature->input_count, names));
    }
    if (prediction->inputs[found] != NULL) {
        return error_set(error, STATUS_INVALID, "the input '%.60s' is given twice", name);
    }
    *ret_input = found;
    return STATUS_OK;
}

enum status prediction_find_only_input(const struct prediction *prediction, size_t *ret_input, struct error *error)
{
    const struct served_signature *signature = prediction->signature;
    size_t needed = 0;
    size_t found = 0;
    for (size_t i = 0; i < signature->input_count; i++) {
        if (!signature->inputs[i].is_optional) {
            needed++;
            found = i;
        }
    }
    if (needed != 1 && signature->input_count != 1) {
        char names[NAMES_BYTES_MAX];
        return error_set(error, STATUS_INVALID, "the signature '%.60s' has %zu inputs, which go by their names: %s",
                         signature->name, signature->input_count,
                         list_names(signature->inputs, signature->input_count, names));
    }
    *ret_input = found;
    return STATUS_OK;
}

enum status prediction_ask_for(struct prediction *prediction, const char *name, struct error *error)
{
    const struct served_signature *signature = prediction->signature;
    size_t found = served_end_find(signature->outputs, signature->output_count, name);
    if (found == SIZE_MAX) {
        char names[NAMES_BYTES_MAX];
        return error_set(error, STATUS_INVALID, "the signature '%.60s' has no output '%.60s'; there are: %s",
                         signature->name, name, list_names(signature->outputs, signature->output_count, names));
    }
    for (size_t i = 0; i < prediction->output_count; i++) {
        if (prediction->outputs[i] == found) {
            return error_set(error, STATUS_INVALID, "the output '%.60s' is asked for twice", name);
        }
    }
    prediction->outputs[prediction->output_count++] = found;
    prediction->told_count++;
    return STATUS_OK;
}

/* Without a word about outputs, all of them are told. */
static void settle_outputs(struct prediction *prediction)
{
    if (prediction->told_count == 0) {
        prediction->told_count = prediction->signature->output_count;
        prediction->output_count = prediction->told_count;
        for (size_t i = 0; i < prediction->told_count; i++) {
            prediction->outputs[i] = i;
        }
    }
}

/* Where among the outputs of the run; output_count: nowhere. */
static size_t find_output(const struct prediction *prediction, size_t output)
{
    size_t at = 0;
    while (at < prediction->output_count && prediction->outputs[at] != output) {
        at++;
    }
    return at;
}

void prediction_keep_states(struct prediction *prediction)
{
    const struct served_signature *signature = prediction->signature;
    settle_outputs(prediction);
    for (size_t i = 0; i < signature->input_count; i++) {
        const struct served_end *end = &signature->inputs[i];
        if (end->is_carried && find_output(prediction, end->next) == prediction->output_count) {
            prediction->outputs[prediction->output_count++] = end->next;
        }
    }
}

const struct tensor *prediction_next_state(const struct prediction *prediction, size_t input)
{
    return served_run_output(prediction->run, find_output(prediction, prediction->signature->inputs[input].next));
}

/* ---- values ---- */

/* An error about a value becomes one about the input that it was for, and the request's mistake whatever it was. */
static enum status blame_input(const struct prediction *prediction, size_t input, enum status status,
                               struct error *error)
{
    if (status == STATUS_NO_MEMORY) {
        return status;
    }
    error_prefix(error, "the input '%.60s'", prediction->signature->inputs[input].name);
    if (error != NULL) {
        error->status = STATUS_INVALID;
    }
    return STATUS_INVALID;
}

/* Takes `value`. */
static void set(struct prediction *prediction, size_t input, const struct tensor *value)
{
    prediction->values[input] = *value;
    prediction->inputs[input] = &prediction->values[input];
}

enum status prediction_set_json(struct prediction *prediction, size_t input, const json_t *value, struct error *error)
{
    enum dtype dtype = prediction->signature->inputs[input].dtype;
    struct tensor tensor;
    enum status status;
    if (json_is_object(value)) {
        status = error_set(error, STATUS_INVALID, "%s, but its type is %s",
                           json_object_get(value, "b64") != NULL ? "{\"b64\"} stands for a string of bytes"
                                                                 : "an object is no tensor",
                           dtype_name(dtype));
    } else {
        status = tensor_from_json(value, dtype, &tensor, error);
    }
    if (status != STATUS_OK) {
        return blame_input(prediction, input, status, error);
    }
    set(prediction, input, &tensor);
    return STATUS_OK;
}

enum status prediction_read_shape(const json_t *json, const char *what, struct shape *ret_shape, struct error *error)
{
    struct shape shape = shape_scalar();
    size_t extent = 1;
    if (!json_is_array(json) || json_array_size(json) > SHAPE_RANK_MAX) {
        return error_set(error, STATUS_INVALID, "%s: shape must be a list of at most %d whole numbers", what,
                         SHAPE_RANK_MAX);
    }
    for (size_t i = 0; i < json_array_size(json); i++) {
        const json_t *dimension = json_array_get(json, i);
        json_int_t number = json_integer_value(dimension);
        if (!json_is_integer(dimension)) {
            return error_set(error, STATUS_INVALID, "%s: dimension %zu of the shape is no whole number", what, i);
        }
        if (number < 0) {
            return error_set(error, STATUS_INVALID, "%s: dimension %zu of the shape is %lld, below 0", what, i,
                             (long long)number);
        }
        if (number > TENSOR_JSON_ELEMENTS_MAX ||
            (extent *= number == 0 ? 1 : (size_t)number) > TENSOR_JSON_ELEMENTS_MAX) {
            return error_set(error, STATUS_INVALID, "%s: with dimension %zu, %lld, the shape has more than %d elements",
                             what, i, (long long)number, TENSOR_JSON_ELEMENTS_MAX);
        }
        shape.dimensions[shape.rank++] = (int64_t)number;
    }
    *ret_shape = shape;
    return STATUS_OK;
}

/* Reads lists nested to `shape`. */
static enum status read_nested(const json_t *data, enum dtype dtype, const struct shape *shape,
                               struct tensor *ret_tensor, struct error *error)
{
    char wanted[SHAPE_TEXT_BYTES_MAX];
    char given[SHAPE_TEXT_BYTES_MAX];
    struct tensor tensor;
    TRY(tensor_from_json(data, dtype, &tensor, error));
    if (!shape_equal(&tensor.shape, shape)) {
        error_set(error, STATUS_INVALID, "its data has shape %s, not %s", shape_text(&tensor.shape, given),
                  shape_text(shape, wanted));
        tensor_release(&tensor);
        return STATUS_INVALID;
    }
    *ret_tensor = tensor;
    return STATUS_OK;
}

static enum status read_flat(const json_t *data, enum dtype dtype, const struct shape *shape, struct tensor *ret_tensor,
                             struct error *error)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    size_t count = 0;
    if (!shape_element_count(shape, &count) || json_array_size(data) != count) {
        return error_set(error, STATUS_INVALID, "its data has %zu elements, its shape %s %zu", json_array_size(data),
                         shape_text(shape, text), count);
    }
    json_t *described = json_pack("{s:o, s:O}", "shape", shape_to_json(shape), "data", data);
    if (described == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a tensor");
    }
    enum status status = tensor_from_json(described, dtype, ret_tensor, error);
    json_decref(described);
    return status;
}

enum status prediction_set_listed(struct prediction *prediction, size_t input, const struct shape *shape,
                                  const json_t *data, struct error *error)
{
    enum dtype dtype = prediction->signature->inputs[input].dtype;
    struct tensor tensor;
    enum status status;
    if (!json_is_array(data)) {
        status = error_set(error, STATUS_INVALID, "data must be a list");
    } else if (dtype == DTYPE_FLOAT16) {
        status = error_set(error, STATUS_INVALID, "FP16 goes as bytes, not as JSON");
    } else if (json_is_array(json_array_get(data, 0))) {
        status = read_nested(data, dtype, shape, &tensor, error);
    } else {
        status = read_flat(data, dtype, shape, &tensor, error);
    }
    if (status != STATUS_OK) {
        return blame_input(prediction, input, status, error);
    }
    set(prediction, input, &tensor);
    return STATUS_OK;
}

enum status prediction_set_bytes(struct prediction *prediction, size_t input, const struct shape *shape,
                                 const char *bytes, size_t length, struct error *error)
{
    struct tensor tensor = {.dtype = prediction->signature->inputs[input].dtype, .shape = *shape};
    if (tensor_bytes(&tensor) != length) {
        char text[SHAPE_TEXT_BYTES_MAX];
        error_set(error, STATUS_INVALID, "%zu bytes were given, its shape %s of %s takes %zu", length,
                  shape_text(shape, text), dtype_name(tensor.dtype), tensor_bytes(&tensor));
        return blame_input(prediction, input, STATUS_INVALID, error);
    }
    TRY(tensor_init(&tensor, tensor.dtype, shape, error));
    for (size_t i = 0; tensor.dtype == DTYPE_BOOL && i < length; i++) {
        ((bool *)tensor.data)[i] = bytes[i] != 0;
    }
    if (tensor.dtype != DTYPE_BOOL && length > 0) {
        memcpy(tensor.data, bytes, length);
    }
    set(prediction, input, &tensor);
    return STATUS_OK;
}

enum status prediction_set_state(struct prediction *prediction, size_t input, const struct tensor *value,
                                 struct error *error)
{
    struct tensor copy;
    TRY(tensor_init_copy(&copy, value, error));
    set(prediction, input, &copy);
    return STATUS_OK;
}

enum status prediction_set_zeros(struct prediction *prediction, size_t input, struct error *error)
{
    const struct served_end *end = &prediction->signature->inputs[input];
    struct shape shape = end->shape.rank == SHAPE_RANK_UNKNOWN ? shape_scalar() : end->shape;
    struct tensor zeros;
    for (int i = 0; i < shape.rank; i++) {
        shape.dimensions[i] = shape.dimensions[i] == DIMENSION_UNKNOWN ? 1 : shape.dimensions[i];
    }
    TRY(tensor_init(&zeros, end->dtype, &shape, error));
    set(prediction, input, &zeros);
    return STATUS_OK;
}

/* ---- the run ---- */

enum status prediction_run(struct prediction *prediction, size_t elements_max, uint32_t maximum_ms, struct error *error)
{
    settle_outputs(prediction);
    struct served_request request = {.signature = prediction->signature,
                                     .inputs = prediction->inputs,
                                     .outputs = prediction->outputs,
                                     .output_count = prediction->output_count,
                                     .elements_max = elements_max,
                                     .maximum_ms = maximum_ms};
    prediction->ran_ns = clock_now_ns();
    enum status status = served_graph_run(prediction->graph, &request, &prediction->run, error);
    prediction->done_ns = clock_now_ns();
    return status;
}

const struct served_end *prediction_output(const struct prediction *prediction, size_t index)
{
    return &prediction->signature->outputs[prediction->outputs[index]];
}

const struct tensor *prediction_value(const struct prediction *prediction, size_t index)
{
    return served_run_output(prediction->run, index);
}

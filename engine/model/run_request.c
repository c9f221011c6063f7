/* Requests of runs and their results, as JSON. Thread: see run_request.h. */
#include "engine/model/run_request.h"

#include "engine/base/mem.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a run");
}

enum status run_request_refuse(struct error *error, const char *field, const char *expected)
{
    enum status status = error_set(error, STATUS_INVALID, "/%s: %s", field, expected);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "/%.200s", field);
    }
    return status;
}

/* ---- names ---- */

/* What a build called it, where the graph has no node of that name. */
static const struct handle *find_handle(const struct graph *graph, const char *name)
{
    bool is_graph_name = strchr(name, ':') != NULL || graph_find_node(graph, name) != NULL;
    return is_graph_name ? NULL : graph_find_handle(graph, name);
}

/* The tensor a handle stands for; false when it does not stand for one. */
static bool handle_output(const struct handle *handle, struct output *ret_output)
{
    if (handle->kind == HANDLE_VARIABLE) {
        *ret_output = (struct output){handle->variable->node, 0};
    } else if (handle->kind == HANDLE_TENSOR) {
        *ret_output = handle->output;
    }
    return handle->kind == HANDLE_VARIABLE || handle->kind == HANDLE_TENSOR;
}

/* ---- feeds ---- */

/* A Python int that does not survive becoming the tensor's dtype. */
static enum status check_integer(const json_t *json, enum dtype dtype, struct error *error)
{
    if (!json_is_integer(json)) {
        return STATUS_OK;
    }
    json_int_t value = json_integer_value(json);
    bool survives = true;
    if (dtype_is_integer(dtype)) {
        int64_t least = 0;
        int64_t greatest = 0;
        dtype_integer_range(dtype, &least, &greatest);
        survives = value >= least && value <= greatest;
    } else if (dtype == DTYPE_BOOL) {
        survives = value == 0 || value == 1;
    } else if (dtype == DTYPE_FLOAT32) {
        survives = (double)(float)value == (double)value;
    }
    if (survives) {
        return STATUS_OK;
    }
    return error_raise(
        error, STATUS_INVALID, EXCEPTION_TYPE,
        "Type of feed value %lld with type <class 'int'> is not compatible with Tensor type <class 'numpy.%s%s'>. "
        "Try explicitly setting the type of the feed tensor to a larger type (e.g. int64).",
        (long long)value, dtype_name(dtype), dtype == DTYPE_BOOL ? "_" : "");
}

static enum status find_feed(const struct graph *graph, const char *name, struct output *ret_output,
                             struct error *error)
{
    const struct handle *handle = find_handle(graph, name);
    if (handle != NULL && handle_output(handle, ret_output)) {
        return STATUS_OK;
    }
    return session_find_feed(graph, name, ret_output, error);
}

/* {"tensor":"x:0"} where a value should stand. */
static enum status refuse_tensor(const struct graph *graph, struct output fed, const char *name, struct error *error)
{
    struct output output;
    char value[OUTPUT_TEXT_BYTES_MAX];
    char key[OUTPUT_TEXT_BYTES_MAX];
    TRY(find_feed(graph, name, &output, error));
    return error_raise(
        error, STATUS_INVALID, EXCEPTION_TYPE,
        "The value of a feed cannot be a tf.Tensor object. Acceptable feed values include Python scalars, "
        "strings, lists, numpy ndarrays, or TensorHandles. For reference, the tensor object was %s which was "
        "passed to the feed with key %s.",
        output_text(output, value), output_text(fed, key));
}

static enum status read_feed(struct run_request *request, const char *name, const json_t *json, struct error *error)
{
    size_t at = request->session.feed_count;
    struct feed *feed = &request->feeds[at];
    TRY(find_feed(request->graph, name, &feed->output, error));
    enum dtype dtype = output_type(feed->output)->dtype;
    const char *tensor = json_string_value(json_object_get(json, "tensor"));
    if (tensor != NULL) {
        return refuse_tensor(request->graph, feed->output, tensor, error);
    }
    TRY(check_integer(json, dtype, error));
    enum status status = tensor_convert_json(json, dtype, &request->values[at], error);
    if (status != STATUS_OK) {
        error_prefix(error, "/feeds/%.60s", name);
        return status;
    }
    request->session.feed_count++;
    feed->value = &request->values[at];
    return plan_check_feed(feed->output, &feed->value->shape, error);
}

static enum status read_feeds(struct run_request *request, const json_t *feeds, struct error *error)
{
    const char *name;
    json_t *value;
    if (feeds != NULL && !json_is_object(feeds)) {
        return run_request_refuse(error, "feeds", "must be an object of tensors by name");
    }
    size_t count = json_object_size(feeds);
    request->values = arena_allocate(&request->arena, count, sizeof *request->values);
    request->feeds = arena_allocate(&request->arena, count, sizeof *request->feeds);
    if (request->values == NULL || request->feeds == NULL) {
        return no_memory(error);
    }
    json_object_foreach((json_t *)(uintptr_t)feeds, name, value)
    {
        enum status status = read_feed(request, name, value, error);
        if (status != STATUS_OK) {
            if (error != NULL) {
                snprintf(error->param, sizeof error->param, "/feeds/%.200s", name);
            }
            return status;
        }
    }
    return STATUS_OK;
}

/* ---- fetches ---- */

/* Python's name for what stands in JSON. */
static const char *python_type(const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT: return "dict";
    case JSON_ARRAY: return "list";
    case JSON_STRING: return "str";
    case JSON_INTEGER: return "int";
    case JSON_REAL: return "float";
    case JSON_TRUE:
    case JSON_FALSE: return "bool";
    case JSON_NULL: return "NoneType";
    }
    return "object";
}

static enum status refuse_type(const char *shown, const char *type, struct error *error)
{
    if (strcmp(type, "NoneType") == 0) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "Fetch argument None has invalid type <class 'NoneType'>");
    }
    return error_raise(
        error, STATUS_INVALID, EXCEPTION_TYPE,
        "Fetch argument %s has invalid type <class '%s'>, must be a string or Tensor. (Can not convert a %s "
        "into a Tensor or Operation.)",
        shown, type, type);
}

static enum status refuse_json(const json_t *json, struct error *error)
{
    char *shown = json_dumps(json, JSON_ENCODE_ANY);
    char text[128];
    snprintf(text, sizeof text, "%.100s", shown == NULL ? "" : shown);
    free(shown);
    return refuse_type(text, python_type(json), error);
}

static enum status ask_for(struct run_request *request, struct output output, struct node *node, struct error *error)
{
    struct session_request *session = &request->session;
    if (session->fetch_count + session->target_count == PLAN_FETCHES_MAX) {
        return error_set(error, STATUS_TOO_LARGE, "a run takes at most %d fetches", PLAN_FETCHES_MAX);
    }
    if (node != NULL) {
        request->targets[session->target_count++] = node;
    } else {
        request->fetches[session->fetch_count++] = output;
    }
    return STATUS_OK;
}

/* All tensors and operations of a handle, in its order: a list's one by one. */
static enum status ask_for_handle(struct run_request *request, const char *name, const struct handle *handle,
                                  struct error *error)
{
    struct output output;
    if (handle->kind == HANDLE_OPERATION) {
        return ask_for(request, (struct output){.node = NULL}, handle->node, error);
    }
    if (handle_output(handle, &output)) {
        return ask_for(request, output, NULL, error);
    }
    if (handle->kind != HANDLE_LIST) {
        return refuse_type(name, handle->kind == HANDLE_NONE ? "NoneType" : "object", error);
    }
    for (size_t i = 0; i < handle->count; i++) {
        TRY(ask_for_handle(request, name, &handle->items[i], error));
    }
    return STATUS_OK;
}

static enum status read_fetch(struct run_request *request, const json_t *json, struct error *error)
{
    struct run_fetch *fetch = &request->asked[request->asked_count++];
    struct output output;
    struct node *node = NULL;
    fetch->name = json_string_value(json);
    if (fetch->name == NULL) {
        return refuse_json(json, error);
    }
    fetch->handle = find_handle(request->graph, fetch->name);
    if (fetch->handle != NULL) {
        return ask_for_handle(request, fetch->name, fetch->handle, error);
    }
    TRY(session_find_fetch(request->graph, fetch->name, &output, &node, error));
    if (node != NULL && node->variable != NULL) { /* a variable's name: its value */
        output = (struct output){node, 0};
        node = NULL;
    }
    fetch->is_operation = node != NULL;
    return ask_for(request, output, node, error);
}

static enum status read_target(struct run_request *request, const json_t *json, struct error *error)
{
    struct output output = {.node = NULL};
    struct node *node = NULL;
    const char *name = json_string_value(json);
    if (name == NULL) {
        return refuse_json(json, error);
    }
    const struct handle *handle = find_handle(request->graph, name);
    if (handle != NULL && handle->kind == HANDLE_OPERATION) {
        node = handle->node;
    } else if (handle != NULL && handle_output(handle, &output)) {
        node = output.node;
    } else {
        TRY(session_find_fetch(request->graph, name, &output, &node, error));
        node = node == NULL ? output.node : node;
    }
    return ask_for(request, output, node, error);
}

/* How many tensors and operations a list of names means at most. */
static size_t count_asked(const struct graph *graph, const json_t *names)
{
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        const struct handle *handle = name == NULL ? NULL : find_handle(graph, name);
        count += handle == NULL ? 1 : handle_leaf_count(handle);
    }
    return count < PLAN_FETCHES_MAX ? count : PLAN_FETCHES_MAX;
}

static enum status read_fetches(struct run_request *request, const json_t *json, struct error *error)
{
    const json_t *fetches = json_object_get(json, "fetches");
    const json_t *targets = json_object_get(json, "targets");
    if ((fetches != NULL && !json_is_array(fetches)) || (targets != NULL && !json_is_array(targets))) {
        return run_request_refuse(error, fetches != NULL && !json_is_array(fetches) ? "fetches" : "targets",
                                  "must be a list of names");
    }
    request->asked = arena_allocate(&request->arena, json_array_size(fetches), sizeof *request->asked);
    size_t count = count_asked(request->graph, fetches) + count_asked(request->graph, targets);
    request->fetches = arena_allocate(&request->arena, count, sizeof *request->fetches);
    request->targets = arena_allocate(&request->arena, count, sizeof(struct node *));
    if (request->asked == NULL || request->fetches == NULL || request->targets == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < json_array_size(fetches); i++) {
        TRY(read_fetch(request, json_array_get(fetches, i), error));
    }
    for (size_t i = 0; i < json_array_size(targets); i++) {
        TRY(read_target(request, json_array_get(targets, i), error));
    }
    request->results = arena_allocate(&request->arena, request->session.fetch_count, sizeof *request->results);
    return request->results == NULL ? no_memory(error) : STATUS_OK;
}

/* ---- the whole ---- */

static enum status check_fields(const json_t *json, struct run_request *request, struct error *error)
{
    static const char *const fields[] = {"feeds", "fetches", "targets", "generation", "encoding"};
    const char *key;
    json_t *value;
    if (!json_is_object(json)) {
        return run_request_refuse(error, "", "a run is an object");
    }
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        bool is_known = false;
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
            is_known = is_known || strcmp(fields[i], key) == 0;
        }
        if (!is_known) {
            return run_request_refuse(error, key, "unknown field");
        }
    }
    const json_t *encoding = json_object_get(json, "encoding");
    if (encoding != NULL &&
        (!json_is_string(encoding) || !tensor_encoding_from_name(json_string_value(encoding), &request->encoding))) {
        return run_request_refuse(error, "encoding", "must be \"nested\", \"flat\" or \"base64\"");
    }
    if (json_object_get(json, "fetches") == NULL && json_object_get(json, "targets") == NULL) {
        return run_request_refuse(error, "fetches", "a run needs \"fetches\" or \"targets\"");
    }
    return STATUS_OK;
}

enum status run_request_read(struct graph *graph, const json_t *json, struct run_request *request, struct error *error)
{
    request->graph = graph_ref(graph);
    request->encoding = TENSOR_NESTED;
    TRY(check_fields(json, request, error));
    TRY(read_feeds(request, json_object_get(json, "feeds"), error));
    TRY(read_fetches(request, json, error));
    request->session.feeds = request->feeds;
    request->session.fetches = request->fetches;
    request->session.targets = request->targets;
    return STATUS_OK;
}

void run_request_release(struct run_request *request)
{
    for (size_t i = 0; i < request->session.feed_count; i++) {
        tensor_release(&request->values[i]);
    }
    arena_release(&request->arena);
    graph_unref(request->graph);
    *request = (struct run_request){.graph = NULL};
}

/* ---- results ---- */

enum status run_request_check_size(const struct run_request *request, size_t elements, struct error *error)
{
    size_t most = request->encoding == TENSOR_BASE64 ? TENSOR_JSON_ELEMENTS_MAX : TENSOR_JSON_REPLY_ELEMENTS_MAX;
    if (elements > most) {
        return error_set(error, STATUS_TOO_LARGE, "the fetches have %zu elements; a reply of this encoding at most %zu",
                         elements, most);
    }
    return STATUS_OK;
}

/* What a handle stands for, with its tensors' results from *at on; a list with names becomes an object. */
static json_t *handle_to_json(const struct run_request *request, const struct handle *handle, size_t *at)
{
    if (handle->kind == HANDLE_OPERATION) {
        return json_null();
    }
    if (handle->kind != HANDLE_LIST) {
        json_t *json = NULL;
        return tensor_to_json(&request->results[(*at)++], request->encoding, &json, NULL) == STATUS_OK ? json : NULL;
    }
    bool has_names = handle->names != NULL && handle->count > 0;
    for (size_t i = 0; has_names && i < handle->count; i++) {
        has_names = handle->names[i] != NULL;
    }
    json_t *json = has_names ? json_object() : json_array();
    for (size_t i = 0; json != NULL && i < handle->count; i++) {
        json_t *item = handle_to_json(request, &handle->items[i], at);
        if ((has_names ? json_object_set_new(json, handle->names[i], item) : json_array_append_new(json, item)) != 0) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

enum status run_request_results(const struct run_request *request, json_t **ret_results, struct error *error)
{
    json_t *results = json_object();
    size_t at = 0;
    for (size_t i = 0; results != NULL && i < request->asked_count; i++) {
        const struct run_fetch *fetch = &request->asked[i];
        struct handle plain = {.kind = fetch->is_operation ? HANDLE_OPERATION : HANDLE_TENSOR};
        json_t *json = handle_to_json(request, fetch->handle == NULL ? &plain : fetch->handle, &at);
        if (json_object_set_new(results, fetch->name, json) != 0) {
            json_decref(results);
            results = NULL;
        }
    }
    if (results == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the results of a run");
    }
    *ret_results = results;
    return STATUS_OK;
}

/* Drives the engine's C calls for tests/conformance/run: one line of JSON in ({"do":…}), one out ({"reply":…} or
 * {"error":{"type","message"}}). Ends with its input. */
#include <jansson.h>
#include <stdio.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/graph/function.h"
#include "engine/graph/variable.h"
#include "engine/math/gemm.h"
#include "engine/model/run_request.h"
#include "engine/model/workbench.h"
#include "engine/store/handle_json.h"
#include "engine/store/saver_file.h"
#include "engine/store/tensor_json.h"

static struct workbench *bench;

static const char *text_of(const json_t *command, const char *field)
{
    return json_string_value(json_object_get(command, field));
}

static uint32_t number_of(const json_t *command, const char *field)
{
    return (uint32_t)json_integer_value(json_object_get(command, field));
}

static struct graph *default_graph(void)
{
    return workbench_graph(bench, workbench_default_graph(bench));
}

/* ---- graphs, contexts, names ---- */

static enum status do_begin(const json_t *command, json_t **ret_reply, struct error *error)
{
    (void)command;
    (void)ret_reply;
    workbench_destroy(bench);
    bench = NULL;
    return workbench_create(&bench, error);
}

static enum status do_new_graph(const json_t *command, json_t **ret_reply, struct error *error)
{
    uint32_t graph = 0;
    (void)command;
    TRY(workbench_new_graph(bench, &graph, error));
    *ret_reply = json_pack("{s:i}", "graph", graph);
    return STATUS_OK;
}

static enum status do_default_graph(const json_t *command, json_t **ret_reply, struct error *error)
{
    (void)command;
    (void)error;
    *ret_reply = json_pack("{s:i}", "graph", workbench_default_graph(bench));
    return STATUS_OK;
}

/* Enters what the command's field names. */
static enum status enter(const json_t *command, const char *field,
                         enum status (*open)(struct workbench *workbench, uint32_t number, uint32_t *ret_context,
                                             struct error *error),
                         json_t **ret_reply, struct error *error)
{
    uint32_t context = 0;
    TRY(open(bench, number_of(command, field), &context, error));
    *ret_reply = json_pack("{s:i}", "context", context);
    return STATUS_OK;
}

static enum status do_enter_graph(const json_t *command, json_t **ret_reply, struct error *error)
{
    return enter(command, "graph", workbench_enter_graph, ret_reply, error);
}

static enum status do_reset_default_graph(const json_t *command, json_t **ret_reply, struct error *error)
{
    (void)command;
    (void)ret_reply;
    return workbench_reset_default_graph(bench, error);
}

static enum status do_step(const json_t *command, json_t **ret_reply, struct error *error)
{
    json_t *results = NULL;
    TRY(workbench_step(bench, json_object_get(command, "step"), &results, error));
    *ret_reply = json_pack("{s:o}", "results", results);
    return STATUS_OK;
}

/* A function's call on elements of any graphs: made, as in TensorFlow, in the graph of the first. */
static enum status do_call(const json_t *command, json_t **ret_reply, struct error *error)
{
    const json_t *args = json_object_get(command, "args");
    struct call_argument arguments[8] = {{.name = NULL}};
    struct graph *graph = default_graph();
    for (size_t i = 0; i < json_array_size(args) && i < 8; i++) {
        const json_t *arg = json_array_get(args, i);
        struct graph *owner = json_is_object(arg) ? workbench_graph(bench, number_of(arg, "graph")) : default_graph();
        const char *name = json_is_object(arg) ? text_of(arg, "handle") : json_string_value(arg);
        const struct handle *handle = name == NULL ? NULL : graph_find_handle(owner, name);
        if (handle == NULL || handle->kind != HANDLE_TENSOR) {
            return error_set(error, STATUS_NOT_FOUND, "argument %zu is no tensor", i);
        }
        arguments[i].output = handle->output;
        graph = i == 0 ? owner : graph;
    }
    struct call call = {.function = text_of(command, "function"),
                        .name = text_of(command, "name"),
                        .arguments = arguments,
                        .argument_count = json_array_size(args)};
    struct call_result *result = mem_allocate(1, sizeof *result);
    CHECK(result != NULL);
    enum status status = graph_call(graph, &call, result, error);
    mem_free(result);
    *ret_reply = json_pack("{s:{}}", "results");
    return status;
}

static enum status do_enter(const json_t *command, json_t **ret_reply, struct error *error)
{
    json_t *results = NULL;
    uint32_t context = 0;
    TRY(workbench_open(bench, json_object_get(command, "step"), &context, &results, error));
    *ret_reply = json_pack("{s:o, s:i}", "results", results, "context", context);
    return STATUS_OK;
}

static enum status do_exit(const json_t *command, json_t **ret_reply, struct error *error)
{
    (void)ret_reply;
    return workbench_leave(bench, number_of(command, "what"), error);
}

static enum status do_unique_name(const json_t *command, json_t **ret_reply, struct error *error)
{
    const char *name = NULL;
    bool is_peek = json_is_false(json_object_get(command, "mark_as_used"));
    TRY(is_peek ? graph_peek_name(default_graph(), text_of(command, "name"), &name, error)
                : graph_unique_name(default_graph(), text_of(command, "name"), &name, error));
    *ret_reply = json_pack("{s:s}", "name", name);
    return STATUS_OK;
}

static enum status do_name_scope(const json_t *command, json_t **ret_reply, struct error *error)
{
    (void)command;
    (void)error;
    *ret_reply = json_pack("{s:s}", "name", graph_name_scope(default_graph()));
    return STATUS_OK;
}

static enum status do_create_op(const json_t *command, json_t **ret_reply, struct error *error)
{
    struct node *node = NULL;
    TRY(graph_add_operation(default_graph(), text_of(command, "type"), text_of(command, "name"), &node, error));
    *ret_reply = json_pack("{s:s}", "name", node->name);
    return STATUS_OK;
}

/* ---- looking ---- */

static enum status do_look_at(const json_t *command, json_t **ret_reply, struct error *error)
{
    const struct handle *handle = graph_find_handle(default_graph(), text_of(command, "name"));
    if (handle == NULL) {
        return error_set(error, STATUS_NOT_FOUND, "nothing is named %s", text_of(command, "name"));
    }
    *ret_reply = handle_to_json(default_graph(), handle);
    return STATUS_OK;
}

static json_t *collection_names(const struct graph *graph, const char *key)
{
    json_t *names = json_array();
    for (size_t i = 0; i < graph_collection_count(graph, key); i++) {
        char text[OUTPUT_NAME_BYTES_MAX];
        json_array_append_new(names, json_string(handle_name(graph_collection_at(graph, key, i), text)));
    }
    return names;
}

static enum status do_describe(const json_t *command, json_t **ret_reply, struct error *error)
{
    const struct graph *graph = default_graph();
    json_t *shapes = json_object();
    (void)command;
    (void)error;
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        char text[OUTPUT_NAME_BYTES_MAX];
        struct output output = {graph_variable(graph, i)->node, 0};
        json_object_set_new(shapes, output_name(output, text), shape_to_json(&output_type(output)->shape));
    }
    *ret_reply =
        json_pack("{s:o, s:o, s:o}", "global_variables", collection_names(graph, COLLECTION_GLOBAL_VARIABLES),
                  "trainable_variables", collection_names(graph, COLLECTION_TRAINABLE_VARIABLES), "shapes", shapes);
    return STATUS_OK;
}

/* ---- sessions ---- */

static enum status do_new_session(const json_t *command, json_t **ret_reply, struct error *error)
{
    const json_t *given = json_object_get(command, "graph");
    uint32_t graph = given == NULL ? workbench_default_graph(bench) : (uint32_t)json_integer_value(given);
    uint32_t session = 0;
    TRY(workbench_new_session(bench, graph, &session, error));
    *ret_reply = json_pack("{s:i}", "session", session);
    return STATUS_OK;
}

static enum status do_enter_session(const json_t *command, json_t **ret_reply, struct error *error)
{
    return enter(command, "session", workbench_enter_session, ret_reply, error);
}

static enum status do_enter_session_as_default(const json_t *command, json_t **ret_reply, struct error *error)
{
    return enter(command, "session", workbench_enter_default_session, ret_reply, error);
}

static enum status do_close_session(const json_t *command, json_t **ret_reply, struct error *error)
{
    (void)ret_reply;
    (void)error;
    workbench_close_session(bench, number_of(command, "session"));
    return STATUS_OK;
}

static enum status refuse_value(struct error *error, const char *message)
{
    return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "%s", message);
}

static enum status find_session(const json_t *command, struct session **ret_session, struct error *error)
{
    *ret_session = workbench_session(bench, number_of(command, "session"));
    if (*ret_session == NULL) {
        return refuse_value(error, "Cannot evaluate tensor using `eval()`: No default session is registered. Use `with "
                                   "sess.as_default()` or pass an explicit session to `eval(session=sess)`");
    }
    return STATUS_OK;
}

/* The name of a fetch or feed; {"graph":g,"name":"x:0"} is an element of that graph: `ret_is_foreign` where that is not
 * the session's. */
static const char *element_name(const struct graph *graph, const json_t *element, bool *ret_is_foreign)
{
    if (!json_is_object(element)) {
        return json_string_value(element);
    }
    *ret_is_foreign = *ret_is_foreign || workbench_graph(bench, number_of(element, "graph")) != graph;
    return text_of(element, "name");
}

/* Runs with one element of another graph, fetched or fed: refused. */
static enum status run_foreign(struct session *session, const json_t *element, bool is_feed, struct error *error)
{
    struct output output;
    struct node *node = NULL;
    struct session_run *run = NULL;
    float zero = 0;
    const struct tensor value = {DTYPE_FLOAT32, shape_scalar(), &zero};
    struct feed feed = {.value = &value};
    TRY(session_find_fetch(workbench_graph(bench, number_of(element, "graph")), text_of(element, "name"), &output,
                           &node, error));
    struct session_request request = {
        .fetches = &output,
        .fetch_count = node == NULL,
        .targets = &node,
        .target_count = node != NULL,
    };
    if (is_feed) {
        feed.output = output;
        request = (struct session_request){.feeds = &feed, .feed_count = 1};
    }
    TRY(session_prepare(session, &request, &run, error));
    session_run_end(run);
    return STATUS_OK;
}

/* `tensor.eval()` wants a tensor of the session's graph. */
static enum status check_evaluation(const struct session *session, const json_t *command, struct error *error)
{
    const json_t *element = json_array_get(json_object_get(command, "fetches"), 0);
    bool is_foreign = false;
    (void)element_name(session_graph(session), element, &is_foreign);
    if (json_is_false(json_object_get(command, "evaluates")) || !is_foreign) {
        return STATUS_OK;
    }
    if (number_of(command, "session") != 0) {
        return refuse_value(error, "Cannot use the given session to evaluate tensor: the tensor's graph is different "
                                   "from the session's graph.");
    }
    return refuse_value(error, "Cannot use the default session to evaluate tensor: the tensor's graph is different "
                               "from the session's graph. Pass an explicit session to `eval(session=sess)`.");
}

/* The request as over HTTP: {"feeds":{name:value},"fetches":[name]}. */
static enum status make_request(struct session *session, const json_t *command, json_t **ret_request,
                                struct error *error)
{
    json_t *feeds = json_object();
    json_t *fetches = json_array();
    const json_t *item;
    size_t i;
    enum status status = STATUS_OK;
    json_array_foreach(json_object_get(command, "feeds"), i, item)
    {
        bool is_foreign = false;
        const json_t *key = json_object_get(item, "key");
        const char *name = element_name(session_graph(session), key, &is_foreign);
        json_object_set(feeds, name, json_object_get(item, "value"));
        status = is_foreign && status == STATUS_OK ? run_foreign(session, key, true, error) : status;
    }
    json_array_foreach(json_object_get(command, "fetches"), i, item)
    {
        bool is_foreign = false;
        const char *name = element_name(session_graph(session), item, &is_foreign);
        json_array_append_new(fetches, name == NULL ? json_deep_copy(item) : json_string(name));
        status = is_foreign && status == STATUS_OK ? run_foreign(session, item, false, error) : status;
    }
    *ret_request = json_pack("{s:o, s:o}", "feeds", feeds, "fetches", fetches);
    return status;
}

static enum status go(struct session *session, struct run_request *request, const json_t *fetches, json_t **ret_reply,
                      struct error *error)
{
    struct session_run *run = NULL;
    struct session_run_options options = {.random_key = rng_system()};
    json_t *results = NULL;
    TRY(session_prepare(session, &request->session, &run, error));
    enum status status = session_run_go(run, &options, request->results, error);
    if (status == STATUS_OK) {
        status = run_request_results(request, &results, error);
    }
    session_run_end(run);
    TRY(status);
    json_t *values = json_array();
    for (size_t i = 0; i < json_array_size(fetches); i++) {
        json_array_append(values, json_object_get(results, json_string_value(json_array_get(fetches, i))));
    }
    json_decref(results);
    *ret_reply = json_pack("{s:o}", "values", values);
    return STATUS_OK;
}

static enum status do_run(const json_t *command, json_t **ret_reply, struct error *error)
{
    struct session *session = NULL;
    struct run_request request = {.graph = NULL};
    json_t *json = NULL;
    TRY(find_session(command, &session, error));
    TRY(check_evaluation(session, command, error));
    TRY(session_check(session, error));
    enum status status = make_request(session, command, &json, error);
    if (status == STATUS_OK) {
        status = run_request_read(session_graph(session), json, &request, error);
    }
    if (status == STATUS_OK) {
        status = go(session, &request, json_object_get(json, "fetches"), ret_reply, error);
    }
    run_request_release(&request);
    json_decref(json);
    return status;
}

/* `variable.load(value, session)`: a run of the initialiser, its value fed. */
static enum status do_load(const json_t *command, json_t **ret_reply, struct error *error)
{
    struct session *session = workbench_session(bench, number_of(command, "session"));
    struct tensor tensor;
    struct output output;
    (void)ret_reply;
    if (session == NULL) {
        return refuse_value(error, "Either session argument should be provided or default session should be "
                                   "established. Use `with sess.as_default()` or pass an explicit session to load");
    }
    TRY(session_check(session, error));
    TRY(graph_find_output(session_graph(session), text_of(command, "variable"), &output, error));
    TRY(tensor_from_json(json_object_get(command, "value"), output_type(output)->dtype, &tensor, error));
    const struct variable *variable = graph_variable_of_node(session_graph(session), output.node);
    CHECK(variable != NULL);
    enum status status = plan_check_feed(variable->initial, &tensor.shape, error);
    if (status == STATUS_OK) {
        status = values_set(session_values(session), variable, &tensor, error);
    }
    tensor_release(&tensor);
    return status;
}

/* ---- saving ---- */

static enum status find_saver(const json_t *command, uint32_t *ret_saver, struct error *error)
{
    const struct handle *handle = graph_find_handle(default_graph(), text_of(command, "saver"));
    if (handle == NULL || handle->kind != HANDLE_OBJECT || handle->object_kind != OBJECT_SAVER) {
        return error_set(error, STATUS_NOT_FOUND, "%s is no saver", text_of(command, "saver"));
    }
    *ret_saver = handle->object_id;
    return STATUS_OK;
}

static enum status do_save(const json_t *command, json_t **ret_reply, struct error *error)
{
    struct session *session = NULL;
    uint32_t saver = 0;
    (void)ret_reply;
    TRY(find_session(command, &session, error));
    TRY(session_check(session, error));
    TRY(find_saver(command, &saver, error));
    return saver_save(default_graph(), saver, session_values(session), text_of(command, "path"), error);
}

static enum status do_restore(const json_t *command, json_t **ret_reply, struct error *error)
{
    struct session *session = NULL;
    uint32_t saver = 0;
    (void)ret_reply;
    TRY(find_session(command, &session, error));
    TRY(session_check(session, error));
    TRY(find_saver(command, &saver, error));
    return saver_restore(default_graph(), saver, session_values(session), text_of(command, "path"), error);
}

static enum status do_uninitialized(const json_t *command, json_t **ret_reply, struct error *error)
{
    struct session *session = NULL;
    TRY(find_session(command, &session, error));
    const struct graph *graph = session_graph(session);
    const struct variable **variables = mem_allocate(2 * graph_variable_count(graph) + 1, sizeof *variables);
    CHECK(variables != NULL);
    size_t count = list_uninitialized_variables(graph, session_values(session), variables);
    json_t *names = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(names, json_string(variables[i]->node->name));
    }
    mem_free(variables);
    *ret_reply = json_pack("{s:o}", "names", names);
    return STATUS_OK;
}

/* ---- the loop ---- */

static const struct {
    const char *name;
    enum status (*call)(const json_t *command, json_t **ret_reply, struct error *error);
} calls[] = {
    {"begin", do_begin},
    {"new_graph", do_new_graph},
    {"default_graph", do_default_graph},
    {"enter_graph", do_enter_graph},
    {"reset_default_graph", do_reset_default_graph},
    {"step", do_step},
    {"call", do_call},
    {"enter", do_enter},
    {"exit", do_exit},
    {"unique_name", do_unique_name},
    {"name_scope", do_name_scope},
    {"create_op", do_create_op},
    {"look_at", do_look_at},
    {"describe", do_describe},
    {"new_session", do_new_session},
    {"enter_session", do_enter_session},
    {"enter_session_as_default", do_enter_session_as_default},
    {"close_session", do_close_session},
    {"run", do_run},
    {"load", do_load},
    {"save", do_save},
    {"restore", do_restore},
    {"uninitialized", do_uninitialized},
};

static json_t *answer(const json_t *command)
{
    struct error error = {.status = STATUS_OK};
    json_t *reply = NULL;
    const char *name = text_of(command, "do");
    for (size_t i = 0; name != NULL && i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(calls[i].name, name) == 0) {
            enum status status = calls[i].call(command, &reply, &error);
            if (status == STATUS_OK) {
                return json_pack("{s:o}", "reply", reply == NULL ? json_object() : reply);
            }
            json_decref(reply);
            return json_pack("{s:{s:s, s:s, s:s}}", "error", "type",
                             error.type[0] == '\0' ? status_name(status) : error.type, "message", error.message,
                             "param", error.param);
        }
    }
    return json_pack("{s:{s:s, s:s}}", "error", "type", "unknown", "message", "no such call");
}

int main(void)
{
    char *line = NULL;
    CHECK(gemm_start(NULL) == STATUS_OK);
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0) {
        json_error_t json_error;
        json_t *command = json_loads(line, JSON_DECODE_ANY | JSON_ALLOW_NUL, &json_error);
        json_t *reply = answer(command);
        char *text = json_dumps(reply, JSON_COMPACT);
        CHECK(text != NULL);
        puts(text);
        fflush(stdout);
        free(text);
        json_decref(reply);
        json_decref(command);
    }
    free(line);
    workbench_destroy(bench);
    return 0;
}

/* Finding the route of a request, and refusing what must not pass. Thread: loop. What was found lives in the request's
 * arena; owns nothing else. */
#include "daemon/routes.h"

#include "daemon/api.h"
#include "daemon/log.h"
#include "daemon/trace.h"
#include "daemon/upload.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"

static const struct route table[] = {
    {"GET", "/health/live", api_health_live, SCOPE_OPEN, ROUTE_QUIET | ROUTE_DRAINING, "whether the event loop turns"},

    {"GET", "/health/ready", api_health_ready, SCOPE_OPEN, ROUTE_QUIET | ROUTE_DRAINING,
     "whether it serves, and which models were refused"},
    {"GET", "/metrics", api_metrics, SCOPE_GENERATE, ROUTE_QUIET | ROUTE_DRAINING | ROUTE_METRICS,
     "counters and histograms for Prometheus"},
    {"GET", "/monitoring/prometheus/metrics", api_metrics, SCOPE_GENERATE, ROUTE_QUIET | ROUTE_DRAINING | ROUTE_METRICS,
     "the same, where TF Serving has them"},
    {"POST", "/v1/reload", api_reload, SCOPE_ADMIN, 0, "reads configuration, keys and model directories again"},

    {"POST", "/v1/completions", api_completions, SCOPE_GENERATE, 0, "text behind prompts, as OpenAI's completions"},
    {"GET", "/v1/models/{m}/generate", api_generate, SCOPE_GENERATE, 0,
     "bare text as it is made, the fields in the query"},
    {"POST", "/v1/models/{m}/generate", api_generate, SCOPE_GENERATE, 0,
     "text as JSON, bare text or events, by Accept"},
    {"GET", "/v1/requests", api_requests, SCOPE_ADMIN, 0, "texts being made"},
    {"DELETE", "/v1/requests/{id}", api_request_delete, SCOPE_GENERATE, 0, "cancels a text being made"},

    {"GET", "/", api_page, SCOPE_OPEN, 0, "the web page"},
    {"GET", "/openapi.json", api_openapi, SCOPE_GENERATE, 0, "this description"},
    {"GET", "/v1/models", api_models_list, SCOPE_GENERATE, 0, "all models"},
    {"GET", "/v1/models/{m}", api_models_get, SCOPE_GENERATE, 0, "one model in full"},
    {"PUT", "/v1/models/{m}", api_models_put, SCOPE_ADMIN, ROUTE_UPLOAD, "makes a model, also of a foreign one"},
    {"DELETE", "/v1/models/{m}", api_models_delete, SCOPE_ADMIN, 0, "unloads a model and removes its files"},
    {"POST", "/v1/models/{m}/save", api_models_save, SCOPE_ADMIN, 0, "freezes the graph into a new version"},
    {"POST", "/v1/models/{m}/restore", api_models_restore, SCOPE_ADMIN, 0, "puts a version's values into the graph"},
    {"POST", "/v1/models/{m}/load", api_models_load, SCOPE_ADMIN, 0, "reads the model's directory again and waits"},
    {"POST", "/v1/models/{m}/unload", api_models_unload, SCOPE_ADMIN, 0, "frees the model's memory, keeps its files"},
    {"GET", "/v1/models/{m}/labels", api_labels_get, SCOPE_GENERATE, 0, "the model's labels"},
    {"PUT", "/v1/models/{m}/labels/{label}", api_labels_put, SCOPE_ADMIN, 0, "sets a label"},
    {"DELETE", "/v1/models/{m}/labels/{label}", api_labels_delete, SCOPE_ADMIN, 0, "removes a label"},
    {"GET", "/v1/models/{m}/settings", api_settings_get, SCOPE_ADMIN, 0, "the model's settings"},
    {"PATCH", "/v1/models/{m}/settings", api_settings_patch, SCOPE_ADMIN, 0, "changes some of the model's settings"},
    {"GET", "/v1/models/{m}/export", api_models_export, SCOPE_ADMIN, 0, "a version as a file"},

    {"GET", "/v1/models/{m}/graph", api_graph_get, SCOPE_ADMIN, 0, "the live graph, also as a picture"},
    {"POST", "/v1/models/{m}/graph/build", api_graph_build, SCOPE_ADMIN, ROUTE_PROGRAM,
     "applies a build program, whole or not at all"},
    {"POST", "/v1/models/{m}/graph/reset", api_graph_reset, SCOPE_ADMIN, 0, "a new graph, empty or from a version"},
    {"POST", "/v1/models/{m}/graph/run", api_graph_run, SCOPE_ADMIN, 0, "runs the graph by feeds and fetches"},
    {"GET", "/v1/models/{m}/variables", api_variables_list, SCOPE_ADMIN, 0, "the graph's variables"},
    {"GET", "/v1/models/{m}/variables/{name…}", api_variables_get, SCOPE_ADMIN, 0, "a variable's value"},
    {"PUT", "/v1/models/{m}/variables/{name…}", api_variables_put, SCOPE_ADMIN, 0, "sets a variable's value"},

    {"POST", "/v1/models/{m}/train", api_train_start, SCOPE_ADMIN, 0, "begins a training job"},
    {"GET", "/v1/models/{m}/train", api_train_get, SCOPE_ADMIN, ROUTE_DRAINING, "where the training job stands"},
    {"GET", "/v1/models/{m}/train/events", api_train_events, SCOPE_ADMIN, 0, "the training job as events"},
    {"DELETE", "/v1/models/{m}/train", api_train_stop, SCOPE_ADMIN, 0, "stops the training job after its step"},
    {"PUT", "/v1/corpora/{name}", api_corpora_put, SCOPE_ADMIN, ROUTE_CORPUS, "keeps a text for training"},
    {"GET", "/v1/corpora/{name}", api_corpora_get, SCOPE_ADMIN, 0, "a kept text"},
    {"DELETE", "/v1/corpora/{name}", api_corpora_delete, SCOPE_ADMIN, 0, "removes a kept text"},

    {"POST", "/v1/models/{m}/score", api_score, SCOPE_GENERATE, 0, "how likely a text is, and what may follow it"},
    {"POST", "/v1/chat/completions", api_chat_completions, SCOPE_GENERATE, 0, "a reply to messages, as OpenAI's chats"},
    {"POST", "/tokenize", api_tokenize, SCOPE_GENERATE, 0, "the symbols of a text"},
    {"POST", "/detokenize", api_detokenize, SCOPE_GENERATE, 0, "the text of symbols"},
    {"GET", "/tokenizer_info", api_tokenizer_info, SCOPE_GENERATE, 0, "what the vocabulary is"},
    {"GET", "/v1/sessions", api_sessions_list, SCOPE_GENERATE, 0, "the key's own sessions"},
    {"GET", "/v1/sessions/{name}", api_sessions_get, SCOPE_GENERATE, 0, "one session, perhaps with its state"},
    {"PUT", "/v1/sessions/{name}", api_sessions_put, SCOPE_GENERATE, 0, "makes a session"},
    {"DELETE", "/v1/sessions/{name}", api_sessions_delete, SCOPE_GENERATE, 0, "ends a session"},

    {"GET", "/v2", api_oip_server, SCOPE_GENERATE, ROUTE_FOREIGN,
     "what this server is, to the Open Inference Protocol"},
    {"GET", "/v2/health/live", api_oip_live, SCOPE_OPEN, ROUTE_FOREIGN | ROUTE_QUIET | ROUTE_DRAINING,
     "whether the event loop turns"},
    {"GET", "/v2/health/ready", api_oip_ready, SCOPE_OPEN, ROUTE_FOREIGN | ROUTE_QUIET | ROUTE_DRAINING,
     "whether every model serves"},
    {"GET", "/v2/models/stats", api_oip_all_stats, SCOPE_GENERATE, ROUTE_FOREIGN, "what inference took, of all models"},
    {"GET", "/v2/models/{m}", api_oip_model, SCOPE_GENERATE, ROUTE_FOREIGN, "a model's versions, inputs and outputs"},
    {"GET", "/v2/models/{m}/versions/{v}", api_oip_model, SCOPE_GENERATE, ROUTE_FOREIGN,
     "a version's inputs and outputs"},
    {"GET", "/v2/models/{m}/ready", api_oip_model_ready, SCOPE_GENERATE, ROUTE_FOREIGN | ROUTE_QUIET,
     "whether a model serves"},
    {"GET", "/v2/models/{m}/versions/{v}/ready", api_oip_model_ready, SCOPE_GENERATE, ROUTE_FOREIGN | ROUTE_QUIET,
     "whether a version can be asked for"},
    {"GET", "/v2/models/{m}/stats", api_oip_stats, SCOPE_GENERATE, ROUTE_FOREIGN, "what a model's inference took"},
    {"GET", "/v2/models/{m}/versions/{v}/stats", api_oip_stats, SCOPE_GENERATE, ROUTE_FOREIGN,
     "what a version's inference took"},
    {"POST", "/v2/models/{m}/infer", api_oip_infer, SCOPE_GENERATE, ROUTE_FOREIGN,
     "runs a signature, in JSON or binary tensors"},
    {"POST", "/v2/models/{m}/versions/{v}/infer", api_oip_infer, SCOPE_GENERATE, ROUTE_FOREIGN,
     "runs a version's signature"},
    {"POST", "/v2/models/{m}/generate", api_oip_generate, SCOPE_GENERATE, ROUTE_FOREIGN, "text behind text_input"},
    {"POST", "/v2/models/{m}/versions/{v}/generate", api_oip_generate, SCOPE_GENERATE, ROUTE_FOREIGN,
     "text of a version"},
    {"POST", "/v2/models/{m}/generate_stream", api_oip_generate_stream, SCOPE_GENERATE, ROUTE_FOREIGN,
     "text behind text_input, as events"},
    {"POST", "/v2/models/{m}/versions/{v}/generate_stream", api_oip_generate_stream, SCOPE_GENERATE, ROUTE_FOREIGN,
     "text of a version, as events"},
    {"GET", "/v2/logging", api_oip_logging_get, SCOPE_ADMIN, ROUTE_FOREIGN, "what is logged"},
    {"POST", "/v2/logging", api_oip_logging_set, SCOPE_ADMIN, ROUTE_FOREIGN,
     "what is logged, until the configuration is read again"},
    {"POST", "/v2/repository/index", api_oip_index, SCOPE_GENERATE, ROUTE_FOREIGN, "all models and versions"},
    {"POST", "/v2/repository/models/{m}/load", api_oip_load, SCOPE_ADMIN, ROUTE_FOREIGN,
     "reads the model's directory again and waits"},
    {"POST", "/v2/repository/models/{m}/unload", api_oip_unload, SCOPE_ADMIN, ROUTE_FOREIGN,
     "frees the model's memory, keeps its files"},
    {"POST", "/v1/models/{m}", api_tf_predict, SCOPE_GENERATE, ROUTE_FOREIGN,
     "TF Serving's predict, by rows or columns"}, /* m:predict */
    {"GET", "/v1/models/{m}/metadata", api_tf_metadata, SCOPE_GENERATE, ROUTE_FOREIGN, "TF Serving's metadata"},
    {"GET", "/v1/models/{m}/versions/{v}", api_tf_status, SCOPE_GENERATE, ROUTE_FOREIGN,
     "TF Serving's status of a version"},
    {"POST", "/v1/models/{m}/versions/{v}", api_tf_predict, SCOPE_GENERATE, ROUTE_FOREIGN,
     "TF Serving's predict on a version"}, /* 7:predict */
    {"GET", "/v1/models/{m}/versions/{v}/metadata", api_tf_metadata, SCOPE_GENERATE, ROUTE_FOREIGN,
     "TF Serving's metadata of a version"},
    {"GET", "/v1/models/{m}/labels/{label}", api_tf_status, SCOPE_GENERATE, ROUTE_FOREIGN,
     "TF Serving's status of a label's version"},
    {"POST", "/v1/models/{m}/labels/{label}", api_tf_predict, SCOPE_GENERATE, ROUTE_FOREIGN,
     "TF Serving's predict on a label's version"}, /* stable:predict */
    {"GET", "/v1/models/{m}/labels/{label}/metadata", api_tf_metadata, SCOPE_GENERATE, ROUTE_FOREIGN,
     "TF Serving's metadata of a label's version"},
};
enum { ROUTE_COUNT = sizeof table / sizeof *table };

/* What routes_on_head found; the request's data. */
struct found {
    const struct route *route;
    const char *parameters[ROUTE_PARAMETERS_MAX];
    struct upload *upload; /* while it comes */
    struct caller caller;
    bool is_identified;
    struct trace trace;
};

const struct route *routes_table(size_t *ret_count)
{
    *ret_count = ROUTE_COUNT;
    return table;
}

const char *route_parameter(const struct request *request, size_t index)
{
    const struct found *found = request_data(request);
    CHECK(index < ROUTE_PARAMETERS_MAX && found->parameters[index] != NULL);
    return found->parameters[index];
}

const struct caller *request_caller(const struct request *request)
{
    const struct found *found = request_data(request);
    return found == NULL || !found->is_identified ? NULL : &found->caller;
}

struct upload **route_upload(struct request *request)
{
    struct found *found = request_data(request);
    return &found->upload;
}

/* ---- Paths */

static int hex_digit(char digit)
{
    return digit >= '0' && digit <= '9'   ? digit - '0'
           : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
           : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                          : -1;
}

enum status percent_decode(const char *text, size_t length, struct arena *arena, const char **ret_text,
                           struct error *error)
{
    char *decoded = arena_allocate(arena, length + 1, 1);
    if (decoded == NULL) {
        return error_set(error, STATUS_TOO_LARGE, "no room to decode %zu bytes of the URL", length);
    }
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        int high = text[i] == '%' && i + 2 < length ? hex_digit(text[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
        if (text[i] == '%' && low < 0) {
            return error_set(error, STATUS_INVALID, "the URL has a '%%' without two hexadecimal digits");
        }
        if (text[i] == '%' && high == 0 && low == 0) {
            return error_set(error, STATUS_INVALID, "the URL has a NUL");
        }
        decoded[used++] = text[i] == '%' ? (char)(high * 16 + low) : text[i];
        i += text[i] == '%' ? 2 : 0;
    }
    json_t *string = json_stringn(decoded, used); /* jansson checks UTF-8 */
    if (string == NULL) {
        return error_set(error, STATUS_INVALID, "the URL is not UTF-8");
    }
    json_decref(string);
    *ret_text = decoded;
    return STATUS_OK;
}

enum status route_match(const char *pattern, const char *path, struct arena *arena,
                        const char *ret_parameters[ROUTE_PARAMETERS_MAX], struct error *error)
{
    static const char rest[] = "…}";
    const char *parameters[ROUTE_PARAMETERS_MAX] = {NULL};
    size_t lengths[ROUTE_PARAMETERS_MAX] = {0}, count = 0;
    while (*pattern != '\0' && *pattern != '{' && *pattern == *path) {
        pattern++;
        path++;
        if (*pattern == '{') {
            const char *end = strchr(pattern, '}');
            CHECK(end != NULL && count < ROUTE_PARAMETERS_MAX);
            bool takes_rest = memcmp(end + 1 - strlen(rest), rest, strlen(rest)) == 0;
            lengths[count] = takes_rest ? strlen(path) : strcspn(path, "/");
            parameters[count] = path;
            if (lengths[count] == 0) {
                return error_set(error, STATUS_NOT_FOUND, "no match");
            }
            path += lengths[count++];
            pattern = end + 1;
        }
    }
    if (*pattern != '\0' || *path != '\0') {
        return error_set(error, STATUS_NOT_FOUND, "no match");
    }
    for (size_t i = 0; i < count; i++) {
        TRY(percent_decode(parameters[i], lengths[i], arena, &ret_parameters[i], error));
    }
    return STATUS_OK;
}

/* ---- The head */

static bool is_method_of(const struct route *route, const char *method)
{
    return strcmp(route->method, method) == 0 || (strcmp(route->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* NULL when there is none, with the methods of the path's other routes in `allow`. */
static const struct route *find_route(struct request *request, struct found *found, char *allow, size_t allow_bytes,
                                      struct error *error)
{
    allow[0] = '\0';
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        enum status status =
            route_match(table[i].pattern, request_path(request), request_arena(request), found->parameters, error);
        if (status == STATUS_NOT_FOUND) {
            continue;
        }
        if (status != STATUS_OK) {
            return NULL;
        }
        if (is_method_of(&table[i], request_method(request))) {
            return &table[i];
        }
        size_t used = strlen(allow);
        /* Two patterns may match a path; no method's name is part of another's. */
        if (strstr(allow, table[i].method) == NULL) {
            snprintf(allow + used, allow_bytes - used, "%s%s", used == 0 ? "" : ", ", table[i].method);
        }
    }
    const char *path = request_path(request), *decoded;
    if (percent_decode(path, strlen(path), request_arena(request), &decoded, error) != STATUS_OK) {
        return NULL;
    }
    error_set(error, STATUS_NOT_FOUND, "there is no %.200s", path);
    error_code(error, "no_route");
    return NULL;
}

static void reply_preflight(struct server *server, struct request *request, const char *allow)
{
    caller_add_cors_headers(server, request);
    request_add_header(request, "Allow", allow);
    request_add_header(request, "Access-Control-Allow-Methods", allow);
    request_add_header(request, "Access-Control-Allow-Headers", "Authorization, *"); /* clients have their own */
    request_add_header(request, "Access-Control-Max-Age", "600");
    request_reply(request, 204, NULL, NULL, 0);
}

static void refuse_method(struct server *server, struct request *request, const char *allow, struct error *error)
{
    if (strcmp(request_method(request), "OPTIONS") == 0) {
        struct caller caller;
        unsigned refusal = caller_identify(server, request, SCOPE_OPEN, &caller, error);
        if (refusal == 0) {
            reply_preflight(server, request, allow);
        } else {
            request_reply_error_as(request, refusal, error);
        }
        return;
    }
    request_add_header(request, "Allow", allow);
    error_set(error, STATUS_INVALID, "%.16s is not for %.200s; there are: %s", request_method(request),
              request_path(request), allow);
    error_code(error, "method_not_allowed");
    request_reply_error_as(request, 405, error);
}

/* Identifies the caller. Returns 0, or the HTTP status of `error`. */
static unsigned let_in(struct server *server, struct request *request, struct found *found, struct error *error)
{
    const struct route *route = found->route;
    bool is_open = (route->flags & ROUTE_METRICS) != 0 && !server->settings.metrics_need_key;
    unsigned refusal = caller_identify(server, request, is_open ? SCOPE_OPEN : route->scope, &found->caller, error);
    if (refusal != 0) {
        return refusal;
    }
    found->is_identified = true;
    struct limit_holder holder = caller_holder(&found->caller);
    if (!is_open && route->scope != SCOPE_OPEN &&
        limits_take_request(server->limits, &holder, clock_now_ms(), error) != STATUS_OK) {
        return error_http_status(error);
    }
    bool has_model = strstr(route->pattern, "/models/{m") != NULL;
    if (has_model && caller_check_model(&found->caller, found->parameters[0], error) != STATUS_OK) {
        return error_http_status(error);
    }
    return 0;
}

void routes_on_head(void *context, struct request *request)
{
    struct server *server = context;
    struct error error;
    char allow[64];
    struct found *found = arena_allocate(request_arena(request), 1, sizeof *found);
    if (found == NULL) {
        error_set(&error, STATUS_NO_MEMORY, "no memory for a request");
        request_reply_error(request, &error);
        return;
    }
    request_set_data(request, found);
    const char *traceparent = request_header_joined(request, "traceparent");
    if (traceparent != NULL) {
        (void)trace_parse(traceparent, &found->trace); /* what is none leaves it empty */
    }
    const struct route *route = find_route(request, found, allow, sizeof allow, &error);
    found->route = route;
    bool is_foreign = route != NULL && (route->flags & ROUTE_FOREIGN) != 0;
    const char *path = request_path(request);
    if (is_foreign || strcmp(path, "/v2") == 0 || strncmp(path, "/v2/", strlen("/v2/")) == 0) {
        request_set_plain_errors(request);
    }
    if (route == NULL && allow[0] != '\0') {
        refuse_method(server, request, allow, &error);
        return;
    }
    if (route == NULL) {
        request_reply_error(request, &error);
        return;
    }
    unsigned refusal = let_in(server, request, found, &error);
    caller_add_cors_headers(server, request);
    if (refusal != 0) {
        request_reply_error_as(request, refusal, &error);
        return;
    }
    if (server->is_draining && (route->flags & ROUTE_DRAINING) == 0) {
        error_set(&error, STATUS_UNAVAILABLE, "lstmd is shutting down");
        error_code(&error, "draining");
        request_add_header(request, "Connection", "close");
        request_reply_error_as(request, 503, &error);
        return;
    }
    if ((route->flags & ROUTE_CORPUS) != 0) {
        request_set_body_max(request, server->settings.corpus_bytes_max);
    }
    if ((route->flags & ROUTE_PROGRAM) != 0) {
        request_set_body_max(request, server->settings.program_bytes_max);
    }
    if ((route->flags & ROUTE_UPLOAD) != 0) {
        const struct settings *settings = &server->settings;
        bool is_larger = settings->import_bytes_max > settings->body_bytes_max;
        request_set_body_max(request, is_larger ? settings->import_bytes_max : settings->body_bytes_max);
        request_take_body(request, api_models_put_part, server);
    }
}

void routes_on_request(void *context, struct request *request)
{
    const struct found *found = request_data(request);
    found->route->handler(context, request);
}

void routes_on_end(void *context, struct request *request)
{
    const struct server *server = context;
    struct found *found = request_data(request);
    bool is_quiet = found == NULL || (found->route != NULL && (found->route->flags & ROUTE_QUIET) != 0);
    if (server->settings.log_requests) {
        const struct caller *caller = request_caller(request);
        const char *key = caller == NULL ? "" : caller->key;
        const struct trace trace = found == NULL ? (struct trace){.id = ""} : found->trace;
        bool is_traced = trace.id[0] != '\0';
        log_event(is_quiet ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, "request", request_path(request),
                  "id=%s method=%.16s status=%u ms=%llu%s%s%s%s%s%s", request_id(request), request_method(request),
                  request_status(request), (unsigned long long)(clock_now_ns() - request_started_ns(request)) / 1000000,
                  key[0] == '\0' ? "" : " key=", key, is_traced ? " trace=" : "", trace.id, is_traced ? " parent=" : "",
                  trace.parent);
    }
    if (found != NULL) {
        upload_release(found->upload);
        found->upload = NULL;
    }
}

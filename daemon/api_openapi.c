/* GET /openapi.json: the table of routes, and the table of a text request's fields, as OpenAPI 3.1 has it. Thread:
 * loop. Owns nothing. */
#include "daemon/api.h"
#include "daemon/generate_request.h"
#include "daemon/routes.h"

enum { PATH_BYTES_MAX = 128 };

/* What the table of routes does not say. */
static const struct extra {
    void (*handler)(struct server *server, struct request *request);
    const char *query;   /* its query's parameter; NULL: none, or the fields of a text */
    const char *success; /* a status of success besides 200, NULL: none */
} extras[] = {
    {api_models_delete, "force", NULL},    {api_models_export, "to", NULL},   {api_graph_get, "format", NULL},
    {api_variables_get, "encoding", NULL}, {api_sessions_get, "state", NULL}, {api_models_put, NULL, "201"},
    {api_tokenizer_info, "model", NULL},   {api_labels_put, NULL, "201"},     {api_corpora_put, NULL, "201"},
    {api_sessions_put, NULL, "201"},       {api_train_start, NULL, "202"},
};

static struct extra extra_of(const struct route *route)
{
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
        if (extras[i].handler == route->handler) {
            return extras[i];
        }
    }
    return (struct extra){.handler = route->handler};
}

/* A parameter of a pattern, "{name}" or "{name…}", from `at` on; NULL behind the last. */
static const char *next_parameter(const char *at, char name[PATH_BYTES_MAX])
{
    const char *brace = strchr(at, '{');
    if (brace == NULL) {
        return NULL;
    }
    size_t length = strspn(brace + 1, "abcdefghijklmnopqrstuvwxyz");
    snprintf(name, PATH_BYTES_MAX, "%.*s", (int)length, brace + 1);
    return strchr(brace, '}');
}

/* The pattern without the dots that say "and all that follows"; with the verb that TF Serving puts behind a name. */
static void write_path(const struct route *route, char path[PATH_BYTES_MAX])
{
    const char *pattern = route->pattern;
    size_t used = 0;
    for (; *pattern != '\0' && used + 1 < PATH_BYTES_MAX; pattern++) {
        if ((unsigned char)*pattern < 0x80) {
            path[used++] = *pattern;
        }
    }
    snprintf(path + used, PATH_BYTES_MAX - used, "%s", route->handler == api_tf_predict ? ":predict" : "");
}

/* A name for the operation in programs that are made of the description: "get_v1_models_m". */
static void write_operation(const char *method, const char *path, char name[PATH_BYTES_MAX])
{
    static const char known[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t used = (size_t)snprintf(name, PATH_BYTES_MAX, "%s", method);
    while (*path != '\0' && used + 2 < PATH_BYTES_MAX) {
        size_t skipped = strcspn(path, known), length = strspn(path + skipped, known);
        if (length > 0) {
            used += (size_t)snprintf(name + used, PATH_BYTES_MAX - used, "_%.*s", (int)length, path + skipped);
        }
        path += skipped + length;
    }
}

static json_t *path_parameters(const char *pattern)
{
    json_t *list = json_array();
    char name[PATH_BYTES_MAX];
    for (const char *at = pattern; (at = next_parameter(at, name)) != NULL;) {
        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:{s:s}}", "name", name, "in", "path", "required", 1,
                                              "schema", "type", "string"));
    }
    return list;
}

/* A text request's fields in the query. */
static void add_query_parameters(json_t *list)
{
    json_t *schema = generate_request_schema();
    const char *name;
    json_t *field;
    json_object_foreach(json_object_get(schema, "properties"), name, field)
    {
        json_array_append_new(list, json_pack("{s:s, s:s, s:O}", "name", name, "in", "query", "schema", field));
    }
    json_decref(schema);
}

static json_t *body_of(const struct route *route)
{
    bool is_text = route->handler == api_completions || route->handler == api_generate;
    bool is_bytes = (route->flags & (ROUTE_CORPUS | ROUTE_UPLOAD)) != 0;
    json_t *schema = is_text ? json_pack("{s:s}", "$ref", "#/components/schemas/TextRequest") : json_object();
    json_t *content = json_pack("{s:{s:o}}", "application/json", "schema", schema);
    if (is_bytes) {
        json_object_set_new(content, "application/octet-stream", json_object());
    }
    return json_pack("{s:o}", "content", content);
}

/* What the reply holds: text as it is made in another form, where the caller asks for it. */
static json_t *success_of(const struct route *route)
{
    bool is_text =
        route->handler == api_generate || route->handler == api_completions || route->handler == api_chat_completions;
    json_t *content = json_pack("{s:{}}", "application/json");
    if (is_text || route->handler == api_train_events || route->handler == api_oip_generate_stream) {
        json_object_set_new(content, "text/event-stream", json_object());
    }
    if (route->handler == api_generate || route->handler == api_metrics) {
        json_object_set_new(content, "text/plain", json_object());
    }
    return json_pack("{s:s, s:o}", "description", "done", "content", content);
}

static json_t *describe(const struct route *route, const char *method, const char *path)
{
    char name[PATH_BYTES_MAX];
    write_operation(method, path, name);
    const struct extra extra = extra_of(route);
    bool has_body = strcmp(route->method, "GET") != 0 && strcmp(route->method, "DELETE") != 0;
    bool is_open = route->scope == SCOPE_OPEN;
    json_t *parameters = path_parameters(route->pattern);
    if (!has_body && route->handler == api_generate) {
        add_query_parameters(parameters);
    }
    if (extra.query != NULL) {
        json_array_append_new(parameters, json_pack("{s:s, s:s, s:{s:s}}", "name", extra.query, "in", "query", "schema",
                                                    "type", "string"));
    }
    json_t *operation = json_pack(
        "{s:s, s:s, s:o, s:o, s:{s:o, s:{s:s}}, s:s}", "operationId", name, "summary", route->summary, "parameters",
        parameters, "security", is_open ? json_array() : json_pack("[{s:[]}]", "key"), "responses", "200",
        success_of(route), "default", "$ref",
        (route->flags & ROUTE_FOREIGN) != 0 ? "#/components/responses/ForeignError" : "#/components/responses/Error",
        "x-lstmd-scope",
        is_open                          ? "none"
        : route->scope == SCOPE_GENERATE ? "generate"
                                         : "admin");
    if (extra.success != NULL) {
        json_t *also = json_pack("{s:s}", "description", strcmp(extra.success, "201") == 0 ? "made" : "begun");
        json_object_set_new(json_object_get(operation, "responses"), extra.success, also);
    }
    if (has_body) {
        json_object_set_new(operation, "requestBody", body_of(route));
    }
    return operation;
}

static json_t *describe_all(void)
{
    json_t *paths = json_object();
    size_t count;
    const struct route *table = routes_table(&count);
    for (size_t i = 0; i < count; i++) {
        char path[PATH_BYTES_MAX], method[8];
        write_path(&table[i], path);
        for (size_t j = 0; j <= strlen(table[i].method); j++) { /* the NUL, too */
            method[j] = (char)(table[i].method[j] | (table[i].method[j] == '\0' ? 0 : 0x20));
        }
        if (json_object_get(paths, path) == NULL) {
            json_object_set_new(paths, path, json_object());
        }
        json_object_set_new(json_object_get(paths, path), method, describe(&table[i], method, path));
    }
    return paths;
}

/* {"description","content"} of an error whose value of "error" has that schema. */
static json_t *error_response(const char *description, json_t *error)
{
    return json_pack("{s:s, s:{s:{s:{s:s, s:[s], s:{s:o}}}}}", "description", description, "content",
                     "application/json", "schema", "type", "object", "required", "error", "properties", "error", error);
}

static json_t *components(void)
{
    json_t *error =
        json_pack("{s:s, s:[s,s,s,s], s:{s:{s:s}, s:{s:s}, s:{s:[s,s]}, s:{s:[s,s]}}}", "type", "object", "required",
                  "message", "type", "code", "param", "properties", "message", "type", "string", "type", "type",
                  "string", "code", "type", "string", "null", "param", "type", "string", "null");
    return json_pack("{s:{s:{s:s, s:s}}, s:{s:o}, s:{s:o, s:o}}", "securitySchemes", "key", "type", "http", "scheme",
                     "bearer", "schemas", "TextRequest", generate_request_schema(), "responses", "Error",
                     error_response("an error, as OpenAI's API tells it", error), "ForeignError",
                     error_response("an error, as the Open Inference Protocol and TF Serving tell it",
                                    json_pack("{s:s}", "type", "string")));
}

void api_openapi(struct server *server, struct request *request)
{
    (void)server;
    request_reply_json(request, 200,
                       json_pack("{s:s, s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:o, s:o}", "openapi", "3.1.0", "info",
                                 "title", "lstmd", "version", engine_info().version, "description",
                                 "trains, serves and hot-reloads recurrent text models", "license", "name", "MIT",
                                 "identifier", "MIT", "paths", describe_all(), "components", components()));
}

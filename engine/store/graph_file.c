/* Reading and writing graph.json. Thread: any. Owns nothing. */
#include "engine/store/graph_file.h"

#include "engine/base/mem.h"
#include "engine/store/program.h"

static enum status corrupt(struct error *error, const char *what)
{
    enum status status = error_set(error, STATUS_CORRUPT, "graph.json: %s", what);
    error_code(error, "corrupt");
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "graph.json");
    }
    return status;
}

static enum status replay_one(struct replayed_graph *replayed, const json_t *entry, size_t number, struct error *error)
{
    json_t *request = json_pack("{s:O*, s:O*}", "program", json_object_get(entry, "program"), "reuse",
                                json_object_get(entry, "reuse"));
    if (request == NULL) {
        return corrupt(error, "a program is not an object");
    }
    struct program_result result;
    enum status status =
        program_apply(replayed->graph, request, (uint32_t)number,
                      json_string_value(json_object_get(entry, "request_id")), replayed->vocabulary, &result, error);
    json_decref(request);
    if (status != STATUS_OK) {
        error_prefix(error, "graph.json, program %zu", number);
        return status;
    }
    if (result.vocabulary != NULL && replayed->vocabulary == NULL) {
        replayed->vocabulary = vocabulary_ref(result.vocabulary);
    }
    program_result_release(&result);
    return STATUS_OK;
}

static enum status replay_all(struct replayed_graph *replayed, const json_t *root, struct error *error)
{
    const json_t *programs = json_object_get(root, "programs");
    json_int_t format = json_integer_value(json_object_get(root, "format"));
    if (format > GRAPH_FILE_FORMAT) {
        error_set(error, STATUS_UNSUPPORTED, "graph.json has format %lld, this build reads up to %d", (long long)format,
                  GRAPH_FILE_FORMAT);
        return error_code(error, "newer_format"), STATUS_UNSUPPORTED;
    }
    if (format < 1 || !json_is_array(programs) || json_array_size(programs) > GRAPH_FILE_PROGRAMS_MAX) {
        return corrupt(error, "no \"format\" or no list of \"programs\"");
    }
    TRY(graph_create(&replayed->graph, error));
    replayed->programs = json_deep_copy(programs);
    if (replayed->programs == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for graph.json");
    }
    for (size_t i = 0; i < json_array_size(programs); i++) {
        TRY(replay_one(replayed, json_array_get(programs, i), i + 1, error));
    }
    return STATUS_OK;
}

enum status graph_file_replay(const char *bytes, size_t length, struct replayed_graph *ret_graph, struct error *error)
{
    json_error_t json_error;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &json_error);
    if (root == NULL) {
        char what[JSON_ERROR_TEXT_LENGTH + 32];
        snprintf(what, sizeof what, "line %d: %s", json_error.line, json_error.text);
        return corrupt(error, what);
    }
    struct replayed_graph replayed = {.graph = NULL};
    enum status status = replay_all(&replayed, root, error);
    json_decref(root);
    if (status != STATUS_OK) {
        replayed_graph_release(&replayed);
        return status;
    }
    *ret_graph = replayed;
    return STATUS_OK;
}

void replayed_graph_release(struct replayed_graph *replayed)
{
    graph_unref(replayed->graph);
    json_decref(replayed->programs);
    vocabulary_unref(replayed->vocabulary);
    *replayed = (struct replayed_graph){.graph = NULL};
}

enum status graph_file_format(const json_t *programs, char **ret_bytes, size_t *ret_length, struct error *error)
{
    json_t *root = json_pack("{s:i, s:O}", "format", GRAPH_FILE_FORMAT, "programs", programs);
    char *text = root == NULL ? NULL : json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    char *copy = text == NULL ? NULL : mem_copy_string(text);
    free(text);
    if (copy == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for graph.json");
    }
    *ret_bytes = copy;
    *ret_length = strlen(copy);
    return STATUS_OK;
}

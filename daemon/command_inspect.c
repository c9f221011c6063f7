/* lstmd inspect: what a version is: architecture, variables, vocabulary, files, evaluation, origin; and what a model of
 * another framework would become. Thread: main. */
#include <inttypes.h>

#include "daemon/commands.h"
#include "daemon/import_process.h"
#include "engine/base/mem.h"

static const struct option_row ROWS[] = {
    {"graph", OPTION_FLAG, NULL, NULL, "adds the graph: every node"},
    {"vocabulary", OPTION_TEXT, "FILE", NULL, "of a foreign model: its symbols"},
    {"set", OPTION_LIST, "KEY=VALUE", NULL, "of a foreign model: decides what is ambiguous"},
    {"json", OPTION_FLAG, NULL, NULL, "prints one JSON object"},
};

/* [{"name","dtype","shape"},…] of the weights file, in its order. */
static enum status list_variables(const char *path, json_t **ret_variables, struct error *error)
{
    struct version_files files;
    struct safetensors tensors;
    TRY(version_read(path, &files, error));
    const struct version_file *file = version_files_find(&files, "weights.safetensors");
    enum status status = file ? safetensors_parse(file->bytes, file->length, &tensors, error)
                              : error_set(error, STATUS_CORRUPT, "%s: the manifest lists no weights.safetensors", path);
    if (status != STATUS_OK) {
        version_files_release(&files);
        return status;
    }
    json_t *variables = json_array();
    for (size_t i = 0; i < tensors.count; i++) {
        const struct tensor *tensor = &tensors.entries[i].tensor;
        json_t *shape = json_array();
        for (int d = 0; d < tensor->shape.rank; d++) {
            json_array_append_new(shape, json_integer(tensor->shape.dimensions[d]));
        }
        json_array_append_new(variables, json_pack("{s:s, s:s, s:o}", "name", tensors.entries[i].name, "dtype",
                                                   dtype_name(tensor->dtype), "shape", shape));
    }
    safetensors_release(&tensors);
    version_files_release(&files);
    *ret_variables = variables;
    return STATUS_OK;
}

static enum status describe_graph(const struct model_reference *reference, const char *path, json_t **ret_graph,
                                  struct error *error)
{
    struct model *model = NULL;
    TRY(model_create_from_version(reference->name, path, 1, &model, error));
    enum status status = model_describe_graph(model, ret_graph, error);
    model_unref(model);
    return status;
}

/* {"model","version","architecture","variables","files","origin","evaluation","precision","kernels","slow_path",
 * "blas"}, with --graph "graph". */
static enum status collect(const struct options *options, const struct model_reference *reference, json_t **ret_facts,
                           struct error *error)
{
    struct snapshot *snapshot = NULL;
    json_t *variables = NULL;
    json_t *graph = NULL;
    TRY(model_reference_load(reference, &snapshot, error));
    char path[MODEL_REFERENCE_PATH_BYTES_MAX + 32];
    model_reference_version_path(reference, snapshot_version(snapshot), path);
    enum status status = list_variables(path, &variables, error);
    if (status == STATUS_OK && options_is_given(options, "graph")) {
        status = describe_graph(reference, path, &graph, error);
    }
    if (status == STATUS_OK) {
        const json_t *manifest = snapshot_manifest(snapshot);
        struct engine_info info = engine_info();
        json_t *facts =
            json_pack("{s:s, s:I, s:s, s:I, s:O?, s:O, s:O?, s:O?, s:O?, s:O*, s:s, s:s, s:s?, s:s}", "model",
                      snapshot_full_name(snapshot), "version", (json_int_t)snapshot_version(snapshot), "path", path,
                      "bytes_in_memory", (json_int_t)snapshot_bytes(snapshot), "architecture",
                      json_object_get(manifest, "architecture"), "variables", variables, "files",
                      json_object_get(manifest, "files"), "origin", json_object_get(manifest, "origin"), "evaluation",
                      json_object_get(manifest, "evaluation"), "graph", graph, "precision",
                      rnn_precision_name(snapshot_precision(snapshot)), "kernels", snapshot_kernels(snapshot),
                      "slow_path", snapshot_slow_path(snapshot), "blas", info.blas);
        status = facts ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory to describe %s", path);
        *ret_facts = facts;
    }
    json_decref(graph);
    json_decref(variables);
    snapshot_unref(snapshot);
    return status;
}

/* "key: value" lines, objects and lists indented below their key; short flat ones on one line. */
static void print_value(const char *key, const json_t *value, int depth, bool is_named);

static bool is_flat(const json_t *value)
{
    enum { ITEMS_MAX = 8 };
    const char *key;
    const json_t *item;
    size_t i;
    if (json_is_array(value)) {
        json_array_foreach(value, i, item)
        {
            if (json_is_object(item) || json_is_array(item)) {
                return false;
            }
        }
        return json_array_size(value) <= ITEMS_MAX;
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        if (json_is_object(item) || (json_is_array(item) && !is_flat(item))) {
            return false;
        }
    }
    return json_object_size(value) <= ITEMS_MAX;
}

static void print_flat(const json_t *value, bool is_named)
{
    const char *key;
    const json_t *item;
    size_t i;
    if (json_is_object(value)) {
        const char *separator = "";
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            if (is_named && strcmp(key, "name") == 0) {
                continue; /* it stands before the colon */
            }
            printf("%s%s ", separator, key);
            print_flat(item, false);
            separator = ", ";
        }
    } else if (json_is_array(value)) {
        putchar('[');
        json_array_foreach(value, i, item)
        {
            fputs(i > 0 ? ", " : "", stdout);
            print_flat(item, false);
        }
        putchar(']');
    } else if (json_is_string(value)) {
        fputs(json_string_value(value), stdout);
    } else if (json_is_integer(value)) {
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        printf("%.6g", json_real_value(value));
    } else {
        fputs(json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-", stdout);
    }
}

static void print_items(const json_t *value, int depth)
{
    const char *key;
    const json_t *item;
    size_t i;
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        print_value(key, item, depth, false);
    }
    json_array_foreach(value, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *what = json_string_value(json_object_get(item, "what"));
        const char *found = json_string_value(json_object_get(item, "value"));
        const char *why = json_string_value(json_object_get(item, "why"));
        if (what != NULL && found != NULL && why != NULL) { /* a finding: as `lstmd import` prints it */
            printf("%*s%s: %s (%s)\n", 2 * depth, "", what, found, why);
        } else {
            print_value(name ? name : "-", item, depth, name != NULL);
        }
    }
}

static void print_value(const char *key, const json_t *value, int depth, bool is_named)
{
    printf("%*s%s:", 2 * depth, "", key);
    bool is_container = json_is_object(value) || json_is_array(value);
    if (!is_container || is_flat(value)) {
        putchar(' ');
        print_flat(value, is_named);
        putchar('\n');
        return;
    }
    putchar('\n');
    print_items(value, depth + 1);
}

/* Whether `path` is something to import: it is there, and is no model directory. */
static bool is_foreign(const char *path)
{
    struct foreign_source source = {.label = NULL};
    struct error ignored;
    uint64_t *versions = NULL;
    size_t count = 0;
    bool has_versions = version_list(path, &versions, &count, &ignored) == STATUS_OK && count > 0;
    bool is_there = !has_versions && foreign_source_open(path, NULL, &source, &ignored) == STATUS_OK;
    mem_free(versions);
    foreign_source_release(&source);
    return is_there;
}

/* {"format","entry","understood","would_build","problem","tensors","vocabularies"} */
static enum status look_at_foreign(const struct options *options, json_t **ret_facts, struct error *error)
{
    struct import_request request;
    struct import_answer answer;
    TRY(import_request_read(options, &request, error));
    request.looks_only = true;
    TRY(import_process_run(&request, &answer, error));
    json_t *facts = json_incref(answer.reply.facts);
    import_answer_release(&answer);
    json_t *step = json_incref(json_array_get(json_object_get(json_object_get(facts, "program"), "program"), 0));
    json_object_del(step, "vocabulary"); /* its size stands among the findings */
    json_object_del(facts, "program");
    if (step != NULL) {
        json_object_set_new(facts, "would_build", step);
    }
    *ret_facts = facts;
    return STATUS_OK;
}

int command_inspect(int argc, char **argv)
{
    struct options options;
    struct model_reference reference;
    struct error error;
    int exit_status;
    if (!command_parse(&options, ROWS, sizeof ROWS / sizeof ROWS[0], "MODELS/NAME[@VERSION] | FOREIGN [OPTION]…", 1, 1,
                       argc, argv, &exit_status)) {
        return exit_status;
    }
    bool looks_at_foreign = is_foreign(options.positional[0]);
    json_t *facts = NULL;
    enum status status = STATUS_OK;
    if (looks_at_foreign) {
        status = look_at_foreign(&options, &facts, &error);
    } else if (model_reference_parse(options.positional[0], &reference, &error) != STATUS_OK) {
        command_fail("inspect", &error);
        return EXIT_USAGE;
    } else {
        status = collect(&options, &reference, &facts, &error);
    }
    if (status == STATUS_OK && options_is_given(&options, "json")) {
        status = command_print_json(facts, 0, &error);
    } else if (status == STATUS_OK) {
        print_items(facts, 0);
    }
    json_decref(facts);
    return status == STATUS_OK ? EXIT_DONE : command_fail("inspect", &error);
}

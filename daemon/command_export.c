/* lstmd export: a version as one file. Thread: main. */
#include "daemon/commands.h"
#include "engine/base/mem.h"

static const char SYNOPSIS[] = "MODELS/NAME[@VERSION] --to onnx|safetensors|tar --out FILE";

static const struct option_row ROWS[] = {
    {"to", OPTION_TEXT, "FORMAT", NULL,
     "onnx (state in and out, vocabulary in its metadata), safetensors, or tar: the version as it is"},
    {"out", OPTION_TEXT, "FILE", NULL, "the file; what is there is replaced"},
    {"json", OPTION_FLAG, NULL, NULL, "prints one JSON object"},
};

/* The version meant: without a number the newest that can be served. */
static enum status find_version(const struct model_reference *reference, uint64_t *ret_version, struct error *error)
{
    struct snapshot *snapshot = NULL;
    *ret_version = reference->version;
    if (reference->version > 0) {
        return STATUS_OK;
    }
    TRY(model_reference_load(reference, &snapshot, error));
    *ret_version = snapshot_version(snapshot);
    snapshot_unref(snapshot);
    return STATUS_OK;
}

static enum status print(const struct options *options, const char *name, size_t length, struct error *error)
{
    const char *to = options_text(options, "to");
    const char *out = options_text(options, "out");
    if (!options_is_given(options, "json")) {
        printf("%s: %s as %s, %zu bytes\n", out, name, to, length);
        return STATUS_OK;
    }
    json_t *line = json_pack("{s:s, s:s, s:s, s:I}", "model", name, "to", to, "out", out, "bytes", (json_int_t)length);
    enum status status = command_print_json(line, 0, error);
    json_decref(line);
    return status;
}

static enum status export(const struct options *options, const struct model_reference *reference,
                          enum export_format format, struct error *error) {
    char path[MODEL_REFERENCE_PATH_BYTES_MAX + 32]; char name[MODEL_NAME_BYTES_MAX + 32]; uint64_t version = 0;
    void *bytes = NULL; size_t length = 0; TRY(find_version(reference, &version, error));
    model_reference_version_path(reference, version, path);
    snprintf(name, sizeof name, "%s@%llu", reference->name, (unsigned long long)version);
    enum status status = model_export(path, name, format, &bytes, &length, error);
    if (status != STATUS_OK){error_prefix(error, "%s", path); return status;}
status = file_write_atomically(options_text(options, "out"), bytes, length, error);
mem_free(bytes);
return status == STATUS_OK ? print(options, name, length, error) : status;
}

static enum status read_arguments(const struct options *options, enum export_format *ret_format, struct error *error)
{
    const char *const needed[] = {"to", "out"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (options_text(options, needed[i]) == NULL) {
            return error_set(error, STATUS_INVALID, "--%s is missing", needed[i]);
        }
    }
    return export_format_find(options_text(options, "to"), ret_format, error);
}

int command_export(int argc, char **argv)
{
    struct options options;
    struct model_reference reference;
    struct error error;
    enum export_format format = EXPORT_ONNX;
    int exit_status;
    if (!command_parse_model(&options, ROWS, sizeof ROWS / sizeof ROWS[0], SYNOPSIS, 1, argc, argv, &reference,
                             &exit_status)) {
        return exit_status;
    }
    if (read_arguments(&options, &format, &error) != STATUS_OK) {
        command_fail("export", &error);
        return EXIT_USAGE;
    }
    return export(&options, &reference, format, &error) == STATUS_OK ? EXIT_DONE : command_fail("export", &error);
}

/* Exporting versions. Thread: see the header. Owns a version's content while it writes. */
#include "engine/model/model_export.h"

#include "engine/export/onnx_write.h"
#include "engine/export/safetensors_write.h"
#include "engine/export/tar_write.h"
#include "engine/model/graph_pack.h"
#include "engine/model/model_private.h"

struct exporting {
    const struct version_content *content;
    const char *name;
    void *bytes;
    size_t length;
};

static enum status take_weights(void *context, const struct decode_weights *weights, struct error *error)
{
    struct exporting *exporting = context;
    const struct onnx_write_options options = {.weights = weights,
                                               .vocabulary = exporting->content->vocabulary,
                                               .description = exporting->name,
                                               .producer_version = LSTMD_VERSION};
    return onnx_write(&options, &exporting->bytes, &exporting->length, error);
}

static enum status make_onnx(struct exporting *exporting, struct error *error)
{
    const struct weights_use use = {.take = take_weights, .context = exporting};
    return version_content_use_weights(exporting->content, &use, error);
}

/* Adds JSON as text. False: no memory. */
static bool add_text(json_t *metadata, const char *key, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT);
    bool is_added = text != NULL && json_object_set_new(metadata, key, json_string(text)) == 0;
    free(text);
    return is_added;
}

static enum status make_metadata(const struct exporting *exporting, json_t **ret_metadata, struct error *error)
{
    const struct vocabulary *vocabulary = exporting->content->vocabulary;
    const json_t *architecture = json_object_get(exporting->content->manifest, "architecture");
    json_t *symbols = NULL;
    if (vocabulary != NULL) {
        TRY(vocabulary_to_json(vocabulary, &symbols, error));
    }
    json_t *metadata = json_pack("{s:s}", "model", exporting->name);
    bool is_made = metadata != NULL && (architecture == NULL || add_text(metadata, "architecture", architecture)) &&
                   (symbols == NULL || add_text(metadata, "vocabulary", symbols));
    json_decref(symbols);
    if (!is_made) {
        json_decref(metadata);
        return error_set(error, STATUS_NO_MEMORY, "no memory for what %s says of itself", exporting->name);
    }
    *ret_metadata = metadata;
    return STATUS_OK;
}

static enum status make_safetensors(struct exporting *exporting, struct error *error)
{
    const struct version_file *file = version_files_find(&exporting->content->files, "weights.safetensors");
    json_t *metadata = NULL;
    TRY(make_metadata(exporting, &metadata, error));
    enum status status =
        safetensors_write_metadata(file->bytes, file->length, metadata, &exporting->bytes, &exporting->length, error);
    json_decref(metadata);
    return status;
}

static enum status make_tar(struct exporting *exporting, struct error *error)
{
    const struct version_files *version = &exporting->content->files;
    struct version_file files[VERSION_FILES_MAX + 1];
    for (size_t i = 0; i < version->count; i++) {
        files[i] = version->files[i];
    }
    files[version->count] = version->text;
    return tar_write(files, version->count + 1, &exporting->bytes, &exporting->length, error);
}

static const struct {
    const char *name;
    const char *media_type;
    enum status (*make)(struct exporting *exporting, struct error *error);
} formats[] = {
    [EXPORT_ONNX] = {"onnx", "application/octet-stream", make_onnx},
    [EXPORT_SAFETENSORS] = {"safetensors", "application/octet-stream", make_safetensors},
    [EXPORT_TAR] = {"tar", "application/x-tar", make_tar},
};
static_assert(sizeof formats / sizeof *formats == EXPORT_FORMAT_COUNT, "a row for each format");

const char *export_format_name(enum export_format format)
{
    return formats[format].name;
}

const char *export_format_media_type(enum export_format format)
{
    return formats[format].media_type;
}

enum status export_format_find(const char *name, enum export_format *ret_format, struct error *error)
{
    for (size_t i = 0; i < EXPORT_FORMAT_COUNT; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            *ret_format = (enum export_format)i;
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_INVALID, "'%.60s' is no format that is written: %s, %s or %s", name, formats[0].name,
                     formats[1].name, formats[2].name);
}

enum status model_export(const char *path, const char *name, enum export_format format, void **ret_bytes,
                         size_t *ret_length, struct error *error)
{
    struct version_content content;
    TRY(version_content_read(path, VERSION_USE_PACK, &content, error));
    struct exporting exporting = {.content = &content, .name = name};
    enum status status = formats[format].make(&exporting, error);
    version_content_release(&content);
    if (status == STATUS_OK) {
        *ret_bytes = exporting.bytes;
        *ret_length = exporting.length;
    }
    return status;
}

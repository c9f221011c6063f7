/* ml5's and deeplearn.js' folders: manifest.json, {"name":{"filename":"…","shape":[…]},…}, and beside it one file of
 * raw little-endian float32 for each variable. Thread: the one that imports. */
#include <jansson.h>

#include "engine/import/readers.h"

enum { MANIFEST_BYTES_MAX = 4 << 20 };

/* An object that holds a "filename" near its beginning. */
bool ml5_recognise(const struct source_file *file)
{
    unsigned char head[SOURCE_HEAD_BYTES];
    size_t length = foreign_source_peek(file, 0, head);
    return length > 0 && head[0] == '{' && memmem(head, length, "\"filename\"", 10) != NULL &&
           file->bytes <= MANIFEST_BYTES_MAX;
}

static enum status add_variable(struct foreign_source *source, const struct source_file *manifest, const char *name,
                                const json_t *entry, struct foreign_model *model, struct error *error)
{
    const char *path = json_string_value(json_object_get(entry, "filename"));
    const json_t *dimensions = json_object_get(entry, "shape");
    const unsigned char *data = NULL;
    size_t length = 0;
    struct shape shape = {.rank = 0};
    if (path == NULL || !json_is_array(dimensions)) {
        return error_set(error, STATUS_CORRUPT, "%s: '%.200s' has no filename or no shape", manifest->name, name);
    }
    for (size_t i = 0; i < json_array_size(dimensions); i++) {
        const json_t *dimension = json_array_get(dimensions, i);
        TRY(foreign_add_dimension(&shape, name, json_is_integer(dimension) ? json_integer_value(dimension) : -1,
                                  error));
    }
    struct source_file *file = foreign_source_find_beside(source, manifest, path);
    if (file == NULL) {
        return error_set(error, STATUS_NOT_FOUND, "%s: '%.200s' is in the file %.200s, which is not beside it",
                         manifest->name, name, path);
    }
    TRY(foreign_source_read(source, file, &data, &length, error));
    return foreign_add_tensor(model, name, DTYPE_FLOAT32, &shape, data, length, error);
}

enum status ml5_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                     struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    json_error_t json_error;
    const char *name;
    json_t *entry;
    enum status status = STATUS_OK;
    model->format = "ml5 folder";
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    json_t *manifest = json_loadb((const char *)bytes, length, JSON_REJECT_DUPLICATES, &json_error);
    if (!json_is_object(manifest)) {
        json_decref(manifest);
        return error_set(error, STATUS_CORRUPT, "%s, line %d: %s", file->name, json_error.line, json_error.text);
    }
    json_object_foreach(manifest, name, entry)
    {
        status = status == STATUS_OK ? add_variable(source, file, name, entry, model, error) : status;
    }
    json_decref(manifest);
    return status;
}

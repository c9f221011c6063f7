/* Finding a model's version by what was typed. Thread: main. Owns nothing. */
#include "daemon/model_reference.h"

#include <inttypes.h>

#include "daemon/options.h"
#include "engine/base/mem.h"

static enum status parse_version(const char *text, uint64_t *ret_version, struct error *error)
{
    uint64_t version = 0;
    if (options_read_count(text, &version, NULL) != STATUS_OK || version == 0 || version > VERSION_NUMBER_MAX) {
        return error_set(error, STATUS_INVALID, "version '%.100s' is not a number from 1 to %d", text,
                         VERSION_NUMBER_MAX);
    }
    *ret_version = version;
    return STATUS_OK;
}

enum status model_reference_parse(const char *text, struct model_reference *ret_reference, struct error *error)
{
    struct model_reference reference = {.version = 0};
    size_t length = strlen(text);
    const char *at = strrchr(text, '@');
    if (at && strchr(at, '/') == NULL) {
        TRY(parse_version(at + 1, &reference.version, error));
        length = (size_t)(at - text);
    }
    while (length > 1 && text[length - 1] == '/') {
        length--;
    }
    if (length >= sizeof reference.directory) {
        return error_set(error, STATUS_INVALID, "a path of %zu bytes, at most %zu", length,
                         sizeof reference.directory - 1);
    }
    memcpy(reference.directory, text, length);
    const char *slash = strrchr(reference.directory, '/');
    const char *name = slash ? slash + 1 : reference.directory;
    if (!name_is_valid(name)) {
        return error_set(error, STATUS_INVALID,
                         "'%.200s': a model's name begins with a letter or digit and has up to %d of A-Z a-z 0-9 . _ -",
                         text, MODEL_NAME_BYTES_MAX - 1);
    }
    memcpy(reference.name, name, strlen(name) + 1); /* a model name fits */
    *ret_reference = reference;
    return STATUS_OK;
}

void model_reference_version_path(const struct model_reference *reference, uint64_t version,
                                  char path[MODEL_REFERENCE_PATH_BYTES_MAX + 32])
{
    snprintf(path, MODEL_REFERENCE_PATH_BYTES_MAX + 32, "%s/%" PRIu64, reference->directory, version);
}

static enum status load(const struct model_reference *reference, uint64_t version, struct snapshot **ret_snapshot,
                        struct error *error)
{
    char path[MODEL_REFERENCE_PATH_BYTES_MAX + 32];
    model_reference_version_path(reference, version, path);
    enum status status = snapshot_load(path, reference->name, version, reference->precision, ret_snapshot, error);
    if (status != STATUS_OK) {
        error_prefix(error, "%s", path);
    }
    return status;
}

enum status model_reference_load(const struct model_reference *reference, struct snapshot **ret_snapshot,
                                 struct error *error)
{
    if (reference->version > 0) {
        return load(reference, reference->version, ret_snapshot, error);
    }
    uint64_t *versions;
    size_t count;
    enum status status = version_list(reference->directory, &versions, &count, error);
    if (status != STATUS_OK) {
        return status;
    }
    status = error_set(error, STATUS_NOT_FOUND, "%s has no version", reference->directory);
    for (size_t i = count; i-- > 0 && status != STATUS_OK;) {
        struct error why;
        status = load(reference, versions[i], ret_snapshot, &why);
        if (status != STATUS_OK && i + 1 == count) {
            *error = why;
        }
    }
    mem_free(versions);
    return status;
}

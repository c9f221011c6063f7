/* Fuzz target: any bytes as manifest.json. Names that are accepted must be safe to open, and the manifest's other keys
 * must survive being written again. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/store/version_directory_manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct listed_file listed[VERSION_FILES_MAX];
    size_t count = 0;
    json_t *manifest = NULL;
    struct error error;
    if (manifest_parse((const char *)bytes, length, &manifest, listed, &count, &error) != STATUS_OK) {
        CHECK(error.message[0] != '\0' && error.code[0] != '\0' && error.param[0] != '\0');
        return 0;
    }
    CHECK(count <= VERSION_FILES_MAX);
    struct version_file files[VERSION_FILES_MAX];
    for (size_t i = 0; i < count; i++) {
        CHECK(strchr(listed[i].name, '/') == NULL && listed[i].name[0] != '.' && listed[i].name[0] != '\0');
        CHECK(strlen(listed[i].sha256) == SHA256_TEXT_BYTES - 1);
        files[i] = (struct version_file){.name = listed[i].name, .bytes = "", .length = 0};
    }
    char *text = NULL;
    size_t text_length = 0;
    json_t *again = NULL;
    struct listed_file listed_again[VERSION_FILES_MAX];
    size_t count_again = 0;
    CHECK(manifest_format(files, count, manifest, &text, &text_length, &error) == STATUS_OK);
    CHECK(manifest_parse(text, text_length, &again, listed_again, &count_again, &error) == STATUS_OK);
    CHECK(count == count_again && json_object_size(again) == json_object_size(manifest));
    json_decref(again);
    json_decref(manifest);
    mem_free(text);
    return 0;
}

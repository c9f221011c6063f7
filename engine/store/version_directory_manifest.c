/* Manifests to and from JSON. Thread: any; owns nothing beyond a call. */
#include "engine/store/version_directory_manifest.h"

#include <nettle/sha2.h>
#include <stdarg.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

static_assert(SHA256_TEXT_BYTES == 2 * SHA256_DIGEST_SIZE + 1, "two digits a byte and a NUL");

const char version_manifest_name[] = "manifest.json";

static const char digits[] = "0123456789abcdef";
static const uint64_t file_bytes_max = (uint64_t)VERSION_FILE_BYTES_MAX_MIB << 20;

void hex_text(const uint8_t *bytes, size_t length, char *text)
{
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * length] = '\0';
}

void sha256_text(const void *bytes, size_t length, char text[SHA256_TEXT_BYTES])
{
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, length, bytes);
    sha256_finish_text(&context, text);
}

void sha256_finish_text(struct sha256_ctx *context, char text[SHA256_TEXT_BYTES])
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(context, sizeof digest, digest);
    hex_text(digest, sizeof digest, text);
}

enum status version_refuse(struct error *error, enum status status, const char *code, const char *name,
                           const char *format, ...)
{
    if (error == NULL) {
        return status;
    }
    char reason[ERROR_MESSAGE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    error_set(error, status, "%s: %s", name, reason);
    error_code(error, code);
    snprintf(error->param, sizeof error->param, "%s", name);
    return status;
}

static enum status refuse_manifest(struct error *error, const char *reason)
{
    return version_refuse(error, STATUS_CORRUPT, "corrupt", version_manifest_name, "%s", reason);
}

bool version_file_name_is_good(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length > VERSION_FILE_NAME_BYTES_MAX || name[0] == '.' ||
        strcmp(name, version_manifest_name) == 0) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)name[i];
        if (byte == '/' || byte < 0x20 || byte == 0x7F) {
            return false;
        }
    }
    return true;
}

static bool is_sha256(const char *text)
{
    return text != NULL && strlen(text) == SHA256_TEXT_BYTES - 1 && strspn(text, digits) == SHA256_TEXT_BYTES - 1;
}

static enum status parse_file(const char *name, const json_t *json, struct listed_file *ret_file, struct error *error)
{
    if (!version_file_name_is_good(name)) {
        return refuse_manifest(error, "it lists a file under a name that no file may have");
    }
    const json_t *bytes = json_object_get(json, "bytes");
    const char *sha256 = json_string_value(json_object_get(json, "sha256"));
    if (!json_is_integer(bytes) || json_integer_value(bytes) < 0 || !is_sha256(sha256)) {
        return version_refuse(error, STATUS_CORRUPT, "corrupt", name,
                              "the manifest does not give its number of bytes and its SHA-256");
    }
    uint64_t count = (uint64_t)json_integer_value(bytes);
    if (count > file_bytes_max) {
        return version_refuse(error, STATUS_CORRUPT, "corrupt", name, "the manifest says %llu bytes, at most %d MiB",
                              (unsigned long long)count, VERSION_FILE_BYTES_MAX_MIB);
    }
    *ret_file = (struct listed_file){.name = name, .bytes = count, .sha256 = sha256};
    return STATUS_OK;
}

static enum status check_format(const json_t *manifest, struct error *error)
{
    const json_t *format = json_object_get(manifest, "format");
    if (!json_is_integer(format) || json_integer_value(format) < 1) {
        return refuse_manifest(error, "it is not an object with a \"format\" number");
    }
    if (json_integer_value(format) > VERSION_FORMAT) {
        return version_refuse(error, STATUS_UNSUPPORTED, "newer_format", version_manifest_name,
                              "format %" JSON_INTEGER_FORMAT " is newer than %d, the newest that this build reads",
                              json_integer_value(format), VERSION_FORMAT);
    }
    return STATUS_OK;
}

static enum status parse_manifest(const json_t *manifest, struct listed_file *files, size_t *ret_count,
                                  struct error *error)
{
    TRY(check_format(manifest, error));
    json_t *list = json_object_get(manifest, "files");
    if (!json_is_object(list)) {
        return refuse_manifest(error, "it has no object \"files\"");
    }
    if (json_object_size(list) > VERSION_FILES_MAX) {
        return version_refuse(error, STATUS_CORRUPT, "corrupt", version_manifest_name, "it lists %zu files, at most %d",
                              json_object_size(list), VERSION_FILES_MAX);
    }
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach(list, name, value)
    {
        TRY(parse_file(name, value, &files[count++], error));
    }
    *ret_count = count;
    return STATUS_OK;
}

enum status manifest_parse(const char *text, size_t length, json_t **ret_manifest,
                           struct listed_file ret_files[VERSION_FILES_MAX], size_t *ret_count, struct error *error)
{
    json_error_t json_error;
    json_t *manifest = json_loadb(text, length, JSON_REJECT_DUPLICATES, &json_error);
    if (manifest == NULL && json_error_code(&json_error) == json_error_premature_end_of_input) {
        return version_refuse(error, STATUS_UNPROCESSABLE, "incomplete", version_manifest_name,
                              "cut off after %zu bytes: a copy may still be running", length);
    }
    if (manifest == NULL && json_error_code(&json_error) == json_error_out_of_memory) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a manifest of %zu bytes", length);
    }
    if (manifest == NULL) {
        return version_refuse(error, STATUS_CORRUPT, "corrupt", version_manifest_name, "not JSON: line %d: %s",
                              json_error.line, json_error.text);
    }
    enum status status = parse_manifest(manifest, ret_files, ret_count, error);
    if (status != STATUS_OK) {
        json_decref(manifest);
        return status;
    }
    *ret_manifest = manifest;
    return STATUS_OK;
}

static enum status check_file(const struct version_file *files, size_t index, struct error *error)
{
    const char *name = files[index].name;
    if (!version_file_name_is_good(name)) {
        return error_set(error, STATUS_INVALID, "'%s' cannot be the name of a version's file", name);
    }
    if (files[index].length > file_bytes_max) {
        return error_set(error, STATUS_TOO_LARGE, "%s: %zu bytes, at most %d MiB", name, files[index].length,
                         VERSION_FILE_BYTES_MAX_MIB);
    }
    for (size_t i = 0; i < index; i++) {
        if (strcmp(files[i].name, name) == 0) {
            return error_set(error, STATUS_INVALID, "two files named '%s'", name);
        }
    }
    return STATUS_OK;
}

static enum status list_files(const struct version_file *files, size_t count, json_t *list, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        TRY(check_file(files, i, error));
        char sha256[SHA256_TEXT_BYTES];
        sha256_text(files[i].bytes, files[i].length, sha256);
        json_t *entry = json_pack("{s:I,s:s}", "bytes", (json_int_t)files[i].length, "sha256", sha256);
        if (entry == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory to list '%s' in the manifest", files[i].name);
        }
        if (json_object_set_new(list, files[i].name, entry) != 0) {
            return error_set(error, STATUS_INVALID, "file name '%s' is not UTF-8", files[i].name);
        }
    }
    return STATUS_OK;
}

/* Adds the other keys; "format" and "files" stay ours. */
static enum status add_other_keys(json_t *root, const json_t *other, struct error *error)
{
    if (other == NULL) {
        return STATUS_OK;
    }
    if (!json_is_object(other)) {
        return error_set(error, STATUS_INVALID, "a manifest is a JSON object");
    }
    json_t *copy = json_deep_copy(other);
    int result = copy == NULL ? -1 : json_object_update_missing(root, copy);
    json_decref(copy);
    return result == 0 ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory to copy a manifest");
}

static enum status print(const json_t *root, char **ret_text, size_t *ret_length, struct error *error)
{
    const size_t flags = JSON_INDENT(2);
    size_t length = json_dumpb(root, NULL, 0, flags);
    if (length > VERSION_MANIFEST_BYTES_MAX - 1) {
        return error_set(error, STATUS_TOO_LARGE, "a manifest of %zu bytes, at most %d", length,
                         VERSION_MANIFEST_BYTES_MAX);
    }
    char *text = mem_allocate(length + 1, 1);
    if (text == NULL || length == 0 || json_dumpb(root, text, length, flags) != length) {
        mem_free(text);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a manifest of %zu bytes", length);
    }
    text[length] = '\n';
    *ret_text = text;
    *ret_length = length + 1;
    return STATUS_OK;
}

enum status manifest_format(const struct version_file *files, size_t count, const json_t *manifest, char **ret_text,
                            size_t *ret_length, struct error *error)
{
    if (count > VERSION_FILES_MAX) {
        return error_set(error, STATUS_LIMIT, "%zu files, at most %d", count, VERSION_FILES_MAX);
    }
    json_t *root = json_pack("{s:i,s:{}}", "format", VERSION_FORMAT, "files");
    if (root == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a manifest");
    }
    enum status status = list_files(files, count, json_object_get(root, "files"), error);
    if (status == STATUS_OK) {
        status = add_other_keys(root, manifest, error);
    }
    if (status == STATUS_OK) {
        status = print(root, ret_text, ret_length, error);
    }
    json_decref(root);
    return status;
}

/* Vocabularies in files of their own, and the options that lie beside them. Thread: the one that imports. */
#include <jansson.h>

#include "engine/import/pickle.h"
#include "engine/import/readers.h"

enum { OPTIONS_BYTES_MAX = 64 << 10 }; /* of a file that is read for its options alone */

/* What a pickled argparse.Namespace or dictionary of options holds, as hints. */
static enum status add_options(struct foreign_model *model, const char *place, const struct plain *root,
                               struct error *error)
{
    const struct plain *options = root->kind == PLAIN_CALL ? root->state : root;
    if (options == NULL || options->kind != PLAIN_DICT) {
        return STATUS_OK;
    }
    for (uint32_t i = 0; i + 1 < options->count; i += 2) {
        const struct plain *key = options->items[i];
        const struct plain *value = options->items[i + 1];
        char number[32];
        const char *text = NULL;
        if (!plain_is_string(key) || key->length > 64) {
            continue;
        }
        if (plain_is_string(value)) {
            text = value->text;
        } else if (value->kind == PLAIN_INTEGER) {
            snprintf(number, sizeof number, "%lld", (long long)value->integer);
            text = number;
        }
        if (text != NULL && strlen(text) <= 64) {
            TRY(foreign_add_hint(model, place, key->text, text, error));
        }
    }
    return STATUS_OK;
}

static bool looks_like_json(const unsigned char *bytes, size_t length)
{
    size_t at = length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (at < length && strchr(" \t\r\n", bytes[at]) != NULL && bytes[at] != '\0') {
        at++;
    }
    return at < length && (bytes[at] == '{' || bytes[at] == '[' || bytes[at] == '"');
}

/* Whether a file begins as JSON's containers and strings, NumPy's arrays or a pickle of a container can. */
static bool may_be_vocabulary(const struct source_file *file)
{
    unsigned char head[SOURCE_HEAD_BYTES];
    size_t length = foreign_source_peek(file, 0, head);
    return looks_like_json(head, length) ||
           (length > 0 && head[0] != '\0' && strchr("(}]cdl\x80\x93", head[0]) != NULL);
}

/* `*ret_root` NULL: it is no JSON, and `error` says why. */
static enum status parse_json(const unsigned char *bytes, size_t length, struct foreign_model *model,
                              struct plain **ret_root, struct error *error)
{
    size_t mark = length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    json_error_t json_error;
    json_t *json = json_loadb((const char *)bytes + mark, length - mark, JSON_ALLOW_NUL | JSON_DECODE_ANY, &json_error);
    *ret_root = NULL;
    if (json == NULL) {
        error_set(error, STATUS_INVALID, "line %d: %s", json_error.line, json_error.text);
        return STATUS_OK;
    }
    *ret_root = plain_from_json(&model->arena, json);
    json_decref(json);
    return *ret_root == NULL ? foreign_no_memory(model, error) : STATUS_OK;
}

/* Reads JSON, a pickle or NumPy's texts; `*ret_root` NULL: it is none, and `reason` says why. */
static enum status read_plain(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                              struct plain **ret_root, struct error *reason, struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    *ret_root = NULL;
    *reason = (struct error){.status = STATUS_OK};
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    enum status status = looks_like_json(bytes, length) ? parse_json(bytes, length, model, ret_root, reason)
                         : numpy_begins(bytes, length)
                             ? numpy_read(bytes, length, &model->arena, ret_root, reason)
                             : pickle_read(bytes, length, &model->arena, ret_root, &length, reason);
    return status == STATUS_NO_MEMORY || status == STATUS_LIMIT
               ? error_set(error, status, "%s: %.900s", file->name, reason->message)
               : STATUS_OK;
}

enum status vocabulary_file_read(struct foreign_source *source, struct source_file *file, bool is_demanded,
                                 struct foreign_model *model, struct error *error)
{
    struct plain *root = NULL;
    struct error reason;
    if (file->bytes > SOURCE_VOCABULARY_BYTES_MAX) {
        return is_demanded ? error_set(error, STATUS_TOO_LARGE, "%s: a vocabulary of %llu bytes, at most %d",
                                       file->name, (unsigned long long)file->bytes, SOURCE_VOCABULARY_BYTES_MAX)
                           : STATUS_OK;
    }
    if (!is_demanded && !may_be_vocabulary(file)) {
        return STATUS_OK;
    }
    TRY(read_plain(source, file, model, &root, &reason, error));
    if (root == NULL) {
        return is_demanded ? error_set(error, STATUS_INVALID, "%s: neither JSON nor a pickle nor NumPy's texts: %.900s",
                                       file->name, reason.message)
                           : STATUS_OK;
    }
    size_t count_before = model->vocabulary_count;
    TRY(foreign_add_vocabularies(model, file->name, root, error));
    if (!foreign_numbers_symbols(root)) {
        TRY(add_options(model, file->name, root, error));
    }
    return is_demanded && model->vocabulary_count == count_before
               ? error_set(error, STATUS_INVALID,
                           "%s: no vocabulary: neither a list of symbols nor a dictionary of symbols and numbers",
                           file->name)
               : STATUS_OK;
}

enum status options_file_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                              struct error *error)
{
    size_t count_before = model->vocabulary_count;
    if (file->bytes > OPTIONS_BYTES_MAX) {
        return STATUS_OK;
    }
    struct error reason = {.status = STATUS_OK};
    enum status status = vocabulary_file_read(source, file, false, model, &reason);
    model->vocabulary_count = count_before;
    if (status == STATUS_OK || status == STATUS_LIMIT) {
        return STATUS_OK;
    }
    *error = reason;
    return status;
}

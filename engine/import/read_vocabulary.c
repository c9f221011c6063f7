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

static enum status parse(const unsigned char *bytes, size_t length, struct foreign_model *model,
                         struct plain **ret_root, struct error *error)
{
    return looks_like_json(bytes, length) ? parse_json(bytes, length, model, ret_root, error)
           : numpy_begins(bytes, length)  ? numpy_read(bytes, length, &model->arena, ret_root, error)
                                          : pickle_read(bytes, length, &model->arena, ret_root, &length, error);
}

/* Reads the file, and its symbols where they are wanted; what it says is in the model's arena. `*ret_root` NULL: it is
 * of no such format, and `reason` says why. */
static enum status read_symbols(struct foreign_source *source, struct source_file *file, bool has_symbols,
                                struct foreign_model *model, struct plain **ret_root, struct error *reason,
                                struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    enum status status = parse(bytes, length, model, ret_root, reason);
    if (status == STATUS_NO_MEMORY || status == STATUS_LIMIT) {
        return error_set(error, status, "%s: %.900s", file->name, reason->message);
    }
    return *ret_root == NULL || !has_symbols ? STATUS_OK
                                             : foreign_add_vocabularies(model, file->name, *ret_root, error);
}

/* Reads the file within `bytes_max`, and gives the memory back where no symbols were in it: training data lie beside
 * models. On failure the model is as before. */
static enum status read_apart(struct foreign_source *source, struct source_file *file, size_t bytes_max,
                              bool has_symbols, struct foreign_model *model, bool *ret_is_read, struct error *reason,
                              struct error *error)
{
    const struct foreign_model before = *model;
    struct plain *root = NULL;
    model->arena = (struct arena){.bytes_max = bytes_max};
    enum status status = read_symbols(source, file, has_symbols, model, &root, reason, error);
    struct arena apart = model->arena;
    if (status != STATUS_OK) {
        *model = before;
        arena_release(&apart);
        return status;
    }
    model->arena = before.arena;
    status = root == NULL || foreign_numbers_symbols(root) ? STATUS_OK : add_options(model, file->name, root, error);
    if (model->vocabularies_kept > before.vocabularies_kept || model->unsearched != before.unsearched) {
        arena_take_over(&model->arena, &apart);
    }
    arena_release(&apart);
    *ret_is_read = root != NULL;
    return status;
}

/* One that was given has to have a vocabulary. */
static enum status demand(const struct source_file *file, bool is_read, size_t kept_count,
                          const struct foreign_model *model, const struct error *reason, struct error *error)
{
    if (!is_read) {
        return error_set(error, STATUS_INVALID, "%s: neither JSON nor a pickle nor NumPy's texts: %.900s", file->name,
                         reason->message);
    }
    if (model->vocabularies_kept > kept_count) {
        return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID,
                     "%s: no vocabulary: neither a list of symbols nor a dictionary of symbols "
                     "and numbers%s",
                     file->name,
                     model->unsearched == NULL ? "" : " in as much of it as is searched: give a file of those alone");
}

enum status vocabulary_file_read(struct foreign_source *source, struct source_file *file, bool is_demanded,
                                 struct foreign_model *model, struct error *error)
{
    struct error reason = {.status = STATUS_OK};
    size_t kept_count = model->vocabularies_kept;
    size_t room = arena_room_bytes(&model->arena);
    bool is_read = false;
    if (!is_demanded && !may_be_vocabulary(file)) {
        return STATUS_OK;
    }
    if (file->bytes > SOURCE_VOCABULARY_BYTES_MAX && is_demanded) {
        return error_set(error, STATUS_TOO_LARGE, "%s: a vocabulary of %llu bytes, at most %d", file->name,
                         (unsigned long long)file->bytes, SOURCE_VOCABULARY_BYTES_MAX);
    }
    if (file->bytes > SOURCE_VOCABULARY_BYTES_MAX) {
        model->unsearched = file->name;
        return STATUS_OK;
    }
    if (is_demanded) {
        TRY(read_apart(source, file, room, true, model, &is_read, &reason, error));
        return demand(file, is_read, kept_count, model, &reason, error);
    }
    struct error problem = {.status = STATUS_OK};
    enum status status =
        read_apart(source, file, room - room / 8, true, model, &is_read, &reason, &problem); /* others follow */
    if (status == STATUS_LIMIT) {
        model->unsearched = file->name;
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        *error = problem;
    }
    return status;
}

enum status options_file_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                              struct error *error)
{
    struct error reason = {.status = STATUS_OK};
    struct error problem = {.status = STATUS_OK};
    size_t room = arena_room_bytes(&model->arena);
    bool is_read = false;
    if (file->bytes > OPTIONS_BYTES_MAX || !may_be_vocabulary(file)) {
        return STATUS_OK;
    }
    enum status status = read_apart(source, file, room - room / 8, false, model, &is_read, &reason, &problem);
    if (status == STATUS_OK || status == STATUS_LIMIT) {
        return STATUS_OK;
    }
    *error = problem;
    return status;
}

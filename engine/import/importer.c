/* Reading and understanding a source, in the process that has no rights. Thread: the one that imports. */
#include "engine/import/importer.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/import/foreign_archive.h"
#include "engine/import/import_private.h"
#include "engine/import/readers.h"
#include "engine/store/safetensors.h"
#include "engine/store/version_directory.h"

enum { ARENA_BYTES_MIN = 64 << 20, LISTED_BYTES_MAX = 512, ALIGNMENT_BYTES = 8, PIECE_ELEMENTS = 1 << 16 };

/* ---- which file ---- */

/* Whether what the user named leaves this file: all of a folder, a file itself, what a prefix begins. */
static bool is_meant(const struct foreign_source *source, const struct source_file *file, const char *wanted)
{
    const char *chosen = wanted != NULL ? wanted : source->chosen;
    size_t length = strlen(chosen);
    bool is_prefix = strncmp(file->name, chosen, length) == 0;
    if (length == 0 || strcmp(file->name, chosen) == 0) {
        return true;
    }
    return is_prefix && foreign_source_find(source, chosen) == NULL && file->name[length] == '.';
}

/* Of several checkpoints in a folder the one that TensorFlow's "checkpoint" file names first. */
static const char *read_checkpoint_state(struct foreign_source *source, struct arena *arena)
{
    static const char key[] = "model_checkpoint_path: \"";
    struct source_file *file = foreign_source_find(source, "checkpoint");
    unsigned char head[SOURCE_HEAD_BYTES + 1];
    size_t length = file == NULL ? 0 : foreign_source_peek(file, 0, head);
    head[length] = '\0';
    if (length <= strlen(key) || memcmp(head, key, strlen(key)) != 0) {
        return NULL;
    }
    const char *path = (const char *)head + strlen(key);
    size_t end = strcspn(path, "\"\n");
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') {
        begin--;
    }
    char *name = arena_allocate(arena, end - begin + 1, 1);
    if (name != NULL) {
        memcpy(name, path + begin, end - begin);
    }
    return name;
}

static enum status none_recognised(const struct foreign_source *source, size_t tried_count, struct error *error)
{
    char known[LISTED_BYTES_MAX] = "";
    size_t length = 0;
    for (size_t i = 0; i < foreign_format_count && length < sizeof known; i++) {
        length += (size_t)snprintf(known + length, sizeof known - length, "%s%s", i == 0 ? "" : ", ",
                                   foreign_formats[i].name);
    }
    error_set(error, STATUS_UNSUPPORTED, "%.300s: none of %zu files is of a format that is read here: %s",
              source->label, tried_count, known);
    return error_code(error, "unknown_format"), STATUS_UNSUPPORTED;
}

static enum status several(const struct foreign_source *source, const struct source_file *one,
                           const struct source_file *other, struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE,
              "%.300s holds several models, %.200s and %.200s among them: say --set "
              "file=NAME",
              source->label, one->name, other->name);
    return error_code(error, "ambiguous"), STATUS_UNPROCESSABLE;
}

/* The one file by which a model is entered, among those that `wanted` leaves. */
static enum status find_entry_among(struct foreign_source *source, const char *wanted, size_t *tried_count,
                                    struct source_file **ret_file, struct error *error)
{
    struct source_file *found = NULL;
    for (size_t i = 0; i < source->count; i++) {
        struct source_file *file = &source->files[i];
        if (!is_meant(source, file, wanted)) {
            continue;
        }
        *tried_count += 1;
        if (foreign_format_of(file) == NULL) {
            continue;
        }
        if (found != NULL) {
            return several(source, found, file, error);
        }
        found = file;
    }
    *ret_file = found;
    return STATUS_OK;
}

static enum status find_entry(struct foreign_source *source, struct import_settings *settings,
                              struct source_file **ret_file, struct error *error)
{
    const char *wanted = import_setting(settings, "file");
    const char *state = NULL;
    size_t tried_count = 0;
    *ret_file = NULL;
    if (wanted == NULL && source->chosen[0] == '\0') {
        state = read_checkpoint_state(source, &source->arena);
    }
    if (state != NULL) {
        TRY(find_entry_among(source, state, &tried_count, ret_file, error));
    }
    if (*ret_file == NULL) {
        TRY(find_entry_among(source, wanted, &tried_count, ret_file, error));
    }
    return *ret_file == NULL ? none_recognised(source, tried_count, error) : STATUS_OK;
}

/* ---- reading ---- */

/* What was named may be an archive, if it is no model by itself. */
static const struct source_file *find_archive(const struct foreign_source *source)
{
    const struct source_file *file = source->chosen[0] == '\0' ? NULL : foreign_source_find(source, source->chosen);
    return file != NULL && foreign_format_of(file) == NULL && foreign_archive_recognise(file) ? file : NULL;
}

void import_prepare(void)
{
    foreign_archive_prepare();
}

bool import_is_foreign(const struct source_file *file)
{
    return foreign_archive_recognise(file) || foreign_format_of(file) != NULL;
}

uint64_t import_bytes_max(const struct foreign_source *source)
{
    return foreign_source_bytes(source) + (find_archive(source) == NULL ? 0 : source->unpack_bytes_max);
}

/* A file that was given for it, or named among the source's, replaces all vocabularies that lie about; other files are
 * then read for options alone. */
static enum status read_vocabularies(struct foreign_source *source, const struct source_file *entry, const char *named,
                                     struct foreign_model *model, struct error *error)
{
    struct source_file *given = source->vocabulary;
    if (given == NULL && named != NULL) {
        given = foreign_source_find(source, named);
        model->is_vocabulary_named = given != NULL;
    }
    if (given != NULL) {
        model->vocabulary_count = 0;
        model->is_vocabulary_given = true;
        TRY(vocabulary_file_read(source, given, true, model, error));
    }
    for (size_t i = 0; i < source->count; i++) {
        struct source_file *file = &source->files[i];
        if (file != entry && file != given && foreign_format_of(file) == NULL) {
            TRY(given != NULL ? options_file_read(source, file, model, error)
                              : vocabulary_file_read(source, file, false, model, error));
        }
    }
    return STATUS_OK;
}

static enum status unpack(struct foreign_source *source, struct error *error)
{
    const struct source_file *archive = find_archive(source);
    return archive == NULL ? STATUS_OK : foreign_archive_unpack(source, archive, error);
}

static enum status read_model(struct foreign_source *source, struct import_settings *settings,
                              struct foreign_model *model, struct error *error)
{
    struct source_file *entry = NULL;
    TRY(find_entry(source, settings, &entry, error));
    CHECK(entry != NULL);
    model->arena.bytes_max = ARENA_BYTES_MIN + 2 * (size_t)foreign_source_bytes(source);
    model->entry = entry->name;
    TRY(foreign_format_of(entry)->read(source, entry, model, error));
    return read_vocabularies(source, entry, import_setting(settings, "vocabulary"), model, error);
}

/* ---- writing ---- */

static bool write_sizes(const struct import_sink *sink, uint64_t reply_bytes, uint64_t weights_bytes)
{
    return sink->write(sink->context, import_magic, IMPORT_MAGIC_BYTES) &&
           sink->write(sink->context, &reply_bytes, sizeof reply_bytes) &&
           sink->write(sink->context, &weights_bytes, sizeof weights_bytes);
}

static enum status cannot_write(struct error *error)
{
    return error_set(error, STATUS_IO, "what was read could not be handed over");
}

static enum status write_reply(const struct import_sink *sink, const json_t *facts, size_t weights_bytes,
                               struct error *error)
{
    char *text = facts == NULL ? NULL : json_dumps(facts, JSON_COMPACT);
    if (text == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to say what was read");
    }
    static const char spaces[ALIGNMENT_BYTES] = "       ";
    size_t length = strlen(text);
    size_t padding = (ALIGNMENT_BYTES - length % ALIGNMENT_BYTES) % ALIGNMENT_BYTES;
    bool is_written = write_sizes(sink, length + padding, weights_bytes) && sink->write(sink->context, text, length) &&
                      sink->write(sink->context, spaces, padding);
    free(text);
    return is_written ? STATUS_OK : cannot_write(error);
}

/* A variable, as many rows at a time as PIECE_ELEMENTS are. */
static enum status write_variable(const struct import_sink *sink, const struct weight *weight, struct error *error)
{
    size_t columns = weight_columns(weight);
    size_t rows = columns == 0 ? 0 : weight_rows(weight);
    size_t piece = columns == 0 || columns > PIECE_ELEMENTS ? 1 : PIECE_ELEMENTS / columns;
    piece = piece > rows ? rows : piece;
    float *values = mem_allocate(piece * columns, sizeof *values);
    bool is_written = true;
    if (values == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu elements of %s", piece * columns, weight->name);
    }
    for (size_t row = 0; row < rows && is_written; row += piece) {
        size_t count = rows - row < piece ? rows - row : piece;
        weight_compute(weight, row, count, values);
        is_written = sink->write(sink->context, values, count * columns * sizeof *values);
    }
    mem_free(values);
    return is_written ? STATUS_OK : cannot_write(error);
}

/* The variables one after another, each made when its turn comes. */
static enum status write_variables(const struct import_sink *sink, const struct understanding *understanding,
                                   struct error *error)
{
    for (size_t i = 0; i < understanding->weight_count; i++) {
        TRY(write_variable(sink, &understanding->weights[i], error));
    }
    return STATUS_OK;
}

static enum status write_weights(const struct import_sink *sink, const json_t *facts,
                                 const struct understanding *understanding, struct error *error)
{
    struct named_tensor entries[WEIGHTS_MAX];
    void *header = NULL;
    size_t header_bytes = 0;
    size_t data_bytes = 0;
    for (size_t i = 0; i < understanding->weight_count; i++) {
        const struct weight *weight = &understanding->weights[i];
        entries[i] = (struct named_tensor){weight->name, {.dtype = DTYPE_FLOAT32, .shape = weight->shape}};
    }
    TRY(safetensors_format_header(entries, understanding->weight_count, &header, &header_bytes, &data_bytes, error));
    enum status status = write_reply(sink, facts, header_bytes + data_bytes, error);
    if (status == STATUS_OK && !sink->write(sink->context, header, header_bytes)) {
        status = cannot_write(error);
    }
    mem_free(header);
    return status == STATUS_OK ? write_variables(sink, understanding, error) : status;
}

/* ---- versions of lstmd's own ---- */

/* The file's name in its folder. */
static const char *bare_name(const struct source_file *file)
{
    const char *slash = strrchr(file->name, '/');
    return slash == NULL ? file->name : slash + 1;
}

/* Whether it is a manifest.json like theirs: {"format":1,"files":{…},…}. ml5's has other things in it. */
static bool is_manifest(struct foreign_source *source, struct source_file *file)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    struct error ignored;
    if (strcmp(bare_name(file), version_manifest_name) != 0 || file->bytes > VERSION_MANIFEST_BYTES_MAX ||
        foreign_source_read(source, file, &bytes, &length, &ignored) != STATUS_OK) {
        return false;
    }
    json_t *manifest = json_loadb((const char *)bytes, length, 0, NULL);
    bool is_version =
        json_is_integer(json_object_get(manifest, "format")) && json_is_object(json_object_get(manifest, "files"));
    json_decref(manifest);
    return is_version;
}

static bool is_beside(const struct source_file *file, const struct source_file *manifest)
{
    size_t folder = (size_t)(bare_name(file) - file->name);
    return folder == (size_t)(bare_name(manifest) - manifest->name) && memcmp(file->name, manifest->name, folder) == 0;
}

/* Whether a model lies elsewhere than beside the manifest. */
static bool has_another_model(const struct foreign_source *source, const struct source_file *manifest)
{
    for (size_t i = 0; i < source->count; i++) {
        if (!is_beside(&source->files[i], manifest) && foreign_format_of(&source->files[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* The manifest of the version that the source holds, in whatever folder; NULL: none, or there are several, or it lies
 * below a folder that holds another model. */
static const struct source_file *find_version(struct foreign_source *source)
{
    const struct source_file *found = NULL;
    for (size_t i = 0; i < source->count && source->chosen[0] == '\0'; i++) {
        if (is_manifest(source, &source->files[i])) {
            if (found != NULL) {
                return NULL;
            }
            found = &source->files[i];
        }
    }
    bool is_nested = found != NULL && bare_name(found) != found->name;
    return is_nested && has_another_model(source, found) ? NULL : found;
}

/* Makes the reply, and reads all files, so that nothing can fail once it is written. */
static enum status describe_version(struct foreign_source *source, const struct source_file *manifest,
                                    json_t **ret_facts, uint64_t *ret_bytes, struct error *error)
{
    json_t *findings = json_array();
    json_t *list = json_array();
    for (size_t i = 0; i < source->count; i++) {
        struct source_file *file = &source->files[i];
        const unsigned char *bytes = NULL;
        size_t length = 0;
        if (!is_beside(file, manifest)) {
            continue;
        }
        enum status status = foreign_source_read(source, file, &bytes, &length, error);
        if (status != STATUS_OK) {
            json_decref(findings);
            json_decref(list);
            return status;
        }
        json_array_append_new(
            list, json_pack("{s:o, s:I}", "name", import_text_json(bare_name(file)), "bytes", (json_int_t)length));
        *ret_bytes += length;
    }
    json_array_append_new(findings, json_pack("{s:s, s:s, s:s}", "what", "version", "value", "kept as it is", "why",
                                              "manifest.json is that of a version"));
    *ret_facts = json_pack("{s:s, s:o, s:o, s:o}", "format", "lstmd version", "entry", import_text_json(manifest->name),
                           "understood", findings, "version", list);
    return STATUS_OK;
}

static enum status write_version(struct foreign_source *source, const struct source_file *manifest,
                                 const struct import_sink *sink, struct error *error)
{
    json_t *facts = NULL;
    uint64_t bytes = 0;
    struct error problem;
    if (describe_version(source, manifest, &facts, &bytes, &problem) != STATUS_OK) {
        return import_write_failure(&problem, sink);
    }
    enum status status = write_reply(sink, facts, bytes, error);
    for (size_t i = 0; i < source->count && status == STATUS_OK; i++) {
        const struct source_file *file = &source->files[i];
        if (is_beside(file, manifest) && !sink->write(sink->context, file->content, file->bytes)) {
            status = cannot_write(error);
        }
    }
    json_decref(facts);
    return status;
}

enum status import_write(struct foreign_source *source, struct import_settings *settings, bool looks_only,
                         const struct import_sink *sink, struct error *error)
{
    struct foreign_model model = {.format = NULL};
    struct understanding understanding = {.program = NULL};
    struct error problem = {.status = STATUS_OK};
    bool is_unpacked = unpack(source, &problem) == STATUS_OK;
    bool may_be_version = is_unpacked && !looks_only && settings->count == 0 && source->vocabulary == NULL;
    const struct source_file *manifest = may_be_version ? find_version(source) : NULL;
    if (manifest != NULL) {
        return write_version(source, manifest, sink, error);
    }
    bool is_read = is_unpacked && read_model(source, settings, &model, &problem) == STATUS_OK;
    if (is_read) {
        (void)!understand(&model, settings, &understanding, &problem); /* `problem` has its status */
    }
    bool is_understood = is_read && problem.status == STATUS_OK;
    json_t *facts = is_understood || (is_read && looks_only)
                        ? import_facts_json(&model, &understanding, looks_only, &problem)
                        : import_error_json(&problem);
    enum status status = is_understood && !looks_only ? write_weights(sink, facts, &understanding, error)
                                                      : write_reply(sink, facts, 0, error);
    json_decref(facts);
    understanding_release(&understanding);
    foreign_model_release(&model);
    return status;
}

enum status import_write_failure(const struct error *failure, const struct import_sink *sink)
{
    struct error ignored;
    json_t *facts = import_error_json(failure);
    enum status status = write_reply(sink, facts, 0, &ignored);
    json_decref(facts);
    return status;
}

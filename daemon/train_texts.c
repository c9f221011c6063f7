/* Names and paths from outside become files that may be read. */
#include "daemon/train_texts.h"

#include <limits.h>
#include <unistd.h>

#include "daemon/allowed_paths.h"
#include "daemon/fields.h"
#include "daemon/names.h"
#include "engine/base/mem.h"

static const char *const part_names[] = {"corpus", "validation", "test"};
static_assert(sizeof part_names / sizeof part_names[0] == CORPUS_PART_COUNT, "one name each");

/* One text that is being read. */
struct reading {
    const struct train_texts_folders *folders;
    const char *part;
    char **paths; /* [TRAIN_TEXTS_NAMES_MAX] */
    size_t path_count;
};

static enum status refuse(struct error *error, enum status status, const char *code, const char *part,
                          const char *field)
{
    error_code(error, code);
    snprintf(error->param, sizeof error->param, "/%s%s%s", part, field[0] == '\0' ? "" : "/", field);
    return status;
}

static enum status find_kept(const struct reading *reading, const char *name, char path[PATH_MAX], struct error *error)
{
    char kept[PATH_MAX * 2];
    snprintf(kept, sizeof kept, "%s/%s", reading->folders->corpora_path, name);
    if (!name_is_valid(name) || access(kept, R_OK) != 0 || strlen(kept) >= PATH_MAX) {
        error_set(error, STATUS_NOT_FOUND, "there is no corpus '%.64s'", name);
        return refuse(error, STATUS_NOT_FOUND, "corpus_not_found", reading->part, "name");
    }
    memcpy(path, kept, strlen(kept) + 1);
    return STATUS_OK;
}

static enum status find_file(const struct reading *reading, const char *given, char path[PATH_MAX], struct error *error)
{
    if (path_find_allowed(reading->folders->corpora_roots, given, path) && access(path, F_OK) == 0) {
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "'%.200s' is not a file under corpora_roots", given);
    return refuse(error, STATUS_INVALID, "corpus_path", reading->part, "path");
}

static enum status add_path(struct reading *reading, const char *given, bool is_name, struct error *error)
{
    char path[PATH_MAX];
    TRY(is_name ? find_kept(reading, given, path, error) : find_file(reading, given, path, error));
    reading->paths[reading->path_count] = mem_copy_string(path);
    if (reading->paths[reading->path_count] == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a training job");
    }
    reading->path_count++;
    return STATUS_OK;
}

/* A string, or a list of them. */
static enum status add_paths(struct reading *reading, const json_t *value, const char *field, struct error *error)
{
    bool is_name = strcmp(field, "name") == 0;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count < 1 || count > TRAIN_TEXTS_NAMES_MAX) {
        error_set(error, STATUS_INVALID, "/%s/%s: must be a string, or a list of 1 to %d", reading->part, field,
                  TRAIN_TEXTS_NAMES_MAX);
        return refuse(error, STATUS_INVALID, "invalid_corpus", reading->part, field);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        const char *given = json_string_value(item);
        if (given == NULL || strlen(given) != json_string_length(item)) {
            error_set(error, STATUS_INVALID, "/%s/%s: must be a string, or a list of strings", reading->part, field);
            return refuse(error, STATUS_INVALID, "invalid_corpus", reading->part, field);
        }
        TRY(add_path(reading, given, is_name, error));
    }
    return STATUS_OK;
}

static enum status read_text(struct reading *reading, const json_t *json, struct corpus_text *text, struct error *error)
{
    const json_t *name = json_object_get(json, "name");
    const json_t *path = json_object_get(json, "path");
    const json_t *given = json_object_get(json, "text");
    if (!json_is_object(json) || json_object_size(json) != 1) {
        error_set(error, STATUS_INVALID, "%s must be {\"name\":…}, {\"text\":…} or {\"path\":…}", reading->part);
        return refuse(error, STATUS_INVALID, "invalid_corpus", reading->part, "");
    }
    if (name != NULL) {
        return add_paths(reading, name, "name", error);
    }
    if (path != NULL) {
        return add_paths(reading, path, "path", error);
    }
    if (!json_is_string(given)) {
        error_set(error, STATUS_INVALID, "%s has no text", reading->part);
        return refuse(error, STATUS_INVALID, "invalid_corpus", reading->part, "");
    }
    text->text = json_string_value(given);
    text->text_bytes = json_string_length(given);
    return STATUS_OK;
}

static enum status read_part(const json_t *body, int part, struct train_texts *texts, struct reading *reading,
                             struct error *error)
{
    const json_t *json = json_object_get(body, part_names[part]);
    struct corpus_text *text = &texts->parts[part];
    if (json == NULL && part != CORPUS_TRAIN) {
        return STATUS_OK;
    }
    texts->paths[part] = mem_allocate(TRAIN_TEXTS_NAMES_MAX, sizeof *texts->paths[part]);
    if (texts->paths[part] == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a training job");
    }
    reading->part = part_names[part];
    reading->paths = texts->paths[part];
    reading->path_count = 0;
    TRY(read_text(reading, json, text, error));
    if (reading->path_count > 0) {
        text->paths = (const char *const *)texts->paths[part];
        text->path_count = reading->path_count;
        texts->has_paths = texts->has_paths || json_object_get(json, "path") != NULL;
    }
    return STATUS_OK;
}

enum status train_texts_read(const json_t *body, const struct train_texts_folders *folders,
                             struct train_texts *ret_texts, struct error *error)
{
    struct train_texts texts = {.has_paths = false};
    struct reading reading = {.folders = folders};
    enum status status = STATUS_OK;
    for (int part = 0; status == STATUS_OK && part < CORPUS_PART_COUNT; part++) {
        status = read_part(body, part, &texts, &reading, error);
    }
    if (status != STATUS_OK) {
        train_texts_release(&texts);
        return status;
    }
    *ret_texts = texts;
    return STATUS_OK;
}

void train_texts_release(struct train_texts *texts)
{
    for (int part = 0; part < CORPUS_PART_COUNT; part++) {
        for (size_t i = 0; texts->paths[part] != NULL && i < TRAIN_TEXTS_NAMES_MAX; i++) {
            mem_free(texts->paths[part][i]);
        }
        mem_free(texts->paths[part]);
    }
    *texts = (struct train_texts){.has_paths = false};
}

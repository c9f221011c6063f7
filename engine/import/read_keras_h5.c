/* Keras' HDF5 files and .keras archives. Thread: the one that imports.
 *
 * model.save to HDF5 writes attributes model_config and keras_version and a group model_weights, in which each layer
 * has a group of its own and the attribute layer_names their order; save_weights the content of that group alone,
 * beside which many keep what model.to_json gives. A .keras file is a zip of config.json, metadata.json and
 * model.weights.h5, which keeps weights by numbers. */
#include "engine/import/hdf5_file.h"
#include "engine/import/readers.h"
#include "engine/import/zip_archive.h"

bool keras_h5_recognise(const struct source_file *file)
{
    unsigned char head[SOURCE_HEAD_BYTES];
    return hdf5_is_file(head, foreign_source_peek(file, 0, head));
}

/* An attribute of the weights' group, or of the file's. */
static enum status read_either(const struct hdf5_file *file, const char *group, const char *attribute,
                               const char **ret_text, struct error *error)
{
    TRY(hdf5_read_text(file, group, attribute, ret_text, error));
    return *ret_text == NULL ? hdf5_read_text(file, "/", attribute, ret_text, error) : STATUS_OK;
}

static enum status begin_keras(struct foreign_model *model, struct foreign_keras **ret_keras, struct error *error)
{
    *ret_keras = arena_allocate(&model->arena, 1, sizeof **ret_keras);
    model->keras = *ret_keras;
    return *ret_keras == NULL ? foreign_no_memory(model, error) : STATUS_OK;
}

/* The layers of files that have no list of them. */
static enum status read_groups(const struct hdf5_file *file, struct foreign_model *model, struct foreign_keras *keras,
                               struct error *error)
{
    static const char *const folders[] = {"/layers", "/_layer_checkpoint_dependencies"};
    struct plain *groups = plain_create(&model->arena, PLAIN_LIST);
    if (groups == NULL) {
        return foreign_no_memory(model, error);
    }
    for (size_t i = 0; i < sizeof folders / sizeof *folders && groups->count == 0; i++) {
        if (hdf5_has_group(file, folders[i])) {
            TRY(hdf5_list_groups(file, folders[i], groups, error));
        }
    }
    keras->groups = groups->count == 0 ? NULL : groups;
    return STATUS_OK;
}

static enum status read_content(struct hdf5_file *file, struct foreign_model *model, struct foreign_keras *keras,
                                struct error *error)
{
    const char *group = hdf5_has_group(file, "/model_weights") ? "/model_weights" : "/";
    const char *config = NULL;
    struct plain *names = plain_create(&model->arena, PLAIN_LIST);
    if (names == NULL) {
        return foreign_no_memory(model, error);
    }
    TRY(hdf5_read_text(file, "/", "model_config", &config, error));
    TRY(read_either(file, group, "keras_version", &keras->version, error));
    TRY(hdf5_read_texts(file, group, "layer_names", names, error));
    if (config != NULL) {
        TRY(foreign_read_json(model, file->name, config, strlen(config), &keras->config, error));
    }
    keras->layer_names = names->count == 0 ? NULL : names;
    if (keras->layer_names == NULL) {
        TRY(read_groups(file, model, keras, error));
    }
    return hdf5_add_tensors(file, group, error);
}

/* Whether JSON is a model's; what Keras' Tokenizer.to_json wrote has class_name and config, too. */
static bool is_model(const struct plain *root)
{
    static const char *const classes[] = {"Sequential", "Functional", "Model"};
    const struct plain *config = plain_get(root, "config");
    bool is_one = plain_get(config, "layers") != NULL;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        is_one = is_one || (config != NULL && plain_equals(plain_get(root, "class_name"), classes[i]));
    }
    return is_one;
}

static bool may_be_model(const struct source_file *file)
{
    unsigned char head[SOURCE_HEAD_BYTES];
    size_t length = foreign_source_peek(file, 0, head);
    return length > 0 && head[0] == '{' && file->bytes <= SOURCE_VOCABULARY_BYTES_MAX &&
           (memmem(head, length, "\"class_name\"", 12) != NULL ||
            memmem(head, length, "\"keras_version\"", 15) != NULL);
}

/* What model.to_json wrote, beside weights alone. */
struct configuration {
    const struct source_file *file; /* NULL: none was found */
    const unsigned char *bytes;
    size_t length;
    const struct plain *root;
};

static bool are_same(const struct configuration *one, const struct configuration *other)
{
    return one->length == other->length && memcmp(one->bytes, other->bytes, one->length) == 0;
}

struct candidate {
    struct source_file *file;
    size_t likeness;
};

static int by_likeness(const void *left, const void *right)
{
    const struct candidate *one = left;
    const struct candidate *other = right;
    return one->likeness != other->likeness ? (one->likeness < other->likeness) - (one->likeness > other->likeness)
                                            : (one->file > other->file) - (one->file < other->file);
}

/* Whether weights lie in the folder of a file. */
static bool has_weights_beside(const struct foreign_source *source, const struct source_file *file)
{
    for (size_t i = 0; i < source->count; i++) {
        const struct source_file *other = &source->files[i];
        if (foreign_is_around(other->name, file->name) && foreign_is_around(file->name, other->name) &&
            keras_h5_recognise(other)) {
            return true;
        }
    }
    return false;
}

/* The files that may be the weights' configuration, the likest first. What lies elsewhere beside weights is theirs. */
static enum status find_candidates(const struct foreign_source *source, const struct source_file *weights,
                                   struct foreign_model *model, struct candidate **ret_candidates, size_t *ret_count,
                                   struct error *error)
{
    *ret_count = 0;
    *ret_candidates = arena_allocate(&model->arena, source->count + 1, sizeof **ret_candidates);
    if (*ret_candidates == NULL) {
        return foreign_no_memory(model, error);
    }
    for (size_t i = 0; i < source->count; i++) {
        struct source_file *file = &source->files[i];
        if (may_be_model(file) && (foreign_is_around(file->name, weights->name) || !has_weights_beside(source, file))) {
            (*ret_candidates)[(*ret_count)++] = (struct candidate){file, foreign_likeness(file->name, weights->name)};
        }
    }
    qsort(*ret_candidates, *ret_count, sizeof **ret_candidates, by_likeness);
    return STATUS_OK;
}

/* The likest one that is a model's; `ret_other` is another one as like, or has no file. Others are not read. */
static enum status find_nearest(struct foreign_source *source, const struct source_file *weights,
                                struct foreign_model *model, struct configuration *ret_nearest,
                                struct configuration *ret_other, struct error *error)
{
    struct candidate *candidates = NULL;
    size_t count = 0;
    *ret_nearest = *ret_other = (struct configuration){.file = NULL};
    TRY(find_candidates(source, weights, model, &candidates, &count, error));
    for (size_t i = 0; i < count; i++) {
        struct source_file *file = candidates[i].file;
        struct configuration found = {.file = file};
        bool is_less = i > 0 && candidates[i].likeness < candidates[i - 1].likeness;
        if (is_less && ret_nearest->file != NULL) {
            break;
        }
        TRY(foreign_source_read(source, file, &found.bytes, &found.length, error));
        TRY(foreign_read_json(model, file->name, found.bytes, found.length, &found.root, error));
        if (!is_model(found.root)) {
            foreign_source_forget(source, file);
        } else if (ret_nearest->file == NULL) {
            *ret_nearest = found;
        } else if (!are_same(ret_nearest, &found)) {
            *ret_other = found;
        }
    }
    return STATUS_OK;
}

static enum status find_config(struct foreign_source *source, const struct source_file *weights,
                               struct foreign_model *model, struct foreign_keras *keras, struct error *error)
{
    struct configuration nearest;
    struct configuration other;
    TRY(find_nearest(source, weights, model, &nearest, &other, error));
    if (other.file != NULL) {
        error_set(error, STATUS_UNPROCESSABLE,
                  "beside %.200s, weights alone, lie several models, %.200s and %.200s among them, and no name is more "
                  "like theirs: give the right one the same name, but for .json",
                  weights->name, nearest.file->name, other.file->name);
        return error_code(error, "ambiguous"), STATUS_UNPROCESSABLE;
    }
    keras->config = nearest.root;
    if (nearest.file != NULL) {
        keras->config_file = arena_copy_string(&model->arena, nearest.file->name);
        if (keras->config_file == NULL) {
            return foreign_no_memory(model, error);
        }
    }
    const struct plain *version = plain_get(keras->config, "keras_version");
    keras->version = keras->version == NULL && plain_is_string(version) ? version->text : keras->version;
    return STATUS_OK;
}

/* Where nothing says the version: Keras 3's to_json writes modules and no version, its weights are numbered below
 * "layers"; Keras 1 ends the names of recurrent weights in "_U" or "_U_i", and wrote no version beside weights. */
static const char *conclude_version(const struct foreign_model *model, const struct foreign_keras *keras)
{
    static const char *const old[] = {"_U", "_U_i", "_U_z"};
    const struct plain *module = plain_get(keras->config, "module");
    const char *version = plain_is_string(module) && strncmp(module->text, "keras", 5) == 0 ? "3" : NULL;
    for (size_t i = 0; i < model->tensor_count && version == NULL; i++) {
        const char *name = model->tensors[i].name;
        const char *slash = strrchr(name, '/');
        const char *last = slash == NULL ? name : slash + 1;
        bool is_new = slash != NULL && strncmp(name, "layers/", 7) == 0 && slash - name >= 5 &&
                      memcmp(slash - 5, "/vars", 5) == 0;
        version = is_new ? "3" : NULL;
        for (size_t k = 0; k < sizeof old / sizeof *old; k++) {
            version = foreign_ends_in(last, strcspn(last, ":"), old[k]) ? "1" : version;
        }
    }
    return version;
}

enum status keras_h5_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                          struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    struct hdf5_file hdf5;
    struct foreign_keras *keras = NULL;
    model->format = "Keras HDF5";
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    TRY(begin_keras(model, &keras, error));
    TRY(hdf5_open(bytes, length, file->name, model, &hdf5, error));
    enum status status = read_content(&hdf5, model, keras, error);
    hdf5_close(&hdf5);
    if (!hdf5.is_borrowed) {
        foreign_source_forget(source, file);
    }
    if (status == STATUS_OK && keras->config == NULL) {
        status = find_config(source, file, model, keras, error);
    }
    keras->version = keras->version == NULL ? conclude_version(model, keras) : keras->version;
    return status;
}

/* ---- .keras ---- */

/* A zip whose first file is one of Keras'. */
bool keras_zip_recognise(const struct source_file *file)
{
    enum { NAME_AT = 30 };
    static const char *const names[] = {"metadata.json", "config.json", "model.weights.h5"};
    unsigned char head[SOURCE_HEAD_BYTES];
    size_t length = foreign_source_peek(file, 0, head);
    bool is_zip = length > 64 && memcmp(head, "PK\x03\x04", 4) == 0;
    for (size_t i = 0; is_zip && i < sizeof names / sizeof *names; i++) {
        size_t name = strlen(names[i]);
        if (head[26] == name && head[27] == 0 && memcmp(head + NAME_AT, names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static enum status read_zip(const struct zip_archive *archive, struct foreign_model *model, struct foreign_keras *keras,
                            struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    const struct plain *facts = NULL;
    struct hdf5_file hdf5;
    TRY(zip_archive_read(archive, "config.json", &bytes, &length, error));
    TRY(foreign_read_json(model, "config.json", bytes, length, &keras->config, error));
    TRY(zip_archive_read(archive, "metadata.json", &bytes, &length, error));
    TRY(foreign_read_json(model, "metadata.json", bytes, length, &facts, error));
    const struct plain *version = plain_get(facts, "keras_version");
    keras->version = plain_is_string(version) ? version->text : NULL;
    TRY(zip_archive_read(archive, "model.weights.h5", &bytes, &length, error));
    TRY(hdf5_open(bytes, length, "model.weights.h5", model, &hdf5, error));
    enum status status = hdf5_add_tensors(&hdf5, "/", error);
    hdf5_close(&hdf5);
    return status;
}

enum status keras_zip_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                           struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    struct zip_archive archive;
    struct foreign_keras *keras = NULL;
    model->format = "Keras 3";
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    TRY(begin_keras(model, &keras, error));
    TRY(zip_archive_open(bytes, length, file->name, model, &archive, error));
    enum status status = read_zip(&archive, model, keras, error);
    zip_archive_close(&archive);
    foreign_source_forget(source, file); /* everything was unpacked */
    return status;
}

/* What lies in the models directory: names, versions, small files. Thread: loader (scan_read), loop (scan_free). */
#include <dirent.h>
#include <sys/stat.h>

#include "daemon/registry_private.h"
#include "engine/base/mem.h"

static void read_small_file(const char *directory, enum model_file which, struct found_file *ret_file)
{
    char path[REGISTRY_PATH_BYTES_MAX + 64];
    char *bytes = NULL;
    size_t length = 0;
    struct error error;
    struct stat facts;
    json_error_t place;
    snprintf(path, sizeof path, "%s/%s", directory, model_file_name(which));
    enum status status = file_read(path, MODEL_FILE_BYTES_MAX, &bytes, &length, &error);
    if (status == STATUS_NOT_FOUND) {
        return;
    }
    json_t *json = status == STATUS_OK ? json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &place) : NULL;
    mem_free(bytes);
    if (status == STATUS_OK && json == NULL) {
        status = error_set(&error, STATUS_INVALID, "line %d, column %d: %s", place.line, place.column, place.text);
    } else if (status == STATUS_OK) {
        status = model_file_check(which, json, &error);
    }
    if (status == STATUS_OK) {
        ret_file->json = json;
        return;
    }
    json_decref(json);
    snprintf(ret_file->problem.message, sizeof ret_file->problem.message, "%.*s", FILE_PROBLEM_BYTES_MAX - 1,
             error.message);
    if (stat(path, &facts) == 0) {
        ret_file->problem.changed_ns = (uint64_t)facts.st_mtim.tv_sec * 1000000000u + (uint64_t)facts.st_mtim.tv_nsec;
    }
}

static void read_versions(struct found_model *model)
{
    uint64_t *numbers = NULL;
    size_t count = 0;
    struct error error;
    if (version_list(model->path, &numbers, &count, &error) != STATUS_OK) {
        return;
    }
    size_t skipped = count > REGISTRY_VERSIONS_MAX ? count - REGISTRY_VERSIONS_MAX : 0;
    model->versions = mem_allocate(count - skipped + 1, sizeof *model->versions);
    for (size_t i = skipped; model->versions != NULL && i < count; i++) {
        char path[REGISTRY_PATH_BYTES_MAX];
        version_path_in(model->path, numbers[i], path);
        model->versions[model->version_count++] = (struct found_version){numbers[i], version_fingerprint(path)};
    }
    mem_free(numbers);
}

static void add_model(struct scan *scan, const char *root, const char *name, bool is_read_only)
{
    struct found_model model = {.is_read_only = is_read_only};
    struct stat status;
    snprintf(model.name, sizeof model.name, "%s", name);
    int length = snprintf(model.path, sizeof model.path, "%s/%s", root, name);
    if (length < 0 || (size_t)length >= sizeof model.path || stat(model.path, &status) != 0 ||
        !S_ISDIR(status.st_mode)) {
        return;
    }
    for (size_t i = 0; i < scan->model_count; i++) {
        if (strcmp(scan->models[i].name, name) == 0) {
            return; /* the user's model of that name hides the demo's */
        }
    }
    struct found_model *models = mem_reallocate(scan->models, scan->model_count + 1, sizeof *models);
    if (models == NULL) {
        return;
    }
    scan->models = models;
    for (enum model_file which = 0; which < MODEL_FILE_COUNT; which++) {
        read_small_file(model.path, which, &model.files[which]);
    }
    read_versions(&model);
    scan->models[scan->model_count++] = model;
}

static void read_root(struct scan *scan, const char *root, bool is_read_only)
{
    DIR *directory = opendir(root);
    if (directory == NULL) {
        return;
    }
    struct dirent *entry;
    while (scan->model_count < REGISTRY_MODELS_MAX && (entry = readdir(directory)) != NULL) {
        if (name_is_valid(entry->d_name)) {
            add_model(scan, root, entry->d_name, is_read_only);
        }
    }
    closedir(directory);
}

void scan_read(struct scan *scan)
{
    read_root(scan, scan->models_path, false);
    if (scan->demo_path[0] != '\0') {
        read_root(scan, scan->demo_path, true);
    }
}

void scan_free(struct scan *scan)
{
    for (size_t i = 0; i < scan->model_count; i++) {
        mem_free(scan->models[i].versions);
        for (enum model_file which = 0; which < MODEL_FILE_COUNT; which++) {
            json_decref(scan->models[i].files[which].json);
        }
    }
    mem_free(scan->models);
    mem_free(scan);
}

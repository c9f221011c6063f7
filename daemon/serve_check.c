/* Checking a models directory without serving it. Thread: main. Owns nothing. */
#include "daemon/serve_check.h"

#include <dirent.h>

#include "daemon/registry.h"
#include "engine/base/mem.h"

struct counts {
    size_t good, bad;
};

static void check_version(const char *model_path, const char *name, uint64_t version, struct counts *counts)
{
    char path[REGISTRY_PATH_BYTES_MAX + 32];
    struct snapshot *snapshot;
    struct error error;
    snprintf(path, sizeof path, "%s/%llu", model_path, (unsigned long long)version);
    if (snapshot_load(path, name, version, RNN_PRECISION_FP32, &snapshot, &error) == STATUS_OK) {
        printf("%s@%llu: good, %zu parameters\n", name, (unsigned long long)version,
               snapshot_parameter_count(snapshot));
        snapshot_unref(snapshot);
        counts->good++;
    } else {
        printf("%s@%llu: %s: %s\n", name, (unsigned long long)version, error.code, error.message);
        counts->bad++;
    }
}

static enum status check_model(const char *models_path, const char *name, struct counts *counts, struct error *error)
{
    char path[REGISTRY_PATH_BYTES_MAX];
    uint64_t *versions;
    size_t count;
    if (snprintf(path, sizeof path, "%s/%s", models_path, name) >= (int)sizeof path) {
        return error_set(error, STATUS_INVALID, "the path of model '%s' has more than %zu bytes", name, sizeof path);
    }
    TRY(version_list(path, &versions, &count, error));
    for (size_t i = 0; i < count; i++) {
        check_version(path, name, versions[i], counts);
    }
    mem_free(versions);
    return STATUS_OK;
}

enum status serve_check(const char *models_path, struct error *error)
{
    struct counts counts = {0};
    DIR *directory = opendir(models_path);
    if (directory == NULL) {
        return error_set_errno(error, errno, "open models directory '%s'", models_path);
    }
    enum status status = STATUS_OK;
    for (const struct dirent *entry; status == STATUS_OK && (entry = readdir(directory)) != NULL;) {
        if (entry->d_type == DT_DIR && name_is_valid(entry->d_name)) {
            status = check_model(models_path, entry->d_name, &counts, error);
        }
    }
    closedir(directory);
    if (status == STATUS_OK && counts.bad > 0) {
        status =
            error_set(error, STATUS_UNPROCESSABLE, "%zu of %zu versions are bad", counts.bad, counts.bad + counts.good);
    }
    return status;
}

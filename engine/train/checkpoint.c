/* Writing and reading checkpoints. */
#include "engine/train/checkpoint.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

static const char WEIGHTS[] = "weights.safetensors";
static const char OPTIMIZER[] = "optimizer.safetensors";
static const char STATE[] = "state.safetensors";
static const char BEST[] = "best.safetensors";
static const char RECORD[] = "train.json";

enum { RECORD_BYTES_MAX = 16 << 20 }; /* of a file that is only looked into; its history is bounded */

enum variable_part { PART_WEIGHTS, PART_SLOTS };

static bool is_part(const struct variable *variable, enum variable_part part)
{
    return variable->is_slot == (part == PART_SLOTS);
}

static const char *state_name(const struct carried_state *state, size_t index, char name[64])
{
    char place[RECURRENT_STATE_NAME_BYTES_MAX];
    snprintf(name, 64, "final_state/%s", recurrent_state_name(state->cell, index, place));
    return name;
}

/* ---- the record ---- */

/* JSON has no NaN: null. */
json_t *checkpoint_number(double number)
{
    return isfinite(number) ? json_real(number) : json_null();
}

static enum status format_record(const struct checkpoint *checkpoint, struct version_file *ret_file,
                                 struct error *error)
{
    const struct training_position *at = &checkpoint->position;
    const struct plateau *plateau = &at->plateau;
    json_t *json = json_pack(
        "{s:i, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:I, s:I, s:{s:o, s:I, s:I}, s:s, s:O, s:O, s:O*}", "format",
        CHECKPOINT_FORMAT, "step", (json_int_t)at->step, "epoch", (json_int_t)at->epoch, "window",
        (json_int_t)at->window, "seconds", at->seconds, "smoothed_loss", checkpoint_number(at->smoothed_loss),
        "validation_loss", checkpoint_number(at->validation_loss), "best_loss", checkpoint_number(at->best_loss),
        "best_step", (json_int_t)at->best_step, "stale_evaluations", (json_int_t)at->stale_evaluations, "plateau",
        "best", checkpoint_number(plateau->best), "stale_evaluations", (json_int_t)plateau->stale_evaluations,
        "reductions", (json_int_t)plateau->reductions, "corpus_sha256", checkpoint->corpus_sha256, "options",
        checkpoint->options, "history", checkpoint->history, "told", checkpoint->told);
    char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
    json_decref(json);
    if (!text) {
        return error_set(error, STATUS_NO_MEMORY, "checkpoint: no memory");
    }
    char *bytes = mem_copy_string(text);
    free(text); /* jansson's own */
    if (!bytes) {
        return error_set(error, STATUS_NO_MEMORY, "checkpoint: no memory");
    }
    *ret_file = (struct version_file){.name = RECORD, .bytes = bytes, .length = strlen(bytes)};
    return STATUS_OK;
}

static enum status corrupt_field(const char *field, struct error *error)
{
    error_set(error, STATUS_CORRUPT, "%s: '%s' is missing or of another type", RECORD, field);
    return error_code(error, "corrupt"), STATUS_CORRUPT;
}

static enum status read_count(const json_t *json, const char *field, uint64_t *ret_count, struct error *error)
{
    const json_t *value = json_object_get(json, field);
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return corrupt_field(field, error);
    }
    *ret_count = (uint64_t)json_integer_value(value);
    return STATUS_OK;
}

static enum status read_number(const json_t *json, const char *field, double *ret_number, struct error *error)
{
    const json_t *value = json_object_get(json, field);
    if (!json_is_number(value) && !json_is_null(value)) {
        return corrupt_field(field, error);
    }
    *ret_number = json_is_null(value) ? (double)NAN : json_number_value(value);
    return STATUS_OK;
}

static enum status parse_record(const json_t *json, struct checkpoint *checkpoint, struct error *error)
{
    struct training_position *at = &checkpoint->position;
    uint64_t format;
    TRY(read_count(json, "format", &format, error));
    if (format > CHECKPOINT_FORMAT) {
        error_set(error, STATUS_UNSUPPORTED, "%s: format %zu, this lstmd reads up to %d", RECORD, (size_t)format,
                  CHECKPOINT_FORMAT);
        return error_code(error, "newer_format"), STATUS_UNSUPPORTED;
    }
    TRY(read_count(json, "step", &at->step, error));
    TRY(read_count(json, "epoch", &at->epoch, error));
    TRY(read_count(json, "window", &at->window, error));
    TRY(read_count(json, "best_step", &at->best_step, error));
    TRY(read_number(json, "seconds", &at->seconds, error));
    TRY(read_number(json, "smoothed_loss", &at->smoothed_loss, error));
    TRY(read_number(json, "validation_loss", &at->validation_loss, error));
    TRY(read_number(json, "best_loss", &at->best_loss, error));
    at->plateau.best = (double)NAN;
    if (format > 1) { /* the first format knew neither plateaus nor early stopping */
        const json_t *plateau = json_object_get(json, "plateau");
        TRY(read_count(json, "stale_evaluations", &at->stale_evaluations, error));
        TRY(read_number(plateau, "best", &at->plateau.best, error));
        TRY(read_count(plateau, "stale_evaluations", &at->plateau.stale_evaluations, error));
        TRY(read_count(plateau, "reductions", &at->plateau.reductions, error));
    }
    const char *sha256 = json_string_value(json_object_get(json, "corpus_sha256"));
    if (!sha256 || strlen(sha256) != SHA256_TEXT_BYTES - 1) {
        return corrupt_field("corpus_sha256", error);
    }
    memcpy(checkpoint->corpus_sha256, sha256, SHA256_TEXT_BYTES);
    json_t *options = json_object_get(json, "options");
    json_t *history = json_object_get(json, "history");
    if (!json_is_object(options)) {
        return corrupt_field("options", error);
    }
    if (!json_is_array(history)) {
        return corrupt_field("history", error);
    }
    checkpoint->options = json_incref(options);
    checkpoint->history = json_incref(history);
    checkpoint->told = json_incref(json_object_get(json, "told"));
    return STATUS_OK;
}

/* ---- writing ---- */

static enum status format_variables(const char *file_name, const struct graph *graph, const struct values *values,
                                    enum variable_part part, struct version_file *ret_file, struct error *error)
{
    size_t count = graph_variable_count(graph);
    struct named_tensor *entries = mem_allocate(count + 1, sizeof *entries);
    if (!entries) {
        return error_set(error, STATUS_NO_MEMORY, "checkpoint: no memory");
    }
    size_t entry_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct variable *variable = graph_variable(graph, i);
        const struct tensor *tensor = values_tensor(values, variable);
        if (is_part(variable, part) && tensor) {
            entries[entry_count++] = (struct named_tensor){.name = variable->node->name, .tensor = *tensor};
        }
    }
    void *bytes;
    size_t length;
    enum status status = safetensors_format(entries, entry_count, &bytes, &length, error);
    mem_free(entries);
    if (status == STATUS_OK) {
        *ret_file = (struct version_file){.name = file_name, .bytes = bytes, .length = length};
    }
    return status;
}

static enum status format_state(const struct carried_state *state, struct version_file *ret_file, struct error *error)
{
    struct named_tensor entries[RECURRENT_STATES_MAX * LANGUAGE_MODEL_LAYERS_MAX];
    char names[RECURRENT_STATES_MAX * LANGUAGE_MODEL_LAYERS_MAX][64];
    for (size_t i = 0; i < state->count; i++) {
        entries[i] = (struct named_tensor){.name = state_name(state, i, names[i]), .tensor = state->tensors[i]};
    }
    void *bytes;
    size_t length;
    TRY(safetensors_format(entries, state->count, &bytes, &length, error));
    *ret_file = (struct version_file){.name = STATE, .bytes = bytes, .length = length};
    return STATUS_OK;
}

enum { OWN_FILES = 5 };

static enum status format_own_files(const struct checkpoint *checkpoint, const struct checkpoint_files *files,
                                    struct version_file *ret_files, size_t *ret_count, struct error *error)
{
    TRY(format_record(checkpoint, &ret_files[(*ret_count)++], error));
    TRY(format_variables(WEIGHTS, files->graph, files->values, PART_WEIGHTS, &ret_files[(*ret_count)++], error));
    TRY(format_variables(OPTIMIZER, files->graph, files->values, PART_SLOTS, &ret_files[(*ret_count)++], error));
    TRY(format_state(files->state, &ret_files[(*ret_count)++], error));
    if (isfinite(checkpoint->position.best_loss)) {
        TRY(format_variables(BEST, files->graph, files->best, PART_WEIGHTS, &ret_files[(*ret_count)++], error));
    }
    return STATUS_OK;
}

enum status checkpoint_write(const char *path, const struct checkpoint *checkpoint,
                             const struct checkpoint_files *files, struct error *error)
{
    CHECK(files->model_file_count <= CHECKPOINT_MODEL_FILES_MAX);
    struct version_file all[OWN_FILES + CHECKPOINT_MODEL_FILES_MAX] = {0};
    size_t own_count = 0;
    enum status status = format_own_files(checkpoint, files, all, &own_count, error);
    if (status == STATUS_OK) {
        for (size_t i = 0; i < files->model_file_count; i++) {
            all[own_count + i] = files->model_files[i];
        }
        status = version_replace(path, all, own_count + files->model_file_count, files->manifest, error);
    }
    for (size_t i = 0; i < own_count; i++) {
        mem_free((void *)(uintptr_t)all[i].bytes);
    }
    return status;
}

/* ---- reading ---- */

static enum status parse_record_text(const char *text, size_t length, struct checkpoint *checkpoint,
                                     struct error *error)
{
    json_error_t json_error;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &json_error);
    if (!json) {
        error_set(error, STATUS_CORRUPT, "%s: line %d: %s", RECORD, json_error.line, json_error.text);
        return error_code(error, "corrupt"), STATUS_CORRUPT;
    }
    enum status status = parse_record(json, checkpoint, error);
    json_decref(json);
    return status;
}

static enum status parse_record_file(const struct version_files *files, struct checkpoint *checkpoint,
                                     struct error *error)
{
    const struct version_file *file = version_files_find(files, RECORD);
    if (!file) {
        error_set(error, STATUS_CORRUPT, "the manifest lists no %s", RECORD);
        return error_code(error, "corrupt"), STATUS_CORRUPT;
    }
    return parse_record_text(file->bytes, file->length, checkpoint, error);
}

enum status checkpoint_read(const char *path, struct checkpoint *ret_checkpoint, struct error *error)
{
    struct version_files files;
    enum status status = version_read(path, &files, error);
    if (status != STATUS_OK) {
        error_prefix(error, "checkpoint %s", path);
        return status;
    }
    struct checkpoint checkpoint = {0};
    status = parse_record_file(&files, &checkpoint, error);
    checkpoint.origin = json_incref(json_object_get(files.manifest, "origin"));
    version_files_release(&files);
    if (status != STATUS_OK) {
        error_prefix(error, "checkpoint %s", path);
        checkpoint_release(&checkpoint);
        return status;
    }
    *ret_checkpoint = checkpoint;
    return STATUS_OK;
}

enum status checkpoint_look(const char *path, struct checkpoint *ret_checkpoint, struct error *error)
{
    char found[MODEL_DIRECTORY_PATH_BYTES];
    char file[MODEL_DIRECTORY_PATH_BYTES + sizeof RECORD];
    char *text = NULL;
    size_t length;
    struct checkpoint checkpoint = {0};
    snprintf(file, sizeof file, "%.4095s/%s", version_find(path, found) ? found : path, RECORD);
    TRY(file_read(file, RECORD_BYTES_MAX, &text, &length, error));
    enum status status = parse_record_text(text, length, &checkpoint, error);
    mem_free(text);
    if (status != STATUS_OK) {
        error_prefix(error, "checkpoint %s", path);
        checkpoint_release(&checkpoint);
        return status;
    }
    *ret_checkpoint = checkpoint;
    return STATUS_OK;
}

void checkpoint_release(struct checkpoint *checkpoint)
{
    json_decref(checkpoint->told);
    json_decref(checkpoint->options);
    json_decref(checkpoint->history);
    json_decref(checkpoint->origin);
    *checkpoint = (struct checkpoint){0};
}

enum status checkpoint_check_corpus(const struct checkpoint *checkpoint, const char *sha256, struct error *error)
{
    if (strcmp(checkpoint->corpus_sha256, sha256) == 0) {
        return STATUS_OK;
    }
    error_set(error, STATUS_CONFLICT, "the corpus is not the one this training began with: SHA-256 %s, now %s",
              checkpoint->corpus_sha256, sha256);
    return error_code(error, "resume_differs"), STATUS_CONFLICT;
}

static enum status parse_tensors(const struct version_files *files, const char *name, struct safetensors *ret_tensors,
                                 struct error *error)
{
    const struct version_file *file = version_files_find(files, name);
    if (!file) {
        error_set(error, STATUS_CORRUPT, "the manifest lists no %s", name);
        return error_code(error, "corrupt"), STATUS_CORRUPT;
    }
    enum status status = safetensors_parse(file->bytes, file->length, ret_tensors, error);
    if (status != STATUS_OK) {
        error_prefix(error, "%s", name);
    }
    return status;
}

static enum status restore_variables(const struct version_files *files, const char *name, const struct graph *graph,
                                     struct values *values, enum variable_part part, struct error *error)
{
    struct safetensors tensors;
    TRY(parse_tensors(files, name, &tensors, error));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < graph_variable_count(graph) && status == STATUS_OK; i++) {
        const struct variable *variable = graph_variable(graph, i);
        if (!is_part(variable, part)) {
            continue;
        }
        const struct tensor *tensor = safetensors_find(&tensors, variable->node->name);
        if (!tensor) {
            status = error_set(error, STATUS_CORRUPT, "%s: variable %s is missing", name, variable->node->name);
            continue;
        }
        status = values_set(values, variable, tensor, error);
        if (status != STATUS_OK) {
            error_prefix(error, "%s", name);
        }
        if (status == STATUS_UNPROCESSABLE) { /* it is not of the shape that the graph has */
            status = STATUS_CORRUPT;
            if (error) {
                error->status = status;
            }
        }
    }
    safetensors_release(&tensors);
    return status;
}

static enum status restore_state(const struct version_files *files, struct carried_state *state, struct error *error)
{
    struct safetensors tensors;
    TRY(parse_tensors(files, STATE, &tensors, error));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < state->count && status == STATUS_OK; i++) {
        char name[64];
        const struct tensor *tensor = safetensors_find(&tensors, state_name(state, i, name));
        const struct tensor *own = &state->tensors[i];
        if (!tensor || tensor->dtype != own->dtype || !shape_equal(&tensor->shape, &own->shape)) {
            char shape[SHAPE_TEXT_BYTES_MAX];
            status = error_set(error, STATUS_CORRUPT, "%s: %s is missing or not of shape %s", STATE, name,
                               shape_text(&own->shape, shape));
        } else {
            memcpy(own->data, tensor->data, tensor_bytes(own));
        }
    }
    safetensors_release(&tensors);
    return status;
}

static enum status restore_all(const struct version_files *read, const struct checkpoint *checkpoint,
                               const struct checkpoint_files *files, struct error *error)
{
    TRY(restore_variables(read, WEIGHTS, files->graph, files->values, PART_WEIGHTS, error));
    TRY(restore_variables(read, OPTIMIZER, files->graph, files->values, PART_SLOTS, error));
    TRY(restore_state(read, files->state, error));
    if (isfinite(checkpoint->position.best_loss)) {
        TRY(restore_variables(read, BEST, files->graph, files->best, PART_WEIGHTS, error));
    }
    return STATUS_OK;
}

enum status checkpoint_restore(const char *path, const struct checkpoint *checkpoint,
                               const struct checkpoint_files *files, struct error *error)
{
    struct version_files read;
    enum status status = version_read(path, &read, error);
    if (status == STATUS_OK) {
        status = restore_all(&read, checkpoint, files, error);
        version_files_release(&read);
    }
    if (status != STATUS_OK) {
        error_prefix(error, "checkpoint %s", path);
    }
    return status;
}

/* Imports over HTTP. Thread: loop, but for run_import, which has a thread of its own. Owns the calls, and the
 * descriptor that tells all processes to end. */
#include "daemon/imports.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/allowed_paths.h"
#include "daemon/fields.h"
#include "daemon/import_process.h"
#include "daemon/log.h"
#include "daemon/registry.h"
#include "daemon/upload.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/cpu.h"
#include "engine/base/mem.h"

struct imports {
    struct server *server;
    size_t taken_places;
    size_t running_count;
    int cancel;
    bool is_ending;
};

struct import_call {
    struct job job; /* first */
    struct imports *imports;
    struct request *request; /* held */
    json_t *definition;
    struct upload *upload; /* or NULL; else the call has a place of its own */
    char name[MODEL_NAME_BYTES_MAX];
    char directory[REGISTRY_PATH_BYTES_MAX + MODEL_NAME_BYTES_MAX];
    char models[SETTING_TEXT_BYTES_MAX];
    char roots[SETTING_TEXT_BYTES_MAX];
    char source[PATH_MAX];
    char vocabulary[PATH_MAX];
    struct arena arena; /* of the settings' texts */
    struct import_request reading;
    json_t *facts; /* what was understood */
    uint64_t started_ms;
    bool is_of_source; /* the error is the source's fault */
    enum status status;
    struct error error;
};

enum status imports_create(struct server *server, struct imports **ret_imports, struct error *error)
{
    struct imports *imports = mem_allocate(1, sizeof *imports);
    if (imports == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for imports");
    }
    imports->server = server;
    imports->cancel = eventfd(0, EFD_CLOEXEC);
    if (imports->cancel < 0) {
        int reason = errno;
        mem_free(imports);
        return error_set_errno(error, reason, "no event for imports");
    }
    *ret_imports = imports;
    return STATUS_OK;
}

void imports_stop_all(struct imports *imports)
{
    static const uint64_t one = 1;
    if (imports != NULL && !imports->is_ending) {
        imports->is_ending = true;
        CHECK(write(imports->cancel, &one, sizeof one) == sizeof one);
    }
}

size_t imports_running(const struct imports *imports)
{
    return imports == NULL ? 0 : imports->running_count;
}

void imports_destroy(struct imports *imports)
{
    if (imports != NULL) {
        CHECK(imports->running_count == 0 && imports->taken_places == 0);
        close(imports->cancel);
        mem_free(imports);
    }
}

enum status imports_enter(struct imports *imports, struct error *error)
{
    uint64_t places = imports->server->settings.imports_max;
    if (imports->is_ending) {
        return error_set(error, STATUS_UNAVAILABLE, "lstmd is shutting down");
    }
    if (imports->taken_places >= places) {
        error_set(error, STATUS_LIMIT, "%zu imports are under way, imports_max is %llu", imports->taken_places,
                  (unsigned long long)places);
        return error_code(error, "imports_busy");
    }
    imports->taken_places++;
    return STATUS_OK;
}

void imports_leave(struct imports *imports)
{
    CHECK(imports->taken_places > 0);
    imports->taken_places--;
}

/* ---- what was asked for ---- */

static enum status refuse(const char *param, const char *what, struct error *error)
{
    error_set(error, STATUS_INVALID, "%s %s", param, what);
    snprintf(error->param, sizeof error->param, "%s", param);
    return STATUS_INVALID;
}

enum status import_set_check(const json_t *set, struct error *error)
{
    const char *key;
    json_t *value;
    if (set != NULL && (!json_is_object(set) || json_object_size(set) >= IMPORT_SETTINGS_MAX)) {
        return refuse("/import/set", "must be an object of a few keys and values", error);
    }
    json_object_foreach((json_t *)(uintptr_t)set, key, value)
    {
        bool is_simple = json_is_string(value) || json_is_number(value);
        if (key[0] == '\0' || strchr(key, '=') != NULL || !is_simple) {
            return refuse("/import/set", "must hold strings and numbers under the keys of --set", error);
        }
    }
    return STATUS_OK;
}

enum status import_definition_check(const json_t *import, struct error *error)
{
    const char *path = NULL;
    const char *vocabulary = NULL;
    if (!json_is_object(import)) {
        return refuse("/import", "must be an object", error);
    }
    enum status status = fields_only(import, "path vocabulary set", error);
    status = status != STATUS_OK ? status : fields_text(import, "path", &path, error);
    status = status != STATUS_OK ? status : fields_text(import, "vocabulary", &vocabulary, error);
    if (status != STATUS_OK) {
        error_move(error, "", "/import");
        return status;
    }
    return path == NULL ? refuse("/import/path", "is missing", error)
                        : import_set_check(json_object_get(import, "set"), error);
}

/* {"forget_bias":0} as "forget_bias=0". */
static enum status read_settings(struct import_call *call, struct error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(json_object_get(call->definition, "import"), "set"), key, value)
    {
        char number[64];
        const char *text = json_string_value(value);
        if (text == NULL) {
            snprintf(number, sizeof number, "%.17g", json_number_value(value));
            text = number;
        }
        const char *setting = arena_format(&call->arena, "%s=%s", key, text);
        if (setting == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for an import");
        }
        call->reading.settings[call->reading.setting_count++] = setting;
    }
    return STATUS_OK;
}

static struct import_call *make_call(struct imports *imports, struct request *request, const char *name,
                                     struct error *error)
{
    const struct settings *settings = &imports->server->settings;
    struct import_call *call = mem_allocate(1, sizeof *call);
    if (call == NULL) {
        error_set(error, STATUS_NO_MEMORY, "no memory for an import");
        return NULL;
    }
    *call = (struct import_call){.imports = imports, .request = request, .started_ms = clock_now_ms()};
    snprintf(call->name, sizeof call->name, "%s", name);
    snprintf(call->models, sizeof call->models, "%s", settings->models);
    snprintf(call->directory, sizeof call->directory, "%s/%s", settings->models, name);
    snprintf(call->roots, sizeof call->roots, "%s", settings->import_roots);
    call->reading.cancel = imports->cancel;
    call->reading.seconds_max = settings->import_seconds_max;
    call->reading.unpack_bytes_max = settings->import_bytes_max;
    return call;
}

/* ---- on the import's thread ---- */

static enum status find_path(const struct import_call *call, const char *field, char path[PATH_MAX],
                             const char **ret_path, struct error *error)
{
    const json_t *import = json_object_get(call->definition, "import");
    const char *given = json_string_value(json_object_get(import, field));
    if (given == NULL) {
        return STATUS_OK;
    }
    if (path_find_allowed(call->roots, given, path)) {
        *ret_path = path;
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "'%.200s' is nothing under import_roots", given);
    snprintf(error->param, sizeof error->param, "/import/%s", field);
    return error_code(error, "import_path");
}

static enum status find_source(struct import_call *call, struct error *error)
{
    if (call->upload != NULL) {
        call->reading.upload = upload_file(call->upload);
        call->reading.source = "upload";
        return STATUS_OK;
    }
    TRY(find_path(call, "path", call->source, &call->reading.source, error));
    return find_path(call, "vocabulary", call->vocabulary, &call->reading.vocabulary, error);
}

/* Version and definition beside the models, under a name that nobody sees, then in place at once. */
static enum status write_model(struct import_call *call, struct import_answer *answer, const char *staged,
                               struct error *error)
{
    uint64_t version;
    TRY(import_save(call->name, staged, &call->reading, answer, &version, error));
    TRY(registry_write_definition(staged, call->definition, error));
    return model_directory_publish(staged, call->directory, error);
}

static enum status import(struct import_call *call, struct error *error)
{
    char staged[MODEL_DIRECTORY_PATH_BYTES];
    struct import_answer answer = {.bytes = NULL};
    TRY(find_source(call, error));
    call->is_of_source = true;
    TRY(import_process_run(&call->reading, &answer, error));
    call->is_of_source = false;
    enum status status = model_directory_stage(call->models, staged, error);
    if (status == STATUS_OK) {
        status = write_model(call, &answer, staged, error);
        call->is_of_source = status == STATUS_UNSUPPORTED; /* a version of a newer format */
        if (status != STATUS_OK) {
            (void)!directory_remove(staged, NULL); /* what is left is swept later */
        }
    }
    if (status == STATUS_OK) {
        call->facts = json_incref(answer.reply.facts);
    }
    import_answer_release(&answer);
    return status;
}

static void run_import(struct job *job)
{
    struct import_call *call = (struct import_call *)job;
    cpu_thread_set_nice(); /* the process that reads is, too */
    call->status = import(call, &call->error);
}

/* ---- the answer ---- */

static void end_call(struct import_call *call)
{
    if (call->upload != NULL) {
        upload_release(call->upload);
    } else {
        imports_leave(call->imports);
    }
    request_release(call->request);
    json_decref(call->definition);
    json_decref(call->facts);
    arena_release(&call->arena);
    mem_free(call);
}

/* What a source can be blamed for is never this server's lack of memory, or a queue that is full. */
static unsigned http_status_of(const struct import_call *call, const struct error *error)
{
    static const struct {
        enum status status;
        const char *code; /* NULL: any */
        unsigned http_status;
    } rows[] = {
        {STATUS_UNSUPPORTED, "unknown_format", 415},
        {STATUS_CORRUPT, "bad_archive", 415},
        {STATUS_UNSUPPORTED, NULL, 422},
        {STATUS_NOT_FOUND, NULL, 422},
        {STATUS_LIMIT, NULL, 413},
        {STATUS_NO_MEMORY, NULL, 413},
        {STATUS_CANCELLED, NULL, 503},
    };
    for (size_t i = 0; call->is_of_source && i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].status == error->status && (rows[i].code == NULL || strcmp(rows[i].code, error->code) == 0)) {
            return rows[i].http_status;
        }
    }
    return error_http_status(error);
}

static void fail(struct import_call *call, const struct error *error)
{
    request_reply_error_as(call->request, http_status_of(call, error), error);
    end_call(call);
}

static void on_loaded(void *context, const struct registry_reply *reply)
{
    struct import_call *call = context;
    json_t *loaded = json_object_get(reply->reply, "model");
    json_t *made =
        json_pack("{s:s, s:s, s:O*, s:O, s:O, s:O, s:O}", "id", call->name, "object", "model", "model", loaded,
                  "definition", call->definition, "format", json_object_get(call->facts, "format"), "entry",
                  json_object_get(call->facts, "entry"), "understood", json_object_get(call->facts, "understood"));
    json_decref(reply->reply);
    if (reply->status != STATUS_OK) {
        json_decref(made);
        fail(call, &reply->error);
        return;
    }
    log_event(LOG_LEVEL_INFO, "imported", NULL, "model=%s ms=%llu", call->name,
              (unsigned long long)(clock_now_ms() - call->started_ms));
    request_reply_json(call->request, 201, made);
    end_call(call);
}

static void on_known(void *context, const struct registry_reply *reply)
{
    struct import_call *call = context;
    if (reply->status == STATUS_OK) {
        request_reply_json(call->request, 200, reply->reply);
        end_call(call);
    } else {
        fail(call, &reply->error);
    }
}

/* Another request made a model of that name meanwhile; perhaps the same. */
static void on_other_seen(void *context, const struct registry_reply *reply)
{
    struct import_call *call = context;
    struct registry *registry = call->imports->server->registry;
    struct registry_callback callback = {.done = on_known, .context = call};
    json_decref(reply->reply);
    if (!registry_answer_known(registry, call->name, call->definition, callback)) {
        fail(call, &call->error);
    }
}

static void on_import_done(struct job *job)
{
    struct import_call *call = (struct import_call *)job;
    struct registry *registry = call->imports->server->registry;
    call->imports->running_count--;
    if (call->status == STATUS_OK) {
        registry_load(registry, call->name, 0, RNN_PRECISION_COUNT,
                      (struct registry_callback){.done = on_loaded, .context = call});
    } else if (!call->is_of_source && strcmp(call->error.code, "model_exists") == 0) {
        registry_rescan(registry, (struct registry_callback){.done = on_other_seen, .context = call});
    } else {
        fail(call, &call->error);
    }
}

/* ---- the beginning ---- */

static void begin(struct import_call *call)
{
    struct error error;
    struct imports *imports = call->imports;
    struct registry_callback callback = {.done = on_known, .context = call};
    if (registry_answer_known(imports->server->registry, call->name, call->definition, callback)) {
        return;
    }
    call->job = (struct job){.run = run_import, .done = on_import_done};
    enum status status = read_settings(call, &error);
    if (status == STATUS_OK) {
        status = worker_start_thread("import", imports->server->mailbox, &call->job, &error);
    }
    if (status != STATUS_OK) {
        fail(call, &error);
    } else {
        imports->running_count++;
    }
}

void imports_start(struct imports *imports, struct request *request, const char *name, json_t *definition,
                   struct upload *upload)
{
    struct error error;
    enum status status = upload == NULL ? imports_enter(imports, &error) : STATUS_OK;
    struct import_call *call = status == STATUS_OK ? make_call(imports, request, name, &error) : NULL;
    if (call != NULL) {
        call->definition = definition;
        call->upload = upload;
        begin(call);
        return;
    }
    if (status == STATUS_OK && upload == NULL) {
        imports_leave(imports);
    }
    upload_release(upload);
    json_decref(definition);
    request_reply_error(request, &error);
    request_release(request);
}

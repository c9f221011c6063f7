/* GET /v1/models/{m}/export?to=…: a version as a file. Thread: loop; made on run threads. Owns
 * the calls. */
#include "daemon/api.h"
#include "daemon/registry.h"
#include "daemon/request_fields.h"
#include "daemon/routes.h"
#include "engine/base/mem.h"

struct export_call {
    struct job job; /* first */
    struct request *request;
    enum export_format format;
    char path[REGISTRY_PATH_BYTES_MAX];
    char name[REGISTRY_FULL_NAME_BYTES_MAX]; /* "moby@3" */
    void *bytes;
    size_t length;
    enum status status;
    struct error error;
};

static void run_call(struct job *job)
{
    struct export_call *call = (struct export_call *)job;
    call->status = model_export(call->path, call->name, call->format, &call->bytes, &call->length, &call->error);
}

static void on_done(struct job *job)
{
    struct export_call *call = (struct export_call *)job;
    if (call->status != STATUS_OK) {
        request_reply_error(call->request, &call->error);
    } else {
        char disposition[sizeof call->name + 64];
        snprintf(disposition, sizeof disposition, "attachment; filename=\"%s.%s\"", call->name,
                 export_format_name(call->format));
        request_add_header(call->request, "Content-Disposition", disposition);
        request_reply(call->request, 200, export_format_media_type(call->format), call->bytes, call->length);
    }
    request_release(call->request);
    mem_free(call);
}

static enum status read_format(struct request *request, enum export_format *ret_format, struct error *error)
{
    const char *to = request_query(request, "to");
    TRY(request_only_query(request, "to", error));
    if (to == NULL) {
        return error_set(error, STATUS_INVALID, "?to= is missing: %s, %s or %s", export_format_name(EXPORT_ONNX),
                         export_format_name(EXPORT_SAFETENSORS), export_format_name(EXPORT_TAR));
    }
    return export_format_find(to, ret_format, error);
}

void api_models_export(struct server *server, struct request *request)
{
    struct error error;
    struct export_call *call = mem_allocate(1, sizeof *call);
    enum status status = call == NULL ? error_set(&error, STATUS_NO_MEMORY, "no memory for a request")
                                      : read_format(request, &call->format, &error);
    if (call != NULL && status == STATUS_OK) {
        status = registry_find_files(server->registry, route_parameter(request, 0), call->name, call->path, &error);
    }
    if (status == STATUS_OK) {
        call->request = request;
        call->job.run = run_call;
        call->job.done = on_done;
    }
    api_submit(request, server->run, call == NULL ? NULL : &call->job, status, &error);
}

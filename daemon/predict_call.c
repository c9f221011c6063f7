/* Requests on served versions' graphs. Thread: see the header. Owns the calls. */
#include "daemon/predict_call.h"

#include "engine/base/mem.h"

static void run_call(struct job *job)
{
    struct predict_call *call = (struct predict_call *)job;
    struct served_graph *graph = NULL;
    call->status = served_open(&call->ticket, &graph, &call->error);
    if (call->status == STATUS_OK) {
        call->status = call->work(call, graph, &call->error);
        served_graph_unref(graph);
    }
    served_ticket_release(&call->ticket); /* perhaps the last: freed here rather than on the loop */
    if (call->status == STATUS_OK) {
        call->bytes = http_json_bytes(call->reply, &call->byte_count);
    } else {
        json_decref(call->reply);
    }
    call->reply = NULL;
}

static void on_call_done(struct job *job)
{
    struct predict_call *call = (struct predict_call *)job;
    if (call->status == STATUS_OK) {
        request_reply_json_bytes(call->request, 200, call->bytes, call->byte_count);
    } else {
        request_reply_error(call->request, &call->error);
    }
    request_release(call->request);
    mem_free(call);
}

static enum status begin(struct predict_call *call, const char *reference, struct error *error)
{
    call->model = arena_format(request_arena(call->request), "%.*s", (int)strcspn(reference, "@:"), reference);
    if (call->model == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    }
    TRY(registry_served_ticket(call->server->registry, reference, &call->ticket, error));
    enum status status = workers_submit(call->server->run, &call->job, error);
    if (status != STATUS_OK) {
        served_ticket_release(&call->ticket);
    }
    return status;
}

enum status predict_call_start(struct server *server, struct request *request, const char *reference,
                               enum status (*work)(struct predict_call *call, struct served_graph *graph,
                                                   struct error *error),
                               struct error *error)
{
    struct predict_call *call = mem_allocate(1, sizeof *call);
    if (call == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    }
    call->job.run = run_call;
    call->job.done = on_call_done;
    call->server = server;
    call->request = request;
    call->maximum_ms = (uint32_t)(server->settings.run_seconds_max * 1000);
    call->work = work;
    enum status status = begin(call, reference, error);
    if (status != STATUS_OK) {
        mem_free(call);
        return status;
    }
    request_hold(request, NULL, NULL);
    return STATUS_OK;
}

enum status predict_call_reference(struct request *request, const char *model, const char *version,
                                   const char **ret_reference, struct error *error)
{
    size_t digits = strspn(version, "0123456789");
    if (digits == 0 || digits > 18 || version[digits] != '\0') {
        return error_set(error, STATUS_INVALID, "version '%.60s' is not a number", version);
    }
    const char *reference = arena_format(request_arena(request), "%s@%s", model, version);
    if (reference == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    }
    *ret_reference = reference;
    return STATUS_OK;
}

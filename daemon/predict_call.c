/* Requests on served versions' graphs. Thread: see the header. Owns the calls. */
#include "daemon/predict_call.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"

static void end(struct predict_call *call)
{
    if (call->release != NULL) {
        call->release(call);
    }
    mem_free(call->bytes);
    request_release(call->request);
    mem_free(call);
}

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
    if (call->reply != NULL) {
        call->bytes = http_json_bytes(call->reply, &call->byte_count);
        call->reply = NULL;
    }
}

static void reply(struct predict_call *call)
{
    if (call->json_length == 0 || call->json_length == call->byte_count) {
        request_reply_json_bytes(call->request, 200, call->bytes, call->byte_count);
    } else {
        char length[24];
        snprintf(length, sizeof length, "%zu", call->json_length);
        request_add_header(call->request, "Inference-Header-Content-Length", length);
        request_reply(call->request, 200, "application/octet-stream", call->bytes, call->byte_count);
    }
    call->bytes = NULL;
}

static void on_call_done(struct job *job)
{
    struct predict_call *call = (struct predict_call *)job;
    if (call->status == STATUS_OK) {
        reply(call);
    } else {
        request_reply_error(call->request, &call->error);
    }
    end(call);
}

struct predict_call *predict_call_create(struct server *server, struct request *request, size_t bytes)
{
    struct predict_call *call = mem_allocate(1, bytes);
    if (call == NULL) {
        struct error error;
        error_set(&error, STATUS_NO_MEMORY, "no memory for a request");
        request_reply_error(request, &error);
        return NULL;
    }
    call->server = server;
    call->request = request;
    call->maximum_ms = (uint32_t)(server->settings.run_seconds_max * 1000);
    request_hold(request, NULL, NULL);
    return call;
}

void predict_call_fail(struct predict_call *call, enum status status, const struct error *error)
{
    call->status = status;
    request_reply_error(call->request, error);
    end(call);
}

static enum status begin(struct predict_call *call, const char *reference, struct error *error)
{
    call->model = arena_format(request_arena(call->request), "%.*s", (int)strcspn(reference, "@:"), reference);
    if (call->model == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    }
    TRY(registry_served_ticket(call->server->registry, reference, call->is_look, &call->ticket, error));
    enum status status = workers_submit(call->server->run, &call->job, error);
    if (status != STATUS_OK) {
        served_ticket_release(&call->ticket);
    }
    return status;
}

void predict_call_submit(struct predict_call *call, const char *reference, const char *missing,
                         enum status (*work)(struct predict_call *call, struct served_graph *graph,
                                             struct error *error))
{
    struct error error;
    call->job.run = run_call;
    call->job.done = on_call_done;
    call->work = work;
    call->submitted_ns = clock_now_ns();
    enum status status = begin(call, reference, &error);
    if (status == STATUS_NOT_FOUND && missing != NULL) {
        error_prefix(&error, "%s %.140s", missing, reference);
    }
    if (status != STATUS_OK) {
        predict_call_fail(call, status, &error);
    }
}

void predict_call_count(const struct predict_call *call, const struct prediction *prediction, enum status status)
{
    uint64_t now_ns = clock_now_ns();
    struct served_timing timing = {.is_good = status == STATUS_OK, .all_ns = now_ns - call->submitted_ns};
    if (timing.is_good) {
        timing.queue_ns = prediction->begun_ns - call->submitted_ns;
        timing.input_ns = prediction->ran_ns - prediction->begun_ns;
        timing.infer_ns = prediction->done_ns - prediction->ran_ns;
        timing.output_ns = now_ns - prediction->done_ns;
    }
    served_count_run(&call->ticket, &timing);
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

/* Requests on live graphs. Thread: see the header. Owns the calls. */
#include "daemon/live_call.h"

#include "daemon/fields.h"
#include "daemon/metrics.h"
#include "daemon/routes.h"
#include "engine/base/mem.h"

struct live_call *live_call_begin(struct server *server, struct request *request)
{
    struct error error;
    struct live_call *call = mem_allocate(1, sizeof *call);
    if (call == NULL) {
        error_set(&error, STATUS_NO_MEMORY, "no memory for a request");
        request_reply_error(request, &error);
        return NULL;
    }
    call->server = server;
    call->request = request;
    call->name = route_parameter(request, 0);
    if (registry_live_ticket(server->registry, call->name, &call->ticket, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        mem_free(call);
        return NULL;
    }
    request_hold(request, NULL, NULL);
    return call;
}

static void run_call(struct job *job)
{
    struct live_call *call = (struct live_call *)job;
    struct model *model = NULL;
    call->status = live_open(&call->ticket, &model, &call->error);
    if (call->status == STATUS_OK) {
        call->status = call->work(call, model, &call->error);
        model_unref(model);
    }
}

static void on_call_done(struct job *job)
{
    struct live_call *call = (struct live_call *)job;
    if (call->status != STATUS_OK) {
        live_call_fail(call, &call->error);
    } else if (call->finish != NULL) {
        call->finish(call);
    } else {
        request_reply_json(call->request, 200, call->reply);
        call->reply = NULL;
        live_call_end(call);
    }
}

void live_call_submit(struct live_call *call,
                      enum status (*work)(struct live_call *call, struct model *model, struct error *error))
{
    struct error error;
    call->work = work;
    call->job.run = run_call;
    call->job.done = on_call_done;
    if (workers_submit(call->server->run, &call->job, &error) != STATUS_OK) {
        live_call_fail(call, &error);
    }
}

void live_call_fail(struct live_call *call, const struct error *error)
{
    if (strcmp(error->code, "variable_exists") == 0) {
        metrics_count_duplicate(call->server->metrics, call->name);
    }
    request_reply_error(call->request, error);
    live_call_end(call);
}

void live_call_end(struct live_call *call)
{
    live_ticket_release(&call->ticket);
    json_decref(call->body);
    json_decref(call->reply);
    mem_free(call->bytes);
    request_release(call->request);
    mem_free(call);
}

enum status live_call_parse(struct live_call *call, struct error *error)
{
    size_t length;
    const char *body = request_body(call->request, &length);
    return fields_parse(body, length, &call->body, error);
}

enum status live_ticket_check_writable(const struct live_ticket *ticket, const char *name, struct error *error)
{
    if (!ticket->is_read_only) {
        return STATUS_OK;
    }
    error_set(error, STATUS_CONFLICT, "model %s belongs to the installation and cannot be changed", name);
    error_code(error, "read_only");
    return STATUS_CONFLICT;
}

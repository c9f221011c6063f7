/* /v1/models/{m}/train: start, look, follow, stop. Thread: loop. Owns the streams' cursors. */
#include "daemon/api.h"
#include "daemon/routes.h"
#include "daemon/trainings.h"
#include "engine/base/mem.h"

void api_train_start(struct server *server, struct request *request)
{
    trainings_start(server->trainings, route_parameter(request, 0), request);
}

/* The model's last job, or NULL after an error reply. */
static struct training_run *find(struct server *server, struct request *request)
{
    struct error error;
    struct training_run *run;
    if (trainings_find(server->trainings, route_parameter(request, 0), &run, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        return NULL;
    }
    return run;
}

/* ---- Looking */

/* The model has had no job: a run thread, which may read files, looks whether a training waits to be resumed. */
struct look {
    struct job job; /* first */
    struct request *request;
    const char *name;
    char directory[REGISTRY_PATH_BYTES_MAX];
    json_t *json;
    bool is_running; /* another process trains there: lstmd train beside the daemon */
    enum status status;
    struct error error;
};

static void look(struct job *job)
{
    struct look *call = (struct look *)job;
    call->is_running = training_job_is_running(call->directory);
    call->status = training_job_describe_unfinished(call->directory, &call->json, &call->error);
}

static void on_looked(struct job *job)
{
    struct look *call = (struct look *)job;
    if (call->status == STATUS_OK) {
        json_object_set_new(call->json, "id", json_null());
        json_object_set_new(call->json, "model", json_string(call->name));
        json_object_set_new(call->json, "state", json_string(call->is_running ? "running" : "interrupted"));
        json_object_set_new(call->json, "version", json_null());
        request_reply_json(call->request, 200, call->json);
    } else {
        if (call->status == STATUS_NOT_FOUND) {
            trainings_refuse(call->name, &call->error);
        }
        request_reply_error(call->request, &call->error);
    }
    request_release(call->request);
    mem_free(call);
}

static void look_for_interrupted(struct server *server, struct request *request)
{
    struct error error;
    struct live_ticket ticket;
    const char *name = route_parameter(request, 0);
    struct look *call = mem_allocate(1, sizeof *call);
    enum status status = call == NULL ? error_set(&error, STATUS_NO_MEMORY, "no memory for a request")
                                      : registry_live_ticket(server->registry, name, &ticket, &error);
    if (status == STATUS_OK) {
        call->request = request;
        call->name = name;
        call->job.run = look;
        call->job.done = on_looked;
        snprintf(call->directory, sizeof call->directory, "%s", ticket.model_path);
        live_ticket_release(&ticket);
    }
    api_submit(request, server->run, call == NULL ? NULL : &call->job, status, &error);
}

void api_train_get(struct server *server, struct request *request)
{
    struct error ignored;
    struct training_run *run;
    if (trainings_find(server->trainings, route_parameter(request, 0), &run, &ignored) != STATUS_OK) {
        look_for_interrupted(server, request);
        return;
    }
    request_reply_json(request, 200, training_run_describe(run, true));
    training_run_unref(run);
}

/* ---- Stopping */

struct stop_call {
    struct request *request;
    struct training_run *run;
};

static void on_stopped(void *context)
{
    struct stop_call *call = context;
    struct training_run *run = call->run;
    request_reply_json(call->request, 200, training_run_describe(run, false));
    request_release(call->request); /* which the call goes with, once its client is gone */
    training_run_unref(run);
}

void api_train_stop(struct server *server, struct request *request)
{
    struct training_run *run = find(server, request);
    struct stop_call *call = run == NULL ? NULL : arena_allocate(request_arena(request), 1, sizeof *call);
    if (call == NULL) {
        if (run != NULL) {
            training_run_unref(run);
            request_reply_json(request, 503, NULL);
        }
        return;
    }
    *call = (struct stop_call){.request = request, .run = run};
    request_hold(request, NULL, NULL);
    trainings_stop(server->trainings, route_parameter(request, 0), on_stopped, call);
}

/* ---- Events */

/* One reader of a job's records. `text` is the event that is being sent. */
struct events {
    struct training_watch watch; /* first */
    struct request *request;
    struct training_run *run;
    uint64_t number; /* of the last record taken */
    char *text;
    size_t text_bytes;
    size_t sent_bytes;
    bool is_ping_due;
    bool is_last_sent;
};

static void on_change(struct training_watch *watch, bool is_ping)
{
    struct events *events = (struct events *)watch;
    events->is_ping_due = is_ping;
    request_wake(events->request);
}

/* Whether there is something to send now. */
static bool next_event(struct events *events)
{
    const json_t *record = training_run_record(events->run, events->number, &events->number);
    char *dumped = record == NULL ? NULL : json_dumps(record, JSON_COMPACT);
    const char *data = dumped;
    if (record == NULL && training_run_is_over(events->run) && !events->is_last_sent) {
        events->is_last_sent = true;
        data = "[DONE]";
    }
    if (data == NULL && !events->is_ping_due) {
        return false;
    }
    size_t bytes = 16 + (data == NULL ? 0 : strlen(data));
    mem_free(events->text);
    events->text = mem_allocate(bytes, 1);
    events->sent_bytes = 0;
    events->text_bytes = 0;
    if (events->text != NULL) {
        snprintf(events->text, bytes, "%s%s\n\n", data == NULL ? ": ping" : "data: ", data == NULL ? "" : data);
        events->text_bytes = strlen(events->text);
    }
    events->is_ping_due = false;
    free(dumped); /* jansson's own */
    return events->text_bytes > 0;
}

static size_t read_events(void *context, char *bytes, size_t bytes_max, enum stream_state *ret_state)
{
    struct events *events = context;
    if (events->sent_bytes == events->text_bytes && (events->is_last_sent || !next_event(events))) {
        *ret_state = events->is_last_sent ? STREAM_ENDS : STREAM_WAITS;
        return 0;
    }
    size_t rest = events->text_bytes - events->sent_bytes;
    size_t count = rest < bytes_max ? rest : bytes_max;
    memcpy(bytes, events->text + events->sent_bytes, count);
    events->sent_bytes += count;
    return count;
}

static void release_events(void *context)
{
    struct events *events = context;
    training_run_unwatch(events->run, &events->watch);
    training_run_unref(events->run);
    mem_free(events->text);
    mem_free(events);
}

void api_train_events(struct server *server, struct request *request)
{
    static const struct stream_source source = {.read = read_events, .release = release_events};
    struct training_run *run = find(server, request);
    struct events *events = run == NULL ? NULL : mem_allocate(1, sizeof *events);
    if (events == NULL) {
        if (run != NULL) {
            training_run_unref(run);
            request_reply_json(request, 503, NULL);
        }
        return;
    }
    events->request = request;
    events->run = run;
    events->watch.on_change = on_change;
    training_run_watch(run, &events->watch);
    request_add_header(request, "Cache-Control", "no-store");
    request_add_header(request, "X-Accel-Buffering", "no");
    request_reply_stream(request, 200, "text/event-stream", &source, events);
}

/* How a handler hands its request to other threads, and until when it may wait. Thread: loop. */
#include "daemon/api.h"
#include "engine/base/mem.h"

void api_submit(struct request *request, struct workers *workers, struct job *job, enum status status,
                struct error *error)
{
    if (status == STATUS_OK) {
        status = workers_submit(workers, job, error);
    }
    if (status != STATUS_OK) {
        mem_free(job);
        request_reply_error(request, error);
        return;
    }
    request_hold(request, NULL, NULL);
}

uint64_t api_deadline_ms(const struct server *server, const struct request *request)
{
    return request_started_ns(request) / 1000000 + server->settings.request_seconds_max * 1000;
}

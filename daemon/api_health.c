/* Whether lstmd lives and is ready, its metrics, and the reload. Thread: loop. Owns nothing. */
#include "daemon/api.h"
#include "daemon/metrics.h"
#include "daemon/registry.h"

void api_health_live(struct server *server, struct request *request)
{
    (void)server;
    request_reply_json(request, 200, json_pack("{s:s}", "status", "live"));
}

void api_health_ready(struct server *server, struct request *request)
{
    const char *status = server->is_draining                    ? "draining"
                         : !registry_is_ready(server->registry) ? "starting"
                         : !server_is_computing(server)         ? "stalled"
                                                                : "ready";
    bool is_ready = strcmp(status, "ready") == 0;
    json_t *refused = registry_refused(server->registry);
    request_reply_json(request, is_ready ? 200 : 503,
                       refused == NULL ? NULL : json_pack("{s:s, s:o}", "status", status, "refused", refused));
}

void api_metrics(struct server *server, struct request *request)
{
    size_t length = 0;
    char *text = metrics_write(server, &length);
    request_reply(request, text == NULL ? 503 : 200, "text/plain; version=0.0.4; charset=utf-8", text, length);
}

static void on_rescanned(void *context, const struct registry_reply *reply)
{
    struct request *request = context;
    if (reply->status != STATUS_OK) {
        request_reply_error(request, &reply->error);
    } else {
        request_reply_json(request, 200, reply->reply);
    }
    request_release(request);
}

void api_reload(struct server *server, struct request *request)
{
    struct error error;
    if (server_read_settings(server, &error) != STATUS_OK) {
        error.status = STATUS_UNPROCESSABLE; /* the file, not the request, is wrong */
        error_code(&error, "bad_configuration");
        request_reply_error(request, &error);
        registry_scan(server->registry);
        return;
    }
    request_hold(request, NULL, NULL);
    registry_rescan(server->registry, (struct registry_callback){.done = on_rescanned, .context = request});
}

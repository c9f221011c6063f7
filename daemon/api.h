/* The handlers of all routes, by family; each is documented in the HTTP API's description. Called on the loop thread
 * when a request is complete; each replies, or holds the request and replies later. */
#ifndef DAEMON_API_H
#define DAEMON_API_H

#include "daemon/server.h"

/* Documented, but not in this build: 400, code "unsupported". */
void api_unsupported(struct server *server, struct request *request);

/* api_health.c: /health/live, /health/ready, /metrics, /v1/reload. */
void api_health_live(struct server *server, struct request *request);
void api_health_ready(struct server *server, struct request *request);
void api_metrics(struct server *server, struct request *request);
void api_reload(struct server *server, struct request *request);

/* api_completions.c: /v1/completions, /v1/models/{m}/generate, /v1/requests. */
void api_completions(struct server *server, struct request *request);
void api_generate(struct server *server, struct request *request);
void api_requests(struct server *server, struct request *request);
void api_request_delete(struct server *server, struct request *request);

#endif

/* Whether lstmd lives and is ready, its metrics, and the reload. Thread: loop. Owns nothing. */
#include "daemon/api.h"

void api_health_live(struct server *server, struct request *request)
{
    (void)server;
    request_reply_json(request, 200, json_pack("{s:s}", "status", "live"));
}

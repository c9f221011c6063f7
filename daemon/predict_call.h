/* A request that works on a served version's graph: held, worked on by a run thread, answered on the loop thread.
 * Thread: loop, but for `work`. */
#ifndef DAEMON_PREDICT_CALL_H
#define DAEMON_PREDICT_CALL_H

#include "daemon/registry.h"
#include "daemon/server.h"

struct predict_call {
    struct job job; /* first */
    struct server *server;
    struct request *request; /* held; its texts and its body may be read by `work` */
    const char *model;       /* the name without version or label; of the request's arena */
    struct served_ticket ticket;
    uint32_t maximum_ms; /* of a run */
    /* Thread: run. Fills `reply`. */
    enum status (*work)(struct predict_call *call, struct served_graph *graph, struct error *error);
    json_t *reply; /* owned; becomes `bytes` on the run thread */
    char *bytes;
    size_t byte_count;
    enum status status;
    struct error error;
};

/* Has `work` run on the version that `reference` means ("m", "m@7", "m:label"), and its reply sent; the request is then
 * held. Errors as registry_served_ticket; LIMIT when too many wait. */
enum status predict_call_start(struct server *server, struct request *request, const char *reference,
                               enum status (*work)(struct predict_call *call, struct served_graph *graph,
                                                   struct error *error),
                               struct error *error) MUST_CHECK;

/* "m@7" of a path's model and version, in the request's arena. INVALID for a version that is no number. */
enum status predict_call_reference(struct request *request, const char *model, const char *version,
                                   const char **ret_reference, struct error *error) MUST_CHECK;

#endif

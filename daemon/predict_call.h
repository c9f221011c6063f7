/* A request that works on a served version's graph: held, worked on by a run thread, answered on the loop thread.
 *
 *   predict_call_create → predict_call_submit → work (run thread) → reply → `release`, if there is one
 *
 * Thread: loop, but for `work`. */
#ifndef DAEMON_PREDICT_CALL_H
#define DAEMON_PREDICT_CALL_H

#include "daemon/prediction.h"
#include "daemon/registry.h"
#include "daemon/server.h"

struct predict_call {
    struct job job; /* first */
    struct server *server;
    struct request *request; /* held; its texts and its body may be read by `work` */
    const char *model;       /* the name without version or label; of the request's arena */
    bool is_look;            /* it only sees what the graph is like: no use of the model */
    struct served_ticket ticket;
    uint32_t maximum_ms; /* of a run */
    /* Thread: run. Fills `reply`, or `bytes`. */
    enum status (*work)(struct predict_call *call, struct served_graph *graph, struct error *error);
    /* Thread: loop, at the end, before the call is freed; NULL: nothing to do. `status` tells how it went. */
    void (*release)(struct predict_call *call);
    json_t *reply; /* owned; becomes `bytes` on the run thread */
    char *bytes;   /* owned */
    size_t byte_count;
    size_t json_length; /* of `bytes`, where binary tensors stand behind it; 0: all is JSON */
    uint64_t submitted_ns;
    enum status status;
    struct error error;
};

/* A call of `bytes`, zeroed, of which struct predict_call is the first member; the request is held. NULL: without
 * memory, which was answered. */
struct predict_call *predict_call_create(struct server *server, struct request *request, size_t bytes) MUST_CHECK;

/* Has `work` run on the version that `reference` means ("m", "m@7", "m:label"), and its reply sent. Errors are replied,
 * too: as registry_served_ticket; LIMIT when too many wait. `missing` stands before the reason where there is no such
 * model or version; NULL: nothing does. */
void predict_call_submit(struct predict_call *call, const char *reference, const char *missing,
                         enum status (*work)(struct predict_call *call, struct served_graph *graph,
                                             struct error *error));

/* Answers with an error, and ends. */
void predict_call_fail(struct predict_call *call, enum status status, const struct error *error);

/* Counts a prediction for the version's statistics. Thread: run, from `work`. */
void predict_call_count(const struct predict_call *call, const struct prediction *prediction, enum status status);

/* "m@7" of a path's model and version, in the request's arena. INVALID for a version that is no number. */
enum status predict_call_reference(struct request *request, const char *model, const char *version,
                                   const char **ret_reference, struct error *error) MUST_CHECK;

#endif

/* A request that works on a model's live graph: held, worked on by a run thread, answered on the loop thread.
 *
 *   live_call_begin → fill in what `work` needs → live_call_submit → work (run thread) → reply, or `finish` and then
 *   live_call_end
 *
 * Thread: loop, but for `work`. */
#ifndef DAEMON_LIVE_CALL_H
#define DAEMON_LIVE_CALL_H

#include "daemon/registry.h"
#include "daemon/server.h"

struct live_call {
    struct job job; /* first */
    struct server *server;
    struct request *request; /* held; its texts may be read by `work` */
    const char *name;        /* the model's */
    struct live_ticket ticket;
    /* Thread: run. Fills `reply` or `version`. */
    enum status (*work)(struct live_call *call, struct model *model, struct error *error);
    /* Thread: loop, after work came to OK; must lead to live_call_end. NULL: `reply` is sent with 200. */
    void (*finish)(struct live_call *call);
    json_t *body; /* owned; NULL: not parsed yet */
    json_t *reply;
    char *bytes; /* owned: a reply that is no JSON */
    size_t byte_count;
    uint32_t maximum_ms; /* of a run */
    bool is_forced;
    bool is_ordinary; /* what was saved makes no text: kept to be restored, not to serve */
    uint64_t version;
    char version_path[REGISTRY_PATH_BYTES_MAX];
    const char *text; /* of the request's arena */
    enum status status;
    struct error error;
};

/* Takes the model that is the route's first parameter. NULL: it has been answered with the error. */
struct live_call *live_call_begin(struct server *server, struct request *request);

/* Hands it to a run thread; answers 429 itself when too many wait. */
void live_call_submit(struct live_call *call,
                      enum status (*work)(struct live_call *call, struct model *model, struct error *error));

/* Answers with an error and ends. */
void live_call_fail(struct live_call *call, const struct error *error);

/* Releases the request, which has its reply, and everything else. */
void live_call_end(struct live_call *call);

/* Parses the request's body into `body`, for `work` on a run thread: large bodies welcome. Errors as fields_parse. */
enum status live_call_parse(struct live_call *call, struct error *error) MUST_CHECK;

/* CONFLICT, code "read_only", for a model of the installation. */
enum status live_ticket_check_writable(const struct live_ticket *ticket, const char *name,
                                       struct error *error) MUST_CHECK;

#endif

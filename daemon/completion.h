/* Texts being generated for requests: from a parsed request to the reply, streamed or whole.
 *
 *   body → fields → snapshot → symbols → generations → batcher → progress → ring → reply
 *
 * One completion is one HTTP request with prompts × n choices; each choice is one generation of the batcher's. Large
 * bodies are parsed, and large prompts turned into symbols, on a run thread. The client leaving, a deadline or a
 * cancel ends the generations at their next step.
 *
 * Thread: loop, but for completions_on_progress. */
#ifndef DAEMON_COMPLETION_H
#define DAEMON_COMPLETION_H

#include "daemon/generate_request.h"
#include "daemon/server.h"

struct completions;

/* Owned. `server` is borrowed for good; its mailbox must be there. */
enum status completions_create(struct server *server, struct completions **ret_completions,
                               struct error *error) MUST_CHECK;

/* After the batcher and http are gone and the mailbox is empty: nothing may be running. NULL is allowed. */
void completions_destroy(struct completions *completions);

/* batcher_options.on_step: lets the loop run where it waits for a CPU. The context is the completions. Thread: compute.
 */
void completions_on_step(void *context);

/* batcher_options.on_progress; the context is the completions. Thread: compute. */
void completions_on_progress(void *context, struct generation **generations, size_t count);

/* How a reply is written. */
enum completion_form {
    FORM_JSON,   /* one object at the end */
    FORM_EVENTS, /* server-sent events as it is made */
    FORM_TEXT,   /* bare text as it is made */
};

struct completion_order {
    enum generate_door door;
    enum completion_form form; /* where the body does not say stream: true, which makes events */
    const char *model;         /* from the path; NULL: the body's */
    json_t *query;             /* fields from the query; NULL: the body's. The completion takes the reference */
};

/* Begins to answer `request`; errors are replied too. */
void completion_start(struct completions *completions, struct request *request, const struct completion_order *order);

/* Cancels every completion of that request id ("cmpl-" or "chatcmpl-" before it is fine), of that key alone unless it
 * is NULL, and returns their number. */
size_t completions_cancel(struct completions *completions, const char *id, const char *key);
void completions_cancel_all(struct completions *completions);
/* Those whose texts are made by versions of that model. */
void completions_cancel_model(struct completions *completions, const char *model);

/* How many run or wait. */
size_t completions_count(const struct completions *completions);
/* Of these, those whose sessions adapt. */
size_t completions_adapting_count(const struct completions *completions);

/* What runs: [{"id","model","key","created",…}]. New reference, NULL without memory. */
json_t *completions_describe(const struct completions *completions);

#endif

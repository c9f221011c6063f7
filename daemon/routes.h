/* The one table of routes: method, pattern, handler, scope. Finds the route at the head of a request and refuses
 * what must not pass (404, 405, callers who may not, a daemon that is draining), then calls the handler when the body
 * is there.
 *
 * Patterns: "/v1/models/{m}/labels/{label}"; a parameter is one path segment, percent-decoded, and "{name…}" at the
 * end takes the rest of the path. Thread: loop. */
#ifndef DAEMON_ROUTES_H
#define DAEMON_ROUTES_H

#include "daemon/callers.h"
#include "daemon/server.h"

enum route_flags {
    ROUTE_QUIET = 1 << 0,    /* logged at debug only */
    ROUTE_CORPUS = 1 << 1,   /* the body may have corpus_bytes_max bytes */
    ROUTE_DRAINING = 1 << 2, /* answers while draining, too */
    ROUTE_PROGRAM = 1 << 3,  /* the body may have program_bytes_max bytes */
    ROUTE_METRICS = 1 << 4,  /* open, unless the setting metrics_need_key says otherwise */
    ROUTE_UPLOAD = 1 << 5,   /* the body may be an upload of import_bytes_max bytes */
    ROUTE_FOREIGN = 1 << 6,  /* errors are {"error":"message"}: Open Inference Protocol, TF Serving */
};

enum { ROUTE_PARAMETERS_MAX = 4 };

struct route {
    const char *method;
    const char *pattern;
    void (*handler)(struct server *server, struct request *request);
    enum scope scope;
    unsigned flags;
    const char *summary; /* what it does or tells, for /openapi.json */
};

/* http_callbacks; the context is the server. */
void routes_on_head(void *context, struct request *request);
void routes_on_request(void *context, struct request *request);
void routes_on_end(void *context, struct request *request);

/* The path parameter number `index` of the route's pattern, decoded. */
const char *route_parameter(const struct request *request, size_t index);

/* Who asks; NULL before the route was found and they were let in. */
const struct caller *request_caller(const struct request *request);

/* Where a route with ROUTE_UPLOAD keeps its upload while it comes; what is left there at the request's end is
 * released. */
struct upload **route_upload(struct request *request);

/* The rows, for tests and for metrics. */
const struct route *routes_table(size_t *ret_count);

/* Whether `path` has the form of `pattern`; the decoded parameters are in `arena`. UNSUPPORTED never; NOT_FOUND when
 * it has not; INVALID for a bad percent sign, NUL or malformed UTF-8 in a parameter. */
enum status route_match(const char *pattern, const char *path, struct arena *arena,
                        const char *ret_parameters[ROUTE_PARAMETERS_MAX], struct error *error) MUST_CHECK;

/* Decodes %XX in place of `text` into a copy in `arena`. INVALID for a bad percent sign, NUL or malformed UTF-8. */
enum status percent_decode(const char *text, size_t length, struct arena *arena, const char **ret_text,
                           struct error *error) MUST_CHECK;

#endif

/* Who asks, and whether they may: keys, users of a Unix socket, browsers' pages, proxies.
 *
 * With keys every route but the open ones needs `Authorization: Bearer KEY`, or a Unix socket's user whom the key file
 * lists. Without keys everybody who reaches the sockets, which are local, may do everything, but for a foreign Host (a
 * web page whose name was pointed here) and admin requests that came through a proxy. With and without, pages of a
 * foreign Origin and cross-site requests are refused: any web page could otherwise reset a local graph.
 * Thread: loop. */
#ifndef DAEMON_CALLERS_H
#define DAEMON_CALLERS_H

#include "daemon/http.h"
#include "daemon/keys.h"
#include "daemon/limits.h"

struct registry;
struct server;
struct snapshot;

/* Texts live as long as the request. */
struct caller {
    const char *key; /* its name; "": none */
    enum scope scope;
    const char *models;  /* a list of those the key is for; "": all */
    const char *address; /* theirs, where limits are of each address; else "" */
    struct key_limits limits;
};

/* Who they are for limits.h; borrows from the caller. */
struct limit_holder caller_holder(const struct caller *caller);

/* Finds out who asks, for a route that needs `scope`. Returns 0, or the HTTP status of `error`, 401, 403 or 503. Only
 * inside on_head. */
unsigned caller_identify(const struct server *server, struct request *request, enum scope scope,
                         struct caller *ret_caller, struct error *error) MUST_CHECK;

/* NOT_FOUND, code "model_not_found", when the key is not for the model of `reference` ("m", "m@7", "m:label"): whether
 * there is one or not, is not said. `caller` may be NULL: nobody in particular. */
enum status caller_check_model(const struct caller *caller, const char *reference, struct error *error) MUST_CHECK;

/* registry_resolve for a caller: of the models the key is for. A key's models are all there is for it: others are
 * refused before they are looked for, and how many there are is not said. On failure nothing is held. */
enum status caller_resolve(struct registry *registry, const struct caller *caller, const char *reference,
                           struct snapshot **ret_snapshot, struct error *error) MUST_CHECK;

/* Access-Control-… for a page of a listed origin. */
void caller_add_cors_headers(const struct server *server, struct request *request);

/* Whether a page of `origin` or a request to `host` ("name" or "name:port"; NULL: not given) is ours. */
bool is_host_local(const char *host, const char *hosts);
bool is_origin_allowed(const char *origin, const char *host, const char *cors_origins);

#endif

/* Who asks: what browsers, proxies and sockets say of them, and their keys. Thread: loop. Owns nothing; what a caller
 * is lives in the request's arena. */
#include "daemon/callers.h"

#include <strings.h>

#include "daemon/registry.h"
#include "daemon/server.h"

/* ---- Pages and hosts */

/* The host of "host:port", "[::1]:port" or "host", without brackets. */
static void split_host(const char *text, size_t length, char host[SETTING_TEXT_BYTES_MAX])
{
    const char *end = text + length;
    if (text[0] == '[') {
        text++;
        const char *bracket = memchr(text, ']', (size_t)(end - text));
        end = bracket == NULL ? end : bracket;
    } else {
        const char *colon = memchr(text, ':', length);
        end = colon == NULL ? end : colon;
    }
    snprintf(host, SETTING_TEXT_BYTES_MAX, "%.*s", (int)(end - text), text);
}

bool is_host_local(const char *given, const char *hosts)
{
    if (given == NULL) {
        return true; /* HTTP/1.0; browsers always say */
    }
    char host[SETTING_TEXT_BYTES_MAX];
    split_host(given, strlen(given), host);
    size_t length = strlen(host);
    bool is_loopback = strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == length;
    bool is_localhost =
        strcasecmp(host, "localhost") == 0 || (length > 10 && strcasecmp(host + length - 10, ".localhost") == 0);
    return is_loopback || is_localhost || strcmp(host, "::1") == 0 || settings_list_contains(hosts, host);
}

/* A page may ask the server it came from, or be listed. */
bool is_origin_allowed(const char *origin, const char *host, const char *cors_origins)
{
    if (origin == NULL || settings_list_contains(cors_origins, origin)) {
        return true;
    }
    const char *authority = strstr(origin, "://");
    return authority != NULL && host != NULL && strcasecmp(authority + 3, host) == 0;
}

static bool is_listed_origin(const struct server *server, const struct request *request)
{
    const char *origin = request_header(request, "Origin");
    return origin != NULL && settings_list_contains(server->settings.cors_origins, origin);
}

/* What the browser says of the page that asks; error's message says what is wrong with it. */
static enum status check_page(const struct server *server, const struct request *request, struct error *error)
{
    const char *host = request_header(request, "Host");
    const char *origin = request_header(request, "Origin");
    const char *site = request_header(request, "Sec-Fetch-Site");
    if (server->keys == NULL && !request_is_unix(request) && !is_host_local(host, server->settings.hosts)) {
        return error_set(error, STATUS_INVALID, "Host '%.100s' is not this server: the setting hosts may list it",
                         host);
    }
    if (!is_origin_allowed(origin, host, server->settings.cors_origins)) {
        return error_set(error, STATUS_INVALID, "pages of '%.100s' may not ask: the setting cors_origins may list it",
                         origin);
    }
    if (site != NULL && strcmp(site, "cross-site") == 0 && !is_listed_origin(server, request)) {
        return error_set(error, STATUS_INVALID, "a page of another site may not ask");
    }
    return STATUS_OK;
}

void caller_add_cors_headers(const struct server *server, struct request *request)
{
    if (is_listed_origin(server, request)) {
        request_add_header(request, "Access-Control-Allow-Origin", request_header(request, "Origin"));
        request_add_header(request, "Access-Control-Expose-Headers",
                           "X-Request-Id, Retry-After, X-Lstmd-Model, X-Lstmd-Seed");
        request_add_header(request, "Vary", "Origin");
    }
}

/* ---- Keys */

/* The key of "Bearer KEY", or NULL. */
static const char *bearer_of(const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0) {
        return NULL;
    }
    const char *key = authorization + sizeof scheme - 1;
    return key + strspn(key, " ");
}

/* The key file's entry of who asks; NULL: none, and `error` says why. */
static const struct key *find_key(const struct keys *keys, const struct request *request, struct error *error)
{
    const char *authorization = request_header(request, "Authorization");
    const char *bearer = bearer_of(authorization);
    uint32_t user;
    const struct key *key = NULL;
    if (bearer != NULL) {
        key = keys_find(keys, bearer, strlen(bearer));
        error_set(error, STATUS_INVALID, "this key is not known here");
    } else if (authorization != NULL) {
        error_set(error, STATUS_INVALID, "Authorization is not of the form `Bearer KEY`");
    } else if (request_unix_user(request, &user)) {
        key = keys_find_user(keys, user);
        error_set(error, STATUS_INVALID, "user %u needs a key: `Authorization: Bearer KEY`", user);
    } else {
        error_set(error, STATUS_INVALID, "a key is needed: `Authorization: Bearer KEY`");
    }
    error_code(error, "invalid_api_key");
    return key;
}

/* Who asks behind proxies that are trusted: each adds the address it was asked from at the end of X-Forwarded-For, so
 * the last that is no proxy's is the client's. NULL without memory. */
static const char *find_address(const struct server *server, struct request *request)
{
    const char *trusted = server->settings.trusted_proxies;
    const char *peer = request_address(request);
    const char *list = request_header_joined(request, "X-Forwarded-For"); /* a proxy may add a line of its own */
    char *copy = peer == NULL || list == NULL ? NULL : arena_copy_string(request_arena(request), list);
    const char *found = copy == NULL ? NULL : peer;
    for (size_t end = copy == NULL ? 0 : strlen(copy); end > 0 && settings_list_contains(trusted, found);) {
        copy[end] = '\0';
        while (end > 0 && copy[end - 1] != ',') {
            end--;
        }
        char *item = copy + end + strspn(copy + end, " \t");
        item[strcspn(item, " \t")] = '\0';
        found = item[0] == '\0' ? found : item;
        end -= end > 0;
    }
    return found;
}

static unsigned identify_by_key(const struct server *server, struct request *request, enum scope scope,
                                struct caller *ret_caller, struct error *error)
{
    const struct key *key = find_key(server->keys, request, error);
    if (key == NULL) {
        if (scope == SCOPE_OPEN) {
            *ret_caller = (struct caller){.key = "", .scope = SCOPE_OPEN, .models = "", .address = ""};
            return 0;
        }
        request_add_header(request, "WWW-Authenticate", "Bearer");
        return 401;
    }
    if (key->scope < scope) {
        error_set(error, STATUS_INVALID, "key %s has the scope generate, this needs admin", key->name);
        error_code(error, "missing_scope");
        return 403;
    }
    struct caller caller = {.key = arena_copy_string(request_arena(request), key->name),
                            .scope = key->scope,
                            .models = arena_copy_string(request_arena(request), key->models),
                            .address = key->limits.per_address ? find_address(server, request) : "",
                            .limits = key->limits};
    if (caller.key == NULL || caller.models == NULL || caller.address == NULL) {
        error_set(error, STATUS_NO_MEMORY, "no memory for a request");
        return 503;
    }
    *ret_caller = caller;
    return 0;
}

unsigned caller_identify(const struct server *server, struct request *request, enum scope scope,
                         struct caller *ret_caller, struct error *error)
{
    if (check_page(server, request, error) != STATUS_OK) {
        error_code(error, "forbidden");
        return 403;
    }
    if (server->keys != NULL) {
        return identify_by_key(server, request, scope, ret_caller, error);
    }
    bool is_forwarded =
        request_header(request, "Forwarded") != NULL || request_header(request, "X-Forwarded-For") != NULL;
    if (is_forwarded && scope == SCOPE_ADMIN) {
        error_set(error, STATUS_INVALID, "requests through a proxy may not do this without a key");
        error_code(error, "forbidden");
        return 403;
    }
    *ret_caller =
        (struct caller){.key = "", .scope = is_forwarded ? SCOPE_GENERATE : SCOPE_ADMIN, .models = "", .address = ""};
    return 0;
}

enum status caller_check_model(const struct caller *caller, const char *reference, struct error *error)
{
    char name[MODEL_NAME_BYTES_MAX];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(reference, "@:/"), reference);
    if (caller == NULL || caller->models[0] == '\0' || settings_list_contains(caller->models, name)) {
        return STATUS_OK;
    }
    error_set(error, STATUS_NOT_FOUND, "there is no model '%s' for key %s", name, caller->key);
    return error_code(error, "model_not_found");
}

enum status caller_resolve(struct registry *registry, const struct caller *caller, const char *reference,
                           struct snapshot **ret_snapshot, struct error *error)
{
    bool is_limited = caller != NULL && caller->models[0] != '\0';
    if (reference != NULL && reference[0] != '\0') {
        TRY(caller_check_model(caller, reference, error));
    } else if (is_limited) {
        const char *meant = registry_default_name(registry);
        if (meant == NULL || caller_check_model(caller, meant, NULL) != STATUS_OK) {
            error_set(error, STATUS_NOT_FOUND, "key %s has no default model: \"model\" must say which", caller->key);
            return error_code(error, "model_not_found");
        }
    }
    return registry_resolve(registry, reference, ret_snapshot, error);
}

struct limit_holder caller_holder(const struct caller *caller)
{
    return (struct limit_holder){.key = caller->key, .address = caller->address, .limits = &caller->limits};
}

/* What a handler can reach: the parts of the running daemon, made and freed by command_serve.c. Thread: loop. */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <uv.h>

#include "daemon/http.h"
#include "daemon/mailbox.h"
#include "daemon/settings.h"
#include "daemon/workers.h"
#include "engine/engine.h"

struct server {
    uv_loop_t loop;
    struct settings settings;
    const char *config_path; /* NULL: defaults */
    struct mailbox *mailbox;
    struct workers *run;    /* graph builds and runs, large bodies */
    struct workers *loader; /* one thread: reads, packs and frees models */
    struct batcher *batcher;
    struct http *http;
    struct registry *registry; /* models, versions, snapshots */
    struct watcher *watcher;
    struct completions *completions; /* texts being generated */
    struct metrics *metrics;
    struct jobs *jobs; /* training jobs */
    bool is_draining;  /* SIGTERM came: new requests get 503 */
};

#endif

/* What a handler can reach: the parts of the running daemon, made and freed by server.c. Thread: loop. */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <uv.h>

#include "daemon/http.h"
#include "daemon/keys.h"
#include "daemon/mailbox.h"
#include "daemon/settings.h"
#include "daemon/workers.h"
#include "engine/engine.h"

struct server {
    uv_loop_t loop;
    struct settings settings;
    const char *config_path;         /* NULL: defaults */
    const char *models_path;         /* the command line's, which wins over the file; NULL: none */
    struct keys *keys;               /* NULL: there is no key file; freed by who made the server */
    struct certificate *certificate; /* NULL: no TLS; given back by who made the server */
    struct mailbox *mailbox;
    struct workers *run;    /* graph builds and runs, large bodies */
    struct workers *loader; /* one thread: reads, packs and frees models */
    struct batcher *batcher;
    struct prompt_cache *prompt_cache; /* NULL: prompts are not kept */
    struct http *http;
    struct registry *registry; /* models, versions, snapshots */
    struct watcher *watcher;
    struct limits *limits;           /* what keys use */
    struct completions *completions; /* texts being generated */
    struct sessions *sessions;       /* texts that may go on */
    struct sequences *sequences;     /* states of the Open Inference Protocol's sequences */
    struct metrics *metrics;
    struct trainings *trainings; /* training jobs */
    struct pictures *pictures;   /* graphs being drawn */
    struct imports *imports;     /* models being made of foreign ones */
    bool is_draining;            /* SIGTERM came: new requests get 503 */
    bool is_ended;               /* the loop is to stop */
    uint64_t linger_ns;          /* setting linger_us; 0 where there is one CPU only */
};

/* Makes every part of a zeroed server whose settings are filled in, and begins the first scan; nothing listens yet.
 * `demo_path` may be NULL. On failure nothing is left. */
enum status server_start(struct server *server, const char *demo_path, struct error *error) MUST_CHECK;

/* Turns the loop until server_end is called. After a request or a reply it looks out for the next one for a moment
 * (setting linger_us) before it sleeps: waking a thread takes longer than answering. Not while text is generated: then
 * the CPUs have better things to do. */
void server_run(struct server *server);
void server_end(struct server *server);

/* Takes it all apart: cancels what runs, ends the threads. The caller's own handles on the loop must be closing. */
void server_stop(struct server *server);

/* Reads the key file that the settings name, if they do. On failure the keys stay as they are. */
enum status server_read_keys(struct server *server, struct error *error) MUST_CHECK;

/* Reads the certificate and the key that the settings name, if they do, for connections to come. On failure those in
 * use stay. */
enum status server_read_certificate(struct server *server, struct error *error) MUST_CHECK;

/* Logs until when the certificate is valid, if there is one: as a warning when that is soon, or over. */
void server_log_certificate(const struct server *server);

/* The first half of what SIGHUP and POST /v1/reload do: reads configuration, keys and certificate again. A bad one of
 * them changes nothing, is logged, and the first is returned. The second half, the model directories, is for the
 * caller to begin in any case (registry_scan, registry_rescan). */
enum status server_read_settings(struct server *server, struct error *error) MUST_CHECK;

/* Whether the compute threads turn: for readiness, and the watchdog. */
bool server_is_computing(const struct server *server);

#endif

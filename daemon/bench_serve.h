/* Measuring the daemon over HTTP: clients on loopback, each with one request at a time, for a bounded time. Thread:
 * main, and one for each client. */
#ifndef DAEMON_BENCH_SERVE_H
#define DAEMON_BENCH_SERVE_H

#include "engine/engine.h"

enum { BENCH_CLIENTS_MAX = 256 };

/* What the clients ask for. */
enum bench_load {
    BENCH_LOAD_TEXT,       /* a whole text */
    BENCH_LOAD_FIRST_BYTE, /* a streamed text, of a daemon that idled before: measured until its first byte */
    BENCH_LOAD_RUN,        /* a run of a constant */
};

struct bench_serve_options {
    const char *models_directory; /* with the one model "bench" */
    enum bench_load load;
    enum rnn_precision precision;
    const char *prompt; /* JSON text, without quotes */
    size_t clients;
    size_t tokens; /* of one request */
    size_t threads;
    double seconds;
};

struct bench_serve_result {
    size_t requests;
    size_t errors;  /* replies other than 200, broken connections */
    double seconds; /* they took, to the last one's end */
    double chars_per_s;
    double p50_ms; /* until what is measured is there, on a connection that stays open */
    double p99_ms;
    size_t peak_rss_bytes; /* the daemon's */
};

/* Starts `lstmd serve` on a port of its own over the models, asks it for text, or runs, from all clients, and stops it.
 * IO when it does not start or ends badly; NO_MEMORY. */
enum status bench_serve(const struct bench_serve_options *options, struct bench_serve_result *ret_result,
                        struct error *error) MUST_CHECK;

#endif

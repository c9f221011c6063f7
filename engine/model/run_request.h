/* What a run is asked for, read from JSON against a graph: {"feeds","fetches","targets","encoding"} of the HTTP API.
 * Names are the graph's, and those that build programs gave with "as". Thread: run threads. */
#ifndef ENGINE_MODEL_RUN_REQUEST_H
#define ENGINE_MODEL_RUN_REQUEST_H

#include <jansson.h>

#include "engine/graph/handles.h"
#include "engine/graph/session.h"
#include "engine/store/tensor_json.h"

/* One name of "fetches": a tensor, an operation (its result is null), or a handle of any form. */
struct run_fetch {
    const char *name;            /* as asked */
    const struct handle *handle; /* NULL: a tensor, or an operation */
    bool is_operation;
};

struct run_request {
    struct arena arena;
    struct graph *graph; /* referenced: all nodes are its */
    enum tensor_encoding encoding;
    struct run_fetch *asked;
    size_t asked_count;
    struct tensor *values; /* of the feeds */
    struct feed *feeds;
    struct output *fetches;
    struct node **targets;
    struct tensor *results; /* room for one of each fetch */
    struct session_request session;
};

/* Errors in TensorFlow's order and with its texts: each feed's key, value and shape, then the fetches; INVALID with the
 * field for what is malformed. `json` is borrowed while the request lives. Released also after failure: starts as all
 * zeroes. */
enum status run_request_read(struct graph *graph, const json_t *json, struct run_request *request,
                             struct error *error) MUST_CHECK;
void run_request_release(struct run_request *request);

/* {"name": tensor, …} from what the run left in `results`. */
enum status run_request_results(const struct run_request *request, json_t **ret_results,
                                struct error *error) MUST_CHECK;
/* TOO_LARGE when a reply cannot hold so many elements; looked at before anything is run. */
enum status run_request_check_size(const struct run_request *request, size_t elements, struct error *error) MUST_CHECK;

/* INVALID "/<field>: <expected>", with the field as param. */
enum status run_request_refuse(struct error *error, const char *field, const char *expected);

#endif

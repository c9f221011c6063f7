/* POST /v2/models/{m}[/versions/{v}]/infer: a run of the version's signature, in JSON or binary tensors, perhaps as
 * part of a sequence. Thread: loop; large bodies are parsed, and signatures run, on run threads. Owns its calls. */
#include "daemon/api.h"
#include "daemon/api_oip.h"
#include "daemon/fields.h"
#include "daemon/oip_request.h"
#include "daemon/predict_call.h"
#include "daemon/routes.h"
#include "daemon/sequences.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

struct infer_call {
    struct predict_call call; /* first */
    struct oip_request body;
    const char *reference;     /* of the path */
    const char *model;         /* of a sequence: its name without version or label */
    size_t header_json_length; /* Inference-Header-Content-Length; SIZE_MAX: none */
    struct sequence_turn turn;
    const struct sequence_states *states; /* it goes on from; NULL: the beginning */
    struct sequence_states *next_states;  /* owned */
};

static struct infer_call *infer_of(struct predict_call *call)
{
    return (struct infer_call *)call;
}

/* ---- on a run thread ---- */

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the state of a sequence");
}

static size_t count_carried(const struct served_signature *signature)
{
    size_t count = 0;
    for (size_t i = 0; i < signature->input_count; i++) {
        count += signature->inputs[i].is_carried;
    }
    return count;
}

/* Feeds what the sequence carries, unless the request has it. */
static enum status feed_states(const struct infer_call *infer, struct prediction *prediction, struct error *error)
{
    const struct served_signature *signature = prediction->signature;
    const struct sequence_states *states = infer->states;
    size_t count = count_carried(signature);
    if (count == 0) {
        return error_set(error, STATUS_INVALID, "sequence %s: the signature '%.60s' carries no state",
                         infer->body.sequence, signature->name);
    }
    if (states != NULL && states->fingerprint != infer->call.ticket.fingerprint) {
        error_set(error, STATUS_UNPROCESSABLE, "sequence %s stays with %s@%llu, which is not there any more as it was",
                  infer->body.sequence, infer->model, (unsigned long long)states->version);
        return error_code(error, "sequence_version_gone");
    }
    if (states != NULL && (strcmp(states->signature, signature->name) != 0 || states->count != count)) {
        return error_set(error, STATUS_INVALID, "sequence %s is one of the signature '%.60s', not of '%.60s'",
                         infer->body.sequence, states->signature, signature->name);
    }
    for (size_t i = 0, at = 0; i < signature->input_count; i++) {
        const struct served_end *end = &signature->inputs[i];
        if (end->is_carried && prediction->inputs[i] == NULL) {
            if (states != NULL) {
                TRY(prediction_set_state(prediction, i, &states->values[at], error));
            } else if (!end->is_optional) {
                TRY(prediction_set_zeros(prediction, i, error));
            }
        }
        at += end->is_carried;
    }
    prediction_keep_states(prediction);
    return STATUS_OK;
}

/* Keeps what the run left for the sequence's next one. */
static enum status take_states(struct infer_call *infer, const struct prediction *prediction, struct error *error)
{
    const struct served_signature *signature = prediction->signature;
    struct sequence_states *states = sequence_states_create(count_carried(signature));
    if (states == NULL) {
        return no_memory(error);
    }
    infer->next_states = states;
    states->version = infer->call.ticket.version;
    states->fingerprint = infer->call.ticket.fingerprint;
    states->signature = mem_copy_string(signature->name);
    if (states->signature == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0, at = 0; i < signature->input_count; i++) {
        if (signature->inputs[i].is_carried) {
            const struct tensor *value = prediction_next_state(prediction, i);
            states->bytes += tensor_bytes(value);
            TRY(tensor_init_copy(&states->values[at++], value, error));
        }
    }
    return states->bytes <= SEQUENCES_BYTES_MAX
               ? STATUS_OK
               : error_set(error, STATUS_INVALID, "the state of sequence %s has %zu bytes, at most %d",
                           infer->body.sequence, states->bytes, SEQUENCES_BYTES_MAX);
}

static enum status infer_on(struct infer_call *infer, struct prediction *prediction, struct served_graph *graph,
                            struct error *error)
{
    struct predict_call *call = &infer->call;
    bool is_in_sequence = infer->turn.sequence != NULL;
    TRY(prediction_begin(graph, infer->body.signature, prediction, error));
    TRY(oip_request_feed(&infer->body, prediction, error));
    if (is_in_sequence) {
        TRY(feed_states(infer, prediction, error));
    }
    TRY(prediction_run(prediction, TENSOR_JSON_REPLY_ELEMENTS_MAX, call->maximum_ms, error));
    if (is_in_sequence && !infer->body.is_sequence_end) {
        TRY(take_states(infer, prediction, error));
    }
    return oip_request_reply(&infer->body, prediction, call->model, call->ticket.version, &call->bytes,
                             &call->byte_count, &call->json_length, error);
}

static enum status work(struct predict_call *call, struct served_graph *graph, struct error *error)
{
    struct prediction prediction = {.graph = NULL};
    enum status status = infer_on(infer_of(call), &prediction, graph, error);
    predict_call_count(call, &prediction, status);
    prediction_release(&prediction);
    return status;
}

/* ---- on the loop thread ---- */

static void release(struct predict_call *call)
{
    struct infer_call *infer = infer_of(call);
    bool is_good = call->status == STATUS_OK;
    struct sequence_states *next = infer->next_states;
    if (!is_good) {
        sequence_states_destroy(next); /* the sequence stands where it stood */
        next = NULL;
    }
    sequences_leave(call->server->sequences, &infer->turn, next, is_good && infer->body.is_sequence_end);
    oip_request_release(&infer->body);
}

/* A sequence stays with its version, whatever the model's name means by now. */
static enum status choose_version(struct infer_call *infer, struct error *error)
{
    struct request *request = infer->call.request;
    TRY(sequence_turn_states(&infer->turn, &infer->states, error));
    if (infer->states == NULL) {
        return STATUS_OK;
    }
    const char *kept =
        arena_format(request_arena(request), "%s@%llu", infer->model, (unsigned long long)infer->states->version);
    if (kept == NULL) {
        return no_memory(error);
    }
    const char *asked = strchr(infer->reference, '@');
    if (asked != NULL && strtoull(asked + 1, NULL, 10) != infer->states->version) {
        return error_set(error, STATUS_INVALID, "sequence %s is one of %s, not of %s", infer->body.sequence, kept,
                         infer->reference);
    }
    infer->reference = kept;
    return STATUS_OK;
}

static void enter(struct infer_call *infer)
{
    struct error error;
    enum status status = choose_version(infer, &error);
    if (status != STATUS_OK) {
        predict_call_fail(&infer->call, status, &error);
        return;
    }
    predict_call_submit(&infer->call, infer->reference, NULL, work);
}

static void on_granted(struct turn *turn)
{
    enter((struct infer_call *)((char *)turn - offsetof(struct infer_call, turn.turn)));
}

/* Into its sequence, whatever version or label the path names. */
static void enter_sequence(struct infer_call *infer)
{
    struct predict_call *call = &infer->call;
    struct error error;
    enum status status = STATUS_OK;
    const char *path = route_parameter(call->request, 0);
    infer->model = arena_format(request_arena(call->request), "%.*s", (int)strcspn(path, "@:"), path);
    if (infer->model == NULL) {
        status = no_memory(&error);
    } else {
        struct sequence_key key = {.owner = request_caller(call->request)->key,
                                   .model = infer->model,
                                   .name = infer->body.sequence,
                                   .is_start = infer->body.is_sequence_start};
        infer->turn.turn.granted = on_granted;
        status = sequences_enter(call->server->sequences, &key, clock_now_ms(), &infer->turn, &error);
    }
    if (status != STATUS_OK) {
        predict_call_fail(call, status, &error);
    } else if (infer->turn.turn.is_inside) {
        enter(infer);
    }
}

/* The body is parsed. */
static void go_on(struct job *job)
{
    struct infer_call *infer = (struct infer_call *)job;
    struct predict_call *call = &infer->call;
    if (call->status != STATUS_OK) {
        struct error error = call->error;
        predict_call_fail(call, call->status, &error);
        return;
    }
    if (infer->body.timeout_us > 0 && (uint64_t)infer->body.timeout_us < (uint64_t)call->maximum_ms * 1000) {
        call->maximum_ms = (uint32_t)(infer->body.timeout_us / 1000) + 1;
    }
    if (infer->body.sequence[0] == '\0') {
        predict_call_submit(call, infer->reference, NULL, work);
        return;
    }
    enter_sequence(infer);
}

static void parse(struct job *job)
{
    struct infer_call *infer = (struct infer_call *)job;
    size_t length;
    const char *body = request_body(infer->call.request, &length);
    infer->call.status = oip_request_read(body, length, infer->header_json_length, &infer->body, &infer->call.error);
}

/* Inference-Header-Content-Length, and no compression. */
static enum status read_headers(struct request *request, size_t *ret_json_length, struct error *error)
{
    const char *encoding = request_header(request, "Content-Encoding");
    const char *text = request_header(request, "Inference-Header-Content-Length");
    if (encoding != NULL && strcmp(encoding, "identity") != 0) {
        return error_set(error, STATUS_UNSUPPORTED, "Content-Encoding %.32s is not supported", encoding);
    }
    *ret_json_length = SIZE_MAX;
    if (text == NULL) {
        return STATUS_OK;
    }
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 18 || text[digits] != '\0') {
        return error_set(error, STATUS_INVALID, "Inference-Header-Content-Length is '%.32s', not a number of bytes",
                         text);
    }
    *ret_json_length = (size_t)strtoull(text, NULL, 10);
    return STATUS_OK;
}

void api_oip_infer(struct server *server, struct request *request)
{
    struct error error;
    const char *reference = NULL;
    size_t json_length = SIZE_MAX;
    size_t length;
    enum status status = oip_reference(request, &reference, &error);
    if (status == STATUS_OK) {
        status = read_headers(request, &json_length, &error);
    }
    if (status != STATUS_OK) {
        request_reply_error_as(request, status == STATUS_UNSUPPORTED ? 415 : error_http_status(&error), &error);
        return;
    }
    struct predict_call *call = predict_call_create(server, request, sizeof(struct infer_call));
    if (call == NULL) {
        return;
    }
    struct infer_call *infer = infer_of(call);
    call->release = release;
    infer->reference = reference;
    infer->header_json_length = json_length;
    request_body(request, &length);
    if (length <= FIELDS_INLINE_BYTES_MAX) {
        parse(&call->job);
        go_on(&call->job);
        return;
    }
    call->job.run = parse;
    call->job.done = go_on;
    status = workers_submit(server->run, &call->job, &error);
    if (status != STATUS_OK) {
        predict_call_fail(call, status, &error);
    }
}

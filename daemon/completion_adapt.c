/* Completions in sessions that adapt: the session's own copy of the weights makes their text, by runs of the graph on
 * the run threads, and learns from their prompts. A text takes turns with all else that the run threads do, a slice at
 * a time. Thread: loop; completion_adapt_open and the slices on run threads, one at a time. Owns the adapted text, and
 * frees it on a run thread.
 *
 * What a session learned is immutable, as its state is: a request begins with a reference to both, and leaves new ones.
 * So nothing has to be taken back where one failed, was cancelled while its prompt was read, or was not read. */
#include "daemon/completion_private.h"
#include "daemon/registry.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

enum { SLICE_MS = 20 };

struct adapting {
    struct job job; /* first: a slice, then the end */
    struct completion *completion;
    struct served_ticket ticket;  /* until the graph was opened */
    struct adapted_weights *from; /* one reference, or NULL */
    enum adaptation_weights weights;
    uint64_t sessions_bytes_max;
    struct adapted_text *text;     /* made by completion_adapt_open */
    struct generation *generation; /* one reference while slices are to come */
    enum adapted_text_course course;
    bool is_counted; /* among those that adapt */
    bool is_running;
    bool is_woken; /* while it ran */
};

/* ---- whether it adapts ---- */

static enum status refuse(const char *param, const char *message, struct error *error)
{
    error_set(error, STATUS_INVALID, "%s", message);
    return completion_refuse_field(error, param);
}

/* A session that was begun goes on as it was begun. */
static enum status check_same(const struct completion *completion, const struct adapted_weights *before,
                              struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    bool is_same = before == NULL ? !fields->adapts : fields->adapts && fields->adapted == adapted_weights_kind(before);
    if (!generate_request_is_given(fields, "adapt") || is_same) {
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "session '%s' was begun with adapt %s%s%s, and stays so", fields->session,
              before == NULL ? "false" : "\"",
              before == NULL ? "" : adaptation_weights_name(adapted_weights_kind(before)), before == NULL ? "" : "\"");
    return completion_refuse_field(error, "adapt");
}

enum status completion_adapt_choose(struct completion *completion, struct adapted_weights *before, bool is_begun,
                                    struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    if (is_begun) {
        TRY(check_same(completion, before, error));
    }
    completion->adapts = is_begun ? before != NULL : fields->adapts;
    if (!completion->adapts) {
        return STATUS_OK;
    }
    if (fields->session == NULL) {
        return refuse("adapt", "adapt is only for a session, which has the copy that learns", error);
    }
    if (fields->return_state) {
        return refuse("return_state",
                      "a session that adapts has no state to return: it is nothing without what it learned", error);
    }
    return STATUS_OK;
}

/* ---- beginning ---- */

/* Places are few: whoever uses a key, from however many addresses, shares the key's. */
static size_t *texts_of_key(const struct completion *completion)
{
    const char *key = completion_owner(completion);
    return &completion->owner->key_adapting_counts[rng_bits(rng_key(key), 0, 0) % GENERATION_FLOW_COUNT];
}

/* Whether one text more may adapt. */
static enum status check_count(const struct completion *completion, struct error *error)
{
    const struct completions *owner = completion->owner;
    uint64_t adapting_max = owner->server->settings.adapting_max;
    if (owner->adapting_count >= adapting_max) {
        error_set(error, STATUS_LIMIT, "%zu texts adapt, adapting_max is %llu", owner->adapting_count,
                  (unsigned long long)adapting_max);
        error_code(error, "adapting_max");
        return STATUS_LIMIT;
    }
    return completion_check_share(completion, *texts_of_key(completion), 1, adapting_max - owner->adapting_count,
                                  "texts that adapt", error);
}

static void count(struct completion *completion, bool is_taken)
{
    completion->adapting->is_counted = is_taken;
    size_t one = is_taken ? 1 : (size_t)-1;
    completion->owner->adapting_count += one;
    *texts_of_key(completion) += one;
}

enum status completion_adapt_begin(struct completion *completion, struct error *error)
{
    struct server *server = completion->owner->server;
    if (!completion->adapts) {
        return STATUS_OK;
    }
    TRY(check_count(completion, error));
    struct adapting *adapting = mem_allocate(1, sizeof *adapting);
    if (adapting == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    }
    enum status status = registry_served_ticket(server->registry, completion->model, false, &adapting->ticket, error);
    if (status != STATUS_OK) {
        mem_free(adapting);
        return status;
    }
    const struct session *session = completion->session_turn.session;
    struct adapted_weights *before = completion->from == NULL ? NULL : session_adapted(session);
    adapting->from = adapted_weights_ref(before);
    adapting->weights = before == NULL ? completion->fields.adapted : adapted_weights_kind(before);
    adapting->sessions_bytes_max = server->settings.sessions_bytes_max;
    adapting->completion = completion;
    completion->adapting = adapting;
    count(completion, true);
    return STATUS_OK;
}

static enum status open_text(struct adapting *adapting, struct served_graph *graph, struct error *error)
{
    const struct snapshot *snapshot = adapting->completion->snapshot;
    const struct vocabulary *vocabulary = snapshot_vocabulary(snapshot);
    const struct adapted_text_options options = {.weights = adapting->weights,
                                                 .from = adapting->from,
                                                 .kind = vocabulary_kind(vocabulary),
                                                 .symbol_count = vocabulary_size(vocabulary)};
    TRY(adapted_text_create(graph, &options, &adapting->text, error));
    return sessions_check_size(adapting->sessions_bytes_max, decode_plan_state_bytes(adapted_text_plan(adapting->text)),
                               adapted_text_weights_bytes(adapting->text), error);
}

enum status completion_adapt_open(struct completion *completion, struct error *error)
{
    struct adapting *adapting = completion->adapting;
    struct served_graph *graph = NULL;
    if (adapting == NULL) {
        return STATUS_OK;
    }
    TRY(served_open(&adapting->ticket, &graph, error));
    enum status status = open_text(adapting, graph, error);
    served_graph_unref(graph);
    served_ticket_release(&adapting->ticket);
    return status;
}

const struct decode_plan *completion_plan(const struct completion *completion)
{
    return completion->adapting == NULL ? snapshot_decode_plan(completion->snapshot)
                                        : adapted_text_plan(completion->adapting->text);
}

void completion_adapt_expect(struct completion *completion, size_t prompt_count)
{
    size_t carried = completion->from == NULL ? 0 : text_state_head(completion->from)->pending_count;
    if (completion->adapting != NULL) {
        adapted_text_begin(completion->adapting->text, carried + prompt_count, carried);
    }
}

/* ---- slices ---- */

static void run_slice(struct job *job)
{
    struct adapting *adapting = (struct adapting *)job;
    adapting->course = adapted_text_run(adapting->text, adapting->generation, SLICE_MS, completions_on_progress,
                                        adapting->completion->owner);
}

static void on_slice_done(struct job *job);

static void submit_slice(struct adapting *adapting)
{
    adapting->job.run = run_slice;
    adapting->job.done = on_slice_done;
    adapting->is_running = true;
    adapting->is_woken = false;
    workers_submit_always(adapting->completion->owner->server->run, &adapting->job);
}

static void on_slice_done(struct job *job)
{
    struct adapting *adapting = (struct adapting *)job;
    struct completion *completion = adapting->completion;
    adapting->is_running = false;
    if (adapting->course == ADAPTED_TEXT_ENDED) { /* its reader may be slow to hear of that */
        completion_adapt_give_back(completion);
        adapting->generation = generation_unref(adapting->generation);
        completion_unref(completion);
    } else if (adapting->course == ADAPTED_TEXT_GOES_ON || adapting->is_woken) {
        submit_slice(adapting);
    } /* else its reader is slow: what it reads wakes it, a cancel, or its deadline (on_timer) */
}

void completion_adapt_start(struct completion *completion)
{
    struct adapting *adapting = completion->adapting;
    adapting->generation = generation_ref(completion->choices[0].generation);
    completion->references++; /* given back behind the last slice */
    submit_slice(adapting);
}

void completion_wake(struct completion *completion)
{
    struct adapting *adapting = completion->adapting;
    if (adapting == NULL) {
        batcher_wake(completion->owner->server->batcher);
        return;
    }
    adapting->is_woken = true;
    if (adapting->generation != NULL && !adapting->is_running) {
        submit_slice(adapting);
    }
}

/* ---- the end ---- */

void completion_adapt_give_back(struct completion *completion)
{
    if (completion->adapting != NULL && completion->adapting->is_counted) {
        count(completion, false);
    }
}

struct adapted_weights *completion_adapted(const struct completion *completion)
{
    const struct adapting *adapting = completion->adapting;
    return adapting == NULL || adapting->text == NULL ? NULL : adapted_text_weights(adapting->text);
}

static void run_end(struct job *job)
{
    struct adapting *adapting = (struct adapting *)job;
    adapted_text_destroy(adapting->text);
    served_ticket_release(&adapting->ticket);
    adapted_weights_unref(adapting->from);
}

static void on_end_done(struct job *job)
{
    mem_free(job);
}

void completion_adapt_end(struct completion *completion)
{
    struct adapting *adapting = completion->adapting;
    if (adapting == NULL) {
        return;
    }
    CHECK(adapting->generation == NULL && !adapting->is_running);
    completion_adapt_give_back(completion);
    completion->adapting = NULL;
    adapting->job.run = run_end;
    adapting->job.done = on_end_done;
    workers_submit_always(completion->owner->server->run, &adapting->job);
}

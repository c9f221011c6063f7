/* The course of a completion. Thread: loop, but for completions_on_progress (compute threads) and the jobs (run
 * threads). Owns the completions; a completion is counted by its reply, by each generation and by its open timer.
 *
 * A generation's last reference may go on a compute thread, after the reply is through: it posts its choice's message,
 * and only then may the choice's memory go. */
#include "daemon/completion_private.h"

#include <sched.h>

#include "daemon/metrics.h"
#include "daemon/registry.h"
#include "daemon/routes.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum { LOGPROBS_EVENT_BYTES = 64, ADVANCES_A_TURN_MAX = 64, YIELDS_FOR_A_TEXT = 4 };

struct completion *completion_from(void *pointer)
{
    struct completion *completion = pointer;
    CHECK(completion != NULL && completion->magic == COMPLETION_MAGIC);
    return completion;
}

void completion_id(const struct completion *completion, char id[COMPLETION_ID_BYTES_MAX])
{
    snprintf(id, COMPLETION_ID_BYTES_MAX, "%s-%s", completion->door == DOOR_CHAT ? "chatcmpl" : "cmpl",
             request_id(completion->request));
}

/* ---- The end */

void completion_unref(struct completion *completion)
{
    CHECK(completion->references > 0);
    if (--completion->references > 0) {
        return;
    }
    struct completions *owner = completion->owner;
    completion_give_back(completion);
    completion_adapt_end(completion);
    if (completion->snapshot != NULL) {
        registry_release(owner->server->registry, completion->snapshot);
    }
    for (size_t i = 0; i < completion->choice_count; i++) {
        mem_free(completion->choices[i].text);
        json_decref(completion->choices[i].logprobs);
        text_state_unref(completion->choices[i].state);
    }
    *completion->link = completion->next;
    if (completion->next != NULL) {
        completion->next->link = completion->link;
    }
    owner->count--;
    request_release(completion->request);
    mem_free(completion->choices);
    mem_free(completion->pending);
    mem_free(completion->context);
    text_state_unref(completion->from);
    json_decref(completion->object);
    json_decref(completion->defaults);
    json_decref(completion->messages);
    json_decref(completion->foreign);
    completion->magic = 0;
    mem_free(completion);
}

static void on_timer_closed(uv_handle_t *handle)
{
    completion_unref(completion_from(handle->data));
}

static const char *outcome_of(const struct completion *completion)
{
    return completion->choice_count == 0 || !completion->is_submitted ? "refused"
                                                                      : completion_finish_name(&completion->choices[0]);
}

static void observe(struct completion *completion, enum metric_histogram histogram, uint64_t nanoseconds)
{
    metrics_observe(completion->owner->server->metrics, histogram, (double)nanoseconds / 1e9);
}

/* When the first symbol of all its choices was made; 0: none was. */
static uint64_t first_made_ns(const struct completion *completion)
{
    uint64_t first_ns = 0;
    for (size_t i = 0; i < completion->choice_count; i++) {
        const struct choice *choice = &completion->choices[i];
        uint64_t made_ns =
            choice->generation == NULL ? choice->first_ns : generation_progress(choice->generation).first_ns;
        first_ns = made_ns > 0 && (first_ns == 0 || made_ns < first_ns) ? made_ns : first_ns;
    }
    return first_ns;
}

/* Once, when it is known: at its end at the latest, since a stream may have been read before it was heard of. */
static void measure_first(struct completion *completion)
{
    if (completion->first_ns == 0) {
        completion->first_ns = first_made_ns(completion);
        if (completion->first_ns > 0) {
            observe(completion, METRIC_TIME_TO_FIRST_TOKEN_SECONDS, completion->first_ns - completion->started_ns);
        }
    }
}

static void measure(struct completion *completion)
{
    measure_first(completion);
    metrics_count_request(completion->owner->server->metrics,
                          completion->snapshot == NULL ? "" : snapshot_model_name(completion->snapshot),
                          outcome_of(completion), completion_owner(completion));
    observe(completion, METRIC_REQUEST_SECONDS, clock_now_ns() - completion->started_ns);
    for (size_t i = 0; i < completion->choice_count; i++) {
        const struct choice *choice = &completion->choices[i];
        if (choice->joined_ns > 0) {
            observe(completion, METRIC_QUEUE_SECONDS, choice->joined_ns - completion->started_ns);
        }
        if (choice->token_count > 1 && choice->ended_ns > 0) {
            observe(completion, METRIC_INTER_TOKEN_SECONDS,
                    (choice->ended_ns - choice->first_ns) / (choice->token_count - 1));
        }
    }
}

/* The reply is through (or nobody waits for it) and every choice has ended. */
void completion_close_if_over(struct completion *completion)
{
    bool is_replied = completion->is_abandoned || request_is_replied(completion->request);
    bool is_held = completion->is_in_job || completion->is_waiting || completion->is_loading;
    if (completion->is_over || completion->is_started || is_held || !is_replied ||
        completion->ended_count < completion->choice_count) {
        return;
    }
    completion->is_over = true;
    measure(completion);
    completion_leave_session(completion);
    for (size_t i = 0; i < completion->choice_count; i++) {
        completion->choices[i].scored = generation_unref(completion->choices[i].scored);
    }
    uv_close((uv_handle_t *)&completion->timer, on_timer_closed);
    completion_unref(completion);
}

void completion_cancel(struct completion *completion)
{
    completion->wants_cancel = true;
    if (completion->is_waiting) {
        completion_stop_waiting(completion, FINISH_CANCELLED);
        return;
    }
    if (completion->is_loading) {
        struct error error;
        bool has_left = completion->is_abandoned || completion->is_given_up;
        if (completion->owner->server->is_draining) {
            error_set(&error, STATUS_UNAVAILABLE, "lstmd is shutting down");
        } else {
            error_set(&error, STATUS_CANCELLED, has_left ? "the client left" : "the request was cancelled");
        }
        completion_stop_loading(completion, &error);
        return;
    }
    if (!completion->is_submitted) {
        return; /* its generations may be in the making on another thread; submitting sees to it */
    }
    for (size_t i = 0; i < completion->choice_count; i++) {
        if (completion->choices[i].generation != NULL) {
            generation_cancel(completion->choices[i].generation);
        }
    }
    completion_wake(completion);
}

static void on_generation_released(struct message *message)
{
    struct choice *choice = (struct choice *)message; /* its first member */
    completion_unref(choice->completion);
}

void completion_release_choice(void *lifetime)
{
    struct choice *choice = lifetime;
    choice->message.deliver = on_generation_released;
    mailbox_post(choice->completion->owner->server->mailbox, &choice->message);
}

/* ---- Progress */

void completions_on_step(void *context)
{
    struct completions *completions = context;
    mailbox_let_loop_run(completions->server->mailbox);
}

void completions_on_progress(void *context, struct generation **generations, size_t count)
{
    struct completions *completions = context;
    bool has_news = false;
    bool is_fresh = false;
    pthread_mutex_lock(&completions->lock);
    for (size_t i = 0; i < count; i++) {
        struct choice *choice = generation_owner(generations[i]);
        if (!choice->is_queued) {
            choice->is_queued = true;
            is_fresh = is_fresh || choice->report_count < YIELDS_FOR_A_TEXT;
            choice->report_count++;
            choice->queued_generation = generations[i]; /* its reference, too */
            choice->next_queued = completions->queued;
            completions->queued = choice;
            generations[i] = NULL;
        }
    }
    has_news = !completions->is_posted && completions->queued != NULL;
    completions->is_posted = completions->is_posted || has_news;
    pthread_mutex_unlock(&completions->lock);
    for (size_t i = 0; i < count; i++) {
        generation_unref(generations[i]); /* of those that are queued already */
    }
    if (has_news) {
        mailbox_post(completions->server->mailbox, &completions->message);
    }
    if (is_fresh) {
        sched_yield(); /* the loop, then the client may wait for this CPU: else to the end of its time slice */
    }
}

/* Few where each brings logprobs into the same event. */
static size_t piece_bytes_max(const struct completion *completion)
{
    bool has_logprobs = completion->form == FORM_EVENTS && generate_request_is_given(&completion->fields, "logprobs");
    return has_logprobs ? LOGPROBS_EVENT_BYTES : GENERATION_RING_BYTES;
}

size_t completion_read_choice(struct choice *choice, char bytes[GENERATION_RING_BYTES])
{
    struct completion *completion = choice->completion;
    if (choice->generation == NULL) {
        return 0;
    }
    struct generation_progress progress = generation_progress(choice->generation); /* before the text: see finish */
    size_t length = generation_read(choice->generation, bytes, piece_bytes_max(completion));
    choice->has_rest = length + UTF8_BYTES_MAX > piece_bytes_max(completion);
    bool has_begun = progress.joined_ns > 0; /* what ended before its first step read nothing, whatever was found */
    choice->prompt_count = has_begun ? progress.prompt_count : 0;
    choice->cached_count = has_begun ? progress.cached_count / PROMPT_CACHE_CHUNK * PROMPT_CACHE_CHUNK : 0;
    choice->token_count = progress.token_count;
    choice->joined_ns = progress.joined_ns;
    choice->first_ns = progress.first_ns;
    choice->ended_ns = progress.ended_ns;
    choice->taken_bytes += completion->is_abandoned ? 0 : length;
    bool was_filling = length > 0 && progress.readable_bytes > GENERATION_RING_BYTES / 4;
    if (was_filling || length > GENERATION_RING_BYTES / 4) { /* it may have filled since, too */
        completion_wake(completion);                         /* its row may have waited for room */
    }
    if (length == 0 && progress.finish != FINISH_NONE) {
        if (completion->form == FORM_JSON) {
            choice->scored = generation_ref(choice->generation);
        } else {
            completion_take_logprobs(choice, progress.finish);
        }
        if (progress.finish == FINISH_FAILED) {
            generation_failure(choice->generation, &choice->failure);
        }
        completion_keep_state(choice);
        choice->finish = choice->failure.status == STATUS_OK ? progress.finish : FINISH_FAILED;
        completion->ended_count++;
        completion_adapt_give_back(completion);
        choice->generation = generation_unref(choice->generation);
        if (completion->beam_width > 0) {
            completion_wake(completion); /* others may have waited for its search */
        }
    }
    return length;
}

/* Makes room for a text of `bytes`, at most `bytes_max`. */
static bool grow_text(struct choice *choice, size_t bytes, size_t bytes_max)
{
    size_t capacity = 2 * bytes < bytes_max ? 2 * bytes : bytes_max;
    char *text = bytes <= choice->text_capacity ? choice->text : mem_reallocate(choice->text, capacity, 1);
    if (text != NULL && bytes > choice->text_capacity) {
        choice->text = text;
        choice->text_capacity = capacity;
    }
    return text != NULL;
}

/* Cuts the text where it may grow no more: at a place that does not depend on the pieces it comes in. */
static void append_text(struct choice *choice, const char *bytes, size_t length)
{
    size_t bytes_max = choice->completion->owner->server->settings.reply_bytes_max; /* may have become less */
    bool has_room = !choice->is_cut && choice->text_length < bytes_max;
    size_t fitting = has_room ? utf8_fitting(bytes, length, bytes_max - choice->text_length) : 0;
    if (fitting > 0 && grow_text(choice, choice->text_length + fitting, bytes_max)) {
        memcpy(choice->text + choice->text_length, bytes, fitting);
        choice->text_length += fitting;
    } else {
        fitting = 0;
    }
    if (fitting < length) {
        choice->is_cut = true;
        choice->taken_bytes -= length - fitting;
        generation_cancel(choice->generation);
    }
}

/* Reads all there is: into the text of FORM_JSON, or away when nobody listens. */
static void collect(struct choice *choice)
{
    char bytes[GENERATION_RING_BYTES];
    for (size_t length; (length = completion_read_choice(choice, bytes)) > 0;) {
        if (choice->completion->form == FORM_JSON && !choice->completion->is_abandoned) {
            append_text(choice, bytes, length);
            choice->shown_bytes = choice->text_length;
        }
    }
}

/* Nothing was sent yet: an ordinary error can still be told. */
static void fail_before_text(struct completion *completion, const struct choice *choice)
{
    struct error error;
    generation_failure(choice->generation, &error);
    completion->form = FORM_JSON;
    request_reply_error(completion->request, &error);
    completion_cancel(completion);
    for (size_t i = 0; i < completion->choice_count; i++) {
        collect(&completion->choices[i]);
    }
    completion_close_if_over(completion);
}

/* Begins the stream with the first text or the end; once begun, it has times of its own. */
static void advance_stream(struct completion *completion, const struct choice *choice)
{
    if (completion->is_started) {
        completion_time_text(completion, choice);
        return;
    }
    struct generation_progress progress = generation_progress(choice->generation);
    if (progress.finish == FINISH_FAILED && progress.readable_bytes == 0) {
        fail_before_text(completion, choice);
    } else if (progress.finish != FINISH_NONE || progress.readable_bytes > 0) {
        completion->flushed_ms = clock_now_ms();
        completion_reply_stream(completion);
    }
}

static void advance(struct choice *choice)
{
    struct completion *completion = choice->completion;
    if (choice->generation == NULL) {
        return;
    }
    measure_first(completion);
    if (completion->form == FORM_JSON || completion->is_abandoned) {
        collect(choice);
        if (completion->ended_count == completion->choice_count && !request_is_replied(completion->request) &&
            !completion->is_abandoned) {
            completion_reply_whole(completion);
        }
        completion_close_if_over(completion);
    } else {
        advance_stream(completion, choice);
    }
}

void completions_on_message(struct message *message)
{
    struct completions *completions =
        (struct completions *)(void *)((char *)message - offsetof(struct completions, message));
    if (completions->advancing == NULL) {
        pthread_mutex_lock(&completions->lock);
        completions->advancing = completions->queued;
        completions->queued = NULL;
        pthread_mutex_unlock(&completions->lock);
    }
    for (size_t i = 0; i < ADVANCES_A_TURN_MAX && completions->advancing != NULL; i++) {
        struct choice *choice = completions->advancing;
        pthread_mutex_lock(&completions->lock);
        completions->advancing = choice->next_queued;
        struct generation *generation = choice->queued_generation;
        choice->is_queued = false; /* from here on it may be queued again */
        pthread_mutex_unlock(&completions->lock);
        advance(choice);
        generation_unref(generation); /* keeps the choice until here */
    }
    pthread_mutex_lock(&completions->lock);
    bool has_more = completions->advancing != NULL || completions->queued != NULL;
    completions->is_posted = has_more;
    pthread_mutex_unlock(&completions->lock);
    if (has_more) {
        mailbox_post(completions->server->mailbox, &completions->message);
    }
}

void completion_on_stream_released(struct completion *completion)
{
    completion->is_started = false;
    if (completion->ended_count < completion->choice_count) {
        completion->is_abandoned = true;
        completion_cancel(completion);
        for (size_t i = 0; i < completion->choice_count; i++) {
            collect(&completion->choices[i]); /* those that ended meanwhile send no more progress */
        }
    }
    completion_close_if_over(completion);
}

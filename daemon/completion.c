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

enum { HALF_CLOSED_GRACE_MS = 2000, LOGPROBS_EVENT_BYTES = 64, ADVANCES_A_TURN_MAX = 64, YIELDS_FOR_A_TEXT = 4 };

static struct completion *completion_from(void *pointer)
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
    static const char *const names[] = {
        [FINISH_NONE] = "failed",         [FINISH_LENGTH] = "length",     [FINISH_STOP] = "stop",
        [FINISH_CANCELLED] = "cancelled", [FINISH_DEADLINE] = "deadline", [FINISH_FAILED] = "failed",
    };
    static_assert(sizeof names / sizeof *names == FINISH_REASON_COUNT, "one outcome for each reason");
    return completion->choice_count == 0 || !completion->is_submitted ? "refused"
                                                                      : names[completion->choices[0].finish];
}

static void observe(struct completion *completion, enum metric_histogram histogram, uint64_t nanoseconds)
{
    metrics_observe(completion->owner->server->metrics, histogram, (double)nanoseconds / 1e9);
}

static void measure(struct completion *completion)
{
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
        generation_unref(generations[i]); /* never the last: the queue holds one */
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

bool completion_has_more(const struct completion *completion)
{
    size_t open_count = 0;
    for (size_t i = 0; i < completion->choice_count; i++) {
        const struct choice *choice = &completion->choices[i];
        if (choice->generation == NULL) {
            continue;
        }
        if (choice->has_rest || generation_progress(choice->generation).finish != FINISH_NONE) {
            return true;
        }
        open_count++;
    }
    return open_count == 0 || completion->taken_pieces < open_count;
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
    choice->prompt_count = progress.prompt_count;
    choice->cached_count = progress.cached_count;
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

static void append_text(struct choice *choice, const char *bytes, size_t length)
{
    struct completion *completion = choice->completion;
    size_t needed = choice->text_length + length;
    size_t bytes_max = completion->owner->server->settings.reply_bytes_max;
    if (!choice->is_cut && needed > choice->text_capacity && needed <= bytes_max) {
        size_t capacity = 2 * needed < bytes_max ? 2 * needed : bytes_max;
        char *text = mem_reallocate(choice->text, capacity, 1);
        choice->text = text == NULL ? choice->text : text;
        choice->text_capacity = text == NULL ? choice->text_capacity : capacity;
    }
    if (choice->is_cut || needed > choice->text_capacity) {
        choice->is_cut = true;
        choice->taken_bytes -= length;
        generation_cancel(choice->generation);
        return;
    }
    memcpy(choice->text + choice->text_length, bytes, length);
    choice->text_length = needed;
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

static void on_timer(uv_timer_t *timer);

void completion_start_timer(struct completion *completion, uint64_t due_ms)
{
    uint64_t now_ms = clock_now_ms();
    if (completion->adapting != NULL && completion->form != FORM_JSON && now_ms <= completion->deadline_ms) {
        due_ms = due_ms <= completion->deadline_ms ? due_ms : completion->deadline_ms + 1; /* no batcher sees to that */
    }
    if (completion->grace_ms > now_ms && completion->grace_ms < due_ms) {
        due_ms = completion->grace_ms;
    }
    uv_timer_start(&completion->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 1, 0);
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

/* The stream takes what there is, now. */
static void let_take(struct completion *completion, uint64_t now_ms)
{
    completion->flushed_ms = now_ms;
    completion->is_due = true;
    completion->taken_pieces = 0;
    request_wake(completion->request);
}

static uint64_t text_due_ms(const struct completion *completion)
{
    return completion->flushed_ms + generate_request_flush_ms(&completion->fields, completion->owner->count);
}

static uint64_t ping_due_ms(const struct completion *completion)
{
    return completion->written_ms + completion_ping_ms(completion);
}

static uint64_t earlier(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

/* Wakes the stream at once for the first text and the end, else at most every flush_ms. */
static void wake_stream(struct completion *completion, const struct choice *choice)
{
    uint64_t now_ms = clock_now_ms();
    struct generation_progress progress = generation_progress(choice->generation);
    if (!completion->is_started) {
        if (progress.finish == FINISH_FAILED && progress.readable_bytes == 0) {
            fail_before_text(completion, choice);
        } else if (progress.finish != FINISH_NONE || progress.readable_bytes > 0) {
            completion->flushed_ms = now_ms;
            completion_reply_stream(completion);
        }
        return;
    }
    uint64_t due_ms = text_due_ms(completion);
    if (progress.finish != FINISH_NONE || progress.readable_bytes > GENERATION_RING_BYTES / 2 || now_ms >= due_ms) {
        let_take(completion, now_ms);
    } else if (progress.readable_bytes > 0) {
        completion_start_timer(completion, earlier(due_ms, ping_due_ms(completion)));
    }
}

static void advance(struct choice *choice)
{
    struct completion *completion = choice->completion;
    if (choice->generation == NULL) {
        return;
    }
    if (completion->first_ns == 0 && generation_progress(choice->generation).token_count > 0) {
        completion->first_ns = clock_now_ns();
        observe(completion, METRIC_TIME_TO_FIRST_TOKEN_SECONDS, completion->first_ns - completion->started_ns);
    }
    if (completion->form == FORM_JSON || completion->is_abandoned) {
        collect(choice);
        if (completion->ended_count == completion->choice_count && !request_is_replied(completion->request) &&
            !completion->is_abandoned) {
            completion_reply_whole(completion);
        }
        completion_close_if_over(completion);
    } else {
        wake_stream(completion, choice);
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

uint64_t completion_ping_ms(const struct completion *completion)
{
    uint64_t set_ms = completion->owner->server->settings.ping_seconds * 1000;
    bool may_have_left = request_is_half_closed(completion->request) && set_ms > HALF_CLOSED_GRACE_MS;
    return may_have_left ? HALF_CLOSED_GRACE_MS : set_ms;
}

/* Whether nothing is written before its end, or before its first text, that would tell whether the client has left. */
static bool is_mute(const struct completion *completion)
{
    bool has_written =
        completion->form == FORM_TEXT && completion->choice_count > 0 && completion->choices[0].taken_bytes > 0;
    return completion->is_waiting || completion->is_loading || (completion->form != FORM_EVENTS && !has_written);
}

static bool has_text(const struct completion *completion)
{
    for (size_t i = 0; i < completion->choice_count; i++) {
        const struct choice *choice = &completion->choices[i];
        if (choice->generation != NULL && generation_progress(choice->generation).readable_bytes > 0) {
            return true;
        }
    }
    return false;
}

/* Text is due to be flushed, the stream has been silent long enough for a comment, or what it waits for takes too
 * long. */
static void on_timer(uv_timer_t *timer)
{
    struct completion *completion = completion_from(timer->data);
    if (completion->is_over) {
        return;
    }
    if (completion->is_waiting && !request_is_half_closed(completion->request)) {
        completion_stop_waiting(completion, FINISH_DEADLINE);
        return;
    }
    if (completion->is_in_job) { /* what it becomes is not known yet */
        completion_start_timer(completion, clock_now_ms() + HALF_CLOSED_GRACE_MS);
        return;
    }
    uint64_t now_ms = clock_now_ms();
    bool is_grace_over = completion->grace_ms != 0 && now_ms >= completion->grace_ms;
    if (is_grace_over && is_mute(completion)) {
        completion->is_given_up = true;
        completion_cancel(completion);
        return;
    }
    if (completion->form == FORM_JSON) {
        return; /* what was moved up for a stream, before an error was told instead */
    }
    if (!completion->is_started && !completion->is_abandoned) {
        completion_reply_stream(completion);
    }
    if (completion->adapting != NULL && now_ms > completion->deadline_ms) {
        completion_wake(completion);
    }
    completion->wants_ping = now_ms >= ping_due_ms(completion);
    uint64_t next_ms = completion->wants_ping ? now_ms + completion_ping_ms(completion) : ping_due_ms(completion);
    if (now_ms >= text_due_ms(completion)) {
        let_take(completion, now_ms);
    } else {
        next_ms = has_text(completion) ? earlier(next_ms, text_due_ms(completion)) : next_ms;
        request_wake(completion->request);
    }
    completion_start_timer(completion, next_ms);
}

void completion_on_gone(void *context, struct request *request)
{
    struct completion *completion = completion_from(context);
    if (request_is_half_closed(request)) {
        bool is_silent = completion->is_submitted && uv_timer_get_due_in(&completion->timer) > HALF_CLOSED_GRACE_MS;
        completion->grace_ms = clock_now_ms() + HALF_CLOSED_GRACE_MS;
        if (is_mute(completion) || is_silent) {
            completion_start_timer(completion, completion->grace_ms);
        }
        return; /* of a stream, the next writes tell whether anybody reads */
    }
    completion->is_abandoned = true;
    completion_cancel(completion);
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

/* What a completion does when its time has come: text that is due and comments of its stream, the deadline of an
 * adapting text, the end of a wait for a turn, and of the grace of a client that closed its side. There is one timer,
 * for whichever comes first. Thread: loop. Owns nothing. */
#include "daemon/completion_private.h"

#include "engine/base/clock.h"

enum { HALF_CLOSED_GRACE_MS = 2000 };

static const uint64_t never_ms = UINT64_MAX;

static uint64_t earlier(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

static void on_timer(uv_timer_t *timer);

void completion_start_timer(struct completion *completion, uint64_t due_ms)
{
    uint64_t now_ms = clock_now_ms();
    if (completion->adapting != NULL && completion->form != FORM_JSON && now_ms <= completion->deadline_ms) {
        due_ms = earlier(due_ms, completion->deadline_ms + 1); /* no batcher sees to that */
    }
    if (completion->is_waiting) {
        due_ms = earlier(due_ms, completion->deadline_ms);
    }
    if (completion->grace_ms > now_ms) {
        due_ms = earlier(due_ms, completion->grace_ms);
    }
    uv_timer_start(&completion->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 1, 0);
}

uint64_t completion_ping_ms(const struct completion *completion)
{
    uint64_t set_ms = completion->owner->server->settings.ping_seconds * 1000;
    bool may_have_left = request_is_half_closed(completion->request) && set_ms > HALF_CLOSED_GRACE_MS;
    return may_have_left ? HALF_CLOSED_GRACE_MS : set_ms;
}

static uint64_t ping_due_ms(const struct completion *completion)
{
    return completion->written_ms + completion_ping_ms(completion);
}

static uint64_t text_due_ms(const struct completion *completion)
{
    return completion->flushed_ms + generate_request_flush_ms(&completion->fields, completion->owner->count);
}

/* The stream takes what there is, now. */
static void let_take(struct completion *completion, uint64_t now_ms)
{
    completion->flushed_ms = now_ms;
    completion->is_due = true;
    completion->taken_pieces = 0;
    request_wake(completion->request);
}

void completion_time_text(struct completion *completion, const struct choice *choice)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t due_ms = text_due_ms(completion);
    struct generation_progress progress = generation_progress(choice->generation);
    if (progress.finish != FINISH_NONE || progress.readable_bytes > GENERATION_RING_BYTES / 2 || now_ms >= due_ms) {
        let_take(completion, now_ms);
    } else if (progress.readable_bytes > 0) {
        completion_start_timer(completion, earlier(due_ms, ping_due_ms(completion)));
    }
}

void completion_time_rest(struct completion *completion, const struct choice *choice)
{
    if (generation_progress(choice->generation).readable_bytes > 0) {
        completion_start_timer(completion, earlier(text_due_ms(completion), ping_due_ms(completion)));
    }
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

/* Its stream's text or comment is due, its first headers, or an adapting text's end. */
static void serve_stream(struct completion *completion, uint64_t now_ms)
{
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

/* libuv's time and clock_now_ms are not the same to the millisecond: what is not due yet is waited for again. */
static void on_timer(uv_timer_t *timer)
{
    struct completion *completion = completion_from(timer->data);
    uint64_t now_ms = clock_now_ms();
    if (completion->is_over) {
        return;
    }
    if (completion->is_waiting && now_ms >= completion->deadline_ms) {
        completion_stop_waiting(completion, FINISH_DEADLINE);
        return;
    }
    if (completion->is_in_job) { /* what it becomes is not known yet */
        completion_start_timer(completion, now_ms + HALF_CLOSED_GRACE_MS);
        return;
    }
    bool is_grace_over = completion->grace_ms != 0 && now_ms >= completion->grace_ms;
    if (is_grace_over && is_mute(completion)) {
        completion->is_given_up = true;
        completion_cancel(completion);
        return;
    }
    if (completion->is_waiting || completion->is_loading || completion->form == FORM_JSON) {
        completion_start_timer(completion, never_ms); /* but for its deadline and its grace */
        return;
    }
    serve_stream(completion, now_ms);
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

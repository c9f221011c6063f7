/* The beginning of a completion: body → fields → snapshot → symbols → generations → batcher. Thread: loop; parsing a
 * large body and encoding a large prompt happen on a run thread, which then alone touches the fields and the choices
 * (is_in_job). */
#include "daemon/completion_private.h"

#include "daemon/api.h"
#include "daemon/fields.h"
#include "daemon/log.h"
#include "daemon/registry.h"
#include "daemon/routes.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

static void refuse(struct completion *completion, const struct error *error)
{
    if (!request_is_replied(completion->request)) {
        request_reply_error(completion->request, error);
    }
    completion_close_if_over(completion);
}

static void encode_job(struct job *job)
{
    struct completion *completion = (struct completion *)job; /* its first member */
    completion->status = completion_adapt_open(completion, &completion->error);
    if (completion->status == STATUS_OK) {
        completion->status = completion_make_generations(completion, &completion->error);
    }
}

/* Drops generations that were made but not submitted, as ended. */
static void drop_generations(struct completion *completion)
{
    for (size_t i = 0; i < completion->choice_count; i++) {
        struct choice *choice = &completion->choices[i];
        if (choice->finish == FINISH_NONE) {
            choice->finish = FINISH_CANCELLED;
            completion->ended_count++;
            completion->references += choice->generation != NULL; /* given back by on_generation_released */
            choice->generation = generation_unref(choice->generation);
        }
    }
}

/* What the job came to, and CANCELLED where the client left meanwhile. */
static enum status end_job(struct completion *completion, struct error *error)
{
    completion->is_in_job = false;
    if (completion->status != STATUS_OK) {
        *error = completion->error;
        return completion->status;
    }
    return completion->is_abandoned ? error_set(error, STATUS_CANCELLED, "the client left") : STATUS_OK;
}

/* Only where the operator asked for texts in the log. */
static void log_prompts(const struct completion *completion)
{
    for (size_t i = 0; completion->owner->server->settings.log_text && i < completion->fields.prompt_count; i++) {
        const char *text = generate_request_prompt(&completion->fields, i).text;
        log_event(LOG_LEVEL_INFO, "prompt", text == NULL ? "(symbols)" : text, "id=%s model=%s",
                  request_id(completion->request), completion->model);
    }
}

static void submit(struct completion *completion)
{
    struct server *server = completion->owner->server;
    struct error error;
    enum status status = end_job(completion, &error);
    if (status == STATUS_OK) {
        log_prompts(completion);
        status = completion_admit(completion, &error);
    }
    if (status == STATUS_OK && completion->adapting == NULL) {
        status = batcher_reserve(server->batcher, completion->choice_count, &error);
    }
    if (status != STATUS_OK) {
        drop_generations(completion);
        refuse(completion, &error);
        return;
    }
    for (size_t i = 0; i < completion->choice_count; i++) {
        if (completion->adapting == NULL) {
            batcher_submit_reserved(server->batcher, completion->choices[i].generation);
        } else {
            completion_adapt_start(completion);
        }
        completion->references++;
    }
    completion->is_submitted = true;
    if (completion->wants_cancel) {
        completion_cancel(completion);
    }
    if (completion->form != FORM_JSON) {
        completion_start_timer(completion, clock_now_ms() + completion_ping_ms(completion));
    } else if (request_is_half_closed(completion->request)) { /* perhaps while it waited */
        completion_on_gone(completion, completion->request);
    }
}

static void on_encoded(struct job *job)
{
    submit((struct completion *)job);
}

/* A request field's default in the model's settings: {"generation":{"temperature":…},"unknown_symbols":…,"start":…}.
 * A copy that lives as long as the completion: the settings may be read again meanwhile. */
static const json_t *model_setting(struct completion *completion, const char *name)
{
    const struct registry *registry = completion->owner->server->registry;
    const char *model = snapshot_model_name(completion->snapshot);
    const json_t *value = registry_setting(registry, model, name);
    if (value == NULL) {
        value = json_object_get(registry_setting(registry, model, "generation"), name);
    }
    if (value != NULL) {
        json_object_set_new(completion->defaults, name, json_deep_copy(value));
    }
    return json_object_get(completion->defaults, name);
}

/* What does not go with a beam search, which samples nothing and is done at the end. */
struct beam_rule {
    const char *param;
    bool is_neutral; /* as it is, it changes nothing */
};
enum { BEAM_RULE_COUNT = 12 };

static void list_beam_rules(const struct completion *completion, struct beam_rule ret_rules[BEAM_RULE_COUNT])
{
    const struct generate_request *fields = &completion->fields;
    const struct beam_rule rules[BEAM_RULE_COUNT] = {
        {"temperature", fields->temperature == 0 || fields->temperature == 1},
        {"top_k", fields->top_k == 0},
        {"top_p", fields->top_p == 1},
        {"min_p", fields->min_p == 0},
        {"typical_p", fields->typical_p == 0 || fields->typical_p == 1},
        {"repetition_penalty", fields->repetition_penalty == 1},
        {"frequency_penalty", fields->frequency_penalty == 0},
        {"presence_penalty", fields->presence_penalty == 0},
        {"logit_bias", json_object_size(fields->logit_bias) == 0},
        {"stop", fields->stop_count == 0},
        {"stream", completion->form == FORM_JSON},
        {"messages", completion->door != DOOR_CHAT}, /* a stop string ends their reply */
    };
    memcpy(ret_rules, rules, sizeof rules);
}

/* Whether what the caller asked for goes with a beam search. */
static enum status check_beam(const struct completion *completion, struct error *error)
{
    struct beam_rule rules[BEAM_RULE_COUNT];
    list_beam_rules(completion, rules);
    for (size_t i = 0; completion->fields.use_beam_search && i < BEAM_RULE_COUNT; i++) {
        if (!rules[i].is_neutral) {
            error_set(error, STATUS_INVALID,
                      "%s does not go with use_beam_search: its texts are the likeliest, known at the end, and end by "
                      "max_tokens or a pattern",
                      rules[i].param);
            snprintf(error->param, sizeof error->param, "%s", rules[i].param);
            return STATUS_INVALID;
        }
    }
    return STATUS_OK;
}

/* Whether a model's default of a field is for this request: those of sampling are not for a beam search. */
static bool takes_default(const struct completion *completion, const char *name)
{
    struct beam_rule rules[BEAM_RULE_COUNT];
    list_beam_rules(completion, rules);
    for (size_t i = 0; completion->fields.use_beam_search && i < BEAM_RULE_COUNT; i++) {
        if (strcmp(rules[i].param, name) == 0) {
            return false;
        }
    }
    return true;
}

static enum status apply_model_settings(struct completion *completion, struct error *error)
{
    struct generate_request *fields = &completion->fields;
    completion->defaults = json_object();
    const char *name;
    for (size_t i = 0; (name = generate_request_default_name(i)) != NULL; i++) {
        if (takes_default(completion, name)) {
            TRY(generate_request_default(fields, name, model_setting(completion, name), error));
        }
    }
    if (completion->door == DOOR_CHAT) { /* laid with the rest of the prompt's encoding */
        model_setting(completion, "chat_template");
        model_setting(completion, "start");
        fields->prompt_count = 1;
        return STATUS_OK;
    }
    if (completion_is_prompt_empty(completion)) {
        model_setting(completion, "start");
        completion_fill_prompt(completion);
    }
    return STATUS_OK;
}

/* Whether the reply has room for what is asked. */
static enum status check_form(const struct completion *completion, struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    uint64_t choices_max = completion->owner->server->settings.choices_max;
    size_t count = fields->prompt_count * (size_t)fields->best_of;
    const char *param = NULL;
    if (count > choices_max) {
        param = fields->best_of > fields->n ? "best_of" : "n";
        error_set(error, STATUS_INVALID, "%zu prompts × %s %lld are %zu texts, at most %llu", fields->prompt_count,
                  param, (long long)fields->best_of, count, (unsigned long long)choices_max);
    } else if (completion->form == FORM_TEXT && count > 1) {
        param = "n";
        error_set(error, STATUS_INVALID, "bare text takes one prompt and n 1, not %zu texts", count);
    } else if (completion->form == FORM_TEXT && generate_request_is_given(fields, "logprobs")) {
        param = "logprobs";
        error_set(error, STATUS_INVALID, "bare text has no place for logprobs");
    } else if (completion->form == FORM_EVENTS && fields->best_of > fields->n) {
        param = "best_of";
        error_set(error, STATUS_INVALID, "the best of %lld cannot be streamed: they are known at the end",
                  (long long)fields->best_of);
    }
    if (param == NULL) {
        return STATUS_OK;
    }
    snprintf(error->param, sizeof error->param, "%s", param);
    return STATUS_INVALID;
}

static enum status prepare(struct completion *completion, struct error *error)
{
    struct server *server = completion->owner->server;
    struct generate_request *fields = &completion->fields;
    const char *reference = completion->model[0] == '\0' ? fields->model : completion->model;
    const struct caller *caller = request_caller(completion->request);
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    TRY(completion_take_state(completion, &reference, model, error));
    enum status found = caller_resolve(server->registry, caller, reference, &completion->snapshot, error);
    TRY(completion_check_version(completion, found, error));
    snprintf(completion->model, sizeof completion->model, "%s", snapshot_full_name(completion->snapshot));
    bool is_seed_given = generate_request_is_given(fields, "seed"); /* by the caller */
    completion->form = fields->stream ? FORM_EVENTS : completion->form;
    TRY(check_beam(completion, error));
    TRY(apply_model_settings(completion, error));
    completion_choose_seed(completion, is_seed_given);
    TRY(check_form(completion, error));
    if (fields->use_beam_search) { /* the width is no number of texts */
        completion->beam_width = (size_t)fields->best_of;
        fields->best_of = fields->n;
    }
    completion->choice_count = fields->prompt_count * (size_t)fields->best_of;
    completion->choices = mem_allocate(completion->choice_count, sizeof *completion->choices);
    if (completion->choices == NULL) {
        error_set(error, STATUS_NO_MEMORY, "no memory for a request of %zu texts", completion->choice_count);
        completion->choice_count = 0;
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < completion->choice_count; i++) {
        completion->choices[i].completion = completion;
        completion->choices[i].index = i;
    }
    completion_set_deadline(completion);
    return STATUS_OK;
}

void completion_set_deadline(struct completion *completion)
{
    uint64_t started_ms = completion->started_ns / 1000000;
    uint64_t latest_ms = api_deadline_ms(completion->owner->server, completion->request);
    uint64_t asked_ms = (uint64_t)completion->fields.deadline_ms;
    bool is_sooner = asked_ms > 0 && asked_ms < latest_ms - started_ms;
    completion->deadline_ms = is_sooner ? started_ms + asked_ms : latest_ms;
}

void completion_stop_waiting(struct completion *completion, enum finish_reason finish)
{
    struct error error;
    completion->is_waiting = false;
    enum status status =
        completion->is_abandoned ? error_set(&error, STATUS_CANCELLED, "the client left") : prepare(completion, &error);
    completion_leave_session(completion);
    if (status != STATUS_OK) {
        drop_generations(completion);
        refuse(completion, &error);
        return;
    }
    for (size_t i = 0; i < completion->choice_count; i++) {
        completion->choices[i].finish = finish;
    }
    completion->ended_count = completion->choice_count;
    completion->is_submitted = true;
    if (completion->form == FORM_JSON) {
        completion_reply_whole(completion);
    } else {
        completion_reply_stream(completion);
    }
    completion_close_if_over(completion);
}

void completion_stop_loading(struct completion *completion, const struct error *error)
{
    registry_stop_waiting(completion->owner->server->registry, completion);
    completion->is_loading = false;
    uv_timer_stop(&completion->timer);
    refuse(completion, error);
}

/* Whether encoding its prompt, taking up what it goes on from, or making room for a search or a copy that learns takes
 * too long for the loop. */
static bool is_large(const struct completion *completion)
{
    const struct generate_request *fields = &completion->fields;
    size_t length;
    request_body(completion->request, &length);
    size_t state_bytes = completion->from == NULL ? 0 : text_state_bytes(completion->from);
    return length > FIELDS_INLINE_BYTES_MAX || completion_chat_bytes(completion) > FIELDS_INLINE_BYTES_MAX ||
           fields->prompt_bytes > FIELDS_INLINE_BYTES_MAX || state_bytes > FIELDS_INLINE_BYTES_MAX ||
           fields->pattern != NULL || fields->use_beam_search || completion->adapting != NULL;
}

void completion_begin(struct completion *completion)
{
    struct server *server = completion->owner->server;
    struct error error;
    enum status status = prepare(completion, &error);
    if (status == STATUS_UNAVAILABLE && completion->wants_cancel) { /* while its body was read */
        status = error_set(&error, STATUS_CANCELLED, "the request was cancelled");
    } else if (status == STATUS_UNAVAILABLE && completion_wait_for_load(completion, &error)) {
        return;
    }
    if (status == STATUS_OK && !completion->adapts) { /* before its texts cost anything: the refused may be many */
        status = batcher_check_room(server->batcher, completion->choice_count, &error);
    }
    if (status == STATUS_OK) {
        status = completion_adapt_begin(completion, &error);
    }
    if (status == STATUS_OK && is_large(completion)) {
        completion->job.run = encode_job;
        completion->job.done = on_encoded;
        status = workers_submit(server->run, &completion->job, &error);
        completion->is_in_job = status == STATUS_OK;
        if (status == STATUS_OK) {
            return;
        }
    }
    if (status != STATUS_OK) {
        drop_generations(completion);
        refuse(completion, &error);
        return;
    }
    completion->status = completion_make_generations(completion, &completion->error);
    submit(completion);
}

/* The fields are read: into the session, if there is one, and on. */
static void parsed(struct job *job)
{
    struct completion *completion = (struct completion *)job;
    struct error error;
    enum status status = end_job(completion, &error);
    if (status == STATUS_OK) {
        status = completion_enter_session(completion, &error);
    }
    if (status != STATUS_OK) {
        refuse(completion, &error);
    } else if (completion->is_waiting && completion->wants_cancel) {
        completion_stop_waiting(completion, FINISH_CANCELLED);
    } else if (!completion->is_waiting) {
        completion_begin(completion);
    }
}

static void parse_job(struct job *job)
{
    struct completion *completion = (struct completion *)job;
    size_t length;
    const char *body = request_body(completion->request, &length);
    completion->status = STATUS_OK;
    if (completion->object == NULL) {
        completion->status = fields_parse(body, length, &completion->object, &completion->error);
    }
    if (completion->status == STATUS_OK && completion->door == DOOR_SCORE) {
        json_t *given = completion->object;
        completion->status = completion_score_translate(given, &completion->object, &completion->error);
        if (completion->status == STATUS_OK) {
            json_decref(given);
        }
    }
    if (completion->status == STATUS_OK && completion->door == DOOR_CHAT) {
        completion->status = completion_chat_translate(completion, &completion->error);
    }
    if (completion->status == STATUS_OK && completion->door == DOOR_OIP) {
        completion->status = completion_oip_translate(completion, &completion->error);
    }
    if (completion->status == STATUS_OK) {
        completion->status =
            generate_request_read(&completion->fields, completion->object, completion->door, &completion->error);
    }
    if (completion->status == STATUS_OK) {
        completion->status = completion_read_state(completion, &completion->error);
    }
}

static struct completion *completion_create(struct completions *completions, struct request *request,
                                            const struct completion_order *order)
{
    struct completion *completion = mem_allocate(1, sizeof *completion);
    if (completion == NULL) {
        return NULL;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    completion->magic = COMPLETION_MAGIC;
    completion->references = 2;
    completion->owner = completions;
    completion->request = request;
    completion->object = order->query;
    completion->door = order->door;
    completion->form = order->form;
    completion->created = now.tv_sec;
    completion->started_ns = request_started_ns(request);
    completion->written_ms = clock_now_ms();
    snprintf(completion->model, sizeof completion->model, "%s", order->model == NULL ? "" : order->model);
    uv_timer_init(&completions->server->loop, &completion->timer);
    completion->timer.data = completion;
    completion->next = completions->first;
    completion->link = &completions->first;
    if (completion->next != NULL) {
        completion->next->link = &completion->next;
    }
    completions->first = completion;
    completions->count++;
    request_hold(request, completion_on_gone, completion);
    return completion;
}

void completion_start(struct completions *completions, struct request *request, const struct completion_order *order)
{
    struct error error;
    struct completion *completion = completion_create(completions, request, order);
    if (completion == NULL) {
        json_decref(order->query);
        error_set(&error, STATUS_NO_MEMORY, "no memory for a request");
        request_reply_error(request, &error);
        return;
    }
    size_t length;
    request_body(request, &length);
    if (order->query != NULL || length <= FIELDS_INLINE_BYTES_MAX) {
        parse_job(&completion->job);
        parsed(&completion->job);
        return;
    }
    completion->job.run = parse_job;
    completion->job.done = parsed;
    completion->is_in_job = true;
    if (workers_submit(completions->server->run, &completion->job, &error) != STATUS_OK) {
        completion->is_in_job = false;
        refuse(completion, &error);
    }
}

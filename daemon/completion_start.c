/* The beginning of a completion: body → fields → snapshot → symbols → generations → batcher. Thread: loop; parsing a
 * large body and encoding a large prompt happen on a run thread, which then alone touches the fields and the choices
 * (is_in_job). */
#include "daemon/completion_private.h"

#include "daemon/fields.h"
#include "daemon/log.h"
#include "daemon/registry.h"
#include "daemon/routes.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

static void refuse(struct completion *completion, const struct error *error)
{
    if (!request_is_replied(completion->request)) {
        request_reply_error(completion->request, error);
    }
    completion_close_if_over(completion);
}

static enum status encode_prompt(struct completion *completion, const struct generate_prompt *prompt, uint32_t *symbols,
                                 size_t *ret_count, struct error *error)
{
    struct vocabulary *vocabulary = snapshot_vocabulary(completion->snapshot);
    if (prompt->text != NULL) {
        enum unknown_symbols unknown =
            completion->is_default_start ? UNKNOWN_SYMBOLS_SKIP : completion->fields.unknown_symbols;
        enum status status =
            vocabulary_encode(vocabulary, prompt->text, prompt->length, unknown, symbols, ret_count, error);
        if (status == STATUS_OK && *ret_count == 0 && completion->is_default_start) {
            symbols[0] = 0; /* a model without a line break: its first symbol */
            *ret_count = 1;
        }
        return status;
    }
    size_t index;
    json_t *value;
    json_array_foreach(prompt->symbols, index, value)
    {
        symbols[index] = (uint32_t)json_integer_value(value);
        if (symbols[index] >= vocabulary_size(vocabulary)) {
            return error_set(error, STATUS_INVALID, "prompt symbol %zu is %u, the vocabulary has %zu", index,
                             symbols[index], vocabulary_size(vocabulary));
        }
    }
    *ret_count = json_array_size(prompt->symbols);
    return STATUS_OK;
}

/* What is encoded of a request: the same memory for one prompt after another, and for all of them. */
struct encoded {
    uint32_t *symbols;
    size_t count;
    struct penalty_bias *biases;
    size_t bias_count;
};

/* To be told, or to find the likeliest by. */
static bool wants_logprobs(const struct generate_request *fields)
{
    return generate_request_is_given(fields, "logprobs") || fields->best_of > fields->n;
}

static enum status create_generation(struct completion *completion, struct choice *choice,
                                     const struct encoded *encoded, size_t index_of_n, struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    struct generation_options options = {
        .prompt = encoded->symbols,
        .prompt_count = encoded->count,
        .tokens_max = (size_t)fields->max_tokens,
        .temperature = fields->temperature,
        .top_k = (size_t)fields->top_k,
        .top_p = fields->top_p,
        .min_p = fields->min_p,
        .typical_p = fields->typical_p,
        .penalties = {.repetition = fields->repetition_penalty,
                      .repetition_window = (size_t)fields->repetition_window,
                      .frequency = fields->frequency_penalty,
                      .presence = fields->presence_penalty,
                      .biases = encoded->biases,
                      .bias_count = encoded->bias_count},
        .state = completion->from,
        .origin = snapshot_origin(completion->snapshot),
        .want_state = completion_wants_states(completion),
        .cache = completion->owner->server->prompt_cache,
        .cache_owner = completion_owner(completion),
        .seed = completion->seed,
        .choice = index_of_n + (completion->from == NULL ? 0 : text_state_head(completion->from)->choice),
        .stop = fields->stop,
        .stop_lengths = fields->stop_lengths,
        .stop_count = fields->stop_count,
        .tokens_min = (size_t)fields->min_tokens,
        .priority = (enum generation_priority)fields->priority,
        .want_echo = fields->echo,
        .want_logprobs = wants_logprobs(fields),
        .want_prompt_logprobs = completion->door == DOOR_SCORE,
        .top_logprobs = (size_t)fields->logprobs,
        .is_read_whole = completion->form == FORM_JSON,
        .deadline_ms = completion->deadline_ms,
        .owner = choice,
    };
    return generation_create(snapshot_decode_plan(completion->snapshot), snapshot_vocabulary(completion->snapshot),
                             &options, choice, completion_release_choice, &choice->generation, error);
}

/* Whether there is room for the log-probabilities of `count` symbols, all texts together. */
static enum status check_logprobs(const struct generate_request *fields, size_t count, struct error *error)
{
    const char *field = generate_request_is_given(fields, "logprobs") ? "logprobs" : "best_of";
    if (!wants_logprobs(fields) || count <= GENERATION_LOGPROBS_MAX) {
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "%s needs the log-probabilities of up to %zu symbols, at most %d", field, count,
              GENERATION_LOGPROBS_MAX);
    snprintf(error->param, sizeof error->param, "%s", field);
    return STATUS_INVALID;
}

/* Encodes the prompt of that number: what is to be read, whole. */
static enum status take_prompt(struct completion *completion, size_t index, struct encoded *encoded,
                               struct error *error)
{
    struct generate_prompt prompt = generate_request_prompt(&completion->fields, index);
    TRY(encode_prompt(completion, &prompt, encoded->symbols, &encoded->count, error));
    if (completion->door == DOOR_SCORE) {
        return completion_score_prompt(completion, index, encoded->symbols, &encoded->count, error);
    }
    bool is_empty = encoded->count == 0 && completion->from == NULL;
    if (is_empty || encoded->count > GENERATION_PROMPT_SYMBOLS_MAX) {
        return error_set(error, STATUS_INVALID, "prompt has %zu known symbols, it takes 1 to %d", encoded->count,
                         GENERATION_PROMPT_SYMBOLS_MAX);
    }
    return STATUS_OK;
}

/* The error is about that prompt, by its name in the request. */
static void name_prompt(const struct completion *completion, size_t index, struct error *error)
{
    if (completion->door != DOOR_SCORE) {
        snprintf(error->param, sizeof error->param, completion->door == DOOR_CHAT ? "messages" : "prompt");
    } else if (index == 0) {
        snprintf(error->param, sizeof error->param, "/text");
    } else {
        snprintf(error->param, sizeof error->param, "/candidates/%zu", index - 1);
    }
}

static enum status create_generations_of(struct completion *completion, struct encoded *encoded, struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    size_t written_max = 0;
    for (size_t i = 0; i < fields->prompt_count; i++) {
        enum status status = take_prompt(completion, i, encoded, error);
        if (status != STATUS_OK) {
            name_prompt(completion, i, error);
            return status;
        }
        written_max += (size_t)fields->best_of * ((size_t)fields->max_tokens + (fields->echo ? encoded->count : 0));
        TRY(check_logprobs(fields, written_max, error));
        completion->predicted_symbols += (uint64_t)fields->best_of * (completion_replayed_count(completion) +
                                                                      encoded->count + (uint64_t)fields->max_tokens);
        for (size_t j = 0; j < (size_t)fields->best_of; j++) {
            struct choice *choice = &completion->choices[i * (size_t)fields->best_of + j];
            TRY(create_generation(completion, choice, encoded, j, error));
        }
    }
    return STATUS_OK;
}

/* Encodes every prompt and makes its generations. Thread: loop or run. */
static enum status create_generations(struct completion *completion, struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    size_t longest = 0, context = 0;
    for (size_t i = 0; i < fields->prompt_count; i++) {
        struct generate_prompt prompt = generate_request_prompt(fields, i);
        size_t length = prompt.text != NULL ? prompt.length : json_array_size(prompt.symbols);
        longest = length > longest ? length : longest;
        context = i == 0 && completion->door == DOOR_SCORE ? length : context;
    }
    size_t bias_count = json_object_size(fields->logit_bias);
    struct encoded encoded = {
        .symbols = mem_allocate(context + longest, sizeof *encoded.symbols),
        .biases = mem_allocate(bias_count, sizeof *encoded.biases),
    };
    enum status status = STATUS_OK;
    if (encoded.symbols == NULL || encoded.biases == NULL) {
        status = error_set(error, STATUS_NO_MEMORY,
                           "no memory for a prompt of %zu bytes and a logit_bias of %zu symbols", longest, bias_count);
    } else {
        const struct vocabulary *vocabulary = snapshot_vocabulary(completion->snapshot);
        status = generate_request_biases(fields, vocabulary, encoded.biases, &encoded.bias_count, error);
    }
    if (status == STATUS_OK) {
        status = create_generations_of(completion, &encoded, error);
    }
    mem_free(encoded.symbols);
    mem_free(encoded.biases);
    return status;
}

static void encode_job(struct job *job)
{
    struct completion *completion = (struct completion *)job; /* its first member */
    completion->status = create_generations(completion, &completion->error);
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

static void submit(struct completion *completion)
{
    struct server *server = completion->owner->server;
    struct error error = completion->error;
    enum status status = completion->status;
    completion->is_in_job = false;
    if (status == STATUS_OK && completion->is_abandoned) {
        status = error_set(&error, STATUS_CANCELLED, "the client left");
    }
    if (status == STATUS_OK) {
        status = completion_admit(completion, &error);
    }
    if (status != STATUS_OK) {
        drop_generations(completion);
        refuse(completion, &error);
        return;
    }
    for (size_t i = 0; i < completion->choice_count; i++) {
        struct choice *choice = &completion->choices[i];
        status = batcher_submit(server->batcher, choice->generation, &error);
        if (status != STATUS_OK) { /* those before it are cancelled, and end by themselves */
            for (size_t j = i; j < completion->choice_count; j++) {
                completion->choices[j].finish = FINISH_CANCELLED;
                completion->ended_count++;
                completion->references++;
                completion->choices[j].generation = generation_unref(completion->choices[j].generation);
            }
            completion->form = FORM_JSON;
            completion->is_submitted = true;
            request_reply_error(completion->request, &error);
            completion_cancel(completion);
            completion_close_if_over(completion);
            return;
        }
        completion->references++;
    }
    completion->is_submitted = true;
    if (completion->wants_cancel) {
        completion_cancel(completion);
    }
    if (completion->form != FORM_JSON) {
        completion_start_timer(completion, clock_now_ms() + server->settings.ping_seconds * 1000);
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

static enum status apply_model_settings(struct completion *completion, struct error *error)
{
    struct generate_request *fields = &completion->fields;
    completion->defaults = json_object();
    const char *name;
    for (size_t i = 0; (name = generate_request_default_name(i)) != NULL; i++) {
        TRY(generate_request_default(fields, name, model_setting(completion, name), error));
    }
    if (completion->door == DOOR_CHAT) {
        TRY(completion_chat_lay(completion, model_setting(completion, "chat_template"), error));
    }
    bool is_empty =
        fields->prompt_count == 0 || (fields->prompt_count == 1 && generate_request_prompt(fields, 0).text != NULL &&
                                      generate_request_prompt(fields, 0).length == 0);
    if (is_empty && completion->from != NULL) { /* it just goes on */
        fields->prompts = NULL;
        fields->prompt = (struct generate_prompt){.text = "", .length = 0};
        fields->prompt_count = 1;
    } else if (is_empty) {
        const json_t *start = model_setting(completion, "start");
        bool has_start = json_is_string(start) && json_string_length(start) > 0;
        const char *text = has_start ? json_string_value(start) : "\n";
        completion->is_default_start = !has_start;
        fields->prompts = NULL;
        fields->prompt = (struct generate_prompt){.text = text, .length = strlen(text)};
        fields->prompt_count = 1;
        fields->echo = false; /* it is not the caller's text */
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
    TRY(apply_model_settings(completion, error));
    completion_choose_seed(completion, is_seed_given);
    completion->form = fields->stream ? FORM_EVENTS : completion->form;
    TRY(check_form(completion, error));
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
    uint64_t limit_ms = server->settings.request_seconds_max * 1000;
    uint64_t asked_ms = fields->deadline_ms > 0 ? (uint64_t)fields->deadline_ms : limit_ms;
    completion->deadline_ms = completion->started_ms + (asked_ms < limit_ms ? asked_ms : limit_ms);
    return STATUS_OK;
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

static void parsed(struct job *job);

static void on_granted(struct session_turn *turn)
{
    parsed(&completion_of_turn(turn)->job);
}

/* The fields are read: find the model, turn the prompts into symbols. */
static void parsed(struct job *job)
{
    struct completion *completion = (struct completion *)job;
    struct server *server = completion->owner->server;
    struct error error = completion->error;
    enum status status = completion->status;
    completion->is_in_job = false;
    if (status == STATUS_OK && completion->session_turn.session == NULL) {
        status = completion_enter_session(completion, on_granted, &error);
        completion->is_in_job = completion->session_turn.session != NULL && !completion->session_turn.is_inside;
    }
    if (completion->is_in_job) { /* it waits for its turn, which comes here again */
        return;
    }
    if (status == STATUS_OK) {
        status = prepare(completion, &error);
    }
    if (status == STATUS_OK) {
        log_prompts(completion);
    }
    if (status == STATUS_OK && completion->fields.prompt_bytes > FIELDS_INLINE_BYTES_MAX) {
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
    completion->status = create_generations(completion, &completion->error);
    submit(completion);
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
    if (completion->status == STATUS_OK) {
        completion->status =
            generate_request_read(&completion->fields, completion->object, completion->door, &completion->error);
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
    completion->started_ms = request_started_ms(request);
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

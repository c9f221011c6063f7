/* From the prompts of a request to generations: symbols, options, and whether there is room for what they note. Thread:
 * loop, or a run thread for large prompts (is_in_job). Owns nothing. */
#include "daemon/completion_private.h"

#include "engine/base/mem.h"

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
    struct constraint *constraint; /* NULL: any text */
    struct beam *beam;             /* of one prompt; NULL: its texts are sampled */
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
        .constraint = encoded->constraint,
        .beam = encoded->beam,
        .beam_rank = index_of_n,
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
        .flow = completion_flow(completion),
        .want_echo = fields->echo,
        .want_logprobs = wants_logprobs(fields),
        .want_prompt_logprobs = completion->door == DOOR_SCORE,
        .top_logprobs = (size_t)fields->logprobs,
        .is_read_whole = completion->form == FORM_JSON,
        .deadline_ms = completion->deadline_ms,
        .owner = choice,
    };
    TRY(generation_create(completion_plan(completion), snapshot_vocabulary(completion->snapshot), &options, choice,
                          completion_release_choice, &choice->generation, error));
    completion_adapt_expect(completion, encoded->count);
    return STATUS_OK;
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

/* Makes the texts of a prompt that is encoded. */
static enum status create_texts(struct completion *completion, struct encoded *encoded, size_t index,
                                struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    const struct beam_options beam = {
        .width = completion->beam_width,
        .text_count = (size_t)fields->n,
        .tokens_max = (size_t)fields->max_tokens,
        .constraint = encoded->constraint,
    };
    if (completion->beam_width > 0) {
        TRY(beam_create(completion_plan(completion), &beam, &encoded->beam, error));
    }
    enum status status = STATUS_OK;
    for (size_t j = 0; j < (size_t)fields->best_of && status == STATUS_OK; j++) {
        struct choice *choice = &completion->choices[index * (size_t)fields->best_of + j];
        status = create_generation(completion, choice, encoded, j, error);
    }
    encoded->beam = beam_unref(encoded->beam);
    return status;
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
        completion->predicted_symbols += completion->beam_width * (uint64_t)fields->max_tokens;
        TRY(create_texts(completion, encoded, i, error));
    }
    return STATUS_OK;
}

bool completion_is_prompt_empty(const struct completion *completion)
{
    const struct generate_request *fields = &completion->fields;
    return fields->prompt_count == 0 || (fields->prompt_count == 1 && generate_request_prompt(fields, 0).text != NULL &&
                                         generate_request_prompt(fields, 0).length == 0);
}

void completion_fill_prompt(struct completion *completion)
{
    struct generate_request *fields = &completion->fields;
    const char *text = ""; /* it just goes on */
    if (completion->from == NULL) {
        const json_t *start = json_object_get(completion->defaults, "start");
        completion->is_default_start = json_string_length(start) == 0;
        text = completion->is_default_start ? "\n" : json_string_value(start);
        fields->echo = false; /* it is not the caller's text */
    }
    fields->prompts = NULL;
    fields->prompt = (struct generate_prompt){.text = text, .length = strlen(text)};
    fields->prompt_count = 1;
}

/* The prompt of a chat. */
static enum status lay_chat(struct completion *completion, struct error *error)
{
    TRY(completion_chat_lay(completion, error));
    if (completion_is_prompt_empty(completion)) {
        completion_fill_prompt(completion);
    }
    return STATUS_OK;
}

enum status completion_make_generations(struct completion *completion, struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    if (completion->door == DOOR_CHAT) {
        TRY(lay_chat(completion, error));
    }
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
    if (status == STATUS_OK && fields->pattern != NULL) {
        status = constraint_create(fields->pattern, fields->pattern_length, snapshot_vocabulary(completion->snapshot),
                                   encoded.biases, encoded.bias_count, &encoded.constraint, error);
    }
    if (status == STATUS_OK) {
        status = create_generations_of(completion, &encoded, error);
    }
    constraint_unref(encoded.constraint);
    mem_free(encoded.symbols);
    mem_free(encoded.biases);
    return status;
}

/* One text being generated. Threads: created, read and cancelled by the loop; advanced by one compute thread at a time,
 * in the order in which they ask for work. Owns the prompt, the recurrent state and the text that waits to be read. */
#include "engine/decode/generation.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_plan_layout.h"
#include "engine/decode/generation_row.h"
#include "engine/decode/generation_state.h"
#include "engine/decode/generation_wake.h"

static_assert((int)GENERATION_RING_BYTES == (int)BYTE_RING_BYTES, "the ring is as large as promised");
static_assert((int)GENERATION_SYMBOL_BYTES_MAX == (int)TEXT_STREAM_SYMBOL_BYTES_MAX, "a symbol is as long as promised");
static_assert((int)DECODE_SYMBOLS_MAX >= (int)VOCABULARY_SYMBOLS_MAX, "any vocabulary can have a plan");

static enum status refuse(struct error *error, const char *option)
{
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "%s", option);
        return error->status;
    }
    return STATUS_INVALID;
}

static enum status check_share(const char *name, double value, struct error *error)
{
    if (value >= 0.0 && value <= 1.0) {
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "%s is %g, not 0 to 1", name, value);
    return refuse(error, name);
}

/* A state larger than text_state reads back must not be made. */
static enum status check_state_size(const struct decode_plan *plan, bool want_state, struct error *error)
{
    size_t bytes = decode_plan_state_bytes(plan);
    return !want_state || bytes <= TEXT_STATE_NUMBER_BYTES_MAX
               ? STATUS_OK
               : error_set(error, STATUS_TOO_LARGE, "the model's state has %zu bytes, one that is given out at most %d",
                           bytes, TEXT_STATE_NUMBER_BYTES_MAX);
}

/* How many symbols its text can have, where their log-probabilities are wanted. */
static size_t count_logprobs(const struct generation_options *options)
{
    return options->want_logprobs ? options->tokens_max + (options->want_echo ? options->prompt_count : 0) : 0;
}

static enum status check_options(const struct decode_plan *plan, const struct vocabulary *vocabulary,
                                 const struct generation_options *options, struct error *error)
{
    size_t symbol_count = decode_plan_vocabulary_size(plan);
    if (vocabulary_size(vocabulary) != symbol_count) {
        return error_set(error, STATUS_INVALID, "a vocabulary of %zu symbols for a model of %zu",
                         vocabulary_size(vocabulary), symbol_count);
    }
    size_t carried = options->state == NULL ? 0 : text_state_head(options->state)->pending_count;
    if (carried + options->prompt_count == 0 || options->prompt_count > GENERATION_PROMPT_SYMBOLS_MAX) {
        error_set(error, STATUS_INVALID, "the prompt has %zu symbols, not 1 to %d", options->prompt_count,
                  GENERATION_PROMPT_SYMBOLS_MAX);
        return refuse(error, "prompt");
    }
    if (carried + options->prompt_count > TEXT_STATE_PENDING_MAX) {
        error_set(error, STATUS_INVALID,
                  "the state has %zu symbols to be read before the prompt's %zu, together at "
                  "most %d",
                  carried, options->prompt_count, TEXT_STATE_PENDING_MAX);
        return refuse(error, "prompt");
    }
    for (size_t i = 0; i < options->prompt_count; i++) {
        if (options->prompt[i] >= symbol_count) {
            error_set(error, STATUS_INVALID, "prompt symbol %zu is %u, but the vocabulary has %zu symbols", i,
                      options->prompt[i], symbol_count);
            return refuse(error, "prompt");
        }
    }
    if (options->tokens_max > GENERATION_TOKENS_MAX) {
        error_set(error, STATUS_INVALID, "%zu symbols are asked for, at most %d", options->tokens_max,
                  GENERATION_TOKENS_MAX);
        return refuse(error, "max_tokens");
    }
    if (!isfinite(options->temperature) || options->temperature < 0.0) {
        error_set(error, STATUS_INVALID, "temperature is %g, not a number from 0 up", options->temperature);
        return refuse(error, "temperature");
    }
    size_t logprob_count = count_logprobs(options);
    if (logprob_count > GENERATION_LOGPROBS_MAX || options->top_logprobs > LOGPROBS_TOP_MAX) {
        error_set(error, STATUS_INVALID, "logprobs of %zu symbols with %zu beside each, at most %d with %d",
                  logprob_count, options->top_logprobs, GENERATION_LOGPROBS_MAX, LOGPROBS_TOP_MAX);
        return refuse(error, "logprobs");
    }
    if (options->priority < GENERATION_PRIORITY_LOW || options->priority > GENERATION_PRIORITY_HIGH) {
        error_set(error, STATUS_INVALID, "priority is %d, not %d to %d", (int)options->priority,
                  GENERATION_PRIORITY_LOW, GENERATION_PRIORITY_HIGH);
        return refuse(error, "priority");
    }
    CHECK(options->origin != NULL || (options->state == NULL && !options->want_state && options->cache == NULL));
    TRY(check_state_size(plan, options->want_state, error));
    TRY(check_share("top_p", options->top_p, error));
    TRY(check_share("min_p", options->min_p, error));
    return check_share("typical_p", options->typical_p, error);
}

/* What only a generation keeps whose state is wanted, or that searches and comes back to its prompt's end. */
static bool allocate_marks(struct generation *generation, const struct generation_options *options)
{
    size_t slot_floats = generation->plan->slot_floats;
    bool is_marked = options->want_state || (options->beam != NULL && options->beam_rank == 0);
    generation->prompt_mark.slot = is_marked ? mem_allocate_aligned(slot_floats, sizeof(float)) : NULL;
    if (!options->want_state) {
        return generation->prompt_mark.slot != NULL || !is_marked;
    }
    generation->symbols = mem_allocate(options->tokens_max, sizeof *generation->symbols);
    generation->text_mark.slot = options->stop_count > 0 ? mem_allocate_aligned(slot_floats, sizeof(float)) : NULL;
    return generation->symbols != NULL && generation->prompt_mark.slot != NULL &&
           (generation->text_mark.slot != NULL || options->stop_count == 0);
}

/* Takes the beginning of the prompt from the cache. Where its own logits or text are wanted it is read. */
static void begin_cached(struct generation *generation, const struct generation_options *options)
{
    if (options->cache == NULL || options->want_echo || options->want_prompt_logprobs ||
        decode_plan_is_stepped(generation->plan)) {
        return;
    }
    generation->cache = options->cache;
    if (prompt_cache_load(options->cache, generation->plan, options->origin, options->cache_owner, generation->prompt,
                          generation->prompt_count, generation->slot, &generation->border)) {
        generation->cached_count = generation->border.symbol_count;
        generation->prompt_read = generation->cached_count;
        atomic_init(&generation->prompt_progress, generation->cached_count);
    }
}

static enum status allocate(struct generation *generation, const struct generation_options *options,
                            struct error *error)
{
    const struct decode_plan *plan = generation->plan;
    generation->prompt = mem_allocate(generation->prompt_count, sizeof *generation->prompt);
    generation->slot = mem_allocate_aligned(plan->slot_floats, sizeof *generation->slot);
    bool is_complete = generation->prompt != NULL && generation->slot != NULL && allocate_marks(generation, options);
    if (options->want_prompt_logprobs) {
        generation->prompt_logprobs = mem_allocate(generation->prompt_count, sizeof *generation->prompt_logprobs);
        is_complete = is_complete && generation->prompt_logprobs != NULL;
    }
    if (!is_complete) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a prompt of %zu symbols and its state",
                         options->prompt_count);
    }
    for (size_t i = 0; options->want_prompt_logprobs && i < generation->prompt_count; i++) {
        generation->prompt_logprobs[i] = NAN;
    }
    if (options->prompt_count > 0) {
        memcpy(generation->prompt + generation->carried_count, options->prompt,
               options->prompt_count * sizeof *options->prompt);
    }
    decode_plan_reset_slot(plan, generation->slot);
    if (options->state != NULL) {
        return generation_load_state(generation, error);
    }
    begin_cached(generation, options);
    return STATUS_OK;
}

static void release(struct generation *generation)
{
    text_stream_release(&generation->stream);
    penalties_release(&generation->penalties);
    constraint_unref(generation->constraint);
    beam_unref(generation->beam);
    logprobs_release(&generation->logprobs);
    mem_free(generation->prompt);
    mem_free(generation->slot);
    mem_free(generation->prompt_mark.slot);
    mem_free(generation->text_mark.slot);
    mem_free(generation->symbols);
    text_state_unref(generation->from);
    mem_free(generation->prompt_logprobs);
    mem_free(generation);
}

static enum status init_stream(struct generation *generation, const struct vocabulary *vocabulary,
                               const struct generation_options *options, struct error *error)
{
    bool is_echoed_from_start = options->want_echo && generation->carried_count == 0;
    size_t last_index = options->want_echo ? generation->carried_count : generation->prompt_count;
    uint32_t last = is_echoed_from_start ? TEXT_STREAM_START : generation->prompt[last_index - 1];
    enum status status = text_stream_init(&generation->stream, vocabulary, last, options->stop, options->stop_lengths,
                                          options->stop_count, error);
    if (status == STATUS_INVALID || status == STATUS_LIMIT) {
        refuse(error, "stop");
    }
    if (status == STATUS_OK && generation->from != NULL && options->prompt_count == 0) {
        generation_load_unfinished(generation);
    }
    return status;
}

/* Where the constraint's text begins; it must have a match of at most so many symbols. */
static enum status init_constraint(struct generation *generation, const struct generation_options *options,
                                   struct error *error)
{
    if (options->constraint == NULL) {
        return STATUS_OK;
    }
    const struct vocabulary *vocabulary = generation->stream.vocabulary;
    bool is_line_begun = text_stream_is_end_of_line(vocabulary, generation->prompt[generation->prompt_count - 1]);
    generation->constraint = constraint_ref(options->constraint);
    generation->constraint_state = constraint_begin(options->constraint, is_line_begun);
    size_t shortest = constraint_shortest(options->constraint, generation->constraint_state);
    if (generation->stream.assembler.pending_count > 0) {
        error_set(error, STATUS_INVALID,
                  "the state is inside of a character, a pattern's text begins with a whole one");
        return refuse(error, "pattern");
    }
    if (shortest == CONSTRAINT_NEVER) {
        bool has_spaces = vocabulary_kind(vocabulary) == VOCABULARY_WORDS && !is_line_begun;
        error_set(error, STATUS_INVALID, "no text of the model's %zu symbols matches the pattern%s",
                  vocabulary_size(vocabulary), has_spaces ? " (here the first word has a space before it)" : "");
        error_code(error, "pattern_without_match");
        return refuse(error, "pattern");
    }
    if (shortest > options->tokens_max) {
        error_set(error, STATUS_INVALID,
                  "max_tokens is %zu, the shortest text that matches the pattern has %zu symbols", options->tokens_max,
                  shortest);
        return refuse(error, "max_tokens");
    }
    return STATUS_OK;
}

static enum status init_sampler(struct generation *generation, const struct generation_options *options,
                                struct error *error)
{
    struct penalties *penalties = &generation->penalties;
    TRY(generation_init_penalties(generation, options, error));
    generation->sampler = (struct sampler_options){
        .temperature = options->temperature,
        .top_k = options->top_k,
        .top_p = options->top_p,
        .min_p = options->min_p,
        .typical_p = options->typical_p,
        .banned = penalties->banned,
        .banned_count = penalties->banned_count,
    };
    return !options->want_logprobs ? STATUS_OK
                                   : logprobs_init(&generation->logprobs, decode_plan_vocabulary_size(generation->plan),
                                                   count_logprobs(options), options->top_logprobs, error);
}

enum status generation_create(const struct decode_plan *plan, struct vocabulary *vocabulary,
                              const struct generation_options *options, void *lifetime,
                              void (*release_lifetime)(void *), struct generation **ret_generation, struct error *error)
{
    TRY(check_options(plan, vocabulary, options, error));
    struct generation *generation = mem_allocate_aligned(1, sizeof *generation);
    if (generation == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a generation");
    }
    generation->reference_count = 1;
    generation->plan = plan;
    generation->owner = options->owner;
    generation->from = text_state_ref(options->state);
    generation->origin = options->origin;
    generation->carried_count = options->state == NULL ? 0 : text_state_head(options->state)->pending_count;
    generation->prompt_count = generation->carried_count + options->prompt_count;
    generation->beam = beam_ref(options->beam);
    generation->beam_rank = options->beam_rank;
    generation->tokens_max = options->tokens_max;
    generation->tokens_min = options->tokens_min;
    generation->seed = options->seed;
    generation->choice = options->choice;
    generation->deadline_ms = options->deadline_ms;
    generation->unread_bytes = options->is_read_whole ? GENERATION_RING_BYTES / 2 : 1;
    generation->priority = options->priority;
    CHECK(options->flow < GENERATION_FLOW_COUNT);
    generation->flow = options->flow;
    generation->want_echo = options->want_echo;
    generation->is_made_fed = true;
    enum status status = allocate(generation, options, error);
    if (status == STATUS_OK) {
        status = init_stream(generation, vocabulary, options, error);
    }
    if (status == STATUS_OK) {
        status = init_sampler(generation, options, error);
    }
    if (status == STATUS_OK) {
        status = init_constraint(generation, options, error);
    }
    if (status != STATUS_OK) {
        release(generation);
        return status;
    }
    generation_row_keep_prompt(generation);
    generation->lifetime = lifetime;
    generation->release_lifetime = release_lifetime;
    *ret_generation = generation;
    return STATUS_OK;
}

struct generation *generation_ref(struct generation *generation)
{
    size_t before = atomic_fetch_add_explicit(&generation->reference_count, 1, memory_order_relaxed);
    CHECK(before > 0 && before < SIZE_MAX / 2);
    return generation;
}

struct generation *generation_unref(struct generation *generation)
{
    if (generation != NULL && atomic_fetch_sub(&generation->reference_count, 1) == 1) {
        void *lifetime = generation->lifetime;
        void (*release_lifetime)(void *) = generation->release_lifetime;
        release(generation);
        if (release_lifetime != NULL) {
            release_lifetime(lifetime);
        }
    }
    return NULL;
}

void *generation_owner(const struct generation *generation)
{
    return generation->owner;
}

struct generation_progress generation_progress(const struct generation *generation)
{
    struct generation_progress progress = {.finish =
                                               atomic_load(&generation->finish)}; /* first: the rest is then final */
    progress.cached_count = generation->cached_count;
    progress.prompt_count = atomic_load_explicit(&generation->prompt_progress, memory_order_relaxed);
    progress.token_count = atomic_load_explicit(&generation->token_progress, memory_order_relaxed);
    progress.joined_ns = atomic_load_explicit(&generation->joined_ns, memory_order_relaxed);
    progress.first_ns = atomic_load_explicit(&generation->first_ns, memory_order_relaxed);
    progress.ended_ns = atomic_load_explicit(&generation->ended_ns, memory_order_relaxed);
    progress.readable_bytes = text_stream_readable(&generation->stream);
    return progress;
}

size_t generation_read(struct generation *generation, char *bytes, size_t bytes_max)
{
    size_t length = text_stream_read(&generation->stream, bytes, bytes_max);
    if (length > 0) {
        generation_wake_for_room(generation);
    }
    return length;
}

void generation_cancel(struct generation *generation)
{
    atomic_store_explicit(&generation->is_cancelled, true, memory_order_relaxed);
    generation_wake(generation);
}

static bool has_ended(const struct generation *generation)
{
    return atomic_load(&generation->finish) != FINISH_NONE;
}

const struct symbol_logprob *generation_logprobs(const struct generation *generation, size_t *ret_count)
{
    return logprobs_entries(&generation->logprobs, ret_count);
}

size_t generation_spell(const struct vocabulary *vocabulary, uint32_t symbol, struct text_position begin,
                        char text[GENERATION_SYMBOL_BYTES_MAX])
{
    return text_stream_spell(vocabulary, symbol, begin.is_line_begun, text);
}

const float *generation_prompt_logprobs(const struct generation *generation)
{
    CHECK(has_ended(generation));
    return generation->prompt_logprobs;
}

void generation_failure(const struct generation *generation, struct error *ret_error)
{
    CHECK(atomic_load(&generation->finish) == FINISH_FAILED);
    *ret_error = generation->failure;
}

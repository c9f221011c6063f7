/* A generation as a row of the batch: what to feed it, what to make of its logits, when it ends. Thread: a compute
 * thread, one at a time. Owns nothing. */
#include "engine/decode/generation_row.h"

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "engine/decode/decode_plan_layout.h"
#include "engine/decode/generation_beam.h"

#define STEP_STREAM UINT64_C(0x5354455053) /* apart from the random numbers that choose */

void generation_row_end(struct generation *generation, enum finish_reason reason)
{
    CHECK(reason != FINISH_NONE);
    generation_beam_end(generation);
    text_stream_finish(&generation->stream);
    atomic_store_explicit(&generation->ended_ns, clock_now_ns(), memory_order_relaxed);
    if (generation->taken_places != NULL) {
        CHECK(atomic_fetch_sub(generation->taken_places, 1) > 0);
    }
    atomic_store(&generation->finish, reason); /* from here on its reader may ask for a place again */
}

static enum finish_reason find_reason(const struct generation *generation, uint64_t now_ms)
{
    if (generation->ending != FINISH_NONE) {
        return generation->ending;
    }
    if (atomic_load_explicit(&generation->is_cancelled, memory_order_relaxed)) {
        return FINISH_CANCELLED;
    }
    if (generation->deadline_ms != 0 && now_ms > generation->deadline_ms) {
        return FINISH_DEADLINE;
    }
    if (generation->prompt_read == generation->prompt_count && generation->symbols_made == generation->tokens_max) {
        return FINISH_LENGTH;
    }
    return FINISH_NONE;
}

enum generation_row_state generation_row_settle(struct generation *generation, uint64_t now_ms)
{
    bool has_text = generation_beam_find(generation);
    generation->ending = find_reason(generation, now_ms);
    if (generation->ending == FINISH_NONE && !has_text) {
        return GENERATION_ROW_STALLED;
    }
    if (generation->ending == FINISH_NONE) {
        return text_stream_is_ready(&generation->stream) ? GENERATION_ROW_READY : GENERATION_ROW_STALLED;
    }
    generation_row_end(generation, generation->ending);
    return GENERATION_ROW_ENDED;
}

uint32_t generation_row_symbol(const struct generation *generation)
{
    return generation->prompt_read < generation->prompt_count ? generation->prompt[generation->prompt_read]
                                                              : generation->made;
}

bool generation_row_wants_logits(const struct generation *generation)
{
    if (generation->ending != FINISH_NONE) {
        return false;
    }
    if (generation->prompt_read + 1 < generation->prompt_count) {
        return generation->prompt_logprobs != NULL || (generation->want_echo && generation->logprobs.entries != NULL);
    }
    return generation->symbols_made < generation->tokens_max;
}

void generation_row_fail(struct generation *generation)
{
    generation->ending = FINISH_FAILED;
    error_set(&generation->failure, STATUS_UNPROCESSABLE,
              "the model's logits are not finite after %zu prompt symbols and %zu made", generation->prompt_read,
              generation->symbols_made);
    error_code(&generation->failure, "not_finite");
}

/* Writes a symbol to the text, its log-probability first: who reads the text finds it. True when that completed a stop
 * string. */
static bool write_symbol(struct generation *generation, uint32_t symbol, bool may_stop)
{
    struct text_position begin = generation->stream.position;
    char text[TEXT_STREAM_SYMBOL_BYTES_MAX];
    size_t length = text_stream_push(&generation->stream, symbol, text);
    if (generation->logprobs.entries != NULL) {
        logprobs_add(&generation->logprobs, symbol, begin, generation->stream.position.bytes);
    }
    return text_stream_write(&generation->stream, text, length, may_stop);
}

static bool predict(struct generation *generation, const struct rnn_kernels *kernels, const float *logits,
                    float *weights)
{
    return generation->logprobs.entries == NULL || logprobs_predict(&generation->logprobs, kernels, logits, weights);
}

static void score_prompt(struct generation *generation, const struct rnn_kernels *kernels, const float *logits,
                         float *weights)
{
    if (!predict(generation, kernels, logits, weights)) {
        generation_row_fail(generation);
        return;
    }
    if (generation->prompt_logprobs == NULL) {
        return;
    }
    double normalizer;
    uint32_t symbol = generation->prompt[generation->prompt_read];
    if (!sampler_find_normalizer(kernels, logits, weights, decode_plan_vocabulary_size(generation->plan),
                                 &normalizer)) {
        generation_row_fail(generation);
        return;
    }
    generation->prompt_logprobs[generation->prompt_read] = sampler_logprob(logits[symbol], normalizer);
}

static void keep_mark(const struct generation *generation, struct generation_mark *mark)
{
    memcpy(mark->slot, generation->slot, generation->plan->slot_floats * sizeof *mark->slot);
    mark->parity = generation->parity;
    mark->symbols_made = generation->symbols_made;
}

/* Where nothing is held back of a text that may have to be rolled back, this is the place to come back to. */
static void keep_text_mark(struct generation *generation)
{
    size_t written = atomic_load_explicit(&generation->stream.ring.written_count, memory_order_relaxed);
    if (generation->text_mark.slot != NULL && written == generation->stream.position.bytes) {
        keep_mark(generation, &generation->text_mark);
    }
}

void generation_row_keep_prompt(struct generation *generation)
{
    if (generation->prompt_mark.slot != NULL && generation->prompt_read + 1 == generation->prompt_count) {
        keep_mark(generation, &generation->prompt_mark);
    }
}

static void echo(struct generation *generation, size_t index)
{
    CHECK(!write_symbol(generation, generation->prompt[index], false));
}

/* Ends it where all that its search found is told, or its constraint lets nothing follow. */
static bool is_complete(struct generation *generation)
{
    if (generation->told != NULL && generation->symbols_made == generation->told_count) {
        generation->ending = generation->is_told_whole ? FINISH_STOP : FINISH_LENGTH;
    }
    if (generation->told != NULL) {
        return generation->ending != FINISH_NONE;
    }
    size_t left = generation->tokens_max - generation->symbols_made;
    enum constraint_course course = generation->constraint == NULL
                                        ? CONSTRAINT_GOES_ON
                                        : constraint_course(generation->constraint, generation->constraint_state, left);
    if (course != CONSTRAINT_GOES_ON) {
        generation->ending = course == CONSTRAINT_ENDS ? FINISH_STOP : FINISH_LENGTH;
    }
    return course != CONSTRAINT_GOES_ON;
}

/* Chooses the next symbol, of those that the constraint allows. False: there is none, and `ending` says why. */
static bool choose_symbol(struct generation *generation, const struct rnn_kernels *kernels, float *logits,
                          float *weights, uint32_t *ret_symbol)
{
    uint64_t counter = generation->made_before + generation->symbols_made;
    double uniform = rng_uniform(generation->seed, generation->choice, counter);
    size_t count = decode_plan_vocabulary_size(generation->plan);
    size_t left = generation->tokens_max - generation->symbols_made;
    struct sampler_options sampler = generation->sampler;
    if (!predict(generation, kernels, logits, weights)) {
        generation_row_fail(generation);
        return false;
    }
    if (generation->told != NULL) {
        *ret_symbol = generation->told[generation->symbols_made];
        return true;
    }
    if (!penalties_apply(&generation->penalties, kernels, logits, weights, count)) {
        generation_row_fail(generation);
        return false;
    }
    if (generation->constraint != NULL) { /* what is banned is not among them */
        count = constraint_gather(generation->constraint, generation->constraint_state, left, logits);
        sampler.banned_count = 0;
    }
    if (!sampler_choose(kernels, &sampler, logits, weights, count, uniform, ret_symbol)) {
        generation_row_fail(generation);
        return false;
    }
    if (generation->constraint != NULL &&
        !constraint_follow(generation->constraint, &generation->constraint_state, left, *ret_symbol, ret_symbol)) {
        generation->ending = FINISH_STOP;
        return false;
    }
    return true;
}

static void make_symbol(struct generation *generation, const struct rnn_kernels *kernels, float *logits, float *weights)
{
    if (generation->symbols_made == 0) {
        generation->text_begin = generation->stream.position;
        generation->text_begin_assembler = generation->stream.assembler;
    }
    uint32_t symbol;
    if (is_complete(generation) || !choose_symbol(generation, kernels, logits, weights, &symbol)) {
        return;
    }
    generation->made = symbol;
    generation->is_made_fed = false;
    if (generation->symbols != NULL) {
        generation->symbols[generation->symbols_made] = generation->made;
    }
    if (generation->symbols_made++ == 0) {
        atomic_store_explicit(&generation->first_ns, clock_now_ns(), memory_order_relaxed);
    }
    penalties_add(&generation->penalties, generation->made);
    if (write_symbol(generation, generation->made, generation->symbols_made > generation->tokens_min)) {
        generation->ending = FINISH_STOP;
    } else {
        keep_text_mark(generation);
        is_complete(generation);
    }
    atomic_store_explicit(&generation->token_progress, generation->symbols_made, memory_order_relaxed);
}

/* Behind each chunk of the prompt, and before its last symbol; there for the first of its texts alone: all those that a
 * request makes of it (n, best_of, a beam) are one time that it came. */
static void keep_for_others(struct generation *generation)
{
    if (generation->cache == NULL) {
        return;
    }
    size_t behind_border = generation->prompt_read - generation->border.symbol_count;
    bool is_at_end = generation->prompt_read + 1 == generation->prompt_count && generation->choice == 0;
    struct prompt_border end = generation->border;
    struct prompt_border *border = behind_border == PROMPT_CACHE_CHUNK ? &generation->border : &end;
    if (border == &generation->border || is_at_end) {
        prompt_cache_keep(generation->cache, generation->plan, border, generation->prompt + border->symbol_count,
                          behind_border, generation->slot, generation->parity);
    }
}

/* The symbol fed last was one of the prompt. */
static void advance_prompt(struct generation *generation)
{
    generation->prompt_read++;
    size_t carried = generation->carried_count;
    size_t own_count = generation->prompt_read > carried ? generation->prompt_read - carried : 0;
    atomic_store_explicit(&generation->prompt_progress, own_count, memory_order_relaxed);
    generation_row_keep_prompt(generation);
    keep_for_others(generation);
}

void generation_row_advance(struct generation *generation, const struct rnn_kernels *kernels, float *logits,
                            float *weights)
{
    generation->parity ^= 1;
    if (generation->step_count++ == 0) {
        atomic_store_explicit(&generation->joined_ns, clock_now_ns(), memory_order_relaxed);
        if (generation->want_echo && generation->carried_count == 0) {
            echo(generation, 0);
        }
    }
    if (generation->prompt_read < generation->prompt_count) {
        advance_prompt(generation);
    } else {
        generation->is_made_fed = true;
    }
    bool is_in_prompt = generation->prompt_read < generation->prompt_count;
    if (is_in_prompt && logits != NULL) {
        score_prompt(generation, kernels, logits, weights);
    }
    bool is_echoed = generation->want_echo && generation->prompt_read >= generation->carried_count;
    if (is_in_prompt && is_echoed && generation->ending == FINISH_NONE) {
        echo(generation, generation->prompt_read);
    }
    if (!is_in_prompt && logits != NULL) {
        if (generation_beam_is_searching(generation)) {
            generation_beam_search(generation, kernels, logits, weights);
        } else {
            make_symbol(generation, kernels, logits, weights);
        }
    }
}

void generation_row_step(struct generation *generation, float *logits, float *weights)
{
    const struct decode_plan *plan = generation->plan;
    bool is_in_prompt = generation->prompt_read < generation->prompt_count;
    size_t fed = is_in_prompt ? generation->prompt_read : generation->prompt_count + generation->symbols_made - 1;
    uint64_t place = generation->fed_before + fed; /* symbols that stand before */
    uint64_t key = rng_bits(generation->seed, generation->choice ^ STEP_STREAM, place);
    logits = generation_row_wants_logits(generation) ? logits : NULL;
    enum status status = decode_plan_step_row(plan, generation->slot, generation->parity,
                                              generation_row_symbol(generation), key, logits, &generation->failure);
    if (status != STATUS_OK) {
        generation->ending = FINISH_FAILED;
        return;
    }
    generation_row_advance(generation, plan->kernels, logits, weights);
}

bool generation_row_has_news(struct generation *generation)
{
    struct byte_ring *ring = &generation->stream.ring;
    size_t new_bytes = atomic_load_explicit(&ring->written_count, memory_order_relaxed) - generation->reported_bytes;
    if (new_bytes < generation->unread_bytes) {
        return false;
    }
    if (new_bytes < GENERATION_RING_BYTES / 2) {
        /* Whoever reads what was reported reads this, too, or sees then that it is there: byte_ring_read has the other
         * fence, so not both can miss what the other wrote. */
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load_explicit(&ring->read_count, memory_order_relaxed) < generation->reported_bytes) {
            return false;
        }
    }
    generation->reported_bytes += new_bytes;
    return true;
}

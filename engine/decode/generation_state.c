/* From a text's state to a generation, and back at its end. Thread: the reader's, once it has ended; as
 * generation_create before. Owns nothing. */
#include "engine/decode/generation_state.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_plan_layout.h"

/* ---- beginning ---- */

static enum status refuse(struct error *error, enum status status, const char *code)
{
    error_code(error, code);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "state");
    }
    return status;
}

static enum status check_origin(const struct decode_plan *plan, const struct text_origin *origin,
                                const struct text_state *state, struct error *error)
{
    const struct text_state_head *head = text_state_head(state);
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    text_state_model(state, model);
    if (memcmp(head->digest, origin->digest, sizeof head->digest) != 0) {
        error_set(error, STATUS_UNPROCESSABLE, "the state is of %s, whose content is not that of %s", model,
                  origin->model);
        return refuse(error, STATUS_UNPROCESSABLE, "state_mismatch");
    }
    bool is_stepped = decode_plan_is_stepped(plan);
    size_t bytes = decode_plan_state_bytes(plan);
    if ((head->is_stepped != 0) != is_stepped || head->number_bytes != bytes) {
        error_set(error, STATUS_UNPROCESSABLE, "the state of %s has %u bytes of a %s, here it is a %s with %zu", model,
                  head->number_bytes, head->is_stepped != 0 ? "graph run step by step" : "packed model",
                  is_stepped ? "graph run step by step" : "packed model", bytes);
        return refuse(error, STATUS_UNPROCESSABLE, "state_mismatch");
    }
    return STATUS_OK;
}

/* Every symbol of the state must be one of the vocabulary. */
static enum status check_symbols(const struct decode_plan *plan, const struct text_state *state, struct error *error)
{
    const struct text_state_head *head = text_state_head(state);
    const uint32_t *symbols = text_state_pending(state); /* recent ones lie behind */
    const struct made_symbol *counted = text_state_counted(state);
    size_t symbol_count = decode_plan_vocabulary_size(plan);
    size_t listed = (size_t)head->pending_count + head->recent_count;
    for (size_t i = 0; i < listed + head->counted_count; i++) {
        uint32_t symbol = i < listed ? symbols[i] : counted[i - listed].symbol;
        if (symbol >= symbol_count) {
            error_set(error, STATUS_INVALID, "the state has symbol %u, the vocabulary %zu symbols", symbol,
                      symbol_count);
            return refuse(error, STATUS_INVALID, "state_malformed");
        }
    }
    return STATUS_OK;
}

/* Checks the state and puts its numbers into the slot. */
static enum status load(const struct decode_plan *plan, const struct text_origin *origin,
                        const struct text_state *state, float *slot, struct error *error)
{
    TRY(check_origin(plan, origin, state, error));
    TRY(check_symbols(plan, state, error));
    enum status status = decode_plan_load_state(plan, text_state_numbers(state), slot, error);
    return status == STATUS_OK ? status : refuse(error, status, "state_malformed");
}

enum status generation_check_state(const struct decode_plan *plan, const struct text_origin *origin,
                                   const struct text_state *state, struct error *error)
{
    float *slot = mem_allocate_aligned(plan->slot_floats, sizeof *slot);
    if (slot == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a state of %zu bytes", decode_plan_state_bytes(plan));
    }
    enum status status = load(plan, origin, state, slot, error);
    mem_free(slot);
    return status;
}

enum status generation_load_state(struct generation *generation, struct error *error)
{
    const struct text_state_head *head = text_state_head(generation->from);
    TRY(load(generation->plan, generation->origin, generation->from, generation->slot, error));
    memcpy(generation->prompt, text_state_pending(generation->from), head->pending_count * sizeof *generation->prompt);
    generation->fed_before = head->fed_count;
    generation->made_before = head->made_count;
    return STATUS_OK;
}

void generation_load_unfinished(struct generation *generation)
{
    const struct text_state_head *head = text_state_head(generation->from);
    generation->stream.assembler.pending_count = head->unfinished_count;
    memcpy(generation->stream.assembler.pending, head->unfinished, sizeof head->unfinished);
}

enum status generation_init_penalties(struct generation *generation, const struct generation_options *options,
                                      struct error *error)
{
    size_t symbol_count = decode_plan_vocabulary_size(generation->plan);
    if (generation->from == NULL) {
        return penalties_init(&generation->penalties, &options->penalties, symbol_count, options->prompt,
                              options->prompt_count, options->tokens_max, error);
    }
    const struct text_state_head *head = text_state_head(generation->from);
    size_t said_count = head->recent_count + options->prompt_count;
    uint32_t *said = mem_allocate(said_count, sizeof *said);
    if (said == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a state of %zu symbols", said_count);
    }
    memcpy(said, text_state_recent(generation->from), head->recent_count * sizeof *said);
    memcpy(said + head->recent_count, generation->prompt + generation->carried_count,
           options->prompt_count * sizeof *said);
    enum status status = penalties_init(&generation->penalties, &options->penalties, symbol_count, said, said_count,
                                        options->tokens_max + head->counted_count, error);
    mem_free(said);
    for (size_t i = 0; status == STATUS_OK && i < head->counted_count; i++) {
        penalties_count_earlier(&generation->penalties, text_state_counted(generation->from)[i]);
    }
    return status;
}

/* ---- the end ---- */

/* Where a state is to stand, and what it is made of. */
struct ending {
    const struct generation *generation;
    size_t made_count;               /* symbols of those made that count */
    struct utf8_assembler assembler; /* behind them */
    const float *slot;
    unsigned parity;
    const uint32_t *pending; /* two pieces */
    size_t pending_count;
    const uint32_t *pending_made;
    size_t pending_made_count;
    size_t fed_count; /* symbols in the slot, of this generation's */
    uint32_t *beyond; /* for each counted symbol, how often it was made behind all that; owned */
};

/* How many of the symbols made have everything they write in the first `sent_bytes`. Where the text goes on behind
 * that, those at the end which wrote nothing belong to what was not sent. */
static void count_sent(struct ending *ending, size_t sent_bytes)
{
    const struct generation *generation = ending->generation;
    size_t written = atomic_load(&generation->stream.ring.written_count);
    size_t made_count = generation->symbols_made;
    if (sent_bytes >= written && written == generation->stream.position.bytes) {
        ending->made_count = made_count;
        ending->assembler = generation->stream.assembler;
        return;
    }
    sent_bytes = sent_bytes < written ? sent_bytes : written;
    char text[TEXT_STREAM_SYMBOL_BYTES_MAX];
    struct text_position position = generation->text_begin;
    struct utf8_assembler assembler = generation->text_begin_assembler;
    ending->assembler = assembler;
    for (size_t i = 0; i < made_count; i++) {
        size_t length =
            text_stream_follow(generation->stream.vocabulary, &assembler, &position, generation->symbols[i], text);
        if (position.bytes > sent_bytes) {
            return;
        }
        if (length > 0 || i + 1 == made_count) {
            ending->made_count = i + 1;
            ending->assembler = assembler;
        }
    }
}

static void end_at_mark(struct ending *ending, const struct generation_mark *mark)
{
    const struct generation *generation = ending->generation;
    size_t count = mark->symbols_made;
    ending->slot = mark->slot;
    ending->parity = mark->parity;
    ending->pending = count == 0 ? generation->prompt + generation->prompt_count - 1 : generation->symbols + count - 1;
    ending->pending_count = 1;
    ending->pending_made = generation->symbols + count;
    ending->pending_made_count = ending->made_count - count;
    ending->fed_count = generation->prompt_count - 1 + count;
}

/* The latest of the slots at hand that is not beyond the end. */
static void choose_slot(struct ending *ending)
{
    const struct generation *generation = ending->generation;
    bool is_in_prompt = generation->prompt_read < generation->prompt_count;
    bool is_last_pending = generation->symbols_made > 0 && !generation->is_made_fed;
    ending->slot = generation->slot;
    ending->parity = generation->parity;
    if (is_in_prompt) {
        ending->pending = generation->prompt + generation->prompt_read;
        ending->pending_count = generation->prompt_count - generation->prompt_read;
        ending->fed_count = generation->prompt_read;
    } else if (is_last_pending && ending->made_count == generation->symbols_made) {
        ending->pending = &generation->made;
        ending->pending_count = 1;
        ending->fed_count = generation->prompt_count - 1 + generation->symbols_made;
    } else if (generation->text_mark.symbols_made > 0 && generation->text_mark.symbols_made <= ending->made_count) {
        end_at_mark(ending, &generation->text_mark);
    } else {
        end_at_mark(ending, &generation->prompt_mark);
    }
}

/* The last symbols of what the state it began with remembers, its own prompt and what was made. Counts them with
 * `recent` NULL. */
static size_t gather_recent(const struct ending *ending, uint32_t *recent)
{
    const struct generation *generation = ending->generation;
    const struct text_state *from = generation->from;
    const struct {
        const uint32_t *symbols;
        size_t count;
    } parts[] = {
        {from == NULL ? NULL : text_state_recent(from), from == NULL ? 0 : text_state_head(from)->recent_count},
        {generation->prompt + generation->carried_count, generation->prompt_count - generation->carried_count},
        {generation->symbols, ending->made_count},
    };
    size_t total = parts[0].count + parts[1].count + parts[2].count;
    size_t window = generation->penalties.options.repetition_window;
    size_t skipped = total > window ? total - window : 0;
    for (size_t i = 0, at = 0; recent != NULL && i < sizeof parts / sizeof *parts; i++) {
        for (size_t n = 0; n < parts[i].count; n++, at++) {
            if (at >= skipped) {
                recent[at - skipped] = parts[i].symbols[n];
            }
        }
    }
    return total - skipped;
}

/* How often each symbol that penalties count was made beyond the end: [made_count]. */
static enum status count_beyond(struct ending *ending, struct error *error)
{
    const struct generation *generation = ending->generation;
    const struct penalties *penalties = &generation->penalties;
    ending->beyond = mem_allocate(penalties->made_count, sizeof *ending->beyond);
    if (ending->beyond == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the counts of %zu symbols", penalties->made_count);
    }
    for (size_t n = ending->made_count; penalties->made != NULL && n < generation->symbols_made; n++) {
        ending->beyond[penalties_find_made(penalties, generation->symbols[n])]++;
    }
    return STATUS_OK;
}

/* The symbols counted so far, those beyond the end left out; without penalties that count, what was counted before.
 * Counts them with `counted` NULL. */
static size_t gather_counted(const struct ending *ending, struct made_symbol *counted)
{
    const struct penalties *penalties = &ending->generation->penalties;
    const struct text_state *from = ending->generation->from;
    bool is_counting = penalties->made != NULL;
    const struct made_symbol *source = penalties->made;
    size_t source_count = penalties->made_count;
    if (!is_counting && from != NULL) {
        source = text_state_counted(from);
        source_count = text_state_head(from)->counted_count;
    }
    size_t count = 0;
    for (size_t i = 0; source != NULL && i < source_count; i++) {
        struct made_symbol made = source[i];
        made.count -= is_counting ? ending->beyond[i] : 0;
        if (made.count > 0 && counted != NULL) {
            counted[count] = made;
        }
        count += made.count > 0;
    }
    return count;
}

static enum status write_state(const struct ending *ending, struct text_state **ret_state, struct error *error)
{
    const struct generation *generation = ending->generation;
    struct text_state_head head = {
        .seed = generation->seed,
        .choice = generation->choice,
        .fed_count = generation->fed_before + ending->fed_count,
        .made_count = generation->made_before + ending->made_count,
        .number_bytes = (uint32_t)decode_plan_state_bytes(generation->plan),
        .pending_count = (uint32_t)(ending->pending_count + ending->pending_made_count),
        .recent_count = (uint32_t)gather_recent(ending, NULL),
        .counted_count = (uint32_t)gather_counted(ending, NULL),
        .is_stepped = decode_plan_is_stepped(generation->plan),
        .unfinished_count = (uint8_t)ending->assembler.pending_count,
    };
    memcpy(head.unfinished, ending->assembler.pending, head.unfinished_count);
    struct text_state_parts parts;
    TRY(text_state_create(&head, generation->origin, ret_state, &parts, error));
    decode_plan_save_state(generation->plan, ending->slot, ending->parity, parts.numbers);
    memcpy(parts.pending, ending->pending, ending->pending_count * sizeof *parts.pending);
    if (ending->pending_made_count > 0) {
        memcpy(parts.pending + ending->pending_count, ending->pending_made,
               ending->pending_made_count * sizeof *parts.pending);
    }
    gather_recent(ending, parts.recent);
    gather_counted(ending, parts.counted);
    return STATUS_OK;
}

enum status generation_make_state(const struct generation *generation, size_t sent_bytes, struct text_state **ret_state,
                                  struct error *error)
{
    CHECK(atomic_load(&generation->finish) != FINISH_NONE && generation->prompt_mark.slot != NULL);
    struct ending ending = {.generation = generation};
    count_sent(&ending, sent_bytes);
    choose_slot(&ending);
    TRY(count_beyond(&ending, error));
    enum status status = write_state(&ending, ret_state, error);
    mem_free(ending.beyond);
    return status;
}

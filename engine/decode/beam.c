/* The search for the likeliest texts. Thread: one at a time. Owns the beginnings, their states and the texts found. */
#include "engine/decode/beam.h"

#include <stdatomic.h>
#include <stdio.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_plan_layout.h"
#include "engine/decode/sampler.h"

/* The symbols of a beginning, from its last: beginnings share what they have in common. */
struct node {
    uint32_t before; /* 0: it is the first symbol; node 0 is none */
    uint32_t symbol;
};

/* A beginning of a text. Those that go on come in the order of their scores. */
struct beginning {
    double score;
    uint32_t node;
    uint32_t length;
    uint32_t constraint_state;
    bool is_finished;
    bool is_whole;
};

/* What a beginning may become: itself, where it is finished. */
struct candidate {
    double score;
    uint32_t parent;
    uint32_t index; /* of a symbol, or among those that the constraint leaves open */
};

struct text {
    uint32_t *symbols; /* in `symbols` of the beam */
    size_t count;
    bool is_whole;
};

struct beam {
    _Atomic size_t references;
    _Atomic enum beam_course course;
    struct beam_options options;
    size_t vocabulary_size, slot_floats;
    bool is_begun;
    unsigned parity; /* of the beginnings' states, before their next step */
    struct beginning beginnings[2][BEAM_WIDTH_MAX];
    float *slots[2]; /* [width × slot_floats] of the beginnings, owned */
    size_t side;     /* which of the two are the present ones */
    size_t count;    /* of them */
    size_t current;  /* the one that was fed */
    struct candidate candidates[BEAM_WIDTH_MAX];
    size_t candidate_count;
    struct node *nodes; /* [1 + width × tokens_max], owned */
    uint32_t node_count;
    struct text texts[BEAM_WIDTH_MAX]; /* [text_count]: those found */
    uint32_t *symbols;                 /* [text_count × tokens_max], owned */
};

static enum status refuse(struct error *error, const char *option)
{
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "%s", option);
    }
    return STATUS_INVALID;
}

static enum status check_options(const struct beam_options *options, struct error *error)
{
    if (options->width < 1 || options->width > BEAM_WIDTH_MAX || options->text_count > options->width) {
        error_set(error, STATUS_INVALID, "a beam search of width %zu for %zu texts, the width is 1 to %d",
                  options->width, options->text_count, BEAM_WIDTH_MAX);
        return refuse(error, "best_of");
    }
    if (options->tokens_max < 1 || options->tokens_max > BEAM_NODES_MAX / options->width) {
        error_set(error, STATUS_INVALID, "max_tokens is %zu, a beam search of width %zu takes 1 to %zu",
                  options->tokens_max, options->width, BEAM_NODES_MAX / options->width);
        return refuse(error, "max_tokens");
    }
    return STATUS_OK;
}

static void release(struct beam *beam)
{
    constraint_unref(beam->options.constraint);
    mem_free(beam->slots[0]);
    mem_free(beam->slots[1]);
    mem_free(beam->nodes);
    mem_free(beam->symbols);
    mem_free(beam);
}

enum status beam_create(const struct decode_plan *plan, const struct beam_options *options, struct beam **ret_beam,
                        struct error *error)
{
    TRY(check_options(options, error));
    struct beam *beam = mem_allocate(1, sizeof *beam);
    if (beam == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a beam search");
    }
    atomic_init(&beam->references, 1);
    atomic_init(&beam->course, BEAM_SEARCHES);
    beam->options = *options;
    constraint_ref(options->constraint);
    beam->vocabulary_size = decode_plan_vocabulary_size(plan);
    beam->slot_floats = plan->slot_floats;
    beam->nodes = mem_allocate(1 + options->width * options->tokens_max, sizeof *beam->nodes);
    beam->node_count = 1;
    beam->symbols = mem_allocate(options->text_count * options->tokens_max, sizeof *beam->symbols);
    bool is_whole = beam->nodes != NULL && beam->symbols != NULL;
    for (size_t i = 0; i < 2; i++) {
        beam->slots[i] = mem_allocate_aligned(options->width * plan->slot_floats, sizeof *beam->slots[i]);
        is_whole = is_whole && beam->slots[i] != NULL;
    }
    if (!is_whole) {
        release(beam);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a beam search of width %zu over %zu symbols",
                         options->width, options->tokens_max);
    }
    *ret_beam = beam;
    return STATUS_OK;
}

struct beam *beam_ref(struct beam *beam)
{
    if (beam != NULL) {
        size_t before = atomic_fetch_add_explicit(&beam->references, 1, memory_order_relaxed);
        CHECK(before > 0 && before < SIZE_MAX / 2);
    }
    return beam;
}

struct beam *beam_unref(struct beam *beam)
{
    if (beam != NULL && atomic_fetch_sub(&beam->references, 1) == 1) {
        release(beam);
    }
    return NULL;
}

enum beam_course beam_course(const struct beam *beam)
{
    return atomic_load(&beam->course);
}

void beam_give_up(struct beam *beam)
{
    if (beam_course(beam) == BEAM_SEARCHES) {
        atomic_store(&beam->course, BEAM_GIVEN_UP);
    }
}

/* ---- A round */

static float *slot_of(const struct beam *beam, size_t side, size_t index)
{
    return beam->slots[side] + index * beam->slot_floats;
}

static void copy_slot(const struct beam *beam, float *to, const float *from)
{
    memcpy(to, from, beam->slot_floats * sizeof *to);
}

/* Sees whether a beginning can go on. */
static void settle(const struct beam *beam, struct beginning *beginning)
{
    size_t left = beam->options.tokens_max - beginning->length;
    enum constraint_course course = CONSTRAINT_GOES_ON;
    if (beam->options.constraint != NULL) {
        course = constraint_course(beam->options.constraint, beginning->constraint_state, left);
    }
    beginning->is_whole = course == CONSTRAINT_ENDS;
    beginning->is_finished = left == 0 || course != CONSTRAINT_GOES_ON;
}

/* Keeps a candidate if it is among the best so far; one as good as another comes behind it. */
static void propose(struct beam *beam, struct candidate candidate)
{
    size_t place = beam->candidate_count;
    if (place == beam->options.width && candidate.score <= beam->candidates[place - 1].score) {
        return;
    }
    beam->candidate_count += place < beam->options.width;
    place = beam->candidate_count - 1;
    for (; place > 0 && candidate.score > beam->candidates[place - 1].score; place--) {
        beam->candidates[place] = beam->candidates[place - 1];
    }
    beam->candidates[place] = candidate;
}

/* Proposes what the fed beginning may become. False where a logit is not finite. */
static bool expand(struct beam *beam, const struct rnn_kernels *kernels, float *logits, float *weights)
{
    const struct beginning *parent = &beam->beginnings[beam->side][beam->current];
    double normalizer;
    size_t count = beam->vocabulary_size;
    if (!sampler_find_normalizer(kernels, logits, weights, count, &normalizer)) {
        return false;
    }
    if (beam->options.constraint != NULL) {
        size_t left = beam->options.tokens_max - parent->length;
        count = constraint_gather(beam->options.constraint, parent->constraint_state, left, logits);
    }
    for (size_t i = 0; i < count; i++) {
        double score = parent->score + (double)sampler_logprob(logits[i], normalizer);
        propose(beam, (struct candidate){.score = score, .parent = (uint32_t)beam->current, .index = (uint32_t)i});
    }
    return true;
}

/* What a candidate stands for, one symbol behind its parent. */
static struct beginning lengthen(struct beam *beam, const struct beginning *parent, const struct candidate *candidate)
{
    struct beginning made = *parent;
    uint32_t symbol = candidate->index;
    size_t left = beam->options.tokens_max - parent->length;
    made.score = candidate->score;
    if (beam->options.constraint != NULL &&
        !constraint_follow(beam->options.constraint, &made.constraint_state, left, candidate->index, &symbol)) {
        made.is_finished = made.is_whole = true; /* by a symbol that is not told */
        return made;
    }
    made.node = beam->node_count++;
    made.length++;
    beam->nodes[made.node] = (struct node){.before = parent->node, .symbol = symbol};
    settle(beam, &made);
    return made;
}

/* The next beginning to be fed, from `index` on; the number of all where there is none. */
static size_t find_open(const struct beam *beam, size_t index)
{
    while (index < beam->count && beam->beginnings[beam->side][index].is_finished) {
        index++;
    }
    return index;
}

/* The best candidates become the beginnings. */
static void take_candidates(struct beam *beam)
{
    size_t side = beam->side ^ 1;
    for (size_t i = 0; i < beam->candidate_count; i++) {
        const struct candidate *candidate = &beam->candidates[i];
        const struct beginning *parent = &beam->beginnings[beam->side][candidate->parent];
        struct beginning *made = &beam->beginnings[side][i];
        *made = parent->is_finished ? *parent : lengthen(beam, parent, candidate);
        if (!made->is_finished) {
            copy_slot(beam, slot_of(beam, side, i), slot_of(beam, beam->side, candidate->parent));
        }
    }
    beam->side = side;
    beam->count = beam->candidate_count;
    beam->candidate_count = 0;
    for (size_t i = 0; i < beam->count; i++) { /* finished ones keep their places, as long as they are good enough */
        const struct beginning *beginning = &beam->beginnings[side][i];
        if (beginning->is_finished) {
            propose(beam, (struct candidate){.score = beginning->score, .parent = (uint32_t)i});
        }
    }
    beam->current = find_open(beam, 0);
}

static void keep_texts(struct beam *beam)
{
    for (size_t i = 0; i < beam->count && i < beam->options.text_count; i++) {
        const struct beginning *found = &beam->beginnings[beam->side][i];
        struct text *text = &beam->texts[i];
        *text = (struct text){.symbols = beam->symbols + i * beam->options.tokens_max,
                              .count = found->length,
                              .is_whole = found->is_whole};
        size_t at = found->length;
        for (uint32_t node = found->node; node != 0; node = beam->nodes[node].before) {
            text->symbols[--at] = beam->nodes[node].symbol;
        }
    }
    atomic_store(&beam->course, BEAM_FOUND);
}

bool beam_advance(struct beam *beam, struct beam_row *row, const struct rnn_kernels *kernels, float *logits,
                  float *weights)
{
    CHECK(beam_course(beam) == BEAM_SEARCHES);
    if (!beam->is_begun) {
        beam->is_begun = true;
        beam->count = 1;
        beam->beginnings[0][0] = (struct beginning){.constraint_state = row->constraint_state};
        settle(beam, &beam->beginnings[0][0]);
    }
    if (!beam->beginnings[beam->side][beam->current].is_finished) { /* all are only where the text is empty */
        copy_slot(beam, slot_of(beam, beam->side, beam->current), row->slot);
        if (!expand(beam, kernels, logits, weights)) {
            return false;
        }
        beam->current = find_open(beam, beam->current + 1);
        if (beam->current == beam->count) {
            take_candidates(beam);
            beam->parity = row->parity;
        }
    }
    if (find_open(beam, 0) == beam->count) {
        keep_texts(beam);
        return true;
    }
    const struct beginning *next = &beam->beginnings[beam->side][beam->current];
    copy_slot(beam, row->slot, slot_of(beam, beam->side, beam->current));
    row->parity = beam->parity;
    row->symbol = beam->nodes[next->node].symbol;
    row->symbol_count = next->length;
    return true;
}

/* ---- What was found */

size_t beam_text_count(const struct beam *beam)
{
    CHECK(beam_course(beam) == BEAM_FOUND);
    return beam->count < beam->options.text_count ? beam->count : beam->options.text_count;
}

const uint32_t *beam_text(const struct beam *beam, size_t rank, size_t *ret_count, bool *ret_is_whole)
{
    CHECK(rank < beam_text_count(beam));
    *ret_count = beam->texts[rank].count;
    *ret_is_whole = beam->texts[rank].is_whole;
    return beam->texts[rank].symbols;
}

/* A pattern's automaton over a vocabulary. Thread: any; one makes it. Owns the lists. */
#include "engine/decode/constraint.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/text_stream.h"

enum { END = 0 }; /* the state behind an end-of-text symbol */

struct edge {
    uint32_t symbol, next;
};

struct state {
    uint32_t edge_begin, edge_count; /* ascending by symbol */
    uint32_t distance;               /* symbols to a match; NEVER */
    bool is_accepting;
};

#define NEVER UINT32_MAX

struct constraint {
    _Atomic size_t references;
    struct state *states; /* owned */
    struct edge *edges;   /* owned */
    uint32_t state_count, edge_count;
    uint32_t begin[2]; /* by whether a line is begun */
};

/* Being made: states are found by the pattern's state and whether a line is begun, which decides how words are
 * spelled. */
struct maker {
    struct constraint *made;
    struct pattern *pattern;
    const struct vocabulary *vocabulary;
    uint8_t *is_banned;  /* [vocabulary size], owned */
    uint32_t end_symbol; /* or SYMBOL_NONE */
    uint32_t found[PATTERN_STATES_MAX][2];
    uint32_t places[CONSTRAINT_STATES_MAX]; /* of a state: the pattern's × 2, and the line's */
    size_t edge_room, state_room;
    size_t step_count;
    struct error *error;
};

static enum status refuse_size(const struct maker *maker, const char *what, size_t maximum)
{
    struct error *error = maker->error;
    error_set(error, STATUS_INVALID, "the pattern is too large over these %zu symbols: more than %zu %s",
              vocabulary_size(maker->vocabulary), maximum, what);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "pattern");
    }
    error_code(error, "pattern_too_large");
    return STATUS_INVALID;
}

static enum status refuse_memory(const struct maker *maker)
{
    return error_set(maker->error, STATUS_NO_MEMORY, "no memory for a pattern over %zu symbols",
                     vocabulary_size(maker->vocabulary));
}

/* ---- States and edges */

static enum status find_state(struct maker *maker, uint32_t place, bool is_line_begun, uint32_t *ret_state)
{
    struct constraint *made = maker->made;
    bool is_word = vocabulary_kind(maker->vocabulary) == VOCABULARY_WORDS;
    uint32_t *found = &maker->found[place][is_word && is_line_begun];
    if (*found == END) {
        if (made->state_count == CONSTRAINT_STATES_MAX) {
            return refuse_size(maker, "states", CONSTRAINT_STATES_MAX);
        }
        if (made->state_count == maker->state_room) {
            struct state *states = mem_reallocate(made->states, 2 * maker->state_room, sizeof *states);
            if (states == NULL) {
                return refuse_memory(maker);
            }
            made->states = states;
            maker->state_room *= 2;
        }
        maker->places[made->state_count] = 2 * place + (is_word && is_line_begun);
        made->states[made->state_count] =
            (struct state){.distance = NEVER, .is_accepting = pattern_is_accepting(maker->pattern, place)};
        *found = made->state_count++;
    }
    *ret_state = *found;
    return STATUS_OK;
}

static enum status add_edge(struct maker *maker, uint32_t symbol, uint32_t next)
{
    struct constraint *made = maker->made;
    if (made->edge_count == CONSTRAINT_EDGES_MAX) {
        return refuse_size(maker, "places of symbols", CONSTRAINT_EDGES_MAX);
    }
    if (made->edge_count == maker->edge_room) {
        struct edge *edges = mem_reallocate(made->edges, 2 * maker->edge_room, sizeof *edges);
        if (edges == NULL) {
            return refuse_memory(maker);
        }
        made->edges = edges;
        maker->edge_room *= 2;
    }
    made->edges[made->edge_count++] = (struct edge){.symbol = symbol, .next = next};
    return STATUS_OK;
}

/* Follows what a symbol writes; PATTERN_DEAD where no match begins so. */
static enum status walk(struct maker *maker, uint32_t *place, const char *text, size_t length)
{
    for (size_t i = 0; i < length && *place != PATTERN_DEAD; i++) {
        if (++maker->step_count > CONSTRAINT_SYMBOL_STEPS_MAX) {
            return refuse_size(maker, "steps to make", CONSTRAINT_SYMBOL_STEPS_MAX);
        }
        TRY(pattern_step(maker->pattern, *place, (unsigned char)text[i], place, maker->error));
    }
    return STATUS_OK;
}

/* The edges of one state, to states that may be new. */
static enum status add_edges(struct maker *maker, uint32_t index)
{
    uint32_t from = maker->places[index] / 2;
    bool is_line_begun = maker->places[index] % 2 != 0;
    uint32_t edge_begin = maker->made->edge_count;
    for (uint32_t symbol = 0; symbol < vocabulary_size(maker->vocabulary); symbol++) {
        char text[TEXT_STREAM_SYMBOL_BYTES_MAX];
        uint32_t place = from, next = END;
        if (maker->is_banned[symbol]) {
            continue;
        }
        size_t length = text_stream_spell(maker->vocabulary, symbol, is_line_begun, text);
        TRY(walk(maker, &place, text, length));
        if (place != PATTERN_DEAD) {
            TRY(find_state(maker, place, length == 1 && text[0] == '\n', &next));
        } else if (symbol != maker->end_symbol || !pattern_is_accepting(maker->pattern, from)) {
            continue;
        }
        TRY(add_edge(maker, symbol, next));
    }
    maker->made->states[index].edge_begin = edge_begin;
    maker->made->states[index].edge_count = maker->made->edge_count - edge_begin;
    return STATUS_OK;
}

/* ---- Distances */

/* Finds how far each state is from a match, from the matches backwards. `sources` lists the states before each state,
 * from `begins` of it to that of the next; `queue` has room for all states. */
static void measure(struct constraint *made, uint32_t *begins, uint32_t *sources, uint32_t *queue)
{
    uint32_t head = 0, tail = 0;
    for (uint32_t i = 0; i < made->edge_count; i++) {
        begins[made->edges[i].next]++;
    }
    for (uint32_t i = 0; i < made->state_count; i++) {
        begins[i + 1] += begins[i];
    }
    for (uint32_t i = 0; i < made->state_count; i++) { /* each part is filled from its end */
        const struct state *state = &made->states[i];
        for (uint32_t j = 0; j < state->edge_count; j++) {
            sources[--begins[made->edges[state->edge_begin + j].next]] = i;
        }
    }
    for (uint32_t i = 0; i < made->state_count; i++) {
        if (made->states[i].is_accepting) {
            made->states[i].distance = 0;
            queue[tail++] = i;
        }
    }
    for (; head < tail; head++) {
        for (uint32_t i = begins[queue[head]]; i < begins[queue[head] + 1]; i++) {
            struct state *source = &made->states[sources[i]];
            if (source->distance == NEVER) {
                source->distance = made->states[queue[head]].distance + 1;
                queue[tail++] = sources[i];
            }
        }
    }
}

/* Drops the edges to states from which there is no match. */
static void drop_lost(struct constraint *made)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < made->state_count; i++) {
        struct state *state = &made->states[i];
        uint32_t begin = kept;
        for (uint32_t j = 0; j < state->edge_count; j++) {
            struct edge edge = made->edges[state->edge_begin + j];
            if (made->states[edge.next].distance != NEVER) {
                made->edges[kept++] = edge;
            }
        }
        state->edge_begin = begin;
        state->edge_count = kept - begin;
    }
    made->edge_count = kept;
}

static enum status find_distances(struct maker *maker)
{
    struct constraint *made = maker->made;
    uint32_t *begins = mem_allocate((size_t)made->state_count + 1, sizeof *begins);
    uint32_t *sources = mem_allocate(made->edge_count, sizeof *sources);
    uint32_t *queue = mem_allocate(made->state_count, sizeof *queue);
    bool is_whole = begins != NULL && sources != NULL && queue != NULL;
    if (is_whole) {
        measure(made, begins, sources, queue);
        drop_lost(made);
    }
    mem_free(begins);
    mem_free(sources);
    mem_free(queue);
    return is_whole ? STATUS_OK : refuse_memory(maker);
}

/* ---- Making it */

static enum status make(struct maker *maker)
{
    struct constraint *made = maker->made;
    maker->state_room = 64;
    maker->edge_room = 1024;
    made->states = mem_allocate(maker->state_room, sizeof *made->states);
    made->edges = mem_allocate(maker->edge_room, sizeof *made->edges);
    if (made->states == NULL || made->edges == NULL) {
        return refuse_memory(maker);
    }
    made->states[END] = (struct state){.is_accepting = true};
    made->state_count = END + 1;
    for (int is_line_begun = 0; is_line_begun < 2; is_line_begun++) {
        TRY(find_state(maker, PATTERN_START, is_line_begun != 0, &made->begin[is_line_begun]));
    }
    for (uint32_t i = END + 1; i < made->state_count; i++) {
        TRY(add_edges(maker, i));
    }
    TRY(find_distances(maker));
    struct edge *edges = mem_reallocate(made->edges, made->edge_count + 1, sizeof *edges);
    made->edges = edges == NULL ? made->edges : edges;
    return STATUS_OK;
}

enum status constraint_create(const char *pattern, size_t length, const struct vocabulary *vocabulary,
                              const struct penalty_bias *biases, size_t bias_count, struct constraint **ret_constraint,
                              struct error *error)
{
    struct pattern *automaton;
    TRY(pattern_create(pattern, length, &automaton, error));
    struct constraint *made = mem_allocate(1, sizeof *made);
    struct maker *maker = mem_allocate(1, sizeof *maker);
    uint8_t *is_banned = mem_allocate(vocabulary_size(vocabulary), sizeof *is_banned);
    enum status status;
    if (made == NULL || maker == NULL || is_banned == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a pattern of %zu bytes", length);
    } else {
        for (size_t i = 0; i < bias_count; i++) {
            if (biases[i].symbol < vocabulary_size(vocabulary)) {
                is_banned[biases[i].symbol] |= biases[i].bias == (double)-INFINITY;
            }
        }
        atomic_init(&made->references, 1);
        maker->made = made;
        maker->pattern = automaton;
        maker->vocabulary = vocabulary;
        maker->is_banned = is_banned;
        maker->end_symbol = vocabulary_find(vocabulary, VOCABULARY_END_OF_LINE, strlen(VOCABULARY_END_OF_LINE));
        maker->error = error;
        status = make(maker);
    }
    pattern_destroy(automaton);
    mem_free(is_banned);
    mem_free(maker);
    if (status == STATUS_OK) {
        *ret_constraint = made;
    } else if (made != NULL) {
        mem_free(made->states);
        mem_free(made->edges);
        mem_free(made);
    }
    return status;
}

struct constraint *constraint_ref(struct constraint *constraint)
{
    if (constraint != NULL) {
        size_t before = atomic_fetch_add_explicit(&constraint->references, 1, memory_order_relaxed);
        CHECK(before > 0 && before < SIZE_MAX / 2);
    }
    return constraint;
}

struct constraint *constraint_unref(struct constraint *constraint)
{
    if (constraint != NULL && atomic_fetch_sub(&constraint->references, 1) == 1) {
        mem_free(constraint->states);
        mem_free(constraint->edges);
        mem_free(constraint);
    }
    return NULL;
}

/* ---- Following it */

uint32_t constraint_begin(const struct constraint *constraint, bool is_line_begun)
{
    return constraint->begin[is_line_begun];
}

size_t constraint_shortest(const struct constraint *constraint, uint32_t state)
{
    uint32_t distance = constraint->states[state].distance;
    return distance == NEVER ? CONSTRAINT_NEVER : distance;
}

/* Whether `left` symbols are enough for an edge's symbol and a match behind it; the end of the text is no symbol. */
static bool is_open(const struct constraint *constraint, const struct edge *edge, size_t left)
{
    return edge->next == END || constraint->states[edge->next].distance < left;
}

enum constraint_course constraint_course(const struct constraint *constraint, uint32_t state, size_t left)
{
    const struct state *at = &constraint->states[state];
    bool has_more = false;
    for (uint32_t i = 0; i < at->edge_count; i++) {
        const struct edge *edge = &constraint->edges[at->edge_begin + i];
        if (edge->next != END && is_open(constraint, edge, left)) {
            return CONSTRAINT_GOES_ON;
        }
        has_more = has_more || edge->next != END;
    }
    return has_more ? CONSTRAINT_IS_SHORT : CONSTRAINT_ENDS;
}

size_t constraint_gather(const struct constraint *constraint, uint32_t state, size_t left, float *logits)
{
    const struct state *at = &constraint->states[state];
    size_t count = 0;
    for (uint32_t i = 0; i < at->edge_count; i++) {
        const struct edge *edge = &constraint->edges[at->edge_begin + i];
        if (is_open(constraint, edge, left)) {
            logits[count++] = logits[edge->symbol]; /* never further back than those still to be read */
        }
    }
    return count;
}

bool constraint_follow(const struct constraint *constraint, uint32_t *state, size_t left, size_t index,
                       uint32_t *ret_symbol)
{
    const struct state *at = &constraint->states[*state];
    for (uint32_t i = 0; i < at->edge_count; i++) {
        const struct edge *edge = &constraint->edges[at->edge_begin + i];
        if (is_open(constraint, edge, left) && index-- == 0) {
            *ret_symbol = edge->symbol;
            *state = edge->next;
            return edge->next != END;
        }
    }
    CHECK(false);
}

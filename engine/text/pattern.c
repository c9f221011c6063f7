/* A pattern's states, made of sets of nodes as they are first asked for. Thread: one at a time. Owns nodes, sets and
 * the table of transitions. */
#include "engine/text/pattern.h"

#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/text/pattern_private.h"

enum { BYTE_COUNT = 256, ITEMS_MAX = 1 << 20, PLACE_COUNT = 2 * PATTERN_STATES_MAX, UNKNOWN = 0 };
static_assert((int)PATTERN_STATES_MAX <= (int)UINT16_MAX, "a state fits the table");

/* A state: the nodes, ascending, that read its next byte, or match. */
struct state {
    uint32_t begin, count; /* of the items */
    bool is_accepting;
};

struct pattern {
    struct pattern_nodes nodes;
    struct state states[PATTERN_STATES_MAX];
    uint32_t state_count;
    uint16_t places[PLACE_COUNT]; /* state by the hash of its set, 0: free; open addressing */
    uint32_t *items;              /* [ITEMS_MAX], owned */
    uint32_t item_count;
    uint32_t *stack; /* [2 * nodes.count], owned */
    uint32_t *marks; /* [nodes.count], owned: the set that last had the node */
    uint32_t mark;
    uint16_t (*table)[BYTE_COUNT]; /* [PATTERN_STATES_MAX], owned; UNKNOWN: not yet asked for */
};

/* Adds a node to the set being made behind the items: itself, or where its branches lead. */
static void add_node(struct pattern *pattern, uint32_t node, uint32_t *count)
{
    uint32_t depth = 0;
    pattern->stack[depth++] = node;
    while (depth > 0) {
        node = pattern->stack[--depth];
        if (pattern->marks[node] == pattern->mark) {
            continue;
        }
        pattern->marks[node] = pattern->mark;
        pattern->nodes.step_count++;
        const struct pattern_node *at = &pattern->nodes.list[node];
        if (at->kind != PATTERN_NODE_BRANCH) {
            pattern->items[pattern->item_count + (*count)++] = node;
            continue;
        }
        pattern->stack[depth++] = at->other; /* each branch does so once: no more than two for each node */
        pattern->stack[depth++] = at->next;
    }
}

static int compare_items(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static uint32_t hash_items(const uint32_t *items, uint32_t count)
{
    uint32_t hash = 2166136261u; /* FNV-1a, word by word */
    for (uint32_t i = 0; i < count; i++) {
        hash = (hash ^ items[i]) * 16777619u;
    }
    return hash ^ hash >> 15;
}

static bool has_match(const struct pattern *pattern, const uint32_t *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (pattern->nodes.list[items[i]].kind == PATTERN_NODE_MATCH) {
            return true;
        }
    }
    return false;
}

/* The state of the set of `count` items behind the others: an earlier one, or new. */
static enum status find_state(struct pattern *pattern, uint32_t count, uint32_t *ret_state, struct error *error)
{
    uint32_t *items = pattern->items + pattern->item_count;
    qsort(items, count, sizeof *items, compare_items);
    uint32_t place = hash_items(items, count) % PLACE_COUNT;
    for (; pattern->places[place] != 0; place = (place + 1) % PLACE_COUNT) {
        const struct state *state = &pattern->states[pattern->places[place]];
        if (state->count == count && memcmp(pattern->items + state->begin, items, count * sizeof *items) == 0) {
            *ret_state = pattern->places[place];
            return STATUS_OK;
        }
    }
    if (pattern->state_count == PATTERN_STATES_MAX) {
        return pattern_refuse_size(error, "states in its automaton", PATTERN_STATES_MAX);
    }
    struct state made = {
        .begin = pattern->item_count, .count = count, .is_accepting = has_match(pattern, items, count)};
    pattern->item_count += count;
    pattern->states[pattern->state_count] = made;
    pattern->places[place] = (uint16_t)pattern->state_count;
    *ret_state = pattern->state_count++;
    return STATUS_OK;
}

static enum status check_room(const struct pattern *pattern, struct error *error)
{
    if (pattern->nodes.step_count > PATTERN_STEPS_MAX) {
        return pattern_refuse_size(error, "steps to make its automaton", PATTERN_STEPS_MAX);
    }
    return pattern->item_count + pattern->nodes.count <= ITEMS_MAX
               ? STATUS_OK
               : pattern_refuse_size(error, "nodes in the states of its automaton", ITEMS_MAX);
}

enum status pattern_step(struct pattern *pattern, uint32_t state, unsigned char byte, uint32_t *ret_next,
                         struct error *error)
{
    CHECK(state > UNKNOWN && state < pattern->state_count);
    uint32_t next = pattern->table[state][byte];
    if (next == UNKNOWN) {
        TRY(check_room(pattern, error));
        uint32_t count = 0;
        pattern->mark++;
        for (uint32_t i = 0; i < pattern->states[state].count; i++) {
            const struct pattern_node *node = &pattern->nodes.list[pattern->items[pattern->states[state].begin + i]];
            if (node->kind == PATTERN_NODE_BYTE && node->first <= byte && byte <= node->last) {
                add_node(pattern, node->next, &count);
            }
        }
        pattern->nodes.step_count += pattern->states[state].count;
        TRY(find_state(pattern, count, &next, error));
        pattern->table[state][byte] = (uint16_t)next;
    }
    *ret_next = next;
    return STATUS_OK;
}

bool pattern_is_accepting(const struct pattern *pattern, uint32_t state)
{
    CHECK(state > UNKNOWN && state < pattern->state_count);
    return pattern->states[state].is_accepting;
}

/* The two states there always are: the empty set, and what may stand at the beginning. */
static enum status begin(struct pattern *pattern, struct error *error)
{
    uint32_t count = 0, dead, start;
    pattern->state_count = PATTERN_DEAD;
    TRY(find_state(pattern, 0, &dead, error));
    pattern->mark++;
    add_node(pattern, pattern->nodes.start, &count);
    TRY(find_state(pattern, count, &start, error));
    CHECK(dead == PATTERN_DEAD && start == PATTERN_START);
    return STATUS_OK;
}

enum status pattern_create(const char *text, size_t length, struct pattern **ret_pattern, struct error *error)
{
    struct syntax syntax;
    TRY(pattern_parse(text, length, &syntax, error));
    struct pattern *pattern = mem_allocate(1, sizeof *pattern);
    enum status status = STATUS_NO_MEMORY;
    if (pattern != NULL) {
        status = pattern_nodes_create(&syntax, &pattern->nodes, error);
    }
    pattern_syntax_release(&syntax);
    if (status == STATUS_OK) {
        pattern->items = mem_allocate(ITEMS_MAX, sizeof *pattern->items);
        pattern->stack = mem_allocate(pattern->nodes.count, 2 * sizeof *pattern->stack);
        pattern->marks = mem_allocate(pattern->nodes.count, sizeof *pattern->marks);
        pattern->table = mem_allocate(PATTERN_STATES_MAX, sizeof *pattern->table);
        bool is_whole =
            pattern->items != NULL && pattern->stack != NULL && pattern->marks != NULL && pattern->table != NULL;
        status = is_whole ? begin(pattern, error) : STATUS_NO_MEMORY;
    }
    if (status == STATUS_NO_MEMORY) {
        error_set(error, status, "no memory for a pattern of %zu bytes", length);
    }
    if (status != STATUS_OK) {
        pattern_destroy(pattern);
        return status;
    }
    *ret_pattern = pattern;
    return STATUS_OK;
}

void pattern_destroy(struct pattern *pattern)
{
    if (pattern != NULL) {
        mem_free(pattern->nodes.list);
        mem_free(pattern->items);
        mem_free(pattern->stack);
        mem_free(pattern->marks);
        mem_free(pattern->table);
        mem_free(pattern);
    }
}

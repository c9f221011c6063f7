/* From a syntax tree to nodes that read bytes. Made from the end to the beginning: each part is told what follows it,
 * so that parts need no second pass to be joined. Thread: one at a time. Owns nothing. */
#include "engine/base/mem.h"
#include "engine/text/pattern_private.h"
#include "engine/text/utf8.h"

/* 0 and an unfilled list when it is full: every caller hands that on. */
static uint32_t add(struct pattern_nodes *nodes, struct pattern_node node)
{
    nodes->step_count++;
    if (nodes->count == PATTERN_NODES_MAX || nodes->step_count > PATTERN_STEPS_MAX) {
        return 0;
    }
    nodes->list[nodes->count] = node;
    return nodes->count++;
}

static uint32_t add_branch(struct pattern_nodes *nodes, uint32_t next, uint32_t other)
{
    bool is_whole = next != 0 && other != 0;
    return is_whole ? add(nodes, (struct pattern_node){.kind = PATTERN_NODE_BRANCH, .next = next, .other = other}) : 0;
}

/* A byte between the two, then `next`: the same node as an earlier one of its class where there is one. */
static uint32_t add_byte(struct pattern_nodes *nodes, uint32_t class_begin, unsigned char first, unsigned char last,
                         uint32_t next)
{
    for (uint32_t i = class_begin; i < nodes->count; i++, nodes->step_count++) {
        const struct pattern_node *node = &nodes->list[i];
        if (node->kind == PATTERN_NODE_BYTE && node->first == first && node->last == last && node->next == next) {
            return i;
        }
    }
    return add(nodes, (struct pattern_node){.kind = PATTERN_NODE_BYTE, .first = first, .last = last, .next = next});
}

/* A class being made: what follows it, its nodes so far and the way into them. */
struct class_nodes {
    struct pattern_nodes *nodes;
    uint32_t begin;
    uint32_t next;
    uint32_t entry; /* 0: none yet */
    bool is_full;
};

/* Characters whose encodings are as long and differ only in whole ranges of bytes: a chain of nodes. */
static void add_chain(struct class_nodes *class, uint32_t first, uint32_t last)
{
    char low[UTF8_BYTES_MAX], high[UTF8_BYTES_MAX];
    size_t length = utf8_encode(first, low);
    utf8_encode(last, high);
    uint32_t node = class->next;
    for (size_t i = length; i > 0 && node != 0; i--) {
        node = add_byte(class->nodes, class->begin, (unsigned char)low[i - 1], (unsigned char)high[i - 1], node);
    }
    class->entry = class->entry == 0 ? node : add_branch(class->nodes, node, class->entry);
    class->is_full = class->entry == 0;
}

/* Splits a range where encodings become longer, around the surrogates, and where a byte's range would not be whole.
 * Source: the `utf8-ranges` of Rust's regex, after RE2. */
static void add_range(struct class_nodes *class, uint32_t first, uint32_t last)
{
    static const uint32_t borders[] = {0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF};
    for (size_t i = 0; i < sizeof borders / sizeof *borders; i++) {
        if (first <= borders[i] && last > borders[i]) {
            add_range(class, first, borders[i]);
            add_range(class, borders[i] + 1, last);
            return;
        }
    }
    if (first >= 0xD800 && last <= 0xDFFF) {
        return;
    }
    for (unsigned bits = 6; bits <= 18 && last > 0x7F; bits += 6) {
        uint32_t mask = (UINT32_C(1) << bits) - 1;
        if ((first & ~mask) == (last & ~mask)) {
            break;
        }
        if ((first & mask) != 0) {
            add_range(class, first, first | mask);
            add_range(class, (first | mask) + 1, last);
            return;
        }
        if ((last & mask) != mask) {
            add_range(class, first, (last & ~mask) - 1);
            add_range(class, last & ~mask, last);
            return;
        }
    }
    if (!class->is_full) {
        add_chain(class, first, last);
    }
}

static uint32_t add_class(struct pattern_nodes *nodes, const struct syntax *syntax, const struct syntax_node *node,
                          uint32_t next)
{
    struct class_nodes class = {.nodes = nodes, .begin = nodes->count, .next = next};
    for (size_t i = 0; i < node->range_count; i++) {
        const struct character_range *range = &syntax->ranges[node->range_begin + i];
        add_range(&class, range->first, range->last);
    }
    return class.is_full ? 0 : class.entry;
}

static uint32_t add_tree(struct pattern_nodes *nodes, const struct syntax *syntax, uint32_t index, uint32_t next);

static uint32_t add_repeat(struct pattern_nodes *nodes, const struct syntax *syntax, const struct syntax_node *node,
                           uint32_t next)
{
    uint32_t entry = next;
    if (node->max == SYNTAX_UNBOUNDED) {
        entry = add_branch(nodes, next, next); /* into the loop, or on */
        uint32_t body = entry == 0 ? 0 : add_tree(nodes, syntax, node->child, entry);
        if (body == 0) {
            return 0;
        }
        nodes->list[entry].next = body;
    }
    for (uint32_t i = node->min; i < node->max && node->max != SYNTAX_UNBOUNDED && entry != 0; i++) {
        uint32_t body = add_tree(nodes, syntax, node->child, entry);
        entry = add_branch(nodes, body, next);
    }
    for (uint32_t i = 0; i < node->min && entry != 0; i++) {
        entry = add_tree(nodes, syntax, node->child, entry);
    }
    return entry;
}

/* The way into what the node matches, with `next` behind it; 0 when there is no room. As deep as the tree. */
static uint32_t add_tree(struct pattern_nodes *nodes, const struct syntax *syntax, uint32_t index, uint32_t next)
{
    const struct syntax_node *node = &syntax->nodes[index];
    uint32_t entry = next;
    if (++nodes->step_count > PATTERN_STEPS_MAX) {
        return 0;
    }
    switch (node->kind) {
    case SYNTAX_CLASS: return add_class(nodes, syntax, node, next);
    case SYNTAX_REPEAT: return add_repeat(nodes, syntax, node, next);
    case SYNTAX_SEQUENCE:
        for (uint32_t child = node->child; child != 0 && entry != 0; child = syntax->nodes[child].before) {
            entry = add_tree(nodes, syntax, child, entry);
        }
        return entry;
    case SYNTAX_ALTERNATIVES:
        entry = add_tree(nodes, syntax, node->child, next);
        for (uint32_t child = syntax->nodes[node->child].before; child != 0 && entry != 0;
             child = syntax->nodes[child].before) {
            entry = add_branch(nodes, add_tree(nodes, syntax, child, next), entry);
        }
        return entry;
    }
    return 0;
}

enum status pattern_nodes_create(const struct syntax *syntax, struct pattern_nodes *ret_nodes, struct error *error)
{
    struct pattern_nodes nodes = {.list = mem_allocate(PATTERN_NODES_MAX, sizeof *nodes.list), .count = 1};
    if (nodes.list == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a pattern's automaton");
    }
    uint32_t match = add(&nodes, (struct pattern_node){.kind = PATTERN_NODE_MATCH});
    nodes.start = add_tree(&nodes, syntax, syntax->root, match);
    if (nodes.start == 0) {
        bool is_slow = nodes.step_count > PATTERN_STEPS_MAX;
        mem_free(nodes.list);
        return is_slow ? pattern_refuse_size(error, "steps to make its automaton", PATTERN_STEPS_MAX)
                       : pattern_refuse_size(error, "nodes in its automaton", PATTERN_NODES_MAX);
    }
    *ret_nodes = nodes;
    return STATUS_OK;
}

/* What the parts of a pattern share: its syntax tree (pattern_parse.c), its classes of characters (pattern_class.c) and
 * the automaton that the tree becomes (pattern_nodes.c), of which pattern.c makes states. Thread: one at a time. */
#ifndef ENGINE_TEXT_PATTERN_PRIVATE_H
#define ENGINE_TEXT_PATTERN_PRIVATE_H

#include "engine/text/pattern.h"

struct character_range {
    uint32_t first, last; /* code points, both in it; surrogates between them do not count */
};

enum syntax_kind {
    SYNTAX_CLASS, /* one character of its ranges */
    SYNTAX_SEQUENCE,
    SYNTAX_ALTERNATIVES,
    SYNTAX_REPEAT,
};

#define SYNTAX_UNBOUNDED UINT32_MAX

/* Nodes are known by their place in the list; 0 is none. */
struct syntax_node {
    enum syntax_kind kind;
    uint32_t child;  /* the last one */
    uint32_t before; /* among its parent's children */
    uint32_t min, max;
    size_t range_begin, range_count;
};

struct syntax {
    struct syntax_node *nodes; /* owned */
    size_t node_count, node_room;
    struct character_range *ranges; /* owned */
    size_t range_count, range_room;
    uint32_t root;
};

/* Reads an expression into a tree. Errors as pattern_create's. Owned: pattern_syntax_release. */
enum status pattern_parse(const char *text, size_t length, struct syntax *ret_syntax, struct error *error) MUST_CHECK;
void pattern_syntax_release(struct syntax *syntax);

/* Ranges from `begin` to the list's end are a class being made: adds a range; adds what \d, \w or \s stand for (by that
 * letter); sorts and joins; makes it of all other characters. False without memory. */
bool pattern_class_add(struct syntax *syntax, uint32_t first, uint32_t last) MUST_CHECK;
bool pattern_class_add_named(struct syntax *syntax, char letter) MUST_CHECK;
void pattern_class_tidy(struct syntax *syntax, size_t begin);
bool pattern_class_complement(struct syntax *syntax, size_t begin) MUST_CHECK;

enum pattern_node_kind { PATTERN_NODE_BYTE, PATTERN_NODE_BRANCH, PATTERN_NODE_MATCH };

struct pattern_node {
    uint32_t next, other; /* a branch leads to both */
    uint8_t kind;
    uint8_t first, last; /* bytes */
};

/* [0] stands for none. */
struct pattern_nodes {
    struct pattern_node *list; /* [PATTERN_NODES_MAX], owned */
    uint32_t count;
    uint32_t start;
    size_t step_count;
};

/* Makes the tree's automaton. INVALID, code "pattern_too_large", beyond PATTERN_NODES_MAX or PATTERN_STEPS_MAX;
 * NO_MEMORY. Owned: mem_free of its list. */
enum status pattern_nodes_create(const struct syntax *syntax, struct pattern_nodes *ret_nodes,
                                 struct error *error) MUST_CHECK;

/* Fills in an error about the pattern; returns INVALID. */
enum status pattern_refuse(struct error *error, const char *code);
enum status pattern_refuse_size(struct error *error, const char *what, size_t maximum);

#endif

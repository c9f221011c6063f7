/* What the tests of cells share: making them. */
#ifndef TESTS_UNIT_CELL_RIG_H
#define TESTS_UNIT_CELL_RIG_H

#include "engine/nn/cell.h"
#include "tests/unit/recurrence_rig.h"

/* A cell as the options say. */
static inline uint32_t make(struct graph *graph, const struct cell_options *options)
{
    struct error error;
    uint32_t cell = 0;
    must(cell_create(graph, options, &cell, &error), &error);
    return cell;
}

/* A cell of nothing but units. */
static inline uint32_t plain(struct graph *graph, enum cell_kind kind, size_t units)
{
    return make(graph, &(struct cell_options){.kind = kind, .units = units});
}

/* Two cells, one on the other. */
static inline uint32_t multi(struct graph *graph, uint32_t a, uint32_t b, bool is_matrix)
{
    return make(graph, &(struct cell_options){
                           .kind = CELL_MULTI, .children = {a, b}, .child_count = 2, .is_state_matrix = is_matrix});
}

#endif

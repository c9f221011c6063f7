/* What packing a language model in bf16 or int8 costs, measured on text it was not trained on. Thread: any; slow. */
#ifndef ENGINE_MODEL_PRECISION_COST_H
#define ENGINE_MODEL_PRECISION_COST_H

#include <jansson.h>

#include "engine/graph/values.h"
#include "engine/train/corpus.h"

enum { PRECISION_COST_ROWS = 16, PRECISION_COST_ROW_SYMBOLS = 1024 };

/* Scores a stretch of an encoded corpus in every precision: up to PRECISION_COST_ROWS rows of up to
 * PRECISION_COST_ROW_SYMBOLS, spread evenly over the stretch, so that a long text takes no longer. New reference:
 * {"symbols":16368,"fp32":{"bits_per_character":1.93},"bf16":{"bits_per_character":1.93,"change":0.0001},"int8":{…}},
 * the change as a part of fp32's; {"refused":"why"} for a precision that cannot
 * hold a weight or could not be measured. NULL for a stretch shorter than 2 symbols. CANCELLED soon after
 * `is_cancelled` is set (NULL: never); NO_MEMORY. */
enum status precision_cost_measure(struct graph *graph, struct values *values, struct vocabulary *vocabulary,
                                   const struct corpus *corpus, struct corpus_stretch stretch,
                                   const _Atomic bool *is_cancelled, json_t **ret_report,
                                   struct error *error) MUST_CHECK;

#endif

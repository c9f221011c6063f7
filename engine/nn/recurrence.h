/* static_rnn, dynamic_rnn, bidirectional_dynamic_rnn: a cell over time. dynamic_rnn becomes one Recurrence node that
 * holds the cell's body (engine/graph/ops_recurrence.c). For one building thread. Source: TensorFlow 1.15, rnn.py. */
#ifndef ENGINE_NN_RECURRENCE_H
#define ENGINE_NN_RECURRENCE_H

#include "engine/nn/cell.h"

enum { STATIC_RNN_STEPS_MAX = 4096 };

struct recurrence_options {
    struct output inputs;                /* dynamic: [batch, time, depth], time-major [time, batch, depth] */
    struct output sequence_length;       /* .node NULL: none; a vector of whole numbers */
    const struct output *initial_states; /* flat, as cell_state_count; NULL: zeros of `dtype` */
    bool has_dtype;
    enum dtype dtype;
    bool is_time_major;
    size_t
        symbol_count; /* dynamic: above 0, inputs are int32 symbols without depth, and the cell sees one-hot vectors */
    const struct variable_scope_options *scope; /* NULL: "rnn"; bidirectional: "bidirectional_rnn" */
    bool is_general;                            /* dynamic: never a fused kernel: what tests compare with */
};

/* Outputs and the flat final states (room for cell_state_count). The errors of section 9.5. */
enum status dynamic_rnn(struct graph *graph, uint32_t cell, const struct recurrence_options *options,
                        struct output *ret_outputs, struct output *ret_states, struct error *error) MUST_CHECK;

/* `inputs` one tensor [batch, depth] a step; `ret_outputs` as many. */
enum status static_rnn(struct graph *graph, uint32_t cell, const struct output *inputs, size_t input_count,
                       const struct recurrence_options *options, struct output *ret_outputs, struct output *ret_states,
                       struct error *error) MUST_CHECK;

/* `backward_initial_states` as initial_states, for the cell that runs backwards. */
enum status bidirectional_dynamic_rnn(struct graph *graph, uint32_t cell_forward, uint32_t cell_backward,
                                      const struct recurrence_options *options,
                                      const struct output *backward_initial_states, struct output ret_outputs[2],
                                      struct output *ret_forward_states, struct output *ret_backward_states,
                                      struct error *error) MUST_CHECK;

#endif

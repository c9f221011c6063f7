/* What LstmBlock shares with the fused LSTM layer. Thread: see op.h. Owns nothing. */
#ifndef ENGINE_GRAPH_OPS_RECURRENCE_LSTM_H
#define ENGINE_GRAPH_OPS_RECURRENCE_LSTM_H

#include "engine/graph/ops_recurrence_fused.h"

/* The gates before activation, [time, batch, 4 × units], or their gradients. */
struct fused_sums fused_lstm_gates(const struct fused_layer *layer, float *data);
/* The steps, layer->saved holding the inputs' products and bias, with layer->scratch of fused_lstm_forward_floats. */
size_t fused_lstm_forward_floats(size_t rows, size_t batch, size_t units);
void fused_lstm_steps(const struct fused_layer *layer);
/* The steps backwards, with layer->scratch of fused_lstm_backward_floats; returns d_gates [time, batch, 4 × units],
 * pre-activation, part of that. */
size_t fused_lstm_backward_floats(size_t rows, size_t batch, size_t units);
struct fused_sums fused_lstm_steps_back(const struct fused_layer *layer);

#endif

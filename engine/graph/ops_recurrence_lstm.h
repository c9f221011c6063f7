/* What LstmBlock shares with the fused LSTM layer. Thread: see op.h. Owns nothing. */
#ifndef ENGINE_GRAPH_OPS_RECURRENCE_LSTM_H
#define ENGINE_GRAPH_OPS_RECURRENCE_LSTM_H

#include "engine/graph/ops_recurrence_fused.h"

/* The steps, layer->saved holding the inputs' products and bias. */
void fused_lstm_steps(const struct fused_layer *layer);
/* The steps backwards: d_gates [time, batch, 4 × units], pre-activation. */
void fused_lstm_steps_back(const struct fused_layer *layer, float *d_gates);
/* Adds the gradient by the kernel's hidden rows. */
void fused_lstm_hidden_gradient(const struct fused_layer *layer, const float *d_gates, float *d_kernel_h);

#endif

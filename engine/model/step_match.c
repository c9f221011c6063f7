/* Recognising cells, from the logits down to the symbol. Thread: one. Owns nothing.
 *
 * A layer's output is a tensor that also is the next value of a state, its h. What it is made of says the cell:
 *   LSTM  h' = tanh(c')·σ(o), c' = c·σ(f) + σ(i)·tanh(j)
 *   GRU   h' = u·h + (1 − u)·k, u = σ(…), k = tanh(… of x and r·h), r = σ(…)
 *   RNN   h' = tanh(…)
 * and an LSTM's h may be projected: h' = (tanh(c')·σ(o))·P. Factors and terms may stand in any order; the sums inside
 * are read by step_sum_read. */
#include "engine/model/step_match.h"

#include "engine/base/check.h"

enum { GATE_I, GATE_J, GATE_F, GATE_O };
enum { GATE_R, GATE_U, GATE_CANDIDATE };

size_t step_gate_count(enum decode_cell cell)
{
    return cell == DECODE_CELL_LSTM ? 4 : cell == DECODE_CELL_GRU ? 3 : 1;
}

/* ---- small patterns ---- */

static bool is_sum_of_two(const struct node *node)
{
    return (node_is(node, "Add") || node_is(node, "AddV2")) && node->input_count == 2;
}

/* The two inputs of a node, the one that is an `op` first; false when neither is, or it is no node of two. */
static bool take_apart(struct step_view *view, const struct node *node, const char *op, struct step_piece ret_parts[2])
{
    if (node->input_count != 2) {
        return false;
    }
    for (size_t i = 0; i < 2; i++) {
        ret_parts[0] = step_select(view, node->inputs[i]);
        ret_parts[1] = step_select(view, node->inputs[1 - i]);
        if (node_is(ret_parts[0].output.node, op)) {
            return true;
        }
    }
    return false;
}

/* Likewise, the one that is this tensor first. */
static bool take_from(struct step_view *view, const struct node *node, struct output whole,
                      struct step_piece *ret_other)
{
    for (size_t i = 0; i < 2 && node->input_count == 2; i++) {
        struct step_piece one = step_select(view, node->inputs[i]);
        if (output_equal(one.output, whole) && one.begin == 0) {
            *ret_other = step_select(view, node->inputs[1 - i]);
            return true;
        }
    }
    return false;
}

/* The sum below an activation. */
static bool read_gate(struct step_view *view, struct step_piece piece, const char *activation, size_t units,
                      struct step_sum *ret_sum)
{
    if (!node_is(piece.output.node, activation)) {
        return step_refuse(view, piece.output,
                           activation[0] == 'S' ? "stands where a cell has a sigmoid"
                                                : "stands where a cell has a tanh");
    }
    return step_sum_read(view, piece.output.node->inputs[0], piece.begin, units, ret_sum);
}

/* The state, as long as its cell's is wide. */
static struct output state_of(const struct step_view *view, size_t state)
{
    return view->signature->states[state];
}

/* What the layer reads: the one vector in its sums that is neither its h nor r·h. */
static bool find_input(struct step_view *view, struct step_layer *layer)
{
    for (size_t g = 0; g < step_gate_count(layer->cell); g++) {
        for (size_t i = 0; i < layer->gates[g].product_count; i++) {
            struct step_piece vector = layer->gates[g].products[i].vector;
            bool is_own = output_equal(vector.output, layer->hidden) ||
                          (layer->reset.node != NULL && output_equal(vector.output, layer->reset));
            if (is_own) {
                continue;
            }
            if (layer->input.output.node == NULL) {
                layer->input = vector;
            } else if (!step_piece_equal(layer->input, vector)) {
                return step_refuse(view, vector.output, "is a second input of a cell");
            }
        }
    }
    return layer->input.output.node != NULL || step_refuse(view, layer->hidden, "is the state of a cell without input");
}

/* ---- cells ---- */

/* c·σ(f) and σ(i)·tanh(j), by their products' nodes. */
static bool match_carry(struct step_view *view, struct output next_c, struct output c, struct step_layer *layer)
{
    const struct node *sum = next_c.node;
    for (size_t i = 0; i < 2 && is_sum_of_two(sum); i++) {
        struct output kept = step_resolve(view, sum->inputs[i]);
        struct output fresh = step_resolve(view, sum->inputs[1 - i]);
        struct step_piece forget;
        struct step_piece parts[2];
        if (node_is(kept.node, "Mul") && node_is(fresh.node, "Mul") && take_from(view, kept.node, c, &forget) &&
            take_apart(view, fresh.node, "Tanh", parts)) {
            return read_gate(view, forget, "Sigmoid", layer->units, &layer->gates[GATE_F]) &&
                   read_gate(view, parts[0], "Tanh", layer->units, &layer->gates[GATE_J]) &&
                   read_gate(view, parts[1], "Sigmoid", layer->units, &layer->gates[GATE_I]);
        }
    }
    return step_refuse(view, next_c, "is no c of an LSTM: c·σ(f) + σ(i)·tanh(j)");
}

static bool match_lstm(struct step_view *view, struct output next_h, struct step_layer *layer)
{
    struct step_piece parts[2];
    size_t carried;
    if (!take_apart(view, next_h.node, "Tanh", parts)) {
        return step_refuse(view, next_h, "is no h of an LSTM: tanh(c)·σ(o)");
    }
    struct output next_c = step_resolve(view, parts[0].output.node->inputs[0]);
    if (!step_find_next(view, next_c, &carried)) {
        return step_refuse(view, next_c, "is no next state");
    }
    layer->cell = DECODE_CELL_LSTM;
    return read_gate(view, parts[1], "Sigmoid", layer->units, &layer->gates[GATE_O]) &&
           match_carry(view, next_c, state_of(view, carried), layer);
}

/* An LSTM whose h is projected. */
static bool match_projected(struct step_view *view, struct output next_h, struct step_layer *layer)
{
    const struct node *node = next_h.node;
    layer->projection = step_resolve(view, node->inputs[1]);
    const struct shape *shape = &output_type(layer->projection)->shape;
    bool is_plain =
        !node_attribute_boolean(node, "transpose_a", false) && !node_attribute_boolean(node, "transpose_b", false);
    if (!is_plain || layer->projection.node->body != 0 || !step_is_free(view, layer->projection) || shape->rank != 2 ||
        shape->dimensions[0] <= 0) {
        return step_refuse(view, next_h, "is no projection by weights");
    }
    layer->units = (size_t)shape->dimensions[0];
    return match_lstm(view, step_resolve(view, node->inputs[0]), layer);
}

/* An LSTM layer as one node: x, c, h, kernel, bias. */
static bool match_lstm_block(struct step_view *view, struct output next_h, struct step_layer *layer)
{
    const struct node *node = next_h.node;
    struct step_piece x = step_select(view, node->inputs[0]);
    const struct shape *kernel = &output_type(node->inputs[3])->shape;
    size_t input_size = (size_t)kernel->dimensions[0] - layer->units;
    struct output weights[] = {step_resolve(view, node->inputs[3]), step_resolve(view, node->inputs[4])};
    if (!step_is_free(view, weights[0]) || !step_is_free(view, weights[1]) ||
        !output_equal(step_resolve(view, node->inputs[2]), layer->hidden)) {
        return step_refuse(view, next_h, "is an LSTM with weights or states of another kind");
    }
    x.count = input_size;
    layer->cell = DECODE_CELL_LSTM;
    for (size_t g = 0; g < STEP_GATES_MAX; g++) {
        struct step_matrix matrix = {.weights = weights[0], .rows = input_size, .column = g * layer->units};
        struct step_sum *sum = &layer->gates[g];
        *sum = (struct step_sum){.columns = layer->units, .product_count = 2, .addend_count = 1};
        sum->products[0] = (struct step_product){.vector = x, .matrix = matrix};
        matrix.row = input_size;
        matrix.rows = layer->units;
        sum->products[1] = (struct step_product){.vector = {layer->hidden, 0, layer->units}, .matrix = matrix};
        sum->addends[0] = (struct step_addend){.weights = weights[1], .begin = g * layer->units};
        if (g == GATE_F) {
            sum->addends[sum->addend_count++] =
                (struct step_addend){.number = node_attribute_number(node, "forget_bias", 1)};
        }
    }
    return true;
}

static bool is_rest(struct step_view *view, struct step_piece piece, struct step_piece update)
{
    double one;
    const struct node *node = piece.output.node;
    return node_is(node, "Sub") && step_number(view, step_resolve(view, node->inputs[0]), &one) && one == 1 &&
           piece.begin == 0 && step_piece_equal(step_select(view, node->inputs[1]), update);
}

/* r·h among what the candidate reads. */
static bool match_reset(struct step_view *view, struct step_layer *layer)
{
    const struct step_sum *sum = &layer->gates[GATE_CANDIDATE];
    for (size_t i = 0; i < sum->product_count; i++) {
        struct output vector = sum->products[i].vector.output;
        struct step_piece reset;
        if (node_is(vector.node, "Mul") && take_from(view, vector.node, layer->hidden, &reset)) {
            layer->reset = vector;
            return read_gate(view, reset, "Sigmoid", layer->units, &layer->gates[GATE_R]);
        }
    }
    return step_refuse(view, layer->hidden, "is the state of a GRU that does not reset before its product");
}

static bool match_gru(struct step_view *view, struct output next_h, struct step_layer *layer)
{
    const struct node *sum = next_h.node;
    for (size_t i = 0; i < 2; i++) {
        struct output kept = step_resolve(view, sum->inputs[i]);
        struct output fresh = step_resolve(view, sum->inputs[1 - i]);
        struct step_piece update;
        struct step_piece parts[2];
        if (node_is(kept.node, "Mul") && node_is(fresh.node, "Mul") &&
            take_from(view, kept.node, layer->hidden, &update) && take_apart(view, fresh.node, "Sub", parts) &&
            is_rest(view, parts[0], update)) {
            layer->cell = DECODE_CELL_GRU;
            return read_gate(view, update, "Sigmoid", layer->units, &layer->gates[GATE_U]) &&
                   read_gate(view, parts[1], "Tanh", layer->units, &layer->gates[GATE_CANDIDATE]) &&
                   match_reset(view, layer);
        }
    }
    return step_refuse(view, next_h, "is no h of a GRU: u·h + (1 − u)·tanh(…)");
}

static bool match_cell(struct step_view *view, struct output next_h, struct step_layer *layer)
{
    const struct node *node = next_h.node;
    size_t state;
    *layer = (struct step_layer){.units = 0};
    if (!step_find_next(view, next_h, &state)) {
        return step_refuse(view, next_h,
                           "is not the output of an LSTM, GRU or RNN cell whose state the signature names");
    }
    layer->hidden = state_of(view, state);
    layer->units = layer->hidden_count = step_width(layer->hidden);
    bool is_matched = false;
    if (node_is(node, "LstmBlock")) {
        is_matched = match_lstm_block(view, next_h, layer);
    } else if (node_is(node, "Mul")) {
        is_matched = match_lstm(view, next_h, layer);
    } else if (node_is(node, "MatMul")) {
        is_matched = match_projected(view, next_h, layer);
    } else if (is_sum_of_two(node)) {
        is_matched = match_gru(view, next_h, layer);
    } else if (node_is(node, "Tanh")) {
        layer->cell = DECODE_CELL_RNN;
        is_matched = step_sum_read(view, node->inputs[0], 0, layer->units, &layer->gates[0]);
    } else {
        return step_refuse(view, next_h, "is no h of an LSTM, GRU or RNN cell");
    }
    return is_matched && find_input(view, layer);
}

/* A cell's output, or that plus the cell's input. */
static bool match_layer(struct step_view *view, struct output top, struct step_layer *layer)
{
    size_t state;
    if (!is_sum_of_two(top.node) || step_find_next(view, top, &state)) {
        return match_cell(view, top, layer);
    }
    for (size_t i = 0; i < 2; i++) {
        struct output next_h = step_resolve(view, top.node->inputs[i]);
        struct output below = step_resolve(view, top.node->inputs[1 - i]);
        char reason[STEP_VIEW_REASON_BYTES_MAX];
        memcpy(reason, view->reason, sizeof reason);
        if (step_find_next(view, next_h, &state) && match_cell(view, next_h, layer) &&
            output_equal(layer->input.output, below) && layer->input.begin == 0) {
            layer->is_residual = true;
            return layer->projection.node == NULL ||
                   step_refuse(view, top,
                               "adds the input of a cell to its projected output, which packed is no vector "
                               "of its own: projections are folded into the weights that read them");
        }
        memcpy(view->reason, reason, sizeof reason); /* the other one may be the cell */
    }
    return step_refuse(view, top, "adds up other than the input and the output of a cell");
}

/* ---- both ends of the stack ---- */

static bool is_symbol(struct step_view *view, struct output output)
{
    return output_equal(step_resolve(view, output), view->signature->symbol);
}

/* Whether it is the symbol's one-hot vector. */
static bool is_one_hot(struct step_view *view, struct output output, size_t symbol_count)
{
    double on;
    double off;
    const struct node *node = output.node;
    CHECK(node != NULL);
    if (is_symbol(view, output)) {
        return true; /* fed as such a vector, or to a layer that takes symbols for them */
    }
    return node_is(node, "OneHot") && step_width(output) == symbol_count && is_symbol(view, node->inputs[0]) &&
           step_number(view, node->inputs[2], &on) && step_number(view, node->inputs[3], &off) && on == 1 && off == 0;
}

/* A row of a matrix, by the symbol. */
static bool match_embedding(struct step_view *view, struct output output, struct step_stack *stack)
{
    const struct node *node = output.node;
    double axis;
    CHECK(node != NULL);
    if (node_is(node, "GatherV2") && is_symbol(view, node->inputs[1]) && step_number(view, node->inputs[2], &axis) &&
        axis == 0) {
        stack->embedding = step_resolve(view, node->inputs[0]);
    } else if (node_is(node, "MatMul") && !node_attribute_boolean(node, "transpose_b", false) &&
               is_one_hot(view, step_resolve(view, node->inputs[0]), stack->symbol_count)) {
        stack->embedding = step_resolve(view, node->inputs[1]);
    }
    return stack->embedding.node != NULL && stack->embedding.node->body == 0 && step_is_free(view, stack->embedding);
}

static bool match_input(struct step_view *view, struct step_piece input, struct step_stack *stack)
{
    if (input.begin != 0) {
        return step_refuse(view, input.output, "is read in part");
    }
    return is_one_hot(view, input.output, stack->symbol_count) || match_embedding(view, input.output, stack);
}

static bool match_output(struct step_view *view, struct step_stack *stack, struct output *ret_top)
{
    struct output scores = step_resolve(view, view->signature->scores);
    if (view->signature->is_probabilities) {
        if (!node_is(scores.node, "Softmax")) {
            return step_refuse(view, scores, "is no softmax of logits");
        }
        scores = scores.node->inputs[0];
    }
    if (!step_sum_read(view, scores, 0, stack->symbol_count, &stack->logits)) {
        return false;
    }
    if (stack->logits.product_count != 1 || stack->logits.products[0].vector.begin != 0) {
        return step_refuse(view, scores, "does not read one whole layer");
    }
    *ret_top = stack->logits.products[0].vector.output;
    return true;
}

/* Every state belongs to a layer. */
static bool check_states(struct step_view *view, const struct step_stack *stack)
{
    size_t used = 0;
    for (size_t i = 0; i < stack->layer_count; i++) {
        used += stack->layers[i].cell == DECODE_CELL_LSTM ? 2 : 1;
    }
    return used == view->signature->state_count ||
           step_refuse(view, view->signature->scores, "does not read all of the signature's states through cells");
}

static void reverse(struct step_layer *layers, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        struct step_layer swapped = layers[i];
        layers[i] = layers[count - 1 - i];
        layers[count - 1 - i] = swapped;
    }
}

bool step_match(struct step_view *view, size_t symbol_count, struct step_stack *stack)
{
    struct output top = {NULL, 0};
    stack->symbol_count = symbol_count;
    if (!match_output(view, stack, &top)) {
        return false;
    }
    for (bool is_bottom = false; !is_bottom;) {
        struct step_layer *layer = &stack->layers[stack->layer_count];
        CHECK(top.node != NULL);
        if (stack->layer_count == DECODE_LAYERS_MAX) {
            return step_refuse(view, top, "stands on too many layers");
        }
        if (!match_layer(view, top, layer)) {
            return false;
        }
        stack->layer_count++;
        top = layer->input.output;
        is_bottom = match_input(view, layer->input, stack);
        if (!is_bottom && layer->input.begin != 0) {
            return false;
        }
    }
    reverse(stack->layers, stack->layer_count);
    return check_states(view, stack);
}

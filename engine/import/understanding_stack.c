/* Stacks of PyTorch's layers that no language_model is: GRUs, whose reset gate stands behind the recurrent product,
 * RNNs of relu, and layers of several kinds or sizes. They are ONNX' operators with their gates in another order, so
 * the program is that of an ONNX graph. Thread: the one that imports. */
#include "engine/import/onnx_layers.h"

static const char *activation_of(const struct thinking *thinking)
{
    const char *set = think_setting(thinking, "activation");
    return set != NULL ? set : foreign_hint(thinking->model, "activation");
}

bool think_is_stack(const struct thinking *thinking)
{
    const struct layer *first = &thinking->layers[0];
    const char *activation = first->cell == FOREIGN_CELL_RNN ? activation_of(thinking) : NULL;
    bool is_relu = activation != NULL && strcmp(activation, "relu") == 0;
    bool is_stack = first->cell == FOREIGN_CELL_GRU || is_relu;
    for (size_t i = 1; i < thinking->layer_count; i++) {
        is_stack = is_stack || thinking->layers[i].cell != first->cell || thinking->layers[i].units != first->units;
    }
    return is_stack && thinking->layout == &torch_layout;
}

enum { FORGET_GATE = 2 }; /* of ONNX' LSTM */

/* Where PyTorch keeps ONNX' gates: i, o, f, c among i, f, g, o; z, r, h among r, z, n. */
static const unsigned char orders[][4] = {
    [FOREIGN_CELL_LSTM] = {0, 3, 1, 2}, [FOREIGN_CELL_GRU] = {1, 0, 2}, [FOREIGN_CELL_RNN] = {0}};

/* Both biases one behind the other, in ONNX' order, the first with what the cell adds to its forget gate. One that is
 * missing is zeros. */
static enum status join_biases(const struct thinking *thinking, const struct layer *layer, size_t gates,
                               const struct foreign_tensor **ret_tensor)
{
    const struct foreign_tensor *const biases[] = {layer->bias, layer->recurrent_bias};
    struct arena *arena = &thinking->model->arena;
    size_t rows = gates * layer->units;
    struct foreign_tensor *made = arena_allocate(arena, 1, sizeof *made);
    float *values = arena_allocate(arena, 2 * rows, sizeof *values);
    if (made == NULL || values == NULL) {
        return foreign_no_memory(thinking->model, thinking->error);
    }
    for (size_t i = 0; i < 2 * rows; i++) {
        const struct foreign_tensor *bias = biases[i / rows];
        size_t gate = orders[layer->cell][i % rows / layer->units];
        bool is_forget_gate = layer->cell == FOREIGN_CELL_LSTM && i / layer->units == FORGET_GATE;
        values[i] = bias == NULL ? 0 : (float)foreign_number(bias, gate * layer->units + i % layer->units);
        values[i] += is_forget_gate ? (float)layer->forget_bias : 0;
    }
    *made = (struct foreign_tensor){.name = "biases",
                                    .dtype = DTYPE_FLOAT32,
                                    .shape = shape_vector((int64_t)(2 * rows)),
                                    .data = (const unsigned char *)values};
    *ret_tensor = made;
    return STATUS_OK;
}

static enum status take_layer(const struct thinking *thinking, const struct layer *from, struct onnx_layer *ret_layer)
{
    const struct onnx_recurrent *recurrent = onnx_recurrent_of(from->cell);
    struct onnx_layer layer = {.place = from->place,
                               .recurrent = recurrent,
                               .inputs = from->inputs,
                               .units = from->units,
                               .w = from->kernel,
                               .r = from->recurrent,
                               .gates = orders[from->cell],
                               .is_reset_after = from->cell == FOREIGN_CELL_GRU};
    memcpy(layer.activations, recurrent->activations, sizeof layer.activations);
    if (from->cell == FOREIGN_CELL_RNN) {
        layer.activations[0] = activation_of(thinking);
    }
    TRY(join_biases(thinking, from, recurrent->gates, &layer.b));
    *ret_layer = layer;
    return STATUS_OK;
}

/* A plain RNN has to have said its activation: tanh or relu. */
static enum status check_activation(const struct thinking *thinking, const struct layer *layer)
{
    if (layer->cell != FOREIGN_CELL_RNN) {
        return STATUS_OK;
    }
    const char *activation = activation_of(thinking);
    bool is_built = activation != NULL && (strcmp(activation, "tanh") == 0 || strcmp(activation, "relu") == 0);
    return is_built ? STATUS_OK : think_ask_activation(thinking, layer, activation);
}

enum status think_stack(struct thinking *thinking)
{
    struct onnx_layer layers[LANGUAGE_MODEL_LAYERS_MAX];
    size_t count = thinking->layer_count;
    TRY(think_find_forget_biases(thinking));
    for (size_t i = 0; i < count; i++) {
        TRY(check_activation(thinking, &thinking->layers[i]));
        TRY(take_layer(thinking, &thinking->layers[i], &layers[i]));
    }
    TRY(onnx_note_layers(thinking, layers, count));
    TRY(think_find_ends(thinking));
    TRY(think_find_vocabulary(thinking));
    return onnx_make_program(thinking, layers, count);
}

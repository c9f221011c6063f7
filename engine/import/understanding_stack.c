/* Stacks of PyTorch's layers that no language_model is: GRUs, whose reset gate stands behind the recurrent product,
 * RNNs of relu, and layers of several kinds or sizes. They are ONNX' operators with their gates in another order, so
 * the program is that of an ONNX graph. Thread: the one that imports. */
#include "engine/base/check.h"
#include "engine/import/onnx_layers.h"

static const char *activation_of(const struct thinking *thinking)
{
    const char *set = think_setting(thinking, "activation");
    return set != NULL ? set : foreign_hint(thinking->model, "activation");
}

bool think_is_stack(const struct thinking *thinking)
{
    const struct layer *first = &thinking->layers[0];
    const char *activation = activation_of(thinking);
    bool is_relu = activation != NULL && strcmp(activation, "relu") == 0;
    bool is_stack = first->cell == FOREIGN_CELL_GRU || (first->cell == FOREIGN_CELL_RNN && is_relu);
    for (size_t i = 1; i < thinking->layer_count; i++) {
        is_stack = is_stack || thinking->layers[i].cell != first->cell || thinking->layers[i].units != first->units;
    }
    return is_stack && thinking->layout == &torch_layout;
}

/* Tensors one behind the other, each with its gates' rows in ONNX' order: i, o, f, c of i, f, g, o; z, r, h of r, z, n.
 * A missing one is zeros. */
static enum status arrange(const struct thinking *thinking, const struct onnx_recurrent *recurrent,
                           const struct foreign_tensor *const *tensors, size_t tensor_count, const struct shape *shape,
                           const struct foreign_tensor **ret_tensor)
{
    static const unsigned char orders[][4] = {
        [FOREIGN_CELL_LSTM] = {0, 3, 1, 2}, [FOREIGN_CELL_GRU] = {1, 0, 2}, [FOREIGN_CELL_RNN] = {0}};
    struct arena *arena = &thinking->model->arena;
    size_t count = 0;
    CHECK(shape_element_count(shape, &count));
    struct foreign_tensor *made = arena_allocate(arena, 1, sizeof *made);
    float *values = arena_allocate(arena, count, sizeof *values);
    if (made == NULL || values == NULL) {
        return foreign_no_memory(thinking->model, thinking->error);
    }
    size_t block = count / tensor_count / recurrent->gates;
    for (size_t i = 0; i < count; i++) {
        const struct foreign_tensor *tensor = tensors[i / block / recurrent->gates];
        size_t gate = orders[recurrent->cell][i / block % recurrent->gates];
        values[i] = tensor == NULL ? 0 : (float)foreign_number(tensor, gate * block + i % block);
    }
    *made = (struct foreign_tensor){
        .name = "arranged", .dtype = DTYPE_FLOAT32, .shape = *shape, .data = (const unsigned char *)values};
    *ret_tensor = made;
    return STATUS_OK;
}

static enum status take_layer(const struct thinking *thinking, const struct layer *from, struct onnx_layer *ret_layer)
{
    const struct onnx_recurrent *recurrent = onnx_recurrent_of(from->cell);
    const struct foreign_tensor *const biases[] = {from->bias, from->recurrent_bias};
    struct onnx_layer layer = {.place = from->place,
                               .recurrent = recurrent,
                               .inputs = from->inputs,
                               .units = from->units,
                               .is_reset_after = from->cell == FOREIGN_CELL_GRU};
    memcpy(layer.activations, recurrent->activations, sizeof layer.activations);
    if (from->cell == FOREIGN_CELL_RNN) {
        layer.activations[0] = activation_of(thinking);
    }
    int64_t rows = (int64_t)(recurrent->gates * from->units);
    struct shape shape = shape_matrix(rows, (int64_t)from->inputs);
    TRY(arrange(thinking, recurrent, &from->kernel, 1, &shape, &layer.w));
    shape = shape_matrix(rows, (int64_t)from->units);
    TRY(arrange(thinking, recurrent, &from->recurrent, 1, &shape, &layer.r));
    shape = shape_vector(2 * rows);
    TRY(arrange(thinking, recurrent, biases, 2, &shape, &layer.b));
    *ret_layer = layer;
    return STATUS_OK;
}

/* A plain RNN has to have said its activation: tanh or relu. */
static enum status check_activation(const struct thinking *thinking, const struct layer *layer)
{
    const char *activation = activation_of(thinking);
    bool is_built = activation != NULL && (strcmp(activation, "tanh") == 0 || strcmp(activation, "relu") == 0);
    return layer->cell != FOREIGN_CELL_RNN || is_built ? STATUS_OK : think_ask_activation(thinking, layer, activation);
}

enum status think_stack(struct thinking *thinking)
{
    struct onnx_layer layers[LANGUAGE_MODEL_LAYERS_MAX];
    size_t count = thinking->layer_count;
    for (size_t i = 0; i < count; i++) {
        TRY(check_activation(thinking, &thinking->layers[i]));
        TRY(take_layer(thinking, &thinking->layers[i], &layers[i]));
    }
    TRY(onnx_note_layers(thinking, layers, count));
    TRY(think_find_ends(thinking));
    TRY(think_find_vocabulary(thinking));
    return onnx_make_program(thinking, layers, count);
}

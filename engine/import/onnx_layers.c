/* Reading recurrent nodes: attributes and tensors. Thread: the one that imports. */
#include "engine/import/onnx_layers.h"

#include "engine/base/check.h"

static const struct onnx_recurrent operators[] = {
    {"LSTM", FOREIGN_CELL_LSTM, 4, 3, {"sigmoid", "tanh", "tanh"}},
    {"GRU", FOREIGN_CELL_GRU, 3, 2, {"sigmoid", "tanh"}},
    {"RNN", FOREIGN_CELL_RNN, 1, 1, {"tanh"}},
};

/* ONNX' names of activations without parameters, and those of programs. */
static const char *const activations[][2] = {
    {"Sigmoid", "sigmoid"}, {"Tanh", "tanh"}, {"Relu", "relu"}, {"Softsign", "softsign"}, {"Softplus", "softplus"},
};

const struct onnx_recurrent *onnx_find_recurrent(const Onnx__NodeProto *node)
{
    for (size_t i = 0; node != NULL && i < sizeof operators / sizeof *operators; i++) {
        if (onnx_is(node, operators[i].op)) {
            return &operators[i];
        }
    }
    return NULL;
}

const struct onnx_recurrent *onnx_recurrent_of(enum foreign_cell cell)
{
    return &operators[cell]; /* in the order of cells */
}

/* ---- attributes ---- */

/* Up to 20 bytes of a text, for messages. */
static int shown_length(const ProtobufCBinaryData *text)
{
    return (int)(text->len > 20 ? 20 : text->len);
}

static enum status refuse_unbuilt(const Onnx__NodeProto *node, struct error *error)
{
    const Onnx__AttributeProto *direction = onnx_attribute(node, "direction");
    const Onnx__AttributeProto *clip = onnx_attribute(node, "clip");
    if (direction != NULL && direction->has_s && !onnx_text_equals(&direction->s, "forward")) {
        return onnx_refuse(node, error, "its direction is %.*s; a model that writes reads forward",
                           shown_length(&direction->s), (const char *)direction->s.data);
    }
    if (clip != NULL && clip->has_f && clip->f > 0) {
        return onnx_refuse(node, error, "it clips at %g, which is not built", (double)clip->f);
    }
    if (onnx_integer(node, "input_forget", 0) != 0) {
        return onnx_refuse(node, error, "its input and forget gates are one, which is not built");
    }
    return STATUS_OK;
}

static enum status read_activations(const Onnx__NodeProto *node, struct onnx_layer *layer, struct error *error)
{
    enum { ACTIVATION_COUNT = sizeof activations / sizeof *activations };
    const Onnx__AttributeProto *named = onnx_attribute(node, "activations");
    memcpy(layer->activations, layer->recurrent->activations, sizeof layer->activations);
    for (size_t i = 0; named != NULL && i < named->n_strings && i < layer->recurrent->activation_count; i++) {
        size_t at = 0;
        while (at < ACTIVATION_COUNT && !onnx_text_equals(&named->strings[i], activations[at][0])) {
            at++;
        }
        if (at == ACTIVATION_COUNT) {
            return onnx_refuse(node, error, "activation %zu is %.*s, which is not built", i,
                               shown_length(&named->strings[i]), (const char *)named->strings[i].data);
        }
        layer->activations[i] = activations[at][1];
        layer->is_usual = layer->is_usual && strcmp(activations[at][1], layer->recurrent->activations[i]) == 0;
    }
    return STATUS_OK;
}

/* ---- tensors ---- */

enum status onnx_cut(struct onnx_graph *graph, const struct foreign_tensor *tensor, size_t first, size_t count,
                     size_t columns, const struct foreign_tensor **ret_tensor, struct error *error)
{
    struct foreign_tensor *view = arena_copy(&graph->model->arena, tensor, 1, sizeof *tensor);
    if (view == NULL) {
        return foreign_no_memory(graph->model, error);
    }
    size_t row = columns == 0 ? 1 : columns;
    view->shape = columns == 0 ? shape_vector((int64_t)count) : shape_matrix((int64_t)count, (int64_t)columns);
    view->data = tensor->data + first * row * dtype_bytes(tensor->dtype);
    *ret_tensor = view;
    return STATUS_OK;
}

/* A constant input of shape [1, rows, columns], or [1, rows] with columns 0, without the 1. */
static enum status read_tensor(struct onnx_graph *graph, const Onnx__NodeProto *node, size_t index, const char *what,
                               size_t rows, size_t columns, const struct foreign_tensor **ret_tensor,
                               struct error *error)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    const struct foreign_tensor *tensor = NULL;
    TRY(onnx_fold_input(graph, node, index, what, &tensor, error));
    const struct shape *shape = &tensor->shape;
    bool fits = shape->rank == (columns == 0 ? 2 : 3) && shape->dimensions[0] == 1 &&
                (size_t)shape->dimensions[1] == rows && (columns == 0 || (size_t)shape->dimensions[2] == columns) &&
                onnx_element_count(tensor) > 0;
    return fits ? onnx_cut(graph, tensor, 0, rows, columns, ret_tensor, error)
                : onnx_refuse(node, error, "%s is of shape %s, where %zu rows are due", what, shape_text(shape, text),
                              rows);
}

static enum status read_tensors(struct onnx_graph *graph, const Onnx__NodeProto *node, struct onnx_layer *layer,
                                struct error *error)
{
    const struct foreign_tensor *w = NULL;
    const struct foreign_tensor *r = NULL;
    size_t rows = 0;
    TRY(onnx_fold_input(graph, node, ONNX_INPUT_W, "W", &w, error));
    TRY(onnx_fold_input(graph, node, ONNX_INPUT_R, "R", &r, error));
    layer->inputs = w->shape.rank == 3 ? (size_t)w->shape.dimensions[2] : 0;
    layer->units = r->shape.rank == 3 ? (size_t)r->shape.dimensions[2] : 0;
    if (layer->inputs == 0 || layer->units == 0 ||
        __builtin_mul_overflow(layer->units, 2 * layer->recurrent->gates, &rows)) {
        return onnx_refuse(node, error, "W or R has not the three dimensions of an operator's weights");
    }
    TRY(read_tensor(graph, node, ONNX_INPUT_W, "W", rows / 2, layer->inputs, &layer->w, error));
    TRY(read_tensor(graph, node, ONNX_INPUT_R, "R", rows / 2, layer->units, &layer->r, error));
    if (onnx_input(node, ONNX_INPUT_B) != NULL) {
        TRY(read_tensor(graph, node, ONNX_INPUT_B, "B", rows, 0, &layer->b, error));
    }
    if (onnx_input(node, ONNX_INPUT_P) != NULL && layer->recurrent->cell == FOREIGN_CELL_LSTM) {
        TRY(read_tensor(graph, node, ONNX_INPUT_P, "P", 3 * layer->units, 0, &layer->p, error));
        layer->p = onnx_holds_only(layer->p, 0) ? NULL : layer->p;
    }
    return STATUS_OK;
}

enum status onnx_read_layer(struct onnx_graph *graph, const Onnx__NodeProto *node, struct onnx_layer *ret_layer,
                            struct error *error)
{
    struct onnx_layer layer = {.node = node, .recurrent = onnx_find_recurrent(node), .is_usual = true};
    CHECK(layer.recurrent != NULL);
    layer.place = arena_format(&graph->model->arena, "node '%s'", onnx_name(node));
    if (layer.place == NULL) {
        return foreign_no_memory(graph->model, error);
    }
    TRY(refuse_unbuilt(node, error));
    TRY(read_activations(node, &layer, error));
    TRY(read_tensors(graph, node, &layer, error));
    layer.is_reset_after =
        layer.recurrent->cell == FOREIGN_CELL_GRU && onnx_integer(node, "linear_before_reset", 0) != 0;
    layer.is_usual = layer.is_usual && layer.p == NULL && !layer.is_reset_after;
    *ret_layer = layer;
    return STATUS_OK;
}

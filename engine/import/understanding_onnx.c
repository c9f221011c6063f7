/* What an ONNX graph computes, followed back from its outputs: logits, the output layer, recurrent nodes, and what the
 * symbols are looked up in. Here a model takes one step of one row, so whatever only changes shapes, or chooses among
 * steps, is passed over. Thread: the one that imports. Source of the operators: onnx/onnx, docs/Operators.md. */
#include "engine/import/onnx_layers.h"

static const struct layout onnx_layout = {
    .name = "ONNX",
    .is_transposed = true,
    .is_output_transposed = true,
    .lstm_gates = {0, 3, 2, 1},
    .lstm_order = "i, o, f, c",
    .gru_gates = {1, 0},
    .forget_bias_why = "ONNX' LSTM has nothing but its stored biases",
};

struct walk {
    struct thinking *thinking;
    struct onnx_graph graph;
    struct onnx_layer layers[LANGUAGE_MODEL_LAYERS_MAX]; /* from the top */
    size_t count;
    const Onnx__ValueInfoProto *symbols;
    bool has_state_inputs;
};

static enum status find_source(struct walk *walk, const char *name, struct onnx_output *ret_source)
{
    return onnx_find_source(&walk->graph, name, ret_source, walk->thinking->error);
}

static enum status fold(struct walk *walk, const char *name, const struct foreign_tensor **ret_tensor)
{
    return onnx_fold(&walk->graph, name, ret_tensor, walk->thinking->error);
}

/* ---- the output layer ---- */

/* Of a sum of two values the constant one, perhaps, and the name of the other. */
static enum status split_sum(struct walk *walk, const Onnx__NodeProto *node, const struct foreign_tensor **ret_constant,
                             const char **ret_other)
{
    *ret_constant = NULL;
    *ret_other = NULL;
    for (size_t i = 0; i < 2; i++) {
        const char *name = onnx_input(node, i);
        const struct foreign_tensor *tensor = NULL;
        if (name == NULL) {
            return onnx_refuse(node, walk->thinking->error, "it lacks an input");
        }
        TRY(fold(walk, name, &tensor));
        *ret_constant = tensor != NULL ? tensor : *ret_constant;
        *ret_other = tensor != NULL ? *ret_other : name;
    }
    return STATUS_OK;
}

/* Keeps the matrix, [symbols, units] in the end, and the bias. */
static enum status take_output(struct walk *walk, const Onnx__NodeProto *node, const struct foreign_tensor *matrix,
                               bool is_transposed, const struct foreign_tensor *bias)
{
    struct thinking *thinking = walk->thinking;
    if (matrix->shape.rank != 2) {
        return onnx_refuse(node, thinking->error, "its weights have %d dimensions, not 2", matrix->shape.rank);
    }
    if (!is_transposed) {
        TRY(onnx_transpose(&walk->graph, matrix, &matrix, thinking->error));
    }
    thinking->symbol_count = think_dimension(matrix, 0);
    if (bias != NULL && (onnx_element_count(bias) != thinking->symbol_count || thinking->symbol_count == 0)) {
        return onnx_refuse(node, thinking->error, "%zu columns, but a bias of %zu elements", thinking->symbol_count,
                           onnx_element_count(bias));
    }
    if (bias != NULL) {
        struct foreign_tensor *vector = arena_copy(&thinking->model->arena, bias, 1, sizeof *bias);
        if (vector == NULL) {
            return foreign_no_memory(thinking->model, thinking->error);
        }
        vector->shape = shape_vector((int64_t)thinking->symbol_count);
        bias = vector;
    }
    thinking->output = matrix;
    thinking->output_bias = bias;
    return STATUS_OK;
}

static enum status take_gemm(struct walk *walk, const Onnx__NodeProto *node, const struct foreign_tensor *bias)
{
    const struct foreign_tensor *matrix = NULL;
    const struct foreign_tensor *own_bias = NULL;
    static const char *const factors[] = {"alpha", "beta"};
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        const Onnx__AttributeProto *factor = onnx_attribute(node, factors[i]);
        if (factor != NULL && factor->has_f && (factor->f < 1 || factor->f > 1)) {
            return onnx_refuse(node, walk->thinking->error, "%s is %g; only 1 is understood", factors[i],
                               (double)factor->f);
        }
    }
    if (onnx_integer(node, "transA", 0) != 0 || onnx_input(node, 0) == NULL) {
        return onnx_refuse(node, walk->thinking->error, "its first matrix is transposed, or missing");
    }
    TRY(onnx_fold_input(&walk->graph, node, 1, "second matrix", &matrix, walk->thinking->error));
    if (onnx_input(node, 2) != NULL) {
        TRY(onnx_fold_input(&walk->graph, node, 2, "bias", &own_bias, walk->thinking->error));
    }
    if (bias != NULL && own_bias != NULL) {
        return onnx_refuse(node, walk->thinking->error, "two biases");
    }
    return take_output(walk, node, matrix, onnx_integer(node, "transB", 0) != 0, own_bias != NULL ? own_bias : bias);
}

/* From scores back to what the output layer reads. `*ret_name` NULL: this output is a state, or is made of none. */
static enum status walk_scores(struct walk *walk, const char *name, const char **ret_name)
{
    struct error *error = walk->thinking->error;
    const struct foreign_tensor *bias = NULL;
    const struct foreign_tensor *matrix = NULL;
    struct onnx_output source;
    *ret_name = NULL;
    TRY(find_source(walk, name, &source));
    if (source.node != NULL && (onnx_is(source.node, "Softmax") || onnx_is(source.node, "LogSoftmax"))) {
        TRY(find_source(walk, onnx_input(source.node, 0) == NULL ? "" : onnx_input(source.node, 0), &source));
    }
    if (source.node == NULL || onnx_find_recurrent(source.node) != NULL || onnx_is(source.node, "Concat")) {
        return STATUS_OK;
    }
    if (onnx_is(source.node, "Add")) {
        const Onnx__NodeProto *sum = source.node;
        TRY(split_sum(walk, sum, &bias, &name));
        if (bias == NULL || name == NULL) {
            return onnx_refuse(sum, error, "a sum that is no bias of an output layer");
        }
        TRY(find_source(walk, name, &source));
    }
    if (source.node != NULL && onnx_is(source.node, "Gemm")) {
        TRY(take_gemm(walk, source.node, bias));
    } else if (source.node != NULL && onnx_is(source.node, "MatMul") && onnx_input(source.node, 0) != NULL) {
        TRY(onnx_fold_input(&walk->graph, source.node, 1, "second matrix", &matrix, walk->thinking->error));
        TRY(take_output(walk, source.node, matrix, false, bias));
    } else if (source.node != NULL) {
        return onnx_refuse(source.node, error, "nothing that is understood between the layers and an output");
    } else {
        return error_set(error, STATUS_UNSUPPORTED, "output '%.200s' does not depend on the symbols", name);
    }
    *ret_name = onnx_input(source.node, 0);
    return STATUS_OK;
}

/* ---- layers ---- */

static enum status same_source(struct walk *walk, const char *a, const char *b, bool *ret_is_same)
{
    struct onnx_output left;
    struct onnx_output right;
    TRY(find_source(walk, a, &left));
    TRY(find_source(walk, b, &right));
    *ret_is_same = strcmp(left.name, right.name) == 0;
    return STATUS_OK;
}

/* A sum of a layer's output and its input: `*source` becomes the layer. */
static enum status walk_residual(struct walk *walk, struct onnx_output *source)
{
    const Onnx__NodeProto *sum = source->node;
    const char *names[] = {onnx_input(sum, 0), onnx_input(sum, 1)};
    for (size_t i = 0; i < 2 && names[0] != NULL && names[1] != NULL; i++) {
        struct onnx_output layer;
        bool is_same = false;
        TRY(find_source(walk, names[i], &layer));
        if (onnx_find_recurrent(layer.node) == NULL || onnx_input(layer.node, ONNX_INPUT_X) == NULL) {
            continue;
        }
        TRY(same_source(walk, names[1 - i], onnx_input(layer.node, ONNX_INPUT_X), &is_same));
        if (is_same) {
            *source = layer;
            return STATUS_OK;
        }
    }
    return onnx_refuse(sum, walk->thinking->error, "a sum that is no layer's output plus its input");
}

/* What ConstantOfShape repeats; without it zeros. Numbers that are kept otherwise are not looked at. */
static bool is_zero(const Onnx__AttributeProto *value)
{
    const Onnx__TensorProto *tensor = value == NULL ? NULL : value->t;
    bool is_zero = value == NULL || (tensor != NULL && tensor->raw_data.len + tensor->n_float_data > 0);
    for (size_t i = 0; tensor != NULL && i < tensor->raw_data.len; i++) {
        is_zero = is_zero && tensor->raw_data.data[i] == 0;
    }
    for (size_t i = 0; tensor != NULL && i < tensor->n_float_data; i++) {
        is_zero = is_zero && !(tensor->float_data[i] > 0 || tensor->float_data[i] < 0);
    }
    return is_zero;
}

/* A layer begins with zeros, or with what the graph is fed. */
static enum status check_state(struct walk *walk, const Onnx__NodeProto *node, size_t index)
{
    const char *name = onnx_input(node, index);
    const struct foreign_tensor *tensor = NULL;
    struct onnx_output source;
    if (name == NULL) {
        return STATUS_OK;
    }
    TRY(find_source(walk, name, &source));
    if (source.node != NULL && onnx_is(source.node, "ConstantOfShape")) {
        return is_zero(onnx_attribute(source.node, "value"))
                   ? STATUS_OK
                   : onnx_refuse(source.node, walk->thinking->error, "a state that does not begin with zeros");
    }
    if (source.node != NULL && onnx_is(source.node, "Split")) {
        TRY(find_source(walk, onnx_input(source.node, 0) == NULL ? "" : onnx_input(source.node, 0), &source));
    }
    if (source.node == NULL && onnx_find_input(&walk->graph, source.name) != NULL) {
        walk->has_state_inputs = true;
        return STATUS_OK;
    }
    TRY(fold(walk, source.name, &tensor)); /* what was passed over leaves zeros what they are */
    return tensor != NULL && onnx_holds_only(tensor, 0)
               ? STATUS_OK
               : onnx_refuse(node, walk->thinking->error, "its input '%.200s' is neither zeros nor fed", name);
}

/* One-hot numbers of symbols, and what they are of. */
static enum status walk_one_hot(struct walk *walk, const Onnx__NodeProto *node, const char **ret_symbols)
{
    const struct foreign_tensor *values = NULL;
    TRY(onnx_fold_input(&walk->graph, node, 2, "values", &values, walk->thinking->error));
    bool is_usual = onnx_element_count(values) == 2 &&
                    !(foreign_number(values, 0) > 0 || foreign_number(values, 0) < 0) &&
                    !(foreign_number(values, 1) > 1 || foreign_number(values, 1) < 1);
    *ret_symbols = onnx_input(node, 0);
    return is_usual ? STATUS_OK : onnx_refuse(node, walk->thinking->error, "its values are not 0 and 1");
}

/* Where the symbols come in: looked up, made one-hot, or fed so. */
static enum status walk_input(struct walk *walk, const struct onnx_output *source)
{
    const char *symbols = source->name;
    struct onnx_output fed = *source;
    if (source->node != NULL && onnx_is(source->node, "Gather")) {
        TRY(onnx_fold_input(&walk->graph, source->node, 0, "table", &walk->thinking->embedding, walk->thinking->error));
        if (walk->thinking->embedding->shape.rank != 2 || onnx_integer(source->node, "axis", 0) != 0) {
            return onnx_refuse(source->node, walk->thinking->error,
                               "its table is no matrix with a row for each symbol");
        }
        symbols = onnx_input(source->node, 1);
    } else if (source->node != NULL && onnx_is(source->node, "OneHot")) {
        TRY(walk_one_hot(walk, source->node, &symbols));
    } else if (source->node != NULL) {
        return onnx_refuse(source->node, walk->thinking->error,
                           "nothing that is understood between the symbols and the layers");
    }
    if (symbols != NULL) {
        TRY(find_source(walk, symbols, &fed));
    }
    walk->symbols = fed.node == NULL ? onnx_find_input(&walk->graph, fed.name) : NULL;
    return walk->symbols != NULL
               ? STATUS_OK
               : error_set(walk->thinking->error, STATUS_UNSUPPORTED,
                           "'%.200s' is no input of the graph: symbols were expected there", fed.name);
}

/* From what the output layer reads down to the symbols. */
static enum status walk_layers(struct walk *walk, const char *name)
{
    for (;;) {
        struct onnx_output source;
        TRY(find_source(walk, name, &source));
        bool is_sum = source.node != NULL && onnx_is(source.node, "Add");
        if (is_sum) {
            TRY(walk_residual(walk, &source));
        }
        if (onnx_find_recurrent(source.node) == NULL) {
            return walk_input(walk, &source);
        }
        if (walk->count == LANGUAGE_MODEL_LAYERS_MAX) {
            return error_set(walk->thinking->error, STATUS_LIMIT, "more than %d recurrent layers, or a cycle of them",
                             LANGUAGE_MODEL_LAYERS_MAX);
        }
        if (source.index == ONNX_OUTPUT_Y_C || onnx_input(source.node, ONNX_INPUT_X) == NULL) {
            return onnx_refuse(source.node, walk->thinking->error, "its cell state is read, or it has no input");
        }
        TRY(check_state(walk, source.node, ONNX_INPUT_H));
        TRY(check_state(walk, source.node, ONNX_INPUT_C));
        struct onnx_layer *layer = &walk->layers[walk->count++];
        TRY(onnx_read_layer(&walk->graph, source.node, layer, walk->thinking->error));
        layer->is_residual = is_sum;
        name = onnx_input(source.node, ONNX_INPUT_X);
    }
}

/* ---- all of it ---- */

/* The output that comes of an output layer; of several, they must come of the same. */
static enum status find_scores(struct walk *walk, const char **ret_name)
{
    struct thinking *thinking = walk->thinking;
    const Onnx__GraphProto *graph = walk->graph.proto;
    struct error first = {.status = STATUS_OK};
    const struct foreign_tensor *output = NULL;
    *ret_name = NULL;
    for (size_t i = 0; i < graph->n_output; i++) {
        const char *below = NULL;
        bool is_same = true;
        enum status status = walk_scores(walk, graph->output[i]->name == NULL ? "" : graph->output[i]->name, &below);
        if (status == STATUS_NO_MEMORY || status == STATUS_LIMIT) {
            return status;
        }
        if (status != STATUS_OK || below == NULL) {
            first = status != STATUS_OK && first.status == STATUS_OK ? *thinking->error : first;
            continue;
        }
        if (*ret_name != NULL) {
            TRY(same_source(walk, *ret_name, below, &is_same));
            is_same = is_same && strcmp(output->name, thinking->output->name) == 0;
        }
        if (!is_same) {
            return error_set(thinking->error, STATUS_UNSUPPORTED,
                             "outputs of two output layers, %.200s and %.200s: only one can be the scores",
                             output->name, thinking->output->name);
        }
        *ret_name = below;
        output = thinking->output;
    }
    if (*ret_name != NULL) {
        return STATUS_OK;
    }
    if (first.status != STATUS_OK) {
        *thinking->error = first;
        return first.status;
    }
    return error_set(thinking->error, STATUS_UNSUPPORTED,
                     "none of its %zu outputs is made by an output layer (MatMul or Gemm) behind recurrent nodes",
                     graph->n_output);
}

/* From the bottom on. */
static void turn_over(struct onnx_layer *layers, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        struct onnx_layer layer = layers[i];
        layers[i] = layers[count - 1 - i];
        layers[count - 1 - i] = layer;
    }
}

/* Each layer is fed by what is below it, and the output layer by the top one. */
static enum status check_widths(struct walk *walk)
{
    const struct thinking *thinking = walk->thinking;
    const struct foreign_tensor *embedding = thinking->embedding;
    size_t width = embedding == NULL ? thinking->symbol_count : think_dimension(embedding, 1);
    if (embedding != NULL && think_dimension(embedding, 0) != thinking->symbol_count) {
        return error_set(thinking->error, STATUS_UNPROCESSABLE, "%.200s has %zu rows, the output layer %zu symbols",
                         embedding->name, think_dimension(embedding, 0), thinking->symbol_count);
    }
    for (size_t i = 0; i < walk->count; i++) {
        const struct onnx_layer *layer = &walk->layers[i];
        if (layer->inputs != width || (layer->is_residual && layer->inputs != layer->units)) {
            return onnx_refuse(layer->node, thinking->error, "it takes %zu numbers and gives %zu, what is below it %zu",
                               layer->inputs, layer->units, width);
        }
        width = layer->units;
    }
    if (think_dimension(thinking->output, 1) != width || width == 0) {
        return error_set(thinking->error, STATUS_UNPROCESSABLE, "%.200s has %zu rows, the layer below it %zu units",
                         thinking->output->name, think_dimension(thinking->output, 1), width);
    }
    return STATUS_OK;
}

/* Whether a language_model computes the same: usual cells of one kind and size, residual all but the first, or none. */
static bool is_language_model(const struct walk *walk)
{
    const struct onnx_layer *first = &walk->layers[0];
    for (size_t i = 0; i < walk->count; i++) {
        const struct onnx_layer *layer = &walk->layers[i];
        bool is_due = i > 0 && walk->layers[1].is_residual;
        if (!layer->is_usual || layer->recurrent != first->recurrent || layer->units != first->units ||
            layer->is_residual != is_due) {
            return false;
        }
    }
    return true;
}

/* Gates and, of a GRU, the candidate apart. */
static enum status cut_gates(struct walk *walk, const struct onnx_layer *layer, const struct foreign_tensor *tensor,
                             size_t first, size_t columns, const struct foreign_tensor **ret_gates,
                             const struct foreign_tensor **ret_candidate)
{
    bool is_split = layer->recurrent->cell == FOREIGN_CELL_GRU;
    size_t rows = (layer->recurrent->gates - (is_split ? 1 : 0)) * layer->units;
    struct error *error = walk->thinking->error;
    TRY(onnx_cut(&walk->graph, tensor, first, rows, columns, ret_gates, error));
    return is_split ? onnx_cut(&walk->graph, tensor, first + rows, layer->units, columns, ret_candidate, error)
                    : STATUS_OK;
}

static enum status take_layer(struct walk *walk, const struct onnx_layer *from)
{
    char place[FOREIGN_NAME_BYTES_MAX];
    struct layer *layer = NULL;
    snprintf(place, sizeof place, "%zu (%.200s)", walk->thinking->layer_count, onnx_name(from->node));
    TRY(think_layer_at(walk->thinking, place, strlen(place), from->recurrent->cell, &layer));
    TRY(cut_gates(walk, from, from->w, 0, from->inputs, &layer->kernel, &layer->candidate_kernel));
    TRY(cut_gates(walk, from, from->r, 0, from->units, &layer->recurrent, &layer->candidate_recurrent));
    if (from->b == NULL) {
        return STATUS_OK;
    }
    size_t rows = from->recurrent->gates * from->units;
    TRY(cut_gates(walk, from, from->b, 0, 0, &layer->bias, &layer->candidate_bias));
    return cut_gates(walk, from, from->b, rows, 0, &layer->recurrent_bias, &layer->candidate_recurrent_bias);
}

static enum status take_language_model(struct walk *walk)
{
    struct thinking *thinking = walk->thinking;
    for (size_t i = 0; i < walk->count; i++) {
        TRY(take_layer(walk, &walk->layers[i]));
    }
    thinking->is_residual = walk->count > 1 && walk->layers[1].is_residual;
    TRY(think_check_layers(thinking));
    if (thinking->layers[0].cell == FOREIGN_CELL_RNN) {
        TRY(foreign_add_hint(thinking->model, NULL, "activation", "tanh", thinking->error));
    }
    return think_check_cell(thinking);
}

/* The length of what it reads at once, where that is fixed: 1 where it is not. */
static int64_t fixed_length(const struct walk *walk)
{
    const Onnx__TypeProto *type = walk->symbols->type;
    const Onnx__TensorShapeProto *shape = type == NULL || type->tensor_type == NULL ? NULL : type->tensor_type->shape;
    bool is_one_hot = type != NULL && type->tensor_type != NULL && type->tensor_type->elem_type == ONNX_FLOAT;
    int64_t length = 1;
    for (size_t i = 0; shape != NULL && i < shape->n_dim; i++) {
        bool is_last = i + 1 == shape->n_dim;
        bool counts = shape->dim[i]->has_dim_value && !(is_one_hot && is_last);
        length = counts && shape->dim[i]->dim_value > length ? shape->dim[i]->dim_value : length;
    }
    return length;
}

/* Whether it carries its state on; a graph that begins anew with each window of symbols computes something else. */
static enum status note_states(struct walk *walk)
{
    struct thinking *thinking = walk->thinking;
    int64_t length = fixed_length(walk);
    if (walk->has_state_inputs) {
        return think_note(thinking, "states", "inputs", "the graph is fed its states");
    }
    const char *set = think_setting(thinking, "window");
    if (set != NULL && strcmp(set, "none") != 0) {
        return error_set(thinking->error, STATUS_UNSUPPORTED,
                         "window=%.60s: an ONNX model is built without a window only (none)", set);
    }
    if (length > 1 && set == NULL) {
        error_set(thinking->error, STATUS_UNPROCESSABLE,
                  "its input '%.200s' has %lld symbols and nothing carries a state on: say --set window=none to carry "
                  "it from symbol to symbol nevertheless",
                  walk->symbols->name, (long long)length);
        return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
    }
    return think_note(thinking, "states", "zeros", "%s",
                      set != NULL ? "window=none was set" : "it reads any number of symbols, beginning with zeros");
}

enum status think_onnx(struct thinking *thinking)
{
    struct walk walk = {.thinking = thinking};
    const char *name = NULL;
    thinking->layout = &onnx_layout;
    TRY(onnx_graph_init(&walk.graph, thinking->model, thinking->model->onnx, thinking->error));
    TRY(find_scores(&walk, &name));
    TRY(walk_layers(&walk, name));
    if (walk.count == 0) {
        return error_set(thinking->error, STATUS_UNSUPPORTED,
                         "between symbols and output there is no LSTM, GRU or RNN");
    }
    turn_over(walk.layers, walk.count);
    TRY(check_widths(&walk));
    bool is_usual = is_language_model(&walk);
    TRY(is_usual ? take_language_model(&walk) : onnx_note_layers(thinking, walk.layers, walk.count));
    TRY(think_note_ends(thinking));
    TRY(note_states(&walk));
    TRY(think_find_vocabulary(thinking));
    return is_usual ? think_make_program(thinking) : onnx_make_program(thinking, walk.layers, walk.count);
}

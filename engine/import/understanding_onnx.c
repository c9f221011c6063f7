/* What an ONNX graph computes, followed back from its outputs: logits, the output layer, recurrent nodes, and what the
 * symbols are looked up in. Here a model takes one step of one row, so whatever only changes shapes, or chooses among
 * steps, is passed over. Thread: the one that imports. Source of the operators: onnx/onnx, docs/Operators.md. */
#include "engine/base/check.h"
#include "engine/import/onnx_graph.h"
#include "engine/import/understanding_private.h"

static const struct layout onnx_layout = {
    .name = "ONNX",
    .is_transposed = true,
    .lstm_gates = {0, 3, 2, 1},
    .lstm_order = "i, o, f, c",
    .gru_gates = {1, 0},
    .forget_bias_why = "ONNX' LSTM has nothing but its stored biases",
};

/* The recurrent operators. Gates are rows of W and R; a GRU's are z, r and the candidate. */
static const struct recurrent_op {
    const char *op;
    enum foreign_cell cell;
    size_t gates;
    const char *const activations[3];
} operators[] = {
    {"LSTM", FOREIGN_CELL_LSTM, 4, {"Sigmoid", "Tanh", "Tanh"}},
    {"GRU", FOREIGN_CELL_GRU, 3, {"Sigmoid", "Tanh"}},
    {"RNN", FOREIGN_CELL_RNN, 1, {"Tanh"}},
};

/* Inputs of a recurrent node. */
enum { INPUT_X, INPUT_W, INPUT_R, INPUT_B, INPUT_LENGTHS, INPUT_H, INPUT_C, INPUT_P };
enum { OUTPUT_Y_C = 2 };

struct walk {
    struct thinking *thinking;
    struct onnx_graph graph;
    const Onnx__NodeProto *nodes[LANGUAGE_MODEL_LAYERS_MAX]; /* of the layers, from the top */
    bool is_residual[LANGUAGE_MODEL_LAYERS_MAX];             /* the same */
    size_t count;
    const Onnx__ValueInfoProto *symbols;
    bool has_state_inputs;
};

static const struct recurrent_op *find_op(const Onnx__NodeProto *node)
{
    for (size_t i = 0; node != NULL && i < sizeof operators / sizeof *operators; i++) {
        if (onnx_is(node, operators[i].op)) {
            return &operators[i];
        }
    }
    return NULL;
}

static enum status find_source(struct walk *walk, const char *name, struct onnx_output *ret_source)
{
    return onnx_find_source(&walk->graph, name, ret_source, walk->thinking->error);
}

static enum status fold(struct walk *walk, const char *name, const struct foreign_tensor **ret_tensor)
{
    return onnx_fold(&walk->graph, name, ret_tensor, walk->thinking->error);
}

/* An input that must be a constant, of any shape. */
static enum status fold_input(struct walk *walk, const Onnx__NodeProto *node, size_t index, const char *what,
                              const struct foreign_tensor **ret_tensor)
{
    const char *name = onnx_input(node, index);
    *ret_tensor = NULL;
    if (name != NULL) {
        TRY(fold(walk, name, ret_tensor));
    }
    return *ret_tensor != NULL ? STATUS_OK
                               : onnx_refuse(node, walk->thinking->error, "its %s is no constant of the file", what);
}

static size_t element_count(const struct foreign_tensor *tensor)
{
    size_t count = 0;
    return shape_element_count(&tensor->shape, &count) ? count : 0;
}

static bool holds_only(const struct foreign_tensor *tensor, double number)
{
    for (size_t i = 0; i < element_count(tensor); i++) {
        double one = foreign_number(tensor, i);
        if (one < number || one > number || one != one) {
            return false;
        }
    }
    return true;
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
    if (bias != NULL && (element_count(bias) != thinking->symbol_count || thinking->symbol_count == 0)) {
        return onnx_refuse(node, thinking->error, "%zu columns, but a bias of %zu elements", thinking->symbol_count,
                           element_count(bias));
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
    TRY(fold_input(walk, node, 1, "second matrix", &matrix));
    if (onnx_input(node, 2) != NULL) {
        TRY(fold_input(walk, node, 2, "bias", &own_bias));
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
    if (source.node == NULL || find_op(source.node) != NULL || onnx_is(source.node, "Concat")) {
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
        TRY(fold_input(walk, source.node, 1, "second matrix", &matrix));
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
        if (find_op(layer.node) == NULL || onnx_input(layer.node, INPUT_X) == NULL) {
            continue;
        }
        TRY(same_source(walk, names[1 - i], onnx_input(layer.node, INPUT_X), &is_same));
        if (is_same) {
            *source = layer;
            return STATUS_OK;
        }
    }
    return onnx_refuse(sum, walk->thinking->error, "a sum that is no layer's output plus its input");
}

/* Whether the attributes are those that all do without. */
static enum status check_attributes(struct walk *walk, const Onnx__NodeProto *node, const struct recurrent_op *op)
{
    struct error *error = walk->thinking->error;
    const Onnx__AttributeProto *direction = onnx_attribute(node, "direction");
    const Onnx__AttributeProto *activations = onnx_attribute(node, "activations");
    const Onnx__AttributeProto *clip = onnx_attribute(node, "clip");
    if (direction != NULL && direction->has_s && !onnx_text_equals(&direction->s, "forward")) {
        return onnx_refuse(node, error, "its direction is %.*s; a model that writes reads forward",
                           (int)(direction->s.len > 20 ? 20 : direction->s.len), (const char *)direction->s.data);
    }
    if (clip != NULL && clip->has_f && clip->f > 0) {
        return onnx_refuse(node, error, "it clips at %g, which is not built", (double)clip->f);
    }
    if (onnx_integer(node, "input_forget", 0) != 0) {
        return onnx_refuse(node, error, "its input and forget gates are one, which is not built");
    }
    for (size_t i = 0; activations != NULL && i < activations->n_strings; i++) {
        const ProtobufCBinaryData *name = &activations->strings[i];
        const char *want = i < 3 ? op->activations[i] : NULL;
        if (want == NULL || !onnx_text_equals(name, want)) {
            return onnx_refuse(node, error, "activation %zu is %.*s; only %s is built", i,
                               (int)(name->len > 20 ? 20 : name->len), (const char *)name->data,
                               want == NULL ? "none" : want);
        }
    }
    if (op->cell == FOREIGN_CELL_GRU && onnx_integer(node, "linear_before_reset", 0) != 0) {
        return onnx_refuse(node, error,
                           "linear_before_reset: its reset gate is applied behind the recurrent product; the language "
                           "model's GRU applies it before, to h, and cannot compute the same");
    }
    return STATUS_OK;
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
        const Onnx__AttributeProto *value = onnx_attribute(source.node, "value");
        tensor = value == NULL ? NULL : onnx_find_tensor(&walk->graph, source.name);
        return value == NULL || (tensor != NULL && holds_only(tensor, 0))
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
    TRY(fold(walk, name, &tensor));
    return tensor != NULL && holds_only(tensor, 0)
               ? STATUS_OK
               : onnx_refuse(node, walk->thinking->error, "its input '%.200s' is neither zeros nor fed", name);
}

static enum status check_node(struct walk *walk, const Onnx__NodeProto *node, const struct recurrent_op *op)
{
    const struct foreign_tensor *peepholes = NULL;
    TRY(check_attributes(walk, node, op));
    TRY(check_state(walk, node, INPUT_H));
    TRY(check_state(walk, node, INPUT_C));
    if (onnx_input(node, INPUT_P) != NULL) {
        TRY(fold_input(walk, node, INPUT_P, "P", &peepholes));
        if (!holds_only(peepholes, 0)) {
            return onnx_refuse(node, walk->thinking->error,
                               "it has peepholes, which the language model's cell has not");
        }
    }
    return STATUS_OK;
}

/* One-hot numbers of symbols, and what they are of. */
static enum status walk_one_hot(struct walk *walk, const Onnx__NodeProto *node, const char **ret_symbols)
{
    const struct foreign_tensor *values = NULL;
    TRY(fold_input(walk, node, 2, "values", &values));
    bool is_usual = element_count(values) == 2 && !(foreign_number(values, 0) > 0 || foreign_number(values, 0) < 0) &&
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
        TRY(fold_input(walk, source->node, 0, "table", &walk->thinking->embedding));
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
        const struct recurrent_op *op = find_op(source.node);
        if (op == NULL) {
            return walk_input(walk, &source);
        }
        if (walk->count == LANGUAGE_MODEL_LAYERS_MAX) {
            return error_set(walk->thinking->error, STATUS_LIMIT, "more than %d recurrent layers, or a cycle of them",
                             LANGUAGE_MODEL_LAYERS_MAX);
        }
        if (source.index == OUTPUT_Y_C || onnx_input(source.node, INPUT_X) == NULL) {
            return onnx_refuse(source.node, walk->thinking->error, "its cell state is read, or it has no input");
        }
        TRY(check_node(walk, source.node, op));
        walk->nodes[walk->count] = source.node;
        walk->is_residual[walk->count++] = is_sum;
        name = onnx_input(source.node, INPUT_X);
    }
}

/* ---- tensors of a layer ---- */

/* Rows of a tensor [1, rows, …] as one of their own: a view. */
static enum status cut(struct walk *walk, const struct foreign_tensor *tensor, size_t first, size_t count,
                       const struct foreign_tensor **ret_tensor)
{
    struct foreign_tensor *view = arena_copy(&walk->thinking->model->arena, tensor, 1, sizeof *tensor);
    if (view == NULL) {
        return foreign_no_memory(walk->thinking->model, walk->thinking->error);
    }
    size_t columns = tensor->shape.rank == 3 ? (size_t)tensor->shape.dimensions[2] : 1;
    view->shape =
        tensor->shape.rank == 3 ? shape_matrix((int64_t)count, (int64_t)columns) : shape_vector((int64_t)count);
    view->data = tensor->data + first * columns * dtype_bytes(tensor->dtype);
    *ret_tensor = view;
    return STATUS_OK;
}

static enum status check_shape(struct walk *walk, const Onnx__NodeProto *node, const char *what,
                               const struct foreign_tensor *tensor, int rank, size_t rows)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    bool fits = tensor->shape.rank == rank && tensor->shape.dimensions[0] == 1 &&
                (size_t)tensor->shape.dimensions[1] == rows && element_count(tensor) > 0;
    return fits ? STATUS_OK
                : onnx_refuse(node, walk->thinking->error, "%s is of shape %s, where %zu rows are due", what,
                              shape_text(&tensor->shape, text), rows);
}

/* A GRU's gates z, r and its candidate apart, of the tensor whose first row is `first`. */
static enum status cut_gates(struct walk *walk, const struct recurrent_op *op, const struct foreign_tensor *tensor,
                             size_t first, size_t units, const struct foreign_tensor **ret_gates,
                             const struct foreign_tensor **ret_candidate)
{
    bool is_split = op->cell == FOREIGN_CELL_GRU;
    size_t gates = op->gates - (is_split ? 1 : 0);
    TRY(cut(walk, tensor, first, gates * units, ret_gates));
    return is_split ? cut(walk, tensor, first + gates * units, units, ret_candidate) : STATUS_OK;
}

static enum status take_layer(struct walk *walk, const Onnx__NodeProto *node)
{
    struct thinking *thinking = walk->thinking;
    const struct recurrent_op *op = find_op(node);
    const struct foreign_tensor *w = NULL;
    const struct foreign_tensor *r = NULL;
    const struct foreign_tensor *b = NULL;
    char place[FOREIGN_NAME_BYTES_MAX];
    struct layer *layer = NULL;
    CHECK(op != NULL);
    TRY(fold_input(walk, node, INPUT_W, "W", &w));
    TRY(fold_input(walk, node, INPUT_R, "R", &r));
    size_t units = r->shape.rank == 3 ? (size_t)r->shape.dimensions[2] : 0;
    size_t rows = 0;
    if (__builtin_mul_overflow(units, 2 * op->gates, &rows)) {
        return onnx_refuse(node, thinking->error, "R has %zu columns", units);
    }
    TRY(check_shape(walk, node, "W", w, 3, rows / 2));
    TRY(check_shape(walk, node, "R", r, 3, rows / 2));
    snprintf(place, sizeof place, "%zu (%.200s)", thinking->layer_count, onnx_name(node));
    TRY(think_layer_at(thinking, place, strlen(place), op->cell, &layer));
    TRY(cut_gates(walk, op, w, 0, units, &layer->kernel, &layer->candidate_kernel));
    TRY(cut_gates(walk, op, r, 0, units, &layer->recurrent, &layer->candidate_recurrent));
    if (onnx_input(node, INPUT_B) == NULL) {
        return STATUS_OK;
    }
    TRY(fold_input(walk, node, INPUT_B, "B", &b));
    TRY(check_shape(walk, node, "B", b, 2, rows));
    TRY(cut_gates(walk, op, b, 0, units, &layer->bias, &layer->candidate_bias));
    return cut_gates(walk, op, b, rows / 2, units, &layer->recurrent_bias, &layer->candidate_recurrent_bias);
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

/* Either all layers but the first have such a connection or none. */
static enum status take_layers(struct walk *walk)
{
    struct thinking *thinking = walk->thinking;
    if (walk->count == 0) {
        return error_set(thinking->error, STATUS_UNSUPPORTED,
                         "between symbols and output there is no LSTM, GRU or RNN");
    }
    thinking->is_residual = walk->count > 1 && walk->is_residual[0];
    for (size_t i = walk->count; i-- > 0;) {
        bool is_due = thinking->is_residual && i + 1 < walk->count;
        if (walk->is_residual[i] != is_due) {
            return onnx_refuse(walk->nodes[i], thinking->error,
                               "residual connections around some layers: all but the first, or none, are built");
        }
        TRY(take_layer(walk, walk->nodes[i]));
    }
    return STATUS_OK;
}

/* Sizes that no layer can have checked: of what is below it and above. */
static enum status check_ends(struct thinking *thinking)
{
    const struct layer *first = &thinking->layers[0];
    size_t width = thinking->embedding == NULL ? thinking->symbol_count : think_dimension(thinking->embedding, 1);
    size_t symbols = thinking->embedding == NULL ? thinking->symbol_count : think_dimension(thinking->embedding, 0);
    if (think_dimension(thinking->output, 1) != first->units || symbols != thinking->symbol_count ||
        width != first->inputs) {
        return error_set(thinking->error, STATUS_UNPROCESSABLE,
                         "sizes that do not fit: %zu symbols of %zu numbers go in, where the first layer takes %zu; "
                         "%zu units and an output layer from %zu to %zu symbols",
                         symbols, width, first->inputs, first->units, think_dimension(thinking->output, 1),
                         thinking->symbol_count);
    }
    return STATUS_OK;
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
    const char *set = think_setting(thinking, "window");
    if (walk->has_state_inputs) {
        return think_note(thinking, "states", "inputs", "the graph is fed its states");
    }
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
    TRY(take_layers(&walk));
    TRY(think_check_layers(thinking));
    TRY(check_ends(thinking));
    if (thinking->layers[0].cell == FOREIGN_CELL_RNN) {
        TRY(foreign_add_hint(thinking->model, "activation", "tanh", thinking->error));
    }
    TRY(think_check_cell(thinking));
    TRY(think_note_ends(thinking));
    TRY(note_states(&walk));
    TRY(think_find_vocabulary(thinking));
    return think_make_program(thinking);
}

/* The graph that TensorFlow's saver writes beside a checkpoint, PREFIX.meta, as far as it says what no variable does:
 * what LSTMs add to their forget gates, and what cells do that no cell here does. Thread: the one that imports.
 *
 * MetaGraphDef {2: GraphDef {1: NodeDef {1: name, 2: op, 3: inputs, 5: attributes {1: key, 2: AttrValue {4: float,
 * 8: TensorProto {4: content, 5: floats}}}}}}. A cell of single operators splits its sums into i, j, f, o, and adds a
 * constant to the third: Add("…/split:2", "…/add/y"); it clips in "…/clip_by_value". All its operators stand directly
 * in its scope, until 1.1 a GRU's also in "candidate" or "Candidate" there; what is added to outside of it is its
 * output (ResidualWrapper). One operator that is a whole cell has the attributes "forget_bias" and "cell_clip" (0 and
 * less: none); those of the values that they usually have may be left out.
 * Source: tensorflow/core/protobuf/meta_graph.proto, core/framework/{graph,tensor,attr_value}.proto,
 * core/ops/rnn_ops.cc; TensorFlow 1.15, rnn_cell_impl.py, contrib/rnn/python/ops/lstm_ops.py. */
#include <math.h>

#include "engine/import/tensorflow.h"

/* What is looked at of a node. */
struct node {
    struct wire name;
    struct wire op;
    struct wire inputs[2];
    size_t input_count;
    struct wire value; /* the tensor of a constant */
    float forget_bias; /* its attributes of these names, or what they usually are */
    float cell_clip;
};

static const struct node usual_node = {.forget_bias = 1, .cell_clip = 3};

/* The field of that number, or the last one; empty without it. */
static struct wire field_of(struct wire message, uint32_t number)
{
    struct wire_field field;
    struct wire found = {NULL, 0};
    bool is_corrupt = false;
    while (wire_read_field(&message, &field, &is_corrupt)) {
        found = field.number == number && field.type == WIRE_BYTES ? field.bytes : found;
    }
    return found;
}

static bool equals(struct wire text, const char *word)
{
    return text.length == strlen(word) && memcmp(text.bytes, word, text.length) == 0;
}

/* Whether it is the third part of what an LSTM cell splits. */
static bool is_forget_gate(struct wire name)
{
    static const char part[] = "/split:2";
    const char *text = (const char *)name.bytes;
    return foreign_ends_in(text, name.length, part) && tensorflow_adding_lstm_around(text, name.length);
}

/* Takes what an attribute says, where it is one of those that are looked at. */
static void take_attribute(struct wire attribute, struct node *node)
{
    struct wire key = field_of(attribute, 1);
    struct wire value = field_of(attribute, 2);
    struct wire_field field;
    bool is_corrupt = false;
    float *target = equals(key, "forget_bias") ? &node->forget_bias
                    : equals(key, "cell_clip") ? &node->cell_clip
                                               : NULL;
    if (equals(key, "value")) {
        node->value = field_of(value, 8);
    }
    while (target != NULL && wire_read_field(&value, &field, &is_corrupt)) {
        if (field.number == 4 && field.type == WIRE_FOUR_BYTES) {
            uint32_t bits = (uint32_t)field.value;
            memcpy(target, &bits, sizeof bits);
        }
    }
}

/* The next node; false at the graph's end. */
static bool next_node(struct wire *graph, struct node *ret_node)
{
    struct wire_field field;
    bool is_corrupt = false;
    do {
        if (!wire_read_field(graph, &field, &is_corrupt)) {
            return false;
        }
    } while (field.number != 1 || field.type != WIRE_BYTES);
    struct wire message = field.bytes;
    *ret_node = usual_node;
    while (wire_read_field(&message, &field, &is_corrupt)) {
        if (field.type != WIRE_BYTES) {
            continue;
        }
        if (field.number == 1) {
            ret_node->name = field.bytes;
        } else if (field.number == 2) {
            ret_node->op = field.bytes;
        } else if (field.number == 3 && ret_node->input_count < 2) {
            ret_node->inputs[ret_node->input_count++] = field.bytes;
        } else if (field.number == 5) {
            take_attribute(field.bytes, ret_node);
        }
    }
    return true;
}

/* A float tensor's one number. */
static bool read_float(struct wire tensor, float *ret_number)
{
    struct wire_field field;
    bool is_corrupt = false;
    bool is_found = false;
    while (wire_read_field(&tensor, &field, &is_corrupt)) {
        bool is_raw = (field.number == 4 || field.number == 5) && field.type == WIRE_BYTES &&
                      field.bytes.length == sizeof *ret_number;
        if (is_raw) {
            memcpy(ret_number, field.bytes.bytes, sizeof *ret_number);
        } else if (field.number == 5 && field.type == WIRE_FOUR_BYTES) {
            uint32_t bits = (uint32_t)field.value;
            memcpy(ret_number, &bits, sizeof bits);
        }
        is_found = is_found || is_raw || (field.number == 5 && field.type == WIRE_FOUR_BYTES);
    }
    return is_found;
}

/* ---- what is added ---- */

static void note_number(struct foreign_model *model, float number)
{
    bool is_usable = fabsf(number) <= FOREIGN_FORGET_BIAS_MAX;
    bool is_first = model->graph_says == FOREIGN_FORGET_BIAS_UNSAID;
    bool is_same = model->graph_says == FOREIGN_FORGET_BIAS_SAID && fabsf(number - model->forget_bias) <= 0;
    if (is_usable && is_first) {
        model->graph_says = FOREIGN_FORGET_BIAS_SAID;
        model->forget_bias = number;
    } else if (is_usable && !is_same) {
        model->graph_says = FOREIGN_FORGET_BIAS_SEVERAL;
    }
}

static bool is_addition(const struct node *node)
{
    return (equals(node->op, "Add") || equals(node->op, "AddV2")) && node->input_count == 2;
}

/* Whether a node adds to an LSTM's forget gate: its second input, a constant's name, says what. */
static bool is_sum(const struct node *node)
{
    return is_addition(node) && is_forget_gate(node->inputs[0]);
}

static bool is_whole_cell(const struct node *node)
{
    return equals(node->op, "LSTMBlockCell") || equals(node->op, "BlockLSTM");
}

/* ---- what is not built ---- */

/* What the nodes were found to have, by the kind of cell. */
struct cells {
    struct wire product[FOREIGN_CELL_COUNT]; /* the name of a matrix product; empty: there is none */
    bool has_tanh[FOREIGN_CELL_COUNT];
};

static bool stands_in_cell(struct wire name, enum foreign_cell *ret_cell)
{
    return tensorflow_cell_around((const char *)name.bytes, name.length, ret_cell);
}

/* Whether it is clip_by_value's of an LSTM cell, or a whole cell that clips. */
static bool is_clip(const struct node *node, enum foreign_cell *ret_cell)
{
    static const char minimum[] = "/Minimum";
    const char *name = (const char *)node->name.bytes;
    size_t length = node->name.length;
    if (is_whole_cell(node)) {
        *ret_cell = FOREIGN_CELL_LSTM;
        return node->cell_clip > 0;
    }
    if (!equals(node->op, "Minimum") || !foreign_ends_in(name, length, minimum)) {
        return false;
    }
    length -= strlen(minimum);
    size_t begin = tensorflow_last_component(name, length);
    return strncmp(name + begin, "clip_by_value", 13) == 0 && tensorflow_cell_around(name, length, ret_cell) &&
           *ret_cell == FOREIGN_CELL_LSTM;
}

/* Whether a cell has it in the place of tanh. */
static bool is_other_activation(const struct node *node, enum foreign_cell *ret_cell)
{
    static const char *const others[] = {"Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (equals(node->op, others[i])) {
            return stands_in_cell(node->name, ret_cell);
        }
    }
    return false;
}

/* Whether it adds to what comes out of a cell. That of a cell with dropout around it comes from elsewhere. */
static bool is_residual(const struct node *node, enum foreign_cell *ret_cell)
{
    return is_addition(node) && !stands_in_cell(node->name, ret_cell) &&
           (stands_in_cell(node->inputs[0], ret_cell) || stands_in_cell(node->inputs[1], ret_cell));
}

/* Notes a node, unless one before it did the same. */
static enum status note_unbuilt(struct wire name, enum foreign_cell cell, enum foreign_unbuilt what,
                                struct foreign_model *model, struct error *error)
{
    size_t length = name.length < FOREIGN_NAME_BYTES_MAX ? name.length : FOREIGN_NAME_BYTES_MAX;
    if (model->unbuilt[cell][what] != NULL) {
        return STATUS_OK;
    }
    char *copy = arena_allocate(&model->arena, length + 1, 1);
    if (copy == NULL) {
        return foreign_no_memory(model, error);
    }
    if (length > 0) {
        memcpy(copy, name.bytes, length);
    }
    model->unbuilt[cell][what] = length > 0 ? copy : "a node without a name";
    return STATUS_OK;
}

static enum status look_for_unbuilt(const struct node *node, struct cells *cells, struct foreign_model *model,
                                    struct error *error)
{
    enum foreign_cell cell = FOREIGN_CELL_LSTM;
    if (is_clip(node, &cell)) {
        return note_unbuilt(node->name, cell, FOREIGN_UNBUILT_CLIP, model, error);
    }
    if (is_other_activation(node, &cell)) {
        return note_unbuilt(node->name, cell, FOREIGN_UNBUILT_ACTIVATION, model, error);
    }
    if (is_residual(node, &cell)) {
        return note_unbuilt(node->name, cell, FOREIGN_UNBUILT_RESIDUAL, model, error);
    }
    bool is_product = equals(node->op, "MatMul");
    if ((is_product || equals(node->op, "Tanh")) && stands_in_cell(node->name, &cell)) {
        cells->product[cell] = is_product ? node->name : cells->product[cell];
        cells->has_tanh[cell] = cells->has_tanh[cell] || !is_product;
    }
    return STATUS_OK;
}

/* Notes what nodes say by themselves, and returns how many sums there are, whose constants say the rest. */
static enum status note_nodes(struct wire graph, struct foreign_model *model, size_t *ret_sum_count,
                              struct error *error)
{
    struct node node;
    struct cells cells = {.has_tanh = {false}};
    *ret_sum_count = 0;
    while (next_node(&graph, &node)) {
        *ret_sum_count += is_sum(&node) ? 1 : 0;
        if (is_whole_cell(&node)) {
            note_number(model, node.forget_bias);
        }
        TRY(look_for_unbuilt(&node, &cells, model, error));
    }
    for (enum foreign_cell cell = 0; cell < FOREIGN_CELL_COUNT; cell++) {
        if (cells.product[cell].length > 0 && !cells.has_tanh[cell]) {
            TRY(note_unbuilt(cells.product[cell], cell, FOREIGN_UNBUILT_ACTIVATION, model, error));
        }
    }
    return STATUS_OK;
}

static int by_text(const void *left, const void *right)
{
    const struct wire *a = left;
    const struct wire *b = right;
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

/* Notes the constants that so many sums add. An unrolled graph has as many sums as steps, so their names are sorted. */
static enum status note_sums(struct wire graph, size_t sum_count, struct foreign_model *model, struct error *error)
{
    struct wire *addends = arena_allocate(&model->arena, sum_count + 1, sizeof *addends);
    struct wire rest = graph;
    struct node node;
    size_t count = 0;
    float number = 0;
    if (addends == NULL) {
        return foreign_no_memory(model, error);
    }
    while (next_node(&rest, &node)) {
        if (is_sum(&node) && node.inputs[1].length > 0 && count < sum_count) {
            addends[count++] = node.inputs[1];
        }
    }
    if (count > 0) {
        qsort(addends, count, sizeof *addends, by_text);
    }
    while (count > 0 && next_node(&graph, &node)) {
        if (equals(node.op, "Const") && node.name.length > 0 &&
            bsearch(&node.name, addends, count, sizeof *addends, by_text) != NULL && read_float(node.value, &number)) {
            note_number(model, number);
        }
    }
    return STATUS_OK;
}

enum status tensorflow_graph_read(struct foreign_source *source, const char *prefix, struct foreign_model *model,
                                  struct error *error)
{
    char name[FILENAME_MAX];
    struct wire meta = {NULL, 0};
    struct error ignored;
    int length = snprintf(name, sizeof name, "%s.meta", prefix);
    struct source_file *file = length < (int)sizeof name ? foreign_source_find(source, name) : NULL;
    if (file == NULL) {
        return STATUS_OK;
    }
    model->graph_says = FOREIGN_FORGET_BIAS_UNSAID;
    if (foreign_source_read(source, file, &meta.bytes, &meta.length, &ignored) != STATUS_OK) {
        return STATUS_OK;
    }
    struct wire graph = field_of(meta, 2);
    size_t sum_count = 0;
    enum status status = note_nodes(graph, model, &sum_count, error);
    if (status == STATUS_OK && sum_count > 0) {
        status = note_sums(graph, sum_count, model, error);
    }
    foreign_source_forget(source, file);
    return status;
}

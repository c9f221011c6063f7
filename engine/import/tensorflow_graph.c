/* The graph that TensorFlow's saver writes beside a checkpoint, PREFIX.meta, as far as it says what no variable does:
 * what LSTMs add to their forget gates. Thread: the one that imports.
 *
 * MetaGraphDef {2: GraphDef {1: NodeDef {1: name, 2: op, 3: inputs, 5: attributes {1: "value", 2: AttrValue {8:
 * TensorProto {4: content, 5: floats}}}}}}. A cell splits its sums into i, j, f, o, and adds a constant to the third:
 * Add("…/split:2", "…/add/y"). Source: tensorflow/core/protobuf/meta_graph.proto, core/framework/{graph,tensor}.proto;
 * TensorFlow 1.15, rnn_cell_impl.py. */
#include <math.h>

#include "engine/import/tensorflow.h"

/* What is looked at of a node. */
struct node {
    struct wire name;
    struct wire op;
    struct wire inputs[2];
    size_t input_count;
    struct wire value; /* the tensor of a constant */
};

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
    return foreign_ends_in(text, name.length, part) && tensorflow_is_in_lstm(text, name.length - strlen(part));
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
    *ret_node = (struct node){.input_count = 0};
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
        } else if (field.number == 5 && equals(field_of(field.bytes, 1), "value")) {
            ret_node->value = field_of(field_of(field.bytes, 2), 8);
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

/* The name of what the first cell adds to its forget gate; empty: there is none. */
static struct wire find_addend(struct wire graph)
{
    struct node node;
    while (next_node(&graph, &node)) {
        bool is_sum = equals(node.op, "Add") || equals(node.op, "AddV2");
        if (is_sum && node.input_count == 2 && is_forget_gate(node.inputs[0])) {
            return node.inputs[1];
        }
    }
    return (struct wire){NULL, 0};
}

void tensorflow_graph_read(struct foreign_source *source, const char *prefix, struct foreign_model *model)
{
    char name[FILENAME_MAX];
    struct wire meta = {NULL, 0};
    struct node node;
    float number = 0;
    struct error ignored;
    int length = snprintf(name, sizeof name, "%s.meta", prefix);
    struct source_file *file = length < (int)sizeof name ? foreign_source_find(source, name) : NULL;
    if (file == NULL || foreign_source_read(source, file, &meta.bytes, &meta.length, &ignored) != STATUS_OK) {
        return;
    }
    struct wire graph = field_of(meta, 2);
    struct wire addend = find_addend(graph);
    while (addend.length > 0 && next_node(&graph, &node)) {
        if (node.name.length == addend.length && memcmp(node.name.bytes, addend.bytes, addend.length) == 0 &&
            equals(node.op, "Const") && read_float(node.value, &number)) {
            model->has_forget_bias = fabsf(number) <= FOREIGN_FORGET_BIAS_MAX;
            model->forget_bias = number;
            break;
        }
    }
    foreign_source_forget(source, file);
}

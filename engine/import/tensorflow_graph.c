/* The graph that TensorFlow's saver writes beside a checkpoint, PREFIX.meta, as far as it says what no variable does:
 * what LSTMs add to their forget gates, and (tensorflow_unbuilt.c) what cells do that no cell here does. Thread: the
 * one that imports.
 *
 * MetaGraphDef {2: GraphDef {1: NodeDef {1: name, 2: op, 3: inputs, 5: attributes {1: key, 2: AttrValue {4: float,
 * 8: TensorProto {4: content, 5: floats}}}}}}. A cell of single operators splits its sums into i, j, f, o, and adds a
 * constant to the third: Add("…/split:2", "…/add/y"); where its state is one matrix, that was split before ("split_1").
 * One operator that is a whole cell has the attributes "forget_bias" and "cell_clip" (0 and less: none); those of the
 * values that they usually have may be left out. Source: tensorflow/core/protobuf/meta_graph.proto,
 * core/framework/{graph,tensor,attr_value}.proto, core/ops/rnn_ops.cc; TensorFlow 1.15, rnn_cell_impl.py,
 * contrib/rnn/python/ops/lstm_ops.py. */
#include <ctype.h>
#include <math.h>

#include "engine/import/tensorflow_graph.h"

static const struct graph_node usual_node = {.forget_bias = 1, .cell_clip = 3};

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

bool tensorflow_wire_is(struct wire text, const char *word)
{
    return text.length == strlen(word) && memcmp(text.bytes, word, text.length) == 0;
}

/* Takes what an attribute says, where it is one of those that are looked at. */
static void take_attribute(struct wire attribute, struct graph_node *node)
{
    struct wire key = field_of(attribute, 1);
    struct wire value = field_of(attribute, 2);
    struct wire_field field;
    bool is_corrupt = false;
    float *target = tensorflow_wire_is(key, "forget_bias") ? &node->forget_bias
                    : tensorflow_wire_is(key, "cell_clip") ? &node->cell_clip
                                                           : NULL;
    if (tensorflow_wire_is(key, "value")) {
        node->value = field_of(value, 8);
    }
    while (target != NULL && wire_read_field(&value, &field, &is_corrupt)) {
        if (field.number == 4 && field.type == WIRE_FOUR_BYTES) {
            uint32_t bits = (uint32_t)field.value;
            memcpy(target, &bits, sizeof bits);
        }
    }
}

bool tensorflow_next_node(struct wire *graph, struct graph_node *ret_node)
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

bool tensorflow_is_addition(const struct graph_node *node)
{
    return (tensorflow_wire_is(node->op, "Add") || tensorflow_wire_is(node->op, "AddV2")) && node->input_count == 2;
}

/* Whether it is the third part of what an LSTM cell splits: "…/split:2", "…/split_1:2". */
static bool is_forget_gate(struct wire name)
{
    const char *text = (const char *)name.bytes;
    struct tensorflow_cell cell;
    if (!foreign_ends_in(text, name.length, ":2")) {
        return false;
    }
    size_t end = name.length - 2;
    size_t digits = end;
    while (digits > 0 && isdigit((unsigned char)text[digits - 1])) {
        digits--;
    }
    size_t word_end = digits < end && digits > 0 && text[digits - 1] == '_' ? digits - 1 : end;
    return foreign_ends_in(text, word_end, "/split") && tensorflow_cell_around(text, name.length, &cell) &&
           cell.adds_to_forget_gate;
}

/* Whether a node adds to an LSTM's forget gate: its second input, a constant's name, says what. */
static bool is_sum(const struct graph_node *node)
{
    return tensorflow_is_addition(node) && is_forget_gate(node->inputs[0]);
}

bool tensorflow_is_whole_cell(const struct graph_node *node)
{
    return tensorflow_wire_is(node->op, "LSTMBlockCell") || tensorflow_wire_is(node->op, "BlockLSTM");
}

/* Notes what whole cells say, and returns how many sums there are, whose constants say the rest. */
static size_t note_cells(struct wire graph, struct foreign_model *model)
{
    struct graph_node node;
    size_t sum_count = 0;
    while (tensorflow_next_node(&graph, &node)) {
        sum_count += is_sum(&node) ? 1 : 0;
        if (tensorflow_is_whole_cell(&node)) {
            note_number(model, node.forget_bias);
        }
    }
    return sum_count;
}

int tensorflow_compare_wires(const void *left, const void *right)
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
    struct graph_node node;
    size_t count = 0;
    float number = 0;
    if (addends == NULL) {
        return foreign_no_memory(model, error);
    }
    while (tensorflow_next_node(&rest, &node)) {
        if (is_sum(&node) && node.inputs[1].length > 0 && count < sum_count) {
            addends[count++] = node.inputs[1];
        }
    }
    if (count > 0) {
        qsort(addends, count, sizeof *addends, tensorflow_compare_wires);
    }
    while (count > 0 && tensorflow_next_node(&graph, &node)) {
        if (tensorflow_wire_is(node.op, "Const") && node.name.length > 0 &&
            bsearch(&node.name, addends, count, sizeof *addends, tensorflow_compare_wires) != NULL &&
            read_float(node.value, &number)) {
            note_number(model, number);
        }
    }
    return STATUS_OK;
}

static enum status note_problem(struct foreign_model *model, const char *problem, struct error *error)
{
    model->graph_problem = arena_copy_string(&model->arena, problem);
    return model->graph_problem == NULL ? foreign_no_memory(model, error) : STATUS_OK;
}

enum status tensorflow_graph_read(struct foreign_source *source, const char *prefix, struct foreign_model *model,
                                  struct error *error)
{
    char name[FILENAME_MAX];
    char no_graph[FILENAME_MAX + 50];
    struct wire meta = {NULL, 0};
    struct error problem;
    int length = snprintf(name, sizeof name, "%s.meta", prefix);
    struct source_file *file = length < (int)sizeof name ? foreign_source_find(source, name) : NULL;
    if (file == NULL) {
        return STATUS_OK;
    }
    model->graph_says = FOREIGN_FORGET_BIAS_UNSAID;
    enum status status = foreign_source_read(source, file, &meta.bytes, &meta.length, &problem);
    if (status != STATUS_OK) {
        return status == STATUS_NO_MEMORY ? foreign_no_memory(model, error)
                                          : note_problem(model, problem.message, error);
    }
    struct wire graph = field_of(meta, 2);
    if (graph.length == 0) {
        snprintf(no_graph, sizeof no_graph, "%s is damaged: there is no graph in it", name);
        return note_problem(model, no_graph, error);
    }
    size_t sum_count = note_cells(graph, model);
    status = sum_count > 0 ? note_sums(graph, sum_count, model, error) : STATUS_OK;
    if (status == STATUS_OK) {
        status = tensorflow_note_unbuilt(graph, model, error);
    }
    foreign_source_forget(source, file);
    return status;
}

/* What the graph beside a TensorFlow checkpoint does in its recurrent cells and no cell here does: it limits their
 * states, has another activation in tanh's place, or adds to what comes out of them. Thread: the one that imports.
 *
 * A cell's operators stand in its scope, or in what it opens there for its products ("gates", "candidate", "Linear").
 * It limits in "clip_by_value"; without a Tanh beside its products it has another activation, or none. What adds to a
 * cell's output takes it in the same graph of steps (ResidualWrapper), from a dropout around the cell, whose operators
 * stand in "dropout", or, of a whole sequence, from what a loop gathered: dynamic_rnn's "SCOPE/transpose_1" beside
 * cells in "SCOPE/while". Source: TensorFlow 1.15, rnn_cell_impl.py, rnn_cell_wrapper_impl.py, rnn.py, nn_ops.py. */
#include <stdlib.h>

#include "engine/import/tensorflow_graph.h"

/* A product or a tanh of a cell. */
struct cell_operator {
    struct wire scope; /* the cell's */
    enum foreign_cell kind;
    struct wire product; /* its name; empty: it is a tanh */
};

/* A node in a scope "dropout", and where what goes through it comes from. */
struct passage {
    struct wire name; /* first: sorted and sought by it */
    struct wire from;
};

struct survey {
    struct cell_operator *operators; /* [operator_count], by scopes */
    size_t operator_count;
    struct passage *passages; /* [passage_count], by names */
    size_t passage_count;
};

static bool stands_in_cell(struct wire name, struct tensorflow_cell *ret_cell)
{
    return tensorflow_cell_around((const char *)name.bytes, name.length, ret_cell);
}

/* ---- what there is ---- */

static bool is_cell_operator(const struct graph_node *node, struct tensorflow_cell *ret_cell)
{
    return (tensorflow_wire_is(node->op, "MatMul") || tensorflow_wire_is(node->op, "Tanh")) &&
           stands_in_cell(node->name, ret_cell);
}

/* Whether it stands in a scope "dropout" or "dropout_N", as what tf.nn.dropout makes. */
static bool is_passage(const struct graph_node *node)
{
    static const char word[] = "dropout";
    const char *name = (const char *)node->name.bytes;
    size_t last = tensorflow_last_component(name, node->name.length);
    if (last == 0 || node->input_count == 0) {
        return false;
    }
    size_t scope = tensorflow_last_component(name, last - 1);
    size_t length = last - 1 - scope;
    return length >= strlen(word) && memcmp(name + scope, word, strlen(word)) == 0 &&
           (length == strlen(word) || name[scope + strlen(word)] == '_');
}

/* Counts, or where there is room for them takes, what the survey keeps. */
static void look_around(struct wire graph, struct survey *survey)
{
    struct graph_node node;
    struct tensorflow_cell cell;
    survey->operator_count = survey->passage_count = 0;
    while (tensorflow_next_node(&graph, &node)) {
        if (is_cell_operator(&node, &cell)) {
            if (survey->operators != NULL) {
                survey->operators[survey->operator_count] = (struct cell_operator){
                    .scope = {node.name.bytes, cell.scope_length},
                    .kind = cell.kind,
                    .product = tensorflow_wire_is(node.op, "MatMul") ? node.name : (struct wire){NULL, 0},
                };
            }
            survey->operator_count++;
        } else if (is_passage(&node)) {
            if (survey->passages != NULL) {
                survey->passages[survey->passage_count] = (struct passage){node.name, node.inputs[0]};
            }
            survey->passage_count++;
        }
    }
}

static enum status take_survey(struct wire graph, struct foreign_model *model, struct survey *ret_survey,
                               struct error *error)
{
    *ret_survey = (struct survey){.operators = NULL};
    look_around(graph, ret_survey);
    ret_survey->operators =
        arena_allocate(&model->arena, ret_survey->operator_count + 1, sizeof *ret_survey->operators);
    ret_survey->passages = arena_allocate(&model->arena, ret_survey->passage_count + 1, sizeof *ret_survey->passages);
    if (ret_survey->operators == NULL || ret_survey->passages == NULL) {
        return foreign_no_memory(model, error);
    }
    look_around(graph, ret_survey);
    qsort(ret_survey->operators, ret_survey->operator_count, sizeof *ret_survey->operators, tensorflow_compare_wires);
    qsort(ret_survey->passages, ret_survey->passage_count, sizeof *ret_survey->passages, tensorflow_compare_wires);
    return STATUS_OK;
}

/* ---- what comes out of cells ---- */

/* Whether cells stand in the loop "SCOPE/while". */
static bool has_loop(const struct survey *survey, struct wire scope, enum foreign_cell *ret_kind)
{
    char text[FOREIGN_NAME_BYTES_MAX + 8];
    if (scope.length > FOREIGN_NAME_BYTES_MAX) {
        return false;
    }
    int length = snprintf(text, sizeof text, "%.*s/while", (int)scope.length, (const char *)scope.bytes);
    const struct wire loop = {(const unsigned char *)text, (size_t)length};
    size_t first = 0;
    size_t end = survey->operator_count;
    while (first < end) { /* the first scope that is not less */
        size_t middle = first + (end - first) / 2;
        bool is_less = tensorflow_compare_wires(&survey->operators[middle].scope, &loop) < 0;
        first = is_less ? middle + 1 : first;
        end = is_less ? end : middle;
    }
    const struct cell_operator *at = &survey->operators[first];
    bool is_there = first < survey->operator_count && at->scope.length >= loop.length &&
                    memcmp(at->scope.bytes, loop.bytes, loop.length) == 0;
    *ret_kind = is_there ? at->kind : *ret_kind;
    return is_there;
}

/* Whether it is what dynamic_rnn gives, "rnn/transpose_1" or "rnn/TensorArrayStack/TensorArrayGatherV3". */
static bool is_sequence(const struct survey *survey, struct wire name, enum foreign_cell *ret_kind)
{
    static const char stack[] = "/TensorArrayStack/TensorArrayGatherV3";
    static const char word[] = "transpose";
    const char *text = (const char *)name.bytes;
    size_t last = tensorflow_last_component(text, name.length);
    struct wire scope = {name.bytes, 0};
    if (foreign_ends_in(text, name.length, stack)) {
        scope.length = name.length - strlen(stack);
    } else if (last > 1 && name.length - last >= strlen(word) && memcmp(text + last, word, strlen(word)) == 0) {
        scope.length = last - 1;
    }
    return scope.length > 0 && has_loop(survey, scope, ret_kind);
}

/* Whether it comes out of a cell. */
static bool is_output(const struct survey *survey, struct wire name, enum foreign_cell *ret_kind)
{
    enum { PASSAGES_MAX = 8 }; /* a dropout has two or three */
    struct tensorflow_cell cell;
    for (int passed = 0; passed < PASSAGES_MAX; passed++) {
        if (stands_in_cell(name, &cell)) {
            *ret_kind = cell.kind;
            return true;
        }
        const struct passage *passage = survey->passage_count == 0
                                            ? NULL
                                            : bsearch(&name, survey->passages, survey->passage_count,
                                                      sizeof *survey->passages, tensorflow_compare_wires);
        if (passage == NULL) {
            return is_sequence(survey, name, ret_kind);
        }
        name = passage->from;
    }
    return false;
}

/* Whether it adds to what comes out of a cell. */
static bool is_residual(const struct survey *survey, const struct graph_node *node, enum foreign_cell *ret_kind)
{
    struct tensorflow_cell cell;
    return tensorflow_is_addition(node) && !stands_in_cell(node->name, &cell) &&
           (is_output(survey, node->inputs[0], ret_kind) || is_output(survey, node->inputs[1], ret_kind));
}

/* ---- what cells do ---- */

/* Whether it is clip_by_value's of an LSTM cell, or a whole cell that clips. */
static bool is_clip(const struct graph_node *node)
{
    static const char minimum[] = "/Minimum";
    const char *name = (const char *)node->name.bytes;
    size_t length = node->name.length;
    struct tensorflow_cell cell;
    if (tensorflow_is_whole_cell(node)) {
        return node->cell_clip > 0;
    }
    if (!tensorflow_wire_is(node->op, "Minimum") || !foreign_ends_in(name, length, minimum)) {
        return false;
    }
    length -= strlen(minimum);
    size_t begin = tensorflow_last_component(name, length);
    return strncmp(name + begin, "clip_by_value", 13) == 0 && tensorflow_cell_around(name, length, &cell) &&
           cell.kind == FOREIGN_CELL_LSTM;
}

/* Whether a cell has it in the place of tanh. */
static bool is_other_activation(const struct graph_node *node, enum foreign_cell *ret_kind)
{
    static const char *const others[] = {"Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign"};
    struct tensorflow_cell cell;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (tensorflow_wire_is(node->op, others[i]) && stands_in_cell(node->name, &cell)) {
            *ret_kind = cell.kind;
            return true;
        }
    }
    return false;
}

/* Notes a node, unless one before it did the same. */
static enum status note(struct wire name, enum foreign_cell kind, enum foreign_unbuilt what,
                        struct foreign_model *model, struct error *error)
{
    size_t length = name.length < FOREIGN_NAME_BYTES_MAX ? name.length : FOREIGN_NAME_BYTES_MAX;
    if (model->unbuilt[kind][what] != NULL) {
        return STATUS_OK;
    }
    char *copy = arena_allocate(&model->arena, length + 1, 1);
    if (copy == NULL) {
        return foreign_no_memory(model, error);
    }
    if (length > 0) {
        memcpy(copy, name.bytes, length);
    }
    model->unbuilt[kind][what] = length > 0 ? copy : "a node without a name";
    return STATUS_OK;
}

static enum status note_node(const struct survey *survey, const struct graph_node *node, struct foreign_model *model,
                             struct error *error)
{
    enum foreign_cell kind = FOREIGN_CELL_LSTM;
    if (is_clip(node)) {
        return note(node->name, kind, FOREIGN_UNBUILT_CLIP, model, error);
    }
    if (is_other_activation(node, &kind)) {
        return note(node->name, kind, FOREIGN_UNBUILT_ACTIVATION, model, error);
    }
    return is_residual(survey, node, &kind) ? note(node->name, kind, FOREIGN_UNBUILT_RESIDUAL, model, error)
                                            : STATUS_OK;
}

/* Notes cells that have products and no tanh: it is one that has no operator of its own, or none. */
static enum status note_cells_without_tanh(const struct survey *survey, struct foreign_model *model,
                                           struct error *error)
{
    for (size_t i = 0, end = 0; i < survey->operator_count; i = end) {
        const struct cell_operator *first = &survey->operators[i];
        struct wire product = {NULL, 0};
        bool has_tanh = false;
        for (end = i; end < survey->operator_count &&
                      tensorflow_compare_wires(&first->scope, &survey->operators[end].scope) == 0;
             end++) {
            const struct cell_operator *at = &survey->operators[end];
            product = product.length == 0 ? at->product : product;
            has_tanh = has_tanh || at->product.length == 0;
        }
        if (!has_tanh) {
            TRY(note(product, first->kind, FOREIGN_UNBUILT_ACTIVATION, model, error));
        }
    }
    return STATUS_OK;
}

enum status tensorflow_note_unbuilt(struct wire graph, struct foreign_model *model, struct error *error)
{
    struct survey survey;
    struct graph_node node;
    TRY(take_survey(graph, model, &survey, error));
    while (tensorflow_next_node(&graph, &node)) {
        TRY(note_node(&survey, &node, model, error));
    }
    return note_cells_without_tanh(&survey, model, error);
}

/* Reading sums off a graph. Thread: one. Owns nothing. */
#include "engine/model/step_sum.h"

#include "engine/graph/constants.h"

enum { NESTING_MAX = 32 };

/* Weights inside a loop become what they are outside, where that is a slice of something outside. */
static bool leave_loop(struct step_view *view, struct step_matrix *matrix)
{
    while (matrix->weights.node->body != 0) {
        const struct node *node = matrix->weights.node;
        const struct tensor *begin = node_is(node, "Slice") ? graph_constant_value(view->graph, node->inputs[1]) : NULL;
        if (begin == NULL || tensor_element_count(begin) != 2 || matrix->is_transposed) {
            return step_refuse(view, matrix->weights, "makes weights anew at each turn of its loop");
        }
        matrix->row += (size_t)tensor_number(begin, 0);
        matrix->column += (size_t)tensor_number(begin, 1);
        matrix->weights = step_resolve(view, node->inputs[0]);
    }
    return true;
}

/* vector · matrix, the vector perhaps several side by side. */
static bool add_product(struct step_view *view, struct step_sum *sum, struct output vector, struct step_matrix matrix)
{
    struct output whole = step_resolve(view, vector);
    size_t part_count = node_is(whole.node, "ConcatV2") ? whole.node->input_count - 1 : 1;
    for (size_t i = 0; i < part_count; i++) {
        struct step_piece piece = step_select(view, part_count == 1 ? whole : whole.node->inputs[i]);
        if (piece.count == 0) {
            return step_refuse(view, piece.output, "has no known number of columns");
        }
        if (sum->product_count == STEP_SUM_TERMS_MAX) {
            return step_refuse(view, whole, "adds up too many products");
        }
        matrix.rows = piece.count;
        sum->products[sum->product_count++] = (struct step_product){.vector = piece, .matrix = matrix};
        matrix.row += piece.count;
    }
    return true;
}

static bool add_addend(struct step_view *view, struct step_sum *sum, struct output output, size_t begin)
{
    struct step_addend addend = {.begin = begin};
    if (sum->addend_count == STEP_SUM_TERMS_MAX) {
        return step_refuse(view, output, "adds up too many terms");
    }
    if (!step_number(view, output, &addend.number)) {
        addend.weights = output;
        if (output.node->body != 0) {
            return step_refuse(view, output, "makes weights anew at each turn of its loop");
        }
    }
    sum->addends[sum->addend_count++] = addend;
    return true;
}

static bool add_terms(struct step_view *view, struct step_sum *sum, struct output output, size_t begin,
                      int nesting) /* NOLINT(misc-no-recursion) */
{
    struct step_piece piece = step_select(view, output);
    const struct node *node = piece.output.node;
    begin += piece.begin;
    if (step_is_free(view, piece.output)) {
        return add_addend(view, sum, piece.output, begin);
    }
    if (node_is(node, "MatMul") && !node_attribute_boolean(node, "transpose_a", false)) {
        struct step_matrix matrix = {.weights = step_resolve(view, node->inputs[1]),
                                     .is_transposed = node_attribute_boolean(node, "transpose_b", false),
                                     .column = begin};
        if (step_is_free(view, matrix.weights)) {
            return leave_loop(view, &matrix) && add_product(view, sum, node->inputs[0], matrix);
        }
    }
    bool is_sum = node_is(node, "Add") || node_is(node, "AddV2") || node_is(node, "BiasAdd") || node_is(node, "AddN");
    if (!is_sum || nesting == NESTING_MAX) {
        return step_refuse(view, piece.output, "is no sum of products with weights");
    }
    for (size_t i = 0; i < node->input_count; i++) {
        if (!add_terms(view, sum, node->inputs[i], begin, nesting + 1)) {
            return false;
        }
    }
    return true;
}

bool step_sum_read(struct step_view *view, struct output output, size_t begin, size_t columns, struct step_sum *ret_sum)
{
    *ret_sum = (struct step_sum){.columns = columns};
    return add_terms(view, ret_sum, output, begin, 0);
}

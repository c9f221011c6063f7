/* Recognising stacks of known cells in bodies. Thread: any. Owns nothing.
 *
 * A layer is written down as text, from the tensors that become its states back to its own input: every node as
 * Op{attributes}(inputs), with .k for its output k where it has several; a node met again as %n, n counting nodes in
 * the order they are first met; x for the layer's input, s0 … for its states, w0 … for outer tensors in the order they
 * are met, n0 … for floating constants, #1 for whole ones. The new states' texts stand one after another, separated by
 * semicolons. Names, shapes and whatever else does not change what is computed are left out. */
#include <stdarg.h>

#include "engine/base/check.h"
#include "engine/graph/ops_recurrence_fused.h"

static const struct fused_row *const rows[] = {&fused_lstm, &fused_lstm_operators, &fused_gru, &fused_rnn};

enum { TEXT_BYTES_MAX = 512, NODES_MAX = 64 };

/* A layer while it is written down. */
struct writer {
    const struct body *body;
    size_t first_state;
    struct output base; /* what the layers before yield: x, or the last one's output */
    struct output x;    /* the layer's input: base, perhaps after dropout */
    const struct node *met[NODES_MAX];
    size_t met_count;
    size_t captures[FUSED_WEIGHTS_MAX];
    size_t capture_count;
    double numbers[FUSED_NUMBERS_MAX];
    size_t number_count;
    char text[TEXT_BYTES_MAX];
    size_t length;
    bool is_too_much; /* longer or with more parts than any row */
};

static void put(struct writer *writer, const char *format, ...) PRINTF_LIKE(2, 3);

static void put(struct writer *writer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(writer->text + writer->length, sizeof writer->text - writer->length, format, arguments);
    va_end(arguments);
    if (length < 0 || writer->length + (size_t)length >= sizeof writer->text) {
        writer->is_too_much = true;
        return;
    }
    writer->length += (size_t)length;
}

static struct output before_dropout(struct output output)
{
    while (node_is(output.node, "Dropout")) {
        output = output.node->inputs[0];
    }
    return output;
}

/* Whether it is the layer's input; which must be one and the same tensor wherever it is used. */
static bool is_x(struct writer *writer, struct output output)
{
    if (!output_equal(before_dropout(output), writer->base)) {
        return false;
    }
    if (writer->x.node == NULL) {
        writer->x = output;
    }
    return output_equal(writer->x, output);
}

static void put_input(struct writer *writer, size_t input)
{
    const struct body *body = writer->body;
    if (input < body->argument_count) {
        size_t state = input - 1;
        if (input == 0 || state < writer->first_state || state >= writer->first_state + FUSED_STATES_MAX) {
            writer->is_too_much = true; /* another layer's */
            return;
        }
        put(writer, "s%zu", state - writer->first_state);
        return;
    }
    size_t capture = input - body->argument_count;
    for (size_t i = 0; i < writer->capture_count; i++) {
        if (writer->captures[i] == capture) {
            put(writer, "w%zu", i);
            return;
        }
    }
    if (writer->capture_count == FUSED_WEIGHTS_MAX) {
        writer->is_too_much = true;
        return;
    }
    writer->captures[writer->capture_count] = capture;
    put(writer, "w%zu", writer->capture_count++);
}

static void put_constant(struct writer *writer, const struct node *node)
{
    const struct tensor *value = &node_attribute(node, "value")->tensor;
    bool is_whole = value->dtype == DTYPE_INT32 || value->dtype == DTYPE_INT64;
    if (value->shape.rank != 0 || (!is_whole && writer->number_count == FUSED_NUMBERS_MAX)) {
        writer->is_too_much = true;
    } else if (is_whole) {
        put(writer, "#%.0f", tensor_number(value, 0));
    } else {
        writer->numbers[writer->number_count] = tensor_number(value, 0);
        put(writer, "n%zu", writer->number_count++);
    }
}

/* Attributes that say what is computed; those left at false say nothing. */
static void put_attributes(struct writer *writer, const struct node *node)
{
    for (size_t i = 0; i < node->attribute_count; i++) {
        const struct attribute *attribute = &node->attributes[i];
        switch (attribute->kind) {
        case ATTRIBUTE_INTEGER: put(writer, "{%s=%lld}", attribute->name, (long long)attribute->integer); break;
        case ATTRIBUTE_NUMBER: put(writer, "{%s=%g}", attribute->name, attribute->number); break;
        case ATTRIBUTE_BOOLEAN:
            if (attribute->boolean) {
                put(writer, "{%s}", attribute->name);
            }
            break;
        case ATTRIBUTE_DTYPE: break;
        case ATTRIBUTE_SHAPE:
        case ATTRIBUTE_TENSOR:
        case ATTRIBUTE_TEXT:
        case ATTRIBUTE_BODY: writer->is_too_much = true; break;
        }
    }
}

static bool put_met(struct writer *writer, struct output output)
{
    for (size_t i = 0; i < writer->met_count; i++) {
        if (writer->met[i] == output.node) {
            put(writer, "%%%zu", i);
            return true;
        }
    }
    return false;
}

/* Recursion is as deep as a row's text has parentheses: what is longer ends by is_too_much. */
static void put_tensor(struct writer *writer, struct output output) /* NOLINT(misc-no-recursion) */
{
    if (writer->is_too_much) {
        return;
    }
    if (is_x(writer, output)) {
        put(writer, "x");
        return;
    }
    for (size_t i = 0; i < writer->body->argument_count + writer->body->capture_count; i++) {
        if (output_equal(writer->body->inputs[i], output)) {
            put_input(writer, i);
            return;
        }
    }
    if (node_is(output.node, "Const")) {
        put_constant(writer, output.node);
        return;
    }
    if (!put_met(writer, output)) {
        if (writer->met_count == NODES_MAX) {
            writer->is_too_much = true;
            return;
        }
        writer->met[writer->met_count++] = output.node;
        put(writer, "%s", node_op_name(output.node));
        put_attributes(writer, output.node);
        for (size_t i = 0; i < output.node->input_count; i++) {
            put(writer, i == 0 ? "(" : ",");
            put_tensor(writer, output.node->inputs[i]);
        }
        put(writer, ")");
    }
    if (output.node->output_count > 1) {
        put(writer, ".%u", output.index);
    }
}

/* ---- layers ---- */

static bool is_float_matrix(struct output output, size_t *ret_rows, size_t *ret_columns)
{
    const struct output_type *type = output_type(output);
    if (type->dtype != DTYPE_FLOAT32 || type->shape.rank != 2 || type->shape.dimensions[1] <= 0) {
        return false;
    }
    *ret_rows = type->shape.dimensions[0] < 0 ? 0 : (size_t)type->shape.dimensions[0];
    *ret_columns = (size_t)type->shape.dimensions[1];
    return true;
}

/* Whether the layer's kernels and biases have the sizes that its states and input ask for. */
static bool has_weights(const struct writer *writer, const struct fused_row *row, const struct fused_layer_match *layer)
{
    const struct output *captures = writer->body->inputs + writer->body->argument_count;
    for (size_t w = 0; w < row->weight_count; w += 2) {
        size_t kernel_rows = 0;
        size_t columns = 0;
        struct output kernel = captures[writer->captures[w]];
        const struct output_type *bias = output_type(captures[writer->captures[w + 1]]);
        if (!is_float_matrix(kernel, &kernel_rows, &columns) || kernel_rows != layer->inputs + layer->units ||
            columns != row->gate_counts[w / 2] * layer->units || bias->dtype != DTYPE_FLOAT32 ||
            bias->shape.rank != 1 || bias->shape.dimensions[0] != (int64_t)columns) {
            return false;
        }
    }
    return true;
}

/* The layer's sizes, from its input and its states, which must say the same. */
static bool has_sizes(const struct writer *writer, const struct fused_row *row, struct fused_layer_match *layer)
{
    size_t ignored = 0;
    const struct output *states = writer->body->inputs + 1 + writer->first_state;
    if (!is_float_matrix(states[0], &ignored, &layer->units) || !is_float_matrix(writer->x, &ignored, &layer->inputs)) {
        return false;
    }
    for (size_t k = 1; k < row->state_count; k++) {
        size_t columns = 0;
        if (!is_float_matrix(states[k], &ignored, &columns) || columns != layer->units) {
            return false;
        }
    }
    return has_weights(writer, row, layer);
}

static bool keep_of(const struct node *drop, struct output *ret_keep)
{
    struct output keep = drop->inputs[1];
    const struct output_type *type = output_type(keep);
    *ret_keep = keep;
    return type->dtype == DTYPE_FLOAT32 && type->shape.rank == 0 &&
           (node_is(keep.node, "Const") || node_is(keep.node, "BodyInput"));
}

/* The dropouts between `base` and `output`. */
static bool collect_drops(struct output base, struct output output, struct fused_drops *ret_drops)
{
    ret_drops->count = 0;
    for (struct output at = output; !output_equal(at, base); at = at.node->inputs[0]) {
        if (ret_drops->count == FUSED_DROPS_MAX) {
            return false;
        }
        ret_drops->node[ret_drops->count++] = at.node;
    }
    for (size_t i = 0; i < ret_drops->count / 2; i++) { /* they were met from the last one on */
        const struct node *swapped = ret_drops->node[i];
        ret_drops->node[i] = ret_drops->node[ret_drops->count - 1 - i];
        ret_drops->node[ret_drops->count - 1 - i] = swapped;
    }
    for (size_t i = 0; i < ret_drops->count; i++) {
        if (!keep_of(ret_drops->node[i], &ret_drops->keep[i])) {
            return false;
        }
    }
    return true;
}

static bool match_layer(const struct body *body, const struct fused_row *row, size_t first_state, struct output base,
                        struct fused_layer_match *ret_layer)
{
    if (first_state + row->state_count > body->argument_count - 1) {
        return false;
    }
    struct writer writer = {.body = body, .first_state = first_state, .base = base};
    for (size_t k = 0; k < row->state_count; k++) {
        put(&writer, k == 0 ? "" : ";");
        put_tensor(&writer, body->outputs[1 + first_state + k]);
    }
    *ret_layer = (struct fused_layer_match){.row = row, .first_state = first_state};
    if (writer.is_too_much || strcmp(writer.text, row->signature) != 0 || writer.capture_count != row->weight_count ||
        (row->has_number && writer.numbers[0] != row->number) || !has_sizes(&writer, row, ret_layer)) {
        return false;
    }
    memcpy(ret_layer->captures, writer.captures, sizeof writer.captures);
    memcpy(ret_layer->numbers, writer.numbers, sizeof writer.numbers);
    return collect_drops(base, writer.x, &ret_layer->drops);
}

static bool match_any(const struct body *body, size_t first_state, struct output base,
                      struct fused_layer_match *ret_layer)
{
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (match_layer(body, rows[r], first_state, base, ret_layer)) {
            return true;
        }
    }
    return false;
}

static bool is_scalar(struct output output, double value)
{
    if (!node_is(output.node, "Const")) {
        return false;
    }
    const struct tensor *tensor = &node_attribute(output.node, "value")->tensor;
    return tensor->shape.rank == 0 && tensor_number(tensor, 0) == value;
}

/* Whether a node makes rows of ones and zeros of symbols. */
static bool is_one_hot(const struct node *node, struct output symbols)
{
    return node_is(node, "OneHot") && output_equal(node->inputs[0], symbols) && is_scalar(node->inputs[2], 1) &&
           is_scalar(node->inputs[3], 0) && node_attribute_integer(node, "axis", -1) == -1;
}

/* What the first layer may take as x: the body's, or its one-hot vectors. */
static struct output find_base(const struct body *body, bool *ret_takes_symbols)
{
    struct output x = body->inputs[0];
    *ret_takes_symbols = false;
    for (size_t i = 0; output_type(x)->dtype == DTYPE_INT32 && i < graph_node_count(body->graph); i++) {
        struct node *node = graph_node(body->graph, i);
        if (is_one_hot(node, x)) { /* of two the one that is not used does not match */
            *ret_takes_symbols = true;
            return (struct output){node, 0};
        }
    }
    return x;
}

bool recurrence_match(const struct node *node, struct recurrence_stack *ret_stack)
{
    struct recurrence recurrence = recurrence_of(node);
    const struct body *body = recurrence.body;
    *ret_stack = (struct recurrence_stack){.body = body};
    if (recurrence.is_general || recurrence.state_count == 0) {
        return false;
    }
    struct output base = find_base(body, &ret_stack->takes_symbols);
    for (size_t state = 0; state < recurrence.state_count;) {
        struct fused_layer_match *layer = &ret_stack->layers[ret_stack->layer_count];
        if (ret_stack->layer_count == FUSED_LAYERS_MAX || !match_any(body, state, base, layer)) {
            return false;
        }
        layer->saved_columns_before = ret_stack->saved_columns;
        ret_stack->saved_columns += layer->row->saved_multiple * layer->units;
        ret_stack->layer_count++;
        base = body->outputs[1 + state + layer->row->output_state];
        state += layer->row->state_count;
    }
    if (ret_stack->takes_symbols && ret_stack->layers[0].drops.count > 0) {
        return false;
    }
    return output_equal(before_dropout(body->outputs[0]), base) &&
           collect_drops(base, body->outputs[0], &ret_stack->drops);
}

struct shape recurrence_saved_shape(const struct node *node, int64_t time, int64_t batch)
{
    struct recurrence_stack stack;
    return recurrence_match(node, &stack) ? shape_cube(time, batch, (int64_t)stack.saved_columns) : shape_vector(0);
}

size_t recurrence_node_layers(const struct node *node, const char *ret_kernels[RECURRENCE_STATES_MAX])
{
    struct recurrence_stack stack;
    if (!recurrence_match(node, &stack)) {
        return 0;
    }
    for (size_t i = 0; i < stack.layer_count; i++) {
        ret_kernels[i] = stack.layers[i].row->name;
    }
    return stack.layer_count;
}

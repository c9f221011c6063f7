/* Packing graphs. Thread: loader, run threads. Owns the weights' values and the arrays made of them while it packs. */
#include "engine/model/graph_pack.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_compare.h"
#include "engine/graph/plan.h"
#include "engine/model/step_match.h"

/* Logits of a scale of 1 may differ by so much: a step's sums in another order, some steps on. */
#define DIFFERENCE_MAX 1e-3

enum {
    FOLDED_MULTIPLE_MAX = 4
}; /* what folding projections may make of the weights: more bytes, but rows share them */

struct packer {
    const struct graph_pack_options *options;
    struct step_view view;
    struct step_stack stack;
    struct arena arena;
    struct output *outputs; /* all weights, each once */
    struct tensor *tensors; /* their values, in the workspace */
    size_t weight_count;
    struct plan *plan;
    struct workspace *workspace;
    struct decode_weights weights;
};

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory to pack a graph's weights");
}

/* ---- the weights' values ---- */

static void add_weight(struct packer *packer, struct output output)
{
    for (size_t i = 0; i < packer->weight_count; i++) {
        if (output_equal(packer->outputs[i], output)) {
            return;
        }
    }
    if (output.node != NULL) {
        packer->outputs[packer->weight_count++] = output;
    }
}

static void add_weights_of(struct packer *packer, const struct step_sum *sum)
{
    for (size_t i = 0; i < sum->product_count; i++) {
        add_weight(packer, sum->products[i].matrix.weights);
    }
    for (size_t i = 0; i < sum->addend_count; i++) {
        add_weight(packer, sum->addends[i].weights);
    }
}

/* Runs what the graph makes the weights of. What cannot be run, the reason says. */
static enum status read_weights(struct packer *packer, struct error *error)
{
    const size_t sums_max = 1 + DECODE_LAYERS_MAX * (size_t)STEP_GATES_MAX;
    size_t room = 1 + DECODE_LAYERS_MAX + sums_max * 2 * STEP_SUM_TERMS_MAX;
    packer->outputs = arena_allocate(&packer->arena, room, sizeof *packer->outputs);
    packer->tensors = arena_allocate(&packer->arena, room, sizeof *packer->tensors);
    if (packer->outputs == NULL || packer->tensors == NULL) {
        return no_memory(error);
    }
    add_weight(packer, packer->stack.embedding);
    add_weights_of(packer, &packer->stack.logits);
    for (size_t i = 0; i < packer->stack.layer_count; i++) {
        add_weight(packer, packer->stack.layers[i].projection);
        for (size_t g = 0; g < step_gate_count(packer->stack.layers[i].cell); g++) {
            add_weights_of(packer, &packer->stack.layers[i].gates[g]);
        }
    }
    struct plan_options options = {.fetches = packer->outputs, .fetch_count = packer->weight_count};
    struct run_options run = {.feeds = NULL};
    TRY(plan_create(packer->options->graph, &options, &packer->plan, error));
    TRY(workspace_create(packer->plan, &packer->workspace, error));
    return plan_run(packer->plan, packer->workspace, packer->options->values, &run, packer->tensors, error);
}

static const struct tensor *value_of(const struct packer *packer, struct output output)
{
    size_t i = 0;
    while (!output_equal(packer->outputs[i], output)) {
        i++;
    }
    CHECK(i < packer->weight_count);
    return &packer->tensors[i];
}

/* ---- projections ---- */

/* A projection is folded into all that reads the projected h: m·P·K is m·(P·K), and m is a tanh's output like any h. */

/* The rows [row, row + projected) of a matrix become P times them, `units` rows: a new matrix in the arena, or NULL. */
static float *fold(struct packer *packer, const struct step_layer *layer, const float *matrix, size_t row_count,
                   size_t columns, size_t row)
{
    const float *projection = value_of(packer, layer->projection)->data;
    size_t projected = layer->hidden_count;
    size_t after = row_count - row - projected;
    float *folded = arena_allocate(&packer->arena, (row + layer->units + after) * columns, sizeof *folded);
    double *sums = arena_allocate(&packer->arena, columns, sizeof *sums);
    if (folded == NULL || sums == NULL) {
        return NULL;
    }
    memcpy(folded, matrix, row * columns * sizeof *folded);
    for (size_t unit = 0; unit < layer->units; unit++) {
        memset(sums, 0, columns * sizeof *sums);
        for (size_t p = 0; p < projected; p++) {
            for (size_t c = 0; c < columns; c++) {
                sums[c] += (double)projection[unit * projected + p] * (double)matrix[(row + p) * columns + c];
            }
        }
        for (size_t c = 0; c < columns; c++) {
            folded[(row + unit) * columns + c] = (float)sums[c];
        }
    }
    memcpy(folded + (row + layer->units) * columns, matrix + (row + projected) * columns,
           after * columns * sizeof *folded);
    return folded;
}

/* Whether each layer reads all columns of the one below, and the output all of the top one's. */
static bool check_widths(struct packer *packer)
{
    const struct step_stack *stack = &packer->stack;
    const struct step_product *output = &stack->logits.products[0];
    for (size_t i = 1; i < stack->layer_count; i++) {
        if (stack->layers[i].input.count != stack->layers[i - 1].hidden_count) {
            return step_refuse(&packer->view, stack->layers[i].input.output, "is read in part");
        }
    }
    return output->matrix.rows == stack->layers[stack->layer_count - 1].hidden_count ||
           step_refuse(&packer->view, output->vector.output, "is read in part");
}

/* Whether folding the projections stays within reason; also where there are none. */
static bool check_folding(struct packer *packer)
{
    size_t as_is = 0;
    size_t folded = 0;
    const struct step_layer *last = NULL;
    for (size_t i = 0; i < packer->stack.layer_count; i++) {
        const struct step_layer *layer = &packer->stack.layers[i];
        size_t gates = step_gate_count(layer->cell) * layer->units;
        as_is += (layer->input.count + layer->hidden_count) * gates;
        folded += ((i == 0 ? layer->input.count : packer->stack.layers[i - 1].units) + layer->units) * gates;
        last = layer->projection.node == NULL ? last : layer;
    }
    return last == NULL || folded <= FOLDED_MULTIPLE_MAX * as_is ||
           step_refuse(&packer->view, last->projection,
                       "projects to so few that folding it would cost more than it saves");
}

/* Whether all projections have the shape of one, and packing stays within reason. */
static bool check_projections(struct packer *packer)
{
    for (size_t i = 0; i < packer->stack.layer_count; i++) {
        const struct step_layer *layer = &packer->stack.layers[i];
        if (layer->projection.node == NULL) {
            continue;
        }
        const struct tensor *projection = value_of(packer, layer->projection);
        if (projection->dtype != DTYPE_FLOAT32 || projection->shape.rank != 2 ||
            projection->shape.dimensions[0] != (int64_t)layer->units ||
            projection->shape.dimensions[1] != (int64_t)layer->hidden_count) {
            return step_refuse(&packer->view, layer->projection, "has not the shape of a projection");
        }
    }
    return check_folding(packer);
}

/* ---- arrays in the layout of decode_weights ---- */

/* Columns of a matrix being made. */
struct target {
    float *values;
    size_t stride;
    size_t column;
    size_t row;
};

static bool add_matrix(struct packer *packer, const struct step_matrix *matrix, size_t columns, struct target target)
{
    const struct tensor *tensor = value_of(packer, matrix->weights);
    const int64_t *dimensions = tensor->shape.dimensions;
    bool is_float = tensor->dtype == DTYPE_FLOAT32 && tensor->shape.rank == 2;
    size_t rows = is_float ? (size_t)dimensions[matrix->is_transposed] : 0;
    size_t width = is_float ? (size_t)dimensions[!matrix->is_transposed] : 0;
    if (!is_float || matrix->row + matrix->rows > rows || matrix->column + columns > width) {
        return step_refuse(&packer->view, matrix->weights, "has not the shape of a kernel");
    }
    const float *values = tensor->data;
    size_t row_step = matrix->is_transposed ? 1 : width;
    size_t column_step = matrix->is_transposed ? rows : 1;
    for (size_t r = 0; r < matrix->rows; r++) {
        const float *from = values + (matrix->row + r) * row_step + matrix->column * column_step;
        float *to = target.values + (target.row + r) * target.stride + target.column;
        for (size_t c = 0; c < columns; c++) {
            to[c] += from[c * column_step];
        }
    }
    return true;
}

static bool add_addend(struct packer *packer, const struct step_addend *addend, size_t columns, float *bias)
{
    float number = (float)addend->number;
    const float *values = &number;
    size_t count = 1;
    if (addend->weights.node != NULL) {
        const struct tensor *tensor = value_of(packer, addend->weights);
        values = tensor->data;
        count = tensor_element_count(tensor);
        if (tensor->dtype != DTYPE_FLOAT32 || (count != 1 && addend->begin + columns > count)) {
            return step_refuse(&packer->view, addend->weights, "has not the shape of a bias");
        }
    }
    for (size_t c = 0; c < columns; c++) {
        bias[c] += count == 1 ? values[0] : values[addend->begin + c];
    }
    return true;
}

/* The rows of its layer's kernel that a product goes through; false when it is none of them. */
static bool find_row(const struct step_layer *layer, bool is_candidate, struct output vector, size_t *ret_row)
{
    bool is_input = output_equal(vector, layer->input.output);
    *ret_row = is_input ? 0 : layer->input.count;
    return is_input || output_equal(vector, is_candidate ? layer->reset : layer->hidden);
}

static bool add_gate(struct packer *packer, const struct step_layer *layer, size_t gate, struct target target,
                     float *bias)
{
    const struct step_sum *sum = &layer->gates[gate];
    bool is_candidate = layer->cell == DECODE_CELL_GRU && gate + 1 == step_gate_count(DECODE_CELL_GRU);
    for (size_t i = 0; i < sum->product_count; i++) {
        const struct step_product *product = &sum->products[i];
        if (!find_row(layer, is_candidate, product->vector.output, &target.row) || product->vector.begin != 0) {
            return step_refuse(&packer->view, product->vector.output, "is read where a cell does not");
        }
        bool is_input = target.row == 0;
        if (product->matrix.rows != (is_input ? layer->input.count : layer->hidden_count)) {
            return step_refuse(&packer->view, product->vector.output, "is read in part");
        }
        if (!add_matrix(packer, &product->matrix, layer->units, target)) {
            return false;
        }
    }
    for (size_t i = 0; i < sum->addend_count; i++) {
        if (!add_addend(packer, &sum->addends[i], layer->units, bias + target.column)) {
            return false;
        }
    }
    return true;
}

/* Gates `first` to `first + count` of layer `index` as one kernel and bias. */
static enum status make_kernel(struct packer *packer, size_t index, size_t first, size_t count,
                               const float **ret_kernel, const float **ret_bias, struct error *error)
{
    const struct step_layer *layer = &packer->stack.layers[index];
    size_t columns = count * layer->units;
    size_t rows = layer->input.count + layer->hidden_count;
    float *kernel = arena_allocate(&packer->arena, rows * columns, sizeof *kernel);
    float *bias = arena_allocate(&packer->arena, columns, sizeof *bias);
    if (kernel == NULL || bias == NULL) {
        return no_memory(error);
    }
    for (size_t g = 0; g < count; g++) {
        struct target target = {.values = kernel, .stride = columns, .column = g * layer->units};
        if (!add_gate(packer, layer, first + g, target, bias)) {
            return STATUS_OK; /* the view has the reason */
        }
    }
    if (layer->projection.node != NULL) {
        kernel = fold(packer, layer, kernel, rows, columns, layer->input.count);
        rows += layer->units - layer->hidden_count;
    }
    if (kernel != NULL && index > 0 && layer[-1].projection.node != NULL) {
        kernel = fold(packer, &layer[-1], kernel, rows, columns, 0);
    }
    if (kernel == NULL) {
        return no_memory(error);
    }
    *ret_kernel = kernel;
    *ret_bias = bias;
    return STATUS_OK;
}

/* A layer without its weights. */
static struct decode_layer_weights layer_sizes(const struct step_stack *stack, size_t index)
{
    const struct step_layer *layer = &stack->layers[index];
    return (struct decode_layer_weights){.cell = layer->cell,
                                         .input_size = index == 0 ? layer->input.count : layer[-1].units,
                                         .units = layer->units,
                                         .is_residual = layer->is_residual};
}

static enum status make_layer(struct packer *packer, size_t index, struct error *error)
{
    const struct step_layer *layer = &packer->stack.layers[index];
    struct decode_layer_weights *weights = &packer->weights.layers[index];
    bool is_gru = layer->cell == DECODE_CELL_GRU;
    *weights = layer_sizes(&packer->stack, index);
    TRY(make_kernel(packer, index, 0, is_gru ? 2 : step_gate_count(layer->cell), &weights->kernel, &weights->bias,
                    error));
    return is_gru ? make_kernel(packer, index, 2, 1, &weights->candidate_kernel, &weights->candidate_bias, error)
                  : STATUS_OK;
}

static enum status make_output(struct packer *packer, struct error *error)
{
    const struct step_sum *logits = &packer->stack.logits;
    const struct step_matrix *matrix = &logits->products[0].matrix;
    float *softmax_w = arena_allocate(&packer->arena, matrix->rows * logits->columns, sizeof *softmax_w);
    float *softmax_b = arena_allocate(&packer->arena, logits->columns, sizeof *softmax_b);
    if (softmax_w == NULL || softmax_b == NULL) {
        return no_memory(error);
    }
    bool is_made =
        add_matrix(packer, matrix, logits->columns, (struct target){.values = softmax_w, .stride = logits->columns});
    for (size_t i = 0; i < logits->addend_count && is_made; i++) {
        is_made = add_addend(packer, &logits->addends[i], logits->columns, softmax_b);
    }
    bool is_tied = matrix->is_transposed && packer->stack.embedding.node != NULL &&
                   output_equal(matrix->weights, packer->stack.embedding) && matrix->row == 0;
    const struct step_layer *top = &packer->stack.layers[packer->stack.layer_count - 1];
    if (is_made && top->projection.node != NULL) {
        is_tied = false;
        softmax_w = fold(packer, top, softmax_w, matrix->rows, logits->columns, 0);
        if (softmax_w == NULL) {
            return no_memory(error);
        }
    }
    packer->weights.softmax_w = is_tied ? NULL : softmax_w;
    packer->weights.softmax_b = softmax_b;
    return STATUS_OK;
}

static enum status make_weights(struct packer *packer, struct error *error)
{
    struct decode_weights *weights = &packer->weights;
    const struct step_stack *stack = &packer->stack;
    *weights = (struct decode_weights){.vocabulary_size = stack->symbol_count, .layer_count = stack->layer_count};
    if (stack->embedding.node != NULL) {
        const struct tensor *embedding = value_of(packer, stack->embedding);
        if (embedding->dtype != DTYPE_FLOAT32 || embedding->shape.rank != 2 ||
            embedding->shape.dimensions[0] != (int64_t)stack->symbol_count) {
            step_refuse(&packer->view, stack->embedding, "has not a row for each symbol");
            return STATUS_OK;
        }
        weights->embedding = embedding->data;
        weights->embedding_size = (size_t)embedding->shape.dimensions[1];
    }
    if (!check_widths(packer) || !check_projections(packer)) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < stack->layer_count; i++) {
        TRY(make_layer(packer, i, error));
    }
    return make_output(packer, error);
}

/* ---- the plan ---- */

static enum status make_plan(struct packer *packer, enum rnn_precision precision, struct decode_plan **ret_plan,
                             struct error *error)
{
    packer->weights.precision = precision;
    return decode_plan_create(&packer->weights, ret_plan, error);
}

/* Packs in fp32 and sees whether that says what runs say; then as asked. */
static enum status pack(struct packer *packer, struct decode_plan **ret_plan, struct error *error)
{
    struct decode_plan *plan = NULL;
    double difference;
    struct error own;
    enum status status = make_plan(packer, RNN_PRECISION_FP32, &plan, &own);
    if (status == STATUS_OK) {
        status = decode_compare(plan, packer->options->reference, &difference, &own);
    }
    if (status == STATUS_NO_MEMORY) {
        decode_plan_destroy(plan);
        return no_memory(error);
    }
    if (status != STATUS_OK || !(difference <= DIFFERENCE_MAX)) {
        decode_plan_destroy(plan);
        snprintf(packer->view.reason, sizeof packer->view.reason, "packed, '%.200s' would come out otherwise: %.250s",
                 packer->options->signature->scores.node->name,
                 status == STATUS_OK ? "the numbers differ" : own.message);
        return STATUS_OK;
    }
    if (packer->options->use != NULL) {
        status = packer->options->use->take(packer->options->use->context, &packer->weights, error);
        if (status != STATUS_OK) {
            decode_plan_destroy(plan);
            return status;
        }
    }
    if (packer->options->precision == RNN_PRECISION_FP32) {
        *ret_plan = plan;
        return STATUS_OK;
    }
    decode_plan_destroy(plan);
    return make_plan(packer, packer->options->precision, ret_plan, error);
}

static enum status run(struct packer *packer, struct decode_plan **ret_plan, struct error *error)
{
    struct error own;
    TRY(step_view_init(&packer->view, packer->options->graph, packer->options->signature, error));
    bool is_matched = step_match(&packer->view, packer->options->symbol_count, &packer->stack);
    if (packer->view.has_failed) {
        return no_memory(error);
    }
    if (!is_matched) {
        return STATUS_OK;
    }
    enum status status = read_weights(packer, &own);
    if (status == STATUS_NO_MEMORY) {
        return no_memory(error);
    }
    if (status != STATUS_OK) {
        snprintf(packer->view.reason, sizeof packer->view.reason, "its weights cannot be computed alone: %.400s",
                 own.message);
        return STATUS_OK;
    }
    TRY(make_weights(packer, error));
    return packer->view.reason[0] != '\0' ? STATUS_OK : pack(packer, ret_plan, error);
}

enum status graph_pack(const struct graph_pack_options *options, struct decode_plan **ret_plan,
                       char reason[STEP_VIEW_REASON_BYTES_MAX], struct error *error)
{
    struct packer *packer = mem_allocate(1, sizeof *packer);
    if (packer == NULL) {
        return no_memory(error);
    }
    packer->options = options;
    *ret_plan = NULL;
    enum status status = run(packer, ret_plan, error);
    memcpy(reason, packer->view.reason, STEP_VIEW_REASON_BYTES_MAX);
    workspace_destroy(packer->workspace);
    plan_unref(packer->plan);
    arena_release(&packer->arena);
    step_view_release(&packer->view);
    mem_free(packer);
    return status;
}

/* ---- how much memory ---- */

static size_t measure(const struct packer *packer)
{
    const struct step_stack *stack = &packer->stack;
    struct decode_weights sizes = {.vocabulary_size = stack->symbol_count,
                                   .layer_count = stack->layer_count,
                                   .precision = packer->options->precision};
    if (stack->embedding.node != NULL) {
        const struct shape *shape = &output_type(stack->embedding)->shape;
        sizes.embedding_size =
            shape->rank == 2 && shape->dimensions[1] > 0 ? (size_t)shape->dimensions[1] : stack->layers[0].input.count;
    }
    for (size_t i = 0; i < stack->layer_count; i++) {
        sizes.layers[i] = layer_sizes(stack, i);
    }
    return decode_plan_measure(&sizes);
}

enum status graph_pack_measure(const struct graph_pack_options *options, size_t *ret_bytes, struct error *error)
{
    struct packer *packer = mem_allocate(1, sizeof *packer);
    if (packer == NULL) {
        return no_memory(error);
    }
    packer->options = options;
    enum status status = step_view_init(&packer->view, options->graph, options->signature, error);
    if (status == STATUS_OK) {
        bool is_packed = step_match(&packer->view, options->symbol_count, &packer->stack) && check_widths(packer) &&
                         check_folding(packer);
        status = packer->view.has_failed ? no_memory(error) : STATUS_OK;
        *ret_bytes = is_packed && status == STATUS_OK ? measure(packer) : 0;
    }
    step_view_release(&packer->view);
    mem_free(packer);
    return status;
}

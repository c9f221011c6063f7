/* The build program of ONNX' recurrent operators in a stack. Thread: the one that imports.
 *
 * Equations (onnx/onnx, docs/Operators.md; x the layer's input, h and c its state, one row each):
 *   LSTM  i, f = σ(… + P c), o = σ(… + P c'), c' = f·c + i·g, h' = o·tanh(c')
 *   GRU   z, r = σ(…), n = tanh(x Wn + b + (r·h) Rn + rb) or, reset after, tanh(x Wn + b + r·(h Rn + rb)),
 *         h' = (1 − z)·n + z·h
 *   RNN   h' = tanh(…)
 * with … = x W + b + h R + rb, and other activations where the node names them. */
#include "engine/import/onnx_layers.h"

enum { NAME_BYTES_MAX = 64, ARGUMENTS_MAX = 3, RESULTS_MAX = 4 };

/* ---- steps as tables ---- */

enum when { ALWAYS, WITH_PEEPHOLES, RESET_AFTER, RESET_BEFORE };

/* A step of a cell's body. Names that end in # are a layer's own; an op of a digit is that activation. */
struct step {
    enum when when;
    const char *op;
    const char *arguments[ARGUMENTS_MAX];
    const char *as;
};

/* Blocks of columns or elements under names of their own. */
struct blocks {
    const char *of;
    size_t count;
    const char *as[RESULTS_MAX];
};

static const struct step lstm_steps[] = {
    {ALWAYS, "matmul", {"x", "W#"}, "from_x"},
    {ALWAYS, "matmul", {"h", "R#"}, "from_h"},
    {ALWAYS, "add", {"from_x", "from_h"}, "products"},
    {ALWAYS, "add", {"products", "B#"}, "sums"},
    {ALWAYS, "split", {"sums"}, "i o f g"},
    {WITH_PEEPHOLES, "multiply", {"c", "Pi#"}, "pi"},
    {WITH_PEEPHOLES, "add", {"i", "pi"}, "i"},
    {WITH_PEEPHOLES, "multiply", {"c", "Pf#"}, "pf"},
    {WITH_PEEPHOLES, "add", {"f", "pf"}, "f"},
    {ALWAYS, "0", {"i"}, "input_gate"},
    {ALWAYS, "0", {"f"}, "forget_gate"},
    {ALWAYS, "1", {"g"}, "candidate"},
    {ALWAYS, "multiply", {"forget_gate", "c"}, "kept"},
    {ALWAYS, "multiply", {"input_gate", "candidate"}, "taken"},
    {ALWAYS, "add", {"kept", "taken"}, "next_c"},
    {WITH_PEEPHOLES, "multiply", {"next_c", "Po#"}, "po"},
    {WITH_PEEPHOLES, "add", {"o", "po"}, "o"},
    {ALWAYS, "0", {"o"}, "output_gate"},
    {ALWAYS, "2", {"next_c"}, "shown"},
    {ALWAYS, "multiply", {"output_gate", "shown"}, "next_h"},
};

static const struct step gru_steps[] = {
    {ALWAYS, "matmul", {"x", "W#"}, "products"},
    {ALWAYS, "add", {"products", "B#"}, "from_x"},
    {ALWAYS, "split", {"from_x"}, "xz xr xn"},
    {ALWAYS, "matmul", {"h", "Rz#"}, "hz"},
    {ALWAYS, "add", {"xz", "hz"}, "z"},
    {ALWAYS, "add", {"z", "RBz#"}, "z"},
    {ALWAYS, "0", {"z"}, "update"},
    {ALWAYS, "matmul", {"h", "Rr#"}, "hr"},
    {ALWAYS, "add", {"xr", "hr"}, "r"},
    {ALWAYS, "add", {"r", "RBr#"}, "r"},
    {ALWAYS, "0", {"r"}, "reset"},
    {RESET_AFTER, "matmul", {"h", "Rn#"}, "hn"},
    {RESET_AFTER, "add", {"hn", "RBn#"}, "hn"},
    {RESET_AFTER, "multiply", {"reset", "hn"}, "hn"},
    {RESET_BEFORE, "multiply", {"reset", "h"}, "rh"},
    {RESET_BEFORE, "matmul", {"rh", "Rn#"}, "hn"},
    {RESET_BEFORE, "add", {"hn", "RBn#"}, "hn"},
    {ALWAYS, "add", {"xn", "hn"}, "n"},
    {ALWAYS, "1", {"n"}, "candidate"},
    {ALWAYS, "subtract", {"h", "candidate"}, "difference"},
    {ALWAYS, "multiply", {"update", "difference"}, "kept"},
    {ALWAYS, "add", {"candidate", "kept"}, "next_h"},
};

static const struct step rnn_steps[] = {
    {ALWAYS, "matmul", {"x", "W#"}, "from_x"},
    {ALWAYS, "matmul", {"h", "R#"}, "from_h"},
    {ALWAYS, "add", {"from_x", "from_h"}, "products"},
    {ALWAYS, "add", {"products", "B#"}, "sums"},
    {ALWAYS, "0", {"sums"}, "next_h"},
};

static const struct blocks gru_kernel = {"R#", 3, {"Rz#", "Rr#", "Rn#"}};
static const struct blocks gru_bias = {"RB#", 3, {"RBz#", "RBr#", "RBn#"}};
static const struct blocks lstm_peepholes = {"P#", 3, {"Pi#", "Po#", "Pf#"}};

static const struct cell_body {
    const struct step *steps;
    size_t count;
} bodies[] = {
    [FOREIGN_CELL_LSTM] = {lstm_steps, sizeof lstm_steps / sizeof *lstm_steps},
    [FOREIGN_CELL_GRU] = {gru_steps, sizeof gru_steps / sizeof *gru_steps},
    [FOREIGN_CELL_RNN] = {rnn_steps, sizeof rnn_steps / sizeof *rnn_steps},
};

/* ---- writing ---- */

struct program {
    struct thinking *thinking;
    json_t *steps;
    json_t *states;
    json_t *next_states;
    bool has_failed; /* no memory */
};

static void append(struct program *program, json_t *list, json_t *item)
{
    program->has_failed = json_array_append_new(list, item) != 0 || program->has_failed;
}

/* A name with the layer's number in place of #. */
static json_t *name_of(const char *name, size_t length, size_t layer)
{
    char made[NAME_BYTES_MAX];
    bool is_own = length > 0 && name[length - 1] == '#';
    if (is_own) {
        snprintf(made, sizeof made, "%.*s%zu", (int)length - 1, name, layer);
    } else {
        snprintf(made, sizeof made, "%.*s", (int)length, name);
    }
    return json_string(made);
}

/* The words of a list as names; one alone as a string. */
static json_t *names_of(const char *words, size_t layer)
{
    json_t *list = json_array();
    while (*words != '\0') {
        size_t length = strcspn(words, " ");
        json_array_append_new(list, name_of(words, length, layer));
        words += length + (words[length] == ' ' ? 1 : 0);
    }
    if (json_array_size(list) != 1) {
        return list;
    }
    json_t *only = json_incref(json_array_get(list, 0));
    json_decref(list);
    return only;
}

static bool is_due(const struct onnx_layer *layer, enum when when)
{
    return when == ALWAYS || (when == WITH_PEEPHOLES && layer->p != NULL) ||
           (when == RESET_AFTER && layer->is_reset_after) || (when == RESET_BEFORE && !layer->is_reset_after);
}

static json_t *write_body(struct program *program, const struct onnx_layer *layer, size_t index)
{
    const struct cell_body *body = &bodies[layer->recurrent->cell];
    json_t *steps = json_array();
    for (size_t i = 0; i < body->count; i++) {
        const struct step *step = &body->steps[i];
        if (!is_due(layer, step->when)) {
            continue;
        }
        bool is_activation = step->op[0] >= '0' && step->op[0] <= '9';
        bool is_split = strcmp(step->op, "split") == 0;
        json_t *arguments = json_array();
        for (size_t a = 0; a < ARGUMENTS_MAX && step->arguments[a] != NULL; a++) {
            append(program, arguments, name_of(step->arguments[a], strlen(step->arguments[a]), index));
        }
        if (is_split) {
            append(program, arguments, json_integer((json_int_t)layer->recurrent->gates));
        }
        append(program, steps,
               json_pack("{s:s, s:o, s:o*, s:o}", "op",
                         is_activation ? layer->activations[step->op[0] - '0'] : step->op, "args", arguments, "axis",
                         is_split ? json_integer(1) : NULL, "as", names_of(step->as, index)));
    }
    return steps;
}

/* A variable and what fills it: `tensor` as it is, or transposed; two vectors are added up. */
static enum status add_variable(struct program *program, const char *name, const char *as, const struct shape *shape,
                                const struct foreign_tensor *tensor, const struct foreign_tensor *other,
                                bool is_transposed)
{
    struct weight *weight = think_add_weight(program->thinking, name, shape, 0);
    json_t *dimensions = json_array();
    if (weight == NULL) {
        json_decref(dimensions);
        return program->thinking->error->status;
    }
    size_t rows = shape->rank == 1 ? 1 : (size_t)shape->dimensions[0];
    enum weight_order order = is_transposed ? WEIGHT_ORDER_COLUMNS : WEIGHT_ORDER_ROWS;
    weight_add_part(weight, &(struct weight_part){.tensor = tensor, .rows = rows, .order = order});
    weight_add_part(weight, &(struct weight_part){.tensor = other, .rows = rows, .order = order});
    for (int d = 0; d < shape->rank; d++) {
        append(program, dimensions, json_integer(shape->dimensions[d]));
    }
    append(program, program->steps,
           json_pack("{s:s, s:s, s:o, s:s}", "op", "get_variable", "name", name, "shape", dimensions, "as", as));
    return STATUS_OK;
}

static enum status add_layer_variable(struct program *program, size_t index, const char *part,
                                      const struct shape *shape, const struct foreign_tensor *tensor,
                                      const struct foreign_tensor *other, bool is_transposed)
{
    char name[NAME_BYTES_MAX];
    char as[NAME_BYTES_MAX];
    snprintf(name, sizeof name, "layer_%zu/%s", index, part);
    snprintf(as, sizeof as, "%s%zu", part, index);
    return add_variable(program, name, as, shape, tensor, other, is_transposed);
}

static void add_blocks(struct program *program, const struct blocks *blocks, int axis, size_t index)
{
    json_t *names = json_array();
    for (size_t i = 0; i < blocks->count; i++) {
        append(program, names, name_of(blocks->as[i], strlen(blocks->as[i]), index));
    }
    append(program, program->steps,
           json_pack("{s:s, s:[o, I], s:i, s:o}", "op", "split", "args", name_of(blocks->of, strlen(blocks->of), index),
                     (json_int_t)blocks->count, "axis", axis, "as", names));
}

/* The variable that was added last takes its gates from where the layer has them. */
static void order_gates(const struct program *program, const struct onnx_layer *layer)
{
    struct understanding *result = program->thinking->result;
    struct weight *weight = &result->weights[result->weight_count - 1];
    weight->gate_columns = layer->units;
    weight->parts[0].gates = layer->gates;
}

/* W, R, B and, of a GRU, whose candidate needs it apart, RB; P. */
static enum status add_variables(struct program *program, const struct onnx_layer *layer, size_t index)
{
    struct onnx_graph graph = {.model = program->thinking->model};
    struct error *error = program->thinking->error;
    size_t rows = layer->recurrent->gates * layer->units;
    bool is_gru = layer->recurrent->cell == FOREIGN_CELL_GRU;
    const struct foreign_tensor *b = NULL;
    const struct foreign_tensor *rb = NULL;
    struct shape shape = shape_matrix((int64_t)layer->inputs, (int64_t)rows);
    if (layer->b != NULL) {
        TRY(onnx_cut(&graph, layer->b, 0, rows, 0, &b, error));
        TRY(onnx_cut(&graph, layer->b, rows, rows, 0, &rb, error));
    }
    TRY(add_layer_variable(program, index, "W", &shape, layer->w, NULL, true));
    order_gates(program, layer);
    shape = shape_matrix((int64_t)layer->units, (int64_t)rows);
    TRY(add_layer_variable(program, index, "R", &shape, layer->r, NULL, true));
    order_gates(program, layer);
    shape = shape_vector((int64_t)rows);
    TRY(add_layer_variable(program, index, "B", &shape, b, is_gru ? NULL : rb, false));
    if (is_gru) {
        TRY(add_layer_variable(program, index, "RB", &shape, rb, NULL, false));
        add_blocks(program, &gru_kernel, 1, index);
        add_blocks(program, &gru_bias, 0, index);
    }
    if (layer->p != NULL) {
        shape = shape_vector((int64_t)(3 * layer->units));
        TRY(add_layer_variable(program, index, "P", &shape, layer->p, NULL, false));
        add_blocks(program, &lstm_peepholes, 0, index);
    }
    return STATUS_OK;
}

/* States are h and, of an LSTM, c; `layer_N.state` is a list where there are two. */
static void add_states(struct program *program, const struct onnx_layer *layer, size_t index)
{
    static const char *const names[] = {"h", "c"};
    size_t count = layer->recurrent->cell == FOREIGN_CELL_LSTM ? 2 : 1;
    for (size_t i = 0; i < count; i++) {
        char name[NAME_BYTES_MAX];
        char as[NAME_BYTES_MAX];
        char next[NAME_BYTES_MAX];
        snprintf(name, sizeof name, "predict/initial_state/%zu/%s", index, names[i]);
        snprintf(as, sizeof as, "%s%zu", names[i], index);
        snprintf(next, sizeof next, count == 1 ? "layer%zu.state" : "layer%zu.state.%zu", index, i);
        append(program, program->steps,
               json_pack("{s:s, s:[[i, I]], s:s, s:s}", "op", "zeros", "args", 1, (json_int_t)layer->units, "name",
                         name, "as", as));
        append(program, program->states, json_string(as));
        append(program, program->next_states, json_string(next));
    }
}

static enum status add_layer(struct program *program, const struct onnx_layer *layer, size_t index)
{
    bool is_lstm = layer->recurrent->cell == FOREIGN_CELL_LSTM;
    json_int_t units = (json_int_t)layer->units;
    char cell[NAME_BYTES_MAX];
    char input[NAME_BYTES_MAX];
    char result[NAME_BYTES_MAX];
    char outputs[NAME_BYTES_MAX + 16];
    char output[NAME_BYTES_MAX];
    char scope[NAME_BYTES_MAX];
    snprintf(cell, sizeof cell, "cell%zu", index);
    snprintf(input, sizeof input, "x%zu", index);
    snprintf(output, sizeof output, "x%zu", index + 1);
    snprintf(result, sizeof result, "layer%zu", index);
    snprintf(outputs, sizeof outputs, "%s.outputs", result);
    snprintf(scope, sizeof scope, "predict/layer_%zu", index);
    TRY(add_variables(program, layer, index));
    add_states(program, layer, index);
    json_t *sizes = is_lstm ? json_pack("[I, I]", units, units) : json_pack("[I]", units);
    append(program, program->steps,
           json_pack("{s:s, s:I, s:o, s:s, s:o, s:s, s:o, s:s, s:o}", "op", "cell", "num_units", units, "state_sizes",
                     sizes, "input", "x", "states", is_lstm ? json_pack("[s, s]", "h", "c") : json_pack("[s]", "h"),
                     "output", "next_h", "next_states",
                     is_lstm ? json_pack("[s, s]", "next_h", "next_c") : json_pack("[s]", "next_h"), "as", cell, "body",
                     write_body(program, layer, index)));
    append(program, program->steps,
           json_pack("{s:s, s:s, s:s, s:o, s:s, s:s}", "op", "dynamic_rnn", "cell", cell, "inputs", input,
                     "initial_state", names_of(is_lstm ? "h# c#" : "h#", index), "scope", scope, "as", result));
    append(program, program->steps,
           layer->is_residual ? json_pack("{s:s, s:[s, s], s:s}", "op", "add", "args", outputs, input, "as", output)
                              : json_pack("{s:s, s:[s], s:s}", "op", "identity", "args", outputs, "as", output));
    return STATUS_OK;
}

static enum status add_input(struct program *program, size_t inputs)
{
    const struct thinking *thinking = program->thinking;
    json_int_t symbols = (json_int_t)thinking->symbol_count;
    append(program, program->steps,
           json_pack("{s:s, s:s, s:[i, n], s:s, s:s}", "op", "placeholder", "dtype", "int32", "shape", 1, "name",
                     "predict/inputs", "as", "symbols"));
    if (thinking->embedding == NULL) {
        append(program, program->steps,
               json_pack("{s:s, s:[s, I], s:s}", "op", "one_hot", "args", "symbols", symbols, "as", "x0"));
        return STATUS_OK;
    }
    struct shape shape = shape_matrix(symbols, (int64_t)inputs);
    TRY(add_variable(program, "embedding", "table", &shape, thinking->embedding, NULL, false));
    append(program, program->steps,
           json_pack("{s:s, s:[s, s], s:s}", "op", "embedding_lookup", "args", "table", "symbols", "as", "x0"));
    return STATUS_OK;
}

static enum status add_output(struct program *program, size_t layer_count, size_t units)
{
    const struct thinking *thinking = program->thinking;
    json_int_t symbols = (json_int_t)thinking->symbol_count;
    char top[NAME_BYTES_MAX];
    snprintf(top, sizeof top, "x%zu", layer_count);
    struct shape shape = shape_matrix((int64_t)units, symbols);
    TRY(add_variable(program, "output/w", "w", &shape, thinking->output, NULL, true));
    shape = shape_vector(symbols);
    TRY(add_variable(program, "output/b", "b", &shape, thinking->output_bias, NULL, false));
    json_t *steps[] = {
        json_pack("{s:s, s:[s, [i, I]], s:s}", "op", "reshape", "args", top, -1, (json_int_t)units, "as", "rows"),
        json_pack("{s:s, s:[s, s], s:s}", "op", "matmul", "args", "rows", "w", "as", "products"),
        json_pack("{s:s, s:[s, s], s:s}", "op", "add", "args", "products", "b", "as", "scores"),
        json_pack("{s:s, s:[s, [i, i, I]], s:s, s:s}", "op", "reshape", "args", "scores", 1, -1, symbols, "name",
                  "predict/logits", "as", "logits"),
        json_pack("{s:s, s:[s], s:s}", "op", "softmax", "args", "logits", "name", "predict/probabilities"),
        json_pack("{s:s, s:s, s:{s:s, s:O}, s:{s:s, s:O}, s:O}", "op", "signature", "name", "generate", "inputs",
                  "symbol", "symbols", "state", program->states, "outputs", "logits", "logits", "state",
                  program->next_states, "vocabulary", thinking->vocabulary),
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        append(program, program->steps, steps[i]);
    }
    return STATUS_OK;
}

/* ---- all of it ---- */

static enum status check_size(const struct thinking *thinking, const struct onnx_layer *layers, size_t count)
{
    size_t columns = thinking->embedding == NULL ? 0 : layers[0].inputs;
    double parameters = (double)thinking->symbol_count * (double)(columns + layers[count - 1].units + 1);
    for (size_t i = 0; i < count; i++) {
        double inputs = (double)layers[i].inputs + (double)layers[i].units;
        parameters += inputs * (double)layers[i].units * (double)layers[i].recurrent->gates;
    }
    return parameters <= LANGUAGE_MODEL_PARAMETERS_MAX
               ? STATUS_OK
               : error_set(thinking->error, STATUS_TOO_LARGE, "%.0f parameters, at most %d", parameters,
                           LANGUAGE_MODEL_PARAMETERS_MAX);
}

enum status onnx_note_layers(struct thinking *thinking, const struct onnx_layer *layers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct onnx_layer *layer = &layers[i];
        char value[2 * NAME_BYTES_MAX];
        snprintf(value, sizeof value, "%zu: %s of %zu units%s%s%s", i, layer->recurrent->op, layer->units,
                 layer->p != NULL ? ", with peepholes" : "", layer->is_reset_after ? ", reset after the product" : "",
                 layer->is_residual ? ", residual" : "");
        TRY(think_note(thinking, "layer", value, "%.200s; activations %s %s %s", layer->place, layer->activations[0],
                       layer->activations[1] == NULL ? "" : layer->activations[1],
                       layer->activations[2] == NULL ? "" : layer->activations[2]));
    }
    /* What the ends are noted by. */
    thinking->layers[0] = (struct layer){.inputs = layers[0].inputs, .units = layers[count - 1].units};
    return STATUS_OK;
}

static enum status write_steps(struct program *program, const struct onnx_layer *layers, size_t count)
{
    TRY(add_input(program, layers[0].inputs));
    for (size_t i = 0; i < count; i++) {
        TRY(add_layer(program, &layers[i], i));
    }
    return add_output(program, count, layers[count - 1].units);
}

enum status onnx_make_program(struct thinking *thinking, const struct onnx_layer *layers, size_t count)
{
    struct program program = {
        .thinking = thinking, .steps = json_array(), .states = json_array(), .next_states = json_array()};
    enum status status = check_size(thinking, layers, count);
    status = status == STATUS_OK ? write_steps(&program, layers, count) : status;
    json_decref(program.states);
    json_decref(program.next_states);
    if (status == STATUS_OK) {
        thinking->result->program = program.has_failed ? NULL : json_pack("{s:O}", "program", program.steps);
        status = thinking->result->program == NULL ? foreign_no_memory(thinking->model, thinking->error) : STATUS_OK;
    }
    json_decref(program.steps);
    return status == STATUS_OK ? think_note(thinking, "program", "a graph of its own",
                                            "no language model has such cells; it is written out step by step")
                               : status;
}

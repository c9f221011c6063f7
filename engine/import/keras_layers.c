/* Keras layers as steps of a build program, one function each; recurrent ones are keras_cells.c's. Thread: the one that
 * imports. */
#include "engine/import/keras_private.h"

/* A step on two results, or a result and a number. */
static void write_binary(struct keras_program *program, const char *op, const char *left, json_t *right, const char *as)
{
    keras_add_step(program, program->calls, json_pack("{s:s, s:[s, o], s:s}", "op", op, "args", left, right, "as", as));
}

static enum status write_embedding(struct keras_program *program, const struct keras_part *part)
{
    struct thinking *thinking = program->thinking;
    const struct keras_flow *input = keras_input_of(program, part, 0);
    struct keras_tensors tensors;
    char scope[KERAS_SCOPE_BYTES_MAX];
    keras_find_tensors(thinking, part, NULL, &tensors);
    const struct foreign_tensor *tensor = tensors.of[KERAS_ROLE_KERNEL];
    struct shape shape = shape_matrix((int64_t)think_dimension(tensor, 0), (int64_t)think_dimension(tensor, 1));
    if (strcmp(input->name, "inputs") != 0 || thinking->embedding != NULL) {
        return error_set(thinking->error, STATUS_UNSUPPORTED, "layer %.100s looks up something else than the input",
                         part->name);
    }
    keras_choose_scope(program, part, "", scope);
    TRY(keras_add_plain(thinking, part, tensor, scope, "embeddings", &shape));
    struct keras_flow *result = keras_begin_result(program, part);
    char layer[40];
    snprintf(layer, sizeof layer, "layer_%s", result->name);
    result->is_sequence = true;
    result->width = (size_t)shape.dimensions[1];
    thinking->embedding = tensor;
    if (part->masks_zero) {
        TRY(think_note(thinking, "mask", "symbol 0", "layer %.100s has mask_zero: recurrent layers pass over it",
                       part->name));
        snprintf(result->mask, sizeof result->mask, "mask_%s", result->name);
        write_binary(program, "not_equal", input->name, json_integer(0), result->mask);
    }
    keras_add_step(program, program->layers,
                   json_pack("{s:s, s:s, s:I, s:I, s:s}", "op", "embedding", "name", scope, "input_dim",
                             (json_int_t)shape.dimensions[0], "output_dim", (json_int_t)shape.dimensions[1], "as",
                             layer));
    keras_build_layer(program, layer, scope, input);
    keras_call_layer(program, layer, input, result->name);
    return STATUS_OK;
}

static enum status write_dense(struct keras_program *program, const struct keras_part *part)
{
    struct thinking *thinking = program->thinking;
    const struct keras_flow *input = keras_input_of(program, part, 0);
    struct keras_tensors tensors;
    const char *activation = NULL;
    char scope[KERAS_SCOPE_BYTES_MAX];
    char layer[40];
    keras_find_tensors(thinking, part, NULL, &tensors);
    const struct foreign_tensor *bias = tensors.of[KERAS_ROLE_BIAS];
    int64_t units = (int64_t)think_dimension(tensors.of[KERAS_ROLE_KERNEL], 1);
    struct shape shape = shape_matrix((int64_t)input->width, units);
    keras_choose_scope(program, part, "", scope);
    TRY(keras_find_activation(program, part, part->activation, &activation));
    TRY(keras_add_plain(thinking, part, tensors.of[KERAS_ROLE_KERNEL], scope, "kernel", &shape));
    if (bias != NULL) {
        shape = shape_vector(units);
        TRY(keras_add_plain(thinking, part, bias, scope, "bias", &shape));
    }
    struct keras_flow *result = keras_begin_result(program, part);
    snprintf(layer, sizeof layer, "layer_%s", result->name);
    result->is_sequence = input->is_sequence;
    result->width = (size_t)units;
    thinking->output = tensors.of[KERAS_ROLE_KERNEL];
    thinking->output_bias = bias;
    bool is_softmax = strcmp(activation, "softmax") == 0 && part == program->scores;
    keras_add_step(program, program->layers,
                   json_pack("{s:s, s:s, s:I, s:s, s:b, s:s}", "op", "dense", "name", scope, "units", (json_int_t)units,
                             "activation", is_softmax ? "linear" : activation, "use_bias", bias != NULL, "as", layer));
    keras_build_layer(program, layer, scope, input);
    keras_call_layer(program, layer, input, result->name);
    return STATUS_OK;
}

/* Activations other than the one that makes probabilities. */
static enum status write_activation(struct keras_program *program, const struct keras_part *part)
{
    const struct keras_flow *input = keras_input_of(program, part, 0);
    const char *activation = NULL;
    TRY(keras_find_activation(program, part, part->activation, &activation));
    struct keras_flow *result = keras_begin_result(program, part);
    char layer[40];
    snprintf(layer, sizeof layer, "layer_%s", result->name);
    result->is_sequence = input->is_sequence;
    result->width = input->width;
    if (part == program->scores && strcmp(activation, "softmax") == 0) {
        snprintf(result->name, sizeof result->name, "%s", input->name);
        return STATUS_OK;
    }
    keras_add_step(
        program, program->layers,
        json_pack("{s:s, s:s, s:s, s:s}", "op", "layer", "type", "activation", "activation", activation, "as", layer));
    keras_call_layer(program, layer, input, result->name);
    return STATUS_OK;
}

/* A variable that no layer of the program has; `handle` is what the program calls it. */
static enum status write_variable(struct keras_program *program, const struct keras_part *part,
                                  const struct foreign_tensor *tensor, const char *scope, const char *name,
                                  const struct shape *shape, char handle[64])
{
    char path[160];
    json_t *sizes = json_array();
    for (int d = 0; d < shape->rank; d++) {
        program->has_failed =
            json_array_append_new(sizes, json_integer(shape->dimensions[d])) != 0 || program->has_failed;
    }
    snprintf(path, sizeof path, "%s/%s", scope, name);
    snprintf(handle, 64, "variable_%zu_%.32s", (size_t)(part - program->design->parts), name);
    keras_add_step(program, program->layers,
                   json_pack("{s:s, s:s, s:o, s:s}", "op", "get_variable", "name", path, "shape", sizes, "as", handle));
    return keras_add_plain(program->thinking, part, tensor, scope, name, shape);
}

/* Along the steps (1), or within them (2). */
static void write_reduction(struct keras_program *program, const char *op, const char *input, int axis, bool keeps,
                            const char *as)
{
    keras_add_step(
        program, program->calls,
        json_pack("{s:s, s:[s], s:i, s:b, s:s}", "op", op, "args", input, "axis", axis, "keepdims", keeps, "as", as));
}

/* γ (x − mean) / √(variance + ε) + β */
static enum status write_normalization(struct keras_program *program, const struct keras_part *part)
{
    static const struct {
        enum keras_role role;
        const char *name;
    } rows[] = {{KERAS_ROLE_MEAN, "moving_mean"},
                {KERAS_ROLE_VARIANCE, "moving_variance"},
                {KERAS_ROLE_GAMMA, "gamma"},
                {KERAS_ROLE_BETA, "beta"}};
    const struct keras_flow *input = keras_input_of(program, part, 0);
    struct keras_tensors tensors;
    struct shape shape = shape_vector((int64_t)input->width);
    char scope[KERAS_SCOPE_BYTES_MAX];
    char names[4][64];
    keras_find_tensors(program->thinking, part, NULL, &tensors);
    keras_choose_scope(program, part, "", scope);
    for (size_t i = 0; i < 4; i++) {
        bool is_optional = rows[i].role == KERAS_ROLE_GAMMA || rows[i].role == KERAS_ROLE_BETA;
        names[i][0] = '\0';
        if (tensors.of[rows[i].role] != NULL || !is_optional) {
            TRY(write_variable(program, part, tensors.of[rows[i].role], scope, rows[i].name, &shape, names[i]));
        }
    }
    struct keras_flow *result = keras_begin_result(program, part);
    result->is_sequence = input->is_sequence;
    result->width = input->width;
    write_binary(program, "subtract", input->name, json_string(names[0]), result->name);
    write_binary(program, "add", names[1], json_real(part->epsilon), "spread");
    keras_add_step(program, program->calls,
                   json_pack("{s:s, s:[s], s:s}", "op", "rsqrt", "args", "spread", "as", "spread"));
    write_binary(program, "multiply", result->name, json_string("spread"), result->name);
    if (names[2][0] != '\0') {
        write_binary(program, "multiply", result->name, json_string(names[2]), result->name);
    }
    if (names[3][0] != '\0') {
        write_binary(program, "add", result->name, json_string(names[3]), result->name);
    }
    return STATUS_OK;
}

static enum status write_joining(struct keras_program *program, const struct keras_part *part)
{
    bool is_sum = part->kind == KERAS_PART_ADD;
    const struct keras_flow *first = keras_input_of(program, part, 0);
    struct keras_flow *result = keras_begin_result(program, part);
    json_t *values = json_array();
    result->is_sequence = first->is_sequence;
    for (size_t i = 0; i < part->input_count; i++) {
        const struct keras_flow *input = keras_input_of(program, part, i);
        if (input->is_sequence != first->is_sequence || (is_sum && input->width != first->width)) {
            json_decref(values);
            return error_set(program->thinking->error, STATUS_CORRUPT, "layer %.100s joins what does not fit",
                             part->name);
        }
        result->width = is_sum ? input->width : result->width + input->width;
        program->has_failed = json_array_append_new(values, json_string(input->name)) != 0 || program->has_failed;
    }
    json_t *step =
        is_sum ? json_pack("{s:s, s:[o], s:s}", "op", "add_n", "args", values, "as", result->name)
               : json_pack("{s:s, s:o, s:i, s:s}", "op", "concat", "values", values, "axis", -1, "as", result->name);
    keras_add_step(program, program->calls, step);
    return STATUS_OK;
}

static enum status write_flatten(struct keras_program *program, const struct keras_part *part)
{
    const struct keras_flow *input = keras_input_of(program, part, 0);
    struct keras_flow *result = keras_begin_result(program, part);
    result->width = input->is_sequence ? input->width * program->design->window : input->width;
    keras_add_step(program, program->calls,
                   json_pack("{s:s, s:[s, [i, I]], s:s}", "op", "reshape", "args", input->name, -1,
                             (json_int_t)result->width, "as", result->name));
    return STATUS_OK;
}

/* Σ a_t x_t, a = softmax(x W) over the steps; the sum that it is divided by is 1e-7 more. */
static enum status write_attention(struct keras_program *program, const struct keras_part *part)
{
    const struct keras_flow *input = keras_input_of(program, part, 0);
    struct keras_tensors tensors;
    struct shape shape = shape_matrix((int64_t)input->width, 1);
    char scope[KERAS_SCOPE_BYTES_MAX];
    char name[64];
    keras_find_tensors(program->thinking, part, NULL, &tensors);
    keras_choose_scope(program, part, "", scope);
    TRY(write_variable(program, part, tensors.of[KERAS_ROLE_KERNEL], scope, "attention_W", &shape, name));
    struct keras_flow *result = keras_begin_result(program, part);
    result->width = input->width;
    json_t *list = program->calls;
    keras_add_step(program, list,
                   json_pack("{s:s, s:[s, [i, I]], s:s}", "op", "reshape", "args", input->name, -1,
                             (json_int_t)input->width, "as", "rows"));
    write_binary(program, "matmul", "rows", json_string(name), "rows");
    keras_add_step(program, list,
                   json_pack("{s:s, s:[s, [i, I]], s:s}", "op", "reshape", "args", "rows", -1,
                             (json_int_t)program->design->window, "as", "scores"));
    write_reduction(program, "reduce_max", "scores", 1, true, "most");
    write_binary(program, "subtract", "scores", json_string("most"), "scores");
    keras_add_step(program, list, json_pack("{s:s, s:[s], s:s}", "op", "exp", "args", "scores", "as", "scores"));
    write_reduction(program, "reduce_sum", "scores", 1, true, "total");
    write_binary(program, "add", "total", json_real(1e-7), "total");
    write_binary(program, "divide", "scores", json_string("total"), "scores");
    write_binary(program, "expand_dims", "scores", json_integer(2), "scores");
    write_binary(program, "multiply", input->name, json_string("scores"), "weighted");
    write_reduction(program, "reduce_sum", "weighted", 1, false, result->name);
    return STATUS_OK;
}

/* ---- masks ---- */

/* Vectors that hold nothing but one number are masked, and become zeros. Source: Keras, layers/core.py, Masking. */
static enum status write_masking(struct keras_program *program, const struct keras_part *part)
{
    const struct keras_flow *input = keras_input_of(program, part, 0);
    if (!input->is_sequence || input->width == 0) {
        return error_set(program->thinking->error, STATUS_UNSUPPORTED, "layer %.100s masks what are no vectors",
                         part->name);
    }
    char text[48];
    snprintf(text, sizeof text, "vectors of %g", part->mask_value);
    TRY(think_note(program->thinking, "mask", text, "layer %.100s is a Masking: recurrent layers pass over them",
                   part->name));
    struct keras_flow *result = keras_begin_result(program, part);
    result->is_sequence = true;
    result->width = input->width;
    snprintf(result->mask, sizeof result->mask, "mask_%s", result->name);
    write_binary(program, "not_equal", input->name, json_real(part->mask_value), "unequal");
    write_reduction(program, "reduce_any", "unequal", 2, false, result->mask);
    write_reduction(program, "reduce_any", "unequal", 2, true, "unmasked");
    keras_add_step(
        program, program->calls,
        json_pack("{s:s, s:[s], s:s, s:s}", "op", "cast", "args", "unmasked", "dtype", "float32", "as", "unmasked"));
    write_binary(program, "multiply", input->name, json_string("unmasked"), result->name);
    return STATUS_OK;
}

static bool makes_mask(const struct keras_part *part)
{
    return part->kind == KERAS_PART_MASKING || part->masks_zero;
}

/* Masks are for windows, and for layers that pass them on or over what they mask. */
static enum status check_mask(const struct keras_program *program, const struct keras_part *part)
{
    bool is_masked = false;
    for (size_t i = 0; i < part->input_count; i++) {
        is_masked = is_masked || keras_input_of(program, part, i)->mask[0] != '\0';
    }
    if (makes_mask(part) && !program->is_windowed) {
        return error_set(program->thinking->error, STATUS_UNSUPPORTED,
                         "layer %.100s (%.60s) masks symbols, which is built for models that read a window only: say "
                         "--set window=N",
                         part->name, part->class);
    }
    bool is_mixing = part->kind == KERAS_PART_CONCATENATE || part->kind == KERAS_PART_ADD ||
                     part->kind == KERAS_PART_FLATTEN || part->kind == KERAS_PART_ATTENTION;
    return is_masked && (is_mixing || strncmp(part->class, "CuDNN", 5) == 0)
               ? error_set(program->thinking->error, STATUS_UNSUPPORTED,
                           "layer %.100s (%.60s) is fed symbols that are masked, which is not built here", part->name,
                           part->class)
               : STATUS_OK;
}

/* ---- all of them ---- */

static enum status write_layer(struct keras_program *program, const struct keras_part *part)
{
    switch (part->kind) {
    case KERAS_PART_EMBEDDING: return write_embedding(program, part);
    case KERAS_PART_LSTM:
    case KERAS_PART_GRU:
    case KERAS_PART_RNN: return keras_write_recurrent(program, part);
    case KERAS_PART_DENSE: return write_dense(program, part);
    case KERAS_PART_ACTIVATION: return write_activation(program, part);
    case KERAS_PART_NORMALIZATION: return write_normalization(program, part);
    case KERAS_PART_CONCATENATE:
    case KERAS_PART_ADD: return write_joining(program, part);
    case KERAS_PART_FLATTEN: return write_flatten(program, part);
    case KERAS_PART_ATTENTION: return write_attention(program, part);
    case KERAS_PART_MASKING: return write_masking(program, part);
    case KERAS_PART_INPUT:
    case KERAS_PART_SAME:
    default: program->results[part - program->design->parts] = *keras_input_of(program, part, 0); return STATUS_OK;
    }
}

enum status keras_write_layer(struct keras_program *program, const struct keras_part *part)
{
    struct keras_flow *result = &program->results[part - program->design->parts];
    TRY(check_mask(program, part));
    TRY(write_layer(program, part));
    if (!makes_mask(part) && result->is_sequence) {
        memcpy(result->mask, keras_input_of(program, part, 0)->mask, sizeof result->mask);
    }
    return STATUS_OK;
}

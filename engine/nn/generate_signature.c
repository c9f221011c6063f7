/* Reading the signature "generate" off a graph. Thread: any. Owns nothing. */
#include "engine/nn/generate_signature.h"

#include <stdarg.h>

#include "engine/graph/handles.h"

enum { ITEM_INPUTS = 1, ITEM_OUTPUTS = 2, REASON_BYTES_MAX = 512 };

static enum status refuse(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);

static enum status refuse(struct error *error, const char *format, ...)
{
    char reason[REASON_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    error_set(error, STATUS_UNPROCESSABLE, "the signature " GENERATE_SIGNATURE_NAME ": %s", reason);
    error_code(error, "cannot_generate");
    return STATUS_UNPROCESSABLE;
}

/* The last signature of that name, a list of its name, inputs and outputs; NULL: none. */
static const struct handle *find(const struct graph *graph)
{
    for (size_t i = graph_collection_count(graph, COLLECTION_SIGNATURES); i-- > 0;) {
        const struct handle *signature = graph_collection_at(graph, COLLECTION_SIGNATURES, i);
        if (strcmp(signature->items[0].text, GENERATE_SIGNATURE_NAME) == 0) {
            return signature;
        }
    }
    return NULL;
}

bool generate_signature_exists(const struct graph *graph)
{
    return find(graph) != NULL;
}

/* ---- its ends ---- */

/* `known`: the names there may be, a NULL behind the last. */
static enum status check_names(const struct handle *ends, const char *side, const char *const *known,
                               struct error *error)
{
    for (size_t i = 0; i < ends->count; i++) {
        size_t at = 0;
        while (known[at] != NULL && strcmp(known[at], ends->names[i]) != 0) {
            at++;
        }
        if (known[at] == NULL) {
            return refuse(error, "%s has no '%.60s'", side, ends->names[i]);
        }
    }
    return STATUS_OK;
}

static const struct handle *find_end(const struct handle *ends, const char *name)
{
    for (size_t i = 0; i < ends->count; i++) {
        if (strcmp(ends->names[i], name) == 0) {
            return &ends->items[i];
        }
    }
    return NULL;
}

/* A tensor, or a list of tensors; none where the end is missing. */
static enum status read_tensors(const struct handle *ends, const char *side, const char *name, size_t room,
                                struct output *ret_outputs, size_t *ret_count, struct error *error)
{
    const struct handle *end = find_end(ends, name);
    const struct handle *items = end != NULL && end->kind == HANDLE_LIST ? end->items : end;
    size_t count = end == NULL ? 0 : end->kind == HANDLE_LIST ? end->count : 1;
    if (count > room) {
        return refuse(error, "%s.%s has %zu tensors, at most %zu", side, name, count, room);
    }
    for (size_t i = 0; i < count; i++) {
        ret_outputs[i] = items[i].output;
    }
    *ret_count = count;
    return STATUS_OK;
}

/* ---- what they must be ---- */

/* The shape in a step of one row and one symbol. */
static struct shape step_shape(struct shape shape)
{
    for (int d = 0; d < shape.rank; d++) {
        shape.dimensions[d] = shape.dimensions[d] == DIMENSION_UNKNOWN ? 1 : shape.dimensions[d];
    }
    return shape;
}

/* Whether the first `count` dimensions are 1. */
static bool has_ones(const struct shape *shape, int count)
{
    for (int d = 0; d < count; d++) {
        if (shape->dimensions[d] != 1) {
            return false;
        }
    }
    return true;
}

static enum status check_symbol(struct generate_signature *signature, struct error *error)
{
    const struct output_type *type = output_type(signature->symbol);
    char name[OUTPUT_NAME_BYTES_MAX];
    char text[SHAPE_TEXT_BYTES_MAX];
    signature->is_one_hot = type->dtype == DTYPE_FLOAT32;
    if (!signature->is_one_hot && type->dtype != DTYPE_INT32 && type->dtype != DTYPE_INT64) {
        return refuse(error, "inputs.symbol '%s' is %s, not int32, int64 or (one-hot) float32",
                      output_name(signature->symbol, name), dtype_name(type->dtype));
    }
    struct shape shape = type->shape.rank == SHAPE_RANK_UNKNOWN ? shape_matrix(1, 1) : step_shape(type->shape);
    bool is_wide = signature->is_one_hot && shape.rank > 0;
    if (!has_ones(&shape, is_wide ? shape.rank - 1 : shape.rank) || signature->is_one_hot != is_wide) {
        return refuse(error, "inputs.symbol '%s' has shape %s, which has no room for one symbol alone",
                      output_name(signature->symbol, name), shape_text(&type->shape, text));
    }
    signature->symbol_shape = shape;
    return STATUS_OK;
}

static enum status check_scores(struct generate_signature *signature, struct error *error)
{
    const struct output_type *type = output_type(signature->scores);
    const char *called = signature->is_probabilities ? "probabilities" : "logits";
    char name[OUTPUT_NAME_BYTES_MAX];
    char text[SHAPE_TEXT_BYTES_MAX];
    if (type->dtype != DTYPE_FLOAT32) {
        return refuse(error, "outputs.%s '%s' is %s, not float32", called, output_name(signature->scores, name),
                      dtype_name(type->dtype));
    }
    struct shape shape = step_shape(type->shape);
    if (shape.rank == 0 || (shape.rank > 0 && !has_ones(&shape, shape.rank - 1))) {
        return refuse(error, "outputs.%s '%s' has shape %s, which is not one score for each symbol", called,
                      output_name(signature->scores, name), shape_text(&type->shape, text));
    }
    bool is_known = shape.rank > 0 && type->shape.dimensions[shape.rank - 1] != DIMENSION_UNKNOWN;
    signature->symbol_count = is_known ? (size_t)shape.dimensions[shape.rank - 1] : 0;
    size_t fed = signature->is_one_hot ? (size_t)signature->symbol_shape.dimensions[signature->symbol_shape.rank - 1]
                                       : signature->symbol_count;
    if (signature->is_one_hot && is_known && fed != signature->symbol_count) {
        return refuse(error, "inputs.symbol '%s' has %zu columns, but there are %zu scores",
                      output_name(signature->symbol, name), fed, signature->symbol_count);
    }
    return STATUS_OK;
}

static enum status check_state(struct generate_signature *signature, size_t index, struct error *error)
{
    struct output state = signature->states[index];
    const struct output_type *type = output_type(state);
    const struct output_type *next = output_type(signature->next_states[index]);
    char name[OUTPUT_NAME_BYTES_MAX];
    char next_name[OUTPUT_NAME_BYTES_MAX];
    char text[SHAPE_TEXT_BYTES_MAX];
    output_name(state, name);
    output_name(signature->next_states[index], next_name);
    if (type->shape.rank == SHAPE_RANK_UNKNOWN) {
        return refuse(error, "the shape of inputs.state '%s' is not known", name);
    }
    if (type->dtype != next->dtype) {
        return refuse(error, "inputs.state '%s' is %s, but the next one, '%s', is %s", name, dtype_name(type->dtype),
                      next_name, dtype_name(next->dtype));
    }
    struct shape shape = step_shape(type->shape);
    if (!shape_is_compatible(&shape, &next->shape)) {
        return refuse(error, "the next state '%s' does not fit '%s', in one row %s", next_name, name,
                      shape_text(&shape, text));
    }
    for (size_t i = 0; i < index; i++) {
        if (output_equal(signature->states[i], state)) {
            return refuse(error, "inputs.state names '%s' twice", name);
        }
    }
    if (output_equal(signature->symbol, state)) {
        return refuse(error, "'%s' cannot be both the symbol and a state", name);
    }
    signature->state_shapes[index] = shape;
    return STATUS_OK;
}

/* ---- reading ---- */

static enum status read_ends(const struct handle *found, struct generate_signature *signature, struct error *error)
{
    static const char *const known_inputs[] = {"symbol", "state", NULL};
    static const char *const known_outputs[] = {"logits", "probabilities", "state", NULL};
    const struct handle *inputs = &found->items[ITEM_INPUTS];
    const struct handle *outputs = &found->items[ITEM_OUTPUTS];
    size_t symbols = 0;
    size_t scores = 0;
    size_t next_count = 0;
    TRY(check_names(inputs, "inputs", known_inputs, error));
    TRY(check_names(outputs, "outputs", known_outputs, error));
    TRY(read_tensors(inputs, "inputs", "symbol", 1, &signature->symbol, &symbols, error));
    TRY(read_tensors(inputs, "inputs", "state", GENERATE_STATES_MAX, signature->states, &signature->state_count,
                     error));
    TRY(read_tensors(outputs, "outputs", "state", GENERATE_STATES_MAX, signature->next_states, &next_count, error));
    TRY(read_tensors(outputs, "outputs", "logits", 1, &signature->scores, &scores, error));
    signature->is_probabilities = scores == 0;
    if (signature->is_probabilities) {
        TRY(read_tensors(outputs, "outputs", "probabilities", 1, &signature->scores, &scores, error));
    }
    if (symbols == 0 || scores == 0) {
        return refuse(error, "it needs %s", symbols == 0 ? "inputs.symbol" : "outputs.logits or outputs.probabilities");
    }
    if (next_count != signature->state_count) {
        return refuse(error, "inputs.state has %zu tensors, outputs.state %zu", signature->state_count, next_count);
    }
    return STATUS_OK;
}

enum status generate_signature_read(const struct graph *graph, struct generate_signature *ret_signature,
                                    struct error *error)
{
    struct generate_signature signature = {.state_count = 0};
    const struct handle *found = find(graph);
    if (found == NULL) {
        return refuse(error, "the graph has none");
    }
    TRY(read_ends(found, &signature, error));
    TRY(check_symbol(&signature, error));
    TRY(check_scores(&signature, error));
    for (size_t i = 0; i < signature.state_count; i++) {
        TRY(check_state(&signature, i, error));
    }
    *ret_signature = signature;
    return STATUS_OK;
}

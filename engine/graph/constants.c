/* Values known before a run. Thread: any; what it makes is in the caller's arena. */
#include "engine/graph/constants.h"

#include "engine/base/mem.h"

const struct tensor *graph_constant_value(const struct graph *graph, struct output output)
{
    (void)graph;
    return output.node->constants == NULL ? NULL : output.node->constants[output.index];
}

/* ---- computing ahead ---- */

/* Whether an op gives the same each time it is run on the same inputs. */
static bool is_pure(const struct op *op)
{
    const unsigned never = OP_RANDOM | OP_WRITES | OP_VARIABLE | OP_FEED_ONLY;
    bool does_something = op->compute != NULL || (op->flags & OP_ALIAS) != 0;
    return does_something && (op->flags & never) == 0 && op->prepare == NULL && op != &op_placeholder_with_default;
}

/* Whether all that a kernel reads is there: values, or shapes alone. */
static bool are_inputs_known(const struct inference *inference)
{
    const struct op *op = inference->node->op;
    for (size_t i = 0; i < inference->input_count; i++) {
        const struct shape *shape = &inference->inputs[i].shape;
        bool is_known = (op->flags & OP_OF_SHAPE) == 0     ? inference->constants[i] != NULL
                        : node_is(inference->node, "Rank") ? shape->rank != SHAPE_RANK_UNKNOWN
                                                           : shape_is_fully_known(shape);
        if (!is_known) {
            return false;
        }
    }
    return true;
}

static bool are_outputs_small(const struct inference *inference)
{
    for (size_t i = 0; i < inference->output_count; i++) {
        size_t count;
        const struct shape *shape = &inference->outputs[i].shape;
        if (!shape_is_fully_known(shape) || !shape_element_count(shape, &count) || count > CONSTANTS_ELEMENTS_MAX) {
            return false;
        }
    }
    return inference->output_count > 0;
}

static enum status no_memory(const struct node *node, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the value of %s", node->name);
}

static enum status allocate_outputs(const struct inference *inference, const struct tensor *inputs, struct arena *arena,
                                    struct tensor *ret_outputs, struct error *error)
{
    bool is_alias = (inference->node->op->flags & OP_ALIAS) != 0;
    for (size_t i = 0; i < inference->output_count; i++) {
        struct tensor *output = &ret_outputs[i];
        *output = (struct tensor){.dtype = inference->outputs[i].dtype, .shape = inference->outputs[i].shape};
        output->data = is_alias && i == 0 ? inputs[0].data : arena_allocate(arena, 1, tensor_bytes(output) + 1);
        if (output->data == NULL) {
            return no_memory(inference->node, error);
        }
    }
    return STATUS_OK;
}

static enum status run_kernel(const struct inference *inference, const struct tensor *inputs, struct arena *arena,
                              struct tensor *ret_outputs, struct error *error)
{
    const struct op *op = inference->node->op;
    size_t scratch_bytes = op->scratch_bytes == NULL ? 0 : op->scratch_bytes(inference);
    void *scratch = mem_allocate_aligned_raw(scratch_bytes + 1, 1);
    struct op_run run = {.node = inference->node,
                         .inputs = inputs,
                         .input_count = inference->input_count,
                         .outputs = ret_outputs,
                         .scratch = scratch};
    enum status status = scratch == NULL ? no_memory(inference->node, error) : STATUS_OK;
    if (status == STATUS_OK) {
        status = allocate_outputs(inference, inputs, arena, ret_outputs, error);
    }
    if (status == STATUS_OK && op->compute != NULL) {
        status = op->compute(&run, error);
    }
    mem_free(scratch);
    return status;
}

enum status constants_compute(const struct inference *inference, struct arena *arena, struct tensor *ret_outputs,
                              bool *ret_is_known, struct error *error)
{
    *ret_is_known = false;
    if (!is_pure(inference->node->op) || !are_inputs_known(inference) || !are_outputs_small(inference)) {
        return STATUS_OK;
    }
    struct tensor *inputs = mem_allocate(inference->input_count + 1, sizeof *inputs);
    if (inputs == NULL) {
        return no_memory(inference->node, error);
    }
    for (size_t i = 0; i < inference->input_count; i++) {
        inputs[i] = inference->constants[i] != NULL
                        ? *inference->constants[i]
                        : (struct tensor){.dtype = inference->inputs[i].dtype, .shape = inference->inputs[i].shape};
    }
    enum status status = run_kernel(inference, inputs, arena, ret_outputs, error);
    *ret_is_known = status == STATUS_OK;
    if (status != STATUS_OK) {
        memset(ret_outputs, 0, inference->output_count * sizeof *ret_outputs);
    }
    mem_free(inputs);
    return status == STATUS_NO_MEMORY ? status : STATUS_OK; /* what a kernel refuses, the run refuses again and says */
}

/* ---- shapes known in part ---- */

static struct shape shape_from_value(const struct tensor *value)
{
    size_t count = value->shape.rank > 1 ? SHAPE_RANK_MAX + 1 : tensor_element_count(value);
    if (count > SHAPE_RANK_MAX || (value->dtype != DTYPE_INT32 && value->dtype != DTYPE_INT64)) {
        return shape_unknown();
    }
    struct shape shape = {.rank = (int)count};
    for (size_t i = 0; i < count; i++) {
        int64_t dimension = tensor_integer(value, i);
        shape.dimensions[i] = dimension < 0 ? DIMENSION_UNKNOWN : dimension;
    }
    return shape;
}

/* As many unknown dimensions as the type has elements. */
static struct shape shape_of_length(const struct output_type *type)
{
    struct shape shape = shape_unknown();
    bool is_vector =
        type->shape.rank == 1 && type->shape.dimensions[0] >= 0 && type->shape.dimensions[0] <= SHAPE_RANK_MAX;
    if (type->shape.rank == 0 || is_vector) {
        shape.rank = type->shape.rank == 0 ? 1 : (int)type->shape.dimensions[0];
        for (int i = 0; i < shape.rank; i++) {
            shape.dimensions[i] = DIMENSION_UNKNOWN;
        }
    }
    return shape;
}

static struct shape shape_behind(struct output output, int *visits_left);

/* The inputs of Pack (scalars) or ConcatV2 (vectors), one behind the other. */
static struct shape shape_behind_parts(const struct node *node, size_t part_count, int *visits_left)
{
    struct shape all = shape_scalar();
    for (size_t i = 0; i < part_count; i++) {
        struct shape part = shape_behind(node->inputs[i], visits_left);
        if (part.rank == SHAPE_RANK_UNKNOWN || all.rank + part.rank > SHAPE_RANK_MAX) {
            return shape_unknown();
        }
        for (int d = 0; d < part.rank; d++) {
            all.dimensions[all.rank++] = part.dimensions[d];
        }
    }
    return all;
}

/* Whether an op only picks elements of its first input, as its other inputs say. */
static bool picks_elements(const struct node *node)
{
    return node_is(node, "StridedSlice") || node_is(node, "Slice") || node_is(node, "GatherV2");
}

enum { PICK_INPUTS_MAX = 4 };

/* Elements of a shape that is known in part: the op's own kernel, run on the dimensions, below 0 where unknown. */
static struct shape shape_behind_pick(const struct node *node, int *visits_left)
{
    const struct output_type *from = output_type(node->inputs[0]);
    struct shape source = shape_behind(node->inputs[0], visits_left);
    struct shape unknown = shape_of_length(&node->outputs[0]);
    struct shape picked = unknown;
    struct tensor inputs[PICK_INPUTS_MAX];
    if (source.rank == SHAPE_RANK_UNKNOWN || unknown.rank == SHAPE_RANK_UNKNOWN || from->shape.rank != 1 ||
        !shape_is_fully_known(&from->shape) || node->input_count > PICK_INPUTS_MAX) {
        return unknown;
    }
    for (size_t i = 1; i < node->input_count; i++) {
        const struct tensor *value = graph_constant_value(NULL, node->inputs[i]);
        if (value == NULL) {
            return unknown;
        }
        inputs[i] = *value;
    }
    inputs[0] = (struct tensor){DTYPE_INT64, from->shape, source.dimensions};
    struct tensor result = {DTYPE_INT64, node->outputs[0].shape, picked.dimensions};
    struct op_run run = {.node = node, .inputs = inputs, .input_count = node->input_count, .outputs = &result};
    struct error ignored;
    return node->op->compute(&run, &ignored) == STATUS_OK ? picked : unknown;
}

static bool is_whole_number(enum dtype dtype)
{
    return dtype == DTYPE_INT32 || dtype == DTYPE_INT64;
}

/* What is known of a tensor of whole numbers that has at most SHAPE_RANK_MAX. */
static struct shape shape_behind(struct output output, int *visits_left)
{
    const struct node *node = output.node;
    const struct output_type *type = output_type(output);
    const struct tensor *value = graph_constant_value(NULL, output);
    if (value != NULL) {
        return shape_from_value(value);
    }
    struct shape unknown = shape_of_length(type);
    if ((*visits_left)-- <= 0 || !is_whole_number(type->dtype)) {
        return unknown;
    }
    if (node_is(node, "Shape")) {
        return output_type(node->inputs[0])->shape;
    }
    bool is_same = node_is(node, "Identity") || node_is(node, "Cast");
    if (is_same && is_whole_number(output_type(node->inputs[0])->dtype)) {
        return shape_behind(node->inputs[0], visits_left);
    }
    if (node_is(node, "Pack") && type->shape.rank == 1) {
        return shape_behind_parts(node, node->input_count, visits_left);
    }
    if (node_is(node, "ConcatV2") && type->shape.rank == 1) {
        return shape_behind_parts(node, node->input_count - 1, visits_left);
    }
    return picks_elements(node) ? shape_behind_pick(node, visits_left) : unknown;
}

struct shape constants_as_shape(const struct inference *inference, size_t input)
{
    if (inference->constants[input] != NULL) {
        return shape_from_value(inference->constants[input]);
    }
    if (inference->is_planning) { /* what lies behind may be fed */
        return shape_of_length(&inference->inputs[input]);
    }
    int visits_left = CONSTANTS_VISITS_MAX;
    return shape_behind(inference->node->inputs[input], &visits_left);
}

/* ---- what a node keeps ---- */

/* Dimensions as a tensor of `type`; data NULL when one is unknown. */
static enum status tensor_from_dimensions(const struct output_type *type, const int64_t *dimensions,
                                          struct arena *arena, struct tensor *ret_tensor)
{
    struct tensor tensor = {.dtype = type->dtype, .shape = type->shape};
    size_t count = tensor_element_count(&tensor);
    for (size_t i = 0; i < count; i++) {
        if (dimensions[i] < 0 || (type->dtype == DTYPE_INT32 && dimensions[i] > INT32_MAX)) {
            return STATUS_OK;
        }
    }
    tensor.data = arena_allocate(arena, count + 1, sizeof(int64_t));
    if (tensor.data == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        tensor_set_integer(&tensor, i, dimensions[i]);
    }
    *ret_tensor = tensor;
    return STATUS_OK;
}

/* Outputs that pick known elements of a shape known in part; data NULL for those that do not. */
static enum status compute_in_part(const struct inference *inference, struct arena *arena, struct tensor *ret_outputs,
                                   struct error *error)
{
    const struct node *node = inference->node;
    int visits_left = CONSTANTS_VISITS_MAX;
    bool is_unpack = node_is(node, "Unpack");
    if (node->input_count == 0 || !is_whole_number(inference->inputs[0].dtype) ||
        inference->inputs[0].shape.rank != 1 || !(is_unpack || picks_elements(node))) {
        return STATUS_OK;
    }
    struct shape shape =
        is_unpack ? shape_behind(node->inputs[0], &visits_left) : shape_behind_pick(node, &visits_left);
    for (size_t i = 0; i < inference->output_count && shape.rank != SHAPE_RANK_UNKNOWN; i++) {
        if (tensor_from_dimensions(&inference->outputs[i], shape.dimensions + i, arena, &ret_outputs[i]) != STATUS_OK) {
            return no_memory(node, error);
        }
    }
    return STATUS_OK;
}

/* Copies of the tensors that have data, and pointers to them; NULL when none has. */
static enum status keep(const struct inference *inference, const struct tensor *computed, struct arena *arena,
                        const struct tensor *const **ret_constants, struct error *error)
{
    const struct tensor **values = NULL;
    for (size_t i = 0; i < inference->output_count; i++) {
        if (computed[i].data == NULL) {
            continue;
        }
        if (values == NULL) {
            values = arena_allocate(arena, inference->output_count, sizeof *values);
        }
        const struct tensor *copy = values == NULL ? NULL : arena_copy(arena, &computed[i], 1, sizeof *computed);
        if (copy == NULL) {
            return no_memory(inference->node, error);
        }
        values[i] = copy;
    }
    *ret_constants = values;
    return STATUS_OK;
}

enum status constants_of_node(const struct inference *inference, struct arena *arena,
                              const struct tensor *const **ret_constants, struct error *error)
{
    const struct node *node = inference->node;
    bool is_known = false;
    if (node->op == &op_const) {
        const struct tensor *value = &node_attribute(node, "value")->tensor;
        *ret_constants = arena_copy(arena, &value, 1, sizeof value);
        return *ret_constants == NULL ? no_memory(node, error) : STATUS_OK;
    }
    struct tensor *computed = mem_allocate(inference->output_count + 1, sizeof *computed);
    if (computed == NULL) {
        return no_memory(node, error);
    }
    enum status status = constants_compute(inference, arena, computed, &is_known, error);
    if (status == STATUS_OK && !is_known) {
        status = compute_in_part(inference, arena, computed, error);
    }
    if (status == STATUS_OK) {
        status = keep(inference, computed, arena, ret_constants, error);
    }
    mem_free(computed);
    return status;
}

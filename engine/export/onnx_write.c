/* Writing ONNX: the graph as protobuf-c's structs in an arena, then packed. Thread: any but the loop. */
#include "engine/export/onnx_write.h"

#include "engine/base/arena.h"
#include "engine/base/mem.h"
#include "engine/import/onnx.pb-c.h"

enum {
    OPSET = 13,
    IR_VERSION = 7,
    FLOAT = 1, /* TensorProto.DataType */
    INT64 = 7,
    ATTRIBUTE_INT = 2, /* AttributeProto.AttributeType */
    ATTRIBUTE_INTS = 7,
    NODES_MAX = 8 + 3 * DECODE_LAYERS_MAX,
    TENSORS_MAX = 8 + 3 * DECODE_LAYERS_MAX,
    VALUES_MAX = 2 + 2 * DECODE_LAYERS_MAX,
    NODE_INPUTS_MAX = 7,
    NODE_OUTPUTS_MAX = 3,
    RANK_MAX = 3,
};

/* Nothing is checked while it is put together: `has_failed` says that memory ran out. */
struct writer {
    const struct decode_weights *weights;
    struct arena arena;
    bool has_failed;
    Onnx__GraphProto graph;
    Onnx__NodeProto *nodes[NODES_MAX];
    Onnx__TensorProto *tensors[TENSORS_MAX];
    Onnx__ValueInfoProto *inputs[VALUES_MAX];
    Onnx__ValueInfoProto *outputs[VALUES_MAX];
};

static void *allocate(struct writer *writer, size_t count, size_t item_bytes)
{
    void *block = arena_allocate(&writer->arena, count, item_bytes);
    writer->has_failed = writer->has_failed || block == NULL;
    return block;
}

static char *copy(struct writer *writer, const char *text)
{
    char *made = arena_copy_string(&writer->arena, text);
    writer->has_failed = writer->has_failed || made == NULL;
    return made;
}

/* "layer_1.W", "h_1_next" */
static const char *name_of(struct writer *writer, const char *prefix, size_t layer, const char *suffix)
{
    char *made = arena_format(&writer->arena, "%s%zu%s", prefix, layer, suffix);
    writer->has_failed = writer->has_failed || made == NULL;
    return made == NULL ? "" : made;
}

/* ---- constants ---- */

/* The data is borrowed. */
static void add_tensor(struct writer *writer, const char *name, int type, size_t rank, const int64_t *dimensions,
                       const void *data)
{
    Onnx__TensorProto *tensor = allocate(writer, 1, sizeof *tensor);
    if (tensor == NULL) {
        return;
    }
    onnx__tensor_proto__init(tensor);
    size_t bytes = type == FLOAT ? sizeof(float) : sizeof(int64_t);
    for (size_t i = 0; i < rank; i++) {
        bytes *= (size_t)dimensions[i];
    }
    tensor->name = copy(writer, name);
    tensor->n_dims = rank;
    tensor->dims = arena_copy(&writer->arena, dimensions, rank, sizeof *dimensions);
    writer->has_failed = writer->has_failed || (tensor->dims == NULL && rank > 0);
    tensor->has_data_type = true;
    tensor->data_type = type;
    tensor->has_raw_data = true;
    tensor->raw_data = (ProtobufCBinaryData){.len = bytes, .data = (uint8_t *)(uintptr_t)data};
    writer->tensors[writer->graph.n_initializer++] = tensor;
}

static void add_matrix(struct writer *writer, const char *name, size_t rows, size_t columns, const float *data)
{
    add_tensor(writer, name, FLOAT, 2, (const int64_t[]){(int64_t)rows, (int64_t)columns}, data);
}

/* ---- nodes ---- */

struct node {
    const char *op;
    const char *name;
    const char *inputs[NODE_INPUTS_MAX]; /* "" for one that is left out */
    const char *outputs[NODE_OUTPUTS_MAX];
};

static char **copy_names(struct writer *writer, const char *const *names, size_t count_max, size_t *ret_count)
{
    char **copies = allocate(writer, count_max, sizeof *copies);
    *ret_count = 0;
    while (copies != NULL && *ret_count < count_max && names[*ret_count] != NULL) {
        copies[*ret_count] = copy(writer, names[*ret_count]);
        *ret_count += 1;
    }
    return copies;
}

static Onnx__NodeProto *add_node(struct writer *writer, const struct node *node)
{
    Onnx__NodeProto *made = allocate(writer, 1, sizeof *made);
    if (made == NULL) {
        return NULL;
    }
    onnx__node_proto__init(made);
    made->op_type = copy(writer, node->op);
    made->name = copy(writer, node->name);
    made->input = copy_names(writer, node->inputs, NODE_INPUTS_MAX, &made->n_input);
    made->output = copy_names(writer, node->outputs, NODE_OUTPUTS_MAX, &made->n_output);
    writer->nodes[writer->graph.n_node++] = made;
    return made;
}

/* A node has one attribute at most: `count` integers, or a single one. */
static void set_attribute(struct writer *writer, Onnx__NodeProto *node, const char *name, size_t count,
                          const int64_t *values)
{
    Onnx__AttributeProto *attribute = allocate(writer, 1, sizeof *attribute);
    Onnx__AttributeProto **list = allocate(writer, 1, sizeof *list);
    if (node == NULL || attribute == NULL || list == NULL) {
        return;
    }
    onnx__attribute_proto__init(attribute);
    attribute->name = copy(writer, name);
    attribute->has_type = true;
    attribute->type = count == 1 ? ATTRIBUTE_INT : ATTRIBUTE_INTS;
    attribute->has_i = count == 1;
    attribute->i = values[0];
    if (count > 1) {
        attribute->n_ints = count;
        attribute->ints = arena_copy(&writer->arena, values, count, sizeof *values);
        writer->has_failed = writer->has_failed || attribute->ints == NULL;
    }
    list[0] = attribute;
    node->n_attribute = 1;
    node->attribute = list;
}

/* ---- inputs and outputs of the graph ---- */

/* A dimension that is not known has a name. */
static Onnx__TensorShapeProto__Dimension *make_dimension(struct writer *writer, size_t size, const char *name)
{
    Onnx__TensorShapeProto__Dimension *dimension = allocate(writer, 1, sizeof *dimension);
    if (dimension != NULL) {
        onnx__tensor_shape_proto__dimension__init(dimension);
        dimension->has_dim_value = name == NULL;
        dimension->dim_value = (int64_t)size;
        dimension->dim_param = name == NULL ? NULL : copy(writer, name);
    }
    return dimension;
}

static Onnx__ValueInfoProto *make_value(struct writer *writer, const char *name, int type, size_t rank,
                                        Onnx__TensorShapeProto__Dimension *const dimensions[RANK_MAX])
{
    Onnx__ValueInfoProto *value = allocate(writer, 1, sizeof *value);
    Onnx__TypeProto *outer = allocate(writer, 1, sizeof *outer);
    Onnx__TypeProto__Tensor *inner = allocate(writer, 1, sizeof *inner);
    Onnx__TensorShapeProto *shape = allocate(writer, 1, sizeof *shape);
    if (value == NULL || outer == NULL || inner == NULL || shape == NULL) {
        return NULL;
    }
    onnx__tensor_shape_proto__init(shape);
    shape->n_dim = rank;
    shape->dim = arena_copy(&writer->arena, dimensions, rank, sizeof *dimensions);
    writer->has_failed = writer->has_failed || shape->dim == NULL;
    onnx__type_proto__tensor__init(inner);
    inner->has_elem_type = true;
    inner->elem_type = type;
    inner->shape = shape;
    onnx__type_proto__init(outer);
    outer->tensor_type = inner;
    onnx__value_info_proto__init(value);
    value->name = copy(writer, name);
    value->type = outer;
    return value;
}

static Onnx__ValueInfoProto *make_state(struct writer *writer, const char *name, size_t units)
{
    Onnx__TensorShapeProto__Dimension *const dimensions[RANK_MAX] = {
        make_dimension(writer, 1, NULL), make_dimension(writer, 0, "batch"), make_dimension(writer, units, NULL)};
    return make_value(writer, name, FLOAT, RANK_MAX, dimensions);
}

static Onnx__ValueInfoProto *make_sequence(struct writer *writer, const char *name, int type, size_t columns)
{
    Onnx__TensorShapeProto__Dimension *const dimensions[RANK_MAX] = {
        make_dimension(writer, 0, "time"), make_dimension(writer, 0, "batch"), make_dimension(writer, columns, NULL)};
    return make_value(writer, name, type, columns == 0 ? 2 : RANK_MAX, dimensions);
}

/* ---- layers ---- */

/* Where a gate's columns stand: in the kernel or the candidate's. */
struct gate {
    bool is_candidate;
    unsigned char column; /* in units */
    bool is_forget;
};

/* ONNX's gates in its order: i, o, f, c of an LSTM; z (TensorFlow's u), r, h of a GRU. */
static const struct operation {
    const char *op;
    size_t gate_count;
    size_t kernel_gates;
    struct gate gates[4];
} operations[] = {
    [DECODE_CELL_LSTM] = {"LSTM", 4, 4, {{false, 0, false}, {false, 3, false}, {false, 2, true}, {false, 1, false}}},
    [DECODE_CELL_GRU] = {"GRU", 3, 2, {{false, 1, false}, {false, 0, false}, {true, 0, false}}},
    [DECODE_CELL_RNN] = {"RNN", 1, 1, {{false, 0, false}}},
};

/* W [gates × units, inputs], R [gates × units, units] and B, whose second half, of R, is zeros. */
static void fill_layer(const struct decode_layer_weights *layer, float *w, float *r, float *b)
{
    const struct operation *operation = &operations[layer->cell];
    size_t units = layer->units;
    for (size_t g = 0; g < operation->gate_count; g++) {
        const struct gate *gate = &operation->gates[g];
        const float *kernel = gate->is_candidate ? layer->candidate_kernel : layer->kernel;
        const float *bias = gate->is_candidate ? layer->candidate_bias : layer->bias;
        size_t columns = gate->is_candidate ? units : operation->kernel_gates * units;
        for (size_t unit = 0; unit < units; unit++) {
            size_t from = gate->column * units + unit;
            size_t to = g * units + unit;
            for (size_t i = 0; i < layer->input_size; i++) {
                w[to * layer->input_size + i] = kernel[i * columns + from];
            }
            for (size_t i = 0; i < units; i++) {
                r[to * units + i] = kernel[(layer->input_size + i) * columns + from];
            }
            b[to] = bias[from] + (gate->is_forget ? layer->forget_bias : 0);
        }
    }
}

static void add_layer_weights(struct writer *writer, const struct decode_layer_weights *layer, size_t index)
{
    size_t rows = operations[layer->cell].gate_count * layer->units;
    float *w = allocate(writer, rows * layer->input_size, sizeof *w);
    float *r = allocate(writer, rows * layer->units, sizeof *r);
    float *b = allocate(writer, 2 * rows, sizeof *b);
    if (w == NULL || r == NULL || b == NULL) {
        return;
    }
    fill_layer(layer, w, r, b);
    add_tensor(writer, name_of(writer, "layer_", index, ".W"), FLOAT, RANK_MAX,
               (const int64_t[]){1, (int64_t)rows, (int64_t)layer->input_size}, w);
    add_tensor(writer, name_of(writer, "layer_", index, ".R"), FLOAT, RANK_MAX,
               (const int64_t[]){1, (int64_t)rows, (int64_t)layer->units}, r);
    add_tensor(writer, name_of(writer, "layer_", index, ".B"), FLOAT, 2, (const int64_t[]){1, 2 * (int64_t)rows}, b);
}

/* Y is [time, 1, batch, units]: the 1 goes. Returns what the layer hands on. */
static const char *add_layer(struct writer *writer, size_t index, const char *input)
{
    const struct decode_layer_weights *layer = &writer->weights->layers[index];
    bool is_lstm = layer->cell == DECODE_CELL_LSTM;
    const char *h = name_of(writer, "h_", index, "");
    const char *c = name_of(writer, "c_", index, "");
    const char *h_next = name_of(writer, "h_", index, "_next");
    const char *c_next = name_of(writer, "c_", index, "_next");
    const char *sequence = name_of(writer, "layer_", index, ".Y");
    const char *output = name_of(writer, "layer_", index, ".output");
    add_layer_weights(writer, layer, index);
    struct node node = {operations[layer->cell].op,
                        name_of(writer, "layer_", index, ""),
                        {input, name_of(writer, "layer_", index, ".W"), name_of(writer, "layer_", index, ".R"),
                         name_of(writer, "layer_", index, ".B"), "", h, is_lstm ? c : NULL},
                        {sequence, h_next, is_lstm ? c_next : NULL}};
    set_attribute(writer, add_node(writer, &node), "hidden_size", 1, (const int64_t[]){(int64_t)layer->units});
    add_node(writer, &(struct node){"Squeeze", output, {sequence, "directions"}, {output}});
    writer->inputs[writer->graph.n_input++] = make_state(writer, h, layer->units);
    writer->outputs[writer->graph.n_output++] = make_state(writer, h_next, layer->units);
    if (is_lstm) {
        writer->inputs[writer->graph.n_input++] = make_state(writer, c, layer->units);
        writer->outputs[writer->graph.n_output++] = make_state(writer, c_next, layer->units);
    }
    if (!layer->is_residual) {
        return output;
    }
    const char *sum = name_of(writer, "layer_", index, ".sum");
    add_node(writer, &(struct node){"Add", sum, {output, input}, {sum}});
    return sum;
}

/* ---- the ends ---- */

static const char *add_input(struct writer *writer)
{
    static const float values[] = {0, 1};
    const struct decode_weights *weights = writer->weights;
    int64_t *depth = allocate(writer, 1, sizeof *depth);
    writer->inputs[writer->graph.n_input++] = make_sequence(writer, "symbols", INT64, 0);
    if (weights->embedding_size > 0) {
        add_matrix(writer, "embedding", weights->vocabulary_size, weights->embedding_size, weights->embedding);
        add_node(writer, &(struct node){"Gather", "embed", {"embedding", "symbols"}, {"embedded"}});
        return "embedded";
    }
    if (depth != NULL) {
        *depth = (int64_t)weights->vocabulary_size;
        add_tensor(writer, "depth", INT64, 0, NULL, depth);
        add_tensor(writer, "off_and_on", FLOAT, 1, (const int64_t[]){2}, values);
    }
    add_node(writer, &(struct node){"OneHot", "one_hot", {"symbols", "depth", "off_and_on"}, {"one_hot"}});
    return "one_hot";
}

static void add_output(struct writer *writer, const char *top)
{
    const struct decode_weights *weights = writer->weights;
    size_t symbols = weights->vocabulary_size;
    const char *matrix = "output.weight";
    if (weights->softmax_w != NULL) {
        add_matrix(writer, matrix, weights->layers[weights->layer_count - 1].units, symbols, weights->softmax_w);
    } else {
        Onnx__NodeProto *turn = add_node(writer, &(struct node){"Transpose", "turn", {"embedding"}, {matrix}});
        set_attribute(writer, turn, "perm", 2, (const int64_t[]){1, 0});
    }
    add_tensor(writer, "output.bias", FLOAT, 1, (const int64_t[]){(int64_t)symbols}, weights->softmax_b);
    add_node(writer, &(struct node){"MatMul", "output", {top, matrix}, {"products"}});
    add_node(writer, &(struct node){"Add", "logits", {"products", "output.bias"}, {"logits"}});
    set_attribute(writer, add_node(writer, &(struct node){"Softmax", "probabilities", {"logits"}, {"probabilities"}}),
                  "axis", 1, (const int64_t[]){-1});
    writer->outputs[writer->graph.n_output++] = make_sequence(writer, "logits", FLOAT, symbols);
    writer->outputs[writer->graph.n_output++] = make_sequence(writer, "probabilities", FLOAT, symbols);
}

static void add_graph(struct writer *writer)
{
    static const int64_t directions = 1;
    onnx__graph_proto__init(&writer->graph);
    writer->graph.name = copy(writer, "text");
    writer->graph.node = writer->nodes;
    writer->graph.initializer = writer->tensors;
    writer->graph.input = writer->inputs;
    writer->graph.output = writer->outputs;
    add_tensor(writer, "directions", INT64, 1, (const int64_t[]){1}, &directions);
    const char *top = add_input(writer);
    for (size_t i = 0; i < writer->weights->layer_count; i++) {
        top = add_layer(writer, i, top);
    }
    add_output(writer, top);
}

/* ---- the file ---- */

static enum status pack(const Onnx__ModelProto *model, void **ret_bytes, size_t *ret_length, struct error *error)
{
    size_t length = onnx__model_proto__get_packed_size(model);
    if (length > INT32_MAX) {
        return error_set(error, STATUS_TOO_LARGE, "as ONNX the model has %zu bytes; no ONNX file has more than %d",
                         length, INT32_MAX);
    }
    uint8_t *bytes = mem_allocate(length, 1);
    if (bytes == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for an ONNX file of %zu bytes", length);
    }
    onnx__model_proto__pack(model, bytes);
    *ret_bytes = bytes;
    *ret_length = length;
    return STATUS_OK;
}

static enum status write_model(struct writer *writer, const struct onnx_write_options *options, char *vocabulary,
                               void **ret_bytes, size_t *ret_length, struct error *error)
{
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT;
    Onnx__StringStringEntryProto symbols = ONNX__STRING_STRING_ENTRY_PROTO__INIT;
    char empty[] = "";
    char key[] = "vocabulary";
    char producer[] = "lstmd";
    add_graph(writer);
    opset.domain = empty;
    opset.has_version = true;
    opset.version = OPSET;
    symbols.key = key;
    symbols.value = vocabulary;
    model.has_ir_version = true;
    model.ir_version = IR_VERSION;
    model.producer_name = producer;
    model.producer_version = copy(writer, options->producer_version);
    model.doc_string = copy(writer, options->description);
    model.graph = &writer->graph;
    model.n_opset_import = 1;
    model.opset_import = &(Onnx__OperatorSetIdProto *){&opset};
    model.n_metadata_props = 1;
    model.metadata_props = &(Onnx__StringStringEntryProto *){&symbols};
    return writer->has_failed
               ? error_set(error, STATUS_NO_MEMORY, "no memory to write %s as ONNX", options->description)
               : pack(&model, ret_bytes, ret_length, error);
}

enum status onnx_write(const struct onnx_write_options *options, void **ret_bytes, size_t *ret_length,
                       struct error *error)
{
    json_t *symbols = NULL;
    TRY(vocabulary_to_json(options->vocabulary, &symbols, error));
    char *vocabulary = json_dumps(symbols, JSON_COMPACT);
    json_decref(symbols);
    struct writer *writer = mem_allocate(1, sizeof *writer);
    enum status status = STATUS_NO_MEMORY;
    if (vocabulary == NULL || writer == NULL) {
        error_set(error, status, "no memory to write %s as ONNX", options->description);
    } else {
        writer->weights = options->weights;
        status = write_model(writer, options, vocabulary, ret_bytes, ret_length, error);
        arena_release(&writer->arena);
    }
    mem_free(writer);
    free(vocabulary);
    return status;
}

/* Keras' configurations as layers that are joined. Thread: the one that imports. */
#include "engine/import/keras_private.h"

#include <math.h>

enum { INBOUND_DEPTH_MAX = 8 };

static const double EPSILON = 1e-3; /* where nothing is said, of a BatchNormalization */

struct reading {
    struct foreign_model *model;
    struct keras_design *design;
    struct error *error;
};

bool keras_part_is_recurrent(const struct keras_part *part)
{
    return part->kind == KERAS_PART_LSTM || part->kind == KERAS_PART_GRU || part->kind == KERAS_PART_RNN;
}

bool keras_is_new(const struct foreign_keras *keras)
{
    return !keras->is_javascript && keras->version != NULL && strtol(keras->version, NULL, 10) >= 3;
}

static enum status corrupt(const struct reading *reading, const char *what)
{
    return error_set(reading->error, STATUS_CORRUPT, "%s: Keras' configuration has %s", reading->model->format, what);
}

/* ---- values ---- */

static const struct plain *get(const struct plain *dict, const char *key)
{
    return dict != NULL && dict->kind == PLAIN_DICT ? plain_get(dict, key) : NULL;
}

static bool is_list(const struct plain *value)
{
    return value != NULL && value->kind == PLAIN_LIST;
}

static const char *get_text(const struct plain *dict, const char *key)
{
    const struct plain *value = get(dict, key);
    return value != NULL && plain_is_string(value) ? value->text : NULL;
}

static size_t get_size(const struct plain *dict, const char *key)
{
    const struct plain *value = get(dict, key);
    int64_t number = 0;
    return value != NULL && plain_integer(value, &number) && number > 0 ? (size_t)number : 0;
}

/* NaN where there is something that is no number. */
static double get_number(const struct plain *dict, const char *key, double otherwise)
{
    const struct plain *value = get(dict, key);
    int64_t number = 0;
    if (value == NULL || value->kind == PLAIN_NONE) {
        return otherwise;
    }
    return value->kind == PLAIN_REAL ? value->real : plain_integer(value, &number) ? (double)number : (double)NAN;
}

/* As Python takes it, and Keras with it: 1 is true. */
static bool get_flag(const struct plain *dict, const char *key)
{
    const struct plain *value = get(dict, key);
    bool is_boolean = value != NULL && value->kind == PLAIN_BOOLEAN;
    return is_boolean ? value->boolean : get_number(dict, key, 0.0) != 0.0;
}

/* A function by name, or as Keras 3 writes some: {"class_name":"function","config":"relu"}. */
static const char *get_function(const struct plain *dict, const char *key)
{
    const struct plain *value = get(dict, key);
    const char *name = get_text(dict, key);
    name = name != NULL ? name : get_text(value, "config");
    name = name != NULL ? name : get_text(value, "class_name");
    return name != NULL && strcmp(name, "hardSigmoid") == 0 ? "hard_sigmoid" : name;
}

static bool is_same(const char *one, const char *other)
{
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

/* ---- inputs ---- */

/* The shape of an input: [batch, symbols], or [batch, symbols, columns]. */
static void read_input_shape(struct keras_design *design, const struct plain *shape)
{
    if (!is_list(shape) || shape->count < 2 || shape->count > 3) {
        return;
    }
    int64_t sizes[2] = {0, 0};
    for (uint32_t i = 1; i < shape->count; i++) {
        if (!plain_integer(shape->items[i], &sizes[i - 1]) || sizes[i - 1] < 0) {
            sizes[i - 1] = 0;
        }
    }
    design->window = (size_t)sizes[0];
    design->input_width = (size_t)sizes[1];
}

/* What a layer says of the model's input. */
static void read_input(struct keras_design *design, const struct plain *config, const struct plain *layer)
{
    static const char *const keys[] = {"batch_input_shape", "batch_shape", "batchInputShape"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        read_input_shape(design, get(config, keys[i]));
    }
    if (design->window == 0 && design->input_width == 0) {
        read_input_shape(design, get(get(layer, "build_config"), "input_shape"));
    }
    if (design->window == 0) {
        const struct plain *length = get(config, "input_length");
        design->window = get_size(config, "input_length");
        design->window = is_list(length) && length->count > 0 ? 0 : design->window;
    }
}

/* ---- layers ---- */

static enum status unsupported(const struct reading *reading, const char *name, const char *class)
{
    char known[512] = "";
    keras_list_classes(known, sizeof known);
    return error_set(reading->error, STATUS_UNSUPPORTED,
                     "layer %.100s is a %.100s of Keras, which is not read here; there are %s, and TimeDistributed and "
                     "Bidirectional around them",
                     name, class, known);
}

static void fill_part(struct keras_part *part, const struct keras_class *row, const struct plain *config)
{
    const char *activation = get_function(config, "activation");
    const char *recurrent = get_function(config, "recurrent_activation");
    part->kind = row->kind;
    part->activation = activation != NULL ? activation : row->activation;
    recurrent = recurrent != NULL ? recurrent : get_function(config, "inner_activation");
    part->recurrent_activation = recurrent != NULL ? recurrent : "hard_sigmoid"; /* the default where it was left out */
    if (strncmp(row->name, "CuDNN", 5) == 0) {
        part->activation = "tanh";
        part->recurrent_activation = "sigmoid";
    }
    part->units = get_size(config, "units");
    part->units = part->units != 0 ? part->units : get_size(config, "output_dim");
    part->returns_sequences = get_flag(config, "return_sequences");
    part->goes_backwards = get_flag(config, "go_backwards");
    part->is_stateful = get_flag(config, "stateful");
    part->resets_after = get_flag(config, "reset_after");
    part->masks_zero = get_flag(config, "mask_zero");
    part->mask_value = get_number(config, "mask_value", 0.0);
    double epsilon = get_number(config, "epsilon", EPSILON);
    part->epsilon = isfinite(epsilon) ? epsilon : EPSILON;
}

/* ReLU's and Softmax' arguments, which make another function of it. */
static enum status check_function(const struct reading *reading, const char *name, const char *class,
                                  const struct plain *config)
{
    static const char *const relu[] = {"max_value", "negative_slope",
                                       "threshold"}; /* without the first there is none */
    for (size_t i = 0; strcmp(class, "ReLU") == 0 && i < sizeof relu / sizeof *relu; i++) {
        double none = i == 0 ? HUGE_VAL : 0.0;
        double number = get_number(config, relu[i], none);
        if (number != none) {
            return error_set(reading->error, STATUS_UNSUPPORTED,
                             "layer %.100s is a ReLU whose %s is %g, which is not built here", name, relu[i], number);
        }
    }
    double axis = strcmp(class, "Softmax") == 0 ? get_number(config, "axis", -1.0) : -1.0;
    return axis == -1.0 || axis == 2.0
               ? STATUS_OK
               : error_set(reading->error, STATUS_UNSUPPORTED,
                           "layer %.100s is a Softmax along axis %g, not the last one", name, axis);
}

/* The layer that a wrapper has for the other direction, in newer files, must be one like its own, turned. */
static enum status check_backward_layer(const struct reading *reading, const char *name, const struct plain *wrapper)
{
    static const char *const keys[] = {"activation", "recurrent_activation"};
    const struct plain *forward = get(wrapper, "layer");
    const struct plain *backward = get(wrapper, "backward_layer");
    if (backward == NULL || backward->kind == PLAIN_NONE) {
        return STATUS_OK;
    }
    bool is_like = is_same(get_text(forward, "class_name"), get_text(backward, "class_name"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        is_like = is_like && is_same(get_function(get(forward, "config"), keys[i]),
                                     get_function(get(backward, "config"), keys[i]));
    }
    is_like = is_like &&
              get_flag(get(forward, "config"), "go_backwards") != get_flag(get(backward, "config"), "go_backwards");
    return is_like
               ? STATUS_OK
               : error_set(reading->error, STATUS_UNSUPPORTED,
                           "layer %.100s: its backward_layer is not its layer turned, which is not built here", name);
}

/* Arguments that change what is computed, and that nothing here does. */
static enum status check_arguments(const struct reading *reading, const struct keras_part *part,
                                   const struct plain *config)
{
    static const char *const flags[] = {"return_state", "return_attention", "time_major"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (get_flag(config, flags[i])) {
            return error_set(reading->error, STATUS_UNSUPPORTED, "layer %.100s has %s, which is not built here",
                             part->name, flags[i]);
        }
    }
    if (!isfinite(part->mask_value)) {
        return error_set(reading->error, STATUS_UNSUPPORTED, "layer %.100s: its mask_value is no number", part->name);
    }
    const struct plain *axis = get(config, "axis");
    int64_t number = -1;
    if (axis != NULL && is_list(axis) && axis->count == 1) {
        axis = axis->items[0];
    }
    if ((part->kind == KERAS_PART_CONCATENATE || part->kind == KERAS_PART_NORMALIZATION) && axis != NULL &&
        plain_integer(axis, &number) && number != -1 && number != 2) {
        return error_set(reading->error, STATUS_UNSUPPORTED, "layer %.100s works along axis %lld, not the last one",
                         part->name, (long long)number);
    }
    return STATUS_OK;
}

/* The name under which a .keras file keeps a layer's weights: its class in snake case, counted. */
static enum status name_stored(const struct reading *reading, struct keras_part *part, const char *class)
{
    char name[128];
    size_t before = 0;
    keras_write_snake(class, name, sizeof name);
    for (size_t i = 0; i < reading->design->count; i++) {
        before += strcmp(reading->design->parts[i].class, class) == 0 ? 1 : 0;
    }
    part->stored = before == 0 ? arena_copy_string(&reading->model->arena, name)
                               : arena_format(&reading->model->arena, "%s_%zu", name, before);
    return part->stored == NULL ? foreign_no_memory(reading->model, reading->error) : STATUS_OK;
}

/* The layer that a wrapper holds, or NULL where it is none. */
static const struct plain *unwrap(const char *class, const struct plain *config)
{
    bool is_wrapper = strcmp(class, "TimeDistributed") == 0 || strcmp(class, "Bidirectional") == 0;
    return is_wrapper ? get(config, "layer") : NULL;
}

static enum status read_layer(const struct reading *reading, const struct plain *layer)
{
    struct keras_design *design = reading->design;
    struct keras_part part = {.inbound = get(layer, "inbound_nodes")};
    const struct plain *config = get(layer, "config");
    const char *class = get_text(layer, "class_name");
    part.name = get_text(config, "name");
    part.name = part.name != NULL ? part.name : get_text(layer, "name");
    part.name = part.name != NULL ? part.name : class;
    if (class == NULL || config == NULL || config->kind != PLAIN_DICT) {
        return corrupt(reading, "a layer without class_name or config");
    }
    if (design->count >= KERAS_PARTS_MAX) {
        return error_set(reading->error, STATUS_LIMIT, "more than %d layers", KERAS_PARTS_MAX);
    }
    part.class = class;
    TRY(name_stored(reading, &part, class));
    if (design->window == 0 && design->input_width == 0) {
        read_input(design, config, layer);
    }
    const struct plain *inner = unwrap(class, config);
    part.is_bidirectional = inner != NULL && strcmp(class, "Bidirectional") == 0;
    part.merge_mode = part.is_bidirectional ? get_text(config, "merge_mode") : NULL;
    class = inner != NULL ? get_text(inner, "class_name") : class;
    config = inner != NULL ? get(inner, "config") : config;
    const struct keras_class *row = class == NULL ? NULL : keras_find_class(class);
    if (row == NULL) {
        return unsupported(reading, part.name, class == NULL ? "layer without a class" : class);
    }
    fill_part(&part, row, config);
    if (part.is_bidirectional && !keras_part_is_recurrent(&part)) {
        return unsupported(reading, part.name, "Bidirectional around something else");
    }
    if (inner != NULL && !part.is_bidirectional && keras_part_is_recurrent(&part)) {
        return unsupported(reading, part.name, "TimeDistributed around a recurrent layer");
    }
    TRY(check_arguments(reading, &part, config));
    TRY(check_function(reading, part.name, class, config));
    if (part.is_bidirectional) {
        TRY(check_backward_layer(reading, part.name, get(layer, "config")));
    }
    design->parts[design->count++] = part;
    return STATUS_OK;
}

/* ---- joining ---- */

static size_t find_part(const struct keras_design *design, const char *name)
{
    size_t at = 0;
    while (at < design->count && strcmp(design->parts[at].name, name) != 0) {
        at++;
    }
    return at;
}

static enum status join(const struct reading *reading, struct keras_part *part, const char *name)
{
    size_t at = find_part(reading->design, name);
    if (at == reading->design->count || part->input_count >= KERAS_PART_INPUTS_MAX) {
        return error_set(reading->error, STATUS_CORRUPT,
                         "layer %.100s is fed by %.100s, which is no layer, or by too many", part->name, name);
    }
    part->inputs[part->input_count++] = at;
    return STATUS_OK;
}

/* Names of layers in inbound nodes, however they nest: ["lstm", 0, 0, {}] of Keras 1 and 2, and of Keras 3
 * {"class_name":"__keras_tensor__","config":{"keras_history":["lstm", 0, 0]}}. */
static enum status join_all(const struct reading *reading, struct keras_part *part, const struct plain *node,
                            int depth) /* NOLINT(misc-no-recursion) */
{
    int64_t ignored;
    if (node == NULL || depth > INBOUND_DEPTH_MAX) {
        return STATUS_OK;
    }
    if (is_list(node) && node->count >= 3 && plain_is_string(node->items[0]) &&
        plain_integer(node->items[1], &ignored)) {
        return join(reading, part, node->items[0]->text);
    }
    if (node->kind == PLAIN_DICT) {
        const struct plain *arguments = get(node, "args");
        const struct plain *state = get(get(node, "kwargs"), "initial_state");
        if (state != NULL && state->kind != PLAIN_NONE) {
            return error_set(reading->error, STATUS_UNSUPPORTED, "layer %.100s is given an initial state", part->name);
        }
        const struct plain *history = get(get(node, "config"), "keras_history");
        return join_all(reading, part, arguments != NULL ? arguments : history, depth + 1);
    }
    for (uint32_t i = 0; is_list(node) && i < node->count; i++) {
        TRY(join_all(reading, part, node->items[i], depth + 1));
    }
    return STATUS_OK;
}

/* The layers of a functional model; the one that predicts. */
static enum status join_functional(const struct reading *reading, const struct plain *config, const char *output)
{
    struct keras_design *design = reading->design;
    struct keras_part outputs = {.name = "the output"};
    for (size_t i = 0; i < design->count; i++) {
        struct keras_part *part = &design->parts[i];
        if (is_list(part->inbound) && part->inbound->count > 1) {
            return error_set(reading->error, STATUS_UNSUPPORTED, "layer %.100s is used %u times", part->name,
                             part->inbound->count);
        }
        TRY(join_all(reading, part, part->inbound, 0));
        bool is_joining = part->kind == KERAS_PART_CONCATENATE || part->kind == KERAS_PART_ADD;
        if (part->kind != KERAS_PART_INPUT && (part->input_count == 0 || (part->input_count > 1 && !is_joining))) {
            return error_set(reading->error, STATUS_UNSUPPORTED, "layer %.100s (%.60s) has %zu inputs", part->name,
                             part->class, part->input_count);
        }
    }
    if (output != NULL) {
        TRY(join(reading, &outputs, output));
    } else {
        TRY(join_all(reading, &outputs, get(config, "output_layers"), 0));
    }
    if (outputs.input_count != 1) {
        error_set(reading->error, STATUS_UNPROCESSABLE, "the model has %zu outputs: say --set output=LAYER",
                  outputs.input_count);
        return error_code(reading->error, "ambiguous"), STATUS_UNPROCESSABLE;
    }
    design->output = outputs.inputs[0];
    return STATUS_OK;
}

static void join_sequential(struct keras_design *design)
{
    for (size_t i = 1; i < design->count; i++) {
        design->parts[i].inputs[0] = i - 1;
        design->parts[i].input_count = 1;
    }
    design->output = design->count - 1;
}

/* ---- all of it ---- */

static enum status read_config(const struct reading *reading, struct import_settings *settings)
{
    struct keras_design *design = reading->design;
    const struct plain *root = reading->model->keras->config;
    const struct plain *inner = get(root, "model_config"); /* TensorFlow.js' topology */
    root = inner != NULL ? inner : root;
    const char *class = get_text(root, "class_name");
    const struct plain *config = get(root, "config");
    const struct plain *layers = is_list(config) ? config : get(config, "layers");
    if (class == NULL || !is_list(layers)) {
        return corrupt(reading, "no class_name or no layers");
    }
    bool is_sequential = strcmp(class, "Sequential") == 0;
    if (!is_sequential && strcmp(class, "Functional") != 0 && strcmp(class, "Model") != 0) {
        return error_set(
            reading->error, STATUS_UNSUPPORTED,
            "the model is a %.100s, neither Sequential nor functional: what it computes is not in the file", class);
    }
    read_input_shape(design, get(config, "build_input_shape"));
    if (is_sequential) {
        design->parts[design->count++] =
            (struct keras_part){.kind = KERAS_PART_INPUT, .class = "", .name = "input", .stored = "", .activation = ""};
    }
    for (uint32_t i = 0; i < layers->count; i++) {
        TRY(read_layer(reading, layers->items[i]));
    }
    if (layers->count == 0) {
        return corrupt(reading, "no layers");
    }
    if (!is_sequential) {
        return join_functional(reading, config, import_setting(settings, "output"));
    }
    join_sequential(design);
    return STATUS_OK;
}

enum status keras_design_read(struct foreign_model *model, struct import_settings *settings,
                              struct keras_design *ret_design, struct error *error)
{
    *ret_design =
        (struct keras_design){.parts = arena_allocate(&model->arena, KERAS_PARTS_MAX, sizeof(struct keras_part))};
    const struct reading reading = {.model = model, .design = ret_design, .error = error};
    if (ret_design->parts == NULL) {
        return foreign_no_memory(model, error);
    }
    enum status status = read_config(&reading, settings);
    if (status != STATUS_OK && model->keras->config_file != NULL) {
        error_prefix(error, "%.200s", model->keras->config_file);
    }
    return status;
}

/* Checkpoints of tf.train.Checkpoint and Keras' save_weights, which name variables by the objects that hold them:
 * PATH/LAYER/kernel/.ATTRIBUTES/VARIABLE_VALUE, of a recurrent layer perhaps PATH/LAYER/cell/kernel. They become
 * weights of Keras alone, LAYER/kernel. Thread: the one that imports.
 *
 * A layer is layer_with_weights-N in the model's order, or has the name of an attribute of the model, which tells no
 * order: then embeddings stand first and recurrent layers before all others, those of a kind as people number them;
 * where they are not numbered and could be exchanged, the order is found by all their shapes, or asked for.
 * Source: TensorFlow 2, python/checkpoint/graph_view.py; keras/engine/functional.py (_layer_checkpoint_dependencies).
 */
#include "engine/import/keras_design.h"
#include "engine/import/tensorflow.h"
#include "engine/import/understanding_private.h"

static const char value_suffix[] = "/.ATTRIBUTES/VARIABLE_VALUE";

/* Its name up to what stands behind each; 0: it is no variable of an object's, or an optimiser's. */
static size_t bare_length(const char *name)
{
    size_t length = strlen(name);
    size_t suffix = sizeof value_suffix - 1;
    bool is_value = length > suffix && foreign_ends_in(name, length, value_suffix);
    bool is_optimiser = strstr(name, "/.OPTIMIZER_SLOT/") != NULL || strncmp(name, "optimizer/", 10) == 0 ||
                        strstr(name, "/optimizer/") != NULL;
    return is_value && !is_optimiser ? length - suffix : 0;
}

/* LAYER/WEIGHT, of a Bidirectional LAYER/forward_layer/WEIGHT; NULL: no memory. Without a layer it is the weight's name
 * alone. */
static const char *short_name(struct arena *arena, const char *name, size_t length)
{
    size_t weight = tensorflow_last_component(name, length);
    size_t end = weight == 0 ? 0 : weight - 1;
    size_t layer = tensorflow_last_component(name, end);
    if (foreign_ends_in(name + layer, end - layer, "cell") && layer > 0) {
        end = layer - 1;
        layer = tensorflow_last_component(name, end);
    }
    bool is_direction = tensorflow_component_is(name + layer, end - layer, "forward_layer") ||
                        tensorflow_component_is(name + layer, end - layer, "backward_layer");
    if (is_direction && layer > 0) {
        layer = tensorflow_last_component(name, layer - 1);
    }
    return arena_format(arena, "%.*s%s%.*s", (int)(end - layer), name + layer, end > layer ? "/" : "",
                        (int)(length - weight), name + weight);
}

static bool is_weight(const struct foreign_tensor *tensor, const char *weight)
{
    const char *slash = strrchr(tensor->name, '/');
    return slash != NULL && strcmp(slash + 1, weight) == 0;
}

/* Of what stands at the bottom first. */
enum kind { KIND_TABLE, KIND_RECURRENT, KIND_OTHER };

struct found_layer {
    struct plain *name;
    enum kind kind;
    size_t inputs; /* 0: a table, or unknown */
};

static void describe_layer(struct found_layer *layer, const struct foreign_tensor *tensor)
{
    if (is_weight(tensor, "embeddings")) {
        layer->kind = KIND_TABLE;
    } else if (is_weight(tensor, "recurrent_kernel")) {
        layer->kind = KIND_RECURRENT;
    } else if (is_weight(tensor, "kernel") || is_weight(tensor, "gamma")) {
        layer->inputs = think_dimension(tensor, 0);
    }
}

/* The tensors' layers, each once; `ret_layers` has room for KERAS_PARTS_MAX. */
static enum status find_layers(struct foreign_model *model, struct found_layer *ret_layers, size_t *ret_count,
                               struct error *error)
{
    size_t count = 0;
    for (size_t i = 0; i < model->tensor_count; i++) {
        const char *name = model->tensors[i].name;
        size_t length = strcspn(name, "/");
        size_t at = 0;
        if (name[length] == '\0') {
            continue;
        }
        while (at < count && !tensorflow_component_is(name, length, ret_layers[at].name->text)) {
            at++;
        }
        if (at == KERAS_PARTS_MAX) {
            return error_set(error, STATUS_LIMIT, "%s: more than %d layers", model->entry, KERAS_PARTS_MAX);
        }
        if (at == count) {
            struct plain *text = plain_create_text(&model->arena, PLAIN_TEXT, name, length);
            if (text == NULL) {
                return foreign_no_memory(model, error);
            }
            ret_layers[count++] = (struct found_layer){.name = text, .kind = KIND_OTHER};
        }
        describe_layer(&ret_layers[at], &model->tensors[i]);
    }
    *ret_count = count;
    return STATUS_OK;
}

static bool is_numbered_layer(const struct found_layer *layer)
{
    return strncmp(layer->name->text, "layer_with_weights-", 19) == 0;
}

static int by_order(const void *left, const void *right)
{
    const struct found_layer *a = left;
    const struct found_layer *b = right;
    bool are_numbered = is_numbered_layer(a) && is_numbered_layer(b);
    return are_numbered || a->kind == b->kind ? compare_natural(a->name->text, b->name->text)
                                              : (int)a->kind - (int)b->kind;
}

/* lstm and lstm_1, but not lower and higher. */
static bool differ_in_numbers_alone(const char *a, const char *b)
{
    static const char passed_over[] = "_0123456789";
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    a += strspn(a, passed_over);
    b += strspn(b, passed_over);
    return strcmp(a, b) == 0;
}

/* Whether names tell which of two layers comes first. Those of one kind whose inputs differ stand in the one order that
 * fits, or are refused for their shapes later. */
static bool is_order_told(const struct found_layer *layers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = i + 1; k < count; k++) {
            const struct found_layer *a = &layers[i];
            const struct found_layer *b = &layers[k];
            if (a->kind == b->kind && a->inputs == b->inputs &&
                !differ_in_numbers_alone(a->name->text, b->name->text)) {
                return false;
            }
        }
    }
    return true;
}

/* The tensors' layers, in order where their names tell it. */
static enum status list_layers(struct foreign_model *model, struct plain *list, bool *ret_is_ordered,
                               struct error *error)
{
    struct found_layer layers[KERAS_PARTS_MAX];
    size_t count = 0;
    TRY(find_layers(model, layers, &count, error));
    *ret_is_ordered = is_order_told(layers, count);
    qsort(layers, count, sizeof *layers, by_order);
    for (size_t i = 0; i < count; i++) {
        if (!plain_append(&model->arena, list, layers[i].name)) {
            return foreign_no_memory(model, error);
        }
    }
    return STATUS_OK;
}

/* Keeps the variables of layers, by their short names. */
static enum status rename_all(struct foreign_model *model, struct error *error)
{
    size_t count = 0;
    for (size_t i = 0; i < model->tensor_count; i++) {
        struct foreign_tensor tensor = model->tensors[i];
        size_t length = bare_length(tensor.name);
        if (length == 0 || tensor.shape.rank == 0) {
            continue; /* counters and what optimisers keep */
        }
        tensor.name = short_name(&model->arena, tensor.name, length);
        if (tensor.name == NULL) {
            return foreign_no_memory(model, error);
        }
        model->tensors[count++] = tensor;
    }
    model->tensor_count = count;
    return STATUS_OK;
}

/* PREFIX and a number are its whole name. */
static bool is_variable_of(const char *prefix, const char *name, size_t length)
{
    size_t begin = strlen(prefix);
    return length > begin && strncmp(name, prefix, begin) == 0 && strspn(name + begin, "0123456789") == length - begin;
}

enum status tensorflow_take_objects(struct foreign_model *model, struct error *error)
{
    bool are_layers = false;
    for (size_t i = 0; i < model->tensor_count; i++) {
        const char *name = model->tensors[i].name;
        size_t length = bare_length(name);
        size_t weight = tensorflow_last_component(name, length);
        are_layers = are_layers || (length - weight == 16 && memcmp(name + weight, "recurrent_kernel", 16) == 0);
        if (is_variable_of("variables/", name, length) || is_variable_of("trainable_variables/", name, length)) {
            return error_set(error, STATUS_UNSUPPORTED,
                             "%s: variables of a SavedModel, which are numbered and say nothing of their layers: what "
                             "save_weights wrote is read, or model.save as .h5 or .keras",
                             model->entry);
        }
    }
    if (!are_layers) {
        return STATUS_OK;
    }
    struct foreign_keras *keras = arena_allocate(&model->arena, 1, sizeof *keras);
    struct plain *layers = plain_create(&model->arena, PLAIN_LIST);
    if (keras == NULL || layers == NULL) {
        return foreign_no_memory(model, error);
    }
    TRY(rename_all(model, error));
    bool is_ordered = false;
    TRY(list_layers(model, layers, &is_ordered, error));
    *keras = (struct foreign_keras){.layer_names = is_ordered ? layers : NULL, .groups = is_ordered ? NULL : layers};
    model->keras = keras;
    return STATUS_OK;
}

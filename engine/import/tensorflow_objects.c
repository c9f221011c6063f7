/* Checkpoints of tf.train.Checkpoint and Keras' save_weights, which name variables by the objects that hold them:
 * PATH/LAYER/kernel/.ATTRIBUTES/VARIABLE_VALUE, of a recurrent layer perhaps PATH/LAYER/cell/kernel. They become
 * weights of Keras alone, LAYER/kernel. Thread: the one that imports.
 *
 * A layer is layer_with_weights-N in the model's order, or has the name of an attribute of the model, which tells no
 * order: then embeddings stand first and recurrent layers before all others, those of a kind as people number them.
 * Source: TensorFlow 2, python/checkpoint/graph_view.py; keras/engine/functional.py (_layer_checkpoint_dependencies).
 */
#include "engine/import/tensorflow.h"
#include "engine/import/understanding_private.h"

static const char value_suffix[] = "/.ATTRIBUTES/VARIABLE_VALUE";

/* Its name up to what stands behind each; 0: it is no variable of an object's, or an optimiser's slot. */
static size_t bare_length(const char *name)
{
    size_t length = strlen(name);
    size_t suffix = sizeof value_suffix - 1;
    bool is_value = length > suffix && strcmp(name + length - suffix, value_suffix) == 0;
    return is_value && strstr(name, "/.OPTIMIZER_SLOT/") == NULL ? length - suffix : 0;
}

/* Where the last component of the first `length` bytes begins. */
static size_t component(const char *name, size_t length)
{
    while (length > 0 && name[length - 1] != '/') {
        length--;
    }
    return length;
}

/* LAYER/WEIGHT; NULL: no memory. Without a layer it is the weight's name alone. */
static const char *short_name(struct arena *arena, const char *name, size_t length)
{
    size_t weight = component(name, length);
    size_t end = weight == 0 ? 0 : weight - 1;
    size_t layer = component(name, end);
    if (end - layer >= 4 && memcmp(name + end - 4, "cell", 4) == 0 && layer > 0) {
        end = layer - 1;
        layer = component(name, end);
    }
    return arena_format(arena, "%.*s%s%.*s", (int)(end - layer), name + layer, end > layer ? "/" : "",
                        (int)(length - weight), name + weight);
}

static bool is_weight(const struct foreign_tensor *tensor, const char *weight)
{
    const char *slash = strrchr(tensor->name, '/');
    return slash != NULL && strcmp(slash + 1, weight) == 0;
}

/* 0: a table, 1: a recurrent layer, 2: any other. */
static int kind_of(const struct foreign_model *model, const struct plain *layer)
{
    int kind = 2;
    for (size_t i = 0; i < model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &model->tensors[i];
        if (strncmp(tensor->name, layer->text, layer->length) == 0 && tensor->name[layer->length] == '/') {
            kind = is_weight(tensor, "embeddings") ? 0 : is_weight(tensor, "recurrent_kernel") ? 1 : kind;
        }
    }
    return kind;
}

static bool stands_before(const struct foreign_model *model, const struct plain *a, const struct plain *b)
{
    bool are_numbered = strncmp(a->text, "layer_with_weights-", 19) == 0;
    int difference = are_numbered ? 0 : kind_of(model, a) - kind_of(model, b);
    return difference < 0 || (difference == 0 && compare_natural(a->text, b->text) < 0);
}

/* The tensors' layers, each once, in order. */
static enum status list_layers(struct foreign_model *model, struct plain *layers, struct error *error)
{
    for (size_t i = 0; i < model->tensor_count; i++) {
        const char *name = model->tensors[i].name;
        const char *slash = strrchr(name, '/');
        size_t length = slash == NULL ? 0 : (size_t)(slash - name);
        uint32_t at = 0;
        while (at < layers->count &&
               (layers->items[at]->length != length || memcmp(layers->items[at]->text, name, length) != 0)) {
            at++;
        }
        if (length == 0 || at < layers->count) {
            continue;
        }
        struct plain *layer = plain_create_text(&model->arena, PLAIN_TEXT, name, length);
        if (layer == NULL || !plain_append(&model->arena, layers, layer)) {
            return foreign_no_memory(model, error);
        }
        for (; at > 0 && stands_before(model, layer, layers->items[at - 1]); at--) {
            layers->items[at] = layers->items[at - 1];
        }
        layers->items[at] = layer;
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

enum status tensorflow_take_objects(struct foreign_model *model, struct error *error)
{
    bool are_layers = false;
    for (size_t i = 0; i < model->tensor_count; i++) {
        const char *name = model->tensors[i].name;
        size_t length = bare_length(name);
        size_t weight = component(name, length);
        are_layers = are_layers || (length - weight == 16 && memcmp(name + weight, "recurrent_kernel", 16) == 0);
        if (length > 0 && (strncmp(name, "variables/", 10) == 0 || strncmp(name, "trainable_variables/", 20) == 0)) {
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
    TRY(list_layers(model, layers, error));
    *keras = (struct foreign_keras){.layer_names = layers};
    model->keras = keras;
    return STATUS_OK;
}

/* Keras' classes of layers that are read, and the names that Keras makes of them. Thread: any; constant. */
#include "engine/import/keras_private.h"

static const struct keras_class classes[] = {
    {"InputLayer", KERAS_PART_INPUT, "linear"},
    {"Embedding", KERAS_PART_EMBEDDING, "linear"},
    {"LSTM", KERAS_PART_LSTM, "tanh"},
    {"CuDNNLSTM", KERAS_PART_LSTM, "tanh"},
    {"GRU", KERAS_PART_GRU, "tanh"},
    {"CuDNNGRU", KERAS_PART_GRU, "tanh"},
    {"SimpleRNN", KERAS_PART_RNN, "tanh"},
    {"Dense", KERAS_PART_DENSE, "linear"},
    {"TimeDistributedDense", KERAS_PART_DENSE, "linear"},
    {"Activation", KERAS_PART_ACTIVATION, "linear"},
    {"Softmax", KERAS_PART_ACTIVATION, "softmax"},
    {"ReLU", KERAS_PART_ACTIVATION, "relu"},
    {"BatchNormalization", KERAS_PART_NORMALIZATION, "linear"},
    {"Concatenate", KERAS_PART_CONCATENATE, "linear"},
    {"Add", KERAS_PART_ADD, "linear"},
    {"Flatten", KERAS_PART_FLATTEN, "linear"},
    {"AttentionWeightedAverage", KERAS_PART_ATTENTION, "linear"},
    {"Masking", KERAS_PART_MASKING, "linear"},
    {"Dropout", KERAS_PART_SAME, "linear"},
    {"SpatialDropout1D", KERAS_PART_SAME, "linear"},
    {"GaussianDropout", KERAS_PART_SAME, "linear"},
    {"AlphaDropout", KERAS_PART_SAME, "linear"},
    {"GaussianNoise", KERAS_PART_SAME, "linear"},
    {"ActivityRegularization", KERAS_PART_SAME, "linear"},
};

const struct keras_class *keras_find_class(const char *name)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (strcmp(classes[i].name, name) == 0) {
            return &classes[i];
        }
    }
    return NULL;
}

void keras_list_classes(char *text, size_t bytes)
{
    size_t length = 0;
    for (size_t i = 0; i < sizeof classes / sizeof *classes && length < bytes; i++) {
        length += (size_t)snprintf(text + length, bytes - length, "%s%s", i == 0 ? "" : ", ", classes[i].name);
    }
}

/* ---- layers' names ---- */

static bool is_upper(char character)
{
    return character >= 'A' && character <= 'Z';
}

static char lower(char character)
{
    return (char)(is_upper(character) ? character - 'A' + 'a' : character);
}

void keras_write_snake(const char *class, char *name, size_t bytes)
{
    size_t length = 0;
    for (size_t i = 0; class[i] != '\0' && length + 2 < bytes; i++) {
        bool begins_word =
            is_upper(class[i]) && i > 0 &&
            ((class[i - 1] >= 'a' && class[i - 1] <= 'z') || (class[i + 1] >= 'a' && class[i + 1] <= 'z'));
        if (begins_word && name[length - 1] != '_') {
            name[length++] = '_';
        }
        name[length++] = lower(class[i]);
    }
    name[length] = '\0';
}

size_t keras_base_length(const char *layer)
{
    static const char digits[] = "0123456789";
    size_t length = strlen(layer);
    while (length > 0 && strchr(digits, layer[length - 1]) != NULL) {
        length--;
    }
    while (length > 0 && layer[length - 1] == '_') {
        length--;
    }
    return length;
}

bool keras_layer_is_called(const char *layer, const char *class)
{
    size_t length = keras_base_length(layer);
    size_t at = 0;
    for (size_t i = 0; i < length; i++) {
        if (layer[i] == '_') {
            continue;
        }
        if (class[at] == '\0' || layer[i] != lower(class[at])) {
            return false;
        }
        at++;
    }
    return length > 0 && class[at] == '\0';
}

const struct keras_class *keras_class_of_layer(const char *layer)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (keras_layer_is_called(layer, classes[i].name)) {
            return &classes[i];
        }
    }
    return NULL;
}

/* From foreign tensors to a model: the order of the conclusions. Thread: the one that imports. */
#include "engine/import/understanding_private.h"

#include <stdarg.h>

static const struct naming namings[] = {
    {torch_rnn_names_apply, torch_rnn_find_layers, &torch_rnn_layout},
    {char_rnn_names_apply, char_rnn_find_layers, &char_rnn_layout},
    {torch_names_apply, torch_find_layers, &torch_layout},
    {tensorflow_names_apply, tensorflow_find_layers, &tensorflow_layout},
};

/* ---- settings ---- */

static const char *const setting_keys[] = {
    "activation",           /* of a plain RNN: tanh, in PyTorch relu, too; of Keras weights alone: of hidden layers */
    "embedding",            /* the tensor that is it, or none */
    "file",                 /* which of a folder's models */
    "forget_bias",          /* what an LSTM adds to its forget gate when it runs */
    "graph",                /* what one beside a TensorFlow checkpoint does and is not built: ignored */
    "layers",               /* of Keras weights alone that tell no order: their names, from the input to the output */
    "output",               /* the matrix before the logits; of a Keras model the layer that predicts */
    "recurrent_activation", /* of the gates of Keras weights alone: sigmoid, hard_sigmoid */
    "rest",                 /* tensors that were not understood: ignored */
    "root",                 /* which of several models: what its tensors' names begin with; none, all */
    "unknown",              /* last: the last symbol, which the vocabulary lacks, is any other one */
    "vocabulary",           /* bytes, printable: well-known ones; or a file of the source */
    "vocabulary_kind",      /* characters, words */
    "window",               /* how many symbols are read for each that is made; none: all before it */
};

static struct import_setting *find_setting(struct import_settings *settings, const char *key)
{
    for (size_t i = 0; i < settings->count; i++) {
        if (strcmp(settings->rows[i].key, key) == 0) {
            return &settings->rows[i];
        }
    }
    return NULL;
}

enum status import_settings_add(struct import_settings *settings, const char *key, const char *value,
                                struct error *error)
{
    bool is_known = false;
    char known[256] = "";
    size_t length = 0;
    for (size_t i = 0; i < sizeof setting_keys / sizeof *setting_keys; i++) {
        is_known = is_known || strcmp(setting_keys[i], key) == 0;
        length += (size_t)snprintf(known + length, sizeof known - length, "%s%s", i == 0 ? "" : ", ", setting_keys[i]);
    }
    if (!is_known) {
        return error_set(error, STATUS_INVALID, "'%.100s' is nothing that can be set: %s", key, known);
    }
    bool is_ignorable = strcmp(key, "rest") == 0 || strcmp(key, "graph") == 0;
    if (is_ignorable && strcmp(value, "ignored") != 0) { /* of whatever format the source is */
        return error_set(error, STATUS_INVALID, "%s=%.60s: it can only be ignored", key, value);
    }
    if (find_setting(settings, key) != NULL || settings->count >= IMPORT_SETTINGS_MAX) {
        return error_set(error, STATUS_INVALID, "'%.100s' is set twice", key);
    }
    settings->rows[settings->count++] = (struct import_setting){.key = key, .value = value};
    return STATUS_OK;
}

const char *import_setting(struct import_settings *settings, const char *key)
{
    struct import_setting *row = find_setting(settings, key);
    if (row == NULL) {
        return NULL;
    }
    row->is_asked = true;
    return row->value;
}

const char *think_setting(const struct thinking *thinking, const char *key)
{
    return import_setting(thinking->settings, key);
}

/* ---- findings ---- */

enum status think_note(struct thinking *thinking, const char *what, const char *value, const char *format, ...)
{
    char why[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    struct understanding *result = thinking->result;
    struct finding finding = {what, arena_copy_string(&thinking->model->arena, value),
                              arena_copy_string(&thinking->model->arena, why)};
    if (finding.value == NULL || finding.why == NULL) {
        return foreign_no_memory(thinking->model, thinking->error);
    }
    if (result->finding_count < FINDINGS_MAX) {
        result->findings[result->finding_count++] = finding;
    }
    return STATUS_OK;
}

size_t think_dimension(const struct foreign_tensor *tensor, int index)
{
    return tensor != NULL && index < tensor->shape.rank ? (size_t)tensor->shape.dimensions[index] : 0;
}

/* ---- layers ---- */

static bool is_digit(char character)
{
    return character >= '0' && character <= '9';
}

/* Moves both to where they begin to differ: to numbers of other values, or to other characters. */
static void skip_common(const char **a, const char **b)
{
    while (**a != '\0' && **b != '\0') {
        if (is_digit(**a) && is_digit(**b)) {
            char *a_end;
            char *b_end;
            if (strtoull(*a, &a_end, 10) != strtoull(*b, &b_end, 10)) {
                return;
            }
            *a = a_end;
            *b = b_end;
        } else if (**a != **b) {
            return;
        } else {
            ++*a;
            ++*b;
        }
    }
}

int compare_natural(const char *a, const char *b)
{
    skip_common(&a, &b);
    if (is_digit(*a) && is_digit(*b)) {
        return strtoull(a, NULL, 10) < strtoull(b, NULL, 10) ? -1 : 1;
    }
    return *a == *b ? 0 : (unsigned char)*a < (unsigned char)*b ? -1 : 1;
}

/* Whether a component of `longer` goes on with a number, "_1" or "1", where that of `shorter` ends. */
static bool is_only_numbered(const char *longer, const char *shorter)
{
    longer += *longer == '_' ? 1 : 0;
    size_t digits = strspn(longer, "0123456789");
    return digits > 0 && strchr("./", *shorter) != NULL && longer[digits] == *shorter;
}

/* Whether a number says which of two names comes first: "cell_0/lstm" and "cell_1/gru", "rnn" and "rnn_1"; not "lstm"
 * and "gru". */
static bool are_numbered(const char *a, const char *b)
{
    skip_common(&a, &b);
    return (is_digit(*a) && is_digit(*b)) || is_only_numbered(a, b) || is_only_numbered(b, a);
}

enum status think_layer_at(struct thinking *thinking, const char *place, size_t length, enum foreign_cell cell,
                           struct layer **ret_layer)
{
    for (size_t i = 0; i < thinking->layer_count; i++) {
        const char *known = thinking->layers[i].place;
        if (strlen(known) == length && strncmp(known, place, length) == 0) {
            *ret_layer = &thinking->layers[i];
            return STATUS_OK;
        }
    }
    if (thinking->layer_count >= LANGUAGE_MODEL_LAYERS_MAX) {
        return error_set(thinking->error, STATUS_LIMIT, "more than %d recurrent layers", LANGUAGE_MODEL_LAYERS_MAX);
    }
    char *copy = arena_allocate(&thinking->model->arena, length + 1, 1);
    if (copy == NULL) {
        return foreign_no_memory(thinking->model, thinking->error);
    }
    memcpy(copy, place, length);
    *ret_layer = &thinking->layers[thinking->layer_count++];
    **ret_layer = (struct layer){.cell = cell, .place = copy};
    return STATUS_OK;
}

static int by_place(const void *left, const void *right)
{
    const struct layer *a = left;
    const struct layer *b = right;
    return compare_natural(a->place, b->place);
}

static size_t position_of(const struct layer *layer)
{
    return layer->kernel == NULL ? SIZE_MAX : layer->kernel->position;
}

static int by_position(const void *left, const void *right)
{
    size_t a = position_of(left);
    size_t b = position_of(right);
    return a == b ? by_place(left, right) : a < b ? -1 : 1;
}

/* Orders the layers by their names' numbers, or as the file has them, where its order is a program's and numbers do not
 * say all. */
static enum status order_layers(struct thinking *thinking)
{
    struct layer *layers = thinking->layers;
    bool are_all_numbered = true;
    qsort(layers, thinking->layer_count, sizeof *layers, by_place);
    for (size_t i = 1; i < thinking->layer_count; i++) {
        are_all_numbered = are_all_numbered && are_numbered(layers[i - 1].place, layers[i].place);
    }
    if (are_all_numbered || !thinking->model->is_in_order) {
        return STATUS_OK;
    }
    qsort(layers, thinking->layer_count, sizeof *layers, by_position);
    return think_note(thinking, "order", "the file's",
                      "%.200s stands first in it, %.200s last; layers run in the order in which a program defined them",
                      layers[0].place, layers[thinking->layer_count - 1].place);
}

/* Whether what begins at layer `first` and what begins at layer `second` take as many inputs, and come to as many
 * units: then they fit either way round. */
static bool could_be_exchanged(const struct thinking *thinking, size_t first, size_t second)
{
    const struct layer *layers = thinking->layers;
    bool could_be = false;
    for (size_t a = first; a < second; a++) {
        for (size_t b = second; b < thinking->layer_count; b++) {
            could_be = could_be || layers[a].units == layers[b].units;
        }
    }
    return could_be && layers[first].inputs == layers[second].inputs;
}

/* Neither numbers nor the file may say which of two layers is the first: then sizes have to. */
static enum status check_order(const struct thinking *thinking)
{
    const struct layer *layers = thinking->layers;
    for (size_t i = 0; i < thinking->layer_count && !thinking->model->is_in_order; i++) {
        for (size_t j = i + 1; j < thinking->layer_count; j++) {
            if (!are_numbered(layers[i].place, layers[j].place) && could_be_exchanged(thinking, i, j)) {
                error_set(thinking->error, STATUS_UNPROCESSABLE,
                          "layers %.200s and %.200s fit either way round, and neither numbers in their names nor this "
                          "format say which is the first: number the names",
                          layers[i].place, layers[j].place);
                return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
            }
        }
    }
    return STATUS_OK;
}

static enum status misfit(const struct thinking *thinking, const struct layer *layer,
                          const struct foreign_tensor *tensor, const char *what)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    return error_set(thinking->error, STATUS_UNPROCESSABLE, "layer %.200s: %s %.200s of shape %s", layer->place, what,
                     tensor == NULL ? "missing" : tensor->name,
                     tensor == NULL ? "any" : shape_text(&tensor->shape, text));
}

static bool is_vector(const struct foreign_tensor *tensor, size_t length)
{
    return tensor == NULL || (tensor->shape.rank == 1 && think_dimension(tensor, 0) == length);
}

/* Sets inputs and units of a layer from its tensors' shapes, and checks that these agree. */
static enum status measure(const struct thinking *thinking, struct layer *layer)
{
    static const size_t gate_counts[] = {[FOREIGN_CELL_LSTM] = 4, [FOREIGN_CELL_GRU] = 3, [FOREIGN_CELL_RNN] = 1};
    const struct foreign_tensor *kernel = layer->kernel;
    bool is_split = layer->candidate_kernel != NULL;
    size_t gates = is_split ? 2 : gate_counts[layer->cell];
    int columns_at = thinking->layout->is_transposed ? 0 : 1;
    if (kernel == NULL || kernel->shape.rank != 2) {
        return misfit(thinking, layer, kernel, "no kernel of two dimensions:");
    }
    size_t columns = think_dimension(kernel, columns_at);
    size_t rows = think_dimension(kernel, 1 - columns_at);
    size_t units = columns / gates;
    bool fits = units > 0 && columns % gates == 0;
    if (fits && layer->recurrent == NULL) {
        fits = rows > units;
        rows -= fits ? units : 0;
    } else if (fits) {
        fits = layer->recurrent->shape.rank == 2 && think_dimension(layer->recurrent, columns_at) == columns &&
               think_dimension(layer->recurrent, 1 - columns_at) == units;
    }
    if (!fits) {
        return misfit(thinking, layer, layer->recurrent == NULL ? kernel : layer->recurrent, "sizes that do not fit:");
    }
    if (!is_vector(layer->bias, columns) || !is_vector(layer->recurrent_bias, columns)) {
        return misfit(thinking, layer, layer->bias, "a bias that does not fit:");
    }
    size_t candidate_rows = rows + (layer->recurrent == NULL ? units : 0);
    if (is_split &&
        (layer->candidate_kernel->shape.rank != 2 || think_dimension(layer->candidate_kernel, columns_at) != units ||
         think_dimension(layer->candidate_kernel, 1 - columns_at) != candidate_rows ||
         !is_vector(layer->candidate_bias, units))) {
        return misfit(thinking, layer, layer->candidate_kernel, "a candidate that does not fit:");
    }
    layer->inputs = rows;
    layer->units = units;
    return STATUS_OK;
}

static const char *cell_name(enum foreign_cell cell)
{
    static const char *const names[] = {
        [FOREIGN_CELL_LSTM] = "lstm", [FOREIGN_CELL_GRU] = "gru", [FOREIGN_CELL_RNN] = "rnn"};
    return names[cell];
}

/* Layers of one kind and size, but PyTorch's; each is fed by the one before it. */
static enum status check_stack(struct thinking *thinking)
{
    const struct layer *first = &thinking->layers[0];
    for (size_t i = 0; i < thinking->layer_count; i++) {
        const struct layer *layer = &thinking->layers[i];
        TRY(measure(thinking, &thinking->layers[i]));
        bool differs = layer->cell != first->cell || layer->units != first->units;
        if (differs && thinking->layout != &torch_layout) {
            return error_set(thinking->error, STATUS_UNSUPPORTED,
                             "layer %.200s is %s of %zu units, %.200s %s of %zu: layers of different kinds or sizes",
                             first->place, cell_name(first->cell), first->units, layer->place, cell_name(layer->cell),
                             layer->units);
        }
        if (i > 0 && layer->inputs != layer[-1].units) {
            return error_set(thinking->error, STATUS_UNSUPPORTED,
                             "layer %.200s takes %zu inputs, but the layer below it, %.200s, has %zu units",
                             layer->place, layer->inputs, layer[-1].place, layer[-1].units);
        }
    }
    return STATUS_OK;
}

static enum status note_layers(struct thinking *thinking)
{
    char text[64];
    const struct layer *first = &thinking->layers[0];
    const struct layout *layout = thinking->layout;
    TRY(think_note(thinking, "cell", cell_name(first->cell), "%s %.200s",
                   thinking->model->onnx != NULL ? "the operator that reads" : "the names of", first->kernel->name));
    snprintf(text, sizeof text, "%zu", thinking->layer_count);
    TRY(think_note(thinking, "layers", text, "%.200s to %.200s", first->place,
                   thinking->layers[thinking->layer_count - 1].place));
    snprintf(text, sizeof text, "%zu", first->units);
    char shape[SHAPE_TEXT_BYTES_MAX];
    const struct foreign_tensor *shown = first->recurrent != NULL ? first->recurrent : first->kernel;
    TRY(think_note(thinking, "units", text, "%.200s is %s", shown->name, shape_text(&shown->shape, shape)));
    return first->cell == FOREIGN_CELL_LSTM
               ? think_note(thinking, "gate order", layout->lstm_order, "%s keeps them so", layout->name)
               : STATUS_OK;
}

enum status think_check_layers(struct thinking *thinking)
{
    TRY(check_stack(thinking));
    return think_is_stack(thinking) ? STATUS_OK : note_layers(thinking);
}

/* What a naming finds, measured. */
static enum status find_named_layers(struct thinking *thinking)
{
    for (size_t i = 0; i < sizeof namings / sizeof *namings && thinking->layer_count == 0; i++) {
        if (namings[i].applies(thinking->model)) {
            thinking->layout = namings[i].layout;
            TRY(namings[i].find_layers(thinking));
        }
    }
    if (thinking->layer_count == 0) {
        return error_set(thinking->error, STATUS_UNSUPPORTED,
                         "none of its %zu tensors has the name of a recurrent layer's weights",
                         thinking->model->tensor_count);
    }
    for (size_t i = 0; i < thinking->layer_count; i++) {
        TRY(measure(thinking, &thinking->layers[i]));
    }
    return STATUS_OK;
}

static enum status find_layers(struct thinking *thinking)
{
    bool are_fewer = true;
    TRY(think_keep_root(thinking));
    while (are_fewer) {
        TRY(find_named_layers(thinking));
        TRY(think_drop_copies(thinking, &are_fewer));
    }
    TRY(tensorflow_check_graph(thinking));
    TRY(order_layers(thinking));
    TRY(think_check_layers(thinking));
    return check_order(thinking);
}

/* ---- all of it ---- */

static enum status think(struct thinking *thinking)
{
    TRY(foreign_sort_tensors(thinking->model, thinking->error));
    if (thinking->model->onnx != NULL) {
        return think_onnx(thinking);
    }
    thinking->is_used = arena_allocate(&thinking->model->arena, thinking->model->tensor_count + 1, sizeof(bool));
    if (thinking->is_used == NULL) {
        return foreign_no_memory(thinking->model, thinking->error);
    }
    if (thinking->model->keras != NULL) {
        return think_keras(thinking);
    }
    TRY(find_layers(thinking));
    if (think_is_stack(thinking)) {
        return think_stack(thinking);
    }
    TRY(think_check_cell(thinking));
    TRY(think_find_ends(thinking));
    TRY(think_find_vocabulary(thinking));
    return think_make_program(thinking);
}

/* What may be said of every model: that what is left over is ignored, and that there is no window. */
static bool is_true_anyway(const struct import_setting *row)
{
    return strcmp(row->key, "rest") == 0 || (strcmp(row->key, "window") == 0 && strcmp(row->value, "none") == 0);
}

/* A setting without effect would be taken for one that had it. */
static enum status check_all_asked(const struct thinking *thinking)
{
    for (size_t i = 0; i < thinking->settings->count; i++) {
        const struct import_setting *row = &thinking->settings->rows[i];
        if (!row->is_asked && !is_true_anyway(row)) {
            return error_set(thinking->error, STATUS_INVALID, "%s=%.60s was set, and nothing of this model asks for it",
                             row->key, row->value);
        }
    }
    return STATUS_OK;
}

enum status understand(struct foreign_model *model, struct import_settings *settings,
                       struct understanding *understanding, struct error *error)
{
    struct thinking thinking = {.model = model,
                                .settings = settings,
                                .result = understanding,
                                .is_vocabulary_given = model->is_vocabulary_given,
                                .error = error};
    *understanding = (struct understanding){.program = NULL};
    enum status status = think(&thinking);
    status = status == STATUS_OK ? check_all_asked(&thinking) : status;
    json_decref(thinking.vocabulary);
    return status;
}

void understanding_release(struct understanding *understanding)
{
    json_decref(understanding->program);
    *understanding = (struct understanding){.program = NULL};
}

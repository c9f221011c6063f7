/* PyTorch's names: PREFIX.weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 of nn.LSTM, nn.GRU and nn.RNN, layer by
 * layer; without _l0 of the single cells. AWD-LSTM's weight dropping keeps PREFIX.module.weight_hh_l0 as
 * weight_hh_l0_raw, in fastai's beside PREFIX.module, whose own is what was left of it once. Thread: the one that
 * imports. */
#include "engine/import/understanding_private.h"

const struct layout torch_layout = {
    .name = "PyTorch",
    .is_transposed = true,
    .is_output_transposed = true,
    .lstm_gates = {0, 2, 1, 3},
    .lstm_order = "i, f, g, o",
    .forget_bias_why = "PyTorch's LSTM has nothing but its stored biases",
};

#define RAW "_raw"
#define WRAPPED "module."

/* The parts of a cell. */
static const struct part {
    const char *name;
    size_t offset;
} parts[] = {
    {"weight_ih", offsetof(struct layer, kernel)},
    {"weight_hh", offsetof(struct layer, recurrent)},
    {"bias_ih", offsetof(struct layer, bias)},
    {"bias_hh", offsetof(struct layer, recurrent_bias)},
};

/* Where the last component begins. */
static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot == NULL ? name : dot + 1;
}

bool torch_names_apply(const struct foreign_model *model)
{
    for (size_t i = 0; i < model->tensor_count; i++) {
        if (strncmp(last_part(model->tensors[i].name), parts[0].name, strlen(parts[0].name)) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether the last component before `length` is "module". */
static bool is_wrapped(const char *name, size_t length)
{
    size_t wrapped = strlen(WRAPPED);
    return foreign_ends_in(name, length, WRAPPED) && (length == wrapped || name[length - wrapped - 1] == '.');
}

static enum status take_part(struct thinking *thinking, const struct foreign_tensor *tensor, const struct part *part)
{
    char place[FOREIGN_NAME_BYTES_MAX + 16];
    const char *last = last_part(tensor->name);
    const char *suffix = last + strlen(part->name);
    struct layer *layer = NULL;
    bool is_raw = foreign_ends_in(suffix, strlen(suffix), RAW);
    int suffix_length = (int)strlen(suffix) - (is_raw ? (int)strlen(RAW) : 0);
    int before = (int)(last - tensor->name);
    before -= is_wrapped(tensor->name, (size_t)before) ? (int)strlen(WRAPPED) : 0;
    if (strstr(suffix, "_reverse") != NULL) {
        return error_set(thinking->error, STATUS_UNSUPPORTED,
                         "%.300s belongs to a bidirectional layer, which cannot generate", tensor->name);
    }
    snprintf(place, sizeof place, "%.*s%.*s", before, tensor->name, suffix_length > 1 ? suffix_length - 1 : 0,
             suffix_length > 1 ? suffix + 1 : "");
    size_t length = strlen(place);
    length -= length > 0 && place[length - 1] == '.' ? 1 : 0;
    TRY(think_layer_at(thinking, place, length, FOREIGN_CELL_LSTM, &layer));
    memcpy((char *)layer + part->offset, &tensor, sizeof tensor); /* names are sorted: raw ones come last */
    thinking->is_used[tensor - thinking->model->tensors] = true;
    return STATUS_OK;
}

/* An LSTM's hidden weights have 4 rows for each column, a GRU's 3, an RNN's 1. */
static enum status decide_cell(struct thinking *thinking, struct layer *layer)
{
    size_t rows = think_dimension(layer->recurrent, 0);
    size_t columns = think_dimension(layer->recurrent, 1);
    if (columns == 0 || layer->kernel == NULL) {
        return error_set(thinking->error, STATUS_UNPROCESSABLE, "layer %.300s lacks weight_ih or weight_hh",
                         layer->place);
    }
    if (rows == 4 * columns) {
        layer->cell = FOREIGN_CELL_LSTM;
    } else if (rows == 3 * columns) {
        layer->cell = FOREIGN_CELL_GRU;
    } else if (rows == columns) {
        layer->cell = FOREIGN_CELL_RNN;
    } else {
        return error_set(thinking->error, STATUS_UNPROCESSABLE,
                         "%.300s has %zu rows and %zu columns: neither an LSTM's (4 : 1), a GRU's (3 : 1) nor an RNN's",
                         layer->recurrent->name, rows, columns);
    }
    return STATUS_OK;
}

enum status torch_find_layers(struct thinking *thinking)
{
    for (size_t i = 0; i < thinking->model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        const char *last = last_part(tensor->name);
        if (strncmp(last, "weight_hr", 9) == 0) {
            return error_set(thinking->error, STATUS_UNSUPPORTED, "%.300s belongs to an LSTM with a projection",
                             tensor->name);
        }
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
            if (strncmp(last, parts[p].name, strlen(parts[p].name)) == 0) {
                TRY(take_part(thinking, tensor, &parts[p]));
            }
        }
    }
    for (size_t i = 0; i < thinking->layer_count; i++) {
        TRY(decide_cell(thinking, &thinking->layers[i]));
    }
    return STATUS_OK;
}

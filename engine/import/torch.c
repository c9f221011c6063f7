/* Tensors inside PyTorch's pickles. Thread: the one that imports. Everything is in the model's arena.
 *
 * A tensor is a noted call: torch._utils _rebuild_tensor_v2(storage, offset, size, stride, …), in old files
 * _rebuild_tensor; a parameter is _rebuild_parameter(tensor, …). A storage is a persistent id ("storage", class, key,
 * place, elements). A module is an object whose state has _parameters, _buffers and _modules. */
#include "engine/import/torch.h"

enum { DEPTH_MAX = 24, STEPS_MAX = 200000 };

struct walk {
    struct foreign_model *model;
    const struct torch_storages *storages;
    size_t steps;
    struct error *error;
};

bool torch_storage_dtype(const char *global, enum dtype *ret_dtype, bool *ret_is_bfloat16)
{
    const char *name = global + strlen(global);
    static const struct {
        const char *name;
        enum dtype dtype;
    } rows[] = {
        {"FloatStorage", DTYPE_FLOAT32},   {"DoubleStorage", DTYPE_FLOAT64}, {"HalfStorage", DTYPE_FLOAT16},
        {"LongStorage", DTYPE_INT64},      {"IntStorage", DTYPE_INT32},      {"ShortStorage", DTYPE_INT16},
        {"CharStorage", DTYPE_INT8},       {"ByteStorage", DTYPE_UINT8},     {"BoolStorage", DTYPE_BOOL},
        {"BFloat16Storage", DTYPE_UINT16}, {"CudaStorage", DTYPE_FLOAT32}, /* Torch7's of floats */
    };
    while (name > global && name[-1] != ' ' && name[-1] != '.') {
        name--;
    }
    bool is_cuda = strncmp(name, "Cuda", 4) == 0 && strcmp(name, "CudaStorage") != 0; /* Torch7's CudaLongStorage */
    name += is_cuda ? 4 : 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(name, rows[i].name) == 0) {
            *ret_dtype = rows[i].dtype;
            *ret_is_bfloat16 = strcmp(rows[i].name, "BFloat16Storage") == 0;
            return true;
        }
    }
    return false;
}

static bool ends_in(const char *global, const char *name)
{
    const char *space = global == NULL ? NULL : strrchr(global, ' ');
    return space != NULL && strcmp(space + 1, name) == 0;
}

static bool is_tensor(const struct plain *value)
{
    return value->kind == PLAIN_CALL &&
           (ends_in(value->global, "_rebuild_tensor_v2") || ends_in(value->global, "_rebuild_tensor") ||
            ends_in(value->global, "_rebuild_tensor_v3"));
}

static bool is_parameter(const struct plain *value)
{
    return value->kind == PLAIN_CALL &&
           (ends_in(value->global, "_rebuild_parameter") || ends_in(value->global, "_rebuild_parameter_with_state") ||
            ends_in(value->global, "Parameter") || ends_in(value->global, "Variable"));
}

static enum status corrupt(const struct walk *walk, const char *name, const char *what)
{
    return error_set(walk->error, STATUS_CORRUPT, "tensor '%.200s': %s", name, what);
}

/* ---- one tensor ---- */

static enum status read_storage(const struct walk *walk, const char *name, const struct plain *storage,
                                struct torch_view *view)
{
    const struct plain *id = storage == NULL || storage->kind != PLAIN_PERSISTENT ? NULL : storage->arguments;
    const struct plain *type = plain_item(id, 1);
    const struct plain *key = plain_item(id, 2);
    char number[32];
    const char *text = plain_is_string(key) ? key->text : NULL;
    int64_t integer;
    if (plain_integer(key, &integer)) {
        snprintf(number, sizeof number, "%lld", (long long)integer);
        text = number;
    }
    if (!plain_equals(plain_item(id, 0), "storage") || type == NULL || type->kind != PLAIN_GLOBAL || text == NULL) {
        return corrupt(walk, name, "no storage");
    }
    if (!torch_storage_dtype(type->text, &view->dtype, &view->is_bfloat16)) {
        return error_set(walk->error, STATUS_UNSUPPORTED, "tensor '%.200s' lies in a %.100s", name, type->text);
    }
    return walk->storages->find(walk->storages, text, &view->bytes, &view->length, walk->error);
}

static enum status read_view(const struct walk *walk, const char *name, const struct plain *arguments,
                             struct torch_view *view)
{
    const struct plain *size = plain_item(arguments, 2);
    const struct plain *stride = plain_item(arguments, 3);
    if (!plain_integer(plain_item(arguments, 1), &view->offset) || size == NULL || size->kind != PLAIN_LIST ||
        stride == NULL || stride->kind != PLAIN_LIST || size->count != stride->count) {
        return corrupt(walk, name, "no offset, size and strides");
    }
    for (uint32_t i = 0; i < size->count; i++) {
        int64_t dimension = -1;
        int64_t step = -1;
        if (!plain_integer(size->items[i], &dimension) || !plain_integer(stride->items[i], &step) || step < 0) {
            return corrupt(walk, name, "a size or stride that is no number");
        }
        TRY(foreign_add_dimension(&view->shape, name, dimension, walk->error));
        view->strides[i] = step;
    }
    return read_storage(walk, name, plain_item(arguments, 0), view);
}

/* Whether the elements follow one another in the storage, and all lie within it. */
static enum status check_view(const char *name, const struct torch_view *view, size_t *ret_count,
                              bool *ret_is_contiguous, struct error *error)
{
    size_t elements = view->length / dtype_bytes(view->dtype);
    uint64_t last = (uint64_t)view->offset;
    uint64_t expected = 1; /* the product fits, unless there are no elements at all */
    bool is_contiguous = true;
    bool overflows = view->offset < 0 || !shape_element_count(&view->shape, ret_count);
    for (int d = view->shape.rank - 1; d >= 0 && !overflows; d--) {
        uint64_t step = 0;
        int64_t dimension = view->shape.dimensions[d];
        is_contiguous = is_contiguous && (dimension <= 1 || (uint64_t)view->strides[d] == expected);
        expected *= (uint64_t)dimension;
        overflows =
            dimension > 0 && (__builtin_mul_overflow((uint64_t)(dimension - 1), (uint64_t)view->strides[d], &step) ||
                              __builtin_add_overflow(last, step, &last));
    }
    if (overflows || (*ret_count > 0 && last >= elements)) {
        return error_set(error, STATUS_CORRUPT, "tensor '%.200s': it ends beyond its storage of %zu elements", name,
                         elements);
    }
    *ret_is_contiguous = is_contiguous;
    return STATUS_OK;
}

/* A copy in row-major order. */
static enum status gather(struct foreign_model *model, const struct torch_view *view, size_t count,
                          const unsigned char **ret_data, struct error *error)
{
    size_t item = dtype_bytes(view->dtype);
    unsigned char *data = arena_allocate(&model->arena, count, item);
    int64_t at[SHAPE_RANK_MAX] = {0};
    if (data == NULL) {
        return foreign_no_memory(model, error);
    }
    for (size_t i = 0; i < count; i++) {
        int64_t from = view->offset;
        for (int d = 0; d < view->shape.rank; d++) {
            from += at[d] * view->strides[d];
        }
        memcpy(data + i * item, view->bytes + (size_t)from * item, item);
        for (int d = view->shape.rank - 1; d >= 0 && ++at[d] == view->shape.dimensions[d]; d--) {
            at[d] = 0;
        }
    }
    *ret_data = data;
    return STATUS_OK;
}

enum status torch_add_view(struct foreign_model *model, const char *name, const struct torch_view *view,
                           struct error *error)
{
    size_t count = 0;
    bool is_contiguous = false;
    TRY(check_view(name, view, &count, &is_contiguous, error));
    size_t item = dtype_bytes(view->dtype);
    const unsigned char *data = count == 0 ? view->bytes : view->bytes + (size_t)view->offset * item;
    if (!is_contiguous && count > 0) {
        TRY(gather(model, view, count, &data, error));
    }
    return view->is_bfloat16 ? foreign_add_bfloat16(model, name, &view->shape, data, count * item, error)
                             : foreign_add_tensor(model, name, view->dtype, &view->shape, data, count * item, error);
}

static enum status add_tensor(const struct walk *walk, const char *name, const struct plain *tensor)
{
    struct torch_view view = {.offset = 0};
    TRY(read_view(walk, name, tensor->arguments, &view));
    return torch_add_view(walk->model, name, &view, walk->error);
}

/* ---- everything that holds some ---- */

static enum status visit(struct walk *walk, const char *name, const struct plain *value, size_t depth);

/* What is no part of a parameter's name. */
static bool is_wrapping(const char *key)
{
    static const char *const words[] = {"state_dict",  "model_state_dict", "model_state", "model",   "net",   "network",
                                        "_parameters", "_buffers",         "_modules",    "weights", "params"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_optimizer(const char *key)
{
    return strstr(key, "optim") != NULL || strstr(key, "scheduler") != NULL || strcmp(key, "_backward_hooks") == 0;
}

static enum status visit_items(struct walk *walk, const char *name, const struct plain *dict, size_t depth)
{
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        const struct plain *key = dict->items[i];
        const struct plain *value = dict->items[i + 1];
        if (!plain_is_string(key) || key->length > FOREIGN_NAME_BYTES_MAX || is_optimizer(key->text)) {
            continue;
        }
        const char *below = name;
        if (!is_wrapping(key->text) || is_tensor(value)) {
            below = name[0] == '\0' ? key->text : arena_format(&walk->model->arena, "%s.%s", name, key->text);
        }
        if (below == NULL) {
            return foreign_no_memory(walk->model, walk->error);
        }
        TRY(visit(walk, below, value, depth + 1));
    }
    return STATUS_OK;
}

static enum status visit(struct walk *walk, const char *name, const struct plain *value, size_t depth)
{
    if (value == NULL || depth > DEPTH_MAX) {
        return STATUS_OK;
    }
    if (++walk->steps > STEPS_MAX) {
        return error_set(walk->error, STATUS_LIMIT, "the pickle holds more than %d things", STEPS_MAX);
    }
    if (is_tensor(value)) {
        return add_tensor(walk, name, value);
    }
    if (is_parameter(value)) {
        const struct plain *inner = plain_item(value->arguments, 0);
        return visit(walk, name, inner != NULL ? inner : plain_item(value->state, 0), depth + 1);
    }
    if (value->kind == PLAIN_CALL) {
        const struct plain *mode = plain_get(value->state, "mode");
        if (plain_is_string(mode) && strncmp(mode->text, "RNN_", 4) == 0) {
            TRY(foreign_add_hint(walk->model, NULL, "activation", strcmp(mode->text, "RNN_TANH") == 0 ? "tanh" : "relu",
                                 walk->error));
        }
        return value->state != NULL && value->state->kind == PLAIN_DICT ? visit_items(walk, name, value->state, depth)
                                                                        : STATUS_OK;
    }
    return value->kind == PLAIN_DICT ? visit_items(walk, name, value, depth) : STATUS_OK;
}

enum status torch_add_tensors(struct foreign_model *model, const struct plain *root,
                              const struct torch_storages *storages, struct error *error)
{
    struct walk walk = {.model = model, .storages = storages, .error = error};
    model->is_in_order = true;
    TRY(visit(&walk, "", root, 0));
    if (root->kind == PLAIN_CALL && root->global != NULL) {
        TRY(foreign_add_hint(model, NULL, "class", root->global, error));
    }
    return foreign_add_vocabularies(model, model->entry, root, error);
}

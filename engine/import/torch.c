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
    size_t search_steps;
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

/* What is no part of a parameter's name: inside modules, and around state_dicts. */
static bool is_inside_module(const char *key)
{
    return strcmp(key, "_parameters") == 0 || strcmp(key, "_buffers") == 0 || strcmp(key, "_modules") == 0;
}

static bool is_wrapping(const char *key)
{
    static const char *const words[] = {"state_dict", "model_state_dict", "model_state", "model",
                                        "net",        "network",          "weights",     "params"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i], key) == 0) {
            return true;
        }
    }
    return is_inside_module(key);
}

static bool is_optimizer(const char *key)
{
    return strstr(key, "optim") != NULL || strstr(key, "scheduler") != NULL || strcmp(key, "_backward_hooks") == 0;
}

/* Whether it is an optimiser, or its state_dict. */
static bool is_optimizing(const struct plain *value)
{
    return plain_get(value->kind == PLAIN_CALL ? value->state : value, "param_groups") != NULL;
}

/* Whether a dictionary or object holds a recurrent layer's weights by their names. What takes too long to search holds
 * none. */
static bool holds_layers(struct walk *walk, const struct plain *value, size_t depth)
{
    if (value->kind == PLAIN_CALL && !is_tensor(value)) {
        value = value->state;
    }
    if (value == NULL || depth > DEPTH_MAX || value->kind != PLAIN_DICT || is_optimizing(value)) {
        return false;
    }
    for (uint32_t i = 0; i + 1 < value->count && walk->search_steps < STEPS_MAX; i += 2, walk->search_steps++) {
        const struct plain *key = value->items[i];
        bool is_searched = plain_is_string(key) && !is_optimizer(key->text);
        if (is_searched &&
            (strstr(key->text, "weight_hh") != NULL || holds_layers(walk, value->items[i + 1], depth + 1))) {
            return true;
        }
    }
    return false;
}

/* Whether several items of a list or dictionary hold layers: then what they are called tells one model's tensors from
 * another's. */
static bool holds_several(struct walk *walk, const struct plain *value)
{
    bool are_pairs = value->kind == PLAIN_DICT;
    size_t count = 0;
    for (uint32_t i = are_pairs ? 1 : 0; i < value->count; i += are_pairs ? 2 : 1) {
        const struct plain *key = are_pairs ? value->items[i - 1] : NULL;
        bool is_left_out = key != NULL && plain_is_string(key) && is_optimizer(key->text);
        count += !is_left_out && holds_layers(walk, value->items[i], 0) ? 1 : 0;
    }
    return count > 1;
}

static enum status visit_below(struct walk *walk, const char *name, const char *key, const struct plain *value,
                               size_t depth)
{
    const char *below = name[0] == '\0' ? key : arena_format(&walk->model->arena, "%s.%s", name, key);
    return below == NULL ? foreign_no_memory(walk->model, walk->error) : visit(walk, below, value, depth + 1);
}

static enum status visit_items(struct walk *walk, const char *name, const struct plain *dict, size_t depth)
{
    bool has_wrapping = false;
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        const struct plain *key = dict->items[i];
        has_wrapping = has_wrapping || (plain_is_string(key) && is_wrapping(key->text) && !is_inside_module(key->text));
    }
    bool are_several = has_wrapping && holds_several(walk, dict);
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        const struct plain *key = dict->items[i];
        const struct plain *value = dict->items[i + 1];
        if (!plain_is_string(key) || key->length > FOREIGN_NAME_BYTES_MAX || is_optimizer(key->text)) {
            continue;
        }
        bool is_passed = is_inside_module(key->text) || (is_wrapping(key->text) && !are_several);
        TRY(is_passed && !is_tensor(value) ? visit(walk, name, value, depth + 1)
                                           : visit_below(walk, name, key->text, value, depth));
    }
    return STATUS_OK;
}

/* A tuple or list at the root: (state_dict, char2idx), [model, criterion, optimizer]. Elsewhere lists hold the tensors
 * of a state, or of what was measured. */
static enum status visit_root_list(struct walk *walk, const struct plain *list)
{
    bool are_several = holds_several(walk, list);
    for (uint32_t i = 0; i < list->count; i++) {
        const char *name = "";
        if (are_several || is_tensor(list->items[i])) {
            name = arena_format(&walk->model->arena, "%u", i);
        }
        if (name == NULL) {
            return foreign_no_memory(walk->model, walk->error);
        }
        if (!is_optimizing(list->items[i])) {
            TRY(visit(walk, name, list->items[i], 1));
        }
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
    TRY(root->kind == PLAIN_LIST ? visit_root_list(&walk, root) : visit(&walk, "", root, 0));
    if (root->kind == PLAIN_CALL && root->global != NULL) {
        TRY(foreign_add_hint(model, NULL, "class", root->global, error));
    }
    return foreign_add_vocabularies(model, model->entry, root, error);
}

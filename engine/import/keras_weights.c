/* The tensors of Keras layers, and how they become variables. Thread: the one that imports.
 *
 * A layer's tensors are named LAYER/…/WEIGHT or LAYER/…/WEIGHT:0; in .keras files layers/CLASS_N/…/vars/NUMBER, in the
 * order of the roles below. Gates stand as Keras' layers want them (i, f, c, o; z, r, h), but for two layouts: CuDNN's,
 * told by its bias, whose blocks lie otherwise (Keras' saving.py, _convert_rnn_weights), and Keras 1's, which has a
 * tensor for each gate, LAYER/LAYER_W_i. */
#include "engine/base/check.h"
#include "engine/import/keras_private.h"

static const struct role_names {
    const char *names[4];
} roles[KERAS_ROLE_COUNT] = {
    [KERAS_ROLE_KERNEL] = {{"kernel", "embeddings", "attention_W", "W"}},
    [KERAS_ROLE_RECURRENT] = {{"recurrent_kernel", "U"}},
    [KERAS_ROLE_BIAS] = {{"bias", "b"}},
    [KERAS_ROLE_GAMMA] = {{"gamma"}},
    [KERAS_ROLE_BETA] = {{"beta"}},
    [KERAS_ROLE_MEAN] = {{"moving_mean", "running_mean"}},
    [KERAS_ROLE_VARIANCE] = {{"moving_variance", "running_std"}},
};

/* ---- finding ---- */

/* What stands behind LAYER/ in a tensor's name; NULL where it is another layer's. */
static const char *behind_layer(const struct keras_part *part, const char *name)
{
    static const char *const folders[] = {"layers/", "_layer_checkpoint_dependencies/"};
    size_t length = strlen(part->name);
    if (strncmp(name, part->name, length) == 0 && name[length] == '/') {
        return name + length + 1;
    }
    length = strlen(part->stored);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        size_t folder = strlen(folders[i]);
        if (strncmp(name, folders[i], folder) == 0 && strncmp(name + folder, part->stored, length) == 0 &&
            name[folder + length] == '/') {
            return name + folder + length + 1;
        }
    }
    return NULL;
}

static bool is_name(const char *text, size_t length, const char *name)
{
    return name != NULL && strlen(name) == length && memcmp(text, name, length) == 0;
}

/* The role that the number of a variable stands for. */
static enum keras_role numbered_role(const struct keras_part *part, size_t number)
{
    if (part->kind == KERAS_PART_NORMALIZATION) {
        return (enum keras_role)(KERAS_ROLE_GAMMA + (number < 4 ? number : 3));
    }
    return keras_part_is_recurrent(part) ? (enum keras_role)(number < 3 ? number : 2)
           : number == 0                 ? KERAS_ROLE_KERNEL
                                         : KERAS_ROLE_BIAS;
}

/* The gate that "W_i" names, KERAS_GATES_MAX where it names none. */
static size_t gate_of(const struct keras_part *part, const char *last, size_t length)
{
    const char *letters = part->kind == KERAS_PART_LSTM ? "ifco" : part->kind == KERAS_PART_GRU ? "zrh" : "";
    const char *found = length == 3 && last[1] == '_' && last[2] != '\0' ? strchr(letters, last[2]) : NULL;
    return found == NULL ? KERAS_GATES_MAX : (size_t)(found - letters);
}

/* How many bytes at the end of a component of Keras 1, "lstm_1_W" or of a gate "lstm_1_W_i", say the role: 1 or 3; 0
 * where it is none of its. The layer's name before it is another than the part's where a wrapper has it inside. */
static size_t old_role_length(const char *last, size_t length)
{
    static const char letters[] = "WUb";
    bool is_role = length > 2 && last[length - 2] == '_' && strchr(letters, last[length - 1]) != NULL;
    bool is_gate =
        length > 4 && last[length - 2] == '_' && last[length - 4] == '_' && strchr(letters, last[length - 3]) != NULL;
    return is_role ? 1 : is_gate ? 3 : 0;
}

/* Whether a name ends in vars/NUMBER, which is not a dropout's: that keeps its random state so. */
static bool is_numbered(const char *rest, const char *slash, size_t length)
{
    return slash != NULL && length == 1 && slash[1] >= '0' && slash[1] <= '9' && slash - rest >= 4 &&
           memcmp(slash - 4, "vars", 4) == 0 && strstr(rest, "seed_generator/") == NULL;
}

/* The role that the last component of a name tells, KERAS_ROLE_COUNT: none; and perhaps the gate. */
static enum keras_role role_of(const struct keras_part *part, const char *rest, size_t *ret_gate)
{
    const char *slash = strrchr(rest, '/');
    const char *last = slash == NULL ? rest : slash + 1;
    size_t length = strcspn(last, ":");
    size_t own = strlen(part->name);
    *ret_gate = KERAS_GATES_MAX;
    if (is_numbered(rest, slash, length)) {
        return numbered_role(part, (size_t)(*last - '0'));
    }
    size_t old = old_role_length(last, length);
    if (old == 0 && length > own && strncmp(last, part->name, own) == 0 && last[own] == '_') {
        old = length - own - 1; /* "batchnormalization_1_gamma" */
    }
    last += old == 0 ? 0 : length - old;
    length = old == 0 ? length : old;
    *ret_gate = gate_of(part, last, length);
    length = *ret_gate == KERAS_GATES_MAX ? length : 1;
    for (int role = 0; role < KERAS_ROLE_COUNT; role++) {
        for (size_t i = 0; i < sizeof roles[role].names / sizeof *roles[role].names; i++) {
            if (is_name(last, length, roles[role].names[i])) {
                return (enum keras_role)role;
            }
        }
    }
    return KERAS_ROLE_COUNT;
}

void keras_find_tensors(const struct thinking *thinking, const struct keras_part *part, const char *direction,
                        struct keras_tensors *ret_tensors)
{
    *ret_tensors = (struct keras_tensors){.are_gates_apart = false};
    for (size_t i = 0; i < thinking->model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        const char *rest = behind_layer(part, tensor->name);
        if (rest == NULL || (direction != NULL && strstr(rest, direction) == NULL)) {
            continue;
        }
        size_t gate = KERAS_GATES_MAX;
        enum keras_role role = role_of(part, rest, &gate);
        if (role <= KERAS_ROLE_BIAS && gate < KERAS_GATES_MAX) {
            ret_tensors->gates[role][gate] = tensor;
            ret_tensors->are_gates_apart = true;
        } else if (role != KERAS_ROLE_COUNT && ret_tensors->of[role] == NULL) {
            ret_tensors->of[role] = tensor;
        }
    }
}

const struct foreign_tensor *keras_tensor_of(const struct keras_tensors *tensors, enum keras_role role)
{
    return role <= KERAS_ROLE_BIAS && tensors->are_gates_apart ? tensors->gates[role][0] : tensors->of[role];
}

bool keras_has_tensors(const struct thinking *thinking, const struct keras_part *part)
{
    for (size_t i = 0; i < thinking->model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        if (dtype_is_float(tensor->dtype) && behind_layer(part, tensor->name) != NULL) {
            return true;
        }
    }
    return false;
}

/* ---- sizes ---- */

static size_t gates_of(const struct keras_part *part)
{
    return part->kind == KERAS_PART_LSTM ? 4 : part->kind == KERAS_PART_GRU ? 3 : 1;
}

static enum status misfit(const struct thinking *thinking, const struct keras_part *part,
                          const struct foreign_tensor *tensor, const char *what, const struct shape *wanted)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    char wanted_text[SHAPE_TEXT_BYTES_MAX];
    if (tensor == NULL) {
        return error_set(thinking->error, STATUS_UNPROCESSABLE, "layer %.100s: no %s among the %zu tensors", part->name,
                         what, thinking->model->tensor_count);
    }
    return error_set(thinking->error, STATUS_UNPROCESSABLE, "layer %.100s: %.200s is %s, the layer's %s must be %s",
                     part->name, tensor->name, shape_text(&tensor->shape, text), what, shape_text(wanted, wanted_text));
}

static enum status check_shape(const struct thinking *thinking, const struct keras_part *part,
                               const struct foreign_tensor *tensor, const char *what, const struct shape *wanted)
{
    return tensor != NULL && shape_equal(&tensor->shape, wanted) ? STATUS_OK
                                                                 : misfit(thinking, part, tensor, what, wanted);
}

/* The shapes of a gate's tensor by its role. */
static struct shape gate_shape(const struct keras_recurrent *recurrent, enum keras_role role)
{
    int64_t units = (int64_t)recurrent->units;
    return role == KERAS_ROLE_BIAS
               ? shape_vector(units)
               : shape_matrix(role == KERAS_ROLE_KERNEL ? (int64_t)recurrent->inputs : units, units);
}

static enum status check_gates(const struct thinking *thinking, const struct keras_part *part,
                               const struct keras_tensors *tensors, const struct keras_recurrent *recurrent)
{
    static const char *const names[] = {"kernel of a gate", "recurrent kernel of a gate", "bias of a gate"};
    for (int role = KERAS_ROLE_KERNEL; role <= KERAS_ROLE_BIAS; role++) {
        struct shape wanted = gate_shape(recurrent, (enum keras_role)role);
        for (size_t gate = 0; gate < gates_of(part); gate++) {
            TRY(check_shape(thinking, part, tensors->gates[role][gate], names[role], &wanted));
        }
    }
    return STATUS_OK;
}

enum status keras_measure(const struct thinking *thinking, const struct keras_part *part,
                          const struct keras_tensors *tensors, size_t inputs, struct keras_recurrent *ret_recurrent)
{
    const struct foreign_tensor *bias = tensors->of[KERAS_ROLE_BIAS];
    int64_t units = (int64_t)think_dimension(keras_tensor_of(tensors, KERAS_ROLE_RECURRENT), 0);
    units = part->units != 0 ? (int64_t)part->units : units;
    if (units <= 0 || units > LANGUAGE_MODEL_UNITS_MAX) {
        return error_set(thinking->error, STATUS_TOO_LARGE, "layer %.100s has %lld units, must be 1 to %d", part->name,
                         (long long)units, LANGUAGE_MODEL_UNITS_MAX);
    }
    if (tensors->are_gates_apart) {
        *ret_recurrent = (struct keras_recurrent){.inputs = inputs, .units = (size_t)units, .has_bias = true};
        return check_gates(thinking, part, tensors, ret_recurrent);
    }
    int64_t columns = units * (int64_t)gates_of(part);
    struct shape wanted = shape_matrix((int64_t)inputs, columns);
    TRY(check_shape(thinking, part, tensors->of[KERAS_ROLE_KERNEL], "kernel", &wanted));
    wanted = shape_matrix(units, columns);
    TRY(check_shape(thinking, part, tensors->of[KERAS_ROLE_RECURRENT], "recurrent kernel", &wanted));
    struct keras_recurrent recurrent = {
        .inputs = inputs, .units = (size_t)units, .has_bias = bias != NULL, .resets_after = part->resets_after};
    wanted = shape_vector(columns);
    if (bias != NULL && part->kind == KERAS_PART_GRU && bias->shape.rank == 2) {
        recurrent.resets_after = true;
        wanted = shape_matrix(2, columns);
    } else if (bias != NULL && part->kind != KERAS_PART_RNN && bias->shape.rank == 1 &&
               bias->shape.dimensions[0] == 2 * columns) {
        recurrent.is_cudnn = true;
        recurrent.resets_after = part->kind == KERAS_PART_GRU;
        wanted = shape_vector(2 * columns);
    } else if (bias != NULL) {
        recurrent.resets_after = false;
    }
    *ret_recurrent = recurrent;
    return bias == NULL ? STATUS_OK : check_shape(thinking, part, bias, "bias", &wanted);
}

/* ---- variables ---- */

static enum status add(struct thinking *thinking, const char *scope, const char *name, const struct shape *shape,
                       size_t gate_columns, struct weight **ret_weight)
{
    char path[256];
    snprintf(path, sizeof path, "%.200s/%.40s", scope, name);
    *ret_weight = think_add_weight(thinking, path, shape, gate_columns);
    return *ret_weight == NULL ? thinking->error->status : STATUS_OK;
}

static void use(const struct thinking *thinking, const struct foreign_tensor *tensor)
{
    thinking->is_used[tensor - thinking->model->tensors] = true;
}

enum status keras_add_plain(struct thinking *thinking, const struct keras_part *part,
                            const struct foreign_tensor *tensor, const char *scope, const char *name,
                            const struct shape *shape)
{
    struct weight *weight = NULL;
    TRY(check_shape(thinking, part, tensor, name, shape));
    TRY(add(thinking, scope, name, shape, 0, &weight));
    use(thinking, tensor);
    weight_add_part(
        weight, &(struct weight_part){.tensor = tensor, .rows = shape->rank == 1 ? 1 : (size_t)shape->dimensions[0]});
    return STATUS_OK;
}

/* Two halves of CuDNN's: added up in an LSTM, one below the other in a GRU. */
static enum status add_bias(struct thinking *thinking, const struct keras_part *part, const struct foreign_tensor *bias,
                            const struct keras_recurrent *recurrent, const char *scope)
{
    struct weight *weight = NULL;
    size_t columns = gates_of(part) * recurrent->units;
    struct shape shape = recurrent->resets_after ? shape_matrix(2, (int64_t)columns) : shape_vector((int64_t)columns);
    TRY(add(thinking, scope, "bias", &shape, recurrent->units, &weight));
    size_t rows = recurrent->resets_after && !recurrent->is_cudnn ? 2 : 1;
    weight_add_part(weight, &(struct weight_part){.tensor = bias, .rows = rows});
    if (recurrent->is_cudnn) {
        weight_add_part(weight, &(struct weight_part){.tensor = bias,
                                                      .target_row = recurrent->resets_after ? 1 : 0,
                                                      .source_column = columns,
                                                      .rows = 1});
    }
    use(thinking, bias);
    return STATUS_OK;
}

/* Of Keras 1: each gate's tensor is a block of columns. */
static enum status add_gates(struct thinking *thinking, const struct keras_part *part,
                             const struct keras_tensors *tensors, const struct keras_recurrent *recurrent,
                             const char *scope)
{
    static const char *const names[] = {"kernel", "recurrent_kernel", "bias"};
    for (int role = KERAS_ROLE_KERNEL; role <= KERAS_ROLE_BIAS; role++) {
        struct shape shape = gate_shape(recurrent, (enum keras_role)role);
        size_t rows = shape.rank == 1 ? 1 : (size_t)shape.dimensions[0];
        shape.dimensions[shape.rank - 1] *= (int64_t)gates_of(part);
        struct weight *weight = NULL;
        TRY(add(thinking, scope, names[role], &shape, recurrent->units, &weight));
        for (size_t gate = 0; gate < gates_of(part); gate++) {
            weight_add_part(weight, &(struct weight_part){.tensor = tensors->gates[role][gate],
                                                          .rows = rows,
                                                          .target_column = gate * recurrent->units,
                                                          .columns = recurrent->units});
            use(thinking, tensors->gates[role][gate]);
        }
    }
    return STATUS_OK;
}

enum status keras_add_recurrent(struct thinking *thinking, const struct keras_part *part,
                                const struct keras_tensors *tensors, const struct keras_recurrent *recurrent,
                                const char *scope)
{
    if (tensors->are_gates_apart) {
        return add_gates(thinking, part, tensors, recurrent, scope);
    }
    struct weight *weight = NULL;
    int64_t columns = (int64_t)(gates_of(part) * recurrent->units);
    struct shape shape = shape_matrix((int64_t)recurrent->inputs, columns);
    TRY(add(thinking, scope, "kernel", &shape, recurrent->units, &weight));
    weight_add_part(weight,
                    &(struct weight_part){.tensor = tensors->of[KERAS_ROLE_KERNEL],
                                          .rows = recurrent->inputs,
                                          .order = recurrent->is_cudnn ? WEIGHT_ORDER_CUDNN_INPUT : WEIGHT_ORDER_ROWS});
    use(thinking, tensors->of[KERAS_ROLE_KERNEL]);
    shape = shape_matrix((int64_t)recurrent->units, columns);
    TRY(add(thinking, scope, "recurrent_kernel", &shape, recurrent->units, &weight));
    weight_add_part(
        weight, &(struct weight_part){.tensor = tensors->of[KERAS_ROLE_RECURRENT],
                                      .rows = recurrent->units,
                                      .order = recurrent->is_cudnn ? WEIGHT_ORDER_CUDNN_RECURRENT : WEIGHT_ORDER_ROWS});
    use(thinking, tensors->of[KERAS_ROLE_RECURRENT]);
    return recurrent->has_bias ? add_bias(thinking, part, tensors->of[KERAS_ROLE_BIAS], recurrent, scope) : STATUS_OK;
}

/* The two ends of a text model: what symbols are looked up in, and what makes logits. Thread: the one that imports.
 *
 * Every choice of embedding (or none), output matrix and bias whose shapes fit the layers is weighed by the names; the
 * heaviest one is taken, and asked for when there are two. A tensor that is left over then is a part of the model that
 * was not understood, so the model is refused, unless the user says that it does not count. */
#include "engine/import/understanding_private.h"

struct choice {
    const struct foreign_tensor *embedding;
    const struct foreign_tensor *output;
    const struct foreign_tensor *bias;
    int weight;
};

struct choosing {
    struct thinking *thinking;
    struct choice best;
    size_t best_count; /* choices of that weight */
    size_t steps;
};

enum { STEPS_MAX = 2000000, STEP_BYTES = 4096 /* that are compared */ };

/* Whether a name holds a word, whatever the case. */
static bool holds(const char *name, const char *const *words)
{
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strcasestr(name, words[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* Names of a matrix and its bias that differ in their last part as such pairs do. */
static bool are_siblings(const char *matrix, const char *bias)
{
    static const char *const pairs[][2] = {
        {"kernel", "bias"}, {"weights", "biases"}, {"weight", "bias"},        {"Matrix", "Bias"}, {"W", "b"},
        {"w", "b"},         {"weights", "bias"},   {"Variable", "Variable_1"}};
    size_t matrix_length = strlen(matrix);
    size_t bias_length = strlen(bias);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t a = strlen(pairs[i][0]);
        size_t b = strlen(pairs[i][1]);
        if (matrix_length >= a && bias_length >= b && matrix_length - a == bias_length - b &&
            strcmp(matrix + matrix_length - a, pairs[i][0]) == 0 && strcmp(bias + bias_length - b, pairs[i][1]) == 0 &&
            memcmp(matrix, bias, matrix_length - a) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether two are one, as tied weights and copies that were kept are; what is compared counts as steps. */
static bool find_same(struct choosing *choosing, const struct foreign_tensor *a, const struct foreign_tensor *b)
{
    size_t count = 0;
    if (a != NULL && b != NULL && a->data != b->data && shape_element_count(&a->shape, &count)) {
        choosing->steps += count * dtype_bytes(a->dtype) / STEP_BYTES;
    }
    return foreign_are_same(a, b);
}

static bool are_same_choice(struct choosing *choosing, const struct choice *a, const struct choice *b)
{
    return find_same(choosing, a->embedding, b->embedding) && find_same(choosing, a->output, b->output) &&
           find_same(choosing, a->bias, b->bias);
}

static void weigh(struct choosing *choosing, const struct choice *choice)
{
    static const char *const embedding_words[] = {"embed", "encoder", "lookup", "emb.", NULL};
    static const char *const output_words[] = {"softmax", "out",    "decoder", "logit", "dense",
                                               "fc",      "linear", "proj",    NULL};
    enum { SIBLINGS = 8, HAS_BIAS = 4, EMBEDDING_NAME = 2, OUTPUT_NAME = 1 };
    int weight = choice->bias != NULL ? HAS_BIAS : 0;
    weight += choice->bias != NULL && are_siblings(choice->output->name, choice->bias->name) ? SIBLINGS : 0;
    weight += choice->embedding != NULL && holds(choice->embedding->name, embedding_words) ? EMBEDDING_NAME : 0;
    weight += holds(choice->output->name, output_words) ? OUTPUT_NAME : 0;
    if (choosing->best_count == 0 || weight > choosing->best.weight) {
        choosing->best = *choice;
        choosing->best.weight = weight;
        choosing->best_count = 1;
    } else if (weight == choosing->best.weight && !are_same_choice(choosing, choice, &choosing->best)) {
        choosing->best_count++;
    }
}

/* Whether a setting leaves this tensor: none was made, or it names it. */
static bool is_allowed(const struct thinking *thinking, const char *key, const struct foreign_tensor *tensor)
{
    const char *name = think_setting(thinking, key);
    return name == NULL || (tensor != NULL && strcmp(name, tensor->name) == 0) ||
           (tensor == NULL && strcmp(name, "none") == 0);
}

static size_t symbols_of(const struct thinking *thinking, const struct foreign_tensor *output)
{
    return think_dimension(output, thinking->layout->is_output_transposed ? 0 : 1);
}

static bool can_be_output(const struct thinking *thinking, const struct foreign_tensor *tensor)
{
    size_t units = thinking->layers[0].units;
    return tensor->shape.rank == 2 &&
           think_dimension(tensor, thinking->layout->is_output_transposed ? 1 : 0) == units &&
           symbols_of(thinking, tensor) > 1 && is_allowed(thinking, "output", tensor);
}

/* Tries the free tensors as bias of a choice, and none. */
static void try_biases(struct choosing *choosing, struct choice *choice)
{
    const struct thinking *thinking = choosing->thinking;
    size_t symbols = symbols_of(thinking, choice->output);
    choice->bias = NULL;
    weigh(choosing, choice);
    for (size_t i = 0; i < thinking->model->tensor_count && choosing->steps < STEPS_MAX; i++, choosing->steps++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        if (!thinking->is_used[i] && tensor->shape.rank == 1 && think_dimension(tensor, 0) == symbols) {
            choice->bias = tensor;
            weigh(choosing, choice);
        }
    }
}

/* Whether a matrix was said to be both ends. */
static bool is_said_tied(const struct thinking *thinking, const struct foreign_tensor *tensor)
{
    return think_setting(thinking, "output") != NULL && think_setting(thinking, "embedding") != NULL &&
           is_allowed(thinking, "output", tensor) && is_allowed(thinking, "embedding", tensor);
}

static void try_embeddings(struct choosing *choosing, const struct foreign_tensor *output)
{
    const struct thinking *thinking = choosing->thinking;
    struct choice choice = {.output = output};
    size_t inputs = thinking->layers[0].inputs;
    size_t symbols = symbols_of(thinking, output);
    if (inputs == symbols && is_allowed(thinking, "embedding", NULL)) {
        try_biases(choosing, &choice);
    }
    for (size_t i = 0; i < thinking->model->tensor_count && choosing->steps < STEPS_MAX; i++, choosing->steps++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        bool is_tied = tensor == output && is_said_tied(thinking, tensor);
        if (!thinking->is_used[i] && (tensor != output || is_tied) && tensor->shape.rank == 2 &&
            think_dimension(tensor, 0) == symbols && think_dimension(tensor, 1) == inputs &&
            is_allowed(thinking, "embedding", tensor)) {
            choice.embedding = tensor;
            try_biases(choosing, &choice);
        }
    }
}

/* A matrix that could be both ends, where symbols are rows of both; NULL: there is none. */
static const struct foreign_tensor *find_both_ends(const struct thinking *thinking)
{
    for (size_t i = 0; i < thinking->model->tensor_count && thinking->layout->is_output_transposed; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        if (!thinking->is_used[i] && can_be_output(thinking, tensor) &&
            think_dimension(tensor, 1) == thinking->layers[0].inputs) {
            return tensor;
        }
    }
    return NULL;
}

static enum status no_ends(const struct thinking *thinking)
{
    const struct layer *first = &thinking->layers[0];
    const struct foreign_tensor *both = find_both_ends(thinking);
    size_t free_count = 0;
    for (size_t i = 0; i < thinking->model->tensor_count; i++) {
        free_count += thinking->is_used[i] ? 0 : 1;
    }
    if (both != NULL) {
        error_set(thinking->error, STATUS_UNPROCESSABLE,
                  "%.200s could be embedding or output, and nothing is there for the other: if it is both, say --set "
                  "output=%.200s --set embedding=%.200s",
                  both->name, both->name, both->name);
        return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
    }
    return error_set(thinking->error, STATUS_UNPROCESSABLE,
                     "no output layer fits: of its other %zu tensors none is a matrix of %zu units and as many symbols "
                     "as the first layer takes (%zu inputs one-hot, or an embedding of %zu)",
                     free_count, first->units, first->inputs, first->inputs);
}

static enum status ambiguous(const struct thinking *thinking, const struct choosing *choosing)
{
    error_set(thinking->error, STATUS_UNPROCESSABLE,
              "%zu choices of embedding, output matrix and bias fit equally well, one of them %.200s and %.200s: say "
              "--set output=NAME, --set embedding=NAME (or none)",
              choosing->best_count, choosing->best.embedding == NULL ? "none" : choosing->best.embedding->name,
              choosing->best.output->name);
    return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
}

enum status think_note_ends(struct thinking *thinking)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    const struct foreign_tensor *embedding = thinking->embedding;
    if (embedding == NULL) {
        TRY(think_note(thinking, "input", "one-hot", "the first layer takes %zu inputs, as many as there are symbols",
                       thinking->layers[0].inputs));
    } else {
        TRY(think_note(thinking, "input", "embedding", "%.200s is %s, and the first layer takes %zu inputs",
                       embedding->name, shape_text(&embedding->shape, text), thinking->layers[0].inputs));
    }
    return think_note(thinking, "output", thinking->output->name, "%s, from %zu units to %zu symbols; bias %.200s",
                      shape_text(&thinking->output->shape, text), thinking->layers[0].units, thinking->symbol_count,
                      thinking->output_bias == NULL ? "none: zeros" : thinking->output_bias->name);
}

/* Whether a choice of the user's left it out: it could be an end by its shape. */
static bool is_left_out(const struct thinking *thinking, const struct foreign_tensor *tensor)
{
    bool is_chosen = think_setting(thinking, "output") != NULL || think_setting(thinking, "embedding") != NULL;
    return is_chosen && (shape_equal(&tensor->shape, &thinking->output->shape) ||
                         (thinking->embedding != NULL && shape_equal(&tensor->shape, &thinking->embedding->shape)) ||
                         (tensor->shape.rank == 1 && think_dimension(tensor, 0) == thinking->symbol_count));
}

/* Single numbers count steps and the like, whole ones are no weights. */
static bool is_weight(const struct foreign_tensor *tensor)
{
    size_t count = 0;
    return shape_element_count(&tensor->shape, &count) && count > 1 && dtype_is_float(tensor->dtype);
}

static enum status check_rest(const struct thinking *thinking)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    bool is_checked = think_setting(thinking, "rest") == NULL;
    for (size_t i = 0; is_checked && i < thinking->model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        if (!thinking->is_used[i] && is_weight(tensor) && !foreign_are_same(tensor, thinking->embedding) &&
            !foreign_are_same(tensor, thinking->output) && !foreign_are_same(tensor, thinking->output_bias) &&
            !is_left_out(thinking, tensor)) {
            error_set(thinking->error, STATUS_UNPROCESSABLE,
                      "%.200s of shape %s belongs to no recurrent layer, and is neither embedding nor output (%.200s): "
                      "the model does more than is understood; if nothing depends on it, say --set rest=ignored",
                      tensor->name, shape_text(&tensor->shape, text), thinking->output->name);
            return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
        }
    }
    return STATUS_OK;
}

enum status think_find_ends(struct thinking *thinking)
{
    struct choosing choosing = {.thinking = thinking};
    for (size_t i = 0; i < thinking->model->tensor_count && choosing.steps < STEPS_MAX; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        if (!thinking->is_used[i] && can_be_output(thinking, tensor)) {
            try_embeddings(&choosing, tensor);
        }
    }
    if (choosing.steps >= STEPS_MAX) {
        error_set(thinking->error, STATUS_UNPROCESSABLE,
                  "too many tensors could be embedding, output matrix and bias: say --set output=NAME, --set "
                  "embedding=NAME (or none)");
        return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
    }
    if (choosing.best_count == 0) {
        return no_ends(thinking);
    }
    if (choosing.best_count > 1) {
        return ambiguous(thinking, &choosing);
    }
    thinking->embedding = choosing.best.embedding;
    thinking->output = choosing.best.output;
    thinking->output_bias = choosing.best.bias;
    thinking->symbol_count = symbols_of(thinking, thinking->output);
    TRY(think_note_ends(thinking));
    return check_rest(thinking);
}

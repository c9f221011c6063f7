/* Steps that say what a graph is for and what of it is kept: saver, signature. Thread: the building one. Owns
 * nothing. */
#include "engine/nn/generate_signature.h"
#include "engine/nn/saver.h"
#include "engine/store/program_private.h"

/* ---- saver ---- */

/* {"key":variable,…} */
static enum status read_keyed(struct builder *builder, const json_t *object, const struct place *place,
                              struct saver_options *options)
{
    const char **keys = NULL;
    const struct variable **variables = NULL;
    const char *key;
    json_t *value;
    TRY(builder_scratch(builder, json_object_size(object), sizeof(const char *), &keys));
    TRY(builder_scratch(builder, json_object_size(object), sizeof(const struct variable *), &variables));
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        struct place item = {.above = place, .field = key};
        const struct variable **one = NULL;
        size_t count = 0;
        TRY(read_variables(builder, value, &item, &one, &count));
        if (count != 1) {
            return refuse_place(builder, &item, "must name one variable");
        }
        keys[options->count] = key;
        variables[options->count++] = one[0];
    }
    options->keys = keys;
    options->variables = variables;
    return STATUS_OK;
}

static enum status apply_saver(struct builder *builder, const struct step *step)
{
    const json_t *list = json_object_get(step->json, "var_list");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "var_list"};
    struct saver_options options = {.has_variables = list != NULL && !json_is_null(list)};
    const struct variable **variables = NULL;
    uint32_t saver = 0;
    TRY(read_text(builder, step, "name", &options.name));
    TRY(read_flag(builder, step, "reshape", &options.reshapes));
    if (json_is_object(list)) {
        TRY(read_keyed(builder, list, &place, &options));
    } else if (options.has_variables) {
        TRY(read_variables(builder, list, &place, &variables, &options.count));
        options.variables = variables;
    }
    TRY(saver_create(builder->graph, &options, &saver, builder->error));
    struct handle handle = handle_object(OBJECT_SAVER, saver);
    builder_give(builder, &handle);
    return STATUS_OK;
}

/* ---- signature ---- */

/* Tensors by what a signature calls them: {"symbol":"x:0","state":["c0:0","h0:0"]}, as a list with names. */
static enum status read_ends(struct builder *builder, const struct step *step, const char *field,
                             struct handle *ret_handle)
{
    const json_t *object = json_object_get(step->json, field);
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    struct handle *items = NULL;
    const char **names = NULL;
    const char *key;
    json_t *value;
    size_t at = 0;
    if (!json_is_object(object) || json_object_size(object) > HANDLE_ITEMS_MAX) {
        return refuse_place(builder, &place, "must be an object of tensors by name");
    }
    TRY(builder_scratch(builder, json_object_size(object), sizeof *items, &items));
    TRY(builder_scratch(builder, json_object_size(object), sizeof(const char *), &names));
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        struct place item = {.above = &place, .field = key};
        struct output *outputs = NULL;
        size_t count = 0;
        TRY(read_tensors(builder, value, &item, &outputs, &count));
        struct handle *tensors = NULL;
        TRY(builder_scratch(builder, count, sizeof *tensors, &tensors));
        for (size_t i = 0; i < count; i++) {
            if (outputs[i].node == NULL) {
                return refuse_place(builder, &item, "must not have null among its tensors");
            }
            tensors[i] = handle_tensor(outputs[i]);
        }
        bool is_list = json_is_array(value) || count != 1;
        items[at] = is_list ? (struct handle){.kind = HANDLE_LIST, .items = tensors, .count = count} : tensors[0];
        names[at++] = key;
    }
    *ret_handle = (struct handle){.kind = HANDLE_LIST, .items = items, .names = names, .count = at};
    return STATUS_OK;
}

struct fed_tensor {
    struct output output;
    size_t input; /* whose it is */
};

/* By node, then output, then input. */
static int compare_fed(const void *left, const void *right)
{
    const struct fed_tensor *a = left, *b = right;
    uintptr_t node_a = (uintptr_t)a->output.node, node_b = (uintptr_t)b->output.node;
    if (node_a != node_b) {
        return node_a < node_b ? -1 : 1;
    }
    if (a->output.index != b->output.index) {
        return a->output.index < b->output.index ? -1 : 1;
    }
    return a->input < b->input ? -1 : a->input > b->input;
}

/* A tensor is fed once: under two names it would have two values. */
static enum status check_inputs_differ(struct builder *builder, const struct step *step, const struct handle *inputs)
{
    size_t count = 0;
    struct fed_tensor *fed = NULL;
    for (size_t i = 0; i < inputs->count; i++) {
        count += inputs->items[i].kind == HANDLE_LIST ? inputs->items[i].count : 1;
    }
    TRY(builder_scratch(builder, count, sizeof *fed, &fed));
    for (size_t i = 0, at = 0; i < inputs->count; i++) {
        const struct handle *end = &inputs->items[i];
        bool is_list = end->kind == HANDLE_LIST;
        for (size_t j = 0; j < (is_list ? end->count : 1); j++) {
            fed[at++] = (struct fed_tensor){.output = (is_list ? &end->items[j] : end)->output, .input = i};
        }
    }
    qsort(fed, count, sizeof *fed, compare_fed);
    for (size_t i = 1; i < count; i++) {
        if (fed[i].output.node == fed[i - 1].output.node && fed[i].output.index == fed[i - 1].output.index) {
            struct place at_step = {.field = step->path};
            struct place place = {.above = &at_step, .field = "inputs"};
            struct place item = {.above = &place, .field = inputs->names[fed[i].input]};
            return refuse_place(builder, &item, "has a tensor that is in '%.60s' already: it can be fed once",
                                inputs->names[fed[i - 1].input]);
        }
    }
    return STATUS_OK;
}

/* What has just been signed must make text, as far as can be told before there are weights. */
static enum status check_generate(struct builder *builder, const struct step *step, bool has_vocabulary)
{
    struct generate_signature *signature = NULL;
    TRY(builder_scratch(builder, 1, sizeof *signature, &signature));
    TRY(generate_signature_read(builder->graph, signature, builder->error));
    if (!has_vocabulary) {
        return STATUS_OK;
    }
    TRY(take_vocabulary(builder, step));
    size_t size = vocabulary_size(builder->result.vocabulary);
    if (signature->symbol_count != 0 && signature->symbol_count != size) {
        error_set(builder->error, STATUS_UNPROCESSABLE, "a vocabulary of %zu symbols for %zu scores", size,
                  signature->symbol_count);
        return error_code(builder->error, "cannot_generate"), STATUS_UNPROCESSABLE;
    }
    return check_vocabulary(builder);
}

static enum status apply_signature(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {"name", "inputs", "outputs"};
    const char *name = NULL;
    struct handle items[3];
    TRY(need_text(builder, step, "name", &name));
    items[0] = (struct handle){.kind = HANDLE_TEXT, .text = name};
    TRY(read_ends(builder, step, "inputs", &items[1]));
    TRY(read_ends(builder, step, "outputs", &items[2]));
    TRY(builder_give_list(builder, items, names, 3));
    TRY(graph_add_to_own_collection(builder->graph, COLLECTION_SIGNATURES, &builder->made, builder->error));
    bool has_vocabulary = json_object_get(step->json, "vocabulary") != NULL;
    if (strcmp(name, GENERATE_SIGNATURE_NAME) == 0) {
        return check_generate(builder, step, has_vocabulary);
    }
    TRY(check_inputs_differ(builder, step, &items[1]));
    return has_vocabulary ? refuse_field(builder, step, "vocabulary", "belongs to the signature generate alone")
                          : STATUS_OK;
}

const struct step_kind program_saver_steps[] = {
    {"saver", "var_list reshape name", apply_saver, NULL},
    {"signature", "name inputs outputs vocabulary", apply_signature, NULL},
    {NULL, NULL, NULL, NULL},
};

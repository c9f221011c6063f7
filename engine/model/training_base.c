/* Taking, fitting and adopting the graph and weights that a training begins with. */
#include "engine/model/training_base.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/nn/language_model.h"
#include "engine/store/program.h"
#include "engine/text/symbol_table.h"

/* ---- taking ---- */

static enum status no_language_model(struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE, "there is no language_model to train");
    return error_code(error, "no_language_model"), STATUS_UNPROCESSABLE;
}

/* A copy of the model's own content; nothing while it waits for its vocabulary. */
static enum status copy_content(struct model *model, struct version_content *content, struct error *error)
{
    enum status status = STATUS_OK;
    model_lock_shared(model);
    if (model->waiting_specification == NULL) {
        status = values_copy(session_values(model->session), &content->values, error);
    }
    if (status == STATUS_OK && content->values != NULL) {
        content->graph = graph_ref(session_graph(model->session));
        content->programs = json_incref(model->programs);
        content->vocabulary = model->vocabulary == NULL ? NULL : vocabulary_ref(model->vocabulary);
    }
    model_unlock(model);
    return status;
}

static enum status take(struct model *model, const struct training_start *start, struct training_base *base,
                        struct error *error)
{
    struct version_content *content = &base->content;
    bool has_own_graph = start->version_path == NULL;
    if (has_own_graph && !start->is_scratch && start->policy == VOCABULARY_POLICY_FIXED) {
        return STATUS_OK;
    }
    TRY(has_own_graph ? copy_content(model, content, error)
                      : version_content_read(start->version_path, VERSION_USE_LIVE, content, error));
    if (content->graph == NULL) {
        return start->policy == VOCABULARY_POLICY_BYTES
                   ? error_set(error, STATUS_INVALID, "vocabulary_policy bytes: model %s has no vocabulary yet",
                               model->name)
                   : STATUS_OK;
    }
    if (content->vocabulary == NULL) {
        return no_language_model(error);
    }
    base->kind = vocabulary_kind(content->vocabulary);
    if (start->policy == VOCABULARY_POLICY_BYTES && base->kind == VOCABULARY_WORDS) {
        return error_set(error, STATUS_INVALID, "vocabulary_policy bytes: words cannot become bytes");
    }
    base->kind = start->policy == VOCABULARY_POLICY_BYTES ? VOCABULARY_BYTES : base->kind;
    return STATUS_OK;
}

enum status training_base_take(struct model *model, const struct training_start *start, struct training_base *ret_base,
                               struct error *error)
{
    struct training_base base = {.content.graph = NULL};
    enum status status = take(model, start, &base, error);
    if (status != STATUS_OK) {
        training_base_release(&base);
        return status;
    }
    *ret_base = base;
    return STATUS_OK;
}

/* Whether the model's graph is the one these programs make, perhaps built on since: two that were made alike, in two
 * lives of the process, were not made by the same programs. The job alone changes them now. */
static bool is_built_of(const struct model *model, const json_t *programs)
{
    bool is_same =
        model->waiting_specification == NULL && json_array_size(model->programs) >= json_array_size(programs);
    for (size_t i = 0; is_same && i < json_array_size(programs); i++) {
        is_same = json_equal(json_array_get(model->programs, i), json_array_get(programs, i));
    }
    return is_same;
}

enum status training_base_take_checkpoint(struct model *model, const char *path, struct training_base *ret_base,
                                          struct error *error)
{
    CHECK(model->is_training);
    struct training_base base = {.content.graph = NULL};
    TRY(version_content_read(path, VERSION_USE_LIVE, &base.content, error));
    if (is_built_of(model, base.content.programs)) {
        training_base_release(&base);
        return STATUS_OK;
    }
    if (base.content.vocabulary == NULL) {
        training_base_release(&base);
        return no_language_model(error);
    }
    base.kind = vocabulary_kind(base.content.vocabulary);
    *ret_base = base;
    return STATUS_OK;
}

void training_base_release(struct training_base *base)
{
    version_content_release(&base->content);
    json_decref(base->waiting_specification);
}

enum status training_base_choose(const struct training_base *base, const struct training_start *start,
                                 const struct corpus *corpus, struct vocabulary **ret_vocabulary, struct error *error)
{
    struct vocabulary *own = base->content.vocabulary;
    if (start->policy == VOCABULARY_POLICY_FIXED) {
        *ret_vocabulary = vocabulary_ref(own);
        return STATUS_OK;
    }
    bool is_extended = start->policy == VOCABULARY_POLICY_EXTEND;
    return corpus_make_vocabulary(corpus, is_extended ? own : NULL, &start->limits, ret_vocabulary, error);
}

/* ---- fitting ---- */

/* Rows of one vocabulary found in another. */
struct row_map {
    uint32_t *old_rows; /* [new_count] SYMBOL_NONE: there is none */
    size_t old_count;
    size_t new_count;
};

static enum status make_map(const struct vocabulary *old, const struct vocabulary *new, struct row_map *ret_map,
                            struct error *error)
{
    struct row_map map = {.old_count = vocabulary_size(old), .new_count = vocabulary_size(new)};
    map.old_rows = mem_allocate(map.new_count, sizeof *map.old_rows);
    if (map.old_rows == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary of %zu symbols", map.new_count);
    }
    for (uint32_t id = 0; id < map.new_count; id++) {
        size_t length;
        const char *symbol = vocabulary_symbol(new, id, &length);
        map.old_rows[id] = vocabulary_find(old, symbol, length);
    }
    *ret_map = map;
    return STATUS_OK;
}

/* The dimension along which a variable of a language model has a row for each symbol; −1: none. */
static int vocabulary_axis(const struct language_model_options *options, const char *name)
{
    if (strcmp(name, "softmax/w") == 0) {
        return 1;
    }
    if (strcmp(name, "softmax/b") == 0 || strcmp(name, "embedding") == 0) {
        return 0;
    }
    size_t length = strlen(name);
    bool is_kernel = length > 7 && strcmp(name + length - 7, "/kernel") == 0;
    return options->embedding == 0 && is_kernel && strstr(name, "/cell_0/") != NULL ? 0 : -1;
}

/* Copies the rows that both have, and what stands behind the symbols' rows. */
static void copy_rows(const struct tensor *old, const struct tensor *new, int axis, const struct row_map *map)
{
    size_t outer = 1;
    size_t inner = 1;
    for (int i = 0; i < old->shape.rank; i++) {
        size_t size = (size_t)old->shape.dimensions[i];
        outer *= i < axis ? size : 1;
        inner *= i > axis ? size : 1;
    }
    size_t old_rows = (size_t)old->shape.dimensions[axis];
    size_t new_rows = (size_t) new->shape.dimensions[axis];
    for (size_t block = 0; block < outer; block++) {
        const float *from = (const float *)old->data + block * old_rows * inner;
        float *to = (float *)new->data + block *new_rows *inner;
        for (size_t row = 0; row < new_rows; row++) {
            size_t source = row < map->new_count ? map->old_rows[row] : map->old_count + (row - map->new_count);
            if (source != SYMBOL_NONE) {
                memcpy(to + row * inner, from + source * inner, inner * sizeof *to);
            }
        }
    }
}

static enum status refuse_variable(const char *name, struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE,
              "variable %s is not one of the language model's as it is built anew: its vocabulary stays as it is",
              name);
    return error_code(error, "not_extensible"), STATUS_UNPROCESSABLE;
}

static enum status copy_weights(const struct version_content *old, struct version_content *new,
                                const struct language_model_options *options, const struct row_map *map,
                                struct error *error)
{
    for (size_t i = 0; i < graph_variable_count(old->graph); i++) {
        const struct variable *variable = graph_variable(old->graph, i);
        const char *name = variable->node->name;
        const struct variable *same = graph_find_variable(new->graph, name);
        const struct tensor *tensor = values_tensor(old->values, variable);
        if (variable->is_slot || tensor == NULL || (same == NULL && !variable->is_trainable)) {
            continue;
        }
        int axis = vocabulary_axis(options, name);
        struct tensor *target = same == NULL ? NULL : values_tensor(new->values, same);
        if (target == NULL) {
            return refuse_variable(name, error);
        }
        struct shape expected = tensor->shape;
        if (axis >= 0 && axis < expected.rank) {
            expected.dimensions[axis] += (int64_t)map->new_count - (int64_t)map->old_count;
        }
        if (tensor->dtype != DTYPE_FLOAT32 || !shape_equal(&expected, &target->shape)) {
            return refuse_variable(name, error);
        }
        if (axis >= 0) {
            copy_rows(tensor, target, axis, map);
        } else {
            memcpy(target->data, tensor->data, tensor_bytes(target));
        }
    }
    return STATUS_OK;
}

/* The language model alone, built anew in a model of its own. */
static enum status build(const struct language_model_options *options, const struct vocabulary *vocabulary,
                         uint64_t seed, struct version_content *ret_content, struct error *error)
{
    struct model *model = NULL;
    json_t *symbols = NULL;
    json_t *specification = language_model_options_to_json(options);
    enum status status = vocabulary_to_json(vocabulary, &symbols, error);
    if (status == STATUS_OK && json_object_set_new(specification, "vocabulary", symbols) != 0) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory to build a language model");
    }
    if (status == STATUS_OK) {
        status = model_create("training", &model, error);
    }
    if (status == STATUS_OK) {
        status = model_make_language_model(model, specification, seed, error);
    }
    if (status == STATUS_OK) {
        status = copy_content(model, ret_content, error);
    }
    json_decref(specification);
    model_unref(model);
    return status;
}

enum status training_base_fit(struct training_base *base, const struct training_start *start,
                              struct vocabulary *vocabulary, uint64_t seed, struct error *error)
{
    struct version_content *content = &base->content;
    struct language_model_options options;
    struct version_content built = {.graph = NULL};
    struct row_map map = {.old_rows = NULL};
    bool has_other = content->graph != NULL && !vocabulary_equal(vocabulary, content->vocabulary);
    if (content->graph == NULL || (!has_other && !start->is_scratch)) {
        return STATUS_OK;
    }
    if (!language_model_find(content->graph, &options)) {
        return no_language_model(error);
    }
    options.has_train_head = options.has_predict_head = true;
    enum status status = build(&options, vocabulary, seed, &built, error);
    if (status == STATUS_OK && !start->is_scratch) {
        status = make_map(content->vocabulary, vocabulary, &map, error);
        if (status == STATUS_OK) {
            status = copy_weights(content, &built, &options, &map, error);
        }
    }
    mem_free(map.old_rows);
    if (status != STATUS_OK) {
        version_content_release(&built);
        return status;
    }
    version_content_release(content);
    *content = built;
    return STATUS_OK;
}

void training_base_adopt(struct training_base *base, struct model *model)
{
    if (base->content.graph == NULL) {
        return;
    }
    CHECK(model->is_training);
    model_lock_alone(model);
    base->is_adopted = true;
    base->was_unsaved = model->is_unsaved;
    base->base_version = model->base_version;
    base->waiting_specification = json_incref(model->waiting_specification);
    model_fill(model, &base->content, 0);
    model_note_change(model);
    model_unlock(model);
}

void training_base_put_back(struct training_base *base, struct model *model)
{
    if (!base->is_adopted) {
        return;
    }
    CHECK(model->is_training);
    model_lock_alone(model);
    model_fill(model, &base->content, base->base_version);
    model->is_unsaved = base->was_unsaved;
    model->waiting_specification = base->waiting_specification;
    base->waiting_specification = NULL;
    base->is_adopted = false;
    model_unlock(model);
}

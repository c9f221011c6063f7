/* Taking, fitting and adopting the graph and weights that a training begins with. */
#include "engine/model/training_base.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/nn/language_model.h"
#include "engine/store/program.h"
#include "engine/text/symbol_table.h"

/* ---- taking ---- */

/* Of its own: the model's programs are changed in place. */
static enum status copy_content(struct model *model, struct version_content *content, json_t **ret_waiting,
                                struct error *error)
{
    model_lock_shared(model);
    content->graph = graph_ref(session_graph(model->session));
    content->programs = json_deep_copy(model->programs);
    content->vocabulary = model->vocabulary == NULL ? NULL : vocabulary_ref(model->vocabulary);
    *ret_waiting = json_deep_copy(model->waiting_specification);
    bool is_whole = content->programs != NULL && (*ret_waiting != NULL) == (model->waiting_specification != NULL);
    enum status status =
        is_whole ? values_copy(session_values(model->session), &content->values, error) : model_no_memory(model, error);
    model_unlock(model);
    return status;
}

static enum status copy_model(struct model *model, struct model **ret_copy, struct error *error)
{
    struct version_content content = {.graph = NULL};
    json_t *waiting = NULL;
    TRY(model_create(model->name, ret_copy, error));
    enum status status = copy_content(model, &content, &waiting, error);
    if (status == STATUS_OK) {
        model_fill(*ret_copy, &content, 0);
        (*ret_copy)->waiting_specification = waiting;
        waiting = NULL;
    }
    json_decref(waiting);
    version_content_release(&content);
    return status;
}

/* What the text is made of. `start` NULL: a resume. */
static enum status find_text(struct training_base *base, const struct training_start *start, struct error *error)
{
    const struct model *model = base->model;
    bool takes_bytes = start != NULL && start->policy == VOCABULARY_POLICY_BYTES;
    if (model->waiting_specification != NULL) {
        return takes_bytes ? error_set(error, STATUS_INVALID, "vocabulary_policy bytes: model %s has no vocabulary yet",
                                       model->name)
                           : vocabulary_to_come_from_json(json_object_get(model->waiting_specification, "vocabulary"),
                                                          &base->kind, &base->limits, error);
    }
    if (model->vocabulary == NULL) {
        return model_no_language_model(model, error);
    }
    base->kind = vocabulary_kind(model->vocabulary);
    if (takes_bytes && base->kind == VOCABULARY_WORDS) {
        return error_set(error, STATUS_INVALID, "vocabulary_policy bytes: words cannot become bytes");
    }
    base->kind = takes_bytes ? VOCABULARY_BYTES : base->kind;
    return STATUS_OK;
}

static enum status take(struct model *model, const struct training_start *start, struct training_base *base,
                        struct error *error)
{
    TRY(start->version_path == NULL
            ? copy_model(model, &base->model, error)
            : model_create_from_version(model->name, start->version_path, 0, &base->model, error));
    base->is_replacing = base->model->waiting_specification == NULL &&
                         (start->version_path != NULL || start->is_scratch || start->policy != VOCABULARY_POLICY_FIXED);
    return find_text(base, start, error);
}

/* `ret_base` gets what was taken; what was not is released. */
static enum status give(enum status status, struct training_base *base, struct training_base *ret_base)
{
    if (status == STATUS_OK) {
        *ret_base = *base;
    } else {
        training_base_release(base);
    }
    return status;
}

enum status training_base_take(struct model *model, const struct training_start *start, struct training_base *ret_base,
                               struct error *error)
{
    CHECK(model->is_training);
    struct training_base base = {.model = NULL};
    return give(take(model, start, &base, error), &base, ret_base);
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

static enum status take_checkpoint(struct model *model, const char *path, struct training_base *base,
                                   struct error *error)
{
    TRY(model_create_from_version(model->name, path, 0, &base->model, error));
    base->is_replacing = !is_built_of(model, base->model->programs);
    if (!base->is_replacing) {
        base->model = model_unref(base->model);
        TRY(copy_model(model, &base->model, error));
    }
    return find_text(base, NULL, error);
}

enum status training_base_take_checkpoint(struct model *model, const char *path, struct training_base *ret_base,
                                          struct error *error)
{
    CHECK(model->is_training);
    struct training_base base = {.model = NULL};
    return give(take_checkpoint(model, path, &base, error), &base, ret_base);
}

void training_base_release(struct training_base *base)
{
    base->model = model_unref(base->model);
}

enum status training_base_choose(const struct training_base *base, const struct training_start *start,
                                 const struct corpus *corpus, struct vocabulary **ret_vocabulary, struct error *error)
{
    struct vocabulary *own = base->model->vocabulary;
    if (base->model->waiting_specification != NULL) {
        return corpus_make_vocabulary(corpus, NULL, &base->limits, ret_vocabulary, error);
    }
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

static enum status copy_weights(const struct model *old, struct model *new,
                                const struct language_model_options *options, const struct row_map *map,
                                struct error *error)
{
    const struct graph *graph = session_graph(old->session);
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        const char *name = variable->node->name;
        const struct variable *same = graph_find_variable(session_graph(new->session), name);
        const struct tensor *tensor = values_tensor(session_values(old->session), variable);
        if (variable->is_slot || tensor == NULL || (same == NULL && !variable->is_trainable)) {
            continue;
        }
        int axis = vocabulary_axis(options, name);
        struct tensor *target = same == NULL ? NULL : values_tensor(session_values(new->session), same);
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

/* The language model alone, built anew. */
static enum status build(const char *name, const struct language_model_options *options,
                         const struct vocabulary *vocabulary, uint64_t seed, struct model **ret_model,
                         struct error *error)
{
    json_t *symbols = NULL;
    json_t *specification = language_model_options_to_json(options);
    enum status status = vocabulary_to_json(vocabulary, &symbols, error);
    if (status == STATUS_OK && json_object_set_new(specification, "vocabulary", symbols) != 0) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory to build a language model");
    }
    if (status == STATUS_OK) {
        status = model_create(name, ret_model, error);
    }
    if (status == STATUS_OK) {
        status = model_make_language_model(*ret_model, specification, seed, error);
    }
    json_decref(specification);
    return status;
}

enum status training_base_fit(struct training_base *base, const struct training_start *start,
                              struct vocabulary *vocabulary, uint64_t seed, struct error *error)
{
    struct model *model = base->model;
    struct model *built = NULL;
    struct language_model_options options;
    struct row_map map = {.old_rows = NULL};
    if (model->waiting_specification != NULL ||
        (vocabulary_equal(vocabulary, model->vocabulary) && !start->is_scratch)) {
        return STATUS_OK;
    }
    if (!language_model_find(session_graph(model->session), &options)) {
        return model_no_language_model(model, error);
    }
    options.has_train_head = options.has_predict_head = true;
    enum status status = build(model->name, &options, vocabulary, seed, &built, error);
    if (status == STATUS_OK && !start->is_scratch) {
        status = make_map(model->vocabulary, vocabulary, &map, error);
        if (status == STATUS_OK) {
            status = copy_weights(model, built, &options, &map, error);
        }
    }
    mem_free(map.old_rows);
    if (status == STATUS_OK) {
        base->model = built;
        base->is_replacing = true;
        built = model;
    }
    model_unref(built);
    return status;
}

/* ---- adopting ---- */

/* All that a model has, which is of no use any more. */
static struct version_content take_out(struct model *model)
{
    struct version_content content = {.graph = graph_ref(session_graph(model->session)),
                                      .values = session_swap_values(model->session, NULL),
                                      .programs = model->programs,
                                      .vocabulary = model->vocabulary};
    model->programs = NULL;
    model->vocabulary = NULL;
    return content;
}

/* The model goes on with its graph, as it was built on; `content` gets what it had. The lock is held alone. */
static void grow(struct model *model, struct version_content *content)
{
    json_t *programs = model->programs;
    struct vocabulary *vocabulary = model->vocabulary;
    bool is_changed = json_array_size(content->programs) > json_array_size(programs);
    content->values = session_swap_values(model->session, content->values);
    CHECK(session_adopt(model->session, content->graph, NULL) == STATUS_OK); /* these have room for its variables */
    model->programs = content->programs;
    model->vocabulary = content->vocabulary;
    content->programs = programs;
    content->vocabulary = vocabulary;
    json_decref(model->waiting_specification);
    model->waiting_specification = NULL;
    if (is_changed) {
        model_note_change(model);
    }
}

void training_base_adopt(struct training_base *base, struct model *model)
{
    struct version_content content = take_out(base->model);
    CHECK(pthread_mutex_lock(&model->building) == 0); /* a build that began before the job did ends, refused */
    CHECK(model->is_training);
    model_lock_alone(model);
    if (base->is_replacing) {
        model_fill(model, &content, 0);
        model_note_change(model);
    } else {
        grow(model, &content);
    }
    model_unlock(model);
    CHECK(pthread_mutex_unlock(&model->building) == 0);
    version_content_release(&content);
    training_base_release(base);
}

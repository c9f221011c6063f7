/* The training job's door into its model: what is trained is built in a model of the job's own, and trained values are
 * copied aside; the live model's lock is taken only to put pointers in place. Thread: the job's. */
#include "engine/model/model_training.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/nn/language_model.h"
#include "engine/store/graph_file.h"
#include "engine/store/program.h"

/* Applies one step as an ordinary program. */
static enum status apply_step(struct model *model, json_t *step, struct error *error)
{
    json_t *request = step == NULL ? NULL : json_pack("{s:[o]}", "program", step);
    if (request == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to build model %s", model->name);
    }
    enum status status = model_build(model, request, NULL, NULL, error);
    json_decref(request);
    return status;
}

static enum status build_waiting(struct model *model, struct vocabulary *vocabulary, struct error *error)
{
    json_t *step = json_deep_copy(model->waiting_specification);
    json_t *symbols = NULL;
    enum status status = vocabulary_to_json(vocabulary, &symbols, error);
    if (status != STATUS_OK || step == NULL) {
        json_decref(step);
        return status == STATUS_OK ? error_set(error, STATUS_NO_MEMORY, "no memory to build model %s", model->name)
                                   : status;
    }
    json_object_set_new(step, "op", json_string("language_model"));
    json_object_set_new(step, "vocabulary", symbols);
    TRY(apply_step(model, step, error));
    json_decref(model->waiting_specification);
    model->waiting_specification = NULL;
    return STATUS_OK;
}

/* The step as a program has it. */
static json_t *step_to_json(const struct train_step_options *options, const char *loss)
{
    struct train_step_options usual = train_step_defaults(options->optimizer.kind);
    json_t *json = json_pack("{s:s, s:s}", "op", optimizer_name(options->optimizer.kind), "loss", loss);
    const char *name = NULL;
    bool is_flag = false;
    for (size_t i = 0; json != NULL && (name = train_step_field(i, &is_flag)) != NULL; i++) {
        double number = train_step_get(options, i);
        double otherwise = train_step_get(&usual, i);
        if (number < otherwise || number > otherwise) {
            json_object_set_new(json, name, is_flag ? json_boolean(number > 0) : json_real(number));
        }
    }
    return json;
}

/* Adds the train head where it is missing, then the training step. */
static enum status build_training(struct model *model, const struct train_step_options *step, const char *loss,
                                  struct error *error)
{
    struct language_model_options options;
    if (!language_model_find(session_graph(model->session), &options)) {
        return model_no_language_model(model, error);
    }
    if (!options.has_train_head) {
        json_t *vocabulary = NULL;
        TRY(vocabulary_to_json(model->vocabulary, &vocabulary, error));
        json_t *head = language_model_options_to_json(&options);
        json_t *more =
            json_pack("{s:s, s:o, s:[s]}", "op", "language_model", "vocabulary", vocabulary, "heads", "train");
        json_object_update(head, more);
        json_decref(more);
        TRY(apply_step(model, head, error));
    }
    return apply_step(model, step_to_json(step, loss), error);
}

static enum status copy_out(struct model *model, const struct train_step_options *step, const char *loss_name,
                            struct model_training *training, struct error *error)
{
    struct output loss;
    TRY(graph_clone(session_graph(model->session), &training->graph, error));
    TRY(graph_find_output(training->graph, loss_name, &loss, error));
    /* Finds what was built. */
    TRY(train_step_build(training->graph, loss, step, &training->step, error));
    return graph_file_format(model->programs, &training->graph_json, &training->graph_json_bytes, error);
}

static enum status prepare(struct model *model, struct vocabulary *vocabulary, const struct train_step_options *step,
                           const char *loss, uint64_t seed, struct model_training *training, struct error *error)
{
    if (model->waiting_specification != NULL) {
        TRY(build_waiting(model, vocabulary, error));
    }
    CHECK(model->vocabulary != NULL && vocabulary_equal(model->vocabulary, vocabulary));
    TRY(build_training(model, step, loss, error));
    TRY(model_initialize(model, seed, error));
    TRY(values_copy(session_values(model->session), &training->values, error));
    return copy_out(model, step, loss, training, error);
}

enum status model_training_prepare(struct model *model, struct vocabulary *vocabulary,
                                   const struct train_step_options *step, bool smooths_labels, uint64_t seed,
                                   struct model_training *ret_training, struct error *error)
{
    const char *loss = smooths_labels ? "train/smoothed_loss:0" : "train/loss:0";
    struct model_training training = {.graph = NULL};
    enum status status = prepare(model, vocabulary, step, loss, seed, &training, error);
    if (status != STATUS_OK) {
        model_training_release(&training);
        return status;
    }
    *ret_training = training;
    return STATUS_OK;
}

void model_training_release(struct model_training *training)
{
    graph_unref(training->graph);
    values_destroy(training->values);
    mem_free(training->graph_json);
    *training = (struct model_training){.graph = NULL};
}

enum status model_hand_back(struct model *model, const struct values *values, struct error *error)
{
    struct values *copy = NULL;
    TRY(values_copy(values, &copy, error));
    model_lock_alone(model);
    struct values *old = session_swap_values(model->session, copy);
    model_note_change(model);
    model_unlock(model);
    values_destroy(old);
    return STATUS_OK;
}

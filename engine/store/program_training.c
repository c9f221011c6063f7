/* Steps of training: gradients, clipping, optimisers. Thread: the building one. Owns nothing. */
#include "engine/base/check.h"
#include "engine/graph/function.h"
#include "engine/graph/gradients.h"
#include "engine/nn/clip.h"
#include "engine/nn/train_step.h"
#include "engine/store/program_private.h"

/* Tensors of a field, or gradients, of which some may be None; a single one counts as a list of one. Absent: none. */
static enum status read_list(struct builder *builder, const struct step *step, const char *field, bool takes_none,
                             struct output **ret_outputs, size_t *ret_count)
{
    const json_t *json = json_object_get(step->json, field);
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    if (json == NULL || json_is_null(json)) {
        return STATUS_OK;
    }
    return takes_none ? read_tensors_and_none(builder, json, &place, ret_outputs, ret_count)
                      : read_tensors(builder, json, &place, ret_outputs, ret_count);
}

/* A list of tensors as a handle, None for what is not there. */
static enum status list_of(struct builder *builder, const struct output *outputs, size_t count,
                           struct handle *ret_handle)
{
    struct handle *items = NULL;
    TRY(builder_scratch(builder, count, sizeof *items, &items));
    for (size_t i = 0; i < count; i++) {
        items[i] = outputs[i].node == NULL ? (struct handle){.kind = HANDLE_NONE} : handle_tensor(outputs[i]);
    }
    *ret_handle = (struct handle){.kind = HANDLE_LIST, .items = items, .count = count};
    return STATUS_OK;
}

/* Variables count as what is read of them, so that gradients by them are those of every reading. */
static enum status apply_gradients_step(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {"list"};
    struct gradient_options options = {.name = NULL};
    struct output *ys = NULL;
    struct output *xs = NULL;
    struct output *grad_ys = NULL;
    struct output *stops = NULL;
    struct output *gradients = NULL;
    size_t grad_y_count = 0;
    struct handle list;
    TRY(read_list(builder, step, "ys", false, &ys, &options.y_count));
    TRY(read_list(builder, step, "xs", false, &xs, &options.x_count));
    TRY(read_list(builder, step, "grad_ys", true, &grad_ys, &grad_y_count));
    TRY(read_list(builder, step, "stop_gradients", false, &stops, &options.stop_count));
    TRY(read_text(builder, step, "unconnected_gradients", &options.unconnected));
    TRY(read_text(builder, step, "name", &options.name));
    if (ys == NULL || xs == NULL) {
        return refuse_field(builder, step, ys == NULL ? "ys" : "xs", "must be given: a list of tensors");
    }
    if (grad_ys != NULL && grad_y_count != options.y_count) {
        return refuse_field(builder, step, "grad_ys", "must be as long as \"ys\"");
    }
    options.ys = ys;
    options.xs = xs;
    options.grad_ys = grad_ys;
    options.stop_gradients = stops;
    TRY(builder_scratch(builder, options.x_count, sizeof *gradients, &gradients));
    TRY(graph_gradients_with(builder->graph, &options, gradients, builder->error));
    TRY(list_of(builder, gradients, options.x_count, &list));
    return builder_give_list(builder, &list, names, 1);
}

/* ---- clipping ---- */

/* A tensor's name, or a number as a constant of `dtype`. */
static enum status read_scalar(struct builder *builder, const struct step *step, const char *field, enum dtype dtype,
                               struct output *ret_output)
{
    const json_t *json = json_object_get(step->json, field);
    if (json_is_number(json)) {
        return graph_add_number(builder->graph, NULL, dtype, json_number_value(json), ret_output, builder->error);
    }
    return read_tensor_field(builder, step, field, ret_output);
}

static enum status read_clipped(struct builder *builder, const struct step *step, struct output **ret_tensors,
                                size_t *ret_count)
{
    const json_t *json = json_object_get(step->json, "tensors");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "tensors"};
    const struct handle *handle = NULL;
    if (json_is_string(json)) {
        TRY(read_handle(builder, json, &place, &handle));
    }
    if (!json_is_array(json) && (handle == NULL || handle->kind != HANDLE_LIST)) {
        return raise_place(builder, &place, EXCEPTION_TYPE, "t_list should be a sequence");
    }
    return read_tensors_and_none(builder, json, &place, ret_tensors, ret_count);
}

static enum status apply_clip_by_global_norm(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {"list", "norm"};
    struct output *tensors = NULL;
    struct output *clipped = NULL;
    struct output clip_norm = {.node = NULL};
    struct output use_norm = {.node = NULL};
    struct handle items[2];
    const char *name = NULL;
    enum dtype dtype = DTYPE_FLOAT32;
    size_t count = 0;
    TRY(read_clipped(builder, step, &tensors, &count));
    for (size_t i = count; i > 0; i--) {
        dtype = tensors[i - 1].node == NULL ? dtype : output_type(tensors[i - 1])->dtype;
    }
    TRY(read_text(builder, step, "name", &name));
    TRY(read_scalar(builder, step, "clip_norm", dtype, &clip_norm));
    TRY(read_scalar(builder, step, "use_norm", dtype, &use_norm));
    if (clip_norm.node == NULL) {
        return refuse_field(builder, step, "clip_norm", "must be given: a number or a tensor");
    }
    TRY(builder_scratch(builder, count, sizeof *clipped, &clipped));
    TRY(clip_by_global_norm(builder->graph, tensors, count, clip_norm, use_norm, name, clipped, &items[1].output,
                            builder->error));
    items[1] = handle_tensor(items[1].output);
    TRY(list_of(builder, clipped, count, &items[0]));
    return builder_give_list(builder, items, names, 2);
}

/* ---- optimisers ---- */

/* What the numbers of any optimiser are called, and what a training step over a loss takes besides. */
#define OPTIMIZER_FIELDS "beta1 beta2 epsilon momentum decay initial_accumulator_value use_nesterov centered"
#define STEP_FIELDS " clips_values decays_weights adds_noise"

/* {"op":"adam","loss":…}: the training step over a loss that training jobs use. */
static enum status apply_train_step(struct builder *builder, const struct step *step)
{
    enum optimizer_kind kind = OPTIMIZER_SGD;
    struct output loss = {.node = NULL};
    struct train_step ignored;
    const char *field = NULL;
    bool is_flag = false;
    CHECK(optimizer_kind_from_name(step->op, &kind));
    struct train_step_options options = train_step_defaults(kind);
    TRY(check_fields(builder, step, "loss " OPTIMIZER_FIELDS STEP_FIELDS));
    TRY(need_tensor_field(builder, step, "loss", &loss));
    for (size_t i = 0; (field = train_step_field(i, &is_flag)) != NULL; i++) {
        double number = train_step_get(&options, i);
        bool flag = number > 0;
        TRY(is_flag ? read_flag(builder, step, field, &flag) : read_number(builder, step, field, &number));
        train_step_set(&options, i, is_flag ? (double)flag : number);
    }
    if (kind == OPTIMIZER_ADAMW && !options.decays_weights) {
        return refuse_field(builder, step, "decays_weights", "adamw without it is adam");
    }
    return train_step_build(builder->graph, loss, &options, &ignored, builder->error);
}

static enum status read_rate(struct builder *builder, const struct step *step, struct optimizer_options *options)
{
    const json_t *rate = json_object_get(step->json, "learning_rate");
    struct place place = {.field = step->path};
    if (rate == NULL && options->kind != OPTIMIZER_ADAM) {
        return raise_place(builder, &place, EXCEPTION_TYPE,
                           "__init__() missing 1 required positional argument: 'learning_rate'");
    }
    return json_is_string(rate) ? read_tensor_field(builder, step, "learning_rate", &options->rate)
                                : read_number(builder, step, "learning_rate", &options->learning_rate);
}

static enum status apply_optimizer(struct builder *builder, const struct step *step)
{
    enum optimizer_kind kind = OPTIMIZER_SGD;
    uint32_t optimizer = 0;
    if (json_object_get(step->json, "loss") != NULL) {
        return apply_train_step(builder, step);
    }
    TRY(check_fields(builder, step, "learning_rate " OPTIMIZER_FIELDS " name"));
    CHECK(optimizer_kind_from_name(step->op, &kind));
    struct optimizer_options options = optimizer_defaults(kind);
    if (kind == OPTIMIZER_MOMENTUM && json_object_get(step->json, "momentum") == NULL) {
        struct place place = {.field = step->path};
        return raise_place(builder, &place, EXCEPTION_TYPE,
                           "__init__() missing 1 required positional argument: 'momentum'");
    }
    TRY(read_rate(builder, step, &options));
    TRY(read_text(builder, step, "name", &options.name));
    TRY(read_number(builder, step, "beta1", &options.beta1));
    TRY(read_number(builder, step, "beta2", &options.beta2));
    TRY(read_number(builder, step, "epsilon", &options.epsilon));
    TRY(read_number(builder, step, "momentum", &options.momentum));
    TRY(read_number(builder, step, "decay", &options.decay));
    TRY(read_number(builder, step, "initial_accumulator_value", &options.initial_accumulator));
    TRY(read_flag(builder, step, "use_nesterov", &options.uses_nesterov));
    TRY(read_flag(builder, step, "centered", &options.is_centered));
    TRY(optimizer_create(builder->graph, &options, &optimizer, builder->error));
    struct handle handle = handle_object(OBJECT_OPTIMIZER, optimizer);
    builder_give(builder, &handle);
    return STATUS_OK;
}

/* The variables of a field; NULL: not there. */
static enum status read_variable_list(struct builder *builder, const struct step *step, const char *field,
                                      const struct variable ***ret_variables, size_t *ret_count)
{
    const json_t *json = json_object_get(step->json, field);
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    if (json == NULL || json_is_null(json)) {
        return STATUS_OK;
    }
    return read_variables(builder, json, &place, ret_variables, ret_count);
}

static enum status read_global_step(struct builder *builder, const struct step *step,
                                    const struct variable **ret_variable)
{
    const json_t *json = json_object_get(step->json, "global_step");
    return json == NULL || json_is_null(json) ? STATUS_OK : need_variable(builder, step, "global_step", ret_variable);
}

static enum status give_operation(struct builder *builder, struct node *node)
{
    struct handle handle = handle_operation(node);
    builder_give(builder, &handle);
    return STATUS_OK;
}

static enum status apply_minimize(struct builder *builder, const struct step *step)
{
    struct minimize_options options = {.name = NULL};
    const struct variable **variables = NULL;
    struct node *operation = NULL;
    uint32_t optimizer = 0;
    TRY(need_object(builder, step, "optimizer", OBJECT_OPTIMIZER, &optimizer));
    TRY(need_tensor_field(builder, step, "loss", &options.loss));
    TRY(read_variable_list(builder, step, "var_list", &variables, &options.variable_count));
    TRY(read_global_step(builder, step, &options.global_step));
    TRY(read_text(builder, step, "name", &options.name));
    options.variables = variables;
    TRY(optimizer_minimize(builder->graph, optimizer, &options, &operation, builder->error));
    return give_operation(builder, operation);
}

static enum status apply_compute_gradients(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {"gradients", "variables"};
    const struct variable **given = NULL;
    const struct output *gradients = NULL;
    const struct variable *const *variables = NULL;
    struct handle *items = NULL;
    struct output loss = {.node = NULL};
    struct handle lists[2];
    uint32_t optimizer = 0;
    size_t count = 0;
    TRY(need_object(builder, step, "optimizer", OBJECT_OPTIMIZER, &optimizer));
    TRY(need_tensor_field(builder, step, "loss", &loss));
    TRY(read_variable_list(builder, step, "var_list", &given, &count));
    TRY(optimizer_compute_gradients(builder->graph, optimizer, loss, given, count, &gradients, &variables, &count,
                                    builder->error));
    TRY(list_of(builder, gradients, count, &lists[0]));
    TRY(builder_scratch(builder, count, sizeof *items, &items));
    for (size_t i = 0; i < count; i++) {
        items[i] = handle_variable(variables[i]);
    }
    lists[1] = (struct handle){.kind = HANDLE_LIST, .items = items, .count = count};
    return builder_give_list(builder, lists, names, 2);
}

static enum status apply_apply_gradients(struct builder *builder, const struct step *step)
{
    struct apply_options options = {.name = NULL};
    struct output *gradients = NULL;
    const struct variable **variables = NULL;
    struct node *operation = NULL;
    uint32_t optimizer = 0;
    size_t gradient_count = 0;
    TRY(need_object(builder, step, "optimizer", OBJECT_OPTIMIZER, &optimizer));
    TRY(read_list(builder, step, "gradients", true, &gradients, &gradient_count));
    TRY(read_variable_list(builder, step, "variables", &variables, &options.count));
    TRY(read_global_step(builder, step, &options.global_step));
    TRY(read_text(builder, step, "name", &options.name));
    if (gradient_count != options.count) {
        return refuse_field(builder, step, "gradients", "must be as long as \"variables\"");
    }
    options.gradients = gradients;
    options.variables = variables;
    TRY(optimizer_apply_gradients(builder->graph, optimizer, &options, &operation, builder->error));
    return give_operation(builder, operation);
}

/* optimizer.get_slot(variable, "m"); null without. */
static enum status apply_get_slot(struct builder *builder, const struct step *step)
{
    const struct variable *variable = NULL;
    const char *name = NULL;
    uint32_t optimizer = 0;
    TRY(need_object(builder, step, "optimizer", OBJECT_OPTIMIZER, &optimizer));
    TRY(need_variable(builder, step, "var", &variable));
    TRY(need_text(builder, step, "name", &name));
    const struct variable *slot = optimizer_slot(builder->graph, optimizer, variable, name);
    struct handle handle = slot == NULL ? (struct handle){.kind = HANDLE_NONE} : handle_variable(slot);
    builder_give(builder, &handle);
    return STATUS_OK;
}

const struct step_kind program_training_steps[] = {
    {"gradients", "ys xs grad_ys stop_gradients unconnected_gradients name", apply_gradients_step, NULL},
    {"clip_by_global_norm", "tensors clip_norm use_norm name", apply_clip_by_global_norm, NULL},
    {"sgd", "loss learning_rate name" STEP_FIELDS, apply_optimizer, NULL},
    {"momentum", "loss learning_rate momentum use_nesterov name" STEP_FIELDS, apply_optimizer, NULL},
    {"adam", "loss learning_rate beta1 beta2 epsilon name" STEP_FIELDS, apply_optimizer, NULL},
    {"adamw", "loss beta1 beta2 epsilon" STEP_FIELDS, apply_train_step, NULL},
    {"rmsprop", "loss learning_rate decay momentum epsilon centered initial_accumulator_value name" STEP_FIELDS,
     apply_optimizer, NULL},
    {"adagrad", "loss learning_rate initial_accumulator_value name" STEP_FIELDS, apply_optimizer, NULL},
    {"minimize", "optimizer loss var_list global_step name", apply_minimize, NULL},
    {"compute_gradients", "optimizer loss var_list", apply_compute_gradients, NULL},
    {"apply_gradients", "optimizer gradients variables global_step name", apply_apply_gradients, NULL},
    {"get_slot", "optimizer var name", apply_get_slot, NULL},
    {NULL, NULL, NULL, NULL},
};

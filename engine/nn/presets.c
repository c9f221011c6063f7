/* The table of presets. Thread: any. Owns nothing but constants.
 *
 * Where the Penn Treebank tutorial and char-rnn sum gradients over the steps of a window, ours are of the mean: what
 * they clip to is divided by those steps, and the tutorial's rate of plain descent multiplied, which makes the same
 * updates. RMSProp divides the gradient's scale out again, so char-rnn's rate stays. What else differs from the
 * programs is in daemon/training.md. */
#include "engine/nn/presets.h"

/* clang-format off */
static const struct preset PRESETS[] = {
    /* github.com/karpathy/char-rnn, train.lua: the defaults of its options; forget gates' biases filled with 1, and
     * params:uniform(-0.08, 0.08). The decay begins after epoch 10. Its line grad_params:div(opt.seq_length) is
     * commented out: it clips sums over 50 steps to ±5. github.com/torch/optim, rmsprop.lua: mean squares m begin
     * with 0, and the gradient is divided by √m + 1e-8, of our mean gradients √m + 2e-10. Ours is √(m + ε): with ε =
     * (2e-10)² they have the same ends, and differ by less than 1 % where √m is above 2e-8. */
    {"char-rnn",
     "{\"cell\":\"lstm\",\"layers\":2,\"units\":128,\"dropout\":0,\"forget_bias\":1,\"initial_range\":0.08}",
     "{\"batch\":50,\"sequence_length\":50,\"epochs\":50,\"clip_norm\":null,\"clip_value\":0.1,\"dropout\":0,"
     "\"validation_fraction\":0.05,\"seed\":123,\"evaluate_every_steps\":1000,"
     "\"optimizer\":{\"name\":\"rmsprop\",\"learning_rate\":0.002,\"decay\":0.95,\"epsilon\":4e-20,"
     "\"initial_accumulator_value\":0},"
     "\"schedule\":{\"name\":\"step\",\"after_epochs\":10,\"every_epochs\":1,\"factor\":0.97}}"},
    /* github.com/jcjohnson/torch-rnn, train.lua and doc/flags.md: the defaults; LSTM.lua: forget gates' biases of 1;
     * scripts/preprocess.py: a tenth for validation, the last one for the test. Its criterion is a mean over all. */
    {"torch-rnn",
     "{\"cell\":\"lstm\",\"layers\":2,\"units\":128,\"embedding\":64,\"dropout\":0,\"forget_bias\":1}",
     "{\"batch\":50,\"sequence_length\":50,\"epochs\":50,\"clip_norm\":null,\"clip_value\":5,\"dropout\":0,"
     "\"validation_fraction\":0.1,\"test_fraction\":0.1,\"evaluate_every_steps\":1000,"
     "\"optimizer\":{\"name\":\"adam\",\"learning_rate\":0.002},"
     "\"schedule\":{\"name\":\"step\",\"after_epochs\":0,\"every_epochs\":5,\"factor\":0.5}}"},
    /* github.com/udacity/deep-learning, intro-to-rnns/Anna_KaRNNa.ipynb: the cell "Hyperparameters" and
     * build_optimizer's grad_clip. */
    {"anna",
     "{\"cell\":\"lstm\",\"layers\":2,\"units\":512,\"dropout\":0.5,\"forget_bias\":1}",
     "{\"batch\":100,\"sequence_length\":100,\"epochs\":20,\"clip_norm\":5,\"dropout\":0.5,"
     "\"validation_fraction\":0.1,\"optimizer\":{\"name\":\"adam\",\"learning_rate\":0.001},"
     "\"schedule\":{\"name\":\"constant\"}}"},
    /* Zaremba, Sutskever, Vinyals 2014, section 4.1, as github.com/tensorflow/models, tutorials/rnn/ptb/ptb_word_lm.py,
     * has it: SmallConfig, MediumConfig, LargeConfig; forget_bias=0.0 in its BasicLSTMCell. */
    {"ptb-small",
     "{\"cell\":\"lstm\",\"layers\":2,\"units\":200,\"embedding\":200,\"dropout\":0,"
     "\"forget_bias\":0,\"initial_range\":0.1,\"vocabulary\":{\"kind\":\"words\"}}",
     "{\"batch\":20,\"sequence_length\":20,\"epochs\":13,\"clip_norm\":0.25,\"dropout\":0,"
     "\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":20},"
     "\"schedule\":{\"name\":\"step\",\"after_epochs\":4,\"every_epochs\":1,\"factor\":0.5}}"},
    {"ptb-medium",
     "{\"cell\":\"lstm\",\"layers\":2,\"units\":650,\"embedding\":650,\"dropout\":0.5,\"input_dropout\":true,"
     "\"forget_bias\":0,\"initial_range\":0.05,\"vocabulary\":{\"kind\":\"words\"}}",
     "{\"batch\":20,\"sequence_length\":35,\"epochs\":39,\"clip_norm\":0.14285714285714285,\"dropout\":0.5,"
     "\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":35},"
     "\"schedule\":{\"name\":\"step\",\"after_epochs\":6,\"every_epochs\":1,\"factor\":0.8}}"},
    {"ptb-large",
     "{\"cell\":\"lstm\",\"layers\":2,\"units\":1500,\"embedding\":1500,\"dropout\":0.65,\"input_dropout\":true,"
     "\"forget_bias\":0,\"initial_range\":0.04,\"vocabulary\":{\"kind\":\"words\"}}",
     "{\"batch\":20,\"sequence_length\":35,\"epochs\":55,\"clip_norm\":0.2857142857142857,\"dropout\":0.65,"
     "\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":35},"
     "\"schedule\":{\"name\":\"step\",\"after_epochs\":14,\"every_epochs\":1,\"factor\":0.8695652173913043}}"},
};
/* clang-format on */
enum { PRESET_COUNT = sizeof PRESETS / sizeof *PRESETS };

const struct preset *preset_at(size_t index)
{
    return index < PRESET_COUNT ? &PRESETS[index] : NULL;
}

static enum status find(const json_t *name, const struct preset **ret_preset, struct error *error)
{
    char names[160] = "";
    size_t length = 0;
    for (size_t i = 0; i < PRESET_COUNT; i++) {
        if (json_is_string(name) && strcmp(json_string_value(name), PRESETS[i].name) == 0) {
            *ret_preset = &PRESETS[i];
            return STATUS_OK;
        }
        length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", i == 0 ? "" : ", ", PRESETS[i].name);
    }
    error_set(error, STATUS_INVALID, "preset must be one of %s", names);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "preset");
    }
    return STATUS_INVALID;
}

/* What an object is of: an optimiser or schedule, a vocabulary. */
static const char *kind_of(const json_t *object)
{
    const json_t *name = json_object_get(object, "name");
    return json_string_value(name != NULL ? name : json_object_get(object, "kind"));
}

/* The request's field, with what the preset has beside. A string is an object of that name alone. */
static json_t *complete(const json_t *given, json_t *preset)
{
    const char *kind = json_is_string(given) ? json_string_value(given) : kind_of(given);
    const char *usual = kind_of(preset);
    bool is_same = usual != NULL && (kind == NULL ? json_is_object(given) : strcmp(kind, usual) == 0);
    json_t *whole = is_same && json_is_string(given) ? json_object() : json_copy((json_t *)(uintptr_t)given);
    if (is_same) {
        json_object_update_missing(whole, preset);
    }
    return whole;
}

enum status preset_expand(const json_t *request, enum preset_part part, json_t **ret_request, struct error *error)
{
    const json_t *name = json_object_get(request, "preset");
    const struct preset *preset = NULL;
    TRY(name == NULL ? STATUS_OK : find(name, &preset, error));
    json_t *whole = json_copy((json_t *)(uintptr_t)request);
    json_object_del(whole, "preset");
    json_t *fields =
        preset == NULL ? json_object() : json_loads(part == PRESET_MODEL ? preset->model : preset->training, 0, NULL);
    int failed = whole == NULL || fields == NULL ? -1 : 0;
    const char *key;
    json_t *value;
    json_object_foreach(fields, key, value)
    {
        const json_t *given = json_object_get(whole, key);
        failed |= given == NULL ? json_object_set(whole, key, value)
                                : json_object_set_new(whole, key, complete(given, value));
    }
    json_decref(fields);
    if (failed != 0) {
        json_decref(whole);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a preset");
    }
    *ret_request = whole;
    return STATUS_OK;
}

/* Training options: defaults, bounds with their numbers, what a resume may change, the schedule. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "engine/nn/presets.h"
#include "engine/store/program.h"
#include "engine/train/training_options.h"
#include "tests/unit/json_rig.h"

static void test_defaults_and_round_trip(void **state)
{
    (void)state;
    struct error error;
    json_t *empty = json_object();
    json_t *complete = NULL;
    struct training_options options;
    assert_int_equal(training_options_complete(empty, &complete, &error), STATUS_OK);
    assert_int_equal(training_options_read(complete, &options, &error), STATUS_OK);
    assert_int_equal(options.batch, 64);
    assert_int_equal(options.shards, TRAINING_SHARDS_DEFAULT);
    assert_int_equal(options.epochs, TRAINING_EPOCHS_DEFAULT);
    assert_int_equal(options.max_steps, 0);
    assert_true(isnan(options.dropout));
    json_t *again = training_options_write(&options);
    assert_true(json_equal(complete, again));
    json_decref(again);
    json_decref(complete);
    json_decref(empty);
    json_t *request =
        parse("{\"max_steps\":7,\"clip_norm\":null,\"schedule\":\"constant\",\"batch\":1,\"dropout\":0.25,"
              "\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":1},\"publish\":\"best\"}");
    assert_int_equal(training_options_read(request, &options, &error), STATUS_OK);
    assert_int_equal(options.epochs, 0);
    assert_int_equal(options.shards, 1);
    assert_true(isinf(options.clip_norm));
    assert_int_equal(options.step.optimizer.kind, OPTIMIZER_SGD);
    assert_int_equal(options.publish, PUBLISH_BEST);
    json_decref(request);
}

static void refuse(const char *text, enum status status, const char *param, const char *part)
{
    struct error error;
    struct training_options options;
    json_t *request = parse(text);
    if (training_options_read(request, &options, &error) != status) {
        fail_msg("%s is not %s", text, status_name(status));
    }
    assert_string_equal(error.param, param);
    if (strstr(error.message, part) == NULL) {
        fail_msg("'%s' lacks '%s'", error.message, part);
    }
    json_decref(request);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("{\"batch\":0}", STATUS_INVALID, "batch", "batch must be an integer from 1 to 4096");
    refuse("{\"batch\":1.5}", STATUS_INVALID, "batch", "an integer");
    refuse("{\"batch\":\"64\"}", STATUS_INVALID, "batch", "an integer");
    refuse("{\"dropout\":1}", STATUS_INVALID, "dropout", "from 0 to 0.99");
    refuse("{\"max_seconds\":0}", STATUS_INVALID, "max_seconds", "above 0");
    refuse("{\"clip_norm\":-1}", STATUS_INVALID, "clip_norm", "above 0");
    refuse("{\"shards\":9,\"batch\":8}", STATUS_INVALID, "shards", "shards is 9, but the batch has only 8 rows");
    refuse("{\"batsch\":8}", STATUS_INVALID, "batsch", "not a field");
    refuse("{\"optimizer\":{\"rate\":8}}", STATUS_INVALID, "optimizer.rate", "not a field");
    refuse("{\"optimizer\":{\"learning_rate\":0}}", STATUS_INVALID, "optimizer.learning_rate", "above 0");
    refuse("{\"optimizer\":{\"name\":\"adadelta\"}}", STATUS_UNSUPPORTED, "optimizer.name", "not one that is built");
    refuse("{\"schedule\":{\"name\":\"cyclic\"}}", STATUS_UNSUPPORTED, "schedule", "not one that is built");
    refuse("{\"schedule\":{\"name\":\"cosine\"},\"max_seconds\":9}", STATUS_INVALID, "schedule.decay_steps",
           "must be given");
    refuse("{\"schedule\":{\"name\":\"constant\",\"factor\":0.5}}", STATUS_INVALID, "schedule.factor",
           "not a field of this schedule");
    refuse("{\"optimizer\":{\"name\":\"adam\",\"decay\":0.5}}", STATUS_INVALID, "optimizer.decay",
           "not a field of this optimizer");
    refuse("{\"optimizer\":{\"name\":\"momentum\",\"use_nesterov\":1}}", STATUS_INVALID, "optimizer.use_nesterov",
           "true or false");
    refuse("{\"schedule\":{\"name\":\"step\",\"factor\":2}}", STATUS_INVALID, "schedule.factor", "at most 1");
    refuse("{\"schedule\":5}", STATUS_INVALID, "schedule", "must be");
    refuse("{\"publish\":\"now\"}", STATUS_INVALID, "publish", "\"end\"");
    refuse("{\"preset\":\"anne\"}", STATUS_INVALID, "preset", "char-rnn, torch-rnn, anna, ptb-small");
}

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) < 1e-12)) {
        fail_msg("%.17g is not %.17g", a, b);
    }
}

/* The schedule of a request's rate 0.002, in an epoch from 1, after so many steps and reductions. */
static double rate_at(const char *schedule, uint64_t epoch, uint64_t step, uint64_t reductions)
{
    char text[256];
    struct training_options options;
    struct error error;
    snprintf(text, sizeof text, "{\"max_steps\":100,\"schedule\":%s}", schedule);
    json_t *request = parse(text);
    if (training_options_read(request, &options, &error) != STATUS_OK) {
        fail_msg("%s: %s", schedule, error.message);
    }
    json_decref(request);
    struct schedule_position position = {epoch, step, reductions};
    return schedule_rate(&options.schedule, options.learning_rate, &position);
}

static void test_schedules(void **state)
{
    (void)state;
    /* A well-known recipe, and the default: halved every five epochs after the tenth. */
    static const char step[] = "{\"name\":\"step\",\"after_epochs\":10,\"every_epochs\":5,\"factor\":0.5}";
    assert_near(rate_at(step, 1, 0, 0), 0.002);
    assert_near(rate_at(step, 14, 0, 0), 0.002);
    assert_near(rate_at(step, 15, 0, 0), 0.001);
    assert_near(rate_at(step, 19, 0, 0), 0.001);
    assert_near(rate_at(step, 20, 0, 0), 0.0005);
    assert_near(rate_at("\"constant\"", 1000, 1000000, 9), 0.002);
    assert_near(rate_at("{\"name\":\"exponential\",\"factor\":0.25,\"decay_steps\":10}", 1, 5, 0), 0.001);
    static const char cosine[] = "{\"name\":\"cosine\",\"decay_steps\":8,\"final_fraction\":0.1}";
    assert_near(rate_at(cosine, 1, 0, 0), 0.002);
    assert_near(rate_at(cosine, 1, 4, 0), 0.002 * 0.55);
    assert_near(rate_at(cosine, 1, 8, 0), 0.0002);
    assert_near(rate_at(cosine, 1, 800, 0), 0.0002);
    static const char plateau[] = "{\"name\":\"plateau\",\"factor\":0.1,\"least_rate\":0.00005}";
    assert_near(rate_at(plateau, 1, 0, 1), 0.0002);
    assert_near(rate_at(plateau, 1, 0, 2), 0.00005);
    /* Warm-up goes with any: a tenth, two tenths, …, all of the tenth step on. */
    assert_near(rate_at("{\"name\":\"constant\",\"warmup_steps\":10}", 1, 0, 0), 0.0002);
    assert_near(rate_at("{\"name\":\"constant\",\"warmup_steps\":10}", 1, 8, 0), 0.0018);
    assert_near(rate_at("{\"name\":\"constant\",\"warmup_steps\":10}", 1, 9, 0), 0.002);
    assert_near(rate_at("{\"name\":\"cosine\",\"decay_steps\":8,\"warmup_steps\":10}", 1, 4, 0), 0.0005);
}

/* PyTorch's ReduceLROnPlateau(patience=2, threshold=0.1), its losses and reductions. */
static void test_plateau(void **state)
{
    (void)state;
    static const double losses[] = {5, 4, 3.9, 3.8, 3.7, 3.5, 3.5, 3.5, 3.5, 1, 1, 1, 1, 1, 1};
    static const uint64_t reductions[] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3};
    struct schedule schedule = {.kind = SCHEDULE_PLATEAU, .patience = 2, .threshold = 0.1};
    struct plateau plateau = {.best = (double)NAN};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        plateau_note(&plateau, &schedule, losses[i]);
        assert_int_equal(plateau.reductions, reductions[i]);
    }
}

/* What the programs publish. Their numbers stand here as they are there; the test does the conversions. */
struct published {
    const char *preset;
    size_t layers;
    size_t units;
    size_t embedding;
    double dropout;
    bool has_input_dropout;
    double forget_bias;
    double initial_range; /* 0: none of one number */
    bool has_words;
    size_t batch;
    size_t steps;
    uint64_t epochs;
    enum optimizer_kind optimizer;
    double rate;
    double clip_norm; /* 0: none, as below */
    double clip_value;
    bool
        sums_steps; /* gradients, and what they are clipped to, are of the sum over a window's steps, not of the mean */
    uint64_t after_epochs; /* of the rate, which then goes by */
    uint64_t every_epochs; /* 0: it stays */
    double factor;
    double validation_fraction;
    double test_fraction;
    uint64_t evaluate_every_steps;
    uint64_t seed;
};

/* clang-format off */
static const struct published PUBLISHED[] = {
    /* github.com/karpathy/char-rnn, train.lua: rnn_size, num_layers, dropout; forget biases' fill(1.0);
     * uniform(-0.08, 0.08); batch_size, seq_length, max_epochs; learning_rate; grad_clip, on what grad_params:div(
     * opt.seq_length), commented out, leaves a sum; learning_rate_decay_after, learning_rate_decay; val_frac, and
     * train_frac leaves nothing for a test; eval_val_every; seed. */
    {"char-rnn", 2, 128, 0, 0, false, 1, 0.08, false, 50, 50, 50, OPTIMIZER_RMSPROP, 2e-3, 0, 5, true, 10, 1, 0.97,
     0.05, 0, 1000, 123},
    /* github.com/jcjohnson/torch-rnn, train.lua: num_layers, rnn_size, wordvec_size, dropout; batch_size, seq_length,
     * max_epochs; learning_rate; grad_clip; lr_decay_every, lr_decay_factor; checkpoint_every. LSTM.lua: bias fill(1).
     * scripts/preprocess.py: val_frac, test_frac. nn.CrossEntropyCriterion over (N·T): a mean. */
    {"torch-rnn", 2, 128, 64, 0, false, 1, 0, false, 50, 50, 50, OPTIMIZER_ADAM, 2e-3, 0, 5, false, 0, 5, 0.5,
     0.1, 0.1, 1000, 1},
    /* github.com/udacity/deep-learning, intro-to-rnns/Anna_KaRNNa.ipynb: batch_size, num_steps, lstm_size, num_layers,
     * learning_rate, keep_prob, epochs; grad_clip=5 of clip_by_global_norm over a reduce_mean; BasicLSTMCell's
     * forget_bias. It holds nothing back: a tenth is lstmd's. */
    {"anna", 2, 512, 0, 0.5, false, 1, 0, false, 100, 100, 20, OPTIMIZER_ADAM, 0.001, 5, 0, false, 0, 0, 0,
     0.1, 0, 0, 1},
    /* github.com/tensorflow/models, tutorials/rnn/ptb/ptb_word_lm.py, SmallConfig, MediumConfig, LargeConfig:
     * num_layers, hidden_size (of the embedding, too), 1 − keep_prob, of the inputs, too; forget_bias=0.0, init_scale;
     * batch_size, num_steps, max_max_epoch; learning_rate; max_grad_norm of a cost summed over time; max_epoch,
     * lr_decay. Validation and test have files of their own: a tenth is lstmd's, where there are none. */
    {"ptb-small", 2, 200, 200, 0, false, 0, 0.1, true, 20, 20, 13, OPTIMIZER_SGD, 1, 5, 0, true, 4, 1, 0.5,
     0.1, 0, 0, 1},
    {"ptb-medium", 2, 650, 650, 0.5, true, 0, 0.05, true, 20, 35, 39, OPTIMIZER_SGD, 1, 5, 0, true, 6, 1, 0.8,
     0.1, 0, 0, 1},
    {"ptb-large", 2, 1500, 1500, 1 - 0.35, true, 0, 0.04, true, 20, 35, 55, OPTIMIZER_SGD, 1, 10, 0, true, 14, 1,
     1 / 1.15, 0.1, 0, 0, 1},
};
/* clang-format on */
enum { PUBLISHED_COUNT = sizeof PUBLISHED / sizeof *PUBLISHED };

static void check_model(const struct published *published)
{
    struct language_model_options model;
    struct error error;
    json_t *whole = NULL;
    json_t *request = json_pack("{s:s}", "preset", published->preset);
    assert_int_equal(preset_expand(request, PRESET_MODEL, &whole, &error), STATUS_OK);
    assert_int_equal(language_model_options_from_json(whole, &model, &error), STATUS_OK);
    assert_int_equal(model.cell, RECURRENT_CELL_LSTM);
    assert_int_equal(model.layers, published->layers);
    assert_int_equal(model.units, published->units);
    assert_int_equal(model.embedding, published->embedding);
    assert_near(model.dropout, published->dropout);
    assert_int_equal(model.has_input_dropout, published->has_input_dropout);
    assert_near(language_model_forget_bias(&model), published->forget_bias);
    assert_near(model.initial_range, published->initial_range);
    assert_false(model.is_tied || model.is_residual || model.has_one_mask);
    const json_t *kind = json_object_get(json_object_get(whole, "vocabulary"), "kind");
    assert_true(published->has_words ? strcmp(json_string_value(kind), "words") == 0 : kind == NULL);
    json_decref(whole);
    json_decref(request);
}

static void check_clip(double value, double published, double divisor)
{
    if (published > 0) {
        assert_near(value, published / divisor);
    } else {
        assert_true(isinf(value));
    }
}

static void check_training(const struct published *published, const struct training_options *options)
{
    double sum = published->sums_steps ? (double)published->steps : 1;
    bool is_descent = published->optimizer == OPTIMIZER_SGD;
    assert_int_equal(options->batch, published->batch);
    assert_int_equal(options->sequence_length, published->steps);
    assert_int_equal(options->epochs, published->epochs);
    assert_int_equal(options->step.optimizer.kind, published->optimizer);
    assert_near(options->learning_rate, published->rate * (is_descent ? sum : 1));
    check_clip(options->clip_norm, published->clip_norm, sum);
    check_clip(options->clip_value, published->clip_value, sum);
    assert_near(options->dropout, published->dropout);
    assert_near(options->validation_fraction, published->validation_fraction);
    assert_near(options->test_fraction, published->test_fraction);
    assert_int_equal(options->evaluate_every_steps, published->evaluate_every_steps);
    assert_int_equal(options->seed, published->seed);
    assert_true(options->weight_decay <= 0 && options->label_smoothing <= 0 && options->gradient_noise <= 0);
    for (uint64_t epoch = 1; epoch <= published->epochs; epoch++) {
        struct schedule_position position = {.epoch = epoch, .step = 1000 * epoch};
        uint64_t past = epoch > published->after_epochs ? epoch - published->after_epochs : 0;
        double reductions = published->every_epochs == 0 ? 0 : (double)(past / published->every_epochs);
        assert_near(schedule_rate(&options->schedule, 1, &position), pow(published->factor, reductions));
    }
}

/* Every number of every preset. */
static void test_published_numbers(void **state)
{
    (void)state;
    struct error error;
    struct training_options options;
    for (size_t i = 0; i < PUBLISHED_COUNT; i++) {
        assert_string_equal(preset_at(i)->name, PUBLISHED[i].preset);
        json_t *request = json_pack("{s:s}", "preset", PUBLISHED[i].preset);
        assert_int_equal(training_options_read(request, &options, &error), STATUS_OK);
        json_decref(request);
        check_model(&PUBLISHED[i]);
        check_training(&PUBLISHED[i], &options);
        const struct optimizer_options *optimizer = &options.step.optimizer;
        if (optimizer->kind == OPTIMIZER_RMSPROP) { /* github.com/torch/optim, rmsprop.lua; decay_rate of train.lua */
            assert_near(optimizer->decay, 0.95);
            assert_true(fabs(sqrt(optimizer->epsilon) - 1e-8 / 50) < 1e-15);
            assert_true(optimizer->initial_accumulator <= 0 && optimizer->momentum <= 0 && !optimizer->is_centered);
        } else if (optimizer->kind == OPTIMIZER_ADAM) { /* torch/optim, adam.lua; TensorFlow's AdamOptimizer */
            assert_near(optimizer->beta1, 0.9);
            assert_near(optimizer->beta2, 0.999);
            assert_true(fabs(optimizer->epsilon - 1e-8) < 1e-20);
        }
    }
    assert_null(preset_at(PUBLISHED_COUNT));
}

/* A preset's fields are completed by those beside it. */
static void test_presets(void **state)
{
    (void)state;
    struct error error;
    struct training_options options;
    json_t *request = parse("{\"preset\":\"char-rnn\",\"epochs\":3,\"clip_value\":null,"
                            "\"optimizer\":{\"learning_rate\":0.1},\"schedule\":\"constant\"}");
    assert_int_equal(training_options_read(request, &options, &error), STATUS_OK);
    assert_int_equal(options.batch, 50);
    assert_int_equal(options.epochs, 3);
    assert_true(isinf(options.clip_value) && isinf(options.clip_norm));
    assert_int_equal(options.step.optimizer.kind, OPTIMIZER_RMSPROP);
    assert_near(options.step.optimizer.decay, 0.95);
    assert_near(options.learning_rate, 0.1);
    assert_int_equal(options.schedule.kind, SCHEDULE_CONSTANT);
    json_decref(request);
    request = parse("{\"preset\":\"char-rnn\",\"optimizer\":{\"name\":\"adamw\"}}");
    assert_int_equal(training_options_read(request, &options, &error), STATUS_OK);
    assert_near(options.learning_rate, 0.002);
    assert_near(options.weight_decay, 0.01);
    assert_true(options.step.decays_weights && options.step.clips_values && !options.step.adds_noise);
    json_decref(request);
    /* A schedule by its name alone is one of that kind; one of the preset's kind has the preset's fields. */
    request = parse("{\"preset\":\"anna\",\"schedule\":{\"warmup_steps\":10}}");
    assert_int_equal(training_options_read(request, &options, &error), STATUS_OK);
    assert_int_equal(options.schedule.kind, SCHEDULE_CONSTANT);
    assert_int_equal(options.schedule.warmup_steps, 10);
    json_decref(request);
    request = parse("{\"preset\":\"char-rnn\",\"schedule\":\"step\"}");
    assert_int_equal(training_options_read(request, &options, &error), STATUS_OK);
    assert_near(options.schedule.factor, 0.97);
    json_decref(request);
    json_t *whole = NULL;
    request = parse("{\"preset\":\"ptb-small\",\"vocabulary\":{\"min_count\":2}}");
    assert_int_equal(preset_expand(request, PRESET_MODEL, &whole, &error), STATUS_OK);
    const json_t *vocabulary = json_object_get(whole, "vocabulary");
    assert_string_equal(json_string_value(json_object_get(vocabulary, "kind")), "words");
    assert_int_equal(json_integer_value(json_object_get(vocabulary, "min_count")), 2);
    json_decref(whole);
    json_decref(request);
}

static void test_resume(void **state)
{
    (void)state;
    struct error error;
    struct training_options options;
    json_t *first = parse("{\"epochs\":3,\"batch\":32,\"optimizer\":{\"learning_rate\":0.01}}");
    json_t *kept = NULL;
    assert_int_equal(training_options_complete(first, &kept, &error), STATUS_OK);
    json_t *more = parse("{\"max_steps\":900,\"batch\":32,\"optimizer\":{\"name\":\"adam\"}}");
    assert_int_equal(training_options_resume(kept, more, &options, &error), STATUS_OK);
    assert_int_equal(options.epochs, 0); /* the new limit takes the place of the old ones */
    assert_int_equal(options.max_steps, 900);
    assert_true(fabs(options.learning_rate - 0.01) < 1e-15);
    json_t *other = parse("{\"batch\":16}");
    assert_int_equal(training_options_resume(kept, other, &options, &error), STATUS_CONFLICT);
    assert_string_equal(error.param, "batch");
    assert_string_equal(error.code, "resume_differs");
    json_t *same = parse("{\"schedule\":\"step\",\"max_steps\":900,\"clip_value\":null}");
    assert_int_equal(training_options_resume(kept, same, &options, &error), STATUS_OK);
    json_decref(same);
    json_t *nothing = json_object();
    assert_int_equal(training_options_resume(kept, nothing, &options, &error), STATUS_OK);
    assert_int_equal(options.epochs, 3);
    json_decref(nothing);
    json_decref(other);
    json_decref(more);
    json_decref(kept);
    json_decref(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_and_round_trip),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_plateau),
        cmocka_unit_test(test_published_numbers),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_resume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

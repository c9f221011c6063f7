/* Training options: defaults, bounds with their numbers, what a resume may change, the schedule. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "engine/nn/presets.h"
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

/* A preset's fields are completed by those beside it, and every preset is one that can be read. */
static void test_presets(void **state)
{
    (void)state;
    struct error error;
    struct training_options options;
    const struct preset *preset = NULL;
    for (size_t i = 0; (preset = preset_at(i)) != NULL; i++) {
        json_t *request = json_pack("{s:s}", "preset", preset->name);
        json_t *model = parse(preset->model);
        assert_non_null(model);
        if (training_options_read(request, &options, &error) != STATUS_OK) {
            fail_msg("%s: %s", preset->name, error.message);
        }
        json_decref(model);
        json_decref(request);
    }
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
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_resume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

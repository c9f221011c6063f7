/* Training options: defaults, bounds with their numbers, what a resume may change, the schedule. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

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
    assert_int_equal(options.optimizer, OPTIMIZER_SGD);
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
    refuse("{\"schedule\":{\"name\":\"cosine\"}}", STATUS_UNSUPPORTED, "schedule", "not one that is built");
    refuse("{\"schedule\":{\"name\":\"step\",\"factor\":2}}", STATUS_INVALID, "schedule.factor", "at most 1");
    refuse("{\"schedule\":5}", STATUS_INVALID, "schedule", "must be");
    refuse("{\"publish\":\"now\"}", STATUS_INVALID, "publish", "\"end\"");
    refuse("{\"preset\":\"anna\"}", STATUS_UNSUPPORTED, "preset", "not built yet");
}

/* The rates of a well-known recipe: halved every five epochs after the tenth. */
static void test_schedule(void **state)
{
    (void)state;
    struct training_options options = {.learning_rate = 0.002, .schedule = {10, 5, 0.5}};
    assert_true(fabs(training_learning_rate(&options, 1) - 0.002) < 1e-15);
    assert_true(fabs(training_learning_rate(&options, 14) - 0.002) < 1e-15);
    assert_true(fabs(training_learning_rate(&options, 15) - 0.001) < 1e-15);
    assert_true(fabs(training_learning_rate(&options, 19) - 0.001) < 1e-15);
    assert_true(fabs(training_learning_rate(&options, 20) - 0.0005) < 1e-15);
    options.schedule.every_epochs = 0;
    assert_true(fabs(training_learning_rate(&options, 1000) - 0.002) < 1e-15);
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
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_resume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Savers: keys, what cannot be saved, files there and back, TensorFlow's errors and their order. */
#include "graph_rig.h"

#include <stdlib.h>
#include <unistd.h>

#include "engine/nn/optimizer.h"
#include "engine/store/saver_file.h"

static char path[] = "/tmp/test_saver-XXXXXX";

static uint32_t create(struct rig *rig, const struct saver_options *options)
{
    uint32_t saver = 0;
    must(saver_create(rig->graph, options, &saver, &rig->error), &rig->error);
    must(session_adopt(rig->session, rig->graph, &rig->error), &rig->error);
    return saver;
}

static uint32_t of_all(struct rig *rig)
{
    return create(rig, &(struct saver_options){.reshapes = false});
}

static uint32_t of_one(struct rig *rig, const struct variable *variable, const char *key, bool reshapes)
{
    return create(rig,
                  &(struct saver_options){
                      .has_variables = true, .variables = &variable, .keys = &key, .count = 1, .reshapes = reshapes});
}

static enum status save(struct rig *rig, uint32_t saver)
{
    return saver_save(rig->graph, saver, session_values(rig->session), path, &rig->error);
}

static enum status restore(struct rig *rig, uint32_t saver)
{
    return saver_restore(rig->graph, saver, session_values(rig->session), path, &rig->error);
}

static const struct variable *number(struct rig *rig, const char *name, double value)
{
    float room = (float)value;
    return variable_of(rig, name, DTYPE_FLOAT32, shape_scalar(), &room);
}

/* A file with v0 = 10 and v1 = 20. */
static void save_two(void)
{
    struct rig rig = rig_open();
    number(&rig, "v1", 20);
    number(&rig, "v0", 10);
    uint32_t saver = of_all(&rig);
    rig_initialize(&rig);
    must(save(&rig, saver), &rig.error);
    rig_close(&rig);
}

static void test_there_and_back(void **state)
{
    (void)state;
    save_two();
    struct rig rig = rig_open();
    const struct variable *b = number(&rig, "v1", -1);
    uint32_t saver = of_all(&rig); /* what else the file holds is ignored */
    const struct variable *other = number(&rig, "other", -1);
    uint32_t renamed = of_one(&rig, other, "v0", false);
    must(restore(&rig, saver), &rig.error); /* needs no initialising */
    must(restore(&rig, renamed), &rig.error);
    expect_values(&rig, b->read, (double[]){20}, 1, 0);
    expect_values(&rig, other->read, (double[]){10}, 1, 0);
    assert_string_equal(saver_at(rig.graph, saver)->scope, "save");
    assert_string_equal(saver_at(rig.graph, renamed)->scope, "save_1");
    rig_close(&rig);
}

static void test_a_saver_is_a_snapshot(void **state)
{
    (void)state;
    save_two();
    struct rig rig = rig_open();
    const struct variable *v0 = number(&rig, "v0", 1);
    uint32_t before = of_all(&rig);
    struct optimizer_options adam = optimizer_defaults(OPTIMIZER_ADAM);
    struct output gradient = v0->read;
    struct apply_options apply = {.gradients = &gradient, .variables = &v0, .count = 1};
    uint32_t optimizer = 0;
    struct node *node = NULL;
    must(optimizer_create(rig.graph, &adam, &optimizer, &rig.error), &rig.error);
    must(optimizer_apply_gradients(rig.graph, optimizer, &apply, &node, &rig.error), &rig.error);
    uint32_t after = of_all(&rig);
    must(restore(&rig, before), &rig.error);
    expect_error(restore(&rig, after), &rig.error, "NotFoundError",
                 "Restoring from checkpoint failed. This is most likely due to a Variable name or other graph key that "
                 "is missing from the checkpoint. Please ensure that you have not altered the graph expected based on "
                 "the checkpoint. Original error:\n\nKey beta1_power not found in checkpoint\n\t [[node "
                 "save_1/RestoreV2 ]]");
    rig_close(&rig);
}

static void test_what_does_not_fit(void **state)
{
    (void)state;
    save_two();
    struct rig rig = rig_open();
    int32_t whole = 1;
    float vector[] = {1, 2};
    const struct variable *v0 = variable_of(&rig, "v0", DTYPE_INT32, shape_scalar(), &whole);
    const struct variable *v1 = variable_of(&rig, "v1", DTYPE_FLOAT32, shape_vector(2), vector);
    const struct variable *one = variable_of(&rig, "one", DTYPE_FLOAT32, shape_vector(1), vector);
    uint32_t wrong_dtype = of_one(&rig, v0, "v0", false);
    uint32_t wrong_shape = of_one(&rig, v1, "v1", false);
    uint32_t wrong_size = of_one(&rig, v1, "v1", true);
    uint32_t reshaped = of_one(&rig, one, "v1", true);
    uint32_t all = of_all(&rig);
    rig_initialize(&rig);
    expect_error(
        restore(&rig, wrong_dtype), &rig.error, "InvalidArgumentError",
        "Restoring from checkpoint failed. This is most likely due to a mismatch between the current graph and "
        "the graph from the checkpoint. Please ensure that you have not altered the graph expected based on "
        "the checkpoint. Original error:\n\ntensor_name = v0; expected dtype int32 does not equal original "
        "dtype float\n\t [[node save/RestoreV2 ]]");
    expect_error(restore(&rig, wrong_shape), &rig.error, "InvalidArgumentError", "Restoring from checkpoint failed. …");
    assert_non_null(
        strstr(rig.error.message, "Assign requires shapes of both tensors to match. lhs shape= [2] rhs shape= []\n"));
    expect_error(restore(&rig, wrong_size), &rig.error, "InvalidArgumentError", "Restoring from checkpoint failed. …");
    assert_non_null(
        strstr(rig.error.message, "Input to reshape is a tensor with 1 values, but the requested shape has 2"));
    expect_error(restore(&rig, all), &rig.error, "NotFoundError", "Restoring from checkpoint failed. …");
    assert_non_null(strstr(rig.error.message, "Key one not found in checkpoint")); /* before any dtype */
    expect_values(&rig, v1->read, (double[]){1, 2}, 2, 0);                         /* nothing was changed */
    must(restore(&rig, reshaped), &rig.error);
    expect_values(&rig, one->read, (double[]){20}, 1, 0);
    rig_close(&rig);
}

static void test_refused_savers(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct saver_options options = {.reshapes = false};
    uint32_t saver = 0;
    expect_error(saver_create(rig.graph, &options, &saver, &rig.error), &rig.error, "ValueError",
                 "No variables to save");
    const struct variable *v = number(&rig, "v0", 10);
    const struct variable *twice[] = {v, v, v};
    static const char *const keys[] = {"v0too", "b", "v0"};
    options = (struct saver_options){.has_variables = true, .variables = twice, .count = 2};
    expect_error(saver_create(rig.graph, &options, &saver, &rig.error), &rig.error, "ValueError",
                 "At least two variables have the same name: v0");
    options.keys = keys;
    options.count = 3;
    expect_error(saver_create(rig.graph, &options, &saver, &rig.error), &rig.error, "ValueError",
                 "The same saveable will be restored with two names: v0");
    graph_finalize(rig.graph);
    options.count = 1;
    expect_error(saver_create(rig.graph, &options, &saver, &rig.error), &rig.error, "RuntimeError",
                 "Graph is finalized and cannot be modified.");
    rig_close(&rig);
}

static void test_uninitialised_variables_are_not_saved(void **state)
{
    (void)state;
    save_two();
    struct rig rig = rig_open();
    const struct variable *v = number(&rig, "v0", 1);
    uint32_t saver = of_all(&rig);
    expect_error(save(&rig, saver), &rig.error, "FailedPreconditionError",
                 "Attempting to use uninitialized value v0\n\t [[{{node save/SaveV2}}]]");
    must(restore(&rig, saver), &rig.error); /* the file is as it was */
    expect_values(&rig, v->read, (double[]){10}, 1, 0);
    rig_close(&rig);
}

static void test_paths(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    number(&rig, "v0", 1);
    uint32_t saver = of_all(&rig);
    struct values *values = session_values(rig.session);
    expect_error(saver_restore(rig.graph, saver, values, NULL, &rig.error), &rig.error, "ValueError",
                 "Can't load save_path when it is None.");
    expect_error(saver_restore(rig.graph, saver, values, "/nonexistent/invalid path", &rig.error), &rig.error,
                 "ValueError", "The passed save_path is not a valid checkpoint: /nonexistent/invalid path");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("this is no checkpoint, but long enough to look at", file);
    fclose(file);
    expect_error(restore(&rig, saver), &rig.error, "DataLossError", "Unable to open table file /tmp/test_saver-…");
    rig_close(&rig);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0) {
        return 1;
    }
    close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_a_saver_is_a_snapshot),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_refused_savers),
        cmocka_unit_test(test_uninitialised_variables_are_not_saved),
        cmocka_unit_test(test_paths),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}

/* A model's live graph in many hands: looked at, built on, reset, trained and saved at the same time. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "engine/math/gemm.h"
#include "engine/model/model.h"
#include "engine/model/training_job.h"
#include "engine/store/program.h"
#include "engine/store/version_directory.h"

enum { TRIES_MAX = 200, LOOKS_MIN = 10 };

/* A build on a thread of its own. */
struct long_build {
    struct model *model;
    json_t *request;
    pthread_t thread;
    _Atomic bool has_begun;
    _Atomic bool is_over;
    enum status status;
    struct error error;
    json_t *reply;
};

static struct model *make_model(void)
{
    struct model *model = NULL;
    struct error error;
    assert_int_equal(model_create("bard", &model, &error), STATUS_OK);
    return model;
}

static json_t *make_program(size_t step_count)
{
    json_t *steps = json_array();
    for (size_t i = 0; i < step_count; i++) {
        json_array_append_new(steps, json_pack("{s:s, s:f}", "op", "constant", "value", 0.5));
    }
    return json_pack("{s:o}", "program", steps);
}

static void *build_it(void *context)
{
    struct long_build *build = context;
    atomic_store(&build->has_begun, true);
    build->status = model_build(build->model, build->request, NULL, &build->reply, &build->error);
    atomic_store(&build->is_over, true);
    return NULL;
}

static void begin_build(struct long_build *build, struct model *model)
{
    *build = (struct long_build){.model = model, .request = make_program(PROGRAM_STEPS_MAX)};
    assert_int_equal(pthread_create(&build->thread, NULL, build_it, build), 0);
}

static void end_build(struct long_build *build)
{
    pthread_join(build->thread, NULL);
    json_decref(build->request);
    json_decref(build->reply);
}

static size_t count_nodes(struct model *model)
{
    struct error error;
    json_t *graph = NULL;
    assert_int_equal(model_describe_graph(model, &graph, &error), STATUS_OK);
    size_t count = (size_t)json_integer_value(json_object_get(graph, "node_count"));
    json_decref(graph);
    return count;
}

/* Until the build is at work, later with each try. */
static void let_begin(const struct long_build *build, int try)
{
    while (!atomic_load(&build->has_begun)) {
        sched_yield();
    }
    for (int i = 0; i < try; i++) {
        count_nodes(build->model);
    }
}

static void reset(struct model *model)
{
    struct error error;
    json_t *reply = NULL;
    assert_int_equal(model_reset(model, false, NULL, 0, &reply, &error), STATUS_OK);
    json_decref(reply);
}

static void test_others_go_on_during_a_build(void **state)
{
    (void)state;
    struct model *model = make_model();
    size_t most = 0;
    for (int try = 0; try < TRIES_MAX && most < LOOKS_MIN; try++) {
        struct long_build build;
        size_t looks = 0;
        begin_build(&build, model);
        while (!atomic_load(&build.is_over)) {
            assert_true(count_nodes(model) % PROGRAM_STEPS_MAX == 0); /* whole builds only */
            looks += atomic_load(&build.has_begun) ? 1 : 0;
        }
        end_build(&build);
        assert_int_equal(build.status, STATUS_OK);
        assert_int_equal(count_nodes(model), PROGRAM_STEPS_MAX);
        most = looks > most ? looks : most;
        reset(model);
    }
    assert_true(most >= LOOKS_MIN);
    model_unref(model);
}

static void test_a_reset_passes_a_build(void **state)
{
    (void)state;
    struct model *model = make_model();
    bool was_refused = false;
    for (int try = 0; try < TRIES_MAX && !was_refused; try++) {
        struct long_build build;
        uint64_t generation = model_generation(model);
        begin_build(&build, model);
        let_begin(&build, try);
        reset(model);
        bool was_over = atomic_load(&build.is_over);
        end_build(&build);
        assert_int_equal(model_generation(model), generation + 1);
        if (build.status == STATUS_CONFLICT) {
            was_refused = true;
            assert_string_equal(build.error.code, "generation");
            assert_false(was_over);
            assert_int_equal(count_nodes(model), 0);
        } else {
            /* It was over before the reset, or began after it. */
            assert_int_equal(build.status, STATUS_OK);
            json_int_t built = json_integer_value(json_object_get(build.reply, "generation"));
            assert_int_equal(count_nodes(model), built == (json_int_t)generation ? 0 : PROGRAM_STEPS_MAX);
            reset(model);
        }
    }
    assert_true(was_refused);
    model_unref(model);
}

static void test_a_training_passes_a_build(void **state)
{
    (void)state;
    struct model *model = make_model();
    struct error error;
    bool was_refused = false;
    for (int try = 0; try < TRIES_MAX && !was_refused; try++) {
        struct long_build build;
        begin_build(&build, model);
        let_begin(&build, try);
        assert_int_equal(model_begin_training(model, "job-1", &error), STATUS_OK);
        end_build(&build);
        model_end_training(model);
        if (build.status == STATUS_OK) {
            assert_int_equal(count_nodes(model), PROGRAM_STEPS_MAX);
            reset(model);
        } else {
            was_refused = true;
            assert_int_equal(build.status, STATUS_CONFLICT);
            assert_string_equal(build.error.code, "training");
            assert_int_equal(count_nodes(model), 0);
        }
    }
    assert_true(was_refused);
    model_unref(model);
}

/* Makes and ends a job, and so builds what it lacks: a training that is stopped at once. */
static void train_in_no_time(struct model *model, const char *folder)
{
    static const char TEXT[] = "the quick brown fox jumps over the lazy dog, and the lazy dog sleeps on";
    struct training_job *job = NULL;
    struct error error;
    json_t *request = json_pack("{s:i, s:i, s:i}", "batch", 2, "sequence_length", 4, "max_steps", 1);
    struct training_job_options options = {.model_directory = folder,
                                           .request = request,
                                           .corpus = {.text = TEXT, .text_bytes = sizeof TEXT - 1},
                                           .threads = 1,
                                           .name = "job-1"};
    if (training_job_create(model, &options, NULL, &job, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    training_job_destroy(job);
    json_decref(request);
}

/* A build of a graph that a training has built on meanwhile, and is over, is refused as well: it would take away what
 * that built. */
static void test_a_training_that_is_over_passes_a_build(void **state)
{
    (void)state;
    struct error error;
    char directory[] = "/tmp/lstmd-threads-XXXXXX";
    char folder[sizeof directory + 8];
    assert_non_null(mkdtemp(directory));
    snprintf(folder, sizeof folder, "%s/bard", directory);
    bool was_refused = false;
    size_t trained_count = 0;
    for (int try = 0; try < TRIES_MAX && !was_refused; try++) {
        struct model *model = make_model();
        json_t *specification = json_pack("{s:i, s:i}", "layers", 1, "units", 3);
        assert_int_equal(model_make_language_model(model, specification, 1, &error), STATUS_OK);
        json_decref(specification);
        if (trained_count == 0) {
            train_in_no_time(model, folder);
            trained_count = count_nodes(model);
        } else {
            struct long_build build;
            begin_build(&build, model);
            let_begin(&build, try);
            train_in_no_time(model, folder);
            end_build(&build);
            was_refused = build.status != STATUS_OK;
            assert_int_equal(count_nodes(model), trained_count + (was_refused ? 0 : PROGRAM_STEPS_MAX));
            assert_true(!was_refused || strcmp(build.error.code, "training") == 0);
        }
        model_unref(model);
    }
    assert_true(was_refused);
    assert_int_equal(rmdir(directory), 0);
}

enum { BUILDERS = 4, BUILDS = 10 };

struct builder_thread {
    struct model *model;
    int number;
    pthread_t thread;
    enum status status; /* of the first call that failed */
    struct error error;
};

static void *build_often(void *context)
{
    struct builder_thread *builder = context;
    for (int i = 0; builder->status == STATUS_OK && i < BUILDS; i++) {
        json_t *reply = NULL;
        char name[32];
        snprintf(name, sizeof name, "v_%d_%d", builder->number, i);
        json_t *request =
            json_pack("{s:[{s:s, s:s, s:[i]}]}", "program", "op", "get_variable", "name", name, "shape", 2);
        builder->status = model_build(builder->model, request, NULL, &reply, &builder->error);
        json_decref(request);
        json_decref(reply);
        if (builder->status != STATUS_OK) {
            break;
        }
        reply = NULL;
        request = json_pack("{s:[f, f]}", "data", 1.5, (double)i);
        builder->status =
            model_set_variable(builder->model, name, json_object_get(request, "data"), &reply, &builder->error);
        json_decref(request);
        json_decref(reply);
    }
    return NULL;
}

static void begin_builders(struct builder_thread builders[BUILDERS], struct model *model)
{
    for (int i = 0; i < BUILDERS; i++) {
        builders[i] = (struct builder_thread){.model = model, .number = i};
        assert_int_equal(pthread_create(&builders[i].thread, NULL, build_often, &builders[i]), 0);
    }
}

static void end_builders(struct builder_thread builders[BUILDERS])
{
    for (int i = 0; i < BUILDERS; i++) {
        pthread_join(builders[i].thread, NULL);
    }
    for (int i = 0; i < BUILDERS; i++) {
        assert_int_equal(builders[i].status, STATUS_OK);
    }
}

static size_t count_variables(struct model *model)
{
    struct error error;
    json_t *list = NULL;
    assert_int_equal(model_list_variables(model, &list, &error), STATUS_OK);
    size_t count = json_array_size(json_object_get(list, "variables"));
    json_decref(list);
    return count;
}

static void test_builders_take_turns(void **state)
{
    (void)state;
    struct model *model = make_model();
    struct builder_thread builders[BUILDERS];
    begin_builders(builders, model);
    end_builders(builders);
    assert_int_equal(count_variables(model), BUILDERS * BUILDS);
    model_unref(model);
}

/* Whatever was built or assigned while a version was written is not forgotten: the model counts as unsaved. */
static void test_saves_among_builds(void **state)
{
    (void)state;
    struct model *model = make_model();
    struct builder_thread builders[BUILDERS];
    struct error error;
    char directory[] = "/tmp/lstmd-test-threads-XXXXXX";
    char path[128];
    uint64_t version = 0;
    assert_non_null(mkdtemp(directory));
    begin_builders(builders, model);
    for (int i = 0; i < BUILDS; i++) {
        enum status status = model_save(model, directory, NULL, NULL, &version, &error);
        assert_true(status == STATUS_OK || status == STATUS_UNPROCESSABLE); /* nothing yet, or without a value */
    }
    end_builders(builders);
    bool is_unsaved = model_is_unsaved(model);
    if (is_unsaved) {
        assert_int_equal(model_save(model, directory, NULL, NULL, &version, &error), STATUS_OK);
        assert_false(model_is_unsaved(model));
    }
    struct model *loaded = NULL;
    snprintf(path, sizeof path, "%s/%llu", directory, (unsigned long long)version);
    assert_int_equal(model_create_from_version("bard", path, version, &loaded, &error), STATUS_OK);
    assert_int_equal(count_variables(loaded), BUILDERS * BUILDS);
    model_unref(loaded);
    model_unref(model);
    assert_int_equal(directory_remove(directory, &error), STATUS_OK);
}

enum { SAVE_ROUNDS = 20, SAVERS = 2, SAVES = 2 };

/* Assigns and saves, on a thread of its own. */
struct saver_thread {
    struct model *model;
    const char *directory;
    int number;
    pthread_t thread;
    enum status status; /* of the first call that failed */
    struct error error;
};

static enum status assign(struct model *model, int value, struct error *error)
{
    json_t *reply = NULL;
    json_t *data = json_pack("[i, i]", value, value);
    enum status status = model_set_variable(model, "v", data, &reply, error);
    json_decref(data);
    json_decref(reply);
    return status;
}

static void *save_often(void *context)
{
    struct saver_thread *saver = context;
    for (int i = 0; saver->status == STATUS_OK && i < SAVES; i++) {
        uint64_t version = 0;
        saver->status = assign(saver->model, saver->number * SAVES + i, &saver->error);
        if (saver->status == STATUS_OK) {
            saver->status = model_save(saver->model, saver->directory, NULL, NULL, &version, &saver->error);
        }
    }
    return NULL;
}

static json_t *value_of_v(struct model *model)
{
    struct error error;
    json_t *reply = NULL;
    json_t *request = json_pack("{s:[s]}", "fetches", "v:0");
    assert_int_equal(model_run(model, request, &reply, &error), STATUS_OK);
    json_t *value = json_incref(json_object_get(reply, "results"));
    json_decref(request);
    json_decref(reply);
    return value;
}

static void save_in_turns(struct model *model, const char *directory)
{
    struct saver_thread savers[SAVERS];
    for (int i = 0; i < SAVERS; i++) {
        savers[i] = (struct saver_thread){.model = model, .directory = directory, .number = i};
        assert_int_equal(pthread_create(&savers[i].thread, NULL, save_often, &savers[i]), 0);
    }
    for (int i = 0; i < SAVERS; i++) {
        pthread_join(savers[i].thread, NULL);
    }
    for (int i = 0; i < SAVERS; i++) {
        assert_int_equal(savers[i].status, STATUS_OK);
    }
}

/* Each assigns before it saves, so the highest version holds what was assigned last. */
static void test_the_last_save_is_the_newest(void **state)
{
    (void)state;
    struct model *model = make_model();
    struct error error;
    json_t *reply = NULL;
    json_t *request = json_pack("{s:[{s:s, s:s, s:[i]}]}", "program", "op", "get_variable", "name", "v", "shape", 2);
    assert_int_equal(model_build(model, request, NULL, &reply, &error), STATUS_OK);
    json_decref(request);
    json_decref(reply);
    for (int round = 0; round < SAVE_ROUNDS; round++) {
        struct model *loaded = NULL;
        char directory[] = "/tmp/lstmd-test-threads-XXXXXX";
        char path[128];
        assert_non_null(mkdtemp(directory));
        save_in_turns(model, directory);
        assert_int_equal(model_base_version(model), SAVERS * SAVES);
        assert_false(model_is_unsaved(model));
        snprintf(path, sizeof path, "%s/%d", directory, SAVERS * SAVES);
        assert_int_equal(model_create_from_version("bard", path, 1, &loaded, &error), STATUS_OK);
        json_t *saved = value_of_v(loaded);
        json_t *live = value_of_v(model);
        assert_true(json_equal(saved, live));
        json_decref(saved);
        json_decref(live);
        model_unref(loaded);
        assert_int_equal(directory_remove(directory, &error), STATUS_OK);
    }
    model_unref(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others_go_on_during_a_build),
        cmocka_unit_test(test_a_reset_passes_a_build),
        cmocka_unit_test(test_a_training_that_is_over_passes_a_build),
        cmocka_unit_test(test_a_training_passes_a_build),
        cmocka_unit_test(test_builders_take_turns),
        cmocka_unit_test(test_saves_among_builds),
        cmocka_unit_test(test_the_last_save_is_the_newest),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A registry over a directory of its own, with its loader thread, for the tests that look at it step by step. */
#ifndef TESTS_UNIT_REGISTRY_RIG_H
#define TESTS_UNIT_REGISTRY_RIG_H

#include <sys/stat.h>

#include "daemon/registry.h"
#include "tests/unit/json_rig.h"

struct fixture {
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct workers *loader;
    struct settings settings;
    struct registry *registry;
    char models[64];
    int answers;
    struct registry_reply last; /* without its reply */
};

/* Makes a directory in the models directory. */
static inline void make_directory(const struct fixture *fixture, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fixture->models, name);
    assert_int_equal(mkdir(path, 0777), 0);
}

/* A call's answer: kept as the last one. */
static inline void on_answer(void *context, const struct registry_reply *reply)
{
    struct fixture *fixture = context;
    json_decref(reply->reply);
    fixture->last = *reply;
    fixture->answers++;
}

/* What a call whose answer `await` waits for is to call back. */
static inline struct registry_callback callback(struct fixture *fixture)
{
    return (struct registry_callback){.done = on_answer, .context = fixture};
}

/* A test's setup: an empty registry. */
static inline int start(void **state)
{
    static struct fixture fixture;
    struct error error;
    memset(&fixture, 0, sizeof fixture);
    snprintf(fixture.models, sizeof fixture.models, "/tmp/lstmd-registry-XXXXXX");
    assert_non_null(mkdtemp(fixture.models));
    settings_init(&fixture.settings);
    assert_int_equal(uv_loop_init(&fixture.loop), 0);
    assert_int_equal(mailbox_create(&fixture.loop, &fixture.mailbox, &error), STATUS_OK);
    struct workers_options workers = {.name = "loader", .thread_count = 1, .queue_max = 64, .mailbox = fixture.mailbox};
    assert_int_equal(workers_create(&workers, &fixture.loader, &error), STATUS_OK);
    struct registry_options options = {
        .settings = &fixture.settings, .models_path = fixture.models, .loader = fixture.loader, .loop = &fixture.loop};
    assert_int_equal(registry_create(&options, &fixture.registry, &error), STATUS_OK);
    *state = &fixture;
    return 0;
}

/* A test's teardown. */
static inline int stop(void **state)
{
    struct fixture *fixture = *state;
    struct error error;
    workers_end(fixture->loader);
    while (!mailbox_is_empty(fixture->mailbox)) {
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
    }
    registry_destroy(fixture->registry);
    workers_destroy(fixture->loader);
    mailbox_destroy(fixture->mailbox);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    assert_int_equal(directory_remove(fixture->models, &error), STATUS_OK);
    return 0;
}

/* Runs the loop until another call has been answered than those `before`. */
static inline void await(struct fixture *fixture, int before)
{
    while (fixture->answers == before) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
    }
}

/* Reads the directories, to the end. */
static inline void scan(struct fixture *fixture)
{
    int before = fixture->answers;
    registry_load(fixture->registry, "none", 0, RNN_PRECISION_COUNT, callback(fixture));
    await(fixture, before);
}

/* The next version of a model; `weight` is one of its weights. */
static inline void save_version_of(const struct fixture *fixture, const char *name, double weight)
{
    enum { ROWS = 16, COLUMNS = 32 };
    char path[128];
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    uint64_t version;
    snprintf(path, sizeof path, "%s/%s", fixture->models, name);
    json_t *specification = parse("{\"layers\":2,\"units\":8,\"vocabulary\":{\"kind\":\"characters\","
                                  "\"symbols\":[\" \",\"a\",\"b\",\"c\"]}}");
    json_t *kernel = json_array();
    for (size_t i = 0; i < ROWS; i++) {
        json_t *row = json_array();
        for (size_t n = 0; n < COLUMNS; n++) {
            json_array_append_new(row, json_real(i == 0 && n == 0 ? weight : 0));
        }
        json_array_append_new(kernel, row);
    }
    assert_int_equal(model_create(name, &model, &error), STATUS_OK);
    if (model_make_language_model(model, specification, 1, &error) != STATUS_OK ||
        model_set_variable(model, "rnn/multi_rnn_cell/cell_1/basic_lstm_cell/kernel", kernel, &reply, &error) !=
            STATUS_OK ||
        model_save(model, path, NULL, NULL, &version, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(reply);
    json_decref(kernel);
    json_decref(specification);
    model_unref(model);
}

/* The same of model "one". */
static inline void save_version(const struct fixture *fixture, double weight)
{
    save_version_of(fixture, "one", weight);
}

/* Loads a model, which comes to `status`. */
static inline void load_model(struct fixture *fixture, const char *name, enum rnn_precision precision,
                              enum status status)
{
    int before = fixture->answers;
    registry_load(fixture->registry, name, 0, precision, callback(fixture));
    await(fixture, before);
    assert_int_equal(fixture->last.status, status);
}

/* The same of model "one". */
static inline void load(struct fixture *fixture, enum rnn_precision precision, enum status status)
{
    load_model(fixture, "one", precision, status);
}

/* Changes a model's settings. */
static inline void patch_settings(struct fixture *fixture, const char *name, const char *text)
{
    json_t *patch = parse(text);
    int before = fixture->answers;
    registry_patch_settings(fixture->registry, name, patch, callback(fixture));
    await(fixture, before);
    assert_int_equal(fixture->last.status, STATUS_OK);
    json_decref(patch);
}

#endif

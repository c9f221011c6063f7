/* Random build programs, valid and broken: a refused one leaves everything as it was, an applied one a consistent graph
 * that replays to the same, and runs over it end in results or in errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/math/gemm.h"
#include "engine/model/model.h"
#include "engine/store/version_directory.h"

enum { KIND_TENSOR, KIND_VARIABLE, KIND_CELL, KIND_SCOPE, KIND_OPTIMIZER, KIND_LAYER, KIND_COUNT };
enum { NAMES_OF_KIND_MAX = 24, RANDOM_DEPTH_MAX = 3 };

/* What earlier programs named, by kind; copied to be able to forget what a refused program would have named. */
struct known {
    unsigned names[KIND_COUNT][NAMES_OF_KIND_MAX];
    size_t counts[KIND_COUNT];
    unsigned next_name;
};

struct chance {
    uint64_t seed;
    uint64_t counter;
    struct known known;
    unsigned percent_broken; /* of steps */
};

static uint64_t draw(struct chance *chance, uint64_t below)
{
    return rng_bits(chance->seed, 1, chance->counter++) % below;
}

static const char *pick(struct chance *chance, const char *const *texts, size_t count)
{
    return texts[draw(chance, count)];
}
#define PICK(chance, ...)                                                                                              \
    pick(chance, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* A name for a new result of a kind; the oldest is forgotten when there are too many. */
static json_t *name_new(struct chance *chance, int kind)
{
    struct known *known = &chance->known;
    unsigned name = known->next_name++;
    if (kind < KIND_COUNT) {
        known->names[kind][known->counts[kind] % NAMES_OF_KIND_MAX] = name;
        known->counts[kind]++;
    }
    return json_sprintf("h%u", name);
}

/* The name of a known result of a kind; of nothing when there is none yet. */
static json_t *name_known(struct chance *chance, int kind)
{
    size_t count = chance->known.counts[kind];
    count = count > NAMES_OF_KIND_MAX ? NAMES_OF_KIND_MAX : count;
    if (count == 0) {
        return json_string("nothing");
    }
    return json_sprintf("h%u", chance->known.names[kind][draw(chance, count)]);
}

static json_t *name_tensor(struct chance *chance)
{
    return name_known(chance, draw(chance, 3) == 0 ? KIND_VARIABLE : KIND_TENSOR);
}

static json_t *random_shape(struct chance *chance, bool may_be_open)
{
    json_t *shape = json_array();
    size_t rank = draw(chance, 4);
    if (!may_be_open && draw(chance, 2) == 0) {
        json_decref(shape);
        return json_pack("[i,i]", 2, 2); /* so that much goes together */
    }
    for (size_t i = 0; i < rank; i++) {
        bool is_open = may_be_open && draw(chance, 4) == 0;
        json_array_append_new(shape, is_open ? json_null() : json_integer((json_int_t)(draw(chance, 3) + 1)));
    }
    return shape;
}

static json_t *random_value(struct chance *chance)
{
    switch (draw(chance, 6)) {
    case 0: return json_integer((json_int_t)draw(chance, 5));
    case 1: return json_real((double)draw(chance, 100) / 8);
    case 2: return json_pack("[f,f]", 1.5, -0.25);
    default: return json_pack("[[f,f],[f,f]]", 1.0, 2.0, 3.0, 4.5);
    }
}

static const char *random_name(struct chance *chance)
{
    return PICK(chance, "a", "b", "A", "a_1", "x/y", "rnn", "w", "kernel", "basic_lstm_cell");
}

/* ---- steps ---- */

static json_t *random_steps(struct chance *chance, size_t count, int depth);

static json_t *random_variable(struct chance *chance)
{
    if (draw(chance, 2) == 0) {
        return json_pack("{s:s, s:s, s:o, s:o}", "op", "variable", "name", random_name(chance), "initial_value",
                         random_value(chance), "as", name_new(chance, KIND_VARIABLE));
    }
    return json_pack("{s:s, s:s, s:o, s:s, s:o}", "op", "get_variable", "name", random_name(chance), "shape",
                     random_shape(chance, false), "initializer",
                     PICK(chance, "zeros", "ones", "glorot_uniform", "random_normal", "orthogonal"), "as",
                     name_new(chance, KIND_VARIABLE));
}

static json_t *random_function(struct chance *chance)
{
    const char *one = PICK(chance, "identity", "tanh", "sigmoid", "square", "reduce_sum", "reduce_mean", "relu",
                           "softmax", "negative", "shape", "stop_gradient", "transpose");
    const char *two = PICK(chance, "add", "subtract", "multiply", "matmul", "maximum", "divide", "equal", "less");
    json_t *first = name_tensor(chance);
    bool is_unary = draw(chance, 2) == 0;
    json_t *args = is_unary
                       ? json_pack("[o]", first)
                       : json_pack("[o,o]", first, draw(chance, 3) == 0 ? random_value(chance) : name_tensor(chance));
    return json_pack("{s:s, s:o, s:o}", "op", is_unary ? one : two, "args", args, "as", name_new(chance, KIND_TENSOR));
}

static json_t *random_source(struct chance *chance)
{
    if (draw(chance, 2) == 0) {
        return json_pack("{s:s, s:o, s:o}", "op", "constant", "value", random_value(chance), "as",
                         name_new(chance, KIND_TENSOR));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "op", "placeholder", "dtype", PICK(chance, "float32", "int32", "float64"),
                     "shape", random_shape(chance, true), "as", name_new(chance, KIND_TENSOR));
}

static json_t *random_scope(struct chance *chance, int depth)
{
    json_t *as = name_new(chance, KIND_SCOPE);
    json_t *step = json_pack("{s:s, s:o}", "op", "variable_scope", "as", as);
    switch (draw(chance, 4)) {
    case 0: json_object_set_new(step, "default_name", json_string(random_name(chance))); break;
    case 1: json_object_set_new(step, "scope", name_known(chance, KIND_SCOPE)); break;
    default: json_object_set_new(step, "name", json_string(random_name(chance)));
    }
    if (draw(chance, 2) == 0) {
        json_object_set_new(step, "reuse", draw(chance, 3) == 0 ? json_true() : json_string("auto"));
    }
    json_object_set_new(step, "body", random_steps(chance, draw(chance, 4), depth + 1));
    return step;
}

static json_t *random_context(struct chance *chance, int depth)
{
    size_t count = draw(chance, 3);
    switch (draw(chance, 4)) {
    case 0:
        return json_pack("{s:s, s:s, s:o}", "op", "name_scope", "name", random_name(chance), "body",
                         random_steps(chance, count, depth + 1));
    case 1: {
        json_t *inputs = json_pack("[o]", name_tensor(chance));
        return json_pack("{s:s, s:o, s:o}", "op", "control_dependencies", "inputs", inputs, "body",
                         random_steps(chance, count, depth + 1));
    }
    default: return random_scope(chance, depth);
    }
}

static json_t *random_cell(struct chance *chance)
{
    switch (draw(chance, 8)) {
    case 0:
        return json_pack("{s:s, s:[o,o], s:o}", "op", "multi_rnn_cell", "cells", name_known(chance, KIND_CELL),
                         name_known(chance, KIND_CELL), "as", name_new(chance, KIND_CELL));
    case 1:
        return json_pack("{s:s, s:o, s:f, s:o}", "op", "dropout_wrapper", "cell", name_known(chance, KIND_CELL),
                         "output_keep_prob", 0.5, "as", name_new(chance, KIND_CELL));
    case 2:
        return json_loads("{\"op\":\"cell\",\"num_units\":2,\"input\":\"i\",\"states\":[\"s\"],\"output\":\"y\","
                          "\"next_states\":[\"t\"],\"as\":\"own\",\"body\":[{\"op\":\"add\",\"args\":[\"s\",1.0],"
                          "\"as\":\"t\"},{\"op\":\"tanh\",\"args\":[\"t\"],\"as\":\"y\"}]}",
                          0, NULL);
    default:
        return json_pack("{s:s, s:I, s:o}", "op",
                         PICK(chance, "basic_rnn_cell", "basic_lstm_cell", "lstm_cell", "gru_cell"), "num_units",
                         (json_int_t)(draw(chance, 3) + 1), "as", name_new(chance, KIND_CELL));
    }
}

static json_t *random_recurrence(struct chance *chance)
{
    json_t *inputs = json_pack("{s:s, s:o, s:s}", "op", "zeros", "shape", json_pack("[i,i,i]", 2, 3, 2), "as", "seq");
    json_t *run = json_pack("{s:s, s:o, s:s, s:s, s:[o,s]}", "op", "dynamic_rnn", "cell", name_known(chance, KIND_CELL),
                            "inputs", "seq", "dtype", "float32", "as", name_new(chance, KIND_TENSOR), "last");
    return json_pack("{s:s, s:s, s:[o,o]}", "op", "variable_scope", "name", random_name(chance), "body", inputs, run);
}

static json_t *random_training(struct chance *chance)
{
    switch (draw(chance, 4)) {
    case 0:
        return json_pack("{s:s, s:f, s:o}", "op", PICK(chance, "sgd", "adam", "adagrad", "rmsprop"), "learning_rate",
                         0.1, "as", name_new(chance, KIND_OPTIMIZER));
    case 1:
        return json_pack("{s:s, s:o, s:o}", "op", "minimize", "optimizer", name_known(chance, KIND_OPTIMIZER), "loss",
                         name_tensor(chance));
    case 2:
        return json_pack("{s:s, s:[o], s:[o], s:[o]}", "op", "gradients", "ys", name_tensor(chance), "xs",
                         name_tensor(chance), "as", name_new(chance, KIND_COUNT));
    default: return json_pack("{s:s}", "op", PICK(chance, "saver", "global_variables_initializer"));
    }
}

static json_t *random_layer(struct chance *chance)
{
    if (draw(chance, 2) == 0) {
        return json_pack("{s:s, s:o, s:[n,i,i]}", "op", "build_model", "layer", name_known(chance, KIND_LAYER),
                         "input_shape", 2, 3);
    }
    return json_pack("{s:s, s:i, s:o}", "op", PICK(chance, "lstm", "gru", "dense", "simple_rnn"), "units", 2, "as",
                     name_new(chance, KIND_LAYER));
}

static json_t *random_good_step(struct chance *chance, int depth)
{
    switch (draw(chance, 12)) {
    case 0:
    case 1: return random_variable(chance);
    case 2:
    case 3: return random_source(chance);
    case 4:
    case 5: return random_function(chance);
    case 6: return depth < RANDOM_DEPTH_MAX ? random_context(chance, depth) : random_function(chance);
    case 7: return random_cell(chance);
    case 8: return random_recurrence(chance);
    case 9: return random_training(chance);
    case 10: return random_layer(chance);
    default:
        return json_pack("{s:s, s:o, s:o}", "op", "assign", "var", name_known(chance, KIND_VARIABLE), "value",
                         draw(chance, 2) == 0 ? random_value(chance) : name_tensor(chance));
    }
}

/* ---- breaking ---- */

static json_t *strange_json(struct chance *chance)
{
    switch (draw(chance, 9)) {
    case 0: return json_null();
    case 1: return json_integer(-1);
    case 2: return json_integer(1000000000000);
    case 3: return json_string("");
    case 4: return json_string("no such thing");
    case 5: return json_object();
    case 6: return json_pack("[[i],[[i]]]", 1, 2);
    case 7: return json_pack("[I,I]", (json_int_t)1000000, (json_int_t)1000000);
    default: return json_real(1e300);
    }
}

/* One field dropped, replaced by something strange, or added. */
static void break_step(struct chance *chance, json_t *step)
{
    size_t at = draw(chance, json_object_size(step));
    void *field = json_object_iter(step);
    for (size_t i = 0; i < at; i++) {
        field = json_object_iter_next(step, field);
    }
    char key[64];
    snprintf(key, sizeof key, "%s", json_object_iter_key(field));
    switch (draw(chance, 4)) {
    case 0: json_object_del(step, key); break;
    case 1: json_object_set_new(step, random_name(chance), strange_json(chance)); break;
    default: json_object_set_new(step, key, strange_json(chance));
    }
}

static json_t *random_steps(struct chance *chance, size_t count, int depth)
{
    json_t *steps = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *step = random_good_step(chance, depth);
        if (draw(chance, 100) < chance->percent_broken) {
            break_step(chance, step);
        }
        json_array_append_new(steps, step);
    }
    return steps;
}

/* The first program of a model: something of each kind. */
static json_t *first_program(struct chance *chance)
{
    return json_pack("{s:[{s:s,s:o,s:o},{s:s,s:o,s:o},{s:s,s:i,s:o},{s:s,s:s,s:[],s:o},{s:s,s:f,s:o},{s:s,s:i,s:o}]}",
                     "program", "op", "variable", "initial_value", json_pack("[[f,f],[f,f]]", 1.0, 2.0, 3.0, 4.0), "as",
                     name_new(chance, KIND_VARIABLE), "op", "constant", "value",
                     json_pack("[[f,f],[f,f]]", 0.5, 1.0, -1.0, 2.0), "as", name_new(chance, KIND_TENSOR), "op",
                     "basic_lstm_cell", "num_units", 2, "as", name_new(chance, KIND_CELL), "op", "variable_scope",
                     "name", "first", "body", "as", name_new(chance, KIND_SCOPE), "op", "sgd", "learning_rate", 0.1,
                     "as", name_new(chance, KIND_OPTIMIZER), "op", "dense", "units", 2, "as",
                     name_new(chance, KIND_LAYER));
}

static json_t *random_program(struct chance *chance)
{
    json_t *program = json_pack("{s:o}", "program", random_steps(chance, draw(chance, 5) + 1, 0));
    if (draw(chance, 3) == 0) {
        json_object_set_new(program, "reuse", json_string("auto"));
    }
    return program;
}

/* ---- playing them ---- */

enum { PROGRAMS_QUICK = 400, PROGRAMS_A_ROUND = 40, RUN_MS_MAX = 2000 };
#ifdef __SANITIZE_THREAD__
#define PROGRAMS_SLOW 2000 /* one thread, ten times slower */
#else
#define PROGRAMS_SLOW 10000
#endif

static struct model *make_model(void)
{
    struct model *model = NULL;
    struct error error;
    assert_int_equal(model_create("random", &model, &error), STATUS_OK);
    return model;
}

static json_t *look_at(struct model *model)
{
    struct error error;
    json_t *reply = NULL;
    assert_int_equal(model_describe_graph(model, &reply, &error), STATUS_OK);
    return reply;
}

/* Everything there is to see, byte for byte. */
static char *describe(struct model *model)
{
    json_t *reply = look_at(model);
    char *text = json_dumps(reply, JSON_SORT_KEYS);
    json_decref(reply);
    return text;
}

/* Names are unique, and what is named as an input stands before. */
static void check_consistent(struct model *model)
{
    json_t *graph = look_at(model);
    json_t *seen = json_object();
    const json_t *nodes = json_object_get(graph, "nodes");
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        const json_t *inputs = json_object_get(node, "inputs");
        const char *name = json_string_value(json_object_get(node, "name"));
        for (size_t k = 0; k < json_array_size(inputs); k++) {
            char input[512];
            const char *text = json_string_value(json_array_get(inputs, k));
            snprintf(input, sizeof input, "%s", text + (text[0] == '^'));
            input[strcspn(input, ":")] = '\0';
            assert_non_null(json_object_get(seen, input));
        }
        assert_null(json_object_get(seen, name));
        json_object_set_new(seen, name, json_true());
    }
    json_decref(seen);
    json_decref(graph);
}

/* A second model that is given the same programs comes to the same. */
static void check_replay(struct model *model, const json_t *programs)
{
    struct model *other = make_model();
    for (size_t i = 0; i < json_array_size(programs); i++) {
        struct error error;
        json_t *reply = NULL;
        assert_int_equal(model_build(other, json_array_get(programs, i), "id", &reply, &error), STATUS_OK);
        json_decref(reply);
    }
    char *one = describe(model);
    char *two = describe(other);
    assert_string_equal(one, two);
    free(one);
    free(two);
    model_unref(other);
}

/* All there is to see of a model's graph but how it came to be: read back it is the same as the one that was saved. */
static json_t *look_at_graph(struct model *model)
{
    json_t *graph = look_at(model);
    json_object_del(graph, "generation");
    json_object_del(graph, "base_version");
    json_object_del(graph, "unsaved");
    return graph;
}

/* Runs all initialisers; some random ones cannot be run. */
static void give_values(struct model *model)
{
    struct error error;
    json_t *reply = NULL;
    json_t *request = json_pack("{s:[{s:s,s:s}]}", "program", "op", "global_variables_initializer", "as", "all");
    assert_int_equal(model_build(model, request, "id", &reply, &error), STATUS_OK);
    json_decref(request);
    json_decref(reply);
    request = json_pack("{s:[s]}", "targets", "all");
    enum status status = model_run_within(model, request, RUN_MS_MAX, &reply, &error);
    if (status == STATUS_OK) {
        json_decref(reply);
    }
    json_decref(request);
}

/* Saved and read back it is the same graph. Returns whether it was saved: not where a variable has no value. */
static bool check_save(struct model *model)
{
    struct error error;
    uint64_t version = 0;
    char directory[] = "/tmp/lstmd-test-random-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(directory));
    enum status status = model_save(model, directory, NULL, NULL, &version, &error);
    assert_true(status == STATUS_OK || status == STATUS_UNPROCESSABLE);
    if (status == STATUS_OK) {
        struct model *loaded = NULL;
        snprintf(path, sizeof path, "%s/%llu", directory, (unsigned long long)version);
        if (model_create_from_version("random", path, version, &loaded, &error) != STATUS_OK) {
            fail_msg("%s", error.message);
        }
        json_t *one = look_at_graph(model);
        json_t *two = look_at_graph(loaded);
        char *one_text = json_dumps(one, JSON_SORT_KEYS);
        char *two_text = json_dumps(two, JSON_SORT_KEYS);
        assert_string_equal(one_text, two_text);
        free(one_text);
        free(two_text);
        json_decref(one);
        json_decref(two);
        model_unref(loaded);
    }
    assert_int_equal(directory_remove(directory, &error), STATUS_OK);
    return status == STATUS_OK;
}

/* Runs a few things; what they give is not known here, only that they end. */
static void run_something(struct chance *chance, struct model *model)
{
    json_t *graph = look_at(model);
    const json_t *nodes = json_object_get(graph, "nodes");
    for (int i = 0; i < 3 && json_array_size(nodes) > 0; i++) {
        const json_t *node = json_array_get(nodes, draw(chance, json_array_size(nodes)));
        const char *name = json_string_value(json_object_get(node, "name"));
        bool is_operation = json_array_size(json_object_get(node, "outputs")) == 0;
        json_t *request = json_pack("{s:[s+]}", "fetches", name, is_operation ? "" : ":0");
        struct error error = {.message = ""};
        json_t *reply = NULL;
        enum status status = model_run_within(model, request, RUN_MS_MAX, &reply, &error);
        assert_true(status == STATUS_OK || error.message[0] != '\0');
        json_decref(reply);
        json_decref(request);
    }
    json_decref(graph);
}

/* One program: applied, or refused without a trace. */
static bool play(struct chance *chance, struct model *model, json_t *programs)
{
    struct known before_known = chance->known;
    json_t *program = json_array_size(programs) == 0 ? first_program(chance) : random_program(chance);
    char *before = describe(model);
    struct error error = {.message = ""};
    json_t *reply = NULL;
    bool is_applied = model_build(model, program, "id", &reply, &error) == STATUS_OK;
    json_decref(reply);
    if (is_applied) {
        json_array_append(programs, program);
    } else {
        char *after = describe(model);
        assert_true(error.message[0] != '\0' && error.param[0] != '\0');
        assert_string_equal(before, after);
        free(after);
        chance->known = before_known;
    }
    free(before);
    json_decref(program);
    return is_applied;
}

static uint64_t choose_seed(void)
{
    const char *text = getenv("TEST_SEED");
    return text == NULL ? rng_system() % 1000000 : strtoull(text, NULL, 10);
}

static void test_random_programs(void **state)
{
    (void)state;
    const char *slow = getenv("SLOW");
    size_t program_count = slow == NULL ? PROGRAMS_QUICK : PROGRAMS_SLOW;
    struct chance chance = {.seed = choose_seed()};
    size_t applied = 0;
    size_t saved = 0;
    print_message("TEST_SEED=%llu\n", (unsigned long long)chance.seed);
    for (size_t round = 0; round * PROGRAMS_A_ROUND < program_count; round++) {
        struct model *model = make_model();
        json_t *programs = json_array();
        chance.known = (struct known){.next_name = 0};
        chance.percent_broken = (unsigned)(round % 3) * 10;
        for (size_t i = 0; i < PROGRAMS_A_ROUND; i++) {
            applied += play(&chance, model, programs);
        }
        check_consistent(model);
        check_replay(model, programs);
        run_something(&chance, model);
        give_values(model);
        saved += check_save(model);
        json_decref(programs);
        model_unref(model);
    }
    assert_in_range(applied, program_count / 5, program_count * 9 / 10);
    print_message("%zu saved\n", saved);
    assert_true(saved > 0);
}

/* Each allocation of a program fails once: a status, nothing changed, nothing leaked. */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct chance chance = {.seed = choose_seed()};
    print_message("TEST_SEED=%llu\n", (unsigned long long)chance.seed);
    for (int program_count = 0; program_count < 3; program_count++) {
        struct model *model = make_model();
        json_t *program = random_program(&chance);
        char *before = describe(model);
        enum status status = STATUS_NO_MEMORY;
        for (uint64_t failing = 0; status != STATUS_OK && failing < 3000; failing += 3) {
            struct error error = {.message = ""};
            json_t *reply = NULL;
            mem_fail_after(failing);
            status = model_build(model, program, "id", &reply, &error);
            mem_fail_after(UINT64_MAX);
            json_decref(reply);
            char *after = status == STATUS_OK ? NULL : describe(model);
            assert_true(status == STATUS_OK || strcmp(before, after) == 0);
            free(after);
        }
        free(before);
        json_decref(program);
        model_unref(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_programs),
        cmocka_unit_test(test_out_of_memory),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

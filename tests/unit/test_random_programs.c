/* Random build programs, valid and broken: a refused one leaves everything as it was, an applied one a consistent graph
 * that replays to the same, and runs over it end in results or in errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/model/model.h"
#include "tests/unit/random_programs.h"

enum { PROGRAMS_QUICK = 400, PROGRAMS_SLOW = 10000, PROGRAMS_A_ROUND = 40, RUN_MS_MAX = 2000 };

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
    const json_t *variables = json_object_get(graph, "variables");
    for (size_t i = 0; i < json_array_size(variables); i++) {
        char name[512];
        snprintf(name, sizeof name, "%s", json_string_value(json_object_get(json_array_get(variables, i), "name")));
        name[strcspn(name, ":")] = '\0';
        assert_non_null(json_object_get(seen, name));
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
        if (model_run_within(model, request, RUN_MS_MAX, &reply, &error) == STATUS_OK) {
            json_decref(reply);
        } else {
            assert_true(error.message[0] != '\0');
        }
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
    if (is_applied) {
        json_decref(reply);
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
        json_decref(programs);
        model_unref(model);
    }
    assert_in_range(applied, program_count / 5, program_count * 9 / 10);
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
            if (status == STATUS_OK) {
                json_decref(reply);
                break;
            }
            char *after = describe(model);
            assert_string_equal(before, after);
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
    return cmocka_run_group_tests(tests, NULL, NULL);
}

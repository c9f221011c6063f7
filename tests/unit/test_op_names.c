/* Op names and name scopes: TensorFlow's unique_name, peeking, absolute scopes, what is no name. */
#include "graph_rig.h"

/* A line of a story: enter a scope, leave it, ask for a unique name (or only look), with the answer. */
struct step {
    enum { ENTER, ROOT, LEAVE, NAME, PEEK } what;
    const char *name;
    const char *expected; /* of ENTER: the scope without its slash */
};

static void tell(const struct step *steps, size_t count)
{
    struct rig rig = rig_open();
    const char *previous[16];
    size_t depth = 0;
    for (size_t i = 0; i < count; i++) {
        const struct step *step = &steps[i];
        const char *given = NULL;
        switch (step->what) {
        case ENTER:
        case ROOT:
            must(graph_enter_name_scope(rig.graph, step->name, &previous[depth++], &rig.error), &rig.error);
            given = graph_name_scope(rig.graph);
            break;
        case LEAVE: graph_leave_name_scope(rig.graph, previous[--depth]); continue;
        case NAME: must(graph_unique_name(rig.graph, step->name, &given, &rig.error), &rig.error); break;
        case PEEK: must(graph_peek_name(rig.graph, step->name, &given, &rig.error), &rig.error); break;
        }
        assert_string_equal(given, step->expected);
    }
    rig_close(&rig);
}

#define TELL(...)                                                                                                      \
    do {                                                                                                               \
        static const struct step steps[] = {__VA_ARGS__};                                                              \
        tell(steps, sizeof steps / sizeof *steps);                                                                     \
    } while (0)

static void test_suffixes_begin_at_the_names_own_counter(void **state)
{
    (void)state;
    TELL({NAME, "foo_2", "foo_2"}, {NAME, "foo", "foo"}, {NAME, "foo", "foo_1"}, {NAME, "foo", "foo_3"});
    TELL({NAME, "foo", "foo"}, {NAME, "foo", "foo_1"}, {NAME, "foo_1", "foo_1_1"}, {NAME, "foo_1", "foo_1_2"},
         {NAME, "foo_1_2", "foo_1_2_1"});
}

static void test_case_is_ignored_and_kept(void **state)
{
    (void)state;
    TELL({NAME, "foo", "foo"}, {NAME, "Foo", "Foo_1"}, {NAME, "FOO", "FOO_2"}, {NAME, "foo_1", "foo_1_1"});
}

static void test_looking_takes_nothing(void **state)
{
    (void)state;
    TELL({PEEK, "foo", "foo"}, {PEEK, "foo", "foo"}, {NAME, "foo", "foo"}, {PEEK, "foo", "foo_1"},
         {PEEK, "foo", "foo_1"}, {NAME, "foo", "foo_1"}, {NAME, "foo", "foo_2"});
}

static void test_scopes_nest_and_are_unique(void **state)
{
    (void)state;
    TELL({ENTER, "bar", "bar"}, {NAME, "foo", "bar/foo"}, {ENTER, "baz", "bar/baz"}, {LEAVE, NULL, NULL},
         {ENTER, "baz", "bar/baz_1"}, {NAME, "foo", "bar/baz_1/foo"}, {LEAVE, NULL, NULL}, {ROOT, NULL, ""},
         {NAME, "foo", "foo"}, {LEAVE, NULL, NULL}, {LEAVE, NULL, NULL}, {ENTER, "bar", "bar_1"}, {LEAVE, NULL, NULL},
         {NAME, "bar", "bar_2"});
}

static void test_a_trailing_slash_is_absolute(void **state)
{
    (void)state;
    TELL({ENTER, "foo/", "foo"}, {ENTER, "", ""}, {LEAVE, NULL, NULL}, {ENTER, "foo4", "foo/foo4"}, {LEAVE, NULL, NULL},
         {ENTER, "foo5//", "foo5/"}, {ENTER, "foo6", "foo5//foo6"}, {LEAVE, NULL, NULL}, {LEAVE, NULL, NULL},
         {ENTER, "/", ""}, {LEAVE, NULL, NULL}, {ENTER, "//", "/"}, {LEAVE, NULL, NULL},
         {ENTER, "a//b/c", "foo/a//b/c"}, {LEAVE, NULL, NULL}, {LEAVE, NULL, NULL}, {ENTER, "foo/", "foo"},
         {LEAVE, NULL, NULL}, {ENTER, "a//b/c", "a//b/c"});
}

static void test_what_is_no_scope_name(void **state)
{
    (void)state;
    static const char *const wrong[] = {"_bar", "-bar", "/", "foo:0", "a b", "é", "a\n"};
    struct rig rig = rig_open();
    const char *previous = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char message[80];
        snprintf(message, sizeof message, "'%s' is not a valid scope name", wrong[i]);
        expect_error(graph_enter_name_scope(rig.graph, wrong[i], &previous, &rig.error), &rig.error, "ValueError",
                     message);
    }
    must(graph_enter_name_scope(rig.graph, "foo", &previous, &rig.error), &rig.error);
    must(graph_enter_name_scope(rig.graph, "_bar", &previous, &rig.error), &rig.error); /* inside, it may begin so */
    assert_string_equal(graph_name_scope(rig.graph), "foo/_bar");
    expect_error(graph_enter_name_scope(rig.graph, "x:0", &previous, &rig.error), &rig.error, "ValueError",
                 "'x:0' is not a valid scope name");
    rig_close(&rig);
}

static void test_operations_of_any_type(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct node *node = NULL;
    must(graph_add_operation(rig.graph, "FloatOutput", NULL, &node, &rig.error), &rig.error);
    assert_string_equal(node->name, "FloatOutput");
    must(graph_add_operation(rig.graph, "FloatOutput", NULL, &node, &rig.error), &rig.error);
    assert_string_equal(node->name, "FloatOutput_1");
    must(graph_add_operation(rig.graph, "FloatOutput", "my_op", &node, &rig.error), &rig.error);
    assert_string_equal(node->name, "my_op");
    must(graph_add_operation(rig.graph, "op", "a/b/", &node, &rig.error), &rig.error);
    assert_string_equal(node->name, "a/b");
    expect_error(graph_add_operation(rig.graph, "op", "a/b/", &node, &rig.error), &rig.error, "ValueError",
                 "Duplicate node name in graph: 'a/b'");
    static const char *const wrong[] = {"_invalid", "-invalid", "invalid:0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char message[80];
        snprintf(message, sizeof message, "'%s' is not a valid node name", wrong[i]);
        expect_error(graph_add_operation(rig.graph, "op", wrong[i], &node, &rig.error), &rig.error, "ValueError",
                     message);
    }
    rig_close(&rig);
}

static void test_a_long_name_is_refused(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    char name[GRAPH_NAME_BYTES_MAX + 1];
    const char *given = NULL;
    memset(name, 'a', GRAPH_NAME_BYTES_MAX);
    name[GRAPH_NAME_BYTES_MAX] = '\0';
    assert_int_equal(graph_unique_name(rig.graph, name, &given, &rig.error), STATUS_LIMIT);
    name[GRAPH_NAME_BYTES_MAX - 1] = '\0';
    must(graph_unique_name(rig.graph, name, &given, &rig.error), &rig.error);
    assert_string_equal(given, name);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suffixes_begin_at_the_names_own_counter),
        cmocka_unit_test(test_case_is_ignored_and_kept),
        cmocka_unit_test(test_looking_takes_nothing),
        cmocka_unit_test(test_scopes_nest_and_are_unique),
        cmocka_unit_test(test_a_trailing_slash_is_absolute),
        cmocka_unit_test(test_what_is_no_scope_name),
        cmocka_unit_test(test_operations_of_any_type),
        cmocka_unit_test(test_a_long_name_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Variable scopes: what each way of opening makes of names, reuse, properties and default names. Each test tells one
 * paragraph of TensorFlow's rules (variable_scope.py, 1.15). */
#include "graph_rig.h"

enum { DEPTH_MAX = 16 };

struct story {
    struct rig rig;
    struct variable_scope_frame frames[DEPTH_MAX];
    size_t depth;
};

static struct story begin(void)
{
    return (struct story){.rig = rig_open()};
}

static void end(struct story *story)
{
    rig_close(&story->rig);
}

static uint32_t open_with(struct story *story, const struct variable_scope_options *options)
{
    must(variable_scope_open(story->rig.graph, options, &story->frames[story->depth], &story->rig.error),
         &story->rig.error);
    return story->frames[story->depth++].scope;
}

static uint32_t by_name(struct story *story, const char *name, enum reuse reuse)
{
    struct variable_scope_options options = {.name = name, .reuse = reuse};
    return open_with(story, &options);
}

static uint32_t by_default(struct story *story, const char *name)
{
    struct variable_scope_options options = {.default_name = name};
    return open_with(story, &options);
}

static uint32_t by_scope(struct story *story, uint32_t scope, enum reuse reuse)
{
    struct variable_scope_options options = {.is_scope = true, .scope = scope, .reuse = reuse};
    return open_with(story, &options);
}

static void leave(struct story *story)
{
    must(variable_scope_close(story->rig.graph, &story->frames[--story->depth], &story->rig.error), &story->rig.error);
}

static const struct variable_scope *at(struct story *story, uint32_t scope)
{
    return variable_scope_at(story->rig.graph, scope);
}

/* The current scope's name and the name scope with it. */
static void expect_names(struct story *story, const char *scope, const char *name_scope)
{
    assert_string_equal(variable_scope_name(story->rig.graph), scope);
    assert_string_equal(graph_name_scope(story->rig.graph), name_scope);
}

static const struct variable *get(struct story *story, const char *name)
{
    const struct variable *variable = NULL;
    struct variable_options options = {.name = name, .has_shape = true};
    must(get_variable(story->rig.graph, &options, &variable, NULL, &story->rig.error), &story->rig.error);
    return variable;
}

static void expect_refusal(struct story *story, const char *name, const char *message)
{
    const struct variable *variable = NULL;
    struct variable_options options = {.name = name, .has_shape = true};
    expect_error(get_variable(story->rig.graph, &options, &variable, NULL, &story->rig.error), &story->rig.error,
                 "ValueError", message);
}

/* ---- names ---- */

static void test_a_string_nests(void **state)
{
    (void)state;
    struct story story = begin();
    by_name(&story, "a", REUSE_INHERIT);
    uint32_t inner = by_name(&story, "b", REUSE_INHERIT);
    expect_names(&story, "a/b", "a/b");
    assert_string_equal(at(&story, inner)->original_name_scope, "a/b/");
    assert_string_equal(get(&story, "v")->node->name, "a/b/v");
    leave(&story);
    leave(&story);
    by_name(&story, "a", REUSE_INHERIT); /* ops follow the unique name scope, variables do not */
    expect_names(&story, "a", "a_1");
    assert_string_equal(get(&story, "u")->node->name, "a/u");
    leave(&story);
    by_name(&story, "a/b", REUSE_TRUE);
    assert_string_equal(get(&story, "v")->node->name, "a/b/v");
    end(&story);
}

static void test_the_empty_string_is_a_name(void **state)
{
    (void)state;
    struct story story = begin();
    uint32_t root = by_name(&story, "", REUSE_INHERIT);
    expect_names(&story, "", "");
    assert_string_equal(at(&story, root)->original_name_scope, "");
    leave(&story);
    by_name(&story, "a", REUSE_INHERIT);
    uint32_t inner = by_name(&story, "", REUSE_INHERIT);
    expect_names(&story, "a/", "a");
    assert_string_equal(at(&story, inner)->original_name_scope, "");
    assert_string_equal(get(&story, "v")->node->name, "a//v");
    end(&story);
}

static void test_a_scope_object_is_absolute(void **state)
{
    (void)state;
    struct story story = begin();
    uint32_t outer = by_name(&story, "outer", REUSE_INHERIT);
    uint32_t tower = by_name(&story, "tower", REUSE_INHERIT);
    leave(&story);
    leave(&story);
    by_name(&story, "six", REUSE_TRUE);
    uint32_t again = by_scope(&story, tower, REUSE_INHERIT); /* its last component nests in the name scope */
    expect_names(&story, "outer/tower", "six/tower");
    assert_string_equal(at(&story, again)->original_name_scope, "outer/tower/");
    assert_int_equal(at(&story, again)->reuse, REUSE_INHERIT); /* nothing comes from the scope around */
    leave(&story);
    leave(&story);
    by_scope(&story, outer, REUSE_INHERIT);
    expect_names(&story, "outer", "outer_1");
    leave(&story);
    expect_names(&story, "", "");
    by_scope(&story, variable_scope_current(story.rig.graph), REUSE_INHERIT); /* the root opens no name scope */
    expect_names(&story, "", "");
    end(&story);
}

static void test_a_scope_may_keep_the_name_scope(void **state)
{
    (void)state;
    struct story story = begin();
    by_name(&story, "outer", REUSE_INHERIT);
    struct variable_scope_options options = {.name = "inner", .keeps_name_scope = true};
    uint32_t inner = open_with(&story, &options);
    expect_names(&story, "outer/inner", "outer");
    assert_string_equal(at(&story, inner)->original_name_scope, "outer/");
    by_name(&story, "below", REUSE_INHERIT); /* children do not inherit it */
    expect_names(&story, "outer/inner/below", "outer/below");
    leave(&story);
    leave(&story);
    options = (struct variable_scope_options){.default_name = "d", .keeps_name_scope = true};
    open_with(&story, &options);
    expect_names(&story, "outer/d", "outer");
    end(&story);
}

/* ---- properties ---- */

static void test_reuse_is_inherited_by_name_only(void **state)
{
    (void)state;
    struct story story = begin();
    by_name(&story, "a", REUSE_TRUE);
    assert_int_equal(at(&story, by_name(&story, "b", REUSE_INHERIT))->reuse, REUSE_TRUE);
    assert_int_equal(at(&story, by_name(&story, "c", REUSE_AUTO))->reuse, REUSE_AUTO);
    assert_int_equal(at(&story, by_name(&story, "d", REUSE_INHERIT))->reuse, REUSE_AUTO);
    assert_int_equal(at(&story, by_name(&story, "e", REUSE_TRUE))->reuse, REUSE_TRUE);
    end(&story);
}

static void test_an_entered_scope_is_a_copy(void **state)
{
    (void)state;
    struct story story = begin();
    uint32_t a = by_name(&story, "a", REUSE_INHERIT);
    leave(&story);
    uint32_t copy = by_scope(&story, a, REUSE_INHERIT);
    must(variable_scope_reuse_variables(story.rig.graph, copy, &story.rig.error), &story.rig.error);
    assert_int_equal(variable_scope_reuse(story.rig.graph), REUSE_TRUE);
    leave(&story);
    assert_int_equal(at(&story, by_scope(&story, a, REUSE_INHERIT))->reuse, REUSE_INHERIT);
    leave(&story);
    must(variable_scope_reuse_variables(story.rig.graph, a, &story.rig.error), &story.rig.error);
    assert_int_equal(at(&story, by_scope(&story, a, REUSE_INHERIT))->reuse, REUSE_TRUE);
    leave(&story);
    assert_int_equal(at(&story, by_name(&story, "a", REUSE_INHERIT))->reuse, REUSE_INHERIT);
    end(&story);
}

static void test_reuse_of_the_root_lasts(void **state)
{
    (void)state;
    struct story story = begin();
    const struct variable *v = get(&story, "v");
    uint32_t root = variable_scope_current(story.rig.graph);
    must(variable_scope_reuse_variables(story.rig.graph, root, &story.rig.error), &story.rig.error);
    assert_ptr_equal(get(&story, "v"), v);
    by_name(&story, "a", REUSE_INHERIT);
    expect_refusal(&story, "v",
                   "Variable a/v does not exist, or was not created with tf.get_variable(). Did you mean to set "
                   "reuse=tf.AUTO_REUSE in VarScope?");
    end(&story);
}

static void test_a_programs_reuse_is_the_roots_for_a_while(void **state)
{
    (void)state;
    struct story story = begin();
    const struct variable *v = get(&story, "v");
    variable_scope_set_reuse(story.rig.graph, REUSE_AUTO);
    assert_ptr_equal(get(&story, "v"), v);
    assert_int_equal(at(&story, by_name(&story, "a", REUSE_INHERIT))->reuse, REUSE_AUTO);
    leave(&story);
    variable_scope_set_reuse(story.rig.graph, REUSE_INHERIT);
    expect_refusal(&story, "v", "Variable v already exists, disallowed. …");
    end(&story);
}

static void test_properties_are_inherited(void **state)
{
    (void)state;
    struct story story = begin();
    struct variable_scope_options options = {.name = "a",
                                             .has_dtype = true,
                                             .dtype = DTYPE_FLOAT64,
                                             .initializer = {.kind = INITIALIZER_CONSTANT, .low = 0.25},
                                             .regularizer = {.kind = REGULARIZER_L2, .amount = 2},
                                             .constraint = "c"};
    uint32_t a = open_with(&story, &options);
    assert_string_equal(at(&story, a)->constraint, "c");
    const struct variable_scope *b = at(&story, by_name(&story, "b", REUSE_INHERIT));
    assert_int_equal(b->dtype, DTYPE_FLOAT64);
    assert_int_equal(b->initializer.kind, INITIALIZER_CONSTANT);
    assert_int_equal(b->regularizer.kind, REGULARIZER_L2);
    assert_null(b->constraint);
    leave(&story);
    leave(&story);
    by_name(&story, "far", REUSE_INHERIT);
    assert_int_equal(at(&story, by_scope(&story, a, REUSE_INHERIT))->dtype, DTYPE_FLOAT64);
    must(variable_scope_set_dtype(story.rig.graph, a, DTYPE_INT32, &story.rig.error), &story.rig.error);
    assert_int_equal(at(&story, a)->dtype, DTYPE_INT32);
    assert_int_equal(at(&story, variable_scope_current(story.rig.graph))->dtype, DTYPE_FLOAT64);
    end(&story);
}

/* ---- default names ---- */

static void test_default_names_count_per_scope(void **state)
{
    (void)state;
    struct story story = begin();
    for (int round = 0; round < 2; round++) { /* opened again, a begins anew */
        by_name(&story, "a", REUSE_INHERIT);
        by_default(&story, "l");
        expect_names(&story, "a/l", round == 0 ? "a/l" : "a_1/l");
        leave(&story);
        by_default(&story, "l");
        assert_string_equal(variable_scope_name(story.rig.graph), "a/l_1");
        leave(&story);
        leave(&story);
    }
    by_name(&story, "layer", REUSE_INHERIT); /* one opened by name counts too */
    leave(&story);
    by_default(&story, "layer");
    assert_string_equal(variable_scope_name(story.rig.graph), "layer_1");
    leave(&story);
    by_name(&story, "ab", REUSE_INHERIT);
    by_default(&story, "l");
    leave(&story);
    by_scope(&story, story.frames[0].scope, REUSE_INHERIT);
    leave(&story);
    by_name(&story, "a", REUSE_INHERIT);
    leave(&story);
    by_default(&story, "l"); /* leaving "ab/a" forgets nothing of "ab" */
    assert_string_equal(variable_scope_name(story.rig.graph), "ab/l_1");
    end(&story);
}

static void test_names_inside_a_jump_are_forgotten(void **state)
{
    (void)state;
    struct story story = begin();
    uint32_t a = by_name(&story, "a", REUSE_INHERIT);
    by_default(&story, "l");
    leave(&story);
    by_scope(&story, a, REUSE_INHERIT);
    by_default(&story, "l");
    assert_string_equal(variable_scope_name(story.rig.graph), "a/l_1");
    by_default(&story, "m");
    leave(&story);
    leave(&story);
    by_scope(&story, a, REUSE_INHERIT); /* a jump inside a jump */
    by_default(&story, "l");
    assert_string_equal(variable_scope_name(story.rig.graph), "a/l_2");
    leave(&story);
    leave(&story);
    by_default(&story, "l");
    assert_string_equal(variable_scope_name(story.rig.graph), "a/l_2");
    leave(&story);
    leave(&story);
    by_default(&story, "l");
    assert_string_equal(variable_scope_name(story.rig.graph), "a/l_1"); /* as before the jump */
    end(&story);
}

static void test_open_scopes_survive_a_clone(void **state)
{
    (void)state;
    struct story story = begin();
    uint32_t a = by_name(&story, "a", REUSE_INHERIT);
    by_scope(&story, a, REUSE_INHERIT);
    by_default(&story, "l");
    struct graph *clone = NULL;
    must(graph_clone(story.rig.graph, &clone, &story.rig.error), &story.rig.error);
    graph_unref(story.rig.graph);
    story.rig.graph = clone;
    leave(&story);
    leave(&story);
    by_default(&story, "l");
    assert_string_equal(variable_scope_name(clone), "a/l");
    end(&story);
}

/* ---- what is refused ---- */

static void test_refusals(void **state)
{
    (void)state;
    struct story story = begin();
    struct variable_scope_frame frame;
    struct variable_scope_options nothing = {.reuse = REUSE_TRUE};
    struct variable_scope_options reused = {.default_name = "d", .reuse = REUSE_AUTO};
    struct variable_scope_options wrong = {.name = "a b"};
    expect_error(variable_scope_open(story.rig.graph, &nothing, &frame, &story.rig.error), &story.rig.error,
                 "TypeError", "If default_name is None then name_or_scope is required");
    expect_error(variable_scope_open(story.rig.graph, &reused, &frame, &story.rig.error), &story.rig.error,
                 "ValueError", "reuse=True cannot be used without a name_or_scope");
    expect_error(variable_scope_open(story.rig.graph, &wrong, &frame, &story.rig.error), &story.rig.error, "ValueError",
                 "'a b' is not a valid scope name");
    by_name(&story, "a", REUSE_INHERIT);
    by_name(&story, "b", REUSE_INHERIT);
    expect_error(variable_scope_close(story.rig.graph, &story.frames[0], &story.rig.error), &story.rig.error,
                 "RuntimeError", "Improper nesting of variable_scope.");
    expect_names(&story, "a/b", "a/b");
    end(&story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_string_nests),
        cmocka_unit_test(test_the_empty_string_is_a_name),
        cmocka_unit_test(test_a_scope_object_is_absolute),
        cmocka_unit_test(test_a_scope_may_keep_the_name_scope),
        cmocka_unit_test(test_reuse_is_inherited_by_name_only),
        cmocka_unit_test(test_an_entered_scope_is_a_copy),
        cmocka_unit_test(test_reuse_of_the_root_lasts),
        cmocka_unit_test(test_a_programs_reuse_is_the_roots_for_a_while),
        cmocka_unit_test(test_properties_are_inherited),
        cmocka_unit_test(test_default_names_count_per_scope),
        cmocka_unit_test(test_names_inside_a_jump_are_forgotten),
        cmocka_unit_test(test_open_scopes_survive_a_clone),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

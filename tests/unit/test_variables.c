/* Variables: get_variable's checks in their order, tf.Variable, initialisers, regularizers, collections, assignment. */
#include "graph_rig.h"

static enum status try_get(struct rig *rig, const struct variable_options *options,
                           const struct variable **ret_variable)
{
    return get_variable(rig->graph, options, ret_variable, NULL, &rig->error);
}

static const struct variable *get(struct rig *rig, const struct variable_options *options)
{
    const struct variable *variable = NULL;
    must(try_get(rig, options, &variable), &rig->error);
    return variable;
}

static void refuse(struct rig *rig, const struct variable_options *options, const char *type, const char *message)
{
    const struct variable *variable = NULL;
    size_t nodes = graph_node_count(rig->graph);
    expect_error(try_get(rig, options, &variable), &rig->error, type, message);
    assert_int_equal(graph_node_count(rig->graph), nodes);
    assert_null(variable);
}

static struct variable_scope_frame enter(struct rig *rig, const char *name, enum reuse reuse)
{
    struct variable_scope_frame frame;
    must(variable_scope_enter(rig->graph, name, reuse, &frame, &rig->error), &rig->error);
    return frame;
}

static const struct node *find(struct rig *rig, const char *name)
{
    const struct node *node = graph_find_node(rig->graph, name);
    if (node == NULL) {
        fail_msg("no node %s", name);
    }
    return node;
}

static void expect_collection(struct rig *rig, const char *key, const char *expected)
{
    char names[1024] = "";
    for (size_t i = 0; i < graph_collection_count(rig->graph, key); i++) {
        char text[OUTPUT_NAME_BYTES_MAX];
        size_t length = strlen(names);
        snprintf(names + length, sizeof names - length, "%s%s", i == 0 ? "" : " ",
                 handle_name(graph_collection_at(rig->graph, key, i), text));
    }
    assert_string_equal(names, expected);
}

static const char *const invalid_initializer =
    "The initializer passed is not valid. It should be a callable with no arguments and the shape should not be "
    "provided or an instance of `tf.keras.initializers.*' and `shape` should be fully defined.";

/* ---- get_variable ---- */

static void test_nodes_and_names(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct variable_scope_frame frame = enter(&rig, "a", REUSE_INHERIT);
    const char *previous = NULL;
    must(graph_enter_name_scope(rig.graph, "n", &previous, &rig.error), &rig.error);
    const struct variable *v = get(&rig, &(struct variable_options){.name = "v", .shape = shape_vector(2)});
    assert_string_equal(v->node->name, "a/v"); /* name scopes do not matter */
    assert_string_equal(v->initializer->name, "a/v/Assign");
    assert_string_equal(v->read.node->name, "a/v/read");
    assert_string_equal(v->initial.node->name, "a/v/Initializer/random_uniform");
    assert_string_equal(graph_name_scope(rig.graph), "a/n");
    graph_leave_name_scope(rig.graph, previous);
    variable_scope_leave(rig.graph, &frame);
    const struct variable *a = get(&rig, &(struct variable_options){.name = "a", .has_shape = true});
    assert_string_equal(a->node->name, "a_1"); /* the scope took "a"; the store still calls it so */
    assert_string_equal(a->store_key, "a");
    frame = enter(&rig, "s", REUSE_INHERIT);
    assert_string_equal(get(&rig, &(struct variable_options){.name = "_v", .has_shape = true})->node->name, "s/_v");
    variable_scope_leave(rig.graph, &frame);
    refuse(&rig, &(struct variable_options){.name = "_v", .has_shape = true}, "ValueError",
           "'_v' is not a valid scope name");
    const struct variable *b = get(&rig, &(struct variable_options){.name = "x/y", .has_shape = true});
    enter(&rig, "x", REUSE_TRUE);
    assert_ptr_equal(get(&rig, &(struct variable_options){.name = "y", .has_shape = true}), b);
    rig_close(&rig);
}

static void test_existing_variables(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct origin origin = {.program = 3, .step = "/program/2", .op = "get_variable", .request_id = "r", .at = 5};
    must(graph_set_origin(rig.graph, &origin, &rig.error), &rig.error);
    struct variable_scope_frame frame = enter(&rig, "a", REUSE_INHERIT);
    const struct variable *v = get(&rig, &(struct variable_options){.name = "v", .shape = shape_matrix(2, 3)});
    /* existence comes before shape, shape before dtype */
    struct variable_options other = {.name = "v", .shape = shape_vector(9), .has_dtype = true, .dtype = DTYPE_INT32};
    refuse(
        &rig, &other, "ValueError",
        "Variable a/v already exists, disallowed. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE in VarScope? "
        "Originally defined at:\n\n  program 3, /program/2 (get_variable)");
    assert_string_equal(rig.error.code, "variable_exists");
    assert_string_equal(rig.error.variable, "a/v");
    assert_int_equal(rig.error.origin.program, 3);
    assert_string_equal(rig.error.origin.request_id, "r");
    variable_scope_leave(rig.graph, &frame);
    enter(&rig, "a", REUSE_AUTO);
    refuse(&rig, &other, "ValueError",
           "Trying to share variable a/v, but specified shape (9,) and found shape (2, 3).");
    other.shape = shape_matrix(DIMENSION_UNKNOWN, 3);
    refuse(&rig, &other, "ValueError",
           "Trying to share variable a/v, but specified dtype int32 and found dtype float32_ref.");
    other.has_dtype = false;
    other.trainable = TRAINABLE_NO;
    other.initializer.kind = INITIALIZER_ONES;
    assert_ptr_equal(get(&rig, &other), v); /* what else it says is ignored */
    assert_ptr_equal(get(&rig, &(struct variable_options){.name = "v"}), v);
    expect_collection(&rig, COLLECTION_TRAINABLE_VARIABLES, "a/v:0");
    rig_close(&rig);
}

static void test_missing_variables(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float one = 1;
    variable_of(&rig, "v", DTYPE_FLOAT32, shape_scalar(), &one); /* tf.Variables are not in the store */
    enter(&rig, "", REUSE_TRUE);
    refuse(&rig, &(struct variable_options){.name = "v", .has_shape = true}, "ValueError",
           "Variable v does not exist, or was not created with tf.get_variable(). Did you mean to set "
           "reuse=tf.AUTO_REUSE in VarScope?");
    assert_string_equal(rig.error.code, "variable_missing");
    rig_close(&rig);
}

static void test_constant_initializers(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float tenth = 0.1f;
    int32_t three[] = {3, 4};
    struct initializer tensor = {.kind = INITIALIZER_TENSOR,
                                 .output = constant(&rig, DTYPE_FLOAT32, shape_scalar(), &tenth)};
    struct initializer value = {.kind = INITIALIZER_VALUE, .values = numbers(DTYPE_INT32, shape_vector(2), three)};
    refuse(&rig, &(struct variable_options){.name = "v", .shape = shape_vector(1), .initializer = tensor}, "ValueError",
           "If initializer is a constant, do not specify shape.");
    refuse(&rig,
           &(struct variable_options){.name = "v", .initializer = value, .has_dtype = true, .dtype = DTYPE_FLOAT64},
           "ValueError", "Initializer type '<dtype: 'int32'>' and explicit dtype '<dtype: 'float64'>' don't match.");
    const struct variable *v = get(&rig, &(struct variable_options){.name = "v", .initializer = tensor});
    const struct variable *n = get(&rig, &(struct variable_options){.name = "n", .initializer = value});
    assert_int_equal(n->node->outputs[0].dtype, DTYPE_INT32); /* its own, not the scope's */
    assert_string_equal(n->initial.node->name, "n/initial_value");
    struct variable_scope_options options = {.name = "foo", .initializer = tensor};
    struct variable_scope_frame frame;
    must(variable_scope_open(rig.graph, &options, &frame, &rig.error), &rig.error);
    refuse(&rig, &(struct variable_options){.name = "w", .shape = shape_vector(1)}, "ValueError",
           "If initializer is a constant, do not specify shape.");
    const struct variable *w = get(&rig, &(struct variable_options){.name = "w"});
    variable_scope_leave(rig.graph, &frame);
    rig_initialize(&rig);
    expect_values(&rig, v->read, (double[]){0.1}, 1, 1e-8);
    expect_values(&rig, n->read, (double[]){3, 4}, 2, 0);
    expect_values(&rig, w->read, (double[]){0.1}, 1, 1e-8);
    rig_close(&rig);
}

static void test_callable_initializers(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    int32_t two[] = {2};
    struct initializer plain = {.kind = INITIALIZER_CALLABLE, .values = numbers(DTYPE_INT32, shape_vector(1), two)};
    struct initializer told = plain;
    told.takes_arguments = true;
    const struct variable *foo = get(&rig, &(struct variable_options){.name = "foo", .initializer = plain});
    assert_string_equal(foo->initial.node->name, "foo/Initializer/initial_value");
    assert_int_equal(foo->node->outputs[0].dtype, DTYPE_INT32);
    refuse(&rig, &(struct variable_options){.name = "v", .initializer = told}, "ValueError", invalid_initializer);
    refuse(&rig, &(struct variable_options){.name = "v", .shape = shape_vector(1), .initializer = plain}, "TypeError",
           "<lambda>() got an unexpected keyword argument 'dtype'");
    const struct variable *v =
        get(&rig, &(struct variable_options){.name = "v", .shape = shape_vector(1), .initializer = told});
    assert_int_equal(v->node->outputs[0].dtype, DTYPE_FLOAT32);
    rig_close(&rig);
}

static void test_default_initializers(void **state)
{
    (void)state;
    static const enum dtype zeros[] = {DTYPE_INT8,  DTYPE_UINT8, DTYPE_INT16, DTYPE_UINT16,
                                       DTYPE_INT32, DTYPE_INT64, DTYPE_BOOL};
    struct rig rig = rig_open();
    const struct variable *made[sizeof zeros / sizeof *zeros];
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++) {
        struct variable_options options = {
            .name = dtype_name(zeros[i]), .shape = shape_matrix(1, 2), .has_dtype = true, .dtype = zeros[i]};
        made[i] = get(&rig, &options);
    }
    struct variable_options half = {
        .name = "half", .shape = shape_vector(4), .has_dtype = true, .dtype = DTYPE_FLOAT16};
    assert_true(node_is(get(&rig, &half)->initial.node, "RandomUniformInitializer"));
    rig_initialize(&rig);
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++) {
        expect_values(&rig, state_of(made[i]), (double[]){0, 0}, 2, 0);
    }
    struct variable_options complex = {
        .name = "z", .shape = shape_vector(2), .has_dtype = true, .dtype = DTYPE_COMPLEX64};
    refuse(&rig, &complex, "ValueError", "An initializer for variable z of <dtype: 'complex64'> is required");
    refuse(&rig, &(struct variable_options){.name = "foo"}, "ValueError", invalid_initializer);
    refuse(&rig, &(struct variable_options){.name = "foo", .shape = shape_matrix(DIMENSION_UNKNOWN, 3)}, "ValueError",
           invalid_initializer);
    rig_close(&rig);
}

/* ---- initialisers ---- */

/* Mean, deviation and greatest size of a variable's numbers. */
static void measure(struct rig *rig, const struct variable *variable, double *ret_mean, double *ret_deviation,
                    double *ret_greatest)
{
    struct tensor value;
    struct output output = state_of(variable);
    must(rig_try(rig, &output, NULL, &value), &rig->error);
    size_t count = tensor_element_count(&value);
    double sum = 0;
    double squares = 0;
    *ret_greatest = 0;
    for (size_t i = 0; i < count; i++) {
        double number = tensor_number(&value, i);
        sum += number;
        squares += number * number;
        *ret_greatest = fmax(*ret_greatest, fabs(number));
    }
    *ret_mean = sum / (double)count;
    *ret_deviation = sqrt(squares / (double)count - *ret_mean * *ret_mean);
    tensor_release(&value);
}

static void test_random_initializers(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    const struct {
        const char *name;
        struct initializer initializer;
        double mean, deviation, least, most; /* of the greatest size */
    } cases[] = {
        {"uniform", {.kind = INITIALIZER_UNIFORM, .low = 1, .high = 3}, 2, 2 / sqrt(12), 2.99, 3},
        {"normal", {.kind = INITIALIZER_NORMAL, .low = 1, .high = 2}, 1, 2, 6, 20},
        {"truncated", {.kind = INITIALIZER_TRUNCATED_NORMAL, .high = 1}, 0, 0.8796, 1.9, 2},
        {"glorot", {.kind = INITIALIZER_GLOROT_UNIFORM}, 0, sqrt(6.0 / 200) / sqrt(3), 0.17, sqrt(6.0 / 200)},
        {"glorot_normal", {.kind = INITIALIZER_GLOROT_NORMAL}, 0, 0.1, 0.2, 0.2274},
        {"other", {.kind = INITIALIZER_GLOROT_UNIFORM}, 0, sqrt(6.0 / 200) / sqrt(3), 0.17, sqrt(6.0 / 200)},
    };
    for (int d = 0; d < 2; d++) {
        struct variable_scope_frame frame = enter(&rig, d == 0 ? "single" : "double", REUSE_INHERIT);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct variable_options options = {.name = cases[i].name,
                                               .shape = shape_matrix(100, 100),
                                               .has_dtype = true,
                                               .dtype = d == 0 ? DTYPE_FLOAT32 : DTYPE_FLOAT64,
                                               .initializer = cases[i].initializer};
            get(&rig, &options);
        }
        variable_scope_leave(rig.graph, &frame);
    }
    rig_initialize(&rig);
    for (size_t i = 0; i < 2 * (sizeof cases / sizeof *cases); i++) {
        size_t at = i % (sizeof cases / sizeof *cases);
        double mean = 0;
        double deviation = 0;
        double greatest = 0;
        measure(&rig, graph_variable(rig.graph, i), &mean, &deviation, &greatest);
        assert_true(fabs(mean - cases[at].mean) < 0.05 * cases[at].deviation);
        assert_true(fabs(deviation / cases[at].deviation - 1) < 0.03);
        assert_true(greatest >= cases[at].least && greatest <= cases[at].most * (1 + 1e-6));
    }
    rig_close(&rig);
}

/* Qᵀ Q or Q Qᵀ is the identity times the square of the gain. */
static void test_orthogonal_initializer(void **state)
{
    (void)state;
    static const struct {
        int64_t rows, columns;
    } sizes[] = {{7, 4}, {4, 7}, {5, 5}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct rig rig = rig_open();
        size_t rows = (size_t)sizes[s].rows;
        size_t columns = (size_t)sizes[s].columns;
        struct variable_options options = {.name = "q",
                                           .shape = shape_matrix(sizes[s].rows, sizes[s].columns),
                                           .has_dtype = true,
                                           .dtype = DTYPE_FLOAT64,
                                           .initializer = {.kind = INITIALIZER_ORTHOGONAL, .low = 2}};
        struct output state_tensor = state_of(get(&rig, &options));
        struct tensor value;
        rig_initialize(&rig);
        must(rig_try(&rig, &state_tensor, NULL, &value), &rig.error);
        const double *q = value.data;
        bool is_wide = rows < columns;
        size_t count = is_wide ? rows : columns;
        size_t length = is_wide ? columns : rows;
        for (size_t a = 0; a < count; a++) {
            for (size_t b = 0; b < count; b++) {
                double sum = 0;
                for (size_t i = 0; i < length; i++) {
                    sum += is_wide ? q[a * columns + i] * q[b * columns + i] : q[i * columns + a] * q[i * columns + b];
                }
                assert_true(fabs(sum - (a == b ? 4 : 0)) < 1e-12);
            }
        }
        tensor_release(&value);
        refuse(&rig,
               &(struct variable_options){
                   .name = "v", .shape = shape_vector(3), .initializer = {.kind = INITIALIZER_ORTHOGONAL}},
               "ValueError", "The tensor to initialize must be at least two-dimensional");
        rig_close(&rig);
    }
}

static void test_constants_repeat_their_last(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float list[] = {1, 2.5f};
    struct initializer initializer = {.kind = INITIALIZER_CONSTANT,
                                      .values = numbers(DTYPE_FLOAT32, shape_vector(2), list)};
    struct variable_options options = {.name = "v", .shape = shape_matrix(2, 2), .initializer = initializer};
    const struct variable *v = get(&rig, &options);
    options = (struct variable_options){
        .name = "w", .shape = shape_vector(2), .initializer = {.kind = INITIALIZER_CONSTANT, .low = 0.3}};
    options.has_dtype = true;
    options.dtype = DTYPE_FLOAT64;
    const struct variable *w = get(&rig, &options);
    rig_initialize(&rig);
    expect_values(&rig, v->read, (double[]){1, 2.5, 2.5, 2.5}, 4, 0);
    expect_values(&rig, w->read, (double[]){0.3, 0.3}, 2, 0);
    options = (struct variable_options){.name = "x", .shape = shape_vector(1), .initializer = initializer};
    refuse(&rig, &options, "ValueError", "Too many elements provided. Needed at most 1, but received 2");
    rig_close(&rig);
}

/* A variable's numbers are its name's and the run's, whatever else is in the graph. */
static void test_numbers_depend_on_the_name(void **state)
{
    (void)state;
    struct tensor found[2];
    for (int round = 0; round < 2; round++) {
        struct rig rig = rig_open();
        if (round == 1) {
            get(&rig, &(struct variable_options){.name = "before", .shape = shape_vector(3)});
        }
        const struct variable *v = get(&rig, &(struct variable_options){.name = "v", .shape = shape_vector(50)});
        const struct variable *w = get(&rig, &(struct variable_options){.name = "w", .shape = shape_vector(50)});
        struct output output = state_of(v);
        struct output other = state_of(w);
        struct tensor w_value;
        rig_initialize(&rig);
        must(rig_try(&rig, &output, NULL, &found[round]), &rig.error);
        must(rig_try(&rig, &other, NULL, &w_value), &rig.error);
        assert_memory_not_equal(found[round].data, w_value.data, tensor_bytes(&w_value));
        tensor_release(&w_value);
        rig_close(&rig);
    }
    assert_memory_equal(found[0].data, found[1].data, tensor_bytes(&found[0]));
    tensor_release(&found[0]);
    tensor_release(&found[1]);
}

/* ---- regularizers, collections ---- */

static void test_regularizers(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct variable_scope_options options = {.name = "s",
                                             .regularizer = {.kind = REGULARIZER_MEAN_PLUS, .amount = 0.5}};
    struct variable_scope_frame frame;
    must(variable_scope_open(rig.graph, &options, &frame, &rig.error), &rig.error);
    struct initializer threes = {.kind = INITIALIZER_CONSTANT, .low = -3};
    struct variable_options v = {.name = "v", .shape = shape_vector(2), .initializer = threes};
    get(&rig, &v);
    v.name = "off";
    v.regularizer.kind = REGULARIZER_NONE;
    get(&rig, &v);
    v.name = "l1";
    v.regularizer = (struct regularizer){REGULARIZER_L1, 0.25};
    get(&rig, &v);
    v.name = "l2";
    v.regularizer = (struct regularizer){REGULARIZER_L2, 0.5};
    get(&rig, &v);
    variable_scope_leave(rig.graph, &frame);
    enter(&rig, "s", REUSE_TRUE);
    get(&rig, &(struct variable_options){.name = "v", .shape = shape_vector(2)}); /* no new loss */
    expect_collection(&rig, COLLECTION_REGULARIZATION_LOSSES,
                      "s/v/Regularizer/add:0 s/l1/Regularizer/l1_regularizer:0 s/l2/Regularizer/l2_regularizer:0");
    rig_initialize(&rig);
    static const double losses[] = {-2.5, 1.5, 4.5};
    for (size_t i = 0; i < 3; i++) {
        expect_values(&rig, graph_collection_at(rig.graph, COLLECTION_REGULARIZATION_LOSSES, i)->output, &losses[i], 1,
                      1e-6);
    }
    rig_close(&rig);
}

static void test_collections(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    static const char *const foo[] = {"foo", "foo"};
    const struct variable *local = NULL;
    get(&rig, &(struct variable_options){.name = "a", .has_shape = true, .collections = foo, .collection_count = 2});
    get(&rig, &(struct variable_options){.name = "b", .has_shape = true, .trainable = TRAINABLE_NO});
    get(&rig, &(struct variable_options){.name = "c", .has_shape = true, .is_on_read = true});
    get(&rig,
        &(struct variable_options){.name = "d", .has_shape = true, .is_on_read = true, .trainable = TRAINABLE_YES});
    get(&rig, &(struct variable_options){.name = "e", .has_shape = true});
    must(get_local_variable(rig.graph, &(struct variable_options){.name = "f", .has_shape = true}, &local, NULL,
                            &rig.error),
         &rig.error);
    expect_collection(&rig, "foo", "a:0");
    expect_collection(&rig, COLLECTION_GLOBAL_VARIABLES, "b:0 c:0 d:0 e:0");
    expect_collection(&rig, COLLECTION_TRAINABLE_VARIABLES, "a:0 d:0 e:0");
    expect_collection(&rig, COLLECTION_LOCAL_VARIABLES, "f:0");
    rig_close(&rig);
}

/* ---- tf.Variable ---- */

static void test_variables_follow_the_name_scope(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float one = 1;
    for (int round = 0; round < 2; round++) { /* reuse does not concern them */
        struct variable_scope_frame frame = enter(&rig, "a", REUSE_AUTO);
        const struct variable *v = variable_of(&rig, "v", DTYPE_FLOAT32, shape_scalar(), &one);
        assert_string_equal(v->node->name, round == 0 ? "a/v" : "a_1/v");
        assert_null(v->store_key);
        variable_scope_leave(rig.graph, &frame);
    }
    find(&rig, "a/v/initial_value");
    find(&rig, "a/v/Assign");
    find(&rig, "a/v/read");
    assert_string_equal(variable_of(&rig, NULL, DTYPE_FLOAT32, shape_scalar(), &one)->node->name, "Variable");
    assert_string_equal(variable_of(&rig, NULL, DTYPE_FLOAT32, shape_scalar(), &one)->node->name, "Variable_1");
    enter(&rig, "a", REUSE_AUTO);
    const struct variable *stored = get(&rig, &(struct variable_options){.name = "v", .has_shape = true});
    assert_string_equal(stored->node->name, "a/v_1");
    rig_close(&rig);
}

static void test_initial_values(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    const struct variable *variable = NULL;
    float half = 1.5f;
    int32_t seven = 7;
    struct initializer number = {.kind = INITIALIZER_VALUE, .values = numbers(DTYPE_FLOAT32, shape_scalar(), &half)};
    struct initializer whole = {.kind = INITIALIZER_VALUE, .values = numbers(DTYPE_INT32, shape_scalar(), &seven)};
    struct variable_options options = {.name = "v"};
    expect_error(make_variable(rig.graph, &options, &variable, &rig.error), &rig.error, "ValueError",
                 "initial_value must be specified.");
    options.initializer = number;
    options.has_dtype = true;
    options.dtype = DTYPE_INT32;
    expect_error(make_variable(rig.graph, &options, &variable, &rig.error), &rig.error, "TypeError",
                 "Expected int32, got 1.5 of type 'float' instead.");
    options.initializer = whole;
    options.dtype = DTYPE_FLOAT64;
    must(make_variable(rig.graph, &options, &variable, &rig.error), &rig.error);
    assert_int_equal(variable->node->outputs[0].dtype, DTYPE_FLOAT64);
    options = (struct variable_options){.name = "f", .initializer = whole};
    options.initializer.kind = INITIALIZER_CALLABLE;
    must(make_variable(rig.graph, &options, &variable, &rig.error), &rig.error);
    assert_string_equal(variable->initial.node->name, "f/Initializer/initial_value");
    struct attribute attributes[] = {
        {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape_matrix(DIMENSION_UNKNOWN, 2)},
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_FLOAT32}};
    struct node_options add = {.name = "p", .attributes = attributes, .attribute_count = 2};
    struct node *p = NULL;
    must(graph_add_node(rig.graph, "Placeholder", &add, &p, &rig.error), &rig.error);
    options = (struct variable_options){.name = "v", .initializer = {.kind = INITIALIZER_TENSOR, .output = {p, 0}}};
    expect_error(make_variable(rig.graph, &options, &variable, &rig.error), &rig.error, "ValueError",
                 "initial_value must have a shape specified: Tensor(\"p:0\", shape=(?, 2), dtype=float32)");
    options.has_dtype = true;
    options.dtype = DTYPE_INT32;
    expect_error(
        make_variable(rig.graph, &options, &variable, &rig.error), &rig.error, "ValueError",
        "Tensor conversion requested dtype int32 for Tensor with dtype float32: 'Tensor(\"p:0\", shape=(?, 2), "
        "dtype=float32)'");
    rig_close(&rig);
}

/* ---- initialising and assigning ---- */

static void test_initializers_are_a_snapshot(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct node *empty = NULL;
    float number = 2;
    must(add_variables_initializer(rig.graph, NULL, &empty, &rig.error), &rig.error);
    const struct variable *v = variable_of(&rig, "v", DTYPE_FLOAT32, shape_scalar(), &number);
    struct node *init = NULL;
    must(add_variables_initializer(rig.graph, NULL, &init, &rig.error), &rig.error);
    const struct variable *w = variable_of(&rig, "w", DTYPE_FLOAT32, shape_scalar(), &number);
    assert_string_equal(empty->name, "init");
    assert_string_equal(init->name, "init_1");
    rig_run(&rig, empty);
    struct output read = v->read;
    expect_error(rig_try(&rig, &read, NULL, NULL), &rig.error, "FailedPreconditionError",
                 "Attempting to use uninitialized value v…");
    rig_run(&rig, init);
    expect_values(&rig, v->read, (double[]){2}, 1, 0);
    const struct variable *left[4];
    assert_int_equal(list_uninitialized_variables(rig.graph, session_values(rig.session), left), 1);
    assert_ptr_equal(left[0], w);
    rig_run(&rig, w->initializer);
    assert_int_equal(list_uninitialized_variables(rig.graph, session_values(rig.session), left), 0);
    rig_close(&rig);
}

/* One run initialises variables whose initial values need each other, in whatever order. */
static void test_initial_values_of_other_variables(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct variable_options options = {.name = "rnd", .shape = shape_vector(3)};
    const struct variable *rnd = get(&rig, &options);
    options = (struct variable_options){.name = "dep"};
    options.initializer =
        (struct initializer){.kind = INITIALIZER_TENSOR, .output = call(&rig, "add", rnd->read, rnd->read)};
    const struct variable *dep = get(&rig, &options);
    const struct variable *deepest = NULL;
    options.name = "deepest";
    options.initializer.output = call(&rig, "add", dep->read, rnd->read);
    must(make_variable(rig.graph, &options, &deepest, &rig.error), &rig.error);
    const struct variable *same = NULL;
    options.name = "same";
    must(initialized_value(rig.graph, rnd, &options.initializer.output, &rig.error), &rig.error);
    must(make_variable(rig.graph, &options, &same, &rig.error), &rig.error);
    rig_run(&rig, deepest->initializer); /* before any other */
    rig_initialize(&rig);
    struct tensor value;
    struct output output = rnd->read;
    must(rig_try(&rig, &output, NULL, &value), &rig.error);
    double once[3];
    double twice[3];
    double thrice[3];
    for (size_t i = 0; i < 3; i++) {
        once[i] = tensor_number(&value, i);
        twice[i] = 2 * once[i];
        thrice[i] = 3 * once[i];
    }
    tensor_release(&value);
    expect_values(&rig, dep->read, twice, 3, 1e-6);
    expect_values(&rig, deepest->read, thrice, 3, 1e-6);
    expect_values(&rig, same->read, once, 3, 0);
    rig_close(&rig);
}

static void test_looking_for_a_value(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float number = 2;
    const struct variable *v = variable_of(&rig, "v", DTYPE_FLOAT32, shape_scalar(), &number);
    struct output has_value = call(&rig, "is_variable_initialized", state_of(v), no_output);
    expect_values(&rig, has_value, (double[]){0}, 1, 0);
    rig_run(&rig, v->initializer);
    expect_values(&rig, has_value, (double[]){1}, 1, 0);
    rig_close(&rig);
}

static void test_assignment(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_FLOAT32, DTYPE_FLOAT64, DTYPE_INT32, DTYPE_INT64};
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
        struct rig rig = rig_open();
        int64_t room[2];
        struct tensor values = numbers(dtypes[d], shape_vector(2), room);
        tensor_set_number(&values, 0, 5);
        tensor_set_number(&values, 1, -3);
        const struct variable *v = variable_of(&rig, "v", dtypes[d], shape_vector(2), room);
        struct output by = constant(&rig, dtypes[d], shape_vector(2), room);
        struct output set;
        struct output add;
        struct output sub;
        must(assign_variable(rig.graph, v, by, ASSIGN_SET, &set, &rig.error), &rig.error);
        must(assign_variable(rig.graph, v, by, ASSIGN_ADD, &add, &rig.error), &rig.error);
        must(assign_variable(rig.graph, v, by, ASSIGN_SUB, &sub, &rig.error), &rig.error);
        assert_string_equal(set.node->name, "Assign");
        assert_string_equal(add.node->name, "AssignAdd");
        expect_error(rig_try(&rig, &add, NULL, NULL), &rig.error, "FailedPreconditionError",
                     "Attempting to use uninitialized value v…");
        expect_values(&rig, set, (double[]){5, -3}, 2, 0); /* needs no value before */
        expect_values(&rig, add, (double[]){10, -6}, 2, 0);
        expect_values(&rig, add, (double[]){15, -9}, 2, 0);
        expect_values(&rig, sub, (double[]){10, -6}, 2, 0);
        expect_values(&rig, v->read, (double[]){10, -6}, 2, 0);
        rig_close(&rig);
    }
}

static void test_assignment_checks_shapes(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float room[4] = {0};
    const struct variable *v = variable_of(&rig, "v", DTYPE_FLOAT32, shape_vector(2), room);
    struct output output;
    expect_error(assign_variable(rig.graph, v, constant(&rig, DTYPE_FLOAT32, shape_matrix(1, 2), room), ASSIGN_SET,
                                 &output, &rig.error),
                 &rig.error, "ValueError",
                 "Shapes must be equal rank, but are 1 and 2 for 'Assign' (op: 'Assign') with input shapes: [2], "
                 "[1,2].");
    expect_error(assign_variable(rig.graph, v, constant(&rig, DTYPE_FLOAT32, shape_vector(3), room), ASSIGN_SUB,
                                 &output, &rig.error),
                 &rig.error, "ValueError",
                 "Dimension 0 in both shapes must be equal, but are 2 and 3. Shapes are [2] and [3]. for 'AssignSub' "
                 "(op: 'AssignSub') with input shapes: [2], [3].");
    int32_t whole[2] = {0};
    expect_error(assign_variable(rig.graph, v, constant(&rig, DTYPE_INT32, shape_vector(2), whole), ASSIGN_SET, &output,
                                 &rig.error),
                 &rig.error, "TypeError", "Input 1 of 'Assign…");
    rig_close(&rig);
}

static void test_nothing_is_added_once_finalized(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float number = 2;
    const struct variable *v = get(&rig, &(struct variable_options){.name = "v", .has_shape = true});
    struct output read = v->read;
    struct output output;
    struct node *node = NULL;
    const struct variable *other = NULL;
    struct variable_options options = {
        .initializer = {.kind = INITIALIZER_VALUE, .values = numbers(DTYPE_FLOAT32, shape_scalar(), &number)}};
    static const char *const message = "Graph is finalized and cannot be modified.";
    graph_finalize(rig.graph);
    expect_error(add_variables_initializer(rig.graph, NULL, &node, &rig.error), &rig.error, "RuntimeError", message);
    expect_error(make_variable(rig.graph, &options, &other, &rig.error), &rig.error, "RuntimeError", message);
    expect_error(assign_variable(rig.graph, v, read, ASSIGN_SET, &output, &rig.error), &rig.error, "RuntimeError",
                 message);
    refuse(&rig, &(struct variable_options){.name = "w", .has_shape = true}, "RuntimeError", message);
    enter(&rig, "", REUSE_TRUE);
    assert_ptr_equal(get(&rig, &(struct variable_options){.name = "v", .has_shape = true}), v);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes_and_names),
        cmocka_unit_test(test_existing_variables),
        cmocka_unit_test(test_missing_variables),
        cmocka_unit_test(test_constant_initializers),
        cmocka_unit_test(test_callable_initializers),
        cmocka_unit_test(test_default_initializers),
        cmocka_unit_test(test_random_initializers),
        cmocka_unit_test(test_orthogonal_initializer),
        cmocka_unit_test(test_constants_repeat_their_last),
        cmocka_unit_test(test_numbers_depend_on_the_name),
        cmocka_unit_test(test_regularizers),
        cmocka_unit_test(test_collections),
        cmocka_unit_test(test_variables_follow_the_name_scope),
        cmocka_unit_test(test_initial_values),
        cmocka_unit_test(test_initializers_are_a_snapshot),
        cmocka_unit_test(test_initial_values_of_other_variables),
        cmocka_unit_test(test_looking_for_a_value),
        cmocka_unit_test(test_assignment),
        cmocka_unit_test(test_assignment_checks_shapes),
        cmocka_unit_test(test_nothing_is_added_once_finalized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

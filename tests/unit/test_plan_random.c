/* Random graphs of reads, writes and sums, run by a plan and by a plain interpreter of the rules in plan_order.c: the
 * same fetches, the same variables afterwards. Small whole numbers, so that float32 is exact. */
#include "tests/unit/plan_rig.h"

#include "engine/base/mem.h"
#include "engine/math/gemm.h"

enum { GRAPHS = 300, STEPS = 36, VARIABLES = 3, WIDTH = 3, NODES_MAX = 128, RUNS = 3, FETCHES = 5 };

struct numbers {
    float at[WIDTH];
};

/* One output while the interpreter runs: a value of its own, or a variable as it was when a node was run. */
struct model_tensor {
    bool is_view;
    bool is_live; /* the variable's own output */
    size_t variable;
    size_t made; /* node that read or wrote it */
    struct numbers value;
};

struct world {
    uint64_t seed;
    uint64_t draws;
    struct graph *graph;
    const struct variable *variables[VARIABLES];
    struct output tensors[NODES_MAX];
    size_t tensor_count;
    struct numbers state[VARIABLES]; /* the interpreter's */
    struct model_tensor results[NODES_MAX];
    bool is_needed[NODES_MAX];
    bool is_writer[NODES_MAX];
    size_t written[NODES_MAX];
    struct output feeds[2];
    struct numbers fed[2];
    size_t feed_count;
};

static size_t draw(struct world *world, size_t below)
{
    return (size_t)(rng_bits(world->seed, 1, world->draws++) % below);
}

static struct output draw_tensor(struct world *world)
{
    size_t recent = draw(world, 2) == 0 && world->tensor_count > 8 ? world->tensor_count - 8 : 0;
    return world->tensors[recent + draw(world, world->tensor_count - recent)];
}

/* ---- building ---- */

static void add_tensor(struct world *world, struct output output)
{
    world->tensors[world->tensor_count++] = output;
}

static void add_controlled(struct world *world, const char *op, const struct output *inputs, size_t count)
{
    struct error error;
    struct node *controls[] = {draw_tensor(world).node, draw_tensor(world).node};
    struct node_options options = {
        .inputs = inputs, .input_count = count, .controls = controls, .control_count = draw(world, 3)};
    struct node *node = NULL;
    must(graph_add_node(world->graph, op, &options, &node, &error), &error);
    add_tensor(world, (struct output){node, 0});
}

static void add_write(struct world *world)
{
    struct error error;
    static const char *const ops[] = {"Assign", "AssignAdd", "AssignSub"};
    struct node *control = draw_tensor(world).node;
    size_t variable = draw(world, VARIABLES);
    struct output inputs[] = {{world->variables[variable]->node, 0}, draw_tensor(world)};
    struct node_options options = {
        .inputs = inputs, .input_count = 2, .controls = &control, .control_count = draw(world, 2)};
    struct node *node = NULL;
    must(graph_add_node(world->graph, ops[draw(world, 3)], &options, &node, &error), &error);
    world->is_writer[node->id] = true;
    world->written[node->id] = variable;
    add_tensor(world, (struct output){node, 0});
}

static void build(struct world *world)
{
    struct error error;
    struct shape shape = shape_vector(WIDTH);
    must(graph_create(&world->graph, &error), &error);
    for (size_t i = 0; i < VARIABLES; i++) {
        char name[8];
        snprintf(name, sizeof name, "v%zu", i);
        world->variables[i] = rig_variable(world->graph, name, &shape, 0);
        add_tensor(world, world->variables[i]->read);
        add_tensor(world, (struct output){world->variables[i]->node, 0});
    }
    float one[WIDTH] = {1, 2, 3};
    add_tensor(world, rig_constant(world->graph, &(struct tensor){DTYPE_FLOAT32, shape, one}));
    while (graph_node_count(world->graph) < STEPS) {
        struct output inputs[] = {draw_tensor(world), draw_tensor(world)};
        switch (draw(world, 5)) {
        case 0: add_controlled(world, "Identity", inputs, 1); break;
        case 1: add_controlled(world, "Neg", inputs, 1); break;
        case 2: add_controlled(world, "Add", inputs, 2); break;
        default: add_write(world);
        }
    }
}

/* ---- interpreting ---- */

static const struct numbers *find_fed(const struct world *world, struct output output)
{
    for (size_t i = 0; i < world->feed_count; i++) {
        if (output_equal(world->feeds[i], output)) {
            return &world->fed[i];
        }
    }
    return NULL;
}

static void mark(struct world *world, const struct output *fetches)
{
    memset(world->is_needed, 0, sizeof world->is_needed);
    for (size_t i = 0; i < FETCHES; i++) {
        world->is_needed[fetches[i].node->id] |= find_fed(world, fetches[i]) == NULL;
    }
    for (size_t id = graph_node_count(world->graph); id-- > 0;) {
        const struct node *node = graph_node(world->graph, id);
        for (size_t i = 0; world->is_needed[id] && i < node->input_count; i++) {
            world->is_needed[node->inputs[i].node->id] |= find_fed(world, node->inputs[i]) == NULL;
        }
        for (size_t i = 0; world->is_needed[id] && i < node->control_count; i++) {
            world->is_needed[node->controls[i]->id] = true;
        }
    }
}

/* Whether `node` has waited for a needed write of the variable that came after node `made`. */
static bool has_waited(const struct world *world, const struct node *node, size_t variable, size_t made)
{
    bool reached[NODES_MAX] = {false};
    reached[node->id] = true;
    for (size_t id = node->id + 1; id-- > 0;) {
        const struct node *at = graph_node(world->graph, id);
        if (!reached[id]) {
            continue;
        }
        if (id != node->id && id > made && world->is_writer[id] && world->written[id] == variable) {
            return true;
        }
        for (size_t i = 0; i < at->input_count; i++) {
            reached[at->inputs[i].node->id] |= find_fed(world, at->inputs[i]) == NULL;
        }
        for (size_t i = 0; i < at->control_count; i++) {
            reached[at->controls[i]->id] = true;
        }
    }
    return false;
}

static bool was_written(const struct world *world, size_t variable, size_t from, size_t to)
{
    for (size_t id = from + 1; id < to; id++) {
        if (world->is_needed[id] && world->is_writer[id] && world->written[id] == variable) {
            return true;
        }
    }
    return false;
}

/* What `node` (NULL: the fetch at the end) sees of an output; `ret_is_view` whether it is the variable itself. */
static struct numbers look(const struct world *world, const struct node *node, struct output output, bool *ret_is_view)
{
    const struct numbers *fed = find_fed(world, output);
    const struct model_tensor *tensor = &world->results[output.node->id];
    *ret_is_view = false;
    if (fed != NULL) {
        return *fed;
    }
    if (!tensor->is_view) {
        return tensor->value;
    }
    size_t end = node == NULL ? graph_node_count(world->graph) : node->id;
    bool is_old = !tensor->is_live && was_written(world, tensor->variable, tensor->made, end) &&
                  (node == NULL || !has_waited(world, node, tensor->variable, tensor->made));
    *ret_is_view = !is_old;
    return is_old ? tensor->value : world->state[tensor->variable];
}

static void interpret_node(struct world *world, const struct node *node)
{
    struct model_tensor *result = &world->results[node->id];
    bool is_view = false;
    *result = (struct model_tensor){.made = node->id};
    if (node_is(node, "VariableV2")) {
        *result = (struct model_tensor){.is_view = true, .is_live = true, .variable = node->variable->index};
    } else if (node_is(node, "Const") || node_is(node, "ConstantInitializer")) {
        result->value = (struct numbers){{1, 2, 3}};
    } else if (node_is(node, "Identity")) {
        result->value = look(world, node, node->inputs[0], &result->is_view);
        result->variable = world->results[node->inputs[0].node->id].variable;
    } else if (world->is_writer[node->id]) {
        struct numbers value = look(world, node, node->inputs[1], &is_view);
        struct numbers *state = &world->state[world->written[node->id]];
        for (size_t i = 0; i < WIDTH; i++) {
            float before = node_is(node, "Assign") ? 0 : state->at[i];
            state->at[i] = before + (node_is(node, "AssignSub") ? -value.at[i] : value.at[i]);
        }
        *result = (struct model_tensor){
            .is_view = true, .variable = world->written[node->id], .made = node->id, .value = *state};
    } else {
        struct numbers a = look(world, node, node->inputs[0], &is_view);
        struct numbers b = node_is(node, "Add") ? look(world, node, node->inputs[1], &is_view) : (struct numbers){{0}};
        for (size_t i = 0; i < WIDTH; i++) {
            result->value.at[i] = node_is(node, "Add") ? a.at[i] + b.at[i] : -a.at[i];
        }
    }
}

/* ---- comparing ---- */

static void choose_feeds(struct world *world)
{
    world->feed_count = 0;
    for (size_t wanted = draw(world, 3); world->feed_count < wanted;) {
        struct output output = draw_tensor(world);
        if (node_is(output.node, "VariableV2") || find_fed(world, output) != NULL) {
            wanted--;
            continue;
        }
        struct numbers value = {{(float)draw(world, 9), (float)draw(world, 9), 4}};
        world->feeds[world->feed_count] = output;
        world->fed[world->feed_count++] = value;
    }
}

static void check_numbers(const struct world *world, const struct tensor *tensor, const struct numbers *wanted)
{
    for (size_t i = 0; i < WIDTH; i++) {
        if (((const float *)tensor->data)[i] != wanted->at[i]) {
            fail_msg("seed %llu: element %zu is %g, not %g", (unsigned long long)world->seed, i,
                     (double)((const float *)tensor->data)[i], (double)wanted->at[i]);
        }
    }
}

static void run_once(struct world *world, struct values *values)
{
    struct error error;
    struct output fetches[FETCHES];
    struct tensor fed[2];
    for (size_t i = 0; i < FETCHES; i++) {
        fetches[i] = draw_tensor(world);
    }
    choose_feeds(world);
    for (size_t i = 0; i < world->feed_count; i++) {
        fed[i] = (struct tensor){DTYPE_FLOAT32, shape_vector(WIDTH), world->fed[i].at};
    }
    mark(world, fetches);
    for (size_t id = 0; id < graph_node_count(world->graph); id++) {
        if (world->is_needed[id]) {
            interpret_node(world, graph_node(world->graph, id));
        }
    }
    struct rig_run run = {
        .options = {.feeds = world->feeds, .feed_count = world->feed_count, .fetches = fetches, .fetch_count = FETCHES},
        .feeds = fed};
    must(rig_run(world->graph, values, &run, &error), &error);
    for (size_t i = 0; i < FETCHES; i++) {
        bool is_view = false;
        struct numbers wanted = look(world, NULL, fetches[i], &is_view);
        check_numbers(world, &run.results[i], &wanted);
    }
    rig_run_end(&run);
    for (size_t i = 0; i < VARIABLES; i++) {
        check_numbers(world, values_tensor(values, world->variables[i]), &world->state[i]);
    }
}

static void test_random_graphs(void **state)
{
    (void)state;
    const char *text = getenv("TEST_SEED");
    uint64_t first = text == NULL ? 20260101 : strtoull(text, NULL, 10);
    print_message("seed %llu\n", (unsigned long long)first);
    for (uint64_t i = 0; i < GRAPHS; i++) {
        struct error error;
        struct world *world = mem_allocate(1, sizeof *world);
        struct values *values = NULL;
        assert_non_null(world);
        world->seed = first + i;
        build(world);
        must(values_create(world->graph, &values, &error), &error);
        for (size_t v = 0; v < VARIABLES; v++) {
            world->state[v] = (struct numbers){{(float)v, 10, 20}};
            struct tensor initial = {DTYPE_FLOAT32, shape_vector(WIDTH), world->state[v].at};
            must(values_set(values, world->variables[v], &initial, &error), &error);
        }
        for (size_t run = 0; run < RUNS; run++) {
            run_once(world, values);
        }
        values_destroy(values);
        graph_unref(world->graph);
        mem_free(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_graphs)};
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

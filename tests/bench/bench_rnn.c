/* Measures a fused dynamic_rnn: BasicLSTMCell, batch 64, 64 steps, 512 inputs, 512 units, forward and with gradients;
 * prints one JSON object each. Where the time goes is seen with:
 *   perf record build/release/tests/bench/bench_rnn forward && perf report --sort symbol */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "engine/graph/gradients.h"
#include "engine/graph/plan.h"
#include "engine/math/gemm.h"
#include "engine/nn/recurrence.h"

enum { BATCH = 64, TIME = 64, DEPTH = 512, UNITS = 512, RUNS = 40 };

static void must(enum status status, const struct error *error)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "%s\n", error->message);
        exit(1);
    }
}

/* What is run: the outputs, or a number's gradients by the weights. */
static size_t build(struct graph *graph, bool has_gradients, struct output *ret_x, struct output *ret_fetches)
{
    struct error error;
    uint32_t cell = 0;
    struct output states[2];
    struct cell_options lstm = {.kind = CELL_BASIC_LSTM, .units = UNITS};
    struct attribute attributes[] = {
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_FLOAT32},
        {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape_cube(DIMENSION_UNKNOWN, DIMENSION_UNKNOWN, DEPTH)}};
    struct node_options placeholder = {.name = "x", .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    must(graph_add_node(graph, "Placeholder", &placeholder, &node, &error), &error);
    *ret_x = (struct output){node, 0};
    must(cell_create(graph, &lstm, &cell, &error), &error);
    struct recurrence_options options = {.inputs = *ret_x, .has_dtype = true, .dtype = DTYPE_FLOAT32};
    must(dynamic_rnn(graph, cell, &options, &ret_fetches[0], states, &error), &error);
    if (!has_gradients) {
        return 1;
    }
    struct output outputs = ret_fetches[0];
    struct output weights[] = {graph_variable(graph, 0)->read, graph_variable(graph, 1)->read};
    must(graph_gradients(graph, &outputs, 1, weights, 2, ret_fetches, &error), &error);
    return 2;
}

static void measure(bool has_gradients)
{
    struct error error;
    struct graph *graph = NULL;
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct values *values = NULL;
    struct output x;
    struct output fetches[2];
    struct tensor feed;
    struct tensor results[2];
    struct shape shape = shape_cube(BATCH, TIME, DEPTH);
    must(graph_create(&graph, &error), &error);
    size_t count = build(graph, has_gradients, &x, fetches);
    must(tensor_init(&feed, DTYPE_FLOAT32, &shape, &error), &error);
    rng_fill_uniform(1, 1, tensor_element_count(&feed), -1, 1, feed.data);
    must(values_create(graph, &values, &error), &error);
    must(values_initialize(values, graph, 1, &error), &error);
    struct plan_options options = {
        .feeds = &x, .feed_shapes = &shape, .feed_count = 1, .fetches = fetches, .fetch_count = count};
    struct run_options run = {.feeds = &feed, .random_key = 1};
    must(plan_create(graph, &options, &plan, &error), &error);
    must(workspace_create(plan, &workspace, &error), &error);
    must(plan_run(plan, workspace, values, &run, results, &error), &error);
    uint64_t begun_ns = clock_now_ns();
    for (int i = 0; i < RUNS; i++) {
        must(plan_run(plan, workspace, values, &run, results, &error), &error);
    }
    double seconds = (double)(clock_now_ns() - begun_ns) * 1e-9 / RUNS;
    double operations = 2.0 * BATCH * TIME * (DEPTH + UNITS) * 4 * UNITS * (has_gradients ? 3 : 1);
    printf("{\"kind\": \"%s\", \"units\": %d, \"batch\": %d, \"steps\": %d, \"ms_per_run\": %.2f, \"gflops\": %.1f, "
           "\"workspace_mb\": %.1f}\n",
           has_gradients ? "dynamic_rnn_gradients" : "dynamic_rnn", UNITS, BATCH, TIME, seconds * 1e3,
           operations / seconds * 1e-9, (double)plan_workspace_bytes(plan) / 1e6);
    tensor_release(&feed);
    workspace_destroy(workspace);
    plan_unref(plan);
    values_destroy(values);
    graph_unref(graph);
}

int main(int argument_count, char **arguments)
{
    CHECK(gemm_start(NULL) == STATUS_OK);
    bool is_all = argument_count < 2;
    if (is_all || strcmp(arguments[1], "forward") == 0) {
        measure(false);
    }
    if (is_all || strcmp(arguments[1], "gradients") == 0) {
        measure(true);
    }
    return 0;
}

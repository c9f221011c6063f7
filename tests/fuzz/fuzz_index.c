/* Fuzz target: any text as a Python index of a tensor. What is accepted names a part of it, and can be run. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/constants.h"
#include "engine/graph/function.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static struct call_result result;
    struct error error;
    struct graph *graph = NULL;
    char *text = mem_copy_bytes((const char *)bytes, length);
    CHECK(text != NULL && graph_create(&graph, &error) == STATUS_OK);
    int32_t data[24] = {0};
    struct tensor x = {DTYPE_INT32, shape_cube(2, 3, 4), data};
    struct attribute index = {.name = "index", .kind = ATTRIBUTE_TEXT, .text = text};
    struct call_argument argument = {.value = x};
    struct call call = {
        .function = "getitem", .arguments = &argument, .argument_count = 1, .attributes = &index, .attribute_count = 1};
    if (graph_call(graph, &call, &result, &error) == STATUS_OK) {
        const struct tensor *part = graph_constant_value(graph, result.outputs[0]);
        CHECK(part != NULL && tensor_element_count(part) <= 24);
    }
    graph_unref(graph);
    mem_free(text);
    return 0;
}

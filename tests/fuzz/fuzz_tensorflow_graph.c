/* Fuzz target: any bytes as the graph that lies beside a TensorFlow checkpoint. */
#include <math.h>
#include <stdint.h>

#include "engine/import/tensorflow.h"
#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct foreign_source source = {.label = "memory"};
    struct foreign_model model = {.format = "graph"};
    struct error error;
    fuzz_add(&source, "m.meta", bytes, length);
    CHECK(tensorflow_graph_read(&source, "m", &model, &error) == STATUS_OK);
    CHECK(model.graph_says != FOREIGN_FORGET_BIAS_NO_GRAPH);
    CHECK(fabsf(model.forget_bias) <= FOREIGN_FORGET_BIAS_MAX);
    for (size_t i = 0; i < (size_t)FOREIGN_CELL_COUNT * FOREIGN_UNBUILT_COUNT; i++) {
        const char *node = model.unbuilt[i / FOREIGN_UNBUILT_COUNT][i % FOREIGN_UNBUILT_COUNT];
        CHECK(node == NULL || strlen(node) <= FOREIGN_NAME_BYTES_MAX);
    }
    foreign_model_release(&model);
    foreign_source_release(&source);
    return 0;
}

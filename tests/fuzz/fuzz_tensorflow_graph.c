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
    fuzz_add(&source, "m.meta", bytes, length);
    tensorflow_graph_read(&source, "m", &model);
    CHECK(!model.has_forget_bias || fabsf(model.forget_bias) <= FOREIGN_FORGET_BIAS_MAX);
    foreign_model_release(&model);
    foreign_source_release(&source);
    return 0;
}

/* Fuzz target: any bytes as the file that the user gives as a model's vocabulary, and as what lies beside the model
 * then. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* A safetensors file of one LSTM of 2 units over 3 symbols, all of whose numbers are 0. */
static const char header[] =
    "{\"rnn/basic_lstm_cell/kernel\":{\"dtype\":\"F32\",\"shape\":[5,8],\"data_offsets\":[0,160]},"
    "\"rnn/basic_lstm_cell/bias\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[160,192]},"
    "\"softmax_w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[192,216]},"
    "\"softmax_b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[216,228]}}";
enum { HEADER_BYTES = sizeof header - 1, NUMBERS_BYTES = 228 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static uint8_t model[8 + HEADER_BYTES + NUMBERS_BYTES];
    struct foreign_source source = {.label = "memory", .chosen = "m.safetensors"};
    const uint64_t header_bytes = HEADER_BYTES;
    memcpy(model, &header_bytes, sizeof header_bytes);
    memcpy(model + sizeof header_bytes, header, HEADER_BYTES);
    fuzz_add(&source, "m.safetensors", model, sizeof model);
    fuzz_add(&source, "given", bytes, length);
    fuzz_add(&source, "options", bytes, length);
    source.vocabulary = foreign_source_find(&source, "given");
    CHECK(source.vocabulary != NULL);
    fuzz_import(&source, false);
    return 0;
}

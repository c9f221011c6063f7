/* Fuzz target: any bytes as a file of Torch7's, whatever they begin with; then as a file that is imported. */
#include <stdint.h>

#include "engine/import/readers.h"
#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct foreign_source source = {.label = "memory"};
    struct foreign_model model = {.entry = "m", .arena = {.bytes_max = 1 << 20}};
    struct error error = {.message = ""};
    fuzz_add(&source, "m", bytes, length);
    enum status status = torch7_read(&source, &source.files[0], &model, &error);
    CHECK((status == STATUS_OK) == (error.message[0] == '\0'));
    foreign_model_release(&model);
    fuzz_import(&source, false);
    return 0;
}

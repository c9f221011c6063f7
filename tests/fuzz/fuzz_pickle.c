/* Fuzz target: any bytes as a pickle or as NumPy's file. What is accepted ends within them, and is walked over in
 * search of symbols. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/import/foreign.h"
#include "engine/import/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct foreign_model model = {.format = "pickle", .arena = {.bytes_max = 1 << 17}};
    struct plain *value = NULL;
    struct error error = {.message = ""};
    size_t end = 0;
    enum status read = numpy_begins(bytes, length) ? numpy_read(bytes, length, &model.arena, &value, &error)
                                                   : pickle_read(bytes, length, &model.arena, &value, &end, &error);
    if (read != STATUS_OK) {
        CHECK(error.message[0] != '\0');
    } else {
        CHECK(value != NULL && end <= length);
        enum status status = foreign_add_vocabularies(&model, "fuzz", value, &error);
        CHECK(status == STATUS_OK || status == STATUS_LIMIT);
    }
    foreign_model_release(&model);
    return 0;
}

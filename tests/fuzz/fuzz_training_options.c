/* Fuzz target: any bytes as the JSON of training options. What is read is written, and read again as the same. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/train/training_options.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct training_options options;
    struct error error;
    json_t *request = json_loadb((const char *)bytes, length, JSON_REJECT_DUPLICATES, NULL);
    if (request && training_options_read(request, &options, &error) == STATUS_OK) {
        json_t *written = training_options_write(&options);
        json_t *again = NULL;
        struct training_options resumed;
        CHECK(options.batch >= 1 && options.shards >= 1 && options.shards <= options.batch);
        CHECK(options.epochs > 0 || options.max_steps > 0 || options.max_seconds > 0);
        CHECK(training_options_complete(written, &again, &error) == STATUS_OK && json_equal(written, again));
        CHECK(training_options_resume(written, request, &resumed, &error) == STATUS_OK);
        json_decref(again);
        json_decref(written);
    }
    json_decref(request);
    return 0;
}

/* Fuzz target: any bytes as a text request's body, through both doors. What is accepted lies within its bounds. */
#include <math.h>
#include <stdint.h>

#include "daemon/fields.h"
#include "daemon/generate_request.h"
#include "engine/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static struct generate_request request;
    json_t *object;
    struct error error;
    if (fields_parse((const char *)bytes, length, &object, &error) != STATUS_OK) {
        return 0;
    }
    for (int door = 0; door < DOOR_COUNT; door++) {
        if (generate_request_read(&request, object, (enum generate_door)door, &error) != STATUS_OK) {
            CHECK(error.message[0] != '\0' && error.param[0] != '\0');
            continue;
        }
        CHECK(request.n >= 1 && request.n <= 128);
        CHECK(request.max_tokens >= 0 && request.max_tokens <= GENERATION_TOKENS_MAX);
        CHECK(request.temperature >= 0 && request.temperature <= 2 && request.top_p >= 0 && request.top_p <= 1);
        struct penalty_bias biases[PENALTIES_BIASES_MAX];
        struct vocabulary *vocabulary;
        size_t bias_count = 0;
        CHECK(vocabulary_create_bytes(&vocabulary, &error) == STATUS_OK);
        if (generate_request_biases(&request, vocabulary, biases, &bias_count, &error) != STATUS_OK) {
            CHECK(strcmp(error.param, "logit_bias") == 0);
        }
        vocabulary_unref(vocabulary);
        for (size_t i = 0; i < bias_count; i++) {
            CHECK(biases[i].symbol < VOCABULARY_SYMBOLS_MAX && biases[i].bias <= 100);
            CHECK(biases[i].bias >= -100 || isinf(biases[i].bias));
        }
        CHECK(request.prompt_count <= GENERATE_PROMPTS_MAX && request.stop_count <= STOP_STRINGS_MAX);
        for (size_t i = 0; i < request.prompt_count; i++) {
            struct generate_prompt prompt = generate_request_prompt(&request, i);
            CHECK((prompt.text != NULL) != json_is_array(prompt.symbols));
        }
        for (size_t i = 0; i < request.stop_count; i++) {
            CHECK(request.stop_lengths[i] > 0 && request.stop_lengths[i] <= STOP_STRING_BYTES_MAX);
        }
    }
    json_decref(object);
    return 0;
}

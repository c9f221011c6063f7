/* Fuzz target: a line that is a pattern, then bytes that say which way to go. Whoever is led through a vocabulary of
 * all bytes by the pattern's constraint ends in a text that the pattern's automaton takes. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/decode/constraint.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { BYTE_COUNT = 256, EXTRA_SYMBOLS = 8, SHORTEST_MAX = 1000 };

static void check_whole(const char *text, size_t length, const uint8_t *made, size_t made_count)
{
    struct pattern *pattern;
    struct error error;
    uint32_t state = PATTERN_START;
    CHECK(pattern_create(text, length, &pattern, &error) == STATUS_OK);
    for (size_t i = 0; i < made_count; i++) {
        CHECK(pattern_step(pattern, state, made[i], &state, &error) == STATUS_OK);
    }
    CHECK(pattern_is_accepting(pattern, state));
    pattern_destroy(pattern);
}

static void follow(const struct constraint *constraint, const char *text, size_t length, const uint8_t *ways,
                   size_t way_count)
{
    static float logits[BYTE_COUNT];
    static uint8_t made[SHORTEST_MAX + EXTRA_SYMBOLS];
    uint32_t state = constraint_begin(constraint, false);
    size_t left = constraint_shortest(constraint, state) + EXTRA_SYMBOLS, count = 0;
    if (left > sizeof made || constraint_shortest(constraint, state) == CONSTRAINT_NEVER) {
        return;
    }
    for (; constraint_course(constraint, state, left) == CONSTRAINT_GOES_ON; left--, count++) {
        uint32_t symbol;
        size_t open_count = constraint_gather(constraint, state, left, logits);
        CHECK(open_count > 0 && open_count <= BYTE_COUNT);
        size_t way = (count < way_count ? ways[count] : count) % open_count;
        CHECK(constraint_follow(constraint, &state, left, way, &symbol)); /* bytes have no "<eos>" */
        made[count] = (uint8_t)symbol;
    }
    check_whole(text, length, made, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const uint8_t *end = memchr(bytes, '\n', length);
    size_t pattern_length = end == NULL ? length : (size_t)(end - bytes);
    struct vocabulary *vocabulary;
    struct constraint *constraint;
    struct error error;
    if (length == 0 || pattern_length > 64) { /* larger ones are only slower */
        return 0;
    }
    CHECK(vocabulary_create_bytes(&vocabulary, &error) == STATUS_OK);
    enum status status =
        constraint_create((const char *)bytes, pattern_length, vocabulary, NULL, 0, &constraint, &error);
    if (status == STATUS_OK) {
        follow(constraint, (const char *)bytes, pattern_length, bytes + pattern_length, length - pattern_length);
        constraint_unref(constraint);
    } else {
        CHECK(status == STATUS_INVALID && error.message[0] != '\0' && strcmp(error.param, "pattern") == 0);
    }
    vocabulary_unref(vocabulary);
    return 0;
}

/* Numbers go in and come out the same, in memory and in a file, however wide they become and wherever that happens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/train/symbol_store.h"

static uint64_t seed_of_test(void)
{
    const char *text = getenv("TEST_SEED");
    uint64_t seed = text == NULL ? 1 : strtoull(text, NULL, 10);
    print_message("seed %llu\n", (unsigned long long)seed);
    return seed;
}

/* Mostly small numbers; larger ones from certain positions on. */
static uint32_t number_at(uint64_t seed, uint64_t round, uint64_t position)
{
    struct rng_words words = rng_philox(seed, round, position);
    uint32_t largest = position > 40000 ? UINT32_MAX : position > 20000 ? 0xFFFF : 0xFF;
    return words.word[1] % 100 == 0 ? words.word[0] & largest : words.word[0] & 0xFF;
}

static void test_random_texts(void **state)
{
    (void)state;
    uint64_t seed = seed_of_test();
    enum { ROUNDS = 40, PIECE_MAX = 3000 };
    static uint32_t numbers[PIECE_MAX];
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct symbol_store *store = NULL;
        struct error error;
        struct symbol_store_options options = {.directory = round % 3 == 0 ? NULL : "/tmp",
                                               .memory_bytes_max = rng_philox(seed, round, 0).word[1] % 100000};
        assert_int_equal(symbol_store_create(&options, &store, &error), STATUS_OK);
        uint64_t count = rng_philox(seed, round, 0).word[2] % 80000;
        for (uint64_t at = 0; at < count;) {
            uint64_t piece = 1 + rng_philox(seed, round, at).word[3] % PIECE_MAX;
            piece = piece < count - at ? piece : count - at;
            for (uint64_t i = 0; i < piece; i++) {
                numbers[i] = number_at(seed, round, at + i);
            }
            assert_int_equal(symbol_store_append(store, numbers, (size_t)piece, &error), STATUS_OK);
            at += piece;
        }
        assert_int_equal(symbol_store_seal(store, &error), STATUS_OK);
        assert_int_equal(symbol_store_count(store), count);
        for (uint64_t i = 0; count > 0 && i < 100; i++) {
            struct rng_words words = rng_philox(seed, round + 1000, i);
            uint64_t begin = words.word[0] % count;
            size_t length = words.word[1] % PIECE_MAX;
            length = length < count - begin ? length : (size_t)(count - begin);
            assert_int_equal(symbol_store_read(store, begin, length, numbers, &error), STATUS_OK);
            for (size_t at = 0; at < length; at++) {
                assert_int_equal(numbers[at], number_at(seed, round, begin + at));
            }
        }
        symbol_store_destroy(store);
    }
}

static void test_no_place_for_the_file(void **state)
{
    (void)state;
    struct symbol_store *store = NULL;
    struct error error;
    struct symbol_store_options options = {.directory = "/nonexistent/folder", .memory_bytes_max = 2};
    assert_int_equal(symbol_store_create(&options, &store, &error), STATUS_OK);
    assert_int_equal(symbol_store_append(store, (const uint32_t[]){1, 2}, 2, &error), STATUS_OK);
    assert_int_equal(symbol_store_append(store, (const uint32_t[]){3}, 1, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.message, "/nonexistent/folder: make a file for symbols"));
    symbol_store_destroy(store);
}

static void test_running_out_of_memory(void **state)
{
    (void)state;
    uint64_t failing = 0;
    for (enum status status = STATUS_NO_MEMORY; status != STATUS_OK; failing++) {
        struct symbol_store *store = NULL;
        struct symbol_store_options options = {.directory = "/tmp", .memory_bytes_max = 3};
        struct error error;
        mem_fail_after(failing);
        status = symbol_store_create(&options, &store, &error);
        for (uint32_t number = 1; number < 1u << 20 && status == STATUS_OK; number *= 2) {
            status = symbol_store_append(store, &number, 1, &error);
        }
        if (status == STATUS_OK) {
            status = symbol_store_seal(store, &error);
        }
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        symbol_store_destroy(store);
    }
    assert_true(failing > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_no_place_for_the_file),
        cmocka_unit_test(test_running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

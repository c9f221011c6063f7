/* Cleaning and checking do not depend on where pieces are cut, and errors say where in the file they are. */
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/text/utf8.h"
#include "engine/train/text_reader.h"
#include "tests/unit/training_rig.h"

enum { LENGTH_MAX = 3 * TEXT_READER_PIECE_BYTES };

static int make_directory(void **state)
{
    (void)state;
    return !make_temporary("lstmd-reader");
}

static const char *write_file(const char *bytes, size_t length)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/text", directory);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    return path;
}

static enum status read_all(struct text_reader *reader, char *text, size_t *ret_length, struct error *error)
{
    const char *bytes;
    size_t length;
    size_t total = 0;
    for (;;) {
        TRY(text_reader_next(reader, &bytes, &length, error));
        if (length == 0) {
            *ret_length = total;
            return STATUS_OK;
        }
        assert_true(utf8_find_malformed(bytes, length) == length || reader->is_raw);
        memcpy(text + total, bytes, length);
        total += length;
    }
}

/* The same in one go. */
static size_t clean(const char *bytes, size_t length, char *text)
{
    size_t total = 0;
    size_t begin = length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    for (size_t i = begin; i < length; i++) {
        if (bytes[i] != '\r' || i + 1 == length || bytes[i + 1] != '\n') {
            text[total++] = bytes[i];
        }
    }
    return total;
}

static void test_random_texts(void **state)
{
    (void)state;
    const char *seed_text = getenv("TEST_SEED");
    uint64_t seed = seed_text == NULL ? 1 : strtoull(seed_text, NULL, 10);
    print_message("seed %llu\n", (unsigned long long)seed);
    char *bytes = mem_allocate(LENGTH_MAX + UTF8_BYTES_MAX, 1);
    char *expected = mem_allocate(LENGTH_MAX + UTF8_BYTES_MAX, 1);
    char *text = mem_allocate(LENGTH_MAX + UTF8_BYTES_MAX, 1);
    for (uint64_t round = 0; round < 12; round++) {
        size_t length = 0;
        size_t wanted = rng_philox(seed, round, 0).word[0] % LENGTH_MAX;
        if (round % 2 == 0) {
            length += utf8_encode(0xFEFF, bytes);
        }
        for (uint64_t at = 1; length < wanted; at++) {
            static const uint32_t characters[] = {'\r', '\n', '\r', 'a', 0xE9, 0x4E2D, 0x1F40B, 0xFEFF};
            length += utf8_encode(characters[rng_philox(seed, round, at).word[0] % 8], bytes + length);
        }
        size_t expected_length = clean(bytes, length, expected);
        for (int way = 0; way < 2; way++) {
            struct text_reader reader;
            struct error error;
            size_t read_length = 0;
            assert_ok(way == 0 ? text_reader_open_text(&reader, bytes, length, false, &error)
                               : text_reader_open(&reader, write_file(bytes, length), false, &error),
                      error);
            assert_ok(read_all(&reader, text, &read_length, &error), error);
            assert_int_equal(read_length, expected_length);
            assert_memory_equal(text, expected, read_length);
            assert_int_equal(length - expected_length, reader.line_ends + 3 * reader.mark_count);
            text_reader_close(&reader);
        }
    }
    mem_free(bytes);
    mem_free(expected);
    mem_free(text);
}

/* Where a piece ends must not matter for what is malformed either. */
static void test_malformed_anywhere(void **state)
{
    (void)state;
    char *bytes = mem_allocate(LENGTH_MAX, 1);
    char *text = mem_allocate(LENGTH_MAX, 1);
    const size_t near = TEXT_READER_PIECE_BYTES;
    for (size_t offset = near - 6; offset < near + 6; offset++) {
        memset(bytes, 'a', LENGTH_MAX);
        for (size_t line = 0; line < 100; line++) {
            bytes[line * 2] = '\n';
        }
        memcpy(bytes + offset, "\xe4\xb8(", 3);
        struct text_reader reader;
        struct error error;
        size_t length;
        char expected[128];
        assert_ok(text_reader_open_text(&reader, bytes, LENGTH_MAX, false, &error), error);
        assert_int_equal(read_all(&reader, text, &length, &error), STATUS_INVALID);
        snprintf(expected, sizeof expected, "line 101: invalid UTF-8 at byte offset %zu (0xe4)", offset);
        assert_string_equal(error.message, expected);
        assert_string_equal(error.code, "malformed_utf8");
        text_reader_close(&reader);
        assert_ok(text_reader_open_text(&reader, bytes, LENGTH_MAX, true, &error), error);
        assert_ok(read_all(&reader, text, &length, &error), error);
        assert_int_equal(length, LENGTH_MAX);
        text_reader_close(&reader);
    }
    static const char *const cut_off[] = {"a\xc3", "\xe4\xb8", "\xf0\x9f\x90"};
    for (size_t i = 0; i < sizeof cut_off / sizeof cut_off[0]; i++) {
        struct text_reader reader;
        struct error error;
        size_t length;
        assert_ok(text_reader_open_text(&reader, cut_off[i], strlen(cut_off[i]), false, &error), error);
        assert_int_equal(read_all(&reader, text, &length, &error), STATUS_INVALID);
        text_reader_close(&reader);
    }
    mem_free(bytes);
    mem_free(text);
}

static void test_a_file_that_changes_is_told(void **state)
{
    (void)state;
    char *bytes = mem_allocate(LENGTH_MAX, 1);
    memset(bytes, 'a', LENGTH_MAX);
    const char *path = write_file(bytes, LENGTH_MAX);
    for (int change = 0; change < 2; change++) {
        struct text_reader reader;
        struct error error;
        const char *piece;
        size_t length = 1;
        enum status status = STATUS_OK;
        assert_int_equal(truncate(path, LENGTH_MAX), 0);
        assert_ok(text_reader_open(&reader, path, true, &error), error);
        assert_ok(text_reader_next(&reader, &piece, &length, &error), error);
        struct file_stamp stamp = reader.stamp;
        assert_ok(file_stamp_check(&stamp, path, &error), error);
        assert_int_equal(truncate(path, change == 0 ? 10 : LENGTH_MAX + 1), 0);
        while (status == STATUS_OK && length > 0) {
            status = text_reader_next(&reader, &piece, &length, &error);
        }
        assert_int_equal(status, STATUS_IO);
        assert_string_equal(error.code, "file_changed");
        assert_int_equal(file_stamp_check(&stamp, path, &error), STATUS_IO);
        assert_non_null(strstr(error.message, change == 0 ? "now 10" : "now 786433"));
        text_reader_close(&reader);
    }
    mem_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_malformed_anywhere),
        cmocka_unit_test(test_a_file_that_changes_is_told),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

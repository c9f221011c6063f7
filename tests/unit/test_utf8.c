/* UTF-8 against the table of well-formed sequences, and the assembler against WHATWG's examples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/text/utf8.h"

static void test_every_code_point_goes_round(void **state)
{
    (void)state;
    for (uint32_t code_point = 0; code_point <= 0x10FFFF; code_point++) {
        if (code_point >= 0xD800 && code_point <= 0xDFFF) {
            continue;
        }
        char bytes[UTF8_BYTES_MAX];
        uint32_t found = UINT32_MAX;
        size_t length = utf8_encode(code_point, bytes);
        size_t expected = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
        if (length != expected || utf8_decode(bytes, length, &found) != length || found != code_point) {
            fail_msg("U+%04X", code_point);
        }
        if (utf8_decode(bytes, length - 1, &found) != 0) {
            fail_msg("U+%04X is taken without its last byte", code_point);
        }
    }
}

/* Of all sequences of two bytes, and of three and four with ASCII or continuation bytes behind, as many are well-formed
 * as there are code points: nothing overlong, no surrogate, nothing above U+10FFFF. */
static void test_nothing_else_is_well_formed(void **state)
{
    (void)state;
    size_t counts[5] = {0};
    for (uint32_t lead = 0; lead < 0x100; lead++) {
        for (uint32_t second = 0; second < 0x100; second++) {
            char bytes[4] = {(char)lead, (char)second, (char)0x80, (char)0xBF};
            uint32_t code_point;
            counts[utf8_decode(bytes, sizeof bytes, &code_point)]++;
        }
    }
    assert_int_equal(counts[1], 0x80 * 0x100);
    assert_int_equal(counts[2], 0x800 - 0x80);
    assert_int_equal(counts[3], (0x10000 - 0x800 - 0x800) / 64);
    assert_int_equal(counts[4], 0x100000 / 4096);
}

static void test_malformed_byte_is_found(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t length;
        size_t offset;
    } cases[] = {
        {"", 0, 0},
        {"plain text, longer than a word", 30, 30},
        {"gr\xC3\xBC\xC3\x9F", 6, 6},
        {"12345678\xFF", 9, 8},
        {"1234567\xFF"
         "9",
         9, 7},
        {"caf\xC3", 4, 3},
        {"a\xC0\x80", 3, 1},
        {"a\xED\xA0\x80", 4, 1},
        {"\xF0\x9F\x90\x8B\x80", 5, 4},
        {"\xF4\x90\x80\x80", 4, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(utf8_find_malformed(cases[i].text, cases[i].length), cases[i].offset);
    }
}

static void assemble(const char *input, char output[256], size_t *ret_pending)
{
    struct utf8_assembler assembler = {.pending_count = 0};
    size_t used = 0;
    for (const char *byte = input; *byte != '\0'; byte++) {
        char piece[UTF8_ASSEMBLER_OUTPUT_BYTES_MAX];
        size_t length = utf8_assembler_push(&assembler, (unsigned char)*byte, piece);
        assert_true(length <= sizeof piece);
        assert_int_equal(utf8_find_malformed(piece, length), length);
        memcpy(output + used, piece, length);
        used += length;
    }
    output[used] = '\0';
    *ret_pending = assembler.pending_count;
}

#define BAD "\xEF\xBF\xBD"

static void test_assembler_replaces_maximal_malformed_parts(void **state)
{
    (void)state;
    const struct {
        const char *input;
        const char *output;
        size_t pending;
    } cases[] = {
        {"whale \xF0\x9F\x90\x8B!", "whale \xF0\x9F\x90\x8B!", 0},
        {"\xC3", "", 1},
        {"\xF0\x9F\x90", "", 3},
        {"\xC3"
         "a",
         BAD "a", 0},
        {"\xC3\xC3\xA9", BAD "\xC3\xA9", 0},
        {"\xF0\x9F\x90"
         "a",
         BAD "a", 0},
        {"\xF0\x9F\x41\x90", BAD "A" BAD, 0},
        {"\xE0\x80\x80", BAD BAD BAD, 0},
        {"\xED\xA0\x80", BAD BAD BAD, 0},
        {"\xC0\xAF\xFF", BAD BAD BAD, 0},
        {"\xF0\x9F\xE2\x82\xAC", BAD "\xE2\x82\xAC", 0},
        {"\xF1\x80\xFF\x41", BAD BAD "A", 0},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", BAD BAD BAD BAD "A", 0}, /* Unicode Standard, table 3-11 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char output[256];
        size_t pending;
        assemble(cases[i].input, output, &pending);
        assert_string_equal(output, cases[i].output);
        assert_int_equal(pending, cases[i].pending);
    }
}

static void test_whole_characters_fit(void **state)
{
    (void)state;
    const char text[] = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z"; /* of 1, 2, 3, 4 and 1 bytes */
    const size_t wanted[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (size_t room = 0; room < sizeof wanted / sizeof *wanted; room++) {
        assert_int_equal(utf8_fitting(text, sizeof text - 1, room), wanted[room]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point_goes_round),
        cmocka_unit_test(test_nothing_else_is_well_formed),
        cmocka_unit_test(test_malformed_byte_is_found),
        cmocka_unit_test(test_whole_characters_fit),
        cmocka_unit_test(test_assembler_replaces_maximal_malformed_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

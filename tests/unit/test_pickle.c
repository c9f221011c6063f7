/* Pickles: what instructions of every protocol come to, what is refused, and that nothing is ever called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/import/pickle.h"

#define PICKLE(text) ((const unsigned char *)(text)), sizeof(text) - 1

/* The value of a pickle in `arena`. */
static const struct plain *read_good(const unsigned char *bytes, size_t length, struct arena *arena)
{
    struct plain *value = NULL;
    struct error error;
    size_t end = 0;
    if (pickle_read(bytes, length, arena, &value, &end, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(end, length);
    return value;
}

static void expect_bad(const unsigned char *bytes, size_t length, enum status status, const char *message)
{
    struct arena arena = {.bytes_max = 1 << 20};
    struct plain *value = NULL;
    struct error error = {.message = ""};
    size_t end = 0;
    assert_int_equal(pickle_read(bytes, length, &arena, &value, &end, &error), status);
    if (strstr(error.message, message) == NULL) {
        fail_msg("'%s' does not hold '%s'", error.message, message);
    }
    arena_release(&arena);
}

/* (["a", "b"], {"a": 0, "b": 1}) in protocols 0, 2 and 4, as Python 3 writes them. */
static void test_protocols(void **state)
{
    (void)state;
#define ROW(text)                                                                                                      \
    {                                                                                                                  \
        text, sizeof(text) - 1                                                                                         \
    }
    static const struct {
        const char *bytes;
        size_t length;
    } rows[] = {
        ROW("((lp0\nVa\np1\naVb\np2\na(dp3\ng1\nI0\nsg2\nI1\nstp4\n."),
        ROW("\x80\x02]q\x00(X\x01\x00\x00\x00"
            "aq\x01X\x01\x00\x00\x00"
            "bq\x02"
            "e}q\x03(h\x01K\x00h\x02K\x01u\x86q\x04."),
        ROW("\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x01"
            "a\x94\x8c\x01"
            "b\x94"
            "e}\x94(h\x01K\x00h\x02K\x01u\x86\x94."),
    };
#undef ROW
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena arena = {.bytes_max = 1 << 20};
        const struct plain *pair = read_good((const unsigned char *)rows[i].bytes, rows[i].length, &arena);
        int64_t number = -1;
        assert_int_equal(pair->kind, PLAIN_LIST);
        assert_true(plain_equals(plain_item(plain_item(pair, 0), 1), "b"));
        assert_true(plain_integer(plain_get(plain_item(pair, 1), "b"), &number));
        assert_int_equal(number, 1);
        arena_release(&arena);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 1 << 20};
    static const struct {
        const char *bytes;
        size_t length;
        int64_t number;
    } rows[] = {
        {"I-12\n.", 6, -12},
        {"L123456789012L\n.", 16, 123456789012},
        {"K\xff.", 3, 255},
        {"M\x01\x02.", 4, 513},
        {"J\xff\xff\xff\xff.", 6, -1},
        {"\x8a\x01\xff.", 4, -1},
        {"\x8a\x02\x00\x01.", 5, 256},
        {"\x8a\x00.", 3, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t number = 0;
        const struct plain *value = read_good((const unsigned char *)rows[i].bytes, rows[i].length, &arena);
        assert_true(plain_integer(value, &number));
        assert_int_equal(number, rows[i].number);
    }
    assert_float_equal(read_good(PICKLE("F-1.5\n."), &arena)->real, -1.5, 0);
    assert_float_equal(read_good(PICKLE("G\x3f\xf8\x00\x00\x00\x00\x00\x00."), &arena)->real, 1.5, 0);
    assert_true(read_good(PICKLE("I01\n."), &arena)->boolean);
    assert_false(read_good(PICKLE("\x89."), &arena)->boolean);
    assert_int_equal(read_good(PICKLE("N."), &arena)->kind, PLAIN_NONE);
    const struct plain *big = read_good(PICKLE("\x8a\x0al\xfc\x9c\x46\xf9\x20j\xa8P\x19."), &arena);
    assert_int_equal(big->kind, PLAIN_BIG);
    assert_int_equal(big->length, 10);
    arena_release(&arena);
}

/* A text as its symbols' numbers takes a pointer for each. */
static void test_numbers_that_come_again_are_shared(void **state)
{
    (void)state;
    enum { COUNT = 1000, VALUES = 3 };
    unsigned char bytes[2 * COUNT + 3] = "(";
    struct arena arena = {.bytes_max = 3 * COUNT * sizeof(void *)};
    for (size_t i = 0; i < COUNT; i++) {
        bytes[1 + 2 * i] = 'K';
        bytes[2 + 2 * i] = (unsigned char)(i % VALUES);
    }
    memcpy(bytes + 1 + 2 * COUNT, "l.", 2);
    const struct plain *list = read_good(bytes, sizeof bytes, &arena);
    assert_int_equal(list->count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        int64_t number = -1;
        assert_true(plain_integer(list->items[i], &number));
        assert_int_equal(number, i % VALUES);
    }
    arena_release(&arena);
    const struct plain *far = read_good(PICKLE("(K\x01J\x01\x40\x00\x00K\x01l."), &arena); /* one place for both */
    assert_int_equal(far->items[0]->integer, 1);
    assert_int_equal(far->items[1]->integer, 1 + (1 << 14));
    assert_int_equal(far->items[2]->integer, 1);
    arena_release(&arena);
}

static void test_strings(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 1 << 20};
    assert_true(plain_equals(read_good(PICKLE("S'a\\n\\x41\\'\\101\\q'\n."), &arena), "a\nA'A\\q"));
    assert_true(plain_equals(read_good(PICKLE("S'\xec\x82\xac'\n."), &arena), "\xec\x82\xac"));
    assert_true(plain_equals(read_good(PICKLE("Vx\\u00e9\\U0001f40b\xe9\n."), &arena), "xé🐋é"));
    assert_int_equal(read_good(PICKLE("U\x01\xff."), &arena)->kind, PLAIN_BYTES);
    assert_int_equal(read_good(PICKLE("C\x01\xff."), &arena)->kind, PLAIN_BYTES);
    /* bytes as protocol 2 has them: _codecs.encode(u"\xff", "latin1") */
    const struct plain *encoded =
        read_good(PICKLE("\x80\x02"
                         "c_codecs\nencode\nX\x02\x00\x00\x00\xc3\xbfX\x06\x00\x00\x00latin1\x86R."),
                  &arena);
    assert_int_equal(encoded->kind, PLAIN_BYTES);
    assert_memory_equal(encoded->text, "\xff", 2);
    arena_release(&arena);
}

static void test_objects_are_notes(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 1 << 20};
    const struct plain *call = read_good(PICKLE("cos\nsystem\n(S'true'\ntR."), &arena);
    assert_int_equal(call->kind, PLAIN_CALL);
    assert_string_equal(call->global, "os system");
    assert_true(plain_equals(plain_item(call->arguments, 0), "true"));
    const struct plain *object = read_good(PICKLE("ccopy_reg\n_reconstructor\n(cargparse\nNamespace\n"
                                                  "c__builtin__\nobject\nNtR(dS'units'\nI8\nsb."),
                                           &arena);
    int64_t units = 0;
    assert_true(plain_integer(plain_get(object->state, "units"), &units));
    assert_int_equal(units, 8);
    const struct plain *ordered = read_good(PICKLE("ccollections\nOrderedDict\n((lp0\n(lp1\nS'a'\naI1\naatR."), &arena);
    assert_int_equal(ordered->kind, PLAIN_DICT);
    assert_non_null(plain_get(ordered, "a"));
    const struct plain *set = read_good(PICKLE("c__builtin__\nset\n((lI1\natR."), &arena);
    assert_int_equal(set->kind, PLAIN_SET);
    assert_int_equal(set->count, 1);
    const struct plain *written = read_good(PICKLE("\x80\x04\x8f(K\x01K\x02\x90."), &arena);
    assert_int_equal(written->kind, PLAIN_SET);
    assert_int_equal(written->count, 2);
    const struct plain *frozen = read_good(PICKLE("\x80\x04(K\x01\x91."), &arena);
    assert_int_equal(frozen->kind, PLAIN_SET);
    const struct plain *kept = read_good(PICKLE("\x80\x02(X\x01\x00\x00\x00sK\x07tQ."), &arena);
    assert_int_equal(kept->kind, PLAIN_PERSISTENT);
    arena_release(&arena);
}

static void test_refusals(void **state)
{
    (void)state;
    expect_bad(PICKLE(""), STATUS_CORRUPT, "ends without its STOP");
    expect_bad(PICKLE("."), STATUS_CORRUPT, "nothing is on the stack");
    expect_bad(PICKLE("(."), STATUS_CORRUPT, "nothing is on the stack");
    expect_bad(PICKLE("t."), STATUS_CORRUPT, "there is no mark");
    expect_bad(PICKLE("Nh\x00."), STATUS_CORRUPT, "no such entry");
    expect_bad(PICKLE("Nr\xff\xff\xff\xff."), STATUS_LIMIT, "entry 4294967295");
    expect_bad(PICKLE("X\xff\xff\xff\xff"), STATUS_CORRUPT, "it is cut off");
    expect_bad(PICKLE("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), STATUS_CORRUPT, "it is cut off");
    expect_bad(PICKLE("\x82\x01."), STATUS_UNSUPPORTED, "at byte 0");
    expect_bad(PICKLE("\x80\x06."), STATUS_UNSUPPORTED, "protocol 6");
    expect_bad(PICKLE("\xfe."), STATUS_CORRUPT, "0xfe is none");
    expect_bad(PICKLE("(I1\nd."), STATUS_CORRUPT, "a key without its value");
    expect_bad(PICKLE("NI1\na."), STATUS_CORRUPT, "no list, dictionary or object");
    expect_bad(PICKLE("I99999999999999999999\n."), STATUS_CORRUPT, "beyond 64 bits");
    expect_bad(PICKLE("V\\ud800\n."), STATUS_CORRUPT, "no character");
    expect_bad(PICKLE("S'a\n."), STATUS_CORRUPT, "without its quotes");
}

/* One byte can make a value of many: the arena's maximum holds. */
static void test_bombs(void **state)
{
    (void)state;
    static unsigned char lists[1 << 16];
    memset(lists, ']', sizeof lists);
    expect_bad(lists, sizeof lists, STATUS_LIMIT, "more than 1048576 bytes");
    memset(lists, '(', sizeof lists);
    expect_bad(lists, sizeof lists, STATUS_CORRUPT, "ends without its STOP");
    lists[0] = 'N';
    memset(lists + 1, '2', sizeof lists - 1);
    expect_bad(lists, sizeof lists, STATUS_CORRUPT, "ends without its STOP");
}

/* A .npy file of that version, header and content, its length as the version keeps it. */
static void expect_numpy(unsigned char version, const char *header, const char *content, size_t length,
                         size_t bytes_max, enum status status, const char *message)
{
    unsigned char bytes[512] = "\x93NUMPY";
    struct arena arena = {.bytes_max = bytes_max};
    struct plain *value = NULL;
    struct error error = {.message = ""};
    size_t begin = version == 1 ? 10 : 12;
    size_t header_bytes = strlen(header);
    bytes[6] = version;
    bytes[8] = (unsigned char)header_bytes;
    memcpy(bytes + begin, header, header_bytes);
    memcpy(bytes + begin + header_bytes, content, length);
    assert_true(numpy_begins(bytes, begin + header_bytes + length));
    enum status got = numpy_read(bytes, begin + header_bytes + length, &arena, &value, &error);
    if (got != status || strstr(error.message, message) == NULL) {
        fail_msg("%d '%s', not %d '%s'", (int)got, error.message, (int)status, message);
    }
    assert_int_equal(value == NULL ? 0 : value->count, status == STATUS_OK ? length / 4 : 0);
    arena_release(&arena);
}

static void test_numpy_files(void **state)
{
    static const char two[] = "{'descr': '<U1', 'fortran_order': False, 'shape': (2,), }";
    static const char text[] = "a\0\0\0b\0\0\0";
    (void)state;
    for (unsigned char version = 1; version <= 3; version++) {
        expect_numpy(version, two, text, 8, 1 << 20, STATUS_OK, "");
    }
    expect_numpy(1, "{'descr': '<U1', 'shape': (1, 2), }", text, 8, 1 << 20, STATUS_OK, "");
    expect_numpy(1, two, text, 4, 1 << 20, STATUS_CORRUPT, "1 elements, which is not what its shape says");
    expect_numpy(1, two, text, 7, 1 << 20, STATUS_CORRUPT, "7 bytes of elements of 4");
    expect_numpy(1, "{'descr': '<S1U', 'shape': (2,), }", text, 2, 1 << 20, STATUS_UNSUPPORTED, "'<S1U', not of texts");
    expect_numpy(1, "{'descr': '<U1S', 'shape': (2,), }", text, 8, 1 << 20, STATUS_UNSUPPORTED, "'<U1S', not of texts");
    expect_numpy(1, "{'descr': '<U1001', 'shape': (0,), }", text, 0, 1 << 20, STATUS_UNSUPPORTED, "not of texts");
    expect_numpy(1, "{'descr': '<U1', 'shape': (18446744073709551615, 18446744073709551615), }", text, 4, 1 << 20,
                 STATUS_CORRUPT, "1 elements");
    expect_numpy(1, "{'descr': '<U1', }", text, 8, 1 << 20, STATUS_CORRUPT, "a header without type or shape");
    expect_numpy(1, "{'descr': [('a', '<f4')], 'shape': (2,), }", text, 8, 1 << 20, STATUS_UNSUPPORTED,
                 "an array of structures, not of texts");
    expect_numpy(1, "{'descr': '<f4', 'shape': (2,), }", text, 8, 1 << 20, STATUS_UNSUPPORTED,
                 "an array of '<f4', not of texts");
    expect_numpy(1, two, "a\0\0\0\0\0\x11\0", 8, 1 << 20, STATUS_CORRUPT,
                 "element 1 has a code point that is no character");
    expect_numpy(1, two, text, 8, 1, STATUS_LIMIT, "an array's values take more than 1 bytes");
}

/* The four bytes of a header's length count from version 2 on. */
static void test_numpy_headers_of_four_bytes(void **state)
{
    static const unsigned char bytes[] = "\x93NUMPY\2\0\1\0\1\0 {'descr': '<U1', 'shape': (0,), }";
    struct arena arena = {.bytes_max = 1 << 20};
    struct plain *value = NULL;
    struct error error = {.message = ""};
    (void)state;
    assert_int_equal(numpy_read(bytes, sizeof bytes - 1, &arena, &value, &error), STATUS_CORRUPT);
    assert_string_equal(error.message, "a header of 65537 bytes");
    assert_int_equal(numpy_read(bytes, 11, &arena, &value, &error), STATUS_CORRUPT); /* cut off within the length */
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_numbers_that_come_again_are_shared),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_objects_are_notes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_numpy_files),
        cmocka_unit_test(test_numpy_headers_of_four_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
    assert_int_equal(set->count, 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protocols),         cmocka_unit_test(test_numbers),  cmocka_unit_test(test_strings),
        cmocka_unit_test(test_objects_are_notes), cmocka_unit_test(test_refusals), cmocka_unit_test(test_bombs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

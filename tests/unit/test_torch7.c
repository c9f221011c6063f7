/* Torch7's objects: what they come to, binary and ascii, what is refused, and that nothing in them is ever run. */
#include "foreign_rig.h"

#include "engine/base/mem.h"
#include "engine/import/torch.h"
#include "engine/import/torch7.h"

enum { NIL = 0, NUMBER = 1, STRING = 2, TABLE = 3, CLASS = 4, BOOLEAN = 5, BARE_FUNCTION = 6, FUNCTION = 8 };

/* ---- writing ---- */

static struct buffer file;
static bool is_ascii;

static void put_text_of(const char *text)
{
    put(&file, text, strlen(text));
}

/* Whole numbers one behind another, of `bytes` each, as one call writes them. */
static void put_whole(size_t bytes, size_t count, const int64_t *numbers)
{
    for (size_t i = 0; i < count; i++) {
        char text[32];
        snprintf(text, sizeof text, "%lld%s", (long long)numbers[i], i + 1 < count ? " " : "\n");
        if (is_ascii) {
            put_text_of(text);
        } else {
            put_number(&file, (uint64_t)numbers[i], bytes);
        }
    }
}

static void put_int(int64_t number)
{
    put_whole(4, 1, &number);
}

static void put_long(int64_t number)
{
    put_whole(8, 1, &number);
}

static void put_real(double number)
{
    char text[40];
    snprintf(text, sizeof text, "%.17g\n", number);
    put_int(NUMBER);
    if (is_ascii) {
        put_text_of(text);
    } else {
        put(&file, &number, sizeof number);
    }
}

/* A string without its type. */
static void put_string(const char *text)
{
    put_int((int64_t)strlen(text));
    put_text_of(text);
    if (is_ascii && text[0] != '\0') {
        put_text_of("\n");
    }
}

static void put_key(const char *text)
{
    put_int(STRING);
    put_string(text);
}

/* Begins a table, an object, a tensor: what is in it follows. */
static void put_table_of(int64_t index, int64_t count)
{
    put_int(TABLE);
    put_int(index);
    put_int(count);
}

static void put_object(int64_t index, const char *class_name)
{
    put_int(CLASS);
    put_int(index);
    put_string("V 1");
    put_string(class_name);
}

static void put_tensor(int64_t index, size_t rank, const int64_t *sizes_and_strides, int64_t offset)
{
    put_object(index, "torch.LongTensor");
    put_int((int64_t)rank);
    put_whole(8, rank, sizes_and_strides);
    put_whole(8, rank, sizes_and_strides + rank);
    put_long(offset);
}

static void put_storage(int64_t index, size_t count, const int64_t *numbers)
{
    put_object(index, "torch.LongStorage");
    put_long((int64_t)count);
    put_whole(8, count, numbers);
}

/* One table with something of every kind. */
static void put_everything(void)
{
    file.length = 0;
    put_table_of(1, 11);
    put_key("whole"), put_real(-3);
    put_key("real"), put_real(0.5);
    put_key("yes"), put_int(BOOLEAN), put_int(1);
    put_key("no"), put_int(BOOLEAN), put_int(0);
    put_key("text"), put_key("a\nb");
    put_key("empty"), put_key("");
    put_key("self"), put_int(TABLE), put_int(1);
    put_key("function"), put_int(FUNCTION), put_int(2), put_string("\x1bLua"), put_table_of(3, 0);
    put_key("bare"), put_int(BARE_FUNCTION), put_string("\x1bLua"), put_int(NIL);
    put_key("module"), put_object(4, "nn.Linear"), put_table_of(5, 2);
    put_key("weight"), put_tensor(6, 2, (const int64_t[]){2, 2, 1, 3}, 2);
    put_storage(7, 6, (const int64_t[]){10, 11, 12, 13, 14, 15});
    put_key("bias"), put_tensor(8, 1, (const int64_t[]){3, 1}, 1);
    put_int(CLASS), put_int(7); /* the same storage */
    put_real(1), put_tensor(9, 0, NULL, 1), put_int(NIL);
}

/* ---- reading ---- */

static struct foreign_model model;

static enum status parse(size_t length, struct torch7_file *ret_file, struct error *error)
{
    unsigned char *exact = (unsigned char *)mem_copy_bytes((const char *)file.bytes, length);
    foreign_model_release(&model);
    model.arena.bytes_max = 64 << 20;
    enum status status = torch7_parse(exact, length, "m.t7", &model, ret_file, error);
    if (status == STATUS_OK) {
        /* what it points to lies in the buffer that stays */
        status = torch7_parse(file.bytes, length, "m.t7", &model, ret_file, error);
    }
    mem_free(exact);
    return status;
}

static void expect_bad(enum status status, const char *message)
{
    struct torch7_file parsed;
    struct error error = {.message = ""};
    assert_int_equal(parse(file.length, &parsed, &error), status);
    if (strstr(error.message, message) == NULL) {
        fail_msg("'%s' does not hold '%s'", error.message, message);
    }
    foreign_model_release(&model);
}

static int64_t integer_of(const struct plain *table, const char *key)
{
    int64_t number = -1;
    assert_true(plain_integer(plain_get(table, key), &number));
    return number;
}

static void expect_everything(const struct torch7_file *parsed)
{
    const struct plain *root = parsed->root;
    struct error error;
    assert_int_equal(root->kind, PLAIN_DICT);
    assert_int_equal(root->count, 22);
    assert_int_equal(integer_of(root, "whole"), -3);
    assert_float_equal(plain_get(root, "real")->real, 0.5, 0);
    assert_true(plain_get(root, "yes")->boolean);
    assert_false(plain_get(root, "no")->boolean);
    assert_true(plain_equals(plain_get(root, "text"), "a\nb"));
    assert_true(plain_equals(plain_get(root, "empty"), ""));
    assert_ptr_equal(plain_get(root, "self"), root);
    assert_int_equal(plain_get(root, "function")->kind, PLAIN_PERSISTENT);
    assert_int_equal(plain_get(root, "bare")->kind, PLAIN_PERSISTENT);
    const struct plain *module = plain_get(root, "module");
    assert_string_equal(module->global, "nn.Linear");
    const struct torch_view *weight = torch7_tensor(parsed, plain_get(module->state, "weight"));
    const struct torch_view *bias = torch7_tensor(parsed, plain_get(module->state, "bias"));
    const struct torch_view *empty = torch7_tensor(parsed, root->items[21]);
    assert_non_null(empty);
    assert_int_equal(empty->shape.rank, 0);
    assert_null(torch7_tensor(parsed, module));
    assert_ptr_equal(weight->bytes, bias->bytes);
    assert_int_equal(torch_add_view(&model, "weight", weight, &error), STATUS_OK);
    assert_int_equal(torch_add_view(&model, "bias", bias, &error), STATUS_OK);
    for (size_t i = 0; i < 4; i++) { /* 11, 1 more for a row, 3 more for a column */
        assert_int_equal((int)foreign_number(&model.tensors[0], i), 11 + i / 2 + 3 * (i % 2));
        assert_int_equal((int)foreign_number(&model.tensors[1], i % 3), 10 + i % 3);
    }
}

static void test_everything_cut_off_everywhere(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++) {
        struct torch7_file parsed;
        struct error error = {.message = ""};
        is_ascii = form == 1;
        put_everything();
        assert_true(torch7_begins(file.bytes, file.length));
        if (parse(file.length, &parsed, &error) != STATUS_OK) {
            fail_msg("%s", error.message);
        }
        expect_everything(&parsed);
        for (size_t length = 0; length < file.length; length++) {
            assert_int_equal(parse(length, &parsed, &error), STATUS_CORRUPT);
        }
        foreign_model_release(&model);
    }
}

static void test_what_begins_otherwise(void **state)
{
    (void)state;
    static const char *const others[] = {"",      "3",        "3\n1\n", "3\n1\nx", "3 2 1 2", "4\n1\n3\nW 1\n",
                                         "[1,2]", "2\n1\na\n"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_false(torch7_begins((const unsigned char *)others[i], strlen(others[i])));
    }
    assert_true(torch7_begins((const unsigned char *)"4\n1\n3\nV 1\n", 10));
}

static void test_files_of_before_versions(void **state)
{
    (void)state;
    struct torch7_file parsed;
    struct error error;
    is_ascii = false;
    file.length = 0;
    put_int(CLASS), put_int(1), put_string("nn.Old"), put_int(NIL);
    assert_int_equal(parse(file.length, &parsed, &error), STATUS_OK);
    assert_string_equal(parsed.root->global, "nn.Old");
    foreign_model_release(&model);
}

/* The table {x = …} up to the value, which follows. */
static void begin(void)
{
    file.length = 0;
    put_table_of(1, 1);
    put_key("x");
}

static void test_refusals(void **state)
{
    (void)state;
    is_ascii = false;
    begin(), put_int(9);
    expect_bad(STATUS_CORRUPT, "m.t7, byte 25: no type of an object");
    begin(), put_int(TABLE), put_int(3);
    expect_bad(STATUS_CORRUPT, "object 3, but the next one is 2");
    begin(), put_int(TABLE), put_int(0);
    expect_bad(STATUS_CORRUPT, "object 0, but");
    begin(), put_table_of(2, -1);
    expect_bad(STATUS_CORRUPT, "a table of negative size");
    begin(), put_table_of(2, INT32_MAX);
    expect_bad(STATUS_CORRUPT, "4 bytes are stated, 0 are left");
    begin(), put_int(STRING), put_int(-1);
    expect_bad(STATUS_CORRUPT, "a string of negative length");
    begin(), put_int(STRING), put_int(INT32_MAX);
    expect_bad(STATUS_CORRUPT, "2147483647 bytes are stated, 0 are left");
    begin(), put_int(CLASS), put_int(2), put_string("V 1"), put_string("");
    expect_bad(STATUS_CORRUPT, "whose class has no name");
    begin(), put_object(2, "torch.ClStorage");
    expect_bad(STATUS_UNSUPPORTED, "numbers lie in a torch.ClStorage");
    begin(), put_object(2, "torch.LongStorage"), put_long(-1);
    expect_bad(STATUS_CORRUPT, "a storage of negative size");
    begin(), put_object(2, "torch.LongStorage"), put_long(INT64_MAX / 4);
    expect_bad(STATUS_CORRUPT, "a storage of 2305843009213693951 elements, 0 bytes left");
    begin(), put_object(2, "torch.LongTensor"), put_int(99);
    expect_bad(STATUS_UNSUPPORTED, "a tensor of 99 dimensions, at most");
    begin(), put_tensor(2, 1, (const int64_t[]){-1, 1}, 1);
    expect_bad(STATUS_CORRUPT, "a negative size or stride");
    begin(), put_tensor(2, 1, (const int64_t[]){1, 1}, 1), put_int(TABLE);
    expect_bad(STATUS_CORRUPT, "a tensor that lies in no storage");
    begin(), put_tensor(2, 1, (const int64_t[]){1, 1}, 1), put_int(CLASS), put_int(1);
    expect_bad(STATUS_CORRUPT, "a tensor that lies in no storage");
    begin(), put_tensor(2, 1, (const int64_t[]){1, 1}, 1), put_object(3, "nn.Linear");
    expect_bad(STATUS_CORRUPT, "a tensor that lies in no storage");
    is_ascii = true;
    begin(), put_text_of("5\nx\n");
    expect_bad(STATUS_CORRUPT, "no whole number");
    begin(), put_text_of("1\n0.5x\n");
    expect_bad(STATUS_CORRUPT, "no number");
    begin(), put_text_of("5 1\n");
    expect_bad(STATUS_CORRUPT, "no end of the line");
    begin(), put_text_of("99999999999\n");
    expect_bad(STATUS_CORRUPT, "no whole number, or one beyond its type");
    begin(), put_object(2, "torch.HalfStorage"), put_text_of("1\n1\n");
    expect_bad(STATUS_CORRUPT, "not written in decimal");
}

static void test_views_beyond_their_storage(void **state)
{
    (void)state;
    static const int64_t rows[][5] = {
        {2, 2, 1, 3, 3},
        {2, 2, 1, 3, 0},
        {2, 2, 1, 3, INT64_MIN},
        {2, 2, INT64_MAX, INT64_MAX, 1},
        {INT64_MAX, INT64_MAX, 1, 1, 1},
    };
    is_ascii = false;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct torch7_file parsed;
        struct error error = {.message = ""};
        file.length = 0;
        put_tensor(1, 2, rows[i], rows[i][4]);
        put_storage(2, 6, (const int64_t[]){0, 1, 2, 3, 4, 5});
        assert_int_equal(parse(file.length, &parsed, &error), STATUS_OK);
        const struct torch_view *view = torch7_tensor(&parsed, parsed.root);
        assert_int_equal(torch_add_view(&model, "x", view, &error), STATUS_CORRUPT);
        assert_string_equal(error.message, "tensor 'x': it ends beyond its storage of 6 elements");
        foreign_model_release(&model);
    }
}

/* Tables in tables, as deep as a file of this size can nest them: a limit, not the end of the stack. */
static void test_depth(void **state)
{
    (void)state;
    enum { DEEP = 70000 };
    static unsigned char bytes[16 * DEEP];
    struct foreign_model deep = {.arena = {.bytes_max = 64 << 20}};
    struct torch7_file parsed;
    struct error error;
    for (int32_t i = 0; i < DEEP; i++) {
        const int32_t numbers[] = {TABLE, i + 1, 1, NIL};
        memcpy(bytes + 16 * i, numbers, sizeof numbers);
    }
    assert_int_equal(torch7_parse(bytes, sizeof bytes, "m.t7", &deep, &parsed, &error), STATUS_LIMIT);
    assert_non_null(strstr(error.message, "objects are nested more than 65536 deep"));
    foreign_model_release(&deep);
}

/* One table that holds so many others. */
static void test_number_of_objects(void **state)
{
    (void)state;
    enum { MANY = 1 << 20 };
    int32_t(*numbers)[4] = test_calloc(MANY + 1, sizeof *numbers);
    struct foreign_model many = {.arena = {.bytes_max = 256 << 20}};
    struct torch7_file parsed;
    struct error error;
    for (int32_t i = 1; i <= MANY; i++) {
        const int32_t pair[4] = {TABLE, i + 1, 0, NIL};
        memcpy(numbers[i], pair, sizeof pair);
    }
    const int32_t first[3] = {TABLE, 1, MANY};
    unsigned char *bytes = (unsigned char *)(numbers + 1) - sizeof first;
    memcpy(bytes, first, sizeof first);
    assert_int_equal(torch7_parse(bytes, sizeof first + MANY * sizeof *numbers, "m.t7", &many, &parsed, &error),
                     STATUS_LIMIT);
    assert_non_null(strstr(error.message, "more than 1048576 objects"));
    foreign_model_release(&many);
    test_free(numbers);
}

/* PyTorch's, Torch7's, and what only ends like one of them. */
static void test_classes_of_storages(void **state)
{
    (void)state;
    enum dtype dtype;
    bool is_bfloat16;
    assert_true(torch_storage_dtype("torch.CudaStorage", &dtype, &is_bfloat16));
    assert_int_equal(dtype, DTYPE_FLOAT32);
    assert_true(torch_storage_dtype("torch.CudaLongStorage", &dtype, &is_bfloat16));
    assert_int_equal(dtype, DTYPE_INT64);
    assert_true(torch_storage_dtype("torch BFloat16Storage", &dtype, &is_bfloat16));
    assert_true(is_bfloat16);
    assert_false(torch_storage_dtype("torch Storage", &dtype, &is_bfloat16));
    assert_false(torch_storage_dtype("torch.ClStorage", &dtype, &is_bfloat16));
    assert_false(torch_storage_dtype("", &dtype, &is_bfloat16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_cut_off_everywhere),
        cmocka_unit_test(test_what_begins_otherwise),
        cmocka_unit_test(test_files_of_before_versions),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_views_beyond_their_storage),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_number_of_objects),
        cmocka_unit_test(test_classes_of_storages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* safetensors: bytes known by heart, round trips, every way a file can contradict itself, memory that runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/store/safetensors.h"

enum { FILE_BYTES_MAX = 4096 };

/* A file of this header and `data_bytes` bytes 0, 1, 0, 1, … Returns its length. */
static size_t make_file(const char *header, size_t data_bytes, unsigned char file[FILE_BYTES_MAX])
{
    uint64_t header_bytes = strlen(header);
    memcpy(file, &header_bytes, sizeof header_bytes);
    memcpy(file + sizeof header_bytes, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++) {
        file[sizeof header_bytes + header_bytes + i] = i % 2;
    }
    return sizeof header_bytes + header_bytes + data_bytes;
}

static void expect(const char *header, size_t data_bytes, enum status expected, const char *part)
{
    unsigned char file[FILE_BYTES_MAX];
    size_t length = make_file(header, data_bytes, file);
    struct safetensors tensors = {.count = 77};
    struct error error = {.message = ""};
    assert_int_equal(safetensors_parse(file, length, &tensors, &error), expected);
    if (expected == STATUS_OK) {
        safetensors_release(&tensors);
        return;
    }
    assert_int_equal(tensors.count, 77); /* untouched */
    if (strstr(error.message, part) == NULL) {
        fail_msg("'%s' is not part of '%s'", part, error.message);
    }
}

static void test_a_file_as_others_write_it(void **state)
{
    (void)state;
    unsigned char file[FILE_BYTES_MAX];
    size_t length = make_file("{\"__metadata__\":{\"format\":\"pt\"},"
                              "\"b\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[8,11]},"
                              "\"a/kernel\":{\"dtype\":\"I32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
                              "\"none\":{\"dtype\":\"F64\",\"shape\":[0,7],\"data_offsets\":[11,11]},"
                              "\"one\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[11,12]}}   ",
                              12, file);
    struct safetensors tensors;
    struct error error;
    assert_int_equal(safetensors_parse(file, length, &tensors, &error), STATUS_OK);
    assert_int_equal(tensors.count, 4);
    assert_string_equal(tensors.entries[0].name, "a/kernel");
    assert_string_equal(tensors.entries[1].name, "b");
    assert_string_equal(tensors.entries[2].name, "none");
    assert_string_equal(tensors.entries[3].name, "one");
    const struct tensor *kernel = safetensors_find(&tensors, "a/kernel");
    assert_non_null(kernel);
    assert_int_equal(kernel->dtype, DTYPE_INT32);
    assert_int_equal(kernel->shape.rank, 2);
    assert_int_equal(((const int32_t *)kernel->data)[1], 0x01000100);
    assert_int_equal(safetensors_find(&tensors, "one")->shape.rank, 0);
    assert_null(safetensors_find(&tensors, "__metadata__"));
    assert_null(safetensors_find(&tensors, "a"));
    safetensors_release(&tensors);
    safetensors_release(&tensors);
    assert_null(safetensors_find(&tensors, "b"));
}

/* Where in the file it is unaligned, it is copied; the rest is not. */
static void test_data_is_aligned(void **state)
{
    (void)state;
    unsigned char file[FILE_BYTES_MAX] __attribute__((aligned(16)));
    size_t length = make_file("{\"a\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]},"
                              "\"b\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[16,17]},"
                              "\"c\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[17,25]}}  ",
                              25, file);
    assert_int_equal((length - 25) % sizeof(double), 0);
    struct safetensors tensors;
    struct error error;
    assert_int_equal(safetensors_parse(file, length, &tensors, &error), STATUS_OK);
    const unsigned char *begin = file + length - 25;
    assert_ptr_equal(safetensors_find(&tensors, "a")->data, begin);
    assert_ptr_equal(safetensors_find(&tensors, "b")->data, begin + 16);
    const void *copied = safetensors_find(&tensors, "c")->data;
    assert_int_equal((uintptr_t)copied % sizeof(double), 0);
    assert_memory_equal(copied, begin + 17, sizeof(double));
    safetensors_release(&tensors);
}

static void test_an_empty_file_of_no_tensors(void **state)
{
    (void)state;
    expect("{}", 0, STATUS_OK, "");
    expect("{\"__metadata__\":{}}", 0, STATUS_OK, "");
    expect("{}", 1, STATUS_CORRUPT, "1 bytes of data, but the tensors end at 0");
}

static void test_contradictions_are_named(void **state)
{
    (void)state;
    const struct {
        const char *header;
        size_t data_bytes;
        const char *part;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "[0, 8] do not lie within 7 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9,
         "9 bytes of data, but the tensors end at 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
         "'a': 8 bytes do not hold float32 of shape (3,)"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "'a' begins at byte 4"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "'b' begins at byte 1, but the one before it ends at 2"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[2,3]}}",
         3, "'b' begins at byte 2, but the one before it ends at 1"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "[1, 0] do not lie"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, "[-1, 0] do not lie"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "not two numbers"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1.0]}}", 1, "not two numbers"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":{}}}", 1, "not two numbers"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "dimension 0"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":1,\"data_offsets\":[0,1]}}", 1, "shape is not a list"},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "dtype is not a string"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "dtype is not a string"},
        {"{\"a\":[]}", 0, "'a': not an object"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,0]}}", 0,
         "'a': 0 bytes do not hold"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, "do not hold"},
        {"{\"a\":{},\"a\":{}}", 0, "duplicate"},
        {"{\"a\":{}", 0, "JSON"},
        {"[]", 0, "'{'"},
        {" {}", 0, "'{'"},
        {"", 0, "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect(cases[i].header, cases[i].data_bytes, STATUS_CORRUPT, cases[i].part);
    }
    expect("{\"a\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2, STATUS_UNSUPPORTED,
           "'a': dtype 'BF16'");
    expect("{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, STATUS_UNSUPPORTED,
           "9 dimensions");
}

static void test_a_bool_is_0_or_1(void **state)
{
    (void)state;
    unsigned char file[FILE_BYTES_MAX];
    size_t length = make_file("{\"a\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, file);
    file[length - 2] = 2;
    struct safetensors tensors;
    struct error error;
    assert_int_equal(safetensors_parse(file, length, &tensors, &error), STATUS_CORRUPT);
    assert_string_equal(error.message, "tensor 'a': element 1 is 2, not a BOOL");
}

static void test_the_header_lies_within_the_file(void **state)
{
    (void)state;
    unsigned char file[FILE_BYTES_MAX] = {0};
    struct safetensors tensors;
    struct error error;
    for (size_t length = 0; length < 8; length++) {
        assert_int_equal(safetensors_parse(file, length, &tensors, &error), STATUS_CORRUPT);
    }
    size_t length = make_file("{}", 0, file);
    const uint64_t lies[] = {3, SAFETENSORS_HEADER_BYTES_MAX + 1, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        memcpy(file, &lies[i], sizeof lies[i]);
        assert_int_equal(safetensors_parse(file, length, &tensors, &error), STATUS_CORRUPT);
        assert_non_null(strstr(error.message, "header of"));
    }
}

static void test_the_bytes_we_write(void **state)
{
    (void)state;
    float values[] = {1.0f, -2.0f};
    const struct named_tensor entry = {"w", {DTYPE_FLOAT32, shape_vector(2), values}};
    const char expected[] = "\x38\0\0\0\0\0\0\0"
                            "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  "
                            "\0\0\x80\x3F\0\0\0\xC0";
    void *bytes = NULL;
    size_t length = 0;
    struct error error;
    assert_int_equal(safetensors_format(&entry, 1, &bytes, &length, &error), STATUS_OK);
    assert_int_equal(length, sizeof expected - 1);
    assert_memory_equal(bytes, expected, length);
    mem_free(bytes);
    assert_int_equal(safetensors_format(NULL, 0, &bytes, &length, &error), STATUS_OK);
    assert_int_equal(length, 16);
    mem_free(bytes);
}

static void test_what_cannot_be_written_is_refused(void **state)
{
    (void)state;
    float value = 0;
    const struct tensor tensor = {DTYPE_FLOAT32, shape_scalar(), &value};
    const struct named_tensor twice[] = {{"a", tensor}, {"a", tensor}};
    const struct named_tensor reserved = {"__metadata__", tensor};
    const struct named_tensor malformed = {"\xFF", tensor};
    void *bytes = NULL;
    size_t length;
    struct error error;
    assert_int_equal(safetensors_format(twice, 2, &bytes, &length, &error), STATUS_INVALID);
    assert_int_equal(safetensors_format(&reserved, 1, &bytes, &length, &error), STATUS_INVALID);
    assert_int_equal(safetensors_format(&malformed, 1, &bytes, &length, &error), STATUS_INVALID);
    assert_int_equal(safetensors_format(NULL, SAFETENSORS_TENSORS_MAX + 1, &bytes, &length, &error), STATUS_LIMIT);
    assert_null(bytes);
}

enum { TENSORS_MAX = 6 };

/* Random names, types, shapes and bits. */
static size_t make_tensors(uint64_t seed, uint64_t round, struct named_tensor entries[TENSORS_MAX],
                           char names[TENSORS_MAX][64])
{
    uint64_t counter = 0;
    size_t count = rng_philox(seed, round, counter++).word[0] % (TENSORS_MAX + 1);
    for (size_t i = 0; i < count; i++) {
        struct rng_words words = rng_philox(seed, round, counter++);
        struct shape shape = {.rank = (int)(words.word[0] % 4)};
        for (int axis = 0; axis < shape.rank; axis++) {
            shape.dimensions[axis] = words.word[1] >> (4 * axis) & 7;
        }
        struct error error;
        snprintf(names[i], sizeof names[i], "scope \"%u\"/é\\%zu", words.word[2], i);
        entries[i].name = names[i];
        assert_int_equal(tensor_init(&entries[i].tensor, (enum dtype)(words.word[3] % DTYPE_COUNT), &shape, &error),
                         STATUS_OK);
        unsigned char *data = entries[i].tensor.data;
        for (size_t at = 0; at < tensor_bytes(&entries[i].tensor); at++) {
            uint32_t bits = rng_philox(seed, round, counter++).word[0];
            data[at] = (unsigned char)(entries[i].tensor.dtype == DTYPE_BOOL ? bits & 1 : bits);
        }
    }
    return count;
}

static void test_written_tensors_are_read_back_bit_by_bit(void **state)
{
    (void)state;
    const char *seed_text = getenv("TEST_SEED");
    uint64_t seed = seed_text == NULL ? 1 : strtoull(seed_text, NULL, 10);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (uint64_t round = 0; round < 200; round++) {
        struct named_tensor entries[TENSORS_MAX];
        char names[TENSORS_MAX][64];
        size_t count = make_tensors(seed, round, entries, names);
        void *bytes = NULL;
        size_t length = 0;
        struct safetensors tensors;
        struct error error;
        assert_int_equal(safetensors_format(entries, count, &bytes, &length, &error), STATUS_OK);
        assert_int_equal(safetensors_parse(bytes, length, &tensors, &error), STATUS_OK);
        assert_int_equal(tensors.count, count);
        for (size_t i = 0; i < count; i++) {
            const struct tensor *found = safetensors_find(&tensors, names[i]);
            assert_non_null(found);
            assert_int_equal(found->dtype, entries[i].tensor.dtype);
            assert_true(shape_equal(&found->shape, &entries[i].tensor.shape));
            assert_memory_equal(found->data, entries[i].tensor.data, tensor_bytes(found));
            tensor_release(&entries[i].tensor);
        }
        safetensors_release(&tensors);
        mem_free(bytes);
    }
}

/* Every allocation in turn fails; a sanitizer sees whether one before it was forgotten. */
static void test_running_out_of_memory(void **state)
{
    (void)state;
    unsigned char file[FILE_BYTES_MAX];
    size_t length = make_file("{\"a\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                              "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
                              16, file);
    struct safetensors tensors = {.count = 0};
    struct error error;
    enum status status = STATUS_NO_MEMORY;
    uint64_t after = 0;
    for (; status == STATUS_NO_MEMORY; after++) {
        mem_fail_after(after);
        status = safetensors_parse(file, length, &tensors, &error);
        mem_fail_after(UINT64_MAX);
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(after > 1); /* descriptions, arena */
    void *bytes = NULL;
    mem_fail_after(0);
    assert_int_equal(safetensors_format(tensors.entries, tensors.count, &bytes, &length, &error), STATUS_NO_MEMORY);
    assert_null(bytes);
    safetensors_release(&tensors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_as_others_write_it),
        cmocka_unit_test(test_data_is_aligned),
        cmocka_unit_test(test_an_empty_file_of_no_tensors),
        cmocka_unit_test(test_contradictions_are_named),
        cmocka_unit_test(test_a_bool_is_0_or_1),
        cmocka_unit_test(test_the_header_lies_within_the_file),
        cmocka_unit_test(test_the_bytes_we_write),
        cmocka_unit_test(test_what_cannot_be_written_is_refused),
        cmocka_unit_test(test_written_tensors_are_read_back_bit_by_bit),
        cmocka_unit_test(test_running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

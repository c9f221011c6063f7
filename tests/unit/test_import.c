/* Importing: readers and understanding on small files made here, through the bytes that one process hands another; cut
 * off at every byte, and with every allocation failing. */
#include "import_rig.h"

#include "engine/base/mem.h"
#include "engine/import/readers.h"
#include "engine/import/understanding.h"
#include "engine/model/model_import.h"
#include "engine/store/safetensors.h"
#include "engine/store/version_directory.h"
#include "tests/unit/run_length.h"

static const struct named_bytes *slices(bool is_split)
{
    static struct named_bytes files[3];
    index_file.length = 0;
    put_slices(&index_file, is_split);
    files[0] = (struct named_bytes){"m", index_file.bytes, index_file.length};
    files[1] = (struct named_bytes){"symbols.json", symbols, sizeof symbols - 1};
    return files;
}

/* Whether the imported variable holds rig variable `index`'s numbers. */
static void expect_variable(const struct safetensors *weights, const char *name, size_t index)
{
    float values[RIG_ELEMENTS_MAX];
    size_t count = rig_values(&rig_variables[index], values);
    const struct tensor *tensor = safetensors_find(weights, name);
    assert_non_null(tensor);
    assert_int_equal(tensor_element_count(tensor), count);
    assert_memory_equal(tensor->data, values, count * sizeof *values);
}

static void expect_rig_model(const struct import_reply *reply)
{
    struct safetensors weights;
    struct error error;
    struct model *model = NULL;
    assert_int_equal(safetensors_parse(reply->weights, reply->weights_length, &weights, &error), STATUS_OK);
    assert_int_equal(weights.count, 5);
    expect_variable(&weights, "embedding", 0);
    expect_variable(&weights, "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/bias", 2);
    expect_variable(&weights, "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel", 4);
    expect_variable(&weights, "softmax/b", 5);
    expect_variable(&weights, "softmax/w", 6);
    safetensors_release(&weights);
    assert_int_equal(model_create_imported("rig", reply, &model, &error), STATUS_OK);
    assert_true(model_makes_text(model));
    assert_true(model_is_unsaved(model));
    model_unref(model);
}

static void test_checkpoints(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct import_reply reply;
        struct error error;
        const struct named_bytes *files = kind == 0 ? bundle() : slices(kind == 2);
        assert_int_equal(import_files(files, NULL, false, &answer, &reply, &error), STATUS_OK);
        assert_string_equal(json_string_value(json_object_get(reply.facts, "format")),
                            kind == 0 ? "TensorFlow V2 checkpoint" : "TensorFlow V1 checkpoint");
        expect_rig_model(&reply);
        import_reply_release(&reply);
    }
}

static void test_forget_bias(void **state)
{
    (void)state;
    expect_forget_bias(bundle(), NULL, 1);
    expect_forget_bias(bundle(), (const char *const[]){"forget_bias", "0.5", NULL}, 0.5f);
}

/* Each is liker to the weights than the next one. */
static void test_which_file_is_like_another(void **state)
{
    (void)state;
    static const char *const rows[][6] = {
        {"poems_weights.h5", "poems_weights.json", "poems.json", "poems_old.json", "news.json"},
        {"model.h5", "model.json", "model_old.json", "mode.json"},
        {"model.weights.h5", "model.json", "model_config.json", "m.json"},
        {"poems-v1.2.h5", "poems-v1.2.json", "poems-v1.json", "poems-v1.3.json", "poems.v1.json"},
        {"run-2/w.h5", "run-2/x.json", "w.json", "x.json", "run-1/w.json", "run-1/x.json"},
        {"a/b/w.h5", "a/b/x.json", "a/w.json", "w.json", "a/c/w.json", "a/c/x.json"},
        {".h5", ".h5", "h5"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t k = 1; k + 1 < 6 && rows[i][k + 1] != NULL; k++) {
            assert_true(foreign_likeness(rows[i][k], rows[i][0]) > foreign_likeness(rows[i][k + 1], rows[i][0]));
        }
    }
    assert_true(foreign_likeness("b.json", "a.h5") == foreign_likeness("c.json", "a.h5"));
    assert_true(foreign_is_around("a/x", "a/b/y") && foreign_is_around("x", "a/y") && foreign_is_around("a/x", "a/y"));
    assert_false(foreign_is_around("a/x", "ab/y") || foreign_is_around("a/b/x", "a/y") ||
                 foreign_is_around("a/x", "y"));
}

static void test_refusals(void **state)
{
    (void)state;
    struct named_bytes files[4];
    memcpy(files, bundle(), sizeof files);
    files[2] = (struct named_bytes){"symbols.json", "[\"a\",\"b\",\"c\"]", 13};
    expect_refusal(files, NULL, STATUS_UNPROCESSABLE, "symbols.json has 3 symbols, the matrices have 5");
    files[2] = (struct named_bytes){"symbols.json", "{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"e\":3}", 31};
    expect_refusal(files, NULL, STATUS_UNPROCESSABLE, "two symbols have the number 3");
    files[2] = (struct named_bytes){"symbols.json", "[\"a\",\"b\",\"c\",\"d\",\"  \"]", 22};
    expect_refusal(files, NULL, STATUS_UNPROCESSABLE, "symbol 4 is \"  \", while 4 of 5 symbols are one character");
    files[2].name = NULL;
    expect_refusal(files, NULL, STATUS_UNPROCESSABLE, "no vocabulary lies in or beside it");
    expect_refusal(files, (const char *const[]){"vocabulary", "bytes", NULL}, STATUS_UNPROCESSABLE,
                   "has 256 symbols, the matrices have 5");
    files[1].name = NULL;
    expect_refusal(files, NULL, STATUS_NOT_FOUND, "needs the shard m.data-00000-of-00001");
    memcpy(files, bundle(), sizeof files);
    shard_file.bytes[100] ^= 1;
    expect_refusal(files, NULL, STATUS_CORRUPT, "have another checksum");
    memcpy(files, bundle(), sizeof files);
    index_file.bytes[20] ^= 1;
    expect_refusal(files, NULL, STATUS_CORRUPT, "its checksum is another");
    struct import_settings set = {.count = 0};
    struct error error;
    assert_int_equal(import_settings_add(&set, "shape", "round", &error), STATUS_INVALID);
}

static void test_looking(void **state)
{
    (void)state;
    struct import_reply reply;
    struct error error;
    struct named_bytes files[4];
    memcpy(files, bundle(), sizeof files);
    files[2].name = NULL;
    assert_int_equal(import_files(files, NULL, true, &answer, &reply, &error), STATUS_OK);
    assert_int_equal(json_array_size(json_object_get(reply.facts, "tensors")), RIG_VARIABLES);
    assert_non_null(json_object_get(reply.facts, "problem"));
    assert_null(reply.weights);
    import_reply_release(&reply);
}

/* Cut off anywhere, a file is refused with a message, whatever is behind it. */
static void test_cut_off_everywhere(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct named_bytes files[4];
        memcpy(files, kind == 0 ? bundle() : slices(true), kind == 0 ? sizeof files : 3 * sizeof *files);
        for (size_t which = 0; which < 2 - (size_t)kind; which++) {
            size_t whole = files[which].length;
            for (size_t length = 0; length < whole; length++) {
                struct import_reply reply;
                struct error error = {.message = ""};
                unsigned char *exact = (unsigned char *)mem_copy_bytes(files[which].bytes, length);
                const void *bytes = files[which].bytes;
                files[which].bytes = exact;
                files[which].length = length;
                assert_int_not_equal(import_files(files, NULL, false, &answer, &reply, &error), STATUS_OK);
                assert_true(error.message[0] != '\0');
                files[which].bytes = bytes;
                mem_free(exact);
            }
            files[which].length = whole;
        }
    }
}

static void test_out_of_memory(void **state)
{
    (void)state;
    const struct named_bytes *files = bundle();
    for (uint64_t count = 0;; count++) {
        struct import_reply reply;
        struct error error;
        mem_fail_after(count);
        enum status status = import_files(files, NULL, false, &answer, &reply, &error);
        mem_fail_after(UINT64_MAX);
        if (status == STATUS_OK) {
            import_reply_release(&reply);
            assert_true(count > 5);
            return;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
    }
}

/* ---- the other formats: files that are inputs of the fuzz targets too ---- */

static const char *const whole_files[] = {
    "torch/zip",
    "torch/zip_swapped",
    "torch/zip_copies",
    "torch/zip_list",
    "torch/legacy",
    "torch7/torch_rnn",
    "torch7/torch_rnn_ascii",
    "torch7/char_rnn",
    "foreign_safetensors/tensorflow",
    "foreign_safetensors/torch",
    "onnx/torch",
    "onnx/folded",
    "onnx/lstm",
    "onnx/stack",
    "onnx/shapes",
    "onnx/gru",
    "onnx/rnn",
    "keras_zip/lstm",
    "keras_h5/lstm",
    "keras_h5/functional",
    "keras_h5/gru_stateful",
    "keras_h5/keras_1",
    "keras_h5/textgenrnn",
    "keras_h5/weights_keras_1",
    "keras_h5/weights_keras_3",
    "keras_h5/weights_names",
};

/* What is asked for where there are weights alone. */
static const char *const *settings_of(const char *name)
{
    static const char *const window[] = {"window", "4", NULL};
    return strncmp(name, "keras_h5/weights", 16) == 0 ? window : NULL;
}

static void read_input(const char *name, struct named_bytes files[3], char **ret_content)
{
    char path[128];
    struct error error;
    size_t length = 0;
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", name);
    if (file_read(path, 1 << 20, ret_content, &length, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    files[0] = (struct named_bytes){"model", *ret_content, length};
    files[1] = (struct named_bytes){"symbols.json", symbols, sizeof symbols - 1}; /* of those that have none inside */
    files[2] = (struct named_bytes){NULL, NULL, 0};
}

static void test_other_formats_cut_off_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof whole_files / sizeof *whole_files; i++) {
        struct named_bytes files[3];
        struct import_reply reply;
        struct error error = {.message = ""};
        char *content = NULL;
        read_input(whole_files[i], files, &content);
        if (import_files(files, settings_of(whole_files[i]), false, &answer, &reply, &error) != STATUS_OK) {
            fail_msg("%s: %s", whole_files[i], error.message);
        }
        import_reply_release(&reply);
        size_t whole = files[0].length;
        bool is_sampled = !run_is_whole() && strncmp(whole_files[i], "keras_h5/", 9) == 0; /* libhdf5 clears much */
        for (size_t length = 0; length < whole; length += is_sampled ? 13 : 1) {
            char *exact = mem_copy_bytes(content, length);
            error.message[0] = '\0';
            files[0] = (struct named_bytes){"model", exact, length};
            assert_int_not_equal(import_files(files, settings_of(whole_files[i]), false, &answer, &reply, &error),
                                 STATUS_OK);
            assert_true(error.message[0] != '\0');
            mem_free(exact);
        }
        mem_free(content);
    }
}

static void test_other_formats_out_of_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof whole_files / sizeof *whole_files; i++) {
        struct named_bytes files[3];
        struct import_reply reply;
        struct error error;
        char *content = NULL;
        read_input(whole_files[i], files, &content);
        enum status status = STATUS_NO_MEMORY;
        for (uint64_t count = 0; status == STATUS_NO_MEMORY; count++) {
            mem_fail_after(count);
            status = import_files(files, settings_of(whole_files[i]), false, &answer, &reply, &error);
            mem_fail_after(UINT64_MAX);
        }
        if (status != STATUS_OK) {
            fail_msg("%s: %s", whole_files[i], error.message);
        }
        import_reply_release(&reply);
        mem_free(content);
    }
}

/* What was unpacked is not held twice: the file's own bytes are given up. */
static void test_unpacked_files_are_given_up(void **state)
{
    (void)state;
    static const char *const names[] = {"torch/zip", "keras_zip/lstm", "keras_h5/lstm", "onnx/torch"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        struct error error = {.message = ""};
        struct foreign_source source;
        struct foreign_model foreign = {.arena = {.bytes_max = 1 << 20}};
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s", names[i]);
        assert_int_equal(foreign_source_open(path, NULL, &source, &error), STATUS_OK);
        struct source_file *file = foreign_source_find(&source, source.chosen);
        assert_non_null(file);
        foreign.entry = file->name;
        if (foreign_format_of(file)->read(&source, file, &foreign, &error) != STATUS_OK) {
            fail_msg("%s: %s", names[i], error.message);
        }
        assert_null(file->content);
        assert_true(foreign.tensor_count > 0);
        foreign_model_release(&foreign);
        foreign_source_release(&source);
    }
}

/* What a reading process writes is a stranger's. */
static void test_replies(void **state)
{
    (void)state;
    struct import_reply reply;
    struct error error;
    assert_int_equal(import_files(bundle(), NULL, false, &answer, &reply, &error), STATUS_OK);
    import_reply_release(&reply);
    for (size_t length = 0; length < answer.length; length++) {
        assert_int_not_equal(import_reply_parse(answer.bytes, length, &reply, &error), STATUS_OK);
    }
    answer.bytes[0] = 'L';
    assert_int_equal(import_reply_parse(answer.bytes, answer.length, &reply, &error), STATUS_CORRUPT);
    answer.bytes[0] = 'l';
    memset(answer.bytes + 8, 0xFF, 8);
    assert_int_equal(import_reply_parse(answer.bytes, answer.length, &reply, &error), STATUS_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_forget_bias),
        cmocka_unit_test(test_which_file_is_like_another),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_looking),
        cmocka_unit_test(test_cut_off_everywhere),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_other_formats_cut_off_everywhere),
        cmocka_unit_test(test_other_formats_out_of_memory),
        cmocka_unit_test(test_unpacked_files_are_given_up),
        cmocka_unit_test(test_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

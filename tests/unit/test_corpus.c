/* Corpora and batches: what is cleaned, what is refused and with which numbers, and that windows follow each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/train/batches.h"
#include "tests/unit/text_vocabulary.h"

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/lstmd-corpus-XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory);
}

/* A file in the directory; the caller removes it with unlink. */
static const char *write_file(const char *name, const char *bytes, size_t length, char path[128])
{
    snprintf(path, 128, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    return path;
}

static struct corpus *make(const char *text, size_t length, enum vocabulary_kind kind)
{
    struct corpus_source source = {.parts = {{.text = text, .text_bytes = length}}, .kind = kind};
    struct corpus *corpus = NULL;
    struct error error;
    if (corpus_create(&source, &corpus, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return corpus;
}

static void encode(struct corpus *corpus)
{
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(corpus_make_vocabulary(corpus, NULL, &(struct vocabulary_limits){0}, &vocabulary, &error),
                     STATUS_OK);
    assert_int_equal(corpus_encode(corpus, vocabulary, &error), STATUS_OK);
    vocabulary_unref(vocabulary);
}

static void copy(const struct corpus *corpus, size_t begin, size_t count, int32_t *ids)
{
    struct error error;
    assert_int_equal(corpus_copy_symbols(corpus, begin, count, ids, &error), STATUS_OK);
}

static void test_cleaning(void **state)
{
    (void)state;
    static const char text[] = "\xef\xbb\xbf"
                               "ab\r\nc\rd\r\n";
    struct corpus *corpus = make(text, sizeof text - 1, VOCABULARY_CHARACTERS);
    struct corpus_report report = corpus_report(corpus);
    assert_int_equal(report.marks, 1);
    assert_int_equal(report.line_endings, 2);
    assert_int_equal(report.bytes, 7); /* ab\nc\rd\n */
    struct corpus *clean = make("ab\nc\rd\n", 7, VOCABULARY_CHARACTERS);
    assert_string_equal(report.sha256, corpus_report(clean).sha256);
    encode(corpus);
    int32_t ids[7];
    const int32_t wanted[] = {2, 3, 0, 4, 1, 5, 0}; /* \n \r a b c d in order of code point */
    assert_int_equal(corpus_symbol_count(corpus), 7);
    copy(corpus, 0, 7, ids);
    assert_memory_equal(ids, wanted, sizeof wanted);
    corpus_destroy(clean);
    corpus_destroy(corpus);
}

static void test_bytes_are_taken_as_they_are(void **state)
{
    (void)state;
    static const char text[] = "\xef\xbb\xbf\xff\r\n";
    struct corpus *corpus = make(text, sizeof text - 1, VOCABULARY_BYTES);
    encode(corpus);
    int32_t ids[6];
    const int32_t wanted[] = {0xef, 0xbb, 0xbf, 0xff, '\r', '\n'};
    assert_int_equal(corpus_symbol_count(corpus), 6);
    copy(corpus, 0, 6, ids);
    assert_memory_equal(ids, wanted, sizeof wanted);
    corpus_destroy(corpus);
}

/* Models from elsewhere may know some bytes only, in any order. */
static void test_some_bytes(void **state)
{
    (void)state;
    struct corpus *corpus = make("\xff\na\xff", 4, VOCABULARY_BYTES);
    struct vocabulary *vocabulary = NULL;
    struct error error;
    int32_t ids[4];
    const int32_t wanted[] = {1, 0, 2, 1};
    assert_int_equal(vocabulary_create_some_bytes((const unsigned char *)"\n\xff"
                                                                         "az",
                                                  4, &vocabulary, &error),
                     STATUS_OK);
    assert_int_equal(corpus_encode(corpus, vocabulary, &error), STATUS_OK);
    copy(corpus, 0, 4, ids);
    assert_memory_equal(ids, wanted, sizeof wanted);
    corpus_destroy(corpus);
    corpus = make("a\nz\nb", 5, VOCABULARY_BYTES);
    assert_int_equal(corpus_encode(corpus, vocabulary, &error), STATUS_INVALID);
    assert_string_equal(error.message, "corpus: the text: line 3: the model does not know the byte 0x62");
    vocabulary_unref(vocabulary);
    corpus_destroy(corpus);
}

static void refuse(const char *const *paths, size_t count, enum status status, const char *code, const char *part)
{
    struct corpus_source source = {.parts = {{.paths = paths, .path_count = count}}, .kind = VOCABULARY_CHARACTERS};
    struct corpus *corpus = NULL;
    struct error error;
    assert_int_equal(corpus_create(&source, &corpus, &error), status);
    assert_null(corpus);
    if (strstr(error.message, part) == NULL) {
        fail_msg("'%s' lacks '%s'", error.message, part);
    }
    if (code != NULL) {
        assert_string_equal(error.code, code);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    char good[128];
    char bad[128];
    char empty[128];
    write_file("good", "one\ntwo\n", 8, good);
    write_file("bad",
               "\xef\xbb\xbf"
               "a\r\nb\r\nc\xc3(\n",
               12, bad);
    write_file("empty", "", 0, empty);
    char wanted[256];
    snprintf(wanted, sizeof wanted, "%s: line 3: invalid UTF-8 at byte offset 10 (0xc3)", bad);
    refuse((const char *[]){good, bad}, 2, STATUS_INVALID, "malformed_utf8", wanted);
    snprintf(wanted, sizeof wanted, "%s: empty (0 bytes)", empty);
    refuse((const char *[]){empty}, 1, STATUS_INVALID, "empty_corpus", wanted);
    refuse((const char *[]){"/nonexistent/text"}, 1, STATUS_NOT_FOUND, NULL, "/nonexistent/text");
    refuse((const char *[]){"/dev/null"}, 1, STATUS_INVALID, NULL, "/dev/null: is no regular file");
    refuse((const char *[]){"-", good, "-"}, 3, STATUS_INVALID, NULL, "standard input ('-') can be read only once");
    unlink(good);
    unlink(bad);
    unlink(empty);
}

static void test_files_in_order_and_unknown_symbols(void **state)
{
    (void)state;
    char first[128];
    char second[128];
    write_file("first", "ab\n", 3, first);
    write_file("second", "ba\nab\nax\n", 9, second);
    const char *paths[] = {first, second};
    struct corpus_source source = {.parts = {{.paths = paths, .path_count = 2}}, .kind = VOCABULARY_CHARACTERS};
    struct corpus *corpus = NULL;
    struct error error;
    assert_int_equal(corpus_create(&source, &corpus, &error), STATUS_OK);
    struct corpus *joined = make("ab\nba\nab\nax\n", 12, VOCABULARY_CHARACTERS);
    assert_string_equal(corpus_report(corpus).sha256, corpus_report(joined).sha256);
    struct vocabulary *vocabulary = NULL;
    assert_int_equal(text_vocabulary("ab\n", 3, &vocabulary, &error), STATUS_OK);
    assert_int_equal(corpus_encode(corpus, vocabulary, &error), STATUS_INVALID);
    char wanted[256];
    snprintf(wanted, sizeof wanted, "%s: line 3", second);
    assert_non_null(strstr(error.message, wanted));
    assert_non_null(strstr(error.message, "x"));
    assert_string_equal(error.code, "unknown_symbol");
    vocabulary_unref(vocabulary);
    corpus_destroy(joined);
    corpus_destroy(corpus);
    unlink(first);
    unlink(second);
}

/* Longer than the pieces that are encoded at once, with characters of two bytes across their borders. */
static void test_long_lines(void **state)
{
    (void)state;
    enum { CHARACTERS = 200001 };
    char *text = mem_allocate(2, CHARACTERS);
    assert_non_null(text);
    size_t length = 0;
    for (size_t i = 0; i < CHARACTERS; i++) {
        uint32_t word = rng_philox(5, 0, i).word[0];
        if (word % 3 == 0) {
            text[length++] = (char)('a' + word % 7);
        } else {
            text[length++] = '\xc3';
            text[length++] = (char)(0xa0 + word % 20);
        }
    }
    struct corpus *corpus = make(text, length, VOCABULARY_CHARACTERS);
    encode(corpus);
    assert_int_equal(corpus_symbol_count(corpus), CHARACTERS);
    corpus_destroy(corpus);
    mem_free(text);
}

static struct corpus *make_parts(const char *train, const char *validation, const char *test, enum vocabulary_kind kind)
{
    struct corpus_source source = {.kind = kind};
    const char *const texts[] = {train, validation, test};
    for (int i = 0; i < CORPUS_PART_COUNT; i++) {
        source.parts[i].text = texts[i];
        source.parts[i].text_bytes = texts[i] == NULL ? 0 : strlen(texts[i]);
    }
    struct corpus *corpus = NULL;
    struct error error;
    if (corpus_create(&source, &corpus, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return corpus;
}

static void expect_ids(const struct corpus *corpus, size_t count, const int32_t *wanted)
{
    int32_t ids[64];
    assert_int_equal(corpus_symbol_count(corpus), count);
    copy(corpus, 0, count, ids);
    assert_memory_equal(ids, wanted, count * sizeof *ids);
}

/* As the Penn Treebank's files are: a space before each line and at its end, "<unk>" and "N" in the text already. */
static void test_words_of_lines(void **state)
{
    (void)state;
    struct corpus *corpus = make_parts(" aer <unk> banknote \n the <unk> N the \n\n", NULL, NULL, VOCABULARY_WORDS);
    encode(corpus);
    /* <eos> 3, <unk> 2, the 2, N, aer, banknote */
    expect_ids(corpus, 10, (const int32_t[]){4, 1, 5, 0, 2, 1, 3, 2, 0, 0});
    uint64_t characters;
    struct error error;
    struct corpus_stretch all = {0, 10};
    assert_int_equal(corpus_count_characters(corpus, all, &characters, &error), STATUS_OK);
    assert_int_equal(characters, strlen("aer <unk> banknote\nthe <unk> N the\n\n"));
    corpus_destroy(corpus);
    corpus = make_parts("a\tb\xe3\x80\x80 a", NULL, NULL, VOCABULARY_WORDS); /* the last line has an end too */
    encode(corpus);
    expect_ids(corpus, 4, (const int32_t[]){0, 2, 0, 1});
    corpus_destroy(corpus);
}

/* A file's last line ends with the file: words of two files are never one. */
static void test_words_do_not_cross_files(void **state)
{
    (void)state;
    char first[128];
    char second[128];
    write_file("first", "one tw", 6, first);
    write_file("second", "o\n", 2, second);
    struct corpus_source source = {.parts = {{.paths = (const char *[]){first, second}, .path_count = 2}},
                                   .kind = VOCABULARY_WORDS};
    struct corpus *corpus = NULL;
    struct error error;
    assert_int_equal(corpus_create(&source, &corpus, &error), STATUS_OK);
    struct corpus *joined = make("one tw\no\n", 9, VOCABULARY_WORDS);
    assert_string_equal(corpus_report(corpus).sha256, corpus_report(joined).sha256);
    assert_int_equal(corpus_symbol_count(corpus), 5);
    corpus_destroy(joined);
    corpus_destroy(corpus);
    unlink(first);
    unlink(second);
}

static void test_parts_of_their_own(void **state)
{
    (void)state;
    struct corpus *corpus = make_parts("a b a\n", "b c\n", "a\n", VOCABULARY_WORDS);
    struct corpus_split split = corpus_split(corpus, 0, 0);
    assert_int_equal(split.parts[CORPUS_TRAIN].count, 4);
    assert_int_equal(split.parts[CORPUS_VALIDATION].begin, 4);
    assert_int_equal(split.parts[CORPUS_VALIDATION].count, 3);
    assert_int_equal(split.parts[CORPUS_TEST].begin, 7);
    struct vocabulary *vocabulary = NULL;
    struct vocabulary_limits limits = {0};
    struct error error;
    assert_int_equal(corpus_make_vocabulary(corpus, NULL, &limits, &vocabulary, &error), STATUS_OK);
    assert_int_equal(vocabulary_size(vocabulary), 4); /* of the training text's words, and "<unk>" for "c" */
    assert_int_equal(corpus_encode(corpus, vocabulary, &error), STATUS_OK);
    expect_ids(corpus, 9, (const int32_t[]){0, 2, 0, 1, 2, 3, 1, 0, 1});
    struct corpus_report report = corpus_report(corpus);
    assert_int_equal(report.unknown_words, 1);
    assert_int_equal(report.unseen_words, 1);
    assert_false(report.trains_unknown);
    struct corpus *first = make_parts("a b a\n", NULL, NULL, VOCABULARY_WORDS); /* whose vocabulary has none */
    struct vocabulary *smaller = NULL;
    assert_int_equal(corpus_make_vocabulary(first, NULL, &limits, &smaller, &error), STATUS_OK);
    assert_int_equal(vocabulary_size(smaller), 3);
    corpus_destroy(first);
    corpus_destroy(corpus);
    vocabulary_unref(vocabulary);
    corpus = make_parts("a b a\n", "b c\n", "a\n", VOCABULARY_WORDS);
    assert_int_equal(corpus_encode(corpus, smaller, &error), STATUS_INVALID);
    assert_string_equal(error.message, "corpus: the text: line 1: the model does not know the word \"c\"");
    assert_int_equal(corpus_make_vocabulary(corpus, smaller, &limits, &vocabulary, &error), STATUS_OK);
    assert_int_equal(vocabulary_size(vocabulary), 4); /* extended by "<unk>" alone */
    vocabulary_unref(smaller);
    vocabulary_unref(vocabulary);
    corpus_destroy(corpus);

    corpus = make_parts("a b a\n", "b c\n", "a\n", VOCABULARY_WORDS);
    limits.min_count = 2;
    assert_int_equal(corpus_make_vocabulary(corpus, NULL, &limits, &vocabulary, &error), STATUS_OK);
    assert_int_equal(corpus_encode(corpus, vocabulary, &error), STATUS_OK);
    expect_ids(corpus, 9, (const int32_t[]){0, 2, 0, 1, 2, 2, 1, 0, 1});
    report = corpus_report(corpus);
    assert_int_equal(report.unknown_words, 2); /* "b", too */
    assert_int_equal(report.unseen_words, 1);
    assert_true(report.trains_unknown);
    vocabulary_unref(vocabulary);
    corpus_destroy(corpus);

    corpus = make_parts("ab", "bc", NULL, VOCABULARY_CHARACTERS); /* nothing stands for an unknown character */
    encode(corpus);
    expect_ids(corpus, 4, (const int32_t[]){0, 1, 1, 2});
    struct corpus *other = make_parts("abb", "c", NULL, VOCABULARY_CHARACTERS);
    assert_string_not_equal(corpus_report(corpus).sha256, corpus_report(other).sha256);
    corpus_destroy(other);
    corpus_destroy(corpus);
}

/* The flag is looked at before each piece is read, and where a whole text is counted. */
static void test_reading_is_cancelled(void **state)
{
    (void)state;
    static const char text[] = "one two\n";
    _Atomic bool is_cancelled = true;
    struct corpus_source source = {.parts = {{.text = text, .text_bytes = sizeof text - 1}},
                                   .kind = VOCABULARY_WORDS,
                                   .is_cancelled = &is_cancelled};
    struct corpus *corpus = NULL;
    struct error error;
    uint64_t count;
    assert_int_equal(corpus_create(&source, &corpus, &error), STATUS_CANCELLED);
    assert_string_equal(error.code, "stopped");
    atomic_store(&is_cancelled, false);
    assert_int_equal(corpus_create(&source, &corpus, &error), STATUS_OK);
    encode(corpus);
    struct corpus_stretch all = corpus_split(corpus, 0, 0).parts[CORPUS_TRAIN];
    assert_int_equal(corpus_count_characters(corpus, all, &count, &error), STATUS_OK);
    atomic_store(&is_cancelled, true);
    assert_int_equal(corpus_count_characters(corpus, all, &count, &error), STATUS_CANCELLED);
    corpus_destroy(corpus);
}

static void test_fractions(void **state)
{
    (void)state;
    static const char text[1000] = {0};
    struct corpus *corpus = make(text, sizeof text, VOCABULARY_BYTES);
    struct corpus_split split = corpus_split(corpus, 0.1, 0.05);
    assert_int_equal(split.parts[CORPUS_TRAIN].count, 850);
    assert_int_equal(split.parts[CORPUS_VALIDATION].begin, 850);
    assert_int_equal(split.parts[CORPUS_VALIDATION].count, 100);
    assert_int_equal(split.parts[CORPUS_TEST].begin, 950);
    assert_int_equal(split.parts[CORPUS_TEST].count, 50);
    split = corpus_split(corpus, 0, 0.3);
    assert_int_equal(split.parts[CORPUS_TRAIN].count, 700);
    assert_int_equal(split.parts[CORPUS_VALIDATION].count, 0);
    split = corpus_split(corpus, 0.25, 0);
    assert_int_equal(split.parts[CORPUS_TRAIN].count, 750);
    assert_int_equal(split.parts[CORPUS_TEST].count, 0);
    corpus_destroy(corpus);
}

/* From a file of symbols as from memory. */
static void test_more_than_memory_holds(void **state)
{
    (void)state;
    enum { CHARACTERS = 300000 };
    char *text = mem_allocate(CHARACTERS, 1);
    for (size_t i = 0; i < CHARACTERS; i++) {
        text[i] = (char)('a' + rng_philox(3, 0, i).word[0] % 26);
    }
    struct corpus *whole = make(text, CHARACTERS, VOCABULARY_CHARACTERS);
    struct corpus_source source = {.parts = {{.text = text, .text_bytes = CHARACTERS}},
                                   .kind = VOCABULARY_CHARACTERS,
                                   .directory = directory,
                                   .memory_bytes_max = 1000};
    struct corpus *corpus = NULL;
    struct error error;
    assert_int_equal(corpus_create(&source, &corpus, &error), STATUS_OK);
    encode(whole);
    encode(corpus);
    for (uint64_t i = 0; i < 200; i++) {
        int32_t ids[2][500];
        size_t begin = rng_philox(3, 1, i).word[0] % (CHARACTERS - 500);
        copy(whole, begin, 500, ids[0]);
        copy(corpus, begin, 500, ids[1]);
        assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    }
    corpus_destroy(corpus);
    corpus_destroy(whole);
    mem_free(text);
}

static void test_a_changed_file_is_named(void **state)
{
    (void)state;
    char first[128];
    char second[128];
    write_file("first", "some text\n", 10, first);
    write_file("second", "more text\r\n", 11, second);
    struct corpus_source source = {.parts = {{.paths = (const char *[]){first, second}, .path_count = 2}},
                                   .kind = VOCABULARY_CHARACTERS};
    struct corpus *corpus = NULL;
    struct error error;
    assert_int_equal(corpus_create(&source, &corpus, &error), STATUS_OK);
    struct corpus_file_report report = corpus_file_report(corpus, 1);
    assert_string_equal(report.name, second);
    assert_int_equal(report.line_endings, 1);
    assert_int_equal(corpus_file_report(corpus, 0).line_endings, 0);
    assert_int_equal(corpus_check_files(corpus, &error), STATUS_OK);
    assert_int_equal(truncate(second, 4), 0);
    assert_int_equal(corpus_check_files(corpus, &error), STATUS_IO);
    char expected[256];
    snprintf(expected, sizeof expected, "corpus: %s: changed since it was read: 11 bytes then, now 4", second);
    assert_string_equal(error.message, expected);
    assert_string_equal(error.param, second);
    corpus_destroy(corpus);
    unlink(first);
    unlink(second);
}

/* Every allocation fails once: a status each time, and nothing leaks (the sanitizers look). */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct corpus_source source = {.parts = {{.text = "two\nlines\n", .text_bytes = 10}}, .kind = VOCABULARY_WORDS};
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create(VOCABULARY_WORDS, (const char *[]){"two", "<eos>", "lines"},
                                       (const size_t[]){3, 5, 5}, 3, &vocabulary, &error),
                     STATUS_OK);
    uint64_t failing = 0;
    for (enum status status = STATUS_NO_MEMORY; status != STATUS_OK; failing++) {
        struct corpus *corpus = NULL;
        mem_fail_after(failing);
        status = corpus_create(&source, &corpus, &error);
        if (status == STATUS_OK) {
            status = corpus_encode(corpus, vocabulary, &error);
        }
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        corpus_destroy(corpus);
    }
    assert_true(failing > 5);
    vocabulary_unref(vocabulary);
}

/* Row r of window w goes on where row r of window w − 1 ended; targets are the inputs one symbol later. */
static void test_batches(void **state)
{
    (void)state;
    enum { SYMBOLS = 250, BEGIN = 10, COUNT = 237, ROWS = 4, TIME = 7 };
    char text[SYMBOLS];
    for (size_t i = 0; i < SYMBOLS; i++) {
        text[i] = (char)i;
    }
    struct corpus *corpus = make(text, SYMBOLS, VOCABULARY_BYTES);
    encode(corpus);
    struct batches batches = batches_make(corpus, (struct corpus_stretch){BEGIN, COUNT}, ROWS);
    assert_int_equal(batches.row_symbols, 59);
    for (size_t time = 0; time + TIME <= batches.row_symbols; time += TIME) {
        int32_t inputs[2 * TIME];
        int32_t targets[2 * TIME];
        struct error error;
        assert_int_equal(batches_fill(&batches, 2, 2, time, TIME, inputs, targets, &error), STATUS_OK);
        for (size_t i = 0; i < 2 * TIME; i++) {
            size_t position = BEGIN + (2 + i / TIME) * 59 + time + i % TIME;
            assert_int_equal(inputs[i], position);
            assert_int_equal(targets[i], position + 1);
        }
    }
    corpus_destroy(corpus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cleaning),
        cmocka_unit_test(test_bytes_are_taken_as_they_are),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_files_in_order_and_unknown_symbols),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_some_bytes),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_words_of_lines),
        cmocka_unit_test(test_words_do_not_cross_files),
        cmocka_unit_test(test_parts_of_their_own),
        cmocka_unit_test(test_reading_is_cancelled),
        cmocka_unit_test(test_fractions),
        cmocka_unit_test(test_more_than_memory_holds),
        cmocka_unit_test(test_a_changed_file_is_named),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

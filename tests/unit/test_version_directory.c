/* Version directories: what is written is read back; what is half there, changed or hostile is refused; a failure
 * leaves nothing behind. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/store/version_directory.h"
#include "engine/store/version_directory_files.h"

static char root[PATH_MAX / 4]; /* a directory of the test's own */

static const struct version_file two_files[] = {{"weights.safetensors", "heavy", 5}, {"vocab.json", "[]", 2}};

static int make_root(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/lstmd-test-XXXXXX", base == NULL ? "/tmp" : base);
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int remove_root(void **state)
{
    (void)state;
    return directory_remove(root, NULL) == STATUS_OK ? 0 : -1;
}

/* A path below the root, in one of a few buffers that take turns. */
static const char *at(const char *format, ...) PRINTF_LIKE(1, 2);
static const char *at(const char *format, ...)
{
    static char paths[4][PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    int length = snprintf(path, PATH_MAX, "%s/", root);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + length, PATH_MAX - (size_t)length, format, arguments);
    va_end(arguments);
    return path;
}

static void put(const char *path, const char *content)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, strlen(content), file), strlen(content));
    assert_int_equal(fclose(file), 0);
}

static size_t count_entries(const char *path)
{
    DIR *directory = opendir(path);
    assert_non_null(directory);
    size_t count = 0;
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count - 2;
}

static bool exists(const char *path)
{
    struct stat facts;
    return lstat(path, &facts) == 0;
}

/* A version of two_files in a model of its own, and the version's path, which is good until the next call. */
static const char *make_version(const char *model)
{
    static char path[PATH_MAX];
    uint64_t version = 0;
    struct error error;
    assert_int_equal(version_write(at("%s", model), two_files, 2, NULL, &version, &error), STATUS_OK);
    assert_int_equal(version, 1);
    snprintf(path, sizeof path, "%s/%s/1", root, model);
    return path;
}

static void expect_unreadable(const char *path, enum status status, const char *code, const char *param)
{
    struct version_files files = {.count = 77};
    struct error error = {.code = ""};
    assert_int_equal(version_read(path, &files, &error), status);
    assert_string_equal(error.code, code);
    assert_string_equal(error.param, param);
    assert_int_equal(files.count, 77); /* untouched */
}

static void test_sha256_of_known_texts(void **state)
{
    (void)state;
    char text[SHA256_TEXT_BYTES];
    sha256_text("", 0, text);
    assert_string_equal(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_text("abc", 3, text); /* FIPS 180-2, appendix B.1 */
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_what_is_written_is_read(void **state)
{
    (void)state;
    json_t *manifest = json_pack("{s:{s:i},s:i,s:s}", "architecture", "units", 128, "format", 99, "files", "ours wins");
    uint64_t version = 0;
    struct error error;
    for (uint64_t expected = 1; expected <= 3; expected++) {
        assert_int_equal(version_write(at("deep/er/moby"), two_files, 2, manifest, &version, &error), STATUS_OK);
        assert_int_equal(version, expected);
    }
    json_decref(manifest);
    struct version_files files;
    assert_int_equal(version_read(at("deep/er/moby/3"), &files, &error), STATUS_OK);
    assert_int_equal(files.count, 2);
    const struct version_file *weights = version_files_find(&files, "weights.safetensors");
    assert_non_null(weights);
    assert_int_equal(weights->length, 5);
    assert_memory_equal(weights->bytes, "heavy", 5);
    assert_null(version_files_find(&files, "manifest.json"));
    assert_int_equal(json_integer_value(json_object_get(files.manifest, "format")), VERSION_FORMAT);
    json_t *architecture = json_object_get(files.manifest, "architecture");
    assert_int_equal(json_integer_value(json_object_get(architecture, "units")), 128);
    version_files_release(&files);
    version_files_release(&files);
    assert_int_equal(count_entries(at("deep/er/moby")), 3); /* nothing hidden is left */
}

static void test_an_empty_version(void **state)
{
    (void)state;
    uint64_t version = 0;
    struct error error;
    struct version_files files;
    const struct version_file empty = {"empty", NULL, 0};
    assert_int_equal(version_write(at("empty"), NULL, 0, NULL, &version, &error), STATUS_OK);
    assert_int_equal(version_read(at("empty/1"), &files, &error), STATUS_OK);
    assert_int_equal(files.count, 0);
    version_files_release(&files);
    assert_int_equal(version_write(at("empty"), &empty, 1, NULL, &version, &error), STATUS_OK);
    assert_int_equal(version_read(at("empty/2"), &files, &error), STATUS_OK);
    assert_int_equal(version_files_find(&files, "empty")->length, 0);
    version_files_release(&files);
}

static void test_the_next_number_is_free(void **state)
{
    (void)state;
    uint64_t version = 0;
    struct error error;
    make_version("numbers");
    assert_int_equal(mkdir(at("numbers/41"), 0755), 0);
    put(at("numbers/42"), "a file in the way");
    assert_int_equal(mkdir(at("numbers/43"), 0755), 0);
    put(at("numbers/43/x"), "x");
    assert_int_equal(directory_remove(at("numbers/43"), &error), STATUS_OK);
    assert_int_equal(version_write(at("numbers"), two_files, 2, NULL, &version, &error), STATUS_OK);
    assert_int_equal(version, 43);
    assert_int_equal(mkdir(at("numbers/%d", VERSION_NUMBER_MAX), 0755), 0);
    assert_int_equal(version_write(at("numbers"), two_files, 2, NULL, &version, &error), STATUS_LIMIT);
    assert_int_equal(count_entries(at("numbers")), 5);
}

static void test_versions_are_listed_in_order(void **state)
{
    (void)state;
    uint64_t *versions = NULL;
    size_t count = 99;
    struct error error;
    const char *const names[] = {"10", "9", "2", "007", "0", "x1", "1x", ".3", "-4", "1000000000", "999999999", "1"};
    assert_int_equal(version_list(at("listed"), &versions, &count, &error), STATUS_NOT_FOUND);
    assert_int_equal(count, 99);
    assert_int_equal(mkdir(at("listed"), 0755), 0);
    assert_int_equal(version_list(at("listed"), &versions, &count, &error), STATUS_OK);
    assert_int_equal(count, 0);
    mem_free(versions);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(mkdir(at("listed/%s", names[i]), 0755), 0);
    }
    put(at("listed/5"), "no directory");
    assert_int_equal(version_list(at("listed"), &versions, &count, &error), STATUS_OK);
    assert_int_equal(count, 5);
    const uint64_t expected[] = {1, 2, 9, 10, 999999999};
    assert_memory_equal(versions, expected, sizeof expected);
    mem_free(versions);
    mem_fail_after(0);
    assert_int_equal(version_list(at("listed"), &versions, &count, &error), STATUS_NO_MEMORY);
}

static void test_half_a_copy_is_incomplete(void **state)
{
    (void)state;
    const char *weights = "weights.safetensors";
    expect_unreadable(at("nowhere/1"), STATUS_NOT_FOUND, "", "");
    const char *path = make_version("half");
    put(at("half/1/%s", weights), "heav");
    expect_unreadable(path, STATUS_UNPROCESSABLE, "incomplete", weights);
    put(at("half/1/%s", weights), "heavier");
    expect_unreadable(path, STATUS_UNPROCESSABLE, "incomplete", weights);
    put(at("half/1/%s", weights), "heaxy");
    expect_unreadable(path, STATUS_UNPROCESSABLE, "incomplete", weights);
    assert_int_equal(unlink(at("half/1/%s", weights)), 0);
    expect_unreadable(path, STATUS_UNPROCESSABLE, "incomplete", weights);
    put(at("half/1/manifest.json"), "{\"format\":1,\"fil");
    expect_unreadable(path, STATUS_UNPROCESSABLE, "incomplete", "manifest.json");
    put(at("half/1/manifest.json"), "");
    expect_unreadable(path, STATUS_UNPROCESSABLE, "incomplete", "manifest.json");
    assert_int_equal(unlink(at("half/1/manifest.json")), 0);
    expect_unreadable(path, STATUS_UNPROCESSABLE, "incomplete", "manifest.json");
}

static void test_bad_manifests_are_corrupt(void **state)
{
    (void)state;
#define SHA "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\""
    const struct {
        const char *text;
        const char *param;
    } cases[] = {
        {"nonsense", "manifest.json"},
        {"[]", "manifest.json"},
        {"{}", "manifest.json"},
        {"{\"format\":\"1\",\"files\":{}}", "manifest.json"},
        {"{\"format\":0,\"files\":{}}", "manifest.json"},
        {"{\"format\":1}", "manifest.json"},
        {"{\"format\":1,\"files\":[]}", "manifest.json"},
        {"{\"format\":1,\"files\":{\"a\":1}}", "a"},
        {"{\"format\":1,\"files\":{\"a\":{\"bytes\":-1,\"sha256\":" SHA "}}}", "a"},
        {"{\"format\":1,\"files\":{\"a\":{\"bytes\":1.5,\"sha256\":" SHA "}}}", "a"},
        {"{\"format\":1,\"files\":{\"a\":{\"bytes\":99999999999999,\"sha256\":" SHA "}}}", "a"},
        {"{\"format\":1,\"files\":{\"a\":{\"bytes\":1,\"sha256\":\"0123\"}}}", "a"},
        {"{\"format\":1,\"files\":{\"a\":{\"bytes\":1}}}", "a"},
        {"{\"format\":1,\"files\":{\"../a\":{\"bytes\":1,\"sha256\":" SHA "}}}", "manifest.json"},
        {"{\"format\":1,\"files\":{\"a/b\":{\"bytes\":1,\"sha256\":" SHA "}}}", "manifest.json"},
        {"{\"format\":1,\"files\":{\".a\":{\"bytes\":1,\"sha256\":" SHA "}}}", "manifest.json"},
        {"{\"format\":1,\"files\":{\"\":{\"bytes\":1,\"sha256\":" SHA "}}}", "manifest.json"},
        {"{\"format\":1,\"files\":{\"manifest.json\":{\"bytes\":1,\"sha256\":" SHA "}}}", "manifest.json"},
        {"{\"format\":1,\"files\":{\"a\\n\":{\"bytes\":1,\"sha256\":" SHA "}}}", "manifest.json"},
        {"{\"format\":1,\"files\":{\"a\":{},\"a\":{}}}", "manifest.json"},
    };
    const char *path = make_version("corrupt");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(at("corrupt/1/manifest.json"), cases[i].text);
        expect_unreadable(path, STATUS_CORRUPT, "corrupt", cases[i].param);
    }
    put(at("corrupt/1/manifest.json"), "{\"format\":2,\"files\":7}");
    expect_unreadable(path, STATUS_UNSUPPORTED, "newer_format", "manifest.json");
    char many[VERSION_FILES_MAX * 16 + 64] = "{\"format\":1,\"files\":{\"f\":0";
    size_t used = strlen(many);
    for (int i = 0; i < VERSION_FILES_MAX; i++) {
        used += (size_t)snprintf(many + used, sizeof many - used, ",\"f%d\":0", i);
    }
    snprintf(many + used, sizeof many - used, "}}");
    put(at("corrupt/1/manifest.json"), many);
    expect_unreadable(path, STATUS_CORRUPT, "corrupt", "manifest.json");
    assert_int_equal(truncate(at("corrupt/1/manifest.json"), VERSION_MANIFEST_BYTES_MAX + 1), 0);
    expect_unreadable(path, STATUS_CORRUPT, "corrupt", "manifest.json");
}

static void test_only_regular_files_are_read(void **state)
{
    (void)state;
    const char *path = make_version("links");
    assert_int_equal(rename(at("links/1/vocab.json"), at("outside.json")), 0);
    assert_int_equal(symlink(at("outside.json"), at("links/1/vocab.json")), 0);
    expect_unreadable(path, STATUS_CORRUPT, "corrupt", "vocab.json");
    assert_int_equal(unlink(at("links/1/vocab.json")), 0);
    assert_int_equal(mkfifo(at("links/1/vocab.json"), 0644), 0);
    expect_unreadable(path, STATUS_CORRUPT, "corrupt", "vocab.json"); /* and does not wait for a writer */
    assert_int_equal(unlink(at("links/1/vocab.json")), 0);
    assert_int_equal(mkdir(at("links/1/vocab.json"), 0755), 0);
    expect_unreadable(path, STATUS_CORRUPT, "corrupt", "vocab.json");
    assert_int_equal(rename(at("links/1/manifest.json"), at("outside.json")), 0);
    assert_int_equal(symlink(at("outside.json"), at("links/1/manifest.json")), 0);
    expect_unreadable(path, STATUS_CORRUPT, "corrupt", "manifest.json");
}

static void test_impossible_files_are_refused(void **state)
{
    (void)state;
    uint64_t version = 77;
    struct error error;
    char long_name[VERSION_FILE_NAME_BYTES_MAX + 2];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    const char *const names[] = {"", ".hidden", "a/b", "..", "manifest.json", "a\n", "\xFF", long_name};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct version_file file = {names[i], "x", 1};
        assert_int_equal(version_write(at("refused"), &file, 1, NULL, &version, &error), STATUS_INVALID);
    }
    const struct version_file twice[] = {{"a", "x", 1}, {"a", "y", 1}};
    assert_int_equal(version_write(at("refused"), twice, 2, NULL, &version, &error), STATUS_INVALID);
    assert_int_equal(version_write(at("refused"), twice, VERSION_FILES_MAX + 1, NULL, &version, &error), STATUS_LIMIT);
    json_t *list = json_array();
    assert_int_equal(version_write(at("refused"), twice, 1, list, &version, &error), STATUS_INVALID);
    json_decref(list);
    assert_int_equal(version, 77);
    assert_false(exists(at("refused")));
}

static void test_a_checkpoint_is_replaced_whole(void **state)
{
    (void)state;
    struct error error;
    struct version_files files;
    const struct version_file other = {"train.json", "{}", 2};
    assert_int_equal(version_replace(at("job/.training"), two_files, 2, NULL, &error), STATUS_OK);
    assert_int_equal(version_replace(at("job/.training/"), &other, 1, NULL, &error), STATUS_OK);
    assert_int_equal(version_read(at("job/.training"), &files, &error), STATUS_OK);
    assert_int_equal(files.count, 1);
    assert_non_null(version_files_find(&files, "train.json"));
    version_files_release(&files);
    assert_int_equal(count_entries(at("job")), 1);
    assert_int_equal(count_entries(at("job/.training")), 2);
    assert_int_equal(version_replace(at("job/.."), &other, 1, NULL, &error), STATUS_INVALID);
}

static void test_fingerprints_follow_changes(void **state)
{
    (void)state;
    const char *path = make_version("prints");
    uint64_t first = version_fingerprint(path);
    assert_true(first != 0);
    assert_true(version_fingerprint(path) == first);
    assert_true(version_fingerprint(at("prints/2")) == 0);
    put(at("prints/1/new"), "");
    uint64_t second = version_fingerprint(path);
    assert_true(second != first);
    put(at("prints/1/new"), "longer");
    uint64_t third = version_fingerprint(path);
    assert_true(third != second);
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, at("prints/1/new"), times, 0), 0);
    assert_true(version_fingerprint(path) != third);
    assert_int_equal(unlink(at("prints/1/new")), 0);
    assert_true(version_fingerprint(path) == first);
}

static void test_removal_takes_the_tree_and_follows_no_link(void **state)
{
    (void)state;
    struct error error;
    make_version("gone");
    put(at("kept"), "kept");
    assert_int_equal(mkdir(at("gone/1/deeper"), 0755), 0);
    put(at("gone/1/deeper/file"), "x");
    assert_int_equal(symlink(at("."), at("gone/1/deeper/link")), 0);
    assert_int_equal(directory_remove(at("gone/"), &error), STATUS_OK);
    assert_false(exists(at("gone")));
    assert_true(exists(at("kept")));
    assert_int_equal(directory_remove(at("gone"), &error), STATUS_NOT_FOUND);
    assert_int_equal(symlink(at("kept"), at("link")), 0);
    assert_int_equal(directory_remove(at("link"), &error), STATUS_OK);
    assert_true(exists(at("kept")));
    assert_int_equal(directory_remove("/", &error), STATUS_INVALID);
    assert_int_equal(directory_remove("", &error), STATUS_INVALID);
    assert_int_equal(directory_remove(at("."), &error), STATUS_INVALID);
    assert_int_equal(directory_remove(at(".."), &error), STATUS_INVALID);
}

/* Opens the directory whenever it is there, and leaves a file in it a moment later. */
static void *write_until_told(void *is_over)
{
    char busy[PATH_MAX];
    snprintf(busy, sizeof busy, "%s/busy", root);
    while (!atomic_load((_Atomic bool *)is_over)) {
        int directory = open(busy, O_RDONLY | O_DIRECTORY);
        for (int i = 0; i < 20 && directory >= 0; i++) {
            sched_yield();
        }
        int file = directory < 0 ? -1 : openat(directory, "note", O_WRONLY | O_CREAT, 0644);
        if (file >= 0) {
            close(file);
        }
        if (directory >= 0) {
            close(directory);
        }
    }
    return NULL;
}

/* A writer that opened the directory before it was renamed may write after it was emptied. */
static void test_removal_takes_what_is_written_meanwhile(void **state)
{
    (void)state;
    pthread_t writer;
    _Atomic bool is_over = false;
    struct error error;
    const char *busy = at("busy");
    assert_int_equal(pthread_create(&writer, NULL, write_until_told, &is_over), 0);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(mkdir(busy, 0755), 0);
        enum status status = directory_remove(busy, &error);
        if (status != STATUS_OK) {
            fail_msg("removal %zu: %s", i, error.message);
        }
    }
    atomic_store(&is_over, true);
    assert_int_equal(pthread_join(writer, NULL), 0);
}

static void test_small_files_are_replaced_and_read(void **state)
{
    (void)state;
    struct error error;
    char *bytes = NULL;
    size_t length = 99;
    assert_int_equal(mkdir(at("small"), 0755), 0);
    const char *path = at("small/settings.json");
    assert_int_equal(file_write_atomically(path, "old content", 11, &error), STATUS_OK);
    assert_int_equal(file_write_atomically(path, "new", 3, &error), STATUS_OK);
    assert_int_equal(count_entries(at("small")), 1);
    path = at("small/settings.json");
    assert_int_equal(file_read(path, 3, &bytes, &length, &error), STATUS_OK);
    assert_int_equal(length, 3);
    assert_string_equal(bytes, "new");
    mem_free(bytes);
    assert_int_equal(file_read(path, 2, &bytes, &length, &error), STATUS_TOO_LARGE);
    assert_int_equal(file_read(at("small/none"), 2, &bytes, &length, &error), STATUS_NOT_FOUND);
    assert_int_equal(file_read(at("small"), 2, &bytes, &length, &error), STATUS_INVALID);
    assert_int_equal(file_read("/proc/self/status", 1 << 20, &bytes, &length, &error),
                     STATUS_OK); /* grows from size 0 */
    assert_int_equal(strlen(bytes), length);
    assert_memory_equal(bytes, "Name:", 5);
    mem_free(bytes);
    assert_int_equal(file_read("/proc/self/status", 10, &bytes, &length, &error), STATUS_TOO_LARGE);
    mem_fail_after(0);
    assert_int_equal(file_read(path, 3, &bytes, &length, &error), STATUS_NO_MEMORY);
    assert_int_equal(file_write_atomically(at("none/x"), "x", 1, &error), STATUS_NOT_FOUND);
}

static void make_old(const char *path)
{
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void test_leftovers_of_a_crash_are_swept(void **state)
{
    (void)state;
    uint64_t version = 0;
    struct error error;
    make_version("swept");
    const char *const names[] = {".lstmd-old", ".lstmd-locked", ".lstmd-young", ".other"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(mkdir(at("swept/%s", names[i]), 0755), 0);
        put(at("swept/%s/file", names[i]), "x");
    }
    put(at("swept/.lstmd-file"), "x");
    make_old(at("swept/.lstmd-file"));
    make_old(at("swept/.lstmd-old"));
    make_old(at("swept/.lstmd-locked"));
    make_old(at("swept/.other"));
    DIR *locked = opendir(at("swept/.lstmd-locked"));
    assert_non_null(locked);
    assert_int_equal(flock(dirfd(locked), LOCK_EX), 0);
    assert_int_equal(version_write(at("swept"), two_files, 2, NULL, &version, &error), STATUS_OK);
    closedir(locked);
    assert_false(exists(at("swept/.lstmd-old")));
    assert_false(exists(at("swept/.lstmd-file")));
    assert_true(exists(at("swept/.lstmd-locked")));
    assert_true(exists(at("swept/.lstmd-young")));
    assert_true(exists(at("swept/.other")));
}

static void test_files_of_a_killed_writer_are_swept(void **state)
{
    (void)state;
    assert_int_equal(mkdir(at("files"), 0755), 0);
    assert_int_equal(mkdir(at("files/.lstmd-directory"), 0755), 0);
    put(at("files/.lstmd-0123456789abcdef"), "half");
    put(at("files/.other"), "x");
    put(at("files/kept"), "x");
    file_sweep(at("files"));
    file_sweep(at("missing"));
    assert_false(exists(at("files/.lstmd-0123456789abcdef")));
    assert_true(exists(at("files/.lstmd-directory")));
    assert_true(exists(at("files/.other")));
    assert_true(exists(at("files/kept")));
}

/* Every allocation in turn fails; nothing is left on disk, and a sanitizer sees whether memory was. */
static void test_running_out_of_memory(void **state)
{
    (void)state;
    uint64_t version = 0;
    struct error error;
    enum status status = STATUS_NO_MEMORY;
    uint64_t after = 0;
    for (; status == STATUS_NO_MEMORY; after++) {
        mem_fail_after(after);
        status = version_write(at("poor"), two_files, 2, NULL, &version, &error);
        mem_fail_after(UINT64_MAX);
        assert_int_equal(exists(at("poor")), status == STATUS_OK);
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(after > 1);
    make_version("poorer");
    status = STATUS_NO_MEMORY;
    for (after = 0; status == STATUS_NO_MEMORY; after++) {
        mem_fail_after(after);
        status =
            version_write(at("poorer"), two_files, 2, NULL, &version, &error); /* lists a version: allocates more */
        mem_fail_after(UINT64_MAX);
        assert_int_equal(count_entries(at("poorer")), status == STATUS_OK ? 2 : 1);
    }
    assert_int_equal(status, STATUS_OK);
    struct version_files files = {.count = 0};
    status = STATUS_NO_MEMORY;
    for (after = 0; status == STATUS_NO_MEMORY; after++) {
        mem_fail_after(after);
        status = version_read(at("poor/1"), &files, &error);
        mem_fail_after(UINT64_MAX);
    }
    assert_int_equal(status, STATUS_OK);
    version_files_release(&files);
}

static void test_a_failure_leaves_nothing_behind(void **state)
{
    (void)state;
    uint64_t version = 0;
    struct error error;
    if (geteuid() == 0) {
        put(at("file"), "in the way"); /* root may write everywhere: only this stops it */
        assert_int_equal(version_write(at("file/model"), two_files, 2, NULL, &version, &error), STATUS_IO);
        assert_int_equal(version_write(at("file"), two_files, 2, NULL, &version, &error), STATUS_IO);
        return;
    }
    assert_int_equal(mkdir(at("locked"), 0555), 0);
    assert_int_equal(version_write(at("locked"), two_files, 2, NULL, &version, &error), STATUS_IO);
    assert_int_equal(count_entries(at("locked")), 0);
}

static void test_models_are_published_whole(void **state)
{
    (void)state;
    struct error error;
    char staged[MODEL_DIRECTORY_PATH_BYTES];
    uint64_t version = 0;
    assert_int_equal(model_directory_stage(root, staged, &error), STATUS_OK);
    size_t before = count_entries(root);            /* without what it swept */
    assert_int_equal(strrchr(staged, '/')[1], '.'); /* nobody takes it for a model */
    assert_int_equal(version_write(staged, two_files, 2, NULL, &version, &error), STATUS_OK);
    assert_int_equal(model_directory_publish(staged, at("published"), &error), STATUS_OK);
    assert_int_equal(access(at("published/1/manifest.json"), F_OK), 0);
    assert_int_equal(count_entries(root), before + 1);
    for (int i = 0; i < 2; i++) { /* neither a model nor a file is replaced */
        assert_int_equal(model_directory_stage(root, staged, &error), STATUS_OK);
        assert_int_equal(version_write(staged, two_files, 2, NULL, &version, &error), STATUS_OK);
        put(at("in-the-way"), "");
        assert_int_equal(model_directory_publish(staged, at(i == 0 ? "published" : "in-the-way"), &error),
                         STATUS_CONFLICT);
        assert_string_equal(error.code, "model_exists");
        assert_int_equal(directory_remove(staged, &error), STATUS_OK);
    }
    assert_int_equal(count_entries(root), before + 2);
    assert_int_equal(model_directory_publish(at("nothing"), at("new"), &error), STATUS_NOT_FOUND);
    assert_int_equal(model_directory_stage(at("nowhere"), staged, &error), STATUS_NOT_FOUND);
}

static void test_unnamed_files(void **state)
{
    (void)state;
    size_t before = count_entries(root);
    int fd = file_open_unnamed(root);
    char content[4] = "";
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "abc", 3), 3);
    assert_int_equal(pread(fd, content, 3, 0), 3);
    assert_string_equal(content, "abc");
    assert_int_equal(count_entries(root), before);
    close(fd);
    assert_int_equal(file_open_unnamed(at("nowhere")), -1);
}

/* Files in memory are checked as those of a directory are, and written again to the byte. */
static void test_from_memory(void **state)
{
    (void)state;
    struct version_files files, taken;
    struct error error;
    uint64_t version = 0;
    assert_int_equal(version_read(make_version("remembered"), &files, &error), STATUS_OK);
    struct version_file given[] = {files.text, files.files[0], files.files[1], {"unlisted", "x", 1}};
    assert_int_equal(version_take(given, 4, &taken, &error), STATUS_OK);
    assert_int_equal(taken.count, 2);
    assert_null(version_files_find(&taken, "unlisted"));
    assert_int_equal(version_write_again(at("again"), &taken, &version, &error), STATUS_OK);
    assert_int_equal(version, 1);
    version_files_release(&taken);
    assert_int_equal(version_read(at("again/1"), &taken, &error), STATUS_OK);
    assert_int_equal(taken.text.length, files.text.length);
    assert_memory_equal(taken.text.bytes, files.text.bytes, files.text.length);
    version_files_release(&taken);

    const struct version_file damaged[] = {{given[1].name, "hEavy", given[1].length}, {given[1].name, "", 0}};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        given[1] = damaged[i];
        assert_int_equal(version_take(given, 4, &taken, &error), STATUS_CORRUPT);
        assert_string_equal(error.param, damaged[i].name);
        assert_string_equal(error.code, "corrupt");
    }
    assert_int_equal(version_take(given, 1, &taken, &error), STATUS_CORRUPT);
    assert_int_equal(version_take(given + 1, 2, &taken, &error), STATUS_CORRUPT);
    assert_string_equal(error.param, "manifest.json");
    version_files_release(&files);
}

static void test_directories_are_made_and_unmade(void **state)
{
    (void)state;
    static const char *const paths[] = {"a", "a/b/c", "a//b/c", "a/b/c///"};
    size_t made_bytes;
    struct error error;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char *path = at("%s", paths[i]);
        assert_int_equal(directory_make(path, &made_bytes, &error), STATUS_OK);
        assert_int_equal(made_bytes, strlen(root) + 2);
        assert_int_equal(access(path, F_OK), 0);
        directory_unmake(path, made_bytes);
        assert_int_equal(access(at("a"), F_OK), -1);
    }
    /* What was there stays, and so does what has got something meanwhile. */
    assert_int_equal(directory_make(at("a"), &made_bytes, &error), STATUS_OK);
    assert_int_equal(directory_make(at("a/b/c"), &made_bytes, &error), STATUS_OK);
    assert_int_equal(made_bytes, strlen(at("a/b")));
    put(at("a/b/file"), "");
    directory_unmake(at("a/b/c"), made_bytes);
    assert_int_equal(access(at("a/b/c"), F_OK), -1);
    assert_int_equal(access(at("a/b/file"), F_OK), 0);
    /* Where the last cannot be made, the first can be taken back. */
    assert_int_equal(directory_make(at("a/new/%0300d", 1), &made_bytes, &error), STATUS_IO);
    assert_int_equal(made_bytes, strlen(at("a/new")));
    directory_unmake(at("a/new/%0300d", 1), made_bytes);
    assert_int_equal(access(at("a/new"), F_OK), -1);
    assert_int_equal(directory_make(at("a/new"), &made_bytes, &error), STATUS_OK);
    assert_int_equal(directory_make(at("a/new"), &made_bytes, &error), STATUS_OK);
    assert_int_equal(made_bytes, 0);
    directory_unmake(at("a/new"), made_bytes);
    assert_int_equal(access(at("a/new"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directories_are_made_and_unmade),
        cmocka_unit_test(test_from_memory),
        cmocka_unit_test(test_sha256_of_known_texts),
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_an_empty_version),
        cmocka_unit_test(test_the_next_number_is_free),
        cmocka_unit_test(test_versions_are_listed_in_order),
        cmocka_unit_test(test_half_a_copy_is_incomplete),
        cmocka_unit_test(test_bad_manifests_are_corrupt),
        cmocka_unit_test(test_only_regular_files_are_read),
        cmocka_unit_test(test_impossible_files_are_refused),
        cmocka_unit_test(test_a_checkpoint_is_replaced_whole),
        cmocka_unit_test(test_fingerprints_follow_changes),
        cmocka_unit_test(test_removal_takes_the_tree_and_follows_no_link),
        cmocka_unit_test(test_removal_takes_what_is_written_meanwhile),
        cmocka_unit_test(test_small_files_are_replaced_and_read),
        cmocka_unit_test(test_leftovers_of_a_crash_are_swept),
        cmocka_unit_test(test_files_of_a_killed_writer_are_swept),
        cmocka_unit_test(test_running_out_of_memory),
        cmocka_unit_test(test_a_failure_leaves_nothing_behind),
        cmocka_unit_test(test_models_are_published_whole),
        cmocka_unit_test(test_unnamed_files),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}

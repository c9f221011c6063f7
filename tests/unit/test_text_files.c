/* Which files a list of paths stands for, and in which order. */
#include <sys/stat.h>
#include <unistd.h>

#include "engine/train/text_files.h"
#include "tests/unit/training_rig.h"

static int make_directory(void **state)
{
    (void)state;
    return !make_temporary("lstmd-files");
}

static const char *path_of(const char *name)
{
    static char paths[8][256];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static void make_file(const char *name)
{
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
}

/* `expected`: names below the directory, with spaces between them. */
static void expect_files(const char *const *paths, size_t count, const char *expected)
{
    struct text_files files;
    struct error error;
    char text[1024] = "";
    assert_ok(text_files_list(paths, count, &files, &error), error);
    for (size_t i = 0; i < files.count; i++) {
        size_t used = strlen(text);
        const char *path = files.paths[i];
        bool is_below = strncmp(path, directory, strlen(directory)) == 0;
        snprintf(text + used, sizeof text - used, "%s%s", i == 0 ? "" : " ",
                 is_below ? path + strlen(directory) + 1 : path);
    }
    assert_string_equal(text, expected);
    text_files_release(&files);
}

static void test_directories_are_walked_in_order(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path_of("b"), 0700), 0);
    assert_int_equal(mkdir(path_of("b/.git"), 0700), 0);
    assert_int_equal(mkdir(path_of("b/deep"), 0700), 0);
    make_file("c.txt");
    make_file("a.txt");
    make_file(".hidden");
    make_file("b/.git/config");
    make_file("b/deep/z");
    make_file("b/10");
    make_file("b/2");
    assert_int_equal(symlink("/etc/passwd", path_of("b/link")), 0);
    expect_files((const char *[]){directory}, 1, "a.txt b/10 b/2 b/deep/z c.txt");
    expect_files((const char *[]){path_of("c.txt"), "-", path_of("b/"), path_of("a.txt")}, 4,
                 "c.txt - b/10 b/2 b/deep/z a.txt");
    expect_files((const char *[]){path_of("b/link"), "missing"}, 2, "b/link missing"); /* named: as it is */
    expect_files(NULL, 0, "");
}

static void test_refusals(void **state)
{
    (void)state;
    struct text_files files;
    struct error error;
    assert_int_equal(mkdir(path_of("empty"), 0700), 0);
    assert_int_equal(text_files_list((const char *[]){path_of("empty")}, 1, &files, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "no files are in this directory"));
    assert_string_equal(error.param, path_of("empty"));
    assert_int_equal(text_files_list((const char *[]){"-", "-"}, 2, &files, &error), STATUS_INVALID);
    assert_string_equal(error.message, "standard input ('-') can be read only once");
    char path[1024];
    snprintf(path, sizeof path, "%s", path_of("empty"));
    for (int depth = 0; depth <= TEXT_FILES_DEPTH_MAX; depth++) {
        snprintf(path + strlen(path), sizeof path - strlen(path), "/d");
        assert_int_equal(mkdir(path, 0700), 0);
    }
    assert_int_equal(text_files_list((const char *[]){path_of("empty")}, 1, &files, &error), STATUS_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directories_are_walked_in_order),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

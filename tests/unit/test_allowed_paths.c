/* Paths of requests: below the roots or not, with links, dots and names that are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/allowed_paths.h"
#include "engine/store/version_directory.h"

static char folder[PATH_MAX / 4]; /* a directory of the test's own, without links */

static int make_folder(void **state)
{
    (void)state;
    char made[] = "/tmp/lstmd-test-XXXXXX";
    char path[PATH_MAX];
    if (mkdtemp(made) == NULL || realpath(made, path) == NULL) {
        return -1;
    }
    snprintf(folder, sizeof folder, "%.1000s", path);
    const char *const folders[] = {"in", "in/below", "out", "in-between"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        if (mkdir(path, 0777) != 0) {
            return -1;
        }
    }
    return chdir(folder) != 0 || symlink("../out", "in/way-out") != 0 || symlink("../in", "out/way-in") != 0 ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return chdir("/") != 0 || directory_remove(folder, NULL) != STATUS_OK ? -1 : 0;
}

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        const char *given;
        const char *found; /* NULL: refused */
    } rows[] = {
        {"in", "in"},
        {"in/below", "in/below"},
        {"in/./below/..", "in"},
        {"in/prefix", "in/prefix"},
        {"in/below/../prefix", "in/prefix"},
        {"out/way-in/below", "in/below"},
        {"out/way-in/prefix", "in/prefix"},
        {"out", NULL},
        {"in-between", NULL},
        {"in/..", NULL},
        {"in/../out", NULL},
        {"in/../prefix", NULL},
        {"in/way-out", NULL},
        {"in/way-out/prefix", NULL},
        {"in/nowhere/prefix", NULL},
        {"in/nowhere/..", NULL},
        {"in/nowhere/", NULL},
        {"", NULL},
    };
    char roots[PATH_MAX];
    snprintf(roots, sizeof roots, "/nowhere %s/in", folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char given[PATH_MAX];
        char wanted[PATH_MAX];
        char found[PATH_MAX] = "";
        snprintf(given, sizeof given, "%s/%s", folder, rows[i].given);
        assert_int_equal(path_find_allowed(roots, given, found), rows[i].found != NULL);
        if (rows[i].found != NULL) {
            snprintf(wanted, sizeof wanted, "%s/%s", folder, rows[i].found);
            assert_string_equal(found, wanted);
        }
        assert_false(path_find_allowed("", given, found));
        assert_false(path_find_allowed(roots, rows[i].given, found)); /* not absolute */
    }
}

static void test_the_root_as_a_root(void **state)
{
    (void)state;
    char found[PATH_MAX];
    assert_true(path_find_allowed("/", "/", found));
    assert_string_equal(found, "/");
    assert_true(path_find_allowed("/", "/no-such-name-anywhere", found));
    assert_string_equal(found, "/no-such-name-anywhere");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_the_root_as_a_root),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* Replacing a directory, where names can be exchanged and where they cannot: whenever the process is killed, a whole
 * one is found, and the next one goes on from there. The calls that change the file system are this file's own, so that
 * they can refuse a rename's flags, as NFS does, and kill the process before any of them. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/store/version_directory.h"

static char root[PATH_MAX / 4]; /* a directory of the test's own */
static char place[PATH_MAX];    /* what is replaced */
static int refusal;             /* what renames with flags fail with; 0: they do not */
static long calls_left = -1;    /* until the process is killed; −1: never */

/* ---- the file system's calls ---- */

static void count_call(void)
{
    if (calls_left == 0) {
        raise(SIGKILL);
    }
    calls_left -= calls_left > 0;
}

int renameat2(int oldfd, const char *old, int newfd, const char *new, unsigned flags)
{
    count_call();
    if (flags != 0 && refusal != 0) {
        errno = refusal;
        return -1;
    }
    return (int)syscall(SYS_renameat2, oldfd, old, newfd, new, flags);
}

int renameat(int oldfd, const char *old, int newfd, const char *new)
{
    count_call();
    return (int)syscall(SYS_renameat2, oldfd, old, newfd, new, 0);
}

int unlinkat(int fd, const char *name, int flag)
{
    count_call();
    return (int)syscall(SYS_unlinkat, fd, name, flag);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
    count_call();
    return (int)syscall(SYS_mkdirat, fd, path, mode);
}

int fsync(int fd)
{
    (void)fd;
    count_call();
    return 0; /* only processes are killed here */
}

/* ---- */

static int make_root(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/lstmd-test-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(root) == NULL) {
        return -1;
    }
    snprintf(place, sizeof place, "%s/model/.training", root);
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    refusal = 0;
    return directory_remove(root, NULL) == STATUS_OK ? 0 : -1;
}

/* Two files of one content each, as a checkpoint has several that belong together. */
static enum status replace(const char *content, struct error *error)
{
    const struct version_file files[] = {{"state.json", content, strlen(content)},
                                         {"train.json", content, strlen(content)}};
    return version_replace(place, files, 2, NULL, error);
}

static void put(const char *content)
{
    struct error error;
    if (replace(content, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
}

/* What is read; both files are of it. */
static void read_content(char content[16])
{
    struct version_files files;
    struct error error;
    char found[MODEL_DIRECTORY_PATH_BYTES];
    assert_true(version_find(place, found));
    if (version_read(place, &files, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(files.count, 2);
    assert_int_equal(files.files[0].length, files.files[1].length);
    assert_memory_equal(files.files[0].bytes, files.files[1].bytes, files.files[0].length);
    snprintf(content, 16, "%.*s", (int)files.files[0].length, (const char *)files.files[0].bytes);
    version_files_release(&files);
}

static void expect(const char *expected)
{
    char content[16];
    read_content(content);
    assert_string_equal(content, expected);
}

/* Names in the model directory that nobody sweeps. */
static size_t count_entries(void)
{
    char model[PATH_MAX];
    size_t count = 0;
    snprintf(model, sizeof model, "%s/model", root);
    DIR *directory = opendir(model);
    assert_non_null(directory);
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        bool is_swept = strncmp(entry->d_name, ".lstmd-", 7) == 0;
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && !is_swept;
    }
    closedir(directory);
    return count;
}

/* Whether a process that is killed before its `calls`th call was done before. */
static bool replace_and_die(const char *content, long calls)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct error error;
        calls_left = calls;
        _exit(replace(content, &error) == STATUS_OK ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
    return WIFEXITED(status);
}

/* What renames with flags fail with, from file system to file system. */
static const int refusals[] = {0, EINVAL, ENOSYS, EOPNOTSUPP};

static void test_one_after_another(void **state)
{
    (void)state;
    struct error error;
    char found[MODEL_DIRECTORY_PATH_BYTES];
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        refusal = refusals[i];
        put("first");
        expect("first");
        put("second");
        put("third");
        expect("third");
        assert_int_equal(count_entries(), 1);
        assert_int_equal(version_remove(place, &error), STATUS_OK);
        assert_false(version_find(place, found));
        assert_int_equal(version_remove(place, &error), STATUS_NOT_FOUND);
        assert_int_equal(count_entries(), 0);
    }
}

/* Killed before each call in turn, of a process that finds one in place, then of one that finds what that left. */
static void test_killed_at_any_moment(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) { /* with flags, and without */
        bool is_done = false;
        size_t kept = 0;
        refusal = refusals[i];
        for (long calls = 0; !is_done; calls++) {
            char content[16];
            put("old");
            is_done = replace_and_die("new", calls);
            read_content(content);
            assert_true(strcmp(content, "old") == 0 || strcmp(content, "new") == 0);
            assert_true(!is_done || strcmp(content, "new") == 0);
            kept += strcmp(content, "old") == 0;
            for (long again = 0; !replace_and_die("newer", again); again++) {
                char before[16];
                snprintf(before, sizeof before, "%s", content);
                read_content(content);
                assert_true(strcmp(content, before) == 0 || strcmp(content, "newer") == 0);
            }
            expect("newer");
            put("newest");
            expect("newest");
            assert_int_equal(count_entries(), 1);
        }
        assert_true(kept > 3);
    }
}

/* The old one is aside, the new one not yet in place: the last moment of the old one. */
static void test_found_aside(void **state)
{
    (void)state;
    char aside[PATH_MAX];
    char found[MODEL_DIRECTORY_PATH_BYTES];
    struct error error;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        refusal = refusals[i];
        put("old");
        snprintf(aside, sizeof aside, "%s/model/.before-.training", root);
        assert_int_equal(rename(place, aside), 0);
        assert_true(version_find(place, found));
        assert_string_equal(found, aside);
        expect("old");
        put("new");
        expect("new");
        assert_int_equal(count_entries(), 1);
        assert_int_equal(rename(place, aside), 0);
        put("newer");
        assert_int_equal(version_remove(place, &error), STATUS_OK);
        assert_false(version_find(place, found));
    }
}

/* Versions, too, are renamed without replacing where flags are not known. */
static void test_new_versions_without_flags(void **state)
{
    (void)state;
    const struct version_file file = {"a", "x", 1};
    char model[PATH_MAX];
    snprintf(model, sizeof model, "%s/versions", root);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        uint64_t version = 0;
        struct error error;
        refusal = refusals[i];
        assert_int_equal(version_write(model, &file, 1, NULL, &version, &error), STATUS_OK);
        assert_int_equal(version, i + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_after_another),
        cmocka_unit_test(test_killed_at_any_moment),
        cmocka_unit_test(test_found_aside),
        cmocka_unit_test(test_new_versions_without_flags),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}

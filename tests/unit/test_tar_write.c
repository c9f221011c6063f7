/* Files as a tar: read back by libarchive as they were, sorted, and the same bytes whenever they are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/export/tar_write.h"

enum { NAME_BYTES = VERSION_FILE_NAME_BYTES_MAX, LARGE_BYTES = 100000 };

static char long_name[NAME_BYTES + 1];
static char large[LARGE_BYTES];

static void write_tar(void **ret_bytes, size_t *ret_length)
{
    struct version_file files[] = {
        {"weights", large, sizeof large}, {long_name, "long", 4}, {"empty", "", 0}, {"block", large, 512}};
    struct error error;
    assert_int_equal(tar_write(files, sizeof files / sizeof *files, ret_bytes, ret_length, &error), STATUS_OK);
}

static void check_entry(struct archive *reader, const char *name, const char *content, size_t length)
{
    static char read_back[LARGE_BYTES + 1];
    struct archive_entry *entry;
    assert_int_equal(archive_read_next_header(reader, &entry), ARCHIVE_OK);
    assert_string_equal(archive_entry_pathname(entry), name);
    assert_int_equal(archive_entry_filetype(entry), AE_IFREG);
    assert_int_equal(archive_entry_perm(entry), 0644);
    assert_int_equal(archive_entry_mtime(entry), 0);
    assert_int_equal(archive_entry_uid(entry), 0);
    assert_int_equal(archive_entry_gid(entry), 0);
    assert_int_equal(archive_read_data(reader, read_back, sizeof read_back), length);
    assert_memory_equal(read_back, content, length);
}

static void test_round_trip(void **state)
{
    (void)state;
    void *bytes[2];
    size_t length[2];
    memset(long_name, 'n', NAME_BYTES);
    memset(large, 'x', sizeof large);
    write_tar(&bytes[0], &length[0]);
    write_tar(&bytes[1], &length[1]);
    assert_int_equal(length[0], length[1]);
    assert_memory_equal(bytes[0], bytes[1], length[0]);
    struct archive *reader = archive_read_new();
    struct archive_entry *entry;
    assert_int_equal(archive_read_support_format_tar(reader), ARCHIVE_OK);
    assert_int_equal(archive_read_open_memory(reader, bytes[0], length[0]), ARCHIVE_OK);
    check_entry(reader, "block", large, 512);
    check_entry(reader, "empty", "", 0);
    check_entry(reader, long_name, "long", 4);
    check_entry(reader, "weights", large, sizeof large);
    assert_int_equal(archive_read_next_header(reader, &entry), ARCHIVE_EOF);
    archive_read_free(reader);
    mem_free(bytes[0]);
    mem_free(bytes[1]);
}

static void test_no_files_and_no_memory(void **state)
{
    (void)state;
    struct version_file file = {"a", "b", 1};
    struct error error;
    void *bytes;
    size_t length;
    assert_int_equal(tar_write(NULL, 0, &bytes, &length, &error), STATUS_OK);
    assert_true(length >= 1024);
    mem_free(bytes);
    mem_fail_after(0);
    enum status status = tar_write(&file, 1, &bytes, &length, &error);
    mem_fail_after(UINT64_MAX);
    assert_int_equal(status, STATUS_NO_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_no_files_and_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Archives as sources: every kind unpacks to the same files, what is no harmless file is refused by name, and neither a
 * bomb nor a cut-off archive gets anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/import/foreign_archive.h"

enum { ARCHIVE_BYTES_MAX = 1 << 20, UNPACK_BYTES_MAX = 1 << 20 };

/* One thing to put into an archive. */
struct item {
    const char *path;
    const char *content;
    size_t length;
    mode_t type;      /* 0: a file */
    const char *link; /* of a link */
};

static char made[ARCHIVE_BYTES_MAX];

static size_t make(int format, int filter, const struct item *items, size_t count)
{
    struct archive *writer = archive_write_new();
    size_t length = 0;
    assert_int_equal(archive_write_set_format(writer, format), ARCHIVE_OK);
    assert_int_equal(archive_write_add_filter(writer, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(writer, made, sizeof made, &length), ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, items[i].path);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_filetype(entry, items[i].type == 0 ? AE_IFREG : items[i].type);
        archive_entry_set_size(entry, (la_int64_t)items[i].length);
        if (items[i].link != NULL && items[i].type == AE_IFLNK) {
            archive_entry_set_symlink(entry, items[i].link);
        } else if (items[i].link != NULL) {
            archive_entry_set_hardlink(entry, items[i].link);
        }
        assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
        assert_int_equal(archive_write_data(writer, items[i].content, items[i].length), items[i].length);
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(writer), ARCHIVE_OK);
    archive_write_free(writer);
    return length;
}

/* Unpacks bytes, which have to be taken for an archive. Release `source` in any case. */
static enum status unpack(const void *bytes, size_t length, struct foreign_source *source, struct error *error)
{
    *source = (struct foreign_source){.label = "memory", .chosen = "upload", .unpack_bytes_max = UNPACK_BYTES_MAX};
    assert_int_equal(foreign_source_add(source, "upload", bytes, length, error), STATUS_OK);
    assert_true(foreign_archive_recognise(&source->files[0]));
    return foreign_archive_unpack(source, &source->files[0], error);
}

static void assert_file(struct foreign_source *source, const char *name, const char *content, size_t length)
{
    const unsigned char *bytes;
    size_t there;
    struct error error;
    struct source_file *file = foreign_source_find(source, name);
    assert_non_null(file);
    assert_int_equal(foreign_source_read(source, file, &bytes, &there, &error), STATUS_OK);
    assert_int_equal(there, length);
    assert_memory_equal(bytes, content, length);
}

static void assert_refused(enum status expected, const char *message, const struct item *items, size_t count)
{
    struct foreign_source source;
    struct error error = {.message = ""};
    size_t length = make(ARCHIVE_FORMAT_TAR, ARCHIVE_FILTER_NONE, items, count);
    assert_int_equal(unpack(made, length, &source, &error), expected);
    assert_string_equal(error.message, message);
    foreign_source_release(&source);
}

/* ---- what is taken ---- */

static const struct item three[] = {
    {.path = "folder", .type = AE_IFDIR},
    {.path = "folder/b", .content = "bee", .length = 3},
    {.path = "folder/a/a", .content = "an a", .length = 4},
    {.path = "folder/empty", .content = "", .length = 0},
    {.path = "folder/.hidden", .content = "x", .length = 1},
};

static void test_kinds_of_archives(void **state)
{
    (void)state;
    static const struct {
        int format;
        int filter;
    } kinds[] = {
        {ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE},  {ARCHIVE_FORMAT_TAR_GNUTAR, ARCHIVE_FILTER_NONE},
        {ARCHIVE_FORMAT_TAR, ARCHIVE_FILTER_NONE},        {ARCHIVE_FORMAT_ZIP, ARCHIVE_FILTER_NONE},
        {ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_GZIP},  {ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_XZ},
        {ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_BZIP2}, {ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_ZSTD},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct foreign_source source;
        struct error error;
        size_t length = make(kinds[i].format, kinds[i].filter, three, sizeof three / sizeof *three);
        assert_int_equal(unpack(made, length, &source, &error), STATUS_OK);
        assert_int_equal(source.count, 3);
        assert_string_equal(source.files[0].name, "a/a");
        assert_string_equal(source.chosen, "");
        assert_file(&source, "a/a", "an a", 4);
        assert_file(&source, "b", "bee", 3);
        assert_file(&source, "empty", "", 0);
        foreign_source_release(&source);
    }
}

static void test_what_is_no_archive(void **state)
{
    (void)state;
    static const char *const others[] = {"", "{\"import\":{}}", "PK", "lstmdimp", "BZ"};
    char zeroes[SOURCE_HEAD_BYTES] = "";
    struct foreign_source source = {.label = "memory"};
    struct error error;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(foreign_source_add(&source, "x", others[i], strlen(others[i]), &error), STATUS_OK);
        assert_false(foreign_archive_recognise(&source.files[i]));
    }
    assert_int_equal(foreign_source_add(&source, "zeroes", zeroes, sizeof zeroes, &error), STATUS_OK);
    assert_false(foreign_archive_recognise(&source.files[source.count - 1]));
    foreign_source_release(&source);
}

/* ---- what is refused ---- */

static void test_paths_that_lead_elsewhere(void **state)
{
    (void)state;
    static const char *const paths[] = {"/etc/passwd", "../x", "a/../../x", "a/..", ".//../x", ".."};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char message[128];
        const struct item item = {.path = paths[i], .content = "x", .length = 1};
        snprintf(message, sizeof message, "upload: the path '%s' in it leads elsewhere", paths[i]);
        assert_refused(STATUS_UNPROCESSABLE, message, &item, 1);
    }
}

static void test_what_is_no_file(void **state)
{
    (void)state;
    static const struct {
        struct item item;
        const char *message;
    } rows[] = {
        {{.path = "l", .type = AE_IFLNK, .link = "/etc/passwd"}, "upload: 'l' in it is a symbolic link"},
        {{.path = "h", .link = "b"}, "upload: 'h' in it is a link"},
        {{.path = "f", .type = AE_IFIFO}, "upload: 'f' in it is no file"},
        {{.path = "d", .type = AE_IFCHR}, "upload: 'd' in it is no file"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_refused(STATUS_UNPROCESSABLE, rows[i].message, &rows[i].item, 1);
    }
    assert_refused(STATUS_UNPROCESSABLE, "upload: no files are in it", three, 1);
    const struct item twins[] = {{.path = "a", .content = "1", .length = 1},
                                 {.path = "./a", .content = "2", .length = 1}};
    assert_refused(STATUS_UNPROCESSABLE, "upload: two files in it are named 'a'", twins, 2);
}

static void test_more_than_may_be(void **state)
{
    (void)state;
    struct foreign_source source;
    struct error error;
    struct item items[SOURCE_FILES_MAX];
    char names[SOURCE_FILES_MAX][8];
    size_t bomb_bytes = (size_t)UNPACK_BYTES_MAX + 1;
    char *zeroes = mem_allocate(bomb_bytes, 1);
    assert_non_null(zeroes);
    const struct item bomb = {.path = "bomb", .content = zeroes, .length = bomb_bytes};
    const struct item halves[] = {{.path = "a", .content = zeroes, .length = bomb_bytes / 2},
                                  {.path = "b", .content = zeroes, .length = bomb_bytes - bomb_bytes / 2}};
    for (int format = 0; format < 2; format++) {
        int kind = format == 0 ? ARCHIVE_FORMAT_TAR : ARCHIVE_FORMAT_ZIP;
        for (int parts = 1; parts <= 2; parts++) {
            size_t length = make(kind, format == 0 ? ARCHIVE_FILTER_GZIP : ARCHIVE_FILTER_NONE,
                                 parts == 1 ? &bomb : halves, (size_t)parts);
            assert_true(length < 8192);
            assert_int_equal(unpack(made, length, &source, &error), STATUS_TOO_LARGE);
            assert_string_equal(error.message, "upload: unpacks to more than 1048576 bytes");
            foreign_source_release(&source);
        }
    }
    mem_free(zeroes);
    for (size_t i = 0; i < SOURCE_FILES_MAX; i++) {
        snprintf(names[i], sizeof names[i], "%zu", i);
        items[i] = (struct item){.path = names[i], .content = "", .length = 0};
    }
    assert_refused(STATUS_LIMIT, "memory: more than 512 files", items, SOURCE_FILES_MAX);
}

/* A zip that states other sizes than it has, in its directory or before the file: refused, or only what is there. */
static void test_sizes_that_lie(void **state)
{
    (void)state;
    static const char *const sizes[] = {"\xff\xff\xff\x7f", "\xff\xff\xff\xff", "\x05\0\0\0", "\0\0\0\0"};
    static const struct {
        const char *mark;
        size_t offset; /* of the size behind it */
    } places[] = {{"PK\x01\x02", 24}, {"PK\x01\x02", 20}, {"PK\x03\x04", 22}, {"PK\x03\x04", 18}};
    const struct item item = {.path = "a", .content = "content of no length to speak of", .length = 32};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes * sizeof places / sizeof *places; i++) {
        struct foreign_source source;
        struct error error = {.message = ""};
        size_t length = make(ARCHIVE_FORMAT_ZIP, ARCHIVE_FILTER_NONE, &item, 1);
        char *place = memmem(made, length, places[i % 4].mark, 4);
        assert_non_null(place);
        memcpy(place + places[i % 4].offset, sizes[i / 4], 4);
        enum status status = unpack(made, length, &source, &error);
        assert_true(status == STATUS_OK || status == STATUS_TOO_LARGE || status == STATUS_CORRUPT);
        assert_true(status != STATUS_OK || source.files[0].bytes <= item.length);
        foreign_source_release(&source);
    }
}

/* Whatever is cut off is refused; of a tar, which says nowhere how long it is, what is there may be taken for all. */
static void test_cut_off_at_every_byte(void **state)
{
    (void)state;
    static const int kinds[][2] = {{ARCHIVE_FORMAT_TAR, ARCHIVE_FILTER_NONE},
                                   {ARCHIVE_FORMAT_ZIP, ARCHIVE_FILTER_NONE},
                                   {ARCHIVE_FORMAT_TAR, ARCHIVE_FILTER_GZIP}};
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        size_t whole = make(kinds[kind][0], kinds[kind][1], three, sizeof three / sizeof *three);
        size_t refused = 0;
        for (size_t length = kind == 0 ? SOURCE_HEAD_BYTES : 4; length < whole; length++) {
            struct foreign_source source;
            struct error error = {.message = ""};
            char *bytes = mem_copy_bytes(made, length);
            assert_non_null(bytes);
            bool is_refused = unpack(bytes, length, &source, &error) != STATUS_OK;
            assert_true(is_refused == (error.message[0] != '\0'));
            assert_true(is_refused || kind == 0);
            refused += is_refused;
            foreign_source_release(&source);
            mem_free(bytes);
        }
        assert_true(refused > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_of_archives),         cmocka_unit_test(test_what_is_no_archive),
        cmocka_unit_test(test_paths_that_lead_elsewhere), cmocka_unit_test(test_what_is_no_file),
        cmocka_unit_test(test_more_than_may_be),          cmocka_unit_test(test_sizes_that_lie),
        cmocka_unit_test(test_cut_off_at_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

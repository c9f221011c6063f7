/* lstmd import-reader: the process that reads a foreign model for `lstmd import`, `lstmd inspect` and the daemon, shut
 * in before it looks at the first byte. Thread: main, the only one. What it writes to standard output is described in
 * engine/import/importer.h; the exit status is 0 when that is complete, whatever it says. */
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/commands.h"
#include "daemon/import_process.h"
#include "daemon/sandbox.h"
#include "engine/engine.h"

static const struct option_row ROWS[] = {
    {"seconds", OPTION_COUNT, "N", "120", "may run for so long"},
    {"unpack-bytes", OPTION_COUNT, "N", "1073741824", "an archive may unpack to so much"},
    {"upload", OPTION_FLAG, NULL, NULL, "SOURCE is what standard input is called"},
    {"look", OPTION_FLAG, NULL, NULL, "only says what is there"},
    {"vocabulary", OPTION_TEXT, "FILE", NULL, "the symbols"},
    {"set", OPTION_LIST, "KEY=VALUE", NULL, "decides what is ambiguous"},
};

static bool write_all(void *context, const void *bytes, size_t length)
{
    (void)context;
    const char *at = bytes;
    while (length > 0) {
        ssize_t count = write(STDOUT_FILENO, at, length);
        if (count < 0) {
            return false;
        }
        at += count;
        length -= (size_t)count;
    }
    return true;
}

/* Opens the source while that is possible, then gives up all rights. */
static enum status enter(const struct options *options, struct foreign_source *source, struct error *error)
{
    syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0); /* what a daemon may have left open */
    json_object_seed(0);                                 /* jansson takes its random numbers from a file */
    setenv("TZ", "UTC0", 1);                             /* libzip asks for local time, which stands in a file, */
    tzset();                                             /* read once */
    import_prepare();
    TRY(options_is_given(options, "upload")
            ? foreign_source_open_upload(STDIN_FILENO, options->positional[0], source, error)
            : foreign_source_open(options->positional[0], options_text(options, "vocabulary"), source, error));
    source->unpack_bytes_max = options_count(options, "unpack-bytes");
    uint64_t seconds = options_count(options, "seconds");
    const struct sandbox_limits limits = {
        .memory_bytes = ((uint64_t)IMPORT_MEMORY_MIB << 20) + 3 * import_bytes_max(source),
        .cpu_seconds = seconds,
        .elapsed_seconds = seconds,
    };
    return sandbox_enter(&limits, error);
}

int command_import_reader(int argc, char **argv)
{
    struct options options;
    struct import_settings settings = {.count = 0};
    struct foreign_source source = {.label = NULL};
    const struct import_sink sink = {.write = write_all};
    struct error error;
    int exit_status;
    if (!command_parse(&options, ROWS, sizeof ROWS / sizeof ROWS[0], "[OPTION]… SOURCE", 1, 1, argc, argv,
                       &exit_status)) {
        return exit_status;
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && options_list(&options, "set", i) != NULL; i++) {
        status = import_split_setting((char *)(uintptr_t)options_list(&options, "set", i), &settings, &error);
    }
    if (status == STATUS_OK) {
        status = enter(&options, &source, &error);
    }
    if (status == STATUS_OK) {
        status = import_write(&source, &settings, options_is_given(&options, "look"), &sink, &error);
        _exit(status == STATUS_OK ? EXIT_DONE : EXIT_FAILED); /* what runs at exit may need more rights */
    }
    status = import_write_failure(&error, &sink);
    foreign_source_release(&source);
    return status == STATUS_OK ? EXIT_DONE : EXIT_FAILED;
}

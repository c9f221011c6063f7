/* Starting the reading process, and hearing it out. Thread: main of a command, or a run thread. Owns the process and
 * the pipe from its standard output. */
#include "daemon/import_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum { ARGUMENTS_MAX = 8 + 2 * IMPORT_SETTINGS_MAX };

struct reading {
    pid_t process;
    int descriptor; /* what it writes, or −1 */
    uint64_t end_ns;
    unsigned char *bytes;
    size_t length;
    size_t capacity;
};

enum status import_split_setting(char *text, struct import_settings *settings, struct error *error)
{
    char *equals = strchr(text, '=');
    if (equals == NULL) {
        return error_set(error, STATUS_INVALID, "--set %.100s: must be KEY=VALUE", text);
    }
    *equals = '\0';
    return import_settings_add(settings, text, equals + 1, error);
}

enum status import_request_read(const struct options *options, struct import_request *ret_request, struct error *error)
{
    struct import_request request = {.source = options->positional[0],
                                     .vocabulary = options_text(options, "vocabulary")};
    const char *setting;
    while ((setting = options_list(options, "set", request.setting_count)) != NULL) {
        if (request.setting_count + 1 >= IMPORT_SETTINGS_MAX || strchr(setting, '=') == NULL) {
            return error_set(error, STATUS_INVALID, "--set %.100s: must be KEY=VALUE, at most %d of them", setting,
                             IMPORT_SETTINGS_MAX - 1);
        }
        request.settings[request.setting_count++] = setting;
    }
    *ret_request = request;
    return STATUS_OK;
}

/* ---- starting ---- */

static void make_arguments(const struct import_request *request, const char *arguments[ARGUMENTS_MAX])
{
    size_t count = 0;
    arguments[count++] = "lstmd";
    arguments[count++] = "import-reader";
    if (request->looks_only) {
        arguments[count++] = "--look";
    }
    if (request->vocabulary != NULL) {
        arguments[count++] = "--vocabulary";
        arguments[count++] = request->vocabulary;
    }
    for (size_t i = 0; i < request->setting_count; i++) {
        arguments[count++] = "--set";
        arguments[count++] = request->settings[i];
    }
    arguments[count++] = "--";
    arguments[count++] = request->source;
    arguments[count] = NULL;
}

static enum status start(const struct import_request *request, struct reading *reading, struct error *error)
{
    const char *arguments[ARGUMENTS_MAX];
    int ends[2];
    posix_spawn_file_actions_t actions;
    make_arguments(request, arguments);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return error_set_errno(error, errno, "no pipe for importing");
    }
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed == 0) {
        failed = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        failed = failed != 0 ? failed : posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        failed = failed != 0 ? failed
                             : posix_spawn(&reading->process, "/proc/self/exe", &actions, NULL,
                                           (char *const *)(uintptr_t)arguments, environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    close(ends[1]);
    reading->descriptor = ends[0];
    if (failed != 0) {
        close(ends[0]);
        return error_set_errno(error, failed, "the importing process cannot be started");
    }
    return STATUS_OK;
}

/* ---- hearing ---- */

static enum status wait_for_bytes(const struct reading *reading, struct error *error)
{
    struct pollfd waited = {.fd = reading->descriptor, .events = POLLIN};
    for (;;) {
        uint64_t now_ns = clock_now_ns();
        int left_ms = now_ns >= reading->end_ns ? 0 : (int)((reading->end_ns - now_ns) / 1000000 + 1);
        int count = poll(&waited, 1, left_ms);
        if (count > 0) {
            return STATUS_OK;
        }
        if (count == 0 && left_ms == 0) {
            return error_set(error, STATUS_CANCELLED, "importing took more than %d seconds", IMPORT_ELAPSED_SECONDS);
        }
        if (count < 0 && errno != EINTR) {
            return error_set_errno(error, errno, "the importing process cannot be heard");
        }
    }
}

/* Makes room for what is announced, once the head is there. */
static enum status make_room(struct reading *reading, struct error *error)
{
    size_t need = IMPORT_HEAD_BYTES;
    if (reading->length >= IMPORT_HEAD_BYTES) {
        TRY(import_reply_length(reading->bytes, &need, error));
    }
    if (reading->capacity < need) {
        unsigned char *bytes = mem_reallocate(reading->bytes, need, 1);
        if (bytes == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes of an imported model", need);
        }
        reading->bytes = bytes;
        reading->capacity = need;
    }
    return STATUS_OK;
}

/* Reads until the process closes its end. More than it announced is one byte too many, and refused when parsed. */
static enum status hear(struct reading *reading, struct error *error)
{
    for (;;) {
        unsigned char beyond;
        TRY(make_room(reading, error));
        TRY(wait_for_bytes(reading, error));
        bool is_full = reading->length == reading->capacity;
        ssize_t count = read(reading->descriptor, is_full ? &beyond : reading->bytes + reading->length,
                             is_full ? 1 : reading->capacity - reading->length);
        if (count == 0) {
            return STATUS_OK;
        }
        if (count < 0 && errno != EINTR) {
            return error_set_errno(error, errno, "the importing process cannot be heard");
        }
        if (count > 0 && is_full) {
            return error_set(error, STATUS_CORRUPT, "the importing process wrote more than it announced");
        }
        reading->length += count > 0 ? (size_t)count : 0;
    }
}

/* ---- the end ---- */

static int wait_for_end(const struct reading *reading)
{
    int state = 0;
    while (waitpid(reading->process, &state, 0) < 0 && errno == EINTR) {
    }
    return state;
}

static enum status died(int state, struct error *error)
{
    static const struct {
        int signal;
        const char *what;
    } rows[] = {
        {SIGSYS, "it asked the kernel for something it may not have"},
        {SIGXCPU, "it took too much time"},
        {SIGALRM, "it took too much time"},
        {SIGKILL, "it was killed"},
        {SIGSEGV, "it crashed"},
        {SIGABRT, "it crashed"},
        {SIGBUS, "it crashed"},
    };
    const char *what = "it ended by itself";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        what = WIFSIGNALED(state) && WTERMSIG(state) == rows[i].signal ? rows[i].what : what;
    }
    error_set(error, STATUS_UNPROCESSABLE, "the importing process handed nothing over: %s (%s %d)", what,
              WIFSIGNALED(state) ? "signal" : "exit status", WIFSIGNALED(state) ? WTERMSIG(state) : WEXITSTATUS(state));
    return error_code(error, "import_died"), STATUS_UNPROCESSABLE;
}

enum status import_process_run(const struct import_request *request, struct import_answer *ret_answer,
                               struct error *error)
{
    struct reading reading = {.end_ns = clock_now_ns() + (uint64_t)IMPORT_ELAPSED_SECONDS * 1000000000u};
    struct import_reply reply = {.facts = NULL};
    TRY(start(request, &reading, error));
    enum status status = hear(&reading, error);
    close(reading.descriptor);
    if (status != STATUS_OK) {
        kill(reading.process, SIGKILL);
    }
    int state = wait_for_end(&reading);
    if (status == STATUS_OK && (!WIFEXITED(state) || WEXITSTATUS(state) != 0)) {
        status = died(state, error);
    }
    if (status == STATUS_OK) {
        status = import_reply_parse(reading.bytes, reading.length, &reply, error);
    }
    if (status != STATUS_OK) {
        mem_free(reading.bytes);
        return status;
    }
    *ret_answer = (struct import_answer){.reply = reply, .bytes = reading.bytes};
    return STATUS_OK;
}

void import_answer_release(struct import_answer *answer)
{
    import_reply_release(&answer->reply);
    mem_free(answer->bytes);
    *answer = (struct import_answer){.bytes = NULL};
}
